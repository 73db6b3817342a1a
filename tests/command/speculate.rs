//! `--speculate`: the text is the same with every source of guesses.

#![cfg(feature = "cli")]

use crate::common::command::{fails, ok, on};
use crate::common::{command, data};

const ARGS: [&str; 6] = ["-p", "the cat", "-n", "50", "--ignore-eos", "--stats"];

fn run(how: &[&str]) -> (String, String) {
    let o = on(command::MODEL, "run", &[&ARGS, how].concat());
    (ok(&o).to_owned(), command::err(&o).to_owned())
}

#[test]
fn texts_are_the_same_with_every_source_of_guesses() {
    let draft = data("gpt2-Q4_0.gguf");
    let draft = draft.to_str().unwrap();
    for sampling in [&["--greedy"][..], &["--temp", "0.7", "--seed", "3"]] {
        let with = |how: &str| run(&[sampling, &["--speculate", how]].concat());
        let (want, none) = run(sampling);
        assert!(none.contains("\"guessed_tokens\":0"), "{none}");
        for how in ["off", "ngram", "ngram:1", "ngram:15", draft] {
            assert_eq!(with(how).0, want, "{how}");
        }
    }
    // By the name that llama.cpp has for it.
    for name in ["-md", "--model-draft"] {
        assert_eq!(run(&["--greedy", name, draft]).0, run(&["--greedy"]).0, "{name}");
    }
    let (_, stats) = run(&["--greedy", "--speculate", "ngram:4"]);
    assert!(!stats.contains("\"guessed_tokens\":0"), "{stats}");
}

#[test]
fn files_named_like_a_source_of_guesses_are_not_models() {
    let dir = command::Dir::new("speculate");
    for how in ["off", "ngram"] {
        dir.write(how, b"no model");
        let mut run = command::command(["run", "-p", "the cat", "-n", "5", "--greedy"]);
        run.arg(data(command::MODEL)).args(["--speculate", how]).current_dir(&dir.0);
        ok(&run.output().unwrap());
    }
}

#[test]
fn what_cannot_guess_is_refused() {
    for how in ["ngram:0", "ngram:16", "ngram:x", "no-such-file.gguf", "mtp", ""] {
        let o = on(command::MODEL, "run", &["-p", "a", "--speculate", how]);
        fails(&o, 2, &["--speculate", "ngram:15"]);
    }
    let other = data("../llama/llama-Q2_K.gguf");
    let other = other.to_str().unwrap();
    let o = on(command::MODEL, "run", &["-p", "a", "--speculate", other]);
    fails(&o, 1, &["the model that is to guess", "tokens"]);
    let o = on(command::MODEL, "serve", &["--port", "0", "--speculate", other]);
    fails(&o, 1, &["the model that is to guess", "tokens"]);
}
