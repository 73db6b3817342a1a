//! SmolLM3 (Hugging Face, 2025): Llama's shape, with heads that are not rotated in some layers: every
//! fourth, unless a folder lists others.
//!
//! GGUF files store the rows of queries and keys as Llama's do, those of the other layers too. They
//! have no key for the list.

use teff_kernels::RopeKind;

#[cfg(feature = "alloc")]
use super::decoder::Sizes;
use super::decoder::{self, Biases, Keys, keys};
use super::hf::{self, Class};
use super::hf_rope;
use super::names::hf_ignored;
use super::{Family, GgufForm, Names, Shapes, folder_reader};
use crate::layers::Layer;
use crate::meta::{MetaError, Metadata, Value, count, flag};
#[cfg(feature = "alloc")]
use crate::spec::Head;
use crate::{MAX_LAYERS, Spec, SpecError, SpecRoom};

const KEYS: Keys = keys!("smollm3");

/// SmolLM3.
pub static SMOLLM3: Family = Family {
    arch: "smollm3",
    classes: &["SmolLM3ForCausalLM"],
    model_type: "smollm3",
    prefix: "model.",
    from_gguf,
    from_config: folder_reader(from_config),
    names: Names::LLAMA,
    gguf: GgufForm { rope: RopeKind::Norm, window: false, ..GgufForm::HALVES },
    hf_transposed: |_| false,
    hf_shift: |_| 0.0,
    hf_ignored,
    ternary: false,
};

/// Interval of layers without rotation.
const EVERY: u32 = 4;

/// True for a layer that rotates its heads, unless a folder lists others.
const fn is_rotated(l: u32, every: u32) -> bool {
    !(l + 1).is_multiple_of(every)
}

/// The same layer with heads that are not rotated.
fn unrotated(layer: Layer) -> Layer {
    decoder::with_attention(layer, |a| a.rope = None)
}

/// Shape of SmolLM3 3B.
#[cfg(feature = "alloc")]
#[must_use]
pub fn smollm3_3b() -> Spec<'static> {
    let s = Sizes {
        context: 65536,
        width: 2048,
        layers: 36,
        heads: 16,
        kv_heads: 4,
        head_dim: 128,
        ffn: 11008,
        eps: 1e-6,
    };
    let spec = decoder::published("smollm3", &s, (RopeKind::Norm, 5e6), 128_256, Head::Tied, |l| l);
    let (rotated, mut room) = (*spec.layers.get(0), SpecRoom::new());
    for l in 0..s.layers {
        let layer = if is_rotated(l, EVERY) { rotated } else { unrotated(rotated) };
        if room.push(layer).is_err() {
            unreachable!("a published shape");
        }
    }
    Spec { layers: room.layers(), ..spec }.to_owned()
}

fn from_gguf<'p>(
    meta: &dyn Metadata,
    shapes: &dyn Shapes,
    room: &'p mut SpecRoom,
) -> Result<Spec<'p>, SpecError> {
    let s = decoder::gguf_sizes(meta, &KEYS)?;
    let rope = decoder::gguf_rope(meta, shapes, &KEYS, RopeKind::Norm, s.head_dim)?;
    let rope = room.rope(rope)?;
    let (embd, head) = (shapes.shape("token_embd.weight"), decoder::gguf_head(shapes));
    let layer = decoder::layer(&s, rope, decoder::gguf_biases(shapes));
    decoder::no_window(meta, &KEYS, room);
    decoder::spec(KEYS.arch, &s, embd, head, room, |l| {
        if is_rotated(l, EVERY) { layer } else { unrotated(layer) }
    })
}

/// Defaults of transformers' SmolLM3Config.
const CLASS: Class = Class {
    width: 2048,
    layers: 36,
    heads: 16,
    kv_heads: Some(4),
    context: 32768,
    base: 2e6,
    tied: true,
    ..Class::LLAMA
};

/// List with 1 for each layer that rotates its heads, and 0 for the others.
const LISTED: &str = "no_rope_layers";

/// Layers that rotate their heads as a folder lists them; `None` without a list.
fn listed(meta: &dyn Metadata, layers: u32) -> Result<Option<[bool; MAX_LAYERS]>, SpecError> {
    if matches!(meta.get(LISTED), None | Some(Value::Null)) {
        return Ok(None);
    }
    decoder::no_more(meta, LISTED, layers)?;
    let mut rotated = [false; MAX_LAYERS];
    for (l, rotated) in rotated.iter_mut().enumerate().take(layers as usize) {
        *rotated = match meta.item(LISTED, l) {
            Some(Value::Uint(0)) => false,
            Some(Value::Uint(1)) => true,
            _ => {
                return Err(
                    MetaError::Wrong { key: LISTED, want: "0 or 1, one for each layer" }.into()
                );
            }
        };
    }
    Ok(Some(rotated))
}

fn from_config<'p>(
    meta: &dyn Metadata,
    shapes: &dyn Shapes,
    room: &'p mut SpecRoom,
) -> Result<Spec<'p>, SpecError> {
    let s = hf::sizes(meta, &CLASS)?;
    let of = hf_rope::Of { head_dim: s.head_dim, context: s.context, base: CLASS.base };
    let rope = hf_rope::one(meta, room, of)?;
    let rope = room.rope(rope)?;
    hf::activation(meta, "hidden_act", &["silu"], "silu")?;
    let listed = listed(meta, s.layers)?;
    let every = count(meta, "no_rope_layer_interval")?.unwrap_or(EVERY);
    let is_rotated = |l: u32| match &listed {
        Some(rotated) => rotated[l as usize],
        None => is_rotated(l, every),
    };
    // Layers without rotation have a window, if there are any and no list of kinds says otherwise.
    let window = match flag(meta, "use_sliding_window")? {
        Some(true) => match meta.get(hf::WINDOW) {
            Some(Value::Uint(0)) => None,
            _ => count(meta, hf::WINDOW)?,
        },
        _ => None,
    };
    let windows = hf::listed(meta, s.layers)?;
    if let Some(windows) = windows.as_ref().filter(|_| window.is_none())
        && (0..s.layers).any(|l| windows.has(l))
    {
        let (key, known) = ("layer_types", "full_attention, without use_sliding_window");
        return Err(SpecError::Unsupported { key, known });
    }
    let is_windowed = |l| windows.as_ref().map_or(!is_rotated(l), |windows| windows.has(l));
    let hf::Ends { embd, head } = hf::ends(meta, shapes, room, &CLASS)?;
    let attn = flag(meta, "attention_bias")?.unwrap_or(false);
    let ffn = flag(meta, "mlp_bias")?.unwrap_or(false);
    let layer = decoder::layer(&s, rope, Biases { qkv: attn, attn_out: attn, ffn });
    decoder::spec(KEYS.arch, &s, embd, head, room, |l| {
        let layer = if is_rotated(l) { layer } else { unrotated(layer) };
        decoder::with_attention(layer, |a| a.window = window.filter(|_| is_windowed(l)))
    })
}
