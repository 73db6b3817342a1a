//! Unpackers of the ternary formats, one per format: registers of eight codes of 16 bits.

use core::arch::wasm32::*;

use super::lanes::from_f16;
use crate::blocks::{F16, I2_S, TQ1_0, TQ2_0, TernaryBlock};

/// The most digits of a byte.
pub(super) const DIGITS: usize = 5;
/// The most steps of a block.
pub(super) const STEPS: usize = 4;

/// A ternary format. A step is sixteen bytes of a block's codes (or the four that are left); their
/// `k`-th codes come from even and from odd bytes, in a register each.
///
/// Codes of two bits stay at the bits where they are, and activations are multiplied by what is
/// missing to `2^SHIFT`: that takes no shifts, and one at the end.
pub(super) trait UnpackTernary: TernaryBlock {
    /// Codes of a byte.
    const DIGITS: usize;
    /// Steps of a block.
    const STEPS: usize;
    /// Products are larger by so many bits.
    const SHIFT: u32;

    /// First of the sixteen weights of digit `k` of a step, or `None` if it has no such digit.
    fn place(step: usize, k: usize) -> Option<usize>;

    /// Factor of the activations of digit `k`.
    fn factor(k: usize) -> i16;

    /// The codes of a step, one more than the weights, times `2^SHIFT` and divided by the factor.
    fn words<const STEP: usize>(&self) -> [[v128; 2]; DIGITS];

    /// The scales of a block of each of four rows; `scale` where blocks have none.
    fn scales4(w: [&Self; 4], scale: f32) -> v128;
}

/// Sixteen bytes from `at` on: even ones, and odd ones.
#[inline(always)]
fn split(q: &[u8], at: usize) -> [v128; 2] {
    let q: &[u8] = &q[at..][..16];
    // SAFETY: sixteen bytes (just checked); wasm loads from any address.
    halves(unsafe { v128_load(q.as_ptr().cast()) })
}

/// The lower and the upper byte of every pair.
#[inline(always)]
fn halves(v: v128) -> [v128; 2] {
    [v128_and(v, u16x8_splat(0xff)), u16x8_shr(v, 8)]
}

/// Four f16 as f32.
#[inline(always)]
fn floats4(d: [F16; 4]) -> v128 {
    let bits = |d: F16| u32::from(u16::from_le_bytes(bytemuck::cast(d)));
    from_f16(u32x4(bits(d[0]), bits(d[1]), bits(d[2]), bits(d[3])))
}

/// Codes of two bits where they are.
#[inline(always)]
fn two_bits(q: &[u8], at: usize) -> [[v128; 2]; DIGITS] {
    let [even, odd] = split(q, at);
    let digit = |k: u32| {
        let mask = u16x8_splat(3 << (2 * k));
        [v128_and(even, mask), v128_and(odd, mask)]
    };
    [digit(0), digit(1), digit(2), digit(3), [even; 2]]
}

impl UnpackTernary for TQ2_0 {
    const DIGITS: usize = 4;
    const STEPS: usize = 4;
    const SHIFT: u32 = 6;

    #[inline(always)]
    fn place(step: usize, k: usize) -> Option<usize> {
        (k < 4).then_some(step / 2 * 128 + 32 * k + step % 2 * 16)
    }
    #[inline(always)]
    fn factor(k: usize) -> i16 {
        64 >> (2 * k)
    }
    #[inline(always)]
    fn words<const STEP: usize>(&self) -> [[v128; 2]; DIGITS] {
        two_bits(&self.q, 16 * STEP)
    }
    #[inline(always)]
    fn scales4(w: [&Self; 4], _: f32) -> v128 {
        floats4([w[0].d, w[1].d, w[2].d, w[3].d])
    }
}

impl UnpackTernary for I2_S {
    const DIGITS: usize = 4;
    const STEPS: usize = 2;
    const SHIFT: u32 = 6;

    #[inline(always)]
    fn place(step: usize, k: usize) -> Option<usize> {
        (k < 4).then(|| 32 * (3 - k) + 16 * step)
    }
    #[inline(always)]
    fn factor(k: usize) -> i16 {
        64 >> (2 * k)
    }
    #[inline(always)]
    fn words<const STEP: usize>(&self) -> [[v128; 2]; DIGITS] {
        two_bits(&self.q, 16 * STEP)
    }
    #[inline(always)]
    fn scales4(_: [&Self; 4], scale: f32) -> v128 {
        f32x4_splat(scale)
    }
}

/// The first digits of bytes `power * q`, of which eight bits count: `3 * byte / 256`.
#[inline(always)]
fn digits(q: v128, powers: v128) -> v128 {
    let byte = v128_and(i16x8_mul(q, powers), u16x8_splat(0xff));
    u16x8_shr(i16x8_mul(byte, u16x8_splat(3)), 8)
}

impl UnpackTernary for TQ1_0 {
    const DIGITS: usize = 5;
    const STEPS: usize = 4;
    const SHIFT: u32 = 0;

    #[inline(always)]
    fn place(step: usize, k: usize) -> Option<usize> {
        match step {
            0 | 1 => Some(16 * step + 32 * k),
            2 => Some(160 + 16 * k),
            _ => (k == 0).then_some(240),
        }
    }
    #[inline(always)]
    fn factor(_: usize) -> i16 {
        1
    }
    #[inline(always)]
    fn words<const STEP: usize>(&self) -> [[v128; 2]; DIGITS] {
        if STEP == 3 {
            // All four digits of the four bytes, which are there four times.
            let [even, odd] = halves(u32x4_splat(u32::from_le_bytes(self.h)));
            let powers = i16x8(1, 1, 3, 3, 9, 9, 27, 27);
            return [[digits(even, powers), digits(odd, powers)]; DIGITS];
        }
        let [even, odd] = split(&self.q, 16 * STEP);
        let digit = |power: u16| {
            let power = u16x8_splat(power);
            [digits(even, power), digits(odd, power)]
        };
        [digit(1), digit(3), digit(9), digit(27), digit(81)]
    }
    #[inline(always)]
    fn scales4(w: [&Self; 4], _: f32) -> v128 {
        floats4([w[0].d, w[1].d, w[2].d, w[3].d])
    }
}
