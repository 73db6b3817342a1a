//! Errors of SafeTensors files and of the index of a sharded model.

use std::fmt;

use teff_graph::gguf::Name;

use super::{MAX_HEADER, MAX_INDEX, MAX_SHARDS};
use crate::json::JsonError;

/// Error for a SafeTensors file that was refused.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum SafeTensorsError {
    /// The file is too short for the header's length.
    NoHeader {
        /// Length of the file in bytes.
        file: usize,
    },
    /// A header longer than [`MAX_HEADER`] bytes.
    HeaderTooLarge {
        /// Length stated in the file.
        len: u64,
    },
    /// A header that extends beyond the file.
    HeaderBeyondFile {
        /// Length stated in the file.
        len: u64,
        /// Number of bytes left.
        left: usize,
    },
    /// A header that does not start with `{`.
    NotAnObject,
    /// A header that is not JSON; the offset counts from the start of the header, which is byte 8
    /// of the file.
    Json(JsonError),
    /// Not enough memory for an index of this many tensors.
    OutOfMemory {
        /// Number of tensors.
        count: usize,
    },
    /// A tensor (or `__metadata__`) that occurs twice.
    Duplicate {
        /// Name of the tensor.
        tensor: Box<Name>,
    },
    /// A name with JSON escapes, which no model uses.
    EscapedName {
        /// The unescaped name.
        tensor: Box<Name>,
    },
    /// A field of a tensor's description has the wrong type or value.
    Field {
        /// The tensor.
        tensor: Box<Name>,
        /// The field; empty for the description itself.
        field: &'static str,
        /// Description of the expected value.
        want: &'static str,
    },
    /// A field of a tensor's description is missing.
    MissingField {
        /// The tensor.
        tensor: Box<Name>,
        /// The field.
        field: &'static str,
    },
    /// An unknown element type.
    Dtype {
        /// The tensor.
        tensor: Box<Name>,
        /// The type stated in the file.
        found: Box<Name>,
    },
    /// Data offsets that are reversed or beyond the file.
    Offsets {
        /// The tensor.
        tensor: Box<Name>,
        /// Start of the data in the buffer.
        begin: u64,
        /// End of the data in the buffer.
        end: u64,
        /// Length of the buffer in bytes.
        buffer: usize,
    },
    /// Data whose size doesn't match the shape and element type.
    Size {
        /// The tensor.
        tensor: Box<Name>,
        /// Number of bytes needed; `None` if it overflows or is not a whole number.
        needed: Option<usize>,
        /// Number of bytes between the offsets.
        got: usize,
    },
    /// Data that starts inside another tensor's.
    Overlap {
        /// The tensor.
        tensor: Box<Name>,
        /// Start of the data in the buffer.
        begin: usize,
        /// End of the preceding tensor's data.
        at: usize,
    },
    /// Bytes of the buffer that belong to no tensor.
    Hole {
        /// Start of the unused bytes in the buffer.
        at: usize,
        /// Number of unused bytes.
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
                "{file} bytes are too few for a SafeTensors file, which begins with its header's \
                 length in 8 bytes (is the file complete?)"
            ),
            E::HeaderTooLarge { len } => write!(
                f,
                "a header of {len} bytes, and at most {MAX_HEADER} are allowed: this is not a \
                 SafeTensors file"
            ),
            E::HeaderBeyondFile { len, left } => {
                write!(f, "the header needs {len} bytes, {left} are left (is the file complete?)")
            }
            E::NotAnObject => f.write_str("the header does not begin with `{`"),
            E::Json(e) => write!(f, "the header is {e}"),
            E::OutOfMemory { count } => {
                write!(f, "not enough memory for an index of {count} tensors")
            }
            E::Duplicate { tensor } => write!(f, "`{tensor}` occurs twice"),
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
                write!(f, "tensor `{tensor}`: `{found}` is not a SafeTensors dtype")
            }
            E::Offsets { tensor, begin, end, buffer } => write!(
                f,
                "tensor `{tensor}`: its data_offsets {begin} to {end} lie outside the buffer of \
                 {buffer} bytes (is the file complete?)"
            ),
            E::Size { tensor, needed: Some(needed), got } => write!(
                f,
                "tensor `{tensor}`: shape and dtype need {needed} bytes, data_offsets give {got}"
            ),
            E::Size { tensor, needed: None, .. } => {
                write!(f, "tensor `{tensor}`: shape and dtype do not give a valid number of bytes")
            }
            E::Overlap { tensor, begin, at } => write!(
                f,
                "tensor `{tensor}`: its data begins at {begin}, inside another tensor's, which ends \
                 at {at}"
            ),
            E::Hole { at, bytes } => {
                write!(f, "{bytes} bytes of the buffer, from {at} on, belong to no tensor")
            }
        }
    }
}

impl std::error::Error for SafeTensorsError {}

/// Error for the index of a sharded model that was refused.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ShardError {
    /// The file is larger than [`MAX_INDEX`].
    TooLarge {
        /// Size of the file in bytes.
        bytes: u64,
    },
    /// The file is not JSON.
    Json(JsonError),
    /// `weight_map` is missing, not an object, or duplicated.
    NoWeightMap,
    /// A value in `weight_map` that is not a string.
    NotText {
        /// The tensor.
        tensor: Box<Name>,
    },
    /// A shard name that is not that of a file in the same folder.
    BadName {
        /// The shard name.
        shard: Box<Name>,
    },
    /// More than [`MAX_SHARDS`] shards.
    TooMany,
    /// `weight_map` is empty.
    Empty,
    /// A tensor that is missing from the shard named for it.
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
            E::NoWeightMap => f.write_str("it must have exactly one object `weight_map`"),
            E::NotText { tensor } => {
                write!(f, "`weight_map`: the shard of `{tensor}` is not a string")
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
                "`weight_map` says that `{tensor}` is in `{shard}`, which doesn't have it (do the \
                 index and the shards belong to the same model?)"
            ),
        }
    }
}

impl std::error::Error for ShardError {}
