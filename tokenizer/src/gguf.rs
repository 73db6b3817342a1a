//! Tokenizers from GGUF metadata.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use teff_graph::gguf::{Gguf, GgufValue, ValueKind};

use super::bpe::{self, Missing};
use super::pairs::Keep;
use super::special::SpecialIndex;
use super::split::{GgufName, PreTokenizer, gguf_name};
use super::spm::{self, Cut, Prefix, byte_of};
use super::warning::{self, TokenizerWarning};
use super::{Algorithm, MergeAt, SpecialIds, Splitter, TokenKind, Tokenizer, TokenizerError, ends};

const MODEL: &str = "tokenizer.ggml.model";
const PRE: &str = "tokenizer.ggml.pre";
const TOKENS: &str = "tokenizer.ggml.tokens";
const SCORES: &str = "tokenizer.ggml.scores";
const TOKEN_TYPE: &str = "tokenizer.ggml.token_type";
const MERGES: &str = "tokenizer.ggml.merges";

const EXTRA: &str = "tokenizer.ggml.remove_extra_whitespaces";
const CHARSMAP: &str = "tokenizer.ggml.precompiled_charsmap";
const ADD_SPACE: &str = "tokenizer.ggml.add_space_prefix";
const ADD_BOS: &str = "tokenizer.ggml.add_bos_token";

impl Tokenizer {
    /// Reads the tokenizer in a GGUF file's metadata. `tokenizer.ggml.model` is `llama` for the
    /// SentencePiece kind, `gpt2` for byte-level BPE, for which `tokenizer.ggml.pre` names the
    /// [`Splitter`], or `gemma4` for SentencePiece's characters with merges by rank. Files older than
    /// the key `pre` lack it: they are split as by `default`, as in llama.cpp, and those of the
    /// architecture `gpt2`, of which that is certain, as by `gpt-2`.
    ///
    /// What llama.cpp accepts, this does, too: missing scores, token types that there are not, merges
    /// that are useless or repeated, ids that are no tokens. [`Tokenizer::warnings`] names the keys.
    ///
    /// # Errors
    /// [`TokenizerError::Unsupported`] for another kind of tokenizer; [`TokenizerError::Gguf`] for
    /// a key that is missing or of the wrong type; otherwise the problem with the tokens or merges.
    pub fn from_gguf(gguf: &Gguf<'_>) -> Result<Self, TokenizerError> {
        let (warnings, ends) = (Vec::new(), Vec::new());
        let (useless, retyped) = (Vec::new(), Vec::new());
        let mut keys = Keys { gguf, warnings, ends, useless, retyped };
        let model = keys.text(MODEL)?.ok_or(lacks(MODEL))?;
        let mut tokenizer = match model {
            "llama" => sentence_piece(&mut keys)?,
            "gemma4" => characters(&mut keys, true, true)?,
            "gpt2" => {
                let architecture = keys.text("general.architecture")?;
                let name = match keys.text(PRE)?.filter(|pre| !pre.is_empty()) {
                    Some(name) => name,
                    None => {
                        let gpt2 = architecture == Some("gpt2");
                        let used = if gpt2 { "gpt-2" } else { "default" };
                        keys.warnings.push(TokenizerWarning::NoPreTokenizer { used });
                        used
                    }
                };
                match gguf_name(name) {
                    Some(GgufName::Bytes { splitter, ignore_merges, add_bos }) => {
                        bytes(&mut keys, splitter, ignore_merges, add_bos)?
                    }
                    Some(GgufName::Characters { add_bos, whole_lines }) => {
                        characters(&mut keys, add_bos, whole_lines)?
                    }
                    Some(GgufName::Refused(why)) => {
                        let name = name.into();
                        return Err(TokenizerError::RefusedPreTokenizer { name, why });
                    }
                    None => return Err(TokenizerError::UnknownPreTokenizer { name: name.into() }),
                }
            }
            _ => return Err(unsupported("model", model)),
        };
        tokenizer.add_stops(keys.ends);
        tokenizer.warnings = keys.warnings;
        tokenizer.retyped = keys.retyped;
        Ok(tokenizer)
    }
}

/// Reads a byte-level vocabulary.
fn bytes(
    keys: &mut Keys<'_, '_>,
    splitter: Splitter,
    ignore_merges: bool,
    add_bos: bool,
) -> Result<Tokenizer, TokenizerError> {
    let list = keys.tokens()?;
    let n = list.len();
    let ids = keys.ids(n, [None; 3], add_bos)?;
    if keys.flag(ADD_SPACE)? == Some(true) {
        // llama.cpp reads this key, and uses it for SentencePiece only.
        let done = "ignored: byte-level vocabularies put no space in front of texts";
        keys.warnings.push(TokenizerWarning::Overridden { key: ADD_SPACE, done });
    }
    let kinds = keys.kinds(n)?;
    let mut tokens = bpe::Tokens::default();
    for (i, token) in list.enumerate() {
        let kind = keys.kind(i, token, kinds.as_deref(), false);
        tokens.push(token, kind)?;
    }
    let mut merges = tokens.merges()?;
    let Some(GgufValue::Array(lines)) = keys.gguf.value(MERGES) else { return Err(lacks(MERGES)) };
    let lines = lines.strings().ok_or(wrong(MERGES, "is not an array of strings"))?;
    for (i, line) in lines.enumerate() {
        let done = merges.push_line(line, MergeAt::Index(i));
        keys.useless(i, done)?;
    }
    let rules = bpe::Rules {
        pre: PreTokenizer::new(&splitter.steps())?,
        add_prefix_space: false,
        ignore_merges,
        // llama.cpp does not normalise these texts, and GGUF has no key for it.
        nfc: None,
        missing: Missing::Skipped,
    };
    let (vocab, bpe) = merges.finish(rules, Keep::First, |i| keys.repeated(i));
    let special = SpecialIndex::of_vocab(&vocab, Vec::new())?;
    Tokenizer::new(vocab, Algorithm::ByteBpe(Box::new(bpe)), special, ids)
}

/// Reads SentencePiece's characters with merges by rank, cut at line breaks: Gemma 4.
fn characters(
    keys: &mut Keys<'_, '_>,
    add_bos: bool,
    whole_lines: bool,
) -> Result<Tokenizer, TokenizerError> {
    let list = keys.tokens()?;
    let n = list.len();
    let mut ids = keys.ids(n, [None; 3], add_bos)?;
    if add_bos && !ids.add_bos {
        ids.add_bos = true;
        let done = "taken as true, which these models need";
        keys.warnings.push(TokenizerWarning::Overridden { key: ADD_BOS, done });
    }
    let kinds = keys.kinds(n)?;
    let mut pieces = spm::Pieces::default();
    for (i, token) in list.enumerate() {
        let kind = keys.kind(i, token, kinds.as_deref(), true);
        pieces.push(token, kind)?;
    }
    let rules = spm::Rules {
        prefix: Prefix::Never,
        strip: false,
        cut: Cut::Lines { whole: whole_lines },
        ..spm::Rules::sentence_piece(false)
    };
    let mut ranked = pieces.finish(rules, false)?.ranked();
    let Some(GgufValue::Array(lines)) = keys.gguf.value(MERGES) else { return Err(lacks(MERGES)) };
    let lines = lines.strings().ok_or(wrong(MERGES, "is not an array of strings"))?;
    for (i, line) in lines.enumerate() {
        let at = MergeAt::Index(i);
        let done = bpe::split_merge(line, at).and_then(|(l, r)| ranked.push(l, r, at));
        keys.useless(i, done)?;
    }
    let (vocab, spm) = ranked.finish(ids.unk, Keep::First, |i| keys.repeated(i));
    let special = SpecialIndex::of_vocab(&vocab, Vec::new())?;
    Tokenizer::new(vocab, Algorithm::Spm(Box::new(spm)), special, ids)
}

/// Reads a tokenizer of the SentencePiece kind. Defaults are those of llama.cpp.
fn sentence_piece(keys: &mut Keys<'_, '_>) -> Result<Tokenizer, TokenizerError> {
    // llama.cpp reads these keys, and uses them for other kinds of tokenizers only.
    let done = "ignored: it has no effect on this kind of tokenizer";
    if keys.flag(EXTRA)? == Some(true) {
        keys.warnings.push(TokenizerWarning::Overridden { key: EXTRA, done });
    }
    if matches!(keys.gguf.value(CHARSMAP), Some(GgufValue::Array(map)) if !map.is_empty()) {
        keys.warnings.push(TokenizerWarning::Overridden { key: CHARSMAP, done });
    }
    let list = keys.tokens()?;
    let n = list.len();
    let scores = keys.scores(n)?;
    let kinds = keys.kinds(n)?;
    // SentencePiece's own order of the first tokens.
    let ids = keys.ids(n, [Some(1), Some(2), Some(0)], true)?;
    let add_space_prefix = keys.flag(ADD_SPACE)?.unwrap_or(true);
    let mut pieces = spm::Pieces::default();
    for (i, token) in list.enumerate() {
        let kind = keys.kind(i, token, kinds.as_deref(), true);
        pieces.push(token, kind)?;
    }
    let built = pieces.finish(spm::Rules::sentence_piece(add_space_prefix), false)?;
    let (vocab, spm) = built.by_scores(&scores, ids.unk)?;
    let mut special = SpecialIndex::of_vocab(&vocab, Vec::new())?;
    // llama.cpp's rule for the one family that has it: these tokens absorb the white space after
    // them.
    let name = keys.text("general.name")?.unwrap_or_default().to_ascii_lowercase();
    if name.contains("phi-3") || name.contains("phi3") {
        let bare = [&b"<unk>"[..], b"<s>", b"<|endoftext|>"];
        special.change(|id, how| {
            how.rstrip = !vocab.get(id).is_some_and(|t| bare.contains(&t));
            how.ascii = how.rstrip;
        });
    }
    Tokenizer::new(vocab, Algorithm::Spm(Box::new(spm)), special, ids)
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
    warnings: Vec<TokenizerWarning>,
    /// Further tokens that end generation: of a message with tools, and around a gap to fill.
    ends: Vec<u32>,
    /// Indices of merges that are left out, sorted.
    useless: Vec<usize>,
    /// Tokens that are control tokens by their names, with the kinds in the file.
    retyped: Vec<(u32, TokenKind)>,
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

    fn tokens(&self) -> Result<impl ExactSizeIterator<Item = &'a [u8]> + use<'a>, TokenizerError> {
        let Some(GgufValue::Array(tokens)) = self.gguf.value(TOKENS) else {
            return Err(lacks(TOKENS));
        };
        tokens.strings().ok_or(wrong(TOKENS, "is not an array of strings"))
    }

    /// The id under `key` in a vocabulary of `n` tokens. One that is no token gives a warning, and
    /// the default.
    fn id(
        &mut self,
        key: &'static str,
        n: usize,
        default: Option<u32>,
    ) -> Result<Option<u32>, TokenizerError> {
        let default = default.filter(|&id| (id as usize) < n);
        let id = match self.gguf.value(key) {
            None => return Ok(default),
            Some(GgufValue::U32(v)) => i128::from(v),
            Some(GgufValue::I32(v)) => i128::from(v),
            Some(GgufValue::U64(v)) => i128::from(v),
            Some(GgufValue::I64(v)) => i128::from(v),
            Some(_) => return Err(wrong(key, "is not a token id")),
        };
        match u32::try_from(id).ok().filter(|&id| (id as usize) < n) {
            Some(id) => Ok(Some(id)),
            None => {
                self.warnings.push(TokenizerWarning::BadSpecialId { key, id, used: default });
                Ok(default)
            }
        }
    }

    /// The ids of the special tokens, with the defaults of `bos`, `eos` and `unk`.
    fn ids(
        &mut self,
        n: usize,
        [bos, eos, unk]: [Option<u32>; 3],
        add_bos: bool,
    ) -> Result<SpecialIds, TokenizerError> {
        let ids = SpecialIds {
            bos: self.id("tokenizer.ggml.bos_token_id", n, bos)?,
            eos: self.id("tokenizer.ggml.eos_token_id", n, eos)?,
            eot: self.id("tokenizer.ggml.eot_token_id", n, None)?,
            unk: self.id("tokenizer.ggml.unknown_token_id", n, unk)?,
            add_bos: self.flag(ADD_BOS)?.unwrap_or(add_bos),
            add_eos: self.flag("tokenizer.ggml.add_eos_token")?.unwrap_or(false),
        };
        for key in [
            "tokenizer.ggml.eom_token_id",
            "tokenizer.ggml.fim_pad_token_id",
            "tokenizer.ggml.fim_rep_token_id",
            "tokenizer.ggml.fim_sep_token_id",
        ] {
            let id = self.id(key, n, None)?;
            self.ends.extend(id);
        }
        Ok(ids)
    }

    /// The types of `n` tokens.
    fn kinds(&self, n: usize) -> Result<Option<Vec<u32>>, TokenizerError> {
        let kinds = match self.gguf.value(TOKEN_TYPE) {
            None => return Ok(None),
            Some(GgufValue::Array(array)) => array.integers(),
            Some(_) => None,
        };
        let kinds = kinds.ok_or(wrong(TOKEN_TYPE, "is not an array of integers"))?;
        if kinds.len() < n {
            return Err(wrong(TOKEN_TYPE, "has fewer entries than there are tokens"));
        }
        Ok(Some(kinds.map(|k| u32::try_from(k).unwrap_or(0)).collect()))
    }

    /// The kind of a token; with `bytes`, tokens that are written as bytes are bytes.
    fn kind(&mut self, i: usize, token: &[u8], kinds: Option<&[u32]>, bytes: bool) -> TokenKind {
        let given = kinds.map(|kinds| kinds.get(i).copied().unwrap_or(0));
        let kind = match given.map(TokenKind::from_gguf) {
            None => TokenKind::Normal,
            Some(Some(kind)) => kind,
            Some(None) => {
                let first = i as u32;
                warning::count(&mut self.warnings, i, |_| TokenizerWarning::UnknownTypes {
                    first,
                    count: 1,
                });
                TokenKind::Normal
            }
        };
        // llama.cpp looks bytes up by their names.
        if bytes && kind == TokenKind::Normal && byte_of(token).is_some() {
            return TokenKind::Byte;
        }
        let given = kind;
        let (kind, changed) = ends::kind(token, given);
        if changed && kinds.is_some() {
            self.retyped.push((i as u32, given));
            let token = String::from_utf8_lossy(token).into_owned();
            self.warnings.push(TokenizerWarning::NotControl { id: i as u32, token });
        }
        kind
    }

    /// The scores of `n` tokens.
    fn scores(&mut self, n: usize) -> Result<Vec<f32>, TokenizerError> {
        let array = match self.gguf.value(SCORES) {
            None => {
                self.warnings.push(TokenizerWarning::NoScores);
                return Ok(vec![0.0; n]);
            }
            Some(GgufValue::Array(array)) => array,
            Some(_) => return Err(wrong(SCORES, "is not an array of floats")),
        };
        let (words, _) = array.as_bytes().as_chunks::<4>();
        let scores: Vec<f32> = match array.elem() {
            ValueKind::F32 => words.iter().map(|w| f32::from_le_bytes(*w)).collect(),
            ValueKind::I32 => words.iter().map(|w| i32::from_le_bytes(*w) as f32).collect(),
            _ => return Err(wrong(SCORES, "is not an array of floats")),
        };
        if scores.len() < n {
            return Err(wrong(SCORES, "has fewer entries than there are tokens"));
        }
        Ok(scores)
    }

    /// Leaves out a merge that can't be used, with a warning.
    fn useless(
        &mut self,
        index: usize,
        done: Result<(), TokenizerError>,
    ) -> Result<(), TokenizerError> {
        use TokenizerError as E;
        match done {
            Err(
                E::UnknownMergeToken { .. } | E::NoMergeProduct { .. } | E::MalformedMerge { .. },
            ) => {
                self.useless.push(index);
                warning::count(&mut self.warnings, index, |first| {
                    TokenizerWarning::UselessMerges { first, count: 1 }
                });
                Ok(())
            }
            done => done,
        }
    }

    /// Counts a merge that stands there again; `index` counts only those that are not left out.
    fn repeated(&mut self, index: usize) {
        let index = self.useless.iter().fold(index, |at, &out| at + usize::from(out <= at));
        warning::count(&mut self.warnings, index, |first| TokenizerWarning::RepeatedMerges {
            first,
            count: 1,
            last: false,
        });
    }
}
