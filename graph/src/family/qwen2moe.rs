//! Qwen 2 with experts (2024; also Qwen 1.5's): Qwen 2's attention, and a mixture of experts with a
//! shared one, whose outputs are multiplied by the logistic function of a score.
//!
//! A folder may have layers without experts, and may normalise the probabilities of the chosen
//! experts (`norm_topk_prob`). GGUF files can express neither: all layers have experts, whose
//! probabilities stay as they are.

use teff_kernels::RopeKind;

#[cfg(feature = "alloc")]
use super::decoder::Sizes;
use super::decoder::{self, Biases, Keys, LayerSet, keys};
use super::hf::{self, Class};
use super::hf_rope;
use super::names::hf_ignored;
use super::{Family, GgufForm, Names, Shapes, folder_reader, moe, qwen};
use crate::layers::{Experts, FeedForward, Layer, SharedExpert};
use crate::meta::{Metadata, count, flag};
#[cfg(feature = "alloc")]
use crate::spec::Head;
use crate::{Spec, SpecError, SpecRoom};

const KEYS: Keys = keys!("qwen2moe");

/// Qwen 2 with experts.
pub static QWEN2MOE: Family = Family {
    arch: "qwen2moe",
    classes: &["Qwen2MoeForCausalLM"],
    model_type: "qwen2_moe",
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

/// Shape of Qwen 1.5 MoE A2.7B.
#[cfg(feature = "alloc")]
#[must_use]
pub fn qwen1_5_moe() -> Spec<'static> {
    let s = Sizes {
        context: 8192,
        width: 2048,
        layers: 24,
        heads: 16,
        kv_heads: 16,
        head_dim: 128,
        ffn: 1408,
        eps: 1e-6,
    };
    let shared = Some(SharedExpert { inner: 5632, gated: true });
    let experts = Experts { normalised: false, shared, ..Experts::new(60, 4, 1408) };
    let biases = Biases { qkv: true, ..Biases::NONE };
    decoder::published("qwen2moe", &s, (RopeKind::NeoX, 1e6), 151_936, Head::Own, |_| Layer {
        ffn: FeedForward::Experts(experts),
        ..decoder::layer(&s, 0, biases)
    })
}

fn from_gguf<'p>(
    meta: &dyn Metadata,
    shapes: &dyn Shapes,
    room: &'p mut SpecRoom,
) -> Result<Spec<'p>, SpecError> {
    let experts = moe::gguf_experts(meta, shapes, &KEYS, false)?;
    let experts = Experts { shared: moe::gguf_shared(meta, shapes, &KEYS, true)?, ..experts };
    let s = decoder::gguf_sizes_of(meta, &KEYS, experts.inner)?;
    let rope = decoder::gguf_rope(meta, shapes, &KEYS, RopeKind::NeoX, s.head_dim)?;
    let rope = room.rope(rope)?;
    let (embd, head) = (shapes.shape("token_embd.weight"), decoder::gguf_head(shapes));
    let layer = decoder::layer(&s, rope, decoder::gguf_biases(shapes));
    let layer = Layer { ffn: FeedForward::Experts(experts), ..layer };
    decoder::no_window(meta, &KEYS, room);
    decoder::spec(KEYS.arch, &s, embd, head, room, |_| layer)
}

const CLASS: Class = Class {
    width: 2048,
    ffn: 5632, // of layers without experts
    layers: 24,
    heads: 16,
    kv_heads: Some(16),
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
    let window = windows(meta, s.layers)?;
    let hf::Ends { embd, head } = hf::ends(meta, shapes, room, &CLASS)?;
    let qkv = flag(meta, "qkv_bias")?.unwrap_or(true);
    let experts = moe::number(meta, room)?.unwrap_or(60);
    let used = count(meta, "num_experts_per_tok")?.unwrap_or(4);
    let inner = count(meta, "moe_intermediate_size")?.unwrap_or(1408);
    let shared = count(meta, "shared_expert_intermediate_size")?.unwrap_or(5632);
    let experts = Experts {
        normalised: flag(meta, "norm_topk_prob")?.unwrap_or(false),
        shared: Some(SharedExpert { inner: shared, gated: true }),
        ..Experts::new(experts, used, inner)
    };
    let dense = decoder::layer(&s, rope, Biases { qkv, ..Biases::NONE });
    let sparse = Layer { ffn: FeedForward::Experts(experts), ..dense };
    let is_dense = dense_layers(meta)?;
    decoder::spec(KEYS.arch, &s, embd, head, room, |l| {
        let layer = if is_dense(l) { dense } else { sparse };
        decoder::with_attention(layer, |a| a.window = window(l))
    })
}

/// Windows of a config.json, if they are enabled: those of the layers that are listed, or of every
/// other one of the first 28.
fn windows(meta: &dyn Metadata, layers: u32) -> Result<impl Fn(u32) -> Option<u32>, SpecError> {
    let (size, first) = (qwen::window(meta)?, qwen::window_layers(meta)?.unwrap_or(28));
    let listed = hf::listed(meta, layers)?;
    if let (None, Some(listed)) = (size, &listed)
        && (0..layers).any(|l| listed.has(l))
    {
        let (key, known) = ("layer_types", "full_attention, without use_sliding_window");
        return Err(SpecError::Unsupported { key, known });
    }
    Ok(move |l: u32| {
        size.filter(|_| match &listed {
            Some(listed) => listed.has(l),
            None => l.is_multiple_of(2) && l < first,
        })
    })
}

/// Layers without experts: those that are listed, and all but every so many.
pub(super) fn dense_layers(meta: &dyn Metadata) -> Result<impl Fn(u32) -> bool, SpecError> {
    let step = count(meta, "decoder_sparse_step")?.unwrap_or(1);
    let listed = LayerSet::read(meta, "mlp_only_layers")?;
    Ok(move |l: u32| listed.is_some_and(|set| set.has(l)) || !(l + 1).is_multiple_of(step))
}
