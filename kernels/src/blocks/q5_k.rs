//! Q5_K: 256 codes of 5 bits, scales and minimums of 6 bits for every 32 (ggml's `block_q5_K`).

use super::q4_k::{pack, pack_scales, scale_and_min, search_32, search_32_weighted};
use super::search::{self, Grid};
use super::{Block, CodeBlock, DenseBlock, F16, dequantize_codes, impl_pod};
use crate::Format;

/// `x[i] = (d * scale) * code[i] - (dmin * min)`, with scale and min of the 32 that `i` is in.
#[derive(Clone, Copy)]
#[repr(C)]
#[allow(non_camel_case_types)] // the name of GGUF
pub struct Q5_K {
    /// Unit of the scales.
    pub d: F16,
    /// Unit of the minimums.
    pub dmin: F16,
    /// Eight scales and eight minimums, as in [`super::Q4_K`].
    pub scales: [u8; 12],
    /// Bit `p` of byte `i` is the fifth bit of code `32 p + i`.
    pub h: [u8; 32],
    /// The lower four bits, as in [`super::Q4_K`].
    pub q: [u8; 128],
}

const _: () = assert!(size_of::<Q5_K>() == Format::Q5_K.block_bytes() && align_of::<Q5_K>() == 1);

impl_pod!(Q5_K);

// SAFETY: size and alignment are asserted above; a block holds 256 codes.
unsafe impl Block for Q5_K {
    const FORMAT: Format = Format::Q5_K;
    const LEN: usize = 256;

    /// As [`super::Q4_K`] does it, with 31 steps and fewer scales tried.
    fn quantize(x: &[f32], out: &mut [Self]) {
        assert_eq!(x.len(), out.len() * 256);
        const GRID: Grid = Grid { top: 31.0, first: -0.5, tries: 15, step: 0.1, magnitude: false };
        for (x, b) in x.as_chunks::<256>().0.iter().zip(out) {
            let (scales, mins, mut codes) = search_32(x, &GRID);
            (b.d, b.dmin, b.scales) = pack_scales(&scales, &mins);
            search::final_codes(b, x, &mut codes, 0.0, GRID.top);
            b.put_codes(&codes.map(|c| c as u8));
        }
    }

    fn quantize_weighted(x: &[f32], importances: &[f32], out: &mut [Self]) {
        let (rows, importances) = (x.as_chunks::<256>().0, importances.as_chunks::<256>().0);
        assert_eq!((x.len(), rows.len()), (out.len() * 256, importances.len()));
        for ((x, importances), b) in rows.iter().zip(importances).zip(out) {
            let (scales, mut codes) = search_32_weighted(x, importances, 31.0);
            (b.d, b.dmin, b.scales) = scales;
            search::final_codes(b, x, &mut codes, 0.0, 31.0);
            b.put_codes(&codes.map(|c| c as u8));
        }
    }

    fn dequantize(blocks: &[Self], out: &mut [f32]) {
        dequantize_codes(blocks, out);
    }
}

impl Q5_K {
    fn put_codes(&mut self, codes: &[u8; 256]) {
        self.q = pack(codes);
        self.h = core::array::from_fn(|i| (0..8).fold(0, |h, p| h | codes[32 * p + i] >> 4 << p));
    }
}

impl CodeBlock for Q5_K {
    const SUB: usize = 32;
    const MINS: bool = true;

    #[inline(always)]
    fn scale(&self, sub: usize) -> f32 {
        self.d.get() * f32::from(scale_and_min(&self.scales, sub).0)
    }
    #[inline(always)]
    fn min(&self, sub: usize) -> f32 {
        -(self.dmin.get() * f32::from(scale_and_min(&self.scales, sub).1))
    }
    #[inline(always)]
    fn codes(&self, part: usize) -> [i8; 32] {
        core::array::from_fn(|i| {
            let low = self.q[part / 2 * 32 + i] >> (part % 2 * 4) & 15;
            (low | (self.h[i] >> part & 1) << 4) as i8
        })
    }
}
