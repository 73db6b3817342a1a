//! Errors of thread pools and of runs on them.

use core::fmt;
use std::io;

/// Error of creating a crew of threads, or of a run on one.
#[derive(Debug)]
#[non_exhaustive]
pub enum PoolError {
    /// A pool of zero threads was requested.
    NoThreads,
    /// More threads than a pool may have.
    TooManyThreads {
        /// Number of threads requested.
        got: usize,
        /// Number of threads allowed: [`MAX_THREADS`](super::MAX_THREADS).
        max: usize,
    },
    /// The system refused to create a thread. Threads already started have been joined.
    Spawn {
        /// Number of threads before the refused one, including the caller's own.
        started: usize,
        /// Number of threads requested.
        wanted: usize,
        /// The system's error.
        cause: io::Error,
    },
    /// The task panicked. All threads have left it; the crew can be used again.
    Panicked {
        /// Rank of the thread whose panic was recorded first.
        rank: usize,
        /// The panic message; empty if the payload was not a string.
        message: String,
    },
    /// The current rayon pool is not the one that the crew was created for.
    WrongPool,
}

impl fmt::Display for PoolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PoolError::NoThreads => {
                f.write_str("a pool of 0 threads was asked for: use 1 or more (the caller counts)")
            }
            PoolError::TooManyThreads { got, max } => {
                write!(f, "a pool of {got} threads was asked for: use at most {max}")
            }
            PoolError::Spawn { started, wanted, cause } => write!(
                f,
                "the system refused a thread after {started} of {wanted} ({cause}): use fewer \
                 threads or raise the process's limit"
            ),
            PoolError::Panicked { rank, message } if message.is_empty() => {
                write!(f, "thread {rank} of the pool panicked")
            }
            PoolError::Panicked { rank, message } => {
                write!(f, "thread {rank} of the pool panicked: {message}")
            }
            PoolError::WrongPool => f.write_str(
                "this thread doesn't belong to the rayon pool that the crew was created for: run it \
                 from there (ThreadPool::install), or create the crew for a given pool",
            ),
        }
    }
}

impl core::error::Error for PoolError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            PoolError::Spawn { cause, .. } => Some(cause),
            _ => None,
        }
    }
}
