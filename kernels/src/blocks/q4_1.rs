//! Q4_1: 32 codes of 4 bits with an f16 scale and an f16 minimum (ggml's `block_q4_1`).

use super::search::{self, Grid};
use super::{Block, CodeBlock, DenseBlock, F16, dequantize_codes, impl_pod};
use crate::Format;

/// `x[i] = d * code[i] + m`; codes lie as in [`super::Q4_0`].
#[derive(Clone, Copy)]
#[repr(C)]
#[allow(non_camel_case_types)] // the name of GGUF
pub struct Q4_1 {
    /// The scale.
    pub d: F16,
    /// The minimum.
    pub m: F16,
    /// Two codes in a byte.
    pub q: [u8; 16],
}

const _: () = assert!(size_of::<Q4_1>() == Format::Q4_1.block_bytes() && align_of::<Q4_1>() == 1);

impl_pod!(Q4_1);

// SAFETY: size and alignment are asserted above; a block holds 32 codes.
unsafe impl Block for Q4_1 {
    const FORMAT: Format = Format::Q4_1;
    const LEN: usize = 32;

    /// `m` is the least element and `d` a fifteenth of the span; codes are `(x - m) * (1/d) + 0.5`,
    /// truncated and at most 15, with both as they were before their rounding to f16: what ggml's
    /// reference does.
    fn quantize(x: &[f32], out: &mut [Self]) {
        assert_eq!(x.len(), out.len() * 32);
        for (x, b) in x.as_chunks::<32>().0.iter().zip(out) {
            let (m, top) = span(x);
            let d = (top - m) / 15.0;
            let id = if d == 0.0 { 0.0 } else { 1.0 / d };
            (b.d, b.m) = (F16::nearest(d), F16::nearest(m));
            let code = |v: f32| (((v - m) * id + 0.5) as u8).min(15);
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
            let (d, m) = search::scale_and_min(x, &w, &Grid::weighted(15.0), &mut codes);
            (b.d, b.m) = (F16::nearest(d), F16::nearest(-m));
            let codes = codes.map(|c| c as u8);
            b.q = core::array::from_fn(|j| codes[j] | codes[j + 16] << 4);
        }
    }

    fn dequantize(blocks: &[Self], out: &mut [f32]) {
        dequantize_codes(blocks, out);
    }
}

/// The least and the largest element; of zeros of both signs the first. (`f32::min` leaves the sign
/// to the machine.)
pub(super) fn span(x: &[f32]) -> (f32, f32) {
    let least = x.iter().fold(f32::MAX, |m, &v| if v < m { v } else { m });
    let most = x.iter().fold(f32::MIN, |m, &v| if v > m { v } else { m });
    (least, most)
}

impl CodeBlock for Q4_1 {
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
        core::array::from_fn(|i| (self.q[i % 16] >> (i / 16 * 4) & 15) as i8)
    }
}
