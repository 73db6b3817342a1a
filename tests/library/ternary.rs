//! Models with ternary weights: the same bits for every backend, every number of threads and every
//! split of a prompt, in any of the three formats.

use std::borrow::Cow;

use crate::common::{data, logits, oracle};
use teff::graph::gguf::{Gguf, GgufValue};
use teff::graph::{Role, Tensor};
use teff::kernels::{Backend, Matrix, Scalar, quantize_row};
use teff::runtime::gguf_write::GgufHeader;
use teff::runtime::model::{LoadErrorKind, LoadOptions};
use teff::{Cpu, Format, KvFormat, Model, SessionOptions};

const FORMATS: [Format; 3] = [Format::TQ1_0, Format::TQ2_0, Format::I2_S];
const VOCAB: usize = 70;
/// Exact in f16.
const SCALE: f32 = 0.078125;

/// Floats in -1..1, the same in every run (Marsaglia's xorshift32).
struct Rng(u32);

impl Rng {
    fn bits(&mut self) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 17;
        self.0 ^= self.0 << 5;
        self.0
    }
    fn float(&mut self) -> f32 {
        (self.bits() >> 8) as f32 / (1 << 23) as f32 - 1.0
    }
}

/// GGUF file of a GPT-2 of two layers whose matrices are 0 and plus or minus [`SCALE`], in F32, or
/// in I2_S with `scale` after each.
fn file(width: usize, heads: usize, ffn: usize, i2_s: Option<f32>) -> Vec<u8> {
    let mut h = GgufHeader::new();
    h.put("general.architecture", GgufValue::Str("gpt2")).unwrap();
    for (key, n) in [
        ("block_count", 2),
        ("context_length", 96),
        ("embedding_length", width),
        ("feed_forward_length", ffn),
        ("attention.head_count", heads),
    ] {
        h.put(&format!("gpt2.{key}"), GgufValue::U32(n as u32)).unwrap();
    }
    h.put("gpt2.attention.layer_norm_epsilon", GgufValue::F32(1e-5)).unwrap();
    let mut tensors: Vec<(String, usize, usize)> = vec![
        ("token_embd.weight".into(), VOCAB, width),
        ("position_embd.weight".into(), 96, width),
        ("output_norm.weight".into(), 1, width),
        ("output_norm.bias".into(), 1, width),
    ];
    for l in 0..2 {
        for (name, rows, cols) in [
            ("attn_norm", 1, width),
            ("attn_qkv", 3 * width, width),
            ("attn_output", width, width),
            ("ffn_norm", 1, width),
            ("ffn_up", ffn, width),
            ("ffn_down", width, ffn),
        ] {
            tensors.push((format!("blk.{l}.{name}.weight"), rows, cols));
            tensors.push((
                format!("blk.{l}.{name}.bias"),
                1,
                rows.max(if rows == 1 { cols } else { 0 }),
            ));
        }
    }
    let matrix = |name: &str, rows: usize| rows > 1 && name != "position_embd.weight";
    for (name, rows, cols) in &tensors {
        let format = if matrix(name, *rows) && i2_s.is_some() { Format::I2_S } else { Format::F32 };
        let dims = [*cols as u64, *rows as u64];
        h.tensor(name, format, if *rows == 1 { &dims[..1] } else { &dims }).unwrap();
    }
    let mut out = h.write(Vec::new()).unwrap();
    let mut r = Rng(0x9e37_79b9);
    for (name, rows, cols) in &tensors {
        for _ in 0..*rows {
            let row: Vec<f32> = (0..*cols)
                .map(|i| match matrix(name, *rows) {
                    true if i % 256 == 0 => SCALE,
                    true => SCALE * ((r.bits() >> 9) % 3) as f32 - SCALE,
                    false if name.contains("norm.weight") => 1.0 + 0.25 * r.float(),
                    false => r.float(),
                })
                .collect();
            if matrix(name, *rows) && i2_s.is_some() {
                let x: Vec<f32> = row.iter().map(|x| x / SCALE).collect();
                let mut bytes = vec![0; Format::I2_S.row_bytes(*cols).unwrap()];
                quantize_row(Format::I2_S, &x, &mut bytes);
                out.write(name, &bytes).unwrap();
            } else {
                let bytes: Vec<u8> = row.iter().flat_map(|x| x.to_le_bytes()).collect();
                out.write(name, &bytes).unwrap();
            }
        }
        if let Some(scale) = i2_s.filter(|_| matrix(name, *rows)) {
            let mut trailer = [0; 32];
            trailer[..4].copy_from_slice(&scale.to_le_bytes());
            out.write(name, &trailer).unwrap();
        }
    }
    out.finish().unwrap()
}

fn open(bytes: Vec<u8>, quantize: Option<Format>) -> Model {
    let options = LoadOptions { quantize, ..LoadOptions::default() };
    Model::from_bytes(Cow::Owned(bytes), &options).unwrap()
}

fn hash(logits: &[f32]) -> u64 {
    let bytes = logits.iter().flat_map(|x| x.to_bits().to_le_bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3))
}

/// The common hash of the logits for all backends, numbers of threads and chunks.
fn one_hash(model: &Model, what: &str) -> u64 {
    let vocab = model.spec().vocab;
    let tokens: Vec<u32> = (0..70u32).map(|i| i * i * 31 % vocab).collect();
    let mut want = None;
    for name in Cpu::NAMES {
        let cpu = match Cpu::by_name(name) {
            Ok(cpu) => cpu,
            Err(e) => {
                println!("skipped: {name}: {e}");
                continue;
            }
        };
        // The scalar backend is slow.
        let all = name != "scalar" || std::env::var_os("TEFF_FULL").is_some();
        for threads in [1, 3].into_iter().filter(|&threads| all || threads == 3) {
            for chunk in [1, 5, 64].into_iter().filter(|&chunk| all || chunk == 5) {
                let mut session = model
                    .session(&SessionOptions {
                        backend: Some(cpu),
                        threads: Some(threads),
                        oversubscribe: true,
                        kv: KvFormat::F32,
                        batch: chunk,
                        logits: chunk,
                        ..SessionOptions::default()
                    })
                    .unwrap();
                let all = logits(&mut session, &tokens, chunk);
                assert!(all.iter().all(|x| x.is_finite()) && all.iter().any(|x| *x != all[0]));
                let got = hash(&all);
                let want = *want.get_or_insert(got);
                assert_eq!(got, want, "{what}: {name}, {threads} threads, chunks of {chunk}");
            }
        }
    }
    want.unwrap()
}

#[test]
fn one_model_in_three_formats() {
    let mut want = None;
    for format in FORMATS {
        let model = open(file(256, 4, 512, None), Some(format));
        let quantized = model.tensor_infos().filter(|t| t.format == format).count();
        assert_eq!(quantized, 9, "all matrices but the positions");
        let got = one_hash(&model, format.name());
        assert_eq!(*want.get_or_insert(got), got, "{format}");
    }
    // In the file, and not on loading.
    let model = open(file(256, 4, 512, Some(SCALE)), None);
    assert_eq!(Some(one_hash(&model, "I2_S file")), want);
}

/// Rows that end with half a group; twelve heads, eight of which make a group.
#[test]
fn odd_multiples_of_128() {
    let on_loading = open(file(384, 12, 640, None), Some(Format::I2_S));
    let want = one_hash(&on_loading, "I2_S on loading");
    assert_eq!(one_hash(&open(file(384, 12, 640, Some(SCALE)), None), "I2_S file"), want);
}

/// A model with other weights; only some of its matrices have rows of whole blocks.
#[test]
fn any_model_runs() {
    for format in FORMATS {
        let options = LoadOptions { quantize: Some(format), ..LoadOptions::default() };
        let model = Model::open_with(data("gpt2-f32.gguf"), &options).unwrap();
        assert!(model.tensor_infos().any(|t| t.format == format));
        one_hash(&model, format.name());
    }
}

#[test]
fn a_damaged_scale_is_refused_by_name() {
    for scale in [f32::NAN, f32::INFINITY] {
        let options = LoadOptions::default();
        let e = Model::from_bytes(Cow::Owned(file(128, 2, 128, Some(scale))), &options);
        let e = e.expect_err("a damaged scale");
        assert!(matches!(e.kind, LoadErrorKind::Scale { .. }), "{e}");
        assert!(e.to_string().contains("`token_embd.weight`"), "{e}");
    }
}

/// Scales are read from the file and applied to the weights.
#[test]
fn scales_are_read_from_files() {
    let model = open(file(128, 2, 128, Some(-0.5)), None);
    let mut slots = model.spec().slots().zip(model.tensors());
    let (_, table) = slots.find(|(s, _)| s.role == Role::TokenEmbd).unwrap();
    let Tensor::Matrix(w) = table else { panic!("no matrix") };
    assert_eq!((w.format(), w.scale()), (Format::I2_S, -0.5));
    let mut row = vec![0.0; 128];
    Scalar.dequantize_row(&w, 0, &mut row);
    assert_eq!(row[0], -0.5);
}

/// BitNet's published layout, and llama.cpp's two formats: files of one model.
#[test]
fn published_files_hold_the_same_weights() {
    let names = ["TQ1_0", "TQ2_0", "I2_S"].map(|f| oracle(&format!("bitnet/bitnet-{f}.gguf")));
    let [Some(tq1), Some(tq2), Some(i2)] = names else { return };
    let files = [tq1, tq2, i2].map(|path| std::fs::read(path).unwrap());
    let files = files.each_ref().map(|bytes| Gguf::parse(bytes).unwrap());
    let mut compared = 0;
    for t in files[2].tensors().filter(|t| t.format == Format::I2_S) {
        let all = files.each_ref().map(|f| f.tensor(t.name).unwrap());
        assert_eq!(all.map(|t| t.format), FORMATS);
        let all = all.map(|t| Matrix::from_tensor(t.format, t.rows(), t.cols(), t.data).unwrap());
        let mut rows = all.map(|w| vec![0.0; w.cols()]);
        for r in 0..t.rows() {
            for (w, row) in all.iter().zip(&mut rows) {
                Scalar.dequantize_row(w, r, row);
            }
            assert!(rows[0] == rows[1] && rows[1] == rows[2], "{} row {r}", t.name);
        }
        compared += 1;
    }
    assert_eq!(compared, 14);
}
