//! Python's operators.

use std::cmp::Ordering;
use std::rc::Rc;

use super::ast::{Binary, Compare};
use super::dict::equal;
use super::error::{Fault, Res};
use super::format::percent;
use super::number::{Number, cmp_int_float, float_op, int_op, too_big};
use super::repr::{self, escape_into, write_str};
use super::search;
use super::value::{Buf, Range, Value};
use super::vm::Vm;

/// Python's `bool(value)`.
pub(super) fn truth(value: &Value, vm: &mut Vm<'_>) -> Res<bool> {
    Ok(match value {
        Value::Missing | Value::Undefined(_) | Value::None => false,
        Value::Bool(b) => *b,
        Value::Int(n) => *n != 0,
        Value::Float(f) => *f != 0.0,
        Value::Str(text) => !text.as_str().is_empty(),
        Value::List(seq) | Value::Tuple(seq) => seq.len() > 0,
        Value::Dict(dict) => dict.len() > 0,
        Value::View(view) => view.dict.len() > 0,
        Value::Range(range) => range.len() > 0,
        Value::Loop(handle) => {
            let id = handle.id;
            vm.length_of_loop(id)? > 0
        }
        _ => true,
    })
}

/// Python's `len(value)`; `None` if it has none.
pub(super) fn length(value: &Value, vm: &mut Vm<'_>) -> Res<Option<i128>> {
    Ok(Some(match value {
        Value::Undefined(_) => 0,
        Value::Str(text) => text.chars() as i128,
        Value::List(seq) | Value::Tuple(seq) => seq.len() as i128,
        Value::Dict(dict) => dict.len() as i128,
        Value::View(view) => view.dict.len() as i128,
        Value::Range(range) => range.len(),
        Value::Loop(handle) => {
            let id = handle.id;
            vm.length_of_loop(id)?
        }
        _ => return Ok(None),
    }))
}

/// Error of an operator that its operands don't have.
fn unsupported(op: &str, left: &Value, right: &Value) -> Fault {
    for value in [left, right] {
        if value.is_undefined() {
            return value.undefined_error();
        }
    }
    Fault::op(format!(
        "unsupported operand type(s) for {op}: '{}' and '{}'",
        left.type_name(),
        right.type_name()
    ))
}

fn symbol(op: Binary) -> &'static str {
    match op {
        Binary::Add => "+",
        Binary::Sub => "-",
        Binary::Mul => "*",
        Binary::Div => "/",
        Binary::FloorDiv => "//",
        Binary::Mod => "%",
        Binary::Pow => "** or pow()",
    }
}

/// A number of an operand.
fn number(value: &Value) -> Option<Number> {
    match value {
        Value::Float(f) => Some(Number::Float(*f)),
        other => other.as_int().map(Number::Int),
    }
}

/// An arithmetic operator.
pub(super) fn binary(op: Binary, left: &Value, right: &Value, vm: &mut Vm<'_>) -> Res<Value> {
    if let (Some(a), Some(b)) = (number(left), number(right)) {
        let result = match (a, b) {
            (Number::Int(a), Number::Int(b)) => int_op(op, a, b)?,
            (a, b) => {
                let float = |n| match n {
                    Number::Int(n) => n as f64,
                    Number::Float(f) => f,
                };
                Number::Float(float_op(op, float(a), float(b))?)
            }
        };
        return Ok(match result {
            Number::Int(n) => Value::Int(n),
            Number::Float(f) => Value::Float(f),
        });
    }
    match (op, left, right) {
        (Binary::Add, Value::Str(a), Value::Str(b)) => {
            let safe = a.safe || b.safe;
            let room = a.as_str().len().saturating_add(b.as_str().len());
            let mut out = Buf::with_capacity(vm.meter, room)?;
            for text in [a, b] {
                match safe && !text.safe {
                    true => escape_into(text.as_str(), &mut out)?,
                    false => out.push_str(text.as_str())?,
                }
            }
            out.finish(safe)
        }
        (Binary::Add, Value::List(a), Value::List(b))
        | (Binary::Add, Value::Tuple(a), Value::Tuple(b)) => {
            let mut items = vm.meter.items(a.len() + b.len())?;
            vm.meter.tick((a.len() + b.len()) / 4)?;
            items.extend(a.items.iter().cloned());
            items.extend(b.items.iter().cloned());
            same_kind(left, items, vm)
        }
        (Binary::Mod, Value::Str(format), _) => percent::format(format, right, vm),
        (Binary::Mul, Value::Str(_) | Value::List(_) | Value::Tuple(_), _)
            if right.as_int().is_some() =>
        {
            repeat(left, right.as_int().unwrap_or(0), vm)
        }
        (Binary::Mul, _, Value::Str(_) | Value::List(_) | Value::Tuple(_))
            if left.as_int().is_some() =>
        {
            repeat(right, left.as_int().unwrap_or(0), vm)
        }
        (Binary::Sub, Value::View(_), _) | (Binary::Sub, _, Value::View(_))
            if !left.is_undefined() && !right.is_undefined() =>
        {
            Err(Fault::unsupported("sets, which differences of dictionary views are"))
        }
        _ => Err(unsupported(symbol(op), left, right)),
    }
}

fn same_kind(like: &Value, items: Vec<Value>, vm: &Vm<'_>) -> Res<Value> {
    match like {
        Value::Tuple(_) => vm.meter.tuple(items),
        _ => vm.meter.list(items),
    }
}

fn repeat(value: &Value, times: i128, vm: &mut Vm<'_>) -> Res<Value> {
    let times = i64::try_from(times).map_err(|_| Fault::op("too many repetitions"))?;
    let times = usize::try_from(times.max(0)).map_err(|_| too_big())?;
    match value {
        Value::Str(text) => {
            let bytes = text.as_str().len().saturating_mul(times);
            let mut out = Buf::with_capacity(vm.meter, bytes)?;
            if !text.as_str().is_empty() {
                for _ in 0..times {
                    out.push_str(text.as_str())?;
                }
            }
            out.finish(text.safe)
        }
        Value::List(seq) | Value::Tuple(seq) => {
            let mut items = vm.meter.items(seq.len().saturating_mul(times))?;
            if seq.len() > 0 {
                for _ in 0..times {
                    vm.meter.tick(1 + seq.len() / 8)?;
                    items.extend(seq.items.iter().cloned());
                }
            }
            same_kind(value, items, vm)
        }
        _ => Err(Fault::internal("repetition of what has no items")),
    }
}

pub(super) fn negate(value: &Value) -> Res<Value> {
    match number(value) {
        Some(Number::Int(n)) => n.checked_neg().map(Value::Int).ok_or_else(too_big),
        Some(Number::Float(f)) => Ok(Value::Float(-f)),
        None => Err(unary(value, "-")),
    }
}

pub(super) fn positive(value: &Value) -> Res<Value> {
    match number(value) {
        Some(Number::Int(n)) => Ok(Value::Int(n)),
        Some(Number::Float(f)) => Ok(Value::Float(f)),
        None => Err(unary(value, "+")),
    }
}

fn unary(value: &Value, op: &str) -> Fault {
    match value.is_undefined() {
        true => value.undefined_error(),
        false => Fault::op(format!("bad operand type for unary {op}: '{}'", value.type_name())),
    }
}

/// Jinja's `~`: all values as text, with true escaped.
pub(super) fn concat(items: &[Value], escape: bool, vm: &mut Vm<'_>) -> Res<Value> {
    let safe = escape && items.iter().any(Value::is_safe);
    let mut out = Buf::new(vm.meter)?;
    for item in items {
        match safe {
            true => {
                let text = repr::escape(item, vm)?;
                out.push_str(text.as_str().unwrap_or(""))?;
            }
            false => write_str(item, vm, &mut out)?,
        }
    }
    out.finish(safe)
}

/// A comparison.
pub(super) fn compare(op: Compare, a: &Value, b: &Value, vm: &mut Vm<'_>) -> Res<bool> {
    match op {
        Compare::Eq => equal(a, b, vm.meter, 0),
        Compare::Ne => Ok(!equal(a, b, vm.meter, 0)?),
        Compare::In => contains(b, a, vm),
        Compare::NotIn => Ok(!contains(b, a, vm)?),
        Compare::Lt => less(a, b, "<", vm, 0),
        Compare::Gt => less(b, a, ">", vm, 0),
        // For numbers that are none, both directions are false.
        Compare::Le => not_greater(a, b, "<=", vm, 0),
        Compare::Ge => not_greater(b, a, ">=", vm, 0),
    }
}

fn order(a: &Value, b: &Value) -> Option<Option<Ordering>> {
    Some(match (number(a)?, number(b)?) {
        (Number::Int(a), Number::Int(b)) => Some(a.cmp(&b)),
        (Number::Float(a), Number::Float(b)) => a.partial_cmp(&b),
        (Number::Int(a), Number::Float(b)) => cmp_int_float(a, b),
        (Number::Float(a), Number::Int(b)) => cmp_int_float(b, a).map(Ordering::reverse),
    })
}

/// Python's `a < b`; `op` is how it was written.
pub(super) fn less(a: &Value, b: &Value, op: &str, vm: &mut Vm<'_>, depth: usize) -> Res<bool> {
    ordered(a, b, op, vm, depth, |o| o == Ordering::Less)
}

fn not_greater(a: &Value, b: &Value, op: &str, vm: &mut Vm<'_>, depth: usize) -> Res<bool> {
    ordered(a, b, op, vm, depth, |o| o != Ordering::Greater)
}

fn ordered(
    a: &Value,
    b: &Value,
    op: &str,
    vm: &mut Vm<'_>,
    depth: usize,
    is: fn(Ordering) -> bool,
) -> Res<bool> {
    vm.meter.tick(1)?;
    vm.meter.depth(depth)?;
    if let Some(order) = order(a, b) {
        return Ok(order.is_some_and(is));
    }
    match (a, b) {
        (Value::Str(a), Value::Str(b)) => {
            vm.meter.tick_bytes(a.as_str().len().min(b.as_str().len()))?;
            Ok(is(a.as_str().cmp(b.as_str())))
        }
        (Value::List(x), Value::List(y)) | (Value::Tuple(x), Value::Tuple(y)) => {
            for (a, b) in x.items.iter().zip(&y.items) {
                if !(a.is(b) || equal(a, b, vm.meter, depth + 1)?) {
                    return ordered(a, b, op, vm, depth + 1, is);
                }
            }
            Ok(is(x.len().cmp(&y.len())))
        }
        _ if a.is_undefined() => Err(a.undefined_error()),
        _ if b.is_undefined() => Err(b.undefined_error()),
        _ => {
            let (left, right) = if op.starts_with('>') { (b, a) } else { (a, b) };
            Err(Fault::op(format!(
                "'{op}' not supported between instances of '{}' and '{}'",
                left.type_name(),
                right.type_name()
            )))
        }
    }
}

/// Python's `item in all`.
pub(super) fn contains(all: &Value, item: &Value, vm: &mut Vm<'_>) -> Res<bool> {
    match all {
        Value::Str(text) => match item {
            Value::Str(part) => {
                vm.meter.tick_bytes(text.as_str().len())?;
                Ok(search::find(text.as_str(), part.as_str(), vm.meter)?.is_some())
            }
            other => Err(Fault::op(format!(
                "'in <string>' requires string as left operand, not {}",
                other.type_name()
            ))),
        },
        Value::Dict(dict) => Ok(dict.get(item, vm.meter)?.is_some()),
        Value::View(view) if view.kind == super::value::ViewKind::Keys => {
            Ok(view.dict.get(item, vm.meter)?.is_some())
        }
        Value::List(seq) | Value::Tuple(seq) => {
            let seq = Rc::clone(seq);
            for other in &seq.items {
                if item.is(other) || equal(other, item, vm.meter, 0)? {
                    return Ok(true);
                }
            }
            Ok(false)
        }
        Value::Range(range) => {
            let n = match item {
                Value::Float(f) => super::number::float_to_int(*f).filter(|n| *n as f64 == *f),
                other => other.as_int(),
            };
            Ok(n.is_some_and(|n| in_range(range, n)))
        }
        _ if vm.is_iterable(all) => {
            let iter = vm.iter(all)?;
            while let Some(other) = vm.next(&iter)? {
                if item.is(&other) || equal(&other, item, vm.meter, 0)? {
                    return Ok(true);
                }
            }
            Ok(false)
        }
        _ => Err(Fault::op(format!("argument of type '{}' is not iterable", all.type_name()))),
    }
}

fn in_range(range: &Range, n: i128) -> bool {
    let inside = match range.step > 0 {
        true => (range.start..range.stop).contains(&n),
        false => n <= range.start && n > range.stop,
    };
    inside && n.checked_sub(range.start).and_then(|d| d.checked_rem(range.step)) == Some(0)
}

/// The place of an index in something of a length.
pub(super) fn index_of(index: i128, length: usize) -> Option<usize> {
    let length = length as i128;
    let at = if index < 0 { index.checked_add(length)? } else { index };
    usize::try_from(at).ok().filter(|&at| (at as i128) < length)
}

/// A bound of a slice.
fn bound(value: &Value) -> Res<Option<i128>> {
    match value {
        Value::None => Ok(None),
        other => other.as_int().map(Some).ok_or_else(|| {
            Fault::op("slice indices must be integers or None or have an __index__ method")
        }),
    }
}

/// Start, stop and step of a slice of something of a length, as Python's `slice.indices` has them.
fn indices(start: &Value, stop: &Value, step: &Value, length: i128) -> Res<(i128, i128, i128)> {
    let step = bound(step)?.unwrap_or(1);
    if step == 0 {
        return Err(Fault::op("slice step cannot be zero"));
    }
    let back = step < 0;
    let (low, high) = if back { (-1, length - 1) } else { (0, length) };
    let clamp = |n: Option<i128>, default: i128| match n {
        None => default,
        Some(n) => {
            let n = if n < 0 { n.saturating_add(length) } else { n };
            n.clamp(low, high)
        }
    };
    let (first, last) = if back { (high, low) } else { (low, high) };
    Ok((clamp(bound(start)?, first), clamp(bound(stop)?, last), step))
}

/// Python's `value[start:stop:step]`.
pub(super) fn slice(
    value: &Value,
    start: &Value,
    stop: &Value,
    step: &Value,
    vm: &mut Vm<'_>,
) -> Res<Value> {
    let length = match value {
        Value::Str(text) => text.chars() as i128,
        Value::List(seq) | Value::Tuple(seq) => seq.len() as i128,
        Value::Range(range) => range.len(),
        Value::Dict(_) => return Err(Fault::op("unhashable type: 'slice'")),
        _ if value.is_undefined() => return Err(value.undefined_error()),
        _ => {
            return Err(Fault::op(format!("'{}' object is not subscriptable", value.type_name())));
        }
    };
    let (start, stop, step) = indices(start, stop, step, length)?;
    if let Value::Range(range) = value {
        let unit = range.step.checked_mul(step).ok_or_else(too_big)?;
        let (start, stop) = (range.get(start), range.get(stop));
        return Ok(Value::Range(Rc::new(Range { start, stop, step: unit })));
    }
    let picked = Range { start, stop, step };
    let count = usize::try_from(picked.len()).unwrap_or(0);
    vm.meter.tick(count / 8)?;
    match value {
        Value::Str(text) => {
            if step == 1 {
                let (from, to) = (start as usize, stop.max(start) as usize);
                let part = text.part(from, to);
                vm.meter.room(part.len())?;
                return vm.meter.any_text(part.to_owned(), text.safe);
            }
            let mut out = Buf::new(vm.meter)?;
            if text.is_ascii() {
                for i in 0..picked.len() {
                    let byte = text.as_str().as_bytes().get(picked.get(i) as usize);
                    out.push(byte.map_or(' ', |&b| char::from(b)))?;
                }
            } else {
                vm.meter.room(text.chars().saturating_mul(4))?;
                vm.meter.tick(text.chars() / 8)?;
                let chars: Vec<char> = text.as_str().chars().collect();
                for i in 0..picked.len() {
                    out.push(chars.get(picked.get(i) as usize).copied().unwrap_or(' '))?;
                }
            }
            out.finish(text.safe)
        }
        Value::List(seq) | Value::Tuple(seq) => {
            let mut items = vm.meter.items(count)?;
            for i in 0..picked.len() {
                items.extend(seq.items.get(picked.get(i) as usize).cloned());
            }
            same_kind(value, items, vm)
        }
        _ => Err(Fault::internal("a slice of what has no items")),
    }
}

/// Sorts stably by keys, each of which stands before its value.
pub(super) fn sort(
    mut items: Vec<(Value, Value)>,
    reverse: bool,
    vm: &mut Vm<'_>,
) -> Res<Vec<(Value, Value)>> {
    vm.meter.room(items.len().saturating_mul(2 * std::mem::size_of::<(Value, Value)>()))?;
    if reverse {
        items.reverse();
    }
    let mut runs: Vec<Vec<(Value, Value)>> = items.into_iter().map(|item| vec![item]).collect();
    while runs.len() > 1 {
        let mut merged = Vec::with_capacity(runs.len().div_ceil(2));
        let mut rest = runs.into_iter();
        while let Some(left) = rest.next() {
            match rest.next() {
                Some(right) => merged.push(merge(left, right, vm)?),
                None => merged.push(left),
            }
        }
        runs = merged;
    }
    let mut sorted = runs.pop().unwrap_or_default();
    if reverse {
        sorted.reverse();
    }
    Ok(sorted)
}

type Keyed = (Value, Value);

fn merge(left: Vec<Keyed>, right: Vec<Keyed>, vm: &mut Vm<'_>) -> Res<Vec<Keyed>> {
    let mut out = Vec::with_capacity(left.len() + right.len());
    let mut left = left.into_iter().peekable();
    let mut right = right.into_iter().peekable();
    while let (Some((a, _)), Some((b, _))) = (left.peek(), right.peek()) {
        match less(b, a, "<", vm, 0)? {
            true => out.extend(right.next()),
            false => out.extend(left.next()),
        }
    }
    out.extend(left);
    out.extend(right);
    Ok(out)
}
