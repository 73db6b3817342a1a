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
//! interleave these computations.

#![allow(clippy::needless_range_loop)] // tiles of a constant size, unrolled by their indices

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
    out: [[f32; LANES]; MAX_HEAD_DIM / LANES],
}

/// The sums of products of `QT` queries with the keys of a block.
#[inline(always)]
fn scores<L: Lanes, E: Element, const QT: usize>(
    kv: &KvHead<'_>,
    block: usize,
    q: [&[f32]; QT],
) -> [[f32; KV_BLOCK]; QT] {
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
    // Through memory: where the registers above are also used by a variable index, the compiler
    // stores all of them in every step of the loop (0.6 times as fast).
    let mut out = [[0.0; KV_BLOCK]; QT];
    for t in 0..QT {
        for (p, out) in out[t].as_chunks_mut::<LANES>().0.iter_mut().enumerate() {
            s[t][p].store(out);
        }
    }
    out
}

/// One block of [`KV_BLOCK`] positions for `QT` queries, query `t` seeing the first `visible[t]` of
/// them: at least one, and not fewer than the query before it.
#[inline(always)]
fn block<L: Lanes, E: Element, const QT: usize>(
    kv: &KvHead<'_>,
    block: usize,
    visible: [usize; QT],
    q: [&[f32]; QT],
    scale: f32,
    state: &mut [State<L>; QT],
) {
    // Scores, and later their exponentials; and what the outputs so far are to be multiplied with.
    let mut e = scores::<L, E, QT>(kv, block, q);
    let mut c = [L::splat(1.0); QT];
    for t in 0..QT {
        for (p, s) in e[t].as_chunks_mut::<LANES>().0.iter_mut().enumerate() {
            let mut x = L::load(s);
            if E::SCALED {
                x = x.mul(L::load(&kv.key_scales()[block * PANELS + p]));
            }
            x.mul(L::splat(scale)).store(s);
        }
        e[t][visible[t]..].fill(f32::NEG_INFINITY);
        let e = e[t].as_chunks_mut::<LANES>().0;
        let s: [L; PANELS] = [L::load(&e[0]), L::load(&e[1]), L::load(&e[2]), L::load(&e[3])];
        let State { max, sum, .. } = &mut state[t];
        let top = s[0].max(s[1]).max(s[2].max(s[3])).largest();
        let new = if top > *max { top } else { *max };
        c[t] = exp(L::splat(*max - new));
        *max = new;
        *sum = sum.mul(c[t]);
        for (p, to) in e.iter_mut().enumerate() {
            let mut ep = exp(s[p].sub(L::splat(new)));
            *sum = sum.add(ep);
            if E::SCALED {
                ep = ep.mul(L::load(&kv.value_scales()[block * PANELS + p]));
            }
            ep.store(to);
        }
    }
    let stride = kv.layout.value_stride() / LANES;
    let rows = &kv.value_rows::<E>()[block * KV_BLOCK * stride..][..KV_BLOCK * stride];
    let mut from = 0;
    while from < stride {
        if stride - from >= GROUP {
            values::<L, E, QT, GROUP>(rows, stride, from, visible, &e, c, state);
            from += GROUP;
        } else {
            values::<L, E, QT, 1>(rows, stride, from, visible, &e, c, state);
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
    visible: [usize; QT],
    e: &[[f32; KV_BLOCK]; QT],
    c: [L; QT],
    state: &mut [State<L>; QT],
) {
    let mut o = [[L::splat(0.0); G]; QT];
    for t in 0..QT {
        for g in 0..G {
            o[t][g] = L::load(&state[t].out[from + g]).mul(c[t]);
        }
    }
    // What all of them see, together; then what the later ones see, each on its own.
    let first = visible[0];
    for (j, row) in rows.chunks_exact(stride).enumerate().take(first.min(KV_BLOCK)) {
        let row = &row[from..from + G];
        for g in 0..G {
            let v: L = E::load(&row[g]);
            for t in 0..QT {
                o[t][g] = L::splat(e[t][j]).fma(v, o[t][g]);
            }
        }
    }
    for t in 0..QT {
        for j in first..visible[t] {
            for g in 0..G {
                let v: L = E::load(&rows[j * stride + from + g]);
                o[t][g] = L::splat(e[t][j]).fma(v, o[t][g]);
            }
        }
        for g in 0..G {
            o[t][g].store(&mut state[t].out[from + g]);
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
    let nothing = State {
        max: f32::NEG_INFINITY,
        sum: L::splat(0.0),
        out: [[0.0; LANES]; MAX_HEAD_DIM / LANES],
    };
    let mut state = [nothing; QT];
    let q: [&[f32]; QT] = core::array::from_fn(|t| q.row(first + t));
    let mut b = 0;
    while b * KV_BLOCK <= position {
        let visible = core::array::from_fn(|t| KV_BLOCK.min(position + t + 1 - b * KV_BLOCK));
        block::<L, E, QT>(kv, b, visible, q, scale, &mut state);
        b += 1;
    }
    // A block that begins after the first query's position: for those that see some of it.
    for t in 0..QT {
        if b * KV_BLOCK <= position + t {
            let visible = position + t + 1 - b * KV_BLOCK;
            block::<L, E, 1>(kv, b, [visible], [q[t]], scale, core::array::from_mut(&mut state[t]));
        }
        let r = 1.0 / state[t].sum.sum();
        for (o, a) in out.row(first + t).chunks_mut(LANES).zip(&state[t].out) {
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
