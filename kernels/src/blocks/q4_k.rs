//! Q4_K: 256 codes of 4 bits, scales and minimums of 6 bits for every 32 (ggml's `block_q4_K`).

use super::search::{self, Grid};
use super::{Block, CodeBlock, DenseBlock, F16, dequantize_codes, impl_pod};
use crate::Format;

/// `x[i] = (d * scale) * code[i] - (dmin * min)`, with scale and min of the 32 that `i` is in.
#[derive(Clone, Copy)]
#[repr(C)]
#[allow(non_camel_case_types)] // the name of GGUF
pub struct Q4_K {
    /// Unit of the scales.
    pub d: F16,
    /// Unit of the minimums.
    pub dmin: F16,
    /// Eight scales and eight minimums; see `scale_and_min` in this file.
    pub scales: [u8; 12],
    /// Codes `64 h + i` in the lower, `64 h + 32 + i` in the upper half of byte `32 h + i`.
    pub q: [u8; 128],
}

const _: () = assert!(size_of::<Q4_K>() == Format::Q4_K.block_bytes() && align_of::<Q4_K>() == 1);

impl_pod!(Q4_K);

// SAFETY: size and alignment are asserted above; a block holds 256 codes.
unsafe impl Block for Q4_K {
    const FORMAT: Format = Format::Q4_K;
    const LEN: usize = 256;

    /// Scales and minimums by `search::scale_and_min` for every 32, each rounded to a 63rd of
    /// the largest, then the codes nearest to `x` under what was stored: what ggml's reference does.
    fn quantize(x: &[f32], out: &mut [Self]) {
        assert_eq!(x.len(), out.len() * 256);
        const GRID: Grid = Grid { top: 15.0, first: -1.0, tries: 20, step: 0.1, magnitude: false };
        for (x, b) in x.as_chunks::<256>().0.iter().zip(out) {
            let (scales, mins, mut codes) = search_32(x, &GRID);
            (b.d, b.dmin, b.scales) = pack_scales(&scales, &mins);
            search::final_codes(b, x, &mut codes, 0.0, GRID.top);
            let codes = codes.map(|c| c as u8);
            b.q = pack(&codes);
        }
    }

    fn quantize_weighted(x: &[f32], importances: &[f32], out: &mut [Self]) {
        let (rows, importances) = (x.as_chunks::<256>().0, importances.as_chunks::<256>().0);
        assert_eq!((x.len(), rows.len()), (out.len() * 256, importances.len()));
        for ((x, importances), b) in rows.iter().zip(importances).zip(out) {
            let (scales, mut codes) = search_32_weighted(x, importances, 15.0);
            (b.d, b.dmin, b.scales) = scales;
            search::final_codes(b, x, &mut codes, 0.0, 15.0);
            b.q = pack(&codes.map(|c| c as u8));
        }
    }

    fn dequantize(blocks: &[Self], out: &mut [f32]) {
        dequantize_codes(blocks, out);
    }
}

/// A scale and a minimum for every 32 elements, and codes. Elements weigh their magnitude and the
/// root of the mean square of the 32.
pub(super) fn search_32(x: &[f32; 256], grid: &Grid) -> ([f32; 8], [f32; 8], [f32; 256]) {
    let (mut scales, mut mins, mut codes) = ([0.0; 8], [0.0; 8], [0.0; 256]);
    let subs = x.as_chunks::<32>().0.iter().zip(codes.as_chunks_mut::<32>().0);
    for (sub, (x, codes)) in subs.enumerate() {
        let squares = x.iter().fold(0.0f32, |s, v| s + v * v);
        let root = libm::sqrtf(squares / 32.0);
        let w = x.map(|v| root + v.abs());
        (scales[sub], mins[sub]) = search::scale_and_min(x, &w, grid, codes);
    }
    (scales, mins, codes)
}

/// Units, scales and minimums as they lie in a block, and codes up to `top`, with importances.
pub(super) fn search_32_weighted(
    x: &[f32; 256],
    importances: &[f32; 256],
    top: f32,
) -> ((F16, F16, [u8; 12]), [f32; 256]) {
    let (mut scales, mut mins, mut sums) = ([0.0; 8], [0.0; 8], [0.0; 8]);
    let mut codes = [0.0; 256];
    let mean = 2.0 * search::squares(x) / 256.0;
    let subs = x.as_chunks::<32>().0.iter().zip(codes.as_chunks_mut::<32>().0);
    let subs = subs.zip(importances.as_chunks::<32>().0).enumerate();
    for (sub, ((x, codes), importances)) in subs {
        let w = search::weights(x, importances, mean);
        sums[sub] = w.iter().fold(0.0f32, |s, w| s + w);
        (scales[sub], mins[sub]) = search::scale_and_min(x, &w, &Grid::weighted(top), codes);
    }
    let (d, scales) = search::units(&scales, &sums, 63);
    let (dmin, mins) = search::units(&mins, &sums, 63);
    ((F16::nearest(d), F16::nearest(dmin), pack_counts(&scales, &mins)), codes)
}

/// Scales and minimums in units of a 63rd of the largest: the units, and what `scale_and_min` in this file
/// reads.
pub(super) fn pack_scales(scales: &[f32; 8], mins: &[f32; 8]) -> (F16, F16, [u8; 12]) {
    let parts = |x: &[f32; 8]| {
        let most = x.iter().fold(0.0f32, |m, &v| if v > m { v } else { m });
        let inverse = if most > 0.0 { 63.0 / most } else { 0.0 };
        (F16::nearest(most / 63.0), x.map(|v| search::code(inverse * v, 0.0, 63.0) as u8))
    };
    let ((d, s), (dmin, m)) = (parts(scales), parts(mins));
    (d, dmin, pack_counts(&s, &m))
}

/// Scales and minimums of six bits as they lie in a block.
fn pack_counts(s: &[u8; 8], m: &[u8; 8]) -> [u8; 12] {
    let mut bytes = [0; 12];
    for i in 0..4 {
        bytes[i] = s[i] | s[i + 4] >> 4 << 6;
        bytes[i + 4] = m[i] | m[i + 4] >> 4 << 6;
        bytes[i + 8] = s[i + 4] & 15 | (m[i + 4] & 15) << 4;
    }
    bytes
}

/// The lower four bits of codes as they lie in a block.
pub(super) fn pack(codes: &[u8; 256]) -> [u8; 128] {
    core::array::from_fn(|j| {
        let at = j / 32 * 64 + j % 32;
        codes[at] & 15 | (codes[at + 32] & 15) << 4
    })
}

/// Scale and minimum `sub` of eight each, six bits in twelve bytes. The first four scales are the
/// lower six bits of bytes 0 to 3, the first four minimums those of bytes 4 to 7. Of the others, the
/// lower four bits are the halves of bytes 8 to 11, and the upper two the two that the first eight
/// bytes have left.
#[inline(always)]
pub(super) fn scale_and_min(scales: &[u8; 12], sub: usize) -> (u8, u8) {
    if sub < 4 {
        return (scales[sub] & 63, scales[sub + 4] & 63);
    }
    let both = scales[sub + 4];
    (both & 15 | scales[sub - 4] >> 6 << 4, both >> 4 | scales[sub] >> 6 << 4)
}

impl CodeBlock for Q4_K {
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
        core::array::from_fn(|i| (self.q[part / 2 * 32 + i] >> (part % 2 * 4) & 15) as i8)
    }
}
