//! The std layer of Teff: model files, tokenizers, threads, sampling and sessions.
#[cfg(feature = "capi")]
pub mod capi;
#[cfg(feature = "chat")]
pub mod chat;
pub mod config;
pub mod gguf_spec;
pub mod gguf_split;
pub mod gguf_write;
pub mod json;
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
mod storage;
#[cfg(feature = "chat")]
pub mod template;
pub mod tokenizer;

pub use model::{LoadError, LoadOptions, Model};
pub use session::{
    BACKEND_VARIABLE, Finish, Generate, Generation, Perplexity, Piece, Session, SessionBuilder,
    SessionError, SessionMemoryRequirements, SessionOptions, StopHandle, default_backend,
};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
