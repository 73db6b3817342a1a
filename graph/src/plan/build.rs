//! The builder: from a [`Spec`] to the operations of a decoder.

use teff_kernels::{ActivationKind, Backend, Format};

use super::{
    Buf, BufId, Kind, Needs, Op, Options, Plan, PlanError, Rows, To, kv_bytes, member_bytes,
    member_floats, place,
};
use crate::{Activation, LayerRole, List, Positions, Role, Spec, TensorId};

/// Room that a plan takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Capacity {
    /// Operations.
    pub ops: usize,
    /// Buffers.
    pub bufs: usize,
}

impl Capacity {
    /// Room for the plan of any decoder with so many layers.
    #[must_use]
    pub const fn of(spec: &Spec) -> Capacity {
        let layers = spec.layers as usize;
        Capacity { ops: 24 * layers + 10, bufs: 12 * layers + 10 }
    }
}

impl Buf {
    /// To fill slices with before [`build_into`].
    pub const EMPTY: Buf = Buf {
        kind: Kind::F32,
        rows: Rows::Batch,
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
    bufs: &'p mut [Buf],
    n_ops: usize,
    n_bufs: usize,
}

impl Builder<'_, '_> {
    fn op(&mut self, op: Op) -> Result<(), PlanError> {
        let capacity = self.ops.len();
        *self.ops.get_mut(self.n_ops).ok_or(PlanError::Capacity { capacity })? = op;
        self.n_ops += 1;
        Ok(())
    }

    fn buf(&mut self, kind: Kind, rows: Rows, cols: usize) -> Result<BufId, PlanError> {
        let capacity = self.bufs.len();
        let id = u16::try_from(self.n_bufs).map_err(|_| PlanError::Capacity { capacity })?;
        let slot = self.bufs.get_mut(self.n_bufs).ok_or(PlanError::Capacity { capacity })?;
        *slot = Buf { kind, rows, cols: cols as u32, ..Buf::EMPTY };
        self.n_bufs += 1;
        Ok(BufId(id))
    }

    /// The kind of inputs that matrix `w` asks for.
    fn kind_of(&self, w: TensorId) -> Kind {
        // What becomes queries and keys goes through softmax, which is steep: with 8 bits, its
        // error would be some two thirds of the model's. (Models with ternary weights are trained
        // with inputs of 8 bits.)
        let fine =
            matches!(self.spec.slot(w).map(|s| s.role), Some(Role::Layer(_, r)) if r.is_qkv());
        match (self.format)(w).activations() {
            ActivationKind::Dense => Kind::F32,
            ActivationKind::Q8 if fine => Kind::Q16,
            ActivationKind::Q8 => Kind::Q8,
            ActivationKind::Wide => Kind::Wide,
        }
    }

    /// A buffer for inputs of matrix `w`.
    fn input_of(&mut self, w: TensorId, rows: Rows, cols: usize) -> Result<BufId, PlanError> {
        self.buf(self.kind_of(w), rows, cols)
    }

    /// The norm of `x` as inputs of each of the matrices `ws`: one buffer for all that ask for the
    /// same kind.
    fn norm<const N: usize>(
        &mut self,
        (x, cols): (BufId, usize),
        rows: Rows,
        (weight, bias): (Role, Option<Role>),
        ws: [TensorId; N],
    ) -> Result<[BufId; N], PlanError> {
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
        x: BufId,
        act: Option<Activation>,
        to: To,
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
        from: BufId,
        (x, rows): (BufId, Rows),
    ) -> Result<(), PlanError> {
        if let Some(weight) = self.spec.find(Role::Layer(layer, post)) {
            let out = self.buf(Kind::F32, rows, self.spec.width as usize)?;
            self.linear(layer, w, from, None, To::Store(out))?;
            self.op(Op::Barrier)?;
            self.op(Op::NormAdd { x: out, weight, out: x })?;
        } else {
            self.linear(layer, w, from, None, To::Add(x))?;
        }
        self.op(Op::Barrier)
    }

    /// Queries into a new buffer, keys and values into the cache.
    fn qkv(&mut self, l: u32, x: BufId, angles: Option<BufId>) -> Result<BufId, PlanError> {
        use LayerRole as L;
        let (spec, layer) = (self.spec, l as u16);
        let width = spec.width as usize;
        let id = |role| spec.id(Role::Layer(l, role));
        let q = self.buf(Kind::F32, Rows::Batch, spec.q_dim())?;
        let norm = (Role::Layer(l, L::AttnNorm), Some(Role::Layer(l, L::AttnNormBias)));
        if spec.fused_qkv {
            let [h] = self.norm((x, width), Rows::Batch, norm, [id(L::AttnQkv)])?;
            self.linear(l, L::AttnQkv, h, None, To::Qkv { q, layer, angles })?;
        } else {
            let ws = [id(L::AttnQ), id(L::AttnK), id(L::AttnV)];
            let h = self.norm((x, width), Rows::Batch, norm, ws)?;
            self.linear(l, L::AttnQ, h[0], None, To::Q { q, layer, angles })?;
            self.linear(l, L::AttnK, h[1], None, To::K { layer, angles })?;
            self.linear(l, L::AttnV, h[2], None, To::V { layer })?;
        }
        self.op(Op::Barrier)?;
        Ok(q)
    }

    /// The feed-forward part, added to `x`.
    fn ffn(&mut self, l: u32, x: BufId, rows: Rows) -> Result<(), PlanError> {
        use LayerRole as L;
        let spec = self.spec;
        let (width, inner) = (spec.width as usize, spec.ffn as usize);
        let id = |role| spec.id(Role::Layer(l, role));
        let find = |role| spec.find(Role::Layer(l, role));
        let norm = (Role::Layer(l, L::FfnNorm), Some(Role::Layer(l, L::FfnNormBias)));
        let down = id(L::FfnDown);
        let kind = if spec.sub_norms { Kind::F32 } else { self.kind_of(down) };
        let mut out;
        if spec.gated {
            let (gate, up) = (id(L::FfnGate), id(L::FfnUp));
            let [x, up_x] = self.norm((x, width), rows, norm, [gate, up])?;
            out = self.buf(kind, rows, inner)?;
            let (gate_bias, up_bias) = (find(L::FfnGateBias), find(L::FfnUpBias));
            self.op(Op::Gated { gate, up, gate_bias, up_bias, x, up_x, out })?;
        } else {
            let [h] = self.norm((x, width), rows, norm, [id(L::FfnUp)])?;
            out = self.buf(kind, rows, inner)?;
            self.linear(l, L::FfnUp, h, Some(spec.activation), To::Store(out))?;
        }
        self.op(Op::Barrier)?;
        if spec.sub_norms {
            let norm = (Role::Layer(l, L::FfnSubNorm), None);
            [out] = self.norm((out, inner), rows, norm, [down])?;
        }
        self.residual(l, (L::FfnDown, L::FfnPostNorm), out, (x, rows))
    }

    fn decoder(&mut self) -> Result<BufId, PlanError> {
        use LayerRole as L;
        let spec = self.spec;
        let width = spec.width as usize;
        let mut x = self.buf(Kind::F32, Rows::Batch, width)?;
        let table = spec.id(Role::TokenEmbd);
        self.op(Op::Embed { table, positions: spec.find(Role::PositionEmbd), out: x })?;
        // Angles of layers that see everything, and of those with a window.
        let mut angles = [None; 2];
        if let Positions::Rotary(rotary) = spec.positions {
            for (i, window) in [false, true].into_iter().enumerate() {
                if (0..spec.layers).any(|l| spec.window_of(l).is_some() == window) {
                    let out = self.buf(Kind::F32, Rows::Batch, rotary.dims as usize)?;
                    self.op(Op::Angles { window, out })?;
                    angles[i] = Some(out);
                }
            }
        }
        self.op(Op::Barrier)?;
        for l in 0..spec.layers {
            let last = l + 1 == spec.layers;
            let layer = l as u16;
            let q = self.qkv(l, x, angles[usize::from(spec.window_of(l).is_some())])?;

            // Past the last layer's keys and values, only wanted tokens go on.
            let rows = if last { Rows::Wanted } else { Rows::Batch };
            let w = spec.id(Role::Layer(l, L::AttnOut));
            let kind = if spec.sub_norms { Kind::F32 } else { self.kind_of(w) };
            let mut a = self.buf(kind, rows, spec.q_dim())?;
            self.op(Op::Attend { q, layer, out: a })?;
            if last {
                let out = self.buf(Kind::F32, Rows::Wanted, width)?;
                self.op(Op::Take { x, out })?;
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
        let [h] = self.norm((x, width), Rows::Wanted, norm, [w])?;
        let to = self.buf(Kind::F32, Rows::Wanted, spec.vocab as usize)?;
        self.op(Op::Linear { w, bias: None, x: h, act: None, to: To::Store(to) })?;
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
    bufs: &'p mut [Buf],
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
    let mut b = Builder { spec, format, ops, bufs, n_ops: 0, n_bufs: 0 };
    let logits = b.decoder()?;
    let Builder { ops, bufs, n_ops, n_bufs, .. } = b;
    let (ops, bufs) = (&ops[..n_ops], &mut bufs[..n_bufs]);

    place::lifetimes(ops, bufs, logits);
    let scratch = place::place(bufs, options).ok_or(PlanError::Overflow)?;
    let kv = kv_bytes(spec, options).ok_or(PlanError::Overflow)?;
    let mut product = 0;
    let mut floats = 0;
    for op in ops {
        for (w, _) in op.products().into_iter().flatten() {
            let cols = spec.slot(w).map_or(0, |s| s.cols);
            product = product.max(backend.matmul_scratch(format(w), cols, batch));
        }
        let own = member_floats(spec, bufs, options, op).ok_or(PlanError::Overflow)?;
        floats = floats.max(own);
    }
    let per_thread = member_bytes(product, floats).ok_or(PlanError::Overflow)?;
    let needs = Needs { scratch, kv, per_thread };
    let (ops, bufs) = (List::Borrowed(ops), List::Borrowed(&*bufs));
    let plan = Plan { spec: *spec, options: *options, ops, bufs, logits, needs };
    debug_assert_eq!(plan.verify(), Ok(()));
    Ok(plan)
}
