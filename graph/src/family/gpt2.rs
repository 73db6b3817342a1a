//! GPT-2 (Radford et al., 2019): learned positions, layer norms before both parts, biases
//! everywhere, one matrix for queries, keys and values, GELU, and a tied head.

use super::decoder;
use super::hf;
use super::names::{hf, named};
use super::{Family, GgufForm, Names, Rule, Shapes, folder_reader};
use crate::layers::{
    Activation, Attention, Dense, FeedForward, Layer, Mixer, Norm, NormKind, Norms, Scales,
};
use crate::meta::{Metadata, count, flag, float, required, text};
use crate::spec::{Embed, Head, LayerRole as L, Layers};
use crate::{List, Role, Spec, SpecError, SpecRoom};

/// GPT-2.
pub static GPT2: Family = Family {
    arch: "gpt2",
    classes: &["GPT2LMHeadModel"],
    model_type: "gpt2",
    prefix: "transformer.",
    from_gguf,
    from_config: folder_reader(from_config),
    names: NAMES,
    gguf: GgufForm::HALVES,
    hf_transposed,
    hf_shift: |_| 0.0,
    hf_ignored,
    ternary: false,
};

const NAMES: Names = Names {
    gguf: &[],
    hf: &[
        (Role::TokenEmbd, &[hf("wte.weight"), hf("lm_head.weight")]),
        (Role::PositionEmbd, &[hf("wpe.weight")]),
        (Role::OutputNorm, &[hf("ln_f.weight")]),
        (Role::OutputNormBias, &[hf("ln_f.bias")]),
        (Role::Output, &[hf("lm_head.weight")]),
        named(L::AttnNorm, &[hf("ln_1.weight")]),
        named(L::AttnNormBias, &[hf("ln_1.bias")]),
        named(L::AttnQkv, &[hf("attn.c_attn.weight")]),
        named(L::AttnQkvBias, &[hf("attn.c_attn.bias")]),
        named(L::AttnOut, &[hf("attn.c_proj.weight")]),
        named(L::AttnOutBias, &[hf("attn.c_proj.bias")]),
        named(L::FfnNorm, &[hf("ln_2.weight")]),
        named(L::FfnNormBias, &[hf("ln_2.bias")]),
        named(L::FfnUp, &[hf("mlp.c_fc.weight")]),
        named(L::FfnUpBias, &[hf("mlp.c_fc.bias")]),
        named(L::FfnDown, &[hf("mlp.c_proj.weight")]),
        named(L::FfnDownBias, &[hf("mlp.c_proj.bias")]),
    ],
    hf_layers: "h",
    like_llama: false,
};

/// Layer of the published 124M model.
const SMALL: Layer = Layer {
    mixer: Mixer::Attention(Attention {
        heads: 12,
        kv_heads: 12,
        head_dim: 64,
        fused: true,
        qkv_bias: true,
        out_bias: true,
        scale: 0.125,
        ..Attention::EMPTY
    }),
    ffn: FeedForward::Dense(Dense {
        inner: 3072,
        gated: false,
        fused: false,
        activation: Activation::GeluTanh,
        bias: true,
        sub_norm: false,
        sparsity: None,
    }),
    norms: Norms { before: Norm { kind: NormKind::Layer, eps: 1e-5 }, pre: true, post: false },
    input: None,
    streams: None,
    scales: Scales { residual: 1.0, output: false },
};

/// Shape of the published 124M model.
#[must_use]
pub const fn small() -> Spec<'static> {
    Spec {
        arch: "gpt2",
        vocab: 50257,
        context: 1024,
        width: 768,
        embed: Embed { scale: 1.0, positions: true },
        layers: Layers::new(&[SMALL], &[0], 12),
        ropes: List::Borrowed(&[]),
        norm: SMALL.norms.before,
        head: Head::Tied,
        logit_divisor: 1.0,
        logit_cap: None,
        per_layer: None,
        streams: None,
        token_scales: false,
    }
}

/// Hyper-parameters that both containers have, under different names.
struct Sizes {
    context: u32,
    width: u32,
    layers: u32,
    heads: u32,
    ffn: u32,
    eps: f32,
    scaled: bool,
}

fn spec<'p>(
    s: &Sizes,
    embd: Option<(usize, usize)>,
    head: Head,
    room: &'p mut SpecRoom,
) -> Result<Spec<'p>, SpecError> {
    if !s.width.is_multiple_of(s.heads) {
        return Err(SpecError::Inconsistent("the width is not a multiple of the heads"));
    }
    let vocab = embd.ok_or(SpecError::NoTensor(Role::TokenEmbd))?.0;
    let vocab = u32::try_from(vocab).map_err(|_| SpecError::Inconsistent("the vocabulary"))?;
    let head_dim = s.width / s.heads;
    // 1 / sqrt(d) rounded once, not the inverse of a rounded root.
    let scale = if s.scaled { (1.0 / libm::sqrt(f64::from(head_dim))) as f32 } else { 1.0 };
    let norm = Norm { kind: NormKind::Layer, eps: s.eps };
    let mut layer = Layer { norms: Norms { before: norm, pre: true, post: false }, ..SMALL };
    if let Mixer::Attention(attention) = &mut layer.mixer {
        let (heads, kv_heads) = (s.heads, s.heads);
        *attention = Attention { heads, kv_heads, head_dim, scale, ..*attention };
    }
    if let FeedForward::Dense(dense) = &mut layer.ffn {
        dense.inner = s.ffn;
    }
    for _ in 0..s.layers {
        room.push(layer)?;
    }
    let room = &*room;
    let spec = Spec {
        vocab,
        context: s.context,
        width: s.width,
        layers: room.layers(),
        norm,
        head,
        ..small()
    };
    spec.validate()?;
    Ok(spec)
}

fn from_gguf<'p>(
    meta: &dyn Metadata,
    shapes: &dyn Shapes,
    room: &'p mut SpecRoom,
) -> Result<Spec<'p>, SpecError> {
    let need = |key| required(count(meta, key)?, key);
    let layers = need("gpt2.block_count")?;
    let uniform = |key| -> Result<u32, SpecError> {
        Ok(required(decoder::uniform(meta, key, layers)?, key)?)
    };
    let eps = "gpt2.attention.layer_norm_epsilon";
    let sizes = Sizes {
        context: need("gpt2.context_length")?,
        width: need("gpt2.embedding_length")?,
        layers,
        heads: uniform("gpt2.attention.head_count")?,
        ffn: uniform("gpt2.feed_forward_length")?,
        eps: required(float(meta, eps)?, eps)?,
        scaled: true,
    };
    let kv_heads = decoder::uniform(meta, "gpt2.attention.head_count_kv", layers)?;
    if kv_heads.is_some_and(|n| n != sizes.heads) {
        return Err(SpecError::Unsupported {
            key: "gpt2.attention.head_count_kv",
            known: "as many as gpt2.attention.head_count",
        });
    }
    let causal = "gpt2.attention.causal";
    if flag(meta, causal)? == Some(false) {
        return Err(SpecError::Unsupported { key: causal, known: "absent or true" });
    }
    let window = "gpt2.attention.sliding_window";
    if decoder::is_window(meta.get(window)) {
        room.note(window, Rule::NoWindow);
    }
    let own = shapes.shape("output.weight").is_some();
    let head = if own { Head::Own } else { Head::Tied };
    spec(&sizes, shapes.shape("token_embd.weight"), head, room)
}

fn from_config<'p>(
    meta: &dyn Metadata,
    shapes: &dyn Shapes,
    room: &'p mut SpecRoom,
) -> Result<Spec<'p>, SpecError> {
    // Defaults of transformers' GPT2Config, in which the names of other classes stand for its own.
    let mut size = |key, other, default| -> Result<u32, SpecError> {
        Ok(hf::either(meta, room, key, other)?.unwrap_or(default))
    };
    let width = size("n_embd", "hidden_size", 768)?;
    let sizes = Sizes {
        context: size("n_positions", "max_position_embeddings", 1024)?,
        width,
        layers: size("n_layer", "num_hidden_layers", 12)?,
        heads: size("n_head", "num_attention_heads", 12)?,
        ffn: match count(meta, "n_inner")? {
            Some(n) => n,
            None => width
                .checked_mul(4)
                .ok_or(SpecError::Inconsistent("n_embd is too large for its inner width"))?,
        },
        eps: float(meta, "layer_norm_epsilon")?.unwrap_or(1e-5),
        scaled: flag(meta, "scale_attn_weights")?.unwrap_or(true),
    };
    match text(meta, "activation_function")?.unwrap_or("gelu_new") {
        "gelu_new" | "gelu_pytorch_tanh" | "gelu_fast" => {}
        _ => {
            return Err(SpecError::Unsupported {
                key: "activation_function",
                known: "gelu_new, gelu_pytorch_tanh, gelu_fast (one function: GELU's tanh form)",
            });
        }
    }
    for key in ["scale_attn_by_inverse_layer_idx", "add_cross_attention"] {
        if flag(meta, key)?.unwrap_or(false) {
            return Err(SpecError::Unsupported { key, known: "false" });
        }
    }
    hf::no_window(meta, room);
    let tied = flag(meta, hf::TIED)?.unwrap_or(true);
    let hf::Ends { embd, head } = hf::ends_of(meta, shapes, room, (tied, "wte.weight"))?;
    spec(&sizes, embd, head, room)
}

/// True for tensors of transformers' Conv1D, which are stored as `[inputs, outputs]`.
fn hf_transposed(role: Role) -> bool {
    matches!(role, Role::Layer(_, L::AttnQkv | L::AttnOut | L::FfnUp | L::FfnDown))
}

/// True for the causal masks in older files.
fn hf_ignored(name: &str) -> bool {
    let mask = name.strip_prefix("h.").and_then(|n| n.split_once('.'));
    matches!(mask, Some((_, "attn.bias" | "attn.masked_bias")))
}
