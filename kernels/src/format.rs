//! Storage formats of weights: GGUF type ids, block lengths and block sizes.

use core::fmt;

/// All formats, in one table, from which everything that lists them is made. [`Format`] has a doc of
/// each from here.
///
/// `formats!([then] args)` calls the macro `then` with `[args]` and three groups: `dense` (one float a
/// block, for [`crate::DenseActivations`]), `codes` (small integers with scales for every 16 or 32, for
/// [`crate::Q8Activations`]) and `ternary` (for [`crate::WideActivations`]). A line is: the name, also
/// GGUF's; its block in [`crate::blocks`]; the GGUF (ggml) type id; elements and bytes of a block; where
/// the block has its f16 fields (scales, then minimums); bytes behind the rows of a tensor; and what
/// must hold for it to be built.
///
/// A format without a block, or with one of another size or of another group's trait, doesn't compile
/// (`blocks/mod.rs`); nor does one that an instruction set lacks, since these take all of a group.
///
/// A minor version may add lines; groups and the columns of a line change with a major one only.
///
/// ```
/// macro_rules! names {
///     (
///         [$list:ident]
///         dense { $($dense:tt)* }
///         codes { $(
///             $(#[$doc:meta])* $name:ident $block:ident $id:literal $len:literal $bytes:literal
///             [$($at:tt)*] $trailer:literal $built:tt;
///         )* }
///         ternary { $($ternary:tt)* }
///     ) => {
///         let $list = [$((stringify!($name), $id, $bytes)),*];
///     };
/// }
/// teff_kernels::formats!([names] list);
/// assert!(list.contains(&("Q4_K", 12, 144)));
/// ```
#[macro_export]
macro_rules! formats {
    ([$($then:tt)*] $($args:tt)*) => {
        $($then)*! { [$($args)*]
        dense {
            /// IEEE binary32, little-endian.
            F32     F32     0   1   4   []          0   (all());
            /// IEEE binary16, little-endian.
            F16     F16     1   1   2   []          0   (all());
            /// The upper half of an f32, little-endian.
            BF16    Bf16    30  1   2   []          0   (all());
        }
        codes {
            /// 32 codes of 4 bits and one f16 scale: `x = d * (q - 8)`.
            Q4_0    Q4_0    2   32  18  [0]         0   (feature = "legacy-quants");
            /// 32 codes of 4 bits, an f16 scale and an f16 minimum: `x = d * q + m`.
            Q4_1    Q4_1    3   32  20  [0, 2]      0   (feature = "legacy-quants");
            /// 32 codes of 5 bits and one f16 scale: `x = d * (q - 16)`.
            Q5_0    Q5_0    6   32  22  [0]         0   (feature = "legacy-quants");
            /// 32 codes of 5 bits, an f16 scale and an f16 minimum: `x = d * q + m`.
            Q5_1    Q5_1    7   32  24  [0, 2]      0   (feature = "legacy-quants");
            /// 32 codes of 8 bits and one f16 scale: `x = d * q`.
            Q8_0    Q8_0    8   32  34  [0]         0   (feature = "legacy-quants");
            /// 256 codes of 2 bits; scales and minimums of 4 bits for every 16.
            Q2_K    Q2_K    10  256 84  [80, 82]    0   (feature = "k-quants");
            /// 256 codes of 3 bits; signed scales of 6 bits for every 16.
            Q3_K    Q3_K    11  256 110 [108]       0   (feature = "k-quants");
            /// 256 codes of 4 bits; scales and minimums of 6 bits for every 32.
            Q4_K    Q4_K    12  256 144 [0, 2]      0   (feature = "k-quants");
            /// 256 codes of 5 bits; scales and minimums of 6 bits for every 32.
            Q5_K    Q5_K    13  256 176 [0, 2]      0   (feature = "k-quants");
            /// 256 codes of 6 bits; signed scales of 8 bits for every 16.
            Q6_K    Q6_K    14  256 210 [208]       0   (feature = "k-quants");
            /// 32 codes of 4 bits for sixteen uneven steps, and one f16 scale: `x = d * VALUES[q]`.
            IQ4_NL  IQ4_NL  20  32  18  [0]         0   (feature = "i-quants");
            /// 256 codes of 4 bits for sixteen uneven steps; signed scales of 6 bits for every 32.
            IQ4_XS  IQ4_XS  23  256 136 [0]         0   (feature = "i-quants");
            /// 32 floats of 4 bits (E2M1) and one exponent of 8 bits (OCP's microscaling format).
            MXFP4   MXFP4   39  32  17  []          0   (feature = "fp4-quants");
            /// 64 floats of 4 bits (E2M1), with scales of 8 bits (E4M3) for every 16; the tensor may have a scale
            /// too, which is another tensor.
            NVFP4   NVFP4   40  64  36  []          0   (feature = "fp4-quants");
            /// 128 signs and one f16 scale.
            Q1_0    Q1_0    41  128 18  [0]         0   (feature = "low-bit-quants");
            /// 64 codes of 2 bits and one f16 scale: `x = d * (q - 1)`.
            Q2_0    Q2_0    42  64  18  [0]         0   (feature = "low-bit-quants");
            /// 256 codes of -1, 0 and 1 from a grid of eight, shifted by an eighth; scales for every 32.
            IQ1_S   IQ1_S   19  256 50  [0]         0   (feature = "codebook-quants");
            /// 256 codes of -1, 0 and 1 from a grid of eight, every eight shifted by an eighth; scales for every 16.
            IQ1_M   IQ1_M   29  256 56  []          0   (feature = "codebook-quants");
            /// 256 codes from a grid of eight with 256 entries; scales for every 32.
            IQ2_XXS IQ2_XXS 16  256 66  [0]         0   (feature = "codebook-quants");
            /// 256 codes from a grid of eight with 512 entries; scales for every 16.
            IQ2_XS  IQ2_XS  17  256 74  [0]         0   (feature = "codebook-quants");
            /// 256 codes from a grid of eight with 1024 entries; scales for every 16.
            IQ2_S   IQ2_S   22  256 82  [0]         0   (feature = "codebook-quants");
            /// 256 codes from a grid of four with 256 entries; scales for every 32.
            IQ3_XXS IQ3_XXS 18  256 98  [0]         0   (feature = "codebook-quants");
            /// 256 codes from a grid of four with 512 entries; scales for every 32.
            IQ3_S   IQ3_S   21  256 110 [0]         0   (feature = "codebook-quants");
        }
        ternary {
            /// 256 weights of -1, 0 and 1, five to a byte, and one f16 scale.
            TQ1_0   TQ1_0   34  256 54  [52]        0   (feature = "ternary");
            /// 256 weights of -1, 0 and 1, two bits each, and one f16 scale.
            TQ2_0   TQ2_0   35  256 66  [64]        0   (feature = "ternary");
            // The number and the layout of BitNet's published files.
            /// 128 weights of -1, 0 and 1, two bits each. The scale is the tensor's: an f32 behind all rows
            /// ([`Format::trailer_bytes`]).
            I2_S    I2_S    36  128 32  []          32  (feature = "ternary");
        }
        }
    };
}

/// Entry of the table.
struct Facts {
    gguf_id: u32,
    name: &'static str,
    block_len: usize,
    block_bytes: usize,
    f16_fields: &'static [usize],
    trailer: usize,
    is_built: bool,
    activations: ActivationKind,
}

macro_rules! declare {
    (
        []
        $($group:ident { $(
            $(#[$doc:meta])*
            $name:ident $block:ident $id:literal $len:literal $bytes:literal $fields:tt
            $trailer:literal $built:tt;
        )* })*
    ) => {
        /// Storage format of the elements of a weight matrix.
        ///
        /// Formats with a block length above 1 keep a row as `cols / block_len` blocks one after another.
        ///
        /// ```
        /// use teff_kernels::Format;
        ///
        /// let format = Format::from_name("q4_k").expect("a format");
        /// assert_eq!(Format::from_gguf(12), Some(format));
        /// assert_eq!((format.block_len(), format.block_bytes()), (256, 144));
        /// assert_eq!(format.row_bytes(512), Some(288));
        /// assert_eq!(format.row_bytes(500), None); // not whole blocks
        /// ```
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        #[non_exhaustive]
        #[allow(non_camel_case_types)] // the names of GGUF
        pub enum Format {
            $($($(#[$doc])* $name,)*)*
        }

        impl Format {
            /// All formats, in the order of their GGUF type ids.
            pub const ALL: [Format; [$($(Format::$name),*),*].len()] =
                by_id([$($(Format::$name),*),*]);

            const fn facts(self) -> Facts {
                match self {
                    $($(
                        Format::$name => Facts {
                            gguf_id: $id,
                            name: stringify!($name),
                            block_len: $len,
                            block_bytes: $bytes,
                            f16_fields: &$fields,
                            trailer: $trailer,
                            is_built: cfg! $built,
                            activations: activations!($group),
                        },
                    )*)*
                }
            }
        }
    };
}

/// Activations that the products of a group take.
macro_rules! activations {
    (dense) => {
        ActivationKind::Dense
    };
    (codes) => {
        ActivationKind::Q8
    };
    (ternary) => {
        ActivationKind::Wide
    };
}

formats!([declare]);

/// The same formats, sorted.
const fn by_id<const N: usize>(mut all: [Format; N]) -> [Format; N] {
    let mut sorted = 1;
    while sorted < N {
        let mut i = sorted;
        while i > 0 && all[i].gguf_id() < all[i - 1].gguf_id() {
            (all[i], all[i - 1]) = (all[i - 1], all[i]);
            i -= 1;
        }
        sorted += 1;
    }
    all
}

/// Inputs of the products of a format's weights.
///
/// The variants are complete: a new one would be a breaking change.
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
    /// True if this program has the format: its family's feature (`legacy-quants`, `k-quants`, `i-quants`,
    /// `codebook-quants`, `low-bit-quants`, `fp4-quants`, `ternary`) was on when it was built. Dense formats are always there.
    #[must_use]
    pub const fn is_built(self) -> bool {
        self.facts().is_built
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
        self.facts().gguf_id
    }

    /// The name that GGUF tools print, such as `Q8_0`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.facts().name
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
        self.facts().block_len
    }

    /// Bytes of a block.
    #[must_use]
    pub const fn block_bytes(self) -> usize {
        self.facts().block_bytes
    }

    /// Offsets of a block's f16 fields: scales, then minimums.
    #[must_use]
    pub const fn f16_fields(self) -> &'static [usize] {
        self.facts().f16_fields
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
        self.facts().trailer
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

    /// Inputs of products.
    #[must_use]
    pub const fn activations(self) -> ActivationKind {
        self.facts().activations
    }

    /// True if products use activations quantised to int8 ([`Format::activations`] says in which
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
