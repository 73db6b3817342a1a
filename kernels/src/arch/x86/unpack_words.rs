//! Unpackers of the formats whose codes are made in general registers, eight at a time ([`WordBlock`]), of those of one or two bits,
//! and of NVFP4.

use core::arch::x86_64::*;

use super::dot::Dot;
use super::panel::Of;
use super::unpack::{FP4_BYTES, Scales, Unpack, floats8, nibbles};
use crate::blocks::nvfp4::HALF_UNIT;
use crate::blocks::words::WordBlock;
use crate::blocks::{
    Block, CodeBlock, IQ1_M, IQ1_S, IQ2_S, IQ2_XS, IQ2_XXS, IQ3_S, IQ3_XXS, NVFP4, Q1_0, Q2_0,
};

/// [`Unpack::scales8`] of a [`WordBlock`].
macro_rules! steps {
    () => {
        #[inline(always)]
        unsafe fn scales8(w: [&Self; 8], to: &mut Scales) {
            // SAFETY: the caller's promises.
            unsafe {
                let factor = _mm256_set1_ps(Self::FACTOR);
                let d = _mm256_mul_ps(floats8(w.map(|w| w.unit())), factor);
                for (sub, to) in
                    to.d[..<Self as Block>::LEN / <Self as CodeBlock>::SUB].iter_mut().enumerate()
                {
                    *to = d;
                    if Self::STEPS {
                        let steps = i64::from_le_bytes(w.map(|w| w.step(sub) as u8));
                        let steps = _mm256_cvtepi8_epi32(_mm_cvtsi64_si128(steps));
                        *to = _mm256_mul_ps(d, _mm256_cvtepi32_ps(steps));
                    }
                }
            }
        }
    };
}

/// Formats whose codes are words: bias, largest byte and shape.
macro_rules! words {
    ($($name:ident: $bias:literal to $max:literal, $shape:ty;)*) => {$(
        impl Unpack for $name {
            type Shape = $shape;
            const BIAS: i32 = $bias;
            const MAX: i32 = $max;
            const FAR: bool = false;

            #[inline(always)]
            unsafe fn bytes<P: Dot>(&self, part: usize) -> __m256i {
                let [a, b, c, d] = self.words(part).map(u64::cast_signed);
                // SAFETY: AVX2 by the caller.
                unsafe {
                    let bias = _mm256_set1_epi8($bias as u8 as i8);
                    _mm256_add_epi8(_mm256_set_epi64x(d, c, b, a), bias)
                }
            }

            steps!();
        }
    )*};
}

words! {
    IQ1_S: 16 to 25, Of<32, false, 4>;
    IQ1_M: 16 to 25, Of<16, false, 4>;
    IQ2_XXS: 128 to 255, Of<32, false, 1>;
    IQ2_XS: 128 to 255, Of<16, false, 1>;
    IQ2_S: 128 to 255, Of<16, false, 1>;
    IQ3_XXS: 128 to 255, Of<32, false, 1>;
    IQ3_S: 16 to 31, Of<32, false, 4>;
}

impl Unpack for Q1_0 {
    type Shape = Of<32, false, 8>;
    const BIAS: i32 = 8;
    const MAX: i32 = 9;
    const FAR: bool = false; // not measured

    #[inline(always)]
    unsafe fn bytes<P: Dot>(&self, part: usize) -> __m256i {
        let bits = u32::from_le_bytes(self.q.as_chunks::<4>().0[part]);
        // SAFETY: AVX2 and the instructions of P by the caller.
        unsafe {
            let two = _mm256_srli_epi16::<3>(P::sixteens(bits));
            _mm256_add_epi8(two, _mm256_set1_epi8(7))
        }
    }

    steps!();
}

impl Unpack for Q2_0 {
    type Shape = Of<32, false, 8>;
    const BIAS: i32 = 8;
    const MAX: i32 = 10;
    const FAR: bool = false; // not measured

    #[inline(always)]
    unsafe fn bytes<P: Dot>(&self, part: usize) -> __m256i {
        let q = i64::from_le_bytes(self.q.as_chunks::<8>().0[part]);
        // SAFETY: AVX2 by the caller.
        unsafe {
            // A byte of four codes in each lane; twice moved up, each pair of bits is the lowest of a byte.
            let q = _mm256_cvtepu8_epi32(_mm_cvtsi64_si128(q));
            let q = _mm256_or_si256(q, _mm256_slli_epi32::<12>(q));
            let q = _mm256_or_si256(q, _mm256_slli_epi32::<6>(q));
            _mm256_add_epi8(_mm256_and_si256(q, _mm256_set1_epi8(3)), _mm256_set1_epi8(7))
        }
    }

    steps!();
}

impl Unpack for NVFP4 {
    type Shape = Of<16, false, 4>;
    const BIAS: i32 = 16;
    const MAX: i32 = 28;
    const FAR: bool = false; // not measured

    #[inline(always)]
    unsafe fn bytes<P: Dot>(&self, part: usize) -> __m256i {
        // SAFETY: sixteen bytes are there; AVX2 by the caller.
        unsafe {
            let table = _mm_loadu_si128(FP4_BYTES.as_ptr().cast());
            // Eight bytes' lower and upper halves are a sub-block.
            let codes = nibbles(&self.q.as_chunks::<16>().0[part]);
            let codes = _mm256_permute4x64_epi64::<0b11_01_10_00>(codes);
            _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(table), codes)
        }
    }

    #[inline(always)]
    unsafe fn scales8(w: [&Self; 8], to: &mut Scales) {
        // SAFETY: AVX2 by the caller; eight words.
        unsafe {
            let four = w.map(|w| u32::from_le_bytes(w.d));
            let four = _mm256_loadu_si256(four.as_ptr().cast());
            for (sub, to) in to.d[..4].iter_mut().enumerate() {
                let d = _mm256_srl_epi32(four, _mm_cvtsi32_si128(8 * sub as i32));
                let none = _mm256_and_si256(d, _mm256_set1_epi32(0xff));
                let none = _mm256_cmpeq_epi32(none, _mm256_set1_epi32(0x7f));
                let bits = _mm256_slli_epi32::<20>(_mm256_and_si256(d, _mm256_set1_epi32(0x7f)));
                let bits = _mm256_castsi256_ps(_mm256_andnot_si256(none, bits));
                *to = _mm256_mul_ps(bits, _mm256_set1_ps(HALF_UNIT));
            }
        }
    }
}
