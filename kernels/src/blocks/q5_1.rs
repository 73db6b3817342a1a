//! Q5_1: 32 codes of 5 bits with an f16 scale and an f16 minimum (ggml's `block_q5_1`).

use super::q4_1::span;
use super::q5_0::split;
use super::search::{self, Grid};
use super::{Block, CodeBlock, DenseBlock, F16, dequantize_codes, impl_pod};
use crate::Format;

/// `x[i] = d * code[i] + m`; codes lie as in [`super::Q5_0`].
#[derive(Clone, Copy)]
#[repr(C)]
#[allow(non_camel_case_types)] // the name of GGUF
pub struct Q5_1 {
    /// The scale.
    pub d: F16,
    /// The minimum.
    pub m: F16,
    /// The fifth bit of code `i` is bit `i` of this little-endian number.
    pub h: [u8; 4],
    /// The lower four bits of two codes in a byte.
    pub q: [u8; 16],
}

const _: () = assert!(size_of::<Q5_1>() == Format::Q5_1.block_bytes() && align_of::<Q5_1>() == 1);

impl_pod!(Q5_1);

// SAFETY: size and alignment are asserted above; a block holds 32 codes.
unsafe impl Block for Q5_1 {
    const FORMAT: Format = Format::Q5_1;
    const LEN: usize = 32;

    /// As [`super::Q4_1`] does it, with 31 steps.
    fn quantize(x: &[f32], out: &mut [Self]) {
        assert_eq!(x.len(), out.len() * 32);
        for (x, b) in x.as_chunks::<32>().0.iter().zip(out) {
            let (m, top) = span(x);
            let d = (top - m) / 31.0;
            let id = if d == 0.0 { 0.0 } else { 1.0 / d };
            (b.d, b.m) = (F16::nearest(d), F16::nearest(m));
            (b.h, b.q) = split(x.map(|v| (((v - m) * id + 0.5) as u8).min(31)));
        }
    }

    fn quantize_weighted(x: &[f32], importances: &[f32], out: &mut [Self]) {
        let (blocks, importances) = (x.as_chunks::<32>().0, importances.as_chunks::<32>().0);
        assert_eq!((x.len(), blocks.len()), (out.len() * 32, importances.len()));
        let mean = search::squares(x) / x.len() as f32;
        for ((x, importances), b) in blocks.iter().zip(importances).zip(out) {
            let w = search::weights(x, importances, mean);
            let mut codes = [0.0; 32];
            let (d, m) = search::scale_and_min(x, &w, &Grid::weighted(31.0), &mut codes);
            (b.d, b.m) = (F16::nearest(d), F16::nearest(-m));
            (b.h, b.q) = split(codes.map(|c| c as u8));
        }
    }

    fn dequantize(blocks: &[Self], out: &mut [f32]) {
        dequantize_codes(blocks, out);
    }
}

impl CodeBlock for Q5_1 {
    const SUB: usize = 32;
    const MINS: bool = true;

    #[inline(always)]
    fn scale(&self, _: usize) -> f32 {
        self.d.get()
    }
    #[inline(always)]
    fn min(&self, _: usize) -> f32 {
        self.m.get()
    }
    #[inline(always)]
    fn codes(&self, _: usize) -> [i8; 32] {
        let h = u32::from_le_bytes(self.h);
        let high = |i: usize| (h >> i & 1) as u8 * 16;
        core::array::from_fn(|i| (self.q[i % 16] >> (i / 16 * 4) & 15 | high(i)) as i8)
    }
}
