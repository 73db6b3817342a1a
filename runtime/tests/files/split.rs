//! Split GGUF files: read by any part, written, merged, and every way in which parts don't belong
//! together.

use std::path::PathBuf;

use crate::common::{Folder, TINY, assert_same, oracle, usual};
use teff_graph::gguf::{Gguf, GgufValue};
use teff_runtime::gguf_split::{
    PartError, SplitBy, SplitError, SplitErrorKind, merge_gguf, split_gguf,
};
use teff_runtime::gguf_write::GgufHeader;
use teff_runtime::model::{Container, LoadErrorKind as K};
use teff_runtime::quantize::{QuantizeErrorKind, QuantizeOptions, Target, quantize_file};
use teff_runtime::{LoadError, LoadOptions, Model};

fn whole() -> PathBuf {
    oracle().join("gpt2-Q8_0.gguf")
}

fn split(folder: &Folder, by: SplitBy) -> Vec<PathBuf> {
    split_gguf(whole(), folder.0.join("m"), by).unwrap()
}

#[test]
fn any_part_opens_the_model() {
    let want = Model::open(whole()).unwrap();
    for by in [SplitBy::Tensors(7), SplitBy::Tensors(1), SplitBy::Bytes(40_000), SplitBy::Bytes(1)]
    {
        let folder = Folder::new();
        let parts = split(&folder, by);
        assert!(parts.len() > 2, "{by:?}");
        for mmap in [true, false] {
            let options = LoadOptions::default().with_mmap(mmap);
            for part in [&parts[0], &parts[1], &parts[parts.len() - 1]] {
                let model = Model::open_with(part, &options).unwrap();
                assert_same(&model, &want);
                let files = parts.len();
                assert_eq!(model.container(), Container::Gguf { version: 3, files });
                assert!(model.warnings().is_empty() && model.name() == want.name());
                assert_eq!(model.tokenizer().is_ok(), want.tokenizer().is_ok());
                let bytes: u64 = parts.iter().map(|p| p.metadata().unwrap().len()).sum();
                assert_eq!(model.file_bytes(), bytes);
                let mapped = mmap && cfg!(feature = "mmap");
                assert!(!mapped || model.tensor_infos().all(|t| t.in_place));
            }
        }
        // What was split is restored.
        let merged = folder.0.join("merged.gguf");
        merge_gguf(&parts[1], &merged).unwrap();
        assert!(std::fs::read(&merged).unwrap() == std::fs::read(whole()).unwrap(), "{by:?}");
        // And split otherwise.
        let again = split_gguf(&parts[1], folder.0.join("n"), SplitBy::Tensors(20)).unwrap();
        assert_same(&Model::open(&again[0]).unwrap(), &want);
    }
}

#[test]
fn parts_have_llama_cpp_s_names_and_keys() {
    let folder = Folder::new();
    let parts = split(&folder, SplitBy::Tensors(10));
    let bytes = std::fs::read(whole()).unwrap();
    let all = Gguf::parse(&bytes).unwrap();
    let n = parts.len();
    assert_eq!(n, all.n_tensors().div_ceil(10));
    let mut names = vec![];
    for (i, path) in parts.iter().enumerate() {
        let name = path.file_name().unwrap().to_str().unwrap();
        assert_eq!(name, format!("m-{:05}-of-{n:05}.gguf", i + 1));
        let bytes = std::fs::read(path).unwrap();
        let gguf = Gguf::parse(&bytes).unwrap();
        let keys = [
            ("split.no", GgufValue::U16(i as u16)),
            ("split.tensors.count", GgufValue::I32(all.n_tensors() as i32)),
            ("split.count", GgufValue::U16(n as u16)),
        ];
        let found: Vec<_> = gguf.metadata().collect();
        let (before, split) = found.split_at(found.len() - 3);
        assert_eq!(split, keys, "{name}");
        match i {
            0 => assert!(before.iter().copied().eq(all.metadata())),
            _ => assert!(before.is_empty()),
        }
        names.extend(gguf.tensors().map(|t| t.name.to_owned()));
    }
    assert!(names.iter().eq(all.tensors().map(|t| t.name).collect::<Vec<_>>().iter()));
}

#[test]
fn quantising_reads_parts() {
    let f32 = oracle().join("gpt2-f32.gguf");
    let folder = Folder::new();
    let parts = split_gguf(&f32, folder.0.join("m"), SplitBy::Tensors(9)).unwrap();
    let target = Target::from_name("Q8_0").unwrap();
    let options = QuantizeOptions { threads: 1, ..QuantizeOptions::default() };
    let quantized = |input: &PathBuf, name: &str| {
        let output = folder.0.join(name);
        quantize_file(input, &output, &target, &options, &mut |_| ()).unwrap();
        std::fs::read(output).unwrap()
    };
    let want = quantized(&f32, "whole.gguf");
    for part in [&parts[0], &parts[2]] {
        assert!(quantized(part, "parts.gguf") == want);
    }
    // Never onto a part.
    let onto = quantize_file(&parts[0], &parts[1], &target, &options, &mut |_| ());
    assert!(matches!(onto.unwrap_err().kind, QuantizeErrorKind::SameFile));
    std::fs::remove_file(&parts[1]).unwrap();
    let e = quantize_file(&parts[0], folder.0.join("x"), &target, &options, &mut |_| ());
    let e = e.unwrap_err();
    assert!(matches!(&e.kind, QuantizeErrorKind::Load(_)), "{e}");
    assert!(e.to_string().contains("m-00002-of-"), "{e}");
}

/// The error of opening, and the name of the file that it names.
fn failed(path: &PathBuf) -> (PartError, String) {
    let LoadError { path, kind } = Model::open(path).unwrap_err();
    let K::Part(e) = kind else { panic!("{kind}") };
    let text = e.to_string();
    assert!(!text.contains('\n') && !text.is_empty());
    (e, path.unwrap().file_name().unwrap().to_str().unwrap().to_owned())
}

#[test]
fn parts_that_do_not_belong_together() {
    use PartError as E;
    let folder = Folder::new();
    let parts = split(&folder, SplitBy::Tensors(16));
    let n = parts.len() as u64;
    assert_eq!(n, 3);
    let name = |i: usize| parts[i].file_name().unwrap().to_str().unwrap().to_owned();
    let bytes: Vec<Vec<u8>> = parts.iter().map(|p| std::fs::read(p).unwrap()).collect();
    let restore = || parts.iter().zip(&bytes).for_each(|(p, b)| std::fs::write(p, b).unwrap());

    std::fs::remove_file(&parts[1]).unwrap();
    for part in [0, 2] {
        let missing = (E::Missing { part: 2, parts: n }, name(1));
        assert_eq!(failed(&parts[part]), missing);
    }
    restore();
    // Exchanged.
    std::fs::write(&parts[1], &bytes[2]).unwrap();
    std::fs::write(&parts[2], &bytes[1]).unwrap();
    let number = |found, part| E::Number { found: Some(found), part };
    assert_eq!(failed(&parts[0]), (number(3, 2), name(1)));
    assert_eq!(failed(&parts[2]), (number(2, 3), name(2)));
    restore();
    // Renamed.
    let renamed = folder.write("renamed.gguf", &bytes[1]);
    assert_eq!(failed(&renamed), (E::Name { parts: n }, "renamed.gguf".into()));
    let other = folder.write("m-00002-of-00004.gguf", &bytes[1]);
    let count = E::Count { found: Some(n), parts: 4 };
    assert_eq!(failed(&other), (count, "m-00002-of-00004.gguf".into()));

    // Of another model: another number of parts, of tensors, or the same numbers.
    let tiny = Folder::new();
    let tiny_file = tiny.write("tiny.gguf", TINY.gguf(usual));
    let tiny_parts = split_gguf(&tiny_file, tiny.0.join("t"), SplitBy::Tensors(10)).unwrap();
    assert_eq!(tiny_parts.len(), 3);
    std::fs::copy(&tiny_parts[1], &parts[1]).unwrap();
    let (e, file) = failed(&parts[0]);
    assert!(matches!(e, E::Tensors { .. }) && file == name(1), "{e}");
    restore();
    let with = |keys: &[(&str, GgufValue<'_>)], tensors: &[&str]| {
        let mut h = GgufHeader::new();
        keys.iter().for_each(|(key, value)| h.put(key, *value).unwrap());
        for name in tensors {
            h.tensor(name, teff_kernels::Format::F32, &[1]).unwrap();
        }
        let mut data = h.write(Vec::new()).unwrap();
        tensors.iter().for_each(|name| data.write(name, &[0; 4]).unwrap());
        data.finish().unwrap()
    };
    let all = Gguf::parse(&bytes[0]).unwrap();
    let Some(GgufValue::I32(total)) = all.value("split.tensors.count") else { panic!() };
    let count = ("split.count", GgufValue::U16(3));
    let tensors = ("split.tensors.count", GgufValue::I32(total));
    let second = ("split.no", GgufValue::U16(1));
    let in_first = all.tensors().next().unwrap().name;
    for (keys, names, want) in [
        (&[count, tensors][..], &["a"][..], E::Number { found: None, part: 2 }),
        (&[second, tensors], &["a"], E::Count { found: None, parts: 3 }),
        (&[second, count], &["a"], E::Tensors { found: None, first: Some(total as u64) }),
    ] {
        std::fs::write(&parts[1], with(keys, names)).unwrap();
        assert_eq!(failed(&parts[0]), (want, name(1)));
    }
    std::fs::write(&parts[1], with(&[second, count, tensors], &[in_first])).unwrap();
    let (e, file) = failed(&parts[0]);
    assert!(matches!(&e, E::Twice { tensor } if tensor.to_string() == in_first), "{e}");
    assert_eq!(file, name(1));
    std::fs::write(&parts[1], with(&[second, count, tensors], &["a"])).unwrap();
    let (e, file) = failed(&parts[0]);
    assert!(matches!(e, E::Total { needed, .. } if needed == total as u64), "{e}");
    assert_eq!(file, name(0));
    std::fs::write(&parts[1], "no GGUF").unwrap();
    let e = Model::open(&parts[0]).unwrap_err();
    assert!(matches!(e.kind, K::Gguf(_)) && e.to_string().contains(&name(1)), "{e}");
    restore();
    // More parts than there can be.
    let many = with(&[("split.count", GgufValue::U32(70_000))], &["a"]);
    let path = folder.write("q-00001-of-70000.gguf", many);
    assert!(matches!(failed(&path).0, E::TooMany { parts: 70_000 }));
    assert!(Model::open(&parts[1]).is_ok());

    // As bytes, there is no way to the others.
    let e = Model::from_bytes(bytes[0].clone(), &LoadOptions::default()).unwrap_err();
    assert!(matches!(e.kind, K::Split { parts: 3 }), "{e}");
    // llama.cpp's merged files keep these keys, and say that there are 0 parts.
    let merged = TINY.gguf_with(usual, &[], |h| {
        h.put("split.no", GgufValue::U16(0)).unwrap();
        h.put("split.tensors.count", GgufValue::I32(7)).unwrap();
        h.put("split.count", GgufValue::U16(0)).unwrap();
    });
    assert!(Model::from_bytes(merged, &LoadOptions::default()).is_ok());
}

#[test]
fn files_in_one_part() {
    let want = Model::open(whole()).unwrap();
    let folder = Folder::new();
    let parts = split(&folder, SplitBy::Tensors(1000));
    assert_eq!(parts.len(), 1);
    assert!(parts[0].ends_with("m-00001-of-00001.gguf"));
    assert_same(&Model::open(&parts[0]).unwrap(), &want);
    // Whatever its name.
    let renamed = folder.write("x.gguf", std::fs::read(&parts[0]).unwrap());
    assert_same(&Model::open(renamed).unwrap(), &want);
}

#[test]
fn what_can_not_be_split_or_merged() {
    let folder = Folder::new();
    let kind = |r: Result<_, SplitError>| r.map(|_: Vec<PathBuf>| ()).unwrap_err().kind;
    for by in [SplitBy::Tensors(0), SplitBy::Bytes(0)] {
        let e = kind(split_gguf(whole(), folder.0.join("m"), by));
        assert!(matches!(e, SplitErrorKind::NoLimit), "{e}");
    }
    let e = kind(split_gguf(whole(), "/", SplitBy::Tensors(9)));
    assert!(matches!(e, SplitErrorKind::Name), "{e}");
    let e = split_gguf(folder.0.join("absent.gguf"), folder.0.join("m"), SplitBy::Tensors(9));
    let e = e.unwrap_err();
    assert!(matches!(&e.kind, SplitErrorKind::Load(_)), "{e}");
    assert!(e.to_string().contains("absent.gguf"), "{e}");
    let e = kind(split_gguf(oracle().join("model.safetensors"), "m", SplitBy::Tensors(9)));
    assert!(matches!(e, SplitErrorKind::Load(_)), "{e}");
    let nowhere = folder.0.join("no").join("folder");
    let e = kind(split_gguf(whole(), &nowhere, SplitBy::Tensors(9)));
    assert!(matches!(e, SplitErrorKind::Write(_)), "{e}");
    // Never onto itself.
    let parts = split(&folder, SplitBy::Tensors(9));
    let n = parts.len();
    let e = kind(split_gguf(&parts[0], folder.0.join("m"), SplitBy::Tensors(9)));
    assert!(matches!(e, SplitErrorKind::SameFile), "{e}");
    let e = merge_gguf(&parts[0], &parts[1]).unwrap_err();
    assert!(matches!(e.kind, SplitErrorKind::SameFile), "{e}");
    // Nothing is left behind but the parts.
    assert_eq!(std::fs::read_dir(&folder.0).unwrap().count(), n);
    assert!(Model::open(&parts[0]).is_ok());
    // The alignment of the parts is the file's.
    let aligned = TINY.gguf_with(usual, &[], |h| {
        h.put("general.alignment", GgufValue::U32(64)).unwrap();
    });
    let path = folder.write("aligned.gguf", &aligned);
    let parts = split_gguf(path, folder.0.join("a"), SplitBy::Tensors(5)).unwrap();
    for part in &parts {
        let bytes = std::fs::read(part).unwrap();
        assert_eq!(Gguf::parse(&bytes).unwrap().alignment(), 64);
    }
    merge_gguf(&parts[0], folder.0.join("b.gguf")).unwrap();
    assert!(std::fs::read(folder.0.join("b.gguf")).unwrap() == aligned);
}
