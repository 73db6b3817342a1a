//! The driver for few columns of AVX-512 with VNNI: sixteen rows at a time, read where they lie, their
//! sums in the sixteen lanes of a register.

use core::arch::asm;
use core::arch::x86_64::*;
use core::hint::black_box;
use core::ops::Range;

use super::dot::Dot;
use super::gemv256::matmul as eight;
use super::gemv512_columns::MR;
use super::unpack::Unpack;
use super::unpack16::Unpack16;
use crate::activations::{ACT_BLOCK, ACT_SUM, Q8Row};
use crate::blocks::{IQ4_NL, Q2_K, Q3_K, Q4_0, Q4_1, Q4_K, Q5_0, Q5_1, Q5_K, Q6_K, Q8_0};
use crate::entered::enter;
use crate::{Matrix, Q8Activations, Tile};

/// How far ahead weights of rows side by side are fetched, at least.
const AHEAD: usize = 6000;
/// Super-blocks are taken of rows far apart: from memory up to 1.3 times as fast as side by side. Short
/// blocks are slower so.
const fn far<B: Unpack16>() -> bool {
    B::LEN > ACT_BLOCK
}

/// Rows of fewer super-blocks go by eight (GPT-2 124M, most of whose rows have three, is 0.9 times as
/// fast by sixteen), and so do several columns and those of two planes, which want rows side by side.
const FAR_BLOCKS: usize = 8;
/// How far ahead weights of rows far apart are fetched.
const AHEAD_FAR: usize = 1024;

/// Which driver a format has here.
pub(super) trait Few: Unpack {
    /// All of `rows` for all columns of the activations.
    ///
    /// # Safety
    /// The CPU has AVX-512 F, BW, VL, DQ and VNNI, F16C and the instructions of `P`.
    unsafe fn matmul<P: Dot>(
        w: &Matrix<'_>,
        x: &Q8Activations<'_>,
        rows: Range<usize>,
        y: &mut Tile<'_>,
    );
}

macro_rules! few {
    ($driver:ident: $($format:ident),*) => {
        $(
            impl Few for $format {
                #[inline(always)]
                unsafe fn matmul<P: Dot>(
                    w: &Matrix<'_>,
                    x: &Q8Activations<'_>,
                    rows: Range<usize>,
                    y: &mut Tile<'_>,
                ) {
                    // SAFETY: the caller's promises.
                    unsafe { $driver::<P, Self>(w, x, rows, y) }
                }
            }
        )*
    };
}
few!(sixteen: IQ4_NL, Q4_0, Q4_1, Q5_0, Q5_1, Q2_K, Q3_K, Q4_K, Q5_K);
// From memory no faster, or slower, with sixteen.
few!(eight: Q8_0, Q6_K);

/// What a row of activations adds to the sums of a block besides products of its codes, for every
/// sub-block.
#[derive(Clone, Copy)]
struct Terms {
    /// What the bias of the bytes adds to sums.
    bias: [i32; 16],
    /// What minimums are multiplied with.
    of_mins: [f32; 16],
}

impl Terms {
    /// Of the block whose first 32 codes are number `a` of the row.
    ///
    /// # Safety
    /// The CPU has AVX-512 F; the row has the block.
    #[inline(always)]
    unsafe fn of<B: Unpack16>(x: Q8Row<'_>, a: usize) -> Terms {
        let mut terms = Terms { bias: [0; 16], of_mins: [0.0; 16] };
        // SAFETY: the caller's promises.
        unsafe {
            let (s, d) = (x.s.as_ptr().add(a * (ACT_BLOCK / ACT_SUM)), x.d.as_ptr().add(a));
            if B::LEN == ACT_BLOCK {
                let s = *s + *s.add(1);
                terms.bias[0] = B::BIAS * s;
                terms.of_mins[0] = *d * s as f32;
                return terms;
            }
            let (s, d) = (_mm512_loadu_si512(s.cast()), _mm256_loadu_ps(d));
            if B::BIAS != 0 {
                let bias = _mm512_mullo_epi32(s, _mm512_set1_epi32(B::BIAS));
                _mm512_storeu_si512(terms.bias.as_mut_ptr().cast(), bias);
            }
            if B::MINS && B::SUB == 16 {
                let twice = _mm512_set_epi32(7, 7, 6, 6, 5, 5, 4, 4, 3, 3, 2, 2, 1, 1, 0, 0);
                let d = _mm512_permutexvar_ps(twice, _mm512_castps256_ps512(d));
                let of_mins = _mm512_mul_ps(d, _mm512_cvtepi32_ps(s));
                _mm512_storeu_ps(terms.of_mins.as_mut_ptr(), of_mins);
            } else if B::MINS {
                // The sums of two neighbours are those of 32.
                let s = _mm512_add_epi32(s, _mm512_srli_epi64::<32>(s));
                let s = _mm256_cvtepi32_ps(_mm512_cvtepi64_epi32(s));
                _mm256_storeu_ps(terms.of_mins.as_mut_ptr(), _mm256_mul_ps(d, s));
            }
        }
        terms
    }
}

/// Blocks of sixteen rows, and what goes with them.
struct Blocks<'a, B: Unpack16, const N: usize> {
    w: [*const u8; MR],
    scales: B::Scales,
    x: [Q8Row<'a>; N],
    /// The number of their first 32 codes in the row.
    a: usize,
    terms: [Terms; N],
}

impl<B: Unpack16, const N: usize> Blocks<'_, B, N> {
    /// Adds the products of part `part`.
    ///
    /// # Safety
    /// As [`rows`].
    #[inline(always)]
    unsafe fn part<const FINE: bool>(&self, part: usize, acc: &mut [__m512; N]) {
        let (x, a) = (&self.x, self.a + part);
        // SAFETY: the caller's promises.
        unsafe {
            let mut q = [x[0].q.as_ptr(); N];
            for (q, x) in q.iter_mut().zip(x) {
                *q = x.q.as_ptr().add(a * ACT_BLOCK);
            }
            let sums = if let (true, Some(lo)) = (FINE, x[0].lo) {
                // Two planes are like two columns.
                let [u, l] = B::dot16::<2>(self.w, part, [q[0], lo.as_ptr().add(a * ACT_BLOCK)]);
                let mut sums = [l; N];
                for (s, u) in sums[0].iter_mut().zip(u) {
                    *s = _mm512_add_epi32(*s, _mm512_sub_epi32(_mm512_slli_epi32::<8>(u), u));
                }
                sums
            } else {
                B::dot16::<N>(self.w, part, q)
            };
            for (i, sub) in (part * ACT_BLOCK / B::SUB..).take(ACT_BLOCK / B::SUB).enumerate() {
                let scale = B::lane_scales(&self.scales, sub);
                let min = B::lane_mins(&self.scales, sub);
                for n in 0..N {
                    let bias = _mm512_set1_epi32(self.terms[n].bias[sub]);
                    let sum = match B::BIAS {
                        0 => sums[n][i],
                        _ => _mm512_sub_epi32(sums[n][i], bias),
                    };
                    let d = _mm512_mul_ps(scale, _mm512_set1_ps(*x[n].d.get_unchecked(a)));
                    let mut t = _mm512_mul_ps(d, _mm512_cvtepi32_ps(sum));
                    if B::MINS {
                        let of_mins = _mm512_set1_ps(self.terms[n].of_mins[sub]);
                        t = _mm512_add_ps(t, _mm512_mul_ps(min, of_mins));
                    }
                    acc[n] = _mm512_add_ps(acc[n], t);
                }
            }
        }
    }
}

/// `w`, of which the compiler doesn't know where it comes from.
#[inline(always)]
#[allow(clippy::pointers_in_nomem_asm_block)] // nothing looks at what is there
fn unknown(mut w: *const u8) -> *const u8 {
    // SAFETY: no instruction at all.
    unsafe { asm!("/* {} */", inout(reg) w, options(pure, nomem, nostack, preserves_flags)) };
    w
}

/// Sixteen outputs, of the row at `w` and every `step`-th after it, for each of `N` rows of activations.
///
/// # Safety
/// The CPU has AVX-512 F, BW, VL, DQ and VNNI; these rows of `blocks` blocks are there; each of `x` is
/// as long, and with `FINE` there is one, with two planes.
#[inline(always)]
unsafe fn rows<B: Unpack16, const N: usize, const FINE: bool>(
    w: *const B,
    step: usize,
    blocks: usize,
    x: [Q8Row<'_>; N],
) -> [__m512; N] {
    // The CPU's own prefetcher finds neither sixteen short streams nor many instructions with a long
    // one each: it is told what to fetch, into the second-level cache (into the first: half as fast).
    let step = if far::<B>() { step } else { 1 };
    let tile = MR * blocks * size_of::<B>();
    let ahead = if far::<B>() { AHEAD_FAR } else { AHEAD.div_ceil(tile.max(1)) * tile };
    let every = 64 / 2 / size_of::<B>() + 1; // blocks between fetches: twice for a line
    // SAFETY: the intrinsics and the addresses by the caller's promise; a prefetch may go anywhere.
    unsafe {
        let mut acc = [_mm512_setzero_ps(); N];
        // Every fourth row, and the two distances from which addresses reach the others: hidden
        // where they come from and that they advance, since compilers keep a register for each of
        // the sixteen otherwise, most of them on the stack (Q4_0: 1.16 times as slow).
        let stride = step * blocks * size_of::<B>();
        let stride3 = black_box(3 * stride);
        let w = w.cast::<u8>();
        let mut fourth = [w; 4];
        for (r, at) in fourth.iter_mut().enumerate() {
            *at = w.wrapping_add(4 * r * stride);
        }
        for b in 0..blocks {
            for w in &mut fourth {
                *w = unknown(*w);
            }
            let four = |w: *const u8| {
                let near = [w, w.wrapping_add(stride)];
                [near[0], near[1], w.wrapping_add(2 * stride), w.wrapping_add(stride3)]
            };
            // For four rows at a time.
            let fetch = |four_rows: [*const u8; 4]| {
                for w in four_rows {
                    for line in 0..size_of::<B>().div_ceil(64) {
                        _mm_prefetch::<_MM_HINT_T1>(w.wrapping_add(line * 64).cast());
                    }
                }
            };
            let next = fourth.map(|w| w.wrapping_add(ahead));
            let spread = far::<B>() && !B::SHARED;
            if !spread && b % every == 0 {
                for next in next {
                    fetch(four(next));
                }
            }
            let mut ws = [w; MR];
            for (ws, at) in ws.iter_mut().zip(fourth.into_iter().flat_map(four)) {
                *ws = at;
            }
            for w in &mut fourth {
                *w = w.wrapping_add(size_of::<B>());
            }
            let a = b * (B::LEN / ACT_BLOCK);
            let mut terms = [Terms::of::<B>(x[0], a); N];
            for n in 1..N {
                terms[n] = Terms::of::<B>(x[n], a);
            }
            let blocks = Blocks::<B, N> { w: ws, scales: B::scales16(ws), x, a, terms };
            if spread {
                fetch(four(next[0]));
            }
            blocks.part::<FINE>(0, &mut acc);
            if B::LEN > ACT_BLOCK {
                // One by one, so that what differs between parts is constant and what they share is
                // seen.
                const { assert!(B::LEN == ACT_BLOCK || B::LEN == 8 * ACT_BLOCK) };
                blocks.part::<FINE>(1, &mut acc);
                if spread {
                    fetch(four(next[1]));
                }
                blocks.part::<FINE>(2, &mut acc);
                blocks.part::<FINE>(3, &mut acc);
                if spread {
                    fetch(four(next[2]));
                }
                blocks.part::<FINE>(4, &mut acc);
                blocks.part::<FINE>(5, &mut acc);
                if spread {
                    fetch(four(next[3]));
                }
                blocks.part::<FINE>(6, &mut acc);
                blocks.part::<FINE>(7, &mut acc);
            }
        }
        acc
    }
}

/// Sixteen outputs at column `at` and those after it, every `step`-th, of the rows `t..t + N` of `y`.
///
/// # Safety
/// As [`rows`].
#[inline(always)]
unsafe fn put<B: Unpack16, const N: usize, const FINE: bool>(
    w: *const B,
    step: usize,
    blocks: usize,
    x: &Q8Activations<'_>,
    (t, at): (usize, usize),
    y: &mut Tile<'_>,
) {
    let mut xs = [x.row(t); N];
    for (n, row) in xs.iter_mut().enumerate() {
        *row = x.row(t + n);
    }
    // SAFETY: the caller's promise; `sums` has room for sixteen.
    unsafe {
        let out = rows::<B, N, FINE>(w, step, blocks, xs);
        for (n, out) in out.into_iter().enumerate() {
            let mut sums = [0.0; MR];
            _mm512_storeu_ps(sums.as_mut_ptr(), out);
            for (to, sum) in y.row(t + n)[at..].iter_mut().step_by(step).zip(sums) {
                *to = sum;
            }
        }
    }
}

/// As many of `rows` as go by sixteen; those that are left by [`eight`].
///
/// # Safety
/// As [`Few::matmul`].
#[inline(always)]
unsafe fn sixteen<P: Dot, B: Unpack16>(
    w: &Matrix<'_>,
    x: &Q8Activations<'_>,
    rows: Range<usize>,
    y: &mut Tile<'_>,
) {
    let blocks = w.cols() / B::LEN;
    let one = x.n() == 1 && !x.is_fine() && blocks >= FAR_BLOCKS;
    let end = if one || !far::<B>() { rows.end } else { rows.start };
    let mut r = rows.start;
    while r + MR <= end {
        enter!("sixteen rows", B::FORMAT.name());
        // Far apart, each of the sixteen rows begins where the one before it will end; by an odd
        // number of rows, so that they don't all want the same places of the cache.
        let step = if far::<B>() { ((end - r) / MR - 1) | 1 } else { 1 };
        for first in r..r + step {
            let (ws, at) =
                (w.rows_from::<B>(first, (MR - 1) * step + 1).as_ptr(), first - rows.start);
            // SAFETY: the caller's promise; the last of the rows is there (above), and check_matmul
            // saw to it that the activations are as wide.
            unsafe {
                if far::<B>() {
                    put::<B, 1, false>(ws, step, blocks, x, (0, at), y);
                    continue;
                }
                let mut t = 0;
                while !x.is_fine() && t + 2 <= x.n() {
                    put::<B, 2, false>(ws, 1, blocks, x, (t, at), y);
                    t += 2;
                }
                for t in t..x.n() {
                    if x.is_fine() {
                        put::<B, 1, true>(ws, 1, blocks, x, (t, at), y);
                    } else {
                        put::<B, 1, false>(ws, 1, blocks, x, (t, at), y);
                    }
                }
            }
        }
        r += MR * step;
    }
    let mut rest = y.cols(r - rows.start, rows.end - r);
    // SAFETY: the caller's promise.
    unsafe { eight::<P, B>(w, x, r..rows.end, &mut rest) }
}

/// All of `rows` for all columns of the activations.
///
/// # Safety
/// As [`Few::matmul`].
#[inline(always)]
pub(super) unsafe fn matmul<P: Dot, B: Few>(
    w: &Matrix<'_>,
    x: &Q8Activations<'_>,
    rows: Range<usize>,
    y: &mut Tile<'_>,
) {
    // SAFETY: the caller's promises.
    unsafe { B::matmul::<P>(w, x, rows, y) }
}
