//! A member's share of each operation.

use core::ops::Range;

use teff_kernels::{Acts, Backend, Tile};

use super::Running;
use crate::Activation;
use crate::plan::{Buf, BufId, Cut, Kind, Op, QUERY_TILE, To, head_group, joined_heads};
use crate::weights::{matrix, vector};

/// Told to stop in the middle of an operation.
pub(super) struct Stopped;

/// One member of the team in one step.
pub(super) struct Member<'r, 's, 'a, B> {
    pub(super) running: &'r Running<'s, 'a, B>,
    pub(super) rank: usize,
    pub(super) size: usize,
}

impl<B: Backend> Member<'_, '_, '_, B> {
    /// This member's part of `total` things.
    fn share(&self, total: usize) -> Range<usize> {
        total * self.rank / self.size..total * (self.rank + 1) / self.size
    }

    /// Scratch for products, and floats.
    ///
    /// # Safety
    /// What an earlier call gave is not used any more.
    #[allow(clippy::mut_from_ref)] // this member's own memory, whatever it shares
    unsafe fn local(&self) -> (&mut [u8], &mut [f32]) {
        let runner = self.running.runner;
        let bytes = runner.plan.needs.per_thread;
        // SAFETY: the region has `bytes` for each rank, and rank is ours alone (Running::claim).
        let own = unsafe { runner.locals.bytes_mut(self.rank * bytes, bytes) };
        let (product, floats) = own.split_at_mut(runner.floats_at);
        (product, bytemuck::cast_slice_mut(floats))
    }

    pub(super) fn run(&self, op: &Op) -> Result<(), Stopped> {
        let buf = |id: BufId| self.running.buf(id);
        match *op {
            Op::Barrier => {}
            Op::Embed { table, positions, out } => {
                let runner = self.running.runner;
                // SAFETY: the only call for this operation.
                let (_, scratch) = unsafe { self.local() };
                let (table, out) = (matrix(&runner.weights, table), buf(out));
                let width = out.cols as usize;
                for t in self.share(self.running.rows(out.rows)) {
                    // SAFETY: row t of a verified buffer, ours by share().
                    let mut tile = unsafe { runner.arena.tile(out, (t, 1), (0, width)) };
                    let row = tile.row(0);
                    let token = self.running.step.tokens[t] as usize;
                    runner.backend.dequantize_row(&table, token, row);
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
                let (x, out) = (buf(x), buf(out));
                let (weight, bias) =
                    (vector(&runner.weights, weight), vector(&runner.weights, bias));
                let width = x.cols as usize;
                let (copy, normed) = scratch.split_at_mut(width);
                let eps = runner.plan.spec.norm_eps;
                for t in self.share(self.running.rows(x.rows)) {
                    // A copy, since `out` may lie over `x`.
                    // SAFETY: row t of a verified buffer; written by nobody but us in this phase.
                    copy.copy_from_slice(unsafe { runner.arena.dense(x, t, 1) }.row(0));
                    let normed = &mut normed[..width];
                    runner.backend.layer_norm(copy, weight, bias, eps, normed);
                    self.store(out, t, 0, normed);
                }
            }
            Op::Linear { w, bias, x, act, to } => {
                let bias = bias.map(|b| vector(&self.running.runner.weights, b));
                self.linear(w, bias, buf(x), act, to)?;
            }
            Op::Attend { q, layer, out } => self.attend(buf(q), usize::from(layer), buf(out))?,
            Op::Take { x, out } => {
                let (x, out) = (buf(x), buf(out));
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
    fn store(&self, out: &Buf, t: usize, col: usize, values: &[f32]) {
        let runner = self.running.runner;
        let cols = (col, values.len());
        match out.kind {
            Kind::F32 => {
                // SAFETY: a part of a verified buffer that belongs to this member's share.
                let mut to = unsafe { runner.arena.tile(out, (t, 1), cols) };
                to.row(0).copy_from_slice(values);
            }
            Kind::Q8 | Kind::Q16 => {
                let rows = runner.plan.max_rows(out.rows);
                // SAFETY: as above.
                let to = unsafe { runner.arena.q8_row(out, rows, t, cols) };
                runner.backend.quantize(values, to);
            }
            Kind::Wide => {
                let rows = runner.plan.max_rows(out.rows);
                // SAFETY: as above.
                let to = unsafe { runner.arena.wide_row(out, rows, t, cols) };
                runner.backend.quantize_wide(values, to, false);
            }
        }
    }

    fn linear(
        &self,
        w: crate::TensorId,
        bias: Option<&[f32]>,
        x: &Buf,
        act: Option<Activation>,
        to: To,
    ) -> Result<(), Stopped> {
        let runner = self.running.runner;
        let plan = &runner.plan;
        let w = matrix(&runner.weights, w);
        let n = self.running.rows(x.rows);
        if n == 0 {
            return Ok(());
        }
        // SAFETY: verified buffers; in this phase nobody writes to x.
        let acts = unsafe {
            match x.kind {
                Kind::F32 => Acts::Dense(runner.arena.dense(x, 0, n)),
                Kind::Q8 | Kind::Q16 => Acts::Q8(runner.arena.q8(x, plan.max_rows(x.rows), n)),
                Kind::Wide => Acts::Wide(runner.arena.wide(x, plan.max_rows(x.rows), n)),
            }
        };
        let cut = Cut::linear(&plan.spec, &plan.bufs, w.rows(), to);
        let chunk = cut.chunk(n, w.cols());
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
            }
        };
        while r < end {
            if self.running.step.stop.stop() {
                return Err(Stopped);
            }
            let width = chunk.min(end - r);
            if let (To::Store(out), false) = (to, cut.staged) {
                // SAFETY: columns of a verified buffer that are this member's share.
                let mut tile = unsafe { runner.arena.tile(plan.buf(out), (0, n), (r, width)) };
                runner.backend.matmul(&w, &acts, r..r + width, &mut tile, scratch);
                for t in 0..n {
                    finish(tile.row(t), r);
                }
            } else {
                let mut tile = Tile::new(&mut floats[..n * width], n, width, width);
                runner.backend.matmul(&w, &acts, r..r + width, &mut tile, scratch);
                for t in 0..n {
                    let row = tile.row(t);
                    finish(row, r);
                    match to {
                        To::Store(out) => self.store(plan.buf(out), t, r, row),
                        To::Add(out) => {
                            // SAFETY: columns of a verified buffer that are this member's share.
                            let mut to =
                                unsafe { runner.arena.tile(plan.buf(out), (t, 1), (r, width)) };
                            runner.backend.add(to.row(0), row);
                        }
                        To::Qkv { q, layer } => {
                            self.store_qkv(plan.buf(q), usize::from(layer), t, r, row);
                        }
                    }
                }
            }
            r += width;
        }
        Ok(())
    }

    /// Takes outputs `r..` of the product for queries, keys and values, whole heads of them, to
    /// where each belongs.
    fn store_qkv(&self, q: &Buf, layer: usize, t: usize, r: usize, row: &[f32]) {
        let runner = self.running.runner;
        let spec = &runner.plan.spec;
        let (q_dim, kv_dim, d) = (spec.q_dim(), spec.kv_dim(), spec.head_dim as usize);
        let position = self.running.step.position + t;
        let layout = &runner.cache.layout;
        for (i, head) in row.chunks(d).enumerate() {
            let at = r + i * d;
            if at < q_dim {
                self.store(q, t, at, head);
            } else if at < q_dim + kv_dim {
                // SAFETY: this head's keys are this member's share, in the only operation of the
                // phase that uses this layer's cache (verified), here and below.
                let keys = unsafe { runner.cache.keys_mut(layer, (at - q_dim) / d) };
                runner.backend.store_key(layout, keys, position, head);
            } else {
                let head_no = (at - q_dim - kv_dim) / d;
                // SAFETY: as above.
                let values = unsafe { runner.cache.values_mut(layer, head_no) };
                runner.backend.store_value(layout, values, position, head);
            }
        }
    }

    fn attend(&self, q: &Buf, layer: usize, out: &Buf) -> Result<(), Stopped> {
        let runner = self.running.runner;
        let spec = &runner.plan.spec;
        let (n, rows) = (self.running.rows(q.rows), self.running.rows(out.rows));
        let (heads, d) = (spec.heads as usize, spec.head_dim as usize);
        let per_kv = heads / spec.kv_heads as usize;
        let (group, joined) = (head_group(spec, out), joined_heads(spec, out));
        // Few queries: the heads that share a cache are taken together, so that it is read once.
        // Then there is one tile; a member takes less than all such heads where its share ends.
        let ahead = if rows * joined <= QUERY_TILE * group { joined / group } else { 1 };
        // Tiles of one group after another: later tiles see more positions, so that a member with
        // late tiles of all groups would finish last.
        let (tiles, groups) = (rows.div_ceil(QUERY_TILE), heads.div_ceil(group));
        let mut items = self.share(groups * tiles);
        while !items.is_empty() {
            if self.running.step.stop.stop() {
                return Err(Stopped);
            }
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
                let (acts, kv) = unsafe {
                    let all = runner.arena.dense(q, n - rows + first, count);
                    (all.cols_of(cols.0, cols.1), runner.cache.head(layer, kv_head))
                };
                let position = self.running.step.position + n - rows + first;
                let mut to = match out.kind {
                    // SAFETY: rows and columns of a verified buffer that are this item's alone.
                    Kind::F32 => unsafe { runner.arena.tile(out, (first, count), cols) },
                    Kind::Q8 | Kind::Q16 | Kind::Wide => {
                        Tile::new(&mut floats[cols.0 - col..], count, cols.1, width)
                    }
                };
                runner.backend.attend(&acts, &kv, position, None, spec.attn_scale, &mut to);
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
