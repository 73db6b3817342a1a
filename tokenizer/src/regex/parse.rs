//! Patterns as text, parsed to a tree.
//!
//! The syntax and its meaning are those of Oniguruma with Ruby's rules, which the `tokenizers`
//! library uses: `^` and `$` match at lines, `{n,m}+` repeats, and `?+`, `*+` and `++` are possessive.
//! What no tokenizer uses (back-references, conditions, names of rare properties) is refused.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use super::set::{Ranges, space, word};

/// A part of a pattern.
#[derive(Clone, Debug)]
pub(super) enum Node {
    Set(Ranges),
    Cat(Vec<Node>),
    Alt(Vec<Node>),
    Repeat { node: Box<Node>, min: u32, max: u32, mode: Mode },
    Look { node: Box<Node>, ahead: bool, negated: bool },
    Atomic(Box<Node>),
    Assert(Assert),
}

/// How many of the possible repetitions are tried first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Mode {
    Greedy,
    Lazy,
    /// As many as possible, and never fewer.
    Possessive,
}

/// A condition on a position.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Assert {
    TextStart,
    TextEnd,
    /// At the end of the text, or before a line break that ends it.
    LastLineEnd,
    LineStart,
    LineEnd,
    WordBoundary,
    NoWordBoundary,
}

/// No upper bound of repetitions.
pub(super) const UNBOUNDED: u32 = u32::MAX;
const MAX_NESTING: usize = 50;
const MAX_QUANTIFIERS: usize = 4;
/// Maximum number of a counted repetition.
const MAX_COUNT: u32 = 1000;

/// The part of a pattern that can't be used, for the message.
pub(super) type Result<T> = core::result::Result<T, String>;

pub(super) fn parse(pattern: &str) -> Result<Node> {
    let mut parser = Parser { rest: pattern, ignore_case: false, dot_all: false, depth: 0 };
    let node = parser.alternatives()?;
    match parser.peek() {
        None => Ok(node),
        Some(_) => Err("a `)` without its `(`".into()),
    }
}

struct Parser<'p> {
    rest: &'p str,
    ignore_case: bool,
    dot_all: bool,
    depth: usize,
}

impl<'p> Parser<'p> {
    fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.rest = &self.rest[c.len_utf8()..];
        Some(c)
    }

    fn eat(&mut self, text: &str) -> bool {
        match self.rest.strip_prefix(text) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn deeper(&mut self) -> Result<()> {
        self.depth += 1;
        if self.depth > MAX_NESTING { Err("parentheses nested too deeply".into()) } else { Ok(()) }
    }

    fn alternatives(&mut self) -> Result<Node> {
        self.deeper()?;
        // Options set inside of a group end with it, but hold for its further alternatives.
        let (ignore_case, dot_all) = (self.ignore_case, self.dot_all);
        let mut all = vec![self.sequence()?];
        while self.eat("|") {
            all.push(self.sequence()?);
        }
        (self.ignore_case, self.dot_all) = (ignore_case, dot_all);
        self.depth -= 1;
        Ok(if all.len() == 1 { all.swap_remove(0) } else { Node::Alt(all) })
    }

    fn sequence(&mut self) -> Result<Node> {
        let mut all = Vec::new();
        while !matches!(self.peek(), None | Some('|' | ')')) {
            if let Some(atom) = self.atom()? {
                all.push(self.repeated(atom)?);
            }
        }
        Ok(if all.len() == 1 { all.swap_remove(0) } else { Node::Cat(all) })
    }

    /// Wraps an atom in the quantifiers after it.
    fn repeated(&mut self, mut node: Node) -> Result<Node> {
        for _ in 0..MAX_QUANTIFIERS {
            let (min, max, braces) = match self.peek() {
                Some('?') => (0, 1, false),
                Some('*') => (0, UNBOUNDED, false),
                Some('+') => (1, UNBOUNDED, false),
                Some('{') => match self.counts()? {
                    Some((min, max)) => (min, max, true),
                    None => return Ok(node),
                },
                _ => return Ok(node),
            };
            if !braces {
                self.next();
            }
            let mut mode = Mode::Greedy;
            if braces && min == max && self.peek() == Some('?') {
                // `{n}?` is optional, not lazy: the next round of this loop.
            } else if self.eat("?") {
                mode = Mode::Lazy;
            } else if !braces && self.eat("+") {
                mode = Mode::Possessive;
            }
            if max > 1 && nullable(&node) {
                return Err("a repetition of something that may be empty".into());
            }
            node = Node::Repeat { node: Box::new(node), min, max, mode };
        }
        Err("too many quantifiers in a row".into())
    }

    /// Reads `{n}`, `{n,}`, `{,m}` or `{n,m}`; other braces are ordinary characters.
    fn counts(&mut self) -> Result<Option<(u32, u32)>> {
        let Some(end) = self.rest.find('}') else { return Ok(None) };
        let inside = &self.rest[1..end];
        let number =
            |s: &str| s.parse::<u32>().ok().filter(|_| s.bytes().all(|b| b.is_ascii_digit()));
        let (min, max) = match inside.split_once(',') {
            None => (number(inside), number(inside)),
            Some(("", "")) => (None, None),
            Some(("", max)) => (Some(0), number(max)),
            Some((min, "")) => (number(min), Some(UNBOUNDED)),
            Some((min, max)) => (number(min), number(max)),
        };
        let (Some(min), Some(max)) = (min, max) else { return Ok(None) };
        if min > MAX_COUNT || (max > MAX_COUNT && max != UNBOUNDED) || min > max {
            return Err(format!("the count {{{inside}}}"));
        }
        self.rest = &self.rest[end + 1..];
        Ok(Some((min, max)))
    }

    /// One atom; `None` for what matches nothing, such as options.
    fn atom(&mut self) -> Result<Option<Node>> {
        let Some(c) = self.next() else { return Ok(None) };
        let node = match c {
            '(' => return self.group(),
            '[' => Node::Set(self.class()?),
            '.' if self.dot_all => Node::Set(Ranges::all()),
            '.' => Node::Set(Ranges::one('\n').negated()),
            '^' => Node::Assert(Assert::LineStart),
            '$' => Node::Assert(Assert::LineEnd),
            '\\' => match self.rest.chars().next() {
                Some('b') => self.assert(Assert::WordBoundary),
                Some('B') => self.assert(Assert::NoWordBoundary),
                Some('A') => self.assert(Assert::TextStart),
                Some('z') => self.assert(Assert::TextEnd),
                Some('Z') => self.assert(Assert::LastLineEnd),
                _ => Node::Set(self.escape()?),
            },
            '?' | '*' | '+' => return Err(format!("a `{c}` that repeats nothing")),
            c => Node::Set(self.literal(c)),
        };
        Ok(Some(node))
    }

    fn assert(&mut self, assert: Assert) -> Node {
        self.next();
        Node::Assert(assert)
    }

    fn literal(&self, c: char) -> Ranges {
        let mut set = Ranges::one(c);
        if self.ignore_case {
            set.ignore_case();
        }
        set
    }

    /// A group, whose `(` has been read.
    fn group(&mut self) -> Result<Option<Node>> {
        let (ignore_case, dot_all) = (self.ignore_case, self.dot_all);
        let mut wrap: fn(Node) -> Node = |node| node;
        if self.eat("?") {
            type Wrap = fn(Node) -> Node;
            const LOOKS: [(&str, Wrap); 5] = [
                ("=", |n| Node::Look { node: Box::new(n), ahead: true, negated: false }),
                ("!", |n| Node::Look { node: Box::new(n), ahead: true, negated: true }),
                ("<=", |n| Node::Look { node: Box::new(n), ahead: false, negated: false }),
                ("<!", |n| Node::Look { node: Box::new(n), ahead: false, negated: true }),
                (">", |n| Node::Atomic(Box::new(n))),
            ];
            if let Some((_, look)) = LOOKS.iter().find(|(start, _)| self.eat(start)) {
                wrap = *look;
            } else if self.eat("#") {
                let end = self.rest.find(')').ok_or("a `(` without its `)`")?;
                self.rest = &self.rest[end + 1..];
                return Ok(None);
            } else if self.eat("<") || self.eat("P<") {
                let end = self.rest.find('>').ok_or("a `<` without its `>`")?;
                self.rest = &self.rest[end + 1..];
            } else {
                let mut on = true;
                loop {
                    match self.next() {
                        Some(':') => break,
                        Some('-') => on = false,
                        Some('i') => self.ignore_case = on,
                        Some('m') => self.dot_all = on,
                        // The options hold to the end of the group around.
                        Some(')') => return Ok(None),
                        Some(c) => return Err(format!("the option `(?{c}`")),
                        None => return Err("a `(` without its `)`".into()),
                    }
                }
            }
        }
        let inner = self.alternatives()?;
        (self.ignore_case, self.dot_all) = (ignore_case, dot_all);
        if !self.eat(")") {
            return Err("a `(` without its `)`".into());
        }
        Ok(Some(wrap(inner)))
    }

    /// The set of an escape, whose backslash has been read.
    fn escape(&mut self) -> Result<Ranges> {
        let c = self.next().ok_or("a `\\` at the end")?;
        let digits = || Ranges::named("Nd").unwrap_or_default();
        Ok(match c {
            's' => space(),
            'S' => space().negated(),
            'd' => digits(),
            'D' => digits().negated(),
            'w' => word(),
            'W' => word().negated(),
            'p' | 'P' => {
                let name = if self.eat("{") {
                    let end = self.rest.find('}').ok_or("a `{` without its `}`")?;
                    let name = &self.rest[..end];
                    self.rest = &self.rest[end + 1..];
                    name
                } else {
                    let len = self.peek().map_or(0, char::len_utf8);
                    let (name, rest) = self.rest.split_at(len);
                    self.rest = rest;
                    name
                };
                let (name, not) = match name.strip_prefix('^') {
                    Some(name) => (name, true),
                    None => (name, false),
                };
                let set = Ranges::named(name).ok_or_else(|| format!("the property `{name}`"))?;
                if not != (c == 'P') { set.negated() } else { set }
            }
            c => {
                let c = self.escaped_char(c)?;
                self.literal(c)
            }
        })
    }

    /// The character of an escape.
    fn escaped_char(&mut self, c: char) -> Result<char> {
        Ok(match c {
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'f' => '\u{c}',
            'v' => '\u{b}',
            'a' => '\u{7}',
            'e' => '\u{1b}',
            '0' => '\0',
            'x' | 'u' => {
                let digits = if self.eat("{") {
                    let end = self.rest.find('}').ok_or("a `{` without its `}`")?;
                    let digits = &self.rest[..end];
                    self.rest = &self.rest[end + 1..];
                    digits
                } else {
                    let len = if c == 'x' { 2 } else { 4 };
                    let digits = self.rest.get(..len).ok_or("an incomplete escape")?;
                    self.rest = &self.rest[len..];
                    digits
                };
                let code = u32::from_str_radix(digits, 16).ok().and_then(char::from_u32);
                code.ok_or_else(|| format!("the escape `\\{c}{digits}`"))?
            }
            c if c.is_ascii_alphanumeric() => return Err(format!("the escape `\\{c}`")),
            c => c,
        })
    }

    /// A class, whose `[` has been read.
    fn class(&mut self) -> Result<Ranges> {
        self.deeper()?;
        let negated = self.eat("^");
        let mut all: Option<Ranges> = None;
        let mut set = Ranges::default();
        let mut first = true;
        loop {
            if self.eat("&&") {
                set.normalize();
                all = Some(all.map_or_else(|| set.clone(), |a| a.intersection(&set)));
                set = Ranges::default();
                continue;
            }
            let c = self.next().ok_or("a `[` without its `]`")?;
            let low = match c {
                ']' if !first => break,
                '[' if self.rest.starts_with(':') => {
                    let end = self.rest.find(":]").ok_or("a `[:` without its `:]`")?;
                    let name = &self.rest[1..end];
                    self.rest = &self.rest[end + 2..];
                    let (name, not) = match name.strip_prefix('^') {
                        Some(name) => (name, true),
                        None => (name, false),
                    };
                    let part = Ranges::named(name).ok_or_else(|| format!("the class `{name}`"))?;
                    set.add(&if not { part.negated() } else { part });
                    first = false;
                    continue;
                }
                '[' => {
                    let inner = self.class()?;
                    set.add(&inner);
                    first = false;
                    continue;
                }
                '\\' => match self.peek() {
                    Some('s' | 'S' | 'd' | 'D' | 'w' | 'W' | 'p' | 'P') => {
                        let part = self.escape()?;
                        set.add(&part);
                        first = false;
                        continue;
                    }
                    Some('b') => {
                        self.next();
                        '\u{8}'
                    }
                    Some(c) => {
                        self.next();
                        self.escaped_char(c)?
                    }
                    None => return Err("a `\\` at the end".into()),
                },
                c => c,
            };
            first = false;
            let mut high = low;
            let mut ahead = self.rest.chars();
            if ahead.next() == Some('-') && !matches!(ahead.next(), None | Some(']' | '[')) {
                self.next();
                high = match self.next() {
                    Some('\\') => {
                        let c = self.next().ok_or("a `\\` at the end")?;
                        if matches!(c, 's' | 'S' | 'd' | 'D' | 'w' | 'W' | 'p' | 'P') {
                            return Err("a range to a class of characters".into());
                        }
                        self.escaped_char(c)?
                    }
                    Some(c) => c,
                    None => return Err("a `[` without its `]`".into()),
                };
                if high < low {
                    return Err(format!("the range {low}-{high}"));
                }
            }
            set.push(low as u32, high as u32);
        }
        set.normalize();
        if let Some(all) = all {
            set = all.intersection(&set);
        }
        if self.ignore_case {
            set.ignore_case();
        }
        self.depth -= 1;
        Ok(if negated { set.negated() } else { set })
    }
}

/// True if a part may match without taking a character.
pub(super) fn nullable(node: &Node) -> bool {
    match node {
        Node::Set(_) => false,
        Node::Cat(all) => all.iter().all(nullable),
        Node::Alt(all) => all.iter().any(nullable),
        Node::Repeat { node, min, .. } => *min == 0 || nullable(node),
        Node::Look { .. } | Node::Assert(_) => true,
        Node::Atomic(node) => nullable(node),
    }
}
