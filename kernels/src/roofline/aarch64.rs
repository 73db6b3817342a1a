//! The ceilings of 64-bit Arm.
//!
//! NEON alone sums bytes by `smull`, `smlal2` and `sadalp`; the others by `sdot` and `smmla`.

use core::arch::aarch64::*;
use core::arch::asm;
use core::hint::black_box;

use super::{Ceilings, rounds, sum, with_constants};
use crate::{Dotprod, I8mm, Neon};

/// Independent sums, of 32 registers.
const SUMS: usize = 16;

/// A hint.
#[inline(always)]
fn fetch(p: *const u8) {
    // SAFETY: a prefetch reads nothing, so any address will do.
    unsafe {
        asm!("prfm pldl2keep, [{p}]", p = in(reg) p, options(nostack, preserves_flags, readonly));
    }
}

sum!(
    sum_128, "neon", uint64x2_t, zero: vdupq_n_u64(0), load: vld1q_u64 as u64, add: vaddq_u64,
    fetch: fetch
);

#[target_feature(enable = "neon")]
fn neon(rounds: u64) {
    let (w, mut x) = (vdupq_n_s8(black_box(3)), vdupq_n_s8(black_box(5)));
    rounds!(rounds, [vdupq_n_s32(0); SUMS], sum => {
        // The compiler shall not see that it is the same product every time.
        // SAFETY: no instruction.
        unsafe { asm!("/* {0:v} */", inout(vreg) x, options(nomem, nostack, preserves_flags)) };
        let low = vmull_s8(vget_low_s8(w), vget_low_s8(x));
        vpadalq_s16(*sum, vmlal_high_s8(low, w, x))
    });
}

/// A function that does one instruction, which the intrinsics of stable Rust lack.
macro_rules! by_instruction {
    ($name:ident, $features:literal, $instruction:literal) => {
        #[target_feature(enable = $features)]
        fn $name(rounds: u64) {
            let (w, x) = (vdupq_n_s8(black_box(3)), vdupq_n_s8(black_box(5)));
            rounds!(rounds, [vdupq_n_s32(0); SUMS], sum => {
                let mut next = *sum;
                // SAFETY: registers only; the function is compiled for the instruction.
                unsafe {
                    asm!(concat!($instruction, " {0:v}.4s, {1:v}.16b, {2:v}.16b"),
                        inout(vreg) next, in(vreg) w, in(vreg) x,
                        options(nostack, preserves_flags, readonly));
                }
                next
            });
        }
    };
}

by_instruction!(sdot, "neon,dotprod", "sdot");
by_instruction!(smmla, "neon,i8mm", "smmla");

#[target_feature(enable = "neon")]
fn fma(rounds: u64) {
    let (m, c) = (vdupq_n_f32(black_box(0.5)), vdupq_n_f32(black_box(1.0)));
    rounds!(rounds, [vdupq_n_f32(0.0); SUMS], sum => vfmaq_f32(c, *sum, m));
}

macro_rules! ceilings {
    ($backend:ty, $int8:ident, $products:literal) => {
        impl Ceilings for $backend {
            fn int8(&self, rounds: u64) -> u64 {
                // SAFETY: a value of this type exists only where its features were found.
                unsafe { $int8(rounds) };
                rounds * 2 * (SUMS * $products) as u64
            }
            fn fma(&self, rounds: u64) -> u64 {
                // SAFETY: as above.
                unsafe { fma(rounds) };
                rounds * 2 * (SUMS * 4) as u64
            }
            fn sum(&self, streams: &[[u8; 64]], n: usize, prefetch: bool) -> u64 {
                // SAFETY: as above.
                unsafe { with_constants!(sum_128, streams, n, prefetch) }
            }
        }
    };
}

ceilings!(Neon, neon, 16);
ceilings!(Dotprod, sdot, 16);
ceilings!(I8mm, smmla, 32);
