//! `out = (out + scale * norm(x)) * then` with an RMS norm; its items are tokens.

use core::ops::Range;

use teff_kernels::Backend;

use super::{Access, Operation, sure};
use crate::TensorId;
use crate::exec::{Stopped, Worker};
use crate::plan::{BufferId, PlanView};

/// RMS norm of each row, added to another buffer.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct NormAdd {
    /// Inputs, f32.
    pub x: BufferId,
    /// Weight.
    pub weight: TensorId,
    /// Result, f32.
    pub out: BufferId,
    /// Epsilon, added to the variance.
    pub eps: f32,
    /// Scale of the norm.
    pub scale: f32,
    /// Factor of the sum: a tensor of one element.
    pub then: Option<TensorId>,
}

impl Operation for NormAdd {
    fn buffers(&self, f: &mut dyn FnMut(BufferId, Access)) {
        f(self.x, Access::Read);
        f(self.out, Access::Update);
    }

    fn others(&self, f: &mut dyn FnMut(TensorId)) {
        f(self.weight);
        self.then.into_iter().for_each(f);
    }

    fn check(&self, plan: &PlanView<'_>) -> Option<()> {
        let (x, out) = (plan.floats(self.x)?, plan.floats(self.out)?);
        plan.vector(self.weight, x.cols as usize)?;
        plan.some_vector(self.then, 1)?;
        sure(x.cols == out.cols && x.rows == out.rows)?;
        sure(self.eps.is_finite() && self.scale.is_finite())
    }

    fn scratch(&self, plan: &PlanView<'_>) -> Option<usize> {
        Some(plan.buffer(self.x)?.cols as usize)
    }

    fn items<B: Backend>(&self, worker: &Worker<'_, '_, '_, B>) -> usize {
        worker.rows(worker.buffer(self.x).rows)
    }

    fn run<B: Backend>(
        &self,
        worker: &Worker<'_, '_, '_, B>,
        tokens: Range<usize>,
    ) -> Result<(), Stopped> {
        // SAFETY: the only call for these items.
        let (_, scratch) = unsafe { worker.local() };
        let (x, out, backend) = (worker.buffer(self.x), worker.buffer(self.out), worker.backend());
        let weight = worker.vector(self.weight);
        let then = self.then.map(|id| worker.vector(id)[0]);
        let normed = &mut scratch[..x.cols as usize];
        for t in tokens {
            // SAFETY: rows t of verified buffers; no one writes x in this phase, and row t of out
            // is our item.
            let (from, mut to) =
                unsafe { (worker.read(x, t, 1), worker.write(out, (t, 1), (0, normed.len()))) };
            backend.rms_norm(from.row(0), weight, self.eps, normed);
            if self.scale != 1.0 {
                backend.scale(normed, self.scale);
            }
            backend.add(to.row(0), normed);
            if let Some(then) = then {
                backend.scale(to.row(0), then);
            }
        }
        Ok(())
    }
}
