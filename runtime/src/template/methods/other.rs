//! Methods of lists, tuples, ranges, dictionaries and numbers.

use std::rc::Rc;

use super::super::args::{Args, int as int_arg};
use super::super::dict::{Dict, equal};
use super::super::error::{Fault, Res};
use super::super::value::{Value, ViewKind};
use super::super::vm::Vm;

/// A method of a list, a tuple or a range.
pub(in super::super) fn sequence(
    value: &Value,
    name: &str,
    args: Args,
    vm: &mut Vm<'_>,
) -> Res<Value> {
    if name == "copy" {
        let [] = args.positional(name, 0)?;
        return Ok(value.clone());
    }
    let [item, start, stop] = args.positional(name, 1)?;
    if name == "count" && start.is_some() {
        return Err(Fault::op("count() takes exactly one argument"));
    }
    let item = item.unwrap_or(Value::None);
    let items = vm.collect_seq(value)?;
    if name == "count" {
        let mut count = 0;
        for other in &items.items {
            if item.is(other) || equal(other, &item, vm.meter, 0)? {
                count += 1;
            }
        }
        return Ok(Value::Int(count));
    }
    let length = items.len() as i128;
    let bound = |value: Option<Value>, default: i128| -> Res<i128> {
        let n = value.map_or(Ok(default), |v| int_arg(&v))?;
        Ok(if n < 0 { n.saturating_add(length).max(0) } else { n })
    };
    let (start, stop) = (bound(start, 0)?, bound(stop, length)?);
    for (at, other) in items.items.iter().enumerate() {
        let at = at as i128;
        if at >= start && at < stop && (item.is(other) || equal(other, &item, vm.meter, 0)?) {
            return Ok(Value::Int(at));
        }
    }
    Err(Fault::op(format!("the value is not in the {}", value.type_name())))
}

/// A method of a dictionary.
pub(in super::super) fn dict(
    dict: &Rc<Dict>,
    name: &str,
    args: Args,
    vm: &mut Vm<'_>,
) -> Res<Value> {
    match name {
        "get" => {
            let [key, default] = args.positional(name, 1)?;
            let found = dict.get(&key.unwrap_or(Value::None), vm.meter)?;
            Ok(found.cloned().or(default).unwrap_or(Value::None))
        }
        "fromkeys" => vm.dict_of_keys(args),
        _ => {
            let [] = args.positional(name, 0)?;
            match name {
                "copy" => Ok(Value::Dict(dict.clone())),
                "keys" => vm.view(dict, ViewKind::Keys),
                "values" => vm.view(dict, ViewKind::Values),
                _ => vm.view(dict, ViewKind::Items),
            }
        }
    }
}

/// A method of an integer.
pub(in super::super) fn int(n: i128, name: &str, args: Args, vm: &mut Vm<'_>) -> Res<Value> {
    let bits = n.unsigned_abs();
    match name {
        "to_bytes" | "from_bytes" => Err(Fault::unsupported("bytes")),
        _ => {
            let [] = args.positional(name, 0)?;
            Ok(match name {
                "bit_length" => Value::Int(i128::from(128 - bits.leading_zeros())),
                "bit_count" => Value::Int(i128::from(bits.count_ones())),
                "as_integer_ratio" => vm.meter.tuple(vec![Value::Int(n), Value::Int(1)])?,
                _ => Value::Int(n),
            })
        }
    }
}

/// A method of a float.
pub(in super::super) fn float(f: f64, name: &str, args: Args, _: &mut Vm<'_>) -> Res<Value> {
    match name {
        "is_integer" => {
            let [] = args.positional(name, 0)?;
            Ok(Value::Bool(f.is_finite() && f == f.trunc()))
        }
        "conjugate" => {
            let [] = args.positional(name, 0)?;
            Ok(Value::Float(f))
        }
        _ => Err(Fault::unsupported(format!("the method `{name}` of floats"))),
    }
}
