//! Tokenizers from Hugging Face folders.

use alloc::boxed::Box;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use crate::json::Event;

use super::doc::{Doc, unsupported};
use super::json_files::{Added, AddedVocab, Config, TokenList};
use super::json_parts::Template;
use super::pairs::Keep;
use super::special::{Literal, SpecialIndex};
use super::split::PreTokenizer;
use super::warning::{self, TokenizerWarning};
use super::{
    Algorithm, MergeAt, SpecialIds, Splitter, Tokenizer, TokenizerError, alphabet, bpe, ends,
    tekken,
};

/// The token that begins and ends texts in GPT-2's own vocabulary, whose files do not name it.
const END_OF_TEXT: &str = "<|endoftext|>";

impl Tokenizer {
    /// Reads the tokenizer of a Hugging Face folder, whose files `read` returns by name, or `None` for
    /// those that are not there: tokenizer.json if present, otherwise tokenizer.model, otherwise
    /// tekken.json, otherwise vocab.json with merges.txt. The special ids and further added tokens come
    /// from tokenizer_config.json, special_tokens_map.json and added_tokens.json, as transformers
    /// reads them; a folder that names none gets GPT-2's `<|endoftext|>`, if it is in the vocabulary.
    /// Tokens that end generation also include those named as `eos_token_id` by
    /// generation_config.json, or else by config.json (or else by its `text_config`), and tokens with
    /// well-known names.
    ///
    /// Returns `None` if there is no tokenizer.
    ///
    /// # Errors
    /// The errors of `read`; [`TokenizerError`] if a file is malformed or needs something that Teff
    /// does not support.
    pub fn from_files<E: From<TokenizerError>>(
        mut read: impl FnMut(&'static str) -> Result<Option<Vec<u8>>, E>,
    ) -> Result<Option<Self>, E> {
        let mut config = Config::default();
        if let Some(bytes) = read("tokenizer_config.json")? {
            config = Config::read(&bytes)?;
        }
        if let Some(bytes) = read("special_tokens_map.json")? {
            config.read_special_tokens_map(&bytes)?;
        }
        let mut tokenizer = if let Some(bytes) = read("tokenizer.json")? {
            add_older(&mut config, &mut read)?;
            Tokenizer::build_json(&bytes, Some(config))?
        } else if let Some(bytes) = read("tokenizer.model")? {
            if let Some(added) = read("added_tokens.json")? {
                config.add_named(&added)?;
            }
            Tokenizer::build_model(&bytes, config)?
        } else if let Some(bytes) = read("tekken.json")? {
            tekken::build(&bytes)?
        } else {
            let (Some(vocab), Some(merges)) = (read("vocab.json")?, read("merges.txt")?) else {
                return Ok(None);
            };
            add_older(&mut config, &mut read)?;
            Tokenizer::build_vocab_merges(&vocab, &merges, Some(config))?
        };
        for name in ["generation_config.json", "config.json"] {
            let Some(bytes) = read(name)? else { continue };
            if let Some(ids) = eos_ids(Doc::new(name, &bytes))? {
                for &id in &ids {
                    let known =
                        u32::try_from(id).is_ok_and(|id| tokenizer.vocab.kind(id).is_some());
                    // Some files have -1 for none.
                    if !known && id != -1 {
                        let (key, id) = ("eos_token_id", id.into());
                        let bad = TokenizerWarning::BadSpecialId { key, id, used: None };
                        tokenizer.warnings.push(bad);
                    }
                }
                tokenizer.add_stops(ids.into_iter().filter_map(|id| u32::try_from(id).ok()));
                break;
            }
        }
        Ok(Some(tokenizer))
    }

    /// Reads a tokenizer from the bytes of tokenizer.json and, if there is one,
    /// tokenizer_config.json.
    ///
    /// # Errors
    /// [`TokenizerError`] if a file is malformed or needs something that Teff does not support.
    pub fn from_tokenizer_json(json: &[u8], config: Option<&[u8]>) -> Result<Self, TokenizerError> {
        Tokenizer::build_json(json, config.map(Config::read).transpose()?)
    }

    /// Reads a tokenizer from the bytes of tekken.json, Mistral's own file.
    ///
    /// # Errors
    /// [`TokenizerError`] if the file is malformed.
    pub fn from_tekken_json(json: &[u8]) -> Result<Self, TokenizerError> {
        tekken::build(json)
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
        let list = TokenList::from_vocab_json(vocab)?;
        let known = list.by_text();
        config.take_defaults(|text| known.has(text));
        let mut added = AddedVocab::default();
        let mut warnings = core::mem::take(&mut config.warnings);
        added.add(&list, &known, config.to_add(&[]), |a, id| {
            Config::moved(&mut warnings, a, id);
        })?;
        if let Some(id) = known.get(END_OF_TEXT)
            && added.tokens.iter().all(|(i, _)| *i != id)
        {
            added.tokens.push((id, Added::plain(END_OF_TEXT.into(), true)));
        }
        for (id, a) in &mut added.tokens {
            if !a.special && ends::is_control(a.content.as_bytes()) {
                a.special = true;
                warnings.push(TokenizerWarning::NotControl { id: *id, token: a.content.clone() });
            }
        }
        // The byte alphabet reads the text of such a token as other bytes, of which it stays a token.
        let spelled = |a: &Added| alphabet::differs(&a.content) && known.has(&a.content);
        let unspelled = added.without(|a| spelled(a));
        drop(known);
        added.tokens.sort_by_key(|(id, _)| *id);
        let literal = |(id, a): &(u32, Added)| Literal {
            text: a.content.clone(),
            id: *id,
            how: a.matching(),
        };
        let special = SpecialIndex::new(added.tokens.iter().map(literal).collect())?;
        let mut all = list.build(&unspelled)?.merges()?;
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
        let rules = bpe::Rules {
            pre: PreTokenizer::new(&splitter.steps())?,
            add_prefix_space: config.add_prefix_space.unwrap_or(false),
            ignore_merges: false,
            nfc: None,
            missing: bpe::Missing::Dropped,
        };
        let (vocab, bpe) = all.finish(rules, Keep::Last, |i| {
            warning::count(&mut warnings, i, |first| TokenizerWarning::RepeatedMerges {
                first,
                count: 1,
                last: true,
            });
        });
        let algorithm = Algorithm::ByteBpe(Box::new(bpe));
        let mut tokenizer = Tokenizer::new(vocab, algorithm, special, SpecialIds::default())?;
        tokenizer.name_specials(&config, &added, None);
        tokenizer.warnings = warnings;
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
            ("bos_token", template.bos, config.bos(), &mut ids.bos, &mut ids.add_bos),
            ("eos_token", template.eos, config.eos(), &mut ids.eos, &mut ids.add_eos),
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

    /// Looks up the special ids. A name that is not in the vocabulary is ignored. `unk` is the model's
    /// own unknown token.
    pub(super) fn name_specials(&mut self, config: &Config, added: &AddedVocab, unk: Option<&str>) {
        let find = |name: Option<&str>| {
            let name = name?;
            added.find(name).or_else(|| self.find_token(name.as_bytes()))
        };
        let unk = find(config.unk().or(unk));
        let (mut bos, mut eos) = (find(config.bos()), find(config.eos()));
        if config.bos().is_none() && config.eos().is_none() {
            let id = self.find_token(END_OF_TEXT.as_bytes());
            bos = id.filter(|&id| self.is_special(id));
            eos = bos;
        }
        let add_bos = config.add_bos.unwrap_or(false);
        let add_eos = config.add_eos.unwrap_or(false);
        self.set_ids(SpecialIds { bos, eos, eot: None, unk, add_bos, add_eos });
    }
}

/// Adds the tokens of added_tokens.json unless the settings, which are newer, have a list of their
/// own.
fn add_older<E: From<TokenizerError>>(
    config: &mut Config,
    read: &mut impl FnMut(&'static str) -> Result<Option<Vec<u8>>, E>,
) -> Result<(), E> {
    if config.added.is_none()
        && let Some(added) = read("added_tokens.json")?
    {
        config.add_named(&added)?;
    }
    Ok(())
}

impl Config {
    /// Adds the tokens of added_tokens.json.
    fn add_named(&mut self, bytes: &[u8]) -> Result<(), TokenizerError> {
        let names: Vec<String> = self.names().iter().map(|s| s.to_string()).collect();
        self.add_more(added_tokens_json(bytes, &names)?);
        Ok(())
    }
}

/// Reads added_tokens.json, `{"token": id, ...}`; tokens with these names are special.
fn added_tokens_json(bytes: &[u8], names: &[String]) -> Result<Vec<Added>, TokenizerError> {
    let mut doc = Doc::new("added_tokens.json", bytes);
    let mut added = Vec::new();
    doc.object("an object of tokens and their ids")?;
    while let Some(token) = doc.key()? {
        let content = token.to_cow().into_owned();
        let special = names.contains(&content);
        added.push(Added { id: Some(doc.id()?), ..Added::plain(content, special) });
    }
    doc.end()?;
    Ok(added)
}

/// The field `eos_token_id` of a model's file, one id or several; `None` if it is absent. A file
/// without it may have it in `text_config`, where it describes more than a text model.
fn eos_ids(mut doc: Doc<'_>) -> Result<Option<Vec<i64>>, TokenizerError> {
    let (mut own, mut text) = (None, None);
    doc.object("an object")?;
    while let Some(key) = doc.key()? {
        if key.is("eos_token_id") {
            own = eos_value(&mut doc)?;
        } else if key.is("text_config") {
            let mut inner = doc.bookmark()?;
            if inner.next("a value")? != Event::ObjectStart {
                continue;
            }
            while let Some(key) = inner.key()? {
                match key.is("eos_token_id") {
                    true => text = eos_value(&mut inner)?,
                    false => inner.skip()?,
                }
            }
        } else {
            doc.skip()?;
        }
    }
    doc.end()?;
    Ok(own.or(text))
}

/// One id or several; `None` for null or no ids.
fn eos_value(doc: &mut Doc<'_>) -> Result<Option<Vec<i64>>, TokenizerError> {
    let want = "a token id or an array of them";
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
                all.push(n.parse().map_err(|_| doc.wrong(want))?);
            }
            _ => return Err(doc.wrong(want)),
        }
        if !array {
            break;
        }
        event = doc.next(want)?;
    }
    Ok(Some(all).filter(|ids| !ids.is_empty()))
}
