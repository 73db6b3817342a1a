//! Products with dense weights (F32, F16, BF16) and f32 activations.
//!
//! One output is sixteen strided partial sums, each `p = fma(w, x, p)` in ascending order, then
//! the halving tree. A tile of outputs only interleaves such sums.

#![allow(clippy::needless_range_loop)] // tiles of a constant size, unrolled by their indices

use core::ops::Range;

use crate::blocks::{Bf16, DenseBlock, F16, F32};
use crate::lanes::{LANES, Lanes};
use crate::ops::padded;
use crate::{DenseActivations, Matrix, Tile};

/// Bytes of activations that stay in the second-level cache while all rows pass by.
const ACTS_BYTES: usize = 256 << 10;
/// How far ahead weights of rows side by side are fetched, at least: memory's latency times its
/// bandwidth, twice.
const AHEAD: usize = 6000;
/// Bytes of activations that stay in the first-level cache while two streams of weights pass by.
const STREAM_ACTS: usize = 12 << 10;

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

/// Rows of a tile: the first one, and the step from one to the next.
#[derive(Clone, Copy)]
struct Rows {
    first: usize,
    step: usize,
    fetch: Fetch,
}

/// Part of a tile's rows that is fetched ahead.
#[derive(Clone, Copy)]
enum Fetch {
    /// Nothing: they are in the cache.
    None,
    /// Bytes so far behind each.
    At(usize),
    /// Each is a place in a sequential stream.
    Stream,
}

/// The outputs of `MR` rows and `NR` columns of activations; result `[m][n]`.
#[inline(always)]
fn tile<L: Lanes, B: LoadDense, const MR: usize, const NR: usize>(
    w: &Matrix<'_>,
    x: &DenseActivations<'_>,
    rows: Rows,
    col: usize,
) -> [[f32; NR]; MR] {
    let ws: [&[B]; MR] = core::array::from_fn(|m| w.row::<B>(rows.first + m * rows.step));
    let xs: [&[f32]; NR] = core::array::from_fn(|n| x.row(col + n));
    let ws_full = ws.map(|w| w.as_chunks::<LANES>().0);
    let xs_full = xs.map(|x| x.as_chunks::<LANES>().0);
    let mut acc = [[L::splat(0.0); NR]; MR];
    let full = w.cols() / LANES;
    assert!(ws_full.iter().all(|w| w.len() == full) && xs_full.iter().all(|x| x.len() == full));
    for k in 0..full {
        if k % (64 / LANES / size_of::<B>()) == 0 {
            for w in ws_full {
                let w = w[k].as_ptr().cast::<u8>();
                match rows.fetch {
                    Fetch::None => {}
                    Fetch::At(ahead) => L::prefetch(w.wrapping_add(ahead)),
                    Fetch::Stream => L::prefetch_stream(w),
                }
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

/// The outputs of `MR` rows and `NR` columns, put where they belong: row `start` is the first of `y`.
#[inline(always)]
fn put<L: Lanes, B: LoadDense, const MR: usize, const NR: usize>(
    w: &Matrix<'_>,
    x: &DenseActivations<'_>,
    rows: Rows,
    start: usize,
    col: usize,
    y: &mut Tile<'_>,
) {
    let out = tile::<L, B, MR, NR>(w, x, rows, col);
    for n in 0..NR {
        let y = y.row(col + n);
        for m in 0..MR {
            y[rows.first - start + m * rows.step] = out[m][n];
        }
    }
}

/// How far ahead of `MR` rows side by side is fetched. They are too many streams for the CPU's own
/// prefetcher: it is told to fetch the same place of later rows (products of one column from memory
/// 1.2 to 2.6 times as fast).
#[inline(always)]
fn ahead<const MR: usize>(w: &Matrix<'_>) -> usize {
    let tile = MR * w.row_bytes();
    AHEAD.div_ceil(tile.max(1)) * tile
}

/// `MR` rows for all columns in `cols`, `NR` at a time.
#[inline(always)]
fn columns<L: Lanes, B: LoadDense, const MR: usize, const NR: usize>(
    w: &Matrix<'_>,
    x: &DenseActivations<'_>,
    row: usize,
    start: usize,
    cols: Range<usize>,
    y: &mut Tile<'_>,
) {
    let ahead = ahead::<MR>(w);
    let at = |c| {
        let fetch = if c == cols.start { Fetch::At(ahead) } else { Fetch::None };
        Rows { first: row, step: 1, fetch }
    };
    let mut c = cols.start;
    while c + NR <= cols.end {
        put::<L, B, MR, NR>(w, x, at(c), start, c, y);
        c += NR;
    }
    while c + 2 <= cols.end {
        put::<L, B, MR, 2>(w, x, at(c), start, c, y);
        c += 2;
    }
    if c < cols.end {
        put::<L, B, MR, 1>(w, x, at(c), start, c, y);
    }
}

/// `y[t][r] = sum_k w[r][k] x[t][k]` for `rows`, in tiles of `MR` rows by `NR` columns, or of `MR1`
/// rows where there is one column.
#[inline(always)]
pub(crate) fn matmul<L: Lanes, B: LoadDense, const MR: usize, const NR: usize, const MR1: usize>(
    w: &Matrix<'_>,
    x: &DenseActivations<'_>,
    rows: Range<usize>,
    y: &mut Tile<'_>,
) {
    let mut r = rows.start;
    if x.n() == 1 {
        if MR1 > 1 && size_of_val(x.row(0)) <= STREAM_ACTS {
            // Two streams without end, each of its own half of the matrix: memory and the CPU's own
            // prefetcher like that better than rows side by side, which begin new streams with
            // every row (rows of 768: F32 from 21 to 33 GB/s, F16 from 22 to 31).
            let half = rows.len() / 2;
            for first in r..r + half {
                let rows = Rows { first, step: half, fetch: Fetch::Stream };
                put::<L, B, 2, 1>(w, x, rows, r, 0, y);
            }
            r += 2 * half;
        }
        let ahead = ahead::<MR1>(w);
        while r + MR1 <= rows.end {
            let tile = Rows { first: r, step: 1, fetch: Fetch::At(ahead) };
            put::<L, B, MR1, 1>(w, x, tile, rows.start, 0, y);
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
            columns::<L, B, MR, NR>(w, x, r, rows.start, cols.clone(), y);
            r += MR;
        }
        while r < rows.end {
            columns::<L, B, 1, NR>(w, x, r, rows.start, cols.clone(), y);
            r += 1;
        }
        start = cols.end;
    }
}
