//! Llama (Touvron et al., 2023; also Llama 2 and 3) and models of its shape, such as Mistral: RMS
//! norms, rotary positions, grouped queries, and gated SiLU.
//!
//! GGUF files store the rows of queries and keys in the order in which neighbours are rotated
//! together, Hugging Face files in that of halves.

use teff_kernels::RopeKind;

use super::decoder::{self, Biases, Keys, keys};
use super::hf::{self, Class};
use super::hf_rope;
use super::names::hf_ignored;
use super::{Family, GgufForm, Names, Shapes, folder_reader};
use crate::meta::{Metadata, flag};
#[cfg(feature = "alloc")]
use crate::spec::Head;
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
        from_config(meta, shapes, room, &Class::LLAMA, None)
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
        from_config(meta, shapes, room, &MISTRAL_CLASS, window)
    }),
    ..FAMILY
};

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
    decoder::no_window(meta, &KEYS, room);
    decoder::spec(KEYS.arch, &s, embd, head, room, |_| layer)
}

fn from_config<'p>(
    meta: &dyn Metadata,
    shapes: &dyn Shapes,
    room: &'p mut SpecRoom,
    class: &Class,
    window: Option<u32>,
) -> Result<Spec<'p>, SpecError> {
    let s = hf::sizes(meta, class)?;
    let of = hf_rope::Of { head_dim: s.head_dim, context: s.context, base: class.base };
    let rope = hf_rope::one(meta, room, of)?;
    let rope = room.rope(rope)?;
    hf::activation(meta, "hidden_act", &["silu"], "silu")?;
    let hf::Ends { embd, head } = hf::ends(meta, shapes, room, class)?;
    let attn = flag(meta, "attention_bias")?.unwrap_or(false);
    let ffn = flag(meta, "mlp_bias")?.unwrap_or(false);
    let layer = decoder::layer(&s, rope, Biases { qkv: attn, attn_out: attn, ffn });
    let layer = decoder::with_attention(layer, |a| a.window = window);
    decoder::spec(KEYS.arch, &s, embd, head, room, |_| layer)
}
