//! Answers that are held to a grammar.

use serde_json::{Value, json};

use crate::common::{options, start};

const PATH: &str = "/v1/chat/completions";

fn body(more: Value) -> Value {
    let mut body = json!({
        "messages": [{ "role": "user", "content": "Describe a dog." }],
        "max_tokens": 300,
        "seed": 3,
    });
    for (key, value) in more.as_object().expect("an object") {
        body[key] = value.clone();
    }
    body
}

fn schema() -> Value {
    json!({
        "type": "object",
        "properties": {
            "zebra": { "type": "boolean" },
            "legs": { "type": "integer", "minimum": 0, "maximum": 9 },
            "name": { "enum": ["Rex", "Bello"] },
        },
        "required": ["zebra", "legs", "name"],
        "additionalProperties": false,
    })
}

/// The texts of all choices, which must have ended by themselves.
fn texts(answer: &Value) -> Vec<String> {
    let choices = answer["choices"].as_array().expect("choices");
    let text = |choice: &Value| {
        assert_eq!(choice["finish_reason"], "stop", "{choice}");
        choice["message"]["content"].as_str().expect("a text").to_owned()
    };
    choices.iter().map(text).collect()
}

#[test]
fn schemas_hold_every_choice() {
    let server = start(options());
    let format = json!({
        "type": "json_schema", "json_schema": { "name": "dog", "schema": schema(), "strict": true },
    });
    let asked = body(json!({ "response_format": format, "n": 3, "temperature": 1.5 }));
    let answer = server.ok(PATH, &asked);
    let all = texts(&answer);
    for text in &all {
        let value: Value = serde_json::from_str(text).expect(text);
        // In the order of the schema.
        let keys: Vec<&String> = value.as_object().expect("an object").keys().collect();
        assert_eq!(keys, ["zebra", "legs", "name"]);
        assert!(value["zebra"].is_boolean() && value["legs"].as_u64().is_some_and(|n| n < 10));
        assert!(["Rex", "Bello"].contains(&value["name"].as_str().unwrap_or_default()));
    }
    // The same by the other fields that take a schema, and in a stream.
    let other = body(json!({ "json_schema": schema(), "n": 3, "temperature": 1.5 }));
    assert_eq!(texts(&server.ok(PATH, &other)), all);
    let mut streamed = vec![String::new(); 3];
    let mut asked = asked.clone();
    asked["stream"] = json!(true);
    for event in server.post(PATH, &asked).events() {
        let choice = &event["choices"][0];
        let index = choice["index"].as_u64().expect("an index") as usize;
        streamed[index] += choice["delta"]["content"].as_str().unwrap_or_default();
    }
    assert_eq!(streamed, all);
}

#[test]
fn objects_expressions_and_grammars() {
    let server = start(options());
    let one = |more: Value| texts(&server.ok(PATH, &body(more))).remove(0);
    let date = one(json!({ "regex": "[0-9]{4}-[0-9]{2}" }));
    assert!(date.len() == 7 && date.as_bytes()[4] == b'-', "{date}");
    let said = one(json!({ "grammar": "start: \"yes\" | \"no\"" }));
    assert!(["yes", "no"].contains(&said.as_str()), "{said}");
    // An object may be long: its beginning is one in any case.
    let object = body(json!({ "response_format": { "type": "json_object" }, "max_tokens": 20 }));
    let answer = server.ok(PATH, &object);
    let text = answer["choices"][0]["message"]["content"].as_str().expect("a text");
    assert!(text.starts_with('{'), "{text}");
    // Texts too.
    let text =
        json!({ "prompt": "The dog says", "regex": " (wau|wuff)", "max_tokens": 20, "n": 2 });
    let answer = server.ok("/v1/completions", &text);
    for i in 0..2 {
        let text = answer["choices"][i]["text"].as_str().unwrap_or_default();
        assert!([" wau", " wuff"].contains(&text), "{text}");
    }
}

#[test]
fn what_is_not_supported_is_named() {
    let server = start(options());
    let schema = |schema: Value| json!({ "response_format": { "type": "json_schema", "json_schema": { "schema": schema } } });
    for (asked, param, says) in [
        (
            schema(json!({ "type": "object", "unevaluatedProperties": false })),
            "response_format",
            "unevaluatedProperties",
        ),
        (schema(json!({ "typ": "object" })), "response_format", "typ"),
        (schema(json!({ "type": "thing" })), "response_format", "`type`"),
        (json!({ "regex": "(a" }), "regex", "unclosed"),
        (json!({ "grammar": "start: missing" }), "grammar", "missing"),
        (json!({ "grammar": "root ::= \"a\"" }), "grammar", ""),
    ] {
        for stream in [false, true] {
            let mut asked = body(asked.clone());
            asked["stream"] = json!(stream);
            let error = server.refused(PATH, &asked, 400);
            assert_eq!(error["param"], param, "{error}");
            assert!(error["message"].as_str().is_some_and(|m| m.contains(says)), "{error}");
        }
    }
    assert_eq!(server.metric("teff_generated_tokens_total"), 0.0);
}

#[test]
fn constraints_are_never_lost() {
    let server = start(options());
    let text = |more: Value| server.ok("/v1/completions", &more)["choices"][0]["text"].clone();
    // The empty text is what an empty expression asks for; an empty grammar is none.
    assert_eq!(text(json!({ "prompt": "a", "max_tokens": 9, "seed": 1, "regex": "" })), "");
    assert_ne!(text(json!({ "prompt": "a", "max_tokens": 9, "seed": 1, "grammar": "" })), "");
    for (name, value) in
        [("guided_choice", json!(["a", "b"])), ("structured_outputs", json!({ "regex": "a|b" }))]
    {
        let mut asked = json!({ "prompt": "a", "max_tokens": 9 });
        asked[name] = value;
        let answer = server.post("/v1/completions", &asked);
        assert_eq!(answer.status, 400, "{name}");
        assert_eq!(answer.json()["error"]["param"], name);
    }
    // Large numbers stay as they are.
    for number in [json!(u64::MAX), json!(18_446_744_073_709_552_000.0), json!(-1e17)] {
        let schema = json!({ "enum": [number] });
        let written = text(json!({ "prompt": "a", "max_tokens": 60, "json_schema": schema }));
        let written: Value = serde_json::from_str(written.as_str().unwrap()).unwrap();
        assert_eq!(written.as_f64(), number.as_f64());
    }
}
