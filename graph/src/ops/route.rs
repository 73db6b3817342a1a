//! Choice of experts: softmax over all scores, then the largest few, with ties to the lower expert;
//! its items are tokens.

use core::ops::Range;

use teff_kernels::Backend;

use super::{Access, Operation, sure};
use crate::TensorId;
use crate::exec::{Stopped, Worker};
use crate::layers::{MAX_EXPERTS, MAX_USED};
use crate::plan::{BufferId, PlanView};

/// Experts of each token and their probabilities.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Route {
    /// Scores of all experts, f32.
    pub scores: BufferId,
    /// Result, f32: the numbers of the chosen experts in ascending order (exact in f32), then their
    /// probabilities.
    pub out: BufferId,
    /// Number of experts that a token takes.
    pub used: u16,
    /// True if the probabilities of the chosen experts are divided by their sum, added in ascending
    /// order of experts.
    pub normalised: bool,
    /// Number of each expert by which its probability is multiplied after that.
    pub scales: Option<TensorId>,
}

impl Operation for Route {
    fn buffers(&self, f: &mut dyn FnMut(BufferId, Access)) {
        f(self.scores, Access::Read);
        f(self.out, Access::Write);
    }

    fn check(&self, plan: &PlanView<'_>) -> Option<()> {
        let (scores, out) = (plan.floats(self.scores)?, plan.floats(self.out)?);
        let used = u32::from(self.used);
        sure(scores.cols <= MAX_EXPERTS && used <= MAX_USED && used <= scores.cols)?;
        plan.some_vector(self.scales, scores.cols as usize)?;
        sure(used > 0 && scores.rows == out.rows && out.cols == 2 * used)
    }

    fn scratch(&self, plan: &PlanView<'_>) -> Option<usize> {
        Some(plan.buffer(self.scores)?.cols as usize)
    }

    fn items<B: Backend>(&self, worker: &Worker<'_, '_, '_, B>) -> usize {
        worker.rows(worker.buffer(self.scores).rows)
    }

    fn run<B: Backend>(
        &self,
        worker: &Worker<'_, '_, '_, B>,
        tokens: Range<usize>,
    ) -> Result<(), Stopped> {
        // SAFETY: the only call for these items.
        let (_, scratch) = unsafe { worker.local() };
        let (scores, out) = (worker.buffer(self.scores), worker.buffer(self.out));
        let used = usize::from(self.used);
        let scales = self.scales.map(|id| worker.vector(id));
        let probabilities = &mut scratch[..scores.cols as usize];
        for t in tokens {
            // SAFETY: rows t of verified buffers; no one writes scores in this phase, and row t of
            // out is our item.
            let (from, mut to) =
                unsafe { (worker.read(scores, t, 1), worker.write(out, (t, 1), (0, 2 * used))) };
            probabilities.copy_from_slice(from.row(0));
            worker.backend().softmax(probabilities);
            let mut chosen = [(0u32, 0f32); MAX_USED as usize];
            let chosen = &mut chosen[..used];
            if worker.backend().top_k(probabilities, chosen).nan.is_some() {
                // The scores were NaN, and so will be the outputs of the token.
                (0u32..).zip(chosen.iter_mut()).for_each(|(i, c)| *c = (i, f32::NAN));
            }
            chosen.sort_unstable_by_key(|c| c.0);
            let sum = chosen[1..].iter().fold(chosen[0].1, |sum, c| sum + c.1);
            let (ids, shares) = to.row(0).split_at_mut(used);
            for ((id, share), &(expert, p)) in ids.iter_mut().zip(shares).zip(&*chosen) {
                *id = expert as f32;
                *share = if self.normalised { p / sum } else { p };
                if let Some(scales) = scales {
                    *share *= scales[expert as usize];
                }
            }
        }
        Ok(())
    }
}
