//! Built-in templates, against what llama.cpp writes for their names (`llama_chat_apply_template`).

use teff_runtime::chat::{ChatTemplate, Conversation, Message, SpecialTokens};
use teff_runtime::template::TemplateErrorKind;

/// Every name, with its text of the conversation.
const WANT: [(&str, &str); 54] = [
    (
        "bailing",
        "<role>SYSTEM</role> Be brief. <role>HUMAN</role> Hi\n<role>ASSISTANT</role> Yo <role>HUMAN</role>Why? <role>ASSISTANT</role>",
    ),
    (
        "bailing-think",
        "<role>SYSTEM</role> Be brief. <role>HUMAN</role> Hi\n<role>ASSISTANT</role> Yo <role>HUMAN</role>Why? <role>ASSISTANT</role><think>",
    ),
    (
        "bailing2",
        "<role>SYSTEM</role> Be brief. <|role_end|><role>HUMAN</role> Hi\n<|role_end|><role>ASSISTANT</role> Yo <|role_end|><role>HUMAN</role>Why? <|role_end|><role>ASSISTANT</role>",
    ),
    (
        "chatglm3",
        "[gMASK]sop<|system|>\n  Be brief. <|user|>\n  Hi\n<|assistant|>\n  Yo <|user|>\n Why? <|assistant|>",
    ),
    (
        "chatglm4",
        "[gMASK]<sop><|system|>\n Be brief. <|user|>\n Hi\n<|assistant|>\n Yo <|user|>\nWhy? <|assistant|>\n",
    ),
    (
        "chatml",
        "<|im_start|>system\n Be brief. <|im_end|>\n<|im_start|>user\n Hi\n<|im_end|>\n<|im_start|>assistant\n Yo <|im_end|>\n<|im_start|>user\nWhy? <|im_end|>\n<|im_start|>assistant\n",
    ),
    (
        "command-r",
        "<|START_OF_TURN_TOKEN|><|SYSTEM_TOKEN|>Be brief.<|END_OF_TURN_TOKEN|><|START_OF_TURN_TOKEN|><|USER_TOKEN|>Hi<|END_OF_TURN_TOKEN|><|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>Yo<|END_OF_TURN_TOKEN|><|START_OF_TURN_TOKEN|><|USER_TOKEN|>Why?<|END_OF_TURN_TOKEN|><|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>",
    ),
    (
        "deepseek",
        " Be brief. ### Instruction:\n Hi\n\n### Response:\n Yo \n<|EOT|>\n### Instruction:\nWhy? \n### Response:\n",
    ),
    ("deepseek-ocr", " Be brief.  Hi\n Yo Why? "),
    (
        "deepseek2",
        " Be brief. \n\nUser:  Hi\n\n\nAssistant:  Yo <｜end▁of▁sentence｜>User: Why? \n\nAssistant:",
    ),
    (
        "deepseek3",
        " Be brief. \n\n<｜User｜> Hi\n<｜Assistant｜> Yo <｜end▁of▁sentence｜><｜User｜>Why? <｜Assistant｜>",
    ),
    (
        "exaone-moe",
        "<|system|>\nBe brief.<|endofturn|>\n<|user|>\nHi<|endofturn|>\n<|assistant|>\nYo<|endofturn|>\n<|user|>\nWhy?<|endofturn|>\n<|assistant|>\n",
    ),
    (
        "exaone3",
        "[|system|]Be brief.[|endofturn|]\n[|user|]Hi\n[|assistant|]Yo[|endofturn|]\n[|user|]Why?\n[|assistant|]",
    ),
    (
        "exaone4",
        "[|system|]Be brief.[|endofturn|]\n[|user|]Hi\n[|assistant|]Yo[|endofturn|]\n[|user|]Why?\n[|assistant|]",
    ),
    (
        "falcon3",
        "<|system|>\n Be brief. \n<|user|>\n Hi\n\n<|assistant|>\n Yo \n<|user|>\nWhy? \n<|assistant|>\n",
    ),
    (
        "gemma",
        "<start_of_turn>user\nBe brief.\n\nHi<end_of_turn>\n<start_of_turn>model\nYo<end_of_turn>\n<start_of_turn>user\nWhy?<end_of_turn>\n<start_of_turn>model\n",
    ),
    (
        "gigachat",
        "<s> Be brief. <|message_sep|>user<|role_sep|> Hi\n<|message_sep|>available functions<|role_sep|>[]<|message_sep|>assistant<|role_sep|> Yo <|message_sep|>user<|role_sep|>Why? <|message_sep|>available functions<|role_sep|>[]<|message_sep|>assistant<|role_sep|>",
    ),
    (
        "glmedge",
        "<|system|>\n Be brief. <|user|>\n Hi\n<|assistant|>\n Yo <|user|>\nWhy? <|assistant|>",
    ),
    (
        "gpt-oss",
        "<|start|>system<|message|> Be brief. <|end|><|start|>user<|message|> Hi\n<|end|><|start|>assistant<|message|> Yo <|return|><|start|>user<|message|>Why? <|end|><|start|>assistant",
    ),
    (
        "granite",
        "<|start_of_role|>system<|end_of_role|> Be brief. <|end_of_text|>\n<|start_of_role|>user<|end_of_role|> Hi\n<|end_of_text|>\n<|start_of_role|>assistant<|end_of_role|> Yo <|end_of_text|>\n<|start_of_role|>user<|end_of_role|>Why? <|end_of_text|>\n<|start_of_role|>assistant<|end_of_role|>",
    ),
    (
        "granite-4.0",
        "<|start_of_role|>system<|end_of_role|> Be brief. <|end_of_text|>\n<|start_of_role|>user<|end_of_role|> Hi\n<|end_of_text|>\n<|start_of_role|>assistant<|end_of_role|> Yo <|end_of_text|>\n<|start_of_role|>user<|end_of_role|>Why? <|end_of_text|>\n<|start_of_role|>assistant<|end_of_role|>",
    ),
    (
        "granite-4.1",
        "<|start_of_role|>system<|end_of_role|> Be brief. <|end_of_text|>\n<|start_of_role|>user<|end_of_role|> Hi\n<|end_of_text|>\n<|start_of_role|>assistant<|end_of_role|> Yo <|end_of_text|>\n<|start_of_role|>user<|end_of_role|>Why? <|end_of_text|>\n<|start_of_role|>assistant<|end_of_role|>",
    ),
    (
        "grok-2",
        "System: Be brief.<|separator|>\n\nHuman: Hi<|separator|>\n\nAssistant:  Yo <|separator|>\n\nHuman: Why?<|separator|>\n\nAssistant:",
    ),
    (
        "hunyuan-dense",
        " Be brief. <｜hy_place▁holder▁no▁3｜><｜hy_User｜> Hi\n<｜hy_Assistant｜><｜hy_Assistant｜> Yo <｜hy_place▁holder▁no▁2｜><｜hy_User｜>Why? <｜hy_Assistant｜>",
    ),
    (
        "hunyuan-moe",
        "<|startoftext|> Be brief. <|extra_4|><|startoftext|> Hi\n<|extra_0|> Yo <|eos|><|startoftext|>Why? <|extra_0|>",
    ),
    (
        "hunyuan-vl",
        "<｜hy_begin▁of▁sentence｜> Be brief. <｜hy_place▁holder▁no▁3｜> Hi\n<｜hy_User｜> Yo <｜hy_Assistant｜>Why? <｜hy_User｜>",
    ),
    (
        "kimi-k2",
        "<|im_system|>system<|im_middle|> Be brief. <|im_end|><|im_user|>user<|im_middle|> Hi\n<|im_end|><|im_assistant|>assistant<|im_middle|> Yo <|im_end|><|im_user|>user<|im_middle|>Why? <|im_end|><|im_assistant|>assistant<|im_middle|>",
    ),
    ("llama2", "[INST]  Be brief. \n Hi\n [/INST] Yo </s>[INST] Why?  [/INST]"),
    (
        "llama2-sys",
        "[INST] <<SYS>>\n Be brief. \n<</SYS>>\n\n Hi\n [/INST] Yo </s>[INST] Why?  [/INST]",
    ),
    (
        "llama2-sys-bos",
        "[INST] <<SYS>>\n Be brief. \n<</SYS>>\n\n Hi\n [/INST] Yo </s><s>[INST] Why?  [/INST]",
    ),
    (
        "llama2-sys-strip",
        "[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\nHi [/INST]Yo</s>[INST] Why? [/INST]",
    ),
    (
        "llama3",
        "<|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\nYo<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nWhy?<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
    ),
    (
        "llama4",
        "<|header_start|>system<|header_end|>\n\nBe brief.<|eot|><|header_start|>user<|header_end|>\n\nHi<|eot|><|header_start|>assistant<|header_end|>\n\nYo<|eot|><|header_start|>user<|header_end|>\n\nWhy?<|eot|><|header_start|>assistant<|header_end|>\n\n",
    ),
    (
        "megrez",
        "<|role_start|>system<|role_end|> Be brief. <|turn_end|><|role_start|>user<|role_end|> Hi\n<|turn_end|><|role_start|>assistant<|role_end|> Yo <|turn_end|><|role_start|>user<|role_end|>Why? <|turn_end|><|role_start|>assistant<|role_end|>",
    ),
    ("minicpm", "Be brief.<用户>Hi<AI>Yo<用户>Why?<AI>"),
    ("mistral-v1", " [INST]  Be brief. \n\n Hi\n [/INST]  Yo </s> [INST] Why?  [/INST]"),
    ("mistral-v3", "[INST]  Be brief. \n\n Hi\n[/INST] Yo</s>[INST] Why? [/INST]"),
    ("mistral-v3-tekken", "[INST] Be brief. \n\n Hi\n[/INST] Yo </s>[INST]Why? [/INST]"),
    (
        "mistral-v7",
        "[SYSTEM_PROMPT]  Be brief. [/SYSTEM_PROMPT][INST]  Hi\n[/INST]  Yo </s>[INST] Why? [/INST]",
    ),
    (
        "mistral-v7-tekken",
        "[SYSTEM_PROMPT] Be brief. [/SYSTEM_PROMPT][INST] Hi\n[/INST] Yo </s>[INST]Why? [/INST]",
    ),
    (
        "monarch",
        "system\n Be brief. </s>\n<s>user\n Hi\n</s>\n<s>assistant\n Yo </s>\n<s>user\nWhy? </s>\n<s>assistant\n",
    ),
    (
        "openchat",
        " Be brief. <|end_of_turn|>GPT4 Correct User:  Hi\n<|end_of_turn|>GPT4 Correct Assistant:  Yo <|end_of_turn|>GPT4 Correct User: Why? <|end_of_turn|>GPT4 Correct Assistant:",
    ),
    (
        "orion",
        "Human:  Be brief. \n\n Hi\n\n\nAssistant: </s> Yo </s>Human: Why? \n\nAssistant: </s>",
    ),
    (
        "pangu-embedded",
        "[unused9]系统： Be brief. [unused10][unused9]用户： Hi\n[unused10][unused9]助手： Yo [unused10][unused9]用户：Why? [unused10][unused9]助手：",
    ),
    (
        "phi3",
        "<|system|>\n Be brief. <|end|>\n<|user|>\n Hi\n<|end|>\n<|assistant|>\n Yo <|end|>\n<|user|>\nWhy? <|end|>\n<|assistant|>\n",
    ),
    (
        "phi4",
        "<|im_start|>system<|im_sep|> Be brief. <|im_end|><|im_start|>user<|im_sep|> Hi\n<|im_end|><|im_start|>assistant<|im_sep|> Yo <|im_end|><|im_start|>user<|im_sep|>Why? <|im_end|><|im_start|>assistant<|im_sep|>",
    ),
    ("rwkv-world", "System: Be brief.\n\nUser: Hi\n\nAssistant: Yo\n\nUser: Why?\n\nAssistant:"),
    (
        "seed_oss",
        "<seed:bos>system\n Be brief. <seed:eos><seed:bos>user\n Hi\n<seed:eos><seed:bos>assistant\nYo<seed:eos><seed:bos>user\nWhy? <seed:eos><seed:bos>assistant\n",
    ),
    (
        "smolvlm",
        "<|im_start|> Be brief. \n\nUser:  Hi\n<end_of_utterance>\nAssistant:  Yo <end_of_utterance>\nUser: Why? <end_of_utterance>\nAssistant:",
    ),
    (
        "solar-open",
        "<|begin|>system<|content|> Be brief. <|end|><|begin|>user<|content|> Hi\n<|end|><|begin|>assistant<|content|> Yo <|end|><|begin|>user<|content|>Why? <|end|><|begin|>assistant",
    ),
    ("vicuna", " Be brief. \n\nUSER:  Hi\n\nASSISTANT:  Yo </s>\nUSER: Why? \nASSISTANT:"),
    (
        "vicuna-orca",
        "SYSTEM:  Be brief. \nUSER:  Hi\n\nASSISTANT:  Yo </s>\nUSER: Why? \nASSISTANT:",
    ),
    (
        "yandex",
        " Пользователь:  Hi\n\n\n Ассистент:  Yo \n\n Пользователь: Why? \n\n Ассистент:[SEP]",
    ),
    (
        "zephyr",
        "<|system|>\n Be brief. <|endoftext|>\n<|user|>\n Hi\n<|endoftext|>\n<|assistant|>\n Yo <|endoftext|>\n<|user|>\nWhy? <|endoftext|>\n<|assistant|>\n",
    ),
];

fn render(name: &str, messages: &[Message]) -> Result<String, TemplateErrorKind> {
    let template = ChatTemplate::builtin(name).unwrap_or_else(|| panic!("{name} is missing"));
    let special = SpecialTokens::default().with_bos("<bos>").with_eos("<eos>");
    template.render(&Conversation::new(messages), &special).map_err(|e| e.kind)
}

#[test]
fn built_in_templates_write_what_llama_cpp_writes() {
    let messages = [
        Message::system(" Be brief. "),
        Message::user(" Hi\n"),
        Message::assistant(" Yo "),
        Message::user("Why? "),
    ];
    let names: Vec<&str> = ChatTemplate::builtin_names().collect();
    assert_eq!(names, WANT.map(|(name, _)| name));
    for (name, want) in WANT {
        let messages = match name {
            // It has no place for instructions: llama.cpp drops them, which is refused here.
            "yandex" => {
                let why = "the built-in template yandex has no role system".to_owned();
                assert_eq!(render(name, &messages), Err(TemplateErrorKind::Raised(why)));
                &messages[1..]
            }
            _ => &messages[..],
        };
        assert_eq!(render(name, messages).as_deref(), Ok(want), "{name}");
    }
    assert!(ChatTemplate::builtin("nothing").is_none());
}

#[test]
fn built_in_templates_take_parts_and_refuse_roles_that_they_lack() {
    let parts = r#"[{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        {"role": "assistant", "content": null}]"#;
    let parts = Message::parse_list(parts.as_bytes()).unwrap();
    assert_eq!(
        render("chatml", &parts).as_deref(),
        Ok("<|im_start|>user\nab<|im_end|>\n<|im_start|>assistant\n<|im_end|>\n\
            <|im_start|>assistant\n")
    );
    let tool = [Message::user("a"), Message::tool("b")];
    let why = "the built-in template vicuna has no role tool".to_owned();
    assert_eq!(render("vicuna", &tool), Err(TemplateErrorKind::Raised(why)));
    assert!(render("llama3", &tool).is_ok());
    for (name, _) in WANT {
        assert!(render(name, &[Message::user("a")]).is_ok_and(|text| text.contains('a')), "{name}");
        assert!(render(name, &[]).is_ok(), "{name}");
    }
}
