//! Tests of parsers: every format, however the text is cut.

use serde_json::json;

use super::*;
use crate::job::Part;

/// An answer, put together again.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Answer {
    pub(super) text: String,
    pub(super) reasoning: String,
    pub(super) calls: Vec<(String, String)>,
}

impl Answer {
    fn of(parts: Vec<Part>) -> Answer {
        let mut answer = Answer::default();
        for part in parts {
            match part {
                Part::Text(text) => answer.text += &text,
                Part::Reasoning(text) => answer.reasoning += &text,
                Part::Call { name } => answer.calls.push((name, String::new())),
                Part::Arguments(text) => answer.calls.last_mut().expect("a call").1 += &text,
            }
        }
        answer
    }
}

/// Functions of the tests.
pub(super) fn some_functions() -> Vec<Function> {
    let function =
        |name: &str, parameters| Function { name: name.into(), parameters, strict: false };
    vec![
        function(
            "get_weather",
            json!({
                "type": "object",
                "properties": {
                    "city": {"type": "string"},
                    "days": {"type": "integer"},
                    "exact": {"type": "boolean"},
                    "where": {"$ref": "#/$defs/Place"},
                    "note": {"type": ["string", "null"]},
                    "tags": {"type": "array", "items": {"type": "string"}},
                    "any": {},
                },
                "required": ["city"],
                "$defs": {"Place": {"type": "object", "properties": {"lat": {"type": "number"}}}},
            }),
        ),
        function("now", no_parameters()),
    ]
}

/// The answer of a text that comes in these pieces.
fn parse_pieces<'a>(
    format: Format,
    start: Start,
    calls: Calls,
    pieces: impl Iterator<Item = &'a str>,
) -> Answer {
    let mut parser = parser(format, start, some_functions(), calls);
    let mut parts = Vec::new();
    for piece in pieces {
        parser.push(piece, &mut parts);
    }
    parser.finish(&mut parts);
    for part in &parts {
        let (Part::Text(text) | Part::Reasoning(text) | Part::Arguments(text)) = part else {
            continue;
        };
        assert!(!text.is_empty(), "an empty part");
    }
    Answer::of(parts)
}

/// Pieces of `n` characters.
fn pieces(text: &str, n: usize) -> impl Iterator<Item = &str> {
    let ends: Vec<usize> =
        text.char_indices().map(|(i, _)| i).step_by(n).chain([text.len()]).collect();
    (1..ends.len()).map(move |i| &text[ends[i - 1]..ends[i]])
}

/// The answer of a text, which must not depend on how it is cut.
pub(super) fn parse(format: Format, start: Start, text: &str) -> Answer {
    let whole = parse_pieces(format, start, Calls::Free, std::iter::once(text));
    for n in (1..=12).chain([17, 40]) {
        let cut = parse_pieces(format, start, Calls::Free, pieces(text, n));
        assert_eq!(cut, whole, "{format:?}: {text:?} by {n}");
    }
    whole
}

fn fresh(format: Format, text: &str) -> Answer {
    parse(format, Start::Fresh, text)
}

fn answer(text: &str, reasoning: &str, calls: &[(&str, &str)]) -> Answer {
    let calls = calls.iter().map(|&(name, arguments)| (name.into(), arguments.into())).collect();
    Answer { text: text.into(), reasoning: reasoning.into(), calls }
}

#[test]
fn hermes() {
    for (text, expected) in [
        (
            "<tool_call>\n{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Paris </tool_call>\"}}\n</tool_call>",
            answer("", "", &[("get_weather", r#"{"city": "Paris </tool_call>"}"#)]),
        ),
        (
            "<think>\nHm.\n</think>\n\nI look.\n<tool_call>\n{\"name\": \"now\", \"arguments\": {}}\n</tool_call>\n\
             <tool_call>\n{\"arguments\": {\"city\": \"é\"}, \"name\": \"get_weather\"}\n</tool_call>\n",
            answer("I look.", "Hm.", &[("now", "{}"), ("get_weather", r#"{"city": "é"}"#)]),
        ),
        // The closing tag may be missing, and more may follow.
        (
            "<tool_call>{\"name\": \"now\"} <tool_call>{\"name\": \"now\", \"arguments\": null} Done. ",
            answer("Done. ", "", &[("now", "{}"), ("now", "{}")]),
        ),
        ("<tool_call>{\"name\": \"now\"}</tool_ca", answer("</tool_ca", "", &[("now", "{}")])),
        // Arguments that are an object in a string.
        (
            r#"<tool_call>{"name": "now", "parameters": "{\"a\": 1}"}</tool_call>"#,
            answer("", "", &[("now", r#"{"a": 1}"#)]),
        ),
        ("plain text ", answer("plain text ", "", &[])),
        ("", answer("", "", &[])),
        (" \n", answer(" \n", "", &[])),
        ("a <tool_call", answer("a <tool_call", "", &[])),
        ("<think>never ends </thi", answer("", "never ends </thi", &[])),
        ("<think></think>\n\nx", answer("x", "", &[])),
        ("text <think>x</think>", answer("text <think>x</think>", "", &[])),
    ] {
        assert_eq!(fresh(Format::Hermes, text), expected, "{text}");
    }
}

#[test]
fn what_is_no_call_is_text() {
    for text in [
        // Unknown functions.
        "I'd\n <tool_call>\n{\"name\": \"launch\", \"arguments\": {}}\n</tool_call> ",
        // Broken JSON.
        "<tool_call>\n{\"name\": \"now\", 'arguments': {}}\n</tool_call>",
        "<tool_call>\n{\"name\": \"now\", \"arguments\": [1]}\n</tool_call>",
        "<tool_call>\n{\"name\": \"now\", \"arguments\": \"x\"}\n</tool_call>",
        "<tool_call>\n{\"name\": 1}</tool_call>",
        "<tool_call>now</tool_call>",
        // Unfinished.
        "<tool_call>\n{\"name\": \"now\", \"arguments\": {\"a\": \"<tool_call>",
        "<tool_call>",
        "the tag <tool_call> is what models write",
    ] {
        assert_eq!(fresh(Format::Hermes, text), answer(text, "", &[]), "{text}");
    }
    // The search goes on behind the marker.
    let text = "<tool_call> {\"a\" <tool_call>{\"name\": \"now\"}</tool_call>";
    assert_eq!(fresh(Format::Hermes, text), answer("<tool_call> {\"a\"", "", &[("now", "{}")]));
    // Without functions, nothing is a call.
    let text = "<think>x</think> <tool_call>{\"name\": \"now\"}</tool_call> ";
    let mut parser = parser(Format::Hermes, Start::Fresh, Vec::new(), Calls::Free);
    let mut parts = Vec::new();
    parser.push(text, &mut parts);
    parser.finish(&mut parts);
    let expected = answer("<tool_call>{\"name\": \"now\"}</tool_call> ", "x", &[]);
    assert_eq!(Answer::of(parts), expected);
}

#[test]
fn xml() {
    let call = "<tool_call>\n<function=get_weather>\n<parameter=city>\nParis\n\n</parameter>\n\
                <parameter=days>\n3\n</parameter>\n<parameter=exact>\nTrue\n</parameter>\n\
                <parameter=where>\n{\"lat\": 1.50}\n</parameter>\n<parameter=note>\nNone\n</parameter>\n\
                <parameter=tags>\n[\"a\"]\n</parameter>\n</function>\n</tool_call>";
    let arguments = r#"{"city": "Paris\n", "days": 3, "exact": true, "where": {"lat": 1.50}, "note": null, "tags": ["a"]}"#;
    let expected = answer("", "", &[("get_weather", arguments)]);
    assert_eq!(fresh(Format::Xml, call), expected);
    let inside = |text: &str| parse(Format::Xml, Start::Reasoning, text);
    assert_eq!(
        inside(&format!("Hm.\n</think>\n\nSo:\n{call}\n")),
        Answer { text: "So:".into(), reasoning: "Hm.".into(), ..expected.clone() }
    );
    // A call ends the reasoning.
    assert_eq!(
        inside(&format!("Hm.\n{call}")),
        Answer { reasoning: "Hm.".into(), ..expected.clone() }
    );
    assert_eq!(
        inside("<think>\nI <tool_call> not.\n</think>x"),
        answer("x", "I <tool_call> not.", &[])
    );
    for (text, city) in [
        ("5", "5"),
        ("</parameter> is a tag", "</parameter> is a tag"),
        ("\n<parameter=x>\n", "\n<parameter=x>\n"),
        ("", ""),
        ("\"q\"", "\"q\""),
    ] {
        let text =
            format!("<function=get_weather><parameter=city>\n{text}\n</parameter></function> end");
        let arguments = json!({"city": city}).to_string().replace(":", ": ");
        assert_eq!(fresh(Format::Xml, &text), answer("end", "", &[("get_weather", &arguments)]));
    }
    // Values of the wrong type are strings; unknown keys have what they look like.
    let text = "<tool_call><function=get_weather><parameter=days>many</parameter><parameter=any>[1]</parameter>\
                <parameter=more>x y</parameter></function>";
    let arguments = r#"{"days": "many", "any": [1], "more": "x y"}"#;
    assert_eq!(fresh(Format::Xml, text), answer("", "", &[("get_weather", arguments)]));
    for text in [
        "#include <functional>",
        "<function=launch>\n</function>",
        "<tool_call>\n<function=now>\n<parameter=a>\n1\n</parameter>\n",
        "<tool_call>\n<function=now>\nx</function>",
        "<tool_call>\n<func",
        "<function=now",
        "<function=now><parameter=a\n>1</parameter></function>",
    ] {
        assert_eq!(fresh(Format::Xml, text), answer(text, "", &[]), "{text}");
    }
    let json = "<tool_call>\n{\"name\": \"now\", \"arguments\": {}}\n</tool_call>";
    assert_eq!(fresh(Format::Xml, json), answer("", "", &[("now", "{}")]));
}

#[test]
fn llama() {
    for (text, expected) in [
        (
            r#"{"name": "get_weather", "parameters": {"city": "Rome"}}"#,
            answer("", "", &[("get_weather", r#"{"city": "Rome"}"#)]),
        ),
        (
            r#"<|python_tag|>{"type": "function", "name": "now", "parameters": {}}; {"name": "now", "parameters": {}}"#,
            answer("", "", &[("now", "{}"), ("now", "{}")]),
        ),
        (r#"{"name": "now", "parameters": {}} Done; "#, answer("Done; ", "", &[("now", "{}")])),
        (r#"{"name": "Ada", "age": 36}"#, answer(r#"{"name": "Ada", "age": 36}"#, "", &[])),
        (r#" { pseudo } "#, answer(r#" { pseudo } "#, "", &[])),
        (
            r#"Sure: {"name": "now", "parameters": {}}"#,
            answer(r#"Sure: {"name": "now", "parameters": {}}"#, "", &[]),
        ),
        ("<|python_tag|>get.call(x=\"1\")", answer("<|python_tag|>get.call(x=\"1\")", "", &[])),
        (r#"{"name": "now", "#, answer(r#"{"name": "now", "#, "", &[])),
        (r#"{"name": "now"}; {"#, answer("; {", "", &[("now", "{}")])),
    ] {
        assert_eq!(fresh(Format::Llama, text), expected, "{text}");
        if !text.contains("python_tag") {
            assert_eq!(fresh(Format::Generic, text), expected, "{text}");
        }
    }
}

#[test]
fn mistral() {
    for (text, expected) in [
        (
            r#"[TOOL_CALLS][{"name": "get_weather", "arguments": {"city": "[x]"}, "id": "abcdefghi"}, {"name": "now", "arguments": {}}]"#,
            answer("", "", &[("get_weather", r#"{"city": "[x]"}"#), ("now", "{}")]),
        ),
        (
            r#"Wait.[TOOL_CALLS]get_weather[CALL_ID]abcdefghi[ARGS]{"city": "Oslo"}[TOOL_CALLS]now[ARGS]{}"#,
            answer("Wait.", "", &[("get_weather", r#"{"city": "Oslo"}"#), ("now", "{}")]),
        ),
        (r#"[THINK]Hm[/THINK]So [TOOL_CALLS] now{}"#, answer("So", "Hm", &[("now", "{}")])),
        (r#"[TOOL_CALLS]launch[ARGS]{}"#, answer(r#"[TOOL_CALLS]launch[ARGS]{}"#, "", &[])),
        (
            r#"[TOOL_CALLS][{"name": "now"}, 1]"#,
            answer(r#"[TOOL_CALLS][{"name": "now"}, 1]"#, "", &[]),
        ),
        ("[TOOL_CALLS]now[ARGS]{", answer("[TOOL_CALLS]now[ARGS]{", "", &[])),
        ("[TOOL_CALLS]now[CALL", answer("[TOOL_CALLS]now[CALL", "", &[])),
        ("[TOOL_CALLS][]", answer("[TOOL_CALLS][]", "", &[])),
        ("an [array] and [TOOL", answer("an [array] and [TOOL", "", &[])),
    ] {
        for format in [Format::MistralList, Format::MistralId, Format::MistralArgs] {
            assert_eq!(fresh(format, text), expected, "{text}");
        }
    }
}

#[test]
fn gemma() {
    for (text, expected) in [
        (
            "<|channel>thought\nHm.\n<channel|>I look.<|tool_call>call:get_weather{city:<|\"|>a}\"b<|\"|>,tags:[<|\"|>x<|\"|>],\
             where:{lat:1.5}}<tool_call|><|tool_call>call:now{}<tool_call|>",
            answer(
                "I look.",
                "Hm.",
                &[
                    ("get_weather", r#"{"city": "a}\"b", "tags": ["x"], "where": {"lat": 1.5}}"#),
                    ("now", "{}"),
                ],
            ),
        ),
        ("<|tool_call>call:now{}", answer("", "", &[("now", "{}")])),
        (
            "<|tool_call>call:launch{}<tool_call|>",
            answer("<|tool_call>call:launch{}<tool_call|>", "", &[]),
        ),
        ("<|tool_call>call:now{a:<|\"|>b", answer("<|tool_call>call:now{a:<|\"|>b", "", &[])),
        (
            "<|tool_call>call:now{a:x}<tool_call|> ",
            answer("<|tool_call>call:now{a:x}<tool_call|> ", "", &[]),
        ),
        ("<|tool_call>call now", answer("<|tool_call>call now", "", &[])),
        ("a <|channel>other", answer("a <|channel>other", "", &[])),
        ("a<|channel>thought\nb<channel|>\nc", answer("ac", "b", &[])),
    ] {
        assert_eq!(fresh(Format::Gemma, text), expected, "{text}");
    }
}

#[test]
fn lfm() {
    for (text, expected) in [
        (
            "<think>Hm.</think>I look. <|tool_call_start|>[get_weather(city='it's \"x\" ]', days=3, exact=True, \
             tags=['a', \"b\"], where={'lat': 1.5}, note=None), now()]<|tool_call_end|> Done.",
            answer(
                "I look.Done.",
                "Hm.",
                &[
                    (
                        "get_weather",
                        r#"{"city": "it's \"x\" ]", "days": 3, "exact": true, "tags": ["a", "b"], "where": {"lat": 1.5}, "note": null}"#,
                    ),
                    ("now", "{}"),
                ],
            ),
        ),
        // The closing marker may be missing.
        ("<|tool_call_start|> [now()]", answer("", "", &[("now", "{}")])),
        (
            "<|tool_call_start|>[now()]<|tool_call_end|>\n<|tool_call_start|>[now()]<|tool_call_end|>",
            answer("", "", &[("now", "{}"), ("now", "{}")]),
        ),
        ("{\"name\": \"now\", \"arguments\": {}}", answer("", "", &[("now", "{}")])),
    ] {
        assert_eq!(fresh(Format::Lfm, text), expected, "{text}");
    }
    for text in [
        "<|tool_call_start|>[launch()]<|tool_call_end|>",
        "<|tool_call_start|>[now(), launch()]<|tool_call_end|>",
        "<|tool_call_start|>[]<|tool_call_end|>",
        "<|tool_call_start|>[now(x)]<|tool_call_end|>",
        "<|tool_call_start|>[now(a='b",
        "<|tool_call_start|>now()",
        "a [now()]",
    ] {
        assert_eq!(fresh(Format::Lfm, text), answer(text, "", &[]), "{text}");
    }
}

#[test]
fn harmony() {
    let call = "<|start|>assistant<|channel|>commentary to=functions.get_weather <|constrain|>json<|message|>{\"city\": \"Bonn\"}";
    let expected = [("get_weather", r#"{"city": "Bonn"}"#)];
    for (text, expected) in [
        (
            "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>Hi <b>",
            answer("Hi <b>", "Hm.", &[]),
        ),
        (&format!("<|channel|>analysis<|message|>Hm.<|end|>{call}"), answer("", "Hm.", &expected)),
        (
            &format!("<|channel|>commentary<|message|>I look.<|end|>{call}<|call|>"),
            answer("I look.", "", &expected),
        ),
        // As the template writes calls.
        (
            " to=functions.now<|channel|>commentary json<|message|>{}",
            answer("", "", &[("now", "{}")]),
        ),
        (
            "<|channel|>commentary to=assistant<|channel|>analysis<|message|>x<|end|>",
            answer("", "x", &[]),
        ),
        ("Hello", answer("Hello", "", &[])),
        ("<|message|>Hello", answer("Hello", "", &[])),
        ("<|channel|>fin", answer("<|channel|>fin", "", &[])),
        (
            "<|channel|>commentary to=functions.launch<|message|>{}<|call|>",
            answer("<|channel|>commentary to=functions.launch<|message|>{}", "", &[]),
        ),
        (
            "<|channel|>analysis to=python code<|message|>1+1<|call|>",
            answer("<|channel|>analysis to=python code<|message|>1+1", "", &[]),
        ),
        (
            "<|channel|>commentary to=functions.now json<|message|>{\"a\": ",
            answer("<|channel|>commentary to=functions.now json<|message|>{\"a\": ", "", &[]),
        ),
        (
            "<|channel|>final<|message|>a<|end|> <|start|>user<|message|>b<|end|>c",
            answer("a<|start|>user<|message|>bc", "", &[]),
        ),
        ("<|channel|>\nno header<|message|>", answer("<|channel|>\nno header<|message|>", "", &[])),
        ("<|channel|>final<|message|>a <|en", answer("a <|en", "", &[])),
    ] {
        assert_eq!(fresh(Format::Harmony, text), expected, "{text}");
    }
    let header = format!("<|channel|>{}<|message|>x", "a ".repeat(200));
    assert_eq!(fresh(Format::Harmony, &header), answer(&header, "", &[]));
    for n in 140..160 {
        let header = format!("<|channel|>final {}<|message|>x", "a ".repeat(n));
        fresh(Format::Harmony, &header);
    }
}

#[test]
fn forced_arguments_come_as_they_are_written() {
    let cases = [
        (
            Format::Hermes,
            "<tool_call>\n{\"name\": \"get_weather\", \"arguments\": ",
            "}\n</tool_call>",
        ),
        (Format::Llama, "{\"name\": \"get_weather\", \"parameters\": ", "}"),
        (Format::Generic, "{\"name\": \"get_weather\", \"arguments\": ", "}"),
        (Format::MistralArgs, "[TOOL_CALLS]get_weather[ARGS]", ""),
        (
            Format::Harmony,
            "<|channel|>commentary to=functions.get_weather <|constrain|>json<|message|>",
            "<|call|>",
        ),
    ];
    let arguments = r#"{"city": "Koln", "tags": ["a", "b"], "where": {"lat": 1}}"#;
    for (format, before, behind) in cases {
        let text = format!("{before}{arguments}{behind}");
        let expected = answer("", "", &[("get_weather", arguments)]);
        for n in 1..20 {
            let got = parse_pieces(format, Start::Fresh, Calls::Forced, pieces(&text, n));
            assert_eq!(got, expected, "{format:?} by {n}");
        }
        // Half of it gives half of the arguments, even if the generation ends there.
        let half = before.len() + 12;
        let got = parse_pieces(format, Start::Fresh, Calls::Forced, pieces(&text[..half], 3));
        assert_eq!(got, answer("", "", &[("get_weather", &arguments[..12])]), "{format:?}");
        let mut parser = parser(format, Start::Fresh, some_functions(), Calls::Forced);
        let mut parts = Vec::new();
        parser.push(&text[..half], &mut parts);
        assert_eq!(Answer::of(parts), got);
    }
}

#[test]
fn blanks_of_a_prefilled_text_are_kept() {
    assert_eq!(parse(Format::Hermes, Start::Text, " world "), answer(" world ", "", &[]));
    assert_eq!(parse(Format::Hermes, Start::Behind, "\n\nworld"), answer("world", "", &[]));
}

/// Fragments of answers, markup and other text.
const FRAGMENTS: [&str; 53] = [
    "<|tool_call_start|>",
    "<|tool_call_end|>",
    "[now()]",
    "now(a='",
    "')]",
    "<tool_call>",
    "</tool_call>",
    "\n",
    " ",
    "{\"name\": \"now\", \"arguments\": {}}",
    "{\"name\": \"",
    "now",
    "\"}",
    "\", \"arguments\": {\"a\": [1, {}]}}",
    "}",
    "{",
    "]",
    "[",
    "<function=",
    "now>",
    "<parameter=",
    "a>",
    "1",
    "</parameter>",
    "</function>",
    "<think>",
    "</think>",
    "text",
    "é",
    "日",
    "<",
    "<|python_tag|>",
    "; ",
    ",",
    "[TOOL_CALLS]",
    "now[ARGS]{}",
    "[CALL_ID]abc",
    "[ARGS]",
    "[{\"name\": \"now\"}]",
    "[THINK]",
    "[/THINK]",
    "<|tool_call>",
    "call:now{",
    "a:<|\"|>",
    "<|\"|>",
    "<tool_call|>",
    "<|channel>thought\n",
    "<channel|>",
    "<|channel|>",
    "commentary to=functions.now",
    "analysis",
    "<|message|>",
    "<|end|><|start|>assistant",
];

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(20_000))]

    #[test]
    fn cuts_change_nothing_and_no_text_is_lost(
        fragments in proptest::collection::vec(0..FRAGMENTS.len(), 0..14),
        format in proptest::sample::select(vec![
            Format::Hermes, Format::Xml, Format::Llama, Format::MistralList, Format::Gemma,
            Format::Harmony, Format::Lfm, Format::Generic,
        ]),
        start in proptest::sample::select(vec![
            Start::Fresh, Start::Reasoning, Start::Behind, Start::Text,
        ]),
        cuts in proptest::collection::vec(1..9usize, 1..8),
    ) {
        let text: String = fragments.iter().map(|&i| FRAGMENTS[i]).collect();
        let whole = parse_pieces(format, start, Calls::Free, std::iter::once(&*text));
        let mut lengths = cuts.iter().cycle();
        let mut ends = vec![0];
        let starts: Vec<usize> = text.char_indices().map(|(i, _)| i).collect();
        let mut at = 0;
        while at < starts.len() {
            at += lengths.next().unwrap();
            ends.push(starts.get(at).copied().unwrap_or(text.len()));
        }
        let pieces = ends.windows(2).map(|w| &text[w[0]..w[1]]);
        let cut = parse_pieces(format, start, Calls::Free, pieces);
        proptest::prop_assert_eq!(&cut, &whole, "{:?}", &text);
        for (name, arguments) in &whole.calls {
            proptest::prop_assert!(name == "now" && json::is_object(arguments), "{}", arguments);
        }
        // What isn't a call is text or reasoning: nothing but blanks and markup can go.
        let kept = |c: &char| c.is_alphabetic() && !c.is_ascii();
        let letters = |text: &str| text.chars().filter(kept).count();
        if whole.calls.is_empty() {
            proptest::prop_assert_eq!(letters(&whole.text) + letters(&whole.reasoning), letters(&text));
            if whole.reasoning.is_empty() && start == Start::Text && format == Format::Hermes {
                proptest::prop_assert_eq!(&whole.text, &text);
            }
        }
    }
}
