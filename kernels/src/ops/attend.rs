//! Attention of one head over its cache.
//!
//! For one query: the cache is walked in blocks of 64 positions (block borders are absolute
//! positions, so no way of splitting a prompt moves them) with the online softmax of Milakov and
//! Gimelshein ("Online normalizer calculation for softmax", 2018). In a block:
//!
//! - score `s[j] = scale * sum_d q[d] k[j][d]`, the sum by fused multiply-adds in ascending `d`
//!   (int8 keys: times the key's scale before `scale`); positions not visible get minus infinity;
//! - the running maximum `m` becomes `m'`; with `c = exp(m - m')`, `e[j] = exp(s[j] - m')`:
//!   sixteen running sums `l = l * c + e` (positions strided by 16, ascending), and the output
//!   `o[d] = o[d] * c`, then `o[d] = fma(e[j], v[j][d], o[d])` in ascending `j`
//!   (int8 values: `e[j]` times the value's scale).
//!
//! At the end `o[d] * (1 / l)`, `l` summed by the halving tree. Tiles of several queries only
//! interleave these computations, and take part in blocks that all their queries see whole.

use crate::kv::{KV_BLOCK, KvFormat, KvHead};
use crate::lanes::{LANES, Lanes};
use crate::ops::math::exp;
use crate::{DenseActs, Tile};

/// The widest head.
pub const MAX_HEAD_DIM: usize = 512;

const PANELS: usize = KV_BLOCK / LANES;
/// Registers of output that one pass over the values of a block keeps, per query.
const GROUP: usize = 4;

/// An element of the cache.
trait Element: bytemuck::Pod {
    const SCALED: bool;
    fn load<L: Lanes>(p: &[Self; LANES]) -> L;
}

impl Element for f32 {
    const SCALED: bool = false;
    #[inline(always)]
    fn load<L: Lanes>(p: &[Self; LANES]) -> L {
        L::load(p)
    }
}

impl Element for [u8; 2] {
    const SCALED: bool = false;
    #[inline(always)]
    fn load<L: Lanes>(p: &[Self; LANES]) -> L {
        L::load_f16(p)
    }
}

impl Element for i8 {
    const SCALED: bool = true;
    #[inline(always)]
    fn load<L: Lanes>(p: &[Self; LANES]) -> L {
        L::load_i8(p)
    }
}

/// What a query has gathered so far.
#[derive(Clone, Copy)]
struct State<L> {
    max: f32,
    sum: L,
}

/// One block of [`KV_BLOCK`] positions for `QT` queries, of which the first `visible` count.
#[inline(always)]
#[allow(clippy::too_many_arguments)] // the inner loop's whole state
fn block<L: Lanes, E: Element, const QT: usize>(
    kv: &KvHead<'_>,
    block: usize,
    visible: usize,
    q: [&[f32]; QT],
    scale: f32,
    state: &mut [State<L>; QT],
    out: &mut [[[f32; LANES]; MAX_HEAD_DIM / LANES]; QT],
) {
    let hd = kv.layout.head_dim;
    let panels = &kv.key_panels::<E>()[block * PANELS * hd..][..PANELS * hd];
    let (p0, rest) = panels.split_at(hd);
    let (p1, rest) = rest.split_at(hd);
    let (p2, p3) = rest.split_at(hd);
    let q = q.map(|q| &q[..hd]);
    let mut s = [[L::splat(0.0); PANELS]; QT];
    for d in 0..hd {
        let k: [L; PANELS] = [E::load(&p0[d]), E::load(&p1[d]), E::load(&p2[d]), E::load(&p3[d])];
        for t in 0..QT {
            let qd = L::splat(q[t][d]);
            for p in 0..PANELS {
                s[t][p] = qd.fma(k[p], s[t][p]);
            }
        }
    }
    let mut e = [[[0.0f32; LANES]; PANELS]; QT];
    for t in 0..QT {
        for p in 0..PANELS {
            if E::SCALED {
                s[t][p] = s[t][p].mul(L::load(&kv.key_scales()[block * PANELS + p]));
            }
            s[t][p] = s[t][p].mul(L::splat(scale));
            if visible < (p + 1) * LANES {
                let mut a = [0.0; LANES];
                s[t][p].store(&mut a);
                a[visible.saturating_sub(p * LANES)..].fill(f32::NEG_INFINITY);
                s[t][p] = L::load(&a);
            }
        }
        let State { max, sum } = &mut state[t];
        let top = s[t][0].max(s[t][1]).max(s[t][2].max(s[t][3])).largest();
        let new = if top > *max { top } else { *max };
        let c = exp(L::splat(*max - new));
        *max = new;
        *sum = sum.mul(c);
        for p in 0..PANELS {
            let mut ep = exp(s[t][p].sub(L::splat(new)));
            *sum = sum.add(ep);
            if E::SCALED {
                ep = ep.mul(L::load(&kv.value_scales()[block * PANELS + p]));
            }
            ep.store(&mut e[t][p]);
        }
        for o in &mut out[t][..kv.layout.value_stride() / LANES] {
            L::load(o).mul(c).store(o);
        }
    }
    let stride = kv.layout.value_stride() / LANES;
    let rows = &kv.value_rows::<E>()[block * KV_BLOCK * stride..][..visible * stride];
    let mut from = 0;
    while from < stride {
        let left = stride - from;
        if left >= GROUP {
            values::<L, E, QT, GROUP>(rows, stride, from, &e, out);
            from += GROUP;
        } else {
            values::<L, E, QT, 1>(rows, stride, from, &e, out);
            from += 1;
        }
    }
}

/// Adds the values of a block to `G` registers of output, from register `from` on.
#[inline(always)]
fn values<L: Lanes, E: Element, const QT: usize, const G: usize>(
    rows: &[[E; LANES]],
    stride: usize,
    from: usize,
    e: &[[[f32; LANES]; PANELS]; QT],
    out: &mut [[[f32; LANES]; MAX_HEAD_DIM / LANES]; QT],
) {
    let mut o = [[L::splat(0.0); G]; QT];
    for t in 0..QT {
        for g in 0..G {
            o[t][g] = L::load(&out[t][from + g]);
        }
    }
    for (j, row) in rows.chunks_exact(stride).enumerate() {
        let row = &row[from..from + G];
        for g in 0..G {
            let v: L = E::load(&row[g]);
            for t in 0..QT {
                o[t][g] = L::splat(e[t][j / LANES % PANELS][j % LANES]).fma(v, o[t][g]);
            }
        }
    }
    for t in 0..QT {
        for g in 0..G {
            o[t][g].store(&mut out[t][from + g]);
        }
    }
}

/// `QT` queries at the positions `position..position + QT`, which see all positions up to theirs.
#[inline(always)]
fn queries<L: Lanes, E: Element, const QT: usize>(
    q: &DenseActs<'_>,
    first: usize,
    kv: &KvHead<'_>,
    position: usize,
    scale: f32,
    out: &mut Tile<'_>,
) {
    let mut acc = [[[0.0; LANES]; MAX_HEAD_DIM / LANES]; QT];
    let mut state = [State { max: f32::NEG_INFINITY, sum: L::splat(0.0) }; QT];
    let q: [&[f32]; QT] = core::array::from_fn(|t| q.row(first + t));
    let whole = (position + 1) / KV_BLOCK;
    for b in 0..whole {
        block::<L, E, QT>(kv, b, KV_BLOCK, q, scale, &mut state, &mut acc);
    }
    for t in 0..QT {
        // From the first block that some query of the tile doesn't see whole, each on its own.
        let visible = position + t + 1;
        let mut b = whole;
        while b * KV_BLOCK < visible {
            let n = KV_BLOCK.min(visible - b * KV_BLOCK);
            let (state, acc) =
                (core::array::from_mut(&mut state[t]), core::array::from_mut(&mut acc[t]));
            block::<L, E, 1>(kv, b, n, [q[t]], scale, state, acc);
            b += 1;
        }
        let r = 1.0 / state[t].sum.sum();
        for (o, a) in out.row(first + t).chunks_mut(LANES).zip(&acc[t]) {
            let mut v = [0.0; LANES];
            L::load(a).mul(L::splat(r)).store(&mut v);
            o.copy_from_slice(&v[..o.len()]);
        }
    }
}

#[inline(always)]
fn all<L: Lanes, E: Element, const QT: usize>(
    q: &DenseActs<'_>,
    kv: &KvHead<'_>,
    position: usize,
    scale: f32,
    out: &mut Tile<'_>,
) {
    let mut t = 0;
    while t + QT <= q.n() {
        queries::<L, E, QT>(q, t, kv, position + t, scale, out);
        t += QT;
    }
    while t < q.n() {
        queries::<L, E, 1>(q, t, kv, position + t, scale, out);
        t += 1;
    }
}

/// See [`crate::Backend::attend`]; `QT` queries at a time.
#[inline(always)]
pub(crate) fn attend<L: Lanes, const QT: usize>(
    q: &DenseActs<'_>,
    kv: &KvHead<'_>,
    position: usize,
    scale: f32,
    out: &mut Tile<'_>,
) {
    let hd = kv.layout.head_dim;
    assert!(hd <= MAX_HEAD_DIM && q.cols() == hd && out.width() == hd && out.n() == q.n());
    assert!(position + q.n() <= kv.layout.capacity);
    match kv.layout.format {
        KvFormat::F32 => all::<L, f32, QT>(q, kv, position, scale, out),
        KvFormat::F16 => all::<L, [u8; 2], QT>(q, kv, position, scale, out),
        KvFormat::Q8 => all::<L, i8, QT>(q, kv, position, scale, out),
    }
}
