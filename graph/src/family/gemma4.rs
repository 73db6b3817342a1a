//! Gemma 4 (2026), text: windows in most layers, with heads of another width than in layers without,
//! where a part of each head is rotated; norms of queries, keys and values, four norms per layer and a
//! factor after it, gated GELU, and a scaled embedding that is also the head. Small models have inputs
//! of their own in every layer, and layers that share keys and values; large ones have experts
//! beside the dense part, or keys that are values too.

use teff_kernels::RopeKind;

use super::decoder::{self, Biases, GgufWindows, Keys, Sizes, is_full, keys};
use super::hf::{self, Class};
use super::hf_rope;
use super::names::{hf, hf_ignored, named, share};
use super::{Family, GgufForm, Names, Rule, Shapes, folder_reader, moe};
use crate::layers::{Activation, DenseAndExperts, Experts, FeedForward, Layer, LayerInput};
use crate::meta::{MetaError, Metadata, Value, count, flag, float, required};
#[cfg(feature = "alloc")]
use crate::spec::Head;
use crate::spec::{Embed, LayerRole as L, MAX_LAYERS, PerLayer, Rope, RopeScaling};
use crate::{Role, Spec, SpecError, SpecRoom};

const KEYS: Keys = Keys {
    // The bound of the logits is computed.
    zeros: [
        "gemma4.attn_logit_softcapping",
        "gemma4.attention.clamp_kqv",
        "gemma4.attention.max_alibi_bias",
        "gemma4.attention.max_alibi_bias",
    ],
    ..keys!("gemma4")
};
const KEY_LENGTH_WINDOW: &str = "gemma4.attention.key_length_swa";
const VALUE_LENGTH_WINDOW: &str = "gemma4.attention.value_length_swa";
const ROPE_DIMS_WINDOW: &str = "gemma4.rope.dimension_count_swa";
const SHARED: &str = "gemma4.attention.shared_kv_layers";
const PER_LAYER: &str = "gemma4.embedding_length_per_layer_input";
const CAP: &str = "gemma4.final_logit_softcapping";

const NAMES: Names = Names {
    hf: &[
        named(L::AttnPostNorm, &[hf("post_attention_layernorm.weight")]),
        named(L::FfnNorm, &[hf("pre_feedforward_layernorm.weight")]),
        named(L::FfnPostNorm, &[hf("post_feedforward_layernorm.weight")]),
        named(L::ExpertRouter, &[hf("router.proj.weight")]),
        named(L::ExpertGateUp, &[share("experts.gate_up_proj", 0, 1)]),
        named(L::ExpertGate, &[share("experts.gate_up_proj", 0, 2)]),
        named(L::ExpertUp, &[share("experts.gate_up_proj", 1, 2)]),
        named(L::ExpertDown, &[share("experts.down_proj", 0, 1)]),
    ],
    ..Names::LLAMA
};

/// Gemma 4.
pub static GEMMA4: Family = Family {
    arch: "gemma4",
    classes: &["Gemma4ForCausalLM"],
    model_type: "gemma4_text",
    prefix: "model.",
    from_gguf,
    from_config: folder_reader(from_config),
    names: NAMES,
    gguf: GgufForm { rope_factors: true, by_kind: true, merges: true, ..GgufForm::HALVES },
    hf_transposed: |_| false,
    hf_shift: |_| 0.0,
    hf_ignored,
    ternary: false,
};

/// Rotary base of layers with a window.
const WINDOW_BASE: f32 = 10_000.0;

/// Layers as both containers describe them; lists have an element for each layer.
struct Shape {
    /// Head dimension of layers without and with a window.
    head_dims: [u32; 2],
    /// Their rotary embeddings.
    ropes: [u8; 2],
    window: u32,
    windowed: [bool; MAX_LAYERS],
    kv_heads: [u32; MAX_LAYERS],
    ffn: [u32; MAX_LAYERS],
    /// True if keys are values too.
    keys_as_values: [bool; MAX_LAYERS],
    /// True if a factor follows the layer.
    scaled: [bool; MAX_LAYERS],
    /// True if the gates of experts are in one tensor with the other matrices.
    fused: [bool; MAX_LAYERS],
    /// Number of the first layer that shares keys and values.
    first_shared: u32,
    /// Number of inputs that each layer has of its own; 0 for none.
    inputs: u32,
    /// Experts beside the dense part.
    experts: Option<Experts>,
}

impl Shape {
    /// Layer whose keys and values layer `l` uses: the last one of its kind that has its own.
    fn shared(&self, l: u32) -> Option<u32> {
        shared(&self.windowed, self.first_shared, l)
    }

    fn layer(&self, s: &Sizes, l: u32) -> Layer {
        let i = l as usize;
        let windowed = self.windowed[i];
        let kind = usize::from(windowed);
        let (head_dim, kv_heads, ffn) = (self.head_dims[kind], self.kv_heads[i], self.ffn[i]);
        let s = Sizes { head_dim, kv_heads, ffn, ..*s };
        let layer = decoder::layer(&s, self.ropes[kind], Biases::NONE);
        let mut layer = decoder::with_dense(layer, |d| d.activation = Activation::GeluTanh);
        if let (FeedForward::Dense(dense), Some(mut experts)) = (layer.ffn, self.experts) {
            experts.fused = self.fused[i];
            layer.ffn = FeedForward::DenseAndExperts(DenseAndExperts { dense, experts });
        }
        layer.norms.post = true;
        layer.scales.output = self.scaled[i];
        let activation = Activation::GeluTanh;
        layer.input = Some(LayerInput { width: self.inputs, activation }).filter(|i| i.width > 0);
        decoder::with_attention(layer, |a| {
            (a.qk_norm, a.value_norm, a.scale) = (true, true, 1.0);
            a.window = Some(self.window).filter(|_| windowed);
            a.shared_kv = self.shared(l);
            a.keys_as_values = self.keys_as_values[i] && a.shared_kv.is_none();
        })
    }

    /// Checks that every layer that shares keys and values finds some.
    fn check(&self, s: &Sizes, key: &'static str) -> Result<(), SpecError> {
        check_shared(&self.windowed, (self.first_shared, s.layers), key)
    }
}

/// Layer whose keys and values layer `l` uses: of those before the first that shares any, the last one
/// of its kind.
pub(super) fn shared(windowed: &[bool], first: u32, l: u32) -> Option<u32> {
    let kind = |l: u32| windowed.get(l as usize).copied();
    (0..first).rev().find(|&i| l >= first && kind(i) == kind(l))
}

/// Checks that every layer from the first to the last that shares keys and values finds some.
pub(super) fn check_shared(
    windowed: &[bool],
    (first, layers): (u32, u32),
    key: &'static str,
) -> Result<(), SpecError> {
    if (first..layers).all(|l| shared(windowed, first, l).is_some()) {
        return Ok(());
    }
    let known = "fewer, so that both kinds of layers have keys and values of their own";
    Err(SpecError::Unsupported { key, known })
}

/// The number of layers, which lists have room for.
pub(super) fn layers_of(layers: u32) -> Result<u32, SpecError> {
    match layers as usize > MAX_LAYERS {
        true => Err(SpecError::Room { what: "layers", max: MAX_LAYERS }),
        false => Ok(layers),
    }
}

/// The same model with what is not the layers'.
fn with_ends<'p>(spec: Spec<'p>, logit_cap: Option<f32>, per_layer: Option<PerLayer>) -> Spec<'p> {
    let scale = libm::sqrt(f64::from(spec.width)) as f32;
    Spec { embed: Embed { scale, ..spec.embed }, logit_cap, per_layer, ..spec }
}

/// The inputs of all layers, by the shape of their embedding, which must have as many rows as the
/// vocabulary.
fn per_layer(
    width: u32,
    table: Option<(usize, usize)>,
    embd: Option<(usize, usize)>,
) -> Result<Option<PerLayer>, SpecError> {
    if width == 0 {
        return Ok(None);
    }
    let (rows, _) = table.ok_or(SpecError::NoTensor(Role::PerLayerEmbd))?;
    if embd.is_some_and(|(vocab, _)| vocab > rows) {
        return Err(SpecError::Inconsistent("the embedding of the layers' inputs lacks tokens"));
    }
    let vocab = u32::try_from(rows).map_err(|_| SpecError::Inconsistent("the vocabulary"))?;
    Ok(Some(PerLayer { width, vocab }))
}

/// A number that may be 0, which [`count`] refuses.
pub(super) fn count_or_0(meta: &dyn Metadata, key: &'static str) -> Result<Option<u32>, SpecError> {
    match meta.get(key) {
        Some(Value::Uint(0)) => Ok(Some(0)),
        _ => Ok(count(meta, key)?),
    }
}

/// Experts of this shape.
fn experts(experts: u32, used: u32, inner: u32) -> Experts {
    let activation = Activation::GeluTanh;
    Experts { activation, ..Experts::new(experts, used, inner) }
}

/// Experts in a GGUF file, if it has any.
fn gguf_experts(meta: &dyn Metadata) -> Result<Option<Experts>, SpecError> {
    let Some(n) = count_or_0(meta, KEYS.experts)?.filter(|&n| n > 0) else { return Ok(None) };
    moe::gguf_switches(meta, &KEYS, moe::SOFTMAX, true)?;
    moe::no_dense(meta, &KEYS)?;
    moe::no_shared(meta, &KEYS)?;
    let need = |key| required(count(meta, key)?, key);
    Ok(Some(experts(n, need(KEYS.experts_used)?, need(KEYS.expert_ffn)?)))
}

/// Experts in config.json, if it has any.
fn config_experts(meta: &dyn Metadata) -> Result<Option<Experts>, SpecError> {
    if !flag(meta, "enable_moe_block")?.unwrap_or(false) {
        return Ok(None);
    }
    let need = |key| required(count(meta, key)?, key);
    let inner = need("moe_intermediate_size")?;
    Ok(Some(experts(need("num_experts")?, need("top_k_experts")?, inner)))
}

fn from_gguf<'p>(
    meta: &dyn Metadata,
    shapes: &dyn Shapes,
    room: &'p mut SpecRoom,
) -> Result<Spec<'p>, SpecError> {
    let need = |key, l| Ok::<_, SpecError>(required(decoder::per_layer(meta, key, l)?, key)?);
    let layers = layers_of(required(count(meta, KEYS.layers)?, KEYS.layers)?)?;
    let (kv_heads, ffn) = (need(KEYS.kv_heads, 0)?, need(KEYS.ffn, 0)?);
    let s = decoder::gguf_sizes_but(meta, &KEYS, Some(kv_heads), ffn)?;
    let head_dim = required(count(meta, KEY_LENGTH_WINDOW)?, KEY_LENGTH_WINDOW)?;
    if count(meta, VALUE_LENGTH_WINDOW)?.is_some_and(|n| n != head_dim) {
        let known = "the length of keys";
        return Err(SpecError::Unsupported { key: VALUE_LENGTH_WINDOW, known });
    }
    let missing = |key| SpecError::Meta(MetaError::Missing(key));
    meta.get(KEYS.window_pattern).ok_or(missing(KEYS.window_pattern))?;
    let windows = GgufWindows::read(meta, &KEYS, layers, 0)?;
    let shared = count_or_0(meta, SHARED)?.unwrap_or(0);
    let mut shape = Shape {
        head_dims: [s.head_dim, head_dim],
        ropes: [0; 2],
        window: required(count(meta, KEYS.window)?, KEYS.window)?,
        windowed: [false; MAX_LAYERS],
        kv_heads: [0; MAX_LAYERS],
        ffn: [0; MAX_LAYERS],
        keys_as_values: [false; MAX_LAYERS],
        scaled: [false; MAX_LAYERS],
        fused: [false; MAX_LAYERS],
        first_shared: layers.saturating_sub(shared),
        inputs: count_or_0(meta, PER_LAYER)?.unwrap_or(0),
        experts: gguf_experts(meta)?,
    };
    for l in 0..layers {
        let (i, has) = (l as usize, |name| decoder::layer_shape(shapes, l, name).is_some());
        shape.windowed[i] = windows.of(meta, l).is_some();
        (shape.kv_heads[i], shape.ffn[i]) = (need(KEYS.kv_heads, l)?, need(KEYS.ffn, l)?);
        shape.scaled[i] = has("layer_output_scale.weight");
        shape.fused[i] = has("ffn_gate_up_exps.weight");
        // llama.cpp takes the keys wherever the matrix of the values isn't there.
        shape.keys_as_values[i] = !has("attn_v.weight");
    }
    decoder::no_more(meta, KEYS.kv_heads, layers)?;
    decoder::no_more(meta, KEYS.ffn, layers)?;
    shape.check(&s, SHARED)?;
    let full = decoder::gguf_rope(meta, shapes, &KEYS, RopeKind::NeoX, s.head_dim)?;
    let is_full = |w: &bool| !w;
    if shape.windowed[..layers as usize].iter().any(is_full) && full.scaling != RopeScaling::Factors
    {
        return Err(SpecError::NoTensor(Role::RopeFactors));
    }
    let windowed = Rope {
        dims: count(meta, ROPE_DIMS_WINDOW)?.unwrap_or(head_dim),
        base: float(meta, KEYS.rope_window_base)?.unwrap_or(WINDOW_BASE),
        scaling: RopeScaling::None,
        magnitude: 1.0,
        ..full
    };
    shape.ropes = [room.rope(full)?, room.rope(windowed)?];
    let (embd, head) = (shapes.shape("token_embd.weight"), decoder::gguf_head(shapes));
    let inputs = per_layer(shape.inputs, shapes.shape("per_layer_token_embd.weight"), embd)?;
    let cap = float(meta, CAP)?.filter(|&cap| cap != 0.0);
    let layer = |l| shape.layer(&s, l);
    decoder::spec_with(KEYS.arch, &s, embd, head, room, layer, |spec| with_ends(spec, cap, inputs))
}

const CLASS: Class = Class {
    width: 2304,
    ffn: 9216,
    layers: 30,
    heads: 8,
    kv_heads: Some(4),
    head_dim: Some(256),
    context: 131_072,
    base: 1e6,
    tied: true,
    ..Class::LLAMA
};

/// Interval of layers that attend to everything, unless a file lists the kinds of layers.
const EVERY: u32 = 6;

const OF_LAYERS: &str = "per_layer_config";
const GLOBAL_HEAD_DIM: &str = "global_head_dim";
const GLOBAL_KV_HEADS: &str = "num_global_key_value_heads";
const SHARED_LAYERS: &str = "num_kv_shared_layers";
const INPUTS: &str = "hidden_size_per_layer_input";
const INPUTS_VOCAB: &str = "vocab_size_per_layer_input";

/// Fields of transformers' class that a layer may have of its own, and that must be the model's.
const ALIKE: [&str; 9] = [
    "hidden_size",
    "intermediate_size",
    "num_attention_heads",
    "sliding_window",
    "rms_norm_eps",
    "hidden_activation",
    INPUTS,
    "attention_k_eq_v",
    "moe_intermediate_size",
];

/// Number of a layer's own in `per_layer_config`.
fn of_layer(meta: &dyn Metadata, l: u32, field: &str) -> Result<Option<u32>, SpecError> {
    let want = "an object with positive numbers under the numbers of layers";
    match decoder::layer_field(meta, OF_LAYERS, l, field) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Uint(n)) if (1..1 << 31).contains(&n) => Ok(Some(n as u32)),
        Some(_) => Err(MetaError::Wrong { key: OF_LAYERS, want }.into()),
    }
}

/// Heads of layers with and without a window, in the published form (two keys for those without) or
/// in that of transformers 5 (what differs in each layer), which counts where a file has both.
fn heads(
    meta: &dyn Metadata,
    s: &Sizes,
    shape: &mut Shape,
    keys_as_values: bool,
    room: &mut SpecRoom,
) -> Result<(), SpecError> {
    let layers = 0..s.layers;
    let (head_dim, kv_heads) = (count(meta, GLOBAL_HEAD_DIM)?, count(meta, GLOBAL_KV_HEADS)?);
    if !matches!(meta.get(OF_LAYERS), None | Some(Value::Null)) {
        let mut full = None;
        for l in layers {
            let (i, own) = (l as usize, of_layer(meta, l, "head_dim")?.unwrap_or(s.head_dim));
            shape.kv_heads[i] = of_layer(meta, l, "num_key_value_heads")?.unwrap_or(s.kv_heads);
            let known = "heads of one width in all layers with a window, and in all without";
            let one = if shape.windowed[i] { s.head_dim } else { *full.get_or_insert(own) };
            let other = |field: &&str| decoder::layer_field(meta, OF_LAYERS, l, field).is_some();
            if own != one || ALIKE.iter().any(other) {
                return Err(SpecError::Unsupported { key: OF_LAYERS, known });
            }
        }
        shape.head_dims = [full.unwrap_or(s.head_dim), s.head_dim];
        if head_dim.is_some_and(|n| n != shape.head_dims[0]) {
            room.note(GLOBAL_HEAD_DIM, Rule::PerLayerConfig);
        }
        let differs =
            |n| (0..s.layers as usize).any(|i| !shape.windowed[i] && shape.kv_heads[i] != n);
        if keys_as_values && kv_heads.is_some_and(differs) {
            room.note(GLOBAL_KV_HEADS, Rule::PerLayerConfig);
        }
        return Ok(());
    }
    shape.head_dims = [head_dim.unwrap_or(512), s.head_dim];
    for l in layers {
        // Where values have a matrix, their heads are as many in all layers.
        let own = kv_heads.filter(|_| keys_as_values && !shape.windowed[l as usize]);
        shape.kv_heads[l as usize] = own.unwrap_or(s.kv_heads);
    }
    Ok(())
}

fn from_config<'p>(
    meta: &dyn Metadata,
    shapes: &dyn Shapes,
    room: &'p mut SpecRoom,
) -> Result<Spec<'p>, SpecError> {
    let s = hf::sizes(meta, &CLASS)?;
    hf::activation(meta, "hidden_activation", &["gelu_pytorch_tanh"], "gelu_pytorch_tanh")?;
    if flag(meta, "attention_bias")?.unwrap_or(false) {
        return Err(SpecError::Unsupported { key: "attention_bias", known: "false" });
    }
    const BOTH_WAYS: &str = "use_bidirectional_attention";
    if !matches!(meta.get(BOTH_WAYS), None | Some(Value::Null | Value::Str("vision"))) {
        return Err(SpecError::Unsupported { key: BOTH_WAYS, known: "null, vision" });
    }
    let experts = config_experts(meta)?;
    let keys_as_values = flag(meta, "attention_k_eq_v")?.unwrap_or(false);
    let wide = flag(meta, "use_double_wide_mlp")?.unwrap_or(false);
    let shared = count_or_0(meta, SHARED_LAYERS)?.unwrap_or(0);
    let inputs = match meta.get(INPUTS) {
        None => 256, // the default of transformers' class
        _ => count_or_0(meta, INPUTS)?.unwrap_or(0),
    };
    let mut shape = Shape {
        head_dims: [s.head_dim; 2],
        ropes: [0; 2],
        window: count(meta, hf::WINDOW)?.unwrap_or(512),
        windowed: [false; MAX_LAYERS],
        kv_heads: [0; MAX_LAYERS],
        ffn: [s.ffn; MAX_LAYERS],
        keys_as_values: [false; MAX_LAYERS],
        scaled: [true; MAX_LAYERS],
        fused: [experts.is_some_and(|e| e.inner.is_multiple_of(16)); MAX_LAYERS],
        first_shared: s.layers.saturating_sub(shared),
        inputs,
        experts,
    };
    if matches!(meta.get(hf::WINDOW), Some(Value::Null)) {
        return Err(MetaError::Wrong { key: hf::WINDOW, want: "a number" }.into());
    }
    let listed = hf::listed(meta, s.layers)?;
    for l in 0..s.layers {
        let (i, last) = (l as usize, l + 1 == s.layers);
        let windowed = listed.as_ref().map_or(!is_full(l, EVERY), |listed| listed.has(l));
        if windowed && last && listed.is_some() {
            room.note("layer_types", Rule::LastFull);
        }
        shape.windowed[i] = windowed && !last;
        shape.keys_as_values[i] = keys_as_values && !shape.windowed[i];
        if wide && l >= shape.first_shared {
            let twice = s.ffn.checked_mul(2);
            shape.ffn[i] = twice.ok_or(SpecError::Inconsistent("the inner width"))?;
        }
    }
    heads(meta, &s, &mut shape, keys_as_values, room)?;
    shape.check(&s, SHARED_LAYERS)?;
    let [full, windowed] = hf_rope::proportional(meta, shape.head_dims, 0.25, true)?;
    shape.ropes = [room.rope(full)?, room.rope(windowed)?];
    let hf::Ends { embd, head } = hf::ends(meta, shapes, room, &CLASS)?;
    let table = shapes.shape("embed_tokens_per_layer.weight");
    let rows = count(meta, INPUTS_VOCAB)?;
    if inputs > 0 && rows.is_some_and(|n| table.is_some_and(|(rows, _)| rows != n as usize)) {
        return Err(SpecError::Inconsistent(
            "vocab_size_per_layer_input is not the rows of its embedding",
        ));
    }
    let inputs = per_layer(inputs, table, embd)?;
    let cap = hf::cap(meta, "final_logit_softcapping", None)?;
    let layer = |l| shape.layer(&s, l);
    decoder::spec_with(KEYS.arch, &s, embd, head, room, layer, |spec| with_ends(spec, cap, inputs))
}

/// Shape of Gemma 4 E2B.
#[cfg(feature = "alloc")]
#[must_use]
pub fn gemma4_e2b() -> Spec<'static> {
    let s = Sizes {
        context: 131_072,
        width: 1536,
        layers: 35,
        heads: 8,
        kv_heads: 1,
        head_dim: 256,
        ffn: 6144,
        eps: 1e-6,
    };
    let shape = Shape {
        head_dims: [512, 256],
        ropes: [0; 2],
        window: 512,
        windowed: core::array::from_fn(|l| !is_full(l as u32, 5)),
        kv_heads: [1; MAX_LAYERS],
        ffn: core::array::from_fn(|l| if l < 15 { 6144 } else { 12288 }),
        keys_as_values: [false; MAX_LAYERS],
        scaled: [true; MAX_LAYERS],
        fused: [true; MAX_LAYERS],
        first_shared: 15,
        inputs: 256,
        experts: None,
    };
    published(&s, shape, 262_144, Some(30.0))
}

/// Shape of Gemma 4 26B-A4B.
#[cfg(feature = "alloc")]
#[must_use]
pub fn gemma4_26b_a4b() -> Spec<'static> {
    let s = Sizes {
        context: 262_144,
        width: 2816,
        layers: 30,
        heads: 16,
        kv_heads: 8,
        head_dim: 256,
        ffn: 2112,
        eps: 1e-6,
    };
    let is_full = |l: usize| is_full(l as u32, EVERY);
    let shape = Shape {
        head_dims: [512, 256],
        ropes: [0; 2],
        window: 1024,
        windowed: core::array::from_fn(|l| !is_full(l)),
        kv_heads: core::array::from_fn(|l| if is_full(l) { 2 } else { 8 }),
        ffn: [s.ffn; MAX_LAYERS],
        keys_as_values: core::array::from_fn(is_full),
        scaled: [true; MAX_LAYERS],
        fused: [true; MAX_LAYERS],
        first_shared: s.layers,
        inputs: 0,
        experts: Some(experts(128, 8, 704)),
    };
    published(&s, shape, 262_144, Some(30.0))
}

/// Model of this shape, as its GGUF files have it.
#[cfg(feature = "alloc")]
fn published(s: &Sizes, shape: Shape, vocab: u32, cap: Option<f32>) -> Spec<'static> {
    let mut room = SpecRoom::new();
    let mut shape = shape;
    let rope =
        |base, dims, scaling| Rope { kind: RopeKind::NeoX, dims, base, scaling, magnitude: 1.0 };
    let full = rope(1e6, shape.head_dims[0], RopeScaling::Factors);
    let windowed = rope(WINDOW_BASE, shape.head_dims[1], RopeScaling::None);
    let spec = room.rope(full).and_then(|full| {
        shape.ropes = [full, room.rope(windowed)?];
        let embd = Some((vocab as usize, s.width as usize));
        let inputs = Some(PerLayer { width: shape.inputs, vocab }).filter(|p| p.width > 0);
        let (layer, ends) = (|l| shape.layer(s, l), |spec| with_ends(spec, cap, inputs));
        decoder::spec_with("gemma4", s, embd, Head::Tied, &mut room, layer, ends)
    });
    match spec {
        Ok(spec) => spec.to_owned(),
        Err(_) => unreachable!("a published shape"),
    }
}
