//! Regular expressions: from ECMAScript's syntax, which schemas use, to what llguidance's lexer reads.
//!
//! A pattern of a schema is searched for in the string that a JSON text stands for, and the lexer sees the
//! text: each character is replaced by the ways to write it.

use regex_syntax::hir::print::Printer;
use regex_syntax::hir::{Class, ClassUnicode, ClassUnicodeRange, Hir, HirKind, Look, Repetition};

use super::GrammarError;
use super::limits::MAX_BYTES;

/// Error of a regular expression, with the number of the character, from 1.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct PatternError {
    pub(super) column: usize,
    pub(super) message: String,
}

impl PatternError {
    fn new(column: usize, message: impl Into<String>) -> Self {
        PatternError { column, message: message.into() }
    }
}

/// Terminal for text that matches `regex` from beginning to end.
pub(super) fn whole(regex: &str) -> Result<String, GrammarError> {
    if regex.len() > MAX_BYTES {
        let what = "bytes of a regular expression";
        return Err(GrammarError::TooLarge { what, limit: MAX_BYTES });
    }
    let hir = without_anchors(regex, &Hir::empty());
    let hir = hir.map_err(|PatternError { column, message }| {
        let before: Vec<char> = regex.chars().take(column - 1).collect();
        let line = before.iter().filter(|&&c| c == '\n').count() + 1;
        let column = before.iter().rev().take_while(|&&c| c != '\n').count() + 1;
        GrammarError::Syntax { line, column, message }
    })?;
    Ok(terminal(&hir))
}

/// Expression for the inside of a JSON string, in which the pattern matches somewhere.
pub(super) fn inside(pattern: &str) -> Result<Hir, PatternError> {
    let any = ClassUnicode::new([ClassUnicodeRange::new('\0', char::MAX)]);
    let any = repeat(Hir::class(Class::Unicode(any)), 0, None);
    Ok(quoted(&without_anchors(pattern, &any)?))
}

/// `sub` at least `min` and at most `max` times.
pub(super) fn repeat(sub: Hir, min: u32, max: Option<u32>) -> Hir {
    Hir::repetition(Repetition { min, max, greedy: true, sub: Box::new(sub) })
}

/// One character of a JSON string, however it is written here: control characters by their short escapes, a
/// quotation mark and a backslash behind a backslash, and all others as they are.
pub(super) fn character() -> Hir {
    let any = ClassUnicode::new([ClassUnicodeRange::new('\0', char::MAX)]);
    quoted_class(&any)
}

/// Expression as a terminal of a grammar, in slashes.
pub(super) fn terminal(hir: &Hir) -> String {
    let mut printed = String::new();
    let _ = Printer::new().print(hir, &mut printed);
    let mut out = String::with_capacity(printed.len() + 2);
    out.push('/');
    for c in printed.chars() {
        match c {
            '/' => out.push_str("\\/"),
            c if c.is_control() => out.push_str(&format!("\\x{{{:x}}}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('/');
    out
}

/// Anchors that are looked at to find the one that is at fault.
const MAX_ANCHORS: usize = 16;

/// The expression without its anchors; `pad` stands where it has none.
fn without_anchors(regex: &str, pad: &Hir) -> Result<Hir, PatternError> {
    let translated = Translation::of(regex)?;
    if let Some(hir) = edges(&parse(&translated)?, pad) {
        return Ok(hir);
    }
    // The first one that is wrong with no others there.
    let wrong = translated.anchors.iter().take(MAX_ANCHORS).find(|&&(at, _)| {
        let alone = translated.with_anchor(at);
        parse(&alone).is_ok_and(|hir| edges(&hir, pad).is_none())
    });
    let column = wrong.or(translated.anchors.first()).map_or(1, |&(_, column)| column);
    Err(PatternError::new(column, "`^` and `$` are supported at its ends only"))
}

fn parse(translated: &Translation) -> Result<Hir, PatternError> {
    regex_syntax::Parser::new().parse(&translated.out).map_err(|e| {
        let (offset, message) = match &e {
            regex_syntax::Error::Parse(e) => (e.span().start.offset, e.kind().to_string()),
            regex_syntax::Error::Translate(e) => (e.span().start.offset, e.kind().to_string()),
            _ => (0, e.to_string()),
        };
        PatternError::new(translated.column(offset), message)
    })
}

/// Braces that are open.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Braces {
    No,
    /// Those of a property, such as `\p{L}`.
    Property,
    /// Those of a repetition.
    Repetition,
}

/// Regular expression in the syntax of the crate regex-syntax.
#[derive(Default)]
struct Translation {
    out: String,
    /// Offset in `out` and number of the character that stands there.
    columns: Vec<(usize, usize)>,
    /// The same of anchors.
    anchors: Vec<(usize, usize)>,
}

/// What ECMAScript means by `\s`.
const SPACE: &str = r"\t\n\x0B\x0C\r\u{A0}\u{FEFF}\u{2028}\u{2029}\p{Zs}";

impl Translation {
    fn column(&self, offset: usize) -> usize {
        let next = self.columns.partition_point(|&(at, _)| at <= offset);
        next.checked_sub(1).map_or(1, |i| self.columns[i].1)
    }

    /// The same without the anchors but the one at an offset.
    fn with_anchor(&self, at: usize) -> Translation {
        let mut out = String::with_capacity(self.out.len());
        let mut done = 0;
        for &(other, _) in self.anchors.iter().filter(|&&(other, _)| other != at) {
            out.push_str(&self.out[done..other]);
            out.push_str("(?:)");
            done = other + 1;
        }
        out.push_str(&self.out[done..]);
        Translation { out, ..Translation::default() }
    }

    fn of(regex: &str) -> Result<Translation, PatternError> {
        let chars: Vec<char> = regex.chars().collect();
        let mut to = Translation { out: String::with_capacity(regex.len()), ..Default::default() };
        let (mut class, mut braces) = (false, Braces::No);
        // True behind a sign by which something is repeated.
        let mut repeated = false;
        let mut i = 0;
        while i < chars.len() {
            let c = chars[i];
            let column = i + 1;
            to.columns.push((to.out.len(), column));
            let next = chars.get(i + 1).copied();
            let before = std::mem::take(&mut repeated);
            match c {
                '\\' => {
                    i += to.escape(&chars[i..], column, class)?;
                    if matches!((next, class), (Some('p' | 'P'), false)) {
                        braces = Braces::Property;
                    }
                    continue;
                }
                '[' if !class => {
                    class = true;
                    to.out.push('[');
                    if next == Some('^') {
                        to.out.push('^');
                        i += 1;
                    }
                    if chars.get(i + 1) == Some(&']') {
                        return Err(PatternError::new(column, "a class of no characters"));
                    }
                }
                ']' if class => {
                    class = false;
                    to.out.push(']');
                }
                // These have a meaning within classes of the other syntax only.
                '[' | '&' | '~' if class => to.out.extend(['\\', c]),
                '-' if class && next == Some('-') => {
                    return Err(PatternError::new(column, "two hyphens in a class: escape one"));
                }
                _ if class => to.out.push(c),
                '.' => to.out.push_str(r"[^\n\r\u{2028}\u{2029}]"),
                '(' => i += to.group(&chars[i..], column)?,
                '{' if next == Some(',') => {
                    return Err(PatternError::new(column, "a repetition without a minimum"));
                }
                '+' if before => {
                    let message =
                        "repetitions that give nothing back (`++`) aren't supported: write a group";
                    return Err(PatternError::new(column, message));
                }
                _ => {
                    match c {
                        '^' | '$' => to.anchors.push((to.out.len(), column)),
                        '{' if braces == Braces::No => braces = Braces::Repetition,
                        '}' => {
                            repeated =
                                std::mem::replace(&mut braces, Braces::No) == Braces::Repetition
                        }
                        '*' | '+' | '?' => repeated = true,
                        _ => {}
                    }
                    to.out.push(c);
                }
            }
            i += 1;
        }
        Ok(to)
    }

    /// An opening parenthesis; returns the number of further characters.
    fn group(&mut self, rest: &[char], column: usize) -> Result<usize, PatternError> {
        // No group is captured.
        self.out.push_str("(?:");
        if rest.get(1) != Some(&'?') {
            return Ok(0);
        }
        let refused = |what| Err(PatternError::new(column, what));
        match (rest.get(2), rest.get(3)) {
            (Some(':'), _) => Ok(2),
            (Some('=' | '!'), _) => refused("lookahead isn't supported"),
            (Some('<'), Some('=' | '!')) => refused("lookbehind isn't supported"),
            (Some('<'), _) => match rest.iter().position(|&c| c == '>') {
                Some(end) => Ok(end),
                None => refused("the name of a group has no end"),
            },
            _ => refused("groups with flags aren't supported"),
        }
    }

    /// A backslash and what it escapes; returns their number of characters.
    fn escape(&mut self, rest: &[char], column: usize, class: bool) -> Result<usize, PatternError> {
        let refused = |what: String| Err(PatternError::new(column, what));
        let Some(&c) = rest.get(1) else { return refused("a backslash at the end".into()) };
        let bracket = |set: &str| if class { set.to_string() } else { format!("[{set}]") };
        match c {
            'd' => self.out.push_str(&bracket("0-9")),
            'w' => self.out.push_str(&bracket("0-9A-Za-z_")),
            's' => self.out.push_str(&bracket(SPACE)),
            'D' => self.out.push_str("[^0-9]"),
            'W' => self.out.push_str("[^0-9A-Za-z_]"),
            'S' => self.out.push_str(&format!("[^{SPACE}]")),
            't' | 'n' | 'r' | 'f' | 'v' => self.out.extend(['\\', c]),
            'b' if class => self.out.push_str(r"\x08"),
            'b' | 'B' => return refused(format!("word boundaries (\\{c}) aren't supported")),
            '0' if !rest.get(2).is_some_and(char::is_ascii_digit) => self.out.push_str(r"\x00"),
            '0'..='9' => return refused(format!("back-references (\\{c}) aren't supported")),
            'x' | 'u' => return self.code(rest, column),
            'p' | 'P' => match rest.get(2) {
                Some('{') => self.out.extend(['\\', c]),
                _ => return refused(format!("\\{c} needs a property in braces")),
            },
            c if c.is_alphanumeric() => {
                return refused(format!("the escape \\{c} isn't supported"));
            }
            c if c.is_ascii() => self.out.extend(['\\', c]),
            c => self.out.push(c),
        }
        Ok(2)
    }

    /// A character by its code: `\x7F`, `\u007F`, a pair of surrogates, or `\u{7F}`.
    fn code(&mut self, rest: &[char], column: usize) -> Result<usize, PatternError> {
        let hex = |from: usize, n: usize| {
            let digits = rest.get(from..from + n)?;
            let valid = digits.iter().all(char::is_ascii_hexdigit);
            let text: String = digits.iter().collect();
            valid.then(|| u32::from_str_radix(&text, 16).ok()).flatten()
        };
        let (code, length) = match rest[1] {
            'x' => (hex(2, 2), 4),
            _ if rest.get(2) == Some(&'{') => match rest.iter().position(|&c| c == '}') {
                Some(end) if (4..=9).contains(&end) => (hex(3, end - 3), end + 1),
                _ => (None, 0),
            },
            _ => match (hex(2, 4), hex(8, 4)) {
                (Some(high @ 0xd800..=0xdbff), Some(low @ 0xdc00..=0xdfff))
                    if rest.get(6..8) == Some(&['\\', 'u']) =>
                {
                    (Some(0x1_0000 + ((high - 0xd800) << 10) + (low - 0xdc00)), 12)
                }
                (code, _) => (code, 6),
            },
        };
        match code.and_then(char::from_u32) {
            Some(c) => {
                self.out.push_str(&format!("\\u{{{:X}}}", c as u32));
                Ok(length)
            }
            None => Err(PatternError::new(column, "an escape that is no character")),
        }
    }
}

/// The expression without anchors: `pad` stands in front where it has no `^`, and behind where it has no `$`.
/// `None` if there is one within.
fn edges(hir: &Hir, pad: &Hir) -> Option<Hir> {
    let hir = edge(hir, pad, Look::Start);
    let hir = edge(&hir, pad, Look::End);
    hir.properties().look_set().is_empty().then_some(hir)
}

fn edge(hir: &Hir, pad: &Hir, look: Look) -> Hir {
    let has = |hir: &Hir| hir.properties().look_set().contains(look);
    let start = look == Look::Start;
    let padded = |hir: &Hir| match start {
        true => Hir::concat(vec![pad.clone(), hir.clone()]),
        false => Hir::concat(vec![hir.clone(), pad.clone()]),
    };
    if !has(hir) {
        return padded(hir);
    }
    match hir.kind() {
        HirKind::Look(_) => Hir::empty(),
        HirKind::Capture(group) => edge(&group.sub, pad, look),
        HirKind::Alternation(subs) => {
            Hir::alternation(subs.iter().map(|sub| edge(sub, pad, look)).collect())
        }
        HirKind::Concat(subs) => {
            let mut subs = subs.clone();
            if !start {
                subs.reverse();
            }
            let anchors = subs.iter().take_while(|sub| *sub.kind() == HirKind::Look(look)).count();
            subs.drain(..anchors);
            if anchors == 0 {
                match has(&subs[0]) {
                    true => subs[0] = edge(&subs[0], pad, look),
                    false => subs.insert(0, pad.clone()),
                }
            }
            if !start {
                subs.reverse();
            }
            Hir::concat(subs)
        }
        _ => padded(hir),
    }
}

/// The expression for strings as they are written in JSON.
fn quoted(hir: &Hir) -> Hir {
    let all = |subs: &[Hir]| subs.iter().map(quoted).collect();
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => hir.clone(),
        HirKind::Literal(literal) => match core::str::from_utf8(&literal.0) {
            Ok(text) => Hir::concat(text.chars().map(quoted_char).collect()),
            Err(_) => Hir::fail(),
        },
        HirKind::Class(Class::Unicode(class)) => quoted_class(class),
        HirKind::Class(Class::Bytes(class)) => match class.to_unicode_class() {
            Some(class) => quoted_class(&class),
            None => Hir::fail(),
        },
        HirKind::Repetition(r) => Hir::repetition(r.with(quoted(&r.sub))),
        HirKind::Capture(group) => quoted(&group.sub),
        HirKind::Concat(subs) => Hir::concat(all(subs)),
        HirKind::Alternation(subs) => Hir::alternation(all(subs)),
    }
}

/// Characters that JSON has a short escape for.
const ESCAPES: [(char, &str); 7] = [
    ('"', "\\\""),
    ('\\', "\\\\"),
    ('\n', "\\n"),
    ('\r', "\\r"),
    ('\t', "\\t"),
    ('\u{8}', "\\b"),
    ('\u{c}', "\\f"),
];

fn quoted_char(c: char) -> Hir {
    match ESCAPES.iter().find(|e| e.0 == c) {
        Some((_, escape)) => Hir::literal(escape.as_bytes()),
        // Other control characters are not written.
        None if c < ' ' => Hir::fail(),
        None => Hir::literal(c.to_string().as_bytes()),
    }
}

fn quoted_class(class: &ClassUnicode) -> Hir {
    let has = |c: char| class.iter().any(|range| (range.start()..=range.end()).contains(&c));
    let escapes = ESCAPES.iter().filter(|&&(c, _)| has(c));
    let mut options: Vec<Hir> =
        escapes.map(|(_, escape)| Hir::literal(escape.as_bytes())).collect();
    let mut plain = class.clone();
    plain.difference(&ClassUnicode::new([
        ClassUnicodeRange::new('\0', '\u{1f}'),
        ClassUnicodeRange::new('"', '"'),
        ClassUnicodeRange::new('\\', '\\'),
        // JSON allows it, and nobody wants it.
        ClassUnicodeRange::new('\u{7f}', '\u{7f}'),
    ]));
    if !plain.ranges().is_empty() {
        options.push(Hir::class(Class::Unicode(plain)));
    }
    Hir::alternation(options)
}
