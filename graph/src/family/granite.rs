//! Granite (IBM, 2024): Llama's shape with factors for the embedding, the residual stream, the scores
//! and the logits. Granite 4 without state-space layers is the same model; its folders name the
//! feed-forward part otherwise and may leave positions out.
//!
//! Some have experts: the largest scores are chosen, and their softmax gives the weights. A shared
//! expert's outputs are added as they are.
//!
//! Scores are multiplied by their factor in place of `1 / sqrt(head_dim)`; logits are divided by
//! theirs. GGUF files store the rows of queries and keys as Llama's do.

use teff_kernels::RopeKind;

use super::decoder::{self, Biases, Keys, Sizes, keys};
use super::hf::{self, Class};
use super::hf_rope;
use super::names::{hf as whole, hf_ignored, named, share};
use super::{Family, GgufForm, Names, Shapes, folder_reader, moe};
use crate::layers::{Experts, FeedForward, Layer, SharedExpert};
use crate::meta::{Metadata, Value, count, flag, float, required, text};
#[cfg(feature = "alloc")]
use crate::spec::Head;
use crate::spec::{Embed, HfName, LayerRole as L};
use crate::{Role, Spec, SpecError, SpecRoom};

/// Keys of an architecture, and those of its factors.
struct Factored {
    keys: Keys,
    embedding: &'static str,
    residual: &'static str,
    scores: &'static str,
    logits: &'static str,
    rotated: &'static str,
}

macro_rules! factored {
    ($arch:literal) => {
        Factored {
            keys: keys!($arch),
            embedding: concat!($arch, ".embedding_scale"),
            residual: concat!($arch, ".residual_scale"),
            scores: concat!($arch, ".attention.scale"),
            logits: concat!($arch, ".logit_scale"),
            rotated: concat!($arch, ".rope.scaling.finetuned"),
        }
    };
}

const DENSE: Factored = factored!("granite");
const SPARSE: Factored = factored!("granitemoe");

/// Granite.
pub static GRANITE: Family = FAMILY;

const FAMILY: Family = Family {
    arch: "granite",
    classes: &["GraniteForCausalLM"],
    model_type: "granite",
    prefix: "model.",
    from_gguf: |meta, shapes, room| from_gguf(meta, shapes, room, &DENSE),
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

/// Granite 4's class in Hugging Face folders, of which the models without state-space layers are
/// supported. Their GGUF files are those of the other classes.
pub static GRANITE_HYBRID: Family = Family {
    arch: "",
    classes: &["GraniteMoeHybridForCausalLM"],
    model_type: "granitemoehybrid",
    from_config: folder_reader(from_hybrid_config),
    names: Names { hf: HYBRID_NAMES, ..Names::LLAMA },
    ..FAMILY
};

/// Granite with experts.
pub static GRANITE_MOE: Family = Family {
    arch: "granitemoe",
    classes: &["GraniteMoeForCausalLM"],
    model_type: "granitemoe",
    from_gguf: |meta, shapes, room| from_gguf(meta, shapes, room, &SPARSE),
    from_config: folder_reader(|meta, shapes, room| {
        let experts = config_experts(meta, room, None)?;
        of_config(meta, shapes, room, &hf::sizes(meta, &CLASS)?, (false, true), experts)
    }),
    names: Names { hf: EXPERT_NAMES, ..Names::LLAMA },
    ..FAMILY
};

/// The class of models with a shared expert; its GGUF files are those of [`GRANITE_MOE`].
pub static GRANITE_MOE_SHARED: Family = Family {
    arch: "",
    classes: &["GraniteMoeSharedForCausalLM"],
    model_type: "granitemoeshared",
    from_config: folder_reader(|meta, shapes, room| {
        let shared = match meta.get(SHARED) {
            None | Some(Value::Null | Value::Uint(0)) => None,
            _ => Some(config_shared(meta)?),
        };
        let experts = config_experts(meta, room, shared)?;
        of_config(meta, shapes, room, &hf::sizes(meta, &CLASS)?, (false, true), experts)
    }),
    names: Names { hf: EXPERT_NAMES, ..Names::LLAMA },
    ..FAMILY
};

/// The gate's rows and then those of the other, in one matrix.
const SHARED_INPUT: &str = "shared_mlp.input_linear.weight";
const SHARED_OUTPUT: &str = "shared_mlp.output_linear.weight";
const INPUT: &str = "block_sparse_moe.input_linear.weight";
/// Name of [`INPUT`] in files that are saved as transformers 5 holds them in memory.
const FUSED_INPUT: &str = "block_sparse_moe.experts.gate_up_proj";

macro_rules! expert_names {
    ($($more:expr),*) => {
        &[
            named(
                L::ExpertRouter,
                &[
                    whole("block_sparse_moe.router.layer.weight"),
                    whole("block_sparse_moe.router.weight"),
                ],
            ),
            named(L::ExpertGate, &[share(INPUT, 0, 2), share(FUSED_INPUT, 0, 2)]),
            named(L::ExpertUp, &[share(INPUT, 1, 2), share(FUSED_INPUT, 1, 2)]),
            named(
                L::ExpertDown,
                &[
                    share("block_sparse_moe.output_linear.weight", 0, 1),
                    share("block_sparse_moe.experts.down_proj", 0, 1),
                ],
            ),
            named(L::SharedGate, &[share(SHARED_INPUT, 0, 2)]),
            named(L::SharedUp, &[share(SHARED_INPUT, 1, 2)]),
            named(L::SharedDown, &[whole(SHARED_OUTPUT)]),
            $($more),*
        ]
    };
}

const EXPERT_NAMES: &[(Role, &[HfName])] = expert_names!();

/// The shared expert alone is the feed-forward part of a model without experts.
const HYBRID_NAMES: &[(Role, &[HfName])] = expert_names!(
    named(L::FfnGate, &[share(SHARED_INPUT, 0, 2)]),
    named(L::FfnUp, &[share(SHARED_INPUT, 1, 2)]),
    named(L::FfnDown, &[whole(SHARED_OUTPUT)])
);

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

/// Shape of Granite 3.1 3B-A800M.
#[cfg(feature = "alloc")]
#[must_use]
pub fn granite3_3b_a800m() -> Spec<'static> {
    let s = Sizes {
        context: 131_072,
        width: 1536,
        layers: 32,
        heads: 24,
        kv_heads: 8,
        head_dim: 64,
        ffn: 512,
        eps: 1e-6,
    };
    let factors = Factors { embedding: 12.0, residual: 0.22, scores: 0.015_625, logits: 6.0 };
    let experts = FeedForward::Experts(Experts::new(40, 8, s.ffn));
    let rope = (RopeKind::Norm, 1e7);
    let spec = decoder::published("granitemoe", &s, rope, 49_155, Head::Tied, |_| Layer {
        ffn: experts,
        ..layer(&s, Some(0), Biases::NONE, &factors)
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
    of: &Factored,
) -> Result<Spec<'p>, SpecError> {
    let keys = &of.keys;
    let layers = required(count(meta, keys.layers)?, keys.layers)?;
    let experts = match float(meta, keys.experts)?.is_some_and(|n| n != 0.0) {
        false => None,
        true => {
            let shared = moe::gguf_shared(meta, shapes, keys, false)?;
            let ffn = required(decoder::uniform(meta, keys.ffn, layers)?, keys.ffn)?;
            let experts = moe::gguf_experts(meta, shapes, keys, true)?;
            Some(Experts { inner: ffn, shared, ..experts })
        }
    };
    let s = match experts {
        None => decoder::gguf_sizes(meta, keys)?,
        Some(e) => decoder::gguf_sizes_of(meta, keys, e.inner)?,
    };
    decoder::no_window(meta, keys, room);
    let factor = |key| Ok::<_, SpecError>(float(meta, key)?.filter(|&x| x != 0.0));
    let factors = Factors {
        embedding: factor(of.embedding)?.unwrap_or(1.0),
        residual: factor(of.residual)?.unwrap_or(1.0),
        scores: factor(of.scores)?.unwrap_or(decoder::inverse_root(s.head_dim)),
        logits: required(float(meta, of.logits)?, of.logits)?,
    };
    let rope = match flag(meta, of.rotated)?.unwrap_or(true) {
        true => {
            let rope = decoder::gguf_rope(meta, shapes, keys, RopeKind::Norm, s.head_dim)?;
            Some(room.rope(rope)?)
        }
        false => None,
    };
    let (embd, head) = (shapes.shape("token_embd.weight"), decoder::gguf_head(shapes));
    let layer = layer(&s, rope, decoder::gguf_biases(shapes), &factors);
    let layer = Layer { ffn: experts.map_or(layer.ffn, FeedForward::Experts), ..layer };
    let spec = decoder::spec(keys.arch, &s, embd, head, room, |_| layer)?;
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
    of_config(meta, shapes, room, &s, (mlp, true), None)
}

const SHARED: &str = "shared_intermediate_size";

/// The shared expert of a config.json, with Granite 4's default.
fn config_shared(meta: &dyn Metadata) -> Result<SharedExpert, SpecError> {
    Ok(SharedExpert { inner: count(meta, SHARED)?.unwrap_or(1024), gated: false })
}

/// The experts of a config.json.
fn config_experts(
    meta: &dyn Metadata,
    room: &mut SpecRoom,
    shared: Option<SharedExpert>,
) -> Result<Option<Experts>, SpecError> {
    let n = moe::number(meta, room)?.unwrap_or(8);
    let used = count(meta, "num_experts_per_tok")?.unwrap_or(2);
    let inner = count(meta, "intermediate_size")?.unwrap_or(CLASS.ffn);
    Ok(Some(Experts { shared, ..Experts::new(n, used, inner) }))
}

/// Reads what all classes have: whether the products of the feed-forward part have biases, and
/// heads are rotated.
fn of_config<'p>(
    meta: &dyn Metadata,
    shapes: &dyn Shapes,
    room: &'p mut SpecRoom,
    s: &Sizes,
    (mlp, rotated): (bool, bool),
    experts: Option<Experts>,
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
    let (arch, layer) = match experts {
        None => (DENSE.keys.arch, layer),
        Some(e) => (SPARSE.keys.arch, Layer { ffn: FeedForward::Experts(e), ..layer }),
    };
    let spec = decoder::spec(arch, s, embd, head, room, |_| layer)?;
    with_factors(spec, &factors)
}

/// Reads a Granite 4, which must have attention in all layers.
fn from_hybrid_config<'p>(
    meta: &dyn Metadata,
    shapes: &dyn Shapes,
    room: &'p mut SpecRoom,
) -> Result<Spec<'p>, SpecError> {
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
    let shared = config_shared(meta)?;
    let experts = match meta.get("num_local_experts") {
        Some(Value::Uint(0)) => None,
        _ => config_experts(meta, room, Some(shared))?,
    };
    // Without experts, their width plays no part.
    let s = Sizes { ffn: shared.inner, ..hf::sizes(meta, &CLASS)? };
    of_config(meta, shapes, room, &s, (false, rotated), experts)
}
