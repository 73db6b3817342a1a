//! Tokenizers: text to token ids and back.
//!
//! There is one kind so far, GPT-2's byte-level byte-pair encoding, read from GGUF metadata
//! ([`Tokenizer::from_gguf`]), from tokenizer.json, or from vocab.json with merges.txt
//! ([`Tokenizer::from_folder`]). What a file asks for and Teff does not have is refused by its
//! name, never passed over.
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
mod folder;
mod gguf;
mod json_files;
mod special;
mod split;
mod stream;
mod unicode;
mod vocab;

pub use bpe::EncodeScratch;
pub use error::{MergeAt, TokenizerError};
pub use special::MAX_SPECIAL;
pub use split::Splitter;
pub use stream::{TextPieces, Utf8Stream};
pub use unicode::UNICODE_VERSION;
pub use vocab::TokenKind;

use bpe::ByteBpe;
use special::SpecialIndex;
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
    /// Stands for what has no token. Byte-level vocabularies never need it.
    pub unk: Option<u32>,
    /// Whether texts given to the model start with `bos`. [`Tokenizer::encode`] leaves it to its
    /// caller, who knows where a text starts.
    pub add_bos: bool,
}

/// How pieces of text become tokens.
#[derive(Clone, Debug)]
enum Algorithm {
    ByteBpe(Box<ByteBpe>),
}

/// A vocabulary and the rules for using it. It never changes and may be shared by threads.
#[derive(Clone)]
pub struct Tokenizer {
    vocab: Vocab,
    algorithm: Algorithm,
    special: SpecialIndex,
    ids: SpecialIds,
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
        let mut tokens = bpe::Tokens::default();
        for (text, kind) in parts.tokens {
            tokens.push(text, kind)?;
        }
        let mut merges = tokens.merges()?;
        for (i, line) in parts.merges.into_iter().enumerate() {
            merges.push_line(line, MergeAt::Index(i))?;
        }
        let (splitter, space) = (parts.splitter, parts.add_prefix_space);
        let (vocab, bpe) = merges.finish(splitter, space, MergeAt::Index)?;
        Tokenizer::new(vocab, Algorithm::ByteBpe(Box::new(bpe)), parts.ids)
    }

    fn new(vocab: Vocab, algorithm: Algorithm, ids: SpecialIds) -> Result<Self, TokenizerError> {
        let special = SpecialIndex::new(&vocab)?;
        let tokenizer = Tokenizer { vocab, algorithm, special, ids };
        for id in [ids.bos, ids.eos, ids.eot, ids.unk].into_iter().flatten() {
            tokenizer.bytes_of(id)?;
        }
        Ok(tokenizer)
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
            self.encode_plain(&text[at..start], scratch, out)?;
            out.push(id);
            at = end;
        }
        self.encode_plain(&text[at..], scratch, out)
    }

    /// Appends the ids of a text in which there are no special tokens.
    fn encode_plain(
        &self,
        text: &str,
        scratch: &mut EncodeScratch,
        out: &mut Vec<u32>,
    ) -> Result<(), TokenizerError> {
        let Algorithm::ByteBpe(bpe) = &self.algorithm;
        if !bpe.add_prefix_space || text.is_empty() || text.starts_with(' ') {
            return bpe
                .splitter
                .split(text)
                .try_for_each(|piece| bpe.encode_piece(piece.as_bytes(), scratch, out));
        }
        let mut prefixed = std::mem::take(&mut scratch.prefixed);
        prefixed.clear();
        prefixed.push(' ');
        prefixed.push_str(text);
        let done = bpe
            .splitter
            .split(&prefixed)
            .try_for_each(|piece| bpe.encode_piece(piece.as_bytes(), scratch, out));
        scratch.prefixed = prefixed;
        done
    }

    /// The text of `ids`, special tokens as their names, what is no UTF-8 as U+FFFD.
    ///
    /// # Errors
    /// [`TokenizerError::NoSuchId`] for an id that is no token.
    pub fn decode(&self, ids: &[u32]) -> Result<String, TokenizerError> {
        let mut bytes = Vec::new();
        for &id in ids {
            bytes.extend_from_slice(self.bytes_of(id)?);
        }
        Ok(match String::from_utf8(bytes) {
            Ok(text) => text,
            Err(e) => String::from_utf8_lossy(e.as_bytes()).into_owned(),
        })
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

    /// Bytes of memory that the tokenizer holds.
    #[must_use]
    pub fn memory(&self) -> usize {
        let Algorithm::ByteBpe(bpe) = &self.algorithm;
        size_of::<Self>() + self.vocab.memory() + bpe.memory() + self.special.memory()
    }
}
