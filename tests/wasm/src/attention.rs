//! The cache and attention.

use core::num::NonZeroUsize;

use teff_kernels::{AttentionParams, DenseActivations, KvFormat, KvHead, KvLayout, Tile};

use crate::Run;
use crate::inputs::{Aligned, Kind};

const CAPACITY: usize = 128;
/// The widest head.
const HEAD: usize = 40;
/// The most heads that share keys and values.
const HEADS: usize = 3;
/// The most queries.
const QUERIES: usize = 9;
/// Enough for keys or values with their scales.
const BYTES: usize = CAPACITY * (48 * 4 + 4);

pub(crate) fn check(run: &mut Run<'_>) {
    for format in KvFormat::ALL {
        for head_dim in [16, HEAD, run.r.below(HEAD) + 1] {
            attend(run, KvLayout { format, head_dim, capacity: CAPACITY });
        }
    }
}

fn attend(run: &mut Run<'_>, layout: KvLayout) {
    let hd = layout.head_dim;
    let n = run.r.below(QUERIES) + 1;
    let position = run.r.below(CAPACITY - n);
    let kind = [Kind::Plain, Kind::Plain, Kind::Wild][run.r.below(3)];
    let (keys, values) = (layout.key_bytes(), layout.value_bytes());
    // What lies beyond the positions stored must not matter.
    let mut cache_k = [Aligned([0xff; BYTES]), Aligned([0; BYTES])];
    let mut cache_v = [Aligned([0xff; BYTES]), Aligned([0; BYTES])];
    for p in 0..position + n {
        let mut kv = [[0.0; HEAD]; 2];
        run.r.floats(&mut kv[0][..hd], kind);
        run.r.floats(&mut kv[1][..hd], kind);
        for (i, b) in run.both().into_iter().enumerate() {
            b.store_key(&layout, &mut cache_k[i].0[..keys], p, &kv[0][..hd]);
            b.store_value(&layout, &mut cache_v[i].0[..values], p, &kv[1][..hd]);
        }
    }
    for range in layout.key_prefix((position + n) / 16 * 16) {
        run.bytes([&cache_k[0].0[range.clone()], &cache_k[1].0[range]]);
    }
    for range in layout.value_prefix((position + n) / 16 * 16) {
        run.bytes([&cache_v[0].0[range.clone()], &cache_v[1].0[range]]);
    }
    let width = hd * (run.r.below(HEADS) + 1);
    let mut q = [0.0; QUERIES * HEADS * HEAD];
    run.r.floats(&mut q[..n * width], Kind::Plain);
    let mut sinks = [0.0; HEADS];
    sinks.copy_from_slice(&q[..HEADS]);
    let params = AttentionParams {
        window: NonZeroUsize::new(run.r.below(2) * (run.r.below(CAPACITY) + 1)),
        scale: 0.25,
        softcap: [0.0, 0.0, 3.0][run.r.below(3)],
        sinks: if run.r.below(3) == 0 { &sinks[..width / hd] } else { &[] },
    };
    let mut out = [[0.0; QUERIES * HEADS * HEAD]; 2];
    for (i, b) in run.both().into_iter().enumerate() {
        let kv = KvHead::new(layout, &cache_k[i].0[..keys], &cache_v[i].0[..values]);
        let mut y = Tile::new(&mut out[i], n, width, width);
        let q = DenseActivations::new(&q, n, width, width);
        b.attend(&q, &kv, position, &params, &mut y);
    }
    run.floats([&out[0], &out[1]]);
}
