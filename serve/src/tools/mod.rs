//! Tool calls: the formats in which models write them, parsers that find them in answers, grammars that
//! force them, and the history of a conversation in the form that templates expect.
//!
//! - [`Dialect`] is what the rest of the server uses, [`Format`] what it is made of.
//! - `parser` and `harmony` split answers into text, reasoning and calls; `scan`, `xml`, `gemma` and `lfm`
//!   know single calls.
//! - `force` and `values` make the languages of answers that call a tool.
//! - `history` converts messages.

mod compile;
mod dialect;
mod force;
#[cfg(test)]
mod forced;
mod format;
mod gemma;
mod harmony;
mod history;
mod json;
mod lfm;
mod parser;
#[cfg(test)]
mod round_trips;
mod scan;
mod schema;
#[cfg(test)]
mod tests;
mod turns;
mod values;
mod xml;

use teff_runtime::template::Json;

pub(crate) use compile::Markup;
pub(crate) use dialect::Dialect;
pub(crate) use force::Language;
pub(crate) use turns::{Turns, name_error};

use self::format::{Format, Start};
use self::harmony::Harmony;
use self::parser::CallParser;
use self::scan::Function;
use crate::job::{AnswerParser, Tool};

/// Functions of a request's tools, as parsers and grammars need them.
fn functions(tools: &[Tool]) -> Vec<Function> {
    let function = |tool: &Tool| Function {
        name: tool.name.clone(),
        parameters: tool.parameters.as_ref().map_or_else(no_parameters, value),
        strict: tool.json.get("function").and_then(|f| f.get("strict")) == Some(&Json::Bool(true)),
    };
    tools.iter().map(function).collect()
}

/// Schema of a function without parameters.
fn no_parameters() -> serde_json::Value {
    serde_json::json!({"type": "object", "properties": {}})
}

/// The same value in another type.
pub(crate) fn value(json: &Json) -> serde_json::Value {
    use serde_json::Value;
    match json {
        Json::Null => Value::Null,
        Json::Bool(b) => Value::Bool(*b),
        Json::Int(i) => match (i64::try_from(*i), u64::try_from(*i)) {
            (Ok(i), _) => Value::from(i),
            (_, Ok(u)) => Value::from(u),
            _ => Value::from(*i as f64),
        },
        Json::Float(f) => Value::from(*f),
        Json::String(text) => Value::from(text.as_str()),
        Json::Array(items) => Value::Array(items.iter().map(value).collect()),
        Json::Object(entries) => {
            Value::Object(entries.iter().map(|(k, v)| (k.clone(), value(v))).collect())
        }
    }
}

/// Knowledge of the calls in an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum Calls {
    /// The model writes what it likes.
    #[default]
    Free,
    /// A grammar makes calls valid that begin with the format's marker.
    Strict,
    /// A grammar makes the answer calls.
    Forced,
}

/// Parser of an answer in a format that begins at `start`.
///
/// Without functions it finds reasoning alone. The arguments of forced calls are delivered as they come.
fn parser(
    format: Format,
    start: Start,
    functions: Vec<Function>,
    calls: Calls,
) -> Box<dyn AnswerParser> {
    match format {
        Format::Harmony => Box::new(Harmony::new(start, functions, calls)),
        _ => Box::new(CallParser::new(format, start, functions, calls)),
    }
}
