//! Numbers that are multiples of a step which isn't a power of ten: a schema of llguidance's own, whose lexer
//! counts remainders.

use serde_json::{Map, Value};

use super::super::GrammarError;
use super::decimal::{Bound, Decimal, EXACT_DIGITS, Range};
use super::graph::Numbers;

/// Digits behind the point of a step.
const MAX_PLACES: usize = 6;

/// Largest step, without its point: its remainders are states of the lexer.
const MAX_STEP: f64 = 1_000.0;

/// Bounds the range to numbers that floats hold exactly, and refuses steps that they don't.
pub(super) fn bounded(range: &mut Range, step: &Decimal, at: &str) -> Result<(), GrammarError> {
    let text = step.to_string();
    let places = text.split_once('.').map_or(0, |(_, fraction)| fraction.len());
    let unsupported = |reason: String| {
        let (keyword, at) = ("multipleOf".to_string(), at.to_string());
        Err(GrammarError::Unsupported { keyword, at, reason })
    };
    if places > MAX_PLACES || !is_read_exactly(&text, places) {
        return unsupported(format!(
            "{text} isn't an integer up to 1000, such a number of hundredths and the like, or a power of ten"
        ));
    }
    let most = "9".repeat(EXACT_DIGITS - MAX_PLACES);
    let bound = |text: &str| Decimal::read(text).map(|value| Bound { value, excluded: false });
    if let (Some(low), Some(high)) = (bound(&format!("-{most}")), bound(&most)) {
        range.raise(&low);
        range.lower(&high);
    }
    Ok(())
}

/// True if llguidance gets the step's digits from the float that it reads: it multiplies by ten until the number is
/// whole, and has 32 bits for it.
fn is_read_exactly(text: &str, places: usize) -> bool {
    let Ok(mut value) = text.parse::<f64>() else { return false };
    let mut shifts = 0;
    while value.fract() != 0.0 && shifts <= places {
        value *= 10.0;
        shifts += 1;
    }
    let digits = text.replace('.', "");
    let digits = digits.trim_start_matches('0');
    shifts == places && value <= MAX_STEP && format!("{value}") == digits
}

/// A schema for llguidance.
pub(super) fn schema(numbers: &Numbers) -> Value {
    let mut map = Map::new();
    let kind = if numbers.range.integer { "integer" } else { "number" };
    map.insert("type".into(), kind.into());
    let mut put = |name: &str, value: &Decimal| {
        if let Ok(number) = serde_json::from_str::<Value>(&value.to_string()) {
            map.insert(name.into(), number);
        }
    };
    let (mut low, mut high) = (numbers.range.low.clone(), numbers.range.high.clone());
    // llguidance writes all places of the step, and takes no zero behind a bound: 0.50 is beyond 0.5. (Bounds
    // from 0 up are below what has more places.)
    if let Some(step) = numbers.multiple.as_ref().filter(|step| !step.is_integer()) {
        let behind = |bound: &Bound| bound.value.behind_last_multiple(step, bound.excluded);
        let moved = |value| Bound { value, excluded: false };
        high = high.map(|bound| behind(&bound).map_or(bound, moved));
        let negative = low.as_ref().filter(|low| !low.value.is_zero() && !low.value.is_positive());
        let mirrored = negative.map(|low| Bound { value: low.value.negated(), ..low.clone() });
        if let Some(value) = mirrored.as_ref().and_then(behind) {
            low = Some(moved(value.negated()));
        }
    }
    if let Some(low) = &low {
        put(if low.excluded { "exclusiveMinimum" } else { "minimum" }, &low.value);
    }
    if let Some(high) = &high {
        put(if high.excluded { "exclusiveMaximum" } else { "maximum" }, &high.value);
    }
    if let Some(step) = &numbers.multiple {
        put("multipleOf", step);
    }
    let options = serde_json::json!({"whitespace_flexible": false});
    map.insert("x-guidance".into(), options);
    Value::Object(map)
}
