//! simd128, WebAssembly's vectors: since 2021 in all browsers' engines. The backend, and its drivers.
//!
//! ```text
//! for each 16 columns
//!     widen their codes to 16 bits
//!     few columns:  for each 4 rows, for each column            gemv: weights as they lie
//!     many columns: for each 8 rows, for each block             gemm: a panel of one block
//!                       pack 32 codes of the rows
//!                       for each 4 columns: acc[n] += scales * dx[n] * sums[n] (+ mins ..)
//!
//! panel   codes 0, 1 of rows 0..4 | of rows 4..8 | codes 2, 3 of rows 0..4 | ..   16 bits each
//!         scales of rows 0..4, 4..8, of one or two sub-blocks | minimums
//! ```
//!
//! Activations are widened to 16 bits first. Codes of 8 and of 16 bits then are the same to the
//! products, which multiply pairs of 16 bits and add them up in 32 (`i32x4.dot_i16x8_s`, one
//! instruction on x86-64).

use core::arch::wasm32::*;
use core::ops::Range;

use super::lanes::Lanes128;
use super::ternary;
use super::unpack::{Scales, Unpack, sums4, transpose4};
use crate::activations::ACT_BLOCK;
use crate::arch::shared::{methods, operations};
use crate::backend::{check_matmul, matmul_portable};
use crate::blocks::expanded::{self, for_drivers};
use crate::blocks::{for_dense, for_ternary};
use crate::ops::dense;
use crate::{
    ActivationKind, Activations, Backend, DenseActivations, Format, Matrix, Q8Activations, Tile,
};

/// WebAssembly's simd128. It exists where the module is built with it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Simd128;

/// Rows of a gemv tile: lanes of a register.
pub(super) const ROWS: usize = 4;
/// Rows of a panel: lanes of two registers.
pub(super) const MR: usize = 8;
/// Columns of a gemm tile.
pub(super) const NR: usize = 4;
/// Columns from which packing a panel pays.
pub(super) const PANEL_COLS: usize = 4;
/// Columns that are widened at a time, and for which a panel is packed once.
pub(super) const WIDE_COLS: usize = 16;

/// A panel: 32 codes of eight rows, pairs of four rows to a register, and the scales and minimums of
/// one or two sub-blocks.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Panel {
    codes: [[[i16; 8]; 2]; 16],
    scales: [[[f32; 4]; 2]; 2],
    mins: [[[f32; 4]; 2]; 2],
}

const _: () = assert!(size_of::<Panel>() == 512 + 64 + 64);

// SAFETY: plain numbers, without padding (asserted above).
unsafe impl bytemuck::Zeroable for Panel {}
// SAFETY: as above.
unsafe impl bytemuck::Pod for Panel {}

#[inline(always)]
pub(super) fn store<T: bytemuck::Pod>(to: &mut T, v: v128) {
    const { assert!(size_of::<T>() == 16) };
    // SAFETY: sixteen bytes of plain numbers; wasm stores to any address.
    unsafe { v128_store((&raw mut *to).cast(), v) };
}

#[inline(always)]
pub(super) fn load<T: bytemuck::Pod>(from: &T) -> v128 {
    const { assert!(size_of::<T>() == 16) };
    // SAFETY: sixteen bytes of plain numbers; wasm loads from any address.
    unsafe { v128_load((&raw const *from).cast()) }
}

/// Rows of activations whose codes were widened.
struct Widened<'a> {
    x: Q8Activations<'a>,
    /// The first row.
    from: usize,
    codes: &'a [i16],
}

/// One row of [`Widened`].
#[derive(Clone, Copy)]
struct WidenedRow<'a> {
    codes: &'a [[i16; ACT_BLOCK]],
    d: &'a [f32],
    s: &'a [[i32; 2]],
}

impl<'a> Widened<'a> {
    /// Rows `cols` of `x`, `255 * upper + lower` where there is a lower plane.
    #[inline(always)]
    fn new(x: &Q8Activations<'a>, cols: Range<usize>, codes: &'a mut [i16]) -> Self {
        let row = x.rows_from(cols.start, cols.len());
        let (codes, _) = codes.split_at_mut(row.q.len());
        let wide = codes.as_chunks_mut::<8>().0.iter_mut().zip(row.q.as_chunks::<8>().0);
        // SAFETY: eight bytes at each of these places.
        let extend = |q: &[i8; 8]| unsafe { i16x8_load_extend_i8x8(q.as_ptr()) };
        match row.lo {
            None => {
                for (to, q) in wide {
                    store(to, extend(q));
                }
            }
            Some(lo) => {
                for ((to, q), lo) in wide.zip(lo.as_chunks::<8>().0) {
                    let q = extend(q);
                    let times_255 = i16x8_sub(i16x8_shl(q, 8), q);
                    store(to, i16x8_add(times_255, extend(lo)));
                }
            }
        }
        Widened { x: *x, from: cols.start, codes }
    }

    /// Row `t` of those widened.
    #[inline(always)]
    fn row(&self, t: usize) -> WidenedRow<'a> {
        let x = self.x.row(self.from + t);
        let blocks = self.x.cols() / ACT_BLOCK;
        let codes = &self.codes.as_chunks::<ACT_BLOCK>().0[t * blocks..][..blocks];
        WidenedRow { codes, d: &x.d[..blocks], s: &x.s.as_chunks::<2>().0[..blocks] }
    }
}

/// The term that a sub-block adds, whose biased codes' products add up to `sums`.
#[inline(always)]
fn term<B: Unpack>(scale: v128, min: v128, sums: v128, d: f32, s: i32) -> v128 {
    let mut sums = sums;
    if B::BIAS != 0 {
        sums = i32x4_sub(sums, i32x4_splat(s.wrapping_mul(B::BIAS)));
    }
    let t = f32x4_mul(f32x4_mul(scale, f32x4_splat(d)), f32x4_convert_i32x4(sums));
    if B::MINS { f32x4_add(t, f32x4_mul(min, f32x4_splat(d * s as f32))) } else { t }
}

/// Adds the terms of part `K` of half `half` of four blocks.
#[inline(always)]
fn part<B: Unpack, const K: usize>(
    acc: v128,
    w: [&B; ROWS],
    half: usize,
    scales: &Scales,
    x: WidenedRow<'_>,
    b: usize,
) -> v128 {
    let p = 4 * half + K;
    let a = b * (B::LEN / ACT_BLOCK) + p;
    let (d, s) = (x.d[a], x.s[a]);
    let (codes, _) = x.codes[a].as_chunks::<8>();
    let mut sums = [[i32x4_splat(0); ROWS]; 2];
    for r in 0..ROWS {
        let bytes = w[r].bytes::<K>(half);
        for i in 0..2 {
            let lo = i32x4_dot_i16x8(i16x8_extend_low_i8x16(bytes[i]), load(&codes[2 * i]));
            let hi = i32x4_dot_i16x8(i16x8_extend_high_i8x16(bytes[i]), load(&codes[2 * i + 1]));
            sums[i][r] = i32x4_add(lo, hi);
        }
    }
    if B::SUB == 32 {
        let [mut both, hi] = sums;
        for (both, hi) in both.iter_mut().zip(hi) {
            *both = i32x4_add(*both, hi);
        }
        let s = s[0].wrapping_add(s[1]);
        f32x4_add(acc, term::<B>(scales.scale[p], scales.min[p], sums4(both), d, s))
    } else {
        let mut acc = acc;
        for i in 0..2 {
            let (scale, min) = (scales.scale[2 * p + i], scales.min[2 * p + i]);
            acc = f32x4_add(acc, term::<B>(scale, min, sums4(sums[i]), d, s[i]));
        }
        acc
    }
}

/// Four outputs for one row of activations.
#[inline(always)]
fn rows4<B: Unpack>(w: [&[B]; ROWS], x: WidenedRow<'_>) -> v128 {
    let blocks = w[0].len();
    let parts = blocks * (B::LEN / ACT_BLOCK);
    // Checked here, so that the loop needs few checks.
    assert!(w.iter().all(|w| w.len() == blocks));
    assert!(x.codes.len() == parts && x.d.len() == parts && x.s.len() == parts);
    let mut scales = Scales::new();
    let mut acc = f32x4_splat(0.0);
    for b in 0..blocks {
        let w = [&w[0][b], &w[1][b], &w[2][b], &w[3][b]];
        B::scales4(w, &mut scales);
        for half in 0..B::LEN.div_ceil(128) {
            acc = part::<B, 0>(acc, w, half, &scales, x, b);
            if B::LEN > 32 {
                acc = part::<B, 1>(acc, w, half, &scales, x, b);
            }
            if B::LEN > 64 {
                acc = part::<B, 2>(acc, w, half, &scales, x, b);
                acc = part::<B, 3>(acc, w, half, &scales, x, b);
            }
        }
    }
    acc
}

/// The outputs `rows` for few columns of activations, the weights read where they lie.
fn few<B: Unpack>(
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
            store(&mut out, rows4::<B>(ws, x.row(t)));
            let to = &mut y.row(x.from + t)[at + r - rows.start..at + rows.len()];
            let count = to.len().min(ROWS);
            to[..count].copy_from_slice(&out[..count]);
        }
    }
}

/// Unpacks part `K` of half `half` of four blocks.
#[inline(always)]
fn unpack_part<B: Unpack, const K: usize>(
    panels: &mut [Panel],
    quad: usize,
    w: [&B; ROWS],
    half: usize,
    scales: &Scales,
) {
    let p = 4 * half + K;
    let panel = &mut panels[p];
    let mut bytes = [[i32x4_splat(0); 2]; ROWS];
    for (bytes, w) in bytes.iter_mut().zip(w) {
        *bytes = w.bytes::<K>(half);
    }
    for i in 0..2 {
        let (mut lo, mut hi) = ([i32x4_splat(0); ROWS], [i32x4_splat(0); ROWS]);
        for (r, bytes) in bytes.iter().enumerate() {
            lo[r] = i16x8_extend_low_i8x16(bytes[i]);
            hi[r] = i16x8_extend_high_i8x16(bytes[i]);
        }
        let (lo, hi) = (transpose4(lo), transpose4(hi));
        for j in 0..4 {
            store(&mut panel.codes[8 * i + j][quad], lo[j]);
            store(&mut panel.codes[8 * i + 4 + j][quad], hi[j]);
        }
    }
    let subs = 32 / B::SUB;
    for i in 0..subs {
        store(&mut panel.scales[i][quad], scales.scale[subs * p + i]);
        if B::MINS {
            store(&mut panel.mins[i][quad], scales.min[subs * p + i]);
        }
    }
}

/// Unpacks the eight rows from `r` on.
fn unpack<B: Unpack>(w: &Matrix<'_>, r: usize, panels: &mut [Panel]) {
    let parts = B::LEN / ACT_BLOCK;
    let mut scales = Scales::new();
    for quad in 0..MR / ROWS {
        let row = |i: usize| w.row::<B>(r + ROWS * quad + i);
        let ws = [row(0), row(1), row(2), row(3)];
        for (b, panels) in panels.chunks_exact_mut(parts).enumerate() {
            let w = [&ws[0][b], &ws[1][b], &ws[2][b], &ws[3][b]];
            B::scales4(w, &mut scales);
            for half in 0..B::LEN.div_ceil(128) {
                unpack_part::<B, 0>(panels, quad, w, half, &scales);
                if B::LEN > 32 {
                    unpack_part::<B, 1>(panels, quad, w, half, &scales);
                }
                if B::LEN > 64 {
                    unpack_part::<B, 2>(panels, quad, w, half, &scales);
                    unpack_part::<B, 3>(panels, quad, w, half, &scales);
                }
            }
        }
    }
}

/// The outputs of a panel's eight rows for `N` columns, from column `t` of those widened.
fn tile<B: Unpack, const N: usize>(
    panels: &[Panel],
    x: &Widened<'_>,
    t: usize,
    at: usize,
    y: &mut Tile<'_>,
) {
    let xs: [WidenedRow<'_>; N] = core::array::from_fn(|n| x.row(t + n));
    // Checked here, so that the loop needs no checks.
    assert!(xs.iter().all(|x| {
        let parts = panels.len();
        x.codes.len() == parts && x.d.len() == parts && x.s.len() == parts
    }));
    let mut acc = [[f32x4_splat(0.0); 2]; N];
    for (a, panel) in panels.iter().enumerate() {
        for (i, codes) in panel.codes.chunks_exact(B::SUB / 2).enumerate() {
            let mut sums = [[i32x4_splat(0); 2]; N];
            for (g, codes) in codes.iter().enumerate() {
                let ws = [load(&codes[0]), load(&codes[1])];
                for n in 0..N {
                    // SAFETY: row n has block a (checked above), of which this is one of 16 pairs.
                    let pair = unsafe {
                        let codes = xs[n].codes.get_unchecked(a).as_ptr();
                        v128_load32_splat(codes.add(2 * (i * (B::SUB / 2) + g)).cast())
                    };
                    for q in 0..2 {
                        sums[n][q] = i32x4_add(sums[n][q], i32x4_dot_i16x8(ws[q], pair));
                    }
                }
            }
            for n in 0..N {
                let (d, s) = (xs[n].d[a], xs[n].s[a]);
                let s = if B::SUB == 32 { s[0].wrapping_add(s[1]) } else { s[i] };
                for q in 0..2 {
                    let (scale, min) = (load(&panel.scales[i][q]), load(&panel.mins[i][q]));
                    acc[n][q] = f32x4_add(acc[n][q], term::<B>(scale, min, sums[n][q], d, s));
                }
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
fn quantized<B: Unpack>(
    w: &Matrix<'_>,
    x: &Q8Activations<'_>,
    rows: Range<usize>,
    y: &mut Tile<'_>,
    scratch: &mut [u8],
) {
    let (cols, n) = (w.cols(), x.n());
    let (panels, wide) = scratch.split_at_mut(panel_bytes(cols, n));
    let panels: &mut [Panel] = bytemuck::cast_slice_mut(panels);
    let wide: &mut [i16] = bytemuck::cast_slice_mut(&mut wide[..wide_bytes(cols, n)]);
    for from in (0..n).step_by(WIDE_COLS) {
        let n = WIDE_COLS.min(n - from);
        let x = Widened::new(x, from..from + n, wide);
        let mut r = rows.start;
        while n >= PANEL_COLS && r + MR <= rows.end {
            unpack::<B>(w, r, panels);
            let at = r - rows.start;
            let mut t = 0;
            while t + NR <= n {
                tile::<B, NR>(panels, &x, t, at, y);
                t += NR;
            }
            if t + 2 <= n {
                tile::<B, 2>(panels, &x, t, at, y);
                t += 2;
            }
            if t < n {
                tile::<B, 1>(panels, &x, t, at, y);
            }
            r += MR;
        }
        few::<B>(w, &x, n, r..rows.end, r - rows.start, y);
    }
}

fn panel_bytes(cols: usize, n: usize) -> usize {
    if n >= PANEL_COLS { cols / ACT_BLOCK * size_of::<Panel>() } else { 0 }
}

fn wide_bytes(cols: usize, n: usize) -> usize {
    WIDE_COLS.min(n) * cols * size_of::<i16>()
}

fn dense(w: &Matrix<'_>, x: &DenseActivations<'_>, rows: Range<usize>, y: &mut Tile<'_>) {
    for_dense!(w.format(), B => dense::matmul::<Lanes128, B, 1, 2, 1>(w, x, rows, y),
        others => unreachable!("checked by check_matmul"))
}

impl Backend for Simd128 {
    fn name(&self) -> &'static str {
        "simd128"
    }

    fn products_per_ms(&self) -> usize {
        1 << 23 // an estimate
    }

    fn matmul_scratch(&self, format: Format, cols: usize, batch: usize) -> usize {
        expanded::scratch(format, cols)
            + match format.activations() {
                ActivationKind::Q8 => panel_bytes(cols, batch) + wide_bytes(cols, batch),
                ActivationKind::Wide => ternary::scratch(cols, batch),
                ActivationKind::Dense => 0,
            }
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
        if w.is_repacked() {
            return matmul_portable(w, x, rows, y);
        }
        if w.is_to_expand() {
            return expanded::matmul(w, rows, y, scratch, |w, rows, y, scratch| {
                self.matmul(w, x, rows, y, scratch);
            });
        }
        match x {
            Activations::Dense(x) => dense(w, x, rows, y),
            Activations::Q8(x) => {
                for_drivers!(w.format(), B => quantized::<B>(w, x, rows, y, scratch),
                dense => unreachable!("checked by check_matmul"))
            }
            Activations::Wide(x) => for_ternary!(w.format(),
                B => ternary::matmul::<B>(w, x, rows, y, scratch),
                others => unreachable!("checked by check_matmul")),
        }
    }

    operations!(methods![Lanes128]);
}
