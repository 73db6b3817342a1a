//! Wide activations and products with ternary weights.

use core::ops::Range;

use crate::blocks::TernaryBlock;
use crate::lanes::{LANES, Lanes};
use crate::{Matrix, Tile, WIDE_BLOCK, WIDE_UNIT, WideActivations, WideRow, WideRowMut};

/// The code of a group's largest element.
const LEVELS: f32 = 127.0;

/// The largest magnitude; no NaN is the largest.
#[inline(always)]
fn largest<L: Lanes>(x: &[f32]) -> f32 {
    let mut most = L::splat(0.0);
    for x in x.as_chunks::<LANES>().0 {
        // The maximum gives its second operand where the first is NaN.
        most = L::load(x).abs().max(most);
    }
    most.largest()
}

/// See [`crate::Backend::quantize_wide`].
#[inline(always)]
pub(crate) fn quantize<L: Lanes>(x: &[f32], out: &mut WideRowMut<'_>, per_row: bool) {
    let groups = x.len().div_ceil(WIDE_BLOCK);
    assert!(x.len().is_multiple_of(WIDE_UNIT) && out.q.len() == x.len());
    assert!(out.d.len() == groups && out.s.len() == groups);
    let row = if per_row { largest::<L>(x) } else { 0.0 };
    let limit = L::splat(LEVELS);
    for (g, (x, q)) in x.chunks(WIDE_BLOCK).zip(out.q.chunks_mut(WIDE_BLOCK)).enumerate() {
        let amax = if per_row { row } else { largest::<L>(x) };
        let id = L::splat(LEVELS / amax);
        let mut sum = 0i32;
        for (x, q) in x.as_chunks::<LANES>().0.iter().zip(q.as_chunks_mut::<LANES>().0) {
            let t = L::load(x).mul(id).round();
            let mut codes = [0i32; LANES];
            L::store_int(t.abs().select_le(limit, t, L::splat(0.0)).to_int(), &mut codes);
            sum += codes.iter().sum::<i32>();
            for (q, c) in q.iter_mut().zip(codes) {
                *q = c as i8;
            }
        }
        (out.d[g], out.s[g]) = (amax / LEVELS, sum);
    }
}

/// One output: over the groups of 256 in ascending order `acc = acc + (dw * dx) * (isum as f32)`,
/// `isum` being the exact sum of the products of weights (-1, 0, 1; 2 in damaged files) with codes.
/// `dw` is the block's scale, or `scale`, the matrix', where blocks have none.
#[inline(always)]
pub(crate) fn dot<B: TernaryBlock>(w: &[B], scale: f32, x: WideRow<'_>) -> f32 {
    let mut acc = 0.0;
    for (g, (w, x_codes)) in w.chunks(WIDE_BLOCK / B::LEN).zip(x.q.chunks(WIDE_BLOCK)).enumerate() {
        let mut isum = 0;
        for (part, x) in x_codes.as_chunks::<32>().0.iter().enumerate() {
            let codes = w[32 * part / B::LEN].codes(part % (B::LEN / 32));
            isum += codes.iter().zip(x).map(|(w, x)| i32::from(*w) * i32::from(*x)).sum::<i32>();
        }
        let dw = w[0].scale().unwrap_or(scale);
        acc += (dw * x.d[g]) * isum as f32;
    }
    acc
}

/// The scalar product: every output by [`dot`].
#[inline(always)]
pub(crate) fn matmul<B: TernaryBlock>(
    w: &Matrix<'_>,
    x: &WideActivations<'_>,
    rows: Range<usize>,
    y: &mut Tile<'_>,
) {
    for (i, r) in rows.enumerate() {
        let row = w.row::<B>(r);
        for t in 0..x.n() {
            y.row(t)[i] = dot(row, w.scale(), x.row(t));
        }
    }
}
