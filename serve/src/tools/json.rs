//! Incremental recognition of one JSON object or array in text that is still being generated.

use std::collections::BTreeMap;
use std::ops::Range;

use serde_json::value::RawValue;

/// Deepest nesting of objects and arrays that is taken for JSON.
const MAX_DEPTH: usize = 128;

/// Result of looking at a text that may go on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Scan {
    /// All of it belongs to the value, which goes on.
    More,
    /// It is no such value, however it goes on.
    Bad,
    /// The value ends before this byte.
    End(usize),
}

/// Place in a document, before a byte.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum At {
    Value,
    /// Behind `[`: a value or `]`.
    First,
    /// Behind `{`: a key or `}`.
    FirstKey,
    Key,
    Colon,
    /// Behind a value in an object or array.
    Behind,
    /// In a string; true for a key.
    Text(bool),
    Escape(bool),
    /// In `\uXXXX`, with this many digits to come.
    Hex(bool, u8),
    Number(Digits),
    /// In `true`, `false` or `null`, of which these bytes are to come.
    Word(&'static [u8]),
}

/// Place in a number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Digits {
    /// Behind the sign.
    Sign,
    /// Behind a leading zero.
    Zero,
    Whole,
    /// Behind the point.
    Point,
    Fraction,
    /// Behind `e`.
    Mark,
    /// Behind the sign of the power of ten.
    PowerSign,
    Power,
}

impl Digits {
    /// Place behind a byte that belongs to the number.
    fn next(self, byte: u8) -> Option<Digits> {
        use Digits::*;
        match (self, byte) {
            (Sign, b'0') => Some(Zero),
            (Sign, b'1'..=b'9') | (Whole, b'0'..=b'9') => Some(Whole),
            (Zero | Whole, b'.') => Some(Point),
            (Point | Fraction, b'0'..=b'9') => Some(Fraction),
            (Zero | Whole | Fraction, b'e' | b'E') => Some(Mark),
            (Mark, b'+' | b'-') => Some(PowerSign),
            (Mark | PowerSign | Power, b'0'..=b'9') => Some(Power),
            _ => None,
        }
    }

    /// True if the number may end here.
    fn ends(self) -> bool {
        matches!(self, Digits::Zero | Digits::Whole | Digits::Fraction | Digits::Power)
    }
}

/// Recogniser of one JSON object or array, byte by byte.
///
/// It is given the same text again and again, each time with more at its end, and looks at each byte
/// once. The grammar is strict (RFC 8259).
#[derive(Clone, Debug)]
pub(crate) struct JsonScan {
    at: At,
    /// True for each open object, false for each open array.
    open: Vec<bool>,
    /// Number of bytes that were looked at.
    seen: usize,
    /// End of the first object or array inside, if that was seen.
    inner: Option<usize>,
    bad: bool,
}

impl JsonScan {
    /// Recogniser before the first byte.
    pub(crate) fn new() -> JsonScan {
        JsonScan { at: At::Value, open: Vec::new(), seen: 0, inner: None, bad: false }
    }

    /// Number of bytes that belong to the value so far.
    pub(crate) fn seen(&self) -> usize {
        self.seen
    }

    /// Looks at the bytes of `text` that are new. `text` begins with the value's first byte.
    pub(crate) fn scan(&mut self, text: &str) -> Scan {
        if self.bad {
            return Scan::Bad;
        }
        while let Some(&byte) = text.as_bytes().get(self.seen) {
            let Some(again) = self.step(byte) else {
                self.bad = true;
                return Scan::Bad;
            };
            if again {
                continue;
            }
            self.seen += 1;
            if self.inner.is_none() && self.open.len() == 1 && matches!(byte, b'}' | b']') {
                self.inner = (self.at == At::Behind).then_some(self.seen);
            }
            if self.open.is_empty() {
                return Scan::End(self.seen);
            }
        }
        Scan::More
    }

    /// End of the first object or array inside the outermost one, if that was seen.
    pub(crate) fn inner(&self) -> Option<usize> {
        self.inner
    }

    /// Goes on by a byte; true if the byte only ended a number and is to be looked at again.
    fn step(&mut self, byte: u8) -> Option<bool> {
        let blank = matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
        let top = self.open.last().copied();
        self.at = match (self.at, byte) {
            // Nothing stands before the value itself.
            (At::Value, _) if blank && top.is_some() => At::Value,
            (At::First | At::FirstKey | At::Key | At::Colon | At::Behind, _) if blank => self.at,
            (At::First, b']') | (At::FirstKey, b'}') => {
                self.open.pop();
                At::Behind
            }
            (At::Value | At::First, b'{') => self.push(true, At::FirstKey)?,
            (At::Value | At::First, b'[') => self.push(false, At::First)?,
            // Only objects and arrays have an end of their own.
            (At::Value | At::First, _) if top.is_none() => return None,
            (At::Value | At::First, b'"') => At::Text(false),
            (At::Value | At::First, b'-') => At::Number(Digits::Sign),
            (At::Value | At::First, b'0'..=b'9') => At::Number(Digits::Sign.next(byte)?),
            (At::Value | At::First, b't') => At::Word(b"rue"),
            (At::Value | At::First, b'f') => At::Word(b"alse"),
            (At::Value | At::First, b'n') => At::Word(b"ull"),
            (At::FirstKey | At::Key, b'"') => At::Text(true),
            (At::Colon, b':') => At::Value,
            (At::Behind, b',') if top == Some(true) => At::Key,
            (At::Behind, b',') => At::Value,
            (At::Behind, b'}') if top == Some(true) => {
                self.open.pop();
                At::Behind
            }
            (At::Behind, b']') if top == Some(false) => {
                self.open.pop();
                At::Behind
            }
            (At::Text(key), b'"') => behind(key),
            (At::Text(key), b'\\') => At::Escape(key),
            (At::Text(_), 0..=0x1f) => return None,
            (At::Text(key), _) => At::Text(key),
            (At::Escape(key), b'u') => At::Hex(key, 4),
            (At::Escape(key), b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {
                At::Text(key)
            }
            (At::Hex(key, n), b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => match n {
                1 => At::Text(key),
                n => At::Hex(key, n - 1),
            },
            (At::Number(digits), _) => match digits.next(byte) {
                Some(next) => At::Number(next),
                None if digits.ends() => {
                    self.at = At::Behind;
                    return Some(true);
                }
                None => return None,
            },
            (At::Word([first, rest @ ..]), _) if byte == *first => match rest {
                [] => At::Behind,
                rest => At::Word(rest),
            },
            _ => return None,
        };
        Some(false)
    }

    fn push(&mut self, object: bool, at: At) -> Option<At> {
        self.open.push(object);
        (self.open.len() <= MAX_DEPTH).then_some(at)
    }
}

/// Place behind a string.
fn behind(key: bool) -> At {
    if key { At::Colon } else { At::Behind }
}

/// Members of a JSON object, with their values as they are written; `None` for another text.
pub(crate) fn members(text: &str) -> Option<BTreeMap<String, &RawValue>> {
    serde_json::from_str(text).ok()
}

/// Items of a JSON array as they are written; `None` for another text.
pub(crate) fn items(text: &str) -> Option<Vec<&RawValue>> {
    serde_json::from_str(text).ok()
}

/// The text of a JSON string; `None` for another value.
pub(crate) fn string(raw: &str) -> Option<String> {
    serde_json::from_str(raw).ok()
}

/// True for the text of a JSON object.
pub(crate) fn is_object(text: &str) -> bool {
    let text = text.trim_ascii();
    JsonScan::new().scan(text) == Scan::End(text.len()) && text.starts_with('{')
}

/// Appends a JSON string.
pub(crate) fn push_string(text: &str, out: &mut String) {
    out.push_str(&serde_json::Value::from(text).to_string());
}

/// First bytes of a call in JSON, `{"name": "f", "arguments": {`: the function's name, and the place
/// where the arguments begin. `Ok(None)` if that is not yet known, `Err` for another beginning.
pub(crate) fn head(text: &str, keys: &[&str]) -> Result<Option<(String, usize)>, ()> {
    let mut at = 0;
    let token = |at: &mut usize| -> Result<Option<Range<usize>>, ()> {
        let bytes = text.as_bytes();
        while bytes.get(*at).is_some_and(u8::is_ascii_whitespace) {
            *at += 1;
        }
        let start = *at;
        match bytes.get(start) {
            None => Ok(None),
            Some(b'"') => {
                let mut end = start + 1;
                loop {
                    match bytes.get(end) {
                        None => return Ok(None),
                        Some(b'"') => break,
                        Some(b'\\') => end += 2,
                        Some(_) => end += 1,
                    }
                }
                *at = end + 1;
                Ok(Some(start..end + 1))
            }
            Some(b'{' | b':' | b',') => {
                *at = start + 1;
                Ok(Some(start..start + 1))
            }
            Some(_) => Err(()),
        }
    };
    let mut name = None;
    for step in 0..8 {
        let Some(range) = token(&mut at)? else { return Ok(None) };
        let found = &text[range.clone()];
        let right = match step {
            0 => found == "{",
            1 => found == "\"name\"",
            2 | 6 => found == ":",
            3 => {
                name = string(found);
                name.is_some()
            }
            4 => found == ",",
            5 => string(found).is_some_and(|key| keys.contains(&key.as_str())),
            _ => found == "{",
        };
        if !right {
            return Err(());
        }
        if let (7, Some(name)) = (step, name.take_if(|_| step == 7)) {
            return Ok(Some((name, range.start)));
        }
    }
    Err(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCUMENTS: [&str; 9] = [
        "{}",
        "[]",
        r#"{"a": [1, -2.5e+10, 0, true, false, null, "x\"\u00e9\n"], "b": {"c": {}}}"#,
        "[[[[]]], {\"\": 0}]",
        "{\"é\":\"日本\"}",
        "{ }",
        "[ 1 , 2 ]",
        "[0.5,1E2]",
        "{\"a\":\"}]\"}",
    ];

    #[test]
    fn documents_end_where_they_end_however_they_come() {
        for document in DOCUMENTS {
            assert!(serde_json::from_str::<serde_json::Value>(document).is_ok());
            let text = format!("{document}]}} more");
            assert_eq!(JsonScan::new().scan(&text), Scan::End(document.len()), "{document}");
            let mut scan = JsonScan::new();
            let mut ends = text.char_indices().map(|(i, _)| i);
            let end = ends.find_map(|end| match scan.scan(&text[..end]) {
                Scan::More => None,
                other => Some(other),
            });
            assert_eq!(end, Some(Scan::End(document.len())), "{document}");
        }
    }

    #[test]
    fn what_serde_refuses_is_bad_or_unfinished() {
        for text in [
            "{a: 1}",
            "{'a': 1}",
            "{\"a\" 1}",
            "{\"a\": 01}",
            "[1 2]",
            "[1,]",
            "{\"a\":1,}",
            "[tru]",
            "[1.]",
            "[-]",
            "[1e]",
            "[\"\n\"]",
            "[\"\\x\"]",
            "[\"\\u12g4\"]",
            "{]",
            "[}",
            "12",
            "\"x\"",
            "null",
            "",
            " {}",
            "[nulll]",
        ] {
            assert!(!matches!(JsonScan::new().scan(text), Scan::End(_)), "{text}");
        }
        let deep = "[".repeat(MAX_DEPTH + 1);
        assert_eq!(JsonScan::new().scan(&deep), Scan::Bad);
        assert_eq!(JsonScan::new().scan(&deep[1..]), Scan::More);
    }

    #[test]
    fn heads_are_found() {
        let keys = ["arguments", "parameters"];
        let text = r#"{ "name" :"f\"g", "parameters": {"x": 1}}"#;
        assert_eq!(head(text, &keys), Ok(Some(("f\"g".into(), 32))));
        for end in 0..32 {
            assert_eq!(head(&text[..end], &keys), Ok(None), "{end}");
        }
        for other in [
            r#"{"x": "#,
            r#"{"name": 1"#,
            r#"{"name": "f", "args""#,
            r#"{"name": "f", "arguments": "x""#,
            "[",
            "{}",
        ] {
            assert_eq!(head(other, &keys), Err(()), "{other}");
        }
    }
}
