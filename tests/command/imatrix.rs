//! `teff imatrix`, and `teff quantize` with importance matrices and types given by hand.

#![cfg(feature = "cli")]

use std::fs;
use std::path::{Path, PathBuf};

use crate::common::command::{Dir, err, fails, ok, out, teff};
use crate::common::{data, oracle, tiny};
use teff::kernels::{quantize_row, quantize_row_weighted};
use teff::{Format, LoadOptions, Model, SessionOptions};
use teff_graph::gguf::{Gguf, GgufValue};
use teff_runtime::gguf_write::GgufHeader;
use teff_runtime::imatrix::{ImatrixOptions, collect};
use teff_runtime::quantize::ImportanceMatrix;

/// A file of the repository's tests.
fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

/// Sums and counts of a matrix.
type Entry = (String, Vec<f32>, Vec<f32>);

/// The matrices of a GGUF file's layers, with importances that differ from column to column, and from
/// expert to expert; the second expert was never used.
fn entries(gguf: &Gguf<'_>) -> Vec<Entry> {
    let mut all = Vec::new();
    for t in gguf.tensors().filter(|t| t.n_dims > 1 && t.name.starts_with("blk.")) {
        let (cols, experts) = (t.dims[0] as usize, t.dims[2].max(1) as usize);
        let sums = (0..cols * experts).map(|i| (i * 37 % 101 + 1) as f32 / 8.0).collect();
        let counts = (0..experts).map(|e| if e == 1 { 0.0 } else { 40.0 + e as f32 }).collect();
        all.push((t.name.to_owned(), sums, counts));
    }
    all
}

fn gguf_form(entries: &[Entry]) -> Vec<u8> {
    let mut header = GgufHeader::new();
    header.put("general.type", GgufValue::Str("imatrix")).unwrap();
    header.put_strings("imatrix.datasets", ["a.txt"]).unwrap();
    header.put("imatrix.chunk_count", GgufValue::U32(3)).unwrap();
    header.put("imatrix.chunk_size", GgufValue::U32(512)).unwrap();
    for (name, sums, counts) in entries {
        let n = counts.len() as u64;
        let dims = [sums.len() as u64 / n, n];
        header.tensor(&format!("{name}.in_sum2"), Format::F32, &dims).unwrap();
        header.tensor(&format!("{name}.counts"), Format::F32, &[1, n]).unwrap();
    }
    let bytes = |x: &[f32]| -> Vec<u8> { x.iter().flat_map(|x| x.to_le_bytes()).collect() };
    let mut data = header.write(Vec::new()).unwrap();
    for (name, sums, counts) in entries {
        data.write(&format!("{name}.in_sum2"), &bytes(sums)).unwrap();
        data.write(&format!("{name}.counts"), &bytes(counts)).unwrap();
    }
    data.finish().unwrap()
}

/// The old form: means times the number of calls, here 4.
fn old_form(entries: &[Entry]) -> Vec<u8> {
    let word = |n: usize| (n as i32).to_le_bytes();
    let mut bytes = word(entries.len()).to_vec();
    for (name, sums, counts) in entries {
        bytes.extend(word(name.len()));
        bytes.extend(name.as_bytes());
        bytes.extend(word(4));
        bytes.extend(word(sums.len()));
        let cols = sums.len() / counts.len();
        let mean = |(i, x): (usize, &f32)| match counts[i / cols] {
            0.0 => 1.0,
            count => x / count,
        };
        bytes.extend(sums.iter().enumerate().map(mean).flat_map(|x| (x * 4.0).to_le_bytes()));
    }
    bytes.extend(word(3));
    bytes.extend(word(5));
    bytes.extend(b"a.txt");
    bytes
}

/// Values of a tensor.
fn values(format: Format, bytes: &[u8]) -> Vec<f32> {
    let mut x = vec![0.0; bytes.len() / format.block_bytes() * format.block_len()];
    teff::kernels::dequantize_row(format, bytes, &mut x);
    x
}

/// A small model with experts as a GGUF file in F32.
fn experts(dir: &Dir) -> PathBuf {
    let (folder, file) = (dir.file("experts"), dir.file("experts.gguf"));
    fs::create_dir_all(&folder).unwrap();
    tiny::qwen3moe("").write(&folder, Format::F32);
    let tokenizer = file_of_tokenizer();
    for name in ["tokenizer.json", "tokenizer_config.json"] {
        fs::copy(tokenizer.join(name), folder.join(name)).unwrap();
    }
    ok(&teff(["quantize".as_ref(), folder.as_os_str(), file.as_os_str(), "F32".as_ref()]));
    file
}

fn file_of_tokenizer() -> PathBuf {
    data("tokenizer.json").parent().unwrap().to_owned()
}

/// Runs `teff quantize IN OUT ARGS` with paths in `args` already.
fn quantize(input: &Path, output: &Path, args: &[&str]) -> std::process::Output {
    let files = ["quantize".as_ref(), input.as_os_str(), output.as_os_str()];
    teff(files.into_iter().chain(args.iter().map(std::ffi::OsStr::new)))
}

/// Every matrix is quantised with its own importances, experts with theirs, in both forms of the file.
#[test]
fn importances_reach_their_matrices() {
    let dir = Dir::new("imatrix-reach");
    let input = experts(&dir);
    let bytes = fs::read(&input).unwrap();
    let source = Gguf::parse(&bytes).unwrap();
    let mut entries = entries(&source);
    let (matrix, old, output) = (dir.file("m.gguf"), dir.file("m.dat"), dir.file("out.gguf"));
    // One matrix is not there.
    let lacking = entries.remove(0).0;
    fs::write(&matrix, gguf_form(&entries)).unwrap();
    fs::write(&old, old_form(&entries)).unwrap();
    let means = ImportanceMatrix::open(&matrix).unwrap();
    assert_eq!((means.len(), means.chunks(), means.dataset()), (entries.len(), 3, Some("a.txt")));
    for name in ["Q4_K_M", "Q2_K_S", "Q5_1", "IQ4_NL", "Q8_0"] {
        let matrix = matrix.to_str().unwrap();
        let o = quantize(&input, &output, &[name, "--imatrix", matrix, "--threads", "2"]);
        // It can't do without.
        if name == "Q2_K_S" {
            fails(&o, 1, &[&lacking, "--tensor-type"]);
            let kept = format!("{lacking}=Q8_0");
            let args = [name, "--imatrix", matrix, "--tensor-type", &kept];
            ok(&quantize(&input, &output, &args));
        } else {
            assert_eq!(o.status.code(), Some(0), "{}", err(&o));
            assert_eq!(err(&o).contains(&lacking), name != "Q8_0", "{}", err(&o));
        }
        let file = fs::read(&output).unwrap();
        let gguf = Gguf::parse(&file).unwrap();
        for t in gguf.tensors() {
            let from = source.tensor(t.name).unwrap();
            if t.format == from.format {
                continue;
            }
            let x = values(from.format, from.data);
            let (cols, rows) = (t.dims[0] as usize, t.dims[1] as usize);
            let mut want = Vec::new();
            for (r, x) in x.chunks(cols).enumerate() {
                let mut row = vec![0; t.format.row_bytes(cols).unwrap()];
                match means.get(t.name) {
                    Some(w) => {
                        let w = &w[r / rows * cols..][..cols];
                        quantize_row_weighted(t.format, x, w, &mut row);
                    }
                    None => quantize_row(t.format, x, &mut row),
                }
                want.extend(row);
            }
            assert!(want == t.data, "{name}: {}", t.name);
        }
        let key = |key: &str| gguf.value(&format!("quantize.imatrix.{key}"));
        assert_eq!(key("file"), Some(GgufValue::Str(matrix)));
        assert_eq!(key("dataset"), Some(GgufValue::Str("a.txt")));
        assert_eq!(key("entries_count"), Some(GgufValue::U32(entries.len() as u32)));
        assert_eq!(key("chunks_count"), Some(GgufValue::U32(3)));
    }
    let again = dir.file("again.gguf");
    for (output, matrix) in [(&output, &matrix), (&again, &old)] {
        ok(&quantize(&input, output, &["Q4_K_M", "--imatrix", matrix.to_str().unwrap()]));
    }
    let (a, b) = (fs::read(&output).unwrap(), fs::read(&again).unwrap());
    let (a, b) = (Gguf::parse(&a).unwrap(), Gguf::parse(&b).unwrap());
    // Means times calls, divided by calls: exact, as four is a power of two.
    assert!(a.tensors().zip(b.tensors()).all(|(a, b)| a.data == b.data));
}

#[test]
fn importances_that_do_not_fit_are_named() {
    let dir = Dir::new("imatrix-fit");
    let input = file("llama-iq/llama-iq-IQ4_XS.gguf");
    let bytes = fs::read(&input).unwrap();
    let all = entries(&Gguf::parse(&bytes).unwrap());
    let (matrix, output) = (dir.file("m.gguf"), dir.file("out.gguf"));
    let run = |bytes: &[u8], to: &str| {
        fs::write(&matrix, bytes).unwrap();
        let matrix = matrix.to_str().unwrap();
        quantize(&input, &output, &["--allow-requantize", "--to", to, "--imatrix", matrix])
    };
    ok(&run(&gguf_form(&all), "Q2_K_S"));
    let without = quantize(&input, &output, &["--allow-requantize", "--to", "Q2_K_S"]);
    fails(&without, 1, &["blk.0.attn_k.weight", "Q2_K", "--imatrix"]);

    let changed = |change: &dyn Fn(&mut Vec<Entry>)| {
        let mut all = all.clone();
        change(&mut all);
        all
    };
    let narrow = changed(&|all| all[0].1.truncate(100));
    fails(&run(&gguf_form(&narrow), "Q4_K"), 1, &[&all[0].0, "100 numbers", "256"]);
    let foreign = changed(&|all| all.iter_mut().for_each(|e| e.0.insert(0, 'x')));
    fails(&run(&gguf_form(&foreign), "Q4_K"), 1, &["another model", "xblk.0"]);
    let more = changed(&|all| all.push(("blk.7.attn_q.weight".into(), vec![1.0; 256], vec![1.0])));
    let o = run(&gguf_form(&more), "Q4_K");
    assert!(err(&o).contains("`blk.7.attn_q.weight`, which the model lacks"), "{}", err(&o));
    // The embedding is looked up, not multiplied: llama.cpp takes no offence either.
    let embedding = changed(&|all| all.push(("token_embd.weight".into(), vec![1.0; 7], vec![1.0])));
    ok(&run(&gguf_form(&embedding), "Q4_K"));

    for bad in [f32::NAN, f32::INFINITY, -1.0] {
        let broken = changed(&|all| all[2].1[9] = bad);
        fails(&run(&gguf_form(&broken), "Q4_K"), 1, &[&all[2].0, "damaged"]);
        fails(&run(&old_form(&broken), "Q4_K"), 1, &[&all[2].0, "damaged"]);
    }
    let uneven = changed(&|all| all[1].2 = vec![1.0; 3]);
    // Their shape says otherwise: 256 numbers are no three rows.
    assert!(std::panic::catch_unwind(|| gguf_form(&uneven)).is_err());
    let (whole, old) = (gguf_form(&all), old_form(&all));
    fails(&run(&bytes, "Q4_K"), 1, &["imatrix.datasets"]);
    fails(&run(b"", "Q4_K"), 1, &["teff imatrix"]);
    fails(&run(&old[..200], "Q4_K"), 1, &["teff imatrix"]);
    fails(&run(&whole[..whole.len() - 4000], "Q4_K"), 1, &["m.gguf"]);
    for cut in (0..old.len().min(3000)).step_by(7) {
        let _ = ImportanceMatrix::parse(&old[..cut]);
    }
    for (i, part) in [".in_sum2", ".counts"].into_iter().enumerate() {
        // The name of one tensor, changed.
        let name = format!("{}{part}", all[0].0);
        let at = whole.windows(name.len()).position(|w| w == name.as_bytes()).unwrap();
        let mut whole = whole.clone();
        whole[at + name.len() - 1] = b'x';
        fails(&run(&whole, "Q4_K"), 1, &[[".in_sum2", ".counts"][i], &all[0].0]);
    }
}

#[test]
fn types_are_given_by_hand() {
    let dir = Dir::new("types");
    let (input, output) = (file("llama-iq/llama-iq-IQ4_XS.gguf"), dir.file("out.gguf"));
    let types = |args: &[&str]| {
        let o = quantize(&input, &output, &[&["--allow-requantize", "Q4_0"], args].concat());
        assert_eq!(o.status.code(), Some(0), "{}", err(&o));
        let bytes = fs::read(&output).unwrap();
        let gguf = Gguf::parse(&bytes).unwrap();
        let format = |name: &str| gguf.tensor(name).unwrap().format;
        let names = ["attn_q", "attn_v", "ffn_gate", "ffn_down"];
        let mut all: Vec<_> = names.iter().map(|n| format(&format!("blk.0.{n}.weight"))).collect();
        all.extend(["output.weight", "token_embd.weight", "blk.0.attn_norm.weight"].map(format));
        (all, err(&o).to_owned())
    };
    use Format as F;
    let (plain, _) = types(&[]);
    assert_eq!(plain, [F::Q4_0, F::Q4_0, F::Q4_0, F::Q4_0, F::Q6_K, F::Q4_0, F::F32]);
    // The first that matches counts; capitals are small letters; norms stay.
    let (by_hand, line) = types(&[
        "--tensor-type",
        "ATTN_v=f32",
        "--tensor-type",
        r"\.[0-3]\.ffn_(gate|up)=q6_k",
        "--tensor-type",
        "ffn=q8_0",
        "--tensor-type",
        "norm=f16",
        "--tensor-type",
        "nothing=q8_0",
        "--output-tensor-type",
        "Q5_K",
        "--token-embedding-type",
        "F16",
    ]);
    assert_eq!(by_hand, [F::Q4_0, F::F32, F::Q6_K, F::Q8_0, F::Q5_K, F::F16, F::F32]);
    for pattern in ["`norm`", "`nothing`"] {
        assert!(line.contains(&format!("warning: {pattern} matches no tensor")), "{line}");
    }
    // Patterns in a file; those of the head and the embedding go before them.
    let list = dir.write("types.txt", b"attn_q=Q8_0\noutput=F16 token=Q8_0\n\n");
    let (from_file, _) = types(&["--tensor-type-file", &list, "--output-tensor-type", "Q8_0"]);
    // `output` matches `attn_output` and `output_norm` too.
    assert_eq!(from_file, [F::Q8_0, F::Q4_0, F::Q4_0, F::Q4_0, F::Q8_0, F::Q8_0, F::F32]);
    let (pure, _) = types(&["--pure", "--tensor-type", "attn_v=Q8_0"]);
    assert_eq!(pure, [F::Q4_0, F::Q8_0, F::Q4_0, F::Q4_0, F::Q4_0, F::Q4_0, F::F32]);
    for (arg, names) in [
        ("attn_v", "PATTERN=TYPE"),
        ("=Q8_0", "PATTERN=TYPE"),
        ("attn_v=Q9", "`Q9`"),
        ("attn_v=", "``"),
        ("(=Q8_0", "`(`"),
        (r"\D=Q8_0", r"`\D`"),
        (r"(a)\1=Q8_0", r"\1"),
    ] {
        fails(&quantize(&input, &output, &["Q4_0", "--tensor-type", arg]), 2, &[names]);
    }
    fails(&quantize(&input, &output, &["Q4_0", "--output-tensor-type", "x"]), 2, &["`x`"]);
    let both = ["Q4_0", "--imatrix", "x", "--include-weights", "a", "--exclude-weights", "b"];
    fails(&quantize(&input, &output, &both), 2, &["can't be given together"]);
}

/// Rows that are not whole blocks get what llama-quantize gives them.
#[test]
fn types_fall_back_where_rows_do_not_fit() {
    let dir = Dir::new("types-fit");
    let (input, output) = (data("gpt2-f32.gguf"), dir.file("out.gguf"));
    for (name, got) in
        [("Q2_K", "Q4_0"), ("Q3_K", "Q4_0"), ("Q4_K", "Q5_0"), ("Q5_K", "Q5_1"), ("Q6_K", "Q8_0")]
    {
        let given = format!("ffn_up={name}");
        let o = quantize(&input, &output, &["Q8_0", "--tensor-type", &given]);
        let says = format!("rows don't fit {name}, {got} instead");
        assert!(err(&o).contains(&says), "{}", err(&o));
    }
}

/// llama.cpp's choices with an importance matrix, of a deep model: of `ffn_down`, by layer.
#[test]
fn mixes_with_importances_are_llama_cpp_s() {
    use teff_runtime::quantize::{Facts, Overrides, Shape, Target, plan_with};
    let facts = Facts { layers: 16, group: 4, experts: 0, is_70b: false };
    let names: Vec<String> = (0..16).map(|l| format!("blk.{l}.ffn_down.weight")).collect();
    let shapes: Vec<_> =
        names.iter().map(|name| Shape { name, dims: &[256, 256], format: Format::F32 }).collect();
    for (name, without, with) in [
        ("Q4_0", Format::Q4_0, Format::Q4_1),
        ("Q5_0", Format::Q5_0, Format::Q5_1),
        ("Q4_1", Format::Q4_1, Format::Q4_1),
        ("IQ4_XS", Format::Q5_K, Format::IQ4_XS),
        ("IQ4_NL", Format::Q5_K, Format::IQ4_NL),
        ("Q4_K_S", Format::Q5_K, Format::Q5_K),
        ("Q2_K_S", Format::Q4_K, Format::Q4_K),
    ] {
        let target = Target::from_name(name).unwrap();
        for (importances, first) in [(false, without), (true, with)] {
            let all = plan_with(&target, &facts, &Overrides::default(), importances, &shapes);
            let rest = target.base();
            let want = (0..16).map(|l| if l < 2 { first } else { rest });
            assert!(all.iter().map(|c| c.format).eq(want), "{name} {importances}");
        }
    }
}

/// The oracle's files, made with an importance matrix: the formats of their tensors.
#[test]
fn mixes_of_low_bits_are_llama_cpp_s() {
    use teff_runtime::quantize::{Facts, Overrides, Shape, Target, plan_with};
    let Some(folder) = oracle("llama-iq") else { return };
    for name in ["IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S", "IQ4_XS"] {
        let bytes = fs::read(folder.join(format!("llama-iq-{name}.gguf"))).unwrap();
        let gguf = Gguf::parse(&bytes).unwrap();
        let tensors: Vec<_> = gguf.tensors().collect();
        let shapes: Vec<_> = tensors
            .iter()
            .map(|t| Shape { name: t.name, dims: &t.dims[..t.n_dims], format: Format::F32 })
            .collect();
        let target = Target::from_name(name).unwrap();
        let facts = Facts::of_gguf(&gguf);
        let choices = plan_with(&target, &facts, &Overrides::default(), true, &shapes);
        for (t, choice) in tensors.iter().zip(choices) {
            assert_eq!(choice.format, t.format, "{name}: {}", t.name);
        }
        let file_type = GgufValue::U32(target.file_type());
        assert_eq!(gguf.value("general.file_type"), Some(file_type), "{name}");
    }
}

/// Sums of the first layer are those of its normalised inputs; every token takes its experts.
#[test]
fn sums_are_those_of_the_inputs() {
    let model = Model::open(file("qwen3moe/qwen3moe-Q4_K_M.gguf")).unwrap();
    let vocab = model.spec().vocab;
    let tokens: Vec<u32> = (0..70u32).map(|i| i * 31 % vocab).collect();
    let options = ImatrixOptions::default().with_chunk(16).with_skip(1).with_chunks(3);
    let run = |threads: usize| {
        let session =
            SessionOptions { threads: Some(threads), oversubscribe: true, ..Default::default() };
        collect(&model, &tokens, &session, &options, |_, _| {}).unwrap()
    };
    let sums = run(1);
    assert_eq!(sums, run(3));
    assert_eq!(sums.chunks(), 3);
    assert_eq!(sums.counts("blk.0.attn_q.weight"), Some(&[48][..]));
    assert_eq!(sums.sums("blk.0.attn_q.weight"), sums.sums("blk.0.attn_k.weight"));
    assert!(sums.names().all(|n| n.starts_with("blk.")));
    for layer in 0..2 {
        let counts = |part: &str| sums.counts(&format!("blk.{layer}.{part}.weight")).unwrap();
        let used = counts("ffn_gate_exps");
        assert_eq!(used, counts("ffn_down_exps"));
        assert_eq!(used, counts("ffn_up_exps"));
        assert!(used.len() > 1 && used.iter().sum::<u64>() == 48 * 2, "{used:?}");
        // What all experts see together is twice what the choice of them sees.
        let router = sums.sums(&format!("blk.{layer}.ffn_gate_inp.weight")).unwrap();
        let experts = sums.sums(&format!("blk.{layer}.ffn_gate_exps.weight")).unwrap();
        for (i, router) in router.iter().enumerate() {
            let all: f64 = experts.iter().skip(i).step_by(router_width(&sums, layer)).sum();
            // Experts are quantised, and see rounded inputs.
            assert!((all - 2.0 * router).abs() <= 0.05 * router + 1e-3, "{all} {router}");
        }
    }
    let file = sums.write("a.txt", Vec::new()).unwrap();
    let matrix = ImportanceMatrix::parse(&file).unwrap();
    assert_eq!((matrix.len(), matrix.chunks()), (sums.names().count(), 3));
}

fn router_width(sums: &teff_runtime::imatrix::Sums, layer: usize) -> usize {
    sums.sums(&format!("blk.{layer}.ffn_gate_inp.weight")).unwrap().len()
}

/// An independent program in f64 over the oracle's Llama, in the first layer: normalised embeddings.
#[test]
fn sums_of_floats_are_exact() {
    let Some(folder) = oracle("llama") else { return };
    let model = Model::open_with(&folder, &LoadOptions::default()).unwrap();
    let tokens: Vec<u32> = (0..128u32).map(|i| 3 + i * 7 % 200).collect();
    let options = ImatrixOptions::default().with_chunk(64);
    let sums = collect(&model, &tokens, &SessionOptions::default(), &options, |_, _| {}).unwrap();
    let bytes = fs::read(folder.join("model.safetensors")).unwrap();
    let file = teff_runtime::safetensors::SafeTensors::parse(&bytes).unwrap();
    let floats = |name: &str| -> Vec<f64> {
        let words = file.get(name).unwrap().data.as_chunks::<4>().0;
        words.iter().map(|b| f64::from(f32::from_le_bytes(*b))).collect()
    };
    let (table, norm) =
        (floats("model.embed_tokens.weight"), floats("model.layers.0.input_layernorm.weight"));
    let (width, bos) = (norm.len(), model.tokenizer().unwrap().bos().unwrap());
    let mut want = vec![0.0; width];
    for (i, &token) in tokens.iter().enumerate() {
        let token = if i % 64 == 0 { bos } else { token };
        let x = &table[token as usize * width..][..width];
        let mean = x.iter().map(|x| x * x).sum::<f64>() / width as f64;
        for (w, (x, n)) in want.iter_mut().zip(x.iter().zip(&norm)) {
            *w += (x / (mean + 1e-5).sqrt() * n).powi(2);
        }
    }
    let got = sums.sums("blk.0.attn_q.weight").unwrap();
    for (got, want) in got.iter().zip(&want) {
        assert!((got - want).abs() <= 1e-5 * want, "{got} {want}");
    }
}

#[test]
fn the_command_writes_what_quantize_takes() {
    let dir = Dir::new("imatrix-command");
    let model = data("gpt2-f32.gguf");
    let model = model.to_str().unwrap();
    let text = "Once upon a time there was a small grain of wheat. ".repeat(20);
    let text = dir.write("text.txt", text.as_bytes());
    let (matrix, twice) = (dir.file("m.gguf"), dir.file("n.gguf"));
    let (matrix, twice) = (matrix.to_str().unwrap(), twice.to_str().unwrap());
    let o = teff(["imatrix", model, "-f", &text, "-o", matrix, "-c", "16", "--chunks", "5"]);
    assert!(ok(&o).contains("from 5 chunks of 16 tokens"), "{}", out(&o));
    ok(&teff(["imatrix", model, "-f", &text, "-o", twice, "-c", "16", "--chunks", "5", "-t", "2"]));
    assert!(fs::read(matrix).unwrap() == fs::read(twice).unwrap());
    // With flags of llama-imatrix.
    let habits = ["-ofreq", "10", "--no-ppl", "-nr", "-ngl", "99"];
    let args = ["imatrix", "-m", model, "-f", &text, "-o", twice, "-c", "16", "--chunks", "1"];
    let o = teff([&args[..], &habits].concat());
    assert!(ok(&o).contains("from 1 chunk of 16 tokens"), "{}", out(&o));
    assert!(err(&o).contains("-ofreq has no effect"), "{}", err(&o));
    let small = dir.file("small.gguf");
    let o = teff(["quantize", model, small.to_str().unwrap(), "Q4_0", "--imatrix", matrix]);
    assert!(!err(&o).contains("importance"), "{}", err(&o));
    ok(&o);
    assert!(!dir.file("m.gguf.part").exists());

    let few = dir.write("few.txt", b"Once");
    fails(&teff(["imatrix", model, "-f", &few, "-c", "16"]), 1, &["32 are needed"]);
    fails(&teff(["imatrix", model]), 2, &["--file"]);
    fails(&teff(["imatrix", model, "-f", "no-such-file"]), 1, &["no-such-file"]);
    fails(&teff(["imatrix", model, "-f", &text, "-o", model]), 1, &["the model itself"]);
}
