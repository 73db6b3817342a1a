//! Q4_0: 32 codes of 4 bits with one f16 scale (ggml's `block_q4_0`).

use super::search;
use super::{Block, CodeBlock, DenseBlock, F16, dequantize_codes, impl_pod};
use crate::Format;

/// `x[i] = d * (code[i] - 8)`; byte `j` holds code `j` in its low and code `j + 16` in its high half.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Q4_0 {
    /// The scale.
    pub d: F16,
    /// Two codes in a byte.
    pub q: [u8; 16],
}

const _: () = assert!(size_of::<Q4_0>() == Format::Q4_0.block_bytes() && align_of::<Q4_0>() == 1);

impl_pod!(Q4_0);

// SAFETY: size and alignment are asserted above; a block holds 32 codes.
unsafe impl Block for Q4_0 {
    const FORMAT: Format = Format::Q4_0;
    const LEN: usize = 32;

    /// `d = m / -8`, where `m` is the element of largest magnitude with its sign (the first of
    /// equals); codes are `x * (1/d) + 8.5`, truncated and at most 15, as ggml's reference does.
    fn quantize(x: &[f32], out: &mut [Self]) {
        assert_eq!(x.len(), out.len() * 32);
        for (x, b) in x.as_chunks::<32>().0.iter().zip(out) {
            let m = x.iter().fold(0.0f32, |m, &v| if v.abs() > m.abs() { v } else { m });
            let d = m / -8.0;
            let id = if d == 0.0 { 0.0 } else { 1.0 / d };
            b.d = F16::nearest(d);
            let code = |v: f32| ((v * id + 8.5) as u8).min(15);
            for (j, q) in b.q.iter_mut().enumerate() {
                *q = code(x[j]) | code(x[j + 16]) << 4;
            }
        }
    }

    fn quantize_weighted(x: &[f32], importances: &[f32], out: &mut [Self]) {
        let (blocks, importances) = (x.as_chunks::<32>().0, importances.as_chunks::<32>().0);
        assert_eq!((x.len(), blocks.len()), (out.len() * 32, importances.len()));
        let mean = search::squares(x) / x.len() as f32;
        for ((x, importances), b) in blocks.iter().zip(importances).zip(out) {
            let w = search::weights(x, importances, mean);
            let mut codes = [0.0; 32];
            b.d = F16::nearest(search::scale(x, &w, 8.0, &mut codes));
            let codes = codes.map(|c| (c + 8.0) as u8);
            b.q = core::array::from_fn(|j| codes[j] | codes[j + 16] << 4);
        }
    }

    fn dequantize(blocks: &[Self], out: &mut [f32]) {
        dequantize_codes(blocks, out);
    }
}

impl CodeBlock for Q4_0 {
    const SUB: usize = 32;
    const MINS: bool = false;

    #[inline(always)]
    fn scale(&self, _: usize) -> f32 {
        self.d.get()
    }
    #[inline(always)]
    fn codes(&self, _: usize) -> [i8; 32] {
        let mut c = [0; 32];
        for (j, q) in self.q.iter().enumerate() {
            c[j] = (q & 15) as i8 - 8;
            c[j + 16] = (q >> 4) as i8 - 8;
        }
        c
    }
}
