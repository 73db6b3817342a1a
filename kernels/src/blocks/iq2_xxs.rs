//! IQ2_XXS: 256 codes of some two bits, eight at a time from a grid of 256 entries, with scales for every 32 (ggml's
//! `block_iq2_xxs`).

use super::codebook::{self, Codebook};
use super::codebook_search::{self, Again, Search, Searched};
use super::search::NOTHING;
use super::words::{WordBlock, even, negate, word_codes};
use super::{Block, CodeBlock, F16, dequantize_codes, grids, impl_pod};
use crate::Format;

/// `x[i] = (d * step / 8) * code[i]`, with the odd step of the 32 that `i` is in.
#[derive(Clone, Copy)]
#[repr(C)]
#[allow(non_camel_case_types)] // the name of GGUF
pub struct IQ2_XXS {
    /// Unit of the scales.
    pub d: F16,
    /// For every 32 codes: four indices, then from the lowest bit on seven signs for each, of which an even number is set with
    /// the eighth, and half of the step, rounded down.
    pub q: [[u8; 8]; 8],
}

const _: () =
    assert!(size_of::<IQ2_XXS>() == Format::IQ2_XXS.block_bytes() && align_of::<IQ2_XXS>() == 1);

impl_pod!(IQ2_XXS);

// SAFETY: size and alignment are asserted above; a block holds 256 codes.
unsafe impl Block for IQ2_XXS {
    const FORMAT: Format = Format::IQ2_XXS;
    const LEN: usize = 256;

    fn quantize(x: &[f32], out: &mut [Self]) {
        codebook::quantize(x, out);
    }

    fn quantize_weighted(x: &[f32], importances: &[f32], out: &mut [Self]) {
        codebook_search::quantize(x, Some(importances), out);
    }

    fn dequantize(blocks: &[Self], out: &mut [f32]) {
        dequantize_codes(blocks, out);
    }
}

impl WordBlock for IQ2_XXS {
    const FACTOR: f32 = 0.125;

    #[inline(always)]
    fn unit(&self) -> F16 {
        self.d
    }
    #[inline(always)]
    fn step(&self, sub: usize) -> i8 {
        let [.., top] = self.q[sub];
        ((top >> 4) * 2 + 1) as i8
    }
    #[inline(never)] // kernels would have it eight times over and more
    fn words(&self, part: usize) -> [u64; 4] {
        let [a, b, c, d, s @ ..] = self.q[part];
        let s = u32::from_le_bytes(s);
        let word = |i: u8, j: usize| negate(grids::IQ2_XXS[usize::from(i)], even(s >> (7 * j)));
        [word(a, 0), word(b, 1), word(c, 2), word(d, 3)]
    }
}

word_codes!(IQ2_XXS, 32);

impl Codebook for IQ2_XXS {
    type Entry = u64;
    const GRID: &[u64] = &grids::IQ2_XXS;
    const LARGEST: f32 = 43.0;
    const EVEN: bool = true;

    fn set_scales(&mut self, d: F16, halves: &[u8]) {
        self.d = d;
        for (q, half) in self.q.iter_mut().zip(halves) {
            *q = [0, 0, 0, 0, 0, 0, 0, half << 4];
        }
    }
    fn set(&mut self, eight: usize, [index, _]: [usize; 2], signs: u8) {
        let (q, j) = (&mut self.q[eight / 4], eight % 4);
        q[j] = index as u8;
        let [_, _, _, _, s @ ..] = *q;
        let s = u32::from_le_bytes(s) | u32::from(signs & 127) << (7 * j);
        q[4..].copy_from_slice(&s.to_le_bytes());
    }
}

impl Searched for IQ2_XXS {
    const SEARCH: Search = Search {
        levels: 3,
        level: |byte| byte / 17,
        mean: 1.0,
        nothing: NOTHING,
        tries: 6,
        step: 0.1,
        by_units: true,
        distances: 2,
        again: Again::All,
        factor: 1.0,
        plain: |_, square| square,
    };
}
