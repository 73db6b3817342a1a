//! Q2_0: 64 codes of 2 bits and one f16 scale (ggml's `block_q2_0`).

use super::words::{WordBlock, pairs, word_codes};
use super::{Block, CodeBlock, DenseBlock, F16, dequantize_codes, impl_pod};
use crate::Format;

/// `x[i] = d * (code[i] - 1)`, where code `i` is two bits of byte `i / 4` from bit `2 * (i % 4)` on.
#[derive(Clone, Copy)]
#[repr(C)]
#[allow(non_camel_case_types)] // the name of GGUF
pub struct Q2_0 {
    /// The scale.
    pub d: F16,
    /// Four codes in a byte.
    pub q: [u8; 16],
}

const _: () = assert!(size_of::<Q2_0>() == Format::Q2_0.block_bytes() && align_of::<Q2_0>() == 1);

impl_pod!(Q2_0);

// SAFETY: size and alignment are asserted above; a block holds 64 codes.
unsafe impl Block for Q2_0 {
    const FORMAT: Format = Format::Q2_0;
    const LEN: usize = 64;

    /// The scale is the largest magnitude, so that code 3 is of no use; what is no number has code 0.
    fn quantize(x: &[f32], out: &mut [Self]) {
        assert_eq!(x.len(), out.len() * 64);
        for (x, b) in x.as_chunks::<64>().0.iter().zip(out) {
            let d = x.iter().fold(0.0f32, |m, x| if x.abs() > m { x.abs() } else { m });
            let id = if d > 0.0 { 1.0 / d } else { 0.0 };
            b.d = F16::nearest(d);
            let code = |x: f32| {
                let x = libm::roundf(x * id);
                if x.is_finite() { (x + 1.0).clamp(0.0, 3.0) as u8 } else { 0 }
            };
            for (q, x) in b.q.iter_mut().zip(x.as_chunks::<4>().0) {
                *q = code(x[0]) | code(x[1]) << 2 | code(x[2]) << 4 | code(x[3]) << 6;
            }
        }
    }

    fn dequantize(blocks: &[Self], out: &mut [f32]) {
        dequantize_codes(blocks, out);
    }
}

impl WordBlock for Q2_0 {
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
        let q = &self.q.as_chunks::<8>().0[part].as_chunks::<2>().0;
        let word = |i: usize| pairs(u16::from_le_bytes(q[i]));
        [word(0), word(1), word(2), word(3)]
    }
}

word_codes!(Q2_0, 32);
