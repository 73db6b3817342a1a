//! `str.format`, with the sandbox's rules for the attributes of fields.

use std::rc::Rc;

use super::super::args::Args;
use super::super::dict::Dict;
use super::super::error::{Fault, Res};
use super::super::pytext::{digit_value, is_digit};
use super::super::repr::{escape_into, write_ascii, write_repr, write_str};
use super::super::value::{Buf, Text, Value};
use super::super::vm::Vm;
use super::spec;

/// How fields without a name are numbered.
#[derive(Clone, Copy)]
enum Numbering {
    Auto(usize),
    Manual,
}

/// Values of fields.
struct Fields {
    args: Vec<Value>,
    named: Value,
    numbering: Numbering,
    /// True if the result is safe text.
    safe: bool,
}

/// `str.format(..)`.
pub(in super::super) fn format(text: &Rc<Text>, args: Args, vm: &mut Vm<'_>) -> Res<Value> {
    let mut named = Dict::new(vm.meter)?;
    for (key, value) in args.kw {
        named.set(key, value, vm.meter)?;
    }
    run(text, args.pos, Value::Dict(Rc::new(named)), vm)
}

/// `str.format_map(mapping)`.
pub(in super::super) fn format_map(text: &Rc<Text>, map: Value, vm: &mut Vm<'_>) -> Res<Value> {
    run(text, Vec::new(), map, vm)
}

fn run(text: &Rc<Text>, args: Vec<Value>, named: Value, vm: &mut Vm<'_>) -> Res<Value> {
    let mut fields = Fields { args, named, numbering: Numbering::Auto(0), safe: text.safe };
    let mut out = Buf::new(vm.meter)?;
    write(text.as_str(), &mut fields, 2, vm, &mut out)?;
    out.finish(text.safe)
}

/// Writes a text with its fields; `depth` is how much deeper specifications may nest.
fn write(
    text: &str,
    fields: &mut Fields,
    depth: i32,
    vm: &mut Vm<'_>,
    out: &mut Buf<'_>,
) -> Res<()> {
    if depth < 0 {
        return Err(Fault::op("max string recursion exceeded"));
    }
    let mut rest = text;
    while let Some(at) = rest.find(['{', '}']) {
        out.push_str(rest.get(..at).unwrap_or(""))?;
        let after = rest.get(at + 1..).unwrap_or("");
        let open = rest.get(at..).is_some_and(|r| r.starts_with('{'));
        let c = if open { '{' } else { '}' };
        if let Some(after) = after.strip_prefix(c) {
            out.push(c)?;
            rest = after;
            continue;
        }
        if !open {
            return Err(Fault::op("single '}' encountered in format string"));
        }
        if after.is_empty() {
            return Err(Fault::op("single '{' encountered in format string"));
        }
        let end = field_end(after)?;
        rest = after.get(end + 1..).unwrap_or("");
        field(after.get(..end).unwrap_or(""), fields, depth, vm, out)?;
    }
    out.push_str(rest)
}

/// The end of a field, which may have fields in it.
fn field_end(text: &str) -> Res<usize> {
    let mut depth = 1;
    let mut bracket = false;
    let mut in_name = true;
    for (at, c) in text.char_indices() {
        match c {
            '[' if in_name => bracket = true,
            ']' if in_name => bracket = false,
            _ if bracket => {}
            ':' | '!' => in_name = false,
            '{' if in_name && depth == 1 => {
                return Err(Fault::op("unexpected '{' in field name"));
            }
            '{' => depth += 1,
            '}' => {
                depth -= 1;
                if depth == 0 {
                    return Ok(at);
                }
            }
            _ => {}
        }
    }
    Err(Fault::op("expected '}' before end of string"))
}

fn field(
    text: &str,
    fields: &mut Fields,
    depth: i32,
    vm: &mut Vm<'_>,
    out: &mut Buf<'_>,
) -> Res<()> {
    // Brackets hide what would end the name.
    let mut bracket = false;
    let end = text.find(|c| {
        match c {
            '[' => bracket = true,
            ']' => bracket = false,
            _ => {}
        }
        !bracket && matches!(c, ':' | '!')
    });
    let (name, after) = text.split_at(end.unwrap_or(text.len()));
    let mut spec_text = after.strip_prefix(':').unwrap_or("");
    let mut conversion = None;
    if let Some(after) = after.strip_prefix('!') {
        let mut chars = after.chars();
        conversion = chars.next();
        spec_text = match (conversion, chars.as_str()) {
            (None, _) => {
                return Err(Fault::op("end of string while looking for conversion specifier"));
            }
            (_, "") => "",
            (_, rest) => rest
                .strip_prefix(':')
                .ok_or_else(|| Fault::op("expected ':' after conversion specifier"))?,
        };
    }
    let mut value = get(name, fields, vm)?;
    if let Some(conversion) = conversion {
        let mut text = Buf::new(vm.meter)?;
        match conversion {
            's' => write_str(&value, vm, &mut text)?,
            'r' => write_repr(&value, vm, &mut text, 0)?,
            'a' => write_ascii(&value, vm, &mut text)?,
            other => {
                return Err(Fault::op(format!("unknown conversion specifier {other}")));
            }
        }
        value = text.finish(false)?;
    }
    let mut inner = Buf::new(vm.meter)?;
    write(spec_text, fields, depth - 1, vm, &mut inner)?;
    if !fields.safe {
        return spec::format(&value, inner.as_str(), vm, out);
    }
    if let Value::Str(text) = &value
        && text.safe
    {
        return match inner.as_str().is_empty() {
            true => out.push_str(text.as_str()),
            false => Err(Fault::op("unsupported format specification for Markup")),
        };
    }
    let mut text = Buf::new(vm.meter)?;
    spec::format(&value, inner.as_str(), vm, &mut text)?;
    escape_into(text.as_str(), out)
}

/// The value of a field: an argument, and attributes and items of it.
fn get(name: &str, fields: &mut Fields, vm: &mut Vm<'_>) -> Res<Value> {
    let switch = || {
        Fault::op("cannot switch between manual field specification and automatic field numbering")
    };
    let auto;
    let mut name = name;
    if name.is_empty() {
        let Numbering::Auto(n) = fields.numbering else { return Err(switch()) };
        fields.numbering = Numbering::Auto(n + 1);
        auto = n.to_string();
        name = &auto;
    } else if name.chars().all(is_digit) {
        if let Numbering::Auto(1..) = fields.numbering {
            return Err(switch());
        }
        fields.numbering = Numbering::Manual;
    }
    let (first, mut rest) = name.split_at(name.find(['.', '[']).unwrap_or(name.len()));
    let mut value = match index(first) {
        Some(n) => {
            let value = usize::try_from(n).ok().and_then(|n| fields.args.get(n)).cloned();
            value.ok_or_else(|| {
                Fault::op("replacement index out of range for positional args tuple")
            })?
        }
        None => {
            let found = match &fields.named {
                Value::Dict(dict) => dict.get_str(first).cloned(),
                other if other.is_undefined() => return Err(other.undefined_error()),
                _ => None,
            };
            found.ok_or_else(|| Fault::op(format!("there is no argument '{first}'")))?
        }
    };
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix('.') {
            let (attribute, after) = after.split_at(after.find(['.', '[']).unwrap_or(after.len()));
            if attribute.is_empty() {
                return Err(Fault::op("empty attribute in format string"));
            }
            let attribute = vm.meter.str(attribute)?;
            value = vm.getattr(&value, &attribute)?;
            rest = after;
        } else if let Some(after) = rest.strip_prefix('[') {
            let end = after.find(']').ok_or_else(|| Fault::op("missing ']' in format string"))?;
            let (item, after) = after.split_at(end);
            if item.is_empty() {
                return Err(Fault::op("empty attribute in format string"));
            }
            let item = match index(item) {
                Some(n) => Value::Int(n),
                None => vm.meter.str(item)?,
            };
            value = vm.getitem(&value, &item)?;
            rest = after.get(1..).unwrap_or("");
        } else {
            return Err(Fault::op("only '.' or '[' may follow ']' in format field specifier"));
        }
    }
    Ok(value)
}

/// An index, if that is what a text is.
fn index(text: &str) -> Option<i128> {
    if text.is_empty() {
        return None;
    }
    text.chars().try_fold(0i128, |n, c| {
        let digit = digit_value(c)?;
        n.checked_mul(10)?.checked_add(i128::from(digit))
    })
}
