//! JSON documents with a limit on the number of their values: a value takes many times the bytes of
//! its text, so that a limit in bytes alone would bound little.

use std::cell::{Cell, RefCell};
use std::fmt;

use serde_core::de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use crate::error::{ApiError, ApiResult};

/// Maximum number of values in a body.
pub(crate) const MAX_VALUES: usize = 1 << 20;

/// Maximum number of numbers that are rounded, such as of `logit_bias`.
const MAX_INEXACT: usize = 1 << 12;

/// Fields whose parts may be rounded: they are floats.
const FLOATS: [&str; 1] = ["logit_bias"];

/// Parses the body of a request. Of equal keys the last value counts.
///
/// Numbers within arrays and objects must be integers or floats of 64 bits, since they may be parts of schemas and of
/// arguments: of others some digits would be lost.
///
/// # Errors
/// [`ApiError`] with status 400.
pub(crate) fn parse(body: &[u8]) -> ApiResult<Value> {
    if body.trim_ascii().is_empty() {
        return Err(ApiError::invalid("the body is empty, but must be a JSON object"));
    }
    let inexact = inexact(body);
    if inexact.len() > MAX_INEXACT {
        let message = format!("the body has more than {MAX_INEXACT} numbers beyond 64 bits");
        return Err(ApiError::invalid(message));
    }
    let state = State {
        left: Cell::new(MAX_VALUES),
        numbers: Cell::new(0),
        inexact: &inexact,
        field: RefCell::default(),
        wrong: RefCell::default(),
    };
    let mut reader = serde_json::Deserializer::from_slice(body);
    let value = Bounded(&state, 0).deserialize(&mut reader);
    let value = value.and_then(|value| reader.end().map(|()| value));
    let value = value.map_err(|e| ApiError::invalid(format!("the body is not valid JSON: {e}")))?;
    match state.wrong.take() {
        Some((field, number)) => {
            let message =
                format!("has the number {number}, of which 64 bits don't hold all digits");
            Err(ApiError::field(field, message))
        }
        None => Ok(value),
    }
}

/// A number's sign, its digits without zeros at both ends, and the power of ten behind them.
fn normal(text: &str) -> Option<(bool, String, i64)> {
    let (negative, text) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all = format!("{whole}{fraction}");
    let digits = all.trim_end_matches('0');
    let exponent = exponent.parse::<i64>().ok()?;
    let power = exponent.checked_add((all.len() - digits.len()) as i64 - fraction.len() as i64)?;
    match digits.trim_start_matches('0') {
        "" => Some((negative, String::new(), 0)),
        digits => Some((negative, digits.to_owned(), power)),
    }
}

/// Indices of the numbers of a document that 64 bits don't hold exactly, with their texts.
fn inexact(body: &[u8]) -> Vec<(usize, &str)> {
    /// Digits that a float always holds.
    const HELD: usize = 15;
    let (mut all, mut n, mut at) = (Vec::new(), 0, 0);
    while let Some(&byte) = body.get(at).filter(|_| all.len() <= MAX_INEXACT) {
        match byte {
            b'"' => {
                at += 1;
                while body.get(at).is_some_and(|&b| b != b'"') {
                    at += if body[at] == b'\\' { 2 } else { 1 };
                }
                at += 1;
            }
            b'-' | b'0'..=b'9' => {
                let is_part = |b: &u8| matches!(b, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E');
                let length = body[at..].iter().take_while(|b| is_part(b)).count();
                let text = std::str::from_utf8(&body[at..at + length]).unwrap_or_default();
                // An exponent may be beyond what floats have.
                if (length > HELD || text.contains(['e', 'E'])) && !is_held(text) {
                    all.push((n, text));
                }
                (n, at) = (n + 1, at + length);
            }
            _ => at += 1,
        }
    }
    all
}

/// The first float of the text of a JSON document that is rounded when it is read for a template, where integers are
/// exact.
pub(crate) fn rounded(text: &str) -> Option<&str> {
    let is_float = |text: &&str| text.contains(['.', 'e', 'E']);
    inexact(text.as_bytes()).into_iter().map(|(_, text)| text).find(is_float)
}

/// True for a number that is the same once it was read.
fn is_held(text: &str) -> bool {
    match serde_json::from_str::<Number>(text) {
        Ok(number) if number.is_f64() => {
            let float = number.as_f64().unwrap_or_default();
            normal(text) == normal(&number.to_string()) || is_near(text, float)
        }
        Ok(number) => normal(text) == normal(&number.to_string()),
        // That is another error.
        Err(_) => true,
    }
}

/// True if a number of up to 17 digits is not farther from a float than half of its last digit: programs write so many
/// digits, and two such numbers may be as near as each other.
fn is_near(text: &str, float: f64) -> bool {
    const MOST: usize = 17;
    let Some((negative, digits, power)) = normal(text) else { return false };
    if digits.is_empty() || digits.len() > MOST || negative != float.is_sign_negative() {
        return false;
    }
    // With one digit more.
    let exact = format!("{:.*e}", digits.len(), float.abs());
    let Some((mantissa, exponent)) = exact.split_once('e') else { return false };
    let (Ok(ours), Ok(theirs)) = (digits.parse::<i64>(), mantissa.replace('.', "").parse::<i64>())
    else {
        return false;
    };
    let places = power + digits.len() as i64 - 1;
    exponent.parse() == Ok(places) && (10 * ours - theirs).abs() <= 5
}

/// What is known of a document while it is read.
struct State<'s> {
    /// Values that it may still have.
    left: Cell<usize>,
    /// Numbers so far.
    numbers: Cell<usize>,
    inexact: &'s [(usize, &'s str)],
    /// The body's field that is read.
    field: RefCell<String>,
    /// The first number that would be rounded, behind its field.
    wrong: RefCell<Option<(String, String)>>,
}

/// Value, by its depth, whose number of parts is counted down.
#[derive(Clone, Copy)]
struct Bounded<'c>(&'c State<'c>, usize);

impl Bounded<'_> {
    fn take<E: Error>(&self) -> Result<(), E> {
        match self.0.left.get().checked_sub(1) {
            Some(left) => {
                self.0.left.set(left);
                Ok(())
            }
            None => Err(E::custom(format_args!("it has more than {MAX_VALUES} values"))),
        }
    }

    /// Takes note of a number.
    fn number(self) {
        let Bounded(state, depth) = self;
        let n = state.numbers.replace(state.numbers.get() + 1);
        // There are none, as a rule.
        let Ok(found) = state.inexact.binary_search_by_key(&n, |(at, _)| *at) else { return };
        let text = state.inexact[found].1;
        let field = state.field.borrow();
        if depth > 1 && !FLOATS.contains(&field.as_str()) {
            let mut wrong = state.wrong.borrow_mut();
            let short: String = text.chars().take(40).collect();
            let dots = if short.len() < text.len() { "..." } else { "" };
            wrong.get_or_insert_with(|| (field.clone(), format!("{short}{dots}")));
        }
    }

    /// A part of it.
    fn part(self) -> Self {
        Bounded(self.0, self.1 + 1)
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
        self.number();
        Ok(n.into())
    }

    fn visit_u64<E>(self, n: u64) -> Result<Value, E> {
        self.number();
        Ok(n.into())
    }

    fn visit_f64<E>(self, x: f64) -> Result<Value, E> {
        self.number();
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
        while let Some(item) = from.next_element_seed(self.part())? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = from.next_key::<String>()? {
            if self.1 == 0 {
                self.0.field.replace(key.clone());
            }
            map.insert(key, from.next_value_seed(self.part())?);
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

    /// Those that programs write are the shortest that give the float.
    #[test]
    fn shortest_floats_are_held() {
        // Bits of floats, spread by Knuth's multiplier.
        for i in 1..20_000u64 {
            let float = f64::from_bits(i.wrapping_mul(6_364_136_223_846_793_005));
            if float.is_finite() {
                let (plain, exponent) = (format!("{float:?}"), format!("{float:e}"));
                assert!(is_held(&plain) && is_held(&exponent), "{plain}");
            }
        }
    }

    #[test]
    fn numbers_that_would_be_rounded_are_refused_within_fields() {
        for number in [
            "0",
            "-0.0",
            "1.50",
            "1E5",
            "0.30000000000000004",
            "18446744073709551615",
            "1e20",
            "-9223372036854775808",
            "9007199254740993",
            "1e300",
            "2.2250738585072014e-308",
            "0.40159101448507484",
            "922799.9627007681",
            "9e75",
            "1e-30",
            "236916585474624.13",
            "236916585474624.12",
        ] {
            let body = format!(r#"{{"x": "1e400 \"", "tools": [{{"const": [1, {number}]}}, 5]}}"#);
            assert!(parse(body.as_bytes()).is_ok(), "{number}");
        }
        for number in [
            "18446744073709551616",
            "-9223372036854775809",
            "9007199254740993.0",
            "236916585474624.14",
            "1e-400",
            "12345678901234567890123",
            "1.00000000000000000001",
            "0.1234567890123456789",
        ] {
            let body = format!(r#"{{"x": "1e400 \"", "tools": [{{"const": [1, {number}]}}, 5]}}"#);
            let e = parse(body.as_bytes()).unwrap_err();
            assert_eq!(e.param.as_deref(), Some("tools"), "{number}");
            assert!(e.message.contains(&format!("has the number {number}, ")), "{}", e.message);
            // These are floats.
            for body in [
                format!(r#"{{"a": [1], "temperature": {number}}}"#),
                format!(r#"{{"logit_bias": {{"5": {number}}}, "a": [1]}}"#),
            ] {
                assert!(parse(body.as_bytes()).is_ok(), "{body}");
            }
        }
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
