//! Unpackers of expanded rows (`blocks/expanded.rs`).

use core::arch::wasm32::*;

use super::unpack::{Scales, Unpack, load};
use crate::blocks::F16;
use crate::blocks::expanded::{Expanded16, Expanded32};

macro_rules! expanded {
    ($($name:ident),*) => {$(
        impl Unpack for $name {
            const BIAS: i32 = 0;
            #[inline(always)]
            fn bytes<const K: usize>(&self, _: usize) -> [v128; 2] {
                let q: &[u8; 32] = bytemuck::cast_ref(&self.q);
                [load(q, 0), load(q, 16)]
            }
            #[inline(always)]
            fn units(&self) -> [F16; 2] {
                unreachable!("its scales have no unit")
            }
            #[inline(always)]
            fn scales4(w: [&Self; 4], to: &mut Scales) {
                let d = [w[0].scales(), w[1].scales(), w[2].scales(), w[3].scales()];
                for (i, to) in to.scale[..d[0].len()].iter_mut().enumerate() {
                    *to = f32x4(d[0][i], d[1][i], d[2][i], d[3][i]);
                }
            }
        }
    )*};
}
expanded!(Expanded32, Expanded16);
