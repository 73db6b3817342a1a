//! Text that is held to a schema, a regular expression or a grammar.

#![cfg(all(feature = "cli", feature = "structured"))]

use std::fs;

use crate::common::command::{Dir, MODEL, err, fails, ok, on, out};

#[test]
fn texts_have_the_form_that_is_asked_for() {
    let dir = Dir::new("forms");
    let schema = r#"{"type": "object", "properties": {"n": {"enum": [1, 22]}, "ok": {"type": "boolean"}},
                     "required": ["n", "ok"], "additionalProperties": false}"#;
    let file = dir.file("schema.json").to_str().unwrap().to_owned();
    fs::write(&file, schema).unwrap();
    let run = |args: &[&str]| on(MODEL, "run", &[&["-p", "One"], args].concat());
    let by_file = run(&["--json-schema", &file, "--greedy"]);
    let text = ok(&by_file);
    let spaces: String = text.chars().filter(|c| *c != ' ').collect();
    let forms =
        [1, 22].into_iter().flat_map(|n| [true, false].map(|b| format!(r#"{{"n":{n},"ok":{b}}}"#)));
    assert!(forms.into_iter().any(|form| form == spaces), "{text}");
    // In place of the file, and by the names that other programs have.
    for args in [["-j", schema], ["-jf", &file], ["--json-schema-file", &file]] {
        assert_eq!(ok(&run(&[&args[..], &["--greedy"]].concat())), text, "{args:?}");
    }
    for seed in ["1", "2", "3"] {
        let regex = run(&["--regex", "^(yes|no), [0-9]{2}$", "--seed", seed]);
        let text = ok(&regex);
        let (word, number) = text.split_once(", ").unwrap();
        assert!(["yes", "no"].contains(&word) && number.len() == 2, "{text}");
        assert!(number.bytes().all(|b| b.is_ascii_digit()), "{text}");
    }
    let file = dir.file("sum.lark").to_str().unwrap().to_owned();
    fs::write(&file, "start: D \"+\" D\nD: /[0-9]/\n").unwrap();
    let sum = run(&["--grammar", &file, "--stats"]);
    assert_eq!(ok(&sum).chars().filter(|c| *c == '+').count(), 1);
    assert_eq!(ok(&sum).len(), 3);
    assert!(err(&sum).contains(r#""finish":"complete""#), "{}", err(&sum));
}

#[test]
fn errors_are_one_line() {
    let dir = Dir::new("bad-forms");
    let file = |name: &str, text: &str| {
        let path = dir.file(name).to_str().unwrap().to_owned();
        fs::write(&path, text).unwrap();
        path
    };
    let bad = file("bad.json", r#"{"properties": {"a": {"not": {}}}}"#);
    let broken = file("broken.json", "{\n  \"type\": }");
    let gbnf = file("old.gbnf", "root ::= \"a\"\n");
    let run = |args: &[&str]| on(MODEL, "run", &[&["-p", "One"], args].concat());
    for (args, code, says) in [
        (&["--json-schema", &bad][..], 1, &["bad.json", "`not`", "#/properties/a"][..]),
        (&["--json-schema", &broken], 1, &["broken.json", "line 2, column 11"]),
        (&["--json-schema", "no-such.json"], 1, &["no-such.json", "can't be read"]),
        (&["-j", r#"{"minLenght": 1}"#], 1, &["-j", "`minLenght`"]),
        (&["--regex", "a("], 1, &["--regex", "column 2"]),
        (&["--grammar", &gbnf], 1, &["old.gbnf", "GBNF", "`start`"]),
        (&["--json", "--regex", "a"], 2, &["--json", "--regex", "leave one"]),
        (&["--json", "--ignore-eos"], 2, &["--ignore-eos"]),
    ] {
        fails(&run(args), code, says);
    }
    // What was written before the text was cut stays.
    let cut = run(&["--regex", "[a-z]{30}", "-n", "2"]);
    assert!(cut.status.code() == Some(1) && !out(&cut).is_empty());
    assert!(err(&cut).contains("cut after 2 tokens") && err(&cut).lines().count() == 1);
}

#[test]
#[cfg(feature = "chat")]
fn answers_have_the_form_too() {
    let args = [
        "--chat-template",
        "chatml",
        "-p",
        "Hi",
        "--single-turn",
        "-j",
        r#"{"const": ["a", null]}"#,
    ];
    let answer = on(MODEL, "chat", &args);
    let text: String = ok(&answer).chars().filter(|c| !c.is_whitespace()).collect();
    assert_eq!(text, r#"["a",null]"#);
}

#[test]
fn batches_are_held_to_a_form() {
    let dir = Dir::new("batch-forms");
    let lines: String = (0..9).map(|i| format!("{{\"prompt\": \"One day, {i}\"}}\n")).collect();
    let prompts =
        dir.write("prompts.jsonl", (lines + "{\"prompt\": \"A\", \"max_tokens\": 1}\n").as_bytes());
    let answers = dir.file("answers.jsonl");
    let path = answers.to_str().unwrap().to_owned();
    let run = |args: &[&str]| on(MODEL, "run", &[&["-f", &prompts, "--out", &path], args].concat());
    let colour = ["--regex", "(red|blue): [0-9]{2}"];
    let mut wholes = Vec::new();
    for parallel in ["1", "4"] {
        let _ = fs::remove_file(&answers);
        // The last text is cut, and thus an error.
        fails(&run(&[&colour[..], &["-np", parallel]].concat()), 1, &["of 10 lines, 1 failed"]);
        let whole = fs::read_to_string(&answers).unwrap();
        let complete = |line: &&str| {
            let text = line.split("\"text\":\"").nth(1).unwrap_or_default();
            let (word, number) = text.split_once(": ").unwrap_or_default();
            ["red", "blue"].contains(&word)
                && number.bytes().take_while(u8::is_ascii_digit).count() == 2
                && line.contains("\"finish\":\"complete\"")
        };
        assert_eq!(whole.lines().filter(complete).count(), 9, "{whole}");
        assert!(whole.lines().last().unwrap().contains("cut after 1 token"), "{whole}");
        wholes.push(whole);
    }
    assert_eq!(wholes[0], wholes[1]);
    // Answers of another form are not gone on with.
    fails(&run(&["--regex", "(red|blue): [0-9]{3}"]), 1, &["line 1 is no answer"]);
    fails(&run(&[]), 1, &["line 1 is no answer"]);
    fails(&run(&["--json", "--ignore-eos"]), 2, &["--ignore-eos"]);
    let bad = dir.write("bad.json", br#"{"not": {}}"#);
    fails(&run(&["--json-schema", &bad]), 1, &["bad.json", "`not`"]);
    let line = dir.write("line.jsonl", br#"{"prompt": "a", "ignore_eos": true}"#);
    let other = dir.file("other.jsonl").to_str().unwrap().to_owned();
    let o = on(MODEL, "run", &["-f", &line, "--out", &other, "--json"]);
    fails(&o, 1, &["of 1 line, 1 failed"]);
    assert!(fs::read_to_string(&other).unwrap().contains("ignore_eos goes on"));
}
