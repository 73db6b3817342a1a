//! `teff quantize` with a Hugging Face folder: the same logits, and llama.cpp's files.

#![cfg(feature = "cli")]

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::common::tiny::{self, Tiny};
use crate::common::{all_logits, data, golden, nmse, oracle};
use teff::kernels::dequantize_row;
use teff::{Format, LoadOptions, Model};
use teff_graph::gguf::{Gguf, GgufValue};
use teff_graph::{Head, LayerRole, Role, RopeScaling};
use teff_runtime::gguf_write::GgufHeader;
use teff_runtime::json::{Event, Reader};
use teff_runtime::quantize::{
    FolderSource, QuantizeErrorKind, QuantizeOptions, Target, quantize_file, write,
};
use teff_runtime::safetensors::SafeTensors;
use teff_runtime::tokenizer::{
    BpeParts, ExportError, SpecialIds, Specials, Splitter, TokenKind, Tokenizer,
};

/// Folder of its own for each test, removed when dropped.
struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Dir {
        let name = format!("teff-quantize-folder-{name}-{}", std::process::id());
        let dir = std::env::temp_dir().join(name);
        fs::create_dir_all(&dir).unwrap();
        Dir(dir)
    }

    /// Copy of a model's folder, without GGUF files, with an edited config.json.
    fn copy(name: &str, from: &Path, edits: &[(&str, &str)]) -> Dir {
        let dir = Dir::new(name);
        for entry in fs::read_dir(from).unwrap().map(|e| e.unwrap().path()) {
            let name = entry.file_name().unwrap().to_str().unwrap();
            if !name.contains(".gguf") && !name.contains("golden") {
                // Read and written, since the oracle's files are read-only.
                fs::write(dir.0.join(name), fs::read(&entry).unwrap()).unwrap();
            }
        }
        let mut config = fs::read_to_string(dir.0.join("config.json")).unwrap();
        for (old, new) in edits {
            assert!(config.contains(old), "{old}");
            config = config.replacen(old, new, 1);
        }
        fs::write(dir.0.join("config.json"), config).unwrap();
        dir
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Available folders with GGUF files; GPT-2's is in the repository.
fn folders() -> Vec<(&'static str, PathBuf)> {
    let theirs = [
        "llama",
        "gemma3",
        "qwen2",
        "qwen3",
        "bitnet",
        "qwen3moe",
        "lfm2",
        "mixtral",
        "granitemoe",
        "lfm2moe",
        "gpt-oss",
        "granite4",
        "smollm3",
        "olmo2",
        "ministral3",
        "phi3",
        "phi4-long",
        "qwen35",
        "qwen35moe",
        "gemma2",
        "gemma4",
        "gemma4-e-mm",
    ];
    let theirs = theirs.into_iter().filter_map(|name| Some((name, oracle(name)?)));
    [("gpt2", data(""))].into_iter().chain(theirs).collect()
}

/// Folders of which there are no files.
fn folders_alone() -> Vec<(&'static str, PathBuf)> {
    let theirs = ["gemma3n-mm", "gemma4-moe-mm"];
    theirs.into_iter().filter_map(|name| Some((name, oracle(name)?))).collect()
}

fn converted(folder: &Path, target: &str) -> Vec<u8> {
    let source = FolderSource::open(folder).unwrap();
    let target = Target::from_name(target).unwrap();
    let options = QuantizeOptions { threads: 2, ..QuantizeOptions::default() };
    write(&source, &target, &options, Vec::new(), &mut |_| {}).unwrap().0
}

fn model(file: Vec<u8>) -> Model {
    Model::from_bytes(file, &LoadOptions::default()).unwrap()
}

fn same_bits(a: &[f32], b: &[f32]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits())
}

/// All text in a folder's golden_tokens.json, keys too.
fn texts(folder: &Path) -> Vec<String> {
    let json = fs::read(folder.join("golden_tokens.json")).unwrap();
    let (mut reader, mut texts) = (Reader::new(&json), Vec::new());
    while let Some(event) = reader.next().unwrap() {
        if let Event::String(text) | Event::Key(text) = event {
            texts.push(text.to_cow().into_owned());
        }
    }
    texts
}

fn same_tokens(a: &Tokenizer, b: &Tokenizer, texts: &[String]) {
    let (mut x, mut y) = (a.special_ids(), b.special_ids());
    // A token for unknown text that one of them names: of bytes there is no unknown text.
    if x.unk.is_none() || y.unk.is_none() {
        (x.unk, y.unk) = (None, None);
    }
    assert_eq!(x, y);
    for text in texts {
        for specials in [Specials::Ignore, Specials::Parse] {
            let ids = a.encode(text, specials);
            assert_eq!(ids, b.encode(text, specials), "{text:?}");
            let ids = ids.unwrap();
            assert_eq!(a.decode(&ids), b.decode(&ids), "{text:?}");
        }
    }
}

#[test]
fn logits_and_tokens_are_the_folder_s() {
    for (name, folder) in folders().into_iter().chain(folders_alone()) {
        let ours = model(converted(&folder, "F32"));
        let theirs = Model::open(&folder).unwrap();
        let g = golden(&folder.join("model.safetensors.golden.safetensors"));
        let (a, b) = (all_logits(&ours, &g.tokens), all_logits(&theirs, &g.tokens));
        if ["llama", "mixtral", "granitemoe", "granite4", "smollm3", "ministral3"].contains(&name) {
            // A different order of the elements of queries and keys changes the order of their
            // sums.
            let e = nmse(&a, &b);
            assert!(e <= 1e-11, "{name}: {e:e}");
        } else {
            assert!(same_bits(&a, &b), "{name}");
        }
        let mut texts = texts(&folder);
        if name.starts_with("qwen35") {
            // Its texts are normalised first (NFC), of which GGUF files say nothing.
            let tokenizer = theirs.tokenizer().unwrap();
            texts.retain(|text| {
                let ids = tokenizer.encode(text, Specials::Ignore).unwrap();
                tokenizer.decode(&ids).is_ok_and(|decoded| decoded == *text)
            });
        }
        assert!(texts.len() > 10);
        same_tokens(ours.tokenizer().unwrap(), theirs.tokenizer().unwrap(), &texts);
        // Phi-3's name tells how its tokenizer treats white space, and this one has none of its rules.
        let expected = if name == "phi3" { Some("Phi 3") } else { theirs.name().or(Some("gpt2")) };
        assert_eq!(ours.name(), expected);
    }
}

/// Array of floats, with -0 as 0.
fn floats(value: Option<GgufValue<'_>>) -> Option<Vec<f32>> {
    let Some(GgufValue::Array(array)) = value else { return None };
    let floats = array.as_bytes().as_chunks::<4>().0.iter();
    Some(floats.map(|b| f32::from_le_bytes(*b) + 0.0).collect())
}

/// Meaning of keys that decide nothing, and of those with a default.
fn means(key: &str, value: Option<GgufValue<'_>>, arch: &str) -> Option<String> {
    let bare = key.strip_prefix(arch).unwrap_or(key);
    if arch == "gemma4" && key == "tokenizer.ggml.token_type" {
        return None; // special are those that tokenizer_config.json names, ours those of tokenizer.json
    }
    if ["gemma2", "gemma3"].contains(&arch) && key == "tokenizer.ggml.add_space_prefix" {
        return None; // the converter says false, whatever tokenizer.model does
    }
    if arch.starts_with("lfm2") && key == "tokenizer.ggml.pre" {
        return None; // the converter's ignores merges for whole tokens, tokenizer.json does not
    }
    if arch == "granite"
        && (bare.starts_with(".ssm.") || bare.starts_with(".expert_")
            || bare == ".attention.head_count_kv" // a list of equal numbers
            || bare == ".rope.scaling.finetuned")
    // true, the default
    {
        return None;
    }
    // Without a scaling the first means nothing, and with one the specs below differ by it; the second
    // is 0, or ignored.
    let phi3 = [".rope.scaling.original_context_length", ".attention.sliding_window"];
    if arch == "phi3" && phi3.contains(&bare) {
        return None;
    }
    if arch == "qwen35moe" && [".full_attention_interval", ".feed_forward_length"].contains(&bare) {
        return None; // layers are listed; no part without experts
    }
    if ["general.name", "general.size_label", "tokenizer.ggml.padding_token_id"].contains(&key)
        || bare == ".vocab_size"
        || bare == ".attention.sliding_window_pattern" // Gemma's own is the default
        || arch == "qwen3moe" && bare == ".feed_forward_length" // of layers without experts
        || key == "tokenizer.ggml.unknown_token_id"
    // 0 in SentencePiece's
    {
        return None;
    }
    if key == "tokenizer.ggml.scores" {
        return Some(format!("{:?}", floats(value))); // but for the sign of zero
    }
    Some(format!("{value:?}"))
}

/// Compared to the output of llama.cpp's converter and quantiser for the same folders.
#[test]
fn files_are_llama_cpp_s() {
    for (family, folder) in folders() {
        let mut files = 0;
        for path in fs::read_dir(&folder).unwrap().map(|e| e.unwrap().path()) {
            let Some(name) = path.file_name().unwrap().to_str().unwrap().strip_suffix(".gguf")
            else {
                continue;
            };
            let target = name.rsplit_once('-').unwrap().1;
            if Target::from_name(target).is_none() {
                println!("skipped: {name}: there is no {target} yet");
                continue;
            }
            let bytes = fs::read(&path).unwrap();
            let theirs = Gguf::parse(&bytes).unwrap();
            let file = converted(&folder, target);
            let ours = Gguf::parse(&file).unwrap();
            // Keys and values of layers that use those of others are not the model's.
            let dead = |tensor: &str| {
                let part = tensor.strip_prefix("blk.").and_then(|t| t.split_once('.'));
                part.is_some_and(|(_, part)| {
                    let kv = ["attn_k.weight", "attn_v.weight", "attn_k_norm.weight"];
                    name == "gemma4-e-mm-Q4_0"
                        && kv.contains(&part)
                        && ours.tensor(tensor).is_none()
                })
            };
            let used = theirs.tensors().filter(|t| !dead(t.name));
            assert_eq!(ours.n_tensors(), used.clone().count(), "{name}");
            for t in used {
                let u = ours.tensor(t.name).unwrap_or_else(|| panic!("{name}: {}", t.name));
                // These were written by its converter, not by its quantiser, with the embedding
                // left in F16.
                if target.starts_with("TQ") && t.name == "token_embd.weight" {
                    continue;
                }
                if (u.format, t.format) == (Format::BF16, Format::F32) && u.dims == t.dims {
                    // What isn't quantised stays as it is; its folder was widened first.
                    let n = u.elements() as usize;
                    let (mut a, mut b) = (vec![0.0; n], vec![0.0; n]);
                    dequantize_row(u.format, u.data, &mut a);
                    dequantize_row(t.format, t.data, &mut b);
                    assert!(same_bits(&a, &b), "{name}: {}", t.name);
                    continue;
                }
                assert_eq!((u.format, u.dims), (t.format, t.dims), "{name}: {}", t.name);
                assert!(u.data == t.data, "{name}: {} in {}", t.name, t.format);
            }
            let arch = match theirs.value("general.architecture") {
                Some(GgufValue::Str(arch)) => arch,
                _ => "",
            };
            for (key, value) in theirs.metadata() {
                let (a, b) = (means(key, ours.value(key), arch), means(key, Some(value), arch));
                assert_eq!(a, b, "{name}: {key}");
            }
            // Everything that matters is equal.
            let (a, b) = (model(file.clone()), model(bytes.clone()));
            assert_eq!(a.spec(), b.spec(), "{name}");
            if !["gemma2", "gemma3"].contains(&arch) {
                same_tokens(a.tokenizer().unwrap(), b.tokenizer().unwrap(), &texts(&folder));
            }
            files += 1;
        }
        assert!(files > 0, "{family}");
    }
}

fn teff(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_teff"));
    command.args(args).stdin(Stdio::null()).output().unwrap()
}

fn quantize(input: &Path, output: &Path, to: &str) -> Output {
    let (input, output) = (input.to_str().unwrap(), output.to_str().unwrap());
    teff(&["quantize", input, output, "--to", to])
}

#[test]
fn the_command_takes_a_folder() {
    let dir = Dir::copy("command", &data(""), &[]);
    fs::write(dir.0.join("chat_template.jinja"), "{{ messages }}").unwrap();
    let out = dir.0.join("out.gguf");
    let o = quantize(&dir.0, &out, "Q8_0");
    assert_eq!(o.status.code(), Some(0), "{}", String::from_utf8_lossy(&o.stderr));
    let (a, b) = (Model::open(&out).unwrap(), Model::open(data("gpt2-Q8_0.gguf")).unwrap());
    assert!(same_bits(&all_logits(&a, &[1, 2, 3]), &all_logits(&b, &[1, 2, 3])));
    assert_eq!(a.chat_template(), Ok("{{ messages }}"));
    // A file of the model is not replaced, another GGUF file is.
    let weights = dir.0.join("model.safetensors");
    let before = fs::read(&weights).unwrap();
    for part in [&weights, &dir.0.join("config.json")] {
        let o = quantize(&dir.0, part, "F16");
        assert_eq!(o.status.code(), Some(1));
        assert!(String::from_utf8_lossy(&o.stderr).contains("the model itself"));
    }
    #[cfg(unix)]
    {
        // As in the cache of the hub, where names are links.
        let blob = Dir::new("blob");
        fs::rename(&weights, blob.0.join("blob")).unwrap();
        std::os::unix::fs::symlink(blob.0.join("blob"), &weights).unwrap();
        assert_eq!(quantize(&dir.0, &blob.0.join("blob"), "F16").status.code(), Some(1));
        fs::rename(blob.0.join("blob"), &weights).unwrap();
    }
    assert!(fs::read(&weights).unwrap() == before);
    assert_eq!(quantize(&dir.0, &out, "BF16").status.code(), Some(0));
    assert_eq!(Model::open(&out).unwrap().format(teff_graph::TensorId::new(0)), Format::BF16);
    fs::remove_file(dir.0.join("tokenizer.json")).unwrap();
    fs::remove_file(dir.0.join("vocab.json")).unwrap();
    let o = quantize(&dir.0, &out, "F16");
    assert_eq!(o.status.code(), Some(1));
}

/// A file of f32 tensors reduced to their upper halves, which are BF16.
fn in_bf16(path: &Path) -> Vec<u8> {
    let bytes = fs::read(path).unwrap();
    let n = u64::from_le_bytes(*bytes.first_chunk().unwrap()) as usize;
    let mut header = String::from_utf8(bytes[8..8 + n].to_vec()).unwrap();
    header = header.replace("\"F32\"", "\"BF16\"");
    // All offsets are halved.
    let mut halved = String::new();
    let mut rest = &header[..];
    while let Some(at) = rest.find("\"data_offsets\":[") {
        let at = at + "\"data_offsets\":[".len();
        let end = at + rest[at..].find(']').unwrap();
        halved.push_str(&rest[..at]);
        let half = |v: &str| (v.trim().parse::<u64>().unwrap() / 2).to_string();
        halved.push_str(&rest[at..end].split(',').map(half).collect::<Vec<_>>().join(","));
        rest = &rest[end..];
    }
    halved.push_str(rest);
    let mut out = (halved.len() as u64).to_le_bytes().to_vec();
    out.extend(halved.bytes());
    out.extend(bytes[8 + n..].as_chunks::<4>().0.iter().flat_map(|b| [b[2], b[3]]));
    out
}

#[test]
fn bf16_stays_as_it_is() {
    let Some(folder) = oracle("llama") else { return };
    let dir = Dir::copy("bf16", &folder, &[]);
    let weights = dir.0.join("model.safetensors");
    fs::write(&weights, in_bf16(&weights)).unwrap();
    let file = converted(&dir.0, "BF16");
    let gguf = Gguf::parse(&file).unwrap();
    assert!(gguf.tensors().all(|t| t.format == Format::BF16 || t.n_dims == 1));
    let (ours, theirs) = (model(file), Model::open(&dir.0).unwrap());
    // Reordered rows are the same rows: first and second half of each head alternate.
    let find = |m: &Model, name: &str| m.tensor_infos().find(|t| t.name == name).unwrap().id;
    let matrix = |m: &Model, name: &str| match m.tensor(find(m, name)) {
        teff_graph::Tensor::Matrix(m) => m.bytes().to_vec(),
        teff_graph::Tensor::Vector(_) => panic!(),
    };
    let (k, turned) = (
        matrix(&theirs, "model.layers.1.self_attn.k_proj.weight"),
        matrix(&ours, "blk.1.attn_k.weight"),
    );
    for (r, row) in turned.chunks(512).enumerate() {
        let from = r / 32 * 32 + r % 32 / 2 + r % 2 * 16;
        assert!(row == &k[from * 512..][..512], "{r}");
    }
    let v = "blk.0.attn_v.weight";
    assert!(matrix(&ours, v) == matrix(&theirs, "model.layers.0.self_attn.v_proj.weight"));
    let tokens = [1, 17, 200, 5, 60, 61, 62];
    assert!(nmse(&all_logits(&ours, &tokens), &all_logits(&theirs, &tokens)) <= 1e-11);
}

#[test]
fn llama3_scaling_becomes_factors() {
    let Some(folder) = oracle("llama") else { return };
    let scaled = r#""rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
        "high_freq_factor": 4.0, "original_max_position_embeddings": 64"#;
    let config = fs::read_to_string(folder.join("config.json")).unwrap();
    let old = "\"rope_type\": \"default\"";
    assert!(config.contains(old));
    let dir = Dir::copy("llama3", &folder, &[(old, scaled)]);
    let (ours, theirs) = (model(converted(&dir.0, "F32")), Model::open(&dir.0).unwrap());
    let [rope] = &ours.spec().ropes[..] else { panic!() };
    assert_eq!(rope.scaling, RopeScaling::Factors);
    let tokens: Vec<u32> = (0..96).map(|i| 3 + i * 7 % 380).collect();
    let (a, b) = (all_logits(&ours, &tokens), all_logits(&theirs, &tokens));
    let e = nmse(&a, &b);
    assert!(e <= 1e-9, "{e:e}");
    let plain = Model::open(&folder).unwrap();
    assert!(nmse(&all_logits(&plain, &tokens), &b) > 1e-4);
}

fn refused(name: &str, folder: &Path, edits: &[(&str, &str)], names: &str) {
    let dir = Dir::copy(name, folder, edits);
    let e = FolderSource::open(&dir.0).unwrap_err();
    assert!(matches!(e.kind, QuantizeErrorKind::Unsaid { .. }), "{e}");
    assert!(e.to_string().contains(names), "{e}");
}

#[test]
fn what_gguf_can_t_say_is_refused() {
    let scale = ("\"scale_attn_weights\": true", "\"scale_attn_weights\": false");
    refused("scale", &data(""), &[scale], "scale_attn_weights");
    if let Some(gemma) = oracle("gemma3") {
        let scalar = ("\"query_pre_attn_scalar\": 32", "\"query_pre_attn_scalar\": 40");
        refused("scalar", &gemma, &[scalar], "query_pre_attn_scalar");
        // A scaling of layers with a window, and windows in other layers than every so many.
        let rope = ("\"rope_theta\": 10000.0", "\"factor\": 2.0, \"rope_theta\": 10000.0");
        let kind = ("\"rope_type\": \"default\"\n  }\n", "\"rope_type\": \"linear\"\n  }\n");
        refused("windowed-rope", &gemma, &[rope, kind], "rotary embedding");
        let first = ("\"layer_types\": [\n  \"sliding", "\"layer_types\": [\n  \"full");
        refused("kinds", &gemma, &[first], "layer_types");
    }
    if let Some(lfm3) = oracle("lfm3") {
        let e = FolderSource::open(&lfm3).unwrap_err();
        assert!(matches!(e.kind, QuantizeErrorKind::NoArchitecture { arch: "lfm3" }), "{e}");
    }
    let Some(llama) = oracle("llama") else { return };
    let class = ("LlamaForCausalLM", "MistralForCausalLM");
    let kind = ("\"model_type\": \"llama\"", "\"model_type\": \"mistral\", \"sliding_window\": 64");
    refused("window", &llama, &[class, kind], "sliding_window");
    // A window that hides nothing has no effect.
    let kind = (kind.0, "\"model_type\": \"mistral\", \"sliding_window\": 128");
    let dir = Dir::copy("wide", &llama, &[class, kind]);
    let wide = model(converted(&dir.0, "F16"));
    assert!(wide.spec().layers.iter().all(|l| l.attention().unwrap().window.is_none()));
    let dir = Dir::copy("broken", &llama, &[("\"hidden_size\": 256", "\"hidden_size\": 255")]);
    let e = FolderSource::open(&dir.0).unwrap_err();
    assert!(matches!(e.kind, QuantizeErrorKind::Load(_)), "{e}");
}

/// A small model's folder, with GPT-2's vocabulary.
fn tiny(name: &str, tiny: &Tiny, format: Format) -> Dir {
    let dir = Dir::new(name);
    tiny.write(&dir.0, format);
    for file in ["tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt"] {
        if let Ok(bytes) = fs::read(data(file)) {
            fs::write(dir.0.join(file), bytes).unwrap();
        }
    }
    dir
}

fn pure(folder: &Path, target: &str) -> Vec<u8> {
    let source = FolderSource::open(folder).unwrap();
    let target = Target::from_name(target).unwrap().pure();
    let options = QuantizeOptions { threads: 2, ..QuantizeOptions::default() };
    write(&source, &target, &options, Vec::new(), &mut |_| {}).unwrap().0
}

/// A file has what the folder has when it is quantised in memory; what decides (the router of experts)
/// or is small (the taps of convolutions) stays as it was.
#[test]
fn experts_and_convolutions_are_the_folder_s() {
    const TOKENS: [u32; 9] = [3, 141, 59, 26, 5, 35, 89, 79, 310];
    for (name, model_of) in [("qwen3moe", tiny::qwen3moe as fn(&str) -> Tiny), ("lfm2", tiny::lfm2)]
    {
        for format in [Format::F32, Format::BF16] {
            let dir = tiny(&format!("tiny-{name}-{format}"), &model_of(""), format);
            let dense = Model::open(&dir.0).unwrap();
            let want = all_logits(&dense, &TOKENS);
            assert!(want.iter().all(|x| x.is_finite()));
            let same = model(converted(&dir.0, format.name()));
            assert_eq!(same.spec(), dense.spec());
            assert!(same_bits(&all_logits(&same, &TOKENS), &want), "{name} in {format}");
            same_tokens(same.tokenizer().unwrap(), dense.tokenizer().unwrap(), &texts(&data("")));
            for target in [Format::Q8_0, Format::Q4_0, Format::Q5_1, Format::Q4_K, Format::Q6_K] {
                let file = pure(&dir.0, target.name());
                let gguf = Gguf::parse(&file).unwrap();
                for t in gguf.tensors() {
                    let stacked = t.name.contains("_exps.");
                    assert_eq!(t.n_dims == 3, stacked, "{}", t.name);
                    assert!(!stacked || t.dims == [256, 256, 4, 1], "{}", t.name);
                }
                let ours = model(file);
                let options = LoadOptions { quantize: Some(target), ..LoadOptions::default() };
                let theirs = Model::open_with(&dir.0, &options).unwrap();
                assert_eq!(ours.spec(), theirs.spec());
                for (a, b) in ours.tensor_infos().zip(theirs.tensor_infos()) {
                    assert_eq!((a.role, a.format), (b.role, b.format), "{}", a.name);
                    let kept = match a.role {
                        Role::Layer(_, LayerRole::ExpertRouter) => Some(format),
                        Role::Layer(_, role) if role.kind().is_vector() => Some(Format::F32),
                        Role::OutputNorm => Some(Format::F32),
                        _ => None,
                    };
                    assert_eq!(a.format, kept.unwrap_or(target), "{}", a.name);
                }
                let logits = all_logits(&ours, &TOKENS);
                assert!(same_bits(&logits, &all_logits(&theirs, &TOKENS)), "{name} in {target}");
                let e = nmse(&logits, &want);
                assert!(e > 0.0 && e < 0.5, "{name} in {target}: {e:e}");
            }
        }
    }
}

/// A head that differs from the embedding is kept although config.json ties it, with one warning.
#[test]
fn a_head_of_its_own_is_kept() {
    let dirs = [("tied", r#""tie_word_embeddings":true,"#), ("untied", "")]
        .map(|(name, more)| tiny(name, &tiny::qwen3moe(more), Format::F32));
    let [kept, own] = dirs.each_ref().map(|dir| model(converted(&dir.0, "F32")));
    assert_eq!((kept.spec().head, kept.spec()), (Head::Own, own.spec()));
    assert!(same_bits(&all_logits(&kept, &[3, 141, 59]), &all_logits(&own, &[3, 141, 59])));
    let [tied, untied] = dirs.each_ref().map(|dir| {
        let target = Target::from_name("Q8_0").unwrap();
        // Of the folder, or of its one file.
        let reports = [dir.0.clone(), dir.0.join("model.safetensors")].map(|input| {
            let (output, options) = (dir.0.join("out.gguf"), QuantizeOptions::default());
            quantize_file(input, output, &target, &options, &mut |_| {}).unwrap()
        });
        assert_eq!(reports[0], reports[1]);
        reports[0].warnings.iter().map(|w| w.key.clone()).collect::<Vec<_>>()
    });
    assert_eq!((tied, untied), (vec!["tie_word_embeddings".to_owned()], vec![]));
}

/// Switches that a folder of these families has and a file can't say.
#[test]
fn experts_and_convolutions_that_gguf_can_t_say_are_refused() {
    let refused = |name: &str, of: &Tiny, says: &str| {
        let dir = tiny(name, of, Format::BF16);
        Model::open(&dir.0).unwrap();
        let e = FolderSource::open(&dir.0).unwrap_err();
        assert!(matches!(e.kind, QuantizeErrorKind::Unsaid { .. }), "{e}");
        assert!(e.to_string().contains(says), "{e}");
    };
    let mut shares = tiny::qwen3moe("");
    shares.config = shares.config.replace(r#""norm_topk_prob":true"#, r#""norm_topk_prob":false"#);
    refused("shares", &shares, "norm_topk_prob");
    let window = r#""use_sliding_window":true,"sliding_window":8,"#;
    refused("window", &tiny::qwen3moe(window), "sliding_window");
    refused("conv-bias", &tiny::lfm2_biased(), "conv_bias");
    // A layer without experts among others.
    let Some(folder) = oracle("qwen3moe-fused") else { return };
    let e = FolderSource::open(folder).unwrap_err();
    assert!(e.to_string().contains("mlp_only_layers"), "{e}");
}

/// Files have the keys of both kinds of attention, whichever the layers have.
#[test]
fn layers_of_one_kind_of_attention() {
    for (name, linear) in [("all-linear", true), ("all-full", false)] {
        let dir = tiny(name, &tiny::qwen35(linear, false), Format::F32);
        let (ours, theirs) = (model(converted(&dir.0, "F32")), Model::open(&dir.0).unwrap());
        let tokens = [3, 141, 59, 26, 5];
        assert!(same_bits(&all_logits(&ours, &tokens), &all_logits(&theirs, &tokens)), "{name}");
        let gguf = converted(&dir.0, "Q8_0");
        let keys = Gguf::parse(&gguf).unwrap();
        // What llama.cpp's reader can't do without.
        for key in [
            "rope.dimension_sections",
            "ssm.conv_kernel",
            "ssm.inner_size",
            "ssm.state_size",
            "ssm.time_step_rank",
            "ssm.group_count",
            "attention.head_count",
            "attention.recurrent_layers",
        ] {
            assert!(keys.value(&format!("qwen35.{key}")).is_some(), "{name}: {key}");
        }
    }
    let dir = tiny("biased", &tiny::qwen35(false, true), Format::F32);
    Model::open(&dir.0).unwrap();
    let e = FolderSource::open(&dir.0).unwrap_err();
    assert!(matches!(e.kind, QuantizeErrorKind::Unsaid { .. }), "{e}");
    assert!(e.to_string().contains("its biases (`attention_bias`)"), "{e}");
}

/// Keys of a tokenizer, as a file.
fn keys(tokenizer: &Tokenizer, rows: usize) -> Result<Vec<u8>, ExportError> {
    let mut header = GgufHeader::new();
    tokenizer.put_gguf(&mut header, rows)?;
    Ok(header.write(Vec::new())?.finish()?)
}

fn read(keys: &[u8]) -> Tokenizer {
    Tokenizer::from_gguf(&Gguf::parse(keys).unwrap()).unwrap()
}

#[test]
fn real_vocabularies_are_written_as_they_were_read() {
    let Some(folder) = oracle("vocabs") else { return };
    for name in ["gpt-2", "llama-bpe", "llama-spm", "qwen2"] {
        let path = folder.join(format!("ggml-vocab-{name}.gguf"));
        let bytes = fs::read(&path).unwrap();
        let theirs = Gguf::parse(&bytes).unwrap();
        let tokenizer = Tokenizer::from_gguf(&theirs).unwrap();
        let file = keys(&tokenizer, tokenizer.vocab_size()).unwrap();
        let ours = Gguf::parse(&file).unwrap();
        for key in ["model", "tokens", "token_type", "merges", "scores", "bos_token_id"] {
            let key = format!("tokenizer.ggml.{key}");
            assert_eq!(ours.value(&key), theirs.value(&key), "{name}: {key}");
        }
        let texts = fs::read_to_string(format!("{}.inp", path.display())).unwrap();
        let texts = texts.split("\n__ggml_vocab_test__\n").map(str::to_owned);
        same_tokens(&tokenizer, &read(&file), &texts.collect::<Vec<_>>());
    }
}

#[test]
fn rows_without_a_token_are_padded() {
    let tokens: Vec<String> =
        (b'a'..=b'z').map(|b| char::from(b).to_string()).chain(["[PAD29]".into()]).collect();
    let kind = |t: &str| if t.len() > 1 { TokenKind::Control } else { TokenKind::Normal };
    let tokenizer = Tokenizer::byte_bpe(BpeParts {
        tokens: tokens.iter().map(|t| (t.as_bytes(), kind(t))),
        merges: ["a b"; 0].map(str::as_bytes),
        splitter: Splitter::Gpt2,
        add_prefix_space: false,
        ignore_merges: false,
        nfc: false,
        ids: SpecialIds::default(),
    })
    .unwrap();
    let padded = read(&keys(&tokenizer, 31).unwrap());
    assert_eq!(padded.vocab_size(), 31);
    assert_eq!(padded.token_kind(27), Some(TokenKind::Unused));
    assert_eq!(padded.token_bytes(27), Some(&b"[PAD27]"[..]));
    assert_eq!(padded.token_bytes(29), Some(&b"[PAD29]_"[..]));
    // A special token beyond the rows is omitted; a normal one is not.
    assert_eq!(read(&keys(&tokenizer, 26).unwrap()).vocab_size(), 26);
    assert!(matches!(keys(&tokenizer, 20), Err(ExportError::NoRow { id: 20, rows: 20 })));
}

/// Normaliser of a tokenizer.json that turns spaces into `▁` and adds one in front: like
/// SentencePiece, or only if there is none at the start.
const PREPEND: &str = r#""normalizer":{"type":"Sequence","normalizers":[
    {"type":"Prepend","prepend":"▁"},
    {"type":"Replace","pattern":{"String":" "},"content":"▁"}]},"pre_tokenizer":null"#;
const METASPACE: &str = r#""normalizer":null,"pre_tokenizer":{"type":"Metaspace",
    "replacement":"▁","prepend_scheme":"first","split":false}"#;

/// tokenizer.json in the manner of SentencePiece, whose first tokens are special.
fn spm_json(special: usize, tokens: &[&str], merges: &[&str], spaces: &str) -> String {
    let quoted = |t: &str| {
        let escape = |c: char| match c {
            '"' | '\\' => format!("\\{c}"),
            c if c.is_control() => format!("\\u{:04x}", u32::from(c)),
            c => c.into(),
        };
        format!("\"{}\"", t.chars().map(escape).collect::<String>())
    };
    let vocab: Vec<_> =
        tokens.iter().enumerate().map(|(i, t)| format!("{}:{i}", quoted(t))).collect();
    let merges: Vec<_> = merges.iter().map(|m| quoted(m)).collect();
    let added = tokens[..special]
        .iter()
        .enumerate()
        .map(|(i, t)| format!(r#"{{"id":{i},"content":{},"special":true}}"#, quoted(t)));
    format!(
        r#"{{"added_tokens":[{}],{spaces},"post_processor":null,
        "decoder":{{"type":"Sequence","decoders":[
            {{"type":"Replace","pattern":{{"String":"▁"}},"content":" "}},
            {{"type":"ByteFallback"}},{{"type":"Fuse"}},
            {{"type":"Strip","content":" ","start":1,"stop":0}}]}},
        "model":{{"type":"BPE","unk_token":"<unk>","fuse_unk":true,"byte_fallback":true,
            "vocab":{{{}}},"merges":[{}]}}}}"#,
        added.collect::<Vec<_>>().join(","),
        vocab.join(","),
        merges.join(",")
    )
}

fn from_json(json: &str) -> Tokenizer {
    Tokenizer::from_tokenizer_json(json.as_bytes(), None).unwrap()
}

#[test]
fn ranks_become_scores_where_they_come_to_the_same() {
    let tokens = ["<unk>", "▁", "a", "b", "c", "ab", "▁ab", "abc", "bc", "▁c"];
    let all = ["a b", "▁ ab", "b c", "ab c", "a bc", "▁ c"];
    let tokenizer = from_json(&spm_json(1, &tokens, &all, PREPEND));
    let read = read(&keys(&tokenizer, tokens.len()).unwrap());
    // Every text of up to seven letters.
    let mut texts = vec![String::new()];
    for from in 0..5461 {
        for c in ['a', 'b', 'c', ' '] {
            texts.push(format!("{}{c}", texts[from]));
        }
    }
    for text in &texts {
        let ids = tokenizer.encode(text, Specials::Ignore);
        assert_eq!(read.encode(text, Specials::Ignore), ids, "{text:?}");
    }
    let refused = |merges: &[&str]| {
        let tokenizer = from_json(&spm_json(1, &tokens, merges, PREPEND));
        let e = keys(&tokenizer, tokens.len()).unwrap_err();
        assert!(matches!(e, ExportError::Inexpressible { .. }), "{e}");
    };
    refused(&["a b", "▁ ab", "b c", "ab c", "▁ c"]); // `a bc` would merge by scores
    refused(&["a b", "▁ ab", "ab c", "b c", "a bc", "▁ c"]); // not at once
}

/// Vocabulary of a GGUF file as a tokenizer.json: every pair that makes a token, in descending
/// order of scores.
fn as_ranks(gguf: &Gguf<'_>, spaces: &str) -> String {
    let theirs = Tokenizer::from_gguf(gguf).unwrap();
    let Some(GgufValue::Array(all)) = gguf.value("tokenizer.ggml.tokens") else { panic!() };
    let tokens: Vec<_> = all.strings().unwrap().map(|t| str::from_utf8(t).unwrap()).collect();
    let scores = floats(gguf.value("tokenizer.ggml.scores")).unwrap();
    let normal = |id: usize| theirs.token_kind(id as u32) == Some(TokenKind::Normal);
    let ids: HashMap<&str, usize> =
        (0..tokens.len()).filter(|&id| normal(id)).map(|id| (tokens[id], id)).collect();
    let mut products: Vec<_> = ids.values().copied().collect();
    products.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]).then(a.cmp(&b)));
    let mut merges = Vec::new();
    for id in products {
        for (at, _) in tokens[id].char_indices().skip(1) {
            let (left, right) = tokens[id].split_at(at);
            if ids.contains_key(left) && ids.contains_key(right) {
                merges.push(format!("{left} {right}"));
            }
        }
    }
    let merges: Vec<&str> = merges.iter().map(|t| &t[..]).collect();
    spm_json(3, &tokens, &merges, spaces)
}

#[test]
fn ranks_of_a_real_vocabulary_become_its_scores() {
    let Some(path) = oracle("vocabs/ggml-vocab-llama-spm.gguf") else { return };
    let bytes = fs::read(&path).unwrap();
    let gguf = Gguf::parse(&bytes).unwrap();
    let theirs = Tokenizer::from_gguf(&gguf).unwrap();
    let tokenizer = from_json(&as_ranks(&gguf, PREPEND));
    let n = tokenizer.vocab_size();
    let read = read(&keys(&tokenizer, n).unwrap());
    // All its tokens in one text, in an order that no language has, and random texts of many.
    let token = |i: usize| str::from_utf8(theirs.token_bytes((259 + i) as u32).unwrap());
    let shuffled: String = (0..n - 259).flat_map(|i| token(i * 7919 % (n - 259))).collect();
    let texts = fs::read_to_string(format!("{}.inp", path.display())).unwrap();
    for text in texts.split("\n__ggml_vocab_test__\n").chain([&shuffled[..]]) {
        let ids = theirs.encode(text, Specials::Ignore);
        assert!(read.encode(text, Specials::Ignore) == ids, "{text:?}");
        assert!(tokenizer.encode(text, Specials::Ignore) == ids, "{text:?}");
    }
}

/// In a folder with both, tokenizer.model determines how texts begin and the order of merges.
#[test]
fn sentence_piece_s_own_file_goes_first() {
    let Some(folder) = oracle("llama") else { return };
    let plain = converted(&folder, "F32");
    let json = as_ranks(&Gguf::parse(&plain).unwrap(), METASPACE);
    let dir = Dir::copy("both", &folder, &[]);
    fs::write(dir.0.join("tokenizer.json"), &json).unwrap();
    let both = model(converted(&dir.0, "F32"));
    let mut texts = texts(&folder);
    texts.push("  spaces </s> in front".into());
    let (plain, both) = (read(&plain), both.tokenizer().unwrap());
    for text in &texts {
        let ids = plain.encode(text, Specials::Parse);
        assert_eq!(both.encode(text, Specials::Parse), ids, "{text:?}");
    }
    assert_eq!(plain.stop_ids(), both.stop_ids());
    // By itself, tokenizer.json has a rule that GGUF can't express: a space is added only if there
    // is none.
    fs::remove_file(dir.0.join("tokenizer.model")).unwrap();
    let e = FolderSource::open(&dir.0).unwrap_err();
    assert!(matches!(e.kind, QuantizeErrorKind::Tokenizer(_)), "{e}");
    assert!(e.to_string().contains("tokenizer.model"), "{e}");
    fs::write(
        dir.0.join("tokenizer.json"),
        as_ranks(&Gguf::parse(&converted(&folder, "F32")).unwrap(), PREPEND),
    )
    .unwrap();
    let alone = model(converted(&dir.0, "F32"));
    for text in &texts {
        let ids = plain.encode(text, Specials::Ignore);
        assert_eq!(alone.tokenizer().unwrap().encode(text, Specials::Ignore), ids, "{text:?}");
    }
}

/// BitNet folder with packed weights, four rows in one, like the published one.
fn packed(weights: &Path) -> Vec<u8> {
    let bytes = fs::read(weights).unwrap();
    let file = SafeTensors::parse(&bytes).unwrap();
    let (mut entries, mut data) = (Vec::new(), Vec::new());
    let mut put = |name: &str, dtype: &str, shape: &[u32], bytes: &[u8]| {
        let start = data.len();
        data.extend_from_slice(bytes);
        let end = data.len();
        entries.push(format!(
            r#""{name}":{{"dtype":"{dtype}","shape":{shape:?},"data_offsets":[{start},{end}]}}"#
        ));
    };
    for t in (0..file.len()).map(|i| file.nth(i).unwrap()) {
        let [rows, cols] = *t.shape() else {
            put(t.name, "F32", t.shape(), t.data);
            continue;
        };
        if !t.name.contains("_proj") {
            put(t.name, "F32", t.shape(), t.data);
            continue;
        }
        let x: Vec<_> = t.data.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
        let scale = x.iter().fold(0f32, |m, x| m.max(x.abs()));
        let (quarter, cols) = (rows as usize / 4, cols as usize);
        let mut codes = vec![0u8; quarter * cols];
        for (i, x) in x.iter().enumerate() {
            let (row, col) = (i / cols, i % cols);
            let code = (x / scale + 1.0) as u8;
            codes[row % quarter * cols + col] |= code << (2 * (row / quarter));
        }
        put(t.name, "U8", &[rows / 4, cols as u32], &codes);
        put(&format!("{}_scale", t.name), "F32", &[1], &scale.to_le_bytes());
    }
    let header = format!("{{{}}}", entries.join(","));
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &data].concat()
}

#[test]
fn packed_ternary_weights_are_the_same() {
    let Some(folder) = oracle("bitnet") else { return };
    let how = r#""model_type": "bitnet", "quantization_config": {"quant_method": "bitnet",
        "linear_class": "autobitlinear", "quantization_mode": "offline"}"#;
    let dir = Dir::copy("packed", &folder, &[("\"model_type\": \"bitnet\"", how)]);
    let weights = dir.0.join("model.safetensors");
    fs::write(&weights, packed(&weights)).unwrap();
    for target in ["I2_S", "TQ2_0", "F32"] {
        let (ours, theirs) = (converted(&dir.0, target), converted(&folder, target));
        let (ours, theirs) = (Gguf::parse(&ours).unwrap(), Gguf::parse(&theirs).unwrap());
        assert_eq!(ours.n_tensors(), theirs.n_tensors());
        for t in theirs.tensors() {
            let u = ours.tensor(t.name).unwrap();
            assert!((u.format, u.data) == (t.format, t.data), "{}", t.name);
        }
    }
}
