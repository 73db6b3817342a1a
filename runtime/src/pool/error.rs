//! What can go wrong with the threads of a step.

use core::fmt;
use std::io;

/// Why a crew of threads could not be made, or did not finish a run.
#[derive(Debug)]
#[non_exhaustive]
pub enum PoolError {
    /// A pool of no threads was asked for.
    NoThreads,
    /// More threads than a pool may have.
    TooManyThreads {
        /// Threads asked for.
        got: usize,
        /// Threads allowed: [`MAX_THREADS`](super::MAX_THREADS).
        max: usize,
    },
    /// The system refused a thread. Those already started have been joined.
    Spawn {
        /// Threads that there were before it, the caller's own among them.
        started: usize,
        /// Threads asked for.
        wanted: usize,
        /// The system's reason.
        cause: io::Error,
    },
    /// The task panicked. All members have left it; the crew can be used again.
    Panicked {
        /// The member whose panic was recorded first.
        rank: usize,
        /// What it said; empty where the panic's payload was no text.
        message: String,
    },
    /// A member returned from the task while others waited for it at a barrier; they were told
    /// [`Broken`](teff_graph::Broken). All members have left the task.
    Deserted,
    /// Another run on the same threads is under way.
    Busy,
    /// The current rayon pool isn't the one that the crew was made for.
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
            PoolError::Deserted => f.write_str(
                "a thread of the pool left the task while others waited for it at a barrier: all \
                 members must reach the same barriers",
            ),
            PoolError::Busy => f.write_str(
                "another run is under way on these threads: wait for it, or use another pool",
            ),
            PoolError::WrongPool => f.write_str(
                "this thread doesn't belong to the rayon pool that the crew was made for: run it \
                 from there (ThreadPool::install), or make the crew for a given pool",
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
