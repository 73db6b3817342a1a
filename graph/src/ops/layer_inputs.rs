//! Inputs of all layers: for each layer `out = (norm(x) + table[token] * scale) / sqrt(2)`, with its share
//! of the rows; its items are tokens.

use core::f32::consts::FRAC_1_SQRT_2;
use core::ops::Range;

use teff_kernels::Backend;

use super::{Access, Operation, sure};
use crate::TensorId;
use crate::exec::{Stopped, Worker};
use crate::plan::{BufferId, PlanView, RowCount};
use crate::spec::Role;

/// Inputs of all layers.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct LayerInputs {
    /// Products of the residual stream, f32: a share for each layer.
    pub x: BufferId,
    /// Weight of the RMS norm of each share, as long as one.
    pub weight: TensorId,
    /// Embedding, with a row for each token id; those beyond have the first row.
    pub table: TensorId,
    /// Result, f32.
    pub out: BufferId,
    /// Epsilon of the norm, added to the variance.
    pub eps: f32,
    /// Scale of the rows of `table`.
    pub scale: f32,
}

impl Operation for LayerInputs {
    fn buffers(&self, f: &mut dyn FnMut(BufferId, Access)) {
        f(self.x, Access::Read);
        f(self.out, Access::Write);
    }

    fn in_place(&self) -> Option<(BufferId, BufferId)> {
        Some((self.x, self.out))
    }

    fn others(&self, f: &mut dyn FnMut(TensorId)) {
        f(self.weight);
        f(self.table);
    }

    fn check(&self, plan: &PlanView<'_>) -> Option<()> {
        let (x, out) = (plan.floats(self.x)?, plan.floats(self.out)?);
        let (table, weight) = (plan.matrix(self.table)?, plan.spec.slot(self.weight)?);
        plan.vector(self.weight, weight.cols)?;
        sure(table.role == Role::PerLayerEmbd && table.cols == out.cols as usize)?;
        sure(weight.cols > 0 && table.cols.is_multiple_of(weight.cols))?;
        sure(x.cols == out.cols && (x.rows, out.rows) == (RowCount::Batch, RowCount::Batch))?;
        sure(self.eps.is_finite() && self.scale.is_finite())
    }

    /// A row of the table, and the norm of a share.
    fn scratch(&self, plan: &PlanView<'_>) -> Option<usize> {
        (plan.buffer(self.out)?.cols as usize).checked_add(plan.spec.slot(self.weight)?.cols)
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
        let (x, out, backend) = (worker.buffer(self.x), worker.buffer(self.out), worker.backend());
        let (table, weight) = (worker.matrix(self.table), worker.vector(self.weight));
        let cols = out.cols as usize;
        let (row, normed) = scratch.split_at_mut(cols);
        let normed = &mut normed[..weight.len()];
        for (t, segment) in worker.rows_of(out.rows, tokens) {
            worker.check_cancelled()?;
            let token = segment.tokens[t - segment.first] as usize;
            let token = if token < table.rows() { token } else { 0 };
            backend.dequantize_row(&table, token, row);
            backend.scale(row, self.scale);
            for (i, row) in row.chunks_exact_mut(weight.len()).enumerate() {
                let at = (i * weight.len(), weight.len());
                // SAFETY: row t of verified buffers, which no one else writes in this phase; they may share
                // their storage, so that it is read before it is written.
                backend.rms_norm(
                    unsafe { worker.read(x, t, 1) }.cols_of(at.0, at.1).row(0),
                    weight,
                    self.eps,
                    normed,
                );
                backend.add(row, normed);
                backend.scale(row, FRAC_1_SQRT_2);
                worker.store(out, t, at.0, row);
            }
        }
        Ok(())
    }
}
