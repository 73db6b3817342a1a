//! Tokenizers from GGUF metadata.

use teff_graph::gguf::{Gguf, GgufValue, ValueKind};

use super::spm::byte_of;
use super::{BpeParts, SpecialIds, Splitter, SpmParts, TokenKind, Tokenizer, TokenizerError};

const MODEL: &str = "tokenizer.ggml.model";
const PRE: &str = "tokenizer.ggml.pre";
const TOKENS: &str = "tokenizer.ggml.tokens";
const SCORES: &str = "tokenizer.ggml.scores";
const TOKEN_TYPE: &str = "tokenizer.ggml.token_type";
const MERGES: &str = "tokenizer.ggml.merges";

impl Tokenizer {
    /// Reads the tokenizer in a GGUF file's metadata. `tokenizer.ggml.model` is `llama` for the
    /// SentencePiece kind, or `gpt2` for byte-level BPE, for which `tokenizer.ggml.pre` names the
    /// [`Splitter`]. Files older than that key lack it: for the architecture `gpt2`, and only for
    /// that, the splitter is certain without it.
    ///
    /// # Errors
    /// [`TokenizerError::Unsupported`] for another kind of tokenizer; [`TokenizerError::Gguf`] for
    /// a key that is missing or of the wrong type; otherwise the problem with the tokens or merges.
    pub fn from_gguf(gguf: &Gguf<'_>) -> Result<Self, TokenizerError> {
        let keys = Keys { gguf };
        let model = keys.text(MODEL)?.ok_or(lacks(MODEL))?;
        match model {
            "gpt2" => {}
            "llama" => return sentence_piece(&keys),
            _ => return Err(unsupported("model", model)),
        }
        let architecture = keys.text("general.architecture")?;
        let pre = match keys.text(PRE)? {
            Some(pre) => pre,
            None if architecture == Some("gpt2") => "gpt-2",
            None => return Err(lacks(PRE)),
        };
        let rule = Splitter::from_gguf(pre);
        let rule = rule.ok_or_else(|| TokenizerError::UnknownPreTokenizer { name: pre.into() })?;
        let ids = SpecialIds {
            bos: keys.id("tokenizer.ggml.bos_token_id")?,
            eos: keys.id("tokenizer.ggml.eos_token_id")?,
            eot: keys.id("tokenizer.ggml.eot_token_id")?,
            unk: keys.id("tokenizer.ggml.unknown_token_id")?,
            add_bos: keys.flag("tokenizer.ggml.add_bos_token")?.unwrap_or(rule.add_bos),
            add_eos: keys.flag("tokenizer.ggml.add_eos_token")?.unwrap_or(false),
        };
        let Some(GgufValue::Array(tokens)) = gguf.value(TOKENS) else { return Err(lacks(TOKENS)) };
        let tokens = tokens.strings().ok_or(wrong(TOKENS, "is not an array of strings"))?;
        let Some(GgufValue::Array(merges)) = gguf.value(MERGES) else { return Err(lacks(MERGES)) };
        let merges = merges.strings().ok_or(wrong(MERGES, "is not an array of strings"))?;
        let add_prefix_space = keys.flag("tokenizer.ggml.add_space_prefix")?.unwrap_or(false);
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
        let parts = BpeParts {
            tokens,
            merges,
            splitter: rule.splitter,
            add_prefix_space,
            ignore_merges: rule.ignore_merges,
            // llama.cpp does not normalise these texts, and GGUF has no key for it.
            nfc: false,
            ids,
        };
        let built = Tokenizer::byte_bpe_with(parts, None);
        if bad_kind {
            return Err(wrong(TOKEN_TYPE, NO_TYPE));
        }
        built
    }
}

/// Reads a tokenizer of the SentencePiece kind. Defaults are those of llama.cpp.
fn sentence_piece(keys: &Keys<'_, '_>) -> Result<Tokenizer, TokenizerError> {
    const EXTRA: &str = "tokenizer.ggml.remove_extra_whitespaces";
    const CHARSMAP: &str = "tokenizer.ggml.precompiled_charsmap";
    if keys.flag(EXTRA)? == Some(true) {
        return Err(unsupported("normalizer", "remove_extra_whitespaces"));
    }
    if let Some(GgufValue::Array(map)) = keys.gguf.value(CHARSMAP)
        && !map.is_empty()
    {
        return Err(unsupported("normalizer", "precompiled_charsmap"));
    }
    let Some(GgufValue::Array(tokens)) = keys.gguf.value(TOKENS) else { return Err(lacks(TOKENS)) };
    let tokens = tokens.strings().ok_or(wrong(TOKENS, "is not an array of strings"))?;
    let n = tokens.len();
    let scores = match keys.gguf.value(SCORES) {
        None => return Err(lacks(SCORES)),
        Some(GgufValue::Array(array)) if array.elem() == ValueKind::F32 => array.as_bytes(),
        Some(_) => return Err(wrong(SCORES, "is not an array of floats")),
    };
    let (scores, _) = scores.as_chunks::<4>();
    if scores.len() != n {
        return Err(wrong(SCORES, "has not one entry for each token"));
    }
    let kinds = keys.kinds(n)?;
    // SentencePiece's own order of the first tokens.
    let id =
        |key, default: u32| Ok(keys.id(key)?.or(Some(default).filter(|&id| (id as usize) < n)));
    let ids = SpecialIds {
        bos: id("tokenizer.ggml.bos_token_id", 1)?,
        eos: id("tokenizer.ggml.eos_token_id", 2)?,
        eot: keys.id("tokenizer.ggml.eot_token_id")?,
        unk: id("tokenizer.ggml.unknown_token_id", 0)?,
        add_bos: keys.flag("tokenizer.ggml.add_bos_token")?.unwrap_or(true),
        add_eos: keys.flag("tokenizer.ggml.add_eos_token")?.unwrap_or(false),
    };
    let add_space_prefix = keys.flag("tokenizer.ggml.add_space_prefix")?.unwrap_or(true);
    let mut bad_kind = false;
    let tokens = tokens.zip(scores).enumerate().map(|(i, (token, score))| {
        let kind = match &kinds {
            // Without types, only byte tokens can be recognised.
            None if byte_of(token).is_some() => Some(TokenKind::Byte),
            None => Some(TokenKind::Normal),
            Some(kinds) => kinds.get(i).and_then(|&k| TokenKind::from_gguf(k)),
        };
        bad_kind |= kind.is_none();
        (token, f32::from_le_bytes(*score), kind.unwrap_or(TokenKind::Unused))
    });
    let built = Tokenizer::sentence_piece(SpmParts { tokens, add_space_prefix, ids });
    if bad_kind {
        return Err(wrong(TOKEN_TYPE, NO_TYPE));
    }
    let mut tokenizer = built?;
    // llama.cpp's rule for the one family that has it: these tokens absorb the white space after
    // them.
    let name = keys.text("general.name")?.unwrap_or_default().to_ascii_lowercase();
    if name.contains("phi-3") || name.contains("phi3") {
        let bare = |id: u32| {
            let names = [&b"<unk>"[..], b"<s>", b"<|endoftext|>"];
            !tokenizer.token_bytes(id).is_some_and(|t| names.contains(&t))
        };
        let all = tokenizer.special.ids().iter().copied().filter(|&id| bare(id)).collect();
        tokenizer.special.set_strip_after(all);
    }
    Ok(tokenizer)
}

const NO_TYPE: &str = "has a number that is not a token type (1 to 6)";

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
            Some(_) => Err(wrong(key, "is not a string")),
        }
    }

    fn flag(&self, key: &'static str) -> Result<Option<bool>, TokenizerError> {
        match self.gguf.value(key) {
            None => Ok(None),
            Some(GgufValue::Bool(v)) => Ok(Some(v)),
            Some(_) => Err(wrong(key, "is not a boolean")),
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
        id.map(Some).ok_or(wrong(key, "is not a token id"))
    }

    /// The types of `n` tokens.
    fn kinds(&self, n: usize) -> Result<Option<Vec<u32>>, TokenizerError> {
        let kinds = match self.gguf.value(TOKEN_TYPE) {
            None => return Ok(None),
            Some(GgufValue::Array(array)) => array.integers(),
            Some(_) => None,
        };
        let kinds = kinds.ok_or(wrong(TOKEN_TYPE, "is not an array of integers"))?;
        if kinds.len() != n {
            return Err(wrong(TOKEN_TYPE, "has not one entry for each token"));
        }
        Ok(Some(kinds.map(|k| u32::try_from(k).unwrap_or(0)).collect()))
    }
}
