//! Python's numbers: arithmetic, how they are read and how they are written. Integers have 128 bits;
//! beyond, there is an error.

use std::cmp::Ordering;

use super::ast::Binary;
use super::error::{Fault, Res};
use super::pytext::{digit_value, is_space};

/// The error of an integer beyond 128 bits.
#[cold]
pub(super) fn too_big() -> Fault {
    Fault::unsupported("an integer of more than 127 bits")
}

fn zero_division(what: &str) -> Fault {
    Fault::op(format!("{what} by zero"))
}

/// Compares an integer with a float, exactly; `None` for NaN.
pub(super) fn cmp_int_float(n: i128, f: f64) -> Option<Ordering> {
    if f.is_nan() {
        return None;
    }
    // 2^127 as a float, beyond which there are no integers.
    const LIMIT: f64 = 170_141_183_460_469_231_731_687_303_715_884_105_728.0;
    if f >= LIMIT {
        return Some(Ordering::Less);
    }
    if f < -LIMIT {
        return Some(Ordering::Greater);
    }
    let whole = f.trunc() as i128;
    match n.cmp(&whole) {
        Ordering::Equal => 0.0.partial_cmp(&(f - f.trunc())),
        other => Some(other),
    }
}

/// A float without its fraction, if that fits.
pub(super) fn float_to_int(f: f64) -> Option<i128> {
    const LIMIT: f64 = 170_141_183_460_469_231_731_687_303_715_884_105_728.0;
    (-LIMIT..LIMIT).contains(&f).then_some(f as i128)
}

/// Python's `int(f)`.
pub(super) fn int_of_float(f: f64) -> Res<i128> {
    if f.is_nan() {
        return Err(Fault::op("cannot convert float NaN to integer"));
    }
    if f.is_infinite() {
        return Err(Fault::op("cannot convert float infinity to integer"));
    }
    float_to_int(f).ok_or_else(too_big)
}

/// Arithmetic of two integers, which may give a float.
pub(super) fn int_op(op: Binary, a: i128, b: i128) -> Res<Number> {
    let int = |n: Option<i128>| n.map(Number::Int).ok_or_else(too_big);
    match op {
        Binary::Add => int(a.checked_add(b)),
        Binary::Sub => int(a.checked_sub(b)),
        Binary::Mul => int(a.checked_mul(b)),
        Binary::Div if b == 0 => Err(zero_division("division")),
        Binary::Div => Ok(Number::Float(true_division(a, b))),
        Binary::FloorDiv | Binary::Mod if b == 0 => {
            Err(zero_division("integer division or modulo"))
        }
        Binary::FloorDiv => int(a.checked_div(b).map(|q| {
            let rest = a.checked_rem(b).unwrap_or(0);
            if rest != 0 && (rest < 0) != (b < 0) { q - 1 } else { q }
        })),
        Binary::Mod => {
            let rest = a.checked_rem(b).unwrap_or(0);
            let away = rest != 0 && (rest < 0) != (b < 0);
            Ok(Number::Int(if away { rest + b } else { rest }))
        }
        Binary::Pow if b < 0 => float_op(op, a as f64, b as f64).map(Number::Float),
        Binary::Pow => match (a, u32::try_from(b)) {
            (0 | 1, _) => Ok(Number::Int(if b == 0 { 1 } else { a })),
            (-1, _) => Ok(Number::Int(if b % 2 == 0 { 1 } else { -1 })),
            (_, Ok(b)) => int(a.checked_pow(b)),
            (_, Err(_)) => Err(too_big()),
        },
    }
}

/// A result of arithmetic.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Number {
    Int(i128),
    Float(f64),
}

/// The float nearest to `a / b`, which isn't zero.
fn true_division(a: i128, b: i128) -> f64 {
    const EXACT: u128 = 1 << 53;
    let (x, y) = (a.unsigned_abs(), b.unsigned_abs());
    if x <= EXACT && y <= EXACT {
        return a as f64 / b as f64;
    }
    // Enough bits of the quotient, and one that says if there are more.
    let (mut quotient, mut rest) = (x / y, x % y);
    let mut exponent = 0;
    while quotient < 1 << 60 && (rest != 0 || quotient == 0) && exponent > -1000 {
        rest <<= 1;
        quotient <<= 1;
        if rest >= y {
            rest -= y;
            quotient |= 1;
        }
        exponent -= 1;
    }
    let sticky = u128::from(rest != 0);
    let value = (quotient | sticky) as f64 * 2f64.powi(exponent);
    if (a < 0) == (b < 0) { value } else { -value }
}

/// Arithmetic of two floats.
pub(super) fn float_op(op: Binary, a: f64, b: f64) -> Res<f64> {
    Ok(match op {
        Binary::Add => a + b,
        Binary::Sub => a - b,
        Binary::Mul => a * b,
        Binary::Div if b == 0.0 => return Err(zero_division("float division")),
        Binary::Div => a / b,
        Binary::FloorDiv | Binary::Mod if b == 0.0 => {
            return Err(zero_division("float floor division"));
        }
        Binary::FloorDiv => {
            let (quotient, _) = divmod(a, b);
            quotient
        }
        Binary::Mod => divmod(a, b).1,
        Binary::Pow => {
            if a == 0.0 && b < 0.0 {
                return Err(Fault::op("0.0 cannot be raised to a negative power"));
            }
            if a < 0.0 && a.is_finite() && b.is_finite() && b != b.trunc() {
                return Err(Fault::unsupported("complex numbers"));
            }
            let power = a.powf(b);
            if power.is_infinite() && a.is_finite() && b.is_finite() {
                return Err(Fault::op("numerical result out of range"));
            }
            power
        }
    })
}

/// Python's `divmod` of floats: the rest has the sign of the divisor.
fn divmod(a: f64, b: f64) -> (f64, f64) {
    let mut rest = a % b;
    let mut quotient = (a - rest) / b;
    if rest != 0.0 {
        if (b < 0.0) != (rest < 0.0) {
            rest += b;
            quotient -= 1.0;
        }
    } else {
        rest = 0f64.copysign(b);
    }
    let floor = if quotient != 0.0 {
        let floor = quotient.floor();
        if quotient - floor > 0.5 { floor + 1.0 } else { floor }
    } else {
        0f64.copysign(a / b)
    };
    (floor, rest)
}

/// Python's `repr` of a float: the shortest digits that give it back.
pub(super) fn float_repr(f: f64) -> String {
    if f.is_nan() {
        return "nan".into();
    }
    if f.is_infinite() {
        return if f < 0.0 { "-inf" } else { "inf" }.into();
    }
    let shortest = format!("{f:e}");
    let places = shortest.bytes().take_while(|&b| b != b'e').filter(u8::is_ascii_digit).count();
    // Of two texts as short that are as near, Python takes the one with an even digit at its end.
    let even = format!("{f:.*e}", places.saturating_sub(1));
    let scientific = if even.parse() == Ok(f) { even } else { shortest };
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..16).contains(&exponent) {
        let after = places as i32 - 1 - exponent;
        return match usize::try_from(after) {
            Ok(after @ 1..) => format!("{f:.after$}"),
            _ => format!("{f:.1}"),
        };
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.unsigned_abs())
}

/// Python's `round(f, digits)`, to even where two are as near.
pub(super) fn round_float(f: f64, digits: i128) -> Res<f64> {
    if !f.is_finite() || digits > 323 {
        return Ok(f);
    }
    if digits < -308 {
        return Ok(0f64.copysign(f));
    }
    if digits >= 0 {
        // Exact decimals, rounded once.
        let text = format!("{f:.*}", usize::try_from(digits).unwrap_or(0));
        return Ok(text.parse().unwrap_or(f));
    }
    // All digits in front of the point, of which the last ones go.
    let drop = usize::try_from(-digits).unwrap_or(0);
    let exact = format!("{:.1074}", f.abs());
    let (whole, fraction) = exact.split_once('.').unwrap_or((&exact, ""));
    let kept = whole.len().saturating_sub(drop);
    let padded = format!("{whole:0>drop$}");
    let gone = padded.get(padded.len() - drop..).unwrap_or("");
    let kept = whole.get(..kept).filter(|k| !k.is_empty()).unwrap_or("0");
    let first = gone.as_bytes().first().copied().unwrap_or(b'0');
    let more = gone.bytes().skip(1).chain(fraction.bytes()).any(|b| b != b'0');
    let odd = kept.bytes().last().is_some_and(|b| b % 2 == 1);
    let up = first > b'5' || first == b'5' && (more || odd);
    let mut digits: Vec<u8> = kept.bytes().collect();
    if up {
        let mut at = digits.len();
        loop {
            let Some(before) = at.checked_sub(1) else {
                digits.insert(0, b'1');
                break;
            };
            at = before;
            match digits.get_mut(at) {
                Some(d @ b'9') => *d = b'0',
                Some(d) => {
                    *d += 1;
                    break;
                }
                None => break,
            }
        }
    }
    let mut text: String = digits.into_iter().map(char::from).collect();
    text.extend(std::iter::repeat_n('0', drop));
    let value: f64 = text.parse().unwrap_or(f);
    match value.is_infinite() {
        true => Err(Fault::op("rounded value too large to represent")),
        false => Ok(value.copysign(f)),
    }
}

/// Python's `round(n, digits)` of an integer.
pub(super) fn round_int(n: i128, digits: i128) -> Res<i128> {
    if digits >= 0 {
        return Ok(n);
    }
    let places = u32::try_from(digits.unsigned_abs()).unwrap_or(u32::MAX);
    let Some(unit) = 10i128.checked_pow(places) else { return Ok(0) };
    let rest = n.rem_euclid(unit);
    let down = n.checked_sub(rest).ok_or_else(too_big)?;
    let half = unit / 2;
    let odd = (down / unit).rem_euclid(2) == 1;
    match rest > half || rest == half && odd {
        true => down.checked_add(unit).ok_or_else(too_big),
        false => Ok(down),
    }
}

/// Reasons why a text is no number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum NotANumber {
    Malformed,
    TooBig,
}

/// Python's `int(text, base)`.
pub(super) fn parse_int(text: &str, base: u32) -> Result<i128, NotANumber> {
    use NotANumber::{Malformed, TooBig};
    let text = text.trim_matches(is_space);
    let (negative, rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let prefix = match rest.as_bytes() {
        [b'0', b'x' | b'X', ..] => 16,
        [b'0', b'o' | b'O', ..] => 8,
        [b'0', b'b' | b'B', ..] => 2,
        _ => 0,
    };
    let (base, rest, prefixed) = match base {
        0 if prefix > 0 => (prefix, rest.get(2..).unwrap_or(""), true),
        0 => (10, rest, false),
        _ if prefix == base => (base, rest.get(2..).unwrap_or(""), true),
        _ => (base, rest, false),
    };
    let mut value: i128 = 0;
    let mut digits = 0;
    let mut after_underscore = !prefixed;
    let mut too_big = false;
    for c in rest.chars() {
        if c == '_' {
            if after_underscore {
                return Err(Malformed);
            }
            after_underscore = true;
            continue;
        }
        after_underscore = false;
        let digit = digit_value(c).or_else(|| c.to_digit(36)).filter(|&d| d < base);
        let digit = i128::from(digit.ok_or(Malformed)?);
        digits += 1;
        let next = value.checked_mul(i128::from(base)).and_then(|v| match negative {
            true => v.checked_sub(digit),
            false => v.checked_add(digit),
        });
        match next {
            Some(next) => value = next,
            None => too_big = true,
        }
    }
    if digits == 0 || after_underscore {
        return Err(Malformed);
    }
    if too_big { Err(TooBig) } else { Ok(value) }
}

/// Python's `float(text)`.
pub(super) fn parse_float(text: &str) -> Option<f64> {
    let text = text.trim_matches(is_space);
    let mut plain = String::with_capacity(text.len());
    let mut last = ' ';
    for c in text.chars() {
        let c = match digit_value(c) {
            Some(d) => char::from_digit(d, 10)?,
            None if c == '_' && last.is_ascii_digit() => {
                last = '_';
                continue;
            }
            None if last == '_' => return None,
            None => c,
        };
        plain.push(c);
        last = c;
    }
    if last == '_' {
        return None;
    }
    let unsigned = plain.strip_prefix(['-', '+']).unwrap_or(&plain).to_ascii_lowercase();
    match unsigned.as_str() {
        "inf" | "infinity" => {
            return Some(if plain.starts_with('-') { f64::NEG_INFINITY } else { f64::INFINITY });
        }
        "nan" => return Some(f64::NAN),
        _ => {}
    }
    // Rust reads a few words more.
    if !unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return None;
    }
    plain.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_are_written_as_in_python() {
        for (f, want) in [
            (1.0, "1.0"),
            (0.1, "0.1"),
            (1e15, "1000000000000000.0"),
            (1e16, "1e+16"),
            (1.5e-5, "1.5e-05"),
            (0.0001, "0.0001"),
            (-0.0, "-0.0"),
            (1e100, "1e+100"),
            (f64::NAN, "nan"),
            (5e-324, "5e-324"),
            (999_999_999_999_954.0 + 0.25, "999999999999954.2"),
        ] {
            assert_eq!(float_repr(f), want);
        }
    }

    #[test]
    fn integers_divide_as_in_python() {
        let int = |op, a, b| int_op(op, a, b).unwrap();
        assert_eq!(int(Binary::FloorDiv, -7, 2), Number::Int(-4));
        assert_eq!(int(Binary::Mod, -7, 2), Number::Int(1));
        assert_eq!(int(Binary::Mod, 7, -2), Number::Int(-1));
        assert_eq!(int(Binary::Div, 1 << 80, 3), Number::Float(4.029752732048764e23));
        assert_eq!(int(Binary::Pow, 2, -1), Number::Float(0.5));
        assert!(int_op(Binary::Pow, 10, 400).is_err() && int_op(Binary::Mod, 1, 0).is_err());
    }

    #[test]
    fn rounding_is_to_even() {
        assert_eq!(round_float(2.5, 0).unwrap(), 2.0);
        assert_eq!(round_float(2.675, 2).unwrap(), 2.67);
        assert_eq!(round_float(1234.5, -2).unwrap(), 1200.0);
        assert_eq!(round_float(-15.0, -1).unwrap(), -20.0);
        assert_eq!((round_int(25, -1).unwrap(), round_int(-35, -1).unwrap()), (20, -40));
    }

    #[test]
    fn texts_are_read_as_in_python() {
        assert_eq!(parse_int(" 1_000 ", 10), Ok(1000));
        assert_eq!(parse_int("0x1f", 16), Ok(31));
        assert_eq!(parse_int("-\u{663}", 10), Ok(-3));
        assert_eq!(parse_int("1__0", 10), Err(NotANumber::Malformed));
        assert_eq!(parse_float("1_0.5e1"), Some(105.0));
        assert_eq!(parse_float("-Infinity"), Some(f64::NEG_INFINITY));
        assert_eq!((parse_float("1_"), parse_float("infinit")), (None, None));
    }
}
