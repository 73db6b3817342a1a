//! `teff run`: continues a text.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use teff::{Finish, Generate, Model, Session, SessionError, StepError};

use super::args::{Args, CommonArgs, SamplingArgs};
use super::json::Object;
use super::machine::{Progress, ms, peak_bytes, per_second};
use super::{Command, Failure, print_error};

pub(crate) const COMMAND: Command =
    Command { name: "run", about: "continues a text", help: HELP, run };

const HELP: &str = "\
usage: teff run MODEL -p TEXT [OPTIONS]

Continues TEXT. Only the continuation goes to standard output, as it is generated. It ends after N
tokens, when the model ends the text, or when the context is full. The same options give the same
text on every machine.

  -p TEXT                the text to continue
  -n N                   maximum number of tokens to write (default 128)
  --temperature T        below 1 favours likely tokens, above 1 flattens, 0 is greedy (default 0.8)
  --top-k K              keep the K most likely tokens, 0 is off (default 40)
  --top-p P              keep the most likely tokens with this total probability, 1 is off
                         (default 0.95)
  --min-p P              keep tokens with at least this share of the most likely one's
                         probability, 0 is off (default 0.05)
  --repeat-penalty R     makes recent tokens less likely, 1 is off (default 1)
  --repeat-last-n N      number of tokens that count as recent (default 64)
  --seed S               seed of the random numbers (default 0)
  --greedy               always the most likely token, like --temperature 0
  --threads N            threads (default: one per core; at most as many as the CPUs that the
                         process may run on)
  --oversubscribe        allow more threads than that, which is slower
  --ctx N                context length in tokens (default: the model's, but at most 4096)
  --timeout SECONDS      end the command after this time, including loading, with exit code 1; the
                         text so far has been written
  --backend NAME         instruction set: scalar, avx2, avx512, ... (default: the value of the
                         environment variable TEFF_BACKEND, or this machine's best)
  --kv f32|f16|q8        format of the KV cache (default f32)
  --quantize FORMAT      quantise F32, F16 and BF16 weights to this format when loading
  --head FORMAT          quantise an F32, F16 or BF16 head to this format when loading
  --repack               copy weights into the backend's fastest order, if it has one: faster
                         decoding, the same bits, additional memory of the weights' size
  --stats                print statistics as one line of JSON on standard error: times, tokens per
                         second, bytes; ttft_ms is the time from the prompt to the first text
";

/// Command-line options.
struct Options {
    common: CommonArgs,
    prompt: String,
    generate: Generate,
    timeout: Option<Duration>,
    stats: bool,
}

fn read(args: &mut Args) -> Result<Options, Failure> {
    const COMMON: [&str; 6] = ["--threads", "--ctx", "--backend", "--kv", "--quantize", "--repack"];
    let mut common = CommonArgs::default();
    let mut sampling_args = SamplingArgs::default();
    let (mut prompt, mut timeout, mut stats) = (None, None, false);
    common.read(args, &COMMON, |f, args| {
        match f {
            "-p" | "--prompt" => prompt = Some(args.text(f)?),
            "--timeout" => timeout = Some(seconds(f, args)?),
            "--stats" => stats = true,
            _ => return sampling_args.take(f, args),
        }
        Ok(true)
    })?;
    let generate = sampling_args.generate(Some(128))?;
    common.path()?;
    let prompt =
        prompt.ok_or_else(|| Failure::Usage("no text to continue: give -p TEXT".into()))?;
    Ok(Options { common, prompt, generate, timeout, stats })
}

fn seconds(flag: &str, args: &mut Args) -> Result<Duration, Failure> {
    const ALLOWED: &str = "a number of seconds from 0 up";
    let seconds: f64 = args.parse(flag, ALLOWED)?;
    if !(seconds >= 0.0 && seconds.is_finite()) {
        return Err(Failure::Usage(format!("{flag} is {seconds}: it must be {ALLOWED}")));
    }
    Ok(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX))
}

/// Statistics of a run.
#[derive(Default)]
struct Stats {
    load: Duration,
    /// Time from the prompt to the first piece of text, and the number of tokens in it.
    first: Option<(Duration, usize)>,
    /// Time from the first piece of text to the end.
    rest: Duration,
    prompt_tokens: usize,
    generated: usize,
    finish: Option<Finish>,
}

fn run(args: &mut Args) -> Result<(), Failure> {
    let start = Instant::now();
    let options = read(args)?;
    let model = options.common.open()?;
    let session_options = options.common.text_options(&model)?;
    let mut session = model.session(&session_options).map_err(Failure::run)?;
    let mut stats = Stats { load: start.elapsed(), ..Stats::default() };
    if let Some(timeout) = options.timeout {
        session.stop_handle().set_timeout(timeout.saturating_sub(start.elapsed()));
    }
    let written = write(&mut session, &options, &mut stats);
    if options.stats && !matches!(written, Err(Failure::Closed)) {
        let _ = writeln!(io::stderr(), "{}", stats_json(&model, &session, &stats));
    }
    written?;
    if stats.finish == Some(Finish::ContextFull) && !options.stats {
        let (context, n) = (session.context(), stats.generated);
        print_error(&format!("the context of {context} tokens is full: {n} tokens were written"));
    }
    Ok(())
}

/// Generates text and writes the pieces as they come.
fn write(session: &mut Session<'_>, options: &Options, stats: &mut Stats) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    let terminal = out.is_terminal();
    let mut progress = Progress::show("reading the prompt");
    let start = Instant::now();
    let most = session.model().spec().context;
    let mut generation =
        session.generate(&options.prompt, &options.generate).map_err(|e| match e {
            SessionError::Step(StepError::ContextFull { context, tokens, .. }) => {
                Failure::Run(format!(
                    "the prompt has {tokens} tokens, but the context holds {context}: shorten the \
                     prompt, or raise --ctx (the model was made for {most} at most)"
                ))
            }
            e => Failure::run(e),
        })?;
    stats.prompt_tokens = generation.session().tokens().len();
    progress.update(&format!("reading the prompt of {} tokens", stats.prompt_tokens));
    let mut progress = Some(progress);
    let mut newline = true;
    let mut written = || loop {
        let piece = generation.next_piece();
        progress = None;
        match piece {
            Ok(Some(piece)) => {
                newline = piece.ends_with('\n');
                out.write_all(piece.as_bytes())
                    .and_then(|()| out.flush())
                    .map_err(Failure::stdout)?;
            }
            Ok(None) => return Ok(()),
            Err(SessionError::Step(StepError::Cancelled)) => return Err(None),
            Err(e) => return Err(Some(Failure::run(e))),
        }
        stats.generated = generation.generated();
        match stats.first {
            None => stats.first = Some((start.elapsed(), stats.generated)),
            Some((first, _)) => stats.rest = start.elapsed() - first,
        }
    };
    let written = written();
    stats.generated = generation.generated();
    stats.finish = generation.finish();
    if terminal && !newline {
        // The shell's prompt belongs on a new line.
        let _ = writeln!(out);
    }
    written.map_err(|failure| {
        failure.unwrap_or_else(|| {
            let (seconds, n) = (options.timeout.unwrap_or_default(), stats.generated);
            Failure::Run(format!(
                "stopped by --timeout after {} seconds: {n} tokens were written",
                seconds.as_secs_f64()
            ))
        })
    })
}

fn stats_json(model: &Model, session: &Session<'_>, f: &Stats) -> String {
    let prefill = f.first.and_then(|(time, _)| per_second(f.prompt_tokens, time));
    let decode = f.first.and_then(|(_, n)| per_second(f.generated - n, f.rest));
    let finish = match f.finish {
        Some(Finish::Length) => "length",
        Some(Finish::Stop(_)) => "stop",
        Some(Finish::StopString(_)) => "stop_string",
        Some(Finish::ContextFull) => "context_full",
        _ => "stopped",
    };
    Object::new()
        .number("load_ms", Some(ms(f.load)))
        .number("ttft_ms", f.first.map(|(time, _)| ms(time)))
        .count("prompt_tokens", Some(f.prompt_tokens))
        .count("generated_tokens", Some(f.generated))
        .number("prefill_tps", prefill)
        .number("decode_tps", decode)
        .count("peak_bytes", peak_bytes())
        .count("session_bytes", Some(session.memory_requirements().total()))
        .count("model_bytes", Some(model.owned_bytes()))
        .count("weight_bytes", Some(model.weight_bytes()))
        .str("backend", session.backend().name())
        .count("threads", Some(session.threads()))
        .count("context", Some(session.context()))
        .str("finish", finish)
        .end()
}
