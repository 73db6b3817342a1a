//! Calls in the format of Qwen 3 Coder:
//!
//! ```text
//! <tool_call>
//! <function=name>
//! <parameter=key>
//! value
//! </parameter>
//! </function>
//! </tool_call>
//! ```
//!
//! Values are plain text for strings, and JSON for everything else; which of them is meant, the
//! function's schema says. `True`, `False` and `None` are what templates make of JSON's words.

use serde_json::Value;

use super::json;
use super::scan::{Function, Step};
use super::schema::{Types, types};

const PARAMETER: &str = "<parameter=";
const PARAMETER_END: &str = "</parameter>";
const FUNCTION_END: &str = "</function>";
const CALL_END: &str = "</tool_call>";

/// Recogniser of a call, from behind `<function=` on.
#[derive(Clone, Debug)]
pub(crate) struct XmlScan {
    /// True if `</tool_call>` may follow.
    tagged: bool,
    /// Place up to which all is read.
    at: usize,
    name: Option<String>,
    /// Values by their keys, in the order of the text.
    values: Vec<(String, String)>,
    /// Key of the value that is being read.
    key: Option<String>,
    /// Place from which the value's end is looked for.
    from: usize,
    /// True behind `</function>`.
    ended: bool,
}

/// Result of looking for one of several markers at a place.
enum Next<'a> {
    Found(&'static str, &'a str),
    More,
    Other,
}

/// The marker at the start of `text`, behind blanks.
fn next<'a>(text: &'a str, markers: &[&'static str]) -> Next<'a> {
    let text = text.trim_ascii_start();
    for marker in markers {
        if let Some(rest) = text.strip_prefix(marker) {
            return Next::Found(marker, rest);
        }
    }
    match markers.iter().any(|marker| marker.starts_with(text)) {
        true => Next::More,
        false => Next::Other,
    }
}

impl XmlScan {
    /// Recogniser whose text begins at `at`.
    pub(crate) fn new(at: usize, tagged: bool) -> XmlScan {
        let (values, key) = (Vec::new(), None);
        XmlScan { tagged, at, name: None, values, key, from: at, ended: false }
    }

    pub(crate) fn step(&mut self, text: &str, ended: bool, functions: &[Function]) -> Step {
        loop {
            let rest = &text[self.at..];
            let Some(name) = &self.name else {
                let Some((name, _)) = rest.split_once('>') else {
                    let known = functions.iter().any(|f| f.name.starts_with(rest));
                    return if known { Step::More } else { Step::Bad };
                };
                self.at += name.len() + 1;
                self.name = Some(name.to_owned());
                continue;
            };
            let Some(function) = functions.iter().find(|f| f.name == *name) else {
                return Step::Bad;
            };
            if self.ended {
                return match next(rest, &[CALL_END]) {
                    _ if !self.tagged => self.done(self.at, function),
                    Next::Found(_, rest) => self.done(text.len() - rest.len(), function),
                    Next::More if !ended => Step::More,
                    _ => self.done(self.at, function),
                };
            }
            let Some(key) = &self.key else {
                match next(rest, &[PARAMETER, FUNCTION_END]) {
                    Next::Found(PARAMETER, rest) => {
                        let Some(end) = rest.find(['>', '\n']) else { return Step::More };
                        let (key, value) = rest.split_at(end);
                        let Some(value) = value.strip_prefix('>') else { return Step::Bad };
                        self.key = Some(key.to_owned());
                        self.at = text.len() - value.len();
                        self.from = self.at;
                    }
                    Next::Found(_, rest) => {
                        self.ended = true;
                        self.at = text.len() - rest.len();
                    }
                    Next::More => return Step::More,
                    Next::Other => return Step::Bad,
                }
                continue;
            };
            // The value may have closing tags in it: the one is meant behind which the call goes on.
            let Some(found) = text[self.from..].find(PARAMETER_END) else {
                let mut from = text.len().saturating_sub(PARAMETER_END.len()).max(self.from);
                while !text.is_char_boundary(from) {
                    from -= 1;
                }
                self.from = from;
                return Step::More;
            };
            let end = self.from + found;
            let behind = end + PARAMETER_END.len();
            match next(&text[behind..], &[PARAMETER, FUNCTION_END]) {
                Next::Found(..) => {
                    let value = &text[self.at..end];
                    let value = value.strip_prefix('\n').unwrap_or(value);
                    let value = value.strip_suffix('\n').unwrap_or(value);
                    let json = self.value(function, key, value);
                    let key = self.key.take().unwrap_or_default();
                    match self.values.iter_mut().find(|(k, _)| *k == key) {
                        Some(entry) => entry.1 = json,
                        None => self.values.push((key, json)),
                    }
                    self.at = behind;
                }
                Next::More => {
                    self.from = end;
                    return Step::More;
                }
                Next::Other => self.from = behind,
            }
        }
    }

    fn done(&self, end: usize, function: &Function) -> Step {
        let mut out = String::from("{");
        for (i, (key, value)) in self.values.iter().enumerate() {
            out.push_str(if i > 0 { ", " } else { "" });
            json::push_string(key, &mut out);
            out.push_str(": ");
            out.push_str(value);
        }
        out.push('}');
        Step::Done(end, vec![(function.name.clone(), out)])
    }

    /// The JSON that a value means.
    fn value(&self, function: &Function, key: &str, value: &str) -> String {
        let root = &function.parameters;
        let schema = root.get("properties").and_then(|all| all.get(key));
        let allowed = schema.map_or(Types::ALL, |schema| types(schema, root));
        let text = value.trim();
        let word = match text {
            "True" => "true",
            "False" => "false",
            "None" => "null",
            other => other,
        };
        if let Ok(parsed) = serde_json::from_str::<Value>(word)
            && allowed.allow(&parsed)
            && (!parsed.is_string() || allowed == Types::ALL)
        {
            return word.to_owned();
        }
        let mut out = String::new();
        json::push_string(value, &mut out);
        out
    }
}
