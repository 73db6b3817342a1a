//! Running a plan in memory that the caller gave.

use core::fmt;
use core::ops::Range;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use teff_kernels::Backend;

use crate::plan::{
    ALIGN, Buffer, MemoryRequirements, Op, Plan, PlanError, RowCount, worker_bytes, worker_floats,
};
use crate::step::{Executor, Step, StepError};
use crate::weights::{self, Tensor, WeightsError, matrix};
use crate::{List, Solo, Team};

mod arena;
mod rope_table;
mod walk;

use arena::{Cache, Region};

/// Most members of a team.
pub const MAX_TEAM: usize = 256;

/// Memory that is too small or not aligned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ArenaError {
    /// A region is too small.
    TooSmall {
        /// Which: `scratch`, `kv` or `threads`.
        region: &'static str,
        /// Bytes that the plan needs.
        needed: usize,
        /// Bytes that were given.
        got: usize,
    },
    /// The heap refused the memory, or it is more than can be addressed (`None`).
    OutOfMemory {
        /// Bytes that the plan needs.
        needed: Option<usize>,
    },
    /// A region doesn't begin at a multiple of [`ALIGN`].
    Unaligned {
        /// Which.
        region: &'static str,
    },
}

/// Why a plan can't be run with these weights in this memory.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum RunnerError {
    /// The plan itself is wrong.
    Plan(PlanError),
    /// The weights are not the model's.
    Weights(WeightsError),
    /// An operation's inputs are not of the kind that its weights need.
    Kind {
        /// The operation's number.
        op: usize,
    },
    /// The plan was built for a backend that needs less scratch.
    Scratch {
        /// Bytes that this backend needs for each thread.
        needed: usize,
        /// What the plan has.
        got: usize,
    },
    /// Memory.
    Arena(ArenaError),
    /// No threads, or more than [`MAX_TEAM`].
    Threads(usize),
}

impl fmt::Display for ArenaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ArenaError::TooSmall { region, needed, got } => {
                write!(f, "the memory for `{region}` must have {needed} bytes, but has {got}")
            }
            ArenaError::OutOfMemory { needed: Some(n) } => {
                write!(f, "the system refused the {n} bytes that the plan needs")
            }
            ArenaError::OutOfMemory { needed: None } => {
                f.write_str("the plan needs more memory than can be addressed")
            }
            ArenaError::Unaligned { region } => {
                write!(f, "the memory for `{region}` must begin at a multiple of {ALIGN}")
            }
        }
    }
}

impl core::error::Error for ArenaError {}

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

/// The memory that a plan runs in. Contents don't matter at first.
#[derive(Debug)]
pub struct Memory<'m> {
    scratch: Region<'m>,
    kv: Region<'m>,
    threads: Region<'m>,
    #[cfg(feature = "alloc")]
    _block: Option<owned::Block>,
}

impl<'m> Memory<'m> {
    /// Three regions: [`crate::plan::MemoryRequirements::scratch`] bytes,
    /// [`crate::plan::MemoryRequirements::kv`] bytes, and
    /// [`crate::plan::MemoryRequirements::per_thread`] bytes for each thread.
    #[must_use]
    pub fn new(scratch: &'m mut [u8], kv: &'m mut [u8], threads: &'m mut [u8]) -> Self {
        Memory {
            scratch: Region::new(scratch),
            kv: Region::new(kv),
            threads: Region::new(threads),
            #[cfg(feature = "alloc")]
            _block: None,
        }
    }

    /// Cuts one block into the three regions.
    ///
    /// # Errors
    /// [`ArenaError`] where it is smaller than [`crate::plan::MemoryRequirements::total`].
    pub fn split(
        memory_requirements: &MemoryRequirements,
        threads: usize,
        block: &'m mut [u8],
    ) -> Result<Self, ArenaError> {
        let needed = memory_requirements.total(threads).unwrap_or(usize::MAX);
        if block.len() < needed {
            return Err(ArenaError::TooSmall { region: "all", needed, got: block.len() });
        }
        let (scratch, rest) = block.split_at_mut(memory_requirements.scratch);
        let (kv, rest) = rest.split_at_mut(memory_requirements.kv);
        let (threads, _) = rest.split_at_mut(memory_requirements.per_thread * threads);
        Ok(Memory::new(scratch, kv, threads))
    }
}

#[cfg(feature = "alloc")]
mod owned {
    use alloc::alloc::{Layout, alloc_zeroed, dealloc};

    use super::{ALIGN, ArenaError, Memory, MemoryRequirements};

    /// Memory taken from the heap, given back when dropped.
    #[derive(Debug)]
    pub(super) struct Block {
        ptr: *mut u8,
        layout: Layout,
    }

    // SAFETY: a block is plain memory, owned; it does nothing but give it back.
    unsafe impl Send for Block {}
    // SAFETY: as above.
    unsafe impl Sync for Block {}

    impl Drop for Block {
        fn drop(&mut self) {
            // SAFETY: allocated with this layout, once.
            unsafe { dealloc(self.ptr, self.layout) }
        }
    }

    impl Memory<'static> {
        /// Takes exactly [`MemoryRequirements::total`] bytes from the heap, zeroed.
        ///
        /// # Errors
        /// [`ArenaError::OutOfMemory`] where they are refused.
        pub fn allocate(
            memory_requirements: &MemoryRequirements,
            threads: usize,
        ) -> Result<Self, ArenaError> {
            let refused = ArenaError::OutOfMemory { needed: memory_requirements.total(threads) };
            let bytes = memory_requirements.total(threads).ok_or(refused)?;
            let layout = Layout::from_size_align(bytes.max(1), ALIGN).map_err(|_| refused)?;
            // SAFETY: the size is not 0.
            let ptr = unsafe { alloc_zeroed(layout) };
            if ptr.is_null() {
                return Err(refused);
            }
            let block = Block { ptr, layout };
            // SAFETY: `bytes` zeroed bytes that nobody else uses; they live as long as the block,
            // which stays in this Memory and then in its Runner, and nobody gets at the slice but
            // through their regions.
            let all = unsafe { core::slice::from_raw_parts_mut(ptr, bytes) };
            let mut memory = Memory::split(memory_requirements, threads, all)?;
            memory._block = Some(block);
            Ok(memory)
        }
    }
}

/// A plan with weights, a backend and memory: ready to compute steps.
#[derive(Debug)]
pub struct Runner<'a, B> {
    plan: Plan<'a>,
    weights: List<'a, Tensor<'a>>,
    backend: B,
    arena: Region<'a>,
    cache: Cache<'a>,
    locals: Region<'a>,
    /// Where in a thread's bytes the staging floats begin: after the product's scratch.
    floats_at: usize,
    threads: usize,
    /// Keeps what the regions point to.
    #[expect(dead_code)]
    memory: Memory<'a>,
}

impl<'a, B: Backend> Runner<'a, B> {
    /// Checks plan, weights and memory against each other.
    ///
    /// # Errors
    /// [`RunnerError`] for the first thing that doesn't fit.
    pub fn new(
        plan: Plan<'a>,
        weights: List<'a, Tensor<'a>>,
        backend: B,
        threads: usize,
        memory: Memory<'a>,
    ) -> Result<Self, RunnerError> {
        if threads == 0 || threads > MAX_TEAM {
            return Err(RunnerError::Threads(threads));
        }
        plan.verify().map_err(RunnerError::Plan)?;
        weights::check(&plan.spec, &weights).map_err(RunnerError::Weights)?;
        let (mut product, mut floats) = (0, 0);
        for (i, op) in plan.ops.iter().enumerate() {
            for (w, x) in op.products().into_iter().flatten() {
                let m = matrix(&weights, w);
                if plan.buffer(x).kind.activations() != m.format().activations() {
                    return Err(RunnerError::Kind { op: i });
                }
                let bytes = backend.matmul_scratch(m.format(), m.cols(), plan.options.batch);
                product = product.max(bytes);
            }
            floats = floats
                .max(worker_floats(&plan.spec, &plan.buffers, &plan.options, op).unwrap_or(0));
        }
        let overflow = RunnerError::Plan(PlanError::Overflow);
        let needed = worker_bytes(product, floats).ok_or(overflow)?;
        let floats_at = product.next_multiple_of(ALIGN);
        let memory_requirements = plan.memory_requirements;
        if needed > memory_requirements.per_thread
            || !memory_requirements.per_thread.is_multiple_of(ALIGN)
        {
            return Err(RunnerError::Scratch { needed, got: memory_requirements.per_thread });
        }
        let all = memory_requirements.per_thread.saturating_mul(threads);
        for (region, bytes, needed) in [
            ("scratch", &memory.scratch, memory_requirements.scratch),
            ("kv", &memory.kv, memory_requirements.kv),
            ("threads", &memory.threads, all),
        ] {
            if bytes.len() < needed {
                return Err(ArenaError::TooSmall { region, needed, got: bytes.len() }.into());
            }
            if !bytes.is_aligned() && needed > 0 {
                return Err(ArenaError::Unaligned { region }.into());
            }
        }
        let cache = Cache {
            region: memory.kv,
            layout: plan.kv_layout(),
            heads: plan.spec.kv_heads as usize,
        };
        let (arena, locals) = (memory.scratch, memory.threads);
        Ok(Runner { plan, weights, backend, arena, cache, locals, floats_at, threads, memory })
    }

    /// The plan.
    pub fn plan(&self) -> &Plan<'a> {
        &self.plan
    }

    /// The backend.
    pub fn backend(&self) -> &B {
        &self.backend
    }

    /// Members that there is memory for.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// Calls `f` with every range of [`Runner::cache`] that positions `0..len` occupy, in a fixed
    /// order: what a snapshot of the cache keeps.
    pub fn cache_ranges(&self, len: usize, mut f: impl FnMut(Range<usize>)) {
        let layout = self.cache.layout;
        let len = len.min(layout.capacity);
        for layer in 0..self.plan.spec.layers as usize {
            for head in 0..self.cache.heads {
                let keys = self.cache.at(layer, head);
                let values = keys + crate::plan::head_bytes(&layout).0;
                for r in layout.key_prefix(len) {
                    f(keys + r.start..keys + r.end);
                }
                for r in layout.value_prefix(len) {
                    f(values + r.start..values + r.end);
                }
            }
        }
    }

    /// The bytes of the cache.
    pub fn cache(&self) -> &[u8] {
        // SAFETY: steps write only while a Running borrows the runner mutably.
        unsafe { self.cache.region.bytes() }
    }

    /// The bytes of the cache, to be restored.
    pub fn cache_mut(&mut self) -> &mut [u8] {
        // SAFETY: the whole region, and the runner is borrowed mutably.
        unsafe { self.cache.region.bytes_mut(0, self.cache.region.len()) }
    }

    /// Checks a step and gives what the members of a team run it with.
    ///
    /// # Errors
    /// [`StepError`] where tokens, position or wanted logits don't fit.
    pub fn begin<'r>(&'r mut self, step: &Step<'r>) -> Result<Running<'r, 'a, B>, StepError> {
        let (n, options) = (step.tokens.len(), &self.plan.options);
        let wanted = step.logits.rows(n);
        if n == 0 {
            return Err(StepError::Empty);
        }
        if n > options.batch {
            return Err(StepError::BatchTooLarge { max: options.batch, got: n });
        }
        if wanted > options.logits {
            return Err(StepError::TooManyLogits { max: options.logits, got: wanted });
        }
        let (context, position) = (options.context, step.position);
        if position > context || n > context - position {
            return Err(StepError::ContextFull { context, position, tokens: n });
        }
        let vocab = self.plan.spec.vocab;
        if let Some(index) = step.tokens.iter().position(|&t| t >= vocab) {
            return Err(StepError::BadToken { token: step.tokens[index], index, vocab });
        }
        Ok(Running {
            runner: self,
            step: *step,
            wanted,
            stopped: AtomicU32::new(u32::MAX),
            ranks: [const { AtomicBool::new(false) }; MAX_TEAM],
        })
    }

    /// The first `rows` rows of logits that the last step left.
    #[must_use]
    pub fn logits(&self, rows: usize) -> &[f32] {
        let buffer = self.plan.buffer(self.plan.logits);
        let rows = rows.min(self.plan.options.logits);
        // SAFETY: steps write only while a Running borrows the runner mutably.
        let activations = unsafe { self.arena.dense(buffer, 0, rows) };
        activations.into_slice()
    }
}

impl<B: Backend> Executor for Runner<'_, B> {
    /// Computes the step on the calling thread alone.
    fn step(&mut self, step: &Step<'_>) -> Result<&[f32], StepError> {
        let running = self.begin(step)?;
        running.walk(&Solo)?;
        let wanted = running.wanted;
        Ok(self.logits(wanted))
    }
}

/// A step that the members of a team are to walk through, each once.
pub struct Running<'r, 'a, B> {
    runner: &'r Runner<'a, B>,
    step: Step<'r>,
    wanted: usize,
    /// The phase in which a member was told to stop.
    stopped: AtomicU32,
    /// Ranks that walk or have walked.
    ranks: [AtomicBool; MAX_TEAM],
}

impl<B: Backend> Running<'_, '_, B> {
    /// Rows of logits that the step gives.
    #[must_use]
    pub fn wanted(&self) -> usize {
        self.wanted
    }

    /// Marks `rank` as walking; false where it already was.
    fn claim(&self, rank: usize) -> bool {
        #[cfg(target_has_atomic = "8")]
        return !self.ranks[rank].swap(true, Ordering::Relaxed);
        // Cores without read-modify-write have no second thread to race with.
        #[cfg(not(target_has_atomic = "8"))]
        {
            let was = self.ranks[rank].load(Ordering::Relaxed);
            self.ranks[rank].store(true, Ordering::Relaxed);
            !was
        }
    }

    /// Does this member's share of the step. Every member of the team calls it once, at the same
    /// time; when all have returned `Ok`, the logits are there.
    ///
    /// # Errors
    /// [`StepError::Cancelled`] for all members where any was told to stop;
    /// [`StepError::Team`] where there is no memory for the team; [`StepError::Broken`].
    pub fn walk<T: Team + ?Sized>(&self, team: &T) -> Result<(), StepError> {
        let (rank, size) = (team.rank(), team.size());
        if size > self.runner.threads || rank >= size || !self.claim(rank) {
            return Err(StepError::Team { max: self.runner.threads, got: size });
        }
        let worker = walk::Worker { running: self, rank, size };
        let mut phase = 0;
        for op in self.runner.plan.ops.iter() {
            if *op == Op::Barrier {
                self.meet(team, phase)?;
                phase += 1;
            } else if !self.step.cancel.cancelled() {
                if worker.run(op).is_err() {
                    self.stopped.store(phase, Ordering::Relaxed);
                }
            } else {
                self.stopped.store(phase, Ordering::Relaxed);
            }
        }
        self.meet(team, phase)
    }

    /// Waits for the others at the end of a phase; then all of them leave or none.
    fn meet<T: Team + ?Sized>(&self, team: &T, phase: u32) -> Result<(), StepError> {
        team.barrier()?;
        // Only members in phase p store p, and none is beyond p before this barrier: whoever
        // reads a number up to `phase` here, all others read it too.
        if self.stopped.load(Ordering::Relaxed) <= phase {
            return Err(StepError::Cancelled);
        }
        Ok(())
    }

    fn rows(&self, rows: RowCount) -> usize {
        match rows {
            RowCount::Batch => self.step.tokens.len(),
            RowCount::Wanted => self.wanted,
        }
    }

    fn buffer(&self, id: crate::plan::BufferId) -> &Buffer {
        self.runner.plan.buffer(id)
    }
}
