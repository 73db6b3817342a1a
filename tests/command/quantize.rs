//! `teff quantize`: llama.cpp's formats and bytes, and no incomplete output.

#![cfg(feature = "cli")]

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::common::{self, data, oracle};
use teff::{Format, Model};
use teff_graph::gguf::{Gguf, GgufValue};
use teff_runtime::gguf_write::{GgufHeader, WriteError};
use teff_runtime::quantize::{
    Facts, GgufSource, QuantizeErrorKind, QuantizeOptions, Report, Shape, Source, Target, plan,
    write,
};
use teff_runtime::safetensors::SafeTensors;

fn teff<I: AsRef<OsStr>>(args: impl IntoIterator<Item = I>) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_teff"));
    command.args(args).stdin(Stdio::null()).output().unwrap()
}

/// Runs `teff quantize IN OUT ARGS`.
fn quantize(input: &Path, output: &Path, args: &[&str]) -> Output {
    let files = [OsStr::new("quantize"), input.as_os_str(), output.as_os_str()];
    teff(files.into_iter().chain(args.iter().map(OsStr::new)))
}

fn err(o: &Output) -> &str {
    core::str::from_utf8(&o.stderr).unwrap()
}

/// Checks the exit code, and that one line on standard error names the cause.
fn fails(o: &Output, code: i32, names: &[&str]) {
    let line = err(o);
    assert_eq!((o.status.code(), o.stdout.len()), (Some(code), 0), "{line}");
    assert!(line.starts_with("teff: ") && line.lines().count() == 1, "{line:?}");
    for name in names {
        assert!(line.contains(name), "{line:?} doesn't name {name:?}");
    }
}

/// Folder of its own for each test, removed when dropped.
struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Dir {
        let dir = std::env::temp_dir().join(format!("teff-quantize-{name}-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        Dir(dir)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn names(&self) -> Vec<String> {
        let names = fs::read_dir(&self.0).unwrap().map(|e| e.unwrap().file_name());
        let mut names: Vec<_> = names.map(|n| n.into_string().unwrap()).collect();
        names.sort();
        names
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn target(name: &str) -> Target {
    Target::from_name(name).unwrap_or_else(|| panic!("{name}"))
}

fn written(source: &dyn Source, target: &Target, threads: usize) -> (Vec<u8>, Report) {
    let options = QuantizeOptions { threads, allow_requantize: true, ..QuantizeOptions::default() };
    write(source, target, &options, Vec::new(), &mut |_| {}).unwrap()
}

/// Compares a file with one of llama.cpp's by tensors and keys, whose order differs.
fn assert_same(ours: &[u8], theirs: &[u8], what: &str) {
    let (ours, theirs) = (Gguf::parse(ours).unwrap(), Gguf::parse(theirs).unwrap());
    assert_eq!(ours.n_tensors(), theirs.n_tensors(), "{what}");
    for t in ours.tensors() {
        let u = theirs.tensor(t.name).unwrap();
        assert_eq!((t.format, t.dims), (u.format, u.dims), "{what}: {}", t.name);
        assert!(t.data == u.data, "{what}: {} in {}", t.name, t.format);
    }
}

#[test]
fn files_are_llama_cpp_s() {
    let input = fs::read(data("gpt2-f32.gguf")).unwrap();
    let dir = Dir::new("same");
    for name in ["F16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1"] {
        let out = dir.file("out.gguf");
        let o = quantize(&data("gpt2-f32.gguf"), &out, &["--to", &name.to_lowercase()]);
        assert_eq!(o.status.code(), Some(0), "{}", err(&o));
        let (ours, theirs) =
            (fs::read(&out).unwrap(), fs::read(data(&format!("gpt2-{name}.gguf"))));
        let theirs = theirs.unwrap();
        assert_same(&ours, &theirs, name);
        assert_eq!(ours.len(), theirs.len());
        // All keys are present, and numbers have the right type.
        let (ours, theirs) = (Gguf::parse(&ours).unwrap(), Gguf::parse(&theirs).unwrap());
        assert!(theirs.metadata().all(|(k, v)| ours.value(k) == Some(v)), "{name}");
        assert_eq!(ours.n_keys(), theirs.n_keys());
        // The order of tensors is the input's.
        let names = |g: Gguf<'_>| g.tensors().map(|t| t.name.to_owned()).collect::<Vec<_>>();
        assert_eq!(names(ours), names(Gguf::parse(&input).unwrap()));
        let line = String::from_utf8(o.stdout).unwrap();
        assert!(line.contains("13 of 40 tensors") && line.lines().count() == 1, "{line}");
        assert!(line.contains("32.00 bits per weight"), "{line}");
    }
    assert_eq!(dir.names(), ["out.gguf"]);
}

/// A small model in every format: Teff opens it, and its logits are finite.
#[test]
fn files_run() {
    let input = fs::read(data("gpt2-f32.gguf")).unwrap();
    let source = GgufSource::new(Gguf::parse(&input).unwrap()).unwrap();
    for target in Target::ALL.into_iter().flat_map(|t| [t, t.pure()]) {
        if target.base() == Format::I2_S {
            continue; // these weights are not ternary
        }
        // Some formats are of no use without an importance matrix.
        let options = QuantizeOptions { threads: 1, ..QuantizeOptions::default() };
        let (file, report) = match write(&source, &target, &options, Vec::new(), &mut |_| {}) {
            Ok(done) => done,
            Err(QuantizeErrorKind::NeedsImportances { missing: false, .. }) => {
                let low = target.name().starts_with("IQ") || target.name() == "Q2_K_S";
                assert!(low, "{}", target.name());
                continue;
            }
            Err(e) => panic!("{}: {e}", target.name()),
        };
        let model = Model::from_bytes(file, &teff::LoadOptions::default()).unwrap();
        let logits = common::all_logits(&model, &[1, 2, 3, 4]);
        assert!(logits.iter().all(|x| x.is_finite()), "{}", target.name());
        assert_eq!(report.rounded.is_empty(), !target.name().starts_with("TQ"));
        let low = report.fallbacks.iter().all(|f| f.wanted.block_len() > 32);
        assert!(low && report.bits_before() == 32.0 && report.bits_after() <= 32.0);
    }
}

/// The plan needs only names and shapes; the files of the oracle are llama.cpp's mixes.
#[test]
fn plans_are_llama_cpp_s() {
    let gpt2_k = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/gpt2-k");
    let mut files: Vec<PathBuf> = Vec::new();
    let folders = ["llama", "gpt2", "gpt2-k", "gemma3", "qwen2", "qwen3"];
    for folder in folders.into_iter().filter_map(oracle).chain([gpt2_k]) {
        let all = fs::read_dir(folder).unwrap().map(|e| e.unwrap().path());
        files.extend(all.filter(|p| p.extension() == Some(OsStr::new("gguf"))));
    }
    assert!(files.len() >= 4);
    for path in files {
        let stem = path.file_stem().unwrap().to_str().unwrap();
        let target = target(stem.rsplit_once('-').unwrap().1);
        let bytes = fs::read(&path).unwrap();
        let gguf = Gguf::parse(&bytes).unwrap();
        let tensors: Vec<_> = gguf.tensors().collect();
        let shape = |t: &teff_graph::gguf::TensorInfo<'_>| (t.name.to_owned(), t.dims, t.n_dims);
        let shapes: Vec<_> = tensors.iter().map(shape).collect();
        let shapes: Vec<_> = shapes
            .iter()
            .map(|(name, dims, n)| Shape { name, dims: &dims[..*n], format: Format::F32 })
            .collect();
        let choices = plan(&target, &Facts::of_gguf(&gguf), &shapes);
        for (t, choice) in tensors.iter().zip(choices) {
            assert_eq!(choice.format, t.format, "{stem}: {}", t.name);
        }
        let file_type = GgufValue::U32(target.file_type());
        assert_eq!(gguf.value("general.file_type"), Some(file_type), "{stem}");
    }
}

/// Output of llama.cpp (as built for llama-cpp-python 0.3.36) for Llama models with random weights:
/// for each layer the digit of the format, Q`digit`_K, of `attn_v`, `ffn_down`, `attn_output`; and
/// the format of the embedding.
#[test]
fn mixes_of_deep_models_are_llama_cpp_s() {
    #[rustfmt::skip]
    let golden = [
        // 8 layers, 4 query heads for each head of keys, a separate head.
        (8, 4, false, "Q2_K", "44444444", "33333333", "33333333", Format::Q2_K),
        (8, 4, false, "Q3_K_S", "33333333", "33333333", "33333333", Format::Q3_K),
        (8, 4, false, "Q3_K_M", "55444444", "44444444", "44444444", Format::Q3_K),
        (8, 4, false, "Q3_K_L", "55555555", "55555555", "55555555", Format::Q3_K),
        (8, 4, false, "Q4_K_S", "55554444", "54444444", "44444444", Format::Q4_K),
        (8, 4, false, "Q4_K_M", "64464466", "64464466", "44444444", Format::Q4_K),
        (8, 4, false, "Q5_K_S", "55555555", "55555555", "55555555", Format::Q5_K),
        (8, 4, false, "Q5_K_M", "65565566", "65565566", "55555555", Format::Q5_K),
        // 12 layers, tied.
        (12, 4, true, "Q2_K", "444444444444", "333333333333", "333333333333", Format::Q6_K),
        (12, 4, true, "Q3_K_M", "554444444444", "444444444444", "444444444444", Format::Q6_K),
        (12, 4, true, "Q4_K_S", "555544444444", "544444444444", "444444444444", Format::Q6_K),
        (12, 4, true, "Q4_K_M", "644644644666", "644644644666", "444444444444", Format::Q6_K),
        // 17 layers, one head of keys for each query head.
        (17, 1, false, "Q2_K", "33333333333333333", "33333333333333333", "33333333333333333", Format::Q2_K),
        (17, 1, false, "Q3_K_M", "55444444444444444", "54444444444444444", "44444444444444444", Format::Q3_K),
        (17, 1, false, "Q4_K_S", "55554444444444444", "55444444444444444", "44444444444444444", Format::Q4_K),
        (17, 1, false, "Q5_K_M", "66556556556556666", "66556556556556666", "55555555555555555", Format::Q5_K),
    ];
    for (layers, group, tied, name, values, down, out, embedding) in golden {
        let mut names = vec!["token_embd.weight".to_owned(), "output_norm.weight".to_owned()];
        // Layers in the order of llama.cpp's converter for old models: by name, so that 10 comes
        // before 2. The rules go by number.
        let mut order: Vec<u32> = (0..layers).collect();
        order.sort_by_key(u32::to_string);
        for i in order {
            names.extend(
                ["attn_v", "ffn_down", "attn_output"].map(|p| format!("blk.{i}.{p}.weight")),
            );
        }
        names.extend((!tied).then(|| "output.weight".to_owned()));
        let shape = |name| Shape { name, dims: &[256, 256], format: Format::F16 };
        let shapes: Vec<_> = names.iter().map(|n| shape(n)).collect();
        let facts = Facts { layers, group, ..Facts::default() };
        let choices = plan(&target(name), &facts, &shapes);
        let of = |n: &str| choices[names.iter().position(|m| m == n).unwrap()].format;
        let row = |part: &str| -> String {
            let formats = (0..layers).map(|i| of(&format!("blk.{i}.{part}.weight")).name());
            formats.map(|f| &f[1..2]).collect()
        };
        let got = (row("attn_v"), row("ffn_down"), row("attn_output"));
        assert_eq!(got, (values.into(), down.into(), out.into()), "{layers} {name}");
        assert_eq!((of("token_embd.weight"), of("output_norm.weight")), (embedding, Format::F16));
        assert!(tied || of("output.weight") == Format::Q6_K);
    }
}

/// A Llama written by transformers, presented as llama.cpp's converter writes it to GGUF: names,
/// and the rows of queries and keys with the halves of rotary pairs alternating.
struct Llama<'a> {
    keys: Gguf<'a>,
    file: SafeTensors<'a>,
    names: Vec<(String, String)>,
    dims: Vec<Vec<u64>>,
}

impl<'a> Llama<'a> {
    fn new(keys: Gguf<'a>, file: SafeTensors<'a>) -> Self {
        let part = |p: &str| match p {
            "attn_q" | "attn_k" | "attn_v" => format!("self_attn.{}_proj", &p[5..]),
            "attn_output" => "self_attn.o_proj".into(),
            "attn_norm" => "input_layernorm".into(),
            "ffn_norm" => "post_attention_layernorm".into(),
            p => format!("mlp.{}_proj", &p[4..]),
        };
        let theirs = |name: &str| match name.strip_suffix(".weight").unwrap() {
            "token_embd" => "model.embed_tokens.weight".into(),
            "output" => "lm_head.weight".into(),
            "output_norm" => "model.norm.weight".into(),
            name => {
                let (layer, p) = name.strip_prefix("blk.").unwrap().split_once('.').unwrap();
                format!("model.layers.{layer}.{}.weight", part(p))
            }
        };
        let names = keys.tensors().map(|t| (t.name.into(), theirs(t.name))).collect();
        let dims = keys.tensors().map(|t| t.dims[..t.n_dims].to_vec()).collect();
        Llama { keys, file, names, dims }
    }
}

impl Source for Llama<'_> {
    fn facts(&self) -> Facts {
        Facts::of_gguf(&self.keys)
    }
    fn put_keys(&self, header: &mut GgufHeader) -> Result<(), WriteError> {
        header.put("general.architecture", GgufValue::Str("llama"))
    }
    fn len(&self) -> usize {
        self.names.len()
    }
    fn shape(&self, index: usize) -> Shape<'_> {
        let (name, dims) = (&self.names[index].0, &self.dims[index]);
        Shape { name, dims, format: Format::F32 }
    }
    fn bytes(&self, index: usize) -> Option<&[u8]> {
        let vector = self.dims[index].len() == 1;
        vector.then(|| self.file.get(&self.names[index].1).unwrap().data)
    }
    fn values(&self, index: usize, first: usize, out: &mut [f32]) {
        let (name, theirs) = &self.names[index];
        let x = self.file.get(theirs).unwrap().data.as_chunks::<4>().0;
        let cols = self.dims[index][0] as usize;
        let turned = ["attn_q.", "attn_k."].iter().any(|p| name.contains(p));
        for (i, out) in (first..).zip(out) {
            let (mut row, col) = (i / cols, i % cols);
            if turned {
                let (head, r) = (row / 32, row % 32); // heads of 32
                row = head * 32 + r / 2 + r % 2 * 16;
            }
            *out = f32::from_le_bytes(x[row * cols + col]);
        }
    }
}

#[test]
fn weights_of_transformers_become_llama_cpp_s_files() {
    let Some(folder) = oracle("llama") else { return };
    let tensors = fs::read(folder.join("model.safetensors")).unwrap();
    for name in ["Q2_K", "Q3_K_S", "Q4_0", "Q4_K_M", "Q4_K_S", "Q5_K_S", "Q6_K", "Q8_0"] {
        let theirs = fs::read(folder.join(format!("llama-{name}.gguf"))).unwrap();
        let file = SafeTensors::parse(&tensors).unwrap();
        let source = Llama::new(Gguf::parse(&theirs).unwrap(), file);
        let (ours, _) = written(&source, &target(name), 2);
        assert_same(&ours, &theirs, name);
    }
}

#[test]
fn qwen2_s_files_are_llama_cpp_s() {
    let Some(folder) = oracle("qwen2") else { return };
    let input = fs::read(folder.join("qwen2-f32.gguf")).unwrap();
    let source = GgufSource::new(Gguf::parse(&input).unwrap()).unwrap();
    for name in ["F16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"] {
        let theirs = fs::read(folder.join(format!("qwen2-{name}.gguf"))).unwrap();
        assert_same(&written(&source, &target(name), 2).0, &theirs, name);
    }
}

/// File of one matrix, `blk.0.ffn_up.weight`, and a norm.
fn one_matrix(format: Format, cols: u64, x: &[f32], align: u32) -> Vec<u8> {
    let mut h = GgufHeader::new();
    h.put("general.architecture", GgufValue::Str("llama")).unwrap();
    h.put("general.alignment", GgufValue::U32(align)).unwrap();
    h.put("general.file_type", GgufValue::U32(99)).unwrap();
    h.tensor("blk.0.ffn_up.weight", format, &[cols, x.len() as u64 / cols]).unwrap();
    h.tensor("blk.0.ffn_norm.weight", Format::F32, &[1]).unwrap();
    let mut d = h.write(Vec::new()).unwrap();
    let mut bytes = vec![0; format.row_bytes(x.len()).unwrap()];
    teff_kernels::quantize_row(format, x, &mut bytes);
    d.write("blk.0.ffn_up.weight", &bytes).unwrap();
    d.write("blk.0.ffn_norm.weight", &1f32.to_le_bytes()).unwrap();
    d.finish().unwrap()
}

fn random(n: usize) -> Vec<f32> {
    let step = |s: &mut u32| {
        *s = s.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        Some((*s >> 8) as f32 / (1 << 23) as f32 - 1.0)
    };
    std::iter::repeat_with({
        let mut s = 7;
        move || step(&mut s).unwrap()
    })
    .take(n)
    .collect()
}

/// A matrix of more than one piece: threads only divide the work.
#[test]
fn bytes_do_not_depend_on_threads() {
    let x = random(256 * 701);
    for align in [8, 32, 256] {
        let file = one_matrix(Format::F32, 256, &x, align);
        let source = GgufSource::new(Gguf::parse(&file).unwrap()).unwrap();
        for name in ["Q8_0", "Q4_K", "BF16", "F32", "TQ2_0"] {
            let (one, report) = written(&source, &target(name), 1);
            for threads in [2, 3, 7, 16, 0] {
                let (many, same) = written(&source, &target(name), threads);
                assert!(many == one && same == report, "{name}, {threads} threads");
            }
            let g = Gguf::parse(&one).unwrap();
            assert_eq!((g.alignment(), one.len() % align as usize), (align as usize, 0));
            let mut want = vec![0; g.tensor("blk.0.ffn_up.weight").unwrap().data.len()];
            teff_kernels::quantize_row(target(name).base(), &x, &mut want);
            assert!(g.tensor("blk.0.ffn_up.weight").unwrap().data == want, "{name}");
            assert_eq!(g.tensor("blk.0.ffn_norm.weight").unwrap().data, 1f32.to_le_bytes());
        }
    }
}

#[test]
fn ternary_weights_stay_as_they_are() {
    let x: Vec<f32> = random(256 * 90).iter().map(|x| (x * 1.5).round() * 0.375 + 0.0).collect();
    let file = one_matrix(Format::F16, 256, &x, 32);
    let source = GgufSource::new(Gguf::parse(&file).unwrap()).unwrap();
    for name in ["I2_S", "TQ1_0", "TQ2_0"] {
        let (ternary, report) = written(&source, &target(name), 2);
        assert_eq!((report.rounded.len(), report.converted), (0, 1), "{name}");
        let source = GgufSource::new(Gguf::parse(&ternary).unwrap()).unwrap();
        assert_eq!(source.shape(0).format, target(name).base());
        let mut back = vec![0.0; x.len()];
        source.values(0, 0, &mut back);
        assert!(back == x, "{name}");
        source.values(0, 256, &mut back[..512]);
        assert!(back[..512] == x[256..768], "{name}");
        // And back, which must not happen by accident.
        let options = QuantizeOptions::default();
        let again = write(&source, &target("F16"), &options, Vec::new(), &mut |_| {});
        assert!(matches!(again, Err(QuantizeErrorKind::AlreadyQuantized { .. })), "{name}");
        let (dense, report) = written(&source, &target("F16"), 2);
        assert_eq!(report.requantized, ["blk.0.ffn_up.weight"]);
        let theirs = Gguf::parse(&file).unwrap();
        let dense = Gguf::parse(&dense).unwrap();
        assert!(
            dense.tensor("blk.0.ffn_up.weight").unwrap().data
                == theirs.tensor("blk.0.ffn_up.weight").unwrap().data
        );
    }
    let mut other = x;
    other[256 * 80] = 0.5;
    let file = one_matrix(Format::F32, 256, &other, 32);
    let source = GgufSource::new(Gguf::parse(&file).unwrap()).unwrap();
    let options = QuantizeOptions::default();
    let refused = write(&source, &target("I2_S"), &options, Vec::new(), &mut |_| {});
    let Err(QuantizeErrorKind::NotTernary { scale, found, .. }) = refused else {
        panic!("{refused:?}")
    };
    assert_eq!((scale, found), (0.375, 0.5));
    assert_eq!(written(&source, &target("TQ1_0"), 2).1.rounded, ["blk.0.ffn_up.weight"]);
}

/// Weights without a code are reported by position, and it is the first one whatever the threads.
#[test]
fn weights_that_are_no_numbers_are_refused() {
    let mut x = random(256 * 300);
    (x[70_000], x[5_000]) = (f32::NAN, f32::NEG_INFINITY);
    let try_to = |x: &[f32], name: &str| {
        let file = one_matrix(Format::F32, 256, x, 32);
        let source = GgufSource::new(Gguf::parse(&file).unwrap()).unwrap();
        let options = QuantizeOptions { threads: 4, ..QuantizeOptions::default() };
        write(&source, &target(name), &options, Vec::new(), &mut |_| {}).map(|_| ())
    };
    for name in ["Q8_0", "F16", "Q4_K_M", "TQ1_0"] {
        let e = try_to(&x, name).unwrap_err();
        assert!(matches!(e, QuantizeErrorKind::NotFinite { element: 5_000, .. }), "{name}: {e}");
    }
    x[70_000] = 0.5;
    x[5_000] = 1e9;
    for name in ["Q8_0", "F16", "Q4_0", "Q4_K_M", "TQ1_0"] {
        let e = try_to(&x, name).unwrap_err();
        assert!(matches!(e, QuantizeErrorKind::OutOfRange { .. }), "{name}: {e}");
    }
    assert!(try_to(&x, "BF16").is_ok());
    x[5_000] = 70_000.0; // too large for F16, but not with a scale
    assert!(try_to(&x, "F16").is_err() && try_to(&x, "Q8_0").is_ok());
}

#[test]
fn wrong_usage() {
    let (input, dir) = (data("gpt2-f32.gguf"), Dir::new("usage"));
    let out = dir.file("out.gguf");
    fails(&teff(["quantize"]), 2, &["model"]);
    fails(&teff([OsStr::new("quantize"), input.as_os_str()]), 2, &["file to write"]);
    fails(&quantize(&input, &out, &[]), 2, &["--to"]);
    fails(&quantize(&input, &out, &["--to", "Q9"]), 2, &["`Q9`", "Q4_K_M", "I2_S"]);
    fails(&quantize(&input, &out, &["--to", "Q8_0", "more"]), 2, &["`more`"]);
    fails(&quantize(&input, &out, &["--to", "Q8_0", "--fast"]), 2, &["--fast"]);
    fails(&quantize(&input, &out, &["--to", "Q8_0", "--threads", "0"]), 2, &["--threads"]);
    let help = teff(["quantize", "--help"]);
    let text = String::from_utf8(help.stdout).unwrap();
    assert!(text.starts_with("usage: teff quantize IN.gguf OUT.gguf --to FORMAT"));
    assert!(text.lines().all(|l| l.len() <= 100), "{text}");
    for target in Target::ALL {
        let listed = text.split_whitespace().any(|w| w == target.name());
        assert!(listed, "{}", target.name());
    }
    assert_eq!(dir.names(), [""; 0]);
}

#[test]
fn a_failure_leaves_no_file_behind() {
    let (input, dir) = (data("gpt2-f32.gguf"), Dir::new("fail"));
    let out = dir.file("out.gguf");
    let q8 = ["--to", "Q8_0"];
    let quantized = data("gpt2-Q8_0.gguf");
    let first = "blk.0.attn_output.weight";
    fails(
        &quantize(&quantized, &out, &["--to", "Q4_0"]),
        1,
        &[first, "Q8_0", "--allow-requantize"],
    );
    fails(&quantize(&input, &out, &["--to", "I2_S"]), 1, &["blk.0.ffn_down.weight", "ternary"]);
    fails(&quantize(&dir.file("none.gguf"), &out, &q8), 1, &["none.gguf"]);
    fails(&quantize(&input, &dir.file("no/out.gguf"), &q8), 1, &["no/out.gguf"]);
    fails(&quantize(&input, &dir.0, &q8), 1, &["regular file"]);
    fails(&quantize(&dir.0, &out, &q8), 1, &["folder"]);
    let bytes = fs::read(&input).unwrap();
    fs::write(dir.file("cut.gguf"), &bytes[..bytes.len() - 64]).unwrap();
    fails(&quantize(&dir.file("cut.gguf"), &out, &q8), 1, &["cut.gguf", "token_embd.weight"]);
    fs::write(dir.file("text.gguf"), "Once upon a time").unwrap();
    fails(&quantize(&dir.file("text.gguf"), &out, &q8), 1, &["text.gguf", "GGUF"]);
    // The model itself, under any name.
    fs::write(dir.file("in.gguf"), &bytes).unwrap();
    let same = dir.file("in.gguf");
    fails(&quantize(&same, &same, &q8), 1, &["in.gguf", "the model itself"]);
    fails(&quantize(&same, &dir.file("./in.gguf"), &q8), 1, &["the model itself"]);
    #[cfg(unix)]
    {
        fs::hard_link(&same, dir.file("hard.gguf")).unwrap();
        std::os::unix::fs::symlink(&same, dir.file("soft.gguf")).unwrap();
        fails(&quantize(&same, &dir.file("hard.gguf"), &q8), 1, &["the model itself"]);
        fails(&quantize(&same, &dir.file("soft.gguf"), &q8), 1, &["the model itself"]);
        fails(&quantize(&same, Path::new("/dev/null"), &q8), 1, &["regular file"]);
        for link in ["hard.gguf", "soft.gguf"] {
            fs::remove_file(dir.file(link)).unwrap();
        }
    }
    assert!(fs::read(&same).unwrap() == bytes);
    // An existing file is only replaced by a complete one.
    fs::write(&out, "old").unwrap();
    fails(&quantize(&quantized, &out, &["--to", "Q4_0"]), 1, &[first]);
    assert_eq!(fs::read(&out).unwrap(), b"old");
    let o = quantize(&quantized, &out, &["--to", "Q4_0", "--allow-requantize"]);
    assert_eq!(o.status.code(), Some(0));
    assert!(err(&o).contains("warning") && err(&o).contains("quantised before"), "{}", err(&o));
    assert!(fs::read(&out).unwrap().starts_with(b"GGUF"));
    // The same format again is a copy.
    let o = quantize(&quantized, &out, &q8);
    assert_eq!((o.status.code(), err(&o)), (Some(0), ""));
    assert_same(&fs::read(&out).unwrap(), &fs::read(&quantized).unwrap(), "copy");
    assert_eq!(dir.names(), ["cut.gguf", "in.gguf", "out.gguf", "text.gguf"]);
}

#[test]
fn tensors_that_share_bytes_and_split_models_are_refused() {
    let mut file = one_matrix(Format::F32, 256, &random(256 * 4), 32);
    let at = |file: &[u8], name: &str| {
        file.windows(name.len()).position(|w| w == name.as_bytes()).unwrap() + name.len()
    };
    // The offset of the norm follows its name, one dimension and its format.
    let offset = at(&file, "blk.0.ffn_norm.weight") + 4 + 8 + 4;
    file[offset..offset + 8].copy_from_slice(&32u64.to_le_bytes());
    let refused = GgufSource::new(Gguf::parse(&file).unwrap());
    assert!(matches!(refused, Err(QuantizeErrorKind::Overlap { .. })), "{refused:?}");
    let mut h = GgufHeader::new();
    h.put("split.count", GgufValue::U16(3)).unwrap();
    let file = h.write(Vec::new()).unwrap().finish().unwrap();
    let refused = GgufSource::new(Gguf::parse(&file).unwrap());
    assert!(matches!(refused, Err(QuantizeErrorKind::Split { parts: 3 })), "{refused:?}");
}
