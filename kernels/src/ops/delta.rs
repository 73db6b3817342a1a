//! The gated delta rule (Yang, Kautz, Hatamizadeh, 2024): a head's memory as a matrix that forgets, and
//! is corrected at every token.
//!
//! For one head with `dk` rows and, in each column `c`, token by token:
//!
//! ```text
//! t[i] = decay * s[i]                          for every row i
//! r    = sum_i t[i] * k[i]                     fused, from 0, rows ascending
//! d    = beta * (v[c] - r)
//! s[i] = t[i] + k[i] * d                       fused, for every row i
//! o[c] = sum_i s[i] * q[i]                     fused, from 0, rows ascending
//! ```
//!
//! Columns know nothing of each other, so they are lanes, and any of them may be computed by themselves;
//! rows and tokens are in order. The state lies in panels of sixteen columns, each `dk` rows of sixteen
//! floats; lanes beyond the last column hold anything.
//!
//! What a token writes, the next one reads: one walk over the rows does both, so that a row is loaded and
//! stored once for each token (two panels at a time, whose four sums hide the latency of the
//! multiply-adds, and which stay in the first cache for all tokens).

#![allow(clippy::needless_range_loop)] // tiles of a constant size, unrolled by their indices

use crate::lanes::{LANES, Lanes};
use crate::ops::padded;
use crate::{DenseActivations, Tile};

/// Inputs of [`crate::Backend::delta_rule`]: a row of each for every token.
#[derive(Clone, Copy, Debug)]
pub struct DeltaInputs<'a> {
    /// Queries.
    pub q: DenseActivations<'a>,
    /// Keys.
    pub k: DenseActivations<'a>,
    /// Values, as many as columns are computed.
    pub v: DenseActivations<'a>,
    /// Factor of the old state, one number.
    pub decay: DenseActivations<'a>,
    /// Strength of the correction, one number.
    pub beta: DenseActivations<'a>,
}

/// Source of the state before the first token.
#[derive(Clone, Copy, Debug)]
pub enum DeltaStart<'a> {
    /// Zeros.
    Zeros,
    /// Another state of the same shape.
    From(&'a [f32]),
    /// The state that is written.
    InPlace,
}

/// Panels that are computed together.
const GROUP: usize = 2;

/// See [`crate::Backend::delta_rule`].
#[inline(always)]
pub(crate) fn delta_rule<L: Lanes>(
    start: DeltaStart<'_>,
    state: &mut [f32],
    x: &DeltaInputs<'_>,
    out: &mut Tile<'_>,
) {
    let (n, rows, columns) = (x.q.n(), x.q.cols(), x.v.cols());
    let panels = columns.div_ceil(LANES);
    assert!(rows > 0 && x.k.cols() == rows, "queries and keys of one width");
    assert!(x.decay.cols() == 1 && x.beta.cols() == 1, "one decay and one strength for a token");
    assert!([x.k, x.v, x.decay, x.beta].iter().all(|x| x.n() == n), "a row for every token");
    assert!(out.n() == n && out.width() == columns, "the output has another shape");
    let state = state.as_chunks_mut::<LANES>().0;
    assert!(state.len() == panels * rows, "panels of the state");
    let from = match start {
        DeltaStart::From(from) => from.as_chunks::<LANES>().0,
        _ => &[],
    };
    assert!(from.is_empty() || from.len() == state.len(), "panels of the state before");
    let zeros = matches!(start, DeltaStart::Zeros);
    if n == 0 {
        match start {
            DeltaStart::Zeros => state.fill([0.0; LANES]),
            DeltaStart::From(_) => state.copy_from_slice(from),
            DeltaStart::InPlace => {}
        }
        return;
    }
    let mut p = 0;
    while p < panels {
        let g = if panels - p >= GROUP { GROUP } else { 1 };
        let at = p * rows..(p + g) * rows;
        let from = from.get(at.clone());
        match g {
            GROUP => some::<L, GROUP>((from, zeros), &mut state[at], x, p * LANES, out),
            _ => some::<L, 1>((from, zeros), &mut state[at], x, p * LANES, out),
        }
        p += g;
    }
}

/// `G` panels, whose first column is `col`.
#[inline(always)]
fn some<L: Lanes, const G: usize>(
    (from, zeros): (Option<&[[f32; LANES]]>, bool),
    state: &mut [[f32; LANES]],
    x: &DeltaInputs<'_>,
    col: usize,
    out: &mut Tile<'_>,
) {
    let (n, rows) = (x.q.n(), x.q.cols());
    let zero = L::splat(0.0);
    // Of the first token, what precedes its correction.
    let (k, decay) = (x.k.row(0), L::splat(x.decay.row(0)[0]));
    let mut r = [zero; G];
    for i in 0..rows {
        let ki = L::splat(k[i]);
        for g in 0..G {
            let at = g * rows + i;
            let s = match from {
                Some(from) => L::load(&from[at]),
                None if zeros => zero,
                None => L::load(&state[at]),
            };
            let t = decay.mul(s);
            t.store(&mut state[at]);
            r[g] = ki.fma(t, r[g]);
        }
    }
    for token in 0..n {
        let (q, k, v) = (&x.q.row(token)[..rows], &x.k.row(token)[..rows], x.v.row(token));
        let beta = L::splat(x.beta.row(token)[0]);
        let mut d = [zero; G];
        for g in 0..G {
            let v = &v[col + g * LANES..];
            let v = match v.first_chunk() {
                Some(v) => L::load(v),
                None => L::load(&padded(v, 0.0)),
            };
            d[g] = beta.mul(v.sub(r[g]));
        }
        let mut o = [zero; G];
        if token + 1 < n {
            let (next, decay) = (&x.k.row(token + 1)[..rows], L::splat(x.decay.row(token + 1)[0]));
            r = [zero; G];
            for i in 0..rows {
                let (qi, ki, ni) = (L::splat(q[i]), L::splat(k[i]), L::splat(next[i]));
                for g in 0..G {
                    let row = &mut state[g * rows + i];
                    let s = ki.fma(d[g], L::load(row));
                    o[g] = qi.fma(s, o[g]);
                    let t = decay.mul(s);
                    t.store(row);
                    r[g] = ni.fma(t, r[g]);
                }
            }
        } else {
            for i in 0..rows {
                let (qi, ki) = (L::splat(q[i]), L::splat(k[i]));
                for g in 0..G {
                    let row = &mut state[g * rows + i];
                    let s = ki.fma(d[g], L::load(row));
                    o[g] = qi.fma(s, o[g]);
                    s.store(row);
                }
            }
        }
        let row = &mut out.row(token)[col..];
        for (o, to) in o.iter().zip(row.chunks_mut(LANES)) {
            match to.first_chunk_mut() {
                Some(to) => o.store(to),
                None => {
                    let mut a = [0.0; LANES];
                    o.store(&mut a);
                    to.copy_from_slice(&a[..to.len()]);
                }
            }
        }
    }
}
