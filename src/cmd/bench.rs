//! `teff bench`: speed and memory use of a model.

use std::time::{Duration, Instant};

use teff::graph::layers::LayerState;
use teff::graph::{Head, Role};
use teff::kernels::{KV_BLOCK, KvLayout};
use teff::runtime::pool::{allowed_threads, available_threads};
use teff::{Format, KvFormat, LogitsFor, Model, Session, SessionOptions};

use super::alloc_count::allocations;
use super::args::{Args, option, switch};
use super::common::{
    CommonArgs, THREADS, model_argument, model_options, oversubscribe, speculate_option,
};
use super::json::{Object, array, string};
use super::machine::{Progress, human, ms_since, peak_bytes, reset_peak};
use super::{Command, Failure, bench_sequences, bench_speculation, print, roofline};

pub(crate) const COMMAND: Command = Command {
    name: "bench",
    about: "measures the speed of a model",
    usage: &[
        "bench MODEL [-p 512] [-n 128] [-r 5] [--threads 1,2] [OPTIONS]",
        "bench MODEL --sequences 1,8,16 [-p 64] [-n 32] [-r 5] [--threads 1,2] [OPTIONS]",
        "bench MODEL --speculate ngram|DRAFT [-p 64] [-n 160] [-r 5] [--threads 1,2] [OPTIONS]",
        "bench --roofline [MODEL] [--size MB] [--formats Q4_0,Q8_0] [--threads 1,2] [OPTIONS]",
    ],
    details: "\
Prints a row for each number of threads, opening the model anew for each. Prefill evaluates P tokens \
from an empty cache, in steps of up to 512; decode evaluates N tokens one at a time, also from an \
empty cache. Both run once to warm up (decode for at most 16 tokens), then R times. The tokens are \
random but always the same; nothing is sampled.",
    notes: "\
Bytes per token are the weights read to decode one token, plus the average size of the KV cache over \
the run; GB/s (10^9 bytes) is that at the median decode speed. Allocations per token are counted \
over all decode runs. Peak memory is that of the process, including mapped weights.

With --sequences: so many texts at once, each with a prompt of its own. Prefill is the tokens of all \
prompts in the time until every text has its first token; decode is the tokens from then on until \
all have ended. Both are of all texts together.

With --speculate: the speed of three texts with guesses and without, in turns: the model's own likeliest \
text after a random prompt; a text that is made to repeat the same 40 tokens (copy); and one that is made \
of random tokens (new), in which no guess is right. The time of the prompt is not counted.

With --roofline: the machine's limits, measured in the same run, and how close Teff comes to them. \
Limits: reading memory too large for the caches, in 1 to 8 streams, with and without software \
prefetch, on one thread and on the numbers of --threads; and, for each backend, products of bytes \
and f32 multiply-adds in registers. Compared to them, for each format and backend: a product with \
512 columns, as a share of the peak, and one with one column, over all of the memory, as a share of \
the best bandwidth; and likewise a model's prefill and decode. A model's operations are two per \
weight of its products and token; attention is not counted. Without VNNI, bytes (which define the \
peak) take longer to sum than codes of 2 to 5 bits, which may therefore exceed it. A limit is the \
best of -r runs of at least 50 ms; the figures compared to it are medians.",
    args,
    run,
};

fn args(command: clap::Command) -> clap::Command {
    let command = command
        .arg(model_argument())
        .next_help_heading("Measurement")
        .arg(
            option(
                "n-prompt",
                "P",
                "tokens to prefill, 0 for none (default 512, or a smaller context)",
            )
            .short('p'),
        )
        .arg(
            option(
                "n-gen",
                "N",
                "tokens to decode, 0 for none (default 128, or a smaller context)",
            )
            .short('n'),
        )
        .arg(option("repetitions", "R", "runs (default 5)").short('r'))
        .arg(
            option(
                "threads",
                "1,2",
                "numbers of threads (default: one per core; at most as many as the CPUs that the \
                 process may run on)",
            )
            .short('t'),
        )
        .arg(option(
            "sequences",
            "1,8",
            "measure an engine with so many sequences at a time (-p 64 -n 32 unless given)",
        ))
        .arg(speculate_option())
        .arg(oversubscribe())
        .arg(switch("json", "print rows as a JSON array"));
    model_options(command, &["backend", "kv", "weights"])
        .next_help_heading("Roofline")
        .arg(switch(
            "roofline",
            "measure the machine's limits, and how close Teff comes to them; with --backend only \
             this backend",
        ))
        .arg(option("size", "MB", "memory to read, in units of 2^20 bytes (default 512)"))
        .arg(option("formats", "A,B", "formats of the products (default: all)"))
        .arg(switch("quick", "one run of at least 1 ms each, as a smoke test"))
}

fn run(args: &Args) -> Result<(), Failure> {
    let common = CommonArgs::read(args, "bench")?;
    let prefill = args.count("n-prompt", 0..=usize::MAX)?;
    let decode = args.count("n-gen", 0..=usize::MAX)?;
    let runs = args.count("repetitions", 1..=10_000)?.unwrap_or(5);
    let mut threads = args.counts("threads", THREADS)?.unwrap_or_default();
    let json = args.has("json");
    let roof = RooflineArgs::read(args)?;
    let flag = ["size", "formats", "quick"].into_iter().find(|id| args.has(id));
    if let (false, Some(flag)) = (roof.wanted, flag) {
        return Err(Failure::Usage(format!("--{flag} is for --roofline, which was not given")));
    }
    let model = common.given().is_some();
    if roof.wanted && !model && (prefill.is_some() || decode.is_some()) {
        return Err(Failure::Usage("-p and -n need a model".into()));
    }
    if !roof.wanted {
        common.path()?;
    }
    if prefill == Some(0) && decode == Some(0) {
        return Err(Failure::Usage("-p 0 and -n 0 leave nothing to measure".into()));
    }
    if threads.is_empty() {
        threads.push(available_threads());
    }
    for threads in &mut threads {
        common.warn_of_fewer(*threads);
        *threads = allowed_threads(*threads, common.oversubscribe).0;
    }
    if let Some(sequences) = args.counts("sequences", 1..=256)? {
        if common.speculates() {
            return Err(Failure::Usage("--speculate and --sequences are measured apart".into()));
        }
        let lengths = (prefill, decode);
        return bench_sequences::run(&common, lengths, (&threads, &sequences), runs, json);
    }
    if common.speculates() {
        if roof.wanted {
            return Err(Failure::Usage("--speculate and --roofline are measured apart".into()));
        }
        return bench_speculation::run(&common, (prefill, decode), &threads, runs, json);
    }
    let plan = Bench { common, prefill, decode, runs };
    if roof.wanted {
        let options = roofline::Options {
            size: roof.size.unwrap_or(512) << 20,
            formats: roof
                .formats
                .unwrap_or_else(|| Format::ALL.into_iter().filter(|f| f.is_built()).collect()),
            quick: roof.quick,
            runs,
            threads,
            backend: plan.common.backend,
            json,
        };
        return roofline::run(&options, model.then_some(&plan));
    }
    let mut rows = Vec::new();
    for threads in threads {
        let row = plan.row(threads)?;
        if json {
            rows.push(row.json());
        } else {
            let head = if rows.is_empty() { row.head() } else { String::new() };
            print(&format!("{head}{}", row.text()))?;
            rows.push(String::new());
        }
    }
    if json { print(&format!("{}\n", array(rows))) } else { Ok(()) }
}

/// The options of `--roofline`.
struct RooflineArgs {
    wanted: bool,
    size: Option<usize>,
    formats: Option<Vec<Format>>,
    quick: bool,
}

impl RooflineArgs {
    fn read(args: &Args) -> Result<RooflineArgs, Failure> {
        let format = |name: &str| {
            Format::from_name(name.trim()).ok_or_else(|| {
                let known = Format::ALL.map(Format::name).join(", ");
                Failure::Usage(format!("--formats has `{name}`: it must be of {known}"))
            })
        };
        let formats = args.text("formats")?;
        Ok(RooflineArgs {
            wanted: args.has("roofline"),
            size: args.count("size", 1..=1 << 24)?,
            formats: formats.map(|l| l.split(',').map(format).collect()).transpose()?,
            quick: args.has("quick"),
        })
    }
}

pub(super) struct Bench {
    common: CommonArgs,
    prefill: Option<usize>,
    decode: Option<usize>,
    runs: usize,
}

impl Bench {
    pub(super) fn row(&self, threads: usize) -> Result<Row, Failure> {
        reset_peak();
        let start = Instant::now();
        let model = self.common.open()?;
        let most = model.spec().context as usize;
        let fit = |flag: &str, asked: Option<usize>, usual: usize| match asked {
            Some(n) if n > most => Err(Failure::Run(format!(
                "{flag} is {n}, but the model's context is {most}: use fewer tokens"
            ))),
            asked => Ok(asked.unwrap_or(usual.min(most))),
        };
        let (p, n) = (fit("-p", self.prefill, 512)?, fit("-n", self.decode, 128)?);
        let context = p.max(n).max(1);
        let options = self.common.options(&model)?;
        let options = SessionOptions {
            context: Some(context),
            batch: options.batch.min(p.max(1)),
            threads: Some(threads),
            ..options
        };
        let mut session = model.session(&options).map_err(Failure::run)?;
        let load_ms = ms_since(start);
        let tokens = tokens(context, model.spec().vocab);
        let mut progress = Progress::show(&format!("threads {threads}: warming up"));
        if p > 0 {
            timed(&mut session, &tokens[..p], p)?;
        }
        if n > 0 {
            timed(&mut session, &tokens[..n.min(16)], 1)?;
        }
        let (mut prefill, mut decode) = (Vec::new(), Vec::new());
        let mut allocated = 0;
        for run in 1..=self.runs {
            progress.update(&format!("threads {threads}: run {run} of {}", self.runs));
            if p > 0 {
                prefill.push(p as f64 / timed(&mut session, &tokens[..p], p)?.as_secs_f64());
            }
            if n > 0 {
                let before = allocations();
                let time = timed(&mut session, &tokens[..n], 1)?;
                allocated += allocations().wrapping_sub(before);
                decode.push(n as f64 / time.as_secs_f64());
            }
        }
        drop(progress);
        let decode = Spread::of(decode);
        let bytes_per_token =
            (n > 0).then(|| bytes_per_token(&model, session.context(), options.kv, n));
        let gb_per_s = decode.as_ref().zip(bytes_per_token).map(|(d, b)| b * d.median / 1e9);
        Ok(Row {
            model: model.name().unwrap_or("-").replace(char::is_control, "?"),
            architecture: model.spec().arch,
            parameters: model.spec().parameters(),
            weight_bytes: model.weight_bytes(),
            repacked_bytes: model.repacked_bytes(),
            backend: session.backend().name(),
            kv: options.kv.name(),
            threads,
            tokens: (p, n),
            runs: self.runs,
            load_ms,
            prefill: Spread::of(prefill),
            decode,
            peak_bytes: peak_bytes(),
            session_bytes: session.memory_requirements().total(),
            allocations_per_token: (n > 0).then(|| allocated as f64 / (n * self.runs) as f64),
            bytes_per_token,
            gb_per_s,
            operations: operations(&model, p),
        })
    }
}

/// Pseudo-random tokens, always the same: SplitMix64 (Steele, Lea, Flood 2014).
pub(super) fn tokens(n: usize, vocab: u32) -> Vec<u32> {
    let mut state = 0u64;
    let mut next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    (0..n).map(|_| (next() % u64::from(vocab)) as u32).collect()
}

/// The time to compute `tokens` from an empty cache, `at_a_time` per step.
fn timed(session: &mut Session<'_>, tokens: &[u32], at_a_time: usize) -> Result<Duration, Failure> {
    session.truncate(0);
    let start = Instant::now();
    for part in tokens.chunks(at_a_time) {
        session.eval(part, LogitsFor::Last).map_err(Failure::run)?;
    }
    Ok(start.elapsed())
}

/// Number of bytes read to decode a token, averaged over a run of `n` from an empty cache: every
/// weight (one row of an embedding table), and of each layer the keys and values so far, as far as
/// it sees them, or the state that it keeps.
fn bytes_per_token(model: &Model, context: usize, kv: KvFormat, n: usize) -> f64 {
    let tied = model.spec().head == Head::Tied;
    let read = model.tensor_infos().map(|t| match t.role {
        // Of experts, the chosen ones.
        Role::Layer(l, _) if t.experts > 1 => {
            let used = model.spec().layers.get(l).experts().map_or(t.experts, |e| e.used as usize);
            t.bytes / t.experts * used
        }
        Role::TokenEmbd if tied => t.bytes,
        Role::TokenEmbd | Role::PositionEmbd | Role::PerLayerEmbd => t.bytes / t.rows.max(1),
        _ => t.bytes,
    });
    let weights: usize = read.sum();
    let spec = model.spec();
    let states =
        spec.layers.iter().map(|layer| match (layer.attention(), layer.state(spec.width)) {
            (Some(a), _) => {
                let capacity = context.next_multiple_of(KV_BLOCK);
                let layout = KvLayout { format: kv, head_dim: a.head_dim as usize, capacity };
                let bytes = (layout.key_bytes() + layout.value_bytes()) * a.kv_heads as usize;
                // The mean of 1 to n, from the window on always as many.
                let growing = a.window.map_or(n, |w| n.min(w as usize));
                let seen = growing * (growing + 1) / 2 + (n - growing) * growing;
                bytes as f64 / capacity as f64 * seen as f64 / n as f64
            }
            (None, LayerState::Fixed { bytes }) => bytes as f64,
            _ => 0.0,
        });
    weights as f64 + states.sum::<f64>()
}

/// Operations in the matrix products of a prefill of `n` tokens, with a multiply-add counted as
/// two: with dense weights, and with quantised ones. Only the last token has logits.
fn operations(model: &Model, n: usize) -> [f64; 2] {
    let tied = model.spec().head == Head::Tied;
    let mut operations = [0.0; 2];
    for t in model.tensor_infos() {
        let tokens = match t.role {
            Role::Layer(l, _) if t.experts > 1 => {
                n * model.spec().layers.get(l).experts().map_or(t.experts, |e| e.used as usize)
            }
            Role::TokenEmbd if tied => 1,
            Role::TokenEmbd | Role::PositionEmbd | Role::PerLayerEmbd => 0,
            Role::Output => 1,
            _ if t.rows > 1 => n,
            _ => 0,
        };
        let kind = usize::from(t.format.is_quantized());
        operations[kind] += 2.0 * t.rows as f64 * t.cols as f64 * tokens as f64;
    }
    operations
}

/// Median and range of several measurements.
pub(super) struct Spread {
    pub(super) median: f64,
    pub(super) min: f64,
    pub(super) max: f64,
}

impl Spread {
    /// `None` without measurements.
    pub(super) fn of(mut all: Vec<f64>) -> Option<Spread> {
        all.sort_by(f64::total_cmp);
        let (min, max) = (*all.first()?, *all.last()?);
        let half = all.len() / 2;
        let median = match all.len() % 2 {
            0 => f64::midpoint(all[half - 1], all[half]),
            _ => all[half],
        };
        Some(Spread { median, min, max })
    }

    pub(super) fn json(spread: Option<&Spread>) -> String {
        let Some(s) = spread else { return "null".into() };
        let round = |x: f64| Some((x * 1e3).round() / 1e3);
        let o = Object::new().number("median", round(s.median));
        o.number("min", round(s.min)).number("max", round(s.max)).end()
    }

    pub(super) fn text(spread: Option<&Spread>) -> String {
        spread.map_or("-".into(), |s| format!("{:.1} ({:.1}..{:.1})", s.median, s.min, s.max))
    }
}

pub(super) struct Row {
    model: String,
    architecture: &'static str,
    parameters: u64,
    weight_bytes: u64,
    repacked_bytes: u64,
    pub(super) backend: &'static str,
    kv: &'static str,
    pub(super) threads: usize,
    pub(super) tokens: (usize, usize),
    runs: usize,
    load_ms: f64,
    pub(super) prefill: Option<Spread>,
    decode: Option<Spread>,
    peak_bytes: Option<u64>,
    session_bytes: usize,
    allocations_per_token: Option<f64>,
    pub(super) bytes_per_token: Option<f64>,
    pub(super) gb_per_s: Option<f64>,
    /// Operations of the prefill; see [`operations`].
    pub(super) operations: [f64; 2],
}

impl Row {
    pub(super) fn json(&self) -> String {
        Object::new()
            .raw("model", string(&self.model))
            .str("architecture", self.architecture)
            .count("parameters", Some(self.parameters))
            .count("weight_bytes", Some(self.weight_bytes))
            .count("repacked_bytes", Some(self.repacked_bytes))
            .str("backend", self.backend)
            .str("kv", self.kv)
            .count("threads", Some(self.threads))
            .count("prefill_tokens", Some(self.tokens.0))
            .count("decode_tokens", Some(self.tokens.1))
            .count("runs", Some(self.runs))
            .raw("prefill_tps", Spread::json(self.prefill.as_ref()))
            .raw("decode_tps", Spread::json(self.decode.as_ref()))
            .number("load_ms", Some(self.load_ms))
            .count("peak_bytes", self.peak_bytes)
            .count("session_bytes", Some(self.session_bytes))
            .number("allocations_per_token", self.allocations_per_token)
            .number("bytes_per_token", self.bytes_per_token.map(f64::round))
            .number("gb_per_s", self.gb_per_s.map(|x| (x * 1e3).round() / 1e3))
            .end()
    }

    pub(super) fn head(&self) -> String {
        let (p, n) = self.tokens;
        let (parameters, size) = (self.parameters, human(self.weight_bytes));
        format!(
            "{}: {parameters} parameters, {size}; prefill {p}, decode {n} tokens; tokens/s as \
             median (min..max) of {}\n{:<8}{:>8}{:>29}{:>25}{:>10}{:>12}{:>14}{:>13}{:>7}\n",
            self.model,
            self.runs,
            "backend",
            "threads",
            "prefill",
            "decode",
            "load ms",
            "peak",
            "allocs/token",
            "bytes/token",
            "GB/s"
        )
    }

    pub(super) fn text(&self) -> String {
        let (prefill, decode) = (self.prefill.as_ref(), self.decode.as_ref());
        let or_dash = |x: Option<String>| x.unwrap_or_else(|| "-".into());
        format!(
            "{:<8}{:>8} {:>28} {:>24}{:>10.1}{:>12}{:>14}{:>13}{:>7}\n",
            self.backend,
            self.threads,
            Spread::text(prefill),
            Spread::text(decode),
            self.load_ms,
            or_dash(self.peak_bytes.map(human)),
            or_dash(self.allocations_per_token.map(|x| format!("{x:.3}"))),
            or_dash(self.bytes_per_token.map(|x| human(x as u64))),
            or_dash(self.gb_per_s.map(|x| format!("{x:.1}"))),
        )
    }
}
