//! Plan builder: translates a [`Spec`] into the operations of a decoder.

use teff_kernels::{ActivationKind, Backend, Format};

use super::state::{PAGES, next_offset, of_layer, pool_bytes, state_bytes, table_len};
use super::{
    Buffer, BufferId, BufferType, MemoryRequirements, Options, Outputs, Plan, PlanError, PlanView,
    RowCount, State, StateId, arena_layout, worker_bytes,
};
use crate::layers::{Activation, Layer, Norm};
use crate::ops::{
    ALL_KINDS, Convert, Embed, EndStreams, LayerInputs, Linear, Norm as NormOp, NormAdd, Op,
    Output, RopeTable, SelectRows, StartStreams, StreamProducts,
};
use crate::spec::{LayerRole, MAX_ROPES, PerLayer, Role, TensorKind};
use crate::{List, Spec, TensorId};

/// Number of entries that a plan needs room for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Capacity {
    /// Number of operations.
    pub ops: usize,
    /// Number of buffers.
    pub buffers: usize,
    /// Number of states.
    pub states: usize,
}

impl Capacity {
    /// Room for the plan of any decoder with this number of layers.
    #[must_use]
    pub const fn of(spec: &Spec<'_>) -> Capacity {
        let layers = spec.layers.len() as usize;
        let (mut ops, mut buffers) = (44, 30);
        if spec.per_layer.is_some() {
            (ops, buffers) = (ops + 10, buffers + 4);
        }
        if spec.streams.is_some() {
            (ops, buffers) = (ops + 36, buffers + 20);
        }
        Capacity { ops: ops * layers + 20, buffers: buffers * layers + 18, states: layers }
    }
}

/// Slices that a plan is built in.
#[derive(Debug)]
pub struct PlanRoom<'p> {
    /// Room for the operations.
    pub ops: &'p mut [Op],
    /// Room for the buffers.
    pub buffers: &'p mut [Buffer],
    /// Room for the states.
    pub states: &'p mut [State],
}

/// Residual stream.
#[derive(Clone, Copy)]
pub(crate) struct Stream {
    pub(crate) buffer: BufferId,
    pub(crate) rows: RowCount,
}

pub(crate) struct Builder<'a, 'p> {
    pub(crate) spec: &'a Spec<'a>,
    format: &'a dyn Fn(TensorId) -> Format,
    states: &'a [State],
    ops: &'p mut [Op],
    buffers: &'p mut [Buffer],
    n_ops: usize,
    n_buffers: usize,
    ropes: [Option<BufferId>; MAX_ROPES],
    layer_inputs: Option<BufferId>,
    streams: Option<BufferId>,
}

/// A norm, its weight, and its bias if it is a layer norm.
pub(crate) type NormWeights = (Norm, TensorId, Option<TensorId>);

impl Builder<'_, '_> {
    pub(crate) fn op(&mut self, op: Op) -> Result<(), PlanError> {
        let capacity = self.ops.len();
        *self.ops.get_mut(self.n_ops).ok_or(PlanError::Capacity { capacity })? = op;
        self.n_ops += 1;
        Ok(())
    }

    pub(crate) fn barrier(&mut self) -> Result<(), PlanError> {
        self.op(Op::Barrier)
    }

    pub(crate) fn buffer(
        &mut self,
        kind: BufferType,
        rows: RowCount,
        cols: usize,
    ) -> Result<BufferId, PlanError> {
        let capacity = self.buffers.len();
        let id = BufferId::from_index(self.n_buffers).ok_or(PlanError::Capacity { capacity })?;
        let slot = self.buffers.get_mut(self.n_buffers).ok_or(PlanError::Capacity { capacity })?;
        let cols = u32::try_from(cols).map_err(|_| PlanError::Overflow)?;
        *slot = Buffer { kind, rows, cols, ..Buffer::EMPTY };
        self.n_buffers += 1;
        Ok(id)
    }

    /// State of layer `l`.
    pub(crate) fn state(&self, l: u32) -> Result<StateId, PlanError> {
        of_layer(self.spec, self.states, l).ok_or(PlanError::Overflow)
    }

    /// Table of cosines and sines of a rotary embedding.
    pub(crate) fn rope(&self, rope: u8) -> BufferId {
        match self.ropes[usize::from(rope)] {
            Some(table) => table,
            None => unreachable!("the decoder makes the tables that its layers use"),
        }
    }

    /// Inputs of all layers.
    pub(crate) fn layer_inputs(&self) -> BufferId {
        match self.layer_inputs {
            Some(inputs) => inputs,
            None => unreachable!("the decoder computes the inputs of its layers"),
        }
    }

    /// All residual streams, if there are several.
    pub(crate) fn streams(&self) -> BufferId {
        match self.streams {
            Some(streams) => streams,
            None => unreachable!("the decoder makes the streams of its layers"),
        }
    }

    /// Sets what the next layer begins with.
    pub(crate) fn set_streams(&mut self, streams: BufferId) {
        self.streams = Some(streams);
    }

    /// Number of a layer's tensor.
    pub(crate) fn id(&self, l: u32, role: LayerRole) -> TensorId {
        self.spec.id(Role::Layer(l, role))
    }

    /// Rows that are still needed after the mixer of layer `l`.
    pub(crate) fn rows_after(&self, l: u32) -> RowCount {
        if l + 1 == self.spec.layers.len() { RowCount::Wanted } else { RowCount::Batch }
    }

    /// Inputs of a part of layer `l` for each of the matrices `ws`: the norm of `x` if the layer has
    /// one before its parts, else `x` itself in the types that the matrices need.
    pub(crate) fn inputs<const N: usize>(
        &mut self,
        layer: &Layer,
        l: u32,
        (weight, bias): (LayerRole, LayerRole),
        x: Stream,
        ws: [TensorId; N],
    ) -> Result<[BufferId; N], PlanError> {
        if layer.norms.pre {
            let bias = self.spec.find(Role::Layer(l, bias));
            let norm = (layer.norms.before, self.id(l, weight), bias);
            return self.norm((x.buffer, self.spec.width as usize), x.rows, norm, ws);
        }
        self.converted(x, ws)
    }

    /// The stream as inputs of each of the matrices `ws`, in the types that they need.
    pub(crate) fn converted<const N: usize>(
        &mut self,
        x: Stream,
        ws: [TensorId; N],
    ) -> Result<[BufferId; N], PlanError> {
        let mut outs = [x.buffer; N];
        let mut converted = false;
        for i in 0..N {
            let kind = self.input_type(ws[i]);
            if kind == BufferType::F32 {
                continue; // the stream is f32
            }
            outs[i] = match (0..i).find(|&j| self.input_type(ws[j]) == kind) {
                Some(j) => outs[j],
                None => {
                    let out = self.buffer(kind, x.rows, self.spec.width as usize)?;
                    self.op(Op::Convert(Convert { x: x.buffer, first: 0, out }))?;
                    converted = true;
                    out
                }
            };
        }
        if converted {
            self.barrier()?;
        }
        Ok(outs)
    }

    /// Type of inputs that matrix `w` needs.
    pub(crate) fn input_type(&self, w: TensorId) -> BufferType {
        // Queries and keys go through softmax, which is steep: with 8 bits, its error would be
        // about two thirds of the model's. (Models with ternary weights are trained with 8-bit
        // inputs.)
        let fine = self.spec.slot(w).is_some_and(|s| match s.role {
            Role::Layer(l, LayerRole::ConvIn) => self.spec.layers.get(l).mixer.has_fine_inputs(),
            _ => s.kind == TensorKind::Qkv,
        });
        match (self.format)(w).activations() {
            ActivationKind::Dense => BufferType::F32,
            ActivationKind::Q8 if fine => BufferType::Q16,
            ActivationKind::Q8 => BufferType::Q8,
            ActivationKind::Wide if self.spec.token_scales => BufferType::WideRow,
            ActivationKind::Wide => BufferType::Wide,
        }
    }

    /// Norm of `x` as inputs of each of the matrices `ws`, with one buffer for all matrices that
    /// need the same type.
    pub(crate) fn norm<const N: usize>(
        &mut self,
        x: (BufferId, usize),
        rows: RowCount,
        norm: NormWeights,
        ws: [TensorId; N],
    ) -> Result<[BufferId; N], PlanError> {
        let outs = self.normed(x, rows, norm, ws)?;
        self.barrier()?;
        Ok(outs)
    }

    /// As [`Self::norm`], to be used after a barrier.
    pub(crate) fn normed<const N: usize>(
        &mut self,
        (x, cols): (BufferId, usize),
        rows: RowCount,
        (norm, weight, bias): NormWeights,
        ws: [TensorId; N],
    ) -> Result<[BufferId; N], PlanError> {
        let mut outs = [x; N];
        for i in 0..N {
            let same = (0..i).find(|&j| self.input_type(ws[j]) == self.input_type(ws[i]));
            outs[i] = match same {
                Some(j) => outs[j],
                None => {
                    let out = self.buffer(self.input_type(ws[i]), rows, cols)?;
                    self.op(Op::Norm(NormOp { x, weight, bias, out, eps: norm.eps }))?;
                    out
                }
            };
        }
        Ok(outs)
    }

    /// Product of a layer, with its bias if it has one.
    pub(crate) fn linear(
        &mut self,
        l: u32,
        w: LayerRole,
        x: BufferId,
        act: Option<Activation>,
        to: Output,
    ) -> Result<(), PlanError> {
        let bias = w.bias().and_then(|role| self.spec.find(Role::Layer(l, role)));
        let w = self.id(l, w);
        self.op(Op::Linear(Linear { w, bias, x, act, to, scale: 1.0, cap: None }))
    }

    /// Last product of a part, added to the residual stream `x`, after a norm if the layer has one.
    pub(crate) fn residual(
        &mut self,
        layer: &Layer,
        l: u32,
        (w, post): (LayerRole, LayerRole),
        from: BufferId,
        x: Stream,
    ) -> Result<(), PlanError> {
        let bias = w.bias().and_then(|role| self.spec.find(Role::Layer(l, role)));
        let w = self.id(l, w);
        self.residual_by(layer, l, post, x, |to, scale| {
            Op::Linear(Linear { w, bias, x: from, act: None, to, scale, cap: None })
        })
    }

    /// As [`Self::residual`], for any operation that stores or adds its outputs.
    pub(crate) fn residual_by(
        &mut self,
        layer: &Layer,
        l: u32,
        post: LayerRole,
        x: Stream,
        op: impl FnOnce(Output, f32) -> Op,
    ) -> Result<(), PlanError> {
        if self.spec.find(Role::Layer(l, post)).is_some() {
            let out = self.buffer(BufferType::F32, x.rows, self.spec.width as usize)?;
            self.op(op(Output::Store(out), 1.0))?;
            self.barrier()?;
            return self.add_normed(layer, l, post, out, x);
        }
        self.op(op(Output::Add(x.buffer), layer.scales.residual))?;
        self.barrier()
    }

    /// Outputs of a part, added to the residual stream `x` after a norm.
    pub(crate) fn add_normed(
        &mut self,
        layer: &Layer,
        l: u32,
        post: LayerRole,
        from: BufferId,
        x: Stream,
    ) -> Result<(), PlanError> {
        let (weight, eps) = (self.id(l, post), layer.norms.before.eps);
        let last = layer.scales.output && post == layer.last_norm();
        let then = last.then(|| self.id(l, LayerRole::LayerScale));
        let (scale, out) = (layer.scales.residual, x.buffer);
        self.op(Op::NormAdd(NormAdd { x: from, weight, out, eps, scale, then }))?;
        self.barrier()
    }

    /// Rows of the residual stream whose outputs are wanted.
    pub(crate) fn select_rows(&mut self, x: Stream) -> Result<Stream, PlanError> {
        let buffer = self.selected(x.buffer, self.spec.width as usize)?;
        Ok(Stream { buffer, rows: RowCount::Wanted })
    }

    /// Rows of a buffer of f32 whose outputs are wanted.
    pub(crate) fn selected(&mut self, x: BufferId, cols: usize) -> Result<BufferId, PlanError> {
        let out = self.buffer(BufferType::F32, RowCount::Wanted, cols)?;
        self.op(Op::SelectRows(SelectRows { x, out }))?;
        Ok(out)
    }

    /// Builds the decoder and returns the buffers of its logits and of its hidden states.
    fn decoder(
        &mut self,
        outputs: Outputs,
        context: usize,
    ) -> Result<(Option<BufferId>, Option<BufferId>), PlanError> {
        let spec = self.spec;
        let width = spec.width as usize;
        let out = self.buffer(BufferType::F32, RowCount::Batch, width)?;
        let (table, positions) = (spec.id(Role::TokenEmbd), spec.find(Role::PositionEmbd));
        self.op(Op::Embed(Embed { table, positions, out, scale: spec.embed.scale }))?;
        for (i, rope) in spec.ropes.iter().enumerate() {
            let used = |l: &Layer| l.attention().is_some_and(|a| a.rope == Some(i as u8));
            if spec.layers.iter().any(used) {
                let table = self.buffer(BufferType::F32, RowCount::Batch, rope.dims as usize)?;
                let factors = rope.scaling.factors(context).and_then(|role| spec.find(role));
                self.op(Op::RopeTable(RopeTable { rope: i as u8, factors, out: table }))?;
                self.ropes[i] = Some(table);
            }
        }
        self.barrier()?;
        let mut x = Stream { buffer: out, rows: RowCount::Batch };
        if let Some(per_layer) = spec.per_layer {
            self.layer_inputs = Some(self.inputs_of_layers(per_layer, x)?);
        }
        if let Some(n) = spec.streams {
            x = self.start_streams(n, x)?;
        }
        for l in 0..spec.layers.len() {
            x = spec.layers.get(l).build(self, l, x)?;
        }
        if let Some(n) = spec.streams {
            x = self.end_streams(n, x)?;
        }
        let w = spec.id(Role::Output);
        let bias = spec.find(Role::OutputNormBias);
        let weight = spec.id(Role::OutputNorm);
        let mut hidden = None;
        if outputs.hidden() {
            let out = self.buffer(BufferType::F32, RowCount::Wanted, width)?;
            self.op(Op::Norm(NormOp { x: x.buffer, weight, bias, out, eps: spec.norm.eps }))?;
            hidden = Some(out);
        }
        if !outputs.logits() {
            return Ok((None, hidden));
        }
        let h = match hidden {
            Some(h) if self.input_type(w) == BufferType::F32 => {
                self.barrier()?;
                h
            }
            _ => {
                let norm = (spec.norm, weight, bias);
                let [h] = self.norm((x.buffer, width), RowCount::Wanted, norm, [w])?;
                h
            }
        };
        let to = self.buffer(BufferType::F32, RowCount::Wanted, spec.vocab as usize)?;
        let to_logits = Output::Store(to);
        let (scale, cap) = (1.0 / spec.logit_divisor, spec.logit_cap);
        let act = None;
        self.op(Op::Linear(Linear { w, bias: None, x: h, act, to: to_logits, scale, cap }))?;
        Ok((Some(to), hidden))
    }

    /// Makes all residual streams from the embedding `x`, and returns the one that layers work on.
    fn start_streams(&mut self, n: u32, x: Stream) -> Result<Stream, PlanError> {
        let (width, n) = (self.spec.width as usize, n as usize);
        let w = self.spec.id(Role::StreamProj);
        let [from] = self.converted(x, [w])?;
        let y = self.buffer(BufferType::F32, x.rows, (n - 1) * width)?;
        let (stack, each) = (n as u16 - 1, false);
        self.op(Op::StreamProducts(StreamProducts { w, x: from, out: y, stack, each }))?;
        self.barrier()?;
        let out = self.buffer(BufferType::F32, x.rows, n * width)?;
        let active_out = self.buffer(BufferType::F32, x.rows, width)?;
        let active = self.spec.layers.get(0).streams.map_or(0, |s| s.active) as u8;
        self.op(Op::StartStreams(StartStreams { x: x.buffer, y, out, active_out, active }))?;
        self.barrier()?;
        self.streams = Some(out);
        Ok(Stream { buffer: active_out, rows: x.rows })
    }

    /// The mean of all residual streams.
    fn end_streams(&mut self, n: u32, x: Stream) -> Result<Stream, PlanError> {
        let (width, n) = (self.spec.width as usize, n as usize);
        let (w, all) = (self.spec.id(Role::StreamUnembd), self.streams());
        let from = self.buffer(self.input_type(w), x.rows, (n - 1) * width)?;
        self.op(Op::Convert(Convert { x: all, first: width as u32, out: from }))?;
        self.barrier()?;
        let y = self.buffer(BufferType::F32, x.rows, (n - 1) * width)?;
        let (stack, each) = (n as u16 - 1, true);
        self.op(Op::StreamProducts(StreamProducts { w, x: from, out: y, stack, each }))?;
        self.barrier()?;
        let out = self.buffer(BufferType::F32, x.rows, width)?;
        self.op(Op::EndStreams(EndStreams { x: all, y, out }))?;
        self.barrier()?;
        Ok(Stream { buffer: out, rows: x.rows })
    }

    /// Computes the inputs of all layers from the embedding `x`.
    fn inputs_of_layers(&mut self, of: PerLayer, x: Stream) -> Result<BufferId, PlanError> {
        let spec = self.spec;
        let all = of.width as usize * spec.layers.len() as usize;
        let w = spec.id(Role::PerLayerProj);
        let [from] = self.converted(x, [w])?;
        let products = self.buffer(BufferType::F32, RowCount::Batch, all)?;
        let (to, root) = (Output::Store(products), |n| libm::sqrt(f64::from(n)));
        let scale = (1.0 / root(spec.width)) as f32;
        self.op(Op::Linear(Linear { w, bias: None, x: from, act: None, to, scale, cap: None }))?;
        self.barrier()?;
        let out = self.buffer(BufferType::F32, RowCount::Batch, all)?;
        self.op(Op::LayerInputs(LayerInputs {
            x: products,
            weight: spec.id(Role::PerLayerNorm),
            table: spec.id(Role::PerLayerEmbd),
            out,
            eps: spec.norm.eps,
            scale: root(of.width) as f32,
        }))?;
        self.barrier()?;
        Ok(out)
    }
}

/// Lays out the states of all layers and returns their number, or an error if sizes overflow.
fn lay_out_states(
    spec: &Spec<'_>,
    options: &Options,
    states: &mut [State],
) -> Result<usize, PlanError> {
    let capacity = states.len();
    let mut n = 0;
    for l in 0..spec.layers.len() {
        use crate::layers::LayerState as S;
        if matches!(spec.layers.get(l).state(spec.width), S::None | S::SharedKv { .. }) {
            continue;
        }
        let kind = State::of(spec, options, l).ok_or(PlanError::Overflow)?;
        let offset = next_offset(&states[..n], kind, options).ok_or(PlanError::Overflow)?;
        let slot = states.get_mut(n).ok_or(PlanError::Capacity { capacity })?;
        *slot = State { layer: l as u16, kind, offset };
        n += 1;
    }
    Ok(n)
}

/// Builds the plan into slices of at least [`Capacity::of`] the model. See [`Plan::build`].
///
/// # Errors
/// [`PlanError`] if options are out of range, slices too short or sizes overflow.
pub fn build_into<'p>(
    spec: &'p Spec<'_>,
    format: &dyn Fn(TensorId) -> Format,
    options: &Options,
    backend: &dyn Backend,
    room: PlanRoom<'p>,
) -> Result<Plan<'p>, PlanError> {
    spec.validate().map_err(PlanError::Spec)?;
    if spec.tensors() >= usize::from(u16::MAX) {
        return Err(PlanError::Overflow);
    }
    let Options { batch, logits, context, outputs, pages, .. } = *options;
    if batch == 0 || context == 0 || context > spec.context as usize {
        return Err(PlanError::Context { context, model: spec.context as usize, batch });
    }
    if logits == 0 || logits > batch {
        return Err(PlanError::Logits { logits, batch });
    }
    let needed = table_len(options);
    if pages < needed || u32::try_from(pages).is_err() || (pages > 0 && !PAGES) {
        return Err(PlanError::Pages { pages, needed });
    }
    let n_states = lay_out_states(spec, options, room.states)?;
    let states = &room.states[..n_states];
    let (ops, buffers) = (room.ops, room.buffers);
    let (n_ops, n_buffers, ropes) = (0, 0, [None; MAX_ROPES]);
    let (layer_inputs, streams) = (None, None);
    let mut b = Builder {
        spec,
        format,
        states,
        ops,
        buffers,
        n_ops,
        n_buffers,
        ropes,
        layer_inputs,
        streams,
    };
    let (logits, hidden) = b.decoder(outputs, context)?;
    let Builder { ops, buffers, n_ops, n_buffers, .. } = b;
    let (ops, buffers) = (&ops[..n_ops], &mut buffers[..n_buffers]);
    if let Some(i) = buffers.iter().position(|b| !b.is_whole()) {
        return Err(PlanError::Outside { buffer: i as u16 });
    }

    arena_layout::lifetimes(ops, buffers, [logits, hidden].into_iter().flatten());
    let scratch = arena_layout::arena_layout(buffers, options).ok_or(PlanError::Overflow)?;
    let buffers = &*buffers;
    let state = state_bytes(states, options).ok_or(PlanError::Overflow)?;
    let pool = pool_bytes(states, options).ok_or(PlanError::Overflow)?;
    let ropes = &spec.ropes;
    let view = PlanView { spec, options, ops, buffers, states, ropes };
    let mut product = 0;
    let mut floats = 0;
    for (i, op) in ops.iter().enumerate() {
        // Fails where rows are no whole blocks of the formats.
        op.check::<ALL_KINDS>(&view).ok_or(PlanError::Shape { op: i })?;
        op.products(&mut |w, _| {
            let cols = spec.slot(w).map_or(0, |s| s.cols);
            product = product.max(backend.matmul_scratch(format(w), cols, batch));
        });
        floats = floats.max(op.scratch::<ALL_KINDS>(&view).ok_or(PlanError::Overflow)?);
    }
    let per_thread = worker_bytes(product, floats).ok_or(PlanError::Overflow)?;
    let memory_requirements = MemoryRequirements { scratch, state, pool, per_thread };
    let (ops, buffers, states) =
        (List::Borrowed(ops), List::Borrowed(buffers), List::Borrowed(states));
    let (spec, ropes) = (spec.borrowed(), spec.ropes.borrowed());
    let options = *options;
    let plan =
        Plan { spec, options, ops, buffers, states, ropes, logits, hidden, memory_requirements };
    debug_assert_eq!(plan.verify(), Ok(()));
    Ok(plan)
}
