//! Chat template of a model: read and stored, but not interpreted here.

use std::error::Error;
use std::fmt;
use std::io::{self, Read};
use std::path::Path;

use teff_graph::gguf::Gguf;
use teff_graph::meta::{Metadata, Value};

use crate::json::{Event, JsonError, Reader};
use crate::storage::open_file;

/// Maximum size of a template in bytes; the largest in use have some 30 kB.
const MAX_TEMPLATE: usize = 1 << 20;

/// Maximum size of tokenizer_config.json in bytes; those with many added tokens have some hundred
/// kB.
const MAX_CONFIG: u64 = 16 << 20;

/// Name of the variant that is the default.
const DEFAULT: &str = "default";

/// Error of a model without a chat template.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ChatTemplateError {
    /// The model has no template.
    Missing,
    /// The template is too long.
    TooLong {
        /// Maximum size in bytes.
        most: usize,
    },
    /// A file that may contain it is too large or can't be read.
    Unreadable {
        /// Name of the file.
        file: &'static str,
        /// Cause.
        why: String,
    },
}

impl fmt::Display for ChatTemplateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ChatTemplateError::Missing => f.write_str("the model has no chat template"),
            ChatTemplateError::TooLong { most } => {
                write!(f, "the model's chat template has more than {most} bytes")
            }
            ChatTemplateError::Unreadable { file, why } => {
                write!(f, "the model's chat template can't be read: {file}: {why}")
            }
        }
    }
}

impl Error for ChatTemplateError {}

type Found = Result<String, ChatTemplateError>;

fn bounded(template: &str) -> Found {
    match template.len() {
        0 => Err(ChatTemplateError::Missing),
        1..=MAX_TEMPLATE => Ok(template.to_owned()),
        _ => Err(ChatTemplateError::TooLong { most: MAX_TEMPLATE }),
    }
}

/// Template of a GGUF file. Variants have their own keys, and the plain key is the default.
pub(super) fn of_gguf(gguf: &Gguf<'_>) -> Found {
    let text = |key| match gguf.get(key) {
        Some(Value::Str(text)) => bounded(text),
        _ => Err(ChatTemplateError::Missing),
    };
    match text("tokenizer.chat_template") {
        Err(ChatTemplateError::Missing) => text("tokenizer.chat_template.default"),
        found => found,
    }
}

/// Template of a folder: chat_template.jinja, written by newer versions of transformers, takes
/// precedence over the field of tokenizer_config.json.
pub(super) fn of_folder(folder: &Path) -> Found {
    let unreadable = |file, why| ChatTemplateError::Unreadable { file, why };
    const OWN: &str = "chat_template.jinja";
    match read(folder, OWN, MAX_TEMPLATE as u64)? {
        None => {}
        Some(bytes) if bytes.is_empty() => {}
        Some(bytes) => {
            return String::from_utf8(bytes).map_err(|e| {
                let at = e.utf8_error().valid_up_to();
                unreadable(OWN, format!("byte {at} is not UTF-8"))
            });
        }
    }
    const CONFIG: &str = "tokenizer_config.json";
    let config = read(folder, CONFIG, MAX_CONFIG)?.ok_or(ChatTemplateError::Missing)?;
    of_config(&config).map_err(|e| unreadable(CONFIG, e.to_string()))?
}

/// Contents of a small file; `None` if it does not exist.
fn read(
    folder: &Path,
    file: &'static str,
    most: u64,
) -> Result<Option<Vec<u8>>, ChatTemplateError> {
    let failed = |why: String| ChatTemplateError::Unreadable { file, why };
    let opened = match open_file(&folder.join(file)) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened,
    };
    let mut bytes = Vec::new();
    let read = opened.and_then(|(file, _)| file.take(most + 1).read_to_end(&mut bytes));
    read.map_err(|e| failed(e.to_string()))?;
    match bytes.len() as u64 > most {
        true => Err(failed(format!("it has more than {most} bytes"))),
        false => Ok(Some(bytes)),
    }
}

/// Field `chat_template`: the text itself, or an array of `{"name": .., "template": ..}`.
fn of_config(json: &[u8]) -> Result<Found, JsonError> {
    const NONE: Found = Err(ChatTemplateError::Missing);
    let mut reader = Reader::new(json);
    if reader.next()? != Some(Event::ObjectStart) {
        return Ok(NONE);
    }
    while let Some(Event::Key(key)) = reader.next()? {
        if !key.is("chat_template") {
            reader.skip_value()?;
            continue;
        }
        return Ok(match reader.next()? {
            Some(Event::String(text)) => bounded(&text.to_cow()),
            Some(Event::ArrayStart) => variants(&mut reader)?,
            _ => NONE,
        });
    }
    Ok(NONE)
}

fn variants(reader: &mut Reader<'_>) -> Result<Found, JsonError> {
    const NONE: Found = Err(ChatTemplateError::Missing);
    while let Some(Event::ObjectStart) = reader.next()? {
        let (mut named, mut template) = (false, None);
        while let Some(Event::Key(key)) = reader.next()? {
            let (is_name, is_template) = (key.is("name"), key.is("template"));
            if !is_name && !is_template {
                reader.skip_value()?;
                continue;
            }
            let Some(Event::String(text)) = reader.next()? else { return Ok(NONE) };
            if is_name {
                named = text.is(DEFAULT);
            } else {
                template = Some(text);
            }
        }
        if let (true, Some(text)) = (named, template) {
            return Ok(bounded(&text.to_cow()));
        }
    }
    Ok(NONE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(json: &str) -> Found {
        of_config(json.as_bytes()).unwrap()
    }

    #[test]
    fn tokenizer_config_has_one_or_several() {
        let one = r#"{"a": {"chat_template": "no"}, "chat_template": "x\ny"}"#;
        assert_eq!(config(one).as_deref(), Ok("x\ny"));
        let several = r#"{"chat_template": [{"name": "tool_use", "template": "t"},
            {"template": "d", "more": [1], "name": "default"}]}"#;
        assert_eq!(config(several).as_deref(), Ok("d"));
    }

    #[test]
    fn what_is_no_template_is_missing() {
        for json in [
            "{}",
            "[]",
            r#"{"chat_template": null}"#,
            r#"{"chat_template": ""}"#,
            r#"{"chat_template": []}"#,
            r#"{"chat_template": [{"name": "default"}]}"#,
            r#"{"chat_template": [{"name": "rag", "template": "r"}]}"#,
            r#"{"chat_template": [{"name": 1, "template": "r"}]}"#,
        ] {
            assert_eq!(config(json), Err(ChatTemplateError::Missing), "{json}");
        }
        for cut in ["", r#"{"chat_template": "x"#] {
            assert!(of_config(cut.as_bytes()).is_err(), "{cut}");
        }
        let long = format!(r#"{{"chat_template": "{}"}}"#, "x".repeat(MAX_TEMPLATE + 1));
        assert_eq!(config(&long), Err(ChatTemplateError::TooLong { most: MAX_TEMPLATE }));
    }
}
