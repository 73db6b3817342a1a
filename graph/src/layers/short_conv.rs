//! Gated short convolution of LFM2 (Liquid AI, 2025): `y = C * conv(B * x)`, whose state is the
//! last few inputs.

use super::{Layer, LayerState, Mixed, in_range};
use crate::ops::{Op, Output, ShortConv as ShortConvOp};
use crate::plan::build::{Builder, Stream};
use crate::plan::{BufferType, PlanError, RowCount};
use crate::spec::{LayerRole as L, Role, SpecError, inconsistent};

/// Gated depthwise convolution over the last few tokens.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct ShortConv {
    /// Tokens that an output depends on, including its own.
    pub taps: u32,
    /// True if both products and the convolution have biases.
    pub bias: bool,
    /// True if the inputs of the first product have 16 bits where its weights would take 8.
    ///
    /// The layer multiplies its inputs with each other, and a router turns what is left of their errors
    /// into other experts. (With 8 bits, the median error of the small LFM2 with experts was 1.17 times
    /// llama.cpp's in Q4_0; with 16 it is 0.58 times.)
    pub fine: bool,
}

impl ShortConv {
    /// State of the layer: the inputs of the last `taps - 1` tokens, in f32.
    pub(super) fn state(&self, width: u32) -> LayerState {
        LayerState::Fixed { bytes: u64::from(self.taps.saturating_sub(1)) * u64::from(width) * 4 }
    }

    pub(super) fn validate(&self) -> Result<(), SpecError> {
        if !in_range(&[self.taps]) || self.taps > 64 {
            return inconsistent("a short convolution must have 1 to 64 taps");
        }
        Ok(())
    }

    pub(super) fn build(
        &self,
        b: &mut Builder<'_, '_>,
        layer: &Layer,
        l: u32,
        x: Stream,
    ) -> Result<Mixed, PlanError> {
        let width = b.spec.width as usize;
        let state = b.state(l)?;
        let norm = (L::AttnNorm, L::AttnNormBias);
        let [h] = b.inputs(layer, l, norm, x, [b.id(l, L::ConvIn)])?;
        let inner = b.buffer(BufferType::F32, RowCount::Batch, 3 * width)?;
        b.linear(l, L::ConvIn, h, None, Output::Store(inner))?;
        b.barrier()?;
        let rows = b.rows_after(l);
        let out = b.buffer(b.input_type(b.id(l, L::ConvOut)), rows, width)?;
        let bias = b.spec.find(Role::Layer(l, L::ConvTapsBias));
        let (taps, n) = (b.id(l, L::ConvTaps), self.taps as u16);
        b.op(Op::ShortConv(ShortConvOp { x: inner, taps, bias, state, n, out }))?;
        Ok(Mixed { out, cols: width, product: L::ConvOut, norm: None, rows })
    }
}
