//! The ceilings of x86-64.
//!
//! AVX2 and AVX-512 without VNNI sum bytes by `vpmaddubsw`, `vpmaddwd` and `vpaddd`. Codes of few
//! bits can be summed in 16 bits for longer: products of these may exceed the peak. VNNI has
//! `vpdpbusd`, AMX `tdpbssd`.

use core::arch::asm;
use core::arch::x86_64::*;
use core::hint::black_box;

use super::{Ceilings, rounds, sum, with_constants};
use crate::{Amx, Avx2, Avx512, Avx512Bw, AvxVnni};

/// Independent sums: AVX2 has sixteen registers, of which operands and products need some.
const SUMS_256: usize = 12;
/// AVX-512 has 32.
const SUMS_512: usize = 16;

/// A hint.
#[inline(always)]
fn fetch(p: *const i8) {
    #[allow(unused_unsafe)] // it was unsafe in Rust 1.89
    // SAFETY: reads nothing, so any address will do.
    unsafe {
        _mm_prefetch::<_MM_HINT_T1>(p);
    }
}

sum!(
    sum_256, "avx2", __m256i, zero: _mm256_setzero_si256(), load: _mm256_loadu_si256 as __m256i,
    add: _mm256_add_epi64, fetch: fetch
);
sum!(
    sum_512, "avx512f", __m512i, zero: _mm512_setzero_si512(), load: _mm512_loadu_si512 as __m512i,
    add: _mm512_add_epi64, fetch: fetch
);

#[target_feature(enable = "avx2")]
fn maddubs_256(rounds: u64) {
    let (w, mut x) = (_mm256_set1_epi8(black_box(3)), _mm256_set1_epi8(black_box(5)));
    let ones = _mm256_set1_epi16(1);
    rounds!(rounds, [_mm256_setzero_si256(); SUMS_256], sum => {
        // The compiler shall not see that it is the same product every time.
        // SAFETY: no instruction.
        unsafe { asm!("/* {0} */", inout(ymm_reg) x, options(nomem, nostack, preserves_flags)) };
        _mm256_add_epi32(*sum, _mm256_madd_epi16(_mm256_maddubs_epi16(w, x), ones))
    });
}

#[target_feature(enable = "avx512f,avx512bw")]
fn maddubs_512(rounds: u64) {
    let (w, mut x) = (_mm512_set1_epi8(black_box(3)), _mm512_set1_epi8(black_box(5)));
    let ones = _mm512_set1_epi16(1);
    rounds!(rounds, [_mm512_setzero_si512(); SUMS_512], sum => {
        // SAFETY: no instruction (as above).
        unsafe { asm!("/* {0} */", inout(zmm_reg) x, options(nomem, nostack, preserves_flags)) };
        _mm512_add_epi32(*sum, _mm512_madd_epi16(_mm512_maddubs_epi16(w, x), ones))
    });
}

#[target_feature(enable = "avx2,avxvnni")]
fn vnni_256(rounds: u64) {
    let (w, x) = (_mm256_set1_epi8(black_box(3)), _mm256_set1_epi8(black_box(5)));
    rounds!(rounds, [_mm256_setzero_si256(); SUMS_256],
        sum => _mm256_dpbusd_avx_epi32(*sum, w, x));
}

#[target_feature(enable = "avx512f,avx512vnni")]
fn vnni_512(rounds: u64) {
    let (w, x) = (_mm512_set1_epi8(black_box(3)), _mm512_set1_epi8(black_box(5)));
    rounds!(rounds, [_mm512_setzero_si512(); SUMS_512], sum => _mm512_dpbusd_epi32(*sum, w, x));
}

#[target_feature(enable = "avx2,fma")]
fn fma_256(rounds: u64) {
    let (m, c) = (_mm256_set1_ps(black_box(0.5)), _mm256_set1_ps(black_box(1.0)));
    rounds!(rounds, [_mm256_setzero_ps(); SUMS_256], sum => _mm256_fmadd_ps(*sum, m, c));
}

#[target_feature(enable = "avx512f")]
fn fma_512(rounds: u64) {
    let (m, c) = (_mm512_set1_ps(black_box(0.5)), _mm512_set1_ps(black_box(1.0)));
    rounds!(rounds, [_mm512_setzero_ps(); SUMS_512], sum => _mm512_fmadd_ps(*sum, m, c));
}

macro_rules! ceilings {
    ($backend:ty, $int8:ident, $fma:ident, $sum:ident, $sums:ident, $bytes:literal) => {
        impl Ceilings for $backend {
            fn int8(&self, rounds: u64) -> u64 {
                // SAFETY: a value of this type exists only where its features were found.
                unsafe { $int8(rounds) };
                rounds * 2 * ($sums * $bytes) as u64
            }
            fn fma(&self, rounds: u64) -> u64 {
                // SAFETY: as above.
                unsafe { $fma(rounds) };
                rounds * 2 * ($sums * $bytes / 4) as u64
            }
            fn sum(&self, streams: &[[u8; 64]], n: usize, prefetch: bool) -> u64 {
                // SAFETY: as above.
                unsafe { with_constants!($sum, streams, n, prefetch) }
            }
        }
    };
}

ceilings!(Avx2, maddubs_256, fma_256, sum_256, SUMS_256, 32);
ceilings!(AvxVnni, vnni_256, fma_256, sum_256, SUMS_256, 32);
ceilings!(Avx512Bw, maddubs_512, fma_512, sum_512, SUMS_512, 64);
ceilings!(Avx512, vnni_512, fma_512, sum_512, SUMS_512, 64);

impl Ceilings for Amx {
    fn int8(&self, rounds: u64) -> u64 {
        self.rounds(rounds)
    }
    fn fma(&self, rounds: u64) -> u64 {
        // SAFETY: who has AMX has AVX-512.
        unsafe { fma_512(rounds) };
        rounds * 2 * (SUMS_512 * 16) as u64
    }
    fn sum(&self, streams: &[[u8; 64]], n: usize, prefetch: bool) -> u64 {
        // SAFETY: as above.
        unsafe { with_constants!(sum_512, streams, n, prefetch) }
    }
}
