//! 512-bit registers: panels of sixteen rows.

use core::arch::x86_64::*;

use super::shuffle512::opaque;
use super::simd_reg::{SimdReg, functions};

/// A register of AVX-512, with `VNNI` of AVX-512 VNNI.
pub(super) struct Reg512<const VNNI: bool>;

impl<const VNNI: bool> SimdReg for Reg512<VNNI> {
    const MR: usize = 16;
    const NR: usize = 8;
    const NARROW: bool = !VNNI;
    type One = Self;
    type I = __m512i;
    type F = __m512;

    functions! {
        fn splat(x: i32) -> __m512i = _mm512_set1_epi32(x);
        fn load(p: *const u8) -> __m512i = _mm512_load_si512(p.cast());
        fn load_any(p: *const u8) -> __m512i = _mm512_loadu_si512(p.cast());
        fn store(a: __m512i, p: *mut u8) = _mm512_store_si512(p.cast(), a);
        fn add(a: __m512i, b: __m512i) -> __m512i = _mm512_add_epi32(a, b);
        fn times255(a: __m512i) -> __m512i = _mm512_sub_epi32(_mm512_slli_epi32::<8>(a), a);
        fn times(a: __m512i, b: i32) -> __m512i = _mm512_mullo_epi32(a, _mm512_set1_epi32(b));
        fn and(a: __m512i, bits: i32) -> __m512i =
            _mm512_and_si512(a, opaque(_mm512_set1_epi32(bits)));
        fn or(a: __m512i, b: __m512i) -> __m512i = _mm512_or_si512(a, b);
        fn sub_bytes(a: __m512i, b: u8) -> __m512i =
            _mm512_sub_epi8(a, _mm512_set1_epi8(b.cast_signed()));
        fn look_up(table: &[u8; 16], a: __m512i) -> __m512i =
            _mm512_shuffle_epi8(_mm512_broadcast_i32x4(_mm_loadu_si128(table.as_ptr().cast())), a);
        fn shift(a: __m512i, up: i32) -> __m512i = match up {
            0.. => _mm512_sllv_epi32(a, _mm512_set1_epi32(up)),
            _ => _mm512_srlv_epi32(a, _mm512_set1_epi32(-up)),
        };
        fn shift_down(a: __m512i, by: usize) -> __m512i =
            _mm512_srlv_epi32(a, _mm512_set1_epi32(by as i32));
        fn shift_signed(a: __m512i, down: i32) -> __m512i =
            _mm512_srav_epi32(a, _mm512_set1_epi32(down));

        fn dot(acc: __m512i, w: __m512i, x: __m512i) -> __m512i = match VNNI {
            true => _mm512_dpbusd_epi32(acc, w, x),
            false => Self::widen(acc, Self::pairs::<false>(w, x)),
        };
        fn pairs<const SIGNED: bool>(w: __m512i, x: __m512i) -> __m512i = match SIGNED {
            true => {
                // There is no `vpsignb` of this width.
                let negative = _mm512_movepi8_mask(w);
                let x = _mm512_mask_sub_epi8(x, negative, _mm512_setzero_si512(), x);
                _mm512_maddubs_epi16(_mm512_abs_epi8(w), x)
            }
            false => _mm512_maddubs_epi16(w, x),
        };
        fn add_pairs(a: __m512i, b: __m512i) -> __m512i = _mm512_add_epi16(a, b);
        fn add_pairs_in_order(a: __m512i, b: __m512i) -> __m512i = _mm512_add_epi16(a, b);
        fn widen(acc: __m512i, pairs: __m512i) -> __m512i =
            _mm512_add_epi32(acc, _mm512_madd_epi16(pairs, _mm512_set1_epi16(1)));

        fn halves(p: *const u8) -> __m512 = _mm512_cvtph_ps(_mm256_loadu_si256(p.cast()));
        fn load_bytes(p: *const u8) -> __m512i = _mm512_cvtepu8_epi32(_mm_loadu_si128(p.cast()));
        fn from_bits(a: __m512i) -> __m512 = _mm512_castsi512_ps(a);
        fn low_halves(a: __m512i) -> __m512 = _mm512_cvtph_ps(_mm512_cvtepi32_epi16(a));
        fn to_float(a: __m512i) -> __m512 = _mm512_cvtepi32_ps(a);
        fn splat_float(x: f32) -> __m512 = _mm512_set1_ps(x);
        fn load_float(p: *const u8) -> __m512 = _mm512_load_ps(p.cast());
        fn store_panel(a: __m512, p: *mut u8) = _mm512_store_ps(p.cast(), a);
        fn add_float(a: __m512, b: __m512) -> __m512 = _mm512_add_ps(a, b);
        fn mul_float(a: __m512, b: __m512) -> __m512 = _mm512_mul_ps(a, b);
        fn store_float(a: __m512, p: *mut f32) = _mm512_storeu_ps(p, a);
    }
}
