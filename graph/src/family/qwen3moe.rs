//! Qwen 3 with experts (2025): Qwen 3's attention, and a mixture of experts as feed-forward part.
//!
//! A folder may have layers without experts, and may leave the probabilities of the chosen experts
//! unnormalised (`norm_topk_prob`). GGUF files can express neither: all layers have experts, whose
//! probabilities are divided by their sum.

use teff_kernels::RopeKind;

use super::decoder::{self, Biases, Keys, Sizes, keys};
use super::hf::{self, Class};
use super::hf_rope;
use super::names::hf_ignored;
use super::{Family, GgufForm, Names, Shapes, folder_reader, moe, qwen, qwen2moe};
use crate::layers::{Experts, FeedForward, Layer};
use crate::meta::{Metadata, count, flag};
#[cfg(feature = "alloc")]
use crate::spec::Head;
use crate::{Spec, SpecError, SpecRoom};

const KEYS: Keys = keys!("qwen3moe");

/// Qwen 3 with experts.
pub static QWEN3MOE: Family = Family {
    arch: "qwen3moe",
    classes: &["Qwen3MoeForCausalLM"],
    model_type: "qwen3_moe",
    prefix: "model.",
    from_gguf,
    from_config: folder_reader(from_config),
    names: Names::LLAMA,
    gguf: GgufForm { window: false, ..GgufForm::HALVES },
    hf_transposed: |_| false,
    hf_shift: |_| 0.0,
    hf_ignored,
    ternary: false,
};

fn layer(s: &Sizes, rope: u8, biases: Biases, experts: Experts) -> Layer {
    let layer = decoder::layer(s, rope, biases);
    let layer = decoder::with_attention(layer, |a| a.qk_norm = true);
    Layer { ffn: FeedForward::Experts(experts), ..layer }
}

/// Shape of Qwen 3 30B-A3B.
#[cfg(feature = "alloc")]
#[must_use]
pub fn qwen3_30b_a3b() -> Spec<'static> {
    let s = Sizes {
        context: 40960,
        width: 2048,
        layers: 48,
        heads: 32,
        kv_heads: 4,
        head_dim: 128,
        ffn: 768,
        eps: 1e-6,
    };
    let experts = Experts::new(128, 8, 768);
    decoder::published("qwen3moe", &s, (RopeKind::NeoX, 1e6), 151_936, Head::Own, |_| {
        layer(&s, 0, Biases::NONE, experts)
    })
}

fn from_gguf<'p>(
    meta: &dyn Metadata,
    shapes: &dyn Shapes,
    room: &'p mut SpecRoom,
) -> Result<Spec<'p>, SpecError> {
    let experts = moe::gguf_experts(meta, shapes, &KEYS, true)?;
    moe::no_shared(meta, &KEYS)?;
    let s = decoder::gguf_sizes_of(meta, &KEYS, experts.inner)?;
    let rope = decoder::gguf_rope(meta, shapes, &KEYS, RopeKind::NeoX, s.head_dim)?;
    let rope = room.rope(rope)?;
    let (embd, head) = (shapes.shape("token_embd.weight"), decoder::gguf_head(shapes));
    let layer = layer(&s, rope, decoder::gguf_biases(shapes), experts);
    decoder::no_window(meta, &KEYS, room);
    decoder::spec(KEYS.arch, &s, embd, head, room, |_| layer)
}

const CLASS: Class = Class {
    width: 2048,
    ffn: 6144, // of layers without experts
    layers: 24,
    kv_heads: Some(4),
    context: 32768,
    ..Class::LLAMA
};

fn from_config<'p>(
    meta: &dyn Metadata,
    shapes: &dyn Shapes,
    room: &'p mut SpecRoom,
) -> Result<Spec<'p>, SpecError> {
    let s = hf::sizes(meta, &CLASS)?;
    let of = hf_rope::Of { head_dim: s.head_dim, context: s.context, base: CLASS.base };
    let rope = hf_rope::one(meta, room, of)?;
    let rope = room.rope(rope)?;
    hf::activation(meta, "hidden_act", &["silu"], "silu")?;
    let window = qwen::window(meta)?;
    let hf::Ends { embd, head } = hf::ends(meta, shapes, room, &CLASS)?;
    let attn = flag(meta, "attention_bias")?.unwrap_or(false);
    let biases = Biases { qkv: attn, attn_out: attn, ffn: false };
    let experts = moe::number(meta, room)?;
    let used = count(meta, "num_experts_per_tok")?.unwrap_or(8);
    let inner = count(meta, "moe_intermediate_size")?.unwrap_or(768);
    let normalised = flag(meta, "norm_topk_prob")?.unwrap_or(false);
    let experts = Experts { normalised, ..Experts::new(experts.unwrap_or(128), used, inner) };
    let sparse = layer(&s, rope, biases, experts);
    let sparse = decoder::with_attention(sparse, |a| a.window = window);
    let dense = decoder::layer(&s, rope, biases);
    let dense = decoder::with_attention(dense, |a| (a.qk_norm, a.window) = (true, window));
    let is_dense = qwen2moe::dense_layers(meta)?;
    let layer = |l| if is_dense(l) { dense } else { sparse };
    decoder::spec(KEYS.arch, &s, embd, head, room, layer)
}
