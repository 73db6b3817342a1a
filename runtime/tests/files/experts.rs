//! Experts in folders: the same model in every form in which its tensors are stored, settings with
//! their defaults, and what is refused.

use std::collections::BTreeMap;

use crate::common::{Plain, assert_same};
use crate::decoders::{folder, logits};
use teff_graph::family::{self, Family, gpt_oss, granite, lfm2, llama, qwen2moe};
use teff_graph::layers::{Experts, FeedForward, Layer, Mixer, Router, SharedExpert};
use teff_graph::{Head, HfForm, LayerRole, Layers, Role, Slot, Spec};
use teff_kernels::{Format, quantize_row};
use teff_runtime::model::LoadErrorKind as K;
use teff_runtime::{LoadError, Model};

const SIZES: &str = r#""hidden_size":64,"num_attention_heads":4,"num_key_value_heads":2,
    "vocab_size":40,"max_position_embeddings":64,"num_experts_per_tok":2,"#;

/// The shape of [`SIZES`] with one layer of each kind.
fn small(spec: Spec<'_>, dense: u32) -> Spec<'static> {
    let spec = spec.with_layers(|mut layer| {
        if let Mixer::Attention(a) = &mut layer.mixer {
            (a.heads, a.kv_heads, a.head_dim, a.scale) = (4, 2, 16, 0.25);
        }
        match &mut layer.ffn {
            FeedForward::Dense(d) => d.inner = dense,
            FeedForward::Experts(e) => (e.experts, e.used, e.inner) = (4, 2, 32),
            _ => {}
        }
        layer
    });
    let spec = spec.with_ropes(|rope| teff_graph::Rope { dims: 16, ..rope });
    let kinds = spec.layers.kinds();
    let pattern: Vec<u8> = (0..kinds.len() as u8).collect();
    let layers = Layers::new(kinds, &pattern, kinds.len() as u32).to_owned();
    Spec { vocab: 40, context: 64, width: 64, layers, ..spec.clone() }
}

/// Values of a tensor: multiples of 0.5 that MXFP4 has, or any.
fn values(slot: &Slot) -> Vec<f32> {
    const FP4: [f32; 8] = [0.0, 0.5, -1.0, 1.5, -2.0, 3.0, -4.0, 6.0];
    let mut state = format!("{:?}", slot.role)
        .bytes()
        .fold(7u32, |s, b| s.wrapping_mul(31).wrapping_add(u32::from(b)));
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state >> 16
    };
    let n = slot.all_rows() * slot.cols;
    match slot.role {
        Role::Layer(_, LayerRole::ExpertGate | LayerRole::ExpertUp | LayerRole::ExpertDown) => {
            (0..n).map(|_| FP4[next() as usize % 8] / 16.0).collect()
        }
        _ => (0..n).map(|_| f32::from(next() as u16 as i16) / 32768.0).collect(),
    }
}

fn floats(x: &[f32]) -> Vec<u8> {
    x.iter().flat_map(|x| x.to_le_bytes()).collect()
}

/// Writes the slot's values into the tensor of this form.
fn put(all: &mut BTreeMap<String, Plain>, (family, slot, form): (&Family, &Slot, usize)) {
    let names = family.hf_names(slot.role);
    // Other tensors have their usual names.
    let experts =
        matches!(slot.role, Role::Layer(_, role) if format!("{role:?}").starts_with("Expert"));
    let hf = &names[if experts { form.min(names.len() - 1) } else { 0 }];
    let name = |expert| {
        let mut name = family.prefix.to_owned();
        if slot.role == Role::Output {
            name.clear();
        }
        family.hf_name(slot.role, hf, expert, &mut name).unwrap();
        name
    };
    let &Slot { experts, rows, cols, .. } = slot;
    let x = values(slot);
    let mut add = |name: String, dtype, shape: Vec<usize>, bytes: &[(usize, Vec<u8>)]| {
        let size = if dtype == "U8" { 1 } else { 4 };
        let data = vec![0; shape.iter().product::<usize>() * size];
        let fresh = Plain { name: name.clone(), dtype, shape, data };
        let data = &mut all.entry(name).or_insert(fresh).data;
        for (at, bytes) in bytes {
            data[at * size..][..bytes.len()].copy_from_slice(bytes);
        }
    };
    let each = |f: &dyn Fn(usize) -> usize| -> Vec<(usize, Vec<u8>)> {
        x.iter().enumerate().map(|(i, x)| (f(i), floats(&[*x]))).collect()
    };
    match hf.form {
        HfForm::EachExpert => {
            for e in 0..experts {
                let part = floats(&x[e * rows * cols..][..rows * cols]);
                add(name(e), "F32", vec![rows, cols], &[(0, part)]);
            }
        }
        HfForm::Share { part, parts } => {
            let (part, parts) = (usize::from(part), usize::from(parts));
            let at = |i: usize| {
                let (e, r, c) = (i / (rows * cols), i / cols % rows, i % cols);
                ((e * parts + part) * rows + r) * cols + c
            };
            let shape = vec![experts, parts * rows, cols];
            let shape = if experts > 1 { shape } else { shape[1..].to_vec() };
            add(name(0), "F32", shape, &each(&at));
        }
        HfForm::Columns { part, parts } => {
            let (part, parts) = (usize::from(part), usize::from(parts));
            if slot.is_vector() {
                let at = |i: usize| i * parts + part;
                return add(name(0), "F32", vec![experts, parts * cols], &each(&at));
            }
            let at = |i: usize| {
                let (e, r, c) = (i / (rows * cols), i / cols % rows, i % cols);
                (e * cols + c) * parts * rows + r * parts + part
            };
            add(name(0), "F32", vec![experts, cols, parts * rows], &each(&at));
        }
        HfForm::Mxfp4 { part, parts } => {
            let (part, parts) = (usize::from(part), usize::from(parts));
            let (mut elements, mut exponents) = (vec![], vec![]);
            for (row, x) in x.chunks(cols).enumerate() {
                let row = row * parts + part;
                let mut blocks = vec![0; cols / 32 * 17];
                quantize_row(Format::MXFP4, x, &mut blocks);
                for (b, block) in blocks.chunks(17).enumerate() {
                    let code = |i: usize| block[1 + i % 16] >> (i / 16 * 4) & 15;
                    let pairs = (0..16).map(|j| code(2 * j) | code(2 * j + 1) << 4).collect();
                    elements.push(((row * (cols / 32) + b) * 16, pairs));
                    exponents.push((row * (cols / 32) + b, vec![block[0]]));
                }
            }
            let scales = name(0).replace("_blocks", "_scales");
            add(name(0), "U8", vec![experts, parts * rows, cols / 32, 16], &elements);
            add(scales, "U8", vec![experts, parts * rows, cols / 32], &exponents);
        }
        _ => {
            let shape = match slot.role {
                Role::Layer(_, LayerRole::ConvTaps) => vec![rows, 1, cols],
                _ if slot.is_vector() => vec![cols],
                _ => vec![rows, cols],
            };
            add(name(0), "F32", shape, &[(0, floats(&x))]);
        }
    }
}

pub(crate) fn tensors(family: &Family, spec: &Spec<'_>, form: usize) -> Vec<Plain> {
    let mut all = BTreeMap::new();
    for slot in spec.slots().filter(|s| s.role != Role::Output || spec.head == Head::Own) {
        put(&mut all, (family, &slot, form));
    }
    all.into_values().collect()
}

/// A class with its config.json and the shape that it stands for.
pub(crate) struct Class {
    name: &'static str,
    fields: String,
    pub(crate) spec: Spec<'static>,
}

impl Class {
    pub(crate) fn config(&self) -> String {
        format!(r#"{{"architectures":["{}"],{SIZES}{}}}"#, self.name, self.fields)
    }

    pub(crate) fn family(&self) -> &'static Family {
        family::of_class(self.name).unwrap()
    }

    fn open(&self, form: usize) -> Model {
        let tensors = tensors(self.family(), &self.spec, form);
        Model::open(&folder(&self.config(), &tensors).0)
            .unwrap_or_else(|e| panic!("{} in form {form}: {e}", self.name))
    }
}

const KINDS: &str = r#""layer_types":["conv","full_attention","conv"]"#;

/// A class of each family with experts, and more where it has settings.
fn classes() -> Vec<Class> {
    let class = |name, fields: &str, spec| Class { name, fields: fields.into(), spec };
    let plain = lfm2::lfm2_8b_a1b().with_layers(|mut layer| {
        if let FeedForward::Experts(e) = &mut layer.ffn {
            *e = Experts {
                normalised: false,
                router: Router::Sigmoid { bias: false },
                scale: 1.5,
                ..*e
            };
        }
        layer
    });
    let shared = |spec: Spec<'static>, gated| {
        spec.with_layers(|mut layer| {
            if let FeedForward::Experts(e) = &mut layer.ffn {
                e.shared = Some(SharedExpert { inner: 96, gated });
            }
            layer
        })
    };
    let factors = r#""embedding_multiplier":12,"residual_multiplier":0.22,"logits_scaling":6,
        "attention_multiplier":0.25,"rope_theta":1e7,"rms_norm_eps":1e-6,"tie_word_embeddings":true,
        "num_local_experts":4,"intermediate_size":32"#;
    let with = |more: &str| format!("{factors},{more}");
    let granite = granite::granite3_3b_a800m();
    let lfm2moe = |more: &str| {
        format!(
            r#"{KINDS},"num_hidden_layers":3,"num_dense_layers":1,"num_experts":4,
            "moe_intermediate_size":32,"intermediate_size":96{more}"#
        )
    };
    vec![
        class(
            "MixtralForCausalLM",
            r#""num_local_experts":4,"intermediate_size":32,"num_hidden_layers":1"#,
            small(llama::mixtral_8x7b(), 0),
        ),
        class(
            "GraniteMoeForCausalLM",
            &with(r#""num_hidden_layers":1"#),
            small(granite.clone(), 0),
        ),
        class(
            "GraniteMoeSharedForCausalLM",
            &with(r#""num_hidden_layers":1,"shared_intermediate_size":96"#),
            shared(small(granite.clone(), 0), false),
        ),
        class(
            "GraniteMoeHybridForCausalLM",
            &with(
                r#""num_hidden_layers":1,"shared_intermediate_size":96,"layer_types":["attention"],
                "position_embedding_type":"rope""#,
            ),
            shared(small(granite, 0), false),
        ),
        class("Lfm2MoeForCausalLM", &lfm2moe(""), small(lfm2::lfm2_8b_a1b(), 96)),
        class(
            "Lfm2MoeForCausalLM",
            &lfm2moe(
                r#","use_expert_bias":false,"norm_topk_prob":false,"routed_scaling_factor":1.5"#,
            ),
            small(plain, 96),
        ),
        class(
            "GptOssForCausalLM",
            r#""num_local_experts":4,"intermediate_size":32,"num_hidden_layers":2,"head_dim":16"#,
            small(gpt_oss::gpt_oss_20b(), 0),
        ),
        class(
            "Qwen2MoeForCausalLM",
            r#""num_experts":4,"moe_intermediate_size":32,"num_hidden_layers":1,"rope_theta":1e6,
            "shared_expert_intermediate_size":96"#,
            shared(small(qwen2moe::qwen1_5_moe(), 0), true),
        ),
    ]
}

/// The class of this name.
pub(crate) fn class(name: &str) -> Class {
    classes().into_iter().find(|c| c.name == name).unwrap()
}

#[test]
fn experts_have_the_same_bits_in_every_form() {
    for class in classes() {
        let model = class.open(0);
        let found = Spec { ropes: model.spec().ropes.clone(), ..class.spec.to_owned() };
        let kinds = |spec: &Spec<'_>| -> Vec<(FeedForward, bool)> {
            let kind = |l: &Layer| (l.ffn, l.attention().is_some());
            spec.layers.iter().map(kind).collect()
        };
        assert_eq!(kinds(model.spec()), kinds(&found), "{}", class.name);
        let want = logits(&model);
        let names = |role| class.family().hf_names(role).len();
        let forms = class.spec.slots().map(|s| names(s.role)).max().unwrap();
        for form in 1..forms {
            let other = class.open(form);
            if class.name != "GptOssForCausalLM" {
                assert_same(&model, &other);
                assert!(logits(&other) == want, "{}", class.name);
                continue;
            }
            // Blocks of MXFP4 and floats of the same values: other products, the same weights.
            for ((a, b), info) in model.tensors().zip(other.tensors()).zip(model.tensor_infos()) {
                let bits = |t| -> Vec<u32> {
                    let zero = |b| if b == 1 << 31 { 0 } else { b };
                    crate::common::bits(t).into_iter().map(zero).collect()
                };
                assert!(bits(a) == bits(b), "{}", info.name);
                let experts = info.name.contains("experts") && !info.name.ends_with("_bias");
                assert_eq!(info.format == Format::MXFP4, experts, "{}", info.name);
            }
        }
    }
}

/// What is wrong with blocks, exponents and transposed tensors is said by their names.
#[test]
fn blocks_that_are_wrong_are_named() {
    let class = class("GptOssForCausalLM");
    let fail = |form: usize, name: &str, change: &dyn Fn(&mut Plain)| -> K {
        let mut all = tensors(class.family(), &class.spec, form);
        change(all.iter_mut().find(|t| t.name.ends_with(name)).unwrap());
        all.retain(|t| !t.name.is_empty());
        let e: LoadError = Model::open(&folder(&class.config(), &all).0).unwrap_err();
        assert!(e.to_string().contains(name), "{name}: {e}");
        e.kind
    };
    let reversed = |t: &mut Plain| t.shape.reverse();
    let floats = |t: &mut Plain| {
        t.dtype = "F32";
        t.data = vec![0; 4 * t.data.len()];
    };
    let gone = |t: &mut Plain| t.name.clear();
    for part in ["gate_up_proj", "down_proj"] {
        for suffix in ["_blocks", "_scales"] {
            let name = format!("layers.1.mlp.experts.{part}{suffix}");
            assert!(matches!(fail(0, &name, &reversed), K::Shape { .. }));
            assert!(matches!(fail(0, &name, &floats), K::Dtype { .. }));
            assert!(matches!(fail(0, &name, &gone), K::MissingTensor { .. }));
        }
        for suffix in ["", "_bias"] {
            let name = format!("layers.1.mlp.experts.{part}{suffix}");
            assert!(matches!(fail(1, &name, &reversed), K::Shape { .. }), "{name}");
        }
    }
    // Blocks and floats of one matrix: the blocks are read, and the floats left over.
    let mut both = tensors(class.family(), &class.spec, 0);
    let more = tensors(class.family(), &class.spec, 1);
    both.extend(more.into_iter().filter(|t| t.name.ends_with("experts.down_proj")));
    let e = Model::open(&folder(&class.config(), &both).0).unwrap_err();
    assert!(matches!(e.kind, K::UnknownTensor { .. }), "{e}");
}
