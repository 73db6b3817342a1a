//! Product whose outputs are heads: queries go into a buffer, keys and values into the cache;
//! queries and keys are normalised and rotated first. Its items are heads.

use core::ops::Range;

use teff_kernels::{Backend, MAX_HEAD_DIM, RopeKind, Tile};

use super::{Access, Operation, StateAccess, sure};
use crate::TensorId;
use crate::exec::{Cache, SegmentRows, Stopped, Worker};
use crate::plan::{BufferId, Chunks, PlanView, RowCount, StateId, StateKind};

/// Product for queries, keys or values.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Project {
    /// Weights.
    pub w: TensorId,
    /// Bias.
    pub bias: Option<TensorId>,
    /// Inputs, quantised if the weights are.
    pub x: BufferId,
    /// Outputs among queries, keys and values.
    pub part: QkvPart,
    /// Queries, f32.
    pub q: BufferId,
    /// Gates, f32, if the matrix of queries has as many after the queries of each head.
    pub gate: Option<BufferId>,
    /// Cache of keys and values.
    pub state: StateId,
    /// Query heads.
    pub heads: u16,
    /// Heads of keys and values.
    pub kv_heads: u16,
    /// Head dimension.
    pub head_dim: u16,
    /// Weight of the norm of each query.
    pub q_norm: Option<TensorId>,
    /// Weight of the norm of each key.
    pub k_norm: Option<TensorId>,
    /// True if each value is normalised, without a weight.
    pub value_norm: bool,
    /// Epsilon of the norms, added to the variance.
    pub eps: f32,
    /// Cosines and sines, if queries and keys are rotated.
    pub rope: Option<BufferId>,
    /// Pairing of the elements that are rotated together.
    pub rope_kind: RopeKind,
}

/// Outputs of a [`Project`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum QkvPart {
    /// Queries, keys and values, one after another.
    All,
    /// Queries.
    Query,
    /// Keys.
    Key,
    /// Values.
    Value,
    /// Keys, which before their norm and rotation are the values too.
    KeyAndValue,
}

impl QkvPart {
    fn has(self, part: QkvPart) -> bool {
        let both = matches!(part, QkvPart::Key | QkvPart::Value);
        self == part || self == QkvPart::All || self == QkvPart::KeyAndValue && both
    }
}

impl Project {
    fn q_dim(&self) -> usize {
        usize::from(self.heads) * usize::from(self.head_dim)
    }

    fn kv_dim(&self) -> usize {
        usize::from(self.kv_heads) * usize::from(self.head_dim)
    }

    /// Range of the outputs among queries, keys and values: first and number.
    fn outputs(&self) -> (usize, usize) {
        let (q, kv) = (self.q_dim(), self.kv_dim());
        match self.part {
            QkvPart::All => (0, q + 2 * kv),
            QkvPart::Query if self.gate.is_some() => (0, 2 * q),
            QkvPart::Query => (0, q),
            QkvPart::Key | QkvPart::KeyAndValue => (q, kv),
            QkvPart::Value => (q + kv, kv),
        }
    }

    fn chunks(&self, rows: usize) -> Chunks {
        let heads = if self.gate.is_some() { 2 } else { 1 };
        Chunks::heads(usize::from(self.head_dim) * heads, rows)
    }

    /// Stores outputs `r..` of the product, which are whole heads, in their destinations.
    fn store_heads<B: Backend>(
        &self,
        worker: &Worker<'_, '_, '_, B>,
        (t, segment): (usize, &SegmentRows<'_>),
        r: usize,
        row: &mut [f32],
    ) {
        let (q_dim, kv_dim, d) = (self.q_dim(), self.kv_dim(), usize::from(self.head_dim));
        let first = self.outputs().0;
        if let Some(gate) = self.gate {
            let heads = row.chunks_mut(2 * d).zip(r / (2 * d)..);
            for (both, i) in heads {
                let (head, gates) = both.split_at_mut(d);
                self.turn(worker, self.q_norm, t, head);
                worker.store(worker.buffer(self.q), t, i * d, head);
                worker.store(worker.buffer(gate), t, i * d, gates);
            }
            return;
        }
        let (backend, cache) = (worker.backend(), worker.cache(self.state, segment));
        let position = cache.stored_at(segment.position + t - segment.first);
        for (i, head) in row.chunks_mut(d).enumerate() {
            let at = first + r + i * d;
            if at < q_dim {
                self.turn(worker, self.q_norm, t, head);
                worker.store(worker.buffer(self.q), t, at, head);
            } else if at < q_dim + kv_dim {
                if self.part == QkvPart::KeyAndValue {
                    self.store_value(backend, &cache, (at - q_dim) / d, position, head);
                }
                self.turn(worker, self.k_norm, t, head);
                // SAFETY: this head's keys belong to an item of this worker, in the only operation of the step
                // that stores this layer's keys (verified).
                let keys = unsafe { cache.keys_mut((at - q_dim) / d) };
                backend.store_key(&cache.layout, keys, position, head);
            } else {
                self.store_value(backend, &cache, (at - q_dim - kv_dim) / d, position, head);
            }
        }
    }

    /// Stores the value of a head, which belongs to an item of this worker.
    fn store_value<B: Backend>(
        &self,
        backend: &B,
        cache: &Cache<'_>,
        h: usize,
        position: usize,
        head: &[f32],
    ) {
        // SAFETY: this head's values belong to an item of this worker, in the only operation of the step
        // that stores this layer's values (verified).
        let values = unsafe { cache.values_mut(h) };
        match self.value_norm {
            true => store_normed(backend, cache, values, (position, self.eps), head),
            false => backend.store_value(&cache.layout, values, position, head),
        }
    }

    /// Normalises a head of a query or a key, and rotates it by the angles of token `t`.
    fn turn<B: Backend>(
        &self,
        worker: &Worker<'_, '_, '_, B>,
        norm: Option<TensorId>,
        t: usize,
        head: &mut [f32],
    ) {
        if let Some(weight) = norm {
            norm_head(worker.backend(), worker.vector(weight), self.eps, head);
        }
        if let Some(rope) = self.rope {
            // SAFETY: a verified buffer, which no one writes in this phase.
            let table = unsafe { worker.read(worker.buffer(rope), t, 1) };
            worker.backend().rope(head, head.len(), table.row(0), self.rope_kind);
        }
    }
}

// Not inlined, so that models without such norms reserve no head on their stacks.
#[inline(never)]
fn norm_head<B: Backend>(backend: &B, weight: &[f32], eps: f32, head: &mut [f32]) {
    let mut copy = [0.0; MAX_HEAD_DIM];
    let copy = &mut copy[..head.len()];
    copy.copy_from_slice(head);
    backend.rms_norm(copy, weight, eps, head);
}

/// Weight of norms that have none.
static ONES: [f32; MAX_HEAD_DIM] = [1.0; MAX_HEAD_DIM];

// Not inlined, as above.
#[inline(never)]
fn store_normed<B: Backend>(
    backend: &B,
    cache: &Cache<'_>,
    values: &mut [u8],
    (position, eps): (usize, f32),
    head: &[f32],
) {
    let mut normed = [0.0; MAX_HEAD_DIM];
    let normed = &mut normed[..head.len()];
    backend.rms_norm(head, &ONES[..head.len()], eps, normed);
    backend.store_value(&cache.layout, values, position, normed);
}

impl Operation for Project {
    fn buffers(&self, f: &mut dyn FnMut(BufferId, Access)) {
        f(self.x, Access::Read);
        if self.part.has(QkvPart::Query) {
            f(self.q, Access::Write);
        }
        if let Some(gate) = self.gate {
            f(gate, Access::Write);
        }
        if let Some(rope) = self.rope.filter(|_| self.part != QkvPart::Value) {
            f(rope, Access::Read);
        }
    }

    fn states(&self, f: &mut dyn FnMut(StateId, StateAccess)) {
        if self.part.has(QkvPart::Key) {
            f(self.state, StateAccess::WriteKeys);
        }
        if self.part.has(QkvPart::Value) {
            f(self.state, StateAccess::WriteValues);
        }
    }

    fn products(&self, f: &mut dyn FnMut(TensorId, BufferId)) {
        f(self.w, self.x);
    }

    fn others(&self, f: &mut dyn FnMut(TensorId)) {
        [self.bias, self.q_norm, self.k_norm].into_iter().flatten().for_each(f);
    }

    fn check(&self, plan: &PlanView<'_>) -> Option<()> {
        let (w, x) = (plan.matrix(self.w)?, plan.buffer(self.x)?);
        let d = usize::from(self.head_dim);
        sure((1..=MAX_HEAD_DIM).contains(&d) && self.heads > 0 && self.kv_heads > 0)?;
        sure(w.cols == x.cols as usize && x.rows == RowCount::Batch)?;
        sure(w.rows == self.outputs().1 && self.eps.is_finite())?;
        plan.some_vector(self.bias, w.rows)?;
        plan.some_vector(self.q_norm, d)?;
        plan.some_vector(self.k_norm, d)?;
        let StateKind::Kv { heads, head_dim, .. } = plan.state(self.state)?.kind else {
            return None;
        };
        sure((heads, head_dim) == (self.kv_heads, self.head_dim))?;
        if self.part.has(QkvPart::Query) {
            let q = plan.floats(self.q)?;
            sure(q.rows == RowCount::Batch && q.cols as usize == self.q_dim())?;
        }
        if let Some(gate) = self.gate {
            let gate_buffer = plan.floats(gate)?;
            sure(self.part == QkvPart::Query && gate != self.q)?;
            sure(gate_buffer.rows == RowCount::Batch)?;
            sure(gate_buffer.cols as usize == self.q_dim())?;
        }
        if let Some(rope) = self.rope {
            let rope = plan.floats(rope)?;
            sure(rope.rows == RowCount::Batch && rope.cols.is_multiple_of(2))?;
            sure(rope.cols as usize <= d)?;
        }
        Some(())
    }

    fn scratch(&self, plan: &PlanView<'_>) -> Option<usize> {
        self.chunks(plan.matrix(self.w)?.rows).tile_floats(plan.most_rows())
    }

    fn items<B: Backend>(&self, worker: &Worker<'_, '_, '_, B>) -> usize {
        let rows = worker.buffer(self.x).rows;
        worker.some(rows, self.chunks(worker.matrix(self.w).rows()).units())
    }

    fn grain<B: Backend>(&self, worker: &Worker<'_, '_, '_, B>, _: usize) -> (usize, usize) {
        let (w, rows) = (worker.matrix(self.w), worker.buffer(self.x).rows);
        worker.grain_of(&self.chunks(w.rows()), worker.rows(rows), w.cols())
    }

    fn run<B: Backend>(
        &self,
        worker: &Worker<'_, '_, '_, B>,
        units: Range<usize>,
    ) -> Result<(), Stopped> {
        let (w, x) = (worker.matrix(self.w), worker.buffer(self.x));
        let bias = self.bias.map(|b| worker.vector(b));
        let n = worker.rows(x.rows);
        // SAFETY: no one writes to x in this phase (verified).
        let inputs = unsafe { worker.activations(x, n) };
        // SAFETY: the only call for these items.
        let (scratch, floats) = unsafe { worker.local() };
        let chunks = self.chunks(w.rows());
        for rows in worker.chunks_of(&chunks, units, n, w.cols()) {
            let (r, width) = (rows.start, rows.len());
            let mut tile = Tile::new(&mut floats[..n * width], n, width, width);
            worker.product(&w, &inputs, rows, &mut tile, scratch)?;
            for (t, segment) in worker.rows_of(x.rows, 0..n) {
                let row = tile.row(t);
                if let Some(bias) = bias {
                    worker.backend().add(row, &bias[r..][..width]);
                }
                self.store_heads(worker, (t, &segment), r, row);
            }
        }
        Ok(())
    }
}
