//! Ministral 3 (Mistral AI, 2025): Llama's shape with a head dimension of its own, YaRN, and scores that
//! grow with the position of the query.
//!
//! GGUF files store the rows of queries and keys as Llama's do. Published folders wrap the model with
//! one for images, whose class is not this family's.

use teff_kernels::RopeKind;

#[cfg(feature = "alloc")]
use super::decoder::Sizes;
use super::decoder::{self, Keys, keys};
use super::hf::{self, Class};
use super::hf_rope;
use super::names::hf_ignored;
use super::{Family, GgufForm, Names, Shapes, folder_reader};
use crate::layers::{Layer, Temperature};
use crate::meta::{Metadata, Value, count, float};
#[cfg(feature = "alloc")]
use crate::spec::Head;
use crate::spec::{Rope, RopeScaling};
use crate::{Spec, SpecError, SpecRoom};

const KEYS: Keys = keys!("mistral3");
const GROWTH: &str = "mistral3.attention.temperature_scale";

/// Ministral 3.
pub static MISTRAL3: Family = Family {
    arch: "mistral3",
    classes: &["Ministral3ForCausalLM"],
    model_type: "ministral3",
    prefix: "model.",
    from_gguf,
    from_config: folder_reader(from_config),
    names: Names::LLAMA,
    gguf: GgufForm { rope: RopeKind::Norm, window: false, ..GgufForm::HALVES },
    hf_transposed: |_| false,
    hf_shift: |_| 0.0,
    hf_ignored,
    ternary: false,
};

fn with_temperature(layer: Layer, temperature: Option<Temperature>) -> Layer {
    decoder::with_attention(layer, |a| a.temperature = temperature)
}

/// YaRN of the published models, and transformers' default.
const YARN: RopeScaling =
    RopeScaling::Yarn { factor: 16.0, fast: 32.0, slow: 1.0, original: 16384.0, truncate: true };

/// Growth of the scores of the published models, and transformers' default.
const GROWN: Temperature = Temperature { growth: 0.1, every: 16384 };

/// Shape of Ministral 3 3B.
#[cfg(feature = "alloc")]
#[must_use]
pub fn ministral3_3b() -> Spec<'static> {
    let s = Sizes {
        context: 262_144,
        width: 3072,
        layers: 26,
        heads: 32,
        kv_heads: 8,
        head_dim: 128,
        ffn: 9216,
        eps: 1e-5,
    };
    let rope = (RopeKind::Norm, 1e6);
    decoder::published("mistral3", &s, rope, 131_072, Head::Tied, |layer| {
        with_temperature(layer, Some(GROWN))
    })
    .with_ropes(|rope| Rope { scaling: YARN, ..rope })
}

fn from_gguf<'p>(
    meta: &dyn Metadata,
    shapes: &dyn Shapes,
    room: &'p mut SpecRoom,
) -> Result<Spec<'p>, SpecError> {
    let s = decoder::gguf_sizes(meta, &KEYS)?;
    let rope = decoder::gguf_rope(meta, shapes, &KEYS, RopeKind::Norm, s.head_dim)?;
    let rope = room.rope(rope)?;
    // Scores grow with each stretch as long as the original context; there is a key for another
    // length, which llama.cpp doesn't read for this architecture.
    let temperature = match float(meta, GROWTH)?.filter(|&growth| growth != 0.0) {
        Some(growth) => {
            let every = count(meta, KEYS.rope_original)?.unwrap_or(s.context);
            Some(Temperature { growth, every })
        }
        None => None,
    };
    let (embd, head) = (shapes.shape("token_embd.weight"), decoder::gguf_head(shapes));
    let layer = decoder::layer(&s, rope, decoder::gguf_biases(shapes));
    let layer = with_temperature(layer, temperature);
    decoder::no_window(meta, &KEYS, room);
    decoder::spec(KEYS.arch, &s, embd, head, room, |_| layer)
}

/// Defaults of transformers' Ministral3Config.
const CLASS: Class = Class {
    ffn: 14336,
    layers: 34,
    kv_heads: Some(8),
    head_dim: Some(128),
    context: 262_144,
    eps: 1e-5,
    base: 1e6,
    ..Class::LLAMA
};

/// Growth of the scores with the rotary parameters, which have its name among them.
fn temperature(meta: &dyn Metadata, rope: &Rope) -> Result<Option<Temperature>, SpecError> {
    let [key, older] =
        ["rope_parameters.llama_4_scaling_beta", "rope_scaling.llama_4_scaling_beta"];
    let key = if hf_rope::is_older(meta)? { older } else { key };
    match (float(meta, key)?.filter(|&growth| growth != 0.0), rope.scaling) {
        (None, _) => Ok(None),
        (Some(growth), RopeScaling::Yarn { original, .. })
            if original >= 1.0 && original == libm::truncf(original) =>
        {
            Ok(Some(Temperature { growth, every: original as u32 }))
        }
        (Some(_), _) => {
            Err(SpecError::Unsupported { key, known: "0, or with YaRN of a whole context" })
        }
    }
}

fn from_config<'p>(
    meta: &dyn Metadata,
    shapes: &dyn Shapes,
    room: &'p mut SpecRoom,
) -> Result<Spec<'p>, SpecError> {
    let s = hf::sizes(meta, &CLASS)?;
    let of = hf_rope::Of { head_dim: s.head_dim, context: s.context, base: CLASS.base };
    let is_there = |key| !matches!(meta.get(key), None | Some(Value::Null));
    let (rope, temperature) = if is_there("rope_parameters") || is_there("rope_scaling") {
        let rope = hf_rope::one(meta, room, of)?;
        (rope, temperature(meta, &rope)?)
    } else {
        let (kind, dims, base) = (RopeKind::NeoX, s.head_dim, CLASS.base);
        (Rope { kind, dims, base, scaling: YARN, magnitude: 1.0 }, Some(GROWN))
    };
    let rope = room.rope(rope)?;
    hf::activation(meta, "hidden_act", &["silu"], "silu")?;
    hf::one_kind(meta, room);
    let window = match meta.get(hf::WINDOW) {
        None => None,
        _ => hf::window(meta, 0)?,
    };
    let hf::Ends { embd, head } = hf::ends(meta, shapes, room, &CLASS)?;
    let layer = with_temperature(decoder::layer(&s, rope, decoder::Biases::NONE), temperature);
    let layer = decoder::with_attention(layer, |a| a.window = window);
    decoder::spec(KEYS.arch, &s, embd, head, room, |_| layer)
}
