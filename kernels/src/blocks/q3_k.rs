//! Q3_K: 256 codes of 3 bits, signed scales of 6 bits for every 16 (ggml's `block_q3_K`).

use super::q2_k::pack;
use super::search;
use super::{Block, CodeBlock, DenseBlock, F16, dequantize_codes, impl_pod};
use crate::Format;

/// `x[i] = (d * scale) * code[i]`, codes from -4 to 3, with the scale of the sixteen that `i` is in.
#[derive(Clone, Copy)]
#[repr(C)]
#[allow(non_camel_case_types)] // the name of GGUF
pub struct Q3_K {
    /// Bit `p` of byte `i` is the third bit of code `32 p + i`; where it is 0, 4 is taken off.
    pub h: [u8; 32],
    /// The lower two bits, as in [`super::Q2_K`].
    pub q: [u8; 64],
    /// Sixteen scales plus 32: lower four bits in the halves of the first eight bytes (scale `j` and
    /// `j + 8` in byte `j`), upper two in the last four (scale `j` at bit `2 (j / 4)` of byte
    /// `8 + j % 4`).
    pub scales: [u8; 12],
    /// Unit of the scales.
    pub d: F16,
}

const _: () = assert!(size_of::<Q3_K>() == Format::Q3_K.block_bytes() && align_of::<Q3_K>() == 1);

impl_pod!(Q3_K);

// SAFETY: size and alignment are asserted above; a block holds 256 codes.
unsafe impl Block for Q3_K {
    const FORMAT: Format = Format::Q3_K;
    const LEN: usize = 256;

    /// Scales by `search::scale_by_descent` for every 16, rounded so that the one of largest
    /// magnitude becomes -32, then the codes nearest to `x` under what was stored: what ggml's
    /// reference does.
    fn quantize(x: &[f32], out: &mut [Self]) {
        assert_eq!(x.len(), out.len() * 256);
        for (x, b) in x.as_chunks::<256>().0.iter().zip(out) {
            let (mut scales, mut codes) = ([0.0; 16], [0.0; 256]);
            let subs = x.as_chunks::<16>().0.iter().zip(codes.as_chunks_mut::<16>().0);
            for (scale, (x, codes)) in scales.iter_mut().zip(subs) {
                *scale = search::scale_by_descent(x, 4.0, codes);
            }
            let most = search::peak(&scales);
            (b.d, b.scales) = (F16::nearest(0.0), [0; 12]);
            if most != 0.0 {
                let inverse = -32.0 / most;
                b.d = F16::nearest(1.0 / inverse);
                for (sub, &scale) in scales.iter().enumerate() {
                    let steps = (search::code(inverse * scale, -32.0, 31.0) + 32.0) as u8;
                    b.put_steps(sub, steps);
                }
            }
            b.store(x, &mut codes);
        }
    }

    fn quantize_weighted(x: &[f32], importances: &[f32], out: &mut [Self]) {
        let (rows, importances) = (x.as_chunks::<256>().0, importances.as_chunks::<256>().0);
        assert_eq!((x.len(), rows.len()), (out.len() * 256, importances.len()));
        for ((x, importances), b) in rows.iter().zip(importances).zip(out) {
            let (mut scales, mut sums, mut codes) = ([0.0; 16], [0.0; 16], [0.0; 256]);
            let mean = 2.0 * search::squares(x) / 256.0;
            let subs = x.as_chunks::<16>().0.iter().zip(codes.as_chunks_mut::<16>().0);
            let subs = subs.zip(importances.as_chunks::<16>().0).enumerate();
            for (sub, ((x, codes), importances)) in subs {
                let w = search::weights(x, importances, mean);
                sums[sub] = w.iter().fold(0.0f32, |s, w| s + w);
                scales[sub] = search::scale(x, &w, 4.0, codes);
            }
            let mut steps = [0.0; 16];
            b.d = F16::nearest(search::scale(&scales, &sums, 32.0, &mut steps));
            b.scales = [0; 12];
            for (sub, step) in steps.into_iter().enumerate() {
                b.put_steps(sub, (step + 32.0) as u8);
            }
            b.store(x, &mut codes);
        }
    }

    fn dequantize(blocks: &[Self], out: &mut [f32]) {
        dequantize_codes(blocks, out);
    }
}

impl Q3_K {
    /// Puts a scale plus 32 where there is none yet.
    fn put_steps(&mut self, sub: usize, steps: u8) {
        self.scales[sub % 8] |= (steps & 15) << (sub / 8 * 4);
        self.scales[8 + sub % 4] |= (steps >> 4) << (sub / 4 * 2);
    }

    /// Stores the codes nearest to `x` under the scales that are there.
    fn store(&mut self, x: &[f32; 256], codes: &mut [f32; 256]) {
        search::final_codes(self, x, codes, -4.0, 3.0);
        let codes = codes.map(|c| (c + 4.0) as u8);
        self.q = pack(&codes);
        self.h = core::array::from_fn(|i| (0..8).fold(0, |h, p| h | codes[32 * p + i] >> 2 << p));
    }

    /// The scale of sub-block `sub`, in units of `d`.
    #[inline(always)]
    fn steps(&self, sub: usize) -> i8 {
        let low = self.scales[sub % 8] >> (sub / 8 * 4) & 15;
        let high = self.scales[8 + sub % 4] >> (sub / 4 * 2) & 3;
        (low | high << 4) as i8 - 32
    }
}

impl CodeBlock for Q3_K {
    const SUB: usize = 16;
    const MINS: bool = false;

    #[inline(always)]
    fn scale(&self, sub: usize) -> f32 {
        self.d.get() * f32::from(self.steps(sub))
    }
    #[inline(always)]
    fn codes(&self, part: usize) -> [i8; 32] {
        let (half, k) = (part / 4, part % 4);
        core::array::from_fn(|i| {
            let (low, high) = (self.q[32 * half + i] >> (2 * k) & 3, self.h[i] >> part & 1);
            (low | high << 2) as i8 - 4
        })
    }
}
