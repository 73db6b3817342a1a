//! The gemv driver of ternary weights: four rows at a time, read where they lie.
//!
//! ```text
//! for each 4 rows, for each column
//!     for each group of 256 columns
//!         sums = products of the group, a row in each lane
//!         acc += scales * dx * (sums - bias * sum of codes)
//! ```
//!
//! Sums stay in the lanes of products for all of a group of 256; only then lanes are added up, the
//! bias is taken off, and integers become floats, four rows to a register.

use core::arch::aarch64::*;
use core::ops::Range;

use super::gemv::{MR, put, sums4};
use super::unpack_ternary::{REGISTERS, STEPS, UnpackTernary};
use crate::{Matrix, Tile, WIDE_BLOCK, WideActivations, WideRow};

/// Sums of products with bytes of ternary weights, for a row's group of 256.
///
/// # Safety
/// Of all functions: the CPU has the instructions of the implementation.
pub(super) trait TernaryDot {
    /// Sums in lanes, each for a part of the products.
    type Sums: Copy;

    unsafe fn zero() -> Self::Sums;
    /// `sums` and the products of sixteen bytes with codes: in all for the 256 weights of a group,
    /// where bytes are at most 3, and for a quarter of them, where they are at most 12.
    unsafe fn add(sums: Self::Sums, w: int8x16_t, x: int8x16_t) -> Self::Sums;
    /// `sums` and a quarter of `fourfold`, whose lanes are multiples of 4.
    unsafe fn join(sums: Self::Sums, fourfold: Self::Sums) -> int32x4_t;
}

/// The sums of four rows: once and fourfold.
type Both<P> = [[<P as TernaryDot>::Sums; MR]; 2];

/// Adds the products of step `STEP` of a block of each row with the codes at `x`, where those of the
/// block begin.
///
/// # Safety
/// As [`group`], for one block.
#[inline(always)]
unsafe fn step<P: TernaryDot, B: UnpackTernary, const STEP: usize>(
    sums: &mut Both<P>,
    w: [*const B; MR],
    x: *const i8,
) {
    if STEP >= B::STEPS {
        return;
    }
    // SAFETY: the caller's promises; places are those of a block's weights.
    unsafe {
        let mut codes = [vdupq_n_s8(0); REGISTERS];
        for (k, codes) in codes.iter_mut().enumerate() {
            if let Some(at) = B::place::<STEP>(k) {
                *codes = vld1q_s8(x.add(at));
            }
        }
        for r in 0..MR {
            let bytes = B::bytes::<STEP>(w[r]);
            for k in 0..REGISTERS {
                if B::place::<STEP>(k).is_some() {
                    let sums = &mut sums[usize::from(B::FOURFOLD == Some(k))][r];
                    *sums = P::add(*sums, bytes[k], codes[k]);
                }
            }
        }
    }
}

/// Lane `r` is the sum of the products of the bytes of the group at `w[r]` with the codes at `x`.
///
/// # Safety
/// The CPU has the instructions of `P`; `blocks` blocks, a group at most, lie at each `w`, and as many
/// codes at `x`.
#[inline(always)]
unsafe fn group<P: TernaryDot, B: UnpackTernary>(
    w: [*const B; MR],
    blocks: usize,
    x: *const i8,
) -> int32x4_t {
    const { assert!(B::STEPS <= STEPS) }
    // SAFETY: the caller's promises; block b is there.
    unsafe {
        let mut sums = [[P::zero(); MR]; 2];
        for b in 0..blocks {
            let w = [w[0].add(b), w[1].add(b), w[2].add(b), w[3].add(b)];
            let x = x.add(b * B::LEN);
            step::<P, B, 0>(&mut sums, w, x);
            step::<P, B, 1>(&mut sums, w, x);
            step::<P, B, 2>(&mut sums, w, x);
            step::<P, B, 3>(&mut sums, w, x);
        }
        let [one, four] = sums;
        sums4([
            P::join(one[0], four[0]),
            P::join(one[1], four[1]),
            P::join(one[2], four[2]),
            P::join(one[3], four[3]),
        ])
    }
}

/// Four outputs.
///
/// # Safety
/// The CPU has the instructions of `P`; `blocks` blocks lie at each `w`; `x` is as long.
#[inline(always)]
unsafe fn rows<P: TernaryDot, B: UnpackTernary>(
    w: [*const B; MR],
    blocks: usize,
    scale: f32,
    x: WideRow<'_>,
) -> float32x4_t {
    let per = WIDE_BLOCK / B::LEN;
    // SAFETY: the caller's promises; the group from block b on.
    unsafe {
        let mut acc = vdupq_n_f32(0.0);
        let mut b = 0;
        for (&d, &s) in x.d.iter().zip(x.s) {
            let ws = [w[0].add(b), w[1].add(b), w[2].add(b), w[3].add(b)];
            // A constant where blocks are whole groups.
            let here = if per == 1 { 1 } else { per.min(blocks - b) };
            let mut sum = group::<P, B>(ws, here, x.q.as_ptr().add(b * B::LEN));
            if B::BIAS != 0 {
                sum = vsubq_s32(sum, vdupq_n_s32(s * i32::from(B::BIAS)));
            }
            let both = vmulq_n_f32(B::scales4(ws, scale), d);
            acc = vaddq_f32(acc, vmulq_f32(both, vcvtq_f32_s32(sum)));
            b += per;
        }
        acc
    }
}

/// All of `rows` for all columns of the activations.
///
/// # Safety
/// The CPU has the instructions of `P`.
#[inline(always)]
pub(super) unsafe fn matmul<P: TernaryDot, B: UnpackTernary>(
    w: &Matrix<'_>,
    x: &WideActivations<'_>,
    rows_: Range<usize>,
    y: &mut Tile<'_>,
) {
    let blocks = w.cols() / B::LEN;
    assert!(x.cols() == w.cols());
    let mut r = rows_.start;
    while r < rows_.end {
        // Of fewer than four the last stands for those that aren't there.
        let n = MR.min(rows_.end - r);
        let row = |i: usize| w.row::<B>(r + i.min(n - 1)).as_ptr();
        let ws = [row(0), row(1), row(2), row(3)];
        for t in 0..x.n() {
            // SAFETY: the caller's promise; whole rows of weights, and activations as wide.
            unsafe {
                let out = rows::<P, B>(ws, blocks, w.scale(), x.row(t));
                put(out, &mut y.row(t)[r - rows_.start..][..n]);
            }
        }
        r += n;
    }
}
