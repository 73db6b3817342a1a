//! What the decoders that descend from Llama say in the same words.

use super::Shapes;
use crate::meta::{Metadata, Value, count, flag, float, required, text};
use crate::spec::{Activation, Biases, Head, Norm, Positions, RopeScaling, Rotary};
use crate::{Role, Spec, SpecError};

use teff_kernels::RopeKind;

/// The keys of a GGUF architecture.
pub(super) struct Keys {
    pub(super) arch: &'static str,
    pub(super) context: &'static str,
    pub(super) width: &'static str,
    pub(super) layers: &'static str,
    pub(super) heads: &'static str,
    pub(super) kv_heads: &'static str,
    pub(super) key_length: &'static str,
    pub(super) value_length: &'static str,
    pub(super) ffn: &'static str,
    pub(super) eps: &'static str,
    pub(super) window: &'static str,
    pub(super) window_pattern: &'static str,
    pub(super) rope_dims: &'static str,
    pub(super) rope_base: &'static str,
    pub(super) rope_window_base: &'static str,
    pub(super) rope_type: &'static str,
    pub(super) rope_factor: &'static str,
    pub(super) rope_factor_old: &'static str,
    pub(super) rope_attn_factor: &'static str,
    /// Switches that must be absent or 0.
    pub(super) zeros: [&'static str; 5],
}

/// The [`Keys`] of an architecture's name, which must be a literal.
macro_rules! keys {
    ($arch:literal) => {
        $crate::family::decoder::Keys {
            arch: $arch,
            context: concat!($arch, ".context_length"),
            width: concat!($arch, ".embedding_length"),
            layers: concat!($arch, ".block_count"),
            heads: concat!($arch, ".attention.head_count"),
            kv_heads: concat!($arch, ".attention.head_count_kv"),
            key_length: concat!($arch, ".attention.key_length"),
            value_length: concat!($arch, ".attention.value_length"),
            ffn: concat!($arch, ".feed_forward_length"),
            eps: concat!($arch, ".attention.layer_norm_rms_epsilon"),
            window: concat!($arch, ".attention.sliding_window"),
            window_pattern: concat!($arch, ".attention.sliding_window_pattern"),
            rope_dims: concat!($arch, ".rope.dimension_count"),
            rope_base: concat!($arch, ".rope.freq_base"),
            rope_window_base: concat!($arch, ".rope.freq_base_swa"),
            rope_type: concat!($arch, ".rope.scaling.type"),
            rope_factor: concat!($arch, ".rope.scaling.factor"),
            rope_factor_old: concat!($arch, ".rope.scale_linear"),
            rope_attn_factor: concat!($arch, ".rope.scaling.attn_factor"),
            zeros: [
                concat!($arch, ".expert_count"),
                concat!($arch, ".attn_logit_softcapping"),
                concat!($arch, ".final_logit_softcapping"),
                concat!($arch, ".attention.clamp_kqv"),
                concat!($arch, ".attention.max_alibi_bias"),
            ],
        }
    };
}
pub(super) use keys;

/// Hyper-parameters that every decoder has, however its container calls them.
pub(super) struct Sizes {
    pub(super) context: u32,
    pub(super) width: u32,
    pub(super) layers: u32,
    pub(super) heads: u32,
    pub(super) kv_heads: u32,
    pub(super) head_dim: u32,
    pub(super) ffn: u32,
    pub(super) eps: f32,
}

fn unsupported(key: &'static str, known: &'static str) -> SpecError {
    SpecError::Unsupported { key, known }
}

/// A decoder with RMS norms, a gated feed-forward part and rotary positions, and none of the
/// switches that make families different. `embd` is the shape of its embedding.
pub(super) fn spec(
    arch: &'static str,
    s: &Sizes,
    rotary: Rotary,
    embd: Option<(usize, usize)>,
    head: Head,
) -> Result<Spec, SpecError> {
    let vocab = embd.ok_or(SpecError::NoTensor(Role::TokenEmbd))?.0;
    let vocab = u32::try_from(vocab).map_err(|_| SpecError::Inconsistent("the vocabulary"))?;
    Ok(Spec {
        arch,
        vocab,
        context: s.context,
        layers: s.layers,
        width: s.width,
        heads: s.heads,
        kv_heads: s.kv_heads,
        head_dim: s.head_dim,
        ffn: s.ffn,
        norm: Norm::Rms,
        norm_eps: s.eps,
        positions: Positions::Rotary(rotary),
        window: None,
        fused_qkv: false,
        biases: Biases::NONE,
        qk_norms: false,
        sub_norms: false,
        post_norms: false,
        gated: true,
        activation: Activation::Silu,
        token_scales: false,
        embed_scale: 1.0,
        attn_scale: inverse_root(s.head_dim),
        head,
    })
}

/// `1 / sqrt(n)`, rounded once.
pub(super) fn inverse_root(n: u32) -> f32 {
    (1.0 / libm::sqrt(f64::from(n))) as f32
}

/// The sizes in a GGUF file.
pub(super) fn gguf_sizes(meta: &dyn Metadata, keys: &Keys) -> Result<Sizes, SpecError> {
    let need = |key| required(count(meta, key)?, key);
    let (width, heads) = (need(keys.width)?, need(keys.heads)?);
    for key in keys.zeros {
        if float(meta, key)?.is_some_and(|v| v != 0.0) {
            return Err(unsupported(key, "absent or 0"));
        }
    }
    let head_dim = match count(meta, keys.key_length)? {
        Some(n) => n,
        None if width.is_multiple_of(heads) => width / heads,
        None => {
            return Err(SpecError::Inconsistent("the width is not a multiple of the heads"));
        }
    };
    if count(meta, keys.value_length)?.is_some_and(|n| n != head_dim) {
        return Err(unsupported(keys.value_length, "the length of keys"));
    }
    Ok(Sizes {
        context: need(keys.context)?,
        width,
        layers: need(keys.layers)?,
        heads,
        kv_heads: count(meta, keys.kv_heads)?.unwrap_or(heads),
        head_dim,
        ffn: need(keys.ffn)?,
        eps: required(float(meta, keys.eps)?, keys.eps)?,
    })
}

/// The rotary embedding in a GGUF file. What older files don't say: all elements of a head are
/// turned, the base is 10000, in layers with a window too.
pub(super) fn gguf_rotary(
    meta: &dyn Metadata,
    shapes: &dyn Shapes,
    keys: &Keys,
    kind: RopeKind,
    head_dim: u32,
) -> Result<Rotary, SpecError> {
    let factor = match float(meta, keys.rope_factor)? {
        None | Some(0.0) => float(meta, keys.rope_factor_old)?,
        found => found,
    };
    let factor = factor.filter(|&f| f != 0.0 && f != 1.0);
    if float(meta, keys.rope_attn_factor)?.is_some_and(|f| f != 1.0) {
        return Err(unsupported(keys.rope_attn_factor, "absent or 1"));
    }
    let factors = shapes.shape("rope_freqs.weight").is_some();
    let scaling = match (text(meta, keys.rope_type)?, factor) {
        (None | Some("none" | "linear"), _) if factors => RopeScaling::Factors,
        (Some("none"), _) | (None | Some("linear"), None) => RopeScaling::None,
        (None | Some("linear"), Some(factor)) => RopeScaling::Linear(factor),
        _ => return Err(unsupported(keys.rope_type, "none, linear")),
    };
    if factors && factor.is_some() {
        return Err(SpecError::Inconsistent("a rotary scaling and a tensor rope_freqs.weight"));
    }
    Ok(Rotary {
        kind,
        dims: count(meta, keys.rope_dims)?.unwrap_or(head_dim),
        base: float(meta, keys.rope_base)?.unwrap_or(10_000.0),
        window_base: float(meta, keys.rope_window_base)?.unwrap_or(10_000.0),
        scaling,
    })
}

/// Whether a GGUF file has a head of its own.
pub(super) fn gguf_head(shapes: &dyn Shapes) -> Head {
    if shapes.shape("output.weight").is_some() { Head::Own } else { Head::Tied }
}

/// The biases that a GGUF file has: its metadata don't say.
pub(super) fn gguf_biases(shapes: &dyn Shapes) -> Biases {
    let has = |name| shapes.shape(name).is_some();
    Biases {
        qkv: has("blk.0.attn_q.bias"),
        attn_out: has("blk.0.attn_output.bias"),
        ffn: has("blk.0.ffn_up.bias"),
    }
}

/// The sizes in a config.json.
pub(super) fn config_sizes(meta: &dyn Metadata) -> Result<Sizes, SpecError> {
    let need = |key| required(count(meta, key)?, key);
    let (width, heads) = (need("hidden_size")?, need("num_attention_heads")?);
    let head_dim = match count(meta, "head_dim")? {
        Some(n) => n,
        None if width.is_multiple_of(heads) => width / heads,
        None => {
            return Err(SpecError::Inconsistent(
                "hidden_size is not a multiple of num_attention_heads",
            ));
        }
    };
    Ok(Sizes {
        context: need("max_position_embeddings")?,
        width,
        layers: need("num_hidden_layers")?,
        heads,
        kv_heads: count(meta, "num_key_value_heads")?.unwrap_or(heads),
        head_dim,
        ffn: need("intermediate_size")?,
        eps: required(float(meta, "rms_norm_eps")?, "rms_norm_eps")?,
    })
}

/// A field of the rotary parameters: newer files have them all in `rope_parameters`, older ones in
/// `rope_scaling`.
fn rope_float(
    meta: &dyn Metadata,
    new: &'static str,
    old: &'static str,
) -> Result<Option<f32>, SpecError> {
    Ok(match float(meta, new)? {
        None => float(meta, old)?,
        found => found,
    })
}

/// The rotary embedding in a config.json, of halves (the weights are stored for that). `base` is the
/// family's default.
pub(super) fn config_rotary(
    meta: &dyn Metadata,
    head_dim: u32,
    base: f32,
) -> Result<Rotary, SpecError> {
    let base = rope_float(meta, "rope_parameters.rope_theta", "rope_theta")?.unwrap_or(base);
    for key in ["partial_rotary_factor", "rope_parameters.partial_rotary_factor"] {
        if float(meta, key)?.is_some_and(|f| f != 1.0) {
            return Err(unsupported(key, "absent or 1"));
        }
    }
    let kinds = ["rope_parameters.rope_type", "rope_scaling.rope_type", "rope_scaling.type"];
    let mut scaling = RopeScaling::None;
    for key in kinds {
        let number = |new, old| required(rope_float(meta, new, old)?, new).map_err(SpecError::Meta);
        let factor = || number("rope_parameters.factor", "rope_scaling.factor");
        match text(meta, key)? {
            None => continue,
            Some("default") => {}
            Some("linear") => scaling = RopeScaling::Linear(factor()?),
            Some("llama3") => {
                scaling = RopeScaling::Llama3 {
                    factor: factor()?,
                    low: number("rope_parameters.low_freq_factor", "rope_scaling.low_freq_factor")?,
                    high: number(
                        "rope_parameters.high_freq_factor",
                        "rope_scaling.high_freq_factor",
                    )?,
                    original: number(
                        "rope_parameters.original_max_position_embeddings",
                        "rope_scaling.original_max_position_embeddings",
                    )?,
                };
            }
            Some(_) => return Err(unsupported(key, "default, linear, llama3")),
        }
        break;
    }
    Ok(Rotary { kind: RopeKind::NeoX, dims: head_dim, base, window_base: base, scaling })
}

/// The shape of the embedding, which must have as many rows as config.json says.
pub(super) fn config_embedding(
    meta: &dyn Metadata,
    shapes: &dyn Shapes,
) -> Result<Option<(usize, usize)>, SpecError> {
    let embd = shapes.shape("embed_tokens.weight");
    let vocab = count(meta, "vocab_size")?;
    if vocab.is_some_and(|v| embd.is_some_and(|(rows, _)| rows != v as usize)) {
        return Err(SpecError::Inconsistent("vocab_size is not the rows of embed_tokens.weight"));
    }
    Ok(embd)
}

/// Whether a config.json has a head of its own; `tied` is the family's default.
pub(super) fn config_head(meta: &dyn Metadata, tied: bool) -> Result<Head, SpecError> {
    let tied = flag(meta, "tie_word_embeddings")?.unwrap_or(tied);
    Ok(if tied { Head::Tied } else { Head::Own })
}

/// Refuses an activation that is not one of `known`.
pub(super) fn config_activation(
    meta: &dyn Metadata,
    key: &'static str,
    names: &[&str],
    known: &'static str,
) -> Result<(), SpecError> {
    match text(meta, key)? {
        Some(name) if !names.contains(&name) => Err(unsupported(key, known)),
        _ => Ok(()),
    }
}

/// The period in which layers without window stand, where a list says it for every layer: `full`
/// tells what an element means. `None` where there is no list.
pub(super) fn pattern(
    meta: &dyn Metadata,
    key: &'static str,
    layers: u32,
    full: impl Fn(Value<'_>) -> Option<bool>,
) -> Result<Option<u32>, SpecError> {
    if meta.get(key) != Some(Value::Other) {
        return Ok(None);
    }
    let at = |i: u32| meta.item(key, i as usize).and_then(&full);
    let bad = unsupported(key, "a full layer after every so many with a window");
    let mut every = 0;
    for i in 0..layers {
        match at(i) {
            Some(true) if every == 0 => every = i + 1,
            Some(_) => {}
            None => return Err(bad),
        }
    }
    let fits = (0..layers).all(|i| at(i) == Some(every != 0 && (i + 1).is_multiple_of(every)));
    if fits { Ok(Some(every)) } else { Err(bad) }
}
