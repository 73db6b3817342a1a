//! LFM3 (Liquid AI, 2026): LFM2's short convolutions, and attention of two kinds, with and without a
//! window; norms around each part, and a gate for each head. Only folders are known.

use super::decoder::{self, Biases, Sizes};
use super::hf::{self, Class};
use super::hf_rope;
use super::names::{hf, hf_ignored, named};
use super::{Family, GgufForm, Names, Shapes, folder_reader};
use crate::layers::{Layer, Mixer, ShortConv};
use crate::meta::{MetaError, Metadata, Value, count, flag, required};
use crate::spec::LayerRole as L;
use crate::{MAX_LAYERS, Role, Spec, SpecError, SpecRoom};

/// LFM3.
pub static LFM3: Family = Family {
    arch: "",
    classes: &["Lfm3ForCausalLM"],
    model_type: "lfm3",
    prefix: "model.",
    from_gguf: |_, _, _| {
        Err(SpecError::Unsupported { key: "general.architecture", known: "any but lfm3" })
    },
    from_config: folder_reader(from_config),
    names: NAMES,
    gguf: GgufForm::HALVES,
    hf_transposed: |_| false,
    hf_shift: |_| 0.0,
    hf_ignored,
    ternary: false,
};

const NAMES: Names = Names {
    hf: &[
        (Role::OutputNorm, &[hf("embedding_norm.weight")]),
        named(L::AttnNorm, &[hf("operator_norm.weight")]),
        named(L::AttnPostNorm, &[hf("post_operator_norm.weight")]),
        named(L::FfnNorm, &[hf("ffn_norm.weight")]),
        named(L::FfnPostNorm, &[hf("post_ffn_norm.weight")]),
        named(L::FfnGate, &[hf("feed_forward.w1.weight")]),
        named(L::FfnUp, &[hf("feed_forward.w3.weight")]),
        named(L::FfnDown, &[hf("feed_forward.w2.weight")]),
    ],
    ..Names::LLAMA
};

const CLASS: Class = Class {
    width: 2048,
    ffn: 7680,
    layers: 24,
    heads: 16,
    kv_heads: Some(4),
    head_dim: Some(128),
    context: 128_000,
    eps: 1e-5,
    eps_key: "norm_eps",
    base: 1e6,
    tied: true,
};

/// Kinds of layers.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Conv,
    Full,
    Windowed,
}

const KINDS: &str = "layer_types";

/// Kind of layer `l`, which a file without a list has as transformers' class.
fn kind(meta: &dyn Metadata, listed: bool, l: u32) -> Result<Kind, SpecError> {
    if !listed {
        return Ok(match l % 4 {
            2 => Kind::Full,
            0 if l > 0 => Kind::Windowed,
            _ => Kind::Conv,
        });
    }
    match meta.item(KINDS, l as usize) {
        Some(Value::Str("conv")) => Ok(Kind::Conv),
        Some(Value::Str("full_attention" | "attention")) => Ok(Kind::Full),
        Some(Value::Str("sliding_attention")) => Ok(Kind::Windowed),
        _ => {
            let known = "conv, full_attention, sliding_attention, one for each layer";
            Err(SpecError::Unsupported { key: KINDS, known })
        }
    }
}

fn layer(
    s: &Sizes,
    (kind, ropes): (Kind, [u8; 2]),
    (biases, conv): (Biases, ShortConv),
    (window, gates, post): (Option<u32>, bool, bool),
) -> Layer {
    let (rope, window) = match kind {
        Kind::Windowed => (ropes[1], window),
        _ => (ropes[0], None),
    };
    let layer = decoder::layer(s, rope, biases);
    let mut layer = match kind {
        Kind::Conv => Layer { mixer: Mixer::ShortConv(conv), ..layer },
        _ => decoder::with_attention(layer, |a| {
            (a.qk_norm, a.window, a.head_gate) = (true, window, gates);
        }),
    };
    layer.norms.post = post;
    layer
}

fn from_config<'p>(
    meta: &dyn Metadata,
    shapes: &dyn Shapes,
    room: &'p mut SpecRoom,
) -> Result<Spec<'p>, SpecError> {
    let s = hf::sizes(meta, &CLASS)?;
    let listed = match meta.get(KINDS) {
        None | Some(Value::Null) => false,
        Some(Value::Other) => true,
        Some(_) => return Err(MetaError::Wrong { key: KINDS, want: "a list" }.into()),
    };
    let mut windowed = false;
    for l in 0..s.layers.min(MAX_LAYERS as u32) {
        windowed |= kind(meta, listed, l)? == Kind::Windowed;
    }
    if listed {
        decoder::no_more(meta, KINDS, s.layers)?;
    }
    let window = match windowed {
        // Null is none, with which transformers fails.
        true => Some(required(hf::window(meta, 256)?, hf::WINDOW)?),
        false => None,
    };
    let ropes = hf_rope::proportional(meta, [s.head_dim; 2], 0.5, windowed)?;
    let ropes = [room.rope(ropes[0])?, room.rope(ropes[1])?];
    let is = |key, default| flag(meta, key).map(|on| on.unwrap_or(default));
    let attn = is("attention_bias", false)?;
    let biases = Biases { qkv: attn, attn_out: attn, ffn: false };
    let conv = ShortConv {
        taps: count(meta, "conv_L_cache")?.unwrap_or(7),
        bias: is("conv_bias", false)?,
        fine: false,
    };
    let (gates, post) = (is("use_attention_gate", true)?, is("use_sandwich_norm", true)?);
    let hf::Ends { embd, head } = hf::ends(meta, shapes, room, &CLASS)?;
    decoder::spec("lfm3", &s, embd, head, room, |l| {
        let kind = kind(meta, listed, l).unwrap_or(Kind::Conv); // looked at above
        layer(&s, (kind, ropes), (biases, conv), (window, gates, post))
    })
}
