//! Attention, and what writes the cache.

use core::num::NonZeroUsize;

use super::random::{Kind, Rng, fill_floats};
use super::room::{Room, take};
use super::{Case, EquivalenceError, UNTOUCHED, same_ints, same_tile};
use crate::{
    AttentionParams, Backend, DenseActivations, KV_BLOCK, KvFormat, KvHead, KvLayout, Scalar, Tile,
};

/// Inputs of an attention.
#[derive(Clone, Copy, Debug)]
pub struct Attention {
    /// Of the cache.
    pub format: KvFormat,
    /// Elements of a head.
    pub head_dim: usize,
    /// Heads that share the cache.
    pub heads: usize,
    /// Of the first query.
    pub position: usize,
    /// Queries of each head.
    pub n: usize,
    /// Positions that a query sees, where not all.
    pub window: Option<NonZeroUsize>,
    /// Kind of the numbers.
    pub kind: Kind,
    /// Floats before and between the rows of the output.
    pub gap: usize,
    /// Of its numbers.
    pub seed: u64,
}

/// Blocks of a cache of which the order is changed too.
const MAX_PAGES: usize = 64;

/// A head's cache in memory of its own.
struct Cache<'m> {
    keys: &'m mut [u8],
    values: &'m mut [u8],
}

/// Stores the same bytes, and attends to the same bits in one step or in two, to all queries and heads
/// or to each, whatever lies in the cache beyond what a query sees. Gives the number of cases.
///
/// # Errors
/// [`EquivalenceError`].
///
/// # Panics
/// If a head is wider than [`crate::MAX_HEAD_DIM`].
pub fn attend<'m>(
    b: &dyn Backend,
    a: &Attention,
    room: &mut dyn Room<'m>,
) -> Result<u64, EquivalenceError> {
    let r = &mut Rng::new(a.seed);
    let (hd, end, width) = (a.head_dim, a.position + a.n, a.heads * a.head_dim);
    let capacity = end.next_multiple_of(KV_BLOCK);
    let layout = KvLayout { format: a.format, head_dim: hd, capacity };
    let case = |operation| Case {
        operation,
        format: a.format.name(),
        rows: a.heads,
        cols: hd,
        n: a.n,
        kind: a.kind,
        seed: a.seed,
    };
    // Keys and values that a model may have: not wild ones, which make all outputs NaN; but once in a
    // while one of them.
    let kind = if a.kind == Kind::Wild && r.below(4) > 0 { Kind::Plain } else { a.kind };
    let (keys, values) = (take(room, 0, end * hd)?, take(room, 1, end * hd)?);
    fill_floats(r, keys, kind);
    fill_floats(r, values, kind);
    let q = take(room, 3, a.n * width)?;
    fill_floats(r, q, Kind::Plain);
    let q = &*q;
    // Sinks are numbers like any others: those that the queries begin with.
    let params = AttentionParams {
        window: a.window,
        scale: 1.0 / libm::sqrtf(hd as f32),
        softcap: [0.0, 0.0, 3.0][r.below(3)],
        sinks: if r.below(3) == 0 { &q[..a.heads] } else { &[] },
    };
    // Of 4-byte elements, at any multiple of 4.
    let mut cache = |skew| {
        let keys = bytemuck::cast_slice_mut::<f32, u8>(take(room, skew, layout.key_bytes() / 4)?);
        let values = take::<f32>(room, skew + 1, layout.value_bytes() / 4)?;
        Ok::<_, EquivalenceError>(Cache { keys, values: bytemuck::cast_slice_mut(values) })
    };
    let (mut truth, mut own) = (cache(0)?, cache(1)?);
    let write = |b: &dyn Backend, layout, to: &mut Cache<'_>, positions| {
        for p in positions {
            b.store_key(layout, to.keys, p, &keys[p * hd..][..hd]);
            b.store_value(layout, to.values, p, &values[p * hd..][..hd]);
        }
    };
    let store = |b: &dyn Backend, to: &mut Cache<'_>, rest: u8, positions| {
        to.keys.fill(rest);
        to.values.fill(rest);
        write(b, &layout, to, positions);
    };
    store(&Scalar, &mut truth, 0xff, 0..end);
    store(b, &mut own, 0xff, 0..end);
    same_ints(&case("store_key, bytes"), truth.keys, own.keys)?;
    same_ints(&case("store_value, bytes"), truth.values, own.values)?;

    let want: &mut [f32] = take(room, 0, a.n * width)?;
    let head = KvHead::new(layout, truth.keys, truth.values);
    let all = DenseActivations::new(q, a.n, width, width);
    let mut tile = Tile::new(want, a.n, width, width);
    Scalar.attend(&all, &head, a.position, &params, &mut tile);
    let want = &*want;

    let y: &mut [f32] = take(room, 0, a.gap + a.n * (width + a.gap))?;
    let mut cases = 2;
    // Queries `from..to` of the columns from `col` on, over a cache with these pages if there are any.
    let mut compare_in = |what,
                          (layout, pages): (KvLayout, &[u32]),
                          own: &Cache<'_>,
                          (from, to),
                          (col, width),
                          gap: usize| {
        let (n, ld) = (to - from, width + gap);
        let y = &mut y[..gap + n * ld];
        y.fill(UNTOUCHED);
        let mut head = KvHead::new(layout, own.keys, own.values);
        if !pages.is_empty() {
            head = head.with_pages(pages);
        }
        let row = a.heads * hd;
        let q = DenseActivations::new(&q[from * row..], n, row, row).cols_of(col, width);
        let mut tile = Tile::new(&mut y[gap..], n, width, ld);
        let sinks = params.sinks.get(col / hd..(col + width) / hd).unwrap_or_default();
        let params = AttentionParams { sinks, ..params };
        b.attend(&q, &head, a.position + from, &params, &mut tile);
        let case = Case { n, rows: width / hd, ..case(what) };
        cases += 1;
        same_tile(&case, (y, gap, width, ld), |t| &want[(from + t) * row + col..])
    };
    // The shortest rings that do for one query of the window, and for all of them, in the memory of the
    // truth's cache.
    let ring = |n, memory: &mut Cache<'m>| {
        let seen = a.window.map_or(capacity, |w| w.get() + n - 1);
        let capacity = seen.next_multiple_of(KV_BLOCK).min(capacity);
        let layout = KvLayout { capacity, ..layout };
        for (memory, len) in
            [(&mut memory.keys, layout.key_bytes()), (&mut memory.values, layout.value_bytes())]
        {
            *memory = &mut core::mem::take(memory)[..len];
            memory.fill(0xff);
        }
        layout
    };
    let several = ring(a.n, &mut truth);
    write(b, &several, &mut truth, 0..end);
    compare_in("attend, a ring", (several, &[]), &truth, (0, a.n), (0, width), a.gap)?;
    let single = ring(1, &mut truth);
    write(b, &single, &mut truth, 0..a.position);
    for t in 0..a.n {
        // When the positions up to its own were stored.
        write(b, &single, &mut truth, a.position + t..a.position + t + 1);
        compare_in("attend, a ring, one query", (single, &[]), &truth, (t, t + 1), (0, width), 0)?;
    }
    // The blocks of the text in another order.
    let blocks = capacity / KV_BLOCK;
    let mut pages = [0; MAX_PAGES];
    if let Some(pages) = pages.get_mut(..blocks) {
        for (b, page) in pages.iter_mut().enumerate() {
            *page = ((b + a.position) % blocks) as u32;
        }
        own.keys.fill(0xff);
        own.values.fill(0xff);
        for p in 0..end {
            let slot = pages[p / KV_BLOCK] as usize * KV_BLOCK + p % KV_BLOCK;
            b.store_key(&layout, own.keys, slot, &keys[p * hd..][..hd]);
            b.store_value(&layout, own.values, slot, &values[p * hd..][..hd]);
        }
        let paged = (layout, &*pages);
        compare_in("attend, pages", paged, &own, (0, a.n), (0, width), a.gap)?;
        for t in 0..a.n {
            compare_in("attend, pages, one query", paged, &own, (t, t + 1), (0, width), 0)?;
        }
        store(b, &mut own, 0xff, 0..end);
    }
    let mut compare = |what, own: &Cache<'_>, queries, columns, gap| {
        compare_in(what, (layout, &[]), own, queries, columns, gap)
    };
    compare("attend", &own, (0, a.n), (0, width), a.gap)?;
    for t in 0..a.n {
        compare("attend, one query", &own, (t, t + 1), (0, width), 0)?;
    }
    for h in 0..a.heads {
        compare("attend, one head", &own, (0, a.n), (h * hd, hd), 0)?;
    }
    let cut = r.below(a.n + 1);
    compare("attend, the first step of two", &own, (0, cut), (0, width), a.gap)?;
    compare("attend, the second step of two", &own, (cut, a.n), (0, width), a.gap)?;
    store(b, &mut own, 0, 0..end);
    compare("attend, another rest of the cache", &own, (0, a.n), (0, width), 0)?;
    // What lies before the first query's window is not looked at: all ones are NaN as f32 and f16.
    let unseen = a.window.map_or(0, |w| (a.position + 1).saturating_sub(w.get()));
    store(b, &mut own, 0xff, unseen..end);
    compare("attend, another cache before the window", &own, (0, a.n), (0, width), 0)?;
    Ok(cases)
}
