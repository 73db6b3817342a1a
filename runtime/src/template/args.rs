//! Arguments of calls, and how they become parameters.

use super::error::{Fault, Res};
use super::value::Value;

/// Arguments of a call: positional ones, and named ones, whose names are strings.
#[derive(Clone, Default)]
pub(super) struct Args {
    pub(super) pos: Vec<Value>,
    pub(super) kw: Vec<(Value, Value)>,
}

impl Args {
    /// True if there is an argument of that name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.kw.iter().any(|(n, _)| n.as_str() == Some(name))
    }

    /// Removes an argument by its name.
    pub(super) fn take(&mut self, name: &str) -> Option<Value> {
        let at = self.kw.iter().position(|(n, _)| n.as_str() == Some(name))?;
        Some(self.kw.remove(at).1)
    }

    /// Removes the first positional argument.
    pub(super) fn shift(&mut self) -> Option<Value> {
        match self.pos.is_empty() {
            true => None,
            false => Some(self.pos.remove(0)),
        }
    }

    /// The same arguments behind another.
    pub(super) fn after(&self, first: Value) -> Args {
        let mut pos = Vec::with_capacity(self.pos.len() + 1);
        pos.push(first);
        pos.extend(self.pos.iter().cloned());
        Args { pos, kw: self.kw.clone() }
    }

    /// Gives arguments to parameters by position and by name; the first `required` must be given.
    pub(super) fn bind<const N: usize>(
        self,
        function: &str,
        names: [&str; N],
        required: usize,
    ) -> Res<[Option<Value>; N]> {
        let given = self.pos.len();
        let mut bound: [Option<Value>; N] = [const { None }; N];
        if given > N {
            return Err(Fault::op(format!("{function}() takes {N} arguments, {given} were given")));
        }
        for (slot, value) in bound.iter_mut().zip(self.pos) {
            *slot = Some(value);
        }
        for (name, value) in self.kw {
            let name = name.as_str().unwrap_or("");
            let slot = names.iter().position(|n| *n == name).and_then(|at| bound.get_mut(at));
            let Some(slot) = slot else {
                return Err(Fault::op(format!(
                    "{function}() got an unexpected keyword argument '{name}'"
                )));
            };
            if slot.is_some() {
                let why = format!("{function}() got multiple values for argument '{name}'");
                return Err(Fault::op(why));
            }
            *slot = Some(value);
        }
        for (slot, name) in bound.iter().zip(names).take(required) {
            if slot.is_none() {
                return Err(Fault::op(format!("{function}() misses the argument '{name}'")));
            }
        }
        Ok(bound)
    }

    /// Gives positional arguments to parameters that have no names.
    pub(super) fn positional<const N: usize>(
        self,
        function: &str,
        required: usize,
    ) -> Res<[Option<Value>; N]> {
        if !self.kw.is_empty() {
            return Err(Fault::op(format!("{function}() takes no keyword arguments")));
        }
        let given = self.pos.len();
        if given > N || given < required {
            return Err(Fault::op(format!(
                "{function}() takes {required} to {N} arguments, {given} were given"
            )));
        }
        let mut bound: [Option<Value>; N] = [const { None }; N];
        for (slot, value) in bound.iter_mut().zip(self.pos) {
            *slot = Some(value);
        }
        Ok(bound)
    }
}

/// An argument that must be an integer.
pub(super) fn int(value: &Value) -> Res<i128> {
    value.as_int().ok_or_else(|| match value.is_undefined() {
        true => value.undefined_error(),
        false => {
            Fault::op(format!("'{}' object cannot be interpreted as an integer", value.type_name()))
        }
    })
}

/// An argument that must be an integer and fit what Python takes for a size.
pub(super) fn size(value: &Value) -> Res<i64> {
    i64::try_from(int(value)?).map_err(|_| Fault::op("an integer is too large for a size"))
}

/// An argument that must be an integer of C's type `int`.
pub(super) fn short(value: &Value) -> Res<i32> {
    i32::try_from(int(value)?).map_err(|_| Fault::op("an integer has more than 32 bits"))
}

/// An argument that must be an integer, as a count: negative ones are 0.
pub(super) fn count(value: &Value) -> Res<usize> {
    Ok(usize::try_from(size(value)?.max(0)).unwrap_or(usize::MAX))
}

/// An argument that must be a string.
pub(super) fn text(value: &Value) -> Res<&str> {
    value.as_str().ok_or_else(|| {
        Fault::op(format!("a string is needed, and '{}' was given", value.type_name()))
    })
}
