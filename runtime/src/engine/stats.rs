//! Counters of an engine.

use std::sync::atomic::{AtomicU64, Ordering};

/// State and counters of an engine, read one after the other while it works, of about one moment. Counters grow from its start.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
#[non_exhaustive]
pub struct EngineStats {
    /// Sequences that wait to be admitted.
    pub waiting: usize,
    /// Sequences that run.
    pub running: usize,
    /// Tokens of the last step.
    pub batch_tokens: usize,
    /// Sequences of the last step.
    pub batch_sequences: usize,
    /// Pages of the KV cache.
    pub pages: usize,
    /// Pages that running sequences use.
    pub pages_running: usize,
    /// Pages that only cached prefixes use.
    pub pages_cached: usize,
    /// Pages that nothing uses.
    pub pages_free: usize,
    /// Checkpoints of recurrent states and windows that there is room for.
    pub checkpoints: usize,
    /// Checkpoints in use.
    pub checkpoints_used: usize,
    /// Counter of requests submitted.
    pub requests: u64,
    /// Counter of sequences submitted: the choices of all requests.
    pub sequences: u64,
    /// Counter of sequences that ended, for whatever reason.
    pub ended_sequences: u64,
    /// Counter of sequences (choices) that ended because they were cancelled.
    pub cancelled: u64,
    /// Counter of prompt tokens of admitted sequences.
    pub prompt_tokens: u64,
    /// Counter of those among them that came from cached prefixes.
    pub cached_tokens: u64,
    /// Counter of generated tokens.
    pub generated_tokens: u64,
    /// Counter of steps.
    pub steps: u64,
    /// Counter of tokens that were computed, prompts and generated ones.
    pub computed_tokens: u64,
    /// Counter of guesses that were computed.
    pub guessed_tokens: u64,
    /// Counter of those among them that were right: each saved a step of its text.
    pub right_guesses: u64,
    /// Counter of sequences that were pushed out for want of pages, to be computed again.
    pub preemptions: u64,
    /// Counter of cached pages that were given up for others.
    pub evictions: u64,
}

macro_rules! counters {
    ($($name:ident: $ty:ty,)*) => {
        /// Values of [`EngineStats`], which the engine's thread writes and others read.
        #[derive(Debug, Default)]
        pub(super) struct Counters {
            $(pub(super) $name: AtomicU64,)*
        }

        impl Counters {
            /// All values, each of about the same moment.
            pub(super) fn read(&self) -> EngineStats {
                EngineStats { $($name: self.$name.load(Ordering::Relaxed) as $ty,)* }
            }
        }
    };
}

counters! {
    waiting: usize,
    running: usize,
    batch_tokens: usize,
    batch_sequences: usize,
    pages: usize,
    pages_running: usize,
    pages_cached: usize,
    pages_free: usize,
    checkpoints: usize,
    checkpoints_used: usize,
    requests: u64,
    sequences: u64,
    ended_sequences: u64,
    cancelled: u64,
    prompt_tokens: u64,
    cached_tokens: u64,
    generated_tokens: u64,
    steps: u64,
    computed_tokens: u64,
    guessed_tokens: u64,
    right_guesses: u64,
    preemptions: u64,
    evictions: u64,
}

/// Sets a value that is not a counter.
pub(super) fn set(value: &AtomicU64, to: usize) {
    value.store(to as u64, Ordering::Relaxed);
}

/// Adds to a counter.
pub(super) fn add(counter: &AtomicU64, n: usize) {
    counter.fetch_add(n as u64, Ordering::Relaxed);
}
