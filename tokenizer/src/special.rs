//! Tokens that are matched literally in a text, before any other processing.
//!
//! Matching is that of the `tokenizers` library: the leftmost match wins, and of those that start at
//! the same place the longest. A match that must be a whole word and is not is passed over, with the
//! text it covers; one that strips white space takes it from the text beside it.

use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::vec::Vec;

use super::regex::CharSet;
use super::vocab::{TokenKind, Vocab};
use super::{Specials, TokenizerError};

/// Maximum length of a special token in bytes, which bounds the matching time.
pub const MAX_SPECIAL: usize = 1024;

/// How a token is matched.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Matching {
    /// True if it is matched even when special tokens are ignored.
    pub(super) always: bool,
    /// True if it takes the white space before it.
    pub(super) lstrip: bool,
    /// True if it takes the white space after it.
    pub(super) rstrip: bool,
    /// True if that white space is only ASCII's, as in llama.cpp.
    pub(super) ascii: bool,
    /// True if no word character may stand beside it.
    pub(super) single_word: bool,
}

/// A token to be matched.
#[derive(Clone, Debug)]
pub(super) struct Literal {
    pub(super) text: String,
    pub(super) id: u32,
    pub(super) how: Matching,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    /// Its text.
    start: u32,
    end: u32,
    id: u32,
    how: Matching,
}

/// Index of the tokens that are found in texts.
#[derive(Clone, Debug, Default)]
pub(super) struct SpecialIndex {
    text: String,
    /// Sorted by their text; those that start with byte `b` begin at `starts[b]`.
    entries: Vec<Entry>,
    starts: Vec<u32>,
    /// Number of tokens that are matched even when special tokens are ignored.
    always: usize,
    /// Word characters, if a token must be a whole word.
    word: Option<CharSet>,
}

/// The state of a walk through a text.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Walk {
    /// The start of the text that the next match may be in.
    scan: usize,
    /// The end of what has been passed on.
    done: usize,
    /// A run of white space that has been read: its end, from anywhere after `from`.
    from: usize,
    to: usize,
}

impl Walk {
    /// The start of the text after the last match.
    pub(super) fn rest(self) -> usize {
        self.done
    }
}

impl SpecialIndex {
    /// The tokens of a vocabulary that are special or user-defined; those in `given` are matched as
    /// they say.
    pub(super) fn of_vocab(vocab: &Vocab, given: Vec<Literal>) -> Result<Self, TokenizerError> {
        let ids: BTreeSet<u32> = given.iter().map(|l| l.id).collect();
        let mut all = given;
        for (id, kind, bytes) in vocab.iter().filter(|(id, ..)| !ids.contains(id)) {
            let always = kind == TokenKind::UserDefined;
            // Tokens that are not UTF-8 can't occur in a text.
            if let (true, Ok(text)) = (kind.is_special() || always, core::str::from_utf8(bytes)) {
                let how = Matching { always, ..Matching::default() };
                all.push(Literal { text: text.into(), id, how });
            }
        }
        SpecialIndex::new(all)
    }

    /// An index of these tokens; those without text are never found.
    ///
    /// # Errors
    /// [`TokenizerError::SpecialTooLong`].
    pub(super) fn new(mut all: Vec<Literal>) -> Result<Self, TokenizerError> {
        all.retain(|l| !l.text.is_empty());
        if let Some(long) = all.iter().find(|l| l.text.len() > MAX_SPECIAL) {
            return Err(TokenizerError::SpecialTooLong { id: long.id, bytes: long.text.len() });
        }
        if all.is_empty() {
            return Ok(SpecialIndex::default());
        }
        // Of two tokens with the same text, the lower id is found.
        all.sort_by(|a, b| (&a.text, a.id).cmp(&(&b.text, b.id)));
        all.dedup_by(|b, a| a.text == b.text);
        let mut index = SpecialIndex::default();
        for literal in &all {
            let start = index.text.len();
            index.text.push_str(&literal.text);
            let ends = (u32::try_from(start), u32::try_from(index.text.len()));
            let (Ok(start), Ok(end)) = ends else { return Err(TokenizerError::VocabularyTooLarge) };
            index.entries.push(Entry { start, end, id: literal.id, how: literal.how });
        }
        index.always = all.iter().filter(|l| l.how.always).count();
        index.word = all.iter().any(|l| l.how.single_word).then(CharSet::word);
        let first = |e: &Entry| u32::from(index.text.as_bytes()[e.start as usize]);
        index.starts =
            (0..=256u32).map(|b| index.entries.partition_point(|e| first(e) < b) as u32).collect();
        index.text.shrink_to_fit();
        Ok(index)
    }

    /// True if no token is ever found.
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn bytes(&self, entry: &Entry) -> &[u8] {
        &self.text.as_bytes()[entry.start as usize..entry.end as usize]
    }

    /// The next token in `text`: its id, and the range of the text before it that belongs to none.
    /// After the last, [`Walk::rest`] is where the rest begins.
    pub(super) fn next(
        &self,
        text: &str,
        walk: &mut Walk,
        specials: Specials,
    ) -> Option<(usize, usize, u32)> {
        let any = match specials {
            Specials::Ignore => self.always > 0,
            Specials::Parse => !self.entries.is_empty(),
        };
        if !any {
            return None;
        }
        let bytes = text.as_bytes();
        while walk.scan < bytes.len() {
            let at = walk.scan;
            let Some((entry, len)) = self.longest(&bytes[at..], specials) else {
                walk.scan += 1;
                continue;
            };
            let (mut start, mut end) = (at, at + len);
            walk.scan = end;
            let how = entry.how;
            if how.single_word
                && let Some(word) = &self.word
            {
                let before = text[..start].chars().next_back();
                let after = text[end..].chars().next();
                if before.into_iter().chain(after).any(|c| word.contains(c)) {
                    continue;
                }
            }
            if how.lstrip {
                // What has been passed on is not read again.
                start = match text.get(walk.done..start) {
                    Some(before) => walk.done + before.trim_end().len(),
                    None => walk.done,
                };
            }
            if how.rstrip {
                // Tokens of white space may follow each other: their run is read once.
                if !(walk.from..walk.to).contains(&end) {
                    let rest = &text[end..];
                    let kept = match how.ascii {
                        true => rest.trim_start_matches([' ', '\t', '\n', '\u{b}', '\u{c}', '\r']),
                        false => rest.trim_start(),
                    };
                    (walk.from, walk.to) = (end, text.len() - kept.len());
                }
                end = walk.to;
            }
            let gap = (walk.done, start.max(walk.done));
            walk.done = end;
            // The token before it has taken all that it would cover.
            if start >= end {
                continue;
            }
            return Some((gap.0, gap.1, entry.id));
        }
        None
    }

    /// The longest token at the start of `text`, which is not empty, and its length.
    fn longest(&self, text: &[u8], specials: Specials) -> Option<(Entry, usize)> {
        let b = usize::from(*text.first()?);
        // Tokens whose first `depth` bytes match the text: a range, since they are sorted.
        let mut live = self.entries.get(self.starts[b] as usize..self.starts[b + 1] as usize)?;
        let mut found = None;
        let mut depth = 1;
        while let Some(first) = live.first() {
            // The shortest comes first; it is a match if all of it has been compared.
            if self.bytes(first).len() == depth {
                if first.how.always || specials == Specials::Parse {
                    found = Some((*first, depth));
                }
                live = &live[1..];
            }
            let Some(&next) = text.get(depth) else { break };
            let byte = |e: &Entry| self.bytes(e).get(depth).copied();
            let low = live.partition_point(|e| byte(e) < Some(next));
            let high = live.partition_point(|e| byte(e) <= Some(next));
            live = &live[low..high];
            depth += 1;
        }
        found
    }

    /// Changes how tokens are matched.
    pub(super) fn change(&mut self, mut how: impl FnMut(u32, &mut Matching)) {
        for entry in &mut self.entries {
            how(entry.id, &mut entry.how);
        }
        self.always = self.entries.iter().filter(|e| e.how.always).count();
    }

    /// Memory in use, in bytes.
    pub(super) fn memory(&self) -> usize {
        let entries = size_of::<Entry>() * self.entries.capacity();
        self.text.capacity() + entries + 4 * self.starts.capacity()
    }
}
