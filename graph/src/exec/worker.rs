//! One worker of the team in one step: its memory, and its views of shared memory.

use core::ops::Range;

use teff_kernels::{Activations, Backend, DenseActivations, Matrix, Tile};

use super::arena::{Bank, Cache, Region};
use super::running::Running;
use crate::TensorId;
use crate::plan::{
    Buffer, BufferId, BufferType, Chunks, HEADER, Plan, RowCount, StateId, StateKind,
};
use crate::weights::{matrix, vector};

/// Claims are worth a 256th of a millisecond, about 4 microseconds: far more than one costs.
const GRAINS_PER_MS: usize = 256;

/// Cancellation in the middle of an operation.
pub(crate) struct Stopped;

/// Next tokens of a sequence, and their rows in the buffers of a step.
#[derive(Clone, Copy)]
pub(crate) struct SegmentRows<'s> {
    pub(crate) tokens: &'s [u32],
    /// Position of the first token.
    pub(crate) position: usize,
    /// First row in buffers of the batch.
    pub(crate) first: usize,
    /// First row in buffers of tokens whose outputs are wanted.
    pub(crate) first_wanted: usize,
    /// Rows in buffers of tokens whose outputs are wanted.
    pub(crate) wanted: usize,
    /// Offset of the sequence's memory.
    memory: usize,
    /// Bank of fixed states that holds the current state.
    bank: usize,
    /// Pages of the sequence.
    pages: usize,
}

impl SegmentRows<'_> {
    /// Number of rows of the segment in buffers of this kind.
    pub(crate) fn rows(&self, rows: RowCount) -> usize {
        match rows {
            RowCount::Batch => self.tokens.len(),
            RowCount::Wanted => self.wanted,
        }
    }

    /// Token of the segment, counted from its first one, to which row `t` of buffers of this kind
    /// belongs.
    pub(crate) fn token_of(&self, rows: RowCount, t: usize) -> usize {
        self.tokens.len() + t - self.first_row(rows) - self.rows(rows)
    }

    /// First row of the segment in buffers of this kind.
    pub(crate) fn first_row(&self, rows: RowCount) -> usize {
        match rows {
            RowCount::Batch => self.first,
            RowCount::Wanted => self.first_wanted,
        }
    }
}

/// One worker of the team in one step.
pub(crate) struct Worker<'r, 's, 'a, B> {
    running: &'r Running<'s, 'a, B>,
    rank: usize,
}

impl<'r, 's, 'a, B: Backend> Worker<'r, 's, 'a, B> {
    pub(super) fn new(running: &'r Running<'s, 'a, B>, rank: usize) -> Self {
        Worker { running, rank }
    }

    pub(crate) fn plan(&self) -> &'r Plan<'a> {
        &self.running.runner.plan
    }

    pub(crate) fn backend(&self) -> &'r B {
        &self.running.runner.backend
    }

    pub(crate) fn buffer(&self, id: BufferId) -> &'r Buffer {
        self.plan().buffer(id)
    }

    pub(crate) fn matrix(&self, id: TensorId) -> Matrix<'a> {
        matrix(&self.running.runner.weights, id)
    }

    pub(crate) fn vector(&self, id: TensorId) -> &'a [f32] {
        vector(&self.running.runner.weights, id)
    }

    fn arena(&self) -> &'r Region<'a> {
        &self.running.runner.arena
    }

    /// Number of rows of buffers of this kind in this step.
    pub(crate) fn rows(&self, rows: RowCount) -> usize {
        match rows {
            RowCount::Batch => self.running.tokens,
            RowCount::Wanted => self.running.wanted,
        }
    }

    /// `items`, or none if buffers of this kind have no rows in this step.
    pub(crate) fn some(&self, rows: RowCount, items: usize) -> usize {
        if self.rows(rows) == 0 { 0 } else { items }
    }

    /// Segments of the step.
    pub(crate) fn segments(&self) -> impl Iterator<Item = SegmentRows<'s>> + use<'r, 's, 'a, B> {
        let running = self.running;
        let (mut first, mut first_wanted) = (0, 0);
        running.step.segments.iter().map(move |s| {
            let sequence = usize::from(s.sequence.0);
            let header = running.runner.header(sequence);
            let wanted = s.logits.rows(s.tokens.len());
            let rows = SegmentRows {
                tokens: s.tokens,
                position: header.len(),
                first,
                first_wanted,
                wanted,
                memory: running.runner.sequence_at(sequence),
                bank: header.bank(),
                pages: header.pages(),
            };
            first += s.tokens.len();
            first_wanted += wanted;
            rows
        })
    }

    /// Rows `range` of buffers of this kind, each with its segment.
    pub(crate) fn rows_of(
        &self,
        rows: RowCount,
        range: Range<usize>,
    ) -> impl Iterator<Item = (usize, SegmentRows<'s>)> + use<'r, 's, 'a, B> {
        self.segments().flat_map(move |s| {
            let first = s.first_row(rows);
            let end = (first + s.rows(rows)).min(range.end);
            (first.max(range.start)..end).map(move |t| (t, s))
        })
    }

    /// Number of outputs of a product of `n` tokens with `cols` inputs that are worth a claim, and
    /// most that a claim should have, in units.
    pub(crate) fn grain_of(&self, chunks: &Chunks, n: usize, cols: usize) -> (usize, usize) {
        let per_ms = self.backend().products_per_ms();
        let unit = n.saturating_mul(cols).saturating_mul(chunks.unit).max(1);
        let grain = (per_ms / GRAINS_PER_MS / unit).max(1);
        (grain, (chunks.chunk(n, cols, per_ms) / chunks.unit).max(grain))
    }

    /// Outputs of units `items` of a product of `n` tokens with `cols` inputs, chunk by chunk.
    pub(crate) fn chunks_of(
        &self,
        chunks: &Chunks,
        items: Range<usize>,
        n: usize,
        cols: usize,
    ) -> impl Iterator<Item = Range<usize>> + use<B> {
        let Range { start, end } = chunks.outputs(items);
        let chunk = chunks.chunk(n, cols, self.backend().products_per_ms());
        (start..end).step_by(chunk).map(move |r| r..end.min(r + chunk))
    }

    /// Scratch for products, and staging floats.
    ///
    /// # Safety
    /// The results of an earlier call are no longer in use.
    #[allow(clippy::mut_from_ref)] // this worker's own memory, whatever it shares
    pub(crate) unsafe fn local(&self) -> (&mut [u8], &mut [f32]) {
        let runner = self.running.runner;
        let bytes = runner.plan.memory_requirements.per_thread;
        // SAFETY: the region has `bytes` for each rank, and rank is ours alone (Running::enter).
        let own = unsafe { runner.locals.bytes_mut(self.rank * bytes, bytes) };
        let (product, floats) = own.split_at_mut(runner.floats_at);
        (product, bytemuck::cast_slice_mut(floats))
    }

    /// Returns [`Stopped`] if the step is cancelled.
    pub(crate) fn check_cancelled(&self) -> Result<(), Stopped> {
        if self.running.step.cancel.cancelled() { Err(Stopped) } else { Ok(()) }
    }

    /// Rows `first..first + n` of an f32 buffer.
    ///
    /// # Safety
    /// The rows are inside a verified buffer, and no one writes to them in this phase.
    pub(crate) unsafe fn read(&self, x: &Buffer, first: usize, n: usize) -> DenseActivations<'r> {
        // SAFETY: by the caller's promise.
        unsafe { self.arena().dense(x, first, n) }
    }

    /// Columns `col..col + width` of rows `first..first + n` of an f32 buffer.
    ///
    /// # Safety
    /// They are inside a verified buffer, and no one else uses them in this phase.
    pub(crate) unsafe fn write(
        &self,
        out: &Buffer,
        rows: (usize, usize),
        cols: (usize, usize),
    ) -> Tile<'r> {
        // SAFETY: by the caller's promise.
        unsafe { self.arena().tile(out, rows, cols) }
    }

    /// Writes `values` to row `t` of a buffer from column `col` on, quantised if the buffer is.
    /// They must belong to items that this worker has claimed.
    pub(crate) fn store(&self, out: &Buffer, t: usize, col: usize, values: &[f32]) {
        self.store_in(out, self.plan().max_rows(out.rows), t, col, values);
    }

    /// As [`Self::store`], for a buffer of `rows` rows.
    pub(crate) fn store_in(&self, out: &Buffer, rows: usize, t: usize, col: usize, values: &[f32]) {
        let (arena, backend, cols) = (self.arena(), self.backend(), (col, values.len()));
        match out.kind {
            BufferType::F32 => {
                // SAFETY: a part of a verified buffer that belongs to items of this worker.
                let mut to = unsafe { arena.tile(out, (t, 1), cols) };
                to.row(0).copy_from_slice(values);
            }
            BufferType::Q8 | BufferType::Q16 => {
                // SAFETY: as above.
                let to = unsafe { arena.q8_row(out, rows, t, cols) };
                backend.quantize(values, to);
            }
            BufferType::Wide | BufferType::WideRow => {
                // SAFETY: as above.
                let to = unsafe { arena.wide_row(out, rows, t, cols) };
                // With one scale for a row, all of it is written at once, by a norm (verified).
                backend.quantize_wide(values, to, out.kind == BufferType::WideRow);
            }
        }
    }

    /// First `n` rows of a buffer, as inputs of a product.
    ///
    /// # Safety
    /// No one writes to `x` in this phase.
    pub(crate) unsafe fn activations(&self, x: &Buffer, n: usize) -> Activations<'r> {
        // SAFETY: by the caller's promise.
        unsafe { self.activations_in(x, self.plan().max_rows(x.rows), n) }
    }

    /// As [`Self::activations`], for a buffer of `rows` rows.
    ///
    /// # Safety
    /// No one writes to `x` in this phase.
    pub(crate) unsafe fn activations_in(
        &self,
        x: &Buffer,
        rows: usize,
        n: usize,
    ) -> Activations<'r> {
        // SAFETY: a verified buffer, and the caller's promise.
        unsafe { self.arena().activations(x, rows, n) }
    }

    /// Copies the rows `row(0), row(1), ..` of a buffer into `memory`, as inputs of a product.
    ///
    /// # Safety
    /// No one writes to `x` in this phase.
    pub(crate) unsafe fn gather<'m>(
        &self,
        x: &Buffer,
        n: usize,
        row: impl Fn(usize) -> usize,
        memory: &'m mut [f32],
    ) -> Activations<'m> {
        let rows = (self.plan().max_rows(x.rows), self.rows(x.rows));
        // SAFETY: a verified buffer, and the caller's promise.
        unsafe { self.arena().gather(x, rows, n, row, memory) }
    }

    /// Cache of a segment's sequence.
    pub(crate) fn cache(&self, id: StateId, segment: &SegmentRows<'_>) -> Cache<'a> {
        let (plan, region) = (self.plan(), self.running.runner.states);
        let state = &plan.states[id.index()];
        let (StateKind::Kv { heads, .. }, Some(layout)) =
            (state.kind, state.kv_layout(&plan.options))
        else {
            unreachable!("verified: attention has a cache");
        };
        let heads = heads.into();
        if !state.is_paged(&plan.options) {
            return Cache::new(region, segment.memory + state.offset, heads, layout, None);
        }
        let table = segment.memory + HEADER;
        Cache::new(region, state.offset, heads, layout, Some((table, segment.pages)))
    }

    /// Banks of a fixed state of a segment's sequence: the current one, and the one to be written.
    ///
    /// # Safety
    /// Only what belongs to this worker's items is used, of a state that no other operation touches.
    pub(crate) unsafe fn banks(
        &self,
        id: StateId,
        segment: &SegmentRows<'_>,
    ) -> (Bank<'a>, Bank<'a>) {
        let (plan, region) = (self.plan(), self.running.runner.states);
        let state = &plan.states[id.index()];
        let StateKind::Fixed { bytes } = state.kind else {
            unreachable!("verified: a recurrent layer has a fixed state");
        };
        let at = |bank| segment.memory + state.bank_at(bank);
        // SAFETY: by the caller's promise.
        unsafe {
            let old = Bank::new(region, at(segment.bank), bytes);
            (old, Bank::new(region, at(1 - segment.bank), bytes))
        }
    }

    /// [`Backend::matmul`] for as many tokens at a time as a core computes in a millisecond or so,
    /// with a check for cancellation before each.
    pub(crate) fn product(
        &self,
        w: &Matrix<'_>,
        x: &Activations<'_>,
        rows: Range<usize>,
        y: &mut Tile<'_>,
        scratch: &mut [u8],
    ) -> Result<(), Stopped> {
        let backend = self.backend();
        let most = (backend.products_per_ms() / (rows.len() * w.cols()).max(1)).max(1);
        let mut t = 0;
        while t < x.n() {
            self.check_cancelled()?;
            let n = most.min(x.n() - t);
            backend.matmul(w, &x.rows(t, n), rows.clone(), &mut y.rows(t, n), scratch);
            // The rows are those of one matrix among several, if there are several.
            if let Some(factor) = w.factor(rows.start) {
                (t..t + n).for_each(|t| backend.scale(y.row(t), factor));
            }
            t += n;
        }
        Ok(())
    }
}
