//! The drivers of ternary weights: gemv for few columns, gemm for many.
//!
//! ```text
//! for each 16 columns
//!     widen their codes, in the format's order
//!     for each 4 rows (few columns), or each panel of 8 rows
//!         for each group of 256 weights
//!             sums = products; acc[n] += scales * dx[n] * (sums - bias * sum of codes of x[n])
//! ```
//!
//! As those with codes: activations are widened to 16 bits first, and here also put in the order in
//! which a format's codes come, and multiplied as these need it ([`UnpackTernary`]). Sums stay integers for a
//! group of 256.

use core::arch::wasm32::*;
use core::ops::Range;

use super::simd128::{MR, NR, PANEL_COLS, ROWS, WIDE_COLS, load, store};
use super::unpack::{sums4, transpose4};
use super::unpack_ternary::{STEPS, UnpackTernary};
use crate::{Matrix, Tile, WIDE_BLOCK, WideActivations, WideRow};

/// A panel of eight rows: pairs of codes, four rows to a register; and scales of groups.
struct Panel<'a> {
    pairs: &'a mut [[[i16; 8]; 2]],
    scales: &'a mut [[[f32; 4]; 2]],
}

/// Bytes of a panel of rows with `cols` weights.
fn panel_bytes(cols: usize, n: usize) -> usize {
    let floats = cols.div_ceil(WIDE_BLOCK) * MR * size_of::<f32>();
    if n >= PANEL_COLS { cols * MR * size_of::<i16>() + floats } else { 0 }
}

fn wide_bytes(cols: usize, n: usize) -> usize {
    WIDE_COLS.min(n) * cols * size_of::<i16>()
}

/// Bytes of scratch for products with `n` columns.
pub(super) fn scratch(cols: usize, n: usize) -> usize {
    panel_bytes(cols, n) + wide_bytes(cols, n)
}

/// Rows of activations in a format's order.
struct Widened<'a> {
    x: WideActivations<'a>,
    /// The first row.
    from: usize,
    codes: &'a [[i16; 8]],
}

impl<'a> Widened<'a> {
    #[inline(always)]
    fn new<B: UnpackTernary>(
        x: &WideActivations<'a>,
        cols: Range<usize>,
        codes: &'a mut [i16],
    ) -> Self {
        let q = x.rows_from(cols.start, cols.len()).q;
        let codes = &mut codes.as_chunks_mut::<8>().0[..q.len() / 8];
        for (q, to) in q.chunks_exact(B::LEN).zip(codes.chunks_exact_mut(B::LEN / 8)) {
            for step in 0..B::STEPS {
                for k in 0..B::DIGITS {
                    let Some(at) = B::place(step, k) else { continue };
                    let sixteen: &[i8; 16] = q[at..].first_chunk().unwrap();
                    let (q, factor) = (load(sixteen), i16x8_splat(B::factor(k)));
                    let to = &mut to[2 * (step * B::DIGITS + k)..][..2];
                    let even = i16x8_shr(i16x8_shl(q, 8), 8);
                    store(&mut to[0], i16x8_mul(even, factor));
                    store(&mut to[1], i16x8_mul(i16x8_shr(q, 8), factor));
                }
            }
        }
        Widened { x: *x, from: cols.start, codes }
    }

    /// Row `t` of those widened: its codes, its scales and sums.
    #[inline(always)]
    fn row(&self, t: usize) -> (&'a [[i16; 8]], WideRow<'a>) {
        let len = self.x.cols() / 8;
        (&self.codes[t * len..][..len], self.x.row(self.from + t))
    }
}

/// Adds the terms of a group, whose products add up to `sums`.
#[inline(always)]
fn add<B: UnpackTernary>(acc: v128, scale: v128, sums: v128, d: f32, s: i32) -> v128 {
    let sum = i32x4_sub(i32x4_shr(sums, B::SHIFT), i32x4_splat(s));
    let both = f32x4_mul(scale, f32x4_splat(d));
    f32x4_add(acc, f32x4_mul(both, f32x4_convert_i32x4(sum)))
}

/// Adds the products of step `STEP` of a block of each of four rows.
#[inline(always)]
fn step<B: UnpackTernary, const STEP: usize>(
    sums: &mut [v128; ROWS],
    w: [&B; ROWS],
    x: &[[i16; 8]],
) {
    if STEP >= B::STEPS {
        return;
    }
    for r in 0..ROWS {
        let codes = w[r].words::<STEP>();
        for k in 0..B::DIGITS {
            if B::place(STEP, k).is_some() {
                for half in 0..2 {
                    let x = load(&x[2 * (STEP * B::DIGITS + k) + half]);
                    sums[r] = i32x4_add(sums[r], i32x4_dot_i16x8(codes[k][half], x));
                }
            }
        }
    }
}

/// Four outputs for one row of activations.
#[inline(always)]
fn rows4<B: UnpackTernary>(
    w: [&[B]; ROWS],
    scale: f32,
    (codes, x): (&[[i16; 8]], WideRow<'_>),
) -> v128 {
    const { assert!(B::STEPS <= STEPS) }
    let (blocks, per) = (w[0].len(), WIDE_BLOCK / B::LEN);
    // Checked here, so that the loop needs few checks.
    assert!(w.iter().all(|w| w.len() == blocks) && codes.len() == blocks * B::LEN / 8);
    let mut acc = f32x4_splat(0.0);
    for (g, (&d, &s)) in x.d.iter().zip(x.s).enumerate() {
        let mut sums = [i32x4_splat(0); ROWS];
        for b in g * per..blocks.min((g + 1) * per) {
            let w = [&w[0][b], &w[1][b], &w[2][b], &w[3][b]];
            let x = &codes[b * B::LEN / 8..][..B::LEN / 8];
            step::<B, 0>(&mut sums, w, x);
            step::<B, 1>(&mut sums, w, x);
            step::<B, 2>(&mut sums, w, x);
            step::<B, 3>(&mut sums, w, x);
        }
        let b = g * per;
        let scales = B::scales4([&w[0][b], &w[1][b], &w[2][b], &w[3][b]], scale);
        acc = add::<B>(acc, scales, sums4(sums), d, s);
    }
    acc
}

/// The outputs `rows` for few columns of activations, the weights read where they lie.
fn few<B: UnpackTernary>(
    w: &Matrix<'_>,
    x: &Widened<'_>,
    n: usize,
    rows: Range<usize>,
    at: usize,
    y: &mut Tile<'_>,
) {
    for r in rows.clone().step_by(ROWS) {
        // The last one again, where there are fewer than four.
        let row = |i: usize| w.row::<B>((r + i).min(rows.end - 1));
        let ws = [row(0), row(1), row(2), row(3)];
        for t in 0..n {
            let mut out = [0.0f32; ROWS];
            store(&mut out, rows4::<B>(ws, w.scale(), x.row(t)));
            let to = &mut y.row(x.from + t)[at + r - rows.start..at + rows.len()];
            let count = to.len().min(ROWS);
            to[..count].copy_from_slice(&out[..count]);
        }
    }
}

/// Unpacks step `STEP` of a block of each of four rows, for a panel.
#[inline(always)]
fn unpack_step<B: UnpackTernary, const STEP: usize>(
    pairs: &mut [[[i16; 8]; 2]],
    quad: usize,
    w: [&B; ROWS],
) {
    if STEP >= B::STEPS {
        return;
    }
    let [a, b, c, d] = w;
    let (a, b) = (a.words::<STEP>(), b.words::<STEP>());
    let (c, d) = (c.words::<STEP>(), d.words::<STEP>());
    for k in 0..B::DIGITS {
        if B::place(STEP, k).is_some() {
            let to = &mut pairs[8 * (STEP * B::DIGITS + k)..][..8];
            for half in 0..2 {
                let four = transpose4([a[k][half], b[k][half], c[k][half], d[k][half]]);
                for j in 0..4 {
                    store(&mut to[4 * half + j][quad], four[j]);
                }
            }
        }
    }
}

impl<'a> Panel<'a> {
    fn new(cols: usize, scratch: &'a mut [u8]) -> Self {
        let (pairs, scales) = scratch.split_at_mut(cols * MR * size_of::<i16>());
        Panel { pairs: bytemuck::cast_slice_mut(pairs), scales: bytemuck::cast_slice_mut(scales) }
    }

    /// Unpacks the eight rows from `r` on.
    fn unpack<B: UnpackTernary>(&mut self, w: &Matrix<'_>, r: usize) {
        let per = WIDE_BLOCK / B::LEN;
        for quad in 0..MR / ROWS {
            let row = |i: usize| w.row::<B>(r + ROWS * quad + i);
            let ws = [row(0), row(1), row(2), row(3)];
            for (b, pairs) in self.pairs.chunks_exact_mut(B::LEN / 2).enumerate() {
                let blocks = [&ws[0][b], &ws[1][b], &ws[2][b], &ws[3][b]];
                if b % per == 0 {
                    store(&mut self.scales[b / per][quad], B::scales4(blocks, w.scale()));
                }
                unpack_step::<B, 0>(pairs, quad, blocks);
                unpack_step::<B, 1>(pairs, quad, blocks);
                unpack_step::<B, 2>(pairs, quad, blocks);
                unpack_step::<B, 3>(pairs, quad, blocks);
            }
        }
    }
}

/// The outputs of a panel's eight rows for `N` columns, from column `t` of those widened.
fn tile<B: UnpackTernary, const N: usize>(
    panel: &Panel<'_>,
    x: &Widened<'_>,
    t: usize,
    at: usize,
    y: &mut Tile<'_>,
) {
    let xs: [_; N] = core::array::from_fn(|n| x.row(t + n));
    // Checked here, so that the loop needs no checks.
    assert!(xs.iter().all(|(codes, x)| {
        let groups = panel.scales.len();
        4 * codes.len() == panel.pairs.len() && x.d.len() == groups && x.s.len() == groups
    }));
    let mut acc = [[f32x4_splat(0.0); 2]; N];
    let groups = panel.pairs.chunks(WIDE_BLOCK / 2).zip(&*panel.scales).enumerate();
    for (g, (pairs, scales)) in groups {
        let mut sums = [[i32x4_splat(0); 2]; N];
        for (i, pair) in pairs.iter().enumerate() {
            let ws = [load(&pair[0]), load(&pair[1])];
            for n in 0..N {
                // SAFETY: row n has as many pairs as the panel (checked above).
                let x = unsafe {
                    let codes = xs[n].0.as_ptr().cast::<u32>();
                    v128_load32_splat(codes.add(g * (WIDE_BLOCK / 2) + i))
                };
                for q in 0..2 {
                    sums[n][q] = i32x4_add(sums[n][q], i32x4_dot_i16x8(ws[q], x));
                }
            }
        }
        for n in 0..N {
            let (d, s) = (xs[n].1.d[g], xs[n].1.s[g]);
            for q in 0..2 {
                acc[n][q] = add::<B>(acc[n][q], load(&scales[q]), sums[n][q], d, s);
            }
        }
    }
    for n in 0..N {
        let to = &mut y.row(x.from + t + n)[at..][..MR];
        for (to, &acc) in to.as_chunks_mut::<4>().0.iter_mut().zip(&acc[n]) {
            store(to, acc);
        }
    }
}

/// All of `rows` for all columns: `WIDE_COLS` at a time.
pub(super) fn matmul<B: UnpackTernary>(
    w: &Matrix<'_>,
    x: &WideActivations<'_>,
    rows: Range<usize>,
    y: &mut Tile<'_>,
    scratch: &mut [u8],
) {
    let (cols, n) = (w.cols(), x.n());
    let (panel, wide) = scratch.split_at_mut(panel_bytes(cols, n));
    let wide: &mut [i16] = bytemuck::cast_slice_mut(&mut wide[..wide_bytes(cols, n)]);
    for from in (0..n).step_by(WIDE_COLS) {
        let n = WIDE_COLS.min(n - from);
        let x = Widened::new::<B>(x, from..from + n, wide);
        let mut r = rows.start;
        if n >= PANEL_COLS {
            let mut panel = Panel::new(cols, panel);
            while r + MR <= rows.end {
                panel.unpack::<B>(w, r);
                let at = r - rows.start;
                let mut t = 0;
                while t + NR <= n {
                    tile::<B, NR>(&panel, &x, t, at, y);
                    t += NR;
                }
                if t + 2 <= n {
                    tile::<B, 2>(&panel, &x, t, at, y);
                    t += 2;
                }
                if t < n {
                    tile::<B, 1>(&panel, &x, t, at, y);
                }
                r += MR;
            }
        }
        few::<B>(w, &x, n, r..rows.end, r - rows.start, y);
    }
}
