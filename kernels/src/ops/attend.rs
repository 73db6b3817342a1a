//! Attention of the heads that share a cache.
//!
//! For one query of one head: the cache is walked in blocks of 64 positions (block borders are
//! absolute positions, so no way of splitting a prompt moves them) with the online softmax of
//! Milakov and Gimelshein ("Online normalizer calculation for softmax", 2018). Blocks of which the
//! query sees nothing (later ones, and those before its window) are left out. In a block:
//!
//! - score `s[j] = scale * sum_d q[d] k[j][d]`, the sum by fused multiply-adds in ascending `d`
//!   (int8 keys: times the key's scale before `scale`), with a cap then `cap * tanh(s[j] / cap)`;
//!   positions not visible get minus infinity;
//! - the running maximum `m` becomes `m'`; with `c = exp(m - m')`, `e[j] = exp(s[j] - m')`:
//!   sixteen running sums `l = l * c + e` (positions strided by 16, ascending), and the output
//!   `o[d] = o[d] * c`, then `o[d] = fma(e[j], v[j][d], o[d])` in ascending `j`
//!   (int8 values: `e[j]` times the value's scale).
//!
//! Where block `b` lies in the cache is another matter: with a page table where that says; otherwise, in
//! a cache shorter than the text, a ring, it is block `b % (capacity / 64)`. Slots of it that hold later positions are not seen, as those before
//! a window are not.
//!
//! It begins with `m` minus infinity and `l` 0; of a head with a sink, as if that were a score before all
//! others without a value: with `m` the sink, and 1 in the first of the sums.
//!
//! At the end `o[d] * (1 / l)`, `l` summed by the halving tree. Tiles of several queries and heads
//! only interleave these computations.

#![allow(clippy::needless_range_loop)] // tiles of a constant size, unrolled by their indices

use core::mem::MaybeUninit;
use core::num::NonZeroUsize;

use bytemuck::cast_slice;

use crate::kv::{KV_BLOCK, KvFormat, KvHead};
use crate::lanes::{LANES, Lanes};
use crate::ops::math::{exp, softcap};
use crate::{DenseActivations, Tile};

/// The widest head.
pub const MAX_HEAD_DIM: usize = 512;

/// Parameters of [`Backend::attend`](crate::Backend::attend).
///
/// ```
/// use teff_kernels::AttentionParams;
///
/// let params = AttentionParams { softcap: 50.0, ..AttentionParams::new(0.125) };
/// assert!(params.window.is_none() && params.sinks.is_empty());
/// ```
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct AttentionParams<'a> {
    /// Positions that a query attends to, the last ones up to its own; `None` for all.
    pub window: Option<NonZeroUsize>,
    /// Scale of the scores before softmax.
    pub scale: f32,
    /// Soft cap of the scaled scores: they become `cap * tanh(score / cap)`; 0 for none.
    pub softcap: f32,
    /// A further score for each head of a row, neither scaled nor capped, that takes part in the softmax
    /// and has no value ("attention sink"); empty for none.
    pub sinks: &'a [f32],
}

impl AttentionParams<'_> {
    /// Scores with this scale and nothing else.
    #[must_use]
    pub const fn new(scale: f32) -> Self {
        AttentionParams { window: None, scale, softcap: 0.0, sinks: &[] }
    }
}

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

/// One query of one head: what it sees, and what it has gathered so far.
#[derive(Clone, Copy)]
struct State<'a, L> {
    q: &'a [f32],
    /// The positions that it sees: `from..to`.
    from: usize,
    to: usize,
    max: f32,
    sum: L,
    out: [[f32; LANES]; MAX_HEAD_DIM / LANES],
}

impl<L> State<'_, L> {
    /// The positions of a block that it sees, counted from the block's first.
    #[inline(always)]
    fn seen(&self, block: usize) -> (usize, usize) {
        let first = block * KV_BLOCK;
        let inside = |position: usize| position.saturating_sub(first).min(KV_BLOCK);
        (inside(self.from), inside(self.to))
    }

    #[inline(always)]
    fn sees(&self, block: usize) -> bool {
        let (from, to) = self.seen(block);
        from < to
    }
}

/// In step `i` of a loop whose steps take 64 elements each: fetches as many of those that will be
/// wanted next, since the CPU's prefetcher begins anew with every head's keys and values. (What
/// attention adds to a token of GPT-2 124M Q4_0 at position 480, by `avx512` on one thread: f32 2.3
/// to 1.8 ms, f16 1.4 to 0.8, int8 0.8 to 0.6.)
#[inline(always)]
fn fetch<L: Lanes, E: Element>(wanted: &[u8], i: usize) {
    for line in 0..size_of::<E>() {
        let at = 64 * (size_of::<E>() * i + line);
        if at < wanted.len() {
            L::prefetch(wanted.as_ptr().wrapping_add(at));
        }
    }
}

/// The sums of products of `QT` queries with the keys of a block.
#[inline(always)]
fn scores<L: Lanes, E: Element, const QT: usize>(
    kv: &KvHead<'_>,
    block: usize,
    q: [&[f32]; QT],
    wanted: &[u8],
) -> [[f32; KV_BLOCK]; QT] {
    let hd = kv.layout.head_dim;
    let panels = &kv.key_panels::<E>()[block * PANELS * hd..][..PANELS * hd];
    let (p0, rest) = panels.split_at(hd);
    let (p1, rest) = rest.split_at(hd);
    let (p2, p3) = rest.split_at(hd);
    let q = q.map(|q| &q[..hd]);
    let mut s = [[L::splat(0.0); PANELS]; QT];
    for d in 0..hd {
        fetch::<L, E>(wanted, d);
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

/// One block of [`KV_BLOCK`] positions for `QT` queries, all of which see some of it.
#[inline(always)]
fn block<L: Lanes, E: Element, const QT: usize>(
    kv: &KvHead<'_>,
    block: usize,
    (scale, cap): (f32, f32),
    state: &mut [State<'_, L>; QT],
) {
    let mut seen = [(0, 0); QT];
    let mut q: [&[f32]; QT] = [&[]; QT];
    let at = kv.place(block);
    let (mut last, mut more) = (0, false);
    for t in 0..QT {
        seen[t] = state[t].seen(block);
        q[t] = state[t].q;
        last = last.max(seen[t].1);
        more |= state[t].sees(block + 1);
    }
    // Scores, and later their exponentials; and what the outputs so far are to be multiplied with.
    let stride = kv.layout.value_stride() / LANES;
    let rows = &kv.value_rows::<E>()[at * KV_BLOCK * stride..][..KV_BLOCK * stride];
    let mut e = scores::<L, E, QT>(kv, at, q, cast_slice(&rows[..last * stride]));
    let mut c = [L::splat(1.0); QT];
    for t in 0..QT {
        for (p, s) in e[t].as_chunks_mut::<LANES>().0.iter_mut().enumerate() {
            let mut x = L::load(s);
            if E::SCALED {
                x = x.mul(L::load(&kv.key_scales()[at * PANELS + p]));
            }
            x.mul(L::splat(scale)).store(s);
        }
        if cap > 0.0 {
            for s in e[t].as_chunks_mut::<LANES>().0 {
                softcap(L::load(s), L::splat(cap)).store(s);
            }
        }
        e[t][..seen[t].0].fill(f32::NEG_INFINITY);
        e[t][seen[t].1..].fill(f32::NEG_INFINITY);
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
                ep = ep.mul(L::load(&kv.value_scales()[at * PANELS + p]));
            }
            ep.store(to);
        }
    }
    // Keys of the next block, wherever it lies.
    let panels = PANELS * kv.layout.head_dim;
    let next = if more { kv.place(block + 1) } else { 0 };
    let next = next * panels..(next + usize::from(more)) * panels;
    let mut next: &[u8] = cast_slice(&kv.key_panels::<E>()[next]);
    let mut col = 0;
    while col < stride {
        if stride - col >= GROUP {
            values::<L, E, QT, GROUP>((rows, stride), col, seen, &e, c, next, state);
            next = next.get(64 * KV_BLOCK * size_of::<E>()..).unwrap_or_default();
            col += GROUP;
        } else {
            values::<L, E, QT, 1>((rows, stride), col, seen, &e, c, next, state);
            col += 1;
        }
    }
}

/// Adds the values of a block to `G` registers of output, from register `col` on.
#[inline(always)]
fn values<L: Lanes, E: Element, const QT: usize, const G: usize>(
    (rows, stride): (&[[E; LANES]], usize),
    col: usize,
    seen: [(usize, usize); QT],
    e: &[[f32; KV_BLOCK]; QT],
    c: [L; QT],
    wanted: &[u8],
    state: &mut [State<'_, L>; QT],
) {
    let mut o = [[L::splat(0.0); G]; QT];
    for t in 0..QT {
        for g in 0..G {
            o[t][g] = L::load(&state[t].out[col + g]).mul(c[t]);
        }
    }
    // What all of them see, they add together; before and after it each adds the rest on its own.
    let (mut from, mut to) = (0, KV_BLOCK);
    for t in 0..QT {
        from = from.max(seen[t].0);
        to = to.min(seen[t].1);
    }
    if from >= to {
        (from, to) = (KV_BLOCK, KV_BLOCK);
    }
    for t in 0..QT {
        for j in seen[t].0..from.min(seen[t].1) {
            for g in 0..G {
                let v: L = E::load(&rows[j * stride + col + g]);
                o[t][g] = L::splat(e[t][j]).fma(v, o[t][g]);
            }
        }
    }
    let mut common = rows[from * stride..].chunks_exact(stride);
    for j in from..to.min(KV_BLOCK) {
        let Some(row) = common.next() else { break };
        let row = &row[col..col + G];
        if G == GROUP {
            fetch::<L, E>(wanted, j);
        }
        for g in 0..G {
            let v: L = E::load(&row[g]);
            for t in 0..QT {
                o[t][g] = L::splat(e[t][j]).fma(v, o[t][g]);
            }
        }
    }
    for t in 0..QT {
        for j in to..seen[t].1 {
            for g in 0..G {
                let v: L = E::load(&rows[j * stride + col + g]);
                o[t][g] = L::splat(e[t][j]).fma(v, o[t][g]);
            }
        }
        for g in 0..G {
            o[t][g].store(&mut state[t].out[col + g]);
        }
    }
}

/// Inputs of an attention.
#[derive(Clone, Copy)]
struct Job<'a> {
    q: DenseActivations<'a>,
    kv: KvHead<'a>,
    position: usize,
    window: usize,
    params: AttentionParams<'a>,
    heads: usize,
}

/// `count` of the queries, from number `first` on (all heads of a row, then the next row's): the
/// cache is read once for all of them, block by block, `QT` of them sharing what is loaded into
/// registers.
#[inline(always)]
fn pass<L: Lanes, E: Element, const QT: usize, const HELD: usize>(
    job: &Job<'_>,
    first: usize,
    count: usize,
    out: &mut Tile<'_>,
) {
    let hd = job.kv.layout.head_dim;
    let mut memory = [const { MaybeUninit::<State<'_, L>>::uninit() }; HELD];
    let memory = &mut memory[..count];
    let (mut first_seen, mut end) = (usize::MAX, 0);
    for (i, state) in memory.iter_mut().enumerate() {
        let (t, h) = ((first + i) / job.heads, (first + i) % job.heads);
        let to = job.position + t + 1;
        let from = to.saturating_sub(job.window);
        (first_seen, end) = (first_seen.min(from), end.max(to));
        let (max, mut sum) = match job.params.sinks.get(h) {
            Some(&sink) => (sink, [1.0; LANES]),
            None => (f32::NEG_INFINITY, [0.0; LANES]),
        };
        sum[1..].fill(0.0);
        state.write(State {
            q: &job.q.row(t)[h * hd..][..hd],
            from,
            to,
            max,
            sum: L::load(&sum),
            out: [[0.0; LANES]; MAX_HEAD_DIM / LANES],
        });
    }
    // SAFETY: all of them were written just now.
    let state = unsafe { &mut *(core::ptr::from_mut(memory) as *mut [State<'_, L>]) };
    for b in first_seen / KV_BLOCK..end.div_ceil(KV_BLOCK) {
        let mut i = 0;
        while i < count {
            let mut n = 0;
            while n < QT && i + n < count && state[i + n].sees(b) {
                n += 1;
            }
            let rest = &mut state[i..];
            match n {
                0 => {}
                1 => several::<L, E, 1>(job, b, rest),
                2 if QT > 2 => several::<L, E, 2>(job, b, rest),
                3 if QT > 3 => several::<L, E, 3>(job, b, rest),
                _ => several::<L, E, QT>(job, b, rest),
            }
            i += n.max(1);
        }
    }
    for (i, state) in state.iter().enumerate() {
        let (t, h) = ((first + i) / job.heads, (first + i) % job.heads);
        let r = 1.0 / state.sum.sum();
        let row = &mut out.row(t)[h * hd..][..hd];
        for (o, a) in row.chunks_mut(LANES).zip(&state.out) {
            let mut v = [0.0; LANES];
            L::load(a).mul(L::splat(r)).store(&mut v);
            o.copy_from_slice(&v[..o.len()]);
        }
    }
}

/// [`block`] for the first `N` of these.
#[inline(always)]
fn several<L: Lanes, E: Element, const N: usize>(
    job: &Job<'_>,
    b: usize,
    state: &mut [State<'_, L>],
) {
    if let Some(state) = state.first_chunk_mut::<N>() {
        block::<L, E, N>(&job.kv, b, (job.params.scale, job.params.softcap), state);
    }
}

#[inline(always)]
fn all<L: Lanes, E: Element, const QT: usize, const HELD: usize>(
    job: &Job<'_>,
    out: &mut Tile<'_>,
) {
    const { assert!(1 <= QT && QT <= 4 && QT <= HELD) };
    let queries = job.q.n() * job.heads;
    let mut i = 0;
    while i < queries {
        let count = HELD.min(queries - i);
        pass::<L, E, QT, HELD>(job, i, count, out);
        i += count;
    }
}

/// See [`crate::Backend::attend`]; for `HELD` queries at a time the cache is read once, `QT` (at
/// most 4) of them share registers.
#[inline(always)]
pub(crate) fn attend<L: Lanes, const QT: usize, const HELD: usize>(
    q: &DenseActivations<'_>,
    kv: &KvHead<'_>,
    position: usize,
    params: &AttentionParams<'_>,
    out: &mut Tile<'_>,
) {
    let hd = kv.layout.head_dim;
    assert!((1..=MAX_HEAD_DIM).contains(&hd) && q.cols().is_multiple_of(hd));
    assert!(out.width() == q.cols() && out.n() == q.n());
    assert!(params.sinks.is_empty() || params.sinks.len() == q.cols() / hd, "a sink for each head");
    let window = params.window.map_or(usize::MAX, NonZeroUsize::get);
    // All of the text is there, or all of it that these queries see.
    let end = position.saturating_add(q.n());
    let seen = match kv.pages {
        [] => (window - 1).saturating_add(q.n()),
        _ => end,
    };
    assert!(end.min(seen) <= kv.positions() && end < usize::MAX, "positions beyond the cache");
    let job = Job { q: *q, kv: *kv, position, window, params: *params, heads: q.cols() / hd };
    match kv.layout.format {
        KvFormat::F32 => all::<L, f32, QT, HELD>(&job, out),
        KvFormat::F16 => all::<L, [u8; 2], QT, HELD>(&job, out),
        KvFormat::Q8 => all::<L, i8, QT, HELD>(&job, out),
    }
}
