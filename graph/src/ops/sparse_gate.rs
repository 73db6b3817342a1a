//! `out = act(topk(gate)) * up`, with `topk` what stands out of the gate's row
//! ([`Backend::gaussian_topk`]), quantised if `out` is; its items are tokens.

use core::ops::Range;

use teff_kernels::Backend;

use super::gated::join;
use super::{Access, Operation, sure};
use crate::exec::{Stopped, Worker};
use crate::layers::Activation;
use crate::plan::{BufferId, PlanView};

/// Sparse gate of two products.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct SparseGate {
    /// Gate, f32.
    pub gate: BufferId,
    /// The other product, f32.
    pub up: BufferId,
    /// Result.
    pub out: BufferId,
    /// Activation function.
    pub act: Activation,
    /// Number of standard deviations above the mean from which elements of the gate count.
    pub cut: f32,
}

impl Operation for SparseGate {
    fn buffers(&self, f: &mut dyn FnMut(BufferId, Access)) {
        f(self.gate, Access::Read);
        f(self.up, Access::Read);
        f(self.out, Access::Write);
    }

    fn check(&self, plan: &PlanView<'_>) -> Option<()> {
        let (gate, up) = (plan.floats(self.gate)?, plan.floats(self.up)?);
        let out = plan.buffer(self.out)?;
        sure(gate.cols == out.cols && up.cols == out.cols && self.cut.is_finite())?;
        sure(gate.rows == out.rows && up.rows == out.rows)
    }

    /// A row.
    fn scratch(&self, plan: &PlanView<'_>) -> Option<usize> {
        Some(plan.buffer(self.gate)?.cols as usize)
    }

    fn items<B: Backend>(&self, worker: &Worker<'_, '_, '_, B>) -> usize {
        worker.rows(worker.buffer(self.out).rows)
    }

    fn run<B: Backend>(
        &self,
        worker: &Worker<'_, '_, '_, B>,
        tokens: Range<usize>,
    ) -> Result<(), Stopped> {
        // SAFETY: the only call for these items.
        let (_, scratch) = unsafe { worker.local() };
        let (gate, up) = (worker.buffer(self.gate), worker.buffer(self.up));
        let (out, backend) = (worker.buffer(self.out), worker.backend());
        let row = &mut scratch[..gate.cols as usize];
        for t in tokens {
            worker.check_cancelled()?;
            // SAFETY: rows t of verified buffers, which no one writes in this phase.
            let (gate, up) = unsafe { (worker.read(gate, t, 1), worker.read(up, t, 1)) };
            row.copy_from_slice(gate.row(0));
            backend.gaussian_topk(row, self.cut);
            join(backend, self.act, row, up.row(0));
            worker.store(out, t, 0, row);
        }
        Ok(())
    }
}
