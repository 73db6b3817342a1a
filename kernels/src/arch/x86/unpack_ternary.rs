//! Unpackers of the ternary formats for 256-bit registers: bytes 0 to 3, one more than the weights.

use core::arch::x86_64::*;

use super::dot::TernaryDot;
use super::shuffle256::{sums4, sums8};
use super::unpack::floats8;
use crate::blocks::{I2_S, TQ1_0, TQ2_0, TernaryBlock};

/// A ternary format. A group is the blocks of 256 weights, or of the 128 at the end of a row.
pub(super) trait UnpackTernary: TernaryBlock {
    /// The bytes of a group, 32 after 32; those beyond it stay.
    ///
    /// # Safety
    /// The CPU has AVX2; a group of `blocks` blocks lies at `w`.
    unsafe fn bytes(w: *const Self, blocks: usize, to: &mut [__m256i; 8]);

    /// Lane `r` is the sum of the products of the bytes of the group `w[r]` with the codes at `x[n]`.
    ///
    /// # Safety
    /// The CPU has AVX2 and the instructions of `P`; groups of `blocks` blocks lie at each of `w`, as
    /// many codes at each of `x`.
    unsafe fn dot8<P: TernaryDot, const N: usize>(
        w: [*const Self; 8],
        blocks: usize,
        x: [*const i8; N],
    ) -> [__m256i; N];

    /// The scales of a block of each of eight rows; `scale` where blocks have none.
    ///
    /// # Safety
    /// The CPU has AVX2 and F16C; a block lies at each of `w`.
    unsafe fn scales8(w: [*const Self; 8], scale: f32) -> __m256;
}

/// Four times 32 bytes: the codes at bits 0, 2, 4 and 6. The first and the third are those of 0 to
/// 3, the others four times that.
///
/// # Safety
/// The CPU has AVX2; 32 bytes lie at `q`.
#[inline(always)]
unsafe fn quarters(q: *const u8) -> [__m256i; 4] {
    // SAFETY: the caller's promises.
    unsafe {
        let (one, four) = (_mm256_set1_epi8(3), _mm256_set1_epi8(12));
        let v = _mm256_loadu_si256(q.cast());
        let u = _mm256_srli_epi16::<4>(v);
        [
            _mm256_and_si256(v, one),
            _mm256_and_si256(v, four),
            _mm256_and_si256(u, one),
            _mm256_and_si256(u, four),
        ]
    }
}

/// The part that the codes at bits `2 * k` make: in ascending order, or with `DOWN` descending.
const fn part<const DOWN: bool>(k: usize) -> usize {
    if DOWN { 3 - k } else { k }
}

/// [`UnpackTernary::bytes`] of 128 codes of two bits.
///
/// # Safety
/// As [`quarters`].
#[inline(always)]
unsafe fn two_bits<const DOWN: bool>(q: *const u8, to: &mut [__m256i]) {
    // SAFETY: the caller's promises.
    unsafe {
        let v = quarters(q);
        for k in 0..4 {
            to[part::<DOWN>(k)] = if k % 2 == 0 { v[k] } else { _mm256_srli_epi16::<2>(v[k]) };
        }
    }
}

/// [`UnpackTernary::dot8`] of `H` times 128 codes of two bits.
///
/// # Safety
/// As [`UnpackTernary::dot8`], with `32 * H` bytes at each of `q`.
#[inline(always)]
unsafe fn two_bits_dot8<P: TernaryDot, const N: usize, const H: usize, const DOWN: bool>(
    q: [*const u8; 8],
    x: [*const i8; N],
) -> [__m256i; N] {
    // SAFETY: the caller's promises.
    unsafe {
        let zero = _mm256_setzero_si256();
        let mut p = [[zero; 8]; N];
        for r in 0..8 {
            // Products of codes, and of four times codes: that saves every other shift.
            let (mut one, mut four) = ([zero; N], [zero; N]);
            for h in 0..H {
                let v = quarters(q[r].add(32 * h));
                for n in 0..N {
                    for (k, v) in v.into_iter().enumerate() {
                        let at = x[n].add(128 * h + 32 * part::<DOWN>(k));
                        let sum = if k % 2 == 0 { &mut one[n] } else { &mut four[n] };
                        *sum = P::add(*sum, v, _mm256_loadu_si256(at.cast()));
                    }
                }
            }
            for n in 0..N {
                p[n][r] = P::sum(P::join(one[n], P::quarter(four[n])));
            }
        }
        let mut out = [zero; N];
        for (out, p) in out.iter_mut().zip(p) {
            *out = sums8(p);
        }
        out
    }
}

impl UnpackTernary for TQ2_0 {
    #[inline(always)]
    unsafe fn bytes(w: *const Self, _: usize, to: &mut [__m256i; 8]) {
        // SAFETY: a block begins with 64 bytes of codes; the rest by the caller.
        unsafe {
            two_bits::<false>(w.cast(), &mut to[..4]);
            two_bits::<false>(w.cast::<u8>().add(32), &mut to[4..]);
        }
    }

    #[inline(always)]
    unsafe fn dot8<P: TernaryDot, const N: usize>(
        w: [*const Self; 8],
        _: usize,
        x: [*const i8; N],
    ) -> [__m256i; N] {
        // SAFETY: the caller's promises; a block begins with 64 bytes of codes.
        unsafe { two_bits_dot8::<P, N, 2, false>(w.map(<*const Self>::cast), x) }
    }

    #[inline(always)]
    unsafe fn scales8(w: [*const Self; 8], _: f32) -> __m256 {
        // SAFETY: the caller's promises.
        unsafe { floats8(w.map(|w| (*w).d)) }
    }
}

impl UnpackTernary for I2_S {
    #[inline(always)]
    unsafe fn bytes(w: *const Self, blocks: usize, to: &mut [__m256i; 8]) {
        for b in 0..blocks {
            // SAFETY: the caller's promises.
            unsafe { two_bits::<true>(w.add(b).cast(), &mut to[4 * b..][..4]) }
        }
    }

    #[inline(always)]
    unsafe fn dot8<P: TernaryDot, const N: usize>(
        w: [*const Self; 8],
        blocks: usize,
        x: [*const i8; N],
    ) -> [__m256i; N] {
        let q = w.map(<*const Self>::cast);
        // SAFETY: the caller's promises.
        unsafe {
            if blocks == 2 {
                two_bits_dot8::<P, N, 2, true>(q, x)
            } else {
                two_bits_dot8::<P, N, 1, true>(q, x)
            }
        }
    }

    #[inline(always)]
    unsafe fn scales8(_: [*const Self; 8], scale: f32) -> __m256 {
        // SAFETY: AVX by the caller.
        unsafe { _mm256_set1_ps(scale) }
    }
}

/// Mask for an exclusive or with bytes of base-3 digits, so that they can be compared as signed ones.
/// `3 * (q - 128) = 3 * q - 128` in eight bits: the next digit is found in the same way.
const SIGN: i8 = -128;

/// Three times every byte.
///
/// # Safety
/// The CPU has AVX2.
#[inline(always)]
unsafe fn times3(v: __m256i) -> __m256i {
    // SAFETY: AVX2 by the caller.
    unsafe { _mm256_add_epi8(v, _mm256_add_epi8(v, v)) }
}

/// The first digit of bytes `q`, given with [`SIGN`]: `3 * q / 256`, which is 1 from 86 on, 2 from
/// 171 on.
///
/// # Safety
/// The CPU has AVX2.
#[inline(always)]
unsafe fn digits(v: __m256i) -> __m256i {
    // SAFETY: AVX2 by the caller.
    unsafe {
        let one = _mm256_cmpgt_epi8(v, _mm256_set1_epi8((85 - 128) as i8));
        let two = _mm256_cmpgt_epi8(v, _mm256_set1_epi8(170u8.wrapping_sub(128) as i8));
        _mm256_abs_epi8(_mm256_add_epi8(one, two))
    }
}

/// The fields of a block of TQ1_0: 32 bytes, 16 bytes, 4 bytes of digits.
const SECOND: usize = 32;
const THIRD: usize = 48;

impl UnpackTernary for TQ1_0 {
    #[inline(always)]
    unsafe fn bytes(w: *const Self, _: usize, to: &mut [__m256i; 8]) {
        let w = w.cast::<u8>();
        // SAFETY: the caller's promises; the fields of a block.
        unsafe {
            let sign = _mm256_set1_epi8(SIGN);
            let mut v = _mm256_xor_si256(_mm256_loadu_si256(w.cast()), sign);
            for to in &mut to[..5] {
                *to = digits(v);
                v = times3(v);
            }
            // Even digits of the sixteen bytes in the lower half, odd ones in the upper.
            let v = _mm256_broadcastsi128_si256(_mm_loadu_si128(w.add(SECOND).cast()));
            let v = _mm256_xor_si256(v, sign);
            let mut v = _mm256_blend_epi32::<0b1111_0000>(v, times3(v));
            for to in &mut to[5..] {
                *to = digits(v);
                v = times3(times3(v));
            }
            // The four digits of the four bytes.
            let v = _mm256_set1_epi32(w.add(THIRD).cast::<i32>().read_unaligned());
            let v = _mm256_xor_si256(v, sign);
            let (v3, v9) = (times3(v), times3(times3(v)));
            let v = _mm256_blend_epi32::<0b1010_1010>(
                _mm256_blend_epi32::<0b1100_1100>(v, v9),
                _mm256_blend_epi32::<0b1100_1100>(v3, times3(v9)),
            );
            to[7] = _mm256_blend_epi32::<0b1111_0000>(to[7], digits(v));
        }
    }

    #[inline(always)]
    unsafe fn dot8<P: TernaryDot, const N: usize>(
        w: [*const Self; 8],
        _: usize,
        x: [*const i8; N],
    ) -> [__m256i; N] {
        let w = w.map(<*const Self>::cast::<u8>);
        // SAFETY: the caller's promises; the fields of a block.
        unsafe {
            let (zero, sign) = (_mm256_setzero_si256(), _mm256_set1_epi8(SIGN));
            let mut p = [[zero; 8]; N];
            for r in 0..8 {
                let mut v = _mm256_xor_si256(_mm256_loadu_si256(w[r].cast()), sign);
                let mut sums = [zero; N];
                for k in 0..5 {
                    let d = digits(v);
                    for n in 0..N {
                        let x = _mm256_loadu_si256(x[n].add(32 * k).cast());
                        sums[n] = P::add(sums[n], d, x);
                    }
                    v = times3(v);
                }
                for n in 0..N {
                    p[n][r] = P::sum(sums[n]);
                }
            }
            // Row r in the lower half, row r + 4 in the upper one.
            let mut a = [[zero; 4]; N];
            for r in 0..4 {
                let (lower, upper) = (w[r].add(SECOND), w[r + 4].add(SECOND));
                let v = _mm256_loadu2_m128i(upper.cast(), lower.cast());
                let mut v = _mm256_xor_si256(v, sign);
                let mut sums = [zero; N];
                for k in 0..5 {
                    let d = digits(v);
                    for n in 0..N {
                        let x = _mm_loadu_si128(x[n].add(160 + 16 * k).cast());
                        sums[n] = P::add(sums[n], d, _mm256_broadcastsi128_si256(x));
                    }
                    v = times3(v);
                }
                for n in 0..N {
                    let (l, u) = (p[n][r], p[n][r + 4]);
                    let halves = _mm256_add_epi32(
                        _mm256_blend_epi32::<0b1111_0000>(l, u),
                        _mm256_permute2x128_si256::<0x21>(l, u),
                    );
                    a[n][r] = _mm256_add_epi32(halves, P::sum(sums[n]));
                }
            }
            // The last four bytes of each row in its lane.
            let mut last = [0; 8];
            for (last, w) in last.iter_mut().zip(w) {
                *last = w.add(THIRD).cast::<i32>().read_unaligned();
            }
            let mut v = _mm256_xor_si256(_mm256_loadu_si256(last.as_ptr().cast()), sign);
            let mut sums = [zero; N];
            for k in 0..4 {
                let d = digits(v);
                for n in 0..N {
                    let x = x[n].add(240 + 4 * k).cast::<i32>().read_unaligned();
                    sums[n] = P::add(sums[n], d, _mm256_set1_epi32(x));
                }
                v = times3(v);
            }
            let mut out = [zero; N];
            for n in 0..N {
                out[n] = _mm256_add_epi32(sums4(a[n]), P::sum(sums[n]));
            }
            out
        }
    }

    #[inline(always)]
    unsafe fn scales8(w: [*const Self; 8], _: f32) -> __m256 {
        // SAFETY: the caller's promises.
        unsafe { floats8(w.map(|w| (*w).d)) }
    }
}
