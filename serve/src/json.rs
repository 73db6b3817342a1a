//! Bodies of requests: JSON with bounds, and fields with their types.

use std::fmt;
use std::ops::RangeInclusive;

use serde_json::value::Value;
use serde_json::{Map, Number};
use teff_runtime::template::Json;

use crate::error::{ApiError, ApiResult};

mod bounded;

pub(crate) use bounded::{MAX_VALUES, parse, rounded};

/// Fields of a JSON object. `null` counts as absent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fields<'a> {
    map: &'a Map<String, Value>,
    /// Name of the object in errors, with a dot behind it; empty for the body.
    path: &'a str,
}

/// The type of a value, in the words of JSON.
pub(crate) fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

impl<'a> Fields<'a> {
    /// Fields of a body.
    pub(crate) fn of_body(body: &'a Value) -> ApiResult<Fields<'a>> {
        match body {
            Value::Object(map) => Ok(Fields { map, path: "" }),
            other => Err(ApiError::invalid(format!(
                "the body must be a JSON object, but is {}",
                type_name(other)
            ))),
        }
    }

    /// Fields of an object within the body; `path` is its name with a dot behind it.
    pub(crate) fn within(map: &'a Map<String, Value>, path: &'a str) -> Fields<'a> {
        Fields { map, path }
    }

    /// Full name of a field.
    pub(crate) fn name(&self, name: &str) -> String {
        format!("{}{name}", self.path)
    }

    /// Error of a field.
    pub(crate) fn error(&self, name: &str, message: impl fmt::Display) -> ApiError {
        ApiError::field(self.name(name), message)
    }

    /// Error of a field whose value has another type.
    fn mismatch(&self, name: &str, wanted: &str, got: &Value) -> ApiError {
        self.error(name, format_args!("must be {wanted}, but is {}", type_name(got)))
    }

    /// A field's value.
    pub(crate) fn get(&self, name: &str) -> Option<&'a Value> {
        self.map.get(name).filter(|value| !value.is_null())
    }

    /// A boolean.
    pub(crate) fn bool(&self, name: &str) -> ApiResult<Option<bool>> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::Bool(b)) => Ok(Some(*b)),
            Some(other) => Err(self.mismatch(name, "a boolean", other)),
        }
    }

    /// A string.
    pub(crate) fn str(&self, name: &str) -> ApiResult<Option<&'a str>> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(self.mismatch(name, "a string", other)),
        }
    }

    /// An array.
    pub(crate) fn array(&self, name: &str) -> ApiResult<Option<&'a [Value]>> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::Array(items)) => Ok(Some(items)),
            Some(other) => Err(self.mismatch(name, "an array", other)),
        }
    }

    /// An object.
    pub(crate) fn object(&self, name: &str) -> ApiResult<Option<&'a Map<String, Value>>> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::Object(map)) => Ok(Some(map)),
            Some(other) => Err(self.mismatch(name, "an object", other)),
        }
    }

    /// A number in a range.
    pub(crate) fn number(&self, name: &str, range: RangeInclusive<f64>) -> ApiResult<Option<f32>> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let Some(x) = value.as_f64().filter(|_| value.is_number()) else {
            return Err(self.mismatch(name, "a number", value));
        };
        if !range.contains(&x) {
            let (low, high) = (range.start(), range.end());
            let allowed = format!("must be from {low} to {high}, but is {x}");
            return Err(self.error(name, allowed));
        }
        Ok(Some(x as f32))
    }

    /// A whole number in a range; one written with a fraction of zero, such as 2.0, is one too.
    pub(crate) fn integer(&self, name: &str, range: RangeInclusive<i64>) -> ApiResult<Option<i64>> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let Value::Number(number) = value else {
            return Err(self.mismatch(name, "a whole number", value));
        };
        let (low, high) = (range.start(), range.end());
        match whole(number) {
            Some(n) if range.contains(&n) => Ok(Some(n)),
            Some(_) => {
                Err(self.error(name, format_args!("must be from {low} to {high}, but is {number}")))
            }
            None => Err(self.error(name, format_args!("must be a whole number, but is {number}"))),
        }
    }

    /// A number of things.
    pub(crate) fn count(
        &self,
        name: &str,
        range: RangeInclusive<usize>,
    ) -> ApiResult<Option<usize>> {
        let bound = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        let n = self.integer(name, bound(*range.start())..=bound(*range.end()))?;
        Ok(n.and_then(|n| usize::try_from(n).ok()))
    }
}

/// The whole number that a JSON number is; numbers beyond 64 bits are the nearest that fit.
pub(crate) fn whole(number: &Number) -> Option<i64> {
    if let Some(n) = number.as_i64() {
        return Some(n);
    }
    if number.is_u64() {
        return Some(i64::MAX);
    }
    let x = number.as_f64()?;
    // The conversion saturates.
    (x.fract() == 0.0).then_some(x as i64)
}

/// The JSON number of the fewest digits that give this number again; 0 for what is not finite.
pub(crate) fn decimal(x: f32) -> Value {
    let digits: f64 = x.to_string().parse().unwrap_or_default();
    Number::from_f64(digits).map_or(Value::from(0), Value::Number)
}

/// The value for a template.
pub(crate) fn to_template(value: &Value) -> Json {
    match value {
        Value::Null => Json::Null,
        Value::Bool(b) => Json::Bool(*b),
        Value::Number(n) => match (n.as_i64(), n.as_u64(), n.as_f64()) {
            (Some(n), _, _) => Json::Int(n.into()),
            (None, Some(n), _) => Json::Int(n.into()),
            (None, None, x) => Json::Float(x.unwrap_or_default()),
        },
        Value::String(text) => Json::String(text.clone()),
        Value::Array(items) => Json::Array(items.iter().map(to_template).collect()),
        Value::Object(map) => fields_to_template(map),
    }
}

/// The object for a template.
pub(crate) fn fields_to_template(map: &Map<String, Value>) -> Json {
    Json::Object(map.iter().map(|(key, value)| (key.clone(), to_template(value))).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn null_is_absent_and_types_are_checked() {
        let body = json!({
            "a": null, "b": true, "s": "x", "l": [], "o": {}, "n": 2.0, "f": 2.5, "big": 1e300,
            "u": u64::MAX
        });
        let f = Fields::of_body(&body).unwrap();
        assert_eq!((f.bool("a"), f.bool("zzz"), f.bool("b")), (Ok(None), Ok(None), Ok(Some(true))));
        assert_eq!(f.str("s"), Ok(Some("x")));
        assert_eq!(f.integer("n", 0..=9), Ok(Some(2)));
        assert_eq!(f.count("n", 0..=9), Ok(Some(2)));
        assert_eq!(f.integer("big", 0..=i64::MAX), Ok(Some(i64::MAX)));
        assert_eq!(f.integer("u", 0..=i64::MAX), Ok(Some(i64::MAX)));
        assert_eq!(f.number("f", 0.0..=3.0), Ok(Some(2.5)));
        for (e, says) in [
            (f.bool("s").unwrap_err(), "'s': must be a boolean, but is a string"),
            (f.str("b").unwrap_err(), "'b': must be a string, but is a boolean"),
            (f.array("o").unwrap_err(), "'o': must be an array, but is an object"),
            (f.object("l").unwrap_err(), "'l': must be an object, but is an array"),
            (f.number("s", 0.0..=1.0).unwrap_err(), "'s': must be a number, but is a string"),
            (f.number("f", 0.0..=1.0).unwrap_err(), "'f': must be from 0 to 1, but is 2.5"),
            (f.integer("f", 0..=9).unwrap_err(), "'f': must be a whole number, but is 2.5"),
            (f.integer("n", 3..=9).unwrap_err(), "'n': must be from 3 to 9, but is 2.0"),
        ] {
            assert_eq!((e.status.as_u16(), e.message.as_str()), (400, says));
        }
        assert!(Fields::of_body(&json!([])).unwrap_err().message.contains("an array"));
    }

    #[test]
    fn numbers_have_no_more_digits_than_they_need() {
        for x in [0.8f32, 1.0, -0.00013614634, 1e-30, f32::MAX, f32::NAN] {
            let text = decimal(x).to_string();
            assert!(x.is_nan() || text.parse::<f32>() == Ok(x), "{text}");
        }
        assert_eq!(decimal(0.8).to_string(), "0.8");
    }

    #[test]
    fn values_for_templates_keep_the_order_of_keys() {
        let value =
            parse(br#"{"z": 1, "a": [1.5, -2, 18446744073709551615], "z2": null}"#).unwrap();
        let text = r#"{"z": 1, "a": [1.5, -2, 18446744073709551615], "z2": null}"#;
        assert_eq!(to_template(&value).to_string(), text);
    }
}
