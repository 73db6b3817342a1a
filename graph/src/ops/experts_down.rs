//! `to = scale * (sum_e p_e * (x_e down_e + bias_e) + sigmoid(score) * shared)` over the experts
//! chosen by a token, in ascending order of experts, with `p_e` their weights; its items are units of
//! outputs.
//!
//! The sum begins at 0; each expert's output is multiplied by its weight and then added, unfused.
//! The shared expert's comes last, multiplied by the logistic function of its score if it has one.

use core::ops::Range;

use teff_kernels::{Backend, Tile};

use super::experts_gated::{by_entry, check_entries, check_routes};
use super::routes::{self, CLAIMS, ENTRIES, Routes};
use super::{Access, Operation, Output, sure};
use crate::TensorId;
use crate::exec::{Stopped, Worker};
use crate::plan::{BufferId, Chunks, PlanView};

/// Last product of the chosen experts, and their weighted sum.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct ExpertsDown {
    /// Weights of all experts.
    pub w: TensorId,
    /// Biases of all experts.
    pub bias: Option<TensorId>,
    /// Inputs, entry by entry, as written by [`super::ExpertsGated`].
    pub x: BufferId,
    /// Chosen experts, as written by [`super::Route`].
    pub routes: BufferId,
    /// Outputs of the shared expert, f32.
    pub shared: Option<BufferId>,
    /// Score of the shared expert, f32.
    pub shared_score: Option<BufferId>,
    /// Destination of the outputs.
    pub to: Output,
    /// Number of experts in the layer.
    pub experts: u16,
    /// Number of experts that a token takes.
    pub used: u16,
    /// Scale of the sum.
    pub scale: f32,
}

impl ExpertsDown {
    fn chunks(total: usize) -> Chunks {
        Chunks { unit: 32, total, staged: true }
    }
}

impl Operation for ExpertsDown {
    fn buffers(&self, f: &mut dyn FnMut(BufferId, Access)) {
        f(self.x, Access::Read);
        f(self.routes, Access::Read);
        for buffer in [self.shared, self.shared_score].into_iter().flatten() {
            f(buffer, Access::Read);
        }
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
        let (w, x) = (plan.stack(self.w, self.experts)?, plan.buffer(self.x)?);
        let routes = check_routes(plan, self.routes, (self.experts, self.used))?;
        let out = self.to.check(plan)?;
        check_entries(x, self.used, w.cols)?;
        // Sums are stored as f32, so chunks of any unit are whole.
        plan.floats(self.to.buffer())?;
        sure(w.rows == out.cols as usize && x.rows == out.rows && routes.rows == out.rows)?;
        if let Some(bias) = self.bias {
            plan.stacked_vector(bias, self.experts, w.rows)?;
        }
        // A score is that of outputs which are there.
        sure(self.shared.is_some() || self.shared_score.is_none())?;
        for (buffer, cols) in [(self.shared, out.cols), (self.shared_score, 1)] {
            let Some(buffer) = buffer else { continue };
            let buffer = plan.floats(buffer)?;
            sure(buffer.rows == out.rows && buffer.cols == cols)?;
        }
        sure(self.scale.is_finite())
    }

    fn scratch(&self, plan: &PlanView<'_>) -> Option<usize> {
        let rows = plan.most_rows();
        let chunks = ExpertsDown::chunks(plan.stack(self.w, self.experts)?.rows);
        let sums = chunks.tile_floats(rows)?;
        // Rows of the product's tile that are multiplied at a time, as wide as the sums.
        routes::floats(self.experts, self.used, rows)?.checked_add(sums.checked_mul(2)?)
    }

    fn items<B: Backend>(&self, worker: &Worker<'_, '_, '_, B>) -> usize {
        let out = worker.buffer(self.to.buffer());
        worker.some(out.rows, ExpertsDown::chunks(out.cols as usize).units())
    }

    fn grain<B: Backend>(&self, worker: &Worker<'_, '_, '_, B>, size: usize) -> (usize, usize) {
        // The routes are sorted for each claim.
        (self.items(worker).div_ceil(CLAIMS * size).max(1), usize::MAX)
    }

    fn run<B: Backend>(
        &self,
        worker: &Worker<'_, '_, '_, B>,
        units: Range<usize>,
    ) -> Result<(), Stopped> {
        let (w, x, backend) = (worker.matrix(self.w), worker.buffer(self.x), worker.backend());
        let (choice, out) = (worker.buffer(self.routes), worker.buffer(self.to.buffer()));
        let (n, used) = (worker.rows(out.rows), usize::from(self.used));
        // SAFETY: the only call for these items.
        let (scratch, floats) = unsafe { worker.local() };
        let size = routes::floats(self.experts, self.used, n).unwrap_or(0); // checked for the batch
        let (memory, floats) = floats.split_at_mut(size);
        let routes = Routes::new(worker, choice, (self.experts, self.used), memory);
        let rows = worker.plan().max_rows(x.rows) * used;
        // SAFETY: no one writes to x or to the routes in this phase (verified).
        let (inputs, shares) = unsafe {
            let entries = worker.activations_in(&by_entry(x, self.used), rows, routes.len());
            (entries, worker.read(choice, 0, n))
        };
        let bias = self.bias.map(|b| worker.vector(b));
        let floats_of = |id: BufferId| {
            // SAFETY: as above.
            unsafe { worker.read(worker.buffer(id), 0, n) }
        };
        let (shared, score) = (self.shared.map(floats_of), self.shared_score.map(floats_of));
        let outputs = w.rows() / usize::from(self.experts);
        let chunks = ExpertsDown::chunks(outputs);
        for range in worker.chunks_of(&chunks, units, n, w.cols()) {
            let (r, width) = (range.start, range.len());
            let (sums, products) = floats.split_at_mut(n * width);
            sums.fill(0.0);
            for (e, entries) in routes.experts() {
                let rows = e * outputs + r..e * outputs + r + width;
                let mut first = entries.start;
                while first < entries.end {
                    let count = ENTRIES.min(entries.end - first);
                    let mut tile = Tile::new(&mut products[..count * width], count, width, width);
                    worker.product(
                        &w,
                        &inputs.rows(first, count),
                        rows.clone(),
                        &mut tile,
                        scratch,
                    )?;
                    for i in 0..count {
                        let (t, s) = routes.entry(first + i);
                        let row = tile.row(i);
                        if let Some(bias) = bias {
                            backend.add(row, &bias[rows.clone()]);
                        }
                        backend.scale(row, shares.row(t)[used + s]);
                        backend.add(&mut sums[t * width..][..width], row);
                    }
                    first += count;
                }
            }
            for (t, sum) in sums.chunks_exact_mut(width).enumerate() {
                if let Some(shared) = &shared {
                    let shared = &shared.row(t)[r..][..width];
                    match &score {
                        None => backend.add(sum, shared),
                        Some(score) => {
                            let mut weight = [score.row(t)[0]];
                            backend.sigmoid(&mut weight);
                            let product = &mut products[..width];
                            product.copy_from_slice(shared);
                            backend.scale(product, weight[0]);
                            backend.add(sum, product);
                        }
                    }
                }
                if self.scale != 1.0 {
                    backend.scale(sum, self.scale);
                }
                // SAFETY: columns of a verified buffer that belong to items of this worker.
                let mut to = unsafe { worker.write(out, (t, 1), (r, width)) };
                match self.to {
                    Output::Store(_) => to.row(0).copy_from_slice(sum),
                    Output::Add(_) => backend.add(to.row(0), sum),
                }
            }
        }
        Ok(())
    }
}
