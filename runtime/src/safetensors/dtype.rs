//! Element types of SafeTensors files.

use std::fmt;

use teff_kernels::Format;

/// An element type, named as in the format's description.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
#[non_exhaustive]
pub enum Dtype {
    /// Boolean, one byte.
    Bool,
    /// Unsigned 8-bit integer.
    U8,
    /// Signed 8-bit integer.
    I8,
    /// 8-bit float: 5 exponent bits, 2 mantissa bits.
    F8E5M2,
    /// 8-bit float: 4 exponent bits, 3 mantissa bits.
    F8E4M3,
    /// Power of two: 8 exponent bits.
    F8E8M0,
    /// 4-bit float, two per byte.
    F4,
    /// 6-bit float: 2 exponent bits, 3 mantissa bits.
    F6E2M3,
    /// 6-bit float: 3 exponent bits, 2 mantissa bits.
    F6E3M2,
    /// Unsigned 16-bit integer.
    U16,
    /// Signed 16-bit integer.
    I16,
    /// IEEE binary16.
    F16,
    /// bfloat16: the upper half of an f32.
    BF16,
    /// Unsigned 32-bit integer.
    U32,
    /// Signed 32-bit integer.
    I32,
    /// IEEE binary32.
    F32,
    /// Unsigned 64-bit integer.
    U64,
    /// Signed 64-bit integer.
    I64,
    /// IEEE binary64.
    F64,
    /// Complex number of two f32.
    C64,
}

/// Element types with their names and sizes in bits.
const TABLE: [(Dtype, &str, u8); 20] = [
    (Dtype::Bool, "BOOL", 8),
    (Dtype::U8, "U8", 8),
    (Dtype::I8, "I8", 8),
    (Dtype::F8E5M2, "F8_E5M2", 8),
    (Dtype::F8E4M3, "F8_E4M3", 8),
    (Dtype::F8E8M0, "F8_E8M0", 8),
    (Dtype::F4, "F4", 4),
    (Dtype::F6E2M3, "F6_E2M3", 6),
    (Dtype::F6E3M2, "F6_E3M2", 6),
    (Dtype::U16, "U16", 16),
    (Dtype::I16, "I16", 16),
    (Dtype::F16, "F16", 16),
    (Dtype::BF16, "BF16", 16),
    (Dtype::U32, "U32", 32),
    (Dtype::I32, "I32", 32),
    (Dtype::F32, "F32", 32),
    (Dtype::U64, "U64", 64),
    (Dtype::I64, "I64", 64),
    (Dtype::F64, "F64", 64),
    (Dtype::C64, "C64", 64),
];

impl Dtype {
    /// The type with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Dtype> {
        TABLE.iter().find(|t| t.1 == name).map(|t| t.0)
    }

    /// The name used in files.
    #[must_use]
    pub fn name(self) -> &'static str {
        TABLE[self as usize].1
    }

    /// Size of an element in bits.
    #[must_use]
    pub fn bits(self) -> u8 {
        TABLE[self as usize].2
    }

    /// The weight format of this type, if Teff supports it.
    #[must_use]
    pub fn format(self) -> Option<Format> {
        Some(match self {
            Dtype::F32 => Format::F32,
            Dtype::F16 => Format::F16,
            Dtype::BF16 => Format::BF16,
            _ => return None,
        })
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_order() {
        for (i, (dtype, name, bits)) in TABLE.into_iter().enumerate() {
            assert_eq!(dtype as usize, i);
            assert_eq!(Dtype::from_name(name), Some(dtype));
            assert_eq!((dtype.name(), dtype.bits()), (name, bits));
            if let Some(f) = dtype.format() {
                assert_eq!((f.name(), f.block_bytes() * 8), (name, usize::from(bits)));
            }
        }
    }
}
