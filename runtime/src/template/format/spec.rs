//! Python's format specifications, such as `>10.2f`.

use super::super::error::{Fault, Res};
use super::super::repr::write_str;
use super::super::value::{Buf, Value};
use super::super::vm::Vm;
use super::{Presentation, aligned, float_digits, missing_zeros};

/// A specification.
struct Spec {
    fill: char,
    align: Option<char>,
    sign: Option<char>,
    alternate: bool,
    zero: bool,
    width: usize,
    group: Option<char>,
    precision: Option<usize>,
    kind: Option<char>,
}

fn number(text: &str) -> Res<(Option<usize>, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    if digits.is_empty() {
        return Ok((None, rest));
    }
    match digits.parse::<usize>().ok().filter(|&n| n <= i32::MAX as usize) {
        Some(n) => Ok((Some(n), rest)),
        None => Err(Fault::op("too many decimal digits in format string")),
    }
}

fn parse(spec: &str) -> Res<Spec> {
    let mut chars = spec.chars();
    let (first, second) = (chars.next(), chars.next());
    let is_align = |c: Option<char>| c.filter(|c| matches!(c, '<' | '>' | '=' | '^'));
    let (mut fill, mut align, mut rest) = (' ', None, spec);
    let mut filled = false;
    if let (Some(c), Some(_)) = (first, is_align(second)) {
        (fill, align, filled) = (c, second, true);
        rest = spec.get(c.len_utf8() + 1..).unwrap_or("");
    } else if let Some(c) = is_align(first) {
        align = Some(c);
        rest = spec.get(1..).unwrap_or("");
    }
    let mut take = |c: char| match rest.strip_prefix(c) {
        Some(after) => {
            rest = after;
            true
        }
        None => false,
    };
    let mut sign = None;
    for c in ['+', '-', ' '] {
        if take(c) {
            sign = Some(c);
            break;
        }
    }
    if take('z') {
        return Err(Fault::unsupported("the option z of a format"));
    }
    let alternate = take('#');
    let zero = !filled && take('0');
    if zero {
        fill = '0';
    }
    let (width, after) = number(rest)?;
    rest = after;
    let mut group = None;
    for c in [',', '_'] {
        if let Some(after) = rest.strip_prefix(c) {
            if group.is_some() {
                return Err(Fault::op("cannot specify both ',' and '_'"));
            }
            (group, rest) = (Some(c), after);
        }
    }
    let mut precision = None;
    if let Some(after) = rest.strip_prefix('.') {
        let (digits, after) = number(after)?;
        precision = Some(digits.ok_or_else(|| Fault::op("format specifier missing precision"))?);
        rest = after;
    }
    let mut chars = rest.chars();
    let kind = chars.next();
    if chars.next().is_some() {
        return Err(Fault::op("invalid format specifier"));
    }
    let width = width.unwrap_or(0);
    Ok(Spec { fill, align, sign, alternate, zero, width, group, precision, kind })
}

/// Writes `format(value, spec)`.
pub(super) fn format(value: &Value, spec: &str, vm: &mut Vm<'_>, out: &mut Buf<'_>) -> Res<()> {
    if spec.is_empty() {
        return write_str(value, vm, out);
    }
    match value {
        Value::Str(text) => text_value(text.as_str(), &parse(spec)?, out),
        Value::Int(_) | Value::Bool(_) => integer(value.as_int().unwrap_or(0), &parse(spec)?, out),
        Value::Float(f) => float(*f, &parse(spec)?, out),
        other => Err(Fault::op(format!(
            "unsupported format string passed to {}.__format__",
            other.type_name()
        ))),
    }
}

fn unknown(kind: char, of: &str) -> Fault {
    Fault::op(format!("unknown format code '{kind}' for object of type '{of}'"))
}

fn text_value(text: &str, spec: &Spec, out: &mut Buf<'_>) -> Res<()> {
    if let Some(kind) = spec.kind.filter(|&k| k != 's') {
        return Err(unknown(kind, "str"));
    }
    if spec.sign.is_some() || spec.alternate {
        return Err(Fault::op(
            "sign and alternate form are not allowed in string format specifier",
        ));
    }
    if spec.align == Some('=') {
        return Err(Fault::op("'=' alignment not allowed in string format specifier"));
    }
    if let Some(c) = spec.group {
        return Err(Fault::op(format!("cannot specify '{c}' with 's'")));
    }
    let end = spec.precision.and_then(|n| text.char_indices().nth(n)).map(|(at, _)| at);
    let text = text.get(..end.unwrap_or(text.len())).unwrap_or(text);
    aligned(text, spec.fill, spec.align.unwrap_or('<'), spec.width, out)
}

/// Writes digits in groups, behind as many zeros as a width wants.
fn grouped(
    digits: &str,
    separator: Option<char>,
    every: usize,
    width: usize,
    out: &mut Buf<'_>,
) -> Res<()> {
    let Some(separator) = separator else {
        out.fill('0', width.saturating_sub(digits.len()))?;
        return out.push_str(digits);
    };
    // The least number of digits that fills the width together with their separators.
    let mut n = (width / (every + 1)).saturating_mul(every).saturating_sub(2).max(digits.len());
    while n.saturating_add(n.saturating_sub(1) / every) < width {
        n += 1;
    }
    let zeros = std::iter::repeat_n('0', n - digits.len());
    for (at, c) in zeros.chain(digits.chars()).enumerate() {
        if at > 0 && (n - at).is_multiple_of(every) {
            out.push(separator)?;
        }
        out.push(c)?;
    }
    Ok(())
}

/// Writes a sign, a prefix, digits and what follows them, aligned.
fn finish(
    sign: &str,
    digits: &str,
    rest: &str,
    every: usize,
    spec: &Spec,
    out: &mut Buf<'_>,
) -> Res<()> {
    let align = spec.align.unwrap_or(if spec.zero { '=' } else { '>' });
    if spec.fill == '0' && align == '=' {
        let width = spec.width.saturating_sub(sign.len() + rest.len());
        out.push_str(sign)?;
        grouped(digits, spec.group, every, width, out)?;
        return out.push_str(rest);
    }
    let mut text = Buf::new(out.meter())?;
    let mut width = spec.width;
    let align = match align {
        '=' => {
            out.push_str(sign)?;
            width = width.saturating_sub(sign.len());
            '>'
        }
        align => {
            text.push_str(sign)?;
            align
        }
    };
    grouped(digits, spec.group, every, 0, &mut text)?;
    text.push_str(rest)?;
    aligned(text.as_str(), spec.fill, align, width, out)
}

fn sign_of(negative: bool, spec: &Spec) -> &'static str {
    match (negative, spec.sign) {
        (true, _) => "-",
        (false, Some('+')) => "+",
        (false, Some(' ')) => " ",
        _ => "",
    }
}

fn integer(n: i128, spec: &Spec, out: &mut Buf<'_>) -> Res<()> {
    let kind = spec.kind.unwrap_or('d');
    if matches!(kind, 'e' | 'E' | 'f' | 'F' | 'g' | 'G' | '%') {
        return float(n as f64, spec, out);
    }
    if spec.precision.is_some() {
        return Err(Fault::op("precision not allowed in integer format specifier"));
    }
    let size = n.unsigned_abs();
    let (digits, prefix, every) = match kind {
        'd' | 'n' => (size.to_string(), "", 3),
        'b' => (format!("{size:b}"), "0b", 4),
        'o' => (format!("{size:o}"), "0o", 4),
        'x' => (format!("{size:x}"), "0x", 4),
        'X' => (format!("{size:X}"), "0X", 4),
        'c' if spec.sign.is_some() || spec.alternate || spec.group.is_some() => {
            return Err(Fault::op(
                "sign, alternate form and groups are not allowed with integer format specifier 'c'",
            ));
        }
        'c' => {
            let c = u32::try_from(n).ok().and_then(char::from_u32);
            let c = c.ok_or_else(|| Fault::op("%c arg not in range(0x110000)"))?;
            return aligned(
                c.encode_utf8(&mut [0; 4]),
                spec.fill,
                spec.align.unwrap_or('<'),
                spec.width,
                out,
            );
        }
        other => return Err(unknown(other, "int")),
    };
    if spec.group == Some(',') && every == 4 || spec.group.is_some() && kind == 'n' {
        return Err(Fault::op(format!("cannot specify ',' with '{kind}'")));
    }
    let prefix = if spec.alternate { prefix } else { "" };
    let sign = format!("{}{prefix}", sign_of(n < 0, spec));
    finish(&sign, &digits, "", every, spec, out)
}

fn float(f: f64, spec: &Spec, out: &mut Buf<'_>) -> Res<()> {
    let presentation = match spec.kind {
        None => Presentation::Short,
        Some('e' | 'E') => Presentation::Exponent,
        Some('f' | 'F' | '%') => Presentation::Fixed,
        Some('g' | 'G' | 'n') => Presentation::General,
        Some(other) => return Err(unknown(other, "float")),
    };
    if let (Some(c), Some('n')) = (spec.group, spec.kind) {
        return Err(Fault::op(format!("cannot specify '{c}' with 'n'")));
    }
    let percent = spec.kind == Some('%');
    let f = if percent { f * 100.0 } else { f };
    let sign = sign_of(f.is_sign_negative() && !f.is_nan(), spec);
    let size = f.abs();
    let mut text = match (size.is_nan(), size.is_infinite()) {
        (true, _) => "nan".to_owned(),
        (_, true) => "inf".to_owned(),
        _ => float_digits(size, presentation, spec.precision, spec.alternate),
    };
    if spec.kind.is_some_and(|k| k.is_ascii_uppercase()) {
        text.make_ascii_uppercase();
    }
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    let zeros = if size.is_finite() { missing_zeros(presentation, spec.precision) } else { 0 };
    let mut room = Buf::new(out.meter())?;
    room.fill('0', zeros)?;
    let (fraction, power) = match rest.find(['e', 'E']) {
        Some(at) => rest.split_at(at),
        None => (rest, ""),
    };
    let rest = format!("{fraction}{}{power}{}", room.as_str(), if percent { "%" } else { "" });
    if digits.is_empty() {
        // What is no number has no groups, and no zeros between.
        let align = spec.align.unwrap_or(if spec.zero { '=' } else { '>' });
        let width = spec.width.saturating_sub(sign.len());
        return match align {
            '=' => {
                out.push_str(sign)?;
                aligned(&rest, spec.fill, '>', width, out)
            }
            _ => aligned(&format!("{sign}{rest}"), spec.fill, align, spec.width, out),
        };
    }
    finish(sign, digits, &rest, 3, spec, out)
}
