//! The types of elements that a SafeTensors file may have.

use std::fmt;

use teff_kernels::Format;

/// A type of elements, by the names of the format's description.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
#[non_exhaustive]
pub enum Dtype {
    /// A truth value in a byte.
    Bool,
    /// Unsigned, 8 bits.
    U8,
    /// Signed, 8 bits.
    I8,
    /// Float of 5 bits exponent, 2 bits mantissa.
    F8E5M2,
    /// Float of 4 bits exponent, 3 bits mantissa.
    F8E4M3,
    /// A power of two: 8 bits exponent.
    F8E8M0,
    /// Float of 4 bits, two in a byte.
    F4,
    /// Float of 2 bits exponent, 3 bits mantissa.
    F6E2M3,
    /// Float of 3 bits exponent, 2 bits mantissa.
    F6E3M2,
    /// Unsigned, 16 bits.
    U16,
    /// Signed, 16 bits.
    I16,
    /// IEEE binary16.
    F16,
    /// The upper half of an f32.
    BF16,
    /// Unsigned, 32 bits.
    U32,
    /// Signed, 32 bits.
    I32,
    /// IEEE binary32.
    F32,
    /// Unsigned, 64 bits.
    U64,
    /// Signed, 64 bits.
    I64,
    /// IEEE binary64.
    F64,
    /// A complex number of two f32.
    C64,
}

/// Types, names and bits of an element.
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
    /// The type of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Dtype> {
        TABLE.iter().find(|t| t.1 == name).map(|t| t.0)
    }

    /// The name in files.
    #[must_use]
    pub fn name(self) -> &'static str {
        TABLE[self as usize].1
    }

    /// Bits of an element.
    #[must_use]
    pub fn bits(self) -> u8 {
        TABLE[self as usize].2
    }

    /// The format of weights of this type, if Teff has it.
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
