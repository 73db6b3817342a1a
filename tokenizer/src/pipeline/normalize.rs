//! Normalizers: rewriting a text before anything else.

use alloc::string::String;
use alloc::vec::Vec;

use super::super::json_parts::{Norm, Search, escape};
use super::super::nfc::{AnyForm, Form};
use super::super::regex::{CharSet, Regex};
use super::super::split::matches;
use super::super::{TokenizerError, alphabet};
use super::Scratch;

#[derive(Clone, Debug)]
enum Stage {
    Form(AnyForm),
    Lowercase,
    /// Removes these characters.
    Remove(CharSet),
    Nmt,
    Strip {
        left: bool,
        right: bool,
    },
    Replace {
        regex: Regex,
        content: String,
    },
    Prepend(String),
    Clean {
        control: CharSet,
    },
    Chinese,
    ByteLevel,
}

/// A list of rewritings.
#[derive(Clone, Debug)]
pub(super) struct Normalizer(Vec<Stage>);

/// Compiles what is searched for.
pub(super) fn compile(search: &Search, part: &'static str) -> Result<Regex, TokenizerError> {
    let pattern = match search {
        Search::Text(text) => escape(text),
        Search::Pattern(pattern) => pattern.clone(),
    };
    Regex::new(&pattern).map_err(|why| TokenizerError::Unsupported {
        part,
        name: format!("Replace of Regex {pattern}: {why}"),
    })
}

impl Normalizer {
    pub(super) fn new(all: &[Norm]) -> Result<Self, TokenizerError> {
        let mut stages = Vec::new();
        for norm in all {
            stages.push(match norm {
                Norm::Nfc => Stage::Form(AnyForm::new(Form::C)),
                Norm::Nfd => Stage::Form(AnyForm::new(Form::D)),
                Norm::Nfkc => Stage::Form(AnyForm::new(Form::Kc)),
                Norm::Nfkd => Stage::Form(AnyForm::new(Form::Kd)),
                Norm::Lowercase => Stage::Lowercase,
                Norm::StripAccents => Stage::Remove(CharSet::categories(&["M"])),
                Norm::Nmt => Stage::Nmt,
                Norm::Strip { left, right } => Stage::Strip { left: *left, right: *right },
                Norm::Replace { search, content } => {
                    let regex = compile(search, "normalizer")?;
                    Stage::Replace { regex, content: content.clone() }
                }
                Norm::Prepend(text) => Stage::Prepend(text.clone()),
                Norm::ByteLevel => Stage::ByteLevel,
                Norm::Bert { clean, chinese, accents, lowercase } => {
                    if *clean {
                        let control = CharSet::categories(&["Cc", "Cf", "Co"]);
                        stages.push(Stage::Clean { control });
                    }
                    if *chinese {
                        stages.push(Stage::Chinese);
                    }
                    if *accents {
                        stages.push(Stage::Form(AnyForm::new(Form::D)));
                        stages.push(Stage::Remove(CharSet::categories(&["Mn"])));
                    }
                    if *lowercase {
                        stages.push(Stage::Lowercase);
                    }
                    continue;
                }
            });
        }
        Ok(Normalizer(stages))
    }

    /// Writes the normalised text to `scratch.normal`. False if the text's first character was
    /// removed, so that what remains does not start where the text does.
    pub(super) fn apply(&self, text: &str, scratch: &mut Scratch) -> Result<bool, TokenizerError> {
        let mut kept = true;
        // More than any normaliser of a model makes of a text.
        let limit = text.len().saturating_mul(64).saturating_add(4096);
        scratch.normal.clear();
        scratch.normal.push_str(text);
        for stage in &self.0 {
            let Scratch { normal, other, regex: memory, budget, .. } = scratch;
            other.clear();
            match stage {
                Stage::Form(form) => form.append(normal, other),
                Stage::Lowercase => other.extend(normal.chars().flat_map(char::to_lowercase)),
                Stage::Remove(set) => {
                    kept &= !normal.chars().next().is_some_and(|c| set.contains(c));
                    other.extend(normal.chars().filter(|&c| !set.contains(c)));
                }
                Stage::Nmt => {
                    kept &= normal.chars().next().is_none_or(|c| nmt(c).is_some());
                    other.extend(normal.chars().filter_map(nmt));
                }
                Stage::Strip { left, right } => {
                    let mut text = &normal[..];
                    if *left {
                        text = text.trim_start();
                        kept &= text.len() == normal.len();
                    }
                    other.push_str(if *right { text.trim_end() } else { text });
                }
                Stage::Replace { regex, content } => {
                    let text = &normal[..];
                    matches(regex, text, memory, budget, |start, end, matched| {
                        if other.len() > limit {
                            return;
                        }
                        if !matched {
                            other.push_str(&text[start..end]);
                            return;
                        }
                        other.push_str(content);
                        if start == 0 {
                            // The library counts what replaces a match from its last character.
                            let one = text[start..end].chars().nth(1).is_none();
                            kept &= !content.is_empty() && one;
                        }
                    })?;
                }
                Stage::Prepend(text) => {
                    if !normal.is_empty() {
                        other.push_str(text);
                        other.push_str(normal);
                    }
                }
                Stage::Clean { control } => {
                    let gone = |c: char| {
                        matches!(c, '\0' | '\u{fffd}')
                            || (!matches!(c, '\t' | '\n' | '\r') && control.contains(c))
                    };
                    kept &= !normal.chars().next().is_some_and(gone);
                    let space = |c: char| if c.is_whitespace() { ' ' } else { c };
                    other.extend(normal.chars().filter(|&c| !gone(c)).map(space));
                }
                Stage::Chinese => {
                    for c in normal.chars() {
                        match is_chinese(c) {
                            true => other.extend([' ', c, ' ']),
                            false => other.push(c),
                        }
                    }
                }
                Stage::ByteLevel => alphabet::encode(normal.as_bytes(), other),
            }
            if other.len() > limit {
                return Err(TokenizerError::NormalizedTooLong { bytes: text.len(), limit });
            }
            core::mem::swap(normal, other);
        }
        Ok(kept)
    }

    /// Memory in use, in bytes.
    pub(super) fn memory(&self) -> usize {
        let regexes = self.0.iter().map(|stage| match stage {
            Stage::Replace { regex, .. } => regex.memory(),
            Stage::Form(form) => form.memory(),
            _ => 0,
        });
        size_of::<Stage>() * self.0.capacity() + regexes.sum::<usize>()
    }
}

/// A character by SentencePiece's rule `nmt`; `None` if it is removed.
fn nmt(c: char) -> Option<char> {
    match c as u32 {
        0x1..=0x8 | 0xb | 0xe..=0x1f | 0x7f | 0x8f | 0x9f => None,
        0x9
        | 0xa
        | 0xc
        | 0xd
        | 0x1680
        | 0x200b..=0x200f
        | 0x2028
        | 0x2029
        | 0x2581
        | 0xfeff
        | 0xfffd => Some(' '),
        _ => Some(c),
    }
}

/// True for the ideographs that BERT puts spaces around; one block is short, as in the library.
fn is_chinese(c: char) -> bool {
    matches!(
        c as u32,
        0x4e00..=0x9fff
            | 0x3400..=0x4dbf
            | 0x20000..=0x2a6df
            | 0x2a700..=0x2b73f
            | 0x2b740..=0x2b81f
            | 0x2b920..=0x2ceaf
            | 0xf900..=0xfaff
            | 0x2f800..=0x2fa1f
    )
}
