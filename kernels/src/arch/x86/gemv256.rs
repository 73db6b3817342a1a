//! The gemv micro-kernel of 256-bit registers: eight rows.
//!
//! ```text
//! for each block b of a row
//!     scales, mins = those of block b of the eight rows        a row in each lane
//!     for each part of 32 codes
//!         for each column n
//!             sums = dot8(part of the eight blocks, codes of x[n])
//!             acc[n] += scales * dx * sums + mins * (dx * sum of codes)
//! ```
//!
//! Each format brings its own `dot8` ([`Unpack`]): by rows, with the sums of lanes transposed after
//! the products, or by columns, with the bytes transposed before.

use core::arch::x86_64::*;
use core::hint::black_box;
use core::marker::PhantomData;
use core::ops::Range;

use super::dot::Dot;
use super::gemv::{self, MicroKernel};
use super::unpack::{Scales, Unpack};
use crate::activations::{ACT_BLOCK, ACT_SUM, Q8Row};
use crate::{Matrix, Q8Activations, Tile};

/// Rows of a tile.
const MR: usize = 8;
/// Bytes that near rows are prefetched ahead, at least: memory's latency times its bandwidth, twice.
const AHEAD: usize = 6000;
/// Bytes of a row from which far is faster than near, for the formats that have both.
const FAR_BYTES: usize = 640;
/// Bytes that far rows are prefetched ahead.
const AHEAD_FAR: usize = 320;

/// The micro-kernel, for rows of so many blocks.
struct Rows8<P> {
    blocks: usize,
    dot: PhantomData<P>,
}

/// Adds the products of 32 codes of eight rows: part `part` of blocks whose first part is number `a`
/// of the row.
///
/// # Safety
/// As [`MicroKernel::outputs`].
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

impl<P: Dot, B: Unpack> MicroKernel<B, &Q8Activations<'_>> for Rows8<P> {
    const MR: usize = MR;
    /// Super-blocks of up to five bits: from memory, long rows are up to 1.2 times as fast far as
    /// near. Q6_K is slower (3072 columns: 14 for 17.5 GB/s); short blocks were not tried.
    const FAR: bool = B::LEN > ACT_BLOCK && B::MAX <= 31;
    type Outputs = __m256;

    #[inline(always)]
    fn is_far(&self) -> bool {
        self.blocks * size_of::<B>() >= FAR_BYTES
    }

    #[inline(always)]
    unsafe fn outputs<const N: usize, const FINE: bool, const FAR: bool>(
        &self,
        w: *const B,
        step: usize,
        x: [Q8Row<'_>; N],
    ) -> [__m256; N] {
        // Near rows are prefetched into the second-level cache (from memory 1.9 to 2.3 times as fast as
        // without; into the first level 0.5 times as fast as this). Of far ones, the CPU's own prefetcher
        // finds most.
        let blocks = self.blocks;
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
            let (mut w0, mut w4) =
                (w.cast::<u8>(), black_box(w.add(4 * step * blocks)).cast::<u8>());
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
pub(super) unsafe fn matmul<P: Dot, B: Unpack>(
    w: &Matrix<'_>,
    x: &Q8Activations<'_>,
    rows: Range<usize>,
    y: &mut Tile<'_>,
) {
    const { B::CHECKED };
    let kernel = Rows8::<P> { blocks: w.cols() / B::LEN, dot: PhantomData };
    // SAFETY: the caller's promise.
    let left = unsafe { gemv::walk::<Rows8<P>, B, _>(&kernel, w, x, &rows, y) };
    for r in left..rows.end {
        for t in 0..x.n() {
            y.row(t)[r - rows.start] = crate::ops::quant::dot(w.row::<B>(r), x.row(t));
        }
    }
}
