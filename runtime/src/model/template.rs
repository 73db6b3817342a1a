//! Chat templates of a model: read and stored, but not interpreted here.

use std::error::Error;
use std::fmt;
use std::io::{self, Read};
use std::path::Path;

use teff_graph::gguf::{Gguf, GgufValue};

use super::{FileKind, LoadOptions, file_kind, folder_of, read_file};
use crate::json::{Event, JsonError, Reader};
use crate::storage::open_file;

/// Maximum size of a template in bytes; the largest in use have some 30 kB.
const MAX_TEMPLATE: usize = 1 << 20;

/// Maximum size of tokenizer_config.json in bytes; those with many added tokens have some hundred
/// kB.
pub(super) const MAX_CONFIG: u64 = 16 << 20;

/// Maximum number of templates; no model in use has more than five.
const MAX_TEMPLATES: usize = 64;

/// Name of the variant that is the default.
const DEFAULT: &str = "default";

/// Error of a model without a chat template.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ChatTemplateError {
    /// The model has no template.
    Missing,
    /// A template is too long.
    TooLong {
        /// Maximum size in bytes.
        most: usize,
    },
    /// The model has too many templates.
    TooMany {
        /// Maximum number.
        most: usize,
    },
    /// A file that may contain it is too large or can't be read.
    Unreadable {
        /// Name of the file.
        file: String,
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
            ChatTemplateError::TooMany { most } => {
                write!(f, "the model has more than {most} chat templates")
            }
            ChatTemplateError::Unreadable { file, why } => {
                write!(f, "the model's chat template can't be read: {file}: {why}")
            }
        }
    }
}

impl Error for ChatTemplateError {}

/// Chat templates of a model by name, sources in Jinja as transformers runs them. Most models have
/// only the one named `default`.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use teff_runtime::Model;
///
/// # let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/gpt2/model.gguf");
/// let model = Model::open(path)?;
/// // A model that only continues texts has none.
/// assert!(model.chat_templates().is_err());
/// # Ok(()) }
/// ```
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ChatTemplates {
    /// In the order of their names.
    all: Vec<(String, String)>,
}

impl ChatTemplates {
    /// Opens the chat templates of a model without its weights: of a GGUF file (also one without
    /// tensors, or of an architecture that Teff doesn't run; of a split one its first part), of a
    /// Hugging Face folder, or of the folder of a SafeTensors file.
    ///
    /// # Errors
    /// [`ChatTemplateError`]; [`ChatTemplateError::Unreadable`] names the file and the cause.
    pub fn open(path: impl AsRef<Path>) -> Result<ChatTemplates, ChatTemplateError> {
        let path = path.as_ref();
        let failed = |why: &dyn fmt::Display| ChatTemplateError::Unreadable {
            file: path.display().to_string(),
            why: why.to_string(),
        };
        let meta = std::fs::metadata(path).map_err(|e| failed(&e))?;
        if meta.is_dir() {
            return of_folder(path);
        }
        match file_kind(path).map_err(|e| failed(&e.kind))? {
            FileKind::SafeTensors => of_folder(folder_of(path)),
            FileKind::Gguf => {
                let bytes = read_file(path, &LoadOptions::default());
                let bytes = bytes.map_err(|e| failed(&e.kind))?;
                of_gguf(&Gguf::parse(&bytes).map_err(|e| failed(&e))?)
            }
        }
    }

    /// The template of a name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.all.iter().find(|(n, _)| n == name).map(|(_, source)| source.as_str())
    }

    /// The template that transformers takes: with tools the one named `tool_use`, if there is one,
    /// or else the default.
    #[must_use]
    pub fn select(&self, tools: bool) -> Option<&str> {
        let for_tools = if tools { self.get("tool_use") } else { None };
        for_tools.or_else(|| self.get(DEFAULT))
    }

    /// Names of the templates, in alphabetical order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.all.iter().map(|(name, _)| name.as_str())
    }

    /// Adds a template, instead of one of that name.
    fn add(&mut self, name: &str, source: &str) -> Result<(), ChatTemplateError> {
        if source.len() > MAX_TEMPLATE {
            return Err(ChatTemplateError::TooLong { most: MAX_TEMPLATE });
        }
        match self.all.binary_search_by(|(n, _)| n.as_str().cmp(name)) {
            Ok(at) => self.all[at].1 = source.to_owned(),
            Err(_) if self.all.len() == MAX_TEMPLATES => {
                return Err(ChatTemplateError::TooMany { most: MAX_TEMPLATES });
            }
            Err(at) => self.all.insert(at, (name.to_owned(), source.to_owned())),
        }
        Ok(())
    }
}

type Found = Result<ChatTemplates, ChatTemplateError>;

/// The templates, if there are any.
fn found(templates: ChatTemplates) -> Found {
    match templates.all.is_empty() {
        true => Err(ChatTemplateError::Missing),
        false => Ok(templates),
    }
}

/// Templates of a GGUF file. Variants have their own keys, and the plain key is the default.
pub(super) fn of_gguf(gguf: &Gguf<'_>) -> Found {
    const KEY: &str = "tokenizer.chat_template";
    let mut templates = ChatTemplates::default();
    let mut plain = None;
    for (key, value) in gguf.metadata() {
        let (Some(rest), GgufValue::Str(source)) = (key.strip_prefix(KEY), value) else { continue };
        match rest.strip_prefix('.') {
            // An empty text is how some converters write that there is none.
            _ if source.is_empty() => {}
            Some(name) => templates.add(name, source)?,
            None if rest.is_empty() => plain = Some(source),
            None => {}
        }
    }
    if let Some(source) = plain {
        templates.add(DEFAULT, source)?;
    }
    found(templates)
}

/// Templates of a folder, as transformers 5 has them: chat_template.jinja, which is the default, and
/// additional_chat_templates/NAME.jinja, also for the default; if there is none of these, the field
/// of tokenizer_config.json. An empty file is a template that writes nothing, and so is an empty
/// field. Last comes chat_template.json, which only processors of images wrote.
pub(super) fn of_folder(folder: &Path) -> Found {
    let mut templates = ChatTemplates::default();
    if let Some(source) = source(folder, "chat_template.jinja")? {
        templates.add(DEFAULT, &source)?;
    }
    const MORE: &str = "additional_chat_templates";
    let unreadable =
        |e: io::Error| ChatTemplateError::Unreadable { file: MORE.into(), why: e.to_string() };
    match std::fs::read_dir(folder.join(MORE)) {
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
        Err(e) => return Err(unreadable(e)),
        Ok(entries) => {
            for entry in entries {
                let name = entry.map_err(unreadable)?.file_name();
                if let Some(name) = name.to_str().and_then(|n| n.strip_suffix(".jinja")) {
                    let file = format!("{MORE}/{name}.jinja");
                    templates.add(name, &source(folder, &file)?.unwrap_or_default())?;
                }
            }
        }
    }
    if !templates.all.is_empty() {
        return Ok(templates);
    }
    for file in ["tokenizer_config.json", "chat_template.json"] {
        if let Some(config) = read(folder, file, MAX_CONFIG)? {
            let read = of_config(&config).map_err(|e| ChatTemplateError::Unreadable {
                file: file.into(),
                why: e.to_string(),
            })?;
            match read {
                Err(ChatTemplateError::Missing) => {}
                read => return read,
            }
        }
    }
    Err(ChatTemplateError::Missing)
}

/// Source of a template in a file of its own; `None` if there is no such file.
fn source(folder: &Path, file: &str) -> Result<Option<String>, ChatTemplateError> {
    let Some(bytes) = read(folder, file, MAX_TEMPLATE as u64)? else { return Ok(None) };
    let source = String::from_utf8(bytes).map_err(|e| {
        let why = format!("byte {} is not UTF-8", e.utf8_error().valid_up_to());
        ChatTemplateError::Unreadable { file: file.into(), why }
    });
    source.map(Some)
}

/// Contents of a small file; `None` if it does not exist.
pub(super) fn read(
    folder: &Path,
    file: &str,
    most: u64,
) -> Result<Option<Vec<u8>>, ChatTemplateError> {
    let failed = |why: String| ChatTemplateError::Unreadable { file: file.into(), why };
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
    let mut reader = Reader::python(json);
    if reader.next()? != Some(Event::ObjectStart) {
        return Ok(NONE);
    }
    while let Some(Event::Key(key)) = reader.next()? {
        if !key.is("chat_template") {
            reader.skip_value()?;
            continue;
        }
        let mut templates = ChatTemplates::default();
        return Ok(match reader.next()? {
            Some(Event::String(text)) => {
                templates.add(DEFAULT, &text.to_cow()).and_then(|()| found(templates))
            }
            Some(Event::ArrayStart) => variants(&mut reader)?,
            _ => NONE,
        });
    }
    Ok(NONE)
}

fn variants(reader: &mut Reader<'_>) -> Result<Found, JsonError> {
    const NONE: Found = Err(ChatTemplateError::Missing);
    let mut templates = ChatTemplates::default();
    while let Some(Event::ObjectStart) = reader.next()? {
        let (mut name, mut template) = (None, None);
        while let Some(Event::Key(key)) = reader.next()? {
            let (is_name, is_template) = (key.is("name"), key.is("template"));
            if !is_name && !is_template {
                reader.skip_value()?;
                continue;
            }
            let Some(Event::String(text)) = reader.next()? else { return Ok(NONE) };
            *(if is_name { &mut name } else { &mut template }) = Some(text);
        }
        if let (Some(name), Some(text)) = (name, template)
            && let Err(e) = templates.add(&name.to_cow(), &text.to_cow())
        {
            return Ok(Err(e));
        }
    }
    Ok(found(templates))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(json: &str) -> Found {
        of_config(json.as_bytes()).unwrap()
    }

    /// The template without tools.
    fn plain(json: &str) -> Option<String> {
        config(json).ok()?.select(false).map(str::to_owned)
    }

    #[test]
    fn tokenizer_config_has_one_or_several() {
        let one = r#"{"a": {"chat_template": "no"}, "chat_template": "x\ny"}"#;
        assert_eq!(plain(one).as_deref(), Some("x\ny"));
        let several = r#"{"chat_template": [{"name": "tool_use", "template": "t"},
            {"template": "d", "more": [1], "name": "default"}]}"#;
        assert_eq!(plain(several).as_deref(), Some("d"));
        let templates = config(several).unwrap();
        assert_eq!(templates.select(true), Some("t"));
        assert_eq!(templates.names().collect::<Vec<_>>(), ["default", "tool_use"]);
        assert_eq!(plain(r#"{"chat_template": ""}"#).as_deref(), Some(""));
        // Without a default, tools are needed.
        let rag = r#"{"chat_template": [{"name": "rag", "template": "r"}]}"#;
        let templates = config(rag).unwrap();
        assert_eq!((templates.select(true), templates.get("rag")), (None, Some("r")));
    }

    #[test]
    fn what_is_no_template_is_missing() {
        for json in [
            "{}",
            "[]",
            r#"{"chat_template": null}"#,
            r#"{"chat_template": []}"#,
            r#"{"chat_template": [{"name": "default"}]}"#,
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
