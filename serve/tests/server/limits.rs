//! Requests that ask for very much, each within the limits of single fields.

use serde_json::{Value, json};

use crate::common::{engine_options, options, start, start_with};

const TEXTS: &str = "/v1/completions";

#[test]
fn stop_strings_and_biases_in_all() {
    let server = start(options());
    let ask = |field: &str, value: Value| {
        let mut body = json!({ "prompt": "Once upon a time", "max_tokens": 2 });
        body[field] = value;
        body
    };
    let long = "ab ".repeat(50_000);
    let pairs = |n: usize| (0..n).map(|i| json!([i % 2000, 0.5])).collect::<Vec<_>>();
    for (field, value) in [
        ("stop", json!(long)),
        ("stop", json!([long[..60_000], long[..60_000]])),
        ("stop", json!(vec!["x"; 1000])),
        ("logit_bias", json!([[long, 1]])),
        ("logit_bias", json!(pairs(100_000))),
    ] {
        let error = server.refused(TEXTS, &ask(field, value), 400);
        assert_eq!(error["param"], field, "{error}");
    }
    let mut many = ask("logit_bias", json!(pairs(30_000)));
    server.ok(TEXTS, &many);
    many["prompt"] = json!(["a", "b", "c"]);
    assert_eq!(server.refused(TEXTS, &many, 400)["param"], "logit_bias");
    server.ok(TEXTS, &ask("stop", json!(long[..60_000])));
}

#[test]
fn biases_that_leave_no_token() {
    let server = start(options());
    let never: Vec<_> = (0..2048).map(|i| json!([i, false])).collect();
    let mut body = json!({ "prompt": "x", "max_tokens": 2, "logit_bias": never });
    let error = server.refused(TEXTS, &body, 400);
    assert_eq!(error["type"], "invalid_request_error");
    body["stream"] = json!(true);
    let answer = server.post(TEXTS, &body);
    // The stream had begun.
    assert_eq!(answer.status, 200);
    let event = answer.text();
    let event = event.trim().strip_prefix("data: ").expect("one event").to_owned();
    let event: Value = serde_json::from_str(&event).expect("JSON");
    assert_eq!(event["error"], error);
    assert_eq!(server.metric("teff_running_sequences"), 0.0);
}

#[test]
fn errors_repeat_little_of_a_request() {
    let server = start(options());
    let mut body = json!({ "messages": [{ "role": "user", "content": "x" }], "max_tokens": 1 });
    for (field, value) in [
        ("tool_choice", json!("x".repeat(1 << 20))),
        ("response_format", json!({ "type": "é".repeat(1 << 19) })),
        ("tools", json!([{ "type": "x".repeat(1 << 20) }])),
    ] {
        body[field] = value;
        let answer = server.post("/v1/chat/completions", &body);
        assert_eq!(answer.status, 400);
        assert!(answer.body.len() < 4096, "{} bytes", answer.body.len());
        body[field] = Value::Null;
    }
}

#[test]
fn values_take_more_memory_than_their_text() {
    let mut small = options();
    (small.body_limit, small.body_memory) = (256 << 10, 1 << 20);
    let server = start_with(small, engine_options().with_sequences(1));
    let objects = |n: usize| json!(vec![json!({ "": 0 }); n]);
    // 40 KB of text, but some megabytes of tables.
    let body = json!({ "prompt": "x", "max_tokens": 1, "zzz": objects(5000) });
    let error = server.refused(TEXTS, &body, 400);
    assert!(error["message"].as_str().is_some_and(|m| m.contains("values")), "{error}");
    // What is repeated in the answer is kept as long as this lasts: here it waits behind others.
    let mut others = server.connect();
    others.post(TEXTS, &json!({ "prompt": "x", "n": 100, "ignore_eos": true }));
    let ask = json!({
        "input": "x", "metadata": { "a": objects(1000) }, "max_output_tokens": 1, "seed": 1,
    });
    server.until("others wait", |s| s.metric("teff_queue_requests") >= 90.0);
    let mut first = server.connect();
    first.post("/v1/responses", &ask);
    server.until("it waits", |s| s.metric("teff_sequences_total") == 101.0);
    let error = server.refused("/v1/responses", &ask, 429);
    assert_eq!(error["type"], "rate_limit_error");
    assert!(error["message"].as_str().is_some_and(|m| m.contains("large")), "{error}");
    drop(first);
    drop(others);
    server.until("the memory is free again", |s| s.post("/v1/responses", &ask).status == 200);
}

#[test]
fn lines_and_headers_together() {
    let server = start(options());
    // A little more than the limit, which Hyper's buffer may still have room for.
    let long = "y".repeat(70 << 10);
    for _ in 0..3 {
        assert_eq!(server.request("GET", "/health", &[("x-long", &long)], b"").status, 431);
    }
    let query = format!("/health?{}", "y".repeat(40 << 10));
    let header = "y".repeat(30 << 10);
    let answer = server.request("GET", &query, &[("x-long", &header)], b"");
    assert_eq!(answer.status, 431);
    assert_eq!(server.request("GET", &query, &[("x-long", &long[..9000])], b"").status, 200);
}
