//! Plans: the operations of a step, their buffers, and the memory that they need.
//!
//! A plan is plain data. [`build`](Plan::build) makes one from a [`Spec`], but it can also be a
//! `static` written by a tool. A runner verifies it first ([`Plan::verify`]).

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
pub(crate) use state::{
    HEADER, PAGES, PANEL, head_bytes, next_offset, pool_bytes, state_bytes, table_len,
};
pub(crate) use verify::{PlanView, sure};

/// Alignment of buffers and of memory regions: a cache line, and the widest register.
pub const ALIGN: usize = 64;

/// Element type of a buffer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum BufferType {
    /// f32.
    F32,
    /// Activations quantised to 8 bits: codes, then scales, then sums, each for all rows.
    Q8,
    /// Activations quantised to 16 bits: two planes of codes, then scales and sums as above.
    Q16,
    /// Activations quantised to 8 bits for ternary weights: codes, then scales, then sums, each for
    /// all rows.
    Wide,
    /// As [`Wide`](Self::Wide), with one scale for a whole row.
    WideRow,
}

impl BufferType {
    /// True if elements are quantised and stored in whole blocks.
    #[must_use]
    pub const fn is_quantized(self) -> bool {
        !matches!(self, BufferType::F32)
    }

    /// Kind of activations that products read from such a buffer.
    #[must_use]
    pub const fn activations(self) -> ActivationKind {
        match self {
            BufferType::F32 => ActivationKind::Dense,
            BufferType::Q8 | BufferType::Q16 => ActivationKind::Q8,
            BufferType::Wide | BufferType::WideRow => ActivationKind::Wide,
        }
    }

    /// Unit that row lengths must be a multiple of.
    #[must_use]
    pub(crate) const fn unit(self) -> usize {
        match self.activations() {
            ActivationKind::Dense => 1,
            ActivationKind::Q8 => ACT_BLOCK,
            ActivationKind::Wide => WIDE_UNIT,
        }
    }

    /// Elements of a row that share a scale and are written together; the last group may be
    /// shorter.
    #[must_use]
    pub(crate) const fn block(self) -> usize {
        match self.activations() {
            ActivationKind::Dense => 1,
            ActivationKind::Q8 => ACT_BLOCK,
            ActivationKind::Wide => WIDE_BLOCK,
        }
    }

    /// Bytes of `rows` rows of `cols` elements; `None` on overflow.
    #[must_use]
    pub(crate) fn bytes(self, rows: usize, cols: usize) -> Option<usize> {
        // In 64 bits, since a plan from outside may have any number here.
        let cols = cols as u64;
        let per = |len: usize| cols.div_ceil(len as u64) * 4;
        let row = match self {
            BufferType::F32 => cols * 4,
            // Planes of codes, then scales and sums of four bytes each.
            BufferType::Q8 => cols + per(ACT_BLOCK) + per(ACT_SUM),
            BufferType::Q16 => 2 * cols + per(ACT_BLOCK) + per(ACT_SUM),
            BufferType::Wide | BufferType::WideRow => cols + 2 * per(WIDE_BLOCK),
        };
        rows.checked_mul(usize::try_from(row).ok()?)
    }
}

/// Number of rows of a buffer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum RowCount {
    /// One row for every token of the step.
    Batch,
    /// One row for every token whose outputs are wanted.
    Wanted,
}

/// Region of the arena, shared with buffers that are live at other times.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Buffer {
    /// Element type.
    pub kind: BufferType,
    /// Number of rows.
    pub rows: RowCount,
    /// Elements of a row.
    pub cols: u32,
    /// Offset in the arena, in bytes.
    pub offset: usize,
    /// First phase (stretch between barriers) in which it is used.
    pub born: u16,
    /// Last phase in which it is used.
    pub dies: u16,
    /// Buffer that dies when this one is born and whose storage is reused in place.
    pub over: Option<BufferId>,
}

impl Buffer {
    /// Placeholder to fill slices with before [`build_into`].
    pub const EMPTY: Buffer = Buffer {
        kind: BufferType::F32,
        rows: RowCount::Batch,
        cols: 0,
        offset: 0,
        born: 0,
        dies: 0,
        over: None,
    };

    /// True if rows are whole blocks of the elements' type.
    pub(crate) fn is_whole(&self) -> bool {
        (self.cols as usize).is_multiple_of(self.kind.unit())
    }

    /// Bytes of `rows` rows; `None` where that overflows.
    #[must_use]
    pub fn bytes(&self, rows: usize) -> Option<usize> {
        self.kind.bytes(rows, self.cols as usize)
    }
}

/// Outputs that a step computes for the tokens that [`LogitsFor`](crate::LogitsFor) selects.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[non_exhaustive]
pub enum Outputs {
    /// Logits.
    #[default]
    Logits,
    /// Hidden states: the residual stream after the last norm, which is the input of the head. The
    /// plan has no head: neither its product nor memory for logits.
    Hidden,
    /// Both.
    Both,
}

impl Outputs {
    /// True if logits are computed.
    #[must_use]
    pub const fn logits(self) -> bool {
        matches!(self, Outputs::Logits | Outputs::Both)
    }

    /// True if hidden states are kept.
    #[must_use]
    pub const fn hidden(self) -> bool {
        matches!(self, Outputs::Hidden | Outputs::Both)
    }
}

/// Limits and formats that a plan is built for.
///
/// ```
/// use teff_graph::Options;
/// use teff_kernels::KvFormat;
///
/// let options = Options::new(2048).with_batch(64).with_kv(KvFormat::F16);
/// assert_eq!((options.context, options.batch, options.logits), (2048, 64, 1));
/// assert!(options.outputs.logits());
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Options {
    /// Maximum number of tokens in a step, over all sequences.
    pub batch: usize,
    /// Maximum number of tokens of a step whose outputs are wanted.
    pub logits: usize,
    /// Maximum number of positions of a sequence.
    pub context: usize,
    /// Format in which caches store keys and values.
    pub kv: KvFormat,
    /// Outputs of a step.
    pub outputs: Outputs,
    /// Pages of [`KV_BLOCK`](teff_kernels::KV_BLOCK) positions that all sequences share for the caches
    /// of layers without a window, at least as many as one sequence of the context needs; 0 for caches
    /// of each sequence's own.
    pub pages: usize,
}

impl Options {
    /// Options for sequences of up to `context` positions: one token in a step, its logits, and caches
    /// in f32.
    #[must_use]
    pub const fn new(context: usize) -> Self {
        let (kv, outputs) = (KvFormat::F32, Outputs::Logits);
        Options { batch: 1, logits: 1, context, kv, outputs, pages: 0 }
    }

    /// Sets [`batch`](Self::batch).
    #[must_use]
    pub const fn with_batch(self, batch: usize) -> Self {
        Options { batch, ..self }
    }

    /// Sets [`logits`](Self::logits).
    #[must_use]
    pub const fn with_logits(self, logits: usize) -> Self {
        Options { logits, ..self }
    }

    /// Sets [`kv`](Self::kv).
    #[must_use]
    pub const fn with_kv(self, kv: KvFormat) -> Self {
        Options { kv, ..self }
    }

    /// Sets [`outputs`](Self::outputs).
    #[must_use]
    pub const fn with_outputs(self, outputs: Outputs) -> Self {
        Options { outputs, ..self }
    }

    /// Sets [`pages`](Self::pages).
    #[must_use]
    pub const fn with_pages(self, pages: usize) -> Self {
        Options { pages, ..self }
    }
}

/// Bytes needed to run a plan, apart from the weights.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MemoryRequirements {
    /// Bytes of the arena, which holds all buffers.
    pub scratch: usize,
    /// Bytes of each sequence: its KV caches and other states.
    pub state: usize,
    /// Bytes that all sequences share: the pages of their KV caches. 0 without pages.
    pub pool: usize,
    /// Bytes of each thread.
    pub per_thread: usize,
}

impl MemoryRequirements {
    /// Bytes in total, for `threads` threads and one sequence; `None` on overflow.
    #[must_use]
    pub fn total(&self, threads: usize) -> Option<usize> {
        self.total_for(threads, 1)
    }

    /// Bytes in total, for `threads` threads and `sequences` sequences; `None` on overflow.
    #[must_use]
    pub fn total_for(&self, threads: usize, sequences: usize) -> Option<usize> {
        let states = sequences.checked_mul(self.state)?.checked_add(self.pool)?;
        threads.checked_mul(self.per_thread)?.checked_add(self.scratch)?.checked_add(states)
    }
}

impl fmt::Display for MemoryRequirements {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let MemoryRequirements { scratch, state, pool, per_thread } = self;
        write!(
            f,
            "arena {scratch} B, {state} B for each sequence, {per_thread} B for each thread"
        )?;
        match pool {
            0 => Ok(()),
            pool => write!(f, ", {pool} B of pages"),
        }
    }
}

/// Plan of a step, as plain data.
///
/// ```
/// # #[cfg(all(feature = "alloc", feature = "legacy-quants"))]
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use teff_graph::family::gpt2;
/// use teff_graph::{Options, Outputs, Plan};
/// use teff_kernels::{Cpu, Format, KvFormat};
///
/// // The memory of GPT-2 small in Q8_0 is known before there is a file or any memory.
/// let (kv, outputs) = (KvFormat::F16, Outputs::Logits);
/// let options = Options { batch: 64, logits: 1, context: 1024, kv, outputs, pages: 0 };
/// let plan = Plan::build(&gpt2::small(), &|_| Format::Q8_0, &options, &Cpu::best())?;
/// let needed = plan.memory_requirements;
/// // A key and a value of 768 elements of two bytes for each position and layer, and a header.
/// assert_eq!(needed.state, 1024 * 12 * 2 * 768 * 2 + 64);
/// assert!(needed.total(2).is_some_and(|bytes| bytes < 40 << 20));
///
/// // A plan that was changed doesn't verify.
/// let mut wrong = plan.clone();
/// wrong.memory_requirements.scratch -= 64;
/// assert!(plan.verify().is_ok() && wrong.verify().is_err());
/// # Ok(())
/// # }
/// # #[cfg(not(all(feature = "alloc", feature = "legacy-quants")))]
/// # fn main() {}
/// ```
#[derive(Clone, Debug)]
pub struct Plan<'p> {
    /// Model that the plan computes.
    pub spec: Spec<'p>,
    /// Options that the plan was built for.
    pub options: Options,
    /// Operations, in order of execution.
    pub ops: List<'p, Op>,
    /// Buffers in the arena.
    pub buffers: List<'p, Buffer>,
    /// States of a sequence.
    pub states: List<'p, State>,
    /// Rotary embeddings.
    pub ropes: List<'p, Rope>,
    /// Buffer that holds the logits at the end, if they are among the outputs.
    pub logits: Option<BufferId>,
    /// Buffer that holds the hidden states at the end, if they are among the outputs.
    pub hidden: Option<BufferId>,
    /// Memory needed to run the plan.
    pub memory_requirements: MemoryRequirements,
}

impl Plan<'_> {
    /// Buffer with this number.
    ///
    /// # Panics
    /// If there is no such buffer, because the plan was not verified.
    #[inline]
    #[must_use]
    pub fn buffer(&self, id: BufferId) -> &Buffer {
        &self.buffers[id.index()]
    }

    /// Buffers that hold outputs at the end.
    pub(crate) fn outputs(&self) -> impl Iterator<Item = BufferId> + use<> {
        [self.logits, self.hidden].into_iter().flatten()
    }

    /// Maximum number of rows of a buffer.
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
/// both padded to [`ALIGN`]; `None` on overflow.
pub(crate) fn worker_bytes(product: usize, floats: usize) -> Option<usize> {
    let floats = floats.checked_mul(4)?.checked_next_multiple_of(ALIGN)?;
    product.checked_next_multiple_of(ALIGN)?.checked_add(floats)
}

#[cfg(feature = "alloc")]
impl Plan<'static> {
    /// Builds the plan of a decoder whose matrices have the formats given by `format`, for the
    /// scratch needs of `backend`. Only the header of the model is read.
    ///
    /// # Errors
    /// [`PlanError`] if options are out of range or sizes overflow.
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
        let Plan { logits, hidden, memory_requirements, .. } = plan;
        ops.truncate(lengths.0);
        buffers.truncate(lengths.1);
        states.truncate(lengths.2);
        let (ops, buffers, states) = (ops.into(), buffers.into(), states.into());
        let (spec, ropes) = (spec.to_owned(), spec.ropes.to_owned());
        let options = *options;
        Ok(Plan { spec, options, ops, buffers, states, ropes, logits, hidden, memory_requirements })
    }
}
