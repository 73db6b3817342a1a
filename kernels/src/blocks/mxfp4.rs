//! MXFP4: 32 floats of 4 bits with one power of two as their scale (OCP Microscaling Formats 1.0; ggml's
//! `block_mxfp4`).

use super::{Block, CodeBlock, dequantize_codes, impl_pod};
use crate::Format;

/// `x[i] = 2^(e - 128) * VALUES[code[i]]`; codes lie as in [`super::Q4_0`].
///
/// The exponent's NaN, 255, is 2^127 here, as in ggml.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct MXFP4 {
    /// The exponent of the scale of E2M1's values, plus 127.
    pub e: u8,
    /// Two codes in a byte.
    pub q: [u8; 16],
}

const _: () =
    assert!(size_of::<MXFP4>() == Format::MXFP4.block_bytes() && align_of::<MXFP4>() == 1);

impl_pod!(MXFP4);

/// Twice the values of E2M1's codes, so that they are integers.
pub(crate) const VALUES: [i8; 16] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

/// Half of the scale: 2^(e - 128), subnormal for 0 and 1.
#[inline(always)]
pub(crate) const fn half_scale(e: u8) -> f32 {
    f32::from_bits(if e < 2 { 0x20_0000 << e } else { (e as u32 - 1) << 23 })
}

/// `floor(log2(x))` of a normal `x`, the logarithm rounded to f32 before: from a few floats below a power of two it is that
/// power's, as with C's `log2f`, which ggml's quantiser calls.
fn exponent(x: f32) -> i32 {
    let above = (x.to_bits() >> 23) as i32 - 126;
    // Below 2^above by so many units in the last place, each 2^-24 of it: the logarithm lies 1.4427 * 2^-24 times as
    // many below `above`, and is rounded up where that is at most half of f32's step there.
    let units = 0x80_0000 - (x.to_bits() & 0x7f_ffff);
    let size = above.unsigned_abs();
    let Some(log) = size.checked_ilog2() else { return above - 1 };
    // Above zero, and from a power of two towards it, steps are half as large.
    let halved = above > 0 && size.is_power_of_two();
    let half_step = f32::from_bits((127 - 24 + log - u32::from(halved)) * (1 << 23));
    let below = units as f32 * core::f32::consts::LOG2_E / 16_777_216.0;
    if below <= half_step { above } else { above - 1 }
}

/// The code whose value is nearest to `x`, the first of two as near.
pub(super) fn nearest(x: f32, half_scale: f32) -> u8 {
    let mut best = (f32::INFINITY, 0);
    for (code, &value) in (0..).zip(&VALUES) {
        let error = (f32::from(value) * half_scale - x).abs();
        if error < best.0 {
            best = (error, code);
        }
    }
    best.1
}

// SAFETY: size and alignment are asserted above; a block holds 32 codes.
unsafe impl Block for MXFP4 {
    const FORMAT: Format = Format::MXFP4;
    const LEN: usize = 32;

    /// The exponent puts the largest magnitude below 8 (values end at 6); codes are the nearest.
    fn quantize(x: &[f32], out: &mut [Self]) {
        assert_eq!(x.len(), out.len() * 32);
        for (x, b) in x.as_chunks::<32>().0.iter().zip(out) {
            let largest = x.iter().fold(0.0f32, |m, v| if v.abs() > m { v.abs() } else { m });
            b.e = if largest > 0.0 { (exponent(largest) - 2 + 127).clamp(0, 255) as u8 } else { 0 };
            let half = half_scale(b.e);
            for (j, q) in b.q.iter_mut().enumerate() {
                *q = nearest(x[j], half) | nearest(x[j + 16], half) << 4;
            }
        }
    }

    fn dequantize(blocks: &[Self], out: &mut [f32]) {
        dequantize_codes(blocks, out);
    }
}

impl CodeBlock for MXFP4 {
    const SUB: usize = 32;
    const MINS: bool = false;

    #[inline(always)]
    fn scale(&self, _: usize) -> f32 {
        half_scale(self.e)
    }
    #[inline(always)]
    fn codes(&self, _: usize) -> [i8; 32] {
        core::array::from_fn(|i| VALUES[usize::from(self.q[i % 16] >> (i / 16 * 4) & 15)])
    }
}
