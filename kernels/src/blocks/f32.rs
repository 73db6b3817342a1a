//! F32: IEEE binary32.

use super::{Block, DenseBlock, impl_dense};
use crate::Format;

/// One f32, little-endian at any address.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct F32([u8; 4]);

impl_dense!(F32, Format::F32);

impl DenseBlock for F32 {
    #[inline(always)]
    fn get(self) -> f32 {
        f32::from_le_bytes(self.0)
    }
    #[inline(always)]
    fn nearest(x: f32) -> Self {
        F32(x.to_le_bytes())
    }
}
