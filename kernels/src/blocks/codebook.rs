//! Quantising to the formats with codebooks: the nearest entries of their grids.

use super::words::WordBlock;
use super::{DenseBlock, F16};

/// A format whose codes are entries of a grid, as what quantises to it sees it.
pub(super) trait Codebook: WordBlock {
    /// An entry of the grid: the magnitudes of four or eight codes, one in a byte.
    type Entry: Copy + Into<u64> + 'static;
    /// The grid.
    const GRID: &'static [Self::Entry];
    /// An even number of eight signs is set.
    const EVEN: bool = false;
    /// Entries have signs: their bytes less 127 are the codes.
    const SIGNED: bool = false;
    /// The largest code.
    const LARGEST: f32;
    /// The largest half of a step.
    const MOST: u8 = 15;

    /// Sets unit and steps, of which halves are given, rounded down, and clears everything else.
    fn set_scales(&mut self, d: F16, halves: &[u8]);
    /// Sets the indices of eight codes (of which the first is all where entries have eight), and their signs; where
    /// entries have signs, whether the codes are one less, if `signs` isn't 0.
    fn set(&mut self, eight: usize, indices: [usize; 2], signs: u8);
}

/// Four bits each, two in a byte.
pub(super) fn nibbles<const N: usize>(of: &[u8]) -> [u8; N] {
    core::array::from_fn(|i| of[2 * i] | of[2 * i + 1] << 4)
}

/// The entry whose codes are nearest to `x`, the first of several; the first for NaN.
fn nearest<B: Codebook>(x: &[f32]) -> usize {
    let mut best = (f32::INFINITY, 0);
    for (i, &entry) in B::GRID.iter().enumerate() {
        let bytes = entry.into().to_le_bytes();
        let error = x.iter().zip(bytes).fold(0.0, |sum, (x, byte)| {
            let code = i16::from(byte) - if B::SIGNED { 127 } else { 0 };
            let off = x - f32::from(code);
            sum + off * off
        });
        if error < best.0 {
            best = (error, i);
        }
    }
    best.1
}

/// Quantises without importances: the largest magnitude of a sub-block has the largest code.
pub(super) fn quantize<B: Codebook>(x: &[f32], out: &mut [B]) {
    assert_eq!(x.len(), out.len() * 256);
    let per = B::LARGEST * B::FACTOR;
    for (x, b) in x.as_chunks::<256>().0.iter().zip(out) {
        let peak = |x: &[f32]| x.iter().fold(0.0f32, |m, x| if x.abs() > m { x.abs() } else { m });
        let most = f32::from(2 * B::MOST + 1);
        let d = F16::nearest(peak(x) / (per * most));
        let unit = d.get();
        let mut halves = [0; 16];
        for (half, x) in halves.iter_mut().zip(x.chunks_exact(B::SUB)) {
            let step = if unit > 0.0 { peak(x) / (per * unit) } else { 0.0 };
            *half = ((step / 2.0) as u8).min(B::MOST);
        }
        b.set_scales(d, &halves[..256 / B::SUB]);
        for (eight, x) in x.as_chunks::<8>().0.iter().enumerate() {
            let scale = b.scale(eight * 8 / B::SUB);
            let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
            let mut x = x.map(|x| x * inverse);
            let mut signs = 0;
            if !B::SIGNED {
                signs = x.iter().rev().fold(0, |s, &x| s << 1 | u8::from(x < 0.0));
                x = x.map(f32::abs);
                if B::EVEN && signs.count_ones() % 2 == 1 {
                    let least = (0..8).fold(0, |least, i| if x[i] < x[least] { i } else { least });
                    signs ^= 1 << least;
                    x[least] = -x[least];
                }
            }
            let (four, _) = x.as_chunks::<4>();
            let indices = if size_of::<B::Entry>() == 4 {
                [nearest::<B>(&four[0]), nearest::<B>(&four[1])]
            } else {
                [nearest::<B>(&x), 0]
            };
            b.set(eight, indices, signs);
        }
    }
}
