//! Pre-tokenizers, which split a text into the pieces that are merged separately.
//!
//! Each is defined by regular expressions, applied one after the other to the pieces of the one
//! before. Those of GPT-2, Llama 3 and Qwen2, which most models use, are implemented without a regex
//! engine: one pass with a few characters of look-ahead finds the same matches. The classes `\p{L}`,
//! `\p{N}` and `\s` are those of [`super::unicode`].

mod gpt2;
mod llama3;
mod names;
mod stage;

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::TokenizerError;
use super::regex::TooManySteps;
use super::unicode::{Class, class};

pub(super) use names::{GgufName, gguf_name, gguf_names};
use stage::Thousands;
pub(super) use stage::{Behavior, CutScratch, Stage, Step, matches};

/// Pre-tokenizer: the rule that splits a text into pieces.
///
/// Each is the rule of the tokenizers that models were trained with. Where llama.cpp approximates it
/// (it knows no categories of letters, and only ASCII's cases), the models' own rule is followed.
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
    /// Runs of punctuation, then GPT-2's pattern, then numbers in threes: files that name no
    /// pre-tokenizer.
    Default,
    /// Falcon: as [`Default`](Self::Default), with only ASCII digits in threes.
    Falcon,
    /// DeepSeek LLM: line breaks, letters of alphabets with one space, punctuation, trailing white
    /// space, Chinese and Korean, numbers.
    DeepSeekLlm,
    /// DeepSeek Coder: line breaks, letters, punctuation, Chinese and Korean, single numbers.
    DeepSeekCoder,
    /// DeepSeek V3 and R1, Hunyuan: numbers up to three digits, Chinese and Japanese, then words with
    /// their marks.
    DeepSeekV3,
    /// Qwen 3.5: Qwen2's pattern with marks as parts of words.
    Qwen35,
    /// Mistral's Tekken: words cut before upper case, single numbers.
    Tekken,
    /// GPT-4o, Llama 4, gpt-oss: words cut before upper case, with their contractions.
    Gpt4o,
    /// SuperBPE: only numbers are cut, in threes.
    SuperBpe,
    /// Seed-Coder: Qwen2's pattern without the line breaks after punctuation.
    SeedCoder,
    /// BLOOM, Poro: words with one space before them, without punctuation.
    Bloom,
    /// Viking: as [`Bloom`](Self::Bloom), with single numbers.
    Viking,
    /// MiniCPM 5: numbers up to three digits, then Llama 3's pattern.
    MiniCpm5,
    /// Jais 2: Llama 3's pattern with white space in powers of two.
    Jais2,
    /// Youtu: Korean, Chinese and their punctuation, then words cut before upper case.
    Youtu,
    /// Tiny Aya, Command A: numbers in threes from their end, then GPT-4o's pattern.
    TinyAya,
    /// Kimi K2: Chinese, then GPT-4o's pattern without it.
    KimiK2,
    /// Qwen2's pattern without contractions.
    Ufakzeka,
    /// AFMoE: numbers in threes from their end, scripts of Asia, then DeepSeek V3's words.
    AfMoe,
    /// Laguna: lines, then Qwen2's pattern.
    Laguna,
    /// EXAONE MoE: Qwen2's pattern with words that are joined by single spaces.
    ExaoneMoe,
    /// Chameleon: image tokens, white space, digits and punctuation alone, then GPT-2's pattern.
    Chameleon,
    /// Spark 2.5: DeepSeek V3's pattern with single line breaks.
    Spark25,
}

/// The rules that have code of their own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fast {
    Gpt2,
    Gpt2Digits,
    Llama3,
    Qwen2,
}

impl Fast {
    /// The pieces of `text`, in order; their concatenation is the text.
    pub(super) fn split(self, text: &str) -> Pieces<'_> {
        Pieces { rule: self, rest: text }
    }

    /// The rule with this regular expression, in any of the spellings in use.
    pub(super) fn of_pattern(pattern: &str) -> Option<Fast> {
        SPELLINGS.iter().find(|(spelling, _)| *spelling == pattern).map(|&(_, rule)| rule)
    }
}

/// A pre-tokenizer, ready to split texts.
#[derive(Clone, Debug)]
pub(super) struct PreTokenizer {
    /// Its name, if it is one that GGUF files name.
    pub(super) known: Option<Splitter>,
    stages: Box<[Stage]>,
}

impl PreTokenizer {
    /// A pre-tokenizer of these steps.
    ///
    /// # Errors
    /// [`TokenizerError::Unsupported`] for a pattern that can't be compiled.
    pub(super) fn new(steps: &[Step]) -> Result<Self, TokenizerError> {
        let known = Splitter::ALL.into_iter().find(|splitter| splitter.is(steps));
        let stages = steps.iter().map(compile_step).collect::<Result<Vec<_>, _>>()?;
        Ok(PreTokenizer { known, stages: stages.into() })
    }

    /// The rule, if it is a single one with code of its own.
    pub(super) fn fast(&self) -> Option<Fast> {
        match *self.stages {
            [Stage::Fast(fast)] => Some(fast),
            _ => None,
        }
    }

    /// The pieces of a text, as positions in it.
    pub(super) fn cut<'s>(
        &self,
        text: &str,
        scratch: &'s mut CutScratch,
    ) -> Result<&'s [(usize, usize)], TooManySteps> {
        scratch.cut(&self.stages, text)
    }
}

/// Compiles a step of a pre-tokenizer.
///
/// # Errors
/// [`TokenizerError::Unsupported`] for a pattern that can't be compiled.
pub(super) fn compile_step(step: &Step) -> Result<Stage, TokenizerError> {
    step.compile().map_err(|why| {
        let name = match step {
            Step::Pattern { pattern, .. } => format!("Split by Regex {pattern}: {why}"),
            step => format!("{step:?}: {why}"),
        };
        TokenizerError::Unsupported { part: "pre-tokenizer", name }
    })
}

/// Words cut before upper case, without the optional contractions after them.
const CASED: [&str; 2] = [
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*",
];
const ENDING: &str = "(?i:'s|'t|'re|'ve|'m|'ll|'d)?";
const SPACES: &str = r"\s*[\r\n]+|\s+(?!\S)|\s+";
const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const DEEPSEEK_V3: &str = r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"##;
const SPARK: &str = r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+|[\r\n]|\s+(?!\S)|\s+"##;
const CHINESE: &str = "[一-龥ࠀ-一가-퟿]+";
const BLOOM: &str = " ?[^(\\s|.,!?…。，、।۔،)]+";
/// The letters that DeepSeek LLM's pattern lists.
const ALPHABETS: &str = "A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-ὗὙὛὝὟ-\u{1f7d}ᾀ-ᾴᾶ-ᾼ\u{1fbe}ῂ-ῄῆ-ῌῐ-\u{1fd3}ῖ-\u{1fdb}ῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤ\u{2126}ℨ\u{212a}-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃";

impl Splitter {
    /// All of them.
    pub(super) const ALL: [Splitter; 27] = [
        Splitter::Gpt2,
        Splitter::Gpt2Digits,
        Splitter::Llama3,
        Splitter::Qwen2,
        Splitter::Default,
        Splitter::Falcon,
        Splitter::DeepSeekLlm,
        Splitter::DeepSeekCoder,
        Splitter::DeepSeekV3,
        Splitter::Qwen35,
        Splitter::Tekken,
        Splitter::Gpt4o,
        Splitter::SuperBpe,
        Splitter::SeedCoder,
        Splitter::Bloom,
        Splitter::Viking,
        Splitter::MiniCpm5,
        Splitter::Jais2,
        Splitter::Youtu,
        Splitter::TinyAya,
        Splitter::KimiK2,
        Splitter::Ufakzeka,
        Splitter::AfMoe,
        Splitter::Laguna,
        Splitter::ExaoneMoe,
        Splitter::Chameleon,
        Splitter::Spark25,
    ];
    /// The steps that this pre-tokenizer consists of.
    pub(super) fn steps(self) -> Vec<Step> {
        let words =
            |ending: &str, rest: &str| format!("{}{ending}|{}{ending}|{rest}", CASED[0], CASED[1]);
        let gpt2 = || Step::Fast(Fast::Gpt2);
        let all = |patterns: &[&str]| patterns.iter().map(|&p| Step::isolated(p)).collect();
        match self {
            Splitter::Gpt2 => vec![gpt2()],
            Splitter::Gpt2Digits => vec![Step::Fast(Fast::Gpt2Digits)],
            Splitter::Llama3 => vec![Step::Fast(Fast::Llama3)],
            Splitter::Qwen2 => vec![Step::Fast(Fast::Qwen2)],
            Splitter::Default => {
                all(&[r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", "[0-9][0-9][0-9]"])
            }
            Splitter::Falcon => all(&[r"[\p{P}\$\+<=>\^~\|`]+", GPT2, "[0-9][0-9][0-9]"]),
            Splitter::DeepSeekLlm => {
                let letters = format!(r"\s?[{ALPHABETS}]+");
                let signs = r"\s?[!-/:-~！-／：-～‘-‟　-。]+";
                all(&[r"[\r\n]", &letters, signs, r"\s+$", CHINESE, r"\p{N}+"])
            }
            Splitter::DeepSeekCoder => {
                all(&[r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", CHINESE, r"\p{N}"])
            }
            Splitter::DeepSeekV3 => all(&[r"\p{N}{1,3}", "[一-龥぀-ゟ゠-ヿ]+", DEEPSEEK_V3]),
            Splitter::Qwen35 => all(&[
                r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
            ]),
            Splitter::Tekken => {
                all(&[&words("", &format!(r"\p{{N}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{SPACES}"))])
            }
            Splitter::Gpt4o => all(&[&words(
                ENDING,
                &format!(r"\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{SPACES}"),
            )]),
            Splitter::SuperBpe => all(&[r"\p{N}+", r"(?=(\d{3})+(?!\d))"]),
            Splitter::SeedCoder => all(&[
                r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+",
            ]),
            Splitter::Bloom => all(&[BLOOM]),
            Splitter::Viking => all(&[BLOOM, r"\p{N}"]),
            Splitter::MiniCpm5 => all(&[
                r"\p{N}{1,3}",
                r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}+| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
            ]),
            Splitter::Jais2 => all(&[
                r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s{512}(?!\S)|\s{256}(?!\S)|\s{128}(?!\S)|\s{64}(?!\S)|\s{32}(?!\S)|\s{16}(?!\S)|\s{8}(?!\S)|\s{4}(?!\S)|\s{1,2}(?!\S)|\s{1}",
            ]),
            Splitter::Youtu => all(&[
                "[가-힣ㄱ-ㆎ]+|[！…“”‘’—：；，、-〿︰-﹏]+|[ㄅ-ㄯ]+|[一-龥぀-ゟ゠-ヿ]+",
                &words(ENDING, &format!(r"\p{{N}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{SPACES}")),
            ]),
            Splitter::TinyAya => all(&[
                r"\d{1,3}(?=(?:\d{3})*\b)",
                &words(ENDING, &format!(r"\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{SPACES}")),
            ]),
            Splitter::KimiK2 => {
                let upper = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]";
                let lower = r"[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]";
                let start = r"[^\r\n\p{L}\p{N}]?";
                all(&[&format!(
                    r"[\p{{Han}}]+|{start}{upper}*{lower}+{ENDING}|{start}{upper}+{lower}*{ENDING}|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|{SPACES}"
                )])
            }
            Splitter::Ufakzeka => all(&[
                r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
            ]),
            Splitter::AfMoe => {
                let mut steps = vec![Step::Thousands(Thousands::Numbers)];
                steps.push(Step::isolated(
                    "[一-鿿㐀-䶿\u{f900}-\u{faff}぀-ゟ゠-ヿ･-ﾟ⼀-⿟เ-๿຀-໿ក-៿က-႟ꩠ-ꩿꧠ-꧿가-힯ᄀ-ᇿ]+",
                ));
                steps.push(Step::isolated(DEEPSEEK_V3));
                steps
            }
            Splitter::Laguna => all(&[r"[^\n]+|[\n]+", QWEN2]),
            Splitter::ExaoneMoe => all(&[
                r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]|\s+(?!\S)|\s+",
            ]),
            Splitter::Chameleon => all(&[
                "<sentinel:[0-9]+>",
                "(IMGIMG)((A|B|C|D|E|F|G|H|I){1,4})Z",
                r"([\t\n]|    |  )",
                r"\p{N}",
                r"[\p{P}!-/:-@\[-`{-~]",
                GPT2,
            ]),
            Splitter::Spark25 => all(&[r"\p{N}{1,3}", "[一-龥぀-ゟ゠-ヿ]+", SPARK, r"\p{N}"]),
        }
    }

    /// True if these steps, as a tokenizer.json has them, are this pre-tokenizer's.
    fn is(self, steps: &[Step]) -> bool {
        // Line breaks stand in patterns as themselves or as escapes.
        let plain = |step: &Step| match step {
            Step::Pattern { pattern, behavior, invert } => Step::Pattern {
                pattern: pattern.replace('\r', "\\r").replace('\n', "\\n"),
                behavior: *behavior,
                invert: *invert,
            },
            step => step.clone(),
        };
        let digits = |individual| Step::Digits { individual };
        let steps: Vec<Step> = steps.iter().map(plain).collect();
        if steps == self.steps() {
            return true;
        }
        match self {
            Splitter::Gpt2Digits => steps == [digits(true), Step::Fast(Fast::Gpt2)],
            Splitter::DeepSeekCoder => steps.split_last().is_some_and(|(last, rest)| {
                *last == digits(true) && self.steps().split_last().is_some_and(|s| s.1 == rest)
            }),
            _ => false,
        }
    }
}

/// Patterns as spelled in tokenizer.json. Possessive quantifiers, and `\s*[\r\n]` for `\s*[\r\n]+`,
/// change nothing in what these match; the tests compare all of them.
const SPELLINGS: &[(&str, Fast)] = &[
    (GPT2, Fast::Gpt2),
    (r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+", Fast::Gpt2),
    (LLAMA3, Fast::Llama3),
    (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+",
        Fast::Llama3,
    ),
    (
        r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+",
        Fast::Llama3,
    ),
    (QWEN2, Fast::Qwen2),
    (
        r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+",
        Fast::Qwen2,
    ),
];

/// Iterator over the pieces of a text.
pub(super) struct Pieces<'t> {
    rule: Fast,
    rest: &'t str,
}

impl<'t> Iterator for Pieces<'t> {
    type Item = &'t str;

    fn next(&mut self) -> Option<&'t str> {
        let first = self.rest.chars().next()?;
        let len = match self.rule {
            Fast::Gpt2 => gpt2::piece(self.rest, first),
            Fast::Gpt2Digits => gpt2::piece_beside_digits(self.rest, first),
            Fast::Llama3 => llama3::piece(self.rest, first, 3),
            Fast::Qwen2 => llama3::piece(self.rest, first, 1),
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
