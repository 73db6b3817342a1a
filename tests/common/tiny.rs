//! Small models with random weights, made by the tests: Hugging Face folders of any family.

use std::fs;
use std::path::Path;

use teff::Format;
use teff::graph::family::{self, lfm2, qwen3moe, qwen35};
use teff::graph::layers::{DeltaNet, Experts, FeedForward, Mixer, ShortConv};
use teff::graph::{Head, LayerRole, Layers, Role, Rope, Spec};
use teff::kernels::quantize_row;

/// A model's folder: its config.json, and a shape that has the names of its tensors.
pub struct Tiny {
    pub config: String,
    pub spec: Spec<'static>,
}

pub const WIDTH: u32 = 256;
pub const VOCAB: u32 = 311;

/// Fields of both.
const SIZES: &str = r#""hidden_size":256,"num_attention_heads":4,"num_key_value_heads":2,
    "vocab_size":311,"max_position_embeddings":96"#;

fn sized(spec: Spec<'_>, layers: u32) -> Spec<'static> {
    let spec = spec.with_layers(|mut layer| {
        if let Mixer::Attention(a) = &mut layer.mixer {
            (a.heads, a.kv_heads, a.head_dim) = (4, 2, 64);
        }
        if let FeedForward::Dense(d) = &mut layer.ffn {
            d.inner = 512;
        }
        layer
    });
    let layers = spec.layers.with_len(layers);
    Spec { vocab: VOCAB, context: 96, width: WIDTH, layers, ..spec }
}

/// Qwen 3 with four experts in both layers, of which a token takes two; fields of config.json before
/// its own.
pub fn qwen3moe(more: &str) -> Tiny {
    let spec = sized(qwen3moe::qwen3_30b_a3b(), 2).with_layers(|mut layer| {
        if let FeedForward::Experts(e) = &mut layer.ffn {
            *e = Experts { experts: 4, used: 2, inner: 256, ..*e };
        }
        layer
    });
    let config = format!(
        r#"{{"architectures":["Qwen3MoeForCausalLM"],{more}{SIZES},"num_hidden_layers":2,"head_dim":64,
        "num_experts":4,"num_experts_per_tok":2,"moe_intermediate_size":256,"norm_topk_prob":true}}"#
    );
    Tiny { config, spec }
}

/// LFM2 with five layers, the third with attention.
pub fn lfm2(more: &str) -> Tiny {
    let config = format!(
        r#"{{"architectures":["Lfm2ForCausalLM"],{more}{SIZES},"num_hidden_layers":5,
        "intermediate_size":512,"layer_types":["conv","conv","full_attention","conv","conv"]}}"#
    );
    Tiny { config, spec: sized(lfm2::lfm2_1_2b(), 5) }
}

/// The same with biases in its convolutions.
pub fn lfm2_biased() -> Tiny {
    let Tiny { config, spec } = lfm2(r#""conv_bias":true,"#);
    let spec = spec.with_layers(|mut layer| {
        if let Mixer::ShortConv(conv) = &mut layer.mixer {
            *conv = ShortConv { bias: true, ..*conv };
        }
        layer
    });
    Tiny { config, spec }
}

/// Qwen 3.5 with two layers, both with linear attention or both without, and perhaps with biases of
/// attention.
pub fn qwen35(linear: bool, bias: bool) -> Tiny {
    let spec = sized(qwen35::qwen3_5_0_8b(), 2).with_layers(|mut layer| {
        match &mut layer.mixer {
            Mixer::DeltaNet(net) => {
                *net =
                    DeltaNet { key_heads: 2, value_heads: 4, key_dim: 32, value_dim: 32, taps: 4 };
            }
            Mixer::Attention(a) => (a.qkv_bias, a.out_bias) = (bias, bias),
            _ => {}
        }
        layer
    });
    let spec = spec.with_ropes(|rope| Rope { dims: 16, ..rope });
    let kinds = spec.layers.kinds();
    let one = kinds.iter().position(|kind| kind.delta_net().is_some() == linear).unwrap();
    let layers = Layers::new(kinds, &[one as u8], 2).to_owned();
    let kind = if linear { "linear" } else { "full" };
    let config = format!(
        r#"{{"architectures":["Qwen3_5ForCausalLM"],{SIZES},"num_hidden_layers":2,
        "intermediate_size":512,"layer_types":["{kind}_attention","{kind}_attention"],
        "linear_num_key_heads":2,"linear_num_value_heads":4,"linear_key_head_dim":32,
        "linear_value_head_dim":32,"attention_bias":{bias},"head_dim":64,"tie_word_embeddings":true}}"#
    );
    Tiny { config, spec: Spec { layers, ..spec.clone() } }
}

impl Tiny {
    /// Writes config.json and model.safetensors, its tensors in a dense format.
    pub fn write(&self, folder: &Path, format: Format) {
        let family = family::of_arch(self.spec.arch).unwrap();
        let (mut entries, mut buffer, mut state) = (vec![], vec![], 1u32);
        let slots =
            self.spec.slots().filter(|s| s.role != Role::Output || self.spec.head == Head::Own);
        for (slot, expert) in slots.flat_map(|s| (0..s.experts).map(move |e| (s, e))) {
            let mut name = family.prefix.to_owned();
            if slot.role == Role::Output {
                name.clear(); // the head is beside the model
            }
            let usual = &family.hf_names(slot.role)[0];
            family.hf_name(slot.role, usual, expert, &mut name).unwrap();
            let (mean, size) = match slot.role {
                Role::Layer(_, LayerRole::ConvTaps | LayerRole::DeltaTaps) => (0.0, 1.0),
                _ if !slot.is_vector() => (0.0, 0.15),
                _ if name.contains("norm") => (1.0, 0.2),
                _ => (0.0, 0.2),
            };
            let mut random = || {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                mean + size * f32::from((state >> 16) as i16) / 32768.0
            };
            let values: Vec<f32> = (0..slot.rows * slot.cols).map(|_| random()).collect();
            let shape = match slot.role {
                Role::Layer(_, LayerRole::ConvTaps | LayerRole::DeltaTaps) => {
                    vec![slot.rows, 1, slot.cols]
                }
                _ if slot.is_vector() => vec![slot.cols],
                _ => vec![slot.rows, slot.cols],
            };
            let begin = buffer.len();
            buffer.resize(begin + values.len() * format.block_bytes(), 0);
            quantize_row(format, &values, &mut buffer[begin..]);
            let end = buffer.len();
            let dtype = format.name();
            entries.push(format!(
                r#""{name}":{{"dtype":"{dtype}","shape":{shape:?},"data_offsets":[{begin},{end}]}}"#
            ));
        }
        let mut header = format!("{{{}}}", entries.join(","));
        while !header.len().is_multiple_of(8) {
            header.push(' ');
        }
        let file = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &buffer].concat();
        fs::write(folder.join("config.json"), &self.config).unwrap();
        fs::write(folder.join("model.safetensors"), file).unwrap();
    }
}
