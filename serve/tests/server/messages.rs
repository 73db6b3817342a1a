//! `/v1/messages`.

use serde_json::{Value, json};

use crate::common::{Running, options, start};
use crate::responses::{named_events, schema, unsupported};

const PATH: &str = "/v1/messages";

fn body(more: Value) -> Value {
    let mut body = json!({
        "messages": [{ "role": "user", "content": "Tell me of a cat." }], "max_tokens": 12, "seed": 5,
    });
    for (key, value) in more.as_object().expect("an object") {
        body[key] = value.clone();
    }
    body
}

fn tool() -> Value {
    json!({ "name": "paint", "description": "Paints.", "input_schema": schema() })
}

#[test]
fn an_answer_has_the_fields_that_clients_need() {
    let server = start(options());
    let answer = server.ok(PATH, &body(json!({ "model": "claude", "system": "Be kind." })));
    assert_eq!((&answer["type"], &answer["role"]), (&json!("message"), &json!("assistant")));
    assert_eq!(answer["model"], "story");
    assert!(answer["id"].as_str().is_some_and(|id| id.starts_with("msg_")));
    assert_eq!(
        (&answer["stop_reason"], &answer["stop_sequence"]),
        (&json!("max_tokens"), &Value::Null)
    );
    let content = answer["content"].as_array().expect("blocks");
    assert_eq!((content.len(), &content[0]["type"]), (1, &json!("text")));
    assert!(content[0]["text"].as_str().is_some_and(|text| !text.is_empty()));
    let usage = &answer["usage"];
    assert_eq!(usage["output_tokens"], 12);
    let n = |name: &str| usage[name].as_u64().expect("a number");
    let count = body(json!({ "system": "Be kind.", "max_tokens": null }));
    let count = server.ok("/v1/messages/count_tokens", &count);
    assert_eq!(count, json!({ "input_tokens": n("input_tokens") + n("cache_read_input_tokens") }));
}

#[test]
fn the_text_is_that_of_a_chat() {
    let server = start(options());
    let messages = json!([
        { "role": "user", "content": [{ "type": "text", "text": "Hi.", "cache_control": { "type": "ephemeral" } }] },
        { "role": "assistant", "content": [
            { "type": "thinking", "thinking": "Hm.", "signature": "" },
            { "type": "text", "text": "Hello." },
            { "type": "tool_use", "id": "toolu_1", "name": "f", "input": { "a": 1 } }] },
        { "role": "user", "content": [
            { "type": "tool_result", "tool_use_id": "toolu_1", "content": [{ "type": "text", "text": "one" }] },
            { "type": "text", "text": "Tell me of a cat." }] },
    ]);
    let system =
        json!([{ "type": "text", "text": "Be kind." }, { "type": "text", "text": "Be brief." }]);
    let answer = server.ok(PATH, &body(json!({ "messages": messages, "system": system })));
    let messages = json!([
        { "role": "system", "content": "Be kind.\nBe brief." },
        { "role": "user", "content": "Hi." },
        { "role": "assistant", "content": "Hello.", "reasoning_content": "Hm.", "tool_calls": [{
            "id": "toolu_1", "type": "function",
            "function": { "name": "f", "arguments": "{\"a\": 1}" } }] },
        { "role": "tool", "tool_call_id": "toolu_1", "content": "one" },
        { "role": "user", "content": "Tell me of a cat." },
    ]);
    let chat = json!({ "messages": messages, "max_tokens": 12, "seed": 5 });
    let chat = server.ok("/v1/chat/completions", &chat);
    assert_eq!(answer["content"][0]["text"], chat["choices"][0]["message"]["content"]);
}

/// The message that a stream's events make.
fn joined(events: &[(String, Value)]) -> Value {
    let names: Vec<&str> = events.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(&names[..2], ["message_start", "ping"]);
    assert_eq!(&names[names.len() - 2..], ["message_delta", "message_stop"]);
    let mut message = events[0].1["message"].clone();
    assert_eq!((&message["content"], &message["stop_reason"]), (&json!([]), &Value::Null));
    assert!(message["usage"]["input_tokens"].as_u64().is_some_and(|n| n > 0));
    let mut json = String::new();
    let mut open = false;
    for (name, event) in &events[2..events.len() - 1] {
        let content = message["content"].as_array_mut().expect("blocks");
        let index = event["index"].as_u64().map(|i| i as usize);
        match name.as_str() {
            "content_block_start" => {
                assert!(!open && index == Some(content.len()));
                content.push(event["content_block"].clone());
                open = true;
            }
            "content_block_delta" => {
                assert!(open && index == Some(content.len() - 1));
                let (block, delta) = (content.last_mut().expect("a block"), &event["delta"]);
                match delta["type"].as_str().expect("a type") {
                    "text_delta" => {
                        let text = block["text"].as_str().expect("a text").to_owned();
                        block["text"] = json!(text + delta["text"].as_str().expect("a text"));
                    }
                    "input_json_delta" => json += delta["partial_json"].as_str().expect("a text"),
                    other => panic!("{other}"),
                }
            }
            "content_block_stop" => {
                assert!(open && index == Some(content.len() - 1));
                open = false;
                let block = content.last_mut().expect("a block");
                if block["type"] == "tool_use" {
                    block["input"] =
                        serde_json::from_str(&std::mem::take(&mut json)).expect("JSON");
                }
            }
            "message_delta" => {
                assert!(!open);
                for key in ["stop_reason", "stop_sequence"] {
                    message[key] = event["delta"][key].clone();
                }
                message["usage"]["output_tokens"] = event["usage"]["output_tokens"].clone();
            }
            other => panic!("{other}"),
        }
    }
    message
}

fn streamed(server: &Running, body: &Value) -> Value {
    let mut body = body.clone();
    body["stream"] = json!(true);
    joined(&named_events(&server.post(PATH, &body)))
}

/// Ids are random, and the prompt may come from the cache.
fn comparable(message: &Value) -> Value {
    let mut message = message.clone();
    let map = message.as_object_mut().expect("an object");
    map.remove("id");
    map["usage"] = map["usage"]["output_tokens"].clone();
    for block in map["content"].as_array_mut().expect("blocks") {
        block.as_object_mut().expect("a block").remove("id");
    }
    message
}

#[test]
fn a_stream_makes_the_same_message() {
    let server = start(options());
    for more in [
        json!({}),
        json!({ "max_tokens": 0 }),
        json!({ "tools": [tool()], "tool_choice": { "type": "any" }, "max_tokens": 100 }),
    ] {
        let whole = server.ok(PATH, &body(more.clone()));
        assert_eq!(comparable(&streamed(&server, &body(more))), comparable(&whole));
    }
}

#[test]
fn tools_can_be_forced() {
    let server = start(options());
    for choice in [
        json!({ "type": "any" }),
        json!({ "type": "tool", "name": "paint", "disable_parallel_tool_use": true }),
    ] {
        let more = json!({ "tools": [tool()], "tool_choice": choice, "max_tokens": 100 });
        let answer = server.ok(PATH, &body(more));
        assert_eq!(answer["stop_reason"], "tool_use");
        let content = answer["content"].as_array().expect("blocks");
        assert_eq!(content.len(), 1, "{answer}");
        assert_eq!(
            (&content[0]["type"], &content[0]["name"]),
            (&json!("tool_use"), &json!("paint"))
        );
        assert!(content[0]["id"].as_str().is_some_and(|id| id.starts_with("toolu_")));
        assert!(content[0]["input"]["big"].is_boolean());
    }
}

#[test]
fn stop_sequences_are_named() {
    let server = start(options());
    let text = server.ok(PATH, &body(json!({})))["content"][0]["text"]
        .as_str()
        .expect("a text")
        .to_owned();
    let (at, stop) =
        text.char_indices().skip(8).find(|(_, c)| c.is_alphabetic()).expect("a letter");
    let first = text.find(stop).expect("it is there");
    assert!(first <= at);
    let answer = server.ok(PATH, &body(json!({ "stop_sequences": [stop.to_string()] })));
    assert_eq!(answer["stop_reason"], "stop_sequence");
    assert_eq!(answer["stop_sequence"], stop.to_string());
    assert_eq!(answer["content"][0]["text"], text[..first]);
}

#[test]
fn an_answer_can_be_begun() {
    let server = start(options());
    let messages = json!([
        { "role": "user", "content": "Tell me of a cat." },
        { "role": "assistant", "content": "Once upon a time" },
    ]);
    let answer = server.ok(PATH, &body(json!({ "messages": messages })));
    let chat = json!({ "messages": messages, "max_tokens": 12, "seed": 5 });
    let chat = server.ok("/v1/chat/completions", &chat);
    let begun = chat["choices"][0]["message"]["content"].as_str().expect("a text");
    assert_eq!(answer["content"][0]["text"].as_str(), begun.strip_prefix("Once upon a time"));
}

#[test]
fn errors_have_the_interface_s_own_form() {
    let server = start(options());
    let user = |content: Value| json!({ "messages": [{ "role": "user", "content": content }] });
    for (more, says) in [
        (json!({ "max_tokens": null }), "'max_tokens': is required"),
        (json!({ "max_tokens": "x" }), "'max_tokens'"),
        (json!({ "messages": null }), "'messages': is required"),
        (json!({ "messages": [] }), "'messages'"),
        (json!({ "messages": [{ "content": "x" }] }), "'messages[0].role': is required"),
        (json!({ "messages": [{ "role": "tool", "content": "x" }] }), "'messages[0].role'"),
        (json!({ "messages": [{ "role": "user" }] }), "'messages[0].content': is required"),
        (json!({ "messages": [{ "role": "assistant", "content": "x" }] }), "'messages'"),
        (user(json!([{ "type": "image" }])), "'messages[0].content[0].type': is `image`"),
        (user(json!([{ "type": "text" }])), "'messages[0].content[0].text': is required"),
        (
            user(json!([{ "type": "tool_result" }])),
            "'messages[0].content[0].tool_use_id': is required",
        ),
        (json!({ "system": 1 }), "'system'"),
        (json!({ "tools": [{ "name": "f" }] }), "'tools[0].input_schema': is required"),
        (json!({ "tools": [{ "type": "bash_20250124", "name": "bash" }] }), "'tools[0].type'"),
        (json!({ "tool_choice": { "type": "any" } }), "'tool_choice.type'"),
        (
            json!({ "tools": [tool()], "tool_choice": { "type": "tool", "name": "g" } }),
            "'tool_choice.name'",
        ),
        (json!({ "stop_sequences": "x" }), "'stop_sequences'"),
        (json!({ "thinking": { "type": "maybe" } }), "'thinking.type'"),
        (json!({ "mcp_servers": [{}] }), "'mcp_servers': is not supported"),
    ] {
        let answer = server.post(PATH, &body(more.clone()));
        assert_eq!(answer.status, 400, "{more}");
        let error = answer.json();
        assert_eq!(
            (&error["type"], &error["error"]["type"]),
            (&json!("error"), &json!("invalid_request_error"))
        );
        let message = error["error"]["message"].as_str().expect("a message");
        assert!(message.contains(says), "{more}: {message}");
    }
    let answer = server.request("POST", PATH, &[], b"{");
    assert_eq!((answer.status, &answer.json()["type"]), (400, &json!("error")));
    let locked = start(options().with_api_key("secret"));
    let answer = locked.post(PATH, &body(json!({})));
    let kind = &answer.json()["error"]["type"];
    assert_eq!((answer.status, kind), (401, &json!("authentication_error")));
    assert_eq!(answer.json()["type"], "error");
    let headers = [("x-api-key", "secret"), ("anthropic-version", "2023-06-01")];
    let answer = locked.request("POST", PATH, &headers, body(json!({})).to_string().as_bytes());
    assert_eq!(answer.status, 200);
    let ignored =
        json!({ "metadata": { "user_id": "u" }, "service_tier": "auto", "mcp_servers": [] });
    server.ok(PATH, &body(ignored));
}

#[test]
fn what_would_give_another_text_is_refused_with_advice() {
    let server = start(options());
    let body = |more: &Value| {
        let mut body = body(more.clone());
        body["max_tokens"] = json!(0);
        body
    };
    let text = json!({ "type": "text" });
    let clears = json!({ "edits": [{ "type": "clear_tool_uses_20250919" }] });
    let keeps = json!({ "edits": [{ "type": "clear_thinking_20251015", "keep": "all" }] });
    let cases = [
        ("container", json!(["", {}]), json!(["c", { "skills": [{}] }])),
        ("mcp_servers", json!([[]]), json!([[{ "url": "x" }]])),
        ("context_management", json!([{}, { "edits": [] }, keeps]), json!([clears, "x"])),
        ("compaction", json!([]), json!([{}])),
        ("thread", json!([{ "type": "create" }]), json!([{}, { "id": "t" }])),
        ("stop", json!(["", []]), json!(["a", ["a"]])),
        ("max_output_tokens", json!([-1]), json!([5])),
        ("max_completion_tokens", json!([-1]), json!([5])),
        ("n_predict", json!([-1]), json!([5])),
        ("response_format", json!([text]), json!([{ "type": "json_object" }])),
        ("json_schema", json!([]), json!([{}])),
        ("guided_json", json!([]), json!([{}])),
        ("structured_outputs", json!([]), json!([{}])),
        ("regex", json!([]), json!(["a"])),
        ("grammar", json!([""]), json!(["start: /a/"])),
        ("guided_regex", json!([]), json!(["a"])),
        ("guided_grammar", json!([""]), json!(["start: /a/"])),
        ("guided_choice", json!([]), json!([["a"]])),
        ("reasoning", json!([{}]), json!([{ "effort": "low" }])),
        ("reasoning_effort", json!([]), json!(["low"])),
        ("logprobs", json!([false]), json!([true])),
        ("top_logprobs", json!([0]), json!([5])),
        ("n", json!([1]), json!([2])),
        ("best_of", json!([0, 1]), json!([2])),
        ("instructions", json!([""]), json!(["Be kind."])),
        ("parallel_tool_calls", json!([true]), json!([false])),
        ("add_generation_prompt", json!([true]), json!([false])),
        ("output_config.task_budget", json!([]), json!([{ "type": "tokens", "total": 9 }])),
        // Those of other servers, as for chats.
        ("mirostat", json!([0]), json!([2])),
        ("min_tokens", json!([0]), json!([4])),
        ("functions", json!([[]]), json!([[{ "name": "f" }]])),
    ];
    for path in [PATH, "/v1/messages/count_tokens"] {
        let ok = |more: &Value| drop(server.ok(path, &body(more)));
        unsupported(&cases, ok, |more| {
            let error = server.refused(path, &body(more), 400);
            error["message"].as_str().unwrap_or_default().to_owned()
        });
    }
    for (more, says) in [
        (
            json!({ "type": "adaptive", "display": "omitted" }),
            "'thinking.display': is not supported",
        ),
        (json!({ "type": "maybe" }), "'thinking.type'"),
    ] {
        let error = server.refused(PATH, &body(&json!({ "thinking": more })), 400);
        assert!(error["message"].as_str().is_some_and(|m| m.starts_with(says)), "{error}");
    }
    // What clients always send beside it.
    let thinking = json!({ "type": "enabled", "budget_tokens": 1024, "display": "summarized" });
    server.ok(PATH, &body(&json!({ "thinking": thinking, "output_config": { "effort": "low" } })));
    for (name, off, on) in [
        ("defer_loading", json!(false), json!(true)),
        ("allowed_callers", json!(["direct"]), json!(["code_execution_20250825"])),
        ("input_examples", json!([]), json!([{ "big": true }])),
    ] {
        let with = |value: &Value| {
            let mut tool = tool();
            tool[name] = value.clone();
            body(&json!({ "tools": [tool] }))
        };
        server.ok(PATH, &with(&off));
        let error = server.refused(PATH, &with(&on), 400);
        let says = format!("'tools[0].{name}': is not supported: ");
        assert!(error["message"].as_str().is_some_and(|m| m.starts_with(&says)), "{error}");
    }
}
