//! JSON as a value: what templates are given.

use std::borrow::Cow;
use std::fmt;
use std::rc::Rc;

use super::dict::Dict;
use super::error::Res;
use super::limits::Meter;
use super::value::Value;
use crate::json::{Event, JsonError, JsonErrorKind, Reader};

/// A JSON value. Objects keep the order of their keys, as templates write them.
///
/// The variants are complete: a new one would be a breaking change.
///
/// ```
/// use teff_runtime::template::Json;
///
/// let tool = Json::parse(br#"{"name": "add", "strict": true}"#)?;
/// assert_eq!(tool.get("name").and_then(Json::as_str), Some("add"));
/// assert_eq!(tool.to_string(), r#"{"name": "add", "strict": true}"#);
/// # Ok::<(), teff_runtime::json::JsonError>(())
/// ```
#[derive(Clone, PartialEq, Debug, Default)]
pub enum Json {
    /// `null`
    #[default]
    Null,
    /// `true` or `false`
    Bool(bool),
    /// A number without fraction and exponent.
    Int(i128),
    /// Any other number; also infinities and NaN, which JSON itself has not.
    Float(f64),
    /// A string.
    String(String),
    /// An array.
    Array(Vec<Json>),
    /// An object, in the order of its keys.
    Object(Vec<(String, Json)>),
}

impl Json {
    /// Parses a document. Of equal keys the last value counts, at the place of the first, as in
    /// Python.
    ///
    /// # Errors
    /// [`JsonError`], also for nesting beyond [`crate::json::MAX_DEPTH`] and for integers of more
    /// than 127 bits.
    pub fn parse(document: &[u8]) -> Result<Json, JsonError> {
        let mut reader = Reader::new(document);
        // Open arrays and objects, with the key that each one's next value has.
        let mut open: Vec<(Json, Option<String>)> = Vec::new();
        let mut done = Json::Null;
        while let Some(event) = reader.next()? {
            let value = match event {
                Event::ObjectStart => {
                    open.push((Json::Object(Vec::new()), None));
                    continue;
                }
                Event::ArrayStart => {
                    open.push((Json::Array(Vec::new()), None));
                    continue;
                }
                Event::Key(key) => {
                    if let Some((_, next)) = open.last_mut() {
                        *next = Some(key.to_cow().into_owned());
                    }
                    continue;
                }
                Event::ObjectEnd | Event::ArrayEnd => match open.pop() {
                    Some((Json::Object(entries), _)) => Json::Object(unique(entries)),
                    Some((value, _)) => value,
                    None => Json::Null,
                },
                Event::String(text) => Json::String(text.to_cow().into_owned()),
                Event::Number(text) => number(text).ok_or(JsonError {
                    offset: reader.offset().saturating_sub(text.len()),
                    kind: JsonErrorKind::BadNumber,
                })?,
                Event::Bool(b) => Json::Bool(b),
                Event::Null => Json::Null,
            };
            match open.last_mut() {
                None => done = value,
                Some((Json::Array(items), _)) => items.push(value),
                Some((Json::Object(entries), key)) => {
                    entries.push((key.take().unwrap_or_default(), value));
                }
                Some(_) => {}
            }
        }
        Ok(done)
    }

    /// The value of a key; `None` for what is no object.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Json> {
        match self {
            Json::Object(entries) => entries.iter().find(|(k, _)| k == key).map(|(_, v)| v),
            _ => None,
        }
    }

    /// The text of a string.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Json::String(text) => Some(text),
            _ => None,
        }
    }

    /// True for `null`.
    #[must_use]
    pub fn is_null(&self) -> bool {
        matches!(self, Json::Null)
    }

    /// The value for a template.
    pub(super) fn to_value(&self, meter: &Meter<'_>, depth: usize) -> Res<Value> {
        meter.tick(1)?;
        meter.depth(depth)?;
        match self {
            Json::Null => Ok(Value::None),
            Json::Bool(b) => Ok(Value::Bool(*b)),
            Json::Int(n) => Ok(Value::Int(*n)),
            Json::Float(f) => Ok(Value::Float(*f)),
            Json::String(text) => meter.str(text),
            Json::Array(items) => array(items, meter, depth),
            Json::Object(entries) => {
                let dict = object(entries.iter().map(|(k, v)| (k.as_str(), v)), meter, depth)?;
                Ok(Value::Dict(Rc::new(dict)))
            }
        }
    }
}

#[inline(never)]
fn array(items: &[Json], meter: &Meter<'_>, depth: usize) -> Res<Value> {
    let mut values = meter.items(items.len())?;
    for item in items {
        values.push(item.to_value(meter, depth + 1)?);
    }
    meter.list(values)
}

/// A dictionary of values.
#[inline(never)]
pub(super) fn object<'j>(
    entries: impl Iterator<Item = (&'j str, &'j Json)>,
    meter: &Meter<'_>,
    depth: usize,
) -> Res<Dict> {
    let mut dict = Dict::new(meter)?;
    for (key, value) in entries {
        dict.set(meter.str(key)?, value.to_value(meter, depth + 1)?, meter)?;
    }
    Ok(dict)
}

/// Entries without those whose key comes again, at the place of the first.
fn unique(entries: Vec<(String, Json)>) -> Vec<(String, Json)> {
    let mut places = std::collections::HashMap::with_capacity(entries.len());
    let mut kept: Vec<(String, Json)> = Vec::with_capacity(entries.len());
    for (key, value) in entries {
        match places.get(&key).and_then(|&at: &usize| kept.get_mut(at)) {
            Some(entry) => entry.1 = value,
            None => {
                places.insert(key.clone(), kept.len());
                kept.push((key, value));
            }
        }
    }
    kept
}

/// A number; `None` for an integer that is too large.
fn number(text: &str) -> Option<Json> {
    match text.contains(['.', 'e', 'E']) {
        true => text.parse().ok().map(Json::Float),
        false => text.parse().ok().map(Json::Int),
    }
}

impl From<bool> for Json {
    fn from(b: bool) -> Json {
        Json::Bool(b)
    }
}

impl From<i64> for Json {
    fn from(n: i64) -> Json {
        Json::Int(n.into())
    }
}

impl From<f64> for Json {
    fn from(f: f64) -> Json {
        Json::Float(f)
    }
}

impl From<&str> for Json {
    fn from(text: &str) -> Json {
        Json::String(text.to_owned())
    }
}

impl From<String> for Json {
    fn from(text: String) -> Json {
        Json::String(text)
    }
}

impl From<Cow<'_, str>> for Json {
    fn from(text: Cow<'_, str>) -> Json {
        Json::String(text.into_owned())
    }
}

impl<T: Into<Json>> From<Vec<T>> for Json {
    fn from(items: Vec<T>) -> Json {
        Json::Array(items.into_iter().map(Into::into).collect())
    }
}

impl<K: Into<String>, const N: usize> From<[(K, Json); N]> for Json {
    fn from(entries: [(K, Json); N]) -> Json {
        Json::Object(entries.into_iter().map(|(k, v)| (k.into(), v)).collect())
    }
}

/// The document on one line, as Python's `json.dumps(.., ensure_ascii=False)` writes it.
impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Json::Null => f.write_str("null"),
            Json::Bool(b) => b.fmt(f),
            Json::Int(n) => n.fmt(f),
            Json::Float(n) if n.is_nan() => f.write_str("NaN"),
            Json::Float(n) if n.is_infinite() => {
                f.write_str(if *n > 0.0 { "Infinity" } else { "-Infinity" })
            }
            Json::Float(n) => f.write_str(&super::number::float_repr(*n)),
            Json::String(text) => quote(text, f),
            Json::Array(items) => {
                f.write_str("[")?;
                for (at, item) in items.iter().enumerate() {
                    f.write_str(if at > 0 { ", " } else { "" })?;
                    item.fmt(f)?;
                }
                f.write_str("]")
            }
            Json::Object(entries) => {
                f.write_str("{")?;
                for (at, (key, value)) in entries.iter().enumerate() {
                    f.write_str(if at > 0 { ", " } else { "" })?;
                    quote(key, f)?;
                    f.write_str(": ")?;
                    value.fmt(f)?;
                }
                f.write_str("}")
            }
        }
    }
}

fn quote(text: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.write_str("\"")?;
    for c in text.chars() {
        match c {
            '"' => f.write_str("\\\"")?,
            '\\' => f.write_str("\\\\")?,
            '\n' => f.write_str("\\n")?,
            '\r' => f.write_str("\\r")?,
            '\t' => f.write_str("\\t")?,
            '\u{8}' => f.write_str("\\b")?,
            '\u{c}' => f.write_str("\\f")?,
            c if c < ' ' => write!(f, "\\u{:04x}", u32::from(c))?,
            c => fmt::Write::write_char(f, c)?,
        }
    }
    f.write_str("\"")
}
