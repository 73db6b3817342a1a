//! BF16: the upper half of a binary32.

use super::{Block, DenseBlock, impl_dense};
use crate::Format;

/// One bf16, little-endian at any address.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct Bf16([u8; 2]);

impl_dense!(Bf16, Format::BF16);

impl DenseBlock for Bf16 {
    #[inline(always)]
    fn get(self) -> f32 {
        f32::from_bits(u32::from(u16::from_le_bytes(self.0)) << 16)
    }
    #[inline(always)]
    fn nearest(x: f32) -> Self {
        Bf16(half::bf16::from_f32(x).to_le_bytes())
    }
}
