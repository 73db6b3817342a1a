//! Filters of strings. Most of them take any value as its text.

use super::super::args::{Args, count, int as int_arg, size, text as text_arg};
use super::super::ast::{Binary, Compare};
use super::super::error::{Fault, Res};
use super::super::format::{html, percent};
use super::super::methods::text as methods;
use super::super::ops;
use super::super::pytext::{Case, cased, is_alnum, is_space, lines};
use super::super::repr::{self, quote, soft_str, to_str, with_safety};
use super::super::value::{Buf, Value};
use super::super::vm::Vm;
use super::{flag, or_none};

/// The text of a filter's value.
fn soft(value: Option<Value>, vm: &Vm<'_>) -> Res<Value> {
    soft_str(&or_none(value), vm)
}

fn in_case(args: Args, name: &str, case: Case, vm: &mut Vm<'_>) -> Res<Value> {
    let [value] = args.bind(name, ["s"], 1)?;
    let value = soft(value, vm)?;
    cased(value.as_str().unwrap_or(""), case, value.is_safe(), vm.meter)
}

pub(super) fn upper(args: Args, vm: &mut Vm<'_>) -> Res<Value> {
    in_case(args, "upper", Case::Upper, vm)
}

pub(super) fn lower(args: Args, vm: &mut Vm<'_>) -> Res<Value> {
    in_case(args, "lower", Case::Lower, vm)
}

pub(super) fn capitalize(args: Args, vm: &mut Vm<'_>) -> Res<Value> {
    in_case(args, "capitalize", Case::Capital, vm)
}

/// Words, which start behind white space and some punctuation, with a capital.
pub(super) fn title(args: Args, vm: &mut Vm<'_>) -> Res<Value> {
    let [value] = args.bind("title", ["s"], 1)?;
    let value = soft(value, vm)?;
    let starts = |c: char| is_space(c) || matches!(c, '-' | '(' | '{' | '[' | '<');
    let mut out = Buf::new(vm.meter)?;
    let text = value.as_str().unwrap_or("");
    let mut rest = text;
    while !rest.is_empty() {
        // A word, or what is between words.
        let between = rest.starts_with(starts);
        let end = rest.find(|c| starts(c) != between).unwrap_or(rest.len());
        let (item, after) = rest.split_at(end);
        let first = item.chars().next().map_or(0, char::len_utf8);
        let (head, tail) = item.split_at(first);
        let head = cased(head, Case::Upper, false, vm.meter)?;
        let tail = cased(tail, Case::Lower, false, vm.meter)?;
        out.push_str(head.as_str().unwrap_or(""))?;
        out.push_str(tail.as_str().unwrap_or(""))?;
        rest = after;
    }
    out.finish(false)
}

pub(super) fn string(args: Args, vm: &mut Vm<'_>) -> Res<Value> {
    let [value] = args.positional("soft_str", 1)?;
    soft(value, vm)
}

pub(super) fn safe(args: Args, vm: &mut Vm<'_>) -> Res<Value> {
    let [value] = args.bind("safe", ["value"], 1)?;
    with_safety(soft(value, vm)?, true, vm)
}

pub(super) fn escape(args: Args, vm: &mut Vm<'_>) -> Res<Value> {
    let [value] = args.positional("escape", 1)?;
    repr::escape(&or_none(value), vm)
}

pub(super) fn force_escape(args: Args, vm: &mut Vm<'_>) -> Res<Value> {
    let [value] = args.bind("forceescape", ["value"], 1)?;
    let text = to_str(&or_none(value), vm)?;
    repr::escape(&text, vm)
}

pub(super) fn strip_tags(args: Args, vm: &mut Vm<'_>) -> Res<Value> {
    let [value] = args.bind("striptags", ["value"], 1)?;
    let value = soft(value, vm)?;
    html::strip_tags(value.as_str().unwrap_or(""), vm)
}

pub(super) fn trim(args: Args, vm: &mut Vm<'_>) -> Res<Value> {
    let [value, chars] = args.bind("trim", ["value", "chars"], 1)?;
    match soft(value, vm)? {
        Value::Str(text) => methods::strip(&text, "strip", chars.as_ref(), vm),
        other => Ok(other),
    }
}

pub(super) fn center(args: Args, vm: &mut Vm<'_>) -> Res<Value> {
    let [value, width] = args.bind("center", ["value", "width"], 1)?;
    let width = width.unwrap_or(Value::Int(80));
    match soft(value, vm)? {
        Value::Str(text) => {
            methods::call(&text, "center", Args { pos: vec![width], kw: Vec::new() }, vm)
        }
        other => Ok(other),
    }
}

pub(super) fn replace(args: Args, vm: &mut Vm<'_>) -> Res<Value> {
    let [value, old, new, most] = args.bind("replace", ["s", "old", "new", "count"], 3)?;
    let most = match most {
        None | Some(Value::None) => -1,
        Some(most) => size(&most)?.into(),
    };
    let (value, old, new) = (or_none(value), or_none(old), or_none(new));
    if !vm.autoescape {
        let (s, old, new) = (to_str(&value, vm)?, to_str(&old, vm)?, to_str(&new, vm)?);
        return methods::replace(text_arg(&s)?, text_arg(&old)?, text_arg(&new)?, most, false, vm);
    }
    let escape = old.is_safe() || new.is_safe() && !value.is_safe();
    let s = if escape { repr::escape(&value, vm)? } else { soft_str(&value, vm)? };
    let (old, mut new) = (soft_str(&old, vm)?, soft_str(&new, vm)?);
    if s.is_safe() {
        new = repr::escape(&new, vm)?;
    }
    let safe = s.is_safe();
    methods::replace(text_arg(&s)?, text_arg(&old)?, text_arg(&new)?, most, safe, vm)
}

pub(super) fn format(args: Args, vm: &mut Vm<'_>) -> Res<Value> {
    let mut args = args;
    let value = soft(args.shift(), vm)?;
    if !args.pos.is_empty() && !args.kw.is_empty() {
        return Err(Fault::op("can't handle positional and keyword arguments at the same time"));
    }
    let values = match args.kw.is_empty() {
        true => vm.meter.tuple(args.pos)?,
        false => Value::Dict(std::rc::Rc::new(vm.dict_of(args)?)),
    };
    match &value {
        Value::Str(text) => percent::format(text, &values, vm),
        _ => Ok(value),
    }
}

pub(super) fn indent(args: Args, vm: &mut Vm<'_>) -> Res<Value> {
    let [value, width, first, blank] = args.bind("indent", ["s", "width", "first", "blank"], 1)?;
    let (first, blank) = (flag(first, vm)?, flag(blank, vm)?);
    let value = or_none(value);
    let Value::Str(text) = &value else {
        return Err(match value.is_undefined() {
            true => value.undefined_error(),
            false => Fault::op(format!("'{}' object has no lines", value.type_name())),
        });
    };
    let width = width.unwrap_or(Value::Int(4));
    let mut indention = Buf::new(vm.meter)?;
    match &width {
        Value::Str(width) => indention.push_str(width.as_str())?,
        other => indention.fill(' ', count(other)?)?,
    }
    let mut out = Buf::new(vm.meter)?;
    let with_end = {
        let mut with_end = Buf::with_capacity(vm.meter, text.as_str().len() + 1)?;
        with_end.push_str(text.as_str())?;
        with_end.push('\n')?;
        with_end
    };
    for (at, line) in lines(with_end.as_str(), false, vm.meter)?.into_iter().enumerate() {
        if at > 0 {
            out.push('\n')?;
        }
        if if at == 0 { first } else { blank || !line.is_empty() } {
            out.push_str(indention.as_str())?;
        }
        out.push_str(line)?;
    }
    out.finish(text.safe)
}

pub(super) fn truncate(args: Args, vm: &mut Vm<'_>) -> Res<Value> {
    let [value, length, kill, end, leeway] =
        args.bind("truncate", ["s", "length", "killwords", "end", "leeway"], 1)?;
    let value = or_none(value);
    let length = length.unwrap_or(Value::Int(255));
    let kill = flag(kill, vm)?;
    let end = match end {
        Some(end) => end,
        None => vm.meter.str("...")?,
    };
    let leeway = match leeway {
        None | Some(Value::None) => Value::Int(5),
        Some(leeway) => leeway,
    };
    let end_length = match &end {
        Value::Str(text) => text.chars() as i128,
        other => {
            return Err(Fault::op(format!("object of type '{}' has no len()", other.type_name())));
        }
    };
    let end_length = Value::Int(end_length);
    if !ops::compare(Compare::Ge, &length, &end_length, vm)? {
        return Err(Fault::op("truncate: the length is less than that of the end"));
    }
    if !ops::compare(Compare::Ge, &leeway, &Value::Int(0), vm)? {
        return Err(Fault::op("truncate: the leeway is less than 0"));
    }
    let most = ops::binary(Binary::Add, &length, &leeway, vm)?;
    let Some(chars) = ops::length(&value, vm)? else {
        return Err(Fault::op(format!("object of type '{}' has no len()", value.type_name())));
    };
    if ops::compare(Compare::Le, &Value::Int(chars), &most, vm)? {
        return Ok(value);
    }
    let Value::Str(text) = &value else {
        return Err(Fault::op("truncate needs a string"));
    };
    let kept = int_arg(&ops::binary(Binary::Sub, &length, &end_length, vm)?)?;
    let part = text.part(0, usize::try_from(kept).unwrap_or(usize::MAX));
    let part = if kill { part } else { part.rsplit_once(' ').map_or(part, |(left, _)| left) };
    vm.meter.room(part.len())?;
    let part = vm.meter.any_text(part.to_owned(), text.safe)?;
    ops::binary(Binary::Add, &part, &end, vm)
}

pub(super) fn word_count(args: Args, vm: &mut Vm<'_>) -> Res<Value> {
    let [value] = args.bind("wordcount", ["s"], 1)?;
    let value = soft(value, vm)?;
    let (mut words, mut inside) = (0, false);
    for c in value.as_str().unwrap_or("").chars() {
        vm.meter.tick(1)?;
        let word = is_alnum(c) || c == '_';
        words += i128::from(word && !inside);
        inside = word;
    }
    Ok(Value::Int(words))
}

/// Writes a text for a URL, with `/` and `+` as queries have them.
fn url_quote(value: &Value, query: bool, vm: &Vm<'_>, out: &mut Buf<'_>) -> Res<()> {
    let text = soft_str(value, vm)?;
    for &b in text.as_str().unwrap_or("").as_bytes() {
        match b {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'.' | b'-' | b'~' => {
                out.push(char::from(b))?;
            }
            b'/' if !query => out.push('/')?,
            b' ' if query => out.push('+')?,
            b => out.push_str(&format!("%{b:02X}"))?,
        }
    }
    Ok(())
}

pub(super) fn url_encode(args: Args, vm: &mut Vm<'_>) -> Res<Value> {
    let [value] = args.bind("urlencode", ["value"], 1)?;
    let value = or_none(value);
    let mut out = Buf::new(vm.meter)?;
    if value.as_str().is_some() || !vm.is_iterable(&value) {
        url_quote(&value, false, vm, &mut out)?;
        return out.finish(false);
    }
    let iter = match &value {
        Value::Dict(dict) => {
            let items = vm.view(dict, super::super::value::ViewKind::Items)?;
            vm.iter(&items)?
        }
        other => vm.iter(other)?,
    };
    while let Some(pair) = vm.next(&iter)? {
        let pair = vm.collect(&pair)?;
        let Ok([key, value]) = <[Value; 2]>::try_from(pair) else {
            return Err(Fault::op("urlencode needs pairs"));
        };
        if out.len() > 0 {
            out.push('&')?;
        }
        url_quote(&key, true, vm, &mut out)?;
        out.push('=')?;
        url_quote(&value, true, vm, &mut out)?;
    }
    out.finish(false)
}

pub(super) fn urlize(_: Args, _: &mut Vm<'_>) -> Res<Value> {
    Err(Fault::unsupported("the filter `urlize`, which makes links for web pages"))
}

pub(super) fn xml_attr(args: Args, vm: &mut Vm<'_>) -> Res<Value> {
    let [value, space] = args.bind("xmlattr", ["d", "autospace"], 1)?;
    let space = match space {
        Some(space) => ops::truth(&space, vm)?,
        None => true,
    };
    let value = or_none(value);
    let Value::Dict(dict) = &value else {
        return Err(match value.is_undefined() {
            true => value.undefined_error(),
            false => Fault::op("xmlattr needs a mapping"),
        });
    };
    let mut out = Buf::new(vm.meter)?;
    for (key, value) in &dict.entries {
        if matches!(value, Value::None) || value.is_undefined() {
            continue;
        }
        let name = text_arg(key)?;
        if name.contains([' ', '\t', '\n', '\r', '\u{b}', '\u{c}', '/', '>', '=']) {
            return Err(Fault::op(format!("invalid character in attribute name: '{name}'")));
        }
        if out.len() > 0 || space {
            out.push(' ')?;
        }
        let key = repr::escape(key, vm)?;
        let value = repr::escape(value, vm)?;
        out.push_str(key.as_str().unwrap_or(""))?;
        out.push_str("=\"")?;
        out.push_str(value.as_str().unwrap_or(""))?;
        out.push('"')?;
    }
    out.finish(vm.autoescape)
}

/// Python's pretty printing, of what fits into a line.
pub(super) fn pprint(args: Args, vm: &mut Vm<'_>) -> Res<Value> {
    let [value] = args.bind("pprint", ["value"], 1)?;
    let mut out = Buf::new(vm.meter)?;
    sorted_repr(&or_none(value), vm, &mut out, 0)?;
    match out.as_str().chars().count() > 80 {
        true => Err(Fault::unsupported("the filter `pprint` of what has more than 80 characters")),
        false => out.finish(false),
    }
}

/// `repr` with dictionaries in the order of their keys.
fn sorted_repr(value: &Value, vm: &mut Vm<'_>, out: &mut Buf<'_>, depth: usize) -> Res<()> {
    vm.meter.depth(depth)?;
    let (open, close, items) = match value {
        Value::List(seq) => ("[", "]", seq),
        Value::Tuple(seq) => ("(", if seq.len() == 1 { ",)" } else { ")" }, seq),
        Value::Dict(dict) => {
            let keyed = dict.entries.iter().map(|(k, v)| (k.clone(), v.clone())).collect();
            let sorted = ops::sort(keyed, false, vm)?;
            out.push('{')?;
            for (at, (key, value)) in sorted.iter().enumerate() {
                if at > 0 {
                    out.push_str(", ")?;
                }
                sorted_repr(key, vm, out, depth + 1)?;
                out.push_str(": ")?;
                sorted_repr(value, vm, out, depth + 1)?;
            }
            return out.push('}');
        }
        Value::Str(text) if !text.safe => return quote(text.as_str(), out),
        other => return repr::write_repr(other, vm, out, depth),
    };
    out.push_str(open)?;
    for (at, item) in items.items.iter().enumerate() {
        if at > 0 {
            out.push_str(", ")?;
        }
        sorted_repr(item, vm, out, depth + 1)?;
    }
    out.push_str(close)
}
