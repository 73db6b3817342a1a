//! Loading of the families: ternary weights in every representation, norms with an offset, heads
//! that are copies, and unsupported settings that are reported by name.

use crate::common::{self, Folder, Plain, assert_same, bits, safetensors};
use teff_graph::family::{self, Family};
use teff_graph::gguf::GgufValue;
use teff_graph::layers::{Experts, FeedForward};
use teff_graph::{Head, HfForm, HfName, LayerRole, LogitsFor, Role, Spec};
use teff_kernels::{Cpu, Format, quantize_row};
use teff_runtime::gguf_spec::put_spec;
use teff_runtime::gguf_write::GgufHeader;
use teff_runtime::model::LoadErrorKind;
use teff_runtime::{LoadError, LoadOptions, Model, SessionOptions};

/// config.json of the small decoder, starting with the fields of the family.
pub(crate) fn config(class: &str, more: &str) -> String {
    format!(
        r#"{{"architectures":["{class}"],{more}"hidden_size":128,"num_attention_heads":4,
        "num_key_value_heads":2,"num_hidden_layers":2,"intermediate_size":256,"vocab_size":40,
        "max_position_embeddings":64,"rms_norm_eps":1e-5,"tie_word_embeddings":true}}"#
    )
}

/// Shape of the same decoder, for the names and shapes of its tensors.
pub(crate) fn small(spec: Spec<'_>) -> Spec<'static> {
    let spec = spec.with_layers(|layer| common::layer(layer, 4, 2, 32, 256));
    let layers = spec.layers.with_len(2);
    Spec { vocab: 40, context: 64, layers, width: 128, head: Head::Tied, ..spec }
}

fn random(state: &mut u32) -> f32 {
    *state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
    f32::from((*state >> 16) as i16) / 32768.0
}

/// Name of a tensor that a family hasn't.
const UNNAMED: HfName = HfName { name: "unnamed.weight", form: HfForm::Whole };

/// Tensors with `value` applied to their random elements, in a dense format.
pub(crate) fn tensors(
    family: &Family,
    spec: &Spec<'_>,
    format: Format,
    value: impl Fn(Role, f32) -> f32,
) -> Vec<(Role, Plain)> {
    let mut state = 1;
    let slots = spec.slots().filter(|s| s.role != Role::Output);
    let each = slots.flat_map(|slot| (0..slot.experts).map(move |expert| (slot, expert)));
    each.map(|(slot, expert)| {
        let mut name = family.prefix.to_owned();
        let usual = family.hf_names(slot.role).first().unwrap_or(&UNNAMED);
        family.hf_name(slot.role, usual, expert, &mut name).unwrap();
        let n = slot.rows * slot.cols;
        let values: Vec<f32> = (0..n).map(|_| value(slot.role, random(&mut state))).collect();
        let mut data = vec![0; n * format.block_bytes()];
        quantize_row(format, &values, &mut data);
        let shape = match slot.role {
            // As PyTorch has the weights of a convolution of one channel each.
            Role::Layer(_, LayerRole::ConvTaps) => vec![slot.rows, 1, slot.cols],
            _ if slot.is_vector() => vec![slot.cols],
            _ => vec![slot.rows, slot.cols],
        };
        (slot.role, Plain { name, dtype: format.name(), shape, data })
    })
    .collect()
}

pub(crate) fn write(folder: &Folder, config: &str, tensors: &[Plain]) {
    folder.write("config.json", config);
    folder.write("model.safetensors", safetensors(tensors));
}

pub(crate) fn open(folder: &Folder) -> Result<Model, LoadError> {
    Model::open(&folder.0)
}

fn is_matrix(role: Role) -> bool {
    matches!(role, Role::Layer(_, r) if !r.kind().is_vector())
}

/// Exact in bf16, so that all representations are equal.
const SCALE: f32 = 0.15625;

fn three(x: f32) -> f32 {
    if x > 0.3 {
        1.0
    } else if x < -0.3 {
        -1.0
    } else {
        0.0
    }
}

/// Packs codes as transformers does: quarter `i` of the rows in bits 2i and 2i + 1.
fn pack(codes: &[f32], rows: usize, cols: usize) -> Vec<u8> {
    let quarter = rows.div_ceil(4);
    let mut out = vec![0; quarter * cols];
    for (r, row) in codes.chunks(cols).enumerate() {
        for (c, code) in row.iter().enumerate() {
            let code = (*code + 1.0) as u8;
            out[r % quarter * cols + c] |= code << (2 * (r / quarter));
        }
    }
    out
}

#[test]
fn ternary_weights_are_the_same_however_they_come() {
    let family = family::of_arch("bitnet-b1.58").unwrap();
    let spec = small(family::bitnet::bitnet_2b());
    let plain = |format| {
        let value = |role, x| if is_matrix(role) { three(x) * SCALE } else { x };
        tensors(family, &spec, format, value).into_iter().map(|(_, t)| t).collect::<Vec<_>>()
    };
    let want = Folder::new();
    write(&want, &config("BitNetForCausalLM", ""), &plain(Format::F32));
    let want = open(&want).unwrap();
    for info in want.tensor_infos() {
        let format = if is_matrix(info.role) { Format::I2_S } else { Format::F32 };
        assert_eq!((info.format, info.in_place), (format, !is_matrix(info.role)), "{}", info.name);
    }
    let id = want.spec().id(Role::Layer(1, LayerRole::FfnDown));
    let teff_graph::Tensor::Matrix(m) = want.tensor(id) else { panic!("a matrix") };
    assert_eq!(m.scale(), SCALE);

    // bf16: the embedding and the norms differ then, the matrices do not.
    let folder = Folder::new();
    write(&folder, &config("BitNetForCausalLM", ""), &plain(Format::BF16));
    let same = |got: &Model| {
        for ((x, y), info) in got.tensors().zip(want.tensors()).zip(want.tensor_infos()) {
            assert!(!is_matrix(info.role) || bits(x) == bits(y), "{}", info.name);
        }
    };
    same(&open(&folder).unwrap());

    // Packed, with the scale as a factor or as a divisor.
    for (class, scale) in [("autobitlinear", SCALE), ("bitlinear", 1.0 / SCALE)] {
        let value = |role, x| if is_matrix(role) { three(x) } else { x };
        let mut packed = vec![];
        for (role, mut t) in tensors(family, &spec, Format::F32, value) {
            if is_matrix(role) {
                let codes: &[f32] = bytemuck::cast_slice(&t.data);
                let [rows, cols] = t.shape[..] else { panic!("a matrix") };
                let codes = pack(codes, rows, cols);
                packed.push(Plain {
                    name: format!("{}_scale", t.name),
                    dtype: "BF16",
                    shape: vec![1],
                    data: ((scale.to_bits() >> 16) as u16).to_le_bytes().to_vec(),
                });
                t = Plain { dtype: "U8", shape: vec![rows / 4, cols], data: codes, ..t };
            }
            packed.push(t);
        }
        let quantization = format!(
            r#""quantization_config":{{"quant_method":"bitnet","linear_class":"{class}",
            "quantization_mode":"offline"}},"#
        );
        let folder = Folder::new();
        write(&folder, &config("BitNetForCausalLM", &quantization), &packed);
        same(&open(&folder).unwrap());
        // Without the scale.
        packed.retain(|t| t.name != "model.layers.1.mlp.up_proj.weight_scale");
        write(&folder, &config("BitNetForCausalLM", &quantization), &packed);
        let e = open(&folder).unwrap_err();
        assert!(matches!(e.kind, LoadErrorKind::NoScale { .. }), "{e}");
        assert!(e.to_string().contains("layers.1.mlp.up_proj.weight_scale"), "{e}");
    }
}

/// Weights before rounding: rounded by their mean magnitude if config.json says so, otherwise an
/// error.
#[test]
fn weights_before_rounding() {
    let family = family::of_arch("bitnet-b1.58").unwrap();
    let spec = small(family::bitnet::bitnet_2b());
    let all = tensors(family, &spec, Format::F32, |_, x| x);
    let plain: Vec<Plain> = all.iter().map(|(_, t)| t.clone()).collect();
    let folder = Folder::new();
    let online = r#""quantization_config":{"quant_method":"bitnet","linear_class":"autobitlinear",
        "quantization_mode":"online"},"#;
    write(&folder, &config("BitNetForCausalLM", online), &plain);
    let model = open(&folder).unwrap();
    let id = model.spec().id(Role::Layer(0, LayerRole::AttnK));
    let teff_graph::Tensor::Matrix(m) = model.tensor(id) else { panic!("a matrix") };
    let (_, key) = all.iter().find(|(r, _)| *r == Role::Layer(0, LayerRole::AttnK)).unwrap();
    let words = key.data.as_chunks::<4>().0.iter();
    let x: Vec<f32> = words.map(|b| f32::from_le_bytes(*b)).collect();
    let mean = x.iter().map(|x| f64::from(x.abs())).sum::<f64>() / x.len() as f64;
    assert_eq!(m.scale(), mean as f32);
    let codes: Vec<f32> = bits(model.tensor(id)).into_iter().map(f32::from_bits).collect();
    for (x, code) in x.iter().zip(codes) {
        assert_eq!(code, (f64::from(*x) / mean).round_ties_even().clamp(-1.0, 1.0) as f32, "{x}");
    }
    write(&folder, &config("BitNetForCausalLM", ""), &plain);
    let e = open(&folder).unwrap_err();
    assert!(matches!(e.kind, LoadErrorKind::NotTernary { .. }), "{e}");
    assert!(e.to_string().contains("layers.0.self_attn.q_proj.weight"), "{e}");
}

#[test]
fn gemmas_norms_are_one_more_than_their_file() {
    let family = family::of_arch("gemma3").unwrap();
    let spec = small(family::gemma3::gemma3_1b());
    let all = tensors(family, &spec, Format::BF16, |_, x| x);
    let folder = Folder::new();
    let plain: Vec<Plain> = all.iter().map(|(_, t)| t.clone()).collect();
    let more = r#""query_pre_attn_scalar":32,"head_dim":32,"sliding_window":8,"#;
    write(&folder, &config("Gemma3ForCausalLM", more), &plain);
    let model = open(&folder).unwrap();
    let mut norms = 0;
    for (role, t) in &all {
        let got = bits(model.tensor(model.spec().id(*role)));
        if t.shape.len() == 1 {
            let halves = t.data.as_chunks::<2>().0.iter().map(|b| u16::from_le_bytes(*b));
            let want = halves.map(|h| (f32::from_bits(u32::from(h) << 16) + 1.0).to_bits());
            assert!(want.eq(got), "{role:?}");
            norms += 1;
        }
    }
    assert_eq!(norms, 2 * 6 + 1);
    assert_eq!(model.spec().embed.scale, 128f32.sqrt());
}

#[test]
fn a_dense_head_can_be_a_quantised_copy() {
    let family = family::of_arch("qwen3").unwrap();
    let spec = small(family::qwen::qwen3_14b());
    let all = tensors(family, &spec, Format::F32, |_, x| x);
    let plain: Vec<Plain> = all.into_iter().map(|(_, t)| t).collect();
    let folder = Folder::new();
    write(&folder, &config("Qwen3ForCausalLM", r#""head_dim":32,"#), &plain);
    let tied = open(&folder).unwrap();
    let with = |head| {
        let options = LoadOptions { head: Some(head), ..LoadOptions::default() };
        Model::open_with(&folder.0, &options)
    };
    let model = with(Format::Q8_0).unwrap();
    assert_eq!((tied.spec().head, model.spec().head), (Head::Tied, Head::Copy));
    assert_eq!(tied.spec().parameters(), model.spec().parameters());
    for info in model.tensor_infos() {
        let copy = info.role == Role::Output;
        assert_eq!(info.format == Format::Q8_0, copy, "{}", info.name);
        assert_eq!(info.in_place, !copy, "{}", info.name);
    }
    // The same as if the file had it.
    let quantized = LoadOptions { quantize: Some(Format::Q8_0), ..LoadOptions::default() };
    let quantized = Model::open_with(&folder.0, &quantized).unwrap();
    let head = |m: &Model| bits(m.tensor(m.spec().id(Role::Output)));
    assert!(head(&model) == head(&quantized));
    let e = with(Format::F16).unwrap_err();
    assert!(matches!(e.kind, LoadErrorKind::NotQuantized { format: Format::F16 }), "{e}");
}

/// The logits of a few tokens.
fn logits(model: &Model) -> Vec<u32> {
    let options = SessionOptions::default().with_threads(1).with_context(16).with_logits(6);
    let mut session = model.session(&options).unwrap();
    let logits = session.eval(&[3, 1, 4, 1, 5, 9], LogitsFor::All).unwrap();
    assert!(logits.iter().all(|x| x.is_finite()));
    logits.iter().map(|x| x.to_bits()).collect()
}

/// A GGUF file of the model that was opened from a folder of these tensors, all of them F32; `change`
/// may give a tensor other dimensions.
fn gguf(
    model: &Model,
    tensors: &[(Role, Plain)],
    change: impl Fn(Role, &mut Vec<u64>),
) -> Result<Model, LoadError> {
    let (spec, family) = (model.spec(), model.family());
    let mut header = GgufHeader::new();
    header.put("general.architecture", GgufValue::Str(spec.arch)).unwrap();
    put_spec(&mut header, spec).unwrap();
    let mut all = vec![];
    for slot in spec.slots().filter(|s| s.role != Role::Output || spec.head == Head::Own) {
        let mut name = String::new();
        family.gguf_name(slot.role, &mut name).unwrap();
        let mut dims = [slot.cols, slot.rows, slot.experts].map(|n| n as u64).to_vec();
        while dims.len() > 1 && dims.last() == Some(&1) {
            dims.pop();
        }
        change(slot.role, &mut dims);
        header.tensor(&name, Format::F32, &dims).unwrap();
        let parts = tensors.iter().filter(|(role, _)| *role == slot.role);
        all.push((name, parts.flat_map(|(_, t)| t.data.clone()).collect::<Vec<u8>>()));
    }
    let mut data = header.write(Vec::new()).unwrap();
    for (name, bytes) in all {
        data.write(&name, &bytes).unwrap();
    }
    Model::from_bytes(data.finish().unwrap(), &LoadOptions::default())
}

const EXPERTS: usize = 4;
const EXPERT_INNER: usize = 64;

/// Qwen 3 with four experts, of which a token takes two.
fn with_experts() -> Spec<'static> {
    small(family::qwen3moe::qwen3_30b_a3b()).with_layers(|mut layer| {
        if let FeedForward::Experts(e) = &mut layer.ffn {
            let (experts, inner) = (EXPERTS as u32, EXPERT_INNER as u32);
            *e = Experts { experts, used: 2, inner, ..*e };
        }
        layer
    })
}

fn experts_config(more: &str) -> String {
    let experts = r#""head_dim":32,"num_experts":4,"num_experts_per_tok":2,
        "moe_intermediate_size":64,"norm_topk_prob":true,"#;
    config("Qwen3MoeForCausalLM", &format!("{experts}{more}"))
}

/// Each expert's matrices as tensors of their own.
fn each(format: Format) -> Vec<(Role, Plain)> {
    tensors(family::of_arch("qwen3moe").unwrap(), &with_experts(), format, |_, x| x)
}

/// The same with the matrices of a layer's experts in two tensors, as transformers 5 has them in
/// memory: of each expert the rows of the gate and then those of the other.
fn fused(each: &[(Role, Plain)]) -> Vec<Plain> {
    let mut all: Vec<Plain> = each
        .iter()
        .filter(|(_, t)| !t.name.contains(".experts."))
        .map(|(_, t)| t.clone())
        .collect();
    for l in 0..2 {
        let of = |role| {
            let parts = each.iter().filter(move |(r, _)| *r == Role::Layer(l, role));
            parts.map(|(_, t)| &t.data)
        };
        let (gate, up) = (of(LayerRole::ExpertGate), of(LayerRole::ExpertUp));
        let dtype = each[0].1.dtype;
        let put = |name, shape: [usize; 3], data| Plain {
            name: format!("model.layers.{l}.mlp.experts.{name}"),
            dtype,
            shape: shape.to_vec(),
            data,
        };
        let data = gate.zip(up).flat_map(|(gate, up)| [&gate[..], up].concat()).collect();
        all.push(put("gate_up_proj", [EXPERTS, 2 * EXPERT_INNER, 128], data));
        let data = of(LayerRole::ExpertDown).flatten().copied().collect();
        all.push(put("down_proj", [EXPERTS, 128, EXPERT_INNER], data));
    }
    all
}

fn plain(tensors: &[(Role, Plain)]) -> Vec<Plain> {
    tensors.iter().map(|(_, t)| t.clone()).collect()
}

#[test]
fn experts_are_the_same_however_they_come() {
    use LayerRole::{ExpertDown, ExpertGate, ExpertRouter, ExpertUp};
    for format in [Format::F32, Format::BF16] {
        let all = each(format);
        let (one, other) = (Folder::new(), Folder::new());
        write(&one, &experts_config(""), &plain(&all));
        // What transformers 5 calls the number of experts.
        let config = experts_config("").replace("\"num_experts\"", "\"num_local_experts\"");
        write(&other, &config, &fused(&all));
        let (a, b) = (open(&one).unwrap(), open(&other).unwrap());
        assert_same(&a, &b);
        assert!(a.spec().layers.iter().all(|l| l.experts().is_some_and(|e| e.normalised)));
        for (info, in_one) in a.tensor_infos().zip(b.tensor_infos()) {
            let Role::Layer(l, role) = info.role else { continue };
            // The matrices of all experts one after another.
            let values = all.iter().filter(|(r, _)| *r == info.role).map(|(_, t)| &t.data);
            let mut want = vec![];
            for data in values {
                let n = data.len() / format.block_bytes();
                let mut x = vec![0f32; n];
                teff_kernels::dequantize_row(format, data, &mut x);
                want.extend(x.into_iter().map(f32::to_bits));
            }
            assert!(bits(a.tensor(info.id)) == want, "{}", info.name);
            let stacked = [ExpertGate, ExpertUp, ExpertDown].contains(&role);
            assert_eq!(info.experts, if stacked { EXPERTS } else { 1 }, "{}", info.name);
            let was = format == Format::F32 || !role.kind().is_vector();
            assert_eq!(info.in_place, was && !stacked, "{}", info.name);
            let together = role == ExpertDown || !stacked;
            assert_eq!(in_one.in_place, was && together, "{}", in_one.name);
            let first = format!("model.layers.{l}.mlp.experts.0.gate_proj.weight");
            let of_all = format!("model.layers.{l}.mlp.experts.gate_up_proj");
            match role {
                ExpertGate => assert_eq!((info.name, in_one.name), (first, of_all)),
                ExpertUp => assert_eq!(in_one.name, of_all),
                _ => {}
            }
        }
        let want = logits(&a);
        assert!(logits(&b) == want);
        if format == Format::F32 {
            let file = gguf(&a, &all, |_, _| ()).unwrap();
            assert_same(&a, &file);
            assert!(file.tensor_infos().all(|t| t.in_place));
            assert!(logits(&file) == want);
        }
        // Quantised, and in another order, they are the same too; the router stays.
        let mut seen = vec![];
        for repack in [None, Some(Cpu::best())] {
            let quantize = Some(Format::Q4_0);
            let options = LoadOptions { quantize, repack, ..LoadOptions::default() };
            for folder in [&one, &other] {
                let model = Model::open_with(&folder.0, &options).unwrap();
                for info in model.tensor_infos() {
                    let Role::Layer(_, role) = info.role else { continue };
                    let stays = role == ExpertRouter || role.kind().is_vector();
                    assert_eq!(info.format != Format::Q4_0, stays, "{}", info.name);
                    if repack.is_none() && role.kind().is_vector() {
                        assert_eq!(info.format, Format::F32);
                    } else if role == ExpertRouter {
                        assert_eq!(info.format, format);
                    }
                }
                seen.push(logits(&model));
            }
        }
        assert!(seen.windows(2).all(|w| w[0] == w[1]));
        assert!(seen[0] != want);
    }
}

/// Layers without experts, by their number or by a step.
#[test]
fn some_layers_have_no_experts() {
    let family = family::of_arch("qwen3moe").unwrap();
    let experts = each(Format::F32);
    let dense = tensors(family, &small(family::qwen::qwen3_14b()), Format::F32, |_, x| x);
    let mix = |dense_layer: u32| {
        let from = |tensors: &[(Role, Plain)], dense: bool| {
            let of = |role: &Role| match role {
                Role::Layer(l, _) => (*l == dense_layer) == dense,
                _ => !dense,
            };
            plain(&tensors.iter().filter(|(r, _)| of(r)).cloned().collect::<Vec<_>>())
        };
        [from(&experts, false), from(&dense, true)].concat()
    };
    for (more, dense_layer) in
        [(r#""mlp_only_layers":[1],"#, 1), (r#""decoder_sparse_step":2,"#, 0)]
    {
        let folder = Folder::new();
        write(&folder, &experts_config(more), &mix(dense_layer));
        let model = open(&folder).unwrap();
        for (l, layer) in (0..).zip(model.spec().layers.iter()) {
            assert_eq!(layer.dense().map(|d| d.inner), (l == dense_layer).then_some(256));
            assert_eq!(layer.experts().is_some(), l != dense_layer);
        }
        logits(&model);
        let e = write_and_fail(&experts_config(""), &mix(dense_layer));
        assert!(e.to_string().contains(&format!("layers.{dense_layer}.mlp.gate.weight")), "{e}");
    }
}

fn write_and_fail(config: &str, tensors: &[Plain]) -> LoadError {
    let folder = Folder::new();
    write(&folder, config, tensors);
    open(&folder).unwrap_err()
}

/// In BF16, where it was F32.
fn halved(t: &mut Plain) {
    t.dtype = "BF16";
    t.data = t.data.as_chunks::<4>().0.iter().flat_map(|b| [b[2], b[3]]).collect();
}

#[test]
fn experts_that_are_wrong_are_named() {
    use LoadErrorKind as K;
    let good = plain(&each(Format::F32));
    let config = experts_config("");
    let fail = |tensors: &[Plain], names: &str| {
        let e = write_and_fail(&config, tensors);
        assert!(e.to_string().contains(names), "{names}: {e}");
        e.kind
    };
    let with = |name: &str, change: &dyn Fn(&mut Plain)| {
        let mut all = good.clone();
        change(all.iter_mut().find(|t| t.name.ends_with(name)).unwrap());
        all
    };
    let without = |name: &str| -> Vec<Plain> {
        good.iter().filter(|t| !t.name.ends_with(name)).cloned().collect()
    };
    for part in ["gate_proj", "up_proj", "down_proj"] {
        for expert in 0..EXPERTS {
            let name = format!("model.layers.1.mlp.experts.{expert}.{part}.weight");
            let kind = fail(&without(&name), &format!("`{name}`"));
            assert!(matches!(kind, K::MissingTensor { .. }), "{kind:?}");
            let turned = with(&name, &|t| t.shape.reverse());
            assert!(matches!(fail(&turned, &name), K::Shape { .. }));
            let integers = with(&name, &|t| t.dtype = "I32");
            assert!(matches!(fail(&integers, &name), K::Dtype { .. }));
            // The first one has the type, the others have to have it too.
            let mixed = with(&name, &halved);
            let other = format!("model.layers.1.mlp.experts.{}.{part}.weight", expert.max(1));
            let kind = fail(&mixed, &other);
            assert!(matches!(kind, K::MixedExperts { .. }), "{kind:?}");
        }
    }
    let kind = fail(&without("layers.0.mlp.gate.weight"), "layers.0.mlp.gate.weight");
    assert!(matches!(kind, K::MissingTensor { .. }));
    // One more than there should be, or all of them twice.
    let mut more = good.clone();
    let last = good.iter().find(|t| t.name.ends_with("experts.3.up_proj.weight")).unwrap();
    more.push(Plain { name: last.name.replace(".3.", ".4."), ..last.clone() });
    assert!(matches!(fail(&more, "experts.4.up_proj"), K::UnknownTensor { .. }));
    let of_all = fused(&each(Format::F32));
    let both = [&good[..], &of_all[of_all.len() - 1..]].concat();
    assert!(matches!(fail(&both, "experts.down_proj"), K::UnknownTensor { .. }));

    // In one tensor of all.
    let with = |name: &str, change: &dyn Fn(&mut Plain)| {
        let mut all = of_all.clone();
        change(all.iter_mut().find(|t| t.name.ends_with(name)).unwrap());
        all
    };
    for (name, rows, cols) in
        [("gate_up_proj", 2 * EXPERT_INNER, 128), ("down_proj", 128, EXPERT_INNER)]
    {
        let name = format!("layers.1.mlp.experts.{name}");
        let shapes = [
            vec![EXPERTS, cols, rows],
            vec![rows, EXPERTS, cols],
            vec![EXPERTS * rows, cols],
            vec![EXPERTS / 2, 2 * rows, cols],
            vec![1, EXPERTS, rows, cols],
        ];
        let right = vec![EXPERTS, rows, cols];
        for shape in shapes.into_iter().filter(|s| *s != right) {
            let kind = fail(&with(&name, &|t| t.shape = shape.clone()), &name);
            let K::Shape { needed, .. } = kind else { panic!("{kind:?}") };
            assert_eq!(needed.to_string(), format!("[{EXPERTS}, {rows}, {cols}]"));
        }
        // None at all: the usual name is what is missing.
        let mut all = of_all.clone();
        all.retain(|t| !t.name.ends_with(&name));
        let kind = fail(&all, "model.layers.1.mlp.experts.0.");
        assert!(matches!(kind, K::MissingTensor { .. }));
    }
    // Types may differ between tensors of all.
    let folder = Folder::new();
    write(&folder, &config, &with("layers.1.mlp.experts.down_proj", &halved));
    logits(&open(&folder).unwrap());
}

#[test]
fn stacks_of_a_gguf_file_have_three_dimensions() {
    let all = each(Format::F32);
    let folder = Folder::new();
    write(&folder, &experts_config(""), &plain(&all));
    let model = open(&folder).unwrap();
    let role = Role::Layer(1, LayerRole::ExpertDown);
    for dims in [
        vec![64, 128 * 4],
        vec![64, 4, 128],
        vec![128, 64, 4],
        vec![64, 256, 2],
        vec![64, 128, 2, 2],
        vec![64, 128, 1, 4],
    ] {
        let e = gguf(&model, &all, |r, d| {
            if r == role {
                d.clone_from(&dims);
            }
        });
        let e = e.unwrap_err();
        assert!(matches!(e.kind, LoadErrorKind::Shape { .. }), "{e}");
        let text = e.to_string();
        assert!(
            text.contains("blk.1.ffn_down_exps.weight") && text.contains("[64, 128, 4]"),
            "{e}"
        );
    }
    // And nothing else has.
    let router = Role::Layer(0, LayerRole::ExpertRouter);
    let e = gguf(&model, &all, |r, d| {
        if r == router {
            *d = vec![128, 2, 2];
        }
    });
    assert!(matches!(e.unwrap_err().kind, LoadErrorKind::Shape { .. }));
}

const LFM2_LAYERS: &str = r#""layer_types":["conv","conv","full_attention"],"#;

/// LFM2 with three layers, the last with attention.
fn lfm2() -> Vec<(Role, Plain)> {
    let spec = small(family::lfm2::lfm2_1_2b());
    let spec = Spec { layers: spec.layers.with_len(3), ..spec };
    tensors(family::of_arch("lfm2").unwrap(), &spec, Format::F32, |_, x| x)
}

fn lfm2_config(more: &str) -> String {
    let config = config("Lfm2ForCausalLM", more);
    config.replace("\"num_hidden_layers\":2", "\"num_hidden_layers\":3")
}

#[test]
fn convolutions_are_the_same_however_they_come() {
    let all = lfm2();
    let folder = Folder::new();
    write(&folder, &lfm2_config(LFM2_LAYERS), &plain(&all));
    let want = open(&folder).unwrap();
    for (l, layer) in want.spec().layers.iter().enumerate() {
        assert_eq!(layer.short_conv().map(|c| (c.taps, c.bias)), (l < 2).then_some((3, false)));
        assert_eq!(layer.attention().map(|a| (a.heads, a.qk_norm)), (l == 2).then_some((4, true)));
        assert_eq!(layer.dense().unwrap().inner, 256);
    }
    let taps = want.tensor_infos().find(|t| t.role == Role::Layer(1, LayerRole::ConvTaps));
    let taps = taps.unwrap();
    assert_eq!((taps.rows, taps.cols, taps.format), (128, 3, Format::F32));
    assert_eq!(taps.name, "model.layers.1.conv.conv.weight");
    assert!(taps.in_place);
    for (role, t) in &all {
        let words = t.data.as_chunks::<4>().0.iter();
        let stored: Vec<u32> = words.map(|b| u32::from_le_bytes(*b)).collect();
        assert!(bits(want.tensor(want.spec().id(*role))) == stored, "{}", t.name);
    }
    let bits_of_logits = logits(&want);
    // Layers by number, and an inner width that config.json does not say.
    for config in [
        lfm2_config(r#""full_attn_idxs":[2],"#),
        lfm2_config(&format!(r#""full_attn_idxs":null,{LFM2_LAYERS}"#)),
        lfm2_config(r#""full_attn_idxs":[2],"conv_L_cache":3,"conv_bias":false,"norm_eps":1e-5,"#),
        lfm2_config(LFM2_LAYERS).replace("\"intermediate_size\":256", "\"block_ff_dim\":384"),
        lfm2_config(LFM2_LAYERS).replace("tie_word_embeddings", "tie_embedding"),
    ] {
        let folder = Folder::new();
        write(&folder, &config, &plain(&all));
        let model = open(&folder).unwrap();
        assert_same(&want, &model);
        assert!(logits(&model) == bits_of_logits);
    }
    // Taps as a plain matrix, and as a GGUF file has them.
    let flat: Vec<Plain> = plain(&all)
        .into_iter()
        .map(|t| Plain { shape: t.shape.into_iter().filter(|&n| n != 1).collect(), ..t })
        .collect();
    let folder = Folder::new();
    write(&folder, &lfm2_config(LFM2_LAYERS), &flat);
    assert_same(&want, &open(&folder).unwrap());
    let file = gguf(&want, &all, |_, _| ()).unwrap();
    assert_same(&want, &file);
    assert!(file.tensor_infos().all(|t| t.in_place));
    assert!(logits(&file) == bits_of_logits);
    // Taps are vectors: never quantised.
    let options = LoadOptions { quantize: Some(Format::Q8_0), ..LoadOptions::default() };
    let quantized = Model::open_with(&folder.0, &options).unwrap();
    for t in quantized.tensor_infos() {
        let vector = matches!(t.role, Role::Layer(_, r) if r.kind().is_vector());
        let vector = vector || t.role == Role::OutputNorm;
        assert_eq!(t.format == Format::F32, vector, "{}", t.name);
    }
    logits(&quantized);
}

#[test]
fn convolutions_that_are_wrong_are_named() {
    use LoadErrorKind as K;
    let all = lfm2();
    let fail = |config: &str, tensors: &[Plain], names: &str| {
        let e = write_and_fail(config, tensors);
        assert!(e.to_string().contains(names), "{names}: {e}");
        e.kind
    };
    let config = lfm2_config(LFM2_LAYERS);
    let taps = "model.layers.1.conv.conv.weight";
    for shape in [[1, 128, 3], [128, 3, 1], [3, 1, 128], [64, 2, 3]] {
        let mut wrong = plain(&all);
        wrong.iter_mut().find(|t| t.name == taps).unwrap().shape = shape.to_vec();
        let kind = fail(&config, &wrong, taps);
        assert!(matches!(kind, K::Shape { .. }), "{kind:?}");
    }
    // Other numbers of taps than the tensors have.
    let four = lfm2_config(&format!(r#""conv_L_cache":4,{LFM2_LAYERS}"#));
    let kind = fail(&four, &plain(&all), "model.layers.0.conv.conv.weight");
    assert!(matches!(kind, K::Shape { .. }), "{kind:?}");
    // Without a word about layers, all have attention.
    let kind = fail(&lfm2_config(""), &plain(&all), "model.layers.0.self_attn.q_proj.weight");
    assert!(matches!(kind, K::MissingTensor { .. }), "{kind:?}");
    let kind = fail(&lfm2_config(r#""full_attn_idxs":[1],"#), &plain(&all), "layers.1.self_attn");
    assert!(matches!(kind, K::MissingTensor { .. }), "{kind:?}");
    // Biases are there where config.json says so, and only there.
    let mut with_bias = plain(&all);
    for l in 0..2 {
        for (name, n) in [("in_proj", 3 * 128), ("conv", 128), ("out_proj", 128)] {
            with_bias.push(Plain {
                name: format!("model.layers.{l}.conv.{name}.bias"),
                dtype: "F32",
                shape: vec![n],
                data: (0..n).flat_map(|i| (i as f32 / 256.0).to_le_bytes()).collect(),
            });
        }
    }
    let biased = lfm2_config(&format!(r#""conv_bias":true,{LFM2_LAYERS}"#));
    let folder = Folder::new();
    write(&folder, &config, &plain(&all));
    let plain_logits = logits(&open(&folder).unwrap());
    write(&folder, &biased, &with_bias);
    assert!(logits(&open(&folder).unwrap()) != plain_logits);
    assert!(matches!(fail(&config, &with_bias, "conv.bias"), K::UnknownTensor { .. }));
    let kind = fail(&biased, &plain(&all), "layers.0.conv.in_proj.bias");
    assert!(matches!(kind, K::MissingTensor { .. }), "{kind:?}");
    // In a GGUF file.
    write(&folder, &config, &plain(&all));
    let model = open(&folder).unwrap();
    let role = Role::Layer(1, LayerRole::ConvTaps);
    for dims in [vec![128, 3], vec![3, 1, 128], vec![3, 128, 1, 1], vec![384]] {
        let file = gguf(&model, &all, |r, d| {
            if r == role {
                d.clone_from(&dims);
            }
        });
        if dims == [3, 128, 1, 1] {
            assert_same(&model, &file.unwrap());
            continue;
        }
        let e = file.unwrap_err();
        assert!(matches!(e.kind, K::Shape { .. }), "{e}");
        assert!(e.to_string().contains("blk.1.shortconv.conv.weight"), "{e}");
    }
}
