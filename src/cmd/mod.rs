//! The subcommands, one file each, and their exit codes.

use std::ffi::{OsStr, OsString};
use std::io::{self, Write};
use std::process::ExitCode;

mod alloc_count;
mod args;
mod batch;
mod bench;
mod bench_sequences;
mod bench_speculation;
#[cfg(feature = "chat")]
mod chat;
mod common;
mod detokenize;
mod elsewhere;
mod engine_args;
mod habits;
mod imatrix;
mod inspect;
mod interrupt;
mod json;
mod logits;
mod machine;
#[cfg(feature = "completions")]
mod pages;
mod prompt;
mod quantize;
mod roofline;
mod run;
#[cfg(feature = "serve")]
mod serve;
mod split;
#[cfg(feature = "story")]
mod story;
#[cfg_attr(not(feature = "structured"), path = "unstructured.rs")]
mod structured;
#[cfg(feature = "chat")]
mod template;
mod tokenize;
mod trace;
mod trace_plot;
mod trace_timeline;
mod trace_tree;

use args::Args;

/// A subcommand.
pub(crate) struct Command {
    pub(crate) name: &'static str,
    /// One line for the list of commands.
    pub(crate) about: &'static str,
    /// The lines of its usage, each without the leading `teff`.
    pub(crate) usage: &'static [&'static str],
    /// The text above the options in its help.
    pub(crate) details: &'static str,
    /// The text below the options in its help.
    pub(crate) notes: &'static str,
    /// Adds its arguments.
    pub(crate) args: fn(clap::Command) -> clap::Command,
    pub(crate) run: fn(&Args) -> Result<(), Failure>,
}

const COMMANDS: &[Command] = &[
    run::COMMAND,
    inspect::COMMAND,
    logits::COMMAND,
    tokenize::COMMAND,
    detokenize::COMMAND,
    bench::COMMAND,
    trace::COMMAND,
    quantize::COMMAND,
    imatrix::COMMAND,
    split::SPLIT,
    split::MERGE,
    #[cfg(feature = "chat")]
    chat::COMMAND,
    #[cfg(feature = "serve")]
    serve::COMMAND,
    #[cfg(feature = "chat")]
    template::COMMAND,
    #[cfg(feature = "completions")]
    pages::COMPLETIONS,
    #[cfg(feature = "completions")]
    pages::MAN,
];

impl Command {
    /// The command named `name`.
    pub(crate) fn find(name: impl AsRef<OsStr>) -> Option<&'static Command> {
        COMMANDS.iter().find(|c| name.as_ref() == c.name)
    }

    /// The text of `--help`.
    fn help(&self) -> String {
        args::parser(self).render_help().to_string()
    }
}

/// Reason why a command ends early.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Wrong usage; exit code 2.
    Usage(String),
    /// An error of the model, a file or the run; exit code 1.
    Run(String),
    /// The reader of standard output has closed it, which is not an error.
    Closed,
    /// A text that was asked for instead of running the command, such as its help.
    Help(String),
}

impl Failure {
    /// The failure for an error of writing to standard output.
    pub(crate) fn stdout(e: io::Error) -> Failure {
        match e.kind() {
            io::ErrorKind::BrokenPipe => Failure::Closed,
            _ => Failure::Run(format!("standard output can't be written: {e}")),
        }
    }

    /// The failure for an error of the run itself.
    pub(crate) fn run(e: impl core::fmt::Display) -> Failure {
        Failure::Run(e.to_string())
    }
}

/// Parses the command line, runs the command and returns the exit code.
pub(crate) fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().skip(1).collect();
    let (command, done) = match start(&args) {
        Ok(command) => {
            let args = Args::parse(command, args[1..].to_vec());
            (Some(command), args.and_then(|args| (command.run)(&args)))
        }
        Err(failure) => (None, Err(failure)),
    };
    let done = match done {
        Err(Failure::Help(text)) => print(&text),
        done => done,
    };
    match done {
        Ok(()) | Err(Failure::Closed | Failure::Help(_)) => ExitCode::SUCCESS,
        Err(Failure::Run(what)) => {
            print_error(&what);
            ExitCode::from(1)
        }
        Err(Failure::Usage(what)) => {
            let of = command.map_or_else(String::new, |c| format!(" {}", c.name));
            print_error(&format!("{what} (see `teff{of} --help`)"));
            ExitCode::from(2)
        }
    }
}

/// The names of all commands.
fn names() -> String {
    COMMANDS.iter().map(|c| c.name).collect::<Vec<_>>().join(", ")
}

/// The subcommand named by the first argument.
fn start(args: &[OsString]) -> Result<&'static Command, Failure> {
    let Some(first) = args.first() else {
        return Err(Failure::Usage(format!("no command; there are: {}", names())));
    };
    match first.to_str() {
        Some("--help" | "-h") => return Err(Failure::Help(overview())),
        Some("help") => {
            let text = match args.get(1) {
                Some(name) if name != "help" && name != "version" && !is_flag(name) => {
                    Command::find(name).ok_or_else(|| elsewhere::unknown(name))?.help()
                }
                _ => overview(),
            };
            return Err(Failure::Help(text));
        }
        Some("--version" | "-V" | "version") => {
            let version = concat!("teff ", env!("CARGO_PKG_VERSION"), "\n");
            return Err(Failure::Help(version.into()));
        }
        Some(flag) if flag.starts_with('-') => {
            let what = format!(
                "option {flag} must follow a command, such as `teff run {flag}`; there are: {}",
                names()
            );
            return Err(Failure::Usage(what));
        }
        _ => {}
    }
    Command::find(first).ok_or_else(|| elsewhere::unknown(first))
}

fn is_flag(word: &OsStr) -> bool {
    word.as_encoded_bytes().starts_with(b"-")
}

fn overview() -> String {
    let mut text = String::from(concat!(
        "teff ",
        env!("CARGO_PKG_VERSION"),
        ": runs language models, with the same bits on every machine\n\n",
        "usage: teff COMMAND [ARGUMENTS]\n\n",
    ));
    for c in COMMANDS {
        text.push_str(&format!("  {:<13}{}\n", c.name, c.about));
    }
    text.push_str(
        "  help         prints this, or the help of a command: teff help run\n  \
           version      prints the version\n\n\
         MODEL is a .gguf file or a Hugging Face folder. Teff does not download: fetch models with other\n\
         programs, such as `hf download OWNER/REPO --local-dir DIR`. `teff run` alone writes a story, by a\n\
         small model that is part of the program. See `teff COMMAND --help` for details.\n\n\
         Exit codes: 0; 1 for an error of the model, a file or the run; 2 for wrong usage.\n",
    );
    text
}

/// Writes to standard output and flushes it.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(Failure::stdout)
}

/// Prints the warnings of opening a model.
pub(crate) fn print_warnings(warnings: &[impl std::fmt::Display]) {
    for warning in warnings {
        print_error(&format!("warning: {warning}"));
    }
}

/// Writes `what` as one line to standard error; ignores that it may be closed.
pub(crate) fn print_error(what: &str) {
    let mut line = String::from("teff: ");
    for c in what.chars() {
        match c.is_control() {
            true => line.extend(c.escape_default()),
            false => line.push(c),
        }
    }
    line.push('\n');
    let _ = io::stderr().write_all(line.as_bytes());
}
