//! Sequences of a runner: their positions, truncation, snapshots and checkpoints.
//!
//! The memory of a sequence begins with a header, which holds its number of positions. A KV cache
//! can be truncated to any position that it still holds; with a window it holds only the last ones.
//! A fixed state can only go back to the position before the last step, which is in its other bank.
//! If a state can't go back by itself, the caller needs bytes saved at the target position: a
//! snapshot, or a checkpoint, which contains only the states that can't be truncated.

use core::fmt;
use core::ops::Range;

use bytemuck::{Pod, Zeroable};
use teff_kernels::{Backend, KV_BLOCK, KvLayout};

use super::runner::Runner;
use crate::plan::{PANEL, StateKind, head_bytes};
use crate::step::{SequenceId, StepError};

/// Header of a sequence's memory.
#[derive(Clone, Copy, Default, Debug)]
#[repr(C)]
pub(super) struct Header {
    /// Number of committed positions.
    len: u64,
    /// End of the positions that were written, including those of cancelled steps.
    written: u64,
    /// Position at which the sequence was restored, if it was.
    restored: u64,
    /// Bank of fixed states that holds the current ones, and [`MARK`] while a step is checked.
    bank: u64,
    /// Position of the states in the other bank, plus 1; 0 if it holds none.
    before: u64,
    /// Number of pages in its table.
    pages: u64,
}

// SAFETY: integers of one size, without padding.
unsafe impl Zeroable for Header {}
// SAFETY: as above.
unsafe impl Pod for Header {}

/// Mark of sequences of which a step that is being checked has a segment.
const MARK: u64 = 1 << 1;

impl Header {
    pub(super) fn is_marked(&self) -> bool {
        self.bank & MARK != 0
    }

    /// The same header with or without the mark.
    pub(super) fn marked(self, mark: bool) -> Header {
        let bank = self.bank & !MARK | if mark { MARK } else { 0 };
        Header { bank, ..self }
    }

    pub(super) fn len(&self) -> usize {
        self.len as usize
    }

    pub(super) fn bank(&self) -> usize {
        (self.bank & 1) as usize
    }

    pub(super) fn pages(&self) -> usize {
        self.pages as usize
    }

    /// The same header with another number of pages.
    pub(super) fn with_pages(self, pages: usize) -> Header {
        Header { pages: pages as u64, ..self }
    }

    /// Header of a sequence that was restored at `len` positions.
    pub(super) fn restored(self, len: usize) -> Header {
        let len = len as u64;
        Header { len, written: len, restored: len, bank: 0, before: 0, pages: self.pages }
    }

    /// Header while a step of `n` tokens runs.
    pub(super) fn writing(self, n: usize) -> Header {
        Header { written: self.written.max(self.len + n as u64), before: 0, ..self }
    }

    /// Header after a step of `n` tokens.
    pub(super) fn committed(self, n: usize) -> Header {
        let (bank, before) = (1 - (self.bank & 1), self.len + 1);
        Header { len: self.len + n as u64, bank, before, ..self }
    }

    /// Header after truncation to a position that its states can go back to.
    fn truncated(self, position: usize) -> Header {
        let len = position as u64;
        match position {
            _ if len >= self.len => self,
            0 => Header::default().with_pages(self.pages()),
            // The fixed states of that position, if there are any, are in the other bank.
            _ if self.before == len + 1 => {
                Header { len, bank: 1 - (self.bank & 1), before: 0, ..self }
            }
            _ => Header { len, before: 0, ..self },
        }
    }

    /// First position whose keys and values are still present, in a cache with room for `capacity`
    /// positions and a window.
    fn first_kept(&self, capacity: usize, window: usize) -> usize {
        let overwritten = (self.written as usize).saturating_sub(capacity);
        match window {
            0 => 0,
            // The panel that a window begins in may have been overwritten before it was saved.
            _ => overwritten.max((self.restored as usize).saturating_sub(window - 1)),
        }
    }
}

/// First position that a snapshot at `len` positions keeps of a cache with a window.
fn window_start(len: usize, window: usize) -> usize {
    match window {
        0 => 0,
        _ => len.saturating_sub(window - 1) / PANEL * PANEL,
    }
}

/// Error of truncating a sequence to a position.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum TruncateError {
    /// The sequence does not exist.
    NoSequence {
        /// Number of the sequence.
        sequence: u16,
        /// Number of sequences.
        sequences: usize,
    },
    /// A layer keeps no earlier state: going back there needs a checkpoint, or a new start.
    NeedsCheckpoint {
        /// Requested position.
        position: usize,
        /// Last position before it that can be reached without a checkpoint.
        nearest: usize,
    },
}

impl fmt::Display for TruncateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TruncateError::NoSequence { sequence, sequences } => {
                StepError::NoSequence { sequence: *sequence, sequences: *sequences }.fmt(f)
            }
            TruncateError::NeedsCheckpoint { position, nearest } => write!(
                f,
                "the sequence can't go back to position {position} without a checkpoint: the \
                 model's layers keep no state from there; they can go back to position {nearest}"
            ),
        }
    }
}

impl core::error::Error for TruncateError {}

/// Error of restoring a sequence from bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum RestoreError {
    /// The sequence does not exist.
    NoSequence {
        /// Number of the sequence.
        sequence: u16,
        /// Number of sequences.
        sequences: usize,
    },
    /// The position is beyond the capacity of a sequence or, for a checkpoint, beyond its end.
    Position {
        /// Position to restore.
        position: usize,
        /// Maximum position.
        most: usize,
    },
    /// The sequence has fewer pages of its own than the positions need.
    Pages {
        /// Pages needed.
        needed: usize,
        /// Pages that the sequence has and no other one uses, from the first on.
        got: usize,
    },
    /// The number of bytes is not that of such a state.
    Size {
        /// Bytes needed.
        needed: usize,
        /// Bytes given.
        got: usize,
    },
}

impl fmt::Display for RestoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RestoreError::NoSequence { sequence, sequences } => {
                StepError::NoSequence { sequence: *sequence, sequences: *sequences }.fmt(f)
            }
            RestoreError::Position { position, most } => {
                write!(f, "a state of {position} positions, but there may be {most}")
            }
            RestoreError::Pages { needed, got } => {
                write!(f, "the state needs {needed} pages, but the sequence has {got} of its own")
            }
            RestoreError::Size { needed, got } => {
                write!(f, "the state has {needed} bytes, but {got} were given")
            }
        }
    }
}

impl core::error::Error for RestoreError {}

/// Calls `f` with the byte ranges of all heads of a cache that begins at `at` for these ranges of
/// slots: of each head the keys and then the values, of each the elements and then the scales.
pub(super) fn head_ranges(
    at: usize,
    heads: u16,
    layout: &KvLayout,
    parts: impl Iterator<Item = Range<usize>> + Clone,
    f: &mut impl FnMut(Range<usize>),
) {
    let (keys, values) = head_bytes(layout);
    for head in 0..usize::from(heads) {
        let keys_at = at + head * (keys + values);
        for i in 0..2 {
            for part in parts.clone() {
                let r = layout.key_ranges(part)[i].clone();
                f(keys_at + r.start..keys_at + r.end);
            }
        }
        for i in 0..2 {
            for part in parts.clone() {
                let r = layout.value_ranges(part)[i].clone();
                f(keys_at + keys + r.start..keys_at + keys + r.end);
            }
        }
    }
}

/// Subset of the states of a sequence.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kept {
    /// All states; of layers with a window, the positions in it.
    Snapshot,
    /// States that can't be truncated: windows and fixed states.
    Checkpoint,
}

impl<B: Backend> Runner<'_, B> {
    /// Offset of a sequence's memory.
    pub(super) fn sequence_at(&self, sequence: usize) -> usize {
        let needed = &self.plan.memory_requirements;
        needed.pool + sequence * needed.state
    }

    /// Header of an existing sequence.
    pub(super) fn header(&self, sequence: usize) -> Header {
        let at = self.sequence_at(sequence);
        // SAFETY: inside, of an existing sequence; headers are written between steps only.
        let bytes = unsafe { self.states.bytes_mut(at, size_of::<Header>()) };
        *bytemuck::from_bytes(bytes)
    }

    /// Writes the header of an existing sequence.
    ///
    /// # Safety
    /// No one reads it at the same time: no step runs.
    pub(super) unsafe fn set_header(&self, sequence: usize, header: Header) {
        let at = self.sequence_at(sequence);
        // SAFETY: inside, of an existing sequence; the caller's promise.
        let bytes = unsafe { self.states.bytes_mut(at, size_of::<Header>()) };
        *bytemuck::from_bytes_mut(bytes) = header;
    }

    fn known(&self, SequenceId(sequence): SequenceId) -> Result<usize, TruncateError> {
        let (index, sequences) = (usize::from(sequence), self.sequences());
        match index < sequences {
            true => Ok(index),
            false => Err(TruncateError::NoSequence { sequence, sequences }),
        }
    }

    fn known_to_restore(&self, sequence: SequenceId) -> Result<usize, RestoreError> {
        let no_sequence =
            RestoreError::NoSequence { sequence: sequence.0, sequences: self.sequences() };
        self.known(sequence).map_err(|_| no_sequence)
    }

    /// Number of positions of a sequence.
    ///
    /// # Panics
    /// If the sequence does not exist.
    #[must_use]
    pub fn position(&self, sequence: SequenceId) -> usize {
        assert!(usize::from(sequence.0) < self.sequences(), "no such sequence");
        self.header(sequence.0.into()).len()
    }

    /// Last position up to `position` that [`Runner::truncate`] can reach: `position` itself if all
    /// layers keep it, otherwise an earlier one, or 0.
    ///
    /// # Panics
    /// If the sequence does not exist.
    #[must_use]
    pub fn nearest(&self, sequence: SequenceId, position: usize) -> usize {
        assert!(usize::from(sequence.0) < self.sequences(), "no such sequence");
        let header = self.header(sequence.0.into());
        let position = position.min(header.len());
        let (mut earliest, mut fixed) = (0, false);
        for state in self.plan.states.iter() {
            match state.kind {
                StateKind::Kv { window, capacity, .. } => {
                    // The next token attends to `window - 1` positions before it.
                    match header.first_kept(capacity, window as usize) {
                        0 => {}
                        kept => earliest = earliest.max(kept + window as usize - 1),
                    }
                }
                StateKind::Fixed { .. } => fixed = true,
            }
        }
        let before = header.before.checked_sub(1).map(|p| p as usize);
        let found = match fixed {
            true if position == header.len() => position,
            true => before.filter(|&p| p <= position).unwrap_or(0),
            false => position,
        };
        if found < earliest { 0 } else { found }
    }

    /// Truncates a sequence to its first `position` tokens; a position beyond its end changes
    /// nothing.
    ///
    /// # Errors
    /// [`TruncateError::NeedsCheckpoint`] if a layer keeps no state from there; nothing is changed
    /// in that case. Position 0 can always be reached.
    pub fn truncate(&mut self, sequence: SequenceId, position: usize) -> Result<(), TruncateError> {
        let index = self.known(sequence)?;
        let header = self.header(index);
        if position >= header.len() {
            return Ok(());
        }
        let nearest = self.nearest(sequence, position);
        if nearest != position {
            return Err(TruncateError::NeedsCheckpoint { position, nearest });
        }
        // SAFETY: the runner is borrowed mutably, so that no step runs.
        unsafe { self.set_header(index, header.truncated(position)) };
        Ok(())
    }

    /// Calls `f` with the byte ranges that make up the states of a sequence at `len` positions, in
    /// an order that depends neither on the capacity of caches nor on the position in their rings.
    fn ranges(
        &self,
        index: usize,
        len: usize,
        bank: usize,
        kept: Kept,
        mut f: impl FnMut(Range<usize>),
    ) {
        let base = self.sequence_at(index);
        for state in self.plan.states.iter() {
            let at = base + state.offset;
            match state.kind {
                StateKind::Fixed { bytes } => {
                    let at = base + state.bank_at(bank);
                    f(at..at + bytes);
                }
                StateKind::Kv { heads, window, capacity, .. } => {
                    let Some(layout) = state.kv_layout(&self.plan.options) else { continue };
                    if kept == Kept::Checkpoint && window == 0 {
                        continue;
                    }
                    if state.is_paged(&self.plan.options) {
                        let pages = self.table(index);
                        let part = |b: usize| {
                            let slot = pages.get(b).map_or(0, |&p| p as usize * KV_BLOCK);
                            slot..slot + (len - b * KV_BLOCK).min(KV_BLOCK)
                        };
                        let parts = (0..len.div_ceil(KV_BLOCK)).map(part);
                        head_ranges(state.offset, heads, &layout, parts, &mut f);
                        continue;
                    }
                    let start = window_start(len, window as usize);
                    // From the first slot to the end of the ring, then from its start.
                    let slots = start % capacity..start % capacity + (len - start);
                    let parts = [
                        slots.start..slots.end.min(capacity),
                        0..slots.end.saturating_sub(capacity),
                    ];
                    head_ranges(at, heads, &layout, parts.into_iter(), &mut f);
                }
            }
        }
    }

    fn bytes_of(&self, len: usize, kept: Kept) -> usize {
        let mut size = 0;
        self.ranges(0, len, 0, kept, |r| size += r.len());
        size
    }

    fn save(&self, index: usize, header: Header, kept: Kept, mut f: impl FnMut(&[u8])) {
        // SAFETY: steps write only while a Running borrows the runner mutably.
        let all = unsafe { self.states.bytes() };
        self.ranges(index, header.len(), header.bank(), kept, |r| f(&all[r]));
    }

    fn load(&mut self, index: usize, len: usize, kept: Kept, mut bytes: &[u8]) {
        // SAFETY: the whole region, and the runner is borrowed mutably.
        let all = unsafe { self.states.bytes_mut(0, self.states.len()) };
        self.ranges(index, len, 0, kept, |r| {
            let (head, rest) = bytes.split_at(r.len());
            all[r].copy_from_slice(head);
            bytes = rest;
        });
    }

    /// Loads a checkpoint of the right size.
    pub(super) fn load_checkpoint(&mut self, index: usize, position: usize, bytes: &[u8]) {
        self.load(index, position, Kept::Checkpoint, bytes);
    }

    /// Bytes of a snapshot at `position` positions.
    #[must_use]
    pub fn snapshot_bytes(&self, position: usize) -> usize {
        self.bytes_of(position.min(self.plan.options.context), Kept::Snapshot)
    }

    /// Passes the parts of a snapshot of a sequence to `f`, one after another, in an order that
    /// does not depend on the batch and context of the plan.
    ///
    /// # Panics
    /// If the sequence does not exist.
    pub fn snapshot(&self, sequence: SequenceId, f: impl FnMut(&[u8])) {
        assert!(usize::from(sequence.0) < self.sequences(), "no such sequence");
        let index = sequence.0.into();
        self.save(index, self.header(index), Kept::Snapshot, f);
    }

    /// As [`Runner::snapshot`], of an earlier position, to which the sequence can be
    /// [truncated](Runner::truncate).
    ///
    /// # Panics
    /// If the sequence does not exist, or can't be truncated to the position.
    pub fn snapshot_at(&self, sequence: SequenceId, position: usize, f: impl FnMut(&[u8])) {
        assert_eq!(self.nearest(sequence, position), position, "a position without states");
        let index = sequence.0.into();
        self.save(index, self.header(index).truncated(position), Kept::Snapshot, f);
    }

    /// Replaces a sequence with a snapshot taken at `position`.
    ///
    /// # Errors
    /// [`RestoreError`] if it doesn't fit; nothing is changed in that case.
    pub fn restore(
        &mut self,
        sequence: SequenceId,
        position: usize,
        snapshot: &[u8],
    ) -> Result<(), RestoreError> {
        let index = self.known_to_restore(sequence)?;
        let most = self.plan.options.context;
        if position > most {
            return Err(RestoreError::Position { position, most });
        }
        let (needed, got) = (self.bytes_of(position, Kept::Snapshot), snapshot.len());
        if needed != got {
            return Err(RestoreError::Size { needed, got });
        }
        self.check_own_pages(index, position)?;
        self.load(index, position, Kept::Snapshot, snapshot);
        let header = self.header(index).restored(position);
        // SAFETY: the runner is borrowed mutably, so that no step runs.
        unsafe { self.set_header(index, header) };
        Ok(())
    }

    /// Bytes of a checkpoint at `position` positions: 0 if every layer can be truncated without
    /// one.
    #[must_use]
    pub fn checkpoint_bytes(&self, position: usize) -> usize {
        self.bytes_of(position.min(self.plan.options.context), Kept::Checkpoint)
    }

    /// Passes the parts of a checkpoint of a sequence to `f`, one after another: the contents of
    /// its windows and fixed states at its present position.
    ///
    /// # Panics
    /// If the sequence does not exist.
    pub fn checkpoint(&self, sequence: SequenceId, f: impl FnMut(&[u8])) {
        assert!(usize::from(sequence.0) < self.sequences(), "no such sequence");
        let index = sequence.0.into();
        self.save(index, self.header(index), Kept::Checkpoint, f);
    }

    /// Rewinds a sequence to `position`, with a checkpoint taken there of the same text.
    ///
    /// # Errors
    /// [`RestoreError`] if it doesn't fit, or the sequence is shorter; nothing is changed in that
    /// case.
    pub fn rewind(
        &mut self,
        sequence: SequenceId,
        position: usize,
        checkpoint: &[u8],
    ) -> Result<(), RestoreError> {
        let index = self.known_to_restore(sequence)?;
        let header = self.header(index);
        if position > header.len() {
            return Err(RestoreError::Position { position, most: header.len() });
        }
        let (needed, got) = (self.bytes_of(position, Kept::Checkpoint), checkpoint.len());
        if needed != got {
            return Err(RestoreError::Size { needed, got });
        }
        self.load(index, position, Kept::Checkpoint, checkpoint);
        let header = self.header(index).restored(position);
        // SAFETY: the runner is borrowed mutably, so that no step runs.
        unsafe { self.set_header(index, header) };
        Ok(())
    }

    /// Copies a sequence of another runner of the same plan into a sequence of this one.
    ///
    /// # Errors
    /// [`RestoreError`] if a sequence does not exist, the states of the plans differ, or they have
    /// pages.
    pub fn copy_from<C: Backend>(
        &mut self,
        sequence: SequenceId,
        other: &Runner<'_, C>,
        from: SequenceId,
    ) -> Result<(), RestoreError> {
        let (to, from) = (self.known_to_restore(sequence)?, other.known_to_restore(from)?);
        let (needed, got) =
            (self.plan.memory_requirements.state, other.plan.memory_requirements.state);
        // Pages are of one runner; its sequences are copied by `fork`.
        let alike = self.plan.states == other.plan.states
            && self.plan.options == other.plan.options
            && self.plan.options.pages == 0;
        if needed != got || !alike {
            return Err(RestoreError::Size { needed, got });
        }
        let (to, from) = (self.sequence_at(to), other.sequence_at(from));
        // SAFETY: both inside; this runner is borrowed mutably and the other one is not, so that no
        // step of either runs, and they are different regions.
        let (to, from) = unsafe {
            (self.states.bytes_mut(to, needed), &other.states.bytes()[from..from + needed])
        };
        to.copy_from_slice(from);
        Ok(())
    }
}
