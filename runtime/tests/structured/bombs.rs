//! Small grammars that ask for much.

use serde_json::{Value, json};
use teff_runtime::structured::{Grammar, GrammarError};

use crate::texts::{FILES, Random, Text, Vocabulary, samplings, text};

/// Nested lists, such as `{"items": {"items": ...}}`.
fn nested(levels: usize, open: &str, middle: &str, close: &str) -> String {
    format!("{}{middle}{}", open.repeat(levels), close.repeat(levels))
}

#[test]
fn schemas_that_ask_for_much_are_refused() {
    let vocabulary = Vocabulary::open(FILES[0]);
    let names = |n: usize| (0..n).map(|i| (format!("p{i}"), json!({"type": "null"})));
    let branches =
        |n: usize| (0..n).map(|i| json!({"required": [format!("r{i}")]})).collect::<Vec<_>>();
    let chain: Value = (0..3000)
        .map(|i| {
            (
                format!("d{i}"),
                json!({"type": "array", "items": {"$ref": format!("#/$defs/d{}", i + 1)}}),
            )
        })
        .chain([("d3000".to_string(), json!({}))])
        .collect::<serde_json::Map<String, Value>>()
        .into();
    let doubling: Value = (0..40)
        .map(|i| {
            let next = json!({"$ref": format!("#/$defs/d{}", i + 1)});
            (format!("d{i}"), json!({"anyOf": [next, {"allOf": [next, {"minLength": i}]}]}))
        })
        .chain([("d40".to_string(), json!({"type": "string"}))])
        .collect::<serde_json::Map<String, Value>>()
        .into();
    let cases: Vec<(&str, String)> = vec![
        ("deep", nested(200, "{\"items\":", "{}", "}")),
        ("deep value", format!("{{\"const\": {}}}", nested(500, "[", "1", "]"))),
        ("long", format!("{{\"description\": \"{}\"}}", "x".repeat(1 << 20))),
        ("many properties", json!({"properties": names(30_000).collect::<serde_json::Map<_, _>>()}).to_string()),
        ("many values", json!({"enum": (0..40_000).collect::<Vec<_>>()}).to_string()),
        ("products", json!({"type": "object", "allOf": (0..8).map(|_| json!({"anyOf": branches(8)})).collect::<Vec<_>>()}).to_string()),
        ("doubling", json!({"$defs": doubling, "$ref": "#/$defs/d0"}).to_string()),
        ("chain", json!({"$defs": chain, "$ref": "#/$defs/d0"}).to_string()),
        ("counted", json!({"type": "object", "properties": names(2000).collect::<serde_json::Map<_, _>>(), "minProperties": 1000}).to_string()),
        ("repetitions", json!({"type": "string", "pattern": "^((((a{1,1000}){1,1000}){1,1000}){1,1000}b?){1000}$", "minLength": 5}).to_string()),
        ("wide pattern", json!({"type": "string", "pattern": "(a|b)*a(a|b){40}$", "minLength": 60, "maxLength": 70}).to_string()),
    ];
    for (name, schema) in cases {
        match vocabulary.grammars.compile(&Grammar::JsonSchema(schema)) {
            Err(
                GrammarError::TooLarge { .. }
                | GrammarError::TooComplex { .. }
                | GrammarError::Json { .. },
            ) => {}
            Err(e) => panic!("{name}: {e:?}"),
            Ok(_) => panic!("{name} is not refused"),
        }
    }
}

#[test]
fn other_grammars_that_ask_for_much_are_refused() {
    let vocabulary = Vocabulary::open(FILES[0]);
    let rules: String = (0..20_000).map(|i| format!("r{i}: \"a\" r{}\n", i + 1)).collect();
    for (name, grammar) in [
        ("parentheses", Grammar::Lark(format!("start: {}", nested(50_000, "(", "\"a\"", ")")))),
        ("negations", Grammar::Lark(format!("start: A\nA: {}", nested(50_000, "~", "\"a\"", "")))),
        ("rules", Grammar::Lark(format!("start: r0\n{rules}r20000: \"b\"\n"))),
        ("long", Grammar::Lark(format!("start: \"{}\"", "a".repeat(1 << 20)))),
        ("groups", Grammar::Regex(nested(10_000, "(", "a", ")"))),
        ("long regex", Grammar::Regex("a".repeat(1 << 20))),
    ] {
        assert!(vocabulary.grammars.compile(&grammar).is_err(), "{name} is not refused");
    }
}

/// What is large, but not too large, works.
#[test]
fn large_schemas() {
    let vocabulary = Vocabulary::open(FILES[0]);
    let names = |n: usize| {
        (0..n)
            .map(|i| (format!("p{i}"), json!({"enum": [i, null]})))
            .collect::<serde_json::Map<_, _>>()
    };
    let cases = [
        json!({"enum": (0..2000).map(|i| format!("value {i}")).collect::<Vec<_>>()}),
        json!({"type": "object", "properties": names(300), "additionalProperties": false}),
        json!({"type": "object", "properties": names(12), "required": names(12).keys().collect::<Vec<_>>()}),
        json!({"type": "object", "properties": names(60), "minProperties": 2, "maxProperties": 5, "additionalProperties": false}),
        json!({"oneOf": (0..60).map(|i| json!({"type": "object", "properties": {"k": {"const": i}}, "required": ["k"],
               "additionalProperties": false})).collect::<Vec<_>>()}),
        json!({"type": "array", "items": {"const": 1}, "minItems": 20, "maxItems": 16_000}),
        json!({"type": "string", "minLength": 30, "maxLength": 16_000}),
        json!({"type": "string", "pattern": "^[a-z]{20,2000}$"}),
    ];
    let mut random = Random(11);
    let mut ended = 0;
    for schema in cases {
        let validator = jsonschema::validator_for(&schema).unwrap();
        let constraint =
            vocabulary.grammars.compile(&Grammar::JsonSchema(schema.to_string())).unwrap();
        for sampling in samplings(4) {
            match text(&vocabulary, constraint.fork(), sampling, &mut random, 250) {
                Text::Ended(text) => {
                    assert!(validator.is_valid(&serde_json::from_str(&text).unwrap()), "{text}");
                    ended += 1;
                }
                Text::Cut(_) => {}
                Text::Failed(e) => panic!("{schema}: {e}"),
            }
        }
    }
    assert!(ended >= 12, "{ended}");
}
