//! The gated delta rule of linear attention, token by token; its items are columns of the heads' states.
//!
//! For value head `j`, whose queries and keys are those of head `j % key_heads`: [`Backend::delta_rule`],
//! from zeros at the start of the text. The state of a head is a matrix of `key_dim` rows, in panels of
//! sixteen columns.

use core::ops::Range;

use teff_kernels::{Backend, DeltaInputs, DeltaStart};

use super::{Access, DeltaHeads, Operation, StateAccess, sure};
use crate::exec::{Stopped, Worker};
use crate::plan::{BufferId, PlanView, RowCount, StateId};

/// Columns of an item: two panels, whose state stays in the cache closest to a core.
const COLUMNS: usize = 32;

/// Gated delta rule.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct DeltaRule {
    /// Queries, keys and values of all heads, one after another, f32.
    pub x: BufferId,
    /// Decay of each head's state, f32.
    pub decay: BufferId,
    /// Strength of each head's correction, f32.
    pub beta: BufferId,
    /// State: its first part is the matrices of all heads.
    pub state: StateId,
    /// Sizes.
    pub heads: DeltaHeads,
    /// Result, f32.
    pub out: BufferId,
}

impl DeltaRule {
    /// Items of one head.
    fn parts(&self) -> usize {
        usize::from(self.heads.value_dim).div_ceil(COLUMNS)
    }
}

impl Operation for DeltaRule {
    fn buffers(&self, f: &mut dyn FnMut(BufferId, Access)) {
        f(self.x, Access::Read);
        f(self.decay, Access::Read);
        f(self.beta, Access::Read);
        f(self.out, Access::Write);
    }

    fn states(&self, f: &mut dyn FnMut(StateId, StateAccess)) {
        f(self.state, StateAccess::UpdateFirst);
    }

    fn check(&self, plan: &PlanView<'_>) -> Option<()> {
        self.heads.check(plan, self.state, None)?;
        let (values, heads) = (self.heads.values(), usize::from(self.heads.value_heads));
        for (id, cols) in [
            (self.x, 2 * self.heads.keys() + values),
            (self.decay, heads),
            (self.beta, heads),
            (self.out, values),
        ] {
            let b = plan.floats(id)?;
            sure(b.rows == RowCount::Batch && b.cols as usize == cols)?;
        }
        Some(())
    }

    fn items<B: Backend>(&self, _: &Worker<'_, '_, '_, B>) -> usize {
        usize::from(self.heads.value_heads) * self.parts()
    }

    fn grain<B: Backend>(&self, _: &Worker<'_, '_, '_, B>, _: usize) -> (usize, usize) {
        (2, usize::MAX)
    }

    fn run<B: Backend>(
        &self,
        worker: &Worker<'_, '_, '_, B>,
        items: Range<usize>,
    ) -> Result<(), Stopped> {
        let backend = worker.backend();
        let [x, decay, beta] = [self.x, self.decay, self.beta].map(|id| worker.buffer(id));
        let out = worker.buffer(self.out);
        let (dk, dv) = (usize::from(self.heads.key_dim), usize::from(self.heads.value_dim));
        let (keys, parts) = (self.heads.keys(), self.parts());
        // Cancellation is checked for as many tokens at a time as in a product.
        let most = (backend.products_per_ms() / (2 * dk * COLUMNS)).max(1);
        for item in items {
            let (head, col) = (item / parts, item % parts * COLUMNS);
            let w = COLUMNS.min(dv - col);
            let (value, key) = (head * dv + col, head % usize::from(self.heads.key_heads) * dk);
            let at = head * self.heads.matrix() + col * dk;
            let floats = w.next_multiple_of(16) * dk;
            for segment in worker.segments() {
                // SAFETY: these columns belong to an item of this worker, in the first part of a state, which no
                // other operation touches (verified), in two banks of which one is read and one is written.
                let (old, new) = unsafe { worker.banks(self.state, &segment) };
                let state = new.floats_mut(at, floats);
                let mut start = match segment.position {
                    0 => DeltaStart::Zeros,
                    _ => DeltaStart::From(old.floats(at, floats)),
                };
                let (count, mut t) = (segment.tokens.len(), 0);
                while t < count {
                    worker.check_cancelled()?;
                    let (first, n) = (segment.first + t, most.min(count - t));
                    // SAFETY: rows of verified buffers, which no one writes in this phase.
                    let [x, decay, beta] =
                        [x, decay, beta].map(|b| unsafe { worker.read(b, first, n) });
                    let inputs = DeltaInputs {
                        q: x.cols_of(key, dk),
                        k: x.cols_of(keys + key, dk),
                        v: x.cols_of(2 * keys + value, w),
                        decay: decay.cols_of(head, 1),
                        beta: beta.cols_of(head, 1),
                    };
                    // SAFETY: columns of a verified buffer that belong to an item of this worker.
                    let mut to = unsafe { worker.write(out, (first, n), (value, w)) };
                    backend.delta_rule(start, state, &inputs, &mut to);
                    start = DeltaStart::InPlace;
                    t += n;
                }
            }
        }
        Ok(())
    }
}
