//! Queries or keys that were computed and normalised before, all heads of a token together: they are
//! rotated, and stored as a [`Project`](super::Project) stores its own. Its items are heads.

use core::ops::Range;

use teff_kernels::{Backend, MAX_HEAD_DIM, RopeKind};

use super::{Access, Operation, QkvPart, StateAccess, sure};
use crate::exec::{Stopped, Worker};
use crate::plan::{BufferId, PlanView, RowCount, StateId, StateKind};

/// Rotation of queries or keys, and their place among queries or in the cache.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct StoreHeads {
    /// Inputs, f32: all queries or all keys of a token.
    pub x: BufferId,
    /// Queries or keys.
    pub part: QkvPart,
    /// Queries, f32.
    pub q: BufferId,
    /// Cache of keys and values.
    pub state: StateId,
    /// Number of these heads.
    pub heads: u16,
    /// Head dimension.
    pub head_dim: u16,
    /// Cosines and sines, if the heads are rotated.
    pub rope: Option<BufferId>,
    /// Pairing of the elements that are rotated together.
    pub rope_kind: RopeKind,
}

impl StoreHeads {
    fn is_query(&self) -> bool {
        self.part == QkvPart::Query
    }
}

impl Operation for StoreHeads {
    fn buffers(&self, f: &mut dyn FnMut(BufferId, Access)) {
        f(self.x, Access::Read);
        if self.is_query() {
            f(self.q, Access::Write);
        }
        if let Some(rope) = self.rope {
            f(rope, Access::Read);
        }
    }

    fn states(&self, f: &mut dyn FnMut(StateId, StateAccess)) {
        if !self.is_query() {
            f(self.state, StateAccess::WriteKeys);
        }
    }

    fn check(&self, plan: &PlanView<'_>) -> Option<()> {
        let (x, d) = (plan.floats(self.x)?, usize::from(self.head_dim));
        sure((1..=MAX_HEAD_DIM).contains(&d) && self.heads > 0)?;
        sure(x.rows == RowCount::Batch && x.cols as usize == usize::from(self.heads) * d)?;
        let StateKind::Kv { heads, head_dim, .. } = plan.state(self.state)?.kind else {
            return None;
        };
        match self.part {
            QkvPart::Query => {
                let q = plan.floats(self.q)?;
                sure(q.rows == RowCount::Batch && q.cols == x.cols)?;
            }
            QkvPart::Key => sure((heads, head_dim) == (self.heads, self.head_dim))?,
            QkvPart::Value | QkvPart::All | QkvPart::KeyAndValue => return None,
        }
        if let Some(rope) = self.rope {
            let rope = plan.floats(rope)?;
            sure(rope.rows == RowCount::Batch && rope.cols.is_multiple_of(2))?;
            sure(rope.cols as usize <= d)?;
        }
        Some(())
    }

    /// A head.
    fn scratch(&self, _: &PlanView<'_>) -> Option<usize> {
        Some(self.head_dim.into())
    }

    fn items<B: Backend>(&self, _: &Worker<'_, '_, '_, B>) -> usize {
        self.heads.into()
    }

    fn run<B: Backend>(
        &self,
        worker: &Worker<'_, '_, '_, B>,
        heads: Range<usize>,
    ) -> Result<(), Stopped> {
        // SAFETY: the only call for these items.
        let (_, scratch) = unsafe { worker.local() };
        let (x, backend, d) = (worker.buffer(self.x), worker.backend(), self.head_dim.into());
        let head = &mut scratch[..d];
        for (t, segment) in worker.rows_of(x.rows, 0..worker.rows(x.rows)) {
            worker.check_cancelled()?;
            let cache = worker.cache(self.state, &segment);
            let position = cache.stored_at(segment.position + t - segment.first);
            for h in heads.clone() {
                // SAFETY: verified buffers, which no one writes in this phase.
                let row = unsafe { worker.read(x, t, 1) };
                head.copy_from_slice(&row.row(0)[h * d..][..d]);
                if let Some(rope) = self.rope {
                    // SAFETY: as above.
                    let table = unsafe { worker.read(worker.buffer(rope), t, 1) };
                    backend.rope(head, d, table.row(0), self.rope_kind);
                }
                if self.is_query() {
                    worker.store(worker.buffer(self.q), t, h * d, head);
                } else {
                    // SAFETY: this head's keys belong to an item of this worker, in the only operation of
                    // the step that stores this layer's keys (verified).
                    let keys = unsafe { cache.keys_mut(h) };
                    backend.store_key(&cache.layout, keys, position, head);
                }
            }
        }
        Ok(())
    }
}
