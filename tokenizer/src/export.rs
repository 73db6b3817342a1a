//! Export of tokenizers as GGUF metadata, the inverse of [`Tokenizer::from_gguf`].
//!
//! GGUF has no key for two things, which are therefore left out of a file: normalisation (Qwen's
//! form C, which llama.cpp does not do either), and the matching of tokenizer.json's added tokens
//! in normalised text. Everything else that GGUF can't express is refused.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use teff_graph::gguf::{Gguf, GgufValue};

use super::bpe::ByteBpe;
use super::hash::Hasher;
use super::json_files::Config;
use super::split::{GgufName, gguf_name, gguf_names};
use super::spm::{Cut, Prefix, SPACE, Spm};
use super::vocab::{Lookup, Vocab};
use super::{
    Algorithm, SpecialIds, Specials, Splitter, SpmParts, TokenKind, Tokenizer, TokenizerError,
    alphabet, ends,
};

/// The keys of a GGUF file that is being written.
pub trait GgufKeys {
    /// Error of adding a key.
    type Error;

    /// Adds a key.
    ///
    /// # Errors
    /// The key can't be added, for example because it is there already.
    fn put(&mut self, key: &str, value: GgufValue<'_>) -> Result<(), Self::Error>;

    /// Adds a key whose value is an array of strings, which need not be UTF-8.
    ///
    /// # Errors
    /// As [`put`](Self::put).
    fn put_strings<S: AsRef<[u8]>>(
        &mut self,
        key: &str,
        values: impl IntoIterator<Item = S>,
    ) -> Result<(), Self::Error>;

    /// Adds a key whose value is an array of i32.
    ///
    /// # Errors
    /// As [`put`](Self::put).
    fn put_i32s(&mut self, key: &str, values: &[i32]) -> Result<(), Self::Error>;

    /// Adds a key whose value is an array of f32.
    ///
    /// # Errors
    /// As [`put`](Self::put).
    fn put_f32s(&mut self, key: &str, values: &[f32]) -> Result<(), Self::Error>;
}

/// Error of exporting a tokenizer to GGUF, where adding a key fails with `W`.
#[derive(Debug)]
#[non_exhaustive]
pub enum ExportError<W> {
    /// The tokenizer has a feature that GGUF can't express.
    Inexpressible {
        /// Description of the feature.
        what: String,
    },
    /// Tokens that texts can produce, but that have no row in the model's embedding.
    NoRow {
        /// The first of them.
        id: u32,
        /// Number of rows of the model's embedding.
        rows: usize,
    },
    /// A token that differs in tokenizer.model, or is missing there.
    OtherToken {
        /// Id of the token.
        id: u32,
    },
    /// The tokenizer can't be read.
    Tokenizer(TokenizerError),
    /// A key can't be added to the header.
    Write(W),
}

impl<W: fmt::Display> fmt::Display for ExportError<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ExportError::Inexpressible { what } => {
                write!(f, "the tokenizer: a GGUF file can't express {what}")
            }
            ExportError::NoRow { id, rows } => {
                write!(
                    f,
                    "the tokenizer has token {id}, but the model has only {rows} embedding rows"
                )
            }
            ExportError::OtherToken { id } => write!(
                f,
                "token {id} of tokenizer.json differs in tokenizer.model: one of these files \
                 belongs to another model"
            ),
            ExportError::Tokenizer(e) => e.fmt(f),
            ExportError::Write(e) => e.fmt(f),
        }
    }
}

impl<W: fmt::Debug + fmt::Display> core::error::Error for ExportError<W> {}

impl<W> From<TokenizerError> for ExportError<W> {
    fn from(e: TokenizerError) -> Self {
        ExportError::Tokenizer(e)
    }
}

fn inexpressible<T, W>(what: impl Into<String>) -> Result<T, ExportError<W>> {
    Err(ExportError::Inexpressible { what: what.into() })
}

/// The score that llama.cpp's converters give to tokens that no merge produces and to padding
/// tokens.
const ADDED_SCORE: f32 = -1000.0;
const PAD_SCORE: f32 = -10_000.0;

/// Tokens as stored in a file.
#[derive(Default)]
struct Table {
    texts: Vec<Vec<u8>>,
    kinds: Vec<i32>,
}

impl Tokenizer {
    /// Adds the tokenizer to the header of a model with `rows` embedding rows, as llama.cpp's
    /// converter does. Ids without a token become unused ones (`[PAD7]`); special tokens beyond the
    /// rows, which the model could not compute, are left out.
    ///
    /// Merging by ranks (tokenizer.json of the SentencePiece kind) becomes merging by scores if
    /// every pair of tokens that makes another is listed and the pairs of one token are
    /// consecutive, as in a file that was made from scores. Then results can differ only for
    /// neighbours that make the same token in two ways at overlapping positions.
    ///
    /// # Errors
    /// [`ExportError`] if GGUF can't express what the tokenizer does, or the header already has one
    /// of the keys.
    pub fn put_gguf<K: GgufKeys>(
        &self,
        header: &mut K,
        rows: usize,
    ) -> Result<(), ExportError<K::Error>> {
        match &self.algorithm {
            Algorithm::ByteBpe(bpe) => self.put_byte_bpe(bpe, header, rows)?,
            Algorithm::Spm(spm) => self.put_spm(spm, header, rows)?,
            Algorithm::Pipeline(pipeline) => {
                return inexpressible(format!("these components of tokenizer.json: {pipeline:?}"));
            }
        }
        self.put_ids(header, rows)
    }

    /// The same, but merging by ranks stays what it is, where a file can say so: in the form of Gemma 4's
    /// files.
    ///
    /// # Errors
    /// As [`Tokenizer::put_gguf`].
    pub fn put_gguf_with_merges<K: GgufKeys>(
        &self,
        header: &mut K,
        rows: usize,
    ) -> Result<(), ExportError<K::Error>> {
        match &self.algorithm {
            Algorithm::Spm(spm)
                if spm.scores().is_none()
                    && spm.rules().prefix == Prefix::Never
                    && self.ids.add_bos =>
            {
                self.put_ranked(spm, header, rows)?;
                self.put_ids(header, rows)
            }
            _ => self.put_gguf(header, rows),
        }
    }

    fn put_byte_bpe<K: GgufKeys>(
        &self,
        bpe: &ByteBpe,
        header: &mut K,
        rows: usize,
    ) -> Result<(), ExportError<K::Error>> {
        let rules = bpe.rules();
        let Some(splitter) = rules.pre.known else {
            return inexpressible("the pre-tokenizer of tokenizer.json");
        };
        // Names that every version of llama.cpp has come first.
        let usual = match splitter {
            Splitter::Gpt2 => "gpt-2",
            Splitter::Gpt2Digits => "starcoder",
            Splitter::Llama3 if rules.ignore_merges => "llama-bpe",
            Splitter::Llama3 => "smaug-bpe",
            Splitter::Qwen2 => "qwen2",
            Splitter::Gpt4o => "gpt-4o",
            Splitter::DeepSeekV3 => "deepseek-v3",
            _ => "",
        };
        let fits = |name: &&str| {
            matches!(gguf_name(name), Some(GgufName::Bytes { splitter: s, ignore_merges, .. })
                if s == splitter && ignore_merges == rules.ignore_merges)
        };
        let Some(pre) = core::iter::once(usual).chain(gguf_names()).find(fits) else {
            let with = if rules.ignore_merges { "with" } else { "without" };
            return inexpressible(format!("{splitter:?} {with} `ignore_merges`"));
        };
        if rules.add_prefix_space {
            return inexpressible("that texts get a space in front (`add_prefix_space`)");
        }
        let letters = letters();
        let spell = |bytes: &[u8]| -> Vec<u8> {
            let all: String = bytes.iter().map(|&b| letters[usize::from(b)]).collect();
            all.into_bytes()
        };
        let plain = plain(&self.vocab, bpe);
        let table = self.table(rows, |id, kind, bytes| match kind {
            TokenKind::Normal if !plain.contains(&id) => spell(bytes),
            _ => bytes.to_vec(),
        })?;
        let token = |id| spell(self.vocab.get(id).unwrap_or_default());
        let merges = bpe.merges().map(|[left, right, _]| [token(left), token(right)].join(&b' '));
        header.put("tokenizer.ggml.model", GgufValue::Str("gpt2")).map_err(ExportError::Write)?;
        header.put("tokenizer.ggml.pre", GgufValue::Str(pre)).map_err(ExportError::Write)?;
        table.put(header).map_err(ExportError::Write)?;
        header.put_strings("tokenizer.ggml.merges", merges).map_err(ExportError::Write)?;
        Ok(())
    }

    fn put_ranked<K: GgufKeys>(
        &self,
        spm: &Spm,
        header: &mut K,
        rows: usize,
    ) -> Result<(), ExportError<K::Error>> {
        self.check_spm(spm)?;
        let text = |id| self.vocab.get(id).unwrap_or_default();
        let across = |bytes: &[u8]| {
            let breaks = bytes.iter().filter(|&&b| b == b'\n').count();
            breaks > 0 && breaks < bytes.len()
        };
        if let Some([.., product]) = spm.merges().find(|[.., product]| across(text(*product))) {
            let token = String::from_utf8_lossy(text(product)).into_owned();
            return inexpressible(format!("merges across line breaks ({token:?})"));
        }
        let table = self.spm_table(spm, rows)?;
        let merges = spm
            .merges()
            .map(|[left, right, _]| [left, right].map(|id| escape(text(id))).join(&b' '));
        header.put("tokenizer.ggml.model", GgufValue::Str("gemma4")).map_err(ExportError::Write)?;
        let scores = vec![ADDED_SCORE; table.texts.len()];
        table.put(header).map_err(ExportError::Write)?;
        // They decide nothing; llama.cpp's converter writes them.
        header.put_f32s("tokenizer.ggml.scores", &scores).map_err(ExportError::Write)?;
        header.put_strings("tokenizer.ggml.merges", merges).map_err(ExportError::Write)?;
        header
            .put("tokenizer.ggml.add_space_prefix", GgufValue::Bool(false))
            .map_err(ExportError::Write)
    }

    /// Refuses what no file can say of SentencePiece's kind.
    fn check_spm<W>(&self, spm: &Spm) -> Result<(), ExportError<W>> {
        let rules = spm.rules();
        let prefix = rules.prefix != Prefix::Never;
        if rules.prefix == Prefix::Start || prefix && rules.unless_space {
            return inexpressible(
                "that some texts get no space in front (Metaspace): the model needs its \
                           tokenizer.model",
            );
        }
        if let Cut::Spaces = rules.cut {
            return inexpressible("that texts are cut at spaces (Metaspace with split)");
        }
        if rules.ignore_merges {
            return inexpressible("`ignore_merges` of a SentencePiece vocabulary");
        }
        if rules.strip != prefix {
            return inexpressible("a decoder that strips other spaces than are put in front");
        }
        if let Some(unk) = spm.unknown()
            && (!rules.fuse_unk || self.ids.unk != Some(unk))
        {
            return inexpressible("the treatment of characters without a token");
        }
        Ok(())
    }

    /// One token of SentencePiece's kind for each row.
    fn spm_table<W>(&self, spm: &Spm, rows: usize) -> Result<Table, ExportError<W>> {
        self.table(rows, |id, kind, bytes| match kind {
            TokenKind::Byte => format!("<0x{:02X}>", bytes.first().unwrap_or(&0)).into_bytes(),
            TokenKind::Normal | TokenKind::Unused | TokenKind::UserDefined => {
                // Merging never produces a token stored with plain spaces.
                let made = spm.merged_token(&self.vocab, bytes) == Some(id);
                if made { escape(bytes) } else { bytes.to_vec() }
            }
            _ => bytes.to_vec(),
        })
    }

    fn put_spm<K: GgufKeys>(
        &self,
        spm: &Spm,
        header: &mut K,
        rows: usize,
    ) -> Result<(), ExportError<K::Error>> {
        self.check_spm(spm)?;
        let prefix = spm.rules().prefix != Prefix::Never;
        let mut scores = match spm.scores() {
            Some(scores) => scores,
            None => ranks_as_scores(&self.vocab, spm)?,
        };
        scores.resize(rows, PAD_SCORE);
        let table = self.spm_table(spm, rows)?;
        for id in 0..rows.min(u32::MAX as usize) as u32 {
            if self.vocab.kind(id).is_none() {
                scores[id as usize] = PAD_SCORE;
            }
        }
        header.put("tokenizer.ggml.model", GgufValue::Str("llama")).map_err(ExportError::Write)?;
        header.put("tokenizer.ggml.pre", GgufValue::Str("default")).map_err(ExportError::Write)?;
        table.put(header).map_err(ExportError::Write)?;
        header.put_f32s("tokenizer.ggml.scores", &scores).map_err(ExportError::Write)?;
        header
            .put("tokenizer.ggml.add_space_prefix", GgufValue::Bool(prefix))
            .map_err(ExportError::Write)?;
        Ok(())
    }

    /// One token for each row; `text` writes those that exist.
    fn table<W>(
        &self,
        rows: usize,
        text: impl Fn(u32, TokenKind, &[u8]) -> Vec<u8>,
    ) -> Result<Table, ExportError<W>> {
        let beyond = |&(id, kind, _): &(u32, TokenKind, &[u8])| {
            id as usize >= rows && matches!(kind, TokenKind::Normal | TokenKind::Byte)
        };
        if let Some((id, ..)) = self.vocab.iter().find(beyond) {
            return Err(ExportError::NoRow { id, rows });
        }
        let pads: BTreeSet<&[u8]> =
            self.vocab.iter().map(|(_, _, b)| b).filter(|b| b.starts_with(b"[PAD")).collect();
        let mut table = Table::default();
        for id in 0..rows.min(u32::MAX as usize) as u32 {
            let (text, kind) = match (self.vocab.kind(id), self.vocab.get(id)) {
                (Some(kind), Some(bytes)) => (text(id, kind, bytes), kind),
                _ => {
                    let mut name = format!("[PAD{id}]");
                    while pads.contains(name.as_bytes()) {
                        name.push('_');
                    }
                    (name.into_bytes(), TokenKind::Unused)
                }
            };
            table.texts.push(text);
            // What a file calls a token is kept: its readers know it by its name, too.
            let given = self.retyped.iter().find(|(other, _)| *other == id);
            table.kinds.push(given.map_or(kind, |&(_, given)| given) as i32);
        }
        Ok(table)
    }

    fn put_ids<K: GgufKeys>(
        &self,
        header: &mut K,
        rows: usize,
    ) -> Result<(), ExportError<K::Error>> {
        let SpecialIds { bos, eos, mut eot, unk, add_bos, add_eos } = self.ids;
        // Other end tokens are recognised by name, or else there is one key for one of them.
        let by_name = ends::named(&self.vocab);
        let named = |id: u32| by_name.contains(&id);
        for &id in self.stops.iter().filter(|&&id| (id as usize) < rows) {
            if [eos, eot].contains(&Some(id)) || named(id) {
                continue;
            }
            if eot.is_some() {
                return inexpressible(format!("that token {id} ends texts, too"));
            }
            eot = Some(id);
        }
        let keys = [
            ("tokenizer.ggml.bos_token_id", bos),
            ("tokenizer.ggml.eos_token_id", eos),
            ("tokenizer.ggml.eot_token_id", eot),
            ("tokenizer.ggml.unknown_token_id", unk),
        ];
        for (key, id) in keys {
            let Some(id) = id else { continue };
            if id as usize >= rows {
                return Err(ExportError::NoRow { id, rows });
            }
            header.put(key, GgufValue::U32(id)).map_err(ExportError::Write)?;
        }
        header
            .put("tokenizer.ggml.add_bos_token", GgufValue::Bool(add_bos))
            .map_err(ExportError::Write)?;
        header
            .put("tokenizer.ggml.add_eos_token", GgufValue::Bool(add_eos))
            .map_err(ExportError::Write)?;
        Ok(())
    }

    /// True if this is merging by the ranks of a tokenizer.json, in the manner of SentencePiece.
    pub(super) fn has_ranks(&self) -> bool {
        matches!(&self.algorithm, Algorithm::Spm(spm) if spm.scores().is_none())
    }

    /// This tokenizer as its GGUF file will have it, where the files beside its tokenizer.json include
    /// SentencePiece's own tokenizer.model: if it merges by ranks it has the scores and the prefix
    /// of that file instead, which llama.cpp's converter uses. `config` is tokenizer_config.json.
    ///
    /// # Errors
    /// [`ExportError::OtherToken`] if the files differ, [`ExportError::Tokenizer`] if one of them is
    /// malformed.
    pub fn with_scores<W>(
        self,
        model: &[u8],
        config: Option<&[u8]>,
    ) -> Result<Tokenizer, ExportError<W>> {
        if !self.has_ranks() {
            return Ok(self);
        }
        let config = config.map(Config::read).transpose()?.unwrap_or_default();
        let theirs = Tokenizer::build_model(model, config)?;
        let Algorithm::Spm(own) = &theirs.algorithm else { return Ok(self) };
        let Some(scores) = own.scores() else { return Ok(self) };
        let mut parts = Vec::with_capacity(self.vocab.len());
        for id in 0..self.vocab.len() as u32 {
            let (Some(kind), Some(bytes)) = (self.vocab.kind(id), self.vocab.get(id)) else {
                return inexpressible(format!("that there is no token {id} (tokenizer.json)"));
            };
            let same = theirs.vocab.get(id) == Some(bytes);
            let merged = matches!(kind, TokenKind::Normal | TokenKind::Byte);
            if merged && !same {
                return Err(ExportError::OtherToken { id });
            }
            let score = scores.get(id as usize).copied().filter(|_| same);
            let text = match kind {
                TokenKind::Byte => format!("<0x{:02X}>", bytes.first().unwrap_or(&0)).into_bytes(),
                TokenKind::Normal => escape(bytes),
                _ => bytes.to_vec(),
            };
            parts.push((text, score.unwrap_or(ADDED_SCORE), kind));
        }
        let rebuilt = Tokenizer::sentence_piece(SpmParts {
            tokens: parts.iter().map(|(text, score, kind)| (&text[..], *score, *kind)),
            add_space_prefix: own.rules().prefix != Prefix::Never,
            ids: SpecialIds { unk: self.ids.unk.or(theirs.ids.unk), ..self.ids },
        });
        let mut rebuilt = rebuilt?;
        rebuilt.add_stops(self.stops.iter().copied());
        Ok(rebuilt)
    }

    /// Reads back the keys that were written for this tokenizer and checks that all tokens, ids and
    /// end tokens are there, and that some sample texts get the same ids.
    pub fn check_gguf<W>(&self, gguf: &Gguf<'_>, rows: usize) -> Result<(), ExportError<W>> {
        let read = Tokenizer::from_gguf(gguf)?;
        let mut retyped: Vec<&str> = Vec::new();
        for (id, kind, bytes) in self.vocab.iter().filter(|t| (t.0 as usize) < rows) {
            // Readers of GGUF take tokens with such names for control tokens.
            let (expected, _) = ends::kind(bytes, kind);
            if (read.vocab.kind(id), read.vocab.get(id)) != (Some(expected), Some(bytes)) {
                return inexpressible(format!("token {id}"));
            }
            if expected != kind {
                retyped.extend(str::from_utf8(bytes));
            }
        }
        // A file that names none implies the first ids, which is harmless unless they are text.
        let same = |ours: Option<u32>, theirs: Option<u32>| match ours {
            None => theirs.is_none_or(|id| read.is_special(id)),
            ours => ours == theirs,
        };
        let (a, b) = (self.ids, read.ids);
        if !(same(a.bos, b.bos) && same(a.eos, b.eos) && same(a.unk, b.unk)) {
            return inexpressible("that there is no token for begin, end or unknown");
        }
        let mut ends = self.stops.iter().filter(|&&id| (id as usize) < rows);
        if let Some(id) = ends.find(|&&id| !read.is_end(id)) {
            return inexpressible(format!("that token {id} ends texts"));
        }
        let samples = SAMPLES.iter().map(|s| s.to_string());
        let special = self.vocab.iter().filter(|&(id, kind, _)| {
            (id as usize) < rows && matches!(kind, TokenKind::Control | TokenKind::UserDefined)
        });
        let special = special.take(64).filter_map(|(_, _, b)| str::from_utf8(b).ok());
        let all = self.all_tokens(rows);
        for text in samples.chain(special.map(|t| format!("{t} x{t}\n y"))).chain(all) {
            for specials in [Specials::Ignore, Specials::Parse] {
                if specials == Specials::Parse && retyped.iter().any(|name| text.contains(name)) {
                    continue;
                }
                let mut ids = self.encode(&text, specials);
                if let (Ok(ids), Specials::Ignore) = (&mut ids, specials) {
                    read.unmerge(0, ids);
                }
                if ids != read.encode(&text, specials) {
                    let start: String = text.chars().take(64).collect();
                    return inexpressible(format!("the tokenisation of {start:?}"));
                }
            }
        }
        Ok(())
    }
}

impl Tokenizer {
    /// All tokens in one text, in a pseudo-random order: where tokens meet that never do in natural
    /// language, merging takes paths that no sample covers. For merging by ranks only.
    fn all_tokens(&self, rows: usize) -> Option<String> {
        let Algorithm::Spm(spm) = &self.algorithm else { return None };
        if spm.scores().is_some() {
            return None;
        }
        let n = rows.min(self.vocab.len()) as u64;
        let step = 0x9e37_79b1; // a prime, so that every token is visited
        let ids = (0..n).map(|i| (i * step % n.max(1)) as u32);
        let text = |id: u32| match self.vocab.kind(id)? {
            TokenKind::Normal => str::from_utf8(self.vocab.get(id)?).ok(),
            _ => None,
        };
        Some(ids.filter_map(text).collect())
    }
}

/// Texts with everything that tokenizers treat specially.
const SAMPLES: [&str; 8] = [
    "Hello world, it's the year 2024: 1234567 things I'LL do!",
    "  two spaces,   three, \t\ttabs\r\n\r\n and lines\n\n\n   end   ",
    "Ça va? Größe, naïve, Ελληνικά, русский язык, עברית, العربية, हिन्दी",
    "日本語の文章、中文句子。한국어 문장 👩‍👩‍👧 🚀🚀 ½ ² ⅷ",
    "fn main() { let x = vec![0u8; 16]; println!(\"{:?}\", &x[..]); } // ((()))",
    "aaaaaaaaaaaaaaaaaaaaaaa bbbbbbbb ........ ________ --------",
    "\u{2581}\u{2581}a \u{2581} b<0x0A></s><unk>[INST]",
    "The quick brown fox jumps over the lazy dog because internationalisation is hard",
];

impl Table {
    fn put<K: GgufKeys>(self, header: &mut K) -> Result<(), K::Error> {
        header.put_strings("tokenizer.ggml.tokens", &self.texts)?;
        header.put_i32s("tokenizer.ggml.token_type", &self.kinds)
    }
}

/// The character of each byte.
fn letters() -> [char; 256] {
    let mut all = ['\0'; 256];
    for c in '!'..'\u{200}' {
        let mut byte = Vec::new();
        if alphabet::decode(c.encode_utf8(&mut [0; 4]).as_bytes(), &mut byte) {
            byte.iter().for_each(|&b| all[usize::from(b)] = c);
        }
    }
    all
}

/// Normal tokens that are stored as plain text instead of in the byte alphabet, if it makes a
/// difference: no merge produces them, and other tokens may have the same bytes.
fn plain(vocab: &Vocab, bpe: &ByteBpe) -> BTreeSet<u32> {
    let mut made = vec![false; vocab.len()];
    let mut texts = Lookup::new(vocab, Hasher::new());
    for id in bpe.bytes().chain(bpe.merges().flatten()) {
        if !core::mem::replace(&mut made[id as usize], true) {
            texts.insert(vocab, id);
        }
    }
    let others =
        vocab.iter().filter(|&(id, kind, _)| kind == TokenKind::Normal && !made[id as usize]);
    let mut plain = BTreeSet::new();
    for (id, _, bytes) in others {
        let spelled = match bpe.rules().ignore_merges {
            true => bpe.whole(vocab, bytes) == Some(id),
            false => bytes.len() != 1 && texts.insert(vocab, id).is_none(),
        };
        if !spelled {
            plain.insert(id);
        }
    }
    plain
}

/// A token's text with spaces as U+2581.
fn escape(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len() + 2);
    for &b in bytes {
        match b {
            b' ' => out.extend_from_slice(SPACE.as_bytes()),
            b => out.push(b),
        }
    }
    out
}

/// Scores with which two neighbours merge exactly when a listed pair does, in the same order.
fn ranks_as_scores<W>(vocab: &Vocab, spm: &Spm) -> Result<Vec<f32>, ExportError<W>> {
    const HINT: &str = "; beside its tokenizer.model the folder would do";
    let text = |id: u32| String::from_utf8_lossy(vocab.get(id).unwrap_or_default()).into_owned();
    // The position of each token that merges produce, in rank order.
    let mut place: BTreeMap<u32, usize> = BTreeMap::new();
    let mut last = None;
    for [left, right, product] in spm.merges() {
        if last != Some(product) {
            if place.contains_key(&product) {
                let token = text(product);
                return inexpressible(format!("that merges to {token:?} have several ranks{HINT}"));
            }
            place.insert(product, place.len());
            last = Some(product);
        }
        let merged = |id| {
            matches!(
                vocab.kind(id),
                Some(TokenKind::Normal | TokenKind::Unused | TokenKind::UserDefined)
            )
        };
        if ![left, right, product].into_iter().all(merged) {
            let token = text(product);
            return inexpressible(format!(
                "that {token:?}, which is not text, takes part in merging"
            ));
        }
    }
    // Splits that scores would merge in addition: any split of a token into two symbols.
    for (id, kind, bytes) in vocab.iter() {
        let Ok(token) = str::from_utf8(bytes) else { continue };
        // Tokens that are matched whole never occur in the stretches that are merged.
        let whole = kind == TokenKind::UserDefined && spm.rules().prefix == Prefix::Never;
        if whole || kind == TokenKind::Control || spm.merged_token(vocab, bytes) != Some(id) {
            continue;
        }
        for (at, _) in token.char_indices().skip(1) {
            let (left, right) = token.split_at(at);
            let one = |s: &str| s.chars().nth(1).is_none();
            let [l, r] = [left, right].map(|s| spm.merged_token(vocab, s.as_bytes()));
            let symbols = (l.is_some() || one(left)) && (r.is_some() || one(right));
            let listed = matches!((l, r), (Some(l), Some(r)) if spm.merges_pair(l, r));
            if symbols && !listed {
                return inexpressible(format!("that {left:?} and {right:?} don't merge{HINT}"));
            }
        }
    }
    let lowest = -(place.len() as f32);
    let score = |id: u32| place.get(&id).map_or(lowest, |&at| -(at as f32));
    Ok((0..vocab.len() as u32).map(score).collect())
}
