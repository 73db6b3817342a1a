//! Transposes in 512-bit registers: bytes of sixteen rows as columns, where a lane of 32 bits belongs to
//! a row.

use core::arch::asm;
use core::arch::x86_64::*;

use super::simd_reg::half_power;
use super::simd_reg512::Reg512;

/// Rows whose bytes are transposed: lanes of a register.
pub(super) const MR: usize = 16;

/// The transposes of four times four lanes, in each quarter of the registers.
///
/// # Safety
/// The CPU has AVX-512 F.
#[inline(always)]
unsafe fn transpose4([a, b, c, d]: [__m512i; 4]) -> [__m512i; 4] {
    // SAFETY: AVX-512 F by the caller.
    unsafe {
        let (ab, cd) = (_mm512_unpacklo_epi32(a, b), _mm512_unpacklo_epi32(c, d));
        let (ef, gh) = (_mm512_unpackhi_epi32(a, b), _mm512_unpackhi_epi32(c, d));
        [
            _mm512_unpacklo_epi64(ab, cd),
            _mm512_unpackhi_epi64(ab, cd),
            _mm512_unpacklo_epi64(ef, gh),
            _mm512_unpackhi_epi64(ef, gh),
        ]
    }
}

/// Sixteen bytes at each place: lane `r` of register `j` has the bytes `4 * j` to `4 * j + 3` of place
/// `r`.
///
/// # Safety
/// The CPU has AVX-512 F and DQ; sixteen bytes lie at every place.
#[inline(always)]
pub(super) unsafe fn columns(at: [*const u8; MR]) -> [__m512i; 4] {
    // SAFETY: the caller's promises.
    unsafe {
        let mut r = [_mm512_setzero_si512(); 4];
        for (i, r) in r.iter_mut().enumerate() {
            let v = _mm512_castsi128_si512(_mm_loadu_si128(at[i].cast()));
            let v = _mm512_inserti32x4::<1>(v, _mm_loadu_si128(at[i + 4].cast()));
            let v = _mm512_inserti32x4::<2>(v, _mm_loadu_si128(at[i + 8].cast()));
            *r = _mm512_inserti32x4::<3>(v, _mm_loadu_si128(at[i + 12].cast()));
        }
        transpose4(r)
    }
}

/// 32 bytes at each place, half transposed: of rows 0 to 8 and of rows 8 to 16. Of the four quarters
/// of register `j`, the first has the bytes from `4 * j` on of four rows, the second those from
/// `16 + 4 * j` on; the other two are those of the next four rows.
///
/// # Safety
/// The CPU has AVX-512 F; 32 bytes lie at every place.
#[inline(always)]
pub(super) unsafe fn half_columns(at: [*const u8; MR]) -> [[__m512i; 4]; 2] {
    // SAFETY: the caller's promises.
    unsafe {
        let mut halves = [[_mm512_setzero_si512(); 4]; 2];
        for (h, half) in halves.iter_mut().enumerate() {
            for (i, r) in half.iter_mut().enumerate() {
                let v = _mm512_castsi256_si512(_mm256_loadu_si256(at[8 * h + i].cast()));
                *r = _mm512_inserti64x4::<1>(v, _mm256_loadu_si256(at[8 * h + i + 4].cast()));
            }
            *half = transpose4(*half);
        }
        halves
    }
}

/// `v`, of which LLVM (21) doesn't know that both halves are the same: it would shuffle one and double
/// the result, each time.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn opaque(v: __m512i) -> __m512i {
    let mut v = v;
    // SAFETY: no instruction at all.
    unsafe {
        asm!("/* {} */", inout(zmm_reg) v, options(pure, nomem, nostack, preserves_flags));
    }
    v
}

/// 32 codes as [`half_columns`] of weights are multiplied with them.
///
/// # Safety
/// The CPU has AVX-512 F; 32 codes lie at `x`.
#[inline(always)]
pub(super) unsafe fn half_codes(x: *const i8) -> [__m512i; 4] {
    // SAFETY: the caller's promises.
    unsafe {
        let x = opaque(_mm512_broadcast_i64x4(_mm256_loadu_si256(x.cast())));
        [
            _mm512_shuffle_epi32::<0b00_00_00_00>(x),
            _mm512_shuffle_epi32::<0b01_01_01_01>(x),
            _mm512_shuffle_epi32::<0b10_10_10_10>(x),
            _mm512_shuffle_epi32::<0b11_11_11_11>(x),
        ]
    }
}

/// Sums of products of half columns: lane `r` of the first has that of row `r` with the first sixteen
/// codes, of the second that with the others.
///
/// # Safety
/// The CPU has AVX-512 F.
#[inline(always)]
pub(super) unsafe fn halves([a, b]: [__m512i; 2]) -> [__m512i; 2] {
    // SAFETY: AVX-512 F by the caller.
    unsafe {
        [_mm512_shuffle_i32x4::<0b10_00_10_00>(a, b), _mm512_shuffle_i32x4::<0b11_01_11_01>(a, b)]
    }
}

/// The f16 at each place.
///
/// # Safety
/// The CPU has AVX-512 F; two bytes lie at every place.
#[inline(always)]
pub(super) unsafe fn floats(at: [*const u8; MR]) -> __m512 {
    // Put together in general registers: vectors' ports are busy with codes.
    let mut four = [0; 4];
    for (i, at) in at.into_iter().enumerate() {
        // SAFETY: the caller's promises.
        let h = unsafe { at.cast::<u16>().read_unaligned() };
        four[i / 4] |= u64::from(h) << (16 * (i % 4));
    }
    // SAFETY: AVX-512 F by the caller; no instruction.
    unsafe {
        for v in &mut four {
            asm!("/* {} */", inout(reg) * v, options(pure, nomem, nostack, preserves_flags));
        }
        let [a, b, c, d] = four;
        _mm512_cvtph_ps(_mm256_set_epi64x(d as i64, c as i64, b as i64, a as i64))
    }
}

/// Powers of two of the exponents at each place, a byte each ([`half_power`]).
///
/// # Safety
/// The CPU has AVX-512 F; a byte lies at every place.
#[inline(always)]
pub(super) unsafe fn exponents(at: [*const u8; MR]) -> __m512 {
    // SAFETY: the caller's promises.
    unsafe {
        let e = u128::from_le_bytes(at.map(|at| *at));
        let e = _mm512_cvtepu8_epi32(_mm_set_epi64x((e >> 64) as i64, e as i64));
        half_power::<Reg512<false>>(e)
    }
}

/// The lower and the upper half of each lane's f16.
///
/// # Safety
/// The CPU has AVX-512 F.
#[inline(always)]
pub(super) unsafe fn two_floats(v: __m512i) -> [__m512; 2] {
    // SAFETY: AVX-512 F by the caller.
    unsafe {
        let upper = _mm512_srli_epi32::<16>(v);
        [_mm512_cvtph_ps(_mm512_cvtepi32_epi16(v)), _mm512_cvtph_ps(_mm512_cvtepi32_epi16(upper))]
    }
}
