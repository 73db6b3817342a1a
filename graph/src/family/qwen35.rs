//! Qwen 3.5 (2026): linear attention (gated DeltaNet) in most layers, and attention with gates and a rotary
//! embedding of a quarter of each head in the others.
//!
//! Files count the blocks that predict further tokens among the layers; these are left out. The sections of
//! the rotary embedding are of images: the three positions of a text's token are equal, which makes it a
//! plain one whatever they are.

use teff_kernels::RopeKind;

use super::decoder::{self, Biases, Keys, Sizes, keys};
use super::hf::{self, Class};
use super::hf_rope;
use super::names;
use super::{Family, GgufForm, Names, Rule, Shapes, folder_reader};
use crate::layers::{DeltaNet, Layer, Mixer};
use crate::meta::{MetaError, Metadata, Value, count, flag, float, required, text};
#[cfg(feature = "alloc")]
use crate::spec::Head;
use crate::spec::{LayerRole as L, Rope};
use crate::{MAX_LAYERS, Role, Spec, SpecError, SpecRoom};

const KEYS: Keys = keys!("qwen35");
const LINEAR: LinearKeys = linear_keys!("qwen35");

/// Qwen 3.5.
pub static QWEN35: Family = Family {
    arch: "qwen35",
    classes: &["Qwen3_5ForCausalLM"],
    model_type: "qwen3_5_text",
    prefix: "model.",
    from_gguf,
    from_config: folder_reader(from_config),
    names: NAMES,
    gguf: FORM,
    hf_transposed: |_| false,
    hf_shift,
    hf_ignored,
    ternary: false,
};

pub(super) const FORM: GgufForm = GgufForm { window: false, linear: true, ..GgufForm::HALVES };

pub(super) const NAMES: Names = Names {
    gguf: &[
        (Role::Layer(0, L::DeltaQkv), "attn_qkv.weight"),
        (Role::Layer(0, L::FfnNorm), "post_attention_norm.weight"),
    ],
    ..Names::LLAMA
};

/// Norms are stored less one, but for that of the outputs of linear attention.
pub(super) fn hf_shift(role: Role) -> f32 {
    match role {
        Role::OutputNorm
        | Role::Layer(_, L::AttnNorm | L::FfnNorm | L::AttnQNorm | L::AttnKNorm) => 1.0,
        _ => 0.0,
    }
}

/// Buffers, and the part that predicts further tokens.
pub(super) fn hf_ignored(name: &str) -> bool {
    names::hf_ignored(name) || name.starts_with("mtp.")
}

/// Keys of linear attention in a GGUF architecture.
pub(super) struct LinearKeys {
    pub(super) taps: &'static str,
    pub(super) key_dim: &'static str,
    pub(super) key_heads: &'static str,
    pub(super) value_heads: &'static str,
    pub(super) inner: &'static str,
    pub(super) recurrent: &'static str,
    pub(super) interval: &'static str,
    pub(super) next: &'static str,
    pub(super) sections: &'static str,
}

/// [`LinearKeys`] of an architecture, whose name must be a literal.
macro_rules! linear_keys {
    ($arch:literal) => {
        $crate::family::qwen35::LinearKeys {
            taps: concat!($arch, ".ssm.conv_kernel"),
            key_dim: concat!($arch, ".ssm.state_size"),
            key_heads: concat!($arch, ".ssm.group_count"),
            value_heads: concat!($arch, ".ssm.time_step_rank"),
            inner: concat!($arch, ".ssm.inner_size"),
            recurrent: concat!($arch, ".attention.recurrent_layers"),
            interval: concat!($arch, ".full_attention_interval"),
            next: concat!($arch, ".nextn_predict_layers"),
            sections: concat!($arch, ".rope.dimension_sections"),
        }
    };
}
pub(super) use linear_keys;

/// Layers with linear attention are all but each fourth, where a file doesn't say.
const EVERY: u32 = 4;

/// The plain layer with linear attention.
fn linear(layer: Layer, net: DeltaNet) -> Layer {
    Layer { mixer: Mixer::DeltaNet(net), ..layer }
}

/// The plain layer with this family's attention.
fn full(layer: Layer) -> Layer {
    decoder::with_attention(layer, |a| (a.qk_norm, a.gate) = (true, true))
}

/// Shape of a published model, whose layers are changed by `f`.
#[cfg(feature = "alloc")]
pub(super) fn published(
    arch: &'static str,
    s: &Sizes,
    value_heads: u32,
    head: Head,
    f: impl Fn(Layer) -> Layer,
) -> Spec<'static> {
    let net = DeltaNet { key_heads: 16, value_heads, key_dim: 128, value_dim: 128, taps: 4 };
    let mut room = SpecRoom::new();
    let rope = Rope {
        kind: RopeKind::NeoX,
        dims: s.head_dim / 4,
        base: 1e7,
        scaling: crate::RopeScaling::None,
        magnitude: 1.0,
    };
    let embd = Some((248_320, s.width as usize));
    let spec = room.rope(rope).and_then(|rope| {
        let plain = f(decoder::layer(s, rope, Biases::NONE));
        let layer = |l| if decoder::is_full(l, EVERY) { full(plain) } else { linear(plain, net) };
        decoder::spec(arch, s, embd, head, &mut room, layer)
    });
    match spec {
        Ok(spec) => spec.to_owned(),
        Err(_) => unreachable!("a published shape"),
    }
}

/// Sizes that the published models share.
#[cfg(feature = "alloc")]
pub(super) const SIZES: Sizes = Sizes {
    context: 262_144,
    width: 1024,
    layers: 24,
    heads: 8,
    kv_heads: 2,
    head_dim: 256,
    ffn: 3584,
    eps: 1e-6,
};

/// Shape of Qwen 3.5 0.8B.
#[cfg(feature = "alloc")]
#[must_use]
pub fn qwen3_5_0_8b() -> Spec<'static> {
    published("qwen35", &SIZES, 16, Head::Tied, |layer| layer)
}

/// Shape of Qwen 3.5 4B.
#[cfg(feature = "alloc")]
#[must_use]
pub fn qwen3_5_4b() -> Spec<'static> {
    let s = Sizes { width: 2560, layers: 32, heads: 16, kv_heads: 4, ffn: 9216, ..SIZES };
    published("qwen35", &s, 32, Head::Tied, |layer| layer)
}

fn from_gguf<'p>(
    meta: &dyn Metadata,
    shapes: &dyn Shapes,
    room: &'p mut SpecRoom,
) -> Result<Spec<'p>, SpecError> {
    if float(meta, KEYS.experts)?.is_some_and(|n| n != 0.0) {
        return Err(SpecError::Unsupported { key: KEYS.experts, known: "absent or 0" });
    }
    let layers = required(count(meta, KEYS.layers)?, KEYS.layers)?;
    let ffn = required(decoder::uniform(meta, KEYS.ffn, layers)?, KEYS.ffn)?;
    decoder::no_window(meta, &KEYS, room);
    gguf(meta, shapes, room, (&KEYS, &LINEAR), ffn, |layer| layer)
}

/// Reads a GGUF file whose layers are changed by `f`.
pub(super) fn gguf<'p>(
    meta: &dyn Metadata,
    shapes: &dyn Shapes,
    room: &'p mut SpecRoom,
    (keys, own): (&Keys, &LinearKeys),
    ffn: u32,
    f: impl Fn(Layer) -> Layer,
) -> Result<Spec<'p>, SpecError> {
    let need = |key| required(count(meta, key)?, key);
    let blocks = need(keys.layers)?;
    let next = match meta.get(own.next) {
        Some(Value::Uint(0)) => 0,
        _ => count(meta, own.next)?.unwrap_or(0),
    };
    let layers = blocks
        .checked_sub(next)
        .filter(|&n| n > 0)
        .ok_or(MetaError::Wrong { key: own.next, want: "fewer blocks than the model has" })?;
    let kv_heads = decoder::uniform(meta, keys.kv_heads, blocks)?;
    let s = Sizes { layers, ..decoder::gguf_sizes_but(meta, keys, kv_heads, ffn)? };
    let (value_heads, inner) = (need(own.value_heads)?, need(own.inner)?);
    if !inner.is_multiple_of(value_heads) {
        let want = "a multiple of the heads of values (`ssm.time_step_rank`)";
        return Err(MetaError::Wrong { key: own.inner, want }.into());
    }
    let net = DeltaNet {
        key_heads: need(own.key_heads)?,
        value_heads,
        key_dim: need(own.key_dim)?,
        value_dim: inner / value_heads,
        taps: need(own.taps)?,
    };
    // Of either kind of list.
    let is_entry = |v: Value<'_>| matches!(v, Value::Bool(_) | Value::Uint(_));
    let listed = decoder::is_listed(meta, own.recurrent, blocks, is_entry)?;
    if !listed && !matches!(meta.get(own.recurrent), None | Some(Value::Null)) {
        let want = "a list with true or false for each block";
        return Err(MetaError::Wrong { key: own.recurrent, want }.into());
    }
    let every = count(meta, own.interval)?;
    let by_interval = |l| !decoder::is_full(l, every.unwrap_or(EVERY));
    let full_entries = [Some(Value::Bool(false)), Some(Value::Uint(0))];
    let is_linear = |l: u32| match listed {
        true => !full_entries.contains(&meta.item(own.recurrent, l as usize)),
        false => by_interval(l),
    };
    let differ = (0..layers.min(MAX_LAYERS as u32)).any(|l| is_linear(l) != by_interval(l));
    if every.is_some() && differ {
        room.note(own.interval, Rule::RecurrentLayers);
    }
    let rope = decoder::gguf_rope(meta, shapes, keys, RopeKind::NeoX, s.head_dim)?;
    note_sections(meta, room, own.sections, &rope);
    let rope = room.rope(rope)?;
    let (embd, head) = (shapes.shape("token_embd.weight"), decoder::gguf_head(shapes));
    let plain = f(decoder::layer(&s, rope, Biases::NONE));
    decoder::spec(keys.arch, &s, embd, head, room, |l| match is_linear(l) {
        true => linear(plain, net),
        false => full(plain),
    })
}

/// Notes sections that are not those of the frequencies of `rope`.
fn note_sections(meta: &dyn Metadata, room: &mut SpecRoom, key: &'static str, rope: &Rope) {
    if matches!(meta.get(key), None | Some(Value::Null)) {
        return;
    }
    let mut numbers = (0..5).map_while(|i| meta.item(key, i));
    let sum = numbers.try_fold(0u64, |sum, v| match v {
        Value::Uint(n) => sum.checked_add(n),
        _ => None,
    });
    if sum != Some(u64::from(rope.dims / 2)) {
        room.note(key, Rule::Sections);
    }
}

/// Defaults of transformers' Qwen3_5TextConfig.
pub(super) const CLASS: Class = Class {
    width: 4096,
    ffn: 12288,
    layers: 32,
    heads: 16,
    kv_heads: Some(4),
    head_dim: Some(256),
    context: 32768,
    ..Class::LLAMA
};

fn from_config<'p>(
    meta: &dyn Metadata,
    shapes: &dyn Shapes,
    room: &'p mut SpecRoom,
) -> Result<Spec<'p>, SpecError> {
    config(meta, shapes, room, (KEYS.arch, &CLASS), |layer| layer)
}

/// Kinds of layers.
const TYPES: &str = "layer_types";
const INTERVAL: &str = "full_attention_interval";

/// Reads a config.json with the defaults of `class`, whose layers are changed by `f`.
pub(super) fn config<'p>(
    meta: &dyn Metadata,
    shapes: &dyn Shapes,
    room: &'p mut SpecRoom,
    (arch, class): (&'static str, &Class),
    f: impl Fn(Layer) -> Layer,
) -> Result<Spec<'p>, SpecError> {
    let s = hf::sizes(meta, class)?;
    let of = hf_rope::Of { head_dim: s.head_dim, context: s.context, base: class.base };
    let rope = hf_rope::of_part(meta, room, of, 0.25)?;
    for key in ["rope_parameters.mrope_section", "rope_scaling.mrope_section"] {
        note_sections(meta, room, key, &rope);
    }
    let rope = room.rope(rope)?;
    hf::activation(meta, "hidden_act", &["silu", "swish"], "silu")?;
    let gate = "output_gate_type";
    if !matches!(text(meta, gate)?, None | Some("swish" | "silu")) {
        return Err(SpecError::Unsupported { key: gate, known: "swish" });
    }
    let gated = "attn_output_gate";
    if flag(meta, gated)? == Some(false) {
        return Err(SpecError::Unsupported { key: gated, known: "true" });
    }
    let or = |key, default| count(meta, key).map(|n| n.unwrap_or(default));
    let net = DeltaNet {
        key_heads: or("linear_num_key_heads", 16)?,
        value_heads: or("linear_num_value_heads", 32)?,
        key_dim: or("linear_key_head_dim", 128)?,
        value_dim: or("linear_value_head_dim", 128)?,
        taps: or("linear_conv_kernel_dim", 4)?,
    };
    let attn = flag(meta, "attention_bias")?.unwrap_or(false);
    let every = count(meta, INTERVAL)?;
    let by_interval = |l| !decoder::is_full(l, every.unwrap_or(EVERY));
    let known = "linear_attention, full_attention, one for each layer";
    let unknown = SpecError::Unsupported { key: TYPES, known };
    let listed = match meta.get(TYPES) {
        None | Some(Value::Null) => false,
        Some(Value::Other) => true,
        Some(_) => return Err(unknown),
    };
    let is_linear = |l: u32| -> Result<bool, SpecError> {
        if !listed {
            return Ok(by_interval(l));
        }
        match meta.item(TYPES, l as usize) {
            Some(Value::Str("linear_attention")) => Ok(true),
            Some(Value::Str("full_attention")) => Ok(false),
            _ => Err(unknown),
        }
    };
    let mut differ = false;
    for l in 0..s.layers {
        differ |= is_linear(l)? != by_interval(l);
    }
    if listed {
        decoder::no_more(meta, TYPES, s.layers)?;
        if every.is_some() && differ {
            room.note(INTERVAL, Rule::LayerTypes);
        }
    }
    if decoder::is_window(meta.get(hf::WINDOW)) {
        room.note(hf::WINDOW, Rule::NoWindow);
    }
    let hf::Ends { embd, head } = hf::ends(meta, shapes, room, class)?;
    let biases = Biases { qkv: attn, attn_out: attn, ffn: false };
    let plain = f(decoder::layer(&s, rope, biases));
    decoder::spec(arch, &s, embd, head, room, |l| match is_linear(l) {
        Ok(true) => linear(plain, net),
        _ => full(plain),
    })
}
