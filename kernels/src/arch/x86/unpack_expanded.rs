//! Unpackers of expanded rows (`blocks/expanded.rs`).

use core::arch::x86_64::*;

use super::dot::Dot;
use super::panel::Of;
use super::unpack::{Scales, Unpack};
use crate::blocks::expanded::{Expanded16, Expanded32};

macro_rules! expanded {
    ($($name:ident: $shape:ty;)*) => {$(
        impl Unpack for $name {
            type Shape = $shape;
            const BIAS: i32 = 128;
            const MAX: i32 = 255;

            #[inline(always)]
            unsafe fn bytes<P: Dot>(&self, _: usize) -> __m256i {
                // SAFETY: 32 bytes behind q; AVX2 by the caller.
                unsafe {
                    let codes = _mm256_loadu_si256(self.q.as_ptr().cast());
                    _mm256_xor_si256(codes, _mm256_set1_epi8(-128))
                }
            }

            #[inline(always)]
            unsafe fn scales8(w: [&Self; 8], to: &mut Scales) {
                let rows = w.map(|w| w.scales());
                for (sub, to) in to.d[..rows[0].len()].iter_mut().enumerate() {
                    let mut d = [0.0; 8];
                    for (d, scales) in d.iter_mut().zip(rows) {
                        *d = scales[sub];
                    }
                    // SAFETY: eight floats; AVX2 by the caller.
                    *to = unsafe { _mm256_loadu_ps(d.as_ptr()) };
                }
            }
        }
    )*};
}
expanded! {
    Expanded32: Of<32, false, 1>;
    Expanded16: Of<16, false, 1>;
}
