//! `out = (x[0] + sum_i y[i] * |x[0]| / max(|y[i]|, floor)) / n`, the mean of `n` streams, with `|x|` the
//! root of the mean square; its items are tokens.

use core::ops::Range;

use teff_kernels::Backend;

use super::start_streams::scale_to;
use super::{Access, Operation, sure};
use crate::exec::{Stopped, Worker};
use crate::plan::{BufferId, PlanView};

/// Mean of the residual streams at the end.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct EndStreams {
    /// All streams, f32, of which the first is taken as it is.
    pub x: BufferId,
    /// Products of the other streams, f32, one after another.
    pub y: BufferId,
    /// Result, f32.
    pub out: BufferId,
}

impl Operation for EndStreams {
    fn buffers(&self, f: &mut dyn FnMut(BufferId, Access)) {
        f(self.x, Access::Read);
        f(self.y, Access::Read);
        f(self.out, Access::Write);
    }

    fn check(&self, plan: &PlanView<'_>) -> Option<()> {
        let (x, y, out) = (plan.floats(self.x)?, plan.floats(self.y)?, plan.floats(self.out)?);
        sure(out.cols > 0 && y.cols.is_multiple_of(out.cols))?;
        sure(Some(x.cols) == y.cols.checked_add(out.cols))?;
        sure(x.rows == out.rows && y.rows == out.rows)
    }

    /// A stream.
    fn scratch(&self, plan: &PlanView<'_>) -> Option<usize> {
        Some(plan.buffer(self.out)?.cols as usize)
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
        let (x, y, backend) = (worker.buffer(self.x), worker.buffer(self.y), worker.backend());
        let out = worker.buffer(self.out);
        let width = out.cols as usize;
        let stream = &mut scratch[..width];
        for t in tokens {
            worker.check_cancelled()?;
            // SAFETY: rows t of verified buffers; no one writes x and y in this phase, and row t of out is
            // our item.
            let (x, y, mut to) = unsafe {
                let (x, y) = (worker.read(x, t, 1), worker.read(y, t, 1));
                (x, y, worker.write(out, (t, 1), (0, width)))
            };
            let (first, sum) = (&x.row(0)[..width], to.row(0));
            let magnitude = libm::sqrtf(backend.mean_square(first));
            sum.copy_from_slice(first);
            for other in y.row(0).chunks_exact(width) {
                stream.copy_from_slice(other);
                scale_to(backend, stream, magnitude);
                backend.add(sum, stream);
            }
            backend.scale(sum, width as f32 / x.row(0).len() as f32);
        }
        Ok(())
    }
}
