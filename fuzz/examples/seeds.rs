//! Regenerates the seeds: `cargo run --example seeds` in this folder.

use std::fs;
use std::path::Path;

use teff_fuzz::{gguf, tiny, tiny_gguf, vocabulary};
use teff_graph::family::{
    bitnet, gemma2, gemma3, gemma3n, gemma4, gpt_oss, granite, lfm2, llama, mistral3, olmo2, phi3,
    qwen, qwen2moe, qwen3moe, qwen35, qwen35moe, smollm3,
};
use teff_graph::{Head, LogitsFor};
use teff_kernels::Format;
use teff_runtime::{LoadOptions, Model, SessionOptions};

fn json(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

fn main() {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds");
    let write = |target: &str, name: &str, bytes: &[u8]| {
        let folder = seeds.join(target);
        fs::create_dir_all(&folder).expect("a folder");
        fs::write(folder.join(name), bytes).expect("a file");
    };

    for (name, format, own) in
        [("q4_0", Format::Q4_0, false), ("q8_0", Format::Q8_0, true), ("f16", Format::F16, false)]
    {
        let file = tiny_gguf(format, own);
        write("load_plan_token", name, &file);
        if format == Format::Q4_0 {
            write("gguf", name, &file);
            write("tokenizer", "gguf", &[&[2], &file[..]].concat());
        }
    }

    for (name, spec, (format, width)) in [
        ("llama", llama::tinyllama(), (Format::Q4_0, 32)),
        ("gemma3", gemma3::gemma3_1b(), (Format::F16, 32)),
        ("gemma2", gemma2::gemma2_2b(), (Format::Q4_0, 32)),
        ("gemma3n", gemma3n::gemma3n_e2b(), (Format::Q8_0, 32)),
        ("gemma4", gemma4::gemma4_e2b(), (Format::Q4_0, 32)),
        ("gemma4-moe", gemma4::gemma4_26b_a4b(), (Format::Q5_0, 32)),
        ("qwen2", qwen::qwen2_5_14b(), (Format::Q5_1, 32)),
        ("qwen3", qwen::qwen3_14b(), (Format::Q4_1, 32)),
        ("qwen3moe", qwen3moe::qwen3_30b_a3b(), (Format::Q8_0, 32)),
        ("qwen2moe", qwen2moe::qwen1_5_moe(), (Format::Q4_0, 32)),
        ("lfm2", lfm2::lfm2_1_2b(), (Format::Q4_0, 32)),
        ("qwen35moe", qwen35moe::qwen3_5_35b_a3b(), (Format::Q5_0, 32)),
        ("qwen35", qwen35::qwen3_5_0_8b(), (Format::Q4_0, 32)),
        ("lfm2moe", lfm2::lfm2_8b_a1b(), (Format::Q8_0, 32)),
        ("mixtral", llama::mixtral_8x7b(), (Format::Q5_0, 32)),
        ("granitemoe", granite::granite3_3b_a800m(), (Format::Q8_0, 32)),
        ("gpt-oss", gpt_oss::gpt_oss_20b(), (Format::MXFP4, 32)),
        ("granite", granite::granite3_8b(), (Format::Q5_0, 32)),
        ("smollm3", smollm3::smollm3_3b(), (Format::Q5_1, 32)),
        ("olmo2", olmo2::olmo2_7b(), (Format::Q4_1, 32)),
        ("mistral3", mistral3::ministral3_3b(), (Format::Q5_0, 32)),
        ("phi3", phi3::phi4_mini(), (Format::Q4_0, 32)),
        ("bitnet", bitnet::bitnet_2b(), (Format::I2_S, 128)),
    ] {
        let own = spec.head == Head::Own;
        let file = gguf(&tiny(spec, width, own), format, name == "llama" || name == "gemma3");
        write("load_plan_token", name, &file);
        if name == "llama" {
            write("tokenizer", "sentence_piece", &[&[2], &file[..]].concat());
        }
    }

    let model = tiny_gguf(Format::Q8_0, false);
    let model = Model::from_bytes(model, &LoadOptions::default()).expect("a model of ours");
    let options =
        SessionOptions { context: Some(16), threads: Some(1), ..SessionOptions::default() };
    let mut session = model.session(&options).expect("a small session");
    session.eval(&[7, 8, 9, 10], LogitsFor::None).expect("four tokens");
    write("snapshot", "four", &session.snapshot());

    let header = r#"{"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},"b":{"dtype":"BF16","shape":[4],"data_offsets":[24,32]},"c":{"dtype":"I8","shape":[],"data_offsets":[32,33]}}"#;
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend_from_slice(header.as_bytes());
    file.extend_from_slice(&[0; 33]);
    write("safetensors", "three", &file);
    let index = r#"{"metadata":{"total_size":8},"weight_map":{"a":"model-00001-of-00002.safetensors","b":"model-00002-of-00002.safetensors"}}"#;
    write("safetensors", "index", index.as_bytes());

    let config = r#"{"architectures":["GPT2LMHeadModel"],"n_embd":32,"n_head":2,"n_layer":1,"n_positions":64,"layer_norm_epsilon":1e-05,"tie_word_embeddings":true,"x":[null,"é\u00e9\ud83d\ude00\n",-0.5E+3,{}]}"#;
    write("json", "config", config.as_bytes());

    let chatml = "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' + m.content|trim }}\n{% endfor %}{% if tools %}{{ tools|tojson(indent=2) }}{% endif %}";
    write("template", "chatml", chatml.as_bytes());
    let macros = "{%- macro f(a, b=2) -%}{{ a ~ b }}{{ caller() if caller }}{%- endmacro -%}{% set ns = namespace(x=[]) %}{% for i in range(3) if i is odd %}{% set ns.x = ns.x + [loop.index] %}{% else %}none{% endfor %}{% call f(1) %}{{ ns.x[-1:] }}{% endcall %}";
    write("template", "macros", macros.as_bytes());
    let python = "{{ '%s %d' % ('a', 1) }}{{ '{:>5}{x[0]}'.format(1, x='b') }}{{ 'a,b'.split(',')|map('upper')|join }}{{ {'a': 1}.items()|list }}{{ 7 // 2 ** 2 }}{{ ('<'|safe) + '<' }}\0<|endoftext|>";
    write("template", "python", python.as_bytes());

    for (name, schema) in [
        (
            "object",
            r#"{"type":"object","properties":{"a":{"type":"integer","minimum":-3,"maximum":120},"b":{"enum":["x",1,null]}},"required":["b"],"additionalProperties":{"type":"null"},"minProperties":1,"maxProperties":3}"#,
        ),
        (
            "recursive",
            r##"{"$defs":{"t":{"type":"object","properties":{"v":{"type":"number","multipleOf":0.5},"n":{"anyOf":[{"$ref":"#/$defs/t"},{"type":"null"}]}},"required":["n"]}},"$ref":"#/$defs/t"}"##,
        ),
        (
            "strings",
            r#"{"type":"array","prefixItems":[{"type":"string","pattern":"^[a-z]{2,}\\d$","minLength":3},{"format":"date-time"},{"format":"ipv6"}],"items":{"maxLength":2},"minItems":1,"maxItems":4}"#,
        ),
        (
            "groups",
            r#"{"oneOf":[{"type":"object","properties":{"k":{"const":"a"}},"required":["k"]},{"type":"object","properties":{"k":{"const":"b"}},"required":["k"]}]}"#,
        ),
        (
            "merged",
            r#"{"allOf":[{"multipleOf":4},{"multipleOf":6},{"exclusiveMinimum":0.5},{"anyOf":[{"maximum":9},{"const":12}]}],"type":["integer","null"]}"#,
        ),
        (
            "names",
            r#"{"type":"object","patternProperties":{"^a":{"minimum":1},"b$":{"type":"integer"}},"propertyNames":{"maxLength":3},"additionalProperties":false}"#,
        ),
        (
            "draft7",
            r##"{"$schema":"http://json-schema.org/draft-07/schema#","definitions":{"d/e":{"const":[1]}},"items":[{"$ref":"#/definitions/d~1e"}],"additionalItems":{"format":"uri"}}"##,
        ),
        ("regex", "\u{1}^(a|[^b\\d]{2,3}|\\u00e9\\p{Lu})+$"),
        (
            "lark",
            "\u{2}start: a \",\" B\na: /[0-9]+/ | \"(\" a \")\"\nB: \"x\"~2..3 & ~\"xx\"\n%ignore / /\n",
        ),
    ] {
        write("json_schema", name, schema.as_bytes());
    }

    for (name, path, body) in [
        (
            "chat",
            0,
            r#"{"model":"m","messages":[{"role":"system","content":"be brief"},{"role":"user","content":[{"type":"text","text":"he"}]},{"role":"assistant","content":null,"tool_calls":[{"id":"c","type":"function","function":{"name":"f","arguments":"{\"a\":[1,2]}"}}]},{"role":"tool","tool_call_id":"c","content":"3"}],"tools":[{"type":"function","function":{"name":"f","description":"d","parameters":{"type":"object","properties":{"a":{"type":"array"}}},"strict":true}}],"tool_choice":{"type":"function","function":{"name":"f"}},"stream":true,"stream_options":{"include_usage":true},"chat_template_kwargs":{"x":[null,0.5]}}"#,
        ),
        (
            "options",
            1,
            r#"{"prompt":["he",[1,2]],"temperature":0.5,"top_p":0.9,"top_k":-1,"min_p":0,"seed":-1,"n":2,"stop":["a",""],"max_tokens":4,"logit_bias":[[5,-1.5],["he",false]],"logprobs":3,"echo":true,"repeat_penalty":1.1,"presence_penalty":-2,"regex":"a+"}"#,
        ),
        (
            "responses",
            2,
            r#"{"instructions":"be brief","input":[{"role":"user","content":[{"type":"input_text","text":"he"}]},{"type":"function_call","call_id":"c","name":"f","arguments":"{}"},{"type":"function_call_output","call_id":"c","output":"3"}],"tools":[{"type":"function","name":"f","parameters":{"type":"object"},"strict":false}],"text":{"format":{"type":"json_schema","name":"n","schema":{"type":"integer"}}},"reasoning":{"effort":"low"},"metadata":{"a":"b"}}"#,
        ),
        (
            "messages",
            3,
            r#"{"model":"m","max_tokens":4,"system":[{"type":"text","text":"be brief"}],"messages":[{"role":"user","content":"he"},{"role":"assistant","content":[{"type":"thinking","thinking":"t","signature":""},{"type":"tool_use","id":"c","name":"f","input":{"a":1}}]},{"role":"user","content":[{"type":"tool_result","tool_use_id":"c","content":"3"}]}],"tools":[{"name":"f","input_schema":{"type":"object"}}],"tool_choice":{"type":"any"},"stop_sequences":["x"],"thinking":{"type":"enabled","budget_tokens":5}}"#,
        ),
        (
            "tokenize",
            5,
            r#"{"content":"he \ud83d\ude00 he","add_special":true,"with_pieces":true}"#,
        ),
        ("detokenize", 6, r#"{"tokens":[1,2.0,257]}"#),
    ] {
        write("requests", name, &[&[path], body.as_bytes()].concat());
    }

    let (tokens, merges) = vocabulary();
    let vocab: Vec<_> =
        tokens.iter().enumerate().map(|(i, t)| format!("{}:{i}", json(t))).collect();
    let vocab = format!("{{{}}}", vocab.join(","));
    let merges_txt = format!("#version: 0.2\n{}\n", merges.join("\n"));
    let config = r#"{"add_prefix_space":false,"bos_token":"<|endoftext|>"}"#;
    let all = format!(
        r#"{{"version":"1.0","truncation":null,"padding":null,"added_tokens":[{{"id":257,"content":"<|endoftext|>","single_word":false,"lstrip":false,"rstrip":false,"normalized":false,"special":true}}],"normalizer":null,"pre_tokenizer":{{"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,"use_regex":true}},"post_processor":null,"decoder":{{"type":"ByteLevel"}},"model":{{"type":"BPE","dropout":null,"unk_token":null,"fuse_unk":false,"vocab":{vocab},"merges":["h e"]}}}}"#
    );
    let text = "hello there, it's 12 o'clock";
    let join = |kind: u8, parts: &[&str]| {
        let mut out = vec![kind];
        out.extend(parts.iter().map(|p| p.as_bytes()).collect::<Vec<_>>().join(&0xff));
        out
    };
    write("tokenizer", "json", &join(0, &[&all, config, text]));
    write("tokenizer", "vocab_merges", &join(1, &[&vocab, &merges_txt, config, text]));
}
