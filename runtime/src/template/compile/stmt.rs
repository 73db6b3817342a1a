//! Statements.

use super::super::ast::{
    Block, CallBlock, Expr, ExprKind, For, Lit, Out, Signature, Stmt, StmtKind,
};
use super::super::error::{Fault, Res};
use super::super::limits::Meter;
use super::super::program::{BlockCall, Looping, MacroSignature, Op};
use super::symbols::{LoopFacts, Undeclared};
use super::{Compiler, Frame, Loop};

/// All blocks of a template, also those in blocks.
pub(super) fn find_blocks<'a>(
    body: &'a [Stmt],
    found: &mut Vec<&'a Block>,
    meter: &Meter<'_>,
) -> Res<()> {
    for statement in body {
        meter.tick(1)?;
        match &statement.kind {
            StmtKind::If { body, elifs, otherwise, .. } => {
                find_blocks(body, found, meter)?;
                find_blocks(elifs, found, meter)?;
                find_blocks(otherwise, found, meter)?;
            }
            StmtKind::For(f) => {
                find_blocks(&f.body, found, meter)?;
                find_blocks(&f.otherwise, found, meter)?;
            }
            StmtKind::Macro(m) => find_blocks(&m.signature.body, found, meter)?,
            StmtKind::CallBlock(c) => find_blocks(&c.signature.body, found, meter)?,
            StmtKind::SetBlock { body, .. }
            | StmtKind::FilterBlock { body, .. }
            | StmtKind::With { body, .. }
            | StmtKind::Autoescape { body, .. } => find_blocks(body, found, meter)?,
            StmtKind::Block(block) => {
                found.push(block);
                find_blocks(&block.body, found, meter)?;
            }
            StmtKind::Output(_)
            | StmtKind::Set(..)
            | StmtKind::Break
            | StmtKind::Continue
            | StmtKind::Extends(_)
            | StmtKind::Include(_)
            | StmtKind::Import { .. }
            | StmtKind::FromImport { .. } => {}
        }
    }
    Ok(())
}

impl Compiler<'_> {
    pub(super) fn statements(&mut self, body: &[Stmt], frame: Frame) -> Res<()> {
        for statement in body {
            self.line = statement.line;
            self.statement(statement, frame)?;
        }
        Ok(())
    }

    fn statement(&mut self, statement: &Stmt, frame: Frame) -> Res<()> {
        match &statement.kind {
            StmtKind::Output(parts) => self.output(parts, frame),
            StmtKind::If { test, body, elifs, otherwise } => {
                self.branches(test, body, elifs, otherwise, frame)
            }
            StmtKind::For(f) => self.for_loop(f, frame),
            StmtKind::Set(target, value) => self.set(target, value, frame),
            StmtKind::SetBlock { target, filter, body } => {
                self.set_block(target, filter.as_ref(), body, frame)
            }
            StmtKind::Macro(m) => {
                self.function(Some(&m.name), &m.signature, frame)?;
                let slot = self.slot(frame, &m.name)?;
                self.emit(Op::Store(slot))?;
                self.export(&m.name, slot, frame)
            }
            StmtKind::CallBlock(c) => self.call_block(c, frame),
            StmtKind::FilterBlock { filter, body } => self.filter_block(filter, body, frame),
            StmtKind::With { targets, values, body } => self.with(targets, values, body, frame),
            StmtKind::Autoescape { on, body } => self.autoescape(on, body, frame),
            StmtKind::Block(block) => self.block(block, frame),
            StmtKind::Break | StmtKind::Continue => {
                self.jump(matches!(statement.kind, StmtKind::Break))
            }
            StmtKind::Extends(_) if !frame.toplevel => {
                Err(Fault::syntax("`extends` is allowed only at the top level", statement.line))
            }
            StmtKind::Extends(_) => self.emit(Op::NoLoader("extends")).map(drop),
            StmtKind::Include(_) => self.emit(Op::NoLoader("include")).map(drop),
            StmtKind::Import { .. } | StmtKind::FromImport { .. } => {
                self.emit(Op::NoLoader("import")).map(drop)
            }
        }
    }

    fn output(&mut self, parts: &[Out], frame: Frame) -> Res<()> {
        for part in parts {
            match part {
                Out::Data(text) => {
                    let at = self.text(text)?;
                    self.emit(Op::Data(at))?;
                }
                Out::Expr(expr) => {
                    self.expr(expr, frame)?;
                    self.line = expr.line;
                    self.emit(Op::Print(frame.escape))?;
                }
            }
        }
        Ok(())
    }

    fn branches(
        &mut self,
        test: &Expr,
        body: &[Stmt],
        elifs: &[Stmt],
        otherwise: &[Stmt],
        frame: Frame,
    ) -> Res<()> {
        let frame = Frame { soft: true, ..frame };
        let mut ends = Vec::new();
        self.expr(test, frame)?;
        let mut skip = self.emit(Op::JumpIfFalse(0))?;
        self.statements(body, frame)?;
        for elif in elifs {
            let StmtKind::If { test, body, .. } = &elif.kind else { continue };
            ends.push(self.emit(Op::Jump(0))?);
            self.land(skip)?;
            self.line = elif.line;
            self.expr(test, frame)?;
            skip = self.emit(Op::JumpIfFalse(0))?;
            self.statements(body, frame)?;
        }
        if !otherwise.is_empty() {
            ends.push(self.emit(Op::Jump(0))?);
            self.land(skip)?;
            self.statements(otherwise, frame)?;
        } else {
            self.land(skip)?;
        }
        ends.into_iter().try_for_each(|end| self.land(end))
    }

    /// A scope inside of the frame's, of the function `function`.
    fn inner(&mut self, frame: Frame, function: u32) -> Frame {
        let scope = self.symbols.scope(Some(frame.scope), function);
        Frame { scope, toplevel: false, soft: false, ..frame }
    }

    fn for_loop(&mut self, f: &For, frame: Frame) -> Res<()> {
        let line = self.line;
        let facts = LoopFacts::of(f, self.meter)?;
        let named = Undeclared::find(&f.body, &["loop"], self.meter)?.has("loop");
        let extended = f.recursive || named || facts.scoped_block;
        if facts.assigns_loop {
            return Err(Fault::syntax("can't assign to the special variable `loop`", line));
        }
        let here = self.id()?;
        let filter = match &f.test {
            Some(test) => Some(self.loop_filter(f, test, frame)?),
            None => None,
        };
        self.line = line;
        if !f.recursive {
            self.expr(&f.iter, frame)?;
            let looping = if extended { Looping::Extended } else { Looping::Plain };
            return self.loop_body(f, frame, here, filter, looping);
        }
        let function = self.open(Some(here));
        self.loop_body(f, frame, function, filter, Looping::Recursive)?;
        self.emit(Op::Return)?;
        self.close();
        self.line = line;
        self.expr(&f.iter, frame)?;
        self.emit(Op::LoopCall(function))?;
        self.emit(Op::PrintText).map(drop)
    }

    /// The function that decides which items of a loop are used: given an item, it gives one or
    /// none.
    fn loop_filter(&mut self, f: &For, test: &Expr, frame: Frame) -> Res<u32> {
        let here = self.id()?;
        let function = self.open(Some(here));
        let inner = self.inner(frame, function);
        self.symbols.target(inner.scope, &f.target, true)?;
        self.symbols.expr(inner.scope, test)?;
        self.enter(inner.scope)?;
        self.store(&f.target, inner)?;
        self.line = test.line;
        self.expr(test, inner)?;
        let skip = self.emit(Op::JumpIfFalse(0))?;
        self.expr(&f.target, inner)?;
        self.emit(Op::Accept)?;
        self.land(skip)?;
        self.emit(Op::Reject)?;
        self.close();
        Ok(function)
    }

    /// A loop over the iterable on the stack.
    fn loop_body(
        &mut self,
        f: &For,
        frame: Frame,
        function: u32,
        filter: Option<u32>,
        looping: Looping,
    ) -> Res<()> {
        let line = self.line;
        let inner = self.inner(frame, function);
        let own = match looping {
            Looping::Plain => None,
            _ => Some(self.symbols.parameter(inner.scope, "loop")?),
        };
        self.symbols.target(inner.scope, &f.target, true)?;
        self.symbols.statements(inner.scope, &f.body)?;
        let other = self.inner(frame, function);
        self.symbols.statements(other.scope, &f.otherwise)?;
        if let Some(own) = own {
            self.emit(Op::Unset(own.slot))?;
        }
        if let Some(filter) = filter {
            // A recursive loop's filter was made one function further out.
            self.emit(Op::LoopFilter(filter))?;
        }
        self.emit(Op::StartLoop(looping))?;
        let start = self.here()?;
        let next = self.emit(Op::Next(0))?;
        self.store(&f.target, inner)?;
        if let Some(own) = own {
            self.emit(Op::LoopVar(own.slot))?;
        }
        self.enter(inner.scope)?;
        let writing = self.writing()?;
        let buffers = writing.buffers;
        writing.loops.push(Loop { start, breaks: Vec::new(), buffers });
        self.statements(&f.body, inner)?;
        self.line = line;
        self.emit(Op::Completed)?;
        self.emit(Op::Jump(start))?;
        self.land(next)?;
        let done = self.writing()?.loops.pop();
        for jump in done.map(|l| l.breaks).unwrap_or_default() {
            self.land(jump)?;
        }
        self.leave(inner.scope)?;
        let end = self.emit(Op::EndLoop(0))?;
        if !f.otherwise.is_empty() {
            self.enter(other.scope)?;
            self.statements(&f.otherwise, other)?;
            self.leave(other.scope)?;
        }
        self.land(end)
    }

    /// Leaves an iteration, or with true the loop.
    fn jump(&mut self, leave: bool) -> Res<()> {
        let line = self.line;
        let writing = self.writing()?;
        let buffers = writing.buffers;
        let Some(around) = writing.loops.last() else {
            let name = if leave { "break" } else { "continue" };
            return Err(Fault::syntax(format!("`{name}` outside of a loop"), line));
        };
        let (start, open) = (around.start, buffers.saturating_sub(around.buffers));
        if open > 0 {
            self.emit(Op::DropBuffers(open))?;
        }
        let jump = self.emit(Op::Jump(start))?;
        if leave && let Some(around) = self.writing()?.loops.last_mut() {
            around.breaks.push(jump);
        }
        Ok(())
    }

    fn set(&mut self, target: &Expr, value: &Expr, frame: Frame) -> Res<()> {
        self.check_namespaces(target, frame)?;
        self.expr(value, frame)?;
        self.store(target, frame)?;
        self.export_target(target, frame)
    }

    fn check_namespaces(&mut self, target: &Expr, frame: Frame) -> Res<()> {
        match &target.kind {
            ExprKind::NsRef(name, _) => {
                let place = self.place(frame, name)?;
                let var = self.var(place)?;
                self.emit(Op::CheckNamespace(var)).map(drop)
            }
            ExprKind::Tuple(parts) => {
                parts.iter().try_for_each(|part| self.check_namespaces(part, frame))
            }
            _ => Ok(()),
        }
    }

    /// Pops a value into what is assigned to.
    fn store(&mut self, target: &Expr, frame: Frame) -> Res<()> {
        match &target.kind {
            ExprKind::Name(name) => {
                let slot = self.slot(frame, name)?;
                self.emit(Op::Store(slot)).map(drop)
            }
            ExprKind::NsRef(name, attribute) => {
                let place = self.place(frame, name)?;
                let var = self.var(place)?;
                let attribute = self.text(attribute)?;
                self.emit(Op::StoreAttr(var, attribute)).map(drop)
            }
            ExprKind::Tuple(parts) => {
                self.emit(Op::Unpack(parts.len() as u32))?;
                parts.iter().try_for_each(|part| self.store(part, frame))
            }
            _ => Err(Fault::internal("an assignment to an expression")),
        }
    }

    /// Makes what was assigned at the top level known to blocks.
    fn export(&mut self, name: &str, slot: u16, frame: Frame) -> Res<()> {
        if frame.toplevel && self.has_blocks {
            let name = self.text(name)?;
            self.emit(Op::Export(name, slot))?;
        }
        Ok(())
    }

    fn export_target(&mut self, target: &Expr, frame: Frame) -> Res<()> {
        match &target.kind {
            ExprKind::Name(name) => {
                let slot = self.slot(frame, name)?;
                self.export(name, slot, frame)
            }
            ExprKind::Tuple(parts) => {
                parts.iter().try_for_each(|part| self.export_target(part, frame))
            }
            _ => Ok(()),
        }
    }

    fn open_buffer(&mut self) -> Res<()> {
        self.emit(Op::StartBuffer)?;
        let writing = self.writing()?;
        writing.buffers = writing.buffers.saturating_add(1);
        Ok(())
    }

    /// Pushes the text of the innermost buffer.
    pub(super) fn close_buffer(&mut self, frame: Frame) -> Res<()> {
        self.emit(Op::EndBuffer(frame.escape))?;
        let writing = self.writing()?;
        writing.buffers = writing.buffers.saturating_sub(1);
        Ok(())
    }

    fn set_block(
        &mut self,
        target: &Expr,
        filter: Option<&Expr>,
        body: &[Stmt],
        frame: Frame,
    ) -> Res<()> {
        let here = self.id()?;
        let inner = self.inner(frame, here);
        self.symbols.statements(inner.scope, body)?;
        self.enter(inner.scope)?;
        self.open_buffer()?;
        self.statements(body, inner)?;
        match filter {
            Some(filter) => {
                self.symbols.known(inner.scope, filter)?;
                self.expr(filter, inner)?;
            }
            None => self.close_buffer(inner)?,
        }
        if frame.escape {
            self.emit(Op::MarkSafe)?;
        }
        self.check_namespaces(target, frame)?;
        self.store(target, frame)?;
        self.export_target(target, frame)?;
        self.leave(inner.scope)
    }

    fn filter_block(&mut self, filter: &Expr, body: &[Stmt], frame: Frame) -> Res<()> {
        let here = self.id()?;
        let inner = self.inner(frame, here);
        self.symbols.statements(inner.scope, body)?;
        self.symbols.expr(inner.scope, filter)?;
        self.enter(inner.scope)?;
        self.open_buffer()?;
        self.statements(body, inner)?;
        self.expr(filter, inner)?;
        self.emit(Op::PrintText)?;
        self.leave(inner.scope)
    }

    fn with(&mut self, targets: &[Expr], values: &[Expr], body: &[Stmt], frame: Frame) -> Res<()> {
        let here = self.id()?;
        let inner = self.inner(frame, here);
        for target in targets {
            self.symbols.target(inner.scope, target, true)?;
        }
        self.symbols.statements(inner.scope, body)?;
        self.enter(inner.scope)?;
        for (target, value) in targets.iter().zip(values) {
            self.expr(value, frame)?;
            self.store(target, inner)?;
        }
        self.statements(body, inner)?;
        self.leave(inner.scope)
    }

    fn autoescape(&mut self, on: &Expr, body: &[Stmt], frame: Frame) -> Res<()> {
        let ExprKind::Const(Lit::Bool(escape)) = on.kind else {
            return Err(Fault::unsupported("`autoescape` with anything but true or false"));
        };
        let here = self.id()?;
        let inner = Frame { escape, ..self.inner(frame, here) };
        self.symbols.statements(inner.scope, body)?;
        self.enter(inner.scope)?;
        self.emit(Op::Autoescape(escape))?;
        self.statements(body, inner)?;
        self.emit(Op::Autoescape(frame.escape))?;
        self.leave(inner.scope)
    }

    fn block(&mut self, block: &Block, frame: Frame) -> Res<()> {
        let mut locals = Vec::new();
        if block.scoped {
            for (name, place) in self.symbols.assigned(frame.scope)? {
                let var = self.var(place)?;
                locals.push((self.text(&name)?, var));
            }
        }
        let name = self.text(&block.name)?;
        let index = self.block_calls.len() as u32;
        self.block_calls.push(BlockCall { block: name, locals, required: block.required });
        self.emit(Op::Block(index)).map(drop)
    }

    fn call_block(&mut self, c: &CallBlock, frame: Frame) -> Res<()> {
        let line = self.line;
        self.function(None, &c.signature, frame)?;
        self.line = line;
        let ExprKind::Call(function, args) = &c.call.kind else {
            return Err(Fault::internal("a call block without a call"));
        };
        self.call(function, args, frame, true)?;
        self.emit(Op::PrintText)?;
        // The caller.
        self.emit(Op::Pop).map(drop)
    }

    /// A macro or a caller, which is pushed.
    fn function(&mut self, name: Option<&str>, signature: &Signature, frame: Frame) -> Res<()> {
        let line = self.line;
        let here = self.id()?;
        let function = self.open(Some(here));
        let inner = self.inner(frame, function);
        self.symbols.signature(inner.scope, signature)?;
        let special = ["caller", "kwargs", "varargs"];
        let found = Undeclared::find(&signature.body, &special, self.meter)?;
        let is_arg = |name: &str| signature.args.iter().position(|arg| arg == name);
        let mut caller = None;
        if found.has("caller") {
            match is_arg("caller") {
                // Only as the last parameters have defaults.
                Some(at) if at + signature.defaults.len() < signature.args.len() => {
                    let why = "the parameter `caller` must be left out or have a default";
                    return Err(Fault::syntax(why, line));
                }
                Some(_) => {}
                None => caller = Some(self.symbols.parameter(inner.scope, "caller")?.slot),
            }
        }
        let own = |this: &mut Self, name: &str| -> Res<Option<u16>> {
            match found.has(name) && is_arg(name).is_none() {
                true => Ok(Some(this.symbols.parameter(inner.scope, name)?.slot)),
                false => Ok(None),
            }
        };
        let kwargs = own(self, "kwargs")?;
        let varargs = own(self, "varargs")?;
        self.symbols.signature(inner.scope, signature)?;
        self.enter(inner.scope)?;
        let mut args = Vec::new();
        for name in &signature.args {
            args.push((name.clone(), self.slot(inner, name)?));
        }
        let without = signature.args.len().saturating_sub(signature.defaults.len());
        for (at, (name, slot)) in args.iter().enumerate() {
            let given = self.emit(Op::JumpIfGiven(*slot, 0))?;
            match at.checked_sub(without).and_then(|at| signature.defaults.get(at)) {
                Some(default) => self.expr(default, inner)?,
                None => {
                    let name = self.text(name)?;
                    self.emit(Op::NotGiven(name))?;
                }
            }
            self.emit(Op::Store(*slot))?;
            self.land(given)?;
        }
        let name = name.map(str::to_owned);
        let parameters = MacroSignature { name, args, caller, kwargs, varargs };
        self.code()?.signature = Some(parameters);
        self.statements(&signature.body, inner)?;
        self.emit(Op::Return)?;
        self.close();
        self.line = line;
        self.emit(Op::Macro(function)).map(drop)
    }
}
