//! Errors of reading and using tokenizers.

use alloc::string::String;
use core::fmt;

use crate::json::JsonError;

/// Error of building a tokenizer, or of encoding or decoding.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum TokenizerError {
    /// A folder without tokenizer files.
    #[cfg(feature = "std")]
    NoFiles {
        /// The folder.
        folder: std::path::PathBuf,
    },
    /// A file can't be read.
    #[cfg(feature = "std")]
    Io {
        /// The file.
        path: std::path::PathBuf,
        /// The system's error message.
        why: String,
    },
    /// A file larger than any tokenizer's.
    #[cfg(feature = "std")]
    FileTooLarge {
        /// The file.
        path: std::path::PathBuf,
        /// Size of the file in bytes.
        bytes: u64,
        /// Size limit in bytes.
        limit: u64,
    },
    /// A file is not JSON.
    Json {
        /// The file's name.
        file: &'static str,
        /// The position and kind of the error.
        error: JsonError,
    },
    /// A field of a JSON file is missing.
    MissingField {
        /// The file's name.
        file: &'static str,
        /// The field, such as `model.vocab`.
        field: &'static str,
    },
    /// A field of a JSON file has the wrong type or value.
    WrongField {
        /// The file's name.
        file: &'static str,
        /// Offset of the end of its value, in bytes from the start of the file.
        offset: usize,
        /// Description of the expected value.
        want: &'static str,
    },
    /// A GGUF key of the tokenizer is missing or of the wrong type.
    Gguf {
        /// The key.
        key: &'static str,
        /// The problem with it.
        why: &'static str,
    },
    /// A kind of tokenizer, or a component of one, that Teff does not support.
    Unsupported {
        /// The kind of component, such as `pre-tokenizer`.
        part: &'static str,
        /// Its name in the file.
        name: String,
    },
    /// An unknown name in `tokenizer.ggml.pre`.
    UnknownPreTokenizer {
        /// The name.
        name: String,
    },
    /// A name in `tokenizer.ggml.pre` that is known, but not supported.
    RefusedPreTokenizer {
        /// The name.
        name: String,
        /// The reason.
        why: &'static str,
    },
    /// tokenizer.model is not a valid protocol buffer, or a field of it is invalid.
    Model {
        /// Offset in bytes from the start of the file.
        offset: usize,
        /// The problem at that offset.
        why: &'static str,
    },
    /// A byte token that is not written as one, such as `<0x0A>`.
    NotAByte {
        /// Id of the token.
        id: u32,
        /// The token as text.
        token: String,
    },
    /// The score of a token is NaN.
    ScoreIsNan {
        /// The token's id.
        id: u32,
    },
    /// Two ids have the same token.
    DuplicateToken {
        /// The token as text.
        token: String,
        /// The lower id.
        first: u32,
        /// The higher id.
        second: u32,
    },
    /// Two tokens have the same id.
    RepeatedId {
        /// The id.
        id: u32,
        /// The second token with that id.
        token: String,
    },
    /// An id too large for the size of the vocabulary, which would leave too many unused ids.
    IdTooLarge {
        /// The id.
        id: u64,
        /// Exclusive upper bound of ids.
        limit: u32,
    },
    /// A vocabulary with too many tokens or bytes for 32-bit indices.
    VocabularyTooLarge,
    /// A merge that is not two tokens separated by a space.
    MalformedMerge {
        /// Location of the merge.
        at: MergeAt,
    },
    /// A merge of a token that is not in the vocabulary.
    UnknownMergeToken {
        /// Location of the merge.
        at: MergeAt,
        /// The token.
        token: String,
    },
    /// A merge whose product is not in the vocabulary.
    NoMergeProduct {
        /// Location of the merge.
        at: MergeAt,
        /// The product.
        product: String,
    },
    /// A special token longer than [`super::MAX_SPECIAL`] bytes.
    SpecialTooLong {
        /// Id of the token.
        id: u32,
        /// Its length in bytes.
        bytes: usize,
    },
    /// A text contains a byte for which the vocabulary has no token.
    NoTokenForByte {
        /// The byte.
        byte: u8,
    },
    /// A text with a character that needs the token for unknown text, which the vocabulary lacks.
    NoUnknownToken {
        /// The name of that token.
        token: String,
    },
    /// A pattern of the tokenizer that takes too many steps on a text.
    PatternTooSlow,
    /// A text that a normalizer makes many times as long.
    NormalizedTooLong {
        /// Length of the text in bytes.
        bytes: usize,
        /// Limit of its normal form in bytes.
        limit: usize,
    },
    /// A text of 4 GiB or more.
    TextTooLong {
        /// Length of the text in bytes.
        bytes: usize,
    },
    /// An id without a token.
    NoSuchId {
        /// The id.
        id: u32,
        /// Exclusive upper bound of ids.
        vocab_size: usize,
    },
}

/// Location of a merge in its file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum MergeAt {
    /// A line of merges.txt, counted from 1.
    Line(usize),
    /// An entry of the list of merges, counted from 0.
    Index(usize),
}

impl fmt::Display for MergeAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MergeAt::Line(n) => write!(f, "line {n} of merges.txt"),
            MergeAt::Index(n) => write!(f, "merge {n} (counted from 0)"),
        }
    }
}

impl fmt::Display for TokenizerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use TokenizerError as E;
        match self {
            #[cfg(feature = "std")]
            E::NoFiles { folder } => write!(
                f,
                "no tokenizer in {}: looked for tokenizer.json, tokenizer.model, and vocab.json with merges.txt",
                folder.display()
            ),
            #[cfg(feature = "std")]
            E::Io { path, why } => write!(f, "cannot read {}: {why}", path.display()),
            #[cfg(feature = "std")]
            E::FileTooLarge { path, bytes, limit } => write!(
                f,
                "{} has {bytes} bytes, more than the {limit} of a tokenizer's file: is it another file?",
                path.display()
            ),
            E::Json { file, error } => write!(f, "{file} is {error}"),
            E::MissingField { file, field } => write!(f, "{file} lacks `{field}`"),
            E::WrongField { file, offset, want } => {
                write!(f, "{file}: expected {want} before byte {offset}")
            }
            E::Gguf { key, why } => write!(f, "the model's metadata key `{key}` {why}"),
            E::Unsupported { part, name } => {
                write!(f, "the tokenizer's {part} `{name}` is not supported")
            }
            E::UnknownPreTokenizer { name } => {
                write!(f, "the pre-tokenizer `{name}` is not supported; known:")?;
                let mut names = super::split::gguf_names().enumerate();
                names.try_for_each(|(i, n)| write!(f, "{} {n}", if i > 0 { "," } else { "" }))
            }
            E::RefusedPreTokenizer { name, why } => {
                write!(f, "the pre-tokenizer `{name}` is not supported: {why}")
            }
            E::Model { offset, why } => write!(f, "tokenizer.model, at byte {offset}: {why}"),
            E::NotAByte { id, token } => {
                write!(
                    f,
                    "the token {id}, {token:?}, is a byte token, but not written as one, such as <0x0A>"
                )
            }
            E::ScoreIsNan { id } => write!(f, "the score of the token {id} is not a number"),
            E::DuplicateToken { token, first, second } => {
                write!(f, "the tokens {first} and {second} are both {token:?}")
            }
            E::RepeatedId { id, token } => {
                write!(f, "the id {id} of {token:?} already belongs to another token")
            }
            E::IdTooLarge { id, limit } => write!(
                f,
                "the token id {id} is too large: a vocabulary of this size has ids below {limit}"
            ),
            E::VocabularyTooLarge => f.write_str("the vocabulary has 2^32 tokens or bytes or more"),
            E::MalformedMerge { at } => {
                write!(f, "{at} is not two tokens with one space between them")
            }
            E::UnknownMergeToken { at, token } => {
                write!(f, "{at} names {token:?}, which is not in the vocabulary")
            }
            E::NoMergeProduct { at, product } => {
                write!(f, "{at} makes {product:?}, which is not in the vocabulary")
            }
            E::SpecialTooLong { id, bytes } => write!(
                f,
                "the special token {id} has {bytes} bytes, more than {}",
                super::MAX_SPECIAL
            ),
            E::NoTokenForByte { byte } => {
                write!(
                    f,
                    "the text contains the byte {byte:#04x}, for which the vocabulary has no token"
                )
            }
            E::NoUnknownToken { token } => write!(
                f,
                "the text needs the unknown token {token:?}, which is not in the vocabulary"
            ),
            E::PatternTooSlow => f.write_str(
                "a pattern of the tokenizer takes too many steps on this text: split it into parts",
            ),
            E::NormalizedTooLong { bytes, limit } => write!(
                f,
                "the tokenizer's normalizer makes more than {limit} bytes of a text of {bytes}"
            ),
            E::TextTooLong { bytes } => {
                write!(f, "a text of {bytes} bytes is too long: split it into parts below 4 GiB")
            }
            E::NoSuchId { id, vocab_size } => {
                write!(f, "{id} is not a token: the vocabulary has {vocab_size} ids, some unused")
            }
        }
    }
}

impl From<super::regex::TooManySteps> for TokenizerError {
    fn from(_: super::regex::TooManySteps) -> Self {
        TokenizerError::PatternTooSlow
    }
}

impl core::error::Error for TokenizerError {}
