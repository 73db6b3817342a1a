//! Unpackers of the formats whose codes are made in general registers, eight at a time ([`WordBlock`]), and of NVFP4.

use core::arch::aarch64::*;

use super::unpack::{Quads, Unpack, floats_s8, nibbles, times, units};
use crate::blocks::words::WordBlock;
use crate::blocks::{
    IQ1_M, IQ1_S, IQ2_S, IQ2_XS, IQ2_XXS, IQ3_S, IQ3_XXS, NVFP4, Q1_0, Q2_0, mxfp4,
};

/// Scales of a chunk, computed one by one; the last block that is there stands for those missing.
///
/// # Safety
/// The target has NEON; `valid` blocks lie at `w`, at least one.
#[inline(always)]
unsafe fn one_by_one<B: Unpack>(w: *const B, valid: usize) -> (Quads, Quads) {
    let mut all = [0.0; 16];
    for (i, scales) in all.chunks_exact_mut(B::LEN / B::SUB).take(B::CHUNK).enumerate() {
        for (sub, scale) in scales.iter_mut().enumerate() {
            // SAFETY: a block that is there.
            *scale = unsafe { (*w.add(i.min(valid - 1))).scale(sub) };
        }
    }
    let at = |i: usize| all[4 * i..].as_ptr();
    // SAFETY: four floats at each; NEON by the caller.
    let s = unsafe { [vld1q_f32(at(0)), vld1q_f32(at(1)), vld1q_f32(at(2)), vld1q_f32(at(3))] };
    (s, s)
}

/// Scales of a chunk of one block.
///
/// # Safety
/// As [`one_by_one`].
#[inline(always)]
unsafe fn stepped<B: Unpack + WordBlock>(w: *const B, valid: usize) -> (Quads, Quads) {
    // SAFETY: by the caller's promise; sixteen steps.
    unsafe {
        if B::CHUNK > 1 {
            return one_by_one(w, valid);
        }
        let mut steps = [1; 16];
        if B::STEPS {
            for (sub, step) in steps[..B::LEN / B::SUB].iter_mut().enumerate() {
                *step = (*w).step(sub);
            }
        }
        let d = vmulq_n_f32(units((*w).unit(), (*w).unit()), B::FACTOR);
        let s = times(floats_s8(vld1q_s8(steps.as_ptr())), vdupq_laneq_f32::<0>(d));
        (s, s)
    }
}

/// Formats of words. Their codes are -64..=64.
macro_rules! words {
    ($($name:ident),*) => {$(
        impl Unpack for $name {
            #[inline(always)]
            unsafe fn bytes(&self, part: usize) -> [int8x16_t; 2] {
                let [a, b, c, d] = self.words(part);
                // SAFETY: NEON by the caller.
                unsafe {
                    [vcombine_s8(vcreate_s8(a), vcreate_s8(b)), vcombine_s8(vcreate_s8(c), vcreate_s8(d))]
                }
            }
            #[inline(always)]
            unsafe fn scales(w: *const Self, valid: usize) -> (Quads, Quads) {
                // SAFETY: by the caller's promise.
                unsafe { stepped(w, valid) }
            }
        }
    )*};
}
words!(Q1_0, Q2_0, IQ1_S, IQ1_M, IQ2_XXS, IQ2_XS, IQ2_S, IQ3_XXS, IQ3_S);

impl Unpack for NVFP4 {
    #[inline(always)]
    unsafe fn bytes(&self, part: usize) -> [int8x16_t; 2] {
        // SAFETY: sixteen values are there; NEON by the caller.
        unsafe {
            let table = vld1q_s8(mxfp4::VALUES.as_ptr());
            let [low, high] = nibbles(&self.q.as_chunks::<16>().0[part]);
            // Eight bytes' lower and upper halves are a sub-block.
            let (low, high) = (vreinterpretq_u64_u8(low), vreinterpretq_u64_u8(high));
            let (a, b) = (vzip1q_u64(low, high), vzip2q_u64(low, high));
            [vqtbl1q_s8(table, vreinterpretq_u8_u64(a)), vqtbl1q_s8(table, vreinterpretq_u8_u64(b))]
        }
    }
    #[inline(always)]
    unsafe fn scales(w: *const Self, valid: usize) -> (Quads, Quads) {
        // SAFETY: by the caller's promise.
        unsafe { one_by_one(w, valid) }
    }
}
