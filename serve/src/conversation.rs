//! Messages, tools and formats of requests in OpenAI's form.

use serde_json::{Map, Value};
use teff_runtime::chat::Message;
use teff_runtime::template::Json;

use crate::error::{ApiError, ApiResult};
use crate::grammar::Grammar;
use crate::job::{Tool, ToolChoice};
use crate::json::{Fields, fields_to_template, rounded, to_template, type_name};

/// Maximum number of tools.
pub(crate) const MAX_TOOLS: usize = 512;

/// Conversation, and the beginning of the answer if its last message is one.
pub(crate) type Messages = (Vec<Message>, Option<String>);

/// Reads `messages`. Contents that are lists of texts stay lists; [`join_parts`] makes strings of
/// them. A last message of the assistant, without tool calls, is the beginning of the answer.
///
/// # Errors
/// [`ApiError`], which names the message.
pub(crate) fn messages(fields: &Fields<'_>) -> ApiResult<Messages> {
    let Some(list) = fields.array("messages")? else {
        return Err(fields.error("messages", "is required"));
    };
    if list.is_empty() {
        return Err(fields.error("messages", "must have at least one message"));
    }
    let mut all = Vec::with_capacity(list.len());
    for (i, value) in list.iter().enumerate() {
        let path = format!("messages[{i}].");
        let Value::Object(map) = value else {
            let message = format!("must be an object, but is {}", type_name(value));
            return Err(ApiError::field(path.trim_end_matches('.'), message));
        };
        all.push(message(&Fields::within(map, &path), map)?);
    }
    let begins = |message: &Message| message.role() == "assistant" && !calls(message);
    if !all.last().is_some_and(begins) {
        return Ok((all, None));
    }
    let prefill = all.pop().map(|message| text_of(message.get("content"))).unwrap_or_default();
    if all.last().is_some_and(begins) {
        let message = "can't end with two messages of the assistant";
        return Err(fields.error("messages", message));
    }
    if all.is_empty() {
        let message = "must have a message before the beginning of the answer";
        return Err(fields.error("messages", message));
    }
    Ok((all, Some(prefill)))
}

/// True if a message has tool calls.
fn calls(message: &Message) -> bool {
    matches!(message.get("tool_calls"), Some(Json::Array(calls)) if !calls.is_empty())
}

/// The text of a content.
fn text_of(content: Option<&Json>) -> String {
    match content {
        Some(Json::String(text)) => text.clone(),
        Some(Json::Array(parts)) => {
            let texts = parts.iter().filter_map(|part| part.get("text").and_then(Json::as_str));
            texts.collect::<Vec<_>>().join("\n")
        }
        _ => String::new(),
    }
}

/// One message.
fn message(fields: &Fields<'_>, map: &Map<String, Value>) -> ApiResult<Message> {
    let Some(role) = fields.str("role")? else { return Err(fields.error("role", "is required")) };
    // The newer name of the same.
    let role = if role == "developer" { "system" } else { role };
    let assistant = role == "assistant";
    if !assistant && !map.contains_key("content") {
        return Err(fields.error("content", "is required, except in messages of the assistant"));
    }
    let calls = fields.array("tool_calls")?.unwrap_or_default();
    let mut all = Vec::with_capacity(map.len());
    for (name, value) in map {
        let value = match name.as_str() {
            "role" => role.into(),
            "content" => match content(fields, value)? {
                Some(content) => content,
                None if !calls.is_empty() => continue,
                None => "".into(),
            },
            "tool_calls" if calls.is_empty() => continue,
            "tool_calls" => tool_calls(fields, calls)?,
            _ => to_template(value),
        };
        all.push((name.clone(), value));
    }
    if assistant && !map.contains_key("content") && calls.is_empty() {
        all.push(("content".into(), "".into()));
    }
    let message = Message::from_json(Json::Object(all));
    message.map_err(|e| ApiError::invalid(e.to_string()))
}

/// A content: a text, or parts that are texts; `None` for null.
fn content(fields: &Fields<'_>, value: &Value) -> ApiResult<Option<Json>> {
    match value {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(text.as_str().into())),
        Value::Array(parts) => {
            let part = |(i, part): (usize, &Value)| part_text(fields, i, part);
            let texts: Vec<String> =
                parts.iter().enumerate().map(part).collect::<Result<_, _>>()?;
            Ok(Some(match &texts[..] {
                [] => "".into(),
                [one] => one.as_str().into(),
                all => Json::Array(all.iter().map(|text| text_part(text)).collect()),
            }))
        }
        other => {
            let message =
                format!("must be a string or an array of parts, but is {}", type_name(other));
            Err(fields.error("content", message))
        }
    }
}

fn text_part(text: &str) -> Json {
    Json::from([("type", "text".into()), ("text", text.into())])
}

/// The text of a part of a content.
fn part_text(fields: &Fields<'_>, i: usize, part: &Value) -> ApiResult<String> {
    let name = format!("content[{i}]");
    let Value::Object(map) = part else {
        return Err(
            fields.error(&name, format_args!("must be an object, but is {}", type_name(part)))
        );
    };
    let path = format!("{}.", fields.name(&name));
    let part = Fields::within(map, &path);
    let field = match part.str("type")? {
        Some("text") => "text",
        Some("refusal") => "refusal",
        Some(kind @ ("image_url" | "input_image" | "input_audio" | "file")) => {
            return Err(
                part.error("type", format_args!("is `{kind}`, but the model reads texts only"))
            );
        }
        Some(kind) => {
            return Err(part.error("type", format_args!("must be `text`, but is `{kind}`")));
        }
        None => return Err(part.error("type", "is required")),
    };
    part.str(field)?.map(str::to_owned).ok_or_else(|| part.error(field, "is required"))
}

/// Calls of an answer, with arguments as objects, which templates want.
fn tool_calls(fields: &Fields<'_>, calls: &[Value]) -> ApiResult<Json> {
    let mut all = Vec::with_capacity(calls.len());
    for (i, call) in calls.iter().enumerate() {
        let name = format!("tool_calls[{i}]");
        let function = call.get("function").and_then(Value::as_object);
        let Some(function) = function else {
            return Err(fields.error(&name, "must be an object with a `function`"));
        };
        let path = format!("{}.function.", fields.name(&name));
        let function = Fields::within(function, &path);
        if function.str("name")?.is_none() {
            return Err(function.error("name", "is required"));
        }
        let mut call = to_template(call);
        if let Some(Value::String(text)) = function.get("arguments")
            && let Ok(object @ Json::Object(_)) = Json::parse(text.as_bytes())
            && let Some(place) = entry(&mut call, "function").and_then(|f| entry(f, "arguments"))
        {
            if let Some(number) = rounded(text) {
                let what = "of which 64 bits don't hold all digits";
                return Err(function.error("arguments", format_args!("has {number}, {what}")));
            }
            *place = object;
        }
        all.push(call);
    }
    Ok(Json::Array(all))
}

fn entry<'j>(json: &'j mut Json, name: &str) -> Option<&'j mut Json> {
    match json {
        Json::Object(entries) => {
            entries.iter_mut().find(|(n, _)| n == name).map(|(_, value)| value)
        }
        _ => None,
    }
}

/// Makes strings of contents that are lists of texts, for templates that know no lists.
pub(crate) fn join_parts(messages: &mut [Message]) {
    for message in messages {
        if matches!(message.get("content"), Some(Json::Array(_))) {
            let text = text_of(message.get("content"));
            *message = message.clone().with("content", text);
        }
    }
}

/// Reads `tools`.
///
/// # Errors
/// [`ApiError`], which names the tool.
pub(crate) fn tools(fields: &Fields<'_>) -> ApiResult<Vec<Tool>> {
    let list = fields.array("tools")?.unwrap_or_default();
    if list.len() > MAX_TOOLS {
        return Err(fields.error("tools", format_args!("may have at most {MAX_TOOLS} tools")));
    }
    let mut all: Vec<Tool> = Vec::with_capacity(list.len());
    for (i, value) in list.iter().enumerate() {
        let path = format!("tools[{i}].");
        let Value::Object(map) = value else {
            return Err(ApiError::field(format!("tools[{i}]"), "must be an object"));
        };
        let fields = Fields::within(map, &path);
        match fields.str("type")? {
            Some("function") => {}
            Some(kind) => {
                return Err(
                    fields.error("type", format_args!("must be `function`, but is `{kind}`"))
                );
            }
            None => return Err(fields.error("type", "is required")),
        }
        let Some(function) = fields.object("function")? else {
            return Err(fields.error("function", "is required"));
        };
        let path = format!("tools[{i}].function.");
        let function = Fields::within(function, &path);
        let name = function.str("name")?.filter(|name| !name.is_empty());
        let Some(name) = name else { return Err(function.error("name", "is required")) };
        if all.iter().any(|tool| tool.name == name) {
            return Err(function.error("name", format_args!("is `{name}`, as an earlier tool's")));
        }
        let parameters = function.object("parameters")?;
        let parameters = parameters.map(fields_to_template);
        all.push(Tool { name: name.into(), parameters, json: to_template(value) });
    }
    Ok(all)
}

/// Reads `tool_choice`.
///
/// # Errors
/// [`ApiError`] for an unknown choice, or one that no tool fulfils.
pub(crate) fn tool_choice(fields: &Fields<'_>, tools: &[Tool]) -> ApiResult<ToolChoice> {
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
        Some(Value::Object(map)) => {
            let named = map.get("function").and_then(|f| f.get("name")).and_then(Value::as_str);
            match (map.get("type").and_then(Value::as_str), named) {
                (Some("function") | None, Some(name)) => ToolChoice::Named(name.into()),
                _ => {
                    return error(
                        "must name a function, as {\"type\": \"function\", \"function\": \
                         {\"name\": \"f\"}} does"
                            .into(),
                    );
                }
            }
        }
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

/// Reads `response_format` and the fields `json_schema`, `regex` and `grammar`, of which one may be
/// there: the language of the answer, and the field that has it.
///
/// # Errors
/// [`ApiError`], which names the field.
pub(crate) fn grammar(fields: &Fields<'_>) -> ApiResult<Option<(Grammar, String)>> {
    let mut found: Option<(Grammar, String)> = response_format(fields)?;
    let mut add = |name: &str, grammar: Grammar| match &found {
        Some((_, other)) => Err(fields.error(name, format_args!("can't stand beside {other}"))),
        None => {
            found = Some((grammar, name.to_owned()));
            Ok(())
        }
    };
    for name in ["json_schema", "guided_json"] {
        if let Some(schema) = fields.get(name) {
            add(name, schema_of(fields, name, schema)?)?;
        }
    }
    for name in ["regex", "guided_regex"] {
        if let Some(regex) = fields.str(name)? {
            add(name, Grammar::Regex(regex.into()))?;
        }
    }
    // Programs of llama.cpp's kind send an empty grammar for none.
    for name in ["grammar", "guided_grammar"] {
        if let Some(grammar) = fields.str(name)?.filter(|text| !text.is_empty()) {
            add(name, Grammar::Lark(grammar.into()))?;
        }
    }
    // An answer that is held to nothing would be worse than none.
    for name in ["guided_choice", "structured_outputs"] {
        if fields.get(name).is_some() {
            let what = "is not supported: use `json_schema`, `regex` or `grammar`";
            return Err(fields.error(name, what));
        }
    }
    Ok(found)
}

/// A schema: an object or a boolean.
pub(crate) fn schema_of(fields: &Fields<'_>, name: &str, schema: &Value) -> ApiResult<Grammar> {
    match schema {
        Value::Object(_) | Value::Bool(_) => Ok(Grammar::JsonSchema(schema.to_string())),
        // Some programs send the schema as text.
        Value::String(text) if crate::json::parse(text.as_bytes()).is_ok_and(|v| v.is_object()) => {
            Ok(Grammar::JsonSchema(text.clone()))
        }
        other => Err(fields.error(
            name,
            format_args!("must be a JSON schema, which is an object, but is {}", type_name(other)),
        )),
    }
}

fn response_format(fields: &Fields<'_>) -> ApiResult<Option<(Grammar, String)>> {
    let Some(format) = fields.object("response_format")? else { return Ok(None) };
    let format = Fields::within(format, "response_format.");
    let grammar = match format.str("type")? {
        Some("text") => return Ok(None),
        Some("json_object") => match format.get("schema") {
            Some(schema) => schema_of(&format, "schema", schema)?,
            None => Grammar::JsonObject,
        },
        Some("json_schema") => {
            let Some(map) = format.object("json_schema")? else {
                // llama.cpp's place of it.
                return match format.get("schema") {
                    Some(schema) => {
                        let grammar = schema_of(&format, "schema", schema)?;
                        Ok(Some((grammar, "response_format".into())))
                    }
                    None => Err(format.error("json_schema", "is required")),
                };
            };
            let inner = Fields::within(map, "response_format.json_schema.");
            match inner.get("schema") {
                Some(schema) => schema_of(&inner, "schema", schema)?,
                // Without a schema any JSON will do.
                None => Grammar::JsonSchema("{}".into()),
            }
        }
        Some(other) => {
            return Err(format.error(
                "type",
                format_args!("must be `text`, `json_object` or `json_schema`, but is `{other}`"),
            ));
        }
        None => return Err(format.error("type", "is required")),
    };
    Ok(Some((grammar, "response_format".into())))
}

/// Reads `chat_template_kwargs` and `reasoning_effort`: variables of the template.
///
/// # Errors
/// [`ApiError`] for a variable that other fields set.
pub(crate) fn variables(fields: &Fields<'_>) -> ApiResult<Vec<(String, Json)>> {
    let mut all = Vec::new();
    if let Some(map) = fields.object("chat_template_kwargs")? {
        let inner = Fields::within(map, "chat_template_kwargs.");
        for (name, value) in map {
            if ["messages", "tools", "documents", "add_generation_prompt"].contains(&name.as_str())
            {
                return Err(inner.error(name, "can't be set here: it is a variable of its own"));
            }
            all.push((name.clone(), to_template(value)));
        }
    }
    if let Some(effort) = fields.str("reasoning_effort")?
        && !all.iter().any(|(name, _)| name == "reasoning_effort")
    {
        all.push(("reasoning_effort".into(), effort.into()));
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read<T>(body: Value, f: impl Fn(&Fields<'_>) -> ApiResult<T>) -> ApiResult<T> {
        f(&Fields::of_body(&body)?)
    }

    fn refused<T>(body: Value, f: impl Fn(&Fields<'_>) -> ApiResult<T>) -> (String, String) {
        let Err(e) = read(body, f) else { panic!("not refused") };
        assert_eq!(e.status.as_u16(), 400);
        (e.param.unwrap_or_default(), e.message)
    }

    #[test]
    fn messages_of_every_form() {
        let body = json!({"messages": [
            {"role": "developer", "content": "Be brief."},
            {"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "role": "user"},
            {"role": "assistant", "content": null, "tool_calls": [
                {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{\"x\": 1}"}}
            ]},
            {"role": "tool", "tool_call_id": "1", "content": [{"type": "text", "text": "ok"}]},
            {"role": "user", "content": null, "name": "Ada"},
        ]});
        let (mut all, prefill) = read(body, messages).unwrap();
        assert_eq!(prefill, None);
        assert_eq!(all[0], Message::system("Be brief."));
        assert!(matches!(all[1].get("content"), Some(Json::Array(parts)) if parts.len() == 2));
        let calls = all[2].get("tool_calls").unwrap().to_string();
        assert!(calls.contains(r#""arguments": {"x": 1}"#) && all[2].get("content").is_none());
        assert_eq!(all[3].text(), Some("ok"));
        assert_eq!(
            (all[4].text(), all[4].get("name").and_then(Json::as_str)),
            (Some(""), Some("Ada"))
        );
        join_parts(&mut all);
        assert_eq!(all[1].text(), Some("a\nb"));
    }

    #[test]
    fn a_last_message_of_the_assistant_is_continued() {
        let user = json!({"role": "user", "content": "x"});
        let answer = json!({"role": "assistant", "content": "So"});
        let (all, prefill) = read(json!({"messages": [user, answer]}), messages).unwrap();
        assert_eq!((all.len(), prefill.as_deref()), (1, Some("So")));
        let body = json!({"messages": [user, answer, answer]});
        assert_eq!(refused(body, messages).0, "messages");
        assert_eq!(refused(json!({"messages": [answer]}), messages).0, "messages");
    }

    #[test]
    fn messages_that_are_none_are_named() {
        for (list, param) in [
            (Value::Null, "messages"),
            (json!("hi"), "messages"),
            (json!([]), "messages"),
            (json!([1]), "messages[0]"),
            (json!([{"content": "x"}]), "messages[0].role"),
            (json!([{"role": 1, "content": "x"}]), "messages[0].role"),
            (json!([{"role": "user"}]), "messages[0].content"),
            (json!([{"role": "user", "content": 5}]), "messages[0].content"),
            (json!([{"role": "user", "content": ["x"]}]), "messages[0].content[0]"),
            (json!([{"role": "user", "content": [{"type": "x"}]}]), "messages[0].content[0].type"),
            (
                json!([{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]),
                "messages[0].content[0].type",
            ),
            (
                json!([{"role": "user", "content": [{"type": "text"}]}]),
                "messages[0].content[0].text",
            ),
            (json!([{"role": "assistant", "tool_calls": 1}]), "messages[0].tool_calls"),
            (json!([{"role": "assistant", "tool_calls": [{}]}]), "messages[0].tool_calls[0]"),
            (
                json!([{"role": "assistant", "tool_calls": [{"function": {}}]}]),
                "messages[0].tool_calls[0].function.name",
            ),
        ] {
            assert_eq!(refused(json!({"messages": list}), messages).0, param, "{list}");
        }
        assert_eq!(refused(json!({}), messages).1, "'messages': is required");
    }

    #[test]
    fn tools_and_their_choice() {
        let tool =
            json!({"type": "function", "function": {"name": "f", "parameters": {"b": 1, "a": 2}}});
        let all = read(json!({"tools": [tool]}), tools).unwrap();
        assert_eq!(all[0].name, "f");
        assert_eq!(all[0].parameters.as_ref().unwrap().to_string(), r#"{"b": 1, "a": 2}"#);
        for (list, param) in [
            (json!({}), "tools"),
            (json!([1]), "tools[0]"),
            (json!([{"function": {}}]), "tools[0].type"),
            (json!([{"type": "web"}]), "tools[0].type"),
            (json!([{"type": "function"}]), "tools[0].function"),
            (json!([{"type": "function", "function": {}}]), "tools[0].function.name"),
            (json!([tool, tool]), "tools[1].function.name"),
        ] {
            assert_eq!(refused(json!({"tools": list}), tools).0, param, "{list}");
        }
        let choose = |choice: Value| read(json!({"tool_choice": choice}), |f| tool_choice(f, &all));
        assert_eq!(choose(Value::Null), Ok(ToolChoice::Auto));
        assert_eq!(choose(json!("none")), Ok(ToolChoice::None));
        assert_eq!(choose(json!("required")), Ok(ToolChoice::Required));
        let named = json!({"type": "function", "function": {"name": "f"}});
        assert_eq!(choose(named.clone()), Ok(ToolChoice::Named("f".into())));
        for bad in [json!("zzz"), json!(1), json!({}), json!({"function": {"name": "g"}})] {
            assert_eq!(choose(bad).unwrap_err().param.as_deref(), Some("tool_choice"));
        }
        let body = json!({"tool_choice": "required"});
        assert_eq!(refused(body, |f| tool_choice(f, &[])).0, "tool_choice");
    }

    #[test]
    fn formats_of_answers() {
        let of = |format: Value| read(json!({"response_format": format}), grammar);
        let schema = json!({"type": "object", "properties": {"b": {}, "a": {}}});
        let wanted = Grammar::JsonSchema(schema.to_string());
        assert_eq!(of(Value::Null), Ok(None));
        assert_eq!(of(json!({"type": "text"})), Ok(None));
        let named = |grammar| Ok(Some((grammar, "response_format".to_owned())));
        assert_eq!(of(json!({"type": "json_object"})), named(Grammar::JsonObject));
        let inner = json!({"name": "x", "schema": schema, "strict": true});
        assert_eq!(of(json!({"type": "json_schema", "json_schema": inner})), named(wanted.clone()));
        assert_eq!(of(json!({"type": "json_object", "schema": schema})), named(wanted.clone()));
        for bad in [
            json!("json_object"),
            json!({}),
            json!({"type": "xml"}),
            json!({"type": "json_schema"}),
            json!({"type": "json_schema", "json_schema": {"schema": 1}}),
        ] {
            assert!(of(bad.clone()).is_err(), "{bad}");
        }
        let got = read(json!({"json_schema": schema}), grammar).unwrap().unwrap();
        assert_eq!(got, (wanted, "json_schema".into()));
        let got = read(json!({"regex": "a+"}), grammar).unwrap().unwrap();
        assert_eq!(got, (Grammar::Regex("a+".into()), "regex".into()));
        let both = json!({"regex": "a+", "grammar": "start: \"a\""});
        assert_eq!(refused(both, grammar).0, "grammar");
    }

    #[test]
    fn variables_of_templates() {
        let body =
            json!({"chat_template_kwargs": {"enable_thinking": false}, "reasoning_effort": "low"});
        let all = read(body, variables).unwrap();
        assert_eq!(all[0], ("enable_thinking".into(), Json::Bool(false)));
        assert_eq!(all[1], ("reasoning_effort".into(), "low".into()));
        let body = json!({"chat_template_kwargs": {"messages": []}});
        assert_eq!(refused(body, variables).0, "chat_template_kwargs.messages");
    }
}
