//! Q5_0: 32 codes of 5 bits with one f16 scale (ggml's `block_q5_0`).

use super::search;
use super::{Block, CodeBlock, DenseBlock, F16, dequantize_codes, impl_pod};
use crate::Format;

/// `x[i] = d * (code[i] - 16)`; the lower four bits of codes lie as in [`super::Q4_0`].
#[derive(Clone, Copy)]
#[repr(C)]
#[allow(non_camel_case_types)] // the name of GGUF
pub struct Q5_0 {
    /// The scale.
    pub d: F16,
    /// The fifth bit of code `i` is bit `i` of this little-endian number.
    pub h: [u8; 4],
    /// The lower four bits of two codes in a byte.
    pub q: [u8; 16],
}

const _: () = assert!(size_of::<Q5_0>() == Format::Q5_0.block_bytes() && align_of::<Q5_0>() == 1);

impl_pod!(Q5_0);

// SAFETY: size and alignment are asserted above; a block holds 32 codes.
unsafe impl Block for Q5_0 {
    const FORMAT: Format = Format::Q5_0;
    const LEN: usize = 32;

    /// As [`super::Q4_0`] does it: `d` is the element of largest magnitude by -16, codes are
    /// `x * (1/d) + 16.5`, truncated and at most 31.
    fn quantize(x: &[f32], out: &mut [Self]) {
        assert_eq!(x.len(), out.len() * 32);
        for (x, b) in x.as_chunks::<32>().0.iter().zip(out) {
            let m = x.iter().fold(0.0f32, |m, &v| if v.abs() > m.abs() { v } else { m });
            let d = m / -16.0;
            let id = if d == 0.0 { 0.0 } else { 1.0 / d };
            b.d = F16::nearest(d);
            (b.h, b.q) = split(x.map(|v| ((v * id + 16.5) as u8).min(31)));
        }
    }

    fn quantize_weighted(x: &[f32], importances: &[f32], out: &mut [Self]) {
        let (blocks, importances) = (x.as_chunks::<32>().0, importances.as_chunks::<32>().0);
        assert_eq!((x.len(), blocks.len()), (out.len() * 32, importances.len()));
        let mean = search::squares(x) / x.len() as f32;
        for ((x, importances), b) in blocks.iter().zip(importances).zip(out) {
            let w = search::weights(x, importances, mean);
            let mut codes = [0.0; 32];
            b.d = F16::nearest(search::scale(x, &w, 16.0, &mut codes));
            (b.h, b.q) = split(codes.map(|c| (c + 16.0) as u8));
        }
    }

    fn dequantize(blocks: &[Self], out: &mut [f32]) {
        dequantize_codes(blocks, out);
    }
}

/// Codes of five bits as they lie in a block: the fifth bits, and the lower four.
pub(super) fn split(codes: [u8; 32]) -> ([u8; 4], [u8; 16]) {
    let high = codes.iter().rev().fold(0u32, |h, c| h << 1 | u32::from(c >> 4));
    let low = core::array::from_fn(|j| codes[j] & 15 | (codes[j + 16] & 15) << 4);
    (high.to_le_bytes(), low)
}

impl CodeBlock for Q5_0 {
    const SUB: usize = 32;
    const MINS: bool = false;

    #[inline(always)]
    fn scale(&self, _: usize) -> f32 {
        self.d.get()
    }
    #[inline(always)]
    fn codes(&self, _: usize) -> [i8; 32] {
        let h = u32::from_le_bytes(self.h);
        let high = |i: usize| (h >> i & 1) as u8 * 16;
        core::array::from_fn(|i| (self.q[i % 16] >> (i / 16 * 4) & 15 | high(i)) as i8 - 16)
    }
}
