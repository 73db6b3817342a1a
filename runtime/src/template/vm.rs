//! The machine that runs a program. Calls of macros, callers, blocks and recursive loops take no
//! stack of the processor: they are a list of their own, and have a limit.

use std::cell::RefCell;
use std::rc::Rc;

use super::args::Args;
use super::ast::Lit;
use super::dict::Dict;
use super::error::{Fault, LimitKind, Res};
use super::iter::{Iter, State};
use super::limits::{Charge, Meter};
use super::ops;
use super::program::{Function, Looping, Op, Program, Shape, Var};
use super::repr;
use super::value::{Buf, Builtin, LoopHandle, Undef, Value};

/// State of a render.
pub(super) struct Vm<'r> {
    pub(super) meter: &'r Meter<'r>,
    program: &'r Program,
    consts: Vec<Value>,
    /// The render's variables.
    variables: &'r Dict,
    /// Seconds since the start of 1970, for `strftime_now`.
    pub(super) now: i64,
    stack: Vec<Value>,
    calls: Vec<Call>,
    locals: Vec<Option<Locals>>,
    free_locals: Vec<u32>,
    buffers: Vec<Buf<'r>>,
    active: Vec<Active>,
    loops: Vec<Option<LoopState>>,
    free_loops: Vec<usize>,
    macros: Vec<MacroValue>,
    blocks: Vec<(u32, usize)>,
    namespaces: RefCell<Vec<Dict>>,
    contexts: Vec<Context>,
    /// Namespaces that are being printed.
    pub(super) printing: RefCell<Vec<u32>>,
    pub(super) autoescape: bool,
    /// Levels of iterators and filters of loops that run inside of each other.
    pub(super) nest: usize,
    /// What the filter of a loop accepted.
    accepted: Option<Value>,
    /// Depth of the recursive loop that starts next.
    recursion: i128,
    /// Memory of what is kept until the end.
    kept: Charge,
}

/// A call in progress.
struct Call {
    function: u32,
    at: usize,
    locals: u32,
    context: usize,
    end: End,
    stack: usize,
    buffers: usize,
    active: usize,
}

/// What becomes of a call's text.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// It is the result.
    Text,
    /// It goes where the caller's text goes.
    Inline,
    /// There is none.
    Filter,
}

/// Variables of a function in progress, or of one that others refer to.
struct Locals {
    slots: Vec<Value>,
    parent: u32,
    function: u32,
    /// True if macros may refer to it after its function has ended.
    captured: bool,
    _charge: Charge,
}

const NONE: u32 = u32::MAX;

#[derive(Clone, Copy)]
struct MacroValue {
    function: u32,
    locals: u32,
    context: usize,
}

/// Variables that blocks see.
struct Context {
    vars: Dict,
    parent: Option<usize>,
}

/// A loop in progress.
enum Active {
    Plain { iter: Rc<Iter>, completed: bool },
    Extended { handle: Rc<LoopHandle>, completed: bool },
}

/// State of a loop that can be asked for itself.
pub(super) struct LoopState {
    pub(super) iterable: Value,
    pub(super) iter: Rc<Iter>,
    /// Number of items so far.
    pub(super) index: i128,
    pub(super) length: Option<i128>,
    pub(super) after: Option<Value>,
    pub(super) current: Option<Value>,
    pub(super) before: Option<Value>,
    pub(super) changed: Option<Vec<Value>>,
    /// Function and variables of a recursive loop.
    pub(super) recurse: Option<(u32, u32)>,
    pub(super) depth0: i128,
    _charge: Charge,
}

impl<'r> Vm<'r> {
    pub(super) fn new(
        program: &'r Program,
        variables: &'r Dict,
        now: i64,
        meter: &'r Meter<'r>,
    ) -> Res<Vm<'r>> {
        let mut consts = Vec::with_capacity(program.consts.len());
        for lit in &program.consts {
            consts.push(match lit {
                Lit::None => Value::None,
                Lit::Bool(b) => Value::Bool(*b),
                Lit::Int(n) => Value::Int(*n),
                Lit::Float(f) => Value::Float(*f),
                Lit::Str(text) => meter.str(text)?,
            });
        }
        Ok(Vm {
            meter,
            program,
            consts,
            variables,
            now,
            stack: Vec::new(),
            calls: Vec::new(),
            locals: Vec::new(),
            free_locals: Vec::new(),
            buffers: vec![Buf::new(meter)?],
            active: Vec::new(),
            loops: Vec::new(),
            free_loops: Vec::new(),
            macros: Vec::new(),
            blocks: Vec::new(),
            namespaces: RefCell::new(Vec::new()),
            contexts: vec![Context { vars: Dict::new(meter)?, parent: None }],
            printing: RefCell::new(Vec::new()),
            autoescape: false,
            nest: 0,
            accepted: None,
            recursion: 0,
            kept: meter.charge(0)?,
        })
    }

    /// Runs the template and returns its text.
    pub(super) fn render(&mut self) -> Res<String> {
        self.enter(0, NONE, 0, End::Inline)?;
        self.run(0)?;
        let text = self.buffers.pop().ok_or_else(|| Fault::internal("no text"))?;
        Ok(text.into_string())
    }

    /// Runs until only so many calls are left.
    fn run(&mut self, until: usize) -> Res<()> {
        while self.calls.len() > until {
            if let Err(fault) = self.step() {
                return Err(fault.at(self.line()));
            }
        }
        Ok(())
    }

    /// Line of the instruction that was fetched last.
    fn line(&self) -> u32 {
        let call = self.calls.last();
        let line = call.and_then(|call| {
            let function = self.program.functions.get(call.function as usize)?;
            function.lines.get(call.at.checked_sub(1)?)
        });
        line.copied().unwrap_or(1)
    }

    fn function(&self, function: u32) -> Res<&'r Function> {
        let found = self.program.functions.get(function as usize);
        found.ok_or_else(|| Fault::internal("a function is missing"))
    }

    /// Starts a call. Its arguments are set by the caller.
    fn enter(&mut self, function: u32, parent: u32, context: usize, end: End) -> Res<u32> {
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
    fn leave(&mut self) -> Res<()> {
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

    fn current(&mut self) -> Res<&mut Call> {
        self.calls.last_mut().ok_or_else(|| Fault::internal("no call"))
    }

    fn locals(&self, id: u32) -> Res<&Locals> {
        let found = self.locals.get(id as usize).and_then(Option::as_ref);
        found.ok_or_else(|| Fault::internal("variables are gone"))
    }

    /// The variables of the function around `function`, from the current place.
    fn around(&self, function: u32) -> Res<u32> {
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

    fn load(&self, var: Var) -> Res<Value> {
        let mut at = self.calls.last().map_or(NONE, |call| call.locals);
        for _ in 0..var.hops {
            at = self.locals(at)?.parent;
        }
        let value = self.locals(at)?.slots.get(usize::from(var.slot)).cloned();
        value.ok_or_else(|| Fault::internal("a variable is missing"))
    }

    fn store(&mut self, slot: u16, value: Value) -> Res<()> {
        let id = self.current()?.locals;
        self.store_in(id, slot, value)
    }

    fn store_in(&mut self, id: u32, slot: u16, value: Value) -> Res<()> {
        let locals = self.locals.get_mut(id as usize).and_then(Option::as_mut);
        match locals.and_then(|l| l.slots.get_mut(usize::from(slot))) {
            Some(place) => {
                *place = value;
                Ok(())
            }
            None => Err(Fault::internal("a variable is missing")),
        }
    }

    fn constant(&self, at: u32) -> Res<Value> {
        let found = self.consts.get(at as usize).cloned();
        found.ok_or_else(|| Fault::internal("a constant is missing"))
    }

    /// The text of a constant, whose life is not the machine's.
    fn name(&self, at: u32) -> Res<&'r str> {
        match self.program.consts.get(at as usize) {
            Some(Lit::Str(text)) => Ok(text),
            _ => Err(Fault::internal("a name is missing")),
        }
    }

    fn push(&mut self, value: Value) {
        self.stack.push(value);
    }

    fn pop(&mut self) -> Res<Value> {
        self.stack.pop().ok_or_else(|| Fault::internal("the stack is empty"))
    }

    /// The topmost values.
    fn pop_many(&mut self, n: u32) -> Res<Vec<Value>> {
        let from = self.stack.len().checked_sub(n as usize);
        let from = from.ok_or_else(|| Fault::internal("the stack is too short"))?;
        self.meter.room((n as usize).saturating_mul(std::mem::size_of::<Value>()))?;
        Ok(self.stack.split_off(from))
    }

    fn jump(&mut self, to: u32) -> Res<()> {
        self.current()?.at = to as usize;
        Ok(())
    }

    /// Runs one instruction.
    fn step(&mut self) -> Res<()> {
        self.meter.tick(1)?;
        let program = self.program;
        let call = self.current()?;
        let function = program.functions.get(call.function as usize);
        let op = function.and_then(|f| f.code.get(call.at)).copied();
        let op = op.ok_or_else(|| Fault::internal("the code ends early"))?;
        call.at += 1;
        match op {
            Op::Const(at) => {
                let value = self.constant(at)?;
                self.push(value);
                Ok(())
            }
            Op::Load(var, name) => self.op_load(var, name),
            Op::Store(slot) => {
                let value = self.pop()?;
                self.store(slot, value)
            }
            Op::Unset(slot) => self.store(slot, Value::Missing),
            Op::Copy(var, slot) => {
                let value = self.load(var)?;
                self.store(slot, value)
            }
            Op::Resolve(name, slot) => {
                let value = self.resolve(self.name(name)?);
                self.store(slot, value)
            }
            Op::Export(name, slot) => self.export(name, slot),
            Op::Pop => self.pop().map(drop),
            Op::Attr(_) | Op::Item | Op::Slice | Op::Call(_) | Op::Filter(..) | Op::Test(..) => {
                self.op_access(op)
            }
            Op::Jump(to) => self.jump(to),
            Op::JumpIfFalse(_)
            | Op::JumpIfFalseOrPop(_)
            | Op::JumpIfTrueOrPop(_)
            | Op::CompareChain(..) => self.op_branch(op),
            Op::Data(at) => self.write(self.name(at)?),
            Op::Print(escape) => self.op_print(escape),
            Op::Next(end) => self.op_next(end),
            Op::Completed => {
                if let Some(Active::Plain { completed, .. } | Active::Extended { completed, .. }) =
                    self.active.last_mut()
                {
                    *completed = true;
                }
                Ok(())
            }
            Op::Return => self.leave(),
            _ => self.op_other(op),
        }
    }

    #[inline(never)]
    fn op_load(&mut self, var: Var, name: u32) -> Res<()> {
        let value = match self.load(var)? {
            Value::Missing => Value::undefined(Undef::Name(self.constant(name)?)),
            value => value,
        };
        self.push(value);
        Ok(())
    }

    #[inline(never)]
    fn op_access(&mut self, op: Op) -> Res<()> {
        let value = match op {
            Op::Attr(name) => {
                let value = self.pop()?;
                let name = self.constant(name)?;
                self.getattr(&value, &name)?
            }
            Op::Item => {
                let index = self.pop()?;
                let value = self.pop()?;
                self.getitem(&value, &index)?
            }
            Op::Slice => {
                let (step, stop, start) = (self.pop()?, self.pop()?, self.pop()?);
                let value = self.pop()?;
                ops::slice(&value, &start, &stop, &step, self)?
            }
            Op::Call(shape) => {
                let args = self.arguments(shape)?;
                let callee = self.pop()?;
                return self.call(callee, args);
            }
            Op::Filter(filter, shape) => {
                let mut args = self.arguments(shape)?;
                args.pos.insert(0, self.pop()?);
                super::filters::apply(filter, args, self)?
            }
            Op::Test(test, shape) => {
                let mut args = self.arguments(shape)?;
                args.pos.insert(0, self.pop()?);
                Value::Bool(super::tests::apply(test, args, self)?)
            }
            _ => return Err(Fault::internal("a wrong instruction")),
        };
        self.push(value);
        Ok(())
    }

    #[inline(never)]
    fn op_branch(&mut self, op: Op) -> Res<()> {
        match op {
            Op::JumpIfFalse(to) => {
                let value = self.pop()?;
                if !ops::truth(&value, self)? {
                    self.jump(to)?;
                }
            }
            Op::JumpIfFalseOrPop(to) | Op::JumpIfTrueOrPop(to) => {
                let value = self.pop()?;
                if ops::truth(&value, self)? == matches!(op, Op::JumpIfTrueOrPop(_)) {
                    self.push(value);
                    self.jump(to)?;
                }
            }
            Op::CompareChain(compare, to) => {
                let right = self.pop()?;
                let left = self.pop()?;
                if ops::compare(compare, &left, &right, self)? {
                    self.push(right);
                } else {
                    self.push(Value::Bool(false));
                    self.jump(to)?;
                }
            }
            _ => return Err(Fault::internal("a wrong instruction")),
        }
        Ok(())
    }

    #[inline(never)]
    fn op_print(&mut self, escape: bool) -> Res<()> {
        let value = self.pop()?;
        let value = if escape { repr::escape(&value, self)? } else { value };
        if let Value::Str(text) = &value {
            return self.write(text.as_str());
        }
        let mut text = Buf::new(self.meter)?;
        repr::write_str(&value, self, &mut text)?;
        self.write(text.as_str())
    }

    /// Writes text.
    fn write(&mut self, text: &str) -> Res<()> {
        let most = self.meter.limits.output;
        let root = self.buffers.len() == 1;
        let buffer = self.buffers.last_mut().ok_or_else(|| Fault::internal("no text"))?;
        if root && buffer.len().saturating_add(text.len()) > most {
            return Err(LimitKind::Output(most).into());
        }
        buffer.push_str(text)
    }

    #[inline(never)]
    fn op_other(&mut self, op: Op) -> Res<()> {
        let value = match op {
            Op::Tuple(n) => {
                let items = self.pop_many(n)?;
                self.meter.tuple(items)?
            }
            Op::List(n) => {
                let items = self.pop_many(n)?;
                self.meter.list(items)?
            }
            Op::Dict(n) => self.make_dict(n)?,
            Op::Binary(op) => {
                let right = self.pop()?;
                let left = self.pop()?;
                ops::binary(op, &left, &right, self)?
            }
            Op::Compare(op) => {
                let right = self.pop()?;
                let left = self.pop()?;
                Value::Bool(ops::compare(op, &left, &right, self)?)
            }
            Op::Not => {
                let value = self.pop()?;
                Value::Bool(!ops::truth(&value, self)?)
            }
            Op::Neg => ops::negate(&self.pop()?)?,
            Op::Pos => ops::positive(&self.pop()?)?,
            Op::Concat(n, escape) => {
                let items = self.pop_many(n)?;
                ops::concat(&items, escape, self)?
            }
            Op::NoElse => Value::undefined_hint(
                "the inline if-expression evaluated to false and no else section was defined",
            ),
            Op::Generation => Value::Function(Builtin::Generation),
            Op::Caller(depth) => {
                let at = self.stack.len().checked_sub(1 + depth as usize);
                let value = at.and_then(|at| self.stack.get(at)).cloned();
                value.ok_or_else(|| Fault::internal("no caller"))?
            }
            Op::EndBuffer(escape) => {
                let text = self.buffers.pop().ok_or_else(|| Fault::internal("no text"))?;
                text.finish(escape)?
            }
            Op::MarkSafe => {
                let value = self.pop()?;
                let text = repr::soft_str(&value, self)?;
                repr::with_safety(text, true, self)?
            }
            Op::Macro(function) => self.make_macro(function)?,
            Op::NotGiven(name) => Value::undefined(Undef::Parameter(self.constant(name)?)),
            _ => return self.op_statement(op),
        };
        self.push(value);
        Ok(())
    }

    #[inline(never)]
    fn op_statement(&mut self, op: Op) -> Res<()> {
        match op {
            Op::NoFilter(name) => {
                Err(Fault::op(format!("no filter named '{}' found", self.name(name)?)))
            }
            Op::NoTest(name) => {
                Err(Fault::op(format!("no test named '{}' found", self.name(name)?)))
            }
            Op::PrintText => match self.pop()? {
                Value::Str(text) => self.write(text.as_str()),
                other => Err(Fault::op(format!(
                    "a block gives a value of type '{}', not text",
                    other.type_name()
                ))),
            },
            Op::StartBuffer => {
                self.buffers.push(Buf::new(self.meter)?);
                Ok(())
            }
            Op::DropBuffers(n) => {
                let left = self.buffers.len().saturating_sub(usize::from(n));
                self.buffers.truncate(left.max(1));
                Ok(())
            }
            Op::LoopFilter(function) => {
                let value = self.pop()?;
                let from = self.iter(&value)?;
                let (depth, frame) = (from.depth, self.around(function)?);
                let state = State::Loop { from, function, frame };
                let iter = Iter::new(state, depth, "generator", self.meter)?;
                let iter = self.meter.iter(iter)?;
                self.push(iter);
                Ok(())
            }
            Op::StartLoop(looping) => self.start_loop(looping),
            Op::LoopVar(slot) => match self.active.last() {
                Some(Active::Extended { handle, .. }) => {
                    let value = Value::Loop(handle.clone());
                    self.store(slot, value)
                }
                _ => Err(Fault::internal("no loop")),
            },
            Op::EndLoop(end) => self.end_loop(end),
            Op::LoopCall(function) => {
                let iterable = self.pop()?;
                let parent = self.around(function)?;
                self.call_loop(function, parent, iterable, 0)
            }
            Op::Unpack(n) => self.unpack(n as usize),
            Op::JumpIfGiven(slot, to) => {
                let value = self.load(Var { hops: 0, slot })?;
                match value {
                    Value::Missing => Ok(()),
                    _ => self.jump(to),
                }
            }
            Op::CheckNamespace(var) => match self.load(var)? {
                Value::Namespace(_) => Ok(()),
                _ => Err(Fault::op("cannot assign attribute on non-namespace object")),
            },
            Op::StoreAttr(var, name) => self.store_attr(var, name),
            Op::Block(at) => self.block(at),
            Op::SelfRef(slot) => self.store(slot, Value::SelfRef),
            Op::SuperRef(slot) => {
                self.store(slot, Value::undefined_hint("there is no parent block"))
            }
            Op::Autoescape(on) => {
                self.autoescape = on;
                Ok(())
            }
            Op::NoLoader(what) => {
                Err(Fault::unsupported(format!("`{what}`: a template can't load others")))
            }
            Op::Accept => {
                self.accepted = Some(self.pop()?);
                self.leave()
            }
            Op::Reject => {
                self.accepted = None;
                self.leave()
            }
            _ => Err(Fault::internal("a wrong instruction")),
        }
    }

    /// A variable that no scope assigns.
    fn resolve(&self, name: &str) -> Value {
        let mut context = self.calls.last().map(|call| call.context);
        while let Some(found) = context.and_then(|at| self.contexts.get(at)) {
            if let Some(value) = found.vars.get_str(name) {
                return value.clone();
            }
            context = found.parent;
        }
        if let Some(value) = self.variables.get_str(name) {
            return value.clone();
        }
        match name {
            "range" => Value::Function(Builtin::Range),
            "dict" => Value::Function(Builtin::Dict),
            "namespace" => Value::Function(Builtin::Namespace),
            "cycler" => Value::Function(Builtin::Cycler),
            "joiner" => Value::Function(Builtin::Joiner),
            "lipsum" => Value::Function(Builtin::Lipsum),
            "raise_exception" => Value::Function(Builtin::RaiseException),
            "strftime_now" => Value::Function(Builtin::StrftimeNow),
            _ => Value::Missing,
        }
    }

    fn export(&mut self, name: u32, slot: u16) -> Res<()> {
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

    fn make_dict(&mut self, n: u32) -> Res<Value> {
        let items = self.pop_many(n.saturating_mul(2))?;
        let mut dict = Dict::new(self.meter)?;
        let mut items = items.into_iter();
        while let (Some(key), Some(value)) = (items.next(), items.next()) {
            dict.set(key, value, self.meter)?;
        }
        Ok(Value::Dict(Rc::new(dict)))
    }

    /// Pops the arguments of a call.
    fn arguments(&mut self, shape: Shape) -> Res<Args> {
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

    /// Pops a value and pushes its items, of which there must be `n`.
    #[inline(never)]
    fn unpack(&mut self, n: usize) -> Res<()> {
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

    /// A macro, which remembers the variables around it.
    fn make_macro(&mut self, function: u32) -> Res<Value> {
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
    pub(super) fn macro_name(&self, n: u32) -> Option<&'r str> {
        let function = self.macros.get(n as usize)?.function;
        self.program.functions.get(function as usize)?.signature.as_ref()?.name.as_deref()
    }

    /// The parts of a macro that can be asked for: its function's signature.
    pub(super) fn macro_signature(&self, n: u32) -> Option<&'r super::program::MacroSignature> {
        let function = self.macros.get(n as usize)?.function;
        self.program.functions.get(function as usize)?.signature.as_ref()
    }

    /// Starts a call of a macro.
    pub(super) fn call_macro(&mut self, n: u32, mut args: Args) -> Res<()> {
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
            self.meter.tick(1)?;
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

    /// Starts a call of a recursive loop's function.
    fn call_loop(&mut self, function: u32, parent: u32, items: Value, depth: i128) -> Res<()> {
        let context = self.current()?.context;
        self.enter(function, parent, context, End::Text)?;
        self.recursion = depth;
        self.push(items);
        Ok(())
    }

    /// Starts a loop over the value on the stack.
    fn start_loop(&mut self, looping: Looping) -> Res<()> {
        let iterable = self.pop()?;
        let iter = self.iter(&iterable)?;
        if looping == Looping::Plain {
            self.active.push(Active::Plain { iter, completed: false });
            return Ok(());
        }
        let mut depth0 = 0;
        let mut recurse = None;
        if looping == Looping::Recursive {
            depth0 = std::mem::take(&mut self.recursion);
            let (function, locals) = {
                let call = self.current()?;
                (call.function, call.locals)
            };
            recurse = Some((function, self.locals(locals)?.parent));
        }
        let state = LoopState {
            iterable,
            iter,
            index: 0,
            length: None,
            after: None,
            current: None,
            before: None,
            changed: None,
            recurse,
            depth0,
            _charge: self.meter.charge(std::mem::size_of::<LoopState>())?,
        };
        let id = match self.free_loops.pop() {
            Some(id) => id,
            None => {
                self.loops.push(None);
                self.loops.len() - 1
            }
        };
        if let Some(place) = self.loops.get_mut(id) {
            *place = Some(state);
        }
        self.active.push(Active::Extended { handle: Rc::new(LoopHandle { id }), completed: false });
        Ok(())
    }

    #[inline(never)]
    fn op_next(&mut self, end: u32) -> Res<()> {
        let item = match self.active.last() {
            Some(Active::Plain { iter, .. }) => {
                let iter = iter.clone();
                self.next(&iter)?
            }
            Some(Active::Extended { handle, .. }) => {
                let id = handle.id;
                self.next_of_loop(id)?
            }
            None => return Err(Fault::internal("no loop")),
        };
        match item {
            Some(item) => {
                self.push(item);
                Ok(())
            }
            None => self.jump(end),
        }
    }

    pub(super) fn loop_state(&mut self, id: usize) -> Res<&mut LoopState> {
        let state = self.loops.get_mut(id).and_then(Option::as_mut);
        state.ok_or_else(|| Fault::internal("a loop is gone"))
    }

    fn next_of_loop(&mut self, id: usize) -> Res<Option<Value>> {
        let state = self.loop_state(id)?;
        let item = match state.after.take() {
            Some(item) => item,
            None => {
                let iter = state.iter.clone();
                let Some(item) = self.next(&iter)? else { return Ok(None) };
                item
            }
        };
        let state = self.loop_state(id)?;
        state.index += 1;
        state.before = state.current.replace(item.clone());
        Ok(Some(item))
    }

    /// The item after the current one, which is then computed before its time.
    pub(super) fn peek_of_loop(&mut self, id: usize) -> Res<Option<Value>> {
        let state = self.loop_state(id)?;
        if state.after.is_none() {
            let iter = state.iter.clone();
            let next = self.next(&iter)?;
            self.loop_state(id)?.after = next;
        }
        Ok(self.loop_state(id)?.after.clone())
    }

    /// Number of items of a loop.
    pub(super) fn length_of_loop(&mut self, id: usize) -> Res<i128> {
        let state = self.loop_state(id)?;
        if let Some(length) = state.length {
            return Ok(length);
        }
        let (iterable, iter) = (state.iterable.clone(), state.iter.clone());
        let length = match ops::length(&iterable, self)? {
            Some(length) => length,
            None => {
                // A generator is read to its end.
                let rest = self.collect(&Value::Iter(iter))?;
                let seq = self.meter.seq(rest)?;
                let count = seq.len() as i128;
                let list = Value::List(seq);
                let iter = self.iter(&list)?;
                let state = self.loop_state(id)?;
                state.iter = iter;
                count + state.index + i128::from(state.after.is_some())
            }
        };
        self.loop_state(id)?.length = Some(length);
        Ok(length)
    }

    #[inline(never)]
    fn end_loop(&mut self, end: u32) -> Res<()> {
        let completed = match self.active.pop() {
            Some(Active::Plain { iter, completed }) => {
                // What breaks out of a loop must not leave its filter behind.
                iter.end_filter();
                completed
            }
            Some(Active::Extended { handle, completed }) => {
                let state = self.loop_state(handle.id)?;
                state.iter.end_filter();
                state.recurse = None;
                if Rc::strong_count(&handle) == 1 {
                    if let Some(place) = self.loops.get_mut(handle.id) {
                        *place = None;
                    }
                    self.free_loops.push(handle.id);
                }
                completed
            }
            None => return Err(Fault::internal("no loop to end")),
        };
        match completed {
            true => self.jump(end),
            false => Ok(()),
        }
    }

    /// Runs the filter of a loop for an item.
    pub(super) fn run_loop_filter(
        &mut self,
        function: u32,
        frame: u32,
        item: Value,
    ) -> Res<Option<Value>> {
        self.nest += 4;
        self.meter.depth(self.nest)?;
        let until = self.calls.len();
        let context = self.current()?.context;
        self.enter(function, frame, context, End::Filter)?;
        self.push(item);
        self.run(until)?;
        self.nest -= 4;
        Ok(self.accepted.take())
    }

    /// Calls a loop, which runs it again for other items.
    pub(super) fn call_loop_value(&mut self, id: usize, items: Value) -> Res<()> {
        let state = self.loop_state(id)?;
        let depth = state.depth0 + 1;
        match state.recurse {
            Some((function, parent)) => self.call_loop(function, parent, items, depth),
            None => {
                Err(Fault::op("the loop must have the 'recursive' marker to be called recursively"))
            }
        }
    }

    /// A new namespace.
    pub(super) fn new_namespace(&mut self, dict: Dict) -> Res<Value> {
        self.kept.grow(64)?;
        let mut all = self.namespaces.borrow_mut();
        all.push(dict);
        Ok(Value::Namespace((all.len() - 1) as u32))
    }

    pub(super) fn with_namespace<T>(&self, n: u32, f: impl FnOnce(&Dict) -> Res<T>) -> Res<T> {
        match self.namespaces.borrow().get(n as usize) {
            Some(dict) => f(dict),
            None => Err(Fault::internal("a namespace is missing")),
        }
    }

    fn store_attr(&mut self, var: Var, name: u32) -> Res<()> {
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

    /// Writes a block.
    fn block(&mut self, at: u32) -> Res<()> {
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

    fn block_function(&self, name: u32) -> Res<u32> {
        let found = self.program.blocks.iter().find(|(n, _)| *n == name).map(|(_, f)| *f);
        found.ok_or_else(|| Fault::internal("a block is missing"))
    }

    /// A block of the template by its name, which can be called.
    pub(super) fn block_value(&mut self, name: &str) -> Res<Option<Value>> {
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

    pub(super) fn call_block(&mut self, n: u32) -> Res<()> {
        match self.blocks.get(n as usize) {
            Some(&(function, context)) => self.enter(function, NONE, context, End::Text).map(drop),
            None => Err(Fault::internal("a block is missing")),
        }
    }

    pub(super) fn push_result(&mut self, value: Value) {
        self.push(value);
    }
}

/// Fails for a name that namespaces refuse.
pub(super) fn check_attribute_name(name: &Value) -> Res<()> {
    match name.as_str() {
        Some(text) if text.starts_with('_') => {
            Err(super::error::TemplateErrorKind::Forbidden(format!(
                "namespaces have no attributes that start with an underscore, such as '{text}'"
            ))
            .into())
        }
        _ => Ok(()),
    }
}

fn unpacking(wanted: usize, found: usize) -> Fault {
    Fault::op(match found > wanted {
        true => format!("too many values to unpack (expected {wanted})"),
        false => format!("not enough values to unpack (expected {wanted}, got {found})"),
    })
}
