//! The gemv driver of repacked matrices (`crate::repack`), whose blocks of sixteen rows are
//! interleaved.
//!
//! ```text
//! file       row 0: block 0 | block 1 | ..      row 1: block 0 | ..            row 15: ..
//! repacked   block 0 of rows 0..16: word 0 of each row | word 1 of each row | ..
//!            block 1 of rows 0..16: ..
//!
//! for each two groups of 16 rows, one in each half of `rows`
//!     for each column
//!         for each block b, for each of both groups
//!             acc[group] += scales * dx * sums (+ mins ..)     words are columns already
//! ```
//!
//! No transpose is needed, and memory is read as two streams without an end.

use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
use core::ops::Range;

use super::panel::Shape;
use super::simd_reg::SimdReg;
use super::unpack_interleaved::{Interleaved, UnpackInterleaved, groups};
use crate::activations::{ACT_BLOCK, ACT_SUM, Q8Row};
use crate::{Matrix, Q8Activations, REPACK_ROWS, Tile};

/// Streams that are read at a time: the CPU's prefetcher follows both (Zen 4, Q4_K: 33 GB/s, 22 from
/// one; 24 with software prefetch from the rows of a file).
const STREAMS: usize = 2;

/// Bytes that are prefetched ahead in each of them, where registers are wide. (Emerald Rapids, `avx512`, weights
/// from memory: Q4_0 1.34 times as fast, Q4_K 1.28, Q5_K 1.35, Q6_K 1.72; 8 KiB ahead 1.17, 1.20, 1.26, 1.59.)
const AHEAD: usize = 4096;

/// The most registers that sixteen rows fill.
const HALVES: usize = 2;

/// `sum` and the products of the groups of four bytes `w` with the codes at `q`.
///
/// # Safety
/// The CPU has the register's instructions; as many codes lie at `q`.
#[inline(always)]
pub(super) unsafe fn dots<U: SimdReg, S: Shape>(mut sum: U::I, w: &[U::I], q: *const i8) -> U::I {
    // SAFETY: the caller's promises.
    unsafe {
        if !U::NARROW {
            // Two chains: one of eight products takes longer than what hides it.
            let mut odd = U::splat(0);
            for (i, w) in w.chunks_exact(2).enumerate() {
                let q = q.wrapping_add(8 * i).cast::<i32>();
                sum = U::dot(sum, w[0], U::splat(q.read_unaligned()));
                odd = U::dot(odd, w[1], U::splat(q.wrapping_add(1).read_unaligned()));
            }
            return U::add(sum, odd);
        }
        let mut q = q.cast::<i32>();
        for w in w.chunks_exact(S::PAIRS) {
            let mut pairs = U::splat(0);
            for &w in w {
                let x = U::splat(q.read_unaligned());
                q = q.wrapping_add(1);
                pairs = match S::PAIRS {
                    1 => U::pairs::<true>(w, x),
                    _ => U::add_pairs(pairs, U::pairs::<false>(w, x)),
                };
            }
            sum = U::widen(sum, pairs);
        }
        sum
    }
}

/// Terms of a block's activations, one for each sub-block: with minimums the bits of the sum of codes
/// times their scale, otherwise minus that sum times the excess of bytes over codes.
type Terms = [i32; 16];

/// The terms of block `b` of the row.
///
/// # Safety
/// The activations have the block.
#[inline(always)]
unsafe fn terms<B: UnpackInterleaved>(x: &Q8Row<'_>, b: usize) -> Terms {
    let mut terms = [0; 16];
    for (i, term) in terms.iter_mut().enumerate().take(B::LEN / B::SUB) {
        let code = b * B::LEN + i * B::SUB;
        // SAFETY: the caller's promise.
        let (d, s) = unsafe {
            (
                *x.d.as_ptr().wrapping_add(code / ACT_BLOCK),
                x.s.as_ptr().wrapping_add(code / ACT_SUM),
            )
        };
        // SAFETY: as above; a sub-block has one sum or two.
        let xs = unsafe { if B::SUB == 16 { *s } else { *s + *s.wrapping_add(1) } };
        *term = if B::MINS { (d * xs as f32).to_bits().cast_signed() } else { -B::BIAS * xs };
    }
    terms
}

/// Adds to the accumulators what part `k` of a round of an interleaved block gives, which are
/// blocks `b` of the rows.
///
/// # Safety
/// The CPU has the register's instructions; the block has the round, and the activations have block
/// `b` (and a lower plane where `FINE`).
#[inline(always)]
unsafe fn add_part<U: SimdReg, B: UnpackInterleaved, const FINE: bool>(
    (interleaved, ready): (Interleaved, &B::Ready<U>),
    (round, k): (usize, usize),
    x: &Q8Row<'_>,
    (b, terms): (usize, &Terms),
    mut acc: U::F,
) -> U::F {
    let part = round * B::ROUND + k;
    let a = b * (B::LEN / ACT_BLOCK) + part;
    let subs = const { ACT_BLOCK / B::SUB };
    let signed = U::NARROW && B::Shape::SIGNED;
    // SAFETY: the caller's promises.
    unsafe {
        let w = groups::<U, B>(interleaved, (round, k), if signed { 128 } else { 0 });
        let dx = U::splat_float(*x.d.as_ptr().wrapping_add(a));
        for i in 0..subs {
            let w = &w[i * B::SUB / 4..][..B::SUB / 4];
            let (dw, mw) = B::factors::<U>(ready, round, k * subs + i);
            let first = a * ACT_BLOCK + i * B::SUB;
            let term = terms[part * subs + i];
            // Formats with minimums have unsigned codes.
            let off = U::splat(if B::MINS || signed { 0 } else { term });
            let q = x.q.as_ptr().wrapping_add(first);
            let sum = if let (true, Some(lo)) = (FINE, x.lo) {
                let sum = U::times255(dots::<U, B::Shape>(U::splat(0), w, q));
                dots::<U, B::Shape>(U::add(sum, off), w, lo.as_ptr().wrapping_add(first))
            } else {
                dots::<U, B::Shape>(off, w, q)
            };
            let mut t = U::mul_float(U::mul_float(dw, dx), U::to_float(sum));
            if B::MINS {
                let xs = U::splat_float(f32::from_bits(term.cast_unsigned()));
                t = U::add_float(t, U::mul_float(mw, xs));
            }
            acc = U::add_float(acc, t);
        }
    }
    acc
}

/// Adds to the accumulators what an interleaved block's blocks give, which are block `b` of the
/// rows. Where registers are wide, the interleaved block at `next` is prefetched.
///
/// # Safety
/// As [`add_part`].
#[inline(always)]
unsafe fn add_interleaved<U: SimdReg, B: UnpackInterleaved, const FINE: bool>(
    interleaved: Interleaved,
    next: *const u8,
    x: &Q8Row<'_>,
    of: (usize, &Terms),
    mut acc: U::F,
) -> U::F {
    let rounds = const { B::LEN / ACT_BLOCK / B::ROUND };
    let lines =
        const { (REPACK_ROWS * size_of::<B>()).div_ceil(64 * (B::LEN / ACT_BLOCK / B::ROUND)) };
    // SAFETY: the caller's promises; a prefetch may go anywhere.
    unsafe {
        let at = (interleaved, &B::ready::<U>(interleaved));
        for round in 0..rounds {
            for line in 0..if U::NR >= 8 { lines } else { 0 } {
                let line = round * lines + line;
                _mm_prefetch::<_MM_HINT_T0>(next.wrapping_add(64 * line).cast());
            }
            // One by one, so that what differs between parts is constant and what they share is seen.
            const { assert!(B::ROUND == 1 || B::ROUND == 2 || B::ROUND == 4) };
            acc = add_part::<U, B, FINE>(at, (round, 0), x, of, acc);
            if B::ROUND > 1 {
                acc = add_part::<U, B, FINE>(at, (round, 1), x, of, acc);
            }
            if B::ROUND > 2 {
                acc = add_part::<U, B, FINE>(at, (round, 2), x, of, acc);
                acc = add_part::<U, B, FINE>(at, (round, 3), x, of, acc);
            }
        }
    }
    acc
}

/// The outputs of the sixteen rows at each of `w`, for one row of activations.
///
/// # Safety
/// The CPU has the register's instructions; as many blocks of sixteen rows lie at each of `w`, and
/// the activations are as wide (and have a lower plane where `FINE`).
#[inline(always)]
unsafe fn outputs<U: SimdReg, B: UnpackInterleaved, const FINE: bool>(
    w: [*const u8; STREAMS],
    blocks: usize,
    x: &Q8Row<'_>,
) -> [[f32; REPACK_ROWS]; STREAMS] {
    const { assert!(REPACK_ROWS.is_multiple_of(U::MR) && REPACK_ROWS / U::MR <= HALVES) };
    let mut out = [[0.0; REPACK_ROWS]; STREAMS];
    // SAFETY: the caller's promises; room for every register's lanes.
    unsafe {
        let mut acc = [[U::splat_float(0.0); HALVES]; STREAMS];
        for b in 0..blocks {
            let of = (b, &terms::<B>(x, b));
            for (w, acc) in w.iter().zip(&mut acc) {
                let at = w.wrapping_add(b * REPACK_ROWS * size_of::<B>());
                for (half, acc) in acc.iter_mut().take(REPACK_ROWS / U::MR).enumerate() {
                    let interleaved = Interleaved::new::<B>(at, half * U::MR);
                    let next = at.wrapping_add(AHEAD);
                    *acc = add_interleaved::<U, B, FINE>(interleaved, next, x, of, *acc);
                }
            }
        }
        for (out, acc) in out.iter_mut().zip(acc) {
            for (out, acc) in out.chunks_exact_mut(U::MR).zip(acc) {
                U::store_float(acc, out.as_mut_ptr());
            }
        }
    }
    out
}

/// The groups of rows `groups` for all rows of the activations, put where they belong.
///
/// # Safety
/// The CPU has the register's instructions; the matrix has the groups, and the activations have a
/// lower plane where `FINE`.
#[inline(always)]
unsafe fn put<U: SimdReg, B: UnpackInterleaved, const FINE: bool>(
    w: &Matrix<'_>,
    x: &Q8Activations<'_>,
    rows: &Range<usize>,
    groups: [usize; STREAMS],
    y: &mut Tile<'_>,
) {
    let mut at = [w.bytes().as_ptr(); STREAMS];
    for (at, group) in at.iter_mut().zip(groups) {
        *at = at.wrapping_add(group * REPACK_ROWS * w.row_bytes());
    }
    // The second column and those behind it read from the cache.
    for t in 0..x.n() {
        // SAFETY: the caller's promises; check_matmul saw to it that the activations are as wide.
        let out = unsafe { outputs::<U, B, FINE>(at, w.cols() / B::LEN, &x.row(t)) };
        for (group, out) in groups.into_iter().zip(out) {
            let first = group * REPACK_ROWS;
            let here = first.max(rows.start)..(first + REPACK_ROWS).min(rows.end);
            y.row(t)[here.start - rows.start..][..here.len()]
                .copy_from_slice(&out[here.start - first..][..here.len()]);
        }
    }
}

/// All of `rows` for all rows of the activations.
///
/// # Safety
/// The CPU has the register's instructions; the matrix is repacked, and has the rows.
#[inline(always)]
pub(super) unsafe fn matmul<U: SimdReg, B: UnpackInterleaved>(
    w: &Matrix<'_>,
    x: &Q8Activations<'_>,
    rows: Range<usize>,
    y: &mut Tile<'_>,
) {
    assert!(w.is_repacked() && B::FORMAT == w.format());
    if rows.is_empty() {
        return;
    }
    let (first, end) = (rows.start / REPACK_ROWS, rows.end.div_ceil(REPACK_ROWS));
    let half = (end - first).div_ceil(STREAMS);
    for i in first..first + half {
        // Where the number is odd, the last group is computed twice: the same bits again.
        let groups = [i, (i + half).min(end - 1)];
        // SAFETY: the caller's promises.
        unsafe {
            if x.is_fine() {
                put::<U, B, true>(w, x, &rows, groups, y);
            } else {
                put::<U, B, false>(w, x, &rows, groups, y);
            }
        }
    }
}
