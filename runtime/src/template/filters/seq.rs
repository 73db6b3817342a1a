//! Filters of lists, dictionaries and whatever has items.

use std::rc::Rc;

use super::super::args::Args;
use super::super::ast::{Binary, Compare};
use super::super::error::{Fault, Res};
use super::super::iter::{Iter, Lazy, State};
use super::super::ops;
use super::super::repr::{self, write_str};
use super::super::value::{Buf, Value};
use super::super::vm::Vm;
use super::attribute::{Parts, get};
use super::{flag, or_none};

pub(super) fn length(args: Args, vm: &mut Vm<'_>) -> Res<Value> {
    let [value] = args.positional("len", 1)?;
    let value = or_none(value);
    match ops::length(&value, vm)? {
        Some(n) => Ok(Value::Int(n)),
        None => Err(Fault::op(format!("object of type '{}' has no len()", value.type_name()))),
    }
}

pub(super) fn default(args: Args, vm: &mut Vm<'_>) -> Res<Value> {
    let [value, default, boolean] =
        args.bind("default", ["value", "default_value", "boolean"], 1)?;
    let value = or_none(value);
    let missing = value.is_undefined() || (flag(boolean, vm)? && !ops::truth(&value, vm)?);
    match (missing, default) {
        (false, _) => Ok(value),
        (true, Some(default)) => Ok(default),
        (true, None) => vm.meter.str(""),
    }
}

pub(super) fn attr(args: Args, vm: &mut Vm<'_>) -> Res<Value> {
    let [value, name] = args.bind("attr", ["obj", "name"], 2)?;
    let (value, name) = (or_none(value), or_none(name));
    let Some(text) = name.as_str() else {
        return Err(Fault::op("attribute name must be string"));
    };
    match vm.has_attribute(&value, text)? {
        true => vm.getattr(&value, &name),
        false => {
            Ok(Value::undefined(super::super::value::Undef::Attr(value.type_name(), name.clone())))
        }
    }
}

pub(super) fn first(args: Args, vm: &mut Vm<'_>) -> Res<Value> {
    let [value] = args.bind("first", ["seq"], 1)?;
    let iter = vm.iter(&or_none(value))?;
    let first = vm.next(&iter)?;
    Ok(first.unwrap_or_else(|| Value::undefined_hint("no first item, sequence was empty")))
}

pub(super) fn last(args: Args, vm: &mut Vm<'_>) -> Res<Value> {
    let [value] = args.bind("last", ["seq"], 1)?;
    let value = or_none(value);
    let Some(iter) = vm.reversed(&value)? else {
        return Err(Fault::op(format!("'{}' object is not reversible", value.type_name())));
    };
    let last = vm.next(&iter)?;
    Ok(last.unwrap_or_else(|| Value::undefined_hint("no last item, sequence was empty")))
}

pub(super) fn random(_: Args, _: &mut Vm<'_>) -> Res<Value> {
    Err(Fault::unsupported("the filter `random`: the same messages give the same text"))
}

pub(super) fn list(args: Args, vm: &mut Vm<'_>) -> Res<Value> {
    let [value] = args.bind("list", ["value"], 1)?;
    let items = vm.collect(&or_none(value))?;
    vm.meter.list(items)
}

pub(super) fn items(args: Args, vm: &mut Vm<'_>) -> Res<Value> {
    let [value] = args.bind("items", ["value"], 1)?;
    lazy(or_none(value), Args::default(), Lazy::Items, vm)
}

pub(super) fn reverse(args: Args, vm: &mut Vm<'_>) -> Res<Value> {
    let [value] = args.bind("reverse", ["value"], 1)?;
    let value = or_none(value);
    if let Value::Str(text) = &value {
        let mut out = Buf::with_capacity(vm.meter, text.as_str().len())?;
        for c in text.as_str().chars().rev() {
            out.push(c)?;
        }
        return out.finish(text.safe);
    }
    if let Some(iter) = vm.reversed(&value)? {
        vm.meter.depth(iter.depth)?;
        return Ok(Value::Iter(iter));
    }
    if !vm.is_iterable(&value) {
        return Err(Fault::op("argument must be iterable"));
    }
    let mut items = vm.collect(&value)?;
    items.reverse();
    vm.meter.list(items)
}

pub(super) fn join(args: Args, vm: &mut Vm<'_>) -> Res<Value> {
    let [value, separator, attribute] = args.bind("join", ["value", "d", "attribute"], 1)?;
    let value = or_none(value);
    let parts = match attribute {
        None | Some(Value::None) => None,
        Some(attribute) => Some(Parts::new(&attribute, false, vm)?),
    };
    let separator = match separator {
        Some(separator) => separator,
        None => vm.meter.str("")?,
    };
    let iter = vm.iter(&value)?;
    if vm.autoescape {
        return join_escaped(&iter, &separator, parts.as_ref(), vm);
    }
    let separator = repr::to_str(&separator, vm)?;
    let mut out = Buf::new(vm.meter)?;
    let mut started = false;
    while let Some(mut item) = vm.next(&iter)? {
        if std::mem::replace(&mut started, true) {
            out.push_str(separator.as_str().unwrap_or(""))?;
        }
        if let Some(parts) = &parts {
            item = get(&item, parts, None, vm)?;
        }
        write_str(&item, vm, &mut out)?;
    }
    out.finish(false)
}

fn join_escaped(
    iter: &Rc<Iter>,
    separator: &Value,
    parts: Option<&Parts>,
    vm: &mut Vm<'_>,
) -> Res<Value> {
    let mut items = Vec::new();
    while let Some(mut item) = vm.next(iter)? {
        if let Some(parts) = parts {
            item = get(&item, parts, None, vm)?;
        }
        vm.meter.push(&mut items, item)?;
    }
    let safe = separator.is_safe() || items.iter().any(Value::is_safe);
    let mut out = Buf::new(vm.meter)?;
    let write = |value: &Value, vm: &mut Vm<'_>, out: &mut Buf<'_>| -> Res<()> {
        match safe {
            true => {
                let text = repr::escape(value, vm)?;
                out.push_str(text.as_str().unwrap_or(""))
            }
            false => write_str(value, vm, out),
        }
    };
    for (at, item) in items.iter().enumerate() {
        if at > 0 {
            write(separator, vm, &mut out)?;
        }
        write(item, vm, &mut out)?;
    }
    out.finish(safe)
}

/// A generator that computes its items when they are wanted.
fn lazy(value: Value, args: Args, kind: Lazy, vm: &mut Vm<'_>) -> Res<Value> {
    let depth = args.pos.iter().chain(args.kw.iter().map(|(_, v)| v)).map(Value::depth).max();
    let mut depth = depth.unwrap_or(0).max(value.depth()).saturating_add(1);
    if matches!(kind, Lazy::Batch | Lazy::Slice) && matches!(value, Value::Iter(_)) {
        // It will keep items whose depth isn't known yet. They may have half of the limit.
        depth = depth.max(vm.meter.limits.depth / 2 + 1);
    }
    let state = State::Start { value, args, kind };
    vm.meter.iter(Iter::new(state, depth, "generator", vm.meter)?)
}

/// The same with a filter's arguments as they are.
fn lazy_args(mut args: Args, kind: Lazy, vm: &mut Vm<'_>) -> Res<Value> {
    let value = args.shift().unwrap_or(Value::None);
    lazy(value, args, kind, vm)
}

pub(super) fn map(args: Args, vm: &mut Vm<'_>) -> Res<Value> {
    lazy_args(args, Lazy::Map, vm)
}

pub(super) fn select(args: Args, vm: &mut Vm<'_>) -> Res<Value> {
    lazy_args(args, Lazy::Select { keep: true, attribute: false }, vm)
}

pub(super) fn reject(args: Args, vm: &mut Vm<'_>) -> Res<Value> {
    lazy_args(args, Lazy::Select { keep: false, attribute: false }, vm)
}

pub(super) fn select_attr(args: Args, vm: &mut Vm<'_>) -> Res<Value> {
    lazy_args(args, Lazy::Select { keep: true, attribute: true }, vm)
}

pub(super) fn reject_attr(args: Args, vm: &mut Vm<'_>) -> Res<Value> {
    lazy_args(args, Lazy::Select { keep: false, attribute: true }, vm)
}

pub(super) fn unique(args: Args, vm: &mut Vm<'_>) -> Res<Value> {
    let [value, case, attribute] =
        args.bind("unique", ["value", "case_sensitive", "attribute"], 1)?;
    let pos = vec![case.unwrap_or(Value::Bool(false)), or_none(attribute)];
    lazy(or_none(value), Args { pos, kw: Vec::new() }, Lazy::Unique, vm)
}

pub(super) fn batch(args: Args, vm: &mut Vm<'_>) -> Res<Value> {
    let [value, count, fill] = args.bind("batch", ["value", "linecount", "fill_with"], 2)?;
    let pos = vec![or_none(count), or_none(fill)];
    lazy(or_none(value), Args { pos, kw: Vec::new() }, Lazy::Batch, vm)
}

pub(super) fn slice(args: Args, vm: &mut Vm<'_>) -> Res<Value> {
    let [value, slices, fill] = args.bind("slice", ["value", "slices", "fill_with"], 2)?;
    let pos = vec![or_none(slices), or_none(fill)];
    lazy(or_none(value), Args { pos, kw: Vec::new() }, Lazy::Slice, vm)
}

/// Items with the keys that they are sorted by.
fn keyed(value: &Value, parts: &[Parts], vm: &mut Vm<'_>) -> Res<Vec<(Value, Value)>> {
    let iter = vm.iter(value)?;
    let mut items = Vec::new();
    while let Some(item) = vm.next(&iter)? {
        let mut keys = Vec::new();
        for part in parts {
            keys.push(get(&item, part, None, vm)?);
        }
        let key = vm.meter.list(keys)?;
        if items.len() == items.capacity() {
            vm.meter.room(items.len() * 256)?;
        }
        items.push((key, item));
    }
    Ok(items)
}

pub(super) fn sort(args: Args, vm: &mut Vm<'_>) -> Res<Value> {
    let [value, reverse, case, attribute] =
        args.bind("sort", ["value", "reverse", "case_sensitive", "attribute"], 1)?;
    let parts = Parts::several(&or_none(attribute), !flag(case, vm)?, vm)?;
    let items = keyed(&or_none(value), &parts, vm)?;
    let reverse = flag(reverse, vm)?;
    let sorted = ops::sort(items, reverse, vm)?;
    vm.meter.list(sorted.into_iter().map(|(_, item)| item).collect())
}

pub(super) fn dict_sort(args: Args, vm: &mut Vm<'_>) -> Res<Value> {
    let [value, case, by, reverse] =
        args.bind("dictsort", ["value", "case_sensitive", "by", "reverse"], 1)?;
    let by_value = match by.as_ref().map_or(Some("key"), Value::as_str) {
        Some("key") => false,
        Some("value") => true,
        _ => return Err(Fault::op("you can only sort by either \"key\" or \"value\"")),
    };
    let value = or_none(value);
    let Value::Dict(dict) = &value else {
        return Err(match value.is_undefined() {
            true => value.undefined_error(),
            false => Fault::op(format!("'{}' object has no attribute 'items'", value.type_name())),
        });
    };
    let part = Parts::new(&Value::None, !flag(case, vm)?, vm)?;
    let mut items = Vec::new();
    for (key, value) in &dict.entries {
        let sorted_by = get(if by_value { value } else { key }, &part, None, vm)?;
        items.push((sorted_by, vm.meter.tuple(vec![key.clone(), value.clone()])?));
    }
    let reverse = flag(reverse, vm)?;
    let sorted = ops::sort(items, reverse, vm)?;
    vm.meter.list(sorted.into_iter().map(|(_, item)| item).collect())
}

pub(super) fn group_by(args: Args, vm: &mut Vm<'_>) -> Res<Value> {
    let [value, attribute, default, case] =
        args.bind("groupby", ["value", "attribute", "default", "case_sensitive"], 2)?;
    let default = default.filter(|d| !matches!(d, Value::None));
    let (value, attribute) = (or_none(value), or_none(attribute));
    let case = flag(case, vm)?;
    let part = Parts::new(&attribute, !case, vm)?;
    let plain = Parts::new(&attribute, false, vm)?;
    let iter = vm.iter(&value)?;
    let mut items = Vec::new();
    while let Some(item) = vm.next(&iter)? {
        let key = get(&item, &part, default.as_ref(), vm)?;
        if items.len() == items.capacity() {
            vm.meter.room(items.len() * 256)?;
        }
        items.push((key, item));
    }
    let mut groups: Vec<(Value, Vec<Value>)> = Vec::new();
    for (key, item) in ops::sort(items, false, vm)? {
        match groups.last_mut() {
            Some((last, members))
                if last.is(&key) || ops::compare(Compare::Eq, last, &key, vm)? =>
            {
                members.push(item);
            }
            _ => groups.push((key, vec![item])),
        }
    }
    let mut all = Vec::new();
    for (key, members) in groups {
        let key = match members.first() {
            Some(member) if !case => get(member, &plain, default.as_ref(), vm)?,
            _ => key,
        };
        let members = vm.meter.list(members)?;
        all.push(vm.meter.group(key, members)?);
    }
    vm.meter.list(all)
}

fn extreme(args: Args, largest: bool, vm: &mut Vm<'_>) -> Res<Value> {
    let name = if largest { "max" } else { "min" };
    let [value, case, attribute] = args.bind(name, ["value", "case_sensitive", "attribute"], 1)?;
    let part = Parts::new(&or_none(attribute), !flag(case, vm)?, vm)?;
    let iter = vm.iter(&or_none(value))?;
    let mut best: Option<(Value, Value)> = None;
    while let Some(item) = vm.next(&iter)? {
        let key = get(&item, &part, None, vm)?;
        let better = match &best {
            None => true,
            Some((other, _)) if largest => ops::compare(Compare::Gt, &key, other, vm)?,
            Some((other, _)) => ops::compare(Compare::Lt, &key, other, vm)?,
        };
        if better {
            best = Some((key, item));
        }
    }
    Ok(match best {
        Some((_, item)) => item,
        None => Value::undefined_hint("no aggregated item, sequence was empty"),
    })
}

pub(super) fn min(args: Args, vm: &mut Vm<'_>) -> Res<Value> {
    extreme(args, false, vm)
}

pub(super) fn max(args: Args, vm: &mut Vm<'_>) -> Res<Value> {
    extreme(args, true, vm)
}

pub(super) fn sum(args: Args, vm: &mut Vm<'_>) -> Res<Value> {
    let [value, attribute, start] = args.bind("sum", ["iterable", "attribute", "start"], 1)?;
    let parts = match attribute {
        None | Some(Value::None) => None,
        Some(attribute) => Some(Parts::new(&attribute, false, vm)?),
    };
    let mut total = start.unwrap_or(Value::Int(0));
    if total.as_str().is_some() {
        return Err(Fault::op("sum() can't sum strings [use ''.join(seq) instead]"));
    }
    let iter = vm.iter(&or_none(value))?;
    while let Some(mut item) = vm.next(&iter)? {
        if let Some(parts) = &parts {
            item = get(&item, parts, None, vm)?;
        }
        total = ops::binary(Binary::Add, &total, &item, vm)?;
    }
    Ok(total)
}
