//! Hugging Face's config.json: hyper-parameters as [`Metadata`], and the model family.

use std::borrow::Cow;
use std::fmt;

use teff_graph::family::{self, FAMILIES, Family};
use teff_graph::gguf::Name;
use teff_graph::meta::{self, MetaError, Metadata, Value};

use crate::json::{Event, JsonError, Reader, Text};

/// Size limit of config.json in bytes; those of models have a few thousand.
pub const MAX_CONFIG: usize = 1 << 20;

/// A parsed and validated config.json.
///
/// A field that is an array or an object is [`Value::Other`]; a field of such an object is looked
/// up as `object.field`. If a field is repeated, the last one counts, as in Python, and numbers may
/// be infinite or NaN, as Python writes them. Only the file's bytes are kept: a lookup parses them
/// again, which takes microseconds.
#[derive(Clone, Debug)]
pub struct Config<'a> {
    json: &'a [u8],
    class: Option<Cow<'a, str>>,
    /// Strings that are written with escapes, unescaped and concatenated in file order.
    resolved: String,
}

/// Class of a model for texts and images, whose text model is of a family that Teff has, described
/// by the field `text_config`.
struct Wrapper {
    class: &'static str,
    model_type: &'static str,
    /// `model_type` in the text model's description, if that lacks it.
    text: &'static str,
    /// True if the class ties the head by default, whatever the text model's description says.
    tied: bool,
}

const WRAPPERS: [Wrapper; 8] = [
    Wrapper {
        class: "Gemma3ForConditionalGeneration",
        model_type: "gemma3",
        text: "gemma3_text",
        tied: true,
    },
    Wrapper {
        class: "Mistral3ForConditionalGeneration",
        model_type: "mistral3",
        text: "mistral",
        tied: true,
    },
    Wrapper {
        class: "Gemma3nForConditionalGeneration",
        model_type: "gemma3n",
        text: "gemma3n_text",
        tied: true,
    },
    Wrapper {
        class: "Gemma4ForConditionalGeneration",
        model_type: "gemma4",
        text: "gemma4_text",
        tied: true,
    },
    Wrapper {
        class: "Gemma4UnifiedForConditionalGeneration",
        model_type: "gemma4_unified",
        text: "gemma4_text",
        tied: true,
    },
    Wrapper {
        class: "Lfm2VlForConditionalGeneration",
        model_type: "lfm2_vl",
        text: "lfm2",
        tied: true,
    },
    Wrapper {
        class: "Qwen3_5ForConditionalGeneration",
        model_type: "qwen3_5",
        text: "qwen3_5_text",
        tied: false,
    },
    Wrapper {
        class: "Qwen3_5MoeForConditionalGeneration",
        model_type: "qwen3_5_moe",
        text: "qwen3_5_moe_text",
        tied: false,
    },
];

const TEXT: &str = "text_config";
const TEXT_TYPE: &str = "text_config.model_type";
const TIED: &str = "tie_word_embeddings";

/// Error for a config.json that can't be used.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file is larger than [`MAX_CONFIG`].
    TooLarge {
        /// Size of the file in bytes.
        bytes: u64,
    },
    /// The file is not JSON.
    Json(JsonError),
    /// The file is JSON, but not an object.
    NotAnObject,
    /// `architectures` is not an array of strings.
    Architectures,
    /// `model_type` is not a string.
    Meta(MetaError),
    /// Both `architectures` and `model_type` are missing.
    NoArchitecture,
    /// A model family that Teff doesn't support.
    UnknownArchitecture {
        /// The field that names the family.
        key: &'static str,
        /// The value of that field.
        found: Box<Name>,
    },
}

impl From<JsonError> for ConfigError {
    fn from(e: JsonError) -> Self {
        ConfigError::Json(e)
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use ConfigError as E;
        match self {
            E::TooLarge { bytes } => {
                write!(f, "{bytes} bytes; a config.json has at most {MAX_CONFIG}")
            }
            E::Json(e) => e.fmt(f),
            E::NotAnObject => f.write_str("not a JSON object"),
            E::Architectures => f.write_str(
                "`architectures` must be an array of strings such as [\"GPT2LMHeadModel\"]",
            ),
            E::Meta(e) => e.fmt(f),
            E::NoArchitecture => f.write_str(
                "it names no architecture: `architectures` and `model_type` are missing",
            ),
            E::UnknownArchitecture { key, found } => {
                if let Some(what) = family::lacking(&found.to_string()) {
                    return write!(
                        f,
                        "the architecture `{found}` (`{key}`) is not supported: Teff lacks {what}"
                    );
                }
                write!(f, "the architecture `{found}` (`{key}`) is not supported; known:")?;
                for (i, family) in FAMILIES.iter().enumerate() {
                    let known = match *key {
                        "model_type" | TEXT_TYPE => &[family.model_type],
                        _ => family.classes,
                    };
                    for (j, name) in known.iter().filter(|n| !n.is_empty()).enumerate() {
                        write!(f, "{}{name}", if i + j == 0 { " " } else { ", " })?;
                    }
                }
                WRAPPERS.iter().try_for_each(|w| match *key {
                    "model_type" => write!(f, ", {}", w.model_type),
                    TEXT_TYPE => Ok(()),
                    _ => write!(f, ", {}", w.class),
                })
            }
        }
    }
}

impl std::error::Error for ConfigError {}

impl<'a> Config<'a> {
    /// Parses and validates a config.json.
    ///
    /// # Errors
    /// [`ConfigError`] if the file is too large, not JSON or not an object, or if `architectures`
    /// is malformed.
    pub fn parse(json: &'a [u8]) -> Result<Config<'a>, ConfigError> {
        if json.len() > MAX_CONFIG {
            return Err(ConfigError::TooLarge { bytes: json.len() as u64 });
        }
        let mut config = Config { json, class: None, resolved: String::new() };
        let mut r = Reader::python(json);
        if r.next()? != Some(Event::ObjectStart) {
            // A syntax error further on is the better one to report.
            while r.next()?.is_some() {}
            return Err(ConfigError::NotAnObject);
        }
        while let Some(event) = r.next()? {
            let Event::Key(key) = event else { continue };
            if key.is("architectures") {
                config.class = first_text(&mut r)?;
            } else if let Event::String(text) = scalar(&mut r)?
                && text.as_str().is_none()
            {
                text.push_to(&mut config.resolved);
            }
        }
        Ok(config)
    }

    /// The first of `architectures`, the name of the model's class in transformers.
    #[must_use]
    pub fn class(&self) -> Option<&str> {
        self.class.as_deref()
    }

    fn wrapper(&self) -> Option<&'static Wrapper> {
        match (self.class(), self.get("model_type")) {
            (Some(class), _) => WRAPPERS.iter().find(|w| w.class == class),
            (None, Some(Value::Str(name))) => WRAPPERS.iter().find(|w| w.model_type == name),
            _ => None,
        }
    }

    /// True for a model for texts and images, of which only the text model is read.
    #[must_use]
    pub fn is_wrapped(&self) -> bool {
        self.wrapper().is_some()
    }

    /// The hyper-parameters of the text model: all fields, or those of `text_config` of a model for
    /// texts and images.
    #[must_use]
    pub fn text(&self) -> TextConfig<'_, 'a> {
        TextConfig { config: self, wrapped: self.is_wrapped() }
    }

    /// The value of a field as written, `None` if it is absent. Fields of objects are named as in
    /// lookups.
    #[must_use]
    pub fn value_text(&self, key: &str) -> Option<&'a str> {
        let mut at = Reader::python(self.json);
        for name in key.split('.') {
            at = field(at, name).ok().flatten()?;
        }
        let start = at.offset();
        at.skip_value().ok()?;
        str::from_utf8(self.json.get(start..at.offset())?).ok().map(str::trim)
    }

    /// The family, named by the first of `architectures` or, if there is none, by `model_type`; that
    /// of the text model for a model for texts and images.
    ///
    /// # Errors
    /// [`ConfigError`] if no family is named, or an unknown one.
    pub fn family(&self) -> Result<&'static Family, ConfigError> {
        let unknown = |key, found: &str| {
            let found = Box::new(Name::new(found.as_bytes()));
            ConfigError::UnknownArchitecture { key, found }
        };
        if let Some(wrapper) = self.wrapper() {
            let name = meta::text(self, TEXT_TYPE).map_err(ConfigError::Meta)?;
            let name = name.unwrap_or(wrapper.text);
            return family::of_model_type(name).ok_or_else(|| unknown(TEXT_TYPE, name));
        }
        if let Some(class) = self.class() {
            return family::of_class(class).ok_or_else(|| unknown("architectures", class));
        }
        let name = meta::text(self, "model_type").map_err(ConfigError::Meta)?;
        let name = name.ok_or(ConfigError::NoArchitecture)?;
        family::of_model_type(name).ok_or_else(|| unknown("model_type", name))
    }

    /// True if `model_type` names another class than the first of `architectures`, which counts.
    #[must_use]
    pub fn is_of_two_classes(&self) -> bool {
        let (Some(class), Some(Value::Str(name))) = (self.class(), self.get("model_type")) else {
            return false;
        };
        let known = match self.wrapper() {
            Some(wrapper) => Some(wrapper.model_type),
            None => family::of_class(class).map(|f| f.model_type),
        };
        known.is_some_and(|known| known != name)
    }

    fn find(&self, key: &str) -> Result<Option<Value<'_>>, JsonError> {
        let mut r = Reader::python(self.json);
        r.next()?;
        let mut found = None;
        let mut resolved = 0;
        while let Some(event) = r.next()? {
            let Event::Key(name) = event else { continue };
            let value = match scalar(&mut r)? {
                Event::String(text) => Value::Str(match text.as_str() {
                    Some(text) => text,
                    None => {
                        let start = resolved;
                        resolved += text.chars().map(char::len_utf8).sum::<usize>();
                        self.resolved.get(start..resolved).unwrap_or("")
                    }
                }),
                other => plain(other),
            };
            if name.is(key) {
                found = Some(value);
            }
        }
        Ok(found)
    }

    /// The value at the end of `path` (field names separated by dots), or element `index` of the
    /// array there. Strings with escapes are [`Value::Other`]: no hyper-parameter has any.
    fn inner(&self, path: &str, index: Option<usize>) -> Result<Option<Value<'a>>, JsonError> {
        let mut at = Reader::python(self.json);
        for name in path.split('.') {
            match field(at, name)? {
                Some(value) => at = value,
                None => return Ok(None),
            }
        }
        if let Some(index) = index {
            if at.next()? != Some(Event::ArrayStart) {
                return Ok(None);
            }
            for _ in 0..index {
                let mut next = at.clone();
                if next.next()? == Some(Event::ArrayEnd) {
                    return Ok(None);
                }
                at.skip_value()?;
            }
        }
        Ok(match at.next()? {
            None | Some(Event::ArrayEnd) => None,
            Some(event) => Some(plain(event)),
        })
    }
}

/// Hyper-parameters of the text model in a config.json ([`Config::text`]).
#[derive(Clone, Copy, Debug)]
pub struct TextConfig<'c, 'a> {
    config: &'c Config<'a>,
    wrapped: bool,
}

impl TextConfig<'_, '_> {
    /// The value of a field as written, `None` if it is absent.
    #[must_use]
    pub fn value_text(&self, key: &str) -> Option<&str> {
        let outer = || self.config.value_text(key);
        match self.wrapped && !(key == TIED && outer().is_some()) {
            true => self.config.value_text(&format!("{TEXT}.{key}")),
            false => outer(),
        }
    }

    /// Value of the key that ties the head, in a file that lacks it.
    fn tied_by_default(&self) -> Option<Value<'_>> {
        match self.config.wrapper() {
            Some(wrapper) if !wrapper.tied => self.config.get(&format!("{TEXT}.{TIED}")),
            _ => Some(Value::Bool(true)),
        }
    }

    /// True if the file says that the head is not tied, in a place that doesn't count.
    pub(crate) fn unties_head(&self) -> bool {
        let inner = || self.config.get(&format!("{TEXT}.{TIED}"));
        self.wrapped && self.config.get(TIED).is_none() && inner() == Some(Value::Bool(false))
    }
}

impl Metadata for TextConfig<'_, '_> {
    fn get(&self, key: &str) -> Option<Value<'_>> {
        match (self.wrapped, key) {
            (false, _) => self.config.get(key),
            // The head belongs to the whole model; most of its classes tie it by default.
            (true, TIED) => self.config.get(key).or_else(|| self.tied_by_default()),
            (true, _) => self.config.get(&format!("{TEXT}.{key}")),
        }
    }

    fn item(&self, key: &str, index: usize) -> Option<Value<'_>> {
        match self.wrapped {
            false => self.config.item(key, index),
            true => self.config.item(&format!("{TEXT}.{key}"), index),
        }
    }
}

/// A reader positioned before the value of the last field `name` of the object that starts at `at`.
fn field<'a>(mut at: Reader<'a>, name: &str) -> Result<Option<Reader<'a>>, JsonError> {
    let mut found = None;
    if at.next()? != Some(Event::ObjectStart) {
        return Ok(None);
    }
    while let Some(Event::Key(key)) = at.next()? {
        if key.is(name) {
            found = Some(at.clone());
        }
        at.skip_value()?;
    }
    Ok(found)
}

/// A value other than a string with escapes.
fn plain(event: Event<'_>) -> Value<'_> {
    match event {
        Event::Number(n) => number(n),
        Event::Bool(v) => Value::Bool(v),
        Event::Null => Value::Null,
        Event::String(text) => text.as_str().map_or(Value::Other, Value::Str),
        _ => Value::Other,
    }
}

impl Metadata for Config<'_> {
    fn get(&self, key: &str) -> Option<Value<'_>> {
        if key == "architectures" {
            return self.class.is_some().then_some(Value::Other);
        }
        // Valid JSON: checked by `parse`.
        let found = if key.contains('.') { self.inner(key, None) } else { self.find(key) };
        found.ok().flatten()
    }

    fn item(&self, key: &str, index: usize) -> Option<Value<'_>> {
        self.inner(key, Some(index)).ok().flatten()
    }
}

/// The first event of the next value; the rest of an array or object is skipped.
fn scalar<'a>(r: &mut Reader<'a>) -> Result<Event<'a>, JsonError> {
    let outside = r.depth();
    let event = r.next()?;
    while r.depth() > outside {
        r.next()?;
    }
    Ok(event.unwrap_or(Event::Null)) // a key has a value, or `next` fails
}

/// The first element of the array of strings that comes next; `None` if it is empty or null.
fn first_text<'a>(r: &mut Reader<'a>) -> Result<Option<Cow<'a, str>>, ConfigError> {
    let mut first: Option<Text<'a>> = None;
    match r.next()? {
        Some(Event::Null) => return Ok(None),
        Some(Event::ArrayStart) => {}
        _ => return Err(ConfigError::Architectures),
    }
    loop {
        match r.next()? {
            Some(Event::String(text)) => first = first.or(Some(text)),
            Some(Event::ArrayEnd) => return Ok(first.map(|t| t.to_cow())),
            _ => return Err(ConfigError::Architectures),
        }
    }
}

fn number(n: &str) -> Value<'static> {
    if let Ok(v) = n.parse::<u64>() {
        return Value::Uint(v);
    }
    match n.parse::<i64>() {
        Ok(0) => Value::Uint(0),
        Ok(v) => Value::Int(v),
        Err(_) => Value::Float(n.parse().unwrap_or(f64::NAN)), // JSON numbers parse as Rust ones
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_by_kind() {
        let json = br#"{"a":12,"b":-3,"c":1e-05,"d":true,"e":null,"f":"x","g":[1,{"a":2}],
            "h":{"a":3},"i":"t\u0061b\n","j":"\u00e9","k":18446744073709551616,"l":-0,
            "dup":1,"dup":2, "\u006d":7}"#;
        let c = Config::parse(json).unwrap();
        let cases = [
            ("a", Value::Uint(12)),
            ("b", Value::Int(-3)),
            ("c", Value::Float(1e-5)),
            ("d", Value::Bool(true)),
            ("e", Value::Null),
            ("f", Value::Str("x")),
            ("g", Value::Other),
            ("h", Value::Other),
            ("i", Value::Str("tab\n")),
            ("j", Value::Str("é")),
            ("k", Value::Float(18446744073709551616.0)),
            ("l", Value::Uint(0)),
            ("dup", Value::Uint(2)),
            ("m", Value::Uint(7)),
        ];
        for (key, value) in cases {
            assert_eq!(c.get(key), Some(value), "{key}");
        }
        assert_eq!(c.get("absent"), None);
    }

    #[test]
    fn fields_of_objects_and_items_of_arrays() {
        let json =
            br#"{"a":{"b":{"c":3},"d":"x","d":"y"},"l":["p",2,{"q":1},null],"n":null,"a.d":1}"#;
        let c = Config::parse(json).unwrap();
        let cases = [
            ("a.b.c", Some(Value::Uint(3))),
            ("a.d", Some(Value::Str("y"))),
            ("a.b", Some(Value::Other)),
            ("a.x", None),
            ("a.d.c", None),
            ("n.d", None),
            ("l.p", None),
        ];
        for (key, value) in cases {
            assert_eq!(c.get(key), value, "{key}");
        }
        let items = [Value::Str("p"), Value::Uint(2), Value::Other, Value::Null];
        for (i, value) in items.into_iter().enumerate() {
            assert_eq!(c.item("l", i), Some(value), "{i}");
        }
        assert_eq!((c.item("l", 4), c.item("a", 0), c.item("none", 0)), (None, None, None));
    }

    #[test]
    fn families() {
        let family = |json: &str| Config::parse(json.as_bytes()).and_then(|c| c.family());
        assert_eq!(family(r#"{"architectures":["GPT2LMHeadModel"]}"#).unwrap().arch, "gpt2");
        assert_eq!(family(r#"{"model_type":"gpt2"}"#).unwrap().arch, "gpt2");
        for none in ["[]", "null"] {
            let json = format!(r#"{{"architectures":{none},"model_type":"gpt2"}}"#);
            assert_eq!(family(&json).unwrap().arch, "gpt2");
        }
        assert!(matches!(family("{}"), Err(ConfigError::NoArchitecture)));
        assert!(matches!(family(r#"{"model_type":3}"#), Err(ConfigError::Meta(_))));
        for wrong in ["3", "\"GPT2LMHeadModel\"", "[1]", "[[\"a\"]]", "{}"] {
            let json = format!(r#"{{"architectures":{wrong}}}"#);
            assert!(matches!(family(&json), Err(ConfigError::Architectures)), "{wrong}");
        }
        let e = family(r#"{"architectures":["Nope\u0007"],"model_type":"gpt2"}"#).unwrap_err();
        let text = e.to_string();
        assert!(text.contains("Nope\\u{7}") && text.contains("GPT2LMHeadModel"), "{text}");
        let text = family(r#"{"model_type":"nope"}"#).unwrap_err().to_string();
        assert!(text.contains("nope") && text.contains("gpt2, llama"), "{text}");
    }

    #[test]
    fn numbers_of_python() {
        let json = br#"{"a":Infinity,"b":[-Infinity,NaN],"c":-1.5,"d":{"e": NaN}}"#;
        let c = Config::parse(json).unwrap();
        assert_eq!(c.get("a"), Some(Value::Float(f64::INFINITY)));
        assert_eq!(c.item("b", 0), Some(Value::Float(f64::NEG_INFINITY)));
        assert!(matches!(c.get("d.e"), Some(Value::Float(v)) if v.is_nan()));
        assert_eq!(c.get("c"), Some(Value::Float(-1.5)));
        // A field that is used must be finite.
        assert!(meta::float(&c, "a").is_err() && meta::count(&c, "a").is_err());
        for other in ["inf", "-inf", "nan", "+Infinity", "Infinit", "Infinityx", "-NaN", "- 1"] {
            let json = format!(r#"{{"a":{other}}}"#);
            let e = Config::parse(json.as_bytes());
            assert!(matches!(e, Err(ConfigError::Json(_))), "{other}");
        }
    }

    #[test]
    fn values_as_written() {
        let c = Config::parse(br#"{"a": [1, {"b":2}] , "c":{"d": "x" },"e":null}"#).unwrap();
        let cases = [
            ("a", Some(r#"[1, {"b":2}]"#)),
            ("c", Some(r#"{"d": "x" }"#)),
            ("c.d", Some(r#""x""#)),
            ("e", Some("null")),
            ("f", None),
            ("a.b", None),
        ];
        for (key, value) in cases {
            assert_eq!(c.value_text(key), value, "{key}");
        }
    }

    #[test]
    fn text_models_of_larger_ones() {
        let parse = |json: &str| {
            let json: &'static [u8] = json.as_bytes().to_vec().leak();
            Config::parse(json).unwrap()
        };
        let c = parse(
            r#"{"architectures":["Gemma3ForConditionalGeneration"],"hidden_size":1,
                "text_config":{"hidden_size":2,"l":[5],"tie_word_embeddings":false}}"#,
        );
        assert!(c.is_wrapped() && c.family().unwrap().arch == "gemma3");
        let text = c.text();
        assert_eq!(text.get("hidden_size"), Some(Value::Uint(2)));
        assert_eq!((text.item("l", 0), text.value_text("l")), (Some(Value::Uint(5)), Some("[5]")));
        assert_eq!((text.get("architectures"), text.get("vocab_size")), (None, None));
        assert_eq!(text.get(TIED), Some(Value::Bool(true)));
        assert!(text.unties_head());
        let c = parse(
            r#"{"model_type":"mistral3","tie_word_embeddings":false,
                "text_config":{"model_type":"mistral","tie_word_embeddings":true}}"#,
        );
        assert_eq!(c.family().unwrap().model_type, "mistral");
        assert_eq!(c.text().get(TIED), Some(Value::Bool(false)));
        let c = parse(r#"{"model_type":"mistral3","text_config":{"model_type":"ministral4"}}"#);
        let e = c.family().unwrap_err().to_string();
        assert!(e.contains("ministral4") && e.contains("`text_config.model_type`"), "{e}");
        let c = parse(r#"{"model_type":"llama","text_config":{"hidden_size":2},"hidden_size":1}"#);
        assert_eq!(c.text().get("hidden_size"), Some(Value::Uint(1)));
    }

    #[test]
    fn hostile() {
        let large = vec![b' '; MAX_CONFIG + 1];
        assert!(matches!(Config::parse(&large), Err(ConfigError::TooLarge { .. })));
        for other in ["3", "[]", "\"x\"", "null"] {
            let e = Config::parse(other.as_bytes()).unwrap_err();
            assert_eq!(e, ConfigError::NotAnObject, "{other}");
        }
        let whole = br#"{"architectures":["GPT2LMHeadModel"],"n_embd":64,"x":{"y":[1,2]}}"#;
        assert!(Config::parse(whole).is_ok());
        for n in 0..whole.len() {
            assert!(matches!(Config::parse(&whole[..n]), Err(ConfigError::Json(_))), "{n}");
        }
    }
}
