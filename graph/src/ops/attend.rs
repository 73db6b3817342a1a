//! Attention of the rows of `out`, each over the cache of its own sequence; its items are
//! groups of heads and tiles of tokens.

use core::num::NonZeroUsize;
use core::ops::Range;

use teff_kernels::{AttentionParams, Backend, MAX_HEAD_DIM, Tile};

use super::{Access, Operation, StateAccess, sure};
use crate::TensorId;
use crate::exec::{SegmentRows, Stopped, Worker};
use crate::plan::{Buffer, BufferId, PlanView, RowCount, StateId, StateKind, lcm};

/// Queries that attention computes at a time.
const QUERY_TILE: usize = 32;

/// Attention over a cache.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Attend {
    /// Queries, f32.
    pub q: BufferId,
    /// Result, quantised if the buffer is.
    pub out: BufferId,
    /// Cache of keys and values.
    pub state: StateId,
    /// Query heads.
    pub heads: u16,
    /// Heads of keys and values.
    pub kv_heads: u16,
    /// Head dimension.
    pub head_dim: u16,
    /// Positions that a query attends to, including its own; 0 for all.
    pub window: u32,
    /// Scale of the scores before softmax.
    pub scale: f32,
    /// Soft cap of the scaled scores; 0 for none.
    pub softcap: f32,
    /// A further score for each head; `None` if there are none.
    pub sinks: Option<TensorId>,
    /// Growth of the scale: it is multiplied by `1 + growth ln(1 + floor(position / every))`.
    pub growth: f32,
    /// Positions of queries that have the same scale; 0 for all.
    pub every: u32,
}

impl Attend {
    /// Scale of the scores of a query, and the number of queries from this one on that have it.
    fn scale_at(&self, position: usize) -> (f32, usize) {
        let every = self.every as usize;
        if every == 0 {
            return (self.scale, usize::MAX);
        }
        // Exact: positions are far below 2^53.
        let factor = 1.0 + f64::from(self.growth) * libm::log(1.0 + (position / every) as f64);
        ((f64::from(self.scale) * factor) as f32, every - position % every)
    }

    /// Number of heads whose outputs are written together, so that blocks of activations stay
    /// whole.
    fn head_group(&self, out: &Buffer) -> usize {
        let d = usize::from(self.head_dim);
        (lcm(d, out.kind.block()) / d).min(self.heads.into())
    }

    /// Number of heads that may be computed together: whole groups of [`Attend::head_group`] and of
    /// the heads that share a cache.
    fn joined_heads(&self, out: &Buffer) -> usize {
        lcm(usize::from(self.heads / self.kv_heads), self.head_group(out))
    }

    fn q_dim(&self) -> usize {
        usize::from(self.heads) * usize::from(self.head_dim)
    }

    /// True if so few queries of a sequence are computed that the heads that share a cache are
    /// computed together, in one tile, so that it is read once.
    fn is_few(&self, out: &Buffer, rows: usize) -> bool {
        rows.saturating_mul(self.joined_heads(out)) <= QUERY_TILE * self.head_group(out)
    }

    /// Number of items of one sequence: tiles of one group of heads after another. (Later tiles
    /// attend to more positions: with the late tiles of all groups a worker would finish last.)
    fn items_of<B: Backend>(
        &self,
        worker: &Worker<'_, '_, '_, B>,
        segment: &SegmentRows<'_>,
    ) -> usize {
        let out = worker.buffer(self.out);
        let groups = usize::from(self.heads).div_ceil(self.head_group(out));
        groups * segment.rows(out.rows).div_ceil(QUERY_TILE)
    }

    /// Computes items `items` of one sequence.
    fn segment<B: Backend>(
        &self,
        worker: &Worker<'_, '_, '_, B>,
        segment: &SegmentRows<'_>,
        mut items: Range<usize>,
    ) -> Result<(), Stopped> {
        let (q, out, backend) = (worker.buffer(self.q), worker.buffer(self.out), worker.backend());
        let (n, rows, first_row) =
            (segment.tokens.len(), segment.rows(out.rows), segment.first_row(out.rows));
        let (heads, d) = (usize::from(self.heads), usize::from(self.head_dim));
        let per_kv = heads / usize::from(self.kv_heads);
        let window = NonZeroUsize::new(self.window as usize);
        let (group, joined) = (self.head_group(out), self.joined_heads(out));
        // A worker computes fewer heads than those that share a cache at the end of its items.
        let few = self.is_few(out, rows);
        let ahead = if few { joined / group } else { 1 };
        let tiles = rows.div_ceil(QUERY_TILE);
        let cache = worker.cache(self.state, segment);
        let sinks = self.sinks.map_or(&[][..], |id| worker.vector(id));
        while !items.is_empty() {
            let (g, tile) = (items.start / tiles, items.start % tiles);
            let taken = if few { items.len().min(ahead - g % ahead) } else { 1 };
            items.start += taken;
            let first = tile * QUERY_TILE;
            let count = QUERY_TILE.min(rows - first);
            let these = g * group..heads.min((g + taken) * group);
            let (col, width) = (these.start * d, these.len() * d);
            // SAFETY: the last item's floats are no longer in use.
            let (_, floats) = unsafe { worker.local() };
            let mut h = these.start;
            while h < these.end {
                let kv_head = h / per_kv;
                let end = these.end.min((kv_head + 1) * per_kv);
                let cols = (h * d, (end - h) * d);
                // SAFETY: verified buffers; no one writes queries or this layer's cache in this
                // phase.
                let (queries, kv) = unsafe {
                    let all = worker.read(q, segment.first + n - rows + first, count);
                    (all.cols_of(cols.0, cols.1), cache.head(kv_head))
                };
                let position = segment.position + n - rows + first;
                let mut to = if out.kind.is_quantized() {
                    Tile::new(&mut floats[cols.0 - col..], count, cols.1, width)
                } else {
                    // SAFETY: rows and columns of a verified buffer that belong to this item alone.
                    unsafe { worker.write(out, (first_row + first, count), cols) }
                };
                // Cancellation is checked for as many queries at a time as in a product.
                let seen = window.map_or(usize::MAX, NonZeroUsize::get).min(position + count);
                let products = cols.1.saturating_mul(2).saturating_mul(seen).max(1);
                let most = (backend.products_per_ms() / products).max(1);
                let sinks = sinks.get(h..end).unwrap_or_default();
                let params =
                    |scale| AttentionParams { window, scale, softcap: self.softcap, sinks };
                let mut t = 0;
                while t < count {
                    worker.check_cancelled()?;
                    let (scale, same) = self.scale_at(position + t);
                    let n = most.min(count - t).min(same);
                    let (q, mut to) = (queries.rows(t, n), to.rows(t, n));
                    backend.attend(&q, &kv, position + t, &params(scale), &mut to);
                    t += n;
                }
                h = end;
            }
            if out.kind.is_quantized() {
                for t in 0..count {
                    let row = &floats[t * width..][..width];
                    worker.store(out, first_row + first + t, col, row);
                }
            }
        }
        Ok(())
    }
}

impl Operation for Attend {
    fn buffers(&self, f: &mut dyn FnMut(BufferId, Access)) {
        f(self.q, Access::Read);
        f(self.out, Access::Write);
    }

    fn states(&self, f: &mut dyn FnMut(StateId, StateAccess)) {
        f(self.state, StateAccess::Read);
    }

    fn others(&self, f: &mut dyn FnMut(TensorId)) {
        self.sinks.into_iter().for_each(f);
    }

    fn check(&self, plan: &PlanView<'_>) -> Option<()> {
        let (q, out) = (plan.floats(self.q)?, plan.buffer(self.out)?);
        sure((1..=MAX_HEAD_DIM).contains(&self.head_dim.into()) && self.kv_heads > 0)?;
        sure(self.heads > 0 && self.heads.is_multiple_of(self.kv_heads))?;
        sure(q.rows == RowCount::Batch && q.cols as usize == self.q_dim() && out.cols == q.cols)?;
        plan.parts(out)?;
        let StateKind::Kv { heads, head_dim, window, capacity } = plan.state(self.state)?.kind
        else {
            return None;
        };
        // Going back and snapshots keep no more than the window of the state.
        sure(window == 0 || (1..=window).contains(&self.window))?;
        sure((heads, head_dim) == (self.kv_heads, self.head_dim) && self.scale.is_finite())?;
        sure(self.growth.is_finite())?;
        sure(self.softcap == 0.0 || self.softcap.is_normal() && self.softcap > 0.0)?;
        plan.some_vector(self.sinks, self.heads.into())?;
        // In a ring, everything that a step's tokens attend to is still there once all of them are.
        let needed = (self.window as usize).saturating_add(plan.options.batch);
        sure(capacity >= plan.options.context || (self.window > 0 && needed <= capacity))
    }

    fn scratch(&self, plan: &PlanView<'_>) -> Option<usize> {
        let out = plan.buffer(self.out)?;
        if !out.kind.is_quantized() {
            return Some(0);
        }
        // As many queries as a tile has of one group, or all heads of few rows.
        let most = QUERY_TILE * self.head_group(out);
        let queries = plan.most_rows().saturating_mul(self.joined_heads(out)).min(most);
        queries.checked_mul(self.head_dim.into())
    }

    fn items<B: Backend>(&self, worker: &Worker<'_, '_, '_, B>) -> usize {
        worker.segments().map(|s| self.items_of(worker, &s)).sum()
    }

    fn grain<B: Backend>(&self, worker: &Worker<'_, '_, '_, B>, size: usize) -> (usize, usize) {
        let out = worker.buffer(self.out);
        // Of few queries, the groups of heads that share a cache, if all workers get some.
        let ahead = self.joined_heads(out) / self.head_group(out);
        let enough = self.items(worker) / ahead >= size;
        let few = worker.segments().all(|s| self.is_few(out, s.rows(out.rows)));
        (if few && enough { ahead } else { 1 }, usize::MAX)
    }

    fn run<B: Backend>(
        &self,
        worker: &Worker<'_, '_, '_, B>,
        items: Range<usize>,
    ) -> Result<(), Stopped> {
        let mut before = 0;
        for segment in worker.segments() {
            let n = self.items_of(worker, &segment);
            let own = items.start.max(before)..items.end.min(before + n);
            if !own.is_empty() {
                self.segment(worker, &segment, own.start - before..own.end - before)?;
            }
            before += n;
        }
        Ok(())
    }
}
