//! The builder: from a [`Spec`] to the operations of a decoder.

use teff_kernels::{ActKind, Backend, Format};

use super::{
    ALIGN, Buf, BufId, Kind, Needs, Op, Options, Plan, PlanError, Rows, To, kv_bytes,
    member_floats, place,
};
use crate::{LayerRole, List, Role, Spec, TensorId};

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
        Capacity { ops: 16 * spec.layers as usize + 8, bufs: 6 * spec.layers as usize + 8 }
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

    /// A buffer for inputs of matrix `w`, of the kind that its format asks for.
    fn input_of(&mut self, w: TensorId, rows: Rows, cols: usize) -> Result<BufId, PlanError> {
        // What becomes queries and keys goes through softmax, which is steep: with 8 bits, its
        // error would be some two thirds of the model's. (Models with ternary weights are trained
        // with inputs of 8 bits.)
        let fine =
            matches!(self.spec.slot(w).map(|s| s.role), Some(Role::Layer(_, LayerRole::AttnQkv)));
        let kind = match (self.format)(w).acts() {
            ActKind::Dense => Kind::F32,
            ActKind::Q8 if fine => Kind::Q16,
            ActKind::Q8 => Kind::Q8,
            ActKind::Wide => Kind::Wide,
        };
        self.buf(kind, rows, cols)
    }

    /// The pre-norm of a part, into an input of `w`.
    fn norm(
        &mut self,
        x: BufId,
        rows: Rows,
        weight: Role,
        bias: Role,
        w: TensorId,
    ) -> Result<BufId, PlanError> {
        let out = self.input_of(w, rows, self.spec.width as usize)?;
        let (weight, bias) = (self.spec.id(weight), self.spec.id(bias));
        self.op(Op::Norm { x, weight, bias, out })?;
        self.op(Op::Barrier)?;
        Ok(out)
    }

    fn linear(
        &mut self,
        layer: u32,
        (w, bias): (LayerRole, LayerRole),
        x: BufId,
        gelu: bool,
        to: To,
    ) -> Result<(), PlanError> {
        let spec = self.spec;
        let w = spec.id(Role::Layer(layer, w));
        let bias = Some(spec.id(Role::Layer(layer, bias)));
        let act = gelu.then_some(spec.activation);
        self.op(Op::Linear { w, bias, x, act, to })?;
        self.op(Op::Barrier)
    }

    fn decoder(&mut self) -> Result<BufId, PlanError> {
        use LayerRole as L;
        let spec = self.spec;
        let width = spec.width as usize;
        let mut x = self.buf(Kind::F32, Rows::Batch, width)?;
        let table = spec.id(Role::TokenEmbd);
        self.op(Op::Embed { table, positions: Some(spec.id(Role::PositionEmbd)), out: x })?;
        self.op(Op::Barrier)?;
        for l in 0..spec.layers {
            let last = l + 1 == spec.layers;
            let layer = l as u16;
            let id = |role| spec.id(Role::Layer(l, role));
            let role = |role| Role::Layer(l, role);

            let h = self.norm(
                x,
                Rows::Batch,
                role(L::AttnNorm),
                role(L::AttnNormBias),
                id(L::AttnQkv),
            )?;
            let q = self.buf(Kind::F32, Rows::Batch, spec.q_dim())?;
            self.linear(l, (L::AttnQkv, L::AttnQkvBias), h, false, To::Qkv { q, layer })?;

            // Past the last layer's keys and values, only wanted tokens go on.
            let rows = if last { Rows::Wanted } else { Rows::Batch };
            let a = self.input_of(id(L::AttnOut), rows, spec.q_dim())?;
            self.op(Op::Attend { q, layer, out: a })?;
            if last {
                let out = self.buf(Kind::F32, Rows::Wanted, width)?;
                self.op(Op::Take { x, out })?;
                x = out;
            }
            self.op(Op::Barrier)?;
            self.linear(l, (L::AttnOut, L::AttnOutBias), a, false, To::Add(x))?;

            let h = self.norm(x, rows, role(L::FfnNorm), role(L::FfnNormBias), id(L::FfnUp))?;
            let up = self.input_of(id(L::FfnDown), rows, spec.ffn as usize)?;
            self.linear(l, (L::FfnUp, L::FfnUpBias), h, true, To::Store(up))?;
            self.linear(l, (L::FfnDown, L::FfnDownBias), up, false, To::Add(x))?;
        }
        let w = spec.id(Role::Output);
        let h = self.norm(x, Rows::Wanted, Role::OutputNorm, Role::OutputNormBias, w)?;
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
        if let Op::Linear { w, .. } = *op {
            let cols = spec.slot(w).map_or(0, |s| s.cols);
            product = product.max(backend.matmul_scratch(format(w), cols, batch));
        }
        let own = member_floats(spec, bufs, options, op).ok_or(PlanError::Overflow)?;
        floats = floats.max(own);
    }
    let per_thread = product
        .next_multiple_of(ALIGN)
        .checked_add((floats * 4).next_multiple_of(ALIGN))
        .ok_or(PlanError::Overflow)?;
    let needs = Needs { scratch, kv, per_thread };
    let (ops, bufs) = (List::Borrowed(ops), List::Borrowed(&*bufs));
    let plan = Plan { spec: *spec, options: *options, ops, bufs, logits, needs };
    debug_assert_eq!(plan.verify(), Ok(()));
    Ok(plan)
}
