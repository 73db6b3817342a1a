//! The largest of many: for greedy choice and top-k over a vocabulary.

use core::cmp::Ordering;

use crate::lanes::{LANES, Lanes};
use crate::ops::padded;

/// Elements that are looked at together.
const CHUNK: usize = 16 * LANES;

/// The largest element; minus infinity where there is none but NaN.
#[inline(always)]
pub(crate) fn largest<L: Lanes>(x: &[f32]) -> f32 {
    let mut m = L::splat(f32::NEG_INFINITY);
    let (chunks, rest) = x.as_chunks::<LANES>();
    for c in chunks {
        m = L::load(c).max(m); // the second where the first is NaN
    }
    if !rest.is_empty() {
        m = L::load(&padded(rest, f32::NEG_INFINITY)).max(m);
    }
    m.largest()
}

/// True if an element is above `bar`, or NaN.
#[inline(always)]
fn any_beyond<L: Lanes>(x: &[f32], bar: f32) -> bool {
    let (bar, one) = (L::splat(bar), L::splat(1.0));
    let mut any = L::splat(0.0);
    let (chunks, rest) = x.as_chunks::<LANES>();
    for c in chunks {
        any = L::load(c).select_le(bar, any, one);
    }
    if !rest.is_empty() {
        any = L::load(&padded(rest, f32::NEG_INFINITY)).select_le(bar, any, one);
    }
    any.largest() > 0.0
}

/// See [`crate::Backend::argmax`].
#[inline(always)]
pub(crate) fn argmax<L: Lanes>(x: &[f32]) -> usize {
    let (mut best, mut first) = (f32::NEG_INFINITY, 0);
    for (c, chunk) in x.chunks(CHUNK).enumerate() {
        let m = largest::<L>(chunk);
        if m > best {
            (best, first) = (m, c * CHUNK);
        }
    }
    // In its chunk, unless the largest is minus infinity: then wherever that is.
    x[first..].iter().position(|v| *v == best).map_or(0, |i| first + i)
}

/// Result of [`crate::Backend::top_k`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TopK {
    /// How many were selected: as many as there was room for, or all that are not NaN.
    pub len: usize,
    /// The first NaN.
    pub nan: Option<usize>,
}

/// A selected element: its index and its value.
type Entry = (u32, f32);

/// The order of the selection: larger values first, lower indices among equals. No NaN gets here.
#[inline(always)]
fn order(a: &Entry, b: &Entry) -> Ordering {
    b.1.partial_cmp(&a.1).unwrap_or(Ordering::Equal).then(a.0.cmp(&b.0))
}

/// Restores the heap, whose root is the last by [`order`], below entry `i`.
fn sift_down(heap: &mut [Entry], mut i: usize) {
    loop {
        let left = 2 * i + 1;
        let Some(mut child) = heap.get(left).map(|_| left) else { return };
        if heap.get(left + 1).is_some_and(|right| order(right, &heap[left]).is_gt()) {
            child = left + 1;
        }
        if order(&heap[child], &heap[i]).is_le() {
            return;
        }
        heap.swap(i, child);
        i = child;
    }
}

/// See [`crate::Backend::top_k`].
#[inline(always)]
pub(crate) fn top_k<L: Lanes>(x: &[f32], out: &mut [Entry]) -> TopK {
    assert!(u32::try_from(x.len()).is_ok(), "too many to number");
    let (mut i, mut len, mut nan) = (0, 0, None);
    while i < x.len() && len < out.len() {
        if x[i].is_nan() {
            nan = nan.or(Some(i));
        } else {
            out[len] = (i as u32, x[i]);
            len += 1;
        }
        i += 1;
    }
    let heap = &mut out[..len];
    for root in (0..len / 2).rev() {
        sift_down(heap, root);
    }
    // Later ones have higher indices, so they must be larger than the last one selected.
    let mut bar = heap.first().map_or(f32::INFINITY, |e| e.1);
    for (c, chunk) in x[i..].chunks(CHUNK).enumerate() {
        if !any_beyond::<L>(chunk, bar) {
            continue;
        }
        for (j, &v) in chunk.iter().enumerate() {
            let at = i + c * CHUNK + j;
            if v > bar {
                heap[0] = (at as u32, v);
                sift_down(heap, 0);
                bar = heap[0].1;
            } else if v.is_nan() {
                nan = nan.or(Some(at));
            }
        }
    }
    heap.sort_unstable_by(order);
    TopK { len, nan }
}
