//! Gemma 3 (2025), text: windows in five of six layers with a rotary base of their own, norms of
//! queries and keys, four norms per layer, gated GELU, and a scaled embedding that is also the
//! head.

use teff_kernels::RopeKind;

use super::decoder::{self, Biases, Keys, Sizes, keys};
use super::names::{hf, hf_ignored, named};
use super::{Family, GgufForm, Names, Shapes, folder_reader};
use crate::layers::{Activation, Layer};
use crate::meta::{MetaError, Metadata, Value, count, flag, float};
#[cfg(feature = "alloc")]
use crate::spec::Head;
use crate::spec::{Embed, LayerRole as L, Rope, RopeScaling};
use crate::{Role, Spec, SpecError, SpecRoom};

const KEYS: Keys = keys!("gemma3");
const NAMES: Names = Names {
    hf: &[
        named(L::AttnPostNorm, &[hf("post_attention_layernorm.weight")]),
        named(L::FfnNorm, &[hf("pre_feedforward_layernorm.weight")]),
        named(L::FfnPostNorm, &[hf("post_feedforward_layernorm.weight")]),
    ],
    ..Names::LLAMA
};

/// Gemma 3.
pub static GEMMA3: Family = Family {
    arch: "gemma3",
    classes: &["Gemma3ForCausalLM"],
    model_type: "gemma3_text",
    prefix: "model.",
    from_gguf,
    from_config: folder_reader(from_config),
    names: NAMES,
    gguf: GgufForm::HALVES,
    hf_transposed: |_| false,
    hf_shift,
    hf_ignored,
    ternary: false,
};

/// Gemma's norms multiply by 1 plus the weight in Hugging Face files.
fn hf_shift(role: Role) -> f32 {
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

/// Layers that attend only to the last positions.
#[derive(Clone, Copy)]
struct Window {
    /// Positions that such a layer attends to, including its own; `None` if all layers attend to
    /// everything.
    size: Option<u32>,
    /// Interval of layers that attend to everything, counting from 1; 0 if there are none.
    full_every: u32,
}

/// Layer `l`; rotary embeddings are those of layers without and with a window.
fn layer(s: &Sizes, ropes: [u8; 2], window: Window, scale: f32, l: u32) -> Layer {
    let full = window.full_every != 0 && (l + 1).is_multiple_of(window.full_every);
    let size = window.size.filter(|_| !full);
    let layer = decoder::layer(s, ropes[usize::from(size.is_some())], Biases::NONE);
    let mut layer = decoder::with_dense(layer, |d| d.activation = Activation::GeluTanh);
    layer.norms.post = true;
    decoder::with_attention(layer, |a| {
        (a.qk_norm, a.window, a.scale) = (true, size, scale);
    })
}

/// The same model with its embedding scale.
fn with_scale(spec: Spec<'_>) -> Spec<'_> {
    let scale = libm::sqrt(f64::from(spec.width)) as f32;
    Spec { embed: Embed { scale, ..spec.embed }, ..spec }
}

/// Both rotary embeddings; the one for windows only if there are any.
fn ropes(room: &mut SpecRoom, full: Rope, base: f32, window: Window) -> Result<[u8; 2], SpecError> {
    let first = room.rope(full)?;
    if window.size.is_none() {
        return Ok([first; 2]);
    }
    Ok([first, room.rope(Rope { base, scaling: RopeScaling::None, ..full })?])
}

/// Shape of Gemma 3 1B.
#[cfg(feature = "alloc")]
#[must_use]
pub fn gemma3_1b() -> Spec<'static> {
    let s = Sizes {
        context: 32768,
        width: 1152,
        layers: 26,
        heads: 4,
        kv_heads: 1,
        head_dim: 256,
        ffn: 6912,
        eps: 1e-6,
    };
    with_window(&s, 262_144, 512, 6)
}

/// Model of this shape with windows of `size` in all layers but every `full_every`th.
#[cfg(feature = "alloc")]
fn with_window(s: &Sizes, vocab: usize, size: u32, full_every: u32) -> Spec<'static> {
    let mut room = SpecRoom::new();
    let window = Window { size: Some(size), full_every };
    let (kind, dims, scaling) = (RopeKind::NeoX, s.head_dim, RopeScaling::None);
    let full = Rope { kind, dims, base: 1e6, scaling };
    let scale = decoder::inverse_root(s.head_dim);
    let spec = ropes(&mut room, full, 10_000.0, window).and_then(|ropes| {
        let embd = Some((vocab, s.width as usize));
        let layer = |l| layer(s, ropes, window, scale, l);
        decoder::spec("gemma3", s, embd, Head::Tied, &mut room, layer)
    });
    match spec {
        Ok(spec) => with_scale(spec).to_owned(),
        Err(_) => unreachable!("a published shape"),
    }
}

/// Layers of the only models that scale scores by `width / heads` instead of the head dimension; no
/// GGUF key says so.
const LAYERS_27B: u32 = 62;

fn from_gguf<'p>(
    meta: &dyn Metadata,
    shapes: &dyn Shapes,
    room: &'p mut SpecRoom,
) -> Result<Spec<'p>, SpecError> {
    let s = decoder::gguf_sizes(meta, &KEYS)?;
    let rope = decoder::gguf_rope(meta, shapes, &KEYS, RopeKind::NeoX, s.head_dim)?;
    let window_base = float(meta, KEYS.rope_window_base)?.unwrap_or(10_000.0);
    let (embd, head) = (shapes.shape("token_embd.weight"), decoder::gguf_head(shapes));
    // A file without a window key has no windows; one without a pattern key has Gemma's own
    // pattern.
    let size = match meta.get(KEYS.window) {
        None | Some(Value::Uint(0)) => None,
        Some(_) => count(meta, KEYS.window)?,
    };
    let full = |v: Value<'_>| match v {
        Value::Bool(windowed) => Some(!windowed),
        Value::Uint(windowed) => Some(windowed == 0),
        _ => None,
    };
    let full_every = match decoder::pattern(meta, KEYS.window_pattern, s.layers, full)? {
        None => count(meta, KEYS.window_pattern)?.unwrap_or(6),
        Some(every) => every,
    };
    let window = Window { size, full_every };
    let root = if s.layers == LAYERS_27B { s.width / s.heads } else { s.head_dim };
    let ropes = ropes(room, rope, window_base, window)?;
    let layer = |l| layer(&s, ropes, window, decoder::inverse_root(root), l);
    let spec = with_scale(decoder::spec(KEYS.arch, &s, embd, head, room, layer)?);
    spec.validate()?;
    Ok(spec)
}

/// Rotary embedding of layers without a window in a config.json, and the base of the others: newer
/// files have parameters for both kinds of layers.
fn config_ropes(meta: &dyn Metadata, head_dim: u32) -> Result<(Rope, f32), SpecError> {
    const FULL: &str = "rope_parameters.full_attention.rope_theta";
    const WINDOW: &str = "rope_parameters.sliding_attention.rope_theta";
    let rope = decoder::config_rope(meta, head_dim, 1e6)?;
    let kind = "rope_parameters.full_attention.rope_type";
    let scaling = match crate::meta::text(meta, kind)? {
        None => rope.scaling,
        Some("default") => RopeScaling::None,
        Some("linear") => {
            let key = "rope_parameters.full_attention.factor";
            let factor = float(meta, key)?.ok_or(SpecError::Meta(MetaError::Missing(key)))?;
            RopeScaling::Linear(factor)
        }
        Some(_) => return Err(SpecError::Unsupported { key: kind, known: "default, linear" }),
    };
    let base = float(meta, FULL)?.unwrap_or(rope.base);
    let window_base = match float(meta, WINDOW)? {
        None => float(meta, "rope_local_base_freq")?.unwrap_or(10_000.0),
        Some(base) => base,
    };
    Ok((Rope { base, scaling, ..rope }, window_base))
}

fn from_config<'p>(
    meta: &dyn Metadata,
    shapes: &dyn Shapes,
    room: &'p mut SpecRoom,
) -> Result<Spec<'p>, SpecError> {
    let s = decoder::config_sizes(meta)?;
    let (rope, window_base) = config_ropes(meta, s.head_dim)?;
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
    let full_every = match decoder::pattern(meta, "layer_types", s.layers, full)? {
        Some(every) => every,
        None => match count(meta, "sliding_window_pattern")? {
            None => count(meta, "_sliding_window_pattern")?.unwrap_or(6),
            Some(every) => every,
        },
    };
    let window = Window { size: count(meta, "sliding_window")?, full_every };
    // Default of transformers' Gemma3TextConfig.
    let root = count(meta, "query_pre_attn_scalar")?.unwrap_or(256);
    let embd = decoder::config_embedding(meta, shapes)?;
    let head = decoder::config_head(meta, true)?;
    let ropes = ropes(room, rope, window_base, window)?;
    let layer = |l| layer(&s, ropes, window, decoder::inverse_root(root), l);
    let spec = with_scale(decoder::spec(KEYS.arch, &s, embd, head, room, layer)?);
    spec.validate()?;
    Ok(spec)
}
