//! Gemma 3 (2025), text: windows in five of six layers with a rotary base of their own, norms of
//! queries and keys, four norms per layer, gated GELU, and a scaled embedding that is also the
//! head.

use teff_kernels::RopeKind;

use super::decoder::{self, Biases, GgufWindows, Keys, Sizes, is_full, keys};
use super::hf::{self, Class};
use super::hf_rope;
use super::names::{hf, hf_ignored, named};
use super::{Family, GgufForm, Names, Rule, Shapes, folder_reader};
use crate::layers::{Activation, Layer};
use crate::meta::{MetaError, Metadata, count, flag, float};
#[cfg(feature = "alloc")]
use crate::spec::Head;
use crate::spec::{Embed, LayerRole as L, Rope, RopeScaling};
use crate::{Role, Spec, SpecError, SpecRoom};

const KEYS: Keys = keys!("gemma3");
/// Names of the four norms, of Gemma 2 too.
pub(super) const NAMES: Names = Names {
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
pub(super) fn hf_shift(role: Role) -> f32 {
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

/// Layer with a window of this size, or none; rotary embeddings are those of layers without and
/// with one.
fn layer(s: &Sizes, ropes: [u8; 2], window: Option<u32>, scale: f32) -> Layer {
    let layer = decoder::layer(s, ropes[usize::from(window.is_some())], Biases::NONE);
    let mut layer = decoder::with_dense(layer, |d| d.activation = Activation::GeluTanh);
    layer.norms.post = true;
    decoder::with_attention(layer, |a| {
        (a.qk_norm, a.window, a.scale) = (true, window, scale);
    })
}

/// Interval of layers that attend to everything, unless a file says another.
const EVERY: u32 = 6;

/// The same model with its embedding scale.
pub(super) fn with_scale(spec: Spec<'_>) -> Spec<'_> {
    let scale = libm::sqrt(f64::from(spec.width)) as f32;
    Spec { embed: Embed { scale, ..spec.embed }, ..spec }
}

/// Rotary embeddings of layers without and with a window; the latter only if there are any.
fn ropes(room: &mut SpecRoom, ropes: [Rope; 2], windows: bool) -> Result<[u8; 2], SpecError> {
    let [full, windowed] = ropes;
    let first = room.rope(full)?;
    Ok([first, if windows { room.rope(windowed)? } else { first }])
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
    let (kind, dims, scaling) = (RopeKind::NeoX, s.head_dim, RopeScaling::None);
    let both = [1e6, WINDOW_BASE].map(|base| Rope { kind, dims, base, scaling, magnitude: 1.0 });
    let scale = decoder::inverse_root(s.head_dim);
    let spec = ropes(&mut room, both, true).and_then(|ropes| {
        let embd = Some((vocab, s.width as usize));
        let layer = |l| layer(s, ropes, Some(size).filter(|_| !is_full(l, full_every)), scale);
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

/// Rotary base of layers with a window.
const WINDOW_BASE: f32 = 10_000.0;

fn from_gguf<'p>(
    meta: &dyn Metadata,
    shapes: &dyn Shapes,
    room: &'p mut SpecRoom,
) -> Result<Spec<'p>, SpecError> {
    let s = decoder::gguf_sizes(meta, &KEYS)?;
    let rope = decoder::gguf_rope(meta, shapes, &KEYS, RopeKind::NeoX, s.head_dim)?;
    let base = float(meta, KEYS.rope_window_base)?.unwrap_or(WINDOW_BASE);
    let (embd, head) = (shapes.shape("token_embd.weight"), decoder::gguf_head(shapes));
    let windows = GgufWindows::read(meta, &KEYS, s.layers, EVERY)?;
    let root = if s.layers == LAYERS_27B { s.width / s.heads } else { s.head_dim };
    let windowed = Rope { base, scaling: RopeScaling::None, magnitude: 1.0, ..rope };
    let ropes = ropes(room, [rope, windowed], windows.any())?;
    let layer = |l| layer(&s, ropes, windows.of(meta, l), decoder::inverse_root(root));
    let spec = with_scale(decoder::spec(KEYS.arch, &s, embd, head, room, layer)?);
    spec.validate()?;
    Ok(spec)
}

const CLASS: Class = Class {
    width: 2304,
    ffn: 9216,
    layers: 26,
    heads: 8,
    kv_heads: Some(4),
    head_dim: Some(256),
    context: 131_072,
    base: 1e6,
    tied: true,
    ..Class::LLAMA
};

const PATTERN: &str = "sliding_window_pattern";
/// Name of the pattern in transformers' objects, which it writes but doesn't read.
const PATTERN_INSIDE: &str = "_sliding_window_pattern";

/// Period of layers without a window where config.json doesn't list the kinds of layers; notes a
/// period that contradicts the list, or has a name that isn't read.
fn config_every(
    meta: &dyn Metadata,
    listed: Option<&hf::Windows>,
    layers: u32,
    room: &mut SpecRoom,
) -> Result<u32, SpecError> {
    let (said, inside) = (count(meta, PATTERN)?, count(meta, PATTERN_INSIDE)?);
    let every = said.unwrap_or(EVERY);
    let differs = |every| match listed {
        Some(listed) => (0..layers).any(|l| listed.has(l) == is_full(l, every)),
        None => false,
    };
    if said.is_some_and(differs) {
        room.note(PATTERN, Rule::LayerTypes);
    }
    if listed.is_none() && said.is_none() && inside.is_some_and(|n| n != EVERY) {
        room.note(PATTERN_INSIDE, Rule::PatternName);
    }
    Ok(every)
}

fn from_config<'p>(
    meta: &dyn Metadata,
    shapes: &dyn Shapes,
    room: &'p mut SpecRoom,
) -> Result<Spec<'p>, SpecError> {
    let s = hf::sizes(meta, &CLASS)?;
    let of = hf_rope::Of { head_dim: s.head_dim, context: s.context, base: CLASS.base };
    let both = hf_rope::by_kind(meta, room, of, WINDOW_BASE)?;
    hf::activation(meta, "hidden_activation", &["gelu_pytorch_tanh"], "gelu_pytorch_tanh")?;
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
    let listed = hf::listed(meta, s.layers)?;
    let every = config_every(meta, listed.as_ref(), s.layers, room)?;
    let is_windowed = |l: u32| match &listed {
        Some(listed) => listed.has(l),
        None => !is_full(l, every),
    };
    let windows = (0..s.layers).any(is_windowed);
    let size = match count(meta, hf::WINDOW)? {
        None if windows && meta.get(hf::WINDOW).is_some() => {
            let want = "a number, which layers with a window need";
            return Err(MetaError::Wrong { key: hf::WINDOW, want }.into());
        }
        size => size.unwrap_or(4096),
    };
    // Default of transformers' Gemma3TextConfig.
    let root = count(meta, "query_pre_attn_scalar")?.unwrap_or(256);
    let hf::Ends { embd, head } = hf::ends(meta, shapes, room, &CLASS)?;
    let ropes = ropes(room, both, windows)?;
    let layer =
        |l| layer(&s, ropes, Some(size).filter(|_| is_windowed(l)), decoder::inverse_root(root));
    let spec = with_scale(decoder::spec(KEYS.arch, &s, embd, head, room, layer)?);
    spec.validate()?;
    Ok(spec)
}
