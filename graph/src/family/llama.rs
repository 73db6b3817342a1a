//! Llama (Touvron et al., 2023; Llama 2 and 3 alike) and what has its shape, such as Mistral: RMS
//! norms, rotary positions, grouped queries, SiLU with a gate.
//!
//! GGUF files have the rows of queries and keys in the order in which neighbours are turned together,
//! Hugging Face files in that of halves.

use core::fmt;

use teff_kernels::RopeKind;

use super::decoder::{self, Keys, keys};
use super::names::{LLAMA_NORMS, hf_ignored, hf_name};
use super::{Family, Shapes};
use crate::meta::{Metadata, Value, count, flag};
use crate::spec::{Biases, Head, Window};
use crate::{Role, Spec, SpecError};

const KEYS: Keys = keys!("llama");

const FAMILY: Family = Family {
    arch: "llama",
    classes: &["LlamaForCausalLM"],
    model_type: "llama",
    prefix: "model.",
    from_gguf,
    from_config,
    hf_name: name,
    hf_transposed: |_| false,
    hf_shift: |_| 0.0,
    hf_ignored,
    ternary: false,
};

/// The family.
pub static LLAMA: Family = FAMILY;

/// Mistral's class in Hugging Face folders: all layers may have a window. Its GGUF files are Llama's.
pub static MISTRAL: Family =
    Family { arch: "", classes: &["MistralForCausalLM"], model_type: "mistral", ..FAMILY };

fn name(role: Role, out: &mut dyn fmt::Write) -> fmt::Result {
    hf_name(&LLAMA_NORMS, role, out)
}

/// The shape of TinyLlama 1.1B.
#[must_use]
pub fn tinyllama() -> Spec {
    let s = decoder::Sizes {
        context: 2048,
        width: 2048,
        layers: 22,
        heads: 32,
        kv_heads: 4,
        head_dim: 64,
        ffn: 5632,
        eps: 1e-5,
    };
    super::published("llama", &s, RopeKind::Norm, 10_000.0, 32000, Head::Own)
}

fn from_gguf(meta: &dyn Metadata, shapes: &dyn Shapes) -> Result<Spec, SpecError> {
    let s = decoder::gguf_sizes(meta, &KEYS)?;
    let rotary = decoder::gguf_rotary(meta, shapes, &KEYS, RopeKind::Norm, s.head_dim)?;
    let (embd, head) = (shapes.shape("token_embd.weight"), decoder::gguf_head(shapes));
    let window = window(meta, KEYS.window)?;
    let spec = decoder::spec(KEYS.arch, &s, rotary, embd, head)?;
    let spec = Spec { biases: decoder::gguf_biases(shapes), window, ..spec };
    spec.validate()?;
    Ok(spec)
}

/// A window of all layers; 0 is none.
fn window(meta: &dyn Metadata, key: &'static str) -> Result<Option<Window>, SpecError> {
    if meta.get(key) == Some(Value::Uint(0)) {
        return Ok(None);
    }
    Ok(count(meta, key)?.map(|size| Window { size, full_every: 0 }))
}

fn from_config(meta: &dyn Metadata, shapes: &dyn Shapes) -> Result<Spec, SpecError> {
    let s = decoder::config_sizes(meta)?;
    let rotary = decoder::config_rotary(meta, s.head_dim, 10_000.0)?;
    decoder::config_activation(meta, "hidden_act", &["silu"], "silu")?;
    let embd = decoder::config_embedding(meta, shapes)?;
    let spec = decoder::spec(KEYS.arch, &s, rotary, embd, decoder::config_head(meta, false)?)?;
    let attn = flag(meta, "attention_bias")?.unwrap_or(false);
    let ffn = flag(meta, "mlp_bias")?.unwrap_or(false);
    let biases = Biases { qkv: attn, attn_out: attn, ffn };
    // Only Mistral's files have it.
    let spec = Spec { biases, window: window(meta, "sliding_window")?, ..spec };
    spec.validate()?;
    Ok(spec)
}
