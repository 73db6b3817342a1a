//! A step in progress.

use core::sync::atomic::{AtomicU8, AtomicU32, Ordering};

use teff_kernels::Backend;

use super::runner::{MAX_TEAM, Runner};
use super::worker::Worker;
use crate::Team;
use crate::ops::{ALL_KINDS, Op};
use crate::step::{Step, StepError};

/// State of a worker that has started its share.
const WALKING: u8 = 1;
/// State of a worker that has finished its share.
const DONE: u8 = 2;

/// Step in progress: each worker of a team runs it once, and then it is committed.
#[must_use = "a step counts when it is committed"]
pub struct Running<'r, 'a, B> {
    pub(super) runner: &'r Runner<'a, B>,
    pub(super) step: Step<'r>,
    /// Number of tokens of all segments.
    pub(super) tokens: usize,
    /// Number of rows of outputs of all segments.
    pub(super) wanted: usize,
    /// Phase in which a worker saw the cancellation.
    pub(super) stopped: AtomicU32,
    /// Size of the team.
    pub(super) size: AtomicU32,
    /// Progress of each rank.
    pub(super) ranks: [AtomicU8; MAX_TEAM],
}

impl<'r, 'a, B: Backend> Running<'r, 'a, B> {
    #[inline(always)]
    pub(super) fn new(
        runner: &'r Runner<'a, B>,
        step: &Step<'r>,
        (tokens, wanted): (usize, usize),
    ) -> Self {
        Running {
            runner,
            step: *step,
            tokens,
            wanted,
            stopped: AtomicU32::new(u32::MAX),
            size: AtomicU32::new(0),
            ranks: [const { AtomicU8::new(0) }; MAX_TEAM],
        }
    }

    /// Rows of outputs that the step computes.
    #[must_use]
    pub fn wanted(&self) -> usize {
        self.wanted
    }

    /// Marks `rank` as started; false if it already was.
    fn claim(&self, rank: usize) -> bool {
        #[cfg(target_has_atomic = "8")]
        return self.ranks[rank].swap(WALKING, Ordering::Relaxed) == 0;
        // Cores without read-modify-write instructions have no second thread to race with.
        #[cfg(not(target_has_atomic = "8"))]
        {
            let was = self.ranks[rank].load(Ordering::Relaxed);
            self.ranks[rank].store(WALKING, Ordering::Relaxed);
            was == 0
        }
    }

    /// Computes one worker's share of the step. Every worker of the team calls it once, at the same
    /// time; once all have returned `Ok`, the step can be committed.
    ///
    /// # Errors
    /// [`StepError::Cancelled`] for all workers if any of them saw the cancellation;
    /// [`StepError::Team`] if there is no memory for the team; [`StepError::Broken`].
    pub fn walk<T: Team + ?Sized>(&self, team: &T) -> Result<(), StepError> {
        self.walk_kinds::<ALL_KINDS, T>(team)
    }

    /// The same for a runner made by [`Runner::with_kinds`].
    ///
    /// # Errors
    /// As [`Running::walk`]; [`StepError::Kinds`] where the plan has operations of other kinds.
    pub fn walk_kinds<const KINDS: u64, T: Team + ?Sized>(
        &self,
        team: &T,
    ) -> Result<(), StepError> {
        if self.runner.kinds & !KINDS != 0 {
            return Err(StepError::Kinds);
        }
        let (rank, size) = (team.rank(), team.size());
        let threads = self.runner.threads();
        if size > threads || rank >= size || !self.claim(rank) {
            return Err(StepError::Team { max: threads, got: size });
        }
        self.size.store(size as u32, Ordering::Relaxed);
        let worker = Worker::new(self, rank, size);
        let mut phase = 0;
        for op in self.runner.plan.ops.iter() {
            if *op == Op::Barrier {
                self.meet(team, phase)?;
                phase += 1;
            } else if self.step.cancel.cancelled() || op.run::<B, KINDS>(&worker).is_err() {
                self.stopped.store(phase, Ordering::Relaxed);
            }
        }
        self.meet(team, phase)?;
        self.ranks[rank].store(DONE, Ordering::Release);
        Ok(())
    }

    /// Waits for the other workers at the end of a phase, after which either all of them leave or
    /// none.
    fn meet<T: Team + ?Sized>(&self, team: &T, phase: u32) -> Result<(), StepError> {
        team.barrier()?;
        // Only workers in phase p store p, and none is beyond p before this barrier: if one worker
        // reads a number up to `phase` here, all others read it too.
        if self.stopped.load(Ordering::Relaxed) <= phase {
            return Err(StepError::Cancelled);
        }
        Ok(())
    }

    /// Commits the step, which adds its tokens to their sequences, and returns the number of rows
    /// of outputs.
    ///
    /// # Errors
    /// [`StepError::Cancelled`] if a worker saw the cancellation, [`StepError::Team`] if not all of
    /// them have finished their shares; the sequences are then as before the step.
    pub fn commit(self) -> Result<usize, StepError> {
        self.settle()
    }

    /// [`Running::commit`], to be called once.
    pub(super) fn settle(&self) -> Result<usize, StepError> {
        if self.stopped.load(Ordering::Relaxed) != u32::MAX {
            return Err(StepError::Cancelled);
        }
        let size = self.size.load(Ordering::Relaxed) as usize;
        let done = self.ranks.iter().filter(|r| r.load(Ordering::Acquire) == DONE).count();
        if size == 0 || done != size {
            return Err(StepError::Team { max: self.runner.threads(), got: done });
        }
        for s in self.step.segments {
            let sequence = usize::from(s.sequence.0);
            let header = self.runner.header(sequence).committed(s.tokens.len());
            // SAFETY: the step has borrowed the runner mutably, and all its workers are done.
            unsafe { self.runner.set_header(sequence, header) };
        }
        Ok(self.wanted)
    }
}
