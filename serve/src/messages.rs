//! `/v1/messages` and `/v1/messages/count_tokens`, in Anthropic's form
//! (<https://docs.anthropic.com/en/api/messages>).

use std::fmt;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::post;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use teff_runtime::template::Json;

use crate::answer::{json_response, text_response};
use crate::app::Shared;
use crate::body::JsonBody;
use crate::collect::{Whole, collect};
use crate::conversation::{MAX_TOOLS, schema_of, variables};
use crate::error::{ApiError, ApiResult};
use crate::job::{Answer, ChatJob, Delta, FinishReason, Tool, ToolChoice, Usage};
use crate::json::{Fields, fields_to_template, type_name};
use crate::options::ServeOptions;
use crate::random;
use crate::sampling::Common;
use crate::sse::{self, Present, event};
use crate::tools::{Turns, name_error};
use crate::unsupported;

/// Path of the interface, with which its others begin.
pub(crate) const PATH: &str = "/v1/messages";

/// The routes.
pub(crate) fn routes() -> Router<Shared> {
    Router::new().route(PATH, post(messages)).route("/v1/messages/count_tokens", post(count_tokens))
}

/// Answer in the interface's own form, errors included.
async fn messages(State(app): State<Shared>, body: ApiResult<JsonBody>) -> Response {
    match answer(&app, body).await {
        Ok(response) => response,
        Err(e) => refuse(&e),
    }
}

async fn answer(app: &Shared, body: ApiResult<JsonBody>) -> ApiResult<Response> {
    let JsonBody(body) = body?;
    let Read { job, stream } = read(&body, &app.options, true)?;
    let permits = body.into_permits();
    let mut in_flight = app.begin("messages")?;
    let model = app.options.model_id.clone();
    let id = random::id("msg_");
    let mut answer = app.chat(job).await?;
    // The job has copies until here.
    drop(permits);
    if stream {
        let present = MessageStream { id, model, begun: false, index: 0, open: None };
        return Ok(sse::respond(app, answer, in_flight, present));
    }
    let all = collect(app, &mut answer, &mut in_flight).await?;
    let whole = all.into_iter().next().unwrap_or_default();
    Ok(text_response(message_text(&id, &model, &whole, &answer.usage())))
}

async fn count_tokens(State(app): State<Shared>, body: ApiResult<JsonBody>) -> Response {
    let count = async {
        let JsonBody(body) = body?;
        let job = read(&body, &app.options, false)?.job;
        app.count_tokens(job).await
    };
    match count.await {
        Ok(n) => json_response(&json!({ "input_tokens": n })),
        Err(e) => refuse(&e),
    }
}

/// The error in Anthropic's form.
fn error_json(e: &ApiError) -> Value {
    let kind = match e.status {
        StatusCode::UNAUTHORIZED => "authentication_error",
        StatusCode::FORBIDDEN => "permission_error",
        StatusCode::NOT_FOUND => "not_found_error",
        StatusCode::PAYLOAD_TOO_LARGE => "request_too_large",
        StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
        StatusCode::SERVICE_UNAVAILABLE => "overloaded_error",
        status if status.is_client_error() => "invalid_request_error",
        _ => "api_error",
    };
    json!({ "type": "error", "error": { "type": kind, "message": e.message } })
}

/// The answer to a request that is refused, in Anthropic's form.
pub(crate) fn refuse(e: &ApiError) -> Response {
    let mut response = json_response(&error_json(e));
    *response.status_mut() = e.status;
    response
}

/// A request that was read.
struct Read {
    job: ChatJob,
    stream: bool,
}

/// Reads a request, and no more.
pub(crate) fn check(body: &Value, options: &ServeOptions, answers: bool) -> ApiResult<()> {
    read(body, options, answers).map(drop)
}

/// Reads a request. `max_tokens` is required for answers.
fn read(body: &Value, options: &ServeOptions, answers: bool) -> ApiResult<Read> {
    let fields = Fields::of_body(body)?;
    options.check_model(&fields)?;
    unsupported::refuse(&fields, &unsupported::SHARED)?;
    unsupported::refuse(&fields, &unsupported::MESSAGES)?;
    if answers && fields.get("max_tokens").is_none() {
        return Err(fields.error("max_tokens", "is required"));
    }
    // Fields that both interfaces have, under the names of the other; and no others of the other.
    let mut shared = Map::new();
    for (name, other) in [
        ("max_tokens", "max_tokens"),
        ("temperature", "temperature"),
        ("top_p", "top_p"),
        ("top_k", "top_k"),
        ("stop_sequences", "stop"),
        ("stream", "stream"),
        // Not Anthropic's, but of use.
        ("seed", "seed"),
        ("min_p", "min_p"),
        ("presence_penalty", "presence_penalty"),
        ("frequency_penalty", "frequency_penalty"),
        ("repeat_penalty", "repeat_penalty"),
        ("repetition_penalty", "repetition_penalty"),
        ("repeat_last_n", "repeat_last_n"),
        ("samplers", "samplers"),
        ("ignore_eos", "ignore_eos"),
        ("logit_bias", "logit_bias"),
        ("chat_template_kwargs", "chat_template_kwargs"),
    ] {
        if let Some(value) = fields.get(name) {
            shared.insert(other.to_owned(), value.clone());
        }
    }
    if let Some(stops) = fields.array("stop_sequences")?
        && stops.iter().any(|stop| !stop.is_string())
    {
        return Err(fields.error("stop_sequences", "must be an array of strings"));
    }
    let config = fields.object("output_config")?;
    if let Some(map) = config {
        let config = Fields::within(map, "output_config.");
        unsupported::refuse(&config, &unsupported::OUTPUT_CONFIG)?;
        if let Some(effort) = config.str("effort")? {
            shared.insert("reasoning_effort".to_owned(), effort.into());
        }
    }
    let shared = Fields::within(&shared, "");
    let common = Common::read(&shared, options).map_err(|e| e.renamed("stop", "stop_sequences"))?;
    let tools = tools(&fields)?;
    let (tool_choice, parallel) = tool_choice(&fields, &tools)?;
    let (messages, prefill) = conversation(&fields)?;
    let mut variables = variables(&shared)?;
    for (name, value) in thinking(&fields)? {
        if !variables.iter().any(|(other, _)| *other == name) {
            variables.push((name, value));
        }
    }
    let job = ChatJob {
        tools,
        tool_choice,
        parallel_tool_calls: parallel,
        grammar: format(&fields)?,
        biases: common.biases,
        variables,
        prefill,
        ..ChatJob::new(messages, common.generate)
    };
    Ok(Read { job, stream: common.stream })
}

/// Variables of the template that switch reasoning on and off.
fn thinking(fields: &Fields<'_>) -> ApiResult<Vec<(String, Json)>> {
    let Some(map) = fields.object("thinking")? else { return Ok(Vec::new()) };
    let fields = Fields::within(map, "thinking.");
    unsupported::refuse(&fields, &unsupported::THINKING_FIELDS)?;
    let on = match fields.str("type")? {
        Some("enabled" | "adaptive") => true,
        Some("disabled") => false,
        Some(other) => {
            let message = format!("must be `enabled`, `adaptive` or `disabled`, but is `{other}`");
            return Err(fields.error("type", message));
        }
        None => return Err(fields.error("type", "is required")),
    };
    Ok(vec![("enable_thinking".to_owned(), Json::Bool(on))])
}

/// The language of the answer, of `output_config.format` or `output_format`.
fn format(fields: &Fields<'_>) -> ApiResult<Option<(crate::grammar::Grammar, String)>> {
    let config = fields.object("output_config")?;
    let inner = config.map(|map| Fields::within(map, "output_config."));
    let (name, format) = match &inner {
        Some(inner) if inner.get("format").is_some() => {
            ("output_config.format", inner.object("format")?)
        }
        _ => ("output_format", fields.object("output_format")?),
    };
    let Some(map) = format else { return Ok(None) };
    let path = format!("{name}.");
    let format = Fields::within(map, &path);
    match format.str("type")? {
        Some("json_schema") => match format.get("schema") {
            Some(schema) => Ok(Some((schema_of(&format, "schema", schema)?, name.to_owned()))),
            None => Err(format.error("schema", "is required")),
        },
        Some(other) => {
            Err(format.error("type", format_args!("must be `json_schema`, but is `{other}`")))
        }
        None => Err(format.error("type", "is required")),
    }
}

fn tools(fields: &Fields<'_>) -> ApiResult<Vec<Tool>> {
    let list = fields.array("tools")?.unwrap_or_default();
    if list.len() > MAX_TOOLS {
        return Err(fields.error("tools", format_args!("may have at most {MAX_TOOLS} tools")));
    }
    let mut all: Vec<Tool> = Vec::with_capacity(list.len());
    for (i, value) in list.iter().enumerate() {
        let Value::Object(map) = value else {
            return Err(ApiError::field(format!("tools[{i}]"), "must be an object"));
        };
        let path = format!("tools[{i}].");
        let tool = Fields::within(map, &path);
        if let Some(kind) = tool.str("type")?.filter(|kind| *kind != "custom") {
            let message = format!("is `{kind}`, but only tools of the client are supported");
            return Err(tool.error("type", message));
        }
        unsupported::refuse(&tool, &unsupported::TOOL)?;
        let Some(name) = tool.str("name")? else { return Err(tool.error("name", "is required")) };
        if let Some(message) = name_error(name) {
            return Err(tool.error("name", message));
        }
        if all.iter().any(|tool| tool.name == name) {
            return Err(tool.error("name", format_args!("is `{name}`, as an earlier tool's")));
        }
        let Some(schema) = tool.object("input_schema")? else {
            return Err(tool.error("input_schema", "is required"));
        };
        let strict = tool.bool("strict")?.unwrap_or(false);
        all.push(Tool::function(name, tool.str("description")?, Some(schema), strict));
    }
    Ok(all)
}

/// The choice among tools, and true if there may be several calls.
fn tool_choice(fields: &Fields<'_>, tools: &[Tool]) -> ApiResult<(ToolChoice, bool)> {
    let Some(map) = fields.object("tool_choice")? else { return Ok((ToolChoice::Auto, true)) };
    let choice = Fields::within(map, "tool_choice.");
    let one = choice.bool("disable_parallel_tool_use")?.unwrap_or(false);
    let chosen = match choice.str("type")? {
        Some("auto") => ToolChoice::Auto,
        Some("none") => ToolChoice::None,
        Some("any") if tools.is_empty() => {
            return Err(choice.error("type", "is `any`, but there are no tools"));
        }
        Some("any") => ToolChoice::Required,
        Some("tool") => match choice.str("name")? {
            Some(name) if tools.iter().any(|tool| tool.name == name) => {
                ToolChoice::Named(name.to_owned())
            }
            Some(name) => {
                let message = format!("is `{name}`, which is none of the tools");
                return Err(choice.error("name", message));
            }
            None => return Err(choice.error("name", "is required")),
        },
        Some(other) => {
            let message = format!("must be `auto`, `any`, `tool` or `none`, but is `{other}`");
            return Err(choice.error("type", message));
        }
        None => return Err(choice.error("type", "is required")),
    };
    Ok((chosen, !one))
}

/// The messages, and the beginning of the answer if the last one is the assistant's.
fn conversation(
    fields: &Fields<'_>,
) -> ApiResult<(Vec<teff_runtime::chat::Message>, Option<String>)> {
    let mut turns = Turns::default();
    match fields.get("system") {
        None => {}
        Some(Value::String(text)) if text.is_empty() => {}
        Some(system) => {
            let text = texts(system, &|| fields.name("system"))?;
            turns.message("system", text);
        }
    }
    let Some(list) = fields.array("messages")? else {
        return Err(fields.error("messages", "is required"));
    };
    if list.is_empty() {
        return Err(fields.error("messages", "must have at least one message"));
    }
    let mut last = "";
    for (i, value) in list.iter().enumerate() {
        let Value::Object(map) = value else {
            let message = format!("must be an object, but is {}", type_name(value));
            return Err(ApiError::field(format!("messages[{i}]"), message));
        };
        let path = format!("messages[{i}].");
        let message = Fields::within(map, &path);
        let Some(content) = message.get("content") else {
            return Err(message.error("content", "is required"));
        };
        let at = message.name("content");
        last = match message.str("role")? {
            Some("user") => {
                user(content, &at, &mut turns)?;
                "user"
            }
            Some("assistant") => {
                assistant(content, &at, &mut turns)?;
                "assistant"
            }
            // Not Anthropic's, but other servers take it.
            Some("system") => {
                turns.message("system", texts(content, &|| at.clone())?);
                "system"
            }
            Some(other) => {
                let text = format!("must be `user` or `assistant`, but is `{other}`");
                return Err(message.error("role", text));
            }
            None => return Err(message.error("role", "is required")),
        };
    }
    let prefill = if last == "assistant" { turns.take_last_text() } else { None };
    let messages = turns.finish();
    if messages.is_empty() {
        let message = "must have a message before the beginning of the answer";
        return Err(fields.error("messages", message));
    }
    Ok((messages, prefill))
}

/// Blocks of a content: one of text, or a list.
fn blocks<'a>(content: &'a Value, at: &str) -> ApiResult<Vec<(&'a Map<String, Value>, String)>> {
    let Value::Array(list) = content else {
        let message = format!("must be a string or an array, but is {}", type_name(content));
        return Err(ApiError::field(at, message));
    };
    let block = |(i, value): (usize, &'a Value)| match value {
        Value::Object(map) => Ok((map, format!("{at}[{i}]."))),
        other => {
            let message = format!("must be an object, but is {}", type_name(other));
            Err(ApiError::field(format!("{at}[{i}]"), message))
        }
    };
    list.iter().enumerate().map(block).collect()
}

/// Text of a content that has texts alone.
fn texts(content: &Value, at: &dyn Fn() -> String) -> ApiResult<String> {
    if let Value::String(text) = content {
        return Ok(text.clone());
    }
    let mut all = Vec::new();
    for (map, path) in blocks(content, &at())? {
        let block = Fields::within(map, &path);
        match block.str("type")? {
            Some("text") => all.push(text(&block)?.to_owned()),
            kind => return Err(unsupported(&block, kind)),
        }
    }
    Ok(all.join("\n"))
}

/// Text of a block of text.
fn text<'a>(block: &Fields<'a>) -> ApiResult<&'a str> {
    block.str("text")?.ok_or_else(|| block.error("text", "is required"))
}

fn unsupported(block: &Fields<'_>, kind: Option<&str>) -> ApiError {
    match kind {
        Some(kind) => block.error("type", format_args!("is `{kind}`, which is not supported here")),
        None => block.error("type", "is required"),
    }
}

fn user(content: &Value, at: &str, turns: &mut Turns) -> ApiResult<()> {
    if let Value::String(text) = content {
        turns.message("user", text.clone());
        return Ok(());
    }
    let (mut all, mut results) = (Vec::new(), 0);
    for (map, path) in blocks(content, at)? {
        let block = Fields::within(map, &path);
        match block.str("type")? {
            Some("text") => all.push(text(&block)?.to_owned()),
            Some("tool_result") => {
                let Some(id) = block.str("tool_use_id")? else {
                    return Err(block.error("tool_use_id", "is required"));
                };
                let content = block.get("content");
                let text = content.map(|c| texts(c, &|| block.name("content"))).transpose()?;
                let mut text = text.unwrap_or_default();
                if text.is_empty() && block.bool("is_error")?.unwrap_or(false) {
                    text = "error".to_owned();
                }
                turns.result(id, text);
                results += 1;
            }
            kind => return Err(unsupported(&block, kind)),
        }
    }
    if results == 0 || !all.is_empty() {
        turns.message("user", all.join("\n"));
    }
    Ok(())
}

fn assistant(content: &Value, at: &str, turns: &mut Turns) -> ApiResult<()> {
    if let Value::String(text) = content {
        turns.text(text);
        return Ok(());
    }
    for (map, path) in blocks(content, at)? {
        let block = Fields::within(map, &path);
        match block.str("type")? {
            Some("text") => turns.text(text(&block)?),
            Some("thinking") => turns.reasoning(block.str("thinking")?.unwrap_or_default()),
            // It says nothing to this model.
            Some("redacted_thinking") => {}
            Some("tool_use") => {
                let Some(id) = block.str("id")? else {
                    return Err(block.error("id", "is required"));
                };
                let Some(name) = block.str("name")? else {
                    return Err(block.error("name", "is required"));
                };
                let input = block.object("input")?.map(fields_to_template);
                turns.call(id, name, input.unwrap_or_else(|| Json::Object(Vec::new())));
            }
            kind => return Err(unsupported(&block, kind)),
        }
    }
    Ok(())
}

/// Anthropic's name of the reason, and the stop sequence.
fn stop_reason(reason: Option<&FinishReason>) -> (&'static str, Option<&str>) {
    match reason {
        Some(FinishReason::StopString(stop)) => ("stop_sequence", Some(stop)),
        Some(FinishReason::Length) => ("max_tokens", None),
        Some(FinishReason::ToolCalls) => ("tool_use", None),
        Some(FinishReason::Stop | FinishReason::Cancelled) | None => ("end_turn", None),
    }
}

/// Numbers of tokens; those of the prompt without cached ones.
fn usage_json(usage: &Usage) -> Value {
    json!({
        "input_tokens": usage.prompt.saturating_sub(usage.cached),
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": usage.cached,
        "output_tokens": usage.completion,
    })
}

/// Id of a call in the form of the interface.
fn call_id(id: &str) -> String {
    format!("toolu_{}", id.strip_prefix("call_").unwrap_or(id))
}

/// Text of a whole answer. What a call takes stays as the model wrote it: read and written again, large integers would
/// be rounded.
fn message_text(id: &str, model: &str, whole: &Whole, usage: &Usage) -> String {
    let mut text = message(id, model, whole, usage).to_string();
    for call in &whole.calls {
        let input = |input: &str| format!("\"input\":{input}");
        // Of a call that was cut by a limit, nothing is certain.
        let written =
            serde_json::from_str::<&RawValue>(&call.arguments).map_or("{}", RawValue::get);
        // (Within texts, quotation marks are escaped.)
        let id = json!(call_id(&call.id)).to_string();
        text = text.replacen(&input(&id), &input(written), 1);
    }
    text
}

/// A whole answer, with the ids of calls in place of what they take.
fn message(id: &str, model: &str, whole: &Whole, usage: &Usage) -> Value {
    let mut content = Vec::new();
    if !whole.reasoning.is_empty() {
        content.push(json!({ "type": "thinking", "thinking": whole.reasoning, "signature": "" }));
    }
    // Programs look for a text where nothing else is.
    if !whole.text.is_empty() || content.is_empty() && whole.calls.is_empty() {
        content.push(json!({ "type": "text", "text": whole.text }));
    }
    for call in &whole.calls {
        let id = call_id(&call.id);
        content.push(json!({ "type": "tool_use", "id": id, "name": call.name, "input": id }));
    }
    let (reason, stop) = stop_reason(whole.reason.as_ref());
    json!({
        "id": id,
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": content,
        "stop_reason": reason,
        "stop_sequence": stop,
        "usage": usage_json(usage),
    })
}

/// Kind of a block in a stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Block {
    Thinking,
    Text,
    Call(usize),
}

/// Presentation as a stream.
struct MessageStream {
    id: String,
    model: String,
    begun: bool,
    /// Index of the open block, or of the next one.
    index: usize,
    open: Option<Block>,
}

impl fmt::Debug for MessageStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MessageStream").field("open", &self.open).finish_non_exhaustive()
    }
}

/// Appends an event with the name of its type.
fn typed(out: &mut String, data: &Value) {
    event(out, data.get("type").and_then(Value::as_str), data);
}

impl MessageStream {
    /// Appends the first events, unless they were sent.
    fn start(&mut self, answer: &Answer, out: &mut String) {
        if std::mem::replace(&mut self.begun, true) {
            return;
        }
        let mut message = message(&self.id, &self.model, &Whole::default(), &answer.usage());
        if let Value::Object(map) = &mut message {
            map.insert("content".into(), json!([]));
            map.insert("stop_reason".into(), Value::Null);
        }
        typed(out, &json!({ "type": "message_start", "message": message }));
        typed(out, &json!({ "type": "ping" }));
    }

    /// Ends the open block, unless it is this one.
    fn close(&mut self, unless: Option<Block>, out: &mut String) {
        if self.open.is_some() && self.open != unless {
            typed(out, &json!({ "type": "content_block_stop", "index": self.index }));
            self.open = None;
            self.index += 1;
        }
    }

    /// Appends to a block, which begins with `content` if it isn't open.
    fn block(&mut self, block: Block, content: Value, delta: Option<Value>, out: &mut String) {
        self.close(Some(block), out);
        let index = self.index;
        if self.open.is_none() {
            let start = json!({
                "type": "content_block_start", "index": index, "content_block": content,
            });
            typed(out, &start);
            self.open = Some(block);
        }
        if let Some(delta) = delta {
            let delta = json!({ "type": "content_block_delta", "index": index, "delta": delta });
            typed(out, &delta);
        }
    }
}

impl Present for MessageStream {
    fn delta(&mut self, delta: Delta, answer: &Answer, out: &mut String) {
        self.start(answer, out);
        match delta {
            Delta::Started { .. } | Delta::Logprobs { .. } | Delta::Failed { .. } => {}
            Delta::Text { text, .. } => {
                let content = json!({ "type": "text", "text": "" });
                let delta = json!({ "type": "text_delta", "text": text });
                self.block(Block::Text, content, Some(delta), out);
            }
            Delta::Reasoning { text, .. } => {
                let content = json!({ "type": "thinking", "thinking": "", "signature": "" });
                let delta = json!({ "type": "thinking_delta", "thinking": text });
                self.block(Block::Thinking, content, Some(delta), out);
            }
            Delta::Call { index, id, name, .. } => {
                let id = call_id(&id);
                let content = json!({ "type": "tool_use", "id": id, "name": name, "input": {} });
                self.block(Block::Call(index), content, None, out);
            }
            Delta::Arguments { index, text, .. } => {
                if self.open == Some(Block::Call(index)) {
                    let delta = json!({ "type": "input_json_delta", "partial_json": text });
                    self.block(Block::Call(index), Value::Null, Some(delta), out);
                }
            }
            Delta::Finished { reason, .. } => {
                if self.index == 0 && self.open.is_none() {
                    self.block(Block::Text, json!({ "type": "text", "text": "" }), None, out);
                }
                self.close(None, out);
                let (reason, stop) = stop_reason(Some(&reason));
                typed(
                    out,
                    &json!({
                        "type": "message_delta",
                        "delta": { "stop_reason": reason, "stop_sequence": stop },
                        "usage": usage_json(&answer.usage()),
                    }),
                );
            }
        }
    }

    fn end(&mut self, answer: &Answer, out: &mut String) {
        self.start(answer, out);
        typed(out, &json!({ "type": "message_stop" }));
    }

    fn error(&mut self, error: &ApiError, out: &mut String) {
        typed(out, &error_json(error));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collect::WholeCall;

    #[test]
    fn what_calls_take_stays_as_it_was_written() {
        let call = |id: &str, arguments: &str| WholeCall {
            id: format!("call_{id}"),
            name: "f".into(),
            arguments: arguments.into(),
        };
        let large = r#"{"a":97333759265452774386801769727097,"b": 1.50}"#;
        let whole = Whole {
            // A text that has what is looked for.
            text: r#""input":"toolu_1", "input":"toolu_2""#.into(),
            calls: vec![call("1", large), call("2", r#"{"a": "cut"#), call("3", "{}")],
            ..Whole::default()
        };
        let text = message_text("msg_1", "m", &whole, &Usage::default());
        assert!(text.contains(&format!(r#""name":"f","input":{large}"#)), "{text}");
        let answer: Value = serde_json::from_str(&text).unwrap();
        let content = answer["content"].as_array().unwrap();
        assert_eq!((content.len(), &content[0]["text"]), (4, &json!(whole.text)));
        assert_eq!((&content[2]["input"], &content[3]["input"]), (&json!({}), &json!({})));
    }
}
