//! Attention: queries, keys and values of each head, with grouped queries, windows and shared
//! caches.

use teff_kernels::{MAX_HEAD_DIM, RopeKind};

use super::{Layer, LayerState, Mixed};
use crate::ops::{
    Attend, GateHeads, Norm as NormOp, Op, Output, Project, QkvPart, ScaleHeads, StoreHeads,
};
use crate::plan::build::{Builder, Stream};
use crate::plan::{BufferId, BufferType, PlanError, RowCount, StateId};
use crate::spec::{LayerRole as L, Role, Spec, SpecError, inconsistent};

/// Attention of one layer.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Attention {
    /// Query heads.
    pub heads: u32,
    /// Heads of keys and values, which must divide `heads`.
    pub kv_heads: u32,
    /// Head dimension: elements of one query, key or value.
    pub head_dim: u32,
    /// True if queries, keys and values come from one fused matrix instead of three.
    pub fused: bool,
    /// True if queries, keys and values have biases.
    pub qkv_bias: bool,
    /// True if the output projection has a bias.
    pub out_bias: bool,
    /// True if every head of queries and keys is RMS-normalised before the rotary embedding.
    pub qk_norm: bool,
    /// True if that norm is one over all heads of a token together.
    pub wide_norm: bool,
    /// True if every head of values is RMS-normalised, without a weight.
    pub value_norm: bool,
    /// True if the values are the keys before their norm and rotation.
    pub keys_as_values: bool,
    /// True if the outputs of each head are multiplied by the sigmoid of gates, which the matrix of
    /// queries has after the queries of each head.
    pub gate: bool,
    /// True if the inputs of the output projection are RMS-normalised.
    pub sub_norm: bool,
    /// Rotary embedding, by its index in [`Spec::ropes`]; `None` if heads are not rotated.
    pub rope: Option<u8>,
    /// Positions that a query attends to, including its own; `None` for all.
    pub window: Option<u32>,
    /// Scale of the scores before softmax.
    pub scale: f32,
    /// Soft cap of the scaled scores, which become `cap * tanh(score / cap)`.
    pub softcap: Option<f32>,
    /// True if the outputs of each head are multiplied by the logistic function of a score, computed
    /// from the layer's inputs.
    pub head_gate: bool,
    /// True if each head has one further score, without a value, in its softmax.
    pub sinks: bool,
    /// Growth of that scale with the position of the query; `None` if it is the same for all.
    pub temperature: Option<Temperature>,
    /// Layer whose keys and values are used; `None` if the layer has its own.
    pub shared_kv: Option<u32>,
}

/// Growth of the scale of scores with the position of the query: it is multiplied by
/// `1 + growth ln(1 + floor(position / every))`.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Temperature {
    /// Growth with the logarithm.
    pub growth: f32,
    /// Positions that have the same scale.
    pub every: u32,
}

impl Attention {
    /// Placeholder of one head of one element, without anything that is optional.
    pub const EMPTY: Attention = Attention {
        heads: 1,
        kv_heads: 1,
        head_dim: 1,
        fused: false,
        qkv_bias: false,
        out_bias: false,
        qk_norm: false,
        wide_norm: false,
        value_norm: false,
        keys_as_values: false,
        gate: false,
        sub_norm: false,
        rope: None,
        window: None,
        scale: 1.0,
        softcap: None,
        sinks: false,
        head_gate: false,
        temperature: None,
        shared_kv: None,
    };

    /// Elements of the queries of all heads.
    #[must_use]
    pub const fn q_dim(&self) -> usize {
        self.heads as usize * self.head_dim as usize
    }

    /// Rows of the matrix of queries: those of all heads, and as many of gates if there are any.
    #[must_use]
    pub const fn q_rows(&self) -> usize {
        if self.gate { 2 * self.q_dim() } else { self.q_dim() }
    }

    /// Elements of the keys (or the values) of all heads.
    #[must_use]
    pub const fn kv_dim(&self) -> usize {
        self.kv_heads as usize * self.head_dim as usize
    }

    /// Elements that one norm of queries or keys is taken over, which all have `all` together.
    pub(crate) const fn normed(&self, all: usize) -> usize {
        if self.wide_norm { all } else { self.head_dim as usize }
    }

    /// True if the layer computes its own keys and values.
    #[must_use]
    pub const fn has_kv(&self) -> bool {
        self.shared_kv.is_none()
    }

    /// True if the layer has a matrix for its values alone.
    pub(crate) const fn has_values(&self) -> bool {
        !self.fused && self.has_kv() && !self.keys_as_values
    }

    pub(super) fn state(&self) -> LayerState {
        match self.shared_kv {
            Some(layer) => LayerState::SharedKv { layer },
            None => {
                let Attention { kv_heads: heads, head_dim, window, .. } = *self;
                LayerState::Kv { heads, head_dim, window }
            }
        }
    }

    pub(super) fn validate(&self, spec: &Spec<'_>) -> Result<(), SpecError> {
        if self.heads == 0 || self.kv_heads == 0 || !self.heads.is_multiple_of(self.kv_heads) {
            return inconsistent(
                "heads must be a multiple of heads of keys and values, and neither 0",
            );
        }
        if self.head_dim == 0 || self.head_dim as usize > MAX_HEAD_DIM || self.heads > 1 << 14 {
            return inconsistent("a head must have 1 to 512 elements, and heads be at most 2^14");
        }
        if !self.scale.is_finite() {
            return inconsistent("the factor of scores must be finite");
        }
        if self.temperature.is_some_and(|t| !t.growth.is_finite() || t.growth < 0.0 || t.every == 0)
        {
            return inconsistent(
                "the factor of scores must grow by a finite number, with a number of positions",
            );
        }
        if self.softcap.is_some_and(|cap| !cap.is_normal() || cap < 0.0) {
            return inconsistent("a cap of scores must be finite and above 0");
        }
        if self.head_gate && (self.fused || self.wide_norm) {
            return inconsistent("gates of heads beside a fused matrix, or a norm over all heads");
        }
        if self.window == Some(0) {
            return inconsistent("a window must have at least 1 position");
        }
        if self.fused && self.shared_kv.is_some() {
            return inconsistent(
                "a matrix of queries, keys and values in a layer that shares those",
            );
        }
        if self.wide_norm && (!self.qk_norm || self.fused) {
            return inconsistent("a norm over all heads of queries and keys, which have none");
        }
        if self.keys_as_values && (self.fused || self.wide_norm) {
            return inconsistent(
                "keys that are values too, from a matrix of both or with a norm over all heads",
            );
        }
        if self.gate && (self.fused || self.wide_norm || self.head_gate) {
            return inconsistent(
                "gates beside a fused matrix, a norm over all heads, or gates of heads",
            );
        }
        let Some(rope) = self.rope else { return Ok(()) };
        match spec.ropes.get(usize::from(rope)) {
            Some(rope) if rope.dims <= self.head_dim => Ok(()),
            Some(_) => inconsistent("the turned elements of a head must be at most all of it"),
            None => inconsistent("a layer's rotary embedding is not there"),
        }
    }

    /// Projects queries into a new buffer and keys and values into the cache, then attends.
    pub(super) fn build(
        &self,
        b: &mut Builder<'_, '_>,
        layer: &Layer,
        l: u32,
        x: Stream,
    ) -> Result<Mixed, PlanError> {
        let state = b.state(l)?;
        let q = b.buffer(BufferType::F32, RowCount::Batch, self.q_dim())?;
        let norm = (L::AttnNorm, L::AttnNormBias);
        let rope = self.rope.map(|r| (b.rope(r), b.spec.ropes[usize::from(r)].kind));
        let norms = match self.wide_norm {
            true => [None; 2], // taken later
            false => [L::AttnQNorm, L::AttnKNorm].map(|r| b.spec.find(Role::Layer(l, r))),
        };
        let eps = layer.norms.before.eps;
        let gate = match self.gate {
            true => Some(b.buffer(BufferType::F32, RowCount::Batch, self.q_dim())?),
            false => None,
        };
        let project = |b: &Builder<'_, '_>, role: L, x, part| {
            let bias = role.bias().and_then(|r| b.spec.find(Role::Layer(l, r)));
            Op::Project(Project {
                w: b.id(l, role),
                bias,
                x,
                part,
                q,
                gate: gate.filter(|_| part == QkvPart::Query),
                state,
                heads: self.heads as u16,
                kv_heads: self.kv_heads as u16,
                head_dim: self.head_dim as u16,
                q_norm: norms[0],
                k_norm: norms[1],
                value_norm: self.value_norm,
                eps,
                rope: rope.map(|r| r.0),
                rope_kind: rope.map_or(RopeKind::NeoX, |r| r.1),
            })
        };
        let gate_w = b.spec.find(Role::Layer(l, L::AttnHeadGate));
        let mut gate_x = None;
        if self.fused {
            let w = b.id(l, L::AttnQkv);
            let [h] = b.inputs(layer, l, norm, x, [w])?;
            b.op(project(b, L::AttnQkv, h, QkvPart::All))?;
        } else if self.wide_norm {
            let ws = match self.has_kv() {
                true => [L::AttnQ, L::AttnK, L::AttnV],
                false => [L::AttnQ; 3],
            };
            let h = b.inputs(layer, l, norm, x, ws.map(|r| b.id(l, r)))?;
            if self.has_kv() {
                b.op(project(b, L::AttnV, h[2], QkvPart::Value))?;
            }
            self.build_wide(b, (l, eps), [h[0], h[1]], (q, state), rope)?;
        } else if self.has_kv() && self.keys_as_values {
            // What isn't there, here and below, needs no input of its own.
            let [q_w, k_w] = [L::AttnQ, L::AttnK].map(|r| b.id(l, r));
            let h = b.inputs(layer, l, norm, x, [q_w, k_w, gate_w.unwrap_or(k_w)])?;
            b.op(project(b, L::AttnQ, h[0], QkvPart::Query))?;
            b.op(project(b, L::AttnK, h[1], QkvPart::KeyAndValue))?;
            gate_x = Some(h[2]);
        } else if self.has_kv() {
            let [q_w, k_w, v_w] = [L::AttnQ, L::AttnK, L::AttnV].map(|r| b.id(l, r));
            let h = b.inputs(layer, l, norm, x, [q_w, k_w, v_w, gate_w.unwrap_or(v_w)])?;
            gate_x = Some(h[3]);
            b.op(project(b, L::AttnQ, h[0], QkvPart::Query))?;
            b.op(project(b, L::AttnK, h[1], QkvPart::Key))?;
            b.op(project(b, L::AttnV, h[2], QkvPart::Value))?;
        } else {
            let w = b.id(l, L::AttnQ);
            let h = b.inputs(layer, l, norm, x, [w, gate_w.unwrap_or(w)])?;
            b.op(project(b, L::AttnQ, h[0], QkvPart::Query))?;
            gate_x = Some(h[1]);
        }
        let mut head_gate = None;
        if let (Some(_), Some(x)) = (gate_w, gate_x) {
            let out = b.buffer(BufferType::F32, RowCount::Batch, self.heads as usize)?;
            b.linear(l, L::AttnHeadGate, x, None, Output::Store(out))?;
            head_gate = Some(out);
        }
        b.barrier()?;
        let rows = b.rows_after(l);
        let last = if self.sub_norm { BufferType::F32 } else { b.input_type(b.id(l, L::AttnOut)) };
        let kind = if self.gate || head_gate.is_some() { BufferType::F32 } else { last };
        let mut out = b.buffer(kind, rows, self.q_dim())?;
        b.op(Op::Attend(Attend {
            q,
            out,
            state,
            heads: self.heads as u16,
            kv_heads: self.kv_heads as u16,
            head_dim: self.head_dim as u16,
            window: self.window.unwrap_or(0),
            scale: self.scale,
            softcap: self.softcap.unwrap_or(0.0),
            sinks: self.sinks.then(|| b.id(l, L::AttnSinks)),
            growth: self.temperature.map_or(0.0, |t| t.growth),
            every: self.temperature.map_or(0, |t| t.every),
        }))?;
        if let Some(gate) = head_gate {
            b.barrier()?;
            let x = out;
            out = b.buffer(last, rows, self.q_dim())?;
            b.op(Op::ScaleHeads(ScaleHeads { x, gate, out }))?;
        }
        if let Some(gate) = gate {
            b.barrier()?;
            let (x, head_dim) = (out, self.head_dim as u16);
            out = b.buffer(last, rows, self.q_dim())?;
            b.op(Op::GateHeads(GateHeads { x, gate, norm: None, out, head_dim, eps }))?;
        }
        let norm = self.sub_norm.then_some(L::AttnSubNorm);
        Ok(Mixed { out, cols: self.q_dim(), product: L::AttnOut, norm, rows })
    }

    /// Queries and keys with one norm over all heads of a token: the products, the norms, and then
    /// rotation and storage.
    fn build_wide(
        &self,
        b: &mut Builder<'_, '_>,
        (l, eps): (u32, f32),
        inputs: [BufferId; 2],
        (q, state): (BufferId, StateId),
        rope: Option<(BufferId, RopeKind)>,
    ) -> Result<(), PlanError> {
        let all = [
            (QkvPart::Query, L::AttnQ, L::AttnQNorm, self.heads),
            (QkvPart::Key, L::AttnK, L::AttnKNorm, self.kv_heads),
        ];
        let parts = &all[..if self.has_kv() { 2 } else { 1 }];
        let mut outs = inputs;
        for (&(_, w, _, heads), x) in parts.iter().zip(&mut outs) {
            let out =
                b.buffer(BufferType::F32, RowCount::Batch, (heads * self.head_dim) as usize)?;
            b.linear(l, w, *x, None, Output::Store(out))?;
            *x = out;
        }
        b.barrier()?;
        for (&(_, _, weight, heads), x) in parts.iter().zip(&mut outs) {
            let out =
                b.buffer(BufferType::F32, RowCount::Batch, (heads * self.head_dim) as usize)?;
            b.op(Op::Norm(NormOp { x: *x, weight: b.id(l, weight), bias: None, out, eps }))?;
            *x = out;
        }
        b.barrier()?;
        for (&(part, _, _, heads), &x) in parts.iter().zip(&outs) {
            let (heads, head_dim) = (heads as u16, self.head_dim as u16);
            let (rope, rope_kind) = match rope {
                Some((table, kind)) => (Some(table), kind),
                None => (None, RopeKind::NeoX),
            };
            b.op(Op::StoreHeads(StoreHeads {
                x,
                part,
                q,
                state,
                heads,
                head_dim,
                rope,
                rope_kind,
            }))?;
        }
        Ok(())
    }
}
