//! What can go wrong with a session.

use core::fmt;

use teff_graph::{PlanError, RestoreError, RunnerError, StepError};
use teff_kernels::{CpuError, Format};

use super::BACKEND_VARIABLE;
use crate::pool::PoolError;
use crate::sample::{SampleError, SamplingError};
use crate::tokenizer::TokenizerError;

/// Why a session could not be made or could not go on.
#[derive(Debug)]
#[non_exhaustive]
pub enum SessionError {
    /// More memory than the caller allows. Nothing was allocated.
    Budget {
        /// Bytes that the session needs.
        needed: usize,
        /// What the caller allows.
        budget: usize,
    },
    /// The environment names a backend that is not here ([`BACKEND_VARIABLE`]).
    Backend {
        /// The name.
        name: String,
        /// Why it can't be used.
        error: CpuError,
    },
    /// The model's matrices were repacked
    /// ([`LoadOptions::repack`](crate::LoadOptions::repack)), but not for this backend.
    Repacked {
        /// The session's backend.
        backend: &'static str,
        /// A format that was repacked and that it does not repack.
        format: Format,
    },
    /// Options that make no plan.
    Plan(PlanError),
    /// The plan can't run in this memory or with these weights.
    Runner(RunnerError),
    /// The threads.
    Pool(PoolError),
    /// A step. What was asked for is still pending: the session can go on.
    Step(StepError),
    /// Sampling parameters.
    Sampling(SamplingError),
    /// Logits that nothing can be drawn from.
    Sample(SampleError),
    /// The tokenizer.
    Tokenizer(TokenizerError),
    /// The model has no tokenizer, for the reason given.
    NoTokenizer(String),
    /// A text was to be continued, but there is none, and the model has no token to begin with.
    EmptyPrompt,
    /// A snapshot of another model, of other options, or no snapshot.
    Snapshot(&'static str),
    /// States that don't fit the session.
    Restore(RestoreError),
}

impl fmt::Display for SessionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SessionError::Budget { needed, budget } => write!(
                f,
                "the session needs {needed} bytes, but only {budget} are allowed; \
                 ask for a shorter context, a smaller batch or a smaller cache format"
            ),
            SessionError::Backend { name, error } => {
                write!(f, "the environment variable {BACKEND_VARIABLE} is `{name}`: {error}")
            }
            SessionError::Repacked { backend, format } => write!(
                f,
                "the model's matrices in {format} are repacked, which {backend} does not read; open \
                 the model without repacking, or give the session the backend it was repacked for"
            ),
            SessionError::Plan(e) => e.fmt(f),
            SessionError::Runner(e) => e.fmt(f),
            SessionError::Pool(e) => e.fmt(f),
            SessionError::Step(e) => e.fmt(f),
            SessionError::Sampling(e) => e.fmt(f),
            SessionError::Sample(e) => e.fmt(f),
            SessionError::Tokenizer(e) => e.fmt(f),
            SessionError::NoTokenizer(why) => write!(f, "the model has no tokenizer: {why}"),
            SessionError::EmptyPrompt => f.write_str(
                "there is nothing to continue: give a prompt (this model has no token to begin with)",
            ),
            SessionError::Restore(e) => e.fmt(f),
            SessionError::Snapshot(what) => write!(f, "the snapshot can't be restored: {what}"),
        }
    }
}

impl core::error::Error for SessionError {}

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
    Tokenizer(TokenizerError)
);
