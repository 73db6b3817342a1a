//! How the formats of 32 codes come into a 256-bit register: one unpacker a format.

use core::arch::x86_64::*;

use crate::blocks::{CodeBlock, Q4_0, Q8_0};

/// A format whose 32 codes become unsigned bytes in one register: `code = byte - BIAS`.
pub(super) trait Unpack: CodeBlock {
    /// What makes the bytes unsigned; a power of two.
    const BIAS_SHIFT: u32;
    /// Bytes are at most 15, so that sums of their products stay small.
    const NIBBLES: bool;

    /// The bits of the f16 scale.
    fn scale_bits(&self) -> u16;

    /// # Safety
    /// The CPU has AVX2.
    unsafe fn bytes(&self) -> __m256i;
}

impl Unpack for Q8_0 {
    const BIAS_SHIFT: u32 = 7;
    const NIBBLES: bool = false;

    #[inline(always)]
    fn scale_bits(&self) -> u16 {
        u16::from_le_bytes(bytemuck::cast(self.d))
    }

    #[inline(always)]
    unsafe fn bytes(&self) -> __m256i {
        // SAFETY: 32 bytes behind q; AVX2 by the caller.
        unsafe {
            let codes = _mm256_loadu_si256(self.q.as_ptr().cast());
            _mm256_xor_si256(codes, _mm256_set1_epi8(-128))
        }
    }
}

impl Unpack for Q4_0 {
    const BIAS_SHIFT: u32 = 3;
    const NIBBLES: bool = true;

    #[inline(always)]
    fn scale_bits(&self) -> u16 {
        u16::from_le_bytes(bytemuck::cast(self.d))
    }

    #[inline(always)]
    unsafe fn bytes(&self) -> __m256i {
        // SAFETY: 16 bytes behind q; AVX2 by the caller.
        unsafe {
            let q = _mm_loadu_si128(self.q.as_ptr().cast());
            let both = _mm256_set_m128i(_mm_srli_epi16::<4>(q), q);
            _mm256_and_si256(both, _mm256_set1_epi8(15))
        }
    }
}

/// The scales of one block of each of eight rows.
///
/// # Safety
/// The CPU has F16C.
#[inline(always)]
pub(super) unsafe fn scales8<B: Unpack>(blocks: [&B; 8]) -> __m256 {
    let s = blocks.map(|b| u64::from(b.scale_bits()));
    // Put together in general registers, which are idle here, not by eight inserts.
    let lo = s[0] | s[1] << 16 | s[2] << 32 | s[3] << 48;
    let hi = s[4] | s[5] << 16 | s[6] << 32 | s[7] << 48;
    // SAFETY: F16C by the caller.
    unsafe { _mm256_cvtph_ps(_mm_set_epi64x(hi as i64, lo as i64)) }
}

/// Lane `r` of the result is the sum of the eight lanes of `v[r]`.
///
/// # Safety
/// The CPU has AVX2.
#[inline(always)]
pub(super) unsafe fn sums8(v: [__m256i; 8]) -> __m256i {
    // SAFETY: AVX2 by the caller.
    unsafe {
        let a = _mm256_hadd_epi32(v[0], v[1]);
        let b = _mm256_hadd_epi32(v[2], v[3]);
        let c = _mm256_hadd_epi32(v[4], v[5]);
        let d = _mm256_hadd_epi32(v[6], v[7]);
        let ab = _mm256_hadd_epi32(a, b);
        let cd = _mm256_hadd_epi32(c, d);
        let lo = _mm256_permute2x128_si256::<0x20>(ab, cd);
        let hi = _mm256_permute2x128_si256::<0x31>(ab, cd);
        _mm256_add_epi32(lo, hi)
    }
}

/// The transpose of eight registers of eight i32.
///
/// # Safety
/// The CPU has AVX2.
#[inline(always)]
pub(super) unsafe fn transpose8(r: [__m256i; 8]) -> [__m256i; 8] {
    // SAFETY: AVX2 by the caller.
    unsafe {
        let pair = |i: usize| {
            let (a, b) = (r[2 * i], r[2 * i + 1]);
            (_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b))
        };
        let ((a0, a1), (b0, b1), (c0, c1), (d0, d1)) = (pair(0), pair(1), pair(2), pair(3));
        // Columns 0 and 4, 1 and 5, 2 and 6, 3 and 7 of rows 0..4, then of rows 4..8.
        let ab = [
            _mm256_unpacklo_epi64(a0, b0),
            _mm256_unpackhi_epi64(a0, b0),
            _mm256_unpacklo_epi64(a1, b1),
            _mm256_unpackhi_epi64(a1, b1),
        ];
        let cd = [
            _mm256_unpacklo_epi64(c0, d0),
            _mm256_unpackhi_epi64(c0, d0),
            _mm256_unpacklo_epi64(c1, d1),
            _mm256_unpackhi_epi64(c1, d1),
        ];
        core::array::from_fn(|k| {
            let (x, y) = (ab[k % 4], cd[k % 4]);
            if k < 4 {
                _mm256_permute2x128_si256::<0x20>(x, y)
            } else {
                _mm256_permute2x128_si256::<0x31>(x, y)
            }
        })
    }
}
