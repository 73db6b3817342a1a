//! Tokenizers of any components: normalizers, pre-tokenizers, byte-pair encoding of characters, and
//! decoders, each as the `tokenizers` library has it.
//!
//! The common combinations have faster code of their own ([`super::bpe`], [`super::spm`]); this is for
//! all others. A text goes through these steps:
//!
//! 1. normalisation, a rewriting of the whole text;
//! 2. finding the added tokens that are matched in normalised text;
//! 3. pre-tokenizers, which cut the rest into pieces and may rewrite them;
//! 4. merging the characters of each piece.

mod decode;
mod model;
mod normalize;
mod pre;

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use super::json_parts::{Dec, Norm, Pre};
use super::pairs::MergeScratch;
use super::regex::{Budget, RegexScratch};
use super::special::{SpecialIndex, Walk};
use super::vocab::Vocab;
use super::{Specials, TokenizerError};

use decode::Decoder;
pub(super) use model::{Model, ModelParts};
use normalize::Normalizer;
use pre::{Pieces, PreTokenizer};

/// A pipeline behind a table of functions, so that programs which never build one don't link it.
pub(super) trait Encode: fmt::Debug + Send + Sync {
    /// Appends the ids of a text without special tokens, except for those matched in normalised
    /// text. `start` is true at the start of the text.
    fn encode(
        &self,
        text: &str,
        start: bool,
        specials: Specials,
        scratch: &mut Scratch,
        out: &mut Vec<u32>,
    ) -> Result<(), TokenizerError>;

    /// The text of a token as the first or last of several; `None` if it is the same anywhere.
    fn decode_at(&self, id: u32, first: bool, last: bool) -> Option<Vec<u8>>;

    /// Strips the text of several tokens.
    fn strip<'t>(&self, text: &'t [u8]) -> &'t [u8];

    /// The merges: left and right token, and product.
    fn merges(&self) -> Vec<[u32; 3]>;

    /// A copy.
    fn boxed(&self) -> Box<dyn Encode>;

    /// Memory in use, in bytes.
    fn memory(&self) -> usize;
}

impl Clone for Box<dyn Encode> {
    fn clone(&self) -> Self {
        (**self).boxed()
    }
}

/// Reusable memory of encoding.
#[derive(Clone, Debug, Default)]
pub(super) struct Scratch {
    normal: String,
    other: String,
    pieces: Pieces,
    next: Pieces,
    parts: Vec<(usize, usize, bool)>,
    ranges: Vec<(usize, usize)>,
    regex: RegexScratch,
    merge: MergeScratch,
    ids: Vec<u32>,
    /// The steps that remain for the text.
    pub(super) budget: Budget,
}

/// A tokenizer of any components.
#[derive(Clone)]
pub(super) struct Pipeline {
    normalizer: Normalizer,
    pre: PreTokenizer,
    model: Model,
    decoder: Decoder,
    normalized: SpecialIndex,
}

impl fmt::Debug for Pipeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Pipeline");
        out.field("normalizer", &self.normalizer).field("pre", &self.pre);
        out.field("decoder", &self.decoder).finish_non_exhaustive()
    }
}

/// The components around a model.
pub(super) struct Components<'c> {
    pub(super) norm: &'c [Norm],
    pub(super) pre: &'c [Pre],
    pub(super) dec: Option<&'c [Dec]>,
}

impl Pipeline {
    pub(super) fn new(
        components: &Components<'_>,
        model: Model,
    ) -> Result<Pipeline, TokenizerError> {
        Ok(Pipeline {
            normalizer: Normalizer::new(components.norm)?,
            pre: PreTokenizer::new(components.pre)?,
            model,
            decoder: Decoder::new(components.dec)?,
            normalized: SpecialIndex::default(),
        })
    }

    /// The form in which an added token is matched in normalised text.
    pub(super) fn normalized_form(&self, text: &str) -> Result<String, TokenizerError> {
        let mut scratch = Scratch { budget: Budget::new(text.len()), ..Scratch::default() };
        self.normalizer.apply(text, &mut scratch)?;
        Ok(core::mem::take(&mut scratch.normal))
    }

    /// The text of a token within others; its bytes are part of a text.
    pub(super) fn token_text(&self, token: &str, budget: &mut Budget) -> Vec<u8> {
        self.decoder.token(token, false, false, budget)
    }

    pub(super) fn finish(mut self, normalized: SpecialIndex) -> Box<dyn Encode> {
        self.normalized = normalized;
        Box::new(self)
    }

    fn encode_pieces(
        &self,
        text: &str,
        first: bool,
        scratch: &mut Scratch,
        out: &mut Vec<u32>,
    ) -> Result<(), TokenizerError> {
        if text.is_empty() {
            return Ok(());
        }
        self.pre.apply(text, first, scratch)?;
        let Scratch { pieces, merge, ids, .. } = scratch;
        for &(start, end, _) in &pieces.ranges {
            self.model.encode(&pieces.text[start..end], merge, ids, out)?;
        }
        Ok(())
    }
}

impl Encode for Pipeline {
    fn encode(
        &self,
        text: &str,
        start: bool,
        specials: Specials,
        scratch: &mut Scratch,
        out: &mut Vec<u32>,
    ) -> Result<(), TokenizerError> {
        if text.is_empty() {
            return Ok(());
        }
        let kept = self.normalizer.apply(text, scratch)?;
        let normal = core::mem::take(&mut scratch.normal);
        if normal.len() >= u32::MAX as usize - 1 {
            return Err(TokenizerError::TextTooLong { bytes: normal.len() });
        }
        let first = start && kept;
        let mut walk = Walk::default();
        while let Some((from, to, id)) = self.normalized.next(&normal, &mut walk, specials) {
            self.encode_pieces(&normal[from..to], first && from == 0, scratch, out)?;
            out.push(id);
        }
        let rest = walk.rest();
        self.encode_pieces(&normal[rest..], first && rest == 0, scratch, out)?;
        scratch.normal = normal;
        Ok(())
    }

    fn decode_at(&self, id: u32, first: bool, last: bool) -> Option<Vec<u8>> {
        let token = core::str::from_utf8(self.model.text(id)?).ok()?;
        let mut budget = Budget::of_tokens(token.len());
        self.decoder.has_ends().then(|| self.decoder.token(token, first, last, &mut budget))
    }

    fn strip<'t>(&self, text: &'t [u8]) -> &'t [u8] {
        self.decoder.strip(text)
    }

    fn merges(&self) -> Vec<[u32; 3]> {
        self.model.merges()
    }

    fn boxed(&self) -> Box<dyn Encode> {
        Box::new(self.clone())
    }

    fn memory(&self) -> usize {
        size_of::<Self>()
            + self.normalizer.memory()
            + self.pre.memory()
            + self.model.memory()
            + self.normalized.memory()
    }
}

/// A vocabulary of the texts in the file.
pub(super) type Texts = Vocab;
