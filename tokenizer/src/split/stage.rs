//! The steps of pre-tokenizers that only cut a text: by patterns, by digits, by punctuation.

use alloc::string::String;
use alloc::vec::Vec;

use super::super::regex::{Budget, Regex, RegexScratch, TooManySteps};
use super::super::unicode::{Class, class};
use super::Fast;

/// Treatment of the matches of a pattern.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in super::super) enum Behavior {
    /// They are left out.
    Removed,
    /// Each is a piece.
    Isolated,
    /// Each belongs to the piece before it.
    MergedWithPrevious,
    /// Each belongs to the piece after it.
    MergedWithNext,
    /// Adjacent ones are one piece.
    Contiguous,
}

/// A step as it is written, before its pattern is compiled.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in super::super) enum Step {
    /// One of the rules that have code of their own.
    Fast(Fast),
    /// A regular expression, and whether the text between its matches is what counts as a match.
    Pattern { pattern: String, behavior: Behavior, invert: bool },
    /// Each number (`\p{N}`) alone, or runs of them.
    Digits { individual: bool },
    /// Numbers in groups of three from their end.
    Thousands(Thousands),
}

/// The patterns that cut numbers into groups of three, whose look-ahead would read a number again for
/// each of its digits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in super::super) enum Thousands {
    /// `(?=(\d{3})+(?!\d))`, an empty match before each group of three.
    Before,
    /// `\d{1,3}(?=(?:\d{3})*\b)`: groups, if no word character follows the number.
    Words,
    /// AFMoE: groups of any numbers (`\p{N}`).
    Numbers,
}

impl Thousands {
    /// The cuts with this pattern.
    fn of_pattern(pattern: &str) -> Option<Self> {
        Some(match pattern {
            r"(?=(\d{3})+(?!\d))" | r"(?=(?:\d{3})+(?!\d))" => Thousands::Before,
            r"\d{1,3}(?=(?:\d{3})*\b)" => Thousands::Words,
            _ => return None,
        })
    }
}

impl Step {
    /// A pattern each of whose matches is a piece.
    pub(in super::super) fn isolated(pattern: impl Into<String>) -> Self {
        Step::pattern(pattern.into(), Behavior::Isolated, false)
    }

    /// The step of a pattern, with code of its own if there is some.
    pub(in super::super) fn pattern(pattern: String, behavior: Behavior, invert: bool) -> Self {
        // These patterns match all of a text, or nothing twice in a row.
        let plain = behavior == Behavior::Isolated && !invert;
        if let Some(fast) = Fast::of_pattern(&pattern).filter(|_| plain) {
            return Step::Fast(fast);
        }
        if let Some(cut) = Thousands::of_pattern(&pattern).filter(|_| plain) {
            return Step::Thousands(cut);
        }
        Step::Pattern { pattern, behavior, invert }
    }

    /// Compiles the step; the error names what can't be used.
    pub(in super::super) fn compile(&self) -> Result<Stage, String> {
        Ok(match self {
            Step::Fast(fast) => Stage::Fast(*fast),
            Step::Pattern { pattern, behavior, invert } => {
                Stage::Pattern { regex: Regex::new(pattern)?, behavior: *behavior, invert: *invert }
            }
            Step::Digits { individual } => Stage::Digits { individual: *individual },
            Step::Thousands(Thousands::Words) => Stage::Thousands {
                cut: Thousands::Words,
                digit: Regex::new(r"\d+")?,
                word: Some(Regex::new(r"\w")?),
            },
            Step::Thousands(cut) => {
                let digits = if *cut == Thousands::Numbers { r"\p{N}+" } else { r"\d+" };
                Stage::Thousands { cut: *cut, digit: Regex::new(digits)?, word: None }
            }
        })
    }
}

/// A step, ready to cut texts.
#[derive(Clone, Debug)]
pub(in super::super) enum Stage {
    Fast(Fast),
    Pattern { regex: Regex, behavior: Behavior, invert: bool },
    Digits { individual: bool },
    Thousands { cut: Thousands, digit: Regex, word: Option<Regex> },
}

/// A piece of a text: its start and end in bytes.
pub(in super::super) type Piece = (usize, usize);

/// Reusable memory of cutting.
#[derive(Clone, Debug, Default)]
pub(in super::super) struct CutScratch {
    /// The steps that remain for the text.
    pub(in super::super) budget: Budget,
    regex: RegexScratch,
    pieces: Vec<Piece>,
    next: Vec<Piece>,
    /// Matches and the text between them.
    parts: Vec<(usize, usize, bool)>,
}

impl CutScratch {
    /// The pieces of a text after all stages, as positions in it.
    pub(in super::super) fn cut(
        &mut self,
        stages: &[Stage],
        text: &str,
    ) -> Result<&[Piece], TooManySteps> {
        let CutScratch { budget, regex, pieces, next, parts } = self;
        pieces.clear();
        pieces.push((0, text.len()));
        for stage in stages {
            next.clear();
            for &(start, end) in &*pieces {
                stage.cut(&text[start..end], start, regex, budget, parts, next)?;
            }
            core::mem::swap(pieces, next);
        }
        Ok(pieces)
    }
}

impl Stage {
    /// Appends the pieces of `text`, moved by `offset`.
    pub(in super::super) fn cut(
        &self,
        text: &str,
        offset: usize,
        scratch: &mut RegexScratch,
        budget: &mut Budget,
        parts: &mut Vec<(usize, usize, bool)>,
        out: &mut Vec<Piece>,
    ) -> Result<(), TooManySteps> {
        let mut piece = |start: usize, end: usize| {
            if end > start {
                out.push((offset + start, offset + end));
            }
        };
        match self {
            Stage::Fast(fast) => {
                let mut at = 0;
                for part in fast.split(text) {
                    piece(at, at + part.len());
                    at += part.len();
                }
            }
            Stage::Pattern { regex, behavior, invert } => {
                parts.clear();
                matches(regex, text, scratch, budget, |start, end, matched| {
                    parts.push((start, end, matched != *invert));
                })?;
                behavior.apply(parts, piece);
            }
            Stage::Digits { individual } => {
                let mut start = 0;
                let mut last = false;
                for (at, c) in text.char_indices() {
                    let number = class(c) == Class::Number;
                    if number != last || (number && *individual) {
                        piece(start, at);
                        start = at;
                    }
                    last = number;
                }
                piece(start, text.len());
            }
            Stage::Thousands { cut, digit, word } => {
                let (mut at, mut last) = (0, 0);
                while let Some((start, end)) = digit.find(text, at, scratch, budget)? {
                    at = end;
                    if let Some(word) = word
                        && word.find(text, end, scratch, budget)?.is_some_and(|(w, _)| w == end)
                    {
                        continue;
                    }
                    let n = text[start..end].chars().count();
                    let chars = (0..n).zip(text[start..end].char_indices());
                    for (i, (pos, _)) in chars {
                        let group = (n - i).is_multiple_of(3);
                        if group || (i == 0 && *cut != Thousands::Before) {
                            piece(last, start + pos);
                            last = start + pos;
                        }
                    }
                    if *cut != Thousands::Before {
                        piece(last, end);
                        last = end;
                    }
                }
                piece(last, text.len());
            }
        }
        Ok(())
    }
}

/// Passes the matches of a pattern and the text between them to `part`, in order.
pub(in super::super) fn matches(
    regex: &Regex,
    text: &str,
    scratch: &mut RegexScratch,
    budget: &mut Budget,
    mut part: impl FnMut(usize, usize, bool),
) -> Result<(), TooManySteps> {
    let (mut at, mut last) = (0, 0);
    let mut before = None;
    while at <= text.len() {
        let Some((start, end)) = regex.find(text, at, scratch, budget)? else { break };
        // An empty match right after another is none.
        if start == end && before == Some(end) {
            at += text[at..].chars().next().map_or(1, char::len_utf8);
            continue;
        }
        (at, before) = (end, Some(end));
        if start > last {
            part(last, start, false);
        }
        part(start, end, true);
        last = end;
    }
    if last < text.len() {
        part(last, text.len(), false);
    }
    Ok(())
}

impl Behavior {
    /// Passes the pieces that these parts make to `piece`.
    pub(in super::super) fn apply(
        self,
        parts: &[(usize, usize, bool)],
        mut piece: impl FnMut(usize, usize),
    ) {
        match self {
            Behavior::Isolated => parts.iter().for_each(|&(start, end, _)| piece(start, end)),
            Behavior::Removed => {
                let kept = parts.iter().filter(|(_, _, matched)| !matched);
                kept.for_each(|&(start, end, _)| piece(start, end));
            }
            Behavior::Contiguous => {
                let mut open: Option<(usize, usize)> = None;
                let mut last = false;
                for &(start, end, matched) in parts {
                    open = match open {
                        Some((from, _)) if matched == last => Some((from, end)),
                        before => {
                            before.into_iter().for_each(|(a, b)| piece(a, b));
                            Some((start, end))
                        }
                    };
                    last = matched;
                }
                open.into_iter().for_each(|(a, b)| piece(a, b));
            }
            Behavior::MergedWithPrevious => {
                let mut open: Option<(usize, usize)> = None;
                let mut last = false;
                for &(start, end, matched) in parts {
                    open = match open {
                        Some((from, _)) if matched && !last => Some((from, end)),
                        before => {
                            before.into_iter().for_each(|(a, b)| piece(a, b));
                            Some((start, end))
                        }
                    };
                    last = matched;
                }
                open.into_iter().for_each(|(a, b)| piece(a, b));
            }
            Behavior::MergedWithNext => {
                // From the end, a match joins what is after it unless that is a match, too.
                for (i, &(start, end, matched)) in parts.iter().enumerate() {
                    let next = parts.get(i + 1);
                    let before = i.checked_sub(1).map(|i| parts[i]);
                    let joined_before = before.is_some_and(|(_, _, before)| before) && !matched;
                    if matched && next.is_some_and(|&(_, _, next)| !next) {
                        continue;
                    }
                    piece(if joined_before { parts[i - 1].0 } else { start }, end);
                }
            }
        }
    }
}
