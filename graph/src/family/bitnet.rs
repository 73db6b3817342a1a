//! BitNet b1.58 (Ma et al., 2024): ternary weights, 8-bit inputs with one scale per token, norms
//! before the last product of each part, gated squared ReLU (SiLU in the first reproduction).
//!
//! Three GGUF architectures are such models: `bitnet-b1.58` (the published 2B-4T), its predecessor
//! `bitnet-25`, and llama.cpp's `bitnet`.

use teff_kernels::RopeKind;

use super::decoder::{self, Biases, Keys, keys};
use super::hf::{self, Class};
use super::hf_rope;
use super::names::hf_ignored;
use super::{Family, GgufForm, Names, Shapes, folder_reader};
use crate::layers::{Activation, Layer};
use crate::meta::{Metadata, flag};
#[cfg(feature = "alloc")]
use crate::spec::Head;
use crate::{Spec, SpecError, SpecRoom};

const B158_KEYS: Keys = keys!("bitnet-b1.58");
const B25_KEYS: Keys = keys!("bitnet-25");
const KEYS: Keys = keys!("bitnet");

const FAMILY: Family = Family {
    arch: "bitnet-b1.58",
    classes: &["BitNetForCausalLM"],
    model_type: "bitnet",
    prefix: "model.",
    from_gguf: |meta, shapes, room| from_gguf(meta, shapes, room, &B158_KEYS),
    from_config: folder_reader(from_config),
    names: Names::LLAMA,
    gguf: GgufForm { window: false, ..GgufForm::HALVES },
    hf_transposed: |_| false,
    hf_shift: |_| 0.0,
    hf_ignored,
    ternary: true,
};

/// Architecture of the published model.
pub static BITNET_B158: Family = FAMILY;

/// Architecture of its predecessor.
pub static BITNET_25: Family = Family {
    arch: "bitnet-25",
    classes: &[],
    model_type: "",
    from_gguf: |meta, shapes, room| from_gguf(meta, shapes, room, &B25_KEYS),
    ..FAMILY
};

/// Architecture in llama.cpp.
pub static BITNET: Family = Family {
    arch: "bitnet",
    classes: &[],
    model_type: "",
    from_gguf: |meta, shapes, room| from_gguf(meta, shapes, room, &KEYS),
    ..FAMILY
};

/// Shape of BitNet b1.58 2B-4T.
#[cfg(feature = "alloc")]
#[must_use]
pub fn bitnet_2b() -> Spec<'static> {
    let s = decoder::Sizes {
        context: 4096,
        width: 2560,
        layers: 30,
        heads: 20,
        kv_heads: 5,
        head_dim: 128,
        ffn: 6912,
        eps: 1e-5,
    };
    let rope = (RopeKind::NeoX, 500_000.0);
    let spec = decoder::published("bitnet-b1.58", &s, rope, 128_256, Head::Tied, |l| {
        with_switches(l, Activation::Relu2)
    });
    Spec { token_scales: true, ..spec }
}

fn with_switches(layer: Layer, activation: Activation) -> Layer {
    let layer = decoder::with_attention(layer, |a| a.sub_norm = true);
    decoder::with_dense(layer, |d| (d.sub_norm, d.activation) = (true, activation))
}

/// The same model with one scale per token in the inputs of its weights.
fn with_token_scales(spec: Spec<'_>) -> Result<Spec<'_>, SpecError> {
    let spec = Spec { token_scales: true, ..spec };
    spec.validate()?;
    Ok(spec)
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
    // No key names the activation. The first reproduction, whose files are `bitnet`, has SiLU, and
    // as many heads of keys as of queries; all later models have squared ReLU, and fewer.
    let silu = keys.arch == KEYS.arch && s.heads == s.kv_heads;
    let activation = if silu { Activation::Silu } else { Activation::Relu2 };
    let layer = with_switches(decoder::layer(&s, rope, Biases::NONE), activation);
    decoder::no_window(meta, keys, room);
    with_token_scales(decoder::spec(keys.arch, &s, embd, head, room, |_| layer)?)
}

const CLASS: Class = Class {
    width: 2560,
    ffn: 6912,
    layers: 30,
    heads: 20,
    kv_heads: Some(5),
    eps: 1e-5,
    base: 500_000.0,
    ..Class::LLAMA
};

fn from_config<'p>(
    meta: &dyn Metadata,
    shapes: &dyn Shapes,
    room: &'p mut SpecRoom,
) -> Result<Spec<'p>, SpecError> {
    let s = hf::sizes(meta, &CLASS)?;
    let of = hf_rope::Of { head_dim: s.head_dim, context: s.context, base: CLASS.base };
    let rope = hf_rope::one(meta, room, of)?;
    let rope = room.rope(rope)?;
    hf::activation(meta, "hidden_act", &["relu2"], "relu2")?;
    hf::no_window(meta, room);
    if flag(meta, "attention_bias")?.unwrap_or(false) {
        return Err(SpecError::Unsupported { key: "attention_bias", known: "false" });
    }
    // Required by the format of ternary weights.
    let widths = [s.width, s.ffn, s.heads.saturating_mul(s.head_dim)];
    if widths.iter().any(|n| !n.is_multiple_of(128)) {
        return Err(SpecError::Inconsistent("ternary weights come in rows of multiples of 128"));
    }
    let hf::Ends { embd, head } = hf::ends(meta, shapes, room, &CLASS)?;
    let layer = with_switches(decoder::layer(&s, rope, Biases::NONE), Activation::Relu2);
    with_token_scales(decoder::spec(B158_KEYS.arch, &s, embd, head, room, |_| layer)?)
}
