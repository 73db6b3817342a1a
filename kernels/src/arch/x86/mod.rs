//! x86-64.

mod amx;
mod amx_gemm;
mod amx_tiles;
mod avx2;
mod avx512;
mod avx512bw;
mod avxvnni;
mod detect;
mod dot;
mod gemm;
mod gemm_ternary;
mod gemv256;
mod gemv512;
mod gemv512_columns;
mod gemv_interleaved;
mod lanes256;
mod lanes512;
mod shuffle;
mod simd_pair;
mod simd_reg256;
mod simd_reg512;
mod ternary;
mod unpack;
mod unpack16;
mod unpack16_k;
mod unpack_interleaved;
mod unpack_k;
mod unpack_ternary;

pub use amx::Amx;
pub use avx2::Avx2;
pub use avx512::Avx512;
pub use avx512bw::Avx512Bw;
pub use avxvnni::AvxVnni;

use super::shared::{implement, operations};

operations!(implement![lanes256::Lanes256, "avx2,fma,f16c"]);
operations!(implement![lanes512::Lanes512, "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq"]);

/// A backend of x86-64: its type, which is the proof, and its products by the drivers that all
/// share.
macro_rules! x86_backend {
    (
        $(#[$doc:meta])*
        $name:ident, $str:literal, found: $found:ident, features: $features:literal,
        $(#[$needs:meta])*
        unchecked;
        lanes: $L:ty, reg: $U:ty, $(dot: $P:ty, few: $few:ident,)? rows: $rows:ident,
        dense: $mr:literal x $nr:literal or $mr1:literal x 1
    ) => {
        use core::ops::Range;

        use super::gemm::{self, Shape, SimdReg, Tiles};
        use super::gemm_ternary::{self, Tiles3};
        use super::gemv512::Few;
        use super::gemv_interleaved;
        use super::unpack_ternary::Unpack3;
        use super::unpack_interleaved::UnpackInterleaved;
        use super::detect;
        use crate::activations::Q8Row;
        use crate::arch::shared::{methods, operations};
        use crate::backend::check_matmul;
        use crate::blocks::{for_codes, for_dense, for_ternary};
        use crate::entered::enter;
        use crate::ops::dense;
        use crate::{
            ActivationKind, Activations, Backend, DenseActivations, Format, Matrix, Q8Activations,
            Tile, WideActivations, WideRow,
        };

        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub struct $name(());

        impl $name {
            /// The backend, where the CPU and the operating system have what it needs.
            #[must_use]
            pub fn new() -> Option<Self> {
                detect::detect().$found.then_some($name(()))
            }

            /// The backend, unchecked.
            ///
            /// # Safety
            $(#[$needs])*
            #[must_use]
            pub unsafe fn new_unchecked() -> Self {
                $name(())
            }

            #[target_feature(enable = $features)]
            fn dense(
                w: &Matrix<'_>,
                x: &DenseActivations<'_>,
                rows: Range<usize>,
                y: &mut Tile<'_>,
            ) {
                enter!($str, "dense");
                for_dense!(w.format(), B => dense::matmul::<$L, B, $mr, $nr, $mr1>(w, x, rows, y),
                    others => unreachable!("checked by check_matmul"))
            }

            $(
                /// The driver for few columns.
                #[target_feature(enable = $features)]
                pub(super) fn gemv<B: Few>(
                    w: &Matrix<'_>,
                    x: &Q8Activations<'_>,
                    rows: Range<usize>,
                    y: &mut Tile<'_>,
                ) {
                    enter!($str, "gemv");
                    // SAFETY: compiled for the features that it needs.
                    unsafe { super::$few::matmul::<$P, B>(w, x, rows, y) }
                }

                /// The driver for few columns of repacked matrices.
                #[target_feature(enable = $features)]
                pub(super) fn gemv_interleaved<B: UnpackInterleaved>(
                    w: &Matrix<'_>,
                    x: &Q8Activations<'_>,
                    rows: Range<usize>,
                    y: &mut Tile<'_>,
                ) {
                    enter!($str, "gemv interleaved");
                    // SAFETY: compiled for the features that it needs; called for repacked matrices.
                    unsafe { gemv_interleaved::matmul::<<$U as SimdReg>::One, B>(w, x, rows, y) }
                }

                /// The driver of ternary weights for few columns.
                #[target_feature(enable = $features)]
                pub(super) fn gemv_ternary<B: Unpack3>(
                    w: &Matrix<'_>,
                    x: &WideActivations<'_>,
                    rows: Range<usize>,
                    y: &mut Tile<'_>,
                ) {
                    enter!($str, "gemv ternary");
                    // SAFETY: compiled for the features that it needs.
                    unsafe { super::ternary::matmul::<$P, B>(w, x, rows, y) }
                }
            )?

            /// How many of `rows` go into whole panels.
            fn whole(rows: &Range<usize>) -> usize {
                rows.len() / <$U as SimdReg>::MR * <$U as SimdReg>::MR
            }

            /// Panels of as many rows as fit, where there are columns enough; the rest otherwise.
            ///
            /// # Safety
            /// The CPU has the features.
            unsafe fn quantized<B: Few + UnpackInterleaved>(
                w: &Matrix<'_>,
                x: &Q8Activations<'_>,
                rows: Range<usize>,
                y: &mut Tile<'_>,
                scratch: &mut [u8],
            ) {
                let (mut first, mut cut) = (rows.start, rows.start);
                if x.n() >= gemm::PANEL_COLS {
                    if w.is_repacked() {
                        // Where its groups of rows begin.
                        first = first.next_multiple_of(<$U as SimdReg>::MR).min(rows.end);
                    }
                    cut = first + Self::whole(&(first..rows.end));
                }
                // SAFETY: the caller's promise.
                unsafe {
                    if first < cut {
                        let mut part = y.cols(first - rows.start, cut - first);
                        gemm::matmul::<Self, B>(w, x, first..cut, &mut part, scratch);
                    }
                    for rest in [rows.start..first, cut..rows.end] {
                        let mut part = y.cols(rest.start - rows.start, rest.len());
                        if w.is_repacked() {
                            $rows::gemv_interleaved::<B>(w, x, rest, &mut part);
                        } else {
                            $rows::gemv::<B>(w, x, rest, &mut part);
                        }
                    }
                }
            }

            /// The same for ternary weights.
            ///
            /// # Safety
            /// The CPU has the features.
            unsafe fn ternary<B: Unpack3>(
                w: &Matrix<'_>,
                x: &WideActivations<'_>,
                rows: Range<usize>,
                y: &mut Tile<'_>,
                scratch: &mut [u8],
            ) {
                let few = x.n() < gemm_ternary::PANEL_COLS;
                let whole = if few { 0 } else { Self::whole(&rows) };
                let cut = rows.start + whole;
                // SAFETY: the caller's promise.
                unsafe {
                    if whole > 0 {
                        let mut part = y.cols(0, whole);
                        let rows = rows.start..cut;
                        gemm_ternary::matmul::<Self, B>(w, x, rows, &mut part, scratch);
                    }
                    let mut rest = y.cols(whole, rows.end - cut);
                    $rows::gemv_ternary::<B>(w, x, cut..rows.end, &mut rest);
                }
            }
        }

        impl Tiles for $name {
            type SimdReg = $U;

            unsafe fn tile<S: Shape, const N: usize, const FINE: bool>(
                panel: *const u8,
                parts: usize,
                terms: (i32, &[i32]),
                x: Q8Row<'_>,
                to: [*mut f32; N],
            ) {
                #[target_feature(enable = $features)]
                unsafe fn run<S: Shape, const N: usize, const FINE: bool>(
                    panel: *const u8,
                    parts: usize,
                    terms: (i32, &[i32]),
                    x: Q8Row<'_>,
                    to: [*mut f32; N],
                ) {
                    enter!($str, "gemm");
                    // SAFETY: compiled for the register's features; the rest by the caller.
                    unsafe { gemm::tile::<$U, S, N, FINE>(panel, parts, terms, x, to) }
                }
                // SAFETY: the caller's promises.
                unsafe { run::<S, N, FINE>(panel, parts, terms, x, to) }
            }

            unsafe fn unpack_interleaved<B: UnpackInterleaved>(
                w: &Matrix<'_>,
                r: usize,
                panel: *mut u8,
                off: u8,
            ) {
                #[target_feature(enable = $features)]
                unsafe fn run<B: UnpackInterleaved>(
                    w: &Matrix<'_>,
                    r: usize,
                    panel: *mut u8,
                    off: u8,
                ) {
                    enter!($str, "gemm interleaved");
                    // SAFETY: compiled for the register's features; the rest by the caller.
                    unsafe { gemv_interleaved::unpack::<$U, B>(w, r, panel, off) }
                }
                // SAFETY: the caller's promises.
                unsafe { run::<B>(w, r, panel, off) }
            }
        }

        impl Tiles3 for $name {
            unsafe fn tile3<const N: usize>(
                panel: *const u8,
                cols: usize,
                x: WideRow<'_>,
                to: [*mut f32; N],
            ) {
                #[target_feature(enable = $features)]
                unsafe fn run<const N: usize>(
                    panel: *const u8,
                    cols: usize,
                    x: WideRow<'_>,
                    to: [*mut f32; N],
                ) {
                    enter!($str, "gemm ternary");
                    // SAFETY: compiled for the register's features; the rest by the caller.
                    unsafe { gemm_ternary::tile::<$U, N>(panel, cols, x, to) }
                }
                // SAFETY: the caller's promises.
                unsafe { run::<N>(panel, cols, x, to) }
            }
        }

        impl Backend for $name {
            fn name(&self) -> &'static str {
                $str
            }

            fn matmul_scratch(&self, format: Format, cols: usize, batch: usize) -> usize {
                let mr = <$U as SimdReg>::MR;
                match format.activations() {
                    ActivationKind::Q8 if batch >= gemm::PANEL_COLS => {
                        for_codes!(format, B => gemm::scratch::<$U, B>(cols, batch), dense => 0)
                    }
                    ActivationKind::Wide if batch >= gemm_ternary::PANEL_COLS => {
                        gemm_ternary::scratch(mr, cols)
                    }
                    _ => 0,
                }
            }

            fn products_per_ms(&self) -> usize {
                1 << 26 // avx2; avx512 makes some four times as many
            }

            fn repacks(&self, format: Format) -> bool {
                // Q8_0 is as fast where it lies (avx2), or faster (avx512: 27 GB/s for 22).
                cfg!(feature = "repack")
                    && format.activations() == ActivationKind::Q8
                    && format != Format::Q8_0
            }

            fn matmul(
                &self,
                w: &Matrix<'_>,
                x: &Activations<'_>,
                rows: Range<usize>,
                y: &mut Tile<'_>,
                scratch: &mut [u8],
            ) {
                check_matmul(w, x, &rows, y);
                // SAFETY: a value of this type exists only where its features were found.
                unsafe {
                    match x {
                        Activations::Dense(x) => Self::dense(w, x, rows, y),
                        Activations::Q8(x) => for_codes!(w.format(),
                            B => Self::quantized::<B>(w, x, rows, y, scratch),
                            dense => unreachable!("checked by check_matmul")),
                        Activations::Wide(x) => for_ternary!(w.format(),
                            B => Self::ternary::<B>(w, x, rows, y, scratch),
                            others => unreachable!("checked by check_matmul")),
                    }
                }
            }

            operations!(methods![$L]);
        }
    };
}
use x86_backend;
