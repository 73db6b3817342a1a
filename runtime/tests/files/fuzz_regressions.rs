//! Malicious files, found by the fuzzer or by hand: each fails in time and with an error, or loads
//! within its size.

use crate::common;
use teff_graph::family::gpt2;
use teff_graph::{Head, Spec};
use teff_runtime::{LoadOptions, Model};

fn string(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(&(text.len() as u64).to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}

/// A GPT-2 of `layers` layers whose tensors all share the same bytes; vectors are F16, so that each
/// has to be converted.
fn overlapping(layers: u32, ffn: u32) -> Vec<u8> {
    let sizes = [
        ("gpt2.context_length", 1),
        ("gpt2.embedding_length", 32),
        ("gpt2.feed_forward_length", ffn),
        ("gpt2.block_count", layers),
        ("gpt2.attention.head_count", 2),
    ];
    let small = gpt2::small().with_layers(|l| common::layer(l, 2, 2, 16, ffn as usize));
    let spec = Spec {
        vocab: 1,
        context: 1,
        layers: small.layers.with_len(layers),
        width: 32,
        head: Head::Tied,
        ..small
    };
    let mut out = b"GGUF\x03\0\0\0".to_vec();
    out.extend_from_slice(&(spec.tensors() as u64).to_le_bytes());
    out.extend_from_slice(&(2 + sizes.len() as u64).to_le_bytes());
    string(&mut out, "general.architecture");
    out.extend_from_slice(&8u32.to_le_bytes());
    string(&mut out, "gpt2");
    string(&mut out, "gpt2.attention.layer_norm_epsilon");
    out.extend_from_slice(&6u32.to_le_bytes());
    out.extend_from_slice(&1e-5f32.to_le_bytes());
    for (key, n) in sizes {
        string(&mut out, key);
        out.extend_from_slice(&4u32.to_le_bytes());
        out.extend_from_slice(&n.to_le_bytes());
    }
    let mut largest = 0;
    for slot in spec.slots() {
        let mut name = String::new();
        gpt2::GPT2.gguf_name(slot.role, &mut name).unwrap();
        string(&mut out, &name);
        let dims = [slot.cols as u64, slot.rows as u64];
        let dims = if slot.is_vector() { &dims[..1] } else { &dims };
        out.extend_from_slice(&(dims.len() as u32).to_le_bytes());
        for d in dims {
            out.extend_from_slice(&d.to_le_bytes());
        }
        // F16 or Q4_0, at offset 0 of the data.
        out.extend_from_slice(&if slot.is_vector() { 1u32 } else { 2 }.to_le_bytes());
        out.extend_from_slice(&0u64.to_le_bytes());
        let bytes = if slot.is_vector() { slot.cols * 2 } else { slot.rows * slot.cols / 32 * 18 };
        largest = largest.max(bytes);
    }
    out.resize(out.len().next_multiple_of(32) + largest, 0);
    out
}

/// Before overlaps were an error, this file of 1.3 MB took 133 MB, and a larger one any multiple.
#[test]
fn overlapping_tensors_take_no_multiple_of_the_file() {
    for (layers, ffn) in [(2, 64), (64, 4096), (512, 65536)] {
        let file = overlapping(layers, ffn);
        let len = file.len() as u64;
        match Model::from_bytes(file, &LoadOptions::default()) {
            Ok(model) => assert!(model.owned_bytes() <= 3 * len + (1 << 20)),
            Err(e) => assert!(e.to_string().contains("share bytes"), "{e}"),
        }
    }
}
