//! Logits of every family compared to those of independent engines for the same files.

use std::path::{Path, PathBuf};

use crate::common::{self, all_logits, family_files, golden, nmse, oracle, oracle_quiet};
use teff::graph::StepError;
use teff::graph::gguf::Gguf;
use teff::{LogitsFor, Model, SessionError, SessionOptions};
use teff_runtime::quantize::{GgufSource, QuantizeOptions, Target, write};

fn golden_of(path: &Path) -> common::Golden {
    golden(Path::new(&format!("{}.golden.safetensors", path.display())))
}

fn dense(path: &Path) -> bool {
    path.to_string_lossy().ends_with("-f32.gguf")
}

/// Quantised files are measured by llama.cpp's own error on the same file; f32 files have none.
fn files_of(name: &str) {
    files_in(name, &common::options());
}

fn files_in(name: &str, options: &SessionOptions) {
    for path in family_files(name) {
        let model = Model::open(&path).unwrap();
        let g = golden_of(&path);
        let ours = nmse(&logits_in(&model, &g.tokens, options), &g.exact);
        let peer = nmse(&g.peer.unwrap(), &g.exact);
        println!("{}: NMSE {ours:.3e}, the peer's {peer:.3e}", path.display());
        let most = if dense(&path) { 1e-9 } else { 1.1 * peer };
        assert!(ours <= most, "{}: {ours:e} > {most:e}", path.display());
    }
}

/// Compared to transformers in f32 on the same weights.
fn folder(name: &str) {
    folder_in(name, &common::options());
}

fn logits_in(model: &Model, tokens: &[u32], options: &SessionOptions) -> Vec<f32> {
    common::logits(&mut model.session(options).unwrap(), tokens, 96)
}

fn folder_in(name: &str, options: &SessionOptions) {
    let Some(path) = oracle(name) else { return };
    let model = Model::open(&path).unwrap();
    let g = golden(&path.join("model.safetensors.golden.safetensors"));
    let e = nmse(&logits_in(&model, &g.tokens, options), &g.exact);
    println!("{}: NMSE {e:.2e}", path.display());
    assert!(e <= 1e-9, "{name}: {e:e}");
}

macro_rules! families {
    ($($name:ident)*) => {$(
        mod $name {
            #[test]
            fn files() {
                super::files_of(stringify!($name));
            }
            #[test]
            fn folder() {
                super::folder(stringify!($name));
            }
        }
    )*};
}
families!(
    llama gemma2 gemma3 gemma4 qwen2 qwen3 lfm2 granite4 smollm3 olmo2 ministral3 phi3 qwen35
);

/// With experts, rounding can make a token choose another expert, which changes its logits
/// completely in any engine, so the error is the median over tokens.
#[test]
fn experts() {
    for name in ["qwen3moe", "mixtral", "granitemoe", "lfm2moe", "gpt-oss", "qwen35moe"] {
        experts_of(name);
    }
    // Of this one there is no copy.
    if oracle("gpt-oss-mxfp4").is_some() {
        experts_of("gpt-oss-mxfp4");
    }
    for name in [
        "qwen3moe",
        "qwen3moe-fused",
        "qwen3moe-nonorm",
        "qwen35moe",
        "mixtral",
        "granitemoe",
        "lfm2moe",
        "gpt-oss",
    ] {
        folder(name);
    }
}

/// A folder with blocks of MXFP4 and exponents apart is the file that llama.cpp makes of it.
#[test]
fn published_mxfp4() {
    let Some(folder) = oracle("gpt-oss-mxfp4") else { return };
    let Some(file) = oracle("gpt-oss-mxfp4/gpt-oss-mxfp4-BF16.gguf") else { return };
    let tokens = golden_of(&file).tokens;
    let of = |path: PathBuf| all_logits(&Model::open(path).unwrap(), &tokens);
    let (a, b) = (of(folder), of(file));
    assert!(a.iter().zip(&b).all(|(a, b)| a.to_bits() == b.to_bits()));
}

fn experts_of(family: &str) {
    for path in family_files(family) {
        let model = Model::open(&path).unwrap();
        let g = golden_of(&path);
        let (ours, peer) = (all_logits(&model, &g.tokens), g.peer.unwrap());
        let vocab = model.spec().vocab as usize;
        let median = |x: &[f32]| {
            let rows = x.chunks(vocab).zip(g.exact.chunks(vocab));
            let mut all: Vec<f64> = rows.map(|(x, exact)| nmse(x, exact)).collect();
            all.sort_by(f64::total_cmp);
            all[all.len() / 2]
        };
        let (m, most) = (median(&ours), 1.1 * median(&peer));
        println!("{}: median NMSE {m:.3e}, at most {most:.3e}", path.display());
        assert!(m <= most, "{}: {m:e} > {most:e}", path.display());
    }
}

/// LFM3, of which no GGUF files are known.
#[test]
fn lfm3() {
    folder("lfm3");
}

/// The published form of Qwen 3.5, inside of a model for images and with a block that predicts further tokens.
#[test]
fn qwen35_for_images() {
    if oracle("qwen35-mm").is_some() {
        files_of("qwen35-mm");
    }
    folder("qwen35-mm");
}

#[test]
fn qwen35_rows_of_256() {
    if oracle("qwen35-k").is_some() {
        files_of("qwen35-k");
    }
}

/// A dense part and experts beside each other.
#[test]
fn gemma4_with_experts() {
    experts_of("gemma4-moe");
    in_f32("gemma4-moe");
    folder("gemma4-moe-mm");
}

/// Inputs of layers, shared keys and values (with those that no one reads in the published form),
/// wider layers.
#[test]
fn gemma4_with_inputs_of_layers() {
    for name in ["gemma4-e", "gemma4-e-mm", "gemma4-k"] {
        // Of the others there is no copy.
        if name == "gemma4-e-mm" || oracle(name).is_some() {
            files_of(name);
            in_f32(name);
        }
    }
    in_f32("gemma4");
    folder("gemma4-e-mm");
}

/// Several residual streams and sparse gates, which llama.cpp computes for the published shapes alone:
/// there is no peer.
#[test]
fn gemma3n() {
    if oracle("gemma3n").is_some() {
        in_f32("gemma3n");
    }
    // Of the oracle's it has four layers, in Q4_0; its logits are those of a program in f64.
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/gemma3n");
    file_in_f32(&data.join("gemma3n-Q4_0.gguf"));
    folder("gemma3n-mm");
}

#[test]
fn lfm2_rows_of_256() {
    if oracle("lfm2-k").is_some() {
        files_of("lfm2-k");
    }
}

/// LongRoPE's factors are those for the context that a session is asked for, for all of a text and
/// however it is split: the short ones up to the original context, the long ones beyond it.
#[test]
fn factors_for_a_context() {
    let with = |context| SessionOptions { context: Some(context), ..common::options() };
    files_in("phi4-short", &with(1024));
    folder_in("phi4-short", &with(1024));
    if oracle("phi4-long").is_some() {
        files_in("phi4-long", &with(256));
        folder_in("phi4-long", &with(256));
    }
    let model = Model::open(family_files("phi4-short").remove(0)).unwrap();
    let tokens: Vec<u32> = (0..40).map(|i| i * 7 % 300).collect();
    let of = |context, chunk| {
        common::logits(&mut model.session(&with(context)).unwrap(), &tokens, chunk)
    };
    let same = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits());
    let (short, long) = (of(1024, 96), of(1025, 96));
    assert!(same(&short, &of(64, 7)) && same(&short, &of(512, 1)));
    assert!(same(&long, &of(4096, 7)) && same(&long, &of(2000, 1)));
    assert!(nmse(&short, &long) > 1e-4);
    // Keys in a snapshot were turned by the factors of its session.
    let mut session = model.session(&with(512)).unwrap();
    session.eval(&tokens, LogitsFor::None).unwrap();
    let saved = session.snapshot();
    assert!(model.session(&with(1024)).unwrap().restore(&saved).is_ok());
    assert!(model.session(&with(1025)).unwrap().restore(&saved).is_err());
}

/// Granite in rows of 256, of which there is no folder; and its quantised files in f32, which is
/// what their exact logits were computed from.
#[test]
fn granite() {
    for name in ["granite", "granite4"] {
        // Of the first there is no copy.
        if name == "granite" && oracle(name).is_none() {
            continue;
        }
        files_of(name);
        in_f32(name);
    }
}

/// The quantised files of a family in f32, which is what their exact logits were computed from.
fn in_f32(name: &str) {
    for path in family_files(name) {
        file_in_f32(&path);
    }
}

fn file_in_f32(path: &Path) {
    let file = std::fs::read(path).unwrap();
    let source = GgufSource::new(Gguf::parse(&file).unwrap()).unwrap();
    let target = Target::from_name("F32").unwrap();
    let options = QuantizeOptions { allow_requantize: true, ..QuantizeOptions::default() };
    let (file, _) = write(&source, &target, &options, Vec::new(), &mut |_| {}).unwrap();
    let model = Model::from_bytes(file, &teff::LoadOptions::default()).unwrap();
    let g = golden_of(path);
    let e = nmse(&all_logits(&model, &g.tokens), &g.exact);
    println!("{}: NMSE {e:.2e} in f32", path.display());
    assert!(e <= 1e-9, "{}: {e:e}", path.display());
}

/// The published form of Ministral 3, inside of a model for images.
#[test]
fn ministral3_for_images() {
    folder("mistral3-wrapped");
}

/// A folder with the keys of published checkpoints gives the same bits as one written by
/// transformers.
#[test]
fn both_generations_of_configs() {
    for name in [
        "gemma2",
        "qwen3moe",
        "qwen3moe-nonorm",
        "mixtral",
        "granitemoe",
        "gpt-oss",
        "granite4",
        "smollm3",
        "olmo2",
        "ministral3",
        "phi3",
        "phi4-long",
    ] {
        let Some(path) = oracle(name) else { continue };
        let old =
            std::env::temp_dir().join(format!("teff-config-v4-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&old).unwrap();
        let tokenizer = ["tokenizer.json", "tokenizer.model"].into_iter();
        let tokenizer = tokenizer.filter(|file| path.join(file).exists());
        for file in tokenizer.chain(["model.safetensors", "tokenizer_config.json"]) {
            std::fs::copy(path.join(file), old.join(file)).unwrap();
        }
        std::fs::copy(path.join("config.v4.json"), old.join("config.json")).unwrap();
        let tokens = golden(&path.join("model.safetensors.golden.safetensors")).tokens;
        let of = |path: &Path| all_logits(&Model::open(path).unwrap(), &tokens);
        let (a, b) = (of(&path), of(&old));
        assert!(a.iter().zip(&b).all(|(a, b)| a.to_bits() == b.to_bits()), "{name}");
        std::fs::remove_dir_all(old).unwrap();
    }
}

/// Compared to transformers' layers for int8 activations, in f32. The GGUF files have an embedding
/// in F16, the folder has it in f32, and the files' golden logits in the oracle are the folder's.
/// The copy here therefore has its own: the same model in f64 with the embedding of the file.
/// Formats of few bits, with an importance matrix where they need one.
#[test]
fn llama_iq() {
    files_of("llama-iq");
}

/// NVFP4 with scales of tensors.
#[test]
fn llama_nvfp4() {
    if oracle("llama-nvfp4").is_some() {
        files_of("llama-nvfp4");
        folder("llama-nvfp4");
    }
}

#[test]
fn bitnet() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/bitnet/bitnet-I2_S.gguf");
    let g = golden_of(&data);
    let want = all_logits(&Model::open(&data).unwrap(), &g.tokens);
    let e = nmse(&want, &g.exact);
    println!("{}: NMSE {e:.2e}", data.display());
    assert!(e <= 1e-9, "{e:e}");
    // Sums of codes are exact, so the format that stores them changes nothing.
    for name in ["I2_S", "TQ1_0", "TQ2_0"] {
        let Some(path) = oracle(&format!("bitnet/bitnet-{name}.gguf")) else { continue };
        let got = all_logits(&Model::open(&path).unwrap(), &g.tokens);
        assert!(got.iter().zip(&want).all(|(a, b)| a.to_bits() == b.to_bits()), "{name}");
    }
    folder("bitnet");
}

/// Long after the window (8 positions), the context (128) is full, in the memory allocated at
/// first.
#[test]
fn gemmas_context_ends() {
    let model = Model::open(family_files("gemma3").remove(0)).unwrap();
    let mut session = model.session(&SessionOptions { batch: 16, ..common::options() }).unwrap();
    let (needs, n) = (session.memory_requirements().total(), session.context() as u32);
    let tokens: Vec<u32> = (0..n).map(|i| i * 7 % 360).collect();
    for part in tokens.chunks(16) {
        assert!(session.eval(part, LogitsFor::Last).unwrap().iter().all(|x| x.is_finite()));
    }
    let e = session.eval(&[1], LogitsFor::Last).unwrap_err();
    assert!(matches!(e, SessionError::Step(StepError::ContextFull { .. })), "{e}");
    assert_eq!(session.memory_requirements().total(), needs);
    // After truncation, it continues.
    session.truncate(100);
    assert!(session.eval(&tokens[100..101], LogitsFor::Last).is_ok());
}

/// A folder and a GGUF file of the same weights, stored in the same order, have the same bits.
#[test]
fn containers() {
    let Some(folder) = oracle("qwen2") else { return };
    let Some(file) = oracle("qwen2/qwen2-f32.gguf") else { return };
    let tokens = golden_of(&file).tokens;
    let of = |path: PathBuf| all_logits(&Model::open(path).unwrap(), &tokens);
    let (a, b) = (of(folder), of(file));
    assert!(a.iter().zip(&b).all(|(a, b)| a.to_bits() == b.to_bits()));
}

/// Every file of the oracle is used by some test here, or is GPT-2's (`golden.rs`).
#[test]
fn no_file_is_forgotten() {
    let Some(all) = oracle_quiet("") else { return };
    let known = ["llama", "gemma3", "qwen2", "qwen3", "bitnet", "gpt2", "gpt2-k", "vocabs"];
    for entry in std::fs::read_dir(all).unwrap() {
        let entry = entry.unwrap();
        if entry.path().is_dir() {
            let name = entry.file_name().into_string().unwrap();
            assert!(known.contains(&&*name), "{name}");
        }
    }
}
