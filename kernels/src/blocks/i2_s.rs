//! I2_S: 128 ternary weights in two bits each, as BitNet's published files have them (GGUF type 36).
//! The scale is the tensor's, and stands in its trailer ([`Format::trailer_bytes`]).

use super::{Block, TernaryBlock, dequantize_ternary, impl_pod, trit};
use crate::Format;

/// `x[i] = scale * (code[i] - 1)` with the scale of the matrix.
#[derive(Clone, Copy)]
#[repr(C)]
#[allow(non_camel_case_types)] // the name of GGUF
pub struct I2_S {
    /// Codes `32 k + i` (`i < 32`) are bits `6 - 2 k` and `7 - 2 k` of byte `i`.
    pub q: [u8; 32],
}

const _: () = assert!(size_of::<I2_S>() == Format::I2_S.block_bytes() && align_of::<I2_S>() == 1);

impl_pod!(I2_S);

// SAFETY: size and alignment are asserted above; a block holds 128 codes.
unsafe impl Block for I2_S {
    const FORMAT: Format = Format::I2_S;
    const LEN: usize = 128;

    /// Of weights that were divided by the scale: half and more of it become -1 and 1.
    fn quantize(x: &[f32], out: &mut [Self]) {
        assert_eq!(x.len(), out.len() * 128);
        for (x, b) in x.as_chunks::<128>().0.iter().zip(out) {
            b.q =
                core::array::from_fn(|i| (0..4).fold(0, |byte, k| byte << 2 | trit(x[32 * k + i])));
        }
    }

    /// With a scale of 1: what the tensor's is to be multiplied with.
    fn dequantize(blocks: &[Self], out: &mut [f32]) {
        dequantize_ternary(blocks, out);
    }
}

impl TernaryBlock for I2_S {
    #[inline(always)]
    fn scale(&self) -> Option<f32> {
        None
    }
    #[inline(always)]
    fn codes(&self, part: usize) -> [i8; 32] {
        self.q.map(|byte| (byte >> (6 - 2 * part) & 3) as i8 - 1)
    }
}
