//! Builder of engines: the plan, and all memory before any of it is taken.

use std::sync::Arc;

use teff_graph::{List, Memory, Options, Outputs, Plan, Runner, Solo, Tensor};

use super::draft::DraftPlan;
use super::inbox::Inbox;
use super::pace::Pace;
use super::pages::Pages;
use super::scheduler::{CHECKPOINT_EVERY, Parts, Scheduler};
use super::stats::Counters;
use super::{Engine, EngineError, EngineOptions, PAGE};
use crate::free_memory::available_memory;
use crate::model::Model;
use crate::pool::{Crew, Pool, PoolOptions, allowed_threads, available_threads, check_threads};
use crate::sample::{Sampler, Sampling};
use crate::session::backend::SessionBackend;
use crate::session::builder::{check_repacked, table_bytes};
use crate::session::checkpoint::largest;
use crate::session::model_ref::ModelRef;
use crate::session::shared_crew::SessionCrew;
use crate::session::{SessionError, StopHandle, default_backend, draft};
use crate::speculation::{Guesses, Speculation};

/// Rows of logits of a step beyond one for each sequence, for log probabilities of prompts.
const MORE_ROWS: usize = 32;

/// Tokens of a text for which the cache has room if nothing is said of its size, of a context so long.
const LEAST_WISHED: usize = 1024;

/// Bytes that an engine takes, known before they are allocated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct EngineMemoryRequirements {
    /// Arena, and memory of the threads.
    pub arena: usize,
    /// The sequences' own memory: headers, page tables, windows and recurrent states.
    pub sequences: usize,
    /// Number of pages.
    pub pages: usize,
    /// Bytes of all pages.
    pub page_bytes: usize,
    /// Number of checkpoints.
    pub checkpoints: usize,
    /// Bytes of all checkpoints.
    pub checkpoint_bytes: usize,
    /// Plan, table of weights, tables of pages, and tokens.
    pub tables: usize,
    /// Samplers of the sequences, with default parameters and a copy of the logits each.
    pub samplers: usize,
    /// All of the model that guesses but its weights, if there is one: arena, sequences and tables.
    pub draft: usize,
    /// Positions of a sequence.
    pub context: usize,
    /// Number of threads.
    pub threads: usize,
}

impl EngineMemoryRequirements {
    /// Total in bytes; `usize::MAX` on overflow.
    #[must_use]
    pub fn total(&self) -> usize {
        let parts = [self.page_bytes, self.checkpoint_bytes];
        parts.into_iter().fold(self.fixed(), usize::saturating_add)
    }

    /// What doesn't depend on the cache's size, but for the tables of pages.
    fn fixed(&self) -> usize {
        let parts = [self.sequences, self.tables, self.samplers, self.draft];
        parts.into_iter().fold(self.arena, usize::saturating_add)
    }
}

/// Builder of an engine.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::sync::Arc;
/// use teff_runtime::engine::{Engine, EngineOptions};
/// use teff_runtime::Model;
///
/// # let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/gpt2/model.gguf");
/// let model = Arc::new(Model::open(path)?);
/// let options = EngineOptions::default().with_context(256).with_sequences(4);
/// let builder = Engine::builder(&model).options(options.with_cache(4 << 20));
/// // Known before anything is taken.
/// let needed = builder.memory_requirements()?;
/// assert!(needed.page_bytes + needed.checkpoint_bytes <= 4 << 20);
/// let engine = builder.build()?;
/// assert_eq!(engine.stats().pages, needed.pages);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct EngineBuilder {
    model: Arc<Model>,
    options: EngineOptions,
    draft: Option<Arc<Model>>,
}

/// Decisions about an engine, made before its memory is allocated.
struct EnginePlan {
    plan: Plan<'static>,
    draft: Option<DraftPlan>,
    backend: SessionBackend<'static>,
    needed: EngineMemoryRequirements,
}

/// Cache of a model: bytes of a page, and of a checkpoint (0 if it needs none).
struct Unit {
    page: usize,
    checkpoint: usize,
}

impl Unit {
    /// Number of pages for each checkpoint.
    const PAGES: usize = CHECKPOINT_EVERY / PAGE;

    /// Pages and checkpoints that `bytes` have room for.
    fn fit(&self, bytes: usize) -> (usize, usize) {
        if self.checkpoint == 0 {
            return (bytes.checked_div(self.page).unwrap_or(usize::MAX), 0);
        }
        let both = Self::PAGES * self.page + self.checkpoint;
        let checkpoints = (bytes / both).max(1);
        let left = bytes.saturating_sub(checkpoints * self.checkpoint);
        (left.checked_div(self.page).unwrap_or(usize::MAX), checkpoints)
    }

    /// Bytes for the cache that a limit leaves beside the rest. Each page takes room in the tables as well.
    fn beside(&self, rest: usize, memory: usize) -> usize {
        let left = memory.saturating_sub(rest);
        left - left / self.share_of_tables()
    }

    /// Least limit that leaves so many bytes for the cache.
    fn limit(&self, rest: usize, cache: usize) -> usize {
        let share = self.share_of_tables();
        let tables = (cache / (share - 1)).saturating_add(1);
        rest.saturating_add(cache).saturating_add(tables)
    }

    /// Bytes of the cache and its tables for each of the tables.
    fn share_of_tables(&self) -> usize {
        (self.page / 512).max(2)
    }

    /// Bytes of so many pages, and of the checkpoints that come with them.
    fn bytes(&self, pages: usize) -> usize {
        let checkpoints = if self.checkpoint == 0 { 0 } else { pages.div_ceil(Self::PAGES).max(1) };
        let checkpoints = checkpoints.saturating_mul(self.checkpoint);
        pages.saturating_mul(self.page).saturating_add(checkpoints)
    }
}

/// Reads a byte of every page of the matrices that lie in a mapped file, so that the first requests
/// don't wait for the disk.
fn touch(tensors: &[Tensor<'_>]) {
    let mut sum = 0u8;
    for tensor in tensors {
        if let Tensor::Matrix(m) = tensor {
            for part in m.bytes().chunks(4096) {
                sum = sum.wrapping_add(part[0]);
            }
        }
    }
    core::hint::black_box(sum);
}

impl EngineBuilder {
    pub(super) fn new(model: &Arc<Model>) -> EngineBuilder {
        EngineBuilder { model: Arc::clone(model), options: EngineOptions::default(), draft: None }
    }

    /// Sets all options.
    #[must_use]
    pub fn options(self, options: EngineOptions) -> Self {
        EngineBuilder { options, ..self }
    }

    /// Sets the smaller model that guesses, if [`EngineOptions::speculation`] asks for one. It must have the
    /// same tokens. Each sequence has a cache of its own for it, as long as the engine's context or as
    /// its own, which [`EngineOptions::memory`] limits together with everything else.
    #[must_use]
    pub fn draft(self, draft: &Arc<Model>) -> Self {
        EngineBuilder { draft: Some(Arc::clone(draft)), ..self }
    }

    /// Computes the bytes that the engine will take, from the model's header alone.
    ///
    /// # Errors
    /// Those that [`EngineBuilder::build`] gives for the same options.
    pub fn memory_requirements(&self) -> Result<EngineMemoryRequirements, EngineError> {
        Ok(self.plan()?.needed)
    }

    /// Allocates all memory and starts the engine's threads.
    ///
    /// # Errors
    /// [`EngineError`]; nothing is kept in that case.
    pub fn build(self) -> Result<Engine, EngineError> {
        let EnginePlan { plan, draft, backend, needed } = self.plan()?;
        let (threads, sequences) = (needed.threads, self.options.sequences);
        let crew: Box<dyn Crew + Send> = match threads {
            1 => Box::new(Solo),
            _ => {
                let options = PoolOptions::default().with_threads(threads);
                let pool = Pool::with_options(&options.with_oversubscribe(true));
                Box::new(pool.map_err(SessionError::Pool)?)
            }
        };
        let runner_error = |e| EngineError::Session(SessionError::Runner(e));
        let mut memory = Memory::allocate(&plan.memory_requirements, threads, sequences)
            .map_err(|e| runner_error(e.into()))?;
        // What was promised is taken now, and not when somebody asks for it.
        memory.commit();
        let refused = |_| {
            let needed = Some(needed.checkpoint_bytes);
            runner_error(teff_graph::ArenaError::OutOfMemory { needed }.into())
        };
        let each = needed.checkpoint_bytes.checked_div(needed.checkpoints).unwrap_or(0);
        let mut checkpoints = Vec::new();
        checkpoints.try_reserve_exact(needed.checkpoints).map_err(refused)?;
        for _ in 0..needed.checkpoints {
            let mut bytes = Vec::new();
            bytes.try_reserve_exact(each).map_err(refused)?;
            bytes.resize(each, 0xff);
            bytes.clear();
            checkpoints.push(bytes);
        }
        let model = ModelRef::Shared(Arc::clone(&self.model));
        let mut table: Vec<Tensor<'static>> = Vec::with_capacity(model.spec().tensors());
        // SAFETY: the scheduler keeps `model` beside the runner, which alone has the tensors and never
        // gives them out.
        table.extend(unsafe { model.tensors() });
        touch(&table);
        let draft = match (draft, &self.draft) {
            (Some(plan), Some(draft)) => Some(plan.build(draft)?),
            _ => None,
        };
        let kv = plan.options.kv;
        let batch = plan.options.batch;
        let snapshot = self.options;
        let runner =
            Runner::new(plan, List::from(table), backend, threads, memory).map_err(runner_error)?;
        let (inbox, counters) = (Arc::new(Inbox::default()), Arc::new(Counters::default()));
        let stop = StopHandle::new();
        let scheduler = Scheduler::new(Parts {
            pages: Pages::new(needed.pages, needed.checkpoints),
            runner,
            model,
            crew: SessionCrew::Own(crew),
            stop: stop.clone(),
            inbox: Arc::clone(&inbox),
            counters: Arc::clone(&counters),
            checkpoints,
            pace: Pace::new(self.options.pause, batch, sequences),
            speculation: self.options.speculation,
            draft,
        });
        Engine::start(scheduler, (self.model, snapshot, kv), needed, (inbox, stop), counters)
    }

    fn plan(&self) -> Result<EnginePlan, EngineError> {
        let (model, options) = (&*self.model, &self.options);
        let at_least = |name, got: usize, most: usize| match (1..=most).contains(&got) {
            true => Ok(()),
            false => Err(EngineError::Option { name, allowed: format!("1 to {most}, not {got}") }),
        };
        at_least("the number of sequences", options.sequences, 1 << 12)?;
        at_least("the batch", options.batch, 1 << 20)?;
        at_least("the queue", options.queue, 1 << 24)?;
        if options.batch < options.sequences {
            let allowed = format!(
                "at least the number of sequences, {}, not {}",
                options.sequences, options.batch
            );
            return Err(EngineError::Option { name: "the batch", allowed });
        }
        let asked = options.threads.unwrap_or_else(available_threads);
        let (threads, _) = allowed_threads(asked, options.oversubscribe);
        check_threads(threads).map_err(SessionError::Pool)?;
        let backend = match options.backend {
            Some(own) => own,
            None => default_backend()?,
        };
        let backend = SessionBackend::Own(backend);
        check_repacked(model, &backend)?;
        if let Some(draft) = self.wanted_draft()? {
            draft::check(model, draft)?;
            check_repacked(draft, &backend)?;
        }
        let longest = model.spec().context as usize;
        let unit = self.unit(&backend)?;
        let pages_of = |context: usize| context.div_ceil(PAGE);

        // The cache: what is asked for, or what is left of a limit, or what would be wished for.
        let most_context = match (options.context, options.cache, options.memory) {
            (Some(context), ..) => context,
            (None, None, Some(memory)) => self.context_within(memory, &unit, &backend, threads)?,
            _ => longest,
        };
        let each = (most_context / 4).max(most_context.min(LEAST_WISHED));
        let wished = pages_of(most_context).max(options.sequences * pages_of(each) + 1);
        let mut needed = self.fixed(&backend, threads, most_context.min(longest))?;
        let cache = match (options.cache, options.memory) {
            (Some(cache), _) => cache,
            (None, Some(memory)) => unit.beside(needed.fixed(), memory),
            (None, None) => {
                let half = available_memory().map_or(usize::MAX, |bytes| (bytes / 2) as usize);
                unit.bytes(wished).min(half)
            }
        };
        let (pages, checkpoints) = unit.fit(cache);
        let pages =
            pages.min(options.sequences.saturating_mul(pages_of(longest)).saturating_mul(16));
        let context = match options.context {
            Some(context) => context,
            None => most_context.min(pages.saturating_mul(PAGE)),
        };
        if pages < pages_of(context.max(1)) {
            let needed = unit.bytes(pages_of(context.max(1)));
            return Err(EngineError::Cache { needed, got: cache });
        }
        let plan = self.build_plan(context, pages, &backend)?;
        let draft = self.draft_plan(&backend, threads, context)?;
        needed.draft = draft.as_ref().map_or(0, |draft| draft.bytes);
        needed.context = context;
        needed.pages = pages;
        needed.checkpoints = checkpoints;
        needed.checkpoint_bytes = checkpoints * unit.checkpoint;
        let memory = &plan.memory_requirements;
        needed.page_bytes = memory.pool;
        needed.arena = memory.scratch.saturating_add(memory.per_thread.saturating_mul(threads));
        needed.sequences = memory.state.saturating_mul(options.sequences);
        needed.tables = table_bytes(&plan)
            .saturating_add(Pages::table_bytes(pages, checkpoints))
            .saturating_add(options.sequences * (context + pages_of(context)) * size_of::<u32>())
            .saturating_add(self.guesses_bytes());
        match options.memory {
            Some(budget) if needed.total() > budget => {
                let needed = needed.total();
                Err(SessionError::Budget { needed, budget }.into())
            }
            _ => Ok(EnginePlan { plan, draft, backend, needed }),
        }
    }

    /// Plan of the model that guesses, if the options ask for one.
    fn draft_plan(
        &self,
        backend: &SessionBackend<'static>,
        threads: usize,
        context: usize,
    ) -> Result<Option<DraftPlan>, EngineError> {
        let plan = |draft| DraftPlan::new(draft, &self.options, *backend, (threads, context));
        self.wanted_draft()?.map(plan).transpose()
    }

    /// Model that guesses, if the options ask for one.
    fn wanted_draft(&self) -> Result<Option<&Model>, SessionError> {
        if !self.options.speculation.needs_draft() {
            return Ok(None);
        }
        let none = || SessionError::Draft("none was given".into());
        self.draft.as_deref().ok_or_else(none).map(Some)
    }

    /// Longest context of which there is room for a text within a limit.
    fn context_within(
        &self,
        memory: usize,
        unit: &Unit,
        backend: &SessionBackend<'static>,
        threads: usize,
    ) -> Result<usize, EngineError> {
        let longest = self.model.spec().context as usize;
        let context = |pages: usize| longest.min(pages.saturating_mul(PAGE));
        let least = |pages: usize| {
            let rest = self.fixed(backend, threads, context(pages))?.fixed();
            Ok::<_, EngineError>(unit.limit(rest, unit.bytes(pages)))
        };
        let (mut fits, mut beyond) = (0, longest.div_ceil(PAGE));
        if least(beyond)? <= memory {
            return Ok(longest);
        }
        while beyond - fits > 1 {
            let pages = fits.midpoint(beyond);
            if least(pages)? <= memory {
                fits = pages;
            } else {
                beyond = pages;
            }
        }
        match fits {
            0 => Err(SessionError::Budget { needed: least(1)?, budget: memory }.into()),
            pages => Ok(context(pages)),
        }
    }

    fn build_plan(
        &self,
        context: usize,
        pages: usize,
        backend: &SessionBackend<'static>,
    ) -> Result<Plan<'static>, EngineError> {
        let (model, options) = (&*self.model, &self.options);
        let logits = (options.sequences + MORE_ROWS).min(options.batch);
        let plan_options = Options {
            batch: options.batch,
            logits,
            context,
            kv: options.kv,
            outputs: Outputs::Logits,
            pages,
        };
        let format = |id| model.format(id);
        let plan = Plan::build(model.spec(), &format, &plan_options, backend);
        plan.map_err(|e| EngineError::Session(SessionError::Plan(e)))
    }

    /// Bytes of the guesses of all sequences.
    fn guesses_bytes(&self) -> usize {
        match self.options.speculation {
            Speculation::Off => 0,
            _ => self.options.sequences * Guesses::BYTES,
        }
    }

    /// Sizes of pages and checkpoints.
    fn unit(&self, backend: &SessionBackend<'static>) -> Result<Unit, EngineError> {
        let pool = |pages| {
            let plan = self.build_plan(1, pages, backend)?;
            Ok::<_, EngineError>(plan.memory_requirements.pool)
        };
        // The counts of 16 pages fill whole lines.
        let page = (pool(32)? - pool(16)?) / 16;
        let context = self.options.context.unwrap_or(self.model.spec().context as usize);
        let context = context.min(self.model.spec().context as usize).max(1);
        let plan = self.build_plan(context, context.div_ceil(PAGE), backend)?;
        Ok(Unit { page, checkpoint: largest(&plan) })
    }

    /// What the engine needs besides the cache.
    fn fixed(
        &self,
        backend: &SessionBackend<'static>,
        threads: usize,
        context: usize,
    ) -> Result<EngineMemoryRequirements, EngineError> {
        let sequences = self.options.sequences;
        let plan = self.build_plan(context, context.div_ceil(PAGE), backend)?;
        let memory = &plan.memory_requirements;
        let vocab = self.model.spec().vocab as usize;
        let sampler = Sampler::bytes(&Sampling::default(), vocab).saturating_add(vocab * 4);
        Ok(EngineMemoryRequirements {
            arena: memory.scratch.saturating_add(memory.per_thread.saturating_mul(threads)),
            sequences: memory.state.saturating_mul(sequences),
            pages: 0,
            page_bytes: 0,
            checkpoints: 0,
            checkpoint_bytes: 0,
            tables: table_bytes(&plan)
                + sequences * (context + context / PAGE + 1) * 4
                + self.guesses_bytes(),
            samplers: sequences.saturating_mul(sampler),
            draft: self.draft_plan(backend, threads, context)?.map_or(0, |draft| draft.bytes),
            context,
            threads,
        })
    }
}
