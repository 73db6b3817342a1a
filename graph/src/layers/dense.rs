//! The dense feed-forward part: one network for all tokens.

use super::{Activation, Layer, Mixed, in_range};
use crate::ops::{Gated, Op, Output, SparseGate};
use crate::plan::build::{Builder, Stream};
use crate::plan::{BufferType, PlanError};
use crate::spec::{LayerRole as L, Role, SpecError, inconsistent};

/// Dense feed-forward part: `down(act(up x))`, or `down(act(gate x) * (up x))` if gated.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Dense {
    /// Inner width.
    pub inner: u32,
    /// True for the gated form.
    pub gated: bool,
    /// True if the gate and the other matrix are one, in the gated form.
    pub fused: bool,
    /// Activation function.
    pub activation: Activation,
    /// True if every product has a bias.
    pub bias: bool,
    /// True if the inputs of the last product are RMS-normalised.
    pub sub_norm: bool,
    /// Number of standard deviations by which elements of the gate must be above the mean, which
    /// they lose; the others become 0. `None` if all are kept.
    pub sparsity: Option<f32>,
}

impl Dense {
    /// Checks the sizes and returns true if the inputs of the last product are normalised.
    pub(super) fn validate(&self) -> Result<bool, SpecError> {
        if !in_range(&[self.inner]) {
            return inconsistent("the inner width must be 1 to 2^26");
        }
        self.activation.validate()?;
        if !self.gated && matches!(self.activation, Activation::SwigluClamped { .. }) {
            return inconsistent("an activation with a gate, in a part that has none");
        }
        if self.fused && (!self.gated || self.bias || !self.inner.is_multiple_of(16)) {
            return inconsistent(
                "a gate in one matrix with the other needs an inner width that is a multiple of \
                 16, and no biases",
            );
        }
        if self.sparsity.is_some_and(|cut| !cut.is_finite() || !self.gated || self.fused) {
            return inconsistent("a sparse gate needs a finite number, and a matrix of its own");
        }
        Ok(self.sub_norm)
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
        let down = b.id(l, L::FfnDown);
        let kind = if self.sub_norm { BufferType::F32 } else { b.input_type(down) };
        let out;
        if let Some(cut) = self.sparsity {
            let ws = [L::FfnGate, L::FfnUp];
            let [h, up_x] = b.inputs(layer, l, norm, x, ws.map(|role| b.id(l, role)))?;
            let gate = b.buffer(BufferType::F32, x.rows, inner)?;
            let up = b.buffer(BufferType::F32, x.rows, inner)?;
            b.linear(l, L::FfnGate, h, None, Output::Store(gate))?;
            b.linear(l, L::FfnUp, up_x, None, Output::Store(up))?;
            b.barrier()?;
            out = b.buffer(kind, x.rows, inner)?;
            b.op(Op::SparseGate(SparseGate { gate, up, out, act: self.activation, cut }))?;
        } else if self.gated {
            let parts = if self.fused { [L::FfnGateUp; 2] } else { [L::FfnGate, L::FfnUp] };
            let [gate, up] = parts.map(|role| b.id(l, role));
            let [h, up_x] = b.inputs(layer, l, norm, x, [gate, up])?;
            out = b.buffer(kind, x.rows, inner)?;
            let (gate_bias, up_bias) = (find(b, L::FfnGateBias), find(b, L::FfnUpBias));
            let act = self.activation;
            b.op(Op::Gated(Gated { gate, up, gate_bias, up_bias, x: h, up_x, out, act }))?;
        } else {
            let [h] = b.inputs(layer, l, norm, x, [b.id(l, L::FfnUp)])?;
            out = b.buffer(kind, x.rows, inner)?;
            b.linear(l, L::FfnUp, h, Some(self.activation), Output::Store(out))?;
        }
        b.barrier()?;
        let norm = self.sub_norm.then_some(L::FfnSubNorm);
        let mixed = Mixed { out, cols: inner, product: L::FfnDown, norm, rows: x.rows };
        let out = mixed.sub_norm(b, layer, l)?;
        b.residual(layer, l, (L::FfnDown, L::FfnPostNorm), out, x)
    }
}
