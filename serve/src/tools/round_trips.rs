//! Calls as chat templates write them, read back.
//!
//! The templates here have only what the published ones make of calls. With `TEFF_CHAT_TEMPLATES`, the path
//! of a folder such as llama.cpp's `models/templates`, the published ones are tried as well.

use std::path::PathBuf;

use serde_json::{Value, json};
use teff_runtime::chat::{ChatTemplate, Conversation, Message, SpecialTokens};
use teff_runtime::template::Json;

use super::tests::{parse, some_functions};
use super::*;

/// A family's format, the name of a published template, and what it makes of calls.
const FAMILIES: [(Format, &str, &str); 9] = [
    (
        Format::Hermes,
        "Qwen-Qwen3-0.6B.jinja",
        "{%- for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}
         {%- for c in m.tool_calls or [] %}{% if m.content or not loop.first %}{{ '\\n' }}{% endif %}{{ '<tool_call>\\n{\"name\": \"' }}
         {{- c.function.name }}\", \"arguments\": {{ c.function.arguments | tojson }}{{ '}\\n</tool_call>' }}
         {%- endfor %}{{ '<|im_end|>\\n' }}{% endfor %}
         {%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}",
    ),
    (
        Format::Xml,
        "Qwen3-Coder.jinja",
        "{%- for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}
         {%- for c in m.tool_calls or [] %}{{ '\\n<tool_call>\\n<function=' + c.function.name + '>\\n' }}
         {%- for k, v in c.function.arguments | items %}{{ '<parameter=' + k + '>\\n' }}
         {{- v | tojson if v is mapping or (v is sequence and v is not string) else v | string }}{{ '\\n</parameter>\\n' }}
         {%- endfor %}{{ '</function>\\n</tool_call>' }}
         {%- endfor %}{{ '<|im_end|>\\n' }}{% endfor %}
         {%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}",
    ),
    (
        Format::Llama,
        "meta-llama-Llama-3.1-8B-Instruct.jinja",
        "{%- for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n
         {%- if m.tool_calls %}{% set f = m.tool_calls[0].function %}{{ '{\"name\": \"' + f.name + '\", \"parameters\": ' }}
         {{- f.arguments | tojson }}{{ '}' }}{% else %}{{ m.content }}{% endif %}<|eot_id|>{% endfor %}
         {%- if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>' }}{% endif %}",
    ),
    (
        Format::MistralList,
        "mistralai-Mistral-Nemo-Instruct-2407.jinja",
        "{%- for m in messages %}{% if m.role == 'user' %}[INST]{{ m.content }}[/INST]{% elif m.tool_calls %}[TOOL_CALLS][
         {%- for c in m.tool_calls %}{{ (c.function | tojson)[:-1] }}, \"id\": \"{{ c.id }}\"}
         {%- if not loop.last %}, {% endif %}{% endfor %}]{{ eos_token }}
         {%- else %}{{ m.content + eos_token }}{% endif %}{% endfor %}",
    ),
    (
        Format::MistralId,
        "Mistral-Small-3.2-24B-Instruct-2506.jinja",
        "{%- for m in messages %}{% if m.role == 'user' %}[INST]{{ m.content }}[/INST]{% elif m.tool_calls %}
         {%- for c in m.tool_calls %}[TOOL_CALLS]{{ c.function.name }}[CALL_ID]{{ c.id }}[ARGS]
         {{- c.function.arguments | tojson }}{% endfor %}{{ eos_token }}
         {%- else %}{{ m.content + eos_token }}{% endif %}{% endfor %}",
    ),
    (
        Format::MistralArgs,
        "mistralai-Ministral-3-14B-Reasoning-2512.jinja",
        "{%- for m in messages %}{% if m.role == 'user' %}[INST]{{ m.content }}[/INST]{% else %}{{ m.content }}
         {%- for c in m.tool_calls or [] %}[TOOL_CALLS]{{ c.function.name }}[ARGS]{{ c.function.arguments | tojson }}
         {%- endfor %}{{ eos_token }}{% endif %}{% endfor %}",
    ),
    (
        Format::Gemma,
        "google-gemma-4-31B-it.jinja",
        "{%- macro value(v) %}{% if v is string %}{{ '<|\"|>' + v + '<|\"|>' }}{% elif v is boolean %}
         {{- 'true' if v else 'false' }}{% elif v is mapping %}{{ '{' }}
         {%- for k, x in v | dictsort %}{{ ',' if not loop.first }}{{ k }}:{{ value(x) }}{% endfor %}{{ '}' }}
         {%- elif v is sequence %}[{% for x in v %}{{ value(x) }}{{ ',' if not loop.last }}{% endfor %}]
         {%- else %}{{ v }}{% endif %}{% endmacro %}
         {%- for m in messages %}<|turn>{{ ('model' if m.role == 'assistant' else m.role) + '\\n' }}
         {%- for c in m.tool_calls or [] %}<|tool_call>call:{{ c.function.name }}{{ value(c.function.arguments) }}<tool_call|>
         {%- endfor %}{{ m.content }}{{ '<|tool_response>' if m.tool_calls else '<turn|>\\n' }}{% endfor %}
         {%- if add_generation_prompt %}{{ '<|turn>model\\n' }}{% endif %}",
    ),
    (
        Format::Lfm,
        "LFM2.5-8B-A1B.jinja",
        "{%- macro value(v) %}{% if v is string %}{{ \"'\" + v + \"'\" }}{% elif v is mapping %}{{ v | tojson }}
         {%- else %}{{ v | string }}{% endif %}{% endmacro %}
         {%- for m in messages %}<|im_start|>{{ m.role + '\\n' }}{% if m.tool_calls %}<|tool_call_start|>[
         {%- for c in m.tool_calls %}{{ c.function.name }}({% for k, x in c.function.arguments.items() %}{{ k }}={{ value(x) }}
         {{- ', ' if not loop.last }}{% endfor %}){{ ', ' if not loop.last }}{% endfor %}]<|tool_call_end|>
         {%- else %}{{ m.content }}{% endif %}<|im_end|>{{ '\\n' }}{% endfor %}
         {%- if add_generation_prompt %}<|im_start|>assistant{{ '\\n' }}{% endif %}",
    ),
    (
        Format::Harmony,
        "openai-gpt-oss-120b.jinja",
        "{%- for m in messages %}{% if m.tool_calls %}{% set f = m.tool_calls[0].function %}<|start|>assistant to=functions.
         {{- f.name }}<|channel|>commentary json<|message|>{{ f.arguments | tojson }}<|call|>
         {%- else %}<|start|>{{ m.role }}<|message|>{{ m.content }}<|end|>{% endif %}{% endfor %}
         {%- if add_generation_prompt %}<|start|>assistant{% endif %}",
    ),
];

/// Ends of answers, which generation leaves out.
const ENDS: [&str; 7] = [
    "<|im_end|>\n",
    "<|im_end|>",
    "<|eot_id|>",
    "</s>",
    "<|tool_response>",
    "<turn|>\n",
    "<|call|>",
];

/// The answer that a template writes for a message, without its end.
fn written(template: &str, calls: &Value) -> String {
    let template = ChatTemplate::new(template).expect("a template");
    let special = SpecialTokens::default().with_bos("<s>").with_eos("</s>");
    let tools = json!([{"type": "function", "function": {
        "name": "get_weather", "description": "Weather", "parameters": {"type": "object", "properties": {}}}}]);
    let Json::Array(tools) = Json::parse(tools.to_string().as_bytes()).unwrap() else {
        unreachable!()
    };
    let thinking = [("enable_thinking".to_owned(), Json::Bool(true))];
    let answer = json!({"role": "assistant", "content": "", "tool_calls": calls});
    let answer = Message::from_json(Json::parse(answer.to_string().as_bytes()).unwrap()).unwrap();
    let format = Format::of_template(template.source());
    let messages = history::convert(format, vec![Message::user("Hi"), answer]).unwrap();
    let render = |messages: &[Message], prompt: bool| {
        let conversation = Conversation::new(messages).with_tools(&tools);
        let conversation = conversation.with_variables(&thinking).with_generation_prompt(prompt);
        template.render(&conversation, &special).expect("a rendering")
    };
    let prompt = render(&messages[..1], true);
    let all = render(&messages[..2], false);
    let text =
        all.strip_prefix(&prompt).unwrap_or_else(|| panic!("{prompt:?} doesn't begin {all:?}"));
    let end = ENDS.iter().find_map(|end| text.strip_suffix(end));
    end.unwrap_or(text).to_owned()
}

fn arguments() -> [Value; 5] {
    [
        json!({"city": "Paris"}),
        json!({"city": "<b> \"Köln\" & {Bonn}\\ ]\n", "days": -3, "exact": false, "tags": ["a", "b\"c", "[}"]}),
        json!({"where": {"lat": 1.5, "deep": {"a": [true, {"b": 12}], "c": []}}, "exact": true, "city": ""}),
        json!({"note": null, "city": "x"}),
        json!({}),
    ]
}

#[test]
fn calls_are_read_as_they_are_written() {
    let folder = std::env::var_os("TEFF_CHAT_TEMPLATES").map(PathBuf::from);
    for (format, file, reduced) in FAMILIES {
        let published = folder.as_ref().map(|folder| std::fs::read_to_string(folder.join(file)));
        let published = published.transpose().expect("a template");
        for template in [Some(reduced.to_owned()), published].into_iter().flatten() {
            assert_eq!(Format::of_template(&template), format, "{file}");
            for several in [1, 2] {
                for arguments in arguments() {
                    let call = |i: usize, name: &str, arguments: &Value| {
                        json!({"id": format!("call_{i}"), "type": "function",
                               "function": {"name": name, "arguments": arguments.to_string()}})
                    };
                    let mut calls = vec![call(0, "get_weather", &arguments)];
                    if several == 2 && !format.single() {
                        calls.push(call(1, "now", &json!({})));
                    }
                    let text = written(&template, &Value::from(calls.clone()));
                    let answer = parse(format, Start::Fresh, &text);
                    let found: Vec<(String, Value)> = answer
                        .calls
                        .iter()
                        .map(|(name, arguments)| {
                            let arguments = serde_json::from_str(arguments);
                            (name.clone(), arguments.expect("JSON"))
                        })
                        .collect();
                    let mut expected = vec![("get_weather".to_owned(), arguments)];
                    if calls.len() == 2 {
                        expected.push(("now".to_owned(), json!({})));
                    }
                    assert_eq!(found, expected, "{file}: {text:?}");
                    assert_eq!(answer.text, "", "{file}: {text:?}");
                }
            }
        }
    }
    if folder.is_none() {
        eprintln!("skipped: published templates, since TEFF_CHAT_TEMPLATES is not set");
    }
    assert_eq!(some_functions().len(), 2);
}

#[test]
fn formats_of_published_templates() {
    let Some(folder) = std::env::var_os("TEFF_CHAT_TEMPLATES").map(PathBuf::from) else {
        eprintln!("skipped: TEFF_CHAT_TEMPLATES is not set");
        return;
    };
    for (file, format) in [
        ("Qwen-Qwen2.5-7B-Instruct.jinja", Format::Hermes),
        ("Qwen-QwQ-32B.jinja", Format::Hermes),
        ("NousResearch-Hermes-3-Llama-3.1-8B-tool_use.jinja", Format::Hermes),
        ("ibm-granite-granite-4.0.jinja", Format::Hermes),
        ("Qwen3.5-4B.jinja", Format::Xml),
        ("meta-llama-Llama-3.2-3B-Instruct.jinja", Format::Llama),
        ("meta-llama-Llama-3.3-70B-Instruct.jinja", Format::Llama),
        ("google-gemma-4-31B-it-interleaved.jinja", Format::Gemma),
        ("google-gemma-2-2b-it.jinja", Format::Generic),
        ("microsoft-Phi-3.5-mini-instruct.jinja", Format::Generic),
        ("GLM-4.6.jinja", Format::Unknown),
        ("LFM2-8B-A1B.jinja", Format::Lfm),
        ("LFM2.5-8B-A1B.jinja", Format::Lfm),
        ("LFM2.5-Instruct.jinja", Format::Lfm),
        ("deepseek-ai-DeepSeek-V3.1.jinja", Format::Generic),
        ("MiniMax-M2.jinja", Format::Unknown),
    ] {
        let source = std::fs::read_to_string(folder.join(file)).expect("a template");
        assert_eq!(Format::of_template(&source), format, "{file}");
    }
}
