//! Errors of requests, as JSON objects.

use std::fmt;

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};
use teff_runtime::chat::ChatError;
use teff_runtime::engine::EngineError;

/// Error of a request: a status, and the fields of the object `error` of the answer.
///
/// Clients repeat requests with a status of 5xx, so that everything that is the request's fault is a
/// 4xx.
#[derive(Clone, PartialEq, Debug)]
pub struct ApiError {
    /// Status of the answer.
    pub status: StatusCode,
    /// Kind, such as `invalid_request_error`.
    pub kind: &'static str,
    /// Cause, as a sentence.
    pub message: String,
    /// Name of the field at fault.
    pub param: Option<String>,
    /// Code for programs, such as `context_length_exceeded`.
    pub code: Option<&'static str>,
    /// Further fields.
    pub extra: Vec<(&'static str, Value)>,
}

/// Result of handling a request.
pub type ApiResult<T> = Result<T, ApiError>;

impl ApiError {
    /// Error of a status, a kind and a cause.
    pub fn new(status: StatusCode, kind: &'static str, message: impl Into<String>) -> Self {
        let message = message.into();
        ApiError { status, kind, message, param: None, code: None, extra: Vec::new() }
    }

    /// Error of the request as a whole: status 400.
    pub fn invalid(message: impl Into<String>) -> Self {
        ApiError::new(StatusCode::BAD_REQUEST, "invalid_request_error", message)
    }

    /// Error of a field of the request: status 400.
    pub fn field(name: impl Into<String>, message: impl fmt::Display) -> Self {
        let name = name.into();
        let message = format!("'{name}': {message}");
        ApiError { param: Some(name), ..ApiError::invalid(message) }
    }

    /// Error of a prompt that the context has no room for.
    pub fn too_long(tokens: usize, context: usize) -> Self {
        let message = format!(
            "the prompt has {tokens} tokens, which don't fit into the context of {context}"
        );
        ApiError { kind: "exceed_context_size_error", ..ApiError::invalid(message) }
            .with_code("context_length_exceeded")
            .with("n_prompt_tokens", tokens)
            .with("n_ctx", context)
    }

    /// Error of the server itself: status 500.
    pub fn internal(message: impl Into<String>) -> Self {
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "server_error", message)
    }

    /// Error of a server that ends: status 503.
    pub fn ending() -> Self {
        let message = "the server is shutting down";
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable_error", message)
    }

    /// Sets the code for programs.
    #[must_use]
    pub fn with_code(self, code: &'static str) -> Self {
        ApiError { code: Some(code), ..self }
    }

    /// Adds a field.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        self.extra.push((name, value.into()));
        self
    }

    /// The answer's JSON object.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut error = Map::new();
        error.insert("message".into(), json!(self.message));
        error.insert("type".into(), json!(self.kind));
        error.insert("param".into(), json!(self.param));
        // OpenAI's errors have a name here, and llama-server's the status.
        let code = self.code.map_or_else(|| json!(self.status.as_u16()), |code| json!(code));
        error.insert("code".into(), code);
        for (name, value) in &self.extra {
            error.insert((*name).into(), value.clone());
        }
        json!({ "error": error })
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for ApiError {}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::from(self.to_json().to_string()));
        *response.status_mut() = self.status;
        let json = HeaderValue::from_static("application/json");
        response.headers_mut().insert(header::CONTENT_TYPE, json);
        response
    }
}

impl From<EngineError> for ApiError {
    fn from(e: EngineError) -> Self {
        match e {
            EngineError::PromptTooLong { tokens, context } => ApiError::too_long(tokens, context),
            EngineError::Busy { queue } => ApiError::new(
                StatusCode::TOO_MANY_REQUESTS,
                "rate_limit_error",
                format!("{queue} requests wait already: try again later"),
            )
            .with_code("queue_full"),
            EngineError::Option { name, allowed } => {
                let name = if name == "the number of choices" { "n" } else { name };
                ApiError::field(name, format_args!("must be {allowed}"))
            }
            EngineError::Session(e) => session_error(e),
            EngineError::Ended => {
                ApiError { message: "the engine has ended".into(), ..ApiError::ending() }
            }
            e => ApiError::internal(e.to_string()),
        }
    }
}

/// The error for what a session would refuse, or for a failed step.
fn session_error(e: teff_runtime::SessionError) -> ApiError {
    use teff_runtime::SessionError as E;
    match e {
        E::Sampling(teff_runtime::sample::SamplingError::Parameter { name, got, allowed }) => {
            ApiError::field(name, format_args!("is {got}: it must be {allowed}"))
        }
        E::EmptyPrompt => {
            ApiError::field("prompt", "has no tokens, and the model none to begin with")
        }
        E::LogitBias { token, bias, vocab } => ApiError::field(
            "logit_bias",
            format_args!("of token {token} is {bias}: the vocabulary has {vocab} tokens"),
        ),
        e @ (E::EmptyStop { .. } | E::StopToken { .. } | E::Tokenizer(_) | E::NoTokenizer(_)) => {
            ApiError::invalid(e.to_string())
        }
        e => ApiError::internal(e.to_string()),
    }
}

impl From<ChatError> for ApiError {
    fn from(e: ChatError) -> Self {
        match e {
            ChatError::Template(e) => {
                ApiError::invalid(format!("the chat template refuses the conversation: {e}"))
                    .with_code("template_error")
            }
            e => ApiError::invalid(e.to_string()),
        }
    }
}
