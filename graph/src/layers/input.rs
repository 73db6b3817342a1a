//! Inputs of a layer's own: a share of what the model computes of each token for every layer.

use super::{Activation, Layer, in_range};
use crate::ops::{GateInput, Op};
use crate::plan::build::{Builder, Stream};
use crate::plan::{BufferId, PlanError};
use crate::spec::{LayerRole as L, Spec, SpecError, inconsistent};

/// Inputs of a layer's own, after its feed-forward part: `x = x + norm(proj(act(gate x) * inputs))`,
/// of the residual stream as it is.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct LayerInput {
    /// Number of the inputs.
    pub width: u32,
    /// Activation function of the gate.
    pub activation: Activation,
}

impl LayerInput {
    pub(super) fn validate(&self, spec: &Spec<'_>) -> Result<(), SpecError> {
        if !in_range(&[self.width]) || spec.per_layer.is_none_or(|p| p.width != self.width) {
            return inconsistent("a layer has other inputs than the model computes");
        }
        Ok(())
    }

    pub(super) fn build(
        &self,
        b: &mut Builder<'_, '_>,
        layer: &Layer,
        l: u32,
        x: Stream,
    ) -> Result<(), PlanError> {
        let out = self.gate(b, l, x)?;
        b.residual(layer, l, (L::InputProj, L::InputPostNorm), out, x)
    }

    /// Inputs of the last product.
    pub(super) fn gate(
        &self,
        b: &mut Builder<'_, '_>,
        l: u32,
        x: Stream,
    ) -> Result<BufferId, PlanError> {
        let (w, proj) = (b.id(l, L::InputGate), b.id(l, L::InputProj));
        let [from] = b.converted(x, [w])?;
        let kind = b.input_type(proj);
        let out = b.buffer(kind, x.rows, self.width as usize)?;
        let (inputs, act) = (b.layer_inputs(), self.activation);
        b.op(Op::GateInput(GateInput { w, x: from, inputs, layer: l as u16, out, act }))?;
        b.barrier()?;
        Ok(out)
    }
}
