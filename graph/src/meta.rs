//! Model metadata, independent of the container it came from, as read by the model families.

use core::fmt;

/// The value of a GGUF key or of a field of config.json.
///
/// The variants are complete: a new one would be a breaking change.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Value<'a> {
    /// An unsigned integer, or a signed one that is not negative.
    Uint(u64),
    /// A negative integer.
    Int(i64),
    /// A floating-point number.
    Float(f64),
    /// A boolean.
    Bool(bool),
    /// A string.
    Str(&'a str),
    /// `null`, which readers treat as absent.
    Null,
    /// An array or an object, which is never a hyper-parameter.
    Other,
}

/// Keys and values, looked up by name. In config.json, `a.b` is field `b` of object `a`.
pub trait Metadata {
    /// The value of `key`, or `None` if it is absent.
    fn get(&self, key: &str) -> Option<Value<'_>>;

    /// Element `index` of the array at `key`, if there is one.
    fn item(&self, key: &str, index: usize) -> Option<Value<'_>> {
        let _ = (key, index);
        None
    }
}

/// A missing key, or a value of the wrong kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum MetaError {
    /// The key is absent and has no default.
    Missing(&'static str),
    /// The key's value is not of the expected kind.
    Wrong {
        /// The key.
        key: &'static str,
        /// Description of the expected value, such as `an integer from 1 to 2^31`.
        want: &'static str,
    },
}

impl fmt::Display for MetaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MetaError::Missing(key) => write!(f, "the model's metadata lacks `{key}`"),
            MetaError::Wrong { key, want } => {
                write!(f, "the model's metadata key `{key}` is not {want}")
            }
        }
    }
}

impl core::error::Error for MetaError {}

/// `key` as a number from 1 to 2^31 - 1; `None` if it is absent or null.
///
/// # Errors
/// [`MetaError::Wrong`] for anything else.
pub fn count(meta: &dyn Metadata, key: &'static str) -> Result<Option<u32>, MetaError> {
    match meta.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Uint(v)) if (1..1 << 31).contains(&v) => Ok(Some(v as u32)),
        Some(_) => Err(MetaError::Wrong { key, want: "an integer from 1 to 2^31 - 1" }),
    }
}

/// `key` as a finite number, integer or not; `None` if it is absent or null.
///
/// # Errors
/// [`MetaError::Wrong`] for anything else.
pub fn float(meta: &dyn Metadata, key: &'static str) -> Result<Option<f32>, MetaError> {
    let v = match meta.get(key) {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Uint(v)) => v as f32,
        Some(Value::Int(v)) => v as f32,
        Some(Value::Float(v)) => v as f32,
        Some(_) => f32::NAN,
    };
    if v.is_finite() { Ok(Some(v)) } else { Err(MetaError::Wrong { key, want: "a finite number" }) }
}

/// `key` as a boolean; `None` if it is absent or null.
///
/// # Errors
/// [`MetaError::Wrong`] for anything else.
pub fn flag(meta: &dyn Metadata, key: &'static str) -> Result<Option<bool>, MetaError> {
    match meta.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Bool(v)) => Ok(Some(v)),
        Some(_) => Err(MetaError::Wrong { key, want: "true or false" }),
    }
}

/// `key` as a string; `None` if it is absent or null.
///
/// # Errors
/// [`MetaError::Wrong`] for anything else.
pub fn text<'a>(meta: &'a dyn Metadata, key: &'static str) -> Result<Option<&'a str>, MetaError> {
    match meta.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Str(v)) => Ok(Some(v)),
        Some(_) => Err(MetaError::Wrong { key, want: "text" }),
    }
}

/// Unwraps the result of [`count`], [`float`], [`flag`] or [`text`] for a mandatory key.
///
/// # Errors
/// [`MetaError::Missing`].
pub fn required<T>(value: Option<T>, key: &'static str) -> Result<T, MetaError> {
    value.ok_or(MetaError::Missing(key))
}
