//! Byte-level byte-pair encoding: the merges, and applying them to a piece of text.
//!
//! A piece starts as one token per byte. As long as a merge applies to two neighbours, the one with
//! the lowest rank is applied, leftmost first on ties.

use std::collections::BinaryHeap;
use std::fmt;

use super::nfc::{NfcScratch, Normalizer};
use super::special::SpecialIndex;
use super::vocab::{Hasher, Lookup, TokenKind, Vocab, slots_for};
use super::{MergeAt, Specials, Splitter, TokenizerError, alphabet};

/// Marks an absent merge, token or neighbour.
const NONE: u32 = u32::MAX;

/// Maximum length in bytes of pieces that are merged by searching all pairs each time, which is
/// fastest for few of them; longer pieces go through a priority queue.
const SHORT: usize = 40;

#[derive(Clone, Copy, Debug)]
struct Merge {
    left: u32,
    right: u32,
    product: u32,
}

/// The options of encoding besides the merges.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    /// The pre-tokenizer.
    pub(super) splitter: Splitter,
    /// True if a text that does not start with a space gets one in front.
    pub(super) add_prefix_space: bool,
    /// True if a piece that is a token becomes that token, regardless of the merges.
    pub(super) ignore_merges: bool,
    /// Normalisation to Unicode form C, if enabled. A function pointer, so that programs that never
    /// use it don't link its tables.
    pub(super) nfc: Option<Normalizer>,
}

/// The merges of a byte-level vocabulary.
#[derive(Clone)]
pub(super) struct ByteBpe {
    /// The token of each single byte, or [`NONE`].
    byte_ids: [u32; 256],
    /// Sorted by rank.
    merges: Vec<Merge>,
    /// Ranks by pair, in an open-addressing table; [`NONE`] in empty slots.
    slots: Vec<u32>,
    hasher: Hasher,
    rules: Rules,
    /// Special tokens that are matched in normalised text, after all others.
    pub(super) normalized: SpecialIndex,
    /// The tokens by their bytes, if [`Rules::ignore_merges`] is set.
    whole: Option<Lookup>,
}

impl fmt::Debug for ByteBpe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("ByteBpe");
        out.field("merges", &self.merges.len()).field("rules", &self.rules);
        out.finish_non_exhaustive()
    }
}

/// Reusable buffers for encoding. One value serves any number of texts and tokenizers in turn, and
/// allocates only if a text needs more than all before it.
#[derive(Clone, Debug, Default)]
pub struct EncodeScratch {
    nodes: Vec<Node>,
    queue: BinaryHeap<u64>,
    prefixed: String,
    nfc: NfcScratch,
    pub(super) spm: super::spm::SpmScratch,
}

/// A token of a long piece, linked to its neighbours.
#[derive(Clone, Copy, Debug)]
struct Node {
    id: u32,
    prev: u32,
    next: u32,
    /// The rank of the merge with the next token; [`NONE`] if there is none.
    rank: u32,
}

/// A queue entry: the greatest has the lowest rank, then the lowest position.
fn entry(rank: u32, at: u32) -> u64 {
    !(u64::from(rank) << 32 | u64::from(at))
}

impl ByteBpe {
    /// The rank of the merge of two tokens, or [`NONE`].
    fn rank(&self, left: u32, right: u32) -> u32 {
        let mask = self.slots.len() - 1;
        let mut slot = self.hasher.pair(left, right) as usize & mask;
        loop {
            let rank = self.slots[slot];
            if rank == NONE {
                return NONE;
            }
            let m = &self.merges[rank as usize];
            if (m.left, m.right) == (left, right) {
                return rank;
            }
            slot = (slot + 1) & mask;
        }
    }

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
        let mut memory = std::mem::take(&mut scratch.nfc);
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
        let mut at = 0;
        while let Some((start, end, id)) = self.normalized.find(vocab, text, at, specials) {
            self.encode_plain(vocab, &text[at..start], scratch, out)?;
            out.push(id);
            at = end;
        }
        self.encode_plain(vocab, &text[at..], scratch, out)
    }

    /// Appends the tokens of a text without any special tokens.
    fn encode_plain(
        &self,
        vocab: &Vocab,
        text: &str,
        scratch: &mut EncodeScratch,
        out: &mut Vec<u32>,
    ) -> Result<(), TokenizerError> {
        let splitter = self.rules.splitter;
        if !self.rules.add_prefix_space || text.is_empty() || text.starts_with(' ') {
            let mut pieces = splitter.split(text);
            return pieces.try_for_each(|p| self.encode_piece(vocab, p.as_bytes(), scratch, out));
        }
        let mut prefixed = std::mem::take(&mut scratch.prefixed);
        prefixed.clear();
        prefixed.push(' ');
        prefixed.push_str(text);
        let mut pieces = splitter.split(&prefixed);
        let done = pieces.try_for_each(|p| self.encode_piece(vocab, p.as_bytes(), scratch, out));
        scratch.prefixed = prefixed;
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

    fn byte_id(&self, byte: u8) -> Result<u32, TokenizerError> {
        match self.byte_ids[usize::from(byte)] {
            NONE => Err(TokenizerError::NoTokenForByte { byte }),
            id => Ok(id),
        }
    }

    /// Encodes a piece of at most [`SHORT`] bytes.
    fn encode_short(&self, piece: &[u8], out: &mut Vec<u32>) -> Result<(), TokenizerError> {
        let (mut ids, mut ranks) = ([NONE; SHORT], [NONE; SHORT]);
        let mut n = piece.len().min(SHORT);
        for (id, &byte) in ids.iter_mut().zip(piece) {
            *id = self.byte_id(byte)?;
        }
        for i in 1..n {
            ranks[i - 1] = self.rank(ids[i - 1], ids[i]);
        }
        while n > 1 {
            let (mut at, mut best) = (0, NONE);
            for (i, &rank) in ranks[..n - 1].iter().enumerate() {
                if rank < best {
                    (at, best) = (i, rank);
                }
            }
            if best == NONE {
                break;
            }
            ids[at] = self.merges[best as usize].product;
            ids.copy_within(at + 2..n, at + 1);
            ranks.copy_within(at + 1..n, at);
            n -= 1;
            if at > 0 {
                ranks[at - 1] = self.rank(ids[at - 1], ids[at]);
            }
            ranks[at] = if at + 1 < n { self.rank(ids[at], ids[at + 1]) } else { NONE };
        }
        out.extend_from_slice(&ids[..n]);
        Ok(())
    }

    /// Encodes a piece of any length below 2^32. Every merge is one queue operation, so a piece of
    /// `n` bytes takes `n log n` steps.
    fn encode_long(
        &self,
        piece: &[u8],
        scratch: &mut EncodeScratch,
        out: &mut Vec<u32>,
    ) -> Result<(), TokenizerError> {
        let nodes = &mut scratch.nodes;
        nodes.clear();
        nodes.reserve(piece.len());
        for (i, &byte) in (0u32..).zip(piece) {
            let id = self.byte_id(byte)?;
            nodes.push(Node { id, prev: i.wrapping_sub(1), next: i + 1, rank: NONE });
        }
        if let Some(last) = nodes.last_mut() {
            last.next = NONE;
        }
        let mut entries = std::mem::take(&mut scratch.queue).into_vec();
        entries.clear();
        for at in 1..nodes.len() {
            let rank = self.rank(nodes[at - 1].id, nodes[at].id);
            nodes[at - 1].rank = rank;
            if rank != NONE {
                entries.push(entry(rank, at as u32 - 1));
            }
        }
        let mut queue = BinaryHeap::from(entries);
        while let Some(top) = queue.pop() {
            let (rank, at) = ((!top >> 32) as u32, !top as u32);
            let node = nodes[at as usize];
            // An entry is stale if its pair has changed since.
            if node.rank != rank {
                continue;
            }
            let right = nodes[node.next as usize];
            nodes[node.next as usize].rank = NONE;
            let product = self.merges[rank as usize].product;
            let mut follow = NONE;
            if right.next != NONE {
                nodes[right.next as usize].prev = at;
                follow = self.rank(product, nodes[right.next as usize].id);
                if follow != NONE {
                    queue.push(entry(follow, at));
                }
            }
            nodes[at as usize] =
                Node { id: product, prev: node.prev, next: right.next, rank: follow };
            if node.prev != NONE {
                let before = &mut nodes[node.prev as usize];
                before.rank = self.rank(before.id, product);
                if before.rank != NONE {
                    queue.push(entry(before.rank, node.prev));
                }
            }
        }
        scratch.queue = queue;
        let mut at = 0;
        while let Some(node) = scratch.nodes.get(at as usize) {
            out.push(node.id);
            at = node.next;
        }
        Ok(())
    }

    pub(super) fn rules(&self) -> &Rules {
        &self.rules
    }

    /// The token of each single byte that has one.
    pub(super) fn bytes(&self) -> impl Iterator<Item = u32> {
        self.byte_ids.into_iter().filter(|&id| id != NONE)
    }

    /// The two tokens of each merge and its product, sorted by rank.
    pub(super) fn merges(&self) -> impl Iterator<Item = [u32; 3]> {
        self.merges.iter().map(|m| [m.left, m.right, m.product])
    }

    /// The token of a piece with these bytes that needs no merging ([`Rules::ignore_merges`]).
    pub(super) fn whole(&self, vocab: &Vocab, piece: &[u8]) -> Option<u32> {
        self.whole.as_ref()?.find(vocab, piece)
    }

    /// Memory in use, in bytes.
    pub(super) fn memory(&self) -> usize {
        let whole = self.whole.as_ref().map_or(0, Lookup::memory);
        let merges = size_of::<Merge>() * self.merges.capacity();
        let rest = self.normalized.memory() + whole;
        size_of::<Self>() + merges + 4 * self.slots.capacity() + rest
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
        if self.merges.len() >= NONE as usize / 2 {
            return Err(TokenizerError::VocabularyTooLarge);
        }
        self.merges.push(Merge { left: left_id, right: right_id, product });
        Ok(())
    }

    /// Ends the merges. `at` maps an index to the merge's location in its file.
    pub(super) fn finish(
        self,
        rules: Rules,
        at: impl Fn(usize) -> MergeAt,
    ) -> Result<(Vocab, ByteBpe), TokenizerError> {
        let Merges { vocab, lookup, hasher, mut merges, .. } = self;
        merges.shrink_to_fit();
        let byte_ids = std::array::from_fn(|b| lookup.find(&vocab, &[b as u8]).unwrap_or(NONE));
        let whole = rules.ignore_merges.then_some(lookup);
        let mut slots = vec![NONE; slots_for(merges.len())];
        let mask = slots.len() - 1;
        for (rank, m) in merges.iter().enumerate() {
            let mut slot = hasher.pair(m.left, m.right) as usize & mask;
            while slots[slot] != NONE {
                let other = &merges[slots[slot] as usize];
                if (other.left, other.right) == (m.left, m.right) {
                    let text = |id| String::from_utf8_lossy(vocab.get(id).unwrap_or_default());
                    let merge = format!("{} {}", text(m.left), text(m.right));
                    return Err(TokenizerError::DuplicateMerge { at: at(rank), merge });
                }
                slot = (slot + 1) & mask;
            }
            slots[slot] = rank as u32;
        }
        let normalized = SpecialIndex::default();
        let bpe = ByteBpe { byte_ids, merges, slots, hasher, rules, normalized, whole };
        Ok((vocab, bpe))
    }
}
