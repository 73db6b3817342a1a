//! NVFP4: 64 floats of 4 bits with scales of 8 bits for every 16 (NVIDIA's; ggml's `block_nvfp4`). The scale of the whole tensor
//! is a tensor of its own.

use super::mxfp4::{VALUES, nearest};
use super::{Block, CodeBlock, dequantize_codes, impl_pod};
use crate::Format;

/// `x[i] = half_scale(d) * VALUES[code[i]]`, with the scale of the sixteen that `i` is in, of which code `k` is in half `k / 8` of byte
/// `k % 8`.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct NVFP4 {
    /// Scales of every 16 codes: floats of 8 bits (E4M3).
    pub d: [u8; 4],
    /// Two codes in a byte.
    pub q: [u8; 32],
}

const _: () =
    assert!(size_of::<NVFP4>() == Format::NVFP4.block_bytes() && align_of::<NVFP4>() == 1);

impl_pod!(NVFP4);

/// What a float of four bits of exponent and three of fraction is multiplied with, where these bits are those of an f32: half of what
/// the exponents differ by.
pub(crate) const HALF_UNIT: f32 = f32::from_bits((127 + 119) << 23);

/// Half of a scale. The sign is ignored; what is NaN without a sign is 0, as in ggml.
#[inline(always)]
pub(crate) const fn half_scale(d: u8) -> f32 {
    if d == 0x7f { 0.0 } else { f32::from_bits((d as u32 & 0x7f) << 20) * HALF_UNIT }
}

/// The scale nearest to `x`, halves upwards; the largest from 248 on.
fn scale_of(x: f32) -> u8 {
    if x.is_nan() || x <= 0.0 {
        return 0;
    }
    if x < 1.0 / 64.0 {
        return ((x * 512.0 + 0.5) as u8).min(7);
    }
    // Rounds to three bits of the fraction, by the first one that falls off.
    let rounded = ((x.to_bits() + (1 << 19)) >> 20) - (120 << 3);
    // The largest exponent has one code, 448, as in ggml.
    if rounded < 0x78 { rounded as u8 } else { 0x7e }
}

// SAFETY: size and alignment are asserted above; a block holds 64 codes.
unsafe impl Block for NVFP4 {
    const FORMAT: Format = Format::NVFP4;
    const LEN: usize = 64;

    /// The scales put the largest magnitude on the largest value; codes are the nearest.
    fn quantize(x: &[f32], out: &mut [Self]) {
        assert_eq!(x.len(), out.len() * 64);
        for (x, b) in x.as_chunks::<64>().0.iter().zip(out) {
            let subs = x.as_chunks::<16>().0.iter().zip(b.q.as_chunks_mut::<8>().0);
            for (d, (x, q)) in b.d.iter_mut().zip(subs) {
                let largest = x.iter().fold(0.0f32, |m, v| if v.abs() > m { v.abs() } else { m });
                *d = scale_of(largest / 6.0);
                let half = half_scale(*d);
                for (j, q) in q.iter_mut().enumerate() {
                    *q = nearest(x[j], half) | nearest(x[j + 8], half) << 4;
                }
            }
        }
    }

    fn dequantize(blocks: &[Self], out: &mut [f32]) {
        dequantize_codes(blocks, out);
    }
}

impl CodeBlock for NVFP4 {
    const SUB: usize = 16;
    const MINS: bool = false;

    #[inline(always)]
    fn scale(&self, sub: usize) -> f32 {
        half_scale(self.d[sub])
    }
    #[inline(always)]
    fn codes(&self, part: usize) -> [i8; 32] {
        let q = &self.q.as_chunks::<16>().0[part];
        core::array::from_fn(|i| VALUES[usize::from(q[i / 16 * 8 + i % 8] >> (i / 8 % 2 * 4) & 15)])
    }
}
