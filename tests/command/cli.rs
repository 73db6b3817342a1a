//! Contract of the command: its output on each stream, and its exit codes.

#![cfg(feature = "cli")]

use std::ffi::OsStr;
use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::{Output, Stdio};

use crate::common::command::{Dir, MODEL, command, err, fails, ok, on, out, teff};
use crate::common::{data, golden, nmse};
use teff::kernels::Backend;
use teff::{Cpu, Format};
use teff_runtime::json::{Event, Reader};

/// JSON value, as far as these tests need it.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Json {
    Object(Vec<(String, Json)>),
    Array(Vec<Json>),
    String(String),
    Number(f64),
    Bool(bool),
    Null,
}

impl Json {
    pub(crate) fn parse(text: &str) -> Json {
        let mut reader = Reader::new(text.as_bytes());
        let first = reader.next().unwrap().unwrap();
        let value = Json::value(&mut reader, first);
        assert_eq!(reader.next().unwrap(), None);
        value
    }

    fn value(reader: &mut Reader<'_>, event: Event<'_>) -> Json {
        match event {
            Event::ObjectStart => {
                let mut members = Vec::new();
                while let Event::Key(key) = reader.next().unwrap().unwrap() {
                    let key = key.to_string();
                    let event = reader.next().unwrap().unwrap();
                    members.push((key, Json::value(reader, event)));
                }
                Json::Object(members)
            }
            Event::ArrayStart => {
                let mut values = Vec::new();
                loop {
                    match reader.next().unwrap().unwrap() {
                        Event::ArrayEnd => return Json::Array(values),
                        event => values.push(Json::value(reader, event)),
                    }
                }
            }
            Event::String(s) => Json::String(s.to_string()),
            Event::Number(n) => Json::Number(n.parse().unwrap()),
            Event::Bool(b) => Json::Bool(b),
            Event::Null => Json::Null,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn get(&self, key: &str) -> &Json {
        let Json::Object(members) = self else { panic!("no object: {self:?}") };
        let mut with = members.iter().filter(|(k, _)| k == key);
        let (_, value) = with.next().unwrap_or_else(|| panic!("no {key} in {members:?}"));
        assert!(with.next().is_none(), "{key} twice");
        value
    }

    pub(crate) fn number(&self, key: &str) -> f64 {
        let Json::Number(n) = self.get(key) else { panic!("{key}: {:?}", self.get(key)) };
        *n
    }

    pub(crate) fn str(&self, key: &str) -> &str {
        let Json::String(s) = self.get(key) else { panic!("{key}: {:?}", self.get(key)) };
        s
    }

    pub(crate) fn array(&self) -> &[Json] {
        let Json::Array(values) = self else { panic!("no array: {self:?}") };
        values
    }

    fn ids(&self) -> Vec<u32> {
        let id = |v: &Json| match v {
            Json::Number(n) => *n as u32,
            other => panic!("{other:?}"),
        };
        self.array().iter().map(id).collect()
    }
}

fn list(ids: &[u32]) -> String {
    ids.iter().map(u32::to_string).collect::<Vec<_>>().join(",")
}

#[test]
fn help_and_version() {
    let all = ["run", "inspect", "logits", "tokenize", "detokenize", "bench", "trace"];
    for args in [&["--help"][..], &["-h"]] {
        let help = teff(args);
        assert!(all.iter().all(|c| ok(&help).contains(c)));
        assert_eq!(err(&help), "");
    }
    for c in all {
        let help = teff([c, "--help"]);
        assert!(ok(&help).starts_with(&format!("usage: teff {c} MODEL")));
        assert!(out(&help).lines().all(|l| l.len() <= 100), "{}", out(&help));
    }
    assert_eq!(ok(&teff(["--version"])), concat!("teff ", env!("CARGO_PKG_VERSION"), "\n"));
}

#[test]
fn wrong_usage() {
    let none: [&str; 0] = [];
    fails(&teff(none), 2, &["run, inspect"]);
    fails(&teff(["frobnicate"]), 2, &["frobnicate", "run, inspect, logits, tokenize, detokenize"]);
    fails(&teff(["--json", "run"]), 2, &["--json"]);
    for c in ["run", "inspect", "logits", "tokenize", "detokenize", "bench"] {
        fails(&on(MODEL, c, &["--frobnicate"]), 2, &["--frobnicate"]);
    }
    for c in ["inspect", "logits", "detokenize", "bench"] {
        fails(&on(MODEL, c, &["again"]), 2, &["again"]);
        fails(&on(MODEL, c, &["line\nline"]), 2, &["line\\nline"]);
    }
    for c in ["run", "tokenize", "detokenize"] {
        fails(&on(MODEL, c, &["text", "again"]), 2, &["again"]);
    }
    fails(&teff(["inspect"]), 2, &["no model"]);
    fails(&teff(["tokenize", "--text", "a"]), 2, &["no model"]);
    fails(&on(MODEL, "run", &[]), 2, &["-p"]);
    fails(&on(MODEL, "run", &["-p"]), 2, &["-p"]);
    fails(&on(MODEL, "tokenize", &[]), 2, &["--text", "--file"]);
    fails(&on(MODEL, "tokenize", &["--text", "a", "--file", "b"]), 2, &["--text", "--file"]);
    fails(&on(MODEL, "detokenize", &[]), 2, &["--ids"]);
    fails(&on(MODEL, "detokenize", &["--ids", "1,x"]), 2, &["--ids", "`x`"]);
    fails(&on(MODEL, "logits", &["--out", "x"]), 2, &["--tokens", "--tokens-file"]);
    fails(&on(MODEL, "logits", &["--tokens", "1"]), 2, &["--out"]);
    fails(&on(MODEL, "logits", &["--tokens", "", "--out", "x"]), 2, &["--tokens", "empty"]);
    fails(&on(MODEL, "logits", &["--tokens", "1", "--out", "x", "--chunk", "0"]), 2, &["--chunk"]);
    fails(&on(MODEL, "bench", &["-p", "0", "-n", "0"]), 2, &["-p 0"]);
    fails(&on(MODEL, "bench", &["-r", "0"]), 2, &["-r"]);
    fails(&on(MODEL, "bench", &["--threads", "1,"]), 2, &["--threads"]);
}

#[test]
fn refused_values_are_named() {
    for (flag, value, says) in [
        ("--temperature", "-1", "-1"),
        ("--temperature", "nan", "NaN"),
        ("--temperature", "inf", "inf"),
        ("--temperature", "warm", "`warm`"),
        ("--top-k", "-1", "`-1`"),
        ("--top-p", "0", "above 0"),
        ("--top-p", "1.5", "1.5"),
        ("--min-p", "-0.1", "-0.1"),
        ("--repeat-penalty", "0", "above 0"),
        ("--presence-penalty", "inf", "finite"),
        ("--frequency-penalty", "often", "`often`"),
        ("--repeat-last-n", "-2", "-1 for all"),
        ("--seed", "-1", "`-1`"),
        ("--seed", "18446744073709551616", "2^64"),
        ("--threads", "0", "1 to"),
        ("--threads", "-2", "`-2`"),
        ("--threads", "100000", "100000"),
        ("--ctx", "-1", "from 0"),
        ("--ctx", "--greedy", "`--greedy`"),
        ("-n", "many", "`many`"),
        ("--timeout", "-1", "-1"),
        ("--timeout", "nan", "NaN"),
        ("--backend", "gpu", "scalar"),
        ("--kv", "f64", "f16"),
    ] {
        fails(&on(MODEL, "run", &["-p", "a", flag, value]), 2, &[flag, says]);
    }
}

#[test]
fn a_backend_that_is_not_here_is_an_error() {
    let missing = Cpu::NAMES.into_iter().filter(|n| Cpu::by_name(n).is_err());
    let elsewhere = if cfg!(target_arch = "x86_64") { "neon" } else { "avx2" };
    for name in missing.chain([elsewhere]) {
        fails(&on(MODEL, "run", &["-p", "a", "--backend", name]), 1, &["--backend", name]);
    }
}

#[test]
fn the_environment_may_name_the_backend() {
    let run = |variable: &str, more: &[&str]| {
        let path = data(MODEL);
        let mut run = command([OsStr::new("run"), path.as_os_str()]);
        run.args(["-p", "a", "-n", "1", "--stats"]).args(more).env("TEFF_BACKEND", variable);
        run.output().unwrap()
    };
    let names = |o: &Output, name: &str| {
        assert_eq!(o.status.code(), Some(0), "{}", err(o));
        assert_eq!(Json::parse(err(o)).str("backend"), name);
    };
    let best = Cpu::NAMES.into_iter().rfind(|n| Cpu::by_name(n).is_ok()).unwrap();
    names(&run("scalar", &[]), "scalar");
    names(&run("", &[]), best);
    // The option overrides the variable.
    names(&run("scalar", &["--backend", best]), best);
    names(&run("gpu", &["--backend", best]), best);
    fails(&run("gpu", &[]), 1, &["TEFF_BACKEND", "`gpu`", "scalar"]);
    let missing = Cpu::NAMES.into_iter().filter(|n| Cpu::by_name(n).is_err());
    for name in missing {
        fails(&run(name, &[]), 1, &["TEFF_BACKEND", name, "lacks"]);
    }
}

#[test]
fn models_that_are_none() {
    let dir = Dir::new("models");
    let empty = dir.write("empty.gguf", b"");
    let text = dir.write("text.gguf", b"Once upon a time");
    let half = fs::read(data(MODEL)).unwrap();
    let half = dir.write("half.gguf", &half[..half.len() / 2]);
    let nowhere = dir.file("nowhere.gguf");
    let folder = dir.0.to_str().unwrap();
    for path in [&empty, &text, &half, nowhere.to_str().unwrap(), folder] {
        fails(&teff(["inspect", path]), 1, &[path]);
        fails(&teff(["run", path, "-p", "a"]), 1, &[path]);
    }
}

#[test]
fn run_streams_the_continuation() {
    let greedy = ["-p", "Hello world", "-n", "12", "--greedy"];
    let first = on(MODEL, "run", &greedy);
    assert!(!ok(&first).is_empty() && err(&first).is_empty());
    assert_eq!(first.stdout, on(MODEL, "run", &greedy).stdout);
    // The same bits, so the same text.
    for more in [["--threads", "1"], ["--backend", "scalar"], ["--ctx", "64"], ["--seed", "7"]] {
        assert_eq!(first.stdout, on(MODEL, "run", &[&greedy[..], &more].concat()).stdout);
    }
    let drawn = |seed| on(MODEL, "run", &["-p", "Hello", "-n", "16", "--seed", seed]);
    assert_eq!(ok(&drawn("1")), ok(&drawn("1")));
    assert_ne!(ok(&drawn("1")), ok(&drawn("2")));
    assert_eq!(ok(&on(MODEL, "run", &["-p", "Hello", "-n", "0"])), "");
    assert_eq!(ok(&on("", "run", &["-p", "Hello", "-n", "0"])), "");
}

#[test]
fn run_reports_figures() {
    let o = on(MODEL, "run", &["-p", "Hello world", "-n", "5", "--stats", "--threads", "2"]);
    ok(&o);
    assert_eq!(err(&o).lines().count(), 1);
    let figures = Json::parse(err(&o));
    assert_eq!(figures.number("prompt_tokens"), 8.0);
    assert_eq!(figures.number("generated_tokens"), 5.0);
    assert_eq!(figures.number("threads"), 2.0);
    assert_eq!(figures.str("finish"), "length");
    assert!(Cpu::NAMES.contains(&figures.str("backend")));
    for key in ["load_ms", "ttft_ms", "prefill_tps", "decode_tps", "session_bytes"] {
        assert!(figures.number(key) > 0.0, "{key}");
    }
    if cfg!(target_os = "linux") {
        assert!(figures.number("peak_bytes") >= figures.number("session_bytes"));
    }
}

#[test]
fn run_ends_where_it_must() {
    // A full context is not an error, but is reported.
    let o = on(MODEL, "run", &["-p", "Hello", "-n", "1000", "--ctx", "16", "--greedy"]);
    assert!(!ok(&o).is_empty());
    assert!(err(&o).contains("16") && err(&o).lines().count() == 1, "{}", err(&o));

    let long = "word ".repeat(100);
    fails(&on(MODEL, "run", &["-p", &long]), 1, &["96", "--ctx", "prompt"]);
    fails(&on(MODEL, "run", &["-p", "a", "--ctx", "97"]), 1, &["--ctx", "97", "96"]);
    let huge = usize::MAX.to_string();
    fails(&on(MODEL, "run", &["-p", "a", "--ctx", &huge]), 1, &["--ctx", &huge]);

    fails(&on(MODEL, "run", &["-p", "Hello", "--timeout", "0"]), 1, &["--timeout"]);
    let o = on(MODEL, "run", &["-p", "Hello", "--timeout", "0", "--stats"]);
    assert_eq!(o.status.code(), Some(1));
    let (figures, line) = err(&o).split_once('\n').unwrap();
    assert_eq!(Json::parse(figures).str("finish"), "stopped");
    assert!(line.contains("--timeout"));
    ok(&on(MODEL, "run", &["-p", "Hello", "-n", "3", "--timeout", "1e300"]));
}

#[test]
fn a_reader_that_leaves_is_no_error() {
    for args in [&["run", "-p", "Hello", "-n", "90", "--greedy"][..], &["inspect"]] {
        let path = data(MODEL);
        let mut command = command([OsStr::new(args[0]), path.as_os_str()]);
        command.args(&args[1..]).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        drop(child.stdout.take());
        let mut line = String::new();
        child.stderr.take().unwrap().read_to_string(&mut line).unwrap();
        assert_eq!((child.wait().unwrap().code(), line.as_str()), (Some(0), ""));
    }
}

#[test]
fn inspect_counts_everything() {
    let json = |model: &str, args: &[&str]| {
        let o = on(model, "inspect", &[&["--json"], args].concat());
        Json::parse(ok(&o))
    };
    let all = json(MODEL, &["--threads", "2"]);
    assert_eq!((all.str("architecture"), all.number("parameters")), ("gpt2", 176_128.0));
    for (key, value) in [("vocab", 311), ("context", 96), ("layers", 3), ("width", 64)] {
        assert_eq!(all.number(key), f64::from(value), "{key}");
    }
    for (key, value) in [("heads", 4), ("kv_heads", 4), ("head_dim", 16), ("ffn", 256)] {
        assert_eq!(all.number(key), f64::from(value), "{key}");
    }
    assert_eq!(all.get("tied_head"), &Json::Bool(true));
    let groups = all.get("tensors").array();
    let sum = |key| groups.iter().map(|g| g.number(key)).sum::<f64>();
    assert_eq!((sum("parameters"), sum("count")), (176_128.0, 40.0));
    assert_eq!(sum("bytes"), all.number("weight_bytes"));
    assert_eq!(groups[0].str("format"), "Q8_0");
    assert_eq!(all.number("checkpoint_bytes"), 0.0); // all layers can go back
    let parts =
        ["cache_bytes", "arena_bytes", "table_bytes", "checkpoint_bytes"].map(|k| all.number(k));
    let session = parts.iter().sum::<f64>() + 2.0 * all.number("per_thread_bytes");
    assert_eq!(session, all.number("session_bytes"));
    assert_eq!(session + all.number("weight_bytes"), all.number("total_bytes"));
    let sets = all.get("instruction_sets").array();
    assert!(sets.contains(&Json::String("scalar".into())));
    assert!(sets.contains(all.get("backend")));

    // The folder holds the same model.
    assert_eq!(json("", &[]).number("parameters"), 176_128.0);
    // Less context and a smaller cache format take less.
    let cache = |args: &[&str]| json(MODEL, args).number("cache_bytes");
    assert!(cache(&["--ctx", "64"]) < cache(&[]) && cache(&["--kv", "q8"]) < cache(&[]));

    let stats = json(MODEL, &["--stats"]);
    assert_eq!((stats.get("stats").array().len(), stats.number("suspicious")), (40, 0.0));
    let norm = stats.get("stats").array().iter().find(|t| t.str("name") == "output_norm.weight");
    assert!(norm.unwrap().number("rms") > 0.5 && norm.unwrap().get("suspicious") == &Json::Null);

    let o = on(MODEL, "inspect", &["--stats"]);
    for part in ["gpt2", "176128", "Q8_0", "blk.2.ffn_norm.weight", "suspicious: 0"] {
        assert!(ok(&o).contains(part), "{part}");
    }
}

/// A norm of zeros is typical of a broken conversion.
#[test]
fn inspect_flags_a_broken_norm() {
    let dir = Dir::new("norm");
    let mut bytes = fs::read(data("gpt2-f32.gguf")).unwrap();
    let model = teff::Model::open(data("gpt2-f32.gguf")).unwrap();
    let spec = model.spec();
    let id = spec.id(teff::graph::Role::OutputNorm);
    let teff::graph::Tensor::Vector(norm) = model.tensor(id) else { panic!("a matrix") };
    let norm: Vec<u8> = norm.iter().flat_map(|x| x.to_le_bytes()).collect();
    let at = bytes.windows(norm.len()).position(|w| w == norm).unwrap();
    bytes[at..at + norm.len()].fill(0);
    let path = dir.write("zero.gguf", &bytes);
    let o = teff(["inspect", &path, "--stats"]);
    assert!(ok(&o).contains("SUSPICIOUS: RMS below 0.01") && out(&o).contains("suspicious: 1"));
    bytes[at..at + 4].copy_from_slice(&f32::NAN.to_le_bytes());
    let path = dir.write("nan.gguf", &bytes);
    let o = teff(["inspect", &path, "--stats", "--json"]);
    assert_eq!(Json::parse(ok(&o)).number("suspicious"), 1.0);
}

#[test]
fn tokens_are_the_reference_tokenizer_s() {
    let dir = Dir::new("tokens");
    let all = fs::read_to_string(data("golden_tokens.json")).unwrap();
    for (i, case) in Json::parse(&all).array().iter().enumerate() {
        let (text, want) = (case.str("text"), case.get("ids").ids());
        let file = dir.write(&format!("{i}.txt"), text.as_bytes());
        let model = if i % 2 == 0 { MODEL } else { "" };
        // In the only text with the name of a special token, the reference parsed it as the token.
        let special = if text.contains("<|endoftext|>") { &["--special"][..] } else { &[] };
        let ids = on(model, "tokenize", &[&["--file", &file], special].concat());
        assert_eq!(ok(&ids).lines().count(), 1);
        assert_eq!(Json::parse(out(&ids)).ids(), want, "{text:?}");
        assert_eq!(ok(&on(model, "detokenize", &["--ids", &list(&want)])), text);
    }
    let ids = |args: &[&str]| Json::parse(ok(&on(MODEL, "tokenize", args))).ids();
    assert_eq!(ids(&["--text", ""]), [0u32; 0]);
    assert_eq!(ids(&["--text", "-1"]).len(), 2);
    let end = "<|endoftext|>";
    assert_eq!(ids(&["--text", end, "--special"]).len(), 1);
    assert_eq!(ids(&["--text", end]).len(), end.len()); // no merges in these letters
    assert_eq!(ok(&on(MODEL, "detokenize", &["--ids", "[39, 68]"])), "He");
    assert_eq!(ok(&on(MODEL, "detokenize", &["--ids", "[]"])), "");

    let bad = dir.write("bad.txt", b"abc\xff");
    fails(&on(MODEL, "tokenize", &["--file", &bad]), 1, &["bad.txt", "byte 3", "UTF-8"]);
    let nowhere = dir.file("nowhere.txt");
    let nowhere = nowhere.to_str().unwrap();
    fails(&on(MODEL, "tokenize", &["--file", nowhere]), 1, &["nowhere.txt"]);
    fails(&on(MODEL, "detokenize", &["--ids", "5,311"]), 1, &["311"]);
}

fn logits(dir: &Dir, model: &str, tokens: &str, more: &[&str]) -> Vec<u8> {
    let path = dir.file("logits.f32");
    let args = [&["--tokens", tokens, "--out", path.to_str().unwrap()], more].concat();
    let o = on(model, "logits", &args);
    assert_eq!((ok(&o), err(&o)), ("", ""));
    let bytes = fs::read(&path).unwrap();
    fs::remove_file(&path).unwrap();
    assert_eq!(fs::read_dir(&dir.0).unwrap().count(), 0, "something else was left behind");
    bytes
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
}

#[test]
fn logits_are_golden() {
    let dir = Dir::new("golden");
    for (model, file) in [("", "model.safetensors"), ("gpt2-f32.gguf", "gpt2-f32.gguf")] {
        let g = golden(&data(&format!("{file}.golden.safetensors")));
        let ours = floats(&logits(&dir, model, &list(&g.tokens), &[]));
        assert_eq!(ours.len(), g.tokens.len() * 311);
        assert!(nmse(&ours, &g.exact) <= 1e-9);
    }
    let g = golden(&data("gpt2-Q8_0.gguf.golden.safetensors"));
    let ours = floats(&logits(&dir, MODEL, &list(&g.tokens), &[]));
    assert!(nmse(&ours, &g.exact) <= 1.1 * nmse(&g.peer.unwrap(), &g.exact));
}

#[test]
fn logits_have_the_same_bits_however_they_are_computed() {
    let dir = Dir::new("bits");
    let g = golden(&data("gpt2-Q8_0.gguf.golden.safetensors"));
    let tokens = list(&g.tokens);
    for kv in ["f32", "f16", "q8"] {
        let compute = |more: &[&str]| logits(&dir, MODEL, &tokens, &[&["--kv", kv], more].concat());
        let first = compute(&[]);
        for more in [
            &["--chunk", "1", "--threads", "2"][..],
            &["--chunk", "7", "--threads", "1"],
            &["--chunk", "1000000", "--threads", "2"],
            &["--backend", "scalar", "--threads", "1"],
        ] {
            assert!(compute(more) == first, "{kv}: {more:?}");
        }
    }
}

#[test]
fn tokens_come_from_a_file_too() {
    let (dir, files) = (Dir::new("out"), Dir::new("tokens-file"));
    let out = dir.file("logits.f32");
    let out = out.to_str().unwrap();
    let words = |ids: &[i32]| ids.iter().flat_map(|i| i.to_le_bytes()).collect::<Vec<u8>>();
    let read = |bytes: &[u8]| {
        let file = files.write("t.i32", bytes);
        on(MODEL, "logits", &["--tokens-file", &file, "--out", out])
    };
    ok(&read(&words(&[39, 68, 302])));
    let bytes = fs::read(out).unwrap();
    fs::remove_file(out).unwrap();
    assert!(bytes == logits(&dir, MODEL, "39,68,302", &[]));

    fails(&read(b""), 1, &["t.i32", "empty"]);
    fails(&read(&[1, 0, 0, 0, 2]), 1, &["t.i32", "5 bytes"]);
    fails(&read(&words(&[1, -1])), 1, &["t.i32", "-1", "offset 4"]);
    fails(&read(&words(&[1; 97])), 1, &["t.i32", "96"]);
    fails(&read(&words(&[1, 311])), 1, &["311", "index 1"]);
    assert!(!Path::new(out).exists());
}

#[test]
fn logits_never_leave_half_a_file() {
    let dir = Dir::new("half");
    let old = dir.write("old.f32", b"as before");
    fails(&on(MODEL, "logits", &["--tokens", "1,999", "--out", &old]), 1, &["999", "index 1"]);
    assert_eq!(fs::read(&old).unwrap(), b"as before");
    let nowhere = dir.file("no/such/folder/x.f32");
    let nowhere = nowhere.to_str().unwrap();
    fails(&on(MODEL, "logits", &["--tokens", "1", "--out", nowhere]), 1, &[nowhere]);
    // Writing to the model that is being read would destroy both.
    let model = dir.write("model.gguf", &fs::read(data(MODEL)).unwrap());
    let before = fs::read(&model).unwrap();
    let o = teff(["logits", &model, "--tokens", "1", "--out", &model]);
    fails(&o, 1, &[&model, "model itself"]);
    assert!(fs::read(&model).unwrap() == before);
    if Path::new("/dev/full").exists() {
        let o = on(MODEL, "logits", &["--tokens", "1", "--out", "/dev/full"]);
        fails(&o, 1, &["/dev/full"]);
        assert!(Path::new("/dev/full").exists());
    }
}

/// A folder without tokenizer files still computes.
#[test]
fn models_without_a_tokenizer() {
    let (dir, out) = (Dir::new("bare"), Dir::new("bare-out"));
    for name in ["config.json", "model.safetensors"] {
        fs::copy(data(name), dir.file(name)).unwrap();
    }
    let path = dir.0.to_str().unwrap();
    fails(&teff(["run", path, "-p", "a"]), 1, &["tokenizer"]);
    fails(&teff(["tokenize", path, "--text", "a"]), 1, &["tokenizer"]);
    fails(&teff(["detokenize", path, "--ids", "1"]), 1, &["tokenizer"]);
    let o = teff(["inspect", path, "--json"]);
    assert_eq!(Json::parse(ok(&o)).get("tokenizer"), &Json::Bool(false));
    let file = out.file("l.f32");
    ok(&teff(["logits", path, "--tokens", "1,2", "--out", file.to_str().unwrap()]));
    assert_eq!(fs::metadata(file).unwrap().len(), 2 * 311 * 4);
    ok(&teff(["bench", path, "-p", "4", "-n", "2", "-r", "1"]));
}

#[test]
fn weights_can_be_quantised_when_loading() {
    let args = ["--json", "--quantize", "q4_0"];
    let all = Json::parse(ok(&on("gpt2-f32.gguf", "inspect", &args)));
    assert_eq!(all.get("tensors").array()[0].str("format"), "Q4_0");
    let o = on(MODEL, "run", &["-p", "a", "--quantize", "f32"]);
    fails(&o, 2, &["--quantize", "Q8_0"]);
    fails(&on(MODEL, "inspect", &args), 1, &["Q8_0", "Q4_0"]);
}

/// Repacking applies if a backend gains by it, and is never an error.
#[test]
fn weights_can_be_repacked_when_loading() {
    let dir = Dir::new("repack");
    if !cfg!(feature = "repack") {
        fails(&on(MODEL, "run", &["-p", "a", "--repack", "on"]), 1, &["--repack", "feature"]);
        return;
    }
    let repacks = |backend: Cpu| backend.repacks(Format::Q4_0);
    for backend in Cpu::NAMES.into_iter().filter(|n| Cpu::by_name(n).is_ok()) {
        let (model, with) = ("gpt2-Q4_0.gguf", ["--backend", backend]);
        let plain = logits(&dir, model, "39,68,302", &[&with[..], &["--repack", "off"]].concat());
        for when in [&["--repack", "on"][..], &["--repack", "auto"], &[]] {
            let repacked = logits(&dir, model, "39,68,302", &[&with[..], when].concat());
            assert!(repacked == plain, "{backend} {when:?}");
        }

        let figures = |more: &[&str]| {
            let args = ["-p", "Hello", "-n", "4", "--greedy", "--stats"];
            let o = on(model, "run", &[&args[..], &with, more].concat());
            let stats = Json::parse(err(&o));
            let (all, copies) = (stats.number("model_bytes"), stats.number("repacked_bytes"));
            (ok(&o).to_owned(), all, copies)
        };
        let ((text, before, none), on) =
            (figures(&["--repack", "off"]), figures(&["--repack", "on"]));
        assert_eq!((&text, none), (&on.0, 0.0), "{backend}");
        // By itself, where there is memory; these are kilobytes.
        assert_eq!(
            figures(&[]),
            if cfg!(target_os = "linux") { on.clone() } else { (text, before, none) }
        );
        // The matrices of three layers.
        let copied = f64::from(3 * 64 * (3 * 64 + 64 + 2 * 256) / 32 * 18);
        let repacks = repacks(Cpu::by_name(backend).unwrap());
        let copied = if repacks { copied } else { 0.0 };
        assert_eq!((on.1 - before, on.2), (copied, copied), "{backend}");
    }
    let bytes = |more: &[&str]| {
        let args = ["-p", "4", "-n", "2", "-r", "1", "--json", "--quantize", "q4_0"];
        let o = on("gpt2-f32.gguf", "bench", &[&args[..], more].concat());
        Json::parse(ok(&o)).array()[0].number("weight_bytes")
    };
    // 311 rows of the head become 320.
    let padding = f64::from(9 * 64 / 32 * 18);
    let expected = if repacks(Cpu::best()) { padding } else { 0.0 };
    assert_eq!(bytes(&["--repack", "on"]) - bytes(&["--repack", "off"]), expected);
    let memory = |model: &str, more: &[&str]| {
        let o = on(model, "inspect", &[&["--json", "--stats"], more].concat());
        let o = Json::parse(ok(&o));
        ["model_bytes", "repacked_bytes", "repack_bytes"].map(|key| o.number(key))
    };
    // Q8_0 is just as fast in place.
    assert_eq!(memory(MODEL, &["--repack", "on"]), memory(MODEL, &[]));
    // Looking copies nothing by itself, and says what copies would take.
    let ([plain, none, copies], [all, same, again]) =
        (memory("gpt2-Q4_0.gguf", &[]), memory("gpt2-Q4_0.gguf", &["--repack", "on"]));
    assert_eq!((all - plain, none, same, again), (copies, 0.0, copies, copies));
    // They take the place of mapped pages, and come beside a file that was read.
    let total = |more: &[&str]| {
        let o = on("gpt2-Q4_0.gguf", "inspect", &[&["--json"], more].concat());
        Json::parse(ok(&o)).number("total_bytes")
    };
    assert_eq!(total(&["--repack", "on"]), total(&[]));
    assert_eq!(total(&["--repack", "on", "--no-mmap"]) - total(&["--no-mmap"]), copies);
    if copies > 0.0 {
        for (when, line) in [
            (&[][..], Some("\ncopies  ")),
            (&["--repack", "off"], None),
            (&["--repack", "on"], Some("\nrepacked  ")),
        ] {
            let o = on("gpt2-Q4_0.gguf", "inspect", when);
            for one in ["\ncopies  ", "\nrepacked  "] {
                assert_eq!(ok(&o).contains(one), Some(one) == line, "{when:?}: {}", out(&o));
            }
        }
    }
    fails(&on(MODEL, "tokenize", &["--text", "a", "--repack", "on"]), 2, &["--repack"]);
    fails(&on(MODEL, "run", &["-p", "a", "--repack", "yes"]), 2, &["--repack", "auto"]);
    fails(&on(MODEL, "run", &["-p", "a", "--no-repack"]), 2, &["--repack off"]);
}

#[test]
fn bench_measures() {
    let args = ["-p", "8", "-n", "4", "-r", "2", "--threads", "1,2", "--json"];
    let o = on(MODEL, "bench", &args);
    let rows = Json::parse(ok(&o));
    assert_eq!(err(&o), "");
    assert_eq!(rows.array().len(), 2);
    for (row, threads) in rows.array().iter().zip([1.0, 2.0]) {
        assert_eq!(row.number("threads"), threads);
        for key in ["prefill_tps", "decode_tps"] {
            let s = row.get(key);
            let (min, median, max) = (s.number("min"), s.number("median"), s.number("max"));
            assert!(0.0 < min && min <= median && median <= max, "{key}");
        }
        assert!(row.number("load_ms") > 0.0 && row.number("gb_per_s") > 0.0);
        assert_eq!(row.number("allocations_per_token"), 0.0);
        // All weights except the table of positions, of which one row is read, and some cache.
        let all = row.number("weight_bytes") - 95.0 * 64.0 * 4.0;
        let cache = 3.0 * 2.0 * 64.0 * 4.0 * 2.5;
        assert_eq!(row.number("bytes_per_token"), all + cache);
    }
    let o = on(MODEL, "bench", &["-p", "8", "-n", "0", "-r", "1", "--json"]);
    assert_eq!(Json::parse(ok(&o)).array()[0].get("decode_tps"), &Json::Null);
    assert_eq!(ok(&on(MODEL, "bench", &["-r", "1", "--threads", "1,1"])).lines().count(), 4);
    fails(&on(MODEL, "bench", &["-p", "97"]), 1, &["-p", "97", "96"]);
    fails(&on(MODEL, "bench", &["-n", "1000"]), 1, &["-n", "1000", "96"]);
}

#[test]
fn bench_measures_guesses() {
    let draft = data(MODEL);
    for how in ["ngram", "ngram:4", draft.to_str().unwrap()] {
        let o = on(MODEL, "bench", &["--speculate", how, "-r", "1", "--threads", "1", "--json"]);
        let rows = Json::parse(ok(&o));
        assert_eq!(err(&o), "");
        for (row, text) in rows.array().iter().zip(["own", "copy", "new"]) {
            assert_eq!(row.str("text"), text);
            assert!(row.number("right") <= row.number("guessed"), "{how} {text}");
            let both = ["plain_tps", "guessing_tps"].map(|key| row.get(key).number("median"));
            assert!(both.iter().all(|&tps| tps > 0.0), "{how} {text}");
        }
        assert_eq!(rows.array().len(), 3);
        // A text that repeats itself is guessed, and a random one is not.
        let right = |i: usize| rows.array()[i].number("right");
        match how {
            "ngram:4" => assert!(right(1) > 0.0 && right(2) == 0.0, "{} {}", right(1), right(2)),
            _ => assert!(how == "ngram" || right(2) < 48.0),
        }
    }
    let o = on(MODEL, "bench", &["--speculate", "ngram", "-r", "2", "--threads", "1"]);
    assert_eq!(ok(&o).lines().count(), 5);
    for (more, code, says) in [
        (["-p", "97"], 1, &["-p", "97", "96"][..]),
        (["-p", "0"], 2, &["--speculate", "at least 1"]),
        (["--sequences", "2"], 2, &["--speculate", "--sequences"]),
        (["--threads", "0"], 2, &["--threads"]),
    ] {
        let o = on(MODEL, "bench", &[&["--speculate", "ngram"][..], &more].concat());
        fails(&o, code, says);
    }
}

#[test]
fn roofline_measures() {
    // 8 MB, one short run each: this only tests that everything works.
    let quick = ["bench", "--roofline", "--quick", "--size", "8", "--formats", "Q4_0"];
    let o = teff(quick.into_iter().chain(["--threads", "2", "--json"]));
    let all = Json::parse(ok(&o));
    assert_eq!(err(&o), "");
    assert_eq!(all.number("size_bytes"), 8.0 * 1024.0 * 1024.0);
    let names: Vec<_> = Cpu::NAMES.into_iter().filter(|n| Cpu::by_name(n).is_ok()).collect();
    assert_eq!(all.get("backends").array().len(), names.len());
    // 1, 2, 4 and 8 streams, with prefetch and without, on 1 and on 2 threads.
    let reads = all.get("reads").array();
    assert_eq!(reads.len(), 4 * 2 * 2);
    for (i, r) in reads.iter().enumerate() {
        assert_eq!(r.number("threads"), if i < 8 { 1.0 } else { 2.0 });
        assert_eq!(r.get("prefetch"), &Json::Bool(i % 2 == 1));
        assert!(r.number("gb_per_s") > 0.0 && r.number("streams") >= 1.0);
    }
    let peaks = all.get("peaks").array();
    assert_eq!(peaks.len(), names.len() * 2);
    for (p, name) in peaks.iter().zip(names.iter().cycle()) {
        assert_eq!(p.str("backend"), *name);
        assert!(p.number("int8_tops") > 0.0 && p.number("f32_gflops") > 0.0);
    }
    let products = all.get("products").array();
    assert_eq!(products.len(), names.len());
    for (p, name) in products.iter().zip(&names) {
        assert_eq!((p.str("format"), p.str("backend")), ("Q4_0", *name));
        assert_eq!((p.number("cols"), p.number("columns")), (2048.0, 512.0));
        let repacks = Cpu::by_name(name).unwrap().repacks(Format::Q4_0);
        for key in ["repacked_gb_per_s", "repacked_share"] {
            assert!(if repacks { p.number(key) > 0.0 } else { p.get(key) == &Json::Null }, "{key}");
        }
        for key in ["rows", "tops", "share_of_peak", "gb_per_s", "share_of_bandwidth"] {
            assert!(p.number(key) > 0.0, "{key}");
        }
    }
    assert_eq!(all.get("models"), &Json::Array(vec![]));

    // With a model, on one backend, and as text too.
    let model = data(MODEL);
    let with = quick.map(OsStr::new).into_iter().chain([model.as_os_str()]);
    let args = ["--backend", "scalar", "--threads", "1", "-p", "8", "-n", "4", "-r", "1"];
    let with: Vec<_> = with.chain(args.map(OsStr::new)).collect();
    let all = Json::parse(ok(&teff(with.iter().chain([&OsStr::new("--json")]))));
    let model = &all.get("models").array()[0];
    assert_eq!(model.get("bench").number("threads"), 1.0);
    for key in ["prefill_tops", "share_of_peak", "share_of_bandwidth"] {
        assert!(model.number(key) > 0.0, "{key}");
    }
    let o = teff(&with);
    for says in ["streams", "f32 GFLOPS", "scalar", "Q4_0", "of the peak", "best bandwidth"] {
        assert!(ok(&o).contains(says), "{says}: {}", out(&o));
    }
}

#[test]
fn roofline_refuses() {
    fails(&teff(["bench", "--roofline", "--size", "0"]), 2, &["--size", "`0`"]);
    fails(&teff(["bench", "--roofline", "--formats", "Q8_0,Q9"]), 2, &["--formats", "Q9", "Q4_0"]);
    fails(&teff(["bench", "--roofline", "--threads", "0"]), 2, &["--threads"]);
    fails(&teff(["bench", "--roofline", "-p", "8"]), 2, &["-p", "model"]);
    fails(&teff(["bench", "--roofline", "--frobnicate"]), 2, &["--frobnicate"]);
    fails(&on(MODEL, "bench", &["--size", "8"]), 2, &["--size", "--roofline"]);
    fails(&on(MODEL, "bench", &["--quick"]), 2, &["--quick", "--roofline"]);
    // 2^44 bytes.
    fails(&teff(["bench", "--roofline", "--size", "16777216"]), 1, &["16.0 TiB", "--size"]);
    fails(&teff(["bench", "--roofline", "nowhere.gguf"]), 1, &["nowhere.gguf"]);
}
