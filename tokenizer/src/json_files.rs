//! The JSON files of Hugging Face folders: vocabularies, merges, added tokens, and the settings of
//! tokenizer_config.json.

use alloc::borrow::ToOwned;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;

use super::bpe;
use super::doc::{Doc, Value};
use super::hash::Hasher;
use super::special::Matching;
use super::vocab::{TokenKind, slots_for};
use super::warning::{self, TokenizerWarning};
use super::{MergeAt, TokenizerError};
use crate::json::Event;

type Result<T> = core::result::Result<T, TokenizerError>;

/// An added token: one outside the vocabulary, or one that is matched whole in texts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Added {
    /// Its id in the file.
    pub(super) id: Option<u64>,
    pub(super) content: String,
    pub(super) special: bool,
    pub(super) lstrip: bool,
    pub(super) rstrip: bool,
    pub(super) single_word: bool,
    /// True if it is matched in normalised text.
    pub(super) normalized: bool,
}

impl Added {
    /// A token without options.
    pub(super) fn plain(content: String, special: bool) -> Self {
        Added {
            id: None,
            content,
            special,
            lstrip: false,
            rstrip: false,
            single_word: false,
            normalized: !special,
        }
    }

    /// How it is found in texts.
    pub(super) fn matching(&self) -> Matching {
        Matching {
            always: !self.special,
            lstrip: self.lstrip,
            rstrip: self.rstrip,
            ascii: false,
            single_word: self.single_word,
        }
    }

    /// True if it is found with nothing but its own text.
    pub(super) fn is_bare(&self) -> bool {
        !(self.lstrip || self.rstrip || self.single_word)
    }

    fn of(value: &Value) -> Option<Self> {
        let flag = |key| value.get(key).and_then(Value::bool);
        let special = flag("special").unwrap_or(false);
        Some(Added {
            id: value.get("id").and_then(Value::number),
            content: value.get("content").and_then(Value::text)?.to_owned(),
            special,
            lstrip: flag("lstrip").unwrap_or(false),
            rstrip: flag("rstrip").unwrap_or(false),
            single_word: flag("single_word").unwrap_or(false),
            normalized: flag("normalized").unwrap_or(!special),
        })
    }
}

/// Added tokens with their ids, as the `tokenizers` library gives them.
#[derive(Default)]
pub(super) struct AddedVocab {
    pub(super) tokens: Vec<(u32, Added)>,
    /// Indices of `tokens` by content.
    index: BTreeMap<String, usize>,
}

impl AddedVocab {
    /// The id of an added token.
    pub(super) fn find(&self, content: &str) -> Option<u32> {
        let i = self.tokens.iter().position(|(_, a)| a.content == content)?;
        Some(self.tokens[i].0)
    }

    /// The other tokens than these.
    pub(super) fn without(&self, left_out: impl Fn(&Added) -> bool) -> AddedVocab {
        let kept = self.tokens.iter().filter(|(_, a)| !left_out(a));
        AddedVocab { tokens: kept.cloned().collect(), index: BTreeMap::new() }
    }

    /// Adds tokens to a vocabulary: one that is there keeps its id and changes its options, and the
    /// ids of others go on from the size of the vocabulary.
    pub(super) fn add(
        &mut self,
        list: &TokenList,
        known: &ByText<'_>,
        new: impl IntoIterator<Item = Added>,
        mut moved: impl FnMut(&Added, u32),
    ) -> Result<()> {
        let size = list.len();
        let highest = self.tokens.iter().map(|(id, _)| *id).max();
        let mut next = match highest {
            Some(max) if max >= size || size == 0 => max.saturating_add(1),
            _ => size,
        };
        for added in new {
            if added.content.is_empty() {
                continue;
            }
            let there = self.index.get(&added.content).and_then(|&i| self.tokens.get_mut(i));
            if let Some((id, old)) = there {
                moved(&added, *id);
                *old = added;
                continue;
            }
            let id = match known.get(&added.content) {
                Some(id) => id,
                None => {
                    next = next.saturating_add(1);
                    next - 1
                }
            };
            moved(&added, id);
            self.index.insert(added.content.clone(), self.tokens.len());
            self.tokens.push((id, added));
        }
        Ok(())
    }
}

/// Tokens with their ids, in any order.
pub(super) struct TokenList {
    text: String,
    /// End of each token in `text`, its id and its kind.
    entries: Vec<(usize, u32, TokenKind)>,
    /// Exclusive upper bound of ids.
    limit: u32,
}

impl TokenList {
    /// Reads `{"token": id, ...}` from a file of `file_len` bytes.
    pub(super) fn read(doc: &mut Doc<'_>, file_len: usize) -> Result<Self> {
        // An entry takes more than 4 bytes, so without unused ids all ids are below a quarter of
        // the file's size. The constant allows for small vocabularies with added tokens at much
        // larger ids.
        let limit = u32::try_from(file_len / 4).unwrap_or(u32::MAX - 1024).saturating_add(1024);
        let mut list = TokenList { text: String::new(), entries: Vec::new(), limit };
        doc.object("an object of tokens and their ids")?;
        while let Some(token) = doc.key()? {
            token.push_to(&mut list.text);
            let id = list.check(doc.id()?)?;
            list.entries.push((list.text.len(), id, TokenKind::Normal));
        }
        Ok(list)
    }

    /// Reads vocab.json.
    pub(super) fn from_vocab_json(bytes: &[u8]) -> Result<Self> {
        let mut doc = Doc::new("vocab.json", bytes);
        let list = TokenList::read(&mut doc, bytes.len())?;
        doc.end()?;
        Ok(list)
    }

    /// Number of tokens.
    pub(super) fn len(&self) -> u32 {
        self.entries.len() as u32
    }

    /// All ids, sorted.
    pub(super) fn ids(&self) -> Vec<u32> {
        let mut ids: Vec<u32> = self.entries.iter().map(|e| e.1).collect();
        ids.sort_unstable();
        ids
    }

    /// The ids by text; of several tokens with one text, the last counts.
    pub(super) fn by_text(&self) -> ByText<'_> {
        let slots = vec![NO_ENTRY; slots_for(self.entries.len())];
        let mut by_text = ByText { list: self, hasher: Hasher::new(), slots };
        for entry in 0..self.entries.len() {
            let slot = by_text.probe(self.token(entry));
            by_text.slots[slot] = entry as u32;
        }
        by_text
    }

    fn check(&self, id: u64) -> Result<u32> {
        let small = u32::try_from(id).ok().filter(|&id| id < self.limit);
        small.ok_or(TokenizerError::IdTooLarge { id, limit: self.limit })
    }

    fn token(&self, entry: usize) -> &str {
        let start = if entry == 0 { 0 } else { self.entries[entry - 1].0 };
        &self.text[start..self.entries[entry].0]
    }

    /// Sorts the tokens by id, together with the added ones.
    pub(super) fn build(self, added: &AddedVocab) -> Result<bpe::Tokens> {
        let mut tokens = bpe::Tokens::default();
        self.for_each_token(added, |token| match token {
            Some((text, kind)) => tokens.push(text.as_bytes(), kind),
            None => tokens.push_hole(),
        })?;
        Ok(tokens)
    }

    /// Passes the tokens to the callback in id order, together with the added ones; `None` is an id
    /// without a token.
    pub(super) fn for_each_token(
        mut self,
        added: &AddedVocab,
        mut token: impl FnMut(Option<(&str, TokenKind)>) -> Result<()>,
    ) -> Result<()> {
        const HOLE: u32 = u32::MAX;
        let mut by_id: Vec<u32> = Vec::new();
        let place = |by_id: &mut Vec<u32>, id: u32, entry: usize| {
            let i = id as usize;
            if by_id.len() <= i {
                by_id.resize(i + 1, HOLE);
            }
            let there = core::mem::replace(&mut by_id[i], entry as u32);
            (there != HOLE).then_some(there as usize)
        };
        for entry in 0..self.entries.len() {
            let id = self.entries[entry].1;
            if place(&mut by_id, id, entry).is_some() {
                return Err(TokenizerError::RepeatedId { id, token: self.token(entry).into() });
            }
        }
        for (id, a) in &added.tokens {
            let id = self.check(u64::from(*id))?;
            let kind = if a.special { TokenKind::Control } else { TokenKind::UserDefined };
            let entry = self.entries.len();
            match place(&mut by_id, id, entry) {
                Some(there) if self.token(there) == a.content => {
                    by_id[id as usize] = there as u32;
                    self.entries[there].2 = kind;
                }
                Some(_) => {
                    return Err(TokenizerError::RepeatedId { id, token: a.content.clone() });
                }
                None => {
                    self.text.push_str(&a.content);
                    self.entries.push((self.text.len(), id, kind));
                }
            }
        }
        for entry in by_id {
            match self.entries.get(entry as usize) {
                Some(&(_, _, kind)) => token(Some((self.token(entry as usize), kind)))?,
                None => token(None)?,
            }
        }
        Ok(())
    }
}

/// Marks an empty slot.
const NO_ENTRY: u32 = u32::MAX;

/// A table of the tokens of a list by their texts.
pub(super) struct ByText<'l> {
    list: &'l TokenList,
    hasher: Hasher,
    /// Open addressing; indices of the list's entries.
    slots: Vec<u32>,
}

impl ByText<'_> {
    /// The id of the token with this text.
    pub(super) fn get(&self, text: &str) -> Option<u32> {
        let entry = self.slots[self.probe(text)];
        self.list.entries.get(entry as usize).map(|e| e.1)
    }

    /// True if there is a token with this text.
    pub(super) fn has(&self, text: &str) -> bool {
        self.get(text).is_some()
    }

    /// The slot that holds `text`, or the empty one to put it in.
    fn probe(&self, text: &str) -> usize {
        let mask = self.slots.len() - 1;
        let mut slot = self.hasher.bytes(text.as_bytes()) as usize & mask;
        while self.slots[slot] != NO_ENTRY && self.list.token(self.slots[slot] as usize) != text {
            slot = (slot + 1) & mask;
        }
        slot
    }
}

/// A string that is neither null nor empty.
pub(super) fn text_or_null(doc: &mut Doc<'_>) -> Result<Option<String>> {
    match doc.next("null or a string")? {
        Event::Null => Ok(None),
        Event::String(text) => Ok(Some(text.to_cow().into_owned()).filter(|t| !t.is_empty())),
        _ => Err(doc.wrong("null or a string")),
    }
}

/// Reads merges, each written as `"a b"` or as `["a", "b"]`, and passes them to `push`.
pub(super) fn read_merges(
    mut doc: Doc<'_>,
    mut push: impl FnMut(&[u8], &[u8], MergeAt) -> Result<()>,
) -> Result<()> {
    let want = "an array of merges, each as text or as two texts";
    doc.array(want)?;
    for i in 0.. {
        let at = MergeAt::Index(i);
        match doc.next(want)? {
            Event::ArrayEnd => break,
            Event::String(line) => {
                let line = line.to_cow();
                let (left, right) = bpe::split_merge(line.as_bytes(), at)?;
                push(left, right, at)?;
            }
            Event::ArrayStart => {
                let left = doc.text(want)?.to_cow();
                let right = doc.text(want)?.to_cow();
                if doc.next(want)? != Event::ArrayEnd {
                    return Err(TokenizerError::MalformedMerge { at });
                }
                push(left.as_bytes(), right.as_bytes(), at)?;
            }
            _ => return Err(doc.wrong(want)),
        }
    }
    Ok(())
}

/// Reads the added tokens of tokenizer.json.
pub(super) fn added_tokens(doc: &mut Doc<'_>) -> Result<Vec<Added>> {
    let want = "an array of added tokens";
    let mut added = Vec::new();
    doc.array(want)?;
    loop {
        match doc.next(want)? {
            Event::ArrayEnd => return Ok(added),
            Event::ObjectStart => added.push(added_token(doc)?),
            _ => return Err(doc.wrong(want)),
        }
    }
}

/// Reads an added token whose `{` has been read.
fn added_token(doc: &mut Doc<'_>) -> Result<Added> {
    let (mut id, mut content) = (None, None);
    let mut normalized = None;
    let mut added = Added::plain(String::new(), false);
    while let Some(key) = doc.key()? {
        let flag = match () {
            () if key.is("special") => &mut added.special,
            () if key.is("single_word") => &mut added.single_word,
            () if key.is("lstrip") => &mut added.lstrip,
            () if key.is("rstrip") => &mut added.rstrip,
            () if key.is("normalized") => normalized.insert(false),
            () if key.is("id") => {
                id = Some(doc.id()?);
                continue;
            }
            () if key.is("content") => {
                content = Some(doc.text("the token's text")?.to_cow().into_owned());
                continue;
            }
            () => {
                doc.skip()?;
                continue;
            }
        };
        *flag = doc.flag("true or false")?;
    }
    added.id = Some(id.ok_or_else(|| doc.missing("added_tokens[].id"))?);
    added.content = content.ok_or_else(|| doc.missing("added_tokens[].content"))?;
    added.normalized = normalized.unwrap_or(!added.special);
    Ok(added)
}

/// A special token that a setting names.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Named {
    pub(super) content: String,
    /// Its options, if it is an object.
    options: Option<Added>,
}

/// The settings that name special tokens, in the order in which transformers adds them.
const NAMED: [&str; 7] =
    ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

/// Settings of tokenizer_config.json and special_tokens_map.json.
#[derive(Default)]
pub(super) struct Config {
    /// The tokens of [`NAMED`].
    named: [Option<Named>; NAMED.len()],
    /// Those of them that a file mentions, as a token or as null.
    mentioned: [bool; NAMED.len()],
    /// Special tokens under names of their own, such as `image_token`.
    own: Vec<Named>,
    /// Further special tokens.
    extra: Vec<Named>,
    /// True if texts begin with `bos`; `None` if the file leaves it to its class.
    pub(super) add_bos: Option<bool>,
    /// True if texts end with `eos`.
    pub(super) add_eos: Option<bool>,
    pub(super) add_prefix_space: Option<bool>,
    /// True for the older behaviour of SentencePiece's prefix.
    pub(super) legacy: Option<bool>,
    /// `added_tokens_decoder`, or added_tokens.json.
    pub(super) added: Option<Vec<Added>>,
    /// True if they are from `added_tokens_decoder`.
    decoder: bool,
    /// The class of the tokenizer.
    pub(super) class: Option<String>,
    /// Warnings of reading the folder.
    pub(super) warnings: Vec<TokenizerWarning>,
}

impl Config {
    pub(super) fn bos(&self) -> Option<&str> {
        self.name(0)
    }

    pub(super) fn eos(&self) -> Option<&str> {
        self.name(1)
    }

    pub(super) fn unk(&self) -> Option<&str> {
        self.name(2)
    }

    fn name(&self, i: usize) -> Option<&str> {
        self.named[i].as_ref().map(|n| n.content.as_str())
    }

    /// All special tokens, in the order in which transformers adds them.
    fn special(&self) -> impl Iterator<Item = &Named> {
        self.named.iter().flatten().chain(&self.own).chain(&self.extra)
    }

    /// The names of all special tokens.
    pub(super) fn names(&self) -> Vec<&str> {
        self.special().map(|n| n.content.as_str()).collect()
    }

    /// Takes the special tokens that a class of transformers has where no file mentions them.
    pub(super) fn take_defaults(&mut self, known: impl Fn(&str) -> bool) {
        const END: &str = "<|endoftext|>";
        let class = self.class.as_deref().map(|c| c.strip_suffix("Fast").unwrap_or(c));
        let defaults: &[(usize, &str)] = match class {
            Some("GPT2Tokenizer" | "GPTNeoXTokenizer" | "CodeGenTokenizer") => {
                &[(0, END), (1, END), (2, END)]
            }
            Some("Qwen2Tokenizer") => &[(1, END), (2, END), (4, END)],
            Some("LlamaTokenizer" | "CodeLlamaTokenizer") => {
                &[(0, "<s>"), (1, "</s>"), (2, "<unk>")]
            }
            _ => &[],
        };
        for &(i, content) in defaults {
            if !self.mentioned[i] && known(content) {
                self.named[i] = Some(Named { content: content.into(), options: None });
            }
        }
    }

    /// The tokens that transformers adds to those that tokenizer.json adds, in order: those of
    /// `added_tokens_decoder` or added_tokens.json, and those that settings name and nothing adds. A
    /// setting that names a token only makes it special.
    pub(super) fn to_add(&self, file: &[Added]) -> Vec<Added> {
        let mut all = self.added.clone().unwrap_or_default();
        if !self.decoder {
            // The older file gives way to ids in tokenizer.json.
            let taken: BTreeSet<Option<u64>> = file.iter().map(|a| a.id).collect();
            all.retain(|a| !taken.contains(&a.id));
        }
        all.sort_by_key(|a| a.id);
        let added: BTreeMap<&str, Added> =
            file.iter().chain(&all).map(|a| (a.content.as_str(), a.clone())).collect();
        let mut named = Vec::new();
        for token in self.special() {
            let plain = || Added::plain(token.content.clone(), true);
            let found = added.get(token.content.as_str()).or(token.options.as_ref());
            let found = found.cloned().unwrap_or_else(plain);
            named.push(Added { special: true, id: None, ..found });
        }
        all.extend(named);
        all
    }

    /// Adds tokens whose ids are not taken yet.
    pub(super) fn add_more(&mut self, added: Vec<Added>) {
        let there = self.added.get_or_insert_default();
        let known: BTreeSet<Option<u64>> = there.iter().map(|a| a.id).collect();
        there.extend(added.into_iter().filter(|a| !known.contains(&a.id)));
    }

    /// Reads tokenizer_config.json; everything unrelated to the tokens' meaning is skipped.
    pub(super) fn read(bytes: &[u8]) -> Result<Self> {
        let mut config = Config::default();
        config.read_from(&mut Doc::new("tokenizer_config.json", bytes))?;
        Ok(config)
    }

    /// Reads special_tokens_map.json, whose tokens replace those of tokenizer_config.json; it only
    /// counts where that has no `added_tokens_decoder`.
    pub(super) fn read_special_tokens_map(&mut self, bytes: &[u8]) -> Result<()> {
        let mut doc = Doc::new("special_tokens_map.json", bytes);
        if self.added.is_some() {
            return Ok(());
        }
        self.read_from(&mut doc)
    }

    fn read_from(&mut self, doc: &mut Doc<'_>) -> Result<()> {
        let (mut extra, mut additional) = (Vec::new(), Vec::new());
        doc.object("an object")?;
        while let Some(key) = doc.key()? {
            if let Some(i) = NAMED.iter().position(|name| key.is(name)) {
                self.named[i] = named(doc)?;
                self.mentioned[i] = true;
            } else if key.is("tokenizer_class") {
                self.class = text_or_null(doc)?;
            } else if key.is("add_bos_token") {
                self.add_bos = flag_or_null(doc)?;
            } else if key.is("add_eos_token") {
                self.add_eos = flag_or_null(doc)?;
            } else if key.is("add_prefix_space") {
                self.add_prefix_space = flag_or_null(doc)?;
            } else if key.is("legacy") {
                self.legacy = flag_or_null(doc)?;
            } else if key.is("added_tokens_decoder") {
                self.added = Some(added_by_id(doc)?);
                self.decoder = true;
            } else if key.is("extra_special_tokens") {
                match doc.value()? {
                    Value::Array(all) => extra = all.iter().filter_map(named_of).collect(),
                    Value::Object(all) => {
                        self.own.extend(all.iter().filter_map(|(_, value)| named_of(value)));
                    }
                    _ => {}
                }
            } else if key.is("additional_special_tokens") {
                if let Value::Array(all) = doc.value()? {
                    additional = all.iter().filter_map(named_of).collect();
                }
            } else if key.to_cow().ends_with("_token") {
                // Tokens that only some models have, such as `image_token`.
                self.own.extend(named_of(&doc.value()?));
            } else {
                doc.skip()?;
            }
        }
        doc.end()?;
        let known: BTreeSet<String> = self.extra.iter().map(|n| n.content.clone()).collect();
        self.extra.extend(extra.into_iter().filter(|n| !known.contains(&n.content)));
        if self.extra.is_empty() {
            self.extra = additional;
        }
        Ok(())
    }

    /// Counts an added token that has another id than the file gives it.
    pub(super) fn moved(warnings: &mut Vec<TokenizerWarning>, added: &Added, to: u32) {
        if let Some(from) = added.id.filter(|&from| from != u64::from(to)) {
            warning::count(warnings, 0, |_| TokenizerWarning::MovedTokens {
                token: added.content.clone(),
                from,
                to,
                count: 1,
            });
        }
    }
}

/// A boolean or null.
fn flag_or_null(doc: &mut Doc<'_>) -> Result<Option<bool>> {
    Ok(doc.value()?.bool())
}

/// The name of a token: a string, an object with its `content`, or null.
fn named(doc: &mut Doc<'_>) -> Result<Option<Named>> {
    let value = doc.value()?;
    let found = named_of(&value);
    let none = matches!(&value, Value::Null) || value.text() == Some("");
    if found.is_none() && !none {
        return Err(doc.wrong("null, the text of a token, or an object with its content"));
    }
    Ok(found)
}

fn named_of(value: &Value) -> Option<Named> {
    let options = Added::of(value);
    let content = value.text().map(str::to_owned).or(options.as_ref().map(|o| o.content.clone()));
    content.filter(|c| !c.is_empty()).map(|content| Named { content, options })
}

/// Reads `{"50256": {"content": ...}, ...}`.
fn added_by_id(doc: &mut Doc<'_>) -> Result<Vec<Added>> {
    let want = "an object of added tokens by their ids in quotes";
    let Value::Object(all) = doc.value()? else { return Err(doc.wrong(want)) };
    let mut added = Vec::new();
    for (id, value) in &all {
        let id: u64 = id.parse().map_err(|_| doc.wrong(want))?;
        let token =
            Added::of(value).ok_or_else(|| doc.missing("added_tokens_decoder[].content"))?;
        added.push(Added { id: Some(id), ..token });
    }
    Ok(added)
}
