//! The driver of ternary weights for few columns: eight rows side by side, read where they lie,
//! their sums in the eight lanes of a register.
//!
//! Sums stay in the lanes of products for all of a group of 256; only then lanes are added up, the
//! bias is taken off, and integers become floats.

use core::arch::x86_64::*;
use core::ops::Range;

use super::dot::{AvxVnniDot, Maddubs, Vnni};
use super::unpack_ternary::Unpack3;
use crate::{Matrix, Tile, WIDE_BLOCK, WideActivations, WideRow};

/// Rows side by side.
const MR: usize = 8;
/// How far ahead weights are fetched, at least (see `gemv256.rs`).
const AHEAD: usize = 6000;

/// Sums of products with bytes of ternary weights, at most eight of them one after another: of
/// pairs in 16 bits, or of four in 32.
///
/// # Safety
/// Of all functions: the CPU has AVX2 and the instructions of the implementation.
pub(super) trait Dot3 {
    /// `sums` and the products of bytes of at most 3, or of at most 12 (four times that), with codes.
    unsafe fn add(sums: __m256i, w: __m256i, x: __m256i) -> __m256i;
    /// A quarter of sums that are multiples of 4.
    unsafe fn quarter(sums: __m256i) -> __m256i;
    /// The sums of sums.
    unsafe fn join(a: __m256i, b: __m256i) -> __m256i;
    /// Sums of four products.
    unsafe fn sum(sums: __m256i) -> __m256i;
}

/// Of eight products of each kind, 16 bits hold `2 * 8 * 12 * 127`.
impl Dot3 for Maddubs {
    #[inline(always)]
    unsafe fn add(sums: __m256i, w: __m256i, x: __m256i) -> __m256i {
        // SAFETY: AVX2 by the caller.
        unsafe { _mm256_add_epi16(sums, _mm256_maddubs_epi16(w, x)) }
    }
    #[inline(always)]
    unsafe fn quarter(sums: __m256i) -> __m256i {
        // SAFETY: AVX2 by the caller.
        unsafe { _mm256_srai_epi16::<2>(sums) }
    }
    #[inline(always)]
    unsafe fn join(a: __m256i, b: __m256i) -> __m256i {
        // SAFETY: AVX2 by the caller.
        unsafe { _mm256_add_epi16(a, b) }
    }
    #[inline(always)]
    unsafe fn sum(sums: __m256i) -> __m256i {
        // SAFETY: AVX2 by the caller.
        unsafe { _mm256_madd_epi16(sums, _mm256_set1_epi16(1)) }
    }
}

macro_rules! vnni {
    ($name:ident, $dpbusd:ident) => {
        impl Dot3 for $name {
            #[inline(always)]
            unsafe fn add(sums: __m256i, w: __m256i, x: __m256i) -> __m256i {
                // SAFETY: the instruction by the caller.
                unsafe { $dpbusd(sums, w, x) }
            }
            #[inline(always)]
            unsafe fn quarter(sums: __m256i) -> __m256i {
                // SAFETY: AVX2 by the caller.
                unsafe { _mm256_srai_epi32::<2>(sums) }
            }
            #[inline(always)]
            unsafe fn join(a: __m256i, b: __m256i) -> __m256i {
                // SAFETY: AVX2 by the caller.
                unsafe { _mm256_add_epi32(a, b) }
            }
            #[inline(always)]
            unsafe fn sum(sums: __m256i) -> __m256i {
                sums
            }
        }
    };
}
vnni!(Vnni, _mm256_dpbusd_epi32);
vnni!(AvxVnniDot, _mm256_dpbusd_avx_epi32);

/// Eight outputs, of the rows at `w` and after it, for each of `N` rows of activations.
///
/// # Safety
/// The CPU has AVX2, F16C and the instructions of `P`; eight rows of `blocks` blocks lie at `w`;
/// each of `x` is as long.
#[inline(always)]
unsafe fn rows<P: Dot3, B: Unpack3, const N: usize>(
    w: *const B,
    blocks: usize,
    scale: f32,
    x: [WideRow<'_>; N],
) -> [__m256; N] {
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

/// Eight outputs at column `at` of the rows `t..t + N` of `y`.
///
/// # Safety
/// As [`rows`].
#[inline(always)]
unsafe fn put<P: Dot3, B: Unpack3, const N: usize>(
    w: *const B,
    blocks: usize,
    scale: f32,
    x: &WideActivations<'_>,
    (t, at): (usize, usize),
    y: &mut Tile<'_>,
) {
    let mut xs = [x.row(t); N];
    for (n, row) in xs.iter_mut().enumerate() {
        *row = x.row(t + n);
    }
    // SAFETY: the caller's promise; `to` has room for eight.
    unsafe {
        let out = rows::<P, B, N>(w, blocks, scale, xs);
        for (n, out) in out.into_iter().enumerate() {
            let to = &mut y.row(t + n)[at..][..MR];
            _mm256_storeu_ps(to.as_mut_ptr(), out);
        }
    }
}

/// All of `rows` for all columns of the activations.
///
/// # Safety
/// The CPU has AVX2, F16C and the instructions of `P`.
#[inline(always)]
pub(super) unsafe fn matmul<P: Dot3, B: Unpack3>(
    w: &Matrix<'_>,
    x: &WideActivations<'_>,
    rows: Range<usize>,
    y: &mut Tile<'_>,
) {
    let (blocks, scale) = (w.cols() / B::LEN, w.scale());
    let mut r = rows.start;
    while r + MR <= rows.end {
        let (ws, at) = (w.rows_from::<B>(r, MR).as_ptr(), r - rows.start);
        // SAFETY: the caller's promise; eight rows (above), and check_matmul saw to it that the
        // activations are as wide.
        unsafe {
            let mut t = 0;
            while t + 2 <= x.n() {
                put::<P, B, 2>(ws, blocks, scale, x, (t, at), y);
                t += 2;
            }
            if t < x.n() {
                put::<P, B, 1>(ws, blocks, scale, x, (t, at), y);
            }
        }
        r += MR;
    }
    for r in r..rows.end {
        for t in 0..x.n() {
            y.row(t)[r - rows.start] = crate::ops::ternary::dot(w.row::<B>(r), scale, x.row(t));
        }
    }
}
