//! Formats in which models write reasoning and tool calls, known by their chat templates.

/// Format of tool calls in a model's answers.
///
/// Each is what the chat templates of a family write for calls of earlier turns, with which the family
/// was trained.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[non_exhaustive]
pub(crate) enum Format {
    /// `<tool_call>` and `</tool_call>` around `{"name": .., "arguments": {..}}`: Hermes, Qwen 2.5 and 3
    /// (<https://huggingface.co/Qwen/Qwen3-0.6B>, `chat_template`), Granite 4, SmolLM 3.
    Hermes,
    /// `<tool_call>` around `<function=f>` and `<parameter=p>` elements: Qwen 3 Coder, Qwen 3.5
    /// (<https://huggingface.co/Qwen/Qwen3-Coder-30B-A3B-Instruct>, `chat_template.jinja`).
    Xml,
    /// `{"name": .., "parameters": {..}}` as the whole answer, one call, perhaps behind
    /// `<|python_tag|>`: Llama 3
    /// (<https://github.com/meta-llama/llama-models/blob/main/models/llama3_1/prompt_format.md>).
    Llama,
    /// `[TOOL_CALLS]` and an array of `{"name": .., "arguments": {..}, "id": ".."}`: Mistral up to Nemo
    /// (<https://huggingface.co/mistralai/Mistral-Nemo-Instruct-2407>).
    MistralList,
    /// `[TOOL_CALLS]f[CALL_ID]..[ARGS]{..}`: Mistral Small 3.2
    /// (<https://huggingface.co/mistralai/Mistral-Small-3.2-24B-Instruct-2506>).
    MistralId,
    /// `[TOOL_CALLS]f[ARGS]{..}`: Ministral 3 and Devstral 2
    /// (<https://huggingface.co/mistralai/Ministral-3-14B-Reasoning-2512>).
    MistralArgs,
    /// `<|tool_call>call:f{key:value}<tool_call|>`, with strings between `<|"|>`: Gemma 4
    /// (<https://ai.google.dev/gemma/docs/core/prompt-formatting-gemma4>).
    Gemma,
    /// `<|tool_call_start|>[f(key=value)]<|tool_call_end|>`, with values as Python writes them: LFM2 and LFM2.5
    /// (<https://docs.liquid.ai/lfm/key-concepts/tool-use>). Calls can be forced, as with [`Format::Generic`].
    Lfm,
    /// Messages in channels: gpt-oss (<https://github.com/openai/harmony/blob/main/docs/format.md>).
    Harmony,
    /// `{"name": .., "arguments": {..}}` as the whole answer, which [`instructions`](super::instructions)
    /// ask for: any template that doesn't show tools to the model.
    Generic,
    /// The template shows tools to the model, and asks for calls in a format that isn't known here.
    /// Calls can be forced, as with [`Format::Generic`].
    Unknown,
}

impl Format {
    /// Format of a chat template, by its source.
    pub(crate) fn of_template(source: &str) -> Format {
        let has = |part: &str| source.contains(part);
        if has("<|channel|>") && has("<|message|>") {
            Format::Harmony
        } else if has("<|tool_call>call:") {
            Format::Gemma
        } else if has("<|tool_call_start|>") || has("<|tool_list_start|>") {
            Format::Lfm
        } else if has("[TOOL_CALLS]") {
            match (has("[ARGS]"), has("[CALL_ID]")) {
                (true, true) => Format::MistralId,
                (true, false) => Format::MistralArgs,
                (false, _) => Format::MistralList,
            }
        } else if has("<tool_call>") && has("<function=") && has("<parameter=") {
            Format::Xml
        } else if has("<tool_call>") && has("arguments") && !has("<arg_key>") && !has("<invoke") {
            Format::Hermes
        } else if has("<|start_header_id|>") && has("\"parameters\"") {
            Format::Llama
        } else if has("List of tools: [") {
            // LFM2.5's has none of its markers.
            Format::Lfm
        } else if has("tools") {
            Format::Unknown
        } else {
            Format::Generic
        }
    }

    /// Tags around reasoning, and true if it may begin anywhere in an answer and not only at its start.
    pub(crate) fn reasoning(self) -> Option<Reasoning> {
        let (open, close, anywhere) = match self {
            Format::Gemma => ("<|channel>thought\n", "<channel|>", true),
            Format::MistralList | Format::MistralId | Format::MistralArgs => {
                ("[THINK]", "[/THINK]", true)
            }
            Format::Harmony => return None,
            _ => ("<think>", "</think>", false),
        };
        Some(Reasoning { open, close, anywhere })
    }

    /// True if an answer has one call at most, by the template, or where calls are forced.
    pub(crate) fn single(self) -> bool {
        matches!(
            self,
            Format::Llama | Format::Harmony | Format::Lfm | Format::Generic | Format::Unknown
        )
    }
}

/// Markup of reasoning.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Reasoning {
    /// Text before it.
    pub(crate) open: &'static str,
    /// Text behind it.
    pub(crate) close: &'static str,
    /// True if it may begin anywhere in an answer; false for its start alone.
    pub(crate) anywhere: bool,
}

/// Place in an answer at which the prompt ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum Start {
    /// At the beginning, where reasoning may begin if there is any.
    #[default]
    Fresh,
    /// In the reasoning, which the prompt has begun.
    Reasoning,
    /// Behind the reasoning, which the prompt has ended.
    Behind,
    /// In the text, which the prompt has begun.
    Text,
}

impl Start {
    /// Place at the end of a prompt, by its last characters.
    pub(crate) fn of_prompt(format: Format, tail: &str) -> Start {
        let Some(tags) = format.reasoning() else { return Start::Fresh };
        let tail = tail.trim_end();
        if tail.ends_with(tags.open.trim_end()) {
            Start::Reasoning
        } else if tail.ends_with(tags.close) {
            Start::Behind
        } else {
            Start::Fresh
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_prompt_says_where_the_answer_starts() {
        let at = Start::of_prompt;
        assert_eq!(at(Format::Hermes, "<|im_start|>assistant\n"), Start::Fresh);
        assert_eq!(at(Format::Xml, "assistant\n<think>\n"), Start::Reasoning);
        assert_eq!(at(Format::Xml, "assistant\n<think>\n\n</think>\n\n"), Start::Behind);
        assert_eq!(at(Format::Gemma, "<|channel>thought\n<channel|>"), Start::Behind);
        assert_eq!(at(Format::Gemma, "<|turn>model\n"), Start::Fresh);
        assert_eq!(at(Format::Harmony, "<|start|>assistant"), Start::Fresh);
    }
}
