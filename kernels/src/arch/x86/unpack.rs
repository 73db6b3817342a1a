//! Unpackers for 256-bit registers, one per format; here those of formats with blocks of 32 codes.

use core::arch::x86_64::*;

use super::dot::{Dot, MADDUBS_MAX};
use super::panel::{Of, Shape};
use super::shuffle256::{half_sums8, sums4, sums8};
use super::simd_reg::half_power;
use super::simd_reg256::Reg256;
use crate::blocks::iq4_nl::VALUES;
use crate::blocks::mxfp4;
use crate::blocks::{CodeBlock, F16, IQ4_NL, MXFP4, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0};

/// Scales and minimums of one block of each of eight rows, which are the lanes.
#[derive(Clone, Copy)]
pub(super) struct Scales {
    pub(super) d: [__m256; 16],
    pub(super) m: [__m256; 16],
}

impl Scales {
    /// # Safety
    /// The CPU has AVX.
    #[inline(always)]
    pub(super) unsafe fn zero() -> Self {
        // SAFETY: AVX by the caller.
        let zero = unsafe { _mm256_setzero_ps() };
        Scales { d: [zero; 16], m: [zero; 16] }
    }
}

/// A format whose codes become unsigned bytes: `code = byte - BIAS`.
pub(super) trait Unpack: CodeBlock {
    /// The format's properties that micro-kernels depend on.
    type Shape: Shape;
    /// The number that makes bytes of codes: 0, or a multiple of 8 (of 4 with scales for every 16).
    const BIAS: i32;
    /// The largest byte.
    const MAX: i32;
    /// Fails to compile if these numbers contradict each other.
    const CHECKED: () = {
        let (sub, pairs) = (<Self::Shape as Shape>::SUB, <Self::Shape as Shape>::PAIRS);
        assert!(sub == Self::SUB && <Self::Shape as Shape>::MINS == Self::MINS);
        // Bytes times codes of at most 127, two to a pair, in 16 bits; or signed codes.
        assert!((sub / 4).is_multiple_of(pairs));
        assert!(<Self::Shape as Shape>::SIGNED == (Self::MAX > MADDUBS_MAX));
        assert!(pairs == 1 || 2 * 127 * Self::MAX * pairs as i32 <= i16::MAX as i32);
        // Formats with minimums have unsigned codes: their sums have no bias.
        assert!(!Self::MINS || Self::BIAS == 0);
    };

    /// The 32 bytes of a part of the block.
    ///
    /// # Safety
    /// The CPU has AVX2 and the instructions of `P`; the block has the part.
    unsafe fn bytes<P: Dot>(&self, part: usize) -> __m256i;

    /// Scales and minimums, one for every sub-block.
    ///
    /// # Safety
    /// The CPU has AVX2 and F16C.
    unsafe fn scales8(w: [&Self; 8], to: &mut Scales);

    /// Lane `r` is the sum of the products of a part of block `w[r]` with the 32 codes at `x[n]`,
    /// whose two sums are `s[n]`; with scales for every 16 codes, the two halves apart.
    ///
    /// # Safety
    /// The CPU has AVX2 and the instructions of `P`; 32 codes lie at each of `x`; the block has the
    /// part.
    #[inline(always)]
    unsafe fn dot8<P: Dot, const N: usize>(
        w: [&Self; 8],
        part: usize,
        x: [*const i8; N],
        s: [[i32; 2]; N],
    ) -> [[__m256i; 2]; N] {
        // SAFETY: the caller's promises.
        unsafe {
            let zero = _mm256_setzero_si256();
            let mut bytes = [zero; 8];
            for (b, w) in bytes.iter_mut().zip(w) {
                *b = w.bytes::<P>(part);
            }
            // What the bias adds is taken off in equal parts, one for each lane of a sum.
            let signed = P::SIGNED && Self::Shape::SIGNED;
            let off = if signed { 0 } else { -Self::BIAS };
            let mut out = [[zero; 2]; N];
            for n in 0..N {
                let codes = _mm256_loadu_si256(x[n].cast());
                let start = if off == 0 {
                    zero
                } else if Self::SUB == 16 {
                    let (lower, upper) = (off / 4 * s[n][0], off / 4 * s[n][1]);
                    _mm256_set_m128i(_mm_set1_epi32(upper), _mm_set1_epi32(lower))
                } else {
                    _mm256_set1_epi32(off / 8 * (s[n][0] + s[n][1]))
                };
                let mut p = [zero; 8];
                for (p, b) in p.iter_mut().zip(bytes) {
                    *p = P::dot::<Self::Shape>(start, b, codes);
                }
                out[n] = if Self::SUB == 16 { half_sums8(p) } else { [sums8(p), zero] };
            }
            out
        }
    }
}

/// Eight f16.
///
/// # Safety
/// The CPU has F16C.
#[inline(always)]
pub(super) unsafe fn floats8(h: [F16; 8]) -> __m256 {
    let mut s = [0; 8];
    for (s, h) in s.iter_mut().zip(h) {
        *s = u64::from(u16::from_le_bytes(bytemuck::cast(h)));
    }
    // Put together in general registers: vectors' load ports are busy with codes.
    let lo = s[0] | s[1] << 16 | s[2] << 32 | s[3] << 48;
    let hi = s[4] | s[5] << 16 | s[6] << 32 | s[7] << 48;
    // SAFETY: F16C by the caller.
    unsafe { _mm256_cvtph_ps(_mm_set_epi64x(hi as i64, lo as i64)) }
}

/// The one scale of each of eight blocks, and the one minimum where there is one.
macro_rules! plain_scales {
    ($d:ident $(, $m:ident)?) => {
        #[inline(always)]
        unsafe fn scales8(w: [&Self; 8], to: &mut Scales) {
            // SAFETY: F16C by the caller.
            unsafe {
                to.d[0] = floats8(w.map(|w| w.$d));
                $(to.m[0] = floats8(w.map(|w| w.$m));)?
            }
        }
    };
}

impl Unpack for Q8_0 {
    type Shape = Of<32, false, 1>;
    const BIAS: i32 = 128;
    const MAX: i32 = 255;

    #[inline(always)]
    unsafe fn bytes<P: Dot>(&self, _: usize) -> __m256i {
        // SAFETY: 32 bytes behind q; AVX2 by the caller.
        unsafe {
            let codes = _mm256_loadu_si256(self.q.as_ptr().cast());
            _mm256_xor_si256(codes, _mm256_set1_epi8(-128))
        }
    }

    plain_scales!(d);
}

/// The halves of sixteen bytes: the lower ones, then the upper ones.
///
/// # Safety
/// The CPU has AVX2.
#[inline(always)]
pub(super) unsafe fn nibbles(q: &[u8; 16]) -> __m256i {
    // SAFETY: 16 bytes behind q; AVX2 by the caller.
    unsafe {
        let q = _mm_loadu_si128(q.as_ptr().cast());
        let both = _mm256_set_m128i(_mm_srli_epi16::<4>(q), q);
        _mm256_and_si256(both, _mm256_set1_epi8(15))
    }
}

/// [`Unpack::dot8`] for formats of sixteen bytes of codes: two rows share a register, first their
/// lower, then their upper halves of bytes.
macro_rules! nibble_dot8 {
    () => {
        #[inline(always)]
        unsafe fn dot8<P: Dot, const N: usize>(
            w: [&Self; 8],
            _: usize,
            x: [*const i8; N],
            s: [[i32; 2]; N],
        ) -> [[__m256i; 2]; N] {
            // SAFETY: the caller's promises; 16 bytes behind q.
            unsafe {
                let (zero, low) = (_mm256_setzero_si256(), _mm256_set1_epi8(15));
                let (mut w0, mut w1) = ([zero; 4], [zero; 4]);
                for r in 0..4 {
                    let q = _mm256_loadu2_m128i(w[r + 4].q.as_ptr().cast(), w[r].q.as_ptr().cast());
                    w0[r] = _mm256_and_si256(q, low);
                    w1[r] = _mm256_and_si256(_mm256_srli_epi16::<4>(q), low);
                }
                let mut out = [[zero; 2]; N];
                for n in 0..N {
                    let x0 = _mm256_broadcastsi128_si256(_mm_loadu_si128(x[n].cast()));
                    let x1 = _mm256_broadcastsi128_si256(_mm_loadu_si128(x[n].add(16).cast()));
                    // What the bias adds is taken off in equal parts, one for each of four lanes.
                    let start = _mm256_set1_epi32(-Self::BIAS / 4 * (s[n][0] + s[n][1]));
                    let mut a = [zero; 4];
                    for (r, a) in a.iter_mut().enumerate() {
                        *a = P::dot2(start, w0[r], x0, w1[r], x1);
                    }
                    out[n][0] = sums4(a);
                }
                out
            }
        }
    };
}

impl Unpack for Q4_0 {
    type Shape = Of<32, false, 8>;
    const BIAS: i32 = 8;
    const MAX: i32 = 15;

    #[inline(always)]
    unsafe fn bytes<P: Dot>(&self, _: usize) -> __m256i {
        // SAFETY: AVX2 by the caller.
        unsafe { nibbles(&self.q) }
    }

    plain_scales!(d);
    nibble_dot8!();
}

/// The bytes of IQ4_NL's codes: their values plus 128.
pub(super) const BYTES: [u8; 16] = {
    let (mut bytes, mut i) = ([0; 16], 0);
    while i < 16 {
        bytes[i] = (VALUES[i] as u8) ^ 0x80;
        i += 1;
    }
    bytes
};

impl Unpack for IQ4_NL {
    type Shape = Of<32, false, 1>;
    const BIAS: i32 = 128;
    const MAX: i32 = 255;

    #[inline(always)]
    unsafe fn bytes<P: Dot>(&self, _: usize) -> __m256i {
        // SAFETY: sixteen bytes are there; AVX2 by the caller.
        unsafe {
            let table = _mm_loadu_si128(BYTES.as_ptr().cast());
            _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(table), nibbles(&self.q))
        }
    }

    plain_scales!(d);
}

/// The bytes of MXFP4's codes: their values plus 16.
pub(super) const FP4_BYTES: [u8; 16] = {
    let (mut bytes, mut i) = ([0; 16], 0);
    while i < 16 {
        bytes[i] = (mxfp4::VALUES[i] + 16) as u8;
        i += 1;
    }
    bytes
};

impl Unpack for MXFP4 {
    type Shape = Of<32, false, 4>;
    const BIAS: i32 = 16;
    const MAX: i32 = 28;

    #[inline(always)]
    unsafe fn bytes<P: Dot>(&self, _: usize) -> __m256i {
        // SAFETY: sixteen bytes are there; AVX2 by the caller.
        unsafe {
            let table = _mm_loadu_si128(FP4_BYTES.as_ptr().cast());
            _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(table), nibbles(&self.q))
        }
    }

    #[inline(always)]
    unsafe fn scales8(w: [&Self; 8], to: &mut Scales) {
        let e = u64::from_le_bytes(w.map(|w| w.e));
        // SAFETY: AVX2 by the caller.
        unsafe {
            let e = _mm256_cvtepu8_epi32(_mm_cvtsi64_si128(e as i64));
            to.d[0] = half_power::<Reg256<false>>(e);
        }
    }
}

impl Unpack for Q4_1 {
    type Shape = Of<32, true, 8>;
    const BIAS: i32 = 0;
    const MAX: i32 = 15;

    #[inline(always)]
    unsafe fn bytes<P: Dot>(&self, _: usize) -> __m256i {
        // SAFETY: AVX2 by the caller.
        unsafe { nibbles(&self.q) }
    }

    plain_scales!(d, m);
    nibble_dot8!();
}

impl Unpack for Q5_0 {
    type Shape = Of<32, false, 4>;
    const BIAS: i32 = 16;
    const MAX: i32 = 31;

    #[inline(always)]
    unsafe fn bytes<P: Dot>(&self, _: usize) -> __m256i {
        // SAFETY: AVX2 and the instructions of P by the caller.
        unsafe { _mm256_or_si256(nibbles(&self.q), P::sixteens(u32::from_le_bytes(self.h))) }
    }

    plain_scales!(d);
}

impl Unpack for Q5_1 {
    type Shape = Of<32, true, 4>;
    const BIAS: i32 = 0;
    const MAX: i32 = 31;

    #[inline(always)]
    unsafe fn bytes<P: Dot>(&self, _: usize) -> __m256i {
        // SAFETY: AVX2 and the instructions of P by the caller.
        unsafe { _mm256_or_si256(nibbles(&self.q), P::sixteens(u32::from_le_bytes(self.h))) }
    }

    plain_scales!(d, m);
}
