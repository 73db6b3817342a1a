//! Fields of requests that ask for what Teff has not: they are refused by name, with advice.

use serde_json::Value;

use crate::error::ApiResult;
use crate::json::Fields;

/// Values of a field that ask for nothing. Null does so in any case.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Off {
    /// Numbers for which this is true.
    If(fn(f64) -> bool),
    /// This boolean.
    Flag(bool),
    /// An array, an object or a text without anything in it.
    Empty,
    /// One of these texts.
    Texts(&'static [&'static str]),
    /// Values for which this is true.
    Values(fn(&Value) -> bool),
    /// Null alone.
    Null,
}

impl Off {
    fn is(self, value: &Value) -> bool {
        match (self, value) {
            (Off::If(is_off), Value::Number(n)) => n.as_f64().is_some_and(is_off),
            (Off::Flag(off), Value::Bool(on)) => *on == off,
            (Off::Empty, Value::Array(all)) => all.is_empty(),
            (Off::Empty, Value::Object(map)) => map.is_empty(),
            (Off::Empty, Value::String(text)) => text.is_empty(),
            (Off::Texts(all), Value::String(text)) => all.contains(&text.as_str()),
            (Off::Values(is_off), value) => is_off(value),
            _ => false,
        }
    }
}

/// Name of a field, values that ask for nothing, and advice for others.
pub(crate) type Unsupported = (&'static str, Off, &'static str);

/// Refuses fields of a table that ask for what there isn't.
///
/// # Errors
/// [`ApiError`](crate::error::ApiError), which names the field and says what to do.
pub(crate) fn refuse(fields: &Fields<'_>, table: &[Unsupported]) -> ApiResult<()> {
    for (name, off, advice) in table {
        if fields.get(name).is_some_and(|value| !off.is(value)) {
            return Err(fields.error(name, format_args!("is not supported: {advice}")));
        }
    }
    Ok(())
}

const ZERO: Off = Off::If(|x| x == 0.0);
const UP_TO_ZERO: Off = Off::If(|x| x <= 0.0);
const BELOW_ZERO: Off = Off::If(|x| x < 0.0);
const ONE: Off = Off::If(|x| x == 1.0);
const FROM_ONE: Off = Off::If(|x| x >= 1.0);

const SAMPLERS: &str = "use `temperature`, `top_k`, `top_p`, `min_p` and the penalties";
const THINKING: &str =
    "use `max_tokens`, or `chat_template_kwargs` if the template can end thinking";
const BIAS: &str = "use `logit_bias`, where `false` rules a token or a text out";
const BEAMS: &str = "texts are drawn, without a search";

/// Fields by which other servers give another text or another form of answers: values that ask for
/// nothing, and advice for others. An answer that passes over what it was asked for would be worse than
/// none. What depends on one of these, such as `dry_base`, is passed over with it.
pub(crate) const SHARED: [Unsupported; 56] = [
    // llama-server's.
    ("typical_p", FROM_ONE, SAMPLERS),
    ("mirostat", ZERO, SAMPLERS),
    ("xtc_probability", UP_TO_ZERO, SAMPLERS),
    ("dry_multiplier", ZERO, SAMPLERS),
    ("dynatemp_range", UP_TO_ZERO, SAMPLERS),
    ("top_n_sigma", UP_TO_ZERO, SAMPLERS),
    ("adaptive_target", BELOW_ZERO, SAMPLERS),
    ("min_keep", UP_TO_ZERO, SAMPLERS),
    ("n_probs", UP_TO_ZERO, "use `logprobs`, and of chats `top_logprobs` beside it"),
    ("post_sampling_probs", Off::Flag(false), "probabilities are those before sampling"),
    ("n_cmpl", ONE, "use `n`"),
    ("n_indent", UP_TO_ZERO, "use `grammar` or `regex`"),
    ("t_max_predict_ms", UP_TO_ZERO, "`teff serve --timeout SECONDS` ends all answers"),
    ("lora", Off::Empty, "adapters aren't applied: merge them into the model"),
    ("grammar_lazy", Off::Flag(false), "a grammar holds from the first token"),
    ("reasoning_budget_tokens", BELOW_ZERO, THINKING),
    // vLLM's.
    ("min_tokens", UP_TO_ZERO, "use `ignore_eos` with `max_tokens`"),
    ("stop_token_ids", Off::Empty, "use `stop` with their texts"),
    ("include_stop_str_in_output", Off::Flag(false), "texts end before stop strings"),
    ("bad_words", Off::Empty, BIAS),
    ("allowed_token_ids", Off::Null, BIAS),
    ("logits_processors", Off::Empty, BIAS),
    ("use_beam_search", Off::Flag(false), BEAMS),
    ("length_penalty", ONE, BEAMS),
    ("skip_special_tokens", Off::Flag(true), "special tokens are not written"),
    ("prompt_logprobs", Off::Null, "use `echo` and `logprobs` of /v1/completions"),
    ("truncate_prompt_tokens", Off::Null, "send a prompt that fits, which /tokenize counts"),
    ("guided_whitespace_pattern", Off::Empty, "use `regex` or `grammar`"),
    ("repetition_detection", Off::Null, "use the penalties"),
    ("thinking_token_budget", BELOW_ZERO, THINKING),
    ("chat_template", Off::Empty, "`teff serve --chat-template FILE` sets it"),
    // Of others, whose clients often send all of theirs.
    ("mirostat_mode", ZERO, SAMPLERS),
    ("typical", FROM_ONE, SAMPLERS),
    ("tfs", FROM_ONE, SAMPLERS),
    ("tfs_z", FROM_ONE, SAMPLERS),
    ("top_a", UP_TO_ZERO, SAMPLERS),
    ("no_repeat_ngram_size", UP_TO_ZERO, SAMPLERS),
    // Ollama's own form of requests.
    ("format", Off::Empty, "use `response_format`"),
    (
        "options",
        Off::Empty,
        "its parts are fields of the request here, such as `max_tokens` for `num_predict`",
    ),
    ("ebnf", Off::Empty, "use `grammar`"),
    ("structural_tag", Off::Null, "use `grammar`, or `tools`"),
    ("json_mode", Off::Flag(false), "use `response_format`"),
    ("num_beams", ONE, BEAMS),
    ("max_new_tokens", BELOW_ZERO, MAX_TOKENS),
    ("min_new_tokens", UP_TO_ZERO, "use `ignore_eos` with `max_tokens`"),
    ("min_length", UP_TO_ZERO, "use `ignore_eos` with `max_tokens`"),
    ("banned_tokens", Off::Empty, BIAS),
    ("custom_token_bans", Off::Empty, BIAS),
    ("suppress_tokens", Off::Empty, BIAS),
    ("smoothing_factor", ZERO, SAMPLERS),
    ("epsilon_cutoff", ZERO, SAMPLERS),
    ("eta_cutoff", ZERO, SAMPLERS),
    // OpenAI's.
    ("modalities", Off::Values(is_text_alone), "the model writes texts only"),
    ("functions", Off::Empty, "use `tools`"),
    ("audio", Off::Null, "the model writes texts only"),
    ("web_search_options", Off::Null, "there are no tools of the server's own"),
];

/// Only text is asked for.
fn is_text_alone(value: &Value) -> bool {
    value.as_array().is_some_and(|all| all.iter().all(|kind| kind == "text"))
}

/// Fields of `/v1/responses` and `/v1/messages` that chats and texts have by another name.
pub(crate) const OF_NEWER_FORMS: [Unsupported; 5] = [
    ("stop_sequences", Off::Empty, "use `stop`"),
    ("max_output_tokens", NO_LIMIT, MAX_TOKENS),
    ("output_config", Off::Empty, "use `response_format` and `reasoning_effort`"),
    ("output_format", Off::Null, "use `response_format`"),
    ("text", Off::Empty, "use `response_format`"),
];

/// A conversation that is not to be kept.
fn is_new(thread: &Value) -> bool {
    thread["type"] == "create"
}

const CHATS: &str = "/v1/chat/completions has it";
const KEPT_RESPONSES: &str = "responses are not kept: send all items as `input`";
const NO_TOOLS: &str = "there are no tools of the server's own";
const NOTHING_LEFT_OUT: &str = "nothing is left out of a prompt: send what the model is to read";
const ONE_ANSWER: &str = "there is one answer: use /v1/chat/completions for more";
const TEXT_FORMAT: &str = "use `text.format`";
const OUTPUT_FORMAT: &str = "use `output_config.format`";
const MAX_OUTPUT_TOKENS: &str = "use `max_output_tokens`";
const MAX_TOKENS: &str = "use `max_tokens`";
const NO_LIMIT: Off = Off::If(|x| x == -1.0);

/// A format that asks for any text.
const ANY_TEXT: Off =
    Off::Values(|format| format.get("type").and_then(Value::as_str) == Some("text"));

/// Fields of `/v1/responses`, and those of chats that are passed by another name there.
pub(crate) const RESPONSES: [Unsupported; 27] = [
    ("previous_response_id", Off::Null, KEPT_RESPONSES),
    ("conversation", Off::Null, "conversations are not kept: send all items as `input`"),
    ("prompt", Off::Null, "there are no stored prompts: send `instructions` and `input`"),
    ("background", Off::Flag(false), "responses are not kept"),
    ("max_tool_calls", Off::Null, NO_TOOLS),
    ("truncation", Off::Texts(&["disabled"]), NOTHING_LEFT_OUT),
    ("context_management", Off::Empty, NOTHING_LEFT_OUT),
    ("moderation", Off::Null, "answers are not judged"),
    ("image", Off::Null, "the model writes texts only"),
    ("messages", Off::Null, "use `input`"),
    ("max_tokens", NO_LIMIT, MAX_OUTPUT_TOKENS),
    ("max_completion_tokens", NO_LIMIT, MAX_OUTPUT_TOKENS),
    ("n_predict", NO_LIMIT, MAX_OUTPUT_TOKENS),
    ("response_format", ANY_TEXT, TEXT_FORMAT),
    ("json_schema", Off::Null, TEXT_FORMAT),
    ("guided_json", Off::Null, TEXT_FORMAT),
    ("structured_outputs", Off::Null, TEXT_FORMAT),
    ("regex", Off::Null, CHATS),
    ("grammar", Off::Empty, CHATS),
    ("guided_regex", Off::Null, CHATS),
    ("guided_grammar", Off::Empty, CHATS),
    ("guided_choice", Off::Null, "use `text.format` with an `enum`"),
    ("reasoning_effort", Off::Null, "use `reasoning.effort`"),
    ("logprobs", Off::Flag(false), "use `top_logprobs`"),
    ("n", ONE, ONE_ANSWER),
    ("best_of", Off::If(|x| x <= 1.0), ONE_ANSWER),
    ("add_generation_prompt", Off::Flag(true), CHATS),
];

/// Fields of `reasoning` of `/v1/responses`. What a model thinks comes as it is.
pub(crate) const REASONING: [Unsupported; 4] = [
    ("summary", WHOLE_REASONING, WHOLE),
    ("generate_summary", WHOLE_REASONING, WHOLE),
    ("context", Off::Texts(&["auto"]), "the chat template chooses which reasoning is kept"),
    ("mode", Off::Texts(&["standard"]), "use `effort`"),
];

const WHOLE_REASONING: Off = Off::Texts(&["auto"]);
const WHOLE: &str = "reasoning comes whole, without a summary";

/// Fields of `text` of `/v1/responses`.
pub(crate) const TEXT: [Unsupported; 1] =
    [("verbosity", Off::Texts(&["medium"]), "say in `instructions` how long answers should be")];

/// Fields of `stream_options` of `/v1/responses`.
pub(crate) const STREAM_OPTIONS: [Unsupported; 1] =
    [("include_obfuscation", Off::Flag(false), "events are not filled up to hide their length")];

/// Fields of `/v1/messages`, and those of chats that are passed by another name there.
pub(crate) const MESSAGES: [Unsupported; 27] = [
    ("container", Off::Empty, NO_TOOLS),
    ("mcp_servers", Off::Empty, "the client calls tools: send theirs as `tools`"),
    ("context_management", Off::Values(keeps_all), NOTHING_LEFT_OUT),
    ("compaction", Off::Null, NOTHING_LEFT_OUT),
    ("thread", Off::Values(is_new), "conversations are not kept: send all `messages`"),
    ("stop", Off::Empty, "use `stop_sequences`"),
    ("max_output_tokens", NO_LIMIT, MAX_TOKENS),
    ("max_completion_tokens", NO_LIMIT, MAX_TOKENS),
    ("n_predict", NO_LIMIT, MAX_TOKENS),
    ("response_format", ANY_TEXT, OUTPUT_FORMAT),
    ("json_schema", Off::Null, OUTPUT_FORMAT),
    ("guided_json", Off::Null, OUTPUT_FORMAT),
    ("structured_outputs", Off::Null, OUTPUT_FORMAT),
    ("regex", Off::Null, CHATS),
    ("grammar", Off::Empty, CHATS),
    ("guided_regex", Off::Null, CHATS),
    ("guided_grammar", Off::Empty, CHATS),
    ("guided_choice", Off::Null, "use `output_config.format` with an `enum`"),
    ("reasoning", Off::Empty, "use `thinking` and `output_config.effort`"),
    ("reasoning_effort", Off::Null, "use `output_config.effort`"),
    ("logprobs", Off::Flag(false), CHATS),
    ("top_logprobs", ZERO, CHATS),
    ("n", ONE, ONE_ANSWER),
    ("best_of", Off::If(|x| x <= 1.0), ONE_ANSWER),
    ("instructions", Off::Empty, "use `system`"),
    ("parallel_tool_calls", Off::Flag(true), "use `tool_choice.disable_parallel_tool_use`"),
    ("add_generation_prompt", Off::Flag(true), CHATS),
];

/// True if all edits of a context keep what there is.
fn keeps_all(management: &Value) -> bool {
    let Value::Object(map) = management else { return false };
    let keeps = |edit: &Value| edit.get("keep").and_then(Value::as_str) == Some("all");
    match map.get("edits") {
        None | Some(Value::Null) => true,
        Some(Value::Array(edits)) => edits.iter().all(keeps),
        Some(_) => false,
    }
}

/// Fields of `thinking` of `/v1/messages`.
pub(crate) const THINKING_FIELDS: [Unsupported; 1] =
    [("display", Off::Texts(&["summarized"]), "thinking comes whole: pass over its blocks")];

/// Fields of `output_config` of `/v1/messages`.
pub(crate) const OUTPUT_CONFIG: [Unsupported; 1] = [("task_budget", Off::Null, MAX_TOKENS)];

/// Fields of a tool of `/v1/responses` and `/v1/messages`.
pub(crate) const TOOL: [Unsupported; 3] = [
    ("defer_loading", Off::Flag(false), "the model is told of all tools at once"),
    ("allowed_callers", Off::Values(only_direct), NO_TOOLS),
    ("input_examples", Off::Empty, "write them into the description"),
];

/// True for callers of which the model itself is the only one.
fn only_direct(callers: &Value) -> bool {
    callers.as_array().is_some_and(|all| all.iter().all(|caller| caller == "direct"))
}
