//! Unpackers of the ternary formats, one per format.

use core::arch::aarch64::*;

use super::lanes::widen;
use super::unpack::bits;
use crate::blocks::{F16, I2_S, TQ1_0, TQ2_0, TernaryBlock};

/// The most registers that sixteen bytes of codes give.
pub(super) const REGISTERS: usize = 5;
/// The most steps of a block.
pub(super) const STEPS: usize = 4;

/// A ternary format. A step is sixteen bytes of a block's codes (or the four that are left), of which
/// every register has one code of each byte.
pub(super) trait UnpackTernary: TernaryBlock {
    /// Excess of bytes over the weights.
    const BIAS: i8;
    /// The register whose bytes are four times as much: that saves a shift.
    const FOURFOLD: Option<usize>;
    /// Steps of a block.
    const STEPS: usize;

    /// First of the sixteen weights of register `k`, or `None` if the step has no such register.
    fn place<const STEP: usize>(k: usize) -> Option<usize>;

    /// The registers of a step: weights plus `BIAS`.
    ///
    /// # Safety
    /// The target has NEON; a block lies at `w`.
    unsafe fn bytes<const STEP: usize>(w: *const Self) -> [int8x16_t; REGISTERS];

    /// The scales of a block of each of four rows; `scale` where blocks have none.
    ///
    /// # Safety
    /// The target has NEON; a block lies at each of `w`.
    unsafe fn scales4(w: [*const Self; 4], scale: f32) -> float32x4_t;
}

/// Four f16 as f32.
///
/// # Safety
/// The target has NEON.
#[inline(always)]
unsafe fn floats4(d: [F16; 4]) -> float32x4_t {
    // SAFETY: NEON by the caller.
    unsafe {
        widen(vcreate_u16(bits(d[0]) | bits(d[1]) << 16 | bits(d[2]) << 32 | bits(d[3]) << 48))
    }
}

/// The codes at bits 0, 2 (four times that), 4 and 6 of sixteen bytes.
///
/// # Safety
/// The target has NEON; sixteen bytes lie at `q`.
#[inline(always)]
unsafe fn two_bits(q: *const u8) -> [int8x16_t; REGISTERS] {
    // SAFETY: the caller's promises.
    unsafe {
        let (v, three) = (vld1q_u8(q), vdupq_n_u8(3));
        [
            vreinterpretq_s8_u8(vandq_u8(v, three)),
            vreinterpretq_s8_u8(vandq_u8(v, vdupq_n_u8(12))),
            vreinterpretq_s8_u8(vandq_u8(vshrq_n_u8::<4>(v), three)),
            vreinterpretq_s8_u8(vshrq_n_u8::<6>(v)),
            vdupq_n_s8(0),
        ]
    }
}

impl UnpackTernary for TQ2_0 {
    const BIAS: i8 = 1;
    const FOURFOLD: Option<usize> = Some(1);
    const STEPS: usize = 4;

    #[inline(always)]
    fn place<const STEP: usize>(k: usize) -> Option<usize> {
        (k < 4).then_some(STEP / 2 * 128 + 32 * k + STEP % 2 * 16)
    }
    #[inline(always)]
    unsafe fn bytes<const STEP: usize>(w: *const Self) -> [int8x16_t; REGISTERS] {
        // SAFETY: a block begins with 64 bytes of codes; the rest by the caller.
        unsafe { two_bits(w.cast::<u8>().add(16 * STEP)) }
    }
    #[inline(always)]
    unsafe fn scales4(w: [*const Self; 4], _: f32) -> float32x4_t {
        // SAFETY: the caller's promises.
        unsafe { floats4([(*w[0]).d, (*w[1]).d, (*w[2]).d, (*w[3]).d]) }
    }
}

impl UnpackTernary for I2_S {
    const BIAS: i8 = 1;
    const FOURFOLD: Option<usize> = Some(1);
    const STEPS: usize = 2;

    #[inline(always)]
    fn place<const STEP: usize>(k: usize) -> Option<usize> {
        (k < 4).then(|| 32 * (3 - k) + 16 * STEP)
    }
    #[inline(always)]
    unsafe fn bytes<const STEP: usize>(w: *const Self) -> [int8x16_t; REGISTERS] {
        // SAFETY: a block is 32 bytes of codes; the rest by the caller.
        unsafe { two_bits(w.cast::<u8>().add(16 * STEP)) }
    }
    #[inline(always)]
    unsafe fn scales4(_: [*const Self; 4], scale: f32) -> float32x4_t {
        // SAFETY: NEON by the caller.
        unsafe { vdupq_n_f32(scale) }
    }
}

/// The weights that the first digits of bytes `q` stand for: `3 * q / 256 - 1`, which is 0 from 86
/// on, 1 from 171 on.
///
/// # Safety
/// The target has NEON.
#[inline(always)]
unsafe fn weights(q: uint8x16_t) -> int8x16_t {
    // SAFETY: NEON by the caller. Where a comparison holds, it gives -1.
    unsafe {
        let (zero, two) = (vcleq_u8(q, vdupq_n_u8(85)), vcgtq_u8(q, vdupq_n_u8(170)));
        vreinterpretq_s8_u8(vsubq_u8(zero, two))
    }
}

/// Offset of the last four bytes of digits in a block of TQ1_0, behind 32 and 16 others.
const FOURS: usize = 48;
/// Factors that put each of the four digits of the last bytes first.
const POWERS: [u8; 16] = [1, 1, 1, 1, 3, 3, 3, 3, 9, 9, 9, 9, 27, 27, 27, 27];

impl UnpackTernary for TQ1_0 {
    const BIAS: i8 = 0;
    const FOURFOLD: Option<usize> = None;
    const STEPS: usize = 4;

    #[inline(always)]
    fn place<const STEP: usize>(k: usize) -> Option<usize> {
        match STEP {
            0 | 1 => Some(16 * STEP + 32 * k),
            2 => Some(160 + 16 * k),
            _ => (k == 0).then_some(240),
        }
    }
    #[inline(always)]
    unsafe fn bytes<const STEP: usize>(w: *const Self) -> [int8x16_t; REGISTERS] {
        let q = w.cast::<u8>();
        // SAFETY: the fields of a block; the rest by the caller.
        unsafe {
            if STEP == 3 {
                let four = q.add(FOURS).cast::<u32>().read_unaligned();
                let q = vreinterpretq_u8_u32(vdupq_n_u32(four));
                let zero = vdupq_n_s8(0);
                let v = weights(vmulq_u8(q, vld1q_u8(POWERS.as_ptr())));
                return [v, zero, zero, zero, zero];
            }
            let q = vld1q_u8(q.add(16 * STEP));
            [
                weights(q),
                weights(vmulq_u8(q, vdupq_n_u8(3))),
                weights(vmulq_u8(q, vdupq_n_u8(9))),
                weights(vmulq_u8(q, vdupq_n_u8(27))),
                weights(vmulq_u8(q, vdupq_n_u8(81))),
            ]
        }
    }
    #[inline(always)]
    unsafe fn scales4(w: [*const Self; 4], _: f32) -> float32x4_t {
        // SAFETY: the caller's promises.
        unsafe { floats4([(*w[0]).d, (*w[1]).d, (*w[2]).d, (*w[3]).d]) }
    }
}
