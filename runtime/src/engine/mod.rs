//! Engine: many texts at once over one model, one cache and one set of threads.
//!
//! An [`Engine`] runs requests together: each step computes one token of every running sequence and
//! chunks of new prompts. The text of a request does not depend on the others: it has the bits that it
//! has alone.

use std::path::Path;
use std::sync::Arc;

use crate::model::Model;

mod constraint;
mod error;
mod options;
mod request;
mod stats;
mod stream;

pub use constraint::{Constraint, ConstraintError};
pub use error::EngineError;
pub use options::{DEFAULT_PAUSE, DEFAULT_QUEUE, DEFAULT_SEQUENCES, EngineOptions, PAGE};
pub use request::Request;
pub use stats::EngineStats;
pub use stream::{Event, Stream};

/// Engine that runs many sequences. It can be shared by threads; dropping it ends all requests.
pub struct Engine {}

impl core::fmt::Debug for Engine {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Engine").finish_non_exhaustive()
    }
}

/// Bytes that an engine takes, known before they are allocated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct EngineMemoryRequirements {
    /// Arena, and memory of the threads.
    pub arena: usize,
    /// Memory of the sequences' own: headers, page tables, windows and recurrent states.
    pub sequences: usize,
    /// Number of pages.
    pub pages: usize,
    /// Bytes of all pages.
    pub page_bytes: usize,
    /// Number of checkpoints.
    pub checkpoints: usize,
    /// Bytes of all checkpoints.
    pub checkpoint_bytes: usize,
    /// Plan, table of weights, tokens, and the tables of pages.
    pub tables: usize,
    /// Positions of a sequence.
    pub context: usize,
    /// Number of threads.
    pub threads: usize,
}

impl EngineMemoryRequirements {
    /// Total in bytes; `usize::MAX` on overflow.
    #[must_use]
    pub fn total(&self) -> usize {
        let parts = [self.sequences, self.page_bytes, self.checkpoint_bytes, self.tables];
        parts.into_iter().fold(self.arena, usize::saturating_add)
    }
}

/// Builder of an engine.
#[derive(Debug)]
pub struct EngineBuilder {
    _model: Arc<Model>,
    options: EngineOptions,
}

impl EngineBuilder {
    /// Sets all options.
    #[must_use]
    pub fn options(self, options: EngineOptions) -> Self {
        EngineBuilder { options, ..self }
    }

    /// Computes the bytes that the engine will take, from the model's header alone.
    ///
    /// # Errors
    /// As [`EngineBuilder::build`].
    pub fn memory_requirements(&self) -> Result<EngineMemoryRequirements, EngineError> {
        unimplemented!()
    }

    /// Allocates all memory and starts the engine's threads.
    ///
    /// # Errors
    /// [`EngineError`]; nothing is kept in that case.
    pub fn build(self) -> Result<Engine, EngineError> {
        unimplemented!()
    }
}

impl Engine {
    /// Starts building an engine of a model.
    #[must_use]
    pub fn builder(model: &Arc<Model>) -> EngineBuilder {
        EngineBuilder { _model: Arc::clone(model), options: EngineOptions::default() }
    }

    /// Model of the engine.
    #[must_use]
    pub fn model(&self) -> &Arc<Model> {
        unimplemented!()
    }

    /// Maximum number of positions of a sequence.
    #[must_use]
    pub fn context(&self) -> usize {
        unimplemented!()
    }

    /// Bytes that the engine took.
    #[must_use]
    pub fn memory_requirements(&self) -> &EngineMemoryRequirements {
        unimplemented!()
    }

    /// Submits a request, which waits until there is room for it.
    ///
    /// # Errors
    /// [`EngineError`] if the request can never run, or too many wait already.
    pub fn submit(&self, _request: Request) -> Result<Stream, EngineError> {
        unimplemented!()
    }

    /// State and counters.
    #[must_use]
    pub fn stats(&self) -> EngineStats {
        unimplemented!()
    }

    /// Computes a prefix, unless it is cached, and saves it to a file. Waits until it is done.
    ///
    /// # Errors
    /// [`EngineError`].
    pub fn save_prefix(&self, _tokens: &[u32], _path: &Path) -> Result<(), EngineError> {
        unimplemented!()
    }

    /// Loads a prefix into the cache and returns its tokens. Waits until it is done.
    ///
    /// # Errors
    /// [`EngineError`] for a file that is damaged or of another model, plan or version.
    pub fn load_prefix(&self, _path: &Path) -> Result<Vec<u32>, EngineError> {
        unimplemented!()
    }
}
