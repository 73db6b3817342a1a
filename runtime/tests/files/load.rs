//! Opening models: the oracle's files, folders of every kind, and every error.

use crate::common::{Folder, Plain, Sizes, TINY, assert_same, bits, oracle, safetensors, usual};
use teff_graph::gguf::GgufValue;
use teff_graph::{LayerRole, Role, Tensor, TensorId, weights};
use teff_kernels::Format;
use teff_runtime::config::ConfigError;
use teff_runtime::model::{Container, Instead, LoadErrorKind as K};
use teff_runtime::safetensors::{SafeTensorsError, ShardError};
use teff_runtime::tokenizer::Specials;
use teff_runtime::{LoadError, LoadOptions, Model};

/// Format and dimensions of a tensor of a GGUF file.
type Declared = (Format, Vec<u64>);

/// Bytes of its files that a model owns although mapping was requested: none, if this build can
/// map.
fn owned_files(model: &Model) -> u64 {
    if cfg!(feature = "mmap") { 0 } else { model.file_bytes() }
}

const READ: LoadOptions = LoadOptions {
    mmap: false,
    quantize: None,
    head: None,
    repack: None,
    repack_limit: None,
    budget: None,
};

fn gguf(format: &str) -> Model {
    Model::open(oracle().join(format!("gpt2-{format}.gguf"))).unwrap()
}

fn check_spec(model: &Model) {
    let spec = model.spec();
    let sizes = (spec.vocab, spec.width, spec.layers.len(), spec.context);
    assert_eq!(sizes, (311, 64, 3, 96));
    for layer in spec.layers.iter() {
        let attention = layer.attention().unwrap();
        assert_eq!((attention.heads, layer.dense().unwrap().inner), (4, 256));
    }
    assert_eq!(model.family().arch, "gpt2");
    let table: Vec<Tensor<'_>> = model.tensors().collect();
    assert_eq!(weights::check(spec, &table), Ok(()));
    let n = model.tokenizer().unwrap().encode("Hello world", Specials::Ignore).unwrap().len();
    assert!((2..=11).contains(&n));
    // The listing describes the same tensors.
    let infos: Vec<_> = model.tensor_infos().collect();
    assert_eq!(infos.len(), table.len());
    assert_eq!(infos.iter().map(|i| i.bytes as u64).sum::<u64>(), model.weight_bytes());
    for (i, info) in infos.iter().enumerate() {
        assert_eq!((info.id, info.format), (TensorId::new(i as u16), model.format(info.id)));
        assert_eq!(spec.id(info.role), info.id);
        assert_eq!(info.bytes, info.format.row_bytes(info.cols).unwrap() * info.rows);
    }
}

#[test]
fn oracle_files_have_the_right_spec_and_tensors() {
    let folder = Model::open(oracle()).unwrap();
    check_spec(&folder);
    assert_eq!(folder.container(), Container::Folder { files: 1 });
    assert_eq!(folder.name(), Some("gpt2"));
    let full = gguf("f32");
    check_spec(&full);
    assert_eq!(
        (full.container(), full.name()),
        (Container::Gguf { version: 3, files: 1 }, Some("Gpt2"))
    );
    assert_same(&folder, &full);
    for format in [Format::F16, Format::Q8_0, Format::Q4_0] {
        let model = gguf(format.name());
        check_spec(&model);
        assert_eq!(model.spec(), full.spec());
        let qkv = model.spec().id(Role::Layer(1, LayerRole::AttnQkv));
        assert_eq!(model.format(qkv), format);
    }
}

#[test]
fn files_are_used_in_place() {
    for format in ["f32", "F16", "Q8_0", "Q4_0"] {
        let model = gguf(format);
        assert_eq!(model.tensor_infos().filter(|t| !t.in_place).count(), 0, "{format}");
        assert_eq!(model.owned_bytes(), owned_files(&model));
        let path = oracle().join(format!("gpt2-{format}.gguf"));
        assert_eq!(model.file_bytes(), path.metadata().unwrap().len());
    }
    // Of a folder, only tensors stored with inputs as rows are copied: 4 matrices of each layer.
    let folder = Model::open(oracle()).unwrap();
    let turned: Vec<_> = folder.tensor_infos().filter(|t| !t.in_place).collect();
    assert_eq!(turned.len(), 3 * 4);
    assert!(turned.iter().all(|t| t.name.contains(".c_") && t.name.starts_with("transformer.h.")));
    let turned: u64 = turned.iter().map(|t| t.bytes as u64).sum();
    assert_eq!(folder.owned_bytes(), turned + owned_files(&folder));
}

#[test]
fn a_file_can_be_read_mapped_or_given() {
    let path = oracle().join("gpt2-Q8_0.gguf");
    let mapped = Model::open(&path).unwrap();
    let read = Model::open_with(&path, &READ).unwrap();
    assert_same(&mapped, &read);
    assert_eq!(read.owned_bytes(), read.file_bytes());
    let bytes = std::fs::read(&path).unwrap();
    let given = Model::from_bytes(bytes.clone(), &LoadOptions::default()).unwrap();
    assert_same(&mapped, &given);
    let leaked: &'static [u8] = Vec::leak(bytes.clone());
    let leaked = Model::from_bytes(leaked, &LoadOptions::default()).unwrap();
    assert_same(&mapped, &leaked);
    assert!(leaked.tokenizer().is_ok());
    // At odd offsets vectors are copied, matrices never.
    for shift in 1..4 {
        let mut shifted = vec![0; shift];
        shifted.extend_from_slice(&bytes);
        let shifted: &'static [u8] = &Vec::leak(shifted)[shift..];
        let model = Model::from_bytes(shifted, &LoadOptions::default()).unwrap();
        assert_same(&mapped, &model);
        let vectors = model.tensor_infos().filter(|t| t.rows == 1);
        let owned: usize = vectors.map(|t| t.bytes.next_multiple_of(64)).sum();
        assert!(model.owned_bytes() == 0 || model.owned_bytes() <= owned as u64);
    }
    let folder = Model::open_with(oracle(), &READ).unwrap();
    assert_same(&folder, &Model::open(oracle()).unwrap());
}

#[test]
fn models_cross_threads() {
    fn check<T: Send + Sync>() {}
    check::<Model>();
    check::<LoadError>();
}

/// Folder with the files of a model of these sizes.
fn folder(sizes: Sizes, tensors: &[Plain]) -> Folder {
    let folder = Folder::new();
    folder.write("config.json", sizes.config());
    folder.write("model.safetensors", safetensors(tensors));
    folder
}

#[test]
fn names_come_with_and_without_the_prefix() {
    for format in [Format::F32, Format::F16, Format::BF16] {
        let with = folder(TINY, &TINY.tensors("transformer.", format));
        let without = folder(TINY, &TINY.tensors("", format));
        let (a, b) = (Model::open(&with.0).unwrap(), Model::open(&without.0).unwrap());
        assert_same(&a, &b);
        assert_eq!(a.tensor_infos().next().unwrap().name, "transformer.wte.weight");
        assert_eq!(b.tensor_infos().next().unwrap().name, "wte.weight");
        for t in a.tensor_infos() {
            assert_eq!(t.format, if t.rows == 1 { Format::F32 } else { format }, "{}", t.name);
        }
        // No tokenizer files: logits still work, and the reason is there.
        assert!(a.tokenizer().unwrap_err().to_string().contains("tokenizer.json"));
    }
}

#[test]
fn values_arrive_where_they_belong() {
    let tensors = TINY.tensors("", Format::F32);
    let folder = folder(TINY, &tensors);
    let model = Model::open(&folder.0).unwrap();
    let get = |name: &str| {
        let data = &tensors.iter().find(|t| t.name == name).unwrap().data;
        data.as_chunks::<4>().0.iter().map(|b| u32::from_le_bytes(*b)).collect::<Vec<_>>()
    };
    let spec = model.spec();
    assert_eq!(bits(model.tensor(spec.id(Role::TokenEmbd))), get("wte.weight"));
    let down = bits(model.tensor(spec.id(Role::Layer(1, LayerRole::FfnDown))));
    let stored = get("h.1.mlp.c_proj.weight"); // [ffn, width]
    for r in 0..TINY.width {
        for c in 0..TINY.ffn {
            assert_eq!(down[r * TINY.ffn + c], stored[c * TINY.width + r]);
        }
    }
    let bias = bits(model.tensor(spec.id(Role::Layer(0, LayerRole::AttnQkvBias))));
    assert_eq!(bias, get("h.0.attn.c_attn.bias"));
}

#[test]
fn masks_and_tied_heads_are_passed_over() {
    let plain = folder(TINY, &TINY.tensors("transformer.", Format::F32));
    let mut tensors = TINY.tensors("transformer.", Format::F32);
    for l in 0..TINY.layers {
        let mask = |name: &str, dtype, shape: &[usize], bytes| Plain {
            name: format!("transformer.h.{l}.attn.{name}"),
            dtype,
            shape: shape.to_vec(),
            data: vec![1; bytes],
        };
        tensors.insert(l, mask("bias", "BOOL", &[1, 1, 8, 8], 64));
        tensors.push(mask("masked_bias", "F32", &[], 4));
    }
    let embd = tensors.iter().find(|t| t.name.ends_with("wte.weight")).unwrap();
    let head = Plain { name: "lm_head.weight".into(), ..embd.clone() };
    tensors.push(head);
    let masked = folder(TINY, &tensors);
    assert_same(&Model::open(&plain.0).unwrap(), &Model::open(&masked.0).unwrap());
    // A mask of an odd number of bytes leaves nothing aligned: vectors are copied.
    tensors.insert(
        0,
        Plain {
            name: "transformer.h.0.attn.masked_bias".into(),
            dtype: "U8",
            shape: vec![3],
            data: vec![0; 3],
        },
    );
    tensors.retain({
        let mut seen = false;
        move |t| !t.name.ends_with("h.0.attn.masked_bias") || !std::mem::replace(&mut seen, true)
    });
    let odd = folder(TINY, &tensors);
    let odd = Model::open(&odd.0).unwrap();
    assert!(odd.tensor_infos().filter(|t| t.rows == 1).all(|t| !t.in_place));
    assert_same(&Model::open(&plain.0).unwrap(), &odd);
}

/// Folder with the tensors in three shards, and their index.
fn sharded(tensors: &[Plain]) -> Folder {
    let folder = Folder::new();
    folder.write("config.json", TINY.config());
    let mut map = vec![];
    for (i, part) in tensors.chunks(tensors.len().div_ceil(3)).enumerate() {
        let name = format!("model-{:05}-of-00003.safetensors", i + 1);
        folder.write(&name, safetensors(part));
        map.extend(part.iter().map(|t| format!("\"{}\":\"{name}\"", t.name)));
    }
    let index = format!("{{\"metadata\":{{}},\"weight_map\":{{{}}}}}", map.join(","));
    folder.write("model.safetensors.index.json", index);
    folder
}

#[test]
fn shards_make_the_same_model() {
    let tensors = TINY.tensors("transformer.", Format::BF16);
    let (whole, parts) = (folder(TINY, &tensors), sharded(&tensors));
    let a = Model::open(&whole.0).unwrap();
    for options in [LoadOptions::default(), READ] {
        let b = Model::open_with(&parts.0, &options).unwrap();
        assert_eq!(b.container(), Container::Folder { files: 3 });
        assert_same(&a, &b);
    }
}

#[test]
fn bad_shards_are_named() {
    let tensors = TINY.tensors("transformer.", Format::F32);
    let second = "model-00002-of-00003.safetensors";
    let index = "model.safetensors.index.json";

    let parts = sharded(&tensors);
    std::fs::remove_file(parts.0.join(second)).unwrap();
    let e = Model::open(&parts.0).unwrap_err();
    assert!(matches!(e.kind, K::MissingShard), "{e}");
    assert!(e.to_string().contains(second), "{e}");

    let parts = sharded(&tensors);
    let twice = [tensors.last().unwrap().clone()];
    let mut part: Vec<Plain> = tensors[..tensors.len().div_ceil(3)].to_vec();
    part.extend(twice);
    parts.write("model-00001-of-00003.safetensors", safetensors(&part));
    let e = Model::open(&parts.0).unwrap_err();
    assert!(matches!(e.kind, K::InTwoShards { .. }), "{e}");

    let parts = sharded(&tensors);
    parts.write(second, safetensors(&tensors[..1]));
    let e = Model::open(&parts.0).unwrap_err();
    assert!(matches!(e.kind, K::Shards(ShardError::NotThere { .. })), "{e}");
    assert!(e.to_string().contains(index), "{e}");

    let parts = sharded(&tensors);
    parts.write(index, "{\"weight_map\":{\"a\":\"../config.json\"}}");
    let e = Model::open(&parts.0).unwrap_err();
    assert!(matches!(e.kind, K::Shards(ShardError::BadName { .. })), "{e}");

    let parts = sharded(&tensors);
    parts.write(second, b"12345678");
    let e = Model::open(&parts.0).unwrap_err();
    assert!(matches!(e.kind, K::SafeTensors(SafeTensorsError::HeaderTooLarge { .. })), "{e}");
    assert!(e.to_string().contains(second), "{e}");
}

#[test]
fn what_is_no_model_is_refused_by_its_first_bytes() {
    let folder = Folder::new();
    let open = |bytes: &[u8]| {
        let path = folder.write("file.gguf", bytes);
        Model::open(path).unwrap_err()
    };
    for bytes in [&b""[..], b"GGU", b"PK\x03\x04 and more", b"\x00\x01\n", b"{\"a\":1}"] {
        let e = open(bytes);
        assert!(matches!(e.kind, K::UnknownFile { .. }), "{e}");
        assert!(!e.to_string().contains(char::is_control), "{e}");
    }
    assert!(open(b"PK\x03\x04").to_string().contains(r"PK\x03\x04"));
    assert!(matches!(open(b"GGUF").kind, K::Gguf(_)));
    let bare = folder.write("bare.safetensors", safetensors(&TINY.tensors("", Format::F32)));
    let e = Model::open(bare).unwrap_err();
    assert!(matches!(e.kind, K::BareSafeTensors) && e.to_string().contains("config.json"), "{e}");
    let e = Model::open(folder.0.join("absent")).unwrap_err();
    assert!(matches!(e.kind, K::Io(_)) && e.to_string().contains("absent"), "{e}");
    // The name is irrelevant: a GGUF file may have any extension.
    let path = folder.write("x.safetensors", TINY.gguf(usual));
    assert!(Model::open(path).is_ok());
}

#[test]
fn folders_without_their_files_say_which() {
    let f = Folder::new();
    assert!(matches!(Model::open(&f.0).unwrap_err().kind, K::NoConfig { instead: None }));
    let says = |names: &[&str], word: &str| {
        let f = Folder::new();
        names.iter().for_each(|name| drop(f.write(name, b"{}")));
        let e = Model::open(&f.0).unwrap_err().to_string();
        assert!(e.contains(word), "{names:?}: {e}");
    };
    // The folders that people have instead.
    says(&["b.gguf", "a-Q4_K_M.gguf"], "give a GGUF file in it, such as a-Q4_K_M.gguf");
    says(&["adapter_config.json", "adapter_model.safetensors"], "adapter");
    says(&["x.safetensors"], "x.safetensors");
    f.write("config.json", TINY.config());
    assert!(matches!(Model::open(&f.0).unwrap_err().kind, K::NoWeights { instead: None }));
    f.write("pytorch_model.bin", b"");
    let e = Model::open(&f.0).unwrap_err();
    assert!(matches!(e.kind, K::NoWeights { instead: Some(Instead::Pickle) }), "{e}");
    f.write("model-00001-of-00002.safetensors", b"");
    let e = Model::open(&f.0).unwrap_err();
    assert!(matches!(e.kind, K::NoWeights { instead: Some(Instead::SafeTensors(_)) }), "{e}");
    assert!(e.to_string().contains("model-00001-of-00002.safetensors"), "{e}");
    f.write("adapter_config.json", b"");
    let e = Model::open(&f.0).unwrap_err();
    assert!(matches!(e.kind, K::NoWeights { instead: Some(Instead::Adapter) }), "{e}");
    // A file of a folder is no model, but belongs to one.
    let e = Model::open(f.0.join("config.json")).unwrap_err().to_string();
    assert!(e.contains("give the folder that this file is in"), "{e}");
    f.write("model.safetensors", b"");
    let e = Model::open(&f.0).unwrap_err();
    assert!(matches!(e.kind, K::SafeTensors(SafeTensorsError::NoHeader { .. }) | K::Io(_)), "{e}");
}

#[test]
fn bad_configs_are_named() {
    let f = folder(TINY, &TINY.tensors("", Format::F32));
    let open = |json: &str| {
        f.write("config.json", json);
        let e = Model::open(&f.0).unwrap_err();
        assert!(e.to_string().contains("config.json"), "{e}");
        assert!(!e.to_string().contains('\n'), "{e}");
        e.kind
    };
    let good = TINY.config();
    assert!(matches!(open(""), K::Config(ConfigError::Json(_))));
    assert!(matches!(open("[]"), K::Config(ConfigError::NotAnObject)));
    assert!(matches!(open("{}"), K::Config(ConfigError::NoArchitecture)));
    let unknown = open(&good.replace("GPT2LMHeadModel", "LlavaForConditionalGeneration"));
    assert!(matches!(unknown, K::Config(ConfigError::UnknownArchitecture { .. })), "{unknown}");
    let text = unknown.to_string();
    assert!(text.contains("Llava") && text.contains("GPT2LMHeadModel"), "{text}");
    for (from, to) in [
        ("\"n_embd\":32", "\"n_embd\":\"32\""),
        ("\"n_embd\":32", "\"n_embd\":0"),
        ("\"n_embd\":32", "\"n_embd\":-32"),
        ("\"n_embd\":32", "\"n_embd\":1e400"),
        ("\"n_embd\":32", "\"n_embd\":99999999999999999999"),
        ("\"n_head\":2", "\"n_head\":5"),
        ("\"n_layer\":2", "\"n_layer\":2147483647"),
        ("\"n_layer\":2", "\"n_layer\":2,\"activation_function\":\"swish\""),
        ("\"n_layer\":2", "\"n_layer\":2,\"scale_attn_by_inverse_layer_idx\":true"),
    ] {
        let json = good.replace(from, to);
        assert_ne!(json, good);
        assert!(matches!(open(&json), K::Spec(_)), "{to}");
    }
    let large = format!("{}{}", good, " ".repeat(1 << 20));
    assert!(matches!(open(&large), K::Config(ConfigError::TooLarge { .. })));
    for n in 0..good.len() {
        assert!(matches!(open(&good[..n]), K::Config(ConfigError::Json(_))), "{n}");
    }
    f.write("config.json", good);
    assert!(Model::open(&f.0).is_ok());
}

#[test]
fn bad_tensors_of_a_folder_are_named() {
    let good = TINY.tensors("transformer.", Format::F32);
    let open = |change: &dyn Fn(&mut Vec<Plain>)| {
        let mut tensors = good.clone();
        change(&mut tensors);
        let e = Model::open(&folder(TINY, &tensors).0).unwrap_err();
        (e.to_string(), e.kind)
    };
    for i in 0..good.len() {
        let (text, kind) = open(&|t| drop(t.remove(i)));
        assert!(matches!(kind, K::MissingTensor { .. } | K::Spec(_)), "{text}");
        let name = &good[i].name;
        assert!(text.contains(&format!("`{name}`")) || name.ends_with("wte.weight"), "{text}");
        // One more in the last dimension.
        let (text, kind) = open(&|t| {
            let rest: usize = t[i].shape.iter().rev().skip(1).product();
            *t[i].shape.last_mut().unwrap() += 1;
            t[i].data.extend(vec![0; rest * 4]);
        });
        assert!(matches!(kind, K::Shape { .. }), "{text}");
        // One dimension more.
        let (text, kind) = open(&|t| t[i].shape.push(1));
        assert!(matches!(kind, K::Shape { .. } | K::Spec(_)), "{text}");
        let (text, kind) = open(&|t| t[i].dtype = "I32");
        assert!(matches!(kind, K::Dtype { .. }), "{text}");
        assert!(text.contains("I32") && text.contains(name), "{text}");
        let (text, kind) = open(&|t| t[i].name += "x");
        assert!(matches!(kind, K::MissingTensor { .. } | K::Spec(_)), "{text}");
    }
    let (text, kind) =
        open(&|t| t.push(Plain { name: "h.0.attn.q_norm.weight".into(), ..t[0].clone() }));
    assert!(matches!(kind, K::UnknownTensor { .. }) && text.contains("q_norm"), "{text}");
    // The same name with and without prefix is ambiguous.
    let (text, kind) = open(&|t| t.push(Plain { name: "wte.weight".into(), ..t[0].clone() }));
    assert!(matches!(kind, K::UnknownTensor { .. }), "{text}");
    // Already stored the other way round, unlike this family's files.
    let qkv = good.iter().position(|t| t.name.ends_with("c_attn.weight")).unwrap();
    let (text, kind) = open(&|t| t[qkv].shape.reverse());
    assert!(matches!(kind, K::Shape { .. }) && text.contains("[96, 32]"), "{text}");
}

#[test]
fn bad_tensors_of_a_gguf_file_are_named() {
    let open = |bytes: Vec<u8>| {
        let e = Model::from_bytes(bytes, &LoadOptions::default()).unwrap_err();
        (e.to_string(), e.kind)
    };
    let model = Model::from_bytes(TINY.gguf(usual), &LoadOptions::default()).unwrap();
    assert!(model.tokenizer().is_err());
    for info in model.tensor_infos() {
        let only = |change: &dyn Fn(&mut Declared)| {
            open(TINY.gguf(|name, dims| {
                let mut t = usual(name, dims)?;
                if name == info.name {
                    change(&mut t);
                }
                Some(t)
            }))
        };
        let (text, kind) =
            open(TINY.gguf(|name, dims| (name != info.name).then(|| usual(name, dims))?));
        assert!(matches!(kind, K::MissingTensor { .. } | K::Spec(_)), "{text}");
        assert!(text.contains(&info.name) || text.contains("token_embd.weight"), "{text}");
        let (text, kind) = only(&|t| t.1[0] += 32);
        assert!(matches!(kind, K::Shape { .. }) && text.contains(&info.name), "{text}");
        let (text, kind) = only(&|t| t.1.push(2));
        assert!(matches!(kind, K::Shape { .. }), "{text}");
        if info.rows == 1 {
            let (text, kind) = only(&|t| *t = (Format::Q8_0, vec![t.1[0].next_multiple_of(32)]));
            assert!(matches!(kind, K::QuantizedVector { .. } | K::Shape { .. }), "{text}");
        }
    }
    for extra in ["rope_freqs.weight", "blk.0.attn_q_norm.weight", "output.bias"] {
        let (text, kind) = open(TINY.gguf_with(usual, &[extra], |_| ()));
        assert!(matches!(kind, K::UnknownTensor { .. }) && text.contains(extra), "{text}");
    }
}

#[test]
fn gguf_variants_are_refused_by_name() {
    let open = |bytes: Vec<u8>| {
        let e = Model::from_bytes(bytes, &LoadOptions::default()).unwrap_err();
        (e.to_string(), e.kind)
    };
    let split = TINY.gguf_with(usual, &[], |h| h.put("split.count", GgufValue::U16(3)).unwrap());
    let (text, kind) = open(split);
    assert!(matches!(kind, K::Split { parts: 3 }) && text.contains("merge"), "{text}");
    let whole = TINY.gguf_with(usual, &[], |h| h.put("split.count", GgufValue::U16(1)).unwrap());
    assert!(Model::from_bytes(whole, &LoadOptions::default()).is_ok());

    let path = oracle().join("gpt2-Q8_0.gguf");
    let mut bytes = std::fs::read(path).unwrap();
    let at = bytes.windows(4).position(|w| w == b"gpt2").unwrap();
    bytes[at..at + 4].copy_from_slice(b"gpt9");
    let (text, kind) = open(bytes);
    assert!(matches!(kind, K::UnknownArchitecture { .. }), "{text}");
    assert!(text.contains("gpt9") && text.contains("gpt2, llama, "), "{text}");
}

#[test]
fn truncated_gguf_files_are_errors() {
    let bytes = std::fs::read(oracle().join("gpt2-Q4_0.gguf")).unwrap();
    let leaked: &'static [u8] = Vec::leak(bytes);
    // Every length up to the data, then a sample.
    let lengths = (0..12_000).chain((12_000..leaked.len()).step_by(997));
    for n in lengths {
        assert!(Model::from_bytes(&leaked[..n], &LoadOptions::default()).is_err(), "{n}");
    }
}

#[test]
fn vectors_of_half_precision_become_f32() {
    for format in [Format::F16, Format::BF16] {
        let bytes = TINY.gguf(|name, dims| Some((format, usual(name, dims)?.1)));
        let model = Model::from_bytes(bytes, &LoadOptions::default()).unwrap();
        for t in model.tensor_infos() {
            assert_eq!((t.format == Format::F32, t.in_place), (t.rows == 1, t.rows != 1));
        }
        assert!(model.owned_bytes() > 0);
    }
}

#[test]
fn quantising_gives_what_the_reference_quantiser_wrote() {
    for format in [Format::Q8_0, Format::Q4_0] {
        let options = LoadOptions { quantize: Some(format), ..LoadOptions::default() };
        let reference = gguf(format.name());
        let from_file = Model::open_with(oracle().join("gpt2-f32.gguf"), &options).unwrap();
        let from_folder = Model::open_with(oracle(), &options).unwrap();
        assert_same(&from_file, &from_folder);
        for ((ours, theirs), info) in
            from_file.tensors().zip(reference.tensors()).zip(from_file.tensor_infos())
        {
            if info.role == Role::TokenEmbd && format == Format::Q4_0 {
                assert_eq!(info.format, format);
                continue; // llama.cpp keeps a tied head at 8 bits
            }
            let kept = info.rows == 1 || info.role == Role::PositionEmbd;
            assert_eq!(info.format, if kept { Format::F32 } else { format }, "{}", info.name);
            assert_eq!(bits(ours), bits(theirs), "{}", info.name);
        }
        // Already in this format: nothing to do.
        let same = Model::open_with(
            oracle().join("gpt2-Q8_0.gguf"),
            &LoadOptions { quantize: Some(Format::Q8_0), ..options },
        );
        let same = same.unwrap();
        assert_eq!(same.owned_bytes(), owned_files(&same));
    }
}

#[test]
fn quantising_what_cannot_be_is_refused() {
    let with = |quantize| LoadOptions { quantize: Some(quantize), ..LoadOptions::default() };
    let path = oracle().join("gpt2-Q8_0.gguf");
    let e = Model::open_with(&path, &with(Format::Q4_0)).unwrap_err();
    assert!(matches!(e.kind, K::AlreadyQuantized { .. }), "{e}");
    let e = Model::open_with(&path, &with(Format::F16)).unwrap_err();
    assert!(matches!(e.kind, K::NotQuantized { format: Format::F16 }), "{e}");
    // Rows of 48 are not whole blocks: that matrix keeps its format.
    let f = folder(TINY, &TINY.tensors("", Format::BF16));
    let model = Model::open_with(&f.0, &with(Format::Q4_0)).unwrap();
    for t in model.tensor_infos().filter(|t| t.rows > 1) {
        let kept = t.role == Role::PositionEmbd || t.cols == 48;
        assert_eq!(t.format, if kept { Format::BF16 } else { Format::Q4_0 }, "{}", t.name);
    }
}

#[test]
fn the_budget_is_what_loading_takes() {
    let cases = [
        (oracle(), LoadOptions::default()),
        (oracle(), READ),
        (oracle().join("gpt2-f32.gguf"), READ),
        (oracle(), LoadOptions { quantize: Some(Format::Q4_0), ..READ }),
    ];
    for (path, options) in cases {
        let owned = Model::open_with(&path, &options).unwrap().owned_bytes();
        assert!(owned > 0);
        let with =
            |budget| Model::open_with(&path, &LoadOptions { budget: Some(budget), ..options });
        assert_eq!(with(owned).unwrap().owned_bytes(), owned);
        let e = with(owned - 1).unwrap_err();
        let K::Budget { needed, allowed } = e.kind else { panic!("{e}") };
        assert_eq!((needed, allowed), (owned, owned - 1));
        assert!(with(0).is_err());
    }
    let path = oracle().join("gpt2-Q4_0.gguf");
    let free = LoadOptions { budget: Some(0), ..LoadOptions::default() };
    assert_eq!(Model::open_with(path, &free).is_ok(), cfg!(feature = "mmap"));
}

#[cfg(unix)]
#[test]
fn what_is_no_regular_file_is_not_opened() {
    let f = Folder::new();
    f.write("config.json", TINY.config());
    std::os::unix::fs::symlink("/dev/zero", f.0.join("model.safetensors")).unwrap();
    let e = Model::open(&f.0).unwrap_err();
    assert!(matches!(e.kind, K::Io(_)) && e.to_string().contains("regular"), "{e}");
    assert!(matches!(Model::open("/dev/zero").unwrap_err().kind, K::Io(_)));
}
