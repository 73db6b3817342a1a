//! IQ2_XS: 256 codes of some two bits, eight at a time from a grid of 512 entries, with scales for every 16 (ggml's
//! `block_iq2_xs`).

use super::codebook::{self, Codebook, nibbles};
use super::codebook_search::{self, Again, Search, Searched};
use super::search::NOTHING;
use super::words::{WordBlock, even, negate, word_codes};
use super::{Block, CodeBlock, F16, dequantize_codes, grids, impl_pod};
use crate::Format;

/// `x[i] = (d * step / 8) * code[i]`, with the odd step of the sixteen that `i` is in.
#[derive(Clone, Copy)]
#[repr(C)]
#[allow(non_camel_case_types)] // the name of GGUF
pub struct IQ2_XS {
    /// Unit of the scales.
    pub d: F16,
    /// For every eight codes: the index in nine bits, and seven signs, of which an even number is set with the eighth.
    pub q: [[u8; 2]; 32],
    /// Halves of the steps, rounded down, two in a byte.
    pub scales: [u8; 8],
}

const _: () =
    assert!(size_of::<IQ2_XS>() == Format::IQ2_XS.block_bytes() && align_of::<IQ2_XS>() == 1);

impl_pod!(IQ2_XS);

// SAFETY: size and alignment are asserted above; a block holds 256 codes.
unsafe impl Block for IQ2_XS {
    const FORMAT: Format = Format::IQ2_XS;
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

impl WordBlock for IQ2_XS {
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
        let q = self.q.as_chunks::<4>().0[part];
        let word = |j: usize| {
            let q = u16::from_le_bytes(q[j]);
            negate(grids::IQ2_XS[usize::from(q & 511)], even(u32::from(q >> 9)))
        };
        [word(0), word(1), word(2), word(3)]
    }
}

word_codes!(IQ2_XS, 16);

impl Codebook for IQ2_XS {
    type Entry = u64;
    const GRID: &[u64] = &grids::IQ2_XS;
    const LARGEST: f32 = 43.0;
    const EVEN: bool = true;

    fn set_scales(&mut self, d: F16, halves: &[u8]) {
        self.d = d;
        self.scales = nibbles(halves);
    }
    fn set(&mut self, eight: usize, [index, _]: [usize; 2], signs: u8) {
        self.q[eight] = (index as u16 | u16::from(signs & 127) << 9).to_le_bytes();
    }
}

impl Searched for IQ2_XS {
    const SEARCH: Search = Search {
        levels: 3,
        level: |byte| byte / 17,
        mean: 1.0,
        nothing: NOTHING,
        tries: 9,
        step: 0.1,
        by_units: false,
        distances: 2,
        again: Again::Off,
        factor: 1.0,
        plain: |_, square| square,
    };
}
