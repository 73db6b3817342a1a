//! IQ2_S: 256 codes of some two bits, eight at a time from a grid of 1024 entries, with scales for every 16 (ggml's
//! `block_iq2_s`).

use super::codebook::{Codebook, nibbles};
use super::codebook_search::{self, Again, Search, Searched};
use super::words::{WordBlock, negate, word_codes};
use super::{Block, CodeBlock, F16, dequantize_codes, grids, impl_pod};
use crate::Format;

/// `x[i] = (d * step / 8) * code[i]`, with the odd step of the sixteen that `i` is in.
#[derive(Clone, Copy)]
#[repr(C)]
#[allow(non_camel_case_types)] // the name of GGUF
pub struct IQ2_S {
    /// Unit of the scales.
    pub d: F16,
    /// The lower eight bits of the index of every eight codes.
    pub q: [u8; 32],
    /// Signs of every eight codes.
    pub signs: [u8; 32],
    /// The upper two bits of four indices.
    pub h: [u8; 8],
    /// Halves of the steps, rounded down, two in a byte.
    pub scales: [u8; 8],
}

const _: () =
    assert!(size_of::<IQ2_S>() == Format::IQ2_S.block_bytes() && align_of::<IQ2_S>() == 1);

impl_pod!(IQ2_S);

// SAFETY: size and alignment are asserted above; a block holds 256 codes.
unsafe impl Block for IQ2_S {
    const FORMAT: Format = Format::IQ2_S;
    const LEN: usize = 256;

    fn quantize(x: &[f32], out: &mut [Self]) {
        codebook_search::quantize(x, None, out);
    }

    fn quantize_weighted(x: &[f32], importances: &[f32], out: &mut [Self]) {
        codebook_search::quantize(x, Some(importances), out);
    }

    fn dequantize(blocks: &[Self], out: &mut [f32]) {
        dequantize_codes(blocks, out);
    }
}

impl WordBlock for IQ2_S {
    const FACTOR: f32 = 0.125;

    #[inline(always)]
    fn unit(&self) -> F16 {
        self.d
    }
    #[inline(always)]
    fn step(&self, sub: usize) -> i8 {
        ((self.scales[sub / 2] >> (sub % 2 * 4) & 15) * 2 + 1) as i8
    }
    #[inline(never)] // kernels would have it eight times over and more
    fn words(&self, part: usize) -> [u64; 4] {
        let (q, signs) = (self.q.as_chunks::<4>().0[part], self.signs.as_chunks::<4>().0[part]);
        let h = usize::from(self.h[part]);
        let word = |j: usize| {
            let index = usize::from(q[j]) | (h >> (2 * j) & 3) << 8;
            negate(grids::IQ2_S[index], signs[j])
        };
        [word(0), word(1), word(2), word(3)]
    }
}

word_codes!(IQ2_S, 16);

impl Codebook for IQ2_S {
    type Entry = u64;
    const GRID: &[u64] = &grids::IQ2_S;
    const LARGEST: f32 = 43.0;

    fn set_scales(&mut self, d: F16, halves: &[u8]) {
        (self.d, self.h, self.scales) = (d, [0; 8], nibbles(halves));
    }
    fn set(&mut self, eight: usize, [index, _]: [usize; 2], signs: u8) {
        (self.q[eight], self.signs[eight]) = (index as u8, signs);
        self.h[eight / 4] |= (index >> 8 << (eight % 4 * 2)) as u8;
    }
}

impl Searched for IQ2_S {
    const SEARCH: Search = Search {
        levels: 3,
        level: |byte| byte / 17,
        mean: 2.0,
        nothing: 1e-8,
        tries: 9,
        step: 0.1,
        by_units: false,
        distances: 1,
        again: Again::Off,
        factor: 0.9875,
        plain: |mean, square| 0.25 * mean + square,
    };
}
