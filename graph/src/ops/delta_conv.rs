//! Convolution of the queries, keys and values of linear attention, each head of queries and keys
//! normalised; its items are heads.
//!
//! For each channel and, with `K` taps, `conv[t] = ((w[0] u[t-K+1] + w[1] u[t-K+2]) + ...) + w[K-1] u[t]`,
//! products and sums unfused, in ascending order of taps; inputs before the start of the text are 0.
//! `out = silu(conv)`; a key is then `k / sqrt(sum(k^2) + 1e-6)`, and a query the same times
//! `1 / sqrt(key_dim)`. The state is the last `K - 1` rows of `u`, oldest first.

use core::ops::Range;

use teff_kernels::Backend;

use super::{Access, Operation, StateAccess, sure};
use crate::TensorId;
use crate::exec::{Stopped, Worker};
use crate::plan::{BufferId, PlanView, RowCount, StateId, StateKind};

/// Tokens that are convolved at a time.
const TOKENS: usize = 32;
/// Epsilon of the norms of queries and keys.
const EPS: f32 = 1e-6;

/// Sizes of linear attention.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DeltaHeads {
    /// Heads of queries and keys.
    pub key_heads: u16,
    /// Heads of values.
    pub value_heads: u16,
    /// Elements of one query or key.
    pub key_dim: u16,
    /// Elements of one value.
    pub value_dim: u16,
}

impl DeltaHeads {
    /// Elements of the keys (or queries) of all heads.
    pub(super) fn keys(&self) -> usize {
        usize::from(self.key_heads) * usize::from(self.key_dim)
    }

    /// Elements of the values of all heads.
    pub(super) fn values(&self) -> usize {
        usize::from(self.value_heads) * usize::from(self.value_dim)
    }

    /// Floats of the matrix of one value head, in panels of sixteen columns.
    pub(super) fn matrix(&self) -> usize {
        usize::from(self.key_dim) * usize::from(self.value_dim).next_multiple_of(16)
    }

    /// Floats of the matrices of all value heads, which come first in the state.
    pub(crate) const fn state_floats(&self) -> u64 {
        let columns = (self.value_dim as u64).next_multiple_of(16);
        self.value_heads as u64 * self.key_dim as u64 * columns
    }

    /// Checks that a state is that of a layer with these sizes.
    pub(super) fn check(&self, plan: &PlanView<'_>, id: StateId, taps: Option<u16>) -> Option<()> {
        let state = plan.state(id)?;
        sure(u32::from(state.layer) < plan.spec.layers.len())?;
        // Of its layer's sizes, so that both operations of a layer agree on its parts.
        let net = plan.spec.layers.get(state.layer.into()).delta_net()?;
        sure(net.heads() == *self && taps.is_none_or(|n| u32::from(n) == net.taps))?;
        let inputs = (net.taps as usize - 1).checked_mul(net.channels())?;
        let floats = usize::try_from(self.state_floats()).ok()?.checked_add(inputs)?;
        sure(state.kind == StateKind::Fixed { bytes: floats.checked_mul(4)? })
    }
}

/// Convolution of queries, keys and values.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct DeltaConv {
    /// Queries, keys and values of all heads, one after another, f32.
    pub x: BufferId,
    /// Weights of the taps, `[channels, n]`.
    pub taps: TensorId,
    /// State: its second part is the inputs of the last tokens.
    pub state: StateId,
    /// Number of taps.
    pub n: u16,
    /// Sizes.
    pub heads: DeltaHeads,
    /// Result, f32.
    pub out: BufferId,
}

impl DeltaConv {
    /// Channels of item `i`, and the scale of its norm if it has one.
    fn head(&self, i: usize) -> (Range<usize>, Option<f32>) {
        let (dk, dv) = (usize::from(self.heads.key_dim), usize::from(self.heads.value_dim));
        let keys = usize::from(self.heads.key_heads);
        if i < 2 * keys {
            let root = libm::sqrt(f64::from(self.heads.key_dim));
            let scale = if i < keys { (1.0 / root) as f32 } else { 1.0 };
            return (i * dk..(i + 1) * dk, Some(scale));
        }
        let first = 2 * keys * dk + (i - 2 * keys) * dv;
        (first..first + dv, None)
    }
}

impl Operation for DeltaConv {
    fn buffers(&self, f: &mut dyn FnMut(BufferId, Access)) {
        f(self.x, Access::Read);
        f(self.out, Access::Write);
    }

    fn states(&self, f: &mut dyn FnMut(StateId, StateAccess)) {
        f(self.state, StateAccess::UpdateSecond);
    }

    fn others(&self, f: &mut dyn FnMut(TensorId)) {
        f(self.taps);
    }

    fn check(&self, plan: &PlanView<'_>) -> Option<()> {
        self.heads.check(plan, self.state, Some(self.n))?;
        let channels = 2 * self.heads.keys() + self.heads.values();
        for id in [self.x, self.out] {
            let b = plan.floats(id)?;
            sure(b.rows == RowCount::Batch && b.cols as usize == channels)?;
        }
        let taps = plan.spec.slot(self.taps).filter(|s| s.is_vector())?;
        sure(self.n > 0 && (taps.rows, taps.cols) == (channels, self.n.into()))
    }

    /// Room for the taps of a head, and the inputs of some tokens and of those before them.
    fn scratch(&self, _: &PlanView<'_>) -> Option<usize> {
        let width = usize::from(self.heads.key_dim.max(self.heads.value_dim));
        width.checked_mul(2 * usize::from(self.n) + TOKENS)
    }

    fn items<B: Backend>(&self, _: &Worker<'_, '_, '_, B>) -> usize {
        2 * usize::from(self.heads.key_heads) + usize::from(self.heads.value_heads)
    }

    fn grain<B: Backend>(&self, _: &Worker<'_, '_, '_, B>, _: usize) -> (usize, usize) {
        (4, usize::MAX)
    }

    fn run<B: Backend>(
        &self,
        worker: &Worker<'_, '_, '_, B>,
        items: Range<usize>,
    ) -> Result<(), Stopped> {
        let (x, out, backend) = (worker.buffer(self.x), worker.buffer(self.out), worker.backend());
        let (channels, n) = (x.cols as usize, usize::from(self.n));
        let at = self.heads.matrix() * usize::from(self.heads.value_heads);
        let taps = worker.vector(self.taps);
        // SAFETY: the only call for these items.
        let (_, floats) = unsafe { worker.local() };
        for item in items {
            let (head, norm) = self.head(item);
            let (c, w) = (head.start, head.len());
            let (own, inputs) = floats.split_at_mut(n * w);
            for (j, row) in own.chunks_exact_mut(w).enumerate() {
                for (i, tap) in row.iter_mut().enumerate() {
                    *tap = taps[(c + i) * n + j];
                }
            }
            for segment in worker.segments() {
                // SAFETY: these channels belong to an item of this worker, in the second part of a state, which no
                // other operation touches (verified), in two banks of which one is read and one is written.
                let (old, new) = unsafe { worker.banks(self.state, &segment) };
                let before = &mut inputs[..(n - 1) * w];
                for (j, row) in before.chunks_exact_mut(w).enumerate() {
                    match segment.position {
                        0 => row.fill(0.0),
                        _ => row.copy_from_slice(old.floats(at + j * channels + c, w)),
                    }
                }
                let (count, mut t0) = (segment.tokens.len(), 0);
                while t0 < count {
                    worker.check_cancelled()?;
                    let some = TOKENS.min(count - t0);
                    for t in 0..some {
                        let row = segment.first + t0 + t;
                        // SAFETY: a row of a verified buffer, which no one writes in this phase.
                        let u = unsafe { worker.read(x, row, 1) }.row(0);
                        inputs[(n - 1 + t) * w..][..w].copy_from_slice(&u[head.clone()]);
                        // SAFETY: columns of a verified buffer that belong to an item of this worker.
                        let mut tile = unsafe { worker.write(out, (row, 1), (c, w)) };
                        let y = tile.row(0);
                        backend.causal_conv(own, &inputs[t * w..][..n * w], y);
                        backend.silu(y);
                        if let Some(scale) = norm {
                            backend.l2_norm(y, EPS, scale);
                        }
                    }
                    inputs.copy_within(some * w..(some + n - 1) * w, 0);
                    t0 += some;
                }
                for (j, row) in inputs[..(n - 1) * w].chunks_exact(w).enumerate() {
                    new.floats_mut(at + j * channels + c, w).copy_from_slice(row);
                }
            }
        }
        Ok(())
    }
}
