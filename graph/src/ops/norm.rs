//! `out = norm(x)`, quantised if `out` is; its items are tokens.

use core::ops::Range;

use teff_kernels::Backend;

use super::{Access, Operation, sure};
use crate::TensorId;
use crate::exec::{Stopped, Worker};
use crate::plan::{BufferId, PlanView};

/// Norm of each row: a layer norm if there is a bias, otherwise an RMS norm.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Norm {
    /// Inputs, f32.
    pub x: BufferId,
    /// Weight.
    pub weight: TensorId,
    /// Bias of a layer norm.
    pub bias: Option<TensorId>,
    /// Result.
    pub out: BufferId,
    /// Epsilon, added to the variance.
    pub eps: f32,
}

impl Operation for Norm {
    fn buffers(&self, f: &mut dyn FnMut(BufferId, Access)) {
        f(self.x, Access::Read);
        f(self.out, Access::Write);
    }

    fn in_place(&self) -> Option<(BufferId, BufferId)> {
        Some((self.x, self.out))
    }

    fn others(&self, f: &mut dyn FnMut(TensorId)) {
        f(self.weight);
        self.bias.into_iter().for_each(f);
    }

    fn check(&self, plan: &PlanView<'_>) -> Option<()> {
        let (x, out) = (plan.floats(self.x)?, plan.buffer(self.out)?);
        plan.vector(self.weight, x.cols as usize)?;
        plan.some_vector(self.bias, x.cols as usize)?;
        sure(x.cols == out.cols && x.rows == out.rows && self.eps.is_finite())
    }

    fn scratch(&self, plan: &PlanView<'_>) -> Option<usize> {
        (plan.buffer(self.x)?.cols as usize).checked_mul(2)
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
        let (x, out) = (worker.buffer(self.x), worker.buffer(self.out));
        let weight = worker.vector(self.weight);
        let bias = self.bias.map(|b| worker.vector(b));
        let width = x.cols as usize;
        let (copy, normed) = scratch.split_at_mut(width);
        for t in tokens {
            // A copy, since `out` may share the storage of `x`.
            // SAFETY: row t of a verified buffer; written by no one else in this phase.
            copy.copy_from_slice(unsafe { worker.read(x, t, 1) }.row(0));
            let normed = &mut normed[..width];
            match bias {
                Some(bias) => worker.backend().layer_norm(copy, weight, bias, self.eps, normed),
                None => worker.backend().rms_norm(copy, weight, self.eps, normed),
            }
            worker.store(out, t, 0, normed);
        }
        Ok(())
    }
}
