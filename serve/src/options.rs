//! Options of a server.

use std::path::PathBuf;
use std::time::Duration;

use axum::http::StatusCode;
use teff_runtime::sample::Sampling;

use crate::error::{ApiError, ApiResult};
use crate::gate::MAX_KEY;
use crate::json::Fields;
use crate::server::ServeError;

/// Default of [`ServeOptions::body_limit`], in bytes.
pub const DEFAULT_BODY_LIMIT: usize = 16 << 20;

/// Default of [`ServeOptions::connections`].
pub const DEFAULT_CONNECTIONS: usize = 1024;

/// Options of a server.
///
/// ```
/// use teff_serve::ServeOptions;
///
/// let options = ServeOptions::default().with_model_id("tiny").with_api_key("secret");
/// assert_eq!((options.model_id.as_str(), options.api_keys.len()), ("tiny", 1));
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ServeOptions {
    /// Name of the model in answers, and its id in `/v1/models`.
    pub model_id: String,
    /// Other names under which requests may ask for the model, where names are looked at
    /// (`check_model`).
    pub model_names: Vec<String>,
    /// True if requests for another model are refused with status 404. By default the name is not
    /// looked at: programs often have one of their own, and the answer says which model it is of.
    pub check_model: bool,
    /// Keys of which each request must bring one; with none, requests need no key.
    pub api_keys: Vec<String>,
    /// Source of the chat template, in place of the model's own; without either, it is that of ChatML.
    pub chat_template: Option<String>,
    /// Origins of pages in browsers that may read answers, such as `https://example.com`; `*` allows
    /// all. By default there is none: a page of the server itself needs no permission.
    pub cors_origins: Vec<String>,
    /// Folder of saved prefixes; `None` for no `/prefix/save` and `/prefix/load`.
    pub prefix_dir: Option<PathBuf>,
    /// Maximum number of saved prefixes in the folder.
    pub max_prefixes: usize,
    /// Sampling for requests that don't say otherwise.
    pub sampling: Sampling,
    /// Seed for requests that don't say one; `None` for a random one each.
    pub seed: Option<u64>,
    /// Maximum number of tokens of an answer for requests that don't say otherwise; `None` for what
    /// the context has room for.
    pub max_tokens: Option<usize>,
    /// Maximum number of choices (`n`) of a request, and of prompts of one.
    pub max_choices: usize,
    /// Maximum number of bytes of a request's body.
    pub body_limit: usize,
    /// Memory of all bodies together, from their arrival until their texts are tokens, in bytes
    /// ([`body_memory`](crate::body_memory) of each: three times its length, and more for each
    /// value). Beyond it, requests are refused with status 429.
    pub body_memory: usize,
    /// Maximum number of bytes of a request's line and headers together.
    pub header_limit: usize,
    /// Maximum number of connections at the same time; more wait to be accepted.
    pub connections: usize,
    /// Maximum number of requests for answers at the same time; more are refused with status 429.
    pub requests: usize,
    /// Time in which the headers of a request must arrive, also the first of a connection's next one;
    /// idle connections are closed after it.
    pub header_timeout: Duration,
    /// Time in which the body of a request must arrive.
    pub body_timeout: Duration,
    /// Time that a reader of an answer may take nothing of it before its connection is closed.
    pub write_timeout: Duration,
    /// Time after which a request for an answer ends, whatever has been computed; `None` for no limit.
    pub deadline: Option<Duration>,
    /// Time between two comments in a stream that has nothing to say.
    pub keep_alive: Duration,
    /// Time in which running answers may end when the server shuts down.
    pub grace: Duration,
    /// True if prompts and answers may be written to the log.
    pub log_prompts: bool,
}

impl Default for ServeOptions {
    fn default() -> Self {
        ServeOptions {
            model_id: "model".into(),
            model_names: Vec::new(),
            check_model: false,
            api_keys: Vec::new(),
            chat_template: None,
            cors_origins: Vec::new(),
            prefix_dir: None,
            max_prefixes: 256,
            sampling: Sampling::default(),
            seed: None,
            max_tokens: None,
            max_choices: 128,
            body_limit: DEFAULT_BODY_LIMIT,
            body_memory: 256 << 20,
            header_limit: 64 << 10,
            connections: DEFAULT_CONNECTIONS,
            requests: DEFAULT_CONNECTIONS,
            header_timeout: Duration::from_secs(30),
            body_timeout: Duration::from_secs(60),
            write_timeout: Duration::from_secs(60),
            deadline: None,
            keep_alive: Duration::from_secs(15),
            grace: Duration::from_secs(30),
            log_prompts: false,
        }
    }
}

impl ServeOptions {
    /// Validates all options.
    ///
    /// # Errors
    /// [`ServeError::Option`] for the first one that is out of range.
    pub fn validate(&self) -> Result<(), ServeError> {
        let check = |name, ok: bool, allowed: &str| match ok {
            true => Ok(()),
            false => Err(ServeError::Option { name, allowed: allowed.to_owned() }),
        };
        let key = |key: &String| {
            (1..=MAX_KEY).contains(&key.len()) && key.bytes().all(|b| b.is_ascii_graphic())
        };
        let allowed = format!("1 to {MAX_KEY} visible ASCII characters each");
        check("api_keys", self.api_keys.iter().all(key), &allowed)?;
        check("model_id", !self.model_id.is_empty(), "a name")?;
        let allowed = "from 1 KiB to 1 GiB";
        check("body_limit", (1 << 10..=1 << 30).contains(&self.body_limit), allowed)?;
        check("body_memory", self.body_memory >= self.body_limit, "at least body_limit")?;
        let allowed = "from 8 KiB to 16 MiB";
        check("header_limit", (8 << 10..=16 << 20).contains(&self.header_limit), allowed)?;
        let some = 1..=1 << 20;
        check("connections", some.contains(&self.connections), "from 1 to 2^20")?;
        check("requests", some.contains(&self.requests), "from 1 to 2^20")?;
        check("max_choices", (1..=4096).contains(&self.max_choices), "from 1 to 4096")?;
        check("keep_alive", !self.keep_alive.is_zero(), "above 0")?;
        check("header_timeout", !self.header_timeout.is_zero(), "above 0")?;
        check("body_timeout", !self.body_timeout.is_zero(), "above 0")?;
        check("write_timeout", !self.write_timeout.is_zero(), "above 0")?;
        check("sampling", self.sampling.validate().is_ok(), "parameters within their ranges")
    }

    /// Checks the name of the model in a request.
    ///
    /// # Errors
    /// [`ApiError`] with status 404 for another model, if names are checked.
    pub(crate) fn check_model(&self, fields: &Fields<'_>) -> ApiResult<()> {
        let Some(name) = fields.str("model")? else { return Ok(()) };
        let is_ours = name.is_empty()
            || name == "default"
            || name == self.model_id
            || self.model_names.iter().any(|other| other == name);
        match is_ours || !self.check_model {
            true => Ok(()),
            false => Err(self.no_model(name)),
        }
    }

    /// Error of a name that no model has.
    pub(crate) fn no_model(&self, name: &str) -> ApiError {
        let message = format!("there is no model `{name}`: this server has `{}`", self.model_id);
        let e = ApiError::new(StatusCode::NOT_FOUND, "not_found_error", message);
        ApiError { param: Some("model".to_owned()), ..e.with_code("model_not_found") }
    }

    /// Sets [`model_id`](Self::model_id).
    #[must_use]
    pub fn with_model_id(self, id: impl Into<String>) -> Self {
        ServeOptions { model_id: id.into(), ..self }
    }

    /// Adds a [key](Self::api_keys).
    #[must_use]
    pub fn with_api_key(mut self, key: impl Into<String>) -> Self {
        self.api_keys.push(key.into());
        self
    }

    /// Sets [`chat_template`](Self::chat_template).
    #[must_use]
    pub fn with_chat_template(self, source: impl Into<String>) -> Self {
        ServeOptions { chat_template: Some(source.into()), ..self }
    }
}
