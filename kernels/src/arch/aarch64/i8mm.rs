//! NEON with dot products and matrix products of bytes: Cortex-A510 and A710 (2021), Neoverse V1,
//! Apple M2, and later.

#![allow(clippy::needless_range_loop)] // tiles of a constant size, unrolled by their indices

use core::arch::aarch64::*;
use core::arch::asm;

use super::dotprod::Sdot;
use super::matmul::{backend, proof};
use super::panel::{Gemm, MR, NR, Step, Sums};
use crate::arch::shared::methods;

proof! {
    /// Backend that uses the matrix products of bytes. A value proves that the CPU has them.
    I8mm, found: i8mm,
    /// The CPU has the features `dotprod` and `i8mm`.
    unchecked
}

/// Products of bytes by `smmla`: two rows of eight with two columns. Of rows and one column, by `sdot`.
pub(super) struct Smmla;

/// `acc` (rows 0 and 1 with column 0 in lanes 0 and 2, with column 1 in lanes 1 and 3) and the
/// products of two rows of eight codes, `w`, with two columns, `x`. (The intrinsic is not stable.)
///
/// # Safety
/// The CPU has the feature `i8mm`.
#[inline(always)]
unsafe fn smmla(mut acc: int32x4_t, w: int8x16_t, x: int8x16_t) -> int32x4_t {
    // SAFETY: registers only; the instruction by the caller's promise.
    unsafe {
        asm!("smmla {acc:v}.4s, {w:v}.16b, {x:v}.16b",
            acc = inout(vreg) acc, w = in(vreg) w, x = in(vreg) x,
            options(pure, nomem, nostack, preserves_flags));
    }
    acc
}

/// The lower halves of both, and the upper halves.
///
/// # Safety
/// The target has NEON.
#[inline(always)]
unsafe fn pair(a: int8x16_t, b: int8x16_t) -> [int8x16_t; 2] {
    // SAFETY: NEON by the caller.
    unsafe {
        let (a, b) = (vreinterpretq_s64_s8(a), vreinterpretq_s64_s8(b));
        [vreinterpretq_s8_s64(vtrn1q_s64(a, b)), vreinterpretq_s8_s64(vtrn2q_s64(a, b))]
    }
}

impl Gemm for Smmla {
    type Gemv = Sdot;

    /// Eight codes of all rows, then the other eight.
    #[inline(always)]
    unsafe fn arrange(rows: [int8x16_t; MR]) -> Step {
        let mut step = Step([[0; 16]; MR]);
        for p in 0..4 {
            // SAFETY: NEON by the caller; sixteen bytes behind each place of the step.
            unsafe {
                let [low, high] = pair(rows[2 * p], rows[2 * p + 1]);
                vst1q_s8(step.0[p].as_mut_ptr(), low);
                vst1q_s8(step.0[4 + p].as_mut_ptr(), high);
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
            let zero = vdupq_n_s32(0);
            let mut acc = [[zero; MR / 2]; NR / 2];
            for (i, step) in steps.iter().enumerate() {
                for (c, acc) in acc.iter_mut().enumerate() {
                    let at = [x[2 * c].add(16 * i), x[2 * c + 1].add(16 * i)];
                    let x = pair(vld1q_s8(at[0]), vld1q_s8(at[1]));
                    for half in 0..2 {
                        for (p, acc) in acc.iter_mut().enumerate() {
                            let w = vld1q_s8(step.0[4 * half + p].as_ptr());
                            *acc = smmla(*acc, w, x[half]);
                        }
                    }
                }
            }
            let mut out = [[zero; 2]; NR];
            for (c, acc) in acc.iter().enumerate() {
                for h in 0..2 {
                    out[2 * c][h] = vuzp1q_s32(acc[2 * h], acc[2 * h + 1]);
                    out[2 * c + 1][h] = vuzp2q_s32(acc[2 * h], acc[2 * h + 1]);
                }
            }
            out
        }
    }
}

backend!(I8mm, "i8mm", "neon,dotprod,i8mm", Smmla);
