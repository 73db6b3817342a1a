//! GGUF files with experts in other forms than converters write today: the same bits, or a refusal
//! that names the tensor.

use std::fs;
use std::path::Path;

use crate::common::all_logits;
use teff::graph::gguf::{Gguf, GgufValue};
use teff::runtime::gguf_write::GgufHeader;
use teff::{Format, LoadOptions, Model};

/// Tensor of a file.
#[derive(Clone)]
struct Tensor {
    name: String,
    format: Format,
    dims: Vec<u64>,
    data: Vec<u8>,
}

impl Tensor {
    fn of(&self, name: String, dims: &[u64], data: Vec<u8>) -> Tensor {
        Tensor { name, format: self.format, dims: dims.to_vec(), data }
    }

    /// Bytes of each expert's matrix.
    fn experts(&self) -> impl Iterator<Item = &[u8]> {
        self.data.chunks(self.data.len() / self.dims[2] as usize)
    }
}

fn data(name: &str) -> Vec<u8> {
    fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)).unwrap()
}

/// The file with other tensors.
fn with(bytes: &[u8], change: impl FnOnce(Vec<Tensor>) -> Vec<Tensor>) -> Vec<u8> {
    let gguf = Gguf::parse(bytes).unwrap();
    let tensors = gguf.tensors().map(|t| Tensor {
        name: t.name.to_owned(),
        format: t.format,
        dims: t.dims[..t.n_dims].to_vec(),
        data: t.data.to_vec(),
    });
    let tensors = change(tensors.collect());
    let mut h = GgufHeader::new();
    for (key, value) in gguf.metadata() {
        h.put(key, value).unwrap();
    }
    for t in &tensors {
        h.tensor(&t.name, t.format, &t.dims).unwrap();
    }
    let mut out = h.write(Vec::new()).unwrap();
    for t in &tensors {
        out.write(&t.name, &t.data).unwrap();
    }
    out.finish().unwrap()
}

fn open(bytes: Vec<u8>) -> Result<Model, teff::LoadError> {
    Model::from_bytes(bytes, &LoadOptions::default())
}

fn logits(bytes: Vec<u8>) -> Vec<u32> {
    let model = open(bytes).unwrap();
    let tokens: Vec<u32> = (0..20).map(|i| i * 37 % model.spec().vocab).collect();
    all_logits(&model, &tokens).into_iter().map(f32::to_bits).collect()
}

fn refused(bytes: Vec<u8>, names: &[&str]) {
    let said = open(bytes).unwrap_err().to_string();
    for name in names {
        assert!(said.contains(name), "{name}: {said}");
    }
}

/// The tensors with each expert's matrix by itself.
fn one_by_one(tensors: Vec<Tensor>) -> Vec<Tensor> {
    let mut all = Vec::new();
    for t in tensors {
        let Some(stem) = t.name.strip_suffix("_exps.weight") else {
            all.push(t);
            continue;
        };
        for (e, data) in t.experts().enumerate() {
            all.push(t.of(format!("{stem}.{e}.weight"), &t.dims[..2], data.to_vec()));
        }
    }
    all
}

#[test]
fn experts_one_by_one() {
    let file = data("mixtral/mixtral-IQ4_NL.gguf");
    let old = with(&file, one_by_one);
    assert!(logits(old.clone()) == logits(file));
    // Of each kind one that is not as the others are.
    let changed = |change: &dyn Fn(&mut Vec<Tensor>, usize)| {
        with(&old, |mut tensors| {
            let at = tensors.iter().position(|t| t.name == "blk.1.ffn_up.2.weight").unwrap();
            change(&mut tensors, at);
            tensors
        })
    };
    let missing = changed(&|all, at| drop(all.remove(at)));
    refused(missing, &["blk.1.ffn_up.2.weight", "missing"]);
    let narrow = changed(&|all, at| all[at].dims = vec![all[at].dims[0] / 2, 2 * all[at].dims[1]]);
    refused(narrow, &["blk.1.ffn_up.2.weight"]);
    let dense = changed(&|all, at| {
        let elements: u64 = all[at].dims.iter().product();
        (all[at].format, all[at].data) = (Format::F16, vec![0; 2 * elements as usize]);
    });
    refused(dense, &["blk.1.ffn_up.2.weight", "F16", "IQ4_NL"]);
    // One expert more than there are, or a stack beside them.
    let more = changed(&|all, at| {
        let extra = Tensor { name: "blk.1.ffn_up.77.weight".into(), ..all[at].clone() };
        all.push(extra);
    });
    refused(more, &["blk.1.ffn_up.77.weight"]);
    let none = with(&old, |mut all| {
        all.retain(|t| !t.name.starts_with("blk.1.ffn_up."));
        all
    });
    refused(none, &["blk.1.ffn_up_exps.weight", "missing"]);
}

/// The tensors with gates and the other matrices of experts in one.
fn fused(tensors: Vec<Tensor>) -> Vec<Tensor> {
    let find = |name: &str| tensors.iter().find(|t| t.name == name).cloned();
    let mut all = Vec::new();
    for t in &tensors {
        if t.name.ends_with(".ffn_up_exps.weight") {
            continue;
        }
        let Some(stem) = t.name.strip_suffix(".ffn_gate_exps.weight") else {
            all.push(t.clone());
            continue;
        };
        let up = find(&format!("{stem}.ffn_up_exps.weight")).unwrap();
        let data: Vec<u8> =
            t.experts().zip(up.experts()).flat_map(|(g, u)| [g, u].concat()).collect();
        let dims = [t.dims[0], 2 * t.dims[1], t.dims[2]];
        all.push(t.of(format!("{stem}.ffn_gate_up_exps.weight"), &dims, data));
    }
    all
}

#[test]
fn gates_beside_the_other_matrices() {
    for name in ["lfm2moe/lfm2moe-Q4_0.gguf", "mixtral/mixtral-IQ4_NL.gguf"] {
        let file = data(name);
        assert!(logits(with(&file, fused)) == logits(file), "{name}");
    }
    let file = data("gpt-oss/gpt-oss-MXFP4_MOE.gguf");
    refused(with(&file, fused), &["ffn_gate_up_exps", "ffn_gate_exps"]);
}

#[test]
fn a_choice_needs_its_bias() {
    let without = with(&data("lfm2moe/lfm2moe-Q4_0.gguf"), |mut all| {
        all.retain(|t| !t.name.ends_with("exp_probs_b.bias"));
        all
    });
    refused(without, &["exp_probs_b.bias", "missing"]);
}

/// Blocks of NVFP4 with any codes; `shift` is added to the exponents of an expert's scales.
fn nvfp4(t: &Tensor, shift: impl Fn(usize) -> i32) -> Tensor {
    let [cols, rows, experts] = [t.dims[0], t.dims[1], t.dims[2]].map(|n| n as usize);
    let mut state = t.name.bytes().fold(1u32, |s, b| s.wrapping_mul(31).wrapping_add(b.into()));
    let mut random = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    let mut data = Vec::new();
    for expert in 0..experts {
        for _ in 0..rows * cols / 64 {
            // Normal numbers: three bits are the fraction.
            let scales: Vec<u8> = (0..4).map(|_| 0x18 + random() % 8).collect();
            data.extend(scales.iter().map(|&d| (i32::from(d) + 8 * shift(expert)) as u8));
            data.extend((0..32).map(|_| random()));
        }
    }
    Tensor { format: Format::NVFP4, data, ..t.clone() }
}

#[test]
fn experts_have_factors() {
    let file = data("qwen3moe/qwen3moe-Q4_K_M.gguf");
    // Another power of two for each expert.
    let power = |expert: usize| expert as i32 % 3 - 1;
    let experts = |t: &Tensor| t.name.ends_with("_exps.weight");
    let scaled = |change: &dyn Fn(&mut Tensor)| {
        with(&file, |tensors| {
            let mut all = Vec::new();
            for t in tensors {
                if !experts(&t) {
                    all.push(t);
                    continue;
                }
                all.push(nvfp4(&t, |_| 0));
                let factors = (0..t.dims[2] as usize).map(|e| 2f32.powi(power(e)));
                let mut scale = Tensor {
                    name: t.name.replace(".weight", ".scale"),
                    format: Format::F32,
                    dims: vec![t.dims[2]],
                    data: factors.flat_map(f32::to_le_bytes).collect(),
                };
                change(&mut scale);
                all.push(scale);
            }
            all
        })
    };
    let plain = |shift: &dyn Fn(usize) -> i32| {
        with(&file, |tensors| {
            tensors.iter().map(|t| if experts(t) { nvfp4(t, shift) } else { t.clone() }).collect()
        })
    };
    let want = logits(plain(&power));
    assert!(logits(scaled(&|_| ())) == want);
    assert!(logits(plain(&|_| 0)) != want);
    // One number for all is of matrices that are no experts'.
    let name = "blk.0.ffn_gate_exps.scale";
    let one = scaled(&|t| {
        if t.name == name {
            (t.dims, t.data) = (vec![1], t.data[..4].to_vec());
        }
    });
    refused(one, &[name]);
    let nan = scaled(&|t| {
        if t.name == name {
            t.data[4..8].copy_from_slice(&f32::NAN.to_le_bytes());
        }
    });
    refused(nan, &["blk.0.ffn_gate_exps", "NaN"]);
    assert!(matches!(
        Gguf::parse(&file).unwrap().value("general.architecture"),
        Some(GgufValue::Str("qwen3moe"))
    ));
}
