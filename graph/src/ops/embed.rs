//! `out = table[token] * scale + positions[position]`; its items are tokens.

use core::ops::Range;

use teff_kernels::Backend;

use super::{Access, Operation, sure};
use crate::TensorId;
use crate::exec::{Stopped, Worker};
use crate::plan::{BufferId, PlanView, RowCount};
use crate::spec::Role;

/// Rows of the embedding, one for each token.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Embed {
    /// Embedding, with a row for each token id.
    pub table: TensorId,
    /// Positional embedding, with a row for each position.
    pub positions: Option<TensorId>,
    /// Result, f32.
    pub out: BufferId,
    /// Scale of the rows of `table`.
    pub scale: f32,
}

impl Operation for Embed {
    fn buffers(&self, f: &mut dyn FnMut(BufferId, Access)) {
        f(self.out, Access::Write);
    }

    fn others(&self, f: &mut dyn FnMut(TensorId)) {
        f(self.table);
        self.positions.into_iter().for_each(f);
    }

    fn check(&self, plan: &PlanView<'_>) -> Option<()> {
        let (table, out) = (plan.matrix(self.table)?, plan.floats(self.out)?);
        let cols = out.cols as usize;
        sure(table.role == Role::TokenEmbd && table.cols == cols)?;
        if let Some(positions) = self.positions {
            let positions = plan.matrix(positions)?;
            sure(positions.cols == cols && positions.rows >= plan.options.context)?;
        }
        sure(out.rows == RowCount::Batch && self.scale.is_finite())
    }

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
        let (table, out, backend) =
            (worker.matrix(self.table), worker.buffer(self.out), worker.backend());
        let width = out.cols as usize;
        for (t, segment) in worker.rows_of(out.rows, tokens) {
            // SAFETY: row t of a verified buffer, which is our item.
            let mut tile = unsafe { worker.write(out, (t, 1), (0, width)) };
            let (row, at) = (tile.row(0), t - segment.first);
            backend.dequantize_row(&table, segment.tokens[at] as usize, row);
            if self.scale != 1.0 {
                backend.scale(row, self.scale);
            }
            if let Some(positions) = self.positions {
                let positions = worker.matrix(positions);
                backend.dequantize_row(&positions, segment.position + at, &mut scratch[..width]);
                backend.add(row, &scratch[..width]);
            }
        }
        Ok(())
    }
}
