//! Tokens to syntax trees. Nesting is counted while it is read, so that no source makes the parser
//! recurse deeper than the limit.

mod expr;
mod stmt;

use super::ast::{Expr, ExprKind, Stmt};
use super::error::{Fault, LimitKind, Res};
use super::lexer::{Op, Tok, Token, tokens};
use super::limits::Meter;

/// Parses a template.
pub(super) fn parse(source: &str, meter: &Meter<'_>) -> Res<Vec<Stmt>> {
    let tokens = tokens(source, meter)?;
    let mut parser = Parser { tokens: tokens.into_iter().peekable(), ahead: None, depth: 0, meter };
    let (body, end) = parser.statements(&[])?;
    match end {
        None => Ok(body),
        Some(_) => Err(Fault::internal("a template ends in a tag")),
    }
}

/// A recursive-descent parser.
struct Parser<'m> {
    tokens: std::iter::Peekable<std::vec::IntoIter<Token>>,
    /// A token that was read too early.
    ahead: Option<Token>,
    depth: usize,
    meter: &'m Meter<'m>,
}

static END: Token = Token { tok: Tok::End, line: 0 };

impl Parser<'_> {
    /// The current token.
    fn peek(&mut self) -> &Token {
        match &self.ahead {
            Some(token) => token,
            None => self.tokens.peek().unwrap_or(&END),
        }
    }

    /// The token behind the current one.
    fn look(&mut self) -> &Token {
        if self.ahead.is_none() {
            self.ahead = self.tokens.next();
        }
        self.tokens.peek().unwrap_or(&END)
    }

    fn next(&mut self) -> Token {
        match self.ahead.take() {
            Some(token) => token,
            None => self.tokens.next().unwrap_or_else(|| END.clone()),
        }
    }

    fn line(&mut self) -> u32 {
        self.peek().line
    }

    fn is_op(&mut self, op: Op) -> bool {
        self.peek().tok == Tok::Op(op)
    }

    fn is_name(&mut self, name: &str) -> bool {
        matches!(&self.peek().tok, Tok::Name(n) if n == name)
    }

    fn skip_op(&mut self, op: Op) -> bool {
        let yes = self.is_op(op);
        if yes {
            self.next();
        }
        yes
    }

    fn skip_name(&mut self, name: &str) -> bool {
        let yes = self.is_name(name);
        if yes {
            self.next();
        }
        yes
    }

    fn expect_op(&mut self, op: Op) -> Res<u32> {
        let token = self.next();
        match token.tok == Tok::Op(op) {
            true => Ok(token.line),
            false => Err(expected(&describe(&Tok::Op(op)), &token)),
        }
    }

    fn expect_name(&mut self) -> Res<(String, u32)> {
        let token = self.next();
        match token.tok {
            Tok::Name(name) => Ok((name, token.line)),
            _ => Err(expected("a name", &token)),
        }
    }

    fn expect_word(&mut self, word: &str) -> Res<u32> {
        let token = self.next();
        match &token.tok {
            Tok::Name(name) if name == word => Ok(token.line),
            _ => Err(expected(&format!("`{word}`"), &token)),
        }
    }

    fn expect(&mut self, tok: &Tok) -> Res<u32> {
        let token = self.next();
        match token.tok == *tok {
            true => Ok(token.line),
            false => Err(expected(&describe(tok), &token)),
        }
    }

    /// Goes one level deeper. Whoever leaves it counts down, unless with an error, which ends all.
    fn enter(&mut self) -> Res<()> {
        let line = self.line();
        self.meter.tick(1).map_err(|e| e.at(line))?;
        self.depth += 1;
        self.meter.depth(self.depth).map_err(|e| e.at(line))
    }

    /// An expression of parts of which the deepest has `parts` levels. That is checked too, since
    /// chains such as `a.b.c` nest without recursion of the parser.
    fn node(&self, kind: ExprKind, line: u32, parts: u32) -> Res<Expr> {
        let depth = parts.saturating_add(1);
        if depth > MAX_HEIGHT {
            return Err(Fault::from(LimitKind::Depth(MAX_HEIGHT as usize)).at(line));
        }
        Ok(Expr { kind, line, depth })
    }
}

/// Maximum height of an expression's tree, which is what Python compiles.
const MAX_HEIGHT: u32 = 200;

fn deepest<'a>(parts: impl IntoIterator<Item = &'a Expr>) -> u32 {
    parts.into_iter().map(|e| e.depth).max().unwrap_or(0)
}

fn expected(what: &str, found: &Token) -> Fault {
    Fault::syntax(format!("expected {what}, found {}", describe(&found.tok)), found.line)
}

fn describe(tok: &Tok) -> String {
    match tok {
        Tok::Data(_) => "text".into(),
        Tok::BlockBegin => "`{%`".into(),
        Tok::BlockEnd => "`%}`".into(),
        Tok::VariableBegin => "`{{`".into(),
        Tok::VariableEnd => "`}}`".into(),
        Tok::Name(name) => format!("`{}`", short(name)),
        Tok::Str(_) => "a string".into(),
        Tok::Int(n) => format!("`{n}`"),
        Tok::Float(n) => format!("`{n}`"),
        Tok::End => "the end of the template".into(),
        Tok::Op(op) => {
            let text = match op {
                Op::Add => "+",
                Op::Sub => "-",
                Op::Div => "/",
                Op::FloorDiv => "//",
                Op::Mul => "*",
                Op::Mod => "%",
                Op::Pow => "**",
                Op::Tilde => "~",
                Op::LBracket => "[",
                Op::RBracket => "]",
                Op::LParen => "(",
                Op::RParen => ")",
                Op::LBrace => "{",
                Op::RBrace => "}",
                Op::Eq => "==",
                Op::Ne => "!=",
                Op::Gt => ">",
                Op::Ge => ">=",
                Op::Lt => "<",
                Op::Le => "<=",
                Op::Assign => "=",
                Op::Dot => ".",
                Op::Colon => ":",
                Op::Pipe => "|",
                Op::Comma => ",",
                Op::Semicolon => ";",
            };
            format!("`{text}`")
        }
    }
}

/// The start of a name, for messages.
fn short(name: &str) -> &str {
    match name.char_indices().nth(60) {
        Some((at, _)) => name.get(..at).unwrap_or(name),
        None => name,
    }
}
