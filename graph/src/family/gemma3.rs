//! Gemma 3 (2025), text: windows on five layers of six, which have a rotary base of their own, norms
//! of queries and keys, four norms a layer, GELU with a gate, a scaled embedding that is the head too.

use core::fmt;

use teff_kernels::RopeKind;

use super::decoder::{self, Keys, keys};
use super::names::{HfNorms, hf_ignored, hf_name};
use super::{Family, Shapes};
use crate::meta::{MetaError, Metadata, Value, count, flag, float};
use crate::spec::{Activation, Head, Rotary, Window};
use crate::{LayerRole, Role, Spec, SpecError};

const KEYS: Keys = keys!("gemma3");
const NORMS: HfNorms = HfNorms {
    attn_post: Some("post_attention_layernorm.weight"),
    ffn: "pre_feedforward_layernorm.weight",
    ffn_post: Some("post_feedforward_layernorm.weight"),
};

/// The family.
pub static GEMMA3: Family = Family {
    arch: "gemma3",
    classes: &["Gemma3ForCausalLM"],
    model_type: "gemma3_text",
    prefix: "model.",
    from_gguf,
    from_config,
    hf_name: |role, out: &mut dyn fmt::Write| hf_name(&NORMS, role, out),
    hf_transposed: |_| false,
    hf_shift,
    hf_ignored,
    ternary: false,
};

/// Gemma's norms multiply by 1 more than what Hugging Face's files have.
fn hf_shift(role: Role) -> f32 {
    use LayerRole as L;
    let norm = match role {
        Role::OutputNorm => true,
        Role::Layer(_, role) => matches!(
            role,
            L::AttnNorm
                | L::AttnPostNorm
                | L::FfnNorm
                | L::FfnPostNorm
                | L::AttnQNorm
                | L::AttnKNorm
        ),
        _ => false,
    };
    if norm { 1.0 } else { 0.0 }
}

/// The shape of Gemma 3 1B.
#[must_use]
pub fn gemma3_1b() -> Spec {
    let s = decoder::Sizes {
        context: 32768,
        width: 1152,
        layers: 26,
        heads: 4,
        kv_heads: 1,
        head_dim: 256,
        ffn: 6912,
        eps: 1e-6,
    };
    let spec = super::published("gemma3", &s, RopeKind::NeoX, 1e6, 262_144, Head::Tied);
    let window = Some(Window { size: 512, full_every: 6 });
    with_switches(spec, window, decoder::inverse_root(256))
}

fn with_switches(spec: Spec, window: Option<Window>, attn_scale: f32) -> Spec {
    Spec {
        window,
        qk_norms: true,
        post_norms: true,
        activation: Activation::GeluTanh,
        embed_scale: libm::sqrt(f64::from(spec.width)) as f32,
        attn_scale,
        ..spec
    }
}

/// The models of 62 layers, and only those, take the width of a head in the residual stream for the
/// scale of scores; no key of GGUF says so.
const LAYERS_27B: u32 = 62;

fn from_gguf(meta: &dyn Metadata, shapes: &dyn Shapes) -> Result<Spec, SpecError> {
    let s = decoder::gguf_sizes(meta, &KEYS)?;
    let rotary = decoder::gguf_rotary(meta, shapes, &KEYS, RopeKind::NeoX, s.head_dim)?;
    let (embd, head) = (shapes.shape("token_embd.weight"), decoder::gguf_head(shapes));
    // A file that names no window has none; one that names no pattern has Gemma's own.
    let window = match meta.get(KEYS.window) {
        None | Some(Value::Uint(0)) => None,
        Some(_) => count(meta, KEYS.window)?,
    };
    let full = |v: Value<'_>| match v {
        Value::Bool(windowed) => Some(!windowed),
        Value::Uint(windowed) => Some(windowed == 0),
        _ => None,
    };
    let every = match decoder::pattern(meta, KEYS.window_pattern, s.layers, full)? {
        None => count(meta, KEYS.window_pattern)?.unwrap_or(6),
        Some(every) => every,
    };
    let window = window.map(|size| Window { size, full_every: every });
    let root = if s.layers == LAYERS_27B { s.width / s.heads } else { s.head_dim };
    let spec = decoder::spec(KEYS.arch, &s, rotary, embd, head)?;
    let spec = with_switches(spec, window, decoder::inverse_root(root));
    spec.validate()?;
    Ok(spec)
}

/// The rotary embedding of a config.json: newer files have parameters for both kinds of layers.
fn config_rotary(meta: &dyn Metadata, head_dim: u32) -> Result<Rotary, SpecError> {
    const FULL: &str = "rope_parameters.full_attention.rope_theta";
    const WINDOW: &str = "rope_parameters.sliding_attention.rope_theta";
    let rotary = decoder::config_rotary(meta, head_dim, 1e6)?;
    let kind = "rope_parameters.full_attention.rope_type";
    let scaling = match crate::meta::text(meta, kind)? {
        None => rotary.scaling,
        Some("default") => crate::spec::RopeScaling::None,
        Some("linear") => {
            let key = "rope_parameters.full_attention.factor";
            let factor = float(meta, key)?.ok_or(SpecError::Meta(MetaError::Missing(key)))?;
            crate::spec::RopeScaling::Linear(factor)
        }
        Some(_) => return Err(SpecError::Unsupported { key: kind, known: "default, linear" }),
    };
    let base = float(meta, FULL)?.unwrap_or(rotary.base);
    let window_base = match float(meta, WINDOW)? {
        None => float(meta, "rope_local_base_freq")?.unwrap_or(10_000.0),
        Some(base) => base,
    };
    Ok(Rotary { base, window_base, scaling, ..rotary })
}

fn from_config(meta: &dyn Metadata, shapes: &dyn Shapes) -> Result<Spec, SpecError> {
    let s = decoder::config_sizes(meta)?;
    let rotary = config_rotary(meta, s.head_dim)?;
    decoder::config_activation(
        meta,
        "hidden_activation",
        &["gelu_pytorch_tanh"],
        "gelu_pytorch_tanh",
    )?;
    for key in ["attn_logit_softcapping", "final_logit_softcapping"] {
        if float(meta, key)?.is_some_and(|v| v != 0.0) {
            return Err(SpecError::Unsupported { key, known: "null" });
        }
    }
    for key in ["use_bidirectional_attention", "attention_bias"] {
        if flag(meta, key)?.unwrap_or(false) {
            return Err(SpecError::Unsupported { key, known: "false" });
        }
    }
    let full = |v: Value<'_>| match v {
        Value::Str("full_attention") => Some(true),
        Value::Str("sliding_attention") => Some(false),
        _ => None,
    };
    let every = match decoder::pattern(meta, "layer_types", s.layers, full)? {
        Some(every) => every,
        None => match count(meta, "sliding_window_pattern")? {
            None => count(meta, "_sliding_window_pattern")?.unwrap_or(6),
            Some(every) => every,
        },
    };
    let size = count(meta, "sliding_window")?;
    let window = size.map(|size| Window { size, full_every: every });
    // The default of transformers' Gemma3TextConfig.
    let root = count(meta, "query_pre_attn_scalar")?.unwrap_or(256);
    let embd = decoder::config_embedding(meta, shapes)?;
    let spec = decoder::spec(KEYS.arch, &s, rotary, embd, decoder::config_head(meta, true)?)?;
    let spec = with_switches(spec, window, decoder::inverse_root(root));
    spec.validate()?;
    Ok(spec)
}
