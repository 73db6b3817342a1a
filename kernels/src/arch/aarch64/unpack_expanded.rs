//! Unpackers of expanded rows (`blocks/expanded.rs`), whose codes are -64..=64.

use core::arch::aarch64::*;

use super::unpack::{Quads, Unpack};
use crate::blocks::expanded::{Expanded16, Expanded32};

macro_rules! expanded {
    ($($name:ident),*) => {$(
        impl Unpack for $name {
            #[inline(always)]
            unsafe fn bytes(&self, _: usize) -> [int8x16_t; 2] {
                // SAFETY: 32 bytes behind q; NEON by the caller.
                unsafe { [vld1q_s8(self.q.as_ptr()), vld1q_s8(self.q.as_ptr().add(16))] }
            }
            #[inline(always)]
            unsafe fn scales(w: *const Self, valid: usize) -> (Quads, Quads) {
                let mut four = [0.0; 4];
                let each = 4 / Self::CHUNK;
                for (i, to) in four.chunks_exact_mut(each).enumerate() {
                    // SAFETY: a block that is there: the last one stands for those missing.
                    to.copy_from_slice(&unsafe { (*w.add(i.min(valid - 1))).scales() });
                }
                // SAFETY: four floats; NEON by the caller.
                let s = unsafe { vld1q_f32(four.as_ptr()) };
                ([s; 4], [s; 4])
            }
        }
    )*};
}
expanded!(Expanded32, Expanded16);
