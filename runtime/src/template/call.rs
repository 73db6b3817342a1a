//! Calls, and the functions that are there from the start.

use std::cell::Cell;
use std::rc::Rc;

use super::args::{Args, int, text};
use super::attr::not_callable;
use super::dict::Dict;
use super::error::{Fault, Res, TemplateErrorKind};
use super::number::too_big;
use super::repr::to_str;
use super::strftime::strftime;
use super::value::{Builtin, Cycler, Joiner, Method, Range, Value};
use super::vm::{Vm, check_attribute_name};
use super::{methods, ops};

/// The largest range that the sandbox allows.
const MAX_RANGE: i128 = 100_000;

impl Vm<'_> {
    /// Calls a value. Its result is pushed, at once or when the call that it starts has ended.
    #[inline(never)]
    pub(super) fn call(&mut self, callee: Value, args: Args) -> Res<()> {
        let result = match &callee {
            Value::Macro(n) => return self.call_macro(*n, args),
            Value::Loop(handle) => {
                let id = handle.id;
                let [items] = args.bind("loop", ["iterable"], 1)?;
                return self.call_loop_value(id, items.unwrap_or(Value::None));
            }
            Value::Block(n) => {
                let [] = args.positional("block", 0)?;
                return self.call_block(*n);
            }
            Value::Function(Builtin::Generation) => {
                let mut args = args;
                return match args.take("caller") {
                    Some(Value::Macro(n)) => self.call_macro(n, Args::default()),
                    _ => Err(Fault::internal("a generation block without its text")),
                };
            }
            Value::Function(function) => self.call_builtin(*function, args)?,
            Value::Method(method) => self.call_method(&method.clone(), args)?,
            Value::Joiner(joiner) => {
                let [] = args.positional("joiner", 0)?;
                match joiner.used.replace(true) {
                    true => joiner.separator.clone(),
                    false => self.meter.str("")?,
                }
            }
            other => return Err(not_callable(other)),
        };
        self.push_result(result);
        Ok(())
    }

    fn call_builtin(&mut self, function: Builtin, args: Args) -> Res<Value> {
        match function {
            Builtin::Range => self.range(args),
            Builtin::Dict => Ok(Value::Dict(Rc::new(self.dict_of(args)?))),
            Builtin::FromKeys => self.dict_of_keys(args),
            Builtin::Namespace => {
                let dict = self.dict_of(args)?;
                dict.entries.iter().try_for_each(|(name, _)| check_attribute_name(name))?;
                self.new_namespace(dict)
            }
            Builtin::Cycler => {
                if !args.kw.is_empty() {
                    return Err(Fault::op("cycler() takes no keyword arguments"));
                }
                if args.pos.is_empty() {
                    return Err(Fault::op("at least one item has to be provided"));
                }
                let items = self.meter.seq(args.pos)?;
                Ok(Value::Cycler(Rc::new(Cycler { items, at: Cell::new(0) })))
            }
            Builtin::Joiner => {
                let [separator] = args.bind("joiner", ["sep"], 0)?;
                let separator = match separator {
                    Some(separator) => separator,
                    None => self.meter.str(", ")?,
                };
                self.meter.depth(separator.depth().saturating_add(1))?;
                Ok(Value::Joiner(Rc::new(Joiner { separator, used: Cell::new(false) })))
            }
            Builtin::Lipsum => Err(Fault::unsupported("`lipsum`, which is random")),
            Builtin::RaiseException => {
                let [message] = args.bind("raise_exception", ["message"], 1)?;
                let message = message.unwrap_or(Value::None);
                let text = to_str(&message, self)?;
                let text = text.as_str().unwrap_or("").to_owned();
                Err(TemplateErrorKind::Raised(text).into())
            }
            Builtin::StrftimeNow => {
                let [format] = args.bind("strftime_now", ["format"], 1)?;
                let format = format.unwrap_or(Value::None);
                strftime(text(&format)?, self.now, self.meter)
            }
            Builtin::Generation => Err(Fault::internal("a generation block out of its place")),
        }
    }

    fn range(&mut self, args: Args) -> Res<Value> {
        let [first, second, third] = args.positional("range", 1)?;
        let first = int(&first.unwrap_or(Value::None))?;
        let (start, stop) = match second {
            Some(stop) => (first, int(&stop)?),
            None => (0, first),
        };
        let step = third.map_or(Ok(1), |step| int(&step))?;
        if step == 0 {
            return Err(Fault::op("range() arg 3 must not be zero"));
        }
        let range = Range { start, stop, step };
        if start.unsigned_abs().max(stop.unsigned_abs()).max(step.unsigned_abs()) > 1 << 100 {
            return Err(too_big());
        }
        match range.len() > MAX_RANGE {
            true => Err(Fault::op(format!("range too big: there may be {MAX_RANGE} numbers"))),
            false => Ok(Value::Range(Rc::new(range))),
        }
    }

    /// Python's `dict(..)`.
    pub(super) fn dict_of(&mut self, args: Args) -> Res<Dict> {
        if args.pos.len() > 1 {
            let n = args.pos.len();
            return Err(Fault::op(format!("dict expected at most 1 argument, got {n}")));
        }
        let mut dict = match args.pos.first() {
            None => Dict::new(self.meter)?,
            Some(Value::Dict(dict)) => dict.copy(self.meter)?,
            Some(other) if other.is_undefined() => return Err(other.undefined_error()),
            Some(other) => {
                let mut dict = Dict::new(self.meter)?;
                let iter = self.iter(other)?;
                while let Some(pair) = self.next(&iter)? {
                    let pair = self.collect(&pair)?;
                    match <[Value; 2]>::try_from(pair) {
                        Ok([key, value]) => dict.set(key, value, self.meter)?,
                        Err(other) => {
                            return Err(Fault::op(format!(
                                "dictionary update sequence element has length {}; 2 is required",
                                other.len()
                            )));
                        }
                    }
                }
                dict
            }
        };
        for (key, value) in args.kw {
            dict.set(key, value, self.meter)?;
        }
        Ok(dict)
    }

    /// Python's `dict.fromkeys`.
    pub(super) fn dict_of_keys(&mut self, args: Args) -> Res<Value> {
        let [keys, value] = args.positional("fromkeys", 1)?;
        let value = value.unwrap_or(Value::None);
        let iter = self.iter(&keys.unwrap_or(Value::None))?;
        let mut dict = Dict::new(self.meter)?;
        while let Some(key) = self.next(&iter)? {
            dict.set(key, value.clone(), self.meter)?;
        }
        Ok(Value::Dict(Rc::new(dict)))
    }

    fn call_method(&mut self, method: &Method, args: Args) -> Res<Value> {
        let name = method.name;
        match &method.value {
            Value::Str(text) => methods::text::call(text, name, args, self),
            Value::List(_) | Value::Tuple(_) | Value::Range(_) => {
                methods::other::sequence(&method.value, name, args, self)
            }
            Value::Dict(dict) => methods::other::dict(dict, name, args, self),
            Value::Int(_) | Value::Bool(_) => {
                let n = method.value.as_int().unwrap_or(0);
                methods::other::int(n, name, args, self)
            }
            Value::Float(f) => methods::other::float(*f, name, args, self),
            Value::Cycler(cycler) => {
                let [] = args.positional(name, 0)?;
                if name == "reset" {
                    cycler.at.set(0);
                    return Ok(Value::None);
                }
                let items = &cycler.items.items;
                let item = items.get(cycler.at.get()).cloned().unwrap_or(Value::None);
                cycler.at.set((cycler.at.get() + 1) % items.len().max(1));
                Ok(item)
            }
            Value::Loop(handle) => self.loop_method(handle.id, name, args),
            other => Err(not_callable(other)),
        }
    }

    fn loop_method(&mut self, id: usize, name: &str, args: Args) -> Res<Value> {
        if !args.kw.is_empty() {
            return Err(Fault::op(format!("{name}() takes no keyword arguments")));
        }
        if name == "cycle" {
            let index = self.loop_state(id)?.index - 1;
            let n = args.pos.len() as i128;
            if n == 0 {
                return Err(Fault::op("no items for cycling given"));
            }
            let at = usize::try_from(index.rem_euclid(n)).unwrap_or(0);
            return Ok(args.pos.get(at).cloned().unwrap_or(Value::None));
        }
        let before = self.loop_state(id)?.changed.take();
        let mut same = before.as_ref().is_some_and(|b| b.len() == args.pos.len());
        for (a, b) in before.iter().flatten().zip(&args.pos) {
            same = same && (a.is(b) || ops::compare(super::ast::Compare::Eq, a, b, self)?);
        }
        self.loop_state(id)?.changed = if same { before } else { Some(args.pos) };
        Ok(Value::Bool(!same))
    }

    /// True for what can be called.
    pub(super) fn is_callable(&self, value: &Value) -> bool {
        matches!(
            value,
            Value::Undefined(_)
                | Value::Macro(_)
                | Value::Loop(_)
                | Value::Block(_)
                | Value::Function(_)
                | Value::Method(_)
                | Value::Joiner(_)
        )
    }
}
