//! Panels of eight rows, in 256-bit registers.

use core::arch::x86_64::*;

use super::gemm::SimdReg;

/// What the sets of this width share: all but the products.
macro_rules! simd_reg256 {
    ($(#[$doc:meta])* $name:ident, narrow: $narrow:literal, $($products:tt)*) => {
        $(#[$doc])*
        pub(super) struct $name;

        // SAFETY of all bodies: the caller's promise, for the set and for addresses.
        impl SimdReg for $name {
            const MR: usize = 8;
            const NR: usize = 4;
            const NARROW: bool = $narrow;
            type One = Self;
            type I = __m256i;
            type F = __m256;

            #[inline(always)]
            unsafe fn splat(x: i32) -> __m256i {
                // SAFETY: as above.
                unsafe { _mm256_set1_epi32(x) }
            }
            #[inline(always)]
            unsafe fn load(p: *const u8) -> __m256i {
                // SAFETY: as above.
                unsafe { _mm256_load_si256(p.cast()) }
            }
            #[inline(always)]
            unsafe fn add(a: __m256i, b: __m256i) -> __m256i {
                // SAFETY: as above.
                unsafe { _mm256_add_epi32(a, b) }
            }
            #[inline(always)]
            unsafe fn times255(a: __m256i) -> __m256i {
                // SAFETY: as above.
                unsafe { _mm256_sub_epi32(_mm256_slli_epi32::<8>(a), a) }
            }
            #[inline(always)]
            unsafe fn load_any(p: *const u8) -> __m256i {
                // SAFETY: as above.
                unsafe { _mm256_loadu_si256(p.cast()) }
            }
            #[inline(always)]
            unsafe fn and(a: __m256i, bits: i32) -> __m256i {
                // SAFETY: as above.
                unsafe { _mm256_and_si256(a, _mm256_set1_epi32(bits)) }
            }
            #[inline(always)]
            unsafe fn or(a: __m256i, b: __m256i) -> __m256i {
                // SAFETY: as above.
                unsafe { _mm256_or_si256(a, b) }
            }
            #[inline(always)]
            unsafe fn sub_bytes(a: __m256i, b: u8) -> __m256i {
                // SAFETY: as above.
                unsafe { _mm256_sub_epi8(a, _mm256_set1_epi8(b.cast_signed())) }
            }
            #[inline(always)]
            unsafe fn look_up(table: &[u8; 16], a: __m256i) -> __m256i {
                // SAFETY: as above; sixteen bytes are there.
                unsafe {
                    let table = _mm_loadu_si128(table.as_ptr().cast());
                    _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(table), a)
                }
            }
            #[inline(always)]
            unsafe fn shift(a: __m256i, up: i32) -> __m256i {
                // SAFETY: as above.
                unsafe {
                    if up >= 0 {
                        _mm256_sllv_epi32(a, _mm256_set1_epi32(up))
                    } else {
                        _mm256_srlv_epi32(a, _mm256_set1_epi32(-up))
                    }
                }
            }
            #[inline(always)]
            unsafe fn shift_down(a: __m256i, by: usize) -> __m256i {
                // SAFETY: as above.
                unsafe { _mm256_srlv_epi32(a, _mm256_set1_epi32(by as i32)) }
            }
            #[inline(always)]
            unsafe fn shift_signed(a: __m256i, down: i32) -> __m256i {
                // SAFETY: as above.
                unsafe { _mm256_srav_epi32(a, _mm256_set1_epi32(down)) }
            }
            #[inline(always)]
            unsafe fn times(a: __m256i, b: i32) -> __m256i {
                // SAFETY: as above.
                unsafe { _mm256_mullo_epi32(a, _mm256_set1_epi32(b)) }
            }
            #[inline(always)]
            unsafe fn halves(p: *const u8) -> __m256 {
                // SAFETY: as above.
                unsafe { _mm256_cvtph_ps(_mm_loadu_si128(p.cast())) }
            }
            #[inline(always)]
            unsafe fn low_halves(a: __m256i) -> __m256 {
                // SAFETY: as above.
                unsafe {
                    let low = _mm256_and_si256(a, _mm256_set1_epi32(0xffff));
                    // Per half: its four, and the same again.
                    let twice = _mm256_packus_epi32(low, low);
                    let all = _mm256_permute4x64_epi64::<0b10_00_10_00>(twice);
                    _mm256_cvtph_ps(_mm256_castsi256_si128(all))
                }
            }
            #[inline(always)]
            unsafe fn store(a: __m256i, p: *mut u8) {
                // SAFETY: as above.
                unsafe { _mm256_store_si256(p.cast(), a) }
            }
            #[inline(always)]
            unsafe fn store_panel(a: __m256, p: *mut u8) {
                // SAFETY: as above.
                unsafe { _mm256_store_ps(p.cast(), a) }
            }
            $($products)*
            #[inline(always)]
            unsafe fn pairs<const SIGNED: bool>(w: __m256i, x: __m256i) -> __m256i {
                // SAFETY: as above.
                unsafe {
                    if SIGNED {
                        _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(x, w))
                    } else {
                        _mm256_maddubs_epi16(w, x)
                    }
                }
            }
            #[inline(always)]
            unsafe fn add_pairs(a: __m256i, b: __m256i) -> __m256i {
                // SAFETY: as above.
                unsafe { _mm256_add_epi16(a, b) }
            }
            #[inline(always)]
            unsafe fn widen(acc: __m256i, pairs: __m256i) -> __m256i {
                // SAFETY: as above.
                unsafe { _mm256_add_epi32(acc, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1))) }
            }
            #[inline(always)]
            unsafe fn to_float(a: __m256i) -> __m256 {
                // SAFETY: as above.
                unsafe { _mm256_cvtepi32_ps(a) }
            }
            #[inline(always)]
            unsafe fn splat_float(x: f32) -> __m256 {
                // SAFETY: as above.
                unsafe { _mm256_set1_ps(x) }
            }
            #[inline(always)]
            unsafe fn load_float(p: *const u8) -> __m256 {
                // SAFETY: as above.
                unsafe { _mm256_load_ps(p.cast()) }
            }
            #[inline(always)]
            unsafe fn add_float(a: __m256, b: __m256) -> __m256 {
                // SAFETY: as above.
                unsafe { _mm256_add_ps(a, b) }
            }
            #[inline(always)]
            unsafe fn mul_float(a: __m256, b: __m256) -> __m256 {
                // SAFETY: as above.
                unsafe { _mm256_mul_ps(a, b) }
            }
            #[inline(always)]
            unsafe fn store_float(a: __m256, p: *mut f32) {
                // SAFETY: as above.
                unsafe { _mm256_storeu_ps(p, a) }
            }
        }
    };
}

simd_reg256! {
    /// By `vpmaddubsw`.
    Narrow256, narrow: true,
    #[inline(always)]
    unsafe fn dot(acc: __m256i, w: __m256i, x: __m256i) -> __m256i {
        // SAFETY: as above.
        unsafe { Self::widen(acc, Self::pairs::<false>(w, x)) }
    }
}

simd_reg256! {
    /// By `vpdpbusd` of AVX-VNNI.
    AvxVnni256, narrow: false,
    #[inline(always)]
    unsafe fn dot(acc: __m256i, w: __m256i, x: __m256i) -> __m256i {
        // SAFETY: as above.
        unsafe { _mm256_dpbusd_avx_epi32(acc, w, x) }
    }
}
