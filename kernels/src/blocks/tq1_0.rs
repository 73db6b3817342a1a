//! TQ1_0: 256 ternary weights, five to a byte, and a scale (ggml's `block_tq1_0`).

use super::tq2_0::unit;
use super::{Block, DenseBlock, F16, TernaryBlock, dequantize_ternary, impl_pod, trit};
use crate::Format;

/// `x[i] = d * (digit[i] - 1)`.
///
/// A byte is a fraction of 256 that has its weights as digits of base 3 behind the point, the first
/// one first (rounded up, so that what is left of it after each digit is never too small). Digit
/// `k` is the integer part of `3 * fraction(3^k * byte)`: of eight bits that overflow as they like,
/// the whole part of three times what is left.
#[derive(Clone, Copy)]
#[repr(C)]
#[allow(non_camel_case_types)] // the name of GGUF
pub struct TQ1_0 {
    /// Five digits each: weights `32 k + i` are digits `k` of byte `i < 32`, weights
    /// `160 + 16 k + i` those of byte `32 + i`.
    pub q: [u8; 48],
    /// Four digits each: weights `240 + 4 k + i` are digits `k` of byte `i`.
    pub h: [u8; 4],
    /// Scale.
    pub d: F16,
}

const _: () =
    assert!(size_of::<TQ1_0>() == Format::TQ1_0.block_bytes() && align_of::<TQ1_0>() == 1);

impl_pod!(TQ1_0);

/// Positions of a byte's digits: the first weight, and the step from one to the next.
fn place(byte: usize) -> (usize, usize) {
    match byte {
        0..32 => (byte, 32),
        32..48 => (160 + byte - 32, 16),
        _ => (240 + byte - 48, 4),
    }
}

// SAFETY: size and alignment are asserted above; a block holds 256 codes.
unsafe impl Block for TQ1_0 {
    const FORMAT: Format = Format::TQ1_0;
    const LEN: usize = 256;

    /// The scale is the largest magnitude; weights of half of it and more become -1 and 1.
    fn quantize(x: &[f32], out: &mut [Self]) {
        assert_eq!(x.len(), out.len() * 256);
        for (x, b) in x.as_chunks::<256>().0.iter().zip(out) {
            let (d, id) = unit(x);
            b.d = F16::nearest(d);
            for (i, byte) in b.q.iter_mut().chain(&mut b.h).enumerate() {
                let (first, step) = place(i);
                let mut number = 0u16;
                for k in 0..5 {
                    // The last four bytes have a fifth digit of 0.
                    let digit = if i < 48 || k < 4 { trit(x[first + k * step] * id) } else { 0 };
                    number = number * 3 + u16::from(digit);
                }
                *byte = (number * 256).div_ceil(243) as u8; // 243 = 3^5
            }
        }
    }

    fn dequantize(blocks: &[Self], out: &mut [f32]) {
        dequantize_ternary(blocks, out);
    }
}

/// Digit `k` of a byte.
#[inline(always)]
fn digit(byte: u8, k: usize) -> u8 {
    const POWERS: [u8; 5] = [1, 3, 9, 27, 81];
    ((u16::from(byte.wrapping_mul(POWERS[k])) * 3) >> 8) as u8
}

impl TernaryBlock for TQ1_0 {
    #[inline(always)]
    fn scale(&self) -> Option<f32> {
        Some(self.d.get())
    }
    #[inline(always)]
    fn codes(&self, part: usize) -> [i8; 32] {
        core::array::from_fn(|i| {
            let digit = match 32 * part + i {
                at @ 0..160 => digit(self.q[at % 32], at / 32),
                at @ 160..240 => digit(self.q[32 + at % 16], (at - 160) / 16),
                at => digit(self.h[at % 4], (at - 240) / 4),
            };
            digit as i8 - 1
        })
    }
}
