//! The end of a server.

use std::net::TcpStream;
use std::time::Duration;

use serde_json::{Value, json};

use crate::common::{Running, options, start};

fn long() -> Value {
    json!({ "prompt": "Once upon a time", "ignore_eos": true, "stream": true, "seed": 1 })
}

fn listens(server: &Running) -> bool {
    TcpStream::connect(server.address).is_ok()
}

#[test]
fn answers_in_progress_may_end() {
    let mut server = start(options());
    let mut client = server.connect();
    client.post("/v1/completions", &long());
    client.read_to("data: ");
    let mut idle = server.connect();
    idle.send("GET", "/health", &[], b"");
    assert_eq!(idle.answer().status, 200);
    server.tell_to_end();
    server.until("no more connections", |s| !listens(s));
    assert!(idle.is_closed());
    client.read_to("data: [DONE]\n\n");
    server.end();
}

#[test]
fn answers_that_take_too_long_are_told_so() {
    let mut hasty = options();
    hasty.grace = Duration::ZERO;
    let mut server = start(hasty);
    let mut stream = server.connect();
    stream.post("/v1/completions", &long());
    stream.read_to("data: ");
    let mut whole = server.connect();
    let mut body = long();
    body["stream"] = json!(false);
    whole.post("/v1/completions", &body);
    server.until("both run", |s| s.metric("teff_running_sequences") == 2.0);
    server.tell_to_end();
    let said = stream.read_to("\r\n0\r\n\r\n");
    let said = String::from_utf8_lossy(&said);
    let error = said.lines().rfind(|line| line.starts_with("data: ")).expect("an event");
    let error: Value = serde_json::from_str(&error["data: ".len()..]).expect("JSON");
    assert_eq!(error["error"]["code"], 503, "{error}");
    let answer = whole.answer();
    assert_eq!((answer.status, &answer.json()["error"]["code"]), (503, &json!(503)));
    server.end();
}

#[test]
fn a_server_without_work_ends_at_once() {
    let server = start(options());
    assert_eq!(server.get("/health").status, 200);
    server.end();
}
