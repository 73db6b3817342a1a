//! F16: IEEE binary16.

use super::{Block, DenseBlock, impl_dense};
use crate::Format;

/// One f16, little-endian at any address.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct F16([u8; 2]);

impl_dense!(F16, Format::F16);

impl DenseBlock for F16 {
    #[inline(always)]
    fn get(self) -> f32 {
        half::f16::from_le_bytes(self.0).to_f32()
    }
    #[inline(always)]
    fn nearest(x: f32) -> Self {
        F16(half::f16::from_f32(x).to_le_bytes())
    }
}
