//! A small engine for the regular expressions of pre-tokenizers and normalizers.
//!
//! A pattern becomes a program, which a backtracking machine runs without recursion except into
//! look-arounds and atomic groups. What such patterns are made of is fast: repetitions of one set of
//! characters are single instructions, and alternatives are chosen by the next character where their
//! first sets allow it. Every search counts its steps, so that no pattern from a file can take more
//! than [`STEPS_PER_BYTE`] of them for each byte of a text.

mod parse;
mod set;
mod tables;

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use parse::{Assert, Mode, Node, UNBOUNDED, nullable};
use set::{Ranges, Set};

/// Maximum number of steps for each byte of a text, besides [`STEPS`].
const STEPS_PER_BYTE: u64 = 256;
const STEPS: u64 = 1 << 20;
/// Maximum number of points to return to for each byte of a text, besides [`FRAMES`].
const FRAMES_PER_BYTE: usize = 8;
const FRAMES: usize = 4096;
/// Maximum length of a pattern in bytes; the longest in use have some 1200.
const MAX_PATTERN: usize = 8192;
/// Maximum number of instructions of a program.
const MAX_PROGRAM: usize = 10_000;

/// The error of a search that takes too many steps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct TooManySteps;

#[derive(Clone, Copy, Debug)]
enum Inst {
    /// One character.
    Set(u16),
    /// A repetition of one set of characters.
    Run {
        set: u16,
        min: u32,
        max: u32,
        mode: Mode,
    },
    /// The branches from `first` on, in order.
    Branch {
        first: u32,
        len: u32,
    },
    Jump(u32),
    /// A look-around, whose program follows and ends before `end`. `back` is the number of
    /// characters to go back first.
    Look {
        back: u32,
        negated: bool,
        end: u32,
    },
    /// An atomic group, whose program follows and ends before `end`.
    Atomic {
        end: u32,
    },
    Assert(Assert),
    Match,
}

/// A branch: the set of its first characters, or [`ANY`], and its program.
#[derive(Clone, Copy, Debug)]
struct Branch {
    set: u16,
    pc: u32,
}

const ANY: u16 = u16::MAX;

/// A compiled pattern.
#[derive(Clone)]
pub(super) struct Regex {
    pattern: Box<str>,
    program: Vec<Inst>,
    branches: Vec<Branch>,
    sets: Vec<Set>,
    /// The set of characters that a match can start with, or [`ANY`].
    first: u16,
    /// Index of the set of word characters, if an assertion needs it.
    word: u16,
}

impl fmt::Debug for Regex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.pattern.fmt(f)
    }
}

/// A point to return to.
#[derive(Clone, Copy, Debug)]
enum Frame {
    /// The branches of the instruction at `pc` from `next` on.
    Branch { pc: u32, next: u32, pos: usize },
    /// A greedy run that may end anywhere from `low` to before `pos`.
    Shorter { pc: u32, low: usize, pos: usize },
    /// A lazy run, which may take `left` more characters.
    Longer { pc: u32, left: u32, pos: usize },
}

/// Reusable memory of searches.
#[derive(Clone, Debug, Default)]
pub(super) struct RegexScratch {
    stack: Vec<Frame>,
}

/// A set of characters by itself.
#[derive(Clone, Debug)]
pub(super) struct CharSet(Set);

impl CharSet {
    /// Word characters as in the `regex` crate, by which the `tokenizers` library finds whole words.
    pub(super) fn word() -> Self {
        let mut word = set::word();
        word.push(0x200c, 0x200d);
        word.normalize();
        let mut other = Ranges::default();
        "²³¹¼½¾".chars().for_each(|c| other.push(c as u32, c as u32));
        other.normalize();
        CharSet(word.intersection(&other.negated()).compile())
    }

    /// The characters of these categories.
    pub(super) fn categories(names: &[&str]) -> Self {
        let mut all = Ranges::default();
        for name in names {
            all.add(&Ranges::named(name).unwrap_or_default());
        }
        CharSet(all.compile())
    }

    #[inline]
    pub(super) fn contains(&self, c: char) -> bool {
        self.0.contains(c)
    }
}

/// The steps that remain for a text.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Budget(u64);

impl Budget {
    /// The budget of all searches in a text of `bytes`.
    pub(super) fn new(bytes: usize) -> Self {
        Budget(STEPS + STEPS_PER_BYTE.saturating_mul(bytes as u64))
    }

    /// A smaller one, for the tokens of a file, which have `bytes`.
    pub(super) fn of_tokens(bytes: usize) -> Self {
        Budget(4096 + (STEPS_PER_BYTE / 16).saturating_mul(bytes as u64))
    }

    #[inline]
    fn take(&mut self, steps: u64) -> Result<(), TooManySteps> {
        match self.0.checked_sub(steps) {
            Some(left) => {
                self.0 = left;
                Ok(())
            }
            None => Err(TooManySteps),
        }
    }
}

/// The character at `pos` and the position after it.
#[inline]
fn char_at(text: &str, pos: usize) -> Option<(char, usize)> {
    let byte = *text.as_bytes().get(pos)?;
    if byte < 128 {
        return Some((byte as char, pos + 1));
    }
    let c = text[pos..].chars().next()?;
    Some((c, pos + c.len_utf8()))
}

/// The character before `pos` and its position.
fn char_before(text: &str, pos: usize) -> Option<(char, usize)> {
    let c = text[..pos].chars().next_back()?;
    Some((c, pos - c.len_utf8()))
}

impl Regex {
    /// Compiles a pattern; the error names the part that can't be used.
    pub(super) fn new(pattern: &str) -> Result<Regex, String> {
        if pattern.len() > MAX_PATTERN {
            return Err(format!("its length of {} bytes", pattern.len()));
        }
        let node = parse::parse(pattern)?;
        let mut regex = Regex {
            pattern: pattern.into(),
            program: Vec::new(),
            branches: Vec::new(),
            sets: Vec::new(),
            first: ANY,
            word: ANY,
        };
        let mut compiler = Compiler { regex: &mut regex, ranges: Vec::new() };
        compiler.compile(&node)?;
        compiler.push(Inst::Match)?;
        let first = compiler.first_set(&node)?;
        regex.first = first;
        Ok(regex)
    }

    /// The first match in `text` that starts at or after `from`, which is on a character boundary.
    pub(super) fn find(
        &self,
        text: &str,
        from: usize,
        scratch: &mut RegexScratch,
        budget: &mut Budget,
    ) -> Result<Option<(usize, usize)>, TooManySteps> {
        let mut start = from;
        loop {
            if self.first != ANY {
                let set = &self.sets[usize::from(self.first)];
                let from = start;
                start = loop {
                    match char_at(text, start) {
                        None => {
                            budget.take((start - from) as u64)?;
                            return Ok(None);
                        }
                        Some((c, _)) if set.contains(c) => break start,
                        Some((_, next)) => start = next,
                    }
                };
                budget.take((start - from) as u64)?;
            }
            scratch.stack.clear();
            if let Some(end) = self.run(text, 0, start, &mut scratch.stack, budget)? {
                return Ok(Some((start, end)));
            }
            // A run at the start of the pattern that didn't lead to a match doesn't when it is
            // shorter at its start either.
            if let Some(Inst::Run { set, max: UNBOUNDED, mode: Mode::Greedy, .. }) =
                self.program.first()
            {
                let set = &self.sets[usize::from(*set)];
                let from = start;
                while let Some((c, next)) = char_at(text, start) {
                    if !set.contains(c) {
                        break;
                    }
                    start = next;
                }
                if start > from {
                    budget.take((start - from) as u64)?;
                    continue;
                }
            }
            match char_at(text, start) {
                Some((_, next)) => start = next,
                None => return Ok(None),
            }
        }
    }

    /// Runs the program from `pc` at `pos`: the end of the preferred match.
    fn run(
        &self,
        text: &str,
        pc: usize,
        pos: usize,
        stack: &mut Vec<Frame>,
        budget: &mut Budget,
    ) -> Result<Option<usize>, TooManySteps> {
        let base = stack.len();
        let (mut pc, mut pos) = (pc, pos);
        // The first branch to consider at a `Branch`.
        let mut next = 0;
        let most_frames = FRAMES + FRAMES_PER_BYTE.saturating_mul(text.len());
        loop {
            budget.take(1)?;
            if stack.len() > most_frames {
                return Err(TooManySteps);
            }
            let matched = match self.program[pc] {
                Inst::Match => {
                    stack.truncate(base);
                    return Ok(Some(pos));
                }
                Inst::Set(set) => match char_at(text, pos) {
                    Some((c, after)) if self.sets[usize::from(set)].contains(c) => {
                        pos = after;
                        pc += 1;
                        true
                    }
                    _ => false,
                },
                Inst::Run { set, min, max, mode } => {
                    let set = &self.sets[usize::from(set)];
                    let most = if mode == Mode::Lazy { min } else { max };
                    let (start, mut low, mut count) = (pos, pos, 0);
                    while count < most {
                        match char_at(text, pos) {
                            Some((c, after)) if set.contains(c) => pos = after,
                            _ => break,
                        }
                        count += 1;
                        if count == min {
                            low = pos;
                        }
                    }
                    budget.take((pos - start) as u64)?;
                    if count >= min {
                        let here = pc as u32;
                        match mode {
                            Mode::Greedy if pos > low => {
                                stack.push(Frame::Shorter { pc: here, low, pos });
                            }
                            Mode::Lazy if max > min => {
                                let left = if max == UNBOUNDED { max } else { max - min };
                                stack.push(Frame::Longer { pc: here, left, pos });
                            }
                            _ => {}
                        }
                        pc += 1;
                    }
                    count >= min
                }
                Inst::Branch { first, len } => {
                    let all = &self.branches[first as usize..(first + len) as usize];
                    let c = char_at(text, pos).map(|(c, _)| c);
                    let fits = |b: &Branch| {
                        b.set == ANY || c.is_some_and(|c| self.sets[usize::from(b.set)].contains(c))
                    };
                    let from = core::mem::take(&mut next);
                    match all[from..].iter().position(fits) {
                        Some(at) => {
                            let chosen = from + at;
                            if chosen + 1 < all.len() {
                                let (pc, next) = (pc as u32, chosen as u32 + 1);
                                stack.push(Frame::Branch { pc, next, pos });
                            }
                            pc = all[chosen].pc as usize;
                            true
                        }
                        None => false,
                    }
                }
                Inst::Jump(to) => {
                    pc = to as usize;
                    true
                }
                Inst::Look { back, negated, end } => {
                    let mut from = Some(pos);
                    for _ in 0..back {
                        from = from.and_then(|p| char_before(text, p)).map(|(_, p)| p);
                    }
                    let found = match from {
                        Some(from) => self.run(text, pc + 1, from, stack, budget)?.is_some(),
                        None => false,
                    };
                    pc = end as usize;
                    found != negated
                }
                Inst::Atomic { end } => match self.run(text, pc + 1, pos, stack, budget)? {
                    Some(after) => {
                        (pc, pos) = (end as usize, after);
                        true
                    }
                    None => false,
                },
                Inst::Assert(assert) => {
                    pc += 1;
                    self.holds(assert, text, pos)
                }
            };
            if matched {
                continue;
            }
            loop {
                if stack.len() == base {
                    return Ok(None);
                }
                match stack.pop() {
                    None => return Ok(None),
                    Some(Frame::Branch { pc: at, next: n, pos: p }) => {
                        (pc, pos, next) = (at as usize, p, n as usize);
                    }
                    Some(Frame::Shorter { pc: at, low, pos: p }) => {
                        let shorter = char_before(text, p).map_or(low, |(_, p)| p);
                        if shorter > low {
                            stack.push(Frame::Shorter { pc: at, low, pos: shorter });
                        }
                        (pc, pos) = (at as usize + 1, shorter);
                    }
                    Some(Frame::Longer { pc: at, left, pos: p }) => {
                        let Inst::Run { set, .. } = self.program[at as usize] else { continue };
                        let Some((_, after)) = char_at(text, p)
                            .filter(|&(c, _)| self.sets[usize::from(set)].contains(c))
                        else {
                            continue;
                        };
                        let left = if left == UNBOUNDED { left } else { left - 1 };
                        if left > 0 {
                            stack.push(Frame::Longer { pc: at, left, pos: after });
                        }
                        (pc, pos) = (at as usize + 1, after);
                    }
                }
                break;
            }
        }
    }

    fn holds(&self, assert: Assert, text: &str, pos: usize) -> bool {
        let before = || char_before(text, pos).map(|(c, _)| c);
        let after = || char_at(text, pos).map(|(c, _)| c);
        let word = |c: Option<char>| {
            c.is_some_and(|c| self.sets.get(usize::from(self.word)).is_some_and(|s| s.contains(c)))
        };
        match assert {
            Assert::TextStart => pos == 0,
            Assert::TextEnd => pos == text.len(),
            Assert::LastLineEnd => matches!(&text[pos..], "" | "\n"),
            Assert::LineStart => pos == 0 || (before() == Some('\n') && pos < text.len()),
            Assert::LineEnd => matches!(after(), None | Some('\n')),
            Assert::WordBoundary => word(before()) != word(after()),
            Assert::NoWordBoundary => word(before()) == word(after()),
        }
    }

    /// Memory in use, in bytes.
    pub(super) fn memory(&self) -> usize {
        let code = size_of::<Inst>() * self.program.capacity()
            + size_of::<Branch>() * self.branches.capacity();
        let sets: usize = self.sets.iter().map(Set::memory).sum();
        size_of::<Self>() + self.pattern.len() + code + sets
    }
}

struct Compiler<'r> {
    regex: &'r mut Regex,
    /// The sets of `regex`, as ranges.
    ranges: Vec<Ranges>,
}

impl Compiler<'_> {
    fn push(&mut self, inst: Inst) -> Result<usize, String> {
        let at = self.regex.program.len();
        if at >= MAX_PROGRAM {
            return Err("its length, repetitions written out".into());
        }
        self.regex.program.push(inst);
        Ok(at)
    }

    fn here(&self) -> u32 {
        self.regex.program.len() as u32
    }

    fn set(&mut self, ranges: &Ranges) -> Result<u16, String> {
        if let Some(at) = self.ranges.iter().position(|r| r == ranges) {
            return Ok(at as u16);
        }
        if self.ranges.len() >= 1000 {
            return Err("its number of classes".into());
        }
        self.ranges.push(ranges.clone());
        self.regex.sets.push(ranges.compile());
        Ok(self.ranges.len() as u16 - 1)
    }

    /// The set of characters that a match of `node` starts with; [`ANY`] if it may be empty.
    fn first_set(&mut self, node: &Node) -> Result<u16, String> {
        match first(node) {
            Some(ranges) => self.set(&ranges),
            None => Ok(ANY),
        }
    }

    fn compile(&mut self, node: &Node) -> Result<(), String> {
        match node {
            Node::Set(ranges) => {
                let set = self.set(ranges)?;
                self.push(Inst::Set(set))?;
            }
            Node::Cat(all) => {
                for (i, part) in all.iter().enumerate() {
                    let rest = &all[i + 1..];
                    match part {
                        // A run that what follows it can't start within is never shortened.
                        Node::Repeat { node, min, max, mode: Mode::Greedy }
                            if excludes(node, rest) =>
                        {
                            self.repeat(node, *min, *max, Mode::Possessive)?;
                        }
                        part => self.compile(part)?,
                    }
                }
            }
            Node::Alt(all) => {
                let mut sets = Vec::with_capacity(all.len());
                for part in all {
                    sets.push(self.first_set(part)?);
                }
                let mut parts = all.iter();
                self.branches(&sets, |compiler, _| match parts.next() {
                    Some(part) => compiler.compile(part),
                    None => Ok(()),
                })?;
            }
            Node::Repeat { node, min, max, mode } => self.repeat(node, *min, *max, *mode)?,
            Node::Atomic(inner) => self.atomic(|compiler| compiler.compile(inner))?,
            Node::Look { node, ahead: true, negated } => self.look(node, 0, *negated)?,
            Node::Look { node, negated, .. } => {
                let one = core::slice::from_ref(&**node);
                let all = if let Node::Alt(all) = &**node { &all[..] } else { one };
                let width = |n: &Node| width(n).ok_or("a look-behind of several lengths");
                let widths = all.iter().map(width).collect::<Result<Vec<_>, _>>()?;
                if *negated {
                    for (part, back) in all.iter().zip(widths) {
                        self.look(part, back, true)?;
                    }
                } else {
                    self.branches(&vec![ANY; all.len()], |compiler, i| {
                        compiler.look(&all[i], widths[i], false)
                    })?;
                }
            }
            Node::Assert(assert) => {
                if matches!(assert, Assert::WordBoundary | Assert::NoWordBoundary) {
                    self.regex.word = self.set(&set::word())?;
                }
                self.push(Inst::Assert(*assert))?;
            }
        }
        Ok(())
    }

    /// Compiles branches with these first sets, each of which goes on after all of them.
    fn branches(
        &mut self,
        sets: &[u16],
        mut part: impl FnMut(&mut Self, usize) -> Result<(), String>,
    ) -> Result<(), String> {
        let first = self.regex.branches.len();
        self.push(Inst::Branch { first: first as u32, len: sets.len() as u32 })?;
        self.regex.branches.extend(sets.iter().map(|&set| Branch { set, pc: 0 }));
        let mut jumps = Vec::new();
        for i in 0..sets.len() {
            self.regex.branches[first + i].pc = self.here();
            part(self, i)?;
            if i + 1 < sets.len() {
                jumps.push(self.push(Inst::Jump(0))?);
            }
        }
        let end = self.here();
        for at in jumps {
            self.regex.program[at] = Inst::Jump(end);
        }
        Ok(())
    }

    fn atomic(
        &mut self,
        inner: impl FnOnce(&mut Self) -> Result<(), String>,
    ) -> Result<(), String> {
        let at = self.push(Inst::Atomic { end: 0 })?;
        inner(self)?;
        self.push(Inst::Match)?;
        self.regex.program[at] = Inst::Atomic { end: self.here() };
        Ok(())
    }

    fn look(&mut self, node: &Node, back: u32, negated: bool) -> Result<(), String> {
        let at = self.push(Inst::Match)?;
        self.compile(node)?;
        self.push(Inst::Match)?;
        self.regex.program[at] = Inst::Look { back, negated, end: self.here() };
        Ok(())
    }

    fn repeat(&mut self, node: &Node, min: u32, max: u32, mode: Mode) -> Result<(), String> {
        if let Node::Set(ranges) = node {
            let set = self.set(ranges)?;
            self.push(Inst::Run { set, min, max, mode })?;
            return Ok(());
        }
        if mode == Mode::Possessive {
            return self.atomic(|compiler| compiler.repeat(node, min, max, Mode::Greedy));
        }
        for _ in 0..min {
            self.compile(node)?;
        }
        let set = self.first_set(node)?;
        let lazy = mode == Mode::Lazy;
        // Of the two branches of each step, the one that goes on comes first unless it is lazy.
        let mut ends = Vec::new();
        let start = self.here();
        let steps = if max == UNBOUNDED { 1 } else { max - min };
        for _ in 0..steps {
            let first = self.regex.branches.len();
            self.push(Inst::Branch { first: first as u32, len: 2 })?;
            let body = Branch { set, pc: self.here() };
            let exit = Branch { set: ANY, pc: 0 };
            self.regex.branches.extend(if lazy { [exit, body] } else { [body, exit] });
            ends.push(first + usize::from(!lazy));
            self.compile(node)?;
        }
        if max == UNBOUNDED {
            self.push(Inst::Jump(start))?;
        }
        let end = self.here();
        for at in ends {
            self.regex.branches[at].pc = end;
        }
        Ok(())
    }
}

/// The characters that a match starts with; `None` if it may be empty.
fn first(node: &Node) -> Option<Ranges> {
    match node {
        Node::Set(ranges) => Some(ranges.clone()),
        Node::Cat(all) => {
            let mut out = Ranges::default();
            for part in all {
                match part {
                    Node::Look { .. } | Node::Assert(_) => {}
                    Node::Repeat { node, min: 0, .. } => out.add(&first(node)?),
                    part => {
                        out.add(&first(part)?);
                        return Some(out);
                    }
                }
            }
            None
        }
        Node::Alt(all) => {
            let mut out = Ranges::default();
            for part in all {
                out.add(&first(part)?);
            }
            Some(out)
        }
        Node::Repeat { min: 0, .. } | Node::Look { .. } | Node::Assert(_) => None,
        Node::Repeat { node, .. } | Node::Atomic(node) => first(node),
    }
}

/// True if `rest` takes a character, and its first is none of `node`, a set.
fn excludes(node: &Node, rest: &[Node]) -> bool {
    let Node::Set(ranges) = node else { return false };
    let Some(at) = rest.iter().position(|part| !nullable(part)) else { return false };
    let rest = Node::Cat(rest[..=at].to_vec());
    first(&rest).is_some_and(|f| f.intersection(ranges) == Ranges::default())
}

/// The number of characters of every match; `None` if they differ.
fn width(node: &Node) -> Option<u32> {
    match node {
        Node::Set(_) => Some(1),
        Node::Cat(all) => all.iter().try_fold(0u32, |sum, part| sum.checked_add(width(part)?)),
        Node::Alt(all) => {
            let mut widths = all.iter().map(width);
            let first = widths.next()??;
            widths.all(|w| w == Some(first)).then_some(first)
        }
        Node::Repeat { node, min, max, .. } if min == max => width(node)?.checked_mul(*min),
        Node::Repeat { .. } => None,
        Node::Look { .. } | Node::Assert(_) => Some(0),
        Node::Atomic(node) => width(node),
    }
}

#[cfg(test)]
mod tests;
