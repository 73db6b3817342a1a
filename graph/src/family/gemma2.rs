//! Gemma 2 (2024): windows in every other layer, soft bounds of scores and of logits, four norms per
//! layer, gated GELU, and a scaled embedding that is also the head.

use teff_kernels::RopeKind;

use super::decoder::{self, Biases, GgufWindows, Keys, Sizes, is_full, keys};
use super::gemma3::{NAMES, hf_shift, with_scale};
use super::hf::{self, Class};
use super::hf_rope;
use super::names::hf_ignored;
use super::{Family, GgufForm, Shapes, folder_reader};
use crate::layers::{Activation, Layer};
use crate::meta::{MetaError, Metadata, Value, count, flag, float};
#[cfg(feature = "alloc")]
use crate::spec::Head;
use crate::{Spec, SpecError, SpecRoom};

const KEYS: Keys = Keys {
    // The bounds are computed.
    zeros: [
        "gemma2.attention.clamp_kqv",
        "gemma2.attention.clamp_kqv",
        "gemma2.attention.max_alibi_bias",
        "gemma2.attention.max_alibi_bias",
    ],
    ..keys!("gemma2")
};
const SCORES: &str = "gemma2.attn_logit_softcapping";
const LOGITS: &str = "gemma2.final_logit_softcapping";

/// Gemma 2.
pub static GEMMA2: Family = Family {
    arch: "gemma2",
    classes: &["Gemma2ForCausalLM"],
    model_type: "gemma2",
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

/// Soft bounds of scores and of logits, unless a file says others: in both containers.
const CAPS: [f32; 2] = [50.0, 30.0];
/// Size of windows, unless a file says another.
const WINDOW: u32 = 4096;
/// Interval of layers that attend to everything.
const EVERY: u32 = 2;
/// Layers of the only model that scales scores by `width / heads` instead of the head dimension; no
/// GGUF key says so.
const LAYERS_27B: u32 = 46;

/// Layer with a window or without; rotary embeddings are those of layers without and with one.
fn layer(s: &Sizes, ropes: [u8; 2], window: Option<u32>, (root, cap): (u32, Option<f32>)) -> Layer {
    let layer = decoder::layer(s, ropes[usize::from(window.is_some())], Biases::NONE);
    let mut layer = decoder::with_dense(layer, |d| d.activation = Activation::GeluTanh);
    layer.norms.post = true;
    decoder::with_attention(layer, |a| {
        (a.window, a.scale, a.softcap) = (window, decoder::inverse_root(root), cap);
    })
}

fn from_gguf<'p>(
    meta: &dyn Metadata,
    shapes: &dyn Shapes,
    room: &'p mut SpecRoom,
) -> Result<Spec<'p>, SpecError> {
    let s = decoder::gguf_sizes(meta, &KEYS)?;
    let rope = decoder::gguf_rope(meta, shapes, &KEYS, RopeKind::NeoX, s.head_dim)?;
    let cap = |key, default| match float(meta, key)? {
        None => Ok(Some(default)),
        Some(cap) if cap < 0.0 => {
            Err(SpecError::Meta(MetaError::Wrong { key, want: "a positive number, or 0" }))
        }
        Some(cap) => Ok(Some(cap).filter(|&cap| cap != 0.0)),
    };
    let (scores, logits) = (cap(SCORES, CAPS[0])?, cap(LOGITS, CAPS[1])?);
    let windows = GgufWindows::read(meta, &KEYS, s.layers, EVERY)?.or(meta, &KEYS, WINDOW);
    let ropes = decoder::gguf_ropes(meta, &KEYS, &windows, room, rope)?;
    let root = if s.layers == LAYERS_27B { s.width / s.heads } else { s.head_dim };
    let (embd, head) = (shapes.shape("token_embd.weight"), decoder::gguf_head(shapes));
    let layer = |l| layer(&s, ropes, windows.of(meta, l), (root, scores));
    let ends = |spec| Spec { logit_cap: logits, ..with_scale(spec) };
    decoder::spec_with(KEYS.arch, &s, embd, head, room, layer, ends)
}

const CLASS: Class = Class {
    width: 2304,
    ffn: 9216,
    layers: 26,
    heads: 8,
    kv_heads: Some(4),
    head_dim: Some(256),
    context: 8192,
    tied: true,
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
    hf::activation(meta, "hidden_activation", &["gelu_pytorch_tanh"], "gelu_pytorch_tanh")?;
    for key in ["use_bidirectional_attention", "attention_bias"] {
        if flag(meta, key)?.unwrap_or(false) {
            return Err(SpecError::Unsupported { key, known: "false" });
        }
    }
    let scores = hf::cap(meta, "attn_logit_softcapping", Some(CAPS[0]))?;
    let logits = hf::cap(meta, "final_logit_softcapping", Some(CAPS[1]))?;
    let listed = hf::listed(meta, s.layers)?;
    let is_windowed = |l| listed.as_ref().map_or(!is_full(l, EVERY), |listed| listed.has(l));
    let size = match meta.get(hf::WINDOW) {
        None => WINDOW,
        Some(Value::Null) if (0..s.layers).any(is_windowed) => {
            let want = "a number, which layers with a window need";
            return Err(MetaError::Wrong { key: hf::WINDOW, want }.into());
        }
        _ => count(meta, hf::WINDOW)?.unwrap_or(WINDOW),
    };
    // Default of transformers' Gemma2Config.
    let root = count(meta, "query_pre_attn_scalar")?.unwrap_or(256);
    let hf::Ends { embd, head } = hf::ends(meta, shapes, room, &CLASS)?;
    let rope = room.rope(rope)?;
    let layer = |l| layer(&s, [rope; 2], Some(size).filter(|_| is_windowed(l)), (root, scores));
    let ends = |spec| Spec { logit_cap: logits, ..with_scale(spec) };
    decoder::spec_with(KEYS.arch, &s, embd, head, room, layer, ends)
}

/// Shape of Gemma 2 2B.
#[cfg(feature = "alloc")]
#[must_use]
pub fn gemma2_2b() -> Spec<'static> {
    let s = Sizes {
        context: 8192,
        width: 2304,
        layers: 26,
        heads: 8,
        kv_heads: 4,
        head_dim: 256,
        ffn: 9216,
        eps: 1e-6,
    };
    let mut room = SpecRoom::new();
    let (kind, dims, base) = (RopeKind::NeoX, s.head_dim, CLASS.base);
    let scaling = crate::RopeScaling::None;
    let rope = room.rope(crate::Rope { kind, dims, base, scaling, magnitude: 1.0 });
    let spec = rope.and_then(|rope| {
        let window = |l| Some(WINDOW).filter(|_| !is_full(l, EVERY));
        let layer = |l| layer(&s, [rope; 2], window(l), (s.head_dim, Some(CAPS[0])));
        let ends = |spec| Spec { logit_cap: Some(CAPS[1]), ..with_scale(spec) };
        let embd = Some((256_000, s.width as usize));
        decoder::spec_with("gemma2", &s, embd, Head::Tied, &mut room, layer, ends)
    });
    match spec {
        Ok(spec) => spec.to_owned(),
        Err(_) => unreachable!("a published shape"),
    }
}
