//! Granite (IBM, 2024), dense: Llama's shape with factors for the embedding, the residual stream, the
//! scores and the logits. Granite 4 without experts and state-space layers is the same model; its
//! folders name the feed-forward part otherwise and may leave positions out.
//!
//! Scores are multiplied by their factor in place of `1 / sqrt(head_dim)`; logits are divided by
//! theirs. GGUF files store the rows of queries and keys as Llama's do.

use teff_kernels::RopeKind;

use super::decoder::{self, Biases, Keys, Sizes, keys};
use super::hf::{self, Class};
use super::hf_rope;
use super::names::{hf as whole, hf_ignored, named};
use super::{Family, GgufForm, Names, Shapes, folder_reader};
use crate::layers::Layer;
use crate::meta::{Metadata, Value, count, flag, float, required, text};
use crate::spec::{Embed, Head, HfForm, HfName, LayerRole as L};
use crate::{Spec, SpecError, SpecRoom};

const KEYS: Keys = keys!("granite");
const EMBEDDING: &str = "granite.embedding_scale";
const RESIDUAL: &str = "granite.residual_scale";
const SCORES: &str = "granite.attention.scale";
const LOGITS: &str = "granite.logit_scale";
const ROTATED: &str = "granite.rope.scaling.finetuned";

/// Granite.
pub static GRANITE: Family = FAMILY;

const FAMILY: Family = Family {
    arch: "granite",
    classes: &["GraniteForCausalLM"],
    model_type: "granite",
    prefix: "model.",
    from_gguf,
    from_config: folder_reader(from_config),
    names: Names::LLAMA,
    gguf: GgufForm {
        rope: RopeKind::Norm,
        rope_factors: true,
        window: false,
        scales: true,
        ..GgufForm::HALVES
    },
    hf_transposed: |_| false,
    hf_shift: |_| 0.0,
    hf_ignored,
    ternary: false,
};

/// Granite 4's class in Hugging Face folders, of which the dense models are supported. Their GGUF
/// files are Granite's.
pub static GRANITE_HYBRID: Family = Family {
    arch: "",
    classes: &["GraniteMoeHybridForCausalLM"],
    model_type: "granitemoehybrid",
    from_config: folder_reader(from_hybrid_config),
    names: HYBRID_NAMES,
    ..FAMILY
};

/// Share of a matrix that holds the rows of the gate and then those of the other.
const fn half(part: u8) -> HfName {
    HfName { name: "shared_mlp.input_linear.weight", form: HfForm::Share { part, parts: 2 } }
}

const HYBRID_NAMES: Names = Names {
    hf: &[
        named(L::FfnGate, &[half(0)]),
        named(L::FfnUp, &[half(1)]),
        named(L::FfnDown, &[whole("shared_mlp.output_linear.weight")]),
    ],
    ..Names::LLAMA
};

/// Factors in which the family differs from Llama.
#[derive(Clone, Copy)]
struct Factors {
    embedding: f32,
    residual: f32,
    scores: f32,
    /// Divisor of the logits.
    logits: f32,
}

/// Layer with its factors; heads are not rotated without `rope`.
fn layer(s: &Sizes, rope: Option<u8>, biases: Biases, factors: &Factors) -> Layer {
    let layer = decoder::layer(s, 0, biases);
    let mut layer = decoder::with_attention(layer, |a| (a.rope, a.scale) = (rope, factors.scores));
    layer.scales.residual = factors.residual;
    layer
}

/// The same model with the factors that belong to no layer.
fn with_factors<'p>(spec: Spec<'p>, factors: &Factors) -> Result<Spec<'p>, SpecError> {
    let embed = Embed { scale: factors.embedding, ..spec.embed };
    let spec = Spec { embed, logit_divisor: factors.logits, ..spec };
    spec.validate()?;
    Ok(spec)
}

/// Shape of Granite 3.3 8B.
#[cfg(feature = "alloc")]
#[must_use]
pub fn granite3_8b() -> Spec<'static> {
    let s = Sizes {
        context: 131_072,
        width: 4096,
        layers: 40,
        heads: 32,
        kv_heads: 8,
        head_dim: 128,
        ffn: 12800,
        eps: 1e-5,
    };
    let factors = Factors { embedding: 12.0, residual: 0.22, scores: 0.007_812_5, logits: 16.0 };
    let rope = (RopeKind::Norm, 1e7);
    let spec = decoder::published("granite", &s, rope, 49_159, Head::Tied, |_| {
        layer(&s, Some(0), Biases::NONE, &factors)
    });
    let embed = Embed { scale: factors.embedding, ..spec.embed };
    Spec { embed, logit_divisor: factors.logits, ..spec }
}

/// Reads a GGUF file. Factors that are absent or 0 are not applied, except for that of the scores,
/// which is then `1 / sqrt(head_dim)`, and that of the logits, which must be there, as in llama.cpp.
fn from_gguf<'p>(
    meta: &dyn Metadata,
    shapes: &dyn Shapes,
    room: &'p mut SpecRoom,
) -> Result<Spec<'p>, SpecError> {
    let s = decoder::gguf_sizes(meta, &KEYS)?;
    decoder::no_window(meta, &KEYS, room);
    let factor = |key| Ok::<_, SpecError>(float(meta, key)?.filter(|&x| x != 0.0));
    let factors = Factors {
        embedding: factor(EMBEDDING)?.unwrap_or(1.0),
        residual: factor(RESIDUAL)?.unwrap_or(1.0),
        scores: factor(SCORES)?.unwrap_or(decoder::inverse_root(s.head_dim)),
        logits: required(float(meta, LOGITS)?, LOGITS)?,
    };
    let rope = match flag(meta, ROTATED)?.unwrap_or(true) {
        true => {
            let rope = decoder::gguf_rope(meta, shapes, &KEYS, RopeKind::Norm, s.head_dim)?;
            Some(room.rope(rope)?)
        }
        false => None,
    };
    let (embd, head) = (shapes.shape("token_embd.weight"), decoder::gguf_head(shapes));
    let layer = layer(&s, rope, decoder::gguf_biases(shapes), &factors);
    let spec = decoder::spec(KEYS.arch, &s, embd, head, room, |_| layer)?;
    with_factors(spec, &factors)
}

/// Factors in a config.json; defaults are those of transformers' GraniteConfig.
fn config_factors(meta: &dyn Metadata) -> Result<Factors, SpecError> {
    let factor = |key| Ok::<_, SpecError>(float(meta, key)?.unwrap_or(1.0));
    Ok(Factors {
        embedding: factor("embedding_multiplier")?,
        residual: factor("residual_multiplier")?,
        scores: factor("attention_multiplier")?,
        logits: factor("logits_scaling")?,
    })
}

/// Defaults of transformers' GraniteConfig and GraniteMoeHybridConfig.
const CLASS: Class = Class::LLAMA;

fn from_config<'p>(
    meta: &dyn Metadata,
    shapes: &dyn Shapes,
    room: &'p mut SpecRoom,
) -> Result<Spec<'p>, SpecError> {
    let s = hf::sizes(meta, &CLASS)?;
    let mlp = flag(meta, "mlp_bias")?.unwrap_or(false);
    of_config(meta, shapes, room, &s, (mlp, true))
}

/// Reads what both classes have: whether the products of the feed-forward part have biases, and
/// heads are rotated.
fn of_config<'p>(
    meta: &dyn Metadata,
    shapes: &dyn Shapes,
    room: &'p mut SpecRoom,
    s: &Sizes,
    (mlp, rotated): (bool, bool),
) -> Result<Spec<'p>, SpecError> {
    hf::no_window(meta, room);
    hf::activation(meta, "hidden_act", &["silu"], "silu")?;
    let of = hf_rope::Of { head_dim: s.head_dim, context: s.context, base: CLASS.base };
    let rope = match rotated {
        true => {
            let rope = hf_rope::one(meta, room, of)?;
            Some(room.rope(rope)?)
        }
        false => None,
    };
    let factors = config_factors(meta)?;
    let hf::Ends { embd, head } = hf::ends(meta, shapes, room, &CLASS)?;
    let attn = flag(meta, "attention_bias")?.unwrap_or(false);
    let layer = layer(s, rope, Biases { qkv: attn, attn_out: attn, ffn: mlp }, &factors);
    let spec = decoder::spec(KEYS.arch, s, embd, head, room, |_| layer)?;
    with_factors(spec, &factors)
}

/// Reads a Granite 4, which must have attention in all layers, and no experts.
fn from_hybrid_config<'p>(
    meta: &dyn Metadata,
    shapes: &dyn Shapes,
    room: &'p mut SpecRoom,
) -> Result<Spec<'p>, SpecError> {
    // The class has 8 experts by default, and no attention.
    if meta.get("num_local_experts") != Some(Value::Uint(0)) {
        return Err(SpecError::Unsupported { key: "num_local_experts", known: "0" });
    }
    let layers = hf::sizes(meta, &CLASS)?.layers;
    for l in 0..layers.min(crate::MAX_LAYERS as u32) {
        // transformers 5 writes `full_attention`, published files have `attention`.
        match meta.item("layer_types", l as usize) {
            Some(Value::Str("attention" | "full_attention")) => {}
            _ => {
                let known = "attention, for each layer";
                return Err(SpecError::Unsupported { key: "layer_types", known });
            }
        }
    }
    decoder::no_more(meta, "layer_types", layers)?;
    let norm = "normalization_function";
    if text(meta, norm)?.is_some_and(|name| name != "rmsnorm") {
        return Err(SpecError::Unsupported { key: norm, known: "rmsnorm" });
    }
    let rotated = match text(meta, "position_embedding_type")? {
        Some("rope") => true,
        None | Some("nope") => false,
        Some(_) => {
            let (key, known) = ("position_embedding_type", "rope, nope, null");
            return Err(SpecError::Unsupported { key, known });
        }
    };
    // The class's default is 1024, and its experts' width plays no part.
    let ffn = count(meta, "shared_intermediate_size")?.unwrap_or(1024);
    let s = Sizes { ffn, ..hf::sizes(meta, &CLASS)? };
    of_config(meta, shapes, room, &s, (false, rotated))
}
