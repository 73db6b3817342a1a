//! `/v1/responses`: texts and functions, without anything that is kept between requests
//! (<https://platform.openai.com/docs/api-reference/responses>).
//!
//! `request` reads, `stream` presents an answer as events; the items of an answer are made here.

mod request;
mod stream;

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::response::Response;
use axum::routing::post;
use serde_json::{Map, Value, json};
use teff_runtime::Model;
use teff_runtime::sample::TokenLogprobs;

use crate::answer::json_response;
use crate::app::{App, Shared, now};
use crate::body::{JsonBody, Permits, memory_of_fields};
use crate::collect::{Whole, WholeCall, collect};
use crate::error::ApiResult;
use crate::job::{FinishReason, Usage};
use crate::logprobs;
use crate::options::ServeOptions;
use crate::random;
use crate::sse;

/// The routes.
pub(crate) fn routes() -> Router<Shared> {
    Router::new().route("/v1/responses", post(responses)).route("/responses", post(responses))
}

async fn responses(State(app): State<Shared>, JsonBody(body): JsonBody) -> ApiResult<Response> {
    let read = request::read(&body, &app.options)?;
    let permits = body.into_permits();
    let mut in_flight = app.begin("responses")?;
    let logprobs = read.job.generate.logprobs.is_some();
    let mut header = Header::new(&app, read.echo);
    let mut answer = app.chat(read.job).await?;
    // The job has copies until here, and the answer those of some fields to its end.
    header.permits = Arc::new(permits.shrunk(memory_of_fields(&header.echo)));
    if read.stream {
        let stream = stream::ResponseStream::new(&app, header, logprobs);
        return Ok(sse::respond(&app, answer, in_flight, stream));
    }
    let all = collect(&app, &mut answer, &mut in_flight).await?;
    let whole = all.into_iter().next().unwrap_or_default();
    let output = items(&app.model, &whole, logprobs);
    let status = Status::of(whole.reason.as_ref());
    Ok(json_response(&header.response(status, output, Some(&answer.usage()))))
}

/// Reads a request, and no more.
pub(crate) fn check(body: &Value, options: &ServeOptions) -> ApiResult<()> {
    request::read(body, options).map(drop)
}

/// State of a response.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Status {
    InProgress,
    Completed,
    /// A limit of tokens was reached.
    Incomplete,
    Failed,
}

impl Status {
    fn of(reason: Option<&FinishReason>) -> Status {
        match reason {
            Some(FinishReason::Length) => Status::Incomplete,
            Some(FinishReason::Cancelled) => Status::Failed,
            _ => Status::Completed,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Status::InProgress => "in_progress",
            Status::Completed => "completed",
            Status::Incomplete => "incomplete",
            Status::Failed => "failed",
        }
    }

    /// Name for an item, which knows no failure.
    fn of_item(self) -> &'static str {
        match self {
            Status::Failed => Status::Incomplete.name(),
            other => other.name(),
        }
    }
}

/// Fields that are the same in all forms of a response.
#[derive(Clone, Debug)]
struct Header {
    id: String,
    created: u64,
    model: String,
    /// Fields of the request.
    echo: Map<String, Value>,
    /// Permits for their memory.
    permits: Arc<Permits>,
}

impl Header {
    fn new(app: &App, echo: Map<String, Value>) -> Header {
        let (id, created) = (random::id("resp_"), now());
        let (model, permits) = (app.options.model_id.clone(), Arc::default());
        Header { id, created, model, echo, permits }
    }

    /// The response with these items.
    fn response(&self, status: Status, output: Vec<Value>, usage: Option<&Usage>) -> Value {
        let mut map = Map::new();
        map.insert("id".into(), json!(self.id));
        map.insert("object".into(), json!("response"));
        map.insert("created_at".into(), json!(self.created));
        map.insert("status".into(), json!(status.name()));
        map.insert("background".into(), json!(false));
        map.insert("error".into(), Value::Null);
        let details = match status {
            Status::Incomplete => json!({ "reason": "max_output_tokens" }),
            _ => Value::Null,
        };
        map.insert("incomplete_details".into(), details);
        map.insert("model".into(), json!(self.model));
        map.insert("output".into(), Value::Array(output));
        map.insert("usage".into(), usage.map_or(Value::Null, usage_json));
        map.extend(self.echo.clone());
        Value::Object(map)
    }
}

/// Numbers of tokens in the form of responses.
fn usage_json(usage: &Usage) -> Value {
    json!({
        "input_tokens": usage.prompt,
        "input_tokens_details": { "cached_tokens": usage.cached, "cache_write_tokens": 0 },
        "output_tokens": usage.completion,
        "output_tokens_details": { "reasoning_tokens": usage.reasoning },
        "total_tokens": usage.prompt + usage.completion,
    })
}

fn logprobs_of(model: &Model, all: &[TokenLogprobs]) -> Value {
    let Ok(tokenizer) = model.tokenizer() else { return json!([]) };
    match logprobs::of_chat(tokenizer, all).get_mut("content") {
        Some(content) => content.take(),
        None => json!([]),
    }
}

/// Item of reasoning.
fn reasoning_item(id: &str, text: Option<&str>, status: &str) -> Value {
    let content = text.map(|text| json!({ "type": "reasoning_text", "text": text }));
    let content: Vec<Value> = content.into_iter().collect();
    json!({ "id": id, "type": "reasoning", "summary": [], "content": content, "status": status })
}

/// Part of a message.
fn text_part(text: &str, logprobs: Value) -> Value {
    json!({ "type": "output_text", "annotations": [], "logprobs": logprobs, "text": text })
}

/// Item of a message of the assistant.
fn message_item(id: &str, parts: Vec<Value>, status: &str) -> Value {
    json!({
        "id": id, "type": "message", "status": status, "role": "assistant", "content": parts,
    })
}

/// Item of a call.
fn call_item(id: &str, call: &WholeCall, status: &str) -> Value {
    json!({
        "id": id,
        "type": "function_call",
        "status": status,
        "call_id": call.id,
        "name": call.name,
        "arguments": call.arguments,
    })
}

/// Items of a whole answer.
fn items(model: &Model, whole: &Whole, logprobs: bool) -> Vec<Value> {
    let cut = Status::of(whole.reason.as_ref()).of_item();
    let done = Status::Completed.of_item();
    let mut items = Vec::new();
    let last_is = |what: &str| {
        let last = match (whole.calls.is_empty(), whole.text.is_empty()) {
            (false, _) => "call",
            (true, false) => "text",
            (true, true) => "reasoning",
        };
        if last == what { cut } else { done }
    };
    if !whole.reasoning.is_empty() {
        let status = last_is("reasoning");
        items.push(reasoning_item(&random::id("rs_"), Some(&whole.reasoning), status));
    }
    // Programs look for a message where nothing else is.
    if !whole.text.is_empty() || whole.calls.is_empty() && whole.reasoning.is_empty() {
        let all = if logprobs { logprobs_of(model, &whole.logprobs) } else { json!([]) };
        let part = text_part(&whole.text, all);
        let status = if whole.text.is_empty() { cut } else { last_is("text") };
        items.push(message_item(&random::id("msg_"), vec![part], status));
    }
    for (i, call) in whole.calls.iter().enumerate() {
        let status = if i + 1 == whole.calls.len() { last_is("call") } else { done };
        items.push(call_item(&random::id("fc_"), call, status));
    }
    items
}
