//! JSON documents with a limit on the number of their values: a value takes many times the bytes of
//! its text, so that a limit in bytes alone would bound little.

use std::cell::Cell;
use std::fmt;

use serde_core::de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use crate::error::{ApiError, ApiResult};

/// Maximum number of values in a body.
pub(crate) const MAX_VALUES: usize = 1 << 20;

/// Parses the body of a request. Of equal keys the last value counts.
///
/// # Errors
/// [`ApiError`] with status 400.
pub(crate) fn parse(body: &[u8]) -> ApiResult<Value> {
    if body.trim_ascii().is_empty() {
        return Err(ApiError::invalid("the body is empty, but must be a JSON object"));
    }
    let left = Cell::new(MAX_VALUES);
    let mut reader = serde_json::Deserializer::from_slice(body);
    let value = Bounded(&left).deserialize(&mut reader);
    let value = value.and_then(|value| reader.end().map(|()| value));
    value.map_err(|e| ApiError::invalid(format!("the body is not valid JSON: {e}")))
}

/// Value whose number of parts is counted down.
#[derive(Clone, Copy)]
struct Bounded<'c>(&'c Cell<usize>);

impl Bounded<'_> {
    fn take<E: Error>(&self) -> Result<(), E> {
        match self.0.get().checked_sub(1) {
            Some(left) => {
                self.0.set(left);
                Ok(())
            }
            None => Err(E::custom(format_args!("it has more than {MAX_VALUES} values"))),
        }
    }
}

impl<'de> DeserializeSeed<'de> for Bounded<'_> {
    type Value = Value;

    fn deserialize<D: serde_core::Deserializer<'de>>(self, from: D) -> Result<Value, D::Error> {
        self.take()?;
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Bounded<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, b: bool) -> Result<Value, E> {
        Ok(Value::Bool(b))
    }

    fn visit_i64<E>(self, n: i64) -> Result<Value, E> {
        Ok(n.into())
    }

    fn visit_u64<E>(self, n: u64) -> Result<Value, E> {
        Ok(n.into())
    }

    fn visit_f64<E>(self, x: f64) -> Result<Value, E> {
        Ok(Number::from_f64(x).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::String(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Value, E> {
        Ok(Value::String(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = from.next_element_seed(self)? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = from.next_key::<String>()? {
            map.insert(key, from.next_value_seed(self)?);
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn documents() {
        let text = br#" {"a": [1, -2, 0.5, true, null, "\u00e9"], "b": {"c": 1}, "b": 3} "#;
        assert_eq!(parse(text).unwrap(), json!({"a": [1, -2, 0.5, true, null, "é"], "b": 3}));
    }

    #[test]
    fn what_is_no_json_is_refused() {
        let nested = "[".repeat(100_000);
        let many = format!("[{}0]", "0,".repeat(MAX_VALUES));
        let bad: [&[u8]; 10] = [
            b"",
            b" \n",
            b"{",
            b"{\"a\": NaN}",
            b"{\"a\": 1} x",
            b"\xff",
            b"{\"a\": \"\xff\"}",
            b"{\"a\": 1e999}",
            nested.as_bytes(),
            many.as_bytes(),
        ];
        for body in bad {
            let e = parse(body).unwrap_err();
            assert_eq!((e.status.as_u16(), e.kind), (400, "invalid_request_error"));
        }
        assert!(parse(many.as_bytes()).unwrap_err().message.contains("values"));
    }
}
