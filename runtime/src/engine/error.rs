//! Errors of engines.

use core::fmt;

use super::ConstraintError;
use crate::session::SessionError;

/// Error of creating an engine, or of a request.
#[derive(Debug)]
#[non_exhaustive]
pub enum EngineError {
    /// Options, prompt or sampling parameters that a session would refuse as well, or a failed step.
    Session(SessionError),
    /// The cache has no room for one sequence of the context.
    Cache {
        /// Bytes that one sequence needs.
        needed: usize,
        /// Bytes of the cache.
        got: usize,
    },
    /// A number of the options or of the request is out of range.
    Option {
        /// Name of the field.
        name: &'static str,
        /// Description of the allowed values.
        allowed: String,
    },
    /// The prompt doesn't fit into the context.
    PromptTooLong {
        /// Tokens of the prompt.
        tokens: usize,
        /// Positions of a sequence.
        context: usize,
    },
    /// Too many requests wait already.
    Busy {
        /// Maximum number of requests that wait.
        queue: usize,
    },
    /// A step failed: a panic of a backend, or threads that the system refused.
    Step {
        /// Cause.
        cause: String,
    },
    /// A constraint failed.
    Constraint(ConstraintError),
    /// The file of a prefix can't be read or written.
    Io(std::io::Error),
    /// The engine has ended.
    Ended,
}

impl fmt::Display for EngineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EngineError::Session(e) => e.fmt(f),
            EngineError::Cache { needed, got } => write!(
                f,
                "the cache of {got} bytes has no room for one sequence of the context, which needs \
                 {needed}: ask for a shorter context, a smaller cache format or a larger cache \
                 (EngineOptions::context, EngineOptions::kv, EngineOptions::cache)"
            ),
            EngineError::Option { name, allowed } => write!(f, "{name} must be {allowed}"),
            EngineError::PromptTooLong { tokens, context } => write!(
                f,
                "the prompt has {tokens} tokens, which don't fit into the context of {context} \
                 (EngineOptions::context)"
            ),
            EngineError::Busy { queue } => {
                write!(f, "{queue} requests wait already: try again later (EngineOptions::queue)")
            }
            EngineError::Step { cause } => f.write_str(cause),
            EngineError::Constraint(e) => e.fmt(f),
            EngineError::Io(e) => e.fmt(f),
            EngineError::Ended => f.write_str("the engine has ended"),
        }
    }
}

impl core::error::Error for EngineError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            EngineError::Session(e) => e.source(),
            EngineError::Io(e) => e.source(),
            _ => None,
        }
    }
}

impl From<SessionError> for EngineError {
    fn from(e: SessionError) -> Self {
        match e {
            SessionError::Constraint(e) => EngineError::Constraint(e),
            e => EngineError::Session(e),
        }
    }
}

impl From<ConstraintError> for EngineError {
    fn from(e: ConstraintError) -> Self {
        EngineError::Constraint(e)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_constraint_is_named_as_such() {
        let failed = ConstraintError::new("it is over");
        let error = EngineError::from(SessionError::Constraint(failed.clone()));
        assert!(matches!(&error, EngineError::Constraint(e) if *e == failed), "{error:?}");
        assert!(matches!(EngineError::from(SessionError::EmptyPrompt), EngineError::Session(_)));
    }
}
