//! IQ3_S: 256 codes of some three bits, four at a time from a grid of 512 entries, with scales for every 32 (ggml's
//! `block_iq3_s`).

use super::codebook::{Codebook, nibbles};
use super::codebook_search::{self, Again, Search, Searched};
use super::words::{WordBlock, negate, word_codes};
use super::{Block, CodeBlock, F16, dequantize_codes, grids, impl_pod};
use crate::Format;

/// `x[i] = (d * step) * code[i]`, with the odd step of the 32 that `i` is in.
#[derive(Clone, Copy)]
#[repr(C)]
#[allow(non_camel_case_types)] // the name of GGUF
pub struct IQ3_S {
    /// Unit of the scales.
    pub d: F16,
    /// The lower eight bits of the index of every four codes.
    pub q: [u8; 64],
    /// The ninth bits of eight indices.
    pub h: [u8; 8],
    /// Signs of every eight codes.
    pub signs: [u8; 32],
    /// Halves of the steps, rounded down, two in a byte.
    pub scales: [u8; 4],
}

const _: () =
    assert!(size_of::<IQ3_S>() == Format::IQ3_S.block_bytes() && align_of::<IQ3_S>() == 1);

impl_pod!(IQ3_S);

// SAFETY: size and alignment are asserted above; a block holds 256 codes.
unsafe impl Block for IQ3_S {
    const FORMAT: Format = Format::IQ3_S;
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

impl WordBlock for IQ3_S {
    const FACTOR: f32 = 1.0;

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
        let (q, signs) = (self.q.as_chunks::<8>().0[part], self.signs.as_chunks::<4>().0[part]);
        let h = usize::from(self.h[part]);
        let entry = |i: usize| u64::from(grids::IQ3_S[usize::from(q[i]) | (h >> i & 1) << 8]);
        let word = |j: usize| negate(entry(2 * j) | entry(2 * j + 1) << 32, signs[j]);
        [word(0), word(1), word(2), word(3)]
    }
}

word_codes!(IQ3_S, 32);

impl Codebook for IQ3_S {
    type Entry = u32;
    const GRID: &[u32] = &grids::IQ3_S;
    const LARGEST: f32 = 15.0;

    fn set_scales(&mut self, d: F16, halves: &[u8]) {
        (self.d, self.h, self.scales) = (d, [0; 8], nibbles(halves));
    }
    fn set(&mut self, eight: usize, [a, b]: [usize; 2], signs: u8) {
        (self.q[2 * eight], self.q[2 * eight + 1]) = (a as u8, b as u8);
        self.signs[eight] = signs;
        self.h[eight / 4] |= ((a >> 8 | b >> 8 << 1) << (eight % 4 * 2)) as u8;
    }
}

impl Searched for IQ3_S {
    const SEARCH: Search = Search {
        levels: 8,
        level: |byte| byte / 2,
        mean: 2.0,
        nothing: f32::from_bits(1),
        tries: 9,
        step: 0.2,
        by_units: false,
        distances: 3,
        again: Again::AllIfOff,
        factor: 1.033,
        plain: |_, square| square,
    };
}
