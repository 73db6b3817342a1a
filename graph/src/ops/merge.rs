//! `x = (x + y) * scale`; its items are tokens.

use core::ops::Range;

use teff_kernels::Backend;

use super::{Access, Operation, sure};
use crate::exec::{Stopped, Worker};
use crate::plan::{BufferId, PlanView};

/// Scaled sum of two buffers.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Merge {
    /// First term and result, f32.
    pub x: BufferId,
    /// Second term, f32.
    pub y: BufferId,
    /// Scale of the sum.
    pub scale: f32,
}

impl Operation for Merge {
    fn buffers(&self, f: &mut dyn FnMut(BufferId, Access)) {
        f(self.x, Access::Update);
        f(self.y, Access::Read);
    }

    fn check(&self, plan: &PlanView<'_>) -> Option<()> {
        let (x, y) = (plan.floats(self.x)?, plan.floats(self.y)?);
        sure(x.cols == y.cols && x.rows == y.rows && self.scale.is_finite())
    }

    fn items<B: Backend>(&self, worker: &Worker<'_, '_, '_, B>) -> usize {
        worker.rows(worker.buffer(self.x).rows)
    }

    fn run<B: Backend>(
        &self,
        worker: &Worker<'_, '_, '_, B>,
        tokens: Range<usize>,
    ) -> Result<(), Stopped> {
        let (x, y, backend) = (worker.buffer(self.x), worker.buffer(self.y), worker.backend());
        for t in tokens {
            // SAFETY: rows t of verified buffers; no one writes y in this phase, and row t of x is our
            // item.
            let (from, mut to) =
                unsafe { (worker.read(y, t, 1), worker.write(x, (t, 1), (0, x.cols as usize))) };
            backend.add(to.row(0), from.row(0));
            backend.scale(to.row(0), self.scale);
        }
        Ok(())
    }
}
