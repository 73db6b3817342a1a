//! Quantised activations and products with quantised weights.

use core::ops::Range;

use crate::acts::{ACT_BLOCK, Q8Row, Q8RowMut};
use crate::blocks::CodeBlock;
use crate::lanes::{LANES, Lanes};
use crate::{Matrix, Q8Acts, Tile};

/// See [`crate::Backend::quantize`].
#[inline(always)]
pub(crate) fn quantize<L: Lanes>(x: &[f32], out: &mut Q8RowMut<'_>) {
    let blocks = x.len() / ACT_BLOCK;
    assert!(x.len() % ACT_BLOCK == 0 && out.q.len() == x.len());
    assert!(out.d.len() == blocks && out.s.len() == blocks);
    let limit = L::splat(127.0);
    let xs = x.as_chunks::<ACT_BLOCK>().0;
    let qs = out.q.as_chunks_mut::<ACT_BLOCK>().0;
    for (((x, q), d), s) in xs.iter().zip(qs).zip(out.d.iter_mut()).zip(out.s.iter_mut()) {
        let halves = x.as_chunks::<LANES>().0;
        let (a, b) = (L::load(&halves[0]), L::load(&halves[1]));
        // Zero last: max gives its second operand where the first is NaN.
        let amax = b.abs().max(a.abs().max(L::splat(0.0))).largest();
        let id = L::splat(127.0 / amax);
        *d = amax / 127.0;
        let mut codes = [0i32; ACT_BLOCK];
        for (v, c) in [a, b].into_iter().zip(codes.as_chunks_mut::<LANES>().0) {
            let t = v.mul(id).round();
            L::store_int(t.abs().select_le(limit, t, L::splat(0.0)).to_int(), c);
        }
        for (q, c) in q.iter_mut().zip(codes) {
            *q = c as i8;
        }
        *s = codes.iter().sum();
    }
}

/// One output: `acc = acc + (dw * dx) * (sum as f32)` over the blocks in ascending order, where the
/// sum of the products of codes is an integer.
#[inline(always)]
pub(crate) fn dot<B: CodeBlock>(w: &[B], x: Q8Row<'_>) -> f32 {
    let mut acc = 0.0;
    for ((w, q), d) in w.iter().zip(x.q.as_chunks::<ACT_BLOCK>().0).zip(x.d) {
        let mut sum = 0i32;
        for (w, q) in w.codes().into_iter().zip(q) {
            sum += i32::from(w) * i32::from(*q);
        }
        acc += (w.scale() * d) * sum as f32;
    }
    acc
}

/// The scalar product: every output by [`dot`].
#[inline(always)]
pub(crate) fn matmul<B: CodeBlock>(
    w: &Matrix<'_>,
    x: &Q8Acts<'_>,
    rows: Range<usize>,
    y: &mut Tile<'_>,
) {
    for (i, r) in rows.enumerate() {
        let w = w.row::<B>(r);
        for t in 0..x.n() {
            y.row(t)[i] = dot(w, x.row(t));
        }
    }
}
