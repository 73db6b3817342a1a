//! Templates of formats that many models share, for models without a template of their own.

/// A built-in template.
pub(super) struct Builtin {
    pub(super) name: &'static str,
    pub(super) source: &'static str,
}

/// A macro for contents: a text, or the texts of parts.
macro_rules! with_text {
    ($($part:literal),* $(,)?) => {
        concat!(
            "{%- macro text(content) -%}\n",
            "{%- if content is string -%}{{ content }}\n",
            "{%- else -%}{%- for part in content -%}{{ part.text }}{%- endfor -%}\n",
            "{%- endif -%}\n",
            "{%- endmacro -%}\n",
            $($part, "\n"),*
        )
    };
}

/// Splits a system message from the others, for formats in which it is part of the first question.
macro_rules! with_system {
    ($($part:literal),* $(,)?) => {
        with_text!(
            "{%- set ns = namespace(system='') -%}",
            "{%- if messages and messages[0].role == 'system' -%}",
            "{%- set ns.system = text(messages[0].content) -%}",
            "{%- set messages = messages[1:] -%}",
            "{%- endif -%}",
            $($part),*
        )
    };
}

const CHATML: &str = with_text!(
    "{%- for message in messages -%}",
    "{{ '<|im_start|>' + message.role + '\\n' + text(message.content) + '<|im_end|>\\n' }}",
    "{%- endfor -%}",
    "{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\\n' }}{%- endif -%}",
);

/// All built-in templates, in alphabetical order.
pub(super) const BUILTINS: [Builtin; 14] = [
    Builtin {
        name: "alpaca",
        source: with_text!(
            "{%- for message in messages -%}",
            "{%- if message.role == 'system' -%}{{ text(message.content) + '\\n\\n' }}",
            "{%- elif message.role == 'user' -%}",
            "{{ '### Instruction:\\n' + text(message.content) + '\\n\\n' }}",
            "{%- else -%}{{ '### Response:\\n' + text(message.content) + eos_token + '\\n\\n' }}",
            "{%- endif -%}",
            "{%- endfor -%}",
            "{%- if add_generation_prompt -%}{{ '### Response:\\n' }}{%- endif -%}",
        ),
    },
    Builtin { name: "chatml", source: CHATML },
    Builtin {
        name: "command-r",
        source: with_text!(
            "{{- bos_token -}}",
            "{%- set names = {'system': 'SYSTEM', 'user': 'USER', 'assistant': 'CHATBOT'} -%}",
            "{%- for message in messages -%}",
            "{{ '<|START_OF_TURN_TOKEN|><|' + names[message.role] + '_TOKEN|>' }}",
            "{{- text(message.content)|trim + '<|END_OF_TURN_TOKEN|>' }}",
            "{%- endfor -%}",
            "{%- if add_generation_prompt -%}",
            "{{ '<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>' }}",
            "{%- endif -%}",
        ),
    },
    Builtin {
        name: "deepseek",
        source: with_system!(
            "{{- bos_token + ns.system -}}",
            "{%- for message in messages -%}",
            "{%- if message.role == 'user' -%}{{ '<\u{ff5c}User\u{ff5c}>' + text(message.content) }}",
            "{%- else -%}",
            "{{ '<\u{ff5c}Assistant\u{ff5c}>' + text(message.content) }}",
            "{{- '<\u{ff5c}end\u{2581}of\u{2581}sentence\u{ff5c}>' }}",
            "{%- endif -%}",
            "{%- endfor -%}",
            "{%- if add_generation_prompt -%}{{ '<\u{ff5c}Assistant\u{ff5c}>' }}{%- endif -%}",
        ),
    },
    Builtin {
        name: "gemma",
        source: with_system!(
            "{{- bos_token -}}",
            "{%- for message in messages -%}",
            "{%- if (message.role == 'user') != (loop.index0 % 2 == 0) -%}",
            "{{ raise_exception('user and assistant must take turns') }}",
            "{%- endif -%}",
            "{%- set role = 'model' if message.role == 'assistant' else message.role -%}",
            "{{ '<start_of_turn>' + role + '\\n' }}",
            "{%- if loop.first and ns.system -%}{{ ns.system + '\\n\\n' }}{%- endif -%}",
            "{{ text(message.content)|trim + '<end_of_turn>\\n' }}",
            "{%- endfor -%}",
            "{%- if add_generation_prompt -%}{{ '<start_of_turn>model\\n' }}{%- endif -%}",
        ),
    },
    Builtin {
        name: "granite",
        source: with_text!(
            "{%- for message in messages -%}",
            "{{ '<|start_of_role|>' + message.role + '<|end_of_role|>' }}",
            "{{- text(message.content) + '<|end_of_text|>\\n' }}",
            "{%- endfor -%}",
            "{%- if add_generation_prompt -%}",
            "{{ '<|start_of_role|>assistant<|end_of_role|>' }}",
            "{%- endif -%}",
        ),
    },
    Builtin {
        name: "llama2",
        source: with_system!(
            "{%- for message in messages -%}",
            "{%- if (message.role == 'user') != (loop.index0 % 2 == 0) -%}",
            "{{ raise_exception('user and assistant must take turns') }}",
            "{%- endif -%}",
            "{%- if message.role == 'user' -%}",
            "{{ bos_token + '[INST] ' }}",
            "{%- if loop.first and ns.system -%}",
            "{{ '<<SYS>>\\n' + ns.system + '\\n<</SYS>>\\n\\n' }}",
            "{%- endif -%}",
            "{{ text(message.content)|trim + ' [/INST]' }}",
            "{%- else -%}{{ ' ' + text(message.content)|trim + ' ' + eos_token }}",
            "{%- endif -%}",
            "{%- endfor -%}",
        ),
    },
    Builtin {
        name: "llama3",
        source: with_text!(
            "{{- bos_token -}}",
            "{%- for message in messages -%}",
            "{{ '<|start_header_id|>' + message.role + '<|end_header_id|>\\n\\n' }}",
            "{{- text(message.content)|trim + '<|eot_id|>' }}",
            "{%- endfor -%}",
            "{%- if add_generation_prompt -%}",
            "{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}",
            "{%- endif -%}",
        ),
    },
    Builtin {
        name: "mistral",
        source: with_system!(
            "{{- bos_token -}}",
            "{%- for message in messages -%}",
            "{%- if (message.role == 'user') != (loop.index0 % 2 == 0) -%}",
            "{{ raise_exception('user and assistant must take turns') }}",
            "{%- endif -%}",
            "{%- if message.role == 'user' -%}",
            "{{ '[INST] ' }}",
            "{%- if loop.first and ns.system -%}{{ ns.system + '\\n\\n' }}{%- endif -%}",
            "{{ text(message.content) + '[/INST]' }}",
            "{%- else -%}{{ ' ' + text(message.content)|trim + eos_token }}",
            "{%- endif -%}",
            "{%- endfor -%}",
        ),
    },
    Builtin {
        name: "phi3",
        source: with_text!(
            "{%- for message in messages -%}",
            "{{ '<|' + message.role + '|>\\n' + text(message.content) + '<|end|>\\n' }}",
            "{%- endfor -%}",
            "{%- if add_generation_prompt -%}{{ '<|assistant|>\\n' }}{%- endif -%}",
        ),
    },
    Builtin {
        name: "phi4",
        source: with_text!(
            "{%- for message in messages -%}",
            "{{ '<|im_start|>' + message.role + '<|im_sep|>' }}",
            "{{- text(message.content) + '<|im_end|>' }}",
            "{%- endfor -%}",
            "{%- if add_generation_prompt -%}",
            "{{ '<|im_start|>assistant<|im_sep|>' }}",
            "{%- endif -%}",
        ),
    },
    Builtin {
        name: "qwen",
        source: with_text!(
            "{%- for message in messages -%}",
            "{%- set content = text(message.content) -%}",
            "{%- if message.role == 'assistant' -%}",
            "{%- set content = content.split('</think>')[-1].lstrip('\\n') -%}",
            "{%- endif -%}",
            "{{ '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>\\n' }}",
            "{%- endfor -%}",
            "{%- if add_generation_prompt -%}",
            "{{ '<|im_start|>assistant\\n' }}",
            "{%- if enable_thinking is defined and not enable_thinking -%}",
            "{{ '<think>\\n\\n</think>\\n\\n' }}",
            "{%- endif -%}",
            "{%- endif -%}",
        ),
    },
    Builtin {
        name: "vicuna",
        source: with_system!(
            "{{- bos_token -}}",
            "{%- if ns.system -%}{{ ns.system + ' ' }}{%- endif -%}",
            "{%- for message in messages -%}",
            "{%- if message.role == 'user' -%}{{ 'USER: ' + text(message.content) + ' ' }}",
            "{%- else -%}{{ 'ASSISTANT: ' + text(message.content) + eos_token }}",
            "{%- endif -%}",
            "{%- endfor -%}",
            "{%- if add_generation_prompt -%}{{ 'ASSISTANT:' }}{%- endif -%}",
        ),
    },
    Builtin {
        name: "zephyr",
        source: with_text!(
            "{%- for message in messages -%}",
            "{{ '<|' + message.role + '|>\\n' + text(message.content) + eos_token + '\\n' }}",
            "{%- endfor -%}",
            "{%- if add_generation_prompt -%}{{ '<|assistant|>\\n' }}{%- endif -%}",
        ),
    },
];
