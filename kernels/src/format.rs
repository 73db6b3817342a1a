//! Storage formats of weights: GGUF type ids, block lengths and block sizes.

use core::fmt;

/// How the elements of a weight matrix are stored.
///
/// Formats with a block length above 1 keep a row as `cols / block_len` blocks one after another.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
#[allow(non_camel_case_types)] // the names of GGUF
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
    /// 32 codes of 4 bits, an f16 scale and an f16 minimum: `x = d * q + m`.
    Q4_1,
    /// 32 codes of 5 bits and one f16 scale: `x = d * (q - 16)`.
    Q5_0,
    /// 32 codes of 5 bits, an f16 scale and an f16 minimum: `x = d * q + m`.
    Q5_1,
    /// 256 codes of 2 bits; scales and minimums of 4 bits for every 16.
    Q2_K,
    /// 256 codes of 3 bits; signed scales of 6 bits for every 16.
    Q3_K,
    /// 256 codes of 4 bits; scales and minimums of 6 bits for every 32.
    Q4_K,
    /// 256 codes of 5 bits; scales and minimums of 6 bits for every 32.
    Q5_K,
    /// 256 codes of 6 bits; signed scales of 8 bits for every 16.
    Q6_K,
    /// 256 weights of -1, 0 and 1, five to a byte, and one f16 scale.
    TQ1_0,
    /// 256 weights of -1, 0 and 1, two bits each, and one f16 scale.
    TQ2_0,
    /// 128 weights of -1, 0 and 1, two bits each. The scale is the tensor's: an f32 behind all rows
    /// ([`Format::trailer_bytes`]).
    I2_S,
}

/// What products of a format's weights take as inputs.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ActivationKind {
    /// f32 ([`crate::DenseActivations`]).
    Dense,
    /// int8 (or 16 bits), a scale for every 32 ([`crate::Q8Activations`]).
    Q8,
    /// int8, a scale for every 256 ([`crate::WideActivations`]).
    Wide,
}

impl Format {
    /// All formats, in the order of their GGUF type ids.
    pub const ALL: [Format; 16] = [
        Format::F32,
        Format::F16,
        Format::Q4_0,
        Format::Q4_1,
        Format::Q5_0,
        Format::Q5_1,
        Format::Q8_0,
        Format::Q2_K,
        Format::Q3_K,
        Format::Q4_K,
        Format::Q5_K,
        Format::Q6_K,
        Format::BF16,
        Format::TQ1_0,
        Format::TQ2_0,
        Format::I2_S,
    ];

    /// What is known of each: GGUF (ggml) type id, name, elements and bytes of a block.
    const fn facts(self) -> (u32, &'static str, usize, usize) {
        match self {
            Format::F32 => (0, "F32", 1, 4),
            Format::F16 => (1, "F16", 1, 2),
            Format::Q4_0 => (2, "Q4_0", 32, 18),
            Format::Q4_1 => (3, "Q4_1", 32, 20),
            Format::Q5_0 => (6, "Q5_0", 32, 22),
            Format::Q5_1 => (7, "Q5_1", 32, 24),
            Format::Q8_0 => (8, "Q8_0", 32, 34),
            Format::Q2_K => (10, "Q2_K", 256, 84),
            Format::Q3_K => (11, "Q3_K", 256, 110),
            Format::Q4_K => (12, "Q4_K", 256, 144),
            Format::Q5_K => (13, "Q5_K", 256, 176),
            Format::Q6_K => (14, "Q6_K", 256, 210),
            Format::BF16 => (30, "BF16", 1, 2),
            Format::TQ1_0 => (34, "TQ1_0", 256, 54),
            Format::TQ2_0 => (35, "TQ2_0", 256, 66),
            // The number and the layout of BitNet's published files.
            Format::I2_S => (36, "I2_S", 128, 32),
        }
    }

    /// Whether this program has the format: its family's feature (`legacy-quants`, `k-quants`,
    /// `ternary`) was on when it was built. Dense formats are always there.
    #[must_use]
    #[allow(clippy::match_like_matches_macro)] // with every family left out
    pub const fn is_built(self) -> bool {
        match self.facts().0 {
            2..=9 => cfg!(feature = "legacy-quants"),
            10..=14 => cfg!(feature = "k-quants"),
            34..=36 => cfg!(feature = "ternary"),
            _ => true,
        }
    }

    /// The format with this GGUF (ggml) type id, if this program has it.
    #[must_use]
    pub const fn from_gguf(id: u32) -> Option<Format> {
        let mut i = 0;
        while i < Format::ALL.len() {
            if Format::ALL[i].gguf_id() == id && Format::ALL[i].is_built() {
                return Some(Format::ALL[i]);
            }
            i += 1;
        }
        None
    }

    /// The GGUF (ggml) type id.
    #[must_use]
    pub const fn gguf_id(self) -> u32 {
        self.facts().0
    }

    /// The name that GGUF tools print, such as `Q8_0`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.facts().1
    }

    /// The format of this name, in any case, if this program has it.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Format> {
        let mut built = Format::ALL.into_iter().filter(|f| f.is_built());
        built.find(|f| f.name().eq_ignore_ascii_case(name))
    }

    /// Elements in a block; 1 for the dense formats.
    #[must_use]
    pub const fn block_len(self) -> usize {
        self.facts().2
    }

    /// Bytes of a block.
    #[must_use]
    pub const fn block_bytes(self) -> usize {
        self.facts().3
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

    /// Bytes that a tensor has behind its rows: 32 in I2_S, of which the first four are the
    /// tensor's scale (f32, little-endian); otherwise none.
    #[must_use]
    pub const fn trailer_bytes(self) -> usize {
        match self {
            Format::I2_S => 32,
            _ => 0,
        }
    }

    /// Bytes of a tensor of `rows` rows of `cols` elements, with its trailer; `None` where
    /// [`Format::row_bytes`] is, or the size overflows.
    #[must_use]
    pub const fn tensor_bytes(self, rows: usize, cols: usize) -> Option<usize> {
        let row = match self.row_bytes(cols) {
            Some(row) => row,
            None => return None,
        };
        match row.checked_mul(rows) {
            Some(all) => all.checked_add(self.trailer_bytes()),
            None => None,
        }
    }

    /// What products take as inputs.
    #[must_use]
    pub const fn activations(self) -> ActivationKind {
        match self {
            Format::F32 | Format::F16 | Format::BF16 => ActivationKind::Dense,
            Format::TQ1_0 | Format::TQ2_0 | Format::I2_S => ActivationKind::Wide,
            _ => ActivationKind::Q8,
        }
    }

    /// Whether products use activations quantised to int8 ([`Format::activations`] says in which
    /// way); the dense formats use f32 activations.
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
