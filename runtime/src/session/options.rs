//! What a session is to be.

use teff_kernels::{Cpu, KvFormat};

/// Most tokens that a session takes through the model at a time unless told otherwise.
pub const DEFAULT_BATCH: usize = 512;

/// Checkpoints that a session of a model with recurrent layers keeps unless told otherwise.
pub const DEFAULT_CHECKPOINTS: usize = 2;

/// What a session is to be.
///
/// ```
/// use teff_runtime::SessionOptions;
/// let options = SessionOptions::default().with_context(2048).with_threads(2);
/// assert_eq!(options.context, Some(2048));
/// ```
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
    /// One of Teff's backends; `None`: the one that the environment names
    /// ([`BACKEND_VARIABLE`](super::BACKEND_VARIABLE)), else the best of this machine.
    pub backend: Option<Cpu>,
    /// Threads; `None`: one for every core.
    pub threads: Option<usize>,
    /// Most bytes that the session may take.
    pub budget: Option<usize>,
    /// Checkpoints that the session keeps of the states of recurrent layers, to which a text can be
    /// taken back without computing it again. Models whose layers can all go back have none.
    pub checkpoints: usize,
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
            checkpoints: DEFAULT_CHECKPOINTS,
        }
    }
}

macro_rules! setters {
    ($($(#[$doc:meta])* $name:ident($field:ident: $ty:ty) = $value:expr;)*) => {
        impl SessionOptions {
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
    /// The same with so many positions of the cache.
    with_context(context: usize) = Some(context);
    /// The same with so many tokens in a step at most.
    with_batch(batch: usize) = batch;
    /// The same with logits of so many tokens of a step at most.
    with_logits(logits: usize) = logits;
    /// The same with keys and values stored so.
    with_kv(kv: KvFormat) = kv;
    /// The same with one of Teff's backends.
    with_backend(backend: Cpu) = Some(backend);
    /// The same with so many threads.
    with_threads(threads: usize) = Some(threads);
    /// The same with a limit of bytes.
    with_budget(budget: usize) = Some(budget);
    /// The same with so many checkpoints.
    with_checkpoints(checkpoints: usize) = checkpoints;
}
