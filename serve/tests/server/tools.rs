//! Tools in `/v1/chat/completions`.

use serde_json::{Value, json};
use teff_serve::ServeOptions;

use crate::common::{TEMPLATE, options, start};
use crate::responses::schema;

const PATH: &str = "/v1/chat/completions";

fn body(more: Value) -> Value {
    let tool = |name: &str| json!({ "type": "function", "function": { "name": name, "parameters": schema() } });
    let mut body = json!({
        "messages": [{ "role": "user", "content": "Tell me of a cat." }],
        "tools": [tool("paint"), tool("look")],
        "max_tokens": 100,
        "seed": 5,
    });
    for (key, value) in more.as_object().expect("an object") {
        body[key] = value.clone();
    }
    body
}

/// Options with a template that has these words in it, by which the format of calls is known.
fn with_words(words: &str) -> ServeOptions {
    options().with_chat_template(format!("{{# {words} #}}{TEMPLATE}"))
}

/// Templates of some formats. (That of gpt-oss may think first, which a random model does without an end;
/// `tools/forced.rs` has it.)
const WORDS: [&str; 5] = [
    "",
    "<tool_call> arguments",
    "<tool_call> <function= <parameter=",
    "[TOOL_CALLS]",
    "<|tool_call>call:",
];

fn arguments(call: &Value) -> Value {
    serde_json::from_str(call["function"]["arguments"].as_str().expect("a text")).expect("JSON")
}

#[test]
fn calls_are_forced_in_the_format_of_the_template() {
    for words in WORDS {
        let server = start(with_words(words));
        for (choice, names) in [
            (json!("required"), vec!["paint", "look"]),
            (json!({ "type": "function", "function": { "name": "look" } }), vec!["look"]),
        ] {
            let more = json!({ "tool_choice": choice, "parallel_tool_calls": false });
            let answer = server.ok(PATH, &body(more.clone()));
            let choice = &answer["choices"][0];
            assert_eq!(choice["finish_reason"], "tool_calls", "{words}: {answer}");
            let message = &choice["message"];
            assert_eq!(message["content"], Value::Null, "{words}");
            let calls = message["tool_calls"].as_array().expect("calls");
            assert_eq!(calls.len(), 1, "{words}");
            assert!(names.contains(&calls[0]["function"]["name"].as_str().expect("a name")));
            assert!(arguments(&calls[0])["big"].is_boolean(), "{words}: {answer}");
            // The stream has the same call, and says its id, type and name once.
            let mut more = more;
            more["stream"] = json!(true);
            let events = server.post(PATH, &body(more)).events();
            let deltas: Vec<&Value> = events
                .iter()
                .filter_map(|event| event["choices"][0]["delta"]["tool_calls"].get(0))
                .collect();
            assert!(deltas.iter().all(|delta| delta["index"] == 0));
            let first = deltas[0];
            assert_eq!(
                (&first["type"], &first["function"]["name"]),
                (&json!("function"), &calls[0]["function"]["name"])
            );
            assert!(first["id"].as_str().is_some_and(|id| id.starts_with("call_")));
            for delta in &deltas[1..] {
                assert!(delta.get("id").is_none() && delta["function"].get("name").is_none());
            }
            let text: String =
                deltas.iter().filter_map(|delta| delta["function"]["arguments"].as_str()).collect();
            assert_eq!(json!(text), calls[0]["function"]["arguments"], "{words}");
            let last = events.last().expect("a chunk");
            assert_eq!(last["choices"][0]["finish_reason"], "tool_calls");
        }
    }
}

#[test]
fn without_a_call_tools_change_nothing_in_the_answer() {
    let server = start(with_words("<tool_call> arguments"));
    let plain = server.ok(PATH, &body(json!({ "tools": null, "max_tokens": 12 })));
    let none = server.ok(PATH, &body(json!({ "tool_choice": "none", "max_tokens": 12 })));
    assert_eq!(none["choices"], plain["choices"]);
    // This template doesn't show them.
    let auto = server.ok(PATH, &body(json!({ "max_tokens": 12 })));
    assert_eq!(auto["choices"], plain["choices"]);
}

#[test]
fn a_model_is_told_of_tools_even_if_the_template_is_not() {
    let server = start(options());
    let prompt = |more: Value| {
        let answer = server.ok("/apply-template", &body(more));
        answer["prompt"].as_str().expect("a text").to_owned()
    };
    let told = prompt(json!({}));
    assert!(told.contains("\"name\": \"paint\"") && told.contains("\"name\": \"look\""), "{told}");
    assert!(!prompt(json!({ "tool_choice": "none" })).contains("paint"));
    let history = json!([
        { "role": "user", "content": "Paint." },
        { "role": "assistant", "content": null, "tool_calls": [{ "id": "c", "type": "function",
            "function": { "name": "paint", "arguments": "{\"big\": true}" } }] },
        { "role": "tool", "tool_call_id": "c", "content": "done" },
    ]);
    let told = prompt(json!({ "messages": history }));
    assert!(
        told.contains("assistant: {\"name\": \"paint\", \"arguments\": {\"big\": true}}\n"),
        "{told}"
    );
    assert!(told.contains("user: Result of paint: done\n"), "{told}");
}

#[test]
fn what_is_wrong_with_tools_is_named() {
    let server = start(options());
    let tool = |function: Value| json!({ "tools": [{ "type": "function", "function": function }] });
    for (more, param) in [
        (json!({ "tool_choice": "zzz" }), "tool_choice"),
        (
            json!({ "tool_choice": { "type": "function", "function": { "name": "g" } } }),
            "tool_choice",
        ),
        (json!({ "tools": [], "tool_choice": "required" }), "tool_choice"),
        (json!({ "tools": "x" }), "tools"),
        (tool(json!({ "name": "a\"b" })), "tools"),
        (
            json!({ "tool_choice": "required", "response_format": { "type": "json_object" } }),
            "tool_choice",
        ),
        (
            json!({ "messages": [{ "role": "assistant", "tool_calls": [{ "id": "c", "type": "function",
                "function": { "name": "f", "arguments": "{" } }] }] }),
            "messages[0].tool_calls[0].function.arguments",
        ),
        (json!({ "messages": [{ "role": "tool", "content": "x" }] }), "messages[0].tool_call_id"),
    ] {
        let error = server.refused(PATH, &body(more.clone()), 400);
        assert_eq!(error["param"], param, "{more} {error}");
    }
    let schema = json!({ "type": "object", "properties": { "a": { "not": {} } } });
    let mut more = tool(json!({ "name": "f", "parameters": schema }));
    more["tool_choice"] = json!("required");
    let error = server.refused(PATH, &body(more), 400);
    assert!(error["message"].as_str().is_some_and(|text| text.contains("`not`")), "{error}");
}

#[test]
fn numbers_that_would_be_rounded_are_refused_by_name() {
    let server = start(with_words(WORDS[0]));
    let user = r#""messages": [{"role": "user", "content": "x"}], "max_tokens": 1"#;
    for (number, fits) in [
        ("18446744073709551617", false),
        ("-9223372036854775809", false),
        ("0.12345678901234567890", false),
        ("1e-400", false),
        ("18446744073709551615", true),
        ("9007199254740993", true),
        ("1e20", true),
    ] {
        let schema =
            format!(r#"{{"type": "object", "properties": {{"a": {{"const": {number}}}}}}}"#);
        let tools = format!(
            r#""tools": [{{"type": "function", "function": {{"name": "paint", "parameters": {schema}}}}}]"#
        );
        let call = format!(
            r#"{{"id": "c", "type": "function", "function": {{"name": "paint", "arguments": {{"a": {number}}}}}}}"#
        );
        for (path, field, body) in [
            (PATH, "tools", format!("{{{user}, {tools}, \"tool_choice\": \"required\"}}")),
            (PATH, "json_schema", format!("{{{user}, \"json_schema\": {schema}}}")),
            (
                PATH,
                "response_format",
                format!(
                    r#"{{{user}, "response_format": {{"type": "json_schema", "schema": {schema}}}}}"#
                ),
            ),
            (
                PATH,
                "messages",
                format!(
                    r#"{{"max_tokens": 1, "messages": [{{"role": "user", "content": "x"}},
                        {{"role": "assistant", "content": null, "tool_calls": [{call}]}},
                        {{"role": "tool", "tool_call_id": "c", "content": "x"}}]}}"#
                ),
            ),
            (
                "/v1/responses",
                "text",
                format!(
                    r#"{{"input": "x", "max_output_tokens": 1, "text": {{"format":
                    {{"type": "json_schema", "name": "x", "schema": {schema}}}}}}}"#
                ),
            ),
        ] {
            let answer = server.request("POST", path, &[], body.as_bytes());
            if fits {
                assert_eq!(answer.status, 200, "{body} {}", answer.text());
                continue;
            }
            assert_eq!(answer.status, 400, "{body}");
            let error = answer.json()["error"].clone();
            assert_eq!(error["param"], field, "{error}");
            let says = format!("has the number {number}, of which 64 bits don't hold all digits");
            assert!(error["message"].as_str().is_some_and(|m| m.contains(&says)), "{error}");
        }
    }
    // Arguments that are texts: integers are exact for templates.
    for (number, status) in [("0.12345678901234567890", 400), ("18446744073709551617", 200)] {
        let arguments = format!("{{\"a\": {number}}}");
        let call = json!({ "name": "paint", "arguments": arguments });
        let chat = json!({ "max_tokens": 1, "messages": [
            { "role": "user", "content": "x" },
            { "role": "assistant", "content": "x",
              "tool_calls": [{ "id": "c", "type": "function", "function": call }] },
            { "role": "tool", "tool_call_id": "c", "content": "x" },
        ]});
        let answer = server.post(PATH, &chat);
        assert_eq!(answer.status, status, "{}", answer.text());
        let response = json!({ "max_output_tokens": 1, "input": [
            { "role": "user", "content": "x" },
            { "type": "function_call", "call_id": "c", "name": "paint", "arguments": arguments },
            { "type": "function_call_output", "call_id": "c", "output": "x" },
        ]});
        let answer = server.post("/v1/responses", &response);
        assert_eq!(answer.status, status, "{}", answer.text());
    }
    // A limit of tokens, or a temperature, is not exact anyway.
    let body = format!("{{{user}, \"temperature\": 0.12345678901234567890}}");
    assert_eq!(server.request("POST", PATH, &[], body.as_bytes()).status, 200);
}
