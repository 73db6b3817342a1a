//! The driver for few columns: eight rows side by side, read where they lie, their sums in the
//! eight lanes of a register.

use core::arch::x86_64::*;
use core::ops::Range;

use super::unpack::{Products, Unpack, scales8};
use crate::acts::{ACT_BLOCK, Q8Row};
use crate::{Matrix, Q8Acts, Tile};

/// Rows side by side.
const MR: usize = 8;
/// How far ahead weights are fetched, at least: memory's latency times its bandwidth, twice.
const AHEAD: usize = 6000;

/// Eight outputs, of the rows at `w` and after it, for one row of activations.
///
/// # Safety
/// The CPU has AVX2, F16C and the instructions of `P`; eight rows of `blocks` blocks lie at `w`;
/// `x` has as many blocks.
#[inline(always)]
unsafe fn rows<P: Products, B: Unpack, const FINE: bool>(
    w: *const B,
    blocks: usize,
    x: Q8Row<'_>,
) -> __m256 {
    // Eight rows are eight streams, too many and too short for the CPU's own prefetcher: it is
    // told to fetch the same place of later rows, into the second-level cache (from memory
    // 1.9 to 2.3 times as fast as without; into the first level 0.5 times as fast as this).
    let tile = MR * blocks * size_of::<B>();
    let ahead = AHEAD.div_ceil(tile.max(1)) * tile;
    let lo = x.lo.map_or(x.q.as_ptr(), <[i8]>::as_ptr); // read with FINE only
    let every = 64 / 2 / size_of::<B>() + 1; // blocks between fetches: twice for a line
    // SAFETY: the intrinsics and the addresses by the caller's promise; a prefetch may go anywhere.
    unsafe {
        let mut acc = _mm256_setzero_ps();
        for b in 0..blocks {
            let ws: [&B; MR] = core::array::from_fn(|r| &*w.add(r * blocks + b));
            if b % every == 0 {
                for w in ws {
                    _mm_prefetch::<_MM_HINT_T1>((&raw const *w).wrapping_byte_add(ahead).cast());
                }
            }
            let (q, s) = (x.q.as_ptr().add(b * ACT_BLOCK), *x.s.get_unchecked(b));
            let sums = if FINE {
                // The lower plane's product takes the whole sum's bias off.
                let upper = B::dot8::<P>(ws, q, 0);
                let lower = B::dot8::<P>(ws, lo.add(b * ACT_BLOCK), s);
                _mm256_add_epi32(_mm256_sub_epi32(_mm256_slli_epi32::<8>(upper), upper), lower)
            } else {
                B::dot8::<P>(ws, q, s)
            };
            let d = _mm256_mul_ps(scales8(ws), _mm256_set1_ps(*x.d.get_unchecked(b)));
            acc = _mm256_add_ps(acc, _mm256_mul_ps(d, _mm256_cvtepi32_ps(sums)));
        }
        acc
    }
}

/// All of `rows` for all columns of the activations.
///
/// # Safety
/// The CPU has AVX2, F16C and the instructions of `P`.
#[inline(always)]
pub(super) unsafe fn matmul<P: Products, B: Unpack>(
    w: &Matrix<'_>,
    x: &Q8Acts<'_>,
    rows_: Range<usize>,
    y: &mut Tile<'_>,
) {
    let blocks = w.cols() / ACT_BLOCK;
    let mut r = rows_.start;
    while r + MR <= rows_.end {
        let ws = w.rows_from::<B>(r, MR).as_ptr();
        for t in 0..x.n() {
            let to = &mut y.row(t)[r - rows_.start..][..MR];
            // SAFETY: the caller's promise; eight rows (above), and check_matmul saw to it that the
            // activations are as wide; `to` has room for eight.
            unsafe {
                let x = x.row(t);
                let out = match x.lo {
                    None => rows::<P, B, false>(ws, blocks, x),
                    Some(_) => rows::<P, B, true>(ws, blocks, x),
                };
                _mm256_storeu_ps(to.as_mut_ptr(), out);
            }
        }
        r += MR;
    }
    for r in r..rows_.end {
        for t in 0..x.n() {
            y.row(t)[r - rows_.start] = crate::ops::quant::dot(w.row::<B>(r), x.row(t));
        }
    }
}
