//! `/v1/chat/completions`.

use serde_json::{Value, json};
use teff_serve::ServeOptions;

use crate::common::{Running, options, start, story};

fn body(more: Value) -> Value {
    let mut body = json!({
        "messages": [{ "role": "user", "content": "Tell me of a cat." }],
        "max_tokens": 12,
        "seed": 5,
    });
    for (key, value) in more.as_object().expect("an object") {
        body[key] = value.clone();
    }
    body
}

const PATH: &str = "/v1/chat/completions";

/// The texts of the choices of a stream, and their reasons to end.
fn joined(events: &[Value], n: usize) -> Vec<(String, Value)> {
    let mut all = vec![(String::new(), Value::Null); n];
    for event in events {
        for choice in event["choices"].as_array().expect("choices in every chunk") {
            let (text, reason) = &mut all[choice["index"].as_u64().expect("an index") as usize];
            text.push_str(choice["delta"]["content"].as_str().unwrap_or(""));
            assert!(reason.is_null(), "nothing follows the end");
            *reason = choice["finish_reason"].clone();
        }
    }
    all
}

#[test]
fn an_answer_has_the_fields_that_clients_need() {
    let server = start(options());
    let answer = server.ok(PATH, &body(json!({})));
    assert_eq!((&answer["object"], &answer["model"]), (&json!("chat.completion"), &json!("story")));
    assert!(answer["id"].as_str().is_some_and(|id| id.starts_with("chatcmpl-")));
    assert!(answer["created"].as_u64().is_some_and(|t| t > 1_700_000_000));
    assert_eq!(answer["seed"], 5);
    let choice = &answer["choices"][0];
    assert_eq!((&choice["index"], &choice["finish_reason"]), (&json!(0), &json!("length")));
    assert_eq!(choice["message"]["role"], "assistant");
    assert!(choice["message"]["content"].as_str().is_some_and(|text| !text.is_empty()));
    assert!(choice["logprobs"].is_null() && choice["message"].get("tool_calls").is_none());
    let usage = &answer["usage"];
    let n = |name: &str| usage[name].as_u64().expect("a number");
    assert_eq!(n("completion_tokens"), 12);
    assert!(n("prompt_tokens") > 10);
    assert_eq!(n("total_tokens"), n("prompt_tokens") + 12);
    assert_eq!(usage["prompt_tokens_details"]["cached_tokens"], 0);
    // The same again, at the other path: the same text, and nothing computed twice but whole pages.
    let again = server.ok("/chat/completions", &body(json!({})));
    assert_eq!(again["choices"], answer["choices"]);
}

#[test]
fn a_stream_has_the_text_of_the_whole_answer() {
    let server = start(options());
    let whole = server.ok(PATH, &body(json!({ "n": 2 })));
    let more = json!({ "n": 2, "stream": true, "stream_options": { "include_usage": true } });
    let answer = server.post(PATH, &body(more));
    assert_eq!(answer.header("x-accel-buffering"), Some("no"));
    assert_eq!(answer.header("cache-control"), Some("no-cache"));
    let mut events = answer.events();
    let last = events.pop().expect("a chunk with the usage");
    assert_eq!(last["choices"], json!([]));
    assert_eq!(last["usage"], {
        let mut usage = whole["usage"].clone();
        usage["prompt_tokens_details"] = last["usage"]["prompt_tokens_details"].clone();
        usage
    });
    assert_eq!(last["usage"]["completion_tokens"], 24);
    for event in &events {
        assert_eq!(event["object"], "chat.completion.chunk");
        assert_eq!((&event["id"], &event["model"]), (&last["id"], &json!("story")));
        assert!(event["created"].is_u64() && event.get("usage").is_none());
        let choice = &event["choices"][0];
        assert!(choice["delta"].is_object() && choice.get("finish_reason").is_some());
    }
    for index in 0..2 {
        let own = |e: &&Value| e["choices"][0]["index"] == index;
        let first = events.iter().find(own).expect("a chunk");
        assert_eq!(first["choices"][0]["delta"]["role"], "assistant");
        let end = events.iter().rfind(own).expect("a chunk");
        assert_eq!(end["choices"][0]["delta"], json!({}));
    }
    for (index, (text, reason)) in joined(&events, 2).into_iter().enumerate() {
        let choice = &whole["choices"][index];
        assert_eq!(
            (&json!(text), &reason),
            (&choice["message"]["content"], &choice["finish_reason"])
        );
    }
    assert_ne!(whole["choices"][0]["message"], whole["choices"][1]["message"]);
}

#[test]
fn choices_of_a_stream_begin_in_order() {
    let server = start(options());
    for seed in 0..12 {
        // Text that may be the beginning of a stop string is held back, of some choices for longer than of others.
        let stops = json!({ "n": 4, "stream": true, "stop": [" the", "a t"], "seed": 100 * seed });
        let events = server.post(PATH, &body(stops)).events();
        let mut seen = Vec::new();
        for index in events.iter().filter_map(|e| e["choices"][0]["index"].as_u64()) {
            if !seen.contains(&index) {
                seen.push(index);
            }
        }
        assert_eq!(seen, [0, 1, 2, 3]);
    }
}

#[test]
fn choice_i_has_the_seed_plus_i() {
    let server = start(options());
    let two = server.ok(PATH, &body(json!({ "n": 2 })));
    let second = server.ok(PATH, &body(json!({ "seed": 6 })));
    assert_eq!(two["choices"][1]["message"], second["choices"][0]["message"]);
    // Without a seed, the one that was drawn gives the text again.
    let drawn = server.ok(PATH, &body(json!({ "seed": null })));
    let again = server.ok(PATH, &body(json!({ "seed": drawn["seed"] })));
    assert_eq!(drawn["choices"], again["choices"]);
}

#[test]
fn log_probabilities() {
    let server = start(options());
    let answer =
        server.ok(PATH, &body(json!({ "logprobs": true, "top_logprobs": 3, "temperature": 0 })));
    let content = answer["choices"][0]["logprobs"]["content"].as_array().expect("entries");
    assert_eq!(content.len(), 12);
    let mut text = String::new();
    for entry in content {
        text += entry["token"].as_str().expect("a text");
        let top = entry["top_logprobs"].as_array().expect("alternatives");
        assert_eq!(top.len(), 3);
        // Greedy: the most likely token, by the model's own probabilities.
        assert_eq!((&top[0]["token"], &top[0]["logprob"]), (&entry["token"], &entry["logprob"]));
        assert!(entry["logprob"].as_f64().is_some_and(|p| p < 0.0));
        let bytes: Vec<u8> = serde_json::from_value(entry["bytes"].clone()).expect("bytes");
        assert_eq!(String::from_utf8(bytes).ok().as_deref(), entry["token"].as_str());
        assert!(top.iter().all(|t| t.get("top_logprobs").is_none()));
    }
    assert_eq!(answer["choices"][0]["message"]["content"], json!(text));
    let alone = server.ok(PATH, &body(json!({ "logprobs": true })));
    assert_eq!(alone["choices"][0]["logprobs"]["content"][0]["top_logprobs"], json!([]));
    let more = json!({ "logprobs": true, "top_logprobs": 3, "temperature": 0, "stream": true });
    let streamed: Vec<Value> = server
        .post(PATH, &body(more))
        .events()
        .iter()
        .flat_map(|e| {
            e["choices"][0]["logprobs"]["content"].as_array().cloned().unwrap_or_default()
        })
        .collect();
    assert_eq!(&streamed, content);
    let error = server.refused(PATH, &body(json!({ "top_logprobs": 3 })), 400);
    assert_eq!(error["param"], "top_logprobs");
}

#[test]
fn limits_and_stops() {
    let server = start(options());
    let greedy = |more: Value| {
        let mut all = body(json!({ "temperature": 0 }));
        for (key, value) in more.as_object().expect("an object") {
            all[key] = value.clone();
        }
        all
    };
    let content = |more: Value| {
        let answer = server.ok(PATH, &greedy(more));
        let choice = &answer["choices"][0];
        let text = choice["message"]["content"].as_str().expect("a text").to_owned();
        (text, choice["finish_reason"].clone(), answer["usage"]["completion_tokens"].clone())
    };
    let (text, _, _) = content(json!({}));
    assert_eq!(content(json!({ "max_tokens": 0 })), (String::new(), json!("length"), json!(0)));
    assert_eq!(content(json!({ "max_completion_tokens": 3, "max_tokens": 9 })).2, json!(3));
    // A stop in the middle, across tokens.
    let at = text.len() / 2;
    let (head, stop) = (&text[..at], &text[at..at + 4]);
    let cut = text.find(stop).expect("it is there");
    let stopped = content(json!({ "stop": stop }));
    assert_eq!((stopped.0.as_str(), &stopped.1), (&text[..cut], &json!("stop")));
    assert!(cut <= head.len());
    // Empty stops are none.
    assert_eq!(content(json!({ "stop": ["", ""] })).0, text);
    assert_eq!(content(json!({ "stop": "" })).0, text);
    // Text that may begin a stop is not lost at the end, streamed or not.
    let tail = format!("{} and never this", &text[text.len() - 3..]);
    assert_eq!(content(json!({ "stop": [tail] })).0, text);
    let events = server.post(PATH, &greedy(json!({ "stop": [tail], "stream": true }))).events();
    assert_eq!(joined(&events, 1)[0].0, text);
    // A full context ends an answer.
    let full = content(json!({ "max_tokens": null, "ignore_eos": true }));
    assert_eq!(full.1, json!("length"));
    assert!(full.0.starts_with(&text) && full.2.as_u64() > Some(100));
}

#[test]
fn biases_rule_tokens_out() {
    let server = start(options());
    let tokens = server.ok("/tokenize", &json!({ "content": " there" }))["tokens"].clone();
    let id = tokens[0].to_string();
    let greedy = body(json!({ "temperature": 0, "max_tokens": 1 }));
    let plain = server.ok(PATH, &greedy)["choices"][0]["message"]["content"].clone();
    for bias in [json!({ id.clone(): 100 }), json!([[" there", 100]]), json!([[tokens[0], 100]])] {
        let mut with = greedy.clone();
        with["logit_bias"] = bias;
        let text = server.ok(PATH, &with)["choices"][0]["message"]["content"].clone();
        assert_eq!(text, json!(" there"));
    }
    let mut without = greedy.clone();
    without["logit_bias"] = json!([[plain, false]]);
    assert_ne!(server.ok(PATH, &without)["choices"][0]["message"]["content"], plain);
    without["logit_bias"] = json!({ "999999": 1 });
    assert_eq!(server.refused(PATH, &without, 400)["param"], "logit_bias");
}

#[test]
fn a_last_message_of_the_assistant_is_continued() {
    let server = start(options());
    let mut with = body(json!({}));
    with["messages"] = json!([
        { "role": "user", "content": "Tell me of a cat." },
        { "role": "assistant", "content": " Once upon" },
    ]);
    let whole = server.ok(PATH, &with)["choices"][0]["message"]["content"].clone();
    let whole = whole.as_str().expect("a text");
    assert!(whole.starts_with(" Once upon") && whole.len() > 10);
    let prompt = "user: Tell me of a cat.\nassistant: Once upon";
    let rendered = server.ok("/apply-template", &with)["prompt"].clone();
    assert_eq!(rendered, prompt);
    let text = json!({ "prompt": prompt, "max_tokens": 12, "seed": 5 });
    let text = server.ok("/v1/completions", &text)["choices"][0]["text"].clone();
    assert_eq!(json!(whole[" Once upon".len()..]), text);
    with["stream"] = json!(true);
    assert_eq!(joined(&server.post(PATH, &with).events(), 1)[0].0, whole);
}

#[test]
fn contents_of_several_parts() {
    let server = start(options());
    let with = |content: Value| {
        let body = json!({ "messages": [{ "role": "user", "content": content }] });
        server.ok("/apply-template", &body)["prompt"].clone()
    };
    let part = |text: &str| json!({ "type": "text", "text": text });
    assert_eq!(with(json!([part("a"), part("b")])), "user: a\nb\nassistant:");
    assert_eq!(with(json!([part("a")])), with(json!("a")));
    assert_eq!(with(Value::Null), "user: \nassistant:");
    // A template that knows parts gets them.
    let template = "{% for p in messages[0].content %}<{{ p.text }}>{% endfor %}";
    let parts = start(ServeOptions::default().with_chat_template(template));
    let body = json!({ "messages": [{ "role": "user", "content": [part("a"), part("b")] }] });
    assert_eq!(parts.ok("/apply-template", &body)["prompt"], "<a><b>");
}

#[test]
fn models_without_a_template_converse_in_chatml() {
    let server = start(ServeOptions::default());
    let body = json!({ "messages": [{ "role": "developer", "content": "x" }, { "role": "user", "content": "y" }] });
    let prompt = server.ok("/apply-template", &body)["prompt"].clone();
    let expected =
        "<|im_start|>system\nx<|im_end|>\n<|im_start|>user\ny<|im_end|>\n<|im_start|>assistant\n";
    assert_eq!(prompt, expected);
    let props = server.get("/props").json();
    assert_eq!(props["chat_template_source"], "builtin");
    assert!(props["chat_template"].as_str().is_some_and(|source| source.contains("<|im_start|>")));
    let model = story();
    let n = model.tokenizer().expect("a tokenizer");
    let n = n.encode(expected, teff_runtime::tokenizer::Specials::Ignore).expect("tokens").len();
    let counted = server.ok("/v1/chat/completions/input_tokens", &body);
    assert_eq!(counted, json!({ "input_tokens": n, "object": "response.input_tokens" }));
}

#[test]
fn prompts_that_are_too_long_are_refused_before_any_event() {
    let server = start(options());
    let long = "word ".repeat(2000);
    for stream in [false, true] {
        let body = json!({ "messages": [{ "role": "user", "content": long }], "stream": stream });
        let error = server.refused(PATH, &body, 400);
        assert_eq!(error["code"], "context_length_exceeded");
        assert_eq!(error["type"], "exceed_context_size_error");
        assert_eq!(error["n_ctx"], 384);
        assert!(error["n_prompt_tokens"].as_u64() > Some(384));
    }
}

#[test]
fn templates_that_refuse_are_the_request_s_fault() {
    let template = "{{ raise_exception('roles must alternate') }}";
    let server = start(ServeOptions::default().with_chat_template(template));
    let error = server.refused(PATH, &body(json!({})), 400);
    assert_eq!(error["code"], "template_error");
    assert!(error["message"].as_str().is_some_and(|m| m.contains("roles must alternate")));
}

#[test]
fn variables_reach_the_template() {
    let template = "{{ 'on' if thinking else 'off' }} {{ reasoning_effort }}";
    let server = start(ServeOptions::default().with_chat_template(template));
    let body =
        body(json!({ "chat_template_kwargs": { "thinking": true }, "reasoning_effort": "low" }));
    assert_eq!(server.ok("/apply-template", &body)["prompt"], "on low");
}

/// Texts do not depend on who else asks.
#[test]
fn equal_requests_get_equal_texts_in_any_company() {
    let server = start(options());
    let alone = server.ok(PATH, &body(json!({})))["choices"].clone();
    let ask = |server: &Running, seed: u64| {
        server.ok(PATH, &body(json!({ "seed": seed })))["choices"].clone()
    };
    std::thread::scope(|scope| {
        let server = &server;
        let others: Vec<_> = (0..6)
            .map(|i| scope.spawn(move || ask(server, if i % 2 == 0 { 5 } else { i })))
            .collect();
        for (i, other) in others.into_iter().enumerate() {
            let choices = other.join().expect("an answer");
            assert!(i % 2 == 1 || choices == alone);
        }
    });
}
