//! IQ1_S: 256 codes of -1, 0 and 1, eight at a time from a grid of 2048 entries, with scales and a shift by an eighth for every
//! 32 (ggml's `block_iq1_s`).

use super::codebook::{self, Codebook};
use super::iq1_search;
use super::words::{WordBlock, shift, word_codes};
use super::{Block, CodeBlock, F16, dequantize_codes, grids, impl_pod};
use crate::Format;

/// `x[i] = (d * step / 8) * code[i]`, with the odd step of the 32 that `i` is in; codes are eight times those of the grid, and one more or
/// less.
#[derive(Clone, Copy)]
#[repr(C)]
#[allow(non_camel_case_types)] // the name of GGUF
pub struct IQ1_S {
    /// Unit of the scales.
    pub d: F16,
    /// The lower eight bits of the index of every eight codes.
    pub q: [u8; 32],
    /// For every 32 codes: the upper three bits of four indices, half of the step, rounded down, in three bits, and whether the codes
    /// are one less.
    pub h: [[u8; 2]; 8],
}

const _: () =
    assert!(size_of::<IQ1_S>() == Format::IQ1_S.block_bytes() && align_of::<IQ1_S>() == 1);

impl_pod!(IQ1_S);

// SAFETY: size and alignment are asserted above; a block holds 256 codes.
unsafe impl Block for IQ1_S {
    const FORMAT: Format = Format::IQ1_S;
    const LEN: usize = 256;

    fn quantize(x: &[f32], out: &mut [Self]) {
        codebook::quantize(x, out);
    }

    fn quantize_weighted(x: &[f32], importances: &[f32], out: &mut [Self]) {
        iq1_search::quantize::<_, 32>(x, Some(importances), out);
    }

    fn dequantize(blocks: &[Self], out: &mut [f32]) {
        dequantize_codes(blocks, out);
    }
}

impl WordBlock for IQ1_S {
    const FACTOR: f32 = 0.125;

    #[inline(always)]
    fn unit(&self) -> F16 {
        self.d
    }
    #[inline(always)]
    fn step(&self, sub: usize) -> i8 {
        ((self.h[sub][1] >> 4 & 7) * 2 + 1) as i8
    }
    #[inline(never)] // kernels would have it eight times over and more
    fn words(&self, part: usize) -> [u64; 4] {
        let (q, h) =
            (self.q.as_chunks::<4>().0[part], usize::from(u16::from_le_bytes(self.h[part])));
        let word =
            |j: usize| shift(grids::IQ1[usize::from(q[j]) | (h >> (3 * j) & 7) << 8], h >> 15 != 0);
        [word(0), word(1), word(2), word(3)]
    }
}

word_codes!(IQ1_S, 32);

impl Codebook for IQ1_S {
    type Entry = u64;
    const GRID: &[u64] = &grids::IQ1;
    const LARGEST: f32 = 9.0;
    const SIGNED: bool = true;
    const MOST: u8 = 7;

    fn set_scales(&mut self, d: F16, halves: &[u8]) {
        self.d = d;
        for (h, half) in self.h.iter_mut().zip(halves) {
            *h = [0, half << 4];
        }
    }
    fn set(&mut self, eight: usize, [index, _]: [usize; 2], down: u8) {
        self.q[eight] = index as u8;
        let h = &mut self.h[eight / 4];
        let more = (index >> 8 << (eight % 4 * 3)) as u16;
        let down = u16::from(down != 0) << 15;
        *h = (u16::from_le_bytes(*h) | more | down).to_le_bytes();
    }
}
