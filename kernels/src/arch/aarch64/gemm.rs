//! The driver for many columns: eight rows at a time are unpacked into the scratch, in the order
//! in which an instruction set takes them, and multiplied with all columns.

#![allow(clippy::needless_range_loop)] // tiles of a constant size, unrolled by their indices

use core::arch::aarch64::*;
use core::ops::Range;

use super::gemm_ternary::{self, HALF};
use super::gemv::{self, Dot};
use super::gemv_ternary::Dot3;
use super::unpack::{Quads, Unpack};
use crate::activations::{ACT_BLOCK, ACT_SUM};
use crate::{Matrix, Q8Activations, Tile, WideActivations};

/// Rows of a panel.
pub(super) const MR: usize = 8;
/// Columns of a tile.
pub(super) const NR: usize = 4;
/// Columns from which unpacking a panel pays; a tile at least.
pub(super) const PANEL_COLS: usize = NR;
/// Codes of each row in a step of a panel.
pub(super) const STEP: usize = 16;

/// Sixteen codes of eight rows.
#[derive(Clone, Copy)]
#[repr(C, align(16))]
pub(super) struct Step(pub(super) [[i8; 16]; MR]);

// SAFETY: plain numbers, without padding.
unsafe impl bytemuck::Zeroable for Step {}
// SAFETY: as above.
unsafe impl bytemuck::Pod for Step {}

/// The sums of the columns of a tile with eight rows, in two registers.
pub(super) type Sums = [[int32x4_t; 2]; NR];

/// Products of panels.
pub(super) trait Gemm {
    /// Products of rows that are not in panels.
    type Gemv: Dot + Dot3;

    /// Sixteen codes of eight rows, in the order of the set.
    ///
    /// # Safety
    /// The CPU has the instructions of the implementation.
    unsafe fn arrange(rows: [int8x16_t; MR]) -> Step;

    /// The sums of the products of these steps with as many codes at each `x`.
    ///
    /// # Safety
    /// The CPU has the instructions of the implementation; `16 * STEPS` codes lie at each `x`;
    /// where `SMALL`, those of the panel are -64..=64.
    unsafe fn sums<const STEPS: usize, const SMALL: bool>(
        steps: &[Step; STEPS],
        x: [*const i8; NR],
    ) -> Sums;

    /// The same of ternary weights: half a group.
    ///
    /// # Safety
    /// As for [`Gemm::sums`]; the panel's codes are -1..=2.
    #[inline(always)]
    unsafe fn sums3(steps: &[Step; HALF], x: [*const i8; NR]) -> Sums {
        // SAFETY: the caller's promises.
        unsafe { Self::sums::<HALF, true>(steps, x) }
    }
}

/// The tiles, compiled for a set.
pub(super) trait Tiles: Gemm {
    /// [`tile`]: one function for all formats whose panels look the same.
    ///
    /// # Safety
    /// As for [`tile`].
    unsafe fn tile<const STEPS: usize, const MINS: bool, const SMALL: bool, const FINE: bool>(
        panel: &Panel<'_>,
        x: &Q8Activations<'_>,
        t: usize,
        at: usize,
        y: &mut Tile<'_>,
    );

    /// [`gemm_ternary::tile`].
    ///
    /// # Safety
    /// As for [`gemm_ternary::tile`].
    unsafe fn tile3(
        panel: &gemm_ternary::Panel<'_>,
        x: &WideActivations<'_>,
        t: usize,
        at: usize,
        y: &mut Tile<'_>,
    );
}

/// Eight unpacked rows: steps, and scales and minimums of sub-blocks for eight rows side by side.
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

    /// Unpacks eight rows of blocks.
    ///
    /// # Safety
    /// The CPU has the instructions of `P`.
    #[inline(always)]
    unsafe fn unpack<P: Gemm, B: Unpack>(&mut self, w: [&[B]; MR]) {
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

/// The outputs of eight rows, from output `at` on, for the columns of a tile, from column `t` on.
/// Sub-blocks have `STEPS` steps; the format has minimums, or not.
///
/// # Safety
/// The CPU has the instructions of `P`; where `SMALL`, the panel's codes are -64..=64.
#[inline(always)]
pub(super) unsafe fn tile<
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

/// The tile of a format.
fn tile_of<P: Tiles, B: Unpack>(
    fine: bool,
) -> unsafe fn(&Panel<'_>, &Q8Activations<'_>, usize, usize, &mut Tile<'_>) {
    match (B::SUB, B::MINS, B::SMALL, fine) {
        (16, false, _, false) => P::tile::<1, false, true, false>,
        (16, false, _, true) => P::tile::<1, false, true, true>,
        (16, true, _, false) => P::tile::<1, true, true, false>,
        (16, true, _, true) => P::tile::<1, true, true, true>,
        (_, false, false, false) => P::tile::<2, false, false, false>,
        (_, false, false, true) => P::tile::<2, false, false, true>,
        (_, false, true, false) => P::tile::<2, false, true, false>,
        (_, false, true, true) => P::tile::<2, false, true, true>,
        (_, true, _, false) => P::tile::<2, true, true, false>,
        (_, true, _, true) => P::tile::<2, true, true, true>,
    }
}

/// All of `rows` for all columns of the activations.
///
/// # Safety
/// The CPU has the instructions of `P`.
#[inline(always)]
pub(super) unsafe fn matmul<P: Tiles, B: Unpack>(
    w: &Matrix<'_>,
    x: &Q8Activations<'_>,
    rows_: Range<usize>,
    y: &mut Tile<'_>,
    scratch: &mut [u8],
) {
    const { assert!(B::SMALL || B::SUB == 32 && !B::MINS) } // what tile_of has
    let (n, mut r) = (x.n(), rows_.start);
    if n >= PANEL_COLS {
        let tile = tile_of::<P, B>(x.is_fine());
        let mut panel = Panel::new::<B>(w.cols(), scratch);
        while r + MR <= rows_.end {
            let mut ws: [&[B]; MR] = [&[]; MR];
            for (i, ws) in ws.iter_mut().enumerate() {
                *ws = w.row(r + i);
            }
            // SAFETY: the caller's promise; the panel is of this format.
            unsafe {
                panel.unpack::<P, B>(ws);
                let mut t = 0;
                while t < n {
                    // The last tile may compute columns of the one before it again.
                    tile(&panel, x, t.min(n - NR), r - rows_.start, y);
                    t += NR;
                }
            }
            r += MR;
        }
    }
    let mut rest = y.cols(r - rows_.start, rows_.end - r);
    // SAFETY: the caller's promise.
    unsafe { gemv::matmul::<P::Gemv, B>(w, x, r..rows_.end, &mut rest) };
}
