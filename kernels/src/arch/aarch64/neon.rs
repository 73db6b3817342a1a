//! NEON alone: what every CPU of this architecture has.

#![allow(clippy::needless_range_loop)] // tiles of a constant size, unrolled by their indices

use core::arch::aarch64::*;

use super::panels::{MR, NR, Panel, Panels, Step, Sums};
use super::rows::{Dot, sums4};
use super::{backend, panels};
use crate::arch::shared::methods;
use crate::{Q8Acts, Tile};

/// The backend of NEON, which every target that has this type has.
#[derive(Clone, Copy, Debug)]
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

impl Panels for Bytes {
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

    #[target_feature(enable = "neon")]
    unsafe fn tile<const STEPS: usize, const MINS: bool, const SMALL: bool, const FINE: bool>(
        panel: &Panel<'_>,
        x: &Q8Acts<'_>,
        t: usize,
        at: usize,
        y: &mut Tile<'_>,
    ) {
        // SAFETY: compiled for the set; the rest by the caller's promise.
        unsafe { panels::tile::<Self, STEPS, MINS, SMALL, FINE>(panel, x, t, at, y) }
    }
}

backend!(Neon, "neon", "neon", Bytes);
