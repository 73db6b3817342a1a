//! The softmax of a row: a router's, or any other that isn't attention's.

use crate::lanes::{LANES, Lanes};
use crate::ops::math::exp;
use crate::ops::padded;
use crate::ops::select::largest;

/// See [`crate::Backend::softmax`].
#[inline(always)]
pub(crate) fn softmax<L: Lanes>(x: &mut [f32]) {
    let m = L::splat(largest::<L>(x));
    let mut sum = L::splat(0.0);
    let (chunks, rest) = x.as_chunks_mut::<LANES>();
    for c in chunks {
        let e = exp(L::load(c).sub(m));
        sum = sum.add(e);
        e.store(c);
    }
    if !rest.is_empty() {
        // The exponential of minus infinity is 0, which the sum doesn't see.
        let mut a = padded(rest, f32::NEG_INFINITY);
        let e = exp(L::load(&a).sub(m));
        sum = sum.add(e);
        e.store(&mut a);
        rest.copy_from_slice(&a[..rest.len()]);
    }
    let r = L::splat(1.0 / sum.sum());
    crate::ops::map::<L>(x, |e| e.mul(r));
}
