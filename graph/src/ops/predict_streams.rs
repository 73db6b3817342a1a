//! `out[i] = x[i] + sum_j c[i][j] x[j]` with `c = coefs tanh(by)`; its items are tokens.
//!
//! Sums are in ascending order, each term multiplied and then added, unfused.

use core::ops::Range;

use teff_kernels::Backend;

use super::{Access, Operation, sure};
use crate::TensorId;
use crate::exec::{Stopped, Worker};
use crate::plan::{Buffer, BufferId, PlanView};
use crate::spec::MAX_STREAMS;

/// Prediction of the residual streams after a layer.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct PredictStreams {
    /// All streams, f32, one after another.
    pub x: BufferId,
    /// Scores, f32, one for each stream.
    pub by: BufferId,
    /// Coefficients of the scores, `streams` for each pair of streams.
    pub coefs: TensorId,
    /// Result, f32.
    pub out: BufferId,
    /// Copy of the predicted stream that the layer works on, f32.
    pub active_out: BufferId,
    /// Number of streams.
    pub streams: u8,
    /// Number of the stream that the layer works on.
    pub active: u8,
}

/// `coefs tanh(by)`: as many numbers as `out` has.
pub(super) fn mix<B: Backend>(backend: &B, coefs: &[f32], by: &[f32], out: &mut [f32]) {
    let mut scores = [0.0; MAX_STREAMS as usize];
    let scores = &mut scores[..by.len()];
    scores.copy_from_slice(by);
    backend.softcap(scores, 1.0);
    for (out, row) in out.iter_mut().zip(coefs.chunks_exact(by.len())) {
        *out = row.iter().zip(&*scores).fold(0.0, |sum, (c, s)| sum + c * s);
    }
}

/// Checks all streams and one of them, and that there are so many; `None` otherwise.
pub(super) fn check_streams(all: &Buffer, one: &Buffer, (n, active): (u8, u8)) -> Option<()> {
    sure(n > 0 && u32::from(n) <= MAX_STREAMS && active < n)?;
    sure(Some(all.cols) == one.cols.checked_mul(n.into()) && all.rows == one.rows)
}

/// Checks coefficients of this shape.
pub(super) fn check_coefs(plan: &PlanView<'_>, id: TensorId, shape: (usize, usize)) -> Option<()> {
    let slot = plan.spec.slot(id)?;
    sure(slot.is_vector() && (slot.rows, slot.cols) == shape)
}

impl Operation for PredictStreams {
    fn buffers(&self, f: &mut dyn FnMut(BufferId, Access)) {
        f(self.x, Access::Read);
        f(self.by, Access::Read);
        f(self.out, Access::Write);
        f(self.active_out, Access::Write);
    }

    fn others(&self, f: &mut dyn FnMut(TensorId)) {
        f(self.coefs);
    }

    fn check(&self, plan: &PlanView<'_>) -> Option<()> {
        let (x, by) = (plan.floats(self.x)?, plan.floats(self.by)?);
        let (out, active) = (plan.floats(self.out)?, plan.floats(self.active_out)?);
        check_streams(out, active, (self.streams, self.active))?;
        let n = usize::from(self.streams);
        check_coefs(plan, self.coefs, (n * n, n))?;
        sure(x.cols == out.cols && by.cols == u32::from(self.streams))?;
        sure(x.rows == out.rows && by.rows == out.rows && self.out != self.active_out)
    }

    /// A stream.
    fn scratch(&self, plan: &PlanView<'_>) -> Option<usize> {
        Some(plan.buffer(self.active_out)?.cols as usize)
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
        let (x, by, backend) = (worker.buffer(self.x), worker.buffer(self.by), worker.backend());
        let (out, active) = (worker.buffer(self.out), worker.buffer(self.active_out));
        let (coefs, n) = (worker.vector(self.coefs), usize::from(self.streams));
        let width = active.cols as usize;
        let term = &mut scratch[..width];
        let mut all = [0.0; (MAX_STREAMS * MAX_STREAMS) as usize];
        let all = &mut all[..n * n];
        for t in tokens {
            worker.check_cancelled()?;
            // SAFETY: rows t of verified buffers; no one writes x and the scores in this phase, and rows t
            // of the others are our item.
            let (x, by, mut to, mut copy) = unsafe {
                let (x, by) = (worker.read(x, t, 1), worker.read(by, t, 1));
                let to = worker.write(out, (t, 1), (0, n * width));
                (x, by, to, worker.write(active, (t, 1), (0, width)))
            };
            mix(backend, coefs, by.row(0), all);
            let (x, to) = (x.row(0), to.row(0));
            to.copy_from_slice(x);
            for (to, coefs) in to.chunks_exact_mut(width).zip(all.chunks_exact(n)) {
                for (x, &c) in x.chunks_exact(width).zip(coefs) {
                    term.copy_from_slice(x);
                    backend.scale(term, c);
                    backend.add(to, term);
                }
            }
            copy.row(0).copy_from_slice(&to[usize::from(self.active) * width..][..width]);
        }
        Ok(())
    }
}
