//! The filter `tojson` as transformers has it: Python's `json.dumps`, with its options.

use super::super::args::{Args, count, text as text_arg};
use super::super::error::{Fault, Res};
use super::super::number::float_repr;
use super::super::ops;
use super::super::search::Watch;
use super::super::value::{Buf, Value};
use super::super::vm::Vm;
use super::{flag, or_none};

/// How JSON is written.
struct Options {
    ascii: bool,
    /// Indentation of a level.
    indent: Option<String>,
    between: String,
    colon: String,
    sort: bool,
}

pub(super) fn to_json(args: Args, vm: &mut Vm<'_>) -> Res<Value> {
    let [value, ascii, indent, separators, sort] =
        args.bind("tojson", ["x", "ensure_ascii", "indent", "separators", "sort_keys"], 1)?;
    let ascii = flag(ascii, vm)?;
    let value = or_none(value);
    let indent = match or_none(indent) {
        Value::None => None,
        // Python writes a text before it looks at the indention.
        _ if value.as_str().is_some() => None,
        Value::Str(text) => Some(text.as_str().to_owned()),
        other => {
            let n = count(&other)?;
            vm.meter.room(n)?;
            Some(" ".repeat(n))
        }
    };
    let comma = if indent.is_some() { "," } else { ", " };
    let (mut between, mut colon) = (comma.to_owned(), ": ".to_owned());
    match or_none(separators) {
        Value::None => {}
        given => {
            let given = vm.collect(&given)?;
            let Ok([a, b]) = <[Value; 2]>::try_from(given) else {
                return Err(Fault::op("separators are two strings"));
            };
            if value.as_str().is_none() {
                (between, colon) = (text_arg(&a)?.to_owned(), text_arg(&b)?.to_owned());
            }
        }
    }
    let options = Options { ascii, indent, between, colon, sort: flag(sort, vm)? };
    let mut out = Buf::new(vm.meter)?;
    write(&value, &options, 0, vm, &mut out)?;
    out.finish(false)
}

fn number(value: &Value) -> Option<String> {
    Some(match value {
        Value::None => "null".into(),
        Value::Bool(true) => "true".into(),
        Value::Bool(false) => "false".into(),
        Value::Int(n) => n.to_string(),
        Value::Float(f) if f.is_nan() => "NaN".into(),
        Value::Float(f) if f.is_infinite() => {
            if *f > 0.0 { "Infinity" } else { "-Infinity" }.into()
        }
        Value::Float(f) => float_repr(*f),
        _ => return None,
    })
}

fn write(
    value: &Value,
    options: &Options,
    depth: usize,
    vm: &mut Vm<'_>,
    out: &mut Buf<'_>,
) -> Res<()> {
    vm.meter.depth(depth)?;
    if let Some(text) = number(value) {
        return out.push_str(&text);
    }
    match value {
        Value::Str(text) => quote(text.as_str(), options.ascii, out),
        Value::List(seq) | Value::Tuple(seq) => {
            if seq.len() == 0 {
                return out.push_str("[]");
            }
            out.push('[')?;
            for (at, item) in seq.items.iter().enumerate() {
                separate(at, options, depth + 1, out)?;
                write(item, options, depth + 1, vm, out)?;
            }
            line(options, depth, out)?;
            out.push(']')
        }
        Value::Dict(dict) => entries(&dict.entries, options, depth, vm, out),
        other => {
            Err(Fault::op(format!("Object of type {} is not JSON serializable", other.type_name())))
        }
    }
}

#[inline(never)]
fn entries(
    entries: &[(Value, Value)],
    options: &Options,
    depth: usize,
    vm: &mut Vm<'_>,
    out: &mut Buf<'_>,
) -> Res<()> {
    if entries.is_empty() {
        return out.push_str("{}");
    }
    let sorted;
    let entries = match options.sort {
        false => entries,
        true => {
            let keyed = entries.iter().map(|(k, v)| (k.clone(), v.clone())).collect();
            sorted = ops::sort(keyed, false, vm)?;
            &sorted
        }
    };
    out.push('{')?;
    for (at, (key, value)) in entries.iter().enumerate() {
        separate(at, options, depth + 1, out)?;
        match (key, number(key)) {
            (Value::Str(text), _) => quote(text.as_str(), options.ascii, out)?,
            (_, Some(text)) => quote(&text, options.ascii, out)?,
            _ => {
                return Err(Fault::op(format!(
                    "keys must be str, int, float, bool or None, not {}",
                    key.type_name()
                )));
            }
        }
        out.push_str(&options.colon)?;
        write(value, options, depth + 1, vm, out)?;
    }
    line(options, depth, out)?;
    out.push('}')
}

/// Writes the separator in front of an item.
fn separate(at: usize, options: &Options, depth: usize, out: &mut Buf<'_>) -> Res<()> {
    if at > 0 {
        out.push_str(&options.between)?;
    }
    line(options, depth, out)
}

/// A new line, if there are lines.
fn line(options: &Options, depth: usize, out: &mut Buf<'_>) -> Res<()> {
    if let Some(indent) = &options.indent {
        out.push('\n')?;
        for _ in 0..depth {
            out.push_str(indent)?;
        }
    }
    Ok(())
}

fn quote(text: &str, ascii: bool, out: &mut Buf<'_>) -> Res<()> {
    out.push('"')?;
    let mut from = 0;
    let watch = Watch::new(out.meter());
    for (at, c) in text.char_indices().take_while(|_| watch.goes_on()) {
        let plain =
            !matches!(c, '"' | '\\' | '\0'..='\u{1f}') && (!ascii || (' '..='~').contains(&c));
        if plain {
            continue;
        }
        out.push_str(text.get(from..at).unwrap_or(""))?;
        from = at + c.len_utf8();
        match c {
            '"' => out.push_str("\\\"")?,
            '\\' => out.push_str("\\\\")?,
            '\n' => out.push_str("\\n")?,
            '\r' => out.push_str("\\r")?,
            '\t' => out.push_str("\\t")?,
            '\u{8}' => out.push_str("\\b")?,
            '\u{c}' => out.push_str("\\f")?,
            c => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    out.push_str(&format!("\\u{unit:04x}"))?;
                }
            }
        }
    }
    watch.end()?;
    out.push_str(text.get(from..).unwrap_or(""))?;
    out.push('"')
}
