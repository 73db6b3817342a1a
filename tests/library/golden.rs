//! Logits compared to those of independent engines for the same files.

use std::path::Path;

use crate::common::{all_logits, data, golden, nmse, oracle};
use teff::Model;

/// Compared to transformers in f32 on the same f32 weights.
#[test]
fn f32_files_agree_with_transformers() {
    for name in ["", "gpt2-f32.gguf"] {
        let model = Model::open(data(name)).unwrap();
        let file = if name.is_empty() { "model.safetensors" } else { name };
        let g = golden(&data(&format!("{file}.golden.safetensors")));
        let e = nmse(&all_logits(&model, &g.tokens), &g.exact);
        println!("{file}: NMSE {e:.2e}");
        assert!(e <= 1e-9, "{file}: {e:e}");
    }
}

fn quantized(path: &Path) {
    let model = Model::open(path).unwrap();
    let g = golden(Path::new(&format!("{}.golden.safetensors", path.display())));
    let ours = nmse(&all_logits(&model, &g.tokens), &g.exact);
    let peer = nmse(&g.peer.unwrap(), &g.exact);
    println!("{}: NMSE {ours:.3e}, the peer's {peer:.3e}", path.display());
    assert!(ours <= 1.1 * peer, "{}: {ours:e} > 1.1 * {peer:e}", path.display());
}

/// Measured by llama.cpp's own error on the same file, with its quantised kernels.
#[test]
fn quantized_files_are_as_exact_as_the_peer() {
    for format in ["F16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1"] {
        quantized(&data(&format!("gpt2-{format}.gguf")));
    }
    // The wider model, whose rows are whole super-blocks; the mixes have tensors in other formats.
    for mix in ["Q2_K", "Q3_K_S", "Q4_K_M", "Q5_K_S"] {
        quantized(&data(&format!("../gpt2-k/gpt2-k-{mix}.gguf")));
    }
    // With an importance matrix.
    quantized(&data("../llama-iq/llama-iq-IQ4_XS.gguf"));
    for mix in ["Q4_0", "Q4_K_S", "Q6_K", "Q8_0"] {
        if let Some(path) = oracle(&format!("gpt2-k/gpt2-k-{mix}.gguf")) {
            quantized(&path);
        }
    }
}
