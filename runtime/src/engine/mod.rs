//! Engine: many texts at once over one model, one cache and one set of threads.
//!
//! An [`Engine`] runs requests together (continuous batching): each step computes the next token of
//! every running sequence, and chunks of new prompts so that the step takes no longer than
//! [`EngineOptions::pause`]. The text of a request does not depend on the others, nor on what is
//! cached: it has the bits that it has alone.
//!
//! Keys and values lie in pages of [`PAGE`] positions. Equal prefixes share theirs, and stay cached
//! after a request has ended until their room is needed. All memory is taken when the engine is built;
//! where pages run out, a sequence is pushed out and computed again later.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Instant;

use teff_graph::{SequenceId, StepError, check_tokens};
use teff_kernels::KvFormat;

use crate::model::Model;
use crate::session::piece::LogprobBuffer;
use crate::session::{SessionError, StopHandle, snapshot};

mod builder;
mod channel;
mod constraint;
mod draft;
mod error;
mod inbox;
mod masks;
mod options;
mod pace;
mod pages;
mod request;
mod scheduler;
mod stats;
mod stream;
mod task;

pub use builder::{EngineBuilder, EngineMemoryRequirements};
pub use constraint::{Constraint, ConstraintError};
pub use error::EngineError;
pub use options::{
    DEFAULT_BATCH, DEFAULT_PAUSE, DEFAULT_QUEUE, DEFAULT_SEQUENCES, EngineOptions, PAGE,
};
pub use request::Request;
pub use stats::EngineStats;
pub use stream::{CancelHandle, Event, Stream};

use channel::Channel;
use inbox::{Inbox, Refused};
use scheduler::Scheduler;
use stats::{Counters, add};
use task::{PromptProbs, Purpose, Task};

/// Most choices of a request.
pub const MAX_CHOICES: usize = 128;

/// Engine that runs many sequences. It can be shared by threads; dropping it ends all requests.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::sync::Arc;
/// use teff_runtime::engine::{Engine, EngineOptions, Event, Request};
/// use teff_runtime::{Generate, Model};
///
/// # let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/gpt2/model.gguf");
/// let model = Arc::new(Model::open(path)?);
/// let options = EngineOptions::default().with_context(256).with_sequences(4);
/// let engine = Engine::builder(&model).options(options).build()?;
///
/// // Both are computed together.
/// let generate = Generate::default().with_max_tokens(8);
/// let ann = engine.submit(Request::new(vec![1, 2, 3], generate.clone()))?;
/// let bob = engine.submit(Request::new(vec![1, 2, 4], generate))?;
/// for stream in [ann, bob] {
///     for event in stream {
///         match event {
///             Event::Piece { piece, .. } => print!("{piece}"),
///             Event::Finished { generated, .. } => assert_eq!(generated, 8),
///             Event::Failed { error, .. } => return Err(error.into()),
///             _ => {}
///         }
///     }
/// }
/// # Ok(()) }
/// ```
pub struct Engine {
    model: Arc<Model>,
    options: EngineOptions,
    kv: KvFormat,
    memory_requirements: EngineMemoryRequirements,
    inbox: Arc<Inbox>,
    /// Cancels the step in progress when the engine ends.
    stop: StopHandle,
    counters: Arc<Counters>,
    arrivals: AtomicU64,
    thread: Option<JoinHandle<()>>,
}

impl core::fmt::Debug for Engine {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Engine")
            .field("options", &self.options)
            .field("memory_requirements", &self.memory_requirements)
            .finish_non_exhaustive()
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.inbox.close();
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            // Its panic was seen by the readers.
            let _ = thread.join();
        }
    }
}

impl Engine {
    /// Starts building an engine of a model.
    #[must_use]
    pub fn builder(model: &Arc<Model>) -> EngineBuilder {
        EngineBuilder::new(model)
    }

    fn start(
        mut scheduler: Scheduler,
        (model, options, kv): (Arc<Model>, EngineOptions, KvFormat),
        memory_requirements: EngineMemoryRequirements,
        (inbox, stop): (Arc<Inbox>, StopHandle),
        counters: Arc<Counters>,
    ) -> Result<Engine, EngineError> {
        scheduler.publish(0, 0);
        let work = move || {
            let run = std::panic::AssertUnwindSafe(|| scheduler.run());
            if std::panic::catch_unwind(run).is_err() {
                // A mistake of Teff's: readers hear of it, and nobody waits for ever.
                scheduler.end_all();
            }
        };
        let builder = std::thread::Builder::new().name("teff-engine".into());
        let thread = builder.spawn(work).map_err(|cause| {
            SessionError::Pool(crate::pool::PoolError::Spawn { started: 0, wanted: 1, cause })
        })?;
        Ok(Engine {
            model,
            options,
            kv,
            memory_requirements,
            inbox,
            stop,
            counters,
            arrivals: AtomicU64::new(0),
            thread: Some(thread),
        })
    }

    /// Model of the engine.
    #[must_use]
    pub fn model(&self) -> &Arc<Model> {
        &self.model
    }

    /// Options of the engine.
    #[must_use]
    pub fn options(&self) -> &EngineOptions {
        &self.options
    }

    /// Maximum number of positions of a sequence.
    #[must_use]
    pub fn context(&self) -> usize {
        self.memory_requirements.context
    }

    /// Bytes that the engine took.
    #[must_use]
    pub fn memory_requirements(&self) -> &EngineMemoryRequirements {
        &self.memory_requirements
    }

    /// State and counters.
    #[must_use]
    pub fn stats(&self) -> EngineStats {
        let mut stats = self.counters.read();
        stats.waiting = self.inbox.waiting();
        stats
    }

    /// Submits a request, which waits until there is room for it.
    ///
    /// # Errors
    /// [`EngineError`] if the request can never run, or too many wait already.
    pub fn submit(&self, request: Request) -> Result<Stream, EngineError> {
        let Request { prompt, generate, choices, deadline, priority, constraint, .. } = request;
        let vocab = self.model.spec().vocab;
        self.check_prompt(&prompt)?;
        generate.validate(vocab)?;
        generate.sampling.validate().map_err(SessionError::Sampling)?;
        self.model.tokenizer().map_err(|e| SessionError::NoTokenizer(e.to_string()))?;
        let most = MAX_CHOICES.min(self.options.queue);
        if !(1..=most).contains(&choices) {
            let allowed = format!("1 to {most}, not {choices}");
            return Err(EngineError::Option { name: "the number of choices", allowed });
        }
        let left = self.context() - prompt.len();
        let tokens = generate.max_tokens.map_or(left, |n| n.min(left)) + 1;
        let channel = Arc::new(Channel::new(&self.inbox, choices, tokens, generate.logprobs));
        let generate = Arc::new(generate);
        let deadline = deadline.and_then(|after| Instant::now().checked_add(after));
        let arrival = self.arrivals.fetch_add(1, Ordering::Relaxed);
        let mut tasks = Vec::with_capacity(choices);
        for choice in 0..choices {
            let mut all = Vec::new();
            let bytes = (prompt.len() + tokens) * size_of::<u32>();
            let refused =
                |_| SessionError::Sampling(crate::sample::SamplingError::Memory { bytes });
            all.try_reserve_exact(prompt.len() + tokens).map_err(refused)?;
            all.extend_from_slice(&prompt);
            let prompt_probs = match (request.prompt_logprobs, choice) {
                (true, 0) => {
                    let top = generate.logprobs.unwrap_or(0).min(vocab as usize);
                    let own = self.options.backend.unwrap_or_else(teff_kernels::Cpu::best);
                    let buffer = LogprobBuffer::new(own, top, prompt.len() - 1);
                    let buffer = buffer.map_err(SessionError::Sampling)?;
                    Some(PromptProbs { buffer, done: 0 })
                }
                _ => None,
            };
            let purpose = Purpose::Generate {
                channel: Arc::clone(&channel),
                choice,
                generate: Arc::clone(&generate),
                constraint: constraint.as_ref().map(|c| c.fork()),
            };
            let task = self.task(purpose, all, (priority, arrival), deadline);
            tasks.push(Task { prompt_probs, ..task });
        }
        self.push(tasks)?;
        add(&self.counters.requests, 1);
        add(&self.counters.sequences, choices);
        Ok(Stream::new(channel))
    }

    fn check_prompt(&self, prompt: &[u32]) -> Result<(), EngineError> {
        if prompt.is_empty() {
            return Err(SessionError::EmptyPrompt.into());
        }
        let context = self.context();
        match check_tokens(prompt, 0, context, self.model.spec().vocab) {
            Err(StepError::ContextFull { .. }) => {
                Err(EngineError::PromptTooLong { tokens: prompt.len(), context })
            }
            other => Ok(other.map_err(SessionError::Step)?),
        }
    }

    fn task(
        &self,
        purpose: Purpose,
        tokens: Vec<u32>,
        (priority, arrival): (i32, u64),
        deadline: Option<Instant>,
    ) -> Task {
        Task {
            purpose,
            prompt: tokens.len(),
            tokens,
            priority,
            arrival,
            deadline,
            continuation: None,
            prompt_probs: None,
            prompt_sent: false,
            cached: None,
            unsent: false,
            error: None,
            slot: SequenceId(0),
            pages: Vec::with_capacity(self.context().div_ceil(PAGE)),
            done: 0,
            registered: 0,
            fork_at: 0,
            rolling: None,
            held: false,
            guesses: None,
        }
    }

    fn push(&self, tasks: Vec<Task>) -> Result<(), EngineError> {
        self.inbox.push(tasks, self.options.queue).map_err(|refused| match refused {
            Refused::Ended => EngineError::Ended,
            Refused::Busy => EngineError::Busy { queue: self.options.queue },
        })
    }

    /// Computes a prefix, unless it is cached, and saves it to a file, in place of what it was. Waits
    /// until it is done. Of a model with windows or recurrent layers only whole pages are saved. Returns
    /// the number of tokens saved.
    ///
    /// A session can restore such a file, too ([`Session::restore`](crate::Session::restore)).
    ///
    /// # Errors
    /// [`EngineError`]. The file is written beside its place first, so that a failure leaves it as it
    /// was.
    pub fn save_prefix(&self, tokens: &[u32], path: &Path) -> Result<usize, EngineError> {
        self.check_prompt(tokens)?;
        let mut tokens = tokens.to_vec();
        if self.memory_requirements.checkpoints > 0 {
            tokens.truncate(tokens.len() / PAGE * PAGE);
            if tokens.is_empty() {
                let allowed = format!("at least {PAGE} tokens for this model");
                return Err(EngineError::Option { name: "the prefix", allowed });
            }
        }
        let saved = tokens.len();
        let (reply, answer) = mpsc::channel();
        let arrival = self.arrivals.fetch_add(1, Ordering::Relaxed);
        self.push(vec![self.task(Purpose::Save { reply }, tokens, (0, arrival), None)])?;
        let bytes = answer.recv().map_err(|_| EngineError::Ended)??;
        // Others may save to the same place.
        static SAVED: AtomicU64 = AtomicU64::new(0);
        let number = SAVED.fetch_add(1, Ordering::Relaxed);
        let mut beside = path.as_os_str().to_owned();
        beside.push(format!(".{}-{number}.part", std::process::id()));
        let beside = Path::new(&beside);
        let written = std::fs::write(beside, bytes).and_then(|()| std::fs::rename(beside, path));
        if let Err(e) = written {
            let _ = std::fs::remove_file(beside);
            return Err(EngineError::Io(e));
        }
        Ok(saved)
    }

    /// Loads a prefix into the cache and returns its tokens. Waits until it is done.
    ///
    /// # Errors
    /// [`EngineError`] for a file that is damaged or of another model, cache format or version.
    pub fn load_prefix(&self, path: &Path) -> Result<Vec<u32>, EngineError> {
        let bytes = std::fs::read(path).map_err(EngineError::Io)?;
        let shape = (self.kv, self.context());
        // The engine's thread checks the size of the states.
        let decoded = snapshot::decode(&bytes, &self.model, shape, |_| None)?;
        let tokens = decoded.tokens[..decoded.done].to_vec();
        let whole = tokens.len().is_multiple_of(PAGE) || self.memory_requirements.checkpoints == 0;
        if tokens.is_empty() || !whole {
            let allowed = format!("whole pages of {PAGE} tokens for this model");
            return Err(EngineError::Option { name: "the prefix", allowed });
        }
        let (reply, answer) = mpsc::channel();
        let arrival = self.arrivals.fetch_add(1, Ordering::Relaxed);
        let purpose = Purpose::Load { states: decoded.states.to_vec(), reply };
        self.push(vec![self.task(purpose, tokens.clone(), (0, arrival), None)])?;
        answer.recv().map_err(|_| EngineError::Ended)??;
        Ok(tokens)
    }
}
