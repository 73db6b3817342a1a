//! One file per storage format: the block as it lies in a file, and its scalar truth.
//!
//! All blocks have alignment 1, so that they can be read in place at any offset of a mapped file
//! or of flash. What a kernel has to compute is defined here and in `ops`; the files
//! under `arch` only compute the same bits faster.

use bytemuck::Pod;

use crate::Format;

mod bf16;
mod f16;
mod f32;
mod q4_0;
mod q8_0;

pub use bf16::Bf16;
pub use f16::F16;
pub use f32::F32;
pub use q4_0::Q4_0;
pub use q8_0::Q8_0;

/// A block of a storage format: the unit in which weights lie in memory.
///
/// # Safety
/// `size_of::<Self>()` is `FORMAT.block_bytes()`, `LEN` is `FORMAT.block_len()`, and the
/// alignment is 1: kernels cast the bytes of a matrix to blocks by these three.
pub unsafe trait Block: Pod {
    /// The format whose block this is.
    const FORMAT: Format;
    /// Elements in a block.
    const LEN: usize;

    /// Stores `x` as blocks. The rounding is the reference quantiser's of the format.
    ///
    /// # Panics
    /// Where `x.len() != out.len() * LEN`.
    fn quantize(x: &[f32], out: &mut [Self]);

    /// The values of the blocks.
    ///
    /// # Panics
    /// Where `out.len() != blocks.len() * LEN`.
    fn dequantize(blocks: &[Self], out: &mut [f32]);
}

/// A block of one float: F32, F16, BF16.
pub trait DenseBlock: Block {
    /// The value.
    fn get(self) -> f32;
    /// The nearest block to `x`, ties to even.
    fn nearest(x: f32) -> Self;
}

/// A block of 32 small integers with one scale: `x[i] = scale * code[i]`.
pub trait CodeBlock: Block {
    /// The scale.
    fn scale(&self) -> f32;
    /// The 32 integers.
    fn codes(&self) -> [i8; 32];
}

/// Marks a block of byte fields as plain bytes.
macro_rules! impl_pod {
    ($t:ty) => {
        // SAFETY: repr(C) or repr(transparent) over bytes and blocks of bytes: no padding, and
        // every bit pattern is a value.
        unsafe impl bytemuck::Zeroable for $t {}
        // SAFETY: as above.
        unsafe impl bytemuck::Pod for $t {}
    };
}
pub(crate) use impl_pod;

macro_rules! impl_dense {
    ($t:ty, $format:expr) => {
        const _: () = assert!(size_of::<$t>() == $format.block_bytes() && align_of::<$t>() == 1);

        $crate::blocks::impl_pod!($t);

        // SAFETY: asserted above; a block holds one element.
        unsafe impl Block for $t {
            const FORMAT: Format = $format;
            const LEN: usize = 1;

            fn quantize(x: &[f32], out: &mut [Self]) {
                assert_eq!(x.len(), out.len());
                for (o, &v) in out.iter_mut().zip(x) {
                    *o = <$t as DenseBlock>::nearest(v);
                }
            }

            fn dequantize(blocks: &[Self], out: &mut [f32]) {
                assert_eq!(blocks.len(), out.len());
                for (o, b) in out.iter_mut().zip(blocks) {
                    *o = DenseBlock::get(*b);
                }
            }
        }
    };
}
pub(crate) use impl_dense;

/// [`Block::dequantize`] of every format made of 32 codes and a scale.
pub(crate) fn dequantize_codes<B: CodeBlock>(blocks: &[B], out: &mut [f32]) {
    assert_eq!(out.len(), blocks.len() * 32);
    for (b, out) in blocks.iter().zip(out.as_chunks_mut::<32>().0) {
        let d = b.scale();
        for (o, c) in out.iter_mut().zip(b.codes()) {
            *o = d * f32::from(c);
        }
    }
}

/// Calls `$body` with `$B` bound to the block type of a format.
macro_rules! for_block {
    ($format:expr, $B:ident => $body:expr) => {
        match $format {
            $crate::Format::F32 => {
                type $B = $crate::blocks::F32;
                $body
            }
            $crate::Format::F16 => {
                type $B = $crate::blocks::F16;
                $body
            }
            $crate::Format::BF16 => {
                type $B = $crate::blocks::Bf16;
                $body
            }
            $crate::Format::Q8_0 => {
                type $B = $crate::blocks::Q8_0;
                $body
            }
            $crate::Format::Q4_0 => {
                type $B = $crate::blocks::Q4_0;
                $body
            }
        }
    };
}

/// Quantises a row of weights into `out`, in `format`.
///
/// # Panics
/// Where `out.len()` is not [`Format::row_bytes`] of `x.len()`.
pub fn quantize_row(format: Format, x: &[f32], out: &mut [u8]) {
    assert_eq!(Some(out.len()), format.row_bytes(x.len()), "a row of {format}");
    for_block!(format, B => B::quantize(x, bytemuck::cast_slice_mut(out)));
}

/// The values of a row of weights in `format`.
///
/// # Panics
/// Where `row.len()` is not [`Format::row_bytes`] of `out.len()`.
pub fn dequantize_row(format: Format, row: &[u8], out: &mut [f32]) {
    assert_eq!(Some(row.len()), format.row_bytes(out.len()), "a row of {format}");
    for_block!(format, B => B::dequantize(bytemuck::cast_slice(row), out));
}
