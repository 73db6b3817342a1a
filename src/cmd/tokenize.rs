//! `teff tokenize`: text to token ids.

use teff::runtime::tokenizer::Specials;

use super::args::{Arg, Args, CommonArgs};
use super::{Command, Failure, json, print};

pub(crate) const COMMAND: Command = Command {
    name: "tokenize",
    about: "converts text to token ids",
    help: "\
usage: teff tokenize MODEL (--text S | --file F) [--special]

Writes the token ids of the text as a JSON array on one line. No beginning-of-text token is added.

  --text S     the text
  --file F     a file with the text, in UTF-8
  --special    parse the names of special tokens, such as <|endoftext|>
",
    run,
};

fn run(args: &mut Args) -> Result<(), Failure> {
    let mut common = CommonArgs::default();
    let (mut text, mut file, mut specials) = (None, None, Specials::Ignore);
    while let Some(arg) = args.next()? {
        match arg {
            Arg::Flag(f) if f == "--text" => text = Some(args.text(&f)?),
            Arg::Flag(f) if f == "--file" => file = Some(args.path()?),
            Arg::Flag(f) if f == "--special" => specials = Specials::Parse,
            arg => common.take(arg, args, &[])?,
        }
    }
    common.path()?;
    let text = match (text, file) {
        (Some(text), None) => text,
        (None, Some(file)) => {
            let name = file.display();
            let bytes = std::fs::read(&file)
                .map_err(|e| Failure::Run(format!("{name}: can't be read: {e}")))?;
            String::from_utf8(bytes).map_err(|e| {
                let at = e.utf8_error().valid_up_to();
                Failure::Run(format!("{name}: byte {at} is not UTF-8: convert the file"))
            })?
        }
        _ => return Err(Failure::Usage("give either --text or --file".into())),
    };
    let tokenizer = common.open_tokenizer()?;
    let ids = tokenizer.encode(&text, specials).map_err(Failure::run)?;
    let mut line = json::array(ids);
    line.push('\n');
    print(&line)
}

pub(crate) fn no_tokenizer(why: impl core::fmt::Display) -> Failure {
    Failure::Run(format!("the model has no tokenizer: {why}"))
}
