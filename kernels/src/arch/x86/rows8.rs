//! The driver for few columns: eight rows side by side, read where they lie, their sums in the
//! eight lanes of a register.

use core::arch::x86_64::*;
use core::ops::Range;

use super::unpack::{Unpack, scales8, sums8};
use crate::acts::{ACT_BLOCK, Q8Row};
use crate::{Matrix, Q8Acts, Tile};

/// The integer product of 32 weights and 32 activations, spread over eight lanes.
pub(super) trait Dot32 {
    /// # Safety
    /// The CPU has the instructions of the implementation.
    unsafe fn dot<B: Unpack>(w: &B, x: __m256i) -> __m256i;
    /// What [`Dot32::dot`] adds to the sum for every unit of the sum of `x`: its lanes are
    /// products with the unsigned bytes where it says so.
    fn biased<B: Unpack>() -> bool;
}

/// Eight outputs from row `r`, for one row of activations.
///
/// # Safety
/// The CPU has AVX2, F16C and the instructions of `D`; rows `r..r + 8` exist; `x` has as many
/// blocks as they.
#[inline(always)]
unsafe fn rows<D: Dot32, B: Unpack>(w: &[&[B]; 8], x: Q8Row<'_>) -> [f32; 8] {
    // SAFETY: the intrinsics by the caller's promise.
    unsafe {
        let blocks = w[0].len();
        let q = x.q.as_chunks::<ACT_BLOCK>().0;
        assert!(w.iter().all(|w| w.len() == blocks));
        assert!(q.len() == blocks && x.d.len() == blocks && x.s.len() == blocks);
        let mut acc = _mm256_setzero_ps();
        for b in 0..blocks {
            let xq = _mm256_loadu_si256(q[b].as_ptr().cast());
            let mut p = [_mm256_setzero_si256(); 8];
            for (p, w) in p.iter_mut().zip(w) {
                *p = D::dot(&w[b], xq);
            }
            let mut sums = sums8(p);
            if D::biased::<B>() {
                sums = _mm256_sub_epi32(sums, _mm256_set1_epi32(x.s[b] << B::BIAS_SHIFT));
            }
            let d =
                _mm256_mul_ps(scales8(core::array::from_fn(|r| &w[r][b])), _mm256_set1_ps(x.d[b]));
            acc = _mm256_add_ps(acc, _mm256_mul_ps(d, _mm256_cvtepi32_ps(sums)));
        }
        let mut out = [0.0; 8];
        _mm256_storeu_ps(out.as_mut_ptr(), acc);
        out
    }
}

/// All of `rows` for the columns `cols` of the activations.
///
/// # Safety
/// The CPU has AVX2, F16C and the instructions of `D`.
#[inline(always)]
pub(super) unsafe fn matmul<D: Dot32, B: Unpack>(
    w: &Matrix<'_>,
    x: &Q8Acts<'_>,
    cols: Range<usize>,
    rows_: Range<usize>,
    y: &mut Tile<'_>,
) {
    let mut r = rows_.start;
    while r + 8 <= rows_.end {
        let ws: [&[B]; 8] = core::array::from_fn(|i| w.row::<B>(r + i));
        for t in cols.clone() {
            // SAFETY: the caller's promise; eight rows of the matrix.
            let out = unsafe { rows::<D, B>(&ws, x.row(t)) };
            y.row(t)[r - rows_.start..][..8].copy_from_slice(&out);
        }
        r += 8;
    }
    for r in r..rows_.end {
        for t in cols.clone() {
            y.row(t)[r - rows_.start] = crate::ops::quant::dot(w.row::<B>(r), x.row(t));
        }
    }
}
