//! Plans: the operations of a step, their buffers, and the memory all of it needs.
//!
//! A plan is plain data. [`build`](Plan::build) makes one from a [`Spec`]; it could as well be a
//! `static` that a tool wrote out. A runner has it verified first ([`Plan::verify`]).

use core::fmt;

use teff_kernels::{ACT_BLOCK, ACT_SUM, ActivationKind, KvFormat, WIDE_BLOCK, WIDE_UNIT};
#[cfg(feature = "alloc")]
use teff_kernels::{Backend, Format};

#[cfg(feature = "alloc")]
use crate::TensorId;
use crate::ops::Op;
use crate::{List, Rope, Spec};

mod arena_layout;
pub(crate) mod build;
mod chunks;
mod state;
mod verify;

pub use crate::ids::{BufferId, StateId};
pub use build::{Capacity, PlanRoom, build_into};
pub use state::{State, StateKind};
pub use verify::PlanError;

pub(crate) use chunks::{Chunks, lcm};
pub(crate) use state::{PANEL, head_bytes, state_bytes};
pub(crate) use verify::{PlanView, sure};

/// Alignment of buffers and of memory regions: a cache line, and the widest register.
pub const ALIGN: usize = 64;

/// Elements of a buffer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum BufferType {
    /// f32.
    F32,
    /// Activations quantised to 8 bits: codes, then scales, then sums, of all rows each.
    Q8,
    /// Activations quantised to 16 bits: two planes of codes, then as above.
    Q16,
    /// Activations quantised to 8 bits for ternary weights: codes, then scales, then sums, of all
    /// rows each.
    Wide,
    /// The same with one scale for a whole row.
    WideRow,
}

impl BufferType {
    /// Whether elements are quantised, and lie in whole blocks.
    #[must_use]
    pub const fn is_quantized(self) -> bool {
        !matches!(self, BufferType::F32)
    }

    /// What products with inputs of this type take them as.
    #[must_use]
    pub const fn activations(self) -> ActivationKind {
        match self {
            BufferType::F32 => ActivationKind::Dense,
            BufferType::Q8 | BufferType::Q16 => ActivationKind::Q8,
            BufferType::Wide | BufferType::WideRow => ActivationKind::Wide,
        }
    }

    /// Divisor of the length of a row.
    #[must_use]
    pub(crate) const fn unit(self) -> usize {
        match self.activations() {
            ActivationKind::Dense => 1,
            ActivationKind::Q8 => ACT_BLOCK,
            ActivationKind::Wide => WIDE_UNIT,
        }
    }

    /// Elements of a row that are written together, since they share a scale; fewer at its end.
    #[must_use]
    pub(crate) const fn block(self) -> usize {
        match self.activations() {
            ActivationKind::Dense => 1,
            ActivationKind::Q8 => ACT_BLOCK,
            ActivationKind::Wide => WIDE_BLOCK,
        }
    }

    /// Bytes of `rows` rows of `cols` elements; `None` where that overflows.
    #[must_use]
    pub(crate) fn bytes(self, rows: usize, cols: usize) -> Option<usize> {
        // In 64 bits: a plan from outside may have any number here.
        let cols = cols as u64;
        let per = |len: usize| cols.div_ceil(len as u64) * 4;
        let row = match self {
            BufferType::F32 => cols * 4,
            // Planes of codes, and scales and sums of four bytes each.
            BufferType::Q8 => cols + per(ACT_BLOCK) + per(ACT_SUM),
            BufferType::Q16 => 2 * cols + per(ACT_BLOCK) + per(ACT_SUM),
            BufferType::Wide | BufferType::WideRow => cols + 2 * per(WIDE_BLOCK),
        };
        rows.checked_mul(usize::try_from(row).ok()?)
    }
}

/// Rows of a buffer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum RowCount {
    /// One for every token of the step.
    Batch,
    /// One for every token whose logits are wanted.
    Wanted,
}

/// A region of the arena, shared with others that live at other times.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Buffer {
    /// Its elements.
    pub kind: BufferType,
    /// Its rows.
    pub rows: RowCount,
    /// Elements of a row.
    pub cols: u32,
    /// First byte in the arena.
    pub offset: usize,
    /// First phase (stretch between barriers) in which it is used.
    pub born: u16,
    /// Last phase in which it is used.
    pub dies: u16,
    /// A buffer that dies where this one is born, whose storage it takes over in place.
    pub over: Option<BufferId>,
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

    /// Whether rows are whole blocks of the elements' type.
    pub(crate) fn is_whole(&self) -> bool {
        (self.cols as usize).is_multiple_of(self.kind.unit())
    }

    /// Bytes of `rows` rows; `None` where that overflows.
    #[must_use]
    pub fn bytes(&self, rows: usize) -> Option<usize> {
        self.kind.bytes(rows, self.cols as usize)
    }
}

/// What a plan is built for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Options {
    /// Most tokens in a step, those of all sequences together.
    pub batch: usize,
    /// Most rows of logits in a step.
    pub logits: usize,
    /// Most positions of a sequence.
    pub context: usize,
    /// How caches store keys and values.
    pub kv: KvFormat,
}

/// Bytes that running a plan takes, apart from the weights.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MemoryRequirements {
    /// The arena: all buffers.
    pub scratch: usize,
    /// For each sequence: its KV caches and other states.
    pub state: usize,
    /// For each thread.
    pub per_thread: usize,
}

impl MemoryRequirements {
    /// All bytes for a team of `threads` and one sequence; `None` where that overflows.
    #[must_use]
    pub fn total(&self, threads: usize) -> Option<usize> {
        self.total_for(threads, 1)
    }

    /// All bytes for a team of `threads` and so many sequences; `None` where that overflows.
    #[must_use]
    pub fn total_for(&self, threads: usize, sequences: usize) -> Option<usize> {
        let states = sequences.checked_mul(self.state)?;
        threads.checked_mul(self.per_thread)?.checked_add(self.scratch)?.checked_add(states)
    }
}

impl fmt::Display for MemoryRequirements {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let MemoryRequirements { scratch, state, per_thread } = self;
        write!(f, "arena {scratch} B, {state} B for each sequence, {per_thread} B for each thread")
    }
}

/// A plan: plain data.
#[derive(Clone, Debug)]
pub struct Plan<'p> {
    /// The model.
    pub spec: Spec<'p>,
    /// What it was built for.
    pub options: Options,
    /// The operations, in order.
    pub ops: List<'p, Op>,
    /// The buffers.
    pub buffers: List<'p, Buffer>,
    /// The states that a sequence has.
    pub states: List<'p, State>,
    /// The rotary embeddings.
    pub ropes: List<'p, Rope>,
    /// The buffer that holds the logits at the end.
    pub logits: BufferId,
    /// The memory.
    pub memory_requirements: MemoryRequirements,
}

impl Plan<'_> {
    /// The buffer with this number.
    ///
    /// # Panics
    /// Where there is none: the plan was not verified.
    #[inline]
    #[must_use]
    pub fn buffer(&self, id: BufferId) -> &Buffer {
        &self.buffers[id.index()]
    }

    /// Most rows of a buffer.
    #[must_use]
    pub fn max_rows(&self, rows: RowCount) -> usize {
        match rows {
            RowCount::Batch => self.options.batch,
            RowCount::Wanted => self.options.logits,
        }
    }

    pub(crate) fn view(&self) -> PlanView<'_> {
        PlanView {
            spec: &self.spec,
            options: &self.options,
            ops: &self.ops,
            buffers: &self.buffers,
            states: &self.states,
            ropes: &self.ropes,
        }
    }
}

/// Bytes of a worker's memory, with `product` bytes for the backend's products before the floats,
/// both filled up to [`ALIGN`]; `None` where that overflows.
pub(crate) fn worker_bytes(product: usize, floats: usize) -> Option<usize> {
    let floats = floats.checked_mul(4)?.checked_next_multiple_of(ALIGN)?;
    product.checked_next_multiple_of(ALIGN)?.checked_add(floats)
}

#[cfg(feature = "alloc")]
impl Plan<'static> {
    /// Builds the plan of a decoder whose matrices have the formats that `format` gives, for
    /// `backend`'s needs of scratch. Nothing of the model but its header is looked at.
    ///
    /// # Errors
    /// [`PlanError`] where options are out of range or sizes overflow.
    pub fn build(
        spec: &Spec<'_>,
        format: &dyn Fn(TensorId) -> Format,
        options: &Options,
        backend: &dyn Backend,
    ) -> Result<Plan<'static>, PlanError> {
        spec.validate().map_err(PlanError::Spec)?;
        let capacity = Capacity::of(spec);
        let mut ops = alloc::vec![Op::Barrier; capacity.ops];
        let mut buffers = alloc::vec![Buffer::EMPTY; capacity.buffers];
        let mut states = alloc::vec![State::EMPTY; capacity.states];
        let room = PlanRoom { ops: &mut ops, buffers: &mut buffers, states: &mut states };
        let plan = build_into(spec, format, options, backend, room)?;
        let lengths = (plan.ops.len(), plan.buffers.len(), plan.states.len());
        let Plan { logits, memory_requirements, .. } = plan;
        ops.truncate(lengths.0);
        buffers.truncate(lengths.1);
        states.truncate(lengths.2);
        let (ops, buffers, states) = (ops.into(), buffers.into(), states.into());
        let (spec, ropes) = (spec.to_owned(), spec.ropes.to_owned());
        let options = *options;
        Ok(Plan { spec, options, ops, buffers, states, ropes, logits, memory_requirements })
    }
}
