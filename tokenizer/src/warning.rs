//! Warnings of reading a tokenizer's files.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

/// A place where a tokenizer's files contradict themselves or lack something, and what was done
/// about it. The message is one line that names the key or file.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum TokenizerWarning {
    /// A byte-level GGUF vocabulary without `tokenizer.ggml.pre`.
    NoPreTokenizer {
        /// The name that was taken.
        used: &'static str,
    },
    /// The id of a special token that is out of range.
    BadSpecialId {
        /// The key.
        key: &'static str,
        /// The id, as the file has it.
        id: i128,
        /// The id that is used instead.
        used: Option<u32>,
    },
    /// A token whose name says that it controls the model, with another type in the file. It is a
    /// control token: text that somebody typed never becomes it.
    NotControl {
        /// The token's id.
        id: u32,
        /// The token.
        token: String,
    },
    /// A SentencePiece vocabulary without `tokenizer.ggml.scores`: all are 0.
    NoScores,
    /// Token types that are none of 1 to 6, taken as ordinary text.
    UnknownTypes {
        /// Id of the first such token.
        first: u32,
        /// Number of such tokens.
        count: usize,
    },
    /// Merges of a GGUF file that name no token or make none, left out.
    UselessMerges {
        /// Index of the first of them.
        first: usize,
        /// Number of them.
        count: usize,
    },
    /// Merges that stand there several times.
    RepeatedMerges {
        /// Index of the first repetition.
        first: usize,
        /// Number of repetitions.
        count: usize,
        /// True if the last of each counts, as in the `tokenizers` library; otherwise the first, as in
        /// llama.cpp.
        last: bool,
    },
    /// Added tokens whose ids are not those that the file gives: ids after the vocabulary are
    /// consecutive, as in the `tokenizers` library.
    MovedTokens {
        /// The first such token.
        token: String,
        /// Its id in the file.
        from: u64,
        /// Its id.
        to: u32,
        /// Number of such tokens.
        count: usize,
    },
    /// A key that has no effect here, or another than it says.
    Overridden {
        /// The key.
        key: &'static str,
        /// The remedy that was taken.
        done: &'static str,
    },
    /// A token that tokenizer.json lacks and another file names.
    TokenAdded {
        /// The first such token.
        token: String,
        /// Its id.
        id: u32,
        /// Number of such tokens.
        count: usize,
    },
}

/// Behind the first of several tokens: how many there are.
struct OfAll(usize);

impl fmt::Display for OfAll {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 | 1 => Ok(()),
            count => write!(f, " (it is the first of {count} such tokens)"),
        }
    }
}

impl fmt::Display for TokenizerWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use TokenizerWarning as W;
        match self {
            W::NoPreTokenizer { used } => write!(
                f,
                "tokenizer.ggml.pre is missing: texts are split as by `{used}`, which may not be \
                 how the model was trained"
            ),
            W::BadSpecialId { key, id, used: Some(used) } => {
                write!(f, "{key} is {id}, which is not a token: {used} is used")
            }
            W::BadSpecialId { key, id, used: None } => {
                write!(f, "{key} is {id}, which is not a token: it is ignored")
            }
            W::NotControl { id, token } => write!(
                f,
                "tokenizer.ggml.token_type or `special`: the token {id}, {token:?}, is not marked \
                 as a control token: it is taken as one"
            ),
            W::NoScores => f.write_str("tokenizer.ggml.scores is missing: all scores are 0"),
            W::UnknownTypes { first, count: 1 } => write!(
                f,
                "tokenizer.ggml.token_type has no known type for the token {first}: it is taken as \
                 text"
            ),
            W::UnknownTypes { first, count } => write!(
                f,
                "tokenizer.ggml.token_type has no known type for {count} tokens, the first of them \
                 {first}: they are taken as text"
            ),
            W::UselessMerges { first, count: 1 } => write!(
                f,
                "tokenizer.ggml.merges has a merge of or to something that is not a token, number \
                 {first}: it is left out"
            ),
            W::UselessMerges { first, count } => write!(
                f,
                "tokenizer.ggml.merges has {count} merges of or to something that is not a token, \
                 the first of them {first}: they are left out"
            ),
            W::RepeatedMerges { first, count, last } => {
                let merges =
                    "the merges (tokenizer.ggml.merges, model.merges or merges.txt) repeat";
                let of_each = if *last { "last" } else { "first" };
                match count {
                    1 => write!(f, "{merges} at {first}: the {of_each} of equal ones counts"),
                    n => write!(
                        f,
                        "{merges} {n} times, first at {first}: the {of_each} of equal ones counts"
                    ),
                }
            }
            W::MovedTokens { token, from, to, count } => write!(
                f,
                "added_tokens gives {token:?} the id {from}, but ids after the vocabulary are \
                 consecutive: it has {to}{}",
                OfAll(*count)
            ),
            W::Overridden { key, done } => write!(f, "{key}: {done}"),
            W::TokenAdded { token, id, count } => write!(
                f,
                "tokenizer.json lacks {token:?}, which added_tokens_decoder or another key of the \
                 folder names: it has the id {id}{}",
                OfAll(*count)
            ),
        }
    }
}

/// Adds a warning that is about an index, or counts it with the one that is there.
pub(super) fn count(
    warnings: &mut Vec<TokenizerWarning>,
    index: usize,
    make: impl FnOnce(usize) -> TokenizerWarning,
) {
    use TokenizerWarning as W;
    let new = make(index);
    for there in warnings.iter_mut() {
        match (there, &new) {
            (W::UselessMerges { count, .. }, W::UselessMerges { .. })
            | (W::RepeatedMerges { count, .. }, W::RepeatedMerges { .. })
            | (W::UnknownTypes { count, .. }, W::UnknownTypes { .. })
            | (W::MovedTokens { count, .. }, W::MovedTokens { .. })
            | (W::TokenAdded { count, .. }, W::TokenAdded { .. }) => {
                *count += 1;
                return;
            }
            _ => {}
        }
    }
    warnings.push(new);
}
