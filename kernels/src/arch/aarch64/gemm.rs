//! The gemm driver: products with many columns of activations.
//!
//! ```text
//! for each panel of MR = 8 rows
//!     pack the rows: steps of 16 signed codes, scales and minimums as f32
//!     for each tile of NR = 4 columns
//!         for each sub-block of 1 or 2 steps
//!             sums[n] = products of the steps with codes of x[n]
//!             acc[n] += scales * dx[n] * sums[n] + mins * (dx[n] * sum of codes of x[n])
//!         y[columns][rows] = acc
//! ```
//!
//! A step has 16 codes of the eight rows, in the order in which the set multiplies them
//! ([`Gemm::arrange`]):
//!
//! ```text
//! neon     row 0: 0..16 | row 1: 0..16 | ..                          by rows
//! dotprod  0..4 of rows 0, 1, 2, 3 | 0..4 of rows 4, 5, 6, 7 | 4..8 of rows 0, ..   by fours
//! i8mm     0..8 of rows 0, 1 | 0..8 of rows 2, 3 | .. | 8..16 of rows 0, 1 | ..     by eights
//! ```

#![allow(clippy::needless_range_loop)] // tiles of a constant size, unrolled by their indices

use core::arch::aarch64::*;
use core::ops::Range;

use super::gemv;
use super::isa::InstructionSet;
use super::panel::{Gemm, MR, NR, STEP, Step, Sums};
use super::unpack::{Quads, Unpack};
use crate::activations::{ACT_BLOCK, ACT_SUM};
use crate::blocks::Block;
use crate::{Matrix, Q8Activations, Tile};

/// Columns from which packing a panel pays; a tile at least.
pub(super) const PANEL_COLS: usize = NR;
/// A panel: steps, and vectors of scales and minimums of sub-blocks.
pub(super) struct Panel<'a> {
    steps: &'a mut [Step],
    scales: &'a mut [[f32; MR]],
    mins: &'a mut [[f32; MR]],
}

/// Bytes of a panel of rows with `cols` codes.
#[must_use]
pub(super) fn scratch<B: Unpack>(cols: usize) -> usize {
    let numbers = if B::MINS { 2 } else { 1 };
    cols * MR + cols / B::SUB * numbers * size_of::<[f32; MR]>()
}

impl<'a> Panel<'a> {
    fn new<B: Unpack>(cols: usize, scratch: &'a mut [u8]) -> Self {
        let (steps, numbers) = scratch[..self::scratch::<B>(cols)].split_at_mut(cols * MR);
        let (scales, mins) =
            bytemuck::cast_slice_mut::<u8, [f32; MR]>(numbers).split_at_mut(cols / B::SUB);
        Panel { steps: bytemuck::cast_slice_mut(steps), scales, mins }
    }

    /// Packs eight rows of blocks.
    ///
    /// # Safety
    /// The CPU has the instructions of `P`.
    #[inline(always)]
    unsafe fn pack<P: Gemm, B: Unpack>(&mut self, w: [&[B]; MR]) {
        let blocks = w[0].len();
        let (subs, steps) = (B::LEN / B::SUB, B::LEN / STEP);
        assert!(w.iter().all(|w| w.len() == blocks) && self.scales.len() == blocks * subs);
        assert!(self.steps.len() == blocks * steps);
        assert!(!B::MINS || self.mins.len() == self.scales.len());
        let mut b = 0;
        while b < blocks {
            let valid = B::CHUNK.min(blocks - b);
            let there = valid * subs;
            for r in 0..MR {
                // SAFETY: the caller's promise; blocks b..b + valid are there.
                let (scales, mins) = unsafe { B::scales(w[r][b..].as_ptr(), valid) };
                column(scales, r, &mut self.scales[b * subs..][..there]);
                if B::MINS {
                    column(mins, r, &mut self.mins[b * subs..][..there]);
                }
            }
            b += valid;
        }
        for b in 0..blocks {
            let to = &mut self.steps[b * steps..][..steps];
            for (part, to) in to.as_chunks_mut::<2>().0.iter_mut().enumerate() {
                // SAFETY: the caller's promise.
                unsafe {
                    let zero = vdupq_n_s8(0);
                    let mut codes = [[zero; MR]; 2];
                    for r in 0..MR {
                        [codes[0][r], codes[1][r]] = w[r][b].signed(part);
                    }
                    *to = [P::arrange(codes[0]), P::arrange(codes[1])];
                }
            }
        }
    }
}

/// Writes numbers of consecutive sub-blocks as column `r`.
#[inline(always)]
fn column(v: Quads, r: usize, to: &mut [[f32; MR]]) {
    let mut all = [0.0f32; 16];
    for (to, v) in all.as_chunks_mut::<4>().0.iter_mut().zip(v) {
        // SAFETY: four floats behind `to`; every target of this module has NEON.
        unsafe { vst1q_f32(to.as_mut_ptr(), v) };
    }
    for (to, v) in to.iter_mut().zip(all) {
        to[r] = v;
    }
}

/// The sums of a sub-block of eight rows for the columns of a tile, whose codes are `cols` apart.
///
/// # Safety
/// The CPU has the instructions of `P`; as many codes lie at `x` and at the columns after it; where
/// `SMALL`, those of the panel are -64..=64.
#[inline(always)]
unsafe fn sub_sums<P: Gemm, const STEPS: usize, const SMALL: bool>(
    steps: &[Step; STEPS],
    x: *const i8,
    cols: usize,
) -> Sums {
    // SAFETY: the caller's promises.
    unsafe { P::sums::<STEPS, SMALL>(steps, [x, x.add(cols), x.add(2 * cols), x.add(3 * cols)]) }
}

/// The micro-kernel: the outputs of eight rows, from output `at` on, for the columns of a tile, from
/// column `t` on. Sub-blocks have `STEPS` steps; the format has minimums, or not.
///
/// # Safety
/// The CPU has the instructions of `P`; where `SMALL`, the panel's codes are -64..=64.
#[inline(always)]
unsafe fn tile<
    P: Gemm,
    const STEPS: usize,
    const MINS: bool,
    const SMALL: bool,
    const FINE: bool,
>(
    panel: &Panel<'_>,
    x: &Q8Activations<'_>,
    t: usize,
    at: usize,
    y: &mut Tile<'_>,
) {
    let sub_len = STEPS * STEP;
    // Checked here, so that the loop needs no checks: whole columns, as long as the panel.
    let cols = panel.steps.len() * STEP;
    assert!(x.cols() == cols && FINE == x.is_fine() && panel.scales.len() == cols / sub_len);
    assert!(!MINS || panel.mins.len() == panel.scales.len());
    let (acts, parts) = (cols / ACT_BLOCK, cols / ACT_SUM);
    let x = x.rows_from(t, NR);
    let (q, d, s) = (x.q.as_ptr(), x.d.as_ptr(), x.s.as_ptr());
    let lo = x.lo.map_or(q, <[i8]>::as_ptr); // read with FINE only
    // SAFETY: the instructions by the caller's promise; sub-block `sub` of the panel and of all
    // columns (above).
    unsafe {
        let mut acc = [[vdupq_n_f32(0.0); 2]; NR];
        for (sub, steps) in panel.steps.as_chunks::<STEPS>().0.iter().enumerate() {
            let first = sub * sub_len;
            let mut isum = sub_sums::<P, STEPS, SMALL>(steps, q.add(first), cols);
            if FINE {
                let lower = sub_sums::<P, STEPS, SMALL>(steps, lo.add(first), cols);
                for n in 0..NR {
                    for h in 0..2 {
                        isum[n][h] = vmlaq_n_s32(lower[n][h], isum[n][h], 255);
                    }
                }
            }
            let scales = panel.scales.as_ptr().add(sub).cast::<f32>();
            let scales = [vld1q_f32(scales), vld1q_f32(scales.add(4))];
            let mut mins = scales;
            if MINS {
                let m = panel.mins.as_ptr().add(sub).cast::<f32>();
                mins = [vld1q_f32(m), vld1q_f32(m.add(4))];
            }
            for n in 0..NR {
                let dx = *d.add(n * acts + first / ACT_BLOCK);
                let mut xsum = 0.0;
                if MINS {
                    let s = s.add(n * parts + first / ACT_SUM);
                    let sum = if STEPS == 1 { *s } else { *s + *s.add(1) };
                    xsum = dx * sum as f32;
                }
                for h in 0..2 {
                    let mut t = vmulq_f32(vmulq_n_f32(scales[h], dx), vcvtq_f32_s32(isum[n][h]));
                    if MINS {
                        t = vaddq_f32(t, vmulq_n_f32(mins[h], xsum));
                    }
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

/// [`tile`], compiled for the set. Formats with the same kind of panel share it.
///
/// # Safety
/// If `SMALL`, the panel's codes are -64..=64.
unsafe fn put<
    I: InstructionSet,
    const STEPS: usize,
    const MINS: bool,
    const SMALL: bool,
    const FINE: bool,
>(
    isa: I,
    panel: &Panel<'_>,
    x: &Q8Activations<'_>,
    t: usize,
    at: usize,
    y: &mut Tile<'_>,
) {
    isa.vectorize(
        "gemm",
        #[inline(always)]
        // SAFETY: `isa` is the proof of the instructions; the rest by the caller's promise.
        move || unsafe { tile::<I::Gemm, STEPS, MINS, SMALL, FINE>(panel, x, t, at, y) },
    );
}

/// The micro-kernel of a format.
fn tile_of<I: InstructionSet, B: Unpack>(
    fine: bool,
) -> unsafe fn(I, &Panel<'_>, &Q8Activations<'_>, usize, usize, &mut Tile<'_>) {
    match (B::SUB, B::MINS, B::SMALL, fine) {
        (16, false, _, false) => put::<I, 1, false, true, false>,
        (16, false, _, true) => put::<I, 1, false, true, true>,
        (16, true, _, false) => put::<I, 1, true, true, false>,
        (16, true, _, true) => put::<I, 1, true, true, true>,
        (_, false, false, false) => put::<I, 2, false, false, false>,
        (_, false, false, true) => put::<I, 2, false, false, true>,
        (_, false, true, false) => put::<I, 2, false, true, false>,
        (_, false, true, true) => put::<I, 2, false, true, true>,
        (_, true, _, false) => put::<I, 2, true, true, false>,
        (_, true, _, true) => put::<I, 2, true, true, true>,
    }
}

/// Computes the whole panels of `rows`: `pack(rows of the panel)`, then `tile(first column, output)`
/// for each tile of the `n` columns, a tile at least. The last tile may compute columns of the one before it again.
/// Returns the first row that is left.
#[inline(always)]
pub(super) fn panels<S, B: Block>(
    w: &Matrix<'_>,
    rows: &Range<usize>,
    n: usize,
    state: &mut S,
    pack: impl Fn(&mut S, [&[B]; MR]),
    mut tile: impl FnMut(&S, usize, usize),
) -> usize {
    let mut r = rows.start;
    while r + MR <= rows.end {
        let mut ws: [&[B]; MR] = [&[]; MR];
        for (i, ws) in ws.iter_mut().enumerate() {
            *ws = w.row(r + i);
        }
        pack(state, ws);
        for t in (0..n).step_by(NR) {
            tile(state, t.min(n - NR), r - rows.start);
        }
        r += MR;
    }
    r
}

/// The product of `rows` with all columns.
///
/// # Safety
/// The CPU has the instructions of `I`.
#[inline(always)]
pub(super) unsafe fn matmul<I: InstructionSet, B: Unpack>(
    isa: I,
    w: &Matrix<'_>,
    x: &Q8Activations<'_>,
    rows: Range<usize>,
    y: &mut Tile<'_>,
    scratch: &mut [u8],
) {
    const { assert!(B::SMALL || B::SUB == 32 && !B::MINS) } // what tile_of has
    let (n, mut left) = (x.n(), rows.start);
    if n >= PANEL_COLS {
        let tile = tile_of::<I, B>(x.is_fine());
        left = panels::<_, B>(
            w,
            &rows,
            n,
            &mut Panel::new::<B>(w.cols(), scratch),
            #[inline(always)]
            // SAFETY: `isa` is the proof of the instructions.
            |panel, ws| unsafe { panel.pack::<I::Gemm, B>(ws) },
            #[inline(always)]
            // SAFETY: the panel is of this format.
            |panel, t, at| unsafe { tile(isa, panel, x, t, at, y) },
        );
    }
    let mut rest = y.cols(left - rows.start, rows.end - left);
    // SAFETY: the caller's promise.
    unsafe { gemv::matmul::<<I::Gemm as Gemm>::Gemv, B>(w, x, left..rows.end, &mut rest) };
}
