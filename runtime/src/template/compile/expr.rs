//! Expressions.

use super::super::ast::{Arguments, Compare, Expr, ExprKind, Lit};
use super::super::error::{Fault, Res};
use super::super::filters;
use super::super::program::{Op, Shape};
use super::super::tests;
use super::{Compiler, Frame};

impl Compiler<'_> {
    /// Pushes the value of an expression. A function for each kind keeps the stack small.
    pub(super) fn expr(&mut self, expr: &Expr, frame: Frame) -> Res<()> {
        self.line = expr.line;
        match &expr.kind {
            ExprKind::Const(lit) => self.literal(lit),
            ExprKind::Name(name) => self.name(name, frame),
            ExprKind::NsRef(..) => Err(Fault::internal("an attribute out of its place")),
            ExprKind::Tuple(all) => {
                self.all(all, frame)?;
                self.emit(Op::Tuple(all.len() as u32)).map(drop)
            }
            ExprKind::List(all) => {
                self.all(all, frame)?;
                self.emit(Op::List(all.len() as u32)).map(drop)
            }
            ExprKind::Dict(pairs) => self.dict(pairs, frame),
            ExprKind::Cond { test, yes, no } => self.conditional(test, yes, no.as_deref(), frame),
            ExprKind::And(a, b) => self.logic(a, b, Op::JumpIfFalseOrPop(0), frame),
            ExprKind::Or(a, b) => self.logic(a, b, Op::JumpIfTrueOrPop(0), frame),
            ExprKind::Not(a) => self.unary(a, Op::Not, frame),
            ExprKind::Neg(a) => self.unary(a, Op::Neg, frame),
            ExprKind::Pos(a) => self.unary(a, Op::Pos, frame),
            ExprKind::Binary(op, a, b) => {
                self.expr(a, frame)?;
                self.unary(b, Op::Binary(*op), frame)
            }
            ExprKind::Compare(first, rest) => self.compare(first, rest, frame),
            ExprKind::Concat(all) => {
                self.all(all, frame)?;
                // Jinja joins constants before it runs, and then they are no safe text.
                let escape = frame.escape && !all.iter().all(is_constant);
                self.emit(Op::Concat(all.len() as u32, escape)).map(drop)
            }
            ExprKind::Attr(value, name) => self.attribute(value, name, frame),
            ExprKind::Item(value, index) => {
                self.expr(value, frame)?;
                self.unary(index, Op::Item, frame)
            }
            ExprKind::Slice(value, parts) => self.slice(value, parts, frame),
            ExprKind::Call(function, args) => self.call(function, args, frame, false),
            ExprKind::Filter { value, name, args } => {
                self.filter(value.as_deref(), name, args, frame)
            }
            ExprKind::Test { value, name, args } => self.test(value, name, args, frame),
            ExprKind::Generation => self.emit(Op::Generation).map(drop),
        }
    }

    #[inline(never)]
    fn literal(&mut self, lit: &Lit) -> Res<()> {
        let at = match lit {
            Lit::Str(text) => self.text(text)?,
            other => self.constant(other.clone()),
        };
        self.emit(Op::Const(at)).map(drop)
    }

    #[inline(never)]
    fn name(&mut self, name: &str, frame: Frame) -> Res<()> {
        let place = self.place(frame, name)?;
        let var = self.var(place)?;
        let name = self.text(name)?;
        self.emit(Op::Load(var, name)).map(drop)
    }

    fn all(&mut self, all: &[Expr], frame: Frame) -> Res<()> {
        all.iter().try_for_each(|e| self.expr(e, frame))
    }

    #[inline(never)]
    fn unary(&mut self, value: &Expr, op: Op, frame: Frame) -> Res<()> {
        let line = self.line;
        self.expr(value, frame)?;
        self.line = line;
        self.emit(op).map(drop)
    }

    #[inline(never)]
    fn dict(&mut self, pairs: &[(Expr, Expr)], frame: Frame) -> Res<()> {
        for (key, value) in pairs {
            self.expr(key, frame)?;
            self.expr(value, frame)?;
        }
        self.emit(Op::Dict(pairs.len() as u32)).map(drop)
    }

    #[inline(never)]
    fn conditional(&mut self, test: &Expr, yes: &Expr, no: Option<&Expr>, frame: Frame) -> Res<()> {
        let frame = Frame { soft: true, ..frame };
        let line = self.line;
        self.expr(test, frame)?;
        let skip = self.emit(Op::JumpIfFalse(0))?;
        self.expr(yes, frame)?;
        let end = self.emit(Op::Jump(0))?;
        self.land(skip)?;
        match no {
            Some(no) => self.expr(no, frame)?,
            None => {
                self.line = line;
                self.emit(Op::NoElse)?;
            }
        }
        self.land(end)
    }

    #[inline(never)]
    fn logic(&mut self, a: &Expr, b: &Expr, jump: Op, frame: Frame) -> Res<()> {
        self.expr(a, frame)?;
        let end = self.emit(jump)?;
        self.expr(b, frame)?;
        self.land(end)
    }

    #[inline(never)]
    fn compare(&mut self, first: &Expr, rest: &[(Compare, Expr)], frame: Frame) -> Res<()> {
        let line = self.line;
        self.expr(first, frame)?;
        let mut ends = Vec::new();
        for (at, (op, right)) in rest.iter().enumerate() {
            self.expr(right, frame)?;
            self.line = line;
            if at + 1 < rest.len() {
                ends.push(self.emit(Op::CompareChain(*op, 0))?);
            } else {
                self.emit(Op::Compare(*op))?;
            }
        }
        ends.into_iter().try_for_each(|end| self.land(end))
    }

    #[inline(never)]
    fn attribute(&mut self, value: &Expr, name: &str, frame: Frame) -> Res<()> {
        let line = self.line;
        self.expr(value, frame)?;
        self.line = line;
        let name = self.text(name)?;
        self.emit(Op::Attr(name)).map(drop)
    }

    #[inline(never)]
    fn slice(&mut self, value: &Expr, parts: &[Option<Box<Expr>>; 3], frame: Frame) -> Res<()> {
        let line = self.line;
        self.expr(value, frame)?;
        for part in parts {
            match part {
                Some(part) => self.expr(part, frame)?,
                None => self.literal(&Lit::None)?,
            }
        }
        self.line = line;
        self.emit(Op::Slice).map(drop)
    }

    /// A call; with `caller`, the function behind the call is given one, which is on the stack.
    #[inline(never)]
    pub(super) fn call(
        &mut self,
        function: &Expr,
        args: &Arguments,
        frame: Frame,
        caller: bool,
    ) -> Res<()> {
        let line = self.line;
        self.expr(function, frame)?;
        let shape = self.arguments(args, frame, caller)?;
        self.line = line;
        self.emit(Op::Call(shape)).map(drop)
    }

    #[inline(never)]
    fn arguments(&mut self, args: &Arguments, frame: Frame, caller: bool) -> Res<Shape> {
        self.all(&args.args, frame)?;
        let mut names = Vec::new();
        for (name, value) in &args.kwargs {
            names.push(self.text(name)?);
            self.expr(value, frame)?;
        }
        if caller {
            let name = self.text("caller")?;
            if names.contains(&name) {
                return Err(Fault::syntax("argument `caller` is repeated", self.line));
            }
            // The function of the block lies below all others.
            names.push(name);
            self.emit(Op::Caller(args.args.len() as u32 + names.len() as u32))?;
        }
        if let Some(value) = &args.dyn_args {
            self.expr(value, frame)?;
        }
        if let Some(value) = &args.dyn_kwargs {
            self.expr(value, frame)?;
        }
        Ok(Shape {
            args: args.args.len() as u32,
            keywords: self.keyword_list(names.into_boxed_slice()),
            dyn_args: args.dyn_args.is_some(),
            dyn_kwargs: args.dyn_kwargs.is_some(),
        })
    }

    #[inline(never)]
    fn filter(
        &mut self,
        value: Option<&Expr>,
        name: &str,
        args: &Arguments,
        frame: Frame,
    ) -> Res<()> {
        let line = self.line;
        match value {
            Some(value) => self.expr(value, frame)?,
            None => self.close_buffer(frame)?,
        }
        let shape = self.arguments(args, frame, false)?;
        self.line = line;
        match filters::find(name) {
            Some(filter) => self.emit(Op::Filter(filter, shape)).map(drop),
            None if frame.soft => {
                let name = self.text(name)?;
                self.emit(Op::NoFilter(name)).map(drop)
            }
            None => Err(Fault::syntax(format!("no filter named `{name}`"), line)),
        }
    }

    #[inline(never)]
    fn test(&mut self, value: &Expr, name: &str, args: &Arguments, frame: Frame) -> Res<()> {
        let line = self.line;
        self.expr(value, frame)?;
        let shape = self.arguments(args, frame, false)?;
        self.line = line;
        match tests::find(name) {
            Some(test) => self.emit(Op::Test(test, shape)).map(drop),
            None if frame.soft => {
                let name = self.text(name)?;
                self.emit(Op::NoTest(name)).map(drop)
            }
            None => Err(Fault::syntax(format!("no test named `{name}`"), line)),
        }
    }
}

/// True for what jinja computes before it runs. Functions, subscripts and filters that take the
/// context are none of it.
fn is_constant(expr: &Expr) -> bool {
    match &expr.kind {
        ExprKind::Const(_) => true,
        ExprKind::Tuple(all) | ExprKind::List(all) | ExprKind::Concat(all) => {
            all.iter().all(is_constant)
        }
        ExprKind::And(a, b) | ExprKind::Or(a, b) | ExprKind::Binary(_, a, b) => {
            is_constant(a) && is_constant(b)
        }
        ExprKind::Not(a) | ExprKind::Neg(a) | ExprKind::Pos(a) => is_constant(a),
        ExprKind::Filter { value: Some(value), name, args } => {
            const WITH_CONTEXT: [&str; 6] =
                ["map", "select", "reject", "selectattr", "rejectattr", "random"];
            !WITH_CONTEXT.contains(&name.as_str())
                && is_constant(value)
                && args.args.iter().all(is_constant)
                && args.kwargs.iter().all(|(_, arg)| is_constant(arg))
                && args.dyn_args.is_none()
                && args.dyn_kwargs.is_none()
        }
        _ => false,
    }
}
