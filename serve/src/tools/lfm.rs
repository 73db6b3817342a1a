//! Calls in the format of LFM2: `<|tool_call_start|>[f(a='x', b=3), g()]<|tool_call_end|>`.
//!
//! The list is one of calls in Python, with named arguments. Values are numbers, `True`, `False`, `None`, `[value, ..]`,
//! `(value, ..)`, `{'key': value, ..}`, and strings in quotation marks of either kind, with Python's escapes. Templates
//! write strings without escapes, so that a mark within a string is one of its characters unless the string may end
//! there. JSON's `true`, `false` and `null` are taken, too.

use std::collections::BTreeSet;

use super::json;
use super::scan::{Call, MAX_NAME, Step, is_name_char};

const CLOSE: &str = "<|tool_call_end|>";
/// Deepest nesting that is taken for a value.
const MAX_DEPTH: usize = 128;

/// Recogniser of calls, from behind `<|tool_call_start|>` on.
#[derive(Clone, Debug, Default)]
pub(crate) struct LfmScan {
    /// Start of the list, once that is known.
    start: Option<usize>,
    /// Place up to which all is read.
    at: usize,
    /// Brackets that close what is open.
    open: Vec<char>,
    /// Mark of the string that is open.
    quote: Option<char>,
    /// End of the list, once that is known.
    end: Option<usize>,
}

impl LfmScan {
    pub(crate) fn step(&mut self, text: &str, ended: bool) -> Step {
        let start = match self.start {
            Some(start) => start,
            None => {
                let rest = text.trim_ascii_start();
                match rest.chars().next() {
                    None => return Step::More,
                    Some('[') => {}
                    Some(_) => return Step::Bad,
                }
                self.at = text.len() - rest.len();
                self.at
            }
        };
        self.start = Some(start);
        let end = match self.end {
            Some(end) => end,
            None => match self.find_end(text) {
                Ok(Some(end)) => end,
                Ok(None) => return Step::More,
                Err(()) => return Step::Bad,
            },
        };
        self.end = Some(end);
        let behind = text[end..].trim_ascii_start();
        let length = match behind.strip_prefix(CLOSE) {
            Some(rest) => text.len() - rest.len(),
            None if CLOSE.starts_with(behind) && !ended => return Step::More,
            None => end,
        };
        calls(&text[start..end]).map_or(Step::Bad, |calls| Step::Done(length, calls))
    }

    /// The end of the list; `Ok(None)` if it has not come.
    fn find_end(&mut self, text: &str) -> Result<Option<usize>, ()> {
        while let Some(c) = text[self.at..].chars().next() {
            let next = self.at + c.len_utf8();
            match (self.quote, c) {
                (Some(_), '\\') => match text[next..].chars().next() {
                    Some(escaped) => {
                        self.at = next + escaped.len_utf8();
                        continue;
                    }
                    None => return Ok(None),
                },
                (Some(quote), _) if c == quote => match closes(&text[next..]) {
                    Some(true) => self.quote = None,
                    Some(false) => {}
                    None => return Ok(None),
                },
                (Some(_), _) => {}
                (None, '\'' | '"') => self.quote = Some(c),
                (None, '[') => self.open.push(']'),
                (None, '(') => self.open.push(')'),
                (None, '{') => self.open.push('}'),
                (None, ']' | ')' | '}') if self.open.pop() != Some(c) => return Err(()),
                (None, '<') => return Err(()),
                (None, _) => {}
            }
            if self.open.len() > MAX_DEPTH {
                return Err(());
            }
            self.at = next;
            if self.open.is_empty() {
                return Ok(Some(self.at));
            }
        }
        Ok(None)
    }
}

/// True if a string may end in front of `rest`; `None` if there is too little of it.
fn closes(rest: &str) -> Option<bool> {
    let next = rest.trim_ascii_start().chars().next()?;
    Some(matches!(next, ',' | ')' | ']' | '}' | ':'))
}

/// The calls of a list; `None` if it is malformed.
fn calls(text: &str) -> Option<Vec<Call>> {
    let mut reader = Reader { rest: text, out: String::new() };
    let mut all = Vec::new();
    if !reader.take("[") {
        return None;
    }
    while !reader.take("]") {
        if !all.is_empty() && !reader.take(",") {
            return None;
        }
        if !all.is_empty() && reader.take("]") {
            break;
        }
        let name = reader.name(is_name_char)?;
        reader.arguments()?;
        all.push((name, std::mem::take(&mut reader.out)));
    }
    reader.rest.trim_ascii().is_empty().then_some(all)
}

struct Reader<'a> {
    rest: &'a str,
    out: String,
}

impl Reader<'_> {
    /// Takes a marker behind blanks.
    fn take(&mut self, marker: &str) -> bool {
        match self.rest.trim_ascii_start().strip_prefix(marker) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn name(&mut self, is_part: impl Fn(char) -> bool) -> Option<String> {
        let rest = self.rest.trim_ascii_start();
        let end = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
        let (name, rest) = rest.split_at(end);
        self.rest = rest;
        (1..=MAX_NAME).contains(&end).then(|| name.to_owned())
    }

    /// Named arguments, as a JSON object.
    fn arguments(&mut self) -> Option<()> {
        let mut names = BTreeSet::new();
        self.items("(", ")", ("{", "}"), &mut |reader| {
            let name = reader.name(|c| c.is_alphanumeric() || matches!(c, '_' | '-'))?;
            json::push_string(&name, &mut reader.out);
            if !names.insert(name) || !reader.take("=") {
                return None;
            }
            reader.out.push_str(": ");
            reader.value(1)
        })
    }

    /// Items between brackets, with commas between them and perhaps one behind the last.
    fn items(
        &mut self,
        open: &str,
        close: &str,
        written: (&str, &str),
        item: &mut dyn FnMut(&mut Self) -> Option<()>,
    ) -> Option<()> {
        if !self.take(open) {
            return None;
        }
        self.out.push_str(written.0);
        let mut first = true;
        while !self.take(close) {
            if !first {
                if !self.take(",") {
                    return None;
                }
                if self.take(close) {
                    break;
                }
                self.out.push_str(", ");
            }
            first = false;
            item(self)?;
        }
        self.out.push_str(written.1);
        Some(())
    }

    fn value(&mut self, depth: usize) -> Option<()> {
        if depth > MAX_DEPTH {
            return None;
        }
        self.rest = self.rest.trim_ascii_start();
        match self.rest.chars().next()? {
            '\'' | '"' => self.string(),
            '[' => self.items("[", "]", ("[", "]"), &mut |reader| reader.value(depth + 1)),
            '(' => self.items("(", ")", ("[", "]"), &mut |reader| reader.value(depth + 1)),
            '{' => self.items("{", "}", ("{", "}"), &mut |reader| {
                reader.rest = reader.rest.trim_ascii_start();
                reader.string()?;
                if !reader.take(":") {
                    return None;
                }
                reader.out.push_str(": ");
                reader.value(depth + 1)
            }),
            _ => {
                let end = self.rest.find([',', ')', ']', '}']).unwrap_or(self.rest.len());
                let (word, rest) = self.rest.split_at(end);
                self.rest = rest;
                let word = match word.trim_ascii_end() {
                    "None" | "null" => "null",
                    "True" | "true" => "true",
                    "False" | "false" => "false",
                    // A number as it is written.
                    number => match serde_json::from_str::<serde_json::Number>(number) {
                        Ok(_) => number,
                        Err(_) => return None,
                    },
                };
                self.out.push_str(word);
                Some(())
            }
        }
    }

    /// Reads a string from its first mark on.
    fn string(&mut self) -> Option<()> {
        let quote = self.rest.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
        let mut text = String::new();
        let mut rest = &self.rest[1..];
        loop {
            let c = rest.chars().next()?;
            rest = &rest[c.len_utf8()..];
            match c {
                '\\' => rest = escape(rest, &mut text)?,
                c if c == quote && closes(rest).unwrap_or(true) => break,
                c => text.push(c),
            }
        }
        self.rest = rest;
        json::push_string(&text, &mut self.out);
        Some(())
    }
}

/// Appends the character that stands behind a backslash; returns what follows.
fn escape<'a>(rest: &'a str, out: &mut String) -> Option<&'a str> {
    let c = rest.chars().next()?;
    let behind = &rest[c.len_utf8()..];
    let digits = match c {
        'x' => 2,
        'u' => 4,
        'U' => 8,
        _ => 0,
    };
    if digits > 0 {
        let code = |text: &str| u32::from_str_radix(text.get(..digits)?, 16).ok();
        let high = code(behind)?;
        // JSON's way to write what lies beyond 16 bits.
        let pair = behind.get(digits..).and_then(|rest| rest.strip_prefix("\\u"));
        if (0xd800..0xdc00).contains(&high) && digits == 4 {
            let low = pair.and_then(code).filter(|low| (0xdc00..0xe000).contains(low))?;
            out.push(char::from_u32(0x1_0000 + ((high - 0xd800) << 10) + (low - 0xdc00))?);
            return pair?.get(digits..);
        }
        out.push(char::from_u32(high)?);
        return behind.get(digits..);
    }
    match c {
        'n' => out.push('\n'),
        'r' => out.push('\r'),
        't' => out.push('\t'),
        'b' => out.push('\u{8}'),
        'f' => out.push('\u{c}'),
        '\\' | '\'' | '"' | '/' => out.push(c),
        '\n' => {}
        // As in Python, other backslashes are characters.
        c => out.extend(['\\', c]),
    }
    Some(behind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_become_json() {
        for (text, expected) in [
            ("[f()]", vec![("f", "{}")]),
            (
                r#"[f(a='it\'s', b="x, \"y\")", c=-2.50, d=12345678901234567890123), g.h()]"#,
                vec![
                    (
                        "f",
                        r#"{"a": "it's", "b": "x, \"y\")", "c": -2.50, "d": 12345678901234567890123}"#,
                    ),
                    ("g.h", "{}"),
                ],
            ),
            (
                "[ f( a = [True, False,None,], b={'k': (1, 2), \"l\": {}}, ) , ]",
                vec![("f", r#"{"a": [true, false, null], "b": {"k": [1, 2], "l": {}}}"#)],
            ),
            // As templates write strings.
            ("[f(a='it's a \"day\"')]", vec![("f", r#"{"a": "it's a \"day\""}"#)]),
            (
                r"[f(a='\n\x41\u00e9\ud83d\ude00\U0001F600\d')]",
                vec![("f", r#"{"a": "\nAé😀😀\\d"}"#)],
            ),
        ] {
            let expected: Vec<Call> =
                expected.into_iter().map(|(n, a)| (n.to_owned(), a.to_owned())).collect();
            assert_eq!(calls(text), Some(expected.clone()), "{text}");
            assert!(expected.iter().all(|(_, arguments)| json::is_object(arguments)), "{text}");
        }
        for text in [
            "f()",
            "[f]",
            "[f(]",
            "[f(1)]",
            "[f(a)]",
            "[f(a=)]",
            "[f(a=1 b=2)]",
            "[f(a=1, a=2)]",
            "[f(a=x)]",
            "[f(a=1_0)]",
            "[f() g()]",
            "[f(a='x)]",
            "[f(a={1: 2})]",
            "[f()] x",
            r"[f(a='\ud800')]",
            "[(a=1)]",
        ] {
            assert_eq!(calls(text), None, "{text}");
        }
    }
}
