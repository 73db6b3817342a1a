//! The command line: how arguments are declared, and their values, which are validated as they are
//! read. Errors fit on one line and name the flag as it was typed and the value that was refused.

use std::ffi::{OsStr, OsString};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;

use clap::builder::ValueParser;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, ArgMatches};

use super::{Command, Failure, habits};

/// Width of the text beside an option, so that no line of a help is longer than 100 columns.
pub(crate) const HELP_WIDTH: usize = 60;

/// Width of the texts above and below the options.
const TEXT_WIDTH: usize = 100;

/// An option with a value.
pub(crate) fn option(long: &'static str, value: &'static str, help: &str) -> Arg {
    Arg::new(long)
        .long(long)
        .value_name(value)
        .help(wrapped(help, HELP_WIDTH))
        .value_parser(ValueParser::os_string())
        .allow_hyphen_values(true)
}

/// An option whose value is the path of a file, which shells complete.
pub(crate) fn file_option(long: &'static str, value: &'static str, help: &str) -> Arg {
    option(long, value, help).value_hint(clap::ValueHint::FilePath)
}

/// An option without a value.
pub(crate) fn switch(long: &'static str, help: &str) -> Arg {
    Arg::new(long).long(long).help(wrapped(help, HELP_WIDTH)).action(ArgAction::SetTrue)
}

/// A positional argument, which may be left out as far as the parser knows.
pub(crate) fn positional(name: &'static str, help: &str) -> Arg {
    Arg::new(name)
        .value_name(name)
        .help(wrapped(help, HELP_WIDTH))
        .value_parser(ValueParser::os_string())
}

/// The parser of a command, which prints its help too.
pub(crate) fn parser(command: &Command) -> clap::Command {
    let usage = command.usage.iter().map(|line| format!("teff {line}")).collect::<Vec<_>>();
    let help =
        Arg::new("help").short('h').long("help").help("print this").action(ArgAction::HelpShort);
    let parser = clap::Command::new(command.name)
        .about(wrapped(command.details, TEXT_WIDTH))
        .override_usage(usage.join("\n       "))
        .help_template("usage: {usage}\n\n{about}\n\n{all-args}{after-help}\n")
        .no_binary_name(true)
        .args_override_self(true)
        .disable_help_flag(true);
    let parser = (command.args)(parser).arg(help);
    let mut notes = wrapped(command.notes, TEXT_WIDTH);
    let habits = habits::notes(command.name, &parser);
    if !notes.is_empty() && !habits.is_empty() {
        notes.push_str("\n\n");
    }
    notes.push_str(&wrapped(&habits, TEXT_WIDTH));
    parser.after_help(notes)
}

/// `text` with line breaks before words that would end beyond `width` columns. Line breaks in the
/// text stay, and so do blanks at the beginning of a line.
pub(crate) fn wrapped(text: &str, width: usize) -> String {
    let mut out = String::new();
    for (i, line) in text.lines().enumerate() {
        if i > 0 {
            out.push('\n');
        }
        let blanks = line.len() - line.trim_start().len();
        out.push_str(&line[..blanks]);
        let mut column = blanks;
        for (j, word) in line[blanks..].split(' ').enumerate() {
            let length = word.chars().count();
            if j > 0 && column + 1 + length > width {
                out.push('\n');
                out.push_str(&line[..blanks]);
                column = blanks;
            } else if j > 0 {
                out.push(' ');
                column += 1;
            }
            out.push_str(word);
            column += length;
        }
    }
    out
}

/// The arguments of a command.
pub(crate) struct Args {
    parser: clap::Command,
    matches: ArgMatches,
    /// The arguments as they were typed, for messages.
    typed: Vec<OsString>,
}

impl Args {
    /// Parses the arguments of `command`; [`Failure::Help`] for `--help`.
    pub(crate) fn parse(command: &Command, typed: Vec<OsString>) -> Result<Args, Failure> {
        let mut parser = habits::add(parser(command), command.name);
        let words = habits::rewritten(&parser, &typed)?;
        let parsed = parser.try_get_matches_from_mut(words);
        let matches = parsed.map_err(|e| failure(&e, &parser, &typed))?;
        let args = Args { parser, matches, typed };
        habits::check(&args, command.name)?;
        Ok(args)
    }

    /// True if the option was given.
    pub(crate) fn has(&self, id: &str) -> bool {
        match self.matches.try_get_one::<bool>(id) {
            Ok(switch) => switch.copied().unwrap_or(false),
            Err(_) => self.os(id).is_some(),
        }
    }

    /// True if the argument is a flag of another program, and not one of the command's options.
    pub(crate) fn is_habit(&self, id: &str) -> bool {
        self.parser.get_arguments().any(|a| a.get_id() == id && a.is_hide_set())
    }

    /// True if the command has this argument.
    pub(crate) fn knows(&self, id: &str) -> bool {
        self.parser.get_arguments().any(|a| a.get_id() == id)
    }

    /// The value of an argument as it was given; `None` without it, or if the command has none such.
    pub(crate) fn os(&self, id: &str) -> Option<&OsString> {
        self.matches.try_get_one::<OsString>(id).ok().flatten()
    }

    /// The value of an argument whose values the parser checks.
    #[cfg(feature = "completions")]
    pub(crate) fn given(&self, id: &str) -> Option<&str> {
        self.matches.try_get_one::<String>(id).ok().flatten().map(String::as_str)
    }

    /// The value as a path.
    pub(crate) fn path(&self, id: &str) -> Option<PathBuf> {
        self.os(id).map(PathBuf::from)
    }

    /// The value as text.
    pub(crate) fn text(&self, id: &str) -> Result<Option<String>, Failure> {
        self.os(id).map(|value| utf8(&self.name(id), value)).transpose()
    }

    /// All values of an option that may be repeated.
    pub(crate) fn texts(&self, id: &str) -> Result<Vec<String>, Failure> {
        let values = self.matches.try_get_many::<OsString>(id).ok().flatten();
        let name = self.name(id);
        values.into_iter().flatten().map(|value| utf8(&name, value)).collect()
    }

    /// The parsed value; `allowed` describes the valid ones.
    pub(crate) fn value<T: FromStr>(&self, id: &str, allowed: &str) -> Result<Option<T>, Failure> {
        let parse = |text: String| text.parse().map_err(|_| self.refused(id, &text, allowed));
        self.text(id)?.map(parse).transpose()
    }

    /// The value as an integer.
    pub(crate) fn count(
        &self,
        id: &str,
        range: RangeInclusive<usize>,
    ) -> Result<Option<usize>, Failure> {
        let parse = |text: String| {
            in_range(&text, &range).ok_or_else(|| self.refused(id, &text, &allowed(&range)))
        };
        self.text(id)?.map(parse).transpose()
    }

    /// The value as a comma-separated list of integers.
    pub(crate) fn counts(
        &self,
        id: &str,
        range: RangeInclusive<usize>,
    ) -> Result<Option<Vec<usize>>, Failure> {
        let Some(text) = self.text(id)? else { return Ok(None) };
        let part = |part: &str| {
            let allowed = || format!("{}, or several with commas between", allowed(&range));
            in_range(part, &range).ok_or_else(|| self.refused(id, part, &allowed()))
        };
        text.split(',').map(part).collect::<Result<_, _>>().map(Some)
    }

    /// The failure for a value that the option can't have.
    pub(crate) fn refused(&self, id: &str, value: &str, allowed: &str) -> Failure {
        Failure::Usage(format!("{} is `{value}`: it must be {allowed}", self.name(id)))
    }

    /// The flag of an option as it was typed last, or its usual name.
    pub(crate) fn name(&self, id: &str) -> String {
        let Some(arg) = self.parser.get_arguments().find(|a| a.get_id() == id) else {
            return id.into();
        };
        if arg.is_positional() {
            return id.into();
        }
        let shorts =
            arg.get_short().into_iter().chain(arg.get_all_short_aliases().into_iter().flatten());
        let shorts: Vec<String> = shorts.map(|c| format!("-{c}")).collect();
        let longs = arg.get_long().into_iter().chain(arg.get_all_aliases().into_iter().flatten());
        let mut longs: Vec<String> = longs.map(|long| format!("--{long}")).collect();
        let usual = longs.first().or(shorts.first()).cloned().unwrap_or_else(|| id.into());
        longs.extend(habits::dashed(id).map(String::from));
        let typed = self.typed.iter().rev().find_map(|word| {
            let word = word.to_string_lossy();
            let head = word.split_once('=').map_or(&*word, |(head, _)| head);
            let long = longs.iter().find(|long| *long == head);
            long.or_else(|| {
                shorts.iter().find(|s| word.starts_with(*s) && !habits::is_dashed(head))
            })
        });
        typed.cloned().unwrap_or(usual)
    }
}

/// A list of token ids with commas or blanks between, optionally in JSON's brackets; `name` is where it stands.
pub(crate) fn ids(name: &str, text: &str) -> Result<Vec<u32>, Failure> {
    let list = text.trim();
    let list = list.strip_prefix('[').and_then(|l| l.strip_suffix(']')).unwrap_or(list);
    if list.trim().is_empty() {
        return Ok(Vec::new());
    }
    let refused = |part: &str| {
        let allowed = "token ids (whole numbers from 0 up) with commas or blanks between";
        Failure::Usage(format!("a part of {name} is `{}`: it must be {allowed}", short(part)))
    };
    let mut ids = Vec::new();
    for part in list.split(',') {
        if part.trim().is_empty() {
            return Err(refused(part));
        }
        for id in part.split_whitespace() {
            ids.push(id.parse().map_err(|_| refused(part.trim()))?);
        }
    }
    Ok(ids)
}

/// A number of bytes with or without a unit.
pub(crate) fn bytes(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..digits].parse().ok()?;
    let unit: u64 = match &*text[digits..].to_ascii_lowercase() {
        "" | "b" => 1,
        "k" | "kb" => 1_000,
        "m" | "mb" => 1_000_000,
        "g" | "gb" => 1_000_000_000,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        _ => return None,
    };
    number.checked_mul(unit).filter(|&n| n > 0)
}

/// The beginning of a text, for messages.
fn short(text: &str) -> String {
    const MOST: usize = 60;
    match text.char_indices().nth(MOST) {
        Some((at, _)) => format!("{}...", &text[..at]),
        None => text.into(),
    }
}

/// The value of an option as text.
pub(crate) fn utf8(name: &str, value: &OsStr) -> Result<String, Failure> {
    value.to_str().map(str::to_owned).ok_or_else(|| {
        Failure::Usage(format!("{name} is `{}`: it must be UTF-8", value.to_string_lossy()))
    })
}

fn in_range(text: &str, range: &RangeInclusive<usize>) -> Option<usize> {
    text.trim().parse().ok().filter(|n| range.contains(n))
}

fn allowed(range: &RangeInclusive<usize>) -> String {
    let (low, high) = (range.start(), range.end());
    match *high {
        usize::MAX => format!("a whole number from {low} up"),
        _ => format!("a whole number from {low} to {high}"),
    }
}

/// The failure for what the parser refuses, or the help that was asked for.
fn failure(e: &clap::Error, parser: &clap::Command, typed: &[OsString]) -> Failure {
    let context = |kind| match e.get(kind) {
        Some(ContextValue::String(text)) => Some(text.as_str()),
        Some(ContextValue::Strings(all)) => all.first().map(String::as_str),
        _ => None,
    };
    let arg = context(ContextKind::InvalidArg).unwrap_or_default();
    match e.kind() {
        ErrorKind::DisplayHelp => Failure::Help(e.to_string()),
        ErrorKind::UnknownArgument if arg.starts_with('-') => {
            let near = near_option(parser, arg);
            let near = near.map_or_else(String::new, |near| format!(": did you mean {near}?"));
            Failure::Usage(format!("unknown option {arg}{near}"))
        }
        ErrorKind::UnknownArgument => unexpected(OsStr::new(arg), parser.get_name()),
        ErrorKind::InvalidValue
            if context(ContextKind::InvalidValue).is_some_and(|v| !v.is_empty()) =>
        {
            let value = context(ContextKind::InvalidValue).unwrap_or_default();
            let valid = match e.get(ContextKind::ValidValue) {
                Some(ContextValue::Strings(all)) => all.join(", "),
                _ => String::new(),
            };
            let arg = arg.trim_matches(['[', ']', '<', '>']);
            Failure::Usage(format!("{arg} is `{value}`: it must be one of {valid}"))
        }
        // The only one of its values is missing: it is the last argument.
        ErrorKind::InvalidValue | ErrorKind::TooFewValues | ErrorKind::WrongNumberOfValues => {
            let last = typed.last().map(|word| word.to_string_lossy()).unwrap_or_default();
            Failure::Usage(format!("{last} needs a value: {arg}"))
        }
        ErrorKind::TooManyValues => {
            let value = context(ContextKind::InvalidValue).unwrap_or_default();
            Failure::Usage(format!("{arg} takes no value, but `{value}` was given"))
        }
        _ => {
            // The first line is the error; what follows are hints.
            let text = e.to_string();
            let line = text.lines().next().unwrap_or_default();
            Failure::Usage(line.strip_prefix("error: ").unwrap_or(line).into())
        }
    }
}

/// The option most like `flag`, which is unknown.
fn near_option(parser: &clap::Command, flag: &str) -> Option<String> {
    let word = flag.strip_prefix("--")?;
    let dashed = &flag[1..];
    if habits::is_dashed(dashed) {
        return Some(dashed.into());
    }
    let mut longs: Vec<(usize, &str)> = Vec::new();
    for arg in parser.get_arguments() {
        let names = arg.get_long().into_iter().chain(arg.get_all_aliases().into_iter().flatten());
        // The options of the command first, then those of other programs, the shortest first.
        longs.extend(names.map(|name| (if arg.is_hide_set() { name.len() } else { 0 }, name)));
    }
    longs.sort_by_key(|&(length, _)| length);
    nearest(word, longs.into_iter().map(|(_, name)| name)).map(|near| format!("--{near}"))
}

/// The one of `all` that is most like `word`, if any is: it begins with it, or differs by a third of
/// its letters at most.
pub(crate) fn nearest<'a>(word: &str, all: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase();
    let length = word.chars().count();
    let distance = |other: &str| match length >= 3 && other.starts_with(&word) {
        true => 0,
        false => strsim::damerau_levenshtein(&word, other),
    };
    let near = all.into_iter().map(|other| (distance(other), other));
    near.filter(|&(distance, _)| 3 * distance <= length)
        .min_by_key(|&(distance, _)| distance)
        .map(|(_, other)| other)
}

/// The failure for a positional argument too many.
pub(crate) fn unexpected(word: &OsStr, command: &str) -> Failure {
    let word = word.to_string_lossy();
    let before = match command {
        "quantize" => "IN, OUT and TYPE were given before",
        "split" => "IN and NAME were given before",
        "merge" => "give one of the parts, by which the others are found, and the file to write",
        "logits" => "the model was given before; a text goes behind --text",
        "run" | "chat" | "tokenize" => {
            "the model and the text were given before; a text of several words stands in quotes"
        }
        "detokenize" => "the model and the ids were given before; write the ids as 1,2,3",
        "template" => "the model was given before; messages go behind --messages",
        "completions" | "man" => "one argument is enough",
        _ => "the model was given before",
    };
    Failure::Usage(format!("unexpected argument `{word}`: {before}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_wrapped_at_blanks() {
        assert_eq!(wrapped("one two three", 7), "one two\nthree");
        assert_eq!(wrapped("  one two three\nfour", 9), "  one two\n  three\nfour");
        assert_eq!(wrapped("one\n\ntwo", 7), "one\n\ntwo");
        assert_eq!(wrapped("longer-than-that a", 7), "longer-than-that\na");
        assert_eq!(wrapped("", 7), "");
    }

    #[test]
    fn lists_of_ids() {
        assert_eq!(ids("it", "1, 2,3").unwrap(), [1, 2, 3]);
        assert_eq!(ids("it", "[4,5]\n").unwrap(), [4, 5]);
        assert_eq!(ids("it", " [ ] ").unwrap(), [0; 0]);
        assert_eq!(ids("it", "6 7\n8, 9 ").unwrap(), [6, 7, 8, 9]);
        for bad in ["1,,2", "1, ,2", "-1", "[1", "1;2", "4294967296"] {
            assert!(matches!(ids("it", bad), Err(Failure::Usage(_))), "{bad}");
        }
    }

    #[test]
    fn the_nearest_of_several() {
        let all = ["tokenize", "detokenize", "inspect", "run"];
        let near = |word| nearest(word, all);
        assert_eq!(near("tokenise"), Some("tokenize"));
        assert_eq!(near("detok"), Some("detokenize"));
        assert_eq!(near("Inspcet"), Some("inspect"));
        assert_eq!(
            (near("nope"), near("rum"), near("xy"), near("")),
            (None, Some("run"), None, None)
        );
    }

    #[test]
    fn sizes_with_units() {
        for (text, n) in [
            ("1", 1),
            ("4096", 4096),
            ("2G", 2_000_000_000),
            ("500M", 500_000_000),
            ("3mb", 3_000_000),
            ("7k", 7_000),
            ("1GiB", 1 << 30),
            ("2MiB", 2 << 20),
            ("5 ", 5),
        ] {
            assert_eq!(bytes(text), Some(n), "{text}");
        }
        for bad in
            ["", "0", "0G", "G", "-1", "1.5G", "2T", "1 G", "18446744073709551616", "20000000000G"]
        {
            assert_eq!(bytes(bad), None, "{bad}");
        }
    }

    /// The parsers' own checks: no two options of a command have the same name.
    #[test]
    fn parsers_are_sound() {
        for command in super::super::COMMANDS {
            parser(command).debug_assert();
            habits::add(parser(command), command.name).debug_assert();
        }
    }
}
