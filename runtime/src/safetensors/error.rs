//! What can be wrong with a SafeTensors file, and with the index of a sharded model.

use std::fmt;

use teff_graph::gguf::Name;

use super::{MAX_HEADER, MAX_INDEX, MAX_SHARDS};
use crate::json::JsonError;

/// Why a SafeTensors file was refused.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum SafeTensorsError {
    /// The file is shorter than the header's length.
    NoHeader {
        /// Bytes of the file.
        file: usize,
    },
    /// A header of more than [`MAX_HEADER`] bytes.
    HeaderTooLarge {
        /// Its length as the file says.
        len: u64,
    },
    /// A header that reaches beyond the file.
    HeaderBeyondFile {
        /// Its length as the file says.
        len: u64,
        /// Bytes there.
        left: usize,
    },
    /// A header that does not begin with `{`.
    NotAnObject,
    /// A header that is not JSON; the offset counts from the start of the header, which is byte 8
    /// of the file.
    Json(JsonError),
    /// The index of so many tensors finds no memory.
    OutOfMemory {
        /// How many.
        count: usize,
    },
    /// A tensor (or `__metadata__`) that is there twice.
    Duplicate {
        /// Its name.
        tensor: Box<Name>,
    },
    /// A name with JSON escapes, which no tensor of a model has.
    EscapedName {
        /// The name, escapes resolved.
        tensor: Box<Name>,
    },
    /// A field of a tensor's description is something else than it should be.
    Field {
        /// The tensor.
        tensor: Box<Name>,
        /// The field; empty for the description itself.
        field: &'static str,
        /// What it should be.
        want: &'static str,
    },
    /// A field of a tensor's description is missing.
    MissingField {
        /// The tensor.
        tensor: Box<Name>,
        /// The field.
        field: &'static str,
    },
    /// A type of elements that the format doesn't have.
    Dtype {
        /// The tensor.
        tensor: Box<Name>,
        /// What the file says.
        found: Box<Name>,
    },
    /// Data that end before they begin, or beyond the file.
    Offsets {
        /// The tensor.
        tensor: Box<Name>,
        /// Where they begin in the buffer.
        begin: u64,
        /// Where they end.
        end: u64,
        /// Bytes of the buffer.
        buffer: usize,
    },
    /// Data of another size than shape and type need.
    Size {
        /// The tensor.
        tensor: Box<Name>,
        /// Bytes needed; `None` where they can't be counted or are no whole number.
        needed: Option<usize>,
        /// Bytes between the offsets.
        got: usize,
    },
    /// Data that begin inside another tensor's.
    Overlap {
        /// The tensor.
        tensor: Box<Name>,
        /// Where they begin in the buffer.
        begin: usize,
        /// Where the data before them end.
        at: usize,
    },
    /// Bytes of the buffer that belong to no tensor.
    Hole {
        /// Where they begin in the buffer.
        at: usize,
        /// How many they are.
        bytes: usize,
    },
}

impl From<JsonError> for SafeTensorsError {
    fn from(e: JsonError) -> Self {
        SafeTensorsError::Json(e)
    }
}

impl fmt::Display for SafeTensorsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use SafeTensorsError as E;
        match self {
            E::NoHeader { file } => write!(
                f,
                "{file} bytes are too few for a SafeTensors file, which begins with the 8 of its \
                 header's length (is it complete?)"
            ),
            E::HeaderTooLarge { len } => write!(
                f,
                "a header of {len} bytes, and at most {MAX_HEADER} are allowed: this is no \
                 SafeTensors file"
            ),
            E::HeaderBeyondFile { len, left } => {
                write!(f, "the header needs {len} bytes, {left} are there (is the file complete?)")
            }
            E::NotAnObject => f.write_str("the header does not begin with `{`"),
            E::Json(e) => write!(f, "the header is {e}"),
            E::OutOfMemory { count } => write!(f, "no memory for an index of {count} tensors"),
            E::Duplicate { tensor } => write!(f, "`{tensor}` is there twice"),
            E::EscapedName { tensor } => {
                write!(f, "tensor `{tensor}`: its name is written with JSON escapes")
            }
            E::Field { tensor, field: "", want } => {
                write!(f, "tensor `{tensor}`: its description must be {want}")
            }
            E::Field { tensor, field, want } => {
                write!(f, "tensor `{tensor}`: `{field}` must be {want}")
            }
            E::MissingField { tensor, field } => {
                write!(f, "tensor `{tensor}`: its description lacks `{field}`")
            }
            E::Dtype { tensor, found } => {
                write!(f, "tensor `{tensor}`: `{found}` is no dtype of SafeTensors")
            }
            E::Offsets { tensor, begin, end, buffer } => write!(
                f,
                "tensor `{tensor}`: its data_offsets {begin} to {end} are no part of the buffer of \
                 {buffer} bytes (is the file complete?)"
            ),
            E::Size { tensor, needed: Some(needed), got } => write!(
                f,
                "tensor `{tensor}`: shape and dtype need {needed} bytes, data_offsets give {got}"
            ),
            E::Size { tensor, needed: None, .. } => write!(
                f,
                "tensor `{tensor}`: shape and dtype need no number of bytes that a file can have"
            ),
            E::Overlap { tensor, begin, at } => write!(
                f,
                "tensor `{tensor}`: its data begin at {begin}, inside another tensor's, which end \
                 at {at}"
            ),
            E::Hole { at, bytes } => {
                write!(f, "{bytes} bytes of the buffer, from {at} on, belong to no tensor")
            }
        }
    }
}

impl std::error::Error for SafeTensorsError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            SafeTensorsError::Json(e) => Some(e),
            _ => None,
        }
    }
}

/// Why the index of a sharded model was refused.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ShardError {
    /// The file is larger than [`MAX_INDEX`].
    TooLarge {
        /// Its bytes.
        bytes: u64,
    },
    /// The file is not JSON.
    Json(JsonError),
    /// There is no `weight_map`, or it is no object, or there are two.
    NoWeightMap,
    /// An entry of `weight_map` whose value is no text.
    NotText {
        /// The tensor.
        tensor: Box<Name>,
    },
    /// The name of a shard that is no file's of the same folder.
    BadName {
        /// The name.
        shard: Box<Name>,
    },
    /// More than [`MAX_SHARDS`] shards.
    TooMany,
    /// `weight_map` is empty.
    Empty,
    /// A tensor that the shard given for it doesn't have.
    NotThere {
        /// The tensor.
        tensor: Box<Name>,
        /// The shard.
        shard: Box<Name>,
    },
}

impl From<JsonError> for ShardError {
    fn from(e: JsonError) -> Self {
        ShardError::Json(e)
    }
}

impl fmt::Display for ShardError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use ShardError as E;
        match self {
            E::TooLarge { bytes } => {
                write!(f, "{bytes} bytes; an index has at most {MAX_INDEX}")
            }
            E::Json(e) => e.fmt(f),
            E::NoWeightMap => f.write_str("it must have one object `weight_map`"),
            E::NotText { tensor } => {
                write!(f, "`weight_map`: the shard of `{tensor}` is no text")
            }
            E::BadName { shard } => write!(
                f,
                "`weight_map` names the shard `{shard}`: it must be the plain name of a file \
                 *.safetensors in the same folder"
            ),
            E::TooMany => write!(f, "`weight_map` names more than {MAX_SHARDS} shards"),
            E::Empty => f.write_str("`weight_map` is empty"),
            E::NotThere { tensor, shard } => write!(
                f,
                "`weight_map` says that `{tensor}` is in `{shard}`, which doesn't have it (are \
                 index and shards of one model?)"
            ),
        }
    }
}

impl std::error::Error for ShardError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ShardError::Json(e) => Some(e),
            _ => None,
        }
    }
}
