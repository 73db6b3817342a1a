//! Parts shared by the decoders that descend from Llama.

use super::{Rule, Shapes};
use crate::layers::{
    Activation, Attention, Dense, FeedForward, Layer, Mixer, Norm, NormKind, Norms, Scales,
};
use crate::meta::{MetaError, Metadata, Value, count, flag, float, required, text};
use crate::spec::{Embed, Head, MAX_LAYERS, Rope, RopeScaling, SpecRoom, yarn_magnitude};
use crate::{Role, Spec, SpecError};

use teff_kernels::RopeKind;

/// Keys of a GGUF architecture.
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
    pub(super) rope_original: &'static str,
    pub(super) yarn_ext_factor: &'static str,
    pub(super) yarn_attn_factor: &'static str,
    pub(super) yarn_fast: &'static str,
    pub(super) yarn_slow: &'static str,
    pub(super) yarn_log: &'static str,
    pub(super) experts: &'static str,
    pub(super) experts_used: &'static str,
    /// Number of groups among which the experts are chosen.
    pub(super) expert_groups: &'static str,
    pub(super) expert_ffn: &'static str,
    /// Scale of the experts' weights.
    pub(super) expert_scale: &'static str,
    /// True if these are divided by their sum.
    pub(super) expert_norm: &'static str,
    /// Way from scores to weights.
    pub(super) expert_gating: &'static str,
    pub(super) expert_shared_count: &'static str,
    pub(super) expert_shared_ffn: &'static str,
    pub(super) leading_dense: &'static str,
    /// False if tokens see those after them, which must not be.
    pub(super) causal: &'static str,
    /// Settings that must be absent or 0.
    pub(super) zeros: [&'static str; 4],
}

/// [`Keys`] of an architecture, whose name must be a literal.
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
            rope_original: concat!($arch, ".rope.scaling.original_context_length"),
            yarn_ext_factor: concat!($arch, ".rope.scaling.yarn_ext_factor"),
            yarn_attn_factor: concat!($arch, ".rope.scaling.yarn_attn_factor"),
            yarn_fast: concat!($arch, ".rope.scaling.yarn_beta_fast"),
            yarn_slow: concat!($arch, ".rope.scaling.yarn_beta_slow"),
            yarn_log: concat!($arch, ".rope.scaling.yarn_log_multiplier"),
            experts: concat!($arch, ".expert_count"),
            experts_used: concat!($arch, ".expert_used_count"),
            expert_groups: concat!($arch, ".expert_group_count"),
            expert_ffn: concat!($arch, ".expert_feed_forward_length"),
            expert_scale: concat!($arch, ".expert_weights_scale"),
            expert_norm: concat!($arch, ".expert_weights_norm"),
            expert_gating: concat!($arch, ".expert_gating_func"),
            expert_shared_count: concat!($arch, ".expert_shared_count"),
            expert_shared_ffn: concat!($arch, ".expert_shared_feed_forward_length"),
            leading_dense: concat!($arch, ".leading_dense_block_count"),
            causal: concat!($arch, ".attention.causal"),
            zeros: [
                concat!($arch, ".attn_logit_softcapping"),
                concat!($arch, ".final_logit_softcapping"),
                concat!($arch, ".attention.clamp_kqv"),
                concat!($arch, ".attention.max_alibi_bias"),
            ],
        }
    };
}
pub(super) use keys;

/// Hyper-parameters that every decoder has, whatever their names in the container.
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

/// Biases of the products of a layer.
#[derive(Clone, Copy)]
pub(super) struct Biases {
    pub(super) qkv: bool,
    pub(super) attn_out: bool,
    pub(super) ffn: bool,
}

impl Biases {
    pub(super) const NONE: Biases = Biases { qkv: false, attn_out: false, ffn: false };
}

/// Layer with attention and a gated feed-forward part, RMS norms, and none of the options in which
/// families differ.
pub(super) fn layer(s: &Sizes, rope: u8, biases: Biases) -> Layer {
    Layer {
        mixer: Mixer::Attention(Attention {
            heads: s.heads,
            kv_heads: s.kv_heads,
            head_dim: s.head_dim,
            qkv_bias: biases.qkv,
            out_bias: biases.attn_out,
            rope: Some(rope),
            scale: inverse_root(s.head_dim),
            ..Attention::EMPTY
        }),
        ffn: FeedForward::Dense(Dense {
            inner: s.ffn,
            gated: true,
            fused: false,
            activation: Activation::Silu,
            bias: biases.ffn,
            sub_norm: false,
            sparsity: None,
        }),
        norms: Norms { before: norm(s), pre: true, post: false },
        input: None,
        streams: None,
        scales: Scales { residual: 1.0, output: false },
    }
}

/// RMS norm used throughout a model.
pub(super) fn norm(s: &Sizes) -> Norm {
    Norm { kind: NormKind::Rms, eps: s.eps }
}

/// The same layer with its attention changed by `f`.
pub(super) fn with_attention(layer: Layer, f: impl FnOnce(&mut Attention)) -> Layer {
    let mut layer = layer;
    if let Mixer::Attention(attention) = &mut layer.mixer {
        f(attention);
    }
    layer
}

/// The same layer with its dense feed-forward part changed by `f`.
pub(super) fn with_dense(layer: Layer, f: impl FnOnce(&mut Dense)) -> Layer {
    let mut layer = layer;
    if let FeedForward::Dense(dense) = &mut layer.ffn {
        f(dense);
    }
    layer
}

/// Validated decoder whose layers are given by `layer` for each number. `embd` is the shape of its
/// embedding.
pub(super) fn spec<'p>(
    arch: &'static str,
    s: &Sizes,
    embd: Option<(usize, usize)>,
    head: Head,
    room: &'p mut SpecRoom,
    layer: impl FnMut(u32) -> Layer,
) -> Result<Spec<'p>, SpecError> {
    spec_with(arch, s, embd, head, room, layer, |spec| spec)
}

/// As [`spec`], with what `change` makes of it.
pub(super) fn spec_with<'p>(
    arch: &'static str,
    s: &Sizes,
    embd: Option<(usize, usize)>,
    head: Head,
    room: &'p mut SpecRoom,
    mut layer: impl FnMut(u32) -> Layer,
    change: impl FnOnce(Spec<'p>) -> Spec<'p>,
) -> Result<Spec<'p>, SpecError> {
    let vocab = embd.ok_or(SpecError::NoTensor(Role::TokenEmbd))?.0;
    let vocab = u32::try_from(vocab).map_err(|_| SpecError::Inconsistent("the vocabulary"))?;
    for l in 0..s.layers {
        room.push(layer(l))?;
    }
    let room = &*room;
    let spec = change(Spec {
        arch,
        vocab,
        context: s.context,
        width: s.width,
        embed: Embed { scale: 1.0, positions: false },
        layers: room.layers(),
        ropes: room.ropes(),
        norm: norm(s),
        head,
        logit_divisor: 1.0,
        logit_cap: None,
        per_layer: None,
        streams: None,
        token_scales: false,
    });
    spec.validate()?;
    Ok(spec)
}

/// `1 / sqrt(n)`, rounded once.
pub(super) fn inverse_root(n: u32) -> f32 {
    (1.0 / libm::sqrt(f64::from(n))) as f32
}

/// Value of a key for layer `l`: the same for all layers, or an element of an array.
pub(super) fn per_layer(
    meta: &dyn Metadata,
    key: &'static str,
    l: u32,
) -> Result<Option<u32>, SpecError> {
    let wrong = MetaError::Wrong { key, want: "an integer below 2^31, or one for each layer" };
    let number = |v| match v {
        Value::Uint(n) if n < 1 << 31 => Ok(Some(n as u32)),
        _ => Err(SpecError::Meta(wrong)),
    };
    match meta.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Other) => number(meta.item(key, l as usize).ok_or(SpecError::Meta(wrong))?),
        Some(v) => number(v),
    }
}

/// Checks that a list with a value for each layer ends with the last layer.
pub(super) fn no_more(
    meta: &dyn Metadata,
    key: &'static str,
    layers: u32,
) -> Result<(), SpecError> {
    match meta.item(key, layers as usize) {
        None => Ok(()),
        Some(_) => {
            Err(MetaError::Wrong { key, want: "as many values as the model has layers" }.into())
        }
    }
}

/// Name with the number of a layer in it.
struct LayerName {
    text: [u8; 64],
    len: usize,
}

impl core::fmt::Write for LayerName {
    fn write_str(&mut self, s: &str) -> core::fmt::Result {
        let to = self.text.get_mut(self.len..self.len + s.len()).ok_or(core::fmt::Error)?;
        to.copy_from_slice(s.as_bytes());
        self.len += s.len();
        Ok(())
    }
}

impl LayerName {
    fn look_up<T>(
        parts: core::fmt::Arguments<'_>,
        find: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        let mut full = LayerName { text: [0; 64], len: 0 };
        core::fmt::Write::write_fmt(&mut full, parts).ok()?;
        find(core::str::from_utf8(full.text.get(..full.len)?).ok()?)
    }
}

/// Shape of a layer's tensor in a GGUF file, by its name after `blk.N.`.
pub(super) fn layer_shape(shapes: &dyn Shapes, l: u32, name: &str) -> Option<(usize, usize)> {
    LayerName::look_up(format_args!("blk.{l}.{name}"), |name| shapes.shape(name))
}

/// Field of the object `object` in which layers have objects under their numbers.
pub(super) fn layer_field<'m>(
    meta: &'m dyn Metadata,
    object: &str,
    l: u32,
    field: &str,
) -> Option<Value<'m>> {
    LayerName::look_up(format_args!("{object}.{l}.{field}"), |name| meta.get(name))
}

/// Layers that a list of their numbers names.
#[derive(Clone, Copy)]
pub(super) struct LayerSet([u64; MAX_LAYERS / 64]);

impl LayerSet {
    /// Layers of the list at `key`; `None` if there is no list. Numbers beyond the last layer name
    /// none. A list longer than any model's layers is refused unread, since containers may take a
    /// pass over it for each of its items.
    pub(super) fn read(
        meta: &dyn Metadata,
        key: &'static str,
    ) -> Result<Option<LayerSet>, SpecError> {
        let want = "a list of at most 512 numbers of layers";
        let wrong = SpecError::Meta(MetaError::Wrong { key, want });
        match meta.get(key) {
            None | Some(Value::Null) => return Ok(None),
            Some(Value::Other) => {}
            Some(_) => return Err(wrong),
        }
        let mut set = LayerSet([0; MAX_LAYERS / 64]);
        for i in 0..=MAX_LAYERS {
            match meta.item(key, i) {
                None => return Ok(Some(set)),
                Some(Value::Uint(l)) => {
                    if let Some(word) = usize::try_from(l / 64).ok().and_then(|w| set.0.get_mut(w))
                    {
                        *word |= 1 << (l % 64);
                    }
                }
                Some(_) => return Err(wrong),
            }
        }
        Err(wrong)
    }

    /// True if the list names layer `l`.
    pub(super) fn has(&self, l: u32) -> bool {
        self.0.get(l as usize / 64).is_some_and(|word| word >> (l % 64) & 1 == 1)
    }
}

/// Value of a key that is the same for all layers: a number, or a list of equal ones.
pub(super) fn uniform(
    meta: &dyn Metadata,
    key: &'static str,
    layers: u32,
) -> Result<Option<u32>, SpecError> {
    if meta.get(key) != Some(Value::Other) {
        return Ok(count(meta, key)?);
    }
    let first = per_layer(meta, key, 0)?;
    for l in 1..layers.min(MAX_LAYERS as u32) {
        if per_layer(meta, key, l)? != first {
            return Err(unsupported(key, "the same for all layers"));
        }
    }
    no_more(meta, key, layers)?;
    match first {
        Some(0) => Err(MetaError::Wrong { key, want: "an integer from 1 to 2^31 - 1" }.into()),
        found => Ok(found),
    }
}

/// Sizes in a GGUF file of a model without experts whose layers are all alike.
pub(super) fn gguf_sizes(meta: &dyn Metadata, keys: &Keys) -> Result<Sizes, SpecError> {
    if float(meta, keys.experts)?.is_some_and(|v| v != 0.0) {
        return Err(unsupported(keys.experts, "absent or 0"));
    }
    let layers = required(count(meta, keys.layers)?, keys.layers)?;
    let ffn = required(uniform(meta, keys.ffn, layers)?, keys.ffn)?;
    gguf_sizes_of(meta, keys, ffn)
}

/// As [`gguf_sizes`], except for the inner width, which a family reads itself.
pub(super) fn gguf_sizes_of(
    meta: &dyn Metadata,
    keys: &Keys,
    ffn: u32,
) -> Result<Sizes, SpecError> {
    let layers = required(count(meta, keys.layers)?, keys.layers)?;
    gguf_sizes_but(meta, keys, uniform(meta, keys.kv_heads, layers)?, ffn)
}

/// As [`gguf_sizes`], except for the heads of keys and values and the inner width, which a family
/// reads itself.
pub(super) fn gguf_sizes_but(
    meta: &dyn Metadata,
    keys: &Keys,
    kv_heads: Option<u32>,
    ffn: u32,
) -> Result<Sizes, SpecError> {
    let need = |key| required(count(meta, key)?, key);
    let layers = need(keys.layers)?;
    let heads = required(uniform(meta, keys.heads, layers)?, keys.heads)?;
    let width = need(keys.width)?;
    for key in keys.zeros {
        if float(meta, key)?.is_some_and(|v| v != 0.0) {
            return Err(unsupported(key, "absent or 0"));
        }
    }
    if flag(meta, keys.causal)? == Some(false) {
        return Err(unsupported(keys.causal, "absent or true"));
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
        layers,
        heads,
        kv_heads: kv_heads.unwrap_or(heads),
        head_dim,
        ffn,
        eps: required(float(meta, keys.eps)?, keys.eps)?,
    })
}

/// Rotary embedding in a GGUF file. Defaults for older files: all elements of a head are rotated,
/// and the base is 10000.
pub(super) fn gguf_rope(
    meta: &dyn Metadata,
    shapes: &dyn Shapes,
    keys: &Keys,
    kind: RopeKind,
    head_dim: u32,
) -> Result<Rope, SpecError> {
    let factor = match float(meta, keys.rope_factor)? {
        None | Some(0.0) => float(meta, keys.rope_factor_old)?,
        found => found,
    };
    let factor = factor.filter(|&f| f != 0.0 && f != 1.0);
    if shapes.shape("rope_factors_long.weight").is_some() {
        return gguf_long(meta, shapes, keys, kind, head_dim);
    }
    let yarn = text(meta, keys.rope_type)? == Some("yarn");
    if !yarn && float(meta, keys.rope_attn_factor)?.is_some_and(|f| f != 1.0) {
        return Err(unsupported(keys.rope_attn_factor, "absent or 1"));
    }
    let factors = shapes.shape("rope_freqs.weight").is_some();
    let scaling = match (text(meta, keys.rope_type)?, factor) {
        (None | Some("none" | "linear"), _) if factors => RopeScaling::Factors,
        (Some("none"), _) | (None | Some("linear"), None) => RopeScaling::None,
        (None | Some("linear"), Some(factor)) => RopeScaling::Linear(factor),
        (Some("yarn"), factor) if !factors => gguf_yarn(meta, keys, factor.unwrap_or(1.0))?,
        _ => return Err(unsupported(keys.rope_type, "none, linear, yarn")),
    };
    if factors && factor.is_some() {
        return Err(SpecError::Inconsistent("a rotary scaling and a tensor rope_freqs.weight"));
    }
    let magnitude = match scaling {
        RopeScaling::Yarn { factor, .. } => gguf_yarn_magnitude(meta, keys, factor)?,
        _ => 1.0,
    };
    Ok(Rope {
        kind,
        dims: count(meta, keys.rope_dims)?.unwrap_or(head_dim),
        base: float(meta, keys.rope_base)?.unwrap_or(10_000.0),
        scaling,
        magnitude,
    })
}

/// Rotary embeddings of layers without and with a window in a GGUF file, of which the latter may have
/// a base of its own beside what `rope` says.
pub(super) fn gguf_ropes(
    meta: &dyn Metadata,
    keys: &Keys,
    windows: &GgufWindows,
    room: &mut SpecRoom,
    rope: Rope,
) -> Result<[u8; 2], SpecError> {
    let base = float(meta, keys.rope_window_base)?.unwrap_or(rope.base);
    let first = room.rope(rope)?;
    let other = windows.any() && base != rope.base;
    Ok([first, if other { room.rope(Rope { base, ..rope })? } else { first }])
}

/// LongRoPE in a GGUF file, of which its tensors are the sign.
fn gguf_long(
    meta: &dyn Metadata,
    shapes: &dyn Shapes,
    keys: &Keys,
    kind: RopeKind,
    head_dim: u32,
) -> Result<Rope, SpecError> {
    if !matches!(text(meta, keys.rope_type)?, None | Some("none" | "longrope")) {
        return Err(unsupported(keys.rope_type, "absent or longrope, beside its factors"));
    }
    let factor = |key| Ok::<_, SpecError>(float(meta, key)?.is_some_and(|f| f != 0.0 && f != 1.0));
    if shapes.shape("rope_freqs.weight").is_some()
        || factor(keys.rope_factor)?
        || factor(keys.rope_factor_old)?
    {
        return Err(SpecError::Inconsistent("LongRoPE's factors and another rotary scaling"));
    }
    let original = match count(meta, keys.rope_original)? {
        Some(original) => original,
        None => required(count(meta, keys.context)?, keys.context)?,
    };
    Ok(Rope {
        kind,
        dims: count(meta, keys.rope_dims)?.unwrap_or(head_dim),
        base: float(meta, keys.rope_base)?.unwrap_or(10_000.0),
        scaling: RopeScaling::Long { original },
        magnitude: float(meta, keys.rope_attn_factor)?.unwrap_or(1.0),
    })
}

/// YaRN's scaling in a GGUF file. There is no key for `truncate`, which is true.
fn gguf_yarn(meta: &dyn Metadata, keys: &Keys, factor: f32) -> Result<RopeScaling, SpecError> {
    // llama.cpp takes 1 for what is absent or below 0.
    if float(meta, keys.yarn_ext_factor)?.is_some_and(|x| x >= 0.0 && x != 1.0) {
        return Err(unsupported(keys.yarn_ext_factor, "absent, -1 or 1"));
    }
    Ok(RopeScaling::Yarn {
        factor,
        fast: float(meta, keys.yarn_fast)?.unwrap_or(32.0),
        slow: float(meta, keys.yarn_slow)?.unwrap_or(1.0),
        original: match float(meta, keys.rope_original)? {
            None | Some(0.0) => required(float(meta, keys.context)?, keys.context)?,
            Some(original) => original,
        },
        truncate: true,
    })
}

/// Magnitude of YaRN's cosines and sines in a GGUF file: `yarn_attn_factor` if it is there, else
/// that of the factor, over that of the factor and `yarn_log_multiplier`.
fn gguf_yarn_magnitude(meta: &dyn Metadata, keys: &Keys, factor: f32) -> Result<f32, SpecError> {
    let factor = f64::from(factor);
    let own = float(meta, keys.yarn_attn_factor)?.filter(|&a| a != 0.0);
    let log = float(meta, keys.yarn_log)?.filter(|&m| m != 0.0);
    let more = float(meta, keys.rope_attn_factor)?.unwrap_or(1.0);
    let plain = yarn_magnitude(factor, 1.0);
    let magnitude = match (own, log) {
        (Some(own), _) => f64::from(own),
        (None, Some(log)) => plain / yarn_magnitude(factor, f64::from(log)),
        (None, None) => plain,
    };
    Ok((magnitude * f64::from(more)) as f32)
}

/// Source of the head's weights in a GGUF file.
pub(super) fn gguf_head(shapes: &dyn Shapes) -> Head {
    if shapes.shape("output.weight").is_some() { Head::Own } else { Head::Tied }
}

/// Biases in a GGUF file, found by their tensors, since the metadata don't list them.
pub(super) fn gguf_biases(shapes: &dyn Shapes) -> Biases {
    let has = |name| shapes.shape(name).is_some();
    Biases {
        qkv: has("blk.0.attn_q.bias"),
        attn_out: has("blk.0.attn_output.bias"),
        ffn: has("blk.0.ffn_up.bias"),
    }
}

/// Checks a list with an entry for every layer, and returns true if there is one; `known` is true
/// for entries that may be in it.
pub(super) fn is_listed(
    meta: &dyn Metadata,
    key: &'static str,
    layers: u32,
    known: impl Fn(Value<'_>) -> bool,
) -> Result<bool, SpecError> {
    if meta.get(key) != Some(Value::Other) {
        return Ok(false);
    }
    no_more(meta, key, layers)?;
    for l in 0..layers.min(crate::spec::MAX_LAYERS as u32) {
        if !meta.item(key, l as usize).is_some_and(&known) {
            return Err(unsupported(key, "true or false, one for each layer"));
        }
    }
    Ok(true)
}

/// Windows in a GGUF file: their size, and the layers that have one.
pub(super) struct GgufWindows {
    size: Option<u32>,
    listed: bool,
    every: u32,
    key: &'static str,
}

impl GgufWindows {
    /// A file without the key of the size has no windows. One without a pattern has that of the
    /// family, in which every so many layers attend to everything; a pattern of 0 gives all layers a
    /// window.
    pub(super) fn read(
        meta: &dyn Metadata,
        keys: &Keys,
        layers: u32,
        every: u32,
    ) -> Result<GgufWindows, SpecError> {
        let size = match meta.get(keys.window) {
            None | Some(Value::Uint(0)) => None,
            Some(_) => count(meta, keys.window)?,
        };
        let key = keys.window_pattern;
        let is_entry = |v: Value<'_>| matches!(v, Value::Bool(_) | Value::Uint(_));
        let listed = is_listed(meta, key, layers, is_entry)?;
        let every = match meta.get(key) {
            _ if listed => 0,
            Some(Value::Uint(0)) => 0,
            _ => count(meta, key)?.unwrap_or(every),
        };
        Ok(GgufWindows { size, listed, every, key })
    }

    /// The same, with a window of `size` if the file doesn't say one.
    pub(super) fn or(self, meta: &dyn Metadata, keys: &Keys, size: u32) -> GgufWindows {
        match meta.get(keys.window) {
            None => GgufWindows { size: Some(size), ..self },
            Some(_) => self,
        }
    }

    /// True if the file has windows.
    pub(super) fn any(&self) -> bool {
        self.size.is_some()
    }

    /// Window of layer `l`.
    pub(super) fn of(&self, meta: &dyn Metadata, l: u32) -> Option<u32> {
        let no = [None, Some(Value::Bool(false)), Some(Value::Uint(0))];
        self.size.filter(|_| match self.listed {
            true => !no.contains(&meta.item(self.key, l as usize)),
            false => !is_full(l, self.every),
        })
    }
}

/// True for a layer that attends to everything if every so many do, counting from 1; none do if
/// that is 0.
pub(super) const fn is_full(l: u32, every: u32) -> bool {
    every != 0 && (l + 1).is_multiple_of(every)
}

/// True if the value of a window's key asks for one: a list has one for each layer.
pub(super) fn is_window(value: Option<Value<'_>>) -> bool {
    match value {
        None | Some(Value::Null | Value::Uint(0) | Value::Bool(false)) => false,
        Some(Value::Int(n)) => n > 0,
        Some(Value::Float(x)) => x > 0.0,
        Some(_) => true,
    }
}

/// Notes a window in a GGUF file of an architecture that has none.
pub(super) fn no_window(meta: &dyn Metadata, keys: &Keys, room: &mut SpecRoom) {
    if is_window(meta.get(keys.window)) {
        room.note(keys.window, Rule::NoWindow);
    }
}

/// Shape of a published decoder, with each layer made by `layer` from the plain one.
#[cfg(feature = "alloc")]
pub(super) fn published(
    arch: &'static str,
    s: &Sizes,
    (kind, base): (RopeKind, f32),
    vocab: usize,
    head: Head,
    layer: impl Fn(Layer) -> Layer,
) -> Spec<'static> {
    let mut room = SpecRoom::new();
    let (dims, scaling) = (s.head_dim, RopeScaling::None);
    let rope = Rope { kind, dims, base, scaling, magnitude: 1.0 };
    let embd = Some((vocab, s.width as usize));
    let spec = room.rope(rope).and_then(|rope| {
        let plain = self::layer(s, rope, Biases::NONE);
        spec(arch, s, embd, head, &mut room, |_| layer(plain))
    });
    match spec {
        Ok(spec) => spec.to_owned(),
        Err(_) => unreachable!("a published shape"),
    }
}
