//! Qwen 2 and 2.5 (2024): Llama's shape with biases of queries, keys and values; and Qwen 3 (2025):
//! without these biases, but with norms of queries and keys and an independent head dimension.

use teff_kernels::RopeKind;

use super::decoder::{self, Biases, Keys, Sizes, keys};
use super::names::hf_ignored;
use super::{Family, GgufForm, Names, Shapes, folder_reader};
use crate::layers::Layer;
use crate::meta::{Metadata, flag};
#[cfg(feature = "alloc")]
use crate::spec::Head;
use crate::{Spec, SpecError, SpecRoom};

const QWEN2_KEYS: Keys = keys!("qwen2");
const QWEN3_KEYS: Keys = keys!("qwen3");

/// Qwen 2 and 2.5.
pub static QWEN2: Family = FAMILY;

const FAMILY: Family = Family {
    arch: "qwen2",
    classes: &["Qwen2ForCausalLM"],
    model_type: "qwen2",
    prefix: "model.",
    from_gguf: |meta, shapes, room| from_gguf(meta, shapes, room, &QWEN2_KEYS),
    from_config: folder_reader(|meta, shapes, room| from_config(meta, shapes, room, &QWEN2_KEYS)),
    names: Names::LLAMA,
    gguf: GgufForm::HALVES,
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
    from_gguf: |meta, shapes, room| from_gguf(meta, shapes, room, &QWEN3_KEYS),
    from_config: folder_reader(|meta, shapes, room| from_config(meta, shapes, room, &QWEN3_KEYS)),
    ..FAMILY
};

/// Layer of either family.
fn layer(s: &Sizes, rope: u8, arch: &str, biases: Biases) -> Layer {
    if arch == QWEN3_KEYS.arch {
        let layer = decoder::layer(s, rope, biases);
        decoder::with_attention(layer, |a| a.qk_norm = true)
    } else {
        decoder::layer(s, rope, Biases { qkv: true, ..biases })
    }
}

/// Shape of Qwen 2.5 14B.
#[cfg(feature = "alloc")]
#[must_use]
pub fn qwen2_5_14b() -> Spec<'static> {
    let s = Sizes {
        context: 32768,
        width: 5120,
        layers: 48,
        heads: 40,
        kv_heads: 8,
        head_dim: 128,
        ffn: 13824,
        eps: 1e-6,
    };
    decoder::published("qwen2", &s, (RopeKind::NeoX, 1e6), 152_064, Head::Own, |_| {
        layer(&s, 0, "qwen2", Biases::NONE)
    })
}

/// Shape of Qwen 3 14B.
#[cfg(feature = "alloc")]
#[must_use]
pub fn qwen3_14b() -> Spec<'static> {
    let s = Sizes {
        context: 40960,
        width: 5120,
        layers: 40,
        heads: 40,
        kv_heads: 8,
        head_dim: 128,
        ffn: 17408,
        eps: 1e-6,
    };
    decoder::published("qwen3", &s, (RopeKind::NeoX, 1e6), 151_936, Head::Own, |_| {
        layer(&s, 0, "qwen3", Biases::NONE)
    })
}

fn from_gguf<'p>(
    meta: &dyn Metadata,
    shapes: &dyn Shapes,
    room: &'p mut SpecRoom,
    keys: &Keys,
) -> Result<Spec<'p>, SpecError> {
    let s = decoder::gguf_sizes(meta, keys)?;
    let rope = decoder::gguf_rope(meta, shapes, keys, RopeKind::NeoX, s.head_dim)?;
    let rope = room.rope(rope)?;
    let (embd, head) = (shapes.shape("token_embd.weight"), decoder::gguf_head(shapes));
    let layer = layer(&s, rope, keys.arch, decoder::gguf_biases(shapes));
    decoder::spec(keys.arch, &s, embd, head, room, |_| layer)
}

/// Returns an error if the window is enabled, as in no published model of the family.
pub(super) fn no_window(meta: &dyn Metadata) -> Result<(), SpecError> {
    if flag(meta, "use_sliding_window")?.unwrap_or(false) {
        let (key, known) = ("use_sliding_window", "false");
        return Err(SpecError::Unsupported { key, known });
    }
    Ok(())
}

fn from_config<'p>(
    meta: &dyn Metadata,
    shapes: &dyn Shapes,
    room: &'p mut SpecRoom,
    keys: &Keys,
) -> Result<Spec<'p>, SpecError> {
    let s = decoder::config_sizes(meta)?;
    let rope = room.rope(decoder::config_rope(meta, s.head_dim, 10_000.0)?)?;
    decoder::config_activation(meta, "hidden_act", &["silu"], "silu")?;
    no_window(meta)?;
    let embd = decoder::config_embedding(meta, shapes)?;
    let attn = flag(meta, "attention_bias")?.unwrap_or(false);
    let layer = layer(&s, rope, keys.arch, Biases { qkv: attn, attn_out: attn, ffn: false });
    let head = decoder::config_head(meta, false)?;
    decoder::spec(keys.arch, &s, embd, head, room, |_| layer)
}
