//! Lines of a batch's input: a prompt, and how it is continued.

use teff::Generate;
#[cfg(feature = "chat")]
use teff::runtime::chat::Message;
use teff::runtime::json::{Event, JsonError, Reader, Text};
use teff::runtime::sample::SamplingError;
#[cfg(feature = "chat")]
use teff::runtime::template::Json;

use super::form::{self, Form};
use crate::cmd::args::nearest;
use crate::cmd::json::string;

/// Names of the members of a line.
const NAMES: [&str; 27] = [
    "id",
    "prompt",
    "messages",
    "tools",
    "chat_template_kwargs",
    "max_tokens",
    "max_completion_tokens",
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "seed",
    "stop",
    "presence_penalty",
    "frequency_penalty",
    "repeat_penalty",
    "repetition_penalty",
    "repeat_last_n",
    "logit_bias",
    "ignore_eos",
    "response_format",
    "json_schema",
    "regex",
    "grammar",
    // Those of requests to a server, which are refused for a reason.
    "n",
    "stream",
    "logprobs",
];

/// Prompt of a line.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Prompt {
    Text(String),
    Tokens(Vec<u32>),
    /// Messages of a conversation, tools, and variables of the template.
    #[cfg(feature = "chat")]
    Conversation {
        messages: Vec<Message>,
        tools: Option<Vec<Json>>,
        variables: Vec<(String, Json)>,
    },
}

/// Line of the input.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Line {
    /// The member `id` as it was written, in JSON.
    pub(super) id: Option<String>,
    /// The prompt and how it is continued, or the reason why it isn't.
    pub(super) ask: Result<(Prompt, Generate, Own), String>,
}

/// What a line says in place of the options.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct Own {
    /// Form of its text.
    pub(super) form: Option<Form>,
    /// True if it has a limit of tokens.
    pub(super) limited: bool,
}

/// JSON value that borrows from its document.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Value<'a> {
    Null,
    Bool(bool),
    Number(&'a str),
    String(Text<'a>),
    Array(Vec<Value<'a>>),
    Object(Vec<(Text<'a>, Value<'a>)>),
}

impl<'a> Value<'a> {
    /// The value that begins with this event. (The reader limits the depth.)
    fn read(reader: &mut Reader<'a>, first: Event<'a>) -> Result<Value<'a>, JsonError> {
        Ok(match first {
            Event::Null => Value::Null,
            Event::Bool(b) => Value::Bool(b),
            Event::Number(text) => Value::Number(text),
            Event::String(text) => Value::String(text),
            Event::ObjectStart => {
                let mut members = Vec::new();
                while let Some(Event::Key(key)) = reader.next()? {
                    let Some(first) = reader.next()? else { break };
                    members.push((key, Value::read(reader, first)?));
                }
                Value::Object(members)
            }
            Event::ArrayStart => {
                let mut items = Vec::new();
                while let Some(event) = reader.next()? {
                    if event == Event::ArrayEnd {
                        break;
                    }
                    items.push(Value::read(reader, event)?);
                }
                Value::Array(items)
            }
            // Ends of what begins above, and keys, which are read there.
            Event::ObjectEnd | Event::ArrayEnd | Event::Key(_) => Value::Null,
        })
    }

    /// Member of an object; null counts as absent. Of equal names the last counts.
    pub(super) fn get(&self, name: &str) -> Option<&Value<'a>> {
        let Value::Object(members) = self else { return None };
        let member = members.iter().rev().find(|(key, _)| key.is(name));
        member.map(|(_, value)| value).filter(|value| **value != Value::Null)
    }

    /// Appends the value as JSON, with numbers as they were written.
    pub(super) fn write(&self, out: &mut String) {
        match self {
            Value::Null => out.push_str("null"),
            Value::Bool(b) => out.push_str(if *b { "true" } else { "false" }),
            Value::Number(text) => out.push_str(text),
            Value::String(text) => out.push_str(&string(&text.to_cow())),
            Value::Array(items) => {
                out.push('[');
                for (i, item) in items.iter().enumerate() {
                    out.push_str(if i == 0 { "" } else { ", " });
                    item.write(out);
                }
                out.push(']');
            }
            Value::Object(members) => {
                out.push('{');
                for (i, (key, value)) in members.iter().enumerate() {
                    out.push_str(if i == 0 { "" } else { ", " });
                    out.push_str(&string(&key.to_cow()));
                    out.push_str(": ");
                    value.write(out);
                }
                out.push('}');
            }
        }
    }

    /// The value in a message.
    pub(super) fn shown(&self) -> String {
        const MOST: usize = 60;
        match self {
            Value::Null => "null".into(),
            Value::Bool(b) => b.to_string(),
            Value::Number(text) if text.len() <= MOST => (*text).into(),
            Value::Number(_) => "a number of many digits".into(),
            Value::String(text) => {
                let mut chars = text.chars();
                let start: String = chars.by_ref().take(MOST).collect();
                string(&start) + if chars.next().is_some() { "..." } else { "" }
            }
            Value::Array(_) => "an array".into(),
            Value::Object(_) => "an object".into(),
        }
    }
}

/// The line that these bytes are; what it doesn't say about sampling is as in `defaults`.
pub(super) fn parse(bytes: &[u8], defaults: &Generate) -> Line {
    match document(bytes) {
        Err(e) => Line { id: None, ask: Err(format!("the line is not JSON: {e}")) },
        Ok(Value::String(text)) => {
            let prompt = Prompt::Text(text.to_cow().into_owned());
            Line { id: None, ask: Ok((prompt, defaults.clone(), Own::default())) }
        }
        Ok(Value::Object(members)) => {
            let id = members.iter().rev().find(|(key, _)| key.is("id")).map(|(_, id)| id);
            let (id, bad) = match id {
                None | Some(Value::Null) => (None, None),
                Some(Value::String(text)) => (Some(string(&text.to_cow())), None),
                Some(Value::Number(text)) => (Some((*text).to_owned()), None),
                Some(other) => (None, Some(refused("id", other, "a text or a number"))),
            };
            let ask = match bad {
                Some(bad) => Err(bad),
                None => ask(bytes, &members, defaults),
            };
            Line { id, ask }
        }
        Ok(other) => {
            let what = format!(
                "the line is {}: it must be an object with a prompt or messages, or a text",
                other.shown()
            );
            Line { id: None, ask: Err(what) }
        }
    }
}

fn document(bytes: &[u8]) -> Result<Value<'_>, JsonError> {
    let mut reader = Reader::new(bytes);
    // A document is never empty: that is an error.
    let Some(first) = reader.next()? else { return Ok(Value::Null) };
    let value = Value::read(&mut reader, first)?;
    // What follows it is an error, too.
    while reader.next()?.is_some() {}
    Ok(value)
}

pub(super) fn refused(name: &str, value: &Value<'_>, allowed: &str) -> String {
    format!("{name} is {}: it must be {allowed}", value.shown())
}

/// The prompt of a line's members, and how it is continued. Of equal names the last counts.
fn ask(
    bytes: &[u8],
    members: &[(Text<'_>, Value<'_>)],
    defaults: &Generate,
) -> Result<(Prompt, Generate, Own), String> {
    let mut generate = defaults.clone();
    let mut prompt = None;
    let mut own = Own { form: form::read(members)?, limited: false };
    let (mut messages, mut of_messages) = (false, None);
    for (key, value) in members {
        let name = &*key.to_cow();
        match (name, value) {
            ("prompt", Value::Null) => prompt = None,
            ("messages", value) => messages = *value != Value::Null,
            ("prompt", value) => prompt = Some(text_or_tokens(value)?),
            ("tools" | "chat_template_kwargs", value) => {
                of_messages = of_messages.or((*value != Value::Null).then(|| name.to_owned()));
            }
            ("id", _) => {}
            (name, _) if form::NAMES.contains(&name) => {}
            (_, Value::Null) if NAMES.contains(&name) => {}
            _ => {
                own.limited |= matches!(name, "max_tokens" | "max_completion_tokens");
                set(&mut generate, name, value)?;
            }
        }
    }
    generate.sampling.validate().map_err(|e| match e {
        SamplingError::Parameter { name, got, allowed } => {
            format!("{name} is {got}: it must be {allowed}")
        }
        e => e.to_string(),
    })?;
    if let Some(name) = of_messages.filter(|_| !messages) {
        return Err(format!("{name}: it belongs to messages, of which the line has none"));
    }
    let prompt = match (prompt, messages) {
        (Some(_), true) => Err("the line has a prompt and messages: leave one of them out".into()),
        (Some(prompt), false) => Ok(prompt),
        (None, true) => conversation(bytes),
        (None, false) => Err("the line has no prompt and no messages".into()),
    };
    Ok((prompt?, generate, own))
}

/// A prompt: a text, or an array of tokens.
fn text_or_tokens(value: &Value<'_>) -> Result<Prompt, String> {
    let allowed = "a text, or an array of token ids";
    match value {
        Value::String(text) => Ok(Prompt::Text(text.to_cow().into_owned())),
        Value::Array(items) => {
            let id = |item: &Value<'_>| match item {
                Value::Number(text) => text.parse().ok(),
                _ => None,
            };
            let ids: Option<Vec<u32>> = items.iter().map(id).collect();
            ids.map(Prompt::Tokens).ok_or_else(|| refused("prompt", value, allowed))
        }
        _ => Err(refused("prompt", value, allowed)),
    }
}

/// Sets what a member says about sampling.
fn set(generate: &mut Generate, name: &str, value: &Value<'_>) -> Result<(), String> {
    let s = &mut generate.sampling;
    match name {
        "max_tokens" | "max_completion_tokens" => {
            generate.max_tokens = Some(whole(name, value)?);
        }
        "temperature" => s.temperature = number(name, value)?,
        "top_p" => s.top_p = number(name, value)?,
        "min_p" => s.min_p = number(name, value)?,
        "presence_penalty" => s.presence_penalty = number(name, value)?,
        "frequency_penalty" => s.frequency_penalty = number(name, value)?,
        "repeat_penalty" | "repetition_penalty" => s.repeat_penalty = number(name, value)?,
        "top_k" => s.top_k = whole(name, value)?,
        "repeat_last_n" => {
            s.repeat_last_n = match value {
                Value::Number("-1") => usize::MAX,
                _ => whole(name, value)?,
            }
        }
        "seed" => {
            let allowed = "a whole number from 0 to 2^64 - 1";
            let seed = match value {
                Value::Number(text) => text.parse().ok(),
                _ => None,
            };
            s.seed = seed.ok_or_else(|| refused(name, value, allowed))?;
        }
        "stop" => generate.stop = stops(value)?,
        "logit_bias" => generate.logit_bias = biases(value)?,
        "ignore_eos" => match value {
            Value::Bool(b) => generate.ignore_eos = *b,
            _ => return Err(refused(name, value, "true or false")),
        },
        "n" if *value == Value::Number("1") => {}
        "n" => return Err("n: each line has one answer: repeat it with other seeds".into()),
        "stream" | "logprobs" if *value == Value::Bool(false) => {}
        "stream" | "logprobs" => {
            return Err(format!("{name}: a batch has none: leave it out"));
        }
        unknown => {
            let near = nearest(unknown, NAMES);
            let near = near.map_or_else(String::new, |near| format!(": did you mean {near}?"));
            return Err(format!("the line has an unknown member {}{near}", string(unknown)));
        }
    }
    Ok(())
}

fn number(name: &str, value: &Value<'_>) -> Result<f32, String> {
    let parsed = match value {
        Value::Number(text) => text.parse().ok(),
        _ => None,
    };
    parsed.ok_or_else(|| refused(name, value, "a number"))
}

fn whole(name: &str, value: &Value<'_>) -> Result<usize, String> {
    let parsed = match value {
        Value::Number(text) => text.parse().ok(),
        _ => None,
    };
    parsed.ok_or_else(|| refused(name, value, "a whole number from 0 up"))
}

/// Stop strings: one text, or an array of them.
fn stops(value: &Value<'_>) -> Result<Vec<String>, String> {
    let allowed = "a text or an array of texts, of at least one character each";
    let one = |item: &Value<'_>| match item {
        Value::String(text) => Some(text.to_cow().into_owned()).filter(|text| !text.is_empty()),
        _ => None,
    };
    let all: Option<Vec<String>> = match value {
        Value::Array(items) => items.iter().map(one).collect(),
        item => one(item).map(|stop| vec![stop]),
    };
    all.ok_or_else(|| refused("stop", value, allowed))
}

/// Biases: an object of token ids and numbers.
fn biases(value: &Value<'_>) -> Result<Vec<(u32, f32)>, String> {
    let allowed = "an object of token ids and numbers, such as {\"50256\": -100}";
    let one = |(id, bias): &(Text<'_>, Value<'_>)| match bias {
        Value::Number(bias) => Some((id.to_cow().parse().ok()?, bias.parse().ok()?)),
        _ => None,
    };
    let all = match value {
        Value::Object(members) => members.iter().map(one).collect(),
        _ => None,
    };
    all.ok_or_else(|| refused("logit_bias", value, allowed))
}

/// The conversation of a line, whose members are JSON for the template.
#[cfg(feature = "chat")]
fn conversation(bytes: &[u8]) -> Result<Prompt, String> {
    let line = Json::parse(bytes).map_err(|e| format!("the line is not JSON: {e}"))?;
    let Json::Object(members) = line else { return Err("the line has no messages".into()) };
    let (mut messages, mut tools, mut variables) = (Vec::new(), None, Vec::new());
    for (name, value) in members {
        match (&*name, value) {
            ("messages", Json::Array(all)) => {
                for (index, message) in all.into_iter().enumerate() {
                    let message = Message::from_json(message);
                    messages.push(message.map_err(|e| match e {
                        teff::runtime::chat::MessageError::NoRole { .. } => {
                            format!("message {index} has no role that is a text, such as user")
                        }
                        _ => format!("message {index} is not an object"),
                    })?);
                }
            }
            ("messages", _) => return Err("messages must be an array of messages".into()),
            ("tools", Json::Array(all)) if all.iter().all(|t| matches!(t, Json::Object(_))) => {
                tools = Some(all);
            }
            ("tools", Json::Null) => {}
            ("tools", _) => return Err("tools must be an array of objects".into()),
            ("chat_template_kwargs", Json::Object(all)) => variables = all,
            ("chat_template_kwargs", Json::Null) => {}
            ("chat_template_kwargs", _) => {
                return Err("chat_template_kwargs must be an object".into());
            }
            _ => {}
        }
    }
    let own = ["messages", "tools", "documents", "add_generation_prompt"];
    if let Some(name) = own.into_iter().find(|own| variables.iter().any(|(n, _)| n == own)) {
        return Err(format!("chat_template_kwargs can't set {name}"));
    }
    if messages.is_empty() {
        return Err("there is no message in messages".into());
    }
    Ok(Prompt::Conversation { messages, tools, variables })
}

#[cfg(not(feature = "chat"))]
fn conversation(_: &[u8]) -> Result<Prompt, String> {
    Err("messages are not in this build: build with the feature `chat`".into())
}

#[cfg(test)]
mod tests {
    use super::super::form::Source;
    use super::*;

    fn ask(line: &str) -> Result<(Prompt, Generate, Own), String> {
        parse(line.as_bytes(), &Generate::default().with_max_tokens(128)).ask
    }

    fn generate(line: &str) -> Generate {
        ask(line).unwrap().1
    }

    #[test]
    fn prompts_are_texts_tokens_or_objects() {
        let text = |line: &str| match ask(line).unwrap().0 {
            Prompt::Text(text) => text,
            other => panic!("{other:?}"),
        };
        assert_eq!(text(r#""a\n\u00e9""#), "a\né");
        assert_eq!(text(r#" {"prompt": "x", "id": 7, "prompt": "a"} "#), "a");
        assert_eq!(text(r#"{"messages": null, "prompt": "a"}"#), "a");
        assert_eq!(ask(r#"{"prompt": [1, 2]}"#).unwrap().0, Prompt::Tokens(vec![1, 2]));
        let id = |line: &str| parse(line.as_bytes(), &Generate::default()).id;
        assert_eq!(id(r#"{"prompt": "a", "id": "x\"y"}"#).unwrap(), r#""x\"y""#);
        assert_eq!(
            id(r#"{"prompt": "a", "id": 12345678901234567890}"#).unwrap(),
            "12345678901234567890"
        );
        assert_eq!(id(r#"{"prompt": "a", "id": null}"#), None);
        // The name of a line is known whatever else is wrong with it.
        assert_eq!(id(r#"{"top_q": 1, "id": "k"}"#).unwrap(), r#""k""#);
    }

    #[test]
    fn members_say_how_to_sample() {
        let how = generate(
            r#"{"prompt": "a", "max_tokens": 3, "temperature": 0.5, "top_p": 0.9, "top_k": 7,
                "min_p": 0.1, "seed": 18446744073709551615, "stop": ["x", "y"],
                "presence_penalty": -1, "frequency_penalty": 1e-1, "repetition_penalty": 1.1,
                "repeat_last_n": -1, "logit_bias": {"5": -100}, "ignore_eos": true, "n": 1,
                "stream": false, "logprobs": null}"#,
        );
        let s = how.sampling;
        assert_eq!((how.max_tokens, s.temperature, s.top_p), (Some(3), 0.5, 0.9));
        assert_eq!((s.top_k, s.min_p, s.seed, s.repeat_last_n), (7, 0.1, u64::MAX, usize::MAX));
        assert_eq!((s.presence_penalty, s.frequency_penalty, s.repeat_penalty), (-1.0, 0.1, 1.1));
        assert_eq!((how.stop, how.logit_bias), (vec!["x".into(), "y".into()], vec![(5, -100.0)]));
        assert!(how.ignore_eos);
        assert_eq!(generate(r#"{"prompt": "a", "stop": "x"}"#).stop, ["x"]);
        assert_eq!(generate(r#"{"prompt": "a", "max_tokens": null}"#).max_tokens, Some(128));
    }

    #[test]
    fn members_say_what_the_text_is_held_to() {
        let form =
            |members: &str| ask(&format!("{{\"prompt\": \"a\", {members}}}")).unwrap().2.form;
        let held = |source: Source, name: &str| Some(Form::Held(source, name.into()));
        let schema = |text: &str, name: &str| held(Source::JsonSchema(text.into()), name);
        let text = r#"{"const": 12345678901234567890123, "a": [1.50, null, "\"\u0007"]}"#;
        assert_eq!(form(&format!("\"json_schema\": {text}")), schema(text, "json_schema"));
        assert_eq!(form(r#""json_schema": "{}""#), schema("{}", "json_schema"));
        assert_eq!(form(r#""regex": "a\\d""#), held(Source::Regex("a\\d".into()), "regex"));
        let lark = held(Source::Grammar("start: /a/".into()), "grammar");
        assert_eq!(form(r#""grammar": "start: /a/""#), lark);
        assert_eq!(form(r#""grammar": "", "regex": null"#), None);
        let of = |format: &str| form(&format!("\"response_format\": {format}"));
        assert_eq!(of(r#"{"type": "text"}"#), Some(Form::Free));
        let name = "response_format";
        assert_eq!(of(r#"{"type": "json_object"}"#), held(Source::JsonObject, name));
        for format in [
            r#"{"type": "json_schema", "json_schema": {"name": "x", "schema": {"a": 1}}}"#,
            r#"{"type": "json_schema", "schema": {"a": 1}}"#,
            r#"{"type": "json_object", "schema": {"a": 1}}"#,
        ] {
            assert_eq!(of(format), schema(r#"{"a": 1}"#, name), "{format}");
        }
        let free = r#"{"type": "json_schema", "json_schema": {"name": "x"}}"#;
        assert_eq!(of(free), schema("{}", name));
        for (members, says) in [
            (r#""regex": "a", "json_schema": {}"#, "json_schema and regex both say"),
            (r#""regex": 5"#, "regex is 5: it must be a text"),
            (r#""grammar": {}"#, "grammar is an object"),
            (r#""json_schema": [1]"#, "json_schema is an array"),
            (r#""response_format": "json""#, "response_format is \"json\""),
            (r#""response_format": {}"#, "response_format is an object"),
            (r#""response_format": {"type": "xml"}"#, "response_format.type is \"xml\""),
            (r#""response_format": {"type": "json_schema"}"#, "response_format.json_schema isn't"),
            (
                r#""response_format": {"type": "json_object", "schema": 1}"#,
                "response_format.schema is 1",
            ),
            (r#""reges": "a""#, "did you mean regex?"),
        ] {
            let why = ask(&format!("{{\"prompt\": \"a\", {members}}}")).unwrap_err();
            assert!(why.contains(says), "{members}: {why}");
        }
        assert!(ask(r#"{"prompt": "a", "max_tokens": 5}"#).unwrap().2.limited);
        assert!(!ask(r#"{"prompt": "a", "max_tokens": null}"#).unwrap().2.limited);
    }

    #[test]
    fn errors_name_the_member() {
        for (line, says) in [
            ("", "not JSON"),
            ("{", "not JSON"),
            (r#"{"prompt": "a"} x"#, "not JSON"),
            ("\"\\ud800\"", "not JSON"),
            ("[]", "the line is an array"),
            ("7", "the line is 7"),
            ("{}", "no prompt and no messages"),
            (r#"{"prompt": "a", "messages": []}"#, "leave one of them out"),
            (r#"{"prompt": "a", "tools": []}"#, "tools: it belongs to messages"),
            (r#"{"prompt": [1, "a"]}"#, "prompt is an array"),
            (r#"{"prompt": [4294967296]}"#, "prompt is an array"),
            (r#"{"prompt": "a", "id": {}}"#, "id is an object"),
            (r#"{"prompt": "a", "temprature": 1}"#, "did you mean temperature?"),
            (r#"{"prompt": "a", "answer": 1}"#, "unknown member \"answer\""),
            (r#"{"prompt": "a", "temperature": "hot"}"#, "temperature is \"hot\""),
            (r#"{"prompt": "a", "temperature": -1}"#, "temperature is -1"),
            (r#"{"prompt": "a", "temperature": 1e99}"#, "temperature is inf"),
            (r#"{"prompt": "a", "top_p": 0}"#, "top_p is 0"),
            (r#"{"prompt": "a", "max_tokens": -1}"#, "max_tokens is -1"),
            (r#"{"prompt": "a", "max_tokens": 1.5}"#, "max_tokens is 1.5"),
            (r#"{"prompt": "a", "seed": -1}"#, "seed is -1"),
            (r#"{"prompt": "a", "stop": ""}"#, "stop is \"\""),
            (r#"{"prompt": "a", "stop": ["x", 1]}"#, "stop is an array"),
            (r#"{"prompt": "a", "logit_bias": {"x": 1}}"#, "logit_bias is an object"),
            (r#"{"prompt": "a", "ignore_eos": 1}"#, "ignore_eos is 1"),
            (r#"{"prompt": "a", "n": 2}"#, "repeat it"),
            (r#"{"prompt": "a", "stream": true}"#, "stream"),
        ] {
            let why = ask(line).unwrap_err();
            assert!(why.contains(says), "{line}: {why}");
        }
    }

    #[cfg(feature = "chat")]
    #[test]
    fn conversations_have_messages_tools_and_variables() {
        let line = r#"{"messages": [{"role": "user", "content": "Hi!"}], "tools": [{"name": "f"}],
            "chat_template_kwargs": {"enable_thinking": false}, "max_tokens": 4}"#;
        let (prompt, how, _) = ask(line).unwrap();
        let Prompt::Conversation { messages, tools, variables } = prompt else { panic!() };
        assert_eq!((messages, how.max_tokens), (vec![Message::user("Hi!")], Some(4)));
        assert_eq!((tools.unwrap().len(), variables[0].1.clone()), (1, Json::Bool(false)));
        for (line, says) in [
            (r#"{"messages": []}"#, "no message"),
            (r#"{"messages": "Hi!"}"#, "an array"),
            (r#"{"messages": [{"role": "user"}, 1]}"#, "message 1 is not an object"),
            (r#"{"messages": [{"content": "a"}]}"#, "message 0 has no role"),
            (r#"{"messages": [{"role": "user"}], "tools": {}}"#, "tools must be"),
            (r#"{"messages": [{"role": "user"}], "chat_template_kwargs": 1}"#, "an object"),
            (
                r#"{"messages": [{"role": "user"}], "chat_template_kwargs": {"messages": 1}}"#,
                "can't set messages",
            ),
        ] {
            let why = ask(line).unwrap_err();
            assert!(why.contains(says), "{line}: {why}");
        }
    }
}
