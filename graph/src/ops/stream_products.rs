//! `out[i] = x w[i]`, or `out[i] = x[i] w[i]`, for the matrices of a stack; its items are units of
//! outputs.

use core::ops::Range;

use teff_kernels::{Backend, Tile};

use super::experts_gated::{by_entry, check_entries};
use super::{Access, Operation, sure};
use crate::TensorId;
use crate::exec::{Stopped, Worker};
use crate::plan::{BufferId, Chunks, PlanView};

/// Products with a stack of square matrices, one for each residual stream.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct StreamProducts {
    /// Weights.
    pub w: TensorId,
    /// Inputs, of the type that the weights need.
    pub x: BufferId,
    /// Result, f32: the outputs of one matrix after another.
    pub out: BufferId,
    /// Number of matrices.
    pub stack: u16,
    /// True if each matrix has inputs of its own, one after another; otherwise all have the same.
    pub each: bool,
}

impl StreamProducts {
    fn chunks(&self, outputs: usize) -> Chunks {
        Chunks { unit: 16, total: outputs, staged: true }
    }
}

impl Operation for StreamProducts {
    fn buffers(&self, f: &mut dyn FnMut(BufferId, Access)) {
        f(self.x, Access::Read);
        f(self.out, Access::Write);
    }

    fn products(&self, f: &mut dyn FnMut(TensorId, BufferId)) {
        f(self.w, self.x);
    }

    fn check(&self, plan: &PlanView<'_>) -> Option<()> {
        let (w, x) = (plan.stack(self.w, self.stack)?, plan.buffer(self.x)?);
        let out = plan.floats(self.out)?;
        sure(self.stack > 0 && x.rows == out.rows)?;
        sure(Some(out.cols as usize) == w.rows.checked_mul(self.stack.into()))?;
        match self.each {
            true => check_entries(x, self.stack, w.cols),
            false => sure(x.cols as usize == w.cols),
        }
    }

    fn scratch(&self, plan: &PlanView<'_>) -> Option<usize> {
        let outputs = plan.buffer(self.out)?.cols as usize;
        self.chunks(outputs).tile_floats(plan.most_rows())
    }

    fn items<B: Backend>(&self, worker: &Worker<'_, '_, '_, B>) -> usize {
        let out = worker.buffer(self.out);
        worker.some(out.rows, self.chunks(out.cols as usize).units())
    }

    fn grain<B: Backend>(&self, worker: &Worker<'_, '_, '_, B>, _: usize) -> (usize, usize) {
        let (w, out) = (worker.matrix(self.w), worker.buffer(self.out));
        worker.grain_of(&self.chunks(out.cols as usize), worker.rows(out.rows), w.cols())
    }

    fn run<B: Backend>(
        &self,
        worker: &Worker<'_, '_, '_, B>,
        units: Range<usize>,
    ) -> Result<(), Stopped> {
        let (w, x, out) = (worker.matrix(self.w), worker.buffer(self.x), worker.buffer(self.out));
        let (n, k) = (worker.rows(out.rows), usize::from(self.stack));
        // SAFETY: no one writes to x in this phase (verified).
        let inputs = unsafe {
            match self.each {
                true => {
                    let rows = worker.plan().max_rows(x.rows) * k;
                    worker.activations_in(&by_entry(x, self.stack), rows, n * k)
                }
                false => worker.activations(x, n),
            }
        };
        // SAFETY: the only call for these items.
        let (scratch, floats) = unsafe { worker.local() };
        let of_matrix = w.rows() / k;
        let chunks = self.chunks(out.cols as usize);
        for rows in worker.chunks_of(&chunks, units, n, w.cols()) {
            let mut r = rows.start;
            while r < rows.end {
                // To the end of a matrix, where each has inputs of its own.
                let matrix = r / of_matrix;
                let end = if self.each { rows.end.min((matrix + 1) * of_matrix) } else { rows.end };
                let width = end - r;
                let mut tile = Tile::new(&mut floats[..n * width], n, width, width);
                if self.each {
                    for t in 0..n {
                        let (x, mut to) = (inputs.rows(t * k + matrix, 1), tile.rows(t, 1));
                        worker.product(&w, &x, r..end, &mut to, scratch)?;
                    }
                } else {
                    worker.product(&w, &inputs, r..end, &mut tile, scratch)?;
                }
                for t in 0..n {
                    worker.store(out, t, r, tile.row(t));
                }
                r = end;
            }
        }
        Ok(())
    }
}
