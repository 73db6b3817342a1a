//! `teff detokenize`: token ids to text.

use std::io::{self, IsTerminal};

use super::args::{Arg, Args, CommonArgs};
use super::{Command, Failure, print};

pub(crate) const COMMAND: Command = Command {
    name: "detokenize",
    about: "converts token ids to text",
    help: "\
usage: teff detokenize MODEL --ids 1,2

Writes the text of the tokens and nothing else (at a terminal, a line break is added). Special
tokens are written as their names, and invalid UTF-8 as U+FFFD.

  --ids 1,2    the ids; may also be the array written by `teff tokenize`
",
    run,
};

fn run(args: &mut Args) -> Result<(), Failure> {
    let mut common = CommonArgs::default();
    let mut ids = None;
    while let Some(arg) = args.next()? {
        match arg {
            Arg::Flag(f) if f == "--ids" => ids = Some(args.ids(&f)?),
            arg => common.take(arg, args, &[])?,
        }
    }
    common.path()?;
    let ids = ids.ok_or_else(|| Failure::Usage("no tokens: give --ids 1,2".into()))?;
    let tokenizer = common.open_tokenizer()?;
    let mut text = tokenizer.decode(&ids).map_err(Failure::run)?;
    if io::stdout().is_terminal() {
        text.push('\n');
    }
    print(&text)
}
