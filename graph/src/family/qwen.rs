//! Qwen 2 and 2.5 (2024): Llama's shape with biases of queries, keys and values; and Qwen 3 (2025):
//! without them, but with norms of queries and keys and a head width of its own.

use core::fmt;

use teff_kernels::RopeKind;

use super::decoder::{self, Keys, keys};
use super::names::{LLAMA_NORMS, hf_ignored, hf_name};
use super::{Family, Shapes};
use crate::meta::{Metadata, flag};
use crate::spec::{Biases, Head};
use crate::{Role, Spec, SpecError};

const QWEN2_KEYS: Keys = keys!("qwen2");
const QWEN3_KEYS: Keys = keys!("qwen3");

/// Qwen 2 and 2.5.
pub static QWEN2: Family = FAMILY;

const FAMILY: Family = Family {
    arch: "qwen2",
    classes: &["Qwen2ForCausalLM"],
    model_type: "qwen2",
    prefix: "model.",
    from_gguf: |meta, shapes| from_gguf(meta, shapes, &QWEN2_KEYS),
    from_config: |meta, shapes| from_config(meta, shapes, &QWEN2_KEYS),
    hf_name: name,
    hf_transposed: |_| false,
    hf_shift: |_| 0.0,
    hf_ignored,
    ternary: false,
};

/// Qwen 3.
pub static QWEN3: Family = Family {
    arch: "qwen3",
    classes: &["Qwen3ForCausalLM"],
    model_type: "qwen3",
    from_gguf: |meta, shapes| from_gguf(meta, shapes, &QWEN3_KEYS),
    from_config: |meta, shapes| from_config(meta, shapes, &QWEN3_KEYS),
    ..FAMILY
};

fn name(role: Role, out: &mut dyn fmt::Write) -> fmt::Result {
    hf_name(&LLAMA_NORMS, role, out)
}

/// What tells the two apart.
fn with_switches(spec: Spec, biases: Biases) -> Result<Spec, SpecError> {
    let spec = if spec.arch == QWEN3_KEYS.arch {
        Spec { qk_norms: true, biases, ..spec }
    } else {
        Spec { biases: Biases { qkv: true, ..biases }, ..spec }
    };
    spec.validate()?;
    Ok(spec)
}

/// The shape of Qwen 2.5 14B.
#[must_use]
pub fn qwen2_5_14b() -> Spec {
    let s = decoder::Sizes {
        context: 32768,
        width: 5120,
        layers: 48,
        heads: 40,
        kv_heads: 8,
        head_dim: 128,
        ffn: 13824,
        eps: 1e-6,
    };
    let spec = super::published("qwen2", &s, RopeKind::NeoX, 1e6, 152_064, Head::Own);
    Spec { biases: Biases { qkv: true, ..Biases::NONE }, ..spec }
}

/// The shape of Qwen 3 14B.
#[must_use]
pub fn qwen3_14b() -> Spec {
    let s = decoder::Sizes {
        context: 40960,
        width: 5120,
        layers: 40,
        heads: 40,
        kv_heads: 8,
        head_dim: 128,
        ffn: 17408,
        eps: 1e-6,
    };
    let spec = super::published("qwen3", &s, RopeKind::NeoX, 1e6, 151_936, Head::Own);
    Spec { qk_norms: true, ..spec }
}

fn from_gguf(meta: &dyn Metadata, shapes: &dyn Shapes, keys: &Keys) -> Result<Spec, SpecError> {
    let s = decoder::gguf_sizes(meta, keys)?;
    let rotary = decoder::gguf_rotary(meta, shapes, keys, RopeKind::NeoX, s.head_dim)?;
    let (embd, head) = (shapes.shape("token_embd.weight"), decoder::gguf_head(shapes));
    let spec = decoder::spec(keys.arch, &s, rotary, embd, head)?;
    with_switches(spec, decoder::gguf_biases(shapes))
}

fn from_config(meta: &dyn Metadata, shapes: &dyn Shapes, keys: &Keys) -> Result<Spec, SpecError> {
    let s = decoder::config_sizes(meta)?;
    let rotary = decoder::config_rotary(meta, s.head_dim, 10_000.0)?;
    decoder::config_activation(meta, "hidden_act", &["silu"], "silu")?;
    if flag(meta, "use_sliding_window")?.unwrap_or(false) {
        let (key, known) = ("use_sliding_window", "false");
        return Err(SpecError::Unsupported { key, known });
    }
    let embd = decoder::config_embedding(meta, shapes)?;
    let spec = decoder::spec(keys.arch, &s, rotary, embd, decoder::config_head(meta, false)?)?;
    let attn = flag(meta, "attention_bias")?.unwrap_or(false);
    with_switches(spec, Biases { qkv: attn, attn_out: attn, ffn: false })
}
