//! Models, tokens, metrics, properties, the page and prefixes.

use serde_json::{Value, json};

use crate::common::{options, start};

#[test]
fn models() {
    let server = start(options());
    for path in ["/v1/models", "/models"] {
        let list = server.get(path).json();
        assert_eq!(list["object"], "list");
        let model = &list["data"][0];
        assert_eq!((&model["id"], &model["object"]), (&json!("story"), &json!("model")));
        assert!(model["created"].is_u64() && model["owned_by"].is_string());
        assert_eq!(model["meta"]["n_vocab"], 2048);
    }
    assert_eq!(server.get("/v1/models/story").json()["id"], "story");
    let answer = server.get("/v1/models/a/b");
    assert_eq!((answer.status, &answer.json()["error"]["code"]), (404, &json!("model_not_found")));
}

#[test]
fn tokens_and_their_texts() {
    let server = start(options());
    let text = "Once upon a time <|endoftext|> é";
    let tokens = server.ok("/tokenize", &json!({ "content": text }))["tokens"].clone();
    assert_eq!(server.ok("/detokenize", &json!({ "tokens": tokens }))["content"], text);
    let plain = server.ok("/tokenize", &json!({ "content": text, "parse_special": false }));
    assert!(plain["tokens"].as_array().map(Vec::len) > tokens.as_array().map(Vec::len));
    assert_eq!(server.ok("/detokenize", &plain)["content"], text);
    let pieces =
        server.ok("/tokenize", &json!({ "content": "Once \u{1f33e}", "with_pieces": true }));
    let mut bytes = Vec::new();
    for piece in pieces["tokens"].as_array().expect("pieces") {
        assert!(piece["id"].is_u64());
        match &piece["piece"] {
            Value::String(text) => bytes.extend_from_slice(text.as_bytes()),
            part => bytes.extend(serde_json::from_value::<Vec<u8>>(part.clone()).expect("bytes")),
        }
    }
    assert_eq!(String::from_utf8(bytes).as_deref(), Ok("Once \u{1f33e}"));
    assert_eq!(server.ok("/tokenize", &json!({}))["tokens"], json!([]));
    assert_eq!(server.ok("/detokenize", &json!({}))["content"], "");
    // Names of other servers for the text.
    for field in ["prompt", "messages"] {
        let error = server.refused("/tokenize", &json!({ field: "x" }), 400);
        assert_eq!(error["param"], field);
        assert!(error["message"].as_str().is_some_and(|m| m.contains("`content`")), "{error}");
    }
    for bad in [json!([1.5]), json!("x"), json!([99_999_999]), json!([-1])] {
        assert_eq!(
            server.refused("/detokenize", &json!({ "tokens": bad }), 400)["param"],
            "tokens"
        );
    }
}

#[test]
fn metrics_count_what_was_done() {
    let server = start(options());
    server.ok(
        "/v1/completions",
        &json!({ "prompt": "Once upon a time", "max_tokens": 7, "ignore_eos": true }),
    );
    server.refused("/v1/completions", &json!({}), 400);
    server.get("/nothing");
    assert_eq!(server.metric("teff_generated_tokens_total"), 7.0);
    assert_eq!(server.metric("teff_prompt_tokens_total"), 4.0);
    assert_eq!(server.metric("teff_prompt_tokens_cached_total"), 0.0);
    assert_eq!(server.metric("teff_time_to_first_token_seconds_count"), 1.0);
    assert!(server.metric("teff_time_between_tokens_seconds_count") <= 6.0);
    let of = |route: &str, code: u16| {
        server.metric(&format!("teff_requests_total{{route=\"{route}\",code=\"{code}\"}}"))
    };
    assert_eq!(
        (of("/v1/completions", 200), of("/v1/completions", 400), of("none", 404)),
        (1.0, 1.0, 1.0)
    );
    let pages = ["running", "cached", "free"]
        .map(|s| server.metric(&format!("teff_pages{{state=\"{s}\"}}")));
    let all = server.get("/props").json()["stats"]["pages"].as_f64();
    assert_eq!(Some(pages.iter().sum()), all);
    for name in [
        "queue_requests",
        "batch_sequences",
        "batch_tokens",
        "tokens_per_second",
        "running_sequences",
    ] {
        assert!(server.metric(&format!("teff_{name}")) >= 0.0);
    }
    let answer = server.get("/metrics");
    assert!(answer.header("content-type").is_some_and(|t| t.contains("version=")));
    assert!(answer.text().ends_with("# EOF\n"));
}

#[test]
fn properties() {
    let mut named = options();
    named.max_tokens = Some(99);
    named.sampling = named.sampling.with_temperature(0.25);
    let server = start(named);
    let props = server.get("/props").json();
    let settings = &props["default_generation_settings"];
    assert_eq!(
        (&settings["n_ctx"], &settings["params"]["temperature"]),
        (&json!(384), &json!(0.25))
    );
    assert_eq!(settings["params"]["max_tokens"], 99);
    assert_eq!((&props["total_slots"], &props["model_alias"]), (&json!(4), &json!("story")));
    assert_eq!(props["chat_template"], crate::common::TEMPLATE);
    assert_eq!(props["chat_template_source"], "option");
    assert_eq!(props["eos_token"], "<|endoftext|>");
}

#[test]
fn the_page_runs_nothing_but_its_own_script() {
    let server = start(options());
    let page = server.get("/");
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    let policy = page.header("content-security-policy").expect("a policy");
    assert!(policy.starts_with("default-src 'none'") && policy.contains("frame-ancestors 'none'"));
    let nonce = policy.split("'nonce-").nth(1).and_then(|rest| rest.split('\'').next());
    let nonce = nonce.expect("a nonce");
    let text = page.text();
    assert!(!text.contains("<script>") && !text.contains("<style>"));
    assert_eq!(
        text.matches("<script").count(),
        text.matches(&format!("<script nonce=\"{nonce}\"")).count()
    );
    assert!(!server.get("/").text().contains(nonce));
}

#[test]
fn embeddings_are_refused() {
    let server = start(options());
    let error = server.refused("/v1/embeddings", &json!({ "input": "x" }), 400);
    assert_eq!(error["code"], "not_supported");
}

#[test]
fn prefixes_are_saved_and_loaded_by_name() {
    let folder = std::env::temp_dir().join(format!("teff-prefixes-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let mut kept = options();
    kept.prefix_dir = Some(folder.clone());
    kept.max_prefixes = 3;
    let prompt = "Once upon a time there was a dog who liked to sing. ".repeat(10);
    let server = start(kept.clone());
    let saved = server.ok("/prefix/save", &json!({ "name": "dog", "prompt": prompt }));
    assert_eq!(saved["name"], "dog");
    let n = saved["tokens"].as_u64().expect("a number");
    server.end();
    // Another server, which has not computed it.
    let server = start(kept);
    let loaded = server.ok("/prefix/load", &json!({ "name": "dog" }));
    assert_eq!(loaded["tokens"], n);
    let body = json!({ "prompt": prompt, "max_tokens": 1, "temperature": 0 });
    let answer = server.ok("/v1/completions", &body);
    assert!(
        answer["usage"]["prompt_tokens_details"]["cached_tokens"].as_u64() >= Some(64),
        "{answer}"
    );
    let tokens = server.ok("/prefix/save", &json!({ "name": "t", "tokens": [1, 2, 3] }));
    assert_eq!(tokens["tokens"], 3);
    let messages = json!([{ "role": "system", "content": "Be brief." }]);
    server.ok("/prefix/save", &json!({ "name": "m", "messages": messages }));
    let error = server.refused("/prefix/save", &json!({ "name": "fourth", "tokens": [1] }), 400);
    assert_eq!(error["code"], "too_many_prefixes");
    server.ok("/prefix/save", &json!({ "name": "t", "tokens": [1, 2] }));
    let plain = start(options());
    for (server, path, body, status) in [
        (&server, "/prefix/load", json!({ "name": "cat" }), 404),
        (&server, "/prefix/load", json!({ "name": "../dog" }), 400),
        (&server, "/prefix/load", json!({}), 400),
        (&server, "/prefix/save", json!({ "name": "x" }), 400),
        (&server, "/prefix/save", json!({ "name": "x", "prompt": "a", "tokens": [1] }), 400),
        (&server, "/prefix/save", json!({ "name": "x", "tokens": [99_999_999] }), 400),
        (&server, "/prefix/save", json!({ "name": "x", "tokens": vec![1; 5000] }), 400),
        (&server, "/prefix/save", json!({ "name": "x", "prompt": ["a", "b"] }), 400),
        (&plain, "/prefix/save", json!({ "name": "x", "prompt": "a" }), 400),
        (&plain, "/prefix/load", json!({ "name": "x" }), 400),
    ] {
        server.refused(path, &body, status);
    }
    let mut strict = options();
    (strict.prefix_dir, strict.check_model) = (Some(folder.clone()), true);
    let strict = start(strict);
    for path in ["/prefix/load", "/prefix/save"] {
        let mut body = json!({ "name": "t", "model": "gpt-4o" });
        if path == "/prefix/save" {
            body["tokens"] = json!([1]);
        }
        assert_eq!(strict.refused(path, &body, 404)["code"], "model_not_found", "{path}");
        body["model"] = json!("story");
        strict.ok(path, &body);
    }
    drop(strict);
    std::fs::write(folder.join("bad.prefix"), b"no prefix").expect("a file");
    let error = server.refused("/prefix/load", &json!({ "name": "bad" }), 400);
    assert!(error["message"].as_str().is_some_and(|m| m.contains("`bad`")), "{error}");
    std::fs::remove_dir_all(folder).expect("the folder");
}
