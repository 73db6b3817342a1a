//! How the formats of 32 codes come into a 256-bit register: one unpacker a format.

use core::arch::x86_64::*;

use crate::blocks::{CodeBlock, Q4_0, Q8_0};

/// Sums of products of bytes, as an instruction set has them: eight lanes of four neighbours.
pub(super) trait Products {
    /// Whether [`Products::bytes`] multiplies with the codes plus 128, not with the codes.
    const BIASED: bool;

    /// `acc` and the products of codes of weights and activations.
    ///
    /// # Safety
    /// The CPU has AVX2 and the instructions of the implementation.
    unsafe fn bytes(acc: __m256i, w: __m256i, x: __m256i) -> __m256i;

    /// `acc + w0 * x0 + w1 * x1`, for weights of at most 15.
    ///
    /// # Safety
    /// As [`Products::bytes`].
    unsafe fn nibbles(acc: __m256i, w0: __m256i, x0: __m256i, w1: __m256i, x1: __m256i) -> __m256i;
}

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

    /// Lane `r` is the sum of the products of block `w[r]` with 32 activations at `x`, whose sum
    /// is `s`.
    ///
    /// # Safety
    /// The CPU has AVX2 and the instructions of `P`; 32 codes lie at `x`.
    unsafe fn dot8<P: Products>(w: [&Self; 8], x: *const i8, s: i32) -> __m256i;
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

    #[inline(always)]
    unsafe fn dot8<P: Products>(w: [&Self; 8], x: *const i8, s: i32) -> __m256i {
        // SAFETY: the caller's promises; 32 bytes behind q.
        unsafe {
            let x = _mm256_loadu_si256(x.cast());
            // What the bias adds is taken off in equal parts, one for each of eight lanes.
            let start = _mm256_set1_epi32(if P::BIASED { s * -(128 / 8) } else { 0 });
            let mut p = [start; 8];
            for (p, w) in p.iter_mut().zip(w) {
                *p = P::bytes(*p, _mm256_loadu_si256(w.q.as_ptr().cast()), x);
            }
            // The halves of row r, summed, beside those of row r + 4. Blends run on all ports,
            // shuffles on two: with `vphaddd` from the start a block takes 1.2 times as long.
            let mut a = [_mm256_setzero_si256(); 4];
            for (r, a) in a.iter_mut().enumerate() {
                *a = _mm256_add_epi32(
                    _mm256_blend_epi32::<0b1111_0000>(p[r], p[r + 4]),
                    _mm256_permute2x128_si256::<0x21>(p[r], p[r + 4]),
                );
            }
            sums4(a)
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

    /// Two rows share a register: first their lower, then their upper halves of bytes.
    #[inline(always)]
    unsafe fn dot8<P: Products>(w: [&Self; 8], x: *const i8, s: i32) -> __m256i {
        // SAFETY: the caller's promises; 16 bytes behind q.
        unsafe {
            let x0 = _mm256_broadcastsi128_si256(_mm_loadu_si128(x.cast()));
            let x1 = _mm256_broadcastsi128_si256(_mm_loadu_si128(x.add(16).cast()));
            let low = _mm256_set1_epi8(15);
            // What the bias adds is taken off in equal parts, one for each of four lanes.
            let mut a = [_mm256_set1_epi32(s * -(8 / 4)); 4];
            for (r, a) in a.iter_mut().enumerate() {
                let q = _mm256_loadu2_m128i(w[r + 4].q.as_ptr().cast(), w[r].q.as_ptr().cast());
                let w0 = _mm256_and_si256(q, low);
                let w1 = _mm256_and_si256(_mm256_srli_epi16::<4>(q), low);
                *a = P::nibbles(*a, w0, x0, w1, x1);
            }
            sums4(a)
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
    // Put together in general registers: vectors' load ports are busy with codes.
    let lo = s[0] | s[1] << 16 | s[2] << 32 | s[3] << 48;
    let hi = s[4] | s[5] << 16 | s[6] << 32 | s[7] << 48;
    // SAFETY: F16C by the caller.
    unsafe { _mm256_cvtph_ps(_mm_set_epi64x(hi as i64, lo as i64)) }
}

/// The sums of the four lanes of each half: of the lower halves of `v`, then of the upper ones.
///
/// # Safety
/// The CPU has AVX2.
#[inline(always)]
unsafe fn sums4(v: [__m256i; 4]) -> __m256i {
    // SAFETY: AVX2 by the caller.
    unsafe {
        let pair = |a: __m256i, b: __m256i| {
            let (x, y) = (_mm256_castsi256_pd(a), _mm256_castsi256_pd(b));
            let cross = _mm256_castpd_si256(_mm256_shuffle_pd::<0b0101>(x, y));
            _mm256_add_epi32(_mm256_blend_epi32::<0b1100_1100>(a, b), cross)
        };
        _mm256_hadd_epi32(pair(v[0], v[1]), pair(v[2], v[3]))
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
