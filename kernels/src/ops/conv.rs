//! A step of a depthwise convolution.

use core::ops::Range;

use crate::lanes::{LANES, Lanes};
use crate::ops::padded;

/// See [`crate::Backend::causal_conv`].
#[inline(always)]
pub(crate) fn causal_conv<L: Lanes>(taps: &[f32], inputs: &[f32], out: &mut [f32]) {
    let w = out.len();
    assert!(
        taps.len() == inputs.len() && taps.len() >= w && taps.len().is_multiple_of(w),
        "rows of taps and inputs"
    );
    let whole = w / LANES * LANES;
    let (chunks, rest) = out.as_chunks_mut::<LANES>();
    for (i, out) in chunks.iter_mut().enumerate() {
        let columns = i * LANES..(i + 1) * LANES;
        sum::<L>(taps, inputs, (w, columns)).store(out);
    }
    if !rest.is_empty() {
        let mut a = [0.0; LANES];
        sum::<L>(taps, inputs, (w, whole..w)).store(&mut a);
        rest.copy_from_slice(&a[..rest.len()]);
    }
}

/// Up to sixteen columns of the sum over all rows, which are `w` long.
#[inline(always)]
fn sum<L: Lanes>(taps: &[f32], inputs: &[f32], (w, columns): (usize, Range<usize>)) -> L {
    let (mut acc, mut row) = (L::splat(0.0), 0);
    while row < taps.len() {
        let at = row + columns.start..row + columns.end;
        let (t, x) = (&taps[at.clone()], &inputs[at]);
        let product = match (t.first_chunk(), x.first_chunk()) {
            (Some(t), Some(x)) => L::load(t).mul(L::load(x)),
            _ => L::load(&padded(t, 0.0)).mul(L::load(&padded(x, 0.0))),
        };
        // Not added to 0, which would lose the sign of a first -0.
        acc = if row == 0 { product } else { acc.add(product) };
        row += w;
    }
    acc
}
