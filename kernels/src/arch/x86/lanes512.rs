//! Sixteen lanes in one register of AVX-512.

use core::arch::x86_64::*;
use core::ops::Range;

use super::isa::DenseLanes;
use crate::lanes::{Float, LANES, Lanes};
use crate::ops::dense::{self, LoadDense};
use crate::{DenseActivations, Matrix, Tile};

/// Needs AVX-512 F, BW, VL and DQ; see [`Lanes`] for where values may be made.
#[derive(Clone, Copy)]
pub(super) struct Lanes512(__m512);

/// One intrinsic over lanes.
macro_rules! one {
    ($f:ident($($x:expr),*)) => {
        // SAFETY: these lanes are used only in functions compiled for AVX-512.
        unsafe { Lanes512($f($($x.0),*)) }
    };
}

impl Float for Lanes512 {
    type Int = __m512i;

    #[inline(always)]
    fn splat(x: f32) -> Self {
        // SAFETY: these lanes are used only in functions compiled for AVX-512.
        unsafe { Lanes512(_mm512_set1_ps(x)) }
    }
    #[inline(always)]
    fn add(self, o: Self) -> Self {
        one!(_mm512_add_ps(self, o))
    }
    #[inline(always)]
    fn sub(self, o: Self) -> Self {
        one!(_mm512_sub_ps(self, o))
    }
    #[inline(always)]
    fn mul(self, o: Self) -> Self {
        one!(_mm512_mul_ps(self, o))
    }
    #[inline(always)]
    fn div(self, o: Self) -> Self {
        one!(_mm512_div_ps(self, o))
    }
    #[inline(always)]
    fn fma(self, b: Self, c: Self) -> Self {
        one!(_mm512_fmadd_ps(self, b, c))
    }
    #[inline(always)]
    fn abs(self) -> Self {
        one!(_mm512_abs_ps(self))
    }
    #[inline(always)]
    fn max(self, o: Self) -> Self {
        one!(_mm512_max_ps(self, o))
    }
    #[inline(always)]
    fn min(self, o: Self) -> Self {
        one!(_mm512_min_ps(self, o))
    }
    #[inline(always)]
    fn select_le(self, o: Self, a: Self, b: Self) -> Self {
        // SAFETY: these lanes are used only in functions compiled for AVX-512.
        unsafe {
            let le = _mm512_cmp_ps_mask::<_CMP_LE_OQ>(self.0, o.0);
            Lanes512(_mm512_mask_blend_ps(le, b.0, a.0))
        }
    }
    #[inline(always)]
    fn to_int(self) -> __m512i {
        // SAFETY: these lanes are used only in functions compiled for AVX-512.
        unsafe { _mm512_cvttps_epi32(self.0) }
    }
    #[inline(always)]
    fn round(self) -> Self {
        // SAFETY: these lanes are used only in functions compiled for AVX-512.
        unsafe { Lanes512(_mm512_roundscale_ps::<_MM_FROUND_TO_NEAREST_INT>(self.0)) }
    }
    #[inline(always)]
    fn scale2(self, n: Self) -> Self {
        one!(_mm512_scalef_ps(self, n))
    }
}

impl Lanes for Lanes512 {
    const QUERIES: usize = 4;

    #[inline(always)]
    fn prefetch(p: *const u8) {
        // SAFETY: a prefetch reads nothing, so it may go anywhere.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(p.cast()) }
    }
    #[inline(always)]
    fn prefetch_stream(p: *const u8) {
        super::lanes256::prefetch_stream(p);
    }
    #[inline(always)]
    fn load(p: &[f32; LANES]) -> Self {
        // SAFETY: sixteen floats behind p; compiled for AVX-512.
        unsafe { Lanes512(_mm512_loadu_ps(p.as_ptr())) }
    }
    #[inline(always)]
    fn load_le(p: &[[u8; 4]; LANES]) -> Self {
        // SAFETY: sixteen floats behind p, which an unaligned load reads; compiled for AVX-512.
        unsafe { Lanes512(_mm512_loadu_ps(p.as_ptr().cast())) }
    }
    #[inline(always)]
    fn load_f16(p: &[[u8; 2]; LANES]) -> Self {
        // SAFETY: 32 bytes behind p; compiled for AVX-512.
        unsafe { Lanes512(_mm512_cvtph_ps(_mm256_loadu_si256(p.as_ptr().cast()))) }
    }
    #[inline(always)]
    fn load_bf16(p: &[[u8; 2]; LANES]) -> Self {
        // SAFETY: 32 bytes behind p; compiled for AVX-512.
        unsafe {
            let wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(p.as_ptr().cast()));
            Lanes512(_mm512_castsi512_ps(_mm512_slli_epi32::<16>(wide)))
        }
    }
    #[inline(always)]
    fn load_i8(p: &[i8; LANES]) -> Self {
        // SAFETY: 16 bytes behind p; compiled for AVX-512.
        unsafe {
            let wide = _mm512_cvtepi8_epi32(_mm_loadu_si128(p.as_ptr().cast()));
            Lanes512(_mm512_cvtepi32_ps(wide))
        }
    }
    #[inline(always)]
    fn store(self, p: &mut [f32; LANES]) {
        // SAFETY: sixteen floats behind p; compiled for AVX-512.
        unsafe { _mm512_storeu_ps(p.as_mut_ptr(), self.0) }
    }
    #[inline(always)]
    fn store_f16(self, p: &mut [[u8; 2]; LANES]) {
        // SAFETY: 32 bytes behind p; compiled for AVX-512. The immediate is round to nearest even.
        unsafe {
            let h = _mm512_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(self.0);
            _mm256_storeu_si256(p.as_mut_ptr().cast(), h);
        }
    }
    #[inline(always)]
    fn store_int(i: __m512i, p: &mut [i32; LANES]) {
        // SAFETY: sixteen integers behind p; compiled for AVX-512.
        unsafe { _mm512_storeu_si512(p.as_mut_ptr().cast(), i) }
    }
    #[inline(always)]
    fn sum(self) -> f32 {
        // SAFETY: these lanes are used only in functions compiled for AVX-512.
        unsafe {
            let (lo, hi) = (_mm512_castps512_ps256(self.0), _mm512_extractf32x8_ps::<1>(self.0));
            let a = _mm256_add_ps(lo, hi); // j + (j + 8)
            let a = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
            let a = _mm_add_ps(a, _mm_movehl_ps(a, a)); // j + (j + 2)
            _mm_cvtss_f32(_mm_add_ss(a, _mm_shuffle_ps::<1>(a, a)))
        }
    }
    #[inline(always)]
    fn largest(self) -> f32 {
        // SAFETY: these lanes are used only in functions compiled for AVX-512.
        unsafe {
            let (lo, hi) = (_mm512_castps512_ps256(self.0), _mm512_extractf32x8_ps::<1>(self.0));
            let a = _mm256_max_ps(lo, hi);
            let a = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
            let a = _mm_max_ps(a, _mm_movehl_ps(a, a));
            _mm_cvtss_f32(_mm_max_ss(a, _mm_shuffle_ps::<1>(a, a)))
        }
    }
    /// The trees of sixteen registers at once: every step adds the upper half of each remaining
    /// sum to its lower half, two sums' halves sharing a register.
    #[inline(always)]
    fn sums(v: &[Self; LANES]) -> Self {
        // SAFETY: these lanes are used only in functions compiled for AVX-512.
        unsafe {
            // Quarters of 4 lanes: a0..a3 of v[i] beside those of v[i + 8] after the first step.
            let mut a = [_mm512_setzero_ps(); 8];
            for i in 0..8 {
                let (x, y) = (v[i].0, v[i + 8].0);
                let lo = _mm512_shuffle_f32x4::<0b01_00_01_00>(x, y);
                let hi = _mm512_shuffle_f32x4::<0b11_10_11_10>(x, y);
                a[i] = _mm512_add_ps(lo, hi); // 8 lanes of x, 8 lanes of y
            }
            let mut b = [_mm512_setzero_ps(); 4];
            for i in 0..4 {
                // Quarters: x (i), y (i + 8), of a[i]; then of a[i + 4].
                let lo = _mm512_shuffle_f32x4::<0b10_00_10_00>(a[i], a[i + 4]);
                let hi = _mm512_shuffle_f32x4::<0b11_01_11_01>(a[i], a[i + 4]);
                b[i] = _mm512_add_ps(lo, hi); // quarters: i, i + 8, i + 4, i + 12
            }
            let mut c = [_mm512_setzero_ps(); 2];
            for i in 0..2 {
                // In each quarter: lanes 0, 1 of b[i] and of b[i + 2], plus lanes 2, 3.
                let lo = _mm512_shuffle_ps::<0b01_00_01_00>(b[i], b[i + 2]);
                let hi = _mm512_shuffle_ps::<0b11_10_11_10>(b[i], b[i + 2]);
                c[i] = _mm512_add_ps(lo, hi); // i, i, i + 2, i + 2
            }
            let even = _mm512_shuffle_ps::<0b10_00_10_00>(c[0], c[1]);
            let odd = _mm512_shuffle_ps::<0b11_01_11_01>(c[0], c[1]);
            // Quarters 0, 8, 4, 12; in each 0, 2, 1, 3.
            let d = _mm512_add_ps(even, odd);
            let order = _mm512_setr_epi32(0, 2, 1, 3, 8, 10, 9, 11, 4, 6, 5, 7, 12, 14, 13, 15);
            Lanes512(_mm512_permutexvar_ps(order, d))
        }
    }
}

impl DenseLanes for Lanes512 {
    #[inline(always)]
    fn dense<B: LoadDense>(
        w: &Matrix<'_>,
        x: &DenseActivations<'_>,
        rows: Range<usize>,
        y: &mut Tile<'_>,
    ) {
        dense::matmul::<Self, B, 4, 4, 4>(w, x, rows, y);
    }
}
