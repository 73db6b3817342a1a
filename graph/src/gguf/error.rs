//! GGUF errors.

use super::{MAX_KEYS, MAX_NAME, MAX_TENSORS, tensor, value::ValueKind};
use core::fmt::{self, Write as _};
use teff_kernels::Format;

/// Number of bytes of a name that an error keeps.
const NAME_BYTES: usize = 62;

/// The first 62 bytes of a key or tensor name, stored inline in an error.
///
/// The bytes come from the file, so they need not be UTF-8; `Display` replaces invalid sequences
/// and escapes control characters.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Name {
    bytes: [u8; NAME_BYTES],
    len: u8,
    cut: bool,
}

impl Name {
    /// Keeps the first bytes of `name`.
    #[must_use]
    pub fn new(name: &[u8]) -> Name {
        let mut bytes = [0; NAME_BYTES];
        let len = name.len().min(NAME_BYTES);
        bytes[..len].copy_from_slice(&name[..len]);
        Name { bytes, len: len as u8, cut: name.len() > NAME_BYTES }
    }

    /// The bytes that were kept.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    /// True if the name in the file is longer than these bytes.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        self.cut
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.as_bytes().utf8_chunks() {
            for c in chunk.valid().chars() {
                if c.is_control() { write!(f, "{}", c.escape_default())? } else { f.write_char(c)? }
            }
            if !chunk.invalid().is_empty() {
                f.write_char(char::REPLACEMENT_CHARACTER)?;
            }
        }
        if self.cut { f.write_str("...") } else { Ok(()) }
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{self}`")
    }
}

/// The part of a file that was being read when an error occurred.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ErrorContext {
    /// Magic, version and counts.
    Header,
    /// The key at this index.
    Key(usize),
    /// The value of this key.
    Value(Name),
    /// The description of the tensor at this index.
    TensorInfo(usize),
}

impl fmt::Display for ErrorContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ErrorContext::Header => f.write_str("the header"),
            ErrorContext::Key(i) => write!(f, "key number {i}"),
            ErrorContext::Value(key) => write!(f, "the value of key `{key}`"),
            ErrorContext::TensorInfo(i) => write!(f, "the description of tensor number {i}"),
        }
    }
}

/// Error for a GGUF file that was refused. Every `at` is a byte offset from the start of the file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum GgufError {
    /// The file does not begin with `GGUF`.
    BadMagic {
        /// The first four bytes of the file.
        found: [u8; 4],
    },
    /// The file was written for big-endian machines.
    BigEndian,
    /// A version other than 2 or 3.
    Version {
        /// The version in the file.
        version: u32,
    },
    /// The file is truncated.
    Truncated {
        /// The part that was being read.
        context: ErrorContext,
        /// Offset of the read.
        at: usize,
        /// Number of bytes needed.
        need: u64,
        /// Number of bytes left.
        left: u64,
    },
    /// More keys than the rest of the file has room for.
    KeysBeyondFile {
        /// The count in the header.
        count: u64,
        /// The number that would fit.
        room: u64,
    },
    /// More tensors than the rest of the file has room to describe.
    TensorsBeyondFile {
        /// The count in the header.
        count: u64,
        /// The number that would fit.
        room: u64,
    },
    /// More than [`MAX_KEYS`] keys.
    TooManyKeys {
        /// The count in the header.
        count: u64,
    },
    /// More than [`MAX_TENSORS`] tensors.
    TooManyTensors {
        /// The count in the header.
        count: u64,
    },
    /// A string whose length exceeds the rest of the file.
    StringBeyondFile {
        /// The part of the file that the string belongs to.
        context: ErrorContext,
        /// Offset of the string's bytes.
        at: usize,
        /// Length of the string.
        len: u64,
        /// Number of bytes left.
        left: u64,
    },
    /// An empty key.
    EmptyKey {
        /// Index of the key.
        index: usize,
        /// Offset of the key.
        at: usize,
    },
    /// A key longer than [`MAX_NAME`] bytes.
    KeyTooLong {
        /// The start of the key.
        key: Name,
        /// Length of the key in bytes.
        len: usize,
        /// Offset of the key.
        at: usize,
    },
    /// A key that is not UTF-8.
    KeyNotUtf8 {
        /// The key.
        key: Name,
        /// Offset of the key.
        at: usize,
    },
    /// A key that occurs twice.
    DuplicateKey {
        /// The key.
        key: Name,
        /// Offset of the second occurrence.
        at: usize,
    },
    /// A value or array element of a type that GGUF doesn't define.
    UnknownValueType {
        /// The key.
        key: Name,
        /// The type id.
        id: u32,
        /// Offset of the type id.
        at: usize,
    },
    /// An array of arrays, which no model uses.
    NestedArray {
        /// The key.
        key: Name,
        /// Offset of the element type.
        at: usize,
    },
    /// An array with more elements than the rest of the file has room for.
    ArrayBeyondFile {
        /// The key.
        key: Name,
        /// The element type.
        elem: ValueKind,
        /// The count in the file.
        count: u64,
        /// Offset of the elements.
        at: usize,
        /// Number of bytes left.
        left: u64,
    },
    /// A string value that is not UTF-8. (Array elements may be arbitrary bytes, since tokens are.)
    ValueNotUtf8 {
        /// The key.
        key: Name,
        /// Offset of the string's bytes.
        at: usize,
    },
    /// A boolean, alone or in an array, whose byte is neither 0 nor 1.
    BadBool {
        /// The key.
        key: Name,
        /// The byte.
        value: u8,
        /// Offset of the byte.
        at: usize,
    },
    /// `general.alignment` is not a u32.
    AlignmentType {
        /// The type in the file.
        found: ValueKind,
    },
    /// `general.alignment` is zero or not a power of two.
    Alignment {
        /// The value in the file.
        value: u32,
    },
    /// A tensor without a name.
    EmptyTensorName {
        /// Index of the tensor.
        index: usize,
        /// Offset of the name.
        at: usize,
    },
    /// A tensor name longer than [`MAX_NAME`] bytes.
    TensorNameTooLong {
        /// The start of the name.
        tensor: Name,
        /// Length of the name in bytes.
        len: usize,
        /// Offset of the name.
        at: usize,
    },
    /// A tensor name that is not UTF-8.
    TensorNameNotUtf8 {
        /// The name.
        tensor: Name,
        /// Offset of the name.
        at: usize,
    },
    /// A tensor name that occurs twice.
    DuplicateTensor {
        /// The name.
        tensor: Name,
        /// Offset of the second occurrence.
        at: usize,
    },
    /// A tensor with no dimensions, or more than 4.
    DimCount {
        /// The tensor.
        tensor: Name,
        /// The number of dimensions.
        count: u32,
        /// Offset of the count.
        at: usize,
    },
    /// A tensor with a dimension of zero.
    ZeroDim {
        /// The tensor.
        tensor: Name,
        /// Index of the dimension.
        dim: u32,
    },
    /// A tensor with more elements or bytes than fit the machine's integers.
    DimsOverflow {
        /// The tensor.
        tensor: Name,
        /// Its dimensions, padded with 1.
        dims: [u64; 4],
    },
    /// A tensor in a format that Teff doesn't support.
    UnknownFormat {
        /// The tensor.
        tensor: Name,
        /// The ggml type id; see [`super::ggml_type_name`].
        id: u32,
    },
    /// A tensor whose rows are not a whole number of blocks.
    RaggedRow {
        /// The tensor.
        tensor: Name,
        /// Its format.
        format: Format,
        /// Number of elements in a row.
        cols: u64,
    },
    /// A tensor whose data is not aligned to the file's alignment.
    Misaligned {
        /// The tensor.
        tensor: Name,
        /// Its offset from the start of the data section.
        offset: u64,
        /// The alignment.
        alignment: u32,
    },
    /// A tensor whose data would start beyond the end of the file.
    OffsetBeyondFile {
        /// The tensor.
        tensor: Name,
        /// Its offset from the start of the data section.
        offset: u64,
        /// Offset of the data section.
        section: u64,
        /// Length of the file in bytes.
        file: usize,
    },
    /// A tensor whose data starts inside the file and ends beyond it.
    DataTruncated {
        /// The tensor.
        tensor: Name,
        /// Offset of the data.
        at: u64,
        /// Number of bytes needed.
        need: u64,
        /// Number of bytes left.
        left: u64,
    },
    /// Names crafted to collide, so that checking them for duplicates would take unbounded time.
    /// This does not happen by chance.
    HostileNames {
        /// One of the colliding names.
        name: Name,
        /// Offset of that name.
        at: usize,
    },
}

impl fmt::Display for GgufError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use GgufError as E;
        match self {
            E::BadMagic { found } => {
                write!(f, "not a GGUF file: it begins with \"{}\"", found.escape_ascii())
            }
            E::BigEndian => f.write_str(
                "a big-endian GGUF file; Teff reads little-endian ones, convert it first",
            ),
            E::Version { version: 1 } => f.write_str(
                "GGUF version 1, which has 32-bit lengths; Teff reads versions 2 and 3, \
                 convert the model again",
            ),
            E::Version { version } => {
                write!(f, "GGUF version {version}; Teff reads versions 2 and 3")
            }
            E::Truncated { context, at, need, left } => write!(
                f,
                "the file ends inside {context}: {need} bytes needed at offset {at}, {left} left \
                 (is the file complete?)"
            ),
            E::KeysBeyondFile { count, room } => {
                write!(f, "the header counts {count} keys, the file has room for {room}")
            }
            E::TensorsBeyondFile { count, room } => {
                write!(f, "the header counts {count} tensors, the file has room for {room}")
            }
            E::TooManyKeys { count } => {
                write!(f, "{count} keys; Teff reads files of at most {MAX_KEYS}")
            }
            E::TooManyTensors { count } => {
                write!(f, "{count} tensors; Teff reads files of at most {MAX_TENSORS}")
            }
            E::StringBeyondFile { context, at, len, left } => write!(
                f,
                "a string in {context} reaches beyond the file: {len} bytes at offset {at}, {left} \
                 left"
            ),
            E::EmptyKey { index, at } => {
                write!(f, "key number {index}, at offset {at}, is empty")
            }
            E::KeyTooLong { key, len, at } => write!(
                f,
                "key `{key}` at offset {at} has {len} bytes; Teff reads keys of at most {MAX_NAME}"
            ),
            E::KeyNotUtf8 { key, at } => write!(f, "key `{key}` at offset {at} is not UTF-8"),
            E::DuplicateKey { key, at } => {
                write!(f, "key `{key}` occurs twice, the second time at offset {at}")
            }
            E::UnknownValueType { key, id, at } => {
                write!(f, "key `{key}` has the unknown value type {id} at offset {at}")
            }
            E::NestedArray { key, at } => {
                write!(
                    f,
                    "key `{key}` is an array of arrays (offset {at}), which Teff doesn't support"
                )
            }
            E::ArrayBeyondFile { key, elem, count, at, left } => write!(
                f,
                "key `{key}` is an array of {count} elements of type {elem} at offset {at}, where \
                 {left} bytes are left"
            ),
            E::ValueNotUtf8 { key, at } => {
                write!(f, "the text of key `{key}` at offset {at} is not UTF-8")
            }
            E::BadBool { key, value, at } => {
                write!(f, "key `{key}` has the boolean {value} at offset {at}; it must be 0 or 1")
            }
            E::AlignmentType { found } => {
                write!(f, "key `general.alignment` is of type {found}; it must be u32")
            }
            E::Alignment { value } => {
                write!(f, "key `general.alignment` is {value}, which is not a power of two")
            }
            E::EmptyTensorName { index, at } => {
                write!(f, "tensor number {index}, described at offset {at}, has no name")
            }
            E::TensorNameTooLong { tensor, len, at } => write!(
                f,
                "tensor `{tensor}`: the name at offset {at} has {len} bytes; Teff reads names of \
                 at most {MAX_NAME}"
            ),
            E::TensorNameNotUtf8 { tensor, at } => {
                write!(f, "tensor `{tensor}`: the name at offset {at} is not UTF-8")
            }
            E::DuplicateTensor { tensor, at } => {
                write!(f, "tensor `{tensor}` occurs twice, the second time at offset {at}")
            }
            E::DimCount { tensor, count, at } => write!(
                f,
                "tensor `{tensor}` has {count} dimensions (offset {at}); it must have 1 to 4"
            ),
            E::ZeroDim { tensor, dim } => write!(f, "tensor `{tensor}`: dimension {dim} is zero"),
            E::DimsOverflow { tensor, dims: [a, b, c, d] } => {
                write!(f, "tensor `{tensor}` of {a} x {b} x {c} x {d} is too large")
            }
            E::UnknownFormat { tensor, id } => {
                write!(f, "tensor `{tensor}` is of ggml type {id}")?;
                if let Some(name) = tensor::ggml_type_name(*id) {
                    write!(f, " ({name})")?;
                }
                f.write_str(", which Teff doesn't support; it reads")?;
                let built = Format::ALL.iter().filter(|f| f.is_built());
                for (i, format) in built.enumerate() {
                    write!(f, "{}{format}", if i == 0 { " " } else { ", " })?;
                }
                f.write_str(": quantise the model to one of them")
            }
            E::RaggedRow { tensor, format, cols } => write!(
                f,
                "tensor `{tensor}`: rows of {cols} are not whole blocks of {format}, which has \
                 {} elements a block",
                format.block_len()
            ),
            E::Misaligned { tensor, offset, alignment } => write!(
                f,
                "tensor `{tensor}`: its offset {offset} is not a multiple of the file's alignment \
                 {alignment}"
            ),
            E::OffsetBeyondFile { tensor, offset, section, file } => write!(
                f,
                "tensor `{tensor}` begins {offset} bytes into the data section (offset {section}), \
                 beyond the file's {file} bytes (is the file complete?)"
            ),
            E::DataTruncated { tensor, at, need, left } => write!(
                f,
                "tensor `{tensor}` needs {need} bytes at offset {at}, {left} are left (is the \
                 file complete?)"
            ),
            E::HostileNames { name, at } => write!(
                f,
                "the names in this file were made to collide (`{name}` at offset {at}); Teff \
                 refuses to search them for duplicates"
            ),
        }
    }
}

impl core::error::Error for GgufError {}
