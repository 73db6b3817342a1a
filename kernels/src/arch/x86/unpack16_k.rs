//! Unpackers of super-blocks of 256 codes, for sixteen rows in 512-bit registers.

use core::arch::x86_64::*;
use core::mem::offset_of;

use super::shuffle512::{MR, columns, half_columns, two_floats};
use super::simd_reg::six_bit_scale;
use super::simd_reg512::Reg512;
use super::unpack::BYTES;
use super::unpack16::{Unpack16, dot_halves, dot_table, places};
use crate::blocks::{IQ4_XS, Q2_K, Q3_K, Q4_K, Q5_K};

/// Scales and minimums in bytes, four of a row in a lane, and their units.
#[derive(Clone, Copy)]
pub(super) struct Bytes<const N: usize> {
    unit: __m512,
    scales: [__m512i; N],
    unit_of_mins: __m512,
    mins: [__m512i; N],
}

/// Byte `i` of each lane, unsigned.
///
/// # Safety
/// The CPU has AVX-512 F.
#[inline(always)]
unsafe fn unsigned(v: __m512i, i: usize) -> __m512 {
    // SAFETY: AVX-512 F by the caller.
    unsafe {
        let v = match i {
            0 => v,
            _ => _mm512_srl_epi32(v, _mm_cvtsi32_si128(8 * i as i32)),
        };
        _mm512_cvtepi32_ps(if i == 3 { v } else { _mm512_and_si512(v, _mm512_set1_epi32(255)) })
    }
}

/// Byte `i` of each lane, signed.
///
/// # Safety
/// The CPU has AVX-512 F.
#[inline(always)]
unsafe fn signed(v: __m512i, i: usize) -> __m512 {
    // SAFETY: AVX-512 F by the caller.
    unsafe {
        let v = match i {
            3 => v,
            _ => _mm512_sll_epi32(v, _mm_cvtsi32_si128(24 - 8 * i as i32)),
        };
        _mm512_cvtepi32_ps(_mm512_srai_epi32::<24>(v))
    }
}

/// `v` shifted down by `shift` bits within pairs of bytes, up where that is negative.
///
/// # Safety
/// The CPU has AVX-512 BW.
#[inline(always)]
unsafe fn moved(v: __m512i, shift: i32) -> __m512i {
    // SAFETY: AVX-512 BW by the caller.
    unsafe {
        match shift {
            0 => v,
            1.. => _mm512_srl_epi16(v, _mm_cvtsi32_si128(shift)),
            _ => _mm512_sll_epi16(v, _mm_cvtsi32_si128(-shift)),
        }
    }
}

/// `v >> shift` in every byte, where `mask` keeps what may stay of it.
///
/// # Safety
/// The CPU has AVX-512 BW.
#[inline(always)]
unsafe fn bits(v: __m512i, shift: i32, mask: i8) -> __m512i {
    // SAFETY: AVX-512 BW by the caller.
    unsafe { _mm512_and_si512(moved(v, shift), _mm512_set1_epi8(mask)) }
}

/// The bits of `mask` of every byte.
///
/// # Safety
/// The CPU has AVX-512 F.
#[inline(always)]
unsafe fn masked(mut w: [[__m512i; 4]; 2], mask: i8) -> [[__m512i; 4]; 2] {
    for w in w.as_flattened_mut() {
        // SAFETY: AVX-512 F by the caller.
        unsafe { *w = _mm512_and_si512(*w, _mm512_set1_epi8(mask)) }
    }
    w
}

/// The upper half of `a` and above it the lower half of `b`, in each lane.
///
/// # Safety
/// The CPU has AVX-512 F.
#[inline(always)]
unsafe fn middle(a: __m512i, b: __m512i) -> __m512i {
    // SAFETY: AVX-512 F by the caller.
    unsafe { _mm512_or_si512(_mm512_srli_epi32::<16>(a), _mm512_slli_epi32::<16>(b)) }
}

/// Scales and minimums of six bits, as `blocks/q4_k.rs` says.
///
/// # Safety
/// As [`Unpack16::scales16`].
#[inline(always)]
unsafe fn six_bits(w: [*const u8; MR]) -> Bytes<2> {
    // SAFETY: the caller's promises; a block begins with d, dmin and the twelve bytes.
    unsafe {
        let [units, a, b, c] = columns(w);
        let [d, dmin] = two_floats(units);
        Bytes {
            unit: d,
            scales: [bits(a, 0, 63), _mm512_or_si512(bits(c, 0, 15), bits(a, 2, 0x30))],
            unit_of_mins: _mm512_xor_ps(dmin, _mm512_set1_ps(-0.0)),
            mins: [bits(b, 0, 63), _mm512_or_si512(bits(c, 4, 15), bits(b, 2, 0x30))],
        }
    }
}

/// [`Unpack16`]'s scales of the formats with unsigned scales and minimums.
macro_rules! scales_and_mins {
    ($n:literal, |$w:ident| $load:expr) => {
        type Scales = Bytes<$n>;

        #[inline(always)]
        unsafe fn scales16($w: [*const u8; MR]) -> Self::Scales {
            // SAFETY: the caller's promises.
            unsafe { $load }
        }

        #[inline(always)]
        unsafe fn lane_scales(s: &Self::Scales, sub: usize) -> __m512 {
            // SAFETY: the caller's promise.
            unsafe { _mm512_mul_ps(s.unit, unsigned(s.scales[sub / 4], sub % 4)) }
        }

        #[inline(always)]
        unsafe fn lane_mins(s: &Self::Scales, sub: usize) -> __m512 {
            // SAFETY: the caller's promise.
            unsafe { _mm512_mul_ps(s.unit_of_mins, unsigned(s.mins[sub / 4], sub % 4)) }
        }
    };
}

/// Sums of products with bytes that are the codes times `1 << shift`, as those of the codes.
///
/// # Safety
/// The CPU has AVX-512 F.
#[inline(always)]
unsafe fn shifted<const N: usize>(sums: [[__m512i; 2]; N], shift: usize) -> [[__m512i; 2]; N] {
    let mut sums = sums;
    for s in sums.as_flattened_mut() {
        // SAFETY: AVX-512 F by the caller.
        unsafe { *s = _mm512_sra_epi32(*s, _mm_cvtsi32_si128(shift as i32)) }
    }
    sums
}

/// Codes of `LOW + 1` bits: the lower ones begin at bit `from` of the bytes `q`, the highest one is bit
/// `part` of the bytes `h`.
///
/// # Safety
/// The CPU has AVX-512 F and BW.
#[inline(always)]
unsafe fn joined<const LOW: i32>(
    mut q: [[__m512i; 4]; 2],
    from: usize,
    h: [[__m512i; 4]; 2],
    part: usize,
) -> [[__m512i; 4]; 2] {
    // SAFETY: the caller's promise.
    unsafe {
        let (low, high) = (_mm512_set1_epi8((1 << LOW) - 1), _mm512_set1_epi8(1 << LOW));
        for (q, h) in q.as_flattened_mut().iter_mut().zip(h.as_flattened()) {
            let bit = _mm512_and_si512(moved(*h, part as i32 - LOW), high);
            // bit | (q & low)
            *q = _mm512_ternarylogic_epi64::<0xf8>(bit, moved(*q, from as i32), low);
        }
        q
    }
}

impl Unpack16 for Q4_K {
    scales_and_mins!(2, |w| six_bits(w));

    #[inline(always)]
    unsafe fn dot16<const N: usize>(
        w: [*const u8; MR],
        part: usize,
        x: [*const i8; N],
    ) -> [[__m512i; 2]; N] {
        // SAFETY: the caller's promises; 32 bytes of q.
        unsafe {
            let q = half_columns(places(w, offset_of!(Q4_K, q) + part / 2 * 32));
            let q = masked(q, if part.is_multiple_of(2) { 15 } else { -16 });
            shifted(dot_halves(q, x, 32), part % 2 * 4)
        }
    }
}

impl Unpack16 for Q5_K {
    const SHARED: bool = true;
    scales_and_mins!(2, |w| six_bits(w));

    #[inline(always)]
    unsafe fn dot16<const N: usize>(
        w: [*const u8; MR],
        part: usize,
        x: [*const i8; N],
    ) -> [[__m512i; 2]; N] {
        // SAFETY: the caller's promises; 32 bytes of q and of h.
        unsafe {
            let q = half_columns(places(w, offset_of!(Q5_K, q) + part / 2 * 32));
            let h = half_columns(places(w, offset_of!(Q5_K, h)));
            dot_halves(joined::<4>(q, part % 2 * 4, h, part), x, 32)
        }
    }
}

impl Unpack16 for Q3_K {
    const SHARED: bool = true;
    type Scales = (__m512, [__m512i; 4]);

    #[inline(always)]
    unsafe fn scales16(w: [*const u8; MR]) -> Self::Scales {
        // SAFETY: the caller's promises. The last sixteen bytes of a block: two of codes, the twelve of
        // the scales, the unit.
        unsafe {
            let [x, y, z, u] = columns(places(w, size_of::<Q3_K>() - 16));
            let (a, b, c) = (middle(x, y), middle(y, z), middle(z, u));
            let scales = [
                _mm512_or_si512(bits(a, 0, 15), _mm512_slli_epi32::<4>(bits(c, 0, 3))),
                _mm512_or_si512(bits(b, 0, 15), _mm512_slli_epi32::<2>(bits(c, 0, 12))),
                _mm512_or_si512(bits(a, 4, 15), bits(c, 0, 0x30)),
                _mm512_or_si512(bits(b, 4, 15), bits(c, 2, 0x30)),
            ];
            let mut signed = scales;
            for v in &mut signed {
                *v = _mm512_sub_epi8(*v, _mm512_set1_epi8(32));
            }
            (two_floats(u)[1], signed)
        }
    }

    #[inline(always)]
    unsafe fn lane_scales(s: &Self::Scales, sub: usize) -> __m512 {
        // SAFETY: the caller's promise.
        unsafe { _mm512_mul_ps(s.0, signed(s.1[sub / 4], sub % 4)) }
    }

    #[inline(always)]
    unsafe fn lane_mins(s: &Self::Scales, _: usize) -> __m512 {
        s.0
    }

    #[inline(always)]
    unsafe fn dot16<const N: usize>(
        w: [*const u8; MR],
        part: usize,
        x: [*const i8; N],
    ) -> [[__m512i; 2]; N] {
        let (half, k) = (part / 4, part % 4);
        // SAFETY: the caller's promises; 32 bytes of q and of h.
        unsafe {
            let q = half_columns(places(w, offset_of!(Q3_K, q) + 32 * half));
            let h = half_columns(places(w, offset_of!(Q3_K, h)));
            dot_halves(joined::<2>(q, 2 * k, h, part), x, 16)
        }
    }
}

impl Unpack16 for Q2_K {
    const SHARED: bool = true;
    scales_and_mins!(4, |w| {
        let units = columns(places(w, size_of::<Q2_K>() - 16))[3];
        let [d, dmin] = two_floats(units);
        let v = columns(w);
        Bytes {
            unit: d,
            scales: [bits(v[0], 0, 15), bits(v[1], 0, 15), bits(v[2], 0, 15), bits(v[3], 0, 15)],
            unit_of_mins: _mm512_xor_ps(dmin, _mm512_set1_ps(-0.0)),
            mins: [bits(v[0], 4, 15), bits(v[1], 4, 15), bits(v[2], 4, 15), bits(v[3], 4, 15)],
        }
    });

    #[inline(always)]
    unsafe fn dot16<const N: usize>(
        w: [*const u8; MR],
        part: usize,
        x: [*const i8; N],
    ) -> [[__m512i; 2]; N] {
        let (half, k) = (part / 4, part % 4);
        // SAFETY: the caller's promises; 32 bytes of q.
        unsafe {
            let q = half_columns(places(w, offset_of!(Q2_K, q) + 32 * half));
            let q = masked(q, (3u8 << (2 * k)) as i8);
            shifted(dot_halves(q, x, 16), 2 * k)
        }
    }
}

impl Unpack16 for IQ4_XS {
    /// The unit, and the lower four and the upper two bits of the steps plus 32.
    type Scales = (__m512, __m512i, __m512i);

    #[inline(always)]
    unsafe fn scales16(w: [*const u8; MR]) -> Self::Scales {
        // SAFETY: the caller's promises; a block begins with d, h and l.
        unsafe {
            let [units, low, ..] = columns(w);
            (two_floats(units)[0], low, _mm512_srli_epi32::<16>(units))
        }
    }

    #[inline(always)]
    unsafe fn lane_scales(s: &Self::Scales, sub: usize) -> __m512 {
        // SAFETY: the caller's promise.
        unsafe { six_bit_scale::<Reg512<true>>(*s, sub) }
    }

    #[inline(always)]
    unsafe fn lane_mins(s: &Self::Scales, _: usize) -> __m512 {
        s.0
    }

    #[inline(always)]
    unsafe fn dot16<const N: usize>(
        w: [*const u8; MR],
        part: usize,
        x: [*const i8; N],
    ) -> [[__m512i; 2]; N] {
        // SAFETY: the caller's promises; sixteen bytes of q.
        unsafe { dot_table(places(w, offset_of!(IQ4_XS, q) + 16 * part), &BYTES, x) }
    }
}
