//! `out` = cosines and sines of the angles by which positions rotate heads; its items are tokens.

use core::ops::Range;

use teff_kernels::{Backend, rope_table};

use super::{Access, Operation, sure};
use crate::TensorId;
use crate::exec::{Stopped, Worker};
use crate::plan::{BufferId, PlanView, RowCount};

/// Cosines and sines of a rotary embedding, with a row for each token.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct RopeTable {
    /// Index of the rotary embedding among the plan's.
    pub rope: u8,
    /// Tensor of factors of its frequencies.
    pub factors: Option<TensorId>,
    /// Result, f32: the cosines, then the sines.
    pub out: BufferId,
}

impl Operation for RopeTable {
    fn buffers(&self, f: &mut dyn FnMut(BufferId, Access)) {
        f(self.out, Access::Write);
    }

    fn others(&self, f: &mut dyn FnMut(TensorId)) {
        self.factors.into_iter().for_each(f);
    }

    fn check(&self, plan: &PlanView<'_>) -> Option<()> {
        let (rope, out) = (plan.ropes.get(usize::from(self.rope))?, plan.floats(self.out)?);
        sure(out.rows == RowCount::Batch && rope.dims == out.cols && out.cols.is_multiple_of(2))?;
        sure(self.factors.is_some() != rope.scaling.tensors().is_empty())?;
        plan.some_vector(self.factors, rope.dims as usize / 2)
    }

    /// Room for the frequencies, in f64.
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
        let out = worker.buffer(self.out);
        // SAFETY: the only call for these items.
        let (_, scratch) = unsafe { worker.local() };
        let cols = out.cols as usize;
        let freqs: &mut [f64] = bytemuck::cast_slice_mut(&mut scratch[..cols]);
        let factors = self.factors.map(|f| worker.vector(f));
        let rope = &worker.plan().ropes[usize::from(self.rope)];
        rope.frequencies(factors, freqs);
        let magnitude = rope.magnitude;
        for (t, segment) in worker.rows_of(out.rows, tokens) {
            // SAFETY: row t of a verified buffer, which is our item.
            let mut row = unsafe { worker.write(out, (t, 1), (0, cols)) };
            rope_table(segment.position + t - segment.first, freqs, row.row(0));
            if magnitude != 1.0 {
                worker.backend().scale(row.row(0), magnitude);
            }
        }
        Ok(())
    }
}
