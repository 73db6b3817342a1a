//! Folders of a kind that people reported to other engines, with the logits of transformers 5.24 in f32
//! (`docs/compatibility.md` has the rules).

use std::fs;
use std::path::{Path, PathBuf};

use crate::common::{all_logits, golden, nmse};
use teff::Model;

/// Configuration and logits, weights, and the keys that warnings name.
const CASES: [(&str, &str, &[&str]); 11] = [
    // A head of its own in a file that ties it.
    ("02-head", "llama", &["tie_word_embeddings"]),
    // The base inside `rope_scaling`, and `rope_parameters` beside it.
    ("03-scaling", "llama", &[]),
    ("03-both", "llama", &["rope_parameters"]),
    // A window in a Llama.
    ("04-window", "llama", &["sliding_window"]),
    // Sizes that are the class's defaults.
    ("15-defaults", "gemma3-small", &[]),
    // A scaling in layers with a window.
    ("18-linear", "llama", &[]),
    ("18-llama3", "llama", &[]),
    ("18-long", "llama", &[]),
    // `type` in `rope_parameters`, and the original context outside of them.
    ("41-type", "rope", &[]),
    ("42-original", "rope", &["rope_scaling.original_max_position_embeddings"]),
    // Gemma 3 with a scaling of the layers with a window.
    ("43-sliding", "gemma3", &[]),
];

fn cases() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/cases")
}

/// A folder that is removed again.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str, config: &str, weights: &Path) -> Folder {
        let path = std::env::temp_dir().join(format!("teff-case-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        fs::copy(cases().join(format!("{config}.config.json")), path.join("config.json")).unwrap();
        fs::copy(weights, path.join("model.safetensors")).unwrap();
        Folder(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn check(folder: &Folder, name: &str, keys: &[&str]) -> Model {
    let model = Model::open(&folder.0).unwrap();
    let warned: Vec<&str> = model.warnings().iter().map(|w| &*w.key).collect();
    assert_eq!(warned, keys, "{name}");
    let g = golden(&cases().join(format!("{name}.golden.safetensors")));
    let e = nmse(&all_logits(&model, &g.tokens), &g.exact);
    println!("{name}: NMSE {e:.2e}");
    assert!(e <= 1e-9, "{name}: {e:e}");
    model
}

#[test]
fn reported_folders_have_transformers_logits() {
    for (name, weights, keys) in CASES {
        let weights = cases().join(format!("{weights}.safetensors"));
        check(&Folder::new(name, name, &weights), name, keys);
    }
}

/// The default of Gemma 3's windows is longer than the text, and decides the rotary base.
#[test]
fn gemma_without_a_window_has_the_default() {
    let weights = cases().join("gemma3.safetensors");
    let model = check(&Folder::new("44", "44-no-window", &weights), "44-no-window", &[]);
    let mut windows = model.spec().layers.iter().map(|l| l.attention().unwrap().window);
    assert!(windows.all(|w| w == Some(4096)));
}

/// The same model as a part of one for texts and images gives the same bits.
#[test]
fn gemma_in_a_larger_model() {
    let weights = cases().join("gemma3-small.safetensors");
    let plain = Model::open(&Folder::new("15", "15-defaults", &weights).0).unwrap();
    let tokens = golden(&cases().join("15-defaults.golden.safetensors")).tokens;
    let nested = Model::open(&Folder::new("15n", "15-nested", &weights).0).unwrap();
    let (a, b) = (all_logits(&plain, &tokens), all_logits(&nested, &tokens));
    assert!(a.iter().zip(&b).all(|(a, b)| a.to_bits() == b.to_bits()));
}
