//! Byte-pair encoding over the characters of a piece, with tokens as they are in the file.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use super::super::hash::Hasher;
use super::super::pairs::{Keep, Merge, MergeScratch, NONE, Pairs};
use super::super::vocab::{Lookup, TokenKind, Vocab};
use super::super::{MergeAt, TokenizerError};

/// Maximum number of symbols that are merged by searching all pairs each time.
const FEW: usize = 40;

/// The options of a model.
#[derive(Clone, Debug, Default)]
pub(in super::super) struct ModelParts {
    pub(in super::super) unk: Option<String>,
    pub(in super::super) byte_fallback: bool,
    pub(in super::super) fuse_unk: bool,
    pub(in super::super) ignore_merges: bool,
    /// Beginning of every character but the first of a piece.
    pub(in super::super) prefix: String,
    /// End of the last character of a piece.
    pub(in super::super) suffix: String,
}

/// A vocabulary and its merges.
#[derive(Clone)]
pub(in super::super) struct Model {
    texts: Vocab,
    /// The tokens that merging may produce.
    lookup: Lookup,
    parts: ModelParts,
    /// The token of each byte, such as `<0x0A>`, or [`NONE`].
    bytes: Box<[u32; 256]>,
    unk: u32,
    pairs: Pairs,
}

/// Builder of a model: tokens first, then merges.
pub(in super::super) struct Building {
    model: Model,
    merges: Vec<Merge>,
}

impl Model {
    /// Starts a model with these tokens, of which `in_model` can be produced by merging; the others
    /// are only decoded.
    pub(in super::super) fn build(
        texts: Vocab,
        parts: ModelParts,
        in_model: impl Fn(u32) -> bool,
    ) -> Building {
        let hasher = Hasher::new();
        let mut lookup = Lookup::new(&texts, hasher);
        for (id, _, _) in texts.iter().filter(|&(id, ..)| in_model(id)) {
            lookup.insert(&texts, id);
        }
        let find = |text: &str| lookup.find(&texts, text.as_bytes()).unwrap_or(NONE);
        let bytes = match parts.byte_fallback {
            true => Box::new(core::array::from_fn(|b| find(&format!("<0x{b:02X}>")))),
            false => Box::new([NONE; 256]),
        };
        let unk = parts.unk.as_deref().map_or(NONE, find);
        let pairs = Pairs::new(Vec::new(), Keep::Last, hasher, |_| ());
        Building { model: Model { texts, lookup, parts, bytes, unk, pairs }, merges: Vec::new() }
    }

    /// A token as it is in the file.
    pub(super) fn text(&self, id: u32) -> Option<&[u8]> {
        self.texts.get(id)
    }

    /// Appends the ids of a piece.
    pub(super) fn encode(
        &self,
        piece: &str,
        merge: &mut MergeScratch,
        ids: &mut Vec<u32>,
        out: &mut Vec<u32>,
    ) -> Result<(), TokenizerError> {
        if self.parts.ignore_merges
            && let Some(id) = self.lookup.find(&self.texts, piece.as_bytes())
            && self.texts.kind(id) != Some(TokenKind::Control)
        {
            out.push(id);
            return Ok(());
        }
        ids.clear();
        self.symbols(piece, ids)?;
        if ids.len() <= FEW {
            let mut few = [NONE; FEW];
            few[..ids.len()].copy_from_slice(ids);
            let n = self.pairs.merge_few(&mut few, ids.len());
            out.extend_from_slice(&few[..n]);
        } else {
            merge.start(ids.len());
            ids.iter().for_each(|&id| merge.push(id));
            self.pairs.merge_many(merge, out);
        }
        Ok(())
    }

    /// Appends the tokens of the characters of a piece. A character without a token becomes its
    /// bytes, or the unknown token, or nothing.
    fn symbols(&self, piece: &str, ids: &mut Vec<u32>) -> Result<(), TokenizerError> {
        let ModelParts { prefix, suffix, fuse_unk, .. } = &self.parts;
        let mut unknown = false;
        let mut spelled = String::new();
        for (at, c) in piece.char_indices() {
            let end = at + c.len_utf8();
            let mut text = &piece[at..end];
            let (first, last) = (at == 0, end == piece.len());
            if (!first && !prefix.is_empty()) || (last && !suffix.is_empty()) {
                spelled.clear();
                spelled.push_str(if first { "" } else { prefix });
                spelled.push(c);
                spelled.push_str(if last { suffix } else { "" });
                text = &spelled;
            }
            if let Some(id) = self.lookup.find(&self.texts, text.as_bytes()) {
                if core::mem::take(&mut unknown) {
                    ids.push(self.unk);
                }
                ids.push(id);
                continue;
            }
            let byte = |b: u8| self.bytes[usize::from(b)];
            if self.parts.byte_fallback && text.bytes().all(|b| byte(b) != NONE) {
                // An unknown token before them comes after them, as in the library.
                ids.extend(text.bytes().map(byte));
                continue;
            }
            if self.parts.unk.is_none() {
                continue;
            }
            if self.unk == NONE {
                let token = self.parts.unk.clone().unwrap_or_default();
                return Err(TokenizerError::NoUnknownToken { token });
            }
            if unknown && !fuse_unk {
                ids.push(self.unk);
            }
            unknown = true;
        }
        if unknown {
            ids.push(self.unk);
        }
        Ok(())
    }

    /// The merges: left and right token, and product.
    pub(super) fn merges(&self) -> Vec<[u32; 3]> {
        self.pairs.merges().iter().map(|m| [m.left, m.right, m.product]).collect()
    }

    /// Memory in use, in bytes.
    pub(super) fn memory(&self) -> usize {
        self.texts.memory() + self.lookup.memory() + self.pairs.memory() + 1024
    }
}

impl Building {
    /// Appends the merge of the next rank.
    pub(in super::super) fn push(
        &mut self,
        left: &str,
        right: &str,
        at: MergeAt,
    ) -> Result<(), TokenizerError> {
        let Model { texts, lookup, parts, .. } = &self.model;
        let find = |text: &str| lookup.find(texts, text.as_bytes());
        let unknown = |token: &str| TokenizerError::UnknownMergeToken { at, token: token.into() };
        let left_id = find(left).ok_or_else(|| unknown(left))?;
        let right_id = find(right).ok_or_else(|| unknown(right))?;
        // The library takes the length of the prefix off, whatever stands there.
        let rest = right.get(parts.prefix.len()..).ok_or_else(|| unknown(right))?;
        let product = format!("{left}{rest}");
        let product = find(&product).ok_or(TokenizerError::NoMergeProduct { at, product })?;
        if self.merges.len() >= NONE as usize / 2 {
            return Err(TokenizerError::VocabularyTooLarge);
        }
        self.merges.push(Merge { left: left_id, right: right_id, product });
        Ok(())
    }

    /// Ends the merges; `repeated` gets the index of each that stands there again.
    pub(in super::super) fn finish(mut self, repeated: impl FnMut(usize)) -> Model {
        self.model.pairs = Pairs::new(self.merges, Keep::Last, Hasher::new(), repeated);
        self.model
    }
}
