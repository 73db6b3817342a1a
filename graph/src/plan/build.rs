//! The builder: from a [`Spec`] to the operations of a decoder.

use teff_kernels::{ActivationKind, Backend, Format};

use super::{
    Buffer, BufferId, BufferType, MemoryRequirements, Op, Options, Output, Plan, PlanError,
    RowCount, arena_layout, kv_bytes, worker_bytes, worker_floats,
};
use crate::{Activation, LayerRole, List, Positions, Role, Spec, TensorId};

/// Room that a plan takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Capacity {
    /// Operations.
    pub ops: usize,
    /// Buffers.
    pub buffers: usize,
}

impl Capacity {
    /// Room for the plan of any decoder with so many layers.
    #[must_use]
    pub const fn of(spec: &Spec) -> Capacity {
        let layers = spec.layers as usize;
        Capacity { ops: 24 * layers + 10, buffers: 12 * layers + 10 }
    }
}

impl Buffer {
    /// To fill slices with before [`build_into`].
    pub const EMPTY: Buffer = Buffer {
        kind: BufferType::F32,
        rows: RowCount::Batch,
        cols: 0,
        offset: 0,
        born: 0,
        dies: 0,
        over: None,
    };
}

struct Builder<'a, 'p> {
    spec: &'a Spec,
    format: &'a dyn Fn(TensorId) -> Format,
    ops: &'p mut [Op],
    buffers: &'p mut [Buffer],
    n_ops: usize,
    n_buffers: usize,
}

impl Builder<'_, '_> {
    fn op(&mut self, op: Op) -> Result<(), PlanError> {
        let capacity = self.ops.len();
        *self.ops.get_mut(self.n_ops).ok_or(PlanError::Capacity { capacity })? = op;
        self.n_ops += 1;
        Ok(())
    }

    fn buffer(
        &mut self,
        kind: BufferType,
        rows: RowCount,
        cols: usize,
    ) -> Result<BufferId, PlanError> {
        let capacity = self.buffers.len();
        let id = u16::try_from(self.n_buffers).map_err(|_| PlanError::Capacity { capacity })?;
        let slot = self.buffers.get_mut(self.n_buffers).ok_or(PlanError::Capacity { capacity })?;
        *slot = Buffer { kind, rows, cols: cols as u32, ..Buffer::EMPTY };
        self.n_buffers += 1;
        Ok(BufferId(id))
    }

    /// The kind of inputs that matrix `w` asks for.
    fn kind_of(&self, w: TensorId) -> BufferType {
        // What becomes queries and keys goes through softmax, which is steep: with 8 bits, its
        // error would be some two thirds of the model's. (Models with ternary weights are trained
        // with inputs of 8 bits.)
        let fine =
            matches!(self.spec.slot(w).map(|s| s.role), Some(Role::Layer(_, r)) if r.is_qkv());
        match (self.format)(w).activations() {
            ActivationKind::Dense => BufferType::F32,
            ActivationKind::Q8 if fine => BufferType::Q16,
            ActivationKind::Q8 => BufferType::Q8,
            ActivationKind::Wide => BufferType::Wide,
        }
    }

    /// A buffer for inputs of matrix `w`.
    fn input_of(
        &mut self,
        w: TensorId,
        rows: RowCount,
        cols: usize,
    ) -> Result<BufferId, PlanError> {
        self.buffer(self.kind_of(w), rows, cols)
    }

    /// The norm of `x` as inputs of each of the matrices `ws`: one buffer for all that ask for the
    /// same kind.
    fn norm<const N: usize>(
        &mut self,
        (x, cols): (BufferId, usize),
        rows: RowCount,
        (weight, bias): (Role, Option<Role>),
        ws: [TensorId; N],
    ) -> Result<[BufferId; N], PlanError> {
        let (weight, bias) = (self.spec.id(weight), bias.and_then(|b| self.spec.find(b)));
        let mut outs = [x; N];
        for i in 0..N {
            let same = (0..i).find(|&j| self.kind_of(ws[j]) == self.kind_of(ws[i]));
            outs[i] = match same {
                Some(j) => outs[j],
                None => {
                    let out = self.input_of(ws[i], rows, cols)?;
                    self.op(Op::Norm { x, weight, bias, out })?;
                    out
                }
            };
        }
        self.op(Op::Barrier)?;
        Ok(outs)
    }

    fn linear(
        &mut self,
        layer: u32,
        w: LayerRole,
        x: BufferId,
        act: Option<Activation>,
        to: Output,
    ) -> Result<(), PlanError> {
        let find = |role| self.spec.find(Role::Layer(layer, role));
        let bias = w.bias().and_then(find);
        let w = self.spec.id(Role::Layer(layer, w));
        self.op(Op::Linear { w, bias, x, act, to })
    }

    /// A part's last product, added to the residual stream `x`, after a norm where there is one.
    fn residual(
        &mut self,
        layer: u32,
        (w, post): (LayerRole, LayerRole),
        from: BufferId,
        (x, rows): (BufferId, RowCount),
    ) -> Result<(), PlanError> {
        if let Some(weight) = self.spec.find(Role::Layer(layer, post)) {
            let out = self.buffer(BufferType::F32, rows, self.spec.width as usize)?;
            self.linear(layer, w, from, None, Output::Store(out))?;
            self.op(Op::Barrier)?;
            self.op(Op::NormAdd { x: out, weight, out: x })?;
        } else {
            self.linear(layer, w, from, None, Output::Add(x))?;
        }
        self.op(Op::Barrier)
    }

    /// Queries into a new buffer, keys and values into the cache.
    fn qkv(&mut self, l: u32, x: BufferId, rope: Option<BufferId>) -> Result<BufferId, PlanError> {
        use LayerRole as L;
        let (spec, layer) = (self.spec, l as u16);
        let width = spec.width as usize;
        let id = |role| spec.id(Role::Layer(l, role));
        let q = self.buffer(BufferType::F32, RowCount::Batch, spec.q_dim())?;
        let norm = (Role::Layer(l, L::AttnNorm), Some(Role::Layer(l, L::AttnNormBias)));
        if spec.fused_qkv {
            let [h] = self.norm((x, width), RowCount::Batch, norm, [id(L::AttnQkv)])?;
            self.linear(l, L::AttnQkv, h, None, Output::Qkv { q, layer, rope })?;
        } else {
            let ws = [id(L::AttnQ), id(L::AttnK), id(L::AttnV)];
            let h = self.norm((x, width), RowCount::Batch, norm, ws)?;
            self.linear(l, L::AttnQ, h[0], None, Output::Q { q, layer, rope })?;
            self.linear(l, L::AttnK, h[1], None, Output::K { layer, rope })?;
            self.linear(l, L::AttnV, h[2], None, Output::V { layer })?;
        }
        self.op(Op::Barrier)?;
        Ok(q)
    }

    /// The feed-forward part, added to `x`.
    fn ffn(&mut self, l: u32, x: BufferId, rows: RowCount) -> Result<(), PlanError> {
        use LayerRole as L;
        let spec = self.spec;
        let (width, inner) = (spec.width as usize, spec.ffn as usize);
        let id = |role| spec.id(Role::Layer(l, role));
        let find = |role| spec.find(Role::Layer(l, role));
        let norm = (Role::Layer(l, L::FfnNorm), Some(Role::Layer(l, L::FfnNormBias)));
        let down = id(L::FfnDown);
        let kind = if spec.sub_norms { BufferType::F32 } else { self.kind_of(down) };
        let mut out;
        if spec.gated {
            let (gate, up) = (id(L::FfnGate), id(L::FfnUp));
            let [x, up_x] = self.norm((x, width), rows, norm, [gate, up])?;
            out = self.buffer(kind, rows, inner)?;
            let (gate_bias, up_bias) = (find(L::FfnGateBias), find(L::FfnUpBias));
            self.op(Op::Gated { gate, up, gate_bias, up_bias, x, up_x, out })?;
        } else {
            let [h] = self.norm((x, width), rows, norm, [id(L::FfnUp)])?;
            out = self.buffer(kind, rows, inner)?;
            self.linear(l, L::FfnUp, h, Some(spec.activation), Output::Store(out))?;
        }
        self.op(Op::Barrier)?;
        if spec.sub_norms {
            let norm = (Role::Layer(l, L::FfnSubNorm), None);
            [out] = self.norm((out, inner), rows, norm, [down])?;
        }
        self.residual(l, (L::FfnDown, L::FfnPostNorm), out, (x, rows))
    }

    fn decoder(&mut self) -> Result<BufferId, PlanError> {
        use LayerRole as L;
        let spec = self.spec;
        let width = spec.width as usize;
        let mut x = self.buffer(BufferType::F32, RowCount::Batch, width)?;
        let table = spec.id(Role::TokenEmbd);
        self.op(Op::Embed { table, positions: spec.find(Role::PositionEmbd), out: x })?;
        // Angles of layers that see everything, and of those with a window.
        let mut rope = [None; 2];
        if let Positions::Rotary(rotary) = spec.positions {
            for (i, window) in [false, true].into_iter().enumerate() {
                if (0..spec.layers).any(|l| spec.window_of(l).is_some() == window) {
                    let out =
                        self.buffer(BufferType::F32, RowCount::Batch, rotary.dims as usize)?;
                    self.op(Op::RopeTable { window, out })?;
                    rope[i] = Some(out);
                }
            }
        }
        self.op(Op::Barrier)?;
        for l in 0..spec.layers {
            let last = l + 1 == spec.layers;
            let layer = l as u16;
            let q = self.qkv(l, x, rope[usize::from(spec.window_of(l).is_some())])?;

            // Past the last layer's keys and values, only wanted tokens go on.
            let rows = if last { RowCount::Wanted } else { RowCount::Batch };
            let w = spec.id(Role::Layer(l, L::AttnOut));
            let kind = if spec.sub_norms { BufferType::F32 } else { self.kind_of(w) };
            let mut a = self.buffer(kind, rows, spec.q_dim())?;
            self.op(Op::Attend { q, layer, out: a })?;
            if last {
                let out = self.buffer(BufferType::F32, RowCount::Wanted, width)?;
                self.op(Op::SelectRows { x, out })?;
                x = out;
            }
            self.op(Op::Barrier)?;
            if spec.sub_norms {
                let norm = (Role::Layer(l, L::AttnSubNorm), None);
                [a] = self.norm((a, spec.q_dim()), rows, norm, [w])?;
            }
            self.residual(l, (L::AttnOut, L::AttnPostNorm), a, (x, rows))?;
            self.ffn(l, x, rows)?;
        }
        let w = spec.id(Role::Output);
        let norm = (Role::OutputNorm, Some(Role::OutputNormBias));
        let [h] = self.norm((x, width), RowCount::Wanted, norm, [w])?;
        let to = self.buffer(BufferType::F32, RowCount::Wanted, spec.vocab as usize)?;
        self.op(Op::Linear { w, bias: None, x: h, act: None, to: Output::Store(to) })?;
        Ok(to)
    }
}

/// Builds the plan into slices of at least [`Capacity::of`] the model; see [`Plan::build`].
///
/// # Errors
/// [`PlanError`] where options are out of range, slices too short or sizes overflow.
pub fn build_into<'p>(
    spec: &Spec,
    format: &dyn Fn(TensorId) -> Format,
    options: &Options,
    backend: &dyn Backend,
    ops: &'p mut [Op],
    buffers: &'p mut [Buffer],
) -> Result<Plan<'p>, PlanError> {
    spec.validate().map_err(PlanError::Spec)?;
    if spec.tensors() > usize::from(u16::MAX) {
        return Err(PlanError::Overflow);
    }
    let Options { batch, logits, context, .. } = *options;
    if batch == 0 || context == 0 || context > spec.context as usize {
        return Err(PlanError::Context { context, model: spec.context as usize, batch });
    }
    if logits == 0 || logits > batch {
        return Err(PlanError::Logits { logits, batch });
    }
    let mut b = Builder { spec, format, ops, buffers, n_ops: 0, n_buffers: 0 };
    let logits = b.decoder()?;
    let Builder { ops, buffers, n_ops, n_buffers, .. } = b;
    let (ops, buffers) = (&ops[..n_ops], &mut buffers[..n_buffers]);

    arena_layout::lifetimes(ops, buffers, logits);
    let scratch = arena_layout::lay_out(buffers, options).ok_or(PlanError::Overflow)?;
    let kv = kv_bytes(spec, options).ok_or(PlanError::Overflow)?;
    let mut product = 0;
    let mut floats = 0;
    for op in ops {
        for (w, _) in op.products().into_iter().flatten() {
            let cols = spec.slot(w).map_or(0, |s| s.cols);
            product = product.max(backend.matmul_scratch(format(w), cols, batch));
        }
        let own = worker_floats(spec, buffers, options, op).ok_or(PlanError::Overflow)?;
        floats = floats.max(own);
    }
    let per_thread = worker_bytes(product, floats).ok_or(PlanError::Overflow)?;
    let memory_requirements = MemoryRequirements { scratch, kv, per_thread };
    let (ops, buffers) = (List::Borrowed(ops), List::Borrowed(&*buffers));
    let plan = Plan { spec: *spec, options: *options, ops, buffers, logits, memory_requirements };
    debug_assert_eq!(plan.verify(), Ok(()));
    Ok(plan)
}
