//! Calls of macros and blocks, and what they remember.

use std::rc::Rc;

use super::super::args::Args;
use super::super::dict::Dict;
use super::super::error::{Fault, LimitKind, Res};
use super::super::program::{MacroSignature, Shape, Var};
use super::super::value::{Buf, Value};
use super::{Call, Context, End, Locals, MacroValue, NONE, Vm, check_attribute_name, unpacking};

impl<'r> Vm<'r> {
    /// Starts a call. Its arguments are set by the caller.
    pub(super) fn enter(
        &mut self,
        function: u32,
        parent: u32,
        context: usize,
        end: End,
    ) -> Res<u32> {
        if self.calls.len() > self.meter.limits.calls {
            return Err(LimitKind::Calls(self.meter.limits.calls).into());
        }
        let slots = self.function(function)?.slots;
        self.meter.tick(1 + slots / 8)?;
        let charge = self.meter.charge(slots * std::mem::size_of::<Value>() + 128)?;
        let locals = Locals {
            slots: vec![Value::Missing; slots],
            parent,
            function,
            captured: false,
            _charge: charge,
        };
        let id = match self.free_locals.pop() {
            Some(id) => id,
            None => {
                self.locals.push(None);
                (self.locals.len() - 1) as u32
            }
        };
        if let Some(place) = self.locals.get_mut(id as usize) {
            *place = Some(locals);
        }
        if end == End::Text {
            self.buffers.push(Buf::new(self.meter)?);
        }
        self.calls.push(Call {
            function,
            at: 0,
            locals: id,
            context,
            end,
            stack: self.stack.len(),
            buffers: self.buffers.len(),
            active: self.active.len(),
        });
        Ok(id)
    }

    /// Ends a call.
    pub(super) fn leave(&mut self) -> Res<()> {
        let call = self.calls.pop().ok_or_else(|| Fault::internal("no call to end"))?;
        self.stack.truncate(call.stack);
        self.buffers.truncate(call.buffers);
        self.active.truncate(call.active);
        if let Some(place) = self.locals.get_mut(call.locals as usize)
            && place.as_ref().is_some_and(|l| !l.captured)
        {
            *place = None;
            self.free_locals.push(call.locals);
        }
        if call.end == End::Text {
            let text = self.buffers.pop().ok_or_else(|| Fault::internal("no text"))?;
            let text = text.finish(self.autoescape)?;
            self.stack.push(text);
        }
        Ok(())
    }

    /// The variables of the function around `function`, from the current place.
    pub(super) fn around(&self, function: u32) -> Res<u32> {
        let wanted = self.function(function)?.parent;
        let mut at = self.calls.last().map_or(NONE, |call| call.locals);
        while at != NONE {
            let locals = self.locals(at)?;
            if Some(locals.function) == wanted {
                return Ok(at);
            }
            at = locals.parent;
        }
        Err(Fault::internal("a function is out of reach"))
    }

    /// Pops the arguments of a call.
    pub(super) fn arguments(&mut self, shape: Shape) -> Res<Args> {
        let dyn_kwargs = if shape.dyn_kwargs { Some(self.pop()?) } else { None };
        let dyn_args = if shape.dyn_args { Some(self.pop()?) } else { None };
        let program = self.program;
        let names = program.keywords.get(shape.keywords as usize).map_or(&[][..], |n| n);
        let values = self.pop_many(names.len() as u32)?;
        let mut args = Args { pos: self.pop_many(shape.args)?, kw: Vec::new() };
        for (&name, value) in names.iter().zip(values) {
            args.kw.push((self.constant(name)?, value));
        }
        if let Some(value) = dyn_args {
            let more = self.collect(&value)?;
            self.meter.room(more.len().saturating_mul(2 * std::mem::size_of::<Value>()))?;
            args.pos.extend(more);
        }
        match dyn_kwargs {
            None => {}
            Some(Value::Dict(dict)) => {
                for (key, value) in &dict.entries {
                    self.meter.tick(1 + args.kw.len() / 8)?;
                    let Some(name) = key.as_str() else {
                        return Err(Fault::op("keywords must be strings"));
                    };
                    if args.has(name) {
                        let why = format!("multiple values for keyword argument '{name}'");
                        return Err(Fault::op(why));
                    }
                    args.kw.push((key.clone(), value.clone()));
                }
            }
            Some(other) => {
                return Err(Fault::op(format!(
                    "the argument after ** must be a mapping, not '{}'",
                    other.type_name()
                )));
            }
        }
        Ok(args)
    }

    /// A macro, which remembers the variables around it.
    pub(super) fn make_macro(&mut self, function: u32) -> Res<Value> {
        let locals = self.around(function)?;
        let mut at = locals;
        while at != NONE {
            let Some(found) = self.locals.get_mut(at as usize).and_then(Option::as_mut) else {
                break;
            };
            found.captured = true;
            at = found.parent;
        }
        self.kept.grow(std::mem::size_of::<MacroValue>())?;
        let context = self.current()?.context;
        self.macros.push(MacroValue { function, locals, context });
        Ok(Value::Macro((self.macros.len() - 1) as u32))
    }

    /// The name of a macro; `None` for a caller.
    pub(in crate::template) fn macro_name(&self, n: u32) -> Option<&'r str> {
        let function = self.macros.get(n as usize)?.function;
        self.program.functions.get(function as usize)?.signature.as_ref()?.name.as_deref()
    }

    /// The parts of a macro that can be asked for: its function's signature.
    pub(in crate::template) fn macro_signature(&self, n: u32) -> Option<&'r MacroSignature> {
        let function = self.macros.get(n as usize)?.function;
        self.program.functions.get(function as usize)?.signature.as_ref()
    }

    /// Starts a call of a macro.
    pub(in crate::template) fn call_macro(&mut self, n: u32, mut args: Args) -> Res<()> {
        let found = self.macros.get(n as usize);
        let Some(&MacroValue { function, locals, context }) = found else {
            return Err(Fault::internal("a macro is missing"));
        };
        let Some(signature) = &self.function(function)?.signature else {
            return Err(Fault::internal("a macro without parameters"));
        };
        let name = signature.name.as_deref().unwrap_or("caller");
        let mut found_caller = false;
        let mut set: Vec<(u16, Value)> = Vec::new();
        let given = args.pos.len();
        let mut positional = std::mem::take(&mut args.pos).into_iter();
        for (parameter, slot) in &signature.args {
            self.meter.tick(1 + args.kw.len() / 8)?;
            let value = match positional.next() {
                Some(value) => Some(value),
                None => {
                    found_caller |= parameter == "caller";
                    args.take(parameter)
                }
            };
            if let Some(value) = value {
                set.push((*slot, value));
            }
        }
        let most = signature.args.len();
        if given >= most {
            found_caller = signature.args.iter().any(|(p, _)| p == "caller");
        }
        if let Some(slot) = signature.caller.filter(|_| !found_caller) {
            let caller = match args.take("caller") {
                None | Some(Value::None) => Value::undefined_hint("no caller defined"),
                Some(caller) => caller,
            };
            set.push((slot, caller));
        }
        if let Some(slot) = signature.kwargs {
            let mut dict = Dict::new(self.meter)?;
            for (key, value) in args.kw {
                dict.set(key, value, self.meter)?;
            }
            set.push((slot, Value::Dict(Rc::new(dict))));
        } else if let Some((key, _)) = args.kw.first() {
            let key = key.as_str().unwrap_or("");
            return Err(Fault::op(format!("macro '{name}' takes no keyword argument '{key}'")));
        }
        if let Some(slot) = signature.varargs {
            let rest = self.meter.tuple(positional.collect())?;
            set.push((slot, rest));
        } else if given > most {
            let why = format!("macro '{name}' takes not more than {most} argument(s)");
            return Err(Fault::op(why));
        }
        let id = self.enter(function, locals, context, End::Text)?;
        set.into_iter().try_for_each(|(slot, value)| self.store_in(id, slot, value))
    }

    /// Writes a block.
    pub(super) fn block(&mut self, at: u32) -> Res<()> {
        let program = self.program;
        let Some(call) = program.block_calls.get(at as usize) else {
            return Err(Fault::internal("a block is missing"));
        };
        if call.required {
            let name = self.name(call.block)?;
            return Err(Fault::op(format!("required block '{name}' not found")));
        }
        let mut context = self.current()?.context;
        if !call.locals.is_empty() {
            let mut vars = Dict::new(self.meter)?;
            for (name, var) in &call.locals {
                match self.load(*var)? {
                    Value::Missing => {}
                    value => vars.set(self.constant(*name)?, value, self.meter)?,
                }
            }
            self.contexts.push(Context { vars, parent: Some(context) });
            context = self.contexts.len() - 1;
        }
        let function = self.block_function(call.block)?;
        self.enter(function, NONE, context, End::Inline).map(drop)
    }

    pub(super) fn block_function(&self, name: u32) -> Res<u32> {
        let found = self.program.blocks.iter().find(|(n, _)| *n == name).map(|(_, f)| *f);
        found.ok_or_else(|| Fault::internal("a block is missing"))
    }

    /// A block of the template by its name, which can be called.
    pub(in crate::template) fn block_value(&mut self, name: &str) -> Res<Option<Value>> {
        for (at, function) in &self.program.blocks {
            if self.name(*at)? == name {
                let context = self.current()?.context;
                self.kept.grow(16)?;
                self.blocks.push((*function, context));
                return Ok(Some(Value::Block((self.blocks.len() - 1) as u32)));
            }
        }
        Ok(None)
    }

    pub(in crate::template) fn call_block(&mut self, n: u32) -> Res<()> {
        match self.blocks.get(n as usize) {
            Some(&(function, context)) => self.enter(function, NONE, context, End::Text).map(drop),
            None => Err(Fault::internal("a block is missing")),
        }
    }

    /// A new namespace.
    pub(in crate::template) fn new_namespace(&mut self, dict: Dict) -> Res<Value> {
        self.kept.grow(64)?;
        let mut all = self.namespaces.borrow_mut();
        all.push(dict);
        Ok(Value::Namespace((all.len() - 1) as u32))
    }

    pub(in crate::template) fn with_namespace<T>(
        &self,
        n: u32,
        f: impl FnOnce(&Dict) -> Res<T>,
    ) -> Res<T> {
        match self.namespaces.borrow().get(n as usize) {
            Some(dict) => f(dict),
            None => Err(Fault::internal("a namespace is missing")),
        }
    }

    pub(super) fn store_attr(&mut self, var: Var, name: u32) -> Res<()> {
        let value = self.pop()?;
        let Value::Namespace(n) = self.load(var)? else {
            return Err(Fault::op("cannot assign attribute on non-namespace object"));
        };
        let key = self.constant(name)?;
        check_attribute_name(&key)?;
        match self.namespaces.borrow_mut().get_mut(n as usize) {
            Some(dict) => dict.set(key, value, self.meter),
            None => Err(Fault::internal("a namespace is missing")),
        }
    }

    pub(super) fn export(&mut self, name: u32, slot: u16) -> Res<()> {
        let value = self.load(Var { hops: 0, slot })?;
        let key = self.constant(name)?;
        let meter = self.meter;
        match self.contexts.first_mut() {
            Some(context) if !matches!(value, Value::Missing) => {
                context.vars.set(key, value, meter)
            }
            _ => Ok(()),
        }
    }

    pub(super) fn make_dict(&mut self, n: u32) -> Res<Value> {
        let items = self.pop_many(n.saturating_mul(2))?;
        let mut dict = Dict::new(self.meter)?;
        let mut items = items.into_iter();
        while let (Some(key), Some(value)) = (items.next(), items.next()) {
            dict.set(key, value, self.meter)?;
        }
        Ok(Value::Dict(Rc::new(dict)))
    }

    /// Pops a value and pushes its items, of which there must be `n`.
    #[inline(never)]
    pub(super) fn unpack(&mut self, n: usize) -> Res<()> {
        let value = self.pop()?;
        let mut items = Vec::new();
        if let Value::List(seq) | Value::Tuple(seq) = &value {
            if seq.len() == n {
                items.extend(seq.items.iter().cloned());
            } else {
                return Err(unpacking(n, seq.len()));
            }
        } else {
            let iter = self.iter(&value)?;
            while let Some(item) = self.next(&iter)? {
                if items.len() == n {
                    return Err(unpacking(n, n + 1));
                }
                items.push(item);
            }
            if items.len() < n {
                return Err(unpacking(n, items.len()));
            }
        }
        self.stack.extend(items.into_iter().rev());
        Ok(())
    }
}
