//! One file per storage format: the layout of a block in model files, and its scalar truth.
//!
//! All blocks have alignment 1, so that they can be read in place at any offset of a mapped file
//! or of flash. What a kernel has to compute is defined here and in `ops`; the files
//! under `arch` only compute the same bits faster.

use bytemuck::Pod;

use crate::Format;

mod bf16;
mod codebook;
mod codebook_search;
#[cfg_attr(
    not(any(target_arch = "x86_64", target_arch = "aarch64")),
    allow(dead_code, unused_imports, unused_macros, reason = "without SIMD there are no drivers")
)]
pub(crate) mod expanded;
mod f16;
mod f32;
pub(crate) mod grids;
mod i2_s;
mod iq1_m;
mod iq1_s;
mod iq1_search;
mod iq2_s;
mod iq2_xs;
mod iq2_xxs;
mod iq3_s;
mod iq3_xxs;
pub(crate) mod iq4_nl;
mod iq4_xs;
pub(crate) mod mxfp4;
pub(crate) mod nvfp4;
mod q1_0;
mod q2_0;
mod q2_k;
mod q3_k;
mod q4_0;
mod q4_1;
mod q4_k;
mod q5_0;
mod q5_1;
mod q5_k;
mod q6_k;
mod q8_0;
mod search;
mod tq1_0;
mod tq2_0;
pub(crate) mod words;

pub use bf16::Bf16;
pub use f16::F16;
pub use f32::F32;
pub use i2_s::I2_S;
pub use iq1_m::IQ1_M;
pub use iq1_s::IQ1_S;
pub use iq2_s::IQ2_S;
pub use iq2_xs::IQ2_XS;
pub use iq2_xxs::IQ2_XXS;
pub use iq3_s::IQ3_S;
pub use iq3_xxs::IQ3_XXS;
pub use iq4_nl::IQ4_NL;
pub use iq4_xs::IQ4_XS;
pub use mxfp4::MXFP4;
pub use nvfp4::NVFP4;
pub use q1_0::Q1_0;
pub use q2_0::Q2_0;
pub use q2_k::Q2_K;
pub use q3_k::Q3_K;
pub use q4_0::Q4_0;
pub use q4_1::Q4_1;
pub use q4_k::Q4_K;
pub use q5_0::Q5_0;
pub use q5_1::Q5_1;
pub use q5_k::Q5_K;
pub use q6_k::Q6_K;
pub use q8_0::Q8_0;
pub use tq1_0::TQ1_0;
pub use tq2_0::TQ2_0;

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
    /// If `x.len() != out.len() * LEN`.
    fn quantize(x: &[f32], out: &mut [Self]);

    /// Stores a row `x` as blocks, with an importance for each element: how much its error counts,
    /// such as the mean square of what the element is multiplied with. The bytes are those of ggml's
    /// quantiser with an importance matrix; formats that have no use for it ignore it.
    ///
    /// # Panics
    /// If `x.len() != out.len() * LEN` or `importances.len() != x.len()`.
    fn quantize_weighted(x: &[f32], importances: &[f32], out: &mut [Self]) {
        assert_eq!(x.len(), importances.len());
        Self::quantize(x, out);
    }

    /// The values of the blocks.
    ///
    /// # Panics
    /// If `out.len() != blocks.len() * LEN`.
    fn dequantize(blocks: &[Self], out: &mut [f32]);
}

/// A block of one float: F32, F16, BF16.
pub trait DenseBlock: Block {
    /// The value.
    fn get(self) -> f32;
    /// The nearest block to `x`, ties to even.
    fn nearest(x: f32) -> Self;
}

/// A block of small integers with scales: `x[i] = scale * code[i] + min`.
pub trait CodeBlock: Block {
    /// Codes that share a scale and a minimum: 16 or 32.
    const SUB: usize;
    /// True if there are minimums other than 0.
    const MINS: bool;

    /// The scale of sub-block `sub`.
    fn scale(&self, sub: usize) -> f32;
    /// The minimum of sub-block `sub`: what is added to scaled codes.
    fn min(&self, sub: usize) -> f32 {
        let _ = sub;
        0.0
    }
    /// The codes `32 * part..32 * part + 32`.
    fn codes(&self, part: usize) -> [i8; 32];
}

/// A block of ternary weights with one scale at most: `x[i] = scale * code[i]`.
pub trait TernaryBlock: Block {
    /// The block's scale; `None` where the matrix has the one scale ([`crate::Matrix::scale`]).
    fn scale(&self) -> Option<f32>;
    /// The codes `32 * part..32 * part + 32`: -1, 0 and 1, and 2 in damaged files.
    fn codes(&self, part: usize) -> [i8; 32];
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

/// [`Block::dequantize`] of every format made of codes and scales: `scale * code`, rounded, and
/// then plus the minimum.
pub(crate) fn dequantize_codes<B: CodeBlock>(blocks: &[B], out: &mut [f32]) {
    assert_eq!(out.len(), blocks.len() * B::LEN);
    for (b, out) in blocks.iter().zip(out.chunks_exact_mut(B::LEN)) {
        for (part, out) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
            let codes = b.codes(part);
            for (i, (o, c)) in out.iter_mut().zip(codes).enumerate() {
                let sub = (32 * part + i) / B::SUB;
                let x = b.scale(sub) * f32::from(c);
                *o = if B::MINS { x + b.min(sub) } else { x };
            }
        }
    }
}

/// [`Block::dequantize`] of the ternary formats; without a scale of the block's own, with 1.
pub(crate) fn dequantize_ternary<B: TernaryBlock>(blocks: &[B], out: &mut [f32]) {
    assert_eq!(out.len(), blocks.len() * B::LEN);
    for (b, out) in blocks.iter().zip(out.chunks_exact_mut(B::LEN)) {
        let scale = b.scale().unwrap_or(1.0);
        for (part, out) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
            for (o, c) in out.iter_mut().zip(b.codes(part)) {
                *o = scale * f32::from(c);
            }
        }
    }
}

/// The code of `x` among 0, 1 and 2, which stand for -1, 0 and 1: the nearest, halves away from zero.
pub(crate) fn trit(x: f32) -> u8 {
    if x >= 0.5 {
        2
    } else if x <= -0.5 {
        0
    } else {
        1 // NaN too
    }
}

/// Calls `$body` with `$B` bound to the block type of a format of codes with scales for every 16 or
/// 32, or `$dense` for all others.
macro_rules! for_codes {
    ($format:expr, $B:ident => $body:expr, dense => $dense:expr) => {
        $crate::formats!([$crate::blocks::match_codes] $format, $B => $body, dense => $dense)
    };
}
pub(crate) use for_codes;

macro_rules! match_codes {
    (
        [$format:expr, $B:ident => $body:expr, dense => $dense:expr]
        dense { $($(#[$dm:meta])* $d:ident $db:ident $($df:literal)* [$($dh:tt)*] $dt:literal $dc:tt;)* }
        codes { $($(#[$cm:meta])* $c:ident $cb:ident $($cf:literal)* [$($ch:tt)*] $ct:literal $cc:tt;)* }
        ternary { $($(#[$tm:meta])* $t:ident $tb:ident $($tf:literal)* [$($th:tt)*] $tt:literal $tc:tt;)* }
    ) => {
        match $format {
            $(
                #[cfg $cc]
                $crate::Format::$c => {
                    type $B = $crate::blocks::$cb;
                    $body
                }
                #[cfg(not $cc)]
                $crate::Format::$c => $crate::blocks::not_built($crate::Format::$c),
            )*
            $($crate::Format::$d |)* $($crate::Format::$t)|* => $dense,
        }
    };
}
pub(crate) use match_codes;

/// Calls `$body` with `$B` bound to the block type of a ternary format, or `$others`.
macro_rules! for_ternary {
    ($format:expr, $B:ident => $body:expr, others => $others:expr) => {
        $crate::formats!([$crate::blocks::match_ternary] $format, $B => $body, others => $others)
    };
}
pub(crate) use for_ternary;

macro_rules! match_ternary {
    (
        [$format:expr, $B:ident => $body:expr, others => $others:expr]
        dense { $($dense:tt)* }
        codes { $($codes:tt)* }
        ternary { $($(#[$tm:meta])* $t:ident $tb:ident $($tf:literal)* [$($th:tt)*] $tt:literal $tc:tt;)* }
    ) => {
        match $format {
            $(
                #[cfg $tc]
                $crate::Format::$t => {
                    type $B = $crate::blocks::$tb;
                    $body
                }
                #[cfg(not $tc)]
                $crate::Format::$t => $crate::blocks::not_built($crate::Format::$t),
            )*
            _ => $others,
        }
    };
}
pub(crate) use match_ternary;

/// Calls `$body` with `$B` bound to the block type of a dense format, or `$others`.
macro_rules! for_dense {
    ($format:expr, $B:ident => $body:expr, others => $others:expr) => {
        $crate::formats!([$crate::blocks::match_dense] $format, $B => $body, others => $others)
    };
}

pub(crate) use for_dense;

macro_rules! match_dense {
    (
        [$format:expr, $B:ident => $body:expr, others => $others:expr]
        dense { $($(#[$dm:meta])* $d:ident $db:ident $($df:literal)* [$($dh:tt)*] $dt:literal $dc:tt;)* }
        codes { $($codes:tt)* }
        ternary { $($ternary:tt)* }
    ) => {
        match $format {
            $(
                $crate::Format::$d => {
                    type $B = $crate::blocks::$db;
                    $body
                }
            )*
            _ => $others,
        }
    };
}
pub(crate) use match_dense;

/// Every format of the table has a block here, of its size and of its group's kind, whatever is built.
macro_rules! check_blocks {
    (
        []
        dense { $($(#[$dm:meta])* $d:ident $db:ident $($df:literal)* [$($dh:tt)*] $dt:literal $dc:tt;)* }
        codes { $($(#[$cm:meta])* $c:ident $cb:ident $($cf:literal)* [$($ch:tt)*] $ct:literal $cc:tt;)* }
        ternary { $($(#[$tm:meta])* $t:ident $tb:ident $($tf:literal)* [$($th:tt)*] $tt:literal $tc:tt;)* }
    ) => {
        const _: () = {
            const fn same<B: Block>(format: Format) -> bool {
                B::FORMAT.gguf_id() == format.gguf_id()
                    && B::LEN == format.block_len()
                    && size_of::<B>() == format.block_bytes()
                    && align_of::<B>() == 1
            }
            const fn dense<B: DenseBlock>(format: Format) -> bool {
                same::<B>(format)
            }
            const fn codes<B: CodeBlock>(format: Format) -> bool {
                same::<B>(format)
            }
            const fn ternary<B: TernaryBlock>(format: Format) -> bool {
                same::<B>(format)
            }
            $(assert!(dense::<$db>(Format::$d), "the block of a format of the table");)*
            $(assert!(codes::<$cb>(Format::$c), "the block of a format of the table");)*
            $(assert!(ternary::<$tb>(Format::$t), "the block of a format of the table");)*
        };
    };
}
crate::formats!([check_blocks]);

/// Panics for a format whose family was left out of the program: no matrix has it, and no
/// reader of files knows it.
#[cold]
#[allow(dead_code)] // where all families are built
pub(crate) fn not_built(format: Format) -> ! {
    panic!("{format} is not built into this program")
}

/// Calls `$body` with `$B` bound to the block type of a format.
macro_rules! for_block {
    ($format:expr, $B:ident => $body:expr) => {
        for_codes!($format, $B => $body, dense => for_ternary!($format, $B => $body,
            others => for_dense!($format, $B => $body, others => unreachable!("a format of codes"))))
    };
}

/// Quantises a row of weights into `out`, in `format`. For I2_S, which has no scale in its rows,
/// `x` is the row divided by the tensor's.
///
/// # Panics
/// If `out.len()` is not [`Format::row_bytes`] of `x.len()`, or the format is not
/// [built](Format::is_built).
pub fn quantize_row(format: Format, x: &[f32], out: &mut [u8]) {
    assert_eq!(Some(out.len()), format.row_bytes(x.len()), "a row of {format}");
    for_block!(format, B => B::quantize(x, bytemuck::cast_slice_mut(out)));
}

/// Quantises a whole row of weights as [`quantize_row`] does, with an importance for each
/// ([`Block::quantize_weighted`]).
///
/// # Panics
/// As [`quantize_row`], and if there are more or fewer importances than weights.
pub fn quantize_row_weighted(format: Format, x: &[f32], importances: &[f32], out: &mut [u8]) {
    assert_eq!(Some(out.len()), format.row_bytes(x.len()), "a row of {format}");
    for_block!(format, B => B::quantize_weighted(x, importances, bytemuck::cast_slice_mut(out)));
}

/// The values of a row of weights in `format`; of I2_S, what the tensor's scale is to be multiplied
/// with.
///
/// # Panics
/// If `row.len()` is not [`Format::row_bytes`] of `out.len()`, or the format is not
/// [built](Format::is_built).
pub fn dequantize_row(format: Format, row: &[u8], out: &mut [f32]) {
    assert_eq!(Some(row.len()), format.row_bytes(out.len()), "a row of {format}");
    for_block!(format, B => B::dequantize(bytemuck::cast_slice(row), out));
}
