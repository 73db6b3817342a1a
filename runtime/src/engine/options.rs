//! Options of an engine.

use core::time::Duration;

use teff_kernels::{Cpu, KvFormat};

use crate::speculation::Speculation;

/// Positions of a page of the KV cache.
pub const PAGE: usize = teff_kernels::KV_BLOCK;

/// Default of [`EngineOptions::sequences`].
pub const DEFAULT_SEQUENCES: usize = 16;

/// Default of [`EngineOptions::batch`].
pub const DEFAULT_BATCH: usize = 256;

/// Default of [`EngineOptions::queue`].
pub const DEFAULT_QUEUE: usize = 1024;

/// Default of [`EngineOptions::pause`].
pub const DEFAULT_PAUSE: Duration = Duration::from_millis(100);

/// Options of an engine.
///
/// ```
/// use teff_runtime::engine::EngineOptions;
///
/// let options = EngineOptions::default().with_context(4096).with_cache(1 << 30);
/// assert_eq!((options.context, options.cache), (Some(4096), Some(1 << 30)));
/// ```
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct EngineOptions {
    /// Maximum number of positions of a sequence; `None` for the model's context, or as many as the
    /// cache has room for if that is fewer.
    pub context: Option<usize>,
    /// Maximum number of sequences that run at the same time; others wait.
    pub sequences: usize,
    /// Maximum number of requests that wait; more are refused ([`EngineError::Busy`](super::EngineError)).
    pub queue: usize,
    /// Maximum number of tokens in a step.
    pub batch: usize,
    /// Time that a step may take while there are running answers: prompts are computed in chunks that
    /// keep to it, and to 1.6 times the time of a step without prompts, though of 4 tokens at
    /// least.
    pub pause: Duration,
    /// Format of keys and values in the cache.
    pub kv: KvFormat,
    /// One of Teff's backends; `None` as in [`SessionOptions::backend`](crate::SessionOptions).
    pub backend: Option<Cpu>,
    /// Number of threads; `None` for one per core.
    pub threads: Option<usize>,
    /// True if there may be more threads than the process may run on.
    pub oversubscribe: bool,
    /// Maximum number of bytes of everything that the engine takes, the cache included; `None` for no
    /// limit.
    pub memory: Option<usize>,
    /// Bytes of the KV pages and of checkpoints, for running sequences and for cached prefixes
    /// together; `None` for what [`memory`](Self::memory) leaves or, without a limit, for room for
    /// [`sequences`](Self::sequences) texts of a quarter of the context each, or of 1,024 tokens if that is
    /// more and the context is as long, in at most half of the memory that the system has available.
    pub cache: Option<usize>,
    /// Source of guesses that steps compute together with the last tokens of texts, where that pays; a
    /// model that guesses is given to [`EngineBuilder::draft`](super::EngineBuilder::draft). Texts
    /// with a constraint have none, nor do steps with prompts.
    pub speculation: Speculation,
}

impl Default for EngineOptions {
    fn default() -> Self {
        EngineOptions {
            context: None,
            sequences: DEFAULT_SEQUENCES,
            queue: DEFAULT_QUEUE,
            batch: DEFAULT_BATCH,
            pause: DEFAULT_PAUSE,
            kv: KvFormat::F32,
            backend: None,
            threads: None,
            oversubscribe: false,
            memory: None,
            cache: None,
            speculation: Speculation::Off,
        }
    }
}

macro_rules! setters {
    ($($(#[$doc:meta])* $name:ident($field:ident: $ty:ty) = $value:expr;)*) => {
        impl EngineOptions {
            $(
                $(#[$doc])*
                #[must_use]
                pub fn $name(mut self, $field: $ty) -> Self {
                    self.$field = $value;
                    self
                }
            )*
        }
    };
}

setters! {
    /// Sets [`context`](Self::context).
    with_context(context: usize) = Some(context);
    /// Sets [`sequences`](Self::sequences).
    with_sequences(sequences: usize) = sequences;
    /// Sets [`queue`](Self::queue).
    with_queue(queue: usize) = queue;
    /// Sets [`batch`](Self::batch).
    with_batch(batch: usize) = batch;
    /// Sets [`pause`](Self::pause).
    with_pause(pause: Duration) = pause;
    /// Sets [`kv`](Self::kv).
    with_kv(kv: KvFormat) = kv;
    /// Sets [`backend`](Self::backend).
    with_backend(backend: Cpu) = Some(backend);
    /// Sets [`threads`](Self::threads).
    with_threads(threads: usize) = Some(threads);
    /// Sets [`oversubscribe`](Self::oversubscribe).
    with_oversubscribe(oversubscribe: bool) = oversubscribe;
    /// Sets [`memory`](Self::memory).
    with_memory(memory: usize) = Some(memory);
    /// Sets [`cache`](Self::cache).
    with_cache(cache: usize) = Some(cache);
    /// Sets [`speculation`](Self::speculation).
    with_speculation(speculation: Speculation) = speculation;
}
