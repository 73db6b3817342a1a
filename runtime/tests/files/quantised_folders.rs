//! Folders with weights in FP8, or in the integers of compressed-tensors, GPTQ and AWQ: a model has what
//! these stand for, and what contradicts itself is refused by name.

use crate::common::{Folder, Plain, bits};
use crate::load_families::{config, open, small, tensors, write};
use teff_graph::family;
use teff_graph::{Role, Tensor};
use teff_kernels::Format;
use teff_runtime::Model;
use teff_runtime::model::LoadErrorKind;

/// Numbers of a generator.
struct Draw(u32);

impl Draw {
    fn bits(&mut self, n: u32) -> u32 {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        self.0 >> (32 - n)
    }

    /// A scale that BF16 holds exactly.
    fn scale(&mut self) -> f32 {
        (128 + self.bits(7)) as f32 / 65536.0
    }
}

fn f32s(x: &[f32]) -> Vec<u8> {
    x.iter().flat_map(|x| x.to_le_bytes()).collect()
}

fn bf16s(x: &[f32]) -> Vec<u8> {
    x.iter().flat_map(|x| ((x.to_bits() >> 16) as u16).to_le_bytes()).collect()
}

fn words(x: &[u32]) -> Vec<u8> {
    x.iter().flat_map(|x| x.to_le_bytes()).collect()
}

fn plain(name: String, dtype: &'static str, shape: &[usize], data: Vec<u8>) -> Plain {
    Plain { name, dtype, shape: shape.to_vec(), data }
}

/// The value of an FP8 number with four bits of exponent, in f64.
fn e4m3(code: u8) -> f64 {
    let (e, m) = (i32::from(code >> 3 & 15), f64::from(code & 7));
    let magnitude = match e {
        0 => m / 8.0 * 2f64.powi(-6),
        e => (1.0 + m / 8.0) * 2f64.powi(e - 7),
    };
    if code >> 7 == 1 { -magnitude } else { magnitude }
}

/// Random codes of a form for a matrix of `rows` by `cols`: its tensors, and what they stand for.
type Form = fn(&mut Draw, &str, usize, usize) -> (Vec<Plain>, Vec<f32>);

fn codes_of_fp8(draw: &mut Draw, n: usize) -> Vec<u8> {
    // All but the two that are no numbers.
    (0..n).map(|_| draw.bits(8) as u8).map(|c| if c & 127 == 127 { c - 1 } else { c }).collect()
}

/// FP8 with a scale for blocks of 48 rows and 80 columns, which don't divide the matrices.
fn fp8_blocks(draw: &mut Draw, base: &str, rows: usize, cols: usize) -> (Vec<Plain>, Vec<f32>) {
    let (r, c) = (rows.div_ceil(48), cols.div_ceil(80));
    let codes = codes_of_fp8(draw, rows * cols);
    // In F32, with all bits.
    let scales: Vec<f32> = (0..r * c).map(|_| draw.bits(24) as f32 * 2f32.powi(-32)).collect();
    let values = (0..rows * cols).map(|i| {
        let scale = scales[i / cols / 48 * c + i % cols / 80];
        (e4m3(codes[i]) * f64::from(scale)) as f32
    });
    let values = values.collect();
    let all = vec![
        plain(format!("{base}.weight_scale_inv"), "F32", &[r, c], f32s(&scales)),
        plain(format!("{base}.weight"), "F8_E4M3", &[rows, cols], codes),
    ];
    (all, values)
}

/// FP8 with one scale, beside one for activations.
fn fp8_whole(draw: &mut Draw, base: &str, rows: usize, cols: usize) -> (Vec<Plain>, Vec<f32>) {
    let (codes, scale) = (codes_of_fp8(draw, rows * cols), draw.scale());
    let values = codes.iter().map(|&c| e4m3(c) as f32 * scale).collect();
    let all = vec![
        plain(format!("{base}.activation_scale"), "F32", &[], f32s(&[1.0])),
        plain(format!("{base}.weight"), "F8_E4M3", &[rows, cols], codes),
        plain(format!("{base}.weight_scale_inv"), "BF16", &[], bf16s(&[scale])),
    ];
    (all, values)
}

/// Integers of eight bits with a scale and a zero for each row.
fn int8(draw: &mut Draw, base: &str, rows: usize, cols: usize) -> (Vec<Plain>, Vec<f32>) {
    let codes: Vec<u8> = (0..rows * cols).map(|_| draw.bits(8) as u8).collect();
    let scales: Vec<f32> = (0..rows).map(|_| draw.scale()).collect();
    let zeros: Vec<u8> = (0..rows).map(|_| draw.bits(8) as u8).collect();
    let value = |(i, &c): (usize, &u8)| {
        let r = i / cols;
        (i32::from(c as i8) - i32::from(zeros[r] as i8)) as f32 * scales[r]
    };
    let values = codes.iter().enumerate().map(value).collect();
    let all = vec![
        plain(format!("{base}.weight"), "I8", &[rows, cols], codes),
        plain(format!("{base}.weight_scale"), "BF16", &[rows, 1], bf16s(&scales)),
        plain(format!("{base}.weight_zero_point"), "I8", &[rows, 1], zeros),
    ];
    (all, values)
}

/// Integers of four bits with scales and zeros for groups of 32 columns, in some order.
fn packed(draw: &mut Draw, base: &str, rows: usize, cols: usize) -> (Vec<Plain>, Vec<f32>) {
    let groups = cols / 32;
    let order: Vec<u32> = (0..cols as u32).map(|k| k * 7 % groups as u32).collect();
    let all: Vec<u32> = (0..rows * cols / 8).map(|_| draw.bits(32)).collect();
    let scales: Vec<f32> = (0..rows * groups).map(|_| draw.scale()).collect();
    let zeros: Vec<u32> = (0..rows / 8 * groups).map(|_| draw.bits(32)).collect();
    let values = (0..rows * cols).map(|i| {
        let (r, k) = (i / cols, i % cols);
        let g = order[k] as usize;
        let code = (all[r * (cols / 8) + k / 8] >> (k % 8 * 4) & 15) as i32 - 8;
        let zero = (zeros[r / 8 * groups + g] >> (r % 8 * 4) & 15) as i32 - 8;
        (code - zero) as f32 * scales[r * groups + g]
    });
    let values = values.collect();
    let shape = [rows as u64, cols as u64].iter().flat_map(|n| n.to_le_bytes()).collect();
    let all = vec![
        plain(format!("{base}.weight_g_idx"), "I32", &[cols], words(&order)),
        plain(format!("{base}.weight_packed"), "I32", &[rows, cols / 8], words(&all)),
        plain(format!("{base}.weight_scale"), "BF16", &[rows, groups], bf16s(&scales)),
        plain(format!("{base}.weight_shape"), "I64", &[2], shape),
        plain(format!("{base}.weight_zero_point"), "I32", &[rows / 8, groups], words(&zeros)),
    ];
    (all, values)
}

/// ModelOpt's NVFP4: two scales, one of them in FP8 for every 16.
fn nvfp4(draw: &mut Draw, base: &str, rows: usize, cols: usize) -> (Vec<Plain>, Vec<f32>) {
    const VALUES: [f64; 8] = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0];
    let codes: Vec<u8> = (0..rows * cols / 2).map(|_| draw.bits(8) as u8).collect();
    let scales: Vec<u8> = (0..rows * cols / 16).map(|_| draw.bits(7) as u8 % 127).collect();
    let whole = draw.bits(24) as f32 * 2f32.powi(-32);
    let values = (0..rows * cols).map(|i| {
        let code = codes[i / 2] >> (i % 2 * 4) & 15;
        let value = VALUES[usize::from(code & 7)] * if code & 8 != 0 { -1.0 } else { 1.0 };
        (value * e4m3(scales[i / 16]) * f64::from(whole)) as f32
    });
    let values = values.collect();
    let all = vec![
        plain(format!("{base}.input_scale"), "F32", &[], f32s(&[0.5])),
        plain(format!("{base}.weight"), "U8", &[rows, cols / 2], codes),
        plain(format!("{base}.weight_scale"), "F8_E4M3", &[rows, cols / 16], scales),
        plain(format!("{base}.weight_scale_2"), "F32", &[], f32s(&[whole])),
    ];
    (all, values)
}

/// The same as compressed-tensors has it, with a power of two that divides.
fn nvfp4_packed(draw: &mut Draw, base: &str, rows: usize, cols: usize) -> (Vec<Plain>, Vec<f32>) {
    let (mut all, _) = nvfp4(draw, base, rows, cols);
    let (codes, scales) = (all[1].data.clone(), all[2].data.clone());
    let values = (0..rows * cols).map(|i| {
        let code = codes[i / 2] >> (i % 2 * 4) & 15;
        let value = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0][usize::from(code & 7)];
        let value = if code & 8 != 0 { -value } else { value };
        (value * e4m3(scales[i / 16]) / 256.0) as f32
    });
    let values = values.collect();
    all[0].name = format!("{base}.input_global_scale");
    all[1].name = format!("{base}.weight_packed");
    all[3] = plain(format!("{base}.weight_global_scale"), "F32", &[1], f32s(&[256.0]));
    (all, values)
}

fn f16(draw: &mut Draw, n: usize) -> (Vec<f32>, Vec<u8>) {
    let scales: Vec<f32> = (0..n).map(|_| draw.scale()).collect();
    let mut bytes = vec![0; 2 * n];
    teff_kernels::quantize_row(Format::F16, &scales, &mut bytes);
    (scales, bytes)
}

/// GPTQ's integers of four bits, in groups of 32.
fn gptq(draw: &mut Draw, base: &str, rows: usize, cols: usize) -> (Vec<Plain>, Vec<f32>) {
    let groups = cols / 32;
    let order: Vec<u32> = (0..cols as u32).map(|k| k * 5 % groups as u32).collect();
    let all: Vec<u32> = (0..rows * cols / 8).map(|_| draw.bits(32)).collect();
    let zeros: Vec<u32> = (0..rows / 8 * groups).map(|_| draw.bits(32)).collect();
    let (scales, bytes) = f16(draw, rows * groups);
    let values = (0..rows * cols).map(|i| {
        let (r, k) = (i / cols, i % cols);
        let g = order[k] as usize;
        let code = (all[k / 8 * rows + r] >> (k % 8 * 4) & 15) as i32;
        let zero = (zeros[g * (rows / 8) + r / 8] >> (r % 8 * 4) & 15) as i32;
        (code - zero - 1) as f32 * scales[g * rows + r]
    });
    let values = values.collect();
    let all = vec![
        plain(format!("{base}.g_idx"), "I32", &[cols], words(&order)),
        plain(format!("{base}.qweight"), "I32", &[cols / 8, rows], words(&all)),
        plain(format!("{base}.qzeros"), "I32", &[groups, rows / 8], words(&zeros)),
        plain(format!("{base}.scales"), "F16", &[groups, rows], bytes),
    ];
    (all, values)
}

/// AWQ's integers of four bits, in groups of 64.
fn awq(draw: &mut Draw, base: &str, rows: usize, cols: usize) -> (Vec<Plain>, Vec<f32>) {
    let groups = cols / 64;
    let all: Vec<u32> = (0..rows * cols / 8).map(|_| draw.bits(32)).collect();
    let zeros: Vec<u32> = (0..rows / 8 * groups).map(|_| draw.bits(32)).collect();
    let (scales, bytes) = f16(draw, rows * groups);
    // The output at each place of a word.
    let order = [0, 2, 4, 6, 1, 3, 5, 7];
    let place = |r: usize| order.iter().position(|&o| o == r % 8).unwrap();
    let values = (0..rows * cols).map(|i| {
        let (r, k) = (i / cols, i % cols);
        let code = (all[k * (rows / 8) + r / 8] >> (place(r) * 4) & 15) as i32;
        let zero = (zeros[k / 64 * (rows / 8) + r / 8] >> (place(r) * 4) & 15) as i32;
        (code - zero) as f32 * scales[k / 64 * rows + r]
    });
    let values = values.collect();
    let all = vec![
        plain(format!("{base}.qweight"), "I32", &[cols, rows / 8], words(&all)),
        plain(format!("{base}.qzeros"), "I32", &[groups, rows / 8], words(&zeros)),
        plain(format!("{base}.scales"), "F16", &[groups, rows], bytes),
    ];
    (all, values)
}

const FORMS: [(&str, Form); 8] = [
    (
        r#""quant_method":"fp8","weight_block_size":[48,80],"activation_scheme":"dynamic""#,
        fp8_blocks,
    ),
    (r#""quant_method":"fp8","weight_block_size":null,"activation_scheme":"static""#, fp8_whole),
    (r#""quant_method":"compressed-tensors","format":"int-quantized""#, int8),
    (r#""quant_method":"compressed-tensors","format":"pack-quantized""#, packed),
    (r#""quant_method":"gptq","bits":4,"group_size":32,"desc_act":true"#, gptq),
    (r#""quant_method":"awq","bits":4,"group_size":64,"version":"gemm""#, awq),
    (r#""quant_method":"modelopt","quant_algo":"NVFP4","ignore":["lm_head"]"#, nvfp4),
    (r#""quant_method":"compressed-tensors","format":"nvfp4-pack-quantized""#, nvfp4_packed),
];

/// A folder in a form, and what it stands for.
fn folder(form: Form) -> (Vec<Plain>, Vec<Plain>) {
    let family = family::of_arch("llama").unwrap();
    let spec = small(family::llama::tinyllama());
    let (mut draw, mut quantised, mut whole) = (Draw(7), vec![], vec![]);
    for (role, t) in tensors(family, &spec, Format::F32, |_, x| x) {
        let (Role::Layer(..), &[rows, cols]) = (role, &t.shape[..]) else {
            quantised.push(t.clone());
            whole.push(t);
            continue;
        };
        let base = t.name.strip_suffix(".weight").unwrap();
        let (parts, values) = form(&mut draw, base, rows, cols);
        quantised.extend(parts);
        whole.push(Plain { data: f32s(&values), ..t });
    }
    (quantised, whole)
}

fn opened(quantization: &str, tensors: &[Plain]) -> Result<Model, teff_runtime::LoadError> {
    let folder = Folder::new();
    let more = format!(r#""quantization_config":{{{quantization}}},"#);
    write(&folder, &config("LlamaForCausalLM", &more), tensors);
    open(&folder)
}

#[test]
fn quantised_weights_are_what_they_stand_for() {
    for (quantization, form) in FORMS {
        let (quantised, whole) = folder(form);
        let plain_folder = Folder::new();
        write(&plain_folder, &config("LlamaForCausalLM", ""), &whole);
        let (model, expected) =
            (opened(quantization, &quantised).unwrap(), open(&plain_folder).unwrap());
        assert_eq!(model.spec(), expected.spec());
        for (got, want) in model.tensors().zip(expected.tensors()) {
            assert!(matches!(got, Tensor::Vector(_)) == matches!(want, Tensor::Vector(_)));
            assert!(bits(got) == bits(want), "{quantization}");
        }
        let [warning] = model.warnings() else { panic!("{:?}", model.warnings()) };
        assert_eq!(warning.key, "quantization_config.quant_method");
        assert!(warning.taken.contains("F32") && warning.found.contains("14 quantised weights"));
        assert!(expected.warnings().is_empty());
    }
}

#[test]
fn contradictions_of_quantised_weights_are_named() {
    type Change = fn(&mut Vec<Plain>);
    let last = "model.layers.1.mlp.down_proj";
    let with = |end: &str| format!("{last}.{end}");
    #[rustfmt::skip]
    let cases: [(usize, Change, String); 11] = [
        (0, |t| t.retain(|t| !t.name.ends_with("1.mlp.down_proj.weight_scale_inv")), with("weight")),
        (0, |t| cut(t, "1.mlp.down_proj.weight_scale_inv"), with("weight_scale_inv")),
        (1, |t| fill(t, "1.mlp.down_proj.weight_scale_inv", 0xff), with("weight_scale_inv")),
        (2, |t| cut(t, "1.mlp.down_proj.weight_zero_point"), with("weight_zero_point")),
        (3, |t| t.retain(|t| !t.name.ends_with("1.mlp.down_proj.weight_shape")), with("weight_packed")),
        (3, |t| fill(t, "1.mlp.down_proj.weight_g_idx", 0x7f), with("weight_g_idx")),
        (4, |t| t.retain(|t| !t.name.ends_with("1.mlp.down_proj.qzeros")), with("qweight")),
        (4, |t| cut(t, "1.mlp.down_proj.g_idx"), with("g_idx")),
        (5, |t| cut(t, "1.mlp.down_proj.scales"), with("scales")),
        (6, |t| t.retain(|t| !t.name.ends_with("1.mlp.down_proj.weight_scale_2")), with("weight")),
        (6, |t| cut(t, "1.mlp.down_proj.weight_scale"), with("weight_scale")),
    ];
    for (form, change, tensor) in cases {
        let (quantization, form) = FORMS[form];
        let (mut quantised, _) = folder(form);
        change(&mut quantised);
        let e = opened(quantization, &quantised).unwrap_err();
        assert!(matches!(e.kind, LoadErrorKind::QuantizedTensor { .. }), "{tensor}: {e}");
        assert!(e.to_string().contains(&tensor), "{tensor}: {e}");
    }
}

/// Settings in config.json that are not those of the tensors.
#[test]
fn contradictions_of_settings_are_named() {
    const GROUP: &str = "quantization_config.config_groups.group_0.weights";
    let compressed = |weights: &str, more: &str| {
        format!(
            r#""quant_method":"compressed-tensors","format":"pack-quantized",
            "config_groups":{{"group_0":{{"weights":{{{weights}}}}}{more}}}"#
        )
    };
    // As the tensors are.
    let whole = r#""num_bits":4,"group_size":32,"symmetric":false,"actorder":"group""#;
    let transforms = format!(
        r#"{},"transform_config":{{"config_groups":{{"R":{{"type":"hadamard"}}}}}}"#,
        compressed(whole, "")
    );
    let no_transforms =
        format!(r#"{},"transform_config":{{"config_groups":{{ }}}}"#, compressed(whole, ""));
    let gptq = |more: &str| format!(r#""quant_method":"gptq",{more}"#);
    let without =
        |end: &'static str| move |t: &mut Vec<Plain>| t.retain(|t| !t.name.ends_with(end));
    type Change = Box<dyn Fn(&mut Vec<Plain>)>;
    let same = || -> Change { Box::new(|_| ()) };
    let cases: Vec<(usize, String, Change, Option<String>)> = vec![
        (3, compressed(whole, ""), same(), None),
        (3, no_transforms, same(), None),
        (3, transforms, same(), Some("quantization_config.transform_config".into())),
        (3, compressed(r#""num_bits":8"#, ""), same(), Some("weight_packed".into())),
        (3, compressed(r#""num_bits":"4""#, ""), same(), Some(format!("{GROUP}.num_bits"))),
        (3, compressed(r#""group_size":64"#, ""), same(), Some(format!("{GROUP}.group_size"))),
        // Groups with settings of their own.
        (3, compressed(r#""num_bits":8"#, r#","group_1":{}"#), same(), None),
        (
            3,
            compressed(whole, ""),
            Box::new(without("weight_g_idx")),
            Some(format!("{GROUP}.actorder")),
        ),
        (
            3,
            compressed(whole, ""),
            Box::new(without("weight_zero_point")),
            Some(format!("{GROUP}.symmetric")),
        ),
        (
            2,
            compressed(r#""symmetric":false"#, ""),
            Box::new(without("weight_zero_point")),
            Some(format!("{GROUP}.symmetric")),
        ),
        (4, gptq(r#""bits":4,"group_size":32,"desc_act":true"#), same(), None),
        (
            4,
            gptq(r#""bits":4,"group_size":64"#),
            same(),
            Some("quantization_config.group_size".into()),
        ),
        (4, gptq(r#""bits":4,"group_size":64,"dynamic":{}"#), same(), None),
        (4, gptq(r#""bits":"4""#), same(), Some("quantization_config.bits".into())),
        (
            4,
            gptq(r#""checkpoint_format":2"#),
            same(),
            Some("quantization_config.checkpoint_format".into()),
        ),
        (
            4,
            gptq(r#""desc_act":true"#),
            Box::new(without("g_idx")),
            Some("quantization_config.desc_act".into()),
        ),
        (4, gptq(r#""desc_act":false"#), Box::new(without("g_idx")), None),
        (5, r#""quant_method":"awq","group_size":64"#.into(), same(), None),
        (
            5,
            r#""quant_method":"awq","group_size":-1"#.into(),
            same(),
            Some("quantization_config.group_size".into()),
        ),
        (
            5,
            r#""quant_method":"awq","group_size":128"#.into(),
            same(),
            Some("quantization_config.group_size".into()),
        ),
    ];
    for (form, quantization, change, names) in cases {
        let (mut quantised, _) = folder(FORMS[form].1);
        change(&mut quantised);
        match (opened(&quantization, &quantised), names) {
            (Ok(_), None) => {}
            (Err(e), Some(names)) => {
                assert!(e.to_string().contains(&names), "{quantization}: {e}");
            }
            (found, _) => panic!("{quantization}: {:?}", found.err()),
        }
    }
}

/// Some programs gave every matrix a bias of zeros.
#[test]
fn biases_of_zeros_beside_gptq() {
    let (quantization, form) = FORMS[4];
    let (mut quantised, _) = folder(form);
    let last = "model.layers.1.mlp.down_proj";
    let bias = |byte| plain(format!("{last}.bias"), "F16", &[4], vec![byte; 8]);
    quantised.push(bias(0));
    opened(quantization, &quantised).unwrap();
    quantised.pop();
    quantised.push(bias(1));
    let e = opened(quantization, &quantised).unwrap_err();
    assert!(matches!(e.kind, LoadErrorKind::UnknownTensor { .. }), "{e}");
}

/// Takes a row off the tensors of this name.
fn cut(tensors: &mut [Plain], end: &str) {
    for t in tensors.iter_mut().filter(|t| t.name.ends_with(end)) {
        let row = t.data.len() / t.shape[0];
        t.data.truncate(t.data.len() - row);
        t.shape[0] -= 1;
    }
}

/// Fills the tensors of this name with a byte, which makes NaNs of 0xff, and large integers of 0x7f.
fn fill(tensors: &mut [Plain], end: &str, byte: u8) {
    for t in tensors.iter_mut().filter(|t| t.name.ends_with(end)) {
        t.data.fill(byte);
    }
}

/// Methods that are not known, and forms of those that are.
#[test]
fn unknown_quantisations_are_named() {
    let cases = [
        (r#""quant_method":"bitsandbytes""#, 0, "teff quantize"),
        (r#""quant_method":"aqlm""#, 0, "quantization_config.quant_method"),
        (r#""quant_method":"gptq","bits":3"#, 4, "quantization_config.bits"),
        (r#""quant_method":"gptq","checkpoint_format":"marlin""#, 4, "checkpoint_format"),
        (r#""quant_method":"awq","version":"gemv""#, 5, "quantization_config.version"),
        (r#""quant_method":"awq","bits":8"#, 5, "quantization_config.bits"),
        (r#""quant_method":"compressed-tensors","format":"mxfp4-pack-quantized""#, 3, "format"),
        (
            r#""quant_method":"modelopt","quant_algo":"W4A8_AWQ""#,
            6,
            "quantization_config.quant_algo",
        ),
        (r#""quant_method":"compressed-tensors","format":"marlin-24""#, 3, "marlin-24"),
    ];
    for (quantization, form, names) in cases {
        let (quantised, _) = folder(FORMS[form].1);
        let e = opened(quantization, &quantised).unwrap_err();
        assert!(e.to_string().contains(names), "{quantization}: {e}");
    }
    // A method without quantised weights is one of floats.
    let (_, whole) = folder(awq);
    let model = opened(r#""quant_method":"awq","bits":4"#, &whole).unwrap();
    assert!(model.warnings().is_empty());
}
