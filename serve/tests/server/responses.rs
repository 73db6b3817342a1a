//! `/v1/responses`.

use serde_json::{Value, json};

use crate::common::{Answer, Running, options, start};

const PATH: &str = "/v1/responses";

/// The events of a stream that ended well, with their names.
pub(crate) fn named_events(answer: &Answer) -> Vec<(String, Value)> {
    assert_eq!(answer.status, 200, "{}", answer.text());
    let kind = answer.header("content-type");
    assert!(kind.is_some_and(|kind| kind.starts_with("text/event-stream")), "{kind:?}");
    let text = answer.text();
    assert!(text.ends_with("\n\n"), "{text}");
    let mut events = Vec::new();
    for event in text.split("\n\n").filter(|event| !event.is_empty() && !event.starts_with(':')) {
        let event = event.strip_prefix("event: ").unwrap_or_else(|| panic!("{event}"));
        let (name, data) = event.split_once("\ndata: ").unwrap_or_else(|| panic!("{event}"));
        let data: Value = serde_json::from_str(data).expect(data);
        assert_eq!(data["type"], name);
        events.push((name.to_owned(), data));
    }
    events
}

/// A function whose arguments end soon, whatever a model writes.
pub(crate) fn schema() -> Value {
    json!({
        "type": "object",
        "properties": { "big": { "type": "boolean" } },
        "required": ["big"],
        "additionalProperties": false,
    })
}

fn body(more: Value) -> Value {
    let mut body = json!({ "input": "Tell me of a cat.", "max_output_tokens": 12, "seed": 5 });
    for (key, value) in more.as_object().expect("an object") {
        body[key] = value.clone();
    }
    body
}

fn tool() -> Value {
    json!({ "type": "function", "name": "paint", "description": "Paints.", "parameters": schema(),
            "strict": true })
}

/// Ids are random.
fn without_ids(mut value: Value) -> Value {
    match &mut value {
        Value::Object(map) => {
            for name in ["id", "item_id", "call_id", "created_at"] {
                map.remove(name);
            }
            for (_, value) in map.iter_mut() {
                *value = without_ids(value.take());
            }
        }
        Value::Array(items) => {
            items.iter_mut().for_each(|item| *item = without_ids(item.take()));
        }
        _ => {}
    }
    value
}

#[test]
fn an_answer_has_the_fields_that_clients_need() {
    let server = start(options());
    let answer =
        server.ok(PATH, &body(json!({ "instructions": "Be kind.", "metadata": { "a": "b" } })));
    assert_eq!((&answer["object"], &answer["model"]), (&json!("response"), &json!("story")));
    assert!(answer["id"].as_str().is_some_and(|id| id.starts_with("resp_")));
    assert!(answer["created_at"].as_u64().is_some_and(|t| t > 1_700_000_000));
    assert_eq!(answer["status"], "incomplete");
    assert_eq!(answer["incomplete_details"], json!({ "reason": "max_output_tokens" }));
    assert_eq!((&answer["error"], &answer["previous_response_id"]), (&Value::Null, &Value::Null));
    assert_eq!(
        (&answer["instructions"], &answer["metadata"]["a"]),
        (&json!("Be kind."), &json!("b"))
    );
    assert_eq!((&answer["tools"], &answer["tool_choice"]), (&json!([]), &json!("auto")));
    assert_eq!((&answer["parallel_tool_calls"], &answer["store"]), (&json!(true), &json!(false)));
    assert!(answer["temperature"].is_number() && answer["top_p"].is_number());
    assert_eq!(answer["text"], json!({ "format": { "type": "text" } }));
    let output = answer["output"].as_array().expect("items");
    assert_eq!(output.len(), 1);
    let item = &output[0];
    assert_eq!((&item["type"], &item["role"]), (&json!("message"), &json!("assistant")));
    assert_eq!(item["status"], "incomplete");
    assert!(item["id"].as_str().is_some_and(|id| id.starts_with("msg_")));
    let part = &item["content"][0];
    assert_eq!((&part["type"], &part["annotations"]), (&json!("output_text"), &json!([])));
    assert!(part["text"].as_str().is_some_and(|text| !text.is_empty()));
    let usage = &answer["usage"];
    let n = |name: &str| usage[name].as_u64().expect("a number");
    assert_eq!(n("output_tokens"), 12);
    assert_eq!(n("total_tokens"), n("input_tokens") + 12);
    assert_eq!(usage["input_tokens_details"]["cached_tokens"], 0);
    assert_eq!(usage["output_tokens_details"]["reasoning_tokens"], 0);
}

#[test]
fn the_text_is_that_of_a_chat() {
    let server = start(options());
    let input = json!([
        { "role": "developer", "content": "Be brief." },
        { "role": "user", "content": [{ "type": "input_text", "text": "Hi." }] },
        { "type": "message", "role": "assistant", "id": "msg_1", "status": "completed",
          "content": [{ "type": "output_text", "text": "Hello.", "annotations": [] }] },
        { "type": "function_call", "call_id": "call_1", "name": "f", "arguments": "{\"a\": 1}" },
        { "type": "function_call_output", "call_id": "call_1", "output": "one" },
        { "type": "reasoning", "id": "rs_1", "summary": [] },
        { "role": "user", "content": "Tell me of a cat." },
    ]);
    let answer = server.ok(PATH, &body(json!({ "input": input, "instructions": "Be kind." })));
    let messages = json!([
        { "role": "system", "content": "Be kind.\n\nBe brief." },
        { "role": "user", "content": "Hi." },
        { "role": "assistant", "content": "Hello.", "tool_calls": [{
            "id": "call_1", "type": "function",
            "function": { "name": "f", "arguments": "{\"a\": 1}" } }] },
        { "role": "tool", "tool_call_id": "call_1", "content": "one" },
        { "role": "user", "content": "Tell me of a cat." },
    ]);
    let chat = json!({ "messages": messages, "max_tokens": 12, "seed": 5 });
    let chat = server.ok("/v1/chat/completions", &chat);
    let text = &chat["choices"][0]["message"]["content"];
    assert_eq!(&answer["output"][0]["content"][0]["text"], text);
    assert_eq!(answer["usage"]["input_tokens"], chat["usage"]["prompt_tokens"]);
    // An answer at the end is no beginning of another.
    let mut input = input.as_array().expect("items").clone();
    input.push(json!({ "role": "assistant", "content": "Once" }));
    let more = server.ok(PATH, &body(json!({ "input": input })));
    assert!(more["usage"]["input_tokens"].as_u64() > answer["usage"]["input_tokens"].as_u64());
}

/// Checks the order and the numbers of a stream's events, and returns its last response.
fn check(events: &[(String, Value)]) -> Value {
    for (i, (_, event)) in events.iter().enumerate() {
        assert_eq!(event["sequence_number"], json!(i));
    }
    assert_eq!(events[0].0, "response.created");
    assert_eq!(events[1].0, "response.in_progress");
    assert_eq!(events[0].1["response"]["status"], "in_progress");
    let (_, last) = events.last().expect("events");
    let mut items: Vec<Value> = Vec::new();
    let mut open = false;
    for (name, event) in &events[2..events.len() - 1] {
        let index = event["output_index"].as_u64().expect(name) as usize;
        if name == "response.output_item.added" {
            assert!(!open && index == items.len());
            items.push(event["item"].clone());
            open = true;
            continue;
        }
        assert!(open && index == items.len() - 1, "{name}");
        let item = &mut items[index];
        if name != "response.output_item.done" {
            assert_eq!(event["item_id"], item["id"], "{name}");
        }
        let append = |text: &mut Value, delta: &Value| {
            let all =
                format!("{}{}", text.as_str().expect("a text"), delta.as_str().expect("a text"));
            *text = json!(all);
        };
        match name.as_str() {
            "response.content_part.added" => {
                assert_eq!(event["content_index"], 0);
                item["content"].as_array_mut().expect("parts").push(event["part"].clone());
            }
            "response.output_text.delta" => {
                assert_eq!(event["content_index"], 0);
                append(&mut item["content"][0]["text"], &event["delta"]);
                let more = event["logprobs"].as_array().expect("entries").clone();
                item["content"][0]["logprobs"].as_array_mut().expect("entries").extend(more);
            }
            "response.output_text.done" => {
                assert_eq!(event["text"], item["content"][0]["text"]);
                assert_eq!(event["logprobs"], item["content"][0]["logprobs"]);
            }
            "response.content_part.done" => assert_eq!(event["part"], item["content"][0]),
            "response.function_call_arguments.delta" => {
                append(&mut item["arguments"], &event["delta"])
            }
            "response.function_call_arguments.done" => {
                assert_eq!(event["arguments"], item["arguments"]);
                assert_eq!(event["name"], item["name"]);
            }
            "response.output_item.done" => {
                item["status"] = event["item"]["status"].clone();
                assert_eq!(&event["item"], item);
                open = false;
            }
            other => panic!("{other}"),
        }
    }
    assert!(!open);
    assert_eq!(last["response"]["output"], json!(items));
    assert_eq!(last["response"]["id"], events[0].1["response"]["id"]);
    last["response"].clone()
}

fn streamed(server: &Running, body: &Value) -> (Vec<(String, Value)>, Value) {
    let mut body = body.clone();
    body["stream"] = json!(true);
    let events = named_events(&server.post(PATH, &body));
    let response = check(&events);
    (events, response)
}

#[test]
fn a_stream_has_indices_and_numbers() {
    let server = start(options());
    let whole = server.ok(PATH, &body(json!({})));
    let (events, response) = streamed(&server, &body(json!({})));
    assert_eq!(events.last().expect("events").0, "response.incomplete");
    // The prompt may come from the cache.
    let comparable = |response: Value| {
        let mut response = without_ids(response);
        response["usage"]["input_tokens_details"].take();
        response
    };
    assert_eq!(comparable(response), comparable(whole));
}

#[test]
fn functions_can_be_forced() {
    let server = start(options());
    let more = json!({ "tools": [tool()], "tool_choice": "required", "max_output_tokens": 100 });
    let whole = server.ok(PATH, &body(more.clone()));
    assert_eq!(
        (&whole["status"], &whole["incomplete_details"]),
        (&json!("completed"), &Value::Null)
    );
    assert_eq!(whole["tools"][0]["parameters"], schema());
    let output = whole["output"].as_array().expect("items");
    assert_eq!(output.len(), 1, "{whole}");
    let call = &output[0];
    assert_eq!((&call["type"], &call["name"]), (&json!("function_call"), &json!("paint")));
    assert_eq!(call["status"], "completed");
    assert!(call["call_id"].as_str().is_some_and(|id| id.starts_with("call_")));
    let arguments: Value =
        serde_json::from_str(call["arguments"].as_str().expect("text")).expect("JSON");
    assert!(arguments["big"].is_boolean());
    let (events, response) = streamed(&server, &body(more));
    assert_eq!(without_ids(response["output"].clone()), without_ids(whole["output"].clone()));
    assert!(events.iter().any(|(name, _)| name == "response.function_call_arguments.delta"));
    let named = json!({ "tools": [tool()], "tool_choice": { "type": "function", "name": "paint" },
                        "max_output_tokens": 100 });
    let named = server.ok(PATH, &body(named));
    assert_eq!(named["output"][0]["name"], "paint");
    assert_eq!(named["tool_choice"], json!({ "type": "function", "name": "paint" }));
}

#[test]
fn text_can_be_json() {
    let server = start(options());
    let format = json!({ "type": "json_schema", "name": "x", "schema": schema(), "strict": true });
    let more = json!({ "text": { "format": format }, "max_output_tokens": 100 });
    let answer = server.ok(PATH, &body(more));
    let text = answer["output"][0]["content"][0]["text"].as_str().expect("a text");
    let value: Value = serde_json::from_str(text).expect("JSON");
    assert!(value["big"].is_boolean());
    assert_eq!(answer["text"]["format"], format);
}

#[test]
fn logprobs_come_with_the_text() {
    let server = start(options());
    let more = json!({ "include": ["message.output_text.logprobs"], "top_logprobs": 2 });
    let answer = server.ok(PATH, &body(more.clone()));
    let all = answer["output"][0]["content"][0]["logprobs"].as_array().expect("entries").clone();
    assert_eq!(all.len(), 12);
    assert!(
        all.iter().all(|e| e["logprob"].is_number()
            && e["top_logprobs"].as_array().is_some_and(|t| t.len() == 2))
    );
    let (_, response) = streamed(&server, &body(more));
    assert_eq!(response["output"][0]["content"][0]["logprobs"], json!(all));
}

#[test]
fn what_is_not_there_is_refused_by_name() {
    let server = start(options());
    for (more, param) in [
        (json!({ "previous_response_id": "resp_1" }), "previous_response_id"),
        (json!({ "conversation": "conv_1" }), "conversation"),
        (json!({ "prompt": { "id": "x" } }), "prompt"),
        (json!({ "background": true }), "background"),
        (json!({ "input": null }), "input"),
        (json!({ "input": 1 }), "input"),
        (json!({ "input": [] }), "input"),
        (json!({ "input": [1] }), "input[0]"),
        (json!({ "input": [{ "content": "x" }] }), "input[0].role"),
        (json!({ "input": [{ "role": "x", "content": "x" }] }), "input[0].role"),
        (json!({ "input": [{ "role": "user" }] }), "input[0].content"),
        (json!({ "input": [{ "type": "item_reference", "id": "x" }] }), "input[0].type"),
        (
            json!({ "input": [{ "role": "user", "content": [{ "type": "input_image" }] }] }),
            "input[0].content[0].type",
        ),
        (json!({ "input": [{ "type": "function_call", "name": "f" }] }), "input[0].call_id"),
        (
            json!({ "input": [{ "type": "function_call", "call_id": "c", "name": "f", "arguments": "{" }] }),
            "input[0].arguments",
        ),
        (
            json!({ "input": [{ "type": "function_call_output", "call_id": "c" }] }),
            "input[0].output",
        ),
        (json!({ "tools": [{ "type": "web_search" }] }), "tools[0].type"),
        (json!({ "tools": [{ "type": "function" }] }), "tools[0].name"),
        (json!({ "tools": [{ "type": "function", "name": "a b" }] }), "tools[0].name"),
        (json!({ "tools": [tool(), tool()] }), "tools[1].name"),
        (json!({ "tool_choice": "required" }), "tool_choice"),
        (json!({ "tool_choice": "maybe" }), "tool_choice"),
        (
            json!({ "tools": [tool()], "tool_choice": { "type": "function", "name": "g" } }),
            "tool_choice",
        ),
        (json!({ "text": { "format": { "type": "xml" } } }), "text.format.type"),
        (json!({ "text": { "format": { "type": "json_schema" } } }), "text.format.schema"),
        (json!({ "max_output_tokens": "many" }), "max_output_tokens"),
        (json!({ "instructions": 1 }), "instructions"),
        (json!({ "top_logprobs": 100 }), "top_logprobs"),
    ] {
        let error = server.refused(PATH, &body(more.clone()), 400);
        assert_eq!(error["param"], param, "{more} {error}");
    }
    // What names no state of the server's is ignored.
    let more = json!({ "store": true, "user": "u", "service_tier": "auto", "safety_identifier": "x",
                       "prompt_cache_key": "k", "metadata": { "a": "b" }, "unknown": 3,
                       "include": ["reasoning.encrypted_content"], "reasoning": { "effort": "low" } });
    assert_eq!(server.ok(PATH, &body(more))["output"].as_array().map(Vec::len), Some(1));
}

/// Sends each value that asks for nothing, and each that asks for what isn't there, by the name of its field.
pub(crate) fn unsupported(
    cases: &[(&str, Value, Value)],
    ok: impl Fn(&Value),
    message: impl Fn(&Value) -> String,
) {
    let body = |name: &str, value: &Value| {
        let mut names = name.rsplit('.');
        let mut value = json!({ names.next().expect("a name"): value });
        for outer in names {
            value = json!({ outer: value });
        }
        value
    };
    for (name, off, on) in cases {
        for value in off.as_array().expect("values").iter().chain([&Value::Null]) {
            ok(&body(name, value));
        }
        for value in on.as_array().expect("values") {
            let said = message(&body(name, value));
            let start = format!("'{name}': is not supported: ");
            assert!(said.starts_with(&start) && said.len() > start.len() + 5, "{value}: {said}");
        }
    }
}

#[test]
fn what_would_give_another_text_is_refused_with_advice() {
    let server = start(options());
    let body = |more: &Value| {
        let mut body = body(more.clone());
        body["max_output_tokens"] = json!(0);
        body
    };
    let text = json!({ "type": "text" });
    let schema = json!({ "type": "json_schema", "json_schema": { "schema": schema() } });
    let cases = [
        ("previous_response_id", json!([]), json!(["resp_1"])),
        ("conversation", json!([]), json!(["conv_1", { "id": "conv_1" }])),
        ("prompt", json!([]), json!([{ "id": "x" }])),
        ("background", json!([false]), json!([true])),
        ("max_tool_calls", json!([]), json!([3])),
        ("truncation", json!(["disabled"]), json!(["auto"])),
        ("context_management", json!([[]]), json!([[{ "type": "compaction" }]])),
        ("moderation", json!([]), json!([{ "model": "x" }])),
        ("image", json!([]), json!([{}])),
        ("messages", json!([]), json!([[{ "role": "user", "content": "x" }]])),
        ("max_tokens", json!([-1]), json!([5])),
        ("max_completion_tokens", json!([-1]), json!([5])),
        ("n_predict", json!([-1]), json!([5])),
        ("response_format", json!([text]), json!([schema, { "type": "json_object" }])),
        ("json_schema", json!([]), json!([{}])),
        ("guided_json", json!([]), json!([{}])),
        ("structured_outputs", json!([]), json!([{}])),
        ("regex", json!([]), json!(["a"])),
        ("grammar", json!([""]), json!(["start: /a/"])),
        ("guided_regex", json!([]), json!(["a"])),
        ("guided_grammar", json!([""]), json!(["start: /a/"])),
        ("guided_choice", json!([]), json!([["a"]])),
        ("reasoning_effort", json!([]), json!(["low"])),
        ("logprobs", json!([false]), json!([true, 5])),
        ("n", json!([1]), json!([2])),
        ("best_of", json!([0, 1]), json!([2])),
        ("add_generation_prompt", json!([true]), json!([false])),
        ("reasoning.summary", json!(["auto"]), json!(["concise", "detailed"])),
        ("reasoning.generate_summary", json!(["auto"]), json!(["concise"])),
        ("reasoning.context", json!(["auto"]), json!(["all_turns"])),
        ("reasoning.mode", json!(["standard"]), json!(["pro"])),
        ("text.verbosity", json!(["medium"]), json!(["low", "high"])),
        ("stream_options.include_obfuscation", json!([false]), json!([true])),
        // Those of other servers, as for chats.
        ("mirostat", json!([0]), json!([2])),
        ("min_tokens", json!([0]), json!([4])),
        ("functions", json!([[]]), json!([[{ "name": "f" }]])),
        ("chat_template", json!([""]), json!(["{{ x }}"])),
    ];
    let ok = |more: &Value| drop(server.ok(PATH, &body(more)));
    unsupported(&cases, ok, |more| {
        let error = server.refused(PATH, &body(more), 400);
        error["message"].as_str().unwrap_or_default().to_owned()
    });
    for (include, param) in [(json!(["x"]), "include[0]"), (json!([5]), "include[0]")] {
        assert_eq!(
            server.refused(PATH, &body(&json!({ "include": include })), 400)["param"],
            param
        );
    }
    for (name, off, on) in [
        ("defer_loading", json!(false), json!(true)),
        ("allowed_callers", json!(["direct"]), json!(["programmatic"])),
    ] {
        let with = |value: &Value| {
            let mut tool = tool();
            tool[name] = value.clone();
            body(&json!({ "tools": [tool] }))
        };
        server.ok(PATH, &with(&off));
        let error = server.refused(PATH, &with(&on), 400);
        assert_eq!(error["param"], format!("tools[0].{name}"));
    }
}

#[test]
fn biases_and_penalties_are_those_of_chats() {
    let server = start(options());
    let more = json!({ "temperature": 0, "repetition_penalty": 1.3, "repeat_last_n": 5, "ignore_eos": true,
                       "logit_bias": [[" little", false], [" was", -5]] });
    let answer = server.ok(PATH, &body(more.clone()));
    let mut chat = more.clone();
    chat["messages"] = json!([{ "role": "user", "content": "Tell me of a cat." }]);
    (chat["max_tokens"], chat["seed"]) = (json!(12), json!(5));
    let chat = server.ok("/v1/chat/completions", &chat);
    let text = &answer["output"][0]["content"][0]["text"];
    assert_eq!(*text, chat["choices"][0]["message"]["content"]);
    assert!(!text.as_str().is_some_and(|text| text.contains(" little")), "{text}");
    let mut messages = more;
    messages["messages"] = json!([{ "role": "user", "content": "Tell me of a cat." }]);
    (messages["max_tokens"], messages["seed"]) = (json!(12), json!(5));
    let messages = server.ok("/v1/messages", &messages);
    assert_eq!(messages["content"][0]["text"], *text);
}
