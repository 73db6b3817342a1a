//! gpt-oss (OpenAI, 2025): experts in all layers with biases and a clamped activation, a sink of each
//! head, windows in every other layer, and YaRN whose range is not rounded.
//!
//! The largest scores are chosen, and their softmax gives the weights. GGUF files have no keys for
//! the numbers of the activation and for the rounding of YaRN's range: those of the published models
//! are meant, as transformers has them (llama.cpp rounds).

use teff_kernels::RopeKind;

use super::decoder::{self, Biases, GgufWindows, Keys, Sizes, keys};
use super::hf::{self, Class};
use super::hf_rope;
use super::names::{hf as whole, hf_ignored, named};
use super::{Family, GgufForm, Names, Shapes, folder_reader, moe};
use crate::layers::{Activation, Experts, FeedForward, Layer};
use crate::meta::{Metadata, flag, float, required};
use crate::spec::{Head, HfForm, HfName, LayerRole as L, Rope, RopeScaling, yarn_magnitude};
use crate::{Role, Spec, SpecError, SpecRoom};

const KEYS: Keys = keys!("gpt-oss");

/// gpt-oss.
pub static GPT_OSS: Family = Family {
    arch: "gpt-oss",
    classes: &["GptOssForCausalLM"],
    model_type: "gpt_oss",
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

/// Share of a tensor of all experts that is stored with inputs as rows.
const fn columns(name: &'static str, part: u8, parts: u8) -> HfName {
    HfName { name, form: HfForm::Columns { part, parts } }
}

/// Share of the blocks of MXFP4 of all experts.
const fn blocks(name: &'static str, part: u8, parts: u8) -> HfName {
    HfName { name, form: HfForm::Mxfp4 { part, parts } }
}

const GATE_UP: &str = "mlp.experts.gate_up_proj";
const GATE_UP_BIAS: &str = "mlp.experts.gate_up_proj_bias";
const GATE_UP_BLOCKS: &str = "mlp.experts.gate_up_proj_blocks";

const NAMES: Names = Names {
    gguf: &[(Role::Layer(0, L::FfnNorm), "post_attention_norm.weight")],
    hf: &[
        named(L::ExpertRouter, &[whole("mlp.router.weight")]),
        named(L::ExpertGate, &[blocks(GATE_UP_BLOCKS, 0, 2), columns(GATE_UP, 0, 2)]),
        named(L::ExpertUp, &[blocks(GATE_UP_BLOCKS, 1, 2), columns(GATE_UP, 1, 2)]),
        named(
            L::ExpertDown,
            &[blocks("mlp.experts.down_proj_blocks", 0, 1), columns("mlp.experts.down_proj", 0, 1)],
        ),
        named(L::ExpertGateBias, &[columns(GATE_UP_BIAS, 0, 2)]),
        named(L::ExpertUpBias, &[columns(GATE_UP_BIAS, 1, 2)]),
        named(L::ExpertDownBias, &[columns("mlp.experts.down_proj_bias", 0, 1)]),
    ],
    ..Names::LLAMA
};

/// Numbers of the activation.
const ALPHA: f32 = 1.702;
const LIMIT: f32 = 7.0;

fn experts(n: u32, used: u32, inner: u32, (alpha, limit): (f32, f32)) -> Experts {
    let activation = Activation::SwigluClamped { alpha, limit };
    Experts { activation, bias: true, ..Experts::new(n, used, inner) }
}

/// Layer with a window or without; rotary embeddings are those of layers without and with one.
fn layer(
    s: &Sizes,
    ropes: [u8; 2],
    biases: Biases,
    experts: Experts,
    window: Option<u32>,
) -> Layer {
    let layer = decoder::layer(s, ropes[usize::from(window.is_some())], biases);
    let layer = decoder::with_attention(layer, |a| (a.sinks, a.window) = (true, window));
    Layer { ffn: FeedForward::Experts(experts), ..layer }
}

/// Number of layers of which one attends to everything.
const EVERY: u32 = 2;

/// YaRN of the published models, as in files without rotary parameters.
fn published_rope(head_dim: u32, base: f32) -> Rope {
    let (factor, fast, slow, original, truncate) = (32.0, 32.0, 1.0, 4096.0, false);
    Rope {
        kind: RopeKind::NeoX,
        dims: head_dim,
        base,
        scaling: RopeScaling::Yarn { factor, fast, slow, original, truncate },
        magnitude: yarn_magnitude(32.0, 1.0) as f32,
    }
}

/// Shape of gpt-oss-20b.
#[cfg(feature = "alloc")]
#[must_use]
pub fn gpt_oss_20b() -> Spec<'static> {
    let s = Sizes {
        context: 131_072,
        width: 2880,
        layers: 24,
        heads: 64,
        kv_heads: 8,
        head_dim: 64,
        ffn: 2880,
        eps: 1e-5,
    };
    let biases = Biases { qkv: true, attn_out: true, ffn: false };
    let experts = experts(32, 4, 2880, (ALPHA, LIMIT));
    let mut room = SpecRoom::new();
    let spec = room.rope(published_rope(64, 150_000.0)).and_then(|rope| {
        decoder::spec("gpt-oss", &s, Some((201_088, 2880)), Head::Own, &mut room, |l| {
            let window = (!decoder::is_full(l, EVERY)).then_some(128);
            layer(&s, [rope; 2], biases, experts, window)
        })
    });
    match spec {
        Ok(spec) => spec.to_owned(),
        Err(_) => unreachable!("a published shape"),
    }
}

fn from_gguf<'p>(
    meta: &dyn Metadata,
    shapes: &dyn Shapes,
    room: &'p mut SpecRoom,
) -> Result<Spec<'p>, SpecError> {
    let found = moe::gguf_experts(meta, shapes, &KEYS, true)?;
    moe::no_shared(meta, &KEYS)?;
    if found.fused {
        // Files have no name for the biases of both.
        let (key, known) = ("ffn_gate_up_exps.weight", "ffn_gate_exps and ffn_up_exps");
        return Err(SpecError::Unsupported { key, known });
    }
    let s = decoder::gguf_sizes_of(meta, &KEYS, found.inner)?;
    // As in llama.cpp, which has no default.
    required(meta.get(KEYS.window), KEYS.window)?;
    let windows = GgufWindows::read(meta, &KEYS, s.layers, EVERY)?;
    let mut rope = decoder::gguf_rope(meta, shapes, &KEYS, RopeKind::NeoX, s.head_dim)?;
    if let RopeScaling::Yarn { truncate, .. } = &mut rope.scaling {
        *truncate = false;
    }
    let ropes = decoder::gguf_ropes(meta, &KEYS, &windows, room, rope)?;
    let embd = shapes.shape("token_embd.weight");
    let biases = Biases { ffn: false, ..decoder::gguf_biases(shapes) };
    let experts = experts(found.experts, found.used, found.inner, (ALPHA, LIMIT));
    decoder::spec(KEYS.arch, &s, embd, Head::Own, room, |l| {
        layer(&s, ropes, biases, experts, windows.of(meta, l))
    })
}

const CLASS: Class = Class {
    width: 2880,
    ffn: 2880,
    layers: 36,
    heads: 64,
    kv_heads: Some(8),
    head_dim: Some(64),
    context: 131_072,
    eps: 1e-5,
    base: 150_000.0,
    ..Class::LLAMA
};

fn from_config<'p>(
    meta: &dyn Metadata,
    shapes: &dyn Shapes,
    room: &'p mut SpecRoom,
) -> Result<Spec<'p>, SpecError> {
    let s = hf::sizes(meta, &CLASS)?;
    let of = hf_rope::Of { head_dim: s.head_dim, context: s.context, base: CLASS.base };
    let rope = match hf_rope::any(meta)? {
        true => hf_rope::one(meta, room, of)?,
        false => published_rope(s.head_dim, float(meta, "rope_theta")?.unwrap_or(CLASS.base)),
    };
    let rope = room.rope(rope)?;
    hf::activation(meta, "hidden_act", &["silu"], "silu")?;
    let size = hf::window(meta, 128)?;
    let listed = hf::listed(meta, s.layers)?;
    let window = |l| {
        size.filter(|_| match &listed {
            Some(listed) => listed.has(l),
            None => !decoder::is_full(l, EVERY),
        })
    };
    let hf::Ends { embd, head } = hf::ends(meta, shapes, room, &CLASS)?;
    let attn = flag(meta, "attention_bias")?.unwrap_or(true);
    let biases = Biases { qkv: attn, attn_out: attn, ffn: false };
    let n = moe::number(meta, room)?.unwrap_or(128);
    let used = hf::either(meta, room, "experts_per_token", "num_experts_per_tok")?.unwrap_or(4);
    let numbers = (
        float(meta, "swiglu_alpha")?.unwrap_or(ALPHA),
        float(meta, "swiglu_limit")?.unwrap_or(LIMIT),
    );
    let experts = experts(n, used, s.ffn, numbers);
    decoder::spec(KEYS.arch, &s, embd, head, room, |l| {
        layer(&s, [rope; 2], biases, experts, window(l))
    })
}
