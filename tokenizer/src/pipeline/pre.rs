//! Pre-tokenizers that may rewrite the pieces that they cut.

use alloc::string::String;
use alloc::vec::Vec;

use super::super::json_parts::{Pre, Scheme};
use super::super::split::{Behavior, Fast, Stage as Cut, compile_step};
use super::super::{TokenizerError, alphabet};
use super::Scratch;

#[derive(Clone, Debug)]
enum Stage {
    Cut(Cut),
    ByteLevel { prefix: bool, regex: bool },
    Metaspace { replacement: char, scheme: Scheme, split: bool },
}

/// Pieces of a text.
#[derive(Clone, Debug, Default)]
pub(super) struct Pieces {
    pub(super) text: String,
    /// Start and end of each, and whether it starts where the whole text does.
    pub(super) ranges: Vec<(usize, usize, bool)>,
}

impl Pieces {
    fn clear(&mut self) {
        self.text.clear();
        self.ranges.clear();
    }
}

/// A list of steps.
#[derive(Clone, Debug)]
pub(super) struct PreTokenizer(Vec<Stage>);

impl PreTokenizer {
    pub(super) fn new(all: &[Pre]) -> Result<Self, TokenizerError> {
        let stage = |pre: &Pre| {
            Ok(match pre {
                Pre::Step(step) => Stage::Cut(compile_step(step)?),
                Pre::ByteLevel { prefix, regex } => {
                    Stage::ByteLevel { prefix: *prefix, regex: *regex }
                }
                Pre::Metaspace { replacement, scheme, split } => {
                    Stage::Metaspace { replacement: *replacement, scheme: *scheme, split: *split }
                }
            })
        };
        Ok(PreTokenizer(all.iter().map(stage).collect::<Result<_, TokenizerError>>()?))
    }

    /// Cuts a text, which is not empty, into the pieces of `scratch`.
    pub(super) fn apply(
        &self,
        text: &str,
        first: bool,
        scratch: &mut Scratch,
    ) -> Result<(), TokenizerError> {
        let Scratch { pieces, next, parts, ranges, regex: memory, budget, .. } = scratch;
        pieces.clear();
        pieces.text.push_str(text);
        pieces.ranges.push((0, text.len(), first));
        for stage in &self.0 {
            next.clear();
            match stage {
                Stage::Cut(cut) => {
                    for &(start, end, first) in &pieces.ranges {
                        ranges.clear();
                        let text = &pieces.text[start..end];
                        cut.cut(text, start, memory, budget, parts, ranges)?;
                        let flagged = |&(a, b): &(usize, usize)| (a, b, first && a == start);
                        next.ranges.extend(ranges.iter().map(flagged));
                    }
                    core::mem::swap(&mut pieces.ranges, &mut next.ranges);
                    continue;
                }
                Stage::ByteLevel { prefix, regex } => {
                    for &(start, end, mut first) in &pieces.ranges {
                        let mut text = &pieces.text[start..end];
                        let prefixed;
                        if *prefix && !text.starts_with(' ') {
                            prefixed = format!(" {text}");
                            text = &prefixed;
                        }
                        let mut piece = |part: &str| {
                            let start = next.text.len();
                            alphabet::encode(part.as_bytes(), &mut next.text);
                            next.ranges.push((start, next.text.len(), first));
                            first = false;
                        };
                        match regex {
                            true => Fast::Gpt2.split(text).for_each(&mut piece),
                            false => piece(text),
                        }
                    }
                }
                Stage::Metaspace { replacement, scheme, split } => {
                    for &(start, end, first) in &pieces.ranges {
                        let text = &pieces.text[start..end];
                        let from = next.text.len();
                        let wanted = match scheme {
                            Scheme::Always => true,
                            Scheme::First => first,
                            Scheme::Never => false,
                        };
                        if wanted && !text.starts_with([' ', *replacement]) {
                            next.text.push(*replacement);
                        }
                        let replaced = |c| if c == ' ' { *replacement } else { c };
                        next.text.extend(text.chars().map(replaced));
                        let to = next.text.len();
                        if !split {
                            next.ranges.push((from, to, first));
                            continue;
                        }
                        parts.clear();
                        let mut last = from;
                        for (at, c) in next.text[from..].char_indices() {
                            if c == *replacement {
                                let at = from + at;
                                if at > last {
                                    parts.push((last, at, false));
                                }
                                last = at + c.len_utf8();
                                parts.push((at, last, true));
                            }
                        }
                        if to > last {
                            parts.push((last, to, false));
                        }
                        Behavior::MergedWithNext.apply(parts, |a, b| {
                            next.ranges.push((a, b, first && a == from));
                        });
                    }
                }
            }
            core::mem::swap(pieces, next);
        }
        Ok(())
    }

    /// Memory in use, in bytes.
    pub(super) fn memory(&self) -> usize {
        let cuts = self.0.iter().map(|stage| match stage {
            Stage::Cut(Cut::Pattern { regex, .. }) => regex.memory(),
            _ => 0,
        });
        size_of::<Stage>() * self.0.capacity() + cuts.sum::<usize>()
    }
}
