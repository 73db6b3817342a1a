//! Transposes and sums across lanes of 256-bit registers.

use core::arch::x86_64::*;

/// The transpose of eight registers of eight i32.
///
/// # Safety
/// The CPU has AVX2.
#[inline(always)]
pub(super) unsafe fn transpose8(r: [__m256i; 8]) -> [__m256i; 8] {
    // SAFETY: AVX2 by the caller.
    unsafe {
        let mut ab = [_mm256_setzero_si256(); 4];
        let mut cd = [_mm256_setzero_si256(); 4];
        // Columns 0 and 4, 1 and 5, 2 and 6, 3 and 7 of rows 0..4, then of rows 4..8.
        for (v, r) in [(&mut ab, &r[..4]), (&mut cd, &r[4..])] {
            let (a0, a1) = (_mm256_unpacklo_epi32(r[0], r[1]), _mm256_unpackhi_epi32(r[0], r[1]));
            let (b0, b1) = (_mm256_unpacklo_epi32(r[2], r[3]), _mm256_unpackhi_epi32(r[2], r[3]));
            v[0] = _mm256_unpacklo_epi64(a0, b0);
            v[1] = _mm256_unpackhi_epi64(a0, b0);
            v[2] = _mm256_unpacklo_epi64(a1, b1);
            v[3] = _mm256_unpackhi_epi64(a1, b1);
        }
        let mut out = [_mm256_setzero_si256(); 8];
        for k in 0..4 {
            out[k] = _mm256_permute2x128_si256::<0x20>(ab[k], cd[k]);
            out[k + 4] = _mm256_permute2x128_si256::<0x31>(ab[k], cd[k]);
        }
        out
    }
}

/// Four i32 at each of eight places, transposed: register `i` has number `i` of all of them.
///
/// # Safety
/// The CPU has AVX2; sixteen bytes can be read at every place.
#[inline(always)]
pub(super) unsafe fn columns4(at: [*const u8; 8]) -> [__m256i; 4] {
    // SAFETY: the caller's promises.
    unsafe {
        let mut r = [_mm256_setzero_si256(); 4];
        for (i, r) in r.iter_mut().enumerate() {
            *r = _mm256_loadu2_m128i(at[i + 4].cast(), at[i].cast());
        }
        let (a0, a1) = (_mm256_unpacklo_epi32(r[0], r[1]), _mm256_unpackhi_epi32(r[0], r[1]));
        let (b0, b1) = (_mm256_unpacklo_epi32(r[2], r[3]), _mm256_unpackhi_epi32(r[2], r[3]));
        [
            _mm256_unpacklo_epi64(a0, b0),
            _mm256_unpackhi_epi64(a0, b0),
            _mm256_unpacklo_epi64(a1, b1),
            _mm256_unpackhi_epi64(a1, b1),
        ]
    }
}

/// The sums of the four lanes of each half: of the lower halves of `v`, then of the upper ones.
///
/// # Safety
/// The CPU has AVX2.
#[inline(always)]
pub(super) unsafe fn sums4(v: [__m256i; 4]) -> __m256i {
    #[inline(always)]
    unsafe fn pair(a: __m256i, b: __m256i) -> __m256i {
        // SAFETY: AVX2 by the caller.
        unsafe {
            let (x, y) = (_mm256_castsi256_pd(a), _mm256_castsi256_pd(b));
            let cross = _mm256_castpd_si256(_mm256_shuffle_pd::<0b0101>(x, y));
            _mm256_add_epi32(_mm256_blend_epi32::<0b1100_1100>(a, b), cross)
        }
    }
    // SAFETY: AVX2 by the caller.
    unsafe { _mm256_hadd_epi32(pair(v[0], v[1]), pair(v[2], v[3])) }
}

/// Lane `r` is the sum of the eight lanes of `p[r]`.
///
/// # Safety
/// The CPU has AVX2.
#[inline(always)]
pub(super) unsafe fn sums8(p: [__m256i; 8]) -> __m256i {
    // SAFETY: AVX2 by the caller.
    unsafe {
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

/// Lane `r` is the sum of the lower four lanes of `p[r]`; and, apart, that of the upper four.
///
/// # Safety
/// The CPU has AVX2.
#[inline(always)]
pub(super) unsafe fn half_sums8(p: [__m256i; 8]) -> [__m256i; 2] {
    // SAFETY: AVX2 by the caller.
    unsafe {
        let a = sums4([p[0], p[1], p[2], p[3]]);
        let b = sums4([p[4], p[5], p[6], p[7]]);
        [_mm256_permute2x128_si256::<0x20>(a, b), _mm256_permute2x128_si256::<0x31>(a, b)]
    }
}
