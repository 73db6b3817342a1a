//! Statements.

use super::super::ast::{
    Block, CallBlock, Expr, ExprKind, For, Lit, Macro, Out, Signature, Stmt, StmtKind,
};
use super::super::error::{Fault, Res};
use super::super::lexer::{Op, Tok};
use super::super::pytext::is_space;
use super::expr::Form;
use super::{Parser, expected, short};

impl Parser<'_> {
    /// Statements and text up to one of the tags `ends`, which is read and returned, or up to the
    /// end of the template if there are none.
    pub(super) fn statements(&mut self, ends: &[&str]) -> Res<(Vec<Stmt>, Option<String>)> {
        let mut body = Vec::new();
        let mut out: Vec<Out> = Vec::new();
        let mut out_line = 0;
        loop {
            let token = self.next();
            let line = token.line;
            match token.tok {
                Tok::Data(text) => {
                    if out.is_empty() {
                        out_line = line;
                    }
                    out.push(Out::Data(text));
                }
                Tok::VariableBegin => {
                    if out.is_empty() {
                        out_line = line;
                    }
                    out.push(Out::Expr(self.tuple(Form::Full, &[])?));
                    self.expect(&Tok::VariableEnd)?;
                }
                Tok::BlockBegin => {
                    if !out.is_empty() {
                        let kind = StmtKind::Output(std::mem::take(&mut out));
                        body.push(Stmt { kind, line: out_line });
                    }
                    if let Tok::Name(name) = &self.peek().tok
                        && ends.contains(&name.as_str())
                    {
                        let name = name.clone();
                        self.next();
                        return Ok((body, Some(name)));
                    }
                    self.enter()?;
                    body.push(self.statement()?);
                    self.depth -= 1;
                    self.expect(&Tok::BlockEnd)?;
                }
                Tok::End if ends.is_empty() => {
                    if !out.is_empty() {
                        body.push(Stmt { kind: StmtKind::Output(out), line: out_line });
                    }
                    return Ok((body, None));
                }
                Tok::End => {
                    let wanted = ends.join("` or `");
                    return Err(Fault::syntax(
                        format!("unexpected end of the template: expected the tag `{wanted}`"),
                        line,
                    ));
                }
                _ => return Err(expected("text or a tag", &token)),
            }
        }
    }

    /// The body of a statement, up to one of the tags `ends`.
    fn body(&mut self, ends: &[&str]) -> Res<(Vec<Stmt>, String)> {
        self.skip_op(Op::Colon);
        self.expect(&Tok::BlockEnd)?;
        let (body, end) = self.statements(ends)?;
        Ok((body, end.unwrap_or_default()))
    }

    fn statement(&mut self) -> Res<Stmt> {
        let token = self.next();
        let line = token.line;
        let Tok::Name(name) = token.tok else { return Err(expected("the name of a tag", &token)) };
        let kind = match name.as_str() {
            "for" => self.parse_for()?,
            "if" => self.parse_if(line)?,
            "set" => self.parse_set()?,
            "macro" => self.parse_macro()?,
            "call" => self.parse_call_block(line)?,
            "filter" => self.parse_filter_block()?,
            "with" => self.parse_with()?,
            "generation" => self.parse_generation(line)?,
            "break" => StmtKind::Break,
            "continue" => StmtKind::Continue,
            "print" => self.parse_print()?,
            "autoescape" => {
                let on = self.expression()?;
                StmtKind::Autoescape { on, body: self.body(&["endautoescape"])?.0 }
            }
            "block" => self.parse_block()?,
            "extends" => StmtKind::Extends(self.expression()?),
            "include" => {
                let template = self.expression()?;
                if self.is_name("ignore")
                    && matches!(&self.look().tok, Tok::Name(n) if n == "missing")
                {
                    self.next();
                    self.next();
                }
                self.import_context();
                StmtKind::Include(template)
            }
            "import" => {
                let template = self.expression()?;
                self.expect_word("as")?;
                let target = self.name_target()?;
                self.import_context();
                StmtKind::Import { template, target }
            }
            "from" => self.parse_from()?,
            _ => {
                return Err(Fault::syntax(format!("unknown tag `{}`", short(&name)), line));
            }
        };
        Ok(Stmt { kind, line })
    }

    fn import_context(&mut self) -> bool {
        let yes = (self.is_name("with") || self.is_name("without"))
            && matches!(&self.look().tok, Tok::Name(n) if n == "context");
        if yes {
            self.next();
            self.next();
        }
        yes
    }

    fn parse_from(&mut self) -> Res<StmtKind> {
        let template = self.expression()?;
        self.expect_word("import")?;
        let mut targets = Vec::new();
        loop {
            if !targets.is_empty() {
                self.expect_op(Op::Comma)?;
            }
            if self.import_context() {
                break;
            }
            let line = self.line();
            let name = self.name_target()?;
            if name.starts_with('_') {
                let why = "names starting with an underline can't be imported";
                return Err(Fault::syntax(why, line));
            }
            let name = if self.skip_name("as") { self.name_target()? } else { name };
            targets.push(name);
            if self.import_context() || !self.is_op(Op::Comma) {
                break;
            }
        }
        Ok(StmtKind::FromImport { template, targets })
    }

    fn parse_for(&mut self) -> Res<StmtKind> {
        let target = self.target(&["in"], false)?;
        self.expect_word("in")?;
        let iter = self.tuple(Form::Unconditional, &["recursive"])?;
        let test = if self.skip_name("if") { Some(self.expression()?) } else { None };
        let recursive = self.skip_name("recursive");
        let (body, end) = self.body(&["endfor", "else"])?;
        let otherwise = match end.as_str() {
            "else" => self.body(&["endfor"])?.0,
            _ => Vec::new(),
        };
        Ok(StmtKind::For(Box::new(For { target, iter, body, otherwise, test, recursive })))
    }

    fn parse_if(&mut self, line: u32) -> Res<StmtKind> {
        const ENDS: [&str; 3] = ["elif", "else", "endif"];
        let test = self.tuple(Form::Unconditional, &[])?;
        let (body, mut end) = self.body(&ENDS)?;
        let (mut elifs, mut otherwise) = (Vec::new(), Vec::new());
        let mut line = line;
        loop {
            match end.as_str() {
                "elif" => {
                    line = self.line().max(line);
                    let test = self.tuple(Form::Unconditional, &[])?;
                    let (body, next) = self.body(&ENDS)?;
                    let (none, nothing) = (Vec::new(), Vec::new());
                    let kind = StmtKind::If { test, body, elifs: none, otherwise: nothing };
                    elifs.push(Stmt { kind, line });
                    end = next;
                }
                "else" => {
                    otherwise = self.body(&["endif"])?.0;
                    break;
                }
                _ => break,
            }
        }
        Ok(StmtKind::If { test, body, elifs, otherwise })
    }

    fn parse_set(&mut self) -> Res<StmtKind> {
        let target = self.target(&[], true)?;
        if self.skip_op(Op::Assign) {
            let value = self.tuple(Form::Full, &[])?;
            return Ok(StmtKind::Set(target, value));
        }
        let mut filter = None;
        while self.skip_op(Op::Pipe) {
            filter = Some(self.filter(filter)?);
        }
        Ok(StmtKind::SetBlock { target, filter, body: self.body(&["endset"])?.0 })
    }

    fn parse_macro(&mut self) -> Res<StmtKind> {
        let name = self.name_target()?;
        let (args, defaults) = self.parameters()?;
        let body = self.body(&["endmacro"])?.0;
        let signature = Signature { args, defaults, body };
        Ok(StmtKind::Macro(Box::new(Macro { name, signature })))
    }

    fn parameters(&mut self) -> Res<(Vec<String>, Vec<Expr>)> {
        let (mut args, mut defaults) = (Vec::new(), Vec::new());
        self.expect_op(Op::LParen)?;
        while !self.is_op(Op::RParen) {
            if !args.is_empty() {
                self.expect_op(Op::Comma)?;
            }
            let line = self.line();
            let name = self.name_target()?;
            if self.skip_op(Op::Assign) {
                defaults.push(self.expression()?);
            } else if !defaults.is_empty() {
                let why = "a parameter without a default follows one with a default";
                return Err(Fault::syntax(why, line));
            }
            args.push(name);
        }
        let line = self.expect_op(Op::RParen)?;
        let mut sorted: Vec<&String> = args.iter().collect();
        sorted.sort_unstable();
        match sorted.windows(2).any(|pair| pair.first() == pair.last()) {
            true => Err(Fault::syntax("two parameters have the same name", line)),
            false => Ok((args, defaults)),
        }
    }

    fn parse_call_block(&mut self, line: u32) -> Res<StmtKind> {
        let (args, defaults) = match self.is_op(Op::LParen) {
            true => self.parameters()?,
            false => (Vec::new(), Vec::new()),
        };
        let call = self.expression()?;
        if !matches!(call.kind, ExprKind::Call(..)) {
            return Err(Fault::syntax("expected a call", line));
        }
        let body = self.body(&["endcall"])?.0;
        let signature = Signature { args, defaults, body };
        Ok(StmtKind::CallBlock(Box::new(CallBlock { call, signature })))
    }

    /// Transformers' tag for the text that models are trained on.
    fn parse_generation(&mut self, line: u32) -> Res<StmtKind> {
        let body = self.body(&["endgeneration"])?.0;
        let function = Expr { kind: ExprKind::Generation, line, depth: 1 };
        let kind = ExprKind::Call(Box::new(function), Box::default());
        let call = Expr { kind, line, depth: 2 };
        let signature = Signature { args: Vec::new(), defaults: Vec::new(), body };
        Ok(StmtKind::CallBlock(Box::new(CallBlock { call, signature })))
    }

    fn parse_filter_block(&mut self) -> Res<StmtKind> {
        let mut filter = self.filter(None)?;
        while self.skip_op(Op::Pipe) {
            filter = self.filter(Some(filter))?;
        }
        Ok(StmtKind::FilterBlock { filter, body: self.body(&["endfilter"])?.0 })
    }

    fn parse_with(&mut self) -> Res<StmtKind> {
        let (mut targets, mut values) = (Vec::new(), Vec::new());
        while self.peek().tok != Tok::BlockEnd {
            if !targets.is_empty() {
                self.expect_op(Op::Comma)?;
            }
            targets.push(self.target(&[], false)?);
            self.expect_op(Op::Assign)?;
            values.push(self.expression()?);
        }
        Ok(StmtKind::With { targets, values, body: self.body(&["endwith"])?.0 })
    }

    fn parse_print(&mut self) -> Res<StmtKind> {
        let mut out = Vec::new();
        while self.peek().tok != Tok::BlockEnd {
            if !out.is_empty() {
                self.expect_op(Op::Comma)?;
            }
            out.push(Out::Expr(self.expression()?));
        }
        Ok(StmtKind::Output(out))
    }

    fn parse_block(&mut self) -> Res<StmtKind> {
        let (name, line) = self.expect_name()?;
        let scoped = self.skip_name("scoped");
        let required = self.skip_name("required");
        let body = self.body(&["endblock"])?.0;
        let blank = |out: &Out| matches!(out, Out::Data(text) if text.chars().all(is_space));
        let empty = |s: &Stmt| matches!(&s.kind, StmtKind::Output(o) if o.iter().all(blank));
        if required && !body.iter().all(empty) {
            return Err(Fault::syntax("required blocks may contain only white space", line));
        }
        self.skip_name(&name);
        Ok(StmtKind::Block(Box::new(Block { name, body, scoped, required })))
    }

    /// A name that is assigned to.
    fn name_target(&mut self) -> Res<String> {
        let (name, line) = self.expect_name()?;
        match matches!(name.as_str(), "true" | "false" | "none" | "True" | "False" | "None") {
            true => Err(Fault::syntax(format!("can't assign to `{name}`"), line)),
            false => Ok(name),
        }
    }

    /// The target of an assignment: a name, names with commas, or with `namespace` their attributes.
    fn target(&mut self, ends: &[&str], namespace: bool) -> Res<Expr> {
        let target = self.tuple(Form::Target { namespace }, ends)?;
        match can_assign(&target) {
            true => Ok(target),
            false => Err(Fault::syntax("can't assign to that", target.line)),
        }
    }
}

fn can_assign(target: &Expr) -> bool {
    match &target.kind {
        ExprKind::Name(_) | ExprKind::NsRef(..) => true,
        ExprKind::Tuple(parts) => parts.iter().all(can_assign),
        ExprKind::Const(Lit::None | Lit::Bool(_)) => false,
        _ => false,
    }
}
