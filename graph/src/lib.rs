#![no_std]
//! Static plans of decoder transformers: no files, no threads, and a heap only with the feature
//! `alloc`.
//!
//! - [`gguf`]: the reader of GGUF files, over bytes.
//! - [`Spec`], [`layers`] and [`family`]: models as plain data, read from their metadata.
//! - [`plan`] and [`ops`]: the operations of a step, their buffers, states and memory.
//! - [`Runner`]: runs a plan, on one thread or on the workers of a [`Team`].

#[cfg(feature = "alloc")]
extern crate alloc;

mod exec;
pub mod family;
pub mod gguf;
mod ids;
pub mod layers;
mod list;
pub mod meta;
pub mod ops;
pub mod plan;
mod spec;
mod step;
mod team;
pub mod weights;

pub use exec::{
    ArenaError, MAX_TEAM, Memory, PageError, RestoreError, Runner, RunnerError, Running,
    TruncateError,
};
pub use ids::TensorId;
pub use layers::{Activation, Layer};
pub use list::List;
pub use plan::{MemoryRequirements, Options, Outputs, Plan, PlanError};
pub use spec::{
    Embed, Head, HfForm, HfName, LayerRole, Layers, MAX_KINDS, MAX_LAYERS, MAX_ROPES, PerLayer,
    Role, Rope, RopeScaling, Slot, Spec, SpecError, SpecRoom, TensorKind,
};
pub use step::{
    Cancel, Executor, LogitsFor, NeverCancel, Segment, SequenceId, Step, StepError, check_tokens,
};
pub use team::{Broken, Solo, Team, Work};
pub use weights::{Tensor, TensorLocation, WeightsError};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
