//! Flags that people type out of habit from llama.cpp, vLLM and ollama.
//!
//! Those that mean the same as an option of Teff's are aliases of it. The others stand in the tables
//! of this file: they are accepted where they ask for what Teff does anyway, have no effect and give
//! a warning where only speed or memory is concerned, and are refused with what to type here where
//! the text would be another.

use std::ffi::OsString;

use clap::builder::ValueParser;
use clap::{Arg, ArgAction};

use super::args::Args;
use super::{Failure, print_error};

mod serve;

use serve::SERVE;

/// A flag of another program.
struct Habit {
    /// Its spellings: `-x`, `-xyz` and `--long`, of which at least one is long.
    names: &'static str,
    value: Value,
    means: Means,
}

#[derive(Clone, Copy, PartialEq)]
enum Value {
    None,
    One,
    /// on, off or auto may follow.
    Maybe,
}

/// Meaning of a flag here.
#[derive(Clone, Copy)]
enum Means {
    /// It asks for what happens anyway.
    Same,
    /// It has no effect, for this reason.
    Nothing(&'static str),
    /// It is refused, with what to do instead.
    Refused(&'static str),
}

use Means::{Nothing, Refused, Same};

const fn habit(names: &'static str, value: Value, means: Means) -> Habit {
    Habit { names, value, means }
}

const CPU: Means = Nothing("Teff computes on the CPU, without a GPU");
const STEPS: Means = Nothing("Teff chooses the size of steps, and the text is the same for each");
const CORES: Means =
    Nothing("threads aren't bound to cores: start teff by taskset, nice or numactl");
const LOGS: Means = Nothing(
    "`teff serve --log LEVEL` says how much is logged, on standard error; other commands have no log, \
     and --stats prints statistics",
);
const KV: Means = Refused("keys and values are cached in one format: --kv f32, f16 or q8");
const NO_JINJA: Means = Refused("--chat-template NAME takes a built-in template, such as chatml");
const EMBEDDINGS: Means = Refused("embeddings aren't here yet: leave it out");

pub(crate) const DOWNLOAD: &str = "Teff does not download: fetch the model first, with `hf download \
                                   OWNER/REPO --local-dir DIR` or `curl -L -O URL`, and give the \
                                   path of the .gguf file or folder";
const FETCH: Means = Refused(DOWNLOAD);

/// Flags of all commands that open a model.
const MODEL: &[Habit] = &[
    habit("-hf -hfr --hf-repo", Value::One, FETCH),
    habit("-hff --hf-file", Value::One, FETCH),
    habit("-mu --model-url", Value::One, FETCH),
    habit("-dr --docker-repo", Value::One, FETCH),
    habit("-hft --hf-token", Value::One, FETCH),
    habit("-cl --cache-list", Value::None, Refused("Teff keeps no list: MODEL is a path")),
    habit("--offline", Value::None, Same),
    habit("-ngl --gpu-layers --n-gpu-layers", Value::One, CPU),
    habit("-dev --device", Value::One, CPU),
    habit("-sm --split-mode", Value::One, CPU),
    habit("-ts --tensor-split", Value::One, CPU),
    habit("-mg --main-gpu", Value::One, CPU),
    habit("-nkvo --no-kv-offload", Value::None, CPU),
    habit("-ot --override-tensor", Value::One, CPU),
    habit("-cmoe --cpu-moe", Value::None, CPU),
    habit("-ncmoe --n-cpu-moe", Value::One, CPU),
    habit("-nopo --no-op-offload", Value::None, CPU),
    habit("--no-host", Value::None, CPU),
    habit("-fit --fit", Value::Maybe, CPU),
    habit("-fitt --fit-target", Value::One, CPU),
    habit(
        "--list-devices",
        Value::None,
        Refused("Teff computes on the CPU: `teff inspect MODEL` lists its backends"),
    ),
    habit("--rpc", Value::One, Refused("Teff computes on one machine: leave it out")),
    habit("-b --batch-size", Value::One, STEPS),
    habit("-ub --ubatch-size", Value::One, STEPS),
    habit(
        "-tb --threads-batch",
        Value::One,
        Nothing("-t sets the threads of the prompt and of the text"),
    ),
    habit(
        "-fa --flash-attn",
        Value::Maybe,
        Nothing("attention is computed in blocks always, and the text is the same"),
    ),
    habit(
        "--mlock",
        Value::None,
        Nothing(
            "the system decides which pages of a mapped file stay in memory; --no-mmap reads it",
        ),
    ),
    habit("--mmap", Value::None, Same),
    habit("-nr --no-repack", Value::None, Refused("here that is --repack off")),
    habit("-dio --direct-io", Value::None, Nothing("files are mapped; --no-mmap reads them")),
    habit("-ndio --no-direct-io", Value::None, Same),
    habit("-kvu --kv-unified", Value::None, Nothing("there is one text at a time")),
    habit("--swa-full", Value::None, Nothing("a window's cache is as long as it must be")),
    habit("-dt --defrag-thold", Value::One, Nothing("the cache has no holes")),
    habit(
        "--check-tensors",
        Value::None,
        Nothing("shapes and bounds are checked always; `teff inspect MODEL --stats` reads values"),
    ),
    habit("--numa", Value::One, CORES),
    habit("--prio", Value::One, CORES),
    habit("--poll", Value::One, CORES),
    habit("-C --cpu-mask", Value::One, CORES),
    habit("-Cr --cpu-range", Value::One, CORES),
    habit("--cpu-strict", Value::One, CORES),
    habit("-Cb --cpu-mask-batch", Value::One, CORES),
    habit("-Crb --cpu-range-batch", Value::One, CORES),
    habit("--cpu-strict-batch", Value::One, CORES),
    habit("--prio-batch", Value::One, CORES),
    habit("--poll-batch", Value::One, CORES),
    habit("-v --verbose --log-verbose", Value::None, LOGS),
    habit("-lv --verbosity --log-verbosity", Value::One, LOGS),
    habit("--log-file", Value::One, LOGS),
    habit("--log-colors", Value::Maybe, LOGS),
    habit("--log-prefix", Value::None, LOGS),
    habit("--log-timestamps", Value::None, LOGS),
    habit("--log-disable", Value::None, Same),
    habit("--no-perf", Value::None, Same),
    habit("--perf", Value::None, LOGS),
    habit("--no-warmup", Value::None, Same),
    habit("--warmup", Value::None, Nothing("there is nothing to warm up")),
    habit("-ctk --cache-type-k", Value::One, KV),
    habit("-ctv --cache-type-v", Value::One, KV),
    habit("--lora", Value::One, ADAPTER),
    habit("--lora-scaled", Value::One, ADAPTER),
    habit("--control-vector", Value::One, ADAPTER),
    habit("--control-vector-scaled", Value::One, ADAPTER),
    habit("-mm --mmproj", Value::One, PICTURES),
    habit("-mmu --mmproj-url", Value::One, PICTURES),
    habit("--no-mmproj", Value::None, Same),
    habit("--override-kv", Value::One, HEADER),
    habit("--rope-scaling", Value::One, HEADER),
    habit("--rope-scale", Value::One, HEADER),
    habit("--rope-freq-base", Value::One, HEADER),
    habit("--rope-freq-scale", Value::One, HEADER),
    habit("--yarn-orig-ctx", Value::One, HEADER),
    habit("--yarn-ext-factor", Value::One, HEADER),
    habit("--yarn-attn-factor", Value::One, HEADER),
    habit("--yarn-beta-slow", Value::One, HEADER),
    habit("--yarn-beta-fast", Value::One, HEADER),
    habit("-gan --grp-attn-n", Value::One, HEADER),
    habit("-gaw --grp-attn-w", Value::One, HEADER),
];

const PICTURES: Means = Refused("Teff reads text only, no images and no sound");

const ADAPTER: Means =
    Refused("adapters aren't applied: merge it into the model before converting");
const HEADER: Means = Refused(
    "the model's file decides: `teff inspect MODEL` prints what it says, and a converter changes it",
);
const SAMPLER: Means = Refused(
    "this sampler isn't here; there are --repeat-penalty, --presence-penalty, --frequency-penalty, \
     --top-k, --top-p, --min-p and --temperature, applied in a fixed order",
);
const CHAT: Means = Refused("`teff chat MODEL` holds a conversation");
#[cfg(not(feature = "structured"))]
const GRAMMAR: Means =
    Refused("this teff was built without the feature `structured`: leave it out");
const DRAFT: Means = Refused(
    "--speculate MODEL has a smaller model guess (a draft model), and --speculate ngram the text itself",
);
const GUESSES: Means =
    Nothing("how many guesses of a draft model pay is measured, and the text is the same");
const OF_DRAFT: Means = Nothing("a draft model computes as the model does, with its context");

const ANEW: Means = Nothing("a prompt is read anew by each command");

/// Flags of `run`, `chat` and `serve`.
const WRITING: &[Habit] = &[
    habit("--jinja", Value::None, Same),
    habit("--no-context-shift", Value::None, Same),
    habit("--context-shift", Value::None, Nothing("a full context ends the text")),
    habit("--keep", Value::One, Nothing("a full context ends the text, and nothing is shifted")),
    habit(
        "-sp --special",
        Value::None,
        Refused(
            "special tokens aren't written: `teff logits` and \
          `teff detokenize` show them",
        ),
    ),
];

/// Flags of commands with speculation.
const GUESSING: &[Habit] = &[
    habit("--draft --draft-n --draft-max", Value::One, GUESSES),
    habit("--draft-min --draft-n-min", Value::One, GUESSES),
    habit("--draft-p-min", Value::One, GUESSES),
    habit("--draft-p-split", Value::One, GUESSES),
    habit("-hfd -hfrd --hf-repo-draft", Value::One, FETCH),
    habit("-cd --ctx-size-draft", Value::One, OF_DRAFT),
    habit("-td --threads-draft", Value::One, OF_DRAFT),
    habit("-tbd --threads-batch-draft", Value::One, OF_DRAFT),
    habit("-ngld --gpu-layers-draft --n-gpu-layers-draft", Value::One, CPU),
    habit("-devd --device-draft", Value::One, CPU),
];

/// Flags of `run` and `chat`.
const TEXT: &[Habit] = &[
    habit("--no-display-prompt", Value::None, Same),
    habit("--simple-io", Value::None, Same),
    habit("--no-escape", Value::None, Same),
    habit("--nowordwrap", Value::None, Same),
    habit("-co --color", Value::Maybe, Nothing("text is written as it is")),
    habit("--keepalive", Value::One, Nothing("the model is loaded for one command")),
    habit("--prompt-cache", Value::One, ANEW),
    habit("--prompt-cache-all", Value::None, ANEW),
    habit("--prompt-cache-ro", Value::None, ANEW),
    habit("--show-timings", Value::None, LOGS),
    habit("--no-show-timings", Value::None, Same),
    habit("-ptc --print-token-count", Value::One, LOGS),
    habit("--insecure", Value::None, Same),
    habit(
        "-bf --binary-file",
        Value::One,
        Refused("a prompt is a text in UTF-8: -f FILE reads it from a file"),
    ),
    habit("-cb --cont-batching", Value::None, Nothing("there is one text at a time")),
    habit(
        "--verbose-prompt",
        Value::None,
        Refused("`teff tokenize MODEL --text TEXT` shows tokens"),
    ),
    #[cfg(not(feature = "structured"))]
    habit("--grammar", Value::One, GRAMMAR),
    #[cfg(not(feature = "structured"))]
    habit("--grammar-file", Value::One, GRAMMAR),
    #[cfg(not(feature = "structured"))]
    habit("-j --json-schema", Value::One, GRAMMAR),
    #[cfg(not(feature = "structured"))]
    habit("-jf --json-schema-file", Value::One, GRAMMAR),
    habit(
        "--format",
        Value::One,
        Refused("--json writes JSON, and --json-schema that of a schema"),
    ),
    habit("--image", Value::One, PICTURES),
    habit("--audio", Value::One, PICTURES),
    habit(
        "--in-prefix",
        Value::One,
        Refused(
            "the model's chat template says what stands around \
          messages: `teff chat MODEL --chat-template FILE` takes another",
        ),
    ),
    habit(
        "--in-suffix",
        Value::One,
        Refused(
            "the model's chat template says what stands around \
          messages: `teff chat MODEL --chat-template FILE` takes another",
        ),
    ),
];

/// Flags of samplers.
const SAMPLERS: &[Habit] = &[
    habit("--samplers", Value::One, SAMPLER),
    habit("--sampling-seq --sampler-seq", Value::One, SAMPLER),
    habit("--mirostat", Value::One, SAMPLER),
    habit("--mirostat-lr", Value::One, SAMPLER),
    habit("--mirostat-ent", Value::One, SAMPLER),
    habit("--typical --typical-p", Value::One, SAMPLER),
    habit("--top-n-sigma --top-nsigma", Value::One, SAMPLER),
    habit("--tfs", Value::One, SAMPLER),
    habit("--xtc-probability", Value::One, SAMPLER),
    habit("--xtc-threshold", Value::One, SAMPLER),
    habit("--dynatemp-range", Value::One, SAMPLER),
    habit("--dynatemp-exp", Value::One, SAMPLER),
    habit("--dry-multiplier", Value::One, SAMPLER),
    habit("--dry-base", Value::One, SAMPLER),
    habit("--dry-allowed-length", Value::One, SAMPLER),
    habit("--dry-penalty-last-n", Value::One, SAMPLER),
    habit("--dry-sequence-breaker", Value::One, SAMPLER),
    habit("--penalize-nl", Value::None, SAMPLER),
    habit("-l --logit-bias", Value::One, SAMPLER),
];

const RUN: &[Habit] = &[
    habit("-no-cnv --no-conversation", Value::None, Same),
    habit("-cnv --conversation", Value::None, CHAT),
    habit("-i --interactive", Value::None, CHAT),
    habit("-if --interactive-first", Value::None, CHAT),
    habit("-st --single-turn", Value::None, CHAT),
    habit(
        "-sys --system --system-prompt",
        Value::One,
        Refused("a system message is a part of a conversation: `teff chat MODEL --system TEXT`"),
    ),
    habit("-sysf --system-prompt-file", Value::One, CHAT),
    habit("-mli --multiline-input", Value::None, CHAT),
    habit("--no-jinja", Value::None, Same),
    habit("-rea --reasoning", Value::Maybe, CHAT),
    habit("--reasoning-format", Value::One, CHAT),
    habit("--reasoning-budget", Value::One, CHAT),
    habit("--think", Value::Maybe, CHAT),
    habit("--hidethinking", Value::None, CHAT),
    habit("--chat-template-kwargs", Value::One, CHAT),
    // With it they are options of batches.
    #[cfg(not(feature = "chat"))]
    habit("--chat-template", Value::One, CHAT),
    #[cfg(not(feature = "chat"))]
    habit("--chat-template-file", Value::One, CHAT),
];

const THINKING: Means = Refused(
    "the chat template decides about thinking, most often by --kwargs '{\"enable_thinking\": \
     false}'; an answer is written whole, with its reasoning",
);

const CHATTING: &[Habit] = &[
    habit("-np --parallel", Value::One, Nothing("there is one text at a time")),
    habit("-cnv --conversation", Value::None, Same),
    habit("-rea --reasoning", Value::Maybe, THINKING),
    habit("--reasoning-format", Value::One, THINKING),
    habit("--reasoning-budget", Value::One, THINKING),
    habit("--think", Value::Maybe, THINKING),
    habit("--hidethinking", Value::None, THINKING),
    habit("--no-jinja", Value::None, NO_JINJA),
    habit("-i --interactive", Value::None, Same),
    habit("-if --interactive-first", Value::None, Same),
    habit(
        "-no-cnv --no-conversation",
        Value::None,
        Refused("`teff run MODEL -p TEXT` continues a text"),
    ),
    habit(
        "-sysf --system-prompt-file",
        Value::One,
        Refused("give its text: --system \"$(cat FILE)\""),
    ),
    habit(
        "--ignore-eos",
        Value::None,
        Refused(
            "an answer ends as the model ends it; `teff run` has \
          --ignore-eos",
        ),
    ),
];

const BENCH: &[Habit] = &[
    habit("-o --output", Value::One, Refused("--json prints JSON; without it, a table is printed")),
    habit(
        "-oe --output-err",
        Value::One,
        Refused("--json prints JSON; without it, a table is printed"),
    ),
    // Here they are followed by 0 or 1.
    habit("-nkvo --no-kv-offload", Value::Maybe, CPU),
    habit("-nopo --no-op-offload", Value::Maybe, CPU),
    habit("--no-host", Value::Maybe, CPU),
    habit("--delay", Value::One, Nothing("the measurements follow each other")),
    habit("--progress", Value::None, Nothing("a terminal shows the progress")),
    habit("-embd --embeddings", Value::One, EMBEDDINGS),
    habit("-mmp", Value::One, Nothing("files are mapped; --no-mmap reads them")),
    habit("-pg", Value::One, Refused("-p and -n are measured one after the other")),
    habit("-d --n-depth", Value::One, Refused("prefill and decode begin with an empty cache")),
];

const TOKENIZE: &[Habit] = &[
    habit("--ids", Value::None, Same),
    habit("--stdin", Value::None, Same),
    habit("--no-bos", Value::None, Same),
    habit("--no-parse-special", Value::None, Same),
    habit("--no-escape", Value::None, Same),
    habit(
        "--show-count",
        Value::None,
        Nothing("only the ids are printed, as a list of which JSON tools give the length"),
    ),
];

/// Flags of commands that compute nothing.
const WITHOUT: &[Habit] = &[
    habit("-c --ctx-size --ctx", Value::One, Nothing("nothing is computed here")),
    habit("-t --threads", Value::One, Nothing("nothing is computed here")),
    habit("-ctk --cache-type-k", Value::One, Nothing("nothing is computed here")),
    habit("-ctv --cache-type-v", Value::One, Nothing("nothing is computed here")),
    habit("-nr --no-repack", Value::None, Same),
];

const LOGITS: &[Habit] =
    &[habit("-c --ctx-size --ctx", Value::One, Nothing("a session is as long as the text"))];

const ONCE: Means = Nothing("the file is written once, at the end");

/// Flags of `imatrix`, whose file has one form.
const IMATRIX: &[Habit] = &[
    habit(
        "--output-format",
        Value::One,
        Refused("the file is a GGUF file, as llama-imatrix writes by default: leave it out"),
    ),
    habit("-ofreq --output-frequency", Value::One, ONCE),
    habit("--save-frequency", Value::One, ONCE),
    habit(
        "--in-file",
        Value::One,
        Refused("matrices aren't merged: give all of the text in one file"),
    ),
    habit(
        "--show-statistics",
        Value::None,
        Refused("nothing here prints an importance matrix: leave it out"),
    ),
    habit("-p --prompt", Value::One, Refused("-f FILE names a file with the text")),
    habit("--no-ppl", Value::None, Same),
    habit("-ctk --cache-type-k", Value::One, Refused("keys and values are cached in f32 here")),
    habit("-ctv --cache-type-v", Value::One, Refused("keys and values are cached in f32 here")),
    habit("-nr --no-repack", Value::None, Same),
];

const SPLIT: &[Habit] = &[
    habit("--split", Value::None, Same),
    habit(
        "--no-tensor-first-split",
        Value::None,
        Refused("the first part has tensors as the others have"),
    ),
    habit("--merge", Value::None, Refused("`teff merge PART.gguf OUT.gguf` merges parts")),
];

const MERGE: &[Habit] = &[
    habit("--merge", Value::None, Same),
    habit("--split", Value::None, Refused("`teff split IN.gguf NAME` splits a file")),
];

const QUANTIZE: &[Habit] = &[
    habit(
        "--keep-split",
        Value::None,
        Refused("OUT is one file: `teff split OUT NAME` splits it afterwards"),
    ),
    habit("-hf -hfr --hf-repo", Value::One, FETCH),
    habit("--override-kv", Value::One, HEADER),
    habit("--prune-layers", Value::One, Refused("layers aren't removed: leave it out")),
    habit("--dry-run", Value::None, Refused("the sizes are printed when the file is written")),
    habit(
        "--leave-output-tensor",
        Value::None,
        Refused("--output-tensor-type gives the head the type that it has, such as F16"),
    ),
];

/// Spellings with one dash of options that Teff has: (as typed, the option).
const DASHED: [(&str, &str); 5] = [
    ("-sys", "system"),
    ("-st", "single-turn"),
    ("-np", "parallel"),
    ("-jf", "json-schema"),
    ("-md", "model-draft"),
];

/// Values that may follow a flag with [`Value::Maybe`].
const SETTINGS: [&str; 7] = ["on", "off", "auto", "0", "1", "true", "false"];

/// The tables of a command.
fn tables(command: &str) -> &'static [&'static [Habit]] {
    match command {
        "run" => &[RUN, TEXT, WRITING, GUESSING, SAMPLERS, MODEL],
        "chat" => &[CHATTING, TEXT, WRITING, GUESSING, SAMPLERS, MODEL],
        "bench" => &[BENCH, GUESSING, MODEL],
        "quantize" => &[QUANTIZE],
        "split" => &[SPLIT],
        "merge" => &[MERGE],
        "tokenize" => &[TOKENIZE, WITHOUT, MODEL],
        "template" | "detokenize" => &[WITHOUT, MODEL],
        "logits" => &[LOGITS, MODEL],
        "imatrix" => &[IMATRIX, MODEL],
        "inspect" => &[GUESSING, MODEL],
        "trace" => &[MODEL],
        "serve" => &[SERVE, WRITING, GUESSING, SAMPLERS, MODEL],
        _ => &[],
    }
}

impl Habit {
    fn longs(&self) -> impl Iterator<Item = &'static str> {
        self.names.split(' ').filter_map(|name| name.strip_prefix("--"))
    }

    /// The identifier of its argument.
    fn id(&self) -> &'static str {
        self.longs().next().unwrap_or(self.names.trim_start_matches('-'))
    }

    /// Spellings of one dash and several letters.
    fn dashed(&self) -> impl Iterator<Item = &'static str> {
        self.names.split(' ').filter(|name| is_dashed_word(name))
    }

    fn short(&self) -> Option<char> {
        let short = self.names.split(' ').find(|n| n.len() == 2)?;
        short.chars().nth(1)
    }

    /// The first spelling that is no option of the parser.
    fn spelling(&self, parser: &clap::Command) -> Option<&'static str> {
        if parser.get_arguments().any(|a| a.get_id() == self.id()) {
            return None;
        }
        self.names.split(' ').find(|name| match name.strip_prefix("--") {
            Some(long) => !has_long(parser, long),
            None if is_dashed_word(name) => true,
            None => name.chars().nth(1).is_none_or(|c| by_short(parser, c).is_none()),
        })
    }

    fn arg(&self, longs: &[&'static str], short: Option<char>) -> Option<Arg> {
        let (&first, others) = longs.split_first()?;
        let mut arg = Arg::new(self.id()).long(first).aliases(others.to_vec()).hide(true);
        if let Some(short) = short {
            arg = arg.short(short);
        }
        Some(match self.value {
            Value::None => arg.action(ArgAction::SetTrue),
            Value::One => arg
                .value_parser(ValueParser::os_string())
                .value_name("VALUE")
                .allow_hyphen_values(true),
            Value::Maybe => arg
                .value_parser(ValueParser::os_string())
                .value_name("VALUE")
                .num_args(0..=1)
                .require_equals(true)
                .default_missing_value("on"),
        })
    }
}

fn is_dashed_word(word: &str) -> bool {
    word.len() > 2 && word.starts_with('-') && !word.starts_with("--")
}

/// Adds the flags of other programs to a parser, except for spellings that it has already.
pub(crate) fn add(mut parser: clap::Command, command: &str) -> clap::Command {
    for habit in tables(command).iter().copied().flatten() {
        // A flag in a table before this one, or an option with this name, goes first.
        if parser.get_arguments().any(|a| a.get_id() == habit.id()) {
            continue;
        }
        let ids = [habit.id()].into_iter().filter(|_| habit.longs().next().is_none());
        let longs: Vec<_> = habit.longs().chain(ids).filter(|l| !has_long(&parser, l)).collect();
        let short = habit.short().filter(|&c| by_short(&parser, c).is_none());
        if let Some(arg) = habit.arg(&longs, short) {
            parser = parser.arg(arg);
        }
    }
    parser
}

/// The spellings with one dash of the argument with this identifier.
pub(crate) fn dashed(id: &str) -> impl Iterator<Item = &'static str> {
    let own = DASHED.iter().filter(move |(_, long)| *long == id).map(|&(typed, _)| typed);
    own.chain(all().filter(move |habit| habit.id() == id).flat_map(Habit::dashed))
}

/// True if `word` is a flag of several letters behind one dash.
pub(crate) fn is_dashed(word: &str) -> bool {
    DASHED.iter().any(|&(typed, _)| typed == word) || all().any(|h| h.dashed().any(|d| d == word))
}

fn all() -> impl Iterator<Item = &'static Habit> {
    let tables = [
        RUN, CHATTING, TEXT, WRITING, GUESSING, SAMPLERS, MODEL, BENCH, TOKENIZE, WITHOUT, LOGITS,
        IMATRIX, QUANTIZE, SPLIT, MERGE, SERVE,
    ];
    tables.into_iter().flatten()
}

/// The arguments with flags of several letters behind one dash (`-ngl`) as long options, since the
/// parser would take them for several options of one letter.
pub(crate) fn rewritten(
    parser: &clap::Command,
    typed: &[OsString],
) -> Result<Vec<OsString>, Failure> {
    let mut words = Vec::with_capacity(typed.len());
    let mut rest = typed.iter().peekable();
    while let Some(word) = rest.next() {
        let Some(text) = word.to_str().filter(|w| w.len() > 1 && w.starts_with('-')) else {
            words.push(word.clone());
            continue;
        };
        if text == "--" {
            words.push(word.clone());
            words.extend(rest.cloned());
            break;
        }
        let (head, value) = match text.split_once('=') {
            Some((head, value)) => (head, Some(value)),
            None => (text, None),
        };
        let mut flag = text.to_owned();
        if is_dashed_word(head) {
            if let Some(long) = long_of(parser, head) {
                flag = value.map_or(format!("--{long}"), |v| format!("--{long}={v}"));
            } else if has_long(parser, &head[1..]) {
                let what = format!("unknown option {head}: did you mean -{head}?");
                return Err(Failure::Usage(what));
            }
        }
        match takes(parser, &flag) {
            Value::Maybe if value.is_none() => {
                let setting = rest.next_if(|w| SETTINGS.iter().any(|s| *w == s));
                if let Some(setting) = setting.and_then(|s| s.to_str()) {
                    flag = format!("{flag}={setting}");
                }
                words.push(flag.into());
            }
            Value::One => {
                // A flag whose value is passed over must not take an option with it.
                let next = rest.peek().and_then(|w| w.to_str());
                if is_passed_over(parser, &flag) && next.is_some_and(|w| is_option(parser, w)) {
                    return Err(Failure::Usage(format!("{head} needs a value")));
                }
                words.push(flag.into());
                words.extend(rest.next().cloned());
            }
            _ => words.push(flag.into()),
        }
    }
    Ok(words)
}

/// The long option of a parser for a spelling of one dash.
fn long_of(parser: &clap::Command, dashed: &str) -> Option<&'static str> {
    let own = DASHED.iter().filter(|(typed, _)| *typed == dashed).map(|&(_, long)| long);
    let habits = all().filter(|h| h.dashed().any(|d| d == dashed)).map(Habit::id);
    own.chain(habits).find(|long| has_long(parser, long))
}

/// True for a flag of another program.
fn is_passed_over(parser: &clap::Command, flag: &str) -> bool {
    let arg = match flag.strip_prefix("--") {
        Some(long) => by_long(parser, long),
        None => flag.chars().nth(1).and_then(|c| by_short(parser, c)),
    };
    arg.is_some_and(Arg::is_hide_set)
}

/// True for an option of the parser, and not for a negative number.
fn is_option(parser: &clap::Command, word: &str) -> bool {
    let head = word.split('=').next().unwrap_or_default();
    match head.strip_prefix("--") {
        Some(long) => has_long(parser, long),
        None if long_of(parser, head).is_some() => true,
        None => {
            let letter = head.strip_prefix('-').and_then(|rest| rest.chars().next());
            letter.is_some_and(|c| by_short(parser, c).is_some())
        }
    }
}

fn has_long(parser: &clap::Command, long: &str) -> bool {
    by_long(parser, long).is_some()
}

fn by_long<'a>(parser: &'a clap::Command, long: &str) -> Option<&'a Arg> {
    parser.get_arguments().find(|a| {
        a.get_long() == Some(long) || a.get_all_aliases().is_some_and(|all| all.contains(&long))
    })
}

fn by_short(parser: &clap::Command, short: char) -> Option<&Arg> {
    parser.get_arguments().find(|a| {
        a.get_short() == Some(short)
            || a.get_all_short_aliases().is_some_and(|all| all.contains(&short))
    })
}

/// How an option that stands in an argument of its own goes on in the next.
fn takes(parser: &clap::Command, flag: &str) -> Value {
    let of = |arg: &Arg| match arg.get_action() {
        _ if arg.is_require_equals_set() => Value::Maybe,
        ArgAction::Set | ArgAction::Append => Value::One,
        _ => Value::None,
    };
    if let Some(long) = flag.strip_prefix("--") {
        return match long.contains('=') {
            true => Value::None,
            false => by_long(parser, long).map_or(Value::None, of),
        };
    }
    // Of several letters, the first that takes a value takes the rest as its value.
    let letters: Vec<char> = flag.chars().skip(1).collect();
    for (i, &c) in letters.iter().enumerate() {
        match by_short(parser, c).map_or(Value::None, of) {
            Value::None => {}
            value => return if i + 1 == letters.len() { value } else { Value::None },
        }
    }
    Value::None
}

/// Flags of a command's tables; one that several tables have is that of the first.
fn flags(command: &str) -> Vec<&'static Habit> {
    let mut known: Vec<&Habit> = Vec::new();
    for habit in tables(command).iter().copied().flatten() {
        if known.iter().all(|h| h.id() != habit.id()) {
            known.push(habit);
        }
    }
    known
}

/// Warns about flags without an effect, and refuses those that would need another text.
pub(crate) fn check(args: &Args, command: &str) -> Result<(), Failure> {
    for habit in flags(command) {
        let id = habit.id();
        if !args.has(id) || !args.is_habit(id) {
            continue;
        }
        match habit.means {
            Same => {}
            Nothing(why) => {
                print_error(&format!("warning: {} has no effect: {why}", args.name(id)));
            }
            Refused(advice) => return Err(Failure::Usage(format!("{}: {advice}", args.name(id)))),
        }
    }
    Ok(())
}

/// The text about them in the help of a command; `parser` has its own options alone.
pub(crate) fn notes(command: &str, parser: &clap::Command) -> String {
    let known = flags(command);
    let list = |wanted: fn(&Means) -> bool| {
        let all = known.iter().filter(|h| wanted(&h.means));
        let names: Vec<_> = all.filter_map(|h| h.spelling(parser)).collect();
        names.join(" ")
    };
    let same = list(|m| matches!(m, Same));
    let nothing = list(|m| matches!(m, Nothing(_)));
    let refused = list(|m| matches!(m, Refused(_)));
    if refused.is_empty() {
        return String::new();
    }
    let mut text = String::from("Flags of llama.cpp, vLLM and ollama that aren't options here:\n");
    for (what, names) in [
        ("accepted, since they ask for what happens anyway", same),
        ("accepted with a warning that they have no effect", nothing),
        ("refused with what to type instead", refused),
    ] {
        if !names.is_empty() {
            text.push_str(&format!("  {what}:\n    {names}\n"));
        }
    }
    text.truncate(text.trim_end().len());
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_that_say_the_same_are_shared() {
        let said = |means: &Means| match *means {
            Same => ("same", ""),
            Nothing(why) => ("nothing", why),
            Refused(advice) => ("refused", advice),
        };
        for row in SERVE {
            for other in [TEXT, WRITING, GUESSING, SAMPLERS, MODEL].into_iter().flatten() {
                let same = row.names == other.names && row.value == other.value;
                assert!(!same || said(&row.means) != said(&other.means), "{}", row.names);
            }
        }
    }
}
