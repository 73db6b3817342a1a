//! `teff inspect`: what a model is and what it takes.

use std::fmt::Write;

use teff::graph::{Head, Role, Tensor};
use teff::kernels::Backend;
use teff::runtime::session::SessionNeeds;
use teff::{Cpu, Format, Model, SessionOptions};

use super::args::{Arg, Args, Shared, backends};
use super::json::{Object, array, string};
use super::machine::human;
use super::{Command, Failure, print};

pub(crate) const COMMAND: Command = Command {
    name: "inspect",
    about: "what a model is and what memory it takes",
    help: "\
usage: teff inspect MODEL [--ctx N] [--json] [--stats] [OPTIONS]

Architecture, hyper-parameters, tensors, and the bytes that a session will take, all from the
model's header. total is the weights and the session; weights in a mapped file are the system's
cache and take no memory that others could not have.

  --ctx N              positions of the context (default: as many as the model was made for)
  --json               one object of JSON
  --stats              also every tensor; for vectors their mean and root mean square, and what is
                       suspicious: numbers that are not finite, norms whose root mean square is
                       outside 0.01 to 100
  --threads N          threads of the session (default: one for each core)
  --backend NAME       backend of the session (default: the best of this machine)
  --kv f32|f16|q8      how the cache stores keys and values (default f32)
  --quantize FORMAT    quantise F32, F16 and BF16 weights to this format when loading
",
    run,
};

fn run(args: &mut Args) -> Result<(), Failure> {
    const SHARED: [&str; 5] = ["--threads", "--ctx", "--backend", "--kv", "--quantize"];
    let mut shared = Shared::default();
    let (mut json, mut stats) = (false, false);
    while let Some(arg) = args.next()? {
        match arg {
            Arg::Flag(f) if f == "--json" => json = true,
            Arg::Flag(f) if f == "--stats" => stats = true,
            arg => shared.take(arg, args, &SHARED)?,
        }
    }
    let model = shared.open()?;
    let options = shared.options(&model)?;
    let needs = model.needs(&options).map_err(Failure::run)?;
    let report = Report::new(&model, options, needs, stats);
    print(&if json { report.json() } else { report.text() })
}

/// Tensors of one format.
struct Group {
    format: Format,
    count: usize,
    parameters: u64,
    bytes: u64,
}

/// A tensor and, of a vector, what its values are like.
struct Line {
    name: String,
    format: Format,
    shape: [usize; 2],
    bytes: usize,
    values: Option<Values>,
}

struct Values {
    mean: f64,
    rms: f64,
    suspicious: Option<&'static str>,
}

impl Values {
    fn of(x: &[f32], norm: bool) -> Values {
        let sum = |f: fn(f64) -> f64| x.iter().map(|&x| f(f64::from(x))).sum::<f64>();
        let n = x.len().max(1) as f64;
        let (mean, rms) = (sum(|x| x) / n, (sum(|x| x * x) / n).sqrt());
        let suspicious = if x.iter().any(|x| x.is_nan()) {
            Some("has NaN")
        } else if x.iter().any(|x| x.is_infinite()) {
            Some("has infinities")
        } else if norm && rms < 0.01 {
            Some("RMS below 0.01")
        } else if norm && rms > 100.0 {
            Some("RMS above 100")
        } else {
            None
        };
        Values { mean, rms, suspicious }
    }
}

/// Whether a vector is the factors of a norm, whichever norms a family has: the roles say it.
fn is_norm(role: Role) -> bool {
    let role = format!("{role:?}");
    role.contains("Norm") && !role.contains("Bias")
}

struct Report<'m> {
    model: &'m Model,
    options: SessionOptions,
    needs: SessionNeeds,
    groups: Vec<Group>,
    lines: Option<Vec<Line>>,
    backend: &'static str,
    backends: Vec<&'static str>,
}

impl<'m> Report<'m> {
    fn new(model: &'m Model, options: SessionOptions, needs: SessionNeeds, stats: bool) -> Self {
        let mut groups: Vec<Group> = Vec::new();
        let mut lines = Vec::new();
        for t in model.tensor_infos() {
            let parameters = t.rows as u64 * t.cols as u64;
            let i = groups.iter().position(|g| g.format == t.format).unwrap_or_else(|| {
                groups.push(Group { format: t.format, count: 0, parameters: 0, bytes: 0 });
                groups.len() - 1
            });
            groups[i].count += 1;
            groups[i].parameters += parameters;
            groups[i].bytes += t.bytes as u64;
            if stats {
                let values = match model.tensor(t.id) {
                    Tensor::Vector(x) => Some(Values::of(x, is_norm(t.role))),
                    Tensor::Matrix(_) => None,
                };
                let (name, format, bytes) = (t.name, t.format, t.bytes);
                lines.push(Line { name, format, shape: [t.rows, t.cols], bytes, values });
            }
        }
        groups.sort_by_key(|g| core::cmp::Reverse(g.bytes));
        let backends = backends();
        let backend = options.backend.unwrap_or_else(Cpu::best).name();
        let lines = stats.then_some(lines);
        Report { model, options, needs, groups, lines, backend, backends }
    }

    fn context(&self) -> usize {
        self.options.context.unwrap_or(self.model.spec().context as usize)
    }

    fn total(&self) -> u64 {
        self.model.weight_bytes().saturating_add(self.needs.total() as u64)
    }

    fn suspicious(&self) -> usize {
        let lines = self.lines.iter().flatten();
        lines.filter(|l| l.values.as_ref().is_some_and(|v| v.suspicious.is_some())).count()
    }

    fn json(&self) -> String {
        let (m, s, plan) = (self.model, self.model.spec(), &self.needs.plan);
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
            .count("layers", Some(s.layers))
            .count("width", Some(s.width))
            .count("heads", Some(s.heads))
            .count("kv_heads", Some(s.kv_heads))
            .count("head_dim", Some(s.head_dim))
            .count("ffn", Some(s.ffn))
            .raw("tied_head", s.head == Head::Tied)
            .raw("tokenizer", m.tokenizer().is_ok());
        if let Err(why) = m.tokenizer() {
            o = o.str("tokenizer_error", &why.to_string());
        }
        o = o
            .raw("tensors", array(groups))
            .count("file_bytes", Some(m.file_bytes()))
            .count("weight_bytes", Some(m.weight_bytes()))
            .count("model_bytes", Some(m.owned_bytes()))
            .count("ctx", Some(self.context()))
            .count("batch", Some(self.options.batch.min(self.context())))
            .str("kv", self.options.kv.name())
            .count("cache_bytes", Some(plan.kv))
            .count("arena_bytes", Some(plan.scratch))
            .count("per_thread_bytes", Some(plan.per_thread))
            .count("table_bytes", Some(self.needs.tables))
            .count("session_bytes", Some(self.needs.total()))
            .count("total_bytes", Some(self.total()))
            .raw("instruction_sets", array(self.backends.iter().map(|n| string(n))))
            .str("backend", self.backend)
            .count("threads", Some(self.needs.threads));
        if let Some(lines) = &self.lines {
            let lines = lines.iter().map(|l| {
                let o = Object::new().str("name", &l.name).str("format", l.format.name());
                let o = o.raw("shape", array(l.shape)).count("bytes", Some(l.bytes));
                let Some(v) = &l.values else { return o.end() };
                let o = o.number("mean", Some(v.mean)).number("rms", Some(v.rms));
                o.raw("suspicious", v.suspicious.map_or("null".into(), string)).end()
            });
            o = o.raw("stats", array(lines)).count("suspicious", Some(self.suspicious()));
        }
        o.end() + "\n"
    }

    fn text(&self) -> String {
        let mut out = String::new();
        let (m, s, plan) = (self.model, self.model.spec(), &self.needs.plan);
        let bytes = |n: u64| format!("{n:>15}  {}", human(n));
        let tied = if s.head == Head::Tied { "tied to the embedding" } else { "its own" };
        // Names come out of files: nothing of them may steer a terminal.
        let name = m.name().unwrap_or("-").replace(char::is_control, "?");
        let tokenizer = match m.tokenizer() {
            Ok(t) => format!("{} tokens", t.vocab_size()),
            Err(why) => format!("none: {}", why.to_string().replace(char::is_control, "?")),
        };
        let sets = self.backends.join(", ");
        let threads = self.needs.threads;
        let rows = [
            ("name", name),
            ("architecture", s.arch.into()),
            ("container", m.container().to_string()),
            ("parameters", s.parameters().to_string()),
            ("vocabulary", s.vocab.to_string()),
            ("context", s.context.to_string()),
            ("layers", s.layers.to_string()),
            ("width", s.width.to_string()),
            ("heads", format!("{}, of keys and values {}", s.heads, s.kv_heads)),
            ("head width", s.head_dim.to_string()),
            ("inner width", s.ffn.to_string()),
            ("head", tied.into()),
            ("tokenizer", tokenizer),
            ("instructions", format!("{sets}; {} is used", self.backend)),
            ("threads", threads.to_string()),
        ];
        // Writing to a string does not fail.
        for (key, value) in rows {
            let _ = writeln!(out, "{key:<14}{value}");
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
            ("cache", plan.kv as u64),
            ("arena", plan.scratch as u64),
            ("for a thread", plan.per_thread as u64),
            ("tables", self.needs.tables as u64),
            ("total", self.total()),
        ];
        for (key, n) in rows {
            let _ = writeln!(out, "{key:<16}{}", bytes(n));
        }
        if let Some(lines) = &self.lines {
            let width = lines.iter().map(|l| l.name.len()).max().unwrap_or(0);
            let _ = writeln!(out, "\n{:<width$}  format           shape", "tensor");
            for l in lines {
                let (format, shape) = (l.format.name(), format!("{}x{}", l.shape[0], l.shape[1]));
                let _ = write!(out, "{:<width$}  {format:<6}{shape:>16}", l.name);
                if let Some(v) = &l.values {
                    let _ = write!(out, "  mean {:>12.6}  RMS {:>12.6}", v.mean, v.rms);
                    if let Some(what) = v.suspicious {
                        let _ = write!(out, "  SUSPICIOUS: {what}");
                    }
                }
                out.push('\n');
            }
            let _ = writeln!(out, "suspicious: {}", self.suspicious());
        }
        out
    }
}
