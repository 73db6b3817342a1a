//! The sequences of a runner: how far each is, going back, and what is kept of one.
//!
//! The memory of a sequence begins with a header, which says how many positions it has. Keys and
//! values of any position can be gone back to as long as they are there; a cache with a window keeps
//! the last ones only, and a fixed state just the one before the last step, in its other bank. Where
//! a state can't go back, the caller needs bytes that were saved at the place to go back to: a
//! snapshot, or a checkpoint, which has only what can't be gone back to without.

use core::fmt;
use core::ops::Range;

use bytemuck::{Pod, Zeroable};
use teff_kernels::Backend;

use super::runner::Runner;
use crate::plan::{PANEL, StateKind, head_bytes};
use crate::step::{SequenceId, StepError};

/// The beginning of a sequence's memory.
#[derive(Clone, Copy, Default, Debug)]
#[repr(C)]
pub(super) struct Header {
    /// Positions that were committed.
    len: u64,
    /// End of the positions that were written, those of cancelled steps included.
    written: u64,
    /// Position at which the sequence was restored, where it was.
    restored: u64,
    /// The bank of fixed states that holds them.
    bank: u64,
    /// Position of the states in the other bank, and 1 more; 0 where it holds none.
    before: u64,
}

// SAFETY: integers of one size, without padding.
unsafe impl Zeroable for Header {}
// SAFETY: as above.
unsafe impl Pod for Header {}

impl Header {
    pub(super) fn len(&self) -> usize {
        self.len as usize
    }

    pub(super) fn bank(&self) -> usize {
        (self.bank & 1) as usize
    }

    /// While a step of `n` tokens runs.
    pub(super) fn writing(self, n: usize) -> Header {
        Header { written: self.written.max(self.len + n as u64), before: 0, ..self }
    }

    /// After a step of `n` tokens.
    pub(super) fn committed(self, n: usize) -> Header {
        let (bank, before) = (1 - (self.bank & 1), self.len + 1);
        Header { len: self.len + n as u64, bank, before, ..self }
    }

    /// The first position whose keys and values are there, of a cache with room for `capacity`
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

/// The first position that a snapshot keeps of a cache with a window, at `len` positions.
fn window_start(len: usize, window: usize) -> usize {
    match window {
        0 => 0,
        _ => len.saturating_sub(window - 1) / PANEL * PANEL,
    }
}

/// Why a sequence can't be taken back to a position.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum TruncateError {
    /// There is no such sequence.
    NoSequence {
        /// Its number.
        sequence: u16,
        /// Sequences that there are.
        sequences: usize,
    },
    /// A layer keeps no earlier state: it takes a checkpoint to go back there, or to begin again.
    NeedsCheckpoint {
        /// Position that was asked for.
        position: usize,
        /// The last position before it that can be gone back to without.
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

/// Why bytes don't restore a sequence.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum RestoreError {
    /// There is no such sequence.
    NoSequence {
        /// Its number.
        sequence: u16,
        /// Sequences that there are.
        sequences: usize,
    },
    /// A sequence has fewer positions than are to be restored, or, of a checkpoint, than it has.
    Position {
        /// Position that is to be restored.
        position: usize,
        /// Most that it may be.
        most: usize,
    },
    /// The bytes are not as many as such a state has.
    Size {
        /// Bytes that it has.
        needed: usize,
        /// Bytes that were given.
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
            RestoreError::Size { needed, got } => {
                write!(f, "the state has {needed} bytes, but {got} were given")
            }
        }
    }
}

impl core::error::Error for RestoreError {}

/// Which states of a sequence.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kept {
    /// All of them, the positions of a window where a layer has one.
    Snapshot,
    /// Those that can't be gone back to without: windows and fixed states.
    Checkpoint,
}

impl<B: Backend> Runner<'_, B> {
    /// First byte of a sequence's memory.
    pub(super) fn sequence_at(&self, sequence: usize) -> usize {
        sequence * self.plan.memory_requirements.state
    }

    /// The header of a sequence that there is.
    pub(super) fn header(&self, sequence: usize) -> Header {
        let at = self.sequence_at(sequence);
        // SAFETY: inside, of a sequence that there is; headers are written between steps only.
        let bytes = unsafe { self.states.bytes_mut(at, size_of::<Header>()) };
        *bytemuck::from_bytes(bytes)
    }

    /// Writes the header of a sequence that there is.
    ///
    /// # Safety
    /// Nobody reads it meanwhile: no step runs.
    pub(super) unsafe fn set_header(&self, sequence: usize, header: Header) {
        let at = self.sequence_at(sequence);
        // SAFETY: inside, of a sequence that there is; the caller's promise.
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

    /// Positions of a sequence.
    ///
    /// # Panics
    /// Where there is no such sequence.
    #[must_use]
    pub fn position(&self, sequence: SequenceId) -> usize {
        assert!(usize::from(sequence.0) < self.sequences(), "no such sequence");
        self.header(sequence.0.into()).len()
    }

    /// The last position up to `position` that a sequence can be taken back to by [`Runner::truncate`]:
    /// that one where all layers keep it, a position before it, or 0.
    ///
    /// # Panics
    /// Where there is no such sequence.
    #[must_use]
    pub fn nearest(&self, sequence: SequenceId, position: usize) -> usize {
        assert!(usize::from(sequence.0) < self.sequences(), "no such sequence");
        let header = self.header(sequence.0.into());
        let position = position.min(header.len());
        let (mut earliest, mut fixed) = (0, false);
        for state in self.plan.states.iter() {
            match state.kind {
                StateKind::Kv { window, capacity, .. } => {
                    // The next token sees `window - 1` positions before it.
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

    /// Takes a sequence back to its first `position` tokens; beyond its end this changes nothing.
    ///
    /// # Errors
    /// [`TruncateError::NeedsCheckpoint`] where a layer keeps no state from there; nothing is changed
    /// then. Position 0 can always be gone back to.
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
        let header = match position {
            0 => Header::default(),
            // Where there are fixed states, the ones from there are in the other bank.
            _ if header.before == position as u64 + 1 => {
                Header { len: position as u64, bank: 1 - (header.bank & 1), before: 0, ..header }
            }
            _ => Header { len: position as u64, before: 0, ..header },
        };
        // SAFETY: the runner is borrowed mutably, so that no step runs.
        unsafe { self.set_header(index, header) };
        Ok(())
    }

    /// Calls `f` with the ranges of bytes that make up the states of a sequence at `len` positions, in
    /// an order that depends on neither the capacity of caches nor the place in their rings.
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
                    let start = window_start(len, window as usize);
                    // From the first slot to the end of the ring, and what goes on at its beginning.
                    let slots = start % capacity..start % capacity + (len - start);
                    let parts = [
                        slots.start..slots.end.min(capacity),
                        0..slots.end.saturating_sub(capacity),
                    ];
                    let (keys, values) = head_bytes(&layout);
                    for head in 0..usize::from(heads) {
                        let keys_at = at + head * (keys + values);
                        let ranges = |part: &Range<usize>| {
                            (layout.key_ranges(part.clone()), layout.value_ranges(part.clone()))
                        };
                        // Elements, then scales, each of both parts.
                        for i in 0..2 {
                            for part in &parts {
                                let r = ranges(part).0[i].clone();
                                f(keys_at + r.start..keys_at + r.end);
                            }
                        }
                        for i in 0..2 {
                            for part in &parts {
                                let r = ranges(part).1[i].clone();
                                f(keys_at + keys + r.start..keys_at + keys + r.end);
                            }
                        }
                    }
                }
            }
        }
    }

    fn bytes_of(&self, len: usize, kept: Kept) -> usize {
        let mut size = 0;
        self.ranges(0, len, 0, kept, |r| size += r.len());
        size
    }

    fn save(&self, index: usize, kept: Kept, mut f: impl FnMut(&[u8])) {
        let header = self.header(index);
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

    /// Bytes of a snapshot at so many positions.
    #[must_use]
    pub fn snapshot_bytes(&self, position: usize) -> usize {
        self.bytes_of(position.min(self.plan.options.context), Kept::Snapshot)
    }

    /// Gives `f` the parts of a snapshot of a sequence, one after another, in an order that is the
    /// same whatever the batch and the context of the plan.
    ///
    /// # Panics
    /// Where there is no such sequence.
    pub fn snapshot(&self, sequence: SequenceId, f: impl FnMut(&[u8])) {
        assert!(usize::from(sequence.0) < self.sequences(), "no such sequence");
        self.save(sequence.0.into(), Kept::Snapshot, f);
    }

    /// Replaces a sequence by a snapshot that was taken at `position`.
    ///
    /// # Errors
    /// [`RestoreError`] where it doesn't fit; nothing is changed then.
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
        self.load(index, position, Kept::Snapshot, snapshot);
        let len = position as u64;
        let header = Header { len, written: len, restored: len, bank: 0, before: 0 };
        // SAFETY: the runner is borrowed mutably, so that no step runs.
        unsafe { self.set_header(index, header) };
        Ok(())
    }

    /// Bytes of a checkpoint at so many positions: 0 where every layer can go back without one.
    #[must_use]
    pub fn checkpoint_bytes(&self, position: usize) -> usize {
        self.bytes_of(position.min(self.plan.options.context), Kept::Checkpoint)
    }

    /// Gives `f` the parts of a checkpoint of a sequence, one after another: what its windows and
    /// fixed states have at its present position.
    ///
    /// # Panics
    /// Where there is no such sequence.
    pub fn checkpoint(&self, sequence: SequenceId, f: impl FnMut(&[u8])) {
        assert!(usize::from(sequence.0) < self.sequences(), "no such sequence");
        self.save(sequence.0.into(), Kept::Checkpoint, f);
    }

    /// Takes a sequence back to `position`, where the checkpoint was taken of the same text.
    ///
    /// # Errors
    /// [`RestoreError`] where it doesn't fit, or the sequence is shorter; nothing is changed then.
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
        let len = position as u64;
        let header = Header { len, written: len, restored: len, bank: 0, before: 0 };
        // SAFETY: the runner is borrowed mutably, so that no step runs.
        unsafe { self.set_header(index, header) };
        Ok(())
    }

    /// Makes a sequence of this runner a copy of one of another runner of the same plan, which may be
    /// this one's twin.
    ///
    /// # Errors
    /// [`RestoreError`] where there is no such sequence, or the plans differ in their states.
    pub fn copy_from<C: Backend>(
        &mut self,
        sequence: SequenceId,
        other: &Runner<'_, C>,
        from: SequenceId,
    ) -> Result<(), RestoreError> {
        let (to, from) = (self.known_to_restore(sequence)?, other.known_to_restore(from)?);
        let (needed, got) =
            (self.plan.memory_requirements.state, other.plan.memory_requirements.state);
        let alike =
            self.plan.states == other.plan.states && self.plan.options == other.plan.options;
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
