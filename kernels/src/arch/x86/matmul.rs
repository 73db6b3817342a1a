//! The product of a matrix: the choice among the drivers, once per call.
//!
//! ```text
//! activations  columns       driver
//! f32, ..      any           dense (`crate::ops::dense`)
//! Q8           few           gemv; for repacked matrices gemv_interleaved of one column,
//!                            gemm_interleaved of several
//! Q8           PANEL_COLS..  gemm for whole panels of rows, gemv for the others
//! wide         few           gemv_ternary
//! wide         PANEL_COLS..  gemm_ternary for whole panels of rows, gemv_ternary for the others
//! ```

use core::ops::Range;

use super::gemv512::Gemv512;
use super::isa::{DenseLanes, GemvSet, InstructionSet};
use super::simd_reg::SimdReg;
use super::unpack_interleaved::UnpackInterleaved;
use super::unpack_ternary::UnpackTernary;
use super::{gemm, gemm_interleaved, gemm_ternary, gemv_interleaved, gemv_ternary};
use crate::backend::check_matmul;
use crate::blocks::expanded::{self, for_drivers};
use crate::blocks::{for_dense, for_ternary};
use crate::ops::dense::LoadDense;
use crate::{
    ActivationKind, Activations, DenseActivations, Format, Matrix, Q8Activations, Tile,
    WideActivations,
};

/// Register of the drivers of few columns.
type Few<I> = <<<I as InstructionSet>::Gemv as InstructionSet>::Reg as SimdReg>::One;

/// [`crate::Backend::products_per_ms`]: measured, 80 to 120 million by `avx2`, 150 to 200 by `avx512`.
pub(super) const fn products_per_ms<I: InstructionSet>() -> usize {
    if I::Reg::NARROW { 1 << 26 } else { 1 << 27 }
}

/// Bytes of scratch that [`matmul`] needs.
pub(super) fn scratch<I: InstructionSet>(format: Format, cols: usize, batch: usize) -> usize {
    let terms = match format.activations() {
        ActivationKind::Q8 if batch >= gemm_interleaved::LEAST => {
            for_drivers!(format, B => gemm_interleaved::scratch::<Few<I>, B>(cols, batch), dense => 0)
        }
        _ => 0,
    };
    expanded::scratch(format, cols)
        + match format.activations() {
            ActivationKind::Q8 if batch >= gemm::PANEL_COLS => {
                for_drivers!(format, B => gemm::scratch::<I::Reg, B>(cols, batch), dense => 0)
            }
            ActivationKind::Wide if batch >= gemm_ternary::PANEL_COLS => {
                gemm_ternary::scratch(I::Reg::MR, cols)
            }
            _ => 0,
        }
        .max(terms)
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
    if w.is_to_expand() {
        return expanded::matmul(w, rows, y, scratch, |w, rows, y, scratch| {
            matmul(isa, w, x, rows, y, scratch);
        });
    }
    match x {
        Activations::Dense(x) => for_dense!(w.format(),
            B => dense::<I, B>(isa, w, x, rows, y),
            others => unreachable!("checked by check_matmul")),
        Activations::Q8(x) => for_drivers!(w.format(),
            B => quantized::<I, B>(isa, w, x, rows, y, scratch),
            dense => unreachable!("checked by check_matmul")),
        Activations::Wide(x) => for_ternary!(w.format(),
            B => ternary::<I, B>(isa, w, x, rows, y, scratch),
            others => unreachable!("checked by check_matmul")),
    }
}

fn dense<I: InstructionSet, B: LoadDense>(
    isa: I,
    w: &Matrix<'_>,
    x: &DenseActivations<'_>,
    rows: Range<usize>,
    y: &mut Tile<'_>,
) {
    isa.vectorize(
        "dense",
        #[inline(always)]
        move || I::Lanes::dense::<B>(w, x, rows, y),
    );
}

/// The number of `rows` that make whole panels.
fn whole<I: InstructionSet>(rows: &Range<usize>) -> usize {
    rows.len() / I::Reg::MR * I::Reg::MR
}

fn quantized<I: InstructionSet, B: Gemv512 + UnpackInterleaved>(
    isa: I,
    w: &Matrix<'_>,
    x: &Q8Activations<'_>,
    rows: Range<usize>,
    y: &mut Tile<'_>,
    scratch: &mut [u8],
) {
    let few = gemm_interleaved::LEAST..=gemm_interleaved::most::<Few<I>, B>();
    if w.is_repacked() && few.contains(&x.n()) {
        return few_of_repacked::<I::Gemv, B>(isa.gemv_set(), w, x, rows, y, scratch);
    }
    let (mut first, mut cut) = (rows.start, rows.start);
    if x.n() >= gemm::PANEL_COLS {
        if w.is_repacked() {
            // Panels begin where groups of interleaved rows do.
            first = first.next_multiple_of(I::Reg::MR).min(rows.end);
        }
        cut = first + whole::<I>(&(first..rows.end));
    }
    if first < cut {
        let mut part = y.cols(first - rows.start, cut - first);
        gemm::matmul::<I, B>(isa, w, x, first..cut, &mut part, scratch);
    }
    for rest in [rows.start..first, cut..rows.end] {
        let mut part = y.cols(rest.start - rows.start, rest.len());
        if w.is_repacked() {
            gemv_of_repacked::<I::Gemv, B>(isa.gemv_set(), w, x, rest, &mut part);
        } else {
            gemv::<I::Gemv, B>(isa.gemv_set(), w, x, rest, &mut part);
        }
    }
}

fn gemv<I: GemvSet, B: Gemv512>(
    isa: I,
    w: &Matrix<'_>,
    x: &Q8Activations<'_>,
    rows: Range<usize>,
    y: &mut Tile<'_>,
) {
    isa.vectorize(
        "gemv",
        #[inline(always)]
        // SAFETY: `isa` is the proof of the set.
        move || unsafe { I::gemv::<B>(w, x, rows, y) },
    );
}

fn gemv_of_repacked<I: GemvSet, B: UnpackInterleaved>(
    isa: I,
    w: &Matrix<'_>,
    x: &Q8Activations<'_>,
    rows: Range<usize>,
    y: &mut Tile<'_>,
) {
    isa.vectorize(
        "gemv interleaved",
        #[inline(always)]
        // SAFETY: `isa` is the proof of the set; the driver checks that the matrix is repacked.
        move || unsafe { gemv_interleaved::matmul::<<I::Reg as SimdReg>::One, B>(w, x, rows, y) },
    );
}

fn few_of_repacked<I: GemvSet, B: UnpackInterleaved>(
    isa: I,
    w: &Matrix<'_>,
    x: &Q8Activations<'_>,
    rows: Range<usize>,
    y: &mut Tile<'_>,
    scratch: &mut [u8],
) {
    isa.vectorize(
        "gemm of few columns",
        #[inline(always)]
        // SAFETY: `isa` is the proof of the set; the driver checks that the matrix is repacked.
        move || unsafe {
            gemm_interleaved::matmul::<<I::Reg as SimdReg>::One, B>(w, x, rows, y, scratch);
        },
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
    let whole = if x.n() < gemm_ternary::PANEL_COLS { 0 } else { whole::<I>(&rows) };
    let cut = rows.start + whole;
    if whole > 0 {
        let mut part = y.cols(0, whole);
        gemm_ternary::matmul::<I, B>(isa, w, x, rows.start..cut, &mut part, scratch);
    }
    let mut rest = y.cols(whole, rows.end - cut);
    ternary_gemv::<I::Gemv, B>(isa.gemv_set(), w, x, cut..rows.end, &mut rest);
}

fn ternary_gemv<I: GemvSet, B: UnpackTernary>(
    isa: I,
    w: &Matrix<'_>,
    x: &WideActivations<'_>,
    rows: Range<usize>,
    y: &mut Tile<'_>,
) {
    isa.vectorize(
        "gemv ternary",
        #[inline(always)]
        // SAFETY: `isa` is the proof of the set.
        move || unsafe { gemv_ternary::matmul::<I::Dot, B>(w, x, rows, y) },
    );
}

/// [`crate::Backend`] of an instruction set: products by the drivers above, everything else over the
/// lanes `$L`.
macro_rules! backend {
    ($set:ident, $L:ty) => {
        impl $crate::Backend for $set {
            fn name(&self) -> &'static str {
                <$set as InstructionSet>::NAME
            }
            fn products_per_ms(&self) -> usize {
                $crate::arch::x86::matmul::products_per_ms::<$set>()
            }
            fn repacks(&self, format: $crate::Format) -> bool {
                // Q8_0 is as fast where it lies (avx2), or faster (avx512: 27 GB/s for 22).
                $crate::repack::is_repacked(format) && format != $crate::Format::Q8_0
            }
            fn matmul_scratch(&self, format: $crate::Format, cols: usize, batch: usize) -> usize {
                $crate::arch::x86::matmul::scratch::<$set>(format, cols, batch)
            }
            fn matmul(
                &self,
                w: &$crate::Matrix<'_>,
                x: &$crate::Activations<'_>,
                rows: core::ops::Range<usize>,
                y: &mut $crate::Tile<'_>,
                scratch: &mut [u8],
            ) {
                $crate::arch::x86::matmul::matmul(*self, w, x, rows, y, scratch);
            }
            $crate::arch::shared::operations!(methods![$L]);
        }
    };
}
pub(super) use backend;
