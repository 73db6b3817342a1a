//! Options of a session.

use teff_graph::Outputs;
use teff_kernels::{Cpu, KvFormat};

use crate::speculation::Speculation;

/// Default of [`SessionOptions::batch`].
pub const DEFAULT_BATCH: usize = 512;

/// Default of [`SessionOptions::checkpoints`].
pub const DEFAULT_CHECKPOINTS: usize = 2;

/// Options of a session.
///
/// ```
/// use teff_runtime::SessionOptions;
/// let options = SessionOptions::default().with_context(2048).with_threads(2);
/// assert_eq!(options.context, Some(2048));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct SessionOptions {
    /// Positions of the cache; `None` for the model's context.
    pub context: Option<usize>,
    /// Maximum number of tokens in a step. Larger values speed up long prompts and enlarge the
    /// arena.
    pub batch: usize,
    /// Maximum number of tokens of a step whose outputs are wanted: 1 to generate text.
    pub logits: usize,
    /// Outputs of a step: logits, hidden states ([`Session::hidden`](super::Session::hidden)) or
    /// both.
    pub outputs: Outputs,
    /// Format of keys and values in the cache.
    pub kv: KvFormat,
    /// One of Teff's backends; `None` for the one named by the environment
    /// ([`BACKEND_VARIABLE`](super::BACKEND_VARIABLE)), or otherwise the best of this machine.
    pub backend: Option<Cpu>,
    /// Number of threads; `None` for one per core. More than the process may run on
    /// ([`cpu_limit`](crate::pool::cpu_limit)) count as that many, with a warning
    /// ([`Session::fewer_threads`](super::Session::fewer_threads)), unless `oversubscribe` is set.
    pub threads: Option<usize>,
    /// True if there may be more threads than the process may run on, which take turns then: slower,
    /// but of use for tests.
    pub oversubscribe: bool,
    /// Maximum number of bytes that the session may take; `None` for no limit.
    pub budget: Option<usize>,
    /// Number of checkpoints of recurrent states that the session keeps, to which a text can be
    /// truncated without recomputing it. Models whose layers can all be truncated need none.
    pub checkpoints: usize,
    /// Source of guesses that [`Session::generate`](super::Session::generate) computes together with the
    /// last token. Those need room for more logits: 15 rows of the vocabulary's size.
    pub speculation: Speculation,
}

impl Default for SessionOptions {
    fn default() -> Self {
        SessionOptions {
            context: None,
            batch: DEFAULT_BATCH,
            logits: 1,
            outputs: Outputs::Logits,
            kv: KvFormat::F32,
            backend: None,
            threads: None,
            oversubscribe: false,
            budget: None,
            checkpoints: DEFAULT_CHECKPOINTS,
            speculation: Speculation::Off,
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
    /// Sets the number of positions of the cache.
    with_context(context: usize) = Some(context);
    /// Sets the maximum number of tokens in a step.
    with_batch(batch: usize) = batch;
    /// Sets the maximum number of tokens of a step whose outputs are wanted.
    with_logits(logits: usize) = logits;
    /// Sets the outputs of a step.
    with_outputs(outputs: Outputs) = outputs;
    /// Sets the format of keys and values in the cache.
    with_kv(kv: KvFormat) = kv;
    /// Sets the backend.
    with_backend(backend: Cpu) = Some(backend);
    /// Sets the number of threads.
    with_threads(threads: usize) = Some(threads);
    /// Sets whether there may be more threads than the process may run on.
    with_oversubscribe(oversubscribe: bool) = oversubscribe;
    /// Sets the maximum number of bytes.
    with_budget(budget: usize) = Some(budget);
    /// Sets the number of checkpoints.
    with_checkpoints(checkpoints: usize) = checkpoints;
    /// Sets the source of guesses.
    with_speculation(speculation: Speculation) = speculation;
}
