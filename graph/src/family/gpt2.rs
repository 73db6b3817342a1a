//! GPT-2 (Radford et al., 2019): learned positions, layer norms before both parts, biases
//! everywhere, one matrix for queries, keys and values, GELU, a tied head.

use core::fmt;

use super::{Family, Shapes};
use crate::meta::{Metadata, count, flag, float, required, text};
use crate::spec::{Activation, Biases, Head, LayerRole, Norm, Positions};
use crate::{Role, Spec, SpecError};

/// The family.
pub static GPT2: Family = Family {
    arch: "gpt2",
    classes: &["GPT2LMHeadModel"],
    model_type: "gpt2",
    prefix: "transformer.",
    from_gguf,
    from_config,
    hf_name,
    hf_transposed,
    hf_shift: |_| 0.0,
    hf_ignored,
    ternary: false,
};

/// The shape of the published 124M model.
#[must_use]
pub fn small() -> Spec {
    Spec {
        arch: "gpt2",
        vocab: 50257,
        context: 1024,
        layers: 12,
        width: 768,
        heads: 12,
        kv_heads: 12,
        head_dim: 64,
        ffn: 3072,
        norm: Norm::Layer,
        norm_eps: 1e-5,
        positions: Positions::Learned,
        window: None,
        fused_qkv: true,
        biases: Biases::ALL,
        qk_norms: false,
        sub_norms: false,
        post_norms: false,
        gated: false,
        activation: Activation::GeluTanh,
        token_scales: false,
        embed_scale: 1.0,
        attn_scale: 0.125,
        head: Head::Tied,
    }
}

/// What both containers say in their own words.
struct Sizes {
    context: u32,
    width: u32,
    layers: u32,
    heads: u32,
    ffn: u32,
    eps: f32,
    scaled: bool,
}

fn spec(s: &Sizes, embd: Option<(usize, usize)>, head: Head) -> Result<Spec, SpecError> {
    if !s.width.is_multiple_of(s.heads) {
        return Err(SpecError::Inconsistent("the width is not a multiple of the heads"));
    }
    let vocab = embd.ok_or(SpecError::NoTensor(Role::TokenEmbd))?.0;
    let vocab = u32::try_from(vocab).map_err(|_| SpecError::Inconsistent("the vocabulary"))?;
    let head_dim = s.width / s.heads;
    // 1 / sqrt(d) rounded once, not a rounded root's inverse.
    let scale = if s.scaled { (1.0 / libm::sqrt(f64::from(head_dim))) as f32 } else { 1.0 };
    let spec = Spec {
        vocab,
        context: s.context,
        layers: s.layers,
        width: s.width,
        heads: s.heads,
        kv_heads: s.heads,
        head_dim,
        ffn: s.ffn,
        norm_eps: s.eps,
        attn_scale: scale,
        head,
        ..small()
    };
    spec.validate()?;
    Ok(spec)
}

fn from_gguf(meta: &dyn Metadata, shapes: &dyn Shapes) -> Result<Spec, SpecError> {
    let need = |key| required(count(meta, key)?, key);
    let eps = "gpt2.attention.layer_norm_epsilon";
    let sizes = Sizes {
        context: need("gpt2.context_length")?,
        width: need("gpt2.embedding_length")?,
        layers: need("gpt2.block_count")?,
        heads: need("gpt2.attention.head_count")?,
        ffn: need("gpt2.feed_forward_length")?,
        eps: required(float(meta, eps)?, eps)?,
        scaled: true,
    };
    if count(meta, "gpt2.attention.head_count_kv")?.is_some_and(|n| n != sizes.heads) {
        return Err(SpecError::Unsupported {
            key: "gpt2.attention.head_count_kv",
            known: "as many as gpt2.attention.head_count",
        });
    }
    let own = shapes.shape("output.weight").is_some();
    spec(&sizes, shapes.shape("token_embd.weight"), if own { Head::Own } else { Head::Tied })
}

fn from_config(meta: &dyn Metadata, shapes: &dyn Shapes) -> Result<Spec, SpecError> {
    let need = |key| required(count(meta, key)?, key);
    let width = need("n_embd")?;
    let sizes = Sizes {
        context: need("n_positions")?,
        width,
        layers: need("n_layer")?,
        heads: need("n_head")?,
        // The defaults of transformers' GPT2Config.
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
    let tied = flag(meta, "tie_word_embeddings")?.unwrap_or(true);
    let embd = shapes.shape("wte.weight");
    let vocab = count(meta, "vocab_size")?;
    if vocab.is_some_and(|v| embd.is_some_and(|(rows, _)| rows != v as usize)) {
        return Err(SpecError::Inconsistent("vocab_size is not the rows of wte.weight"));
    }
    spec(&sizes, embd, if tied { Head::Tied } else { Head::Own })
}

fn hf_name(role: Role, out: &mut dyn fmt::Write) -> fmt::Result {
    use LayerRole as L;
    let (l, name) = match role {
        Role::TokenEmbd => return out.write_str("wte.weight"),
        Role::PositionEmbd => return out.write_str("wpe.weight"),
        Role::OutputNorm => return out.write_str("ln_f.weight"),
        Role::OutputNormBias => return out.write_str("ln_f.bias"),
        Role::Output => return out.write_str("lm_head.weight"),
        Role::RopeFactors => return Err(fmt::Error),
        Role::Layer(l, role) => {
            let name = match role {
                L::AttnNorm => "ln_1.weight",
                L::AttnNormBias => "ln_1.bias",
                L::AttnQkv => "attn.c_attn.weight",
                L::AttnQkvBias => "attn.c_attn.bias",
                L::AttnOut => "attn.c_proj.weight",
                L::AttnOutBias => "attn.c_proj.bias",
                L::FfnNorm => "ln_2.weight",
                L::FfnNormBias => "ln_2.bias",
                L::FfnUp => "mlp.c_fc.weight",
                L::FfnUpBias => "mlp.c_fc.bias",
                L::FfnDown => "mlp.c_proj.weight",
                L::FfnDownBias => "mlp.c_proj.bias",
                _ => return Err(fmt::Error),
            };
            (l, name)
        }
    };
    write!(out, "h.{l}.{name}")
}

/// transformers' Conv1D keeps `[inputs, outputs]`.
fn hf_transposed(role: Role) -> bool {
    use LayerRole as L;
    matches!(role, Role::Layer(_, L::AttnQkv | L::AttnOut | L::FfnUp | L::FfnDown))
}

/// Causal masks that older files carry, and a tied head written out again.
fn hf_ignored(name: &str) -> bool {
    let mask = name.strip_prefix("h.").and_then(|n| n.split_once('.'));
    matches!(mask, Some((_, "attn.bias" | "attn.masked_bias"))) || name == "lm_head.weight"
}
