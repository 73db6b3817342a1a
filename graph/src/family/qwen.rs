//! Qwen 2 and 2.5 (2024): Llama's shape with biases of queries, keys and values; and Qwen 3 (2025):
//! without these biases, but with norms of queries and keys and an independent head dimension.

use teff_kernels::RopeKind;

use super::decoder::{self, Biases, Keys, Sizes, keys};
use super::hf::{self, Class, Windows};
use super::hf_rope;
use super::names::hf_ignored;
use super::{Family, GgufForm, Names, Rule, Shapes, folder_reader};
use crate::layers::Layer;
use crate::meta::{MetaError, Metadata, Value, flag};
#[cfg(feature = "alloc")]
use crate::spec::Head;
use crate::{Spec, SpecError, SpecRoom};

const QWEN2_KEYS: Keys = keys!("qwen2");
const QWEN3_KEYS: Keys = keys!("qwen3");

/// Qwen 2 and 2.5.
pub static QWEN2: Family = FAMILY;

const FAMILY: Family = Family {
    arch: "qwen2",
    classes: &["Qwen2ForCausalLM"],
    model_type: "qwen2",
    prefix: "model.",
    from_gguf: |meta, shapes, room| from_gguf(meta, shapes, room, &QWEN2_KEYS),
    from_config: folder_reader(|meta, shapes, room| from_config(meta, shapes, room, &QWEN2_KEYS)),
    names: Names::LLAMA,
    gguf: GgufForm { window: false, ..GgufForm::HALVES },
    hf_transposed: |_| false,
    hf_shift: |_| 0.0,
    hf_ignored,
    ternary: false,
};

/// Qwen 3.
pub static QWEN3: Family = Family {
    arch: "qwen3",
    classes: &["Qwen3ForCausalLM"],
    model_type: "qwen3",
    from_gguf: |meta, shapes, room| from_gguf(meta, shapes, room, &QWEN3_KEYS),
    from_config: folder_reader(|meta, shapes, room| from_config(meta, shapes, room, &QWEN3_KEYS)),
    ..FAMILY
};

/// Layer of either family.
fn layer(s: &Sizes, rope: u8, arch: &str, biases: Biases) -> Layer {
    if arch == QWEN3_KEYS.arch {
        let layer = decoder::layer(s, rope, biases);
        decoder::with_attention(layer, |a| a.qk_norm = true)
    } else {
        decoder::layer(s, rope, Biases { qkv: true, ..biases })
    }
}

/// Shape of Qwen 2.5 14B.
#[cfg(feature = "alloc")]
#[must_use]
pub fn qwen2_5_14b() -> Spec<'static> {
    let s = Sizes {
        context: 32768,
        width: 5120,
        layers: 48,
        heads: 40,
        kv_heads: 8,
        head_dim: 128,
        ffn: 13824,
        eps: 1e-6,
    };
    decoder::published("qwen2", &s, (RopeKind::NeoX, 1e6), 152_064, Head::Own, |_| {
        layer(&s, 0, "qwen2", Biases::NONE)
    })
}

/// Shape of Qwen 3 14B.
#[cfg(feature = "alloc")]
#[must_use]
pub fn qwen3_14b() -> Spec<'static> {
    let s = Sizes {
        context: 40960,
        width: 5120,
        layers: 40,
        heads: 40,
        kv_heads: 8,
        head_dim: 128,
        ffn: 17408,
        eps: 1e-6,
    };
    decoder::published("qwen3", &s, (RopeKind::NeoX, 1e6), 151_936, Head::Own, |_| {
        layer(&s, 0, "qwen3", Biases::NONE)
    })
}

fn from_gguf<'p>(
    meta: &dyn Metadata,
    shapes: &dyn Shapes,
    room: &'p mut SpecRoom,
    keys: &Keys,
) -> Result<Spec<'p>, SpecError> {
    let s = decoder::gguf_sizes(meta, keys)?;
    let rope = decoder::gguf_rope(meta, shapes, keys, RopeKind::NeoX, s.head_dim)?;
    let rope = room.rope(rope)?;
    let (embd, head) = (shapes.shape("token_embd.weight"), decoder::gguf_head(shapes));
    let layer = layer(&s, rope, keys.arch, decoder::gguf_biases(shapes));
    decoder::no_window(meta, keys, room);
    decoder::spec(keys.arch, &s, embd, head, room, |_| layer)
}

/// Size of the windows in config.json, if they are enabled.
pub(super) fn window(meta: &dyn Metadata) -> Result<Option<u32>, SpecError> {
    match flag(meta, "use_sliding_window")? {
        Some(true) => hf::window(meta, 4096),
        _ => Ok(None),
    }
}

const FIRST: &str = "max_window_layers";

/// Number of layers at which windows begin or end, where `layer_types` doesn't list them.
pub(super) fn window_layers(meta: &dyn Metadata) -> Result<Option<u32>, SpecError> {
    match meta.get(FIRST) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Uint(n)) => Ok(Some(u32::try_from(n).unwrap_or(u32::MAX))),
        Some(_) => Err(MetaError::Wrong { key: FIRST, want: "a number of layers" }.into()),
    }
}

/// Layers with a window: those that `layer_types` lists, or those from a certain one on.
struct Layers {
    size: Option<u32>,
    listed: Option<Windows>,
    first: u32,
}

impl Layers {
    fn read(meta: &dyn Metadata, layers: u32, room: &mut SpecRoom) -> Result<Self, SpecError> {
        let (size, first) = (window(meta)?, window_layers(meta)?);
        let listed = hf::listed(meta, layers)?;
        if let Some(listed) = &listed {
            let mut all = 0..layers;
            if size.is_none() && all.clone().any(|l| listed.has(l)) {
                let (key, known) = ("layer_types", "full_attention, without use_sliding_window");
                return Err(SpecError::Unsupported { key, known });
            }
            if size.is_some() && first.is_some_and(|n| all.any(|l| listed.has(l) != (l >= n))) {
                room.note(FIRST, Rule::LayerTypes);
            }
        }
        Ok(Layers { size, listed, first: first.unwrap_or(28) })
    }

    fn window(&self, l: u32) -> Option<u32> {
        self.size.filter(|_| match &self.listed {
            Some(listed) => listed.has(l),
            None => l >= self.first,
        })
    }
}

const QWEN2_CLASS: Class = Class { ffn: 22016, kv_heads: Some(32), context: 32768, ..Class::LLAMA };
const QWEN3_CLASS: Class = Class { head_dim: Some(128), ..QWEN2_CLASS };

fn from_config<'p>(
    meta: &dyn Metadata,
    shapes: &dyn Shapes,
    room: &'p mut SpecRoom,
    keys: &Keys,
) -> Result<Spec<'p>, SpecError> {
    // Qwen 2 has the biases of queries, keys and values, and no field about any.
    let qwen3 = keys.arch == QWEN3_KEYS.arch;
    let class = if qwen3 { QWEN3_CLASS } else { QWEN2_CLASS };
    let s = hf::sizes(meta, &class)?;
    let of = hf_rope::Of { head_dim: s.head_dim, context: s.context, base: class.base };
    let rope = hf_rope::one(meta, room, of)?;
    let rope = room.rope(rope)?;
    hf::activation(meta, "hidden_act", &["silu"], "silu")?;
    let windows = Layers::read(meta, s.layers, room)?;
    let hf::Ends { embd, head } = hf::ends(meta, shapes, room, &class)?;
    let attn = qwen3 && flag(meta, "attention_bias")?.unwrap_or(false);
    let layer = layer(&s, rope, keys.arch, Biases { qkv: attn, attn_out: attn, ffn: false });
    decoder::spec(keys.arch, &s, embd, head, room, |l| {
        decoder::with_attention(layer, |a| a.window = windows.window(l))
    })
}
