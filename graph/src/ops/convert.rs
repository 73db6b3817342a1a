//! `out = x[first..]` in the type of `out`; its items are tokens.

use core::ops::Range;

use teff_kernels::Backend;

use super::{Access, Operation, sure};
use crate::exec::{Stopped, Worker};
use crate::plan::{BufferId, PlanView};

/// Inputs of a product that no norm precedes, in the type that its weights need.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Convert {
    /// Inputs, f32.
    pub x: BufferId,
    /// First column of `x` that is taken.
    pub first: u32,
    /// Result.
    pub out: BufferId,
}

impl Operation for Convert {
    fn buffers(&self, f: &mut dyn FnMut(BufferId, Access)) {
        f(self.x, Access::Read);
        f(self.out, Access::Write);
    }

    fn check(&self, plan: &PlanView<'_>) -> Option<()> {
        let (x, out) = (plan.floats(self.x)?, plan.buffer(self.out)?);
        let end = self.first.checked_add(out.cols)?;
        sure(end <= x.cols && x.rows == out.rows)
    }

    fn items<B: Backend>(&self, worker: &Worker<'_, '_, '_, B>) -> usize {
        worker.rows(worker.buffer(self.x).rows)
    }

    fn run<B: Backend>(
        &self,
        worker: &Worker<'_, '_, '_, B>,
        tokens: Range<usize>,
    ) -> Result<(), Stopped> {
        let (x, out) = (worker.buffer(self.x), worker.buffer(self.out));
        for t in tokens {
            // SAFETY: row t of a verified buffer, which no one writes in this phase.
            let row = unsafe { worker.read(x, t, 1) };
            let row = &row.row(0)[self.first as usize..][..out.cols as usize];
            worker.store(out, t, 0, row);
        }
        Ok(())
    }
}
