//! IQ1_M: 256 codes of -1, 0 and 1, eight at a time from a grid of 2048 entries, with scales for every 16 and a shift by an eighth
//! for every eight (ggml's `block_iq1_m`).

use super::codebook::Codebook;
use super::iq1_search;
use super::words::{WordBlock, shift, word_codes};
use super::{Block, CodeBlock, F16, dequantize_codes, grids, impl_pod};
use crate::Format;

/// `x[i] = (d * step / 8) * code[i]`, with the odd step of the sixteen that `i` is in; codes are eight times those of the grid, and one more
/// or less.
#[derive(Clone, Copy)]
#[repr(C)]
#[allow(non_camel_case_types)] // the name of GGUF
pub struct IQ1_M {
    /// The lower eight bits of the index of every eight codes.
    pub q: [u8; 32],
    /// Four bits for every eight codes: the upper three of the index, and whether the codes are one less.
    pub h: [u8; 16],
    /// For every 64 codes four halves of steps, rounded down, of three bits each, and four bits of the unit, an f16 whose lowest bits come
    /// first.
    pub scales: [[u8; 2]; 4],
}

const _: () =
    assert!(size_of::<IQ1_M>() == Format::IQ1_M.block_bytes() && align_of::<IQ1_M>() == 1);

impl_pod!(IQ1_M);

// SAFETY: size and alignment are asserted above; a block holds 256 codes.
unsafe impl Block for IQ1_M {
    const FORMAT: Format = Format::IQ1_M;
    const LEN: usize = 256;

    fn quantize(x: &[f32], out: &mut [Self]) {
        iq1_search::quantize::<_, 16>(x, None, out);
    }

    fn quantize_weighted(x: &[f32], importances: &[f32], out: &mut [Self]) {
        iq1_search::quantize::<_, 16>(x, Some(importances), out);
    }

    fn dequantize(blocks: &[Self], out: &mut [f32]) {
        dequantize_codes(blocks, out);
    }
}

impl WordBlock for IQ1_M {
    const FACTOR: f32 = 0.125;

    #[inline(always)]
    fn unit(&self) -> F16 {
        let top = |i: usize| self.scales[i][1] >> 4;
        bytemuck::cast([top(0) | top(1) << 4, top(2) | top(3) << 4])
    }
    #[inline(always)]
    fn step(&self, sub: usize) -> i8 {
        let four = u16::from_le_bytes(self.scales[sub / 4]);
        ((four >> (3 * (sub % 4)) & 7) * 2 + 1) as i8
    }
    #[inline(never)] // kernels would have it eight times over and more
    fn words(&self, part: usize) -> [u64; 4] {
        let (q, h) = (self.q.as_chunks::<4>().0[part], self.h.as_chunks::<2>().0[part]);
        let h = usize::from(u16::from_le_bytes(h));
        let word = |j: usize| {
            let h = h >> (4 * j);
            shift(grids::IQ1[usize::from(q[j]) | (h & 7) << 8], h & 8 != 0)
        };
        [word(0), word(1), word(2), word(3)]
    }
}

word_codes!(IQ1_M, 16);

impl Codebook for IQ1_M {
    type Entry = u64;
    const GRID: &[u64] = &grids::IQ1;
    const LARGEST: f32 = 9.0;
    const SIGNED: bool = true;
    const MOST: u8 = 7;

    fn set_scales(&mut self, d: F16, halves: &[u8]) {
        let d = u16::from_le_bytes(bytemuck::cast(d));
        self.h = [0; 16];
        for (i, (to, four)) in self.scales.iter_mut().zip(halves.as_chunks::<4>().0).enumerate() {
            let steps = four.iter().rev().fold(0, |s, &half| s << 3 | u16::from(half));
            *to = (steps | d >> (4 * i) << 12).to_le_bytes();
        }
    }
    fn set(&mut self, eight: usize, [index, _]: [usize; 2], down: u8) {
        self.q[eight] = index as u8;
        let four = index >> 8 | usize::from(down != 0) << 3;
        self.h[eight / 2] |= (four << (eight % 2 * 4)) as u8;
    }
}
