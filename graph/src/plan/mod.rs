//! Plans: the operations of a step, their buffers, and the memory all of it needs.
//!
//! A plan is plain data. [`build`](Plan::build) makes one from a [`Spec`]; it could as well be a
//! `static` that a tool wrote out. Whoever runs one has it verified first ([`Plan::verify`]).

use core::fmt;
use core::ops::Range;

use teff_kernels::{
    ACT_BLOCK, ACT_SUM, ActivationKind, KV_BLOCK, KvFormat, KvLayout, WIDE_BLOCK, WIDE_UNIT,
};
#[cfg(feature = "alloc")]
use teff_kernels::{Backend, Format};

use crate::{Activation, List, Spec, TensorId};

mod arena_layout;
mod build;
mod verify;

pub use build::{Capacity, build_into};
pub use verify::PlanError;

/// Where buffers begin: multiples of a cache line and of the widest register.
pub const ALIGN: usize = 64;

/// The number of a buffer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BufferId(pub u16);

/// What a buffer's elements are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
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
}

impl BufferType {
    /// Whether elements are quantised, and lie in whole blocks.
    #[must_use]
    pub const fn is_quantized(self) -> bool {
        !matches!(self, BufferType::F32)
    }

    /// What products with inputs of this kind take them as.
    #[must_use]
    pub const fn activations(self) -> ActivationKind {
        match self {
            BufferType::F32 => ActivationKind::Dense,
            BufferType::Q8 | BufferType::Q16 => ActivationKind::Q8,
            BufferType::Wide => ActivationKind::Wide,
        }
    }

    /// What the length of a row is a multiple of.
    #[must_use]
    pub(crate) const fn unit(self) -> usize {
        match self {
            BufferType::F32 => 1,
            BufferType::Q8 | BufferType::Q16 => ACT_BLOCK,
            BufferType::Wide => WIDE_UNIT,
        }
    }

    /// Elements of a row that are written together, since they share a scale; fewer at its end.
    #[must_use]
    pub(crate) const fn block(self) -> usize {
        match self {
            BufferType::F32 => 1,
            BufferType::Q8 | BufferType::Q16 => ACT_BLOCK,
            BufferType::Wide => WIDE_BLOCK,
        }
    }
}

/// Which rows a buffer has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RowCount {
    /// One for every token of the step.
    Batch,
    /// One for every token whose logits are wanted: the last ones.
    Wanted,
}

/// A region of the arena, shared with others that live at other times.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Buffer {
    /// What its elements are.
    pub kind: BufferType,
    /// Which rows it has.
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

/// Where the outputs of a product go.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Output {
    /// Into a buffer, quantised where that is.
    Store(BufferId),
    /// Added to a buffer.
    Add(BufferId),
    /// Queries into a buffer, keys and values into the cache; queries and keys turned, where there are
    /// angles, and normalised before where the model asks for it.
    Qkv {
        /// The queries.
        q: BufferId,
        /// Whose cache.
        layer: u16,
        /// Cosines and sines.
        rope: Option<BufferId>,
    },
    /// Queries alone.
    Q {
        /// The queries.
        q: BufferId,
        /// Whose norm.
        layer: u16,
        /// Cosines and sines.
        rope: Option<BufferId>,
    },
    /// Keys alone.
    K {
        /// Whose cache.
        layer: u16,
        /// Cosines and sines.
        rope: Option<BufferId>,
    },
    /// Values alone.
    V {
        /// Whose cache.
        layer: u16,
    },
}

impl Output {
    /// Where queries, keys and values go: which rows of all three, the layer, the angles.
    pub(crate) fn heads(self, spec: &Spec) -> Option<(Range<usize>, u16, Option<BufferId>)> {
        let (q, kv) = (spec.q_dim(), spec.kv_dim());
        Some(match self {
            Output::Qkv { layer, rope, .. } => (0..q + 2 * kv, layer, rope),
            Output::Q { layer, rope, .. } => (0..q, layer, rope),
            Output::K { layer, rope } => (q..q + kv, layer, rope),
            Output::V { layer } => (q + kv..q + 2 * kv, layer, None),
            Output::Store(_) | Output::Add(_) => return None,
        })
    }
}

/// One operation; all members of the team do their share of it.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Op {
    /// All members meet.
    Barrier,
    /// `out = table[token] * scale + positions[position]`; members share tokens.
    Embed {
        /// Rows by token.
        table: TensorId,
        /// Rows by position.
        positions: Option<TensorId>,
        /// f32.
        out: BufferId,
    },
    /// `out` = the cosines and sines by which positions turn heads; members share tokens.
    RopeTable {
        /// Whether they are those of layers with a window.
        window: bool,
        /// f32.
        out: BufferId,
    },
    /// `out = norm(x)`, quantised where `out` is; members share tokens.
    Norm {
        /// f32.
        x: BufferId,
        /// Factors.
        weight: TensorId,
        /// Terms, of a layer norm.
        bias: Option<TensorId>,
        /// The result.
        out: BufferId,
    },
    /// `out = out + norm(x)`, the root-mean-square norm; members share tokens.
    NormAdd {
        /// f32.
        x: BufferId,
        /// Factors.
        weight: TensorId,
        /// f32.
        out: BufferId,
    },
    /// `to = act(x w + bias)`; members share outputs.
    Linear {
        /// The weights.
        w: TensorId,
        /// Terms.
        bias: Option<TensorId>,
        /// The inputs, quantised where the weights are.
        x: BufferId,
        /// A function of each output.
        act: Option<Activation>,
        /// Where outputs go.
        to: Output,
    },
    /// `out = act(x gate + gate_bias) * (x up + up_bias)`, quantised where `out` is; members share
    /// outputs.
    Gated {
        /// Weights.
        gate: TensorId,
        /// Weights.
        up: TensorId,
        /// Terms.
        gate_bias: Option<TensorId>,
        /// Terms.
        up_bias: Option<TensorId>,
        /// The inputs of `gate`, of the kind that its weights ask for.
        x: BufferId,
        /// The inputs of `up`: the same ones, unless its weights ask for another kind.
        up_x: BufferId,
        /// The result.
        out: BufferId,
    },
    /// Attention of the rows of `out` (the last ones of the step); members share heads and tokens.
    Attend {
        /// Queries, f32.
        q: BufferId,
        /// Whose cache.
        layer: u16,
        /// The result, quantised where it is.
        out: BufferId,
    },
    /// `out = ` the wanted rows of `x`; members share tokens.
    SelectRows {
        /// f32, a row for every token.
        x: BufferId,
        /// f32, a row for every wanted token.
        out: BufferId,
    },
}

const _: () = assert!(size_of::<Op>() <= 32);

impl Op {
    /// The products that it takes: weights and their inputs.
    pub(crate) fn products(&self) -> [Option<(TensorId, BufferId)>; 2] {
        match *self {
            Op::Linear { w, x, .. } => [Some((w, x)), None],
            Op::Gated { gate, up, x, up_x, .. } => [Some((gate, x)), Some((up, up_x))],
            _ => [None; 2],
        }
    }
}

/// What a plan is built for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Options {
    /// Most tokens in a step.
    pub batch: usize,
    /// Most rows of logits in a step.
    pub logits: usize,
    /// Positions of the cache.
    pub context: usize,
    /// How the cache stores keys and values.
    pub kv: KvFormat,
}

/// Bytes that running a plan takes, apart from the weights.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MemoryRequirements {
    /// The arena: all buffers.
    pub scratch: usize,
    /// The KV cache.
    pub kv: usize,
    /// For each thread.
    pub per_thread: usize,
}

impl MemoryRequirements {
    /// All bytes for a team of `threads`; `None` where that overflows.
    #[must_use]
    pub fn total(&self, threads: usize) -> Option<usize> {
        threads.checked_mul(self.per_thread)?.checked_add(self.scratch)?.checked_add(self.kv)
    }
}

impl fmt::Display for MemoryRequirements {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let MemoryRequirements { scratch, kv, per_thread } = self;
        write!(f, "arena {scratch} B, cache {kv} B, {per_thread} B for each thread")
    }
}

/// A plan: plain data.
#[derive(Clone, Debug)]
pub struct Plan<'p> {
    /// The model.
    pub spec: Spec,
    /// What it was built for.
    pub options: Options,
    /// The operations, in order.
    pub ops: List<'p, Op>,
    /// The buffers.
    pub buffers: List<'p, Buffer>,
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
        &self.buffers[usize::from(id.0)]
    }

    /// Most rows of a buffer.
    #[must_use]
    pub fn max_rows(&self, rows: RowCount) -> usize {
        match rows {
            RowCount::Batch => self.options.batch,
            RowCount::Wanted => self.options.logits,
        }
    }

    /// Shape of one head's cache.
    #[must_use]
    pub fn kv_layout(&self) -> KvLayout {
        kv_layout(&self.spec, &self.options)
    }
}

pub(crate) fn kv_layout(spec: &Spec, options: &Options) -> KvLayout {
    KvLayout {
        format: options.kv,
        head_dim: spec.head_dim as usize,
        capacity: options.context.next_multiple_of(KV_BLOCK),
    }
}

/// Bytes of a head's keys and of its values, each filled up to [`ALIGN`].
pub(crate) fn head_bytes(layout: &KvLayout) -> (usize, usize) {
    (layout.key_bytes().next_multiple_of(ALIGN), layout.value_bytes().next_multiple_of(ALIGN))
}

/// Bytes of the whole cache; `None` where that overflows.
pub(crate) fn kv_bytes(spec: &Spec, options: &Options) -> Option<usize> {
    let per_position = (spec.head_dim as usize + 16).checked_mul(8)?; // more than any format's
    options.context.checked_add(KV_BLOCK)?.checked_mul(per_position)?;
    let (keys, values) = head_bytes(&kv_layout(spec, options));
    (keys + values).checked_mul(spec.layers as usize)?.checked_mul(spec.kv_heads as usize)
}

impl Buffer {
    /// Bytes of `rows` rows; `None` where that overflows.
    #[must_use]
    pub fn bytes(&self, rows: usize) -> Option<usize> {
        // In 64 bits: a plan from outside may have any number here.
        let cols = u64::from(self.cols);
        let per = |len: usize| cols.div_ceil(len as u64) * 4;
        let row = match self.kind {
            BufferType::F32 => cols * 4,
            // Planes of codes, and scales and sums of four bytes each.
            BufferType::Q8 => cols + per(ACT_BLOCK) + per(ACT_SUM),
            BufferType::Q16 => 2 * cols + per(ACT_BLOCK) + per(ACT_SUM),
            BufferType::Wide => cols + 2 * per(WIDE_BLOCK),
        };
        rows.checked_mul(usize::try_from(row).ok()?)
    }
}

/// How an operation is cut into shares and chunks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cut {
    /// Outputs that stay together: a whole head of the cache, a block of activations.
    pub(crate) unit: usize,
    /// All outputs.
    pub(crate) total: usize,
    /// Floats between the product and where it goes; 0 where it goes there at once.
    pub(crate) staged: bool,
}

/// Floats of a staging tile that stay in the caches near a core.
pub(crate) const TILE_FLOATS: usize = 1 << 15;
/// Queries that attention takes at a time.
pub(crate) const QUERY_TILE: usize = 32;

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

pub(crate) fn lcm(a: usize, b: usize) -> usize {
    a / gcd(a, b) * b
}

impl Cut {
    /// Of a product with `rows` outputs.
    pub(crate) fn linear(spec: &Spec, buffers: &[Buffer], rows: usize, to: Output) -> Cut {
        let kind = |b: BufferId| buffers[usize::from(b.0)].kind;
        let (unit, staged) = match to {
            Output::Store(b) if kind(b) == BufferType::F32 => (16, false),
            Output::Store(b) => (kind(b).block(), true),
            Output::Add(_) => (16, true),
            Output::Qkv { .. } | Output::Q { .. } | Output::K { .. } | Output::V { .. } => {
                (lcm(spec.head_dim as usize, 16), true)
            }
        };
        Cut { unit, total: rows, staged }
    }

    /// Of the two products of a gated part with `rows` outputs each.
    pub(crate) fn gated(out: &Buffer, rows: usize) -> Cut {
        Cut { unit: out.kind.block().max(16), total: rows, staged: true }
    }

    /// Outputs in a chunk, for `n` tokens of `cols` inputs: a quarter of a millisecond, or a unit. (GPT-2
    /// by `avx512`, prefill of 512: with twice as many products 1.01 to 1.04 times as fast, with a quarter
    /// 0.96 to 1.02.)
    pub(crate) fn chunk(&self, n: usize, cols: usize, products_per_ms: usize) -> usize {
        let tile = if self.staged { TILE_FLOATS / n.max(1) } else { usize::MAX };
        let most = tile.min(products_per_ms / 4 / (n * cols).max(1)).min(self.total);
        (most / self.unit * self.unit).max(self.unit)
    }

    /// Most floats that the staging tile holds in steps of up to `batch` tokens.
    pub(crate) fn tile_floats(&self, batch: usize) -> Option<usize> {
        if !self.staged {
            return Some(0);
        }
        let all = batch.checked_mul(self.total.next_multiple_of(self.unit))?;
        Some(batch.checked_mul(self.unit)?.max(TILE_FLOATS).min(all))
    }
}

/// The heads whose outputs attention writes together, so that blocks of activations stay whole.
pub(crate) fn head_group(spec: &Spec, out: &Buffer) -> usize {
    let d = spec.head_dim as usize;
    (lcm(d, out.kind.block()) / d).min(spec.heads as usize)
}

/// The heads that attention may take together: whole groups of [`head_group`] and of the heads that
/// share a cache.
pub(crate) fn joined_heads(spec: &Spec, out: &Buffer) -> usize {
    lcm((spec.heads / spec.kv_heads) as usize, head_group(spec, out))
}

/// Bytes of a member's memory, with `product` bytes for the backend's products before the floats,
/// both filled up to [`ALIGN`]; `None` where that overflows.
pub(crate) fn worker_bytes(product: usize, floats: usize) -> Option<usize> {
    let floats = floats.checked_mul(4)?.checked_next_multiple_of(ALIGN)?;
    product.checked_next_multiple_of(ALIGN)?.checked_add(floats)
}

/// Floats that a member needs for one operation, beside what the backend's product wants.
pub(crate) fn worker_floats(
    spec: &Spec,
    buffers: &[Buffer],
    options: &Options,
    op: &Op,
) -> Option<usize> {
    let batch = options.batch.max(options.logits);
    let buffer = |b: BufferId| &buffers[usize::from(b.0)];
    match *op {
        Op::Barrier | Op::SelectRows { .. } => Some(0),
        Op::Embed { .. } => Some(spec.width as usize),
        // Frequencies, in f64.
        Op::RopeTable { out, .. } => Some(buffer(out).cols as usize),
        Op::Norm { x, .. } => Some(2 * buffer(x).cols as usize),
        Op::NormAdd { x, .. } => Some(buffer(x).cols as usize),
        Op::Gated { gate, out, .. } => {
            Cut::gated(buffer(out), spec.slot(gate)?.rows).tile_floats(batch)?.checked_mul(2)
        }
        Op::Linear { w, to, .. } => {
            Cut::linear(spec, buffers, spec.slot(w)?.rows, to).tile_floats(batch)
        }
        Op::Attend { out, .. } => {
            // As many queries of heads as a tile has of one group, or all heads of few rows.
            let most = QUERY_TILE * head_group(spec, buffer(out));
            let queries = batch.saturating_mul(joined_heads(spec, buffer(out))).min(most);
            let floats = queries.checked_mul(spec.head_dim as usize);
            if buffer(out).kind.is_quantized() { floats } else { Some(0) }
        }
    }
}

#[cfg(feature = "alloc")]
impl Plan<'static> {
    /// Builds the plan of a decoder whose matrices have the formats that `format` gives, for
    /// `backend`'s needs of scratch. Nothing of the model but its header is looked at.
    ///
    /// # Errors
    /// [`PlanError`] where options are out of range or sizes overflow.
    pub fn build(
        spec: &Spec,
        format: &dyn Fn(TensorId) -> Format,
        options: &Options,
        backend: &dyn Backend,
    ) -> Result<Plan<'static>, PlanError> {
        spec.validate().map_err(PlanError::Spec)?;
        let capacity = Capacity::of(spec);
        let mut ops = alloc::vec![Op::Barrier; capacity.ops];
        let mut buffers = alloc::vec![Buffer::EMPTY; capacity.buffers];
        let plan = build_into(spec, format, options, backend, &mut ops, &mut buffers)?;
        let (n_ops, n_buffers) = (plan.ops.len(), plan.buffers.len());
        let Plan { logits, memory_requirements, .. } = plan;
        ops.truncate(n_ops);
        buffers.truncate(n_buffers);
        let (ops, buffers) = (ops.into(), buffers.into());
        Ok(Plan { spec: *spec, options: *options, ops, buffers, logits, memory_requirements })
    }
}
