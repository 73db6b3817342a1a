//! Forced calls: random models write them, and parsers read them.

use serde_json::{Value, json};
use teff_runtime::Model;
use teff_runtime::engine::Constraint;
use teff_runtime::structured::{Grammar, Grammars};

use super::force::{allow, answer, force};
use super::*;
use crate::job::Part;

/// A model's tokenizer and grammars.
struct Vocabulary {
    model: Model,
    grammars: Grammars,
    markup: Markup,
}

impl Vocabulary {
    fn open(file: &str) -> Vocabulary {
        let path = format!("{}/../tests/data/{file}", env!("CARGO_MANIFEST_DIR"));
        let model = Model::open(path).expect("a model");
        let tokenizer = model.tokenizer().expect("a tokenizer");
        let grammars = Grammars::new(tokenizer, model.spec().vocab as usize).expect("grammars");
        let markup = Markup::of(tokenizer);
        Vocabulary { model, grammars, markup }
    }
}

/// Numbers that look random (a linear congruential generator of 64 bits).
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % n
    }
}

/// A token that ends a text, goes on with a marker, or may end a value.
fn closing<'t>(
    allowed: &[u32],
    text: &[u8],
    of: &dyn Fn(u32) -> &'t [u8],
    ends: &dyn Fn(u32) -> bool,
    random: &mut Random,
) -> u32 {
    const MARKERS: [&str; 6] =
        ["</parameter>", "</think>", "<|\"|>", "<channel|>", "[/THINK]", "<|end|>"];
    let continues = |id: u32, least: usize| {
        let token = of(id);
        let next = |marker: &str, k: usize| {
            let (begun, rest) = marker.as_bytes().split_at(k);
            text.ends_with(begun) && rest.starts_with(token)
        };
        MARKERS.iter().any(|marker| (least..marker.len()).any(|k| next(marker, k)))
    };
    let first: Vec<u32> = allowed
        .iter()
        .copied()
        .filter(|&id| ends(id) || !of(id).is_empty() && continues(id, 1))
        .collect();
    let may_end = |id: &u32| {
        let token = of(*id);
        token.is_empty() || continues(*id, 0) || token.iter().all(|b| b"\"]}".contains(b))
    };
    let second: Vec<u32> = allowed.iter().copied().filter(may_end).collect();
    let pick = match (first.is_empty(), second.is_empty()) {
        (false, _) if random.below(8) > 0 => &first,
        (_, false) => &second,
        _ => allowed,
    };
    pick[random.below(pick.len())]
}

/// The constraint of a language.
fn compile(vocabulary: &Vocabulary, language: &Language) -> Box<dyn Constraint> {
    let grammar = Grammar::Parts(vocabulary.markup.parts(language));
    vocabulary.grammars.compile(&grammar).unwrap_or_else(|e| panic!("{e}: {language:?}"))
}

/// The answer that a random model writes; `None` if it doesn't end soon.
fn write(
    vocabulary: &Vocabulary,
    constraint: &dyn Constraint,
    random: &mut Random,
) -> Option<String> {
    let tokenizer = vocabulary.model.tokenizer().expect("a tokenizer");
    let mut constraint = constraint.fork();
    let vocab = vocabulary.model.spec().vocab as usize;
    let mut allowed = vec![0u32; vocab.div_ceil(32)];
    let mut bytes = Vec::new();
    let patience = random.below(60);
    for n in 0..600 {
        if constraint.is_complete() {
            return String::from_utf8(bytes).ok();
        }
        constraint
            .mask(&mut allowed)
            .unwrap_or_else(|e| panic!("{e} behind {:?}", String::from_utf8_lossy(&bytes)));
        let may = |id: &u32| allowed[*id as usize / 32] >> (id % 32) & 1 == 1;
        let all: Vec<u32> = (0..vocab as u32).filter(may).collect();
        let of = |id: u32| tokenizer.token_bytes(id).unwrap_or_default();
        let token = match n > patience {
            // After some time, it comes to an end.
            true => closing(&all, &bytes, &of, &|id| tokenizer.is_end(id), random),
            false => {
                let named = |id: &&u32| vocabulary.markup.name(**id).is_some();
                let markup = all.iter().find(named).filter(|_| random.below(8) == 0);
                markup.copied().unwrap_or_else(|| all[random.below(all.len())])
            }
        };
        constraint.accept(token).expect("a token of the mask");
        if tokenizer.is_end(token) {
            return String::from_utf8(bytes).ok();
        }
        match vocabulary.markup.name(token) {
            Some(name) => bytes.extend_from_slice(name.as_bytes()),
            None => bytes.extend_from_slice(of(token)),
        }
    }
    None
}

/// Functions with schemas that all formats support.
fn callable() -> Vec<Function> {
    let function =
        |name: &str, parameters| Function { name: name.into(), parameters, strict: false };
    vec![
        function("now", json!({"type": "object", "properties": {}, "additionalProperties": false})),
        function(
            "get_weather",
            json!({
                "type": "object",
                "properties": {
                    "city": {"type": "string"},
                    "days": {"type": "integer", "minimum": 1, "maximum": 16},
                    "unit": {"enum": ["C", "F", null]},
                    "exact": {"type": "boolean"},
                    "note": {"anyOf": [{"type": "string", "minLength": 2, "maxLength": 5}, {"type": "null"}]},
                    "place": {"$ref": "#/$defs/Place"},
                    "tags": {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": 3},
                },
                "required": ["days", "unit", "tags"],
                "additionalProperties": false,
                "$defs": {"Place": {
                    "type": "object",
                    "description": "A place",
                    "properties": {
                        "lat": {"type": ["number", "null"]},
                        "near": {"anyOf": [{"$ref": "#/$defs/Place"}, {"type": "null"}]},
                    },
                    "required": ["lat"],
                    "additionalProperties": false,
                }},
            }),
        ),
        function(
            "any",
            json!({"properties": {"what": {}, "more": {"type": "object"}}, "additionalProperties": false}),
        ),
    ]
}

const FORMATS: [Format; 10] = [
    Format::Hermes,
    Format::Xml,
    Format::Llama,
    Format::MistralList,
    Format::MistralId,
    Format::MistralArgs,
    Format::Gemma,
    Format::Harmony,
    Format::Lfm,
    Format::Generic,
];

/// The parts of an answer that comes in pieces of `n` characters.
fn read(
    format: Format,
    start: Start,
    calls: Calls,
    text: &str,
    n: usize,
) -> (String, Vec<(String, String)>) {
    let mut parser = parser(format, start, callable(), calls);
    let mut parts = Vec::new();
    for c in text.chars().collect::<Vec<_>>().chunks(n) {
        parser.push(&c.iter().collect::<String>(), &mut parts);
    }
    parser.finish(&mut parts);
    let (mut said, mut calls) = (String::new(), Vec::new());
    for part in parts {
        match part {
            Part::Text(text) => said += &text,
            Part::Reasoning(_) => {}
            Part::Call { name } => calls.push((name, String::new())),
            Part::Arguments(text) => calls.last_mut().expect("a call").1 += &text,
        }
    }
    (said, calls)
}

/// Writes and reads forced calls, `cases` in each of these formats and kinds.
fn try_formats(vocabulary: &Vocabulary, formats: &[Format], cases: usize) {
    let schemas: Vec<(String, jsonschema::Validator)> = callable()
        .iter()
        .map(|f| (f.name.clone(), jsonschema::validator_for(&f.parameters).expect("a schema")))
        .collect();
    let mut random = Random(7);
    let (mut ended, mut several_calls) = (0, 0);
    for &format in formats {
        for (start, thinks, several) in [
            (Start::Behind, false, true),
            (Start::Fresh, true, false),
            (Start::Reasoning, true, true),
        ] {
            if format == Format::Harmony && start == Start::Reasoning {
                continue;
            }
            let language = force(format, start, thinks, &callable(), several);
            let constraint = compile(vocabulary, &language.expect("a language"));
            for n in 1..=cases {
                let Some(text) = write(vocabulary, &*constraint, &mut random) else { continue };
                ended += 1;
                let (said, calls) = read(format, start, Calls::Free, &text, n);
                assert_eq!(said, "", "{format:?} {start:?}: {text:?}");
                let one = !several || format.single();
                assert!(!calls.is_empty() && (calls.len() == 1 || !one), "{format:?}: {text:?}");
                several_calls += usize::from(calls.len() > 1);
                for (name, arguments) in &calls {
                    let value: Value = serde_json::from_str(arguments).expect("JSON");
                    let (_, schema) = schemas.iter().find(|(n, _)| n == name).expect("a function");
                    let error = schema.iter_errors(&value).next();
                    assert!(error.is_none(), "{format:?} {arguments}: {error:?}, of {text:?}");
                }
                let eager = read(format, start, Calls::Forced, &text, n);
                assert_eq!(eager, (said, calls), "{format:?}: {text:?}");
            }
        }
    }
    assert!(ended >= cases * formats.len(), "{ended} of 3 times {cases} texts ended");
    assert!(several_calls > 0 || formats.iter().all(|format| format.single()));
}

#[test]
fn forced_calls_are_valid() {
    for file in ["qwen3/qwen3-Q4_0.gguf", "gemma4/gemma4-Q8_0.gguf"] {
        try_formats(&Vocabulary::open(file), &FORMATS, 5);
    }
}

#[test]
fn forced_calls_use_control_tokens() {
    let mut vocabulary = Vocabulary::open("gemma4/gemma4-Q8_0.gguf");
    let tokenizer = vocabulary.model.tokenizer().expect("a tokenizer");
    let control = |name: &str| tokenizer.find_token(name.as_bytes()).expect("a token");
    let (pad, bos, unk) = (control("<pad>"), control("<bos>"), control("<unk>"));
    for (format, names) in [
        (Format::MistralArgs, ["[TOOL_CALLS]", "[ARGS]", "[/THINK]"]),
        (Format::Harmony, ["<|channel|>", "<|message|>", "<|end|>"]),
        (Format::Hermes, ["<tool_call>", "</tool_call>", "</think>"]),
        (Format::Gemma, ["<|tool_call>", "<|\"|>", "<channel|>"]),
    ] {
        vocabulary.markup = Markup::of_tokens(&[(names[0], pad), (names[1], bos), (names[2], unk)]);
        try_formats(&vocabulary, &[format], 5);
    }
}

#[test]
fn what_a_format_has_no_form_for_is_named() {
    let of = |schema: Value| {
        let parameters = json!({"type": "object", "properties": {"a": schema}});
        vec![Function { name: "f".into(), parameters, strict: false }]
    };
    for (schema, keyword) in [
        (json!({"type": "string", "pattern": "x"}), "pattern"),
        (json!({"type": "string", "format": "date"}), "format"),
        (json!({"oneOf": [{"type": "string"}]}), "oneOf"),
        (json!({"$ref": "#/nowhere"}), "$ref"),
    ] {
        for format in [Format::Xml, Format::Gemma] {
            let e = force(format, Start::Fresh, false, &of(schema.clone()), false).unwrap_err();
            let text = e.to_string();
            assert!(text.contains(keyword) && text.contains("\"f\""), "{text}");
        }
        // In JSON, the compiler of schemas decides.
        assert!(force(Format::Hermes, Start::Fresh, false, &of(schema), false).is_ok());
    }
    for schema in [
        json!({"type": "array", "uniqueItems": true}),
        json!({"type": "object", "minProperties": 1}),
        json!({"type": "object", "required": ["b"]}),
        json!({"type": "array", "minItems": 2, "maxItems": 1}),
        json!({"enum": ["a<|\"|>b"]}),
    ] {
        let e = force(Format::Gemma, Start::Fresh, false, &of(schema.clone()), false);
        assert!(e.is_err(), "{schema}");
    }
}

#[test]
fn answers_in_json_stand_behind_reasoning() {
    let vocabulary = Vocabulary::open("qwen3/qwen3-Q4_0.gguf");
    let schema = json!({"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"], "additionalProperties": false});
    let mut random = Random(3);
    let mut ended = 0;
    for (format, start) in [
        (Format::Hermes, Start::Reasoning),
        (Format::Hermes, Start::Fresh),
        (Format::Harmony, Start::Fresh),
        (Format::Gemma, Start::Fresh),
        (Format::MistralArgs, Start::Reasoning),
    ] {
        let language = answer(format, start, true, schema.clone()).expect("a language");
        let constraint = compile(&vocabulary, &language);
        for _ in 0..6 {
            let Some(text) = write(&vocabulary, &*constraint, &mut random) else { continue };
            ended += 1;
            let mut parser = parser(format, start, Vec::new(), Calls::Free);
            let mut parts = Vec::new();
            parser.push(&text, &mut parts);
            parser.finish(&mut parts);
            let said: String = parts
                .iter()
                .filter_map(|part| match part {
                    Part::Text(text) => Some(text.as_str()),
                    _ => None,
                })
                .collect();
            assert!(
                said == r#"{"a": true}"#
                    || said == r#"{"a": false}"#
                    || said == r#"{"a":true}"#
                    || said == r#"{"a":false}"#,
                "{text:?}"
            );
        }
    }
    assert!(ended > 15, "{ended}");
    for (format, start) in [(Format::Hermes, Start::Behind), (Format::Harmony, Start::Text)] {
        assert_eq!(answer(format, start, true, schema.clone()), None);
    }
}

#[test]
fn allowed_calls_are_valid_and_text_is_free() {
    let mut vocabulary = Vocabulary::open("gemma4/gemma4-Q8_0.gguf");
    let tokenizer = vocabulary.model.tokenizer().expect("a tokenizer");
    let control = |name: &str| tokenizer.find_token(name.as_bytes()).expect("a token");
    let (pad, bos, unk) = (control("<pad>"), control("<bos>"), control("<unk>"));
    let validator = |f: &Function| jsonschema::validator_for(&f.parameters).expect("a schema");
    let schemas: Vec<_> = callable().iter().map(|f| (f.name.clone(), validator(f))).collect();
    let mut random = Random(11);
    for (format, names) in [
        (Format::Hermes, ["<tool_call>", "</tool_call>", "</think>"]),
        (Format::Xml, ["<tool_call>", "</tool_call>", "</think>"]),
        (Format::MistralList, ["[TOOL_CALLS]", "[ARGS]", "[/THINK]"]),
        (Format::MistralArgs, ["[TOOL_CALLS]", "[ARGS]", "[/THINK]"]),
        (Format::Gemma, ["<|tool_call>", "<|\"|>", "<channel|>"]),
        (Format::Harmony, ["<|channel|>", "<|message|>", "<|end|>"]),
        (Format::Generic, ["<think>", "<tool_call>", "</think>"]),
    ] {
        let tokens = [(names[0], pad), (names[1], bos), (names[2], unk)];
        vocabulary.markup = Markup::of_tokens(&tokens);
        let (mut texts, mut with_calls) = (0, 0);
        let compiled = [false, true].map(|several| {
            let language = allow(format, Start::Fresh, false, &callable(), several);
            compile(&vocabulary, &language.expect("a language"))
        });
        for case in 0..24 {
            let several = case % 2 == 1;
            let constraint = &*compiled[case % 2];
            let Some(text) = write(&vocabulary, constraint, &mut random) else { continue };
            let (said, calls) = read(format, Start::Fresh, Calls::Strict, &text, 1 + case % 5);
            texts += usize::from(!said.is_empty());
            with_calls += usize::from(!calls.is_empty());
            assert!(several || calls.len() < 2, "{format:?}: {text:?}");
            assert!(names[0] == "<think>" || !said.contains(names[0]), "{format:?}: {text:?}");
            for (name, arguments) in calls {
                let value: Value = serde_json::from_str(&arguments).expect("JSON");
                let (_, schema) = schemas.iter().find(|(n, _)| *n == name).expect("a function");
                assert!(schema.is_valid(&value), "{format:?} {arguments}, of {text:?}");
            }
        }
        assert!(texts > 0, "{format:?}");
        // Few random texts begin with a brace.
        assert!(with_calls > 0 || format == Format::Generic, "{format:?}");
    }
}
