//! Verification that a plan is safe to run: every shape is right, nothing is out of bounds, and
//! nothing that is live at the same time shares memory.

use core::fmt;

use teff_kernels::KV_BLOCK;

use super::arena_layout::{meet, phases, readers};
use super::{
    ALIGN, Buffer, BufferId, BufferType, Options, PAGES, Plan, RowCount, State, StateId, StateKind,
    next_offset, pool_bytes, state_bytes, worker_bytes,
};
use crate::layers::LayerState;
use crate::ops::{ALL_KINDS, Access, Op, StateAccess};
use crate::spec::Slot;
use crate::{Rope, Spec, SpecError, TensorId};

/// Error of building or verifying a plan.
#[derive(Clone, Copy, PartialEq, Debug)]
#[non_exhaustive]
pub enum PlanError {
    /// The model itself is invalid.
    Spec(SpecError),
    /// Context or batch is zero, or the context is longer than the model's.
    Context {
        /// Requested context.
        context: usize,
        /// Context of the model.
        model: usize,
        /// Requested batch.
        batch: usize,
    },
    /// Outputs of no tokens, or of more tokens than are in a step.
    Logits {
        /// Requested rows of outputs.
        logits: usize,
        /// Tokens in a step.
        batch: usize,
    },
    /// The slices given for the plan are too short, or it has more buffers than have numbers.
    Capacity {
        /// Length of the slice that is too short, or how many have numbers.
        capacity: usize,
    },
    /// Sizes exceed the address space.
    Overflow,
    /// An operation refers to a buffer, a tensor or a state that does not exist or has the wrong
    /// shape or kind.
    Shape {
        /// Number of the operation.
        op: usize,
    },
    /// A buffer extends beyond the arena or is not aligned.
    Outside {
        /// Number of the buffer.
        buffer: u16,
    },
    /// Two buffers that are live at the same time share memory.
    Overlap {
        /// Number of the first buffer.
        a: u16,
        /// Number of the second buffer.
        b: u16,
    },
    /// Fewer pages than one sequence of the context needs, or more than can be numbered.
    Pages {
        /// Pages of the options.
        pages: usize,
        /// Pages of one sequence.
        needed: usize,
    },
    /// A buffer is written while another operation of the phase uses it, is read before it is
    /// written, or has a lifetime that disagrees with the operations.
    Hazard {
        /// Number of the buffer.
        buffer: u16,
    },
    /// A state is not the one that its layer needs, overlaps another, is written by two operations
    /// or by none, or is read before it is written.
    State {
        /// Number of the state.
        state: u16,
    },
    /// The plan declares less memory than it uses.
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
            PlanError::Pages { pages, needed } => write!(
                f,
                "{pages} pages can't be: one sequence of the context needs {needed}, and there can be \
                 {} at most",
                u32::MAX
            ),
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
            PlanError::State { state } => {
                write!(
                    f,
                    "state {state} of the plan is not what its layer needs, or its use is wrong"
                )
            }
            PlanError::MemoryRequirements => {
                f.write_str("the plan states less memory than it uses")
            }
        }
    }
}

impl core::error::Error for PlanError {}

/// View of a plan for the checks of an operation.
#[derive(Clone, Copy)]
pub(crate) struct PlanView<'a> {
    pub(crate) spec: &'a Spec<'a>,
    pub(crate) options: &'a Options,
    pub(crate) ops: &'a [Op],
    pub(crate) buffers: &'a [Buffer],
    pub(crate) states: &'a [State],
    pub(crate) ropes: &'a [Rope],
}

/// `Some` if `ok`, for checks that stop at the first error.
pub(crate) fn sure(ok: bool) -> Option<()> {
    ok.then_some(())
}

impl<'a> PlanView<'a> {
    pub(crate) fn buffer(&self, id: BufferId) -> Option<&'a Buffer> {
        self.buffers.get(id.index())
    }

    /// Buffer of f32 with this number.
    pub(crate) fn floats(&self, id: BufferId) -> Option<&'a Buffer> {
        self.buffer(id).filter(|b| b.kind == BufferType::F32)
    }

    /// Tensor that is a single matrix.
    pub(crate) fn matrix(&self, id: TensorId) -> Option<Slot> {
        self.spec.slot(id).filter(|s| !s.is_vector() && s.experts == 1)
    }

    /// Tensor that stacks the matrices of `experts` experts.
    pub(crate) fn stack(&self, id: TensorId, experts: u16) -> Option<Slot> {
        self.spec.slot(id).filter(|s| !s.is_vector() && s.experts == usize::from(experts))
    }

    /// Checks that a tensor is a vector of `n` elements.
    pub(crate) fn vector(&self, id: TensorId, n: usize) -> Option<()> {
        self.stacked_vector(id, 1, n)
    }

    /// Checks that a tensor stacks the vectors of `experts` experts, of `n` elements each.
    pub(crate) fn stacked_vector(&self, id: TensorId, experts: u16, n: usize) -> Option<()> {
        let slot = self.spec.slot(id)?;
        let stacked = slot.experts == usize::from(experts) && slot.rows == 1;
        sure(slot.is_vector() && stacked && slot.cols == n)
    }

    /// As [`Self::vector`], for an optional tensor.
    pub(crate) fn some_vector(&self, id: Option<TensorId>, n: usize) -> Option<()> {
        id.map_or(Some(()), |id| self.vector(id, n))
    }

    pub(crate) fn state(&self, id: StateId) -> Option<&'a State> {
        self.states.get(id.index())
    }

    /// Maximum number of rows of products and attention: those of the batch, or of the logits.
    pub(crate) fn most_rows(&self) -> usize {
        self.options.batch.max(self.options.logits)
    }

    /// Checks that workers may write parts of a row, which they may not if the whole row shares a
    /// scale.
    pub(crate) fn parts(&self, out: &Buffer) -> Option<()> {
        sure(out.kind != BufferType::WideRow)
    }
}

impl Plan<'_> {
    /// Checks everything that running the plan relies on.
    ///
    /// # Errors
    /// [`PlanError`] for the first check that fails.
    pub fn verify(&self) -> Result<(), PlanError> {
        self.verify_kinds::<ALL_KINDS>()
    }

    /// The same, where only operations of these kinds are known.
    pub(crate) fn verify_kinds<const KINDS: u64>(&self) -> Result<(), PlanError> {
        self.spec.validate().map_err(PlanError::Spec)?;
        let o = &self.options;
        if o.batch == 0 || o.context == 0 || o.logits == 0 || o.logits > o.batch {
            return Err(PlanError::Logits { logits: o.logits, batch: o.batch });
        }
        // Buffers beyond have no number.
        let capacity = usize::from(u16::MAX);
        if self.buffers.len() > capacity {
            return Err(PlanError::Capacity { capacity });
        }
        let view = self.view();
        for (i, op) in self.ops.iter().enumerate() {
            op.check::<KINDS>(&view).ok_or(PlanError::Shape { op: i })?;
        }
        let wrong = PlanError::Shape { op: self.ops.len() };
        if (self.logits.is_some(), self.hidden.is_some())
            != (o.outputs.logits(), o.outputs.hidden())
        {
            return Err(wrong);
        }
        for (id, cols) in [(self.logits, self.spec.vocab), (self.hidden, self.spec.width)] {
            let Some(id) = id else { continue };
            let outside = PlanError::Outside { buffer: id.index() as u16 };
            let output = view.buffer(id).ok_or(outside)?;
            let shape = (output.kind, output.rows, output.cols);
            if shape != (BufferType::F32, RowCount::Wanted, cols) {
                return Err(wrong);
            }
        }
        self.inside()?;
        self.lifetimes()?;
        self.disjoint()?;
        self.hazards()?;
        self.states_fit()?;
        self.memory_suffices::<KINDS>()
    }

    fn range(&self, b: &Buffer) -> Option<(usize, usize)> {
        Some((b.offset, b.offset.checked_add(b.bytes(self.max_rows(b.rows))?)?))
    }

    fn inside(&self) -> Result<(), PlanError> {
        for (i, b) in self.buffers.iter().enumerate() {
            let end = self.range(b).map(|r| r.1);
            if !b.is_whole()
                || !b.offset.is_multiple_of(ALIGN)
                || end.is_none_or(|e| e > self.memory_requirements.scratch)
            {
                return Err(PlanError::Outside { buffer: i as u16 });
            }
        }
        Ok(())
    }

    /// Checks that declared lifetimes cover every use, that every buffer is written before it is
    /// read, and that outputs are written.
    fn lifetimes(&self) -> Result<(), PlanError> {
        let mut wrong = None;
        for (i, b) in self.buffers.iter().enumerate() {
            let mut written = None;
            phases(&self.ops, |phase, op| {
                op.buffers(&mut |id, how| {
                    if id.index() != i {
                        return;
                    }
                    let early = how != Access::Write && written.is_none_or(|w| w >= phase);
                    if early || phase < b.born || phase > b.dies {
                        wrong = Some(i as u16);
                    }
                    if how == Access::Write && written.is_none() {
                        written = Some(phase);
                    }
                });
            });
            if written.is_none() && self.outputs().any(|id| id.index() == i) {
                wrong = Some(i as u16);
            }
        }
        let last = phases(&self.ops, |_, _| {});
        if let Some(early) = self.outputs().find(|id| self.buffer(*id).dies != last) {
            wrong = Some(early.index() as u16);
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

    /// True if `b` may reuse the storage of `a`: born in the phase in which `a` dies, element for
    /// element, by an operation that is the only one to use either of them there.
    fn takes_over(&self, i: usize, a: &Buffer, j: usize, b: &Buffer) -> bool {
        let (x, out) = (BufferId::new(i as u16), BufferId::new(j as u16));
        let mut in_place = false;
        phases(&self.ops, |phase, op| {
            in_place |= phase == b.born && op.in_place() == Some((x, out));
        });
        in_place
            && b.over == Some(x)
            && a.dies == b.born
            && a.kind == BufferType::F32
            && (a.offset, a.kind, a.rows, a.cols) == (b.offset, b.kind, b.rows, b.cols)
            && readers(&self.ops, b.born, x) == 1
            && readers(&self.ops, b.born, out) == 1
    }

    /// Checks that, within a phase, no operation touches what another one writes.
    fn hazards(&self) -> Result<(), PlanError> {
        let mut wrong = None;
        phases(&self.ops, |phase, op| {
            op.buffers(&mut |id, how| {
                if how != Access::Read && readers(&self.ops, phase, id) != 1 {
                    wrong = Some(id.index() as u16);
                }
            });
        });
        wrong.map_or(Ok(()), |buffer| Err(PlanError::Hazard { buffer }))
    }

    /// Every state is its layer's, in the order of layers, lies apart from the others, and has one
    /// writer in each step that is done before anything reads: keys and values each; a fixed state
    /// has one operation only, or one for each of its two parts.
    fn states_fit(&self) -> Result<(), PlanError> {
        for (i, state) in self.states.iter().enumerate() {
            let wrong = PlanError::State { state: i as u16 };
            let l = u32::from(state.layer);
            let ordered = i == 0 || self.states[i - 1].layer < state.layer;
            if l >= self.spec.layers.len() || !ordered {
                return Err(wrong);
            }
            let needed = State::of(&self.spec, &self.options, l).ok_or(wrong)?;
            let large = match (needed, state.kind) {
                (
                    StateKind::Kv { heads, head_dim, window, capacity },
                    StateKind::Kv { heads: h, head_dim: d, window: w, capacity: c },
                ) => {
                    let blocks = capacity <= c && c.is_multiple_of(KV_BLOCK);
                    (heads, head_dim, window) == (h, d, w) && blocks
                }
                (needed, kind) => needed == kind,
            };
            let before = &self.states[..i];
            let start =
                next_offset(before, state.kind, &self.options).ok_or(PlanError::Overflow)?;
            if !large || state.offset != start {
                return Err(wrong);
            }
            let (mut keys, mut values, mut updates, mut reads) = (0, 0, 0, 0);
            let mut parts = [0; 2];
            let (mut written, mut first_read) = (0, u16::MAX);
            phases(&self.ops, |phase, op| {
                op.states(&mut |id, how| {
                    if id.index() != i {
                        return;
                    }
                    match how {
                        StateAccess::WriteKeys => keys += 1,
                        StateAccess::WriteValues => values += 1,
                        StateAccess::Update => updates += 1,
                        StateAccess::UpdateFirst => parts[0] += 1,
                        StateAccess::UpdateSecond => parts[1] += 1,
                        StateAccess::Read => {
                            reads += 1;
                            first_read = first_read.min(phase);
                        }
                    }
                    if matches!(how, StateAccess::WriteKeys | StateAccess::WriteValues) {
                        written = written.max(phase);
                    }
                });
            });
            let right = match state.kind {
                // Two operations that store at the same time would overwrite each other.
                StateKind::Kv { .. } => {
                    (keys, values, updates, parts) == (1, 1, 0, [0; 2])
                        && reads > 0
                        && written < first_read
                }
                StateKind::Fixed { .. } => {
                    (keys, values, reads) == (0, 0, 0)
                        && [(1, [0; 2]), (0, [1; 2])].contains(&(updates, parts))
                }
            };
            if !right {
                return Err(wrong);
            }
        }
        // The operations of a layer whose state is missing refer to another layer's, which the
        // counts above refuse; but no operation may refer to a state that does not exist.
        let needed = (0..self.spec.layers.len()).filter(|&l| {
            let state = self.spec.layers.get(l).state(self.spec.width);
            !matches!(state, LayerState::None | LayerState::SharedKv { .. })
        });
        if needed.count() != self.states.len() {
            return Err(PlanError::State { state: self.states.len() as u16 });
        }
        Ok(())
    }

    fn memory_suffices<const KINDS: u64>(&self) -> Result<(), PlanError> {
        let state = state_bytes(&self.states, &self.options).ok_or(PlanError::Overflow)?;
        let pool = pool_bytes(&self.states, &self.options).ok_or(PlanError::Overflow)?;
        let view = self.view();
        let mut floats = 0;
        for op in self.ops.iter() {
            floats = floats.max(op.scratch::<KINDS>(&view).ok_or(PlanError::Overflow)?);
        }
        let own = worker_bytes(0, floats).ok_or(PlanError::Overflow)?;
        if self.options.pages > 0 && !PAGES {
            let (pages, needed) = (self.options.pages, 0);
            return Err(PlanError::Pages { pages, needed });
        }
        let stated = &self.memory_requirements;
        if stated.state < state || stated.pool < pool || stated.per_thread < own {
            return Err(PlanError::MemoryRequirements);
        }
        Ok(())
    }
}
