//! Expressions.

use super::super::ast::{Arguments, Binary, Compare, Expr, ExprKind, Lit};
use super::super::error::{Fault, Res};
use super::super::lexer::{Op, Tok};
use super::{Parser, deepest, expected};

/// Binding strength of operators, loosest first.
mod level {
    pub(super) const OR: u8 = 1;
    pub(super) const AND: u8 = 2;
    pub(super) const NOT: u8 = 3;
    pub(super) const COMPARE: u8 = 4;
    pub(super) const SUM: u8 = 5;
    pub(super) const CONCAT: u8 = 6;
    pub(super) const PRODUCT: u8 = 7;
    pub(super) const POWER: u8 = 8;
}

/// Operator between two operands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Infix {
    Or,
    And,
    Compare(Compare),
    Concat,
    Binary(Binary),
}

impl Infix {
    fn level(self) -> u8 {
        match self {
            Infix::Or => level::OR,
            Infix::And => level::AND,
            Infix::Compare(_) => level::COMPARE,
            Infix::Concat => level::CONCAT,
            Infix::Binary(Binary::Add | Binary::Sub) => level::SUM,
            Infix::Binary(Binary::Pow) => level::POWER,
            Infix::Binary(_) => level::PRODUCT,
        }
    }
}

impl Parser<'_> {
    /// An expression.
    pub(super) fn expression(&mut self) -> Res<Expr> {
        self.enter()?;
        let mut line = self.line();
        let mut yes = self.binary(level::OR)?;
        while self.skip_name("if") {
            let test = self.binary(level::OR)?;
            let no = match self.skip_name("else") {
                true => Some(self.expression()?),
                false => None,
            };
            yes = self.conditional(test, yes, no, line)?;
            line = self.line();
        }
        self.depth -= 1;
        Ok(yes)
    }

    #[inline(never)]
    fn conditional(&mut self, test: Expr, yes: Expr, no: Option<Expr>, line: u32) -> Res<Expr> {
        let depth = deepest([&yes, &test]).max(no.as_ref().map_or(0, |e| e.depth));
        let (test, yes, no) = (Box::new(test), Box::new(yes), no.map(Box::new));
        self.node(ExprKind::Cond { test, yes, no }, line, depth)
    }

    /// The operator that comes next.
    #[inline(never)]
    fn infix(&mut self) -> Option<Infix> {
        Some(match &self.peek().tok {
            Tok::Op(op) => match op {
                Op::Add => Infix::Binary(Binary::Add),
                Op::Sub => Infix::Binary(Binary::Sub),
                Op::Mul => Infix::Binary(Binary::Mul),
                Op::Div => Infix::Binary(Binary::Div),
                Op::FloorDiv => Infix::Binary(Binary::FloorDiv),
                Op::Mod => Infix::Binary(Binary::Mod),
                Op::Pow => Infix::Binary(Binary::Pow),
                Op::Tilde => Infix::Concat,
                Op::Eq => Infix::Compare(Compare::Eq),
                Op::Ne => Infix::Compare(Compare::Ne),
                Op::Lt => Infix::Compare(Compare::Lt),
                Op::Le => Infix::Compare(Compare::Le),
                Op::Gt => Infix::Compare(Compare::Gt),
                Op::Ge => Infix::Compare(Compare::Ge),
                _ => return None,
            },
            Tok::Name(name) => match name.as_str() {
                "or" => Infix::Or,
                "and" => Infix::And,
                "in" => Infix::Compare(Compare::In),
                "not" => {
                    let negated = matches!(&self.look().tok, Tok::Name(n) if n == "in");
                    return negated.then_some(Infix::Compare(Compare::NotIn));
                }
                _ => return None,
            },
            _ => return None,
        })
    }

    /// Operands and the operators between them that bind at least as tight as `least`.
    pub(super) fn binary(&mut self, least: u8) -> Res<Expr> {
        let mut line = self.line();
        let mut left = match least <= level::NOT && self.is_name("not") {
            true => self.not()?,
            false => self.unary(true)?,
        };
        while let Some(infix) = self.infix().filter(|infix| infix.level() >= least) {
            left = self.joined(left, infix, line)?;
            line = self.line();
        }
        Ok(left)
    }

    #[inline(never)]
    fn not(&mut self) -> Res<Expr> {
        let line = self.line();
        let mut nots = 0;
        while self.skip_name("not") {
            nots += 1;
            self.meter.depth(nots).map_err(|e| e.at(line))?;
        }
        let mut expr = self.binary(level::COMPARE)?;
        for _ in 0..nots {
            let depth = expr.depth;
            expr = self.node(ExprKind::Not(Box::new(expr)), line, depth)?;
        }
        Ok(expr)
    }

    /// `left` with an operator and what stands right of it.
    #[inline(never)]
    fn joined(&mut self, left: Expr, infix: Infix, line: u32) -> Res<Expr> {
        self.enter()?;
        let tighter = infix.level() + 1;
        match infix {
            Infix::Compare(_) => {
                let mut rest = Vec::new();
                while let Some(Infix::Compare(op)) = self.infix() {
                    self.next();
                    if op == Compare::NotIn {
                        self.next();
                    }
                    rest.push((op, self.binary(tighter)?));
                }
                let depth = deepest(rest.iter().map(|(_, e)| e)).max(left.depth);
                self.depth -= 1;
                self.node(ExprKind::Compare(Box::new(left), rest), line, depth)
            }
            Infix::Concat => {
                let mut parts = vec![left];
                while self.skip_op(Op::Tilde) {
                    parts.push(self.binary(tighter)?);
                }
                let depth = deepest(&parts);
                self.depth -= 1;
                self.node(ExprKind::Concat(parts), line, depth)
            }
            _ => {
                self.next();
                let right = self.binary(tighter)?;
                let depth = deepest([&left, &right]);
                let (left, right) = (Box::new(left), Box::new(right));
                let kind = match infix {
                    Infix::Or => ExprKind::Or(left, right),
                    Infix::And => ExprKind::And(left, right),
                    Infix::Binary(op) => ExprKind::Binary(op, left, right),
                    Infix::Compare(_) | Infix::Concat => {
                        return Err(Fault::internal("an operator of several operands"));
                    }
                };
                self.depth -= 1;
                self.node(kind, line, depth)
            }
        }
    }

    /// Signs, an operand and what follows it. Behind a sign, filters belong to the whole.
    fn unary(&mut self, filters: bool) -> Res<Expr> {
        let line = self.line();
        let mut signs = Vec::new();
        loop {
            match self.peek().tok {
                Tok::Op(Op::Sub) => signs.push(true),
                Tok::Op(Op::Add) => signs.push(false),
                _ => break,
            }
            self.next();
            self.meter.depth(signs.len()).map_err(|e| e.at(line))?;
        }
        let mut expr = self.primary(false)?;
        expr = self.postfix(expr)?;
        while let Some(minus) = signs.pop() {
            let depth = expr.depth;
            let inner = Box::new(expr);
            let kind = if minus { ExprKind::Neg(inner) } else { ExprKind::Pos(inner) };
            expr = self.node(kind, line, depth)?;
            expr = self.postfix(expr)?;
        }
        match filters {
            true => self.filters(expr),
            false => Ok(expr),
        }
    }

    /// A literal, a name, or what stands in brackets.
    pub(super) fn primary(&mut self, namespace: bool) -> Res<Expr> {
        let token = self.next();
        let line = token.line;
        let kind = match token.tok {
            Tok::Name(name) => match name.as_str() {
                "true" | "True" => ExprKind::Const(Lit::Bool(true)),
                "false" | "False" => ExprKind::Const(Lit::Bool(false)),
                "none" | "None" => ExprKind::Const(Lit::None),
                _ if namespace && self.skip_op(Op::Dot) => {
                    ExprKind::NsRef(name, self.expect_name()?.0)
                }
                _ => ExprKind::Name(name),
            },
            Tok::Str(mut text) => {
                while let Tok::Str(more) = &self.peek().tok {
                    text.push_str(more);
                    self.next();
                }
                ExprKind::Const(Lit::Str(text))
            }
            Tok::Int(n) => ExprKind::Const(Lit::Int(n)),
            Tok::Float(n) => ExprKind::Const(Lit::Float(n)),
            Tok::Op(Op::LParen) => {
                let expr = self.tuple(Form::Parentheses, &[])?;
                self.expect_op(Op::RParen)?;
                return Ok(expr);
            }
            Tok::Op(Op::LBracket) => return self.list(line),
            Tok::Op(Op::LBrace) => return self.dict(line),
            _ => return Err(expected("an expression", &token)),
        };
        self.node(kind, line, 0)
    }

    fn list(&mut self, line: u32) -> Res<Expr> {
        let mut items = Vec::new();
        while !self.is_op(Op::RBracket) {
            if !items.is_empty() {
                self.expect_op(Op::Comma)?;
            }
            if self.is_op(Op::RBracket) {
                break;
            }
            items.push(self.expression()?);
        }
        self.expect_op(Op::RBracket)?;
        let depth = deepest(&items);
        self.node(ExprKind::List(items), line, depth)
    }

    fn dict(&mut self, line: u32) -> Res<Expr> {
        let mut items = Vec::new();
        while !self.is_op(Op::RBrace) {
            if !items.is_empty() {
                self.expect_op(Op::Comma)?;
            }
            if self.is_op(Op::RBrace) {
                break;
            }
            let key = self.expression()?;
            self.expect_op(Op::Colon)?;
            items.push((key, self.expression()?));
        }
        self.expect_op(Op::RBrace)?;
        let depth = deepest(items.iter().flat_map(|(k, v)| [k, v]));
        self.node(ExprKind::Dict(items), line, depth)
    }

    /// Several expressions of a form with commas, which are a tuple, or only one.
    pub(super) fn tuple(&mut self, form: Form, ends: &[&str]) -> Res<Expr> {
        let line = self.line();
        let mut parts = Vec::new();
        let mut tuple = false;
        loop {
            if !parts.is_empty() {
                self.expect_op(Op::Comma)?;
            }
            if self.tuple_ends(ends) {
                break;
            }
            parts.push(match form {
                Form::Full | Form::Parentheses => self.expression()?,
                Form::Unconditional => self.binary(level::OR)?,
                Form::Target { namespace } => self.primary(namespace)?,
            });
            if !self.is_op(Op::Comma) {
                break;
            }
            tuple = true;
        }
        if !tuple {
            if let Some(only) = parts.pop() {
                return Ok(only);
            }
            if form != Form::Parentheses {
                let token = self.next();
                return Err(expected("an expression", &token));
            }
        }
        let depth = deepest(&parts);
        self.node(ExprKind::Tuple(parts), line, depth)
    }

    fn tuple_ends(&mut self, ends: &[&str]) -> bool {
        match &self.peek().tok {
            Tok::VariableEnd | Tok::BlockEnd | Tok::Op(Op::RParen) => true,
            Tok::Name(name) => ends.contains(&name.as_str()),
            _ => false,
        }
    }

    /// Attributes, items and calls.
    fn postfix(&mut self, mut expr: Expr) -> Res<Expr> {
        loop {
            expr = match self.peek().tok {
                Tok::Op(Op::Dot) => self.attribute(expr)?,
                Tok::Op(Op::LBracket) => self.subscript(expr)?,
                Tok::Op(Op::LParen) => self.call(expr)?,
                _ => return Ok(expr),
            };
        }
    }

    /// Filters, tests and calls of what they give.
    fn filters(&mut self, mut expr: Expr) -> Res<Expr> {
        loop {
            expr = match &self.peek().tok {
                Tok::Op(Op::Pipe) => {
                    self.next();
                    self.filter(Some(expr))?
                }
                Tok::Name(name) if name == "is" => self.test(expr)?,
                Tok::Op(Op::LParen) => self.call(expr)?,
                _ => return Ok(expr),
            };
        }
    }

    fn attribute(&mut self, expr: Expr) -> Res<Expr> {
        let line = self.expect_op(Op::Dot)?;
        let token = self.next();
        let depth = expr.depth;
        let kind = match token.tok {
            Tok::Name(name) => ExprKind::Attr(Box::new(expr), name),
            Tok::Int(n) => {
                let index = self.node(ExprKind::Const(Lit::Int(n)), token.line, 0)?;
                ExprKind::Item(Box::new(expr), Box::new(index))
            }
            _ => return Err(expected("a name or a number", &token)),
        };
        self.node(kind, line, depth)
    }

    fn subscript(&mut self, expr: Expr) -> Res<Expr> {
        let line = self.expect_op(Op::LBracket)?;
        let mut items = Vec::new();
        while !self.is_op(Op::RBracket) {
            if !items.is_empty() {
                self.expect_op(Op::Comma)?;
            }
            items.push(self.subscript_part()?);
        }
        self.expect_op(Op::RBracket)?;
        if items.len() > 1 && items.iter().any(|item| matches!(item, Subscript::Slice(_))) {
            return Err(Fault::syntax("a slice can't be part of a tuple", line));
        }
        if let (1, Some(Subscript::Slice(_))) = (items.len(), items.first())
            && let Some(Subscript::Slice(parts)) = items.pop()
        {
            let depth = parts.iter().flatten().map(|e| e.depth).max().unwrap_or(0).max(expr.depth);
            return self.node(ExprKind::Slice(Box::new(expr), parts), line, depth);
        }
        let mut items: Vec<Expr> = items
            .into_iter()
            .filter_map(|item| match item {
                Subscript::Index(expr) => Some(expr),
                Subscript::Slice(_) => None,
            })
            .collect();
        let index = match (items.len(), items.pop()) {
            (1, Some(only)) => only,
            (_, last) => {
                items.extend(last);
                let depth = deepest(&items);
                self.node(ExprKind::Tuple(items), line, depth)?
            }
        };
        let depth = deepest([&expr, &index]);
        self.node(ExprKind::Item(Box::new(expr), Box::new(index)), line, depth)
    }

    fn subscript_part(&mut self) -> Res<Subscript> {
        let start = match self.is_op(Op::Colon) {
            true => None,
            false => {
                let expr = self.expression()?;
                if !self.is_op(Op::Colon) {
                    return Ok(Subscript::Index(expr));
                }
                Some(Box::new(expr))
            }
        };
        self.next();
        let ends =
            |p: &mut Self| matches!(p.peek().tok, Tok::Op(Op::Colon | Op::RBracket | Op::Comma));
        let stop = if ends(self) { None } else { Some(Box::new(self.expression()?)) };
        let mut step = None;
        if self.skip_op(Op::Colon) && !matches!(self.peek().tok, Tok::Op(Op::RBracket | Op::Comma))
        {
            step = Some(Box::new(self.expression()?));
        }
        Ok(Subscript::Slice([start, stop, step]))
    }

    fn call(&mut self, expr: Expr) -> Res<Expr> {
        let line = self.line();
        let (args, depth) = self.arguments()?;
        let depth = depth.max(expr.depth);
        self.node(ExprKind::Call(Box::new(expr), Box::new(args)), line, depth)
    }

    fn arguments(&mut self) -> Res<(Arguments, u32)> {
        let line = self.expect_op(Op::LParen)?;
        let mut all = Arguments::default();
        let mut depth = 0;
        let mut comma = false;
        let wrong = || Err(Fault::syntax("invalid arguments of a call", line));
        while !self.is_op(Op::RParen) {
            if comma {
                self.expect_op(Op::Comma)?;
                if self.is_op(Op::RParen) {
                    break;
                }
            }
            if self.skip_op(Op::Mul) {
                if all.dyn_args.is_some() || all.dyn_kwargs.is_some() {
                    return wrong();
                }
                let value = self.expression()?;
                depth = depth.max(value.depth);
                all.dyn_args = Some(value);
            } else if self.skip_op(Op::Pow) {
                if all.dyn_kwargs.is_some() {
                    return wrong();
                }
                let value = self.expression()?;
                depth = depth.max(value.depth);
                all.dyn_kwargs = Some(value);
            } else if matches!(self.peek().tok, Tok::Name(_))
                && self.look().tok == Tok::Op(Op::Assign)
            {
                if all.dyn_kwargs.is_some() {
                    return wrong();
                }
                let (name, _) = self.expect_name()?;
                self.next();
                let value = self.expression()?;
                depth = depth.max(value.depth);
                self.meter.tick(all.kwargs.len())?;
                if all.kwargs.iter().any(|(n, _)| *n == name) {
                    return Err(Fault::syntax(format!("argument `{name}` is repeated"), line));
                }
                all.kwargs.push((name, value));
            } else {
                if all.dyn_args.is_some() || all.dyn_kwargs.is_some() || !all.kwargs.is_empty() {
                    return wrong();
                }
                let value = self.expression()?;
                depth = depth.max(value.depth);
                all.args.push(value);
            }
            comma = true;
        }
        self.expect_op(Op::RParen)?;
        Ok((all, depth))
    }

    /// A name with dots.
    fn dotted(&mut self) -> Res<(String, u32)> {
        let (mut name, line) = self.expect_name()?;
        while self.skip_op(Op::Dot) {
            name.push('.');
            name.push_str(&self.expect_name()?.0);
        }
        Ok((name, line))
    }

    /// A filter of `value`, or without one of the text of a block.
    pub(super) fn filter(&mut self, value: Option<Expr>) -> Res<Expr> {
        let (name, line) = self.dotted()?;
        let (args, depth) = match self.is_op(Op::LParen) {
            true => self.arguments()?,
            false => (Arguments::default(), 0),
        };
        let depth = depth.max(value.as_ref().map_or(0, |v| v.depth));
        let value = value.map(Box::new);
        self.node(ExprKind::Filter { value, name, args: Box::new(args) }, line, depth)
    }

    fn test(&mut self, value: Expr) -> Res<Expr> {
        let line = self.next().line;
        let negated = self.skip_name("not");
        let (name, _) = self.dotted()?;
        let mut args = Arguments::default();
        let mut depth = 0;
        let operand = match &self.peek().tok {
            Tok::Name(name) => !matches!(name.as_str(), "else" | "or" | "and"),
            Tok::Str(_) | Tok::Int(_) | Tok::Float(_) => true,
            Tok::Op(op) => matches!(op, Op::LBracket | Op::LBrace),
            _ => false,
        };
        if self.is_op(Op::LParen) {
            (args, depth) = self.arguments()?;
        } else if operand {
            if self.is_name("is") {
                let line = self.line();
                return Err(Fault::syntax("tests can't be chained with `is`", line));
            }
            let arg = self.primary(false)?;
            let arg = self.postfix(arg)?;
            depth = arg.depth;
            args.args.push(arg);
        }
        let depth = depth.max(value.depth);
        let kind = ExprKind::Test { value: Box::new(value), name, args: Box::new(args) };
        let test = self.node(kind, line, depth)?;
        match negated {
            true => {
                let depth = test.depth;
                self.node(ExprKind::Not(Box::new(test)), line, depth)
            }
            false => Ok(test),
        }
    }
}

/// Form of the parts of a tuple.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// Any expressions.
    Full,
    /// Any expressions in parentheses, of which there may be none.
    Parentheses,
    /// Expressions without `if` of their own.
    Unconditional,
    /// Target of an assignment.
    Target {
        /// True if attributes of namespaces can be.
        namespace: bool,
    },
}

/// Contents of the brackets behind a value.
enum Subscript {
    Index(Expr),
    Slice([Option<Box<Expr>>; 3]),
}
