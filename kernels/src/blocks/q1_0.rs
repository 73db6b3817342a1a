//! Q1_0: 128 signs and one f16 scale (ggml's `block_q1_0`).

use super::words::{WordBlock, signs, word_codes};
use super::{Block, CodeBlock, DenseBlock, F16, dequantize_codes, impl_pod};
use crate::Format;

/// `x[i] = d` where bit `i % 8` of byte `i / 8` is set, otherwise `-d`.
#[derive(Clone, Copy)]
#[repr(C)]
#[allow(non_camel_case_types)] // the name of GGUF
pub struct Q1_0 {
    /// The scale.
    pub d: F16,
    /// Eight signs in a byte, the first in the lowest bit.
    pub q: [u8; 16],
}

const _: () = assert!(size_of::<Q1_0>() == Format::Q1_0.block_bytes() && align_of::<Q1_0>() == 1);

impl_pod!(Q1_0);

// SAFETY: size and alignment are asserted above; a block holds 128 codes.
unsafe impl Block for Q1_0 {
    const FORMAT: Format = Format::Q1_0;
    const LEN: usize = 128;

    /// The scale is the mean magnitude, summed in order; NaN has the sign of negative numbers.
    fn quantize(x: &[f32], out: &mut [Self]) {
        assert_eq!(x.len(), out.len() * 128);
        for (x, b) in x.as_chunks::<128>().0.iter().zip(out) {
            let sum = x.iter().fold(0.0, |sum: f32, x| sum + x.abs());
            b.d = F16::nearest(sum / 128.0);
            for (q, x) in b.q.iter_mut().zip(x.as_chunks::<8>().0) {
                *q = x.iter().rev().fold(0, |q, &x| q << 1 | u8::from(x >= 0.0));
            }
        }
    }

    fn dequantize(blocks: &[Self], out: &mut [f32]) {
        dequantize_codes(blocks, out);
    }
}

impl WordBlock for Q1_0 {
    const FACTOR: f32 = 1.0;
    const STEPS: bool = false;

    #[inline(always)]
    fn unit(&self) -> F16 {
        self.d
    }
    #[inline(always)]
    fn step(&self, _: usize) -> i8 {
        1
    }
    #[inline(always)]
    fn words(&self, part: usize) -> [u64; 4] {
        let [a, b, c, d] = self.q.as_chunks::<4>().0[part];
        [signs(a), signs(b), signs(c), signs(d)]
    }
}

word_codes!(Q1_0, 32);
