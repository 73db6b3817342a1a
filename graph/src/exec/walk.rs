//! A member's share of each operation.

use core::num::NonZeroUsize;
use core::ops::Range;

use teff_kernels::{Activations, Backend, MAX_HEAD_DIM, Matrix, RopeKind, Tile, rope_table};

use super::Running;
use super::rope_table::frequencies;
use crate::plan::{
    Buffer, BufferId, BufferType, Cut, Op, Output, QUERY_TILE, head_group, joined_heads,
};
use crate::weights::{matrix, vector};
use crate::{Activation, LayerRole, Positions, Role, TensorId};

/// Told to stop in the middle of an operation.
pub(super) struct Stopped;

/// One member of the team in one step.
pub(super) struct Worker<'r, 's, 'a, B> {
    pub(super) running: &'r Running<'s, 'a, B>,
    pub(super) rank: usize,
    pub(super) size: usize,
}

/// Where a product's outputs go that are heads of queries, keys or values.
struct Heads<'r> {
    layer: usize,
    /// The first output's place among the three, one after another.
    first: usize,
    q: Option<&'r Buffer>,
    rope: Option<(&'r Buffer, RopeKind)>,
    q_norm: Option<&'r [f32]>,
    k_norm: Option<&'r [f32]>,
}

impl<'r> Heads<'r> {
    fn new<B: Backend>(worker: &'r Worker<'_, '_, '_, B>, to: Output) -> Option<Heads<'r>> {
        let runner = worker.running.runner;
        let (plan, spec) = (&runner.plan, &runner.plan.spec);
        let (rows, layer, rope) = to.heads(spec)?;
        let q = match to {
            Output::Qkv { q, .. } | Output::Q { q, .. } => Some(plan.buffer(q)),
            _ => None,
        };
        let kind = match spec.positions {
            Positions::Rotary(rotary) => Some(rotary.kind),
            Positions::Learned => None,
        };
        let norm = |role| {
            let id = spec.find(Role::Layer(layer.into(), role))?;
            Some(vector(&runner.weights, id))
        };
        Some(Heads {
            layer: layer.into(),
            first: rows.start,
            q,
            rope: rope.map(|b| plan.buffer(b)).zip(kind),
            q_norm: norm(LayerRole::AttnQNorm),
            k_norm: norm(LayerRole::AttnKNorm),
        })
    }
}

impl<B: Backend> Worker<'_, '_, '_, B> {
    /// This member's part of `total` things.
    fn share(&self, total: usize) -> Range<usize> {
        // `total * rank / size`, whose product could overflow where sizes have 32 bits.
        let (each, rest) = (total / self.size, total % self.size);
        let to = |rank: usize| each * rank + rest * rank / self.size;
        to(self.rank)..to(self.rank + 1)
    }

    /// Scratch for products, and floats.
    ///
    /// # Safety
    /// What an earlier call gave is not used any more.
    #[allow(clippy::mut_from_ref)] // this member's own memory, whatever it shares
    unsafe fn local(&self) -> (&mut [u8], &mut [f32]) {
        let runner = self.running.runner;
        let bytes = runner.plan.memory_requirements.per_thread;
        // SAFETY: the region has `bytes` for each rank, and rank is ours alone (Running::claim).
        let own = unsafe { runner.locals.bytes_mut(self.rank * bytes, bytes) };
        let (product, floats) = own.split_at_mut(runner.floats_at);
        (product, bytemuck::cast_slice_mut(floats))
    }

    pub(super) fn run(&self, op: &Op) -> Result<(), Stopped> {
        let buffer = |id: BufferId| self.running.buffer(id);
        match *op {
            Op::Barrier => {}
            Op::Embed { table, positions, out } => {
                let runner = self.running.runner;
                // SAFETY: the only call for this operation.
                let (_, scratch) = unsafe { self.local() };
                let (table, out) = (matrix(&runner.weights, table), buffer(out));
                let width = out.cols as usize;
                for t in self.share(self.running.rows(out.rows)) {
                    // SAFETY: row t of a verified buffer, ours by share().
                    let mut tile = unsafe { runner.arena.tile(out, (t, 1), (0, width)) };
                    let row = tile.row(0);
                    let token = self.running.step.tokens[t] as usize;
                    runner.backend.dequantize_row(&table, token, row);
                    if runner.plan.spec.embed_scale != 1.0 {
                        runner.backend.scale(row, runner.plan.spec.embed_scale);
                    }
                    if let Some(p) = positions {
                        let p = matrix(&runner.weights, p);
                        let at = self.running.step.position + t;
                        runner.backend.dequantize_row(&p, at, &mut scratch[..width]);
                        runner.backend.add(row, &scratch[..width]);
                    }
                }
            }
            Op::Norm { x, weight, bias, out } => {
                let runner = self.running.runner;
                // SAFETY: the only call for this operation.
                let (_, scratch) = unsafe { self.local() };
                let (x, out) = (buffer(x), buffer(out));
                let weight = vector(&runner.weights, weight);
                let bias = bias.map(|b| vector(&runner.weights, b));
                let width = x.cols as usize;
                let (copy, normed) = scratch.split_at_mut(width);
                let eps = runner.plan.spec.norm_eps;
                for t in self.share(self.running.rows(x.rows)) {
                    // A copy, since `out` may lie over `x`.
                    // SAFETY: row t of a verified buffer; written by nobody but us in this phase.
                    copy.copy_from_slice(unsafe { runner.arena.dense(x, t, 1) }.row(0));
                    let normed = &mut normed[..width];
                    match bias {
                        Some(bias) => runner.backend.layer_norm(copy, weight, bias, eps, normed),
                        None => runner.backend.rms_norm(copy, weight, eps, normed),
                    }
                    self.store(out, t, 0, normed);
                }
            }
            Op::NormAdd { x, weight, out } => {
                let runner = self.running.runner;
                // SAFETY: the only call for this operation.
                let (_, scratch) = unsafe { self.local() };
                let (x, out) = (buffer(x), buffer(out));
                let weight = vector(&runner.weights, weight);
                let normed = &mut scratch[..x.cols as usize];
                let eps = runner.plan.spec.norm_eps;
                for t in self.share(self.running.rows(x.rows)) {
                    // SAFETY: rows t of verified buffers; nobody writes x in this phase, and row t of
                    // out is ours by share().
                    let (from, mut to) = unsafe {
                        let from = runner.arena.dense(x, t, 1);
                        (from, runner.arena.tile(out, (t, 1), (0, normed.len())))
                    };
                    runner.backend.rms_norm(from.row(0), weight, eps, normed);
                    runner.backend.add(to.row(0), normed);
                }
            }
            Op::RopeTable { window, out } => self.rope_table(window, buffer(out)),
            Op::Linear { w, bias, x, act, to } => {
                let bias = bias.map(|b| vector(&self.running.runner.weights, b));
                self.linear(w, bias, buffer(x), act, to)?;
            }
            Op::Gated { gate, up, gate_bias, up_bias, x, up_x, out } => {
                let bias = |b: Option<TensorId>| b.map(|b| vector(&self.running.runner.weights, b));
                let gate = (gate, bias(gate_bias), buffer(x));
                self.gated(gate, (up, bias(up_bias), buffer(up_x)), buffer(out))?;
            }
            Op::Attend { q, layer, out } => {
                self.attend(buffer(q), usize::from(layer), buffer(out))?
            }
            Op::SelectRows { x, out } => {
                let (x, out) = (buffer(x), buffer(out));
                let (n, wanted) = (self.running.rows(x.rows), self.running.rows(out.rows));
                for t in self.share(wanted) {
                    // SAFETY: rows of verified buffers; nobody writes x in this phase.
                    let row = unsafe { self.running.runner.arena.dense(x, n - wanted + t, 1) };
                    self.store(out, t, 0, row.row(0));
                }
            }
        }
        Ok(())
    }

    /// Writes `values` to row `t` of a buffer, from column `col` on, quantised where it is.
    fn store(&self, out: &Buffer, t: usize, col: usize, values: &[f32]) {
        let runner = self.running.runner;
        let cols = (col, values.len());
        match out.kind {
            BufferType::F32 => {
                // SAFETY: a part of a verified buffer that belongs to this member's share.
                let mut to = unsafe { runner.arena.tile(out, (t, 1), cols) };
                to.row(0).copy_from_slice(values);
            }
            BufferType::Q8 | BufferType::Q16 => {
                let rows = runner.plan.max_rows(out.rows);
                // SAFETY: as above.
                let to = unsafe { runner.arena.q8_row(out, rows, t, cols) };
                runner.backend.quantize(values, to);
            }
            BufferType::Wide => {
                let rows = runner.plan.max_rows(out.rows);
                // SAFETY: as above.
                let to = unsafe { runner.arena.wide_row(out, rows, t, cols) };
                // One scale for a token: then all of it is written at once, by a norm (verified).
                runner.backend.quantize_wide(values, to, runner.plan.spec.token_scales);
            }
        }
    }

    /// Cosines and sines of each token's position.
    fn rope_table(&self, window: bool, out: &Buffer) {
        let runner = self.running.runner;
        let spec = &runner.plan.spec;
        let Positions::Rotary(rotary) = spec.positions else { return };
        // SAFETY: the only call for this operation.
        let (_, scratch) = unsafe { self.local() };
        let freqs: &mut [f64] = bytemuck::cast_slice_mut(&mut scratch[..out.cols as usize]);
        let factors = spec.find(Role::RopeFactors).map(|f| vector(&runner.weights, f));
        let tokens = self.share(self.running.rows(out.rows));
        if tokens.is_empty() {
            return;
        }
        frequencies(&rotary, window, factors, freqs);
        for t in tokens {
            // SAFETY: row t of a verified buffer, ours by share().
            let mut row = unsafe { runner.arena.tile(out, (t, 1), (0, out.cols as usize)) };
            rope_table(self.running.step.position + t, freqs, row.row(0));
        }
    }

    /// The first `n` rows of a buffer, as inputs of a product.
    ///
    /// # Safety
    /// Nobody writes to `x` in this phase.
    unsafe fn activations(&self, x: &Buffer, n: usize) -> Activations<'_> {
        let runner = self.running.runner;
        let rows = runner.plan.max_rows(x.rows);
        // SAFETY: a verified buffer, and the caller's promise.
        unsafe {
            match x.kind {
                BufferType::F32 => Activations::Dense(runner.arena.dense(x, 0, n)),
                BufferType::Q8 | BufferType::Q16 => Activations::Q8(runner.arena.q8(x, rows, n)),
                BufferType::Wide => Activations::Wide(runner.arena.wide(x, rows, n)),
            }
        }
    }

    /// [`Backend::matmul`] for as many tokens at a time as a core does in a millisecond or so, each
    /// time after a check for cancellation.
    fn product(
        &self,
        w: &Matrix<'_>,
        x: &Activations<'_>,
        rows: Range<usize>,
        y: &mut Tile<'_>,
        scratch: &mut [u8],
    ) -> Result<(), Stopped> {
        let backend = &self.running.runner.backend;
        let most = (backend.products_per_ms() / (rows.len() * w.cols()).max(1)).max(1);
        let mut t = 0;
        while t < x.n() {
            if self.running.step.cancel.cancelled() {
                return Err(Stopped);
            }
            let n = most.min(x.n() - t);
            backend.matmul(w, &x.rows(t, n), rows.clone(), &mut y.rows(t, n), scratch);
            t += n;
        }
        Ok(())
    }

    fn linear(
        &self,
        w: TensorId,
        bias: Option<&[f32]>,
        x: &Buffer,
        act: Option<Activation>,
        to: Output,
    ) -> Result<(), Stopped> {
        let runner = self.running.runner;
        let plan = &runner.plan;
        let w = matrix(&runner.weights, w);
        let n = self.running.rows(x.rows);
        if n == 0 {
            return Ok(());
        }
        // SAFETY: in this phase nobody writes to x (verified).
        let activations = unsafe { self.activations(x, n) };
        let heads = Heads::new(self, to);
        let cut = Cut::linear(&plan.spec, &plan.buffers, w.rows(), to);
        let chunk = cut.chunk(n, w.cols(), runner.backend.products_per_ms());
        let units = self.share(cut.total.div_ceil(cut.unit));
        let end = cut.total.min(units.end * cut.unit);
        let mut r = units.start * cut.unit;
        // SAFETY: the only call for this operation.
        let (scratch, floats) = unsafe { self.local() };
        let finish = |row: &mut [f32], r: usize| {
            if let Some(bias) = bias {
                runner.backend.add(row, &bias[r..][..row.len()]);
            }
            match act {
                None => {}
                Some(Activation::GeluTanh) => runner.backend.gelu(row),
                Some(Activation::Silu) => runner.backend.silu(row),
                Some(Activation::Relu2) => runner.backend.relu2(row),
            }
        };
        while r < end {
            let width = chunk.min(end - r);
            if let (Output::Store(out), false) = (to, cut.staged) {
                // SAFETY: columns of a verified buffer that are this member's share.
                let mut tile = unsafe { runner.arena.tile(plan.buffer(out), (0, n), (r, width)) };
                self.product(&w, &activations, r..r + width, &mut tile, scratch)?;
                for t in 0..n {
                    finish(tile.row(t), r);
                }
            } else {
                let mut tile = Tile::new(&mut floats[..n * width], n, width, width);
                self.product(&w, &activations, r..r + width, &mut tile, scratch)?;
                for t in 0..n {
                    let row = tile.row(t);
                    finish(row, r);
                    match to {
                        Output::Store(out) => self.store(plan.buffer(out), t, r, row),
                        Output::Add(out) => {
                            // SAFETY: columns of a verified buffer that are this member's share.
                            let mut to =
                                unsafe { runner.arena.tile(plan.buffer(out), (t, 1), (r, width)) };
                            runner.backend.add(to.row(0), row);
                        }
                        Output::Qkv { .. }
                        | Output::Q { .. }
                        | Output::K { .. }
                        | Output::V { .. } => {
                            if let Some(heads) = &heads {
                                self.store_heads(heads, t, r, row);
                            }
                        }
                    }
                }
            }
            r += width;
        }
        Ok(())
    }

    /// `out = act(gate) * up`: each chunk of both products, while it is in the cache.
    fn gated(
        &self,
        (gate, gate_bias, x): (TensorId, Option<&[f32]>, &Buffer),
        (up, up_bias, up_x): (TensorId, Option<&[f32]>, &Buffer),
        out: &Buffer,
    ) -> Result<(), Stopped> {
        let runner = self.running.runner;
        let backend = &runner.backend;
        let (gate, up) = (matrix(&runner.weights, gate), matrix(&runner.weights, up));
        let n = self.running.rows(x.rows);
        if n == 0 {
            return Ok(());
        }
        // SAFETY: in this phase nobody writes to either (verified).
        let (gate_acts, up_acts) = unsafe { (self.activations(x, n), self.activations(up_x, n)) };
        let cut = Cut::gated(out, gate.rows());
        let chunk = cut.chunk(n, gate.cols(), backend.products_per_ms());
        let units = self.share(cut.total.div_ceil(cut.unit));
        let end = cut.total.min(units.end * cut.unit);
        let mut r = units.start * cut.unit;
        // SAFETY: the only call for this operation.
        let (scratch, floats) = unsafe { self.local() };
        while r < end {
            let width = chunk.min(end - r);
            let (gates, ups) = floats.split_at_mut(n * width);
            let mut gates = Tile::new(gates, n, width, width);
            let mut ups = Tile::new(&mut ups[..n * width], n, width, width);
            self.product(&gate, &gate_acts, r..r + width, &mut gates, scratch)?;
            self.product(&up, &up_acts, r..r + width, &mut ups, scratch)?;
            for t in 0..n {
                let (gate, up) = (gates.row(t), ups.row(t));
                if let Some(bias) = gate_bias {
                    backend.add(gate, &bias[r..][..width]);
                }
                if let Some(bias) = up_bias {
                    backend.add(up, &bias[r..][..width]);
                }
                match runner.plan.spec.activation {
                    Activation::GeluTanh => backend.gelu_mul(gate, up),
                    Activation::Silu => backend.silu_mul(gate, up),
                    Activation::Relu2 => backend.relu2_mul(gate, up),
                }
                self.store(out, t, r, gate);
            }
            r += width;
        }
        Ok(())
    }

    /// Takes outputs `r..` of a product for queries, keys or values, whole heads of them, to where
    /// each belongs.
    fn store_heads(&self, to: &Heads<'_>, t: usize, r: usize, row: &mut [f32]) {
        let runner = self.running.runner;
        let spec = &runner.plan.spec;
        let (q_dim, kv_dim, d) = (spec.q_dim(), spec.kv_dim(), spec.head_dim as usize);
        let position = self.running.step.position + t;
        let layout = &runner.cache.layout;
        for (i, head) in row.chunks_mut(d).enumerate() {
            let at = to.first + r + i * d;
            if at < q_dim {
                self.turn(to, to.q_norm, t, head);
                if let Some(q) = to.q {
                    self.store(q, t, at, head);
                }
            } else if at < q_dim + kv_dim {
                self.turn(to, to.k_norm, t, head);
                // SAFETY: this head's keys are this member's share, in the only operation of the
                // phase that stores this layer's keys (verified), and the values below.
                let keys = unsafe { runner.cache.keys_mut(to.layer, (at - q_dim) / d) };
                runner.backend.store_key(layout, keys, position, head);
            } else {
                let head_no = (at - q_dim - kv_dim) / d;
                // SAFETY: as above.
                let values = unsafe { runner.cache.values_mut(to.layer, head_no) };
                runner.backend.store_value(layout, values, position, head);
            }
        }
    }

    /// Normalises a head of a query or a key, and turns it by the angles of token `t`.
    fn turn(&self, to: &Heads<'_>, norm: Option<&[f32]>, t: usize, head: &mut [f32]) {
        let runner = self.running.runner;
        if let Some(weight) = norm {
            self.norm_head(weight, head);
        }
        if let Some((rope, kind)) = to.rope {
            // SAFETY: a verified buffer, which nobody writes in this phase.
            let table = unsafe { runner.arena.dense(rope, t, 1) };
            runner.backend.rope(head, head.len(), table.row(0), kind);
        }
    }

    // Not inlined, so that models without such norms have no room for a head on their stacks.
    #[inline(never)]
    fn norm_head(&self, weight: &[f32], head: &mut [f32]) {
        let runner = self.running.runner;
        let mut copy = [0.0; MAX_HEAD_DIM];
        let copy = &mut copy[..head.len()];
        copy.copy_from_slice(head);
        runner.backend.rms_norm(copy, weight, runner.plan.spec.norm_eps, head);
    }

    fn attend(&self, q: &Buffer, layer: usize, out: &Buffer) -> Result<(), Stopped> {
        let runner = self.running.runner;
        let spec = &runner.plan.spec;
        let (n, rows) = (self.running.rows(q.rows), self.running.rows(out.rows));
        let (heads, d) = (spec.heads as usize, spec.head_dim as usize);
        let per_kv = heads / spec.kv_heads as usize;
        let window = spec.window_of(layer as u32).and_then(|w| NonZeroUsize::new(w as usize));
        let (group, joined) = (head_group(spec, out), joined_heads(spec, out));
        // Few queries: the heads that share a cache are taken together, so that it is read once.
        // Then there is one tile; a member takes less than all such heads where its share ends.
        let few = rows.saturating_mul(joined) <= QUERY_TILE * group;
        let ahead = if few { joined / group } else { 1 };
        // Tiles of one group after another: later tiles see more positions, so that a member with
        // late tiles of all groups would finish last.
        let (tiles, groups) = (rows.div_ceil(QUERY_TILE), heads.div_ceil(group));
        let mut items = self.share(groups * tiles);
        while !items.is_empty() {
            let (g, tile) = (items.start / tiles, items.start % tiles);
            let taken = items.len().min(ahead - g % ahead);
            items.start += taken;
            let first = tile * QUERY_TILE;
            let count = QUERY_TILE.min(rows - first);
            let these = g * group..heads.min((g + taken) * group);
            let (col, width) = (these.start * d, these.len() * d);
            // SAFETY: the last item's floats are not used any more.
            let (_, floats) = unsafe { self.local() };
            let mut h = these.start;
            while h < these.end {
                let kv_head = h / per_kv;
                let end = these.end.min((kv_head + 1) * per_kv);
                let cols = (h * d, (end - h) * d);
                // SAFETY: verified buffers; nobody writes queries or this layer's cache in this
                // phase.
                let (activations, kv) = unsafe {
                    let all = runner.arena.dense(q, n - rows + first, count);
                    (all.cols_of(cols.0, cols.1), runner.cache.head(layer, kv_head))
                };
                let position = self.running.step.position + n - rows + first;
                let mut to = match out.kind {
                    // SAFETY: rows and columns of a verified buffer that are this item's alone.
                    BufferType::F32 => unsafe { runner.arena.tile(out, (first, count), cols) },
                    BufferType::Q8 | BufferType::Q16 | BufferType::Wide => {
                        Tile::new(&mut floats[cols.0 - col..], count, cols.1, width)
                    }
                };
                // For as many queries at a time as in a product.
                let seen = window.map_or(usize::MAX, NonZeroUsize::get).min(position + count);
                let products = cols.1.saturating_mul(2).saturating_mul(seen).max(1);
                let most = (runner.backend.products_per_ms() / products).max(1);
                let mut t = 0;
                while t < count {
                    if self.running.step.cancel.cancelled() {
                        return Err(Stopped);
                    }
                    let n = most.min(count - t);
                    let (q, mut to) = (activations.rows(t, n), to.rows(t, n));
                    runner.backend.attend(&q, &kv, position + t, window, spec.attn_scale, &mut to);
                    t += n;
                }
                h = end;
            }
            if out.kind.is_quantized() {
                for t in 0..count {
                    self.store(out, first + t, col, &floats[t * width..][..width]);
                }
            }
        }
        Ok(())
    }
}
