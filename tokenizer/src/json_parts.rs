//! The components of tokenizer.json around the model: normalizer, pre-tokenizer, post-processor and
//! decoder.
//!
//! Each is an object with a `type`, or a Sequence of several, which is read as the list of them. A
//! component that Teff does not have is refused by name.

use alloc::borrow::ToOwned;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::TokenizerError;
use super::doc::{Value, unsupported};
use super::split::{Behavior, Step};

type Result<T> = core::result::Result<T, TokenizerError>;

const NORMALIZER: &str = "normalizer";
const PRE: &str = "pre-tokenizer";
const POST: &str = "post-processor";
const DECODER: &str = "decoder";
const FILE: &str = "tokenizer.json";
/// Maximum number of components of one kind.
const MAX_COMPONENTS: usize = 64;

/// A text or pattern to search for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Search {
    Text(String),
    Pattern(String),
}

/// A normalizer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Norm {
    Nfc,
    Nfd,
    Nfkc,
    Nfkd,
    Lowercase,
    StripAccents,
    /// SentencePiece's cleaning of control characters and rare spaces.
    Nmt,
    Strip {
        left: bool,
        right: bool,
    },
    Replace {
        search: Search,
        content: String,
    },
    Prepend(String),
    Bert {
        clean: bool,
        chinese: bool,
        accents: bool,
        lowercase: bool,
    },
    ByteLevel,
}

/// Pieces that a Metaspace puts its character in front of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Scheme {
    Always,
    First,
    Never,
}

/// A pre-tokenizer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Pre {
    /// It only cuts.
    Step(Step),
    ByteLevel {
        prefix: bool,
        regex: bool,
    },
    Metaspace {
        replacement: char,
        scheme: Scheme,
        split: bool,
    },
}

/// A decoder.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Dec {
    ByteLevel,
    ByteFallback,
    Fuse,
    Strip {
        content: char,
        start: usize,
        stop: usize,
    },
    Replace {
        search: Search,
        content: String,
    },
    /// The replacement becomes a space, but in the first token nothing, with `prefix`.
    Metaspace {
        replacement: char,
        prefix: bool,
    },
    WordPiece {
        prefix: String,
        cleanup: bool,
    },
    Suffix(String),
}

/// Fields of a component with their types checked.
struct Fields<'v> {
    value: &'v Value,
    part: &'static str,
}

fn wrong(field: &'static str) -> TokenizerError {
    TokenizerError::MissingField { file: FILE, field }
}

impl<'v> Fields<'v> {
    fn flag(&self, key: &'static str, default: Option<bool>) -> Result<bool> {
        match self.value.get(key) {
            None => default.ok_or_else(|| wrong(key)),
            Some(v) => v.bool().ok_or_else(|| wrong(key)),
        }
    }

    fn text(&self, key: &'static str) -> Result<&'v str> {
        self.value.get(key).and_then(Value::text).ok_or_else(|| wrong(key))
    }

    fn char(&self, key: &'static str) -> Result<char> {
        let mut chars = self.text(key)?.chars();
        chars.next().filter(|_| chars.next().is_none()).ok_or_else(|| wrong(key))
    }

    fn number(&self, key: &'static str) -> Result<usize> {
        self.value.get(key).and_then(Value::number).ok_or_else(|| wrong(key))
    }

    fn search(&self) -> Result<Search> {
        let pattern = self.value.get("pattern").ok_or_else(|| wrong("pattern"))?;
        let get = |key| pattern.get(key).and_then(Value::text).map(str::to_owned);
        match (get("String"), get("Regex"), pattern.text()) {
            (Some(text), None, _) => Ok(Search::Text(text)),
            (None, Some(pattern), _) => Ok(Search::Pattern(pattern)),
            _ => Err(wrong("pattern")),
        }
    }

    fn behavior(&self, default: Option<Behavior>) -> Result<Behavior> {
        match (self.value.get("behavior"), default) {
            (None, Some(default)) => Ok(default),
            (value, _) => Ok(match value.and_then(Value::text) {
                Some("Removed") => Behavior::Removed,
                Some("Isolated") => Behavior::Isolated,
                Some("MergedWithPrevious") => Behavior::MergedWithPrevious,
                Some("MergedWithNext") => Behavior::MergedWithNext,
                Some("Contiguous") => Behavior::Contiguous,
                _ => return unsupported(self.part, "behavior of Split or Punctuation"),
            }),
        }
    }

    fn scheme(&self) -> Result<Scheme> {
        let add = self.value.get("add_prefix_space").and_then(Value::bool);
        Ok(match self.value.get("prepend_scheme").and_then(Value::text) {
            // Older files have only `add_prefix_space`.
            None if add == Some(false) => Scheme::Never,
            None | Some("always") => Scheme::Always,
            Some("first") => Scheme::First,
            Some("never") => Scheme::Never,
            Some(_) => return unsupported(self.part, "Metaspace with another prepend_scheme"),
        })
    }
}

/// Calls `each` with every component; those of a Sequence under `list` are taken one by one.
fn components(
    value: &Value,
    part: &'static str,
    list: &'static str,
    each: &mut dyn FnMut(&str, Fields<'_>) -> Result<()>,
) -> Result<()> {
    let mut rest = vec![value];
    let mut count = 0;
    while let Some(value) = rest.pop() {
        if *value == Value::Null {
            continue;
        }
        let kind = value.get("type").and_then(Value::text).ok_or_else(|| wrong("type"))?;
        if kind == "Sequence" {
            let all = value.get(list).and_then(Value::array).ok_or_else(|| wrong(list))?;
            rest.extend(all.iter().rev());
        } else {
            each(kind, Fields { value, part })?;
        }
        count += 1;
        if count > MAX_COMPONENTS {
            return unsupported(part, format!("Sequence of more than {MAX_COMPONENTS}"));
        }
    }
    Ok(())
}

/// Reads a normalizer.
pub(super) fn normalizer(value: &Value) -> Result<Vec<Norm>> {
    let mut all = Vec::new();
    components(value, NORMALIZER, "normalizers", &mut |kind, f| {
        all.push(match kind {
            "NFC" => Norm::Nfc,
            "NFD" => Norm::Nfd,
            "NFKC" => Norm::Nfkc,
            "NFKD" => Norm::Nfkd,
            "Lowercase" => Norm::Lowercase,
            "StripAccents" => Norm::StripAccents,
            "Nmt" => Norm::Nmt,
            "ByteLevel" => Norm::ByteLevel,
            "Strip" => {
                let (left, right) = (f.flag("strip_left", None)?, f.flag("strip_right", None)?);
                Norm::Strip { left, right }
            }
            "Replace" => Norm::Replace { search: f.search()?, content: f.text("content")?.into() },
            "Prepend" => Norm::Prepend(f.text("prepend")?.into()),
            "BertNormalizer" => {
                let lowercase = f.flag("lowercase", None)?;
                Norm::Bert {
                    clean: f.flag("clean_text", None)?,
                    chinese: f.flag("handle_chinese_chars", None)?,
                    accents: f.flag("strip_accents", Some(lowercase))?,
                    lowercase,
                }
            }
            kind => return unsupported(NORMALIZER, kind),
        });
        Ok(())
    })?;
    Ok(all)
}

/// Runs of word characters, as in the `regex` crate, and of others that are not white space.
const WORDS: &str = r"[\w\x{200c}\x{200d}&&[^²³¹¼-¾]]+|[[^\s\w\x{200c}\x{200d}]²³¹¼-¾]+";

/// ASCII's and Unicode's punctuation.
const PUNCTUATION: &str = r"[\p{P}!-/:-@\[-`{-~]";

/// Reads a pre-tokenizer.
pub(super) fn pre_tokenizer(value: &Value) -> Result<Vec<Pre>> {
    let mut all = Vec::new();
    components(value, PRE, "pretokenizers", &mut |kind, f| {
        let pattern =
            |p: &str, behavior, invert| Pre::Step(Step::pattern(p.into(), behavior, invert));
        match kind {
            "ByteLevel" => all.push(Pre::ByteLevel {
                prefix: f.flag("add_prefix_space", Some(true))?,
                // Files older than this option always split.
                regex: f.flag("use_regex", Some(true))?,
            }),
            "Metaspace" => all.push(Pre::Metaspace {
                replacement: f.char("replacement")?,
                scheme: f.scheme()?,
                split: f.flag("split", Some(true))?,
            }),
            "Split" => {
                let text = match f.search()? {
                    Search::Text(text) => escape(&text),
                    Search::Pattern(pattern) => pattern,
                };
                let invert = f.flag("invert", Some(false))?;
                all.push(Pre::Step(Step::pattern(text, f.behavior(None)?, invert)));
            }
            "Digits" => {
                let individual = f.flag("individual_digits", Some(false))?;
                all.push(Pre::Step(Step::Digits { individual }));
            }
            "Punctuation" => {
                all.push(pattern(PUNCTUATION, f.behavior(Some(Behavior::Isolated))?, false));
            }
            "Whitespace" => all.push(pattern(WORDS, Behavior::Removed, true)),
            "WhitespaceSplit" => all.push(pattern(r"\s", Behavior::Removed, false)),
            "BertPreTokenizer" => {
                all.push(pattern(r"\s", Behavior::Removed, false));
                all.push(pattern(PUNCTUATION, Behavior::Isolated, false));
            }
            "CharDelimiterSplit" => {
                let delimiter = escape(&f.char("delimiter")?.to_string());
                all.push(pattern(&delimiter, Behavior::Removed, false));
            }
            "FixedLength" => {
                let length = f.number("length")?.max(1);
                all.push(pattern(&format!(r"(?m:.{{1,{length}}})"), Behavior::Isolated, false));
            }
            kind => return unsupported(PRE, kind),
        }
        Ok(())
    })?;
    Ok(all)
}

/// A text as a pattern that matches it.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        if c.is_ascii_punctuation() {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

/// Reads a decoder; `None` for null.
pub(super) fn decoder(value: &Value) -> Result<Option<Vec<Dec>>> {
    if *value == Value::Null {
        return Ok(None);
    }
    let mut all = Vec::new();
    components(value, DECODER, "decoders", &mut |kind, f| {
        all.push(match kind {
            "ByteLevel" => Dec::ByteLevel,
            "ByteFallback" => Dec::ByteFallback,
            "Fuse" => Dec::Fuse,
            "Strip" => Dec::Strip {
                content: f.char("content")?,
                start: f.number("start")?,
                stop: f.number("stop")?,
            },
            "Replace" => Dec::Replace { search: f.search()?, content: f.text("content")?.into() },
            "Metaspace" => Dec::Metaspace {
                replacement: f.char("replacement")?,
                prefix: f.scheme()? != Scheme::Never,
            },
            "WordPiece" => Dec::WordPiece {
                prefix: f.text("prefix")?.into(),
                cleanup: f.flag("cleanup", None)?,
            },
            "BPEDecoder" => Dec::Suffix(f.text("suffix")?.into()),
            kind => return unsupported(DECODER, kind),
        });
        Ok(())
    })?;
    Ok(Some(all))
}

/// The tokens that are put around a text.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Template {
    /// Before it.
    pub(super) bos: Option<u32>,
    /// After it.
    pub(super) eos: Option<u32>,
}

/// Reads a post-processor for the tokens it puts around a single text.
/// [`Tokenizer::encode`](super::Tokenizer::encode) does not add them: they determine `add_bos` and
/// `add_eos`.
pub(super) fn post_processor(value: &Value) -> Result<Template> {
    let mut found = None;
    components(value, POST, "processors", &mut |kind, f| {
        let template = match kind {
            // It adjusts offsets and changes no token.
            "ByteLevel" => return Ok(()),
            "TemplateProcessing" => template(f.value)?,
            "BertProcessing" | "RobertaProcessing" => around(f.value)?,
            kind => return unsupported(POST, kind),
        };
        match found.replace(template) {
            None => Ok(()),
            Some(_) => unsupported(POST, format!("Sequence with another {kind}")),
        }
    })?;
    Ok(found.unwrap_or_default())
}

/// Reads a TemplateProcessing: at most one token before the text and one after it.
fn template(value: &Value) -> Result<Template> {
    let single = value.get("single").and_then(Value::array);
    let single = single.ok_or_else(|| wrong("post_processor.single"))?;
    let (mut before, mut after, mut texts) = (None, None, 0);
    for part in single {
        if part.get("Sequence").is_some() {
            texts += 1;
            continue;
        }
        let name = part.get("SpecialToken").and_then(|t| t.get("id")).and_then(Value::text);
        let name = name.ok_or_else(|| wrong("post_processor.single[].SpecialToken.id"))?;
        let place = if texts == 0 { &mut before } else { &mut after };
        if place.replace(token_id(value, name)?).is_some() {
            return unsupported(POST, "TemplateProcessing with several tokens on one side");
        }
    }
    if texts != 1 {
        return unsupported(POST, format!("TemplateProcessing with {texts} texts"));
    }
    Ok(Template { bos: before, eos: after })
}

/// The token that a template calls `name`: `{"name": {"ids": [1], ...}}`.
fn token_id(value: &Value, name: &str) -> Result<u32> {
    let ids = value.get("special_tokens").and_then(|t| t.get(name)).and_then(|t| t.get("ids"));
    match ids.and_then(Value::array) {
        Some([id]) => id.number().ok_or_else(|| wrong("post_processor.special_tokens[].ids")),
        Some(_) => unsupported(POST, format!("TemplateProcessing with several ids for {name}")),
        None => Err(wrong("post_processor.special_tokens")),
    }
}

/// Reads a BertProcessing or RobertaProcessing: a token before the text and one after it, each with
/// its id.
fn around(value: &Value) -> Result<Template> {
    let id = |key: &'static str| {
        let pair = value.get(key).and_then(Value::array);
        let id = pair.and_then(|pair| pair.get(1)).and_then(Value::number::<u32>);
        id.map(Some).ok_or_else(|| wrong(key))
    };
    Ok(Template { bos: id("cls")?, eos: id("sep")? })
}

#[cfg(test)]
mod tests {
    use super::super::regex::Budget;
    use super::super::split::{CutScratch, PreTokenizer};
    use super::*;

    /// The pieces are those of tokenizers 0.23.3, whose Whitespace has other word characters than its
    /// patterns do.
    #[test]
    fn whitespace_has_word_characters_of_its_own() {
        let value = Value::Object(vec![("type".into(), Value::Text("Whitespace".into()))]);
        let all = pre_tokenizer(&value).unwrap();
        let [Pre::Step(step)] = &all[..] else { panic!("{all:?}") };
        let pre = PreTokenizer::new(std::slice::from_ref(step)).unwrap();
        for (text, want) in [
            ("a½b²", &["a", "½", "b", "²"][..]),
            ("x\u{200d}y", &["x\u{200d}y"]),
            ("Ⅷ½", &["Ⅷ", "½"]),
            ("a_b!²?", &["a_b", "!²?"]),
            ("👩\u{200d}👧", &["👩", "\u{200d}", "👧"]),
            (" a  b\n", &["a", "b"]),
        ] {
            let mut scratch = CutScratch::default();
            scratch.budget = Budget::new(text.len());
            let pieces = pre.cut(text, &mut scratch).unwrap();
            let got: Vec<&str> = pieces.iter().map(|&(start, end)| &text[start..end]).collect();
            assert_eq!(got, want, "{text:?}");
        }
    }
}
