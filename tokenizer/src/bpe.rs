//! Byte-level byte-pair encoding: the merges, and applying them to a piece of text.
//!
//! A piece starts as one token per byte. As long as a merge applies to two neighbours, the one with
//! the lowest rank is applied, leftmost first on ties.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use super::hash::Hasher;
use super::nfc::{NfcScratch, Normalizer};
use super::pairs::{Keep, Merge, MergeScratch, NONE, Pairs};
use super::special::{SpecialIndex, Walk};
use super::split::{CutScratch, PreTokenizer};
use super::vocab::{Lookup, TokenKind, Vocab};
use super::{MergeAt, Specials, TokenizerError, alphabet};

/// Maximum length in bytes of pieces that are merged by searching all pairs each time, which is
/// fastest for few of them; longer pieces go through a priority queue.
const SHORT: usize = 40;

/// Treatment of bytes without a token.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Missing {
    /// An error of the text.
    Refused,
    /// It is left out, as in the `tokenizers` library: its neighbours may merge.
    Dropped,
    /// It is left out after merging, as in llama.cpp.
    Skipped,
}

/// The options of encoding besides the merges.
#[derive(Clone, Debug)]
pub(super) struct Rules {
    /// The pre-tokenizer.
    pub(super) pre: PreTokenizer,
    /// True if a text that does not start with a space gets one in front.
    pub(super) add_prefix_space: bool,
    /// True if a piece that is a token becomes that token, regardless of the merges.
    pub(super) ignore_merges: bool,
    /// Normalisation to Unicode form C, if enabled. A function pointer, so that programs that never
    /// use it don't link its tables.
    pub(super) nfc: Option<Normalizer>,
    pub(super) missing: Missing,
}

/// The merges of a byte-level vocabulary.
#[derive(Clone)]
pub(super) struct ByteBpe {
    /// The token of each single byte, or [`NONE`].
    byte_ids: [u32; 256],
    pairs: Pairs,
    rules: Rules,
    /// Special tokens that are matched in normalised text, after all others.
    pub(super) normalized: SpecialIndex,
    /// The tokens by their bytes, if [`Rules::ignore_merges`] is set.
    whole: Option<Lookup>,
}

impl fmt::Debug for ByteBpe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("ByteBpe");
        out.field("merges", &self.pairs.merges().len()).field("rules", &self.rules);
        out.finish_non_exhaustive()
    }
}

/// Reusable buffers for encoding. One value serves any number of texts and tokenizers in turn, and
/// allocates only if a text needs more than all before it.
#[derive(Clone, Debug, Default)]
pub struct EncodeScratch {
    pub(super) merge: MergeScratch,
    prefixed: String,
    nfc: NfcScratch,
    pub(super) cut: CutScratch,
    pub(super) spm: super::spm::SpmScratch,
    pub(super) pipeline: super::pipeline::Scratch,
}

impl ByteBpe {
    /// Appends the tokens of a text without special tokens, except for those matched in normalised
    /// text.
    pub(super) fn encode(
        &self,
        vocab: &Vocab,
        text: &str,
        specials: Specials,
        scratch: &mut EncodeScratch,
        out: &mut Vec<u32>,
    ) -> Result<(), TokenizerError> {
        let Some(nfc) = self.rules.nfc else {
            return self.encode_normal(vocab, text, specials, scratch, out);
        };
        let mut memory = core::mem::take(&mut scratch.nfc);
        let normal = nfc(text, &mut memory);
        // Normalisation may lengthen a text.
        let done = if normal.len() >= u32::MAX as usize - 1 {
            Err(TokenizerError::TextTooLong { bytes: normal.len() })
        } else {
            self.encode_normal(vocab, normal, specials, scratch, out)
        };
        scratch.nfc = memory;
        done
    }

    /// Appends the tokens of a text that is already normalised.
    fn encode_normal(
        &self,
        vocab: &Vocab,
        text: &str,
        specials: Specials,
        scratch: &mut EncodeScratch,
        out: &mut Vec<u32>,
    ) -> Result<(), TokenizerError> {
        let mut walk = Walk::default();
        while let Some((start, end, id)) = self.normalized.next(text, &mut walk, specials) {
            self.encode_plain(vocab, &text[start..end], scratch, out)?;
            out.push(id);
        }
        self.encode_plain(vocab, &text[walk.rest()..], scratch, out)
    }

    /// Appends the tokens of a text without any special tokens.
    fn encode_plain(
        &self,
        vocab: &Vocab,
        text: &str,
        scratch: &mut EncodeScratch,
        out: &mut Vec<u32>,
    ) -> Result<(), TokenizerError> {
        if !self.rules.add_prefix_space || text.is_empty() || text.starts_with(' ') {
            return self.encode_pieces(vocab, text, scratch, out);
        }
        let mut prefixed = core::mem::take(&mut scratch.prefixed);
        prefixed.clear();
        prefixed.push(' ');
        prefixed.push_str(text);
        let done = self.encode_pieces(vocab, &prefixed, scratch, out);
        scratch.prefixed = prefixed;
        done
    }

    /// Appends the tokens of a text that has its prefix.
    fn encode_pieces(
        &self,
        vocab: &Vocab,
        text: &str,
        scratch: &mut EncodeScratch,
        out: &mut Vec<u32>,
    ) -> Result<(), TokenizerError> {
        if let Some(fast) = self.rules.pre.fast() {
            let mut pieces = fast.split(text);
            return pieces.try_for_each(|p| self.encode_piece(vocab, p.as_bytes(), scratch, out));
        }
        let mut cut = core::mem::take(&mut scratch.cut);
        let done = self.rules.pre.cut(text, &mut cut).map_err(TokenizerError::from);
        let done = done.and_then(|pieces| {
            let mut pieces = pieces.iter();
            pieces.try_for_each(|&(start, end)| {
                self.encode_piece(vocab, &text.as_bytes()[start..end], scratch, out)
            })
        });
        scratch.cut = cut;
        done
    }

    /// Appends the tokens of one piece.
    fn encode_piece(
        &self,
        vocab: &Vocab,
        piece: &[u8],
        scratch: &mut EncodeScratch,
        out: &mut Vec<u32>,
    ) -> Result<(), TokenizerError> {
        if let Some(whole) = &self.whole
            && let Some(id) = whole.find(vocab, piece)
            && vocab.kind(id) == Some(TokenKind::Normal)
        {
            out.push(id);
            return Ok(());
        }
        if piece.len() <= SHORT {
            self.encode_short(piece, out)
        } else {
            self.encode_long(piece, scratch, out)
        }
    }

    /// The token of a byte; `None` if it is left out.
    fn byte_id(&self, byte: u8) -> Result<Option<u32>, TokenizerError> {
        match (self.byte_ids[usize::from(byte)], self.rules.missing) {
            (NONE, Missing::Refused) => Err(TokenizerError::NoTokenForByte { byte }),
            (NONE, Missing::Dropped) => Ok(None),
            // No merge has it.
            (NONE, Missing::Skipped) => Ok(Some(NONE)),
            (id, _) => Ok(Some(id)),
        }
    }

    /// Encodes a piece of at most [`SHORT`] bytes.
    fn encode_short(&self, piece: &[u8], out: &mut Vec<u32>) -> Result<(), TokenizerError> {
        let mut ids = [NONE; SHORT];
        let mut n = 0;
        for &byte in piece.iter().take(SHORT) {
            if let Some(id) = self.byte_id(byte)? {
                ids[n] = id;
                n += 1;
            }
        }
        let n = self.pairs.merge_few(&mut ids, n);
        out.extend(ids[..n].iter().filter(|&&id| id != NONE));
        Ok(())
    }

    /// Encodes a piece of any length below 2^32.
    fn encode_long(
        &self,
        piece: &[u8],
        scratch: &mut EncodeScratch,
        out: &mut Vec<u32>,
    ) -> Result<(), TokenizerError> {
        scratch.merge.start(piece.len());
        for &byte in piece {
            if let Some(id) = self.byte_id(byte)? {
                scratch.merge.push(id);
            }
        }
        let start = out.len();
        self.pairs.merge_many(&mut scratch.merge, out);
        if self.rules.missing == Missing::Skipped && out[start..].contains(&NONE) {
            let mut at = 0;
            out.retain(|&id| {
                at += 1;
                at <= start || id != NONE
            });
        }
        Ok(())
    }

    pub(super) fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Merges as tiktoken does: by what they make, the leftmost of several first. The merges of each
    /// token follow each other.
    pub(super) fn merge_by_product(&mut self) {
        self.pairs.share_ranks();
    }

    /// True if every byte has a token.
    pub(super) fn has_all_bytes(&self) -> bool {
        !self.byte_ids.contains(&NONE)
    }

    /// The token of each single byte that has one.
    pub(super) fn bytes(&self) -> impl Iterator<Item = u32> {
        self.byte_ids.into_iter().filter(|&id| id != NONE)
    }

    /// The two tokens of each merge and its product, sorted by rank.
    pub(super) fn merges(&self) -> impl Iterator<Item = [u32; 3]> {
        self.pairs.merges().iter().map(|m| [m.left, m.right, m.product])
    }

    /// The token of a piece with these bytes that needs no merging ([`Rules::ignore_merges`]).
    pub(super) fn whole(&self, vocab: &Vocab, piece: &[u8]) -> Option<u32> {
        self.whole.as_ref()?.find(vocab, piece)
    }

    /// Memory in use, in bytes.
    pub(super) fn memory(&self) -> usize {
        let whole = self.whole.as_ref().map_or(0, Lookup::memory);
        size_of::<Self>() + self.pairs.memory() + self.normalized.memory() + whole
    }
}

/// Builder for byte-level vocabularies from any file format: tokens first, then merges.
#[derive(Default)]
pub(super) struct Tokens {
    vocab: Vocab,
    /// Ids of [`TokenKind::Normal`] tokens whose text is not in the byte alphabet. They are stored
    /// as they are, and no merge produces them.
    plain: Vec<u32>,
}

impl Tokens {
    /// Appends the token of the next id. The text of normal tokens is in the byte alphabet; other
    /// text is taken literally.
    pub(super) fn push(&mut self, text: &[u8], kind: TokenKind) -> Result<(), TokenizerError> {
        let mut mapped = true;
        let id = self.vocab.push(Some(kind), |bytes| {
            mapped = kind == TokenKind::Normal && alphabet::decode(text, bytes);
            if !mapped {
                bytes.extend_from_slice(text);
            }
        })?;
        if !mapped && kind == TokenKind::Normal {
            self.plain.push(id);
        }
        Ok(())
    }

    /// Appends the token of the next id, a normal one of these bytes.
    pub(super) fn push_bytes(&mut self, bytes: &[u8]) -> Result<(), TokenizerError> {
        self.vocab.push(Some(TokenKind::Normal), |out| out.extend_from_slice(bytes)).map(drop)
    }

    /// Skips the next id.
    pub(super) fn push_hole(&mut self) -> Result<(), TokenizerError> {
        self.vocab.push(None, |_| ()).map(drop)
    }

    /// Ends the tokens and starts the merges.
    pub(super) fn merges(self) -> Result<Merges, TokenizerError> {
        let Tokens { mut vocab, plain } = self;
        vocab.shrink();
        let hasher = Hasher::new();
        let mut lookup = Lookup::new(&vocab, hasher);
        for (id, kind, bytes) in vocab.iter() {
            if kind != TokenKind::Normal || plain.binary_search(&id).is_ok() {
                continue;
            }
            if let Some(first) = lookup.insert(&vocab, id) {
                let token = String::from_utf8_lossy(bytes).into_owned();
                return Err(TokenizerError::DuplicateToken { token, first, second: id });
            }
        }
        // A token produced by merges may also be one that is matched whole in texts. Its text is in
        // the byte alphabet only if every character of it maps to itself.
        for (id, kind, bytes) in vocab.iter() {
            if matches!(kind, TokenKind::UserDefined | TokenKind::Control)
                && bytes.iter().all(u8::is_ascii_graphic)
            {
                lookup.insert(&vocab, id);
            }
        }
        Ok(Merges { vocab, lookup, hasher, merges: Vec::new(), bytes: Vec::new() })
    }
}

/// The two tokens of a merge, which is written with one space between them.
pub(super) fn split_merge(line: &[u8], at: MergeAt) -> Result<(&[u8], &[u8]), TokenizerError> {
    let space = line.iter().position(|&b| b == b' ');
    let space = space.ok_or(TokenizerError::MalformedMerge { at })?;
    Ok((&line[..space], &line[space + 1..]))
}

/// Builder for the merges of a vocabulary.
pub(super) struct Merges {
    vocab: Vocab,
    lookup: Lookup,
    hasher: Hasher,
    merges: Vec<Merge>,
    bytes: Vec<u8>,
}

impl Merges {
    /// Appends the merge of the next rank, given as a line of text.
    pub(super) fn push_line(&mut self, line: &[u8], at: MergeAt) -> Result<(), TokenizerError> {
        let (left, right) = split_merge(line, at)?;
        self.push(left, right, at)
    }

    /// Appends the merge of the next rank.
    pub(super) fn push(
        &mut self,
        left: &[u8],
        right: &[u8],
        at: MergeAt,
    ) -> Result<(), TokenizerError> {
        let Merges { vocab, lookup, bytes, .. } = self;
        let text = |t: &[u8]| String::from_utf8_lossy(t).into_owned();
        let unknown = |token| TokenizerError::UnknownMergeToken { at, token: text(token) };
        if left.is_empty() || right.is_empty() || right.contains(&b' ') {
            return Err(TokenizerError::MalformedMerge { at });
        }
        bytes.clear();
        if !alphabet::decode(left, bytes) {
            return Err(unknown(left));
        }
        let middle = bytes.len();
        if !alphabet::decode(right, bytes) {
            return Err(unknown(right));
        }
        let left_id = lookup.find(vocab, &bytes[..middle]).ok_or_else(|| unknown(left))?;
        let right_id = lookup.find(vocab, &bytes[middle..]).ok_or_else(|| unknown(right))?;
        let product = lookup.find(vocab, bytes).ok_or_else(|| TokenizerError::NoMergeProduct {
            at,
            product: text(&[left, right].concat()),
        })?;
        self.push_ids(left_id, right_id, product)
    }

    /// The token of these bytes.
    pub(super) fn find(&self, bytes: &[u8]) -> Option<u32> {
        self.lookup.find(&self.vocab, bytes)
    }

    /// Appends the merge of the next rank.
    pub(super) fn push_ids(
        &mut self,
        left: u32,
        right: u32,
        product: u32,
    ) -> Result<(), TokenizerError> {
        if self.merges.len() >= NONE as usize / 2 {
            return Err(TokenizerError::VocabularyTooLarge);
        }
        self.merges.push(Merge { left, right, product });
        Ok(())
    }

    /// Ends the merges; `repeated` gets the index of each that stands there again.
    pub(super) fn finish(
        self,
        rules: Rules,
        keep: Keep,
        repeated: impl FnMut(usize),
    ) -> (Vocab, ByteBpe) {
        let Merges { vocab, lookup, hasher, merges, .. } = self;
        let byte_ids = core::array::from_fn(|b| lookup.find(&vocab, &[b as u8]).unwrap_or(NONE));
        let whole = rules.ignore_merges.then_some(lookup);
        let pairs = Pairs::new(merges, keep, hasher, repeated);
        let normalized = SpecialIndex::default();
        (vocab, ByteBpe { byte_ids, pairs, rules, normalized, whole })
    }
}
