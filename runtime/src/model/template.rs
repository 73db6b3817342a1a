//! The chat template that a model brings along: read and kept, never interpreted here.

use std::io::Read;
use std::path::Path;

use teff_graph::gguf::Gguf;
use teff_graph::meta::{Metadata, Value};

use crate::json::{Event, JsonError, Reader};
use crate::storage::open_file;

/// Bytes of the largest template that is taken; the largest in use have some 30 kB.
const MAX_TEMPLATE: usize = 1 << 20;

/// Bytes of the largest tokenizer_config.json that is looked into: those with many added tokens
/// have some hundred kB.
const MAX_CONFIG: u64 = 16 << 20;

/// The name of the variant that is meant where nobody asks for another.
const DEFAULT: &str = "default";

fn bounded(template: String) -> Option<String> {
    (!template.is_empty() && template.len() <= MAX_TEMPLATE).then_some(template)
}

/// The template of a GGUF file. Variants have keys of their own, and the plain key is the default.
pub(super) fn of_gguf(gguf: &Gguf<'_>) -> Option<String> {
    let text = |key| match gguf.get(key) {
        Some(Value::Str(text)) if text.len() <= MAX_TEMPLATE => bounded(text.to_owned()),
        _ => None,
    };
    text("tokenizer.chat_template").or_else(|| text("tokenizer.chat_template.default"))
}

/// The template of a folder: chat_template.jinja, which newer files of transformers have, before
/// the field of tokenizer_config.json.
pub(super) fn of_folder(folder: &Path) -> Option<String> {
    let own = read(&folder.join("chat_template.jinja"), MAX_TEMPLATE as u64);
    if let Some(own) = own.and_then(|bytes| String::from_utf8(bytes).ok()).and_then(bounded) {
        return Some(own);
    }
    of_config(&read(&folder.join("tokenizer_config.json"), MAX_CONFIG)?).ok().flatten()
}

/// A small file; `None` where it can't be had, which is for others to complain about.
fn read(path: &Path, limit: u64) -> Option<Vec<u8>> {
    let (file, len) = open_file(path).ok()?;
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes).ok().filter(|_| len <= limit)?;
    (bytes.len() as u64 <= limit).then_some(bytes)
}

/// The field `chat_template`: the text itself, or an array of `{"name": .., "template": ..}`.
fn of_config(json: &[u8]) -> Result<Option<String>, JsonError> {
    let mut reader = Reader::new(json);
    if reader.next()? != Some(Event::ObjectStart) {
        return Ok(None);
    }
    while let Some(Event::Key(key)) = reader.next()? {
        if !key.is("chat_template") {
            reader.skip_value()?;
            continue;
        }
        return Ok(match reader.next()? {
            Some(Event::String(text)) => bounded(text.to_cow().into_owned()),
            Some(Event::ArrayStart) => variants(&mut reader)?,
            _ => None,
        });
    }
    Ok(None)
}

fn variants(reader: &mut Reader<'_>) -> Result<Option<String>, JsonError> {
    while let Some(Event::ObjectStart) = reader.next()? {
        let (mut named, mut template) = (false, None);
        while let Some(Event::Key(key)) = reader.next()? {
            let (is_name, is_template) = (key.is("name"), key.is("template"));
            if !is_name && !is_template {
                reader.skip_value()?;
                continue;
            }
            let Some(Event::String(text)) = reader.next()? else { return Ok(None) };
            if is_name {
                named = text.is(DEFAULT);
            } else {
                template = Some(text);
            }
        }
        if let (true, Some(text)) = (named, template) {
            return Ok(bounded(text.to_cow().into_owned()));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(json: &str) -> Option<String> {
        of_config(json.as_bytes()).ok().flatten()
    }

    #[test]
    fn tokenizer_config_has_one_or_several() {
        let one = r#"{"a": {"chat_template": "no"}, "chat_template": "x\ny"}"#;
        assert_eq!(config(one).as_deref(), Some("x\ny"));
        let several = r#"{"chat_template": [{"name": "tool_use", "template": "t"},
            {"template": "d", "more": [1], "name": "default"}]}"#;
        assert_eq!(config(several).as_deref(), Some("d"));
    }

    #[test]
    fn what_is_no_template_is_none() {
        for json in [
            "{}",
            "[]",
            "",
            r#"{"chat_template": null}"#,
            r#"{"chat_template": ""}"#,
            r#"{"chat_template": []}"#,
            r#"{"chat_template": [{"name": "default"}]}"#,
            r#"{"chat_template": [{"name": "rag", "template": "r"}]}"#,
            r#"{"chat_template": [{"name": 1, "template": "r"}]}"#,
            r#"{"chat_template": "x"#,
        ] {
            assert_eq!(config(json), None, "{json}");
        }
        let long = format!(r#"{{"chat_template": "{}"}}"#, "x".repeat(MAX_TEMPLATE + 1));
        assert_eq!(config(&long), None);
    }
}
