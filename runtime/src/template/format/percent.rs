//! Python's `%` for strings.

use std::rc::Rc;

use super::super::error::{Fault, Res};
use super::super::number::{int_of_float, parse_float, parse_int};
use super::super::repr::{escape_into, write_ascii, write_repr, write_str};
use super::super::value::{Buf, Text, Value};
use super::super::vm::Vm;
use super::{Presentation, aligned, float_digits, missing_zeros};

/// Arguments that are still to be formatted.
struct Values<'v> {
    values: &'v [Value],
    at: usize,
    /// The mapping that names refer to.
    mapping: Option<&'v Value>,
}

impl Values<'_> {
    fn next(&mut self) -> Res<Value> {
        let value = self.values.get(self.at).cloned();
        self.at += 1;
        value.ok_or_else(|| Fault::op("not enough arguments for format string"))
    }
}

/// Flags of a conversion.
#[derive(Default)]
struct Flags {
    left: bool,
    plus: bool,
    space: bool,
    zero: bool,
    alternate: bool,
    width: usize,
    precision: Option<usize>,
}

/// Python's `format % values`.
pub(in super::super) fn format(format: &Rc<Text>, values: &Value, vm: &mut Vm<'_>) -> Res<Value> {
    let single = [values.clone()];
    let mut values = Values {
        values: match values {
            Value::Tuple(seq) => &seq.items,
            _ => &single,
        },
        at: 0,
        mapping: matches!(
            values,
            Value::Dict(_) | Value::List(_) | Value::Range(_) | Value::Undefined(_)
        )
        .then_some(values),
    };
    let safe = format.safe;
    let mut out = Buf::new(vm.meter)?;
    let mut rest = format.as_str();
    while let Some(at) = rest.find('%') {
        out.push_str(rest.get(..at).unwrap_or(""))?;
        rest = conversion(rest.get(at + 1..).unwrap_or(""), &mut values, safe, vm, &mut out)?;
    }
    out.push_str(rest)?;
    if values.mapping.is_none() && values.at < values.values.len() {
        return Err(Fault::op("not all arguments converted during string formatting"));
    }
    out.finish(safe)
}

/// Writes the conversion that starts behind a percent sign, and returns what follows it.
fn conversion<'t>(
    text: &'t str,
    values: &mut Values<'_>,
    safe: bool,
    vm: &mut Vm<'_>,
    out: &mut Buf<'_>,
) -> Res<&'t str> {
    let incomplete = || Fault::op("incomplete format");
    if let Some(rest) = text.strip_prefix('%') {
        out.push('%')?;
        return Ok(rest);
    }
    let mut rest = text;
    let mut named = None;
    if let Some(after) = rest.strip_prefix('(') {
        let mut depth = 1;
        let end = after.find(|c| {
            depth += i32::from(c == '(') - i32::from(c == ')');
            depth == 0
        });
        let end = end.ok_or_else(|| Fault::op("incomplete format key"))?;
        let Some(mapping) = values.mapping else {
            return Err(Fault::op("format requires a mapping"));
        };
        let key = vm.meter.str(after.get(..end).unwrap_or(""))?;
        let found = match mapping {
            Value::Dict(dict) => dict.get(&key, vm.meter)?.cloned(),
            other if other.is_undefined() => return Err(other.undefined_error()),
            _ => None,
        };
        named = Some(found.ok_or_else(|| {
            Fault::op(format!("there is no key '{}'", key.as_str().unwrap_or("")))
        })?);
        rest = after.get(end + 1..).unwrap_or("");
    }
    let mut flags = Flags::default();
    let mut chars = rest.chars();
    loop {
        let before = chars.clone();
        match chars.next() {
            Some('-') => flags.left = true,
            Some('+') => flags.plus = true,
            Some(' ') => flags.space = true,
            Some('#') => flags.alternate = true,
            Some('0') => flags.zero = true,
            _ => {
                chars = before;
                break;
            }
        }
    }
    let mut rest = chars.as_str();
    let size = |rest: &mut &'t str, values: &mut Values<'_>| -> Res<Option<i128>> {
        if let Some(after) = rest.strip_prefix('*') {
            *rest = after;
            let value = values.next()?;
            return value.as_int().map(Some).ok_or_else(|| Fault::op("* wants int"));
        }
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let (digits, after) = rest.split_at(end);
        *rest = after;
        if digits.is_empty() {
            return Ok(None);
        }
        let n = digits.parse().ok().filter(|&n: &i128| n <= i128::from(i32::MAX));
        n.map(Some).ok_or_else(|| Fault::op("width or precision too big"))
    };
    if let Some(width) = size(&mut rest, values)? {
        flags.left |= width < 0;
        flags.width = usize::try_from(width.unsigned_abs()).unwrap_or(usize::MAX);
    }
    if let Some(after) = rest.strip_prefix('.') {
        rest = after;
        let precision = size(&mut rest, values)?.unwrap_or(0).max(0);
        flags.precision = Some(usize::try_from(precision).unwrap_or(usize::MAX));
    }
    rest = rest.strip_prefix(['l', 'L', 'h']).unwrap_or(rest);
    let mut chars = rest.chars();
    let kind = chars.next().ok_or_else(incomplete)?;
    let rest = chars.as_str();
    let value = match named {
        Some(value) => value,
        None if values.mapping.is_some() && values.at > 0 => {
            return Err(Fault::op("not enough arguments for format string"));
        }
        None => values.next()?,
    };
    match kind {
        's' | 'r' | 'a' => text_value(&value, kind, &flags, safe, vm, out)?,
        'c' => character(&value, &flags, out)?,
        'd' | 'i' | 'u' | 'x' | 'X' | 'o' => integer(&value, kind, &flags, safe, out)?,
        'e' | 'E' | 'f' | 'F' | 'g' | 'G' => float(&value, kind, &flags, safe, out)?,
        other => {
            return Err(Fault::op(format!("unsupported format character {other:?}")));
        }
    }
    Ok(rest)
}

fn align(flags: &Flags) -> char {
    if flags.left { '<' } else { '>' }
}

fn text_value(
    value: &Value,
    kind: char,
    flags: &Flags,
    safe: bool,
    vm: &mut Vm<'_>,
    out: &mut Buf<'_>,
) -> Res<()> {
    let mut text = Buf::new(vm.meter)?;
    match kind {
        's' => write_str(value, vm, &mut text)?,
        'r' => write_repr(value, vm, &mut text, 0)?,
        _ => write_ascii(value, vm, &mut text)?,
    }
    if safe && !(kind == 's' && value.is_safe()) {
        let mut escaped = Buf::new(vm.meter)?;
        escape_into(text.as_str(), &mut escaped)?;
        text = escaped;
    }
    let text = text.as_str();
    let end = flags.precision.and_then(|n| text.char_indices().nth(n)).map(|(at, _)| at);
    let text = text.get(..end.unwrap_or(text.len())).unwrap_or(text);
    aligned(text, ' ', align(flags), flags.width, out)
}

fn character(value: &Value, flags: &Flags, out: &mut Buf<'_>) -> Res<()> {
    let c = match value {
        Value::Str(text) if text.chars() == 1 => text.as_str().chars().next(),
        other => {
            let n = other.as_int().ok_or_else(|| Fault::op("%c requires int or char"))?;
            let c = u32::try_from(n).ok().and_then(char::from_u32);
            Some(c.ok_or_else(|| Fault::op("%c arg not in range(0x110000)"))?)
        }
    };
    let c = c.unwrap_or(' ');
    aligned(c.encode_utf8(&mut [0; 4]), ' ', align(flags), flags.width, out)
}

fn wrong(kind: char, value: &Value) -> Fault {
    match value.is_undefined() {
        true => value.undefined_error(),
        false => {
            Fault::op(format!("%{kind} format: a number is required, not {}", value.type_name()))
        }
    }
}

fn integer(value: &Value, kind: char, flags: &Flags, safe: bool, out: &mut Buf<'_>) -> Res<()> {
    let n = match value {
        Value::Float(f) if matches!(kind, 'd' | 'i' | 'u') => int_of_float(*f)?,
        Value::Str(text) if safe && matches!(kind, 'd' | 'i' | 'u') => {
            out.meter().tick_bytes(text.as_str().len())?;
            parse_int(text.as_str(), 10).map_err(|_| wrong(kind, value))?
        }
        other => other.as_int().ok_or_else(|| wrong(kind, value))?,
    };
    let size = n.unsigned_abs();
    let (digits, prefix) = match kind {
        'x' => (format!("{size:x}"), "0x"),
        'X' => (format!("{size:X}"), "0X"),
        'o' => (format!("{size:o}"), "0o"),
        _ => (size.to_string(), ""),
    };
    let prefix = if flags.alternate { prefix } else { "" };
    let zeros = flags.precision.unwrap_or(0).saturating_sub(digits.len());
    number(n < 0, prefix, &digits, zeros, 0, flags, out)
}

fn float(value: &Value, kind: char, flags: &Flags, safe: bool, out: &mut Buf<'_>) -> Res<()> {
    let f = match value {
        Value::Float(f) => *f,
        Value::Str(text) if safe => {
            out.meter().tick_bytes(text.as_str().len())?;
            parse_float(text.as_str()).ok_or_else(|| wrong(kind, value))?
        }
        other => other.as_int().ok_or_else(|| wrong(kind, value))? as f64,
    };
    let presentation = match kind {
        'e' | 'E' => Presentation::Exponent,
        'f' | 'F' => Presentation::Fixed,
        _ => Presentation::General,
    };
    let precision = Some(flags.precision.unwrap_or(6));
    let size = f.abs();
    let mut digits = match (size.is_nan(), size.is_infinite()) {
        (true, _) => "nan".to_owned(),
        (_, true) => "inf".to_owned(),
        _ => float_digits(size, presentation, precision, flags.alternate),
    };
    if kind.is_ascii_uppercase() {
        digits.make_ascii_uppercase();
    }
    let behind = if size.is_finite() { missing_zeros(presentation, precision) } else { 0 };
    let negative = f.is_sign_negative() && !f.is_nan();
    number(negative, "", &digits, 0, behind, flags, out)
}

/// Writes a number: a sign, a prefix, zeros, digits, and zeros behind them.
fn number(
    negative: bool,
    prefix: &str,
    digits: &str,
    zeros: usize,
    behind: usize,
    flags: &Flags,
    out: &mut Buf<'_>,
) -> Res<()> {
    let sign = match (negative, flags.plus, flags.space) {
        (true, ..) => "-",
        (_, true, _) => "+",
        (_, _, true) => " ",
        _ => "",
    };
    let length = sign.len() + prefix.len() + digits.len();
    let length = length.saturating_add(zeros).saturating_add(behind);
    let missing = flags.width.saturating_sub(length);
    let (mantissa, power) = match digits.find(['e', 'E']).filter(|_| behind > 0) {
        Some(at) => digits.split_at(at),
        None => (digits, ""),
    };
    let padded = flags.zero && !flags.left;
    if !flags.left && !padded {
        out.fill(' ', missing)?;
    }
    out.push_str(sign)?;
    out.push_str(prefix)?;
    out.fill('0', zeros.saturating_add(if padded { missing } else { 0 }))?;
    out.push_str(mantissa)?;
    out.fill('0', behind)?;
    out.push_str(power)?;
    if flags.left {
        out.fill(' ', missing)?;
    }
    Ok(())
}
