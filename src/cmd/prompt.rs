//! Texts that commands work on: from the command line, a file or a pipe.

use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::path::Path;

use super::Failure;
use super::args::Args;
use super::common::{CommonArgs, positional_text, text_option};

/// Most bytes of a text.
const MOST: u64 = 1 << 30;

/// Source of a text.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Source {
    /// The command line.
    Given,
    /// A file that was named.
    File,
    /// Standard input, which was asked for by `-`.
    Input,
    /// Standard input, since nothing was given and it isn't a terminal.
    Pipe,
}

/// The text of the option `id`, of `--file`, of the positional argument, or of standard input;
/// `None` if there is none, or the pipe that nobody asked for is empty.
pub(crate) fn read(
    args: &Args,
    common: &CommonArgs,
    id: &str,
) -> Result<Option<(String, Source)>, Failure> {
    let (file, word) = (args.path("file"), common.text.as_ref());
    let mut ways = Vec::new();
    ways.extend(args.os(id).map(|_| args.name(id)));
    ways.extend(file.as_ref().map(|_| args.name("file")));
    ways.extend(word.map(|w| format!("`{}`", w.to_string_lossy())));
    if let [first, second, ..] = &ways[..] {
        let what = format!("{first} and {second} both give the text: leave one of them out");
        return Err(Failure::Usage(what));
    }
    if let Some(text) = text_option(args, id)? {
        return Ok(Some((text, Source::Given)));
    }
    match (file, word) {
        (Some(path), _) if path == Path::new("-") => Ok(Some((input()?, Source::Input))),
        (Some(path), _) => Ok(Some((of_file(&path)?, Source::File))),
        (None, Some(word)) if word == "-" => Ok(Some((input()?, Source::Input))),
        (None, Some(word)) => Ok(Some((positional_text(args, word)?, Source::Given))),
        (None, None) if io::stdin().is_terminal() => Ok(None),
        (None, None) => Ok(Some((input()?, Source::Pipe)).filter(|(text, _)| !text.is_empty())),
    }
}

/// The failure for a command without a text, for the reason `what`.
pub(crate) fn none(common: &CommonArgs, what: &str) -> Failure {
    // A text in the model's place, perhaps.
    match common.given().filter(|path| !path.exists()) {
        Some(path) => Failure::Usage(format!("{what}; and there is no model `{}`", path.display())),
        None => Failure::Usage(what.into()),
    }
}

/// The text of a file.
pub(crate) fn of_file(path: &Path) -> Result<String, Failure> {
    let name = path.display().to_string();
    match File::open(path) {
        Ok(file) => text(file, &name),
        Err(e) => Err(Failure::Run(format!("{name}: can't be read: {e}"))),
    }
}

/// All of standard input.
pub(crate) fn input() -> Result<String, Failure> {
    text(io::stdin().lock(), "standard input")
}

fn text(from: impl Read, name: &str) -> Result<String, Failure> {
    let mut bytes = Vec::new();
    from.take(MOST + 1)
        .read_to_end(&mut bytes)
        .map_err(|e| Failure::Run(format!("{name}: can't be read: {e}")))?;
    if bytes.len() as u64 > MOST {
        return Err(Failure::Run(format!("{name}: more than {MOST} bytes: give less")));
    }
    String::from_utf8(bytes).map_err(|e| {
        let at = e.utf8_error().valid_up_to();
        Failure::Run(format!("{name}: byte {at} is not UTF-8: convert the text"))
    })
}

/// A prompt without the line break that editors and `echo` put at the end of a text.
pub(crate) fn without_last_break((mut text, source): (String, Source)) -> String {
    if source != Source::Given && text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_break_at_the_end_is_dropped() {
        let cut = |text: &str, source| without_last_break((text.into(), source));
        assert_eq!(cut("a\n\n", Source::File), "a\n");
        assert_eq!(cut("a\r\n", Source::Pipe), "a");
        assert_eq!(cut("a", Source::Input), "a");
        assert_eq!(cut("a\n", Source::Given), "a\n");
    }

    #[test]
    fn other_encodings_are_refused() {
        let Err(Failure::Run(what)) = text(&b"ab\xff"[..], "it") else { panic!() };
        assert_eq!(what, "it: byte 2 is not UTF-8: convert the text");
    }
}
