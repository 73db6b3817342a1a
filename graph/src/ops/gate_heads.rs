//! `out = norm(x) * silu(gate)` of each head, or `x * sigmoid(gate)` without a norm, quantised if `out` is;
//! its items are groups of heads of one token.

use core::ops::Range;

use teff_kernels::Backend;

use super::{Access, Operation, sure};
use crate::TensorId;
use crate::exec::{Stopped, Worker};
use crate::plan::{Buffer, BufferId, PlanView, RowCount, lcm};

/// Gate of the outputs of heads.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct GateHeads {
    /// Outputs of heads, f32: a row for every token, or for every row of `out`.
    pub x: BufferId,
    /// Gates, f32, with a row for every token.
    pub gate: BufferId,
    /// Weight of the RMS norm of each head, whose gate is a SiLU; without a norm it is a sigmoid.
    pub norm: Option<TensorId>,
    /// Result.
    pub out: BufferId,
    /// Head dimension.
    pub head_dim: u16,
    /// Epsilon of the norm, added to the variance.
    pub eps: f32,
}

impl GateHeads {
    /// Columns that are written together, so that heads and blocks of activations stay whole.
    fn unit(&self, out: &Buffer) -> usize {
        lcm(self.head_dim.into(), out.kind.block()).min(out.cols as usize)
    }

    fn groups(&self, out: &Buffer) -> usize {
        (out.cols as usize).div_ceil(self.unit(out))
    }
}

impl Operation for GateHeads {
    fn buffers(&self, f: &mut dyn FnMut(BufferId, Access)) {
        f(self.x, Access::Read);
        f(self.gate, Access::Read);
        f(self.out, Access::Write);
    }

    fn others(&self, f: &mut dyn FnMut(TensorId)) {
        self.norm.into_iter().for_each(f);
    }

    fn check(&self, plan: &PlanView<'_>) -> Option<()> {
        let (x, gate, out) =
            (plan.floats(self.x)?, plan.floats(self.gate)?, plan.buffer(self.out)?);
        plan.parts(out)?;
        sure(x.cols == out.cols && gate.cols == out.cols && out.cols > 0)?;
        sure(gate.rows == RowCount::Batch && (x.rows == RowCount::Batch || x.rows == out.rows))?;
        sure(self.head_dim > 0 && out.cols.is_multiple_of(self.head_dim.into()))?;
        plan.some_vector(self.norm, self.head_dim.into())?;
        sure(self.eps.is_finite())
    }

    fn scratch(&self, plan: &PlanView<'_>) -> Option<usize> {
        self.unit(plan.buffer(self.out)?).checked_mul(2)
    }

    fn items<B: Backend>(&self, worker: &Worker<'_, '_, '_, B>) -> usize {
        let out = worker.buffer(self.out);
        worker.rows(out.rows) * self.groups(out)
    }

    fn grain<B: Backend>(&self, worker: &Worker<'_, '_, '_, B>, _: usize) -> (usize, usize) {
        // A thousand elements.
        ((1024 / self.unit(worker.buffer(self.out))).max(1), usize::MAX)
    }

    fn run<B: Backend>(
        &self,
        worker: &Worker<'_, '_, '_, B>,
        items: Range<usize>,
    ) -> Result<(), Stopped> {
        let (x, gate, out) =
            (worker.buffer(self.x), worker.buffer(self.gate), worker.buffer(self.out));
        let (backend, norm) = (worker.backend(), self.norm.map(|w| worker.vector(w)));
        let (unit, groups) = (self.unit(out), self.groups(out));
        let (head_dim, cols) = (usize::from(self.head_dim), out.cols as usize);
        // SAFETY: the only call for these items.
        let (_, floats) = unsafe { worker.local() };
        let (gates, heads) = floats.split_at_mut(unit);
        let tokens = items.start / groups..items.end.div_ceil(groups);
        for (t, segment) in worker.rows_of(out.rows, tokens) {
            worker.check_cancelled()?;
            // The last tokens of a segment are those whose outputs are wanted.
            let back = segment.first_row(out.rows) + segment.rows(out.rows) - t;
            let token = segment.first + segment.tokens.len() - back;
            let from = if x.rows == out.rows { t } else { token };
            // SAFETY: rows of verified buffers, which no one writes in this phase.
            let (row, gate) = unsafe { (worker.read(x, from, 1), worker.read(gate, token, 1)) };
            let own = items.start.max(t * groups)..items.end.min((t + 1) * groups);
            for group in own {
                let c = (group - t * groups) * unit;
                let w = unit.min(cols - c);
                let (gates, heads) = (&mut gates[..w], &mut heads[..w]);
                gates.copy_from_slice(&gate.row(0)[c..][..w]);
                let row = &row.row(0)[c..][..w];
                match norm {
                    Some(weight) => {
                        let normed = heads.chunks_mut(head_dim);
                        for (x, y) in row.chunks(head_dim).zip(normed) {
                            backend.rms_norm(x, weight, self.eps, y);
                        }
                        backend.silu_mul(gates, heads);
                    }
                    None => {
                        backend.sigmoid(gates);
                        backend.mul(gates, row);
                    }
                }
                worker.store(out, t, c, gates);
            }
        }
        Ok(())
    }
}
