//! The unpackers of the formats with super-blocks of 256 codes.

use core::arch::x86_64::*;

use super::dot::Dot;
use super::panel::Of;
use super::shuffle256::columns4;
use super::simd_reg::six_bit_scale;
use super::simd_reg256::Reg256;
use super::unpack::{BYTES, Scales, Unpack, nibbles};
use crate::blocks::{IQ4_XS, Q2_K, Q3_K, Q4_K, Q5_K, Q6_K};

/// 32 bytes, shifted down by `shift` bits within pairs of bytes, of which `mask` is kept.
///
/// # Safety
/// The CPU has AVX2; 32 bytes lie at `at`.
#[inline(always)]
unsafe fn field(at: *const u8, shift: usize, mask: i8) -> __m256i {
    // SAFETY: the caller's promises.
    unsafe {
        let v = _mm256_loadu_si256(at.cast());
        let v = _mm256_srl_epi16(v, _mm_cvtsi32_si128(shift as i32));
        _mm256_and_si256(v, _mm256_set1_epi8(mask))
    }
}

/// The lower and the upper half of each lane's f16.
///
/// # Safety
/// The CPU has AVX2 and F16C.
#[inline(always)]
unsafe fn two_floats8(v: __m256i) -> (__m256, __m256) {
    // SAFETY: the caller's promises.
    unsafe {
        let lower = _mm256_and_si256(v, _mm256_set1_epi32(0xffff));
        // Per half: four lower ones, four upper ones.
        let both = _mm256_packus_epi32(lower, _mm256_srli_epi32::<16>(v));
        let both = _mm256_permute4x64_epi64::<0b11_01_10_00>(both);
        (
            _mm256_cvtph_ps(_mm256_castsi256_si128(both)),
            _mm256_cvtph_ps(_mm256_extracti128_si256::<1>(both)),
        )
    }
}

/// Byte `i` of each lane, unsigned, times `unit`, for the four `i`.
///
/// # Safety
/// The CPU has AVX2.
#[inline(always)]
unsafe fn times_unsigned(v: __m256i, unit: __m256, to: &mut [__m256]) {
    // SAFETY: the caller's promise.
    unsafe {
        let low = _mm256_set1_epi32(255);
        to[0] = _mm256_mul_ps(unit, _mm256_cvtepi32_ps(_mm256_and_si256(v, low)));
        let b = _mm256_and_si256(_mm256_srli_epi32::<8>(v), low);
        to[1] = _mm256_mul_ps(unit, _mm256_cvtepi32_ps(b));
        let b = _mm256_and_si256(_mm256_srli_epi32::<16>(v), low);
        to[2] = _mm256_mul_ps(unit, _mm256_cvtepi32_ps(b));
        to[3] = _mm256_mul_ps(unit, _mm256_cvtepi32_ps(_mm256_srli_epi32::<24>(v)));
    }
}

/// Byte `i` of each lane, signed, times `unit`, for the four `i`.
///
/// # Safety
/// The CPU has AVX2.
#[inline(always)]
unsafe fn times_signed(v: __m256i, unit: __m256, to: &mut [__m256]) {
    // SAFETY: the caller's promise.
    unsafe {
        let b = _mm256_srai_epi32::<24>(_mm256_slli_epi32::<24>(v));
        to[0] = _mm256_mul_ps(unit, _mm256_cvtepi32_ps(b));
        let b = _mm256_srai_epi32::<24>(_mm256_slli_epi32::<16>(v));
        to[1] = _mm256_mul_ps(unit, _mm256_cvtepi32_ps(b));
        let b = _mm256_srai_epi32::<24>(_mm256_slli_epi32::<8>(v));
        to[2] = _mm256_mul_ps(unit, _mm256_cvtepi32_ps(b));
        to[3] = _mm256_mul_ps(unit, _mm256_cvtepi32_ps(_mm256_srai_epi32::<24>(v)));
    }
}

/// `v >> n` in every byte, where `mask` keeps what may stay of a byte.
///
/// # Safety
/// The CPU has AVX2.
#[inline(always)]
unsafe fn bits<const N: i32>(v: __m256i, mask: i8) -> __m256i {
    // SAFETY: the caller's promise.
    unsafe { _mm256_and_si256(_mm256_srli_epi32::<N>(v), _mm256_set1_epi8(mask)) }
}

/// The upper half of `a` and above it the lower half of `b`, in each lane.
///
/// # Safety
/// The CPU has AVX2.
#[inline(always)]
unsafe fn middle(a: __m256i, b: __m256i) -> __m256i {
    // SAFETY: the caller's promise.
    unsafe { _mm256_or_si256(_mm256_srli_epi32::<16>(a), _mm256_slli_epi32::<16>(b)) }
}

/// 32 bytes at each of eight places as columns: lane `r` of register `j` has the bytes `4 * j` to
/// `4 * j + 3` of place `r`. Products of columns need no sums across lanes, and the parts of a block
/// that share bytes share the transpose (from the cache, Q2_K and Q3_K are 1.1 to 1.2 times as fast as
/// by rows).
///
/// # Safety
/// The CPU has AVX2; 32 bytes lie at every place.
#[inline(always)]
unsafe fn columns8(at: [*const u8; 8]) -> [__m256i; 8] {
    // SAFETY: the caller's promises.
    unsafe {
        let [a, b, c, d] = columns4(at);
        let [e, f, g, h] = columns4(at.map(|at| at.wrapping_add(16)));
        [a, b, c, d, e, f, g, h]
    }
}

/// `v` shifted down by `shift` bits within pairs of bytes, up where that is negative, of which
/// `mask` is kept.
///
/// # Safety
/// The CPU has AVX2.
#[inline(always)]
unsafe fn moved(v: __m256i, shift: i32, mask: i8) -> __m256i {
    // SAFETY: the caller's promise.
    unsafe {
        let v = if shift >= 0 {
            _mm256_srl_epi16(v, _mm_cvtsi32_si128(shift))
        } else {
            _mm256_sll_epi16(v, _mm_cvtsi32_si128(-shift))
        };
        _mm256_and_si256(v, _mm256_set1_epi8(mask))
    }
}

/// [`Unpack::dot8`] of bytes that are columns ([`columns8`]).
///
/// # Safety
/// As [`Unpack::dot8`].
#[inline(always)]
unsafe fn dot_columns<P: Dot, B: Unpack, const N: usize>(
    w: [__m256i; 8],
    x: [*const i8; N],
    s: [[i32; 2]; N],
) -> [[__m256i; 2]; N] {
    const { assert!(B::MAX <= 31) };
    // SAFETY: the caller's promises.
    unsafe {
        let zero = _mm256_setzero_si256();
        let mut out = [[zero; 2]; N];
        for n in 0..N {
            let mut codes = [zero; 8];
            for (j, codes) in codes.iter_mut().enumerate() {
                *codes = _mm256_set1_epi32(x[n].add(4 * j).cast::<i32>().read_unaligned());
            }
            let (w, x) = (w.as_chunks::<4>().0, codes.as_chunks::<4>().0);
            let start = [-B::BIAS * s[n][0], -B::BIAS * s[n][1]];
            if B::SUB == 16 {
                out[n][0] = P::dot4(_mm256_set1_epi32(start[0]), &w[0], &x[0]);
                out[n][1] = P::dot4(_mm256_set1_epi32(start[1]), &w[1], &x[1]);
            } else {
                let start = _mm256_set1_epi32(start[0] + start[1]);
                out[n][0] = P::dot4(P::dot4(start, &w[0], &x[0]), &w[1], &x[1]);
            }
        }
        out
    }
}

/// [`Unpack::dot8`] by columns: `$low` has the codes' lower bits from a number of bits on, as many
/// bytes on as `$at` says; of `$high`, where there is such a field, every part has a bit.
macro_rules! columns_dot8 {
    ($low:ident, |$part:ident| $at:expr, $shift:expr, $mask:literal $(, $high:ident to $bit:literal)?) => {
        #[inline(always)]
        unsafe fn dot8<P: Dot, const N: usize>(
            w: [&Self; 8],
            $part: usize,
            x: [*const i8; N],
            s: [[i32; 2]; N],
        ) -> [[__m256i; 2]; N] {
            // SAFETY: the caller's promises; 32 bytes of the fields from there on.
            unsafe {
                let low = columns8(places(w, core::mem::offset_of!(Self, $low) + $at));
                let mut bytes = low;
                for b in &mut bytes {
                    *b = moved(*b, $shift, $mask);
                }
                $(
                    let high = columns8(places(w, core::mem::offset_of!(Self, $high)));
                    for (b, high) in bytes.iter_mut().zip(high) {
                        // In two steps, of which four parts share the first.
                        let four = _mm256_srl_epi16(high, _mm_cvtsi32_si128($part as i32 & 4));
                        let bit = moved(four, $part as i32 % 4 - $bit, 1 << $bit);
                        *b = _mm256_or_si256(*b, bit);
                    }
                )?
                dot_columns::<P, Self, N>(bytes, x, s)
            }
        }
    };
}

/// The addresses of `offset` bytes into each block.
#[inline(always)]
fn places<B>(w: [&B; 8], offset: usize) -> [*const u8; 8] {
    w.map(|w| (&raw const *w).cast::<u8>().wrapping_add(offset))
}

/// [`Unpack::scales8`] of the formats that begin with two units and twelve bytes of scales and
/// minimums of six bits (`blocks/q4_k.rs` says how they lie).
///
/// # Safety
/// The CPU has AVX2 and F16C; sixteen bytes lie at every place.
#[inline(always)]
unsafe fn six_bit_scales(at: [*const u8; 8], to: &mut Scales) {
    // SAFETY: the caller's promises.
    unsafe {
        let [units, a, b, c] = columns4(at);
        let (d, dmin) = two_floats8(units);
        let dmin = _mm256_xor_ps(dmin, _mm256_set1_ps(-0.0));
        times_unsigned(bits::<0>(a, 63), d, &mut to.d[..4]);
        times_unsigned(bits::<0>(b, 63), dmin, &mut to.m[..4]);
        let upper = _mm256_or_si256(bits::<0>(c, 15), bits::<2>(a, 0x30));
        times_unsigned(upper, d, &mut to.d[4..8]);
        let upper = _mm256_or_si256(bits::<4>(c, 15), bits::<2>(b, 0x30));
        times_unsigned(upper, dmin, &mut to.m[4..8]);
    }
}

impl Unpack for Q4_K {
    type Shape = Of<32, true, 8>;
    const BIAS: i32 = 0;
    const MAX: i32 = 15;

    #[inline(always)]
    unsafe fn bytes<P: Dot>(&self, part: usize) -> __m256i {
        // SAFETY: 32 bytes of q from there on; AVX2 by the caller.
        unsafe { field(self.q.as_ptr().add(part / 2 * 32), part % 2 * 4, 15) }
    }

    #[inline(always)]
    unsafe fn scales8(w: [&Self; 8], to: &mut Scales) {
        // SAFETY: the caller's promises; a block begins with d, dmin and scales.
        unsafe { six_bit_scales(places(w, 0), to) }
    }

    columns_dot8!(q, |part| part / 2 * 32, part as i32 % 2 * 4, 15);
}

impl Unpack for Q5_K {
    type Shape = Of<32, true, 4>;
    const BIAS: i32 = 0;
    const MAX: i32 = 31;

    #[inline(always)]
    unsafe fn bytes<P: Dot>(&self, part: usize) -> __m256i {
        // SAFETY: 32 bytes from there on; AVX2 by the caller.
        unsafe {
            let low = field(self.q.as_ptr().add(part / 2 * 32), part % 2 * 4, 15);
            let high = field(self.h.as_ptr(), part, 1);
            _mm256_or_si256(low, _mm256_slli_epi16::<4>(high))
        }
    }

    #[inline(always)]
    unsafe fn scales8(w: [&Self; 8], to: &mut Scales) {
        // SAFETY: the caller's promises; a block begins with d, dmin and scales.
        unsafe { six_bit_scales(places(w, 0), to) }
    }

    columns_dot8!(q, |part| part / 2 * 32, part as i32 % 2 * 4, 15, h to 4);
}

impl Unpack for Q6_K {
    type Shape = Of<16, false, 2>;
    const BIAS: i32 = 32;
    const MAX: i32 = 63;

    #[inline(always)]
    unsafe fn bytes<P: Dot>(&self, part: usize) -> __m256i {
        let (half, k) = (part / 4, part % 4);
        // SAFETY: 32 bytes from there on; AVX2 by the caller.
        unsafe {
            let low = field(self.q.as_ptr().add(64 * half + k % 2 * 32), k / 2 * 4, 15);
            let high = field(self.h.as_ptr().add(32 * half), 2 * k, 3);
            _mm256_or_si256(low, _mm256_slli_epi16::<4>(high))
        }
    }

    #[inline(always)]
    unsafe fn scales8(w: [&Self; 8], to: &mut Scales) {
        // SAFETY: the caller's promises; sixteen scales.
        unsafe {
            let d = super::unpack::floats8(w.map(|w| w.d));
            let v = columns4(places(w, core::mem::offset_of!(Q6_K, scales)));
            for (i, v) in v.into_iter().enumerate() {
                times_signed(v, d, &mut to.d[4 * i..][..4]);
            }
        }
    }
}

impl Unpack for Q3_K {
    type Shape = Of<16, false, 4>;
    const BIAS: i32 = 4;
    const MAX: i32 = 7;

    #[inline(always)]
    unsafe fn bytes<P: Dot>(&self, part: usize) -> __m256i {
        let (half, k) = (part / 4, part % 4);
        // SAFETY: 32 bytes from there on; AVX2 by the caller.
        unsafe {
            let low = field(self.q.as_ptr().add(32 * half), 2 * k, 3);
            let high = field(self.h.as_ptr(), part, 1);
            _mm256_or_si256(low, _mm256_slli_epi16::<2>(high))
        }
    }

    #[inline(always)]
    unsafe fn scales8(w: [&Self; 8], to: &mut Scales) {
        // SAFETY: the caller's promises. The last sixteen bytes of a block: two of codes, the
        // twelve of the scales, the unit.
        unsafe {
            let [x, y, z, u] = columns4(places(w, size_of::<Q3_K>() - 16));
            let (_, d) = two_floats8(u);
            // Without those two bytes.
            let (a, b, c) = (middle(x, y), middle(y, z), middle(z, u));
            let steps = [
                _mm256_or_si256(bits::<0>(a, 15), _mm256_slli_epi32::<4>(bits::<0>(c, 3))),
                _mm256_or_si256(bits::<0>(b, 15), _mm256_slli_epi32::<2>(bits::<0>(c, 12))),
                _mm256_or_si256(bits::<4>(a, 15), bits::<0>(c, 0x30)),
                _mm256_or_si256(bits::<4>(b, 15), bits::<2>(c, 0x30)),
            ];
            for (i, v) in steps.into_iter().enumerate() {
                let v = _mm256_sub_epi8(v, _mm256_set1_epi8(32));
                times_signed(v, d, &mut to.d[4 * i..][..4]);
            }
        }
    }

    columns_dot8!(q, |part| part / 4 * 32, part as i32 % 4 * 2, 3, h to 2);
}

impl Unpack for Q2_K {
    type Shape = Of<16, true, 4>;
    const BIAS: i32 = 0;
    const MAX: i32 = 3;

    #[inline(always)]
    unsafe fn bytes<P: Dot>(&self, part: usize) -> __m256i {
        let (half, k) = (part / 4, part % 4);
        // SAFETY: 32 bytes of q from there on; AVX2 by the caller.
        unsafe { field(self.q.as_ptr().add(32 * half), 2 * k, 3) }
    }

    #[inline(always)]
    unsafe fn scales8(w: [&Self; 8], to: &mut Scales) {
        // SAFETY: the caller's promises; sixteen bytes of scales and minimums.
        unsafe {
            let d = super::unpack::floats8(w.map(|w| w.d));
            let dmin = super::unpack::floats8(w.map(|w| w.dmin));
            let dmin = _mm256_xor_ps(dmin, _mm256_set1_ps(-0.0));
            let v = columns4(places(w, core::mem::offset_of!(Q2_K, scales)));
            for (i, v) in v.into_iter().enumerate() {
                times_unsigned(bits::<0>(v, 15), d, &mut to.d[4 * i..][..4]);
                times_unsigned(bits::<4>(v, 15), dmin, &mut to.m[4 * i..][..4]);
            }
        }
    }

    columns_dot8!(q, |part| part / 4 * 32, part as i32 % 4 * 2, 3);
}

impl Unpack for IQ4_XS {
    type Shape = Of<32, false, 1>;
    const BIAS: i32 = 128;
    const MAX: i32 = 255;

    #[inline(always)]
    unsafe fn bytes<P: Dot>(&self, part: usize) -> __m256i {
        // SAFETY: sixteen bytes of the table; AVX2 by the caller.
        unsafe {
            let table = _mm_loadu_si128(BYTES.as_ptr().cast());
            _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(table), nibbles(self.nibbles(part)))
        }
    }

    #[inline(always)]
    unsafe fn scales8(w: [&Self; 8], to: &mut Scales) {
        // SAFETY: the caller's promises; a block begins with d, h and l.
        unsafe {
            let [units, low, ..] = columns4(places(w, 0));
            let (d, _) = two_floats8(units);
            let ready = (d, low, _mm256_srli_epi32::<16>(units));
            for (sub, to) in to.d[..8].iter_mut().enumerate() {
                *to = six_bit_scale::<Reg256<false>>(ready, sub);
            }
        }
    }
}
