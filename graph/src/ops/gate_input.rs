//! `out = act(x w) * inputs`, with the layer's share of the inputs of all layers, quantised if `out` is;
//! its items are units of outputs.

use core::ops::Range;

use teff_kernels::{Backend, Tile};

use super::gated::join;
use super::{Access, Operation, sure};
use crate::TensorId;
use crate::exec::{Stopped, Worker};
use crate::layers::Activation;
use crate::plan::{BufferId, Chunks, PlanView, RowCount};

/// Gate of a layer's own inputs.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct GateInput {
    /// Weights of the gate.
    pub w: TensorId,
    /// Inputs of the gate, of the type that its weights need.
    pub x: BufferId,
    /// Inputs of all layers, as written by [`super::LayerInputs`], with a row for every token.
    pub inputs: BufferId,
    /// Number of the layer.
    pub layer: u16,
    /// Result.
    pub out: BufferId,
    /// Activation function.
    pub act: Activation,
}

impl Operation for GateInput {
    fn buffers(&self, f: &mut dyn FnMut(BufferId, Access)) {
        f(self.x, Access::Read);
        f(self.inputs, Access::Read);
        f(self.out, Access::Write);
    }

    fn products(&self, f: &mut dyn FnMut(TensorId, BufferId)) {
        f(self.w, self.x);
    }

    fn check(&self, plan: &PlanView<'_>) -> Option<()> {
        let (w, x, out) = (plan.matrix(self.w)?, plan.buffer(self.x)?, plan.buffer(self.out)?);
        plan.parts(out)?;
        sure(w.cols == x.cols as usize && w.rows == out.cols as usize && x.rows == out.rows)?;
        let inputs = plan.floats(self.inputs)?;
        let end = (usize::from(self.layer) + 1).checked_mul(w.rows)?;
        sure(inputs.rows == RowCount::Batch && end <= inputs.cols as usize)
    }

    fn scratch(&self, plan: &PlanView<'_>) -> Option<usize> {
        let out = plan.buffer(self.out)?;
        Chunks::staged(out, out.cols as usize).tile_floats(plan.most_rows())
    }

    fn items<B: Backend>(&self, worker: &Worker<'_, '_, '_, B>) -> usize {
        let out = worker.buffer(self.out);
        worker.some(out.rows, Chunks::staged(out, out.cols as usize).units())
    }

    fn grain<B: Backend>(&self, worker: &Worker<'_, '_, '_, B>, _: usize) -> (usize, usize) {
        let (w, out) = (worker.matrix(self.w), worker.buffer(self.out));
        worker.grain_of(&Chunks::staged(out, out.cols as usize), worker.rows(out.rows), w.cols())
    }

    fn run<B: Backend>(
        &self,
        worker: &Worker<'_, '_, '_, B>,
        units: Range<usize>,
    ) -> Result<(), Stopped> {
        let (w, x, backend) = (worker.matrix(self.w), worker.buffer(self.x), worker.backend());
        let (all, out) = (worker.buffer(self.inputs), worker.buffer(self.out));
        let (n, first) = (worker.rows(out.rows), usize::from(self.layer) * w.rows());
        // SAFETY: no one writes to x in this phase (verified).
        let gate_x = unsafe { worker.activations(x, n) };
        // SAFETY: the only call for these items.
        let (scratch, floats) = unsafe { worker.local() };
        let chunks = Chunks::staged(out, out.cols as usize);
        for rows in worker.chunks_of(&chunks, units, n, w.cols()) {
            let (r, width) = (rows.start, rows.len());
            let mut gates = Tile::new(&mut floats[..n * width], n, width, width);
            worker.product(&w, &gate_x, rows, &mut gates, scratch)?;
            for (t, segment) in worker.rows_of(out.rows, 0..n) {
                let token = segment.token_of(out.rows, t);
                // SAFETY: a row of a verified buffer, which no one writes in this phase.
                let inputs = unsafe { worker.read(all, segment.first + token, 1) };
                join(backend, self.act, gates.row(t), inputs.cols_of(first + r, width).row(0));
                worker.store(out, t, r, gates.row(t));
            }
        }
        Ok(())
    }
}
