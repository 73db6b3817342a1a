//! Gemma 3n (2025), text: Gemma 4's windows, norms, inputs of layers and shared keys and values, with
//! heads of one width and one rotary embedding for each kind of layer; several residual streams, and
//! sparse gates in the first layers.

use teff_kernels::RopeKind;

use super::decoder::{self, Biases, GgufWindows, Keys, Sizes, is_full, keys};
use super::gemma3::NAMES;
use super::gemma4::{check_shared, count_or_0, layers_of, shared};
use super::hf::{self, Class};
use super::hf_rope;
use super::names::hf_ignored;
use super::{Family, GgufForm, Shapes, folder_reader};
use crate::layers::{Activation, Layer, LayerInput, Streams};
use crate::meta::{MetaError, Metadata, Value, count, flag, float, required};
#[cfg(feature = "alloc")]
use crate::spec::Head;
use crate::spec::{Embed, MAX_LAYERS, MAX_STREAMS, PerLayer, Rope, RopeScaling};
use crate::{Role, Spec, SpecError, SpecRoom};

const KEYS: Keys = Keys {
    // The bound of the logits is computed.
    zeros: [
        "gemma3n.attn_logit_softcapping",
        "gemma3n.attention.clamp_kqv",
        "gemma3n.attention.max_alibi_bias",
        "gemma3n.attention.max_alibi_bias",
    ],
    ..keys!("gemma3n")
};
const SHARED: &str = "gemma3n.attention.shared_kv_layers";
const PER_LAYER: &str = "gemma3n.embedding_length_per_layer_input";
const CAP: &str = "gemma3n.final_logit_softcapping";
const STREAMS: &str = "gemma3n.altup.num_inputs";
const ACTIVE: &str = "gemma3n.altup.active_idx";
const SPARSITY: &str = "gemma3n.activation_sparsity_scale";

/// Gemma 3n.
pub static GEMMA3N: Family = Family {
    arch: "gemma3n",
    classes: &["Gemma3nForCausalLM"],
    model_type: "gemma3n_text",
    prefix: "model.",
    from_gguf,
    from_config: folder_reader(from_config),
    names: NAMES,
    gguf: GgufForm { by_kind: true, ..GgufForm::HALVES },
    hf_transposed: |_| false,
    hf_shift: |_| 0.0,
    hf_ignored,
    ternary: false,
};

/// Soft bound of the logits, unless a file says another.
const LOGITS: f32 = 30.0;
/// Rotary base of layers with a window.
const WINDOW_BASE: f32 = 10_000.0;
/// Interval of layers that attend to everything, unless a file says another.
const EVERY: u32 = 5;
/// Layers with keys and values of their own in GGUF files without a key for the others.
const OWN: u32 = 20;
/// Share of a gate's elements that become 0 in the first layers, unless a file says another; and the
/// number of these layers, in models with more.
const SPARSE: (f64, u32) = (0.95, 10);

/// Layers as both containers describe them; lists have an element for each layer.
struct Shape {
    /// Rotary embeddings of layers without and with a window.
    ropes: [u8; 2],
    window: u32,
    windowed: [bool; MAX_LAYERS],
    ffn: [u32; MAX_LAYERS],
    /// Standard deviations from which elements of a gate count.
    sparsity: [Option<f32>; MAX_LAYERS],
    /// Number of the first layer that shares keys and values.
    first_shared: u32,
    inputs: u32,
    streams: Streams,
}

impl Shape {
    fn layer(&self, s: &Sizes, l: u32) -> Layer {
        let i = l as usize;
        let s = Sizes { ffn: self.ffn[i], ..*s };
        let layer = decoder::layer(&s, self.ropes[usize::from(self.windowed[i])], Biases::NONE);
        let activation = Activation::GeluTanh;
        let mut layer = decoder::with_dense(layer, |d| {
            (d.activation, d.sparsity) = (activation, self.sparsity[i]);
        });
        layer.norms.post = true;
        layer.input = Some(LayerInput { width: self.inputs, activation });
        layer.streams = Some(self.streams);
        decoder::with_attention(layer, |a| {
            (a.qk_norm, a.value_norm, a.scale) = (true, true, 1.0);
            a.window = Some(self.window).filter(|_| self.windowed[i]);
            a.shared_kv = shared(&self.windowed, self.first_shared, l);
        })
    }

    /// The same model with what is not the layers'; the embedding of inputs has this many rows.
    fn with_ends<'p>(&self, spec: Spec<'p>, logit_cap: Option<f32>, vocab: u32) -> Spec<'p> {
        let scale = libm::sqrt(f64::from(spec.width)) as f32;
        Spec {
            embed: Embed { scale, ..spec.embed },
            logit_cap,
            per_layer: Some(PerLayer { width: self.inputs, vocab }),
            streams: Some(self.streams.count),
            ..spec
        }
    }
}

/// Standard deviations above the mean of a normal distribution below which a share of it lies: `None`
/// for none of it.
fn deviations(share: f64) -> Option<f32> {
    if share <= 0.0 {
        return None;
    }
    let (mut low, mut high) = (-40.0, 40.0);
    for _ in 0..100 {
        let middle = 0.5 * (low + high);
        let below = 0.5 * libm::erfc(-middle * core::f64::consts::FRAC_1_SQRT_2);
        if below < share { low = middle } else { high = middle }
    }
    Some((0.5 * (low + high)) as f32)
}

/// Share of layer `l` where a file has none.
fn usual_share(l: u32, layers: u32) -> f64 {
    if layers > SPARSE.1 && l < SPARSE.1 { SPARSE.0 } else { 0.0 }
}

/// Number of rows of a table.
fn rows(table: Option<(usize, usize)>) -> Result<u32, SpecError> {
    let (rows, _) = table.ok_or(SpecError::NoTensor(Role::PerLayerEmbd))?;
    u32::try_from(rows).map_err(|_| SpecError::Inconsistent("the vocabulary"))
}

/// Streams of so many and with this one active, whose residual branch has a matrix of this shape.
fn streams(
    (count, active): (u32, u32),
    key: &'static str,
    scaled: bool,
    left: Option<(usize, usize)>,
) -> Result<Streams, SpecError> {
    if !(2..=MAX_STREAMS).contains(&count) {
        return Err(SpecError::Unsupported { key, known: "2 to 8" });
    }
    let (rank, _) = left.ok_or(SpecError::Inconsistent("there is no residual branch"))?;
    let rank = u32::try_from(rank).map_err(|_| SpecError::Inconsistent("the residual branch"))?;
    Ok(Streams { count, active, scaled, rank })
}

fn from_gguf<'p>(
    meta: &dyn Metadata,
    shapes: &dyn Shapes,
    room: &'p mut SpecRoom,
) -> Result<Spec<'p>, SpecError> {
    let need = |key, l| Ok::<_, SpecError>(required(decoder::per_layer(meta, key, l)?, key)?);
    let layers = layers_of(required(count(meta, KEYS.layers)?, KEYS.layers)?)?;
    let s = decoder::gguf_sizes_of(meta, &KEYS, need(KEYS.ffn, 0)?)?;
    let windows = GgufWindows::read(meta, &KEYS, layers, EVERY)?.or(meta, &KEYS, 512);
    let shared = count_or_0(meta, SHARED)?.unwrap_or(layers.saturating_sub(OWN));
    let scaled = shapes.shape("blk.0.altup_correct_scale.weight").is_some();
    let count_of = count(meta, STREAMS)?.unwrap_or(4);
    let active = count_or_0(meta, ACTIVE)?.unwrap_or(0);
    let left = shapes.shape("blk.0.laurel_l.weight");
    let mut shape = Shape {
        ropes: [0; 2],
        window: count(meta, KEYS.window)?.unwrap_or(512),
        windowed: [false; MAX_LAYERS],
        ffn: [0; MAX_LAYERS],
        sparsity: [None; MAX_LAYERS],
        first_shared: layers.saturating_sub(shared),
        inputs: count(meta, PER_LAYER)?.unwrap_or(256),
        streams: streams((count_of, active), STREAMS, scaled, left)?,
    };
    let want = "a number of standard deviations for each layer, minus infinity for none";
    let wrong = SpecError::Meta(MetaError::Wrong { key: SPARSITY, want });
    for l in 0..layers {
        let i = l as usize;
        shape.windowed[i] = windows.of(meta, l).is_some();
        shape.ffn[i] = need(KEYS.ffn, l)?;
        shape.sparsity[i] = match (meta.get(SPARSITY), meta.item(SPARSITY, i)) {
            (None, _) => deviations(usual_share(l, layers)),
            // What -inf says is that nothing is cut.
            (_, Some(Value::Float(f64::NEG_INFINITY))) => None,
            (_, Some(Value::Float(x))) if x.is_finite() => Some(x as f32),
            _ => return Err(wrong),
        };
    }
    decoder::no_more(meta, KEYS.ffn, layers)?;
    decoder::no_more(meta, SPARSITY, layers)?;
    check_shared(&shape.windowed, (shape.first_shared, layers), SHARED)?;
    let full = decoder::gguf_rope(meta, shapes, &KEYS, RopeKind::NeoX, s.head_dim)?;
    let base = float(meta, KEYS.rope_base)?.unwrap_or(CLASS.base);
    let window_base = float(meta, KEYS.rope_window_base)?.unwrap_or(WINDOW_BASE);
    let plain = RopeScaling::None;
    let windowed = Rope { base: window_base, scaling: plain, magnitude: 1.0, ..full };
    shape.ropes = [room.rope(Rope { base, ..full })?, room.rope(windowed)?];
    let (embd, head) = (shapes.shape("token_embd.weight"), decoder::gguf_head(shapes));
    let vocab = rows(shapes.shape("per_layer_token_embd.weight"))?;
    let cap = match float(meta, CAP)? {
        None => Some(LOGITS),
        Some(cap) => Some(cap).filter(|&cap| cap != 0.0),
    };
    let (layer, ends) = (|l| shape.layer(&s, l), |spec| shape.with_ends(spec, cap, vocab));
    decoder::spec_with(KEYS.arch, &s, embd, head, room, layer, ends)
}

const CLASS: Class = Class {
    width: 2048,
    ffn: 16384,
    layers: 35,
    heads: 8,
    kv_heads: Some(2),
    head_dim: Some(256),
    context: 32768,
    base: 1e6,
    tied: true,
    ..Class::LLAMA
};

const SHARED_LAYERS: &str = "num_kv_shared_layers";
const INPUTS: &str = "hidden_size_per_layer_input";
const INPUTS_VOCAB: &str = "vocab_size_per_layer_input";
const PATTERN: &str = "activation_sparsity_pattern";

fn from_config<'p>(
    meta: &dyn Metadata,
    shapes: &dyn Shapes,
    room: &'p mut SpecRoom,
) -> Result<Spec<'p>, SpecError> {
    let ffn = |l| Ok::<_, SpecError>(decoder::per_layer(meta, hf::FFN, l)?.unwrap_or(CLASS.ffn));
    let s = hf::sizes_but(meta, &CLASS, ffn(0)?)?;
    let of = hf_rope::Of { head_dim: s.head_dim, context: s.context, base: CLASS.base };
    let [full, windowed] = hf_rope::by_kind(meta, room, of, WINDOW_BASE)?;
    hf::activation(meta, "hidden_activation", &["gelu_pytorch_tanh"], "gelu_pytorch_tanh")?;
    if flag(meta, "attention_bias")?.unwrap_or(false) {
        return Err(SpecError::Unsupported { key: "attention_bias", known: "false" });
    }
    if matches!(meta.get(hf::WINDOW), Some(Value::Null)) {
        return Err(MetaError::Wrong { key: hf::WINDOW, want: "a number" }.into());
    }
    let shared = count_or_0(meta, SHARED_LAYERS)?.unwrap_or(15);
    let count_of = count(meta, "altup_num_inputs")?.unwrap_or(4);
    let active = count_or_0(meta, "altup_active_idx")?.unwrap_or(0);
    let scaled = flag(meta, "altup_correct_scale")?.unwrap_or(true);
    let left = shapes.shape("layers.0.laurel.linear_left.weight");
    let mut shape = Shape {
        ropes: [0; 2],
        window: count(meta, hf::WINDOW)?.unwrap_or(512),
        windowed: [false; MAX_LAYERS],
        ffn: [0; MAX_LAYERS],
        sparsity: [None; MAX_LAYERS],
        first_shared: s.layers.saturating_sub(shared),
        inputs: count(meta, INPUTS)?.unwrap_or(256),
        streams: streams((count_of, active), "altup_num_inputs", scaled, left)?,
    };
    if count(meta, "laurel_rank")?.is_some_and(|rank| rank != shape.streams.rank) {
        return Err(SpecError::Inconsistent("laurel_rank is not that of its matrices"));
    }
    let listed = hf::listed(meta, s.layers)?;
    let want = "a list of numbers from 0 to below 1, one for each layer";
    let wrong = SpecError::Meta(MetaError::Wrong { key: PATTERN, want });
    for l in 0..s.layers {
        let i = l as usize;
        let windowed = listed.as_ref().map_or(!is_full(l, EVERY), |listed| listed.has(l));
        (shape.windowed[i], shape.ffn[i]) = (windowed, ffn(l)?);
        let share = match (meta.get(PATTERN), meta.item(PATTERN, i)) {
            (None | Some(Value::Null), _) => usual_share(l, s.layers),
            (_, Some(Value::Float(x))) if (0.0..1.0).contains(&x) => x,
            (_, Some(Value::Uint(0))) => 0.0,
            _ => return Err(wrong),
        };
        shape.sparsity[i] = deviations(share);
    }
    decoder::no_more(meta, hf::FFN, s.layers)?;
    decoder::no_more(meta, PATTERN, s.layers)?;
    check_shared(&shape.windowed, (shape.first_shared, s.layers), SHARED_LAYERS)?;
    shape.ropes = [room.rope(full)?, room.rope(windowed)?];
    let hf::Ends { embd, head } = hf::ends(meta, shapes, room, &CLASS)?;
    let vocab = rows(shapes.shape("embed_tokens_per_layer.weight"))?;
    if count(meta, INPUTS_VOCAB)?.is_some_and(|rows| rows != vocab) {
        return Err(SpecError::Inconsistent(
            "vocab_size_per_layer_input is not the rows of its embedding",
        ));
    }
    let cap = hf::cap(meta, "final_logit_softcapping", Some(LOGITS))?;
    let (layer, ends) = (|l| shape.layer(&s, l), |spec| shape.with_ends(spec, cap, vocab));
    decoder::spec_with(KEYS.arch, &s, embd, head, room, layer, ends)
}

/// Shape of Gemma 3n E2B.
#[cfg(feature = "alloc")]
#[must_use]
pub fn gemma3n_e2b() -> Spec<'static> {
    let s = Sizes {
        context: 32768,
        width: 2048,
        layers: 30,
        heads: 8,
        kv_heads: 2,
        head_dim: 256,
        ffn: 8192,
        eps: 1e-6,
    };
    let mut room = SpecRoom::new();
    let rope = |base| {
        let (kind, dims, scaling) = (RopeKind::NeoX, s.head_dim, RopeScaling::None);
        Rope { kind, dims, base, scaling, magnitude: 1.0 }
    };
    let mut shape = Shape {
        ropes: [0; 2],
        window: 512,
        windowed: core::array::from_fn(|l| !is_full(l as u32, EVERY)),
        ffn: [s.ffn; MAX_LAYERS],
        sparsity: core::array::from_fn(|l| deviations(usual_share(l as u32, s.layers))),
        first_shared: OWN,
        inputs: 256,
        streams: Streams { count: 4, active: 0, scaled: true, rank: 64 },
    };
    let spec = room.rope(rope(CLASS.base)).and_then(|full| {
        shape.ropes = [full, room.rope(rope(WINDOW_BASE))?];
        let embd = Some((262_400, s.width as usize));
        let layer = |l| shape.layer(&s, l);
        let ends = |spec| shape.with_ends(spec, Some(LOGITS), 262_144);
        decoder::spec_with("gemma3n", &s, embd, Head::Tied, &mut room, layer, ends)
    });
    match spec {
        Ok(spec) => spec.to_owned(),
        Err(_) => unreachable!("a published shape"),
    }
}

#[cfg(test)]
mod tests {
    use super::deviations;

    #[test]
    fn a_share_of_a_normal_distribution() {
        assert_eq!(deviations(0.0), None);
        for (share, want) in
            [(0.5, 0.0), (0.95, 1.644_853_6), (0.975, 1.959_964), (0.1, -1.281_551_6)]
        {
            assert!((f64::from(deviations(share).unwrap()) - want).abs() < 1e-6, "{share}");
        }
    }
}
