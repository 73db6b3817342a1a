//! The gemv micro-kernel of ternary weights: eight rows, in 256-bit registers.
//!
//! ```text
//! for each group of 256 columns
//!     for each column n
//!         sums = dot8(group of the eight rows, codes of x[n])    bytes are the weights plus one
//!         acc[n] += scales * dx * (sums - sum of codes)
//! ```
//!
//! Sums stay in the lanes of the products for all of a group; only then lanes are added up, and
//! integers become floats.

use core::arch::x86_64::*;
use core::marker::PhantomData;
use core::ops::Range;

use super::dot::TernaryDot;
use super::gemv::{self, MicroKernel};
use super::unpack_ternary::UnpackTernary;
use crate::{Matrix, Tile, WIDE_BLOCK, WideActivations, WideRow};

/// Rows of a tile.
const MR: usize = 8;
/// Bytes that weights are prefetched ahead, at least (see `gemv256.rs`).
const AHEAD: usize = 6000;

/// The micro-kernel, for rows of so many blocks of a matrix with this scale.
struct Rows8<P> {
    blocks: usize,
    scale: f32,
    dot: PhantomData<P>,
}

impl<P: TernaryDot, B: UnpackTernary> MicroKernel<B, &WideActivations<'_>> for Rows8<P> {
    const MR: usize = MR;
    type Outputs = __m256;

    #[inline(always)]
    unsafe fn outputs<const N: usize, const FINE: bool, const FAR: bool>(
        &self,
        w: *const B,
        _: usize,
        x: [WideRow<'_>; N],
    ) -> [__m256; N] {
        let Rows8 { blocks, scale, .. } = *self;
        let per = WIDE_BLOCK / B::LEN;
        let tile = MR * blocks * size_of::<B>();
        let ahead = AHEAD.div_ceil(tile.max(1)) * tile;
        // SAFETY: the intrinsics and the addresses by the caller's promise; a prefetch may go anywhere.
        unsafe {
            let mut acc = [_mm256_setzero_ps(); N];
            for (g, b) in (0..blocks).step_by(per).enumerate() {
                let mut ws = [w.add(b); MR];
                for (r, ws) in ws.iter_mut().enumerate() {
                    *ws = w.add(r * blocks + b);
                    let next = ws.cast::<i8>().wrapping_add(ahead);
                    for line in 0..(per * size_of::<B>()).div_ceil(64) {
                        _mm_prefetch::<_MM_HINT_T1>(next.wrapping_add(64 * line));
                    }
                }
                let mut q = [x[0].q.as_ptr(); N];
                for (q, x) in q.iter_mut().zip(x) {
                    *q = x.q.as_ptr().add(g * WIDE_BLOCK);
                }
                let sums = B::dot8::<P, N>(ws, per.min(blocks - b), q);
                let dw = B::scales8(ws, scale);
                for n in 0..N {
                    let (dx, s) = (*x[n].d.get_unchecked(g), *x[n].s.get_unchecked(g));
                    let sum = _mm256_cvtepi32_ps(_mm256_sub_epi32(sums[n], _mm256_set1_epi32(s)));
                    let d = _mm256_mul_ps(dw, _mm256_set1_ps(dx));
                    acc[n] = _mm256_add_ps(acc[n], _mm256_mul_ps(d, sum));
                }
            }
            acc
        }
    }

    #[inline(always)]
    unsafe fn store(outputs: __m256, to: *mut f32) {
        // SAFETY: the caller's promise.
        unsafe { _mm256_storeu_ps(to, outputs) }
    }
}

/// The product of `rows` with all columns.
///
/// # Safety
/// The CPU has AVX2, F16C and the instructions of `P`.
#[inline(always)]
pub(super) unsafe fn matmul<P: TernaryDot, B: UnpackTernary>(
    w: &Matrix<'_>,
    x: &WideActivations<'_>,
    rows: Range<usize>,
    y: &mut Tile<'_>,
) {
    let scale = w.scale();
    let kernel = Rows8::<P> { blocks: w.cols() / B::LEN, scale, dot: PhantomData };
    // SAFETY: the caller's promise.
    let left = unsafe { gemv::walk::<Rows8<P>, B, _>(&kernel, w, x, &rows, y) };
    for r in left..rows.end {
        for t in 0..x.n() {
            y.row(t)[r - rows.start] = crate::ops::ternary::dot(w.row::<B>(r), scale, x.row(t));
        }
    }
}
