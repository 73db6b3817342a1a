//! IQ3_XXS: 256 codes of some three bits, four at a time from a grid of 256 entries, with scales for every 32 (ggml's
//! `block_iq3_xxs`).

use super::codebook::Codebook;
use super::codebook_search::{self, Again, Search, Searched};
use super::words::{WordBlock, even, negate, word_codes};
use super::{Block, CodeBlock, F16, dequantize_codes, grids, impl_pod};
use crate::Format;

/// `x[i] = (d * step / 4) * code[i]`, with the odd step of the 32 that `i` is in.
#[derive(Clone, Copy)]
#[repr(C)]
#[allow(non_camel_case_types)] // the name of GGUF
pub struct IQ3_XXS {
    /// Unit of the scales.
    pub d: F16,
    /// The index of every four codes.
    pub q: [u8; 64],
    /// For every 32 codes, from the lowest bit on: seven signs for each eight, of which an even number is set with the eighth,
    /// and half of the step, rounded down.
    pub s: [[u8; 4]; 8],
}

const _: () =
    assert!(size_of::<IQ3_XXS>() == Format::IQ3_XXS.block_bytes() && align_of::<IQ3_XXS>() == 1);

impl_pod!(IQ3_XXS);

// SAFETY: size and alignment are asserted above; a block holds 256 codes.
unsafe impl Block for IQ3_XXS {
    const FORMAT: Format = Format::IQ3_XXS;
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

impl WordBlock for IQ3_XXS {
    const FACTOR: f32 = 0.25;

    #[inline(always)]
    fn unit(&self) -> F16 {
        self.d
    }
    #[inline(always)]
    fn step(&self, sub: usize) -> i8 {
        ((self.s[sub][3] >> 4) * 2 + 1) as i8
    }
    #[inline(never)] // kernels would have it eight times over and more
    fn words(&self, part: usize) -> [u64; 4] {
        let (q, s) = (self.q.as_chunks::<8>().0[part], u32::from_le_bytes(self.s[part]));
        let entry = |i: usize| u64::from(grids::IQ3_XXS[usize::from(q[i])]);
        let word = |j: usize| negate(entry(2 * j) | entry(2 * j + 1) << 32, even(s >> (7 * j)));
        [word(0), word(1), word(2), word(3)]
    }
}

word_codes!(IQ3_XXS, 32);

impl Codebook for IQ3_XXS {
    type Entry = u32;
    const GRID: &[u32] = &grids::IQ3_XXS;
    const LARGEST: f32 = 62.0;
    const EVEN: bool = true;

    fn set_scales(&mut self, d: F16, halves: &[u8]) {
        self.d = d;
        for (s, half) in self.s.iter_mut().zip(halves) {
            *s = [0, 0, 0, half << 4];
        }
    }
    fn set(&mut self, eight: usize, [a, b]: [usize; 2], signs: u8) {
        (self.q[2 * eight], self.q[2 * eight + 1]) = (a as u8, b as u8);
        let s = &mut self.s[eight / 4];
        let more = u32::from(signs & 127) << (eight % 4 * 7);
        *s = (u32::from_le_bytes(*s) | more).to_le_bytes();
    }
}

impl Searched for IQ3_XXS {
    const SEARCH: Search = Search {
        levels: 8,
        level: |byte| (byte - 4) / 8,
        mean: 2.0,
        nothing: 1e-8,
        tries: 15,
        step: 0.2,
        by_units: false,
        distances: 2,
        again: Again::Off,
        factor: 1.0125,
        plain: |_, square| square,
    };
}
