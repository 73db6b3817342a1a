//! Limits of what a request may ask for, and refusals that say which it came to.

use std::sync::mpsc::{Sender, channel};

use serde_json::{Value, json};
use teff_runtime::Generate;
use teff_runtime::engine::{Constraint, ConstraintError, Engine, Request};
use teff_runtime::tokenizer::Specials;

use crate::common::{engine_options, options, start, start_engine, story};

const TEXT: &str = "/v1/completions";
const CHAT: &str = "/v1/chat/completions";

/// Biases that rule out all tokens but these.
fn all_but(left: &[u32]) -> Value {
    let size = story().tokenizer().expect("a tokenizer").vocab_size() as u32;
    let ids = (0..size).filter(|id| !left.contains(id));
    ids.map(|id| json!([id, false])).collect()
}

/// The token of a text.
fn token(text: &str) -> u32 {
    let model = story();
    let all = model.tokenizer().expect("a tokenizer").encode(text, Specials::Ignore);
    let all = all.expect("tokens");
    assert_eq!(all.len(), 1, "{text}");
    all[0]
}

#[test]
fn biases_that_rule_out_everything() {
    let server = start(options());
    let chat = json!({ "messages": [{ "role": "user", "content": "x" }] });
    let text = json!({ "prompt": "x" });
    let object = all_but(&[]);
    let object = object.as_array().expect("pairs").iter();
    let object: serde_json::Map<String, Value> =
        object.map(|pair| (pair[0].to_string(), json!(false))).collect();
    for biases in [all_but(&[]), Value::Object(object)] {
        for (path, body) in [(CHAT, &chat), (TEXT, &text)] {
            for stream in [false, true] {
                let mut body = body.clone();
                (body["logit_bias"], body["stream"]) = (biases.clone(), json!(stream));
                body["max_tokens"] = json!(3);
                let error = server.refused(path, &body, 400);
                assert_eq!(error["param"], "logit_bias");
                assert_eq!(error["type"], "invalid_request_error");
            }
        }
    }
    // One token is enough.
    let only = all_but(&[token("a")]);
    let answer = server.ok(TEXT, &json!({ "prompt": "x", "logit_bias": only, "max_tokens": 3 }));
    assert_eq!(answer["choices"][0]["text"], "aaa");
}

#[test]
fn biases_that_rule_out_what_the_grammar_allows() {
    let server = start(options());
    let body = |left: &[u32], stream: bool| {
        json!({
            "prompt": "x", "logit_bias": all_but(left), "regex": "a(b|c)", "max_tokens": 3,
            "stream": stream,
        })
    };
    let (a, b, z) = (token("a"), token("b"), token("z"));
    for stream in [false, true] {
        let error = server.refused(TEXT, &body(&[z], stream), 400);
        assert_eq!(error["param"], "logit_bias");
    }
    assert_eq!(server.ok(TEXT, &body(&[a, b], false))["choices"][0]["text"], "ab");
    // It begins, and then there is nothing.
    assert_eq!(server.refused(TEXT, &body(&[a, z], false), 400)["param"], "logit_bias");
    let answer = server.post(TEXT, &body(&[a, z], true));
    assert_eq!(answer.status, 200);
    let text = answer.text();
    let last = text.trim_end().rsplit("\n\n").next().and_then(|event| event.strip_prefix("data: "));
    let last: Value = serde_json::from_str(last.expect("an event")).expect("JSON");
    assert_eq!(last["error"]["param"], "logit_bias", "{text}");
    assert!(text.contains("\"text\":\"a\"") && !text.contains("[DONE]"), "{text}");
    assert_eq!(server.get("/health").status, 200);
}

#[test]
fn messages_repeat_little_of_a_request() {
    let server = start(options());
    let long = "x".repeat(50_000);
    let user = json!([{ "role": "user", "content": "x" }]);
    let chat = |field: &str, value: Value| {
        let mut body = json!({ "messages": user, "max_tokens": 1 });
        body[field] = value;
        body
    };
    for (path, body) in [
        (CHAT, chat("tool_choice", json!(long))),
        (CHAT, chat("tools", json!([{ "type": long }]))),
        (CHAT, chat("response_format", json!({ "type": long }))),
        (CHAT, chat("messages", json!([{ "role": "user", "content": [{ "type": long }] }]))),
        (CHAT, chat("regex", json!(format!("({long}")))),
        (CHAT, chat("regex", json!(format!("[{long}-\\q")))),
        (CHAT, chat("grammar", json!(long))),
        (CHAT, chat("grammar", json!(format!("start: {long}")))),
        (CHAT, chat("grammar", json!(format!("start: \"{long}")))),
        (CHAT, chat("json_schema", json!({ "type": long }))),
        (CHAT, chat("json_schema", json!({ "$ref": format!("#/{long}") }))),
        (CHAT, chat("json_schema", json!({ "properties": { &long: { "uniqueItems": true } } }))),
        (CHAT, chat("json_schema", json!({ "pattern": format!("({long}") }))),
        (CHAT, chat("json_schema", json!({ "format": long }))),
        (CHAT, chat("json_schema", json!({ "enum": [], &long: 1, "not": {} }))),
        ("/v1/messages", json!({ "max_tokens": 1, "messages": [{ "role": long, "content": "" }] })),
        ("/v1/responses", json!({ "input": [{ "type": long }] })),
        ("/prefix/load", json!({ "name": long })),
    ] {
        let answer = server.post(path, &body);
        let (status, text) = (answer.status, answer.text());
        // What isn't an error says nothing of it either.
        assert!((400..500).contains(&status) || status == 200, "{status} {text:.200}");
        assert!(text.len() < 1500, "{path} {} bytes: {text:.300}", text.len());
        assert!(!text.contains(&"x".repeat(130)), "{text}");
    }
    let answer = server.get(&format!("/v1/models/{long}"));
    assert_eq!(answer.status, 404);
    assert!(answer.text().len() < 500 && answer.text().contains('…'), "{}", answer.text());
    assert!(server.get(&format!("/{long}")).text().len() < 500);
}

#[test]
fn many_and_long_stop_strings() {
    let server = start(options());
    let stops = json!(vec!["y".repeat(1000); 20]);
    let body = json!({ "prompt": "x", "max_tokens": 1, "stop": stops });
    assert_eq!(server.refused(TEXT, &body, 400)["param"], "stop");
    let body = json!({ "prompt": "x", "max_tokens": 1, "stop": vec!["y"; 65] });
    assert_eq!(server.refused(TEXT, &body, 400)["param"], "stop");
    let body = json!({
        "max_tokens": 1, "messages": [{ "role": "user", "content": "x" }], "stop_sequences": stops,
    });
    let error = server.refused("/v1/messages", &body, 400);
    let message = error["message"].as_str().expect("a message");
    assert!(message.starts_with("'stop_sequences': "), "{message}");
    let texts = json!([["y".repeat(40_000), 1], ["z".repeat(40_000), 1]]);
    let body = json!({ "prompt": "x", "max_tokens": 1, "logit_bias": texts });
    assert_eq!(server.refused(TEXT, &body, 400)["param"], "logit_bias");
}

#[test]
fn names_of_models() {
    // By default every name is good, but it must be one.
    let server = start(options());
    let body = |model: Value| json!({ "prompt": "x", "max_tokens": 0, "model": model });
    assert_eq!(server.ok(TEXT, &body(json!("gpt-4o")))["model"], "story");
    assert_eq!(server.refused(TEXT, &body(json!(5)), 400)["param"], "model");
    drop(server);

    let mut strict = options();
    (strict.check_model, strict.model_names) = (true, vec!["model.gguf".into()]);
    let server = start(strict);
    for name in [json!("story"), json!("model.gguf"), json!("default"), json!(""), Value::Null] {
        assert_eq!(server.ok(TEXT, &body(name))["model"], "story");
    }
    let user = json!([{ "role": "user", "content": "x" }]);
    for path in [TEXT, CHAT, "/v1/responses", "/v1/messages", "/v1/messages/count_tokens"] {
        let body = json!({
            "model": "gpt-4o", "prompt": "x", "input": "x", "messages": user, "max_tokens": 1,
            "stream": true,
        });
        let error = server.refused(path, &body, 404);
        let message = error["message"].as_str().expect("a message");
        assert!(message.contains("`gpt-4o`") && message.contains("`story`"), "{message}");
        match path.starts_with("/v1/messages") {
            true => assert_eq!(error["type"], "not_found_error"),
            false => assert_eq!(error["code"], "model_not_found"),
        }
    }
    for path in ["/tokenize", "/detokenize", "/apply-template"] {
        let mut body =
            json!({ "content": "x", "tokens": [1], "messages": user, "model": "gpt-4o" });
        assert_eq!(server.refused(path, &body, 404)["code"], "model_not_found", "{path}");
        body["model"] = json!("story");
        server.ok(path, &body);
    }
}

/// Ends the engine's thread when a text is over.
struct Fatal(Option<Sender<()>>);

impl Constraint for Fatal {
    fn mask(&mut self, _: &mut [u32]) -> Result<(), ConstraintError> {
        Ok(())
    }

    fn accept(&mut self, _: u32) -> Result<(), ConstraintError> {
        Ok(())
    }

    fn is_complete(&mut self) -> bool {
        true
    }

    fn fork(&self) -> Box<dyn Constraint> {
        Box::new(Fatal(self.0.clone()))
    }
}

impl Drop for Fatal {
    fn drop(&mut self) {
        if self.0.take().is_some() && std::thread::current().name() == Some("teff-engine") {
            panic!("the engine's thread ends: this is part of the test");
        }
    }
}

#[test]
fn health_is_that_of_the_engine() {
    let engine =
        |model| Engine::builder(model).options(engine_options()).build().expect("an engine");
    let model = story();
    let server = start_engine(options(), engine(&model));
    for _ in 0..3 {
        assert_eq!(server.get("/health").json()["status"], "ok");
    }
    // Asking costs no counted request.
    assert_eq!(server.metric("teff_sequences_cancelled_total"), 0.0);
    assert_eq!(server.metric("teff_prompt_tokens_total"), 0.0);
    drop(server);

    let engine = engine(&model);
    let (sender, dropped) = channel();
    let request = Request::new(vec![1], Generate::default().with_max_tokens(1));
    let stream = engine.submit(request.with_constraint(Box::new(Fatal(Some(sender)))));
    stream.expect("room").for_each(drop);
    // The sender is gone when the thread unwinds.
    assert!(dropped.recv().is_err());
    let server = start_engine(options(), engine);
    server.until("it notices", |server| server.get("/health").status == 503);
    let answer = server.get("/v1/health");
    assert_eq!(answer.status, 503);
    assert_eq!(answer.json()["error"]["type"], "unavailable_error");
    assert_eq!(server.post(TEXT, &json!({ "prompt": "x" })).status, 503);
    // What needs no engine goes on.
    server.ok("/tokenize", &json!({ "content": "x" }));
}
