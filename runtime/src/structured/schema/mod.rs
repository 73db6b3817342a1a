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

use serde_json::Value;

use super::GrammarError;
use super::limits::MAX_BYTES;

pub(super) use emit::Lark;

/// The grammar of a schema.
pub(super) fn lark(schema: &str) -> Result<Lark, GrammarError> {
    lark_within(schema, "")
}

/// The grammar of a schema, for use within another: the names that it refers to begin with `prefix`.
pub(super) fn lark_within(schema: &str, prefix: &str) -> Result<Lark, GrammarError> {
    if schema.len() > MAX_BYTES {
        return Err(GrammarError::TooLarge { what: "bytes of a schema", limit: MAX_BYTES });
    }
    let schema: Value = serde_json::from_str(schema).map_err(|e| {
        let (line, column) = (e.line(), e.column());
        let message = e.to_string();
        let message = message.split(" at line ").next().unwrap_or_default().to_string();
        GrammarError::Json { line, column, message }
    })?;
    let document = parse::document(&schema)?;
    let (graph, document) = graph::graph(document)?;
    emit::lark(prefix, &document, &graph)
}
