//! x86-64.

mod amx;
mod amx_panels;
mod amx_tiles;
mod avx2;
mod avx512;
mod avx512bw;
mod avxvnni;
mod columns16;
mod detect;
mod lanes256;
mod lanes512;
mod pair;
mod panels;
mod products;
mod rows16;
mod rows8;
mod sheets;
mod shuffle;
mod ternary;
mod ternary_panels;
mod unit256;
mod unit512;
mod unpack;
mod unpack16;
mod unpack16_k;
mod unpack_k;
mod unpack_ternary;
mod words;

pub use amx::Amx;
pub use avx2::Avx2;
pub use avx512::Avx512;
pub use avx512bw::Avx512Bw;
pub use avxvnni::AvxVnni;

use super::shared::{implement, operations};

operations!(implement![lanes256::Lanes256, "avx2,fma,f16c", 1]);
operations!(implement![lanes512::Lanes512, "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq", 4]);

/// A backend of x86-64: its type, which is the proof, and its products by the drivers that all
/// share.
macro_rules! x86_backend {
    (
        $(#[$doc:meta])*
        $name:ident, $str:literal, found: $found:ident, features: $features:literal,
        $(#[$needs:meta])*
        unchecked;
        lanes: $L:ty, unit: $U:ty, $(products: $P:ty, few: $few:ident,)? rows: $rows:ident,
        dense: $mr:literal x $nr:literal or $mr1:literal x 1
    ) => {
        use core::ops::Range;

        use super::panels::{self, Shape, Tiles, Unit};
        use super::ternary_panels::{self, Tiles3};
        use super::rows16::Few;
        use super::sheets;
        use super::unpack_ternary::Unpack3;
        use super::words::Words;
        use super::detect;
        use crate::acts::Q8Row;
        use crate::arch::shared::{methods, operations};
        use crate::backend::check_matmul;
        use crate::blocks::{Bf16, F16, F32, for_codes, for_ternary};
        use crate::entered::enter;
        use crate::ops::dense;
        use crate::{
            ActKind, Acts, Backend, DenseActs, Format, Matrix, Q8Acts, Tile, WideActs, WideRow,
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
            fn dense(w: &Matrix<'_>, x: &DenseActs<'_>, rows: Range<usize>, y: &mut Tile<'_>) {
                enter!($str, "dense");
                match w.format() {
                    Format::F32 => dense::matmul::<$L, F32, $mr, $nr, $mr1>(w, x, rows, y),
                    Format::F16 => dense::matmul::<$L, F16, $mr, $nr, $mr1>(w, x, rows, y),
                    Format::BF16 => dense::matmul::<$L, Bf16, $mr, $nr, $mr1>(w, x, rows, y),
                    _ => unreachable!("checked by check_matmul"),
                }
            }

            $(
                /// The driver for few columns.
                #[target_feature(enable = $features)]
                pub(super) fn rows8<B: Few>(
                    w: &Matrix<'_>,
                    x: &Q8Acts<'_>,
                    rows: Range<usize>,
                    y: &mut Tile<'_>,
                ) {
                    enter!($str, "rows8");
                    // SAFETY: compiled for the features that it needs.
                    unsafe { super::$few::matmul::<$P, B>(w, x, rows, y) }
                }

                /// The driver for few columns of repacked matrices.
                #[target_feature(enable = $features)]
                pub(super) fn sheets<B: Words>(
                    w: &Matrix<'_>,
                    x: &Q8Acts<'_>,
                    rows: Range<usize>,
                    y: &mut Tile<'_>,
                ) {
                    enter!($str, "sheets");
                    // SAFETY: compiled for the features that it needs; called for repacked matrices.
                    unsafe { sheets::matmul::<<$U as Unit>::One, B>(w, x, rows, y) }
                }

                /// The driver of ternary weights for few columns.
                #[target_feature(enable = $features)]
                pub(super) fn ternary8<B: Unpack3>(
                    w: &Matrix<'_>,
                    x: &WideActs<'_>,
                    rows: Range<usize>,
                    y: &mut Tile<'_>,
                ) {
                    enter!($str, "ternary8");
                    // SAFETY: compiled for the features that it needs.
                    unsafe { super::ternary::matmul::<$P, B>(w, x, rows, y) }
                }
            )?

            /// How many of `rows` go into whole panels.
            fn whole(rows: &Range<usize>) -> usize {
                rows.len() / <$U as Unit>::MR * <$U as Unit>::MR
            }

            /// Panels of as many rows as fit, where there are columns enough; the rest otherwise.
            ///
            /// # Safety
            /// The CPU has the features.
            unsafe fn quantized<B: Few + Words>(
                w: &Matrix<'_>,
                x: &Q8Acts<'_>,
                rows: Range<usize>,
                y: &mut Tile<'_>,
                scratch: &mut [u8],
            ) {
                let (mut first, mut cut) = (rows.start, rows.start);
                if x.n() >= panels::PANEL_COLS {
                    if w.is_repacked() {
                        // Where its groups of rows begin.
                        first = first.next_multiple_of(<$U as Unit>::MR).min(rows.end);
                    }
                    cut = first + Self::whole(&(first..rows.end));
                }
                // SAFETY: the caller's promise.
                unsafe {
                    if first < cut {
                        let mut part = y.cols(first - rows.start, cut - first);
                        panels::matmul::<Self, B>(w, x, first..cut, &mut part, scratch);
                    }
                    for rest in [rows.start..first, cut..rows.end] {
                        let mut part = y.cols(rest.start - rows.start, rest.len());
                        if w.is_repacked() {
                            $rows::sheets::<B>(w, x, rest, &mut part);
                        } else {
                            $rows::rows8::<B>(w, x, rest, &mut part);
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
                x: &WideActs<'_>,
                rows: Range<usize>,
                y: &mut Tile<'_>,
                scratch: &mut [u8],
            ) {
                let few = x.n() < ternary_panels::PANEL_COLS;
                let whole = if few { 0 } else { Self::whole(&rows) };
                let cut = rows.start + whole;
                // SAFETY: the caller's promise.
                unsafe {
                    if whole > 0 {
                        let mut part = y.cols(0, whole);
                        let rows = rows.start..cut;
                        ternary_panels::matmul::<Self, B>(w, x, rows, &mut part, scratch);
                    }
                    let mut rest = y.cols(whole, rows.end - cut);
                    $rows::ternary8::<B>(w, x, cut..rows.end, &mut rest);
                }
            }
        }

        impl Tiles for $name {
            type Unit = $U;

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
                    enter!($str, "panels");
                    // SAFETY: compiled for the unit's features; the rest by the caller.
                    unsafe { panels::tile::<$U, S, N, FINE>(panel, parts, terms, x, to) }
                }
                // SAFETY: the caller's promises.
                unsafe { run::<S, N, FINE>(panel, parts, terms, x, to) }
            }

            unsafe fn unpack_sheets<B: Words>(w: &Matrix<'_>, r: usize, panel: *mut u8, off: u8) {
                #[target_feature(enable = $features)]
                unsafe fn run<B: Words>(w: &Matrix<'_>, r: usize, panel: *mut u8, off: u8) {
                    enter!($str, "panels of sheets");
                    // SAFETY: compiled for the unit's features; the rest by the caller.
                    unsafe { sheets::unpack::<$U, B>(w, r, panel, off) }
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
                    enter!($str, "ternary panels");
                    // SAFETY: compiled for the unit's features; the rest by the caller.
                    unsafe { ternary_panels::tile::<$U, N>(panel, cols, x, to) }
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
                let mr = <$U as Unit>::MR;
                match format.acts() {
                    ActKind::Q8 if batch >= panels::PANEL_COLS => {
                        for_codes!(format, B => panels::scratch::<$U, B>(cols, batch), dense => 0)
                    }
                    ActKind::Wide if batch >= ternary_panels::PANEL_COLS => {
                        ternary_panels::scratch(mr, cols)
                    }
                    _ => 0,
                }
            }

            fn products_per_ms(&self) -> usize {
                1 << 26 // avx2; avx512 makes some four times as many
            }

            fn repacks(&self, format: Format) -> bool {
                // Q8_0 is as fast where it lies (avx2), or faster (avx512: 27 GB/s for 22).
                cfg!(feature = "repack") && format.acts() == ActKind::Q8 && format != Format::Q8_0
            }

            fn matmul(
                &self,
                w: &Matrix<'_>,
                x: &Acts<'_>,
                rows: Range<usize>,
                y: &mut Tile<'_>,
                scratch: &mut [u8],
            ) {
                check_matmul(w, x, &rows, y);
                // SAFETY: a value of this type exists only where its features were found.
                unsafe {
                    match x {
                        Acts::Dense(x) => Self::dense(w, x, rows, y),
                        Acts::Q8(x) => for_codes!(w.format(),
                            B => Self::quantized::<B>(w, x, rows, y, scratch),
                            dense => unreachable!("checked by check_matmul")),
                        Acts::Wide(x) => for_ternary!(w.format(),
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
