//! Qwen 3.5 with experts (2026): Qwen 3.5's layers, and a mixture of experts with a shared one, whose outputs
//! are multiplied by the logistic function of a score, as feed-forward part of all of them.

use super::decoder::{self, Keys, keys};
use super::hf::Class;
use super::qwen35::{self, LinearKeys, linear_keys};
use super::{Family, Rule, Shapes, folder_reader, moe};
#[cfg(feature = "alloc")]
use crate::family::decoder::Sizes;
use crate::layers::{Experts, FeedForward, Layer, SharedExpert};
use crate::meta::{Metadata, count, flag};
#[cfg(feature = "alloc")]
use crate::spec::Head;
use crate::{Spec, SpecError, SpecRoom};

const KEYS: Keys = keys!("qwen35moe");
const LINEAR: LinearKeys = linear_keys!("qwen35moe");

/// Qwen 3.5 with experts.
pub static QWEN35MOE: Family = Family {
    arch: "qwen35moe",
    classes: &["Qwen3_5MoeForCausalLM"],
    model_type: "qwen3_5_moe_text",
    prefix: "model.",
    from_gguf,
    from_config: folder_reader(from_config),
    names: qwen35::NAMES,
    gguf: qwen35::FORM,
    hf_transposed: |_| false,
    hf_shift: qwen35::hf_shift,
    hf_ignored: qwen35::hf_ignored,
    ternary: false,
};

/// The same layer with these experts.
fn with_experts(layer: Layer, experts: Experts) -> Layer {
    Layer { ffn: FeedForward::Experts(experts), ..layer }
}

/// Shape of Qwen 3.5 35B-A3B.
#[cfg(feature = "alloc")]
#[must_use]
pub fn qwen3_5_35b_a3b() -> Spec<'static> {
    let s = Sizes { width: 2048, layers: 40, heads: 16, ffn: 512, ..qwen35::SIZES };
    let shared = Some(SharedExpert { inner: 512, gated: true });
    let experts = Experts { shared, ..Experts::new(256, 8, 512) };
    qwen35::published("qwen35moe", &s, 32, Head::Own, |layer| with_experts(layer, experts))
}

fn from_gguf<'p>(
    meta: &dyn Metadata,
    shapes: &dyn Shapes,
    room: &'p mut SpecRoom,
) -> Result<Spec<'p>, SpecError> {
    let experts = moe::gguf_experts(meta, shapes, &KEYS, true)?;
    let experts = Experts { shared: moe::gguf_shared(meta, shapes, &KEYS, true)?, ..experts };
    decoder::no_window(meta, &KEYS, room);
    qwen35::gguf(meta, shapes, room, (&KEYS, &LINEAR), experts.inner, |layer| {
        with_experts(layer, experts)
    })
}

/// Defaults of transformers' Qwen3_5MoeTextConfig.
const CLASS: Class =
    Class { width: 2048, ffn: 512, layers: 40, kv_heads: Some(2), ..qwen35::CLASS };

fn from_config<'p>(
    meta: &dyn Metadata,
    shapes: &dyn Shapes,
    room: &'p mut SpecRoom,
) -> Result<Spec<'p>, SpecError> {
    let number = moe::number(meta, room)?.unwrap_or(256);
    let used = count(meta, "num_experts_per_tok")?.unwrap_or(8);
    let inner = count(meta, "moe_intermediate_size")?.unwrap_or(512);
    let shared = count(meta, "shared_expert_intermediate_size")?.unwrap_or(512);
    // Not a switch of this class, whose weights are always divided by their sum.
    let norm = "norm_topk_prob";
    if flag(meta, norm)? == Some(false) {
        room.note(norm, Rule::Normalised);
    }
    let shared = Some(SharedExpert { inner: shared, gated: true });
    let experts = Experts { shared, ..Experts::new(number, used, inner) };
    qwen35::config(meta, shapes, room, (KEYS.arch, &CLASS), |layer| with_experts(layer, experts))
}
