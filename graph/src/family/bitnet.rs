//! BitNet b1.58 (Ma et al., 2024): ternary weights, inputs of 8 bits with one scale a token, norms
//! before the last product of each part, squared ReLU with a gate (SiLU in the first reproduction).
//!
//! Three architectures of GGUF are such models: `bitnet-b1.58` (the published 2B-4T), its forerunner
//! `bitnet-25`, and llama.cpp's `bitnet`.

use core::fmt;

use teff_kernels::RopeKind;

use super::decoder::{self, Keys, keys};
use super::names::{LLAMA_NORMS, hf_ignored, hf_name};
use super::{Family, Shapes};
use crate::meta::{Metadata, flag};
use crate::spec::{Activation, Head};
use crate::{Spec, SpecError};

const B158_KEYS: Keys = keys!("bitnet-b1.58");
const B25_KEYS: Keys = keys!("bitnet-25");
const KEYS: Keys = keys!("bitnet");

const FAMILY: Family = Family {
    arch: "bitnet-b1.58",
    classes: &["BitNetForCausalLM"],
    model_type: "bitnet",
    prefix: "model.",
    from_gguf: |meta, shapes| from_gguf(meta, shapes, &B158_KEYS),
    from_config,
    hf_name: |role, out: &mut dyn fmt::Write| hf_name(&LLAMA_NORMS, role, out),
    hf_transposed: |_| false,
    hf_shift: |_| 0.0,
    hf_ignored,
    ternary: true,
};

/// The published model's architecture.
pub static BITNET_B158: Family = FAMILY;

/// Its forerunner's.
pub static BITNET_25: Family = Family {
    arch: "bitnet-25",
    classes: &[],
    model_type: "",
    from_gguf: |meta, shapes| from_gguf(meta, shapes, &B25_KEYS),
    ..FAMILY
};

/// llama.cpp's.
pub static BITNET: Family = Family {
    arch: "bitnet",
    classes: &[],
    model_type: "",
    from_gguf: |meta, shapes| from_gguf(meta, shapes, &KEYS),
    ..FAMILY
};

/// The shape of BitNet b1.58 2B-4T.
#[must_use]
pub fn bitnet_2b() -> Spec {
    let s = decoder::Sizes {
        context: 4096,
        width: 2560,
        layers: 30,
        heads: 20,
        kv_heads: 5,
        head_dim: 128,
        ffn: 6912,
        eps: 1e-5,
    };
    let rope = (RopeKind::NeoX, 500_000.0);
    let spec = super::published("bitnet-b1.58", &s, rope.0, rope.1, 128_256, Head::Tied);
    with_switches(spec, Activation::Relu2)
}

fn with_switches(spec: Spec, activation: Activation) -> Spec {
    Spec { sub_norms: true, activation, token_scales: true, ..spec }
}

fn from_gguf(meta: &dyn Metadata, shapes: &dyn Shapes, keys: &Keys) -> Result<Spec, SpecError> {
    let s = decoder::gguf_sizes(meta, keys)?;
    let rotary = decoder::gguf_rotary(meta, shapes, keys, RopeKind::NeoX, s.head_dim)?;
    let (embd, head) = (shapes.shape("token_embd.weight"), decoder::gguf_head(shapes));
    // No key names the function. The first reproduction, whose files are `bitnet`, has SiLU, and as
    // many heads of keys as of queries; all models since then have squared ReLU, and fewer.
    let silu = keys.arch == KEYS.arch && s.heads == s.kv_heads;
    let activation = if silu { Activation::Silu } else { Activation::Relu2 };
    let spec = with_switches(decoder::spec(keys.arch, &s, rotary, embd, head)?, activation);
    spec.validate()?;
    Ok(spec)
}

fn from_config(meta: &dyn Metadata, shapes: &dyn Shapes) -> Result<Spec, SpecError> {
    let s = decoder::config_sizes(meta)?;
    let rotary = decoder::config_rotary(meta, s.head_dim, 500_000.0)?;
    decoder::config_activation(meta, "hidden_act", &["relu2"], "relu2")?;
    if flag(meta, "attention_bias")?.unwrap_or(false) {
        return Err(SpecError::Unsupported { key: "attention_bias", known: "false" });
    }
    // What the ternary format needs that they are kept in.
    let widths = [s.width, s.ffn, s.heads.saturating_mul(s.head_dim)];
    if widths.iter().any(|n| !n.is_multiple_of(128)) {
        return Err(SpecError::Inconsistent("ternary weights come in rows of multiples of 128"));
    }
    let embd = decoder::config_embedding(meta, shapes)?;
    let head = decoder::config_head(meta, false)?;
    let spec = decoder::spec(B158_KEYS.arch, &s, rotary, embd, head)?;
    let spec = with_switches(spec, Activation::Relu2);
    spec.validate()?;
    Ok(spec)
}
