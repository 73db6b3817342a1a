//! IQ4_NL: 32 codes of 4 bits, each one of sixteen uneven steps, with one f16 scale (ggml's
//! `block_iq4_nl`).

use super::search::{self, NOTHING, peak};
use super::{Block, CodeBlock, DenseBlock, F16, dequantize_codes, impl_pod};
use crate::Format;

/// `x[i] = d * VALUES[code[i]]`; codes lie as in [`super::Q4_0`].
#[derive(Clone, Copy)]
#[repr(C)]
#[allow(non_camel_case_types)] // the name of GGUF
pub struct IQ4_NL {
    /// The scale.
    pub d: F16,
    /// Two codes in a byte.
    pub q: [u8; 16],
}

const _: () =
    assert!(size_of::<IQ4_NL>() == Format::IQ4_NL.block_bytes() && align_of::<IQ4_NL>() == 1);

impl_pod!(IQ4_NL);

/// Values of the codes: steps that are finer around 0.
pub(crate) const VALUES: [i8; 16] =
    [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

/// The code whose value is nearest to `x`, the upper of two as near; the last for NaN.
pub(super) fn nearest(x: f32) -> u8 {
    let value = |i: usize| f32::from(VALUES[i]);
    if x <= value(0) {
        return 0;
    }
    if x >= value(15) {
        return 15;
    }
    // The first value above, counted without branches.
    let upper = 15 - (1..15).filter(|&i| x < value(i)).count();
    (if x - value(upper - 1) < value(upper) - x { upper - 1 } else { upper }) as u8
}

/// The scale by weighted least squares: for the codes of each of sixteen inverse scales, the first of
/// which puts the peak on the first value and the others on steps around it. The best has the
/// largest share of the weighted squares of `x`. `w` are the elements' weights: without importances,
/// their squares.
pub(super) fn scale(x: &[f32; 32], w: &[f32; 32]) -> f32 {
    let peak = peak(x);
    if peak.abs() < NOTHING {
        return 0.0;
    }
    let sums = |inverse: f32| {
        let (mut xc, mut cc) = (0.0f32, 0.0f32);
        for (&v, &w) in x.iter().zip(w) {
            let c = f32::from(VALUES[usize::from(nearest(inverse * v))]);
            xc += w * c * v;
            cc += w * c * c;
        }
        (xc, cc)
    };
    let first = f32::from(VALUES[0]);
    let (xc, cc) = sums(1.0 / (-peak / first));
    let mut scale = if cc > 0.0 { xc / cc } else { 0.0 };
    let mut best = scale * xc;
    for step in -7..=7i8 {
        let (xc, cc) = sums((f32::from(step) + first) / peak);
        if cc > 0.0 && xc * xc > best * cc {
            scale = xc / cc;
            best = scale * xc;
        }
    }
    scale
}

// SAFETY: size and alignment are asserted above; a block holds 32 codes.
unsafe impl Block for IQ4_NL {
    const FORMAT: Format = Format::IQ4_NL;
    const LEN: usize = 32;

    /// Codes are the nearest for the scale before its rounding to f16.
    fn quantize(x: &[f32], out: &mut [Self]) {
        assert_eq!(x.len(), out.len() * 32);
        for (x, b) in x.as_chunks::<32>().0.iter().zip(out) {
            b.store(x, &x.map(|v| v * v));
        }
    }

    fn quantize_weighted(x: &[f32], importances: &[f32], out: &mut [Self]) {
        let (blocks, importances) = (x.as_chunks::<32>().0, importances.as_chunks::<32>().0);
        assert_eq!((x.len(), blocks.len()), (out.len() * 32, importances.len()));
        for ((x, importances), b) in blocks.iter().zip(importances).zip(out) {
            b.store(x, &search::weights(x, importances, search::squares(x) * (2.0 / 32.0)));
        }
    }

    fn dequantize(blocks: &[Self], out: &mut [f32]) {
        dequantize_codes(blocks, out);
    }
}

impl IQ4_NL {
    /// Fills the block; `w` are the elements' weights.
    fn store(&mut self, x: &[f32; 32], w: &[f32; 32]) {
        let d = scale(x, w);
        let id = if d == 0.0 { 0.0 } else { 1.0 / d };
        self.d = F16::nearest(d);
        for (j, q) in self.q.iter_mut().enumerate() {
            *q = nearest(id * x[j]) | nearest(id * x[j + 16]) << 4;
        }
    }
}

impl CodeBlock for IQ4_NL {
    const SUB: usize = 32;
    const MINS: bool = false;

    #[inline(always)]
    fn scale(&self, _: usize) -> f32 {
        self.d.get()
    }
    #[inline(always)]
    fn codes(&self, _: usize) -> [i8; 32] {
        core::array::from_fn(|i| VALUES[usize::from(self.q[i % 16] >> (i / 16 * 4) & 15)])
    }
}
