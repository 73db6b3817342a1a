#![no_std]
//! Products of all formats, small: four rows of weights are unpacked into int8 codes and f32 scales, by
//! a loop for each format; what follows is the same for all of them.
//!
//! The order of float operations is that of every backend, so the bits are too. This is a package of
//! its own because it alone is worth being compiled for speed; for the same reason attention is called
//! from here.

mod product;

use core::ops::Range;

use teff_kernels::{
    ActivationKind, Activations, AttentionParams, Backend, CodeBlock, DenseActivations, Format,
    KvHead, Matrix, TernaryBlock, Tile, WIDE_BLOCK, blocks, dequantize_row,
};

use product::{Codes, ROWS, Row, four, one};

/// The best backend of the build.
#[cfg(not(target_feature = "simd128"))]
pub use teff_kernels::Scalar as Best;
/// The best backend of the build.
#[cfg(target_feature = "simd128")]
pub use teff_kernels::Simd128 as Best;

/// The least that the codes of a format share a scale: what the memory for scales is counted by.
const LEAST_GROUP: usize = 16;

/// Bytes for four rows of scales, of minimums and of codes.
fn parts(cols: usize) -> [usize; 3] {
    let scales = cols.div_ceil(LEAST_GROUP) * size_of::<[f32; ROWS]>();
    [scales, scales, cols * ROWS]
}

/// Four unpacked rows.
struct Unpacked<'s> {
    codes: &'s mut [i8],
    scales: &'s mut [[f32; ROWS]],
    mins: &'s mut [[f32; ROWS]],
}

impl<'s> Unpacked<'s> {
    fn new(cols: usize, scratch: &'s mut [u8]) -> Self {
        let [scales, mins, codes] = parts(cols);
        let (scales, rest) = scratch.split_at_mut(scales);
        let (mins, rest) = rest.split_at_mut(mins);
        Unpacked {
            codes: bytemuck::cast_slice_mut(&mut rest[..codes]),
            scales: bytemuck::cast_slice_mut(scales),
            mins: bytemuck::cast_slice_mut(mins),
        }
    }

    /// Unpacks row `r` of `w` as row `i`; gives what the codes that share a scale are, and whether
    /// there are minimums.
    fn row(&mut self, w: &Matrix<'_>, r: usize, i: usize) -> (usize, bool) {
        macro_rules! by_format {
            (
                []
                dense { $($dense:tt)* }
                codes { $($(#[$cm:meta])* $c:ident $cb:ident $($cf:literal)* [$($ch:tt)*] $ct:literal $cc:tt;)* }
                ternary { $($(#[$tm:meta])* $t:ident $tb:ident $($tf:literal)* [$($th:tt)*] $tt:literal $tc:tt;)* }
            ) => {
                match w.format() {
                    // What is not built is not linked: grids are large.
                    $(Format::$c if const { Format::$c.is_built() } => {
                        self.codes::<blocks::$cb>(w.row(r), i)
                    })*
                    $(Format::$t => self.ternary::<blocks::$tb>(w, r, i),)*
                    _ => unreachable!("the plan gives dense weights dense activations"),
                }
            };
        }
        teff_kernels::formats!([by_format])
    }

    #[inline(never)]
    fn codes<B: CodeBlock>(&mut self, w: &[B], i: usize) -> (usize, bool) {
        let cols = w.len() * B::LEN;
        let codes = self.codes[i * cols..][..cols].as_chunks_mut::<32>().0;
        for (b, (w, codes)) in w.iter().zip(codes.chunks_exact_mut(B::LEN / 32)).enumerate() {
            for (part, codes) in codes.iter_mut().enumerate() {
                *codes = w.codes(part);
            }
            for sub in 0..B::LEN / B::SUB {
                let group = b * (B::LEN / B::SUB) + sub;
                self.scales[group][i] = w.scale(sub);
                if B::MINS {
                    self.mins[group][i] = w.min(sub);
                }
            }
        }
        (B::SUB, B::MINS)
    }

    #[inline(never)]
    fn ternary<B: TernaryBlock>(&mut self, w: &Matrix<'_>, r: usize, i: usize) -> (usize, bool) {
        let (scale, w) = (w.scale(), w.row::<B>(r));
        let cols = w.len() * B::LEN;
        let codes = self.codes[i * cols..][..cols].as_chunks_mut::<32>().0;
        for (w, codes) in w.iter().zip(codes.chunks_exact_mut(B::LEN / 32)) {
            for (part, codes) in codes.iter_mut().enumerate() {
                *codes = w.codes(part);
            }
        }
        for (g, w) in w.chunks(WIDE_BLOCK / B::LEN).enumerate() {
            self.scales[g][i] = w[0].scale().unwrap_or(scale);
        }
        (WIDE_BLOCK, false)
    }
}

/// A row of quantised activations; of ternary weights', whose sums nobody asks for.
fn row<'a>(x: &Activations<'a>, t: usize) -> Row<'a> {
    match x {
        Activations::Q8(x) => {
            let x = x.row(t);
            Row { q: x.q, lo: x.lo, d: x.d, s: x.s, block: 32 }
        }
        Activations::Wide(x) => {
            let x = x.row(t);
            Row { q: x.q, lo: None, d: x.d, s: &[], block: WIDE_BLOCK }
        }
        Activations::Dense(_) => unreachable!("dense activations have a product of their own"),
    }
}

/// Rows of F32, F16 or BF16: one at a time, as f32.
fn dense(
    w: &Matrix<'_>,
    x: &DenseActivations<'_>,
    rows: Range<usize>,
    y: &mut Tile<'_>,
    scratch: &mut [u8],
) {
    let wide: &mut [f32] = bytemuck::cast_slice_mut(&mut scratch[..w.cols() * size_of::<f32>()]);
    for (i, r) in rows.enumerate() {
        dequantize_row(w.format(), &w.bytes()[r * w.row_bytes()..][..w.row_bytes()], wide);
        for t in 0..x.n() {
            y.row(t)[i] = one(wide, x.row(t));
        }
    }
}

/// [`Backend::attend`] by [`Best`]: scalar code is compiled where it is called from.
///
/// # Panics
/// As that.
pub fn attend(
    q: &DenseActivations<'_>,
    kv: &KvHead<'_>,
    position: usize,
    params: &AttentionParams<'_>,
    out: &mut Tile<'_>,
) {
    Best.attend(q, kv, position, params, out);
}

/// Bytes that [`matmul`] needs for weights of this format in rows of `cols`.
#[must_use]
pub fn scratch(format: Format, cols: usize) -> usize {
    match format.activations() {
        ActivationKind::Dense => cols * size_of::<f32>(),
        _ => parts(cols).iter().sum(),
    }
}

/// The outputs `rows` of `w`, for every row of activations.
///
/// # Panics
/// As [`teff_kernels::Backend::matmul`].
pub fn matmul(
    w: &Matrix<'_>,
    x: &Activations<'_>,
    rows: Range<usize>,
    y: &mut Tile<'_>,
    scratch: &mut [u8],
) {
    assert!(x.cols() == w.cols() && x.kind() == w.format().activations(), "activations don't fit");
    assert!(rows.end <= w.rows() && y.n() == x.n() && y.width() == rows.len(), "shapes");
    if let Activations::Dense(x) = x {
        return dense(w, x, rows, y, scratch);
    }
    let mut unpacked = Unpacked::new(w.cols(), scratch);
    for r in rows.clone().step_by(ROWS) {
        let (mut group, mut mins) = (0, false);
        for i in 0..ROWS {
            // The last one again, where there are fewer than four.
            (group, mins) = unpacked.row(w, (r + i).min(rows.end - 1), i);
        }
        let Unpacked { codes, scales, mins: all } = &unpacked;
        let w = Codes { codes, scales, mins: mins.then_some(&**all), group };
        for t in 0..x.n() {
            let out = four(&w, &row(x, t));
            let to = &mut y.row(t)[r - rows.start..];
            let count = to.len().min(ROWS);
            to[..count].copy_from_slice(&out[..count]);
        }
    }
}
