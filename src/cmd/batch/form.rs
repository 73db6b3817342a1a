//! Form of a line's text: what its members say that the text is held to.

use teff::runtime::json::Text;

use super::line::{Value, refused};

/// Names of the members.
pub(super) const NAMES: [&str; 4] = ["response_format", "json_schema", "regex", "grammar"];

/// What a text is held to.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(in crate::cmd) enum Source {
    /// JSON that this schema allows.
    JsonSchema(String),
    /// Any JSON object.
    JsonObject,
    /// Text that this regular expression matches.
    Regex(String),
    /// Text of this grammar.
    Grammar(String),
}

/// Form of a line's text, in place of the options'.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Form {
    /// Any text.
    Free,
    /// Text that is held to a form, and the member that says so.
    Held(Source, String),
}

/// The form that a line's members ask for; `None` for that of the options. Of equal names the last counts.
pub(super) fn read(members: &[(Text<'_>, Value<'_>)]) -> Result<Option<Form>, String> {
    let mut found: Option<(&str, Form)> = None;
    for name in NAMES {
        let member = members.iter().rev().find(|(key, _)| key.is(name));
        let Some(value) = member.map(|(_, value)| value).filter(|v| **v != Value::Null) else {
            continue;
        };
        let source = match (name, value) {
            ("response_format", value) => response_format(value)?,
            ("json_schema", value) => Some(schema(name, value)?),
            ("regex", Value::String(text)) => Some(Source::Regex(text.to_cow().into_owned())),
            // Programs of llama.cpp's kind send an empty grammar for none.
            ("grammar", Value::String(text)) if text.is("") => continue,
            ("grammar", Value::String(text)) => Some(Source::Grammar(text.to_cow().into_owned())),
            (name, value) => return Err(refused(name, value, "a text")),
        };
        if let Some((other, _)) = found {
            return Err(format!("{other} and {name} both say what the text is: leave one out"));
        }
        let form = source.map_or(Form::Free, |source| Form::Held(source, name.to_owned()));
        found = Some((name, form));
    }
    Ok(found.map(|(_, form)| form))
}

/// A schema: an object, a boolean, or the text of one.
fn schema(name: &str, value: &Value<'_>) -> Result<Source, String> {
    match value {
        Value::Object(_) | Value::Bool(_) => {
            let mut text = String::new();
            value.write(&mut text);
            Ok(Source::JsonSchema(text))
        }
        Value::String(text) => Ok(Source::JsonSchema(text.to_cow().into_owned())),
        other => Err(refused(name, other, "a JSON schema, which is an object")),
    }
}

/// The form that `response_format` asks for, as in requests to a server; `None` for any text.
fn response_format(value: &Value<'_>) -> Result<Option<Source>, String> {
    let allowed = "an object whose type is text, json_object or json_schema";
    let kind = match value.get("type") {
        Some(Value::String(kind)) => kind.to_cow().into_owned(),
        _ => return Err(refused("response_format", value, allowed)),
    };
    let own = value.get("schema");
    let inner = value.get("json_schema").and_then(|inner| inner.get("schema"));
    let named = |name: &str, value: &Value<'_>| schema(&format!("response_format.{name}"), value);
    Ok(Some(match &*kind {
        "text" => return Ok(None),
        "json_object" => match own {
            Some(value) => named("schema", value)?,
            None => Source::JsonObject,
        },
        "json_schema" => match (inner, own, value.get("json_schema")) {
            (Some(value), ..) => named("json_schema.schema", value)?,
            // llama.cpp's place of it.
            (None, Some(value), _) => named("schema", value)?,
            // Without a schema any JSON will do.
            (None, None, Some(Value::Object(_))) => Source::JsonSchema("{}".into()),
            (None, None, Some(other)) => {
                return Err(refused("response_format.json_schema", other, "an object"));
            }
            (None, None, None) => {
                return Err("response_format.json_schema isn't there: it has the schema".into());
            }
        },
        _ => {
            let kind = value.get("type").map(Value::shown).unwrap_or_default();
            let allowed = "text, json_object or json_schema";
            return Err(format!("response_format.type is {kind}: it must be {allowed}"));
        }
    }))
}
