//! Newer decoders (`docs/compatibility.md`): what their files mean where keys are missing or two of them
//! say different things.

use teff_graph::family::{Family, Shapes, of_arch};
use teff_graph::layers::Temperature;
use teff_graph::{Rope, RopeScaling, Spec, SpecError, SpecRoom};
use teff_runtime::config::Config;

/// Tensors of a model, of which its readers ask for few.
struct Names<'a>(&'a [&'a str]);

impl Shapes for Names<'_> {
    fn shape(&self, name: &str) -> Option<(usize, usize)> {
        self.0.contains(&name).then_some((1000, 64))
    }
}

/// Hyper-parameters of a config.json of four layers with more fields, and the keys that warnings name.
fn read(class: &str, more: &str) -> Result<(Spec<'static>, Vec<&'static str>), SpecError> {
    let json = format!(
        "{{\"architectures\":[\"{class}\"],\"hidden_size\":64,\"num_attention_heads\":4,
        \"num_key_value_heads\":2,\"head_dim\":16,\"num_hidden_layers\":4,\"intermediate_size\":96,
        \"max_position_embeddings\":4096,\"pad_token_id\":0{more}}}"
    );
    let config = Config::parse(json.as_bytes()).unwrap();
    let family: &Family = config.family().unwrap();
    let mut room = SpecRoom::new();
    let shapes = Names(&["embed_tokens.weight", "lm_head.weight"]);
    let spec = (family.from_config)(&config.text(), &shapes, &mut room)?.to_owned();
    Ok((spec, room.notices().iter().map(|n| n.key).collect()))
}

fn plain(class: &str, more: &str) -> Spec<'static> {
    let (spec, notices) = read(class, more).unwrap();
    // Heads of their own beside tied ones are another matter.
    assert!(notices.iter().all(|key| *key == "tie_word_embeddings"), "{more}: {notices:?}");
    spec
}

fn windows(spec: &Spec<'_>) -> Vec<Option<u32>> {
    spec.layers.iter().map(|l| l.attention().unwrap().window).collect()
}

fn rope(spec: &Spec<'_>) -> Rope {
    spec.ropes[0]
}

#[test]
fn newer_decoders_in_config_json() {
    // SmolLM3: layers without rotation have the window.
    let spec = plain("SmolLM3ForCausalLM", r#","use_sliding_window":true,"sliding_window":8"#);
    assert_eq!(windows(&spec), [None, None, None, Some(8)]);
    let listed = r#","no_rope_layers":[0,1,1,0],"use_sliding_window":true,"sliding_window":8"#;
    let spec = plain("SmolLM3ForCausalLM", listed);
    assert_eq!(windows(&spec), [Some(8), None, None, Some(8)]);
    let rotated: Vec<bool> =
        spec.layers.iter().map(|l| l.attention().unwrap().rope.is_some()).collect();
    assert_eq!(rotated, [false, true, true, false]);

    // Ministral 3: scores that grow, or don't; defaults.
    let grown = |more: &str| {
        let spec = plain("Ministral3ForCausalLM", more);
        (spec.layers.get(0).attention().unwrap().temperature, rope(&spec).scaling)
    };
    let yarn = RopeScaling::Yarn {
        factor: 16.0,
        fast: 32.0,
        slow: 1.0,
        original: 16384.0,
        truncate: true,
    };
    assert_eq!(grown(""), (Some(Temperature { growth: 0.1, every: 16384 }), yarn));
    let inner = r#"{"rope_type":"yarn","factor":16,"original_max_position_embeddings":16384"#;
    for beta in ["", r#","llama_4_scaling_beta":0"#] {
        assert_eq!(grown(&format!(r#","rope_parameters":{inner}{beta}}}"#)), (None, yarn));
    }
    let beta = r#","llama_4_scaling_beta":0.25"#;
    let temperature = Some(Temperature { growth: 0.25, every: 16384 });
    assert_eq!(grown(&format!(r#","rope_parameters":{inner}{beta}}}"#)), (temperature, yarn));
    let spec = plain("Ministral3ForCausalLM", r#","sliding_window":9"#);
    assert_eq!(windows(&spec), [Some(9); 4]);

    // Phi-3: LongRoPE and its magnitude by three names; the outer context; windows.
    let long = |kind: &str, more: &str, outer: &str| {
        let lists = r#""long_factor":[1,2,3,4,5,6,7,8],"short_factor":[1,1,1,1,1,1,1,1]"#;
        let inner = format!(r#""rope_scaling":{{"type":"{kind}",{lists}{more}}}"#);
        let (spec, notices) = read("Phi3ForCausalLM", &format!(",{inner}{outer}")).unwrap();
        let told = notices.contains(&"rope_scaling.original_max_position_embeddings");
        (rope(&spec).scaling, rope(&spec).magnitude, told)
    };
    let outer = r#","original_max_position_embeddings":1024"#;
    let magnitude = (1.0 + 4f64.ln() / 1024f64.ln()).sqrt() as f32;
    let scaling = RopeScaling::Long { original: 1024 };
    for kind in ["longrope", "su", "yarn"] {
        assert_eq!(long(kind, "", outer), (scaling, magnitude, false));
    }
    let factor = (1.0 + 8f64.ln() / 1024f64.ln()).sqrt() as f32;
    assert_eq!(long("longrope", r#","factor":8"#, outer), (scaling, factor, false));
    let given = r#","factor":8,"attention_factor":1.25"#;
    assert_eq!(long("longrope", given, outer), (scaling, 1.25, false));
    let inner = r#","original_max_position_embeddings":512"#;
    assert_eq!(long("longrope", inner, outer), (scaling, magnitude, true));
    let spec = plain("Phi3ForCausalLM", r#","sliding_window":2047"#);
    assert_eq!(windows(&spec), [Some(2047); 4]);
    assert_eq!(windows(&plain("Phi3ForCausalLM", r#","sliding_window":null"#)), [None; 4]);
}

/// llama.cpp requires `output.weight` of this architecture, and its converter always writes it.
#[test]
fn olmo2_needs_its_head() {
    use teff_graph::meta::{Metadata, Value};

    struct Keys;

    impl Metadata for Keys {
        fn get(&self, key: &str) -> Option<Value<'_>> {
            Some(match key {
                "olmo2.context_length" => Value::Uint(64),
                "olmo2.embedding_length" => Value::Uint(64),
                "olmo2.block_count" => Value::Uint(2),
                "olmo2.feed_forward_length" => Value::Uint(96),
                "olmo2.attention.head_count" => Value::Uint(4),
                "olmo2.attention.layer_norm_rms_epsilon" => Value::Float(1e-6),
                _ => return None,
            })
        }
    }

    let family = of_arch("olmo2").unwrap();
    let all = Names(&["token_embd.weight", "output.weight"]);
    let spec = family.read_gguf(&Keys, &all).unwrap();
    assert_eq!(spec.head, teff_graph::Head::Own);
    // Without it the head is a tensor that is missing, not the embedding.
    let spec = family.read_gguf(&Keys, &Names(&["token_embd.weight"])).unwrap();
    assert_eq!(spec.head, teff_graph::Head::Own);
}
