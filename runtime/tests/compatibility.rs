//! Model files that contradict themselves or lean on defaults (`docs/compatibility.md`): each is
//! compared, bit by bit, to a plain one of the same meaning.

#[path = "load/common.rs"]
mod common;
#[path = "load/decoders.rs"]
mod decoders;

use std::collections::BTreeSet;

use common::{Folder, Plain, TINY, assert_same, safetensors, usual};
use decoders::{
    Fields, Small, VOCAB, WIDTH, all, bitnet, folder, gemma3, gpt2, lfm2, llama, logits, logits_of,
    mistral, open, own_head, qwen2, qwen3, qwen3moe, refused, rotary, tensor, warned,
};
use teff_graph::family::{Rule, Shapes};
use teff_graph::gguf::{Gguf, GgufValue};
use teff_graph::{Head, Spec};
use teff_kernels::Format;
use teff_runtime::config::Config;
use teff_runtime::gguf_write::GgufHeader;
use teff_runtime::model::{Container, LoadErrorKind as K};
use teff_runtime::tokenizer::{Specials, Tokenizer};
use teff_runtime::{LoadOptions, Model};

const TIED: &str = "tie_word_embeddings";

fn with(tensors: &[Plain], more: &[Plain]) -> Vec<Plain> {
    tensors.iter().chain(more).cloned().collect()
}

#[test]
fn a_head_that_differs_is_kept() {
    for Small { class, fields, tensors, tied } in all() {
        let own = with(&tensors, &[own_head()]);
        let want = logits_of(&fields.set(&[(TIED, "false")]), &own, &[]);
        assert!(logits_of(&fields, &own, &[TIED]) == want, "{class}");
        let silent = fields.without(&[TIED]);
        let keys: &[&str] = if tied { &[TIED] } else { &[] };
        assert!(logits_of(&silent, &own, keys) == want, "{class}");
        // Of another type, which changes its values.
        let mut half = own_head();
        let halves = half.data.as_chunks::<4>().0.iter().flat_map(|x| [x[2], x[3]]);
        (half.dtype, half.data) = ("BF16", halves.collect());
        let kept = open(&fields, &with(&tensors, &[half])).unwrap();
        warned(&kept, &[TIED], class);
        assert_eq!(kept.spec().head, Head::Own);

        // One that equals the embedding is dropped, also of another type.
        let plain = logits_of(&fields, &tensors, &[]);
        assert!(plain != want, "{class}");
        let embedding = &tensors[0];
        let mut same = Plain { name: "lm_head.weight".into(), ..embedding.clone() };
        for dtype in ["F32", "F64"] {
            same.dtype = dtype;
            if dtype == "F64" {
                let values = embedding.data.as_chunks::<4>().0.iter();
                let values = values.flat_map(|x| f64::from(f32::from_le_bytes(*x)).to_le_bytes());
                same.data = values.collect();
                refused(&fields, &with(&tensors, &[same.clone()]), "lm_head.weight");
                continue;
            }
            let model = open(&fields, &with(&tensors, &[same.clone()])).unwrap();
            warned(&model, &[], class);
            assert_eq!(model.spec().head, Head::Tied, "{class}");
            assert!(logits(&model) == plain, "{class}");
        }
        // Another number of rows is no head.
        let short = tensor("lm_head.weight", &[VOCAB - 1, WIDTH], 3);
        refused(&fields, &with(&tensors, &[short]), "lm_head.weight");
    }
}

#[test]
fn a_head_that_is_missing_is_refused() {
    for Small { fields, tensors, .. } in all() {
        refused(&fields.set(&[(TIED, "false")]), &tensors, "lm_head.weight");
    }
}

const LINEAR: &str = r#"{"rope_type":"linear","factor":4.0}"#;
const LLAMA3: &str =
    r#""rope_type":"llama3","factor":8.0,"low_freq_factor":1.0,"high_freq_factor":4.0"#;

#[test]
fn rotary_keys_of_three_generations() {
    for Small { class, fields, tensors, .. } in rotary() {
        let plain = |base: &str, scaling: &str| {
            logits_of(
                &fields.set(&[("rope_theta", base), ("rope_scaling", scaling)]),
                &tensors,
                &[],
            )
        };
        let base = plain("500", "null");
        let linear = plain("500", LINEAR);
        let near = plain("500", &format!("{{{LLAMA3},\"original_max_position_embeddings\":16}}"));
        let far = plain("500", &format!("{{{LLAMA3},\"original_max_position_embeddings\":64}}"));
        let none = logits_of(&fields, &tensors, &[]);
        let differ = [&base, &linear, &near, &far, &none];
        assert_eq!(differ.iter().collect::<BTreeSet<_>>().len(), 5, "{class}");
        let context = "original_max_position_embeddings";
        let inner16 = format!("{{{LLAMA3},\"rope_theta\":500,\"{context}\":16}}");
        let inner32 = format!("{{{LLAMA3},\"rope_theta\":500,\"{context}\":32}}");
        let bare = format!("{{{LLAMA3},\"rope_theta\":500}}");
        let cases: &[(&[(&str, &str)], &Vec<u32>, &[&str])] = &[
            // The base inside of either object.
            (&[("rope_scaling", r#"{"rope_type":"default","rope_theta":500}"#)], &base, &[]),
            (&[("rope_scaling", r#"{"rope_theta":500.0}"#)], &base, &[]),
            (&[("rope_parameters", r#"{"rope_type":"default","rope_theta":500}"#)], &base, &[]),
            (&[("rope_scaling", r#"{"type":"linear","factor":4,"rope_theta":500}"#)], &linear, &[]),
            (
                &[("rope_parameters", r#"{"type":"linear","factor":4.0,"rope_theta":500}"#)],
                &linear,
                &[],
            ),
            (&[("rope_theta", "500"), ("rope_parameters", LINEAR)], &linear, &[]),
            // Inside and outside.
            (
                &[("rope_theta", "7"), ("rope_parameters", r#"{"rope_theta":500}"#)],
                &base,
                &["rope_theta"],
            ),
            (
                &[("rope_theta", "7"), ("rope_scaling", r#"{"rope_theta":500}"#)],
                &base,
                &["rope_theta"],
            ),
            (&[("rope_theta", "500.0"), ("rope_scaling", r#"{"rope_theta":500}"#)], &base, &[]),
            // Both objects.
            (
                &[
                    ("rope_theta", "500"),
                    ("rope_scaling", LINEAR),
                    ("rope_parameters", r#"{"rope_type":"default"}"#),
                ],
                &linear,
                &["rope_parameters"],
            ),
            (
                &[
                    ("rope_scaling", r#"{"rope_type":"default","rope_theta":500}"#),
                    ("rope_parameters", r#"{"rope_type":"linear","factor":2.0,"rope_theta":7}"#),
                ],
                &base,
                &["rope_parameters"],
            ),
            (
                &[
                    ("rope_scaling", r#"{"rope_type":"default","rope_theta":500}"#),
                    ("rope_parameters", r#"{"rope_type":"yarn","factor":2.0}"#),
                ],
                &base,
                &["rope_parameters"],
            ),
            (
                &[
                    ("rope_theta", "500"),
                    ("rope_scaling", LINEAR),
                    ("rope_parameters", r#"{"type":"linear","factor":4,"rope_theta":500}"#),
                ],
                &linear,
                &[],
            ),
            (
                &[
                    ("rope_scaling", "{}"),
                    ("rope_parameters", r#"{"rope_type":"default","rope_theta":500}"#),
                ],
                &base,
                &[],
            ),
            // `rope_scaling` replaces all of it: the base too.
            (
                &[
                    ("rope_scaling", r#"{"rope_type":"default"}"#),
                    ("rope_parameters", r#"{"rope_type":"default","rope_theta":500}"#),
                ],
                &none,
                &["rope_parameters"],
            ),
            // Old and new name of the kind.
            (
                &[(
                    "rope_parameters",
                    r#"{"type":"yarn","rope_type":"linear","factor":4,"rope_theta":500}"#,
                )],
                &linear,
                &["rope_parameters.type"],
            ),
            (
                &[(
                    "rope_scaling",
                    r#"{"type":"linear","rope_type":"linear","factor":4,"rope_theta":500}"#,
                )],
                &linear,
                &[],
            ),
            // The original context.
            (&[("rope_parameters", &inner16)], &near, &[]),
            (&[(context, "16"), ("rope_scaling", &bare)], &near, &[]),
            (
                &[(context, "16"), ("rope_scaling", &inner32)],
                &near,
                &["rope_scaling.original_max_position_embeddings"],
            ),
            (
                &[(context, "16"), ("rope_parameters", &inner32)],
                &near,
                &["rope_parameters.original_max_position_embeddings"],
            ),
            (&[(context, "16"), ("rope_scaling", &inner16)], &near, &[]),
            (&[("rope_parameters", &bare)], &far, &[]),
            // Without a meaning here.
            (&[(context, "16"), ("rope_theta", "500")], &base, &[]),
            (&[("rope_theta", "null"), ("rope_scaling", "null")], &none, &[]),
        ];
        for (odd, want, keys) in cases {
            let fields = fields.set(odd);
            assert!(logits_of(&fields, &tensors, keys) == **want, "{}", fields.json());
        }
    }
}

#[test]
fn rotary_parameters_of_another_form_are_refused() {
    for Small { fields, tensors, .. } in rotary() {
        for (key, value, names) in [
            ("rope_scaling", r#"{"rope_type":"yarn","factor":4.0}"#, "rope_scaling.rope_type"),
            ("rope_scaling", r#"{"type":"dynamic","factor":4.0}"#, "rope_scaling.type"),
            ("rope_parameters", r#"{"rope_type":"longrope"}"#, "rope_parameters.rope_type"),
            ("rope_scaling", r#"{"rope_type":"linear"}"#, "rope_scaling.factor"),
            ("rope_parameters", r#"{"type":"linear","factor":null}"#, "rope_parameters.factor"),
            ("rope_parameters", r#"{"rope_type":"linear","factor":-1}"#, "factor"),
            ("rope_parameters", r#"{"rope_theta":0}"#, "bases"),
            ("rope_parameters", r#"{"rope_theta":Infinity}"#, "rope_parameters.rope_theta"),
            (
                "rope_parameters",
                r#"{"full_attention":{"rope_theta":500}}"#,
                "rope_parameters.full_attention",
            ),
            (
                "rope_scaling",
                r#"{"rope_type":"default","sliding_attention":{}}"#,
                "rope_scaling.sliding_attention",
            ),
            ("rope_scaling", "[4.0]", "rope_scaling"),
            ("rope_scaling", "\"linear\"", "rope_scaling"),
            ("rope_parameters", "4.0", "rope_parameters"),
            ("rope_parameters", r#"{"partial_rotary_factor":0.5}"#, "partial_rotary_factor"),
            ("partial_rotary_factor", "0.5", "partial_rotary_factor"),
        ] {
            refused(&fields.set(&[(key, value)]), &tensors, names);
        }
    }
    let Small { fields, tensors, .. } = gemma3();
    for (key, value, names) in [
        ("rope_scaling", r#"{"full_attention":{"rope_theta":500}}"#, "rope_scaling.full_attention"),
        (
            "rope_parameters",
            r#"{"sliding_attention":{"rope_type":"yarn"}}"#,
            "rope_parameters.sliding_attention.rope_type",
        ),
        (
            "rope_parameters",
            r#"{"full_attention":{"type":"linear"}}"#,
            "rope_parameters.full_attention.factor",
        ),
        ("rope_scaling", r#"{"rope_type":"linear"}"#, "rope_scaling.factor"),
        ("rope_parameters", r#"{"full_attention":3}"#, "rope_parameters.full_attention"),
    ] {
        refused(&fields.set(&[(key, value)]), &tensors, names);
    }
}

#[test]
fn gemma_has_two_rotary_embeddings() {
    let Small { fields, tensors, .. } = gemma3();
    let nested = |full: &str, windowed: &str| {
        let both = format!(r#"{{"full_attention":{full},"sliding_attention":{windowed}}}"#);
        fields.set(&[("rope_parameters", &both)])
    };
    let of = |full, windowed| logits_of(&nested(full, windowed), &tensors, &[]);
    let plain = of(r#"{"rope_theta":500}"#, r#"{"rope_theta":50}"#);
    let full = of(
        r#"{"rope_type":"linear","factor":4.0,"rope_theta":500}"#,
        r#"{"rope_type":"default","rope_theta":50}"#,
    );
    let windowed = of(
        r#"{"rope_type":"default","rope_theta":500}"#,
        r#"{"type":"linear","factor":4.0,"rope_theta":50}"#,
    );
    let none = logits_of(&fields, &tensors, &[]);
    let differ = [&plain, &full, &windowed, &none];
    assert_eq!(differ.iter().collect::<BTreeSet<_>>().len(), 4);
    // What a scaling of the layers with a window does is what a longer base of each does not.
    let bases = [("rope_theta", "500"), ("rope_local_base_freq", "50")];
    let scaled = r#"{"rope_type":"linear","factor":4.0,"rope_theta":500}"#;
    let both = r#"{"full_attention":{"rope_theta":500},"sliding_attention":{"rope_theta":50}}"#;
    let half = r#"{"full_attention":{"rope_theta":500}}"#;
    let llama3 = format!(r#"{{"full_attention":{{{LLAMA3}}},"sliding_attention":{{}}}}"#);
    let inner =
        format!(r#"{{"full_attention":{{{LLAMA3},"original_max_position_embeddings":64}}}}"#);
    let context = of_fields(&fields, &[("rope_parameters", &inner)], &tensors);
    let cases: &[(&[(&str, &str)], &Vec<u32>, &[&str])] = &[
        (&bases, &plain, &[]),
        (&[bases[1], ("rope_scaling", scaled)], &full, &[]),
        (&[bases[0], bases[1], ("rope_scaling", LINEAR)], &full, &[]),
        (&[("rope_parameters", both), ("rope_scaling", LINEAR)], &full, &[]),
        (&[bases[1], ("rope_parameters", half), ("rope_scaling", LINEAR)], &full, &[]),
        // `type` is enough only where the file has the object without a kind.
        (
            &[("rope_parameters", both), ("rope_scaling", r#"{"type":"linear","factor":4}"#)],
            &full,
            &[],
        ),
        (
            &[bases[0], bases[1], ("rope_scaling", r#"{"type":"linear","factor":4}"#)],
            &plain,
            &["rope_scaling.type"],
        ),
        // Bases outside that are overruled.
        (&[("rope_theta", "7"), ("rope_parameters", both)], &plain, &["rope_theta"]),
        (
            &[("rope_local_base_freq", "7"), ("rope_parameters", both)],
            &plain,
            &["rope_local_base_freq"],
        ),
        // Parameters for all layers are none.
        (
            &[("rope_parameters", r#"{"rope_type":"default","rope_theta":500}"#)],
            &none,
            &["rope_parameters"],
        ),
        (
            &[("rope_parameters", r#"{"rope_type":"linear","factor":2.0}"#)],
            &none,
            &["rope_parameters"],
        ),
        (&[("rope_parameters", r#"{"rope_type":"default","rope_theta":1000000.0}"#)], &none, &[]),
        (&[("rope_parameters", &llama3)], &context, &[]),
        (&[("rope_scaling", "null"), ("rope_parameters", "null")], &none, &[]),
    ];
    for (odd, want, keys) in cases {
        let fields = fields.set(odd);
        assert!(logits_of(&fields, &tensors, keys) == **want, "{}", fields.json());
    }
}

fn of_fields(fields: &Fields, more: &[(&str, &str)], tensors: &[Plain]) -> Vec<u32> {
    logits_of(&fields.set(more), tensors, &[])
}

const WINDOWED: &str = r#"["full_attention","sliding_attention","full_attention"]"#;

#[test]
fn windows_of_classes_without_them_are_ignored() {
    for Small { class, fields, tensors, .. } in [llama(), lfm2(), bitnet()] {
        let plain = logits_of(&fields, &tensors, &[]);
        let window = fields.set(&[("sliding_window", "4")]);
        assert!(logits_of(&window, &tensors, &["sliding_window"]) == plain, "{class}");
        let warning = &open(&window, &tensors).unwrap().warnings()[0].to_string();
        assert!(warning.contains("`sliding_window` is 4;"), "{warning}");
        for none in ["null", "0"] {
            let none = fields.set(&[("sliding_window", none)]);
            assert!(logits_of(&none, &tensors, &[]) == plain, "{class}");
        }
    }
    for Small { class, fields, tensors, .. } in [llama(), mistral(), bitnet()] {
        let plain = logits_of(&fields, &tensors, &[]);
        let kinds = fields.set(&[("layer_types", WINDOWED)]);
        assert!(logits_of(&kinds, &tensors, &["layer_types"]) == plain, "{class}");
        let kinds = fields.set(&[("layer_types", r#"["full_attention"]"#)]);
        assert!(logits_of(&kinds, &tensors, &[]) == plain, "{class}");
    }
}

fn windows(model: &Model) -> Vec<Option<u32>> {
    model.spec().layers.iter().map(|l| l.attention().unwrap().window).collect()
}

#[test]
fn mistrals_window() {
    let Small { fields, tensors, .. } = mistral();
    let long = fields.set(&[("max_position_embeddings", "8192")]);
    let of = |fields: &Fields| windows(&open(fields, &tensors).unwrap());
    assert_eq!(of(&long.without(&["sliding_window"])), [Some(4096); 3]);
    assert_eq!(of(&long), [None; 3]);
    assert_eq!(of(&fields.set(&[("sliding_window", "4")])), [Some(4); 3]);
    // The base and the scaling are those of all layers: with a window that hides nothing, the bits
    // are those without one.
    for rope in [
        vec![("rope_theta", "500")],
        vec![("rope_theta", "500"), ("rope_scaling", LINEAR)],
        vec![("rope_parameters", r#"{"rope_type":"linear","factor":2.0,"rope_theta":50}"#)],
    ] {
        let plain = logits_of(&fields.set(&rope), &tensors, &[]);
        let wide = fields.set(&rope).set(&[("sliding_window", "60")]);
        assert!(logits_of(&wide, &tensors, &[]) == plain, "{}", wide.json());
        let narrow = fields.set(&rope).set(&[("sliding_window", "4")]);
        assert!(logits_of(&narrow, &tensors, &[]) != plain, "{}", narrow.json());
        let ropes = open(&narrow, &tensors).unwrap().spec().ropes.len();
        assert_eq!(ropes, 1);
    }
}

#[test]
fn gemmas_windows() {
    let Small { fields, tensors, .. } = gemma3();
    let of = |more: &[(&str, &str)], keys: &[&str]| {
        let model = open(&fields.without(&["layer_types"]).set(more), &tensors).unwrap();
        warned(&model, keys, "Gemma 3");
        windows(&model)
    };
    let (w, n) = (Some(4), None);
    assert_eq!(of(&[], &[]), [w, w, w]);
    assert_eq!(of(&[("sliding_window_pattern", "2")], &[]), [w, n, w]);
    assert_eq!(of(&[("sliding_window_pattern", "1")], &[]), [n, n, n]);
    let inside = "_sliding_window_pattern";
    assert_eq!(of(&[(inside, "2")], &[inside]), [w, w, w]);
    assert_eq!(of(&[(inside, "6")], &[]), [w, w, w]);
    let kinds = r#"["full_attention","sliding_attention","sliding_attention"]"#;
    assert_eq!(of(&[("layer_types", kinds)], &[]), [n, w, w]);
    assert_eq!(of(&[("layer_types", kinds), (inside, "2")], &[]), [n, w, w]);
    let pattern = "sliding_window_pattern";
    assert_eq!(of(&[("layer_types", kinds), (pattern, "2")], &[pattern]), [n, w, w]);
    let two = r#"["sliding_attention","full_attention","sliding_attention"]"#;
    assert_eq!(of(&[("layer_types", two), (pattern, "2")], &[]), [w, n, w]);

    // The default, which these few tokens don't fill, but which decides the rotary base.
    let silent = fields.without(&["sliding_window"]);
    assert_eq!(windows(&open(&silent, &tensors).unwrap()), [Some(4096), None, Some(4096)]);
    let full = r#"["full_attention","full_attention","full_attention"]"#;
    let bits = logits_of(&silent, &tensors, &[]);
    assert!(bits != of_fields(&silent, &[("layer_types", full)], &tensors));
    assert!(bits == of_fields(&fields, &[("sliding_window", "4096")], &tensors));
    refused(&fields.set(&[("sliding_window", "null")]), &tensors, "sliding_window");
    let none = [("sliding_window", "null"), ("layer_types", full)];
    assert_eq!(windows(&open(&fields.set(&none), &tensors).unwrap()), [None; 3]);
    for list in [r#"["full_attention"]"#, "3", r#"["a","b","c"]"#, "[1,2,3]"] {
        refused(&fields.set(&[("layer_types", list)]), &tensors, "layer_types");
    }
}

#[test]
fn windows_of_qwen() {
    let used = ("use_sliding_window", "true");
    for Small { class, fields, tensors, .. } in [qwen2(), qwen3()] {
        let of = |more: &[(&str, &str)], keys: &[&str]| {
            let model = open(&fields.set(more), &tensors).unwrap();
            warned(&model, keys, class);
            windows(&model)
        };
        let (w, n) = (Some(4), None);
        let size = ("sliding_window", "4");
        let first = "max_window_layers";
        assert_eq!(of(&[size, (first, "0")], &[]), [n, n, n]);
        assert_eq!(of(&[used, size], &[]), [n, n, n]);
        assert_eq!(of(&[used, size, (first, "1")], &[]), [n, w, w]);
        assert_eq!(of(&[used, size, (first, "0")], &[]), [w, w, w]);
        assert_eq!(of(&[used, (first, "2")], &[]), [n, n, Some(4096)]);
        assert_eq!(of(&[used, ("sliding_window", "null"), (first, "2")], &[]), [n, n, n]);
        assert_eq!(of(&[used, size, ("layer_types", WINDOWED)], &[]), [n, w, n]);
        let both = [used, size, ("layer_types", WINDOWED), (first, "2")];
        assert_eq!(of(&both, &[first]), [n, w, n]);
        let full = r#"["full_attention","full_attention","full_attention"]"#;
        assert_eq!(of(&[size, ("layer_types", full)], &[]), [n, n, n]);
        refused(&fields.set(&[size, ("layer_types", WINDOWED)]), &tensors, "layer_types");
        // A window changes what is computed.
        let all = of_fields(&fields, &[used, size, (first, "0")], &tensors);
        assert!(all != logits_of(&fields, &tensors, &[]), "{class}");
        let wide = of_fields(&fields, &[used, ("sliding_window", "40"), (first, "0")], &tensors);
        assert!(wide == logits_of(&fields, &tensors, &[]), "{class}");
    }
    let Small { fields, tensors, .. } = qwen3moe();
    let all = [used, ("sliding_window", "4"), ("max_window_layers", "2")];
    assert_eq!(windows(&open(&fields.set(&all), &tensors).unwrap()), [Some(4); 3]);
}

#[test]
fn older_names_of_fields() {
    let Small { fields, tensors, .. } = lfm2();
    let own = with(&tensors, &[own_head()]);
    let untied = [("tie_embedding", "false")];
    let want = logits_of(&fields.set(&[(TIED, "false")]), &own, &[]);
    assert!(logits_of(&fields.without(&[TIED]).set(&untied), &own, &[]) == want);
    assert!(logits_of(&fields.set(&untied), &own, &[TIED]) == want);
    let Small { fields, tensors, .. } = qwen3moe();
    let want = logits_of(&fields, &tensors, &[]);
    let other = fields.without(&["num_experts"]).set(&[("num_local_experts", "4")]);
    assert!(logits_of(&other, &tensors, &[]) == want);
    let both = fields.set(&[("num_experts", "8"), ("num_local_experts", "4")]);
    assert!(logits_of(&both, &tensors, &["num_experts"]) == want);
    let Small { fields, tensors, .. } = gpt2();
    let want = logits_of(&fields, &tensors, &[]);
    let other = fields.without(&["n_embd", "n_layer", "n_head", "n_positions"]).set(&[
        ("hidden_size", "128"),
        ("num_hidden_layers", "2"),
        ("num_attention_heads", "2"),
        ("max_position_embeddings", "64"),
    ]);
    assert!(logits_of(&other, &tensors, &[]) == want);
    let both = fields.set(&[("n_layer", "5"), ("num_hidden_layers", "2")]);
    assert!(logits_of(&both, &tensors, &["n_layer"]) == want);
}

#[test]
fn biases_of_qwen2() {
    let Small { fields, tensors, .. } = qwen2();
    let want = logits_of(&fields, &tensors, &[]);
    for value in ["true", "false", "null"] {
        let fields = fields.set(&[("attention_bias", value)]);
        assert!(logits_of(&fields, &tensors, &[]) == want, "{value}");
    }
}

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
        assert_eq!(spec.ropes.get(0).map_or(0.0, |r| r.base), base, "{class}");
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
        let want = logits_of(&said, &tensors, &[]);
        let mut leave: Vec<&str> = vec!["vocab_size", "hidden_act", "hidden_activation"];
        if tied {
            leave.push(TIED);
        }
        if !["Gemma3ForCausalLM", "Qwen3ForCausalLM"].contains(&class) {
            leave.push("head_dim"); // the width divided by the heads
        }
        assert!(logits_of(&fields.without(&leave), &tensors, &[]) == want, "{class}");
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
        let want = logits_of(&fields, &tensors, &[]);
        let odd = fields.set(&[
            ("time_step_limit", "[0.0, Infinity]"),
            ("unused", "-Infinity"),
            ("nested", r#"{"a":[NaN,{"b":Infinity}]}"#),
        ]);
        assert!(logits_of(&odd, &tensors, &[]) == want, "{class}");
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
        let want = logits_of(&untied, &own, &[]);
        let tied = logits_of(&small.fields, &small.tensors, &[]);
        for (prefix, head) in [
            ("model.language_model.", ""),
            ("language_model.model.", "language_model."),
            ("model.", ""),
            ("", ""),
        ] {
            let (json, tensors) = wrapped(&small, class, prefix, head);
            let model = Model::open(&folder(&json, &tensors).0).unwrap();
            warned(&model, &[], class);
            assert!(logits(&model) == tied, "{class} {prefix}");
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
            assert!(logits(&model) == want, "{class} {prefix}");
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
                assert!(logits(&model) == want, "{class} {prefix}");
            }

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
    let json = r#"{"model_type":"mistral3","text_config":{"model_type":"ministral3"}}"#;
    let e = Model::open(&folder(json, &tensors).0).unwrap_err().to_string();
    assert!(e.contains("ministral3") && e.contains("text_config.model_type"), "{e}");
}

#[test]
fn buffers_pass_and_strays_don_t() {
    for Small { class, fields, tensors, .. } in all() {
        let want = logits_of(&fields, &tensors, &[]);
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
        assert!(logits_of(&fields, &with(&tensors, &buffers), &[]) == want, "{class}");
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
        assert_eq!(windowed.spec().ropes.get(0).unwrap().base, 500.0);
        assert!(logits(&windowed) == logits(&plain), "{arch}");
        warned(&with(0), &[], arch);
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
        assert!(logits(&lists) == logits(&plain), "{arch}");
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
        let tokenizer = Tokenizer::open(&path).unwrap();
        let ids = tokenizer.encode("Hello world", Specials::Ignore).unwrap();
        assert_eq!(ids, want.encode("Hello world", Specials::Ignore).unwrap());
        assert_eq!(tokenizer.decode(&ids), want.decode(&ids));
    }
    // Of a model's file, of a folder, and of a file in it.
    for path in [path, common::oracle(), common::oracle().join("model.safetensors")] {
        assert_eq!(Tokenizer::open(&path).unwrap().vocab_size(), want.vocab_size());
    }
    let path = folder.write("none.gguf", TINY.gguf(usual));
    let e = Tokenizer::open(&path).unwrap_err();
    assert!(matches!(e.kind, K::Tokenizer(_)) && e.to_string().contains("none.gguf"), "{e}");
    assert!(matches!(Tokenizer::open(folder.0.join("absent")).unwrap_err().kind, K::Io(_)));
    let path = folder.write("text", "text");
    assert!(matches!(Tokenizer::open(path).unwrap_err().kind, K::UnknownFile { .. }));
}

/// Every row of the page names a test that is there, and every rule has a test.
#[test]
fn the_page_and_the_tests_agree() {
    const PAGE: &str = include_str!("../../docs/compatibility.md");
    const TESTS: [&str; 2] = [include_str!("compatibility.rs"), include_str!("split.rs")];
    let rows = PAGE.lines().filter(|l| l.starts_with("| ") && !l.starts_with("| --- |"));
    let mut named = BTreeSet::new();
    for row in rows.filter(|l| !l.starts_with("| key or situation |")) {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        assert_eq!(cells.len(), 6, "{row}");
        let name = cells[5].trim_matches('`');
        assert!(TESTS.iter().any(|t| t.contains(&format!("fn {name}()"))), "{row}");
        named.insert(name);
    }
    assert!(named.len() > 20);
    for rule in Rule::ALL {
        assert!(!rule.taken().is_empty() && !rule.why().is_empty(), "{rule:?}");
        assert!(!rule.why().contains("  "), "{rule:?}");
    }
}
