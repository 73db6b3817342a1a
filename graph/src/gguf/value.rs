//! Metadata values: scalars, strings and arrays.

use super::cursor::Cursor;
use super::error::{ErrorContext, GgufError, Name};
use core::fmt;
use core::str::Utf8Error;

/// The type of a value or of an array's elements; the discriminants are GGUF's type ids.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum ValueKind {
    /// Unsigned 8-bit integer.
    U8 = 0,
    /// Signed 8-bit integer.
    I8 = 1,
    /// Unsigned 16-bit integer.
    U16 = 2,
    /// Signed 16-bit integer.
    I16 = 3,
    /// Unsigned 32-bit integer.
    U32 = 4,
    /// Signed 32-bit integer.
    I32 = 5,
    /// IEEE binary32.
    F32 = 6,
    /// Boolean: a byte that is 0 or 1.
    Bool = 7,
    /// String: a length and bytes.
    Str = 8,
    /// Array: an element type, a count and elements.
    Array = 9,
    /// Unsigned 64-bit integer.
    U64 = 10,
    /// Signed 64-bit integer.
    I64 = 11,
    /// IEEE binary64.
    F64 = 12,
}

impl ValueKind {
    /// All types, indexed by id.
    pub const ALL: [ValueKind; 13] = [
        ValueKind::U8,
        ValueKind::I8,
        ValueKind::U16,
        ValueKind::I16,
        ValueKind::U32,
        ValueKind::I32,
        ValueKind::F32,
        ValueKind::Bool,
        ValueKind::Str,
        ValueKind::Array,
        ValueKind::U64,
        ValueKind::I64,
        ValueKind::F64,
    ];

    /// The type with this GGUF id.
    #[must_use]
    pub fn from_id(id: u32) -> Option<ValueKind> {
        Self::ALL.get(usize::try_from(id).ok()?).copied()
    }

    /// The GGUF id.
    #[must_use]
    pub const fn id(self) -> u32 {
        self as u32
    }

    /// Size of a scalar in bytes; `None` for strings and arrays.
    #[must_use]
    pub const fn size(self) -> Option<usize> {
        Some(match self {
            ValueKind::U8 | ValueKind::I8 | ValueKind::Bool => 1,
            ValueKind::U16 | ValueKind::I16 => 2,
            ValueKind::U32 | ValueKind::I32 | ValueKind::F32 => 4,
            ValueKind::U64 | ValueKind::I64 | ValueKind::F64 => 8,
            ValueKind::Str | ValueKind::Array => return None,
        })
    }
}

impl fmt::Display for ValueKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ValueKind::U8 => "u8",
            ValueKind::I8 => "i8",
            ValueKind::U16 => "u16",
            ValueKind::I16 => "i16",
            ValueKind::U32 => "u32",
            ValueKind::I32 => "i32",
            ValueKind::F32 => "f32",
            ValueKind::Bool => "bool",
            ValueKind::Str => "string",
            ValueKind::Array => "array",
            ValueKind::U64 => "u64",
            ValueKind::I64 => "i64",
            ValueKind::F64 => "f64",
        })
    }
}

/// The value of a key.
#[derive(Clone, Copy, PartialEq, Debug)]
#[non_exhaustive]
pub enum GgufValue<'a> {
    /// Unsigned 8-bit integer.
    U8(u8),
    /// Signed 8-bit integer.
    I8(i8),
    /// Unsigned 16-bit integer.
    U16(u16),
    /// Signed 16-bit integer.
    I16(i16),
    /// Unsigned 32-bit integer.
    U32(u32),
    /// Signed 32-bit integer.
    I32(i32),
    /// IEEE binary32; may be infinite or NaN.
    F32(f32),
    /// Boolean.
    Bool(bool),
    /// String.
    Str(&'a str),
    /// Array of elements of one type.
    Array(GgufArray<'a>),
    /// Unsigned 64-bit integer.
    U64(u64),
    /// Signed 64-bit integer.
    I64(i64),
    /// IEEE binary64; may be infinite or NaN.
    F64(f64),
}

impl GgufValue<'_> {
    /// The value's type.
    #[must_use]
    pub fn kind(&self) -> ValueKind {
        match self {
            GgufValue::U8(_) => ValueKind::U8,
            GgufValue::I8(_) => ValueKind::I8,
            GgufValue::U16(_) => ValueKind::U16,
            GgufValue::I16(_) => ValueKind::I16,
            GgufValue::U32(_) => ValueKind::U32,
            GgufValue::I32(_) => ValueKind::I32,
            GgufValue::F32(_) => ValueKind::F32,
            GgufValue::Bool(_) => ValueKind::Bool,
            GgufValue::Str(_) => ValueKind::Str,
            GgufValue::Array(_) => ValueKind::Array,
            GgufValue::U64(_) => ValueKind::U64,
            GgufValue::I64(_) => ValueKind::I64,
            GgufValue::F64(_) => ValueKind::F64,
        }
    }
}

/// An array borrowed from the file; the elements need no alignment.
///
/// Two arrays are equal if their element types and bytes are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GgufArray<'a> {
    elem: ValueKind,
    len: usize,
    bytes: &'a [u8],
}

/// Defines the accessor for an array of one numeric type.
macro_rules! numbers {
    ($($name:ident $type:ident $kind:ident)*) => {$(
        #[doc = concat!("The elements of an array of ", stringify!($type), "; `None` for others.")]
        #[must_use]
        pub fn $name(&self) -> Option<impl ExactSizeIterator<Item = $type> + Clone + use<'a>> {
            (self.elem == ValueKind::$kind)
                .then(|| self.bytes.as_chunks().0.iter().map(|b| $type::from_le_bytes(*b)))
        }
    )*};
}

impl<'a> GgufArray<'a> {
    /// The element type.
    #[must_use]
    pub fn elem(&self) -> ValueKind {
        self.elem
    }

    /// The number of elements.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// True if the array has no elements.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The elements as stored in the file: little-endian, each string preceded by its u64 length.
    #[must_use]
    pub fn as_bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The elements of an array of strings; `None` for other types. Tokens may be arbitrary bytes,
    /// not only UTF-8.
    #[must_use]
    pub fn strings(&self) -> Option<Strings<'a>> {
        (self.elem == ValueKind::Str).then_some(Strings { left: self.len, bytes: self.bytes })
    }

    /// [`GgufArray::strings`] as `str`, with an error for each string that is not UTF-8.
    #[must_use]
    pub fn texts(
        &self,
    ) -> Option<impl ExactSizeIterator<Item = Result<&'a str, Utf8Error>> + Clone + use<'a>> {
        self.strings().map(|s| s.map(str::from_utf8))
    }

    /// The elements of an array of booleans; `None` for other types.
    #[must_use]
    pub fn bools(&self) -> Option<impl ExactSizeIterator<Item = bool> + Clone + use<'a>> {
        (self.elem == ValueKind::Bool).then(|| self.bytes.iter().map(|&b| b != 0))
    }

    /// The elements of an array of integers of any type, each saturated to i64; `None` for other
    /// types.
    #[must_use]
    pub fn integers(&self) -> Option<impl ExactSizeIterator<Item = i64> + Clone + use<'a>> {
        use ValueKind as K;
        let size = match self.elem {
            K::U8 | K::I8 | K::U16 | K::I16 | K::U32 | K::I32 | K::U64 | K::I64 => {
                self.elem.size()?
            }
            _ => return None,
        };
        let signed = matches!(self.elem, K::I8 | K::I16 | K::I32 | K::I64);
        Some(self.bytes.chunks_exact(size).map(move |bytes| {
            let negative = signed && bytes.last().is_some_and(|b| b & 0x80 != 0);
            let mut wide = [if negative { 0xff } else { 0 }; 8];
            wide[..size].copy_from_slice(bytes);
            if signed {
                i64::from_le_bytes(wide)
            } else {
                i64::try_from(u64::from_le_bytes(wide)).unwrap_or(i64::MAX)
            }
        }))
    }

    numbers! {
        u8s u8 U8   i8s i8 I8   u16s u16 U16   i16s i16 I16   u32s u32 U32   i32s i32 I32
        u64s u64 U64   i64s i64 I64   f32s f32 F32   f64s f64 F64
    }
}

/// Iterator over the strings of an array, returned by [`GgufArray::strings`].
#[derive(Clone, Debug)]
pub struct Strings<'a> {
    left: usize,
    bytes: &'a [u8],
}

impl<'a> Iterator for Strings<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        // All lengths were checked when the array was read.
        let (len, rest) = self.bytes.split_first_chunk()?;
        let (string, rest) = rest.split_at_checked(u64::from_le_bytes(*len).try_into().ok()?)?;
        self.bytes = rest;
        self.left = self.left.saturating_sub(1);
        Some(string)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Strings<'_> {}

/// Number of string arrays that [`Skips`] remembers.
const MAX_SKIPS: usize = 6;

/// Start and end offsets of the largest string arrays, so that lookups can skip them without
/// visiting their elements.
#[derive(Clone, Copy, Default)]
pub(super) struct Skips([(usize, usize); MAX_SKIPS]);

impl Skips {
    /// Remembers an array, replacing a smaller one.
    pub(super) fn remember(&mut self, start: usize, end: usize) {
        if let Some(least) = self.0.iter_mut().min_by_key(|(start, end)| end - start)
            && least.1 - least.0 < end - start
        {
            *least = (start, end);
        }
    }

    /// Length in bytes of the array whose elements start at `start`, if it is remembered.
    fn len_at(&self, start: usize) -> Option<usize> {
        self.0.iter().find(|(s, e)| *s == start && e > s).map(|(s, e)| e - s)
    }
}

/// A value whose extent is known but whose contents are unchecked.
#[derive(Clone, Copy)]
pub(super) struct Raw<'a> {
    kind: ValueKind,
    /// The element type of an array; the value's own type for anything else.
    elem: ValueKind,
    len: usize,
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Raw<'a> {
    /// Reads the type and finds the end of the value of `key`, which starts at the cursor.
    pub(super) fn read(
        c: &mut Cursor<'a>,
        key: &[u8],
        skips: &Skips,
    ) -> Result<Raw<'a>, GgufError> {
        let context = || ErrorContext::Value(Name::new(key));
        let kind = kind(c, key)?;
        if kind != ValueKind::Array {
            let (at, bytes) = match kind.size() {
                Some(size) => (
                    c.at(),
                    c.bytes(size as u64).ok_or_else(|| c.truncated(context(), size as u64))?,
                ),
                None => {
                    let bytes = c.string(context)?;
                    (c.at() - bytes.len(), bytes)
                }
            };
            return Ok(Raw { kind, elem: kind, len: 1, bytes, at });
        }
        let elem_at = c.at();
        let elem = self::kind(c, key)?;
        if elem == ValueKind::Array {
            return Err(GgufError::NestedArray { key: Name::new(key), at: elem_at });
        }
        let count = c.u64(context)?;
        let (start, at) = (*c, c.at());
        let beyond = || GgufError::ArrayBeyondFile {
            key: Name::new(key),
            elem,
            count,
            at,
            left: start.left() as u64,
        };
        // A string takes at least the 8 bytes of its length.
        let least = count.checked_mul(elem.size().unwrap_or(8) as u64).ok_or_else(beyond)?;
        if least > start.left() as u64 {
            return Err(beyond());
        }
        let bytes = if elem != ValueKind::Str {
            c.bytes(least).ok_or_else(beyond)?
        } else {
            let len = match skips.len_at(at) {
                Some(len) => len,
                None => {
                    let mut walk = *c;
                    for _ in 0..count {
                        walk.string(context)?;
                    }
                    walk.at() - at
                }
            };
            c.bytes(len as u64).ok_or_else(beyond)?
        };
        // Fits: there are at most as many elements as bytes.
        Ok(Raw { kind, elem, len: count as usize, bytes, at })
    }

    /// Start and end offsets of the elements, for an array of strings.
    pub(super) fn string_array(&self) -> Option<(usize, usize)> {
        (self.kind == ValueKind::Array && self.elem == ValueKind::Str)
            .then_some((self.at, self.at + self.bytes.len()))
    }

    /// The value, with its contents checked: strings are UTF-8, booleans are 0 or 1.
    pub(super) fn check(&self, key: &[u8]) -> Result<GgufValue<'a>, GgufError> {
        if self.elem == ValueKind::Bool
            && let Some(i) = self.bytes.iter().position(|&b| b > 1)
        {
            let (key, value) = (Name::new(key), self.bytes[i]);
            return Err(GgufError::BadBool { key, value, at: self.at + i });
        }
        // A non-UTF-8 string is the only remaining error.
        self.value().ok_or_else(|| GgufError::ValueNotUtf8 { key: Name::new(key), at: self.at })
    }

    /// The value; `None` for a string that is not UTF-8, which [`Raw::check`] reports.
    pub(super) fn value(&self) -> Option<GgufValue<'a>> {
        /// The bytes of a scalar; `bytes` has the length given by [`ValueKind::size`].
        fn scalar<const N: usize>(bytes: &[u8]) -> Option<[u8; N]> {
            bytes.try_into().ok()
        }
        let b = self.bytes;
        Some(match self.kind {
            ValueKind::U8 => GgufValue::U8(u8::from_le_bytes(scalar(b)?)),
            ValueKind::I8 => GgufValue::I8(i8::from_le_bytes(scalar(b)?)),
            ValueKind::U16 => GgufValue::U16(u16::from_le_bytes(scalar(b)?)),
            ValueKind::I16 => GgufValue::I16(i16::from_le_bytes(scalar(b)?)),
            ValueKind::U32 => GgufValue::U32(u32::from_le_bytes(scalar(b)?)),
            ValueKind::I32 => GgufValue::I32(i32::from_le_bytes(scalar(b)?)),
            ValueKind::F32 => GgufValue::F32(f32::from_le_bytes(scalar(b)?)),
            ValueKind::Bool => GgufValue::Bool(scalar::<1>(b)? != [0]),
            ValueKind::Str => GgufValue::Str(str::from_utf8(b).ok()?),
            ValueKind::Array => {
                GgufValue::Array(GgufArray { elem: self.elem, len: self.len, bytes: b })
            }
            ValueKind::U64 => GgufValue::U64(u64::from_le_bytes(scalar(b)?)),
            ValueKind::I64 => GgufValue::I64(i64::from_le_bytes(scalar(b)?)),
            ValueKind::F64 => GgufValue::F64(f64::from_le_bytes(scalar(b)?)),
        })
    }
}

/// Reads a type id.
fn kind(c: &mut Cursor<'_>, key: &[u8]) -> Result<ValueKind, GgufError> {
    let at = c.at();
    let id = c.u32(|| ErrorContext::Value(Name::new(key)))?;
    ValueKind::from_id(id).ok_or_else(|| GgufError::UnknownValueType {
        key: Name::new(key),
        id,
        at,
    })
}
