//! Unpackers of the formats whose codes are words of eight bytes ([`WordBlock`]), and of NVFP4.

use core::arch::wasm32::*;

use super::unpack::{Scales, Unpack, load, nibbles};
use crate::blocks::words::WordBlock;
use crate::blocks::{
    Block, CodeBlock, F16, IQ1_M, IQ1_S, IQ2_S, IQ2_XS, IQ2_XXS, IQ3_S, IQ3_XXS, NVFP4, Q1_0, Q2_0,
    mxfp4,
};

/// Formats of words.
macro_rules! words {
    ($($name:ident),*) => {$(
        impl Unpack for $name {
            const BIAS: i32 = 0;
            #[inline(always)]
            fn bytes<const K: usize>(&self, half: usize) -> [v128; 2] {
                let [a, b, c, d] = self.words(4 * half + K);
                [u64x2(a, b), u64x2(c, d)]
            }
            #[inline(always)]
            fn units(&self) -> [F16; 2] {
                [self.unit(); 2]
            }
            #[inline(always)]
            fn scales4(w: [&Self; 4], to: &mut Scales) {
                let unit = f32x4_mul(Self::units4(w, 0), f32x4_splat(Self::FACTOR));
                for (sub, to) in to.scale[..<Self as Block>::LEN / <Self as CodeBlock>::SUB].iter_mut().enumerate() {
                    *to = unit;
                    if Self::STEPS {
                        let step = |i: usize| i32::from(w[i].step(sub));
                        let steps = i32x4(step(0), step(1), step(2), step(3));
                        *to = f32x4_mul(unit, f32x4_convert_i32x4(steps));
                    }
                }
            }
        }
    )*};
}
words!(Q1_0, Q2_0, IQ1_S, IQ1_M, IQ2_XXS, IQ2_XS, IQ2_S, IQ3_XXS, IQ3_S);

impl Unpack for NVFP4 {
    const BIAS: i32 = 0;
    #[inline(always)]
    fn bytes<const K: usize>(&self, _: usize) -> [v128; 2] {
        let table = load(bytemuck::cast_slice(&mxfp4::VALUES), 0);
        let [low, high] = nibbles(&self.q.as_chunks::<16>().0[K % 2]);
        // Eight bytes' lower and upper halves are a sub-block.
        let (a, b) = (i64x2_shuffle::<0, 2>(low, high), i64x2_shuffle::<1, 3>(low, high));
        [u8x16_swizzle(table, a), u8x16_swizzle(table, b)]
    }
    #[inline(always)]
    fn units(&self) -> [F16; 2] {
        unreachable!("its scales have no unit")
    }
    #[inline(always)]
    fn scales4(w: [&Self; 4], to: &mut Scales) {
        for (sub, to) in to.scale[..4].iter_mut().enumerate() {
            *to = f32x4(w[0].scale(sub), w[1].scale(sub), w[2].scale(sub), w[3].scale(sub));
        }
    }
}
