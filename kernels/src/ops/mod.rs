//! Definitions of the operations: float arithmetic written once over sixteen lanes.
//!
//! The scalar backend is these functions over portable lanes; the vector backends are the same
//! functions over their registers, and hand-written integer products that give the same integers.

pub(crate) mod attend;
pub(crate) mod conv;
pub(crate) mod delta;
pub(crate) mod dense;
pub(crate) mod math;
pub(crate) mod norm;
pub(crate) mod quant;
pub(crate) mod rope;
pub(crate) mod select;
pub(crate) mod softmax;
pub(crate) mod ternary;

use crate::lanes::{LANES, Lanes};

/// The last, incomplete sixteen of a row, filled up with `fill`.
#[inline(always)]
pub(crate) fn padded<T: Copy>(rest: &[T], fill: T) -> [T; LANES] {
    let mut a = [fill; LANES];
    a[..rest.len()].copy_from_slice(rest);
    a
}

/// `x[i] = f(x[i])` for all elements.
#[inline(always)]
pub(crate) fn map<L: Lanes>(x: &mut [f32], f: impl Fn(L) -> L) {
    let (chunks, rest) = x.as_chunks_mut::<LANES>();
    for c in chunks {
        f(L::load(c)).store(c);
    }
    if !rest.is_empty() {
        let mut a = padded(rest, 0.0);
        f(L::load(&a)).store(&mut a);
        rest.copy_from_slice(&a[..rest.len()]);
    }
}

/// `y[i] = f(y[i], x[i])` for all elements of two slices of equal length.
#[inline(always)]
pub(crate) fn zip<L: Lanes>(y: &mut [f32], x: &[f32], f: impl Fn(L, L) -> L) {
    assert_eq!(y.len(), x.len());
    let (ys, y_rest) = y.as_chunks_mut::<LANES>();
    let (xs, x_rest) = x.as_chunks::<LANES>();
    for (y, x) in ys.iter_mut().zip(xs) {
        f(L::load(y), L::load(x)).store(y);
    }
    if !y_rest.is_empty() {
        let mut a = padded(y_rest, 0.0);
        f(L::load(&a), L::load(&padded(x_rest, 0.0))).store(&mut a);
        y_rest.copy_from_slice(&a[..y_rest.len()]);
    }
}

/// `y[i] = f(y[i], a[i], b[i])` for all elements of three slices of equal length.
#[inline(always)]
pub(crate) fn zip2<L: Lanes>(y: &mut [f32], a: &[f32], b: &[f32], f: impl Fn(L, L, L) -> L) {
    assert!(y.len() == a.len() && y.len() == b.len());
    let (ys, y_rest) = y.as_chunks_mut::<LANES>();
    let (a, a_rest) = a.as_chunks::<LANES>();
    let (b, b_rest) = b.as_chunks::<LANES>();
    for ((y, a), b) in ys.iter_mut().zip(a).zip(b) {
        f(L::load(y), L::load(a), L::load(b)).store(y);
    }
    if !y_rest.is_empty() {
        let load = |rest| L::load(&padded(rest, 0.0));
        let mut last = padded(y_rest, 0.0);
        f(L::load(&last), load(a_rest), load(b_rest)).store(&mut last);
        y_rest.copy_from_slice(&last[..y_rest.len()]);
    }
}
