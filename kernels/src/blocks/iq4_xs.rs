//! IQ4_XS: 256 codes of 4 bits, each one of sixteen uneven steps, with signed scales of 6 bits for
//! every 32 (ggml's `block_iq4_xs`).

use super::iq4_nl::{VALUES, nearest, scale};
use super::search::{self, code, peak};
use super::{Block, CodeBlock, DenseBlock, F16, dequantize_codes, impl_pod};
use crate::Format;

/// `x[i] = (d * step) * VALUES[code[i]]`, with the step of the 32 that `i` is in; the codes of each 32
/// lie as in [`super::IQ4_NL`].
#[derive(Clone, Copy)]
#[repr(C)]
#[allow(non_camel_case_types)] // the name of GGUF
pub struct IQ4_XS {
    /// Unit of the steps.
    pub d: F16,
    /// The upper two bits of each step plus 32, the first the lowest.
    pub h: [u8; 2],
    /// The lower four bits of each step plus 32, two in a byte.
    pub l: [u8; 4],
    /// Two codes in a byte.
    pub q: [u8; 128],
}

const _: () =
    assert!(size_of::<IQ4_XS>() == Format::IQ4_XS.block_bytes() && align_of::<IQ4_XS>() == 1);

impl_pod!(IQ4_XS);

impl IQ4_XS {
    /// The scale of 32 codes in units of `d`: -32 to 31.
    #[inline(always)]
    pub(crate) fn step(&self, sub: usize) -> i8 {
        let low = u32::from_le_bytes(self.l) >> (4 * sub) & 15;
        let high = u32::from(u16::from_le_bytes(self.h)) >> (2 * sub) & 3;
        (low | high << 4) as i8 - 32
    }

    /// Fills the block, with these scales before their rounding.
    fn store(&mut self, x: &[f32; 256], scales: &[f32; 8]) {
        let d = -peak(scales) / 32.0;
        let id = if d == 0.0 { 0.0 } else { 1.0 / d };
        self.d = F16::nearest(d);
        let (mut l, mut h) = (0u32, 0u16);
        let parts = x.as_chunks::<32>().0.iter().zip(self.q.as_chunks_mut::<16>().0);
        for (sub, (x, q)) in parts.enumerate() {
            let step = code(id * scales[sub], -32.0, 31.0);
            let scale = d * step;
            let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
            for (j, q) in q.iter_mut().enumerate() {
                *q = nearest(inverse * x[j]) | nearest(inverse * x[j + 16]) << 4;
            }
            let step = (step + 32.0) as u32;
            l |= (step & 15) << (4 * sub);
            h |= (step >> 4 << (2 * sub)) as u16;
        }
        (self.l, self.h) = (l.to_le_bytes(), h.to_le_bytes());
    }

    /// The sixteen bytes of the codes of a part.
    #[inline(always)]
    pub(crate) fn nibbles(&self, part: usize) -> &[u8; 16] {
        &self.q.as_chunks::<16>().0[part % 8]
    }
}

// SAFETY: size and alignment are asserted above; a block holds 256 codes.
unsafe impl Block for IQ4_XS {
    const FORMAT: Format = Format::IQ4_XS;
    const LEN: usize = 256;

    /// Scales as those of IQ4_NL for every 32. The unit puts the largest on -32; codes are the nearest
    /// for the scale in this unit, before its rounding to f16.
    fn quantize(x: &[f32], out: &mut [Self]) {
        assert_eq!(x.len(), out.len() * 256);
        for (x, b) in x.as_chunks::<256>().0.iter().zip(out) {
            let mut scales = [0.0; 8];
            for (s, x) in scales.iter_mut().zip(x.as_chunks::<32>().0) {
                *s = scale(x, &x.map(|v| v * v));
            }
            b.store(x, &scales);
        }
    }

    fn quantize_weighted(x: &[f32], importances: &[f32], out: &mut [Self]) {
        let (rows, importances) = (x.as_chunks::<256>().0, importances.as_chunks::<256>().0);
        assert_eq!((x.len(), rows.len()), (out.len() * 256, importances.len()));
        for ((x, importances), b) in rows.iter().zip(importances).zip(out) {
            let mean = search::squares(x) * (2.0 / 256.0);
            let mut scales = [0.0; 8];
            let parts = x.as_chunks::<32>().0.iter().zip(importances.as_chunks::<32>().0);
            for (s, (x, importances)) in scales.iter_mut().zip(parts) {
                *s = scale(x, &search::weights(x, importances, mean));
            }
            b.store(x, &scales);
        }
    }

    fn dequantize(blocks: &[Self], out: &mut [f32]) {
        dequantize_codes(blocks, out);
    }
}

impl CodeBlock for IQ4_XS {
    const SUB: usize = 32;
    const MINS: bool = false;

    #[inline(always)]
    fn scale(&self, sub: usize) -> f32 {
        self.d.get() * f32::from(self.step(sub))
    }
    #[inline(always)]
    fn codes(&self, part: usize) -> [i8; 32] {
        let q = self.nibbles(part);
        core::array::from_fn(|i| VALUES[usize::from(q[i % 16] >> (i / 16 * 4) & 15)])
    }
}
