//! The command `teff run --out`: a file of prompts in, a file of answers out.

#![cfg(feature = "cli")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::common::command::{Dir, command, err, fails, ok, out, piped, teff};
use teff_runtime::json::{Event, Reader};

fn model() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/gpt2/model.gguf")
}

/// Prompts of all kinds, some with the same beginning, of which four are errors.
fn prompts() -> String {
    let long = "The bird saw a red ball in the big tree. ".repeat(9);
    let mut lines: Vec<String> = vec![
        r#""Once upon a time""#.into(),
        r#"{"prompt": "Once upon a time", "id": "again", "max_tokens": 30}"#.into(),
        r#"{"prompt": "Once upon a time there was", "seed": 7, "max_tokens": 3}"#.into(),
        String::new(),
        r#"{"prompt": "The cat", "temprature": 0}"#.into(),
        r#"{"prompt": [1, 2, 3, 70], "id": 12, "top_k": 5, "stop": ["a", "."]}"#.into(),
        "no JSON".into(),
        format!(r#"{{"prompt": "{long}", "max_tokens": 12, "repeat_penalty": 1.2}}"#),
        format!(r#"{{"prompt": "{long} A dog", "temperature": 0}}"#),
        format!(r#"{{"id": "long", "prompt": "{}"}}"#, long.repeat(9)),
        r#"{"prompt": "", "max_tokens": 2}"#.into(),
        r#"  {"prompt": "A", "max_tokens": 0}  "#.into(),
        r#"{"prompt": [4000000000]}"#.into(),
    ];
    lines.extend((0..7).map(|i| {
        // The first go beyond a page.
        let n = if i < 2 { 66 } else { 9 };
        format!(r#"{{"id": {i}, "prompt": "One day, {i}", "max_tokens": {n}}}"#)
    }));
    lines.join("\n")
}

/// Errors of [`prompts`].
const ERRORS: usize = 4;

/// Answers of [`prompts`].
const ANSWERS: usize = 19;

/// `teff run MODEL -f PROMPTS --out ANSWERS` with a context of two pages, and these options.
fn batch(prompts: &Path, answers: &Path, more: &[&str]) -> Command {
    let mut run = command(["run"]);
    run.arg(model()).arg("-f").arg(prompts).arg("--out").arg(answers);
    run.args(["-n", "20", "--ctx", "192"]).args(more);
    run
}

/// Exit code 1 for the errors of the prompts, which standard error counts and nothing else.
fn errors_only(o: &Output) {
    assert_eq!(o.status.code(), Some(1), "{}", err(o));
    let said = format!("of {ANSWERS} lines, {ERRORS} failed");
    assert!(err(o).contains(&said) && err(o).lines().count() == 1, "{}", err(o));
    assert_eq!(out(o), "");
}

/// A folder with prompts, and their answers.
fn setup(name: &str) -> (Dir, PathBuf, Vec<u8>) {
    let dir = Dir::new(name);
    let file = PathBuf::from(dir.write("prompts.jsonl", prompts().as_bytes()));
    let whole = dir.file("whole.jsonl");
    errors_only(&batch(&file, &whole, &["--parallel", "4"]).output().unwrap());
    let bytes = fs::read(whole).unwrap();
    (dir, file, bytes)
}

/// Members of a JSON object, texts without their quotes.
fn members(line: &str) -> Vec<(String, String)> {
    let mut reader = Reader::new(line.as_bytes());
    assert_eq!(reader.next().unwrap(), Some(Event::ObjectStart));
    let mut all = Vec::new();
    while let Some(Event::Key(key)) = reader.next().unwrap() {
        let value = match reader.next().unwrap().unwrap() {
            Event::String(text) => text.to_cow().into_owned(),
            Event::Number(text) => text.to_owned(),
            other => panic!("{other:?}"),
        };
        all.push((key.to_cow().into_owned(), value));
    }
    assert_eq!(reader.next().unwrap(), None);
    all
}

fn member(line: &str, name: &str) -> String {
    let all = members(line);
    let found = all.iter().find(|(key, _)| key == name);
    found.unwrap_or_else(|| panic!("no {name} in {line}")).1.clone()
}

#[test]
fn answers_are_in_order_and_those_of_single_runs() {
    let (_dir, _, answers) = setup("batch-order");
    let answers = String::from_utf8(answers).unwrap();
    let lines: Vec<&str> = answers.lines().collect();
    assert_eq!(lines.len(), ANSWERS);
    let mut errors = 0;
    for (i, line) in lines.iter().enumerate() {
        let names: Vec<String> = members(line).into_iter().map(|(name, _)| name).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).filter(|n| *n != "id").collect();
        assert_eq!(member(line, "index"), i.to_string());
        match names[..] {
            ["index", "key", "text", "finish", "prompt_tokens", "tokens"] => {}
            ["index", "key", "error"] => errors += 1,
            _ => panic!("{line}"),
        }
    }
    assert_eq!(errors, ERRORS);
    assert_eq!(member(lines[1], "id"), "again");
    assert_eq!(member(lines[4], "id"), "12");
    assert!(member(lines[3], "error").contains("did you mean temperature?"));
    assert!(member(lines[5], "error").contains("not JSON"));
    assert_eq!(member(lines[8], "id"), "long");
    assert!(member(lines[8], "error").contains("the context holds 192"), "{}", lines[8]);
    assert!(member(lines[11], "error").contains("4000000000"), "{}", lines[11]);
    assert_eq!(
        (member(lines[10], "text"), member(lines[10], "tokens")),
        (String::new(), "0".into())
    );

    // The seed is that of the line, or else the index.
    for (i, prompt, seed, n) in [
        (0, "Once upon a time", 0, 20),
        (1, "Once upon a time", 1, 30),
        (2, "Once upon a time there was", 7, 3),
        (18, "One day, 6", 18, 9),
    ] {
        let (seed, n) = (seed.to_string(), n.to_string());
        let path = model();
        let run = ["run", path.to_str().unwrap(), "-p", prompt, "--seed", &seed, "-n", &n];
        assert_eq!(ok(&teff(run)), member(lines[i], "text"), "{i}");
        assert_eq!((member(lines[i], "finish"), member(lines[i], "tokens")), ("length".into(), n));
    }
}

#[test]
fn the_bytes_are_the_same_for_every_way_to_compute_them() {
    let (dir, file, whole) = setup("batch-ways");
    let path = model();
    let draft = path.to_str().unwrap();
    let ways: [&[&str]; 8] = [
        &["--parallel", "1", "--threads", "1"],
        &["--parallel", "1", "--threads", "2", "--oversubscribe"],
        &["--parallel", "3", "--threads", "1", "--backend", "scalar"],
        &["-np", "3", "--threads", "2", "--oversubscribe"],
        &["--parallel", "16", "--threads", "1", "--no-mmap"],
        &["--threads", "2", "--oversubscribe"],
        &["--parallel", "3", "--threads", "1", "--speculate", "ngram:7"],
        &["--parallel", "5", "--threads", "1", "--speculate", draft],
    ];
    for (i, way) in ways.iter().enumerate() {
        let answers = dir.file(&format!("{i}.jsonl"));
        errors_only(&batch(&file, &answers, way).output().unwrap());
        assert!(fs::read(answers).unwrap() == whole, "{way:?}");
    }
    // Room for one text of the context: others are pushed out.
    let answers = dir.file("small.jsonl");
    let small = ["--parallel", "16", "--cache", "1800k", "--repack", "off", "--stats"];
    let o = batch(&file, &answers, &small).output().unwrap();
    assert_eq!(o.status.code(), Some(1), "{}", err(&o));
    assert!(!err(&o).contains("\"preemptions\":0,"), "{}", err(&o));
    assert!(fs::read(answers).unwrap() == whole);
    // From a pipe, and by another spelling of the same lines' ends.
    let answers = dir.file("piped.jsonl");
    let args = ["run", draft, "-f", "-", "--out", answers.to_str().unwrap()];
    let more = ["-n", "20", "--ctx", "192"];
    let input = format!("\u{feff}{}\r\n\r\n", prompts().replace('\n', "\r\n"));
    errors_only(&piped(args.iter().chain(&more), input.as_bytes()));
    assert!(fs::read(answers).unwrap() == whole);
}

#[test]
fn a_batch_goes_on_from_every_byte() {
    let (dir, file, whole) = setup("batch-cut");
    let answers = dir.file("answers.jsonl");
    let ends: Vec<usize> = (0..whole.len()).filter(|&i| whole[i] == b'\n').map(|i| i + 1).collect();
    // Around the ends of lines, within their beginnings, and in a text.
    let mut cuts: Vec<usize> = vec![0, 11, 30, whole.len() - 2];
    cuts.extend([ends[0] - 1, ends[0], ends[0] + 1, ends[2] + 12, ends[6] + 80]);
    cuts.extend([ends[7] - 1, ends[7], ends[12] + 33, *ends.last().unwrap()]);
    for cut in cuts {
        fs::write(&answers, &whole[..cut]).unwrap();
        let o = batch(&file, &answers, &["--parallel", "2", "--stats"]).output().unwrap();
        assert_eq!(o.status.code(), Some(1), "{cut}: {}", err(&o));
        let kept = ends.iter().filter(|&&end| end <= cut).count();
        assert!(err(&o).contains(&format!("\"kept\":{kept},")), "{cut}: {}", err(&o));
        assert!(fs::read(&answers).unwrap() == whole, "{cut}");
    }
}

/// Waits until the file has more bytes than before; false if the command has ended.
fn grows(child: &mut std::process::Child, file: &Path, before: u64) -> bool {
    loop {
        if fs::metadata(file).is_ok_and(|facts| facts.len() > before) {
            return true;
        }
        if child.try_wait().unwrap().is_some() {
            return false;
        }
        std::thread::yield_now();
    }
}

#[test]
fn a_batch_that_is_killed_goes_on() {
    let (dir, file, whole) = setup("batch-killed");
    let answers = dir.file("answers.jsonl");
    let mut killed = 0;
    loop {
        let before = fs::metadata(&answers).map_or(0, |facts| facts.len());
        let mut run = batch(&file, &answers, &["--parallel", "3"]);
        let mut child = run.stderr(Stdio::piped()).spawn().unwrap();
        let grew = grows(&mut child, &answers, before);
        if !grew {
            errors_only(&child.wait_with_output().unwrap());
            break;
        }
        child.kill().unwrap();
        killed += usize::from(child.wait().unwrap().code() != Some(1));
        let so_far = fs::read(&answers).unwrap();
        assert!(whole.starts_with(&so_far), "{}", String::from_utf8_lossy(&so_far));
    }
    assert!(killed > 0, "it was never killed in time");
    assert!(fs::read(&answers).unwrap() == whole);
}

#[cfg(unix)]
#[test]
fn ctrl_c_ends_a_batch_between_lines() {
    let dir = Dir::new("batch-interrupt");
    let lines: String = (0..200).map(|i| format!("\"Story {i}\"\n")).collect();
    let file = PathBuf::from(dir.write("prompts.jsonl", lines.as_bytes()));
    let answers = dir.file("answers.jsonl");
    let mut run = batch(&file, &answers, &["--parallel", "2"]);
    let mut child = run.stderr(Stdio::piped()).spawn().unwrap();
    assert!(grows(&mut child, &answers, 0));
    let kill = Command::new("kill").arg("-INT").arg(child.id().to_string()).status();
    assert!(kill.unwrap().success());
    let o = child.wait_with_output().unwrap();
    assert_eq!(o.status.code(), Some(1), "{}", err(&o));
    let so_far = fs::read_to_string(&answers).unwrap();
    let n = so_far.lines().count();
    assert!((1..200).contains(&n) && so_far.ends_with('\n'));
    let said = format!("stopped by Ctrl-C: {} has {n} answer", answers.display());
    assert!(err(&o).contains(&said), "{}", err(&o));
    assert_eq!(ok(&batch(&file, &answers, &[]).output().unwrap()), "");
    let all = fs::read_to_string(&answers).unwrap();
    assert!(all.starts_with(&so_far) && all.lines().count() == 200);
}

#[test]
fn a_timeout_ends_a_batch() {
    let (dir, file, whole) = setup("batch-timeout");
    let answers = dir.file("answers.jsonl");
    let o = batch(&file, &answers, &["--timeout", "0"]).output().unwrap();
    fails(&o, 1, &["--timeout after 0 s", "answers.jsonl has 0 answers"]);
    errors_only(&batch(&file, &answers, &[]).output().unwrap());
    assert!(fs::read(&answers).unwrap() == whole);
}

#[test]
fn answers_to_something_else_are_refused_and_left_as_they_are() {
    let (dir, file, whole) = setup("batch-refused");
    let answers = dir.file("answers.jsonl");
    let refused = |has: &[u8], file: &Path, more: &[&str], says: &str| {
        fs::write(&answers, has).unwrap();
        let o = batch(file, &answers, more).output().unwrap();
        fails(&o, 1, &["answers.jsonl: line", says, "--overwrite"]);
        assert!(fs::read(&answers).unwrap() == has);
    };
    let other = "is no answer to prompt";
    refused(&whole, &file, &["--seed", "1"], other);
    refused(&whole, &file, &["-n", "21"], other);
    refused(&whole, &file, &["--ctx", "193"], other);
    refused(&whole, &file, &["--kv", "f16"], other);
    refused(&whole, &file, &["--stop", "x"], other);
    // A file that has nothing to do with it, even without a line break, and a cut line of another.
    refused(b"my notes", &file, &[], other);
    refused(b"{", Path::new(&dir.write("none.jsonl", b"")), &[], "has fewer prompts");
    refused(br#"{"index":0,"key":"0123"#, &file, &[], other);
    // Another line, another order, too few lines.
    let lines = prompts();
    let (first, rest) = lines.split_once('\n').unwrap();
    let changed = dir.write("changed.jsonl", format!("\"Once\"\n{rest}").as_bytes());
    refused(&whole, Path::new(&changed), &[], "line 1 is no answer");
    let (second, rest) = rest.split_once('\n').unwrap();
    let swapped = dir.write("swapped.jsonl", format!("{second}\n{first}\n{rest}").as_bytes());
    refused(&whole, Path::new(&swapped), &[], "line 1 is no answer");
    let fewer = dir.write("fewer.jsonl", format!("{first}\n{second}").as_bytes());
    refused(&whole, Path::new(&fewer), &[], "line 3 answers nothing");
    // Damage within a line.
    let mut damaged = whole.clone();
    let at = whole.windows(8).position(|w| w == b"\"text\":\"").unwrap();
    damaged[at + 6] = b'x';
    refused(&damaged, &file, &[], "line 1 is damaged");

    let more = dir.write("more.jsonl", format!("{lines}\n\"And\"\n").as_bytes());
    fs::write(&answers, &whole).unwrap();
    let o = batch(Path::new(&more), &answers, &["--stats"]).output().unwrap();
    assert_eq!(o.status.code(), Some(1));
    assert!(err(&o).contains(&format!("\"kept\":{ANSWERS},")), "{}", err(&o));
    let longer = fs::read(&answers).unwrap();
    assert!(longer.starts_with(&whole) && longer.len() > whole.len());

    // Whatever is there, --overwrite starts anew.
    for has in [&b"my notes"[..], &longer] {
        fs::write(&answers, has).unwrap();
        errors_only(&batch(&file, &answers, &["--overwrite"]).output().unwrap());
        assert!(fs::read(&answers).unwrap() == whole);
    }
}

#[test]
fn wrong_usage_is_named() {
    let dir = Dir::new("batch-usage");
    let text = dir.write("prompts.jsonl", b"\"a\"\n");
    let file = Path::new(&text);
    let answers = dir.file("answers.jsonl");
    let run = |more: &[&str]| batch(file, &answers, more).output().unwrap();
    fails(&run(&["-p", "a"]), 2, &["-p", "-f"]);
    fails(&run(&["word"]), 2, &["`word`", "-f"]);
    for value in ["0", "-1", "4097", "many"] {
        fails(&run(&["--parallel", value]), 2, &["--parallel", &format!("`{value}`"), "1 to 4096"]);
    }
    fails(&run(&["-np", "x"]), 2, &["-np", "`x`"]);
    fails(&run(&["--memory", "much"]), 2, &["--memory", "`much`", "4GiB"]);
    fails(&run(&["--cache", "0"]), 2, &["--cache", "`0`"]);
    fails(&run(&["--out", "-"]), 2, &["--out is `-`"]);
    fails(&run(&["--out", &text]), 2, &["prompts.jsonl has the prompts"]);
    fails(&run(&["--out", model().to_str().unwrap(), "--overwrite"]), 2, &["is the model"]);
    assert!(!answers.exists(), "nothing was to be written");

    let path = model();
    let path = path.to_str().unwrap();
    fails(&teff(["run", path, "--out", "x"]), 2, &["--out needs prompts"]);
    for flag in [&["--memory", "1G"][..], &["--cache", "1G"], &["--overwrite"]] {
        let args = [&["run", path, "-p", "a", "-n", "1"], flag].concat();
        fails(&teff(args), 2, &[flag[0], "--out FILE"]);
    }
    // What is meant for a server has no effect on one text.
    let o = teff(["run", path, "-p", "a", "-n", "1", "-np", "4"]);
    ok(&o);
    assert!(err(&o).contains("-np has no effect"), "{}", err(&o));
    let o = teff(["run", path, "-f", &text, "-n", "1"]);
    ok(&o);
    assert!(err(&o).contains("--out FILE answers each of its lines"), "{}", err(&o));

    let missing = dir.file("missing.jsonl");
    let o = batch(&missing, &answers, &[]).output().unwrap();
    fails(&o, 1, &["missing.jsonl", "can't be read"]);
    fails(&batch(&dir.0, &answers, &[]).output().unwrap(), 1, &["it is a folder"]);
    fails(&batch(file, &dir.0, &[]).output().unwrap(), 1, &["it is a folder", "--out"]);
    let nowhere = missing.join("answers.jsonl");
    fails(&batch(file, &nowhere, &[]).output().unwrap(), 1, &["can't be written"]);
    fails(&run(&["--memory", "1M"]), 1, &["--memory"]);
    fails(&run(&["--cache", "1k"]), 1, &["--cache", "--ctx"]);
    fails(&run(&["--ctx", "100000"]), 1, &["--ctx is 100000"]);
}

#[test]
fn a_file_that_another_command_writes_is_left_alone() {
    let (dir, file, whole) = setup("batch-locked");
    let answers = dir.file("answers.jsonl");
    let held = fs::File::create(&answers).unwrap();
    if held.lock().is_err() {
        println!("skipped: this file system has no locks");
        return;
    }
    let o = batch(&file, &answers, &[]).output().unwrap();
    fails(&o, 1, &["another command is writing it"]);
    drop(held);
    errors_only(&batch(&file, &answers, &[]).output().unwrap());
    assert!(fs::read(&answers).unwrap() == whole);
}

#[test]
fn an_empty_batch_and_one_of_a_line_too_long() {
    let dir = Dir::new("batch-ends");
    let answers = dir.file("answers.jsonl");
    let empty = dir.write("empty.jsonl", b"\n \n");
    let o = batch(Path::new(&empty), &answers, &[]).output().unwrap();
    assert_eq!((ok(&o), err(&o)), ("", ""));
    assert_eq!(fs::read(&answers).unwrap(), b"");

    let mut long = vec![b'x'; (16 << 20) + 1];
    long.extend(b"\n\"a\"");
    let long = dir.write("long.jsonl", &long);
    let o = batch(Path::new(&long), &answers, &[]).output().unwrap();
    fails(&o, 1, &["of 2 lines, 1 failed"]);
    let answers = fs::read_to_string(&answers).unwrap();
    let lines: Vec<&str> = answers.lines().collect();
    assert!(member(lines[0], "error").contains("more than 16777216 bytes"), "{}", lines[0]);
    assert_eq!(member(lines[1], "tokens"), "20");
}

#[cfg(feature = "chat")]
#[test]
fn messages_are_written_by_a_template() {
    use teff::runtime::chat::{ChatTemplate, Conversation, Encoder, Message};
    use teff::{Generate, Model, Sampling, SessionOptions};

    let dir = Dir::new("batch-chat");
    let lines = r#"{"id": "m", "messages": [{"role": "user", "content": "Hi </s>!"}], "temperature": 0}
        {"messages": [{"role": "user", "content": "Hi!"}], "tools": [{"name": "f"}]}
        {"messages": [{"content": "Hi!"}]}"#;
    let file = dir.write("prompts.jsonl", lines.as_bytes());
    let answers = dir.file("answers.jsonl");
    let o = batch(Path::new(&file), &answers, &["--chat-template", "vicuna"]).output().unwrap();
    fails(&o, 1, &["of 3 lines, 2 failed"]);
    let text = fs::read_to_string(&answers).unwrap();
    let lines: Vec<&str> = text.lines().collect();

    let model = Model::open(model()).unwrap();
    let encoder =
        Encoder::new(model.tokenizer().unwrap(), ChatTemplate::builtin("vicuna").unwrap());
    let ids = encoder.encode(&Conversation::new(&[Message::user("Hi </s>!")])).unwrap();
    let mut session = model.session(&SessionOptions::default().with_context(192)).unwrap();
    let greedy = Generate::default().with_sampling(Sampling::greedy()).with_max_tokens(20);
    let want: String = session.generate_ids(&ids, &greedy).unwrap().map(Result::unwrap).collect();
    assert_eq!(member(lines[0], "text"), want);
    assert_eq!(member(lines[0], "prompt_tokens"), ids.len().to_string());
    assert!(member(lines[1], "error").contains("knows no tools"));
    assert!(member(lines[2], "error").contains("message 0 has no role"));

    // Another template gives other prompts, and the model has none of its own.
    let o = batch(Path::new(&file), &answers, &["--chat-template", "chatml"]).output().unwrap();
    fails(&o, 1, &["is no answer"]);
    let o = batch(Path::new(&file), &dir.file("own.jsonl"), &[]).output().unwrap();
    fails(&o, 1, &["of 3 lines, 3 failed"]);
    let own = fs::read_to_string(dir.file("own.jsonl")).unwrap();
    assert!(own.lines().next().unwrap().contains("--chat-template"), "{own}");
    let o = batch(Path::new(&file), &answers, &["--chat-template", "nonsense"]).output().unwrap();
    fails(&o, 1, &["nonsense"]);
}

#[cfg(feature = "structured")]
#[test]
fn lines_may_have_forms_of_their_own() {
    let dir = Dir::new("batch-forms");
    let lines = r#"{"prompt": "A", "regex": "[ab]{3}"}
        {"prompt": "A", "json_schema": {"enum": [true, false]}}
        {"prompt": "A", "response_format": {"type": "json_schema", "json_schema": {"schema": {"const": 12345678901234567890}}}}
        {"prompt": "A", "response_format": {"type": "json_schema", "schema": {"const": 12345678901234567890123}}}
        {"prompt": "A", "grammar": "start: \"x\" /y+/", "max_tokens": 1}
        {"prompt": "A", "json_schema": {"properties": {"a": {"not": {}}}}}
        {"prompt": "A", "response_format": {"type": "text"}, "max_tokens": 3}
        {"prompt": "A"}
        {"prompt": "A", "regex": "a", "ignore_eos": true}
        {"prompt": "A", "regex": "(", "max_tokens": 3}
        {"prompt": "A", "regex": "a", "grammar": "start: /a/"}
        {"prompt": "A", "regex": "[ab]{3}", "seed": 1}"#;
    let file = dir.write("prompts.jsonl", lines.as_bytes());
    let answers = dir.file("answers.jsonl");
    let o = batch(Path::new(&file), &answers, &["--regex", "yes|no"]).output().unwrap();
    fails(&o, 1, &["of 12 lines, 6 failed"]);
    let text = fs::read_to_string(&answers).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let said = |i: usize| member(lines[i], "text");
    for i in [0, 11] {
        assert!(said(i).len() == 3 && said(i).chars().all(|c| "ab".contains(c)), "{}", lines[i]);
    }
    assert!(["true", "false"].contains(&&*said(1)), "{}", lines[1]);
    assert_eq!(said(2), "12345678901234567890");
    assert_eq!(member(lines[6], "tokens"), "3");
    assert!(!["yes", "no"].contains(&&*said(6)) && ["yes", "no"].contains(&&*said(7)));
    for (i, says) in [
        (3, "response_format: the schema isn't JSON"),
        (4, "the text is cut after 1 token"),
        (5, "json_schema: `not` isn't supported (at #/properties/a)"),
        (8, "ignore_eos"),
        (9, "regex: line 1, column 1"),
        (10, "regex and grammar both say"),
    ] {
        assert!(member(lines[i], "error").contains(says), "{}", lines[i]);
    }

    // Without -n, a text of a form has no limit of tokens.
    let file = dir.write("long.jsonl", br#"{"prompt": "A", "regex": "[xq]{150}"}"#);
    let mut run = command(["run"]);
    run.arg(model()).arg("-f").arg(&file).arg("--out").arg(dir.file("long"));
    ok(&run.output().unwrap());
    let text = fs::read_to_string(dir.file("long")).unwrap();
    assert_eq!(member(text.trim_end(), "text").len(), 150);
}
