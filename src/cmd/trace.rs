//! `teff trace`: the time of each operation of a model, and its share of the machine's limits.

use std::io::Write as _;
use std::sync::Arc;

use teff::graph::plan::Capacity;
use teff::graph::{LogitsFor, Solo};
use teff::kernels::Backend;
use teff::runtime::pool::{Pool, PoolOptions, allowed_threads, available_threads};
use teff::runtime::trace::{Recorder, Traced};
use teff::{Crew, Model, Session, SessionOptions};

use super::args::{Args, file_option, option, switch};
use super::common::{CommonArgs, model_argument, model_options};
use super::json::{Object, array, string};
use super::logits::{Stopped, Target};
use super::machine::{Progress, counted, human};
use super::roofline::{self, Limits, digits, or_dash, percent};
use super::trace_tree::{Node, Operation, Stage, operations};
use super::{Command, Failure, bench, print, print_error, trace_plot, trace_timeline};

pub(crate) const COMMAND: Command = Command {
    name: "trace",
    about: "shows where the time of a model goes",
    usage: &["trace MODEL [-p 512] [-n 16] [--layers] [--perfetto FILE] [--svg FILE] [OPTIONS]"],
    details: "\
Records every operation of a prefill of P random tokens and of the decode of N more, on each thread, \
and prints the times as a tree, beside what the machine could do at most. Both run once to warm up \
(decode for at most 16 tokens) and once to be recorded.",
    notes: "\
ms: the time that the threads spent in an operation, divided by their number. bytes: the weights that \
it read, each matrix once in every step; of experts those that a token chose, in a prefill at most so \
many (<=), since tokens may share them. Keys and values are not counted. GB/s (10^9 bytes) and GOP/s: \
these bytes, and the operations of products, of which a multiply-add is two, in that time. roofline: \
the least time in which the machine can read the bytes and compute the products, as a share of the \
time taken. Its limits are measured first, with the same threads and backend, as `teff bench \
--roofline` does with more effort; a backend without a measure of its arithmetic is compared to \
memory alone. Weights that fit a cache are read faster than memory allows.

Waiting at barriers is the time in which threads waited for others at the end of a phase; outside of \
operations is what remains: starting and ending steps, claiming work, and threads that the system put \
aside.",
    args,
    run,
};

fn args(command: clap::Command) -> clap::Command {
    let command = command
        .arg(model_argument())
        .next_help_heading("Measurement")
        .arg(
            option("n-prompt", "P", "tokens to prefill, 0 for none (default 512, or what fits)")
                .short('p'),
        )
        .arg(
            option("n-gen", "N", "tokens to decode, 0 for none (default 16, or what fits)")
                .short('n'),
        )
        .arg(option(
            "size",
            "MB",
            "memory to read for the limits, in units of 2^20 bytes (default 512, or a quarter of \
             what is available)",
        ))
        .arg(switch("quick", "limits of one run of at least 1 ms each, as a smoke test"))
        .next_help_heading("Output")
        .arg(switch("layers", "each layer for itself, and not the sum of all"))
        .arg(file_option(
            "perfetto",
            "FILE",
            "write the timeline of all threads to a file that https://ui.perfetto.dev opens",
        ))
        .arg(file_option("svg", "FILE", "write a plot of the products beside the limits"))
        .arg(switch("json", "print one JSON object"));
    model_options(command, &["threads", "ctx", "backend", "kv", "weights"])
}

fn run(args: &Args) -> Result<(), Failure> {
    let common = CommonArgs::read(args, "trace")?;
    let path = common.path()?;
    let asked = (args.count("n-prompt", 0..=usize::MAX)?, args.count("n-gen", 0..=usize::MAX)?);
    if asked == (Some(0), Some(0)) {
        return Err(Failure::Usage("-p 0 and -n 0 leave nothing to record".into()));
    }
    let size = args.count("size", 1..=1 << 24)?.map(|mb| mb << 20);
    let target = |id: &str| -> Result<Option<Target>, Failure> {
        let Some(file) = args.path(id) else { return Ok(None) };
        let target = Target::named(&args.name(id), &file, path)?;
        target.check()?;
        Ok(Some(target))
    };
    let (perfetto, svg) = (target("perfetto")?, target("svg")?);
    let threads = common.threads.unwrap_or_else(available_threads);
    let threads = allowed_threads(threads, common.oversubscribe).0;

    let model = common.open()?;
    let backend = common.own_backend()?;
    let options = common.options(&model)?;
    let context = options.context.unwrap_or(model.spec().context as usize);
    let (p, n) = lengths(asked, context)?;
    let options = SessionOptions {
        context: Some(options.context.unwrap_or(p + n)),
        batch: options.batch.min(p.max(1)),
        backend: Some(backend),
        ..options
    };
    // Refuses what can't run before anything is measured.
    model.memory_requirements(&options).map_err(Failure::run)?;
    let limits = roofline::limits(threads, backend, size, args.has("quick"))?;
    let (operations, stages) = record(&model, &options, threads, (p, n), perfetto.is_some())?;

    if let Some(target) = perfetto {
        let write = |file| trace_timeline::write(file, &operations, &stages);
        target.write(|file| write(file).map_err(Stopped::Write))?;
    }
    let report = Report {
        model: &model,
        backend: backend.name(),
        kv: options.kv.name(),
        threads,
        trees: stages.iter().map(|s| s.tree(&operations, args.has("layers"))).collect(),
        stages: &stages,
        limits: &limits,
    };
    if let Some(target) = svg {
        let title = report.title();
        let trees: Vec<_> = stages.iter().map(|s| (s.name, s.tree(&operations, false))).collect();
        let plot = trace_plot::plot(&title, &trees, &limits);
        let write = |mut file: std::fs::File| file.write_all(plot.as_bytes());
        target.write(|file| write(file).map_err(Stopped::Write))?;
    }
    print(&if args.has("json") { report.json() } else { report.text() })
}

/// Numbers of tokens to prefill and to decode that fit a context together.
fn lengths(
    asked: (Option<usize>, Option<usize>),
    context: usize,
) -> Result<(usize, usize), Failure> {
    let n = asked.1.unwrap_or_else(|| context.saturating_sub(asked.0.unwrap_or(1)).min(16));
    let p = asked.0.unwrap_or_else(|| context.saturating_sub(n).min(512));
    match p.checked_add(n).filter(|&all| all <= context) {
        Some(_) => Ok((p, n)),
        None => Err(Failure::Run(format!(
            "-p is {p} and -n is {n}, but the context is {context}: use fewer tokens"
        ))),
    }
}

/// Runs prefill and decode, and returns the operations of the plan and what was recorded.
fn record(
    model: &Model,
    options: &SessionOptions,
    threads: usize,
    (p, n): (usize, usize),
    keep: bool,
) -> Result<(Vec<Operation>, Vec<Stage>), Failure> {
    // Twice as many as one walk of the plan needs, for threads that leave a step and come back.
    let room = Capacity::of(model.spec()).ops.saturating_mul(2);
    let room = room.saturating_mul(p.div_ceil(options.batch.max(1)).max(1));
    let recorder = Arc::new(Recorder::new(threads, room).map_err(Failure::run)?);
    let crew: Box<dyn Crew + Send> = match threads {
        1 => Box::new(Solo),
        _ => {
            let options = PoolOptions::default().with_threads(threads).with_oversubscribe(true);
            Box::new(Pool::with_options(&options).map_err(Failure::run)?)
        }
    };
    let crew = Traced::new(crew, Arc::clone(&recorder));
    let session = model.session_builder(options).crew(crew).build();
    let mut session = session.map_err(Failure::run)?;
    let operations = operations(model, session.plan());
    let tokens = bench::tokens(p + n, model.spec().vocab);
    let mut progress = Progress::show("warming up");
    let mut stages = Vec::new();
    for warm in [true, false] {
        if !warm {
            progress.update("recording");
        }
        session.truncate(0);
        let mut run = |name, parts: &mut dyn Iterator<Item = &[u32]>| {
            let mut stage = Stage::new(name, threads, operations.len(), keep && !warm);
            for part in parts {
                let mut left = part.len();
                while left > 0 {
                    let step = left.min(session.batch());
                    left -= step;
                    stage.steps.push((step, usize::from(left == 0)));
                }
                let call = timed(&mut session, part, &recorder)?;
                stage.add(call, &recorder.take());
            }
            if !stage.calls.is_empty() && !warm {
                stages.push(stage);
            }
            Ok::<(), Failure>(())
        };
        let (prompt, rest) = tokens.split_at(p);
        if p > 0 {
            run("prefill", &mut std::iter::once(prompt))?;
        }
        let rest = if warm { &rest[..n.min(16)] } else { rest };
        run("decode", &mut rest.chunks(1))?;
    }
    drop(progress);
    match recorder.lost() {
        0 => {}
        n => print_error(&format!("warning: {} did not fit: times are too short", spans(n))),
    }
    drop(session);
    Ok((operations, stages))
}

fn spans(n: u64) -> String {
    counted(usize::try_from(n).unwrap_or(usize::MAX), "span")
}

/// Begin and end of computing `tokens`.
fn timed(
    session: &mut Session<'_>,
    tokens: &[u32],
    recorder: &Recorder,
) -> Result<(u64, u64), Failure> {
    let begin = recorder.now();
    session.eval(tokens, LogitsFor::Last).map_err(Failure::run)?;
    Ok((begin, recorder.now()))
}

/// All that is printed.
struct Report<'r> {
    model: &'r Model,
    backend: &'static str,
    kv: &'static str,
    threads: usize,
    stages: &'r [Stage],
    trees: Vec<Node>,
    limits: &'r Limits,
}

impl Report<'_> {
    fn model_name(&self) -> String {
        self.model.name().unwrap_or("-").replace(char::is_control, "?")
    }

    /// The model and how it runs.
    fn title(&self) -> String {
        let (parameters, size) = (self.model.spec().parameters(), self.model.weight_bytes());
        format!(
            "{}: {parameters} parameters, {}; {}, {}",
            self.model_name(),
            human(size),
            self.backend,
            counted(self.threads, "thread")
        )
    }

    fn text(&self) -> String {
        let Limits { bandwidth, int8, fma, cache } = *self.limits;
        let mut t = format!(
            "{}\nlimits: {:.1} GB/s from memory, {} GOP/s on int8, {} on f32\n",
            self.title(),
            bandwidth / 1e9,
            or_dash(int8, 1e9, 1),
            or_dash(fma, 1e9, 1)
        );
        if let Some(cache) = cache.filter(|&c| self.model.weight_bytes() < c) {
            t += &format!(
                "(a cache of {} holds the weights, and is read faster than memory)\n",
                human(cache)
            );
        }
        for (stage, tree) in self.stages.iter().zip(&self.trees) {
            let (tokens, seconds) = (stage.tokens(), stage.seconds());
            t += &format!(
                "\n{}: {} in {}, {:.1} tokens/s\n",
                stage.name,
                counted(tokens, "token"),
                counted(stage.steps.len(), "step"),
                tokens as f64 / seconds.max(1e-9)
            );
            let width = width(tree, 0).max(24);
            t += &format!(
                "{:<width$}{:>10}{:>9}{:>13}{:>9}{:>10}{:>10}\n",
                "", "ms", "share", "bytes", "GB/s", "GOP/s", "roofline"
            );
            self.line(&mut t, tree, (0, width), tree.seconds);
        }
        t
    }

    fn line(&self, t: &mut String, node: &Node, (depth, width): (usize, usize), total: f64) {
        let name = format!("{:>1$}{2}", "", 2 * depth, node.name);
        let bytes = match node.work.bytes {
            0.0 => "-".into(),
            n if node.work.at_most => format!("<= {}", human(n as u64)),
            n => human(n as u64),
        };
        *t += &format!(
            "{name:<width$}{:>10.3}{:>9}{bytes:>13}{:>9}{:>10}{:>10}\n",
            node.seconds * 1e3,
            percent((total > 0.0).then(|| node.seconds / total)),
            or_dash(node.bytes_per_second(), 1e9, 2),
            or_dash(node.operations_per_second(), 1e9, 1),
            percent(node.roofline(self.limits)),
        );
        for child in &node.children {
            self.line(t, child, (depth + 1, width), total);
        }
    }

    fn json(&self) -> String {
        let stages = self.stages.iter().zip(&self.trees).map(|(stage, tree)| {
            let rate = stage.tokens() as f64 / stage.seconds().max(1e-9);
            Object::new()
                .str("name", stage.name)
                .count("tokens", Some(stage.tokens()))
                .count("steps", Some(stage.steps.len()))
                .number("tokens_per_s", digits(Some(rate)))
                .raw("tree", self.node(tree, tree.seconds))
                .end()
        });
        let Limits { bandwidth, int8, fma, cache } = *self.limits;
        let limits = Object::new()
            .number("gb_per_s", digits(Some(bandwidth / 1e9)))
            .number("int8_gops", digits(int8.map(|x| x / 1e9)))
            .number("f32_gops", digits(fma.map(|x| x / 1e9)))
            .count("cache_bytes", cache);
        let o = Object::new()
            .raw("model", string(&self.model_name()))
            .str("architecture", self.model.spec().arch)
            .count("parameters", Some(self.model.spec().parameters()))
            .count("weight_bytes", Some(self.model.weight_bytes()))
            .count("repacked_bytes", Some(self.model.repacked_bytes()))
            .str("backend", self.backend)
            .str("kv", self.kv)
            .count("threads", Some(self.threads))
            .raw("limits", limits.end())
            .raw("stages", array(stages));
        format!("{}\n", o.end())
    }

    fn node(&self, node: &Node, total: f64) -> String {
        let gb = node.bytes_per_second().map(|x| x / 1e9);
        let gops = node.operations_per_second().map(|x| x / 1e9);
        let o = Object::new()
            .str("name", &node.name)
            .number("ms", Some((node.seconds * 1e6).round() / 1e3))
            .number("share", digits((total > 0.0).then(|| node.seconds / total)))
            .number("bytes", Some(node.work.bytes.round()))
            .raw("bytes_at_most", node.work.at_most)
            .number("operations", Some(node.work.operations()))
            .number("gb_per_s", digits(gb))
            .number("gops", digits(gops))
            .number("roofline", digits(node.roofline(self.limits)));
        let children = node.children.iter().map(|child| self.node(child, total));
        o.raw("children", array(children)).end()
    }
}

/// Columns of the longest name of a tree, indented.
fn width(node: &Node, depth: usize) -> usize {
    let own = 2 * depth + node.name.chars().count();
    node.children.iter().map(|child| width(child, depth + 1)).fold(own, usize::max)
}
