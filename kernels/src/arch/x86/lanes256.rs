//! Sixteen lanes in two registers of AVX2.

use core::arch::x86_64::*;
use core::ops::Range;

use super::isa::DenseLanes;
use crate::lanes::{Float, LANES, Lanes};
use crate::ops::dense::{self, LoadDense};
use crate::{DenseActivations, Matrix, Tile};

/// Needs AVX2, FMA and F16C; see [`Lanes`] for where values may be made.
#[derive(Clone, Copy)]
pub(super) struct Lanes256(__m256, __m256);

/// Applies an intrinsic to both halves.
macro_rules! both {
    ($f:ident($($x:expr),*)) => {
        // SAFETY: these lanes are used only in functions compiled for AVX2, FMA and F16C.
        unsafe { Lanes256($f($($x.0),*), $f($($x.1),*)) }
    };
}

/// `y * 2^n` in two halves, of which the first is exact.
///
/// # Safety
/// The CPU has AVX2.
#[inline(always)]
unsafe fn scale2(y: __m256, n: __m256) -> __m256 {
    // SAFETY: AVX2 by the caller.
    unsafe {
        let (n, bias) = (_mm256_cvttps_epi32(n), _mm256_set1_epi32(127));
        let half = _mm256_srai_epi32::<1>(n);
        let rest = _mm256_sub_epi32(n, half);
        let half = _mm256_slli_epi32::<23>(_mm256_add_epi32(half, bias));
        let rest = _mm256_slli_epi32::<23>(_mm256_add_epi32(rest, bias));
        let y = _mm256_mul_ps(y, _mm256_castsi256_ps(half));
        _mm256_mul_ps(y, _mm256_castsi256_ps(rest))
    }
}

/// [`Lanes::prefetch_stream`]: past the second-level cache, so that what is read once drives
/// nothing out of it, and only as far ahead as the CPU's own prefetcher leaves open (two streams of
/// F16 with 3072 columns: 28 GB/s, 22 by the second level).
#[inline(always)]
pub(super) fn prefetch_stream(p: *const u8) {
    // SAFETY: a prefetch reads nothing, so it may go anywhere.
    unsafe { _mm_prefetch::<_MM_HINT_NTA>(p.wrapping_add(320).cast()) }
}

impl Float for Lanes256 {
    type Int = (__m256i, __m256i);

    #[inline(always)]
    fn splat(x: f32) -> Self {
        // SAFETY: these lanes are used only in functions compiled for AVX2.
        unsafe { Lanes256(_mm256_set1_ps(x), _mm256_set1_ps(x)) }
    }
    #[inline(always)]
    fn add(self, o: Self) -> Self {
        both!(_mm256_add_ps(self, o))
    }
    #[inline(always)]
    fn sub(self, o: Self) -> Self {
        both!(_mm256_sub_ps(self, o))
    }
    #[inline(always)]
    fn mul(self, o: Self) -> Self {
        both!(_mm256_mul_ps(self, o))
    }
    #[inline(always)]
    fn div(self, o: Self) -> Self {
        both!(_mm256_div_ps(self, o))
    }
    #[inline(always)]
    fn fma(self, b: Self, c: Self) -> Self {
        both!(_mm256_fmadd_ps(self, b, c))
    }
    #[inline(always)]
    fn abs(self) -> Self {
        let sign = Self::splat(-0.0);
        both!(_mm256_andnot_ps(sign, self))
    }
    #[inline(always)]
    fn max(self, o: Self) -> Self {
        both!(_mm256_max_ps(self, o))
    }
    #[inline(always)]
    fn min(self, o: Self) -> Self {
        both!(_mm256_min_ps(self, o))
    }
    #[inline(always)]
    fn select_le(self, o: Self, a: Self, b: Self) -> Self {
        // SAFETY: these lanes are used only in functions compiled for AVX2.
        let le = unsafe {
            Lanes256(
                _mm256_cmp_ps::<_CMP_LE_OQ>(self.0, o.0),
                _mm256_cmp_ps::<_CMP_LE_OQ>(self.1, o.1),
            )
        };
        both!(_mm256_blendv_ps(b, a, le))
    }
    #[inline(always)]
    fn to_int(self) -> Self::Int {
        // SAFETY: these lanes are used only in functions compiled for AVX2.
        unsafe { (_mm256_cvttps_epi32(self.0), _mm256_cvttps_epi32(self.1)) }
    }
    #[inline(always)]
    fn round(self) -> Self {
        const NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
        // SAFETY: these lanes are used only in functions compiled for AVX2.
        unsafe { Lanes256(_mm256_round_ps::<NEAREST>(self.0), _mm256_round_ps::<NEAREST>(self.1)) }
    }
    #[inline(always)]
    fn scale2(self, n: Self) -> Self {
        // SAFETY: these lanes are used only in functions compiled for AVX2.
        unsafe { Lanes256(scale2(self.0, n.0), scale2(self.1, n.1)) }
    }
}

impl Lanes for Lanes256 {
    #[inline(always)]
    fn prefetch(p: *const u8) {
        // SAFETY: a prefetch reads nothing, so it may go anywhere.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(p.cast()) }
    }
    #[inline(always)]
    fn prefetch_stream(p: *const u8) {
        prefetch_stream(p);
    }
    #[inline(always)]
    fn load(p: &[f32; LANES]) -> Self {
        // SAFETY: sixteen floats behind p; compiled for AVX2.
        unsafe { Lanes256(_mm256_loadu_ps(p.as_ptr()), _mm256_loadu_ps(p.as_ptr().add(8))) }
    }
    #[inline(always)]
    fn load_le(p: &[[u8; 4]; LANES]) -> Self {
        // SAFETY: sixteen floats behind p, which unaligned loads read; compiled for AVX2.
        unsafe {
            let p = p.as_ptr().cast::<f32>();
            Lanes256(_mm256_loadu_ps(p), _mm256_loadu_ps(p.add(8)))
        }
    }
    #[inline(always)]
    fn load_f16(p: &[[u8; 2]; LANES]) -> Self {
        // SAFETY: 32 bytes behind p; compiled for F16C.
        unsafe {
            let p = p.as_ptr().cast::<__m128i>();
            let (a, b) = (_mm_loadu_si128(p), _mm_loadu_si128(p.add(1)));
            Lanes256(_mm256_cvtph_ps(a), _mm256_cvtph_ps(b))
        }
    }
    #[inline(always)]
    fn load_bf16(p: &[[u8; 2]; LANES]) -> Self {
        // SAFETY: 32 bytes behind p; compiled for AVX2.
        unsafe {
            let p = p.as_ptr().cast::<__m128i>();
            let wide = |x| _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(x)));
            Lanes256(wide(_mm_loadu_si128(p)), wide(_mm_loadu_si128(p.add(1))))
        }
    }
    #[inline(always)]
    fn load_i8(p: &[i8; LANES]) -> Self {
        // SAFETY: 16 bytes behind p; compiled for AVX2.
        unsafe {
            let v = _mm_loadu_si128(p.as_ptr().cast());
            let lo = _mm256_cvtepi8_epi32(v);
            let hi = _mm256_cvtepi8_epi32(_mm_unpackhi_epi64(v, v));
            Lanes256(_mm256_cvtepi32_ps(lo), _mm256_cvtepi32_ps(hi))
        }
    }
    #[inline(always)]
    fn store(self, p: &mut [f32; LANES]) {
        // SAFETY: sixteen floats behind p; compiled for AVX2.
        unsafe {
            _mm256_storeu_ps(p.as_mut_ptr(), self.0);
            _mm256_storeu_ps(p.as_mut_ptr().add(8), self.1);
        }
    }
    #[inline(always)]
    fn store_f16(self, p: &mut [[u8; 2]; LANES]) {
        // SAFETY: 32 bytes behind p; compiled for F16C. The immediate is round to nearest even.
        unsafe {
            let p = p.as_mut_ptr().cast::<__m128i>();
            _mm_storeu_si128(p, _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(self.0));
            _mm_storeu_si128(p.add(1), _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(self.1));
        }
    }
    #[inline(always)]
    fn store_int(i: Self::Int, p: &mut [i32; LANES]) {
        // SAFETY: sixteen integers behind p; compiled for AVX2.
        unsafe {
            _mm256_storeu_si256(p.as_mut_ptr().cast(), i.0);
            _mm256_storeu_si256(p.as_mut_ptr().add(8).cast(), i.1);
        }
    }
    #[inline(always)]
    fn sum(self) -> f32 {
        // SAFETY: these lanes are used only in functions compiled for AVX2.
        unsafe {
            let a = _mm256_add_ps(self.0, self.1); // j + (j + 8)
            let a = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
            let a = _mm_add_ps(a, _mm_movehl_ps(a, a)); // j + (j + 2)
            _mm_cvtss_f32(_mm_add_ss(a, _mm_shuffle_ps::<1>(a, a)))
        }
    }
    #[inline(always)]
    fn largest(self) -> f32 {
        // SAFETY: these lanes are used only in functions compiled for AVX2.
        unsafe {
            let a = _mm256_max_ps(self.0, self.1);
            let a = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
            let a = _mm_max_ps(a, _mm_movehl_ps(a, a));
            _mm_cvtss_f32(_mm_max_ss(a, _mm_shuffle_ps::<1>(a, a)))
        }
    }
}

impl DenseLanes for Lanes256 {
    #[inline(always)]
    fn dense<B: LoadDense>(
        w: &Matrix<'_>,
        x: &DenseActivations<'_>,
        rows: Range<usize>,
        y: &mut Tile<'_>,
    ) {
        dense::matmul::<Self, B, 2, 3, 4>(w, x, rows, y);
    }
}
