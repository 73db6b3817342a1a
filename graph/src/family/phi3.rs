//! Phi-3 and Phi-4-mini (Microsoft, 2024 and 2025): Llama's shape with fused matrices, a rotary embedding
//! of a part of each head, and LongRoPE, whose factors are those for the context of the session.

use teff_kernels::RopeKind;

use super::decoder::{self, Biases, Keys, Sizes, keys};
use super::hf::{self, Class};
use super::hf_rope;
use super::names::{hf, hf_ignored, named};
use super::{Family, GgufForm, Names, Shapes, folder_reader};
use crate::layers::Layer;
use crate::meta::{Metadata, Value, flag};
#[cfg(feature = "alloc")]
use crate::spec::{Head, Rope, RopeScaling};
use crate::spec::{LayerRole as L, Role};
use crate::{Spec, SpecError, SpecRoom};

const KEYS: Keys = keys!("phi3");

/// Phi-3.
pub static PHI3: Family = Family {
    arch: "phi3",
    classes: &["Phi3ForCausalLM"],
    model_type: "phi3",
    prefix: "model.",
    from_gguf,
    from_config: folder_reader(from_config),
    names: NAMES,
    gguf: GgufForm { window: false, ..GgufForm::HALVES },
    hf_transposed: |_| false,
    hf_shift: |_| 0.0,
    hf_ignored,
    ternary: false,
};

const NAMES: Names = Names {
    gguf: &[(Role::Layer(0, L::FfnGateUp), "ffn_up.weight")],
    hf: &[named(L::AttnQkv, &[hf("self_attn.qkv_proj.weight")])],
    ..Names::LLAMA
};

/// Layer with fused matrices.
fn layer(s: &Sizes, rope: u8, window: Option<u32>) -> Layer {
    let layer = decoder::layer(s, rope, Biases::NONE);
    let layer = decoder::with_dense(layer, |d| d.fused = true);
    decoder::with_attention(layer, |a| (a.fused, a.window) = (true, window))
}

/// Shape of Phi-4-mini, whose rotary embedding has LongRoPE's factors for more than 4096 positions.
#[cfg(feature = "alloc")]
#[must_use]
pub fn phi4_mini() -> Spec<'static> {
    let s = Sizes {
        context: 131_072,
        width: 3072,
        layers: 32,
        heads: 24,
        kv_heads: 8,
        head_dim: 128,
        ffn: 8192,
        eps: 1e-5,
    };
    let rope = (RopeKind::NeoX, 10_000.0);
    let spec = decoder::published("phi3", &s, rope, 200_064, Head::Tied, |_| layer(&s, 0, None));
    let scaling = RopeScaling::Long { original: 4096 };
    spec.with_ropes(|rope| Rope { dims: 96, scaling, magnitude: 1.190_238, ..rope })
}

fn from_gguf<'p>(
    meta: &dyn Metadata,
    shapes: &dyn Shapes,
    room: &'p mut SpecRoom,
) -> Result<Spec<'p>, SpecError> {
    let s = decoder::gguf_sizes(meta, &KEYS)?;
    let rope = decoder::gguf_rope(meta, shapes, &KEYS, RopeKind::NeoX, s.head_dim)?;
    let rope = room.rope(rope)?;
    let (embd, head) = (shapes.shape("token_embd.weight"), decoder::gguf_head(shapes));
    // llama.cpp ignores a window, with a warning.
    decoder::no_window(meta, &KEYS, room);
    let layer = layer(&s, rope, None);
    decoder::spec(KEYS.arch, &s, embd, head, room, |_| layer)
}

/// Defaults of transformers' Phi3Config.
const CLASS: Class = Class { width: 3072, ffn: 8192, context: 4096, eps: 1e-5, ..Class::LLAMA };

fn from_config<'p>(
    meta: &dyn Metadata,
    shapes: &dyn Shapes,
    room: &'p mut SpecRoom,
) -> Result<Spec<'p>, SpecError> {
    let s = hf::sizes(meta, &CLASS)?;
    let of = hf_rope::Of { head_dim: s.head_dim, context: s.context, base: CLASS.base };
    let rope = hf_rope::of_phi3(meta, room, of)?;
    let rope = room.rope(rope)?;
    hf::activation(meta, "hidden_act", &["silu"], "silu")?;
    for key in ["attention_bias", "mlp_bias"] {
        if flag(meta, key)?.unwrap_or(false) {
            return Err(SpecError::Unsupported { key, known: "false" });
        }
    }
    hf::one_kind(meta, room);
    let window = match meta.get(hf::WINDOW) {
        None | Some(Value::Null) => None,
        _ => hf::window(meta, 0)?,
    };
    let hf::Ends { embd, head } = hf::ends(meta, shapes, room, &CLASS)?;
    let layer = layer(&s, rope, window);
    decoder::spec(KEYS.arch, &s, embd, head, room, |_| layer)
}
