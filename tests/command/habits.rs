//! Flags, commands and names of models that people bring along from llama.cpp and ollama: each works
//! where it means the same, and otherwise is answered with what to type here.

#![cfg(feature = "cli")]

use std::process::Output;

use crate::common::command::{Dir, MODEL, err, fails, ok, on, out, piped, teff};
use crate::common::data;

/// Runs `teff run ARGS`; `MODEL` in them stands for the model.
fn run(args: &[&str]) -> Output {
    teff(["run"].iter().chain(args).map(|word| word_or_model(word)))
}

fn word_or_model(word: &str) -> String {
    if word == "MODEL" { model() } else { word.into() }
}

fn model() -> String {
    data(MODEL).to_str().unwrap().into()
}

/// The reference of most tests: a short text, drawn.
const USUAL: [&str; 13] = [
    "MODEL",
    "--prompt",
    "Hello world",
    "--predict",
    "8",
    "--temperature",
    "0.5",
    "--seed",
    "3",
    "--threads",
    "1",
    "--ctx",
    "64",
];

#[test]
fn aliases_mean_the_same() {
    let want = run(&USUAL);
    assert!(!ok(&want).is_empty() && err(&want).is_empty());
    let rest = ["-n", "8", "--temp", "0.5", "-s", "3", "-t", "1", "-c", "64"];
    for begin in [
        &["MODEL", "-p", "Hello world"][..],
        &["-m", "MODEL", "-p", "Hello world"],
        &["--model", "MODEL", "Hello world"],
        &["MODEL", "Hello world"],
        &["-no-cnv", "MODEL", "--jinja", "--no-display-prompt", "Hello world"],
        &["MODEL", "-e", "Hello\\x20world"],
    ] {
        let same = run(&[begin, &rest].concat());
        assert_eq!((ok(&same), err(&same)), (out(&want), ""), "{begin:?}");
    }
    let attached = ["MODEL", "Hello world", "-n8", "--temp=0.5", "-s3", "-t1", "--ctx-size=64"];
    assert_eq!(ok(&run(&attached)), out(&want));
    let longs = ["--n-predict", "8", "--temp", "0.5", "-s", "3", "-t", "1", "-c", "64"];
    assert_eq!(ok(&run(&[&["MODEL", "Hello world"], &longs[..]].concat())), out(&want));
    // The last of an option given twice.
    assert_eq!(ok(&run(&[&USUAL[..], &["-n", "3", "-n", "8"]].concat())), out(&want));
}

#[test]
fn prompts_come_from_files_and_pipes_too() {
    let dir = Dir::new("prompts");
    let rest = ["-n", "8", "--greedy"];
    let want = on(MODEL, "run", &[&["-p", "Hello world"], &rest[..]].concat());
    let file = dir.write("prompt.txt", b"Hello world\n");
    for begin in [&["-f", &file][..], &["--file", &file]] {
        assert_eq!(ok(&on(MODEL, "run", &[begin, &rest].concat())), ok(&want), "{begin:?}");
    }
    for begin in [&[][..], &["-"], &["-f", "-"]] {
        let model = model();
        let args = [&["run", &model][..], begin, &rest].concat();
        for text in ["Hello world", "Hello world\n", "Hello world\r\n"] {
            assert_eq!(ok(&piped(&args, text.as_bytes())), ok(&want), "{begin:?}");
        }
    }
    // Only one line break at the end is the pipe's; and a pipe beside a prompt isn't read.
    let two = piped(["run", &model(), "-n", "8", "--greedy"], b"Hello world\n\n");
    assert_ne!(ok(&two), ok(&want));
    let beside = piped(["run", &model(), "Hello world", "-n", "8", "--greedy"], b"never read");
    assert_eq!(ok(&beside), ok(&want));

    fails(&run(&["MODEL", "-p", "a", "-f", "b"]), 2, &["-p", "-f", "leave one"]);
    fails(&run(&["MODEL", "b", "--prompt", "a"]), 2, &["--prompt", "`b`"]);
    fails(&run(&["MODEL", "-f", "nowhere.txt"]), 1, &["nowhere.txt"]);
    fails(&piped(["run", &model(), "-"], b"ab\xff"), 1, &["standard input", "byte 2", "UTF-8"]);
    fails(&piped(["run", &model()], b""), 2, &["-p", "-f", "pipe"]);
}

#[test]
fn a_text_goes_on_until_it_ends() {
    let o = run(&["MODEL", "-p", "Hello", "-n", "-1", "--ctx", "16", "--greedy"]);
    assert!(err(&o).contains("context of 16"), "{}", err(&o));
    // The whole context of the model.
    let o = run(&["MODEL", "-p", "Hello", "-n", "-1", "-c", "0", "--greedy", "--ignore-eos"]);
    assert!(err(&o).contains("context of 96"), "{}", err(&o));
    fails(&run(&["MODEL", "-p", "Hello", "-n", "-2"]), 2, &["-n", "`-2`", "-1 for no limit"]);
    fails(&run(&["MODEL", "-p", "Hello", "--predict", "x"]), 2, &["--predict is `x`"]);
}

#[test]
fn texts_end_before_stop_strings() {
    let usual = ["MODEL", "-p", "Hello", "-n", "24", "--greedy"];
    let all = run(&usual);
    let all = ok(&all);
    // A string in the middle, and one that never comes.
    let chars: Vec<char> = all.chars().collect();
    let stop: String = chars[chars.len() / 2..chars.len() / 2 + 3].iter().collect();
    let want = &all[..all.find(&stop).unwrap()];
    for flag in ["-r", "--stop", "--reverse-prompt"] {
        let o = run(&[&usual[..], &[flag, "never there", flag, &stop]].concat());
        assert_eq!((ok(&o), err(&o)), (want, ""));
    }
    let o = run(&[&usual[..], &["-r", "never there"]].concat());
    assert_eq!(ok(&o), all);
    let o = run(&[&usual[..], &["-r", &stop, "--stats"]].concat());
    assert!(err(&o).contains("\"finish\":\"stop_string\""), "{}", err(&o));
    fails(&run(&[&usual[..], &["-r", ""]].concat()), 2, &["-r", "at least one character"]);
}

#[test]
fn penalties_keep_tokens_from_coming_again() {
    let usual = ["MODEL", "-p", "Hello", "-n", "24", "--greedy", "--ignore-eos"];
    let text = |more: &[&str]| ok(&run(&[&usual[..], more].concat())).to_owned();
    let plain = text(&[]);
    for flag in ["--presence-penalty", "--frequency-penalty"] {
        let all = text(&[flag, "1000", "--repeat-last-n", "-1"]);
        assert_ne!(all, plain, "{flag}");
        assert_eq!(text(&[flag, "1000", "--repeat-last-n", "5000"]), all);
        for off in [[flag, "1000", "--repeat-last-n", "0"], [flag, "0", "--repeat-last-n", "-1"]] {
            assert_eq!(text(&off), plain, "{off:?}");
        }
        // A reward for the last token makes it come again and again.
        assert_eq!(text(&[flag, "-1000", "--repeat-last-n", "1"]), "o".repeat(24));
    }
}

#[test]
fn flags_without_an_effect_give_a_warning() {
    let want = run(&USUAL);
    for flags in [
        &["-ngl", "99"][..],
        &["--n-gpu-layers", "99"],
        &["--gpu-layers=99"],
        &["-ngl=99"],
        &["-fa"],
        &["-fa", "on"],
        &["--flash-attn=auto"],
        &["-b", "512"],
        &["-ub", "512"],
        &["-tb", "4"],
        &["--mlock"],
        &["--numa", "distribute"],
        &["--keep", "-1"],
        &["-v"],
        &["-fit", "off"],
        &["--swa-full"],
        &["--check-tensors"],
        &["--prompt-cache-all"],
        &["--no-host"],
        &["-ngld", "99"],
        &["--draft-max", "8"],
        &["-cd", "512"],
    ] {
        // Before the model too, which none of them takes as its value.
        for args in [[&USUAL[..], flags].concat(), [flags, &USUAL].concat()] {
            let o = run(&args);
            assert_eq!(ok(&o), out(&want), "{flags:?}");
            let flag = flags[0].split('=').next().unwrap();
            let says = format!("teff: warning: {flag} has no effect: ");
            assert!(err(&o).starts_with(&says) && err(&o).lines().count() == 1, "{}", err(&o));
        }
    }
    let o = run(&[&USUAL[..], &["-ngl", "99"]].concat());
    assert!(err(&o).contains("CPU"), "{}", err(&o));
    ok(&on(MODEL, "bench", &["-p", "4", "-n", "2", "-r", "1", "-ngl", "0", "-fa", "1"]));
    ok(&on(MODEL, "inspect", &["--serve", "-md", &model(), "--draft-max", "8", "-ngld", "0"]));
    // As the value of an option it is a text.
    let as_text = on(MODEL, "run", &["-p", "-ngl", "-n", "4", "--greedy"]);
    let piped = piped(["run", &model(), "-n", "4", "--greedy"], b"-ngl");
    assert_eq!((ok(&as_text), err(&as_text)), (ok(&piped), ""));
    let behind = on(MODEL, "run", &["-n", "4", "--greedy", "--", "-ngl"]);
    assert_eq!(ok(&behind), ok(&piped));
    // A mapped file or one that is read: the same.
    assert_eq!(ok(&run(&[&USUAL[..], &["--no-mmap"]].concat())), out(&want));
}

#[test]
fn other_flags_say_what_to_type() {
    for (args, says) in [
        (&["-hf", "Owner/Repo"][..], &["-hf", "hf download"][..]),
        (&["--hf-repo", "Owner/Repo"], &["--hf-repo", "does not download"]),
        (&["-mu", "https://example.org/m.gguf"], &["-mu", "curl"]),
        (&["-cnv"], &["-cnv", "teff chat"]),
        (&["-i"], &["-i", "teff chat"]),
        (&["-sys", "Be brief."], &["-sys", "teff chat MODEL --system"]),
        (&["--chat-template", "chatml"], &["--chat-template", "teff chat"]),
        (&["-ctk", "q8_0"], &["-ctk", "--kv"]),
        (&["--mirostat", "2"], &["--mirostat", "--min-p"]),
        (&["--format", "json"], &["--format", "--json-schema"]),
        (&["--lora", "x.gguf"], &["--lora", "merge"]),
        (&["--rope-freq-base", "10000"], &["--rope-freq-base", "teff inspect"]),
        (&["-s", "-1"], &["-s is `-1`", "$RANDOM"]),
        (&["-hft", "x"], &["-hft", "hf download"]),
        (&["--top-n-sigma", "1"], &["--top-n-sigma", "--min-p"]),
        (&["--dry-base", "1.75"], &["--dry-base", "--repeat-penalty"]),
        (&["-hfd", "x"], &["-hfd", "hf download"]),
        (&["--yarn-ext-factor", "1"], &["--yarn-ext-factor", "teff inspect"]),
        (&["--mmproj-url", "x"], &["--mmproj-url", "text only"]),
        (&["-bf", "x"], &["-bf", "-f FILE"]),
        (&["--think"], &["--think", "teff chat"]),
    ] {
        fails(&run(&[&["MODEL", "-p", "a"], args].concat()), 2, says);
    }
    for flag in
        [&["-rea", "off"][..], &["--reasoning-budget", "0"], &["--think"], &["--hidethinking"]]
    {
        if cfg!(feature = "chat") {
            let o = on(MODEL, "chat", &[&["-p", "a"], flag].concat());
            fails(&o, 2, &[flag[0], "--kwargs", "enable_thinking"]);
        }
    }
    for (args, says) in [
        (&["--in-file", "x"][..], &["--in-file", "in one file"][..]),
        (&["--output-format", "dat"], &["--output-format", "GGUF"]),
        (&["--show-statistics"], &["--show-statistics", "leave it out"]),
        (&["-p", "a"], &["-p", "-f FILE"]),
    ] {
        fails(&on(MODEL, "imatrix", args), 2, says);
    }
    for sub in ["inspect", "logits", "tokenize", "bench", "quantize", "imatrix", "trace"] {
        fails(&on(MODEL, sub, &["-hf", "Owner/Repo"]), 2, &["-hf", "hf download"]);
    }
    fails(&on(MODEL, "bench", &["-o", "json"]), 2, &["-o", "--json"]);
}

#[test]
fn unknown_options_name_the_nearest() {
    for (flag, near) in [
        ("--temprature", "--temperature"),
        ("--tempp", "--temp"),
        ("--thread", "--threads"),
        ("--modle", "--model"),
        ("--ngl", "-ngl"),
        ("--gpu", "--gpu-layers"),
        ("-temp", "--temp"),
        ("-seed", "--seed"),
    ] {
        fails(&run(&["MODEL", "-p", "a", flag, "1"]), 2, &[flag, &format!("did you mean {near}?")]);
    }
    fails(&on(MODEL, "inspect", &["--jsn"]), 2, &["--jsn", "did you mean --json?"]);
    for flag in ["-z", "--frobnicate", "--shelf"] {
        let o = run(&["MODEL", "-p", "a", flag]);
        fails(&o, 2, &[&format!("unknown option {flag} (see")]);
    }
    fails(&run(&["MODEL", "-p", "a", "--greedy=yes"]), 2, &["--greedy", "`yes`"]);
    fails(&run(&["MODEL", "-p"]), 2, &["-p needs a value"]);
    fails(&run(&["MODEL", "a", "-ngl"]), 2, &["-ngl needs a value"]);
}

#[test]
fn unknown_commands_say_what_to_use() {
    for (name, says) in [
        ("inspct", "did you mean `inspect`?"),
        ("tokenise", "did you mean `tokenize`?"),
        ("llama-bench", "`teff bench`"),
        ("llama-cli", "teff run"),
        ("generate", "teff run"),
        ("pull", "hf download"),
        ("list", "teff inspect"),
        ("ps", "no model stays loaded"),
        ("show", "teff inspect"),
        ("server", "`teff serve MODEL`"),
        ("perplexity", "teff logits"),
        ("embedding", "embeddings"),
        ("convert_hf_to_gguf.py", "teff quantize"),
        ("llama-gguf-split", "`teff merge PART.gguf OUT.gguf`"),
        ("model.gguf", "teff run model.gguf -p TEXT"),
    ] {
        fails(&teff([name]), 2, &[name, says]);
        fails(&teff(["help", name]), 2, &[name, says]);
    }
    fails(&teff(["-m", "x.gguf"]), 2, &["-m", "must follow a command", "`teff run -m`"]);
}

#[test]
fn models_elsewhere_are_not_downloaded() {
    for (name, says) in [
        ("hf:Owner/Repo:Q4_K_M", "hf download Owner/Repo --include '*Q4_K_M*.gguf'"),
        ("Owner/Repo", "hf download Owner/Repo --local-dir Repo"),
        ("https://example.org/m.gguf", "curl -L -o m.gguf https://example.org/m.gguf"),
        ("llama3.2:1b", "ollama show llama3.2:1b --modelfile"),
    ] {
        for sub in ["run", "inspect", "bench"] {
            fails(&teff([sub, "-m", name]), 1, &[name, says]);
        }
        fails(&teff(["run", name, "-p", "a"]), 1, &[name, "does not download", says]);
        fails(&teff(["quantize", name, "out.gguf", "Q8_0"]), 1, &[name, says]);
    }
    fails(&teff(["run", "Once upon a time"]), 1, &["Once upon", "-p"]);
    fails(&teff(["run", "gpt-2", "-p", "a"]), 1, &["gpt-2", "Hugging Face folder"]);
    fails(&teff(["run", "tests/nowhere"]), 2, &["-p TEXT", "no model `tests/nowhere`"]);
    // A path that is wrong is the system's to explain.
    fails(&teff(["run", "tests/nowhere", "-p", "a"]), 1, &["tests/nowhere", "os error"]);
}

#[test]
fn help_and_version_as_commands() {
    let version = concat!("teff ", env!("CARGO_PKG_VERSION"), "\n");
    for args in [["version"], ["--version"], ["-V"]] {
        assert_eq!(ok(&teff(args)), version);
    }
    assert_eq!(ok(&teff(["help"])), ok(&teff(["--help"])));
    for same in [&["help", "help"][..], &["help", "version"], &["help", "--all"], &["-h"]] {
        assert_eq!(ok(&teff(same)), ok(&teff(["help"])), "{same:?}");
    }
    let all = ["run", "inspect", "logits", "tokenize", "detokenize", "bench", "quantize"];
    let all = all.into_iter().chain(["imatrix", "split", "merge", "trace"]);
    let chat = cfg!(feature = "chat").then_some("chat");
    let serve = cfg!(feature = "serve").then_some("serve");
    for c in all.chain(chat).chain(serve) {
        assert!(ok(&teff(["help"])).contains(&format!("\n  {c} ")), "{c}");
        let help = teff(["help", c]);
        assert_eq!(ok(&help), ok(&teff([c, "-h"])));
        if let Some((_, flags)) = out(&help).split_once("Flags of llama.cpp") {
            let mut flags: Vec<_> =
                flags.split_whitespace().filter(|f| f.starts_with('-')).collect();
            let all = flags.len();
            flags.sort_unstable();
            flags.dedup();
            assert_eq!(flags.len(), all, "{c}: a flag twice");
        }
        assert!(out(&help).lines().all(|l| l.chars().count() <= 100), "{}", out(&help));
        // Help comes first, whatever else is wrong.
        assert_eq!(ok(&teff([c, "--help", "--frobnicate"])), out(&help));
    }
    let help = teff(["help", "run"]);
    for alias in [
        "-m, --model",
        "-f, --file",
        "-t, --threads",
        "-c, --ctx",
        "--temp]",
        "-s, --seed",
        "-r, --stop",
        "-n, --predict",
        "--ctx-size]",
        "-ngl",
        "-no-cnv",
        "-hf",
    ] {
        assert!(ok(&help).contains(alias), "{alias}: {}", out(&help));
    }
}

#[test]
#[cfg(feature = "completions")]
fn completions_and_manual_pages() {
    for (shell, says) in [
        ("bash", "complete -F _teff"),
        ("zsh", "#compdef teff"),
        ("fish", "complete -c teff"),
        ("powershell", "Register-ArgumentCompleter"),
        ("elvish", "edit:completion"),
    ] {
        let o = teff(["completions", shell]);
        for part in [says, "--temperature", "quantize", "inspect"] {
            assert!(ok(&o).contains(part), "{shell}: {part}");
        }
        assert!(!out(&o).contains("--n-gpu-layers"), "{shell}");
    }
    fails(&teff(["completions"]), 2, &["bash", "fish"]);
    fails(&teff(["completions", "tcsh"]), 2, &["`tcsh`", "bash"]);
    let page = teff(["man"]);
    assert!(ok(&page).contains(".TH teff 1") && out(&page).contains("quantize"), "{}", out(&page));
    let page = teff(["man", "run"]);
    for part in [".TH teff-run 1", "temperature", "\\-\\-stop"] {
        assert!(ok(&page).contains(part), "{part}: {}", out(&page));
    }
    fails(&teff(["man", "inspct"]), 2, &["did you mean `inspect`?"]);
}

#[test]
#[cfg(feature = "story")]
fn without_a_model_there_is_a_story() {
    let o = teff(["run", "-n", "6", "-t", "2"]);
    assert!(ok(&o).starts_with("Once upon a time"), "{}", out(&o));
    assert_eq!(err(&o).lines().count(), 1);
    assert!(err(&o).contains("story model") && err(&o).contains("teff run MODEL.gguf -p TEXT"));
    // A text that was given isn't written again.
    let given = teff(["run", "-p", "Once upon a time", "-n", "6", "-t", "2"]);
    assert_eq!(ok(&given), &out(&o)["Once upon a time".len()..]);
    for args in [&["run", "-n", "6"][..], &["run", "-", "-n", "6"]] {
        assert_eq!(ok(&piped(args, b"Once upon a time\n")), out(&given));
    }
    let o = teff(["run", "-n", "2", "--stats"]);
    assert!(ok(&o).starts_with("Once") && err(&o).starts_with('{'), "{}", err(&o));
    fails(&teff(["run", "-p", "a", "--top-p", "7"]), 2, &["--top-p"]);
    fails(&teff(["run", "-p", "a", "--ctx", "100000"]), 1, &["--ctx", "384"]);
}

#[test]
fn tokens_by_a_pipe() {
    let model = model();
    let want = on(MODEL, "tokenize", &["--text", "Hello world"]);
    for (args, input) in [
        (&[][..], "Hello world"),
        (&["-"], "Hello world"),
        (&["-f", "-"], "Hello world"),
        (&["Hello world"], ""),
        (&["-p", "Hello world"], ""),
        (&["--ids", "--stdin", "--no-bos", "--no-parse-special"], "Hello world"),
    ] {
        let o = piped([&["tokenize", &model], args].concat(), input.as_bytes());
        assert_eq!(ok(&o), ok(&want), "{args:?}");
    }
    // Nothing is dropped; and nothing is a text, if it was asked for.
    assert_ne!(ok(&piped(["tokenize", &model], b"Hello world\n")), ok(&want));
    assert_eq!(ok(&piped(["tokenize", &model, "-"], b"")), "[]\n");
    for args in [&["detokenize", &model][..], &["detokenize", "-m", &model, "-"]] {
        assert_eq!(ok(&piped(args, &want.stdout)), "Hello world", "{args:?}");
    }
    let ids = ok(&want).trim_end();
    assert_eq!(ok(&teff(["detokenize", &model, ids])), "Hello world");
    fails(&piped(["detokenize", &model], b"1,x"), 2, &["standard input", "`x`"]);
}

#[test]
fn logits_of_a_text() {
    let (dir, model) = (Dir::new("logits-text"), model());
    let text = "Hello world";
    let ids = on(MODEL, "tokenize", &["--text", text]);
    let ids = ok(&ids).trim().trim_matches(['[', ']']).to_owned();
    let out = dir.file("l.f32").to_str().unwrap().to_owned();
    let file = dir.write("t.txt", text.as_bytes());
    let logits = |args: &[&str], input: &[u8]| {
        ok(&piped([&["logits", &model], args, &["--out", &out]].concat(), input));
        std::fs::read(&out).unwrap()
    };
    let want = logits(&["--tokens", &ids], b"");
    assert_eq!(want.len(), 4 * 311 * ids.split(',').count());
    assert!(logits(&["--text", text], b"") == want);
    assert!(logits(&["--file", &file], b"") == want);
    assert!(logits(&["-f", "-"], text.as_bytes()) == want);
    let both = ["--text", "a", "--tokens", "1", "--out", &out];
    fails(&on(MODEL, "logits", &both), 2, &["--text", "--tokens"]);
    fails(&on(MODEL, "logits", &["--text", "", "-o", &out]), 1, &["empty"]);
}

#[test]
fn quantize_takes_llama_quantize_s_arguments() {
    let dir = Dir::new("quantize-words");
    let (a, b) = (dir.file("a.gguf"), dir.file("b.gguf"));
    let (a, b) = (a.to_str().unwrap(), b.to_str().unwrap());
    let input = "gpt2-f32.gguf";
    ok(&on(input, "quantize", &[a, "--to", "Q4_0", "--threads", "1"]));
    ok(&on(input, "quantize", &[b, "q4_0", "1"]));
    assert!(std::fs::read(a).unwrap() == std::fs::read(b).unwrap());
    fails(&on(input, "quantize", &[a, "Q4_0", "--to", "Q8_0"]), 2, &["Q4_0"]);
    fails(&on(input, "quantize", &["Q4_0"]), 2, &["quantize IN OUT FORMAT"]);
    fails(&on(input, "quantize", &[a, "Q9"]), 2, &["`Q9`", "Q4_K_M"]);
    fails(&on(input, "quantize", &[a, "Q8_0", "0"]), 2, &["THREADS", "`0`"]);
    fails(
        &on(input, "quantize", &[a, "Q8_0", "--imatrix", "no-such-file"]),
        1,
        &["no-such-file", "can't be read"],
    );
}

#[test]
fn split_and_merge_as_llama_gguf_split_does() {
    let dir = Dir::new("split");
    let path = |name: &str| dir.file(name).to_str().unwrap().to_owned();
    let (model, whole, name) = (model(), std::fs::read(data(MODEL)).unwrap(), path("m.gguf"));
    let read = |name: &str| std::fs::read(dir.file(name)).unwrap();
    let names = |o: &Output| -> Vec<String> {
        let path = |line: &str| line.split("  ").next().unwrap().to_owned();
        ok(o).lines().map(path).collect()
    };
    let dry = teff(["split", &model, &name, "--max-tensors", "16", "--dry-run"]);
    let parts = names(&dry);
    assert_eq!(parts, [1, 2, 3].map(|i| path(&format!("m-0000{i}-of-00003.gguf"))));
    assert!(!dir.file("m-00001-of-00003.gguf").exists());
    let wrote = teff(["split", "--split", "--split-max-tensors", "16", &model, &name]);
    assert_eq!((ok(&wrote), err(&wrote)), (ok(&dry), ""));
    // Any part is the model, for merging, quantising and everything else.
    let text = ["-p", "Hello", "-n", "6", "--greedy"];
    let want = on(MODEL, "run", &text);
    let quantized = on(MODEL, "quantize", &[&path("q.gguf"), "F32", "--allow-requantize"]);
    ok(&quantized);
    for (i, part) in parts.iter().enumerate() {
        let (out, again) = (path(&format!("{i}.gguf")), path("again.gguf"));
        let merged = teff(["merge", part, &out]);
        assert!(ok(&merged).starts_with("3 parts, ") && ok(&merged).contains(&out), "{i}");
        assert!(read(&format!("{i}.gguf")) == whole);
        assert_eq!(ok(&teff([&["run", part][..], &text].concat())), ok(&want));
        ok(&teff(["quantize", part, &again, "F32", "--allow-requantize"]));
        assert!(read("again.gguf") == read("q.gguf"));
    }
    // By size, with units; and anew from parts.
    for (size, more) in [("40k", 3), ("1MiB", 0), ("100000", 1)] {
        let o = teff(["split", &parts[1], &path("s"), "--max-size", size, "--dry-run"]);
        assert!(names(&o).len() > more, "{size}: {}", out(&o));
    }
    assert_eq!(names(&teff(["split", &model, &path("one")])).len(), 1);
    // What is there stays, unless --force is given.
    std::fs::write(&parts[2], b"mine").unwrap();
    fails(&teff(["split", &model, &name, "--max-tensors", "16"]), 1, &[&parts[0], "--force"]);
    assert_eq!(std::fs::read(&parts[2]).unwrap(), b"mine");
    ok(&teff(["split", &model, &name, "--max-tensors", "16", "--force"]));
    let out = path("0.gguf");
    std::fs::write(&out, b"mine").unwrap();
    fails(&teff(["merge", &parts[0], &out]), 1, &[&out, "--force"]);
    assert_eq!(read("0.gguf"), b"mine");
    ok(&teff(["merge", "--merge", &parts[0], &out, "--force"]));
    assert!(read("0.gguf") == whole);
    // Never onto a part, and not of parts that don't belong together.
    fails(&teff(["merge", &parts[0], &parts[1], "--force"]), 1, &[&parts[1], "the model itself"]);
    let second = std::fs::read(&parts[1]).unwrap();
    std::fs::remove_file(&parts[1]).unwrap();
    let new = path("new.gguf");
    fails(&teff(["merge", &parts[0], &new]), 1, &[&parts[1], "part 2 of 3", "missing"]);
    std::fs::copy(&parts[2], &parts[1]).unwrap();
    fails(&teff(["merge", &parts[0], &new]), 1, &[&parts[1], "renamed"]);
    let renamed = dir.write("other.gguf", &second);
    fails(&teff(["merge", &renamed, &new]), 1, &["other.gguf", "m"]);
    assert!(!dir.file("new.gguf").exists());

    fails(&teff(["merge", &parts[0]]), 2, &["teff merge PART.gguf OUT.gguf"]);
    fails(&teff(["merge", &parts[0], &new, "x"]), 2, &["`x`", "others are found"]);
    fails(&teff(["split", &model]), 2, &["teff split IN.gguf NAME"]);
    fails(&teff(["split", &model, &name, "--merge"]), 2, &["--merge", "teff merge"]);
    fails(&teff(["merge", "Owner/Repo", &new]), 1, &["hf download"]);
    for size in ["0", "2X", "-1"] {
        fails(&teff(["split", &model, &name, "--max-size", size]), 2, &["--max-size", size, "2G"]);
    }
    fails(&teff(["split", &model, &name, "--max-tensors", "0"]), 2, &["--max-tensors", "`0`"]);
    let both = ["split", &model, &name, "--max-size", "2G", "--split-max-tensors", "8"];
    fails(&teff(both), 2, &["--max-size", "--split-max-tensors"]);
    fails(&on(MODEL, "quantize", &[&new, "Q4_0", "--keep-split"]), 2, &["teff split"]);
}

#[test]
fn bench_counts_threads_by_t() {
    let args = ["-p", "4", "-n", "2", "-r", "1", "-t", "1,2", "--json"];
    let o = on(MODEL, "bench", &args);
    assert!(ok(&o).contains("\"threads\":1,") && out(&o).contains("\"threads\":2,"), "{}", out(&o));
    // llama-bench's flags take 0 or 1.
    let zeros =
        ["-p", "4", "-n", "0", "-r", "1", "-t", "1", "-nkvo", "0", "-nopo", "1", "-fa", "0"];
    let o = on(MODEL, "bench", &zeros);
    ok(&o);
    assert_eq!(err(&o).matches("has no effect").count(), 3, "{}", err(&o));
    let longs = ["--n-prompt", "4", "--n-gen", "2", "--repetitions", "1", "-t", "0"];
    fails(&on(MODEL, "bench", &longs), 2, &["-t is `0`"]);
    fails(&on(MODEL, "bench", &["-p", "8", "--frob"]), 2, &["--frob"]);
}

#[test]
#[cfg(feature = "chat")]
fn chat_reads_pipes_and_takes_the_same_flags() {
    let (dir, model) = (Dir::new("chat"), model());
    let source = b"{% for m in messages %}{{ m['role'] }}: {{ m['content'] }} {% endfor %}";
    let template = dir.write("t.jinja", source);
    let chat = |args: &[&str], input: &str| {
        let usual = ["-n", "6", "--greedy", "--chat-template", &template];
        let o = piped([&["chat"], args, &usual].concat(), input.as_bytes());
        ok(&o);
        assert!(err(&o).starts_with("teff: "), "{}", err(&o));
        o.stdout
    };
    let want = chat(&[&model], "hi\nwhy\n");
    assert!(!want.is_empty());
    let first = dir.write("first.txt", b"hi\n");
    for (args, input) in [
        (&["-m", &model, "-cnv"][..], "hi\nwhy\n"),
        (&[&model, "-"], "hi\nwhy"),
        (&[&model, "hi"], "why\n"),
        (&[&model, "-f", &first, "-i"], "why\n"),
        (&[&model, "-p", "hi", "--jinja"], "why\r\n"),
    ] {
        assert!(chat(args, input) == want, "{args:?}");
    }
    let one = chat(&[&model, "-p", "hi", "-st", "-sys", "be"], "");
    assert!(one == chat(&[&model, "--system", "be", "--single-turn"], "hi\n"));
    // An answer ends before a stop string, and the conversation goes on.
    let one = chat(&[&model, "-p", "hi", "-st"], "");
    let one = String::from_utf8(one).unwrap();
    let stop: String = one.chars().skip(2).take(2).collect();
    let cut = format!("{}\n", &one[..one.find(&stop).unwrap()]);
    let o = chat(&[&model, "-r", &stop], "hi\n/clear\nhi\n");
    assert_eq!(String::from_utf8(o).unwrap(), cut.repeat(2));
    fails(&teff(["chat"]), 2, &["no model"]);
    fails(&teff(["chat", &model, "-no-cnv"]), 2, &["-no-cnv", "teff run"]);
    fails(&teff(["chat", &model, "-hf", "a/b"]), 2, &["-hf", "hf download"]);
    fails(&teff(["chat", "Owner/Repo"]), 1, &["Owner/Repo", "hf download"]);
}
