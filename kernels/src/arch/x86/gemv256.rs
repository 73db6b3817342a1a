//! The driver for few columns: eight rows side by side, read where they lie, their sums in the
//! eight lanes of a register.

use core::arch::x86_64::*;
use core::hint::black_box;
use core::ops::Range;

use super::dot::Dot;
use super::unpack::{Scales, Unpack};
use crate::activations::{ACT_BLOCK, ACT_SUM, Q8Row};
use crate::{Matrix, Q8Activations, Tile};

/// Rows side by side.
const MR: usize = 8;
/// How far ahead weights of rows side by side are fetched, at least: memory's latency times its
/// bandwidth, twice.
const AHEAD: usize = 6000;
/// Rows as long as this are taken far apart, where [`may_be_far`].
const FAR_BYTES: usize = 640;
/// How far ahead weights of rows far apart are fetched.
const AHEAD_FAR: usize = 320;

/// Super-blocks of up to five bits: from memory, long rows far apart are up to 1.2 times as fast as
/// side by side. Q6_K is slower (3072 columns: 14 for 17.5 GB/s); short blocks were not tried.
const fn may_be_far<B: Unpack>() -> bool {
    B::LEN > ACT_BLOCK && B::MAX <= 31
}

/// Adds the products of 32 codes of eight rows: part `part` of blocks whose first part is number `a`
/// of the row.
///
/// # Safety
/// As [`rows`].
#[inline(always)]
unsafe fn part<P: Dot, B: Unpack, const N: usize, const FINE: bool>(
    ws: [&B; MR],
    scales: &Scales,
    x: [Q8Row<'_>; N],
    a: usize,
    part: usize,
    acc: &mut [__m256; N],
) {
    let subs = ACT_BLOCK / B::SUB;
    // SAFETY: the caller's promises.
    unsafe {
        let a = a + part;
        let (mut q, mut lo, mut s) = ([x[0].q.as_ptr(); N], [x[0].q.as_ptr(); N], [[0; 2]; N]);
        for n in 0..N {
            q[n] = x[n].q.as_ptr().add(a * ACT_BLOCK);
            if let (true, Some(plane)) = (FINE, x[n].lo) {
                lo[n] = plane.as_ptr().add(a * ACT_BLOCK);
            }
            let sums = x[n].s.as_ptr().add(a * (ACT_BLOCK / ACT_SUM));
            s[n] = [*sums, *sums.add(1)];
        }
        let sums = if FINE {
            // Two planes are like two columns. The lower one's product takes the bias off for both.
            let [u, l] = B::dot8::<P, 2>(ws, part, [q[0], lo[0]], [[0; 2], s[0]]);
            let mut sums = [l; N];
            for (s, u) in sums[0].iter_mut().zip(u) {
                *s = _mm256_add_epi32(*s, _mm256_sub_epi32(_mm256_slli_epi32::<8>(u), u));
            }
            sums
        } else {
            B::dot8::<P, N>(ws, part, q, s)
        };
        for n in 0..N {
            let dx = *x[n].d.get_unchecked(a);
            for i in 0..subs {
                let sub = part * subs + i;
                let d = _mm256_mul_ps(scales.d[sub], _mm256_set1_ps(dx));
                let mut t = _mm256_mul_ps(d, _mm256_cvtepi32_ps(sums[n][i]));
                if B::MINS {
                    let s = if B::SUB == 16 { s[n][i] } else { s[n][0] + s[n][1] };
                    let xs = _mm256_set1_ps(dx * s as f32);
                    t = _mm256_add_ps(t, _mm256_mul_ps(scales.m[sub], xs));
                }
                acc[n] = _mm256_add_ps(acc[n], t);
            }
        }
    }
}

/// Eight outputs, of the row at `w` and those after it (with `FAR` every `step`-th), for each of `N`
/// rows of activations.
///
/// # Safety
/// The CPU has AVX2, F16C and the instructions of `P`; these rows of `blocks` blocks are there;
/// each of `x` is as long, and with `FINE` there is one, with two planes.
#[inline(always)]
unsafe fn rows<P: Dot, B: Unpack, const N: usize, const FINE: bool, const FAR: bool>(
    w: *const B,
    step: usize,
    blocks: usize,
    x: [Q8Row<'_>; N],
) -> [__m256; N] {
    // Eight rows side by side are eight streams, too many and too short for the CPU's own
    // prefetcher: it is told to fetch the same place of later rows, into the second-level cache
    // (from memory 1.9 to 2.3 times as fast as without; into the first level 0.5 times as fast as
    // this). Rows far apart are streams without end, of which it finds most by itself.
    let step = if FAR { step } else { 1 };
    let tile = MR * blocks * size_of::<B>();
    let ahead = if FAR { AHEAD_FAR } else { AHEAD.div_ceil(tile.max(1)) * tile };
    let every = 64 / 2 / size_of::<B>() + 1; // blocks between fetches: twice for a line
    let parts = B::LEN / ACT_BLOCK;
    // SAFETY: the intrinsics and the addresses by the caller's promise; a prefetch may go anywhere.
    unsafe {
        let mut acc = [_mm256_setzero_ps(); N];
        // Rows 0 and 4, and the two distances from which addresses reach the others: hidden where
        // they come from, since compilers keep seven distances otherwise, and most of them on the
        // stack (from the cache 1.07 times as slow).
        let stride = step * blocks * size_of::<B>();
        let stride3 = black_box(3 * stride);
        let (mut w0, mut w4) = (w.cast::<u8>(), black_box(w.add(4 * step * blocks)).cast::<u8>());
        for b in 0..blocks {
            let four = |w: *const u8| {
                let near = [w, w.wrapping_add(stride)];
                [near[0], near[1], w.wrapping_add(2 * stride), w.wrapping_add(stride3)]
            };
            if b % every == 0 {
                for w in [w0, w4] {
                    for w in four(w.wrapping_add(ahead)) {
                        for line in 0..size_of::<B>().div_ceil(64) {
                            let line = w.wrapping_add(line * 64).cast();
                            if FAR {
                                _mm_prefetch::<_MM_HINT_NTA>(line);
                            } else {
                                _mm_prefetch::<_MM_HINT_T1>(line);
                            }
                        }
                    }
                }
            }
            let mut ws = [&*w; MR];
            for (ws, at) in ws.iter_mut().zip(four(w0).into_iter().chain(four(w4))) {
                *ws = &*at.cast();
            }
            (w0, w4) = (w0.add(size_of::<B>()), w4.add(size_of::<B>()));
            let mut scales = Scales::zero();
            B::scales8(ws, &mut scales);
            let a = b * parts;
            if N == 1 && parts.is_multiple_of(4) {
                // Four parts of a super-block with what differs between them as constants: shifts
                // by nothing and repeated loads fall away (from the cache, Q4_K is 1.14 times and
                // Q6_K 1.3 times as fast).
                for first in (0..parts).step_by(4) {
                    part::<P, B, N, FINE>(ws, &scales, x, a, first, &mut acc);
                    part::<P, B, N, FINE>(ws, &scales, x, a, first + 1, &mut acc);
                    part::<P, B, N, FINE>(ws, &scales, x, a, first + 2, &mut acc);
                    part::<P, B, N, FINE>(ws, &scales, x, a, first + 3, &mut acc);
                }
            } else {
                for i in 0..parts {
                    part::<P, B, N, FINE>(ws, &scales, x, a, i, &mut acc);
                }
            }
        }
        acc
    }
}

/// Eight outputs at column `at` and those after it (with `FAR` every `step`-th) of the rows `t..t + N`
/// of `y`.
///
/// # Safety
/// As [`rows`].
#[inline(always)]
#[allow(clippy::too_many_arguments)] // a position in three matrices
unsafe fn put<P: Dot, B: Unpack, const N: usize, const FINE: bool, const FAR: bool>(
    w: *const B,
    step: usize,
    blocks: usize,
    x: &Q8Activations<'_>,
    t: usize,
    at: usize,
    y: &mut Tile<'_>,
) {
    let step = if FAR { step } else { 1 };
    let mut xs = [x.row(t); N];
    for (n, row) in xs.iter_mut().enumerate() {
        *row = x.row(t + n);
    }
    // SAFETY: the caller's promise; `sums` has room for eight.
    unsafe {
        let out = rows::<P, B, N, FINE, FAR>(w, step, blocks, xs);
        for (n, out) in out.into_iter().enumerate() {
            let mut sums = [0.0; MR];
            _mm256_storeu_ps(sums.as_mut_ptr(), out);
            for (to, sum) in y.row(t + n)[at..].iter_mut().step_by(step).zip(sums) {
                *to = sum;
            }
        }
    }
}

/// All of `rows` for all columns of the activations.
///
/// # Safety
/// The CPU has AVX2, F16C and the instructions of `P`.
#[inline(always)]
pub(super) unsafe fn matmul<P: Dot, B: Unpack>(
    w: &Matrix<'_>,
    x: &Q8Activations<'_>,
    rows: Range<usize>,
    y: &mut Tile<'_>,
) {
    let blocks = w.cols() / B::LEN;
    let mut r = rows.start;
    while r + MR <= rows.end {
        // Far apart, each of the eight rows begins where the one before it will end; by an odd
        // number of rows, so that they don't all want the same places of the cache.
        let far = may_be_far::<B>() && x.n() == 1 && !x.is_fine() && w.row_bytes() >= FAR_BYTES;
        let step = if far { ((rows.end - r) / MR - 1) | 1 } else { 1 };
        for first in r..r + step {
            let (ws, at) =
                (w.rows_from::<B>(first, (MR - 1) * step + 1).as_ptr(), first - rows.start);
            // SAFETY: the caller's promise; the last of the eight rows is there (above), and
            // check_matmul saw to it that the activations are as wide.
            unsafe {
                if may_be_far::<B>() && step > 1 {
                    put::<P, B, 1, false, true>(ws, step, blocks, x, 0, at, y);
                    continue;
                }
                let mut t = 0;
                while !x.is_fine() && t + 2 <= x.n() {
                    put::<P, B, 2, false, false>(ws, 1, blocks, x, t, at, y);
                    t += 2;
                }
                for t in t..x.n() {
                    if x.is_fine() {
                        put::<P, B, 1, true, false>(ws, 1, blocks, x, t, at, y);
                    } else {
                        put::<P, B, 1, false, false>(ws, 1, blocks, x, t, at, y);
                    }
                }
            }
        }
        r += MR * step;
    }
    for r in r..rows.end {
        for t in 0..x.n() {
            y.row(t)[r - rows.start] = crate::ops::quant::dot(w.row::<B>(r), x.row(t));
        }
    }
}
