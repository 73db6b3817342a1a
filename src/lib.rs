//! Teff: embeddable transformer inference with the same bits on every machine.
//!
//! ```no_run
//! use teff::{Generate, Model, SessionOptions};
//!
//! let model = Model::open("gpt2.gguf")?;
//! let options = SessionOptions::default();
//! println!("a session takes {} bytes", model.memory_requirements(&options)?.total());
//! let mut session = model.session(&options)?;
//! for piece in session.generate("Once upon a time", &Generate::default())? {
//!     print!("{}", piece?);
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The layers are separate crates: [`kernels`] (core only) for arithmetic, [`graph`] (no_std) for
//! planning and running steps, [`runtime::tokenizer`] (no_std, with a heap) for text, [`runtime`] for
//! files, threads and sessions.

#[cfg(doctest)]
#[doc = include_str!("../docs/embedding.md")]
struct Embedding;

pub use teff_graph as graph;
pub use teff_kernels as kernels;
pub use teff_runtime as runtime;

pub use teff_graph::{LogitsFor, Outputs, Spec, StepError};
pub use teff_kernels::{Backend, Cpu, Format, KvFormat};
#[cfg(feature = "chat")]
pub use teff_runtime::chat::{Chat, ChatError, ChatTemplate, Message};
pub use teff_runtime::engine::{self, Engine, EngineError, EngineOptions};
pub use teff_runtime::pool::{Crew, Pool, available_threads};
pub use teff_runtime::sample::{LogSoftmax, Logprob, Sampler, Sampling, TokenLogprobs};
pub use teff_runtime::tokenizer::{Specials, Tokenizer, Utf8Stream};
pub use teff_runtime::{
    Finish, Generate, Generation, LoadError, LoadOptions, Model, Perplexity, Piece, Session,
    SessionBuilder, SessionError, SessionMemoryRequirements, SessionOptions, Speculation,
    SpeculationStats, StopHandle, default_backend,
};
