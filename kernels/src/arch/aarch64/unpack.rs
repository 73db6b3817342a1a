//! Unpackers of the quantised formats, one per format: codes and scales in 128-bit registers.

use core::arch::aarch64::*;

use super::lanes::widen;
use crate::blocks::iq4_nl::VALUES;
use crate::blocks::mxfp4;
use crate::blocks::{
    CodeBlock, F16, IQ4_NL, IQ4_XS, MXFP4, Q2_K, Q3_K, Q4_0, Q4_1, Q4_K, Q5_0, Q5_1, Q5_K, Q6_K,
    Q8_0,
};

/// Numbers of a chunk's sub-blocks, four to a register: as many of the four registers as the
/// format has quads.
pub(super) type Quads = [float32x4_t; 4];

/// A format whose codes become signed bytes, and whose scales become f32 in lanes.
///
/// A chunk is a block of four sub-blocks or more, or several blocks that have four: whole quads.
pub(super) trait Unpack: CodeBlock {
    /// Codes, with their bias or without, are -64..=64: sums of four products with -127..=127 fit into
    /// 16 bits.
    const SMALL: bool = true;
    /// Blocks of a chunk.
    const CHUNK: usize = if Self::LEN < 4 * Self::SUB { 4 * Self::SUB / Self::LEN } else { 1 };
    /// Quads of a chunk.
    const QUADS: usize = Self::CHUNK * Self::LEN / (4 * Self::SUB);

    /// Excess of [`Unpack::bytes`] over the codes.
    const BIAS: i8 = 0;

    /// The codes `32 * part..32 * part + 32`, plus `BIAS`.
    ///
    /// # Safety
    /// The target has NEON.
    unsafe fn bytes(&self, part: usize) -> [int8x16_t; 2];

    /// The codes `32 * part..32 * part + 32`.
    ///
    /// # Safety
    /// The target has NEON.
    #[inline(always)]
    unsafe fn signed(&self, part: usize) -> [int8x16_t; 2] {
        // SAFETY: NEON by the caller.
        unsafe {
            let b = self.bytes(part);
            if Self::BIAS == 0 {
                return b;
            }
            let bias = vdupq_n_s8(Self::BIAS);
            [vsubq_s8(b[0], bias), vsubq_s8(b[1], bias)]
        }
    }

    /// Scales and minimums of a chunk whose first `valid` blocks are there; what stands for others
    /// is open, and so is a minimum of a format without.
    ///
    /// # Safety
    /// The target has NEON; `valid` blocks lie at `w`, at least one.
    unsafe fn scales(w: *const Self, valid: usize) -> (Quads, Quads);
}

/// The bits of an f16, to be put beside others.
#[inline(always)]
pub(super) fn bits(h: F16) -> u64 {
    u64::from(u16::from_le_bytes(bytemuck::cast(h)))
}

/// A number of each of four blocks in a chunk; the last that is there stands for those missing.
///
/// # Safety
/// The target has NEON; `valid` blocks lie at `w`, at least one.
#[inline(always)]
unsafe fn halves4<B>(w: *const B, valid: usize, get: impl Fn(&B) -> F16) -> float32x4_t {
    // SAFETY: the blocks by the caller's promise.
    let at = |i: usize| unsafe { bits(get(&*w.add(i.min(valid - 1)))) };
    // SAFETY: NEON by the caller.
    unsafe { widen(vcreate_u16(at(0) | at(1) << 16 | at(2) << 32 | at(3) << 48)) }
}

/// `d` in lane 0, `min` in lane 1.
///
/// # Safety
/// The target has NEON.
#[inline(always)]
unsafe fn units(d: F16, min: F16) -> float32x4_t {
    // SAFETY: NEON by the caller.
    unsafe { widen(vcreate_u16(bits(d) | bits(min) << 16)) }
}

/// Sixteen bytes as f32.
///
/// # Safety
/// The target has NEON.
#[inline(always)]
unsafe fn floats_u8(v: uint8x16_t) -> Quads {
    // SAFETY: NEON by the caller.
    unsafe {
        let (a, b) = (vmovl_u8(vget_low_u8(v)), vmovl_high_u8(v));
        [
            vcvtq_f32_u32(vmovl_u16(vget_low_u16(a))),
            vcvtq_f32_u32(vmovl_high_u16(a)),
            vcvtq_f32_u32(vmovl_u16(vget_low_u16(b))),
            vcvtq_f32_u32(vmovl_high_u16(b)),
        ]
    }
}

/// Sixteen signed bytes as f32.
///
/// # Safety
/// The target has NEON.
#[inline(always)]
unsafe fn floats_s8(v: int8x16_t) -> Quads {
    // SAFETY: NEON by the caller.
    unsafe {
        let (a, b) = (vmovl_s8(vget_low_s8(v)), vmovl_high_s8(v));
        [
            vcvtq_f32_s32(vmovl_s16(vget_low_s16(a))),
            vcvtq_f32_s32(vmovl_high_s16(a)),
            vcvtq_f32_s32(vmovl_s16(vget_low_s16(b))),
            vcvtq_f32_s32(vmovl_high_s16(b)),
        ]
    }
}

/// All times `d`.
///
/// # Safety
/// The target has NEON.
#[inline(always)]
unsafe fn times(v: Quads, d: float32x4_t) -> Quads {
    // SAFETY: NEON by the caller.
    unsafe { [vmulq_f32(v[0], d), vmulq_f32(v[1], d), vmulq_f32(v[2], d), vmulq_f32(v[3], d)] }
}

/// All times `d`, with the other sign.
///
/// # Safety
/// The target has NEON.
#[inline(always)]
unsafe fn minus(v: Quads, d: float32x4_t) -> Quads {
    // SAFETY: NEON by the caller.
    unsafe {
        let v = times(v, d);
        [vnegq_f32(v[0]), vnegq_f32(v[1]), vnegq_f32(v[2]), vnegq_f32(v[3])]
    }
}

/// Bytes shifted right by `n`, which is a constant where loops are unrolled.
///
/// # Safety
/// The target has NEON; `n` is at most 7.
#[inline(always)]
unsafe fn right(v: uint8x16_t, n: usize) -> uint8x16_t {
    // SAFETY: NEON by the caller.
    unsafe { vshlq_u8(v, vdupq_n_s8(-(n as i8))) }
}

/// Thirty-two bytes in two registers.
///
/// # Safety
/// The target has NEON; 32 bytes lie at `p`.
#[inline(always)]
unsafe fn load2(p: *const u8) -> [uint8x16_t; 2] {
    // SAFETY: by the caller's promise.
    unsafe { [vld1q_u8(p), vld1q_u8(p.add(16))] }
}

/// The lower and the upper halves of sixteen bytes: 32 codes.
///
/// # Safety
/// The target has NEON.
#[inline(always)]
unsafe fn nibbles(q: &[u8; 16]) -> [uint8x16_t; 2] {
    // SAFETY: 16 bytes behind q; NEON by the caller.
    unsafe {
        let q = vld1q_u8(q.as_ptr());
        [vandq_u8(q, vdupq_n_u8(15)), vshrq_n_u8::<4>(q)]
    }
}

/// The same with bit `i` of `h` as the fifth of code `i`.
///
/// # Safety
/// The target has NEON.
#[inline(always)]
unsafe fn fives(q: &[u8; 16], h: [u8; 4]) -> [uint8x16_t; 2] {
    /// Which byte of `h` has the bit of a code, for the first sixteen codes, and which bit it is.
    const BYTE: [u8; 16] = [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1];
    const BIT: [u8; 16] = [1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128];
    // SAFETY: sixteen bytes behind both constants; NEON by the caller.
    unsafe {
        let [low, high] = nibbles(q);
        let h = vreinterpretq_u8_u32(vdupq_n_u32(u32::from_le_bytes(h)));
        let (byte, bit) = (vld1q_u8(BYTE.as_ptr()), vld1q_u8(BIT.as_ptr()));
        let fifth = |byte| vandq_u8(vtstq_u8(vqtbl1q_u8(h, byte), bit), vdupq_n_u8(16));
        [vorrq_u8(low, fifth(byte)), vorrq_u8(high, fifth(vaddq_u8(byte, vdupq_n_u8(2))))]
    }
}

/// Both registers shifted right by `n`, and of that the bits of `mask`.
///
/// # Safety
/// The target has NEON; `n` is at most 7.
#[inline(always)]
unsafe fn field(v: [uint8x16_t; 2], n: usize, mask: u8) -> [uint8x16_t; 2] {
    // SAFETY: by the caller's promise.
    unsafe {
        let mask = vdupq_n_u8(mask);
        [vandq_u8(right(v[0], n), mask), vandq_u8(right(v[1], n), mask)]
    }
}

/// `low | high << N`.
///
/// # Safety
/// The target has NEON.
#[inline(always)]
unsafe fn join<const N: i32>(low: [uint8x16_t; 2], high: [uint8x16_t; 2]) -> [uint8x16_t; 2] {
    // SAFETY: NEON by the caller.
    unsafe {
        [vorrq_u8(low[0], vshlq_n_u8::<N>(high[0])), vorrq_u8(low[1], vshlq_n_u8::<N>(high[1]))]
    }
}

/// Bytes below 128 as signed ones.
///
/// # Safety
/// The target has NEON.
#[inline(always)]
unsafe fn plain(v: [uint8x16_t; 2]) -> [int8x16_t; 2] {
    // SAFETY: NEON by the caller.
    unsafe { [vreinterpretq_s8_u8(v[0]), vreinterpretq_s8_u8(v[1])] }
}

impl Unpack for Q8_0 {
    const SMALL: bool = false;

    #[inline(always)]
    unsafe fn bytes(&self, _: usize) -> [int8x16_t; 2] {
        // SAFETY: 32 bytes behind q; NEON by the caller.
        unsafe { [vld1q_s8(self.q.as_ptr()), vld1q_s8(self.q.as_ptr().add(16))] }
    }
    #[inline(always)]
    unsafe fn scales(w: *const Self, valid: usize) -> (Quads, Quads) {
        // SAFETY: by the caller's promise.
        let d = unsafe { halves4(w, valid, |b| b.d) };
        ([d; 4], [d; 4])
    }
}

impl Unpack for Q4_0 {
    const BIAS: i8 = 8;

    #[inline(always)]
    unsafe fn bytes(&self, _: usize) -> [int8x16_t; 2] {
        // SAFETY: NEON by the caller.
        unsafe { plain(nibbles(&self.q)) }
    }
    #[inline(always)]
    unsafe fn scales(w: *const Self, valid: usize) -> (Quads, Quads) {
        // SAFETY: by the caller's promise.
        let d = unsafe { halves4(w, valid, |b| b.d) };
        ([d; 4], [d; 4])
    }
}

impl Unpack for IQ4_NL {
    const SMALL: bool = false;

    #[inline(always)]
    unsafe fn bytes(&self, _: usize) -> [int8x16_t; 2] {
        // SAFETY: sixteen values are there; NEON by the caller.
        unsafe {
            let (table, q) = (vld1q_s8(VALUES.as_ptr()), nibbles(&self.q));
            [vqtbl1q_s8(table, q[0]), vqtbl1q_s8(table, q[1])]
        }
    }
    #[inline(always)]
    unsafe fn scales(w: *const Self, valid: usize) -> (Quads, Quads) {
        // SAFETY: by the caller's promise.
        let d = unsafe { halves4(w, valid, |b| b.d) };
        ([d; 4], [d; 4])
    }
}

impl Unpack for MXFP4 {
    #[inline(always)]
    unsafe fn bytes(&self, _: usize) -> [int8x16_t; 2] {
        // SAFETY: sixteen values are there; NEON by the caller.
        unsafe {
            let (table, q) = (vld1q_s8(mxfp4::VALUES.as_ptr()), nibbles(&self.q));
            [vqtbl1q_s8(table, q[0]), vqtbl1q_s8(table, q[1])]
        }
    }
    #[inline(always)]
    unsafe fn scales(w: *const Self, valid: usize) -> (Quads, Quads) {
        // SAFETY: the blocks by the caller's promise, NEON too.
        let d = unsafe {
            let at = |i: usize| mxfp4::half_scale((*w.add(i.min(valid - 1))).e);
            let d = [at(0), at(1), at(2), at(3)];
            vld1q_f32(d.as_ptr())
        };
        ([d; 4], [d; 4])
    }
}

impl Unpack for Q4_1 {
    #[inline(always)]
    unsafe fn bytes(&self, _: usize) -> [int8x16_t; 2] {
        // SAFETY: NEON by the caller.
        unsafe { plain(nibbles(&self.q)) }
    }
    #[inline(always)]
    unsafe fn scales(w: *const Self, valid: usize) -> (Quads, Quads) {
        // SAFETY: by the caller's promise.
        unsafe { ([halves4(w, valid, |b| b.d); 4], [halves4(w, valid, |b| b.m); 4]) }
    }
}

impl Unpack for Q5_0 {
    const BIAS: i8 = 16;

    #[inline(always)]
    unsafe fn bytes(&self, _: usize) -> [int8x16_t; 2] {
        // SAFETY: NEON by the caller.
        unsafe { plain(fives(&self.q, self.h)) }
    }
    #[inline(always)]
    unsafe fn scales(w: *const Self, valid: usize) -> (Quads, Quads) {
        // SAFETY: by the caller's promise.
        let d = unsafe { halves4(w, valid, |b| b.d) };
        ([d; 4], [d; 4])
    }
}

impl Unpack for Q5_1 {
    #[inline(always)]
    unsafe fn bytes(&self, _: usize) -> [int8x16_t; 2] {
        // SAFETY: NEON by the caller.
        unsafe { plain(fives(&self.q, self.h)) }
    }
    #[inline(always)]
    unsafe fn scales(w: *const Self, valid: usize) -> (Quads, Quads) {
        // SAFETY: by the caller's promise.
        unsafe { ([halves4(w, valid, |b| b.d); 4], [halves4(w, valid, |b| b.m); 4]) }
    }
}

impl Unpack for Q2_K {
    #[inline(always)]
    unsafe fn bytes(&self, part: usize) -> [int8x16_t; 2] {
        let (half, k) = (part / 4 % 2, part % 4);
        // SAFETY: 32 bytes behind either half of q; NEON by the caller.
        unsafe { plain(field(load2(self.q[32 * half..].as_ptr()), 2 * k, 3)) }
    }
    #[inline(always)]
    unsafe fn scales(w: *const Self, _: usize) -> (Quads, Quads) {
        // SAFETY: a block at w, which has sixteen bytes of scales; NEON by the caller.
        unsafe {
            let w = &*w;
            let (unit, both) = (units(w.d, w.dmin), vld1q_u8(w.scales.as_ptr()));
            let (scales, mins) = (vandq_u8(both, vdupq_n_u8(15)), vshrq_n_u8::<4>(both));
            (
                times(floats_u8(scales), vdupq_laneq_f32::<0>(unit)),
                minus(floats_u8(mins), vdupq_laneq_f32::<1>(unit)),
            )
        }
    }
}

impl Unpack for Q3_K {
    const BIAS: i8 = 4;

    #[inline(always)]
    unsafe fn bytes(&self, part: usize) -> [int8x16_t; 2] {
        let (half, k) = (part / 4 % 2, part % 4);
        // SAFETY: 32 bytes behind either half of q and behind h; NEON by the caller.
        unsafe {
            let low = field(load2(self.q[32 * half..].as_ptr()), 2 * k, 3);
            let high = field(load2(self.h.as_ptr()), part % 8, 1);
            plain(join::<2>(low, high))
        }
    }
    #[inline(always)]
    unsafe fn scales(w: *const Self, _: usize) -> (Quads, Quads) {
        /// The upper two bits of four scales at a time are these bits of four bytes.
        const SHIFTS: [i8; 16] = [0, 0, 0, 0, -2, -2, -2, -2, -4, -4, -4, -4, -6, -6, -6, -6];
        // SAFETY: a block at w, which has twelve bytes of scales; NEON by the caller.
        unsafe {
            let w = &*w;
            let eight = vld1_u8(w.scales.as_ptr());
            let low = vcombine_u8(vand_u8(eight, vdup_n_u8(15)), vshr_n_u8::<4>(eight));
            let four = u32::from_le_bytes([w.scales[8], w.scales[9], w.scales[10], w.scales[11]]);
            let four = vreinterpretq_u8_u32(vdupq_n_u32(four));
            let high = vandq_u8(vshlq_u8(four, vld1q_s8(SHIFTS.as_ptr())), vdupq_n_u8(3));
            let steps = vreinterpretq_s8_u8(vorrq_u8(low, vshlq_n_u8::<4>(high)));
            let unit = units(w.d, w.d);
            let s = times(floats_s8(vsubq_s8(steps, vdupq_n_s8(32))), vdupq_laneq_f32::<0>(unit));
            (s, s)
        }
    }
}

/// Scales and minimums of Q4_K and Q5_K; see `scale_and_min` in `blocks/q4_k.rs`.
///
/// # Safety
/// The target has NEON.
#[inline(always)]
unsafe fn sixes(scales: &[u8; 12], d: F16, dmin: F16) -> (Quads, Quads) {
    let word = |i: usize| u32::from_le_bytes(*scales[i..].first_chunk().unwrap());
    let (a, b, c) = (word(0), word(4), word(8));
    let high = |w: u32| (w >> 6 & 0x0303_0303) << 4;
    let eight = |lo: u32, hi: u32| u64::from(lo) | u64::from(hi) << 32;
    let steps = eight(a & 0x3f3f_3f3f, c & 0x0f0f_0f0f | high(a));
    let mins = eight(b & 0x3f3f_3f3f, c >> 4 & 0x0f0f_0f0f | high(b));
    // SAFETY: NEON by the caller.
    unsafe {
        let unit = units(d, dmin);
        let floats = |v| floats_u8(vcombine_u8(vcreate_u8(v), vdup_n_u8(0)));
        (
            times(floats(steps), vdupq_laneq_f32::<0>(unit)),
            minus(floats(mins), vdupq_laneq_f32::<1>(unit)),
        )
    }
}

impl Unpack for Q4_K {
    #[inline(always)]
    unsafe fn bytes(&self, part: usize) -> [int8x16_t; 2] {
        // SAFETY: 32 bytes behind each quarter of q; NEON by the caller.
        unsafe { plain(field(load2(self.q[part / 2 % 4 * 32..].as_ptr()), part % 2 * 4, 15)) }
    }
    #[inline(always)]
    unsafe fn scales(w: *const Self, _: usize) -> (Quads, Quads) {
        // SAFETY: a block at w; NEON by the caller.
        unsafe { sixes(&(*w).scales, (*w).d, (*w).dmin) }
    }
}

impl Unpack for Q5_K {
    #[inline(always)]
    unsafe fn bytes(&self, part: usize) -> [int8x16_t; 2] {
        // SAFETY: 32 bytes behind each quarter of q and behind h; NEON by the caller.
        unsafe {
            let low = field(load2(self.q[part / 2 % 4 * 32..].as_ptr()), part % 2 * 4, 15);
            let high = field(load2(self.h.as_ptr()), part % 8, 1);
            plain(join::<4>(low, high))
        }
    }
    #[inline(always)]
    unsafe fn scales(w: *const Self, _: usize) -> (Quads, Quads) {
        // SAFETY: a block at w; NEON by the caller.
        unsafe { sixes(&(*w).scales, (*w).d, (*w).dmin) }
    }
}

impl Unpack for Q6_K {
    const BIAS: i8 = 32;

    #[inline(always)]
    unsafe fn bytes(&self, part: usize) -> [int8x16_t; 2] {
        let (half, k) = (part / 4 % 2, part % 4);
        // SAFETY: 32 bytes behind these places of q and h; NEON by the caller.
        unsafe {
            let low = field(load2(self.q[64 * half + k % 2 * 32..].as_ptr()), k / 2 * 4, 15);
            let high = field(load2(self.h[32 * half..].as_ptr()), 2 * k, 3);
            plain(join::<4>(low, high))
        }
    }
    #[inline(always)]
    unsafe fn scales(w: *const Self, _: usize) -> (Quads, Quads) {
        // SAFETY: a block at w, which has sixteen scales; NEON by the caller.
        unsafe {
            let w = &*w;
            let unit = units(w.d, w.d);
            let s = times(floats_s8(vld1q_s8(w.scales.as_ptr())), vdupq_laneq_f32::<0>(unit));
            (s, s)
        }
    }
}

impl Unpack for IQ4_XS {
    const SMALL: bool = false;

    #[inline(always)]
    unsafe fn bytes(&self, part: usize) -> [int8x16_t; 2] {
        // SAFETY: sixteen values are there; NEON by the caller.
        unsafe {
            let (table, q) = (vld1q_s8(VALUES.as_ptr()), nibbles(self.nibbles(part)));
            [vqtbl1q_s8(table, q[0]), vqtbl1q_s8(table, q[1])]
        }
    }
    #[inline(always)]
    unsafe fn scales(w: *const Self, _: usize) -> (Quads, Quads) {
        // SAFETY: a block at w, and sixteen bytes of steps; NEON by the caller.
        unsafe {
            let w = &*w;
            let mut steps = [0; 16];
            for (sub, step) in steps[..8].iter_mut().enumerate() {
                *step = w.step(sub);
            }
            let unit = units(w.d, w.d);
            let s = times(floats_s8(vld1q_s8(steps.as_ptr())), vdupq_laneq_f32::<0>(unit));
            (s, s)
        }
    }
}
