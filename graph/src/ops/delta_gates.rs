//! `decay = exp(rate * softplus(decay + bias))` and `beta = sigmoid(beta)`, of each head of linear
//! attention; its items are tokens.

use core::ops::Range;

use teff_kernels::Backend;

use super::{Access, Operation, sure};
use crate::TensorId;
use crate::exec::{Stopped, Worker};
use crate::plan::{BufferId, PlanView, RowCount};

/// Decay and strength of each head's state at a token, from two products.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct DeltaGates {
    /// Decays, f32.
    pub decay: BufferId,
    /// Strengths, f32.
    pub beta: BufferId,
    /// Bias of the decays.
    pub bias: TensorId,
    /// Rates of the decays, which are negative.
    pub rate: TensorId,
}

impl Operation for DeltaGates {
    fn buffers(&self, f: &mut dyn FnMut(BufferId, Access)) {
        f(self.decay, Access::Update);
        f(self.beta, Access::Update);
    }

    fn others(&self, f: &mut dyn FnMut(TensorId)) {
        f(self.bias);
        f(self.rate);
    }

    fn check(&self, plan: &PlanView<'_>) -> Option<()> {
        let (decay, beta) = (plan.floats(self.decay)?, plan.floats(self.beta)?);
        sure(self.decay != self.beta && decay.cols == beta.cols)?;
        sure((decay.rows, beta.rows) == (RowCount::Batch, RowCount::Batch))?;
        plan.vector(self.bias, decay.cols as usize)?;
        plan.vector(self.rate, decay.cols as usize)
    }

    fn items<B: Backend>(&self, worker: &Worker<'_, '_, '_, B>) -> usize {
        worker.rows(RowCount::Batch)
    }

    fn grain<B: Backend>(&self, _: &Worker<'_, '_, '_, B>, _: usize) -> (usize, usize) {
        (16, usize::MAX)
    }

    fn run<B: Backend>(
        &self,
        worker: &Worker<'_, '_, '_, B>,
        tokens: Range<usize>,
    ) -> Result<(), Stopped> {
        let (decay, beta) = (worker.buffer(self.decay), worker.buffer(self.beta));
        let (bias, rate) = (worker.vector(self.bias), worker.vector(self.rate));
        let (rows, cols) = ((tokens.start, tokens.len()), (0, decay.cols as usize));
        // SAFETY: rows of two verified buffers, used by this operation alone in this phase, that belong to
        // items of this worker.
        let (mut decay, mut beta) =
            unsafe { (worker.write(decay, rows, cols), worker.write(beta, rows, cols)) };
        for t in 0..rows.1 {
            worker.backend().decay(decay.row(t), bias, rate);
            worker.backend().sigmoid(beta.row(t));
        }
        Ok(())
    }
}
