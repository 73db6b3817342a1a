//! Normalisation of a row.

use crate::lanes::{LANES, Lanes};
use crate::ops::padded;

/// Sum of `f(x)` over a row: sixteen strided partial sums in ascending order, then the halving
/// tree. A short last sixteen is filled with `fill`, for which `f` must be 0.
#[inline(always)]
fn sum<L: Lanes>(x: &[f32], fill: f32, f: impl Fn(L) -> L) -> f32 {
    let (chunks, rest) = x.as_chunks::<LANES>();
    let mut acc = L::splat(0.0);
    for c in chunks {
        acc = acc.add(f(L::load(c)));
    }
    if !rest.is_empty() {
        acc = acc.add(f(L::load(&padded(rest, fill))));
    }
    acc.sum()
}

/// See [`crate::Backend::rms_norm`].
#[inline(always)]
pub(crate) fn rms_norm<L: Lanes>(x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
    assert!(weight.len() == x.len() && out.len() == x.len());
    let mean = sum::<L>(x, 0.0, |x| x.mul(x)) / x.len() as f32;
    let r = L::splat(1.0 / libm::sqrtf(mean + eps));
    let one = |x: L, w: L| x.mul(r).mul(w);
    let (os, o_rest) = out.as_chunks_mut::<LANES>();
    let (xs, x_rest) = x.as_chunks::<LANES>();
    let (ws, w_rest) = weight.as_chunks::<LANES>();
    for ((o, x), w) in os.iter_mut().zip(xs).zip(ws) {
        one(L::load(x), L::load(w)).store(o);
    }
    if !o_rest.is_empty() {
        let mut a = [0.0; LANES];
        one(L::load(&padded(x_rest, 0.0)), L::load(&padded(w_rest, 0.0))).store(&mut a);
        o_rest.copy_from_slice(&a[..o_rest.len()]);
    }
}

/// See [`crate::Backend::l2_norm`].
#[inline(always)]
pub(crate) fn l2_norm<L: Lanes>(x: &mut [f32], eps: f32, scale: f32) {
    let squares = sum::<L>(x, 0.0, |x| x.mul(x));
    let r = L::splat(scale / libm::sqrtf(squares + eps));
    crate::ops::map::<L>(x, |x| x.mul(r));
}

/// See [`crate::Backend::layer_norm`].
#[inline(always)]
pub(crate) fn layer_norm<L: Lanes>(
    x: &[f32],
    weight: &[f32],
    bias: &[f32],
    eps: f32,
    out: &mut [f32],
) {
    let n = x.len() as f32;
    assert!(weight.len() == x.len() && bias.len() == x.len() && out.len() == x.len());
    let mean = sum::<L>(x, 0.0, |x| x) / n;
    let m = L::splat(mean);
    let var = sum::<L>(x, mean, |x| x.sub(m).mul(x.sub(m))) / n;
    let r = L::splat(1.0 / libm::sqrtf(var + eps));
    let one = |x: L, w: L, b: L| x.sub(m).mul(r).mul(w).add(b);
    let (os, o_rest) = out.as_chunks_mut::<LANES>();
    let (xs, x_rest) = x.as_chunks::<LANES>();
    let (ws, w_rest) = weight.as_chunks::<LANES>();
    let (bs, b_rest) = bias.as_chunks::<LANES>();
    for (((o, x), w), b) in os.iter_mut().zip(xs).zip(ws).zip(bs) {
        one(L::load(x), L::load(w), L::load(b)).store(o);
    }
    if !o_rest.is_empty() {
        let load = |rest| L::load(&padded(rest, 0.0));
        let mut a = [0.0; LANES];
        one(load(x_rest), load(w_rest), load(b_rest)).store(&mut a);
        o_rest.copy_from_slice(&a[..o_rest.len()]);
    }
}

/// See [`crate::Backend::mean_square`].
#[inline(always)]
pub(crate) fn mean_square<L: Lanes>(x: &[f32]) -> f32 {
    sum::<L>(x, 0.0, |x| x.mul(x)) / x.len() as f32
}

/// See [`crate::Backend::gaussian_topk`].
#[inline(always)]
pub(crate) fn gaussian_topk<L: Lanes>(x: &mut [f32], cut: f32) {
    let n = x.len() as f32;
    let mean = sum::<L>(x, 0.0, |x| x) / n;
    let m = L::splat(mean);
    let var = sum::<L>(x, mean, |x| x.sub(m).mul(x.sub(m))) / n;
    let (cutoff, zero) = (L::splat(mean + cut * libm::sqrtf(var)), L::splat(0.0));
    crate::ops::map::<L>(x, |x| {
        let left = x.sub(cutoff);
        left.select_le(zero, zero, left) // not max, which would drop NaN
    });
}
