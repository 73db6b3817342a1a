//! Pre-tokenizers, which split a text into the pieces that are merged separately.
//!
//! Each is defined by a regular expression and implemented without a regex engine: one pass with a
//! few characters of look-ahead finds the same matches. The classes `\p{L}`, `\p{N}` and `\s` are
//! those of [`super::unicode`].

mod gpt2;
mod llama3;

use super::unicode::{Class, class};

/// Pre-tokenizer: the rule that splits a text into pieces.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Splitter {
    /// GPT-2's pattern: `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`.
    Gpt2,
    /// Every number (`\p{N}`) a piece of its own, and the text between them by GPT-2's pattern:
    /// StarCoder, Command R, SmolLM.
    Gpt2Digits,
    /// Llama 3's pattern: `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|
    /// ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`.
    ///
    /// Case-insensitivity follows Unicode, as in the expression: `'ſ` (U+017F) is a contraction
    /// like `'s`. llama.cpp, which has its own code for it, considers only ASCII there.
    Llama3,
    /// Qwen2's pattern: Llama 3's with `\p{N}` for `\p{N}{1,3}`.
    Qwen2,
}

/// The rules implied by a name of `tokenizer.ggml.pre`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct GgufRule {
    pub(super) splitter: Splitter,
    /// True if a piece that is a token needs no merging.
    pub(super) ignore_merges: bool,
    /// True if texts start with `bos` unless the file says otherwise.
    pub(super) add_bos: bool,
}

/// The supported names of `tokenizer.ggml.pre`. llama.cpp has the same names for the same rules
/// (`llama_vocab::impl::load`); its further names have other rules.
const GPT2: &[&str] = &[
    "gpt-2",
    "phi-2",
    "jina-es",
    "jina-de",
    "jina-v2-es",
    "jina-v2-de",
    "gigachat",
    "a.x-4.0",
    "mellum",
    "modern-bert",
    "mpt",
    "olmo",
    "jais",
    "trillion",
    "granite-docling",
    "exaone4",
];
const GPT2_DIGITS: &[&str] =
    &["starcoder", "refact", "command-r", "smollm", "codeshell", "exaone", "minerva-7b", "mellum2"];
const LLAMA3: &[&str] = &[
    "llama-bpe",
    "llama3",
    "llama-v3",
    "falcon3",
    "falcon-h1",
    "pixtral",
    "midm-2.0",
    "lfm2",
    "jina-v5-nano",
];
/// Llama 3's pattern with ordinary merging.
const LLAMA3_MERGED: &[&str] = &["dbrx", "smaug-bpe", "glm4", "chatglm-bpe"];
const QWEN2: &[&str] = &[
    "qwen2",
    "deepseek-r1-qwen",
    "kormo",
    "f2llmv2",
    "megrez",
    "stablelm2",
    "hunyuan",
    "solar-open",
    "grok-2",
];

impl Splitter {
    /// The pieces of `text`, in order; their concatenation is the text.
    pub(super) fn split(self, text: &str) -> Pieces<'_> {
        Pieces { rule: self, rest: text }
    }

    /// The rules implied by a name of `tokenizer.ggml.pre`.
    pub(super) fn from_gguf(name: &str) -> Option<GgufRule> {
        let rules = [
            (GPT2, Splitter::Gpt2, false),
            (GPT2_DIGITS, Splitter::Gpt2Digits, false),
            (LLAMA3, Splitter::Llama3, true),
            (LLAMA3_MERGED, Splitter::Llama3, false),
            (QWEN2, Splitter::Qwen2, false),
        ];
        let (_, splitter, llama3) = rules.into_iter().find(|(names, ..)| names.contains(&name))?;
        Some(GgufRule { splitter, ignore_merges: llama3, add_bos: llama3 })
    }

    /// The names accepted by [`from_gguf`](Self::from_gguf).
    pub(super) fn gguf_names() -> impl Iterator<Item = &'static str> {
        [GPT2, GPT2_DIGITS, LLAMA3, LLAMA3_MERGED, QWEN2].into_iter().flatten().copied()
    }

    /// The splitter with this regular expression, in any of the spellings in use.
    pub(super) fn from_pattern(pattern: &str) -> Option<Splitter> {
        SPELLINGS.iter().find(|(spelling, _)| *spelling == pattern).map(|&(_, splitter)| splitter)
    }
}

/// Patterns as spelled in tokenizer.json. Possessive quantifiers, and `\s*[\r\n]` for `\s*[\r\n]+`,
/// change nothing in what these match; the tests compare all of them.
const SPELLINGS: &[(&str, Splitter)] = &[
    (r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+", Splitter::Gpt2),
    (r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+", Splitter::Gpt2),
    (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        Splitter::Llama3,
    ),
    (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+",
        Splitter::Llama3,
    ),
    (
        r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+",
        Splitter::Llama3,
    ),
    (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        Splitter::Qwen2,
    ),
    (
        r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+",
        Splitter::Qwen2,
    ),
];

/// Iterator over the pieces of a text.
pub(super) struct Pieces<'t> {
    rule: Splitter,
    rest: &'t str,
}

impl<'t> Iterator for Pieces<'t> {
    type Item = &'t str;

    fn next(&mut self) -> Option<&'t str> {
        let first = self.rest.chars().next()?;
        let len = match self.rule {
            Splitter::Gpt2 => gpt2::piece(self.rest, first),
            Splitter::Gpt2Digits => gpt2::piece_beside_digits(self.rest, first),
            Splitter::Llama3 => llama3::piece(self.rest, first, 3),
            Splitter::Qwen2 => llama3::piece(self.rest, first, 1),
        };
        let (piece, rest) = self.rest.split_at(len);
        self.rest = rest;
        Some(piece)
    }
}

/// The end of the run of characters of class `kind` that starts at `start`.
fn run_end(text: &str, start: usize, kind: Class) -> usize {
    let mut chars = text[start..].char_indices();
    chars.find(|&(_, c)| class(c) != kind).map_or(text.len(), |(at, _)| start + at)
}

#[cfg(test)]
mod tests;
