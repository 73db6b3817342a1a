//! Unpackers of the quantised formats, one per format: codes and scales in 128-bit registers.

use core::arch::wasm32::*;

use super::lanes::from_f16;
use crate::blocks::iq4_nl::VALUES;
use crate::blocks::mxfp4;
use crate::blocks::{
    CodeBlock, F16, IQ4_NL, IQ4_XS, MXFP4, Q2_K, Q3_K, Q4_0, Q4_1, Q4_K, Q5_0, Q5_1, Q5_K, Q6_K,
    Q8_0,
};

/// A format whose codes come 32 at a time.
///
/// A block of 256 codes has two halves of four times 32; part `K` of a half is unpacked by constant
/// shifts, the halves by the same code. A block of 32 codes is part 0 of half 0, one of 64 or 128 has parts of half 0.
pub(super) trait Unpack: CodeBlock {
    /// Excess of bytes over codes, subtracted from whole sums.
    const BIAS: i32;

    /// The codes of part `K` of a half, plus the bias: -128..=127.
    fn bytes<const K: usize>(&self, half: usize) -> [v128; 2];

    /// The f16 scale of the block, and its minimum; the signs are those of [`CodeBlock::min`].
    fn units(&self) -> [F16; 2];

    /// Unit `i` of one block of each of four rows.
    #[inline(always)]
    fn units4(w: [&Self; 4], i: usize) -> v128 {
        let bits = |w: &Self| u32::from(u16::from_le_bytes(bytemuck::cast(w.units()[i])));
        from_f16(u32x4(bits(w[0]), bits(w[1]), bits(w[2]), bits(w[3])))
    }

    /// The scales and the minimums of sub-blocks in these units, as bytes. Blocks of 32 have none.
    #[inline(always)]
    fn steps(&self) -> [v128; 2] {
        [u8x16_splat(1); 2]
    }

    /// Sets the scales, and minimums, of one block of each of four rows.
    #[inline(always)]
    fn scales4(w: [&Self; 4], to: &mut Scales) {
        let unit = |i: usize| Self::units4(w, i);
        if Self::LEN == 32 {
            to.scale[0] = unit(0);
            if Self::MINS {
                to.min[0] = unit(1);
            }
        } else {
            let subs = Self::LEN / Self::SUB;
            let [a, b, c, d] = [w[0].steps(), w[1].steps(), w[2].steps(), w[3].steps()];
            multiply([a[0], b[0], c[0], d[0]], unit(0), &mut to.scale[..subs]);
            if Self::MINS {
                // -(a * b) is (-a) * b.
                let unit = f32x4_neg(unit(1));
                multiply([a[1], b[1], c[1], d[1]], unit, &mut to.min[..subs]);
            }
        }
    }
}

/// Sixteen bytes from `at` on.
#[inline(always)]
pub(super) fn load(p: &[u8], at: usize) -> v128 {
    let p: &[u8] = &p[at..][..16];
    // SAFETY: sixteen bytes (just checked); wasm loads from any address.
    unsafe { v128_load(p.as_ptr().cast()) }
}

/// 32 bytes from `at` on, each sixteen through `f`.
///
/// Arrays' own `map` is to be avoided here: compilers leave it a function of its own.
#[inline(always)]
fn load32(p: &[u8], at: usize, f: impl Fn(v128) -> v128) -> [v128; 2] {
    [f(load(p, at)), f(load(p, at + 16))]
}

/// Bits from `FROM` on of every byte, as many as `mask` has.
#[inline(always)]
fn bits<const FROM: u32>(x: v128, mask: u8) -> v128 {
    // What crosses from one byte of a pair to the other is masked off.
    v128_and(if FROM == 0 { x } else { u16x8_shr(x, FROM) }, u8x16_splat(mask))
}

/// Both halves of sixteen bytes: Q4_0 and what is like it.
#[inline(always)]
fn nibbles(q: &[u8; 16]) -> [v128; 2] {
    let q = load(q, 0);
    [bits::<0>(q, 15), bits::<4>(q, 15)]
}

/// The fifth bits of 32 codes, each in its byte.
#[inline(always)]
fn fifth(h: [u8; 4]) -> [v128; 2] {
    // Byte i of the 32 gets byte i / 8 of the number, of which it keeps bit i % 8.
    let h = u32x4_splat(u32::from_le_bytes(h));
    let bit = u64x2_splat(0x8040_2010_0804_0201);
    let lo = i8x16_shuffle::<0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1>(h, h);
    let hi = i8x16_shuffle::<2, 2, 2, 2, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3>(h, h);
    let sixteen = |x| v128_and(i8x16_eq(v128_and(x, bit), bit), u8x16_splat(16));
    [sixteen(lo), sixteen(hi)]
}

/// Part `K` of half `half` of Q4_K's nibbles.
#[inline(always)]
fn nibbles_k<const K: usize>(q: &[u8; 128], half: usize) -> [v128; 2] {
    let nibble = |q| if K.is_multiple_of(2) { bits::<0>(q, 15) } else { bits::<4>(q, 15) };
    load32(q, 64 * half + 32 * (K / 2), nibble)
}

/// Bits `2 K` and `2 K + 1` of 32 bytes, as bits `TO` and `TO + 1` of a byte.
#[inline(always)]
fn crumbs<const K: usize, const TO: u32>(q: &[u8; 64], half: usize) -> [v128; 2] {
    load32(q, 32 * half, |q| {
        let q = match K {
            0 => bits::<0>(q, 3),
            1 => bits::<2>(q, 3),
            2 => bits::<4>(q, 3),
            _ => bits::<6>(q, 3),
        };
        if TO == 0 { q } else { u16x8_shl(q, TO) }
    })
}

/// Bit `4 half + K` of 32 bytes, as bit `TO` of a byte.
#[inline(always)]
fn bit<const K: usize, const TO: u32>(h: &[u8; 32], half: usize) -> [v128; 2] {
    // No shift by a variable, which the compiler may do element by element.
    let mask = u8x16_splat(1 << (4 * half + K));
    load32(h, 0, |h| v128_and(i8x16_eq(v128_and(h, mask), mask), u8x16_splat(1 << TO)))
}

#[inline(always)]
fn or(a: [v128; 2], b: [v128; 2]) -> [v128; 2] {
    [v128_or(a[0], b[0]), v128_or(a[1], b[1])]
}

/// Q4_K's eight scales and eight minimums of six bits, four at a time.
#[inline(always)]
fn steps_k(scales: &[u8; 12]) -> [v128; 2] {
    let word = |i: usize| u32::from_le_bytes(scales.as_chunks::<4>().0[i]);
    let (a, b, c) = (word(0), word(1), word(2));
    let upper = |x: u32| (x >> 6 & 0x0303_0303) << 4;
    let six = |x: u32| x & 0x3f3f_3f3f;
    let four = |x: u32| x & 0x0f0f_0f0f;
    [u32x4(six(a), four(c) | upper(a), 0, 0), u32x4(six(b), four(c >> 4) | upper(b), 0, 0)]
}

impl Unpack for Q8_0 {
    const BIAS: i32 = 0;
    #[inline(always)]
    fn bytes<const K: usize>(&self, _: usize) -> [v128; 2] {
        let q: &[u8; 32] = bytemuck::cast_ref(&self.q);
        [load(q, 0), load(q, 16)]
    }
    #[inline(always)]
    fn units(&self) -> [F16; 2] {
        [self.d; 2]
    }
}

impl Unpack for Q4_0 {
    const BIAS: i32 = 8;
    #[inline(always)]
    fn bytes<const K: usize>(&self, _: usize) -> [v128; 2] {
        nibbles(&self.q)
    }
    #[inline(always)]
    fn units(&self) -> [F16; 2] {
        [self.d; 2]
    }
}

impl Unpack for IQ4_NL {
    const BIAS: i32 = 0;
    #[inline(always)]
    fn bytes<const K: usize>(&self, _: usize) -> [v128; 2] {
        let table = load(bytemuck::cast_slice(&VALUES), 0);
        let [lower, upper] = nibbles(&self.q);
        [u8x16_swizzle(table, lower), u8x16_swizzle(table, upper)]
    }
    #[inline(always)]
    fn units(&self) -> [F16; 2] {
        [self.d; 2]
    }
}

impl Unpack for MXFP4 {
    const BIAS: i32 = 0;
    #[inline(always)]
    fn bytes<const K: usize>(&self, _: usize) -> [v128; 2] {
        let table = load(bytemuck::cast_slice(&mxfp4::VALUES), 0);
        let [lower, upper] = nibbles(&self.q);
        [u8x16_swizzle(table, lower), u8x16_swizzle(table, upper)]
    }
    #[inline(always)]
    fn units(&self) -> [F16; 2] {
        unreachable!("its unit is no f16")
    }
    #[inline(always)]
    fn units4(w: [&Self; 4], _: usize) -> v128 {
        let d = |w: &Self| mxfp4::half_scale(w.e);
        f32x4(d(w[0]), d(w[1]), d(w[2]), d(w[3]))
    }
}

impl Unpack for Q4_1 {
    const BIAS: i32 = 0;
    #[inline(always)]
    fn bytes<const K: usize>(&self, _: usize) -> [v128; 2] {
        nibbles(&self.q)
    }
    #[inline(always)]
    fn units(&self) -> [F16; 2] {
        [self.d, self.m]
    }
}

impl Unpack for Q5_0 {
    const BIAS: i32 = 16;
    #[inline(always)]
    fn bytes<const K: usize>(&self, _: usize) -> [v128; 2] {
        or(nibbles(&self.q), fifth(self.h))
    }
    #[inline(always)]
    fn units(&self) -> [F16; 2] {
        [self.d; 2]
    }
}

impl Unpack for Q5_1 {
    const BIAS: i32 = 0;
    #[inline(always)]
    fn bytes<const K: usize>(&self, _: usize) -> [v128; 2] {
        or(nibbles(&self.q), fifth(self.h))
    }
    #[inline(always)]
    fn units(&self) -> [F16; 2] {
        [self.d, self.m]
    }
}

impl Unpack for Q2_K {
    const BIAS: i32 = 0;
    #[inline(always)]
    fn bytes<const K: usize>(&self, half: usize) -> [v128; 2] {
        crumbs::<K, 0>(&self.q, half)
    }
    #[inline(always)]
    fn units(&self) -> [F16; 2] {
        [self.d, self.dmin]
    }
    #[inline(always)]
    fn steps(&self) -> [v128; 2] {
        nibbles(&self.scales)
    }
}

impl Unpack for Q3_K {
    const BIAS: i32 = 4;
    #[inline(always)]
    fn bytes<const K: usize>(&self, half: usize) -> [v128; 2] {
        or(crumbs::<K, 0>(&self.q, half), bit::<K, 2>(&self.h, half))
    }
    #[inline(always)]
    fn units(&self) -> [F16; 2] {
        [self.d; 2]
    }
    #[inline(always)]
    fn steps(&self) -> [v128; 2] {
        let word = |i: usize| u32::from_le_bytes(self.scales.as_chunks::<4>().0[i]);
        let (a, b, c) = (word(0), word(1), word(2));
        let low = v128_and(u32x4(a, b, a >> 4, b >> 4), u8x16_splat(15));
        let high = v128_and(u32x4(c, c >> 2, c >> 4, c >> 6), u8x16_splat(3));
        let steps = v128_or(low, u16x8_shl(high, 4));
        [i8x16_sub(steps, u8x16_splat(32)); 2]
    }
}

impl Unpack for Q4_K {
    const BIAS: i32 = 0;
    #[inline(always)]
    fn bytes<const K: usize>(&self, half: usize) -> [v128; 2] {
        nibbles_k::<K>(&self.q, half)
    }
    #[inline(always)]
    fn units(&self) -> [F16; 2] {
        [self.d, self.dmin]
    }
    #[inline(always)]
    fn steps(&self) -> [v128; 2] {
        steps_k(&self.scales)
    }
}

impl Unpack for Q5_K {
    const BIAS: i32 = 0;
    #[inline(always)]
    fn bytes<const K: usize>(&self, half: usize) -> [v128; 2] {
        or(nibbles_k::<K>(&self.q, half), bit::<K, 4>(&self.h, half))
    }
    #[inline(always)]
    fn units(&self) -> [F16; 2] {
        [self.d, self.dmin]
    }
    #[inline(always)]
    fn steps(&self) -> [v128; 2] {
        steps_k(&self.scales)
    }
}

impl Unpack for Q6_K {
    const BIAS: i32 = 32;
    #[inline(always)]
    fn bytes<const K: usize>(&self, half: usize) -> [v128; 2] {
        let nibble = |q| if K < 2 { bits::<0>(q, 15) } else { bits::<4>(q, 15) };
        let low = load32(&self.q, 64 * half + 32 * (K % 2), nibble);
        or(low, crumbs::<K, 4>(&self.h, half))
    }
    #[inline(always)]
    fn units(&self) -> [F16; 2] {
        [self.d; 2]
    }
    #[inline(always)]
    fn steps(&self) -> [v128; 2] {
        let steps: &[u8; 16] = bytemuck::cast_ref(&self.scales);
        [load(steps, 0); 2]
    }
}

impl Unpack for IQ4_XS {
    const BIAS: i32 = 0;
    #[inline(always)]
    fn bytes<const K: usize>(&self, half: usize) -> [v128; 2] {
        let table = load(bytemuck::cast_slice(&VALUES), 0);
        let [lower, upper] = nibbles(self.nibbles(4 * half + K));
        [u8x16_swizzle(table, lower), u8x16_swizzle(table, upper)]
    }
    #[inline(always)]
    fn units(&self) -> [F16; 2] {
        [self.d; 2]
    }
    #[inline(always)]
    fn steps(&self) -> [v128; 2] {
        let step = |sub| self.step(sub);
        let (a, b) = ([step(0), step(1), step(2), step(3)], [step(4), step(5), step(6), step(7)]);
        let word = |bytes: [i8; 4]| u32::from_le_bytes(bytemuck::cast(bytes));
        [u32x4(word(a), word(b), 0, 0); 2]
    }
}

/// The scales, and minimums, of one block of each of four rows: one row to a lane.
pub(super) struct Scales {
    pub(super) scale: [v128; 16],
    pub(super) min: [v128; 16],
}

impl Scales {
    #[inline(always)]
    pub(super) fn new() -> Self {
        Scales { scale: [f32x4_splat(0.0); 16], min: [f32x4_splat(0.0); 16] }
    }
}

/// `to[i]`, lane `r`: byte `i` of row `r`, times the row's unit.
#[inline(always)]
fn multiply(rows: [v128; 4], unit: v128, to: &mut [v128]) {
    let lo = |a, b| i8x16_shuffle::<0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23>(a, b);
    let hi =
        |a, b| i8x16_shuffle::<8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31>(a, b);
    let pairs = [
        [lo(rows[0], rows[1]), lo(rows[2], rows[3])],
        [hi(rows[0], rows[1]), hi(rows[2], rows[3])],
    ];
    for (to, [a, b]) in to.chunks_exact_mut(8).zip(pairs) {
        let quads = [
            i16x8_shuffle::<0, 8, 1, 9, 2, 10, 3, 11>(a, b),
            i16x8_shuffle::<4, 12, 5, 13, 6, 14, 7, 15>(a, b),
        ];
        for (to, q) in to.chunks_exact_mut(4).zip(quads) {
            let (lo, hi) = (i16x8_extend_low_i8x16(q), i16x8_extend_high_i8x16(q));
            let quarters = [
                i32x4_extend_low_i16x8(lo),
                i32x4_extend_high_i16x8(lo),
                i32x4_extend_low_i16x8(hi),
                i32x4_extend_high_i16x8(hi),
            ];
            for (to, q) in to.iter_mut().zip(quarters) {
                *to = f32x4_mul(unit, f32x4_convert_i32x4(q));
            }
        }
    }
}

/// Lane `r` is the sum of the lanes of `p[r]`.
#[inline(always)]
pub(super) fn sums4(p: [v128; 4]) -> v128 {
    let pair =
        |a, b| i32x4_add(i32x4_shuffle::<0, 4, 1, 5>(a, b), i32x4_shuffle::<2, 6, 3, 7>(a, b));
    let (a, b) = (pair(p[0], p[1]), pair(p[2], p[3]));
    i32x4_add(i64x2_shuffle::<0, 2>(a, b), i64x2_shuffle::<1, 3>(a, b))
}

/// The transpose of four registers of four i32.
#[inline(always)]
pub(super) fn transpose4(r: [v128; 4]) -> [v128; 4] {
    let lo = |a, b| i32x4_shuffle::<0, 4, 1, 5>(a, b);
    let hi = |a, b| i32x4_shuffle::<2, 6, 3, 7>(a, b);
    let (a, b) = (lo(r[0], r[1]), lo(r[2], r[3]));
    let (c, d) = (hi(r[0], r[1]), hi(r[2], r[3]));
    [
        i64x2_shuffle::<0, 2>(a, b),
        i64x2_shuffle::<1, 3>(a, b),
        i64x2_shuffle::<0, 2>(c, d),
        i64x2_shuffle::<1, 3>(c, d),
    ]
}
