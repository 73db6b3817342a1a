//! Loading of the families: ternary weights in every representation, norms with an offset, heads
//! that are copies, and unsupported settings that are reported by name.

#[path = "load/common.rs"]
mod common;

use common::{Folder, Plain, bits, safetensors};
use teff_graph::family::{self, Family};
use teff_graph::{Head, LayerRole, Role, Spec};
use teff_kernels::{Format, quantize_row};
use teff_runtime::model::LoadErrorKind;
use teff_runtime::{LoadError, LoadOptions, Model};

/// config.json of the small decoder, starting with the fields of the family.
fn config(class: &str, more: &str) -> String {
    format!(
        r#"{{"architectures":["{class}"],{more}"hidden_size":128,"num_attention_heads":4,
        "num_key_value_heads":2,"num_hidden_layers":2,"intermediate_size":256,"vocab_size":40,
        "max_position_embeddings":64,"rms_norm_eps":1e-5,"tie_word_embeddings":true}}"#
    )
}

/// Shape of the same decoder, for the names and shapes of its tensors.
fn small(spec: Spec) -> Spec {
    Spec {
        vocab: 40,
        context: 64,
        layers: 2,
        width: 128,
        heads: 4,
        kv_heads: 2,
        head_dim: 32,
        ffn: 256,
        head: Head::Tied,
        ..spec
    }
}

fn random(state: &mut u32) -> f32 {
    *state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
    f32::from((*state >> 16) as i16) / 32768.0
}

/// Tensors with `value` applied to their random elements, in a dense format.
fn tensors(
    family: &Family,
    spec: &Spec,
    format: Format,
    value: impl Fn(Role, f32) -> f32,
) -> Vec<(Role, Plain)> {
    let mut state = 1;
    let slots = spec.slots().filter(|s| s.role != Role::Output);
    slots
        .map(|slot| {
            let mut name = family.prefix.to_owned();
            (family.hf_name)(slot.role, &mut name).unwrap();
            let n = slot.rows * slot.cols;
            let values: Vec<f32> = (0..n).map(|_| value(slot.role, random(&mut state))).collect();
            let mut data = vec![0; n * format.block_bytes()];
            quantize_row(format, &values, &mut data);
            let shape = if slot.vector { vec![slot.cols] } else { vec![slot.rows, slot.cols] };
            (slot.role, Plain { name, dtype: format.name(), shape, data })
        })
        .collect()
}

fn write(folder: &Folder, config: &str, tensors: &[Plain]) {
    folder.write("config.json", config);
    folder.write("model.safetensors", safetensors(tensors));
}

fn open(folder: &Folder) -> Result<Model, LoadError> {
    Model::open(&folder.0)
}

fn is_matrix(role: Role) -> bool {
    matches!(role, Role::Layer(_, r) if !r.is_vector())
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
    assert_eq!(model.spec().embed_scale, 128f32.sqrt());
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

/// Every setting that would change results and is not supported is reported by name.
#[test]
fn unknown_switches_are_refused_by_name() {
    let cases = [
        ("LlamaForCausalLM", r#""hidden_act":"gelu","#, "hidden_act"),
        (
            "LlamaForCausalLM",
            r#""rope_scaling":{"rope_type":"yarn","factor":4.0},"#,
            "rope_scaling.rope_type",
        ),
        (
            "LlamaForCausalLM",
            r#""rope_scaling":{"type":"dynamic","factor":4.0},"#,
            "rope_scaling.type",
        ),
        (
            "LlamaForCausalLM",
            r#""rope_parameters":{"rope_type":"longrope"},"#,
            "rope_parameters.rope_type",
        ),
        (
            "LlamaForCausalLM",
            r#""rope_parameters":{"rope_type":"linear"},"#,
            "rope_parameters.factor",
        ),
        ("LlamaForCausalLM", r#""partial_rotary_factor":0.5,"#, "partial_rotary_factor"),
        ("Qwen2ForCausalLM", r#""use_sliding_window":true,"#, "use_sliding_window"),
        ("Gemma3ForCausalLM", r#""final_logit_softcapping":30.0,"#, "final_logit_softcapping"),
        ("Gemma3ForCausalLM", r#""hidden_activation":"silu","#, "hidden_activation"),
        (
            "Gemma3ForCausalLM",
            r#""use_bidirectional_attention":true,"#,
            "use_bidirectional_attention",
        ),
        ("Gemma3ForCausalLM", r#""layer_types":["full_attention","chunked"],"#, "layer_types"),
        ("BitNetForCausalLM", r#""hidden_act":"silu","#, "hidden_act"),
        (
            "BitNetForCausalLM",
            r#""quantization_config":{"quant_method":"gptq"},"#,
            "quantization_config.quant_method",
        ),
        (
            "LlamaForCausalLM",
            r#""quantization_config":{"quant_method":"bitnet"},"#,
            "quantization_config.quant_method",
        ),
        ("MixtralForCausalLM", "", "MixtralForCausalLM"),
    ];
    for (class, more, key) in cases {
        let family = family::of_class(class).unwrap_or(&family::llama::LLAMA);
        let spec = small(family::llama::tinyllama());
        let all = tensors(family, &spec, Format::F32, |_, x| x);
        let folder = Folder::new();
        let plain: Vec<Plain> = all.into_iter().map(|(_, t)| t).collect();
        write(&folder, &config(class, more), &plain);
        let e = open(&folder).unwrap_err().to_string();
        assert!(e.contains(key), "{class} {more}: {e}");
    }
}
