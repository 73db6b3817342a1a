//! Parts that all answers in OpenAI's form have.

use axum::body::Body;
use axum::http::{HeaderValue, header};
use axum::response::Response;
use serde_json::{Map, Value, json};

use crate::app::{App, now};
use crate::job::{Answer, Usage};
use crate::random;

/// Version of what computes the answers, as clients are told it.
pub(crate) const FINGERPRINT: &str = concat!("teff-", env!("CARGO_PKG_VERSION"));

/// A response of a JSON value.
pub(crate) fn json_response(value: &Value) -> Response {
    text_response(value.to_string())
}

/// Response with a text that is JSON.
pub(crate) fn text_response(json: String) -> Response {
    let mut response = Response::new(Body::from(json));
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

/// Fields that are the same in all chunks of an answer.
#[derive(Clone, Debug)]
pub(crate) struct Header {
    pub(crate) id: String,
    pub(crate) created: u64,
    pub(crate) model: String,
    seed: u64,
}

impl Header {
    /// Fields of a new answer, whose id has this prefix.
    pub(crate) fn new(app: &App, prefix: &str, seed: u64) -> Header {
        let (id, created) = (random::id(prefix), now());
        Header { id, created, model: app.options.model_id.clone(), seed }
    }

    fn map(&self, object: &str, choices: Vec<Value>) -> Map<String, Value> {
        let mut map = Map::new();
        map.insert("id".into(), json!(self.id));
        map.insert("object".into(), json!(object));
        map.insert("created".into(), json!(self.created));
        map.insert("model".into(), json!(self.model));
        map.insert("system_fingerprint".into(), json!(FINGERPRINT));
        map.insert("choices".into(), Value::Array(choices));
        map
    }

    /// A chunk of a stream.
    pub(crate) fn chunk(&self, object: &str, choices: Vec<Value>) -> Value {
        let mut map = self.map(object, choices);
        map.insert("seed".into(), json!(self.seed));
        Value::Object(map)
    }

    /// A whole answer.
    pub(crate) fn whole(&self, object: &str, choices: Vec<Value>, answer: &Answer) -> Value {
        let mut value = Value::Object(self.map(object, choices));
        add_usage(&mut value, answer);
        if let Value::Object(map) = &mut value {
            map.insert("seed".into(), json!(self.seed));
        }
        value
    }
}

/// Adds the numbers of tokens, and times.
pub(crate) fn add_usage(value: &mut Value, answer: &Answer) {
    let Value::Object(map) = value else { return };
    let usage = answer.usage();
    map.insert("usage".into(), usage_json(&usage));
    let (prompt, rest) = answer.timer().times();
    let per_second = |n: usize, seconds: f64| if seconds > 0.0 { n as f64 / seconds } else { 0.0 };
    let computed = usage.prompt.saturating_sub(usage.cached);
    let (first, rest) = (prompt.as_secs_f64(), rest.as_secs_f64());
    map.insert(
        "timings".into(),
        json!({
            "cache_n": usage.cached,
            "prompt_n": computed,
            "prompt_ms": 1000.0 * first,
            "prompt_per_second": per_second(computed, first),
            "predicted_n": usage.completion,
            "predicted_ms": 1000.0 * rest,
            "predicted_per_second": per_second(usage.completion, rest),
        }),
    );
}

/// Numbers of tokens in the form of chats and texts.
pub(crate) fn usage_json(usage: &Usage) -> Value {
    json!({
        "prompt_tokens": usage.prompt,
        "completion_tokens": usage.completion,
        "total_tokens": usage.prompt + usage.completion,
        "prompt_tokens_details": { "cached_tokens": usage.cached },
        "completion_tokens_details": { "reasoning_tokens": usage.reasoning },
    })
}
