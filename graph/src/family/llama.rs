//! Llama (Touvron et al., 2023; also Llama 2 and 3) and models of its shape, such as Mistral: RMS
//! norms, rotary positions, grouped queries, and gated SiLU.
//!
//! GGUF files store the rows of queries and keys in the order in which neighbours are rotated
//! together, Hugging Face files in that of halves.

use teff_kernels::RopeKind;

use super::decoder::{self, Biases, Keys, keys};
use super::names::hf_ignored;
use super::{Family, GgufForm, Names, Shapes, folder_reader};
use crate::layers::Layer;
use crate::meta::{Metadata, Value, count, flag};
#[cfg(feature = "alloc")]
use crate::spec::Head;
use crate::{Spec, SpecError, SpecRoom};

const KEYS: Keys = keys!("llama");

const FAMILY: Family = Family {
    arch: "llama",
    classes: &["LlamaForCausalLM"],
    model_type: "llama",
    prefix: "model.",
    from_gguf,
    from_config: folder_reader(from_config),
    names: Names::LLAMA,
    // Windows have a key that Teff reads but llama.cpp ignores.
    gguf: GgufForm { rope: RopeKind::Norm, rope_factors: true, window: false, scales: false },
    hf_transposed: |_| false,
    hf_shift: |_| 0.0,
    hf_ignored,
    ternary: false,
};

/// Llama.
pub static LLAMA: Family = FAMILY;

/// Mistral's class in Hugging Face folders, in which all layers may have a window. Its GGUF files
/// are Llama's.
pub static MISTRAL: Family =
    Family { arch: "", classes: &["MistralForCausalLM"], model_type: "mistral", ..FAMILY };

/// Shape of TinyLlama 1.1B.
#[cfg(feature = "alloc")]
#[must_use]
pub fn tinyllama() -> Spec<'static> {
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
    decoder::published("llama", &s, (RopeKind::Norm, 10_000.0), 32000, Head::Own, |l| l)
}

fn from_gguf<'p>(
    meta: &dyn Metadata,
    shapes: &dyn Shapes,
    room: &'p mut SpecRoom,
) -> Result<Spec<'p>, SpecError> {
    let s = decoder::gguf_sizes(meta, &KEYS)?;
    let rope = decoder::gguf_rope(meta, shapes, &KEYS, RopeKind::Norm, s.head_dim)?;
    let rope = room.rope(rope)?;
    let (embd, head) = (shapes.shape("token_embd.weight"), decoder::gguf_head(shapes));
    let layer = decoder::layer(&s, rope, decoder::gguf_biases(shapes));
    let layer = with_window(layer, meta, KEYS.window)?;
    decoder::spec(KEYS.arch, &s, embd, head, room, |_| layer)
}

/// Layer with the window of the model, if its key is present and not 0.
fn with_window(layer: Layer, meta: &dyn Metadata, key: &'static str) -> Result<Layer, SpecError> {
    let window = match meta.get(key) {
        Some(Value::Uint(0)) => None,
        _ => count(meta, key)?,
    };
    Ok(decoder::with_attention(layer, |a| a.window = window))
}

fn from_config<'p>(
    meta: &dyn Metadata,
    shapes: &dyn Shapes,
    room: &'p mut SpecRoom,
) -> Result<Spec<'p>, SpecError> {
    let s = decoder::config_sizes(meta)?;
    let rope = room.rope(decoder::config_rope(meta, s.head_dim, 10_000.0)?)?;
    decoder::config_activation(meta, "hidden_act", &["silu"], "silu")?;
    let embd = decoder::config_embedding(meta, shapes)?;
    let attn = flag(meta, "attention_bias")?.unwrap_or(false);
    let ffn = flag(meta, "mlp_bias")?.unwrap_or(false);
    let layer = decoder::layer(&s, rope, Biases { qkv: attn, attn_out: attn, ffn });
    // Only in Mistral's files.
    let layer = with_window(layer, meta, "sliding_window")?;
    let head = decoder::config_head(meta, false)?;
    decoder::spec(KEYS.arch, &s, embd, head, room, |_| layer)
}
