//! Products with dense weights (F32, F16, BF16) and f32 activations.
//!
//! One output is sixteen strided partial sums, each `p = fma(w, x, p)` in ascending order, then
//! the halving tree. A tile of outputs only interleaves such sums.

#![allow(clippy::needless_range_loop)] // tiles of a constant size, unrolled by their indices

use core::ops::Range;

use crate::blocks::{Bf16, DenseBlock, F16, F32};
use crate::lanes::{LANES, Lanes};
use crate::ops::padded;
use crate::{DenseActs, Matrix, Tile};

/// Bytes of activations that stay in the second-level cache while all rows pass by.
const ACTS_BYTES: usize = 256 << 10;
/// How far ahead weights are fetched, at least: memory's latency times its bandwidth, twice.
const AHEAD: usize = 6000;

/// Dense blocks that can be loaded sixteen at a time.
pub(crate) trait LoadDense: DenseBlock {
    fn load<L: Lanes>(p: &[Self; LANES]) -> L;
}

impl LoadDense for F32 {
    #[inline(always)]
    fn load<L: Lanes>(p: &[Self; LANES]) -> L {
        L::load_le(bytemuck::cast_ref(p))
    }
}

impl LoadDense for F16 {
    #[inline(always)]
    fn load<L: Lanes>(p: &[Self; LANES]) -> L {
        L::load_f16(bytemuck::cast_ref(p))
    }
}

impl LoadDense for Bf16 {
    #[inline(always)]
    fn load<L: Lanes>(p: &[Self; LANES]) -> L {
        L::load_bf16(bytemuck::cast_ref(p))
    }
}

/// The outputs of `MR` rows and `NR` columns of activations; result `[m][n]`. `fetch`: the rows
/// come from memory, and the rows after them will be wanted next.
#[inline(always)]
fn tile<L: Lanes, B: LoadDense, const MR: usize, const NR: usize>(
    w: &Matrix<'_>,
    x: &DenseActs<'_>,
    row: usize,
    col: usize,
    fetch: bool,
) -> [[f32; NR]; MR] {
    let ws: [&[B]; MR] = core::array::from_fn(|m| w.row::<B>(row + m));
    let xs: [&[f32]; NR] = core::array::from_fn(|n| x.row(col + n));
    let ws_full = ws.map(|w| w.as_chunks::<LANES>().0);
    let xs_full = xs.map(|x| x.as_chunks::<LANES>().0);
    let mut acc = [[L::splat(0.0); NR]; MR];
    let full = w.cols() / LANES;
    assert!(ws_full.iter().all(|w| w.len() == full) && xs_full.iter().all(|x| x.len() == full));
    // Rows side by side are too many streams for the CPU's own prefetcher: it is told to fetch the
    // same place of later rows (products of one column from memory 1.2 to 2.6 times as fast).
    let tile = MR * w.row_bytes();
    let ahead = AHEAD.div_ceil(tile.max(1)) * tile;
    for k in 0..full {
        if fetch && k % (64 / LANES / size_of::<B>()) == 0 {
            for w in ws_full {
                L::prefetch(w[k].as_ptr().cast::<u8>().wrapping_add(ahead));
            }
        }
        let mut xk = [L::splat(0.0); NR]; // a closure would not be inlined everywhere
        for n in 0..NR {
            xk[n] = L::load(&xs_full[n][k]);
        }
        for m in 0..MR {
            let wk: L = B::load(&ws_full[m][k]);
            for n in 0..NR {
                acc[m][n] = wk.fma(xk[n], acc[m][n]);
            }
        }
    }
    if !w.cols().is_multiple_of(LANES) {
        let xk = xs.map(|x| L::load(&padded(x.as_chunks::<LANES>().1, 0.0)));
        for m in 0..MR {
            let rest = ws[m].as_chunks::<LANES>().1;
            let wk: L = B::load(&padded(rest, B::nearest(0.0)));
            for n in 0..NR {
                acc[m][n] = wk.fma(xk[n], acc[m][n]);
            }
        }
    }
    let mut out = [[0.0; NR]; MR];
    if MR * NR == LANES {
        let mut sums = [0.0; LANES];
        let flat: [L; LANES] = core::array::from_fn(|i| acc[i / NR][i % NR]);
        L::sums(&flat).store(&mut sums);
        for (i, s) in sums.into_iter().enumerate() {
            out[i / NR][i % NR] = s;
        }
    } else {
        for m in 0..MR {
            for n in 0..NR {
                out[m][n] = acc[m][n].sum();
            }
        }
    }
    out
}

/// The outputs of `MR` rows and `NR` columns, put where they belong.
#[inline(always)]
#[allow(clippy::too_many_arguments)] // a position in three matrices
fn put<L: Lanes, B: LoadDense, const MR: usize, const NR: usize>(
    w: &Matrix<'_>,
    x: &DenseActs<'_>,
    rows: &Range<usize>,
    row: usize,
    col: usize,
    fetch: bool,
    y: &mut Tile<'_>,
) {
    let out = tile::<L, B, MR, NR>(w, x, row, col, fetch);
    for n in 0..NR {
        let y = &mut y.row(col + n)[row - rows.start..][..MR];
        for m in 0..MR {
            y[m] = out[m][n];
        }
    }
}

/// `MR` rows for all columns in `cols`, `NR` at a time.
#[inline(always)]
fn columns<L: Lanes, B: LoadDense, const MR: usize, const NR: usize>(
    w: &Matrix<'_>,
    x: &DenseActs<'_>,
    rows: &Range<usize>,
    row: usize,
    cols: Range<usize>,
    y: &mut Tile<'_>,
) {
    let mut c = cols.start;
    while c + NR <= cols.end {
        put::<L, B, MR, NR>(w, x, rows, row, c, c == cols.start, y);
        c += NR;
    }
    while c + 2 <= cols.end {
        put::<L, B, MR, 2>(w, x, rows, row, c, c == cols.start, y);
        c += 2;
    }
    if c < cols.end {
        put::<L, B, MR, 1>(w, x, rows, row, c, c == cols.start, y);
    }
}

/// `y[t][r] = sum_k w[r][k] x[t][k]` for `rows`, in tiles of `MR` rows by `NR` columns, or of `MR1`
/// rows where there is one column.
#[inline(always)]
pub(crate) fn matmul<L: Lanes, B: LoadDense, const MR: usize, const NR: usize, const MR1: usize>(
    w: &Matrix<'_>,
    x: &DenseActs<'_>,
    rows: Range<usize>,
    y: &mut Tile<'_>,
) {
    let mut r = rows.start;
    if x.n() == 1 {
        while r + MR1 <= rows.end {
            put::<L, B, MR1, 1>(w, x, &rows, r, 0, true, y);
            r += MR1;
        }
    }
    // Of the activations as many rows at a time as stay in the cache.
    let block = (ACTS_BYTES / (4 * w.cols().max(1))).next_multiple_of(NR).max(NR);
    let (first, mut start) = (r, 0);
    while start < x.n() {
        let cols = start..x.n().min(start + block);
        r = first;
        while r + MR <= rows.end {
            columns::<L, B, MR, NR>(w, x, &rows, r, cols.clone(), y);
            r += MR;
        }
        while r < rows.end {
            columns::<L, B, 1, NR>(w, x, &rows, r, cols.clone(), y);
            r += 1;
        }
        start = cols.end;
    }
}
