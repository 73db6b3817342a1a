//! NEON alone: what every CPU of this architecture has.

#![allow(clippy::needless_range_loop)] // tiles of a constant size, unrolled by their indices

use core::arch::aarch64::*;

use super::gemv::{Dot, sums4};
use super::gemv_ternary::TernaryDot;
use super::matmul::backend;
use super::panel::{Gemm, HALF, MR, NR, Step, Sums};
use crate::arch::shared::methods;

/// The backend of NEON, which every target that has this type has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Neon(());

impl Neon {
    /// The backend.
    #[must_use]
    #[allow(clippy::new_without_default)] // as the other sets' are
    pub fn new() -> Self {
        Neon(())
    }
}

/// Products of bytes by `smull` and `smlal`, eight to a register of 16-bit sums.
pub(super) struct Bytes;

impl Dot for Bytes {
    #[inline(always)]
    unsafe fn dot16(w: int8x16_t, x: int8x16_t) -> int32x4_t {
        // SAFETY: NEON by the caller. At most 2 * 128 * 127, which 16 bits hold.
        unsafe {
            let low = vmull_s8(vget_low_s8(w), vget_low_s8(x));
            vpaddlq_s16(vmlal_high_s8(low, w, x))
        }
    }

    #[inline(always)]
    unsafe fn dot32<const SMALL: bool>(w: [int8x16_t; 2], x: [int8x16_t; 2]) -> int32x4_t {
        // SAFETY: NEON by the caller. At most 4 * 64 * 127, or as above twice.
        unsafe {
            let first = vmull_s8(vget_low_s8(w[0]), vget_low_s8(x[0]));
            let first = vmlal_high_s8(first, w[0], x[0]);
            if SMALL {
                let both = vmlal_s8(first, vget_low_s8(w[1]), vget_low_s8(x[1]));
                return vpaddlq_s16(vmlal_high_s8(both, w[1], x[1]));
            }
            let second = vmull_s8(vget_low_s8(w[1]), vget_low_s8(x[1]));
            vpadalq_s16(vpaddlq_s16(first), vmlal_high_s8(second, w[1], x[1]))
        }
    }
}

/// Sums of 16 bits hold those of a whole group, `32 * 3 * 127`, and of a quarter, `8 * 12 * 127`.
impl TernaryDot for Bytes {
    type Sums = int16x8_t;

    #[inline(always)]
    unsafe fn zero() -> int16x8_t {
        // SAFETY: NEON by the caller.
        unsafe { vdupq_n_s16(0) }
    }

    #[inline(always)]
    unsafe fn add(sums: int16x8_t, w: int8x16_t, x: int8x16_t) -> int16x8_t {
        // SAFETY: NEON by the caller.
        unsafe { vmlal_high_s8(vmlal_s8(sums, vget_low_s8(w), vget_low_s8(x)), w, x) }
    }

    #[inline(always)]
    unsafe fn join(sums: int16x8_t, fourfold: int16x8_t) -> int32x4_t {
        // SAFETY: NEON by the caller.
        unsafe { vpaddlq_s16(vsraq_n_s16::<2>(sums, fourfold)) }
    }
}

impl Gemm for Bytes {
    type Gemv = Self;

    /// One row after another.
    #[inline(always)]
    unsafe fn arrange(rows: [int8x16_t; MR]) -> Step {
        let mut step = Step([[0; 16]; MR]);
        for (to, row) in step.0.iter_mut().zip(rows) {
            // SAFETY: sixteen bytes behind `to`; NEON by the caller.
            unsafe { vst1q_s8(to.as_mut_ptr(), row) };
        }
        step
    }

    #[inline(always)]
    unsafe fn sums<const STEPS: usize, const SMALL: bool>(
        steps: &[Step; STEPS],
        x: [*const i8; NR],
    ) -> Sums {
        // SAFETY: the caller's promises; sixteen bytes in each row of a step.
        unsafe {
            let zero = vdupq_n_s32(0);
            let mut out = [[zero; 2]; NR];
            for h in 0..2 {
                for n in 0..NR {
                    let x0 = vld1q_s8(x[n]);
                    let mut sums = [zero; 4];
                    for (r, sum) in sums.iter_mut().enumerate() {
                        let w0 = vld1q_s8(steps[0].0[4 * h + r].as_ptr());
                        *sum = match steps.get(1) {
                            None => Self::dot16(w0, x0),
                            Some(s) => {
                                let w1 = vld1q_s8(s.0[4 * h + r].as_ptr());
                                let x1 = vld1q_s8(x[n].add(16));
                                Self::dot32::<SMALL>([w0, w1], [x0, x1])
                            }
                        };
                    }
                    out[n][h] = sums4(sums);
                }
            }
            out
        }
    }

    /// Sums of 16 bits: at most 16 products of 2 * 127.
    #[inline(always)]
    unsafe fn ternary_sums(steps: &[Step; HALF], x: [*const i8; NR]) -> Sums {
        // SAFETY: the caller's promises; sixteen bytes in each row of a step.
        unsafe {
            let mut out = [[vdupq_n_s32(0); 2]; NR];
            for h in 0..2 {
                let mut sums = [[vdupq_n_s16(0); 4]; NR];
                for (i, step) in steps.iter().enumerate() {
                    for n in 0..NR {
                        let x = vld1q_s8(x[n].add(16 * i));
                        for r in 0..4 {
                            let w = vld1q_s8(step.0[4 * h + r].as_ptr());
                            sums[n][r] = Self::add(sums[n][r], w, x);
                        }
                    }
                }
                for n in 0..NR {
                    let mut four = [vdupq_n_s32(0); 4];
                    for r in 0..4 {
                        four[r] = vpaddlq_s16(sums[n][r]);
                    }
                    out[n][h] = sums4(four);
                }
            }
            out
        }
    }
}

backend!(Neon, "neon", "neon", Bytes);
