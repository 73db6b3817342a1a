//! Sessions: a model, the memory of one text, and the threads that compute it.

use std::sync::atomic::{AtomicU8, Ordering};

use teff_graph::{
    List, LogitsFor, Memory, MemoryRequirements, Options, Plan, Runner, Solo, Step, StepError,
    Tensor,
};
use teff_kernels::{Backend, Cpu, KvFormat};

use crate::model::Model;
use crate::pool::{Crew, Pool, available_threads};

mod backend;
mod default_backend;
mod error;
mod generate;
mod snapshot;
mod stop;

pub use default_backend::{BACKEND_VARIABLE, default_backend};
pub use error::SessionError;
pub use generate::{Finish, Generate, Generation};
pub use stop::StopHandle;

use backend::SessionBackend;

/// Most tokens that a session takes through the model at a time unless told otherwise.
pub const DEFAULT_BATCH: usize = 512;

/// What a session is to be.
#[derive(Clone, Copy, Debug)]
pub struct SessionOptions {
    /// Positions of the cache; `None`: as many as the model was made for.
    pub context: Option<usize>,
    /// Most tokens of one step. More make long prompts faster and the arena larger.
    pub batch: usize,
    /// Most tokens of one step whose logits are wanted: 1 to generate text.
    pub logits: usize,
    /// How the cache stores keys and values.
    pub kv: KvFormat,
    /// Who computes; `None`: whom the environment names ([`BACKEND_VARIABLE`]), else the best of this
    /// machine.
    pub backend: Option<Cpu>,
    /// Threads; `None`: one for every core.
    pub threads: Option<usize>,
    /// Bytes that the session may take.
    pub budget: Option<usize>,
}

impl Default for SessionOptions {
    fn default() -> Self {
        SessionOptions {
            context: None,
            batch: DEFAULT_BATCH,
            logits: 1,
            kv: KvFormat::F32,
            backend: None,
            threads: None,
            budget: None,
        }
    }
}

/// Bytes that a session takes from the heap, known before it takes them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SessionMemoryRequirements {
    /// Arena, cache and the threads' own.
    pub plan: MemoryRequirements,
    /// Threads.
    pub threads: usize,
    /// The plan itself, the table of weights, and room for the tokens of the text.
    pub tables: usize,
}

impl SessionMemoryRequirements {
    /// All of it; `usize::MAX` where it can't be counted.
    #[must_use]
    pub fn total(&self) -> usize {
        let plan = self.plan.total(self.threads).unwrap_or(usize::MAX);
        plan.saturating_add(self.tables)
    }
}

/// What is decided about a session before its memory is taken.
struct SessionPlan<'m> {
    plan: Plan<'static>,
    backend: SessionBackend<'m>,
    memory_requirements: SessionMemoryRequirements,
}

impl<'m> SessionPlan<'m> {
    fn new(
        model: &Model,
        options: &SessionOptions,
        backend: Option<SessionBackend<'m>>,
        threads: usize,
    ) -> Result<Self, SessionError> {
        let backend = match (backend, options.backend) {
            (Some(foreign), _) => foreign,
            (None, Some(own)) => SessionBackend::Own(own),
            (None, None) => SessionBackend::Own(default_backend()?),
        };
        let mut repacked = model.tensors().filter_map(|t| match t {
            Tensor::Matrix(m) if m.is_repacked() => Some(m.format()),
            _ => None,
        });
        // It would compute the right bits, but very slowly.
        if let Some(format) = repacked.find(|&format| !backend.repacks(format)) {
            return Err(SessionError::Repacked { backend: backend.name(), format });
        }
        let spec = model.spec();
        let context = options.context.unwrap_or(spec.context as usize);
        let batch = options.batch.min(context);
        let logits = if options.logits == 0 { 0 } else { options.logits.min(batch) };
        let plan_options = Options { batch, logits, context, kv: options.kv };
        let plan = Plan::build(spec, &|id| model.format(id), &plan_options, &backend)?;
        let tables = size_of_val(&*plan.ops)
            + size_of_val(&*plan.buffers)
            + spec.tensors() * size_of::<Tensor<'_>>()
            + context * size_of::<u32>();
        let memory_requirements =
            SessionMemoryRequirements { plan: plan.memory_requirements, threads, tables };
        let session_plan = SessionPlan { plan, backend, memory_requirements };
        match options.budget {
            Some(budget) if memory_requirements.total() > budget => {
                Err(SessionError::Budget { needed: memory_requirements.total(), budget })
            }
            _ => Ok(session_plan),
        }
    }
}

impl Model {
    /// The bytes that a session with these options will take, from the model's header alone.
    ///
    /// # Errors
    /// [`SessionError::Plan`] for options out of range, [`SessionError::Budget`],
    /// [`SessionError::Repacked`].
    pub fn memory_requirements(
        &self,
        options: &SessionOptions,
    ) -> Result<SessionMemoryRequirements, SessionError> {
        let threads = options.threads.unwrap_or_else(available_threads);
        Ok(SessionPlan::new(self, options, None, threads)?.memory_requirements)
    }

    /// As [`Model::memory_requirements`], for [`Model::session_by`].
    ///
    /// # Errors
    /// As [`Model::memory_requirements`].
    pub fn memory_requirements_by(
        &self,
        options: &SessionOptions,
        backend: &dyn Backend,
    ) -> Result<SessionMemoryRequirements, SessionError> {
        let threads = options.threads.unwrap_or_else(available_threads);
        Ok(SessionPlan::new(self, options, Some(SessionBackend::Foreign(backend)), threads)?
            .memory_requirements)
    }

    /// A session with threads of its own.
    ///
    /// # Errors
    /// [`SessionError`]; nothing is kept then.
    pub fn session(&self, options: &SessionOptions) -> Result<Session<'_>, SessionError> {
        self.own_crew(options, None)
    }

    /// As [`Model::session`], with every operation computed by `backend` instead of one of Teff's own
    /// ([`SessionOptions::backend`] is not looked at). Only sampling stays Teff's. A backend that
    /// passes the suite of `teff_kernels::equivalence` gives the same bits as all others.
    ///
    /// # Errors
    /// [`SessionError`]; nothing is kept then.
    pub fn session_by<'m>(
        &'m self,
        options: &SessionOptions,
        backend: &'m dyn Backend,
    ) -> Result<Session<'m>, SessionError> {
        self.own_crew(options, Some(SessionBackend::Foreign(backend)))
    }

    fn own_crew<'m>(
        &'m self,
        options: &SessionOptions,
        backend: Option<SessionBackend<'m>>,
    ) -> Result<Session<'m>, SessionError> {
        let threads = options.threads.unwrap_or_else(available_threads);
        let session_plan = SessionPlan::new(self, options, backend, threads)?;
        let crew: Box<dyn Crew + Send> =
            if threads == 1 { Box::new(Solo) } else { Box::new(Pool::new(threads)?) };
        Session::new(self, options, session_plan, crew)
    }

    /// A session on somebody else's threads, as many as `crew` has.
    ///
    /// # Errors
    /// [`SessionError`]; nothing is kept then.
    pub fn session_on<'m>(
        &'m self,
        options: &SessionOptions,
        crew: Box<dyn Crew + Send + 'm>,
    ) -> Result<Session<'m>, SessionError> {
        let session_plan = SessionPlan::new(self, options, None, crew.size())?;
        Session::new(self, options, session_plan, crew)
    }
}

/// A text in the making: its tokens, their cache, and what computes the next.
pub struct Session<'m> {
    model: &'m Model,
    options: SessionOptions,
    memory_requirements: SessionMemoryRequirements,
    runner: Runner<'m, SessionBackend<'m>>,
    crew: Box<dyn Crew + Send + 'm>,
    stop: StopHandle,
    /// All tokens of the text.
    tokens: Vec<u32>,
    /// How many of them are in the cache.
    done: usize,
}

impl core::fmt::Debug for Session<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Session")
            .field("options", &self.options)
            .field("tokens", &self.tokens.len())
            .field("done", &self.done)
            .finish_non_exhaustive()
    }
}

impl<'m> Session<'m> {
    fn new(
        model: &'m Model,
        options: &SessionOptions,
        session_plan: SessionPlan<'m>,
        crew: Box<dyn Crew + Send + 'm>,
    ) -> Result<Self, SessionError> {
        let SessionPlan { plan, backend, memory_requirements } = session_plan;
        let memory = Memory::allocate(&memory_requirements.plan, memory_requirements.threads)
            .map_err(|e| SessionError::Runner(e.into()))?;
        let mut table = Vec::with_capacity(model.spec().tensors());
        table.extend(model.tensors());
        let tokens = Vec::with_capacity(plan.options.context);
        let runner =
            Runner::new(plan, List::from(table), backend, memory_requirements.threads, memory)?;
        let stop = StopHandle::new();
        Ok(Session {
            model,
            options: *options,
            memory_requirements,
            runner,
            crew,
            stop,
            tokens,
            done: 0,
        })
    }

    /// The model.
    #[must_use]
    pub fn model(&self) -> &'m Model {
        self.model
    }

    /// The bytes that the session took.
    #[must_use]
    pub fn memory_requirements(&self) -> &SessionMemoryRequirements {
        &self.memory_requirements
    }

    /// Who computes.
    #[must_use]
    pub fn backend(&self) -> &dyn Backend {
        self.runner.backend().get()
    }

    /// Threads.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.memory_requirements.threads
    }

    /// Positions of the cache.
    #[must_use]
    pub fn context(&self) -> usize {
        self.runner.plan().options.context
    }

    /// Most tokens of one step.
    #[must_use]
    pub fn batch(&self) -> usize {
        self.runner.plan().options.batch
    }

    /// The tokens of the text, those that are still to be computed included.
    #[must_use]
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// How many of the tokens have been computed.
    #[must_use]
    pub fn computed(&self) -> usize {
        self.done
    }

    /// What cancels this session's steps from another thread.
    #[must_use]
    pub fn stop_handle(&self) -> StopHandle {
        self.stop.clone()
    }

    /// Appends tokens to the text, to be computed by the next [`Session::advance`].
    ///
    /// # Errors
    /// [`StepError::ContextFull`] and [`StepError::BadToken`]; nothing is appended then.
    pub fn push(&mut self, tokens: &[u32]) -> Result<(), SessionError> {
        let (context, position) = (self.context(), self.tokens.len());
        if tokens.len() > context - position {
            let tokens = tokens.len();
            return Err(StepError::ContextFull { context, position, tokens }.into());
        }
        let vocab = self.model.spec().vocab;
        if let Some(index) = tokens.iter().position(|&t| t >= vocab) {
            return Err(StepError::BadToken { token: tokens[index], index, vocab }.into());
        }
        self.tokens.extend_from_slice(tokens);
        Ok(())
    }

    /// Computes all tokens that were pushed, as many at a time as the batch allows, and returns
    /// the logits that are wanted of the last step.
    ///
    /// # Errors
    /// [`StepError::Empty`] where nothing is pending. After [`StepError::Cancelled`] what is
    /// still pending can be tried again, with the same bits.
    pub fn advance(&mut self, logits: LogitsFor) -> Result<&[f32], SessionError> {
        if self.done == self.tokens.len() {
            return Err(StepError::Empty.into());
        }
        let mut wanted = 0;
        while self.done < self.tokens.len() {
            let end = self.tokens.len().min(self.done + self.batch());
            let last = end == self.tokens.len();
            let logits = if last { logits } else { LogitsFor::None };
            wanted = self.step(self.done..end, logits)?;
            self.done = end;
        }
        Ok(self.runner.logits(wanted))
    }

    /// [`Session::push`] and [`Session::advance`].
    ///
    /// # Errors
    /// As they have.
    pub fn eval(&mut self, tokens: &[u32], logits: LogitsFor) -> Result<&[f32], SessionError> {
        self.push(tokens)?;
        self.advance(logits)
    }

    /// One step on the whole crew; gives the rows of logits.
    fn step(
        &mut self,
        range: core::ops::Range<usize>,
        logits: LogitsFor,
    ) -> Result<usize, SessionError> {
        const CANCELLED: u8 = 1;
        const TEAM: u8 = 2;
        let step = Step {
            tokens: &self.tokens[range.clone()],
            position: range.start,
            logits,
            cancel: &self.stop,
        };
        let running = self.runner.begin(&step)?;
        let failure = AtomicU8::new(0);
        let ran = self.crew.run(&|team| match running.walk(team) {
            Ok(()) => {}
            Err(StepError::Team { .. }) => failure.store(TEAM, Ordering::Relaxed),
            // A broken team is what the crew itself reports.
            Err(StepError::Broken(_)) => {}
            Err(_) => failure.store(CANCELLED, Ordering::Relaxed),
        });
        let wanted = running.wanted();
        ran?;
        match failure.into_inner() {
            0 => Ok(wanted),
            CANCELLED => Err(StepError::Cancelled.into()),
            _ => {
                let (max, got) = (self.memory_requirements.threads, self.crew.size());
                Err(StepError::Team { max, got }.into())
            }
        }
    }

    /// Takes the text back to its first `len` tokens; more than there are changes nothing.
    pub fn truncate(&mut self, len: usize) {
        self.tokens.truncate(len);
        self.done = self.done.min(len);
    }

    /// A session with the same options that goes on from the same text, independently.
    ///
    /// # Errors
    /// As [`Model::session`].
    pub fn fork(&self) -> Result<Session<'m>, SessionError> {
        let options =
            SessionOptions { threads: Some(self.memory_requirements.threads), ..self.options };
        let mut fork = self.model.own_crew(&options, Some(*self.runner.backend()))?;
        let to = fork.runner.cache_mut();
        self.runner
            .cache_ranges(self.done, |r| to[r.clone()].copy_from_slice(&self.runner.cache()[r]));
        fork.tokens.extend_from_slice(&self.tokens);
        fork.done = self.done;
        Ok(fork)
    }
}
