//! Storage formats of weights: GGUF type ids, block lengths and block sizes.

use core::fmt;

/// How the elements of a weight matrix are stored.
///
/// Formats with a block length above 1 keep a row as `cols / block_len` blocks one after another.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Format {
    /// IEEE binary32, little-endian.
    F32,
    /// IEEE binary16, little-endian.
    F16,
    /// The upper half of an f32, little-endian.
    BF16,
    /// 32 codes of 8 bits and one f16 scale: `x = d * q`.
    Q8_0,
    /// 32 codes of 4 bits and one f16 scale: `x = d * (q - 8)`.
    Q4_0,
}

impl Format {
    /// All formats, in the order of their GGUF type ids.
    pub const ALL: [Format; 5] =
        [Format::F32, Format::F16, Format::Q4_0, Format::Q8_0, Format::BF16];

    /// The format with this GGUF (ggml) type id, if Teff has it.
    #[must_use]
    pub const fn from_gguf(id: u32) -> Option<Format> {
        Some(match id {
            0 => Format::F32,
            1 => Format::F16,
            2 => Format::Q4_0,
            8 => Format::Q8_0,
            30 => Format::BF16,
            _ => return None,
        })
    }

    /// The GGUF (ggml) type id.
    #[must_use]
    pub const fn gguf_id(self) -> u32 {
        match self {
            Format::F32 => 0,
            Format::F16 => 1,
            Format::Q4_0 => 2,
            Format::Q8_0 => 8,
            Format::BF16 => 30,
        }
    }

    /// The name that GGUF tools print, such as `Q8_0`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Format::F32 => "F32",
            Format::F16 => "F16",
            Format::BF16 => "BF16",
            Format::Q8_0 => "Q8_0",
            Format::Q4_0 => "Q4_0",
        }
    }

    /// The format of this name, in any case.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Format> {
        Format::ALL.into_iter().find(|f| f.name().eq_ignore_ascii_case(name))
    }

    /// Elements in a block; 1 for the dense formats.
    #[must_use]
    pub const fn block_len(self) -> usize {
        match self {
            Format::F32 | Format::F16 | Format::BF16 => 1,
            Format::Q8_0 | Format::Q4_0 => 32,
        }
    }

    /// Bytes of a block.
    #[must_use]
    pub const fn block_bytes(self) -> usize {
        match self {
            Format::F32 => 4,
            Format::F16 | Format::BF16 => 2,
            Format::Q8_0 => 34,
            Format::Q4_0 => 18,
        }
    }

    /// Bytes of a row of `cols` elements; `None` where `cols` is not a whole number of blocks
    /// or the size overflows.
    #[must_use]
    pub const fn row_bytes(self, cols: usize) -> Option<usize> {
        if !cols.is_multiple_of(self.block_len()) {
            return None;
        }
        (cols / self.block_len()).checked_mul(self.block_bytes())
    }

    /// Whether products use activations quantised to int8 ([`crate::Q8Acts`]); the dense formats
    /// use f32 activations.
    #[must_use]
    pub const fn is_quantized(self) -> bool {
        self.block_len() > 1
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
