//! Texts that grammars allow, and those that they don't.

use serde_json::json;
use teff_runtime::structured::{Grammar, GrammarError};

use crate::texts::{FILES, Random, Text, Vocabulary, accepts, samplings, text};

#[test]
fn natural_json_is_allowed_and_other_json_is_not() {
    for file in FILES {
        let vocabulary = Vocabulary::open(file);
        let check = |schema: serde_json::Value, yes: &[&str], no: &[&str]| {
            let grammar = Grammar::JsonSchema(schema.to_string());
            for text in yes {
                assert!(accepts(&vocabulary, &grammar, text), "{file}: {schema}: {text}");
            }
            for text in no {
                assert!(!accepts(&vocabulary, &grammar, text), "{file}: {schema}: {text}");
            }
        };
        let person = json!({"type": "object", "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
                            "required": ["name"], "additionalProperties": false});
        check(
            person,
            &[
                r#"{"name": "Ann", "age": 7}"#,
                r#"{"name":"Ann","age":7}"#,
                r#"{"name":"A \"n\"\n\\ é","age": -17}"#,
                r#"{"name": ""}"#,
            ],
            &[
                r#"{"name":  "Ann"}"#,
                r#"{ "name": "Ann"}"#,
                "{\n\"name\": \"Ann\"}",
                r#" {"name": "Ann"}"#,
                r#"{"name": "Ann"} "#,
                r#"{"age": 7, "name": "Ann"}"#,
                r#"{"age": 7}"#,
                r#"{"name": "Ann", "age": 7.5}"#,
                r#"{"name": "Ann", "age": 07}"#,
                r#"{"name": "Ann", "x": 7}"#,
                r#"{"name": "\u0041nn"}"#,
                r#"{"n\u0061me": "Ann"}"#,
                r#"{"name": "Ann","#,
                r#"{"name": "Ann"},"#,
                "",
            ],
        );
        // A name that the schema lists can't come again, escaped or not.
        check(
            json!({"type": "object", "properties": {"a": {"const": 1}}}),
            &[
                "{}",
                r#"{"a": 1}"#,
                r#"{"a": 1, "b": "a"}"#,
                r#"{"b": [{"a": 2}, null, true, 1e-5]}"#,
            ],
            &[r#"{"a": 2}"#, r#"{"b": 1, "a": 2}"#, r#"{"\u0061": 2}"#, r#"{"b": 1e999}"#],
        );
        check(
            json!({"type": "array", "items": {"type": "number", "minimum": 0, "maximum": 0.5}}),
            &["[]", "[0]", "[0, 0.25,0.5]", "[0.123456789012345]"],
            &["[-1]", "[0.51]", "[0.5000001]", "[1]", "[.5]", "[0,]", "[-0]", "[0.4e0]"],
        );
        check(
            json!({"anyOf": [{"type": "integer"}, {"const": "none"}, {"type": "null"}]}),
            &["0", "-12345678901234567890", "\"none\"", "null"],
            &["1.0", "\"no\"", "nul", "--1", "1e3"],
        );
        check(
            json!({"type": "string", "format": "date"}),
            &["\"2024-02-29\"", "\"2000-02-29\"", "\"2023-12-31\""],
            &[
                "\"2023-02-29\"",
                "\"1900-02-29\"",
                "\"2023-13-01\"",
                "\"2023-04-31\"",
                "\"23-01-01\"",
            ],
        );
        check(
            json!({"type": "string", "pattern": "^[^\\n]{2}$"}),
            &["\"ab\"", "\"\\\"\\\\\"", "\"\\tb\""],
            &["\"a\"", "\"abc\"", "\"a\\n\"", "\"\\n\""],
        );
        check(
            json!({"type": "object", "patternProperties": {"^x": {"type": "integer"}}, "additionalProperties": {"type": "null"}}),
            &[r#"{"x1": 5, "y": null}"#, r#"{"xx": 1}"#, "{}"],
            &[r#"{"x1": null}"#, r#"{"y": 5}"#],
        );
    }
}

#[test]
fn regular_expressions_hold_for_the_whole_text() {
    for file in FILES {
        let vocabulary = Vocabulary::open(file);
        for (regex, yes, no) in [
            ("yes|no", &["yes", "no"][..], &["ye", "yesno", ""][..]),
            ("^(yes|no)$", &["yes"], &["yes "]),
            ("", &[""], &["a"]),
            ("a*", &["", "aaa"], &["b"]),
            ("[0-9]{3}-\\w+", &["123-a_Z"], &["12-a", "123-é", "123-"]),
            ("a/b \"\\\\\"", &["a/b \"\\\""], &["a/b \"\""]),
            ("[^a]", &["b", "é", "\n"], &["a", "bb"]),
            ("a.c", &["abc", "aéc"], &["a\nc"]),
            ("x{2,3}|^y", &["xx", "xxx", "y"], &["x", "xxxx", "yy"]),
            // A repetition of a repetition, as of a group.
            ("a**b", &["b", "aab"], &["a"]),
            ("(a+)+\\p{L}+", &["ab", "aaé"], &["a", "1"]),
            ("a+?b??", &["a", "aab"], &["b", "abb"]),
            ("\\u00e9\\x41\\u{1F600}", &["éA😀"], &["eA😀"]),
        ] {
            let grammar = Grammar::Regex(regex.to_string());
            for text in yes {
                assert!(accepts(&vocabulary, &grammar, text), "{file}: {regex}: {text:?}");
            }
            for text in no {
                assert!(!accepts(&vocabulary, &grammar, text), "{file}: {regex}: {text:?}");
            }
        }
        for (regex, line, column) in [
            ("a(b", 1, 2),
            ("ab\\1", 1, 3),
            ("a\n(?=b)", 2, 1),
            ("é\nb|\\b", 2, 3),
            ("ab^c", 1, 3),
            ("^a^b", 1, 3),
            ("(a|b$)c", 1, 5),
            ("[^a]\n\\^x^y$", 2, 4),
            ("a++", 1, 3),
            ("(?:b|a{2}+)", 1, 10),
            ("[z-a]", 1, 2),
            ("x|\\b", 1, 3),
            ("*", 1, 1),
        ] {
            match vocabulary.grammars.compile(&Grammar::Regex(regex.to_string())) {
                Err(GrammarError::Syntax { line: l, column: c, .. }) => {
                    assert_eq!((l, c), (line, column), "{regex:?}");
                }
                other => panic!("{regex:?}: {:?}", other.err()),
            }
        }
    }
}

#[test]
fn what_stands_beside_a_reference_means_what_the_dialect_says() {
    let vocabulary = Vocabulary::open(FILES[0]);
    let schema = |dialect: &str, beside: &str| {
        Grammar::JsonSchema(format!(
            r##"{{{dialect}"type": "array", "items": {{"$ref": "#/definitions/s", {beside}}},
                "definitions": {{"s": {{"type": "string"}}}}}}"##
        ))
    };
    let length = r#""maxLength": 2"#;
    for draft in ["draft-06", "draft-07"] {
        let dialect = format!(r#""$schema": "http://json-schema.org/{draft}/schema#", "#);
        for beside in [length, r#""not": {}, "unknown": 3"#] {
            assert!(accepts(&vocabulary, &schema(&dialect, beside), "[\"abc\"]"), "{dialect}");
        }
    }
    for draft in ["2019-09", "2020-12"] {
        let dialect = format!(r#""$schema": "https://json-schema.org/draft/{draft}/schema", "#);
        for dialect in ["", &dialect] {
            let grammar = schema(dialect, length);
            assert!(accepts(&vocabulary, &grammar, "[\"ab\"]"), "{dialect}");
            assert!(!accepts(&vocabulary, &grammar, "[\"abc\"]"), "{dialect}");
        }
    }
}

#[test]
fn lark_grammars() {
    let vocabulary = Vocabulary::open(FILES[0]);
    let grammar = "// sums\nstart: sum\nsum: NUMBER (\"+\" NUMBER)* | \"(\" sum \")\"\nNUMBER: /[0-9]+/\n%ignore / /\n";
    let grammar = Grammar::Lark(grammar.to_string());
    for text in ["1", "1+22", "(3 + 4)"] {
        assert!(accepts(&vocabulary, &grammar, text), "{text}");
    }
    for text in ["+", "1+", "(1", "a"] {
        assert!(!accepts(&vocabulary, &grammar, text), "{text}");
    }
    let refused =
        |grammar: &str| match vocabulary.grammars.compile(&Grammar::Lark(grammar.to_string())) {
            Ok(_) => panic!("{grammar} is not refused"),
            Err(e) => e.to_string(),
        };
    for (grammar, words) in [
        ("", "line 1, column 1: the grammar is empty"),
        ("root ::= \"a\" | \"b\"\n", "line 1, column 6: `::=` is of GBNF"),
        ("# a ::= b\nstart: \"::=\"\nx ::= y", "line 3, column 3: `::=`"),
        ("start: %json {\"type\": \"object\"}", "`%json` isn't supported: line 1, column 8"),
        ("start: <|im_end|>", "`<|im_end|>` isn't supported: line 1, column 8"),
        ("start: <[7]>", "`<[7]>` isn't supported"),
        ("start: @other", "`@other` isn't supported"),
        ("start: %lark { start: \"a\" }", "`%lark` isn't supported"),
        ("start: x y\nx[stop=\"b\"]: /a*/\ny: \"b\"", "`stop` isn't supported"),
        ("start: x\nx[max_tokens=3]: /a*/", "`max_tokens` isn't supported"),
        ("start: x\nx[temperature=0.5]: /a*/", "`temperature` isn't supported"),
        ("start: \"a\n", "line 1, column 10: lexer error"),
        ("start: nothing", "nothing"),
        ("a: \"a\"", "start"),
        ("start: /(/", "regex"),
        ("start: start", ""),
    ] {
        let line = refused(grammar);
        assert!(line.contains(words) && line.lines().count() == 1, "{grammar}: {line}");
    }
}

#[test]
fn objects_of_json() {
    for file in FILES {
        let vocabulary = Vocabulary::open(file);
        for text in ["{}", r#"{"a": [1, {"b": null}], "a": "é"}"#] {
            assert!(accepts(&vocabulary, &Grammar::JsonObject, text), "{text}");
        }
        for text in ["[]", "1", "", "{", r#"{"a"}"#, r#"{"a": 1,}"#, "{}{}"] {
            assert!(!accepts(&vocabulary, &Grammar::JsonObject, text), "{text}");
        }
        let mut random = Random(5);
        let mut ended = 0;
        for seed in 0..5 {
            for sampling in samplings(seed) {
                let object = vocabulary.grammars.compile(&Grammar::JsonObject).unwrap();
                match text(&vocabulary, object, sampling, &mut random, 120) {
                    Text::Ended(text) => {
                        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
                        assert!(value.is_object());
                        ended += 1;
                    }
                    Text::Cut(_) => {}
                    Text::Failed(e) => panic!("{e}"),
                }
            }
        }
        assert!(ended >= 10, "{ended}");
    }
}
