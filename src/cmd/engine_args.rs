//! Options of an engine, for commands that run many texts at once, and sizes with units.

use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use teff::runtime::available_memory;
use teff::runtime::engine::{
    DEFAULT_PAUSE, DEFAULT_SEQUENCES, EngineError, EngineMemoryRequirements, EngineOptions, PAGE,
};
use teff::runtime::{Engine, EngineBuilder};
use teff::{Model, SessionError};

use super::Failure;
use super::args::{Args, option};
use super::common::CommonArgs;
use super::json::Object;
use super::machine::human;

/// Adds the options of an engine.
pub(crate) fn engine_options(command: clap::Command) -> clap::Command {
    command
        .next_help_heading("Engine")
        .arg(option(
            "parallel",
            "N",
            &format!(
                "maximum number of texts that are computed at the same time; others wait (default \
                 {DEFAULT_SEQUENCES}); also -np"
            ),
        ))
        .arg(option(
            "memory",
            "SIZE",
            "most that the engine takes, such as 4GiB, beside the weights; its cache is what that \
             leaves",
        ))
        .arg(option(
            "cache",
            "SIZE",
            "memory for keys and values, of running texts and of prefixes that are kept (default: \
             room for as many texts as --parallel says, of a quarter of the context each or \
             of 1,024 tokens if that is more, but at most half of the memory that the system has available)",
        ))
        .arg(
            option("batch", "N", "maximum number of tokens of a step")
                .short('b')
                .visible_alias("batch-size"),
        )
        .arg(option(
            "pause",
            "MS",
            &format!(
                "time in milliseconds that a long prompt may hold up the answers that are being \
                 written, in each step (default {})",
                DEFAULT_PAUSE.as_millis()
            ),
        ))
        .arg(option("queue", "N", "maximum number of texts that wait (default 1024)"))
}

/// Reads the options of an engine.
pub(crate) fn read(
    args: &Args,
    common: &CommonArgs,
    model: &Model,
) -> Result<EngineOptions, Failure> {
    let session = common.options(model)?;
    let mut options = EngineOptions::default();
    options.context = common.ctx.filter(|&n| n > 0);
    options.kv = session.kv;
    options.speculation = session.speculation;
    options.backend = session.backend;
    options.threads = session.threads;
    options.oversubscribe = session.oversubscribe;
    options.sequences = args.count("parallel", 1..=1 << 16)?.unwrap_or(options.sequences);
    options.queue = args.count("queue", 0..=1 << 24)?.unwrap_or(options.queue);
    options.batch = args.count("batch", 1..=1 << 16)?.unwrap_or(options.batch);
    let pause = args.count("pause", 0..=3_600_000)?;
    options.pause = pause.map_or(options.pause, |ms| Duration::from_millis(ms as u64));
    options.memory = size(args, "memory")?;
    options.cache = size(args, "cache")?;
    Ok(options)
}

/// The builder of an engine with these options, and a model that guesses.
pub(crate) fn plain_builder(
    model: &Arc<Model>,
    draft: Option<&Arc<Model>>,
    options: EngineOptions,
) -> EngineBuilder {
    let builder = Engine::builder(model).options(options);
    match draft {
        Some(draft) => builder.draft(draft),
        None => builder,
    }
}

/// As [`plain_builder`]. Without `--memory` and `--cache`, the engine takes at
/// most half of the memory that the system has available.
pub(crate) fn builder(
    model: &Arc<Model>,
    draft: Option<&Arc<Model>>,
    options: EngineOptions,
) -> Result<EngineBuilder, EngineError> {
    let builder = plain_builder(model, draft, options);
    if options.memory.is_some() || options.cache.is_some() {
        return Ok(builder);
    }
    let half = available_memory().and_then(|bytes| usize::try_from(bytes / 2).ok());
    match half {
        Some(half) if builder.memory_requirements()?.total() > half => {
            Ok(plain_builder(model, draft, options.with_memory(half)))
        }
        _ => Ok(builder),
    }
}

/// The failure for an engine that can't be built, with the flags that would help.
pub(crate) fn failure(e: EngineError) -> Failure {
    Failure::Run(match e {
        EngineError::Cache { needed, got } => format!(
            "the cache of {} has no room for one text of the context, which needs {}: give --cache {} \
             or more, or raise --memory, or lower --ctx, or choose a smaller --kv",
            at_most(got),
            at_least(needed),
            at_least(needed)
        ),
        EngineError::Session(SessionError::Budget { needed, budget }) => format!(
            "the engine needs {}, but --memory is {}: give --memory {} or more, or lower --ctx, \
             --parallel, --batch or --cache",
            at_least(needed),
            at_most(budget),
            at_least(needed)
        ),
        e => e.to_string(),
    })
}

/// Units of sizes, with their names.
const UNITS: [(u64, &str); 4] =
    [(1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];

/// A size of one decimal that an option takes, which is no less than so many bytes.
fn at_least(n: usize) -> String {
    let Some((unit, name)) = unit_of(n) else { return format!("{n}B") };
    let least = (10 * n as u128).div_ceil(unit.into());
    let sizes = (least..).map(|tenths| size_text(tenths, name));
    // The reader of sizes may round down.
    sizes.take(2).find(|text| bytes(text) >= Some(n)).unwrap_or_else(|| n.to_string())
}

/// A size of one decimal that is no more than so many bytes.
fn at_most(n: usize) -> String {
    let Some((unit, name)) = unit_of(n) else { return format!("{n}B") };
    size_text(10 * n as u128 / u128::from(unit), name)
}

/// The largest unit of which so many bytes have one.
fn unit_of(n: usize) -> Option<(u64, &'static str)> {
    UNITS.into_iter().find(|(unit, _)| n as u64 >= *unit)
}

fn size_text(tenths: u128, unit: &str) -> String {
    match (tenths / 10, tenths % 10) {
        (whole, 0) => format!("{whole}{unit}"),
        (whole, part) => format!("{whole}.{part}{unit}"),
    }
}

/// Bytes that a server takes: the program, the weights, the tokenizer, grammars and the engine.
pub(crate) struct ServerMemory {
    engine: EngineMemoryRequirements,
    program: u64,
    /// Weights and tokenizers of the model and of the one that guesses.
    weights: u64,
    tokenizer: usize,
    grammars: usize,
}

/// Bytes that the vocabulary takes for grammars, with what making it took, for each token: 580 to 640 with
/// 32,000 and 50,257 tokens (`teff run --stats`, with and without `--regex`).
const GRAMMAR_TOKEN: usize = 640;

/// Size of the program's file, for what it takes besides: its code, its threads and its connections
/// come to about as much.
fn program_bytes() -> u64 {
    let file = std::env::current_exe().and_then(std::fs::metadata);
    file.map_or(0, |file| file.len())
}

impl ServerMemory {
    /// Those of a model with these options, and of one that guesses.
    pub(crate) fn new(
        model: &Arc<Model>,
        draft: Option<&Arc<Model>>,
        options: EngineOptions,
    ) -> Result<Self, EngineError> {
        let engine = builder(model, draft, options)?.memory_requirements()?;
        let both = || [Some(model), draft].into_iter().flatten();
        let tokenizer = both().map(|m| m.tokenizer().map_or(0, |t| t.memory())).sum();
        let weights = both().map(|m| m.weight_bytes() - m.lookup_bytes()).sum();
        let grammars = GRAMMAR_TOKEN * model.spec().vocab as usize;
        Ok(ServerMemory { engine, program: program_bytes(), weights, tokenizer, grammars })
    }

    fn total(&self) -> u64 {
        let own = self.program + self.weights;
        let texts = self.tokenizer + self.grammars;
        own.saturating_add(self.engine.total().saturating_add(texts) as u64)
    }

    /// One JSON object.
    pub(crate) fn json(&self) -> String {
        let e = &self.engine;
        let object = Object::new()
            .count("context", Some(e.context))
            .count("threads", Some(e.threads))
            .count("pages", Some(e.pages))
            .count("page_positions", Some(PAGE))
            .count("checkpoints", Some(e.checkpoints))
            .count("program_bytes", Some(self.program))
            .count("weight_bytes", Some(self.weights))
            .count("tokenizer_bytes", Some(self.tokenizer))
            .count("grammar_bytes", Some(self.grammars))
            .count("page_bytes", Some(e.page_bytes))
            .count("checkpoint_bytes", Some(e.checkpoint_bytes))
            .count("sequence_bytes", Some(e.sequences))
            .count("arena_bytes", Some(e.arena))
            .count("table_bytes", Some(e.tables))
            .count("sampler_bytes", Some(e.samplers))
            .count("draft_bytes", Some(e.draft))
            .count("engine_bytes", Some(e.total()))
            .count("total_bytes", Some(self.total()));
        object.end() + "\n"
    }

    /// A table.
    pub(crate) fn text(&self) -> String {
        let e = &self.engine;
        let mut out = format!(
            "bytes of a server with a context of {}, {} pages of {PAGE} positions, {} checkpoints; \
             threads: {}\n",
            e.context, e.pages, e.checkpoints, e.threads
        );
        let rows = [
            ("program", self.program),
            ("weights", self.weights),
            ("tokenizer", self.tokenizer as u64),
            ("grammars", self.grammars as u64),
            ("pages", e.page_bytes as u64),
            ("checkpoints", e.checkpoint_bytes as u64),
            ("sequences", e.sequences as u64),
            ("arena", e.arena as u64),
            ("tables", e.tables as u64),
            ("samplers", e.samplers as u64),
            ("draft", e.draft as u64),
            ("total", self.total()),
        ];
        let is_there = |&(key, n): &(&str, u64)| key != "draft" || n > 0;
        for (key, n) in rows.into_iter().filter(is_there) {
            // Writing to a string does not fail.
            let _ = writeln!(out, "{key:<16}{n:>15}  {}", human(n));
        }
        out
    }
}

/// The value of an option as a number of bytes: `512MiB`, `4G`, `1.5GB` or a number.
pub(crate) fn size(args: &Args, id: &str) -> Result<Option<usize>, Failure> {
    let parse = |text: String| {
        let allowed = "a number of bytes, such as 512MiB, 4GiB or 2000000000";
        bytes(&text).ok_or_else(|| args.refused(id, &text, allowed))
    };
    args.text(id)?.map(parse).transpose()
}

/// Number of bytes that a text names. `K`, `M`, `G` and `T` are powers of 1024, as `KiB` is; `kB` and
/// its like are powers of 1000.
fn bytes(text: &str) -> Option<usize> {
    let text = text.trim();
    let split = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let factor: u64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        "t" | "tib" => 1 << 40,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        _ => return None,
    };
    if let Ok(n) = number.parse::<u64>() {
        return n.checked_mul(factor).and_then(|n| usize::try_from(n).ok());
    }
    let n = number.parse::<f64>().ok()? * factor as f64;
    // Beyond 2^53 a fraction of bytes has no meaning.
    (n < (1u64 << 53) as f64).then_some(n as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn least_sizes_are_enough_when_they_are_typed_back() {
        for n in [0, 1, 1023, 1024, 1025, 1127, 12_845_056, 12_845_057, (1 << 30) - 1, 3 << 29]
            .into_iter()
            .chain((1..2000).map(|n| n * 1_048_577))
        {
            let (least, most) = (at_least(n), at_most(n));
            assert!(bytes(&least).is_some_and(|b| b >= n), "{n} {least}");
            assert!(bytes(&most).is_some_and(|b| b <= n), "{n} {most}");
        }
        assert_eq!(
            (at_least(1536), at_least(1537), at_least(1 << 20)),
            sizes("1.5KiB", "1.6KiB", "1MiB")
        );
        assert_eq!(
            (at_most(1536), at_most(1637), at_most(1023)),
            sizes("1.5KiB", "1.5KiB", "1023B")
        );
    }

    fn sizes(a: &str, b: &str, c: &str) -> (String, String, String) {
        (a.into(), b.into(), c.into())
    }

    #[test]
    fn sizes_have_units() {
        for (text, n) in [
            ("0", Some(0)),
            ("123", Some(123)),
            ("1k", Some(1024)),
            ("4GiB", Some(4 << 30)),
            ("1.5 GiB", Some(3 << 29)),
            ("2GB", Some(2_000_000_000)),
            ("10 MB", Some(10_000_000)),
            ("", None),
            ("GiB", None),
            ("-1", None),
            ("1.2.3G", None),
            ("4 gibibytes", None),
            ("99999999999999999999", None),
            ("99999999T", None),
        ] {
            assert_eq!(bytes(text), n, "{text}");
        }
    }
}
