//! `teff tokenize`: text to token ids.

use teff::runtime::tokenizer::Specials;

use super::args::{Args, file_option, option, positional, switch};
use super::common::{CommonArgs, escape_option, model_argument, model_options};
use super::{Command, Failure, json, print, prompt};

pub(crate) const COMMAND: Command = Command {
    name: "tokenize",
    about: "converts text to token ids",
    usage: &["tokenize MODEL (--text S | --file F | TEXT | -) [--special]"],
    details: "\
Writes the token ids of the text as a JSON array on one line. No beginning-of-text token is added. \
Without a text, standard input is read if it is a pipe; nothing is dropped from it.",
    notes: "",
    args,
    run,
};

fn args(command: clap::Command) -> clap::Command {
    let command = command
        .arg(model_argument())
        .arg(positional("TEXT", "the text; - for standard input"))
        .next_help_heading("Text")
        .arg(option("text", "S", "the text").short('p').visible_alias("prompt"))
        .arg(
            file_option("file", "F", "a file with the text, in UTF-8; - for standard input")
                .short('f'),
        )
        .arg(escape_option())
        .arg(switch("special", "parse the names of special tokens, such as <|endoftext|>"));
    model_options(command, &[])
}

fn run(args: &Args) -> Result<(), Failure> {
    let common = CommonArgs::read(args, "tokenize")?;
    common.path()?;
    let specials = if args.has("special") { Specials::Parse } else { Specials::Ignore };
    let (text, _) = prompt::read(args, &common, "text")?
        .ok_or_else(|| prompt::none(&common, "no text: give --text, --file, or text by a pipe"))?;
    let tokenizer = common.open_tokenizer()?;
    let ids = tokenizer.encode(&text, specials).map_err(Failure::run)?;
    let mut line = json::array(ids);
    line.push('\n');
    print(&line)
}

pub(crate) fn no_tokenizer(why: impl core::fmt::Display) -> Failure {
    Failure::Run(format!("the model has no tokenizer: {why}"))
}
