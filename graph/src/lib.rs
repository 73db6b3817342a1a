#![no_std]
//! Static plans of decoder transformers: no files, no threads, no heap of its own.
//!
//! - [`gguf`]: the reader of GGUF files, over bytes.
//! - [`Spec`] and [`family`]: what a model is, read from its metadata.
//! - [`plan`]: the operations of a step, their buffers and the memory they need.
//! - [`Runner`]: runs a plan, on one thread or on the members of a [`Team`].

#[cfg(feature = "alloc")]
extern crate alloc;

mod exec;
pub mod family;
pub mod gguf;
mod list;
pub mod meta;
pub mod plan;
mod spec;
mod step;
mod team;
pub mod weights;

pub use exec::{ArenaError, MAX_TEAM, Memory, Runner, RunnerError, Running};
pub use list::List;
pub use plan::{MemoryRequirements, Options, Plan, PlanError};
pub use spec::{
    Activation, Biases, Head, LayerRole, Norm, Positions, Role, RopeScaling, Rotary, Slot, Spec,
    SpecError, TensorId, Window,
};
pub use step::{Cancel, Executor, LogitsFor, NeverCancel, Step, StepError};
pub use team::{Broken, Solo, Team};
pub use weights::{Tensor, TensorLocation, WeightsError};
