//! Texts of special tokens that the files of a model name, for its chat templates.

use std::path::Path;

use teff_graph::gguf::{Gguf, GgufValue};

use super::template::{MAX_CONFIG, read};
#[cfg(feature = "chat")]
use super::{FileKind, LoadOptions, file_kind, folder_of, read_file};
use crate::json::{Event, JsonError, Reader};
use crate::tokenizer::Tokenizer;

/// Names of special tokens, such as `pad_token`, and their texts; `None` for one that the model
/// doesn't have.
pub(super) type Texts = Vec<(String, Option<String>)>;

/// Keys of GGUF, besides those of the tokenizer. One is misspelt in many files.
const KEYS: [(&str, &str); 5] = [
    ("sep_token", "tokenizer.ggml.seperator_token_id"),
    ("sep_token", "tokenizer.ggml.separator_token_id"),
    ("pad_token", "tokenizer.ggml.padding_token_id"),
    ("cls_token", "tokenizer.ggml.cls_token_id"),
    ("mask_token", "tokenizer.ggml.mask_token_id"),
];

/// Those of a model that is not opened: of a GGUF file, a folder, or the folder of a SafeTensors
/// file. Of what can't be read there are none: whoever opens the tokenizer learns why.
#[cfg(feature = "chat")]
pub(crate) fn special_token_texts(path: &Path, tokenizer: Option<&Tokenizer>) -> Texts {
    if path.is_dir() {
        return of_folder(path);
    }
    match file_kind(path) {
        Ok(FileKind::SafeTensors) => of_folder(folder_of(path)),
        Ok(FileKind::Gguf) => {
            let bytes = read_file(path, &LoadOptions::default()).ok();
            let gguf = bytes.as_ref().and_then(|bytes| Gguf::parse(bytes).ok());
            gguf.map_or_else(Texts::new, |gguf| of_gguf(&gguf, tokenizer))
        }
        Err(_) => Texts::new(),
    }
}

/// Those of a GGUF file. Ids without a token are none.
pub(super) fn of_gguf(gguf: &Gguf<'_>, tokenizer: Option<&Tokenizer>) -> Texts {
    let mut all = Texts::new();
    let Some(tokenizer) = tokenizer else { return all };
    for (name, key) in KEYS {
        let id = match gguf.value(key) {
            Some(GgufValue::U32(id)) => Some(id),
            Some(GgufValue::I32(id)) => u32::try_from(id).ok(),
            _ => None,
        };
        let bytes = id.and_then(|id| tokenizer.token_bytes(id));
        if let Some(text) = bytes.and_then(|bytes| std::str::from_utf8(bytes).ok()) {
            set(&mut all, name, Some(text.to_owned()));
        }
    }
    all
}

/// Those of a folder, as transformers 5 has them: keys of tokenizer_config.json that end with
/// `_token`, and its `extra_special_tokens` with names; only if it has no `added_tokens_decoder`,
/// those of special_tokens_map.json before them. Files that can't be read or are malformed give
/// none here: the tokenizer reports them.
pub(super) fn of_folder(folder: &Path) -> Texts {
    let mut all = Texts::new();
    let file = |name: &str| read(folder, name, MAX_CONFIG).ok().flatten().unwrap_or_default();
    let decoder = add(&mut all, &file("tokenizer_config.json")).unwrap_or(false);
    if !decoder {
        let _ = add(&mut all, &file("special_tokens_map.json"));
    }
    all
}

/// Sets the text of a name.
fn set(all: &mut Texts, name: &str, text: Option<String>) {
    match all.iter().position(|(n, _)| n == name) {
        Some(at) => all[at].1 = text,
        None if all.len() < MOST => all.push((name.to_owned(), text)),
        None => {}
    }
}

/// Maximum number of names; models for images have about ten.
const MOST: usize = 256;

/// Adds those of a JSON object. True if it has the key `added_tokens_decoder`.
fn add(all: &mut Texts, json: &[u8]) -> Result<bool, JsonError> {
    let mut decoder = false;
    let mut reader = Reader::python(json);
    if json.is_empty() || reader.next()? != Some(Event::ObjectStart) {
        return Ok(decoder);
    }
    while let Some(Event::Key(key)) = reader.next()? {
        let key = key.to_cow();
        if key == "extra_special_tokens" {
            match reader.next()? {
                Some(Event::ObjectStart) => {
                    while let Some(Event::Key(name)) = reader.next()? {
                        if let Some(Some(text)) = value(&mut reader)? {
                            set(all, &name.to_cow(), Some(text));
                        }
                    }
                }
                first => rest(&mut reader, first)?,
            }
        } else if key.ends_with("_token") {
            if let Some(text) = value(&mut reader)? {
                set(all, &key, text);
            }
        } else {
            decoder |= key == "added_tokens_decoder";
            reader.skip_value()?;
        }
    }
    Ok(decoder)
}

/// A token's text: a string, or the field `content` of an object; within, `None` for null. `None`
/// for anything else, such as the switch `add_bos_token`.
fn value(reader: &mut Reader<'_>) -> Result<Option<Option<String>>, JsonError> {
    match reader.next()? {
        Some(Event::String(text)) => Ok(Some(Some(text.to_cow().into_owned()))),
        Some(Event::Null) => Ok(Some(None)),
        Some(Event::ObjectStart) => {
            let mut content = None;
            while let Some(Event::Key(key)) = reader.next()? {
                if !key.is("content") {
                    reader.skip_value()?;
                    continue;
                }
                match reader.next()? {
                    Some(Event::String(text)) => content = Some(text.to_cow().into_owned()),
                    first => rest(reader, first)?,
                }
            }
            Ok(content.map(Some))
        }
        first => rest(reader, first).map(|()| None),
    }
}

/// Skips the rest of a value that began with this event.
fn rest(reader: &mut Reader<'_>, first: Option<Event<'_>>) -> Result<(), JsonError> {
    if let Some(Event::ObjectStart | Event::ArrayStart) = first {
        let inside = reader.depth();
        while reader.depth() >= inside {
            if reader.next()?.is_none() {
                break;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(files: &[&str]) -> String {
        let mut all = Texts::new();
        for file in files {
            let _ = add(&mut all, file.as_bytes());
        }
        let text = |(name, text): &(String, Option<String>)| match text {
            Some(text) => format!("{name}={text} "),
            None => format!("{name} "),
        };
        all.iter().map(text).collect()
    }

    #[test]
    fn tokens_are_strings_and_objects() {
        let config = r#"{"add_bos_token": true, "bos_token": null, "eos_token": {"__type": "AddedToken",
            "normalized": [1, {}], "content": "</s>"}, "pad_token": "<pad>", "a": {"x_token": "no"},
            "image_token": "<img>", "odd_token": ["x", {"y": 1}], "extra_special_tokens": {"boi": "<b>", "n": 1}}"#;
        assert_eq!(
            texts(&[config]),
            "bos_token eos_token=</s> pad_token=<pad> image_token=<img> boi=<b> "
        );
        let list = r#"{"extra_special_tokens": ["<a>", {"content": "<b>"}], "sep_token": "|"}"#;
        assert_eq!(texts(&[list]), "sep_token=| ");
        let map = r#"{"pad_token": {"content": "p"}, "mask_token": "m"}"#;
        assert_eq!(texts(&[r#"{"pad_token": "<pad>"}"#, map]), "pad_token=p mask_token=m ");
        assert_eq!(texts(&["", "[]", "{\"a_token\"", "3"]), "");
    }

    #[test]
    fn the_map_is_older_than_the_decoder() {
        let mut all = Texts::new();
        assert_eq!(
            add(&mut all, br#"{"added_tokens_decoder": {"0": {"content": "x"}}}"#),
            Ok(true)
        );
        assert_eq!(add(&mut all, br#"{"pad_token": "x"}"#), Ok(false));
    }
}
