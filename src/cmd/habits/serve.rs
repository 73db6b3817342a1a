//! Flags of llama-server and of `vllm serve`.

use super::Means::{Nothing, Refused, Same};
use super::{
    ADAPTER, CPU, DRAFT, EMBEDDINGS, HEADER, Habit, KV, LOGS, Means, NO_JINJA, PICTURES, STEPS,
    Value, habit,
};

const TLS: Means =
    Refused("the server speaks HTTP: put a proxy such as Caddy or nginx in front of it for TLS");
const PAGE: Means = Nothing("the page at / is part of the server");
const PREFIXES: Means = Nothing(
    "prefixes of prompts are shared always, in the memory of --cache, and the text is the same",
);
const THINKING: Means =
    Refused("requests say it, by `chat_template_kwargs` and `reasoning_effort`");
const GRAMMAR: Means =
    Refused("requests have their own: the field `grammar`, in llguidance's Lark, or `regex`");
const SCHEMA: Means =
    Refused("requests have their own: the field `json_schema` or `response_format`");
const STOP: Means = Refused("requests have their own: the field `stop`");
const AGENT: Means = Refused("there are no tools of the server's own: leave it out");
const ONE: Means = Refused("a server has one model: start one for each, with a --port of its own");
const CALLS: Means = Nothing("the model's chat template says how calls and reasoning are written");
const WEIGHTS: Means =
    Nothing("weights are as the file has them: `teff quantize` writes them in another format");
const PATHS: Means = Refused("paths are OpenAI's: leave it out");
const CORS: Means = Nothing("--cors-origins LIST allows what the server has to pages of others");

/// Flags of `serve`.
pub(super) const SERVE: &[Habit] = &[
    habit("--no-jinja", Value::None, NO_JINJA),
    habit("--metrics", Value::None, Same),
    habit("--no-slots", Value::None, Same),
    habit("--slots", Value::None, Nothing("/props and /metrics say what runs")),
    habit("--props", Value::None, Nothing("/props can be read, and not changed")),
    habit("-cb --cont-batching", Value::None, Same),
    habit("-nocb --no-cont-batching", Value::None, Nothing("texts are computed together always")),
    habit("-kvu --kv-unified", Value::None, Same),
    habit("-no-kvu --no-kv-unified", Value::None, Nothing("texts share the memory of --cache")),
    habit("--kv-unified-per-slot", Value::One, Refused("--ctx N is the longest of each text")),
    habit("--cache-prompt", Value::None, Same),
    habit("--no-cache-prompt", Value::None, PREFIXES),
    habit("--cache-reuse", Value::One, PREFIXES),
    habit("-cram --cache-ram", Value::One, PREFIXES),
    habit("--cache-idle-slots", Value::None, Same),
    habit("--no-cache-idle-slots", Value::None, PREFIXES),
    habit("-ctxcp --ctx-checkpoints --swa-checkpoints", Value::One, PREFIXES),
    habit("-cms --checkpoint-min-step", Value::One, PREFIXES),
    habit("-sps --slot-prompt-similarity", Value::One, Nothing("there are no slots")),
    habit("--slot-save-path", Value::One, Refused("--prefix-dir DIR keeps prefixes")),
    habit("--no-webui --no-ui", Value::None, PAGE),
    habit("--webui --ui", Value::None, Same),
    habit("--webui-config --ui-config", Value::One, PAGE),
    habit("--webui-config-file --ui-config-file", Value::One, PAGE),
    habit("--webui-mcp-proxy --ui-mcp-proxy", Value::None, AGENT),
    habit("--no-webui-mcp-proxy --no-ui-mcp-proxy", Value::None, Same),
    habit("-ag --agent", Value::None, AGENT),
    habit("-no-ag --no-agent", Value::None, Same),
    habit("--tools", Value::One, AGENT),
    habit("--mcp-servers-config", Value::One, AGENT),
    habit("--mcp-servers-json", Value::One, AGENT),
    habit("-to", Value::One, Refused("--timeout SECONDS ends answers")),
    habit("--sse-ping-interval", Value::One, Nothing("a quiet stream sends a comment every 15 s")),
    habit("--sleep-idle-seconds", Value::One, Nothing("the model stays loaded")),
    habit("--threads-http", Value::One, Nothing("two threads pass the texts on")),
    habit("--reuse-port", Value::None, Nothing("a port is for one server")),
    habit("--cors-methods", Value::One, CORS),
    habit("--cors-headers", Value::One, CORS),
    habit("--cors-credentials", Value::None, CORS),
    habit("--no-cors-credentials", Value::None, CORS),
    habit("--tags", Value::One, Nothing("/v1/models has the name that --alias gives")),
    habit("--path", Value::One, Refused("the server has one page of its own")),
    habit("--media-path", Value::One, PICTURES),
    habit("--api-prefix", Value::One, PATHS),
    habit("--ssl-key-file", Value::One, TLS),
    habit("--ssl-cert-file", Value::One, TLS),
    habit("-embd --embeddings --embedding", Value::None, EMBEDDINGS),
    habit("--embd-normalize", Value::One, EMBEDDINGS),
    habit("--reranking --rerank", Value::None, EMBEDDINGS),
    habit("--pooling", Value::One, EMBEDDINGS),
    habit("--models-dir", Value::One, ONE),
    habit("--models-preset", Value::One, ONE),
    habit("--models-max", Value::One, ONE),
    habit("--models-autoload", Value::None, ONE),
    habit("--lora-init-without-apply", Value::None, ADAPTER),
    habit("--spm-infill", Value::None, Refused("texts are continued, and not filled in")),
    habit("--reasoning-format", Value::One, Nothing("reasoning is told apart from the answer")),
    habit("-rea --reasoning", Value::Maybe, THINKING),
    habit("--reasoning-effort", Value::One, THINKING),
    habit("--reasoning-budget", Value::One, THINKING),
    habit("--chat-template-kwargs", Value::One, THINKING),
    habit(
        "--skip-chat-parsing",
        Value::None,
        Refused("/v1/completions gives texts as the model writes them"),
    ),
    habit("--no-skip-chat-parsing", Value::None, Same),
    habit("--prefill-assistant", Value::None, Same),
    habit(
        "--no-prefill-assistant",
        Value::None,
        Refused("a last message of the assistant is the beginning of the answer"),
    ),
    habit(
        "-sys --system --system-prompt",
        Value::One,
        Refused("requests have their own: the first of their `messages`"),
    ),
    habit("--grammar", Value::One, GRAMMAR),
    habit("--grammar-file", Value::One, GRAMMAR),
    habit("-j --json-schema", Value::One, SCHEMA),
    habit("-jf --json-schema-file", Value::One, SCHEMA),
    habit(
        "-l --logit-bias",
        Value::One,
        Refused("requests have their own: the field `logit_bias`"),
    ),
    habit("-r --reverse-prompt --stop", Value::One, STOP),
    habit("--ignore-eos", Value::None, Refused("requests have their own: the field `ignore_eos`")),
    habit("--log-jsonl", Value::None, LOGS),
    habit(
        "--log-prompts-dir",
        Value::One,
        Refused("--log-prompts writes prompts to the log, on standard error"),
    ),
    habit("--perf", Value::None, Nothing("answers have their times in `timings`")),
    habit("--log-disable", Value::None, Refused("here that is --log off")),
    // vLLM's.
    habit(
        "--gpu-memory-utilization",
        Value::One,
        Nothing("Teff computes on the CPU, without a GPU: --memory SIZE bounds what it takes"),
    ),
    habit("-tp --tensor-parallel-size", Value::One, CPU),
    habit("-pp --pipeline-parallel-size", Value::One, CPU),
    habit("-dp --data-parallel-size", Value::One, CPU),
    habit("--enforce-eager", Value::None, CPU),
    habit("--cpu-offload-gb", Value::One, CPU),
    habit("--swap-space", Value::One, Nothing("texts wait in the queue where memory runs out")),
    habit("--block-size", Value::One, Nothing("pages have 64 positions")),
    habit("--dtype", Value::One, WEIGHTS),
    habit("-q --quantization", Value::One, WEIGHTS),
    habit("--load-format", Value::One, WEIGHTS),
    habit("--kv-cache-dtype", Value::One, KV),
    habit("--enable-prefix-caching", Value::None, Same),
    habit("--no-enable-prefix-caching", Value::None, PREFIXES),
    habit("--enable-chunked-prefill", Value::None, Same),
    habit("--no-enable-chunked-prefill", Value::None, STEPS),
    habit("--enable-auto-tool-choice", Value::None, Same),
    habit("--tool-call-parser", Value::One, CALLS),
    habit("--reasoning-parser", Value::One, CALLS),
    habit("--chat-template-content-format", Value::One, CALLS),
    habit("--guided-decoding-backend", Value::One, Nothing("grammars are llguidance's")),
    habit("--trust-remote-code", Value::None, Nothing("no code of a model's folder is run")),
    habit("--tokenizer", Value::One, Refused("the model's file or folder has its tokenizer")),
    habit(
        "--override-generation-config",
        Value::One,
        Refused("--temperature, --top-p and the other options of sampling set the defaults"),
    ),
    habit("--speculative-config", Value::One, DRAFT),
    habit("--enable-lora", Value::None, ADAPTER),
    habit("--lora-modules", Value::One, ADAPTER),
    habit("--hf-overrides", Value::One, HEADER),
    habit("--root-path", Value::One, PATHS),
    habit("--allowed-origins", Value::One, Refused("here that is --cors-origins LIST")),
    habit("--ssl-keyfile", Value::One, TLS),
    habit("--ssl-certfile", Value::One, TLS),
    habit("--disable-log-requests", Value::None, Same),
    habit("--disable-log-stats", Value::None, Same),
    habit("--enable-log-requests", Value::None, LOGS),
    habit("--uvicorn-log-level", Value::One, LOGS),
];
