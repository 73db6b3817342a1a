//! TQ2_0: 256 ternary weights in two bits each, and a scale (ggml's `block_tq2_0`).

use super::{Block, DenseBlock, F16, TernaryBlock, dequantize_ternary, impl_pod, q2_k::pack, trit};
use crate::Format;

/// `x[i] = d * (code[i] - 1)`.
#[derive(Clone, Copy)]
#[repr(C)]
#[allow(non_camel_case_types)] // the name of GGUF
pub struct TQ2_0 {
    /// Codes `128 h + 32 k + i` (`i < 32`) are bits `2 k` and `2 k + 1` of byte `32 h + i`.
    pub q: [u8; 64],
    /// Scale.
    pub d: F16,
}

const _: () =
    assert!(size_of::<TQ2_0>() == Format::TQ2_0.block_bytes() && align_of::<TQ2_0>() == 1);

impl_pod!(TQ2_0);

// SAFETY: size and alignment are asserted above; a block holds 256 codes.
unsafe impl Block for TQ2_0 {
    const FORMAT: Format = Format::TQ2_0;
    const LEN: usize = 256;

    /// The scale is the largest magnitude; weights of half of it and more become -1 and 1.
    fn quantize(x: &[f32], out: &mut [Self]) {
        assert_eq!(x.len(), out.len() * 256);
        for (x, b) in x.as_chunks::<256>().0.iter().zip(out) {
            let (d, id) = unit(x);
            b.d = F16::nearest(d);
            b.q = pack(&x.map(|x| trit(x * id)));
        }
    }

    fn dequantize(blocks: &[Self], out: &mut [f32]) {
        dequantize_ternary(blocks, out);
    }
}

/// The largest magnitude, and what makes it 1; no NaN is the largest.
pub(super) fn unit(x: &[f32; 256]) -> (f32, f32) {
    let d = x.iter().fold(0.0f32, |m, &x| if x.abs() > m { x.abs() } else { m });
    (d, if d > 0.0 { 1.0 / d } else { 0.0 })
}

impl TernaryBlock for TQ2_0 {
    #[inline(always)]
    fn scale(&self) -> Option<f32> {
        Some(self.d.get())
    }
    #[inline(always)]
    fn codes(&self, part: usize) -> [i8; 32] {
        let (half, k) = (part / 4, part % 4);
        core::array::from_fn(|i| (self.q[32 * half + i] >> (2 * k) & 3) as i8 - 1)
    }
}
