//! The gemm driver of ternary weights: the loops and the steps of `gemm.rs`, with a vector of scales
//! for every 256 columns.
//!
//! ```text
//! for each panel of 8 rows, for each tile of 4 columns
//!     for each group of 256 columns (or of the 128 at the end)
//!         sums[n] = products of the group's 16 (or 8) steps with codes of x[n]
//!         acc[n] += scales * dx[n] * sums[n]
//! ```

#![allow(clippy::needless_range_loop)] // tiles of a constant size, unrolled by their indices

use core::arch::aarch64::*;
use core::ops::Range;

use super::gemm::{PANEL_COLS, panels};
use super::gemv_ternary;
use super::isa::InstructionSet;
use super::panel::{Gemm, HALF, MR, NR, STEP, Step};
use super::unpack_ternary::{REGISTERS, STEPS, UnpackTernary};
use crate::{Matrix, Tile, WIDE_BLOCK, WIDE_UNIT, WideActivations};

/// A panel: steps, and vectors of scales of groups.
pub(super) struct Panel<'a> {
    steps: &'a mut [Step],
    scales: &'a mut [[f32; MR]],
}

/// Bytes of a panel of rows with `cols` weights.
#[must_use]
pub(super) const fn scratch(cols: usize) -> usize {
    (cols + cols.div_ceil(WIDE_BLOCK) * size_of::<f32>()) * MR
}

impl<'a> Panel<'a> {
    fn new(cols: usize, scratch: &'a mut [u8]) -> Self {
        let (steps, scales) = scratch[..self::scratch(cols)].split_at_mut(cols * MR);
        Panel { steps: bytemuck::cast_slice_mut(steps), scales: bytemuck::cast_slice_mut(scales) }
    }

    /// Packs eight rows of blocks.
    ///
    /// # Safety
    /// The CPU has the instructions of `P`.
    #[inline(always)]
    unsafe fn pack<P: Gemm, B: UnpackTernary>(&mut self, w: [&[B]; MR], scale: f32) {
        const { assert!(B::STEPS <= STEPS) }
        let (blocks, per) = (w[0].len(), WIDE_BLOCK / B::LEN);
        assert!(w.iter().all(|w| w.len() == blocks));
        assert!(self.steps.len() == blocks * B::LEN / STEP);
        assert!(self.scales.len() == blocks.div_ceil(per));
        for b in 0..blocks {
            let mut at = [w[0].as_ptr(); MR];
            for (at, w) in at.iter_mut().zip(w) {
                *at = &raw const w[b];
            }
            let to = &mut self.steps[b * B::LEN / STEP..][..B::LEN / STEP];
            // SAFETY: the caller's promise; a block lies at each of `at`; eight floats at `scales`.
            unsafe {
                if b % per == 0 {
                    let scales = self.scales[b / per].as_mut_ptr();
                    let [a, b, c, d, e, f, g, h] = at;
                    vst1q_f32(scales, B::scales4([a, b, c, d], scale));
                    vst1q_f32(scales.add(4), B::scales4([e, f, g, h], scale));
                }
                arrange::<P, B, 0>(at, to);
                arrange::<P, B, 1>(at, to);
                arrange::<P, B, 2>(at, to);
                arrange::<P, B, 3>(at, to);
            }
        }
    }
}

/// Writes the weights of step `I` of a block of each row where they belong in the block's part of a
/// panel.
///
/// # Safety
/// The CPU has the instructions of `P`; a block lies at each of `w`.
#[inline(always)]
unsafe fn arrange<P: Gemm, B: UnpackTernary, const I: usize>(w: [*const B; MR], to: &mut [Step]) {
    if I >= B::STEPS {
        return;
    }
    // SAFETY: the caller's promises.
    unsafe {
        let mut weights = [[vdupq_n_s8(0); MR]; REGISTERS];
        for r in 0..MR {
            let bytes = B::bytes::<I>(w[r]);
            for k in 0..REGISTERS {
                let mut v = bytes[k];
                if B::FOURFOLD == Some(k) {
                    v = vshrq_n_s8::<2>(v);
                }
                if B::BIAS != 0 {
                    v = vsubq_s8(v, vdupq_n_s8(B::BIAS));
                }
                weights[k][r] = v;
            }
        }
        for k in 0..REGISTERS {
            if let Some(at) = B::place::<I>(k) {
                to[at / STEP] = P::arrange(weights[k]);
            }
        }
    }
}

/// The micro-kernel: the outputs of eight rows, from output `at` on, for the columns of a tile, from column `t` on.
///
/// # Safety
/// The CPU has the instructions of `P`; the panel's bytes are -1..=2.
#[inline(always)]
unsafe fn tile<P: Gemm>(
    panel: &Panel<'_>,
    x: &WideActivations<'_>,
    t: usize,
    at: usize,
    y: &mut Tile<'_>,
) {
    // Checked here, so that the loop needs no checks: whole columns, as long as the panel.
    let cols = panel.steps.len() * STEP;
    let groups = cols.div_ceil(WIDE_BLOCK);
    assert!(x.cols() == cols && panel.scales.len() == groups);
    let x = x.rows_from(t, NR);
    let (q, d) = (x.q.as_ptr(), x.d.as_ptr());
    // SAFETY: the instructions by the caller's promise; half a group of the panel and of all columns,
    // of which there are two where the row has not ended; eight floats behind `scales`.
    unsafe {
        let mut acc = [[vdupq_n_f32(0.0); 2]; NR];
        let mut halves = panel.steps.as_chunks::<HALF>().0.iter().enumerate();
        for (g, scales) in panel.scales.iter().enumerate() {
            let mut isum = [[vdupq_n_s32(0); 2]; NR];
            for (half, steps) in halves.by_ref().take(WIDE_BLOCK / WIDE_UNIT) {
                let q = q.add(half * WIDE_UNIT);
                let q = [q, q.add(cols), q.add(2 * cols), q.add(3 * cols)];
                let sums = P::ternary_sums(steps, q);
                for n in 0..NR {
                    for h in 0..2 {
                        isum[n][h] = vaddq_s32(isum[n][h], sums[n][h]);
                    }
                }
            }
            let scales = [vld1q_f32(scales.as_ptr()), vld1q_f32(scales.as_ptr().add(4))];
            for n in 0..NR {
                let dx = *d.add(n * groups + g);
                for h in 0..2 {
                    let t = vmulq_f32(vmulq_n_f32(scales[h], dx), vcvtq_f32_s32(isum[n][h]));
                    acc[n][h] = vaddq_f32(acc[n][h], t);
                }
            }
        }
        for (n, a) in acc.into_iter().enumerate() {
            let to = y.row(t + n)[at..][..MR].as_mut_ptr();
            vst1q_f32(to, a[0]);
            vst1q_f32(to.add(4), a[1]);
        }
    }
}

/// [`tile`], compiled for the set. All formats share it.
///
/// # Safety
/// The panel's bytes are -1..=2.
unsafe fn put<I: InstructionSet>(
    isa: I,
    panel: &Panel<'_>,
    x: &WideActivations<'_>,
    t: usize,
    at: usize,
    y: &mut Tile<'_>,
) {
    isa.vectorize(
        "gemm ternary",
        #[inline(always)]
        // SAFETY: `isa` is the proof of the instructions; the rest by the caller's promise.
        move || unsafe { tile::<I::Gemm>(panel, x, t, at, y) },
    );
}

/// The product of `rows` with all columns.
///
/// # Safety
/// The CPU has the instructions of `I`.
#[inline(always)]
pub(super) unsafe fn matmul<I: InstructionSet, B: UnpackTernary>(
    isa: I,
    w: &Matrix<'_>,
    x: &WideActivations<'_>,
    rows: Range<usize>,
    y: &mut Tile<'_>,
    scratch: &mut [u8],
) {
    let (n, mut left) = (x.n(), rows.start);
    if n >= PANEL_COLS {
        left = panels::<_, B>(
            w,
            &rows,
            n,
            &mut Panel::new(w.cols(), scratch),
            #[inline(always)]
            // SAFETY: `isa` is the proof of the instructions.
            |panel, ws| unsafe { panel.pack::<I::Gemm, B>(ws, w.scale()) },
            #[inline(always)]
            // SAFETY: codes of two bits, less 1.
            |panel, t, at| unsafe { put(isa, panel, x, t, at, y) },
        );
    }
    let mut rest = y.cols(left - rows.start, rows.end - left);
    // SAFETY: the caller's promise.
    unsafe { gemv_ternary::matmul::<<I::Gemm as Gemm>::Gemv, B>(w, x, left..rows.end, &mut rest) };
}
