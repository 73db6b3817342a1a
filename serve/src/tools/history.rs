//! The history of a conversation in the form that the template of a format expects.
//!
//! Clients send it as OpenAI's interface has it: arguments of calls as text, several calls in one
//! message, ids of any form. Templates want arguments as objects (as transformers documents it), and some
//! have wishes of their own.

use std::collections::BTreeMap;

use teff_runtime::chat::Message;
use teff_runtime::template::Json;

use super::format::Format;
use crate::error::{ApiError, ApiResult};
use crate::job::Tool;

/// Length of the ids that Mistral's templates accept.
const MISTRAL_ID: usize = 9;

/// Converts messages for the template of `format`. Those of tools, and calls, are checked.
///
/// # Errors
/// [`ApiError`] for calls and results that are malformed, which names the message.
pub(crate) fn convert(format: Format, messages: Vec<Message>) -> ApiResult<Vec<Message>> {
    let mut all = Vec::with_capacity(messages.len());
    // Names of functions by the ids of their calls.
    let mut names: BTreeMap<String, String> = BTreeMap::new();
    for (i, message) in messages.into_iter().enumerate() {
        match message.role() {
            "assistant" => {
                let message = answer(&message, i)?;
                for (id, name) in calls(&message).iter().filter_map(id_and_name) {
                    names.insert(id, name);
                }
                all.push(message);
            }
            "tool" => all.push(result(message, i, &names)?),
            _ => all.push(message),
        }
    }
    Ok(match format {
        Format::MistralList | Format::MistralId | Format::MistralArgs => short_ids(all),
        Format::Harmony => one_call_each(all).into_iter().map(one_content).collect(),
        Format::Llama => one_call_each(all),
        Format::Generic => as_text(all),
        _ => all,
    })
}

/// Instructions for a model whose template doesn't show it the tools.
pub(crate) fn instructions(tools: &[Tool]) -> String {
    let mut text = String::from("You can call these functions:\n");
    for tool in tools {
        let function = tool.json.get("function").unwrap_or(&tool.json);
        text.push_str(&function.to_string());
        text.push('\n');
    }
    text.push_str(
        "To call one, answer with {\"name\": <its name>, \"arguments\": <object>} and nothing else. \
         If none is needed, answer in plain text.",
    );
    text
}

/// Adds instructions to the conversation: to the system's message if there is one, or else before the
/// first message, since not every template knows a system.
pub(crate) fn instruct(messages: &mut [Message], instructions: &str) {
    let Some(first) = messages.first_mut() else { return };
    let text = content(first);
    let system = first.role() == "system";
    let both = match (text.is_empty(), system) {
        (true, _) => instructions.to_owned(),
        (false, true) => format!("{text}\n\n{instructions}"),
        (false, false) => format!("{instructions}\n\n{text}"),
    };
    *first = first.clone().with("content", both);
}

/// The text of a message.
fn content(message: &Message) -> String {
    match message.get("content") {
        Some(Json::String(text)) => text.clone(),
        Some(Json::Array(parts)) => {
            let texts = parts.iter().filter_map(|part| part.get("text").and_then(Json::as_str));
            texts.collect::<Vec<_>>().join("\n")
        }
        _ => String::new(),
    }
}

/// The calls of a message.
fn calls(message: &Message) -> &[Json] {
    match message.get("tool_calls") {
        Some(Json::Array(calls)) => calls,
        _ => &[],
    }
}

fn name(call: &Json) -> &str {
    let function = call.get("function").unwrap_or(call);
    function.get("name").and_then(Json::as_str).unwrap_or_default()
}

fn id_and_name(call: &Json) -> Option<(String, String)> {
    Some((call.get("id")?.as_str()?.to_owned(), name(call).to_owned()))
}

/// The message with another list of calls, or without any.
fn with_calls(message: &Message, calls: Vec<Json>) -> Message {
    if !calls.is_empty() {
        return message.clone().with("tool_calls", Json::Array(calls));
    }
    let fields = message.fields().iter().filter(|(name, _)| name != "tool_calls");
    let without = Message::from_json(Json::Object(fields.cloned().collect()));
    without.unwrap_or_else(|_| message.clone())
}

/// A message of the assistant, with arguments as objects, and a content even if there are only calls.
fn answer(message: &Message, i: usize) -> ApiResult<Message> {
    let mut converted = Vec::with_capacity(calls(message).len());
    for (j, call) in calls(message).iter().enumerate() {
        let at = format!("messages[{i}].tool_calls[{j}].function");
        let name = name(call);
        if name.is_empty() {
            return Err(ApiError::field(format!("{at}.name"), "is required"));
        }
        let function = call.get("function").unwrap_or(call);
        let arguments = match function.get("arguments") {
            None | Some(Json::Null) => Json::Object(Vec::new()),
            Some(Json::String(text)) if text.trim().is_empty() => Json::Object(Vec::new()),
            Some(Json::String(text)) => match Json::parse(text.as_bytes()) {
                Ok(object @ Json::Object(_)) => object,
                Ok(_) => {
                    let message = "must be the text of a JSON object";
                    return Err(ApiError::field(format!("{at}.arguments"), message));
                }
                Err(e) => {
                    let message = format!("must be the text of a JSON object: {e}");
                    return Err(ApiError::field(format!("{at}.arguments"), message));
                }
            },
            Some(object @ Json::Object(_)) => object.clone(),
            Some(_) => {
                let message = "must be a string, the text of a JSON object";
                return Err(ApiError::field(format!("{at}.arguments"), message));
            }
        };
        let mut fields = Vec::new();
        if let Some(id) = call.get("id").filter(|id| !id.is_null()) {
            fields.push(("id".to_owned(), id.clone()));
        }
        fields.push(("type".to_owned(), "function".into()));
        let function = vec![("name".to_owned(), name.into()), ("arguments".to_owned(), arguments)];
        fields.push(("function".to_owned(), Json::Object(function)));
        converted.push(Json::Object(fields));
    }
    let message = with_calls(message, converted);
    // Templates ask the content whether something is in it.
    Ok(match message.get("content") {
        None | Some(Json::Null) => message.with("content", ""),
        _ => message,
    })
}

/// The result of a call, with the name of its function.
fn result(message: Message, i: usize, names: &BTreeMap<String, String>) -> ApiResult<Message> {
    let id = match message.get("tool_call_id") {
        Some(Json::String(id)) => id.clone(),
        None | Some(Json::Null) => {
            let message = "is required in the result of a call";
            return Err(ApiError::field(format!("messages[{i}].tool_call_id"), message));
        }
        Some(_) => {
            let message = "must be a string";
            return Err(ApiError::field(format!("messages[{i}].tool_call_id"), message));
        }
    };
    let named = message.get("name").and_then(Json::as_str).is_some();
    // Templates put the content between other text.
    let text = content(&message);
    let message = message.with("content", text);
    Ok(match names.get(&id).filter(|_| !named) {
        Some(name) => message.with("name", name.as_str()),
        None => message,
    })
}

/// Replaces ids that aren't nine letters or digits by numbers of as many digits.
fn short_ids(messages: Vec<Message>) -> Vec<Message> {
    let fits = |id: &str| id.len() == MISTRAL_ID && id.bytes().all(|b| b.is_ascii_alphanumeric());
    let mut taken: Vec<String> = Vec::new();
    for message in &messages {
        taken.extend(calls(message).iter().filter_map(id_and_name).map(|(id, _)| id));
    }
    let mut short: BTreeMap<String, String> = BTreeMap::new();
    let mut number = 0;
    let mut id = |id: Option<&str>| -> String {
        match id {
            Some(id) if fits(id) => id.to_owned(),
            id => {
                let mut fresh = || loop {
                    number += 1;
                    let id = format!("{number:0MISTRAL_ID$}");
                    if !taken.contains(&id) {
                        return id;
                    }
                };
                match id {
                    Some(id) => short.entry(id.to_owned()).or_insert_with(fresh).clone(),
                    None => fresh(),
                }
            }
        }
    };
    let mut all = Vec::with_capacity(messages.len());
    for message in messages {
        let calls: Vec<Json> = calls(&message)
            .iter()
            .map(|call| {
                let id = id(call.get("id").and_then(Json::as_str));
                let mut call = call.clone();
                set(&mut call, "id", id.into());
                call
            })
            .collect();
        let answers = message.get("tool_call_id").and_then(Json::as_str).map(str::to_owned);
        let message = if calls.is_empty() { message } else { with_calls(&message, calls) };
        all.push(match answers {
            Some(answers) => message.with("tool_call_id", id(Some(&answers))),
            None => message,
        });
    }
    all
}

/// Sets a field of an object; a new one comes first.
fn set(object: &mut Json, name: &str, value: Json) {
    let Json::Object(fields) = object else { return };
    match fields.iter_mut().find(|(n, _)| n == name) {
        Some(field) => field.1 = value,
        None => fields.insert(0, (name.to_owned(), value)),
    }
}

/// Splits answers with several calls into answers with one, each before its result, for templates that
/// know no others.
fn one_call_each(messages: Vec<Message>) -> Vec<Message> {
    let mut all = Vec::with_capacity(messages.len());
    let mut messages = messages.into_iter().peekable();
    while let Some(message) = messages.next() {
        let several = calls(&message).to_vec();
        if several.len() < 2 {
            all.push(message);
            continue;
        }
        let mut results = Vec::new();
        while let Some(result) = messages.next_if(|next| next.role() == "tool") {
            results.push(result);
        }
        for (i, call) in several.into_iter().enumerate() {
            let id = call.get("id").cloned();
            let one = with_calls(&message, vec![call]);
            // The text and the reasoning come once.
            all.push(if i == 0 { one } else { without_text(&one) });
            let mine = |result: &Message| id.is_some() && result.get("tool_call_id") == id.as_ref();
            let (own, others) = results.into_iter().partition(mine);
            results = others;
            all.extend::<Vec<Message>>(own);
        }
        all.extend(results);
    }
    all
}

/// The message with an empty text and no reasoning.
fn without_text(message: &Message) -> Message {
    const REASONING: [&str; 3] = ["reasoning_content", "thinking", "reasoning"];
    let fields = message.fields().iter().filter(|(name, _)| !REASONING.contains(&name.as_str()));
    let without = Message::from_json(Json::Object(fields.cloned().collect()));
    without.unwrap_or_else(|_| message.clone()).with("content", "")
}

/// An answer with calls that has either a text or reasoning: the template of gpt-oss takes no both, and
/// the reasoning is what the model needs to go on.
fn one_content(message: Message) -> Message {
    let reasons = ["reasoning_content", "thinking", "reasoning"]
        .iter()
        .any(|name| message.get(name).and_then(Json::as_str).is_some_and(|text| !text.is_empty()));
    if reasons && !calls(&message).is_empty() { message.with("content", "") } else { message }
}

/// Calls and results as texts of the assistant and of the user, for templates that don't know them.
fn as_text(messages: Vec<Message>) -> Vec<Message> {
    let mut all: Vec<Message> = Vec::with_capacity(messages.len());
    let mut results = String::new();
    for message in messages {
        if message.role() == "tool" {
            let function = message.get("name").and_then(Json::as_str).unwrap_or("the function");
            let more = format!("Result of {function}: {}", content(&message));
            results = if results.is_empty() { more } else { format!("{results}\n{more}") };
            continue;
        }
        if !results.is_empty() {
            let text = std::mem::take(&mut results);
            // Roles alternate in many templates.
            if message.role() == "user" {
                let own = content(&message);
                all.push(message.with("content", format!("{text}\n\n{own}")));
                continue;
            }
            all.push(Message::user(text));
        }
        if calls(&message).is_empty() {
            all.push(message);
            continue;
        }
        let mut text = content(&message);
        for call in calls(&message) {
            let function = call.get("function").unwrap_or(call);
            let separator = if text.is_empty() { "" } else { "\n" };
            text = format!("{text}{separator}{function}");
        }
        all.push(with_calls(&message, Vec::new()).with("content", text));
    }
    if !results.is_empty() {
        all.push(Message::user(results));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn converted(format: Format, json: &str) -> ApiResult<String> {
        let messages = Message::parse_list(json.as_bytes()).expect("messages");
        let all = convert(format, messages)?;
        let all = all.iter().map(|m| Json::Object(m.fields().to_vec()));
        Ok(Json::Array(all.collect()).to_string())
    }

    const TWO: &str = r#"[
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": null, "reasoning_content": "Hm", "tool_calls": [
            {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{\"b\": 1, \"a\": 2}"}},
            {"id": "call_2", "type": "function", "function": {"name": "g", "arguments": ""}}]},
        {"role": "tool", "tool_call_id": "call_2", "content": [{"type": "text", "text": "two"}]},
        {"role": "tool", "tool_call_id": "call_1", "content": "one"}
    ]"#;

    #[test]
    fn arguments_become_objects_and_results_have_names() {
        assert_eq!(
            converted(Format::Hermes, TWO).unwrap(),
            "[{\"role\": \"user\", \"content\": \"Hi\"}, \
             {\"role\": \"assistant\", \"content\": \"\", \"reasoning_content\": \"Hm\", \"tool_calls\": [\
             {\"id\": \"call_1\", \"type\": \"function\", \"function\": {\"name\": \"f\", \"arguments\": {\"b\": 1, \"a\": 2}}}, \
             {\"id\": \"call_2\", \"type\": \"function\", \"function\": {\"name\": \"g\", \"arguments\": {}}}]}, \
             {\"role\": \"tool\", \"tool_call_id\": \"call_2\", \"content\": \"two\", \"name\": \"g\"}, \
             {\"role\": \"tool\", \"tool_call_id\": \"call_1\", \"content\": \"one\", \"name\": \"f\"}]"
        );
    }

    #[test]
    fn ids_are_short_for_mistral() {
        let text = converted(Format::MistralId, TWO).unwrap();
        assert!(
            text.contains(r#""id": "000000001""#)
                && text.contains(r#""tool_call_id": "000000001""#)
        );
        assert!(text.contains(r#""id": "000000002""#) && !text.contains("\"call_"));
        let kept = TWO.replace("call_1", "abcdefghi").replace("call_2", "000000001");
        let text = converted(Format::MistralList, &kept).unwrap();
        assert!(
            text.contains("abcdefghi") && text.contains("000000001") && !text.contains("000000002")
        );
        let foreign = TWO.replace("call_1", "000000001");
        let text = converted(Format::MistralList, &foreign).unwrap();
        assert!(text.contains(r#""id": "000000002""#), "{text}");
    }

    #[test]
    fn calls_stand_alone_where_templates_know_no_others() {
        let text = converted(Format::Llama, TWO).unwrap();
        let order: Vec<usize> = ["call_1", "\"one\"", "call_2", "\"two\""]
            .iter()
            .map(|part| text.find(part).unwrap())
            .collect();
        assert!(order.is_sorted(), "{text}");
        assert_eq!(text.matches("tool_calls").count(), 2);
        assert_eq!(text.matches("Hm").count(), 1);
        let both = TWO.replace("\"content\": null", "\"content\": \"Wait.\"");
        assert!(converted(Format::Llama, &both).unwrap().contains("Wait."));
        assert!(!converted(Format::Harmony, &both).unwrap().contains("Wait."));
    }

    #[test]
    fn calls_are_text_where_templates_know_none() {
        let text = converted(Format::Generic, TWO).unwrap();
        assert!(
            text.contains(r#"{\"name\": \"f\", \"arguments\": {\"b\": 1, \"a\": 2}}"#),
            "{text}"
        );
        assert!(
            text.contains(r#"{"role": "user", "content": "Result of g: two\nResult of f: one"}"#)
        );
        assert!(!text.contains("tool"));
    }

    #[test]
    fn malformed_calls_are_named() {
        let call = |call: &str| format!(r#"[{{"role": "assistant", "tool_calls": [{call}]}}]"#);
        for (messages, param) in [
            (
                call(r#"{"function": {"arguments": "{}"}}"#),
                "messages[0].tool_calls[0].function.name",
            ),
            (
                call(r#"{"function": {"name": "f", "arguments": "{"}}"#),
                "messages[0].tool_calls[0].function.arguments",
            ),
            (
                call(r#"{"function": {"name": "f", "arguments": "[1]"}}"#),
                "messages[0].tool_calls[0].function.arguments",
            ),
            (
                call(r#"{"function": {"name": "f", "arguments": 1}}"#),
                "messages[0].tool_calls[0].function.arguments",
            ),
            (r#"[{"role": "tool", "content": "x"}]"#.into(), "messages[0].tool_call_id"),
            (r#"[{"role": "tool", "tool_call_id": 1}]"#.into(), "messages[0].tool_call_id"),
        ] {
            let e = converted(Format::Hermes, &messages).unwrap_err();
            assert_eq!((e.status.as_u16(), e.param.as_deref()), (400, Some(param)), "{messages}");
        }
        assert!(converted(Format::Hermes, r#"[{"role": "assistant", "tool_calls": []}]"#).is_ok());
    }

    #[test]
    fn instructions_join_the_first_message() {
        let mut messages = vec![Message::system("Be kind."), Message::user("Hi")];
        instruct(&mut messages, "Call f.");
        assert_eq!(messages[0].text(), Some("Be kind.\n\nCall f."));
        let mut messages = vec![Message::user("Hi")];
        instruct(&mut messages, "Call f.");
        assert_eq!(messages[0].text(), Some("Call f.\n\nHi"));
    }
}
