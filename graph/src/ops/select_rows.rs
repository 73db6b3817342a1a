//! `out` = the rows of `x` whose outputs are wanted; its items are tokens.

use core::ops::Range;

use teff_kernels::Backend;

use super::{Access, Operation, sure};
use crate::exec::{Stopped, Worker};
use crate::plan::{BufferId, PlanView, RowCount};

/// Selection of the rows whose outputs are wanted: the last ones of each sequence.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct SelectRows {
    /// Inputs, f32, with a row for every token.
    pub x: BufferId,
    /// Result, f32, with a row for every token whose outputs are wanted.
    pub out: BufferId,
}

impl Operation for SelectRows {
    fn buffers(&self, f: &mut dyn FnMut(BufferId, Access)) {
        f(self.x, Access::Read);
        f(self.out, Access::Write);
    }

    fn check(&self, plan: &PlanView<'_>) -> Option<()> {
        let (x, out) = (plan.floats(self.x)?, plan.floats(self.out)?);
        sure(x.cols == out.cols && (x.rows, out.rows) == (RowCount::Batch, RowCount::Wanted))
    }

    fn items<B: Backend>(&self, worker: &Worker<'_, '_, '_, B>) -> usize {
        worker.rows(worker.buffer(self.out).rows)
    }

    fn run<B: Backend>(
        &self,
        worker: &Worker<'_, '_, '_, B>,
        tokens: Range<usize>,
    ) -> Result<(), Stopped> {
        let (x, out) = (worker.buffer(self.x), worker.buffer(self.out));
        for (t, segment) in worker.rows_of(out.rows, tokens) {
            // SAFETY: rows of verified buffers; no one writes x in this phase.
            let row = unsafe { worker.read(x, segment.first + segment.token_of(out.rows, t), 1) };
            worker.store(out, t, 0, row.row(0));
        }
        Ok(())
    }
}
