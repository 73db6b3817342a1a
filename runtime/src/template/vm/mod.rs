//! The machine that runs a program. Calls of macros, callers, blocks and recursive loops take no
//! stack of the processor: they are a list of their own, and have a limit.

mod calls;
mod loops;

use std::cell::RefCell;
use std::rc::Rc;

use super::ast::Lit;
use super::dict::Dict;
use super::error::{Fault, LimitKind, Res};
use super::iter::{Iter, State};
use super::limits::{Charge, Meter};
use super::ops;
use super::program::{Function, Op, Program, Var};
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
    /// Items that the filter of a loop accepted.
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

/// Use of the text that a call writes.
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

    fn current(&mut self) -> Res<&mut Call> {
        self.calls.last_mut().ok_or_else(|| Fault::internal("no call"))
    }

    fn locals(&self, id: u32) -> Res<&Locals> {
        let found = self.locals.get(id as usize).and_then(Option::as_ref);
        found.ok_or_else(|| Fault::internal("variables are gone"))
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
