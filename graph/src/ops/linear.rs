//! `to = scale * act(x w + bias)`, perhaps with a soft bound, stored or added; its items are units of outputs.

use core::ops::Range;

use teff_kernels::{Backend, Tile};

use super::{Access, Operation, sure};
use crate::TensorId;
use crate::exec::{Stopped, Worker};
use crate::layers::Activation;
use crate::plan::{Buffer, BufferId, Chunks, PlanView};

/// Matrix product.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Linear {
    /// Weights.
    pub w: TensorId,
    /// Bias.
    pub bias: Option<TensorId>,
    /// Inputs, quantised if the weights are.
    pub x: BufferId,
    /// Activation function of each output.
    pub act: Option<Activation>,
    /// Destination of the outputs.
    pub to: Output,
    /// Scale of each output.
    pub scale: f32,
    /// Soft bound of each output after that; `None` if there is none.
    pub cap: Option<f32>,
}

/// Destination of the outputs of a product.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Output {
    /// Stored in a buffer, quantised if the buffer is.
    Store(BufferId),
    /// Added to a buffer.
    Add(BufferId),
}

impl Output {
    pub(super) fn buffer(self) -> BufferId {
        let (Output::Store(b) | Output::Add(b)) = self;
        b
    }

    pub(super) fn access(self) -> (BufferId, Access) {
        match self {
            Output::Store(b) => (b, Access::Write),
            Output::Add(b) => (b, Access::Update),
        }
    }

    /// Output buffer, which must hold f32 if outputs are added.
    pub(super) fn check<'a>(self, plan: &PlanView<'a>) -> Option<&'a Buffer> {
        let out = match self {
            Output::Store(b) => plan.buffer(b)?,
            Output::Add(b) => plan.floats(b)?,
        };
        plan.parts(out)?;
        Some(out)
    }
}

impl Linear {
    fn chunks(&self, out: &Buffer, rows: usize) -> Chunks {
        match self.to {
            Output::Store(_) => Chunks::stored(out, rows),
            Output::Add(_) => Chunks { unit: 16, total: rows, staged: true },
        }
    }
}

impl Operation for Linear {
    fn buffers(&self, f: &mut dyn FnMut(BufferId, Access)) {
        f(self.x, Access::Read);
        let (out, access) = self.to.access();
        f(out, access);
    }

    fn products(&self, f: &mut dyn FnMut(TensorId, BufferId)) {
        f(self.w, self.x);
    }

    fn others(&self, f: &mut dyn FnMut(TensorId)) {
        self.bias.into_iter().for_each(f);
    }

    fn check(&self, plan: &PlanView<'_>) -> Option<()> {
        let (w, x, out) = (plan.matrix(self.w)?, plan.buffer(self.x)?, self.to.check(plan)?);
        plan.some_vector(self.bias, w.rows)?;
        sure(w.cols == x.cols as usize && w.rows == out.cols as usize)?;
        sure(!matches!(self.act, Some(Activation::SwigluClamped { .. })))?;
        sure(self.cap.is_none_or(|cap| cap.is_normal() && cap > 0.0))?;
        sure(x.rows == out.rows && self.scale.is_finite())
    }

    fn scratch(&self, plan: &PlanView<'_>) -> Option<usize> {
        let out = plan.buffer(self.to.buffer())?;
        self.chunks(out, plan.matrix(self.w)?.rows).tile_floats(plan.most_rows())
    }

    fn items<B: Backend>(&self, worker: &Worker<'_, '_, '_, B>) -> usize {
        let (w, out) = (worker.matrix(self.w), worker.buffer(self.to.buffer()));
        worker.some(out.rows, self.chunks(out, w.rows()).units())
    }

    fn grain<B: Backend>(&self, worker: &Worker<'_, '_, '_, B>, _: usize) -> (usize, usize) {
        let (w, out) = (worker.matrix(self.w), worker.buffer(self.to.buffer()));
        worker.grain_of(&self.chunks(out, w.rows()), worker.rows(out.rows), w.cols())
    }

    fn run<B: Backend>(
        &self,
        worker: &Worker<'_, '_, '_, B>,
        units: Range<usize>,
    ) -> Result<(), Stopped> {
        let (w, x, backend) = (worker.matrix(self.w), worker.buffer(self.x), worker.backend());
        let out = worker.buffer(self.to.buffer());
        let bias = self.bias.map(|b| worker.vector(b));
        let n = worker.rows(x.rows);
        // SAFETY: no one writes to x in this phase (verified).
        let inputs = unsafe { worker.activations(x, n) };
        let chunks = self.chunks(out, w.rows());
        // SAFETY: the only call for these items.
        let (scratch, floats) = unsafe { worker.local() };
        let finish = |row: &mut [f32], r: usize| {
            if let Some(bias) = bias {
                backend.add(row, &bias[r..][..row.len()]);
            }
            match self.act {
                None => {}
                Some(Activation::GeluTanh) => backend.gelu(row),
                Some(Activation::Silu) => backend.silu(row),
                Some(Activation::Relu2) => backend.relu2(row),
                Some(Activation::SwigluClamped { .. }) => unreachable!("checked"),
            }
            if self.scale != 1.0 {
                backend.scale(row, self.scale);
            }
            if let Some(cap) = self.cap {
                backend.softcap(row, cap);
            }
        };
        for rows in worker.chunks_of(&chunks, units, n, w.cols()) {
            let (r, width) = (rows.start, rows.len());
            if !chunks.staged {
                // SAFETY: columns of a verified buffer that belong to items of this worker.
                let mut tile = unsafe { worker.write(out, (0, n), (r, width)) };
                worker.product(&w, &inputs, rows, &mut tile, scratch)?;
                for t in 0..n {
                    finish(tile.row(t), r);
                }
                continue;
            }
            let mut tile = Tile::new(&mut floats[..n * width], n, width, width);
            worker.product(&w, &inputs, rows, &mut tile, scratch)?;
            for t in 0..n {
                let row = tile.row(t);
                finish(row, r);
                match self.to {
                    Output::Store(_) => worker.store(out, t, r, row),
                    Output::Add(_) => {
                        // SAFETY: columns of a verified buffer that belong to items of this worker.
                        let mut to = unsafe { worker.write(out, (t, 1), (r, width)) };
                        backend.add(to.row(0), row);
                    }
                }
            }
        }
        Ok(())
    }
}
