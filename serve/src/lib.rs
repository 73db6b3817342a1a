//! HTTP server of Teff: OpenAI's interface over an [`Engine`](teff_runtime::Engine).
//!
//! - [`ServeOptions`]: names, keys and limits.
//! - `job`: conversations to be answered and the parts of their answers, independent of the interface.
//! - `app`: the state that handlers share; `prompt`: threads that render and tokenise.
//! - `tools` and `reasoning`: parts of an answer that are not text.

mod app;
mod conversation;
mod error;
mod grammar;
mod job;
mod json;
mod metrics;
mod options;
mod prompt;
mod random;
mod reasoning;
mod sampling;
mod tools;

pub use error::{ApiError, ApiResult};
pub use options::{DEFAULT_BODY_LIMIT, DEFAULT_CONNECTIONS, ServeOptions};
