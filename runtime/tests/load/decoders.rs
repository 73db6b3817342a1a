//! Small decoders of every family as folders, with fields of config.json to choose.
#![allow(dead_code, unreachable_pub)] // each test file uses a part of it

use teff_graph::layers::{Experts, FeedForward, Layer, LayerInput, Mixer, Streams};
use teff_graph::{
    Head, LayerRole, Layers, LogitsFor, PerLayer, Role, Rope, RopeScaling, Spec, family,
};
use teff_kernels::{Format, quantize_row};
use teff_runtime::{LoadError, Model, SessionOptions};

use super::common::{self, Folder, Plain, TINY, safetensors};

pub const VOCAB: usize = 40;
pub const WIDTH: usize = 128;

/// Fields of a config.json, in order.
#[derive(Clone)]
pub struct Fields(Vec<(String, String)>);

impl Fields {
    /// The fields of an object without nesting, such as `"a":1,"b":"x"`, that are to be set. A
    /// field set twice keeps the last value.
    pub fn set(&self, fields: &[(&str, &str)]) -> Fields {
        let mut all = self.clone();
        for (key, value) in fields {
            all.0.retain(|(k, _)| k != key);
            all.0.push(((*key).into(), (*value).into()));
        }
        all
    }

    pub fn without(&self, keys: &[&str]) -> Fields {
        Fields(self.0.iter().filter(|(k, _)| !keys.contains(&&**k)).cloned().collect())
    }

    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(k, _)| &**k)
    }

    pub fn json(&self) -> String {
        let fields: Vec<String> = self.0.iter().map(|(k, v)| format!("\"{k}\":{v}")).collect();
        format!("{{{}}}", fields.join(","))
    }
}

/// A small model: fields, and tensors without a head.
pub struct Small {
    pub class: &'static str,
    pub fields: Fields,
    pub tensors: Vec<Plain>,
    /// True if the class ties the head by default.
    pub tied: bool,
}

fn small(spec: Spec<'_>) -> Spec<'static> {
    let spec = spec.with_layers(|layer| {
        let layer = common::layer(layer, 4, 2, 32, 256);
        match layer.ffn {
            FeedForward::Experts(e) => {
                let e = Experts { experts: 4, used: 2, inner: 64, ..e };
                Layer { ffn: FeedForward::Experts(e), ..layer }
            }
            _ => layer,
        }
    });
    let layers = spec.layers.with_len(3);
    let (vocab, width) = (VOCAB as u32, WIDTH as u32);
    Spec { vocab, context: 64, layers, width, head: Head::Tied, ..spec }
}

fn random(state: &mut u32) -> f32 {
    *state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
    f32::from((*state >> 16) as i16) / 32768.0
}

pub fn tensor(name: &str, shape: &[usize], seed: u32) -> Plain {
    let mut state = seed;
    let values: Vec<f32> = (0..shape.iter().product()).map(|_| random(&mut state)).collect();
    let mut data = vec![0; values.len() * 4];
    quantize_row(Format::F32, &values, &mut data);
    Plain { name: name.into(), dtype: "F32", shape: shape.to_vec(), data }
}

/// A head unlike the embedding.
pub fn own_head() -> Plain {
    tensor("lm_head.weight", &[VOCAB, WIDTH], 77)
}

fn decoder(class: &'static str, spec: Spec<'_>, tied: bool, more: &[(&str, &str)]) -> Small {
    decoder_of(class, small(spec), tied, more)
}

/// As [`decoder`], of a model of these sizes.
fn decoder_of(class: &'static str, spec: Spec<'_>, tied: bool, more: &[(&str, &str)]) -> Small {
    let family = family::of_class(class).unwrap();
    let mut tensors = vec![];
    for (i, slot) in spec.slots().enumerate() {
        for expert in 0..slot.experts {
            let mut name = family.prefix.to_owned();
            family.hf_name(slot.role, &family.hf_names(slot.role)[0], expert, &mut name).unwrap();
            let shape = match slot.role {
                Role::Layer(_, LayerRole::ConvTaps | LayerRole::DeltaTaps) => {
                    vec![slot.rows, 1, slot.cols]
                }
                _ if slot.is_vector() && slot.rows == 1 => vec![slot.cols],
                _ => vec![slot.rows, slot.cols],
            };
            let mut t = tensor(&name, &shape, (i * 31 + expert) as u32);
            if family.ternary && matches!(slot.role, Role::Layer(..)) && !slot.is_vector() {
                for x in t.data.as_chunks_mut::<4>().0 {
                    *x = (f32::from_le_bytes(*x) * 1.4).round().to_le_bytes();
                }
            }
            tensors.push(t);
        }
    }
    let class_field = format!("[\"{class}\"]");
    let fields = Fields(vec![]).set(&[
        ("architectures", &class_field),
        ("hidden_size", "128"),
        ("num_attention_heads", "4"),
        ("num_key_value_heads", "2"),
        ("head_dim", "32"),
        ("num_hidden_layers", "3"),
        ("intermediate_size", "256"),
        ("vocab_size", "40"),
        ("max_position_embeddings", "64"),
        ("tie_word_embeddings", "true"),
    ]);
    Small { class, fields: fields.set(more), tensors, tied }
}

pub fn llama() -> Small {
    decoder("LlamaForCausalLM", family::llama::tinyllama(), false, &[])
}

pub fn mistral() -> Small {
    let more = [("sliding_window", "null")];
    decoder("MistralForCausalLM", family::llama::tinyllama(), false, &more)
}

pub fn gemma3() -> Small {
    let more = [
        ("sliding_window", "4"),
        ("query_pre_attn_scalar", "32"),
        ("layer_types", r#"["sliding_attention","full_attention","sliding_attention"]"#),
    ];
    decoder("Gemma3ForCausalLM", family::gemma3::gemma3_1b(), true, &more)
}

/// Two layers with a window and one without, whose heads are wider; no inputs of layers.
pub fn gemma4() -> Small {
    let spec = family::gemma4::gemma4_e2b();
    let kind = |l: u32, head_dim: u32| {
        let mut layer = *spec.layers.get(l);
        if let Mixer::Attention(a) = &mut layer.mixer {
            (a.heads, a.kv_heads, a.head_dim) = (4, 2, head_dim);
        }
        if let FeedForward::Dense(d) = &mut layer.ffn {
            d.inner = 256;
        }
        Layer { input: None, ..layer }
    };
    let kinds = [kind(0, 32), kind(4, 64)];
    let layers = Layers::new(&kinds, &[0, 0, 1], 3).to_owned();
    let plain = spec.with_ropes(|rope| Rope { scaling: RopeScaling::None, ..rope });
    let (vocab, width) = (VOCAB as u32, WIDTH as u32);
    let spec = Spec { vocab, context: 64, width, layers, per_layer: None, ..plain };
    let more = [
        ("sliding_window", "4"),
        ("global_head_dim", "64"),
        ("hidden_size_per_layer_input", "0"),
        ("layer_types", r#"["sliding_attention","sliding_attention","full_attention"]"#),
    ];
    decoder_of("Gemma4ForCausalLM", spec, true, &more)
}

/// Two layers with a window and one without, two residual streams, and fewer inputs of layers than
/// tokens.
pub fn gemma3n() -> Small {
    let spec = family::gemma3n::gemma3n_e2b();
    let kind = |l: u32| {
        let mut layer = *spec.layers.get(l);
        if let Mixer::Attention(a) = &mut layer.mixer {
            (a.heads, a.kv_heads, a.head_dim) = (4, 2, 32);
        }
        if let FeedForward::Dense(d) = &mut layer.ffn {
            (d.inner, d.sparsity) = (256, None);
        }
        let input = layer.input.map(|input| LayerInput { width: 16, ..input });
        let streams = layer.streams.map(|s| Streams { count: 2, rank: 8, ..s });
        Layer { input, streams, ..layer }
    };
    let kinds = [kind(0), kind(4)];
    let layers = Layers::new(&kinds, &[0, 0, 1], 3).to_owned();
    let (vocab, width) = (VOCAB as u32, WIDTH as u32);
    let per_layer = Some(PerLayer { width: 16, vocab: 30 });
    let spec = Spec { vocab, context: 64, width, layers, per_layer, streams: Some(2), ..spec };
    let more = [
        ("sliding_window", "4"),
        ("layer_types", r#"["sliding_attention","sliding_attention","full_attention"]"#),
        ("hidden_size_per_layer_input", "16"),
        ("vocab_size_per_layer_input", "30"),
        ("altup_num_inputs", "2"),
        ("laurel_rank", "8"),
        ("num_kv_shared_layers", "0"),
    ];
    decoder_of("Gemma3nForCausalLM", spec, true, &more)
}

pub fn qwen2() -> Small {
    decoder("Qwen2ForCausalLM", family::qwen::qwen2_5_14b(), false, &[])
}

pub fn qwen3() -> Small {
    decoder("Qwen3ForCausalLM", family::qwen::qwen3_14b(), false, &[])
}

pub fn qwen3moe() -> Small {
    let more = [
        ("num_experts", "4"),
        ("num_experts_per_tok", "2"),
        ("moe_intermediate_size", "64"),
        ("norm_topk_prob", "true"),
    ];
    decoder("Qwen3MoeForCausalLM", family::qwen3moe::qwen3_30b_a3b(), false, &more)
}

pub fn lfm2() -> Small {
    let more = [("layer_types", r#"["conv","conv","full_attention"]"#)];
    decoder("Lfm2ForCausalLM", family::lfm2::lfm2_1_2b(), true, &more)
}

/// Qwen 3.5 with attention in the second of three layers.
pub fn qwen35() -> Small {
    linear("Qwen3_5ForCausalLM", family::qwen35::qwen3_5_0_8b(), &[])
}

/// The same with experts.
pub fn qwen35moe() -> Small {
    let more =
        [("num_experts", "4"), ("num_experts_per_tok", "2"), ("moe_intermediate_size", "64")];
    linear("Qwen3_5MoeForCausalLM", family::qwen35moe::qwen3_5_35b_a3b(), &more)
}

fn linear(class: &'static str, spec: Spec<'_>, more: &[(&str, &str)]) -> Small {
    let spec = spec.with_layers(|mut layer| {
        if let Mixer::DeltaNet(d) = &mut layer.mixer {
            (d.key_heads, d.value_heads, d.key_dim, d.value_dim) = (2, 4, 16, 16);
        }
        layer
    });
    let layers = Layers::new(spec.layers.kinds(), &[0, 1, 0], 3).to_owned();
    let own = [
        ("layer_types", r#"["linear_attention","full_attention","linear_attention"]"#),
        ("linear_num_key_heads", "2"),
        ("linear_num_value_heads", "4"),
        ("linear_key_head_dim", "16"),
        ("linear_value_head_dim", "16"),
    ];
    decoder(class, Spec { layers, ..spec }, false, &[&own[..], more].concat())
}

pub fn bitnet() -> Small {
    decoder("BitNetForCausalLM", family::bitnet::bitnet_2b(), false, &[])
}

pub fn gpt2() -> Small {
    let sizes = common::Sizes { vocab: VOCAB, width: WIDTH, context: 64, ..TINY };
    let fields = Fields(vec![]).set(&[
        ("architectures", "[\"GPT2LMHeadModel\"]"),
        ("vocab_size", "40"),
        ("n_positions", "64"),
        ("n_embd", "128"),
        ("n_head", "2"),
        ("n_inner", "48"),
        ("n_layer", "2"),
        ("tie_word_embeddings", "true"),
    ]);
    let tensors = sizes.tensors("transformer.", Format::F32);
    Small { class: "GPT2LMHeadModel", fields, tensors, tied: true }
}

/// All families.
pub fn all() -> Vec<Small> {
    let mut all = rotary();
    all.extend([gemma3(), gpt2()]);
    all
}

/// Families with one rotary embedding for all layers.
pub fn rotary() -> Vec<Small> {
    vec![llama(), mistral(), qwen2(), qwen3(), qwen3moe(), lfm2(), bitnet()]
}

/// Key that ties the head to the embedding.
pub const TIED: &str = "tie_word_embeddings";

/// Tensors with more of them.
pub fn with(tensors: &[Plain], more: &[Plain]) -> Vec<Plain> {
    tensors.iter().chain(more).cloned().collect()
}

/// A folder with a model.
pub fn folder(json: &str, tensors: &[Plain]) -> Folder {
    let folder = Folder::new();
    folder.write("config.json", json);
    folder.write("model.safetensors", safetensors(tensors));
    folder
}

pub fn open(fields: &Fields, tensors: &[Plain]) -> Result<Model, LoadError> {
    Model::open(&folder(&fields.json(), tensors).0)
}

/// Hyper-parameters and tensors, by their bits: models that are equal in these compute the same.
#[derive(PartialEq)]
pub struct Read(Spec<'static>, Vec<Vec<u32>>);

/// The contents of a model.
pub fn read_of(model: &Model) -> Read {
    Read(model.spec().clone(), model.tensors().map(common::bits).collect())
}

/// The contents of a model that opens with warnings about these keys.
pub fn read(fields: &Fields, tensors: &[Plain], keys: &[&str]) -> Read {
    let model = open(fields, tensors).unwrap_or_else(|e| panic!("{}: {e}", fields.json()));
    warned(&model, keys, &fields.json());
    read_of(&model)
}

/// True if no two of these are equal.
pub fn all_differ(all: &[&Read]) -> bool {
    (0..all.len()).all(|i| !all[..i].contains(&all[i]))
}

/// Logits of 12 tokens, as bits.
pub fn logits(model: &Model) -> Vec<u32> {
    let options = SessionOptions::default().with_threads(1).with_context(16).with_logits(12);
    let mut session = model.session(&options).unwrap();
    let tokens: Vec<u32> = (0..12).map(|i| (i * 7 + 3) % VOCAB as u32).collect();
    let logits = session.eval(&tokens, LogitsFor::All).unwrap();
    assert!(logits.iter().all(|x| x.is_finite()));
    logits.iter().map(|x| x.to_bits()).collect()
}

/// Checks that a model has one warning about each of these keys, and no others.
pub fn warned(model: &Model, keys: &[&str], what: &str) {
    let found: Vec<&str> = model.warnings().iter().map(|w| &*w.key).collect();
    assert_eq!(found, keys, "{what}");
    for w in model.warnings() {
        let text = w.to_string();
        assert!(text.contains(&w.key) && !text.contains('\n') && text.len() < 500, "{text}");
    }
}

/// The error of opening.
pub fn refused(fields: &Fields, tensors: &[Plain], names: &str) {
    let e = match open(fields, tensors) {
        Err(e) => e.to_string(),
        Ok(_) => panic!("{} is not refused", fields.json()),
    };
    assert!(e.contains(names), "{}: {e}", fields.json());
}
