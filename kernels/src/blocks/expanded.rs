//! Blocks of the formats that take long to unpack, or of which there are many: fast backends expand a few rows at a time into blocks of
//! bytes and f32 scales, of which there are two kinds, and have products of these.

use core::ops::Range;

use super::{Block, CodeBlock, impl_pod};
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

impl_pod!(Expanded32);
impl_pod!(Expanded16);

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

macro_rules! expanded {
    ($($name:ident, $n:literal, $format:ident;)*) => {$(
        // SAFETY: alignment 1 (bytes). Of the format it has the name alone, by which a matrix of its blocks finds the drivers:
        // such a matrix is made in this file, with rows of `LEN` codes a block.
        unsafe impl Block for $name {
            const FORMAT: Format = Format::$format;
            const LEN: usize = 32;

            fn quantize(_: &[f32], _: &mut [Self]) {
                unreachable!("no format of files")
            }
            fn dequantize(blocks: &[Self], out: &mut [f32]) {
                super::dequantize_codes(blocks, out);
            }
        }

        impl CodeBlock for $name {
            const SUB: usize = 32 / $n;
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
    )*};
}
expanded! {
    Expanded32, 1, IQ2_XXS;
    Expanded16, 2, IQ2_XS;
}

/// A format, with the block that products are written for.
pub(crate) trait Driven: CodeBlock {
    /// Its own, or the one that it is expanded to.
    type Driver: CodeBlock;
}

macro_rules! driven {
    ($($name:ident: $driver:ty),* $(,)?) => {
        $(impl Driven for super::$name { type Driver = $driver; })*
    };
}
driven!(
    Q4_0: Self, Q4_1: Self, Q5_0: Self, Q5_1: Self, Q8_0: Self, Q2_K: Self, Q3_K: Self, Q4_K: Self, Q5_K: Self,
    Q6_K: Self, IQ4_NL: Self, IQ4_XS: Self, MXFP4: Self, Q1_0: Expanded32, Q2_0: Expanded32, IQ1_S: Expanded32,
    IQ2_XXS: Expanded32, IQ3_XXS: Expanded32, IQ3_S: Expanded32, IQ1_M: Expanded16, IQ2_XS: Expanded16,
    IQ2_S: Expanded16, NVFP4: Expanded16,
);

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

/// Scales in a block of the expanded rows of a format; `None` where it isn't expanded.
const fn scales(format: Format) -> Option<usize> {
    use Format as F;
    match format {
        F::Q1_0 | F::Q2_0 | F::IQ1_S | F::IQ2_XXS | F::IQ3_XXS | F::IQ3_S => Some(1),
        F::IQ1_M | F::IQ2_XS | F::IQ2_S | F::NVFP4 => Some(2),
        _ => None,
    }
}

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
    let parts = bytes_as::<N>(out).chunks_exact_mut(B::LEN / 32);
    for (b, parts) in blocks.iter().zip(parts) {
        for (part, to) in parts.iter_mut().enumerate() {
            for (i, d) in to.d.iter_mut().enumerate() {
                *d = b.scale(part * N + i).to_le_bytes();
            }
            to.q = b.codes(part);
        }
    }
}

/// These bytes as blocks.
fn bytes_as<const N: usize>(bytes: &mut [u8]) -> &mut [Expanded<N>] {
    const { assert!(align_of::<Expanded<N>>() == 1) }
    let n = bytes.len() / size_of::<Expanded<N>>();
    // SAFETY: as many whole blocks of bytes, of which every pattern is a value.
    unsafe { core::slice::from_raw_parts_mut(bytes.as_mut_ptr().cast(), n) }
}

/// Expands a row.
type Expand = fn(&[u8], &mut [u8]);

/// What expands rows of a format, and the format whose name the expanded matrix has.
fn expander(format: Format) -> (Expand, Format) {
    macro_rules! of {
        ($($name:ident $feature:literal $n:literal $driver:ident),*) => {
            match format {
                $(
                    #[cfg(feature = $feature)]
                    Format::$name => (expand::<super::$name, $n>, <$driver as Block>::FORMAT),
                )*
                _ => unreachable!("a format that is expanded"),
            }
        };
    }
    of!(
        Q1_0 "low-bit-quants" 1 Expanded32, Q2_0 "low-bit-quants" 1 Expanded32, NVFP4 "fp4-quants" 2 Expanded16,
        IQ1_S "codebook-quants" 1 Expanded32, IQ1_M "codebook-quants" 2 Expanded16, IQ2_XXS "codebook-quants" 1 Expanded32,
        IQ2_XS "codebook-quants" 2 Expanded16, IQ2_S "codebook-quants" 2 Expanded16, IQ3_XXS "codebook-quants" 1 Expanded32,
        IQ3_S "codebook-quants" 1 Expanded32
    )
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
    let (expand, name) = expander(format);
    let each = row_bytes(n, cols);
    let (expanded, scratch) = scratch.split_at_mut(self::scratch(format, cols));
    for first in rows.clone().step_by(ROWS) {
        let count = ROWS.min(rows.end - first);
        let expanded = &mut expanded[..count * each];
        for (r, out) in expanded.chunks_exact_mut(each.max(1)).enumerate() {
            expand(&w.bytes()[(first + r) * w.row_bytes()..][..w.row_bytes()], out);
        }
        let matrix = Matrix::expanded(name, count, cols, each, expanded);
        product(&matrix, 0..count, &mut y.cols(first - rows.start, count), scratch);
    }
}
