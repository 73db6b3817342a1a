//! A dense part and experts side by side: both read the residual stream, each through a norm of its
//! own, and the sum of their normalised outputs is what the layer adds.

use super::{Dense, Experts, Layer, Norm, NormKind, Router};
use crate::ops::{
    ExpertsDown, ExpertsGated, Gated, Linear, Norm as NormOp, NormAdd, Op, Output, Route,
};
use crate::plan::build::{Builder, Stream};
use crate::plan::{BufferType, PlanError};
use crate::spec::{LayerRole as L, Role, SpecError, inconsistent};

/// Dense part and experts of one layer:
///
/// ```text
/// x = x + residual * post_norm(norm1(dense(norm(x))) + norm2(experts(norm3(x))))
/// ```
///
/// The router reads `router_norm(x) / sqrt(width)`, and the chosen experts' probabilities are
/// multiplied by a number of each expert.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct DenseAndExperts {
    /// Dense part: gated, without biases and without a norm inside.
    pub dense: Dense,
    /// Experts.
    pub experts: Experts,
}

impl DenseAndExperts {
    pub(super) fn validate(&self, layer: &Layer, width: u32) -> Result<bool, SpecError> {
        let Dense { gated, bias, sub_norm, sparsity, .. } = self.dense;
        if !gated || bias || sub_norm || sparsity.is_some() || !layer.norms.pre || !layer.norms.post
        {
            return inconsistent(
                "a dense part beside experts has a gate, no biases, and norms around it alone",
            );
        }
        let e = &self.experts;
        if e.shared.is_some() || e.bias || e.router != Router::Softmax || e.scale != 1.0 {
            return inconsistent(
                "experts beside a dense part are chosen by softmax, without biases or a shared one",
            );
        }
        self.dense.validate()?;
        self.experts.validate(width)?;
        Ok(false)
    }

    pub(super) fn build(
        &self,
        b: &mut Builder<'_, '_>,
        layer: &Layer,
        l: u32,
        x: Stream,
    ) -> Result<(), PlanError> {
        let width = b.spec.width as usize;
        let (d, e) = (&self.dense, &self.experts);
        let parts = if d.fused { [L::FfnGateUp; 2] } else { [L::FfnGate, L::FfnUp] };
        let [gate, up] = parts.map(|role| b.id(l, role));
        let parts = if e.fused { [L::ExpertGateUp; 2] } else { [L::ExpertGate, L::ExpertUp] };
        let [expert_gate, expert_up] = parts.map(|role| b.id(l, role));
        let [router, down, expert_down] =
            [L::ExpertRouter, L::FfnDown, L::ExpertDown].map(|role| b.id(l, role));
        let before = layer.norms.before;
        let rms = Norm { kind: NormKind::Rms, ..before };
        let from = (x.buffer, width);

        let bias = b.spec.find(Role::Layer(l, L::FfnNormBias));
        let norm = (before, b.id(l, L::FfnNorm), bias);
        let [h, up_h] = b.normed(from, x.rows, norm, [gate, up])?;
        let norm = (rms, b.id(l, L::ExpertNorm), None);
        let [expert_h, expert_up_h] = b.normed(from, x.rows, norm, [expert_gate, expert_up])?;
        let [scores_h] = b.norm(from, x.rows, (rms, b.id(l, L::RouterNorm), None), [router])?;

        let scores = b.buffer(BufferType::F32, x.rows, e.experts as usize)?;
        let scale = (1.0 / libm::sqrt(width as f64)) as f32;
        b.op(Op::Linear(Linear {
            w: router,
            bias: None,
            x: scores_h,
            act: None,
            to: Output::Store(scores),
            scale,
            cap: None,
        }))?;
        let kind = b.input_type(down);
        let inner = b.buffer(kind, x.rows, d.inner as usize)?;
        let (gate_bias, up_bias, act) = (None, None, d.activation);
        b.op(Op::Gated(Gated { gate, up, gate_bias, up_bias, x: h, up_x: up_h, out: inner, act }))?;
        b.barrier()?;

        let (experts, used) = (e.experts as u16, e.used as u16);
        let routes = b.buffer(BufferType::F32, x.rows, 2 * e.used as usize)?;
        let scales = Some(b.id(l, L::ExpertScale));
        b.op(Op::Route(Route {
            scores,
            out: routes,
            used,
            normalised: e.normalised,
            router: e.router,
            bias: None,
            scale: 1.0,
            scales,
        }))?;
        let dense = b.buffer(BufferType::F32, x.rows, width)?;
        b.linear(l, L::FfnDown, inner, None, Output::Store(dense))?;
        b.barrier()?;

        let kind = b.input_type(expert_down);
        let inner = b.buffer(kind, x.rows, e.used as usize * e.inner as usize)?;
        b.op(Op::ExpertsGated(ExpertsGated {
            gate: expert_gate,
            up: expert_up,
            gate_bias: None,
            up_bias: None,
            x: expert_h,
            up_x: expert_up_h,
            routes,
            out: inner,
            experts,
            used,
            act: e.activation,
        }))?;
        let sum = b.buffer(BufferType::F32, x.rows, width)?;
        let (weight, eps) = (b.id(l, L::DensePostNorm), before.eps);
        b.op(Op::Norm(NormOp { x: dense, weight, bias: None, out: sum, eps }))?;
        b.barrier()?;

        let chosen = b.buffer(BufferType::F32, x.rows, width)?;
        b.op(Op::ExpertsDown(ExpertsDown {
            w: expert_down,
            bias: None,
            x: inner,
            routes,
            shared: None,
            shared_score: None,
            to: Output::Store(chosen),
            experts,
            used,
            scale: 1.0,
        }))?;
        b.barrier()?;
        let (weight, scale, then) = (b.id(l, L::ExpertPostNorm), 1.0, None);
        b.op(Op::NormAdd(NormAdd { x: chosen, weight, out: sum, eps, scale, then }))?;
        b.barrier()?;
        b.add_normed(layer, l, L::FfnPostNorm, sum, x)
    }
}
