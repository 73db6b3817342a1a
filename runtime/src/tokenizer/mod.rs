//! Tokenizers: text to token ids and back.
//!
//! There are two kinds: byte-level byte-pair encoding (GPT-2, Llama 3, Qwen) and SentencePiece's,
//! over characters (Llama 2, Mistral, Gemma). They are read from GGUF metadata
//! ([`Tokenizer::from_gguf`]), from tokenizer.json, from tokenizer.model, or from vocab.json with
//! merges.txt ([`Tokenizer::from_folder`]). What a file asks for and Teff does not have is refused
//! by its name, never passed over.
//!
//! ```
//! # use teff_runtime::tokenizer::*;
//! # fn f(folder: &std::path::Path) -> Result<(), TokenizerError> {
//! let tokenizer = Tokenizer::from_folder(folder)?;
//! let ids = tokenizer.encode("Hello world", Specials::Ignore)?;
//! assert_eq!(tokenizer.decode(&ids)?, "Hello world");
//! # Ok(()) }
//! ```

mod alphabet;
mod bpe;
mod error;
mod export;
mod folder;
mod gguf;
mod json_files;
mod json_parts;
mod nfc;
mod special;
mod split;
mod spm;
mod spm_json;
mod spm_model;
mod stream;
mod unicode;
mod vocab;

pub use bpe::EncodeScratch;
pub use error::{MergeAt, TokenizerError};
pub use export::ExportError;
pub use special::MAX_SPECIAL;
pub use split::Splitter;
pub use stream::{TextPieces, Utf8Stream};
pub use unicode::UNICODE_VERSION;
pub use vocab::TokenKind;

use bpe::ByteBpe;
use special::SpecialIndex;
use spm::Spm;
use vocab::Vocab;

/// What to do with the text of special tokens in a text.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Specials {
    /// It is text like any other: right for whatever a user wrote. (Tokens of
    /// [`TokenKind::UserDefined`] are found all the same; they are text too.)
    #[default]
    Ignore,
    /// It becomes the special token, the longest where several start at the same place: right for
    /// what a program wrote, such as a chat template.
    Parse,
}

/// The tokens that have a part of their own in a text, as far as the model names them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SpecialIds {
    /// Begins a text.
    pub bos: Option<u32>,
    /// Ends a text.
    pub eos: Option<u32>,
    /// Ends a turn of a conversation.
    pub eot: Option<u32>,
    /// Stands for what has no token. Vocabularies with all bytes never need it.
    pub unk: Option<u32>,
    /// Whether texts given to the model start with `bos`. [`Tokenizer::encode`] leaves it to its
    /// caller, who knows where a text starts.
    pub add_bos: bool,
    /// Whether texts given to the model end with `eos`; as with `add_bos`.
    pub add_eos: bool,
}

/// Tokens that end a generated text in every model that has them, by their names: what llama.cpp
/// ends at.
const STOPS: [&str; 15] = [
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<|eom_id|>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "[EOS]",
    "<\u{ff5c}end\u{2581}of\u{2581}sentence\u{ff5c}>",
    "<end_of_utterance>",
    "<eos>",
    "</s>",
];

/// How pieces of text become tokens.
#[derive(Clone, Debug)]
enum Algorithm {
    ByteBpe(Box<ByteBpe>),
    Spm(Box<Spm>),
}

/// A vocabulary and the rules for using it. It never changes and may be shared by threads.
#[derive(Clone)]
pub struct Tokenizer {
    vocab: Vocab,
    algorithm: Algorithm,
    special: SpecialIndex,
    ids: SpecialIds,
    /// Ids that end a generated text, in ascending order.
    stops: Vec<u32>,
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut out = f.debug_struct("Tokenizer");
        out.field("vocab_size", &self.vocab_size()).field("algorithm", &self.algorithm);
        out.field("ids", &self.ids).finish_non_exhaustive()
    }
}

/// What a vocabulary in memory is made of: see [`Tokenizer::byte_bpe`].
pub struct BpeParts<T, M> {
    /// The tokens in the order of their ids, in the byte alphabet where they are normal.
    pub tokens: T,
    /// The merges in the order of their ranks, such as `Ġ t`.
    pub merges: M,
    /// How texts are cut into pieces.
    pub splitter: Splitter,
    /// Whether a text that does not start with a space gets one in front.
    pub add_prefix_space: bool,
    /// Whether a piece that is a token becomes it, whatever the merges make of it: Llama 3.
    pub ignore_merges: bool,
    /// Whether texts are brought into Unicode's normalisation form C first: Qwen.
    pub nfc: bool,
    /// The tokens with a part of their own.
    pub ids: SpecialIds,
}

/// What a SentencePiece vocabulary in memory is made of: see [`Tokenizer::sentence_piece`].
pub struct SpmParts<T> {
    /// The tokens in the order of their ids, with spaces as U+2581, and their scores.
    pub tokens: T,
    /// Whether a text, and what follows a special token in it, gets a space in front.
    pub add_space_prefix: bool,
    /// The tokens with a part of their own.
    pub ids: SpecialIds,
}

impl Tokenizer {
    /// A tokenizer of byte-level byte-pair encoding, from parts in memory.
    ///
    /// # Errors
    /// [`TokenizerError`] where two normal tokens are the same, a merge is malformed, repeated, or
    /// names or makes something that is not in the vocabulary, or an id of `ids` is beyond it.
    pub fn byte_bpe<'a, T, M>(parts: BpeParts<T, M>) -> Result<Self, TokenizerError>
    where
        T: IntoIterator<Item = (&'a [u8], TokenKind)>,
        M: IntoIterator<Item = &'a [u8]>,
    {
        let nfc: Option<nfc::Normalizer> = parts.nfc.then_some(nfc::nfc);
        Tokenizer::byte_bpe_with(parts, nfc)
    }

    /// [`Tokenizer::byte_bpe`], `nfc` deciding what `parts.nfc` does.
    fn byte_bpe_with<'a, T, M>(
        parts: BpeParts<T, M>,
        nfc: Option<nfc::Normalizer>,
    ) -> Result<Self, TokenizerError>
    where
        T: IntoIterator<Item = (&'a [u8], TokenKind)>,
        M: IntoIterator<Item = &'a [u8]>,
    {
        let mut tokens = bpe::Tokens::default();
        for (text, kind) in parts.tokens {
            tokens.push(text, kind)?;
        }
        let mut merges = tokens.merges()?;
        for (i, line) in parts.merges.into_iter().enumerate() {
            merges.push_line(line, MergeAt::Index(i))?;
        }
        let rules = bpe::Rules {
            splitter: parts.splitter,
            add_prefix_space: parts.add_prefix_space,
            ignore_merges: parts.ignore_merges,
            nfc,
        };
        let (vocab, bpe) = merges.finish(rules, MergeAt::Index)?;
        Tokenizer::new(vocab, Algorithm::ByteBpe(Box::new(bpe)), parts.ids)
    }

    fn new(vocab: Vocab, algorithm: Algorithm, ids: SpecialIds) -> Result<Self, TokenizerError> {
        let special = SpecialIndex::new(&vocab)?;
        let mut tokenizer =
            Tokenizer { vocab, algorithm, special, ids: SpecialIds::default(), stops: Vec::new() };
        for id in [ids.bos, ids.eos, ids.eot, ids.unk].into_iter().flatten() {
            tokenizer.bytes_of(id)?;
        }
        let named = tokenizer.vocab.iter().filter(|&(_, kind, bytes)| match kind {
            TokenKind::Control => STOPS.iter().any(|s| s.as_bytes() == bytes),
            _ => false,
        });
        tokenizer.stops = named.map(|(id, _, _)| id).collect();
        tokenizer.set_ids(ids);
        Ok(tokenizer)
    }

    /// Sets the tokens with a part of their own.
    fn set_ids(&mut self, ids: SpecialIds) {
        self.ids = ids;
        self.add_stops([ids.eos, ids.eot].into_iter().flatten());
    }

    /// Adds tokens that end a generated text, where they are in the vocabulary.
    fn add_stops(&mut self, ids: impl IntoIterator<Item = u32>) {
        self.stops.extend(ids.into_iter().filter(|&id| self.vocab.kind(id).is_some()));
        self.stops.sort_unstable();
        self.stops.dedup();
        self.stops.shrink_to_fit();
    }

    /// A tokenizer of SentencePiece's byte-pair encoding, from parts in memory. Neighbours whose
    /// joint text is a token are merged, those of the highest score first, the leftmost among
    /// equals; a character that is then no token becomes tokens of [`TokenKind::Byte`], named
    /// `<0x0A>`, or where one is missing `ids.unk`.
    ///
    /// # Errors
    /// [`TokenizerError`] where two normal tokens are the same, a byte is not written as one, a
    /// score is NaN, or an id of `ids` is beyond the vocabulary.
    pub fn sentence_piece<'a, T>(parts: SpmParts<T>) -> Result<Self, TokenizerError>
    where
        T: IntoIterator<Item = (&'a [u8], f32, TokenKind)>,
    {
        let (mut pieces, mut scores) = (spm::Pieces::default(), Vec::new());
        for (text, score, kind) in parts.tokens {
            pieces.push(text, kind)?;
            scores.push(score);
        }
        let built = pieces.finish(spm::Rules::sentence_piece(parts.add_space_prefix), false)?;
        let (vocab, spm) = built.by_scores(&scores, parts.ids.unk)?;
        Tokenizer::new(vocab, Algorithm::Spm(Box::new(spm)), parts.ids)
    }

    /// The ids of `text`, without any that it does not itself hold (no `bos`).
    ///
    /// # Errors
    /// [`TokenizerError::NoTokenForByte`] where the vocabulary lacks one of the text's bytes.
    pub fn encode(&self, text: &str, specials: Specials) -> Result<Vec<u32>, TokenizerError> {
        let mut out = Vec::new();
        self.encode_into(text, specials, &mut EncodeScratch::default(), &mut out)?;
        Ok(out)
    }

    /// Appends the ids of `text` to `out`: [`encode`](Self::encode) for who encodes often and wants
    /// no memory taken each time.
    ///
    /// # Errors
    /// As [`encode`](Self::encode); `out` then has what it had.
    pub fn encode_into(
        &self,
        text: &str,
        specials: Specials,
        scratch: &mut EncodeScratch,
        out: &mut Vec<u32>,
    ) -> Result<(), TokenizerError> {
        // Positions in a piece, which may have a space in front, are counted in 32 bits.
        if text.len() >= u32::MAX as usize - 1 {
            return Err(TokenizerError::TextTooLong { bytes: text.len() });
        }
        let before = out.len();
        let done = self.encode_all(text, specials, scratch, out);
        if done.is_err() {
            out.truncate(before);
        }
        done
    }

    fn encode_all(
        &self,
        text: &str,
        specials: Specials,
        scratch: &mut EncodeScratch,
        out: &mut Vec<u32>,
    ) -> Result<(), TokenizerError> {
        let mut at = 0;
        while let Some((start, end, id)) = self.special.find(&self.vocab, text, at, specials) {
            self.encode_plain(&text[at..start], at == 0, specials, scratch, out)?;
            out.push(id);
            at = end + self.special.swallowed(id, &text[end..]);
        }
        self.encode_plain(&text[at..], at == 0, specials, scratch, out)
    }

    /// Appends the ids of a stretch of text in which there are no special tokens, but for those
    /// that are found in normalised text. `start`: nothing stands before it.
    fn encode_plain(
        &self,
        text: &str,
        start: bool,
        specials: Specials,
        scratch: &mut EncodeScratch,
        out: &mut Vec<u32>,
    ) -> Result<(), TokenizerError> {
        match &self.algorithm {
            Algorithm::ByteBpe(bpe) => bpe.encode(&self.vocab, text, specials, scratch, out),
            Algorithm::Spm(spm) => spm.encode(&self.vocab, text, start, &mut scratch.spm, out),
        }
    }

    /// The text of `ids`, special tokens as their names, what is no UTF-8 as U+FFFD.
    ///
    /// Where the vocabulary has texts begin with a space, one that they begin with is left out, so
    /// that this gives what [`encode`](Self::encode) got. What continues another text keeps its
    /// space: put the bytes of its tokens together ([`token_bytes`](Self::token_bytes)).
    ///
    /// # Errors
    /// [`TokenizerError::NoSuchId`] for an id that is no token.
    pub fn decode(&self, ids: &[u32]) -> Result<String, TokenizerError> {
        let mut bytes = Vec::new();
        for (i, &id) in ids.iter().enumerate() {
            let token = self.bytes_of(id)?;
            let skip = i == 0 && self.strips_space(id) && token.first() == Some(&b' ');
            bytes.extend_from_slice(&token[usize::from(skip)..]);
        }
        Ok(match String::from_utf8(bytes) {
            Ok(text) => text,
            Err(e) => String::from_utf8_lossy(e.as_bytes()).into_owned(),
        })
    }

    /// Whether a space at the start of a text that begins with this token is the prefix.
    fn strips_space(&self, first: u32) -> bool {
        let strips = match &self.algorithm {
            Algorithm::ByteBpe(_) => false,
            Algorithm::Spm(spm) => spm.rules().strip,
        };
        strips && !self.is_special(first)
    }

    /// The bytes that a token stands for: part of a text, in which characters may be cut anywhere
    /// ([`Utf8Stream`] puts them together), or the name of a special token; `None` for an id that
    /// is no token.
    #[must_use]
    pub fn token_bytes(&self, id: u32) -> Option<&[u8]> {
        self.vocab.get(id)
    }

    fn bytes_of(&self, id: u32) -> Result<&[u8], TokenizerError> {
        let vocab_size = self.vocab_size();
        self.token_bytes(id).ok_or(TokenizerError::NoSuchId { id, vocab_size })
    }

    /// What a token is for; `None` for an id that is no token.
    #[must_use]
    pub fn token_kind(&self, id: u32) -> Option<TokenKind> {
        self.vocab.kind(id)
    }

    /// Whether the token is no text: its bytes are a name that a user should not see.
    #[must_use]
    pub fn is_special(&self, id: u32) -> bool {
        self.token_kind(id).is_some_and(TokenKind::is_special)
    }

    /// The id of the token with these bytes, a normal one before others. It looks at every token.
    #[must_use]
    pub fn find_token(&self, bytes: &[u8]) -> Option<u32> {
        let with = self.vocab.iter().filter(|&(_, _, b)| b == bytes);
        with.min_by_key(|&(id, kind, _)| (kind != TokenKind::Normal, id)).map(|(id, _, _)| id)
    }

    /// Ids, counting the unused ones: every id is below this.
    #[must_use]
    pub fn vocab_size(&self) -> usize {
        self.vocab.len()
    }

    /// The tokens with a part of their own.
    #[must_use]
    pub fn special_ids(&self) -> SpecialIds {
        self.ids
    }

    /// The token that begins a text.
    #[must_use]
    pub fn bos(&self) -> Option<u32> {
        self.ids.bos
    }

    /// The token that ends a text.
    #[must_use]
    pub fn eos(&self) -> Option<u32> {
        self.ids.eos
    }

    /// The token that ends a turn of a conversation.
    #[must_use]
    pub fn eot(&self) -> Option<u32> {
        self.ids.eot
    }

    /// Whether texts given to the model start with [`bos`](Self::bos).
    #[must_use]
    pub fn add_bos(&self) -> bool {
        self.ids.add_bos
    }

    /// Whether texts given to the model end with [`eos`](Self::eos).
    #[must_use]
    pub fn add_eos(&self) -> bool {
        self.ids.add_eos
    }

    /// Whether a model that gives this token has ended its text or its turn: `eos`, `eot`, what the
    /// model's files name beside them, and control tokens that are known to end texts by their
    /// names, such as `<|im_end|>`.
    #[must_use]
    pub fn is_end(&self, id: u32) -> bool {
        self.stops.binary_search(&id).is_ok()
    }

    /// All ids for which [`is_end`](Self::is_end) holds, in ascending order.
    #[must_use]
    pub fn stop_ids(&self) -> &[u32] {
        &self.stops
    }

    /// Bytes of memory that the tokenizer holds.
    #[must_use]
    pub fn memory(&self) -> usize {
        let algorithm = match &self.algorithm {
            Algorithm::ByteBpe(bpe) => bpe.memory(),
            Algorithm::Spm(spm) => spm.memory(),
        };
        let rest = self.vocab.memory() + self.special.memory() + 4 * self.stops.capacity();
        size_of::<Self>() + algorithm + rest
    }
}
