//! `teff inspect`: hyper-parameters, tensors and memory requirements of a model.

use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use teff::graph::layers::{Attention, Layer, Mixer};
use teff::graph::{Head, Role, Spec, Tensor, TensorId};
use teff::kernels::Backend;
use teff::runtime::model::Container;
use teff::runtime::session::SessionMemoryRequirements;
use teff::{Cpu, Format, Model, SessionOptions};

use super::args::{Args, switch};
use super::common::{CommonArgs, backends, model_argument, model_options, speculate_option};
use super::json::{Object, array, string};
use super::machine::{Progress, human};
use super::{Command, Failure, engine_args, print};

pub(crate) const COMMAND: Command = Command {
    name: "inspect",
    about: "describes a model and its memory requirements",
    usage: &[
        "inspect MODEL [--ctx N] [--json] [--stats] [OPTIONS]",
        "inspect MODEL --serve [--memory SIZE] [--cache SIZE] [--parallel N] [--json] [OPTIONS]",
    ],
    details: "\
Prints the architecture, hyper-parameters, tensors and the memory requirements of a session, all \
from the model's header. total is the weights plus the session; weights in a mapped file are in the \
system's page cache, which can be reclaimed for other programs. Embeddings of layers' inputs in a \
mapped file, of which a token reads one row, are not in the total. With --serve, it prints the memory \
requirements of a server with the same options.",
    notes: "",
    args,
    run,
};

fn args(command: clap::Command) -> clap::Command {
    let command = command
        .arg(model_argument())
        .next_help_heading("Output")
        .arg(switch("json", "print one JSON object"))
        .arg(switch(
            "stats",
            "also print every tensor: minimum, maximum, mean and root mean square (RMS) of its \
             weights, and warnings: numbers that are not finite, matrices of zeros, norms whose RMS \
             is outside 0.01 to 100 or whose weights are all the same and not 1, norms of a Gemma \
             in GGUF whose mean is near 0 (these files have the weights plus 1). Reads all weights",
        ))
        .arg(switch("serve", "print the memory requirements of `teff serve` with these options"));
    let command = engine_args::engine_options(command).arg(speculate_option());
    model_options(command, &["threads", "ctx", "backend", "kv", "weights"])
}

fn run(args: &Args) -> Result<(), Failure> {
    let common = CommonArgs::read(args, "inspect")?;
    let (json, stats) = (args.has("json"), args.has("stats"));
    let model = common.open()?;
    if args.has("serve") {
        let model = Arc::new(model);
        let options = engine_args::read(args, &common, &model)?;
        let draft = common.open_draft()?.map(Arc::new);
        let memory = engine_args::ServerMemory::new(&model, draft.as_ref(), options);
        let memory = memory.map_err(engine_args::failure)?;
        return print(&if json { memory.json() } else { memory.text() });
    }
    let options = common.options(&model)?;
    let draft = common.open_draft()?;
    let builder = CommonArgs::session_builder(&model, draft.as_ref(), &options);
    let memory_requirements = builder.memory_requirements().map_err(Failure::run)?;
    let mut report = Report::new(&model, options, memory_requirements, stats);
    report.draft_weights = draft.as_ref().map_or(0, Model::weight_bytes);
    report.copies = args.text("repack")?.as_deref() != Some("off");
    print(&if json { report.json() } else { report.text() })
}

/// Tensors of one format.
struct Group {
    format: Format,
    count: usize,
    parameters: u64,
    bytes: u64,
}

/// A tensor and statistics of its weights.
struct Line {
    name: String,
    format: Format,
    shape: [usize; 2],
    bytes: usize,
    values: Values,
    suspicious: Option<String>,
}

/// Number of parallel partial sums: consecutive f64 additions to one sum would wait for each other.
const LANES: usize = 8;

/// Accumulated statistics of a tensor's weights; infinities and NaN are only counted.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Values {
    finite: u64,
    nan: u64,
    infinite: u64,
    min: f32,
    max: f32,
    sum: [f64; LANES],
    squares: [f64; LANES],
}

impl Values {
    fn new() -> Values {
        let (min, max) = (f32::INFINITY, f32::NEG_INFINITY);
        let zeros = [0.0; LANES];
        Values { finite: 0, nan: 0, infinite: 0, min, max, sum: zeros, squares: zeros }
    }

    fn of(tensor: Tensor<'_>, backend: Cpu) -> Values {
        let mut values = Values::new();
        match tensor {
            Tensor::Vector(x) => values.add(x),
            Tensor::Matrix(w) => {
                let mut row = vec![0.0; w.cols()];
                for r in 0..w.rows() {
                    backend.dequantize_row(&w, r, &mut row);
                    values.add(&row);
                }
            }
        }
        values
    }

    fn add(&mut self, x: &[f32]) {
        let bad = x.iter().filter(|x| !x.is_finite()).count() as u64;
        let nan = x.iter().filter(|x| x.is_nan()).count() as u64;
        self.finite += x.len() as u64 - bad;
        self.nan += nan;
        self.infinite += bad - nan;
        for x in x.chunks(LANES) {
            for (i, &x) in x.iter().enumerate().filter(|(_, x)| x.is_finite()) {
                self.min = self.min.min(x);
                self.max = self.max.max(x);
                self.sum[i] += f64::from(x);
                self.squares[i] += f64::from(x) * f64::from(x);
            }
        }
    }

    /// `None` if no weight is finite.
    fn figures(&self) -> Option<Figures> {
        let n = self.finite as f64;
        let mean = |sums: &[f64; LANES]| sums.iter().sum::<f64>() / n;
        let (mean, rms) = (mean(&self.sum), mean(&self.squares).sqrt());
        (self.finite > 0).then_some(Figures { min: self.min, max: self.max, mean, rms })
    }

    /// A warning about unusual weights, for people to look at.
    fn suspicious(&self, kind: Kind) -> Option<String> {
        if self.nan > 0 {
            return Some(format!("has NaN ({})", self.nan));
        }
        if self.infinite > 0 {
            return Some(format!("has infinities ({})", self.infinite));
        }
        let Figures { min, max, mean, rms } = self.figures()?;
        let zeros = min == 0.0 && max == 0.0;
        let norm = matches!(kind, Kind::Norm { .. });
        match kind {
            Kind::Norm { .. } if zeros => Some("RMS below 0.01: all are 0".into()),
            Kind::Norm { .. } if rms < 0.01 => Some("RMS below 0.01".into()),
            Kind::Norm { .. } if rms > 100.0 => Some("RMS above 100".into()),
            Kind::Norm { plus_one: true } if mean.abs() < 0.1 => {
                Some("mean near 0: Gemma's norms are plus 1 in GGUF".into())
            }
            Kind::Matrix if zeros => Some("all are 0".into()),
            _ if norm && min == max && min != 1.0 && self.finite > 1 => {
                Some(format!("all are {min}"))
            }
            _ => None,
        }
    }
}

/// Statistics of finite weights.
#[derive(Clone, Copy)]
struct Figures {
    min: f32,
    max: f32,
    mean: f64,
    rms: f64,
}

/// The kind of tensor, which determines what counts as suspicious.
#[derive(Clone, Copy)]
enum Kind {
    Norm {
        /// True if 1 was added to the weights when the file was made.
        plus_one: bool,
    },
    Matrix,
    /// Biases, which may have any values.
    Bias,
}

/// Statistics of tensors `0..n`; each is scanned by one thread, so that its sums have a fixed
/// order.
fn all_values(model: &Model, n: usize, threads: usize, backend: Cpu) -> Vec<Values> {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        loop {
            // The index of a tensor fits in 16 bits, since the model was opened.
            let i = next.fetch_add(1, Ordering::Relaxed);
            match TensorId::from_index(i).filter(|_| i < n) {
                Some(id) => done.push((i, Values::of(model.tensor(id), backend))),
                None => return done,
            }
        }
    };
    let mut all = vec![Values::new(); n];
    thread::scope(|scope| {
        // Proceed with fewer threads if the system refuses one.
        let helper = |_| thread::Builder::new().spawn_scoped(scope, work).ok();
        let helpers: Vec<_> = (1..threads).filter_map(helper).collect();
        let mut done = vec![work()];
        done.extend(helpers.into_iter().map(|h| match h.join() {
            Ok(done) => done,
            Err(panic) => std::panic::resume_unwind(panic),
        }));
        for (i, values) in done.into_iter().flatten() {
            all[i] = values;
        }
    });
    all
}

/// True for the factors of any kind of norm, as determined by the roles.
fn is_norm(role: Role) -> bool {
    let role = format!("{role:?}");
    role.contains("Norm") && !role.contains("Bias")
}

struct Report<'m> {
    model: &'m Model,
    options: SessionOptions,
    memory_requirements: SessionMemoryRequirements,
    groups: Vec<Group>,
    lines: Option<Vec<Line>>,
    /// Bytes of the weights of the model that guesses.
    draft_weights: u64,
    /// True if copies of weights are worth a word.
    copies: bool,
    cpu: Cpu,
    backend: &'static str,
    backends: Vec<&'static str>,
}

impl<'m> Report<'m> {
    fn new(
        model: &'m Model,
        options: SessionOptions,
        memory_requirements: SessionMemoryRequirements,
        stats: bool,
    ) -> Self {
        let mut groups: Vec<Group> = Vec::new();
        let mut lines = Vec::new();
        let cpu = options.backend.unwrap_or_else(Cpu::best);
        let mut values = match stats {
            true => {
                let _progress = Progress::show("reading the weights");
                all_values(model, model.tensors().len(), memory_requirements.threads, cpu)
            }
            false => Vec::new(),
        }
        .into_iter();
        let gguf = matches!(model.container(), Container::Gguf { .. });
        let plus_one = gguf && (model.family().hf_shift)(Role::OutputNorm) == 1.0;
        for t in model.tensor_infos() {
            let parameters = (t.experts * t.rows) as u64 * t.cols as u64;
            let i = groups.iter().position(|g| g.format == t.format).unwrap_or_else(|| {
                groups.push(Group { format: t.format, count: 0, parameters: 0, bytes: 0 });
                groups.len() - 1
            });
            groups[i].count += 1;
            groups[i].parameters += parameters;
            groups[i].bytes += t.bytes as u64;
            if let Some(values) = values.next() {
                let kind = match model.tensor(t.id) {
                    Tensor::Vector(_) if is_norm(t.role) => Kind::Norm { plus_one },
                    Tensor::Vector(_) => Kind::Bias,
                    Tensor::Matrix(_) => Kind::Matrix,
                };
                let suspicious = values.suspicious(kind);
                let (name, format, bytes) = (t.name, t.format, t.bytes);
                let shape = [t.rows, t.cols];
                lines.push(Line { name, format, shape, bytes, values, suspicious });
            }
        }
        groups.sort_by_key(|g| core::cmp::Reverse(g.bytes));
        let backends = backends();
        let backend = cpu.name();
        let lines = stats.then_some(lines);
        let copies = true;
        Report {
            model,
            options,
            memory_requirements,
            groups,
            lines,
            draft_weights: 0,
            copies,
            cpu,
            backend,
            backends,
        }
    }

    fn context(&self) -> usize {
        self.options.context.unwrap_or(self.model.spec().context as usize)
    }

    fn total(&self) -> u64 {
        let weights = self.model.weight_bytes() - self.model.lookup_bytes();
        let weights = weights.saturating_add(self.kept_beside());
        let weights = weights.saturating_add(self.draft_weights);
        weights.saturating_add(self.memory_requirements.total() as u64)
    }

    /// Bytes of the model that guesses: weights and session.
    fn draft(&self) -> u64 {
        self.draft_weights.saturating_add(self.memory_requirements.draft as u64)
    }

    /// Bytes of weights that are kept although a copy in another order is used: those of files that were
    /// read. (Of mapped files, the system takes the pages back.)
    fn kept_beside(&self) -> u64 {
        let (m, copies) = (self.model, self.model.repacked_bytes());
        if m.owned_bytes() >= m.file_bytes() + copies { copies } else { 0 }
    }

    fn suspicious(&self) -> usize {
        self.lines.iter().flatten().filter(|l| l.suspicious.is_some()).count()
    }

    fn json(&self) -> String {
        let (m, s, plan) = (self.model, self.model.spec(), &self.memory_requirements.plan);
        let groups = self.groups.iter().map(|g| {
            let o = Object::new().str("format", g.format.name()).count("count", Some(g.count));
            o.count("parameters", Some(g.parameters)).count("bytes", Some(g.bytes)).end()
        });
        let mut o = Object::new()
            .str("architecture", s.arch)
            .raw("name", m.name().map_or("null".into(), string))
            .str("container", &m.container().to_string())
            .count("parameters", Some(s.parameters()))
            .count("vocab", Some(s.vocab))
            .count("context", Some(s.context))
            .count("layers", Some(s.layers.len()))
            .raw(
                "layer_kinds",
                array(layer_kinds(s).map(|(n, kind)| {
                    Object::new().count("count", Some(n)).str("kind", &kind).end()
                })),
            )
            .count("width", Some(s.width))
            .count("heads", attention(s).map(|a| a.heads))
            .count("kv_heads", attention(s).map(|a| a.kv_heads))
            .count("head_dim", attention(s).map(|a| a.head_dim))
            .count("ffn", s.layers.iter().find_map(inner))
            .raw("tied_head", s.head == Head::Tied)
            .raw("tokenizer", m.tokenizer().is_ok());
        if let Err(why) = m.tokenizer() {
            o = o.str("tokenizer_error", &why.to_string());
        }
        let warnings = m.warnings().iter().map(|w| {
            let o = Object::new().str("key", &w.key).str("found", &w.found);
            o.str("taken", &w.taken).str("why", &w.why).str("text", &w.to_string()).end()
        });
        let of_tokenizer = m.tokenizer().map_or(&[][..], |t| t.warnings());
        let of_tokenizer =
            of_tokenizer.iter().map(|w| Object::new().str("text", &w.to_string()).end());
        o = o.raw("warnings", array(warnings.chain(of_tokenizer)));
        o = o
            .raw("tensors", array(groups))
            .count("file_bytes", Some(m.file_bytes()))
            .count("weight_bytes", Some(m.weight_bytes()))
            .count("lookup_bytes", Some(m.lookup_bytes()))
            .count("model_bytes", Some(m.owned_bytes()))
            .count("repacked_bytes", Some(m.repacked_bytes()))
            .count("repack_bytes", Some(m.repack_bytes(self.cpu)))
            .count("ctx", Some(self.context()))
            .count("batch", Some(self.options.batch.min(self.context())))
            .str("kv", self.options.kv.name())
            .count("cache_bytes", Some(plan.state))
            .count("arena_bytes", Some(plan.scratch))
            .count("per_thread_bytes", Some(plan.per_thread))
            .count("table_bytes", Some(self.memory_requirements.tables))
            .count("checkpoint_bytes", Some(self.memory_requirements.checkpoints))
            .count("draft_bytes", Some(self.draft()))
            .count("session_bytes", Some(self.memory_requirements.total()))
            .count("total_bytes", Some(self.total()))
            .raw("instruction_sets", array(self.backends.iter().map(|n| string(n))))
            .str("backend", self.backend)
            .count("threads", Some(self.memory_requirements.threads));
        if let Some(lines) = &self.lines {
            let lines = lines.iter().map(|l| {
                let o = Object::new().str("name", &l.name).str("format", l.format.name());
                let o = o.raw("shape", array(l.shape)).count("bytes", Some(l.bytes));
                let f = l.values.figures();
                let o = o
                    .number("min", f.map(|f| f.min.into()))
                    .number("max", f.map(|f| f.max.into()))
                    .number("mean", f.map(|f| f.mean))
                    .number("rms", f.map(|f| f.rms))
                    .count("nan", Some(l.values.nan))
                    .count("infinite", Some(l.values.infinite));
                o.raw("suspicious", l.suspicious.as_deref().map_or("null".into(), string)).end()
            });
            o = o.raw("stats", array(lines)).count("suspicious", Some(self.suspicious()));
        }
        o.end() + "\n"
    }

    fn text(&self) -> String {
        let mut out = String::new();
        let (m, s, plan) = (self.model, self.model.spec(), &self.memory_requirements.plan);
        let bytes = |n: u64| format!("{n:>15}  {}", human(n));
        let tied = if s.head == Head::Tied { "tied to the embedding" } else { "its own" };
        // Names come from files and must not contain terminal control characters.
        let name = m.name().unwrap_or("-").replace(char::is_control, "?");
        let tokenizer = match m.tokenizer() {
            Ok(t) => format!("{} tokens", t.vocab_size()),
            Err(why) => format!("none: {}", why.to_string().replace(char::is_control, "?")),
        };
        let sets = self.backends.join(", ");
        let threads = self.memory_requirements.threads;
        let rows = [
            ("name", name),
            ("architecture", s.arch.into()),
            ("container", m.container().to_string()),
            ("parameters", s.parameters().to_string()),
            ("vocabulary", s.vocab.to_string()),
            ("context", s.context.to_string()),
            ("layers", layers(s)),
            ("width", s.width.to_string()),
            ("heads", heads(s)),
            ("head width", or_dash(attention(s).map(|a| a.head_dim))),
            ("inner width", or_dash(s.layers.iter().find_map(inner))),
            ("head", tied.into()),
            ("tokenizer", tokenizer),
            ("instructions", format!("{sets}; {} is used", self.backend)),
            ("threads", threads.to_string()),
        ];
        // Writing to a string does not fail.
        for (key, value) in rows {
            let _ = writeln!(out, "{key:<14}{value}");
        }
        for warning in m.warnings() {
            let _ = writeln!(out, "{:<14}{warning}", "warning");
        }
        for warning in m.tokenizer().map_or(&[][..], |t| t.warnings()) {
            let _ = writeln!(out, "{:<14}{warning}", "warning");
        }
        let _ = writeln!(out, "\nformat   tensors     parameters          bytes");
        for g in &self.groups {
            let (name, n, p) = (g.format.name(), g.count, g.parameters);
            let _ = writeln!(out, "{name:<8}{n:>8}{p:>15}{}", bytes(g.bytes));
        }
        let batch = self.options.batch.min(self.context());
        let (context, kv) = (self.context(), self.options.kv.name());
        let _ = writeln!(
            out,
            "\nbytes for a context of {context}, steps of up to {batch} tokens, a cache of {kv}; \
             threads: {threads}"
        );
        let rows = [
            ("weights", m.weight_bytes()),
            ("cache", plan.state as u64),
            ("arena", plan.scratch as u64),
            ("for a thread", plan.per_thread as u64),
            ("tables", self.memory_requirements.tables as u64),
            ("checkpoints", self.memory_requirements.checkpoints as u64),
            ("draft", self.draft()),
            ("total", self.total()),
        ];
        for (key, n) in rows.into_iter().filter(|&(key, n)| key != "draft" || n > 0) {
            let _ = writeln!(out, "{key:<16}{}", bytes(n));
        }
        let (made, possible) = (m.repacked_bytes(), m.repack_bytes(self.cpu));
        if made > 0 {
            let _ = writeln!(
                out,
                "{:<16}{}, of the weights: copies in the order of {}, beside the file's own{}",
                "repacked",
                bytes(made),
                self.backend,
                if self.kept_beside() > 0 { ", which was read and is in total too" } else { "" }
            );
        } else if possible > 0 && self.copies {
            let _ = writeln!(
                out,
                "{:<16}{}, not in total: copies of weights in the order of {}, which other commands \
                 make if these fit into half of the available memory (--repack)",
                "copies",
                bytes(possible),
                self.backend
            );
        }
        if m.lookup_bytes() > 0 {
            let _ =
                writeln!(out, "{:<16}{}, not in total", "rows on disk", bytes(m.lookup_bytes()));
        }
        if let Some(lines) = &self.lines {
            let width = lines.iter().map(|l| l.name.len()).max().unwrap_or(0);
            let _ = writeln!(out, "\n{:<width$}  format           shape", "tensor");
            for l in lines {
                let (format, shape) = (l.format.name(), format!("{}x{}", l.shape[0], l.shape[1]));
                let _ = write!(out, "{:<width$}  {format:<6}{shape:>16}", l.name);
                if let Some(f) = l.values.figures() {
                    let (min, max) = (f.min, f.max);
                    let _ = write!(out, "  min {min:>12.6}  max {max:>12.6}");
                    let _ = write!(out, "  mean {:>12.6}  RMS {:>12.6}", f.mean, f.rms);
                }
                if let Some(what) = &l.suspicious {
                    let _ = write!(out, "  SUSPICIOUS: {what}");
                }
                out.push('\n');
            }
            let _ = writeln!(out, "suspicious: {}", self.suspicious());
            // The header again at the end, since a large model has hundreds of lines.
            for l in lines {
                if let Some(what) = &l.suspicious {
                    let _ = writeln!(out, "  {}: {what}", l.name);
                }
            }
        }
        out
    }
}

/// The first attention of a model, where it has one.
fn attention<'a>(spec: &'a Spec<'_>) -> Option<&'a Attention> {
    spec.layers.iter().find_map(Layer::attention)
}

/// Inner elements of a layer's feed-forward part.
fn inner(layer: &Layer) -> Option<u32> {
    layer.dense().map(|d| d.inner).or(layer.experts().map(|e| e.inner))
}

fn or_dash(n: Option<u32>) -> String {
    n.map_or("-".into(), |n| n.to_string())
}

fn heads(spec: &Spec<'_>) -> String {
    let text = |a: &Attention| format!("{}, of keys and values {}", a.heads, a.kv_heads);
    attention(spec).map_or("-".into(), text)
}

/// A layer's mixer and feed-forward part in words.
fn kind(layer: &Layer) -> String {
    let mixer = match &layer.mixer {
        Mixer::Attention(Attention { window: Some(n), .. }) => format!("attention, window of {n}"),
        Mixer::Attention(_) => "attention".into(),
        Mixer::ShortConv(c) => format!("short convolution of {}", c.taps),
        Mixer::DeltaNet(d) => format!("linear attention of {} heads", d.value_heads),
        _ => "other".into(),
    };
    match layer.experts() {
        Some(e) => format!("{mixer}; {} of {} experts", e.used, e.experts),
        None => mixer,
    }
}

/// How many layers there are of each kind, the kinds in the order in which they first occur.
fn layer_kinds<'a>(spec: &'a Spec<'_>) -> impl Iterator<Item = (usize, String)> + 'a {
    let count = |k: usize| (0..spec.layers.len()).filter(|&l| spec.layers.kind_of(l) == k).count();
    spec.layers.kinds().iter().enumerate().map(move |(k, layer)| (count(k), kind(layer)))
}

fn layers(spec: &Spec<'_>) -> String {
    let mut out = spec.layers.len().to_string();
    let kinds: Vec<_> = layer_kinds(spec).collect();
    match &kinds[..] {
        [(_, kind)] if kind == "attention" => {}
        [(_, kind)] => out += &format!(": {kind}"),
        kinds => {
            let all: Vec<_> = kinds.iter().map(|(n, kind)| format!("{n} {kind}")).collect();
            out += &format!(": {}", all.join("; "));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(x: &[f32]) -> Values {
        let mut v = Values::new();
        x.chunks(7).for_each(|x| v.add(x));
        v
    }

    #[test]
    fn figures_leave_out_what_is_not_finite() {
        let v = values(&[1.0, f32::NAN, -3.0, f32::INFINITY, 2.0, f32::NEG_INFINITY]);
        assert_eq!((v.finite, v.nan, v.infinite), (3, 1, 2));
        let f = v.figures().unwrap();
        assert_eq!((f.min, f.max, f.mean), (-3.0, 2.0, 0.0));
        assert_eq!(f.rms, (14.0f64 / 3.0).sqrt());
        assert!(values(&[f32::NAN]).figures().is_none() && values(&[]).figures().is_none());
    }

    #[test]
    fn norms_that_look_wrong() {
        let norm = Kind::Norm { plus_one: false };
        let gemma = Kind::Norm { plus_one: true };
        let ramp = |from: f32, to: f32| -> Vec<f32> {
            (0..64).map(|i| from + (to - from) * i as f32 / 63.0).collect()
        };
        for (x, kind, says) in [
            (ramp(0.5, 1.5), norm, None),
            (ramp(0.5, 1.5), gemma, None),
            (vec![1.0; 64], norm, None),
            (vec![0.0; 64], norm, Some("all are 0")),
            (vec![0.75; 64], norm, Some("all are 0.75")),
            (ramp(-0.01, 0.01), norm, Some("below 0.01")),
            (ramp(100.0, 300.0), norm, Some("above 100")),
            (ramp(-0.5, 0.5), norm, None),
            (ramp(-0.5, 0.5), gemma, Some("plus 1")),
            ([ramp(0.5, 1.5), vec![f32::NAN]].concat(), norm, Some("NaN (1)")),
            (vec![f32::INFINITY; 3], norm, Some("infinities (3)")),
            (vec![0.0; 64], Kind::Bias, None),
            (vec![0.0; 64], Kind::Matrix, Some("all are 0")),
            (vec![f32::NAN; 64], Kind::Matrix, Some("NaN (64)")),
            (vec![f32::INFINITY], Kind::Bias, Some("infinities (1)")),
        ] {
            let got = values(&x).suspicious(kind);
            match says {
                None => assert_eq!(got, None, "{:?}", &x[..3.min(x.len())]),
                Some(says) => assert!(got.as_deref().is_some_and(|g| g.contains(says)), "{got:?}"),
            }
        }
    }
}
