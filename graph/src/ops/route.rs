//! Choice of experts: weights from all scores, then the largest few, with ties to the lower expert;
//! its items are tokens.
//!
//! Weights are the softmax over all scores, or the logistic function of each. Of the latter, the
//! largest are those of `weight + bias` where there is a bias. The weights of the chosen experts are
//! divided by their sum if they are normalised (to which 1e-6 is added first for the logistic
//! function), and then multiplied by the scale unless that is 1.

use core::ops::Range;

use teff_kernels::Backend;

use super::{Access, Choice, Operation, sure};
use crate::TensorId;
use crate::exec::{Stopped, Worker};
use crate::layers::{MAX_EXPERTS, MAX_USED, Router};
use crate::plan::{BufferId, PlanView};

/// Experts of each token and their weights.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Route {
    /// Scores of all experts, f32.
    pub scores: BufferId,
    /// Result, f32: the numbers of the chosen experts in ascending order (exact in f32), then their
    /// weights.
    pub out: BufferId,
    /// Number of experts that a token takes.
    pub used: u16,
    /// True if the weights of the chosen experts are divided by their sum, added in ascending order
    /// of experts.
    pub normalised: bool,
    /// Way from scores to weights.
    pub router: Router,
    /// Vector that is added to the weights for the choice alone.
    pub bias: Option<TensorId>,
    /// Scale of the weights.
    pub scale: f32,
    /// Number of each expert by which its probability is multiplied after that.
    pub scales: Option<TensorId>,
}

impl Operation for Route {
    fn buffers(&self, f: &mut dyn FnMut(BufferId, Access)) {
        f(self.scores, Access::Read);
        f(self.out, Access::Write);
    }

    fn choice(&self) -> Option<Choice> {
        Some(Choice { scores: self.scores, out: self.out, used: self.used })
    }

    fn others(&self, f: &mut dyn FnMut(TensorId)) {
        [self.bias, self.scales].into_iter().flatten().for_each(f);
    }

    fn check(&self, plan: &PlanView<'_>) -> Option<()> {
        let (scores, out) = (plan.floats(self.scores)?, plan.floats(self.out)?);
        let used = u32::from(self.used);
        plan.some_vector(self.bias, scores.cols as usize)?;
        sure(self.router.has_bias() == self.bias.is_some() && self.scale.is_finite())?;
        sure(scores.cols <= MAX_EXPERTS && used <= MAX_USED && used <= scores.cols)?;
        plan.some_vector(self.scales, scores.cols as usize)?;
        sure(used > 0 && scores.rows == out.rows && out.cols == 2 * used)
    }

    fn scratch(&self, plan: &PlanView<'_>) -> Option<usize> {
        (plan.buffer(self.scores)?.cols as usize).checked_mul(2)
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
        let bias = self.bias.map(|b| worker.vector(b));
        let (weights, choice) = scratch.split_at_mut(scores.cols as usize);
        let choice = &mut choice[..weights.len()];
        let backend = worker.backend();
        // Added to the sum of normalised weights.
        let least = if self.router == Router::Softmax { 0.0 } else { 1e-6 };
        for t in tokens {
            // SAFETY: rows t of verified buffers; no one writes scores in this phase, and row t of
            // out is our item.
            let (from, mut to) =
                unsafe { (worker.read(scores, t, 1), worker.write(out, (t, 1), (0, 2 * used))) };
            weights.copy_from_slice(from.row(0));
            match self.router {
                Router::Softmax => backend.softmax(weights),
                Router::Sigmoid { .. } => backend.sigmoid(weights),
            }
            let by: &[f32] = match bias {
                None => weights,
                Some(bias) => {
                    choice.copy_from_slice(weights);
                    backend.add(choice, bias);
                    choice
                }
            };
            let mut chosen = [(0u32, 0f32); MAX_USED as usize];
            let chosen = &mut chosen[..used];
            if backend.top_k(by, chosen).nan.is_some() {
                // The scores were NaN, and so will be the outputs of the token.
                (0u32..).zip(chosen.iter_mut()).for_each(|(i, c)| *c = (i, f32::NAN));
            }
            if bias.is_some() {
                // Which are those for the choice until now.
                chosen
                    .iter_mut()
                    .filter(|c| !c.1.is_nan())
                    .for_each(|c| c.1 = weights[c.0 as usize]);
            }
            chosen.sort_unstable_by_key(|c| c.0);
            let sum = chosen[1..].iter().fold(chosen[0].1, |sum, c| sum + c.1);
            let (ids, shares) = to.row(0).split_at_mut(used);
            for ((id, share), &(expert, p)) in ids.iter_mut().zip(shares).zip(&*chosen) {
                *id = expert as f32;
                *share = if self.normalised { p / (sum + least) } else { p };
                if self.scale != 1.0 {
                    *share *= self.scale;
                }
                if let Some(scales) = scales {
                    *share *= scales[expert as usize];
                }
            }
        }
        Ok(())
    }
}
