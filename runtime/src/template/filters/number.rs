//! Filters of numbers.

use super::super::args::{Args, int as int_arg};
use super::super::ast::Binary;
use super::super::error::{Fault, Res};
use super::super::number::{
    NotANumber, Number, float_op, float_repr, int_of_float, int_op, parse_float, parse_int,
    round_float, round_int, too_big,
};
use super::super::pytext::{is_decimal, is_space};
use super::super::search::Watch;
use super::super::value::Value;
use super::super::vm::Vm;
use super::or_none;

pub(super) fn abs(args: Args, _: &mut Vm<'_>) -> Res<Value> {
    let [value] = args.positional("abs", 1)?;
    match or_none(value) {
        Value::Float(f) => Ok(Value::Float(f.abs())),
        other => match other.as_int() {
            Some(n) => n.checked_abs().map(Value::Int).ok_or_else(too_big),
            None if other.is_undefined() => Err(other.undefined_error()),
            None => Err(Fault::op(format!("bad operand type for abs(): '{}'", other.type_name()))),
        },
    }
}

/// Bytes of the longest number that is read.
const LONGEST: usize = 1 << 16;

/// The text that may be a number, without white space; `None` for a long one that can't be.
fn trimmed<'t>(text: &'t str, base: i128, vm: &Vm<'_>) -> Res<Option<&'t str>> {
    vm.meter.tick_bytes(text.len())?;
    let watch = Watch::new(vm.meter);
    let text = text.trim_matches(|c| watch.goes_on() && is_space(c));
    let letters = base > 10 || base == 0;
    let possible = |c: char| {
        watch.goes_on()
            && (is_decimal(c)
                || matches!(c, '_' | '.' | '+' | '-' | 'e' | 'E')
                || letters && c.is_ascii_alphabetic())
    };
    let long = text.len() > LONGEST;
    let possible = !long || text.chars().all(possible);
    watch.end()?;
    match (possible, long) {
        (false, _) => Ok(None),
        (true, false) => Ok(Some(text)),
        (true, true) => Err(Fault::unsupported(format!("a number of more than {LONGEST} bytes"))),
    }
}

pub(super) fn int(args: Args, vm: &mut Vm<'_>) -> Res<Value> {
    let [value, default, base] = args.bind("int", ["value", "default", "base"], 1)?;
    let (value, default) = (or_none(value), default.unwrap_or(Value::Int(0)));
    let base = base.map_or(Ok(10), |b| int_arg(&b))?;
    let read = match &value {
        Value::Str(text) => {
            let Some(text) = trimmed(text.as_str(), base, vm)? else { return Ok(default) };
            let base = u32::try_from(base).ok().filter(|b| *b == 0 || (2..=36).contains(b));
            match base.map(|base| parse_int(text, base)) {
                Some(Ok(n)) => return Ok(Value::Int(n)),
                Some(Err(NotANumber::TooBig)) => return Err(too_big()),
                _ => parse_float(text),
            }
        }
        Value::Float(f) if f.is_infinite() => {
            return Err(Fault::op("cannot convert float infinity to integer"));
        }
        Value::Float(f) => Some(*f),
        other if other.is_undefined() => return Err(other.undefined_error()),
        other => match other.as_int() {
            Some(n) => return Ok(Value::Int(n)),
            None => None,
        },
    };
    match read {
        Some(f) if f.is_finite() => int_of_float(f).map(Value::Int),
        _ => Ok(default),
    }
}

pub(super) fn float(args: Args, vm: &mut Vm<'_>) -> Res<Value> {
    let [value, default] = args.bind("float", ["value", "default"], 1)?;
    let (value, default) = (or_none(value), default.unwrap_or(Value::Float(0.0)));
    Ok(match &value {
        Value::Str(text) => {
            trimmed(text.as_str(), 10, vm)?.and_then(parse_float).map_or(default, Value::Float)
        }
        Value::Float(f) => Value::Float(*f),
        other if other.is_undefined() => return Err(other.undefined_error()),
        other => other.as_int().map_or(default, |n| Value::Float(n as f64)),
    })
}

pub(super) fn round(args: Args, _: &mut Vm<'_>) -> Res<Value> {
    let [value, precision, method] = args.bind("round", ["value", "precision", "method"], 1)?;
    let value = or_none(value);
    let method = match &method {
        None => "common",
        Some(method) => method.as_str().unwrap_or(""),
    };
    if !matches!(method, "common" | "ceil" | "floor") {
        return Err(Fault::op("method must be common, ceil or floor"));
    }
    let precision = precision.map_or(Ok(0), |p| match (&p, method) {
        (Value::None, "common") => Err(Fault::unsupported("round without a precision")),
        _ => int_arg(&p),
    })?;
    let wrong = || match value.is_undefined() {
        true => value.undefined_error(),
        false => {
            let name = value.type_name();
            Fault::op(format!("type {name} doesn't define __round__ method"))
        }
    };
    if method == "common" {
        return match &value {
            Value::Float(f) => round_float(*f, precision).map(Value::Float),
            other => round_int(other.as_int().ok_or_else(wrong)?, precision).map(Value::Int),
        };
    }
    // A whole number over a power of ten, which for negative precisions is a float.
    let unit = float_power(precision)?;
    let whole = |f: f64| int_of_float(if method == "ceil" { f.ceil() } else { f.floor() });
    let power = u32::try_from(precision).ok().and_then(|places| 10i128.checked_pow(places));
    let top = match &value {
        Value::Float(f) => whole(f * unit)?,
        other => {
            let n = other.as_int().ok_or_else(wrong)?;
            match power {
                Some(power) => n.checked_mul(power).ok_or_else(too_big)?,
                None => whole(n as f64 * unit)?,
            }
        }
    };
    Ok(Value::Float(match power {
        Some(power) => match int_op(Binary::Div, top, power)? {
            Number::Float(f) => f,
            Number::Int(n) => n as f64,
        },
        None => float_op(Binary::Div, top as f64, unit)?,
    }))
}

fn float_power(precision: i128) -> Res<f64> {
    match i32::try_from(precision) {
        Ok(n) if n.abs() <= 308 => format!("1e{n}").parse().map_err(|_| too_big()),
        _ => Err(too_big()),
    }
}

pub(super) fn file_size(args: Args, vm: &mut Vm<'_>) -> Res<Value> {
    let [value, binary] = args.bind("filesizeformat", ["value", "binary"], 1)?;
    let value = or_none(value);
    let bytes = match &value {
        Value::Float(f) => *f,
        Value::Str(text) => trimmed(text.as_str(), 10, vm)?
            .and_then(parse_float)
            .ok_or_else(|| Fault::op("could not convert string to float"))?,
        other if other.is_undefined() => return Err(other.undefined_error()),
        other => int_arg(other)? as f64,
    };
    let binary = super::flag(binary, vm)?;
    let base: f64 = if binary { 1024.0 } else { 1000.0 };
    if bytes == 1.0 {
        return vm.meter.str("1 Byte");
    }
    if bytes < base {
        return vm.meter.text(format!("{} Bytes", int_of_float(bytes)?));
    }
    const PREFIXES: [char; 8] = ['k', 'M', 'G', 'T', 'P', 'E', 'Z', 'Y'];
    let mut unit = base;
    let mut prefix = 'k';
    for (at, p) in PREFIXES.into_iter().enumerate() {
        unit = base.powi(at as i32 + 2);
        prefix = p;
        if bytes < unit {
            break;
        }
    }
    let size = base * bytes / unit;
    let size = if size.is_finite() { format!("{size:.1}") } else { float_repr(size) };
    let prefix = if binary { prefix.to_ascii_uppercase() } else { prefix };
    vm.meter.text(format!("{size} {prefix}{}", if binary { "iB" } else { "B" }))
}
