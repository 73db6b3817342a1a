//! The product of a matrix: the choice among the drivers, once per call.

use core::ops::Range;

use super::isa::InstructionSet;
use super::lanes::Lanes128;
use super::unpack::Unpack;
use super::unpack_ternary::UnpackTernary;
use super::{gemm, gemm_ternary};
use crate::backend::{check_matmul, matmul_portable};
use crate::blocks::expanded::{self, for_drivers};
use crate::blocks::{for_dense, for_ternary};
use crate::{
    ActivationKind, Activations, DenseActivations, Format, Matrix, Q8Activations, Tile,
    WideActivations,
};

/// Bytes of scratch that [`matmul`] needs.
pub(super) fn scratch(format: Format, cols: usize, batch: usize) -> usize {
    expanded::scratch(format, cols)
        + match format.activations() {
            _ if batch < gemm::PANEL_COLS => 0,
            ActivationKind::Dense => 0,
            ActivationKind::Wide => gemm_ternary::scratch(cols),
            ActivationKind::Q8 => for_drivers!(format, B => gemm::scratch::<B>(cols), dense => 0),
        }
}

/// [`crate::Backend::matmul`].
pub(super) fn matmul<I: InstructionSet>(
    isa: I,
    w: &Matrix<'_>,
    x: &Activations<'_>,
    rows: Range<usize>,
    y: &mut Tile<'_>,
    scratch: &mut [u8],
) {
    check_matmul(w, x, &rows, y);
    if w.is_repacked() {
        return matmul_portable(w, x, rows, y);
    }
    if w.is_to_expand() {
        return expanded::matmul(w, rows, y, scratch, |w, rows, y, scratch| {
            matmul(isa, w, x, rows, y, scratch);
        });
    }
    match x {
        // SAFETY: every target of this module has NEON.
        Activations::Dense(x) => unsafe { dense(w, x, rows, y) },
        Activations::Q8(x) => for_drivers!(w.format(),
            B => quantized::<I, B>(isa, w, x, rows, y, scratch),
            dense => unreachable!("checked by check_matmul")),
        Activations::Wide(x) => for_ternary!(w.format(),
            B => ternary::<I, B>(isa, w, x, rows, y, scratch),
            others => unreachable!("checked by check_matmul")),
    }
}

/// Products of dense weights, the same for all sets.
#[target_feature(enable = "neon")]
fn dense(w: &Matrix<'_>, x: &DenseActivations<'_>, rows: Range<usize>, y: &mut Tile<'_>) {
    use crate::ops::dense::matmul;
    crate::entered::enter!("neon", "dense");
    for_dense!(w.format(), B => matmul::<Lanes128, B, 2, 2, 4>(w, x, rows, y),
        others => unreachable!("checked by check_matmul"))
}

fn quantized<I: InstructionSet, B: Unpack>(
    isa: I,
    w: &Matrix<'_>,
    x: &Q8Activations<'_>,
    rows: Range<usize>,
    y: &mut Tile<'_>,
    scratch: &mut [u8],
) {
    isa.vectorize(
        "quantized",
        #[inline(always)]
        // SAFETY: `isa` is the proof of the instructions.
        move || unsafe { gemm::matmul::<I, B>(isa, w, x, rows, y, scratch) },
    );
}

fn ternary<I: InstructionSet, B: UnpackTernary>(
    isa: I,
    w: &Matrix<'_>,
    x: &WideActivations<'_>,
    rows: Range<usize>,
    y: &mut Tile<'_>,
    scratch: &mut [u8],
) {
    isa.vectorize(
        "ternary",
        #[inline(always)]
        // SAFETY: `isa` is the proof of the instructions.
        move || unsafe { gemm_ternary::matmul::<I, B>(isa, w, x, rows, y, scratch) },
    );
}

/// [`InstructionSet`] and [`crate::Backend`] of `$set`, with the products of bytes `$gemm`.
macro_rules! backend {
    ($set:ident, $name:literal, $features:literal, $gemm:ty) => {
        impl $crate::arch::aarch64::isa::InstructionSet for $set {
            type Gemm = $gemm;

            #[inline(always)]
            fn vectorize<R>(self, what: &'static str, f: impl FnOnce() -> R) -> R {
                #[target_feature(enable = $features)]
                fn trampoline<R>(what: &'static str, f: impl FnOnce() -> R) -> R {
                    $crate::entered::enter!($name, what);
                    f()
                }
                // SAFETY: a value of this type exists only where its features were found.
                unsafe { trampoline(what, f) }
            }
        }

        impl $crate::Backend for $set {
            fn name(&self) -> &'static str {
                $name
            }
            fn products_per_ms(&self) -> usize {
                1 << 24 // an estimate: measured on no such machine
            }
            fn matmul_scratch(&self, format: $crate::Format, cols: usize, batch: usize) -> usize {
                $crate::arch::aarch64::matmul::scratch(format, cols, batch)
            }
            fn matmul(
                &self,
                w: &$crate::Matrix<'_>,
                x: &$crate::Activations<'_>,
                rows: core::ops::Range<usize>,
                y: &mut $crate::Tile<'_>,
                scratch: &mut [u8],
            ) {
                $crate::arch::aarch64::matmul::matmul(*self, w, x, rows, y, scratch);
            }
            $crate::arch::shared::operations!(methods![$crate::arch::aarch64::lanes::Lanes128]);
        }
    };
}
pub(super) use backend;

/// The type of a backend, which is the proof that the CPU has what it needs.
macro_rules! proof {
    ($(#[$doc:meta])* $set:ident, found: $found:ident, $(#[$needs:meta])* unchecked) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub struct $set(());

        impl $set {
            /// The backend, if the CPU supports it.
            #[must_use]
            pub fn new() -> Option<Self> {
                $crate::arch::aarch64::detect::detect().$found.then_some($set(()))
            }

            /// The backend, unchecked.
            ///
            /// # Safety
            $(#[$needs])*
            #[must_use]
            pub unsafe fn new_unchecked() -> Self {
                $set(())
            }
        }
    };
}
pub(super) use proof;
