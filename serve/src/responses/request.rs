//! Requests for responses.

use serde_json::{Map, Value, json};
use teff_runtime::chat::Message;
use teff_runtime::template::Json;

use crate::conversation::{MAX_TOOLS, schema_of, variables};
use crate::error::{ApiError, ApiResult};
use crate::grammar::Grammar;
use crate::job::{ChatJob, Tool, ToolChoice};
use crate::json::{Fields, rounded, type_name};
use crate::options::ServeOptions;
use crate::sampling::{Common, MAX_LOGPROBS};
use crate::tools::{Turns, name_error};
use crate::unsupported;

/// A request that was read.
#[derive(Debug)]
pub(super) struct Read {
    pub(super) job: ChatJob,
    pub(super) stream: bool,
    /// Fields of the request that are part of the response.
    pub(super) echo: Map<String, Value>,
}

/// Reads a request.
///
/// # Errors
/// [`ApiError`], which names the field.
pub(super) fn read(body: &Value, options: &ServeOptions) -> ApiResult<Read> {
    let fields = Fields::of_body(body)?;
    options.check_model(&fields)?;
    unsupported::refuse(&fields, &unsupported::SHARED)?;
    unsupported::refuse(&fields, &unsupported::RESPONSES)?;
    // What both interfaces have, under the names of the other; and nothing else of the other.
    let mut shared = Map::new();
    for (name, other) in [
        ("max_output_tokens", "max_completion_tokens"),
        ("temperature", "temperature"),
        ("top_p", "top_p"),
        ("stream", "stream"),
        // Not of this interface, but of use.
        ("top_k", "top_k"),
        ("min_p", "min_p"),
        ("seed", "seed"),
        ("stop", "stop"),
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
    fields.integer("max_output_tokens", 0..=i64::MAX)?;
    let reasoning = fields.object("reasoning")?;
    if let Some(map) = reasoning {
        let reasoning = Fields::within(map, "reasoning.");
        unsupported::refuse(&reasoning, &unsupported::REASONING)?;
        if let Some(effort) = reasoning.str("effort")? {
            shared.insert("reasoning_effort".to_owned(), effort.into());
        }
    }
    if let Some(map) = fields.object("stream_options")? {
        let options = Fields::within(map, "stream_options.");
        unsupported::refuse(&options, &unsupported::STREAM_OPTIONS)?;
    }
    let shared = Fields::within(&shared, "");
    let common = Common::read(&shared, options)?;
    let mut generate = common.generate;
    generate.logprobs = logprobs(&fields)?;
    let tools = tools(&fields)?;
    let tool_choice = tool_choice(&fields, &tools)?;
    let text = fields.object("text")?;
    let grammar = text.map(|map| format(&Fields::within(map, "text."))).transpose()?.flatten();
    let parallel = fields.bool("parallel_tool_calls")?.unwrap_or(true);
    let echo = echo(&fields, &tools, &tool_choice, parallel, &generate)?;
    let job = ChatJob {
        tools,
        tool_choice,
        parallel_tool_calls: parallel,
        grammar,
        biases: common.biases,
        variables: variables(&shared)?,
        ..ChatJob::new(conversation(&fields)?, generate)
    };
    Ok(Read { job, stream: common.stream, echo })
}

/// Parts of a response that may be asked for. Those of tools and images are never there.
const INCLUDED: [&str; 8] = [
    "message.output_text.logprobs",
    "reasoning.encrypted_content",
    "file_search_call.results",
    "web_search_call.results",
    "web_search_call.action.sources",
    "message.input_image.image_url",
    "computer_call_output.output.image_url",
    "code_interpreter_call.outputs",
];

/// Number of alternatives beside each token's log probability.
fn logprobs(fields: &Fields<'_>) -> ApiResult<Option<usize>> {
    let include = fields.array("include")?.unwrap_or_default();
    for (i, part) in include.iter().enumerate() {
        if !part.as_str().is_some_and(|name| INCLUDED.contains(&name)) {
            let message = format!("is {part}, but must be one of `{}`", INCLUDED.join("`, `"));
            return Err(fields.error(&format!("include[{i}]"), message));
        }
    }
    let wanted = include.iter().any(|value| value == "message.output_text.logprobs");
    let top = fields.count("top_logprobs", 0..=MAX_LOGPROBS)?;
    Ok(match (wanted, top) {
        (false, None | Some(0)) => None,
        (_, top) => Some(top.unwrap_or(0)),
    })
}

/// Fields of the response that the request determines.
fn echo(
    fields: &Fields<'_>,
    tools: &[Tool],
    choice: &ToolChoice,
    parallel: bool,
    generate: &teff_runtime::Generate,
) -> ApiResult<Map<String, Value>> {
    let or = |name: &str, default: Value| fields.get(name).cloned().unwrap_or(default);
    let text = match fields.get("text") {
        Some(Value::Object(map)) if map.get("format").is_some_and(|f| !f.is_null()) => {
            Value::Object(map.clone())
        }
        _ => json!({ "format": { "type": "text" } }),
    };
    let choice = match choice {
        ToolChoice::Auto => json!("auto"),
        ToolChoice::None => json!("none"),
        ToolChoice::Required => json!("required"),
        ToolChoice::Named(name) => json!({ "type": "function", "name": name }),
    };
    let tool = |tool: &Tool| {
        let function = tool.json.get("function");
        let description = function.and_then(|f| f.get("description")).and_then(Json::as_str);
        json!({
            "type": "function",
            "name": tool.name,
            "description": description.filter(|text| !text.is_empty()),
            "parameters": tool.parameters.as_ref().map(crate::tools::value),
            "strict": function.and_then(|f| f.get("strict")).is_some(),
        })
    };
    let mut map = Map::new();
    map.insert("instructions".into(), or("instructions", Value::Null));
    map.insert("max_output_tokens".into(), or("max_output_tokens", Value::Null));
    map.insert("parallel_tool_calls".into(), json!(parallel));
    map.insert("previous_response_id".into(), Value::Null);
    map.insert("reasoning".into(), or("reasoning", json!({ "effort": null, "summary": null })));
    map.insert("store".into(), json!(false));
    map.insert("temperature".into(), number(generate.sampling.temperature));
    map.insert("text".into(), text);
    map.insert("tool_choice".into(), choice);
    map.insert("tools".into(), tools.iter().map(tool).collect());
    map.insert("top_logprobs".into(), json!(generate.logprobs.unwrap_or(0)));
    map.insert("top_p".into(), number(generate.sampling.top_p));
    map.insert("truncation".into(), json!("disabled"));
    map.insert("user".into(), or("user", Value::Null));
    map.insert("metadata".into(), or("metadata", json!({})));
    map.insert("seed".into(), json!(generate.sampling.seed));
    Ok(map)
}

/// A number with the digits that it was given by.
fn number(x: f32) -> Value {
    x.to_string().parse::<f64>().map_or(Value::Null, |x| json!(x))
}

/// The language of the answer, of `text.format`.
fn format(text: &Fields<'_>) -> ApiResult<Option<(Grammar, String)>> {
    unsupported::refuse(text, &unsupported::TEXT)?;
    let Some(map) = text.object("format")? else { return Ok(None) };
    let format = Fields::within(map, "text.format.");
    let grammar = match format.str("type")? {
        Some("text") => return Ok(None),
        Some("json_object") => Grammar::JsonObject,
        Some("json_schema") => match format.get("schema") {
            Some(schema) => schema_of(&format, "schema", schema)?,
            None => return Err(format.error("schema", "is required")),
        },
        Some(other) => {
            let message =
                format!("must be `text`, `json_object` or `json_schema`, but is `{other}`");
            return Err(format.error("type", message));
        }
        None => return Err(format.error("type", "is required")),
    };
    Ok(Some((grammar, "text.format".to_owned())))
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
        match tool.str("type")? {
            Some("function") => {}
            Some(kind) => {
                let message = format!("is `{kind}`, but only functions are supported");
                return Err(tool.error("type", message));
            }
            None => return Err(tool.error("type", "is required")),
        }
        unsupported::refuse(&tool, &unsupported::TOOL)?;
        let Some(name) = tool.str("name")? else { return Err(tool.error("name", "is required")) };
        if let Some(message) = name_error(name) {
            return Err(tool.error("name", message));
        }
        if all.iter().any(|tool| tool.name == name) {
            return Err(tool.error("name", format_args!("is `{name}`, as an earlier tool's")));
        }
        let (description, parameters) = (tool.str("description")?, tool.object("parameters")?);
        let strict = tool.bool("strict")?.unwrap_or(false);
        all.push(Tool::function(name, description, parameters, strict));
    }
    Ok(all)
}

fn tool_choice(fields: &Fields<'_>, tools: &[Tool]) -> ApiResult<ToolChoice> {
    let error = |message: String| Err(fields.error("tool_choice", message));
    let choice = match fields.get("tool_choice") {
        None => return Ok(ToolChoice::Auto),
        Some(Value::String(choice)) => match choice.as_str() {
            "auto" => ToolChoice::Auto,
            "none" => ToolChoice::None,
            "required" => ToolChoice::Required,
            other => {
                return error(format!(
                    "must be `auto`, `none`, `required` or an object that names a function, but is \
                     `{other}`"
                ));
            }
        },
        Some(Value::Object(map)) => match (map.get("type"), map.get("name")) {
            (Some(Value::String(kind)), Some(Value::String(name))) if kind == "function" => {
                ToolChoice::Named(name.clone())
            }
            _ => {
                return error("must be as {\"type\": \"function\", \"name\": \"f\"}".to_owned());
            }
        },
        Some(other) => {
            return error(format!("must be a string or an object, but is {}", type_name(other)));
        }
    };
    match &choice {
        ToolChoice::Required if tools.is_empty() => {
            error("is `required`, but there are no tools".into())
        }
        ToolChoice::Named(name) if !tools.iter().any(|tool| tool.name == *name) => {
            error(format!("names `{name}`, which is none of the tools"))
        }
        _ => Ok(choice),
    }
}

/// The messages of `instructions` and `input`.
fn conversation(fields: &Fields<'_>) -> ApiResult<Vec<Message>> {
    let mut turns = Turns::default();
    let instructions = fields.str("instructions")?.filter(|text| !text.is_empty());
    if let Some(text) = instructions {
        turns.message("system", text.to_owned());
    }
    match fields.get("input") {
        None => return Err(fields.error("input", "is required")),
        Some(Value::String(text)) => turns.message("user", text.clone()),
        Some(Value::Array(items)) => {
            if items.is_empty() {
                return Err(fields.error("input", "must have at least one item"));
            }
            // Templates know one system message, the first.
            let mut system = instructions.map(str::to_owned);
            for (i, item) in items.iter().enumerate() {
                let Value::Object(map) = item else {
                    let message = format!("must be an object, but is {}", type_name(item));
                    return Err(ApiError::field(format!("input[{i}]"), message));
                };
                let path = format!("input[{i}].");
                let item = Fields::within(map, &path);
                if i == 0
                    && let Some(before) = system.take()
                    && matches!(item.str("role")?, Some("system" | "developer"))
                {
                    turns = Turns::default();
                    let text = content(&item)?;
                    turns.message("system", format!("{before}\n\n{text}"));
                    continue;
                }
                add(&item, &mut turns)?;
            }
        }
        Some(other) => {
            let message = format!("must be a string or an array, but is {}", type_name(other));
            return Err(fields.error("input", message));
        }
    }
    let messages = turns.finish();
    match messages.is_empty() {
        true => Err(fields.error("input", "must have a message")),
        false => Ok(messages),
    }
}

/// Adds an item.
fn add(item: &Fields<'_>, turns: &mut Turns) -> ApiResult<()> {
    let required = |name: &str| -> ApiResult<&str> {
        item.str(name)?.ok_or_else(|| item.error(name, "is required"))
    };
    match item.str("type")? {
        None | Some("message") => match required("role")? {
            "assistant" => turns.text(&content(item)?),
            "system" | "developer" => turns.message("system", content(item)?),
            "user" => turns.message("user", content(item)?),
            other => {
                let message = format!(
                    "must be `user`, `assistant`, `system` or `developer`, but is `{other}`"
                );
                return Err(item.error("role", message));
            }
        },
        Some("function_call") => {
            let arguments = item.str("arguments")?.unwrap_or_default();
            let object = match arguments.trim().is_empty() {
                true => Json::Object(Vec::new()),
                false => match Json::parse(arguments.as_bytes()) {
                    Ok(object @ Json::Object(_)) => match rounded(arguments) {
                        Some(number) => {
                            let what = "of which 64 bits don't hold all digits";
                            return Err(
                                item.error("arguments", format_args!("has {number}, {what}"))
                            );
                        }
                        None => object,
                    },
                    _ => {
                        return Err(item.error("arguments", "must be the text of a JSON object"));
                    }
                },
            };
            turns.call(required("call_id")?, required("name")?, object);
        }
        Some("function_call_output") => {
            let id = required("call_id")?;
            let text = match item.get("output") {
                None => return Err(item.error("output", "is required")),
                Some(output) => parts(item, "output", output)?,
            };
            turns.result(id, text);
        }
        Some("reasoning") => {
            let mut all = Vec::new();
            for part in item.array("content")?.unwrap_or_default() {
                all.extend(part.get("text").and_then(Value::as_str));
            }
            turns.reasoning(&all.join("\n"));
        }
        Some(other) => {
            let message = format!("is `{other}`, which is not supported");
            return Err(item.error("type", message));
        }
    }
    Ok(())
}

/// Text of a message's content.
fn content(item: &Fields<'_>) -> ApiResult<String> {
    match item.get("content") {
        Some(content) => parts(item, "content", content),
        None => Err(item.error("content", "is required")),
    }
}

/// Text of a string, or of parts that are texts.
fn parts(item: &Fields<'_>, name: &str, value: &Value) -> ApiResult<String> {
    let list = match value {
        Value::String(text) => return Ok(text.clone()),
        Value::Array(list) => list,
        other => {
            let message = format!("must be a string or an array, but is {}", type_name(other));
            return Err(item.error(name, message));
        }
    };
    let mut all = Vec::with_capacity(list.len());
    for (i, part) in list.iter().enumerate() {
        let at = format!("{name}[{i}]");
        let Value::Object(map) = part else {
            let message = format!("must be an object, but is {}", type_name(part));
            return Err(item.error(&at, message));
        };
        let path = format!("{}.", item.name(&at));
        let part = Fields::within(map, &path);
        let field = match part.str("type")? {
            Some("input_text" | "output_text" | "text" | "summary_text") => "text",
            Some("refusal") => "refusal",
            Some(other) => {
                let message = format!("is `{other}`, but the model reads texts only");
                return Err(part.error("type", message));
            }
            None => return Err(part.error("type", "is required")),
        };
        let text = part.str(field)?.ok_or_else(|| part.error(field, "is required"))?;
        all.push(text.to_owned());
    }
    Ok(all.join("\n"))
}
