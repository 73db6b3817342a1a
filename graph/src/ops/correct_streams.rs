//! `out[i] = x[i] + (c[i] + 1) (a - x[active])` with `c = coefs tanh(by)`; its items are tokens.

use core::ops::Range;

use teff_kernels::Backend;

use super::predict_streams::{check_coefs, check_streams, mix};
use super::{Access, Operation, sure};
use crate::TensorId;
use crate::exec::{Stopped, Worker};
use crate::plan::{BufferId, PlanView};
use crate::spec::MAX_STREAMS;

/// Correction of predicted residual streams by what a layer made of one of them.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct CorrectStreams {
    /// All predicted streams, f32, one after another.
    pub x: BufferId,
    /// What the layer made of its own, f32.
    pub a: BufferId,
    /// Scores, f32, one for each stream.
    pub by: BufferId,
    /// Coefficients of the scores, `streams` for each stream.
    pub coefs: TensorId,
    /// Factors of the copy.
    pub scale: Option<TensorId>,
    /// Result, f32.
    pub out: BufferId,
    /// Copy of the corrected stream that the layer works on, f32, times `scale`.
    pub active_out: BufferId,
    /// Number of streams.
    pub streams: u8,
    /// Number of the stream that the layer works on.
    pub active: u8,
}

impl Operation for CorrectStreams {
    fn buffers(&self, f: &mut dyn FnMut(BufferId, Access)) {
        for id in [self.x, self.a, self.by] {
            f(id, Access::Read);
        }
        f(self.out, Access::Write);
        f(self.active_out, Access::Write);
    }

    fn others(&self, f: &mut dyn FnMut(TensorId)) {
        f(self.coefs);
        self.scale.into_iter().for_each(f);
    }

    fn check(&self, plan: &PlanView<'_>) -> Option<()> {
        let (x, a, by) = (plan.floats(self.x)?, plan.floats(self.a)?, plan.floats(self.by)?);
        let (out, active) = (plan.floats(self.out)?, plan.floats(self.active_out)?);
        check_streams(out, active, (self.streams, self.active))?;
        let n = usize::from(self.streams);
        check_coefs(plan, self.coefs, (n, n))?;
        plan.some_vector(self.scale, active.cols as usize)?;
        sure(x.cols == out.cols && a.cols == active.cols && by.cols == u32::from(self.streams))?;
        sure([x, a, by].iter().all(|b| b.rows == out.rows) && self.out != self.active_out)
    }

    /// A difference, and its multiple.
    fn scratch(&self, plan: &PlanView<'_>) -> Option<usize> {
        (plan.buffer(self.active_out)?.cols as usize).checked_mul(2)
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
        let [x, a, by, out, active] =
            [self.x, self.a, self.by, self.out, self.active_out].map(|id| worker.buffer(id));
        let (backend, coefs) = (worker.backend(), worker.vector(self.coefs));
        let scale = self.scale.map(|id| worker.vector(id));
        let (n, width) = (usize::from(self.streams), active.cols as usize);
        let at = usize::from(self.active) * width;
        let (difference, term) = scratch.split_at_mut(width);
        let term = &mut term[..width];
        let mut all = [0.0; MAX_STREAMS as usize];
        let all = &mut all[..n];
        for t in tokens {
            worker.check_cancelled()?;
            // SAFETY: rows t of verified buffers; no one writes the inputs in this phase, and rows t of the
            // others are our item.
            let (x, a, by, mut to, mut copy) = unsafe {
                let (x, a, by) =
                    (worker.read(x, t, 1), worker.read(a, t, 1), worker.read(by, t, 1));
                let to = worker.write(out, (t, 1), (0, n * width));
                (x, a, by, to, worker.write(active, (t, 1), (0, width)))
            };
            mix(backend, coefs, by.row(0), all);
            let (x, to) = (x.row(0), to.row(0));
            difference.copy_from_slice(&x[at..][..width]);
            backend.scale(difference, -1.0);
            backend.add(difference, a.row(0));
            to.copy_from_slice(x);
            for (to, &c) in to.chunks_exact_mut(width).zip(&*all) {
                term.copy_from_slice(difference);
                backend.scale(term, c + 1.0);
                backend.add(to, term);
            }
            copy.row(0).copy_from_slice(&to[at..][..width]);
            if let Some(scale) = scale {
                backend.mul(copy.row(0), scale);
            }
        }
        Ok(())
    }
}
