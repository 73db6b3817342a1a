//! Models whose matrices were repacked when loading: the same bits on every backend that supports
//! them, an error on the others, and memory that is known in advance.

use std::path::{Path, PathBuf};

use crate::common::{data, golden, logits};
use teff::graph::{Head, Role};
use teff::kernels::{Backend, REPACK_ROWS, Scalar, repacked_bytes};
use teff::runtime::model::LoadErrorKind;
use teff::{Cpu, Format, LoadOptions, LogitsFor, Model, SessionError, SessionOptions};

/// All formats that can be repacked, with tied and separate heads, and rows that are not multiples
/// of sixteen.
const FILES: [&str; 13] = [
    "gpt2-Q4_0.gguf",
    "gpt2-Q4_1.gguf",
    "gpt2-Q5_0.gguf",
    "gpt2-Q5_1.gguf",
    "gpt2-Q8_0.gguf",
    "../gpt2-k/gpt2-k-Q2_K.gguf",
    "../llama-iq/llama-iq-IQ4_XS.gguf",
    "../gpt2-k/gpt2-k-Q3_K_S.gguf",
    "../gpt2-k/gpt2-k-Q4_K_M.gguf",
    "../gpt2-k/gpt2-k-Q5_K_S.gguf",
    "../llama/llama-Q2_K.gguf",
    "../gemma3/gemma3-Q4_0.gguf",
    "../qwen3/qwen3-Q4_0.gguf",
];

/// Backends of this machine that read repacked matrices; the others are printed.
fn repackers() -> Vec<Cpu> {
    let mut found = Vec::new();
    for name in Cpu::NAMES {
        match Cpu::by_name(name) {
            Ok(cpu) if Format::ALL.into_iter().any(|f| cpu.repacks(f)) => found.push(cpu),
            Ok(_) => println!("skipped: {name}: it repacks nothing"),
            Err(_) => println!("skipped: {name}: this machine lacks it"),
        }
    }
    found
}

fn open(path: &Path, options: LoadOptions) -> Model {
    Model::open_with(path, &options).unwrap()
}

fn repack(cpu: Cpu) -> LoadOptions {
    LoadOptions { repack: Some(cpu), ..LoadOptions::default() }
}

fn options(cpu: Cpu, threads: usize, batch: usize) -> SessionOptions {
    let (backend, threads) = (Some(cpu), Some(threads));
    SessionOptions { backend, threads, batch, logits: batch, ..SessionOptions::default() }
}

fn tokens(model: &Model) -> Vec<u32> {
    let golden = golden(&data("gpt2-f32.gguf.golden.safetensors")).tokens;
    golden.into_iter().take(24).map(|t| t % model.spec().vocab).collect()
}

fn all_logits(model: &Model, (cpu, threads, chunk): (Cpu, usize, usize)) -> Vec<u32> {
    let mut session = model.session(&options(cpu, threads, chunk)).unwrap();
    logits(&mut session, &tokens(model), chunk).iter().map(|x| x.to_bits()).collect()
}

/// Compares the repacked model's bits to those of the plain one.
fn same_bits(plain: &Model, repacked: &Model, cpu: Cpu, what: &str) {
    let n = tokens(plain).len();
    let want = all_logits(plain, (Cpu::best(), 1, n));
    for threads in [1, 2] {
        for chunk in [1, 3, n] {
            let got = all_logits(repacked, (cpu, threads, chunk));
            assert!(got == want, "{what}: {cpu:?}, {threads} threads, chunks of {chunk}");
        }
    }
}

#[test]
fn repacked_models_have_the_same_bits() {
    for cpu in repackers() {
        let mut formats = Vec::new();
        for file in FILES {
            let path = data(file);
            let (plain, model) = (Model::open(&path).unwrap(), open(&path, repack(cpu)));
            formats.extend(model.tensor_infos().filter(|t| t.repacked).map(|t| t.format));
            same_bits(&plain, &model, cpu, file);
        }
        // There is no file of these formats here: they are quantised when the model is loaded.
        for format in [Format::IQ4_NL, Format::MXFP4].into_iter().filter(|&f| cpu.repacks(f)) {
            let path = data("gpt2-f32.gguf");
            let options = LoadOptions { quantize: Some(format), ..LoadOptions::default() };
            let (plain, model) =
                (open(&path, options), open(&path, LoadOptions { repack: Some(cpu), ..options }));
            formats.extend(model.tensor_infos().filter(|t| t.repacked).map(|t| t.format));
            same_bits(&plain, &model, cpu, format.name());
        }
        for format in Format::ALL.into_iter().filter(|&f| cpu.repacks(f)) {
            assert!(formats.contains(&format), "{format} was not tested on {cpu:?}");
        }
    }
}

#[test]
fn matrices_of_products_are_repacked_and_nothing_else() {
    for cpu in repackers() {
        let mut tied_heads = 0;
        for file in FILES {
            let (path, mut sum) = (data(file), 0);
            let (plain, model) = (Model::open(&path).unwrap(), open(&path, repack(cpu)));
            let tied = model.spec().head == Head::Tied;
            for (t, was) in model.tensor_infos().zip(plain.tensor_infos()) {
                let product = match t.role {
                    Role::PositionEmbd => false,
                    Role::TokenEmbd => tied,
                    _ => t.rows >= REPACK_ROWS,
                };
                assert_eq!(t.repacked, product && cpu.repacks(t.format), "{file}: {}", t.name);
                if t.repacked {
                    assert_eq!(Some(t.bytes), repacked_bytes(t.format, t.rows, t.cols));
                    assert!(!t.in_place);
                    sum += t.bytes as u64;
                    tied_heads += u32::from(t.role == Role::TokenEmbd);
                } else {
                    assert_eq!(t, was);
                }
            }
            assert!(model.owned_bytes() >= plain.owned_bytes() + sum, "{file}");
            assert!(model.weight_bytes() >= plain.weight_bytes(), "{file}");
        }
        assert!(tied_heads > 0, "{cpu:?}");
    }
}

/// Matrices that are transposed and quantised before, including a copy of the embedding.
#[test]
fn what_is_converted_is_repacked_too() {
    let (folder, file) = (data(""), data("gpt2-f32.gguf"));
    let cases: [(&PathBuf, Option<Format>, Option<Format>); 4] = [
        (&folder, Some(Format::Q4_0), None),
        (&folder, Some(Format::Q5_1), Some(Format::Q4_0)),
        (&file, None, Some(Format::Q5_0)),
        (&file, Some(Format::Q4_1), None),
    ];
    for cpu in repackers() {
        for (path, quantize, head) in cases {
            let converted = LoadOptions { quantize, head, ..LoadOptions::default() };
            let plain = open(path, converted);
            let model = open(path, LoadOptions { repack: Some(cpu), ..converted });
            assert!(model.tensor_infos().any(|t| t.repacked));
            same_bits(&plain, &model, cpu, &format!("{quantize:?}, head {head:?}"));
        }
    }
}

/// The budget of loading covers the model's owned memory, and room for the largest matrix that is
/// converted before it is repacked.
#[test]
fn the_budget_knows_of_repacking() {
    let Some(cpu) = repackers().pop() else { return };
    let read = LoadOptions { mmap: false, ..repack(cpu) };
    let quantized = LoadOptions { quantize: Some(Format::Q4_0), ..repack(cpu) };
    for (path, options) in [
        (data("gpt2-Q4_1.gguf"), repack(cpu)),
        (data("gpt2-Q4_1.gguf"), read),
        (data("gpt2-f32.gguf"), quantized),
        (data(""), quantized),
    ] {
        let model = open(&path, options);
        let converted = model.tensor_infos().filter(|t| t.repacked && options.quantize.is_some());
        let room = converted.filter_map(|t| t.format.tensor_bytes(t.rows, t.cols)).max();
        let needed = model.owned_bytes() + room.unwrap_or(0) as u64;
        let with =
            |budget| Model::open_with(&path, &LoadOptions { budget: Some(budget), ..options });
        assert_eq!(with(needed).unwrap().owned_bytes(), model.owned_bytes());
        match with(needed - 1).unwrap_err().kind {
            LoadErrorKind::Budget { needed: n, allowed } => {
                assert_eq!((n, allowed), (needed, needed - 1));
            }
            e => panic!("{e}"),
        }
    }
}

#[test]
fn backends_that_would_be_slow_refuse() {
    let Some(cpu) = repackers().pop() else { return };
    let model = open(&data("gpt2-Q4_0.gguf"), repack(cpu));
    let refused = |e: SessionError| {
        let SessionError::Repacked { backend, format } = &e else { panic!("{e}") };
        assert_eq!((*backend, *format), ("scalar", Format::Q4_0));
        let says = e.to_string();
        assert!(says.contains("scalar") && says.contains("without repacking"), "{says}");
    };
    let scalar = options(Cpu::Scalar(Scalar), 1, 1);
    refused(model.session(&scalar).map(|_| ()).unwrap_err());
    refused(model.memory_requirements(&scalar).map(|_| ()).unwrap_err());
    refused(
        model.session_builder(&scalar).foreign_backend(&Scalar).build().map(|_| ()).unwrap_err(),
    );
    // A model with nothing to repack works on all backends.
    let none = open(&data("gpt2-Q4_0.gguf"), repack(Cpu::Scalar(Scalar)));
    assert!(none.tensor_infos().all(|t| !t.repacked));
    none.session(&scalar).unwrap();
    let dense = open(&data("gpt2-f32.gguf"), repack(cpu));
    assert!(dense.tensor_infos().all(|t| !t.repacked));
    dense.session(&scalar).unwrap();
}

/// With a limit, all copies are made or none.
#[test]
fn repacking_has_a_limit() {
    let Some(cpu) = repackers().pop() else { return };
    let path = data("gpt2-Q4_0.gguf");
    let plain = Model::open(&path).unwrap();
    let copies = plain.repack_bytes(cpu);
    assert_eq!(open(&path, repack(cpu)).repacked_bytes(), copies);
    assert!(copies > 0 && plain.repacked_bytes() == 0);
    for (limit, budget, repacked) in [
        (copies, None, true),
        (copies - 1, None, false),
        (0, None, false),
        (u64::MAX, Some(plain.owned_bytes() + copies), true),
        (u64::MAX, Some(plain.owned_bytes() + copies - 1), false),
    ] {
        let options = LoadOptions { repack_limit: Some(limit), budget, ..repack(cpu) };
        let model = open(&path, options);
        assert_eq!(model.repacked_bytes(), if repacked { copies } else { 0 }, "{options:?}");
        assert_eq!(model.owned_bytes(), plain.owned_bytes() + model.repacked_bytes());
        same_bits(&plain, &model, cpu, "limit");
    }
    // Without it, a budget that is too small is an error.
    let budget = Some(plain.owned_bytes() + copies - 1);
    assert!(Model::open_with(&path, &LoadOptions { budget, ..repack(cpu) }).is_err());
}

/// A text continues from a snapshot of the same model, whichever of the two was repacked; other
/// models are still rejected.
#[test]
fn snapshots_don_t_know_of_repacking() {
    let Some(cpu) = repackers().pop() else { return };
    for file in FILES {
        let (plain, model) = (Model::open(data(file)).unwrap(), open(&data(file), repack(cpu)));
        let tokens = tokens(&plain);
        let (a, b) = tokens.split_at(tokens.len() / 2);
        let options = options(cpu, 1, 96);
        let bits = |x: &[f32]| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        let mut whole = plain.session(&options).unwrap();
        let want = bits(whole.eval(&tokens, LogitsFor::Last).unwrap());
        for (from, to) in [(&plain, &model), (&model, &plain)] {
            let mut first = from.session(&options).unwrap();
            first.eval(a, LogitsFor::None).unwrap();
            let mut second = to.session(&options).unwrap();
            second.restore(&first.snapshot()).unwrap();
            assert_eq!(bits(second.eval(b, LogitsFor::Last).unwrap()), want, "{file}");
        }
    }
    let [a, b] = ["gpt2-Q4_0.gguf", "gpt2-Q4_1.gguf"].map(|f| open(&data(f), repack(cpu)));
    let snapshot = a.session(&options(cpu, 1, 1)).unwrap().snapshot();
    let e = b.session(&options(cpu, 1, 1)).unwrap().restore(&snapshot).unwrap_err();
    assert!(matches!(e, SessionError::Snapshot("it is of another model")), "{e}");
}
