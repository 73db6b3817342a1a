//! `out = act(x gate + gate_bias) * (x up + up_bias)` for each token and each expert that it chose, in the order of
//! [`super::routes`]; its items are as many for a unit of outputs as its expert has entries.

use core::ops::Range;

use teff_kernels::{Backend, Tile};

use super::gated::join;
use super::routes::{self, CLAIMS, ENTRIES, Routes};
use super::{Access, Operation, sure};
use crate::TensorId;
use crate::exec::{Stopped, Worker};
use crate::layers::Activation;
use crate::plan::{ALIGN, Buffer, BufferId, Chunks, PlanView};

/// First two products of the chosen experts, combined by an activation.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct ExpertsGated {
    /// Gate weights of all experts.
    pub gate: TensorId,
    /// Up weights of all experts; the same tensor as `gate` if each expert's follow its gate in it.
    pub up: TensorId,
    /// Biases of the gate, of all experts.
    pub gate_bias: Option<TensorId>,
    /// Biases of `up`, of all experts.
    pub up_bias: Option<TensorId>,
    /// Inputs of `gate`, of the type that its weights need.
    pub x: BufferId,
    /// Inputs of `up`: the same buffer, unless its weights need another type.
    pub up_x: BufferId,
    /// Chosen experts, as written by [`super::Route`].
    pub routes: BufferId,
    /// Result: for each token, a row of `used` times the inner width, filled entry by entry.
    pub out: BufferId,
    /// Number of experts in the layer.
    pub experts: u16,
    /// Number of experts that a token takes.
    pub used: u16,
    /// Activation function.
    pub act: Activation,
}

/// View of a buffer with a row for each token as one with a row for each entry.
pub(super) fn by_entry(buffer: &Buffer, used: u16) -> Buffer {
    Buffer { cols: buffer.cols / u32::from(used), ..*buffer }
}

/// Checks a buffer in which outputs are stored entry by entry, in whole blocks.
pub(super) fn check_entries(buffer: &Buffer, used: u16, inner: usize) -> Option<()> {
    let whole = inner.is_multiple_of(buffer.kind.block());
    sure(whole && Some(buffer.cols as usize) == inner.checked_mul(used.into()))
}

/// Checks the buffer of the choice: what it holds are numbers of so many experts.
pub(super) fn check_routes<'a>(
    plan: &PlanView<'a>,
    id: BufferId,
    (experts, used): (u16, u16),
) -> Option<&'a Buffer> {
    let routes = plan.floats(id)?;
    sure(used > 0 && routes.cols == 2 * u32::from(used))?;
    for op in plan.ops {
        let mut writes = false;
        op.buffers(&mut |buffer, how| writes |= buffer == id && how != Access::Read);
        if writes {
            // Nothing but a choice may write it, and that of this layer's experts.
            let choice = op.choice().filter(|choice| choice.out == id)?;
            let scores = plan.buffer(choice.scores)?;
            sure(choice.used == used && scores.cols == u32::from(experts))?;
        }
    }
    Some(routes)
}

impl ExpertsGated {
    /// Floats needed for the gathered inputs of a batch of entries.
    fn gathered(&self, x: &Buffer, rows: usize) -> Option<usize> {
        let bytes = x.kind.bytes(rows.min(ENTRIES), x.cols as usize)?;
        Some(bytes.checked_next_multiple_of(ALIGN)? / 4)
    }

    /// Rows of an expert's matrix, of which the last `inner` are those of `up`.
    fn rows(&self, inner: usize) -> usize {
        if self.up == self.gate { 2 * inner } else { inner }
    }

    /// Rows of the gate of an expert whose matrix has `rows` rows.
    fn inner(&self, rows: usize) -> usize {
        if self.up == self.gate { rows / 2 } else { rows }
    }

    /// Floats of the staging tile of one product.
    fn tile(&self, out: &Buffer, inner: usize, rows: usize) -> Option<usize> {
        Chunks::staged(out, inner).tile_floats(rows.min(ENTRIES))
    }
}

impl Operation for ExpertsGated {
    fn buffers(&self, f: &mut dyn FnMut(BufferId, Access)) {
        f(self.x, Access::Read);
        if self.up_x != self.x {
            f(self.up_x, Access::Read);
        }
        f(self.routes, Access::Read);
        f(self.out, Access::Write);
    }

    fn products(&self, f: &mut dyn FnMut(TensorId, BufferId)) {
        f(self.gate, self.x);
        f(self.up, self.up_x);
    }

    fn others(&self, f: &mut dyn FnMut(TensorId)) {
        [self.gate_bias, self.up_bias].into_iter().flatten().for_each(f);
    }

    fn check(&self, plan: &PlanView<'_>) -> Option<()> {
        let routes = check_routes(plan, self.routes, (self.experts, self.used))?;
        let out = plan.buffer(self.out)?;
        plan.parts(out)?;
        sure(self.act.is_valid())?;
        let both = [(self.gate, self.gate_bias, self.x), (self.up, self.up_bias, self.up_x)];
        for (w, bias, x) in both {
            let (w, x) = (plan.stack(w, self.experts)?, plan.buffer(x)?);
            let inner = self.inner(w.rows);
            sure(w.cols == x.cols as usize && x.rows == out.rows && w.rows == self.rows(inner))?;
            check_entries(out, self.used, inner)?;
            if let Some(bias) = bias {
                plan.stacked_vector(bias, self.experts, inner)?;
            }
        }
        sure(routes.rows == out.rows)
    }

    fn scratch(&self, plan: &PlanView<'_>) -> Option<usize> {
        let (rows, out) = (plan.most_rows(), plan.buffer(self.out)?);
        let inner = self.inner(plan.stack(self.gate, self.experts)?.rows);
        routes::floats(self.experts, self.used, rows)?
            .checked_add(self.gathered(plan.buffer(self.x)?, rows)?)?
            .checked_add(self.gathered(plan.buffer(self.up_x)?, rows)?)?
            .checked_add(self.tile(out, inner, rows)?.checked_mul(2)?)
    }

    fn items<B: Backend>(&self, worker: &Worker<'_, '_, '_, B>) -> usize {
        // The cost of a unit of outputs is proportional to the number of entries of its expert.
        let (gate, out) = (worker.matrix(self.gate), worker.buffer(self.out));
        let inner = self.inner(gate.rows() / usize::from(self.experts));
        let units = Chunks::staged(out, inner).units();
        worker.rows(out.rows) * usize::from(self.used) * units
    }

    fn grain<B: Backend>(&self, worker: &Worker<'_, '_, '_, B>, size: usize) -> (usize, usize) {
        // The routes are sorted and inputs gathered for each claim.
        (self.items(worker).div_ceil(CLAIMS * size).max(1), usize::MAX)
    }

    fn run<B: Backend>(
        &self,
        worker: &Worker<'_, '_, '_, B>,
        items: Range<usize>,
    ) -> Result<(), Stopped> {
        let backend = worker.backend();
        let (gate, up) = (worker.matrix(self.gate), worker.matrix(self.up));
        let [gate_bias, up_bias] =
            [self.gate_bias, self.up_bias].map(|b| b.map(|b| worker.vector(b)));
        let (x, up_x) = (worker.buffer(self.x), worker.buffer(self.up_x));
        let (choice, out) = (worker.buffer(self.routes), worker.buffer(self.out));
        let (n, of_expert) = (worker.rows(x.rows), gate.rows() / usize::from(self.experts));
        let inner = self.inner(of_expert);
        let rows = worker.plan().max_rows(out.rows) * usize::from(self.used);
        let entries_out = by_entry(out, self.used);
        // SAFETY: the only call for these items.
        let (scratch, floats) = unsafe { worker.local() };
        let size = routes::floats(self.experts, self.used, n).unwrap_or(0); // checked for the batch
        let (memory, floats) = floats.split_at_mut(size);
        let routes = Routes::new(worker, choice, (self.experts, self.used), memory);
        let (x_memory, floats) = floats.split_at_mut(self.gathered(x, n).unwrap_or(0));
        let (up_memory, floats) = floats.split_at_mut(self.gathered(up_x, n).unwrap_or(0));

        let chunks = Chunks::staged(out, inner);
        let units = chunks.units();
        for (e, entries) in routes.experts() {
            let (before, cost) = (entries.start * units, entries.len());
            let unit = |at: usize| at.saturating_sub(before).div_ceil(cost).min(units);
            let (r0, r1) = (unit(items.start) * chunks.unit, unit(items.end) * chunks.unit);
            let (r0, r1) = (r0.min(inner), r1.min(inner));
            let mut first = entries.start;
            while first < entries.end && r0 < r1 {
                let count = ENTRIES.min(entries.end - first);
                let tokens = |i: usize| routes.entry(first + i).0;
                // SAFETY: no one writes to either in this phase (verified).
                let gate_x = unsafe { worker.gather(x, count, tokens, x_memory) };
                let up_x = match self.up_x == self.x {
                    true => gate_x,
                    // SAFETY: as above.
                    false => unsafe { worker.gather(up_x, count, tokens, up_memory) },
                };
                let chunk = chunks.chunk(count, gate.cols(), backend.products_per_ms());
                let mut r = r0;
                while r < r1 {
                    let width = chunk.min(r1 - r);
                    let first_row = e * of_expert + r;
                    let rows_of = first_row..first_row + width;
                    let (gates, ups) = floats.split_at_mut(count * width);
                    let mut gates = Tile::new(gates, count, width, width);
                    let mut ups = Tile::new(&mut ups[..count * width], count, width, width);
                    worker.product(&gate, &gate_x, rows_of, &mut gates, scratch)?;
                    // The last `inner` rows of the expert's: all of them, or those after the gate's.
                    let first_row = first_row + of_expert - inner;
                    let rows_of = first_row..first_row + width;
                    worker.product(&up, &up_x, rows_of, &mut ups, scratch)?;
                    let biases = e * inner + r..e * inner + r + width;
                    for i in 0..count {
                        let (gate, up) = (gates.row(i), ups.row(i));
                        if let Some(bias) = gate_bias {
                            backend.add(gate, &bias[biases.clone()]);
                        }
                        if let Some(bias) = up_bias {
                            backend.add(up, &bias[biases.clone()]);
                        }
                        join(backend, self.act, gate, up);
                        worker.store_in(&entries_out, rows, first + i, r, gate);
                    }
                    r += width;
                }
                first += count;
            }
        }
        Ok(())
    }
}
