//! Q6_K: 256 codes of 6 bits, signed scales of 8 bits for every 16 (ggml's `block_q6_K`).

use super::q2_k::pack;
use super::search::{self, NOTHING};
use super::{Block, CodeBlock, DenseBlock, F16, dequantize_codes, impl_pod};
use crate::Format;

/// `x[i] = (d * scale) * (code[i] - 32)`, with the scale of the sixteen that `i` is in.
#[derive(Clone, Copy)]
#[repr(C)]
#[allow(non_camel_case_types)] // the name of GGUF
pub struct Q6_K {
    /// The lower four bits: code `128 h + 64 n + k` (`k < 64`) in half `n` of byte `64 h + k`.
    pub q: [u8; 128],
    /// The upper two: those of code `128 h + 32 k + i` (`i < 32`) at bit `2 k` of byte `32 h + i`.
    pub h: [u8; 64],
    /// Scales of every 16 codes, in units of `d`.
    pub scales: [i8; 16],
    /// Unit of the scales.
    pub d: F16,
}

const _: () = assert!(size_of::<Q6_K>() == Format::Q6_K.block_bytes() && align_of::<Q6_K>() == 1);

impl_pod!(Q6_K);

// SAFETY: size and alignment are asserted above; a block holds 256 codes.
unsafe impl Block for Q6_K {
    const FORMAT: Format = Format::Q6_K;
    const LEN: usize = 256;

    /// Scales by `search::scale` for every 16, rounded so that the one of largest magnitude becomes
    /// -128, then the codes nearest to `x` under what was stored: what ggml's reference does.
    fn quantize(x: &[f32], out: &mut [Self]) {
        assert_eq!(x.len(), out.len() * 256);
        for (x, b) in x.as_chunks::<256>().0.iter().zip(out) {
            b.store(x, &x.map(|v| v * v));
        }
    }

    fn quantize_weighted(x: &[f32], importances: &[f32], out: &mut [Self]) {
        let (rows, importances) = (x.as_chunks::<256>().0, importances.as_chunks::<256>().0);
        assert_eq!((x.len(), rows.len()), (out.len() * 256, importances.len()));
        for ((x, importances), b) in rows.iter().zip(importances).zip(out) {
            b.store(x, importances);
        }
    }

    fn dequantize(blocks: &[Self], out: &mut [f32]) {
        dequantize_codes(blocks, out);
    }
}

impl Q6_K {
    /// Fills the block; `w` are the elements' weights.
    fn store(&mut self, x: &[f32; 256], w: &[f32; 256]) {
        let (mut scales, mut codes) = ([0.0; 16], [0.0; 256]);
        let subs = x.as_chunks::<16>().0.iter().zip(w.as_chunks::<16>().0);
        let subs = subs.zip(codes.as_chunks_mut::<16>().0);
        for (scale, ((x, w), codes)) in scales.iter_mut().zip(subs) {
            *scale = search::scale(x, w, 32.0, codes);
        }
        let most = search::peak(&scales);
        if most.abs() < NOTHING {
            *self = bytemuck::Zeroable::zeroed();
            return;
        }
        let inverse = -128.0 / most;
        self.d = F16::nearest(1.0 / inverse);
        self.scales = scales.map(|s| search::code(inverse * s, -128.0, 127.0) as i8);
        search::final_codes(self, x, &mut codes, -32.0, 31.0);
        let codes = codes.map(|c| (c + 32.0) as u8);
        self.q = core::array::from_fn(|j| {
            let at = j / 64 * 128 + j % 64;
            codes[at] & 15 | (codes[at + 64] & 15) << 4
        });
        self.h = pack(&codes.map(|c| c >> 4));
    }
}

impl CodeBlock for Q6_K {
    const SUB: usize = 16;
    const MINS: bool = false;

    #[inline(always)]
    fn scale(&self, sub: usize) -> f32 {
        self.d.get() * f32::from(self.scales[sub])
    }
    #[inline(always)]
    fn codes(&self, part: usize) -> [i8; 32] {
        let (half, k) = (part / 4, part % 4);
        core::array::from_fn(|i| {
            let low = self.q[64 * half + k % 2 * 32 + i] >> (k / 2 * 4) & 15;
            (low | (self.h[32 * half + i] >> (2 * k) & 3) << 4) as i8 - 32
        })
    }
}
