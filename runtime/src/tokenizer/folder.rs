//! Tokenizers from Hugging Face folders.

use std::io::{ErrorKind, Read};
use std::path::Path;

use crate::storage::open_file;

use super::json_files::{Config, TokenList, tokenizer_json};
use super::{Algorithm, MergeAt, SpecialIds, Splitter, Tokenizer, TokenizerError, bpe};

/// Bytes of the largest file that is read as a tokenizer's; the largest in use have some 35 MB.
const MAX_FILE: u64 = 256 << 20;

/// The token that begins and ends texts in GPT-2's own vocabulary, whose files do not name it.
const END_OF_TEXT: &str = "<|endoftext|>";

impl Tokenizer {
    /// The tokenizer of a Hugging Face folder: tokenizer.json where it is there, otherwise
    /// vocab.json with merges.txt. The tokens with a part of their own come from
    /// tokenizer_config.json, if there is one; a folder that names none has GPT-2's
    /// `<|endoftext|>`, if its vocabulary does.
    ///
    /// # Errors
    /// [`TokenizerError::NoFiles`] where neither is there; otherwise what is wrong with the files.
    pub fn from_folder(folder: &Path) -> Result<Self, TokenizerError> {
        let read = |name| read(&folder.join(name));
        let config = match read("tokenizer_config.json")? {
            Some(bytes) => Some(Config::read(&bytes)?),
            None => None,
        };
        if let Some(bytes) = read("tokenizer.json")? {
            return Tokenizer::build_json(&bytes, config);
        }
        match (read("vocab.json")?, read("merges.txt")?) {
            (Some(vocab), Some(merges)) => Tokenizer::build_vocab_merges(&vocab, &merges, config),
            _ => Err(TokenizerError::NoFiles { folder: folder.to_path_buf() }),
        }
    }

    /// A tokenizer from the bytes of tokenizer.json and, if there is one, tokenizer_config.json.
    ///
    /// # Errors
    /// [`TokenizerError`] where a file is malformed or asks for something that Teff does not have.
    pub fn from_tokenizer_json(json: &[u8], config: Option<&[u8]>) -> Result<Self, TokenizerError> {
        Tokenizer::build_json(json, config.map(Config::read).transpose()?)
    }

    /// A tokenizer from the bytes of vocab.json, of merges.txt and, if there is one, of
    /// tokenizer_config.json.
    ///
    /// # Errors
    /// [`TokenizerError`] where a file is malformed.
    pub fn from_vocab_merges(
        vocab: &[u8],
        merges: &[u8],
        config: Option<&[u8]>,
    ) -> Result<Self, TokenizerError> {
        Tokenizer::build_vocab_merges(vocab, merges, config.map(Config::read).transpose()?)
    }

    fn build_json(json: &[u8], config: Option<Config>) -> Result<Self, TokenizerError> {
        let parts = tokenizer_json(json)?;
        let mut config = config.unwrap_or_default();
        config.unk = config.unk.or(parts.unk);
        let algorithm = Algorithm::ByteBpe(Box::new(parts.bpe));
        let mut tokenizer = Tokenizer::new(parts.vocab, algorithm, SpecialIds::default())?;
        tokenizer.name_specials(&config);
        Ok(tokenizer)
    }

    fn build_vocab_merges(
        vocab: &[u8],
        merges: &[u8],
        config: Option<Config>,
    ) -> Result<Self, TokenizerError> {
        let mut config = config.unwrap_or_default();
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
            // Only the first line can be that; `#` is a token like any other.
            let end = rest.iter().position(|&b| b == b'\n').map_or(rest.len(), |at| at + 1);
            lines = &rest[end..];
            first = 2;
        }
        // Empty lines at the end are no merges.
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
        let (vocab, bpe): (_, bpe::ByteBpe) =
            all.finish(Splitter::Gpt2, config.add_prefix_space, at)?;
        let algorithm = Algorithm::ByteBpe(Box::new(bpe));
        let mut tokenizer = Tokenizer::new(vocab, algorithm, SpecialIds::default())?;
        tokenizer.name_specials(&config);
        Ok(tokenizer)
    }

    /// Looks up the tokens that have a part of their own. A name that is no token is none.
    fn name_specials(&mut self, config: &Config) {
        let find = |name: &Option<String>| self.find_token(name.as_ref()?.as_bytes());
        let (mut bos, mut eos, unk) = (find(&config.bos), find(&config.eos), find(&config.unk));
        if config.bos.is_none() && config.eos.is_none() {
            let id = self.find_token(END_OF_TEXT.as_bytes());
            bos = id.filter(|&id| self.is_special(id));
            eos = bos;
        }
        self.ids = SpecialIds { bos, eos, eot: None, unk, add_bos: config.add_bos };
    }
}

/// The bytes of a file; `None` where it is not there.
fn read(path: &Path) -> Result<Option<Vec<u8>>, TokenizerError> {
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
