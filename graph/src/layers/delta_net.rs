//! Gated DeltaNet of Qwen 3.5 (Yang, Kautz, Hatamizadeh, 2024): linear attention whose state is a matrix
//! for each head and the last few inputs of a convolution.

use super::{Layer, LayerState, Mixed, in_range};
use crate::ops::{DeltaConv, DeltaGates, DeltaHeads, DeltaRule, GateHeads, Op, Output};
use crate::plan::build::{Builder, Stream};
use crate::plan::{BufferType, PlanError, RowCount};
use crate::spec::{LayerRole as L, SpecError, inconsistent};

/// Linear attention by the gated delta rule, after a convolution over the last few tokens.
///
/// Value head `j` uses key head `j % key_heads`.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct DeltaNet {
    /// Heads of queries and keys.
    pub key_heads: u32,
    /// Heads of values, a multiple of `key_heads`.
    pub value_heads: u32,
    /// Elements of one query or key.
    pub key_dim: u32,
    /// Elements of one value.
    pub value_dim: u32,
    /// Tokens that an output of the convolution depends on, including its own.
    pub taps: u32,
}

/// Maximum number of elements of a head.
const MAX_DIM: u32 = 1 << 10;
/// Maximum number of heads.
const MAX_HEADS: u32 = 1 << 12;

/// Order of the value heads in folders: those of one key head one after another, in a part of the rows or
/// columns of a tensor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ValueHeads {
    /// Rows (or columns) before those of the value heads.
    pub first: usize,
    /// Key heads.
    pub keys: usize,
    /// Value heads of each key head.
    pub each: usize,
    /// Rows (or columns) of a value head.
    pub size: usize,
    /// True if they are columns.
    pub columns: bool,
}

impl ValueHeads {
    /// Place of the value head `head` in a folder.
    #[must_use]
    pub const fn stored(&self, head: usize) -> usize {
        head % self.keys * self.each + head / self.keys
    }
}

impl DeltaNet {
    /// Elements of the values of all heads.
    #[must_use]
    pub const fn value_width(&self) -> usize {
        self.value_heads as usize * self.value_dim as usize
    }

    /// Channels of the convolution: queries, keys and values of all heads.
    #[must_use]
    pub const fn channels(&self) -> usize {
        2 * self.key_heads as usize * self.key_dim as usize + self.value_width()
    }

    /// Sizes as operations have them.
    pub(crate) const fn heads(&self) -> DeltaHeads {
        DeltaHeads {
            key_heads: self.key_heads as u16,
            value_heads: self.value_heads as u16,
            key_dim: self.key_dim as u16,
            value_dim: self.value_dim as u16,
        }
    }

    /// Order of the value heads in a folder's tensor of this role; `None` where it is that of memory.
    #[must_use]
    pub fn stored(&self, role: L) -> Option<ValueHeads> {
        let (keys, dim) = (self.key_heads as usize, self.value_dim as usize);
        let each = self.value_heads as usize / keys;
        let queries = self.channels() - self.value_width();
        let (first, size, columns) = match role {
            L::DeltaQkv | L::DeltaTaps => (queries, dim, false),
            L::DeltaGate => (0, dim, false),
            L::DeltaAlpha | L::DeltaBeta | L::DeltaRate | L::DeltaBias => (0, 1, false),
            L::DeltaOut => (0, dim, true),
            _ => return None,
        };
        (keys > 1 && each > 1).then_some(ValueHeads { first, keys, each, size, columns })
    }

    /// State of the layer, in f32: a matrix for each value head, and the inputs of the last `taps - 1`
    /// tokens.
    pub(super) fn state(&self) -> LayerState {
        let heads = self.heads();
        let inputs = (self.taps.saturating_sub(1) as u64).saturating_mul(self.channels() as u64);
        LayerState::Fixed { bytes: inputs.saturating_add(heads.state_floats()).saturating_mul(4) }
    }

    pub(super) fn validate(&self) -> Result<(), SpecError> {
        let heads = [self.key_heads, self.value_heads];
        if !heads.iter().all(|h| (1..=MAX_HEADS).contains(h))
            || !self.value_heads.is_multiple_of(self.key_heads)
        {
            return inconsistent(
                "heads of values must be a multiple of those of keys, and each 1 to 2^12",
            );
        }
        if [self.key_dim, self.value_dim].iter().any(|d| !(1..=MAX_DIM).contains(d)) {
            return inconsistent(
                "a key and a value of linear attention must have 1 to 2^10 elements",
            );
        }
        if !in_range(&[self.taps]) || self.taps > 64 {
            return inconsistent("the convolution of linear attention must have 1 to 64 taps");
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
        let (state, heads, taps) = (b.state(l)?, self.heads(), self.taps as u16);
        let (channels, width) = (self.channels(), self.value_width());
        let norm = (L::AttnNorm, L::AttnNormBias);
        let products = [
            (L::DeltaQkv, channels),
            (L::DeltaGate, width),
            (L::DeltaAlpha, self.value_heads as usize),
            (L::DeltaBeta, self.value_heads as usize),
        ];
        let inputs = b.inputs(layer, l, norm, x, products.map(|(w, _)| b.id(l, w)))?;
        let mut outs = inputs;
        for ((w, cols), out) in products.into_iter().zip(&mut outs) {
            let h = *out;
            *out = b.buffer(BufferType::F32, RowCount::Batch, cols)?;
            b.linear(l, w, h, None, Output::Store(*out))?;
        }
        let [qkv, gate, decay, beta] = outs;
        b.barrier()?;
        let mixed = b.buffer(BufferType::F32, RowCount::Batch, channels)?;
        let w = b.id(l, L::DeltaTaps);
        b.op(Op::DeltaConv(DeltaConv { x: qkv, taps: w, state, n: taps, heads, out: mixed }))?;
        let (bias, rate) = (b.id(l, L::DeltaBias), b.id(l, L::DeltaRate));
        b.op(Op::DeltaGates(DeltaGates { decay, beta, bias, rate }))?;
        b.barrier()?;
        let read = b.buffer(BufferType::F32, RowCount::Batch, width)?;
        b.op(Op::DeltaRule(DeltaRule { x: mixed, decay, beta, state, heads, out: read }))?;
        b.barrier()?;
        let rows = b.rows_after(l);
        let out = b.buffer(b.input_type(b.id(l, L::DeltaOut)), rows, width)?;
        b.op(Op::GateHeads(GateHeads {
            x: read,
            gate,
            norm: Some(b.id(l, L::DeltaNorm)),
            out,
            head_dim: self.value_dim as u16,
            eps: layer.norms.before.eps,
        }))?;
        Ok(Mixed { out, cols: width, product: L::DeltaOut, norm: None, rows })
    }
}
