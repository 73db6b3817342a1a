//! Warnings of the command: each once, on standard error, and again in what `inspect` prints; and
//! files that are only a part of a model, or only its vocabulary.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::common::data;
use crate::common::tiny;
use teff::Format;
use teff_graph::gguf::Gguf;
use teff_runtime::gguf_split::{SplitBy, split_gguf};
use teff_runtime::gguf_write::GgufHeader;
use teff_runtime::json::Reader;

/// Folder of its own for each test, removed when dropped.
struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Dir {
        let dir = std::env::temp_dir().join(format!("teff-warnings-{name}-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        Dir(dir)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Output and lines of standard error of a command that succeeds.
fn teff(sub: &str, model: &Path, args: &[&str]) -> (String, Vec<String>) {
    let all = [OsStr::new(sub), model.as_os_str()].into_iter().chain(args.iter().map(OsStr::new));
    let mut command = Command::new(env!("CARGO_BIN_EXE_teff"));
    let output = command.args(all).stdin(Stdio::null()).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let (out, err) = (text(output.stdout), text(output.stderr));
    assert!(output.status.success(), "{err}");
    (out, err.lines().map(str::to_owned).collect())
}

/// A folder whose config.json ties a head that differs from the embedding.
fn folder() -> Dir {
    let dir = Dir::new("folder");
    tiny::qwen3moe(r#""tie_word_embeddings":true,"#).write(&dir.0, Format::F32);
    for file in ["tokenizer.json", "tokenizer_config.json"] {
        fs::copy(data(file), dir.0.join(file)).unwrap();
    }
    dir
}

#[test]
fn each_warning_is_printed_once() {
    let dir = folder();
    let line = "teff: warning: `tie_word_embeddings` is true; taken: the head's own weights, since";
    let logits = dir.0.join("out.f32");
    let logits = ["--tokens", "1,2", "--out", logits.to_str().unwrap()];
    let quantized = dir.0.join("out.gguf");
    let quantize = [quantized.to_str().unwrap(), "--to", "Q8_0"];
    for (sub, args) in [("inspect", &[][..]), ("logits", &logits), ("quantize", &quantize)] {
        for model in [dir.0.clone(), dir.0.join("model.safetensors")] {
            let (_, lines) = teff(sub, &model, args);
            let warnings: Vec<_> = lines.iter().filter(|l| l.contains("warning")).collect();
            assert_eq!(warnings.len(), 1, "{sub}: {lines:?}");
            assert!(warnings[0].starts_with(line), "{sub}: {lines:?}");
        }
    }
    let (text, _) = teff("inspect", &dir.0, &[]);
    assert!(text.contains("\nwarning       `tie_word_embeddings` is true;"), "{text}");
    let (json, _) = teff("inspect", &dir.0, &["--json"]);
    let mut reader = Reader::new(json.as_bytes());
    while reader.next().unwrap().is_some() {}
    let warning =
        r#""warnings":[{"key":"tie_word_embeddings","found":"true","taken":"the head's own"#;
    assert!(json.contains(warning), "{json}");
    // A model without contradictions has none.
    let (json, lines) = teff("inspect", &data("gpt2-Q8_0.gguf"), &["--json"]);
    assert!(json.contains(r#""warnings":[]"#) && lines.is_empty(), "{lines:?}");
}

#[test]
fn parts_and_vocabularies() {
    let dir = Dir::new("parts");
    let whole = data("gpt2-Q8_0.gguf");
    let parts = split_gguf(&whole, dir.0.join("m"), SplitBy::Tensors(16)).unwrap();
    let logits = |model: &Path| {
        let out = dir.0.join("out.f32");
        teff("logits", model, &["--tokens", "1,2,3", "--out", out.to_str().unwrap()]);
        fs::read(out).unwrap()
    };
    let want = logits(&whole);
    assert!(parts.iter().all(|part| logits(part) == want));
    let tokens = |model: &Path| {
        let (ids, _) = teff("tokenize", model, &["--text", "Hello world"]);
        let (text, _) = teff("detokenize", model, &["--ids", ids.trim()]);
        assert_eq!(text, "Hello world");
        ids
    };
    let want = tokens(&whole);
    assert!(parts.iter().all(|part| tokens(part) == want));
    // A vocabulary of an architecture that Teff doesn't run.
    let bytes = fs::read(&whole).unwrap();
    let mut header = GgufHeader::new();
    for (key, value) in Gguf::parse(&bytes).unwrap().metadata() {
        if key != "general.architecture" {
            header.put(key, value).unwrap();
        }
    }
    if !Gguf::parse(&bytes).unwrap().metadata().any(|(key, _)| key == "tokenizer.ggml.pre") {
        header.put("tokenizer.ggml.pre", teff_graph::gguf::GgufValue::Str("gpt-2")).unwrap();
    }
    let path = dir.0.join("vocab.gguf");
    fs::write(&path, header.write(Vec::new()).unwrap().finish().unwrap()).unwrap();
    assert_eq!(tokens(&path), want);
}
