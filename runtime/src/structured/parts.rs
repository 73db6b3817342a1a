//! Grammars that are put together from parts.

use core::fmt::Write;

use super::limits::{MAX_LARK_BYTES, MAX_RULE_DEPTH};
use super::schema::Lark;
use super::{GrammarError, pattern, schema};

/// Part of a [`Grammar::Parts`](super::Grammar::Parts).
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Part {
    /// This text.
    Text(String),
    /// This token, which may be one that is no text.
    Token(u32),
    /// JSON that this schema allows, as in [`Grammar::JsonSchema`](super::Grammar::JsonSchema).
    Json(String),
    /// Text that this regular expression matches, as in [`Grammar::Regex`](super::Grammar::Regex).
    Regex(String),
    /// Any text, and this one where it occurs first.
    Until(String),
    /// Any text, and this token.
    UntilToken(u32),
    /// These parts one after another.
    Sequence(Vec<Part>),
    /// One of these parts.
    Choice(Vec<Part>),
    /// A part, at least `min` times and at most `max` times.
    Repeat {
        /// The part.
        part: Box<Part>,
        /// Least number.
        min: usize,
        /// Largest number; `None` for no limit.
        max: Option<usize>,
    },
    /// The part with this number in [`Parts::rules`].
    Rule(usize),
}

/// Grammar that is put together from parts: for programs that know a model's markup, such as that of
/// tool calls, and the tokens that it is made of.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use teff_runtime::Model;
/// use teff_runtime::structured::{Grammar, Grammars, Part, Parts};
///
/// # let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/gpt2/model.gguf");
/// let model = Model::open(path)?;
/// let grammars = Grammars::new(model.tokenizer()?, model.spec().vocab as usize)?;
/// let number = Part::Json(r#"{"type": "integer"}"#.into());
/// let start = Part::Sequence(vec![Part::Text("the answer: ".into()), number]);
/// let constraint = grammars.compile(&Grammar::Parts(Parts::new(start)))?;
/// # Ok(()) }
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Parts {
    /// Part that the whole text is.
    pub start: Part,
    /// Parts that others refer to by number. They may be recursive.
    pub rules: Vec<Part>,
}

impl Parts {
    /// Grammar of texts that this part allows.
    #[must_use]
    pub fn new(start: Part) -> Parts {
        Parts { start, rules: Vec::new() }
    }

    /// Sets [`rules`](Self::rules).
    #[must_use]
    pub fn with_rules(self, rules: Vec<Part>) -> Parts {
        Parts { rules, ..self }
    }
}

/// Name of the terminal of any text.
const ANY: &str = "ANY";
/// Name of the terminal of any text that isn't empty.
const SOME: &str = "SOME";

#[derive(Default)]
struct Writer {
    /// Rules and terminals beside those of the parts.
    more: String,
    names: usize,
    schemas: Vec<(String, Lark)>,
    bytes: usize,
}

/// The grammar, and those of schemas that it refers to by name.
pub(super) fn lark(parts: &Parts) -> Result<(String, Vec<(String, Lark)>), GrammarError> {
    let mut writer = Writer::default();
    let start = writer.part(&parts.start, parts.rules.len(), 0)?;
    let mut text = format!("start: {start}\n");
    for (i, rule) in parts.rules.iter().enumerate() {
        let body = writer.part(rule, parts.rules.len(), 0)?;
        let _ = writeln!(text, "r{i}: {body}");
    }
    text.push_str(&writer.more);
    let _ = writeln!(text, "{ANY}: /(?s:.*)/\n{SOME}: /(?s:.+)/");
    Ok((text, writer.schemas))
}

/// A string of Lark, whose escapes are those of JSON.
fn literal(text: &str) -> String {
    serde_json::to_string(text).unwrap_or_default().replace('\u{7f}', "\\u007f")
}

impl Writer {
    /// A name that nothing has.
    fn name(&mut self, prefix: &str) -> String {
        self.names += 1;
        format!("{prefix}{}", self.names)
    }

    /// The expression of a part.
    fn part(&mut self, part: &Part, rules: usize, depth: usize) -> Result<String, GrammarError> {
        if depth > MAX_RULE_DEPTH {
            let what = "levels of parts within parts";
            return Err(GrammarError::TooLarge { what, limit: MAX_RULE_DEPTH });
        }
        let text = match part {
            Part::Text(text) => literal(text),
            Part::Token(id) => format!("<[{id}]>"),
            Part::UntilToken(id) => format!("{SOME}? <[{id}]>"),
            Part::Until(marker) if marker.is_empty() => literal(""),
            Part::Until(marker) => {
                let name = self.name("u");
                let _ = writeln!(self.more, "{name}[lazy]: {ANY} {}", literal(marker));
                name
            }
            Part::Regex(regex) => {
                let name = self.name("P");
                let _ = writeln!(self.more, "{name}: {}", pattern::whole(regex)?);
                name
            }
            Part::Json(schema) => {
                let name = self.name("j");
                let lark = schema::lark_within(schema, &name)?;
                self.bytes += lark.text.len();
                self.schemas.push((name.clone(), lark));
                format!("@{name}")
            }
            Part::Sequence(parts) => {
                let mut all = Vec::with_capacity(parts.len());
                for part in parts {
                    all.push(self.part(part, rules, depth + 1)?);
                }
                match all.is_empty() {
                    true => literal(""),
                    false => all.join(" "),
                }
            }
            Part::Choice(parts) => {
                let mut all = Vec::with_capacity(parts.len());
                for part in parts {
                    all.push(self.part(part, rules, depth + 1)?);
                }
                if all.is_empty() {
                    let (at, reason) = (String::new(), "a choice without parts".to_string());
                    return Err(GrammarError::Unsatisfiable { at, reason });
                }
                format!("({})", all.join(" | "))
            }
            Part::Repeat { part, min, max } => {
                if max.is_some_and(|max| max < *min) {
                    let (at, reason) =
                        (String::new(), "a part more often than allowed".to_string());
                    return Err(GrammarError::Unsatisfiable { at, reason });
                }
                let body = self.part(part, rules, depth + 1)?;
                match (min, max) {
                    (_, Some(0)) => literal(""),
                    (0, Some(1)) => format!("({body})?"),
                    (0, None) => format!("({body})*"),
                    (1, None) => format!("({body})+"),
                    (min, None) => format!("({body}){{{min},}}"),
                    (min, Some(max)) => format!("({body}){{{min},{max}}}"),
                }
            }
            Part::Rule(i) if *i < rules => format!("r{i}"),
            Part::Rule(i) => {
                let reason = format!("there is no rule {i}");
                return Err(GrammarError::Refused { reason });
            }
        };
        self.bytes += text.len();
        if self.bytes > MAX_LARK_BYTES {
            let what = "bytes of rules that the parts become";
            return Err(GrammarError::TooLarge { what, limit: MAX_LARK_BYTES });
        }
        Ok(text)
    }
}
