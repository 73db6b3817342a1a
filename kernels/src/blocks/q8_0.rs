//! Q8_0: 32 codes of 8 bits with one f16 scale (ggml's `block_q8_0`).

use super::{Block, CodeBlock, DenseBlock, F16, dequantize_codes, impl_pod};
use crate::Format;

/// `x[i] = d * q[i]`.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Q8_0 {
    /// The scale.
    pub d: F16,
    /// The codes; -128 is never written by the quantiser, but files may hold it.
    pub q: [i8; 32],
}

const _: () = assert!(size_of::<Q8_0>() == Format::Q8_0.block_bytes() && align_of::<Q8_0>() == 1);

impl_pod!(Q8_0);

// SAFETY: size and alignment are asserted above; a block holds 32 codes.
unsafe impl Block for Q8_0 {
    const FORMAT: Format = Format::Q8_0;
    const LEN: usize = 32;

    /// `d = max|x| / 127`; codes are `x * (1/d)` rounded to nearest, ties away from zero, with the
    /// scale as it was before its own rounding to f16: what ggml's reference quantiser does.
    fn quantize(x: &[f32], out: &mut [Self]) {
        assert_eq!(x.len(), out.len() * 32);
        for (x, b) in x.as_chunks::<32>().0.iter().zip(out) {
            let amax = x.iter().fold(0.0f32, |m, v| m.max(v.abs()));
            let d = amax / 127.0;
            let id = if d == 0.0 { 0.0 } else { 1.0 / d };
            b.d = F16::nearest(d);
            for (q, v) in b.q.iter_mut().zip(x) {
                *q = libm::roundf(v * id) as i8;
            }
        }
    }

    fn dequantize(blocks: &[Self], out: &mut [f32]) {
        dequantize_codes(blocks, out);
    }
}

impl CodeBlock for Q8_0 {
    const SUB: usize = 32;
    const MINS: bool = false;

    #[inline(always)]
    fn scale(&self, _: usize) -> f32 {
        self.d.get()
    }
    #[inline(always)]
    fn codes(&self, _: usize) -> [i8; 32] {
        self.q
    }
}
