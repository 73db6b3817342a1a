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
mod ternary_panels;
mod ternary_rows;
mod unpack;
mod unpack_ternary;

pub use dotprod::Dotprod;
pub use i8mm::I8mm;
use lanes::Lanes128;
pub use neon::Neon;

operations!(implement![Lanes128, "neon", 1]);

/// Products of dense weights: the sets differ in products of bytes alone.
#[target_feature(enable = "neon")]
fn dense(w: &Matrix<'_>, x: &DenseActs<'_>, rows: Range<usize>, y: &mut Tile<'_>) {
    use crate::ops::dense::matmul;
    crate::entered::enter!("neon", "dense");
    match w.format() {
        Format::F32 => matmul::<Lanes128, F32, 2, 2, 4>(w, x, rows, y),
        Format::F16 => matmul::<Lanes128, F16, 2, 2, 4>(w, x, rows, y),
        Format::BF16 => matmul::<Lanes128, Bf16, 2, 2, 4>(w, x, rows, y),
        _ => unreachable!("checked by check_matmul"),
    }
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
                x: &crate::Q8Acts<'_>,
                rows: core::ops::Range<usize>,
                y: &mut crate::Tile<'_>,
                scratch: &mut [u8],
            ) {
                crate::entered::enter!($str, "quantized");
                // SAFETY: compiled for the features that `$P` needs.
                unsafe { super::panels::matmul::<$P, B>(w, x, rows, y, scratch) };
            }

            #[target_feature(enable = $features)]
            fn ternary<B: super::unpack_ternary::Unpack3>(
                w: &crate::Matrix<'_>,
                x: &crate::WideActs<'_>,
                rows: core::ops::Range<usize>,
                y: &mut crate::Tile<'_>,
                scratch: &mut [u8],
            ) {
                crate::entered::enter!($str, "ternary");
                // SAFETY: compiled for the features that `$P` needs.
                unsafe { super::ternary_panels::matmul::<$P, B>(w, x, rows, y, scratch) };
            }
        }

        impl super::panels::Tiles for $P {
            #[target_feature(enable = $features)]
            unsafe fn tile<
                const STEPS: usize,
                const MINS: bool,
                const SMALL: bool,
                const FINE: bool,
            >(
                panel: &super::panels::Panel<'_>,
                x: &crate::Q8Acts<'_>,
                t: usize,
                at: usize,
                y: &mut crate::Tile<'_>,
            ) {
                crate::entered::enter!($str, "panels");
                // SAFETY: compiled for the set; the rest by the caller's promise.
                unsafe { super::panels::tile::<$P, STEPS, MINS, SMALL, FINE>(panel, x, t, at, y) }
            }

            #[target_feature(enable = $features)]
            unsafe fn tile3(
                panel: &super::ternary_panels::Panel<'_>,
                x: &crate::WideActs<'_>,
                t: usize,
                at: usize,
                y: &mut crate::Tile<'_>,
            ) {
                crate::entered::enter!($str, "ternary panels");
                // SAFETY: compiled for the set; the rest by the caller's promise.
                unsafe { super::ternary_panels::tile::<$P>(panel, x, t, at, y) }
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
                use super::{panels, ternary_panels};
                match format.acts() {
                    _ if batch < panels::PANEL_COLS => 0,
                    crate::ActKind::Dense => 0,
                    crate::ActKind::Wide => ternary_panels::scratch(cols),
                    crate::ActKind::Q8 => crate::blocks::for_codes!(format,
                        B => panels::scratch::<B>(cols), dense => 0),
                }
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
                if w.is_repacked() {
                    return crate::backend::matmul_portable(w, x, rows, y);
                }
                // SAFETY: a value of this type exists only where its features were found.
                unsafe {
                    match x {
                        crate::Acts::Dense(x) => super::dense(w, x, rows, y),
                        crate::Acts::Wide(x) => crate::blocks::for_ternary!(w.format(),
                            B => Self::ternary::<B>(w, x, rows, y, scratch),
                            others => unreachable!("checked by check_matmul")),
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
