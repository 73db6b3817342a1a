//! HTTP server of Teff: OpenAI's interface over an [`Engine`](teff_runtime::Engine).
//!
//! A request takes this way: `server` accepts its connection within limits of number and time, `gate`
//! asks for its key and its origin, `body` and `json` read it, and a file for each interface (`chat`,
//! `completions`, ...) turns it into a job (`job`). `app` has the job rendered and tokenised on the
//! threads of `prompt` and submits it to the engine. The parts of the answer go through the parsers of
//! `reasoning` and `tools` and are presented as events (`sse`) or as a whole (`collect`). A client that
//! is gone drops the future or the body that it waited for, and with it the engine's stream, which
//! cancels the request.

mod answer;
mod app;
mod body;
mod chat;
mod check;
mod collect;
mod completions;
mod conversation;
mod error;
mod gate;
mod grammar;
mod io;
mod job;
mod json;
mod logprobs;
mod messages;
mod metrics;
mod options;
mod page;
mod prefix;
mod prompt;
mod random;
mod reasoning;
mod responses;
mod sampling;
mod server;
mod sse;
mod status;
mod tokens;
mod tools;
mod unsupported;

pub use body::body_memory;
pub use check::check_request;
pub use error::{ApiError, ApiResult};
pub use options::{DEFAULT_BODY_LIMIT, DEFAULT_CONNECTIONS, ServeOptions};
pub use server::{ServeError, Server};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

#[cfg(doctest)]
#[doc = include_str!("../../docs/serving.md")]
struct Serving;
