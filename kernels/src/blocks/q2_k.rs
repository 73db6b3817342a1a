//! Q2_K: 256 codes of 2 bits, scales and minimums of 4 bits for every 16 (ggml's `block_q2_K`).

use super::search::{self, Grid};
use super::{Block, CodeBlock, DenseBlock, F16, dequantize_codes, impl_pod};
use crate::Format;

/// `x[i] = (d * scale) * code[i] - (dmin * min)`, with scale and min of the sixteen that `i` is in.
#[derive(Clone, Copy)]
#[repr(C)]
#[allow(non_camel_case_types)] // the name of GGUF
pub struct Q2_K {
    /// Scale in the lower, minimum in the upper half, for every 16 codes.
    pub scales: [u8; 16],
    /// Codes `128 h + 32 k + i` (`i < 32`) are bits `2 k` and `2 k + 1` of byte `32 h + i`.
    pub q: [u8; 64],
    /// Unit of the scales.
    pub d: F16,
    /// Unit of the minimums.
    pub dmin: F16,
}

const _: () = assert!(size_of::<Q2_K>() == Format::Q2_K.block_bytes() && align_of::<Q2_K>() == 1);

impl_pod!(Q2_K);

// SAFETY: size and alignment are asserted above; a block holds 256 codes.
unsafe impl Block for Q2_K {
    const FORMAT: Format = Format::Q2_K;
    const LEN: usize = 256;

    /// Scales and minimums by `search::scale_and_min` for every 16, each rounded to a fifteenth
    /// of the largest, then the codes nearest to `x` under what was stored: what ggml's reference
    /// does.
    fn quantize(x: &[f32], out: &mut [Self]) {
        assert_eq!(x.len(), out.len() * 256);
        const GRID: Grid = Grid { top: 3.0, first: -0.5, tries: 15, step: 0.1, magnitude: true };
        for (x, b) in x.as_chunks::<256>().0.iter().zip(out) {
            let (mut scales, mut mins, mut codes) = ([0.0; 16], [0.0; 16], [0.0; 256]);
            let subs = x.as_chunks::<16>().0.iter().zip(codes.as_chunks_mut::<16>().0);
            for (sub, (x, codes)) in subs.enumerate() {
                let w = x.map(f32::abs);
                (scales[sub], mins[sub]) = search::scale_and_min(x, &w, &GRID, codes);
            }
            let (d, low) = parts(&scales);
            let (dmin, high) = parts(&mins);
            b.store(x, (d, low), (dmin, high), &mut codes);
        }
    }

    fn quantize_weighted(x: &[f32], importances: &[f32], out: &mut [Self]) {
        let (rows, importances) = (x.as_chunks::<256>().0, importances.as_chunks::<256>().0);
        assert_eq!((x.len(), rows.len()), (out.len() * 256, importances.len()));
        const GRID: Grid = Grid::weighted(3.0);
        for ((x, importances), b) in rows.iter().zip(importances).zip(out) {
            let (mut scales, mut mins, mut sums) = ([0.0; 16], [0.0; 16], [0.0; 16]);
            let mut codes = [0.0; 256];
            let mean = search::squares(x) / 256.0;
            let subs = x.as_chunks::<16>().0.iter().zip(codes.as_chunks_mut::<16>().0);
            let subs = subs.zip(importances.as_chunks::<16>().0).enumerate();
            for (sub, ((x, codes), importances)) in subs {
                let w = search::weights(x, importances, mean);
                sums[sub] = w.iter().fold(0.0f32, |s, w| s + w);
                (scales[sub], mins[sub]) = search::scale_and_min(x, &w, &GRID, codes);
            }
            let (d, low) = search::units(&scales, &sums, 15);
            let (dmin, high) = search::units(&mins, &sums, 15);
            b.store(x, (F16::nearest(d), low), (F16::nearest(dmin), high), &mut codes);
        }
    }

    fn dequantize(blocks: &[Self], out: &mut [f32]) {
        dequantize_codes(blocks, out);
    }
}

impl Q2_K {
    /// Fills the block: units and their counts for scales and minimums, and the codes nearest to `x`
    /// under these.
    fn store(
        &mut self,
        x: &[f32; 256],
        (d, scales): (F16, [u8; 16]),
        (dmin, mins): (F16, [u8; 16]),
        codes: &mut [f32; 256],
    ) {
        (self.d, self.dmin) = (d, dmin);
        self.scales = core::array::from_fn(|sub| scales[sub] | mins[sub] << 4);
        search::final_codes(self, x, codes, 0.0, 3.0);
        self.q = pack(&codes.map(|c| c as u8));
    }
}

/// A fifteenth of the largest of these numbers, if one is above 0, and how many fifteenths each is.
fn parts(x: &[f32; 16]) -> (F16, [u8; 16]) {
    let most = x.iter().fold(0.0f32, |m, &v| if v > m { v } else { m });
    if most > 0.0 {
        let inverse = 15.0 / most;
        return (F16::nearest(most / 15.0), x.map(|v| search::code(inverse * v, 0.0, 15.0) as u8));
    }
    (F16::nearest(0.0), [0; 16])
}

/// The lower two bits of codes as they lie in a block.
pub(super) fn pack(codes: &[u8; 256]) -> [u8; 64] {
    core::array::from_fn(|j| {
        let at = |k: usize| (codes[j / 32 * 128 + k * 32 + j % 32] & 3) << (2 * k);
        at(0) | at(1) | at(2) | at(3)
    })
}

impl CodeBlock for Q2_K {
    const SUB: usize = 16;
    const MINS: bool = true;

    #[inline(always)]
    fn scale(&self, sub: usize) -> f32 {
        self.d.get() * f32::from(self.scales[sub] & 15)
    }
    #[inline(always)]
    fn min(&self, sub: usize) -> f32 {
        -(self.dmin.get() * f32::from(self.scales[sub] >> 4))
    }
    #[inline(always)]
    fn codes(&self, part: usize) -> [i8; 32] {
        let (half, k) = (part / 4, part % 4);
        core::array::from_fn(|i| (self.q[32 * half + i] >> (2 * k) & 3) as i8)
    }
}
