//! `streams[i] = streams[i] + norm(x)` for all but the first, with an RMS norm; its items are tokens.

use core::ops::Range;

use teff_kernels::Backend;

use super::{Access, Operation, sure};
use crate::TensorId;
use crate::exec::{Stopped, Worker};
use crate::plan::{BufferId, PlanView};

/// RMS norm of each row, added to all residual streams but the first.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct AddToStreams {
    /// Inputs, f32.
    pub x: BufferId,
    /// Weight.
    pub weight: TensorId,
    /// All streams, f32, one after another.
    pub streams: BufferId,
    /// Copy of the stream that the next layer works on, f32.
    pub active_out: BufferId,
    /// Epsilon, added to the variance.
    pub eps: f32,
    /// Number of that stream.
    pub active: u8,
}

impl Operation for AddToStreams {
    fn buffers(&self, f: &mut dyn FnMut(BufferId, Access)) {
        f(self.x, Access::Read);
        f(self.streams, Access::Update);
        f(self.active_out, Access::Write);
    }

    fn others(&self, f: &mut dyn FnMut(TensorId)) {
        f(self.weight);
    }

    fn check(&self, plan: &PlanView<'_>) -> Option<()> {
        let (x, all) = (plan.floats(self.x)?, plan.floats(self.streams)?);
        let active = plan.floats(self.active_out)?;
        plan.vector(self.weight, x.cols as usize)?;
        sure(x.cols > 0 && all.cols.is_multiple_of(x.cols) && active.cols == x.cols)?;
        sure(u32::from(self.active) < all.cols / x.cols && self.streams != self.active_out)?;
        sure(x.rows == all.rows && active.rows == all.rows && self.eps.is_finite())
    }

    /// A norm.
    fn scratch(&self, plan: &PlanView<'_>) -> Option<usize> {
        Some(plan.buffer(self.x)?.cols as usize)
    }

    fn items<B: Backend>(&self, worker: &Worker<'_, '_, '_, B>) -> usize {
        worker.rows(worker.buffer(self.streams).rows)
    }

    fn run<B: Backend>(
        &self,
        worker: &Worker<'_, '_, '_, B>,
        tokens: Range<usize>,
    ) -> Result<(), Stopped> {
        // SAFETY: the only call for these items.
        let (_, scratch) = unsafe { worker.local() };
        let (x, all, backend) =
            (worker.buffer(self.x), worker.buffer(self.streams), worker.backend());
        let active = worker.buffer(self.active_out);
        let (weight, width) = (worker.vector(self.weight), x.cols as usize);
        let normed = &mut scratch[..width];
        for t in tokens {
            // SAFETY: rows t of verified buffers; no one writes x in this phase, and rows t of the others
            // are our item.
            let (x, mut to, mut copy) = unsafe {
                let to = worker.write(all, (t, 1), (0, all.cols as usize));
                (worker.read(x, t, 1), to, worker.write(active, (t, 1), (0, width)))
            };
            backend.rms_norm(x.row(0), weight, self.eps, normed);
            for stream in to.row(0).chunks_exact_mut(width).skip(1) {
                backend.add(stream, normed);
            }
            copy.row(0).copy_from_slice(&to.row(0)[usize::from(self.active) * width..][..width]);
        }
        Ok(())
    }
}
