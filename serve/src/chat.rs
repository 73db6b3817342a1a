//! `/v1/chat/completions`.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use serde_json::{Map, Value, json};
use teff_runtime::Model;
use teff_runtime::sample::TokenLogprobs;

use crate::answer::{self, Header, json_response};
use crate::app::Shared;
use crate::body::{JsonBody, Permits};
use crate::collect::{Whole, collect};
use crate::conversation;
use crate::error::ApiResult;
use crate::job::{Answer, ChatJob, Delta, FinishReason};
use crate::json::Fields;
use crate::logprobs;
use crate::options::ServeOptions;
use crate::sampling::{Common, MAX_LOGPROBS};
use crate::sse::{self, Present, event};

/// The routes.
pub(crate) fn routes() -> Router<Shared> {
    Router::new()
        .route("/v1/chat/completions", post(chat))
        .route("/chat/completions", post(chat))
        .route("/v1/chat/completions/input_tokens", post(count))
        .route("/apply-template", post(apply_template))
}

/// Reads a request in OpenAI's form, all but how the answer is to be presented.
pub(crate) fn read_job(fields: &Fields<'_>, common: &Common) -> ApiResult<ChatJob> {
    let (messages, prefill) = conversation::messages(fields)?;
    let mut generate = common.generate.clone();
    generate.logprobs = logprob_count(fields)?;
    if fields.bool("add_special_tokens")?.unwrap_or(false) {
        let message = "is not supported: the chat template writes them";
        return Err(fields.error("add_special_tokens", message));
    }
    let tools = conversation::tools(fields)?;
    Ok(ChatJob {
        tool_choice: conversation::tool_choice(fields, &tools)?,
        parallel_tool_calls: fields.bool("parallel_tool_calls")?.unwrap_or(true),
        tools,
        grammar: conversation::grammar(fields)?,
        choices: common.choices,
        biases: common.biases.clone(),
        variables: conversation::variables(fields)?,
        add_generation_prompt: fields.bool("add_generation_prompt")?.unwrap_or(true),
        prefill,
        ..ChatJob::new(messages, generate)
    })
}

/// Number of alternatives beside each token's log probability: `logprobs` is a switch, or a number as
/// for texts.
fn logprob_count(fields: &Fields<'_>) -> ApiResult<Option<usize>> {
    let top = fields.count("top_logprobs", 0..=MAX_LOGPROBS)?;
    let switch = match fields.get("logprobs") {
        Some(Value::Number(_)) => fields.count("logprobs", 0..=MAX_LOGPROBS)?,
        _ => fields.bool("logprobs")?.filter(|on| *on).map(|_| 0),
    };
    match (switch, top) {
        (None, Some(_)) => Err(fields.error("top_logprobs", "requires logprobs to be set to true")),
        (switch, top) => Ok(switch.map(|n| top.unwrap_or(n))),
    }
}

/// Reads a whole request.
pub(crate) fn read(body: &Value, options: &ServeOptions) -> ApiResult<(ChatJob, Common)> {
    let fields = Fields::of_body(body)?;
    options.check_model(&fields)?;
    let common = Common::read(&fields, options)?;
    Ok((read_job(&fields, &common)?, common))
}

async fn chat(State(app): State<Shared>, JsonBody(body): JsonBody) -> ApiResult<Response> {
    let (job, common) = read(&body, &app.options)?;
    let mut in_flight = app.begin("chat")?;
    let logprobs = job.generate.logprobs.is_some();
    let prefill = job.prefill.clone().unwrap_or_default();
    let header = Header::new(&app, "chatcmpl-", common.generate.sampling.seed);
    let mut answer = app.chat(job).await?;
    // The job has copies until here, and the answer one of its beginning to its end.
    let permits = body.into_permits().shrunk(prefill.len());
    if common.stream {
        let stream = ChatStream {
            model: Arc::clone(&app.model),
            header,
            prefill,
            _permits: permits,
            include_usage: common.include_usage,
            logprobs,
            choices: (0..common.choices).map(|_| Choice::default()).collect(),
        };
        return Ok(sse::respond(&app, answer, in_flight, stream));
    }
    let all = collect(&app, &mut answer, &mut in_flight).await?;
    let choices = all.iter().enumerate();
    let choices: Vec<_> =
        choices.map(|(i, whole)| plain_choice(&app.model, i, whole, &prefill, logprobs)).collect();
    Ok(json_response(&header.whole("chat.completion", choices, &answer)))
}

/// A choice of a plain answer.
fn plain_choice(
    model: &Model,
    index: usize,
    whole: &Whole,
    prefill: &str,
    logprobs: bool,
) -> Value {
    let mut message = Map::new();
    message.insert("role".into(), json!("assistant"));
    let content = format!("{prefill}{}", whole.text);
    // Null is for calls alone: some programs want a text otherwise.
    let content = match content.is_empty() && !whole.calls.is_empty() {
        true => Value::Null,
        false => json!(content),
    };
    message.insert("content".into(), content);
    if !whole.reasoning.is_empty() {
        message.insert("reasoning_content".into(), json!(whole.reasoning));
    }
    if !whole.calls.is_empty() {
        let call = |call: &crate::collect::WholeCall| {
            json!({
                "id": call.id,
                "type": "function",
                "function": { "name": call.name, "arguments": call.arguments },
            })
        };
        message.insert("tool_calls".into(), whole.calls.iter().map(call).collect());
    }
    let mut choice = Map::new();
    choice.insert("index".into(), json!(index));
    choice.insert("message".into(), Value::Object(message));
    choice.insert("logprobs".into(), logprobs_of(model, &whole.logprobs, logprobs));
    let reason = whole.reason.as_ref().map(finish_reason);
    choice.insert("finish_reason".into(), json!(reason));
    Value::Object(choice)
}

fn logprobs_of(model: &Model, all: &[TokenLogprobs], wanted: bool) -> Value {
    match model.tokenizer() {
        Ok(tokenizer) if wanted => logprobs::of_chat(tokenizer, all),
        _ => Value::Null,
    }
}

/// OpenAI's name of a reason.
pub(crate) fn finish_reason(reason: &FinishReason) -> &'static str {
    match reason {
        FinishReason::Stop | FinishReason::StopString(_) | FinishReason::Cancelled => "stop",
        FinishReason::Length => "length",
        FinishReason::ToolCalls => "tool_calls",
    }
}

/// Presentation as a stream.
struct ChatStream {
    model: Arc<Model>,
    header: Header,
    prefill: String,
    _permits: Permits,
    include_usage: bool,
    logprobs: bool,
    choices: Vec<Choice>,
}

/// What a stream remembers of a choice.
#[derive(Default)]
struct Choice {
    begun: bool,
    /// Log probabilities that go out with the next chunk.
    logprobs: Vec<TokenLogprobs>,
}

impl ChatStream {
    /// Appends a chunk of a choice.
    fn chunk(
        &mut self,
        choice: usize,
        delta: Value,
        reason: Option<&FinishReason>,
        out: &mut String,
    ) {
        let Some(state) = self.choices.get_mut(choice) else { return };
        let mut map = Map::new();
        map.insert("index".into(), json!(choice));
        map.insert("delta".into(), delta);
        if self.logprobs {
            let all = std::mem::take(&mut state.logprobs);
            let all = match all.is_empty() {
                true => Value::Null,
                false => logprobs_of(&self.model, &all, true),
            };
            map.insert("logprobs".into(), all);
        }
        map.insert("finish_reason".into(), json!(reason.map(finish_reason)));
        event(out, None, &self.header.chunk("chat.completion.chunk", vec![Value::Object(map)]));
    }

    /// Begins a choice and all before it: some clients keep choices in the order in which they begin.
    fn begin_choices(&mut self, last: usize, out: &mut String) {
        (0..=last).for_each(|choice| self.begin_choice(choice, out));
    }

    /// Appends the first chunk of a choice, unless it was sent.
    fn begin_choice(&mut self, choice: usize, out: &mut String) {
        let Some(state) = self.choices.get_mut(choice) else { return };
        if std::mem::replace(&mut state.begun, true) {
            return;
        }
        // Log probabilities go with the text.
        let held = std::mem::take(&mut state.logprobs);
        self.chunk(choice, json!({ "role": "assistant", "content": "" }), None, out);
        if !self.prefill.is_empty() {
            self.chunk(choice, json!({ "content": self.prefill }), None, out);
        }
        if let Some(state) = self.choices.get_mut(choice) {
            state.logprobs = held;
        }
    }
}

impl Present for ChatStream {
    fn delta(&mut self, delta: Delta, _answer: &Answer, out: &mut String) {
        let (choice, chunk) = match delta {
            Delta::Started { .. } | Delta::Failed { .. } => return,
            Delta::Logprobs { choice, logprobs } => {
                if let Some(state) = self.choices.get_mut(choice).filter(|_| self.logprobs) {
                    state.logprobs.extend(logprobs);
                }
                return;
            }
            Delta::Text { choice, text } => (choice, json!({ "content": text })),
            Delta::Reasoning { choice, text } => (choice, json!({ "reasoning_content": text })),
            Delta::Call { choice, index, id, name } => (
                choice,
                json!({ "tool_calls": [{
                    "index": index,
                    "id": id,
                    "type": "function",
                    "function": { "name": name, "arguments": "" },
                }]}),
            ),
            Delta::Arguments { choice, index, text } => (
                choice,
                json!({ "tool_calls": [{ "index": index, "function": { "arguments": text } }] }),
            ),
            Delta::Finished { choice, reason } => {
                self.begin_choices(choice, out);
                self.chunk(choice, json!({}), Some(&reason), out);
                return;
            }
        };
        self.begin_choices(choice, out);
        self.chunk(choice, chunk, None, out);
    }

    fn end(&mut self, answer: &Answer, out: &mut String) {
        if self.include_usage {
            let mut chunk = self.header.chunk("chat.completion.chunk", Vec::new());
            answer::add_usage(&mut chunk, answer);
            event(out, None, &chunk);
        }
        out.push_str("data: [DONE]\n\n");
    }
}

/// Number of tokens of a conversation.
async fn count(State(app): State<Shared>, JsonBody(body): JsonBody) -> ApiResult<Response> {
    let (job, _) = read(&body, &app.options)?;
    let n = app.count_tokens(job).await?;
    Ok(json_response(&json!({ "input_tokens": n, "object": "response.input_tokens" })))
}

/// Text of a conversation.
async fn apply_template(
    State(app): State<Shared>,
    JsonBody(body): JsonBody,
) -> ApiResult<Response> {
    let (job, _) = read(&body, &app.options)?;
    let prompt = app.render(job).await?;
    Ok(json_response(&json!({ "prompt": prompt })).into_response())
}
