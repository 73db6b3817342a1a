//! Counters of an engine.

/// State and counters of an engine at one moment. Counters grow from the engine's start.
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
    /// Counter of requests that ended, for whatever reason.
    pub requests_ended: u64,
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
    /// Counter of sequences that were pushed out for want of pages, to be computed again.
    pub preemptions: u64,
    /// Counter of cached pages that were given up for others.
    pub evictions: u64,
}
