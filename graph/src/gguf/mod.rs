//! The GGUF reader: a model's metadata and tensors, borrowed from the file's bytes.
//!
//! Reads versions 2 and 3, little-endian, from a byte slice (a mapped file, or flash), without
//! allocating and without std. [`Gguf::parse`] checks the whole file once, except for the weights'
//! values; every accessor after it is infallible.
//!
//! The layout, from the GGUF specification in ggml's documentation (all numbers are little-endian):
//!
//! | bytes | contents |
//! | --- | --- |
//! | 4 | `GGUF` |
//! | 4 | version |
//! | 8, 8 | number of tensors, number of keys |
//! | | keys: string, u32 type, value; a string is a u64 length and bytes, an array is a u32 type, a u64 count and elements |
//! | | tensors: string, u32 number of dimensions, u64 for each, u32 format, u64 offset into the data section |
//! | | the data section, at the next multiple of `general.alignment` (32 if that key is absent) |
//!
//! Where the specification leaves room, this reader is strict: at most [`MAX_KEYS`] keys,
//! [`MAX_TENSORS`] tensors and [`MAX_NAME`] bytes in a key or tensor name; no nested arrays; no
//! duplicate keys or tensors; no empty tensors. Tensors' data may overlap here (code that converts
//! tensors must reject that), and there may be arbitrary bytes between and after them.

mod cursor;
mod error;
mod tensor;
mod unique;
mod value;

pub use error::{ErrorContext, GgufError, Name};
pub use tensor::{TensorInfo, ggml_type_name};
pub use value::{GgufArray, GgufValue, Strings, ValueKind};

use crate::family::Shapes;
use crate::meta::{Metadata, Value};
use core::fmt;
use cursor::Cursor;
use unique::Clash;
use value::Skips;

/// Maximum number of keys in a file; models have a few dozen. Bounds the time of the duplicate
/// check.
pub const MAX_KEYS: usize = 4096;
/// Maximum number of tensors in a file; the largest models have a few thousand. Bounds the time of
/// the duplicate check.
pub const MAX_TENSORS: usize = 65536;
/// Maximum length of a key or tensor name in bytes; ggml itself allows 63 for a tensor name.
pub const MAX_NAME: usize = 256;

/// Alignment of tensor data in files without the key `general.alignment`.
pub const DEFAULT_ALIGNMENT: u32 = 32;

/// The key that holds the alignment of tensor data.
pub const ALIGNMENT_KEY: &str = "general.alignment";

/// Number of bytes before the first key.
const HEADER: usize = 4 + 4 + 8 + 8;

/// A parsed and validated GGUF file.
///
/// Lookups scan the keys or tensors linearly, which takes microseconds: the few large arrays
/// (vocabularies) are skipped without visiting their elements.
///
/// ```
/// use teff_graph::gguf::{Gguf, GgufValue};
///
/// // Version 3, no tensors, one key: `general.architecture` = "gpt2" (type 8, a string).
/// let mut file = Vec::from(b"GGUF\x03\0\0\0");
/// file.extend_from_slice(&0u64.to_le_bytes());
/// file.extend_from_slice(&1u64.to_le_bytes());
/// file.extend_from_slice(&20u64.to_le_bytes());
/// file.extend_from_slice(b"general.architecture\x08\0\0\0");
/// file.extend_from_slice(&4u64.to_le_bytes());
/// file.extend_from_slice(b"gpt2");
///
/// let gguf = Gguf::parse(&file)?;
/// assert_eq!(gguf.value("general.architecture"), Some(GgufValue::Str("gpt2")));
/// assert_eq!(gguf.n_tensors(), 0);
/// # Ok::<(), teff_graph::gguf::GgufError>(())
/// ```
#[derive(Clone, Copy)]
pub struct Gguf<'a> {
    file: &'a [u8],
    version: u32,
    alignment: u32,
    n_keys: usize,
    n_tensors: usize,
    /// Offset of the tensor descriptions.
    infos: usize,
    /// Offset of the data section.
    section: u64,
    skips: Skips,
}

impl<'a> Gguf<'a> {
    /// Parses and validates a whole file: the header, every key, the bounds of every value, every
    /// tensor description and the bounds of its data.
    ///
    /// Takes time linear in the bytes before the data section (a vocabulary of 150,000 tokens takes
    /// a millisecond), apart from the duplicate check, which the limits on names bound to a few
    /// seconds for the worst possible file.
    ///
    /// # Errors
    /// [`GgufError`] names the cause and its offset.
    pub fn parse(file: &'a [u8]) -> Result<Gguf<'a>, GgufError> {
        let mut c = Cursor::new(file, 0);
        let header = || ErrorContext::Header;
        let found = c.array(header)?;
        if &found != b"GGUF" {
            return Err(GgufError::BadMagic { found });
        }
        let version = c.u32(header)?;
        match version {
            2 | 3 => {}
            // A small version number, byte-swapped.
            v if v != 0 && v & 0xffff == 0 => return Err(GgufError::BigEndian),
            _ => return Err(GgufError::Version { version }),
        }
        let (count_tensors, count_keys) = (c.u64(header)?, c.u64(header)?);
        // A key takes at least its length, one byte, the type and a one-byte value.
        let room = c.left() as u64 / (8 + 1 + 4 + 1);
        let n_keys = usize::try_from(count_keys)
            .ok()
            .filter(|_| count_keys <= room)
            .ok_or(GgufError::KeysBeyondFile { count: count_keys, room })?;
        if n_keys > MAX_KEYS {
            return Err(GgufError::TooManyKeys { count: count_keys });
        }
        let room = c.left() as u64 / tensor::MIN_BYTES;
        let n_tensors = usize::try_from(count_tensors)
            .ok()
            .filter(|_| count_tensors <= room)
            .ok_or(GgufError::TensorsBeyondFile { count: count_tensors, room })?;
        if n_tensors > MAX_TENSORS {
            return Err(GgufError::TooManyTensors { count: count_tensors });
        }

        let mut skips = Skips::default();
        let mut alignment = DEFAULT_ALIGNMENT;
        for index in 0..n_keys {
            let key = read_key(&mut c, index)?;
            let raw = value::Raw::read(&mut c, key, &Skips::default())?;
            let value = raw.check(key)?;
            if let Some((start, end)) = raw.string_array() {
                skips.remember(start, end);
            }
            if key == ALIGNMENT_KEY.as_bytes() {
                alignment = match value {
                    GgufValue::U32(v) if v.is_power_of_two() => v,
                    GgufValue::U32(value) => return Err(GgufError::Alignment { value }),
                    _ => return Err(GgufError::AlignmentType { found: value.kind() }),
                };
            }
        }
        let infos = c.at();
        for index in 0..n_tensors {
            tensor::Raw::read(&mut c, index)?;
        }
        // Doesn't overflow: a slice is shorter than 2^63, and an alignment is at most 2^31.
        let section = (c.at() as u64).next_multiple_of(u64::from(alignment));
        let gguf = Gguf { file, version, alignment, n_keys, n_tensors, infos, section, skips };
        gguf.check_names()?;
        for raw in gguf.raw_tensors() {
            raw.resolve(file, section, alignment)?;
        }
        Ok(gguf)
    }

    /// Checks that no key and no tensor name occurs twice.
    fn check_names(&self) -> Result<(), GgufError> {
        let keys = || self.raw_keys().map(|k| k.key);
        unique::check(self.n_keys, keys).map_err(|clash| {
            let (Clash::Duplicate(index) | Clash::Hostile(index)) = clash;
            let raw = self.raw_keys().nth(index);
            let (key, at) = raw.map_or((Name::new(b""), 0), |k| (Name::new(k.key), k.at));
            match clash {
                Clash::Duplicate(_) => GgufError::DuplicateKey { key, at },
                Clash::Hostile(_) => GgufError::HostileNames { name: key, at },
            }
        })?;
        let tensors = || self.raw_tensors().map(|t| t.name);
        unique::check(self.n_tensors, tensors).map_err(|clash| {
            let (Clash::Duplicate(index) | Clash::Hostile(index)) = clash;
            let raw = self.raw_tensors().nth(index);
            let (tensor, at) = raw.map_or((Name::new(b""), 0), |t| (Name::new(t.name), t.at));
            match clash {
                Clash::Duplicate(_) => GgufError::DuplicateTensor { tensor, at },
                Clash::Hostile(_) => GgufError::HostileNames { name: tensor, at },
            }
        })
    }

    /// The format's version, 2 or 3.
    #[must_use]
    pub fn version(&self) -> u32 {
        self.version
    }

    /// The alignment of tensor data in bytes, a power of two.
    #[must_use]
    pub fn alignment(&self) -> usize {
        self.alignment as usize
    }

    /// The number of keys.
    #[must_use]
    pub fn n_keys(&self) -> usize {
        self.n_keys
    }

    /// The number of tensors.
    #[must_use]
    pub fn n_tensors(&self) -> usize {
        self.n_tensors
    }

    /// All keys and values, in file order.
    pub fn metadata(&self) -> impl Iterator<Item = (&'a str, GgufValue<'a>)> + Clone + use<'a> {
        // Nothing is left out: `parse` checked every key.
        self.raw_keys().map_while(|k| Some((str::from_utf8(k.key).ok()?, k.value.value()?)))
    }

    /// All tensors, in file order.
    pub fn tensors(&self) -> impl Iterator<Item = TensorInfo<'a>> + Clone + use<'a> {
        let (file, section, alignment) = (self.file, self.section, self.alignment);
        // Nothing is left out: `parse` checked every tensor.
        self.raw_tensors().map_while(move |t| t.resolve(file, section, alignment).ok())
    }

    /// The value of `key`.
    #[must_use]
    pub fn value(&self, key: &str) -> Option<GgufValue<'a>> {
        self.raw_keys().find(|k| k.key == key.as_bytes())?.value.value()
    }

    /// The tensor named `name`.
    #[must_use]
    pub fn tensor(&self, name: &str) -> Option<TensorInfo<'a>> {
        let raw = self.raw_tensors().find(|t| t.name == name.as_bytes())?;
        raw.resolve(self.file, self.section, self.alignment).ok()
    }

    fn raw_keys(&self) -> RawKeys<'a> {
        RawKeys { c: Cursor::new(self.file, HEADER), index: 0, n: self.n_keys, skips: self.skips }
    }

    fn raw_tensors(&self) -> RawTensors<'a> {
        RawTensors { c: Cursor::new(self.file, self.infos), index: 0, n: self.n_tensors }
    }
}

impl fmt::Debug for Gguf<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gguf")
            .field("version", &self.version)
            .field("keys", &self.n_keys)
            .field("tensors", &self.n_tensors)
            .field("bytes", &self.file.len())
            .finish_non_exhaustive()
    }
}

/// The first dimension is the columns, the product of the others the rows. Each call scans the names
/// of the file.
impl Shapes for Gguf<'_> {
    fn shape(&self, name: &str) -> Option<(usize, usize)> {
        self.tensor(name).map(|t| (t.rows(), t.cols()))
    }
}

impl Metadata for Gguf<'_> {
    fn get(&self, key: &str) -> Option<Value<'_>> {
        let signed = |v: i64| u64::try_from(v).map_or(Value::Int(v), Value::Uint);
        Some(match self.value(key)? {
            GgufValue::U8(v) => Value::Uint(v.into()),
            GgufValue::U16(v) => Value::Uint(v.into()),
            GgufValue::U32(v) => Value::Uint(v.into()),
            GgufValue::U64(v) => Value::Uint(v),
            GgufValue::I8(v) => signed(v.into()),
            GgufValue::I16(v) => signed(v.into()),
            GgufValue::I32(v) => signed(v.into()),
            GgufValue::I64(v) => signed(v),
            GgufValue::F32(v) => Value::Float(v.into()),
            GgufValue::F64(v) => Value::Float(v),
            GgufValue::Bool(v) => Value::Bool(v),
            GgufValue::Str(v) => Value::Str(v),
            GgufValue::Array(_) => Value::Other,
        })
    }

    fn item(&self, key: &str, index: usize) -> Option<Value<'_>> {
        let GgufValue::Array(array) = self.value(key)? else { return None };
        if let Some(mut bools) = array.bools() {
            return bools.nth(index).map(Value::Bool);
        }
        if let Some(mut floats) = array.f32s() {
            return floats.nth(index).map(|x| Value::Float(x.into()));
        }
        if let Some(mut floats) = array.f64s() {
            return floats.nth(index).map(Value::Float);
        }
        let v = array.integers()?.nth(index)?;
        Some(u64::try_from(v).map_or(Value::Int(v), Value::Uint))
    }
}

/// A key and the extent of its value.
#[derive(Clone, Copy)]
struct RawKey<'a> {
    key: &'a [u8],
    at: usize,
    value: value::Raw<'a>,
}

/// Iterator over the keys of a checked file, or over those checked so far.
#[derive(Clone)]
struct RawKeys<'a> {
    c: Cursor<'a>,
    index: usize,
    n: usize,
    skips: Skips,
}

impl<'a> Iterator for RawKeys<'a> {
    type Item = RawKey<'a>;

    fn next(&mut self) -> Option<RawKey<'a>> {
        if self.index == self.n {
            return None;
        }
        let at = self.c.at();
        let key = self.c.string(|| ErrorContext::Key(self.index)).ok()?;
        let value = value::Raw::read(&mut self.c, key, &self.skips).ok()?;
        self.index += 1;
        Some(RawKey { key, at, value })
    }
}

/// Iterator over the tensor descriptions.
#[derive(Clone)]
struct RawTensors<'a> {
    c: Cursor<'a>,
    index: usize,
    n: usize,
}

impl<'a> Iterator for RawTensors<'a> {
    type Item = tensor::Raw<'a>;

    fn next(&mut self) -> Option<tensor::Raw<'a>> {
        if self.index == self.n {
            return None;
        }
        let raw = tensor::Raw::read(&mut self.c, self.index).ok()?;
        self.index += 1;
        Some(raw)
    }
}

/// Reads and checks the key at `index`, which starts at the cursor.
fn read_key<'a>(c: &mut Cursor<'a>, index: usize) -> Result<&'a [u8], GgufError> {
    let at = c.at();
    let key = c.string(|| ErrorContext::Key(index))?;
    if key.is_empty() {
        return Err(GgufError::EmptyKey { index, at });
    }
    if key.len() > MAX_NAME {
        return Err(GgufError::KeyTooLong { key: Name::new(key), len: key.len(), at });
    }
    if str::from_utf8(key).is_err() {
        return Err(GgufError::KeyNotUtf8 { key: Name::new(key), at });
    }
    Ok(key)
}
