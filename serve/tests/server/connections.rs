//! Clients that go, that are slow, and that are many.

use std::time::Duration;

use serde_json::{Value, json};
use teff_runtime::engine::EngineOptions;

use crate::common::{Running, engine_options, options, start, start_with};

/// A request for as many tokens as the context has room for.
fn long(stream: bool) -> Value {
    json!({ "prompt": "Once upon a time", "ignore_eos": true, "stream": stream, "seed": 1 })
}

/// Waits until nothing runs, and checks that the answer was not computed to its end.
fn cancelled(server: &Running, before: f64) {
    server.until("nothing runs", |s| s.metric("teff_running_sequences") == 0.0);
    server.until("it is counted", |s| s.metric("teff_sequences_cancelled_total") > before);
}

fn runs(server: &Running) {
    server.until("it runs", |s| s.metric("teff_generated_tokens_total") > 0.0);
}

#[test]
fn a_client_that_is_gone_is_not_answered() {
    for stream in [true, false] {
        let server = start(options());
        let mut client = server.connect();
        client.post("/v1/completions", &long(stream));
        runs(&server);
        drop(client);
        cancelled(&server, 0.0);
        assert!(server.metric("teff_generated_tokens_total") < 370.0, "stream {stream}");
    }
}

#[test]
fn a_client_that_resets_in_the_middle_of_a_stream() {
    let server = start(options());
    let mut client = server.connect();
    client.post("/v1/completions", &long(true));
    client.read_to("data: ");
    // Unread bytes make the system reset the connection.
    drop(client);
    cancelled(&server, 0.0);
}

#[test]
fn half_a_connection_ends_cleanly() {
    let server = start(options());
    let mut client = server.connect();
    client.write(b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{");
    client.half_close();
    let mut rest = Vec::new();
    let _ = std::io::Read::read_to_end(&mut client.stream, &mut rest);
    assert!(
        rest.is_empty() || rest.starts_with(b"HTTP/1.1 4"),
        "{}",
        String::from_utf8_lossy(&rest)
    );
    assert_eq!(server.get("/health").status, 200);
    server.until("no connection stays", |s| s.metric("teff_connections") == 1.0);
}

#[test]
fn slow_requests_are_ended() {
    let mut impatient = options();
    impatient.header_timeout = Duration::from_millis(100);
    impatient.body_timeout = Duration::from_millis(100);
    let server = start(impatient);
    // Nothing at all, and half of the headers.
    assert!(server.connect().is_closed());
    let mut client = server.connect();
    client.write(b"GET /health HTTP/1.1\r\nhost");
    let mut rest = Vec::new();
    let _ = std::io::Read::read_to_end(&mut client.stream, &mut rest);
    assert!(rest.is_empty() || rest.starts_with(b"HTTP/1.1 408"));
    // Half of a body.
    let mut client = server.connect();
    client.write(b"POST /tokenize HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{");
    let answer = client.answer();
    assert_eq!(answer.status, 408);
    assert!(answer.json()["error"]["message"].is_string());
    // A second request that doesn't come.
    let mut client = server.connect();
    client.send("GET", "/health", &[], b"");
    assert_eq!(client.answer().status, 200);
    assert!(client.is_closed());
}

#[test]
fn connections_stay_open_for_further_requests() {
    let server = start(options());
    let mut client = server.connect();
    for i in 0..3 {
        client
            .post("/v1/completions", &json!({ "prompt": "x", "max_tokens": i, "stream": i == 1 }));
        assert_eq!(client.answer().status, 200);
        // A request that is refused leaves the connection in order.
        client.post("/v1/completions", &json!({ "prompt": 1 }));
        assert_eq!(client.answer().status, 400);
    }
    client.write(b"GET /health HTTP/1.0\r\n\r\n");
    assert_eq!(client.answer().status, 200);
    assert!(client.is_closed());
}

#[test]
fn large_bodies_are_sent_when_the_server_wants_them() {
    let server = start(options());
    let body = json!({ "content": "x" }).to_string();
    let mut client = server.connect();
    let head = format!(
        "POST /tokenize HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    client.write(head.as_bytes());
    assert_eq!(client.head().status, 100);
    client.write(body.as_bytes());
    assert_eq!(client.answer().status, 200);
}

#[test]
fn readers_that_take_nothing_are_cut_off() {
    let mut impatient = options();
    impatient.write_timeout = Duration::from_millis(200);
    let server = start(impatient);
    let mut client = server.connect_narrow();
    // So many log probabilities that no buffer of the system holds them.
    let body = json!({
        "prompt": "Once upon a time", "n": 8, "ignore_eos": true, "logprobs": 20, "stream": true,
        "seed": 1,
    });
    client.post("/v1/completions", &body);
    server.until("it is cut off", |s| s.metric("teff_connections") == 1.0);
    server.until("nothing runs", |s| s.metric("teff_running_sequences") == 0.0);
    assert_eq!(server.get("/health").status, 200);
}

#[test]
fn comments_keep_a_quiet_stream_alive() {
    let mut chatty = options();
    chatty.keep_alive = Duration::from_millis(20);
    // One sequence at a time: the second request waits.
    let server = start_with(chatty, engine_options().with_sequences(1));
    let mut first = server.connect();
    first.post("/v1/completions", &long(true));
    first.read_to("data: ");
    let mut second = server.connect();
    second.post("/v1/completions", &json!({ "prompt": "x", "max_tokens": 1, "stream": true }));
    let head = second.head();
    assert_eq!(head.status, 200);
    let comment = second.read_to("keep-alive\n\n");
    assert!(comment.ends_with(b": keep-alive\n\n"));
    drop(first);
    second.read_to("data: [DONE]\n\n");
}

#[test]
fn requests_beyond_the_limits_are_refused() {
    let mut few = options();
    few.requests = 1;
    let server = start(few);
    let mut first = server.connect();
    first.post("/v1/completions", &long(true));
    runs(&server);
    let error = server.refused("/v1/completions", &json!({ "prompt": "x" }), 429);
    assert_eq!(error["type"], "rate_limit_error");
    // What needs no engine is answered.
    server.ok("/tokenize", &json!({ "content": "x" }));
    drop(first);
    server.until("there is room", |s| s.metric("teff_running_sequences") == 0.0);
    server.until("there is room", |s| {
        s.post("/v1/completions", &json!({ "prompt": "x", "max_tokens": 1 })).status == 200
    });
}

#[test]
fn a_full_queue_refuses() {
    let engine: EngineOptions = engine_options().with_sequences(1).with_queue(1);
    let server = start_with(options(), engine);
    let mut first = server.connect();
    first.post("/v1/completions", &long(true));
    runs(&server);
    let mut second = server.connect();
    second.post("/v1/completions", &json!({ "prompt": "x", "max_tokens": 1 }));
    server.until("it waits", |s| s.metric("teff_queue_requests") == 1.0);
    let error = server.refused("/v1/completions", &json!({ "prompt": "x", "max_tokens": 1 }), 429);
    assert_eq!(error["code"], "queue_full");
    drop(first);
    assert_eq!(second.answer().status, 200);
}

#[test]
fn connections_beyond_the_limit_wait() {
    let mut few = options();
    few.connections = 1;
    let server = start(few);
    let mut first = server.connect();
    first.send("GET", "/health", &[], b"");
    assert_eq!(first.answer().status, 200);
    let mut second = server.connect();
    second.send("GET", "/health", &[], b"");
    drop(first);
    assert_eq!(second.answer().status, 200);
}

#[test]
fn answers_end_at_their_deadline() {
    let mut timed = options();
    timed.deadline = Some(Duration::ZERO);
    let server = start(timed);
    let answer = server.ok("/v1/completions", &long(false));
    assert_eq!(answer["choices"][0]["finish_reason"], "length");
    assert!(answer["usage"]["completion_tokens"].as_u64() < Some(370));
}
