//! Execution of a plan in memory provided by the caller.

mod arena;
mod memory;
mod pages;
mod runner;
mod running;
mod sequence;
mod worker;

pub use memory::{ArenaError, Memory};
pub use pages::PageError;
pub use runner::{MAX_TEAM, Runner, RunnerError};
pub use running::Running;
pub use sequence::{RestoreError, TruncateError};

pub(crate) use arena::Cache;
pub(crate) use worker::{SegmentRows, Stopped, Worker};
