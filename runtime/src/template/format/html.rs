//! HTML: tags are removed, and entities replaced.

use super::super::error::{Fault, Res};
use super::super::pytext::is_space;
use super::super::search;
use super::super::value::{Buf, Value};
use super::super::vm::Vm;

/// Markupsafe's `striptags`: without comments and tags, with single spaces, and without entities.
pub(in super::super) fn strip_tags(text: &str, vm: &mut Vm<'_>) -> Res<Value> {
    let without_comments = without(text, "<!--", "-->", vm)?;
    let plain = without(without_comments.as_str(), "<", ">", vm)?;
    let mut words = Buf::new(vm.meter)?;
    for word in plain.as_str().split(is_space).filter(|word| !word.is_empty()) {
        if words.len() > 0 {
            words.push(' ')?;
        }
        words.push_str(word)?;
    }
    unescape(words.as_str(), vm)
}

/// A text without the parts from `open` to `close`, found again in what is left each time.
fn without<'r>(text: &str, open: &str, close: &str, vm: &Vm<'r>) -> Res<Buf<'r>> {
    let mut out = Buf::new(vm.meter)?;
    let mut rest = text;
    while let Some(start) = search::find(rest, open, vm.meter)? {
        let inside = rest.get(start..).unwrap_or("");
        let from = if open.len() > 1 { 0 } else { 1 };
        let part = inside.get(from..).unwrap_or("");
        let Some(end) = search::find(part, close, vm.meter)? else { break };
        out.push_str(rest.get(..start).unwrap_or(""))?;
        rest = inside.get(from + end + close.len()..).unwrap_or("");
        vm.meter.tick(1)?;
        let joins = |n: &usize| {
            let (left, right) = open.split_at(*n);
            out.as_str().ends_with(left) && rest.starts_with(right)
        };
        if (1..open.len()).any(|n| joins(&n)) {
            return Err(Fault::unsupported("HTML comments within each other"));
        }
    }
    out.push_str(rest)?;
    Ok(out)
}

/// Python's `html.unescape`, of numbers and of the names that are in use.
pub(in super::super) fn unescape(text: &str, vm: &mut Vm<'_>) -> Res<Value> {
    let mut out = Buf::new(vm.meter)?;
    let mut rest = text;
    while let Some(at) = search::find(rest, "&", vm.meter)? {
        out.push_str(rest.get(..at).unwrap_or(""))?;
        let after = rest.get(at + 1..).unwrap_or("");
        rest = match entity(after)? {
            Some((c, length)) => {
                out.push_str(&c)?;
                after.get(length..).unwrap_or("")
            }
            None => {
                out.push('&')?;
                after
            }
        };
    }
    out.push_str(rest)?;
    out.finish(false)
}

/// The character that the text behind an ampersand stands for, and its length.
fn entity(text: &str) -> Res<Option<(String, usize)>> {
    if let Some(number) = text.strip_prefix('#') {
        let (digits, radix) = match number.strip_prefix(['x', 'X']) {
            Some(hex) => (hex, 16),
            None => (number, 10),
        };
        let n = digits.find(|c: char| !c.is_digit(radix)).unwrap_or(digits.len());
        if n == 0 {
            return Ok(None);
        }
        let value = u32::from_str_radix(digits.get(..n).unwrap_or(""), radix).unwrap_or(u32::MAX);
        if matches!(value, 1..=8 | 0xb | 0xe..=0x1f | 0x7f..=0x9f | 0xfdd0..=0xfdef)
            || value & 0xfffe == 0xfffe
        {
            return Err(Fault::unsupported("an entity for a control character"));
        }
        let c = match value {
            0 => '\u{fffd}',
            0xd => '\r',
            value => char::from_u32(value).unwrap_or('\u{fffd}'),
        };
        let semicolon = usize::from(digits.get(n..).is_some_and(|d| d.starts_with(';')));
        return Ok(Some((c.to_string(), text.len() - digits.len() + n + semicolon)));
    }
    let n = text.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(text.len());
    let name = text.get(..n).unwrap_or("");
    if name.is_empty() {
        return Ok(None);
    }
    let closed = text.get(n..).is_some_and(|rest| rest.starts_with(';'));
    let c = match name {
        "amp" | "AMP" => '&',
        "lt" | "LT" => '<',
        "gt" | "GT" => '>',
        "quot" | "QUOT" => '"',
        "apos" if closed => '\'',
        "nbsp" => '\u{a0}',
        "copy" => '\u{a9}',
        "reg" => '\u{ae}',
        "laquo" => '\u{ab}',
        "raquo" => '\u{bb}',
        "hellip" if closed => '\u{2026}',
        "ndash" if closed => '\u{2013}',
        "mdash" if closed => '\u{2014}',
        "lsquo" if closed => '\u{2018}',
        "rsquo" if closed => '\u{2019}',
        "ldquo" if closed => '\u{201c}',
        "rdquo" if closed => '\u{201d}',
        _ => {
            return Err(Fault::unsupported(format!("what may be the entity `&{}`", name)));
        }
    };
    Ok(Some((c.to_string(), n + usize::from(closed))))
}
