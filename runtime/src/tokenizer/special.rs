//! Tokens that are matched literally in a text, before any other processing.

use super::vocab::{TokenKind, Vocab};
use super::{Specials, TokenizerError};

/// Maximum length of a special token in bytes, which bounds the matching time.
pub const MAX_SPECIAL: usize = 1024;

/// Index of a vocabulary's special tokens, for finding them in texts.
#[derive(Clone, Debug, Default)]
pub(super) struct SpecialIndex {
    /// Ids sorted by their bytes; those that start with byte `b` begin at `starts[b]`.
    ids: Vec<u32>,
    starts: Vec<u32>,
    /// Number of tokens that are matched even when special tokens are ignored.
    user_defined: usize,
    /// Sorted ids of tokens that absorb the white space after them.
    strip_after: Vec<u32>,
}

impl SpecialIndex {
    pub(super) fn new(vocab: &Vocab) -> Result<Self, TokenizerError> {
        let mut ids = Vec::new();
        for (id, kind, bytes) in vocab.iter() {
            let wanted = kind.is_special() || kind == TokenKind::UserDefined;
            // Tokens that are not UTF-8 can't occur in a text.
            if !wanted || bytes.is_empty() || std::str::from_utf8(bytes).is_err() {
                continue;
            }
            if bytes.len() > MAX_SPECIAL {
                return Err(TokenizerError::SpecialTooLong { id, bytes: bytes.len() });
            }
            ids.push(id);
        }
        Ok(SpecialIndex::of(vocab, ids))
    }

    fn of(vocab: &Vocab, ids: Vec<u32>) -> Self {
        let mut index = SpecialIndex { ids, ..SpecialIndex::default() };
        // Of two tokens with the same bytes, the lower id is found.
        index.ids.sort_by_key(|&id| (vocab.get(id), id));
        index.ids.dedup_by_key(|id| vocab.get(*id));
        index.ids.shrink_to_fit();
        let user_defined = |id: &&u32| vocab.kind(**id) == Some(TokenKind::UserDefined);
        index.user_defined = index.ids.iter().filter(user_defined).count();
        let first = |id: &u32| vocab.get(*id).and_then(|b| b.first()).copied();
        index.starts = (0..=256u32)
            .map(|b| index.ids.partition_point(|id| first(id).is_some_and(|f| u32::from(f) < b)))
            .map(|at| at as u32)
            .collect();
        index
    }

    /// Moves those of these ids that are matched in texts to a separate index.
    pub(super) fn split_off(&mut self, vocab: &Vocab, ids: &[u32]) -> SpecialIndex {
        if ids.is_empty() {
            return SpecialIndex::default();
        }
        let mut wanted = ids.to_vec();
        wanted.sort_unstable();
        let (theirs, ours) = self.ids.iter().partition(|id| wanted.binary_search(id).is_ok());
        let strip_after = std::mem::take(&mut self.strip_after);
        *self = SpecialIndex { strip_after, ..SpecialIndex::of(vocab, ours) };
        SpecialIndex::of(vocab, theirs)
    }

    /// The first special token in `text` at or after `from`, the longest if several start at the
    /// same place: its range and id. `from` is on a character boundary, and so is the range.
    pub(super) fn find(
        &self,
        vocab: &Vocab,
        text: &str,
        from: usize,
        specials: Specials,
    ) -> Option<(usize, usize, u32)> {
        let any = match specials {
            Specials::Ignore => self.user_defined > 0,
            Specials::Parse => !self.ids.is_empty(),
        };
        if !any {
            return None;
        }
        let bytes = text.as_bytes();
        (from..bytes.len()).find_map(|at| {
            let (id, len) = self.longest(vocab, &bytes[at..], specials)?;
            Some((at, at + len, id))
        })
    }

    /// Makes these tokens absorb the white space after them.
    pub(super) fn set_strip_after(&mut self, mut ids: Vec<u32>) {
        ids.sort_unstable();
        ids.dedup();
        ids.shrink_to_fit();
        self.strip_after = ids;
    }

    /// All tokens that are matched in texts.
    pub(super) fn ids(&self) -> &[u32] {
        &self.ids
    }

    /// Number of bytes of white space at the start of `rest` that belong to the token before it.
    pub(super) fn stripped_after(&self, id: u32, rest: &str) -> usize {
        if self.strip_after.binary_search(&id).is_err() {
            return 0;
        }
        rest.len() - rest.trim_start_matches([' ', '\t', '\n', '\u{b}', '\u{c}', '\r']).len()
    }

    /// The longest special token at the start of `text`, which is not empty, and its length.
    fn longest(&self, vocab: &Vocab, text: &[u8], specials: Specials) -> Option<(u32, usize)> {
        let b = usize::from(*text.first()?);
        // Tokens whose first `depth` bytes match the text: a range, since they are sorted.
        let mut live = self.ids.get(self.starts[b] as usize..self.starts[b + 1] as usize)?;
        let mut found = None;
        let mut depth = 1;
        while let Some(&first) = live.first() {
            // The shortest comes first; it is a match if all of it has been compared.
            if vocab.get(first).is_some_and(|t| t.len() == depth) {
                let ignored = specials == Specials::Ignore
                    && vocab.kind(first) != Some(TokenKind::UserDefined);
                if !ignored {
                    found = Some((first, depth));
                }
                live = &live[1..];
            }
            let Some(&next) = text.get(depth) else { break };
            let byte = |id: &u32| vocab.get(*id).and_then(|t| t.get(depth)).copied();
            let low = live.partition_point(|id| byte(id) < Some(next));
            let high = live.partition_point(|id| byte(id) <= Some(next));
            live = &live[low..high];
            depth += 1;
        }
        found
    }

    /// Memory in use, in bytes.
    pub(super) fn memory(&self) -> usize {
        4 * (self.ids.capacity() + self.starts.capacity() + self.strip_after.capacity())
    }
}
