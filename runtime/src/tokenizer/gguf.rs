//! Tokenizers from GGUF metadata.

use teff_graph::gguf::{Gguf, GgufValue};

use super::{BpeParts, SpecialIds, Splitter, TokenKind, Tokenizer, TokenizerError};

const MODEL: &str = "tokenizer.ggml.model";
const PRE: &str = "tokenizer.ggml.pre";
const TOKENS: &str = "tokenizer.ggml.tokens";
const TOKEN_TYPE: &str = "tokenizer.ggml.token_type";
const MERGES: &str = "tokenizer.ggml.merges";

impl Tokenizer {
    /// The tokenizer in a GGUF file's metadata: `tokenizer.ggml.model` is `gpt2`, and
    /// `tokenizer.ggml.pre` is `gpt-2`. Files from before there was `pre` lack it; for the
    /// architecture `gpt2`, and only for that, it can have been no other.
    ///
    /// # Errors
    /// [`TokenizerError::Unsupported`] for another kind of tokenizer; [`TokenizerError::Gguf`] for a
    /// key that is missing or of the wrong type; otherwise what is wrong with tokens and merges.
    pub fn from_gguf(gguf: &Gguf<'_>) -> Result<Self, TokenizerError> {
        let keys = Keys { gguf };
        let model = keys.text(MODEL)?.ok_or(lacks(MODEL))?;
        if model != "gpt2" {
            return Err(unsupported("model", model));
        }
        let architecture = keys.text("general.architecture")?;
        let splitter = match keys.text(PRE)? {
            Some("gpt-2") => Splitter::Gpt2,
            None if architecture == Some("gpt2") => Splitter::Gpt2,
            None => return Err(lacks(PRE)),
            Some(pre) => return Err(unsupported("pre-tokenizer", pre)),
        };
        let ids = SpecialIds {
            bos: keys.id("tokenizer.ggml.bos_token_id")?,
            eos: keys.id("tokenizer.ggml.eos_token_id")?,
            eot: keys.id("tokenizer.ggml.eot_token_id")?,
            unk: keys.id("tokenizer.ggml.unknown_token_id")?,
            add_bos: keys.flag("tokenizer.ggml.add_bos_token")?,
        };
        let Some(GgufValue::Array(tokens)) = gguf.value(TOKENS) else { return Err(lacks(TOKENS)) };
        let tokens = tokens.strings().ok_or(wrong(TOKENS, "is no array of strings"))?;
        let Some(GgufValue::Array(merges)) = gguf.value(MERGES) else { return Err(lacks(MERGES)) };
        let merges = merges.strings().ok_or(wrong(MERGES, "is no array of strings"))?;
        let add_prefix_space = keys.flag("tokenizer.ggml.add_space_prefix")?;
        let kinds = keys.kinds(tokens.len())?;
        let mut bad_kind = false;
        let tokens = tokens.enumerate().map(|(i, token)| {
            let kind = match &kinds {
                None => Some(TokenKind::Normal),
                Some(kinds) => kinds.get(i).and_then(|&k| TokenKind::from_gguf(k)),
            };
            bad_kind |= kind.is_none();
            (token, kind.unwrap_or(TokenKind::Unused))
        });
        let built =
            Tokenizer::byte_bpe(BpeParts { tokens, merges, splitter, add_prefix_space, ids });
        if bad_kind {
            return Err(wrong(TOKEN_TYPE, "has a number that is no type of token (1 to 6)"));
        }
        built
    }
}

fn wrong(key: &'static str, why: &'static str) -> TokenizerError {
    TokenizerError::Gguf { key, why }
}

fn lacks(key: &'static str) -> TokenizerError {
    wrong(key, "is missing")
}

fn unsupported(part: &'static str, name: &str) -> TokenizerError {
    TokenizerError::Unsupported { part, name: name.into() }
}

struct Keys<'g, 'a> {
    gguf: &'g Gguf<'a>,
}

impl<'a> Keys<'_, 'a> {
    fn text(&self, key: &'static str) -> Result<Option<&'a str>, TokenizerError> {
        match self.gguf.value(key) {
            None => Ok(None),
            Some(GgufValue::Str(text)) => Ok(Some(text)),
            Some(_) => Err(wrong(key, "is no string")),
        }
    }

    fn flag(&self, key: &'static str) -> Result<bool, TokenizerError> {
        match self.gguf.value(key) {
            None => Ok(false),
            Some(GgufValue::Bool(v)) => Ok(v),
            Some(_) => Err(wrong(key, "is no truth value")),
        }
    }

    fn id(&self, key: &'static str) -> Result<Option<u32>, TokenizerError> {
        let id = match self.gguf.value(key) {
            None => return Ok(None),
            Some(GgufValue::U32(v)) => Some(v),
            Some(GgufValue::I32(v)) => u32::try_from(v).ok(),
            Some(GgufValue::U64(v)) => u32::try_from(v).ok(),
            Some(GgufValue::I64(v)) => u32::try_from(v).ok(),
            Some(_) => None,
        };
        id.map(Some).ok_or(wrong(key, "is no token id"))
    }

    /// The types of `n` tokens.
    fn kinds(&self, n: usize) -> Result<Option<Vec<u32>>, TokenizerError> {
        let kinds = match self.gguf.value(TOKEN_TYPE) {
            None => return Ok(None),
            Some(GgufValue::Array(array)) => array.integers(),
            Some(_) => None,
        };
        let kinds = kinds.ok_or(wrong(TOKEN_TYPE, "is no array of integers"))?;
        if kinds.len() != n {
            return Err(wrong(TOKEN_TYPE, "has not one entry for each token"));
        }
        Ok(Some(kinds.map(|k| u32::try_from(k).unwrap_or(0)).collect()))
    }
}
