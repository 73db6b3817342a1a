//! Values as text, as Python's `str` and `repr` write them.

use super::error::{Fault, Res};
use super::number::float_repr;
use super::pytext::is_printable;
use super::search::Watch;
use super::value::{Buf, Value, ViewKind};
use super::vm::Vm;

/// Writes `str(value)`.
pub(super) fn write_str(value: &Value, vm: &Vm<'_>, out: &mut Buf<'_>) -> Res<()> {
    match value {
        Value::Missing | Value::Undefined(_) => Ok(()),
        Value::Str(text) => out.push_str(text.as_str()),
        other => write_repr(other, vm, out, 0),
    }
}

/// `str(value)` as a value; strings stay what they are.
pub(super) fn soft_str(value: &Value, vm: &Vm<'_>) -> Res<Value> {
    match value {
        Value::Str(_) => Ok(value.clone()),
        other => to_str(other, vm),
    }
}

/// `str(value)` as a value; safe text becomes a plain string.
pub(super) fn to_str(value: &Value, vm: &Vm<'_>) -> Res<Value> {
    if let Value::Str(text) = value
        && !text.safe
    {
        return Ok(value.clone());
    }
    let mut out = Buf::new(vm.meter)?;
    write_str(value, vm, &mut out)?;
    out.finish(false)
}

/// Writes `repr(value)`.
pub(super) fn write_repr(value: &Value, vm: &Vm<'_>, out: &mut Buf<'_>, depth: usize) -> Res<()> {
    vm.meter.depth(depth)?;
    match value {
        Value::Missing | Value::Undefined(_) => out.push_str("Undefined"),
        Value::None => out.push_str("None"),
        Value::Bool(true) => out.push_str("True"),
        Value::Bool(false) => out.push_str("False"),
        Value::Int(n) => out.push_str(&n.to_string()),
        Value::Float(f) => out.push_str(&float_repr(*f)),
        Value::Str(text) if text.safe => {
            out.push_str("Markup(")?;
            quote(text.as_str(), out)?;
            out.push(')')
        }
        Value::Str(text) => quote(text.as_str(), out),
        Value::List(seq) => sequence(&seq.items, "[", "]", vm, out, depth),
        Value::Tuple(seq) => {
            sequence(&seq.items, "(", if seq.len() == 1 { ",)" } else { ")" }, vm, out, depth)
        }
        Value::Dict(dict) => pairs(&dict.entries, vm, out, depth),
        Value::Range(range) => {
            out.push_str(&format!("range({}, {}", range.start, range.stop))?;
            if range.step != 1 {
                out.push_str(&format!(", {}", range.step))?;
            }
            out.push(')')
        }
        Value::View(view) => {
            let entries = &view.dict.entries;
            match view.kind {
                ViewKind::Keys => {
                    let keys: Vec<Value> = entries.iter().map(|(k, _)| k.clone()).collect();
                    sequence(&keys, "dict_keys([", "])", vm, out, depth)
                }
                ViewKind::Values => {
                    let values: Vec<Value> = entries.iter().map(|(_, v)| v.clone()).collect();
                    sequence(&values, "dict_values([", "])", vm, out, depth)
                }
                ViewKind::Items => {
                    out.push_str("dict_items([")?;
                    for (at, (key, value)) in entries.iter().enumerate() {
                        if at > 0 {
                            out.push_str(", ")?;
                        }
                        sequence(&[key.clone(), value.clone()], "(", ")", vm, out, depth + 1)?;
                    }
                    out.push_str("])")
                }
            }
        }
        Value::Namespace(n) => namespace(*n, vm, out, depth),
        Value::Macro(n) => match vm.macro_name(*n) {
            Some(name) => {
                out.push_str("<Macro ")?;
                quote(name, out)?;
                out.push('>')
            }
            None => out.push_str("<Macro anonymous>"),
        },
        Value::SelfRef => out.push_str("<TemplateReference None>"),
        other => Err(Fault::unsupported(format!(
            "the text of a value of type '{}', which Python writes with its address",
            other.type_name()
        ))),
    }
}

#[inline(never)]
fn namespace(n: u32, vm: &Vm<'_>, out: &mut Buf<'_>, depth: usize) -> Res<()> {
    out.push_str("<Namespace ")?;
    if vm.printing.borrow().contains(&n) {
        return out.push_str("{...}>");
    }
    vm.printing.borrow_mut().push(n);
    let written = vm.with_namespace(n, |dict| pairs(&dict.entries, vm, out, depth + 1));
    vm.printing.borrow_mut().pop();
    written?;
    out.push('>')
}

#[inline(never)]
fn sequence(
    items: &[Value],
    open: &str,
    close: &str,
    vm: &Vm<'_>,
    out: &mut Buf<'_>,
    depth: usize,
) -> Res<()> {
    out.push_str(open)?;
    for (at, item) in items.iter().enumerate() {
        if at > 0 {
            out.push_str(", ")?;
        }
        write_repr(item, vm, out, depth + 1)?;
    }
    out.push_str(close)
}

#[inline(never)]
fn pairs(entries: &[(Value, Value)], vm: &Vm<'_>, out: &mut Buf<'_>, depth: usize) -> Res<()> {
    out.push('{')?;
    for (at, (key, value)) in entries.iter().enumerate() {
        if at > 0 {
            out.push_str(", ")?;
        }
        write_repr(key, vm, out, depth + 1)?;
        out.push_str(": ")?;
        write_repr(value, vm, out, depth + 1)?;
    }
    out.push('}')
}

/// Writes `repr` of a string.
pub(super) fn quote(text: &str, out: &mut Buf<'_>) -> Res<()> {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    out.push(quote)?;
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\")?,
            '\n' => out.push_str("\\n")?,
            '\r' => out.push_str("\\r")?,
            '\t' => out.push_str("\\t")?,
            c if c == quote => {
                out.push('\\')?;
                out.push(c)?;
            }
            c if is_printable(c) => out.push(c)?,
            c => out.push_str(&escaped(c))?,
        }
    }
    out.push(quote)
}

/// A character by its number.
pub(super) fn escaped(c: char) -> String {
    match c as u32 {
        n @ 0..=0xff => format!("\\x{n:02x}"),
        n @ 0x100..=0xffff => format!("\\u{n:04x}"),
        n => format!("\\U{n:08x}"),
    }
}

/// Writes `ascii(value)`: `repr` with everything escaped that is not ASCII.
pub(super) fn write_ascii(value: &Value, vm: &Vm<'_>, out: &mut Buf<'_>) -> Res<()> {
    let mut text = Buf::new(vm.meter)?;
    write_repr(value, vm, &mut text, 0)?;
    for c in text.as_str().chars() {
        match c.is_ascii() {
            true => out.push(c)?,
            false => out.push_str(&escaped(c))?,
        }
    }
    Ok(())
}

/// Writes a text with the characters of HTML escaped.
pub(super) fn escape_into(text: &str, out: &mut Buf<'_>) -> Res<()> {
    let watch = Watch::new(out.meter());
    let stops = |c: char| !watch.goes_on() || matches!(c, '&' | '<' | '>' | '\'' | '"');
    let mut rest = text;
    while let Some(at) = rest.find(stops) {
        out.push_str(rest.get(..at).unwrap_or(""))?;
        out.push_str(match rest.as_bytes().get(at) {
            Some(b'&') => "&amp;",
            Some(b'<') => "&lt;",
            Some(b'>') => "&gt;",
            Some(b'\'') => "&#39;",
            _ => "&#34;",
        })?;
        rest = rest.get(at + 1..).unwrap_or("");
    }
    watch.end()?;
    out.push_str(rest)
}

/// Markupsafe's `escape`: safe text stays, everything else is escaped as text.
pub(super) fn escape(value: &Value, vm: &Vm<'_>) -> Res<Value> {
    if value.is_safe() {
        return Ok(value.clone());
    }
    let mut out = Buf::new(vm.meter)?;
    match value {
        Value::Str(text) => escape_into(text.as_str(), &mut out)?,
        other => {
            let text = to_str(other, vm)?;
            escape_into(text.as_str().unwrap_or(""), &mut out)?;
        }
    }
    out.finish(true)
}

/// A string as safe text or as a plain one.
pub(super) fn with_safety(value: Value, safe: bool, vm: &Vm<'_>) -> Res<Value> {
    match &value {
        Value::Str(text) if text.safe != safe => {
            vm.meter.room(text.as_str().len())?;
            vm.meter.any_text(text.as_str().to_owned(), safe)
        }
        _ => Ok(value),
    }
}
