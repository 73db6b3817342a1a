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
    if let Some((name, offset)) = repeated(text) {
        let before = &text[..offset];
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().map_or(0, |line| line.chars().count());
        let message = format!("{name:?} is there twice in one object");
        return Err(GrammarError::Json { line, column, message });
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
