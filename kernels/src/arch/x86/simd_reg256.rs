//! 256-bit registers: panels of eight rows.

use core::arch::asm;
use core::arch::x86_64::*;

use super::simd_reg::{SimdReg, functions};

/// `sum`, which the compiler takes as computed: of sums in a row it would make trees, whose parts
/// take registers that there are not.
#[target_feature(enable = "avx2")]
#[inline]
fn in_order(mut sum: __m256i) -> __m256i {
    // SAFETY: a comment, which does nothing.
    unsafe {
        asm!("/* {0} */", inout(ymm_reg) sum, options(pure, nomem, nostack, preserves_flags));
    }
    sum
}

/// A register of AVX2, with `VNNI` of AVX-VNNI.
pub(super) struct Reg256<const VNNI: bool>;

impl<const VNNI: bool> SimdReg for Reg256<VNNI> {
    const MR: usize = 8;
    const NR: usize = 4;
    const NARROW: bool = !VNNI;
    type One = Self;
    type I = __m256i;
    type F = __m256;

    functions! {
        fn splat(x: i32) -> __m256i = _mm256_set1_epi32(x);
        fn load(p: *const u8) -> __m256i = _mm256_load_si256(p.cast());
        fn load_any(p: *const u8) -> __m256i = _mm256_loadu_si256(p.cast());
        fn store(a: __m256i, p: *mut u8) = _mm256_store_si256(p.cast(), a);
        fn add(a: __m256i, b: __m256i) -> __m256i = _mm256_add_epi32(a, b);
        fn times255(a: __m256i) -> __m256i = _mm256_sub_epi32(_mm256_slli_epi32::<8>(a), a);
        fn times(a: __m256i, b: i32) -> __m256i = _mm256_mullo_epi32(a, _mm256_set1_epi32(b));
        fn and(a: __m256i, bits: i32) -> __m256i = _mm256_and_si256(a, _mm256_set1_epi32(bits));
        fn or(a: __m256i, b: __m256i) -> __m256i = _mm256_or_si256(a, b);
        fn sub_bytes(a: __m256i, b: u8) -> __m256i =
            _mm256_sub_epi8(a, _mm256_set1_epi8(b.cast_signed()));
        fn look_up(table: &[u8; 16], a: __m256i) -> __m256i =
            _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(_mm_loadu_si128(table.as_ptr().cast())), a);
        fn shift(a: __m256i, up: i32) -> __m256i = match up {
            0.. => _mm256_sllv_epi32(a, _mm256_set1_epi32(up)),
            _ => _mm256_srlv_epi32(a, _mm256_set1_epi32(-up)),
        };
        fn shift_down(a: __m256i, by: usize) -> __m256i =
            _mm256_srlv_epi32(a, _mm256_set1_epi32(by as i32));
        fn shift_signed(a: __m256i, down: i32) -> __m256i =
            _mm256_srav_epi32(a, _mm256_set1_epi32(down));

        fn dot(acc: __m256i, w: __m256i, x: __m256i) -> __m256i = match VNNI {
            true => _mm256_dpbusd_avx_epi32(acc, w, x),
            false => Self::widen(acc, Self::pairs::<false>(w, x)),
        };
        fn pairs<const SIGNED: bool>(w: __m256i, x: __m256i) -> __m256i = match SIGNED {
            true => _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(x, w)),
            false => _mm256_maddubs_epi16(w, x),
        };
        fn add_pairs(a: __m256i, b: __m256i) -> __m256i = _mm256_add_epi16(a, b);
        fn add_pairs_in_order(a: __m256i, b: __m256i) -> __m256i = in_order(_mm256_add_epi16(a, b));
        fn widen(acc: __m256i, pairs: __m256i) -> __m256i =
            _mm256_add_epi32(acc, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));

        fn halves(p: *const u8) -> __m256 = _mm256_cvtph_ps(_mm_loadu_si128(p.cast()));
        fn load_bytes(p: *const u8) -> __m256i = _mm256_cvtepu8_epi32(_mm_loadu_si64(p));
        fn from_bits(a: __m256i) -> __m256 = _mm256_castsi256_ps(a);
        fn low_halves(a: __m256i) -> __m256 = {
            let low = _mm256_and_si256(a, _mm256_set1_epi32(0xffff));
            // Per half: its four, and the same again.
            let twice = _mm256_packus_epi32(low, low);
            let all = _mm256_permute4x64_epi64::<0b10_00_10_00>(twice);
            _mm256_cvtph_ps(_mm256_castsi256_si128(all))
        };
        fn to_float(a: __m256i) -> __m256 = _mm256_cvtepi32_ps(a);
        fn splat_float(x: f32) -> __m256 = _mm256_set1_ps(x);
        fn load_float(p: *const u8) -> __m256 = _mm256_load_ps(p.cast());
        fn store_panel(a: __m256, p: *mut u8) = _mm256_store_ps(p.cast(), a);
        fn add_float(a: __m256, b: __m256) -> __m256 = _mm256_add_ps(a, b);
        fn mul_float(a: __m256, b: __m256) -> __m256 = _mm256_mul_ps(a, b);
        fn store_float(a: __m256, p: *mut f32) = _mm256_storeu_ps(p, a);
    }
}
