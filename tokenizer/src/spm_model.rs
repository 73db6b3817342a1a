//! Tokenizers from tokenizer.model, SentencePiece's protocol buffer.
//!
//! Only the fields in use are read (their numbers are those of sentencepiece_model.proto): the
//! pieces with scores and types; of the trainer's settings, the kind of model and the ids of
//! special tokens; and of the normaliser, whether it changes texts. Everything else is skipped.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::json_files::{Added, Config};
use super::special::{Literal, SpecialIndex};
use super::spm::{Pieces, Rules};
use super::{Algorithm, SpecialIds, TokenKind, Tokenizer, TokenizerError, ends};

type Result<T> = core::result::Result<T, TokenizerError>;

/// Maximum number of unused ids after the last piece.
const MAX_HOLES: u64 = 1024;

/// The fields of one message.
#[derive(Clone, Copy)]
struct Message<'a> {
    bytes: &'a [u8],
    /// Offset of `bytes` in the file.
    offset: usize,
}

/// The value of a field.
#[derive(Clone, Copy)]
enum Value<'a> {
    Varint(u64),
    Fixed32([u8; 4]),
    Fixed64,
    Bytes(Message<'a>),
}

impl<'a> Message<'a> {
    fn wrong<T>(&self, why: &'static str) -> Result<T> {
        Err(TokenizerError::Model { offset: self.offset, why })
    }

    /// Takes `n` bytes off the front, after checking that they are there.
    fn take(&mut self, n: usize) -> Result<Message<'a>> {
        let Some((front, rest)) = self.bytes.split_at_checked(n) else {
            return self.wrong("the file ends within a field");
        };
        let taken = Message { bytes: front, offset: self.offset };
        *self = Message { bytes: rest, offset: self.offset + n };
        Ok(taken)
    }

    fn varint(&mut self) -> Result<u64> {
        let mut value = 0;
        for i in 0..10 {
            let byte = u64::from(self.take(1)?.bytes[0]);
            value |= (byte & 0x7f) << (7 * i);
            if byte < 0x80 {
                return Ok(value);
            }
        }
        self.wrong("a number has more than 64 bits")
    }

    /// The number and value of the next field; `None` at the end.
    fn field(&mut self) -> Result<Option<(u64, Value<'a>)>> {
        if self.bytes.is_empty() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let value = match tag & 7 {
            0 => Value::Varint(self.varint()?),
            1 => {
                self.take(8)?;
                Value::Fixed64
            }
            2 => {
                let len = usize::try_from(self.varint()?).unwrap_or(usize::MAX);
                Value::Bytes(self.take(len)?)
            }
            5 => {
                let mut bytes = [0; 4];
                bytes.copy_from_slice(self.take(4)?.bytes);
                Value::Fixed32(bytes)
            }
            _ => return self.wrong("a field has no type of protocol buffers in use"),
        };
        Ok(Some((tag >> 3, value)))
    }

    /// The value as a message or string.
    fn bytes(&self, value: Value<'a>) -> Result<Message<'a>> {
        match value {
            Value::Bytes(bytes) => Ok(bytes),
            _ => self.wrong("a field before this should be text or a message"),
        }
    }

    fn number(&self, value: Value<'a>) -> Result<u64> {
        match value {
            Value::Varint(n) => Ok(n),
            _ => self.wrong("a field before this should be a number"),
        }
    }
}

/// A piece of the vocabulary.
struct Piece<'a> {
    text: &'a [u8],
    score: f32,
    kind: TokenKind,
}

impl<'a> Piece<'a> {
    fn read(mut message: Message<'a>) -> Result<Self> {
        let mut piece = Piece { text: b"", score: 0.0, kind: TokenKind::Normal };
        while let Some((number, value)) = message.field()? {
            match (number, value) {
                (1, value) => piece.text = message.bytes(value)?.bytes,
                (2, Value::Fixed32(bytes)) => piece.score = f32::from_le_bytes(bytes),
                (2, _) => return message.wrong("the score before this should be a float"),
                (3, value) => {
                    // The numbers are the same as GGUF's.
                    let kind = u32::try_from(message.number(value)?).ok();
                    match kind.and_then(TokenKind::from_gguf) {
                        Some(kind) => piece.kind = kind,
                        None => return message.wrong("unknown token type (known: 1 to 6)"),
                    }
                }
                _ => {}
            }
        }
        Ok(piece)
    }
}

/// The ids in the trainer's settings.
struct Trainer {
    unk: Option<u32>,
    bos: Option<u32>,
    eos: Option<u32>,
}

fn unsupported<T>(part: &'static str, name: impl Into<String>) -> Result<T> {
    Err(TokenizerError::Unsupported { part, name: name.into() })
}

impl Trainer {
    fn read(mut message: Message<'_>) -> Result<Self> {
        // -1 means none.
        let id = |n: u64| u32::try_from(n).ok().filter(|&id| id <= i32::MAX as u32);
        let mut trainer = Trainer { unk: Some(0), bos: Some(1), eos: Some(2) };
        let mut kind = 1;
        while let Some((number, value)) = message.field()? {
            match number {
                3 => kind = message.number(value)?,
                24 if message.number(value)? != 0 => {
                    return unsupported("trainer option", "treat_whitespace_as_suffix");
                }
                40 => trainer.unk = id(message.number(value)?),
                41 => trainer.bos = id(message.number(value)?),
                42 => trainer.eos = id(message.number(value)?),
                _ => {}
            }
        }
        match kind {
            2 => Ok(trainer),
            1 => unsupported("model", "SentencePiece Unigram"),
            3 => unsupported("model", "SentencePiece Word"),
            4 => unsupported("model", "SentencePiece Char"),
            n => unsupported("model", format!("SentencePiece model type {n}")),
        }
    }
}

/// Reads a normaliser: true if it puts a space in front of texts. `what` is the component's name.
fn normalizer(mut message: Message<'_>, what: &'static str, encodes: bool) -> Result<bool> {
    let (mut name, mut charsmap) = (&b""[..], &b""[..]);
    let (mut prefix, mut extra, mut escape) = (true, true, true);
    while let Some((number, value)) = message.field()? {
        match number {
            1 => name = message.bytes(value)?.bytes,
            2 => charsmap = message.bytes(value)?.bytes,
            3 => prefix = message.number(value)? != 0,
            4 => extra = message.number(value)? != 0,
            5 => escape = message.number(value)? != 0,
            _ => {}
        }
    }
    if !charsmap.is_empty() {
        return unsupported(what, String::from_utf8_lossy(name));
    }
    if encodes && extra {
        return unsupported(what, "remove_extra_whitespaces");
    }
    if encodes && !escape {
        return unsupported(what, "escape_whitespaces: false");
    }
    Ok(prefix)
}

impl Tokenizer {
    /// Reads a tokenizer from the bytes of tokenizer.model and, if there is one,
    /// tokenizer_config.json.
    ///
    /// # Errors
    /// [`TokenizerError::Unsupported`] for a model other than BPE and for a normaliser that changes
    /// texts; otherwise the problem with the files.
    pub fn from_sentence_piece(model: &[u8], config: Option<&[u8]>) -> Result<Self> {
        Tokenizer::build_model(model, config.map(Config::read).transpose()?.unwrap_or_default())
    }

    /// Builds from tokenizer.model and the special tokens of other files.
    pub(super) fn build_model(model: &[u8], config: Config) -> Result<Self> {
        let mut file = Message { bytes: model, offset: 0 };
        let mut pieces = Vec::new();
        let (mut trainer, mut prefix) = (None, None);
        while let Some((number, value)) = file.field()? {
            match number {
                1 => pieces.push(Piece::read(file.bytes(value)?)?),
                2 => trainer = Some(Trainer::read(file.bytes(value)?)?),
                3 => prefix = Some(normalizer(file.bytes(value)?, "normalizer", true)?),
                5 => {
                    normalizer(file.bytes(value)?, "denormalizer", false)?;
                }
                _ => {}
            }
        }
        let (Some(trainer), Some(prefix)) = (trainer, prefix) else {
            return file.wrong("the settings of the trainer or the normaliser are missing");
        };
        if pieces.is_empty() {
            return file.wrong("there are no tokens");
        }
        build(&pieces, &trainer, prefix, config)
    }
}

fn build(
    pieces: &[Piece<'_>],
    trainer: &Trainer,
    prefix: bool,
    config: Config,
) -> Result<Tokenizer> {
    let mut added: BTreeMap<u64, Added> = BTreeMap::new();
    for a in config.added.iter().flatten() {
        added.extend(a.id.map(|id| (id, a.clone())));
    }
    let named: Vec<String> = config.names().iter().map(|s| s.to_string()).collect();
    // Names that are not tokens yet are added, as in transformers.
    let names: BTreeSet<&[u8]> = named.iter().map(|name| name.as_bytes()).collect();
    let texts = pieces.iter().map(|p| p.text);
    let mut known: BTreeSet<&[u8]> = texts.filter(|text| names.contains(text)).collect();
    known.extend(config.added.iter().flatten().map(|a| a.content.as_bytes()));
    let mut next = added.keys().next_back().map_or(0, |id| id.saturating_add(1));
    next = next.max(pieces.len() as u64);
    for name in &named {
        if known.insert(name.as_bytes()) {
            added.insert(next, Added { id: Some(next), ..Added::plain(name.clone(), true) });
            next = next.saturating_add(1);
        }
    }

    let limit = pieces.len() as u64 + added.len() as u64 + MAX_HOLES;
    let n = added.keys().next_back().map_or(0, |id| id.saturating_add(1));
    if n > limit {
        let limit = u32::try_from(limit).unwrap_or(u32::MAX);
        return Err(TokenizerError::IdTooLarge { id: n - 1, limit });
    }
    let mut all = Pieces::default();
    let mut literals = Vec::new();
    for id in 0..n.max(pieces.len() as u64) {
        let piece = usize::try_from(id).ok().and_then(|id| pieces.get(id));
        let named = |text: &[u8]| named.iter().any(|name| name.as_bytes() == text);
        match (added.get(&id), piece) {
            // An added token replaces a piece, as in transformers, unless that is a byte token.
            (Some(a), piece) if piece.is_none_or(|p| p.kind != TokenKind::Byte) => {
                let text = a.content.as_bytes();
                let mut how = a.matching();
                let kind = match piece.map(|p| p.kind) {
                    Some(TokenKind::Unknown) if a.special => TokenKind::Unknown,
                    _ if a.special || named(text) || ends::is_control(text) => TokenKind::Control,
                    _ => TokenKind::UserDefined,
                };
                how.always = kind == TokenKind::UserDefined;
                let (text, id) = (a.content.clone(), id as u32);
                all.push(text.as_bytes(), kind)?;
                literals.push(Literal { text, id, how });
            }
            (_, Some(p)) => {
                let control = named(p.text) || ends::is_control(p.text);
                let control = control && p.kind != TokenKind::Unknown;
                all.push(p.text, if control { TokenKind::Control } else { p.kind })?;
            }
            (_, None) => all.push_hole()?,
        }
    }
    let scores: Vec<f32> = pieces.iter().map(|p| p.score).collect();
    let (vocab, spm) =
        all.finish(Rules::sentence_piece(prefix), false)?.by_scores(&scores, trainer.unk)?;
    let special = SpecialIndex::of_vocab(&vocab, literals)?;
    let algorithm = Algorithm::Spm(Box::new(spm));
    let mut tokenizer = Tokenizer::new(vocab, algorithm, special, SpecialIds::default())?;
    let there = |id: Option<u32>| id.filter(|&id| tokenizer.token_kind(id).is_some());
    let find = |name: Option<&str>, id| match name {
        Some(name) => tokenizer.find_token(name.as_bytes()),
        None => there(id),
    };
    let ids = SpecialIds {
        bos: find(config.bos(), trainer.bos),
        eos: find(config.eos(), trainer.eos),
        eot: None,
        unk: find(config.unk(), trainer.unk),
        add_bos: config.add_bos.unwrap_or(true),
        add_eos: config.add_eos.unwrap_or(false),
    };
    tokenizer.set_ids(ids);
    Ok(tokenizer)
}
