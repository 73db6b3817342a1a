//! A vocabulary: the bytes of all tokens in one allocation, with a lookup table.

use alloc::vec::Vec;

use super::TokenizerError;
use super::hash::Hasher;

/// The kind of a token. The numbers are those of GGUF's `tokenizer.ggml.token_type`.
///
/// The variants are complete: a new one would be a breaking change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum TokenKind {
    /// Ordinary text.
    Normal = 1,
    /// Placeholder for unknown text.
    Unknown = 2,
    /// Controls the model, such as the end of a text; never part of user text.
    Control = 3,
    /// Text that is matched whole before any other processing.
    UserDefined = 4,
    /// An id that the model has but the tokenizer does not use.
    Unused = 5,
    /// A single byte, in vocabularies that are not byte-level.
    Byte = 6,
}

impl TokenKind {
    /// The kind with this number in GGUF.
    #[must_use]
    pub const fn from_gguf(id: u32) -> Option<TokenKind> {
        Some(match id {
            1 => TokenKind::Normal,
            2 => TokenKind::Unknown,
            3 => TokenKind::Control,
            4 => TokenKind::UserDefined,
            5 => TokenKind::Unused,
            6 => TokenKind::Byte,
            _ => return None,
        })
    }

    /// True if the token is not text: [`Control`](Self::Control) or [`Unknown`](Self::Unknown).
    #[must_use]
    pub const fn is_special(self) -> bool {
        matches!(self, TokenKind::Control | TokenKind::Unknown)
    }
}

/// Tokens by id; some ids may be unused.
#[derive(Clone, Debug, Default)]
pub(super) struct Vocab {
    bytes: Vec<u8>,
    /// The end of each token in `bytes`; it starts at the end of the one before.
    ends: Vec<u32>,
    /// `None` for an unused id. One byte each.
    kinds: Vec<Option<TokenKind>>,
    /// Bytes of the longest token.
    longest: usize,
}

impl Vocab {
    /// Number of ids, including unused ones.
    pub(super) fn len(&self) -> usize {
        self.kinds.len()
    }

    /// Appends the token of the next id; `write` appends its bytes.
    pub(super) fn push(
        &mut self,
        kind: Option<TokenKind>,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> Result<u32, TokenizerError> {
        // The two highest ids are reserved as markers in tables.
        let id = u32::try_from(self.len()).ok().filter(|&id| id < u32::MAX - 1);
        let id = id.ok_or(TokenizerError::VocabularyTooLarge)?;
        let start = self.bytes.len();
        write(&mut self.bytes);
        if kind.is_some() {
            self.longest = self.longest.max(self.bytes.len() - start);
        }
        let end =
            u32::try_from(self.bytes.len()).map_err(|_| TokenizerError::VocabularyTooLarge)?;
        self.ends.push(end);
        self.kinds.push(kind);
        Ok(id)
    }

    /// The kind of a token; `None` for an unused id and beyond the end.
    pub(super) fn kind(&self, id: u32) -> Option<TokenKind> {
        self.kinds.get(id as usize).copied().flatten()
    }

    /// The bytes of a token; `None` for an unused id and beyond the end.
    pub(super) fn get(&self, id: u32) -> Option<&[u8]> {
        self.kind(id)?;
        Some(self.slice(id))
    }

    /// All tokens, without unused ids.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, TokenKind, &[u8])> {
        let kinds = (0u32..).zip(&self.kinds);
        kinds.filter_map(|(id, kind)| kind.map(|kind| (id, kind, self.slice(id))))
    }

    /// Bytes of the longest token; 0 without tokens.
    pub(super) fn longest(&self) -> usize {
        self.longest
    }

    fn slice(&self, id: u32) -> &[u8] {
        let i = id as usize;
        let start = if i == 0 { 0 } else { self.ends[i - 1] as usize };
        &self.bytes[start..self.ends[i] as usize]
    }

    /// Releases unused capacity.
    pub(super) fn shrink(&mut self) {
        self.bytes.shrink_to_fit();
        self.ends.shrink_to_fit();
        self.kinds.shrink_to_fit();
    }

    /// Memory in use, in bytes.
    pub(super) fn memory(&self) -> usize {
        self.bytes.capacity() + 4 * self.ends.capacity() + self.kinds.capacity()
    }
}

/// Number of slots for `n` entries of an open-addressing table: a power of two, at least half
/// empty.
pub(super) fn slots_for(n: usize) -> usize {
    (2 * n).next_power_of_two().max(16)
}

/// Lookup table from bytes to tokens.
#[derive(Clone)]
pub(super) struct Lookup {
    hasher: Hasher,
    /// The upper half of the hash, and the id, or [`EMPTY`].
    slots: Vec<(u32, u32)>,
}

const EMPTY: u32 = u32::MAX;

impl Lookup {
    /// An empty table with room for all tokens of `vocab`.
    pub(super) fn new(vocab: &Vocab, hasher: Hasher) -> Self {
        Lookup { hasher, slots: vec![(0, EMPTY); slots_for(vocab.len())] }
    }

    /// Adds a token; if one with the same bytes exists, returns its id instead.
    pub(super) fn insert(&mut self, vocab: &Vocab, id: u32) -> Option<u32> {
        let (slot, tag) = self.probe(vocab, vocab.slice(id));
        match self.slots[slot].1 {
            EMPTY => {
                self.slots[slot] = (tag, id);
                None
            }
            other => Some(other),
        }
    }

    /// The id of the token with these bytes.
    pub(super) fn find(&self, vocab: &Vocab, bytes: &[u8]) -> Option<u32> {
        let (slot, _) = self.probe(vocab, bytes);
        Some(self.slots[slot].1).filter(|&id| id != EMPTY)
    }

    /// Memory in use, in bytes.
    pub(super) fn memory(&self) -> usize {
        8 * self.slots.capacity()
    }

    /// The slot that holds `bytes`, or the empty one to put them in.
    fn probe(&self, vocab: &Vocab, bytes: &[u8]) -> (usize, u32) {
        let hash = self.hasher.bytes(bytes);
        let (mask, tag) = (self.slots.len() - 1, (hash >> 32) as u32);
        let mut slot = hash as usize & mask;
        loop {
            let (t, id) = self.slots[slot];
            if id == EMPTY || (t == tag && vocab.slice(id) == bytes) {
                return (slot, tag);
            }
            slot = (slot + 1) & mask;
        }
    }
}
