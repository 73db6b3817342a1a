//! Blocks of the formats that take long to unpack, or of which there are many: fast backends expand a few rows at a time into blocks of
//! bytes and f32 scales, of which there are two kinds, and have products of these.

use core::ops::Range;

use super::{Block, CodeBlock};
use crate::{Format, Matrix, Tile};

/// Rows that are expanded at a time: whole panels of every backend.
const ROWS: usize = 16;

/// 32 codes with `N` scales.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Expanded<const N: usize> {
    /// Scales (f32, little-endian) of as many equal parts.
    pub(crate) d: [[u8; 4]; N],
    pub(crate) q: [i8; 32],
}

/// One scale for 32 codes.
pub(crate) type Expanded32 = Expanded<1>;
/// A scale for every 16 codes.
pub(crate) type Expanded16 = Expanded<2>;

// SAFETY: bytes, and no padding between them.
unsafe impl<const N: usize> bytemuck::Zeroable for Expanded<N> {}
// SAFETY: the same; `repr(C)`, `Copy`, and every pattern of bytes is a value.
unsafe impl<const N: usize> bytemuck::Pod for Expanded<N> {}

impl<const N: usize> Expanded<N> {
    /// The scales.
    #[inline(always)]
    pub(crate) fn scales(&self) -> [f32; N] {
        let mut scales = [0.0; N];
        for (scale, d) in scales.iter_mut().zip(self.d) {
            *scale = f32::from_le_bytes(d);
        }
        scales
    }
}

// SAFETY: alignment 1 (bytes).
unsafe impl<const N: usize> Block for Expanded<N> {
    /// That of no file: a matrix of expanded rows keeps its format, and is read as what that is expanded to.
    const FORMAT: Format = Format::F32;
    const LEN: usize = 32;

    fn quantize(_: &[f32], _: &mut [Self]) {
        unreachable!("no format of files")
    }
    fn dequantize(blocks: &[Self], out: &mut [f32]) {
        super::dequantize_codes(blocks, out);
    }
}

impl<const N: usize> CodeBlock for Expanded<N> {
    const SUB: usize = 32 / N;
    const MINS: bool = false;

    #[inline(always)]
    fn scale(&self, sub: usize) -> f32 {
        f32::from_le_bytes(self.d[sub])
    }
    #[inline(always)]
    fn codes(&self, _: usize) -> [i8; 32] {
        self.q
    }
}

/// A format, with the block that products are written for.
pub(crate) trait Driven: CodeBlock {
    /// Its own, or the one that it is expanded to.
    type Driver: CodeBlock;
}

/// Expands a row.
type Expand = fn(&[u8], &mut [u8]);

macro_rules! driven {
    (own: $($own:ident)*; expanded: $($name:ident $feature:literal $n:literal,)*) => {
        $(impl Driven for super::$own { type Driver = Self; })*
        $(impl Driven for super::$name { type Driver = Expanded<$n>; })*

        /// Scales in a block of the expanded rows of a format; `None` where it isn't expanded.
        const fn scales(format: Format) -> Option<usize> {
            match format {
                $(Format::$name => Some($n),)*
                _ => None,
            }
        }

        /// What expands rows of a format.
        fn expander(format: Format) -> Expand {
            match format {
                $(
                    #[cfg(feature = $feature)]
                    Format::$name => expand::<super::$name, $n>,
                )*
                _ => unreachable!("a format that is expanded"),
            }
        }
    };
}
driven! {
    own: Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q2_K Q3_K Q4_K Q5_K Q6_K IQ4_NL IQ4_XS MXFP4;
    expanded:
        Q1_0 "low-bit-quants" 1,
        Q2_0 "low-bit-quants" 1,
        IQ1_S "codebook-quants" 1,
        IQ1_M "codebook-quants" 2,
        IQ2_XXS "codebook-quants" 1,
        IQ2_XS "codebook-quants" 2,
        IQ2_S "codebook-quants" 2,
        IQ3_XXS "codebook-quants" 1,
        IQ3_S "codebook-quants" 1,
        NVFP4 "fp4-quants" 2,
}

/// As [`super::for_codes`], with the format's [`Driven::Driver`].
macro_rules! for_drivers {
    ($format:expr, $B:ident => $body:expr, dense => $dense:expr) => {
        $crate::blocks::for_codes!($format, Codes => {
            type $B = <Codes as $crate::blocks::expanded::Driven>::Driver;
            $body
        }, dense => $dense)
    };
}
pub(crate) use for_drivers;

/// True if rows of the format are expanded.
pub(crate) const fn is_expanded(format: Format) -> bool {
    scales(format).is_some()
}

/// Bytes of an expanded row.
const fn row_bytes(scales: usize, cols: usize) -> usize {
    cols / 32 * (4 * scales + 32)
}

/// Bytes of scratch for expanded rows, a multiple of 64.
pub(crate) const fn scratch(format: Format, cols: usize) -> usize {
    match scales(format) {
        Some(n) => (ROWS * row_bytes(n, cols)).next_multiple_of(64),
        None => 0,
    }
}

/// Expands the row at `row`.
fn expand<B: CodeBlock, const N: usize>(row: &[u8], out: &mut [u8]) {
    let blocks: &[B] = bytemuck::cast_slice(row);
    let parts = bytemuck::cast_slice_mut::<u8, Expanded<N>>(out).chunks_exact_mut(B::LEN / 32);
    for (b, parts) in blocks.iter().zip(parts) {
        for (part, to) in parts.iter_mut().enumerate() {
            for (i, d) in to.d.iter_mut().enumerate() {
                *d = b.scale(part * N + i).to_le_bytes();
            }
            to.q = b.codes(part);
        }
    }
}

/// `product(matrix, its rows, outputs, scratch)` for the expanded rows, a few at a time.
pub(crate) fn matmul(
    w: &Matrix<'_>,
    rows: Range<usize>,
    y: &mut Tile<'_>,
    scratch: &mut [u8],
    mut product: impl FnMut(&Matrix<'_>, Range<usize>, &mut Tile<'_>, &mut [u8]),
) {
    let (format, cols) = (w.format(), w.cols());
    let Some(n) = scales(format) else { unreachable!("a format that is expanded") };
    let expand = expander(format);
    let each = row_bytes(n, cols);
    let (expanded, scratch) = scratch.split_at_mut(self::scratch(format, cols));
    for first in rows.clone().step_by(ROWS) {
        let count = ROWS.min(rows.end - first);
        let expanded = &mut expanded[..count * each];
        for (r, out) in expanded.chunks_exact_mut(each.max(1)).enumerate() {
            expand(&w.bytes()[(first + r) * w.row_bytes()..][..w.row_bytes()], out);
        }
        let matrix = Matrix::expanded(format, count, cols, each, expanded);
        product(&matrix, 0..count, &mut y.cols(first - rows.start, count), scratch);
    }
}
