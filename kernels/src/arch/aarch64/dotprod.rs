//! NEON with the dot products of bytes: Cortex-A55 and A76 (2018), all Apple M, and later.

use core::arch::aarch64::*;
use core::arch::asm;

use super::gemv::Dot;
use super::gemv_ternary::TernaryDot;
use super::matmul::{backend, proof};
use super::panel::{Gemm, MR, NR, Step, Sums};
use crate::arch::shared::methods;

proof! {
    /// Backend that uses the dot products of bytes. A value proves that the CPU has them.
    Dotprod, found: dotprod,
    /// The CPU has the feature `dotprod`.
    unchecked
}

/// Products of bytes by `sdot`, four to a lane.
pub(super) struct Sdot;

/// `acc` and, in each lane, the products of four neighbours. (The intrinsics are not stable.)
///
/// # Safety
/// The CPU has the feature `dotprod`.
#[inline(always)]
unsafe fn sdot(mut acc: int32x4_t, w: int8x16_t, x: int8x16_t) -> int32x4_t {
    // SAFETY: registers only; the instruction by the caller's promise.
    unsafe {
        asm!("sdot {acc:v}.4s, {w:v}.16b, {x:v}.16b",
            acc = inout(vreg) acc, w = in(vreg) w, x = in(vreg) x,
            options(pure, nomem, nostack, preserves_flags));
    }
    acc
}

/// The same with the four codes in lane `LANE` of `x` for all lanes of `w`.
///
/// # Safety
/// The CPU has the feature `dotprod`.
#[inline(always)]
unsafe fn sdot_lane<const LANE: i32>(mut acc: int32x4_t, w: int8x16_t, x: int8x16_t) -> int32x4_t {
    // SAFETY: registers only; the instruction by the caller's promise.
    unsafe {
        asm!("sdot {acc:v}.4s, {w:v}.16b, {x:v}.4b[{lane}]",
            acc = inout(vreg) acc, w = in(vreg) w, x = in(vreg) x, lane = const LANE,
            options(pure, nomem, nostack, preserves_flags));
    }
    acc
}

impl Dot for Sdot {
    #[inline(always)]
    unsafe fn dot16(w: int8x16_t, x: int8x16_t) -> int32x4_t {
        // SAFETY: by the caller's promise.
        unsafe { sdot(vdupq_n_s32(0), w, x) }
    }

    #[inline(always)]
    unsafe fn dot32<const SMALL: bool>(w: [int8x16_t; 2], x: [int8x16_t; 2]) -> int32x4_t {
        // SAFETY: by the caller's promise.
        unsafe { sdot(sdot(vdupq_n_s32(0), w[0], x[0]), w[1], x[1]) }
    }
}

impl TernaryDot for Sdot {
    type Sums = int32x4_t;

    #[inline(always)]
    unsafe fn zero() -> int32x4_t {
        // SAFETY: NEON by the caller.
        unsafe { vdupq_n_s32(0) }
    }

    #[inline(always)]
    unsafe fn add(sums: int32x4_t, w: int8x16_t, x: int8x16_t) -> int32x4_t {
        // SAFETY: by the caller's promise.
        unsafe { sdot(sums, w, x) }
    }

    #[inline(always)]
    unsafe fn join(sums: int32x4_t, fourfold: int32x4_t) -> int32x4_t {
        // SAFETY: NEON by the caller.
        unsafe { vsraq_n_s32::<2>(sums, fourfold) }
    }
}

/// Adds the products of four codes, lane `LANE` of each `x`, with those of eight rows.
///
/// # Safety
/// The CPU has the feature `dotprod`.
#[inline(always)]
unsafe fn add4<const LANE: i32>(out: &mut Sums, w: &[[i8; 16]; 2], x: [int8x16_t; NR]) {
    // SAFETY: by the caller's promise; sixteen bytes behind each `w`.
    unsafe {
        let w = [vld1q_s8(w[0].as_ptr()), vld1q_s8(w[1].as_ptr())];
        for n in 0..NR {
            for h in 0..2 {
                out[n][h] = sdot_lane::<LANE>(out[n][h], w[h], x[n]);
            }
        }
    }
}

impl Gemm for Sdot {
    type Gemv = Self;

    /// Four codes of all rows, then the next four.
    #[inline(always)]
    unsafe fn arrange(rows: [int8x16_t; MR]) -> Step {
        let mut step = Step([[0; 16]; MR]);
        // SAFETY: NEON by the caller; sixteen bytes behind each place of the step.
        unsafe {
            for h in 0..2 {
                let [a, b, c, d] = [
                    vreinterpretq_s32_s8(rows[4 * h]),
                    vreinterpretq_s32_s8(rows[4 * h + 1]),
                    vreinterpretq_s32_s8(rows[4 * h + 2]),
                    vreinterpretq_s32_s8(rows[4 * h + 3]),
                ];
                let (ab, cd) =
                    ((vtrn1q_s32(a, b), vtrn2q_s32(a, b)), (vtrn1q_s32(c, d), vtrn2q_s32(c, d)));
                let (ab, cd) = (
                    (vreinterpretq_s64_s32(ab.0), vreinterpretq_s64_s32(ab.1)),
                    (vreinterpretq_s64_s32(cd.0), vreinterpretq_s64_s32(cd.1)),
                );
                let four = [
                    vtrn1q_s64(ab.0, cd.0),
                    vtrn1q_s64(ab.1, cd.1),
                    vtrn2q_s64(ab.0, cd.0),
                    vtrn2q_s64(ab.1, cd.1),
                ];
                for (g, v) in four.into_iter().enumerate() {
                    vst1q_s8(step.0[2 * g + h].as_mut_ptr(), vreinterpretq_s8_s64(v));
                }
            }
        }
        step
    }

    #[inline(always)]
    unsafe fn sums<const STEPS: usize, const SMALL: bool>(
        steps: &[Step; STEPS],
        x: [*const i8; NR],
    ) -> Sums {
        // SAFETY: the caller's promises.
        unsafe {
            let mut out = [[vdupq_n_s32(0); 2]; NR];
            for (i, step) in steps.iter().enumerate() {
                let mut xs = [vdupq_n_s8(0); NR];
                for (to, x) in xs.iter_mut().zip(x) {
                    *to = vld1q_s8(x.add(16 * i));
                }
                let [w0, w1, w2, w3, ..] = step.0.as_chunks::<2>().0 else { unreachable!() };
                add4::<0>(&mut out, w0, xs);
                add4::<1>(&mut out, w1, xs);
                add4::<2>(&mut out, w2, xs);
                add4::<3>(&mut out, w3, xs);
            }
            out
        }
    }
}

backend!(Dotprod, "dotprod", "neon,dotprod", Sdot);
