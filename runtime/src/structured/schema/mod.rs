//! JSON schemas as grammars.
//!
//! A schema is read ([`parse`]), and becomes a graph ([`graph`]): each node stands for a set of schemas that hold
//! for one value, such as those of a property in each part of `allOf`, merged into one ([`merge`]). The graph is
//! written as a grammar in Lark ([`emit`]). llguidance has a compiler of schemas of its own, which this doesn't use:
//! it leaves out keywords that it doesn't know, and its numbers have no bounds, so that they can be beyond what
//! readers of JSON accept.

mod decimal;
mod emit;
mod format;
mod graph;
mod merge;
mod multiple;
mod parse;
mod strings;

use std::collections::BTreeSet;

use serde_json::Value;

use self::decimal::Decimal;
use super::GrammarError;
use super::limits::MAX_BYTES;
use crate::json::{Event, Reader};

pub(super) use emit::Lark;

/// The grammar of a schema.
pub(super) fn lark(text: &str) -> Result<Lark, GrammarError> {
    lark_within(text, "")
}

/// The grammar of a schema, for use within another: the names that it refers to begin with `prefix`.
pub(super) fn lark_within(text: &str, prefix: &str) -> Result<Lark, GrammarError> {
    if text.len() > MAX_BYTES {
        return Err(GrammarError::TooLarge { what: "bytes of a schema", limit: MAX_BYTES });
    }
    let schema: Value = serde_json::from_str(text).map_err(|e| {
        let (line, column) = (e.line(), e.column());
        let message = e.to_string();
        let message = message.split(" at line ").next().unwrap_or_default().to_string();
        GrammarError::Json { line, column, message }
    })?;
    let error = |offset: usize, message: String| {
        let before = &text[..offset];
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().map_or(0, |line| line.chars().count());
        GrammarError::Json { line, column, message }
    };
    if let Some((name, offset)) = repeated(text) {
        return Err(error(offset, format!("{name:?} is there twice in one object")));
    }
    if let Some((number, offset)) = inexact(text) {
        let short: String = number.chars().take(40).collect();
        let dots = if short.len() < number.len() { "..." } else { "" };
        let message = format!("the number {short}{dots} has more digits than 64 bits hold");
        return Err(error(offset, message));
    }
    let document = parse::document(&schema)?;
    let (graph, document) = graph::graph(document)?;
    emit::lark(prefix, &document, &graph)
}

/// A name that an object has twice, and the offset behind it. Readers of JSON take the last one, so that a keyword
/// would be left out.
fn repeated(text: &str) -> Option<(String, usize)> {
    let mut reader = Reader::new(text.as_bytes());
    let mut objects: Vec<BTreeSet<String>> = Vec::new();
    loop {
        match reader.next().ok()?? {
            Event::ObjectStart => objects.push(BTreeSet::new()),
            Event::ObjectEnd => drop(objects.pop()),
            Event::Key(name) => {
                let name = name.to_cow().into_owned();
                if !objects.last_mut()?.insert(name.clone()) {
                    return Some((name, reader.offset()));
                }
            }
            _ => {}
        }
    }
}

/// A number that readers of JSON would round, and the offset behind it. What is written would be another number.
fn inexact(text: &str) -> Option<(&str, usize)> {
    let mut reader = Reader::new(text.as_bytes());
    loop {
        if let Event::Number(number) = reader.next().ok()?? {
            let kept = serde_json::from_str::<serde_json::Number>(number).ok()?;
            let rounded = match Decimal::read(number) {
                Some(exact) => Decimal::read(&kept.to_string()) != Some(exact),
                // Too large for numbers of a schema, which is said by its keyword, or too small.
                None => kept.as_f64() == Some(0.0),
            };
            if rounded {
                return Some((number, reader.offset()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_would_be_rounded_are_found() {
        for exact in [
            "0",
            "-0.0",
            "1E5",
            "0.1",
            "1.50",
            "0.30000000000000004",
            "18446744073709551615",
            "-9223372036854775808",
            "9007199254740993",
            "1e300",
        ] {
            assert_eq!(inexact(exact), None);
            assert_eq!(inexact(&format!("[1, {exact}]")), None);
        }
        for rounded in [
            "18446744073709551617",
            "-9223372036854775809",
            "9007199254740993.0",
            "12345678901234567890123",
            "1.00000000000000000001",
            "1e-400",
            "36893488147419103232",
        ] {
            let text = format!("{{\"a\": [{rounded}, 1]}}");
            let end = text.find(", 1").unwrap();
            assert_eq!(inexact(&text), Some((rounded, end)), "{rounded}");
            let schema = format!("{{\"const\": {rounded}}}");
            assert!(matches!(lark(&schema), Err(GrammarError::Json { line: 1, .. })));
        }
    }
}
