//! Llama (Touvron et al., 2023; also Llama 2 and 3) and models of its shape, such as Mistral: RMS
//! norms, rotary positions, grouped queries, and gated SiLU.
//!
//! Mixtral (2023) has experts in all layers, chosen by softmax, with normalised weights.
//!
//! GGUF files store the rows of queries and keys in the order in which neighbours are rotated
//! together, Hugging Face files in that of halves.

use teff_kernels::RopeKind;

use super::decoder::{self, Biases, Keys, keys};
use super::hf::{self, Class};
use super::hf_rope;
use super::names::{each, hf as whole, hf_ignored, named, share};
use super::{Family, GgufForm, Names, Shapes, folder_reader, moe};
use crate::layers::{Experts, FeedForward, Layer};
use crate::meta::{Metadata, count, flag, float, required};
#[cfg(feature = "alloc")]
use crate::spec::Head;
use crate::spec::LayerRole as L;
use crate::{Spec, SpecError, SpecRoom};

const KEYS: Keys = keys!("llama");

const FAMILY: Family = Family {
    arch: "llama",
    // The latter is of files made before the class was a part of transformers.
    classes: &["LlamaForCausalLM", "LLaMAForCausalLM"],
    model_type: "llama",
    prefix: "model.",
    from_gguf,
    from_config: folder_reader(|meta, shapes, room| {
        hf::no_window(meta, room);
        from_config(meta, shapes, room, &Class::LLAMA, (None, None))
    }),
    names: Names::LLAMA,
    // Windows have a key, which llama.cpp ignores.
    gguf: GgufForm { rope: RopeKind::Norm, rope_factors: true, window: false, ..GgufForm::HALVES },
    hf_transposed: |_| false,
    hf_shift: |_| 0.0,
    hf_ignored,
    ternary: false,
};

/// Llama.
pub static LLAMA: Family = FAMILY;

/// Mistral's class in Hugging Face folders, in which all layers may have a window. Its GGUF files
/// are Llama's.
pub static MISTRAL: Family = Family {
    arch: "",
    classes: &["MistralForCausalLM"],
    model_type: "mistral",
    from_config: folder_reader(|meta, shapes, room| {
        hf::one_kind(meta, room);
        let window = hf::window(meta, MISTRAL_WINDOW)?;
        from_config(meta, shapes, room, &MISTRAL_CLASS, (window, None))
    }),
    ..FAMILY
};

/// Mixtral's class in Hugging Face folders. Its GGUF files are Llama's, with experts.
pub static MIXTRAL: Family = Family {
    arch: "",
    classes: &["MixtralForCausalLM"],
    model_type: "mixtral",
    from_config: folder_reader(|meta, shapes, room| {
        hf::one_kind(meta, room);
        let window = match meta.get(hf::WINDOW) {
            None => None,
            Some(_) => hf::window(meta, MISTRAL_WINDOW)?,
        };
        let inner = count(meta, "intermediate_size")?.unwrap_or(MIXTRAL_CLASS.ffn);
        let n = moe::number(meta, room)?.unwrap_or(8);
        let used = count(meta, "num_experts_per_tok")?.unwrap_or(2);
        let experts = Experts::new(n, used, inner);
        from_config(meta, shapes, room, &MIXTRAL_CLASS, (window, Some(experts)))
    }),
    names: MIXTRAL_NAMES,
    ..FAMILY
};

/// The usual names, and those of files that are saved as transformers 5 holds them in memory.
const MIXTRAL_NAMES: Names = Names {
    hf: &[
        named(L::ExpertRouter, &[whole("block_sparse_moe.gate.weight"), whole("mlp.gate.weight")]),
        named(
            L::ExpertGate,
            &[
                each("block_sparse_moe.experts.{}.w1.weight"),
                share("mlp.experts.gate_up_proj", 0, 2),
            ],
        ),
        named(
            L::ExpertUp,
            &[
                each("block_sparse_moe.experts.{}.w3.weight"),
                share("mlp.experts.gate_up_proj", 1, 2),
            ],
        ),
        named(
            L::ExpertDown,
            &[each("block_sparse_moe.experts.{}.w2.weight"), share("mlp.experts.down_proj", 0, 1)],
        ),
    ],
    ..Names::LLAMA
};

const MIXTRAL_CLASS: Class = Class { eps: 1e-5, base: 1e6, ..MISTRAL_CLASS };

const MISTRAL_CLASS: Class =
    Class { ffn: 14336, kv_heads: Some(8), context: 4096 * 32, ..Class::LLAMA };

/// Window of a Mistral whose config.json lacks the key.
const MISTRAL_WINDOW: u32 = 4096;

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

/// Shape of Mixtral 8x7B.
#[cfg(feature = "alloc")]
#[must_use]
pub fn mixtral_8x7b() -> Spec<'static> {
    let s = decoder::Sizes {
        context: 32768,
        width: 4096,
        layers: 32,
        heads: 32,
        kv_heads: 8,
        head_dim: 128,
        ffn: 14336,
        eps: 1e-5,
    };
    let experts = FeedForward::Experts(Experts::new(8, 2, s.ffn));
    decoder::published("llama", &s, (RopeKind::Norm, 1e6), 32000, Head::Own, |layer| Layer {
        ffn: experts,
        ..layer
    })
}

/// Reads a GGUF file, whose experts have the inner width of the dense part.
fn from_gguf<'p>(
    meta: &dyn Metadata,
    shapes: &dyn Shapes,
    room: &'p mut SpecRoom,
) -> Result<Spec<'p>, SpecError> {
    let (s, experts) = match float(meta, KEYS.experts)?.is_some_and(|n| n != 0.0) {
        false => (decoder::gguf_sizes(meta, &KEYS)?, None),
        true => {
            let layers = required(count(meta, KEYS.layers)?, KEYS.layers)?;
            let ffn = required(decoder::uniform(meta, KEYS.ffn, layers)?, KEYS.ffn)?;
            moe::no_shared(meta, &KEYS)?;
            let experts = moe::gguf_experts(meta, shapes, &KEYS, true)?;
            let experts = Experts { inner: ffn, ..experts };
            (decoder::gguf_sizes_of(meta, &KEYS, ffn)?, Some(experts))
        }
    };
    let rope = decoder::gguf_rope(meta, shapes, &KEYS, RopeKind::Norm, s.head_dim)?;
    let rope = room.rope(rope)?;
    let (embd, head) = (shapes.shape("token_embd.weight"), decoder::gguf_head(shapes));
    let layer = decoder::layer(&s, rope, decoder::gguf_biases(shapes));
    let ffn = experts.map_or(layer.ffn, FeedForward::Experts);
    let layer = Layer { ffn, ..layer };
    decoder::no_window(meta, &KEYS, room);
    decoder::spec(KEYS.arch, &s, embd, head, room, |_| layer)
}

fn from_config<'p>(
    meta: &dyn Metadata,
    shapes: &dyn Shapes,
    room: &'p mut SpecRoom,
    class: &Class,
    (window, experts): (Option<u32>, Option<Experts>),
) -> Result<Spec<'p>, SpecError> {
    let s = hf::sizes(meta, class)?;
    let of = hf_rope::Of { head_dim: s.head_dim, context: s.context, base: class.base };
    let rope = hf_rope::one(meta, room, of)?;
    let rope = room.rope(rope)?;
    hf::activation(meta, "hidden_act", &["silu"], "silu")?;
    let hf::Ends { embd, head } = hf::ends(meta, shapes, room, class)?;
    // Mixtral has no fields about biases.
    let bias = |key| match experts {
        Some(_) => Ok(false),
        None => flag(meta, key).map(|b| b.unwrap_or(false)),
    };
    let (attn, ffn) = (bias("attention_bias")?, bias("mlp_bias")?);
    let layer = decoder::layer(&s, rope, Biases { qkv: attn, attn_out: attn, ffn });
    let layer = decoder::with_attention(layer, |a| a.window = window);
    let ffn = experts.map_or(layer.ffn, FeedForward::Experts);
    let layer = Layer { ffn, ..layer };
    decoder::spec(KEYS.arch, &s, embd, head, room, |_| layer)
}
