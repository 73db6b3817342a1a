//! SentencePiece's byte-pair encoding: texts as characters, spaces as `▁`, merged by scores or by
//! ranks.
//!
//! A text starts as one symbol per character. With scores (tokenizer.model, GGUF), any two
//! neighbours whose joint text is a token may merge, the token with the highest score first,
//! leftmost first on ties. With ranks (tokenizer.json), only listed pairs merge, the lowest rank
//! first. A character that is then still no token becomes its bytes' tokens, or the unknown token.

use alloc::collections::BinaryHeap;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use super::hash::Hasher;
use super::pairs::{Keep, Merge, NONE, Pairs, entry};
use super::special::{SpecialIndex, Walk};
use super::vocab::{Lookup, TokenKind, Vocab};
use super::{MergeAt, Specials, TokenizerError};

/// The character that stands for a space in the files, U+2581.
pub(super) const SPACE: &str = "\u{2581}";

/// Positions at which a space is added in front of text.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Prefix {
    /// Nowhere.
    Never,
    /// At the start of the text.
    Start,
    /// At the start of the text and after each special token.
    Parts,
}

/// How texts are split before merging.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Cut {
    /// Not at all.
    Never,
    /// Before each space.
    Spaces,
    /// Around runs of line breaks. With `whole`, a run that is a token becomes it.
    Lines { whole: bool },
}

/// The options of a vocabulary besides its tokens.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    pub(super) prefix: Prefix,
    /// True if no prefix is added in front of a space.
    pub(super) unless_space: bool,
    /// True if decoding removes the space in front of a text.
    pub(super) strip: bool,
    pub(super) cut: Cut,
    /// True if adjacent unknown characters become one unknown token.
    pub(super) fuse_unk: bool,
    /// True if a text that is a token becomes that token, regardless of merging.
    pub(super) ignore_merges: bool,
    /// True if the prefix is put in front before [`Spm::normalized`] tokens are matched.
    pub(super) prefix_first: bool,
}

impl Rules {
    /// The rules of SentencePiece's own files.
    pub(super) fn sentence_piece(add_space_prefix: bool) -> Self {
        Rules {
            prefix: if add_space_prefix { Prefix::Parts } else { Prefix::Never },
            unless_space: false,
            strip: add_space_prefix,
            cut: Cut::Never,
            fuse_unk: true,
            ignore_merges: false,
            prefix_first: true,
        }
    }
}

/// The pairs of neighbours that merge, and their order.
#[derive(Clone)]
enum Order {
    /// The priority of each token, indexed by id.
    Scores(Vec<u32>),
    /// The priority of a pair is its index.
    Ranks(Pairs),
}

/// The merges of a SentencePiece vocabulary.
#[derive(Clone)]
pub(super) struct Spm {
    /// Tokens that merging may produce, by their text.
    lookup: Lookup,
    /// Length in bytes of the longest of them.
    longest: usize,
    /// True if none of them has a space after something else: then no merge crosses from one word
    /// into the next, and words may be merged one by one.
    words: bool,
    byte_ids: [u32; 256],
    unk: u32,
    order: Order,
    rules: Rules,
    /// Tokens that are matched in normalised text, after all others.
    pub(super) normalized: SpecialIndex,
}

impl fmt::Debug for Spm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let merges = match &self.order {
            Order::Scores(_) => "by score",
            Order::Ranks(_) => "by rank",
        };
        f.debug_struct("Spm").field("merges", &merges).field("rules", &self.rules).finish()
    }
}

/// Reusable buffers for merging.
#[derive(Clone, Debug, Default)]
pub(super) struct SpmScratch {
    text: String,
    nodes: Vec<Node>,
    queue: BinaryHeap<u64>,
}

/// A symbol, linked to its neighbours.
#[derive(Clone, Copy, Debug)]
struct Node {
    start: u32,
    end: u32,
    /// Its token, or [`NONE`].
    id: u32,
    prev: u32,
    next: u32,
    /// The priority of the merge with the next symbol, lower first; [`NONE`] if there is none.
    rank: u32,
    /// The product of that merge.
    product: u32,
}

/// A score as a priority: the higher the score, the lower the number. `None` for NaN.
fn priority(score: f32) -> Option<u32> {
    if score.is_nan() {
        return None;
    }
    let bits = (score + 0.0).to_bits(); // -0 equals 0
    let ascending = if bits >> 31 == 1 { !bits } else { bits | 1 << 31 };
    Some(!ascending) // only NaN would be NONE
}

/// The score of a priority, up to the sign of zero.
fn score(priority: u32) -> f32 {
    let ascending = !priority;
    f32::from_bits(if ascending >> 31 == 1 { ascending ^ 1 << 31 } else { !ascending })
}

impl Spm {
    pub(super) fn rules(&self) -> &Rules {
        &self.rules
    }

    /// True if a stretch of text gets a space in front. `start` is true at the start of the text.
    fn prefixed(&self, text: &str, start: bool) -> bool {
        let wanted = match self.rules.prefix {
            Prefix::Never => false,
            Prefix::Start => start,
            Prefix::Parts => true,
        };
        let space = || text.starts_with([' ', '\u{2581}']);
        wanted && !text.is_empty() && !(self.rules.unless_space && space())
    }

    /// Appends the ids of a text without special tokens, except for those matched in normalised
    /// text.
    pub(super) fn encode(
        &self,
        vocab: &Vocab,
        text: &str,
        start: bool,
        specials: Specials,
        scratch: &mut SpmScratch,
        out: &mut Vec<u32>,
    ) -> Result<(), TokenizerError> {
        if self.normalized.is_empty() || self.rules.prefix_first {
            return self.encode_part(vocab, text, start, specials, scratch, out);
        }
        let mut walk = Walk::default();
        while let Some((from, to, id)) = self.normalized.next(text, &mut walk, specials) {
            let first = start && from == 0;
            self.encode_part(vocab, &text[from..to], first, specials, scratch, out)?;
            out.push(id);
        }
        let first = start && walk.rest() == 0;
        self.encode_part(vocab, &text[walk.rest()..], first, specials, scratch, out)
    }

    /// Appends the ids of a text that gets a prefix of its own.
    fn encode_part(
        &self,
        vocab: &Vocab,
        text: &str,
        start: bool,
        specials: Specials,
        scratch: &mut SpmScratch,
        out: &mut Vec<u32>,
    ) -> Result<(), TokenizerError> {
        let prefixed = self.prefixed(text, start);
        let mut own = core::mem::take(&mut scratch.text);
        let text = if prefixed || text.contains(SPACE) {
            own.clear();
            own.push_str(if prefixed { " " } else { "" });
            let mut parts = text.split(SPACE);
            own.push_str(parts.next().unwrap_or_default());
            parts.for_each(|part| {
                own.push(' ');
                own.push_str(part);
            });
            &own
        } else {
            text
        };
        let done = self.encode_prefixed(vocab, text, specials, scratch, out);
        scratch.text = own;
        done
    }

    /// Appends the ids of a text that has its prefix, with plain spaces only.
    fn encode_prefixed(
        &self,
        vocab: &Vocab,
        text: &str,
        specials: Specials,
        scratch: &mut SpmScratch,
        out: &mut Vec<u32>,
    ) -> Result<(), TokenizerError> {
        if self.normalized.is_empty() || !self.rules.prefix_first {
            return self.encode_escaped(vocab, text, scratch, out);
        }
        let mut walk = Walk::default();
        while let Some((from, to, id)) = self.normalized.next(text, &mut walk, specials) {
            self.encode_escaped(vocab, &text[from..to], scratch, out)?;
            out.push(id);
        }
        self.encode_escaped(vocab, &text[walk.rest()..], scratch, out)
    }

    /// Appends the ids of a text without any special tokens.
    fn encode_escaped(
        &self,
        vocab: &Vocab,
        text: &str,
        scratch: &mut SpmScratch,
        out: &mut Vec<u32>,
    ) -> Result<(), TokenizerError> {
        let mut after_unk = false;
        let every = self.rules.cut == Cut::Spaces;
        if self.rules.ignore_merges
            && !every
            && let Some(id) = self.token(vocab, text.as_bytes())
            && vocab.kind(id) != Some(TokenKind::Control)
        {
            out.push(id);
            return Ok(());
        }
        let mut rest = text;
        while !rest.is_empty() {
            let (end, whole) = match self.rules.cut {
                Cut::Spaces => (word(rest, true), self.rules.ignore_merges),
                Cut::Never if self.words => (word(rest, false), false),
                Cut::Never => (rest.len(), false),
                Cut::Lines { whole } => (line(rest), whole && rest.starts_with('\n')),
            };
            let (piece, tail) = rest.split_at(end);
            rest = tail;
            // Characters are fused within one piece.
            after_unk &= self.rules.cut == Cut::Never;
            match self.token(vocab, piece.as_bytes()) {
                Some(id) if whole && vocab.kind(id) != Some(TokenKind::Control) => {
                    after_unk = false;
                    out.push(id);
                }
                _ => self.merge(vocab, piece, &mut after_unk, scratch, out)?,
            }
        }
        Ok(())
    }

    /// The token with these bytes.
    fn token(&self, vocab: &Vocab, bytes: &[u8]) -> Option<u32> {
        if bytes.len() > self.longest { None } else { self.lookup.find(vocab, bytes) }
    }

    /// The priority and the product of merging two neighbours.
    fn pair(&self, vocab: &Vocab, text: &[u8], left: &Node, right: &Node) -> Option<(u32, u32)> {
        match &self.order {
            Order::Scores(ranks) => {
                let id = self.token(vocab, &text[left.start as usize..right.end as usize])?;
                Some((ranks[id as usize], id))
            }
            // No listed pair has an unknown symbol.
            Order::Ranks(pairs) => match pairs.rank(left.id, right.id) {
                NONE => None,
                rank => Some((rank, pairs.product(rank))),
            },
        }
    }

    /// Appends the ids of a piece. Every merge is one queue operation, so a piece of `n` characters
    /// takes `n log n` steps.
    fn merge(
        &self,
        vocab: &Vocab,
        piece: &str,
        after_unk: &mut bool,
        scratch: &mut SpmScratch,
        out: &mut Vec<u32>,
    ) -> Result<(), TokenizerError> {
        let text = piece.as_bytes();
        let SpmScratch { nodes, queue, .. } = scratch;
        nodes.clear();
        for (i, (start, c)) in (0u32..).zip(piece.char_indices()) {
            let end = start + c.len_utf8();
            let id = self.token(vocab, &text[start..end]).unwrap_or(NONE);
            let (start, end) = (start as u32, end as u32);
            let (prev, next) = (i.wrapping_sub(1), i + 1);
            nodes.push(Node { start, end, id, prev, next, rank: NONE, product: NONE });
        }
        if let Some(last) = nodes.last_mut() {
            last.next = NONE;
        }
        let mut entries = core::mem::take(queue).into_vec();
        entries.clear();
        for at in 1..nodes.len() {
            if let Some((rank, product)) = self.pair(vocab, text, &nodes[at - 1], &nodes[at]) {
                (nodes[at - 1].rank, nodes[at - 1].product) = (rank, product);
                entries.push(entry(rank, at as u32 - 1));
            }
        }
        *queue = BinaryHeap::from(entries);
        while let Some(top) = queue.pop() {
            let (rank, at) = ((!top >> 32) as u32, !top as u32);
            let node = nodes[at as usize];
            // An entry is stale if its pair has changed since.
            if node.rank != rank {
                continue;
            }
            let right = nodes[node.next as usize];
            nodes[node.next as usize].rank = NONE;
            let joined = Node {
                end: right.end,
                id: node.product,
                next: right.next,
                rank: NONE,
                product: NONE,
                ..node
            };
            nodes[at as usize] = joined;
            if joined.next != NONE {
                nodes[joined.next as usize].prev = at;
                self.update_pair(vocab, text, nodes, queue, at);
            }
            if joined.prev != NONE {
                self.update_pair(vocab, text, nodes, queue, joined.prev);
            }
        }
        let mut at = 0;
        while let Some(node) = nodes.get(at as usize) {
            if node.id != NONE {
                *after_unk = false;
                out.push(node.id);
            } else {
                self.byte_fallback(&text[node.start as usize..node.end as usize], after_unk, out)?;
            }
            at = node.next;
        }
        Ok(())
    }

    /// Looks up the merge of a node that has a successor.
    fn update_pair(
        &self,
        vocab: &Vocab,
        text: &[u8],
        nodes: &mut [Node],
        queue: &mut BinaryHeap<u64>,
        at: u32,
    ) {
        let node = nodes[at as usize];
        let found = self.pair(vocab, text, &node, &nodes[node.next as usize]);
        let (rank, product) = found.unwrap_or((NONE, NONE));
        (nodes[at as usize].rank, nodes[at as usize].product) = (rank, product);
        if rank != NONE {
            queue.push(entry(rank, at));
        }
    }

    /// Appends the tokens for a character that has none of its own.
    fn byte_fallback(
        &self,
        c: &[u8],
        after_unk: &mut bool,
        out: &mut Vec<u32>,
    ) -> Result<(), TokenizerError> {
        let c = if c == b" " { SPACE.as_bytes() } else { c };
        let id = |&b: &u8| self.byte_ids[usize::from(b)];
        match c.iter().find(|b| id(b) == NONE) {
            None => {
                *after_unk = false;
                out.extend(c.iter().map(id));
            }
            Some(&byte) if self.unk == NONE => return Err(TokenizerError::NoTokenForByte { byte }),
            Some(_) => {
                if !(*after_unk && self.rules.fuse_unk) {
                    out.push(self.unk);
                }
                *after_unk = true;
            }
        }
        Ok(())
    }

    /// The token that merging produces from these bytes, with plain spaces.
    pub(super) fn merged_token(&self, vocab: &Vocab, bytes: &[u8]) -> Option<u32> {
        self.token(vocab, bytes)
    }

    /// The token for unknown characters; `None` if there is none, or byte tokens replace it.
    pub(super) fn unknown(&self) -> Option<u32> {
        let needed = self.byte_ids.contains(&NONE) && self.unk != NONE;
        needed.then_some(self.unk)
    }

    /// The score of each token, if merging is by scores.
    pub(super) fn scores(&self) -> Option<Vec<f32>> {
        match &self.order {
            Order::Scores(ranks) => Some(ranks.iter().map(|&rank| score(rank)).collect()),
            Order::Ranks(_) => None,
        }
    }

    /// The two tokens of each merge and its product, in rank order, if merging is by ranks.
    pub(super) fn merges(&self) -> impl Iterator<Item = [u32; 3]> {
        let merges = match &self.order {
            Order::Scores(_) => &[][..],
            Order::Ranks(pairs) => pairs.merges(),
        };
        merges.iter().map(|m| [m.left, m.right, m.product])
    }

    /// True if merging is by ranks and has a merge of these two tokens.
    pub(super) fn merges_pair(&self, left: u32, right: u32) -> bool {
        matches!(&self.order, Order::Ranks(pairs) if pairs.rank(left, right) != NONE)
    }

    /// Memory in use, in bytes.
    pub(super) fn memory(&self) -> usize {
        let order = match &self.order {
            Order::Scores(ranks) => 4 * ranks.capacity(),
            Order::Ranks(pairs) => pairs.memory(),
        };
        size_of::<Self>() + self.lookup.memory() + self.normalized.memory() + order
    }
}

/// Length in bytes of the first word of a text: up to the first space after something else, or,
/// with `every`, after anything.
fn word(text: &str, every: bool) -> usize {
    let bytes = text.as_bytes();
    let at = (1..bytes.len()).find(|&i| bytes[i] == b' ' && (every || bytes[i - 1] != b' '));
    at.unwrap_or(bytes.len())
}

/// Length in bytes of the line at the start of a text, or of the line breaks there.
fn line(text: &str) -> usize {
    let breaks = text.starts_with('\n');
    text.find(|c| (c == '\n') != breaks).unwrap_or(text.len())
}

/// Builder for SentencePiece vocabularies from any file format.
#[derive(Default)]
pub(super) struct Pieces {
    vocab: Vocab,
    /// Ids of tokens with plain spaces in them, which escaped text never contains.
    plain: Vec<u32>,
    byte_ids: Vec<(u8, u32)>,
}

impl Pieces {
    /// Appends the token of the next id, with its text as stored in the file.
    pub(super) fn push(&mut self, text: &[u8], kind: TokenKind) -> Result<(), TokenizerError> {
        let id = self.vocab.len() as u32;
        let byte = if kind == TokenKind::Byte {
            let token = || String::from_utf8_lossy(text).into_owned();
            Some(byte_of(text).ok_or_else(|| TokenizerError::NotAByte { id, token: token() })?)
        } else {
            None
        };
        let id = self.vocab.push(Some(kind), |out| match (byte, kind) {
            (Some(byte), _) => out.push(byte),
            // User-defined text is matched before spaces become `▁`.
            (_, TokenKind::Normal | TokenKind::Unused | TokenKind::UserDefined) => {
                unescape(text, out);
            }
            _ => out.extend_from_slice(text),
        })?;
        self.byte_ids.extend(byte.map(|b| (b, id)));
        if text.contains(&b' ') {
            self.plain.push(id);
        }
        Ok(())
    }

    /// Skips the next id.
    pub(super) fn push_hole(&mut self) -> Result<(), TokenizerError> {
        self.vocab.push(None, |_| ()).map(drop)
    }

    /// Ends the tokens. `controls`: merges may also produce control tokens.
    pub(super) fn finish(self, rules: Rules, controls: bool) -> Result<Built, TokenizerError> {
        let Pieces { mut vocab, plain, byte_ids: bytes } = self;
        vocab.shrink();
        let mut lookup = Lookup::new(&vocab, Hasher::new());
        let (mut longest, mut words) = (0, true);
        // SentencePiece never merges to a control token or a byte. A normal token takes precedence
        // over one that is also matched whole in texts.
        for whole in [false, true] {
            for (id, kind, text) in vocab.iter() {
                let wanted = match kind {
                    TokenKind::Normal | TokenKind::Unused => !whole,
                    TokenKind::UserDefined => whole,
                    TokenKind::Control => whole && controls,
                    TokenKind::Unknown | TokenKind::Byte => false,
                };
                if !wanted || text.is_empty() || plain.binary_search(&id).is_ok() {
                    continue;
                }
                longest = longest.max(text.len());
                words &= !text.windows(2).any(|w| w[0] != b' ' && w[1] == b' ');
                if let Some(first) = lookup.insert(&vocab, id)
                    && kind == TokenKind::Normal
                {
                    let token = String::from_utf8_lossy(text).into_owned();
                    return Err(TokenizerError::DuplicateToken { token, first, second: id });
                }
            }
        }
        let mut byte_ids = [NONE; 256];
        for &(byte, id) in bytes.iter().rev() {
            byte_ids[usize::from(byte)] = id;
        }
        Ok(Built { vocab, lookup, longest, words, byte_ids, rules })
    }
}

/// Appends a token's text with plain spaces.
fn unescape(text: &[u8], out: &mut Vec<u8>) {
    let mut rest = text;
    while let Some((&first, tail)) = rest.split_first() {
        if let Some(tail) = rest.strip_prefix(SPACE.as_bytes()) {
            out.push(b' ');
            rest = tail;
        } else {
            out.push(first);
            rest = tail;
        }
    }
}

/// The byte of a token such as `<0x0A>`.
pub(super) fn byte_of(text: &[u8]) -> Option<u8> {
    let [b'<', b'0', b'x', high, low, b'>'] = *text else { return None };
    let digit = |d: u8| char::from(d).to_digit(16);
    Some((digit(high)? << 4 | digit(low)?) as u8)
}

/// A vocabulary without its merge order yet.
pub(super) struct Built {
    vocab: Vocab,
    lookup: Lookup,
    longest: usize,
    words: bool,
    byte_ids: [u32; 256],
    rules: Rules,
}

impl Built {
    /// Merges by the scores of all ids; those of unused ids and of tokens that are never merged
    /// don't matter.
    pub(super) fn by_scores(
        self,
        scores: &[f32],
        unk: Option<u32>,
    ) -> Result<(Vocab, Spm), TokenizerError> {
        let mut ranks = Vec::with_capacity(self.vocab.len());
        for id in 0..self.vocab.len() as u32 {
            let score = scores.get(id as usize).copied().unwrap_or(0.0);
            ranks.push(priority(score).ok_or(TokenizerError::ScoreIsNan { id })?);
        }
        Ok(self.order(Order::Scores(ranks), unk))
    }

    /// True if every byte has a token.
    pub(super) fn has_all_bytes(&self) -> bool {
        !self.byte_ids.contains(&NONE)
    }

    /// True if some byte has a token.
    pub(super) fn has_bytes(&self) -> bool {
        self.byte_ids.iter().any(|&id| id != NONE)
    }

    /// The first token with this text, of any kind.
    pub(super) fn find(&self, text: &[u8]) -> Option<u32> {
        self.vocab.iter().find(|&(_, _, t)| t == text).map(|(id, _, _)| id)
    }

    /// Merges by the ranks of listed pairs.
    pub(super) fn ranked(self) -> Ranked {
        Ranked { built: self, merges: Vec::new(), bytes: Vec::new() }
    }

    fn order(self, order: Order, unk: Option<u32>) -> (Vocab, Spm) {
        let Built { vocab, lookup, longest, words, byte_ids, rules } = self;
        let unk = unk.unwrap_or(NONE);
        let normalized = SpecialIndex::default();
        (vocab, Spm { lookup, longest, words, byte_ids, unk, order, rules, normalized })
    }
}

/// Builder for the merges of a vocabulary.
pub(super) struct Ranked {
    built: Built,
    merges: Vec<Merge>,
    bytes: Vec<u8>,
}

impl Ranked {
    /// Appends the merge of the next rank.
    pub(super) fn push(
        &mut self,
        left: &[u8],
        right: &[u8],
        at: MergeAt,
    ) -> Result<(), TokenizerError> {
        let Ranked { built, merges, bytes } = self;
        if left.is_empty() || right.is_empty() || left.contains(&b' ') || right.contains(&b' ') {
            return Err(TokenizerError::MalformedMerge { at });
        }
        let text = |t: &[u8]| String::from_utf8_lossy(t).into_owned();
        let find = |bytes: &[u8]| built.lookup.find(&built.vocab, bytes);
        let unknown = |token| TokenizerError::UnknownMergeToken { at, token: text(token) };
        bytes.clear();
        unescape(left, bytes);
        let middle = bytes.len();
        unescape(right, bytes);
        let left_id = find(&bytes[..middle]).ok_or_else(|| unknown(left))?;
        let right_id = find(&bytes[middle..]).ok_or_else(|| unknown(right))?;
        let product = find(bytes).ok_or_else(|| TokenizerError::NoMergeProduct {
            at,
            product: text(&[left, right].concat()),
        })?;
        if merges.len() >= NONE as usize / 2 {
            return Err(TokenizerError::VocabularyTooLarge);
        }
        merges.push(Merge { left: left_id, right: right_id, product });
        Ok(())
    }

    /// Ends the merges; `repeated` gets the index of each that stands there again.
    pub(super) fn finish(
        self,
        unk: Option<u32>,
        keep: Keep,
        repeated: impl FnMut(usize),
    ) -> (Vocab, Spm) {
        let Ranked { built, merges, .. } = self;
        let pairs = Pairs::new(merges, keep, Hasher::new(), repeated);
        built.order(Order::Ranks(pairs), unk)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_prelude::*;

    #[test]
    fn priorities_are_in_the_order_of_scores() {
        let ascending =
            [f32::NEG_INFINITY, f32::MIN, -31740.0, -1.5, -1e-45, 0.0, 1e-45, 2.0, f32::INFINITY];
        let ranks: Vec<_> = ascending.iter().map(|&s| priority(s).unwrap()).collect();
        assert!(ranks.windows(2).all(|w| w[0] > w[1]), "{ranks:x?}");
        assert!(ranks[0] < NONE);
        assert!(ascending.iter().zip(&ranks).all(|(s, &r)| score(r).to_bits() == s.to_bits()));
        assert_eq!(priority(-0.0), priority(0.0));
        assert_eq!(priority(f32::NAN), None);
        assert_eq!(priority(-f32::NAN), None);
    }

    #[test]
    fn words_begin_at_spaces() {
        let words = |text: &str, every| {
            let (mut rest, mut all) = (text, Vec::new());
            while !rest.is_empty() {
                let (piece, tail) = rest.split_at(word(rest, every));
                all.push(piece.to_string());
                rest = tail;
            }
            all
        };
        assert_eq!(words(" a  bc d ", false), [" a", "  bc", " d", " "]);
        assert_eq!(words(" a  bc d ", true), [" a", " ", " bc", " d", " "]);
        assert_eq!(words("  ", false), ["  "]);
    }

    #[test]
    fn bytes_are_read_as_they_are_written() {
        assert_eq!(byte_of(b"<0x0A>"), Some(10));
        assert_eq!(byte_of(b"<0xfF>"), Some(255));
        for bad in [&b"<0x0>"[..], b"<0x+1>", b"<0x0G>", b"0x0A", b"<0x0A> "] {
            assert_eq!(byte_of(bad), None);
        }
    }
}
