//! OLMo 2 and 3 (Ai2, 2024 and 2025): norms after the parts of a layer and none before, one norm over
//! all heads of queries and one over those of keys, and gated SiLU. In OLMo 3, three of four layers
//! have a window, and the others alone have a scaled rotary embedding.

use teff_kernels::RopeKind;

use super::decoder::{self, Biases, GgufWindows, Keys, Sizes, is_full, keys};
use super::hf::{self, Class};
use super::hf_rope;
use super::names::{hf, hf_ignored, named};
use super::{Family, GgufForm, Names, Shapes, folder_reader};
use crate::layers::Layer;
use crate::meta::{MetaError, Metadata, flag, float};
use crate::spec::{Head, LayerRole as L, Rope, RopeScaling};
use crate::{Spec, SpecError, SpecRoom};

const KEYS: Keys = keys!("olmo2");

const FAMILY: Family = Family {
    arch: "olmo2",
    classes: &["Olmo2ForCausalLM"],
    model_type: "olmo2",
    prefix: "model.",
    from_gguf,
    from_config: folder_reader(|meta, shapes, room| {
        hf::no_window(meta, room);
        from_config(meta, shapes, room, |_| None)
    }),
    names: NAMES,
    gguf: GgufForm::HALVES,
    hf_transposed: |_| false,
    hf_shift: |_| 0.0,
    hf_ignored,
    ternary: false,
};

/// OLMo 2.
pub static OLMO2: Family = FAMILY;

/// OLMo 3's class in Hugging Face folders, whose layers have windows. Its GGUF files are OLMo 2's.
pub static OLMO3: Family = Family {
    arch: "",
    classes: &["Olmo3ForCausalLM"],
    model_type: "olmo3",
    from_config: folder_reader(from_config3),
    ..FAMILY
};

const NAMES: Names = Names {
    hf: &[
        named(L::AttnPostNorm, &[hf("post_attention_layernorm.weight")]),
        named(L::FfnNorm, &[]),
        named(L::FfnPostNorm, &[hf("post_feedforward_layernorm.weight")]),
    ],
    ..Names::LLAMA
};

/// Layer with a window or without; rotary embeddings are those of layers without and with one.
fn layer(s: &Sizes, ropes: [u8; 2], biases: Biases, window: Option<u32>) -> Layer {
    let mut layer = decoder::layer(s, ropes[usize::from(window.is_some())], biases);
    (layer.norms.pre, layer.norms.post) = (false, true);
    decoder::with_attention(layer, |a| (a.qk_norm, a.wide_norm, a.window) = (true, true, window))
}

/// Interval of layers without a window, unless a file says another.
const EVERY: u32 = 4;

/// Rotary embeddings of layers without and with a window; those of the latter are not scaled.
fn ropes(room: &mut SpecRoom, rope: Rope, windows: bool) -> Result<[u8; 2], SpecError> {
    let first = room.rope(rope)?;
    let plain = Rope { scaling: RopeScaling::None, magnitude: 1.0, ..rope };
    Ok([first, if windows && plain != rope { room.rope(plain)? } else { first }])
}

/// Shape of OLMo 2 7B.
#[cfg(feature = "alloc")]
#[must_use]
pub fn olmo2_7b() -> Spec<'static> {
    let s = Sizes {
        context: 4096,
        width: 4096,
        layers: 32,
        heads: 32,
        kv_heads: 32,
        head_dim: 128,
        ffn: 11008,
        eps: 1e-6,
    };
    decoder::published("olmo2", &s, (RopeKind::NeoX, 500_000.0), 100_352, Head::Own, |_| {
        layer(&s, [0, 0], Biases::NONE, None)
    })
}

fn from_gguf<'p>(
    meta: &dyn Metadata,
    shapes: &dyn Shapes,
    room: &'p mut SpecRoom,
) -> Result<Spec<'p>, SpecError> {
    let s = decoder::gguf_sizes(meta, &KEYS)?;
    let rope = decoder::gguf_rope(meta, shapes, &KEYS, RopeKind::NeoX, s.head_dim)?;
    let base = float(meta, KEYS.rope_window_base)?;
    if base.is_some_and(|base| base != rope.base) {
        let known = "the base of the other layers";
        return Err(SpecError::Unsupported { key: KEYS.rope_window_base, known });
    }
    let windows = GgufWindows::read(meta, &KEYS, s.layers, EVERY)?;
    let ropes = ropes(room, rope, windows.any())?;
    let (embd, biases) = (shapes.shape("token_embd.weight"), decoder::gguf_biases(shapes));
    decoder::spec(KEYS.arch, &s, embd, Head::Own, room, |l| {
        layer(&s, ropes, biases, windows.of(meta, l))
    })
}

/// Defaults of transformers' Olmo2Config and Olmo3Config.
const CLASS: Class = Class { eps: 1e-5, ..Class::LLAMA };

fn from_config3<'p>(
    meta: &dyn Metadata,
    shapes: &dyn Shapes,
    room: &'p mut SpecRoom,
) -> Result<Spec<'p>, SpecError> {
    let layers = hf::sizes(meta, &CLASS)?.layers;
    let listed = hf::listed(meta, layers)?;
    let is_windowed = |l: u32| match &listed {
        Some(listed) => listed.has(l),
        None => !is_full(l, EVERY),
    };
    let size = hf::window(meta, 4096)?;
    if size.is_none() && (0..layers).any(is_windowed) {
        let want = "a number, which layers with a window need";
        return Err(MetaError::Wrong { key: hf::WINDOW, want }.into());
    }
    from_config(meta, shapes, room, |l| size.filter(|_| is_windowed(l)))
}

/// Reads what both classes have, with the window of each layer.
fn from_config<'p>(
    meta: &dyn Metadata,
    shapes: &dyn Shapes,
    room: &'p mut SpecRoom,
    window: impl Fn(u32) -> Option<u32>,
) -> Result<Spec<'p>, SpecError> {
    let s = hf::sizes(meta, &CLASS)?;
    let of = hf_rope::Of { head_dim: s.head_dim, context: s.context, base: CLASS.base };
    let rope = hf_rope::one(meta, room, of)?;
    hf::activation(meta, "hidden_act", &["silu"], "silu")?;
    let hf::Ends { embd, head } = hf::ends(meta, shapes, room, &CLASS)?;
    let attn = flag(meta, "attention_bias")?.unwrap_or(false);
    let biases = Biases { qkv: attn, attn_out: attn, ffn: false };
    let ropes = ropes(room, rope, (0..s.layers).any(|l| window(l).is_some()))?;
    decoder::spec(KEYS.arch, &s, embd, head, room, |l| layer(&s, ropes, biases, window(l)))
}
