//! `/v1/completions`.

use serde_json::{Value, json};

use crate::common::{Running, engine_options, options, start, start_with};

const PATH: &str = "/v1/completions";

fn text(server: &Running, body: &Value) -> String {
    server.ok(PATH, body)["choices"][0]["text"].as_str().expect("a text").to_owned()
}

#[test]
fn prompts_of_every_form() {
    let server = start(options());
    let prompt = "Once upon a time";
    let body = json!({ "prompt": prompt, "max_tokens": 8, "seed": 3 });
    let answer = server.ok(PATH, &body);
    assert_eq!(answer["object"], "text_completion");
    assert!(answer["id"].as_str().is_some_and(|id| id.starts_with("cmpl-")));
    let choice = &answer["choices"][0];
    assert!(choice["logprobs"].is_null());
    assert_eq!((&choice["index"], &choice["finish_reason"]), (&json!(0), &json!("length")));
    let tokens = server.ok("/tokenize", &json!({ "content": prompt }))["tokens"].clone();
    let with = |prompt: Value| json!({ "prompt": prompt, "max_tokens": 8, "seed": 3, "n": 2 });
    let of_tokens = server.ok(PATH, &with(tokens.clone()));
    assert_eq!(of_tokens["choices"][0]["text"], choice["text"]);
    // Several prompts, each with its choices.
    let all = server.ok(PATH, &with(json!([prompt, "The dog", tokens])));
    let all_choices = all["choices"].as_array().expect("choices");
    assert_eq!(all_choices.len(), 6);
    assert!(all_choices.iter().enumerate().all(|(i, c)| c["index"] == i));
    for i in [0, 4] {
        assert_eq!(all["choices"][i]["text"], of_tokens["choices"][0]["text"]);
        assert_eq!(all["choices"][i + 1]["text"], of_tokens["choices"][1]["text"]);
    }
    let dog = server.ok(PATH, &with(json!("The dog")));
    assert_eq!(all["choices"][2]["text"], dog["choices"][0]["text"]);
    assert_eq!(all["usage"]["completion_tokens"], 48);
    let n = |v: &Value| v["usage"]["prompt_tokens"].as_u64().expect("a number");
    assert_eq!(n(&all), 2 * n(&of_tokens) + n(&dog));
    // The empty prompt begins as the model begins.
    let empty = server.ok(PATH, &json!({ "prompt": "", "max_tokens": 4, "temperature": 0 }));
    assert_eq!(empty["usage"]["prompt_tokens"], 1);
}

#[test]
fn prompts_that_are_none() {
    let server = start(options());
    for prompt in [
        json!(null),
        json!(5),
        json!([]),
        json!([[]]),
        json!([true]),
        json!([1, "x"]),
        json!([-1]),
        json!([1.5]),
        json!([99_999_999]),
        json!({ "a": 1 }),
        json!([5_000_000_000u64]),
    ] {
        let error = server.refused(PATH, &json!({ "prompt": prompt, "max_tokens": 1 }), 400);
        assert_eq!(error["param"], "prompt", "{prompt}");
    }
    for (field, value) in [("suffix", json!("x")), ("best_of", json!(3)), ("logprobs", json!(21))] {
        let body = json!({ "prompt": "x", field: value });
        assert_eq!(server.refused(PATH, &body, 400)["param"], field);
    }
    let body = json!({ "prompt": ["x", "y", "z"], "n": 100 });
    assert_eq!(server.refused(PATH, &body, 400)["param"], "n");
}

#[test]
fn streams_have_the_same_texts() {
    let server = start(options());
    let mut body =
        json!({ "prompt": ["Once upon", "The dog"], "max_tokens": 6, "seed": 1, "n": 2 });
    let whole = server.ok(PATH, &body);
    body["stream"] = json!(true);
    body["stream_options"] = json!({ "include_usage": true });
    let mut events = server.post(PATH, &body).events();
    let last = events.pop().expect("a chunk");
    assert_eq!((&last["choices"], &last["usage"]["completion_tokens"]), (&json!([]), &json!(24)));
    let mut texts = vec![String::new(); 4];
    for event in &events {
        assert_eq!(event["object"], "text_completion");
        let choice = &event["choices"][0];
        let index = choice["index"].as_u64().expect("an index") as usize;
        texts[index] += choice["text"].as_str().expect("a text");
    }
    for (i, text) in texts.iter().enumerate() {
        assert_eq!(json!(text), whole["choices"][i]["text"]);
    }
    let ends = events.iter().filter(|e| e["choices"][0]["finish_reason"] == "length").count();
    assert_eq!(ends, 4);
}

#[test]
fn log_probabilities_have_the_form_of_texts() {
    let server = start(options());
    let body = json!({ "prompt": "Once upon", "max_tokens": 5, "temperature": 0, "logprobs": 2 });
    let answer = server.ok(PATH, &body);
    let (choice, l) = (&answer["choices"][0], &answer["choices"][0]["logprobs"]);
    let list = |name: &str| l[name].as_array().expect(name).clone();
    let tokens = list("tokens");
    assert_eq!(tokens.len(), 5);
    let joined: String = tokens.iter().filter_map(Value::as_str).collect();
    assert_eq!(json!(joined), choice["text"]);
    assert_eq!(list("text_offset")[0], 0);
    assert_eq!(list("text_offset")[1], json!(tokens[0].as_str().map(str::len)));
    for (i, top) in list("top_logprobs").iter().enumerate() {
        let top = top.as_object().expect("an object");
        assert_eq!(top.len(), 2);
        let token = tokens[i].as_str().expect("a text");
        assert_eq!(top[token], list("token_logprobs")[i]);
    }
    // In pieces they are the same.
    let mut streamed = body.clone();
    streamed["stream"] = json!(true);
    let events = server.post(PATH, &streamed).events();
    for name in ["tokens", "token_logprobs", "top_logprobs", "text_offset"] {
        let parts = events.iter().flat_map(|e| e["choices"][0]["logprobs"][name].as_array());
        let all: Vec<Value> = parts.flatten().cloned().collect();
        assert_eq!(all, list(name), "{name}");
    }
    // Without alternatives.
    let alone = json!({ "prompt": "Once upon", "max_tokens": 5, "temperature": 0, "logprobs": 0 });
    let alone = server.ok(PATH, &alone);
    assert_eq!(alone["choices"][0]["logprobs"]["token_logprobs"], l["token_logprobs"]);
    assert!(alone["choices"][0]["logprobs"]["top_logprobs"][0].is_null());
}

/// What evaluation harnesses do: the log probabilities of a text, without a token to generate.
#[test]
fn echo_gives_the_prompt_back_with_its_log_probabilities() {
    let server = start(options());
    let prompt = "Once upon a time, there was a little dog";
    let body = |more: Value| {
        let mut body = json!({ "prompt": prompt, "echo": true, "logprobs": 1, "temperature": 0 });
        for (key, value) in more.as_object().expect("an object") {
            body[key] = value.clone();
        }
        body
    };
    let answer = server.ok(PATH, &body(json!({ "max_tokens": 0 })));
    let (choice, l) = (&answer["choices"][0], &answer["choices"][0]["logprobs"]);
    assert_eq!((&choice["text"], &choice["finish_reason"]), (&json!(prompt), &json!("length")));
    assert_eq!(answer["usage"]["completion_tokens"], 0);
    let tokens = l["tokens"].as_array().expect("tokens");
    let joined: String = tokens.iter().filter_map(Value::as_str).collect();
    assert_eq!(joined, prompt);
    let probs = l["token_logprobs"].as_array().expect("numbers");
    assert_eq!(probs.len(), tokens.len());
    assert!(probs[0].is_null() && probs[1..].iter().all(|p| p.as_f64().is_some_and(|p| p < 0.0)));
    // The same bits as when the model generates that token.
    let ids = server.ok("/tokenize", &json!({ "content": prompt }))["tokens"].clone();
    let ids = ids.as_array().expect("ids").clone();
    let (last, before) = ids.split_last().expect("tokens");
    let forced = json!({
        "prompt": before, "max_tokens": 1, "temperature": 0, "logprobs": 0,
        "logit_bias": [[last, 1000]],
    });
    let forced = server.ok(PATH, &forced);
    let forced = &forced["choices"][0]["logprobs"]["token_logprobs"][0];
    assert_eq!(forced, probs.last().expect("a number"));
    // With generated text behind it, in one piece or several.
    let more = server.ok(PATH, &body(json!({ "max_tokens": 3 })));
    let whole = more["choices"][0]["text"].as_str().expect("a text").to_owned();
    assert!(whole.starts_with(prompt) && whole.len() > prompt.len());
    let all = more["choices"][0]["logprobs"]["tokens"].as_array().expect("tokens");
    assert_eq!(all.len(), tokens.len() + 3);
    let events = server.post(PATH, &body(json!({ "max_tokens": 3, "stream": true }))).events();
    let streamed: String = events.iter().filter_map(|e| e["choices"][0]["text"].as_str()).collect();
    assert_eq!(streamed, whole);
    let parts = events.iter().flat_map(|e| e["choices"][0]["logprobs"]["text_offset"].as_array());
    let offsets: Vec<Value> = parts.flatten().cloned().collect();
    assert_eq!(json!(offsets), more["choices"][0]["logprobs"]["text_offset"]);
    // Tokens come back as their text.
    let of_ids = server.ok(PATH, &json!({ "prompt": ids, "echo": true, "max_tokens": 0 }));
    assert_eq!(of_ids["choices"][0]["text"], prompt);
}

#[test]
fn a_prompt_may_fill_the_context() {
    let server = start_with(options(), engine_options().with_sequences(16));
    let n = server.get("/v1/models").json()["data"][0]["meta"]["n_ctx"].as_u64().expect("a number");
    let prompt = |n: u64| json!({ "prompt": vec![7; n as usize], "max_tokens": 5 });
    assert_eq!(server.refused(PATH, &prompt(n + 1), 400)["n_prompt_tokens"], n + 1);
    let full = server.ok(PATH, &prompt(n));
    assert_eq!(full["choices"][0]["finish_reason"], "length");
    let near = server.ok(PATH, &prompt(n - 2));
    assert!(near["usage"]["completion_tokens"].as_u64() <= Some(3));
}

#[test]
fn second_requests_use_what_the_first_computed() {
    let server = start(options());
    let prompt = "Once upon a time there was a dog. ".repeat(20);
    let body = json!({ "prompt": prompt, "max_tokens": 1, "temperature": 0 });
    let first = server.ok(PATH, &body);
    let second = server.ok(PATH, &body);
    assert_eq!(first["choices"], second["choices"]);
    let cached = |v: &Value| v["usage"]["prompt_tokens_details"]["cached_tokens"].as_u64();
    assert_eq!(cached(&first), Some(0));
    assert!(cached(&second) >= Some(64), "{second}");
    assert_eq!(
        server.metric("teff_prompt_tokens_cached_total") as u64,
        cached(&second).unwrap_or(0)
    );
    assert_eq!(text(&server, &body), first["choices"][0]["text"]);
}
