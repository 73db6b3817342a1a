//! Errors of sessions.

use core::fmt;

use teff_graph::{PlanError, RestoreError, RunnerError, StepError};
use teff_kernels::{CpuError, Format};

use super::BACKEND_VARIABLE;
use crate::engine::ConstraintError;
use crate::pool::PoolError;
use crate::sample::{SampleError, SamplingError};
use crate::tokenizer::TokenizerError;

/// Error of creating or running a session.
#[derive(Debug)]
#[non_exhaustive]
pub enum SessionError {
    /// The session needs more memory than the budget allows. Nothing was allocated.
    Budget {
        /// Bytes that the session needs.
        needed: usize,
        /// Bytes that the budget allows.
        budget: usize,
    },
    /// The backend named by the environment ([`BACKEND_VARIABLE`]) is not available.
    Backend {
        /// Name of the backend.
        name: String,
        /// Cause.
        error: CpuError,
    },
    /// The model's matrices were repacked
    /// ([`LoadOptions::repack`](crate::LoadOptions::repack)), but not for this backend.
    Repacked {
        /// Backend of the session.
        backend: &'static str,
        /// Format that was repacked and that the backend does not repack.
        format: Format,
    },
    /// The model that is to guess doesn't go with the model, or none was given, with the reason.
    Draft(String),
    /// The options allow no plan.
    Plan(PlanError),
    /// The plan can't run in this memory or with these weights.
    Runner(RunnerError),
    /// The thread pool failed.
    Pool(PoolError),
    /// A step failed. Its tokens are still pending, and the session remains usable.
    Step(StepError),
    /// The sampling parameters are invalid.
    Sampling(SamplingError),
    /// The logits allow no sampling.
    Sample(SampleError),
    /// The constraint failed or allows no token. The text goes no further.
    Constraint(ConstraintError),
    /// The tokenizer failed.
    Tokenizer(TokenizerError),
    /// The model has no tokenizer, with the reason.
    NoTokenizer(String),
    /// There is no text to continue, and the model has no token to begin with.
    EmptyPrompt,
    /// A stop string is empty.
    EmptyStop {
        /// Index in [`Generate::stop`](super::Generate::stop).
        index: usize,
    },
    /// A stop token is outside the vocabulary.
    StopToken {
        /// Token id.
        token: u32,
        /// Vocabulary size.
        vocab: u32,
    },
    /// A logit bias is NaN, infinite, or of a token outside the vocabulary.
    LogitBias {
        /// Token id.
        token: u32,
        /// Bias.
        bias: f32,
        /// Vocabulary size.
        vocab: u32,
    },
    /// Logits are needed, but the session computes hidden states only.
    NoLogits,
    /// The text is too short for a perplexity.
    ShortText {
        /// Number of tokens of the text.
        tokens: usize,
        /// Number of tokens needed: two windows.
        needed: usize,
    },
    /// The window of a perplexity is out of range.
    Window {
        /// Requested window, in tokens.
        window: usize,
        /// Positions of the session's cache.
        context: usize,
    },
    /// The snapshot is of another model or of other options, or is not a snapshot.
    Snapshot(&'static str),
    /// The saved states don't fit the session.
    Restore(RestoreError),
}

impl fmt::Display for SessionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SessionError::Budget { needed, budget } => write!(
                f,
                "the session needs {needed} bytes, but only {budget} are allowed; ask for a shorter \
                 context, a smaller batch or a smaller cache format (SessionOptions::context, \
                 SessionOptions::batch, SessionOptions::kv)"
            ),
            SessionError::Backend { name, error } => {
                write!(f, "the environment variable {BACKEND_VARIABLE} is `{name}`: {error}")
            }
            SessionError::Repacked { backend, format } => write!(
                f,
                "the model's matrices in {format} are repacked, which {backend} does not read; open \
                 the model without repacking, or give the session the backend it was repacked for"
            ),
            SessionError::Draft(why) => write!(f, "the model that is to guess: {why}"),
            SessionError::Plan(e @ PlanError::Context { .. }) => {
                write!(f, "{e} (SessionOptions::context, SessionOptions::batch)")
            }
            SessionError::Plan(e @ PlanError::Logits { .. }) => {
                write!(f, "{e} (SessionOptions::logits, SessionOptions::batch)")
            }
            SessionError::Plan(e) => e.fmt(f),
            SessionError::Runner(e) => e.fmt(f),
            SessionError::Pool(e) => e.fmt(f),
            SessionError::Step(e @ StepError::ContextFull { .. }) => {
                write!(f, "{e} (SessionOptions::context)")
            }
            SessionError::Step(e @ StepError::TooManyLogits { .. }) => {
                write!(f, "{e} (SessionOptions::logits)")
            }
            SessionError::Step(e) => e.fmt(f),
            SessionError::Sampling(e) => e.fmt(f),
            SessionError::Sample(e) => e.fmt(f),
            SessionError::Constraint(e) => e.fmt(f),
            SessionError::Tokenizer(e) => e.fmt(f),
            SessionError::NoTokenizer(why) => write!(f, "the model has no tokenizer: {why}"),
            SessionError::EmptyPrompt => f.write_str(
                "there is nothing to continue: give a prompt (this model has no token to begin with)",
            ),
            SessionError::EmptyStop { index } => write!(
                f,
                "stop string {index} is empty, which would end every text at once (Generate::stop)"
            ),
            SessionError::StopToken { token, vocab } => write!(
                f,
                "stop token {token} is not in the vocabulary of {vocab} (Generate::stop_tokens)"
            ),
            SessionError::LogitBias { token, vocab, .. } if token >= vocab => write!(
                f,
                "there is a logit bias for token {token}, which is not in the vocabulary of {vocab} \
                 (Generate::logit_bias)"
            ),
            SessionError::LogitBias { token, bias, .. } => write!(
                f,
                "the logit bias of token {token} is {bias}: it must be finite, or negative infinity \
                 to rule the token out (Generate::logit_bias)"
            ),
            SessionError::NoLogits => f.write_str(
                "the session computes hidden states only, but logits are needed: give it \
                 Outputs::Logits or Outputs::Both (SessionOptions::outputs)",
            ),
            SessionError::ShortText { tokens, needed } => write!(
                f,
                "the text has {tokens} tokens, but a perplexity needs two windows, {needed} tokens: \
                 give a longer text or a smaller window"
            ),
            SessionError::Window { window, context } => write!(
                f,
                "a window of {window} tokens can't be scored: it must have at least 3 and fit into \
                 the session's context of {context} (SessionOptions::context)"
            ),
            SessionError::Restore(e) => e.fmt(f),
            SessionError::Snapshot(what) => write!(f, "the snapshot can't be restored: {what}"),
        }
    }
}

impl core::error::Error for SessionError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            SessionError::Pool(e) => e.source(),
            _ => None,
        }
    }
}

macro_rules! from {
    ($($variant:ident($t:ty)),*) => {
        $(impl From<$t> for SessionError {
            fn from(e: $t) -> Self {
                SessionError::$variant(e)
            }
        })*
    };
}
from!(
    Plan(PlanError),
    Runner(RunnerError),
    Pool(PoolError),
    Step(StepError),
    Sampling(SamplingError),
    Sample(SampleError),
    Constraint(ConstraintError),
    Tokenizer(TokenizerError)
);
