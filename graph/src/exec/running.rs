//! A step in progress.

use core::num::NonZeroUsize;
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize};

use teff_kernels::Backend;

use super::runner::{MAX_TEAM, Runner};
use super::worker::Worker;
use crate::ops::{ALL_KINDS, Op};
use crate::step::{Step, StepError};
use crate::{Team, Work};

/// Bits in a word of ranks.
const BITS: usize = u32::BITS as usize;

/// Step in progress: the workers of a team run it, and then it is committed.
///
/// ```
/// # #[cfg(feature = "alloc")]
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use teff_graph::{LogitsFor, NeverCancel, Segment, SequenceId, Solo, Step, StepError};
/// # use teff_graph::{Memory, Options, Plan, Runner, Slot, Spec, Tensor, family::gpt2};
/// # use teff_kernels::{Cpu, Format, Matrix};
/// # let layers = gpt2::small().layers.with_len(1);
/// # let spec = Spec { vocab: 100, context: 16, layers, ..gpt2::small() };
/// # let largest = spec.slots().map(|s| s.rows * s.cols).max().unwrap_or(0);
/// # let (bytes, floats) = (vec![0; 4 * largest], vec![1.0; largest]);
/// # let tensor = |s: Slot| match s.is_vector() {
/// #     true => Tensor::Vector(&floats[..s.cols]),
/// #     false => {
/// #         let bytes = &bytes[..4 * s.rows * s.cols];
/// #         Tensor::Matrix(Matrix::new(Format::F32, s.rows, s.cols, bytes).unwrap())
/// #     }
/// # };
/// # let weights: Vec<Tensor> = spec.slots().map(tensor).collect();
/// # let plan = Plan::build(&spec, &|_| Format::F32, &Options::new(16), &Cpu::best())?;
/// # let memory = Memory::allocate(&plan.memory_requirements, 1, 1)?;
/// # let mut runner = Runner::new(plan, weights.into(), Cpu::best(), 1, memory)?;
///
/// // A runner as in the example of `Runner`.
/// let sequence = SequenceId(0);
/// let segments = [Segment { sequence, tokens: &[7], logits: LogitsFor::Last }];
/// let step = Step { segments: &segments, cancel: &NeverCancel };
///
/// // The team of one thread.
/// let running = runner.begin(&step)?;
/// running.walk(&Solo)?;
/// assert_eq!(running.commit()?, 1);
/// assert_eq!(runner.position(sequence), 1);
///
/// // A step that no one has computed can't be committed.
/// assert!(matches!(runner.begin(&step)?.commit(), Err(StepError::Unfinished)));
/// assert_eq!(runner.position(sequence), 1);
/// # Ok(())
/// # }
/// # #[cfg(not(feature = "alloc"))]
/// # fn main() {}
/// ```
#[must_use = "a step counts when it is committed"]
pub struct Running<'r, 'a, B> {
    pub(super) runner: &'r Runner<'a, B>,
    pub(super) step: Step<'r>,
    /// Number of tokens of all segments.
    pub(super) tokens: usize,
    /// Number of rows of outputs of all segments.
    pub(super) wanted: usize,
    /// Phase in which a worker saw the cancellation.
    stopped: AtomicU32,
    /// True once the last phase is over.
    finished: AtomicBool,
    /// Id of the team; 0 before any of its workers has come.
    team: AtomicUsize,
    /// A bit for each rank whose worker walks, or has failed.
    ranks: [AtomicU32; MAX_TEAM.div_ceil(BITS)],
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
            finished: AtomicBool::new(false),
            team: AtomicUsize::new(0),
            ranks: [const { AtomicU32::new(0) }; MAX_TEAM.div_ceil(BITS)],
        }
    }

    /// Rows of outputs that the step computes.
    #[must_use]
    pub fn wanted(&self) -> usize {
        self.wanted
    }

    /// Marks a worker of a team, which was in this phase before, as walking. False if it already is,
    /// or if the step is another team's, or if the team's run is another step's.
    fn enter(&self, id: NonZeroUsize, rank: usize, phase: u32) -> bool {
        let (word, bit) = (&self.ranks[rank / BITS], 1 << (rank % BITS));
        #[cfg(target_has_atomic = "ptr")]
        {
            let was = self.team.compare_exchange(0, id.get(), Relaxed, Relaxed);
            // Before the first of its workers has come, nobody has done anything in this run.
            let ours = was.map_or_else(|team| team == id.get(), |_| phase == 0);
            ours && word.fetch_or(bit, Acquire) & bit == 0
        }
        // Cores without read-modify-write instructions have no second thread to race with.
        #[cfg(not(target_has_atomic = "ptr"))]
        {
            let (team, ranks) = (self.team.load(Relaxed), word.load(Relaxed));
            self.team.store(id.get(), Relaxed);
            word.store(ranks | bit, Relaxed);
            (team == id.get() || team == 0 && phase == 0) && ranks & bit == 0
        }
    }

    /// Marks a worker as not walking, so that it may come back.
    fn leave(&self, rank: usize) {
        let (word, bit) = (&self.ranks[rank / BITS], 1 << (rank % BITS));
        #[cfg(target_has_atomic = "ptr")]
        word.fetch_and(!bit, Release);
        #[cfg(not(target_has_atomic = "ptr"))]
        word.store(word.load(Relaxed) & !bit, Relaxed);
    }

    /// Computes items of the step as one worker of a team, from the phase on in which the team is.
    /// The workers of the team call it at the same time, each of them any number of times; when all
    /// have returned and none with an error, and one of them was told that the last phase is over,
    /// the step can be committed.
    ///
    /// # Errors
    /// [`StepError::Cancelled`] if a worker saw the cancellation; [`StepError::Team`] if there is
    /// no memory for the team, the worker walks already, or the step is another team's or over;
    /// [`StepError::Broken`].
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
        let (rank, size, mut phase) = (team.rank(), team.size(), team.phase());
        let threads = self.runner.threads();
        if size > threads || rank >= size || !self.enter(team.id(), rank, phase) {
            return Err(StepError::Team { max: threads, got: size });
        }
        let mut over = false;
        // Looked at once: the others may finish at any moment after this, and then there is nothing to
        // claim.
        if phase == 0 && self.finished.load(Acquire) {
            // A worker that was put aside since it read the phase: now it reads that of the others, which
            // they had before they finished.
            phase = team.phase();
            // Or a team for which nothing is ever over, such as one thread, and which has done it all.
            over = phase == 0;
        }
        let result = if over {
            Err(StepError::Team { max: threads, got: size })
        } else {
            self.phases::<KINDS, T>(team, phase, &Worker::new(self, rank))
        };
        // Not after a panic: then this worker's items are lost, and it doesn't come back.
        self.leave(rank);
        result
    }

    /// Computes items of one phase after another, from phase `now` on.
    fn phases<const KINDS: u64, T: Team + ?Sized>(
        &self,
        team: &T,
        mut now: u32,
        worker: &Worker<'_, 'r, 'a, B>,
    ) -> Result<(), StepError> {
        let ops = &*self.runner.plan.ops;
        let (mut at, mut phase) = (0, 0);
        loop {
            // To the first operation of the phase; others may be over.
            while phase < now {
                match ops[at..].iter().position(|op| *op == Op::Barrier) {
                    Some(n) => at += n + 1,
                    None if self.is_stopped() => return Err(StepError::Cancelled),
                    None => {
                        self.finished.store(true, Release);
                        return Ok(());
                    }
                }
                phase += 1;
            }
            // Only workers with items of the phase in progress store its number. Those that see it
            // in that phase stay until it is over, so that either all leave or none.
            if self.stopped.load(Relaxed) < phase {
                return Err(StepError::Cancelled);
            }
            let (mut done, mut all) = (0, 0);
            while let Some(op) = ops.get(at).filter(|op| **op != Op::Barrier) {
                let items = op.items::<B, KINDS>(worker);
                done += self.claims::<KINDS, T>(team, worker, (phase, at, op), items);
                all += items;
                at += 1;
            }
            // SAFETY: as in `claims`, which has claimed and done so many items.
            match unsafe { team.finish(phase, done, all) }? {
                Some(next) => now = next,
                None => return Ok(()),
            }
        }
    }

    /// Computes items of an operation as long as there are some to claim, and returns their number.
    ///
    /// Every view of the arena and of states is made by [`Op::run`], thus while the worker has
    /// claimed items that it has not reported: the phase can't be over. A worker that comes late
    /// gets no items and makes no views.
    fn claims<const KINDS: u64, T: Team + ?Sized>(
        &self,
        team: &T,
        worker: &Worker<'_, 'r, 'a, B>,
        (phase, at, op): (u32, usize, &Op),
        items: usize,
    ) -> usize {
        let size = team.size();
        let mut work = Work::new(items);
        if size > 1 {
            (work.grain, work.most) = op.grain::<B, KINDS>(worker, size);
        }
        let mut done = 0;
        while done < items {
            // SAFETY: all threads of the team walk this step in this run (`enter`), from the phase on
            // in which the team is, and its operations are the same for all of them.
            let claimed = unsafe { team.claim(at as u32, &work) };
            if claimed.is_empty() {
                break;
            }
            done += claimed.len();
            // After a cancellation, items are claimed but not computed, and so the phase ends soon.
            if !self.is_stopped() {
                let cancelled = self.step.cancel.cancelled();
                if cancelled || op.run::<B, KINDS>(worker, claimed).is_err() {
                    self.stopped.store(phase, Relaxed);
                }
            }
        }
        done
    }

    /// True if a worker saw the cancellation.
    fn is_stopped(&self) -> bool {
        self.stopped.load(Relaxed) != u32::MAX
    }

    /// Commits the step, which adds its tokens to their sequences, and returns the number of rows
    /// of outputs.
    ///
    /// # Errors
    /// [`StepError::Cancelled`] if a worker saw the cancellation, [`StepError::Unfinished`] if not
    /// all of the step has been computed; the sequences are then as before the step.
    pub fn commit(self) -> Result<usize, StepError> {
        self.settle()
    }

    /// [`Running::commit`], to be called once.
    pub(super) fn settle(&self) -> Result<usize, StepError> {
        if self.is_stopped() {
            return Err(StepError::Cancelled);
        }
        let walks = self.ranks.iter().any(|ranks| ranks.load(Acquire) != 0);
        if walks || !self.finished.load(Acquire) {
            return Err(StepError::Unfinished);
        }
        for s in self.step.segments {
            let sequence = usize::from(s.sequence.0);
            let header = self.runner.header(sequence).committed(s.tokens.len());
            // SAFETY: the step has borrowed the runner mutably, and no worker walks.
            unsafe { self.runner.set_header(sequence, header) };
        }
        Ok(self.wanted)
    }
}
