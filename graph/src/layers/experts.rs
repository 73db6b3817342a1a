//! Mixture of experts: several feed-forward networks, a few of which are chosen for each token.

use super::{Activation, Layer, in_range};
use crate::ops::{ExpertsDown, ExpertsGated, Gated, Op, Output, Route};
use crate::plan::build::{Builder, Stream};
use crate::plan::{BufferType, PlanError};
use crate::spec::{LayerRole as L, Role, SpecError, inconsistent};

/// Gated feed-forward experts of one shape, chosen by a router, and perhaps one that all tokens
/// take.
///
/// The router's scores become weights as [`Router`] says. A token takes the `used` largest; ties go
/// to the lower expert. Outputs are multiplied by their weights and summed in ascending order of
/// experts; the shared expert's outputs come last.
///
/// A softmax over the scores of the chosen experts alone, which some models are described with, is
/// that over all of them divided by the sum of the chosen ones: `normalised`.
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
    /// True if the weights of the chosen experts are divided by their sum.
    pub normalised: bool,
    /// True if the gates and the other matrices of all experts are one tensor.
    pub fused: bool,
    /// Way from scores to weights.
    pub router: Router,
    /// Scale of the weights.
    pub scale: f32,
    /// True if the router and every product of an expert have a bias.
    pub bias: bool,
    /// Expert that all tokens take.
    pub shared: Option<SharedExpert>,
}

/// Way from an expert's score to its weight.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Router {
    /// Softmax over all experts.
    Softmax,
    /// The logistic function of each score; with `normalised`, 1e-6 is added to the sum.
    Sigmoid {
        /// True if a number of each expert is added to its weight for the choice alone.
        bias: bool,
    },
}

/// Gated feed-forward part whose outputs are added to those of the chosen experts, with the same
/// activation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SharedExpert {
    /// Inner width.
    pub inner: u32,
    /// True if the outputs are multiplied by the logistic function of a score.
    pub gated: bool,
}

/// Maximum number of experts in a layer.
pub(crate) const MAX_EXPERTS: u32 = 1 << 12;
/// Maximum number of experts that a token takes.
pub(crate) const MAX_USED: u32 = 64;

impl Router {
    /// True if a vector is added to the weights for the choice.
    pub(crate) const fn has_bias(self) -> bool {
        matches!(self, Router::Sigmoid { bias: true })
    }
}

impl Experts {
    /// Experts without biases and without a shared one, chosen by softmax, with normalised weights
    /// and SiLU.
    #[must_use]
    pub const fn new(experts: u32, used: u32, inner: u32) -> Experts {
        Experts {
            experts,
            used,
            inner,
            activation: Activation::Silu,
            normalised: true,
            router: Router::Softmax,
            scale: 1.0,
            bias: false,
            shared: None,
            fused: false,
        }
    }

    /// Checks the sizes and returns true if the inputs of the last product are normalised.
    pub(super) fn validate(&self, width: u32) -> Result<bool, SpecError> {
        if !in_range(&[self.inner]) || self.inner > 1 << 20 {
            return inconsistent("the inner width of an expert must be 1 to 2^20");
        }
        if self.experts > MAX_EXPERTS || self.used == 0 || self.used > self.experts.min(MAX_USED) {
            return inconsistent("a token must take 1 to 64 of at most 2^12 experts");
        }
        if self.fused && (self.bias || !self.inner.is_multiple_of(16)) {
            return inconsistent(
                "gates in one tensor with the other matrices need an inner width that is a multiple \
                 of 16, and no biases",
            );
        }
        let rows = if self.fused { 2 * self.inner } else { self.inner };
        let rows = u64::from(self.experts) * u64::from(rows.max(width));
        if rows >= 1 << 31 {
            return inconsistent("the experts' matrices together must have fewer than 2^31 rows");
        }
        if !self.scale.is_finite() {
            return inconsistent("the scale of the experts' weights must be finite");
        }
        self.activation.validate()?;
        match self.shared {
            Some(shared) if !in_range(&[shared.inner]) => {
                inconsistent("the inner width of the shared expert must be 1 to 2^26")
            }
            _ => Ok(false),
        }
    }

    pub(super) fn build(
        &self,
        b: &mut Builder<'_, '_>,
        layer: &Layer,
        l: u32,
        x: Stream,
    ) -> Result<(), PlanError> {
        let inner = self.inner as usize;
        let find = |b: &Builder<'_, '_>, role| b.spec.find(Role::Layer(l, role));
        let norm = (L::FfnNorm, L::FfnNormBias);
        let parts = if self.fused { [L::ExpertGateUp; 2] } else { [L::ExpertGate, L::ExpertUp] };
        let [gate, up] = parts.map(|role| b.id(l, role));
        let [router, down] = [L::ExpertRouter, L::ExpertDown].map(|role| b.id(l, role));
        // What isn't there needs no input of its own.
        let shared = [L::SharedRouter, L::SharedGate, L::SharedUp]
            .map(|role| find(b, role).unwrap_or(router));
        let [shared_router, shared_gate, shared_up] = shared;
        let ws = [router, gate, up, shared_router, shared_gate, shared_up];
        let [scores_x, h, up_x, shared_scores_x, shared_h, shared_up_x] =
            b.inputs(layer, l, norm, x, ws)?;
        let scores = b.buffer(BufferType::F32, x.rows, self.experts as usize)?;
        b.linear(l, L::ExpertRouter, scores_x, None, Output::Store(scores))?;
        let (mut added, mut added_score) = (None, None);
        if let Some(shared) = self.shared {
            let kind = b.input_type(b.id(l, L::SharedDown));
            let out = b.buffer(kind, x.rows, shared.inner as usize)?;
            b.op(Op::Gated(Gated {
                gate: shared_gate,
                up: shared_up,
                gate_bias: None,
                up_bias: None,
                x: shared_h,
                up_x: shared_up_x,
                out,
                act: self.activation,
            }))?;
            if shared.gated {
                let score = b.buffer(BufferType::F32, x.rows, 1)?;
                b.linear(l, L::SharedRouter, shared_scores_x, None, Output::Store(score))?;
                added_score = Some(score);
            }
            added = Some(out);
        }
        b.barrier()?;
        let (experts, used) = (self.experts as u16, self.used as u16);
        let routes = b.buffer(BufferType::F32, x.rows, 2 * self.used as usize)?;
        b.op(Op::Route(Route {
            scores,
            out: routes,
            used,
            normalised: self.normalised,
            router: self.router,
            bias: find(b, L::ExpertChoiceBias),
            scale: self.scale,
            scales: None,
        }))?;
        if let Some(h) = added {
            let out = b.buffer(BufferType::F32, x.rows, b.spec.width as usize)?;
            b.linear(l, L::SharedDown, h, None, Output::Store(out))?;
            added = Some(out);
        }
        b.barrier()?;
        let kind = b.input_type(down);
        let out = b.buffer(kind, x.rows, self.used as usize * inner)?;
        b.op(Op::ExpertsGated(ExpertsGated {
            gate,
            up,
            gate_bias: find(b, L::ExpertGateBias),
            up_bias: find(b, L::ExpertUpBias),
            x: h,
            up_x,
            routes,
            out,
            experts,
            used,
            act: self.activation,
        }))?;
        b.barrier()?;
        let bias = find(b, L::ExpertDownBias);
        b.residual_by(layer, l, L::FfnPostNorm, x, |to, scale| {
            Op::ExpertsDown(ExpertsDown {
                w: down,
                bias,
                x: out,
                routes,
                shared: added,
                shared_score: added_score,
                to,
                experts,
                used,
                scale,
            })
        })
    }
}
