//! Keys' values: scalars, text and arrays.

use super::cursor::Cursor;
use super::error::{ErrorContext, GgufError, Name};
use core::fmt;
use core::str::Utf8Error;

/// The type of a value, or of an array's elements; the discriminants are GGUF's ids.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum ValueKind {
    /// Unsigned, 8 bits.
    U8 = 0,
    /// Signed, 8 bits.
    I8 = 1,
    /// Unsigned, 16 bits.
    U16 = 2,
    /// Signed, 16 bits.
    I16 = 3,
    /// Unsigned, 32 bits.
    U32 = 4,
    /// Signed, 32 bits.
    I32 = 5,
    /// IEEE binary32.
    F32 = 6,
    /// A byte that is 0 or 1.
    Bool = 7,
    /// A length and bytes.
    Str = 8,
    /// A type, a count and elements.
    Array = 9,
    /// Unsigned, 64 bits.
    U64 = 10,
    /// Signed, 64 bits.
    I64 = 11,
    /// IEEE binary64.
    F64 = 12,
}

impl ValueKind {
    /// All kinds, each at the index that is its id.
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

    /// The kind with this GGUF id.
    #[must_use]
    pub fn from_id(id: u32) -> Option<ValueKind> {
        Self::ALL.get(usize::try_from(id).ok()?).copied()
    }

    /// The GGUF id.
    #[must_use]
    pub const fn id(self) -> u32 {
        self as u32
    }

    /// Bytes of a scalar; `None` for text and arrays.
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
    /// Unsigned, 8 bits.
    U8(u8),
    /// Signed, 8 bits.
    I8(i8),
    /// Unsigned, 16 bits.
    U16(u16),
    /// Signed, 16 bits.
    I16(i16),
    /// Unsigned, 32 bits.
    U32(u32),
    /// Signed, 32 bits.
    I32(i32),
    /// IEEE binary32; any value, infinities and NaN too.
    F32(f32),
    /// A truth value.
    Bool(bool),
    /// Text.
    Str(&'a str),
    /// Elements of one type.
    Array(GgufArray<'a>),
    /// Unsigned, 64 bits.
    U64(u64),
    /// Signed, 64 bits.
    I64(i64),
    /// IEEE binary64; any value, infinities and NaN too.
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

/// The elements of an array, read where they lie; they need no alignment.
///
/// Two arrays are equal where their types and bytes are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GgufArray<'a> {
    elem: ValueKind,
    len: usize,
    bytes: &'a [u8],
}

/// The method that reads an array of numbers of one type.
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
    /// The type of the elements.
    #[must_use]
    pub fn elem(&self) -> ValueKind {
        self.elem
    }

    /// The number of elements.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The elements as the file has them: little-endian, each string with its u64 length before it.
    #[must_use]
    pub fn as_bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The elements of an array of strings; `None` for others. Tokens may be any bytes, not only
    /// UTF-8.
    #[must_use]
    pub fn strings(&self) -> Option<Strings<'a>> {
        (self.elem == ValueKind::Str).then_some(Strings { left: self.len, bytes: self.bytes })
    }

    /// [`GgufArray::strings`] as text, each with an error where it is not UTF-8.
    #[must_use]
    pub fn texts(
        &self,
    ) -> Option<impl ExactSizeIterator<Item = Result<&'a str, Utf8Error>> + Clone + use<'a>> {
        self.strings().map(|s| s.map(str::from_utf8))
    }

    /// The elements of an array of truth values; `None` for others.
    #[must_use]
    pub fn bools(&self) -> Option<impl ExactSizeIterator<Item = bool> + Clone + use<'a>> {
        (self.elem == ValueKind::Bool).then(|| self.bytes.iter().map(|&b| b != 0))
    }

    /// The elements of an array of integers of any type, each saturated to i64; `None` for others.
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

/// The strings of an array; [`GgufArray::strings`] makes it.
#[derive(Clone, Debug)]
pub struct Strings<'a> {
    left: usize,
    bytes: &'a [u8],
}

impl<'a> Iterator for Strings<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        // All lengths were checked when the array was made.
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

/// How many arrays of strings [`Skips`] remembers.
const REMEMBERED: usize = 6;

/// Where the largest arrays of strings begin and end, so that a lookup can step over them without
/// walking through their elements.
#[derive(Clone, Copy, Default)]
pub(super) struct Skips([(usize, usize); REMEMBERED]);

impl Skips {
    /// Remembers an array, in the place of a smaller one.
    pub(super) fn remember(&mut self, start: usize, end: usize) {
        if let Some(least) = self.0.iter_mut().min_by_key(|(start, end)| end - start)
            && least.1 - least.0 < end - start
        {
            *least = (start, end);
        }
    }

    /// The bytes of the array whose elements begin at `start`, if it is remembered.
    fn len_at(&self, start: usize) -> Option<usize> {
        self.0.iter().find(|(s, e)| *s == start && e > s).map(|(s, e)| e - s)
    }
}

/// A value whose extent is known and whose contents are not checked yet.
#[derive(Clone, Copy)]
pub(super) struct Raw<'a> {
    kind: ValueKind,
    /// The elements' type; for what is no array, the value's.
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
        // It fits: at most as many elements as bytes.
        Ok(Raw { kind, elem, len: count as usize, bytes, at })
    }

    /// The offsets between which the elements lie, for an array of strings.
    pub(super) fn string_array(&self) -> Option<(usize, usize)> {
        (self.kind == ValueKind::Array && self.elem == ValueKind::Str)
            .then_some((self.at, self.at + self.bytes.len()))
    }

    /// The value, its contents checked: text is UTF-8, and a truth value is 0 or 1.
    pub(super) fn check(&self, key: &[u8]) -> Result<GgufValue<'a>, GgufError> {
        if self.elem == ValueKind::Bool
            && let Some(i) = self.bytes.iter().position(|&b| b > 1)
        {
            let (key, value) = (Name::new(key), self.bytes[i]);
            return Err(GgufError::BadBool { key, value, at: self.at + i });
        }
        // What is left to be wrong is text.
        self.value().ok_or_else(|| GgufError::ValueNotUtf8 { key: Name::new(key), at: self.at })
    }

    /// The value; `None` where [`Raw::check`] finds text that is not UTF-8.
    pub(super) fn value(&self) -> Option<GgufValue<'a>> {
        /// The bytes of a scalar; there are as many as [`ValueKind::size`] says.
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
