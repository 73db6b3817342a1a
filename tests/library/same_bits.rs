//! First promise: one hash of the logits over backends, threads, chunks and restored caches.

use std::path::Path;
use std::sync::OnceLock;

use crate::common::{self, data, golden, logits, oracle};
use teff::{Cpu, KvFormat, LogitsFor, Model, Session, SessionOptions};

fn hash(logits: &[f32]) -> u64 {
    let bytes = logits.iter().flat_map(|x| x.to_bits().to_le_bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3))
}

/// Backends of this machine; missing ones are printed once.
fn backends() -> &'static [Cpu] {
    static FOUND: OnceLock<Vec<Cpu>> = OnceLock::new();
    FOUND.get_or_init(|| {
        let mut found = Vec::new();
        for name in Cpu::NAMES {
            match Cpu::by_name(name) {
                Ok(cpu) => found.push(cpu),
                Err(_) => println!("skipped: {name}: this machine lacks it"),
            }
        }
        found
    })
}

/// The golden tokens, repeated: enough to cross a block of the cache, in the smallest grid a step of 32.
/// (More where `TEFF_FULL` is set, as in the nightly tier.)
fn tokens(model: &Model, golden: &[u32], grid: &Grid) -> Vec<u32> {
    let n = match std::env::var_os("TEFF_FULL") {
        Some(_) => 90,
        None if grid.threads.len() == 1 => 40,
        None => 66,
    };
    let n = n.min(model.spec().context as usize);
    golden.iter().copied().cycle().take(n).collect()
}

fn session(model: &Model, cpu: Cpu, threads: usize, kv: KvFormat, batch: usize) -> Session<'_> {
    let options = SessionOptions {
        backend: Some(cpu),
        threads: Some(threads),
        oversubscribe: true,
        kv,
        batch,
        logits: batch,
        ..SessionOptions::default()
    };
    model.session(&options).unwrap()
}

/// Logits of all tokens, computed in one go, or with the second half computed after restoring a
/// snapshot of the first half into a fresh session.
fn compute(
    model: &Model,
    tokens: &[u32],
    (cpu, threads, chunk): (Cpu, usize, usize),
    kv: KvFormat,
    restored: bool,
) -> Vec<f32> {
    let mut first = session(model, cpu, threads, kv, chunk.min(96));
    if !restored {
        return logits(&mut first, tokens, chunk);
    }
    let (a, b) = tokens.split_at(tokens.len() / 2);
    let mut all = logits(&mut first, a, chunk);
    let snapshot = first.snapshot();
    drop(first);
    let mut second = session(model, cpu, threads, kv, chunk.min(96));
    // Earlier contents must leave no trace.
    second.eval(&tokens[..1], LogitsFor::Last).unwrap();
    second.restore(&snapshot).unwrap();
    all.extend(logits(&mut second, b, chunk));
    all
}

/// Variations besides the backend: all of them, or few if only the format is new.
struct Grid {
    kvs: &'static [KvFormat],
    threads: &'static [usize],
    chunks: &'static [usize],
}

const ALL: Grid = Grid { kvs: &KvFormat::ALL, threads: &[1, 2, 3], chunks: &[1, 5, 32, 96] };
/// Grid for the other files of a family after one has been tested with more.
const LEAST: Grid = Grid { kvs: &[KvFormat::F32], threads: &[2], chunks: &[1, 32] };
const LITTLE: Grid = Grid { kvs: &[KvFormat::F16], threads: &[1, 3], chunks: &[1, 3, 32] };

fn one_hash(path: &std::path::Path, grid: &Grid) {
    let model = Model::open(path).unwrap();
    let golden = golden(&data("gpt2-f32.gguf.golden.safetensors")).tokens;
    let golden: Vec<u32> = golden.into_iter().map(|t| t % model.spec().vocab).collect();
    let tokens = tokens(&model, &golden, grid);
    for &kv in grid.kvs {
        let mut want = None;
        for &cpu in backends() {
            // The scalar backend is slow: it runs only with a snapshot between the two halves, and in a
            // smaller grid once: on one number of threads and, by day, in one kind of chunks.
            let slow = matches!(cpu, Cpu::Scalar(_));
            let one = slow && grid.chunks.len() < ALL.chunks.len();
            let once = one && std::env::var_os("TEFF_FULL").is_none();
            for &threads in &grid.threads[if one { grid.threads.len() - 1 } else { 0 }..] {
                for &chunk in &grid.chunks[if once { grid.chunks.len() - 1 } else { 0 }..] {
                    for restored in [false, true].into_iter().filter(|&restored| restored || !slow)
                    {
                        let got =
                            hash(&compute(&model, &tokens, (cpu, threads, chunk), kv, restored));
                        let want = *want.get_or_insert(got);
                        assert_eq!(
                            got,
                            want,
                            "{} {cpu:?} {threads} threads, chunks of {chunk}, cache {kv:?}, \
                             restored: {restored}",
                            path.display()
                        );
                    }
                }
            }
        }
        println!("{} {}: {:016x}", path.display(), kv.name(), want.unwrap());
    }
}

#[test]
fn f32() {
    one_hash(&data("gpt2-f32.gguf"), &ALL);
}

#[test]
fn f16() {
    one_hash(&data("gpt2-F16.gguf"), &LITTLE);
}

#[test]
fn q8_0() {
    one_hash(&data("gpt2-Q8_0.gguf"), &ALL);
}

#[test]
fn q4_0() {
    one_hash(&data("gpt2-Q4_0.gguf"), &LITTLE);
}

#[test]
fn other_blocks_of_32() {
    for format in ["Q4_1", "Q5_0", "Q5_1"] {
        one_hash(&data(&format!("gpt2-{format}.gguf")), &LITTLE);
    }
}

#[test]
fn super_blocks() {
    for mix in ["Q2_K", "Q3_K_S", "Q4_K_M", "Q5_K_S"] {
        one_hash(&data(&format!("../gpt2-k/gpt2-k-{mix}.gguf")), &LITTLE);
    }
}

#[test]
fn uneven_steps() {
    one_hash(&data("../llama-iq/llama-iq-IQ4_XS.gguf"), &LEAST);
}

#[test]
fn few_bits() {
    for format in ["Q1_0", "IQ2_XS"] {
        one_hash(&data(&format!("../llama-iq/llama-iq-{format}.gguf")), &LEAST);
    }
    for format in ["Q2_0", "IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_S", "IQ3_XXS", "IQ3_S"] {
        if let Some(path) = oracle(&format!("llama-iq/llama-iq-{format}.gguf")) {
            one_hash(&path, &LEAST);
        }
    }
    if let Some(path) = oracle("llama-nvfp4/llama-nvfp4-NVFP4.gguf") {
        one_hash(&path, &LEAST);
    }
}

#[test]
fn wider_q8_0() {
    if let Some(path) = oracle("gpt2-k/gpt2-k-Q8_0.gguf") {
        one_hash(&path, &LITTLE);
    }
}

/// Every file of a family, the first one with more variations. (A Gemma's window is 8, so all but a
/// few tokens are beyond it, in steps of one token as in steps of 32.)
fn family(name: &str) {
    for (i, path) in common::family_files(name).into_iter().enumerate() {
        one_hash(&path, if i == 0 { &LITTLE } else { &LEAST });
    }
}

#[test]
fn llama() {
    family("llama");
}

#[test]
fn gemma3() {
    family("gemma3");
}

#[test]
fn gemma2() {
    family("gemma2");
}

#[test]
fn gemma4() {
    family("gemma4");
    family("gemma4-e-mm");
    family("gemma4-moe");
}

#[test]
fn gemma3n() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/gemma3n/gemma3n-Q4_0.gguf");
    for path in oracle("gemma3n/gemma3n-Q8_0.gguf").into_iter().chain([data]) {
        one_hash(&path, &LITTLE);
    }
}

#[test]
fn qwen2() {
    family("qwen2");
}

#[test]
fn qwen3() {
    family("qwen3");
}

#[test]
fn bitnet() {
    family("bitnet");
}

#[test]
fn qwen3moe() {
    family("qwen3moe");
}

#[test]
fn lfm2() {
    family("lfm2");
}

#[test]
fn qwen35() {
    family("qwen35");
}

#[test]
fn qwen35moe() {
    if oracle("qwen35moe").is_some() {
        family("qwen35moe");
    }
}

#[test]
fn mixtral() {
    family("mixtral");
}

#[test]
fn granitemoe() {
    family("granitemoe");
}

#[test]
fn lfm2moe() {
    family("lfm2moe");
}

#[test]
fn gpt_oss() {
    family("gpt-oss");
}

#[test]
fn granite() {
    family("granite4");
}

#[test]
fn smollm3() {
    family("smollm3");
}

#[test]
fn olmo2() {
    family("olmo2");
}

#[test]
fn ministral3() {
    family("ministral3");
}

#[test]
fn phi3() {
    family("phi3");
    family("phi4-short");
}

/// Their files are tested above: by day every third one.
#[test]
fn folders() {
    let some = if std::env::var_os("TEFF_FULL").is_some() { 1 } else { 3 };
    let all = [
        "llama",
        "gemma2",
        "gemma3",
        "gemma3n-mm",
        "gemma4",
        "gemma4-e-mm",
        "gemma4-moe-mm",
        "qwen2",
        "qwen3",
        "bitnet",
        "qwen3moe",
        "lfm2",
        "mixtral",
        "granitemoe",
        "lfm2moe",
        "gpt-oss",
        "gpt-oss-mxfp4",
        "lfm3",
        "granite4",
        "smollm3",
        "olmo2",
        "ministral3",
        "mistral3-wrapped",
        "phi3",
        "phi4-long",
        "qwen35",
        "qwen35-mm",
        "qwen35moe",
    ];
    for name in all.into_iter().step_by(some) {
        if let Some(path) = oracle(name) {
            one_hash(&path, &LEAST);
        }
    }
}

/// A folder and a GGUF file of the same weights are the same model.
#[test]
fn containers() {
    let (folder, file) =
        (Model::open(data("")).unwrap(), Model::open(data("gpt2-f32.gguf")).unwrap());
    let tokens = golden(&data("gpt2-f32.gguf.golden.safetensors")).tokens;
    let of = |m: &Model| hash(&common::all_logits(m, &tokens));
    assert_eq!(of(&folder), of(&file));
}
