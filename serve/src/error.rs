//! Errors of requests, as JSON objects.

use std::borrow::Cow;
use std::fmt;

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};
use teff_runtime::chat::ChatError;
use teff_runtime::engine::{ConstraintError, EngineError};

/// Maximum number of bytes of a part of a request that a message repeats.
const MAX_REPEATED: usize = 100;

/// Maximum number of bytes of a word of a message: such a part, and marks around it.
const MAX_WORD: usize = MAX_REPEATED + 20;

/// Maximum number of bytes of a message.
const MAX_MESSAGE: usize = 600;

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

/// The text up to so many bytes, with an ellipsis where it was longer.
fn cut(text: &str, most: usize) -> Cow<'_, str> {
    if text.len() <= most {
        return Cow::Borrowed(text);
    }
    let end = (0..=most).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    Cow::Owned(format!("{}…", &text[..end]))
}

/// The message without long parts of the request, which stand between backticks or are long words, and
/// of a bounded length whatever else it repeats.
fn shorten(message: String) -> String {
    if message.len() <= MAX_REPEATED {
        return message;
    }
    let mut quoted = String::new();
    for (i, part) in message.split('`').enumerate() {
        if i > 0 {
            quoted.push('`');
        }
        // Every other part is a quotation.
        quoted.push_str(&if i % 2 == 1 { cut(part, MAX_REPEATED) } else { part.into() });
    }
    let words = quoted.split_inclusive(char::is_whitespace);
    let short: String = words.map(|word| cut(word, MAX_WORD)).collect();
    cut(&short, MAX_MESSAGE).into_owned()
}

const TEXTS: &str = "POST /v1/completions continues texts";
const CHATS: &str = "POST /v1/chat/completions answers conversations";
const MODELS: &str = "GET /v1/models names the model, and GET /props describes it";
const STATE: &str = "GET /props and GET /metrics say what runs";
const NO_EMBEDDINGS: &str = "embeddings and ranks are not supported yet";
const NO_ADAPTERS: &str = "adapters aren't applied, they have to be merged into the model";
const ONE_MODEL: &str = "a server has one model, which `teff serve MODEL` loads";
const TEXT_ONLY: &str = "the server reads and writes texts only";
const NO_FILES: &str = "no files are kept; `teff run -f PROMPTS.jsonl --out FILE` computes batches";

/// Paths of other servers, and what there is here in their place.
const ELSEWHERE: [(&str, &str); 42] = [
    // llama-server's.
    ("/completion", TEXTS),
    ("/infill", "texts aren't filled in, but POST /v1/completions continues them"),
    ("/slots", STATE),
    ("/embedding", NO_EMBEDDINGS),
    ("/rerank", NO_EMBEDDINGS),
    ("/reranking", NO_EMBEDDINGS),
    ("/v1/rerank", NO_EMBEDDINGS),
    ("/v1/reranking", NO_EMBEDDINGS),
    ("/lora-adapters", NO_ADAPTERS),
    ("/models/load", ONE_MODEL),
    ("/models/unload", ONE_MODEL),
    ("/v1/tokenize", "POST /tokenize does it"),
    ("/v1/detokenize", "POST /detokenize does it"),
    ("/v1/apply-template", "POST /apply-template does it"),
    // vLLM's.
    ("/v2/rerank", NO_EMBEDDINGS),
    ("/score", NO_EMBEDDINGS),
    ("/v1/score", NO_EMBEDDINGS),
    ("/pooling", NO_EMBEDDINGS),
    ("/classify", NO_EMBEDDINGS),
    ("/v1/load_lora_adapter", NO_ADAPTERS),
    ("/v1/unload_lora_adapter", NO_ADAPTERS),
    ("/generate", TEXTS),
    ("/version", "GET /props has it as `build_info`"),
    ("/ping", "GET /health does it"),
    ("/load", STATE),
    // Ollama's.
    ("/api/generate", TEXTS),
    ("/api/chat", CHATS),
    ("/api/tags", MODELS),
    ("/api/show", MODELS),
    ("/api/ps", STATE),
    ("/api/version", "GET /props has it as `build_info`"),
    ("/api/embed", NO_EMBEDDINGS),
    ("/api/embeddings", NO_EMBEDDINGS),
    ("/api/pull", ONE_MODEL),
    ("/api", "the paths are OpenAI's and Anthropic's, below /v1"),
    // OpenAI's and Anthropic's.
    ("/v1/complete", "POST /v1/messages answers conversations"),
    ("/v1/engines", MODELS),
    ("/v1/audio", TEXT_ONLY),
    ("/v1/images", TEXT_ONLY),
    ("/v1/files", NO_FILES),
    ("/v1/batches", NO_FILES),
    ("/v1/messages/batches", NO_FILES),
];

/// Advice about a path of another server, or one below it.
fn elsewhere(path: &str) -> Option<&'static str> {
    let is_below = |other: &str| {
        path.strip_prefix(other).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    ELSEWHERE.iter().find(|(other, _)| is_below(other)).map(|(_, advice)| *advice)
}

/// Result of handling a request.
pub type ApiResult<T> = Result<T, ApiError>;

impl ApiError {
    /// Error of a status, a kind and a cause. Long quotations in the message (between backticks) are
    /// cut, and so is a long message.
    pub fn new(status: StatusCode, kind: &'static str, message: impl Into<String>) -> Self {
        let message = shorten(message.into());
        ApiError { status, kind, message, param: None, code: None, extra: Vec::new() }
    }

    /// Error of the request as a whole: status 400.
    pub fn invalid(message: impl Into<String>) -> Self {
        ApiError::new(StatusCode::BAD_REQUEST, "invalid_request_error", message)
    }

    /// Error of a field of the request: status 400.
    pub fn field(name: impl Into<String>, message: impl fmt::Display) -> Self {
        // Parts of it may be keys of the request.
        let name = cut(&name.into(), MAX_REPEATED).into_owned();
        let message = format!("'{name}': {message}");
        ApiError { param: Some(name), ..ApiError::invalid(message) }
    }

    /// Error of a body that is too large: status 413.
    pub(crate) fn too_large(message: String) -> Self {
        ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "invalid_request_error", message)
            .with_code("body_too_large")
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

    /// Error of a path that isn't there: status 404. `request` is the path, or a method and the path.
    pub(crate) fn no_path(request: &str) -> Self {
        let path = request.rsplit(' ').next().unwrap_or_default();
        let message = match elsewhere(path) {
            Some(advice) => format!("there is no `{request}`: {advice}"),
            // Its base is right.
            None if path.starts_with("/v1/") && !path.starts_with("/v1/v1") => format!(
                "there is no `{request}`: this server has /v1/chat/completions, /v1/completions, \
                 /v1/responses, /v1/messages, /v1/models and /v1/models/NAME"
            ),
            None => format!(
                "there is no `{request}`: clients of OpenAI's make want the server's address with \
                 /v1 as their base URL, and those of Anthropic's make without it"
            ),
        };
        ApiError::new(StatusCode::NOT_FOUND, "not_found_error", message)
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

    /// The error with a field's other name, if it is of this field.
    pub(crate) fn renamed(self, field: &str, name: &str) -> Self {
        let message = self.message.strip_prefix(&format!("'{field}': "));
        match (self.param.as_deref() == Some(field), message) {
            (true, Some(message)) => ApiError {
                message: format!("'{name}': {message}"),
                param: Some(name.to_owned()),
                ..self
            },
            _ => self,
        }
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
            EngineError::Constraint(e) => constraint_error(&e),
            EngineError::Ended => {
                ApiError { message: "the engine has ended".into(), ..ApiError::ending() }
            }
            e => ApiError::internal(e.to_string()),
        }
    }
}

/// The error for biases that leave nothing to go on with.
pub(crate) fn nothing_left() -> ApiError {
    let message = "rules out every token that may come next (a grammar may rule out the others)";
    ApiError::field("logit_bias", message)
}

/// The error for a grammar that an answer could not follow to its end.
fn constraint_error(e: &ConstraintError) -> ApiError {
    match e.message.contains("panic") {
        true => ApiError::internal(e.to_string()),
        false => {
            let message = format!("the answer can't go on within its grammar: {}", e.message);
            ApiError::invalid(message).with_code("grammar_failed")
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
        // Weights alone rule nothing out: they are damaged if they say nothing about some token.
        E::Sample(teff_runtime::sample::SampleError::Nothing) => nothing_left(),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_values_are_not_repeated() {
        let long = "é".repeat(1000);
        let e = ApiError::field("type", format_args!("must be `a`, but is `{long}`: `b`"));
        let fifty = "é".repeat(50);
        assert_eq!(e.message, format!("'type': must be `a`, but is `{fifty}…`: `b`"));
        // Quotations that aren't marked, and such with marks of their own.
        for other in [long.clone(), "`".repeat(5000), "x`".repeat(5000), format!("`{long}")] {
            let e = ApiError::invalid(format!("it is {other}"));
            assert!(e.message.len() <= MAX_WORD + 20, "{}", e.message);
            assert!(e.message.starts_with("it is ") && e.message.contains('…'));
        }
        let e = ApiError::invalid("many words ".repeat(1000));
        assert_eq!(e.message.len(), MAX_MESSAGE + "…".len());
        let e = ApiError::field(long, "is wrong");
        assert_eq!(e.param, Some(format!("{fifty}…")));
        assert_eq!(e.message, format!("'{fifty}…': is wrong"));
        let short = "`a` ".repeat(100);
        assert_eq!(ApiError::invalid(short.clone()).message, short);
    }

    #[test]
    fn grammars_that_fail_are_the_request_s_fault() {
        let of = |message: &str| ApiError::from(EngineError::from(ConstraintError::new(message)));
        let e = of("no token of the vocabulary continues the text");
        assert_eq!((e.status.as_u16(), e.code), (400, Some("grammar_failed")));
        assert_eq!(of("it panicked").status.as_u16(), 500);
    }
}
