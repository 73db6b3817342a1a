//! Panels of sixteen rows, in 512-bit registers.

use core::arch::x86_64::*;

use super::gemm::SimdReg;

/// What the sets of this width share: all but the products.
macro_rules! simd_reg512 {
    ($(#[$doc:meta])* $name:ident, narrow: $narrow:literal, $($products:tt)*) => {
        $(#[$doc])*
        pub(super) struct $name;

        // SAFETY of all bodies: the caller's promise, for the set and for addresses.
        impl SimdReg for $name {
            const MR: usize = 16;
            const NR: usize = 8;
            const NARROW: bool = $narrow;
            type One = Self;
            type I = __m512i;
            type F = __m512;

            #[inline(always)]
            unsafe fn splat(x: i32) -> __m512i {
                // SAFETY: as above.
                unsafe { _mm512_set1_epi32(x) }
            }
            #[inline(always)]
            unsafe fn load(p: *const u8) -> __m512i {
                // SAFETY: as above.
                unsafe { _mm512_load_si512(p.cast()) }
            }
            #[inline(always)]
            unsafe fn add(a: __m512i, b: __m512i) -> __m512i {
                // SAFETY: as above.
                unsafe { _mm512_add_epi32(a, b) }
            }
            #[inline(always)]
            unsafe fn times255(a: __m512i) -> __m512i {
                // SAFETY: as above.
                unsafe { _mm512_sub_epi32(_mm512_slli_epi32::<8>(a), a) }
            }
            #[inline(always)]
            unsafe fn load_any(p: *const u8) -> __m512i {
                // SAFETY: as above.
                unsafe { _mm512_loadu_si512(p.cast()) }
            }
            #[inline(always)]
            unsafe fn and(a: __m512i, bits: i32) -> __m512i {
                // SAFETY: as above.
                unsafe {
                    let bits = super::gemv512_columns::opaque(_mm512_set1_epi32(bits));
                    _mm512_and_si512(a, bits)
                }
            }
            #[inline(always)]
            unsafe fn or(a: __m512i, b: __m512i) -> __m512i {
                // SAFETY: as above.
                unsafe { _mm512_or_si512(a, b) }
            }
            #[inline(always)]
            unsafe fn sub_bytes(a: __m512i, b: u8) -> __m512i {
                // SAFETY: as above.
                unsafe { _mm512_sub_epi8(a, _mm512_set1_epi8(b.cast_signed())) }
            }
            #[inline(always)]
            unsafe fn look_up(table: &[u8; 16], a: __m512i) -> __m512i {
                // SAFETY: as above; sixteen bytes are there.
                unsafe {
                    let table = _mm_loadu_si128(table.as_ptr().cast());
                    _mm512_shuffle_epi8(_mm512_broadcast_i32x4(table), a)
                }
            }
            #[inline(always)]
            unsafe fn shift(a: __m512i, up: i32) -> __m512i {
                // SAFETY: as above.
                unsafe {
                    if up >= 0 {
                        _mm512_sllv_epi32(a, _mm512_set1_epi32(up))
                    } else {
                        _mm512_srlv_epi32(a, _mm512_set1_epi32(-up))
                    }
                }
            }
            #[inline(always)]
            unsafe fn shift_down(a: __m512i, by: usize) -> __m512i {
                // SAFETY: as above.
                unsafe { _mm512_srlv_epi32(a, _mm512_set1_epi32(by as i32)) }
            }
            #[inline(always)]
            unsafe fn shift_signed(a: __m512i, down: i32) -> __m512i {
                // SAFETY: as above.
                unsafe { _mm512_srav_epi32(a, _mm512_set1_epi32(down)) }
            }
            #[inline(always)]
            unsafe fn times(a: __m512i, b: i32) -> __m512i {
                // SAFETY: as above.
                unsafe { _mm512_mullo_epi32(a, _mm512_set1_epi32(b)) }
            }
            #[inline(always)]
            unsafe fn halves(p: *const u8) -> __m512 {
                // SAFETY: as above.
                unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(p.cast())) }
            }
            #[inline(always)]
            unsafe fn low_halves(a: __m512i) -> __m512 {
                // SAFETY: as above.
                unsafe { _mm512_cvtph_ps(_mm512_cvtepi32_epi16(a)) }
            }
            #[inline(always)]
            unsafe fn store(a: __m512i, p: *mut u8) {
                // SAFETY: as above.
                unsafe { _mm512_store_si512(p.cast(), a) }
            }
            #[inline(always)]
            unsafe fn store_panel(a: __m512, p: *mut u8) {
                // SAFETY: as above.
                unsafe { _mm512_store_ps(p.cast(), a) }
            }
            $($products)*
            #[inline(always)]
            unsafe fn pairs<const SIGNED: bool>(w: __m512i, x: __m512i) -> __m512i {
                // SAFETY: as above.
                unsafe {
                    if SIGNED {
                        // There is no `vpsignb` of this width.
                        let negative = _mm512_movepi8_mask(w);
                        let x = _mm512_mask_sub_epi8(x, negative, _mm512_setzero_si512(), x);
                        _mm512_maddubs_epi16(_mm512_abs_epi8(w), x)
                    } else {
                        _mm512_maddubs_epi16(w, x)
                    }
                }
            }
            #[inline(always)]
            unsafe fn add_pairs(a: __m512i, b: __m512i) -> __m512i {
                // SAFETY: as above.
                unsafe { _mm512_add_epi16(a, b) }
            }
            #[inline(always)]
            unsafe fn widen(acc: __m512i, pairs: __m512i) -> __m512i {
                // SAFETY: as above.
                unsafe { _mm512_add_epi32(acc, _mm512_madd_epi16(pairs, _mm512_set1_epi16(1))) }
            }
            #[inline(always)]
            unsafe fn to_float(a: __m512i) -> __m512 {
                // SAFETY: as above.
                unsafe { _mm512_cvtepi32_ps(a) }
            }
            #[inline(always)]
            unsafe fn splat_float(x: f32) -> __m512 {
                // SAFETY: as above.
                unsafe { _mm512_set1_ps(x) }
            }
            #[inline(always)]
            unsafe fn load_float(p: *const u8) -> __m512 {
                // SAFETY: as above.
                unsafe { _mm512_load_ps(p.cast()) }
            }
            #[inline(always)]
            unsafe fn add_float(a: __m512, b: __m512) -> __m512 {
                // SAFETY: as above.
                unsafe { _mm512_add_ps(a, b) }
            }
            #[inline(always)]
            unsafe fn mul_float(a: __m512, b: __m512) -> __m512 {
                // SAFETY: as above.
                unsafe { _mm512_mul_ps(a, b) }
            }
            #[inline(always)]
            unsafe fn store_float(a: __m512, p: *mut f32) {
                // SAFETY: as above.
                unsafe { _mm512_storeu_ps(p, a) }
            }
        }
    };
}

simd_reg512! {
    /// By `vpmaddubsw`.
    Narrow512, narrow: true,
    #[inline(always)]
    unsafe fn dot(acc: __m512i, w: __m512i, x: __m512i) -> __m512i {
        // SAFETY: as above.
        unsafe { Self::widen(acc, Self::pairs::<false>(w, x)) }
    }
}

simd_reg512! {
    /// By `vpdpbusd` of AVX-512 VNNI.
    Vnni512, narrow: false,
    #[inline(always)]
    unsafe fn dot(acc: __m512i, w: __m512i, x: __m512i) -> __m512i {
        // SAFETY: as above.
        unsafe { _mm512_dpbusd_epi32(acc, w, x) }
    }
}
