//! Session builder: backend, threads, memory and cache, in any combination.

use teff_graph::{List, Memory, MemoryRequirements, Options, Outputs, Plan, Runner, Solo, Tensor};
use teff_kernels::Backend;

use std::sync::Arc;

use super::backend::SessionBackend;
use super::checkpoint::Checkpoints;
use super::model_ref::ModelRef;
use super::shared_crew::SessionCrew;
use super::{Session, SessionError, SessionOptions, StopHandle, default_backend, draft};
use crate::model::Model;
use crate::pool::{
    Crew, FewerThreads, Pool, PoolOptions, allowed_threads, available_threads, check_threads,
};
use crate::speculation::{MOST_GUESSES, Speculation, Speculator};

/// Bytes that a session takes from the heap, known before they are allocated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SessionMemoryRequirements {
    /// Arena, states and memory of the threads.
    pub plan: MemoryRequirements,
    /// Number of threads.
    pub threads: usize,
    /// The plan itself, the table of weights, and room for the tokens of the text.
    pub tables: usize,
    /// Room for checkpoints.
    pub checkpoints: usize,
    /// All of the session of the model that guesses, if there is one.
    pub draft: usize,
}

impl SessionMemoryRequirements {
    /// Total in bytes; `usize::MAX` on overflow.
    #[must_use]
    pub fn total(&self) -> usize {
        let plan = self.plan.total(self.threads).unwrap_or(usize::MAX);
        let parts = [self.tables, self.checkpoints, self.draft];
        parts.into_iter().fold(plan, usize::saturating_add)
    }
}

/// Builder of a session: options, and parts that can't be copied.
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let model = teff_runtime::Model::open("model.gguf")?;
/// let mut pool = teff_runtime::pool::Pool::new(2)?;
/// let options = teff_runtime::SessionOptions::default().with_context(4096);
/// let session = model.session_builder(&options).crew(&mut pool).build()?;
/// assert_eq!(session.threads(), 2);
/// # Ok(()) }
/// ```
pub struct SessionBuilder<'m> {
    model: ModelRef<'m>,
    options: SessionOptions,
    backend: Option<SessionBackend<'m>>,
    crew: Option<Box<dyn Crew + Send + 'm>>,
    draft: Option<ModelRef<'m>>,
}

impl core::fmt::Debug for SessionBuilder<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("SessionBuilder").field("options", &self.options).finish_non_exhaustive()
    }
}

/// Decisions about a session, made before its memory is allocated.
pub(super) struct SessionPlan<'m> {
    plan: Plan<'static>,
    backend: SessionBackend<'m>,
    pub(super) memory_requirements: SessionMemoryRequirements,
}

impl<'m> SessionBuilder<'m> {
    pub(super) fn new(model: ModelRef<'m>, options: &SessionOptions) -> Self {
        SessionBuilder { model, options: *options, backend: None, crew: None, draft: None }
    }

    /// Sets a backend of the caller's that computes every operation instead of one of Teff's own;
    /// only sampling is still done by Teff. A backend that passes the suite of
    /// `teff_kernels::equivalence` gives the same bits as all others.
    #[must_use]
    pub fn foreign_backend(self, backend: &'m dyn Backend) -> Self {
        self.session_backend(SessionBackend::Foreign(backend))
    }

    pub(super) fn session_backend(self, backend: SessionBackend<'m>) -> Self {
        SessionBuilder { backend: Some(backend), ..self }
    }

    /// Sets the threads that steps run on, as many as `crew` has, instead of a pool owned by the
    /// session. `crew` may be a mutable reference.
    #[must_use]
    pub fn crew(self, crew: impl Crew + Send + 'm) -> Self {
        SessionBuilder { crew: Some(Box::new(crew)), ..self }
    }

    /// Sets the smaller model that guesses, if [`SessionOptions::speculation`] asks for one. It must have
    /// the same tokens. It computes on the session's threads, with a cache as long as the session's or
    /// as its own context.
    #[must_use]
    pub fn draft(self, draft: &'m Model) -> Self {
        self.with_draft(Some(ModelRef::Borrowed(draft)))
    }

    /// As [`SessionBuilder::draft`], with a share of the model.
    #[must_use]
    pub fn draft_owned(self, draft: &Arc<Model>) -> Self {
        self.with_draft(Some(ModelRef::Shared(Arc::clone(draft))))
    }

    pub(super) fn with_draft(self, draft: Option<ModelRef<'m>>) -> Self {
        SessionBuilder { draft, ..self }
    }

    /// The builder of the session that guesses.
    fn draft_builder(&self) -> Result<Option<SessionBuilder<'m>>, SessionError> {
        if !self.options.speculation.needs_draft() {
            return Ok(None);
        }
        let none = || SessionError::Draft("none was given".into());
        let draft = self.draft.clone().ok_or_else(none)?;
        draft::check(&self.model, &draft)?;
        let context = self.options.context.unwrap_or(self.model.spec().context as usize);
        let options = SessionOptions {
            context: Some(context.min(draft.spec().context as usize)),
            speculation: Speculation::Off,
            outputs: Outputs::Logits,
            logits: 1,
            budget: None,
            ..self.options
        };
        Ok(Some(SessionBuilder { backend: self.backend, ..SessionBuilder::new(draft, &options) }))
    }

    fn threads(&self) -> (usize, Option<FewerThreads>) {
        match &self.crew {
            Some(crew) => (crew.size(), None),
            None => {
                let asked = self.options.threads.unwrap_or_else(available_threads);
                allowed_threads(asked, self.options.oversubscribe)
            }
        }
    }

    /// Computes the bytes that the session will take, from the model's header alone.
    ///
    /// # Errors
    /// [`SessionError::Plan`] for options out of range, [`SessionError::Pool`] for numbers of threads
    /// that no pool can have, [`SessionError::Budget`], [`SessionError::Repacked`]: those that
    /// [`SessionBuilder::build`] gives for the same options.
    pub fn memory_requirements(&self) -> Result<SessionMemoryRequirements, SessionError> {
        Ok(self.plan(self.threads().0)?.memory_requirements)
    }

    /// Allocates the memory and creates the session.
    ///
    /// # Errors
    /// [`SessionError`]; nothing is kept in that case.
    pub fn build(self) -> Result<Session<'m>, SessionError> {
        let (threads, fewer) = self.threads();
        let (plan, draft) = (self.plan(threads)?, self.draft_builder()?);
        let crew = match self.crew {
            Some(crew) => crew,
            None if threads == 1 => Box::new(Solo),
            None => {
                let options = PoolOptions::default().with_threads(threads);
                Box::new(Pool::with_options(&options.with_oversubscribe(true))?)
            }
        };
        let session = plan.session(self.model, &self.options, SessionCrew::Own(crew))?;
        Session { fewer, ..session }.with_draft(draft)
    }

    /// Creates the session on the threads of another one.
    pub(super) fn build_on(self, crew: SessionCrew<'m>) -> Result<Session<'m>, SessionError> {
        let (plan, draft) = (self.plan(crew.size())?, self.draft_builder()?);
        plan.session(self.model, &self.options, crew)?.with_draft(draft)
    }

    fn plan(&self, threads: usize) -> Result<SessionPlan<'m>, SessionError> {
        check_threads(threads)?;
        let (model, options) = (&*self.model, &self.options);
        let backend = match (self.backend, options.backend) {
            (Some(foreign), _) => foreign,
            (None, Some(own)) => SessionBackend::Own(own),
            (None, None) => SessionBackend::Own(default_backend()?),
        };
        check_repacked(model, &backend)?;
        let spec = model.spec();
        let context = options.context.unwrap_or(spec.context as usize);
        let batch = options.batch.min(context);
        // A row for the last token and for each guess.
        let guesses = match options.speculation {
            Speculation::Off => 0,
            _ => 1 + MOST_GUESSES,
        };
        let logits = if options.logits == 0 { 0 } else { options.logits.max(guesses).min(batch) };
        let (kv, outputs) = (options.kv, options.outputs);
        let plan_options = Options { batch, logits, context, kv, outputs, pages: 0 };
        let plan = Plan::build(spec, &|id| model.format(id), &plan_options, &backend)?;
        let tables = table_bytes(&plan) + context * size_of::<u32>();
        let memory_requirements = SessionMemoryRequirements {
            plan: plan.memory_requirements,
            threads,
            tables,
            checkpoints: Checkpoints::bytes(&plan, options.checkpoints),
            draft: match self.draft_builder()? {
                Some(draft) => draft.plan(threads)?.memory_requirements.total(),
                None => 0,
            },
        };
        let needed = memory_requirements.total();
        match options.budget {
            Some(budget) if needed > budget => Err(SessionError::Budget { needed, budget }),
            _ => Ok(SessionPlan { plan, backend, memory_requirements }),
        }
    }
}

/// Refuses a model whose matrices were repacked for other backends: this one would compute the right
/// bits, but very slowly.
pub(crate) fn check_repacked(model: &Model, backend: &dyn Backend) -> Result<(), SessionError> {
    let mut repacked = model.tensors().filter_map(|t| match t {
        Tensor::Matrix(m) if m.is_repacked() => Some(m.format()),
        _ => None,
    });
    match repacked.find(|&format| !backend.repacks(format)) {
        Some(format) => Err(SessionError::Repacked { backend: backend.name(), format }),
        None => Ok(()),
    }
}

/// Bytes of a plan and of the table of its model's weights.
pub(crate) fn table_bytes(plan: &Plan<'_>) -> usize {
    size_of_val(&*plan.ops)
        + size_of_val(&*plan.buffers)
        + size_of_val(&*plan.states)
        + size_of_val(&*plan.ropes)
        + size_of_val(&*plan.spec.ropes)
        + size_of_val(plan.spec.layers.kinds())
        + size_of_val(plan.spec.layers.pattern())
        + plan.spec.tensors() * size_of::<Tensor<'_>>()
}

impl<'m> SessionPlan<'m> {
    fn session(
        self,
        model: ModelRef<'m>,
        options: &SessionOptions,
        crew: SessionCrew<'m>,
    ) -> Result<Session<'m>, SessionError> {
        let SessionPlan { plan, backend, memory_requirements } = self;
        let threads = memory_requirements.threads;
        let memory = Memory::allocate(&memory_requirements.plan, threads, 1)
            .map_err(|e| SessionError::Runner(e.into()))?;
        let mut table = Vec::with_capacity(model.spec().tensors());
        // SAFETY: the session keeps `model` beside the runner, which alone has the tensors and never
        // gives them out.
        table.extend(unsafe { model.tensors() });
        let tokens = Vec::with_capacity(plan.options.context);
        let checkpoints = Checkpoints::new(&plan, options.checkpoints)
            .map_err(|e| SessionError::Runner(e.into()))?;
        let runner = Runner::new(plan, List::from(table), backend, threads, memory)?;
        Ok(Session {
            model,
            options: *options,
            memory_requirements,
            runner,
            crew,
            fewer: None,
            stop: StopHandle::new(),
            tokens,
            done: 0,
            logits: 0..0,
            rows: 0..0,
            ahead: 0,
            again: 0,
            speculator: Speculator::new(options.speculation),
            draft: None,
            checkpoints,
        })
    }
}

impl<'m> Session<'m> {
    /// Adds the session of the model that guesses, on the same threads.
    fn with_draft(mut self, draft: Option<SessionBuilder<'m>>) -> Result<Self, SessionError> {
        if let Some(draft) = draft {
            let mut draft = draft.build_on(self.crew.share())?;
            // Both are cancelled at once.
            draft.stop = self.stop.clone();
            self.draft = Some(Box::new(draft));
        }
        Ok(self)
    }
}

impl Model {
    /// Computes the bytes that a session with these options will take, from the model's header
    /// alone.
    ///
    /// # Errors
    /// As [`SessionBuilder::memory_requirements`].
    pub fn memory_requirements(
        &self,
        options: &SessionOptions,
    ) -> Result<SessionMemoryRequirements, SessionError> {
        self.session_builder(options).memory_requirements()
    }

    /// Creates a session with its own threads.
    ///
    /// # Errors
    /// [`SessionError`]; nothing is kept in that case.
    pub fn session(&self, options: &SessionOptions) -> Result<Session<'_>, SessionError> {
        self.session_builder(options).build()
    }

    /// Starts building a session with these options and a backend or threads of the caller's.
    #[must_use]
    pub fn session_builder(&self, options: &SessionOptions) -> SessionBuilder<'_> {
        SessionBuilder::new(ModelRef::Borrowed(self), options)
    }

    /// Creates a session with its own threads that keeps the model by a share of its own: it is
    /// `'static` and [`Send`], and may be stored or moved to a thread.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::collections::HashMap;
    /// use std::sync::Arc;
    /// use teff_runtime::{Generate, Model, Session, SessionOptions};
    ///
    /// # let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/gpt2/model.gguf");
    /// let model = Arc::new(Model::open(path)?);
    /// let options = SessionOptions::default().with_context(64).with_threads(1);
    /// let mut users: HashMap<&str, Session<'static>> = HashMap::new();
    /// users.insert("ann", model.session_owned(&options)?);
    /// drop(model); // the sessions have it still
    ///
    /// let mut session = users.remove("ann").ok_or("nobody of that name")?;
    /// let thread = std::thread::spawn(move || -> Result<String, teff_runtime::SessionError> {
    ///     session.generate("Once", &Generate::default().with_max_tokens(3))?.collect()
    /// });
    /// assert!(thread.join().is_ok_and(|text| text.is_ok()));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`Model::session`].
    pub fn session_owned(
        self: &Arc<Self>,
        options: &SessionOptions,
    ) -> Result<Session<'static>, SessionError> {
        self.session_builder_owned(options).build()
    }

    /// Starts building a session that keeps the model by a share of its own, with these options and
    /// a backend or threads of the caller's; see [`Model::session_owned`].
    #[must_use]
    pub fn session_builder_owned<'a>(
        self: &Arc<Self>,
        options: &SessionOptions,
    ) -> SessionBuilder<'a> {
        SessionBuilder::new(ModelRef::Shared(Arc::clone(self)), options)
    }
}
