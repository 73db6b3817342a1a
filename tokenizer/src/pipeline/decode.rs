//! Decoders: from tokens back to text.

use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;

use super::super::doc::unsupported;
use super::super::json_parts::Dec;
use super::super::regex::{Budget, Regex, RegexScratch};
use super::super::split::matches;
use super::super::spm::byte_of;
use super::super::{TokenizerError, alphabet};
use super::normalize::compile;

#[derive(Clone, Debug)]
enum Stage {
    ByteLevel,
    ByteFallback,
    Strip {
        content: char,
        start: usize,
        stop: usize,
    },
    Replace {
        regex: Regex,
        content: String,
    },
    Metaspace {
        replacement: char,
        prefix: bool,
    },
    WordPiece {
        prefix: String,
        cleanup: bool,
    },
    Suffix(String),
    /// No decoder: tokens with spaces between them.
    Spaced,
}

/// The stages that tokens go through one by one, and what is stripped from the whole.
#[derive(Clone, Debug)]
pub(super) struct Decoder {
    stages: Vec<Stage>,
    strip: Vec<(char, usize, usize)>,
}

impl Decoder {
    pub(super) fn new(all: Option<&[Dec]>) -> Result<Self, TokenizerError> {
        let Some(all) = all else {
            return Ok(Decoder { stages: vec![Stage::Spaced], strip: Vec::new() });
        };
        let (mut stages, mut strip, mut fused) = (Vec::new(), Vec::new(), false);
        for dec in all {
            if fused {
                match dec {
                    Dec::Fuse => {}
                    Dec::Strip { content, start, stop } => strip.push((*content, *start, *stop)),
                    other => {
                        return unsupported(
                            "decoder",
                            format!("{other:?} after Fuse or ByteLevel"),
                        );
                    }
                }
                continue;
            }
            stages.push(match dec {
                Dec::Fuse => {
                    fused = true;
                    continue;
                }
                Dec::ByteLevel => {
                    fused = true;
                    Stage::ByteLevel
                }
                Dec::ByteFallback => Stage::ByteFallback,
                Dec::Strip { content, start, stop } => {
                    Stage::Strip { content: *content, start: *start, stop: *stop }
                }
                Dec::Replace { search, content } => {
                    Stage::Replace { regex: compile(search, "decoder")?, content: content.clone() }
                }
                Dec::Metaspace { replacement, prefix } => {
                    Stage::Metaspace { replacement: *replacement, prefix: *prefix }
                }
                Dec::WordPiece { prefix, cleanup } => {
                    Stage::WordPiece { prefix: prefix.clone(), cleanup: *cleanup }
                }
                Dec::Suffix(suffix) => Stage::Suffix(suffix.clone()),
            });
        }
        Ok(Decoder { stages, strip })
    }

    /// True if the text of a token depends on where it stands.
    pub(super) fn has_ends(&self) -> bool {
        let end = |stage: &Stage| match stage {
            Stage::Metaspace { prefix, .. } => *prefix,
            Stage::WordPiece { .. } | Stage::Suffix(_) | Stage::Spaced => true,
            _ => false,
        };
        self.stages.iter().any(end)
    }

    /// The text of a token; `first` and `last` say where it stands.
    ///
    /// A token that takes too many steps or becomes too long is left as it is.
    pub(super) fn token(
        &self,
        token: &str,
        first: bool,
        last: bool,
        budget: &mut Budget,
    ) -> Vec<u8> {
        let mut text = token.to_owned();
        for stage in &self.stages {
            text = match stage {
                Stage::ByteLevel => {
                    let mut bytes = Vec::new();
                    return match alphabet::decode(text.as_bytes(), &mut bytes) {
                        true => bytes,
                        false => text.into_bytes(),
                    };
                }
                Stage::ByteFallback => match byte_of(text.as_bytes()) {
                    Some(byte) => return vec![byte],
                    None => text,
                },
                Stage::Strip { content, start, stop } => {
                    let mut rest = text.as_str();
                    for _ in 0..*start {
                        rest = rest.strip_prefix(*content).unwrap_or(rest);
                    }
                    for _ in 0..*stop {
                        rest = rest.strip_suffix(*content).unwrap_or(rest);
                    }
                    rest.to_owned()
                }
                Stage::Replace { regex, content } => {
                    let mut out = String::new();
                    let mut scratch = RegexScratch::default();
                    let limit = 16 * text.len() + 64;
                    let done = matches(regex, &text, &mut scratch, budget, |a, b, matched| {
                        if out.len() <= limit {
                            out.push_str(if matched { content } else { &text[a..b] });
                        }
                    });
                    if done.is_ok() && out.len() <= limit { out } else { text }
                }
                Stage::Metaspace { replacement, prefix } => {
                    let with = if first && *prefix { "" } else { " " };
                    text.replace(*replacement, with)
                }
                Stage::WordPiece { prefix, cleanup } => {
                    let text = match text.strip_prefix(prefix.as_str()) {
                        _ if first => text,
                        Some(rest) => rest.to_owned(),
                        None => format!(" {text}"),
                    };
                    if *cleanup { clean_up(&text) } else { text }
                }
                Stage::Suffix(suffix) if suffix.is_empty() => text,
                Stage::Suffix(suffix) => text.replace(suffix.as_str(), if last { "" } else { " " }),
                Stage::Spaced if first => text,
                Stage::Spaced => format!(" {text}"),
            };
        }
        text.into_bytes()
    }

    /// Strips the text of several tokens.
    pub(super) fn strip<'t>(&self, mut text: &'t [u8]) -> &'t [u8] {
        for &(content, start, stop) in &self.strip {
            let mut buffer = [0; 4];
            let content = content.encode_utf8(&mut buffer).as_bytes();
            for _ in 0..start {
                text = text.strip_prefix(content).unwrap_or(text);
            }
            for _ in 0..stop {
                text = text.strip_suffix(content).unwrap_or(text);
            }
        }
        text
    }
}

/// Removes the spaces that tokenisation of English leaves.
fn clean_up(text: &str) -> String {
    let pairs = [
        (" .", "."),
        (" ?", "?"),
        (" !", "!"),
        (" ,", ","),
        (" ' ", "'"),
        (" n't", "n't"),
        (" 'm", "'m"),
        (" do not", " don't"),
        (" 's", "'s"),
        (" 've", "'ve"),
        (" 're", "'re"),
    ];
    pairs.iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
}
