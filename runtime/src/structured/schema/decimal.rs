//! Numbers as JSON writes them, exactly, and expressions for ranges of them.

use core::cmp::Ordering;

/// Digits in front of the point that a number may have: it stays within what a 64-bit float holds.
pub(super) const MAX_DIGITS: usize = 300;

/// Digits that a 64-bit float tells apart: decimals with so many digits keep their order as floats.
pub(super) const EXACT_DIGITS: usize = 15;

/// A decimal number.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Decimal {
    negative: bool,
    /// Digits in front of the point, without leading zeros; empty for 0.
    whole: String,
    /// Digits behind the point, without trailing zeros.
    fraction: String,
}

impl Decimal {
    /// Reads a number of JSON; `None` beyond 10^300 and below 10^-300.
    pub(super) fn read(text: &str) -> Option<Decimal> {
        let (negative, text) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
        let exponent: i32 = exponent.parse().ok()?;
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let mut digits = format!("{whole}{fraction}");
        let mut point = i32::try_from(whole.len()).ok()?.checked_add(exponent)?;
        let most = MAX_DIGITS as i32;
        let empty = digits.bytes().all(|b| b == b'0');
        if empty {
            (digits, point) = (String::new(), 0);
        }
        let leading = digits.len() - digits.trim_start_matches('0').len();
        if !(-most..=most).contains(&(point - leading as i32)) {
            return None;
        }
        if point < 0 {
            digits.insert_str(0, &"0".repeat(point.unsigned_abs() as usize));
            point = 0;
        }
        let point = point as usize;
        if digits.len() < point {
            digits.push_str(&"0".repeat(point - digits.len()));
        }
        let (whole, fraction) = digits.split_at(point);
        Some(Decimal {
            negative: negative && !empty,
            whole: whole.trim_start_matches('0').to_string(),
            fraction: fraction.trim_end_matches('0').to_string(),
        })
    }

    pub(super) fn zero() -> Decimal {
        Decimal { negative: false, whole: String::new(), fraction: String::new() }
    }

    pub(super) fn is_zero(&self) -> bool {
        self.whole.is_empty() && self.fraction.is_empty()
    }

    pub(super) fn is_positive(&self) -> bool {
        !self.negative && !self.is_zero()
    }

    pub(super) fn is_integer(&self) -> bool {
        self.fraction.is_empty()
    }

    /// Number of digits from the first that isn't 0 to the last.
    pub(super) fn significant(&self) -> usize {
        let digits = format!("{}{}", self.whole, self.fraction);
        digits.trim_matches('0').len()
    }

    pub(super) fn negated(&self) -> Decimal {
        Decimal { negative: !self.negative && !self.is_zero(), ..self.clone() }
    }

    /// Order of the magnitudes.
    fn compare_magnitude(&self, other: &Decimal) -> Ordering {
        let lengths = self.whole.len().cmp(&other.whole.len());
        let wholes = lengths.then_with(|| self.whole.cmp(&other.whole));
        // Without trailing zeros, a fraction that goes on is larger.
        wholes.then_with(|| self.fraction.cmp(&other.fraction))
    }

    /// As a multiple of 10^-`scale`.
    fn scaled(&self, scale: usize) -> Option<i128> {
        let zeros = scale.checked_sub(self.fraction.len())?;
        let digits = format!("{}{}{}", self.whole, self.fraction, "0".repeat(zeros.min(64)));
        if digits.len() > 36 {
            return None;
        }
        let value: i128 = if digits.is_empty() { 0 } else { digits.parse().ok()? };
        Some(if self.negative { -value } else { value })
    }

    /// True if this is a multiple of `step`; false if it can't be told.
    pub(super) fn is_multiple_of(&self, step: &Decimal) -> bool {
        let scale = self.fraction.len().max(step.fraction.len());
        match (self.scaled(scale), step.scaled(scale)) {
            (Some(value), Some(step)) if step != 0 => value % step == 0,
            _ => false,
        }
    }

    /// The least common multiple; `None` if it is too large.
    pub(super) fn least_common_multiple(&self, other: &Decimal) -> Option<Decimal> {
        let scale = self.fraction.len().max(other.fraction.len());
        let (a, b) = (self.scaled(scale)?, other.scaled(scale)?);
        let (mut x, mut y) = (a, b);
        while y != 0 {
            (x, y) = (y, x % y);
        }
        let multiple = (a / x).checked_mul(b)?.checked_abs()?;
        Decimal::read(&format!("{multiple}e-{scale}"))
    }

    /// True if a multiple of `step` is between the bounds, which are part of the range.
    pub(super) fn any_multiple(step: &Decimal, low: &Decimal, high: &Decimal) -> bool {
        let scale = step.fraction.len().max(low.fraction.len()).max(high.fraction.len());
        match (step.scaled(scale), low.scaled(scale), high.scaled(scale)) {
            (Some(step), Some(low), Some(high)) if step > 0 => {
                low.div_euclid(step) * step == low || (low.div_euclid(step) + 1) * step <= high
            }
            _ => false,
        }
    }

    /// The number in the middle between the last multiple of `step` up to this (which is not counted if `excluded`)
    /// and the next one; `None` if it is too large.
    pub(super) fn behind_last_multiple(&self, step: &Decimal, excluded: bool) -> Option<Decimal> {
        let scale = self.fraction.len().max(step.fraction.len()) + 1;
        let (value, step) = (self.scaled(scale)?, step.scaled(scale).filter(|&step| step > 0)?);
        let value = if excluded { value.checked_sub(1)? } else { value };
        let between = value.div_euclid(step).checked_mul(step)?.checked_add(step / 2)?;
        Decimal::read(&format!("{between}e-{scale}"))
    }

    /// The exponent k if this is 10^-k, from 0 up.
    pub(super) fn negative_power_of_ten(&self) -> Option<usize> {
        match (self.whole.as_str(), self.fraction.trim_start_matches('0')) {
            ("1", "") => Some(0),
            ("", "1") => Some(self.fraction.len()),
            _ => None,
        }
    }
}

impl PartialOrd for Decimal {
    fn partial_cmp(&self, other: &Decimal) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Decimal {
    fn cmp(&self, other: &Decimal) -> Ordering {
        match (self.negative, other.negative) {
            (false, false) => self.compare_magnitude(other),
            (true, true) => other.compare_magnitude(self),
            (negative, _) => match negative {
                true => Ordering::Less,
                false => Ordering::Greater,
            },
        }
    }
}

impl core::fmt::Display for Decimal {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let whole = if self.whole.is_empty() { "0" } else { &self.whole };
        f.write_str(if self.negative { "-" } else { "" })?;
        f.write_str(whole)?;
        match self.fraction.is_empty() {
            true => Ok(()),
            false => write!(f, ".{}", self.fraction),
        }
    }
}

/// End of a range.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Bound {
    pub(super) value: Decimal,
    /// True if the value itself is not in the range.
    pub(super) excluded: bool,
}

/// Numbers between two bounds.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Range {
    pub(super) low: Option<Bound>,
    pub(super) high: Option<Bound>,
    /// True for integers only.
    pub(super) integer: bool,
    /// Most digits behind the point, at most.
    pub(super) places: Option<usize>,
}

impl Range {
    pub(super) fn raise(&mut self, bound: &Bound) {
        let tighter = |low: &Bound| (&bound.value, bound.excluded) > (&low.value, low.excluded);
        if self.low.as_ref().is_none_or(tighter) {
            self.low = Some(bound.clone());
        }
    }

    pub(super) fn lower(&mut self, bound: &Bound) {
        let tighter =
            |high: &Bound| (&bound.value, !bound.excluded) < (&high.value, !high.excluded);
        if self.high.as_ref().is_none_or(tighter) {
            self.high = Some(bound.clone());
        }
    }

    pub(super) fn contains(&self, value: &Decimal) -> bool {
        let low = self.low.as_ref().is_none_or(|b| match b.excluded {
            true => *value > b.value,
            false => *value >= b.value,
        });
        let high = self.high.as_ref().is_none_or(|b| match b.excluded {
            true => *value < b.value,
            false => *value <= b.value,
        });
        low && high && (!self.integer || value.is_integer())
    }

    /// True if no number is in both.
    pub(super) fn apart(&self, other: &Range) -> bool {
        let below = |a: &Range, b: &Range| match (&a.high, &b.low) {
            (Some(high), Some(low)) => {
                high.value < low.value
                    || (high.value == low.value && (high.excluded || low.excluded))
            }
            _ => false,
        };
        below(self, other) || below(other, self)
    }

    /// Expression for the numbers, without slashes; `None` if there are none.
    pub(super) fn expression(&self) -> Option<String> {
        let options = match self.integer || self.places == Some(0) {
            true => self.integers(),
            false => self.numbers(),
        };
        match options.as_slice() {
            [] => None,
            [one] => Some(one.clone()),
            _ => Some(format!("(?:{})", options.join("|"))),
        }
    }

    fn integers(&self) -> Vec<String> {
        let (low, high) = self.integer_bounds();
        let mut options = Vec::new();
        if low.negative {
            let nearest = if high.negative { high.whole.clone() } else { "1".to_string() };
            let digits = whole_range(&nearest, &low.whole);
            options.extend(digits.map(|digits| format!("-{digits}")));
        }
        if !high.negative {
            let first = if low.negative || low.is_zero() { "0" } else { &low.whole };
            let last = if high.is_zero() { "0" } else { &high.whole };
            options.extend(whole_range(first, last));
        }
        options
    }

    /// The smallest and the largest integer.
    pub(super) fn integer_bounds(&self) -> (Decimal, Decimal) {
        let most = Decimal { whole: "9".repeat(MAX_DIGITS), ..Decimal::zero() };
        let low = match &self.low {
            Some(bound) => ceiling(bound),
            None => most.negated(),
        };
        let high = match &self.high {
            Some(bound) => {
                let mirrored = Bound { value: bound.value.negated(), excluded: bound.excluded };
                ceiling(&mirrored).negated()
            }
            None => most,
        };
        (low, high)
    }

    fn numbers(&self) -> Vec<String> {
        if self.low.is_none() && self.high.is_none() && self.places.is_none() {
            let digits = MAX_DIGITS - 1;
            // With an exponent, fewer digits, so that the number is at most 10^308.
            return vec![
                format!(r"-?(?:0|[1-9][0-9]{{0,{digits}}})(?:\.[0-9]+)?"),
                r"-?(?:0|[1-9][0-9]{0,7})(?:\.[0-9]+)?[eE][+-]?(?:[0-9]{1,2}|[12][0-9]{2})"
                    .to_string(),
            ];
        }
        let zero = Bound { value: Decimal::zero(), excluded: false };
        let below = Bound { excluded: true, ..zero.clone() };
        let places = self.decimal_places();
        let mut options = Vec::new();
        // Negative numbers, mirrored: from the high bound, or from 0, to the low bound.
        if self.low.as_ref().is_none_or(|low| low.value.negative) {
            let mirror = |b: &Bound| Bound { value: b.value.negated(), excluded: b.excluded };
            let near = match &self.high {
                Some(high) if high.value.negative => mirror(high),
                _ => below,
            };
            let far = self.low.as_ref().map(mirror);
            let magnitudes = magnitudes(&near, far.as_ref(), places);
            options.extend(magnitudes.into_iter().map(|magnitude| format!("-{magnitude}")));
        }
        if self.high.as_ref().is_none_or(|high| !high.value.negative) {
            let near = match &self.low {
                Some(low) if !low.value.negative => low,
                _ => &zero,
            };
            options.extend(magnitudes(near, self.high.as_ref(), places));
        }
        options
    }

    /// Most digits behind the point: so many that floats still keep the order near the bounds.
    pub(super) fn decimal_places(&self) -> usize {
        let bounds = [&self.low, &self.high].into_iter().flatten();
        let whole = bounds.map(|b| b.value.whole.len()).max().unwrap_or(0);
        let places = EXACT_DIGITS.saturating_sub(whole);
        self.places.map_or(places, |most| most.min(places))
    }

    /// True if the bounds have no more digits than floats tell apart.
    pub(super) fn is_exact(&self) -> bool {
        let places = Range { places: None, ..self.clone() }.decimal_places();
        let bounds = [&self.low, &self.high].into_iter().flatten();
        let mut values = bounds.map(|b| &b.value);
        values.all(|v| v.significant() <= EXACT_DIGITS && v.fraction.len() <= places)
    }
}

/// The smallest integer at the bound or above it.
fn ceiling(bound: &Bound) -> Decimal {
    let value = &bound.value;
    let truncated = Decimal { fraction: String::new(), ..value.clone() };
    let truncated = if truncated.is_zero() { Decimal::zero() } else { truncated };
    if (value.is_integer() && bound.excluded) || (!value.is_integer() && !value.negative) {
        return next(&truncated);
    }
    truncated
}

/// The next larger integer.
fn next(value: &Decimal) -> Decimal {
    let whole = match value.negative {
        true => decrement(&value.whole),
        false => increment(&value.whole),
    };
    let negative = value.negative && !whole.is_empty();
    Decimal { negative, whole, fraction: String::new() }
}

fn increment(digits: &str) -> String {
    let kept = digits.trim_end_matches('9');
    let zeros = "0".repeat(digits.len() - kept.len());
    match kept.as_bytes().split_last() {
        None => format!("1{zeros}"),
        Some((last, rest)) => {
            format!("{}{}{zeros}", String::from_utf8_lossy(rest), char::from(last + 1))
        }
    }
}

/// Of a positive number.
fn decrement(digits: &str) -> String {
    let kept = digits.trim_end_matches('0');
    let nines = "9".repeat(digits.len() - kept.len());
    match kept.as_bytes().split_last() {
        None => String::new(),
        Some((last, rest)) => {
            let all = format!("{}{}{nines}", String::from_utf8_lossy(rest), char::from(last - 1));
            all.trim_start_matches('0').to_string()
        }
    }
}

/// `n` to `m` digits.
fn digits(n: usize, m: usize) -> String {
    match (n, m) {
        (_, 0) => String::new(),
        (1, 1) => "[0-9]".to_string(),
        _ if n == m => format!("[0-9]{{{n}}}"),
        _ => format!("[0-9]{{{n},{m}}}"),
    }
}

/// One digit from `low` to `high`; `None` if there is none.
fn class(low: u8, high: u8) -> Option<String> {
    match low.cmp(&high) {
        Ordering::Greater => None,
        Ordering::Equal => Some(char::from(low).to_string()),
        Ordering::Less => Some(format!("[{}-{}]", char::from(low), char::from(high))),
    }
}

fn any_of(options: Vec<String>) -> Option<String> {
    match options.as_slice() {
        [] => None,
        [one] => Some(one.clone()),
        _ => Some(format!("(?:{})", options.join("|"))),
    }
}

/// Whole numbers from `low` to `high`, without leading zeros.
fn whole_range(low: &str, high: &str) -> Option<String> {
    if (low.len(), low) > (high.len(), high) {
        return None;
    }
    if low.len() == high.len() {
        return Some(same_length(low, high));
    }
    let mut options = vec![same_length(low, &"9".repeat(low.len()))];
    if high.len() - low.len() > 1 {
        options.push(format!("[1-9]{}", digits(low.len(), high.len() - 2)));
    }
    options.push(same_length(&format!("1{}", "0".repeat(high.len() - 1)), high));
    any_of(options)
}

fn same_length(low: &str, high: &str) -> String {
    let shared = low.bytes().zip(high.bytes()).take_while(|(a, b)| a == b).count();
    let (prefix, low) = low.split_at(shared);
    let high = &high[shared..];
    let (Some(&l), Some(&h)) = (low.as_bytes().first(), high.as_bytes().first()) else {
        return prefix.to_string();
    };
    let rest = low.len() - 1;
    let (low_rest, high_rest) = (&low[1..], &high[1..]);
    // All digits from the first one on, where the rest is free on that side.
    let from = if low_rest.bytes().all(|b| b == b'0') { l } else { l + 1 };
    let to = if high_rest.bytes().all(|b| b == b'9') { h } else { h - 1 };
    let mut options = Vec::new();
    if from != l {
        options.push(format!("{}{}", char::from(l), at_least(low_rest)));
    }
    if let Some(class) = class(from, to) {
        options.push(format!("{class}{}", digits(rest, rest)));
    }
    if to != h {
        options.push(format!("{}{}", char::from(h), at_most(high_rest)));
    }
    format!("{prefix}{}", any_of(options).unwrap_or_default())
}

/// Digits of the same number that are at least these.
fn at_least(low: &str) -> String {
    let high = "9".repeat(low.len());
    same_length(low, &high)
}

fn at_most(high: &str) -> String {
    let low = "0".repeat(high.len());
    same_length(&low, high)
}

/// Numbers from `near`, which isn't negative, to `far`, without signs.
fn magnitudes(near: &Bound, far: Option<&Bound>, places: usize) -> Vec<String> {
    let most = Bound {
        value: Decimal { whole: format!("1{}", "0".repeat(MAX_DIGITS)), ..Decimal::zero() },
        excluded: true,
    };
    let far = far.unwrap_or(&most);
    let shown = |whole: &str| if whole.is_empty() { "0".to_string() } else { whole.to_string() };
    let (low, high) = (shown(&near.value.whole), shown(&far.value.whole));
    let mut options = Vec::new();
    match (low.len(), &low).cmp(&(high.len(), &high)) {
        Ordering::Greater => {}
        Ordering::Equal => {
            options.extend(between(near, far, places).into_iter().map(|f| format!("{low}{f}")));
        }
        Ordering::Less => {
            let first = above(&near.value.fraction, near.excluded, places);
            options.extend(first.map(|fraction| format!("{low}{fraction}")));
            let (from, to) = (increment(&near.value.whole), decrement(&far.value.whole));
            let middle = whole_range(&from, &to);
            options.extend(middle.map(|whole| format!("{whole}{}", optional_fraction(places))));
            let last = below(&far.value.fraction, far.excluded, places);
            options.extend(last.map(|fraction| format!("{high}{fraction}")));
        }
    }
    options
}

fn optional_fraction(places: usize) -> String {
    match places {
        0 => String::new(),
        _ => format!(r"(?:\.{})?", digits(1, places)),
    }
}

/// Fractions from this one on, with the point.
fn above(fraction: &str, excluded: bool, places: usize) -> Option<String> {
    if fraction.is_empty() && !excluded {
        return Some(optional_fraction(places));
    }
    tail_above(fraction, excluded, places).map(|tail| format!(r"\.{tail}"))
}

/// Fractions up to this one, with the point.
fn below(fraction: &str, excluded: bool, places: usize) -> Option<String> {
    if fraction.is_empty() {
        return (!excluded).then(String::new);
    }
    let tails = tail_below(fraction, excluded, places);
    match any_of(tails) {
        Some(tail) => Some(format!(r"(?:\.{tail})?")),
        None => Some(String::new()),
    }
}

/// Digits behind the point that make at least `low`, which has no trailing zeros.
fn tail_above(low: &str, excluded: bool, places: usize) -> Option<String> {
    let mut options = Vec::new();
    for (i, digit) in low.bytes().enumerate().take(places) {
        if let Some(class) = class(digit + 1, b'9') {
            options.push(format!("{}{class}{}", &low[..i], digits(0, places - i - 1)));
        }
    }
    if low.len() <= places {
        let room = places - low.len();
        match excluded {
            false => options.push(format!("{low}{}", digits(0, room))),
            true if room > 0 => options.push(format!("{low}{}[1-9]", digits(0, room - 1))),
            true => {}
        }
    }
    any_of(options)
}

/// Digits behind the point, at least one, that make at most `high`, which has no trailing zeros.
fn tail_below(high: &str, excluded: bool, places: usize) -> Vec<String> {
    let mut options = Vec::new();
    for (i, digit) in high.bytes().enumerate().take(places) {
        if digit > b'0'
            && let Some(class) = class(b'0', digit - 1)
        {
            options.push(format!("{}{class}{}", &high[..i], digits(0, places - i - 1)));
        }
        if i > 0 {
            options.push(high[..i].to_string());
        }
    }
    if !excluded && !high.is_empty() && high.len() <= places {
        options.push(high.to_string());
    }
    options
}

/// Fractions between those of two numbers with the same whole part, with the point.
fn between(near: &Bound, far: &Bound, places: usize) -> Vec<String> {
    let (low, high) = (&near.value.fraction, &far.value.fraction);
    let text = |fraction: &str| match fraction {
        "" => String::new(),
        _ => format!(r"\.{fraction}"),
    };
    match low.cmp(high) {
        Ordering::Greater => return Vec::new(),
        Ordering::Equal => {
            return if near.excluded || far.excluded { Vec::new() } else { vec![text(low)] };
        }
        Ordering::Less => {}
    }
    // The place where they differ: `high` has a larger digit there than `low` with zeros behind it.
    let zeros = high.len().saturating_sub(low.len());
    let padded = format!("{low}{}", "0".repeat(zeros));
    let same = padded.bytes().zip(high.bytes()).take_while(|(a, b)| a == b).count();
    let prefix = &high[..same];
    let (l, h) = (padded.as_bytes()[same], high.as_bytes()[same]);
    let mut options = Vec::new();
    if same >= places {
        return if near.excluded { options } else { vec![text(low)] };
    }
    let room = places - same - 1;
    if low.len() <= same {
        // The low one is a prefix of the high one, but for zeros.
        if !near.excluded {
            options.push(text(low));
        }
        let tail = tail_above("", true, room);
        options.extend(tail.map(|tail| format!(r"\.{prefix}{}{tail}", char::from(l))));
    } else {
        let tail = tail_above(&low[same + 1..], near.excluded, room);
        options.extend(tail.map(|tail| format!(r"\.{prefix}{}{tail}", char::from(l))));
    }
    if let Some(class) = class(l + 1, h - 1) {
        options.push(format!(r"\.{prefix}{class}{}", digits(0, room)));
    }
    let rest = &high[same + 1..];
    let digit = char::from(h);
    if !rest.is_empty() || !far.excluded {
        options.push(format!(r"\.{prefix}{digit}"));
    }
    let tails = tail_below(rest, far.excluded, room);
    options.extend(any_of(tails).map(|tail| format!(r"\.{prefix}{digit}{tail}")));
    options
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decimal(text: &str) -> Decimal {
        Decimal::read(text).unwrap()
    }

    #[test]
    fn numbers_are_read() {
        for (text, shown) in [
            ("0", "0"),
            ("-0.0", "0"),
            ("1e3", "1000"),
            ("-12.50", "-12.5"),
            ("1.5e-3", "0.0015"),
            ("120e-1", "12"),
            ("0.1e2", "10"),
        ] {
            assert_eq!(decimal(text).to_string(), shown);
        }
        assert_eq!(Decimal::read("1e400"), None);
        assert_eq!(Decimal::read("1e-400"), None);
    }

    #[test]
    fn between_multiples() {
        for (high, step, excluded, want) in [
            ("0.5", "0.25", false, "0.625"),
            ("0.5", "0.25", true, "0.375"),
            ("0.6", "0.25", true, "0.625"),
            ("0", "0.25", false, "0.125"),
            ("-0.5", "0.25", false, "-0.375"),
            ("-0.5", "0.25", true, "-0.625"),
            ("1.5", "0.5", false, "1.75"),
        ] {
            let got = decimal(high).behind_last_multiple(&decimal(step), excluded);
            assert_eq!(got, Some(decimal(want)), "{high} {step} {excluded}");
        }
    }

    #[test]
    fn multiples() {
        assert!(decimal("0.3").is_multiple_of(&decimal("0.1")));
        assert!(!decimal("0.35").is_multiple_of(&decimal("0.1")));
        assert!(decimal("-6").is_multiple_of(&decimal("3")));
        let lcm = decimal("0.4").least_common_multiple(&decimal("0.6"));
        assert_eq!(lcm.unwrap().to_string(), "1.2");
        assert!(Decimal::any_multiple(&decimal("3"), &decimal("-2"), &decimal("0.5")));
        assert!(!Decimal::any_multiple(&decimal("3"), &decimal("1"), &decimal("2.9")));
    }

    /// Texts of numbers around a few bounds.
    fn texts() -> Vec<String> {
        let wholes = ["0", "1", "2", "9", "10", "11", "19", "20", "99", "100", "101"];
        let fractions = ["", ".0", ".1", ".5", ".25", ".05", ".09", ".99", ".901", ".50", ".249"];
        let all = wholes.iter().flat_map(|w| fractions.iter().map(move |f| format!("{w}{f}")));
        all.flat_map(|text| [format!("-{text}"), text]).collect()
    }

    #[test]
    fn expressions_match_what_is_in_range() {
        let values =
            ["0", "1", "-1", "10", "-10", "0.5", "0.25", "-0.25", "9.9", "99", "100.5", "19"];
        let mut checked = 0;
        for low in values.iter().map(Some).chain([None]) {
            for high in values.iter().map(Some).chain([None]) {
                for kind in 0..8 {
                    let bound = |text: &&str, bit: u8| Bound {
                        value: decimal(text),
                        excluded: kind & bit != 0,
                    };
                    let range = Range {
                        low: low.map(|text| bound(text, 1)),
                        high: high.map(|text| bound(text, 2)),
                        integer: kind & 4 != 0,
                        places: None,
                    };
                    let matched = |text: &str| match range.expression() {
                        None => false,
                        Some(expression) => {
                            let mut regex = llguidance::derivre::Regex::new(&expression).unwrap();
                            regex.is_match(text)
                        }
                    };
                    let regex = range.expression();
                    let mut regex = regex.map(|e| llguidance::derivre::Regex::new(&e).unwrap());
                    for text in texts() {
                        let inside = range.contains(&decimal(&text));
                        let matches = regex.as_mut().is_some_and(|r| r.is_match(&text));
                        assert!(inside || !matches, "{text} in {range:?}");
                        // What is written in the shortest way is allowed.
                        if inside && decimal(&text).to_string() == text {
                            assert!(matches && matched(&text), "{text} not in {range:?}");
                            checked += 1;
                        }
                    }
                }
            }
        }
        assert!(checked > 10_000, "{checked}");
    }
}
