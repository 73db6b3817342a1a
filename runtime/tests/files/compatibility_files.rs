//! Model files that lean on defaults, or come in another form (`docs/compatibility.md`): each is
//! compared, bit by bit, to a plain one of the same meaning.

use crate::common::{self, Folder, Plain, TINY, assert_same, oracle, safetensors, usual};
use crate::decoders::{
    Small, TIED, all, folder, gemma3, lfm2, llama, logits, mistral, open, own_head, read, read_of,
    refused, tensor, warned, with,
};
use crate::experts;
use teff_graph::family::Shapes;
use teff_graph::gguf::{Gguf, GgufValue};
use teff_graph::layers::{Activation, Attention, Layer};
use teff_graph::{Head, RopeScaling, Spec, Tensor};
use teff_kernels::Format;
use teff_runtime::config::Config;
use teff_runtime::gguf_write::GgufHeader;
use teff_runtime::model::{Container, LoadErrorKind as K};
use teff_runtime::tokenizer::{self, Specials};
use teff_runtime::{LoadOptions, Model};

/// Shapes of a model of which only the embedding is known.
struct Embedding(usize);

impl Shapes for Embedding {
    fn shape(&self, name: &str) -> Option<(usize, usize)> {
        ["embed_tokens.weight", "wte.weight"].contains(&name).then_some((1000, self.0))
    }
}

/// Hyper-parameters of a config.json with a class and nothing else.
fn defaults(class: &str, width: usize) -> Spec<'static> {
    let json = format!("{{\"architectures\":[\"{class}\"]}}");
    let config = Config::parse(json.as_bytes()).unwrap();
    config.family().unwrap().read_config(&config.text(), &Embedding(width)).unwrap()
}

#[test]
fn what_is_missing_has_the_class_s_default() {
    // Width, layers, heads, heads of keys, head width, inner width, context, epsilon, base.
    for (class, sizes, eps, base) in [
        ("LlamaForCausalLM", [4096, 32, 32, 32, 128, 11008, 2048], 1e-6, 1e4),
        ("MistralForCausalLM", [4096, 32, 32, 8, 128, 14336, 131_072], 1e-6, 1e4),
        ("Gemma3ForCausalLM", [2304, 26, 8, 4, 256, 9216, 131_072], 1e-6, 1e6),
        ("Gemma3ForConditionalGeneration", [2304, 26, 8, 4, 256, 9216, 131_072], 1e-6, 1e6),
        ("Qwen2ForCausalLM", [4096, 32, 32, 32, 128, 22016, 32768], 1e-6, 1e4),
        ("Qwen3ForCausalLM", [4096, 32, 32, 32, 128, 22016, 32768], 1e-6, 1e4),
        ("Qwen3MoeForCausalLM", [2048, 24, 32, 4, 64, 768, 32768], 1e-6, 1e4),
        ("Lfm2ForCausalLM", [2560, 32, 32, 8, 80, 12288, 128_000], 1e-5, 1e6),
        ("BitNetForCausalLM", [2560, 30, 20, 5, 128, 6912, 2048], 1e-5, 5e5),
        ("GPT2LMHeadModel", [768, 12, 12, 12, 64, 3072, 1024], 1e-5, 0.0),
    ] {
        let spec = defaults(class, sizes[0]);
        let layer = spec.layers.iter().next().unwrap();
        let a = layer.attention().unwrap();
        let inner = layer.dense().map(|d| d.inner).or(layer.experts().map(|e| e.inner)).unwrap();
        let found =
            [spec.width, spec.layers.len(), a.heads, a.kv_heads, a.head_dim, inner, spec.context];
        assert_eq!(found.map(|n| n as usize), sizes, "{class}");
        assert_eq!(spec.norm.eps, eps, "{class}");
        assert_eq!(spec.ropes.first().map_or(0.0, |r| r.base), base, "{class}");
        let tied = ["Gemma", "Lfm2", "GPT2"].iter().any(|name| class.starts_with(name));
        assert_eq!(spec.head == Head::Tied, tied, "{class}");
        if let Some(e) = layer.experts() {
            assert_eq!((e.experts, e.used, e.normalised), (128, 8, false));
        }
    }
    let gemma = defaults("Gemma3ForCausalLM", 2304);
    let last = gemma.layers.get(0).attention().unwrap();
    assert_eq!((last.window, last.scale), (Some(4096), 0.0625));
    let full = gemma.layers.iter().map(|l| l.attention().unwrap().window.is_none());
    assert!(full.enumerate().all(|(l, full)| full == ((l + 1) % 6 == 0)));
    assert_eq!(defaults("MistralForCausalLM", 4096).layers.get(0).attention().unwrap().window, {
        Some(4096)
    });

    // Fields of a small model that equal the defaults.
    for Small { class, fields, tensors, tied } in all() {
        let eps = match class {
            "Lfm2ForCausalLM" => ("norm_eps", "1e-5"),
            "BitNetForCausalLM" => ("rms_norm_eps", "1e-5"),
            "GPT2LMHeadModel" => ("layer_norm_epsilon", "1e-5"),
            _ => ("rms_norm_eps", "1e-6"),
        };
        let base = match class {
            "Lfm2ForCausalLM" | "Gemma3ForCausalLM" => ("rope_theta", "1e6"),
            "BitNetForCausalLM" => ("rope_theta", "5e5"),
            _ => ("rope_theta", "10000"),
        };
        let said = fields.set(&[eps, base]);
        let want = read(&said, &tensors, &[]);
        let mut leave: Vec<&str> = vec!["vocab_size", "hidden_act", "hidden_activation"];
        if tied {
            leave.push(TIED);
        }
        if !["Gemma3ForCausalLM", "Qwen3ForCausalLM"].contains(&class) {
            leave.push("head_dim"); // the width divided by the heads
        }
        assert!(read(&fields.without(&leave), &tensors, &[]) == want, "{class}");
    }
    // Sizes that the class doesn't have are told by the first tensor that doesn't fit.
    for Small { fields, tensors, .. } in all() {
        for key in ["hidden_size", "n_embd"].into_iter().filter(|&k| fields.keys().any(|f| f == k))
        {
            let e = open(&fields.without(&[key]), &tensors).unwrap_err();
            assert!(matches!(e.kind, K::Shape { .. } | K::Spec(_)), "{e}");
        }
    }
}

#[test]
fn numbers_of_python() {
    for Small { class, fields, tensors, .. } in all() {
        let want = read(&fields, &tensors, &[]);
        let odd = fields.set(&[
            ("time_step_limit", "[0.0, Infinity]"),
            ("unused", "-Infinity"),
            ("nested", r#"{"a":[NaN,{"b":Infinity}]}"#),
        ]);
        assert!(read(&odd, &tensors, &[]) == want, "{class}");
        let eps = match class {
            "Lfm2ForCausalLM" => "norm_eps",
            "GPT2LMHeadModel" => "layer_norm_epsilon",
            _ => "rms_norm_eps",
        };
        for value in ["Infinity", "-Infinity", "NaN"] {
            refused(&fields.set(&[(eps, value)]), &tensors, eps);
            refused(&fields.set(&[("vocab_size", value)]), &tensors, "vocab_size");
        }
    }
}

/// The model as part of one for texts and images.
fn wrapped(small: &Small, class: &str, prefix: &str, head: &str) -> (String, Vec<Plain>) {
    let text = small.fields.without(&["architectures", TIED]).json();
    let json = format!(
        r#"{{"architectures":["{class}"],"hidden_size":7,"vision_config":{{"hidden_size":9}},
        "text_config":{text}}}"#
    );
    let mut tensors = small.tensors.clone();
    for t in &mut tensors {
        t.name = match t.name.strip_prefix("model.") {
            Some(name) => format!("{prefix}{name}"),
            None => format!("{head}{}", t.name),
        };
    }
    (json, tensors)
}

#[test]
fn text_models_of_larger_ones() {
    for (class, small) in [
        ("Gemma3ForConditionalGeneration", gemma3()),
        ("Mistral3ForConditionalGeneration", mistral()),
        ("Lfm2VlForConditionalGeneration", lfm2()),
    ] {
        let own = with(&small.tensors, &[own_head()]);
        let untied = small.fields.set(&[(TIED, "false")]);
        let want = read(&untied, &own, &[]);
        let tied = read(&small.fields, &small.tensors, &[]);
        for (prefix, head) in [
            ("model.language_model.", ""),
            ("language_model.model.", "language_model."),
            ("model.", ""),
            ("", ""),
        ] {
            let (json, tensors) = wrapped(&small, class, prefix, head);
            let model = Model::open(&folder(&json, &tensors).0).unwrap();
            warned(&model, &[], class);
            assert!(read_of(&model) == tied, "{class} {prefix}");
            let name = model.tensor_infos().next().unwrap().name;
            assert_eq!(name, format!("{prefix}embed_tokens.weight"));

            // Other parts are skipped; a head of its own is kept.
            let mut larger = tensors.clone();
            let other = ["vision_tower.a.weight", "model.multi_modal_projector.b.weight"];
            larger.extend(other.iter().map(|name| tensor(name, &[3], 1)));
            larger.push(Plain { name: format!("{head}lm_head.weight"), ..own_head() });
            let model = Model::open(&folder(&json, &larger).0).unwrap();
            let first = "model.multi_modal_projector.b.weight";
            warned(&model, &[TIED, first], class);
            assert!(model.warnings()[1].to_string().contains("2 tensors"));
            assert!(read_of(&model) == want, "{class} {prefix}");
            // The whole model's word counts, and without it the text model's.
            for json in [
                json.replacen('{', "{\"tie_word_embeddings\":false,", 1),
                json.replace(
                    "\"text_config\":{",
                    "\"text_config\":{\"tie_word_embeddings\":false,",
                ),
            ] {
                let model = Model::open(&folder(&json, &larger).0).unwrap();
                warned(&model, &[first], &json);
                assert!(read_of(&model) == want, "{class} {prefix}");
            }
            // A head that is missing has the name that transformers looks for.
            let untied = json.replacen('{', "{\"tie_word_embeddings\":false,", 1);
            let e = Model::open(&folder(&untied, &tensors).0).unwrap_err().to_string();
            assert!(e.contains(&format!("tensor `{head}lm_head.weight` is missing")), "{e}");

            // Strays are not other parts; a missing tensor has its usual name.
            let stray = format!("{prefix}layers.0.self_attn.k_proj.k_scale");
            let e = Model::open(&folder(&json, &with(&tensors, &[tensor(&stray, &[1], 1)])).0);
            let e = e.unwrap_err();
            assert!(matches!(e.kind, K::UnknownTensor { .. }), "{e}");
            assert!(e.to_string().contains(&stray), "{e}");
            let e = Model::open(&folder(&json, &tensors[..tensors.len() - 1]).0).unwrap_err();
            let missing = &tensors[tensors.len() - 1].name;
            assert!(matches!(e.kind, K::MissingTensor { .. }), "{e}");
            assert!(prefix.is_empty() || e.to_string().contains(missing), "{e}");
        }
    }
    // Only such classes have other parts.
    let Small { fields, tensors, .. } = llama();
    let other = with(&tensors, &[tensor("vision_tower.a.weight", &[3], 1)]);
    refused(&fields, &other, "vision_tower.a.weight");
    // A text model that Teff doesn't have.
    let json = r#"{"model_type":"mistral3","text_config":{"model_type":"mistral4"}}"#;
    let e = Model::open(&folder(json, &tensors).0).unwrap_err().to_string();
    assert!(e.contains("mistral4") && e.contains("text_config.model_type"), "{e}");
}

#[test]
fn buffers_pass_and_strays_don_t() {
    for Small { class, fields, tensors, .. } in all() {
        let want = read(&fields, &tensors, &[]);
        let passes: &[&str] = match class {
            "GPT2LMHeadModel" => {
                &["transformer.h.0.attn.bias", "h.1.attn.bias", "transformer.h.1.attn.masked_bias"]
            }
            _ => &[
                "model.layers.0.self_attn.rotary_emb.inv_freq",
                "model.rotary_emb.inv_freq",
                "rotary_emb.inv_freq",
                "model.layers.0.self_attn.rotary_emb.cos_cached",
                "model.layers.0.self_attn.rotary_emb.sin_cached",
            ],
        };
        let buffers: Vec<Plain> = passes.iter().map(|name| tensor(name, &[2], 1)).collect();
        assert!(read(&fields, &with(&tensors, &buffers), &[]) == want, "{class}");
        for stray in [
            "model.layers.0.self_attn.k_proj.k_scale",
            "model.layers.3.mlp.up_proj.weight",
            "model.embed_positions.weight",
            "lm_head.bias",
            "model.layers.0.self_attn.bias",
            "score.weight",
        ] {
            refused(&fields, &with(&tensors, &[tensor(stray, &[2], 1)]), stray);
        }
    }
}

#[test]
fn older_names_of_classes() {
    let Small { class, fields, tensors, .. } = llama();
    let want = read(&fields, &tensors, &[]);
    let older = fields.set(&[("architectures", r#"["LLaMAForCausalLM"]"#)]);
    assert!(read(&older, &tensors, &[]) == want, "{class}");
    refused(&fields.set(&[("architectures", r#"["llamaforcausallm"]"#)]), &tensors, "llamaforca");
}

#[test]
fn two_classes() {
    let Small { fields, tensors, .. } = llama();
    let want = read(&fields, &tensors, &[]);
    let kind = |name: &str| fields.set(&[("model_type", name)]);
    assert!(read(&kind("\"llama\""), &tensors, &[]) == want);
    for other in ["\"mistral\"", "\"other\""] {
        assert!(read(&kind(other), &tensors, &["model_type"]) == want, "{other}");
    }
}

#[test]
fn files_beside_the_weights() {
    let Small { fields, tensors, .. } = llama();
    let one = folder(&fields.json(), &tensors);
    let index = "model.safetensors.index.json";
    let map = |file: &str| format!("{{\"weight_map\":{{\"{}\":\"{file}\"}}}}", tensors[0].name);
    one.write(index, map("model.safetensors"));
    warned(&Model::open(&one.0).unwrap(), &[], "its own index");
    one.write(index, map("model-00001-of-00002.safetensors"));
    warned(&Model::open(&one.0).unwrap(), &[index], "an index of others");
    one.write("adapter_config.json", "{}");
    warned(&Model::open(&one.0).unwrap(), &[index, "adapter_config.json"], "an adapter");
}

#[test]
fn a_lone_safetensors_file() {
    let Small { fields, tensors, .. } = llama();
    let one = folder(&fields.json(), &tensors);
    let want = Model::open(&one.0).unwrap();
    for name in ["model.safetensors", "other.safetensors", "weights"] {
        let path = one.write(name, safetensors(&tensors));
        let model = Model::open(&path).unwrap();
        assert_eq!(model.container(), Container::Folder { files: 1 });
        assert_same(&model, &want);
        assert_eq!(model.name(), want.name());
    }
    // It is this file that counts, not the usual one beside it.
    let other = with(&tensors, &[own_head()]);
    let path = one.write("other.safetensors", safetensors(&other));
    warned(&Model::open(path).unwrap(), &[TIED], "other.safetensors");
    // A shard stands for all of them.
    let shards = Folder::new();
    shards.write("config.json", fields.json());
    let (a, b) = tensors.split_at(tensors.len() / 2);
    let mut map = vec![];
    for (name, part) in [("m-1.safetensors", a), ("m-2.safetensors", b)] {
        shards.write(name, safetensors(part));
        map.extend(part.iter().map(|t| format!("\"{}\":\"{name}\"", t.name)));
    }
    let index = format!("{{\"weight_map\":{{{}}}}}", map.join(","));
    shards.write("model.safetensors.index.json", index);
    for name in ["m-1.safetensors", "m-2.safetensors"] {
        let model = Model::open(shards.0.join(name)).unwrap();
        assert_eq!(model.container(), Container::Folder { files: 2 });
        assert_same(&model, &want);
    }
    // Without config.json.
    let bare = Folder::new();
    let path = bare.write("model.safetensors", safetensors(&tensors));
    let e = Model::open(path).unwrap_err();
    assert!(matches!(e.kind, K::BareSafeTensors) && e.to_string().contains("config.json"), "{e}");
}

/// A GGUF file of the small model's GGUF architecture, with values of one.
fn gguf(arch: &str, more: impl FnOnce(&mut GgufHeader)) -> Vec<u8> {
    let bitnet = arch.starts_with("bitnet");
    let qk = arch.starts_with("qwen3");
    let experts = arch == "qwen3moe";
    let mut h = GgufHeader::new();
    h.put("general.architecture", GgufValue::Str(arch)).unwrap();
    for (key, n) in [("context_length", 64), ("embedding_length", 128), ("block_count", 2)] {
        h.put(&format!("{arch}.{key}"), GgufValue::U32(n)).unwrap();
    }
    h.put(&format!("{arch}.attention.layer_norm_rms_epsilon"), GgufValue::F32(1e-5)).unwrap();
    h.put(&format!("{arch}.rope.freq_base"), GgufValue::F32(500.0)).unwrap();
    if experts {
        for (key, n) in
            [("expert_count", 4), ("expert_used_count", 2), ("expert_feed_forward_length", 64)]
        {
            h.put(&format!("{arch}.{key}"), GgufValue::U32(n)).unwrap();
        }
    }
    more(&mut h);
    let mut tensors: Vec<(String, Vec<u64>)> =
        vec![("token_embd.weight".into(), vec![128, 40]), ("output_norm.weight".into(), vec![128])];
    for l in 0..2 {
        let mut add = |name: &str, dims: &[u64]| {
            tensors.push((format!("blk.{l}.{name}"), dims.to_vec()));
        };
        add("attn_norm.weight", &[128]);
        add("attn_q.weight", &[128, 128]);
        add("attn_k.weight", &[128, 64]);
        add("attn_v.weight", &[128, 64]);
        add("attn_output.weight", &[128, 128]);
        add("ffn_norm.weight", &[128]);
        if experts {
            add("ffn_gate_inp.weight", &[128, 4]);
            add("ffn_gate_exps.weight", &[128, 64, 4]);
            add("ffn_up_exps.weight", &[128, 64, 4]);
            add("ffn_down_exps.weight", &[64, 128, 4]);
        } else {
            add("ffn_gate.weight", &[128, 256]);
            add("ffn_up.weight", &[128, 256]);
            add("ffn_down.weight", &[256, 128]);
        }
        if qk {
            add("attn_q_norm.weight", &[32]);
            add("attn_k_norm.weight", &[32]);
        }
        if arch == "qwen2" {
            add("attn_q.bias", &[128]);
            add("attn_k.bias", &[64]);
            add("attn_v.bias", &[64]);
        }
        if bitnet {
            add("attn_sub_norm.weight", &[128]);
            add("ffn_sub_norm.weight", &[256]);
        }
    }
    for (name, dims) in &tensors {
        h.tensor(name, Format::F32, dims).unwrap();
    }
    let mut data = h.write(Vec::new()).unwrap();
    for (i, (name, dims)) in tensors.iter().enumerate() {
        let n = dims.iter().product::<u64>() as usize;
        let ternary = bitnet && name.starts_with("blk") && dims.len() > 1;
        let mut t = tensor(name, &[n], i as u32);
        if ternary {
            t.data = vec![1f32.to_le_bytes(); n].concat();
        }
        data.write(name, &t.data).unwrap();
    }
    data.finish().unwrap()
}

fn given(bytes: Vec<u8>) -> Model {
    Model::from_bytes(bytes, &LoadOptions::default()).unwrap()
}

fn sizes(arch: &str, h: &mut GgufHeader) {
    for (key, n) in [("attention.head_count", 4), ("attention.head_count_kv", 2)] {
        h.put(&format!("{arch}.{key}"), GgufValue::U32(n)).unwrap();
    }
    h.put(&format!("{arch}.feed_forward_length"), GgufValue::U32(256)).unwrap();
}

const ARCHS: [&str; 6] = ["llama", "qwen2", "qwen3", "qwen3moe", "bitnet", "bitnet-b1.58"];

#[test]
fn windows_in_gguf_files_without_them_are_ignored() {
    for arch in ARCHS {
        let plain = given(gguf(arch, |h| sizes(arch, h)));
        warned(&plain, &[], arch);
        let key = format!("{arch}.attention.sliding_window");
        let with = |size| {
            given(gguf(arch, |h| {
                sizes(arch, h);
                h.put(&key, GgufValue::U32(size)).unwrap();
            }))
        };
        let windowed = with(4);
        warned(&windowed, &[&key], arch);
        assert_eq!(windowed.spec(), plain.spec());
        assert_eq!(windowed.spec().ropes.first().unwrap().base, 500.0);
        assert!(read_of(&windowed) == read_of(&plain), "{arch}");
        warned(&with(0), &[], arch);
        // A size for each layer.
        let list = given(gguf(arch, |h| {
            sizes(arch, h);
            h.put_i32s(&key, &[4, 4]).unwrap();
        }));
        warned(&list, &[&key], arch);
        assert_eq!(list.spec(), plain.spec());
    }
    let bytes = std::fs::read(oracle().join("gpt2-Q8_0.gguf")).unwrap();
    let plain = Gguf::parse(&bytes).unwrap();
    let key = "gpt2.attention.sliding_window";
    for (size, keys) in [(4, &[key][..]), (0, &[])] {
        let mut header = GgufHeader::new();
        plain.metadata().for_each(|(key, value)| header.put(key, value).unwrap());
        header.put(key, GgufValue::U32(size)).unwrap();
        for t in plain.tensors() {
            header.tensor(t.name, t.format, &t.dims[..t.n_dims]).unwrap();
        }
        let mut data = header.write(Vec::new()).unwrap();
        plain.tensors().for_each(|t| data.write(t.name, t.data).unwrap());
        let windowed = given(data.finish().unwrap());
        warned(&windowed, keys, "gpt2");
        assert_eq!(windowed.spec(), given(bytes.clone()).spec());
    }
}

#[test]
fn lists_of_equal_numbers() {
    for arch in ARCHS {
        let plain = given(gguf(arch, |h| sizes(arch, h)));
        let with = |heads: &[i32], kv_heads: &[i32], ffn: &[i32]| {
            let bytes = gguf(arch, |h| {
                h.put_i32s(&format!("{arch}.attention.head_count"), heads).unwrap();
                h.put_i32s(&format!("{arch}.attention.head_count_kv"), kv_heads).unwrap();
                h.put_i32s(&format!("{arch}.feed_forward_length"), ffn).unwrap();
            });
            Model::from_bytes(bytes, &LoadOptions::default())
        };
        let lists = with(&[4, 4], &[2, 2], &[256, 256]).unwrap();
        assert_eq!(lists.spec(), plain.spec());
        assert!(read_of(&lists) == read_of(&plain), "{arch}");
        for (heads, kv_heads) in [
            (&[4, 2][..], &[2, 2][..]),
            (&[4, 4], &[2, 1]),
            (&[4], &[2, 2]),
            (&[4, 4, 4], &[2, 2]),
            (&[4, -4], &[2, 2]),
            (&[], &[2, 2]),
        ] {
            let e = with(heads, kv_heads, &[256, 256]).unwrap_err();
            assert!(e.to_string().contains("head_count"), "{arch} {heads:?}: {e}");
        }
    }
    let gpt2 = |key: &str, values: &[i32]| {
        let bytes = TINY.gguf_with(usual, &[], |h| h.put_i32s(key, values).unwrap());
        Model::from_bytes(bytes, &LoadOptions::default())
    };
    assert!(gpt2("gpt2.attention.head_count_kv", &[2, 2]).is_ok());
    assert!(gpt2("gpt2.attention.head_count_kv", &[1, 1]).is_err());
}

#[test]
fn a_vocabulary_without_a_model() {
    let path = common::oracle().join("gpt2-Q8_0.gguf");
    let bytes = std::fs::read(&path).unwrap();
    let whole = Gguf::parse(&bytes).unwrap();
    let want = Model::open(&path).unwrap();
    let want = want.tokenizer().unwrap();
    let folder = Folder::new();
    for arch in ["gpt2", "no-such-architecture"] {
        let mut h = GgufHeader::new();
        for (key, value) in whole.metadata() {
            match key {
                "general.architecture" => h.put(key, GgufValue::Str(arch)),
                // Without it, only the architecture gpt2 says what the rule is.
                "tokenizer.ggml.pre" => Ok(()),
                _ => h.put(key, value),
            }
            .unwrap();
        }
        h.put("tokenizer.ggml.pre", GgufValue::Str("gpt-2")).unwrap();
        let file = h.write(Vec::new()).unwrap().finish().unwrap();
        let path = folder.write("vocab.gguf", file);
        let e = Model::open(&path).unwrap_err();
        assert!(matches!(e.kind, K::NoTensors) && e.to_string().contains("vocab.gguf"), "{e}");
        let tokenizer = tokenizer::open(&path).unwrap();
        let ids = tokenizer.encode("Hello world", Specials::Ignore).unwrap();
        assert_eq!(ids, want.encode("Hello world", Specials::Ignore).unwrap());
        assert_eq!(tokenizer.decode(&ids), want.decode(&ids));
    }
    // Of a model's file, of a folder, and of a file in it.
    for path in [path, common::oracle(), common::oracle().join("model.safetensors")] {
        assert_eq!(tokenizer::open(&path).unwrap().vocab_size(), want.vocab_size());
    }
    let path = folder.write("none.gguf", TINY.gguf(usual));
    let e = tokenizer::open(&path).unwrap_err();
    assert!(matches!(e.kind, K::Tokenizer(_)) && e.to_string().contains("none.gguf"), "{e}");
    assert!(matches!(tokenizer::open(folder.0.join("absent")).unwrap_err().kind, K::Io(_)));
    let path = folder.write("text", "text");
    assert!(matches!(tokenizer::open(path).unwrap_err().kind, K::UnknownFile { .. }));
}

#[test]
fn scales_of_nvfp4() {
    use teff_kernels::{Format, dequantize_row};

    // The code 2 is 1, the code 10 is -1.
    let scale = |d: u8| {
        let mut block = [0xa2; 36];
        block[..4].fill(d);
        let mut values = [0.0; 64];
        dequantize_row(Format::NVFP4, &block, &mut values);
        assert!((0..64).all(|i| values[i] == if i % 16 < 8 { values[0] } else { -values[0] }));
        values[0]
    };
    let wanted = [(0, 0.0), (1, 1.0 / 512.0), (7, 7.0 / 512.0), (8, 1.0 / 64.0), (0x38, 1.0)];
    for (d, want) in wanted.into_iter().chain([(0x7e, 448.0), (0x7f, 0.0), (0xff, 480.0)]) {
        assert_eq!(scale(d), want, "{d:#x}");
        if d != 0x7f && d != 0xff {
            assert_eq!(scale(d | 0x80), want, "{d:#x} with a sign");
        }
    }
}

#[test]
fn factors_of_outputs() {
    let open = |extra: &[&str]| {
        Model::from_bytes(TINY.gguf_with(usual, extra, |_| ()), &LoadOptions::default())
    };
    let scales = ["blk.0.attn_output.scale", "blk.0.attn_output.input_scale", "blk.1.ffn_up.scale"];
    let model = open(&scales).unwrap();
    for (tensor, info) in model.tensors().zip(model.tensor_infos()) {
        let Tensor::Matrix(m) = tensor else { continue };
        let has = ["blk.0.attn_output.weight", "blk.1.ffn_up.weight"].contains(&&*info.name);
        // The file's numbers are zeros.
        let want = if has { Some(0.0) } else { None };
        assert!([m.factor(0), m.factor(m.rows() - 1)] == [want; 2], "{}", info.name);
    }
    // No vector has one, nor what is no matrix of the model.
    for stray in ["blk.0.attn_norm.scale", "blk.0.attn_output.scales", "blk.2.ffn_up.scale"] {
        let e = open(&[stray]).unwrap_err();
        assert!(matches!(e.kind, K::UnknownTensor { .. }) && e.to_string().contains(stray), "{e}");
    }
}

#[test]
fn mxfp4_has_no_nan() {
    use teff_kernels::{Format, dequantize_row};

    // The code 2 is 1, the code 10 is -1; of 0, 1, 254 and 255 the least and the largest powers.
    for (e, power) in [(0, -127), (1, -126), (127, 0), (254, 127)] {
        let mut block = [0xa2; 17];
        block[0] = e;
        let mut values = [0.0; 32];
        dequantize_row(Format::MXFP4, &block, &mut values);
        let want = 2f64.powi(power) as f32;
        assert_eq!((values[0], values[16]), (want, -want), "{e}");
    }
    let mut block = [0x19; 17];
    block[0] = 255;
    let mut values = [0.0; 32];
    dequantize_row(Format::MXFP4, &block, &mut values);
    assert_eq!((values[0], values[16]), (-(2f32.powi(127)), 2f32.powi(127)));
}

#[test]
fn settings_of_gpt_oss() {
    let class = experts::class("GptOssForCausalLM");
    let tensors = experts::tensors(class.family(), &class.spec, 0);
    let open = |more: &str| {
        let config = class.config().replacen('{', &format!("{{{more}"), 1);
        Model::open(&folder(&config, &tensors).0)
    };
    let attention = |model: &Model| -> Vec<Attention> {
        model.spec().layers.iter().map(|l| *l.attention().unwrap()).collect()
    };
    let plain = open("").unwrap();
    let windows =
        |model: &Model| -> Vec<Option<u32>> { attention(model).iter().map(|a| a.window).collect() };
    assert_eq!(windows(&plain), [Some(128), None]);
    assert!(attention(&plain).iter().all(|a| a.sinks && a.qkv_bias && a.out_bias && !a.qk_norm));
    let (factor, fast, slow, original, truncate) = (32.0, 32.0, 1.0, 4096.0, false);
    let yarn = RopeScaling::Yarn { factor, fast, slow, original, truncate };
    assert_eq!((plain.spec().ropes[0].scaling, plain.spec().ropes[0].base), (yarn, 150_000.0));
    let of = |model: &Model| model.spec().layers.get(0).experts().unwrap().activation;
    assert_eq!(of(&plain), Activation::SwigluClamped { alpha: 1.702, limit: 7.0 });
    let other = open(
        r#""swiglu_alpha":1.3,"swiglu_limit":3,"sliding_window":9,
        "layer_types":["full_attention","sliding_attention"],
        "quantization_config":{"quant_method":"mxfp4","modules_to_not_convert":["lm_head"]},"#,
    );
    let other = other.unwrap();
    assert_eq!(of(&other), Activation::SwigluClamped { alpha: 1.3, limit: 3.0 });
    assert_eq!(windows(&other), [None, Some(9)]);
    assert!(logits(&plain) != logits(&other));
    warned(&open(r#""experts_per_token":3,"#).unwrap(), &["experts_per_token"], "");
    for (more, names) in [
        (r#""hidden_act":"gelu","#, "hidden_act"),
        (r#""swiglu_limit":-1,"#, "limit"),
        (r#""swiglu_alpha":"x","#, "swiglu_alpha"),
        (r#""layer_types":["full_attention"],"#, "layer_types"),
        (r#""quantization_config":{"quant_method":"bitsandbytes"},"#, "quant_method"),
    ] {
        let e = open(more).unwrap_err().to_string();
        assert!(e.contains(names), "{names}: {e}");
    }
}

/// Every other layer has a window where Qwen 2 with experts doesn't list them, up to a number.
#[test]
fn windows_of_qwen2_with_experts() {
    let class = experts::class("Qwen2MoeForCausalLM");
    let spec = Spec { layers: class.spec.layers.with_len(4), ..class.spec.clone() };
    let tensors = experts::tensors(class.family(), &spec, 0);
    let windows = |more: &str| {
        let config = class.config().replace(r#""num_hidden_layers":1"#, r#""num_hidden_layers":4"#);
        let config = config.replacen('{', &format!("{{{more}"), 1);
        Model::open(&folder(&config, &tensors).0).map(|model| {
            let window = |l: &Layer| l.attention().unwrap().window.unwrap_or(0);
            model.spec().layers.iter().map(window).collect::<Vec<u32>>()
        })
    };
    let on = r#""use_sliding_window":true,"sliding_window":9,"#;
    assert_eq!(windows("").unwrap(), [0; 4]);
    assert_eq!(windows(on).unwrap(), [9, 0, 9, 0]);
    assert_eq!(windows(&format!(r#"{on}"max_window_layers":2,"#)).unwrap(), [9, 0, 0, 0]);
    let listed = r#""layer_types":["full_attention","sliding_attention","full_attention",
        "full_attention"],"#;
    assert_eq!(windows(&format!("{on}{listed}")).unwrap(), [0, 9, 0, 0]);
    assert!(windows(listed).unwrap_err().to_string().contains("layer_types"));
}
