//! AArch64, little-endian, with NEON.

use core::ops::Range;

use super::shared::{implement, operations};
use crate::blocks::{Bf16, F16, F32};
use crate::{DenseActs, Format, Matrix, Tile};

mod detect;
mod dotprod;
mod i8mm;
mod lanes;
mod neon;
mod panels;
mod rows;
mod unpack;

pub use dotprod::Dotprod;
pub use i8mm::I8mm;
use lanes::Lanes128;
pub use neon::Neon;

operations!(implement![Lanes128, "neon", 1]);

/// Products of dense weights: the sets differ in products of bytes alone.
#[target_feature(enable = "neon")]
fn dense(w: &Matrix<'_>, x: &DenseActs<'_>, rows: Range<usize>, y: &mut Tile<'_>) {
    use crate::ops::dense::matmul;
    match w.format() {
        Format::F32 => matmul::<Lanes128, F32, 2, 2, 4>(w, x, rows, y),
        Format::F16 => matmul::<Lanes128, F16, 2, 2, 4>(w, x, rows, y),
        Format::BF16 => matmul::<Lanes128, Bf16, 2, 2, 4>(w, x, rows, y),
        _ => unreachable!("checked by check_matmul"),
    }
}

/// The operations of a backend: products of quantised weights by the drivers of this architecture,
/// with `$P` to multiply bytes; all others are the same for all of them.
macro_rules! backend {
    ($name:ident, $str:literal, $features:literal, $P:ty) => {
        impl $name {
            #[target_feature(enable = $features)]
            fn quantized<B: super::unpack::Unpack>(
                w: &crate::Matrix<'_>,
                x: &crate::Q8Acts<'_>,
                rows: core::ops::Range<usize>,
                y: &mut crate::Tile<'_>,
                scratch: &mut [u8],
            ) {
                // SAFETY: compiled for the features that `$P` needs.
                unsafe { super::panels::matmul::<$P, B>(w, x, rows, y, scratch) };
            }
        }

        impl crate::Backend for $name {
            fn name(&self) -> &'static str {
                $str
            }

            fn matmul_scratch(&self, format: crate::Format, cols: usize, batch: usize) -> usize {
                use super::panels::{PANEL_COLS, scratch};
                if batch < PANEL_COLS {
                    return 0;
                }
                crate::blocks::for_codes!(format, B => scratch::<B>(cols), dense => 0)
            }

            fn matmul(
                &self,
                w: &crate::Matrix<'_>,
                x: &crate::Acts<'_>,
                rows: core::ops::Range<usize>,
                y: &mut crate::Tile<'_>,
                scratch: &mut [u8],
            ) {
                crate::backend::check_matmul(w, x, &rows, y);
                // SAFETY: a value of this type exists only where its features were found.
                unsafe {
                    match x {
                        crate::Acts::Dense(x) => super::dense(w, x, rows, y),
                        crate::Acts::Wide(_) => crate::backend::matmul_portable(w, x, rows, y),
                        crate::Acts::Q8(x) => crate::blocks::for_codes!(w.format(),
                            B => Self::quantized::<B>(w, x, rows, y, scratch),
                            dense => unreachable!("checked by check_matmul")),
                    }
                }
            }

            crate::arch::shared::operations!(methods![super::Lanes128]);
        }
    };
}
use backend;
