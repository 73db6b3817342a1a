//! Benchmark of Teff against llama.cpp: the same file, the same threads, in alternation.
//!
//! ```text
//! cargo run --release --features bench-peers --example bench_peers -- MODEL.gguf --threads 2
//! ```
//!
//! llama.cpp is the one in llama-cpp-python (`pip install llama-cpp-python`; `--python` selects the
//! Python that has it), run in a separate process (peer.py, part of this program). Rounds alternate
//! in who comes first; while one computes, the other waits. Each keeps its own defaults: Teff's
//! cache is f32 and llama.cpp's f16, unless `--kv f16` makes them equal; llama.cpp repacks some
//! formats when it loads, Teff with `--repack`.

use std::error::Error;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitCode, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use teff::{
    KvFormat, LoadOptions, LogitsFor, Model, Session, SessionOptions, available_threads,
    default_backend,
};

const USAGE: &str = "\
usage: bench_peers MODEL.gguf [--threads N] [--prefill 512,32] [--decode 128] [--rounds 5]
                   [--kv f32|f16|q8] [--repack] [--python python3]";

/// Rest of both before a run: threads that were busy may spin for a while, those of the usual
/// OpenMP runtimes for 200 ms.
const REST: Duration = Duration::from_millis(300);

fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(wrong) => {
            eprintln!("bench_peers: {wrong}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match compare(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench_peers: {error}");
            ExitCode::FAILURE
        }
    }
}

struct Options {
    model: String,
    threads: usize,
    cases: Vec<Case>,
    rounds: usize,
    kv: KvFormat,
    repack: bool,
    python: String,
}

/// Measured case.
#[derive(Clone, Copy)]
enum Case {
    /// This number of tokens at once.
    Prefill(usize),
    /// This number of tokens, one at a time.
    Decode(usize),
}

impl Case {
    fn parts(self) -> (&'static str, usize) {
        match self {
            Case::Prefill(n) => ("prefill", n),
            Case::Decode(n) => ("decode", n),
        }
    }
}

impl Options {
    fn parse(mut args: impl Iterator<Item = String>) -> Result<Options, String> {
        let mut model = None;
        let (mut prefill, mut decode) = (vec![512, 32], vec![128]);
        let mut options = Options {
            model: String::new(),
            threads: available_threads(),
            cases: Vec::new(),
            rounds: 5,
            kv: SessionOptions::default().kv,
            repack: false,
            python: "python3".into(),
        };
        while let Some(arg) = args.next() {
            if !arg.starts_with('-') {
                if model.replace(arg).is_some() {
                    return Err("one model, please".into());
                }
                continue;
            }
            if arg == "--repack" {
                options.repack = true;
                continue;
            }
            let value = args.next().ok_or_else(|| format!("{arg} wants a value"))?;
            let number = |text: &str| match text.parse() {
                Ok(n) if n > 0 => Ok(n),
                _ => Err(format!("{arg} has `{text}`: it must be a whole number from 1 up")),
            };
            match arg.as_str() {
                "--threads" => options.threads = number(&value)?,
                "--rounds" => options.rounds = number(&value)?,
                "--prefill" => prefill = value.split(',').map(number).collect::<Result<_, _>>()?,
                "--decode" => decode = value.split(',').map(number).collect::<Result<_, _>>()?,
                "--python" => options.python = value,
                "--kv" => {
                    let kv = KvFormat::from_name(&value);
                    options.kv = kv.ok_or_else(|| format!("there is no cache of {value}"))?;
                }
                _ => return Err(format!("there is no option {arg}")),
            }
        }
        options.model = model.ok_or("no model")?;
        options.cases = prefill.into_iter().map(Case::Prefill).collect();
        options.cases.extend(decode.into_iter().map(Case::Decode));
        Ok(options)
    }

    /// Positions needed for the longest case.
    fn context(&self) -> usize {
        self.cases.iter().map(|c| c.parts().1).max().unwrap_or(1)
    }
}

fn compare(options: &Options) -> Result<(), Box<dyn Error>> {
    let (threads, context) = (options.threads, options.context());
    let repack = if options.repack { Some(default_backend()?) } else { None };
    let load = LoadOptions { repack, ..LoadOptions::default() };
    let model = Model::open_with(&options.model, &load)?;
    let most = model.spec().context as usize;
    if context > most {
        return Err(format!("the model was made for a context of {most}, not of {context}").into());
    }
    let mut session = model.session(&SessionOptions {
        context: Some(context),
        threads: Some(threads),
        kv: options.kv,
        ..SessionOptions::default()
    })?;
    let vocab = u64::from(model.spec().vocab);
    // The same tokens as in peer.py.
    let token = |i: u64| ((i * 2_654_435_761) % (1 << 32) % vocab) as u32;
    let tokens: Vec<u32> = (0..context as u64).map(token).collect();
    let mut peer = Peer::start(options, context)?;

    let mut times = vec![[Vec::new(), Vec::new()]; options.cases.len()];
    // Round 0 is the warm-up.
    for round in 0..=options.rounds {
        for (case, times) in options.cases.iter().zip(&mut times) {
            for turn in 0..2 {
                let teff = (round + turn).is_multiple_of(2);
                sleep(REST);
                let seconds =
                    if teff { timed(&mut session, &tokens, *case)? } else { peer.timed(*case)? };
                if round > 0 {
                    times[usize::from(!teff)].push(seconds);
                }
            }
        }
    }

    println!("{}", options.model);
    let (backend, kv) = (session.backend().name(), options.kv.name());
    let repacked = if model.tensor_infos().any(|t| t.repacked) { ", repacked" } else { "" };
    println!("Teff {}: {backend}, cache {kv}{repacked}", env!("CARGO_PKG_VERSION"));
    println!("{}", peer.info);
    println!("tokens/s, medians of {} rounds in turns\n", options.rounds);
    println!("{:>7}  {:<13}{:>10}{:>12}{:>8}", "threads", "", "Teff", "llama.cpp", "ratio");
    for (case, [ours, theirs]) in options.cases.iter().zip(times) {
        let (name, n) = case.parts();
        let (ours, theirs) = (n as f64 / median(ours), n as f64 / median(theirs));
        let (case, ratio) = (format!("{name} {n}"), ours / theirs);
        println!("{threads:>7}  {case:<13}{ours:>10.1}{theirs:>12.1}{ratio:>8.2}");
    }
    Ok(())
}

/// Seconds taken by Teff.
fn timed(session: &mut Session<'_>, tokens: &[u32], case: Case) -> Result<f64, Box<dyn Error>> {
    let (_, n) = case.parts();
    let at_once = if matches!(case, Case::Prefill(_)) { n } else { 1 };
    session.truncate(0);
    let start = Instant::now();
    for part in tokens[..n].chunks(at_once) {
        session.eval(part, LogitsFor::Last)?;
    }
    Ok(start.elapsed().as_secs_f64())
}

fn median(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    let half = all.len() / 2;
    if all.len().is_multiple_of(2) { f64::midpoint(all[half - 1], all[half]) } else { all[half] }
}

/// Process that runs llama.cpp.
struct Peer {
    child: Child,
    requests: ChildStdin,
    answers: BufReader<ChildStdout>,
    /// Version and build information.
    info: String,
}

impl Peer {
    fn start(options: &Options, context: usize) -> Result<Peer, Box<dyn Error>> {
        let mut child = Command::new(&options.python)
            .args(["-c", include_str!("peer.py"), &options.model])
            .args([options.threads, context].map(|n| n.to_string()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|e| format!("{} can't be started: {e} (see --python)", options.python))?;
        let requests = child.stdin.take().ok_or("no standard input")?;
        let answers = BufReader::new(child.stdout.take().ok_or("no standard output")?);
        let mut peer = Peer { child, requests, answers, info: String::new() };
        let first = peer.answer()?;
        match first.strip_prefix("ready ") {
            Some(info) => peer.info = info.into(),
            None => return Err(format!("{} says `{first}`", options.python).into()),
        }
        Ok(peer)
    }

    /// Seconds taken by llama.cpp.
    fn timed(&mut self, case: Case) -> Result<f64, Box<dyn Error>> {
        let (name, n) = case.parts();
        // If it has exited, its last answer tells the cause.
        let _ = writeln!(self.requests, "{name} {n}").and_then(|()| self.requests.flush());
        let answer = self.answer()?;
        answer.parse().map_err(|_| format!("the peer answers `{answer}`, not seconds").into())
    }

    /// Next line; an error if the line is one, or if there is none.
    fn answer(&mut self) -> Result<String, Box<dyn Error>> {
        let mut line = String::new();
        if self.answers.read_line(&mut line)? == 0 {
            let status = self.child.wait()?;
            return Err(format!("the process that calls llama.cpp has ended: {status}").into());
        }
        let line = line.trim_end();
        match line.strip_prefix("error ") {
            Some(why) => Err(why.into()),
            None => Ok(line.into()),
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // It has nothing left to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
