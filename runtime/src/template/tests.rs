//! Jinja2's tests.

use super::args::Args;
use super::ast::{Binary, Compare};
use super::dict::equal;
use super::error::{Fault, Res};
use super::filters;
use super::ops;
use super::pytext::all_in_case;
use super::repr::to_str;
use super::search::Watch;
use super::value::Value;
use super::vm::Vm;

/// All tests in alphabetical order.
const TESTS: [&str; 39] = [
    "!=",
    "<",
    "<=",
    "==",
    ">",
    ">=",
    "boolean",
    "callable",
    "defined",
    "divisibleby",
    "eq",
    "equalto",
    "escaped",
    "even",
    "false",
    "filter",
    "float",
    "ge",
    "greaterthan",
    "gt",
    "in",
    "integer",
    "iterable",
    "le",
    "lessthan",
    "lower",
    "lt",
    "mapping",
    "ne",
    "none",
    "number",
    "odd",
    "sameas",
    "sequence",
    "string",
    "test",
    "true",
    "undefined",
    "upper",
];

/// Index of a test.
pub(super) fn find(name: &str) -> Option<u16> {
    TESTS.binary_search(&name).ok().map(|at| at as u16)
}

/// Index of the test that a value names.
pub(super) fn by_value(name: &Value) -> Res<u16> {
    match name.as_str() {
        Some(name) => find(name).ok_or_else(|| Fault::op(format!("no test named '{name}'"))),
        None if name.is_undefined() => Err(name.undefined_error()),
        None => Err(Fault::op("no test with a name that is no string")),
    }
}

/// Applies a test to its first argument.
pub(super) fn apply(test: u16, args: Args, vm: &mut Vm<'_>) -> Res<bool> {
    vm.meter.tick(1)?;
    let name = TESTS.get(usize::from(test)).copied().unwrap_or("");
    let comparison = match name {
        "!=" | "ne" => Some(Compare::Ne),
        "==" | "eq" | "equalto" => Some(Compare::Eq),
        "<" | "lt" | "lessthan" => Some(Compare::Lt),
        "<=" | "le" => Some(Compare::Le),
        ">" | "gt" | "greaterthan" => Some(Compare::Gt),
        ">=" | "ge" => Some(Compare::Ge),
        "in" => Some(Compare::In),
        _ => None,
    };
    if let Some(comparison) = comparison {
        // Those of the module `operator` have no names for their arguments.
        let [a, b] = match name {
            "in" => args.bind(name, ["value", "seq"], 2)?,
            _ => args.positional(name, 2)?,
        };
        let (a, b) = (a.unwrap_or(Value::None), b.unwrap_or(Value::None));
        return ops::compare(comparison, &a, &b, vm);
    }
    match name {
        "divisibleby" => {
            let [value, by] = args.bind(name, ["value", "num"], 2)?;
            let (value, by) = (value.unwrap_or(Value::None), by.unwrap_or(Value::None));
            modulo(&value, &by, 0, vm)
        }
        "sameas" => {
            let [value, other] = args.bind(name, ["value", "other"], 2)?;
            Ok(value.unwrap_or(Value::None).is(&other.unwrap_or(Value::None)))
        }
        "callable" => {
            let [value] = args.positional(name, 1)?;
            Ok(vm.is_callable(&value.unwrap_or(Value::None)))
        }
        _ => {
            let [value] = args.bind(name, ["value"], 1)?;
            of_one(name, &value.unwrap_or(Value::None), vm)
        }
    }
}

fn modulo(value: &Value, by: &Value, rest: i128, vm: &mut Vm<'_>) -> Res<bool> {
    let left = ops::binary(Binary::Mod, value, by, vm)?;
    equal(&left, &Value::Int(rest), vm.meter, 0)
}

fn of_one(name: &str, value: &Value, vm: &mut Vm<'_>) -> Res<bool> {
    Ok(match name {
        "boolean" => matches!(value, Value::Bool(_)),
        "defined" => !value.is_undefined(),
        "undefined" => value.is_undefined(),
        "escaped" => value.is_safe(),
        "even" => return modulo(value, &Value::Int(2), 0, vm),
        "odd" => return modulo(value, &Value::Int(2), 1, vm),
        "false" => matches!(value, Value::Bool(false)),
        "true" => matches!(value, Value::Bool(true)),
        "filter" | "test" => {
            // The name of one; something that can't be a key is an error.
            super::dict::hash(value, &mut std::hash::DefaultHasher::new(), vm.meter, 0)?;
            value.as_str().is_some_and(|text| match name {
                "filter" => filters::find(text).is_some(),
                _ => find(text).is_some(),
            })
        }
        "float" => matches!(value, Value::Float(_)),
        "integer" => matches!(value, Value::Int(_)),
        "number" => matches!(value, Value::Int(_) | Value::Float(_) | Value::Bool(_)),
        "iterable" => vm.is_iterable(value),
        "lower" | "upper" => {
            let text = to_str(value, vm)?;
            let text = text.as_str().unwrap_or("");
            vm.meter.tick_bytes(text.len())?;
            let watch = Watch::new(vm.meter);
            let found = all_in_case(text.chars().take_while(|_| watch.goes_on()), name == "upper");
            watch.end()?;
            found
        }
        "mapping" => matches!(value, Value::Dict(_)),
        "none" => matches!(value, Value::None),
        // What has a length, and items by their index or key. Asking an undefined value for its
        // items is an error, which makes it none.
        "sequence" => matches!(
            value,
            Value::Str(_)
                | Value::List(_)
                | Value::Tuple(_)
                | Value::Dict(_)
                | Value::Range(_)
                | Value::Undefined(_)
        ),
        "string" => matches!(value, Value::Str(_)),
        _ => return Err(Fault::internal("a test is missing")),
    })
}

#[cfg(test)]
mod tests_of_table {
    #[test]
    fn names_are_sorted() {
        assert!(super::TESTS.is_sorted());
    }
}
