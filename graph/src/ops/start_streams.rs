//! `out[0] = x` and `out[i] = y[i - 1] * |x| / max(|y[i - 1]|, floor)` with `|x|` the root of the mean
//! square; its items are tokens.

use core::ops::Range;

use teff_kernels::Backend;

use super::{Access, Operation, sure};
use crate::exec::{Stopped, Worker};
use crate::plan::{BufferId, PlanView};

/// Residual streams at the beginning.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct StartStreams {
    /// Embedding, f32: the first stream.
    pub x: BufferId,
    /// Other streams before they are scaled, f32, one after another.
    pub y: BufferId,
    /// Result, f32: all streams, one after another.
    pub out: BufferId,
    /// Copy of the stream that layers work on, f32.
    pub active_out: BufferId,
    /// Number of that stream.
    pub active: u8,
}

/// Smallest mean square by which a stream is divided.
const FLOOR: f32 = 1e-5;

/// Scales a stream to a magnitude, the root of its mean square.
pub(super) fn scale_to<B: Backend>(backend: &B, y: &mut [f32], magnitude: f32) {
    let square = backend.mean_square(y);
    let square = if square < FLOOR { FLOOR } else { square }; // NaN stays
    backend.scale(y, magnitude / libm::sqrtf(square));
}

impl Operation for StartStreams {
    fn buffers(&self, f: &mut dyn FnMut(BufferId, Access)) {
        f(self.x, Access::Read);
        f(self.y, Access::Read);
        f(self.out, Access::Write);
        f(self.active_out, Access::Write);
    }

    fn check(&self, plan: &PlanView<'_>) -> Option<()> {
        let [x, y, out, active] =
            [self.x, self.y, self.out, self.active_out].map(|id| plan.floats(id));
        let (x, y, out, active) = (x?, y?, out?, active?);
        sure(x.cols > 0 && y.cols.is_multiple_of(x.cols) && active.cols == x.cols)?;
        sure(Some(out.cols) == y.cols.checked_add(x.cols))?;
        sure(u32::from(self.active) < out.cols / x.cols && self.out != self.active_out)?;
        sure([y, out, active].iter().all(|b| b.rows == x.rows))
    }

    fn items<B: Backend>(&self, worker: &Worker<'_, '_, '_, B>) -> usize {
        worker.rows(worker.buffer(self.out).rows)
    }

    fn run<B: Backend>(
        &self,
        worker: &Worker<'_, '_, '_, B>,
        tokens: Range<usize>,
    ) -> Result<(), Stopped> {
        let (x, y, backend) = (worker.buffer(self.x), worker.buffer(self.y), worker.backend());
        let (out, active) = (worker.buffer(self.out), worker.buffer(self.active_out));
        let (width, all) = (x.cols as usize, out.cols as usize);
        for t in tokens {
            worker.check_cancelled()?;
            // SAFETY: rows t of verified buffers; no one writes x and y in this phase, and rows t of the
            // others are our item.
            let (x, y, mut to, mut copy) = unsafe {
                let (x, y) = (worker.read(x, t, 1), worker.read(y, t, 1));
                (
                    x,
                    y,
                    worker.write(out, (t, 1), (0, all)),
                    worker.write(active, (t, 1), (0, width)),
                )
            };
            let magnitude = libm::sqrtf(backend.mean_square(x.row(0)));
            let (first, others) = to.row(0).split_at_mut(width);
            first.copy_from_slice(x.row(0));
            others.copy_from_slice(y.row(0));
            for stream in others.chunks_exact_mut(width) {
                scale_to(backend, stream, magnitude);
            }
            copy.row(0).copy_from_slice(&to.row(0)[usize::from(self.active) * width..][..width]);
        }
        Ok(())
    }
}
