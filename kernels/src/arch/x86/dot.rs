//! Dot products of bytes in 256-bit registers, for the gemv drivers: the part in which the
//! instruction sets differ.

use core::arch::x86_64::*;

use super::panel::Shape;

/// The largest byte with which `vpmaddubsw`, which saturates sums of two products at 16 bits, is
/// exact: `2 * 129 * 127 < 2^15`.
pub(super) const MADDUBS_MAX: i32 = 129;

/// Dot products of eight lanes, of four bytes each.
pub(super) trait Dot {
    /// Bytes of a [`Shape::SIGNED`] format are multiplied as the signed codes that they stand for.
    const SIGNED: bool;

    /// `acc` plus the products of bytes of weights with codes of activations.
    ///
    /// # Safety
    /// The CPU has AVX2 and the instructions of the implementation.
    unsafe fn dot<S: Shape>(acc: __m256i, w: __m256i, x: __m256i) -> __m256i;

    /// Sixteen in byte `i` where bit `i` of `h` is set, else 0.
    ///
    /// # Safety
    /// As [`Dot::dot`].
    #[inline(always)]
    unsafe fn sixteens(h: u32) -> __m256i {
        // SAFETY: AVX2 by the caller.
        unsafe {
            // Byte i is the one that has bit i; all its bits but that one set, it is 255 or not.
            let h = _mm256_set1_epi32(h as i32);
            let byte = _mm256_set_epi64x(
                0x0303_0303_0303_0303,
                0x0202_0202_0202_0202,
                0x0101_0101_0101_0101,
                0,
            );
            let rest = _mm256_set1_epi64x(0x7fbf_dfef_f7fb_fdfe);
            let bits = _mm256_or_si256(_mm256_shuffle_epi8(h, byte), rest);
            let set = _mm256_cmpeq_epi8(bits, _mm256_set1_epi8(-1));
            _mm256_and_si256(set, _mm256_set1_epi8(16))
        }
    }

    /// `acc + w0 * x0 + w1 * x1`, for bytes of at most 31.
    ///
    /// # Safety
    /// As [`Dot::dot`].
    unsafe fn dot2(acc: __m256i, w0: __m256i, x0: __m256i, w1: __m256i, x1: __m256i) -> __m256i;

    /// `acc` plus the products of four registers, for bytes of at most 31.
    ///
    /// # Safety
    /// As [`Dot::dot`].
    #[inline(always)]
    unsafe fn dot4(acc: __m256i, w: &[__m256i; 4], x: &[__m256i; 4]) -> __m256i {
        // SAFETY: the caller's promises.
        unsafe { Self::dot2(Self::dot2(acc, w[0], x[0], w[1], x[1]), w[2], x[2], w[3], x[3]) }
    }
}

/// Dot products with the bytes of ternary weights: sums of at most eight products a lane, of pairs in
/// 16 bits or of fours in 32.
///
/// # Safety
/// Of all functions: the CPU has AVX2 and the instructions of the implementation.
pub(super) trait TernaryDot {
    /// `sums` plus the products of bytes of at most 3, or of at most 12 (four times that), with codes.
    unsafe fn add(sums: __m256i, w: __m256i, x: __m256i) -> __m256i;
    /// `sums / 4`, of sums that are multiples of 4.
    unsafe fn quarter(sums: __m256i) -> __m256i;
    /// `a + b`.
    unsafe fn join(a: __m256i, b: __m256i) -> __m256i;
    /// Sums of four products in lanes of 32 bits.
    unsafe fn sum(sums: __m256i) -> __m256i;
}

/// Dot products by `vpmaddubsw`: AVX2, and AVX-512 without VNNI.
pub(super) struct Maddubs;

impl Dot for Maddubs {
    const SIGNED: bool = true;

    #[inline(always)]
    unsafe fn dot<S: Shape>(acc: __m256i, w: __m256i, x: __m256i) -> __m256i {
        // SAFETY: AVX2 by the caller.
        unsafe {
            let pairs = if S::SIGNED {
                // |w| times x with w's sign: at most 2 * 128 * 127, which 16 bits hold.
                let w = _mm256_xor_si256(w, _mm256_set1_epi8(-128));
                _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(x, w))
            } else {
                _mm256_maddubs_epi16(w, x)
            };
            _mm256_add_epi32(acc, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
        }
    }

    #[inline(always)]
    unsafe fn dot2(acc: __m256i, w0: __m256i, x0: __m256i, w1: __m256i, x1: __m256i) -> __m256i {
        // SAFETY: AVX2 by the caller.
        unsafe {
            // At most 4 * 31 * 127.
            let pairs =
                _mm256_add_epi16(_mm256_maddubs_epi16(w0, x0), _mm256_maddubs_epi16(w1, x1));
            _mm256_add_epi32(acc, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
        }
    }

    #[inline(always)]
    unsafe fn dot4(acc: __m256i, w: &[__m256i; 4], x: &[__m256i; 4]) -> __m256i {
        // SAFETY: AVX2 by the caller.
        unsafe {
            // At most 8 * 31 * 127 < 2^15.
            let a = _mm256_maddubs_epi16(w[0], x[0]);
            let b = _mm256_maddubs_epi16(w[1], x[1]);
            let c = _mm256_maddubs_epi16(w[2], x[2]);
            let d = _mm256_maddubs_epi16(w[3], x[3]);
            let pairs = _mm256_add_epi16(_mm256_add_epi16(a, b), _mm256_add_epi16(c, d));
            _mm256_add_epi32(acc, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
        }
    }
}

/// Sums of 16 bits hold eight products of each kind, `2 * 8 * 12 * 127`.
impl TernaryDot for Maddubs {
    #[inline(always)]
    unsafe fn add(sums: __m256i, w: __m256i, x: __m256i) -> __m256i {
        // SAFETY: AVX2 by the caller.
        unsafe { _mm256_add_epi16(sums, _mm256_maddubs_epi16(w, x)) }
    }
    #[inline(always)]
    unsafe fn quarter(sums: __m256i) -> __m256i {
        // SAFETY: AVX2 by the caller.
        unsafe { _mm256_srai_epi16::<2>(sums) }
    }
    #[inline(always)]
    unsafe fn join(a: __m256i, b: __m256i) -> __m256i {
        // SAFETY: AVX2 by the caller.
        unsafe { _mm256_add_epi16(a, b) }
    }
    #[inline(always)]
    unsafe fn sum(sums: __m256i) -> __m256i {
        // SAFETY: AVX2 by the caller.
        unsafe { _mm256_madd_epi16(sums, _mm256_set1_epi16(1)) }
    }
}

/// Dot products by `vpdpbusd`, which does not saturate, in its VEX or its EVEX form.
macro_rules! vnni {
    ($(#[$doc:meta])* $name:ident, $dpbusd:ident, $($more:tt)*) => {
        $(#[$doc])*
        pub(super) struct $name;

        impl Dot for $name {
            const SIGNED: bool = false;

            $($more)*
            #[inline(always)]
            unsafe fn dot<S: Shape>(acc: __m256i, w: __m256i, x: __m256i) -> __m256i {
                // SAFETY: the instruction by the caller.
                unsafe { $dpbusd(acc, w, x) }
            }

            #[inline(always)]
            unsafe fn dot2(
                acc: __m256i,
                w0: __m256i,
                x0: __m256i,
                w1: __m256i,
                x1: __m256i,
            ) -> __m256i {
                // SAFETY: the instruction by the caller.
                unsafe { $dpbusd($dpbusd(acc, w0, x0), w1, x1) }
            }
        }

        impl TernaryDot for $name {
            #[inline(always)]
            unsafe fn add(sums: __m256i, w: __m256i, x: __m256i) -> __m256i {
                // SAFETY: the instruction by the caller.
                unsafe { $dpbusd(sums, w, x) }
            }
            #[inline(always)]
            unsafe fn quarter(sums: __m256i) -> __m256i {
                // SAFETY: AVX2 by the caller.
                unsafe { _mm256_srai_epi32::<2>(sums) }
            }
            #[inline(always)]
            unsafe fn join(a: __m256i, b: __m256i) -> __m256i {
                // SAFETY: AVX2 by the caller.
                unsafe { _mm256_add_epi32(a, b) }
            }
            #[inline(always)]
            unsafe fn sum(sums: __m256i) -> __m256i {
                sums
            }
        }
    };
}
vnni!(
    /// Dot products by `vpdpbusd` of AVX-512 VL and VNNI.
    Vnni,
    _mm256_dpbusd_epi32,
    #[inline(always)]
    unsafe fn sixteens(h: u32) -> __m256i {
        // SAFETY: AVX-512 VL and BW by the caller.
        unsafe { _mm256_maskz_set1_epi8(h, 16) }
    }
);
vnni!(
    /// Dot products by `vpdpbusd` of AVX-VNNI.
    AvxVnniDot,
    _mm256_dpbusd_avx_epi32,
);
