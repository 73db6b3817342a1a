//! Methods of strings, which return safe text for safe text, and then escape what they put into it.

use std::rc::Rc;

use super::super::args::{Args, count, short, size, text as text_arg};
use super::super::dict::Dict;
use super::super::error::{Fault, Res};
use super::super::format::{braces, html};
use super::super::pytext::{self, Case, cased, is_space};
use super::super::repr;
use super::super::search::{self, Watch};
use super::super::value::{Buf, Text, Value};
use super::super::vm::Vm;

/// Calls a method.
pub(in super::super) fn call(
    text: &Rc<Text>,
    name: &str,
    args: Args,
    vm: &mut Vm<'_>,
) -> Res<Value> {
    let s = text.as_str();
    vm.meter.tick_bytes(s.len())?;
    match name {
        "capitalize" | "casefold" | "lower" | "swapcase" | "title" | "upper" => {
            let [] = args.positional(name, 0)?;
            let case = match name {
                "capitalize" => Case::Capital,
                "casefold" => Case::Fold,
                "lower" => Case::Lower,
                "swapcase" => Case::Swap,
                "title" => Case::Title,
                _ => Case::Upper,
            };
            cased(s, case, text.safe, vm.meter)
        }
        "center" | "ljust" | "rjust" => {
            let [width, fill] = args.positional(name, 1)?;
            let width = count(&width.unwrap_or(Value::None))?;
            pad(text, name, width, fill.as_ref(), vm)
        }
        "zfill" => {
            let [width] = args.positional(name, 1)?;
            zfill(text, count(&width.unwrap_or(Value::None))?, vm)
        }
        "strip" | "lstrip" | "rstrip" => {
            let [chars] = args.positional(name, 0)?;
            strip(text, name, chars.as_ref(), vm)
        }
        "startswith" | "endswith" => starts_or_ends(text, name, args, vm),
        "find" | "rfind" | "index" | "rindex" | "count" => find(text, name, args, vm),
        "split" | "rsplit" => {
            let [separator, most] = args.bind(name, ["sep", "maxsplit"], 0)?;
            let most = most.map_or(Ok(-1), |m| size(&m))?.into();
            split(text, name == "rsplit", separator.as_ref(), most, vm)
        }
        "splitlines" => {
            let [keep] = args.bind(name, ["keepends"], 0)?;
            let keep = match keep {
                Some(keep) => short(&keep)? != 0,
                None => false,
            };
            let lines = pytext::lines(s, keep, vm.meter)?;
            parts(&lines, text.safe, vm)
        }
        "partition" | "rpartition" => {
            let [separator] = args.positional(name, 1)?;
            partition(text, name == "rpartition", &separator.unwrap_or(Value::None), vm)
        }
        "replace" => {
            let [old, new, most] = args.positional(name, 2)?;
            let (old, new) = (old.unwrap_or(Value::None), new.unwrap_or(Value::None));
            let most = most.map_or(Ok(-1), |m| size(&m))?.into();
            let new = if text.safe { repr::escape(&new, vm)? } else { new };
            replace(s, text_arg(&old)?, text_arg(&new)?, most, text.safe, vm)
        }
        "join" => {
            let [items] = args.positional(name, 1)?;
            join(text, &items.unwrap_or(Value::None), vm)
        }
        "removeprefix" | "removesuffix" => {
            let [part] = args.positional(name, 1)?;
            let part = part.unwrap_or(Value::None);
            let part = text_arg(&part)?;
            let rest = match name {
                "removeprefix" => s.strip_prefix(part),
                _ => s.strip_suffix(part),
            };
            piece(rest.unwrap_or(s), text.safe, vm)
        }
        "expandtabs" => {
            let [width] = args.bind(name, ["tabsize"], 0)?;
            expand_tabs(text, width.map_or(Ok(8), |w| short(&w))?.into(), vm)
        }
        "format" => braces::format(text, args, vm),
        "format_map" => {
            let [map] = args.positional(name, 1)?;
            braces::format_map(text, map.unwrap_or(Value::None), vm)
        }
        "translate" | "maketrans" => translate(text, name, args, vm),
        "encode" => Err(Fault::unsupported("bytes")),
        "escape" => {
            let [value] = args.positional(name, 1)?;
            repr::escape(&value.unwrap_or(Value::None), vm)
        }
        "striptags" | "unescape" => {
            let [] = args.positional(name, 0)?;
            match name {
                "striptags" => html::strip_tags(s, vm),
                _ => html::unescape(s, vm),
            }
        }
        _ => {
            let [] = args.positional(name, 0)?;
            is(s, name, vm)
        }
    }
}

/// A part of a text as a value.
fn piece(part: &str, safe: bool, vm: &Vm<'_>) -> Res<Value> {
    vm.meter.room(part.len())?;
    vm.meter.any_text(part.to_owned(), safe)
}

fn parts(all: &[&str], safe: bool, vm: &Vm<'_>) -> Res<Value> {
    let mut items = vm.meter.items(all.len())?;
    for part in all {
        items.push(piece(part, safe, vm)?);
    }
    vm.meter.list(items)
}

/// The methods that ask what a text is like.
fn is(s: &str, name: &str, vm: &Vm<'_>) -> Res<Value> {
    let watch = Watch::new(vm.meter);
    let mut chars = s.chars().take_while(|_| watch.goes_on());
    let mut all = |test: fn(char) -> bool| chars.all(test);
    let any = !s.is_empty();
    let found = match name {
        "isalnum" => any && all(pytext::is_alnum),
        "isalpha" => any && all(pytext::is_alpha),
        "isascii" => s.is_ascii(),
        "isdecimal" => any && all(pytext::is_decimal),
        "isdigit" => any && all(pytext::is_digit),
        "isidentifier" => pytext::is_identifier(chars),
        "islower" => pytext::all_in_case(chars, false),
        "isupper" => pytext::all_in_case(chars, true),
        "isnumeric" => any && all(pytext::is_numeric),
        "isprintable" => all(pytext::is_printable),
        "isspace" => any && all(is_space),
        "istitle" => pytext::is_title_case(chars),
        _ => return Err(Fault::unsupported(format!("the method `{name}` of strings"))),
    };
    watch.end()?;
    Ok(Value::Bool(found))
}

fn pad(text: &Text, name: &str, width: usize, fill: Option<&Value>, vm: &mut Vm<'_>) -> Res<Value> {
    let escaped = match fill {
        Some(fill) if text.safe => Some(repr::escape(fill, vm)?),
        other => other.cloned(),
    };
    let mut fill = ' ';
    if let Some(value) = &escaped {
        let mut chars = text_arg(value)?.chars();
        fill = match (chars.next(), chars.next()) {
            (Some(c), None) => c,
            _ => {
                return Err(Fault::op("the fill character must be exactly one character long"));
            }
        };
    }
    let missing = width.saturating_sub(text.chars());
    let left = match name {
        "rjust" => missing,
        "ljust" => 0,
        // As Python has it: the odd one goes to the left of odd widths.
        _ => missing / 2 + (missing & width & 1),
    };
    let mut out = Buf::new(vm.meter)?;
    out.fill(fill, left)?;
    out.push_str(text.as_str())?;
    out.fill(fill, missing - left)?;
    out.finish(text.safe)
}

fn zfill(text: &Text, width: usize, vm: &mut Vm<'_>) -> Res<Value> {
    let missing = width.saturating_sub(text.chars());
    let mut out = Buf::new(vm.meter)?;
    let s = text.as_str();
    let rest = s.strip_prefix(['+', '-']).unwrap_or(s);
    out.push_str(s.get(..s.len() - rest.len()).unwrap_or(""))?;
    out.fill('0', missing)?;
    out.push_str(rest)?;
    out.finish(text.safe)
}

/// The text without some characters at its ends.
pub(in super::super) fn strip(
    text: &Rc<Text>,
    name: &str,
    chars: Option<&Value>,
    vm: &mut Vm<'_>,
) -> Res<Value> {
    let (start, end) = (name != "rstrip", name != "lstrip");
    let set: Option<Vec<char>> = match chars {
        None | Some(Value::None) => None,
        Some(chars) => {
            let chars = text_arg(chars)?;
            vm.meter.room(chars.len().saturating_mul(4))?;
            vm.meter.tick_bytes(chars.len())?;
            let mut set: Vec<char> = chars.chars().collect();
            set.sort_unstable();
            set.dedup();
            Some(set)
        }
    };
    let watch = Watch::new(vm.meter);
    let out = |c: char| {
        watch.goes_on()
            && match &set {
                None => is_space(c),
                Some(set) => set.binary_search(&c).is_ok(),
            }
    };
    let mut s = text.as_str();
    if start {
        s = s.trim_start_matches(out);
    }
    if end {
        s = s.trim_end_matches(out);
    }
    watch.end()?;
    match s.len() == text.as_str().len() {
        true => Ok(Value::Str(text.clone())),
        false => piece(s, text.safe, vm),
    }
}

/// Start and end of a part by Python's rules: negative ones count from the end. `None` if the start
/// lies behind the text.
fn range(text: &Text, start: Option<&Value>, end: Option<&Value>) -> Res<Option<(usize, usize)>> {
    let length = text.chars() as i128;
    let bound = |value: Option<&Value>, default: i128| -> Res<i128> {
        Ok(match value {
            None | Some(Value::None) => default,
            Some(value) => {
                let n = value
                    .as_int()
                    .ok_or_else(|| Fault::op("slice indices must be integers or None"))?;
                if n < 0 { n.saturating_add(length).max(0) } else { n }
            }
        })
    };
    let (start, end) = (bound(start, 0)?, bound(end, length)?.min(length));
    if start > length || start > end {
        return Ok(None);
    }
    let (start, end) = (usize::try_from(start).unwrap_or(0), usize::try_from(end).unwrap_or(0));
    Ok(Some((text.byte_of(start), text.byte_of(end))))
}

fn starts_or_ends(text: &Text, name: &str, args: Args, vm: &mut Vm<'_>) -> Res<Value> {
    let [what, start, end] = args.positional(name, 1)?;
    let what = what.unwrap_or(Value::None);
    let part = range(text, start.as_ref(), end.as_ref())?;
    let part = part.and_then(|(start, end)| text.as_str().get(start..end));
    let test = |what: &str| {
        part.is_some_and(|part| match name {
            "startswith" => part.starts_with(what),
            _ => part.ends_with(what),
        })
    };
    let wrong = |value: &Value| {
        Fault::op(format!(
            "{name} first arg must be str or a tuple of str, not {}",
            value.type_name()
        ))
    };
    if let Value::Tuple(seq) = &what {
        for item in &seq.items {
            vm.meter.tick(1)?;
            if test(item.as_str().ok_or_else(|| wrong(item))?) {
                return Ok(Value::Bool(true));
            }
        }
        return Ok(Value::Bool(false));
    }
    Ok(Value::Bool(test(what.as_str().ok_or_else(|| wrong(&what))?)))
}

fn find(text: &Text, name: &str, args: Args, vm: &mut Vm<'_>) -> Res<Value> {
    let [what, start, end] = args.positional(name, 1)?;
    let what = what.unwrap_or(Value::None);
    let what = text_arg(&what)?;
    let bounds = range(text, start.as_ref(), end.as_ref())?;
    let found = match bounds {
        None if name == "count" => return Ok(Value::Int(0)),
        None => None,
        Some((start, end)) => {
            let part = text.as_str().get(start..end).unwrap_or("");
            if name == "count" {
                return Ok(Value::Int(match what.is_empty() {
                    true => part.chars().count() as i128 + 1,
                    false => count_of(part, what, vm)?,
                }));
            }
            let at = match name.starts_with('r') {
                true => search::rfind(part, what, vm.meter)?,
                false => search::find(part, what, vm.meter)?,
            };
            at.map(|at| text.char_of(start + at) as i128)
        }
    };
    match found {
        Some(at) => Ok(Value::Int(at)),
        None if name.ends_with("find") => Ok(Value::Int(-1)),
        None => Err(Fault::op("substring not found")),
    }
}

fn count_of(text: &str, what: &str, vm: &mut Vm<'_>) -> Res<i128> {
    let (mut count, mut rest) = (0, text);
    while let Some(at) = search::find(rest, what, vm.meter)? {
        vm.meter.tick(1)?;
        count += 1;
        rest = rest.get(at + what.len()..).unwrap_or("");
    }
    Ok(count)
}

/// Parts of a text between separators, or between white space.
fn split(
    text: &Text,
    back: bool,
    separator: Option<&Value>,
    most: i128,
    vm: &mut Vm<'_>,
) -> Res<Value> {
    let limit = match most {
        0.. => usize::try_from(most).unwrap_or(usize::MAX),
        _ => usize::MAX,
    };
    let s = text.as_str();
    let mut all: Vec<&str> = Vec::new();
    let push = |all: &mut Vec<_>, part| -> Res<()> {
        vm.meter.tick(1)?;
        if all.len() == all.capacity() {
            vm.meter.room(all.len() * 32)?;
        }
        all.push(part);
        Ok(())
    };
    match separator {
        None | Some(Value::None) => {
            let watch = Watch::new(vm.meter);
            let blank = |c: char| watch.goes_on() && is_space(c);
            let end = |c: char| !watch.goes_on() || is_space(c);
            let mut rest = s;
            loop {
                rest = match back {
                    false => rest.trim_start_matches(blank),
                    true => rest.trim_end_matches(blank),
                };
                if rest.is_empty() {
                    break;
                }
                if all.len() == limit {
                    // What is left keeps white space on its far side only if it is the near one.
                    push(&mut all, rest)?;
                    break;
                }
                let cut = if back { rest.rfind(end) } else { rest.find(end) };
                let Some(cut) = cut else {
                    push(&mut all, rest)?;
                    break;
                };
                let width =
                    rest.get(cut..).and_then(|r| r.chars().next()).map_or(1, char::len_utf8);
                let (part, left) = match back {
                    false => (rest.get(..cut), rest.get(cut + width..)),
                    true => (rest.get(cut + width..), rest.get(..cut)),
                };
                push(&mut all, part.unwrap_or(""))?;
                rest = left.unwrap_or("");
            }
            watch.end()?;
        }
        Some(separator) => {
            let separator = text_arg(separator)?;
            if separator.is_empty() {
                return Err(Fault::op("empty separator"));
            }
            let mut rest = s;
            while all.len() < limit {
                let Some((left, right)) = halves(rest, separator, back, vm)? else { break };
                let (part, left) = if back { (right, left) } else { (left, right) };
                push(&mut all, part)?;
                rest = left;
            }
            push(&mut all, rest)?;
        }
    }
    if back {
        all.reverse();
    }
    parts(&all, text.safe, vm)
}

/// The texts before and after a separator, the first one or from the back.
fn halves<'t>(
    text: &'t str,
    separator: &str,
    back: bool,
    vm: &Vm<'_>,
) -> Res<Option<(&'t str, &'t str)>> {
    let at = match back {
        false => search::find(text, separator, vm.meter)?,
        true => search::rfind(text, separator, vm.meter)?,
    };
    Ok(at.and_then(|at| text.get(..at).zip(text.get(at + separator.len()..))))
}

fn partition(text: &Text, back: bool, separator: &Value, vm: &mut Vm<'_>) -> Res<Value> {
    let separator = text_arg(separator)?;
    if separator.is_empty() {
        return Err(Fault::op("empty separator"));
    }
    let s = text.as_str();
    let three = match (halves(s, separator, back, vm)?, back) {
        (Some((left, right)), _) => [left, separator, right],
        (None, false) => [s, "", ""],
        (None, true) => ["", "", s],
    };
    let mut items = Vec::new();
    for part in three {
        items.push(piece(part, text.safe, vm)?);
    }
    vm.meter.tuple(items)
}

/// `str.replace`.
pub(in super::super) fn replace(
    s: &str,
    old: &str,
    new: &str,
    most: i128,
    safe: bool,
    vm: &mut Vm<'_>,
) -> Res<Value> {
    let limit = match most {
        0.. => usize::try_from(most).unwrap_or(usize::MAX),
        _ => usize::MAX,
    };
    let mut out = Buf::new(vm.meter)?;
    let mut rest = s;
    if old.is_empty() {
        // At the start, at the end, and between all characters.
        let mut from = 0;
        for (at, _) in s.match_indices("").take(limit) {
            out.push_str(s.get(from..at).unwrap_or(""))?;
            out.push_str(new)?;
            from = at;
        }
        rest = s.get(from..).unwrap_or("");
    } else {
        for _ in 0..limit {
            let Some(at) = search::find(rest, old, vm.meter)? else { break };
            out.push_str(rest.get(..at).unwrap_or(""))?;
            out.push_str(new)?;
            rest = rest.get(at + old.len()..).unwrap_or("");
        }
    }
    out.push_str(rest)?;
    out.finish(safe)
}

fn join(text: &Text, items: &Value, vm: &mut Vm<'_>) -> Res<Value> {
    let iter = vm.iter(items)?;
    let mut out = Buf::new(vm.meter)?;
    let mut first = true;
    let mut at = 0;
    while let Some(item) = vm.next(&iter)? {
        if !std::mem::take(&mut first) {
            out.push_str(text.as_str())?;
        }
        if text.safe {
            let escaped = repr::escape(&item, vm)?;
            out.push_str(escaped.as_str().unwrap_or(""))?;
        } else {
            match &item {
                Value::Str(part) => out.push_str(part.as_str())?,
                other => {
                    return Err(Fault::op(format!(
                        "sequence item {at}: expected str instance, {} found",
                        other.type_name()
                    )));
                }
            }
        }
        at += 1;
    }
    out.finish(text.safe)
}

fn expand_tabs(text: &Text, size: i128, vm: &mut Vm<'_>) -> Res<Value> {
    let size = usize::try_from(size.max(0)).unwrap_or(usize::MAX);
    let mut out = Buf::new(vm.meter)?;
    let mut column = 0usize;
    for c in text.as_str().chars() {
        match c {
            '\t' if size == 0 => {}
            '\t' => {
                let spaces = size - column % size;
                out.fill(' ', spaces)?;
                column = column.saturating_add(spaces);
            }
            c => {
                column = if matches!(c, '\n' | '\r') { 0 } else { column.saturating_add(1) };
                out.push(c)?;
            }
        }
    }
    out.finish(text.safe)
}

/// `translate`, and `maketrans`, which makes its tables.
fn translate(text: &Text, name: &str, args: Args, vm: &mut Vm<'_>) -> Res<Value> {
    if name == "translate" {
        let [table] = args.positional(name, 1)?;
        let table = table.unwrap_or(Value::None);
        let mut out = Buf::new(vm.meter)?;
        for c in text.as_str().chars() {
            let key = Value::Int(i128::from(u32::from(c)));
            let found = match &table {
                Value::Dict(dict) => dict.get(&key, vm.meter)?.cloned(),
                other => match vm.getitem(other, &key)? {
                    found if found.is_undefined() => None,
                    found => Some(found),
                },
            };
            match found {
                None => out.push(c)?,
                Some(Value::None) => {}
                Some(Value::Str(part)) => out.push_str(part.as_str())?,
                Some(other) => {
                    let code = other.as_int().and_then(|n| u32::try_from(n).ok());
                    match code.and_then(char::from_u32) {
                        Some(c) => out.push(c)?,
                        None => return Err(Fault::op("character mapping must be a character")),
                    }
                }
            }
        }
        return out.finish(text.safe);
    }
    let [from, to, gone] = args.positional(name, 1)?;
    let from = from.unwrap_or(Value::None);
    let mut table = Dict::new(vm.meter)?;
    let code = |c: char| Value::Int(i128::from(u32::from(c)));
    match to {
        None => {
            let Value::Dict(dict) = &from else {
                return Err(Fault::op(
                    "if you give only one argument to maketrans it must be a dict",
                ));
            };
            for (key, value) in &dict.entries {
                let key = match key {
                    Value::Str(text) if text.chars() == 1 => {
                        text.as_str().chars().next().map_or(Value::None, code)
                    }
                    Value::Int(_) | Value::Bool(_) => key.clone(),
                    _ => return Err(Fault::op("keys of a table must be characters or integers")),
                };
                table.set(key, value.clone(), vm.meter)?;
            }
        }
        Some(to) => {
            let (from, to) = (text_arg(&from)?, text_arg(&to)?);
            if from.chars().count() != to.chars().count() {
                return Err(Fault::op("the first two maketrans arguments must have equal length"));
            }
            for (from, to) in from.chars().zip(to.chars()) {
                table.set(code(from), code(to), vm.meter)?;
            }
            if let Some(gone) = gone {
                for c in text_arg(&gone)?.chars() {
                    table.set(code(c), Value::None, vm.meter)?;
                }
            }
        }
    }
    Ok(Value::Dict(Rc::new(table)))
}
