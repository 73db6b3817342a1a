//! Requests that are wrong: each gets a 4xx with a JSON object, and the server goes on.

use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use serde_json::{Value, json};

use crate::common::{options, start};

const CHAT: &str = "/v1/chat/completions";

#[test]
fn bodies_that_are_no_json_object() {
    let server = start(options());
    let nested = format!("{}1{}", "[".repeat(10_000), "]".repeat(10_000));
    let deep = format!("{{\"a\": {nested}}}");
    let bodies: [&[u8]; 12] = [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\"x\"",
        b"{\"messages\": NaN}",
        b"{\"messages\": [}",
        b"\xff\xfe",
        b"{\"messages\": [{\"role\": \"user\", \"content\": \"\xc3\"}]}",
        b"{\"a\": 1} {",
        b"{\"messages\": [{\"role\": \"user\", \"content\": \"\\ud800\"}]}",
        deep.as_bytes(),
    ];
    for path in [CHAT, "/v1/completions", "/tokenize", "/detokenize", "/apply-template"] {
        for body in bodies {
            let answer = server.request("POST", path, &[], body);
            let text = String::from_utf8_lossy(&body[..body.len().min(40)]).into_owned();
            assert_eq!(answer.status, 400, "{path} {text} {}", answer.text());
            assert_eq!(answer.json()["error"]["type"], "invalid_request_error");
        }
    }
    assert_eq!(server.get("/health").status, 200);
}

#[test]
fn fields_of_chats() {
    let server = start(options());
    let user = json!([{ "role": "user", "content": "x" }]);
    let nothing = json!({});
    for (field, value, param) in [
        ("messages", Value::Null, "messages"),
        ("messages", json!("x"), "messages"),
        ("messages", json!([]), "messages"),
        ("messages", json!([{ "content": "x" }]), "messages[0].role"),
        ("messages", json!([{ "role": "user" }]), "messages[0].content"),
        ("messages", json!([{ "role": "user", "content": 1 }]), "messages[0].content"),
        ("tools", nothing.clone(), "tools"),
        ("tools", json!([1]), "tools[0]"),
        ("tool_choice", json!("zzz"), "tool_choice"),
        ("tool_choice", json!("required"), "tool_choice"),
        ("temperature", json!("warm"), "temperature"),
        ("temperature", json!(-1), "temperature"),
        ("temperature", json!(1e300), "temperature"),
        ("top_p", json!(2), "top_p"),
        ("max_tokens", json!("x"), "max_tokens"),
        ("max_tokens", json!(-2), "max_tokens"),
        ("n", json!(0), "n"),
        ("n", json!(-1), "n"),
        ("n", json!(1_000_000_000), "n"),
        ("stop", json!([5]), "stop"),
        ("seed", json!({}), "seed"),
        ("stream", json!(1), "stream"),
        ("logprobs", json!("x"), "logprobs"),
        ("top_logprobs", json!(3), "top_logprobs"),
        ("logit_bias", json!([1]), "logit_bias"),
        ("response_format", json!("json"), "response_format"),
        ("response_format", json!({ "type": "xml" }), "response_format.type"),
        ("chat_template_kwargs", json!([]), "chat_template_kwargs"),
        ("parallel_tool_calls", json!("x"), "parallel_tool_calls"),
    ] {
        let mut body = json!({ "messages": user, "max_tokens": 1 });
        body[field] = value.clone();
        let error = server.refused(CHAT, &body, 400);
        assert_eq!(error["param"], param, "{field} {value}: {error}");
        assert!(error["message"].as_str().is_some_and(|m| m.contains(param)));
        // Before any event, even if events were asked for.
        if field != "stream" {
            body["stream"] = json!(true);
            assert_eq!(server.refused(CHAT, &body, 400), error);
        }
    }
}

#[test]
fn what_is_unknown_or_null_is_passed_over() {
    let server = start(options());
    let plain = json!({
        "messages": [{ "role": "user", "content": "x" }], "max_tokens": 2, "seed": 1,
    });
    let mut more = plain.clone();
    for field in ["temperature", "stop", "n", "tools", "tool_choice", "response_format", "stream"] {
        more[field] = Value::Null;
    }
    for field in ["user", "store", "metadata", "service_tier", "zzz"] {
        more[field] = json!({ "a": [1, 2] });
    }
    more["model"] = json!("another-model");
    more["stream_options"] = json!({ "include_usage": true });
    let answer = server.ok(CHAT, &more);
    assert_eq!(answer["choices"], server.ok(CHAT, &plain)["choices"]);
    assert_eq!(answer["model"], "story");
    // Of equal keys the last counts.
    let twice = format!("{{\"max_tokens\": 1, {}", &plain.to_string()[1..]);
    let twice = server.request("POST", CHAT, &[], twice.as_bytes()).json();
    assert_eq!(twice["usage"]["completion_tokens"], 2);
}

/// Fields of llama-server, vLLM and others that Teff has not: an answer as if they weren't there would
/// not be what was asked for. The table itself is tested beside it.
#[test]
fn fields_of_other_servers() {
    let server = start(options());
    let plain = json!({
        "messages": [{ "role": "user", "content": "x" }], "prompt": "x", "max_tokens": 2, "seed": 1,
    });
    // Values that ask for nothing, as clients send that always send all of their fields.
    let mut more = plain.clone();
    for (field, value) in [
        ("typical_p", json!(1.0)),
        ("mirostat", json!(0)),
        ("mirostat_tau", json!(5.0)),
        ("dry_multiplier", json!(0.0)),
        ("dry_sequence_breakers", json!(["\n", ":"])),
        ("top_n_sigma", json!(-1)),
        ("n_probs", json!(0)),
        ("samplers", json!(["dry", "top_k", "typ_p", "top_p", "min_p", "xtc", "temperature"])),
        ("id_slot", json!(-1)),
        ("cache_prompt", json!(false)),
        ("min_tokens", json!(0)),
        ("stop_token_ids", json!([])),
        ("best_of", json!(1)),
        ("skip_special_tokens", json!(true)),
        ("prompt_logprobs", Value::Null),
    ] {
        more[field] = value;
    }
    for path in [CHAT, "/v1/completions"] {
        let answer = server.ok(path, &more);
        assert_eq!(answer["choices"], server.ok(path, &plain)["choices"], "{path}");
        for (field, value, says) in [
            ("typical_p", json!(0.5), "`min_p`"),
            ("mirostat", json!(2), "`temperature`"),
            ("n_probs", json!(5), "`logprobs`"),
            ("samplers", json!(["temperature", "top_k"]), "`top_k`, `top_p`, `min_p`"),
            ("min_tokens", json!(4), "`ignore_eos`"),
            ("stop_token_ids", json!([0]), "`stop`"),
            ("best_of", json!(2), "beyond n"),
            ("bad_words", json!(["x"]), "`logit_bias`"),
            ("prompt_logprobs", json!(1), "`echo`"),
            ("skip_special_tokens", json!(false), "special tokens"),
        ] {
            for stream in [false, true] {
                let mut body = plain.clone();
                (body[field], body["stream"]) = (value.clone(), stream.into());
                let error = server.refused(path, &body, 400);
                assert_eq!((&error["param"], &error["code"]), (&json!(field), &json!(400)));
                let message = error["message"].as_str().expect("a message");
                assert!(
                    message.contains("is not supported") && message.contains(says),
                    "{message}"
                );
            }
        }
    }
}

/// vLLM's switch, whose default is another for texts and for chats.
#[test]
fn special_tokens_of_prompts() {
    let server = start(options());
    let user = json!([{ "role": "user", "content": "x" }]);
    let body = |prompt: Value, add: bool| json!({ "messages": user, "prompt": prompt, "max_tokens": 0, "add_special_tokens": add });
    let param = |path, add| server.refused(path, &body(json!("x"), add), 400)["param"].clone();
    assert_eq!(param("/v1/completions", false), "add_special_tokens");
    assert_eq!(param(CHAT, true), "add_special_tokens");
    server.ok("/v1/completions", &body(json!("x"), true));
    server.ok("/v1/completions", &body(json!([5]), false));
    server.ok(CHAT, &body(json!("x"), false));
}

#[test]
fn large_and_compressed_bodies() {
    let mut limited = options();
    limited.body_limit = 4096;
    let server = start(limited);
    let body = json!({ "prompt": "x".repeat(5000), "max_tokens": 1 });
    assert_eq!(server.refused("/v1/completions", &body, 413)["code"], "body_too_large");
    // A body in chunks has no length to go by.
    let mut client = server.connect();
    client.write(b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n");
    for _ in 0..5 {
        client.write(format!("400\r\n{}\r\n", " ".repeat(1024)).as_bytes());
    }
    assert_eq!(client.answer().status, 413);
    let headers = [("content-encoding", "gzip")];
    let answer = server.request("POST", "/v1/completions", &headers, b"\x1f\x8b");
    assert_eq!(answer.status, 415);
    assert_eq!(answer.json()["error"]["type"], "invalid_request_error");
    // One in chunks that is small enough.
    let mut client = server.connect();
    let body = json!({ "prompt": "x", "max_tokens": 1 }).to_string();
    let (a, b) = body.split_at(7);
    client.write(b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n");
    client.write(format!("{:x}\r\n{a}\r\n{:x}\r\n{b}\r\n0\r\n\r\n", a.len(), b.len()).as_bytes());
    assert_eq!(client.answer().status, 200);
}

/// Bodies share their memory: what takes more than there is gets a refusal, and the next one its turn.
#[test]
fn the_memory_of_bodies_is_bounded() {
    let mut small = options();
    (small.body_limit, small.body_memory) = (1 << 20, 1 << 20);
    let server = start(small);
    // What never has room is not to be tried again.
    let many = json!({ "prompt": vec![1; 100_000] });
    assert_eq!(server.refused("/v1/completions", &many, 413)["code"], "body_too_large");
    // Texts take no more than a few times their bytes, whatever is in them.
    let long = json!({ "content": "a, [".repeat(80_000) });
    for _ in 0..5 {
        assert_eq!(server.post("/tokenize", &long).status, 200);
    }
}

/// A response repeats fields of its request, which have their memory until it has gone.
#[test]
fn fields_that_are_kept_count_until_the_end() {
    let mut small = options();
    (small.body_limit, small.body_memory) = (8 << 20, 16 << 20);
    let server = start(small);
    let padded = |n: usize| format!("{{\"content\": \"x\", \"more\": \"{}\"}}", "x".repeat(n));
    let status = |n| server.request("POST", "/tokenize", &[], padded(n).as_bytes()).status;
    let kept = json!({
        "input": "x", "max_output_tokens": 5, "stream": true,
        "metadata": { "a": "x".repeat(4 << 20) },
    });
    // Its reader takes nothing but the head, so that it doesn't end.
    let mut first = server.connect_narrow();
    first.post("/v1/responses", &kept);
    assert_eq!(first.head().status, 200);
    assert_eq!(status(5 << 20), 429);
    assert_eq!(status(3 << 20), 200);
    drop(first);
    server.until("there is room", |_| status(5 << 20) == 200);
}

/// A grammar has its memory, of that for bodies, until its request has gone.
#[test]
fn grammars_count_until_the_end() {
    let mut small = options();
    (small.body_limit, small.body_memory) = (64 << 10, 64 << 10);
    let server = start(small);
    let formed = json!({ "prompt": "x", "max_tokens": 1, "regex": "(.|\\n)*" });
    assert_eq!(server.post("/v1/completions", &formed).status, 200);
    let kept = json!({
        "prompt": "Once", "max_tokens": 400, "logprobs": 20, "n": 4, "stream": true,
        "regex": "(.|\\n)*",
    });
    // Its reader takes nothing but the head, so that it doesn't end.
    let mut first = server.connect_narrow();
    first.post("/v1/completions", &kept);
    assert_eq!(first.head().status, 200);
    assert_eq!(server.refused("/v1/completions", &formed, 429)["code"], "too_many_requests");
    // The memory is asked for before it is taken: this one can't be compiled.
    let wrong = json!({ "prompt": "x", "max_tokens": 1, "grammar": "start: missing" });
    assert_eq!(server.refused("/v1/completions", &wrong, 429)["code"], "too_many_requests");
    assert_eq!(
        server.post("/v1/completions", &json!({ "prompt": "x", "max_tokens": 1 })).status,
        200
    );
    drop(first);
    server.until("there is room", |s| s.post("/v1/completions", &formed).status == 200);
}

/// A schema that takes about a tenth of a second for each 500 properties.
fn large_schema(properties: usize) -> Value {
    let names = (0..properties).map(|i| (format!("name{i}"), json!({ "type": "string" })));
    json!({ "type": "object", "properties": names.collect::<serde_json::Map<_, _>>() })
}

#[test]
fn long_grammars_count_more() {
    let mut small = options();
    (small.body_limit, small.body_memory) = (64 << 10, 2 << 20);
    let server = start(small);
    let formed = json!({ "prompt": "x", "max_tokens": 1, "json_schema": large_schema(300) });
    server.ok("/v1/completions", &formed);
    let regex = json!({ "prompt": "x", "max_tokens": 1, "regex": "a+" });
    let kept = json!({
        "prompt": "Once", "max_tokens": 400, "logprobs": 20, "n": 4, "stream": true,
        "grammar": format!("start: /(.|\\n)*/ | {}", vec!["\"x\""; 2000].join(" ")),
    });
    let mut first = server.connect_narrow();
    first.post("/v1/completions", &kept);
    assert_eq!(first.head().status, 200);
    assert_eq!(server.refused("/v1/completions", &formed, 429)["code"], "too_many_requests");
    server.ok("/v1/completions", &regex);
    drop(first);
    server.until("there is room", |s| s.post("/v1/completions", &formed).status == 200);
}

#[test]
fn short_requests_pass_by_grammars() {
    let server = start(options());
    let slow = json!({ "prompt": "x", "max_tokens": 0, "json_schema": large_schema(800) });
    let chat = json!({
        "messages": [{ "role": "user", "content": "x" }], "max_tokens": 0,
        "response_format": { "type": "json_object", "schema": large_schema(800) },
    });
    let (done, sent) = (AtomicUsize::new(0), Barrier::new(9));
    std::thread::scope(|scope| {
        for i in 0..8 {
            let (server, done, sent) = (&server, &done, &sent);
            let (path, body) = match i % 2 {
                0 => ("/v1/completions", &slow),
                _ => ("/v1/chat/completions", &chat),
            };
            scope.spawn(move || {
                let mut client = server.connect();
                client.post(path, body);
                sent.wait();
                assert_eq!(client.answer().status, 200);
                done.fetch_add(1, SeqCst);
            });
        }
        sent.wait();
        for _ in 0..3 {
            server.ok("/v1/completions", &json!({ "prompt": "x", "max_tokens": 0 }));
            server.ok("/tokenize", &json!({ "content": "x" }));
            let formed = json!({ "prompt": "x", "max_tokens": 0, "regex": "a+" });
            server.ok("/v1/completions", &formed);
        }
        let done = done.load(SeqCst);
        assert!(done < 4, "{done} of 8 before them");
    });
}

#[test]
fn many_values_are_refused() {
    let server = start(options());
    let body = format!("{{\"prompt\": [{}0]}}", "0,".repeat(3_000_000));
    let answer = server.request("POST", "/v1/completions", &[], body.as_bytes());
    assert_eq!(answer.status, 400);
    assert!(answer.json()["error"]["message"].as_str().is_some_and(|m| m.contains("values")));
}

#[test]
fn headers_that_are_malformed_or_too_large() {
    let server = start(options());
    let mut client = server.connect();
    client.write(b"this is no HTTP\r\n\r\n");
    assert_eq!(client.head().status, 400);
    let mut client = server.connect();
    client.write(b"GET /health HTTP/1.1\r\nhost: x\r\n");
    let line = format!("x-long: {}\r\n", "y".repeat(16 << 10));
    // The server may have closed before all of it is written.
    let _ = std::io::Write::write_all(&mut client.stream, line.repeat(10).as_bytes());
    assert_eq!(client.head().status, 431);
    let line = format!("x-long: {}", "y".repeat(100 << 10));
    let mut client = server.connect();
    client.write(b"GET /health HTTP/1.1\r\nhost: x\r\n");
    let _ = std::io::Write::write_all(&mut client.stream, line.as_bytes());
    assert_eq!(client.head().status, 431);
    assert_eq!(server.get("/health").status, 200);
    // A line that is too long, or more than there is room for, if it comes in parts.
    for n in [60_000, 65_534, 66_000, 100_000] {
        let mut client = server.connect();
        client.send("GET", &format!("/{}", "y".repeat(n)), &[], b"");
        let status = client.head().status;
        let wanted: &[u16] = if n < 65_534 { &[404] } else { &[414, 431] };
        assert!(wanted.contains(&status), "{n} {status}");
    }
    let many: Vec<_> = (0..200).map(|_| ("x-a", "b")).collect();
    assert_eq!(server.request("GET", "/health", &many, b"").status, 431);
    assert_eq!(server.get("/health").status, 200);
}
