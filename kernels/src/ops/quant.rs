//! Quantised activations and products with quantised weights.

use core::ops::Range;

use crate::activations::{ACT_BLOCK, ACT_SUM, Q8Row, Q8RowMut};
use crate::blocks::CodeBlock;
use crate::lanes::{LANES, Lanes};
use crate::{Matrix, Q8Activations, Tile};

/// The code of a block's largest element.
const LEVELS: f32 = 127.0;
/// The same with 16 bits: 127 in both planes.
const FINE_LEVELS: f32 = 127.0 * 255.0;

/// See [`crate::Backend::quantize`].
#[inline(always)]
pub(crate) fn quantize<L: Lanes>(x: &[f32], out: &mut Q8RowMut<'_>) {
    let blocks = x.len() / ACT_BLOCK;
    assert!(x.len().is_multiple_of(ACT_BLOCK) && out.q.len() == x.len());
    assert!(out.d.len() == blocks && out.s.len() == x.len() / ACT_SUM);
    assert!(out.lo.as_ref().is_none_or(|lo| lo.len() == x.len()));
    let levels = if out.lo.is_some() { FINE_LEVELS } else { LEVELS };
    let xs = x.as_chunks::<ACT_BLOCK>().0;
    let qs = out.q.as_chunks_mut::<ACT_BLOCK>().0;
    for (b, (x, q)) in xs.iter().zip(qs).enumerate() {
        let halves = x.as_chunks::<LANES>().0;
        let halves = [L::load(&halves[0]), L::load(&halves[1])];
        // Zero last: max gives its second operand where the first is NaN.
        let amax = halves[1].abs().max(halves[0].abs().max(L::splat(0.0))).largest();
        let (id, limit) = (L::splat(levels / amax), L::splat(levels));
        let mut codes = [0i32; ACT_BLOCK];
        for (v, c) in halves.into_iter().zip(codes.as_chunks_mut::<LANES>().0) {
            let t = v.mul(id).round();
            L::store_int(t.abs().select_le(limit, t, L::splat(0.0)).to_int(), c);
        }
        out.d[b] = amax / levels;
        for (s, c) in out.s[2 * b..].iter_mut().zip(codes.as_chunks::<ACT_SUM>().0) {
            *s = c.iter().sum();
        }
        match &mut out.lo {
            None => {
                for (q, c) in q.iter_mut().zip(codes) {
                    *q = c as i8;
                }
            }
            Some(lo) => {
                let lo = &mut lo.as_chunks_mut::<ACT_BLOCK>().0[b];
                for ((q, lo), c) in q.iter_mut().zip(lo).zip(codes) {
                    // About c / 255, so that both planes stay within -127..=127.
                    let upper = (c * 257 + (1 << 15)) >> 16;
                    *q = upper as i8;
                    *lo = (c - 255 * upper) as i8;
                }
            }
        }
    }
}

/// One output: over the sub-blocks in ascending order `acc = acc + t`, where
/// `t = (dw * dx) * (isum as f32)`, `isum` being the exact sum of the products of codes; for formats
/// with minimums `t = t + mw * (dx * (xsum as f32))`, `xsum` being the sum of the activations' codes.
#[inline(always)]
pub(crate) fn dot<B: CodeBlock>(w: &[B], x: Q8Row<'_>) -> f32 {
    w.iter().enumerate().fold(0.0, |acc, (b, w)| add_block(acc, w, b, x))
}

/// The accumulator of [`dot`] after block `b` of the row, which is `w`.
#[inline(always)]
fn add_block<B: CodeBlock>(mut acc: f32, w: &B, b: usize, x: Q8Row<'_>) -> f32 {
    let parts = B::LEN / ACT_BLOCK;
    for part in 0..parts {
        let a = b * parts + part;
        let codes = w.codes(part);
        for (i, codes) in codes.chunks_exact(B::SUB).enumerate() {
            let first = a * ACT_BLOCK + i * B::SUB;
            let plane = |q: &[i8]| {
                let products = codes.iter().zip(&q[first..][..B::SUB]);
                products.map(|(w, q)| i32::from(*w) * i32::from(*q)).sum::<i32>()
            };
            let mut isum = plane(x.q);
            if let Some(lo) = x.lo {
                isum = 255 * isum + plane(lo);
            }
            let sub = part * (ACT_BLOCK / B::SUB) + i;
            let mut t = (w.scale(sub) * x.d[a]) * isum as f32;
            if B::MINS {
                let sums = &x.s[first / ACT_SUM..][..B::SUB / ACT_SUM];
                t += w.min(sub) * (x.d[a] * sums.iter().sum::<i32>() as f32);
            }
            acc += t;
        }
    }
    acc
}

/// The scalar product: every output by [`dot`].
#[inline(always)]
pub(crate) fn matmul<B: CodeBlock>(
    w: &Matrix<'_>,
    x: &Q8Activations<'_>,
    rows: Range<usize>,
    y: &mut Tile<'_>,
) {
    let blocks = w.cols() / B::LEN;
    for (i, r) in rows.enumerate() {
        if w.is_repacked() {
            for t in 0..x.n() {
                let add = |acc, b| add_block(acc, &w.block::<B>(r, b), b, x.row(t));
                y.row(t)[i] = (0..blocks).fold(0.0, add);
            }
        } else {
            let row = w.row::<B>(r);
            for t in 0..x.n() {
                y.row(t)[i] = dot(row, x.row(t));
            }
        }
    }
}
