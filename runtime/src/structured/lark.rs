//! Grammars in llguidance's variant of Lark, and what is refused in them.

use super::GrammarError;
use super::limits::{MAX_BYTES, MAX_LARK_DEPTH};

/// Directives of llguidance that are refused, with reasons.
const DIRECTIVES: &[(&str, &str)] = &[
    ("%json", "its schema would not be checked; a schema is a grammar of its own"),
    ("%lark", "write its rules into the grammar itself"),
    ("%override", "write the rule once"),
    ("%declare", "write a terminal's text"),
];

/// Attributes of rules that are refused, with reasons.
const ATTRIBUTES: &[(&str, &str)] = &[
    ("stop", "the text can't leave out what it ends with"),
    ("stop_capture", "nothing is captured"),
    ("capture", "nothing is captured"),
    ("max_tokens", "a rule can't count tokens"),
    ("temperature", "a rule can't change sampling"),
];

/// Refuses what is wrong or not supported in a grammar before llguidance compiles it.
pub(super) fn check(grammar: &str) -> Result<(), GrammarError> {
    if grammar.len() > MAX_BYTES {
        return Err(GrammarError::TooLarge { what: "bytes of a grammar", limit: MAX_BYTES });
    }
    if grammar.trim().is_empty() {
        let message = "the grammar is empty: it needs a rule `start: ...`".to_string();
        return Err(GrammarError::Syntax { line: 1, column: 1, message });
    }
    let mut scan = Scan { text: grammar, at: 0, line: 1, start: 0 };
    let mut levels = 0;
    let mut before = "";
    while let Some(word) = scan.next() {
        let (line, column) = scan.place(word);
        match word {
            "::=" => {
                let message = "`::=` is of GBNF, llama.cpp's grammars: write the rule as `name: ...`, \
                               `root` as `start`, and a class of characters as a regular expression, \
                               /[a-z]+/";
                return Err(GrammarError::Syntax { line, column, message: message.into() });
            }
            _ if word.starts_with('%') => {
                if let Some(&(name, reason)) = DIRECTIVES.iter().find(|d| d.0 == word) {
                    return Err(unsupported(name, line, column, reason));
                }
            }
            _ if word.starts_with('<') => {
                let reason = "a text has no special tokens and no tokens by number";
                return Err(unsupported(word, line, column, reason));
            }
            _ if word.starts_with('@') => {
                let reason = "there are no other grammars to refer to";
                return Err(unsupported(word, line, column, reason));
            }
            "=" => {
                if let Some(&(name, reason)) = ATTRIBUTES.iter().find(|a| a.0 == before) {
                    return Err(unsupported(name, line, column, reason));
                }
            }
            // Rules and brackets may all be inside each other.
            ":" | "(" | "[" | "~" => levels += 1,
            _ => {}
        }
        if levels > MAX_LARK_DEPTH {
            let what = "rules, brackets and negations";
            return Err(GrammarError::TooLarge { what, limit: MAX_LARK_DEPTH });
        }
        before = word;
    }
    Ok(())
}

fn unsupported(keyword: &str, line: usize, column: usize, reason: &str) -> GrammarError {
    let reason = format!("line {line}, column {column}: {reason}");
    GrammarError::Unsupported { keyword: keyword.to_string(), at: String::new(), reason }
}

/// Walk over a grammar's words, without strings, regular expressions and comments.
struct Scan<'a> {
    text: &'a str,
    at: usize,
    line: usize,
    /// Offset of the line.
    start: usize,
}

impl<'a> Scan<'a> {
    /// Line and column of a word that was just returned.
    fn place(&self, word: &str) -> (usize, usize) {
        let begin = self.at - word.len();
        (self.line, self.text[self.start..begin].chars().count() + 1)
    }

    /// The next `::=`, directive, special token, reference, name, or character.
    fn next(&mut self) -> Option<&'a str> {
        let word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        loop {
            let rest = &self.text[self.at..];
            let first = rest.chars().next()?;
            let length = match first {
                '\n' => {
                    self.at += 1;
                    (self.line, self.start) = (self.line + 1, self.at);
                    continue;
                }
                '"' | '/' if !rest.starts_with("//") => {
                    let length = quoted(rest, first);
                    for (i, _) in rest[..length].match_indices('\n') {
                        (self.line, self.start) = (self.line + 1, self.at + i + 1);
                    }
                    self.at += length;
                    continue;
                }
                '#' | '/' => {
                    self.at += rest.find('\n').unwrap_or(rest.len());
                    continue;
                }
                _ if first.is_whitespace() => {
                    self.at += first.len_utf8();
                    continue;
                }
                ':' if rest.starts_with("::=") => 3,
                _ if first == '%' || first == '@' || word(first) => {
                    1 + rest[1..].find(|c| !word(c)).unwrap_or(rest.len() - 1)
                }
                '<' => {
                    let end = |c: char| c.is_whitespace() || c == '>';
                    match rest.find(end) {
                        Some(i) if rest.as_bytes()[i] == b'>' => i + 1,
                        _ => 1,
                    }
                }
                _ => first.len_utf8(),
            };
            self.at += length;
            return Some(&rest[..length]);
        }
    }
}

/// Length of a string or regular expression that begins here, up to its closing character.
fn quoted(text: &str, close: char) -> usize {
    let mut escaped = false;
    for (i, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if c == close => return i + 1,
            _ => {}
        }
    }
    text.len()
}

/// The line and the column of an error of llguidance, which begins with `at 3(5): ` or `3(5): `.
pub(super) fn place(message: &str) -> Option<(usize, usize, &str)> {
    let message = message.strip_prefix("at ").unwrap_or(message);
    let (line, rest) = message.split_once('(')?;
    let (column, rest) = rest.split_once(')')?;
    let rest = rest.strip_prefix(": ")?;
    Some((line.parse().ok()?, column.parse().ok()?, rest))
}
