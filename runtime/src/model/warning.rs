//! Warnings of opening a model.

use std::borrow::Cow;
use std::fmt;

use teff_graph::family::Notice;
use teff_graph::meta::{Metadata, Value};

/// Maximum number of characters of a value in a warning.
const MAX_VALUE: usize = 120;

/// Something in a model's files that contradicts itself or has no effect, and was decided by a
/// written rule (`docs/compatibility.md`). The model is usable, but may not be what its author
/// meant.
///
/// Its text is one line.
///
/// ```
/// use teff_runtime::model::Warning;
///
/// let warning = Warning::new("sliding_window", "4096", "no window", "Llama has none");
/// assert_eq!(
///     warning.to_string(),
///     "`sliding_window` is 4096; taken: no window, since Llama has none"
/// );
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Warning {
    /// Key, tensor or file that the warning is about.
    pub key: String,
    /// Contents of the file, shortened.
    pub found: String,
    /// Value that was taken instead.
    pub taken: Cow<'static, str>,
    /// Reason for taking it.
    pub why: Cow<'static, str>,
}

impl Warning {
    /// Warning with these parts.
    #[must_use]
    pub fn new(
        key: impl Into<String>,
        found: impl AsRef<str>,
        taken: impl Into<Cow<'static, str>>,
        why: impl Into<Cow<'static, str>>,
    ) -> Warning {
        // In one line.
        let words: Vec<&str> = found.as_ref().split_whitespace().collect();
        let found = words.join(" ");
        let mut short: String = found.chars().take(MAX_VALUE).collect();
        if short.len() < found.len() {
            short.push_str("...");
        }
        Warning { key: key.into(), found: short, taken: taken.into(), why: why.into() }
    }

    /// Warnings for the notices of a family; `found` gives the text of a key's value.
    pub(super) fn of_notices(
        notices: &[Notice],
        found: impl Fn(&str) -> Option<String>,
    ) -> Vec<Warning> {
        let one = |n: &Notice| {
            let found = found(n.key).unwrap_or_else(|| "not given".into());
            Warning::new(n.key, found, n.rule.taken(), n.rule.why())
        };
        notices.iter().map(one).collect()
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Warning { key, found, taken, why } = self;
        let text = format!("`{key}` is {found}; taken: {taken}, since {why}");
        text.chars().try_for_each(|c| match c.is_control() {
            true => write!(f, "{}", c.escape_default()),
            false => fmt::Write::write_char(f, c),
        })
    }
}

/// Text of a value in GGUF metadata.
pub(super) fn value_text(meta: &dyn Metadata, key: &str) -> Option<String> {
    Some(match meta.get(key)? {
        Value::Uint(v) => v.to_string(),
        Value::Int(v) => v.to_string(),
        Value::Float(v) => v.to_string(),
        Value::Bool(v) => v.to_string(),
        Value::Str(v) => format!("\"{v}\""),
        Value::Null => "null".into(),
        Value::Other => "a list".into(),
    })
}
