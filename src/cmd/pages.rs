//! `teff completions` and `teff man`: what a shell and a manual need to know of the command.

use std::io::Write;

use clap::builder::PossibleValuesParser;
use clap_complete::Shell;
use teff::runtime::quantize::Target;
use teff::{Cpu, Format, KvFormat};

use super::args::{self, Args, positional, utf8};
use super::{COMMANDS, Command, Failure, elsewhere, print};

pub(crate) const COMPLETIONS: Command = Command {
    name: "completions",
    about: "prints the completions of a shell",
    usage: &["completions SHELL"],
    details: "Prints a script that completes the commands and options of teff in a shell: bash, \
              elvish, fish, powershell or zsh.",
    notes: "\
For example:
  bash    teff completions bash > ~/.local/share/bash-completion/completions/teff
  zsh     teff completions zsh > DIR/_teff    for a folder DIR of $fpath
  fish    teff completions fish > ~/.config/fish/completions/teff.fish",
    args: |command| {
        let shells = ["bash", "elvish", "fish", "powershell", "zsh"];
        // The values are for the completions themselves; another one is refused in `completions`.
        let shell = positional("SHELL", "the shell");
        command.arg(shell.value_parser(PossibleValuesParser::new(shells)))
    },
    run: completions,
};

pub(crate) const MAN: Command = Command {
    name: "man",
    about: "prints the manual page",
    usage: &["man [COMMAND]"],
    details: "Prints the manual page of teff, or of one of its commands, as roff for `man`.",
    notes: "\
For example:
  teff man | man -l -                                      reads it
  teff man run > ~/.local/share/man/man1/teff-run.1        installs the page of a command",
    args: |command| command.arg(positional("COMMAND", "a command of teff (default: the overview)")),
    run: man,
};

/// The parser of all commands.
fn teff() -> clap::Command {
    let all = COMMANDS.iter().map(|command| {
        args::parser(command)
            .about(command.about)
            .long_about(command.details)
            .no_binary_name(false)
            .version(env!("CARGO_PKG_VERSION"))
            .disable_version_flag(true)
    });
    let all = all.map(completed);
    clap::Command::new("teff")
        .version(env!("CARGO_PKG_VERSION"))
        .about("runs language models, with the same bits on every machine")
        .long_about(
            "Runs language models, with the same bits on every machine. MODEL is a .gguf file or a \
             Hugging Face folder. Exit codes: 0; 1 for an error of the model, a file or the run; 2 \
             for wrong usage.",
        )
        .subcommand_required(true)
        .subcommands(all)
        .subcommand(clap::Command::new("version").about("prints the version"))
}

/// The values that a shell offers for the argument with this identifier.
fn values(id: &str) -> Vec<&'static str> {
    let quantized = || Format::ALL.into_iter().filter(|f| f.is_quantized() && f.is_built());
    match id {
        "kv" => KvFormat::ALL.map(KvFormat::name).to_vec(),
        "backend" => Cpu::NAMES.to_vec(),
        "quantize" | "head" => quantized().map(Format::name).collect(),
        "to" | "FORMAT" => Target::built().map(|t| t.name()).collect(),
        "COMMAND" => COMMANDS.iter().map(|c| c.name).collect(),
        _ => Vec::new(),
    }
}

/// The parser of a command with the values of its arguments, which the command itself checks.
fn completed(command: clap::Command) -> clap::Command {
    let ids: Vec<_> = command.get_arguments().map(|arg| arg.get_id().clone()).collect();
    ids.into_iter().fold(command, |command, id| match values(id.as_str()) {
        none if none.is_empty() => command,
        values => {
            let parser = PossibleValuesParser::new(values);
            command.mut_arg(id, |arg| arg.value_parser(parser).hide_possible_values(true))
        }
    })
}

fn completions(args: &Args) -> Result<(), Failure> {
    let Some(shell) = args.given("SHELL") else {
        let what = "no shell: give bash, elvish, fish, powershell or zsh";
        return Err(Failure::Usage(what.into()));
    };
    let shell: Shell = shell.parse().map_err(Failure::run)?;
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut teff(), "teff", &mut script);
    print(&String::from_utf8_lossy(&script))
}

fn man(args: &Args) -> Result<(), Failure> {
    let mut teff = teff();
    teff.build();
    let command = match args.os("COMMAND") {
        None => teff,
        Some(name) => {
            let name = utf8("COMMAND", name)?;
            let known = teff.find_subcommand(&name).cloned();
            known.ok_or_else(|| elsewhere::unknown(name.as_ref()))?
        }
    };
    let mut page = Vec::new();
    clap_mangen::Man::new(command)
        .source(concat!("teff ", env!("CARGO_PKG_VERSION")))
        .render(&mut page)
        .map_err(Failure::run)?;
    page.flush().map_err(Failure::run)?;
    print(&String::from_utf8_lossy(&page))
}
