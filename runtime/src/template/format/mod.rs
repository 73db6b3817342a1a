//! Formatting: `str.format`, `%`, and HTML.

pub(super) mod braces;
pub(super) mod html;
pub(super) mod percent;
mod spec;

use super::error::Res;
use super::number::float_repr;
use super::value::Buf;

/// Digits after which a float has only zeros.
const MOST_DIGITS: usize = 1100;

/// Presentation of a float.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Presentation {
    Exponent,
    Fixed,
    General,
    /// As `repr` has it, with so many digits.
    Short,
}

/// Digits of a finite float that isn't negative. With `alternate`, trailing zeros and the point stay.
fn float_digits(
    f: f64,
    presentation: Presentation,
    precision: Option<usize>,
    alternate: bool,
) -> String {
    let precision = match (presentation, precision) {
        (Presentation::Short, None) => {
            let text = float_repr(f);
            return match text.split_once('e') {
                Some((mantissa, power)) if alternate && !mantissa.contains('.') => {
                    format!("{mantissa}.e{power}")
                }
                _ => text,
            };
        }
        (Presentation::General | Presentation::Short, Some(0)) => 1,
        (_, precision) => precision.unwrap_or(6),
    };
    // Formatting takes no more digits than these; what is missing are zeros.
    let digits = precision.min(MOST_DIGITS);
    let point = |mut text: String| {
        if alternate && !text.contains('.') {
            text.push('.');
        }
        text
    };
    match presentation {
        Presentation::Fixed => point(format!("{f:.digits$}")),
        Presentation::Exponent => exponent(&format!("{f:.digits$e}"), &point),
        Presentation::General | Presentation::Short => {
            let scientific = format!("{f:.*e}", digits - 1);
            let power = scientific.split_once('e').and_then(|(_, e)| e.parse::<i64>().ok());
            let power = power.unwrap_or(0);
            let trim = |text: &str| match text.contains('.') && !alternate {
                true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
                false => text.to_owned(),
            };
            let short = presentation == Presentation::Short;
            // The short form has room for the zero that it has behind the point.
            if (-4..digits as i64 - i64::from(short)).contains(&power) {
                let after = usize::try_from(digits as i64 - 1 - power).unwrap_or(0);
                let text = trim(&point(format!("{f:.after$}")));
                return match short && !text.contains('.') {
                    true => text + ".0",
                    false => text,
                };
            }
            let (mantissa, power) = scientific.split_once('e').unwrap_or((&scientific, "0"));
            exponent(&format!("{}e{power}", trim(&point(mantissa.to_owned()))), &|text| text)
        }
    }
}

/// An exponent with a sign and at least two digits.
fn exponent(text: &str, point: &dyn Fn(String) -> String) -> String {
    let (mantissa, power) = text.split_once('e').unwrap_or((text, "0"));
    let (sign, power) = match power.strip_prefix('-') {
        Some(power) => ('-', power),
        None => ('+', power),
    };
    format!("{}e{sign}{power:0>2}", point(mantissa.to_owned()))
}

/// Zeros that a float's digits lack for its precision.
fn missing_zeros(presentation: Presentation, precision: Option<usize>) -> usize {
    match presentation {
        Presentation::Fixed | Presentation::Exponent => {
            precision.unwrap_or(0).saturating_sub(MOST_DIGITS)
        }
        _ => 0,
    }
}

/// Text with fill characters around it.
fn aligned(text: &str, fill: char, align: char, width: usize, out: &mut Buf<'_>) -> Res<()> {
    let missing = width.saturating_sub(text.chars().count());
    let left = match align {
        '<' => 0,
        '^' => missing / 2,
        _ => missing,
    };
    out.fill(fill, left)?;
    out.push_str(text)?;
    out.fill(fill, missing - left)
}
