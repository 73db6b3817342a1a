//! Model files that contradict themselves or lean on defaults (`docs/compatibility.md`): each is
//! compared, bit by bit, to a plain one of the same meaning.

use std::collections::BTreeSet;

use crate::common::Plain;
use crate::decoders::{
    Fields, Read, Small, TIED, VOCAB, WIDTH, all, all_differ, bitnet, gemma3, gemma3n, gemma4,
    gpt2, lfm2, llama, logits, mistral, open, own_head, qwen2, qwen3, qwen3moe, qwen35, qwen35moe,
    read, read_of, refused, rotary, tensor, warned, with,
};
use teff_graph::Head;
use teff_graph::family::Rule;
use teff_runtime::Model;

/// Keys of a file with their values, what is read from them, and the keys that warnings name.
type Case<'a> = (&'a [(&'a str, &'a str)], &'a Read, &'a [&'a str]);

#[test]
fn a_head_that_differs_is_kept() {
    for Small { class, fields, tensors, tied } in all() {
        let own = with(&tensors, &[own_head()]);
        let want = read(&fields.set(&[(TIED, "false")]), &own, &[]);
        assert!(read(&fields, &own, &[TIED]) == want, "{class}");
        let silent = fields.without(&[TIED]);
        let keys: &[&str] = if tied { &[TIED] } else { &[] };
        assert!(read(&silent, &own, keys) == want, "{class}");
        // Of another type, which changes its values.
        let mut half = own_head();
        let halves = half.data.as_chunks::<4>().0.iter().flat_map(|x| [x[2], x[3]]);
        (half.dtype, half.data) = ("BF16", halves.collect());
        let kept = open(&fields, &with(&tensors, &[half])).unwrap();
        warned(&kept, &[TIED], class);
        assert_eq!(kept.spec().head, Head::Own);
        logits(&kept);

        // One that equals the embedding is dropped, also of another type.
        let plain = read(&fields, &tensors, &[]);
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
            assert!(read_of(&model) == plain, "{class}");
        }
        // Of two tied tensors, the file may have the head alone.
        let mut alone = tensors.clone();
        alone[0].name = "lm_head.weight".into();
        let model = open(&fields, &alone).unwrap();
        warned(&model, &[], class);
        assert!(read_of(&model) == plain, "{class}");
        assert_eq!(model.tensor_infos().next().unwrap().name, "lm_head.weight");
        refused(&fields.set(&[(TIED, "false")]), &alone, "token_embd.weight");
        // Another number of rows is no head.
        let short = tensor("lm_head.weight", &[VOCAB - 1, WIDTH], 3);
        refused(&fields, &with(&tensors, &[short]), "lm_head.weight");
    }
}

#[test]
fn a_head_that_is_missing_is_refused() {
    for Small { fields, tensors, .. } in all() {
        // By the name that transformers looks for, without the model's prefix.
        refused(&fields.set(&[(TIED, "false")]), &tensors, "tensor `lm_head.weight` is missing");
    }
}

const LINEAR: &str = r#"{"rope_type":"linear","factor":4.0}"#;
const LLAMA3: &str =
    r#""rope_type":"llama3","factor":8.0,"low_freq_factor":1.0,"high_freq_factor":4.0"#;

#[test]
fn rotary_keys_of_three_generations() {
    for Small { class, fields, tensors, .. } in rotary() {
        let plain = |base: &str, scaling: &str| {
            read(&fields.set(&[("rope_theta", base), ("rope_scaling", scaling)]), &tensors, &[])
        };
        let base = plain("500", "null");
        let linear = plain("500", LINEAR);
        let near = plain("500", &format!("{{{LLAMA3},\"original_max_position_embeddings\":16}}"));
        let far = plain("500", &format!("{{{LLAMA3},\"original_max_position_embeddings\":64}}"));
        let none = read(&fields, &tensors, &[]);
        let differ = [&base, &linear, &near, &far, &none];
        assert!(all_differ(&differ), "{class}");
        let context = "original_max_position_embeddings";
        let inner16 = format!("{{{LLAMA3},\"rope_theta\":500,\"{context}\":16}}");
        let inner32 = format!("{{{LLAMA3},\"rope_theta\":500,\"{context}\":32}}");
        let bare = format!("{{{LLAMA3},\"rope_theta\":500}}");
        let cases: &[Case<'_>] = &[
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
                    ("rope_parameters", r#"{"rope_type":"dynamic","factor":2.0}"#),
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
            // `rope_scaling` without a kind replaces it too.
            (
                &[
                    ("rope_scaling", r#"{"beta_fast":32}"#),
                    ("rope_parameters", r#"{"rope_type":"default","rope_theta":500}"#),
                ],
                &none,
                &["rope_scaling.beta_fast", "rope_parameters"],
            ),
            (
                &[("rope_parameters", r#"{"rope_theta":500,"long_factor":[1],"truncate":true}"#)],
                &base,
                &["rope_parameters.long_factor"],
            ),
            // A factor without a kind, or of none.
            (
                &[("rope_theta", "500"), ("rope_scaling", r#"{"factor":4.0}"#)],
                &base,
                &["rope_scaling.factor"],
            ),
            (
                &[("rope_parameters", r#"{"rope_type":"default","factor":8,"rope_theta":500}"#)],
                &base,
                &["rope_parameters.factor"],
            ),
            (&[("rope_scaling", r#"{"factor":1.0,"rope_theta":500}"#)], &base, &[]),
            // Without a meaning here.
            (&[(context, "16"), ("rope_theta", "500")], &base, &[]),
            (&[("rope_theta", "null"), ("rope_scaling", "null")], &none, &[]),
        ];
        for (odd, want, keys) in cases {
            let fields = fields.set(odd);
            assert!(read(&fields, &tensors, keys) == **want, "{}", fields.json());
        }
    }
}

#[test]
fn rotary_parameters_of_another_form_are_refused() {
    for Small { fields, tensors, .. } in rotary() {
        for (key, value, names) in [
            ("rope_scaling", r#"{"rope_type":"dynamic","factor":4.0}"#, "rope_scaling.rope_type"),
            ("rope_scaling", r#"{"rope_type":"yarn","truncate":2}"#, "rope_scaling.truncate"),
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
            r#"{"sliding_attention":{"rope_type":"dynamic"}}"#,
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
    let of = |full, windowed| read(&nested(full, windowed), &tensors, &[]);
    let plain = of(r#"{"rope_theta":500}"#, r#"{"rope_theta":50}"#);
    let full = of(
        r#"{"rope_type":"linear","factor":4.0,"rope_theta":500}"#,
        r#"{"rope_type":"default","rope_theta":50}"#,
    );
    let windowed = of(
        r#"{"rope_type":"default","rope_theta":500}"#,
        r#"{"type":"linear","factor":4.0,"rope_theta":50}"#,
    );
    let none = read(&fields, &tensors, &[]);
    let differ = [&plain, &full, &windowed, &none];
    assert!(all_differ(&differ));
    // What a scaling of the layers with a window does is what a longer base of each does not.
    let bases = [("rope_theta", "500"), ("rope_local_base_freq", "50")];
    let scaled = r#"{"rope_type":"linear","factor":4.0,"rope_theta":500}"#;
    let both = r#"{"full_attention":{"rope_theta":500},"sliding_attention":{"rope_theta":50}}"#;
    let half = r#"{"full_attention":{"rope_theta":500}}"#;
    let llama3 = format!(r#"{{"full_attention":{{{LLAMA3}}},"sliding_attention":{{}}}}"#);
    let inner =
        format!(r#"{{"full_attention":{{{LLAMA3},"original_max_position_embeddings":64}}}}"#);
    let context = of_fields(&fields, &[("rope_parameters", &inner)], &tensors);
    let factors = r#"{"full_attention":{"rope_theta":500,"factor":4.0},"sliding_attention":{"rope_type":"default","rope_theta":50,"factor":2}}"#;
    let cases: &[Case<'_>] = &[
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
        // A factor of no scaling.
        (
            &[bases[0], bases[1], ("rope_scaling", r#"{"factor":4.0}"#)],
            &plain,
            &["rope_scaling.factor"],
        ),
        (
            &[("rope_parameters", factors)],
            &plain,
            &["rope_parameters.full_attention.factor", "rope_parameters.sliding_attention.factor"],
        ),
        (&[("rope_parameters", &llama3)], &context, &[]),
        (&[("rope_scaling", "null"), ("rope_parameters", "null")], &none, &[]),
    ];
    for (odd, want, keys) in cases {
        let fields = fields.set(odd);
        assert!(read(&fields, &tensors, keys) == **want, "{}", fields.json());
    }
}

fn of_fields(fields: &Fields, more: &[(&str, &str)], tensors: &[Plain]) -> Read {
    read(&fields.set(more), tensors, &[])
}

const WINDOWED: &str = r#"["full_attention","sliding_attention","full_attention"]"#;

#[test]
fn windows_of_classes_without_them_are_ignored() {
    for Small { class, fields, tensors, .. } in [gpt2(), llama(), lfm2(), bitnet(), qwen35()] {
        let plain = read(&fields, &tensors, &[]);
        let window = fields.set(&[("sliding_window", "4")]);
        assert!(read(&window, &tensors, &["sliding_window"]) == plain, "{class}");
        let warning = &open(&window, &tensors).unwrap().warnings()[0].to_string();
        assert!(warning.contains("`sliding_window` is 4;"), "{warning}");
        for other in ["4.0", "[4,4,4]"] {
            let other = fields.set(&[("sliding_window", other)]);
            assert!(read(&other, &tensors, &["sliding_window"]) == plain, "{class}");
        }
        for none in ["null", "0", "false", "-1"] {
            let none = fields.set(&[("sliding_window", none)]);
            assert!(read(&none, &tensors, &[]) == plain, "{class}");
        }
    }
    for Small { class, fields, tensors, .. } in [gpt2(), llama(), mistral(), bitnet()] {
        let plain = read(&fields, &tensors, &[]);
        let kinds = fields.set(&[("layer_types", WINDOWED)]);
        assert!(read(&kinds, &tensors, &["layer_types"]) == plain, "{class}");
        let kinds = fields.set(&[("layer_types", r#"["full_attention"]"#)]);
        assert!(read(&kinds, &tensors, &[]) == plain, "{class}");
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
        let of = |window| {
            let fields = fields.set(&rope).set(&[("sliding_window", window)]);
            logits(&open(&fields, &tensors).unwrap())
        };
        let plain = of("null");
        assert!(of("15") == plain, "{rope:?}");
        assert!(of("4") != plain, "{rope:?}");
        let narrow = fields.set(&rope).set(&[("sliding_window", "4")]);
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
    let bits = read(&silent, &tensors, &[]);
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
        // A window changes what is computed, unless it hides nothing.
        let with = |size| {
            let fields = fields.set(&[used, ("sliding_window", size), (first, "0")]);
            logits(&open(&fields, &tensors).unwrap())
        };
        let plain = logits(&open(&fields, &tensors).unwrap());
        assert!(with("15") == plain && with("4") != plain, "{class}");
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
    let want = read(&fields.set(&[(TIED, "false")]), &own, &[]);
    assert!(read(&fields.without(&[TIED]).set(&untied), &own, &[]) == want);
    assert!(read(&fields.set(&untied), &own, &[TIED]) == want);
    let list = "full_attn_idxs";
    let want = read(&fields, &tensors, &[]);
    assert!(read(&fields.without(&["layer_types"]).set(&[(list, "[2]")]), &tensors, &[]) == want);
    assert!(read(&fields.set(&[(list, "[2]")]), &tensors, &[]) == want);
    for other in ["[]", "[1,2]", "[0]"] {
        assert!(read(&fields.set(&[(list, other)]), &tensors, &[list]) == want, "{other}");
    }
    let Small { fields, tensors, .. } = qwen3moe();
    let want = read(&fields, &tensors, &[]);
    let other = fields.without(&["num_experts"]).set(&[("num_local_experts", "4")]);
    assert!(read(&other, &tensors, &[]) == want);
    let both = fields.set(&[("num_experts", "8"), ("num_local_experts", "4")]);
    assert!(read(&both, &tensors, &["num_experts"]) == want);
    let Small { fields, tensors, .. } = gpt2();
    let want = read(&fields, &tensors, &[]);
    let other = fields.without(&["n_embd", "n_layer", "n_head", "n_positions"]).set(&[
        ("hidden_size", "128"),
        ("num_hidden_layers", "2"),
        ("num_attention_heads", "2"),
        ("max_position_embeddings", "64"),
    ]);
    assert!(read(&other, &tensors, &[]) == want);
    let both = fields.set(&[("n_layer", "5"), ("num_hidden_layers", "2")]);
    assert!(read(&both, &tensors, &["n_layer"]) == want);
}

const GEMMA4_KINDS: &str = r#"["sliding_attention","sliding_attention","full_attention"]"#;

#[test]
fn heads_of_gemma4_in_two_forms() {
    let Small { fields, tensors, .. } = gemma4();
    let want = read(&fields, &tensors, &[]);
    let of_layers = ("per_layer_config", r#"{"2":{"head_dim":64}}"#);
    let other = fields.without(&["global_head_dim"]).set(&[of_layers]);
    assert!(read(&other, &tensors, &[]) == want);
    // Both, which may differ.
    assert!(read(&fields.set(&[of_layers]), &tensors, &[]) == want);
    let both = fields.set(&[of_layers, ("global_head_dim", "32")]);
    assert!(read(&both, &tensors, &["global_head_dim"]) == want);
    // Heads of keys and values in layers without a window count where keys are values.
    let more = fields.set(&[("num_global_key_value_heads", "1")]);
    assert!(read(&more, &tensors, &[]) == want);
    let more = more.set(&[("attention_k_eq_v", "true")]);
    refused(&more, &tensors, "layers.2.self_attn.k_proj.weight");
    // The class's default.
    refused(&fields.without(&["global_head_dim"]), &tensors, "layers.2.self_attn");
}

#[test]
fn the_last_layer_of_gemma4_has_no_window() {
    let Small { fields, tensors, .. } = gemma4();
    let want = read(&fields, &tensors, &[]);
    let windows = r#"["sliding_attention","sliding_attention","sliding_attention"]"#;
    let forced = fields.set(&[("layer_types", windows)]);
    assert!(read(&forced, &tensors, &["layer_types"]) == want);
    assert!(read(&fields.set(&[("layer_types", GEMMA4_KINDS)]), &tensors, &[]) == want);
    // Without a list, five of six layers have one, and the last has none.
    assert!(read(&fields.without(&["layer_types"]), &tensors, &[]) == want);
}

#[test]
fn the_bound_of_gemma4_s_logits() {
    let Small { fields, tensors, .. } = gemma4();
    let want = read(&fields, &tensors, &[]);
    let bound = |value| fields.set(&[("final_logit_softcapping", value)]);
    assert!(read(&bound("null"), &tensors, &[]) == want);
    let bounded = read(&bound("30.0"), &tensors, &[]);
    assert!(all_differ(&[&want, &bounded]));
    for value in ["0", "-2", "\"a\""] {
        refused(&bound(value), &tensors, "final_logit_softcapping");
    }
}

#[test]
fn rotary_parameters_of_gemma4() {
    let Small { fields, tensors, .. } = gemma4();
    let want = read(&fields, &tensors, &[]);
    let full = r#""full_attention":{"rope_type":"proportional","partial_rotary_factor":0.25,"rope_theta":1e6"#;
    let windowed = r#""sliding_attention":{"rope_type":"default","rope_theta":10000.0}"#;
    let both = |more: &str| {
        let parameters = format!("{{{full}{more}}},{windowed}}}");
        read(&fields.set(&[("rope_parameters", &parameters)]), &tensors, &[])
    };
    assert!(both("") == want && both(r#","factor":1.0"#) == want);
    assert!(both(r#","factor":2.0"#) != want);
    let one = format!("{{{windowed}}}");
    let fields = fields.set(&[("rope_parameters", &one)]);
    refused(&fields, &tensors, "rope_parameters.full_attention.rope_theta");
}

#[test]
fn settings_of_gemma3n() {
    let Small { fields, tensors, .. } = gemma3n();
    let want = read(&fields, &tensors, &[]);
    let with = |key, value| fields.set(&[(key, value)]);
    let pattern = "activation_sparsity_pattern";
    for value in ["null", "[0.0,0.0,0.0]", "[0,0,0]"] {
        assert!(read(&with(pattern, value), &tensors, &[]) == want, "{value}");
    }
    let sparse = read(&with(pattern, "[0.95,0.0,0.0]"), &tensors, &[]);
    for value in ["[1.0,0.0,0.0]", "[0.95,0.0]", "[0.95,0.0,0.0,0.0]", "0.95"] {
        refused(&with(pattern, value), &tensors, pattern);
    }
    let bound = "final_logit_softcapping";
    assert!(read(&with(bound, "30.0"), &tensors, &[]) == want);
    let free = read(&with(bound, "null"), &tensors, &[]);
    // The factors are there, and not used.
    let plain = read(&with("altup_correct_scale", "false"), &tensors, &[]);
    assert!(all_differ(&[&want, &sparse, &free, &plain]));
    // Coefficients are clipped in training alone.
    assert!(read(&with("altup_coef_clip", "0.001"), &tensors, &[]) == want);
    refused(&with("laurel_rank", "9"), &tensors, "laurel_rank");
    refused(&with("vocab_size_per_layer_input", "40"), &tensors, "vocab_size_per_layer_input");
    refused(&with("altup_active_idx", "2"), &tensors, "residual stream");
    // Tokens beyond the embedding of the layers' inputs have its first row.
    logits(&open(&fields, &tensors).unwrap());
}

/// Checkpoints have keys and values of layers that share those of others, which no one reads.
#[test]
fn dead_keys_and_values_are_passed_over() {
    let Small { fields, tensors, .. } = gemma4();
    let kinds = r#"["sliding_attention","full_attention","full_attention"]"#;
    let fields = fields.set(&[("layer_types", kinds), ("num_kv_shared_layers", "1")]);
    // The second layer is like the third.
    let mut all: Vec<Plain> = tensors.iter().filter(|t| !t.name.contains(".1.")).cloned().collect();
    let third = tensors.iter().filter(|t| t.name.contains(".2.")).cloned();
    all.extend(third.map(|t| Plain { name: t.name.replace(".2.", ".1."), ..t }));
    let dead = |t: &Plain| t.name.contains(".2.self_attn.k_") || t.name.contains(".2.self_attn.v_");
    let alive: Vec<Plain> = all.iter().filter(|t| !dead(t)).cloned().collect();
    assert_eq!(all.len(), alive.len() + 3);
    assert!(read(&fields, &all, &[]) == read(&fields, &alive, &[]));
    // Of its own they are needed.
    refused(&fields.without(&["num_kv_shared_layers"]), &alive, "layers.2.self_attn.k_proj.weight");
}

#[test]
fn layers_of_linear_attention() {
    let Small { fields, tensors, .. } = qwen35();
    let want = read(&fields, &tensors, &[]);
    let (types, interval) = ("layer_types", "full_attention_interval");
    assert!(read(&fields.set(&[(interval, "2")]), &tensors, &[]) == want);
    assert!(read(&fields.set(&[(interval, "4")]), &tensors, &[interval]) == want);
    let unlisted = fields.without(&[types]).set(&[(interval, "2")]);
    assert!(read(&unlisted, &tensors, &[]) == want);
    refused(&unlisted.set(&[(interval, "0")]), &tensors, interval);
    let other = r#"["linear_attention","sliding_attention","linear_attention"]"#;
    refused(&fields.set(&[(types, other)]), &tensors, types);
    refused(&fields.set(&[(types, r#"["linear_attention"]"#)]), &tensors, types);
    for (key, value, known) in
        [("attn_output_gate", "false", "true"), ("output_gate_type", "\"swish\"", "\"sigmoid\"")]
    {
        let (right, wrong) = if value == "false" { (known, value) } else { (value, known) };
        assert!(read(&fields.set(&[(key, right)]), &tensors, &[]) == want);
        refused(&fields.set(&[(key, wrong)]), &tensors, key);
    }
    refused(&fields.set(&[("linear_num_value_heads", "3")]), &tensors, "multiple");
}

#[test]
fn weights_of_experts_are_normalised() {
    let Small { fields, tensors, .. } = qwen35moe();
    let want = read(&fields, &tensors, &[]);
    let key = "norm_topk_prob";
    assert!(read(&fields.set(&[(key, "true")]), &tensors, &[]) == want);
    assert!(read(&fields.set(&[(key, "false")]), &tensors, &[key]) == want);
}

#[test]
fn sections_of_images() {
    let Small { fields, tensors, .. } = qwen35();
    let of = |more: &str| {
        let value = format!(r#"{{"rope_type":"default","rope_theta":10000.0{more}}}"#);
        fields.set(&[("rope_parameters", &value)])
    };
    let want = read(&of(""), &tensors, &[]);
    let key = "rope_parameters.mrope_section";
    assert!(
        read(&of(r#","mrope_section":[2,1,1],"mrope_interleaved":true"#), &tensors, &[]) == want
    );
    for wrong in ["[11,11,10]", "[]", "[2,-1,3]"] {
        assert!(read(&of(&format!(r#","mrope_section":{wrong}"#)), &tensors, &[key]) == want);
    }
    // A quarter of each head is rotated, unless the file says otherwise.
    assert!(read(&of(r#","partial_rotary_factor":0.25"#), &tensors, &[]) == want);
    assert!(read(&of(r#","partial_rotary_factor":0.5"#), &tensors, &[]) != want);
}

#[test]
fn biases_of_qwen2() {
    let Small { fields, tensors, .. } = qwen2();
    let want = read(&fields, &tensors, &[]);
    for value in ["true", "false", "null"] {
        let fields = fields.set(&[("attention_bias", value)]);
        assert!(read(&fields, &tensors, &[]) == want, "{value}");
    }
}

/// Every row of the page names a test that is there, and every rule has a test.
#[test]
fn the_page_and_the_tests_agree() {
    const PAGE: &str = include_str!("../../../docs/compatibility.md");
    const TESTS: [&str; 4] = [
        include_str!("compatibility.rs"),
        include_str!("compatibility_files.rs"),
        include_str!("compatibility_newer.rs"),
        include_str!("split.rs"),
    ];
    let rows = PAGE.lines().filter(|l| l.starts_with("| ") && !l.starts_with("| --- |"));
    let mut named = BTreeSet::new();
    for row in rows.filter(|l| !l.starts_with("| key or situation |")) {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        assert_eq!(cells.len(), 6, "{row}");
        // Tests of other files come with their path: `name` (`path`).
        for test in cells[5].split(", ") {
            let (name, path) = match test.split_once(" (`") {
                Some((name, path)) => (name.trim_matches('`'), path.trim_end_matches("`)")),
                None => (test.trim_matches('`'), ""),
            };
            let is_there = match path {
                "" => TESTS.iter().any(|t| t.contains(&format!("fn {name}()"))),
                _ => std::fs::read_to_string(format!("../{path}")).unwrap().contains(name),
            };
            assert!(is_there, "{row}");
            named.insert(name);
        }
    }
    assert!(named.len() > 20);
    for rule in Rule::ALL {
        assert!(!rule.taken().is_empty() && !rule.why().is_empty(), "{rule:?}");
        assert!(!rule.why().contains("  "), "{rule:?}");
    }
}
