#![no_std]
#![forbid(unsafe_code)]
//! Tokenizers: text to token ids and back.
//!
//! There are two kinds: byte-level byte-pair encoding (GPT-2, Llama 3, Qwen) and SentencePiece's
//! byte-pair encoding, over characters (Llama 2, Mistral, Gemma). They are read from GGUF metadata
//! ([`Tokenizer::from_gguf`]), from tokenizer.json, tokenizer.model, tekken.json, or vocab.json with
//! merges.txt ([`Tokenizer::from_folder`]). A feature of a file that Teff does not support is
//! refused by name, never ignored; where files contradict themselves, a rule decides and
//! [`Tokenizer::warnings`] says so.
//!
//! ```
//! # use teff_tokenizer::*;
//! # fn f(folder: &std::path::Path) -> Result<(), TokenizerError> {
//! let tokenizer = Tokenizer::from_folder(folder)?;
//! let ids = tokenizer.encode("Hello world", Specials::Ignore)?;
//! assert_eq!(tokenizer.decode(&ids)?, "Hello world");
//! # Ok(()) }
//! ```

#[macro_use]
extern crate alloc;
#[cfg(any(feature = "std", test))]
extern crate std;

mod alphabet;
mod bpe;
mod doc;
mod ends;
mod error;
mod export;
#[cfg(feature = "std")]
mod files;
mod folder;
mod gguf;
mod hash;
pub mod json;
mod json_files;
mod json_parts;
mod nfc;
mod pairs;
mod pattern;
mod pipeline;
mod regex;
mod special;
mod split;
mod spm;
mod spm_model;
mod stream;
mod tekken;
mod tokenizer_json;
mod unicode;
mod vocab;
mod warning;

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

pub use bpe::EncodeScratch;
pub use error::{MergeAt, TokenizerError};
pub use export::{ExportError, GgufKeys};
pub use pattern::Pattern;
pub use special::MAX_SPECIAL;
pub use split::Splitter;
pub use stream::{TextPieces, Utf8Stream};
pub use unicode::{UNICODE_VERSION, is_letter};
pub use vocab::TokenKind;
pub use warning::TokenizerWarning;

use bpe::ByteBpe;
use pairs::Keep;
use pipeline::Encode;
use regex::Budget;
use special::{SpecialIndex, Walk};
use split::PreTokenizer;
use spm::Spm;
use vocab::Vocab;

/// Treatment of the names of special tokens in a text.
///
/// The variants are complete: a new one would be a breaking change.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Specials {
    /// They are ordinary text: right for anything a user wrote. (Tokens of
    /// [`TokenKind::UserDefined`] are matched all the same; they are text too.)
    #[default]
    Ignore,
    /// They become the special tokens, the longest one if several start at the same place: right
    /// for text written by a program, such as a chat template.
    Parse,
}

/// Ids of the special tokens, as far as the model names them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SpecialIds {
    /// Beginning of a text.
    pub bos: Option<u32>,
    /// End of a text.
    pub eos: Option<u32>,
    /// End of a turn of a conversation.
    pub eot: Option<u32>,
    /// Token for unknown text. Vocabularies with all bytes never need it.
    pub unk: Option<u32>,
    /// True if texts given to the model start with `bos`. [`Tokenizer::encode`] leaves it to the
    /// caller, who knows where a text starts.
    pub add_bos: bool,
    /// True if texts given to the model end with `eos`; as with `add_bos`.
    pub add_eos: bool,
}

/// The algorithm that turns pieces of text into tokens.
#[derive(Clone, Debug)]
enum Algorithm {
    ByteBpe(Box<ByteBpe>),
    Spm(Box<Spm>),
    Pipeline(Box<dyn Encode>),
}

/// A vocabulary and its encoding rules. Immutable, and can be shared by threads.
///
/// ```
/// use teff_tokenizer::{BpeParts, Specials, Splitter, TokenKind, Tokenizer};
///
/// let tokens = ["H", "i", "Hi"].map(|t| (t.as_bytes(), TokenKind::Normal));
/// let merges = [b"H i".as_slice()];
/// let tokenizer = Tokenizer::byte_bpe(BpeParts::new(tokens, merges, Splitter::Gpt2))?;
/// assert_eq!(tokenizer.encode("HiH", Specials::Ignore)?, [2, 0]);
/// assert_eq!(tokenizer.decode(&[2, 0])?, "HiH");
/// # Ok::<(), teff_tokenizer::TokenizerError>(())
/// ```
#[derive(Clone)]
pub struct Tokenizer {
    vocab: Vocab,
    algorithm: Algorithm,
    special: SpecialIndex,
    ids: SpecialIds,
    /// Ids that end generation, sorted.
    stops: Vec<u32>,
    /// Control tokens that merging produces and the two tokens that it makes them of, sorted: text
    /// never becomes the former.
    unmerged: Vec<(u32, [u32; 2])>,
    /// Tokens that are control tokens by their names, with the kinds that a GGUF file gives them.
    retyped: Vec<(u32, TokenKind)>,
    warnings: Vec<TokenizerWarning>,
}

impl core::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let mut out = f.debug_struct("Tokenizer");
        out.field("vocab_size", &self.vocab_size()).field("algorithm", &self.algorithm);
        out.field("ids", &self.ids).finish_non_exhaustive()
    }
}

/// Parts of a byte-level vocabulary in memory, for [`Tokenizer::byte_bpe`].
pub struct BpeParts<T, M> {
    /// Tokens in id order, normal ones in the byte alphabet.
    pub tokens: T,
    /// Merges in rank order, such as `Ġ t`.
    pub merges: M,
    /// The pre-tokenizer.
    pub splitter: Splitter,
    /// True if a text that does not start with a space gets one in front.
    pub add_prefix_space: bool,
    /// True if a piece that is a token becomes that token, regardless of the merges, as in Llama 3.
    pub ignore_merges: bool,
    /// True if texts are normalised to Unicode form C first, as in Qwen.
    pub nfc: bool,
    /// Ids of the special tokens.
    pub ids: SpecialIds,
}

impl<T, M> BpeParts<T, M> {
    /// Parts with all options off and no special ids.
    pub fn new(tokens: T, merges: M, splitter: Splitter) -> Self {
        let ids = SpecialIds::default();
        BpeParts {
            tokens,
            merges,
            splitter,
            add_prefix_space: false,
            ignore_merges: false,
            nfc: false,
            ids,
        }
    }
}

/// Parts of a SentencePiece vocabulary in memory, for [`Tokenizer::sentence_piece`].
pub struct SpmParts<T> {
    /// Tokens in id order, with spaces as U+2581, and their scores.
    pub tokens: T,
    /// True if a text, and text that follows a special token, gets a space in front.
    pub add_space_prefix: bool,
    /// Ids of the special tokens.
    pub ids: SpecialIds,
}

impl<T> SpmParts<T> {
    /// Parts without a space in front of texts and without special ids.
    pub fn new(tokens: T) -> Self {
        SpmParts { tokens, add_space_prefix: false, ids: SpecialIds::default() }
    }
}

impl Tokenizer {
    /// Builds a byte-level BPE tokenizer from parts in memory.
    ///
    /// # Errors
    /// [`TokenizerError`] if two normal tokens are equal, if a merge is malformed, or has tokens or a
    /// product outside the vocabulary, or if an id of `ids` is out of range.
    pub fn byte_bpe<'a, T, M>(parts: BpeParts<T, M>) -> Result<Self, TokenizerError>
    where
        T: IntoIterator<Item = (&'a [u8], TokenKind)>,
        M: IntoIterator<Item = &'a [u8]>,
    {
        let nfc: Option<nfc::Normalizer> = parts.nfc.then_some(nfc::nfc);
        Tokenizer::byte_bpe_with(parts, nfc)
    }

    /// [`Tokenizer::byte_bpe`] with the normaliser given as `nfc` instead of `parts.nfc`.
    fn byte_bpe_with<'a, T, M>(
        parts: BpeParts<T, M>,
        nfc: Option<nfc::Normalizer>,
    ) -> Result<Self, TokenizerError>
    where
        T: IntoIterator<Item = (&'a [u8], TokenKind)>,
        M: IntoIterator<Item = &'a [u8]>,
    {
        let mut tokens = bpe::Tokens::default();
        for (text, kind) in parts.tokens {
            tokens.push(text, kind)?;
        }
        let mut merges = tokens.merges()?;
        for (i, line) in parts.merges.into_iter().enumerate() {
            merges.push_line(line, MergeAt::Index(i))?;
        }
        let rules = bpe::Rules {
            pre: PreTokenizer::new(&parts.splitter.steps())?,
            add_prefix_space: parts.add_prefix_space,
            ignore_merges: parts.ignore_merges,
            nfc,
            missing: bpe::Missing::Refused,
        };
        let (vocab, bpe) = merges.finish(rules, Keep::Last, |_| ());
        let special = SpecialIndex::of_vocab(&vocab, Vec::new())?;
        Tokenizer::new(vocab, Algorithm::ByteBpe(Box::new(bpe)), special, parts.ids)
    }

    fn new(
        vocab: Vocab,
        algorithm: Algorithm,
        special: SpecialIndex,
        ids: SpecialIds,
    ) -> Result<Self, TokenizerError> {
        let mut tokenizer = Tokenizer {
            vocab,
            algorithm,
            special,
            ids: SpecialIds::default(),
            stops: Vec::new(),
            unmerged: Vec::new(),
            retyped: Vec::new(),
            warnings: Vec::new(),
        };
        for id in [ids.bos, ids.eos, ids.eot, ids.unk].into_iter().flatten() {
            tokenizer.bytes_of(id)?;
        }
        tokenizer.unmerged = tokenizer.merged_controls();
        tokenizer.stops = ends::named(&tokenizer.vocab);
        tokenizer.set_ids(ids);
        Ok(tokenizer)
    }

    /// The parts of each control token that merging may produce.
    fn merged_controls(&self) -> Vec<(u32, [u32; 2])> {
        let mut all = Vec::new();
        let mut add = |[left, right, product]: [u32; 3]| {
            if self.vocab.kind(product) == Some(TokenKind::Control) {
                all.push((product, [left, right]));
            }
        };
        match &self.algorithm {
            Algorithm::ByteBpe(bpe) => bpe.merges().for_each(&mut add),
            Algorithm::Spm(spm) => spm.merges().for_each(&mut add),
            Algorithm::Pipeline(pipeline) => pipeline.merges().into_iter().for_each(&mut add),
        }
        // The sort is stable, so that the merge of the lowest rank stays.
        all.sort_by_key(|&(product, _)| product);
        all.dedup_by_key(|&mut (product, _)| product);
        all
    }

    /// Sets the ids of the special tokens.
    fn set_ids(&mut self, ids: SpecialIds) {
        self.ids = ids;
        self.add_stops([ids.eos, ids.eot].into_iter().flatten());
    }

    /// Adds tokens that end generation, if they are in the vocabulary.
    fn add_stops(&mut self, ids: impl IntoIterator<Item = u32>) {
        self.stops.extend(ids.into_iter().filter(|&id| self.vocab.kind(id).is_some()));
        self.stops.sort_unstable();
        self.stops.dedup();
        self.stops.shrink_to_fit();
    }

    /// Builds a SentencePiece BPE tokenizer from parts in memory. Neighbours whose joint text is a
    /// token are merged, highest score first, leftmost first on ties. A character that is then
    /// still no token becomes tokens of [`TokenKind::Byte`], named like `<0x0A>`, or `ids.unk` if
    /// one of them is missing.
    ///
    /// # Errors
    /// [`TokenizerError`] if two normal tokens are equal, a byte token is not written as one, a
    /// score is NaN, or an id of `ids` is out of range.
    pub fn sentence_piece<'a, T>(parts: SpmParts<T>) -> Result<Self, TokenizerError>
    where
        T: IntoIterator<Item = (&'a [u8], f32, TokenKind)>,
    {
        let (mut pieces, mut scores) = (spm::Pieces::default(), Vec::new());
        for (text, score, kind) in parts.tokens {
            pieces.push(text, kind)?;
            scores.push(score);
        }
        let built = pieces.finish(spm::Rules::sentence_piece(parts.add_space_prefix), false)?;
        let (vocab, spm) = built.by_scores(&scores, parts.ids.unk)?;
        let special = SpecialIndex::of_vocab(&vocab, Vec::new())?;
        Tokenizer::new(vocab, Algorithm::Spm(Box::new(spm)), special, parts.ids)
    }

    /// Encodes `text`, without adding any tokens (no `bos`).
    ///
    /// # Errors
    /// [`TokenizerError::NoTokenForByte`] if the vocabulary lacks one of the text's bytes (files whose
    /// own libraries leave such bytes out give no error), [`TokenizerError::PatternTooSlow`] if a
    /// pattern of the file takes too many steps.
    pub fn encode(&self, text: &str, specials: Specials) -> Result<Vec<u32>, TokenizerError> {
        let mut out = Vec::new();
        self.encode_into(text, specials, &mut EncodeScratch::default(), &mut out)?;
        Ok(out)
    }

    /// Appends the ids of `text` to `out`: [`encode`](Self::encode) for repeated use without
    /// allocating each time.
    ///
    /// # Errors
    /// As [`encode`](Self::encode); `out` is then unchanged.
    pub fn encode_into(
        &self,
        text: &str,
        specials: Specials,
        scratch: &mut EncodeScratch,
        out: &mut Vec<u32>,
    ) -> Result<(), TokenizerError> {
        // Positions in a piece, which may have a space in front, are counted in 32 bits.
        if text.len() >= u32::MAX as usize - 1 {
            return Err(TokenizerError::TextTooLong { bytes: text.len() });
        }
        let before = out.len();
        scratch.cut.budget = Budget::new(text.len());
        scratch.pipeline.budget = scratch.cut.budget;
        let done = self.encode_all(text, specials, scratch, out);
        if done.is_err() {
            out.truncate(before);
        } else if specials == Specials::Ignore {
            self.unmerge(before, out);
        }
        done
    }

    fn encode_all(
        &self,
        text: &str,
        specials: Specials,
        scratch: &mut EncodeScratch,
        out: &mut Vec<u32>,
    ) -> Result<(), TokenizerError> {
        let mut walk = Walk::default();
        while let Some((start, end, id)) = self.special.next(text, &mut walk, specials) {
            self.encode_plain(&text[start..end], start == 0, specials, scratch, out)?;
            out.push(id);
        }
        let rest = walk.rest();
        self.encode_plain(&text[rest..], rest == 0, specials, scratch, out)
    }

    /// Replaces control tokens, which merging made from text, by what was merged.
    fn unmerge(&self, from: usize, out: &mut Vec<u32>) {
        let (Some(&(low, _)), Some(&(high, _))) = (self.unmerged.first(), self.unmerged.last())
        else {
            return;
        };
        let parts = |id: u32| {
            let at = self.unmerged.binary_search_by_key(&id, |&(product, _)| product);
            at.ok().map(|at| self.unmerged[at].1)
        };
        let found = out[from..].iter().position(|id| (low..=high).contains(id));
        let Some(found) = found else { return };
        let rest = out.split_off(from + found);
        let mut stack = Vec::new();
        for id in rest {
            stack.push(id);
            while let Some(id) = stack.pop() {
                match parts(id) {
                    // Both are shorter than the token, so that this ends.
                    Some([left, right]) => stack.extend([right, left]),
                    None => out.push(id),
                }
            }
        }
    }

    /// Appends the ids of a stretch of text without special tokens, except for those matched in
    /// normalised text. `start` is true at the beginning of the text.
    fn encode_plain(
        &self,
        text: &str,
        start: bool,
        specials: Specials,
        scratch: &mut EncodeScratch,
        out: &mut Vec<u32>,
    ) -> Result<(), TokenizerError> {
        match &self.algorithm {
            Algorithm::ByteBpe(bpe) => bpe.encode(&self.vocab, text, specials, scratch, out),
            Algorithm::Spm(spm) => {
                spm.encode(&self.vocab, text, start, specials, &mut scratch.spm, out)
            }
            Algorithm::Pipeline(pipeline) => {
                pipeline.encode(text, start, specials, &mut scratch.pipeline, out)
            }
        }
    }

    /// The text of `ids`, with special tokens as their names and invalid UTF-8 as U+FFFD.
    ///
    /// If the vocabulary adds a space in front of texts, a space at the beginning is removed, so
    /// that this is the inverse of [`encode`](Self::encode). Text that continues another keeps its
    /// space: concatenate the bytes of its tokens instead ([`token_bytes`](Self::token_bytes)).
    ///
    /// # Errors
    /// [`TokenizerError::NoSuchId`] for an id without a token.
    pub fn decode(&self, ids: &[u32]) -> Result<String, TokenizerError> {
        let mut bytes = Vec::new();
        for (i, &id) in ids.iter().enumerate() {
            let token = self.bytes_of(id)?;
            let (first, last) = (i == 0, i + 1 == ids.len());
            if let Algorithm::Pipeline(pipeline) = &self.algorithm
                && let Some(text) = pipeline.decode_at(id, first, last)
            {
                bytes.extend_from_slice(&text);
                continue;
            }
            let skip = first && self.strips_space(id) && token.first() == Some(&b' ');
            bytes.extend_from_slice(&token[usize::from(skip)..]);
        }
        if let Algorithm::Pipeline(pipeline) = &self.algorithm {
            bytes = pipeline.strip(&bytes).to_vec();
        }
        Ok(match String::from_utf8(bytes) {
            Ok(text) => text,
            Err(e) => String::from_utf8_lossy(e.as_bytes()).into_owned(),
        })
    }

    /// True if a space at the start of a text that begins with this token is the prefix.
    fn strips_space(&self, first: u32) -> bool {
        let strips = match &self.algorithm {
            Algorithm::ByteBpe(_) | Algorithm::Pipeline(_) => false,
            Algorithm::Spm(spm) => spm.rules().strip,
        };
        strips && !self.is_special(first)
    }

    /// The bytes of a token: part of a text, in which characters may be cut anywhere
    /// ([`Utf8Stream`] joins them), or the name of a special token; `None` for an id without a
    /// token.
    #[must_use]
    pub fn token_bytes(&self, id: u32) -> Option<&[u8]> {
        self.vocab.get(id)
    }

    /// Number of bytes of the longest token; 0 without tokens.
    #[must_use]
    pub fn longest_token(&self) -> usize {
        self.vocab.longest()
    }

    fn bytes_of(&self, id: u32) -> Result<&[u8], TokenizerError> {
        let vocab_size = self.vocab_size();
        self.token_bytes(id).ok_or(TokenizerError::NoSuchId { id, vocab_size })
    }

    /// The kind of a token; `None` for an id without a token.
    #[must_use]
    pub fn token_kind(&self, id: u32) -> Option<TokenKind> {
        self.vocab.kind(id)
    }

    /// True if the token is not text: its bytes are a name that users should not see.
    #[must_use]
    pub fn is_special(&self, id: u32) -> bool {
        self.token_kind(id).is_some_and(TokenKind::is_special)
    }

    /// The id of the token with these bytes, preferring normal tokens. Scans the whole vocabulary.
    #[must_use]
    pub fn find_token(&self, bytes: &[u8]) -> Option<u32> {
        let with = self.vocab.iter().filter(|&(_, _, b)| b == bytes);
        with.min_by_key(|&(id, kind, _)| (kind != TokenKind::Normal, id)).map(|(id, _, _)| id)
    }

    /// Number of ids, including unused ones: the exclusive upper bound of ids.
    #[must_use]
    pub fn vocab_size(&self) -> usize {
        self.vocab.len()
    }

    /// Ids of the special tokens.
    #[must_use]
    pub fn special_ids(&self) -> SpecialIds {
        self.ids
    }

    /// The beginning-of-text token.
    #[must_use]
    pub fn bos(&self) -> Option<u32> {
        self.ids.bos
    }

    /// The end-of-text token.
    #[must_use]
    pub fn eos(&self) -> Option<u32> {
        self.ids.eos
    }

    /// The end-of-turn token of a conversation.
    #[must_use]
    pub fn eot(&self) -> Option<u32> {
        self.ids.eot
    }

    /// True if texts given to the model start with [`bos`](Self::bos).
    #[must_use]
    pub fn add_bos(&self) -> bool {
        self.ids.add_bos
    }

    /// True if texts given to the model end with [`eos`](Self::eos).
    #[must_use]
    pub fn add_eos(&self) -> bool {
        self.ids.add_eos
    }

    /// True if this token ends the model's text or turn: `eos`, `eot`, further tokens named by the
    /// model's files, and tokens with well-known names, such as `<|im_end|>`, by llama.cpp's list.
    /// Tokens with such names are control tokens, whatever type a file gives them.
    #[must_use]
    pub fn is_end(&self, id: u32) -> bool {
        self.stops.binary_search(&id).is_ok()
    }

    /// All ids for which [`is_end`](Self::is_end) holds, sorted.
    #[must_use]
    pub fn stop_ids(&self) -> &[u32] {
        &self.stops
    }

    /// The places where the files contradict themselves or lack something, and what was done.
    #[must_use]
    pub fn warnings(&self) -> &[TokenizerWarning] {
        &self.warnings
    }

    /// Memory used by the tokenizer, in bytes.
    #[must_use]
    pub fn memory(&self) -> usize {
        let algorithm = match &self.algorithm {
            Algorithm::ByteBpe(bpe) => bpe.memory(),
            Algorithm::Spm(spm) => spm.memory(),
            Algorithm::Pipeline(pipeline) => pipeline.memory(),
        };
        let lists = 4 * self.stops.capacity()
            + size_of::<(u32, [u32; 2])>() * self.unmerged.capacity()
            + size_of::<(u32, TokenKind)>() * self.retyped.capacity();
        let rest = self.vocab.memory() + self.special.memory() + lists;
        size_of::<Self>() + algorithm + rest
    }
}

/// Names of std's prelude that tests use.
#[cfg(test)]
mod test_prelude {
    pub(crate) use alloc::string::{String, ToString};
    pub(crate) use alloc::vec::Vec;
}
