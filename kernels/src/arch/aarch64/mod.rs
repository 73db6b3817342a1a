//! AArch64, little-endian, with NEON.

use core::ops::Range;

use super::shared::{implement, operations};
use crate::blocks::for_dense;
use crate::{DenseActivations, Matrix, Tile};

mod detect;
mod dotprod;
mod gemm;
mod gemm_ternary;
mod gemv;
mod gemv_ternary;
mod i8mm;
mod lanes;
mod neon;
mod unpack;
mod unpack_ternary;

pub use dotprod::Dotprod;
pub use i8mm::I8mm;
use lanes::Lanes128;
pub use neon::Neon;

operations!(implement![Lanes128, "neon"]);

/// Products of dense weights: the sets differ in products of bytes alone.
#[target_feature(enable = "neon")]
fn dense(w: &Matrix<'_>, x: &DenseActivations<'_>, rows: Range<usize>, y: &mut Tile<'_>) {
    use crate::ops::dense::matmul;
    crate::entered::enter!("neon", "dense");
    for_dense!(w.format(), B => matmul::<Lanes128, B, 2, 2, 4>(w, x, rows, y),
        others => unreachable!("checked by check_matmul"))
}

/// The type of a backend, which is the proof that the CPU has what it needs.
macro_rules! proof {
    ($(#[$doc:meta])* $name:ident, found: $found:ident, $(#[$needs:meta])* unchecked) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub struct $name(());

        impl $name {
            /// The backend, where the CPU has what it needs.
            #[must_use]
            pub fn new() -> Option<Self> {
                super::detect::detect().$found.then_some($name(()))
            }

            /// The backend, unchecked.
            ///
            /// # Safety
            $(#[$needs])*
            #[must_use]
            pub unsafe fn new_unchecked() -> Self {
                $name(())
            }
        }
    };
}
use proof;

/// The operations of a backend: products of quantised weights by the drivers of this architecture,
/// with `$P` to multiply bytes; all others are the same for all of them.
macro_rules! backend {
    ($name:ident, $str:literal, $features:literal, $P:ty) => {
        use crate::arch::shared::methods;

        impl $name {
            #[target_feature(enable = $features)]
            fn quantized<B: super::unpack::Unpack>(
                w: &crate::Matrix<'_>,
                x: &crate::Q8Activations<'_>,
                rows: core::ops::Range<usize>,
                y: &mut crate::Tile<'_>,
                scratch: &mut [u8],
            ) {
                crate::entered::enter!($str, "quantized");
                // SAFETY: compiled for the features that `$P` needs.
                unsafe { super::gemm::matmul::<$P, B>(w, x, rows, y, scratch) };
            }

            #[target_feature(enable = $features)]
            fn ternary<B: super::unpack_ternary::Unpack3>(
                w: &crate::Matrix<'_>,
                x: &crate::WideActivations<'_>,
                rows: core::ops::Range<usize>,
                y: &mut crate::Tile<'_>,
                scratch: &mut [u8],
            ) {
                crate::entered::enter!($str, "ternary");
                // SAFETY: compiled for the features that `$P` needs.
                unsafe { super::gemm_ternary::matmul::<$P, B>(w, x, rows, y, scratch) };
            }
        }

        impl super::gemm::Tiles for $P {
            #[target_feature(enable = $features)]
            unsafe fn tile<
                const STEPS: usize,
                const MINS: bool,
                const SMALL: bool,
                const FINE: bool,
            >(
                panel: &super::gemm::Panel<'_>,
                x: &crate::Q8Activations<'_>,
                t: usize,
                at: usize,
                y: &mut crate::Tile<'_>,
            ) {
                crate::entered::enter!($str, "gemm");
                // SAFETY: compiled for the set; the rest by the caller's promise.
                unsafe { super::gemm::tile::<$P, STEPS, MINS, SMALL, FINE>(panel, x, t, at, y) }
            }

            #[target_feature(enable = $features)]
            unsafe fn tile3(
                panel: &super::gemm_ternary::Panel<'_>,
                x: &crate::WideActivations<'_>,
                t: usize,
                at: usize,
                y: &mut crate::Tile<'_>,
            ) {
                crate::entered::enter!($str, "gemm ternary");
                // SAFETY: compiled for the set; the rest by the caller's promise.
                unsafe { super::gemm_ternary::tile::<$P>(panel, x, t, at, y) }
            }
        }

        impl crate::Backend for $name {
            fn name(&self) -> &'static str {
                $str
            }

            fn products_per_ms(&self) -> usize {
                1 << 24 // an estimate: measured on no such machine
            }

            fn matmul_scratch(&self, format: crate::Format, cols: usize, batch: usize) -> usize {
                use super::{gemm, gemm_ternary};
                match format.activations() {
                    _ if batch < gemm::PANEL_COLS => 0,
                    crate::ActivationKind::Dense => 0,
                    crate::ActivationKind::Wide => gemm_ternary::scratch(cols),
                    crate::ActivationKind::Q8 => crate::blocks::for_codes!(format,
                        B => gemm::scratch::<B>(cols), dense => 0),
                }
            }

            fn matmul(
                &self,
                w: &crate::Matrix<'_>,
                x: &crate::Activations<'_>,
                rows: core::ops::Range<usize>,
                y: &mut crate::Tile<'_>,
                scratch: &mut [u8],
            ) {
                crate::backend::check_matmul(w, x, &rows, y);
                if w.is_repacked() {
                    return crate::backend::matmul_portable(w, x, rows, y);
                }
                // SAFETY: a value of this type exists only where its features were found.
                unsafe {
                    match x {
                        crate::Activations::Dense(x) => super::dense(w, x, rows, y),
                        crate::Activations::Wide(x) => crate::blocks::for_ternary!(w.format(),
                            B => Self::ternary::<B>(w, x, rows, y, scratch),
                            others => unreachable!("checked by check_matmul")),
                        crate::Activations::Q8(x) => crate::blocks::for_codes!(w.format(),
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
