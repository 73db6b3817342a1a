//! `teff trace`: its tree, its files, and its errors.

#![cfg(feature = "cli")]

use std::fs;
use std::path::Path;
use std::process::Output;

use crate::cli::Json;
use crate::common::command::{Dir, MODEL, fails, ok, on, teff};

/// Options for measurements of nearly no time.
const QUICK: [&str; 3] = ["--quick", "--size", "1"];

fn trace(args: &[&str]) -> Output {
    on(MODEL, "trace", &[&QUICK, args].concat())
}

/// Runs it on another model of the repository.
fn trace_of(model: &str, args: &[&str]) -> Output {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(model);
    let path = path.to_str().unwrap();
    teff(["trace", path].iter().chain(&QUICK).chain(args))
}

/// Lines of the first tree, without their figures.
fn names(text: &str) -> Vec<String> {
    let tree = text.lines().skip_while(|l| !l.starts_with("total")).take_while(|l| !l.is_empty());
    // A name ends before its milliseconds.
    let name = |line: &str| {
        let milliseconds = |word: &&str| word.contains('.') && word.parse::<f64>().is_ok();
        let first = line.split_whitespace().find(milliseconds).and_then(|word| line.find(word));
        line[..first.expect("milliseconds")].trim_end().to_owned()
    };
    tree.map(name).collect()
}

#[test]
fn the_tree_names_the_weights() {
    let o = trace(&["-p", "12", "-n", "3", "--threads", "1"]);
    let text = ok(&o);
    assert!(text.contains("\nlimits: ") && text.contains(" GB/s from memory"), "{text}");
    assert!(text.contains("\nprefill: 12 tokens in 1 step, "), "{text}");
    assert!(text.contains("\ndecode: 3 tokens in 3 steps, "), "{text}");
    let names = names(text);
    for name in [
        "total",
        "  embedding",
        "    Embed token_embd, position_embd",
        "    Norm attn_norm",
        "    Project attn_qkv",
        "    Attend",
        "    Linear attn_output",
        "    Linear ffn_up",
        "    Linear ffn_down",
        "  head",
        "    Norm output_norm",
        "    Linear token_embd",
        "  waiting at barriers",
        "  outside of operations",
    ] {
        assert_eq!(names.iter().filter(|n| *n == name).count(), 1, "{name:?} in {names:#?}");
    }
    assert!(names.iter().any(|n| n.ends_with(" layers")), "{names:?}");
    assert!(!names.iter().any(|n| n.contains("Barrier")), "{names:?}");
    // Each column has its place.
    let widths: Vec<_> =
        text.lines().skip_while(|l| !l.contains("roofline")).map(str::len).collect();
    assert!(widths[..10].iter().all(|w| *w == widths[0]), "{text}");
}

#[test]
fn each_layer_for_itself() {
    let o = trace(&["-p", "0", "-n", "2", "--threads", "2", "--oversubscribe", "--layers"]);
    let text = ok(&o);
    assert!(!text.contains("prefill:"), "{text}");
    let names = names(text);
    for name in ["  layer 0", "  layer 1"] {
        assert!(names.iter().any(|n| n == name), "{names:?}");
    }
    let downs = names.iter().filter(|n| *n == "    Linear ffn_down").count();
    assert_eq!(downs, names.iter().filter(|n| n.starts_with("  layer ")).count());
    let o = trace(&["-p", "5", "-n", "0"]);
    assert!(!ok(&o).contains("decode:") && ok(&o).contains("prefill: 5 tokens"));
}

/// Sums of a node's children, which are its own figures.
fn check(node: &Json) {
    let (bytes, operations) = (node.number("bytes"), node.number("operations"));
    let children = node.get("children").array();
    if !children.is_empty() {
        let sum = |key: &str| children.iter().map(|c| c.number(key)).sum::<f64>();
        assert!((sum("bytes") - bytes).abs() <= children.len() as f64, "{node:?}");
        assert!((sum("operations") - operations).abs() <= operations * 1e-9, "{node:?}");
    }
    for key in ["ms", "share"] {
        assert!(node.number(key) >= 0.0, "{node:?}");
    }
    children.iter().for_each(check);
}

fn child<'j>(node: &'j Json, name: &str) -> &'j Json {
    let mut with = node.get("children").array().iter().filter(|c| c.str("name").contains(name));
    with.next().unwrap_or_else(|| panic!("no {name} in {node:?}"))
}

#[test]
fn json_has_bytes_and_operations() {
    let o = trace(&["-p", "10", "-n", "4", "--threads", "1", "--repack", "off", "--json"]);
    let json = Json::parse(ok(&o));
    assert_eq!((json.str("architecture"), json.number("threads")), ("gpt2", 1.0));
    assert!(json.get("limits").number("gb_per_s") > 0.0);
    let stages = json.get("stages").array();
    assert_eq!(stages.len(), 2);
    let inspect = on(MODEL, "inspect", &["--stats", "--json"]);
    let tensors = Json::parse(ok(&inspect));
    let tensors = tensors.get("stats").array();
    // Bytes, and products of a token, of all tensors whose names have this part.
    let sums = |part: &str| -> (f64, f64) {
        let all = tensors.iter().filter(|t| t.str("name").contains(part));
        all.fold((0.0, 0.0), |(bytes, products), t| {
            let [Json::Number(rows), Json::Number(cols)] = t.get("shape").array() else {
                panic!("{t:?}")
            };
            let products = if *rows > 1.0 { products + 2.0 * rows * cols } else { products };
            (bytes + t.number("bytes"), products)
        })
    };
    for (stage, name, tokens, steps) in
        [(&stages[0], "prefill", 10.0, 1.0), (&stages[1], "decode", 4.0, 4.0)]
    {
        assert_eq!((stage.str("name"), stage.number("tokens")), (name, tokens));
        assert_eq!(stage.number("steps"), steps);
        let tree = stage.get("tree");
        check(tree);
        let layers = child(tree, " layers");
        for part in ["ffn_up", "ffn_down", "attn_qkv", "attn_output"] {
            let (bytes, products) = sums(part);
            let node = child(layers, part);
            // Each matrix is read once in every step, and multiplied with every token, but in the last
            // of three layers only those for queries, keys and values.
            let last = if part == "attn_qkv" { tokens } else { steps };
            assert_eq!(node.number("bytes"), bytes * steps, "{part}");
            let all = products / 3.0 * (2.0 * tokens + last);
            assert_eq!(node.number("operations"), all, "{part}");
            assert_eq!(node.get("bytes_at_most"), &Json::Bool(false));
        }
        // The head is the embedding, and computes the last token's logits.
        let (bytes, products) = sums("token_embd");
        let head = child(child(tree, "head"), "Linear token_embd");
        assert_eq!(head.number("bytes"), bytes * steps);
        assert_eq!(head.number("operations"), products * steps);
        assert_eq!(child(layers, "Attend").get("gops"), &Json::Null);
    }
}

/// Steps of at most 512 tokens, of which only the last has logits; experts are counted by token.
#[test]
fn experts_and_several_steps() {
    let o = trace_of(
        "qwen3moe/qwen3moe-Q4_K_M.gguf",
        &["-p", "20", "-n", "1", "--threads", "1", "--json"],
    );
    let json = Json::parse(ok(&o));
    let stages = json.get("stages").array();
    let experts = |stage: &Json| {
        let layers = child(stage.get("tree"), "layer").get("children").array();
        let all = layers.iter().filter(|n| n.str("name").contains("_exps"));
        let all: Vec<_> =
            all.map(|n| (n.number("bytes"), n.get("bytes_at_most").clone())).collect();
        assert!(!all.is_empty());
        all
    };
    for ((most, at_most), (one, exact)) in experts(&stages[0]).into_iter().zip(experts(&stages[1]))
    {
        assert_eq!((at_most, exact), (Json::Bool(true), Json::Bool(false)));
        assert!(most > one && most <= 20.0 * one, "{most} {one}");
    }
    let text = trace_of("qwen3moe/qwen3moe-Q4_K_M.gguf", &["-p", "20", "-n", "0"]);
    assert!(ok(&text).contains("<= "));
}

/// Checks that tags are closed in order, and that text has no others.
fn well_formed(xml: &str) {
    let mut open: Vec<&str> = Vec::new();
    let mut rest = xml;
    while let Some(at) = rest.find('<') {
        assert!(!rest[..at].contains('>'), "{}", &rest[..at]);
        let end = at + rest[at..].find('>').expect("a tag that ends");
        let tag = &rest[at + 1..end];
        assert_eq!(tag.matches('"').count() % 2, 0, "{tag}");
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name), "{tag}");
        } else if !tag.ends_with('/') {
            open.push(tag.split_whitespace().next().unwrap());
        }
        rest = &rest[end + 1..];
    }
    assert!(open.is_empty() && rest.trim().is_empty(), "{open:?} {rest:?}");
}

#[test]
fn files_for_perfetto_and_browsers() {
    let dir = Dir::new("trace");
    let (timeline, plot) = (dir.file("t.json"), dir.file("plot.svg"));
    let (timeline, plot) = (timeline.to_str().unwrap(), plot.to_str().unwrap());
    let threads = ["--threads", "2", "--oversubscribe"];
    let files = ["-p", "8", "-n", "2", "--perfetto", timeline, "--svg", plot];
    ok(&trace(&[&threads[..], &files].concat()));

    let json = Json::parse(&fs::read_to_string(timeline).unwrap());
    let events = json.get("traceEvents").array();
    let tracks: Vec<_> = events.iter().filter(|e| e.str("name") == "thread_name").collect();
    assert_eq!(tracks.len(), 3);
    let spans: Vec<_> = events.iter().filter(|e| e.str("ph") == "X").collect();
    let mut works = false;
    for thread in [0.0, 1.0] {
        let name = format!("thread {thread}");
        assert!(tracks.iter().any(|t| t.get("args").str("name") == name));
        let own: Vec<_> = spans.iter().filter(|e| e.number("tid") == thread).collect();
        // One of them may come when there is nothing left to do.
        works |= own.iter().any(|e| e.str("name") == "waiting");
        // Spans of a thread follow each other; they are written with a thousandth of a microsecond.
        for pair in own.windows(2) {
            assert!(pair[0].number("ts") + pair[0].number("dur") <= pair[1].number("ts") + 1e-6);
        }
    }
    assert!(works);
    let named = |name: &str| spans.iter().filter(|e| e.str("name") == name).collect::<Vec<_>>();
    assert!(named("Linear ffn_down").iter().any(|e| e.get("args").number("layer") == 1.0));
    assert!(named("Linear token_embd").iter().all(|e| e.get("args").str("layer") == "head"));
    // One call of a prompt, and one of each token.
    assert_eq!((named("prefill").len(), named("decode").len()), (1, 2));
    assert!(spans.iter().all(|e| ["prefill", "decode"].contains(&e.str("cat"))));

    let svg = fs::read_to_string(plot).unwrap();
    well_formed(&svg);
    assert!(svg.starts_with("<svg xmlns="));
    for text in ["Linear ffn_down", "prefer", "class=\"prefill\"", "class=\"decode\"", "GB/s"] {
        assert!(svg.contains(text), "{text}");
    }
    assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
}

#[test]
fn other_models() {
    for model in ["llama/llama-Q2_K.gguf", "lfm2/lfm2-Q4_0.gguf", "gemma3n/gemma3n-Q4_0.gguf"] {
        let o = trace_of(model, &["-p", "4", "-n", "2", "--threads", "1", "--backend", "scalar"]);
        let names = names(ok(&o));
        for name in ["  embedding", "  head", "  outside of operations"] {
            assert!(names.iter().any(|n| n == name), "{model}: {names:#?}");
        }
    }
}

#[test]
fn what_is_wrong_is_said_in_one_line() {
    fails(&trace(&["-p", "0", "-n", "0"]), 2, &["-p 0", "-n 0"]);
    fails(&teff(["trace"]), 2, &["no model"]);
    fails(&trace(&["-p", "many"]), 2, &["-p", "many"]);
    fails(&trace(&["--threads", "0"]), 2, &["--threads"]);
    fails(&trace(&["-r", "2"]), 2, &["-r"]);
    fails(&trace(&["--perfetto"]), 2, &["--perfetto"]);
    fails(&trace(&["-p", "2000000"]), 1, &["2000000", "context"]);
    fails(&trace(&["-p", "4", "-n", "5", "--ctx", "8"]), 1, &["-p is 4", "-n is 5", "8"]);
    fails(&trace(&["--backend", "abacus"]), 2, &["abacus"]);
    fails(&teff(["trace", "no-such.gguf"]), 1, &["no-such.gguf"]);
    let dir = Dir::new("trace-errors");
    let inside = dir.file("absent/t.json");
    let inside = inside.to_str().unwrap();
    for flag in ["--perfetto", "--svg"] {
        fails(&trace(&[flag, inside]), 1, &[inside, "can't be written", "os error"]);
    }
    let model = dir.write("m.gguf", &fs::read(crate::common::data(MODEL)).unwrap());
    fails(&teff(["trace", &model, "--svg", &model]), 1, &["--svg", "is the model itself"]);
}
