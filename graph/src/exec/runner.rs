//! Runner: a plan with weights, a backend and memory.

use core::fmt;

use teff_kernels::Backend;

use super::arena::Region;
use super::memory::{ArenaError, Memory};
use super::running::Running;
use super::sequence::Header;
use crate::ops::{ALL_KINDS, kinds};
use crate::plan::{ALIGN, BufferId, Plan, PlanError, worker_bytes};
use crate::step::{Executor, Segment, SequenceId, Step, StepError, check_tokens};
use crate::weights::{self, Tensor, WeightsError, matrix};
use crate::{List, Solo};

/// Maximum number of workers in a team.
pub const MAX_TEAM: usize = 256;

/// Error of putting a plan, weights and memory together.
#[derive(Clone, Copy, PartialEq, Debug)]
#[non_exhaustive]
pub enum RunnerError {
    /// The plan itself is invalid.
    Plan(PlanError),
    /// The weights do not match the model.
    Weights(WeightsError),
    /// The inputs of an operation have a different type from the one that its weights need.
    Kind {
        /// Number of the operation.
        op: usize,
    },
    /// The plan was built for a backend that needs less scratch.
    Scratch {
        /// Bytes that this backend needs for each thread.
        needed: usize,
        /// Bytes in the plan.
        got: usize,
    },
    /// The memory is too small or misaligned.
    Arena(ArenaError),
    /// No threads, or more than [`MAX_TEAM`].
    Threads(usize),
    /// The plan has operations of other kinds than the program was built for.
    Kinds,
}

impl fmt::Display for RunnerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RunnerError::Plan(e) => e.fmt(f),
            RunnerError::Weights(e) => e.fmt(f),
            RunnerError::Kind { op } => {
                write!(f, "the plan was made for other formats: operation {op} doesn't fit")
            }
            RunnerError::Scratch { needed, got } => write!(
                f,
                "the plan has {got} bytes for each thread, but this backend needs {needed}"
            ),
            RunnerError::Arena(e) => e.fmt(f),
            RunnerError::Kinds => f.write_str("the program has no code for the plan's operations"),
            RunnerError::Threads(n) => write!(f, "{n} threads: there must be 1 to {MAX_TEAM}"),
        }
    }
}

impl core::error::Error for RunnerError {}

impl From<ArenaError> for RunnerError {
    fn from(e: ArenaError) -> Self {
        RunnerError::Arena(e)
    }
}

/// Plan with weights, a backend and memory, ready to compute steps.
///
/// ```
/// # #[cfg(feature = "alloc")]
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use teff_graph::family::gpt2;
/// use teff_graph::{
///     Executor, LogitsFor, Memory, NeverCancel, Options, Outputs, Plan, Runner, Segment, SequenceId,
///     Spec, Step, Tensor,
/// };
/// use teff_kernels::{Cpu, Format, Matrix};
///
/// // One layer, and weights that are all the same.
/// let layers = gpt2::small().layers.with_len(1);
/// let spec = Spec { vocab: 100, context: 16, layers, ..gpt2::small() };
/// let largest = spec.slots().map(|s| s.rows * s.cols).max().unwrap_or(0);
/// let (bytes, floats) = (vec![0; 4 * largest], vec![1.0; largest]);
/// let tensor = |s: teff_graph::Slot| match s.is_vector() {
///     true => Tensor::Vector(&floats[..s.cols]),
///     false => {
///         let bytes = &bytes[..4 * s.rows * s.cols];
///         Tensor::Matrix(Matrix::new(Format::F32, s.rows, s.cols, bytes).unwrap())
///     }
/// };
/// let weights: Vec<Tensor> = spec.slots().map(tensor).collect();
///
/// // Memory for one thread and two sequences.
/// let options = Options::new(16).with_batch(8).with_logits(2).with_outputs(Outputs::Both);
/// let plan = Plan::build(&spec, &|_| Format::F32, &options, &Cpu::best())?;
/// let memory = Memory::allocate(&plan.memory_requirements, 1, 2)?;
/// let mut runner = Runner::new(plan, weights.into(), Cpu::best(), 1, memory)?;
///
/// // A step over both: each goes on at its own position.
/// let (first, second) = (SequenceId(0), SequenceId(1));
/// let segments = [
///     Segment { sequence: first, tokens: &[1, 2, 3], logits: LogitsFor::Last },
///     Segment { sequence: second, tokens: &[4], logits: LogitsFor::Last },
/// ];
/// let logits = runner.step(&Step { segments: &segments, cancel: &NeverCancel })?;
/// assert_eq!(logits.len(), 2 * 100);
/// assert_eq!(runner.hidden(2).len(), 2 * spec.width as usize);
/// assert_eq!((runner.position(first), runner.position(second)), (3, 1));
///
/// // Back to the first token of the first sequence.
/// runner.truncate(first, 1)?;
/// assert_eq!(runner.position(first), 1);
/// # Ok(())
/// # }
/// # #[cfg(not(feature = "alloc"))]
/// # fn main() {}
/// ```
#[derive(Debug)]
pub struct Runner<'a, B> {
    pub(super) plan: Plan<'a>,
    pub(super) weights: List<'a, Tensor<'a>>,
    pub(super) backend: B,
    pub(super) arena: Region<'a>,
    pub(super) states: Region<'a>,
    pub(super) sequences: usize,
    pub(super) locals: Region<'a>,
    /// Offset of the staging floats in a thread's memory, after the product's scratch.
    pub(super) floats_at: usize,
    threads: usize,
    /// Kinds of the plan's operations.
    pub(super) kinds: u64,
    /// Keeps what the regions point to.
    #[expect(dead_code)]
    memory: Memory<'a>,
}

impl<'a, B: Backend> Runner<'a, B> {
    /// Creates a runner after checking plan, weights and memory against each other. It has as many
    /// sequences as fit into the memory of states, all of them empty.
    ///
    /// # Errors
    /// [`RunnerError`] for the first check that fails.
    pub fn new(
        plan: Plan<'a>,
        weights: List<'a, Tensor<'a>>,
        backend: B,
        threads: usize,
        memory: Memory<'a>,
    ) -> Result<Self, RunnerError> {
        Runner::with_kinds::<ALL_KINDS>(plan, weights, backend, threads, memory)
    }

    /// As [`Runner::new`], for programs that know when they are built of which kinds the operations of
    /// their plans are ([`ops::kinds`](crate::ops::kinds)). Their steps are to be run by
    /// [`Runner::step_kinds`] or [`Running::walk_kinds`]: then the program has no code for others.
    ///
    /// # Errors
    /// [`RunnerError`] for the first thing that doesn't fit.
    pub fn with_kinds<const KINDS: u64>(
        plan: Plan<'a>,
        weights: List<'a, Tensor<'a>>,
        backend: B,
        threads: usize,
        memory: Memory<'a>,
    ) -> Result<Self, RunnerError> {
        if threads == 0 || threads > MAX_TEAM {
            return Err(RunnerError::Threads(threads));
        }
        let kinds = kinds(&plan.ops);
        if kinds & !KINDS != 0 {
            return Err(RunnerError::Kinds);
        }
        plan.verify_kinds::<KINDS>().map_err(RunnerError::Plan)?;
        weights::check(&plan.spec, &weights).map_err(RunnerError::Weights)?;
        let overflow = RunnerError::Plan(PlanError::Overflow);
        let (mut product, mut floats, mut wrong) = (0, 0, None);
        let view = plan.view();
        for (i, op) in plan.ops.iter().enumerate() {
            op.products(&mut |w, x| {
                let m = matrix(&weights, w);
                if plan.buffer(x).kind.activations() != m.format().activations() {
                    wrong = Some(RunnerError::Kind { op: i });
                }
                let bytes = backend.matmul_scratch(m.format(), m.cols(), plan.options.batch);
                product = product.max(bytes);
            });
            floats = floats.max(op.scratch::<KINDS>(&view).ok_or(overflow)?);
        }
        if let Some(wrong) = wrong {
            return Err(wrong);
        }
        let needed = worker_bytes(product, floats).ok_or(overflow)?;
        let floats_at = product.next_multiple_of(ALIGN);
        let sizes = plan.memory_requirements;
        if needed > sizes.per_thread || !sizes.per_thread.is_multiple_of(ALIGN) {
            return Err(RunnerError::Scratch { needed, got: sizes.per_thread });
        }
        if !sizes.state.is_multiple_of(ALIGN) || !sizes.pool.is_multiple_of(ALIGN) {
            return Err(RunnerError::Plan(PlanError::MemoryRequirements));
        }
        let all = sizes.per_thread.saturating_mul(threads);
        for (region, bytes, needed) in [
            ("scratch", &memory.scratch, sizes.scratch),
            ("states", &memory.states, sizes.state.saturating_add(sizes.pool)),
            ("threads", &memory.threads, all),
        ] {
            if bytes.len() < needed {
                return Err(ArenaError::TooSmall { region, needed, got: bytes.len() }.into());
            }
            if !bytes.is_aligned() && needed > 0 {
                return Err(ArenaError::Unaligned { region }.into());
            }
        }
        let sequences = memory.states.len().saturating_sub(sizes.pool) / sizes.state;
        let sequences = sequences.min(usize::from(u16::MAX));
        let (arena, states, locals) = (memory.scratch, memory.states, memory.threads);
        let runner = Runner {
            plan,
            weights,
            backend,
            arena,
            states,
            sequences,
            locals,
            floats_at,
            threads,
            kinds,
            memory,
        };
        runner.clear_page_counts();
        for s in 0..sequences {
            // SAFETY: no one else has the memory yet.
            unsafe { runner.set_header(s, Header::default()) };
        }
        Ok(runner)
    }

    /// Plan that the runner executes.
    pub fn plan(&self) -> &Plan<'a> {
        &self.plan
    }

    /// Backend that computes.
    pub fn backend(&self) -> &B {
        &self.backend
    }

    /// Maximum number of workers that there is memory for.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// Number of sequences that there is memory for; they are numbered `0..sequences()`.
    pub fn sequences(&self) -> usize {
        self.sequences
    }

    /// Checks a step and returns it in a form that the workers of a team can run.
    ///
    /// # Errors
    /// [`StepError`] if sequences, tokens or selected logits don't fit.
    pub fn begin<'r>(&'r mut self, step: &Step<'r>) -> Result<Running<'r, 'a, B>, StepError> {
        let rows = self.admit(step)?;
        Ok(Running::new(self, step, rows))
    }

    /// Checks that each segment has tokens and a sequence of its own that exists.
    ///
    /// Sequences are marked in their headers while this looks at all segments, so that the time is
    /// proportional to the number of segments.
    fn check_segments(&mut self, segments: &[Segment<'_>]) -> Result<(), StepError> {
        let mut checked = Ok(());
        let mut marked = 0;
        for s in segments {
            let SequenceId(sequence) = s.sequence;
            checked = if s.tokens.is_empty() {
                Err(StepError::Empty)
            } else if usize::from(sequence) >= self.sequences {
                Err(StepError::NoSequence { sequence, sequences: self.sequences })
            } else if self.header(sequence.into()).is_marked() {
                Err(StepError::SequenceTwice { sequence })
            } else {
                Ok(())
            };
            if checked.is_err() {
                break;
            }
            self.mark(sequence, true);
            marked += 1;
        }
        for s in &segments[..marked] {
            self.mark(s.sequence.0, false);
        }
        checked
    }

    /// Marks an existing sequence, or removes the mark.
    fn mark(&mut self, sequence: u16, mark: bool) {
        let sequence = usize::from(sequence);
        let header = self.header(sequence).marked(mark);
        // SAFETY: the runner is borrowed mutably, so that no step runs.
        unsafe { self.set_header(sequence, header) };
    }

    /// Checks a step and marks its sequences as being written; its tokens and its rows of logits.
    fn admit(&mut self, step: &Step<'_>) -> Result<(usize, usize), StepError> {
        self.check_segments(step.segments)?;
        let options = &self.plan.options;
        let (mut tokens, mut wanted) = (0usize, 0usize);
        for s in step.segments {
            tokens = tokens.saturating_add(s.tokens.len());
            wanted = wanted.saturating_add(s.logits.rows(s.tokens.len()));
        }
        if tokens == 0 {
            return Err(StepError::Empty);
        }
        if tokens > options.batch {
            return Err(StepError::BatchTooLarge { max: options.batch, got: tokens });
        }
        if wanted > options.logits {
            return Err(StepError::TooManyLogits { max: options.logits, got: wanted });
        }
        for s in step.segments {
            let position = self.header(s.sequence.0.into()).len();
            check_tokens(s.tokens, position, options.context, self.plan.spec.vocab)?;
            self.check_pages(s, position)?;
        }
        for s in step.segments {
            let sequence = usize::from(s.sequence.0);
            let header = self.header(sequence).writing(s.tokens.len());
            // SAFETY: the runner is borrowed mutably, so that no step runs.
            unsafe { self.set_header(sequence, header) };
        }
        Ok((tokens, wanted))
    }

    /// Computes a step on the calling thread alone, as [`Executor::step`] does, for a runner made by
    /// [`Runner::with_kinds`].
    ///
    /// # Errors
    /// [`StepError`]; all sequences are unchanged then.
    pub fn step_kinds<const KINDS: u64>(&mut self, step: &Step<'_>) -> Result<&[f32], StepError> {
        let rows = self.admit(step)?;
        // In its place on the stack, and not moved: it is a few hundred bytes.
        let running = Running::new(self, step, rows);
        running.walk_kinds::<KINDS, _>(&Solo)?;
        let wanted = running.settle()?;
        Ok(self.logits(wanted))
    }

    /// The first `rows` rows of logits that the last step left; empty if logits are not among the
    /// plan's [outputs](crate::Outputs).
    #[must_use]
    pub fn logits(&self, rows: usize) -> &[f32] {
        self.output(self.plan.logits, rows)
    }

    /// The first `rows` rows of hidden states that the last step left, each of the model's width;
    /// empty if they are not among the plan's [outputs](crate::Outputs).
    #[must_use]
    pub fn hidden(&self, rows: usize) -> &[f32] {
        self.output(self.plan.hidden, rows)
    }

    fn output(&self, id: Option<BufferId>, rows: usize) -> &[f32] {
        let Some(id) = id else { return &[] };
        let buffer = self.plan.buffer(id);
        let rows = rows.min(self.plan.options.logits);
        // SAFETY: a verified buffer of f32; steps write only while a Running borrows the runner
        // mutably.
        let all = unsafe { self.arena.dense(buffer, 0, rows) };
        all.into_slice()
    }
}

impl<B: Backend> Executor for Runner<'_, B> {
    /// Computes the step on the calling thread alone.
    fn step(&mut self, step: &Step<'_>) -> Result<&[f32], StepError> {
        self.step_kinds::<ALL_KINDS>(step)
    }
}
