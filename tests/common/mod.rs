//! Shared parts of the whole-system tests: the models, their golden logits, and errors.

#![allow(dead_code, unreachable_pub)] // every test file uses another part

use std::path::{Path, PathBuf};

use teff::{LogitsFor, Model, Session, SessionOptions};
use teff_runtime::safetensors::SafeTensors;

#[cfg(feature = "cli")]
pub mod command;
pub mod tiny;

/// The copy of the small GPT-2 in the repository.
pub fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/gpt2").join(name)
}

/// A file of the oracles beside the checkout; `None` (and a line that says so) where it is absent.
pub fn oracle(name: &str) -> Option<PathBuf> {
    let found = oracle_quiet(name);
    if found.is_none() {
        println!("skipped: there is no {name} in ../shared/oracle or oracle2");
    }
    found
}

/// As [`oracle`], but says nothing.
pub fn oracle_quiet(name: &str) -> Option<PathBuf> {
    let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared");
    ["oracle", "oracle2"].into_iter().map(|o| shared.join(o).join(name)).find(|p| p.exists())
}

/// The GGUF files of a family: the copies in the repository, and the oracle's where it is there.
pub fn family_files(family: &str) -> Vec<PathBuf> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(family);
    let folder = oracle(family).unwrap_or(own);
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> =
        entries.filter(|p| p.extension().is_some_and(|e| e == "gguf")).collect();
    files.retain(|p| !p.ends_with("imatrix.gguf")); // no model
    files.sort();
    assert!(!files.is_empty(), "no file of {family}");
    files
}

/// Tokens and logits that another engine computed.
pub struct Golden {
    pub tokens: Vec<u32>,
    pub exact: Vec<f32>,
    pub peer: Option<Vec<f32>>,
}

pub fn golden(path: &Path) -> Golden {
    let bytes = std::fs::read(path).unwrap();
    let file = SafeTensors::parse(&bytes).unwrap();
    let words = |name: &str| file.get(name).map(|t| t.data.as_chunks::<4>().0.to_vec());
    let floats = |name| words(name).map(|w| w.into_iter().map(f32::from_le_bytes).collect());
    let tokens = words("tokens").unwrap().into_iter().map(u32::from_le_bytes).collect();
    Golden { tokens, exact: floats("exact").unwrap(), peer: floats("peer") }
}

/// `sum((a - b)^2) / sum(b^2)`.
pub fn nmse(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    let square = |x: f64| x * x;
    let error: f64 = a.iter().zip(b).map(|(a, b)| square(f64::from(*a) - f64::from(*b))).sum();
    error / b.iter().map(|b| square(f64::from(*b))).sum::<f64>()
}

/// The logits of all tokens, `chunk` of them at a time.
pub fn logits(session: &mut Session<'_>, tokens: &[u32], chunk: usize) -> Vec<f32> {
    let mut all = Vec::new();
    for part in tokens.chunks(chunk) {
        all.extend_from_slice(session.eval(part, LogitsFor::All).unwrap());
    }
    all
}

/// Options for the logits of all tokens on one thread.
pub fn options() -> SessionOptions {
    SessionOptions { batch: 96, logits: 96, threads: Some(1), ..SessionOptions::default() }
}

pub fn all_logits(model: &Model, tokens: &[u32]) -> Vec<f32> {
    logits(&mut model.session(&options()).unwrap(), tokens, 96)
}
