//! What newcomers type, and what they read then: each line says what is wrong and what to do.

#![cfg(feature = "cli")]

use crate::common::command::{Dir, MODEL, err, fails, ok, on, out, piped, teff};
use crate::common::data;

fn model() -> String {
    data(MODEL).to_str().unwrap().into()
}

#[test]
fn a_missing_value_takes_no_option_with_it() {
    for flag in ["-ngl", "--n-gpu-layers", "-b", "--numa"] {
        let o = on(MODEL, "run", &["-p", "Hello", flag, "-n", "2"]);
        fails(&o, 2, &[flag, "needs a value"]);
    }
    let long = on(MODEL, "run", &["-p", "Hello", "-ngl", "--predict=2"]);
    fails(&long, 2, &["-ngl needs a value"]);
    // A negative number is one.
    let o = on(MODEL, "run", &["-p", "Hello", "-ngl", "-1", "-n", "2"]);
    assert!(!ok(&o).is_empty() && err(&o).contains("-ngl has no effect"), "{}", err(&o));
}

#[test]
fn texts_too_many_and_models_too_few() {
    let model = model();
    fails(&on(MODEL, "run", &["Once", "upon"]), 2, &["`upon`", "quotes"]);
    fails(&on(MODEL, "tokenize", &["Once", "upon"]), 2, &["`upon`", "quotes"]);
    fails(&on(MODEL, "detokenize", &["1", "2"]), 2, &["`2`", "1,2,3"]);
    #[cfg(feature = "chat")]
    fails(&on(MODEL, "template", &["m.json"]), 2, &["`m.json`", "--messages"]);
    for command in ["run", "tokenize", "detokenize"] {
        fails(&piped([command, "no-such.gguf"], b""), 2, &["no model `no-such.gguf`"]);
    }
    // Ids in the forms that people have them.
    let want = on(MODEL, "detokenize", &["--ids", "40,41,42"]);
    for ids in ["40 41 42", "[40, 41, 42]", "40,41 42"] {
        assert_eq!(ok(&on(MODEL, "detokenize", &[ids])), ok(&want), "{ids}");
        let o = piped(["detokenize", &model], ids.as_bytes());
        assert_eq!(ok(&o), out(&want), "{ids}");
    }
}

#[test]
fn flags_and_files_of_another_kind() {
    let dir = Dir::new("kinds");
    let logits = dir.file("l.f32").to_str().unwrap().to_owned();
    let o = on(MODEL, "logits", &["--text", "a", "-c", "512", "--out", &logits]);
    assert!(ok(&o).is_empty() && err(&o).contains("-c has no effect"), "{}", err(&o));
    for command in ["tokenize", "detokenize"] {
        let o = on(MODEL, command, &["40", "-t", "2", "-c", "512"]);
        assert!(!ok(&o).is_empty() && err(&o).contains("-t has no effect"), "{}", err(&o));
    }
    fails(&on(MODEL, "logits", &["--text", "a", "--out", "-"]), 2, &["`-`", "name a file"]);
    fails(&on(MODEL, "bench", &["-t", "1,x"]), 2, &["`x`", "commas"]);
    let folder = data("").to_str().unwrap().to_owned();
    for command in ["split", "merge"] {
        fails(&teff([command, &folder, &logits]), 1, &["folder", "teff quantize FOLDER"]);
    }
    let part = dir.file("part").to_str().unwrap().to_owned();
    let o = on(MODEL, "split", &[&part, "--max-tensors", "1", "--dry-run"]);
    assert!(ok(&o).lines().all(|line| line.contains("  1 tensor, ")), "{}", out(&o));
    // Clones of repositories without Git LFS.
    let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n";
    let file = dir.write("pointer.gguf", pointer);
    dir.write("model.safetensors", pointer);
    let clone = dir.0.to_str().unwrap();
    for (path, name) in [(file.as_str(), "pointer.gguf"), (clone, "model.safetensors")] {
        fails(&teff(["run", path, "-p", "a"]), 1, &[name, "`git lfs pull`"]);
        fails(&teff(["quantize", path, &part, "Q8_0"]), 1, &[name, "`git lfs pull`"]);
    }
    // Names that mean a mix there.
    let to = dir.file("q.gguf").to_str().unwrap().to_owned();
    let o = teff(["quantize", &folder, &to, "q4_k"]);
    assert!(ok(&o).contains("Q4_K") && err(&o).contains("is Q4_K_M"), "{}", err(&o));
    let o = teff(["quantize", &folder, &to, "--to", "q4_k"]);
    assert!(!err(&o).contains("llama-quantize"), "{}", err(&o));
    let o = on(MODEL, "run", &["-p", "a", "-c", "4", "--ignore-eos"]);
    assert!(
        ok(&o).len() < 40 && err(&o).contains("the context of 4 tokens is full"),
        "{}",
        err(&o)
    );
}

#[test]
fn commands_of_other_programs() {
    fails(&teff(["hepl"]), 2, &["did you mean `help`? There are: run"]);
    for (command, says) in [
        ("llama-speculative", "--speculate DRAFT"),
        ("llama-mtmd-cli", "no images"),
        ("llama-eval-callback", "teff logits"),
        ("embed", "aren't here yet"),
        ("rpc-server", "one machine"),
        ("signout", "no accounts"),
    ] {
        fails(&teff([command]), 2, &[says]);
    }
}

#[test]
#[cfg(feature = "completions")]
fn shells_complete_values() {
    let script = teff(["completions", "bash"]);
    for value in ["f32 f16 q8\"", " Q4_K_M ", " avx2 ", " IQ4_NL "] {
        assert!(ok(&script).contains(value), "{value}");
    }
    assert!(!ok(&teff(["man", "quantize"])).contains("possible values"));
}
