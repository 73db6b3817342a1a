//! The std layer of Teff: model files, threads, sampling and sessions.
//!
//! - [`Model`]: a GGUF file or a Hugging Face folder, opened once and shared by threads.
//! - [`Session`]: one text in progress, with its memory and threads. [`SessionOptions`] say how large
//!   it may be, [`Session::generate`] continues it, [`StopHandle`] cancels it.
//! - [`pool`] and [`SessionBuilder`]: threads that sessions share or borrow.
//! - [`trace`]: recordings of what the threads of a session compute.
//! - [`tokenizer`], [`sample`] and, for conversations, `chat`: text to tokens, and logits to tokens.
//! - [`quantize`], [`imatrix`], [`gguf_write`] and [`gguf_split`]: files of models.
//!
//! Steps of several sequences at once, and plans without files, are in [`teff_graph`].
#[cfg(feature = "capi")]
pub mod capi;
#[cfg(feature = "chat")]
pub mod chat;
pub mod config;
pub mod engine;
mod free_memory;
pub mod gguf_spec;
pub mod gguf_split;
pub mod gguf_write;
pub mod imatrix;
mod mean;
#[cfg(feature = "mmap")]
mod mmap;
pub mod model;
pub mod pool;
pub mod quantize;
#[cfg(feature = "rayon")]
pub mod rayon_team;
pub mod safetensors;
pub mod sample;
pub mod session;
mod speculation;
mod storage;
#[cfg(feature = "structured")]
pub mod structured;
#[cfg(feature = "chat")]
pub mod template;
pub mod trace;

/// Tokenizers: text to token ids and back; the crate [`teff_tokenizer`].
pub mod tokenizer {
    pub use teff_tokenizer::*;

    pub use crate::model::vocabulary::open;

    /// Error of exporting a tokenizer to the header of a GGUF file.
    pub type ExportError = teff_tokenizer::ExportError<crate::gguf_write::WriteError>;
}

pub use teff_tokenizer::json;

pub use engine::{Engine, EngineBuilder, EngineError, EngineOptions};
pub use free_memory::available_memory;
pub use model::{LoadError, LoadOptions, Model};
pub use session::{
    BACKEND_VARIABLE, Finish, Generate, Generation, Perplexity, Piece, Session, SessionBuilder,
    SessionError, SessionMemoryRequirements, SessionOptions, StopHandle, default_backend,
};

pub use speculation::{Speculation, SpeculationStats};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
