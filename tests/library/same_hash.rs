//! The models of `examples/bare_metal`: one hash of their logits on every backend of this machine,
//! equal to that of the firmware; and the plans in the firmware are those of the planner.
//!
//! `examples/bare_metal/logits.fnv` contains the hashes. `cargo test --test library same_hash --
//! --nocapture` prints its expected contents.

#[path = "../../examples/plan_to_rust/emit.rs"]
mod emit;
// As the firmware includes them: that they compile is part of the test.
#[allow(dead_code, missing_docs, unreachable_pub)]
#[rustfmt::skip]
#[path = "../../examples/bare_metal/src/plan_gemma4.rs"]
mod plan_gemma4;
#[allow(dead_code, missing_docs, unreachable_pub)]
#[rustfmt::skip]
#[path = "../../examples/bare_metal/src/plan_q4_0.rs"]
mod plan_q4_0;
#[allow(dead_code, missing_docs, unreachable_pub)]
#[rustfmt::skip]
#[path = "../../examples/bare_metal/src/plan_q8_0.rs"]
mod plan_q8_0;

use std::path::{Path, PathBuf};

use emit::{Extras, emit, fnv};
use teff::{Cpu, KvFormat, LogitsFor, Model, SessionOptions};
use teff_graph::{Plan, TensorLocation};
use teff_kernels::Scalar;
use teff_runtime::tokenizer::Specials;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/bare_metal")
}

fn text(name: &str) -> String {
    std::fs::read_to_string(folder().join(name)).unwrap()
}

/// Tokens that `logits.fnv` names before the hashes of a file.
fn tokens(file: &str) -> Vec<u32> {
    let text = text("logits.fnv");
    let before = text.lines().take_while(|l| l.split_whitespace().next() != Some(file));
    let line = before.filter_map(|l| l.strip_prefix("tokens ")).last().unwrap();
    line.split(',').map(|t| t.parse().unwrap()).collect()
}

/// Logits after every token, in the format of `teff logits`.
fn logits(
    model: &Model,
    tokens: &[u32],
    (backend, threads, chunk): (Cpu, usize, usize),
    kv: KvFormat,
) -> Vec<f32> {
    let options = SessionOptions {
        backend: Some(backend),
        threads: Some(threads),
        oversubscribe: true,
        kv,
        batch: chunk,
        logits: chunk,
        ..SessionOptions::default()
    };
    let mut session = model.session(&options).unwrap();
    let mut all = Vec::new();
    for chunk in tokens.chunks(chunk) {
        all.extend_from_slice(session.eval(chunk, LogitsFor::All).unwrap());
    }
    all
}

/// One line of `logits.fnv` for each model and cache format.
fn one_hash(file: &str) {
    let model = Model::open(folder().join(file)).unwrap();
    let (tokens, listed) = (tokens(file), text("logits.fnv"));
    let prompt = model.tokenizer().unwrap();
    let prompt = prompt.encode(text("prompt.txt").trim_end(), Specials::Ignore).unwrap();
    assert_eq!(tokens, prompt, "logits.fnv has other tokens than those of prompt.txt");
    for kv in KvFormat::ALL {
        let mut seen = None;
        for name in Cpu::NAMES {
            let Ok(backend) = Cpu::by_name(name) else {
                println!("skipped: {name}: this machine lacks it");
                continue;
            };
            for threads in [1, 2] {
                for chunk in [1, tokens.len()] {
                    let bits = logits(&model, &tokens, (backend, threads, chunk), kv);
                    let got = fnv(bits.iter().flat_map(|x| x.to_bits().to_le_bytes()));
                    let first = *seen.get_or_insert(got);
                    assert_eq!(got, first, "{file} {kv:?}: {name}, {threads} threads, {chunk}");
                }
            }
        }
        let line = format!("{file} {} {:016x}", kv.name(), seen.unwrap());
        println!("{line}");
        assert!(listed.lines().any(|l| l == line), "logits.fnv doesn't have `{line}`");
    }
}

#[test]
fn q8_0() {
    one_hash("model-q8_0.gguf");
}

#[test]
fn q4_0() {
    one_hash("model-q4_0.gguf");
}

#[test]
fn gemma4() {
    one_hash("model-gemma4.gguf");
}

/// The firmware contains the tool's output, and the static plan is the planner's.
fn same_plan(quant: &str, plan: &Plan<'static>, locations: &[TensorLocation]) {
    let path = folder().join(format!("model-{quant}.gguf"));
    let (model, file) = (Model::open(&path).unwrap(), std::fs::read(&path).unwrap());
    let here = text(&format!("src/plan_{quant}.rs"));
    let tokenizer = model.tokenizer().unwrap();
    let extras = Extras {
        command: here.lines().next().unwrap().strip_prefix("// Written by: ").unwrap(),
        prompt: &tokenizer.encode(text("prompt.txt").trim_end(), Specials::Ignore).unwrap(),
        end: tokenizer.eos(),
    };
    let options = plan.options;
    let again = emit(&file, (model.spec(), model.family()), &options, &Scalar, &extras).unwrap();
    assert_eq!(again, here, "src/plan_{quant}.rs is old: run the command in its first line");

    let made = Plan::build(model.spec(), &|id| model.format(id), &options, &Scalar).unwrap();
    assert_eq!(plan.verify(), Ok(()));
    assert_eq!((&plan.spec, plan.options), (&made.spec, made.options));
    assert_eq!((&*plan.ops, &*plan.buffers), (&*made.ops, &*made.buffers));
    assert_eq!((&*plan.states, &*plan.ropes), (&*made.states, &*made.ropes));
    assert_eq!((plan.logits, plan.hidden), (made.logits, made.hidden));
    assert_eq!(plan.memory_requirements, made.memory_requirements);
    for (slot, location) in plan.spec.slots().zip(locations) {
        let found = location.tensor(&slot, &file).unwrap();
        let loaded = model.tensor(plan.spec.id(slot.role));
        let bytes = |t: &teff_graph::Tensor<'_>| match t {
            teff_graph::Tensor::Matrix(m) => m.bytes().to_vec(),
            teff_graph::Tensor::Vector(v) => bytes_of(v),
        };
        assert!(bytes(&found) == bytes(&loaded), "{:?} lies elsewhere", slot.role);
    }
}

fn bytes_of(v: &[f32]) -> Vec<u8> {
    v.iter().flat_map(|x| x.to_le_bytes()).collect()
}

#[test]
fn the_plans_are_the_planners() {
    if cfg!(target_endian = "big") {
        println!("skipped: the plans of the firmware: a big-endian machine has to convert weights");
        return;
    }
    same_plan("q8_0", &plan_q8_0::PLAN, &plan_q8_0::WEIGHTS);
    same_plan("q4_0", &plan_q4_0::PLAN, &plan_q4_0::WEIGHTS);
    same_plan("gemma4", &plan_gemma4::PLAN, &plan_gemma4::WEIGHTS);
}
