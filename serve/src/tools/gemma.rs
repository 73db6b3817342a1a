//! Calls in the format of Gemma 4: `<|tool_call>call:name{key:value,..}<tool_call|>`.
//!
//! Values are numbers, `true`, `false`, `null`, `[value,..]`, `{key:value,..}`, and strings between two
//! `<|"|>`, which have no escapes. Keys are bare, or strings.

use super::json;
use super::scan::{MAX_NAME, Step, is_name_char};

/// Mark around strings.
pub(crate) const QUOTE: &str = "<|\"|>";
const CALL: &str = "call:";
const CLOSE: &str = "<tool_call|>";
/// Deepest nesting that is taken for a value.
const MAX_DEPTH: usize = 128;

/// Recogniser of a call, from behind `<|tool_call>` on.
#[derive(Clone, Debug)]
pub(crate) struct GemmaScan {
    name: Option<String>,
    /// Start of the arguments.
    start: usize,
    /// Place up to which all is read.
    at: usize,
    /// True for each open object, false for each open array.
    open: Vec<bool>,
    /// True in a string.
    quoted: bool,
    /// End of the arguments, once that is known.
    end: Option<usize>,
}

impl GemmaScan {
    pub(crate) fn new() -> GemmaScan {
        GemmaScan { name: None, start: 0, at: 0, open: Vec::new(), quoted: false, end: None }
    }

    pub(crate) fn step(&mut self, text: &str, ended: bool) -> Step {
        if self.name.is_none() {
            let rest = text.trim_ascii_start();
            let Some(behind) = rest.strip_prefix(CALL) else {
                return if CALL.starts_with(rest) { Step::More } else { Step::Bad };
            };
            let Some(end) = behind.find(|c| !is_name_char(c)) else {
                return if behind.len() <= MAX_NAME { Step::More } else { Step::Bad };
            };
            if end == 0 || !behind[end..].starts_with('{') {
                return Step::Bad;
            }
            self.name = Some(behind[..end].to_owned());
            self.start = text.len() - behind.len() + end;
            self.at = self.start;
        }
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
        let arguments = to_json(&text[self.start..end]);
        match (&self.name, arguments) {
            (Some(name), Some(arguments)) => Step::Done(length, vec![(name.clone(), arguments)]),
            _ => Step::Bad,
        }
    }

    /// The end of the arguments; `Ok(None)` if it has not come.
    fn find_end(&mut self, text: &str) -> Result<Option<usize>, ()> {
        while self.at < text.len() {
            let rest = &text[self.at..];
            if self.quoted {
                match rest.find(QUOTE) {
                    Some(i) => {
                        self.at += i + QUOTE.len();
                        self.quoted = false;
                    }
                    None => {
                        // The end may have the beginning of a mark.
                        let keep = (1..QUOTE.len()).rev().find(|&n| rest.ends_with(&QUOTE[..n]));
                        self.at = text.len() - keep.unwrap_or(0);
                        return Ok(None);
                    }
                }
                continue;
            }
            let Some(c) = rest.chars().next() else { break };
            match c {
                '<' => {
                    if rest.starts_with(QUOTE) {
                        self.quoted = true;
                        self.at += QUOTE.len();
                        continue;
                    }
                    return if QUOTE.starts_with(rest) { Ok(None) } else { Err(()) };
                }
                '{' | '[' => {
                    self.open.push(c == '{');
                    if self.open.len() > MAX_DEPTH {
                        return Err(());
                    }
                }
                '}' | ']' if self.open.pop() != Some(c == '}') => return Err(()),
                _ => {}
            }
            self.at += c.len_utf8();
            if self.open.is_empty() {
                return Ok(Some(self.at));
            }
        }
        Ok(None)
    }
}

/// The JSON text of an object in Gemma's syntax; `None` if it is malformed.
pub(crate) fn to_json(text: &str) -> Option<String> {
    let mut reader = Reader { rest: text, out: String::new() };
    reader.value(0)?;
    reader.rest.trim_ascii().is_empty().then_some(reader.out)
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

    /// Reads a string, of which the first mark was read.
    fn string(&mut self) -> Option<()> {
        let (text, rest) = self.rest.split_once(QUOTE)?;
        self.rest = rest;
        json::push_string(text, &mut self.out);
        Some(())
    }

    fn value(&mut self, depth: usize) -> Option<()> {
        if depth > MAX_DEPTH {
            return None;
        }
        if self.take(QUOTE) {
            return self.string();
        }
        if self.take("{") {
            self.out.push('{');
            let mut first = true;
            while !self.take("}") {
                if !first && !self.take(",") {
                    return None;
                }
                self.out.push_str(if first { "" } else { ", " });
                first = false;
                if self.take(QUOTE) {
                    self.string()?;
                } else {
                    let (key, _) = self.rest.split_once(':')?;
                    self.rest = &self.rest[key.len()..];
                    let key = key.trim_ascii();
                    if key.is_empty() || key.contains(['{', '}', '[', ']', ',', '<']) {
                        return None;
                    }
                    json::push_string(key, &mut self.out);
                }
                if !self.take(":") {
                    return None;
                }
                self.out.push_str(": ");
                self.value(depth + 1)?;
            }
            self.out.push('}');
            return Some(());
        }
        if self.take("[") {
            self.out.push('[');
            let mut first = true;
            while !self.take("]") {
                if !first && !self.take(",") {
                    return None;
                }
                self.out.push_str(if first { "" } else { ", " });
                first = false;
                self.value(depth + 1)?;
            }
            self.out.push(']');
            return Some(());
        }
        let end = self.rest.find([',', '}', ']']).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        let word = match word.trim_ascii() {
            // As Python writes it, and so templates.
            "None" => "null",
            word => word,
        };
        let scalar = match serde_json::from_str(word) {
            Ok(serde_json::Value::String(_)) | Err(_) => return None,
            Ok(_) => word,
        };
        self.out.push_str(scalar);
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_become_json() {
        for (text, expected) in [
            ("{}", "{}"),
            (
                r#"{city:<|"|>Paris, "FR" {x}<|"|>,days:3}"#,
                r#"{"city": "Paris, \"FR\" {x}", "days": 3}"#,
            ),
            (
                r#"{a:[1,-2.5e-05,[],{}],b:{<|"|>c d<|"|>:true,e:None}, f : null }"#,
                r#"{"a": [1, -2.5e-05, [], {}], "b": {"c d": true, "e": null}, "f": null}"#,
            ),
            ("{s:<|\"|>line\nbreak\\<|\"|>}", r#"{"s": "line\nbreak\\"}"#),
        ] {
            assert_eq!(to_json(text).as_deref(), Some(expected), "{text}");
            assert!(json::is_object(expected));
        }
        for text in [
            "{a}",
            "{a:}",
            "{a:1,}",
            "{a:1 b:2}",
            "{:1}",
            "{a:Paris}",
            "{a:\"x\"}",
            "[1",
            "{a:nan}",
            "{a:1}}",
        ] {
            assert_eq!(to_json(text), None, "{text}");
        }
    }
}
