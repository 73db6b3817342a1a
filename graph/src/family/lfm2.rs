//! LFM2 (Liquid AI, 2025): short convolutions in most layers and attention in some, norms of
//! queries and keys, gated SiLU, and a tied head.
//!
//! Some have experts in all but the first layers. Their weights are the logistic function of their
//! scores; a bias of each is added for the choice. GGUF files of these have always a bias and
//! normalised weights without a scale, which folders may have otherwise.

use teff_kernels::RopeKind;

use super::decoder::{self, Biases, Keys, LayerSet, Sizes, keys};
use super::hf::{self, Class};
use super::hf_rope;
use super::names::{each, hf, hf_ignored, named, share};
use super::{Family, GgufForm, Names, Rule, Shapes, folder_reader, moe};
use crate::layers::{Experts, FeedForward, Layer, Mixer, Router, ShortConv};
use crate::meta::{MetaError, Metadata, Value, count, flag, float, required};
#[cfg(feature = "alloc")]
use crate::spec::Head;
use crate::spec::{HfName, LayerRole as L};
use crate::{Role, Spec, SpecError, SpecRoom};

const KEYS: Keys = keys!("lfm2");
const TAPS: &str = "lfm2.shortconv.l_cache";
const MOE_KEYS: Keys = keys!("lfm2moe");
const MOE_TAPS: &str = "lfm2moe.shortconv.l_cache";

/// LFM2.
pub static LFM2: Family = FAMILY;

const FAMILY: Family = Family {
    arch: "lfm2",
    classes: &["Lfm2ForCausalLM"],
    model_type: "lfm2",
    prefix: "model.",
    from_gguf: |meta, shapes, room| from_gguf(meta, shapes, room, (&KEYS, TAPS)),
    from_config: folder_reader(|meta, shapes, room| {
        let ffn = config_ffn(meta, shapes)?;
        from_config(meta, shapes, room, KEYS.arch, (ffn, &CLASS, None))
    }),
    names: NAMES,
    gguf: GgufForm::HALVES,
    hf_transposed: |_| false,
    hf_shift: |_| 0.0,
    hf_ignored,
    ternary: false,
};

macro_rules! names {
    ($($more:expr),*) => {
        &[
            (Role::OutputNorm, &[hf("embedding_norm.weight")]),
            named(L::AttnNorm, &[hf("operator_norm.weight")]),
            named(L::AttnOut, &[hf("self_attn.out_proj.weight")]),
            named(L::AttnQNorm, &[hf("self_attn.q_layernorm.weight")]),
            named(L::AttnKNorm, &[hf("self_attn.k_layernorm.weight")]),
            named(L::FfnNorm, &[hf("ffn_norm.weight")]),
            named(L::FfnGate, &[hf("feed_forward.w1.weight")]),
            named(L::FfnUp, &[hf("feed_forward.w3.weight")]),
            named(L::FfnDown, &[hf("feed_forward.w2.weight")]),
            $($more),*
        ]
    };
}

const NAMES: Names =
    Names { gguf: &[(Role::OutputNorm, "token_embd_norm.weight")], hf: names!(), ..Names::LLAMA };

/// One tensor of all experts in files that are saved as transformers 5 holds them in memory.
const FUSED: &str = "feed_forward.experts.gate_up_proj";

const MOE_NAMES: &[(Role, &[HfName])] = names!(
    named(L::ExpertRouter, &[hf("feed_forward.gate.weight")]),
    named(L::ExpertChoiceBias, &[hf("feed_forward.expert_bias")]),
    named(L::ExpertGate, &[each("feed_forward.experts.{}.w1.weight"), share(FUSED, 0, 2)]),
    named(L::ExpertUp, &[each("feed_forward.experts.{}.w3.weight"), share(FUSED, 1, 2)]),
    named(
        L::ExpertDown,
        &[each("feed_forward.experts.{}.w2.weight"), share("feed_forward.experts.down_proj", 0, 1),],
    )
);

/// LFM2 with experts.
pub static LFM2_MOE: Family = Family {
    arch: "lfm2moe",
    classes: &["Lfm2MoeForCausalLM"],
    model_type: "lfm2_moe",
    from_gguf: |meta, shapes, room| from_gguf(meta, shapes, room, (&MOE_KEYS, MOE_TAPS)),
    from_config: folder_reader(|meta, shapes, room| {
        let ffn = count(meta, "intermediate_size")?.unwrap_or(MOE_CLASS.ffn);
        let sparse = config_experts(meta, room)?;
        from_config(meta, shapes, room, MOE_KEYS.arch, (ffn, &MOE_CLASS, Some(sparse)))
    }),
    names: Names { hf: MOE_NAMES, ..NAMES },
    ..FAMILY
};

/// Experts of all layers from a certain one on.
#[derive(Clone, Copy)]
struct Sparse {
    first: u32,
    experts: Experts,
}

impl Sparse {
    /// The same layer with its experts, if it has some.
    fn of(sparse: Option<Sparse>, l: u32, layer: Layer) -> Layer {
        match sparse {
            Some(s) if l >= s.first => Layer { ffn: FeedForward::Experts(s.experts), ..layer },
            _ => layer,
        }
    }
}

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
            let conv = Some(ShortConv { taps: 3, bias: false, fine: false });
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

/// Shape of LFM2 8B-A1B.
#[cfg(feature = "alloc")]
#[must_use]
pub fn lfm2_8b_a1b() -> Spec<'static> {
    let s = Sizes {
        context: 128_000,
        width: 2048,
        layers: 24,
        heads: 32,
        kv_heads: 8,
        head_dim: 64,
        ffn: 7168,
        eps: 1e-5,
    };
    let mut room = SpecRoom::new();
    let (kind, dims, scaling) = (RopeKind::NeoX, s.head_dim, crate::RopeScaling::None);
    let router = Router::Sigmoid { bias: true };
    let sparse =
        Some(Sparse { first: 2, experts: Experts { router, ..Experts::new(32, 4, 1792) } });
    let spec = room.rope(crate::Rope { kind, dims, base: 1e6, scaling, magnitude: 1.0 }).and_then(
        |rope| {
            let conv = Some(ShortConv { taps: 3, bias: false, fine: true });
            let attention = [2, 6, 10, 14, 18, 21];
            let layer = |l| {
                let conv = conv.filter(|_| !attention.contains(&l));
                Sparse::of(sparse, l, layer(&s, rope, conv, None))
            };
            decoder::spec("lfm2moe", &s, Some((65536, 2048)), Head::Tied, &mut room, layer)
        },
    );
    match spec {
        Ok(spec) => spec.to_owned(),
        Err(_) => unreachable!("a published shape"),
    }
}

/// Experts in a GGUF file, with the bias and the normalised weights that such files have.
fn gguf_experts(meta: &dyn Metadata, shapes: &dyn Shapes) -> Result<Sparse, SpecError> {
    let k = &MOE_KEYS;
    moe::gguf_switches(meta, k, moe::SIGMOID, true)?;
    moe::no_shared(meta, k)?;
    let need = |key| required(count(meta, key)?, key);
    let experts = Experts::new(need(k.experts)?, need(k.experts_used)?, need(k.expert_ffn)?);
    let router = Router::Sigmoid { bias: true };
    let first = number(meta, k.leading_dense)?.unwrap_or(0);
    // Some converters write gates and the other matrices as one tensor.
    let fused = decoder::layer_shape(shapes, first, "ffn_gate_up_exps.weight").is_some();
    Ok(Sparse { first, experts: Experts { router, fused, ..experts } })
}

/// A number of layers, which may be 0.
fn number(meta: &dyn Metadata, key: &'static str) -> Result<Option<u32>, SpecError> {
    match meta.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Uint(n)) => Ok(Some(u32::try_from(n).unwrap_or(u32::MAX))),
        Some(_) => Err(MetaError::Wrong { key, want: "a number of layers" }.into()),
    }
}

/// Reads a GGUF file, in which a layer without heads of keys and values is a convolution.
fn from_gguf<'p>(
    meta: &dyn Metadata,
    shapes: &dyn Shapes,
    room: &'p mut SpecRoom,
    (keys, taps): (&Keys, &'static str),
) -> Result<Spec<'p>, SpecError> {
    let need = |key| required(count(meta, key)?, key);
    let layers = need(keys.layers)?;
    let heads = required(decoder::uniform(meta, keys.heads, layers)?, keys.heads)?;
    let kv_heads = |l| -> Result<u32, SpecError> {
        Ok(decoder::per_layer(meta, keys.kv_heads, l)?.unwrap_or(heads))
    };
    let mut attention = None;
    for l in 0..layers.min(crate::MAX_LAYERS as u32) {
        let n = kv_heads(l)?;
        if n != 0 && attention.is_some_and(|other| other != n) {
            let known = "0 or the same for all layers";
            return Err(SpecError::Unsupported { key: keys.kv_heads, known });
        }
        attention = attention.or(Some(n).filter(|&n| n != 0));
    }
    decoder::no_more(meta, keys.kv_heads, layers)?;
    let ffn = required(decoder::uniform(meta, keys.ffn, layers)?, keys.ffn)?;
    let sparse = match keys.arch == MOE_KEYS.arch {
        true => Some(gguf_experts(meta, shapes)?),
        false if float(meta, keys.experts)?.is_some_and(|n| n != 0.0) => {
            return Err(SpecError::Unsupported { key: keys.experts, known: "absent or 0" });
        }
        false => None,
    };
    let s = decoder::gguf_sizes_but(meta, keys, attention, ffn)?;
    let rope = decoder::gguf_rope(meta, shapes, keys, RopeKind::NeoX, s.head_dim)?;
    let rope = room.rope(rope)?;
    let (embd, head) = (shapes.shape("token_embd.weight"), decoder::gguf_head(shapes));
    let conv = ShortConv { taps: need(taps)?, bias: false, fine: sparse.is_some() };
    let window = match meta.get(keys.window) {
        Some(Value::Uint(0)) => None,
        _ => count(meta, keys.window)?,
    };
    decoder::spec(keys.arch, &s, embd, head, room, |l| {
        let conv = (kv_heads(l) == Ok(0)).then_some(conv);
        Sparse::of(sparse, l, layer(&s, rope, conv, window))
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

/// Defaults of the class with experts.
const MOE_CLASS: Class = Class { width: 2048, ffn: 7168, ..CLASS };

/// Experts of a config.json.
fn config_experts(meta: &dyn Metadata, room: &mut SpecRoom) -> Result<Sparse, SpecError> {
    let or = |key, default| count(meta, key).map(|n| n.unwrap_or(default));
    let used = or("num_experts_per_tok", 4)?;
    let n = super::moe::number(meta, room)?.unwrap_or(32);
    let experts = Experts::new(n, used, or("moe_intermediate_size", 1792)?);
    let experts = Experts {
        normalised: flag(meta, "norm_topk_prob")?.unwrap_or(true),
        router: Router::Sigmoid { bias: flag(meta, "use_expert_bias")?.unwrap_or(true) },
        scale: float(meta, "routed_scaling_factor")?.unwrap_or(1.0),
        ..experts
    };
    Ok(Sparse { first: number(meta, "num_dense_layers")?.unwrap_or(2), experts })
}

/// Reads a config.json of a class with this inner width of dense layers, and these experts.
fn from_config<'p>(
    meta: &dyn Metadata,
    shapes: &dyn Shapes,
    room: &'p mut SpecRoom,
    arch: &'static str,
    (ffn, class, sparse): (u32, &Class, Option<Sparse>),
) -> Result<Spec<'p>, SpecError> {
    let s = Sizes { ffn, ..hf::sizes(meta, class)? };
    let of = hf_rope::Of { head_dim: s.head_dim, context: s.context, base: CLASS.base };
    let rope = hf_rope::one(meta, room, of)?;
    let rope = room.rope(rope)?;
    if decoder::is_window(meta.get(hf::WINDOW)) {
        room.note(hf::WINDOW, Rule::NoWindow);
    }
    let bias = flag(meta, "conv_bias")?.unwrap_or(false);
    let taps = count(meta, "conv_L_cache")?.unwrap_or(3);
    let conv = ShortConv { taps, bias, fine: sparse.is_some() };
    let known = "conv, full_attention, one for each layer";
    let unknown = SpecError::Unsupported { key: "layer_types", known };
    let listed = match meta.get("layer_types") {
        None | Some(Value::Null) => false,
        Some(Value::Other) => true,
        Some(_) => return Err(unknown),
    };
    let full = LayerSet::read(meta, INDICES)?;
    if !listed && full.is_none() && sparse.is_some() {
        // The class with experts has no default.
        return Err(MetaError::Missing("layer_types").into());
    }
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
    decoder::spec(arch, &s, embd, head, room, |l| {
        let conv = (is_conv(l) == Ok(true)).then_some(conv);
        Sparse::of(sparse, l, layer(&s, rope, conv, None))
    })
}
