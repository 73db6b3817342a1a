//! LFM2 (Liquid AI, 2025): short convolutions in most layers and attention in some, norms of
//! queries and keys, gated SiLU, and a tied head.

use teff_kernels::RopeKind;

use super::decoder::{self, Biases, Keys, LayerSet, Sizes, keys};
use super::hf::{self, Class};
use super::hf_rope;
use super::names::{hf, hf_ignored, named};
use super::{Family, GgufForm, Names, Rule, Shapes, folder_reader};
use crate::layers::{Layer, Mixer, ShortConv};
use crate::meta::{Metadata, Value, count, flag, required};
#[cfg(feature = "alloc")]
use crate::spec::Head;
use crate::spec::LayerRole as L;
use crate::{Role, Spec, SpecError, SpecRoom};

const KEYS: Keys = keys!("lfm2");
const TAPS: &str = "lfm2.shortconv.l_cache";

/// LFM2.
pub static LFM2: Family = Family {
    arch: "lfm2",
    classes: &["Lfm2ForCausalLM"],
    model_type: "lfm2",
    prefix: "model.",
    from_gguf,
    from_config: folder_reader(from_config),
    names: NAMES,
    gguf: GgufForm::HALVES,
    hf_transposed: |_| false,
    hf_shift: |_| 0.0,
    hf_ignored,
    ternary: false,
};

const NAMES: Names = Names {
    gguf: &[(Role::OutputNorm, "token_embd_norm.weight")],
    hf: &[
        (Role::OutputNorm, &[hf("embedding_norm.weight")]),
        named(L::AttnNorm, &[hf("operator_norm.weight")]),
        named(L::AttnOut, &[hf("self_attn.out_proj.weight")]),
        named(L::AttnQNorm, &[hf("self_attn.q_layernorm.weight")]),
        named(L::AttnKNorm, &[hf("self_attn.k_layernorm.weight")]),
        named(L::FfnNorm, &[hf("ffn_norm.weight")]),
        named(L::FfnGate, &[hf("feed_forward.w1.weight")]),
        named(L::FfnUp, &[hf("feed_forward.w3.weight")]),
        named(L::FfnDown, &[hf("feed_forward.w2.weight")]),
    ],
    ..Names::LLAMA
};

/// Layer of either kind.
fn layer(s: &Sizes, rope: u8, conv: Option<ShortConv>, window: Option<u32>) -> Layer {
    let layer = decoder::layer(s, rope, Biases::NONE);
    match conv {
        Some(conv) => Layer { mixer: Mixer::ShortConv(conv), ..layer },
        None => decoder::with_attention(layer, |a| (a.qk_norm, a.window) = (true, window)),
    }
}

/// Shape of LFM2 1.2B.
#[cfg(feature = "alloc")]
#[must_use]
pub fn lfm2_1_2b() -> Spec<'static> {
    let s = Sizes {
        context: 128_000,
        width: 2048,
        layers: 16,
        heads: 32,
        kv_heads: 8,
        head_dim: 64,
        ffn: 8192,
        eps: 1e-5,
    };
    let mut room = SpecRoom::new();
    let (kind, dims, scaling) = (RopeKind::NeoX, s.head_dim, crate::RopeScaling::None);
    let spec = room.rope(crate::Rope { kind, dims, base: 1e6, scaling, magnitude: 1.0 }).and_then(
        |rope| {
            let conv = Some(ShortConv { taps: 3, bias: false });
            let attention = [2, 5, 8, 10, 12, 14];
            let layer = |l| layer(&s, rope, conv.filter(|_| !attention.contains(&l)), None);
            decoder::spec("lfm2", &s, Some((65536, 2048)), Head::Tied, &mut room, layer)
        },
    );
    match spec {
        Ok(spec) => spec.to_owned(),
        Err(_) => unreachable!("a published shape"),
    }
}

/// Reads a GGUF file, in which a layer without heads of keys and values is a convolution.
fn from_gguf<'p>(
    meta: &dyn Metadata,
    shapes: &dyn Shapes,
    room: &'p mut SpecRoom,
) -> Result<Spec<'p>, SpecError> {
    let need = |key| required(count(meta, key)?, key);
    let layers = need(KEYS.layers)?;
    let heads = required(decoder::uniform(meta, KEYS.heads, layers)?, KEYS.heads)?;
    let kv_heads = |l| -> Result<u32, SpecError> {
        Ok(decoder::per_layer(meta, KEYS.kv_heads, l)?.unwrap_or(heads))
    };
    let mut attention = None;
    for l in 0..layers.min(crate::MAX_LAYERS as u32) {
        let n = kv_heads(l)?;
        if n != 0 && attention.is_some_and(|other| other != n) {
            let known = "0 or the same for all layers";
            return Err(SpecError::Unsupported { key: KEYS.kv_heads, known });
        }
        attention = attention.or(Some(n).filter(|&n| n != 0));
    }
    decoder::no_more(meta, KEYS.kv_heads, layers)?;
    let ffn = required(decoder::uniform(meta, KEYS.ffn, layers)?, KEYS.ffn)?;
    let s = decoder::gguf_sizes_but(meta, &KEYS, attention, ffn)?;
    let rope = decoder::gguf_rope(meta, shapes, &KEYS, RopeKind::NeoX, s.head_dim)?;
    let rope = room.rope(rope)?;
    let (embd, head) = (shapes.shape("token_embd.weight"), decoder::gguf_head(shapes));
    let conv = ShortConv { taps: need(TAPS)?, bias: false };
    let window = match meta.get(KEYS.window) {
        Some(Value::Uint(0)) => None,
        _ => count(meta, KEYS.window)?,
    };
    decoder::spec(KEYS.arch, &s, embd, head, room, |l| {
        layer(&s, rope, (kv_heads(l) == Ok(0)).then_some(conv), window)
    })
}

/// Inner width, taken from the tensor, since readers disagree about the settings that adjust it.
fn config_ffn(meta: &dyn Metadata, shapes: &dyn Shapes) -> Result<u32, SpecError> {
    match shapes.shape("layers.0.feed_forward.w1.weight") {
        Some((rows, _)) => {
            u32::try_from(rows).map_err(|_| SpecError::Inconsistent("the inner width"))
        }
        None => {
            let ffn = count(meta, "block_ff_dim")?.or(count(meta, "intermediate_size")?);
            Ok(ffn.unwrap_or(CLASS.ffn))
        }
    }
}

/// Key of the numbers of the layers with attention, in files without `layer_types`.
const INDICES: &str = "full_attn_idxs";

/// Name of [`hf::TIED`] in older files.
const OLD_TIED: &str = "tie_embedding";

const CLASS: Class = Class {
    width: 2560,
    ffn: 12288,
    kv_heads: Some(8),
    context: 128_000,
    eps: 1e-5,
    eps_key: "norm_eps",
    base: 1e6,
    tied: true,
    ..Class::LLAMA
};

fn from_config<'p>(
    meta: &dyn Metadata,
    shapes: &dyn Shapes,
    room: &'p mut SpecRoom,
) -> Result<Spec<'p>, SpecError> {
    let s = Sizes { ffn: config_ffn(meta, shapes)?, ..hf::sizes(meta, &CLASS)? };
    let of = hf_rope::Of { head_dim: s.head_dim, context: s.context, base: CLASS.base };
    let rope = hf_rope::one(meta, room, of)?;
    let rope = room.rope(rope)?;
    if decoder::is_window(meta.get(hf::WINDOW)) {
        room.note(hf::WINDOW, Rule::NoWindow);
    }
    let bias = flag(meta, "conv_bias")?.unwrap_or(false);
    let conv = ShortConv { taps: count(meta, "conv_L_cache")?.unwrap_or(3), bias };
    let known = "conv, full_attention, one for each layer";
    let unknown = SpecError::Unsupported { key: "layer_types", known };
    let listed = match meta.get("layer_types") {
        None | Some(Value::Null) => false,
        Some(Value::Other) => true,
        Some(_) => return Err(unknown),
    };
    let full = LayerSet::read(meta, INDICES)?;
    let is_conv = |l: u32| -> Result<bool, SpecError> {
        if listed {
            return match meta.item("layer_types", l as usize) {
                Some(Value::Str("conv")) => Ok(true),
                Some(Value::Str("full_attention" | "attention")) => Ok(false),
                _ => Err(unknown),
            };
        }
        Ok(full.is_some_and(|set| !set.has(l)))
    };
    for l in 0..s.layers.min(crate::MAX_LAYERS as u32) {
        is_conv(l)?;
    }
    if listed {
        decoder::no_more(meta, "layer_types", s.layers)?;
        let differs = |set: LayerSet| (0..s.layers).any(|l| is_conv(l) == Ok(set.has(l)));
        if full.is_some_and(differs) {
            room.note(INDICES, Rule::LayerTypes);
        }
    }
    let (older, newer) = (flag(meta, OLD_TIED)?, flag(meta, hf::TIED)?);
    if older.is_some() && newer.is_some() && older != newer {
        room.note(hf::TIED, Rule::OlderName);
    }
    let tied = older.or(newer).unwrap_or(CLASS.tied);
    let hf::Ends { embd, head } = hf::ends_of(meta, shapes, room, (tied, "embed_tokens.weight"))?;
    decoder::spec(KEYS.arch, &s, embd, head, room, |l| {
        layer(&s, rope, (is_conv(l) == Ok(true)).then_some(conv), None)
    })
}
