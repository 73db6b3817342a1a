//! Templates of formats that many models share, for models without a template of their own.
//!
//! They have the names that llama.cpp gives them, and write what it writes for these names: the token
//! at the start of a text is left to the tokenizer, and tools are not part of them. Roles that a
//! format doesn't have, which llama.cpp drops in silence, are refused.

/// A built-in template.
pub(super) struct Builtin {
    pub(super) name: &'static str,
    form: Form,
}

/// Rules of a format.
enum Form {
    /// Each message stands between two texts of its role.
    Turns {
        /// Text in front of all messages.
        start: &'static str,
        roles: &'static [Role],
        /// Text at the end, where the model's answer begins.
        prompt: &'static str,
    },
    /// The template itself. `text` is a macro for contents, and `ns` a namespace.
    Source(&'static str),
}

/// Texts around the content of a role's messages.
struct Role {
    /// The role; `*` for all others.
    name: &'static str,
    /// Text in front, in which `{}` stands for the role.
    before: &'static str,
    /// True if white space at both ends of the content is dropped.
    trim: bool,
    after: &'static str,
}

const fn role(name: &'static str, before: &'static str, after: &'static str) -> Role {
    Role { name, before, trim: false, after }
}

/// A role whose contents are trimmed.
const fn trimmed(name: &'static str, before: &'static str, after: &'static str) -> Role {
    Role { name, before, trim: true, after }
}

const fn turns(
    name: &'static str,
    start: &'static str,
    roles: &'static [Role],
    prompt: &'static str,
) -> Builtin {
    Builtin { name, form: Form::Turns { start, roles, prompt } }
}

const fn source(name: &'static str, source: &'static str) -> Builtin {
    Builtin { name, form: Form::Source(source) }
}

/// A content: a text, or the texts of its parts.
const TEXT: &str = "\
{%- macro text(content) -%}
{%- if content is string -%}{{ content }}
{%- else -%}{%- for part in content -%}{{ part.text }}{%- endfor -%}
{%- endif -%}
{%- endmacro -%}
{%- set ns = namespace(inside=false, system='') -%}
";

/// Questions in which instructions of the system stand too, in the manner of Mistral: the space in
/// front of the brackets, and that behind them; `TRIM` trims answers.
macro_rules! mistral {
    ($leading:literal, $trailing:literal, $trim:literal) => {
        concat!(
            "{%- for message in messages -%}\n",
            "{%- if not ns.inside -%}{{ '",
            $leading,
            "[INST]",
            $trailing,
            "' }}",
            "{%- set ns.inside = true -%}{%- endif -%}\n",
            "{%- if message.role == 'system' -%}{{ text(message.content) + '\\n\\n' }}\n",
            "{%- elif message.role == 'user' -%}",
            "{{ text(message.content) + '",
            $leading,
            "[/INST]' }}\n",
            "{%- elif message.role == 'assistant' -%}",
            "{{ '",
            $trailing,
            "' + text(message.content)",
            $trim,
            " + '</s>' }}",
            "{%- set ns.inside = false -%}\n",
            "{%- else -%}{{ refuse(message) }}\n{%- endif -%}\n",
            "{%- endfor -%}\n",
        )
    };
}

/// Pairs in the manner of Llama 2: texts around the system's message, text between pairs, and a
/// filter of contents.
macro_rules! llama2 {
    ($before:literal, $after:literal, $between:literal, $trim:literal) => {
        concat!(
            "{{- '[INST] ' }}{%- set ns.inside = true -%}\n",
            "{%- for message in messages -%}\n",
            "{%- set content = text(message.content)",
            $trim,
            " -%}\n",
            "{%- if not ns.inside -%}{{ '",
            $between,
            "' }}{%- set ns.inside = true -%}{%- endif -%}\n",
            "{%- if message.role == 'system' -%}{{ '",
            $before,
            "' + content + '",
            $after,
            "' }}\n",
            "{%- elif message.role == 'user' -%}{{ content + ' [/INST]' }}\n",
            "{%- elif message.role == 'assistant' -%}",
            "{{ content + '</s>' }}{%- set ns.inside = false -%}\n",
            "{%- else -%}{{ refuse(message) }}\n{%- endif -%}\n",
            "{%- endfor -%}\n",
        )
    };
}

/// Turns with upper-case roles, in the manner of Ling and Ring.
macro_rules! bailing {
    ($start:literal, $after:literal, $prompt:literal) => {
        concat!(
            $start,
            "{%- for message in messages -%}\n",
            "{%- set role = 'HUMAN' if message.role == 'user' else message.role|upper -%}\n",
            "{{ '<role>' + role + '</role>' + text(message.content) + '",
            $after,
            "' }}\n",
            "{%- endfor -%}\n",
            "{%- if add_generation_prompt -%}{{ '<role>ASSISTANT</role>",
            $prompt,
            "' }}{%- endif -%}",
        )
    };
}

const SYSTEM_FIRST: &str = "\
{%- for message in messages -%}
{%- if message.role == 'system' -%}{%- set ns.system = ns.system + text(message.content)|trim -%}
{%- else -%}
{%- set role = 'model' if message.role == 'assistant' else message.role -%}
{{ '<start_of_turn>' + role + '\\n' }}
{%- if ns.system and role != 'model' -%}
{{ ns.system + '\\n\\n' }}{%- set ns.system = '' -%}
{%- endif -%}
{{ text(message.content)|trim + '<end_of_turn>\\n' }}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<start_of_turn>model\\n' }}{%- endif -%}";

const ORION: &str = "\
{%- for message in messages -%}
{%- if message.role == 'system' -%}{%- set ns.system = ns.system + text(message.content) -%}
{%- elif message.role == 'user' -%}
{{ 'Human: ' }}
{%- if ns.system -%}{{ ns.system + '\\n\\n' }}{%- set ns.system = '' -%}{%- endif -%}
{{ text(message.content) + '\\n\\nAssistant: </s>' }}
{%- elif message.role == 'assistant' -%}{{ text(message.content) + '</s>' }}
{%- else -%}{{ refuse(message) }}
{%- endif -%}
{%- endfor -%}";

const RWKV: &str = "\
{%- for message in messages -%}
{%- set content = text(message.content)|trim -%}
{%- if message.role == 'system' -%}{{ 'System: ' + content + '\\n\\n' }}
{%- elif message.role == 'user' -%}
{{ 'User: ' + content + '\\n\\n' }}{%- if loop.last -%}{{ 'Assistant:' }}{%- endif -%}
{%- elif message.role == 'assistant' -%}{{ 'Assistant: ' + content + '\\n\\n' }}
{%- else -%}{{ refuse(message) }}
{%- endif -%}
{%- endfor -%}";

const GIGACHAT: &str = "\
{{- '<s>' }}
{%- for message in messages -%}
{%- set content = text(message.content) + '<|message_sep|>' -%}
{%- if message.role == 'system' and loop.first -%}{{ content }}
{%- elif message.role == 'user' -%}
{{ 'user<|role_sep|>' + content + 'available functions<|role_sep|>[]<|message_sep|>' }}
{%- elif message.role == 'assistant' -%}{{ 'assistant<|role_sep|>' + content }}
{%- else -%}{{ refuse(message) }}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ 'assistant<|role_sep|>' }}{%- endif -%}";

const HUNYUAN_DENSE: &str = "\
{%- for message in messages -%}
{%- set content = text(message.content) -%}
{%- if message.role == 'system' and loop.first -%}
{{ content + '<\u{ff5c}hy_place\u{2581}holder\u{2581}no\u{2581}3\u{ff5c}>' }}
{%- elif message.role == 'assistant' -%}
{{ '<\u{ff5c}hy_Assistant\u{ff5c}>' + content }}
{{- '<\u{ff5c}hy_place\u{2581}holder\u{2581}no\u{2581}2\u{ff5c}>' }}
{%- elif message.role == 'user' -%}
{{ '<\u{ff5c}hy_User\u{ff5c}>' + content + '<\u{ff5c}hy_Assistant\u{ff5c}>' }}
{%- else -%}{{ refuse(message) }}
{%- endif -%}
{%- endfor -%}";

const HUNYUAN_VL: &str = "\
{{- '<\u{ff5c}hy_begin\u{2581}of\u{2581}sentence\u{ff5c}>' }}
{%- for message in messages -%}
{%- set content = text(message.content) -%}
{%- if message.role == 'system' and loop.first -%}
{{ content + '<\u{ff5c}hy_place\u{2581}holder\u{2581}no\u{2581}3\u{ff5c}>' }}
{%- elif message.role == 'user' -%}{{ content + '<\u{ff5c}hy_User\u{ff5c}>' }}
{%- elif message.role == 'assistant' -%}{{ content + '<\u{ff5c}hy_Assistant\u{ff5c}>' }}
{%- else -%}{{ refuse(message) }}
{%- endif -%}
{%- endfor -%}";

const PANGU: &str = "\
{%- set names = {'system': '\u{7cfb}\u{7edf}', 'user': '\u{7528}\u{6237}', 'assistant': '\u{52a9}\u{624b}',
    'tool': '\u{5de5}\u{5177}', 'function': '\u{65b9}\u{6cd5}'} -%}
{%- for message in messages -%}
{%- if loop.first and message.role != 'system' -%}
{{ '[unused9]' + names.system + '\u{ff1a}[unused10]' }}
{%- endif -%}
{%- if message.role not in names -%}{{ refuse(message) }}{%- endif -%}
{{ '[unused9]' + names[message.role] + '\u{ff1a}' + text(message.content) + '[unused10]' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '[unused9]' + names.assistant + '\u{ff1a}' }}{%- endif -%}";

const GRANITE: &[Role] = &[
    role(
        "assistant_tool_call",
        "<|start_of_role|>assistant<|end_of_role|><|tool_call|>",
        "<|end_of_text|>\n",
    ),
    role("*", "<|start_of_role|>{}<|end_of_role|>", "<|end_of_text|>\n"),
];

const EXAONE_TURN_END: &str = "[|endofturn|]\n";

/// All built-in templates, in alphabetical order.
pub(super) const BUILTINS: [Builtin; 54] = [
    source("bailing", bailing!("", "", "")),
    source("bailing-think", bailing!("", "", "<think>")),
    source(
        "bailing2",
        bailing!(
            "{%- if not messages or messages[0].role != 'system' -%}\
             {{ '<role>SYSTEM</role>detailed thinking off<|role_end|>' }}{%- endif -%}\n",
            "<|role_end|>",
            ""
        ),
    ),
    turns("chatglm3", "[gMASK]sop", &[role("*", "<|{}|>\n ", "")], "<|assistant|>"),
    turns("chatglm4", "[gMASK]<sop>", &[role("*", "<|{}|>\n", "")], "<|assistant|>\n"),
    turns(
        "chatml",
        "",
        &[role("*", "<|im_start|>{}\n", "<|im_end|>\n")],
        "<|im_start|>assistant\n",
    ),
    turns(
        "command-r",
        "",
        &[
            trimmed("system", "<|START_OF_TURN_TOKEN|><|SYSTEM_TOKEN|>", "<|END_OF_TURN_TOKEN|>"),
            trimmed("user", "<|START_OF_TURN_TOKEN|><|USER_TOKEN|>", "<|END_OF_TURN_TOKEN|>"),
            trimmed(
                "assistant",
                "<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>",
                "<|END_OF_TURN_TOKEN|>",
            ),
        ],
        "<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>",
    ),
    turns(
        "deepseek",
        "",
        &[
            role("system", "", ""),
            role("user", "### Instruction:\n", "\n"),
            role("assistant", "### Response:\n", "\n<|EOT|>\n"),
        ],
        "### Response:\n",
    ),
    turns("deepseek-ocr", "", &[role("*", "", "")], ""),
    turns(
        "deepseek2",
        "",
        &[
            role("system", "", "\n\n"),
            role("user", "User: ", "\n\n"),
            role("assistant", "Assistant: ", "<\u{ff5c}end\u{2581}of\u{2581}sentence\u{ff5c}>"),
        ],
        "Assistant:",
    ),
    turns(
        "deepseek3",
        "",
        &[
            role("system", "", "\n\n"),
            role("user", "<\u{ff5c}User\u{ff5c}>", ""),
            role(
                "assistant",
                "<\u{ff5c}Assistant\u{ff5c}>",
                "<\u{ff5c}end\u{2581}of\u{2581}sentence\u{ff5c}>",
            ),
        ],
        "<\u{ff5c}Assistant\u{ff5c}>",
    ),
    turns(
        "exaone-moe",
        "",
        &[
            trimmed("system", "<|system|>\n", "<|endofturn|>\n"),
            trimmed("user", "<|user|>\n", "<|endofturn|>\n"),
            trimmed("assistant", "<|assistant|>\n", "<|endofturn|>\n"),
            trimmed("tool", "<|tool|>\n", "<|endofturn|>\n"),
        ],
        "<|assistant|>\n",
    ),
    turns(
        "exaone3",
        "",
        &[
            trimmed("system", "[|system|]", EXAONE_TURN_END),
            trimmed("user", "[|user|]", "\n"),
            trimmed("assistant", "[|assistant|]", EXAONE_TURN_END),
        ],
        "[|assistant|]",
    ),
    turns(
        "exaone4",
        "",
        &[
            trimmed("system", "[|system|]", EXAONE_TURN_END),
            trimmed("user", "[|user|]", "\n"),
            trimmed("assistant", "[|assistant|]", EXAONE_TURN_END),
            trimmed("tool", "[|tool|]", EXAONE_TURN_END),
        ],
        "[|assistant|]",
    ),
    turns("falcon3", "", &[role("*", "<|{}|>\n", "\n")], "<|assistant|>\n"),
    source("gemma", SYSTEM_FIRST),
    source("gigachat", GIGACHAT),
    turns("glmedge", "", &[role("*", "<|{}|>\n", "")], "<|assistant|>"),
    turns(
        "gpt-oss",
        "",
        &[
            role("assistant", "<|start|>{}<|message|>", "<|return|>"),
            role("*", "<|start|>{}<|message|>", "<|end|>"),
        ],
        "<|start|>assistant",
    ),
    turns(
        "granite",
        "",
        &[
            role(
                "assistant_tool_call",
                "<|start_of_role|>{}<|end_of_role|><|tool_call|>",
                "<|end_of_text|>\n",
            ),
            role("*", "<|start_of_role|>{}<|end_of_role|>", "<|end_of_text|>\n"),
        ],
        "<|start_of_role|>assistant<|end_of_role|>",
    ),
    turns("granite-4.0", "", GRANITE, "<|start_of_role|>assistant<|end_of_role|>"),
    turns("granite-4.1", "", GRANITE, "<|start_of_role|>assistant<|end_of_role|>"),
    turns(
        "grok-2",
        "",
        &[
            trimmed("system", "System: ", "<|separator|>\n\n"),
            trimmed("user", "Human: ", "<|separator|>\n\n"),
            role("assistant", "Assistant: ", "<|separator|>\n\n"),
        ],
        "Assistant:",
    ),
    source("hunyuan-dense", HUNYUAN_DENSE),
    turns(
        "hunyuan-moe",
        "",
        &[
            role("system", "<|startoftext|>", "<|extra_4|>"),
            role("assistant", "", "<|eos|>"),
            role("*", "<|startoftext|>", "<|extra_0|>"),
        ],
        "",
    ),
    source("hunyuan-vl", HUNYUAN_VL),
    turns(
        "kimi-k2",
        "",
        &[
            role("system", "<|im_system|>system<|im_middle|>", "<|im_end|>"),
            role("user", "<|im_user|>user<|im_middle|>", "<|im_end|>"),
            role("assistant", "<|im_assistant|>assistant<|im_middle|>", "<|im_end|>"),
            role("tool", "<|im_system|>tool<|im_middle|>", "<|im_end|>"),
        ],
        "<|im_assistant|>assistant<|im_middle|>",
    ),
    source("llama2", llama2!("", "\\n", "[INST] ", "")),
    source("llama2-sys", llama2!("<<SYS>>\\n", "\\n<</SYS>>\\n\\n", "[INST] ", "")),
    source("llama2-sys-bos", llama2!("<<SYS>>\\n", "\\n<</SYS>>\\n\\n", "<s>[INST] ", "")),
    source("llama2-sys-strip", llama2!("<<SYS>>\\n", "\\n<</SYS>>\\n\\n", "[INST] ", "|trim")),
    turns(
        "llama3",
        "",
        &[trimmed("*", "<|start_header_id|>{}<|end_header_id|>\n\n", "<|eot_id|>")],
        "<|start_header_id|>assistant<|end_header_id|>\n\n",
    ),
    turns(
        "llama4",
        "",
        &[trimmed("*", "<|header_start|>{}<|header_end|>\n\n", "<|eot|>")],
        "<|header_start|>assistant<|header_end|>\n\n",
    ),
    turns(
        "megrez",
        "",
        &[role("*", "<|role_start|>{}<|role_end|>", "<|turn_end|>")],
        "<|role_start|>assistant<|role_end|>",
    ),
    turns(
        "minicpm",
        "",
        &[trimmed("user", "<\u{7528}\u{6237}>", "<AI>"), trimmed("*", "", "")],
        "",
    ),
    source("mistral-v1", mistral!(" ", " ", "")),
    source("mistral-v3", mistral!("", " ", "|trim")),
    source("mistral-v3-tekken", mistral!("", "", "")),
    turns(
        "mistral-v7",
        "",
        &[
            role("system", "[SYSTEM_PROMPT] ", "[/SYSTEM_PROMPT]"),
            role("user", "[INST] ", "[/INST]"),
            role("assistant", " ", "</s>"),
        ],
        "",
    ),
    turns(
        "mistral-v7-tekken",
        "",
        &[
            role("system", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]"),
            role("user", "[INST]", "[/INST]"),
            role("assistant", "", "</s>"),
        ],
        "",
    ),
    source(
        "monarch",
        "{%- for message in messages -%}\n\
         {{ ('' if loop.first else '<s>') + message.role + '\\n' }}\n\
         {{- text(message.content) + '</s>\\n' }}\n\
         {%- endfor -%}\n\
         {%- if add_generation_prompt -%}{{ '<s>assistant\\n' }}{%- endif -%}",
    ),
    turns(
        "openchat",
        "",
        &[
            role("system", "", "<|end_of_turn|>"),
            role("user", "GPT4 Correct User: ", "<|end_of_turn|>"),
            role("assistant", "GPT4 Correct Assistant: ", "<|end_of_turn|>"),
        ],
        "GPT4 Correct Assistant:",
    ),
    source("orion", ORION),
    source("pangu-embedded", PANGU),
    turns("phi3", "", &[role("*", "<|{}|>\n", "<|end|>\n")], "<|assistant|>\n"),
    turns(
        "phi4",
        "",
        &[role("*", "<|im_start|>{}<|im_sep|>", "<|im_end|>")],
        "<|im_start|>assistant<|im_sep|>",
    ),
    source("rwkv-world", RWKV),
    turns(
        "seed_oss",
        "",
        &[
            trimmed("assistant", "<seed:bos>{}\n", "<seed:eos>"),
            role("*", "<seed:bos>{}\n", "<seed:eos>"),
        ],
        "<seed:bos>assistant\n",
    ),
    turns(
        "smolvlm",
        "<|im_start|>",
        &[
            role("system", "", "\n\n"),
            role("user", "User: ", "<end_of_utterance>\n"),
            role("*", "Assistant: ", "<end_of_utterance>\n"),
        ],
        "Assistant:",
    ),
    turns(
        "solar-open",
        "",
        &[role("*", "<|begin|>{}<|content|>", "<|end|>")],
        "<|begin|>assistant",
    ),
    turns(
        "vicuna",
        "",
        &[
            role("system", "", "\n\n"),
            role("user", "USER: ", "\n"),
            role("assistant", "ASSISTANT: ", "</s>\n"),
        ],
        "ASSISTANT:",
    ),
    turns(
        "vicuna-orca",
        "",
        &[
            role("system", "SYSTEM: ", "\n"),
            role("user", "USER: ", "\n"),
            role("assistant", "ASSISTANT: ", "</s>\n"),
        ],
        "ASSISTANT:",
    ),
    turns(
        "yandex",
        "",
        &[
            role(
                "user",
                " \u{41f}\u{43e}\u{43b}\u{44c}\u{437}\u{43e}\u{432}\u{430}\u{442}\u{435}\u{43b}\u{44c}: ",
                "\n\n",
            ),
            role(
                "assistant",
                " \u{410}\u{441}\u{441}\u{438}\u{441}\u{442}\u{435}\u{43d}\u{442}: ",
                "\n\n",
            ),
        ],
        " \u{410}\u{441}\u{441}\u{438}\u{441}\u{442}\u{435}\u{43d}\u{442}:[SEP]",
    ),
    turns("zephyr", "", &[role("*", "<|{}|>\n", "<|endoftext|>\n")], "<|assistant|>\n"),
];

impl Builtin {
    /// Source of the template, in Jinja.
    pub(super) fn source(&self) -> String {
        let name = self.name;
        let mut out = format!(
            "{{%- macro refuse(message) -%}}\n{{{{ raise_exception('the built-in template {name} \
             has no role ' ~ message.role) }}}}\n{{%- endmacro -%}}\n{TEXT}"
        );
        let (start, roles, prompt) = match self.form {
            Form::Source(source) => return out + source,
            Form::Turns { start, roles, prompt } => (start, roles, prompt),
        };
        if !start.is_empty() {
            out.push_str(&format!("{{{{ {} }}}}\n", literal(start)));
        }
        out.push_str("{%- for message in messages -%}\n");
        let mut word = "if";
        for role in roles.iter().filter(|role| role.name != "*") {
            out.push_str(&format!(
                "{{%- {word} message.role == '{}' -%}}{}\n",
                role.name,
                turn(role)
            ));
            word = "elif";
        }
        let rest = roles.iter().find(|role| role.name == "*").map(turn);
        let rest = rest.unwrap_or_else(|| "{{ refuse(message) }}".into());
        match word {
            "if" => out.push_str(&format!("{rest}\n")),
            _ => out.push_str(&format!("{{%- else -%}}{rest}\n{{%- endif -%}}\n")),
        }
        out.push_str("{%- endfor -%}\n");
        if !prompt.is_empty() {
            let prompt = literal(prompt);
            out.push_str(&format!(
                "{{%- if add_generation_prompt -%}}{{{{ {prompt} }}}}{{%- endif -%}}\n"
            ));
        }
        out
    }
}

/// The output of a message.
fn turn(role: &Role) -> String {
    let before: Vec<String> = role.before.split("{}").map(literal).collect();
    let trim = if role.trim { "|trim" } else { "" };
    let after = literal(role.after);
    format!(
        "{{{{ {} + text(message.content){trim} + {after} }}}}",
        before.join(" + message.role + ")
    )
}

/// A text in quotation marks.
fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'").replace('\n', "\\n"))
}
