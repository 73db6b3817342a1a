//! Unpackers for sixteen rows in 512-bit registers; here those of formats with blocks of 32 codes.

use core::arch::x86_64::*;
use core::mem::offset_of;

use super::shuffle512::{MR, columns, exponents, floats, half_codes, halves, two_floats};
use super::unpack::{BYTES, FP4_BYTES, Unpack};
use crate::blocks::{IQ4_NL, MXFP4, Q4_0, Q4_1, Q5_0, Q5_1};

/// A format whose bytes ([`Unpack`]) are multiplied by `vpdpbusd` in columns.
pub(super) trait Unpack16: Unpack {
    /// More than two parts share bytes. Otherwise prefetches are spread over the parts, which is faster,
    /// but keeps the compiler from seeing what parts share.
    const SHARED: bool = false;
    /// Scales and minimums of a block of each row, on their way.
    type Scales: Copy;

    /// The scales and minimums of the blocks at `w`.
    ///
    /// # Safety
    /// The CPU has AVX-512 F, BW, VL and DQ; a block lies at every place.
    unsafe fn scales16(w: [*const u8; MR]) -> Self::Scales;

    /// The scales of sub-block `sub`.
    ///
    /// # Safety
    /// The CPU has AVX-512 F, BW, VL and DQ.
    unsafe fn lane_scales(s: &Self::Scales, sub: usize) -> __m512;

    /// The minimums of sub-block `sub`, where there are some; anything otherwise.
    ///
    /// # Safety
    /// As [`Unpack16::lane_scales`].
    unsafe fn lane_mins(s: &Self::Scales, sub: usize) -> __m512;

    /// Lane `r` is the sum of the products of the bytes of a part of the block at `w[r]` with the 32
    /// codes at `x[n]`; with scales for every 16 codes, the two halves apart.
    ///
    /// # Safety
    /// The CPU has AVX-512 F, BW, VL, DQ and VNNI; a block lies at every place, 32 codes at each of
    /// `x`; the block has the part.
    unsafe fn dot16<const N: usize>(
        w: [*const u8; MR],
        part: usize,
        x: [*const i8; N],
    ) -> [[__m512i; 2]; N];
}

/// The same place of all blocks.
#[inline(always)]
pub(super) fn places(w: [*const u8; MR], offset: usize) -> [*const u8; MR] {
    w.map(|w| w.wrapping_add(offset))
}

/// Products of half columns with codes; with `SUB` 16 the two halves apart.
///
/// # Safety
/// The CPU has AVX-512 F and VNNI; 32 codes lie at each of `x`.
#[inline(always)]
pub(super) unsafe fn dot_halves<const N: usize>(
    w: [[__m512i; 4]; 2],
    x: [*const i8; N],
    sub: usize,
) -> [[__m512i; 2]; N] {
    // SAFETY: the caller's promises.
    unsafe {
        let zero = _mm512_setzero_si512();
        let mut out = [[zero; 2]; N];
        for (out, x) in out.iter_mut().zip(x) {
            let x = half_codes(x);
            let mut sums = [zero; 2];
            for j in 0..4 {
                for (s, w) in sums.iter_mut().zip(w) {
                    *s = _mm512_dpbusd_epi32(*s, w[j], x[j]);
                }
            }
            let [a, b] = halves(sums);
            *out = if sub == 16 { [a, b] } else { [_mm512_add_epi32(a, b), zero] };
        }
        out
    }
}

/// Products of columns with four codes of each.
///
/// # Safety
/// The CPU has AVX-512 F and VNNI; sixteen codes lie at `x`.
#[inline(always)]
unsafe fn dot_columns(sum: __m512i, w: [__m512i; 4], x: *const i8) -> __m512i {
    // SAFETY: the caller's promises.
    unsafe {
        let mut sums = sum;
        for (j, w) in w.into_iter().enumerate() {
            let x = _mm512_set1_epi32(x.add(4 * j).cast::<i32>().read_unaligned());
            sums = _mm512_dpbusd_epi32(sums, w, x);
        }
        sums
    }
}

/// [`Unpack16::dot16`] of sixteen bytes of codes, and of their fifth bits where there is `high`.
///
/// # Safety
/// As [`Unpack16::dot16`]; sixteen bytes lie at every place.
#[inline(always)]
unsafe fn dot_nibbles<const N: usize>(
    q: [*const u8; MR],
    high: Option<__m512i>,
    x: [*const i8; N],
) -> [[__m512i; 2]; N] {
    // SAFETY: the caller's promises.
    unsafe {
        let zero = _mm512_setzero_si512();
        let (low, upper) = (_mm512_set1_epi8(15), _mm512_set1_epi8(-16));
        let q = columns(q);
        let mut out = [[zero; 2]; N];
        let Some(high) = high else {
            // Upper halves as they are, times 16: saves their shifts.
            let (mut w0, mut w1) = (q, q);
            for (w0, w1) in w0.iter_mut().zip(&mut w1) {
                (*w0, *w1) = (_mm512_and_si512(*w0, low), _mm512_and_si512(*w1, upper));
            }
            for (out, x) in out.iter_mut().zip(x) {
                let s16 = _mm512_srai_epi32::<4>(dot_columns(zero, w1, x.add(16)));
                out[0] = _mm512_add_epi32(dot_columns(zero, w0, x), s16);
            }
            return out;
        };
        // Four bits choose four bytes.
        let table = {
            let mut t = [0i32; 16];
            for (i, t) in t.iter_mut().enumerate() {
                *t = (i as i32 & 1) << 4
                    | (i as i32 & 2) << 11
                    | (i as i32 & 4) << 18
                    | (i as i32 & 8) << 25;
            }
            _mm512_loadu_si512(t.as_ptr().cast())
        };
        let (mut w0, mut w1) = (q, q);
        for j in 0..4 {
            let bits = _mm512_srl_epi32(high, _mm_cvtsi32_si128(4 * j as i32));
            let bits = _mm512_permutexvar_epi32(bits, table);
            // (q & low) | bits
            w0[j] = _mm512_ternarylogic_epi64::<0xf8>(bits, q[j], low);
            let bits = _mm512_srl_epi32(high, _mm_cvtsi32_si128(16 + 4 * j as i32));
            let bits = _mm512_permutexvar_epi32(bits, table);
            w1[j] = _mm512_ternarylogic_epi64::<0xf8>(bits, _mm512_srli_epi16::<4>(q[j]), low);
        }
        for (out, x) in out.iter_mut().zip(x) {
            let upper = dot_columns(zero, w1, x.add(16));
            out[0] = _mm512_add_epi32(dot_columns(zero, w0, x), upper);
        }
        out
    }
}

/// [`Unpack16::dot16`] of sixteen bytes of codes that stand for the bytes of a table.
///
/// # Safety
/// As [`Unpack16::dot16`]; sixteen bytes lie at every place.
#[inline(always)]
pub(super) unsafe fn dot_table<const N: usize>(
    q: [*const u8; MR],
    table: &[u8; 16],
    x: [*const i8; N],
) -> [[__m512i; 2]; N] {
    // SAFETY: the caller's promises.
    unsafe {
        let (zero, low) = (_mm512_setzero_si512(), _mm512_set1_epi8(15));
        let table = _mm512_broadcast_i32x4(_mm_loadu_si128(table.as_ptr().cast()));
        let q = columns(q);
        let (mut w0, mut w1) = (q, q);
        for j in 0..4 {
            w0[j] = _mm512_shuffle_epi8(table, _mm512_and_si512(q[j], low));
            let upper = _mm512_and_si512(_mm512_srli_epi16::<4>(q[j]), low);
            w1[j] = _mm512_shuffle_epi8(table, upper);
        }
        let mut out = [[zero; 2]; N];
        for (out, x) in out.iter_mut().zip(x) {
            out[0] = dot_columns(dot_columns(zero, w0, x), w1, x.add(16));
        }
        out
    }
}

/// A format with a scale, perhaps a minimum, perhaps fifth bits, perhaps a table.
macro_rules! nibbles16 {
    ($name:ident, |$w:ident| $scales:expr => $n:literal, high: $high:expr) => {
        nibbles16!($name, |$w| $scales => $n, dot_nibbles($high));
    };
    ($name:ident, |$w:ident| $scales:expr => $n:literal, $dot:ident($more:expr)) => {
        impl Unpack16 for $name {
            type Scales = [__m512; $n];

            #[inline(always)]
            unsafe fn scales16($w: [*const u8; MR]) -> [__m512; $n] {
                // SAFETY: the caller's promises; a block begins with these fields.
                unsafe { $scales }
            }

            #[inline(always)]
            unsafe fn lane_scales(s: &[__m512; $n], _: usize) -> __m512 {
                s[0]
            }

            #[inline(always)]
            unsafe fn lane_mins(s: &[__m512; $n], _: usize) -> __m512 {
                s[$n - 1]
            }

            #[inline(always)]
            unsafe fn dot16<const N: usize>(
                $w: [*const u8; MR],
                _: usize,
                x: [*const i8; N],
            ) -> [[__m512i; 2]; N] {
                // SAFETY: the caller's promises; the fields of a block.
                unsafe { $dot(places($w, offset_of!($name, q)), $more, x) }
            }
        }
    };
}
nibbles16!(Q4_0, |w| [floats(w)] => 1, high: None);
nibbles16!(IQ4_NL, |w| [floats(w)] => 1, dot_table(&BYTES));
nibbles16!(MXFP4, |w| [exponents(w)] => 1, dot_table(&FP4_BYTES));
nibbles16!(Q4_1, |w| two_floats(columns(w)[0]) => 2, high: None);
nibbles16!(Q5_0, |w| [floats(w)] => 1, high: Some(columns(places(w, offset_of!(Q5_0, h)))[0]));
nibbles16!(Q5_1, |w| two_floats(columns(w)[0]) => 2, high: Some(columns(w)[1]));
