//! Gated short convolution of LFM2: `out = C * conv(B * x)`, where `[B, C, x]` are the three parts
//! of the input; its items are channels.
//!
//! For each channel, `u = B * x` and, with `K` taps, `conv[t] = ((w[0] u[t-K+1] + w[1] u[t-K+2]) +
//! ...) + w[K-1] u[t] [+ bias]`, products and sums unfused, in ascending order of taps; inputs
//! before the start of the text are 0. The state is the last `K - 1` rows of `u`, oldest first,
//! each as wide as the model.

use core::ops::Range;

use teff_kernels::Backend;

use super::{Access, Operation, StateAccess, sure};
use crate::TensorId;
use crate::exec::{Stopped, Worker};
use crate::plan::{BufferId, Chunks, PlanView, RowCount, StateId, StateKind};

/// Tokens that are convolved at a time.
const TOKENS: usize = 32;
/// Maximum number of channels that are convolved at a time, in units of the output's blocks.
const CHANNELS: usize = 256;

/// Gated depthwise convolution over the last few tokens.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct ShortConv {
    /// Inputs, f32: `B`, `C` and `x` one after another.
    pub x: BufferId,
    /// Weights of the taps, `[channels, n]`.
    pub taps: TensorId,
    /// Bias of the convolution.
    pub bias: Option<TensorId>,
    /// State: the inputs of the last tokens.
    pub state: StateId,
    /// Number of taps.
    pub n: u16,
    /// Result, quantised if the buffer is.
    pub out: BufferId,
}

impl ShortConv {
    /// Channels that are convolved at a time, and their unit.
    fn channels(&self, unit: usize, total: usize) -> usize {
        (CHANNELS / unit * unit).max(unit).min(total.next_multiple_of(unit))
    }
}

impl Operation for ShortConv {
    fn buffers(&self, f: &mut dyn FnMut(BufferId, Access)) {
        f(self.x, Access::Read);
        f(self.out, Access::Write);
    }

    fn states(&self, f: &mut dyn FnMut(StateId, StateAccess)) {
        f(self.state, StateAccess::Update);
    }

    fn others(&self, f: &mut dyn FnMut(TensorId)) {
        f(self.taps);
        self.bias.into_iter().for_each(f);
    }

    fn check(&self, plan: &PlanView<'_>) -> Option<()> {
        let (x, out) = (plan.floats(self.x)?, plan.buffer(self.out)?);
        let (cols, n) = (out.cols as usize, usize::from(self.n));
        sure(x.rows == RowCount::Batch && x.cols as usize == cols.checked_mul(3)?)?;
        plan.parts(out)?;
        let taps = plan.spec.slot(self.taps).filter(|s| s.is_vector())?;
        sure(n > 0 && (taps.rows, taps.cols) == (cols, n))?;
        plan.some_vector(self.bias, cols)?;
        let bytes = (n - 1).checked_mul(cols)?.checked_mul(4)?;
        sure(plan.state(self.state)?.kind == StateKind::Fixed { bytes })
    }

    fn scratch(&self, plan: &PlanView<'_>) -> Option<usize> {
        let out = plan.buffer(self.out)?;
        let width = self.channels(out.kind.block().max(16), out.cols as usize);
        let n = usize::from(self.n);
        // Room for the taps, the inputs of some tokens and of those before them, and an output.
        width.checked_mul(n.checked_add(TOKENS + n)?)
    }

    fn items<B: Backend>(&self, worker: &Worker<'_, '_, '_, B>) -> usize {
        let out = worker.buffer(self.out);
        Chunks::staged(out, out.cols as usize).units()
    }

    fn grain<B: Backend>(&self, _: &Worker<'_, '_, '_, B>, _: usize) -> (usize, usize) {
        (4, usize::MAX)
    }

    fn run<B: Backend>(
        &self,
        worker: &Worker<'_, '_, '_, B>,
        units: Range<usize>,
    ) -> Result<(), Stopped> {
        let (x, out, backend) = (worker.buffer(self.x), worker.buffer(self.out), worker.backend());
        let (total, n) = (out.cols as usize, usize::from(self.n));
        let taps = worker.vector(self.taps);
        let bias = self.bias.map(|b| worker.vector(b));
        let chunks = Chunks::staged(out, total);
        let most = self.channels(chunks.unit, total);
        let mut channels = chunks.outputs(units);
        // SAFETY: the only call for these items.
        let (_, floats) = unsafe { worker.local() };
        while !channels.is_empty() {
            let (c, w) = (channels.start, most.min(channels.len()));
            channels.start += w;
            let (own, rest) = floats.split_at_mut(n * w);
            for (j, row) in own.chunks_exact_mut(w).enumerate() {
                for (i, tap) in row.iter_mut().enumerate() {
                    *tap = taps[(c + i) * n + j];
                }
            }
            let (inputs, result) = rest.split_at_mut((TOKENS + n - 1) * w);
            let result = &mut result[..w];
            for segment in worker.segments() {
                // SAFETY: these channels belong to items of this worker, of a state that no other operation
                // touches (verified), in two banks of which one is read and one is written.
                let (old, new) = unsafe { worker.banks(self.state, &segment) };
                let before = &mut inputs[..(n - 1) * w];
                for (j, row) in before.chunks_exact_mut(w).enumerate() {
                    match segment.position {
                        0 => row.fill(0.0),
                        _ => row.copy_from_slice(old.floats(j * total + c, w)),
                    }
                }
                let (count, kept) = (segment.tokens.len(), segment.rows(out.rows));
                let mut t0 = 0;
                while t0 < count {
                    worker.check_cancelled()?;
                    let some = TOKENS.min(count - t0);
                    for t in 0..some {
                        // SAFETY: a row of a verified buffer, which no one writes in this phase.
                        let row = unsafe { worker.read(x, segment.first + t0 + t, 1) }.row(0);
                        let u = &mut inputs[(n - 1 + t) * w..][..w];
                        u.copy_from_slice(&row[c..][..w]);
                        backend.mul(u, &row[2 * total + c..][..w]);
                        let Some(wanted) = (t0 + t + kept).checked_sub(count) else { continue };
                        backend.causal_conv(own, &inputs[t * w..][..n * w], result);
                        if let Some(bias) = bias {
                            backend.add(result, &bias[c..][..w]);
                        }
                        backend.mul(result, &row[total + c..][..w]);
                        worker.store(out, segment.first_row(out.rows) + wanted, c, result);
                    }
                    inputs.copy_within(some * w..(some + n - 1) * w, 0);
                    t0 += some;
                }
                for (j, row) in inputs[..(n - 1) * w].chunks_exact(w).enumerate() {
                    new.floats_mut(j * total + c, w).copy_from_slice(row);
                }
            }
        }
        Ok(())
    }
}
