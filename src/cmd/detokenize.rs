//! `teff detokenize`: token ids to text.

use std::io::{self, IsTerminal};

use super::args::{Args, ids, option, positional, utf8};
use super::common::{CommonArgs, model_argument, model_options};
use super::{Command, Failure, print, prompt};

pub(crate) const COMMAND: Command = Command {
    name: "detokenize",
    about: "converts token ids to text",
    usage: &["detokenize MODEL (--ids 1,2 | IDS | -)"],
    details: "\
Writes the text of the tokens and nothing else (at a terminal, a line break is added). Special \
tokens are written as their names, and invalid UTF-8 as U+FFFD. Without ids, standard input is read \
if it is a pipe: `teff tokenize MODEL --text TEXT | teff detokenize MODEL`.",
    notes: "",
    args,
    run,
};

fn args(command: clap::Command) -> clap::Command {
    let command = command
        .arg(model_argument())
        .arg(positional("TEXT", "the ids; - for standard input").value_name("IDS"))
        .next_help_heading("Tokens")
        .arg(option("ids", "1,2", "the ids; may also be the array written by `teff tokenize`"));
    model_options(command, &[])
}

fn run(args: &Args) -> Result<(), Failure> {
    let common = CommonArgs::read(args, "detokenize")?;
    common.path()?;
    let ids = match (args.text("ids")?, &common.text) {
        (Some(_), Some(word)) => return Err(super::args::unexpected(word, "detokenize")),
        (Some(text), None) => ids(&args.name("ids"), &text)?,
        (None, Some(word)) if word != "-" => ids("IDS", &utf8("IDS", word)?)?,
        (None, asked) => {
            let none = || prompt::none(&common, "no tokens: give --ids 1,2, or ids by a pipe");
            if asked.is_none() && io::stdin().is_terminal() {
                return Err(none());
            }
            let text = prompt::input()?;
            if asked.is_none() && text.is_empty() {
                return Err(none());
            }
            ids("standard input", &text)?
        }
    };
    let tokenizer = common.open_tokenizer()?;
    let mut text = tokenizer.decode(&ids).map_err(Failure::run)?;
    if io::stdout().is_terminal() {
        text.push('\n');
    }
    print(&text)
}
