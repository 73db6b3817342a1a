//! The JSON files of Hugging Face folders: tokenizer.json, vocab.json, tokenizer_config.json.

use std::collections::HashSet;

use super::bpe::{self, ByteBpe};
use super::json_parts::{Template, normalizer, post_processor, pre_tokenizer};
use super::vocab::{TokenKind, Vocab};
use super::{MergeAt, TokenizerError};
use crate::json::{Event, JsonError, Reader, Text};

/// A JSON document being read, whose errors name its file.
#[derive(Clone)]
pub(super) struct Doc<'a> {
    file: &'static str,
    reader: Reader<'a>,
}

type Result<T> = std::result::Result<T, TokenizerError>;

impl<'a> Doc<'a> {
    pub(super) fn new(file: &'static str, bytes: &'a [u8]) -> Self {
        Doc { file, reader: Reader::new(bytes) }
    }

    fn json(&self, error: JsonError) -> TokenizerError {
        TokenizerError::Json { file: self.file, error }
    }

    pub(super) fn wrong(&self, want: &'static str) -> TokenizerError {
        TokenizerError::WrongField { file: self.file, offset: self.reader.offset(), want }
    }

    pub(super) fn missing(&self, field: &'static str) -> TokenizerError {
        TokenizerError::MissingField { file: self.file, field }
    }

    pub(super) fn next(&mut self, want: &'static str) -> Result<Event<'a>> {
        let event = self.reader.next().map_err(|e| self.json(e))?;
        event.ok_or_else(|| self.wrong(want))
    }

    pub(super) fn skip(&mut self) -> Result<()> {
        self.reader.skip_value().map_err(|e| self.json(e))
    }

    /// Skips the next value, and returns a reader positioned before it.
    pub(super) fn bookmark(&mut self) -> Result<Doc<'a>> {
        let here = self.clone();
        self.skip()?;
        Ok(here)
    }

    /// Reads to the end of the document, so that all of it has been validated.
    pub(super) fn end(&mut self) -> Result<()> {
        match self.reader.next().map_err(|e| self.json(e))? {
            None => Ok(()),
            Some(_) => Err(self.wrong("the end of the document")),
        }
    }

    pub(super) fn object(&mut self, want: &'static str) -> Result<()> {
        match self.next(want)? {
            Event::ObjectStart => Ok(()),
            _ => Err(self.wrong(want)),
        }
    }

    /// The next key of the current object; `None` at its end.
    pub(super) fn key(&mut self) -> Result<Option<Text<'a>>> {
        match self.next("a key")? {
            Event::Key(key) => Ok(Some(key)),
            _ => Ok(None),
        }
    }

    pub(super) fn array(&mut self, want: &'static str) -> Result<()> {
        match self.next(want)? {
            Event::ArrayStart => Ok(()),
            _ => Err(self.wrong(want)),
        }
    }

    pub(super) fn text(&mut self, want: &'static str) -> Result<Text<'a>> {
        match self.next(want)? {
            Event::String(text) => Ok(text),
            _ => Err(self.wrong(want)),
        }
    }

    pub(super) fn flag(&mut self, want: &'static str) -> Result<bool> {
        match self.next(want)? {
            Event::Bool(v) => Ok(v),
            _ => Err(self.wrong(want)),
        }
    }

    pub(super) fn id(&mut self) -> Result<u64> {
        let want = "a token id, an integer from 0";
        match self.next(want)? {
            Event::Number(n) => n.parse().map_err(|_| self.wrong(want)),
            _ => Err(self.wrong(want)),
        }
    }

    /// The `type` field of the next value, an object; `None` for `null`.
    pub(super) fn kind(&self, want: &'static str) -> Result<Option<String>> {
        let mut doc = self.clone();
        match doc.next(want)? {
            Event::Null => return Ok(None),
            Event::ObjectStart => {}
            _ => return Err(doc.wrong(want)),
        }
        while let Some(key) = doc.key()? {
            if key.is("type") {
                return Ok(Some(doc.text("the name of a type")?.to_cow().into_owned()));
            }
            doc.skip()?;
        }
        Err(doc.wrong(want))
    }
}

pub(super) fn unsupported<T>(part: &'static str, name: impl Into<String>) -> Result<T> {
    Err(TokenizerError::Unsupported { part, name: name.into() })
}

/// An added token: one outside the vocabulary, or one that is matched whole in texts.
pub(super) struct Added {
    pub(super) id: u64,
    pub(super) content: String,
    pub(super) special: bool,
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

    fn check(&self, id: u64) -> Result<u32> {
        let small = u32::try_from(id).ok().filter(|&id| id < self.limit);
        small.ok_or(TokenizerError::IdTooLarge { id, limit: self.limit })
    }

    fn token(&self, entry: usize) -> &str {
        let start = if entry == 0 { 0 } else { self.entries[entry - 1].0 };
        &self.text[start..self.entries[entry].0]
    }

    /// Marks the tokens with these texts as special, if they are in the vocabulary.
    pub(super) fn mark_special(&mut self, names: &[&str]) {
        for entry in 0..self.entries.len() {
            if names.contains(&self.token(entry)) {
                self.entries[entry].2 = TokenKind::Control;
            }
        }
    }

    /// Appends tokens that are named but defined nowhere, as transformers does: their ids continue
    /// from the number of tokens.
    pub(super) fn add_named(&self, names: &[&str], added: &mut Vec<Added>) {
        if names.is_empty() {
            return;
        }
        let mut known: HashSet<&str> = (0..self.entries.len()).map(|e| self.token(e)).collect();
        known.extend(added.iter().map(|a| a.content.as_str()));
        let mut missing = Vec::new();
        for name in names {
            let id = known.len() as u64;
            if known.insert(name) {
                missing.push(Added { id, content: name.to_string(), special: true });
            }
        }
        added.extend(missing);
    }

    /// Sorts the tokens by id, together with the added ones.
    pub(super) fn build(self, added: &[Added]) -> Result<bpe::Tokens> {
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
        added: &[Added],
        mut token: impl FnMut(Option<(&str, TokenKind)>) -> Result<()>,
    ) -> Result<()> {
        const HOLE: u32 = u32::MAX;
        let mut by_id: Vec<u32> = Vec::new();
        let place = |by_id: &mut Vec<u32>, id: u32, entry: usize| {
            let i = id as usize;
            if by_id.len() <= i {
                by_id.resize(i + 1, HOLE);
            }
            let there = std::mem::replace(&mut by_id[i], entry as u32);
            (there != HOLE).then_some(there as usize)
        };
        for entry in 0..self.entries.len() {
            let id = self.entries[entry].1;
            if place(&mut by_id, id, entry).is_some() {
                return Err(TokenizerError::RepeatedId { id, token: self.token(entry).into() });
            }
        }
        for a in added {
            let id = self.check(a.id)?;
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

/// The contents of tokenizer.json.
pub(super) struct TokenizerJson {
    pub(super) vocab: Vocab,
    pub(super) bpe: ByteBpe,
    /// The model's token for unknown text.
    pub(super) unk: Option<String>,
    /// The tokens put around texts.
    pub(super) template: Template,
    /// Added tokens that are matched in normalised text.
    pub(super) normalized: Vec<u32>,
}

/// Reads tokenizer.json as the `tokenizers` library writes it.
pub(super) fn tokenizer_json(bytes: &[u8]) -> Result<TokenizerJson> {
    let mut doc = Doc::new("tokenizer.json", bytes);
    let mut added = Vec::new();
    let (mut model, mut pre, mut decoder) = (None, None, None);
    let (mut nfc, mut normalized, mut template) = (false, Vec::new(), Template::default());
    doc.object("an object")?;
    while let Some(key) = doc.key()? {
        if key.is("added_tokens") {
            normalized = normalized_tokens(doc.clone())?;
            added = added_tokens(&mut doc)?;
        } else if key.is("normalizer") {
            nfc = normalizer(doc.bookmark()?)?;
        } else if key.is("pre_tokenizer") {
            pre = Some(pre_tokenizer(doc.bookmark()?)?);
        } else if key.is("post_processor") {
            template = post_processor(doc.bookmark()?)?;
        } else if key.is("decoder") {
            let name = doc.bookmark()?.kind("null or a decoder")?;
            decoder = Some(name.unwrap_or_else(|| "null".into()));
        } else if key.is("model") {
            model = Some(doc.bookmark()?);
        } else {
            // The version; truncation and padding, which concern batches.
            doc.skip()?;
        }
    }
    doc.end()?;
    let model = model.ok_or_else(|| doc.missing("model"))?;
    // An unsupported model is reported before the components that go with it.
    let model = Model::read(model)?;
    let pre = pre.ok_or_else(|| doc.missing("pre_tokenizer"))?;
    match decoder {
        Some(name) if name == "ByteLevel" => {}
        Some(name) => return unsupported("decoder", name),
        None => return Err(doc.missing("decoder")),
    }
    if nfc {
        // A token that normalisation changes would become a different one.
        let stays = |token: &str| token == super::nfc::nfc(token, &mut Default::default());
        if let Some((_, token)) = normalized.iter().find(|(_, token)| !stays(token)) {
            return unsupported("option of an added token", format!("normalized of {token}"));
        }
    }
    let normalized = normalized.into_iter().map(|(id, _)| id).collect();
    let list = TokenList::read(&mut model.vocab.clone(), bytes.len())?;
    let mut merges = list.build(&added)?.merges()?;
    read_merges(model.merges, |left, right, at| merges.push(left, right, at))?;
    let rules = bpe::Rules {
        splitter: pre.splitter,
        add_prefix_space: pre.add_prefix_space,
        ignore_merges: model.ignore_merges,
        nfc: nfc.then_some(super::nfc::nfc),
    };
    let (vocab, bpe) = merges.finish(rules, MergeAt::Index)?;
    Ok(TokenizerJson { vocab, bpe, unk: model.unk, template, normalized })
}

pub(super) fn added_tokens(doc: &mut Doc<'_>) -> Result<Vec<Added>> {
    let want = "an array of added tokens";
    let mut added = Vec::new();
    doc.array(want)?;
    loop {
        match doc.next(want)? {
            Event::ArrayEnd => return Ok(added),
            Event::ObjectStart => added.push(added_token(doc, None)?),
            _ => return Err(doc.wrong(want)),
        }
    }
}

/// Reads an added token whose `{` has been read. In tokenizer_config.json its id is outside the
/// object.
fn added_token(doc: &mut Doc<'_>, mut id: Option<u64>) -> Result<Added> {
    let (mut content, mut special) = (None, false);
    while let Some(key) = doc.key()? {
        if key.is("id") {
            id = Some(doc.id()?);
        } else if key.is("content") {
            content = Some(doc.text("the token's text")?.to_cow().into_owned());
        } else if key.is("special") {
            special = doc.flag("true or false")?;
        } else if key.is("single_word") || key.is("lstrip") || key.is("rstrip") {
            if doc.flag("true or false")? {
                return unsupported("option of an added token", key.to_cow());
            }
        } else {
            doc.skip()?; // `normalized`: see `normalized_tokens`
        }
    }
    let id = id.ok_or_else(|| doc.missing("added_tokens[].id"))?;
    let content = content.ok_or_else(|| doc.missing("added_tokens[].content"))?;
    Ok(Added { id, content, special })
}

/// The added tokens that are matched in normalised text.
pub(super) fn normalized_tokens(mut doc: Doc<'_>) -> Result<Vec<(u32, String)>> {
    let mut all = Vec::new();
    doc.array("an array of added tokens")?;
    while doc.next("an added token")? == Event::ObjectStart {
        let (mut id, mut content, mut normalized) = (None, None, false);
        while let Some(key) = doc.key()? {
            if key.is("id") {
                id = u32::try_from(doc.id()?).ok();
            } else if key.is("content") {
                content = Some(doc.text("the token's text")?.to_cow().into_owned());
            } else if key.is("normalized") {
                normalized = doc.flag("true or false")?;
            } else {
                doc.skip()?;
            }
        }
        all.extend(id.zip(content).filter(|_| normalized));
    }
    Ok(all)
}

/// The field `model` of tokenizer.json.
struct Model<'a> {
    vocab: Doc<'a>,
    merges: Doc<'a>,
    unk: Option<String>,
    ignore_merges: bool,
}

impl<'a> Model<'a> {
    fn read(mut doc: Doc<'a>) -> Result<Self> {
        const PART: &str = "model option";
        let (mut vocab, mut merges, mut unk) = (None, None, None);
        let mut ignore_merges = false;
        let mut typed = doc.clone();
        typed.object("the model, an object")?;
        while let Some(key) = typed.key()? {
            // Old files lack it; they have a vocabulary and merges all the same.
            if key.is("type") {
                let name = typed.text("the name of a type")?;
                if !name.is("BPE") {
                    return unsupported("model", name.to_cow());
                }
            } else {
                typed.skip()?;
            }
        }
        doc.object("the model, an object")?;
        while let Some(key) = doc.key()? {
            if key.is("vocab") {
                vocab = Some(doc.bookmark()?);
            } else if key.is("merges") {
                merges = Some(doc.bookmark()?);
            } else if key.is("unk_token") {
                unk = text_or_null(&mut doc)?;
            } else if key.is("continuing_subword_prefix") || key.is("end_of_word_suffix") {
                if let Some(text) = text_or_null(&mut doc)? {
                    return unsupported(PART, format!("{key}: {text}"));
                }
            } else if key.is("ignore_merges") {
                ignore_merges = doc.next("true or false")? == Event::Bool(true);
            } else if key.is("byte_fallback") {
                if doc.next("true or false")? == Event::Bool(true) {
                    return unsupported(PART, format!("{key}: true"));
                }
            } else if key.is("dropout") {
                match doc.next("null or a number")? {
                    Event::Null => {}
                    Event::Number(n) if n.parse() == Ok(0.0) => {}
                    Event::Number(n) => return unsupported(PART, format!("dropout: {n}")),
                    _ => return Err(doc.wrong("null or a number")),
                }
            } else {
                doc.skip()?; // `type`; `fuse_unk`: byte-level text never needs the unknown token
            }
        }
        let vocab = vocab.ok_or_else(|| doc.missing("model.vocab"))?;
        let merges = merges.ok_or_else(|| doc.missing("model.merges"))?;
        Ok(Model { vocab, merges, unk, ignore_merges })
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

/// Special tokens according to tokenizer_config.json or special_tokens_map.json.
#[derive(Default)]
pub(super) struct Config {
    pub(super) bos: Option<String>,
    pub(super) eos: Option<String>,
    pub(super) unk: Option<String>,
    pub(super) pad: Option<String>,
    /// True if texts begin with `bos`; `None` if the file leaves it to its class.
    pub(super) add_bos: Option<bool>,
    /// True if texts end with `eos`.
    pub(super) add_eos: Option<bool>,
    pub(super) add_prefix_space: bool,
    pub(super) added: Vec<Added>,
    /// The class that reads vocab.json and merges.txt.
    pub(super) class: Option<String>,
}

impl Config {
    /// Adds tokens whose ids are not taken yet.
    pub(super) fn add_more(&mut self, added: Vec<Added>) {
        let known: HashSet<u64> = self.added.iter().map(|a| a.id).collect();
        self.added.extend(added.into_iter().filter(|a| !known.contains(&a.id)));
    }

    /// Reads tokenizer_config.json; everything unrelated to the tokens' meaning is skipped.
    pub(super) fn read(bytes: &[u8]) -> Result<Self> {
        let mut doc = Doc::new("tokenizer_config.json", bytes);
        let mut config = Config::default();
        doc.object("an object")?;
        while let Some(key) = doc.key()? {
            if key.is("bos_token") {
                config.bos = token_name(&mut doc)?;
            } else if key.is("eos_token") {
                config.eos = token_name(&mut doc)?;
            } else if key.is("unk_token") {
                config.unk = token_name(&mut doc)?;
            } else if key.is("pad_token") {
                config.pad = token_name(&mut doc)?;
            } else if key.is("tokenizer_class") {
                config.class = text_or_null(&mut doc)?;
            } else if key.is("add_bos_token") {
                config.add_bos = flag_or_null(&mut doc)?;
            } else if key.is("add_eos_token") {
                config.add_eos = flag_or_null(&mut doc)?;
            } else if key.is("add_prefix_space") {
                config.add_prefix_space = doc.next("true or false")? == Event::Bool(true);
            } else if key.is("added_tokens_decoder") {
                config.added = added_by_id(&mut doc)?;
            } else {
                doc.skip()?;
            }
        }
        doc.end()?;
        Ok(config)
    }
}

/// A boolean or null.
fn flag_or_null(doc: &mut Doc<'_>) -> Result<Option<bool>> {
    Ok(match doc.next("true or false")? {
        Event::Bool(v) => Some(v),
        _ => None,
    })
}

/// The name of a token: a string, an object with its `content`, or null.
fn token_name(doc: &mut Doc<'_>) -> Result<Option<String>> {
    let mut peek = doc.clone();
    if peek.next("a token")? != Event::ObjectStart {
        return text_or_null(doc);
    }
    let mut name = None;
    doc.object("a token")?;
    while let Some(key) = doc.key()? {
        if key.is("content") {
            name = Some(doc.text("the token's text")?.to_cow().into_owned());
        } else {
            doc.skip()?;
        }
    }
    Ok(name)
}

/// Reads `{"50256": {"content": ...}, ...}`.
fn added_by_id(doc: &mut Doc<'_>) -> Result<Vec<Added>> {
    let mut added = Vec::new();
    doc.object("an object of added tokens")?;
    while let Some(key) = doc.key()? {
        let id = key.to_cow().parse().map_err(|_| doc.wrong("an id in quotes"))?;
        doc.object("an added token")?;
        added.push(added_token(doc, Some(id))?);
    }
    Ok(added)
}
