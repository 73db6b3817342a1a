//! Hyper-parameters that a family does not compute are refused by name, not ignored.
#![cfg(feature = "alloc")]

use std::cell::Cell;

use teff_graph::family::{FAMILIES, Shapes};
use teff_graph::layers::{Activation, Experts, Router};
use teff_graph::meta::{Metadata, Value};
use teff_graph::{RopeScaling, Spec, SpecError};

/// Keys of a file, and lists of whole numbers.
struct Keys {
    values: Vec<(&'static str, Value<'static>)>,
    lists: Vec<(&'static str, Vec<u64>)>,
}

impl Metadata for Keys {
    fn get(&self, key: &str) -> Option<Value<'_>> {
        if self.lists.iter().any(|(k, _)| *k == key) {
            return Some(Value::Other);
        }
        self.values.iter().rev().find(|(k, _)| *k == key).map(|&(_, v)| v)
    }

    fn item(&self, key: &str, index: usize) -> Option<Value<'_>> {
        let (_, list) = self.lists.iter().find(|(k, _)| *k == key)?;
        list.get(index).copied().map(Value::Uint)
    }
}

struct Embedding;

impl Shapes for Embedding {
    fn shape(&self, name: &str) -> Option<(usize, usize)> {
        (name == "token_embd.weight").then_some((64, 32))
    }
}

fn read(arch: &str, keys: &Keys) -> Result<Spec<'static>, SpecError> {
    let family = FAMILIES.iter().find(|f| f.arch == arch).unwrap();
    family.read_gguf(keys, &Embedding)
}

macro_rules! sizes {
    ($arch:literal) => {
        vec![
            (concat!($arch, ".context_length"), Value::Uint(128)),
            (concat!($arch, ".embedding_length"), Value::Uint(32)),
            (concat!($arch, ".block_count"), Value::Uint(3)),
            (concat!($arch, ".feed_forward_length"), Value::Uint(64)),
            (concat!($arch, ".attention.head_count"), Value::Uint(4)),
            (concat!($arch, ".attention.head_count_kv"), Value::Uint(2)),
            (concat!($arch, ".attention.key_length"), Value::Uint(16)),
            (concat!($arch, ".attention.value_length"), Value::Uint(16)),
            (concat!($arch, ".attention.layer_norm_rms_epsilon"), Value::Float(1e-6)),
            (concat!($arch, ".rope.freq_base"), Value::Float(1e6)),
            (concat!($arch, ".expert_count"), Value::Uint(8)),
            (concat!($arch, ".expert_used_count"), Value::Uint(2)),
            (concat!($arch, ".expert_feed_forward_length"), Value::Uint(32)),
            (concat!($arch, ".shortconv.l_cache"), Value::Uint(3)),
        ]
    };
}

fn refused(arch: &str, keys: &Keys, key: &str) {
    let error = read(arch, keys).expect_err(key).to_string();
    assert!(error.contains(key), "{key}: {error}");
}

#[test]
fn experts_that_are_mixed_in_another_way() {
    let with = |key, value| {
        let mut values = sizes!("qwen3moe");
        values.push((key, value));
        Keys { values, lists: Vec::new() }
    };
    for (key, same, other) in [
        ("qwen3moe.expert_weights_scale", Value::Float(1.0), Value::Float(2.5)),
        ("qwen3moe.expert_gating_func", Value::Uint(1), Value::Uint(2)),
        ("qwen3moe.expert_weights_norm", Value::Bool(true), Value::Bool(false)),
        ("qwen3moe.expert_group_count", Value::Uint(1), Value::Uint(2)),
        ("qwen3moe.expert_shared_count", Value::Uint(0), Value::Uint(1)),
        ("qwen3moe.leading_dense_block_count", Value::Uint(0), Value::Uint(1)),
        ("qwen3moe.attention.causal", Value::Bool(true), Value::Bool(false)),
    ] {
        assert_eq!(read("qwen3moe", &with(key, same)).err(), None, "{key}");
        refused("qwen3moe", &with(key, other), key);
    }
    let gemma4 = |more: (&'static str, Value<'static>)| {
        let mut values = sizes!("gemma4");
        values.push(("gemma4.attention.key_length_swa", Value::Uint(16)));
        values.push(("gemma4.attention.sliding_window", Value::Uint(8)));
        values.push(more);
        Keys { values, lists: vec![("gemma4.attention.sliding_window_pattern", vec![1, 1, 0])] }
    };
    for key in [
        "gemma4.expert_weights_scale",
        "gemma4.expert_gating_func",
        "gemma4.expert_group_count",
        "gemma4.expert_shared_count",
        "gemma4.leading_dense_block_count",
    ] {
        refused("gemma4", &gemma4((key, Value::Uint(2))), key);
    }
}

fn qwen35() -> Vec<(&'static str, Value<'static>)> {
    let mut values = sizes!("qwen35");
    values.retain(|(key, _)| !key.contains("expert"));
    values.extend([
        ("qwen35.ssm.conv_kernel", Value::Uint(4)),
        ("qwen35.ssm.state_size", Value::Uint(8)),
        ("qwen35.ssm.group_count", Value::Uint(2)),
        ("qwen35.ssm.time_step_rank", Value::Uint(4)),
        ("qwen35.ssm.inner_size", Value::Uint(48)),
        ("qwen35.rope.dimension_count", Value::Uint(8)),
        ("qwen35.full_attention_interval", Value::Uint(2)),
    ]);
    values
}

#[test]
fn linear_attention_in_some_layers() {
    use teff_graph::SpecRoom;
    use teff_graph::family::{Notice, Rule};

    let read = |values: Vec<(&'static str, Value<'static>)>,
                lists: Vec<(&'static str, Vec<u64>)>| {
        let family = FAMILIES.iter().find(|f| f.arch == "qwen35").unwrap();
        let (keys, mut room) = (Keys { values, lists }, SpecRoom::new());
        let spec = (family.from_gguf)(&keys, &Embedding, &mut room)?;
        let linear: Vec<bool> = spec.layers.iter().map(|l| l.delta_net().is_some()).collect();
        Ok::<_, SpecError>((linear, room.notices().to_vec()))
    };
    let with = |more: &[(&'static str, Value<'static>)]| [&qwen35()[..], more].concat();
    let (linear, notices) = read(qwen35(), vec![]).unwrap();
    assert_eq!((linear, notices), (vec![true, false, true], vec![]));
    // The list wins over the interval.
    let list = "qwen35.attention.recurrent_layers";
    let (linear, notices) = read(qwen35(), vec![(list, vec![1, 0, 1])]).unwrap();
    assert_eq!((linear, notices), (vec![true, false, true], vec![]));
    let (linear, notices) = read(qwen35(), vec![(list, vec![0, 1, 1])]).unwrap();
    let notice = Notice { key: "qwen35.full_attention_interval", rule: Rule::RecurrentLayers };
    assert_eq!((linear, notices), (vec![false, true, true], vec![notice]));
    // Blocks that predict further tokens are no layers.
    let next = "qwen35.nextn_predict_layers";
    let (linear, notices) =
        read(with(&[(next, Value::Uint(1))]), vec![(list, vec![1, 0, 0])]).unwrap();
    assert_eq!((linear, notices), (vec![true, false], vec![]));
    assert_eq!(read(with(&[(next, Value::Uint(0))]), vec![]).unwrap().0.len(), 3);
    // Sections whose sum is not the number of frequencies change nothing.
    let sections = "qwen35.rope.dimension_sections";
    for (sum, all) in [(4, vec![2, 1, 1, 0]), (3, vec![1, 1, 1, 0]), (5, vec![5])] {
        let (_, notices) = read(qwen35(), vec![(sections, all)]).unwrap();
        let notice = Notice { key: sections, rule: Rule::Sections };
        assert_eq!(notices, if sum == 4 { vec![] } else { vec![notice] });
    }
    for (key, value) in [
        (next, Value::Uint(3)),
        (list, Value::Bool(true)),
        ("qwen35.ssm.inner_size", Value::Uint(47)),
        ("qwen35.ssm.state_size", Value::Null),
        ("qwen35.expert_count", Value::Uint(4)),
    ] {
        let e = read(with(&[(key, value)]), vec![]).unwrap_err().to_string();
        assert!(e.contains(key), "{key}: {e}");
    }
    for list_of in [vec![1, 0], vec![1, 0, 1, 1]] {
        let e = read(qwen35(), vec![(list, list_of)]).unwrap_err().to_string();
        assert!(e.contains(list), "{e}");
    }
    // Value heads in two groups of a size of their own.
    let family = FAMILIES.iter().find(|f| f.arch == "qwen35").unwrap();
    let spec = family.read_gguf(&Keys { values: qwen35(), lists: vec![] }, &Embedding).unwrap();
    let net = *spec.layers.get(0).delta_net().unwrap();
    assert_eq!((net.key_dim, net.value_dim, net.channels(), net.taps), (8, 12, 2 * 16 + 48, 4));
    let order = net.stored(teff_graph::LayerRole::DeltaQkv).unwrap();
    assert_eq!((order.first, order.size, order.columns), (32, 12, false));
    assert_eq!([0, 1, 2, 3].map(|j| order.stored(j)), [0, 2, 1, 3]);
    let spec = read_attention(&spec);
    assert_eq!(spec, (true, true, 8));
}

/// Gates and norms of the attention of the second layer, and the elements that are rotated.
fn read_attention(spec: &Spec<'_>) -> (bool, bool, u32) {
    let attention = spec.layers.get(1).attention().unwrap();
    (attention.gate, attention.qk_norm, spec.ropes[0].dims)
}

#[test]
fn attention_to_later_tokens() {
    let key = "gpt2.attention.causal";
    for (value, fits) in [(Value::Bool(true), true), (Value::Bool(false), false)] {
        let mut values = sizes!("gpt2");
        values.push(("gpt2.attention.head_count_kv", Value::Uint(4)));
        values.push(("gpt2.attention.layer_norm_epsilon", Value::Float(1e-5)));
        values.push((key, value));
        let keys = Keys { values, lists: Vec::new() };
        match fits {
            true => assert_eq!(read("gpt2", &keys).err(), None),
            false => refused("gpt2", &keys, key),
        }
    }
}

#[test]
fn experts_beyond_what_an_address_reaches() {
    let mut values = sizes!("qwen3moe");
    values.push(("qwen3moe.expert_count", Value::Uint(4096)));
    for (inner, fits) in [(1 << 18, true), (1 << 20, false)] {
        values.push(("qwen3moe.expert_feed_forward_length", Value::Uint(inner)));
        let keys = Keys { values: values.clone(), lists: Vec::new() };
        match fits {
            true => assert_eq!(read("qwen3moe", &keys).err(), None),
            false => refused("qwen3moe", &keys, "2^31"),
        }
    }
}

#[test]
fn lists_of_another_number_of_layers() {
    let key = "lfm2.attention.head_count_kv";
    for (list, fits) in [(vec![0, 2, 0], true), (vec![0, 2], false), (vec![0, 2, 0, 2], false)] {
        let mut values = sizes!("lfm2");
        values.push(("lfm2.expert_count", Value::Uint(0)));
        let keys = Keys { values, lists: vec![(key, list)] };
        match fits {
            true => assert_eq!(read("lfm2", &keys).err(), None),
            false => refused("lfm2", &keys, key),
        }
    }
}

/// A config.json with one list of numbers, which counts how often it is asked for an item.
struct Config {
    values: Vec<(&'static str, Value<'static>)>,
    list: (&'static str, Vec<Value<'static>>),
    asked: Cell<usize>,
}

impl Metadata for Config {
    fn get(&self, key: &str) -> Option<Value<'_>> {
        if key == self.list.0 {
            return Some(Value::Other);
        }
        self.values.iter().find(|(k, _)| *k == key).map(|&(_, v)| v)
    }

    fn item(&self, key: &str, index: usize) -> Option<Value<'_>> {
        self.asked.set(self.asked.get() + 1);
        if key == self.list.0 { self.list.1.get(index).copied() } else { None }
    }
}

struct Folder;

impl Shapes for Folder {
    fn shape(&self, name: &str) -> Option<(usize, usize)> {
        (name == "embed_tokens.weight").then_some((64, 32))
    }
}

/// An item of a list may take a pass over the whole file, so that the number of those that are read is
/// bounded, whatever the length of the list and the number of layers.
#[test]
fn lists_of_numbers_of_layers() {
    let read = |model_type: &str, key, layers, list: Vec<Value<'static>>| {
        let family = FAMILIES.iter().find(|f| f.model_type == model_type).unwrap();
        let count = |key, n| (key, Value::Uint(n));
        let values = vec![
            count("max_position_embeddings", 128),
            count("vocab_size", 64),
            count("hidden_size", 32),
            count("intermediate_size", 64),
            count("num_hidden_layers", layers),
            count("num_attention_heads", 4),
            count("num_key_value_heads", 2),
            count("num_experts", 8),
            count("num_experts_per_tok", 2),
            count("moe_intermediate_size", 32),
        ];
        let config = Config { values, list: (key, list), asked: Cell::new(0) };
        let spec = family.read_config(&config, &Folder);
        assert!(config.asked.get() < 1000, "{} items", config.asked.get());
        spec
    };
    let numbers = |all: &[u64]| all.iter().map(|&n| Value::Uint(n)).collect::<Vec<_>>();
    for (model_type, key) in [("qwen3_moe", "mlp_only_layers"), ("lfm2", "full_attn_idxs")] {
        let named = |list| -> Vec<bool> {
            let spec = read(model_type, key, 4, list).unwrap();
            let dense = |l: &teff_graph::Layer| l.experts().is_none();
            let full = |l: &teff_graph::Layer| l.attention().is_some();
            spec.layers
                .iter()
                .map(|l| if key == "mlp_only_layers" { dense(l) } else { full(l) })
                .collect()
        };
        assert_eq!(named(numbers(&[1, 3])), [false, true, false, true]);
        // Numbers beyond the layers name none, however large.
        assert_eq!(named(numbers(&[0, 4, 511, 512, u64::MAX])), [true, false, false, false]);
        assert_eq!(named(numbers(&[])), [false; 4]);
        for list in [
            vec![Value::Str("1")],
            vec![Value::Int(-1)],
            numbers(&[600; 513]),
            numbers(&[600; 100_000]),
        ] {
            let error = read(model_type, key, 512, list).unwrap_err().to_string();
            assert!(error.contains(key), "{error}");
        }
        assert!(read(model_type, key, 512, numbers(&[600; 512])).is_ok());
    }
}

/// Granite's factors: those that may be absent, and what 0 means.
#[test]
fn granites_factors() {
    let with = |more: &[(&'static str, Value<'static>)]| {
        let mut values = sizes!("granite");
        values.push(("granite.expert_count", Value::Uint(0)));
        values.extend(more);
        Keys { values, lists: vec![("granite.attention.head_count_kv", vec![2; 3])] }
    };
    let logits = ("granite.logit_scale", Value::Float(6.0));
    refused("granite", &with(&[]), "granite.logit_scale");
    refused("granite", &with(&[("granite.logit_scale", Value::Float(0.0))]), "divisor");
    let window = ("granite.attention.sliding_window", Value::Uint(8));
    // Ignored, with a notice.
    assert_eq!(
        read("granite", &with(&[logits, window])).map(|s| s
            .layers
            .get(0)
            .attention()
            .unwrap()
            .window),
        Ok(None)
    );
    let factors = |keys: &Keys| {
        let spec = read("granite", keys).unwrap();
        let (layer, n) = (*spec.layers.get(0), spec.ropes.len());
        let attention = layer.attention().unwrap();
        assert_eq!((spec.logit_divisor, n), (6.0, usize::from(attention.rope.is_some())));
        (spec.embed.scale, layer.scales.residual, attention.scale, n)
    };
    let plain = (1.0, 1.0, 0.25, 1); // 1 / sqrt(16)
    assert_eq!(factors(&with(&[logits])), plain);
    let three = ["granite.embedding_scale", "granite.residual_scale", "granite.attention.scale"];
    let all = |x| {
        let mut keys = vec![logits];
        keys.extend(three.map(|key| (key, Value::Float(x))));
        keys.push(("granite.rope.scaling.finetuned", Value::Bool(x == 0.0)));
        with(&keys)
    };
    assert_eq!(factors(&all(0.0)), plain);
    assert_eq!(factors(&all(0.75)), (0.75, 0.75, 0.75, 0));
}

/// YaRN: every key that there is counts, and what isn't computed is refused.
#[test]
fn yarn_in_gguf_files() {
    let with = |more: &[(&'static str, Value<'static>)]| {
        let mut values = sizes!("mistral3");
        values.push(("mistral3.expert_count", Value::Uint(0)));
        values.push(("mistral3.rope.scaling.type", Value::Str("yarn")));
        values.push(("mistral3.rope.scaling.factor", Value::Float(8.0)));
        values.extend(more);
        Keys { values, lists: vec![] }
    };
    let rope = |more: &[(&'static str, Value<'static>)]| {
        let spec = read("mistral3", &with(more)).unwrap();
        let temperature = spec.layers.get(0).attention().unwrap().temperature;
        (spec.ropes[0], temperature.map(|t| (t.growth, t.every)))
    };
    let (plain, none) = rope(&[]);
    let magnitude = 0.1 * 8f32.ln() + 1.0;
    let (fast, slow, original, truncate) = (32.0, 1.0, 128.0, true);
    let yarn = RopeScaling::Yarn { factor: 8.0, fast, slow, original, truncate };
    assert_eq!((plain.scaling, none), (yarn, None));
    assert!((plain.magnitude - magnitude).abs() < 1e-6, "{}", plain.magnitude);
    let key = |name, value| (name, Value::Float(value));
    let log = key("mistral3.rope.scaling.yarn_log_multiplier", 1.0);
    let own = key("mistral3.rope.scaling.yarn_attn_factor", 1.5);
    let more = key("mistral3.rope.scaling.attn_factor", 2.0);
    assert_eq!(rope(&[log]).0.magnitude, 1.0);
    assert_eq!(rope(&[own]).0.magnitude, 1.5);
    assert_eq!(rope(&[own, more]).0.magnitude, 3.0);
    let (rope, grown) = rope(&[
        key("mistral3.rope.scaling.yarn_beta_fast", 24.0),
        key("mistral3.rope.scaling.yarn_beta_slow", 2.0),
        ("mistral3.rope.scaling.original_context_length", Value::Uint(16)),
        key("mistral3.attention.temperature_scale", 0.25),
        key("mistral3.rope.scaling.yarn_ext_factor", -1.0),
    ]);
    let (fast, slow, original) = (24.0, 2.0, 16.0);
    let yarn = RopeScaling::Yarn { factor: 8.0, fast, slow, original, truncate };
    assert_eq!((rope.scaling, grown), (yarn, Some((0.25, 16))));
    for (name, value) in [
        ("mistral3.rope.scaling.yarn_ext_factor", 0.0),
        ("mistral3.rope.scaling.yarn_ext_factor", 0.5),
    ] {
        refused("mistral3", &with(&[key(name, value)]), name);
    }
    refused("mistral3", &with(&[key("mistral3.rope.scaling.yarn_beta_slow", 64.0)]), "descending");
    refused("mistral3", &with(&[key("mistral3.rope.freq_base", 1.0)]), "base");
    let longrope = ("mistral3.rope.scaling.type", Value::Str("longrope"));
    refused("mistral3", &with(&[longrope]), longrope.0);
}

/// OLMo 3's windows, and the plain rotary embedding of their layers.
#[test]
fn olmos_windows() {
    let with = |more: &[(&'static str, Value<'static>)], list: &[u64]| {
        let mut values = sizes!("olmo2");
        values.push(("olmo2.expert_count", Value::Uint(0)));
        values.push(("olmo2.block_count", Value::Uint(4)));
        values.push(("olmo2.rope.scaling.type", Value::Str("yarn")));
        values.push(("olmo2.rope.scaling.factor", Value::Float(8.0)));
        values.extend(more);
        let pattern = ("olmo2.attention.sliding_window_pattern", list.to_vec());
        Keys { values, lists: if list.is_empty() { vec![] } else { vec![pattern] } }
    };
    let windows = |keys: &Keys| -> Vec<u32> {
        let spec = read("olmo2", keys).unwrap();
        let window = |layer: &teff_graph::Layer| {
            let attention = layer.attention().unwrap();
            let rope = spec.ropes[usize::from(attention.rope.unwrap())];
            let scaled = rope.scaling != RopeScaling::None;
            assert_eq!((scaled, rope.magnitude != 1.0), (attention.window.is_none(), scaled));
            attention.window.unwrap_or(0)
        };
        spec.layers.iter().map(window).collect()
    };
    let size = ("olmo2.attention.sliding_window", Value::Uint(8));
    let every = |n| ("olmo2.attention.sliding_window_pattern", Value::Uint(n));
    assert_eq!(windows(&with(&[], &[])), [0, 0, 0, 0]);
    assert_eq!(windows(&with(&[size], &[])), [8, 8, 8, 0]);
    assert_eq!(windows(&with(&[size, every(2)], &[])), [8, 0, 8, 0]);
    assert_eq!(windows(&with(&[size, every(0)], &[])), [8, 8, 8, 8]);
    assert_eq!(windows(&with(&[size], &[0, 1, 1, 0])), [0, 8, 8, 0]);
    refused("olmo2", &with(&[size], &[0, 1]), "sliding_window_pattern");
    let base = ("olmo2.rope.freq_base_swa", Value::Float(10.0));
    refused("olmo2", &with(&[size, base], &[]), base.0);
}

/// The experts of a file's last layer, with these keys more.
macro_rules! experts {
    ($arch:literal, $more:expr, $lists:expr) => {{
        let mut values = sizes!($arch);
        values.extend($more);
        let keys = Keys { values, lists: $lists };
        read($arch, &keys).map(|spec| *spec.layers.get(2).experts().unwrap())
    }};
}

/// What architectures with experts have in common, and what each means by itself.
#[test]
fn experts_of_each_architecture() {
    let none = || -> Vec<(&'static str, Value<'static>)> { vec![] };
    let plain = Experts::new(8, 2, 32);
    assert_eq!(experts!("qwen3moe", none(), vec![]), Ok(plain));
    assert_eq!(experts!("qwen2moe", none(), vec![]), Ok(Experts { normalised: false, ..plain }));
    // The inner width of all layers.
    let wide = Experts { inner: 64, ..plain };
    assert_eq!(experts!("llama", none(), vec![]), Ok(wide));
    let logits = vec![("granitemoe.logit_scale", Value::Float(6.0))];
    assert_eq!(experts!("granitemoe", logits, vec![]), Ok(wide));
    // None of them chooses among groups of experts first.
    macro_rules! no_groups {
        ($($arch:literal),*) => {$(
            let key = concat!($arch, ".expert_group_count");
            let groups = |n| [(key, Value::Uint(n)), (concat!($arch, ".logit_scale"), Value::Float(6.0))];
            assert!(experts!($arch, groups(1), vec![]).is_ok(), "{key}");
            let error = experts!($arch, groups(2), vec![]).expect_err(key).to_string();
            assert!(error.contains(key), "{key}: {error}");
        )*};
    }
    no_groups!("llama", "qwen2moe", "qwen3moe", "granitemoe");
    let activation = Activation::SwigluClamped { alpha: 1.702, limit: 7.0 };
    let biased = Experts { activation, bias: true, ..plain };
    let window = ("gpt-oss.attention.sliding_window", Value::Uint(8));
    assert_eq!(experts!("gpt-oss", [window], vec![]), Ok(biased));
    let error = experts!("gpt-oss", none(), vec![]).expect_err("no window").to_string();
    assert!(error.contains(window.0), "{error}");
    let kv = || vec![("lfm2moe.attention.head_count_kv", vec![0, 2, 0])];
    let sigmoid = Experts { router: Router::Sigmoid { bias: true }, ..plain };
    let lfm2moe = |more: &[(&'static str, Value<'static>)]| {
        let mut all = vec![("lfm2moe.leading_dense_block_count", Value::Uint(2))];
        all.extend(more);
        experts!("lfm2moe", all, kv())
    };
    assert_eq!(lfm2moe(&[]), Ok(sigmoid));
    assert_eq!(lfm2moe(&[("lfm2moe.expert_gating_func", Value::Uint(2))]), Ok(sigmoid));
    for (key, value) in [
        ("lfm2moe.expert_gating_func", Value::Uint(1)),
        ("lfm2moe.expert_weights_scale", Value::Float(2.5)),
        ("lfm2moe.expert_weights_norm", Value::Bool(false)),
        ("lfm2moe.expert_shared_count", Value::Uint(1)),
        ("lfm2moe.expert_group_count", Value::Uint(2)),
        ("lfm2moe.leading_dense_block_count", Value::Int(-1)),
    ] {
        let error = lfm2moe(&[(key, value)]).expect_err(key).to_string();
        assert!(error.contains(key), "{key}: {error}");
    }
    let errors = [
        (
            experts!("llama", [("llama.expert_shared_count", Value::Uint(1))], vec![]),
            "llama.expert_shared_count",
        ),
        (
            experts!(
                "gpt-oss",
                [("gpt-oss.expert_shared_feed_forward_length", Value::Uint(8))],
                vec![]
            ),
            "gpt-oss.expert_shared_feed_forward_length",
        ),
        (
            experts!("qwen2moe", [("qwen2moe.expert_weights_norm", Value::Bool(true))], vec![]),
            "qwen2moe.expert_weights_norm",
        ),
    ];
    for (found, key) in errors {
        assert!(found.expect_err(key).to_string().contains(key), "{key}");
    }
}

/// gpt-oss: windows in every other layer, unless a list says otherwise, and YaRN without rounding.
#[test]
fn gpt_oss_in_gguf_files() {
    let with = |more: &[(&'static str, Value<'static>)], list: &[u64]| {
        let mut values = sizes!("gpt-oss");
        values.push(("gpt-oss.rope.scaling.type", Value::Str("yarn")));
        values.push(("gpt-oss.rope.scaling.factor", Value::Float(8.0)));
        values.push(("gpt-oss.attention.sliding_window", Value::Uint(8)));
        values.extend(more);
        let pattern = ("gpt-oss.attention.sliding_window_pattern", list.to_vec());
        Keys { values, lists: if list.is_empty() { vec![] } else { vec![pattern] } }
    };
    let windows = |keys: &Keys| -> Vec<u32> {
        let spec = read("gpt-oss", keys).unwrap();
        let scaling = spec.ropes[0].scaling;
        assert!(matches!(scaling, RopeScaling::Yarn { truncate: false, .. }), "{scaling:?}");
        let attention = spec.layers.iter().map(|l| *l.attention().unwrap());
        attention.map(|a| if a.sinks { a.window.unwrap_or(0) } else { 9 }).collect()
    };
    assert_eq!(windows(&with(&[], &[])), [8, 0, 8]);
    assert_eq!(windows(&with(&[], &[0, 1, 1])), [0, 8, 8]);
    let every = ("gpt-oss.attention.sliding_window_pattern", Value::Uint(3));
    assert_eq!(windows(&with(&[every], &[])), [8, 8, 0]);
}

/// A rotary base of layers with a window.
#[test]
fn a_base_of_layers_with_a_window() {
    let bases = |arch, values| {
        let spec = read(arch, &Keys { values, lists: Vec::new() }).unwrap();
        let rope =
            |l: &teff_graph::Layer| spec.ropes[usize::from(l.attention()?.rope?)].base.into();
        spec.layers.iter().map(rope).collect::<Vec<Option<f32>>>()
    };
    let gpt_oss = |more: &[(&'static str, Value<'static>)]| {
        let window = ("gpt-oss.attention.sliding_window", Value::Uint(8));
        bases("gpt-oss", [&sizes!("gpt-oss")[..], &[window], more].concat())
    };
    let gemma2 = |more: &[(&'static str, Value<'static>)]| {
        let mut values = sizes!("gemma2");
        values.retain(|(key, _)| !key.contains("expert"));
        bases("gemma2", [&values[..], more].concat())
    };
    let [one, two] = [1e6, 10.0].map(Some);
    assert_eq!([gpt_oss(&[]), gemma2(&[])], [[one; 3], [one; 3]]);
    let own = gpt_oss(&[("gpt-oss.rope.freq_base_swa", Value::Float(10.0))]);
    assert_eq!(own, [two, one, two]);
    let base = ("gemma2.rope.freq_base_swa", Value::Float(10.0));
    assert_eq!(gemma2(&[base]), [two, one, two]);
    let none = ("gemma2.attention.sliding_window", Value::Uint(0));
    assert_eq!(gemma2(&[base, none]), [one; 3]);
}
