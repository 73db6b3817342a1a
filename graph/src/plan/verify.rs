//! The proof that a plan is safe to run: everything has the shape it should, nothing reaches
//! outside, and nothing that is needed at the same time shares memory.

use core::fmt;

use super::arena_layout::{Use, meet, phases, readers, uses};
use super::{
    ALIGN, Buffer, BufferId, BufferType, Op, Output, Plan, RowCount, kv_bytes, worker_bytes,
    worker_floats,
};
use crate::{Norm, Positions, Spec, SpecError, TensorId};

/// Why there is no plan, or why it must not run.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum PlanError {
    /// The model itself.
    Spec(SpecError),
    /// Context or batch is zero, or the context longer than the model's.
    Context {
        /// What was asked for.
        context: usize,
        /// What the model was made for.
        model: usize,
        /// The batch asked for.
        batch: usize,
    },
    /// No logits, or more than tokens in a step.
    Logits {
        /// What was asked for.
        logits: usize,
        /// Tokens in a step.
        batch: usize,
    },
    /// The slices that were given for the plan are too short.
    Capacity {
        /// The length of the shorter one.
        capacity: usize,
    },
    /// Sizes are beyond what can be addressed.
    Overflow,
    /// An operation names a buffer, a tensor or a layer that is not there, or that has another
    /// shape or kind than it needs.
    Shape {
        /// The operation's number.
        op: usize,
    },
    /// A buffer reaches beyond the arena or isn't aligned.
    Outside {
        /// Which.
        buffer: u16,
    },
    /// Two buffers that are needed at the same time share memory.
    Overlap {
        /// One.
        a: u16,
        /// The other.
        b: u16,
    },
    /// A buffer is written while another operation of the phase uses it, or read before anything
    /// wrote it, or its lifetime is not what the operations say.
    Hazard {
        /// Which.
        buffer: u16,
    },
    /// The plan states less memory than it uses.
    MemoryRequirements,
}

impl fmt::Display for PlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PlanError::Spec(e) => e.fmt(f),
            PlanError::Context { context, model, batch } => write!(
                f,
                "a context of {context} and a batch of {batch} can't be: both must be at least 1, \
                 and the model was made for a context of {model}"
            ),
            PlanError::Logits { logits, batch } => {
                write!(f, "{logits} rows of logits can't be had from steps of {batch} tokens")
            }
            PlanError::Capacity { capacity } => {
                write!(f, "the plan needs more room than the {capacity} entries given")
            }
            PlanError::Overflow => f.write_str("the model is larger than memory can be"),
            PlanError::Shape { op } => write!(f, "operation {op} of the plan doesn't fit its data"),
            PlanError::Outside { buffer } => {
                write!(f, "buffer {buffer} of the plan is outside the arena")
            }
            PlanError::Overlap { a, b } => write!(f, "buffers {a} and {b} of the plan overlap"),
            PlanError::Hazard { buffer } => {
                write!(f, "buffer {buffer} of the plan is used before or while it is written")
            }
            PlanError::MemoryRequirements => {
                f.write_str("the plan states less memory than it uses")
            }
        }
    }
}

impl core::error::Error for PlanError {}

/// Elements of a head that are turned.
fn rope_dims(spec: &Spec) -> Option<u32> {
    match spec.positions {
        Positions::Rotary(rotary) => Some(rotary.dims),
        Positions::Learned => None,
    }
}

impl Plan<'_> {
    /// Checks everything that running the plan relies on.
    ///
    /// # Errors
    /// [`PlanError`] for the first thing that is wrong.
    pub fn verify(&self) -> Result<(), PlanError> {
        self.spec.validate().map_err(PlanError::Spec)?;
        let o = &self.options;
        if o.batch == 0 || o.context == 0 || o.logits == 0 || o.logits > o.batch {
            return Err(PlanError::Logits { logits: o.logits, batch: o.batch });
        }
        for (i, op) in self.ops.iter().enumerate() {
            self.shape(op).ok_or(PlanError::Shape { op: i })?;
        }
        let at = usize::from(self.logits.0);
        let logits = self.buffers.get(at).ok_or(PlanError::Outside { buffer: self.logits.0 })?;
        if (logits.kind, logits.rows) != (BufferType::F32, RowCount::Wanted)
            || logits.cols != self.spec.vocab
        {
            return Err(PlanError::Shape { op: self.ops.len() });
        }
        self.inside()?;
        self.lifetimes()?;
        self.disjoint()?;
        self.hazards()?;
        self.memory_suffices()
    }

    /// The shapes of one operation.
    fn shape(&self, op: &Op) -> Option<()> {
        let spec = &self.spec;
        let buffer = |b: BufferId| self.buffers.get(usize::from(b.0));
        let f32s = |b: BufferId| buffer(b).filter(|b| b.kind == BufferType::F32);
        let matrix = |t: TensorId| spec.slot(t).filter(|s| !s.vector);
        let vector = |t: TensorId, n: u32| {
            spec.slot(t).filter(|s| s.vector && s.cols == n as usize).map(|_| ())
        };
        let sure = |ok: bool| ok.then_some(());
        // Whether members may write parts of a row: not where all of it shares a scale.
        let parts = |out: &Buffer| !(spec.token_scales && out.kind == BufferType::Wide);
        match *op {
            Op::Barrier => Some(()),
            Op::Embed { table, positions, out } => {
                let (t, out) = (matrix(table)?, f32s(out)?);
                sure(t.rows == spec.vocab as usize && t.cols == out.cols as usize)?;
                if let Some(p) = positions {
                    let p = matrix(p)?;
                    sure(p.cols == out.cols as usize && p.rows >= self.options.context)?;
                }
                sure(out.cols == spec.width && out.rows == RowCount::Batch)
            }
            Op::RopeTable { window: _, out } => {
                let out = f32s(out)?;
                sure(out.rows == RowCount::Batch && rope_dims(spec) == Some(out.cols))
            }
            Op::Norm { x, weight, bias, out } => {
                let (x, out) = (f32s(x)?, buffer(out)?);
                vector(weight, x.cols)?;
                sure(bias.is_some() == (spec.norm == Norm::Layer))?;
                if let Some(bias) = bias {
                    vector(bias, x.cols)?;
                }
                sure(x.cols == out.cols && x.rows == out.rows)
            }
            Op::NormAdd { x, weight, out } => {
                let (x, out) = (f32s(x)?, f32s(out)?);
                vector(weight, x.cols)?;
                sure(x.cols == out.cols && x.rows == out.rows)
            }
            Op::Linear { w, bias, x, act: _, to } => {
                let (w, x) = (matrix(w)?, buffer(x)?);
                sure(w.cols == x.cols as usize)?;
                if let Some(bias) = bias {
                    vector(bias, u32::try_from(w.rows).ok()?)?;
                }
                if let Some((rows, layer, rope)) = to.heads(spec) {
                    sure(u32::from(layer) < spec.layers && w.rows == rows.len())?;
                    if let Output::Qkv { q, .. } | Output::Q { q, .. } = to {
                        let q = f32s(q)?;
                        sure(q.rows == RowCount::Batch && q.cols as usize == spec.q_dim())?;
                    }
                    if let Some(rope) = rope {
                        let rope = f32s(rope)?;
                        sure(rope.rows == RowCount::Batch && rope_dims(spec) == Some(rope.cols))?;
                    }
                    return sure(x.rows == RowCount::Batch);
                }
                let out = match to {
                    Output::Store(b) => buffer(b)?,
                    Output::Add(b) => f32s(b)?,
                    _ => return None,
                };
                sure(w.rows == out.cols as usize && x.rows == out.rows && parts(out))
            }
            Op::Gated { gate, up, gate_bias, up_bias, x, up_x, out } => {
                let out = buffer(out)?;
                sure(parts(out))?;
                for (w, bias, x) in [(gate, gate_bias, x), (up, up_bias, up_x)] {
                    let (w, x) = (matrix(w)?, buffer(x)?);
                    sure(w.cols == x.cols as usize && w.rows == out.cols as usize)?;
                    sure(x.rows == out.rows)?;
                    if let Some(bias) = bias {
                        vector(bias, out.cols)?;
                    }
                }
                Some(())
            }
            Op::Attend { q, layer, out } => {
                let (q, out) = (f32s(q)?, buffer(out)?);
                sure(u32::from(layer) < spec.layers && q.rows == RowCount::Batch)?;
                sure(q.cols as usize == spec.q_dim() && out.cols == q.cols && parts(out))
            }
            Op::SelectRows { x, out } => {
                let (x, out) = (f32s(x)?, f32s(out)?);
                sure(
                    x.cols == out.cols && (x.rows, out.rows) == (RowCount::Batch, RowCount::Wanted),
                )
            }
        }
    }

    fn range(&self, b: &Buffer) -> Option<(usize, usize)> {
        Some((b.offset, b.offset.checked_add(b.bytes(self.max_rows(b.rows))?)?))
    }

    fn inside(&self) -> Result<(), PlanError> {
        for (i, b) in self.buffers.iter().enumerate() {
            let whole = (b.cols as usize).is_multiple_of(b.kind.unit());
            let end = self.range(b).map(|r| r.1);
            if !whole
                || !b.offset.is_multiple_of(ALIGN)
                || end.is_none_or(|e| e > self.memory_requirements.scratch)
            {
                return Err(PlanError::Outside { buffer: i as u16 });
            }
        }
        Ok(())
    }

    /// Stated lifetimes cover every use, and every buffer is written before it is read.
    fn lifetimes(&self) -> Result<(), PlanError> {
        let mut wrong = None;
        for (i, b) in self.buffers.iter().enumerate() {
            let mut written = None;
            phases(&self.ops, |phase, op| {
                uses(op, |id, how| {
                    if usize::from(id.0) != i {
                        return;
                    }
                    let early = how != Use::Write && written.is_none_or(|w| w >= phase);
                    if early || phase < b.born || phase > b.dies {
                        wrong = Some(id.0);
                    }
                    if how == Use::Write && written.is_none() {
                        written = Some(phase);
                    }
                });
            });
        }
        let last = phases(&self.ops, |_, _| {});
        if self.buffer(self.logits).dies != last {
            wrong = Some(self.logits.0);
        }
        wrong.map_or(Ok(()), |buffer| Err(PlanError::Hazard { buffer }))
    }

    fn disjoint(&self) -> Result<(), PlanError> {
        for (i, a) in self.buffers.iter().enumerate() {
            for (j, b) in self.buffers.iter().enumerate().skip(i + 1) {
                if !meet(a, b) {
                    continue;
                }
                let (Some(ra), Some(rb)) = (self.range(a), self.range(b)) else {
                    return Err(PlanError::Overflow);
                };
                let apart = ra.1 <= rb.0 || rb.1 <= ra.0;
                if !apart && !self.takes_over(i, a, j, b) && !self.takes_over(j, b, i, a) {
                    return Err(PlanError::Overlap { a: i as u16, b: j as u16 });
                }
            }
        }
        Ok(())
    }

    /// Whether `b` rightly lies over `a`: born in the phase in which `a` dies, element for
    /// element, by an operation that is the only one to use either there.
    fn takes_over(&self, i: usize, a: &Buffer, j: usize, b: &Buffer) -> bool {
        let (x, out) = (BufferId(i as u16), BufferId(j as u16));
        let mut norm = false;
        phases(&self.ops, |phase, op| {
            norm |= phase == b.born
                && matches!(*op, Op::Norm { x: from, out: to, .. } if from == x && to == out);
        });
        norm && b.over == Some(x)
            && a.dies == b.born
            && a.kind == BufferType::F32
            && (a.offset, a.kind, a.rows, a.cols) == (b.offset, b.kind, b.rows, b.cols)
            && readers(&self.ops, b.born, x) == 1
            && readers(&self.ops, b.born, out) == 1
    }

    /// Within a phase, what one operation writes no other touches; and a layer's cache is not
    /// read in the phase that writes it.
    fn hazards(&self) -> Result<(), PlanError> {
        let mut wrong = None;
        phases(&self.ops, |phase, op| {
            uses(op, |id, how| {
                if how != Use::Read && readers(&self.ops, phase, id) != 1 {
                    wrong = Some(id.0);
                }
            });
            if let Op::Attend { layer, out, .. } = *op {
                let (mut keys, mut values) = (0, 0);
                phases(&self.ops, |p, op| {
                    if let Op::Linear { to, .. } = *op
                        && let Some((_, l, _)) = to.heads(&self.spec)
                        && l == layer
                    {
                        let cached = !matches!(to, Output::Q { .. });
                        if cached && p >= phase {
                            wrong = Some(out.0);
                        }
                        keys += u32::from(matches!(to, Output::Qkv { .. } | Output::K { .. }));
                        values += u32::from(matches!(to, Output::Qkv { .. } | Output::V { .. }));
                    }
                });
                // Two that store at the same time would write over each other.
                if (keys, values) != (1, 1) {
                    wrong = Some(out.0);
                }
            }
        });
        wrong.map_or(Ok(()), |buffer| Err(PlanError::Hazard { buffer }))
    }

    fn memory_suffices(&self) -> Result<(), PlanError> {
        let kv = kv_bytes(&self.spec, &self.options).ok_or(PlanError::Overflow)?;
        let mut floats = 0;
        for op in self.ops.iter() {
            let own = worker_floats(&self.spec, &self.buffers, &self.options, op);
            floats = floats.max(own.ok_or(PlanError::Overflow)?);
        }
        let own = worker_bytes(0, floats).ok_or(PlanError::Overflow)?;
        if self.memory_requirements.kv < kv || self.memory_requirements.per_thread < own {
            return Err(PlanError::MemoryRequirements);
        }
        Ok(())
    }
}
