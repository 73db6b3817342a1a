//! `out = x * sigmoid(gate)`, with one gate for each head; its items are tokens.

use core::ops::Range;

use teff_kernels::Backend;

use super::{Access, Operation, sure};
use crate::exec::{Stopped, Worker};
use crate::plan::{BufferId, PlanView, RowCount};

/// Gates of whole heads.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct ScaleHeads {
    /// Outputs of heads, f32, with the rows of `out`.
    pub x: BufferId,
    /// Scores of the gates, f32, with a row for every token.
    pub gate: BufferId,
    /// Result, quantised if the buffer is.
    pub out: BufferId,
}

impl Operation for ScaleHeads {
    fn buffers(&self, f: &mut dyn FnMut(BufferId, Access)) {
        f(self.x, Access::Read);
        f(self.gate, Access::Read);
        f(self.out, Access::Write);
    }

    fn check(&self, plan: &PlanView<'_>) -> Option<()> {
        let (x, gate, out) =
            (plan.floats(self.x)?, plan.floats(self.gate)?, plan.buffer(self.out)?);
        sure(gate.cols > 0 && x.cols.is_multiple_of(gate.cols) && x.cols == out.cols)?;
        sure(x.rows == out.rows && gate.rows == RowCount::Batch)
    }

    fn scratch(&self, plan: &PlanView<'_>) -> Option<usize> {
        let (x, gate) = (plan.buffer(self.x)?, plan.buffer(self.gate)?);
        (x.cols as usize).checked_add(gate.cols as usize)
    }

    fn items<B: Backend>(&self, worker: &Worker<'_, '_, '_, B>) -> usize {
        worker.rows(worker.buffer(self.out).rows)
    }

    fn run<B: Backend>(
        &self,
        worker: &Worker<'_, '_, '_, B>,
        tokens: Range<usize>,
    ) -> Result<(), Stopped> {
        let (x, gate, out) =
            (worker.buffer(self.x), worker.buffer(self.gate), worker.buffer(self.out));
        let backend = worker.backend();
        let (width, heads) = (x.cols as usize, gate.cols as usize);
        // SAFETY: the only call for these items.
        let (_, floats) = unsafe { worker.local() };
        let (row, gates) = floats.split_at_mut(width);
        let gates = &mut gates[..heads];
        for (t, segment) in worker.rows_of(out.rows, tokens) {
            // The last tokens of a segment are those whose outputs are wanted.
            let back = segment.first_row(out.rows) + segment.rows(out.rows) - t;
            let token = segment.first + segment.tokens.len() - back;
            // SAFETY: rows of verified buffers, which no one writes in this phase.
            let (from, scores) = unsafe { (worker.read(x, t, 1), worker.read(gate, token, 1)) };
            row.copy_from_slice(from.row(0));
            gates.copy_from_slice(scores.row(0));
            backend.sigmoid(gates);
            for (head, gate) in row.chunks_exact_mut(width / heads).zip(&*gates) {
                backend.scale(head, *gate);
            }
            worker.store(out, t, 0, row);
        }
        Ok(())
    }
}
