//! Template source to tokens, with jinja2's control of white space: `trim_blocks` and
//! `lstrip_blocks`, as transformers sets them.

use super::error::{Fault, LimitKind, Res, TemplateErrorKind};
use super::limits::Meter;
use super::pytext::is_space;

/// A token.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Tok {
    /// Text outside of tags.
    Data(String),
    BlockBegin,
    BlockEnd,
    VariableBegin,
    VariableEnd,
    Name(String),
    Str(String),
    Int(i128),
    Float(f64),
    /// An operator or a bracket.
    Op(Op),
    End,
}

/// Operators and brackets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Op {
    Add,
    Sub,
    Div,
    FloorDiv,
    Mul,
    Mod,
    Pow,
    Tilde,
    LBracket,
    RBracket,
    LParen,
    RParen,
    LBrace,
    RBrace,
    Eq,
    Ne,
    Gt,
    Ge,
    Lt,
    Le,
    Assign,
    Dot,
    Colon,
    Pipe,
    Comma,
    Semicolon,
}

const OPERATORS: [(&str, Op); 26] = [
    ("//", Op::FloorDiv),
    ("**", Op::Pow),
    ("==", Op::Eq),
    ("!=", Op::Ne),
    (">=", Op::Ge),
    ("<=", Op::Le),
    ("+", Op::Add),
    ("-", Op::Sub),
    ("/", Op::Div),
    ("*", Op::Mul),
    ("%", Op::Mod),
    ("~", Op::Tilde),
    ("[", Op::LBracket),
    ("]", Op::RBracket),
    ("(", Op::LParen),
    (")", Op::RParen),
    ("{", Op::LBrace),
    ("}", Op::RBrace),
    (">", Op::Gt),
    ("<", Op::Lt),
    ("=", Op::Assign),
    (".", Op::Dot),
    (":", Op::Colon),
    ("|", Op::Pipe),
    (",", Op::Comma),
    (";", Op::Semicolon),
];

/// A token and its line.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Token {
    pub(super) tok: Tok,
    pub(super) line: u32,
}

/// Line ends become LF, and one at the end is dropped.
fn normalize(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut chars = source.chars().peekable();
    while let Some(c) = chars.next() {
        if c == '\r' {
            chars.next_if_eq(&'\n');
            out.push('\n');
        } else {
            out.push(c);
        }
    }
    if out.ends_with('\n') {
        out.pop();
    }
    out
}

/// All tokens of a source.
pub(super) fn tokens(source: &str, meter: &Meter<'_>) -> Res<Vec<Token>> {
    if source.len() > meter.limits.source {
        return Err(LimitKind::Source(meter.limits.source).into());
    }
    meter.tick_bytes(source.len())?;
    let text = normalize(source);
    let mut lexer = Lexer {
        text: &text,
        at: 0,
        line: 1,
        counted: 0,
        line_starts: true,
        out: Vec::new(),
        meter,
    };
    lexer.root()?;
    let line = lexer.line();
    lexer.out.push(Token { tok: Tok::End, line });
    Ok(lexer.out)
}

/// The sign behind the start of a tag.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sign {
    None,
    Minus,
    Plus,
}

/// The kind of token that starts at a place of the text outside of tags.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Start {
    Raw,
    Comment,
    Block,
    Variable,
}

struct Lexer<'t, 'm> {
    text: &'t str,
    at: usize,
    /// Line of `counted`.
    line: u32,
    counted: usize,
    /// True if what was read last ended with a line.
    line_starts: bool,
    out: Vec<Token>,
    meter: &'m Meter<'m>,
}

impl<'t> Lexer<'t, '_> {
    fn rest(&self) -> &'t str {
        self.text.get(self.at..).unwrap_or("")
    }

    /// The current line.
    fn line(&mut self) -> u32 {
        let read = self.text.get(self.counted..self.at).unwrap_or("");
        self.line = self.line.saturating_add(read.bytes().filter(|&b| b == b'\n').count() as u32);
        self.counted = self.at;
        self.line
    }

    fn push(&mut self, tok: Tok) {
        let line = self.line();
        self.out.push(Token { tok, line });
    }

    fn data(&mut self, text: &str) {
        if !text.is_empty() {
            self.push(Tok::Data(text.to_owned()));
        }
    }

    /// Text between tags.
    fn root(&mut self) -> Res<()> {
        loop {
            self.meter.tick(1)?;
            let rest = self.rest();
            let Some((length, start)) = find_start(rest) else {
                self.data(rest);
                self.at = self.text.len();
                return Ok(());
            };
            let (text, tag) = rest.split_at(length);
            let sign = sign(tag.get(2..).unwrap_or(""));
            let text = self.stripped(text, sign, start != Start::Variable);
            self.data(text);
            self.at += length;
            self.line_starts = false;
            match start {
                Start::Raw => self.raw(tag)?,
                Start::Comment => self.comment(tag, sign)?,
                Start::Block => {
                    self.push(Tok::BlockBegin);
                    self.at += 2 + usize::from(sign != Sign::None);
                    self.tag(true)?;
                }
                Start::Variable => {
                    self.push(Tok::VariableBegin);
                    self.at += 2 + usize::from(sign != Sign::None);
                    self.tag(false)?;
                }
            }
        }
    }

    /// Text in front of a tag, without the white space that the tag takes away.
    fn stripped(&self, text: &'t str, sign: Sign, block: bool) -> &'t str {
        if sign == Sign::Minus {
            return text.trim_end_matches(is_space);
        }
        if sign == Sign::None && block {
            let start = text.rfind('\n').map_or(0, |at| at + 1);
            let last = text.get(start..).unwrap_or("");
            if (start > 0 || self.line_starts) && !last.is_empty() && last.chars().all(is_space) {
                return text.get(..start).unwrap_or("");
            }
        }
        text
    }

    /// A comment, from its start.
    fn comment(&mut self, tag: &'t str, sign: Sign) -> Res<()> {
        let inside = tag.get(2 + usize::from(sign != Sign::None)..).unwrap_or("");
        let line = self.line();
        let end = inside.find("#}").ok_or_else(|| Fault::syntax("missing end of comment", line))?;
        let before = inside.as_bytes().get(..end).and_then(<[u8]>::last);
        self.at += tag.len() - inside.len();
        self.tag_end(end + 2, before.copied());
        Ok(())
    }

    /// Moves behind the end of a block or a comment, which is `length` bytes from here: with a
    /// minus in front of it white space goes too, without a sign one line end.
    fn tag_end(&mut self, length: usize, before: Option<u8>) {
        self.at += length;
        let rest = self.rest();
        let skipped = match before {
            Some(b'-') => rest.len() - rest.trim_start_matches(is_space).len(),
            Some(b'+') => 0,
            _ => usize::from(rest.starts_with('\n')),
        };
        self.at += skipped;
        self.line_starts = rest.get(..skipped).is_some_and(|s| s.ends_with('\n'));
    }

    /// A raw block, from its start.
    fn raw(&mut self, tag: &'t str) -> Res<()> {
        let line = self.line();
        let missing = || Fault::syntax("missing end of raw directive", line);
        let length = raw_start(tag).ok_or_else(missing)?;
        self.at += length;
        self.line_starts = tag.get(..length).is_some_and(|s| s.ends_with('\n'));
        let inside = self.rest();
        let mut from = 0;
        while let Some(at) = inside.get(from..).and_then(|rest| rest.find("{%")) {
            let at = from + at;
            let end = inside.get(at..).unwrap_or("");
            if let Some((length, sign, before)) = raw_end(end) {
                let text = self.stripped(inside.get(..at).unwrap_or(""), sign, true);
                self.data(text);
                self.at += at;
                self.tag_end(length, before);
                return Ok(());
            }
            from = at + 2;
        }
        Err(missing())
    }

    /// The inside of a tag, up to its end.
    fn tag(&mut self, block: bool) -> Res<()> {
        let mut open: Vec<Op> = Vec::new();
        loop {
            self.meter.tick(1)?;
            let rest = self.rest();
            let spaces = rest.len() - rest.trim_start_matches(is_space).len();
            // The end of a tag comes before white space and operators.
            if open.is_empty() && self.ended(rest, block) {
                return Ok(());
            }
            if spaces > 0 {
                self.at += spaces;
                continue;
            }
            let Some(c) = rest.chars().next() else { return Ok(()) };
            if c.is_ascii_digit() {
                self.number(rest)?;
            } else if c == '_' || c.is_alphabetic() {
                let length = rest.find(|c: char| !continues_name(c)).unwrap_or(rest.len());
                self.push(Tok::Name(rest.get(..length).unwrap_or("").to_owned()));
                self.at += length;
            } else if c == '\'' || c == '"' {
                self.string(rest, c)?;
            } else {
                let found = OPERATORS.iter().find(|(text, _)| rest.starts_with(text));
                let line = self.line();
                let Some(&(text, op)) = found else {
                    return Err(Fault::syntax(format!("unexpected character {c:?}"), line));
                };
                match op {
                    Op::LBrace => open.push(Op::RBrace),
                    Op::LParen => open.push(Op::RParen),
                    Op::LBracket => open.push(Op::RBracket),
                    Op::RBrace | Op::RParen | Op::RBracket if open.pop() != Some(op) => {
                        return Err(Fault::syntax(format!("unexpected '{text}'"), line));
                    }
                    _ => {}
                }
                self.push(Tok::Op(op));
                self.at += text.len();
            }
        }
    }

    /// Reads the end of a tag, if it is here.
    fn ended(&mut self, rest: &str, block: bool) -> bool {
        let end = if block { "%}" } else { "}}" };
        let (before, length) = match rest.as_bytes().first() {
            Some(b'-') if rest.get(1..).is_some_and(|r| r.starts_with(end)) => (Some(b'-'), 3),
            Some(b'+') if block && rest.get(1..).is_some_and(|r| r.starts_with(end)) => {
                (Some(b'+'), 3)
            }
            _ if rest.starts_with(end) => (None, 2),
            _ => return false,
        };
        self.push(if block { Tok::BlockEnd } else { Tok::VariableEnd });
        // Behind a variable a line end stays.
        let before = if block { before } else { before.or(Some(b'+')) };
        self.tag_end(length, before);
        true
    }

    fn number(&mut self, rest: &str) -> Res<()> {
        let line = self.line();
        let after_dot = self.text.as_bytes().get(self.at.wrapping_sub(1)) == Some(&b'.');
        if let Some(length) = float_length(rest).filter(|_| !after_dot) {
            let digits: String =
                rest.get(..length).unwrap_or("").chars().filter(|&c| c != '_').collect();
            let value: f64 = digits.parse().map_err(|_| Fault::syntax("malformed number", line))?;
            if value.is_infinite() {
                return Err(Fault::unsupported("a number beyond the range of floats").at(line));
            }
            self.push(Tok::Float(value));
            self.at += length;
            return Ok(());
        }
        let (radix, length) = integer_length(rest);
        let prefix = if radix == 10 { 0 } else { 2 };
        let digits = rest.get(prefix..length).unwrap_or("");
        let mut value: i128 = 0;
        for c in digits.chars().filter(|&c| c != '_') {
            let digit = c.to_digit(radix).map_or(0, i128::from);
            let next = value.checked_mul(i128::from(radix)).and_then(|v| v.checked_add(digit));
            value = next
                .ok_or_else(|| Fault::unsupported("an integer of more than 127 bits").at(line))?;
        }
        self.push(Tok::Int(value));
        self.at += length;
        Ok(())
    }

    fn string(&mut self, rest: &str, quote: char) -> Res<()> {
        let line = self.line();
        let mut chars = rest.char_indices().skip(1);
        let end = loop {
            match chars.next() {
                Some((_, '\\')) => {
                    chars.next();
                }
                Some((at, c)) if c == quote => break at,
                Some(_) => {}
                None => {
                    return Err(Fault::syntax(format!("unexpected character {quote:?}"), line));
                }
            }
        };
        let text = unescape(rest.get(1..end).unwrap_or(""));
        self.push(Tok::Str(text.map_err(|fault| fault.at(line))?));
        self.at += end + 1;
        Ok(())
    }
}

fn sign(rest: &str) -> Sign {
    match rest.as_bytes().first() {
        Some(b'-') => Sign::Minus,
        Some(b'+') => Sign::Plus,
        _ => Sign::None,
    }
}

/// The first start of a tag.
fn find_start(text: &str) -> Option<(usize, Start)> {
    let bytes = text.as_bytes();
    let mut from = 0;
    loop {
        let at = from + bytes.get(from..)?.iter().position(|&b| b == b'{')?;
        let start = match bytes.get(at + 1) {
            Some(b'%') if raw_start(text.get(at..)?).is_some() => Some(Start::Raw),
            Some(b'%') => Some(Start::Block),
            Some(b'#') => Some(Start::Comment),
            Some(b'{') => Some(Start::Variable),
            _ => None,
        };
        if let Some(start) = start {
            return Some((at, start));
        }
        from = at + 1;
    }
}

/// Length of `{% raw %}` at the start of a text, with its signs.
fn raw_start(text: &str) -> Option<usize> {
    let rest = text.strip_prefix("{%")?;
    let rest = rest.strip_prefix(['-', '+']).unwrap_or(rest).trim_start_matches(is_space);
    let rest = rest.strip_prefix("raw")?.trim_start_matches(is_space);
    let rest = match rest.strip_prefix("-%}") {
        Some(rest) => rest.trim_start_matches(is_space),
        None => rest.strip_prefix("%}")?,
    };
    Some(text.len() - rest.len())
}

/// Length of `{% endraw %}` at the start of a text, the sign at its start, and that at its end.
fn raw_end(text: &str) -> Option<(usize, Sign, Option<u8>)> {
    let rest = text.strip_prefix("{%")?;
    let sign = sign(rest);
    let rest = rest.strip_prefix(['-', '+']).unwrap_or(rest).trim_start_matches(is_space);
    let rest = rest.strip_prefix("endraw")?.trim_start_matches(is_space);
    let (before, rest) = match rest.as_bytes().first() {
        Some(&b @ (b'-' | b'+')) => (Some(b), rest.get(1..)?),
        _ => (None, rest),
    };
    let rest = rest.strip_prefix("%}")?;
    Some((text.len() - rest.len(), sign, before))
}

fn continues_name(c: char) -> bool {
    c == '_' || c.is_alphanumeric() || matches!(c, '\u{300}'..='\u{36f}' | '\u{b7}')
}

/// Length of digits with single underscores between them.
fn digits(text: &str) -> usize {
    let bytes = text.as_bytes();
    let mut at = 0;
    loop {
        match (bytes.get(at), bytes.get(at + 1)) {
            (Some(b'0'..=b'9'), _) => at += 1,
            (Some(b'_'), Some(b'0'..=b'9')) if at > 0 => at += 2,
            _ => return at,
        }
    }
}

/// Length of a float: digits, then a fraction, an exponent or both.
fn float_length(text: &str) -> Option<usize> {
    let mut length = digits(text);
    let mut float = false;
    if text.get(length..)?.starts_with('.') {
        let fraction = digits(text.get(length + 1..)?);
        if fraction > 0 {
            length += 1 + fraction;
            float = true;
        }
    }
    let rest = text.get(length..)?;
    if let Some(exponent) = rest.strip_prefix(['e', 'E']) {
        let unsigned = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
        let n = digits(unsigned);
        if n > 0 {
            length += rest.len() - unsigned.len() + n;
            float = true;
        }
    }
    float.then_some(length)
}

/// Radix and length of an integer.
fn integer_length(text: &str) -> (u32, usize) {
    let radix = match text.as_bytes() {
        [b'0', b'b' | b'B', ..] => 2,
        [b'0', b'o' | b'O', ..] => 8,
        [b'0', b'x' | b'X', ..] => 16,
        _ => 10,
    };
    let digit = |c: Option<&u8>| c.is_some_and(|&b| char::from(b).is_digit(radix));
    let bytes = text.as_bytes();
    if radix != 10 {
        let mut at = 2;
        loop {
            let skip = usize::from(bytes.get(at) == Some(&b'_'));
            if !digit(bytes.get(at + skip)) {
                break;
            }
            at += skip + 1;
        }
        if at > 2 {
            return (radix, at);
        }
    }
    if bytes.first() != Some(&b'0') {
        return (10, digits(text));
    }
    // Zeros alone: `007` is no number.
    let mut at = 1;
    loop {
        match (bytes.get(at), bytes.get(at + 1)) {
            (Some(b'0'), _) => at += 1,
            (Some(b'_'), Some(b'0')) => at += 2,
            _ => return (10, at),
        }
    }
}

/// The contents of a string literal, with Python's escapes.
fn unescape(raw: &str) -> Res<String> {
    if !raw.contains('\\') {
        return Ok(raw.to_owned());
    }
    let mut out = String::with_capacity(raw.len());
    let mut chars = raw.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        let Some(escape) = chars.next() else { break };
        let hex = match escape {
            '\n' => continue,
            '\\' | '\'' | '"' => {
                out.push(escape);
                continue;
            }
            'a' => '\u{7}',
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'v' => '\u{b}',
            '0'..='7' => {
                let mut value = escape.to_digit(8).unwrap_or(0);
                for _ in 0..2 {
                    let Some(digit) = chars.peek().and_then(|c| c.to_digit(8)) else { break };
                    chars.next();
                    value = value * 8 + digit;
                }
                char::from_u32(value).unwrap_or('\u{fffd}')
            }
            'x' | 'u' | 'U' => {
                let length = match escape {
                    'x' => 2,
                    'u' => 4,
                    _ => 8,
                };
                let mut value: u32 = 0;
                for _ in 0..length {
                    let digit = chars.next_if(char::is_ascii_hexdigit).and_then(|c| c.to_digit(16));
                    let digit = digit.ok_or_else(|| {
                        let why = format!("truncated \\{escape} escape");
                        Fault::from(TemplateErrorKind::Syntax(why))
                    })?;
                    value = value.wrapping_mul(16) | digit;
                }
                char::from_u32(value).ok_or_else(|| {
                    Fault::unsupported("an escape for a surrogate, which is no character")
                })?
            }
            'N' => return Err(Fault::unsupported("the escape \\N, a character by its name")),
            c if !c.is_ascii() => {
                // Python escapes what is not ASCII first, and the backslash then takes that apart.
                out.push_str(&match c as u32 {
                    v @ 0..=0xff => format!("\\x{v:02x}"),
                    v @ 0x100..=0xffff => format!("\\u{v:04x}"),
                    v => format!("\\U{v:08x}"),
                });
                continue;
            }
            c => {
                out.push('\\');
                c
            }
        };
        out.push(hex);
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::template::TemplateLimits;

    fn lex(source: &str) -> Vec<Tok> {
        let meter = Meter::new(TemplateLimits::default(), None);
        let tokens = tokens(source, &meter).unwrap();
        tokens.into_iter().map(|t| t.tok).collect()
    }

    #[test]
    fn escapes_are_those_of_python() {
        let text = |s: &str| unescape(s).unwrap();
        assert_eq!(text(r"a\n\x41\u00e9\101\q"), "a\nAéA\\q");
        assert_eq!(text("\\é"), "\\xe9");
        assert!(unescape(r"\ud800").is_err() && unescape(r"\x4").is_err());
    }

    #[test]
    fn numbers_are_split_as_in_python() {
        let inside = |s: &str| {
            let all = lex(&format!("{{{{ {s} }}}}"));
            all[1..all.len() - 2].to_vec()
        };
        assert_eq!(inside("1_000.5e1"), [Tok::Float(10005.0)]);
        assert_eq!(inside("0x1F"), [Tok::Int(31)]);
        assert_eq!(inside("007"), [Tok::Int(0), Tok::Int(7)]);
        let parts = [Tok::Name("a".into()), Tok::Op(Op::Dot), Tok::Int(1)];
        assert_eq!(inside("a.1.5")[..3], parts);
    }

    #[test]
    fn lines_count() {
        let meter = Meter::new(TemplateLimits::default(), None);
        let tokens = tokens("a\r\nb\r{{\n x }}", &meter).unwrap();
        let lines: Vec<u32> = tokens.iter().map(|t| t.line).collect();
        assert_eq!(lines, [1, 3, 4, 4, 4]);
    }
}
