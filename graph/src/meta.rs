//! Metadata of a model, whatever container it came from: what the families read.

use core::fmt;

/// A value of a GGUF key or of a field of config.json.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Value<'a> {
    /// An unsigned integer (also a signed one that is not negative).
    Uint(u64),
    /// A negative integer.
    Int(i64),
    /// A floating-point number.
    Float(f64),
    /// A truth value.
    Bool(bool),
    /// Text.
    Str(&'a str),
    /// `null`: the same as absent for whoever reads it.
    Null,
    /// Something that no hyper-parameter is: an array or an object.
    Other,
}

/// Keys and values, looked up by name. In config.json, `a.b` is the field `b` of the object `a`.
pub trait Metadata {
    /// The value of `key`, or `None` where it is absent.
    fn get(&self, key: &str) -> Option<Value<'_>>;

    /// Element `index` of the array that is the value of `key`, if it is one that has it.
    fn item(&self, key: &str, index: usize) -> Option<Value<'_>> {
        let _ = (key, index);
        None
    }
}

/// A key that is missing or has a value of the wrong kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MetaError {
    /// The key is not there and has no default.
    Missing(&'static str),
    /// The key is there, but not what it should be.
    Wrong {
        /// The key.
        key: &'static str,
        /// What it should be, such as `an integer from 1 to 2^31`.
        want: &'static str,
    },
}

impl fmt::Display for MetaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MetaError::Missing(key) => write!(f, "the model's metadata lack `{key}`"),
            MetaError::Wrong { key, want } => {
                write!(f, "the model's metadata `{key}` is not {want}")
            }
        }
    }
}

impl core::error::Error for MetaError {}

/// `key` as a number from 1 to 2^31 - 1; `None` where it is absent or null.
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

/// `key` as a finite number, integer or not; `None` where it is absent or null.
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

/// `key` as a truth value; `None` where it is absent or null.
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

/// `key` as text; `None` where it is absent or null.
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

/// What [`count`] and its sisters give for a key that must be there.
///
/// # Errors
/// [`MetaError::Missing`].
pub fn required<T>(value: Option<T>, key: &'static str) -> Result<T, MetaError> {
    value.ok_or(MetaError::Missing(key))
}
