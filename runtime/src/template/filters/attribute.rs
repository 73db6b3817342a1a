//! Attributes that filters look up, such as `address.city`.

use super::super::error::Res;
use super::super::number::parse_int;
use super::super::pytext::{Case, cased, is_digit};
use super::super::value::Value;
use super::super::vm::Vm;

/// A path of attributes; an empty one is the item itself.
pub(in super::super) struct Parts {
    path: Vec<Value>,
    /// True if strings are compared without case.
    ignore_case: bool,
}

impl Parts {
    /// The path that a value names.
    pub(in super::super) fn new(attribute: &Value, ignore_case: bool, vm: &Vm<'_>) -> Res<Parts> {
        let mut path = Vec::new();
        match attribute {
            Value::None => {}
            Value::Str(text) => {
                for part in text.as_str().split('.') {
                    let digits = !part.is_empty() && part.chars().all(is_digit);
                    let part = match parse_int(part, 10) {
                        Ok(n) if digits => Value::Int(n),
                        _ if digits => {
                            return Err(super::Fault::op(format!(
                                "invalid literal for int() with base 10: '{part}'"
                            )));
                        }
                        _ => vm.meter.str(part)?,
                    };
                    vm.meter.push(&mut path, part)?;
                }
            }
            other => path.push(other.clone()),
        }
        Ok(Parts { path, ignore_case })
    }

    /// Paths that a value names with commas.
    pub(super) fn several(attribute: &Value, ignore_case: bool, vm: &Vm<'_>) -> Res<Vec<Parts>> {
        let Value::Str(text) = attribute else {
            return Ok(vec![Parts::new(attribute, ignore_case, vm)?]);
        };
        let mut all = Vec::new();
        for part in text.as_str().split(',') {
            let part = vm.meter.str(part)?;
            all.push(Parts::new(&part, ignore_case, vm)?);
        }
        Ok(all)
    }
}

/// The value at a path in an item; `default` replaces a value on the way that is undefined.
pub(in super::super) fn get(
    item: &Value,
    parts: &Parts,
    default: Option<&Value>,
    vm: &mut Vm<'_>,
) -> Res<Value> {
    let mut value = item.clone();
    for part in &parts.path {
        value = vm.getitem(&value, part)?;
        if let (true, Some(default)) = (value.is_undefined(), default) {
            value = default.clone();
        }
    }
    match &value {
        Value::Str(text) if parts.ignore_case => {
            cased(text.as_str(), Case::Lower, text.safe, vm.meter)
        }
        _ => Ok(value),
    }
}
