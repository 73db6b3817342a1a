//! `out = act(x gate + gate_bias) * (x up + up_bias)`, quantised if `out` is; its items are
//! units of outputs.

use core::ops::Range;

use teff_kernels::{Backend, Tile};

use super::{Access, Operation, sure};
use crate::TensorId;
use crate::exec::{Stopped, Worker};
use crate::layers::Activation;
use crate::plan::{BufferId, Chunks, PlanView};

/// Two products, combined by an activation.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Gated {
    /// Gate weights.
    pub gate: TensorId,
    /// Up weights; the same tensor as `gate` if their rows follow those of the gate in it.
    pub up: TensorId,
    /// Bias of the gate.
    pub gate_bias: Option<TensorId>,
    /// Bias of `up`.
    pub up_bias: Option<TensorId>,
    /// Inputs of `gate`, of the type that its weights need.
    pub x: BufferId,
    /// Inputs of `up`: the same buffer, unless its weights need another type.
    pub up_x: BufferId,
    /// Result.
    pub out: BufferId,
    /// Activation function.
    pub act: Activation,
}

/// `gate = act(gate) * up`.
pub(super) fn join<B: Backend>(backend: &B, act: Activation, gate: &mut [f32], up: &[f32]) {
    match act {
        Activation::GeluTanh => backend.gelu_mul(gate, up),
        Activation::Silu => backend.silu_mul(gate, up),
        Activation::Relu2 => backend.relu2_mul(gate, up),
        Activation::SwigluClamped { alpha, limit } => {
            backend.swiglu_clamped(gate, up, alpha, limit);
        }
    }
}

impl Gated {
    /// Row of its matrix at which `up` begins, of `inner` rows.
    fn up_at(&self, inner: usize) -> usize {
        if self.up == self.gate { inner } else { 0 }
    }
}

impl Operation for Gated {
    fn buffers(&self, f: &mut dyn FnMut(BufferId, Access)) {
        f(self.x, Access::Read);
        if self.up_x != self.x {
            f(self.up_x, Access::Read);
        }
        f(self.out, Access::Write);
    }

    fn products(&self, f: &mut dyn FnMut(TensorId, BufferId)) {
        f(self.gate, self.x);
        f(self.up, self.up_x);
    }

    fn others(&self, f: &mut dyn FnMut(TensorId)) {
        [self.gate_bias, self.up_bias].into_iter().flatten().for_each(f);
    }

    fn check(&self, plan: &PlanView<'_>) -> Option<()> {
        let out = plan.buffer(self.out)?;
        plan.parts(out)?;
        sure(self.act.is_valid())?;
        let both = [(self.gate, self.gate_bias, self.x), (self.up, self.up_bias, self.up_x)];
        for (w, bias, x) in both {
            let (w, x) = (plan.matrix(w)?, plan.buffer(x)?);
            let inner = out.cols as usize;
            sure(w.cols == x.cols as usize && w.rows == inner + self.up_at(inner))?;
            sure(x.rows == out.rows)?;
            plan.some_vector(bias, inner)?;
        }
        Some(())
    }

    fn scratch(&self, plan: &PlanView<'_>) -> Option<usize> {
        let out = plan.buffer(self.out)?;
        Chunks::staged(out, out.cols as usize).tile_floats(plan.most_rows())?.checked_mul(2)
    }

    /// Computes each chunk of both products while it is in the cache.
    fn items<B: Backend>(&self, worker: &Worker<'_, '_, '_, B>) -> usize {
        let out = worker.buffer(self.out);
        worker.some(out.rows, Chunks::staged(out, out.cols as usize).units())
    }

    fn grain<B: Backend>(&self, worker: &Worker<'_, '_, '_, B>, _: usize) -> (usize, usize) {
        let (w, out) = (worker.matrix(self.gate), worker.buffer(self.out));
        worker.grain_of(&Chunks::staged(out, out.cols as usize), worker.rows(out.rows), w.cols())
    }

    fn run<B: Backend>(
        &self,
        worker: &Worker<'_, '_, '_, B>,
        units: Range<usize>,
    ) -> Result<(), Stopped> {
        let backend = worker.backend();
        let (gate, up) = (worker.matrix(self.gate), worker.matrix(self.up));
        let [gate_bias, up_bias] =
            [self.gate_bias, self.up_bias].map(|b| b.map(|b| worker.vector(b)));
        let (x, out) = (worker.buffer(self.x), worker.buffer(self.out));
        let n = worker.rows(x.rows);
        // SAFETY: no one writes to either in this phase (verified).
        let (gate_x, up_x) =
            unsafe { (worker.activations(x, n), worker.activations(worker.buffer(self.up_x), n)) };
        // SAFETY: the only call for these items.
        let (scratch, floats) = unsafe { worker.local() };
        let chunks = Chunks::staged(out, out.cols as usize);
        let up_at = self.up_at(out.cols as usize);
        for rows in worker.chunks_of(&chunks, units, n, gate.cols()) {
            let (r, width) = (rows.start, rows.len());
            let (gates, ups) = floats.split_at_mut(n * width);
            let mut gates = Tile::new(gates, n, width, width);
            let mut ups = Tile::new(&mut ups[..n * width], n, width, width);
            worker.product(&gate, &gate_x, rows.clone(), &mut gates, scratch)?;
            let rows = rows.start + up_at..rows.end + up_at;
            worker.product(&up, &up_x, rows, &mut ups, scratch)?;
            for t in 0..n {
                let (gate, up) = (gates.row(t), ups.row(t));
                if let Some(bias) = gate_bias {
                    backend.add(gate, &bias[r..][..width]);
                }
                if let Some(bias) = up_bias {
                    backend.add(up, &bias[r..][..width]);
                }
                join(backend, self.act, gate, up);
                worker.store(out, t, r, gate);
            }
        }
        Ok(())
    }
}
