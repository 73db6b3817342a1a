//! Tokenizers from Hugging Face folders.

use std::io::{ErrorKind, Read};
use std::path::Path;

use crate::json::Event;
use crate::storage::open_file;

use super::json_files::{Added, Config, Doc, TokenList, tokenizer_json, unsupported};
use super::json_parts::Template;
use super::{Algorithm, MergeAt, SpecialIds, Splitter, Tokenizer, TokenizerError, bpe, spm_json};

/// Size limit of a tokenizer's files in bytes; the largest in use have some 35 MB.
const MAX_FILE: u64 = 256 << 20;

/// The token that begins and ends texts in GPT-2's own vocabulary, whose files do not name it.
const END_OF_TEXT: &str = "<|endoftext|>";

impl Tokenizer {
    /// Reads the tokenizer of a Hugging Face folder: tokenizer.json if present, otherwise
    /// tokenizer.model, otherwise vocab.json with merges.txt. The special ids come from
    /// tokenizer_config.json, if there is one; a folder that names none gets GPT-2's
    /// `<|endoftext|>`, if it is in the vocabulary. Tokens that end generation also include those
    /// named as `eos_token_id` by generation_config.json, or else by config.json.
    ///
    /// # Errors
    /// [`TokenizerError::NoFiles`] if there are none of these files; otherwise the error of the
    /// file.
    pub fn from_folder(folder: &Path) -> Result<Self, TokenizerError> {
        let read = |name| read(&folder.join(name));
        let config = match read("tokenizer_config.json")? {
            Some(bytes) => Some(Config::read(&bytes)?),
            None => None,
        };
        let mut tokenizer = if let Some(bytes) = read("tokenizer.json")? {
            Tokenizer::build_json(&bytes, config)?
        } else if let Some(bytes) = read("tokenizer.model")? {
            let mut config = config.unwrap_or_default();
            if let Some(added) = read("added_tokens.json")? {
                config.add_more(added_tokens_json(&added)?);
            }
            Tokenizer::build_model(&bytes, config)?
        } else {
            match (read("vocab.json")?, read("merges.txt")?) {
                (Some(vocab), Some(merges)) => {
                    Tokenizer::build_vocab_merges(&vocab, &merges, config)?
                }
                _ => return Err(TokenizerError::NoFiles { folder: folder.to_path_buf() }),
            }
        };
        for name in ["generation_config.json", "config.json"] {
            let Some(bytes) = read(name)? else { continue };
            if let Some(ids) = eos_ids(Doc::new(name, &bytes))? {
                tokenizer.add_stops(ids);
                break;
            }
        }
        Ok(tokenizer)
    }

    /// Reads a tokenizer from the bytes of tokenizer.json and, if there is one,
    /// tokenizer_config.json.
    ///
    /// # Errors
    /// [`TokenizerError`] if a file is malformed or needs something that Teff does not support.
    pub fn from_tokenizer_json(json: &[u8], config: Option<&[u8]>) -> Result<Self, TokenizerError> {
        Tokenizer::build_json(json, config.map(Config::read).transpose()?)
    }

    /// Reads a tokenizer from the bytes of vocab.json, merges.txt and, if there is one,
    /// tokenizer_config.json. Its `tokenizer_class` determines how texts are split, GPT2Tokenizer
    /// or Qwen2Tokenizer; without one it is GPT-2's pattern. Texts are not normalised: only
    /// tokenizer.json enables that.
    ///
    /// # Errors
    /// [`TokenizerError`] if a file is malformed, or names another class.
    pub fn from_vocab_merges(
        vocab: &[u8],
        merges: &[u8],
        config: Option<&[u8]>,
    ) -> Result<Self, TokenizerError> {
        Tokenizer::build_vocab_merges(vocab, merges, config.map(Config::read).transpose()?)
    }

    fn build_json(json: &[u8], config: Option<Config>) -> Result<Self, TokenizerError> {
        if spm_json::is_sentence_piece(json)? {
            return Tokenizer::build_spm_json(json, config.unwrap_or_default());
        }
        let parts = tokenizer_json(json)?;
        let mut config = config.unwrap_or_default();
        config.unk = config.unk.or(parts.unk);
        let algorithm = Algorithm::ByteBpe(Box::new(parts.bpe));
        let mut tokenizer = Tokenizer::new(parts.vocab, algorithm, SpecialIds::default())?;
        if let Algorithm::ByteBpe(bpe) = &mut tokenizer.algorithm {
            bpe.normalized = tokenizer.special.split_off(&tokenizer.vocab, &parts.normalized);
        }
        tokenizer.name_specials(&config);
        tokenizer.add_template(parts.template, &config)?;
        Ok(tokenizer)
    }

    fn build_vocab_merges(
        vocab: &[u8],
        merges: &[u8],
        config: Option<Config>,
    ) -> Result<Self, TokenizerError> {
        let mut config = config.unwrap_or_default();
        let splitter = match config.class.as_deref() {
            None | Some("GPT2Tokenizer" | "GPT2TokenizerFast") => Splitter::Gpt2,
            Some("Qwen2Tokenizer" | "Qwen2TokenizerFast") => Splitter::Qwen2,
            Some(class) => return unsupported("class", class),
        };
        let mut list = TokenList::from_vocab_json(vocab)?;
        let named = [&config.bos, &config.eos, &config.unk, &config.pad];
        let mut names: Vec<&str> = named.into_iter().flatten().map(String::as_str).collect();
        list.add_named(&names, &mut config.added);
        names.push(END_OF_TEXT);
        list.mark_special(&names);
        let mut all = list.build(&config.added)?.merges()?;
        let mut first = 1;
        let mut lines = merges;
        if let Some(rest) = lines.strip_prefix(b"#version") {
            // Only the first line can be a comment; `#` is a token like any other.
            let end = rest.iter().position(|&b| b == b'\n').map_or(rest.len(), |at| at + 1);
            lines = &rest[end..];
            first = 2;
        }
        // Empty lines at the end are not merges.
        while let Some((b'\n' | b'\r', rest)) = lines.split_last() {
            lines = rest;
        }
        if !lines.is_empty() {
            for (i, line) in lines.split(|&b| b == b'\n').enumerate() {
                let line = line.strip_suffix(b"\r").unwrap_or(line);
                all.push_line(line, MergeAt::Line(first + i))?;
            }
        }
        let at = |rank| MergeAt::Line(first + rank);
        let add_prefix_space = config.add_prefix_space;
        let rules = bpe::Rules { splitter, add_prefix_space, ignore_merges: false, nfc: None };
        let (vocab, bpe) = all.finish(rules, at)?;
        let algorithm = Algorithm::ByteBpe(Box::new(bpe));
        let mut tokenizer = Tokenizer::new(vocab, algorithm, SpecialIds::default())?;
        tokenizer.name_specials(&config);
        Ok(tokenizer)
    }

    /// Adopts the tokens that tokenizer.json puts around texts.
    pub(super) fn add_template(
        &mut self,
        template: Template,
        config: &Config,
    ) -> Result<(), TokenizerError> {
        let mut ids = self.ids;
        let sides = [
            ("bos_token", template.bos, &config.bos, &mut ids.bos, &mut ids.add_bos),
            ("eos_token", template.eos, &config.eos, &mut ids.eos, &mut ids.add_eos),
        ];
        for (what, put, named, id, add) in sides {
            let Some(put) = put else { continue };
            self.bytes_of(put)?;
            if named.is_some() && *id != Some(put) {
                let why = format!("TemplateProcessing with the token {put}, which is not {what}");
                return unsupported("post-processor", why);
            }
            (*id, *add) = (Some(put), true);
        }
        self.set_ids(ids);
        Ok(())
    }

    /// Looks up the special ids. A name that is not in the vocabulary is ignored.
    pub(super) fn name_specials(&mut self, config: &Config) {
        let find = |name: &Option<String>| self.find_token(name.as_ref()?.as_bytes());
        let (mut bos, mut eos, unk) = (find(&config.bos), find(&config.eos), find(&config.unk));
        if config.bos.is_none() && config.eos.is_none() {
            let id = self.find_token(END_OF_TEXT.as_bytes());
            bos = id.filter(|&id| self.is_special(id));
            eos = bos;
        }
        let add_bos = config.add_bos.unwrap_or(false);
        let add_eos = config.add_eos.unwrap_or(false);
        self.set_ids(SpecialIds { bos, eos, eot: None, unk, add_bos, add_eos });
    }
}

/// Reads added_tokens.json, `{"token": id, ...}`.
fn added_tokens_json(bytes: &[u8]) -> Result<Vec<Added>, TokenizerError> {
    let mut doc = Doc::new("added_tokens.json", bytes);
    let mut added = Vec::new();
    doc.object("an object of tokens and their ids")?;
    while let Some(token) = doc.key()? {
        let content = token.to_cow().into_owned();
        added.push(Added { id: doc.id()?, content, special: false });
    }
    doc.end()?;
    Ok(added)
}

/// The field `eos_token_id` of a model's file, one id or several; `None` if it is absent.
fn eos_ids(mut doc: Doc<'_>) -> Result<Option<Vec<u32>>, TokenizerError> {
    let want = "a token id or an array of them";
    let mut ids = None;
    doc.object("an object")?;
    while let Some(key) = doc.key()? {
        if !key.is("eos_token_id") {
            doc.skip()?;
            continue;
        }
        let mut all = Vec::new();
        let mut event = doc.next(want)?;
        let array = event == Event::ArrayStart;
        if array {
            event = doc.next(want)?;
        }
        loop {
            match event {
                Event::Null if !array => break,
                Event::ArrayEnd => break,
                Event::Number(n) => {
                    // Some files have -1 for none.
                    let id: i64 = n.parse().map_err(|_| doc.wrong(want))?;
                    all.extend(u32::try_from(id).ok());
                }
                _ => return Err(doc.wrong(want)),
            }
            if !array {
                break;
            }
            event = doc.next(want)?;
        }
        ids = Some(all).filter(|ids| !ids.is_empty());
    }
    doc.end()?;
    Ok(ids)
}

/// Reads a file; `None` if it doesn't exist.
pub(super) fn read(path: &Path) -> Result<Option<Vec<u8>>, TokenizerError> {
    let io = |e: std::io::Error| TokenizerError::Io { path: path.into(), why: e.to_string() };
    let large = |bytes| TokenizerError::FileTooLarge { path: path.into(), bytes, limit: MAX_FILE };
    let (file, len) = match open_file(path) {
        Ok(opened) => opened,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(io(e)),
    };
    if len > MAX_FILE {
        return Err(large(len));
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(io)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(large(bytes.len() as u64));
    }
    Ok(Some(bytes))
}
