//! Formats that a caller chooses for some tensors, beside those of the target.

use std::fmt;
use std::str::FromStr;

use teff_kernels::Format;
use teff_tokenizer::Pattern;

use super::mixes::Part;

/// Formats for some tensors, by name. They go before the rules of a target, except that tensors
/// which are never quantised (norms, the choice of experts) stay as they are.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Overrides {
    /// Formats of tensors that match patterns; the first that matches counts.
    pub tensors: Vec<TensorType>,
    /// Format of the head; also of an embedding that serves as the head, unless it has its own.
    pub output: Option<Format>,
    /// Format of the embeddings of tokens.
    pub embedding: Option<Format>,
}

/// Format of tensors whose names match a pattern.
///
/// ```
/// use teff_runtime::quantize::TensorType;
///
/// let experts: TensorType = r"\.[0-3]\.ffn_down_exps=Q6_K".parse()?;
/// assert!(experts.is_for("blk.2.ffn_down_exps.weight"));
/// assert!(!experts.is_for("blk.12.ffn_down_exps.weight"));
/// # Ok::<(), teff_runtime::quantize::TensorTypeError>(())
/// ```
#[derive(Clone, Debug)]
pub struct TensorType {
    text: String,
    pattern: Pattern,
    format: Format,
}

/// Error of a [`TensorType`] given as text.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum TensorTypeError {
    /// It is not `PATTERN=TYPE`.
    NoEquals {
        /// The text.
        text: String,
    },
    /// The type is not a format that this program has.
    Format {
        /// The text behind the equals sign.
        name: String,
    },
    /// The pattern is no regular expression, or has parts that are not supported.
    Pattern {
        /// The pattern.
        pattern: String,
        /// The part that can't be used.
        part: String,
    },
}

impl fmt::Display for TensorTypeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TensorTypeError::NoEquals { text } => {
                write!(f, "`{text}` is not PATTERN=TYPE, such as attn_v=Q8_0")
            }
            TensorTypeError::Format { name } => {
                let names: Vec<_> = types().map(Format::name).collect();
                write!(f, "`{name}` is no type: it must be one of {}", names.join(", "))
            }
            TensorTypeError::Pattern { pattern, part } => {
                write!(f, "`{pattern}` can't be used as a pattern: {part}")
            }
        }
    }
}

impl std::error::Error for TensorTypeError {}

/// Types that a tensor can be given: all formats of this program that have whole rows.
fn types() -> impl Iterator<Item = Format> {
    Format::ALL.into_iter().filter(|f| f.is_built() && f.trailer_bytes() == 0)
}

impl TensorType {
    /// Format for tensors in whose names `pattern`, a regular expression, matches somewhere. As in
    /// llama-quantize, its capitals are taken for small letters, of which names are made.
    ///
    /// # Errors
    /// [`TensorTypeError::Pattern`].
    pub fn new(pattern: &str, format: Format) -> Result<TensorType, TensorTypeError> {
        let bad = |part: String| TensorTypeError::Pattern { pattern: pattern.into(), part };
        // Lowered, these would turn into their opposites.
        for class in [r"\D", r"\S", r"\W", r"\B"] {
            if pattern.contains(class) {
                let lower = class.to_lowercase();
                return Err(bad(format!("`{class}`, which llama-quantize reads as `{lower}`")));
            }
        }
        let text = pattern.to_ascii_lowercase();
        let compiled = Pattern::new(&text).map_err(bad)?;
        Ok(TensorType { text, pattern: compiled, format })
    }

    /// The pattern.
    #[must_use]
    pub fn pattern(&self) -> &str {
        &self.text
    }

    /// The format.
    #[must_use]
    pub fn format(&self) -> Format {
        self.format
    }

    /// True if the pattern matches somewhere in a tensor's name.
    #[must_use]
    pub fn is_for(&self, tensor: &str) -> bool {
        self.pattern.is_in(tensor) == Some(true)
    }
}

impl FromStr for TensorType {
    type Err = TensorTypeError;

    /// `PATTERN=TYPE`; the first equals sign counts.
    fn from_str(text: &str) -> Result<Self, TensorTypeError> {
        let (pattern, name) = text
            .split_once('=')
            .filter(|(pattern, _)| !pattern.is_empty())
            .ok_or_else(|| TensorTypeError::NoEquals { text: text.into() })?;
        TensorType::new(pattern, type_from_name(name)?)
    }
}

/// Format with this name, ignoring case, that a tensor can be given by [`Overrides`].
///
/// # Errors
/// [`TensorTypeError::Format`].
pub fn type_from_name(name: &str) -> Result<Format, TensorTypeError> {
    let found = types().find(|f| f.name().eq_ignore_ascii_case(name));
    found.ok_or_else(|| TensorTypeError::Format { name: name.into() })
}

impl Overrides {
    /// True if nothing is overridden.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tensors.is_empty() && self.output.is_none() && self.embedding.is_none()
    }

    /// Format of a tensor that may be quantised, if one is given for it.
    pub(super) fn format(&self, name: &str, part: Part, pure: bool, tied: bool) -> Option<Format> {
        let named = || self.tensors.iter().find(|t| t.is_for(name)).map(TensorType::format);
        match (part, self.embedding, self.output) {
            // A table of its own, which a pattern may name.
            (Part::Embedding, Some(format), _) if name.starts_with("per_layer") => {
                Some(named().unwrap_or(format))
            }
            (Part::Embedding, Some(format), _) | (Part::Output, _, Some(format)) => Some(format),
            (Part::Embedding, None, output) if tied && !pure => named().or(output),
            _ => named(),
        }
    }
}
