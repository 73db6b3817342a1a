//! Mixture of experts: several feed-forward networks, a few of which are chosen for each token.

use super::{Activation, Layer, in_range};
use crate::ops::{ExpertsDown, ExpertsGated, Op, Output, Route};
use crate::plan::build::{Builder, Stream};
use crate::plan::{BufferType, PlanError};
use crate::spec::{LayerRole as L, SpecError, inconsistent};

/// Gated feed-forward experts of one shape, chosen by a router.
///
/// The router's scores become probabilities by softmax over all experts. A token takes the `used`
/// largest; ties go to the lower expert. Outputs are multiplied by their probabilities and summed
/// in ascending order of experts.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Experts {
    /// Number of experts in the layer.
    pub experts: u32,
    /// Number of experts that each token takes.
    pub used: u32,
    /// Inner width of an expert.
    pub inner: u32,
    /// Activation function.
    pub activation: Activation,
    /// True if the probabilities of the chosen experts are divided by their sum.
    pub normalised: bool,
    /// True if the gates and the other matrices of all experts are one tensor.
    pub fused: bool,
}

/// Maximum number of experts in a layer.
pub(crate) const MAX_EXPERTS: u32 = 1 << 12;
/// Maximum number of experts that a token takes.
pub(crate) const MAX_USED: u32 = 64;

impl Experts {
    /// Checks the sizes and returns true if the inputs of the last product are normalised.
    pub(super) fn validate(&self, width: u32) -> Result<bool, SpecError> {
        if !in_range(&[self.inner]) || self.inner > 1 << 20 {
            return inconsistent("the inner width of an expert must be 1 to 2^20");
        }
        if self.experts > MAX_EXPERTS || self.used == 0 || self.used > self.experts.min(MAX_USED) {
            return inconsistent("a token must take 1 to 64 of at most 2^12 experts");
        }
        if self.fused && !self.inner.is_multiple_of(16) {
            return inconsistent(
                "gates in one tensor with the other matrices need an inner width that is a multiple \
                 of 16",
            );
        }
        let rows = u64::from(self.experts) * u64::from((2 * self.inner).max(width));
        if rows >= 1 << 31 {
            return inconsistent("the experts' matrices together must have fewer than 2^31 rows");
        }
        Ok(false)
    }

    pub(super) fn build(
        &self,
        b: &mut Builder<'_, '_>,
        layer: &Layer,
        l: u32,
        x: Stream,
    ) -> Result<(), PlanError> {
        let inner = self.inner as usize;
        let norm = (L::FfnNorm, L::FfnNormBias);
        let router = b.id(l, L::ExpertRouter);
        let parts = if self.fused { [L::ExpertGateUp; 2] } else { [L::ExpertGate, L::ExpertUp] };
        let [gate, up] = parts.map(|role| b.id(l, role));
        let down = b.id(l, L::ExpertDown);
        let [scores_x, h, up_x] = b.inputs(layer, l, norm, x, [router, gate, up])?;
        let scores = b.buffer(BufferType::F32, x.rows, self.experts as usize)?;
        b.linear(l, L::ExpertRouter, scores_x, None, Output::Store(scores))?;
        b.barrier()?;
        let (experts, used) = (self.experts as u16, self.used as u16);
        let routes = b.buffer(BufferType::F32, x.rows, 2 * self.used as usize)?;
        b.op(Op::Route(Route {
            scores,
            out: routes,
            used,
            normalised: self.normalised,
            scales: None,
        }))?;
        b.barrier()?;
        let kind = b.input_type(down);
        let out = b.buffer(kind, x.rows, self.used as usize * inner)?;
        let act = self.activation;
        b.op(Op::ExpertsGated(ExpertsGated {
            gate,
            up,
            x: h,
            up_x,
            routes,
            out,
            experts,
            used,
            act,
        }))?;
        b.barrier()?;
        let ids = (down, routes, experts, used);
        b.residual_by(layer, l, L::FfnPostNorm, x, |to, scale| {
            let (w, routes, experts, used) = ids;
            Op::ExpertsDown(ExpertsDown { w, x: out, routes, to, experts, used, scale })
        })
    }
}
