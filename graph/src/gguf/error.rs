//! What can be wrong with a GGUF file.

use super::{MAX_KEYS, MAX_NAME, MAX_TENSORS, tensor, value::ValueKind};
use core::fmt::{self, Write as _};
use teff_kernels::Format;

/// Bytes of a name that an error keeps.
const KEPT: usize = 62;

/// The first 62 bytes of a key or of a tensor's name, kept inside an error.
///
/// It is what the file says, so it need not be UTF-8; printing replaces what is not, and escapes
/// control characters.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Name {
    bytes: [u8; KEPT],
    len: u8,
    cut: bool,
}

impl Name {
    /// Keeps the start of `name`.
    #[must_use]
    pub fn new(name: &[u8]) -> Name {
        let mut bytes = [0; KEPT];
        let len = name.len().min(KEPT);
        bytes[..len].copy_from_slice(&name[..len]);
        Name { bytes, len: len as u8, cut: name.len() > KEPT }
    }

    /// The bytes that were kept.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    /// Whether the name in the file goes on after these bytes.
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

/// The part of a file that was being read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ErrorContext {
    /// Magic, version and counts.
    Header,
    /// The key with this number, counted from 0.
    Key(usize),
    /// The value of this key.
    Value(Name),
    /// The description of the tensor with this number, counted from 0.
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

/// Why a GGUF file was refused. Every `at` is an offset in bytes from the start of the file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum GgufError {
    /// The file does not begin with `GGUF`.
    BadMagic {
        /// What it begins with.
        found: [u8; 4],
    },
    /// The file was written for big-endian machines.
    BigEndian,
    /// A version other than 2 and 3.
    Version {
        /// The version in the file.
        version: u32,
    },
    /// The file ends in the middle of something.
    Truncated {
        /// What was being read.
        context: ErrorContext,
        /// Where.
        at: usize,
        /// Bytes needed there.
        need: u64,
        /// Bytes there.
        left: u64,
    },
    /// More keys than the rest of the file could hold.
    KeysBeyondFile {
        /// The count in the header.
        count: u64,
        /// How many would fit.
        room: u64,
    },
    /// More tensors than the rest of the file could describe.
    TensorsBeyondFile {
        /// The count in the header.
        count: u64,
        /// How many would fit.
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
    /// A string whose length reaches beyond the file.
    StringBeyondFile {
        /// What it belongs to.
        context: ErrorContext,
        /// Where its bytes begin.
        at: usize,
        /// Its length.
        len: u64,
        /// Bytes there.
        left: u64,
    },
    /// A key without a single byte.
    EmptyKey {
        /// The key's number, counted from 0.
        index: usize,
        /// Where it stands.
        at: usize,
    },
    /// A key of more than [`MAX_NAME`] bytes.
    KeyTooLong {
        /// Its start.
        key: Name,
        /// Its length.
        len: usize,
        /// Where it stands.
        at: usize,
    },
    /// A key that is not UTF-8.
    KeyNotUtf8 {
        /// The key.
        key: Name,
        /// Where it stands.
        at: usize,
    },
    /// A key that was there before.
    DuplicateKey {
        /// The key.
        key: Name,
        /// Where it stands the second time.
        at: usize,
    },
    /// A value, or the elements of an array, of a type that GGUF doesn't have.
    UnknownValueType {
        /// The key.
        key: Name,
        /// The type id.
        id: u32,
        /// Where the id stands.
        at: usize,
    },
    /// An array of arrays, which no key of a model is.
    NestedArray {
        /// The key.
        key: Name,
        /// Where the type of the elements stands.
        at: usize,
    },
    /// An array of more elements than the rest of the file could hold.
    ArrayBeyondFile {
        /// The key.
        key: Name,
        /// The type of the elements.
        elem: ValueKind,
        /// The count in the file.
        count: u64,
        /// Where the elements begin.
        at: usize,
        /// Bytes there.
        left: u64,
    },
    /// A text value that is not UTF-8 (elements of arrays may be any bytes, since tokens are).
    ValueNotUtf8 {
        /// The key.
        key: Name,
        /// Where its bytes begin.
        at: usize,
    },
    /// A truth value, or an element of an array of them, that is neither 0 nor 1.
    BadBool {
        /// The key.
        key: Name,
        /// The byte.
        value: u8,
        /// Where it stands.
        at: usize,
    },
    /// `general.alignment` is not a u32.
    AlignmentType {
        /// What it is.
        found: ValueKind,
    },
    /// `general.alignment` is zero or not a power of two.
    Alignment {
        /// What it is.
        value: u32,
    },
    /// A tensor without a name.
    EmptyTensorName {
        /// The tensor's number, counted from 0.
        index: usize,
        /// Where the name stands.
        at: usize,
    },
    /// A tensor's name of more than [`MAX_NAME`] bytes.
    TensorNameTooLong {
        /// Its start.
        tensor: Name,
        /// Its length.
        len: usize,
        /// Where it stands.
        at: usize,
    },
    /// A tensor's name that is not UTF-8.
    TensorNameNotUtf8 {
        /// The name.
        tensor: Name,
        /// Where it stands.
        at: usize,
    },
    /// A tensor's name that was there before.
    DuplicateTensor {
        /// The name.
        tensor: Name,
        /// Where it stands the second time.
        at: usize,
    },
    /// A tensor with no dimensions or more than 4.
    DimCount {
        /// The tensor.
        tensor: Name,
        /// The number of dimensions.
        count: u32,
        /// Where that stands.
        at: usize,
    },
    /// A tensor with a dimension of zero.
    ZeroDim {
        /// The tensor.
        tensor: Name,
        /// Which dimension, counted from 0.
        dim: u32,
    },
    /// A tensor of more elements or bytes than this machine can count.
    DimsOverflow {
        /// The tensor.
        tensor: Name,
        /// Its dimensions; 1 where it has fewer.
        dims: [u64; 4],
    },
    /// A tensor in a format that Teff doesn't have.
    UnknownFormat {
        /// The tensor.
        tensor: Name,
        /// The ggml type id; [`super::ggml_type_name`] names it.
        id: u32,
    },
    /// A tensor whose rows are not whole blocks of its format.
    RaggedRow {
        /// The tensor.
        tensor: Name,
        /// Its format.
        format: Format,
        /// Elements of a row.
        cols: u64,
    },
    /// A tensor whose data are not aligned as the file says.
    Misaligned {
        /// The tensor.
        tensor: Name,
        /// Its offset from the start of the data section.
        offset: u64,
        /// The alignment.
        alignment: u32,
    },
    /// A tensor whose data would begin beyond the file.
    OffsetBeyondFile {
        /// The tensor.
        tensor: Name,
        /// Its offset from the start of the data section.
        offset: u64,
        /// Where the data section begins.
        section: u64,
        /// Bytes of the file.
        file: usize,
    },
    /// A tensor whose data begin inside the file and end beyond it.
    DataTruncated {
        /// The tensor.
        tensor: Name,
        /// Where its data begin.
        at: u64,
        /// Bytes needed there.
        need: u64,
        /// Bytes there.
        left: u64,
    },
    /// Names made to collide, so that telling them apart would take unbounded time; chance does
    /// not do this.
    HostileNames {
        /// One of them.
        name: Name,
        /// Where it stands.
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
                "GGUF version 1, whose lengths are of 32 bits; Teff reads versions 2 and 3, \
                 convert the model again",
            ),
            E::Version { version } => {
                write!(f, "GGUF version {version}; Teff reads versions 2 and 3")
            }
            E::Truncated { context, at, need, left } => write!(
                f,
                "the file ends inside {context}: {need} bytes needed at offset {at}, {left} there \
                 (is it complete?)"
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
                 there"
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
                write!(f, "key `{key}` is there twice, again at offset {at}")
            }
            E::UnknownValueType { key, id, at } => {
                write!(f, "key `{key}` has the unknown value type {id} at offset {at}")
            }
            E::NestedArray { key, at } => {
                write!(
                    f,
                    "key `{key}` is an array of arrays (offset {at}), which Teff doesn't read"
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
                write!(f, "key `{key}` has the truth value {value} at offset {at}; it is 0 or 1")
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
                write!(f, "tensor `{tensor}` is there twice, again at offset {at}")
            }
            E::DimCount { tensor, count, at } => write!(
                f,
                "tensor `{tensor}` has {count} dimensions (offset {at}); it must have 1 to 4"
            ),
            E::ZeroDim { tensor, dim } => write!(f, "tensor `{tensor}`: dimension {dim} is zero"),
            E::DimsOverflow { tensor, dims: [a, b, c, d] } => {
                write!(f, "tensor `{tensor}` of {a} x {b} x {c} x {d} is too large to be counted")
            }
            E::UnknownFormat { tensor, id } => {
                write!(f, "tensor `{tensor}` is of ggml type {id}")?;
                if let Some(name) = tensor::ggml_type_name(*id) {
                    write!(f, " ({name})")?;
                }
                f.write_str(", which Teff doesn't have; it reads")?;
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
                 beyond the file's {file} bytes (is it complete?)"
            ),
            E::DataTruncated { tensor, at, need, left } => write!(
                f,
                "tensor `{tensor}` needs {need} bytes at offset {at}, {left} are there (is the \
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
