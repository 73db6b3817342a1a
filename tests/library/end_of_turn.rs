//! Ends of answers in conversations: every token that a family's files name as one, from every place
//! where they name it, ends an answer, and no other token does.

#![cfg(feature = "chat")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::common::data;
use crate::common::tiny;
use teff::graph::gguf::{Gguf, GgufValue};
use teff::runtime::gguf_write::GgufHeader;
use teff::{
    Chat, ChatTemplate, Finish, Format, Generate, LoadOptions, Message, Model, Sampling,
    SessionOptions,
};

/// A family's tokens, as its published models have them, and its template.
struct Case {
    /// Small models of the family.
    files: &'static [&'static str],
    template: Source,
    /// Names of special tokens. The vocabulary of the small model gets them in place of its last
    /// tokens.
    names: &'static [&'static str],
    /// The token of `tokenizer.ggml.eos_token_id` in the published files.
    eos: &'static str,
    /// All that end an answer.
    ends: &'static [&'static str],
}

enum Source {
    Builtin(&'static str),
    Own(&'static str),
}

const GEMMA4: &str = "\
{{ bos_token }}
{%- for m in messages %}
    {%- set role = 'model' if m.role == 'assistant' else m.role %}
    {{- '<|turn>' + role + '\\n' + m.content | trim + '<turn|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|turn>model\\n' }}
    {%- if not enable_thinking | default(false) %}{{- '<|channel>thought\\n<channel|>' }}{% endif %}
{%- endif %}";

const OLMO2: &str = "\
{{ bos_token }}
{%- for m in messages %}
    {%- if m.role == 'assistant' %}
        {{- '<|assistant|>\\n' + m.content + eos_token }}
        {%- if not loop.last %}{{ '\\n' }}{% endif %}
    {%- else %}{{ '<|' + m.role + '|>\\n' + m.content + '\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}";

const BITNET: &str = "\
{% for m in messages %}{{ m.role | capitalize + ': ' + m.content | trim + '<|eot_id|>' }}{% endfor %}
{%- if add_generation_prompt %}{{ 'Assistant: ' }}{% endif %}";

/// The parts of gpt-oss' format: an answer in the past is the last of its turn.
const GPT_OSS: &str = "\
{%- for m in messages %}
    {%- if m.role == 'assistant' %}
        {{- '<|start|>assistant<|channel|>final<|message|>' + m.content }}
        {{- '<|return|>' if loop.last and not add_generation_prompt else '<|end|>' }}
    {%- else %}{{ '<|start|>' + m.role + '<|message|>' + m.content + '<|end|>' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|start|>assistant' }}{% endif %}";

const CASES: [Case; 16] = [
    Case {
        files: &["llama/llama-Q2_K"],
        template: Source::Builtin("llama3"),
        names: &[
            "<|begin_of_text|>",
            "<|end_of_text|>",
            "<|start_header_id|>",
            "<|end_header_id|>",
            "<|eom_id|>",
            "<|eot_id|>",
            "<|python_tag|>",
        ],
        eos: "<|eot_id|>",
        ends: &["<|end_of_text|>", "<|eom_id|>", "<|eot_id|>"],
    },
    Case {
        files: &["mixtral/mixtral-IQ4_NL"],
        template: Source::Builtin("mistral-v3"),
        names: &["<s>", "</s>", "[INST]", "[/INST]", "[TOOL_CALLS]"],
        eos: "</s>",
        ends: &["</s>"],
    },
    Case {
        files: &["ministral3/ministral3-Q4_0"],
        template: Source::Builtin("mistral-v7-tekken"),
        names: &["<s>", "</s>", "[INST]", "[/INST]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]"],
        eos: "</s>",
        ends: &["</s>"],
    },
    Case {
        files: &["qwen2/qwen2-Q4_0", "qwen3/qwen3-Q4_0", "qwen3moe/qwen3moe-Q4_K_M"],
        template: Source::Builtin("chatml"),
        names: &[
            "<|endoftext|>",
            "<|im_start|>",
            "<|im_end|>",
            "<|fim_prefix|>",
            "<|fim_middle|>",
            "<|fim_suffix|>",
            "<|fim_pad|>",
            "<|repo_name|>",
            "<|file_sep|>",
        ],
        eos: "<|im_end|>",
        // Those of code end a file, which is no answer: llama.cpp's rule.
        ends: &["<|endoftext|>", "<|im_end|>", "<|fim_pad|>", "<|repo_name|>", "<|file_sep|>"],
    },
    Case {
        files: &["qwen35/qwen35-Q4_0", "qwen35moe/qwen35moe-Q4_0"],
        template: Source::Builtin("chatml"),
        names: &["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>"],
        eos: "<|im_end|>",
        ends: &["<|endoftext|>", "<|im_end|>"],
    },
    Case {
        files: &["gemma2/gemma2-IQ4_NL", "gemma3/gemma3-Q4_0"],
        template: Source::Builtin("gemma"),
        names: &["<pad>", "<eos>", "<bos>", "<start_of_turn>", "<end_of_turn>"],
        eos: "<eos>",
        ends: &["<eos>", "<end_of_turn>"],
    },
    Case {
        files: &[
            "gemma4/gemma4-Q8_0",
            "gemma4-e-mm/gemma4-e-mm-Q4_0",
            "gemma4-moe/gemma4-moe-Q4_0",
        ],
        template: Source::Own(GEMMA4),
        names: &[
            "<eos>",
            "<|turn>",
            "<turn|>",
            "<|channel>",
            "<channel|>",
            "<|tool_call>",
            "<tool_call|>",
            "<|tool_response>",
            "<tool_response|>",
            "</s>",
        ],
        eos: "<eos>",
        ends: &["<eos>", "<turn|>", "<|tool_response>"],
    },
    Case {
        files: &["phi3/phi3-Q4_0"],
        template: Source::Builtin("phi3"),
        names: &["<|endoftext|>", "<|assistant|>", "<|user|>", "<|system|>", "<|end|>"],
        eos: "<|endoftext|>",
        ends: &["<|endoftext|>", "<|end|>"],
    },
    Case {
        files: &["phi4-short/phi4-short-Q8_0"],
        template: Source::Builtin("phi4"),
        names: &["<|endoftext|>", "<|im_start|>", "<|im_sep|>", "<|im_end|>"],
        eos: "<|im_end|>",
        ends: &["<|endoftext|>", "<|im_end|>"],
    },
    Case {
        files: &["gpt-oss/gpt-oss-MXFP4_MOE"],
        template: Source::Own(GPT_OSS),
        names: &[
            "<|startoftext|>",
            "<|endoftext|>",
            "<|return|>",
            "<|constrain|>",
            "<|channel|>",
            "<|start|>",
            "<|end|>",
            "<|message|>",
            "<|call|>",
        ],
        eos: "<|return|>",
        ends: &["<|endoftext|>", "<|return|>", "<|call|>"],
    },
    Case {
        files: &["granitemoe/granitemoe-Q8_0"],
        template: Source::Builtin("granite"),
        names: &["<|end_of_text|>", "<|start_of_role|>", "<|end_of_role|>", "<|tool_call|>"],
        eos: "<|end_of_text|>",
        ends: &["<|end_of_text|>"],
    },
    Case {
        files: &["granite4/granite4-Q8_0"],
        template: Source::Builtin("granite-4.0"),
        names: &["<|end_of_text|>", "<|start_of_role|>", "<|end_of_role|>", "<|fim_pad|>"],
        eos: "<|end_of_text|>",
        ends: &["<|end_of_text|>", "<|fim_pad|>"],
    },
    Case {
        files: &["smollm3/smollm3-Q4_0"],
        template: Source::Builtin("chatml"),
        names: &["<|begin_of_text|>", "<|end_of_text|>", "<|im_start|>", "<|im_end|>"],
        eos: "<|im_end|>",
        ends: &["<|end_of_text|>", "<|im_end|>"],
    },
    Case {
        files: &["olmo2/olmo2-Q8_0"],
        template: Source::Own(OLMO2),
        names: &["<|endoftext|>", "<|pad|>"],
        eos: "<|endoftext|>",
        ends: &["<|endoftext|>"],
    },
    Case {
        files: &["lfm2/lfm2-Q4_0", "lfm2moe/lfm2moe-Q4_0"],
        template: Source::Builtin("chatml"),
        names: &[
            "<|startoftext|>",
            "<|endoftext|>",
            "<|im_start|>",
            "<|im_end|>",
            "<|tool_call_end|>",
        ],
        eos: "<|im_end|>",
        ends: &["<|endoftext|>", "<|im_end|>"],
    },
    Case {
        files: &["bitnet/bitnet-I2_S"],
        template: Source::Own(BITNET),
        names: &["<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>"],
        eos: "<|end_of_text|>",
        ends: &["<|end_of_text|>", "<|eot_id|>"],
    },
];

/// A name that no program knows.
const STRANGER: &str = "<|stranger|>";

const TOKENS: &str = "tokenizer.ggml.tokens";
const TYPES: &str = "tokenizer.ggml.token_type";
const MERGES: &str = "tokenizer.ggml.merges";

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(format!("{name}.gguf"))
}

/// The file with other special tokens in place of its own and of its last ones, of which the last is
/// a stranger, with a template, and with ids named by keys.
fn renamed(bytes: &[u8], names: &[&str], template: &str, keys: &[(&str, &str)]) -> Vec<u8> {
    const CONTROL: i32 = 3;
    let gguf = Gguf::parse(bytes).unwrap();
    let list = |key: &str| match gguf.value(key) {
        Some(GgufValue::Array(array)) => Some(array),
        _ => None,
    };
    let mut tokens: Vec<Vec<u8>> =
        list(TOKENS).unwrap().strings().unwrap().map(<[u8]>::to_vec).collect();
    let mut kinds: Vec<i32> =
        list(TYPES).unwrap().integers().unwrap().map(|kind| kind as i32).collect();
    for (i, (token, kind)) in tokens.iter_mut().zip(&mut kinds).enumerate() {
        // Those of a real name, too: there is one of each.
        if *kind == CONTROL || names.iter().any(|name| name.as_bytes() == token) {
            *token = format!("<|old {i}|>").into_bytes();
        }
    }
    let first = tokens.len() - names.len() - 1;
    let names = names.iter().chain([&STRANGER]);
    for (i, name) in (first..).zip(names.clone()) {
        (tokens[i], kinds[i]) = (name.as_bytes().to_vec(), CONTROL);
    }
    let id = |name: &str| first + names.clone().position(|n| *n == name).unwrap();
    let mut h = GgufHeader::new();
    for (key, value) in gguf.metadata() {
        let ids = key.starts_with("tokenizer.") && key.ends_with("_token_id");
        if !ids && ![TOKENS, TYPES, MERGES, "tokenizer.chat_template"].contains(&key) {
            h.put(key, value).unwrap();
        }
    }
    if let Some(merges) = list(MERGES) {
        let made = |merge: &&[u8]| {
            let product: Vec<u8> = merge.iter().copied().filter(|b| *b != b' ').collect();
            tokens.contains(&product)
        };
        h.put_strings(MERGES, merges.strings().unwrap().filter(made)).unwrap();
    }
    h.put_strings(TOKENS, &tokens).unwrap();
    h.put_i32s(TYPES, &kinds).unwrap();
    h.put("tokenizer.chat_template", GgufValue::Str(template)).unwrap();
    for (key, name) in keys {
        h.put(key, GgufValue::U32(id(name) as u32)).unwrap();
    }
    for t in gguf.tensors() {
        h.tensor(t.name, t.format, &t.dims[..t.n_dims]).unwrap();
    }
    let mut out = h.write(Vec::new()).unwrap();
    for t in gguf.tensors() {
        out.write(t.name, t.data).unwrap();
    }
    out.finish().unwrap()
}

/// True if this token ends an answer in a conversation with the model, of which it is the first.
fn answer_ends(model: &Model, id: u32) -> bool {
    let session = model.session(&SessionOptions::default().with_threads(1)).unwrap();
    let template = ChatTemplate::of_model(model, None, false).unwrap();
    let mut chat = Chat::new(session, template).unwrap();
    let options = Generate::default()
        .with_sampling(Sampling::greedy())
        .with_max_tokens(1)
        .with_logit_bias(id, 1e9);
    let mut answer = chat.send(Message::user("hi"), &options).unwrap();
    while answer.next_piece().unwrap().is_some() {}
    match answer.finish() {
        Some(Finish::Stop(end)) => {
            assert_eq!((end, answer.generated()), (id, 0));
            true
        }
        finish => {
            assert_eq!(finish, Some(Finish::Length), "{id}");
            false
        }
    }
}

/// The tokens that end an answer, of all the tokenizer's ends, and `others`.
fn ends(model: &Model, others: &[u32]) -> Vec<u32> {
    let stops = model.tokenizer().unwrap().stop_ids();
    let tried: BTreeSet<u32> = stops.iter().chain(others).copied().collect();
    tried.into_iter().filter(|&id| answer_ends(model, id)).collect()
}

fn open(file: Vec<u8>) -> Model {
    Model::from_bytes(file, &LoadOptions::default()).unwrap()
}

fn name(model: &Model, id: u32) -> String {
    let bytes = model.tokenizer().unwrap().token_bytes(id).unwrap();
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn answers_end_at_every_family_s_ends() {
    const EOS: &str = "tokenizer.ggml.eos_token_id";
    for case in &CASES {
        let template = match case.template {
            Source::Builtin(name) => ChatTemplate::builtin(name).unwrap().source().to_owned(),
            Source::Own(source) => source.to_owned(),
        };
        for path in case.files {
            let bytes = fs::read(file(path)).unwrap();
            let model = |keys: &[(&str, &str)]| open(renamed(&bytes, case.names, &template, keys));
            let other = model(&[(EOS, case.eos)]);
            let vocab = other.spec().vocab;
            let all: Vec<u32> = (vocab - case.names.len() as u32 - 1..vocab).chain(0..4).collect();
            let mut found: Vec<_> =
                ends(&other, &all).into_iter().map(|id| name(&other, id)).collect();
            found.sort();
            let mut want = case.ends.to_vec();
            want.sort_unstable();
            assert_eq!(found, want, "{path}");
            if *path != case.files[0] {
                continue;
            }
            let stops = |key: &str| {
                let key = format!("tokenizer.ggml.{key}_token_id");
                let named = match key == EOS {
                    true => model(&[(EOS, STRANGER)]),
                    false => model(&[(EOS, case.eos), (&key, STRANGER)]),
                };
                let ids = named.tokenizer().unwrap().stop_ids();
                let expected: Vec<_> = other.tokenizer().unwrap().stop_ids().to_vec();
                let extra: Vec<u32> =
                    ids.iter().copied().filter(|id| !expected.contains(id)).collect();
                assert!(expected.iter().all(|id| ids.contains(id)), "{path} {key}");
                assert!(extra.is_empty() || extra == [vocab - 1], "{path} {key} {extra:?}");
                answer_ends(&named, vocab - 1)
            };
            for key in ["eos", "eot", "eom", "fim_pad", "fim_rep", "fim_sep"] {
                assert!(stops(key), "{path} {key}");
            }
            // Those that begin texts, pad them or stand around a gap end nothing.
            for key in ["bos", "padding", "seperator", "unknown", "fim_pre", "fim_suf", "fim_mid"] {
                assert!(!stops(key), "{path} {key}");
            }
        }
    }
}

/// Folder of its own for each test, removed when dropped.
struct Dir(PathBuf);

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Puts this between `model.` and the rest of the names of a SafeTensors file's tensors.
fn nested(file: &[u8], inner: &str) -> Vec<u8> {
    let n = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
    let mut header = String::from_utf8(file[8..8 + n].to_vec()).unwrap();
    header = header.replace("\"model.", &format!("\"model.{inner}"));
    while !header.len().is_multiple_of(8) {
        header.push(' ');
    }
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &file[8 + n..]].concat()
}

#[test]
fn folders_name_ends_in_several_places() {
    // Without special tokens: the vocabulary is GPT-2's small one.
    const TEMPLATE: &str = "\
{% for m in messages %}{{ m.role + ' ' + m.content + '\\n' }}{% endfor %}";
    let end = 310; // <|endoftext|>, which tokenizer_config.json names
    let dir = std::env::temp_dir().join(format!("teff-end-of-turn-{}", std::process::id()));
    let dir = Dir(dir);
    fs::create_dir_all(&dir.0).unwrap();
    let write = |name: &str, text: &str| fs::write(dir.0.join(name), text).unwrap();
    for name in ["tokenizer.json", "tokenizer_config.json"] {
        fs::copy(data(name), dir.0.join(name)).unwrap();
    }
    write("chat_template.jinja", TEMPLATE);
    let model = tiny::lfm2("");
    model.write(&dir.0, Format::BF16);
    let weights = dir.0.join("model.safetensors");
    let flat = fs::read(&weights).unwrap();
    let inner = nested(&flat, "language_model.");
    let text =
        model.config.replace(r#""architectures":["Lfm2ForCausalLM"]"#, r#""model_type":"lfm2""#);
    let with = |config: &str, field: &str| config.replacen('{', &format!("{{{field}"), 1);
    let wrapped = |outer: &str, field: &str| {
        format!(
            r#"{{"architectures":["Lfm2VlForConditionalGeneration"],{outer}"text_config":{}}}"#,
            with(&text, field)
        )
    };
    let cases = [
        (with(&model.config, ""), None, &[][..]),
        (with(&model.config, r#""eos_token_id":41,"#), None, &[41]),
        (with(&model.config, r#""eos_token_id":[41,42],"#), None, &[41, 42]),
        (wrapped("", r#""eos_token_id":41,"#), None, &[41]),
        (wrapped(r#""eos_token_id":[43,44],"#, r#""eos_token_id":41,"#), None, &[43, 44]),
        (
            wrapped(r#""eos_token_id":null,"#, r#""eos_token_id":[41],"#),
            Some(r#"{"temperature":0.7}"#),
            &[41],
        ),
        // What is said of generation counts, and replaces the rest.
        (
            wrapped(r#""eos_token_id":43,"#, r#""eos_token_id":41,"#),
            Some(r#"{"eos_token_id":[45,46,47]}"#),
            &[45, 46, 47],
        ),
        (with(&model.config, r#""eos_token_id":41,"#), Some(r#"{"eos_token_id":45}"#), &[45]),
    ];
    let tried: Vec<u32> = (0..60).collect();
    for (config, generation, want) in cases {
        fs::write(&weights, if config.contains("text_config") { &inner } else { &flat }).unwrap();
        write("config.json", &config);
        match generation {
            Some(text) => write("generation_config.json", text),
            None => drop(fs::remove_file(dir.0.join("generation_config.json"))),
        }
        let model = Model::open(&dir.0).unwrap();
        let want: Vec<u32> = want.iter().copied().chain([end]).collect();
        assert_eq!(ends(&model, &tried), want, "{config} {generation:?}");
    }
}
