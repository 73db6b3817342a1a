//! `teff run`: continues a text.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use teff::{Finish, Generate, Model, Session, SessionError, StepError};

use super::args::{Args, file_option, option, positional, switch};
use super::common::{
    CommonArgs, escape_option, generate, length_options, model_argument, model_options,
    sampling_options,
};
use super::json::Object;
use super::machine::{Progress, counted, ms, peak_bytes, per_second};
use super::{Command, Failure, batch, elsewhere, print_error, prompt};

/// Maximum number of tokens without `-n`.
pub(super) const MOST: usize = 128;

pub(crate) const COMMAND: Command = Command {
    name: "run",
    about: "continues a text",
    usage: &[
        "run MODEL [-p TEXT | -f FILE | TEXT | -] [OPTIONS]",
        "run [-p TEXT] [OPTIONS]    a story, by the model that is part of the program",
        "run MODEL -f PROMPTS.jsonl --out ANSWERS.jsonl [OPTIONS]    many texts at once",
    ],
    details: "\
Continues a text. Only the continuation goes to standard output, as it is generated. It ends after N \
tokens, before a stop string, when the model ends the text, or when the context is full. The same \
options give the same text on every machine.

The text is that of -p, of the file of -f, of the argument behind the model, or of standard input if \
that is asked for by - or is a pipe and there is no other; one line break at the end of a file or \
pipe is not part of it. Without a model, the story model that is part of the program writes a story, \
which begins with the text, or else with `Once upon a time`.

Text of a form (--json-schema, --json, --regex, --grammar) begins behind the prompt and ends where it is \
complete, without a limit unless -n gives one; if it is cut, the exit code is 1.",
    notes: batch::NOTES,
    args,
    run,
};

fn args(command: clap::Command) -> clap::Command {
    let command = command
        .arg(model_argument())
        .arg(positional("TEXT", "the text to continue; - for standard input"))
        .next_help_heading("Text")
        .arg(option("prompt", "TEXT", "the text to continue").short('p'))
        .arg(
            file_option(
                "file",
                "FILE",
                "a file with the text to continue, in UTF-8; - for standard input",
            )
            .short('f'),
        )
        .arg(escape_option());
    let limit = "maximum number of tokens to write (default 128; for the story model -1); -1 for no \
                 limit but the context";
    let command = length_options(command, limit)
        .arg(switch("ignore-eos", "go on when the model ends the text"));
    let command = sampling_options(command);
    let command = super::structured::options(command);
    let known = ["threads", "ctx", "backend", "kv", "weights", "generates"];
    let command = batch::options(command);
    model_options(command, &known)
        .next_help_heading("Output")
        .arg(option(
            "timeout",
            "SECONDS",
            "end the command after this time, including loading, with exit code 1; the text so far \
             has been written",
        ))
        .arg(switch(
            "stats",
            "print statistics as one line of JSON on standard error: times, tokens per second, \
             bytes; ttft_ms is the time from the prompt to the first text",
        ))
}

/// Command-line options.
struct Options {
    common: CommonArgs,
    prompt: String,
    generate: Generate,
    timeout: Option<Duration>,
    stats: bool,
    /// The story model begins with a prompt of its own, which is written too.
    begins: bool,
    /// What the text is held to.
    form: Option<super::structured::Form>,
}

impl Options {
    /// True if the text is held to a grammar.
    fn is_formed(&self) -> bool {
        self.form.is_some()
    }
}

fn read(args: &Args) -> Result<Options, Failure> {
    batch::check_absent(args)?;
    let common = CommonArgs::read(args, "run")?;
    let story = common.given().is_none() && cfg!(feature = "story");
    let form = super::structured::read(args)?;
    let formed = form.is_some();
    check_form(args, formed)?;
    // A text of a certain form ends where it is complete.
    let generate = generate(args, if story || formed { None } else { Some(MOST) })?;
    let (timeout, stats) = (seconds(args, "timeout")?, args.has("stats"));
    if !story {
        elsewhere::check_model(common.path()?)?;
    }
    let prompt = prompt::read(args, &common, "prompt")?.map(prompt::without_last_break);
    let begins = prompt.is_none();
    let prompt = match prompt {
        Some(prompt) => prompt,
        #[cfg(feature = "story")]
        None if story => super::story::BEGINNING.into(),
        None => {
            let what = "no text to continue: give -p TEXT, -f FILE, or text by a pipe";
            return Err(prompt::none(&common, what));
        }
    };
    Ok(Options { common, prompt, generate, timeout, stats, begins, form })
}

/// Refuses options that a text of a certain form can't have.
pub(super) fn check_form(args: &Args, formed: bool) -> Result<(), Failure> {
    if formed && args.has("ignore-eos") {
        let what = "--ignore-eos goes on after the text's end, which its form says: leave it out";
        return Err(Failure::Usage(what.into()));
    }
    Ok(())
}

/// Message for a text of a certain form that was cut.
pub(super) fn cut(generated: usize) -> String {
    let written = counted(generated, "token");
    format!(
        "the text is cut after {written}, and incomplete: raise its limit (-n, or max_tokens of a batch's line), or --ctx"
    )
}

pub(super) fn seconds(args: &Args, id: &str) -> Result<Option<Duration>, Failure> {
    const ALLOWED: &str = "a number of seconds from 0 up";
    let Some(seconds) = args.value::<f64>(id, ALLOWED)? else { return Ok(None) };
    if !(seconds >= 0.0 && seconds.is_finite()) {
        return Err(args.refused(id, &seconds.to_string(), ALLOWED));
    }
    Ok(Some(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)))
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

pub(super) fn open(common: &CommonArgs) -> Result<Model, Failure> {
    #[cfg(feature = "story")]
    if common.given().is_none() {
        return super::story::open(&common.load_options()?).map_err(Failure::run);
    }
    common.open()
}

fn run(args: &Args) -> Result<(), Failure> {
    if args.has("out") {
        return batch::run(args);
    }
    let start = Instant::now();
    let options = read(args)?;
    let model = open(&options.common)?;
    let session_options = options.common.text_options(&model)?;
    let draft = options.common.open_draft()?;
    let mut session = CommonArgs::session(&model, draft.as_ref(), &session_options)?;
    let mut stats = Stats { load: start.elapsed(), ..Stats::default() };
    if let Some(timeout) = options.timeout {
        session.stop_handle().set_timeout(timeout.saturating_sub(start.elapsed()));
    }
    let written = write(&mut session, &options, &mut stats);
    if options.stats && !matches!(written, Err(Failure::Closed)) {
        let _ = writeln!(io::stderr(), "{}", stats_json(&model, &session, &stats));
    }
    written?;
    let ended_early = matches!(stats.finish, Some(Finish::Length | Finish::ContextFull));
    if options.is_formed() && ended_early {
        return Err(Failure::Run(cut(stats.generated)));
    }
    if stats.finish == Some(Finish::ContextFull) && !options.stats {
        let (context, n) = (session.context(), stats.generated);
        let (context, written) = (counted(context, "token"), counted(n, "token"));
        print_error(&format!("the context of {context} is full, {written} written"));
    }
    #[cfg(feature = "story")]
    if options.common.given().is_none() && !options.stats {
        print_error(super::story::ADVICE);
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
    if let Some(form) = &options.form {
        let constraint = form.constraint(generation.session().model())?;
        generation = generation.with_constraint(constraint).map_err(Failure::run)?;
    }
    stats.prompt_tokens = generation.session().tokens().len();
    progress.update(&format!("reading the prompt of {} tokens", stats.prompt_tokens));
    let mut progress = Some(progress);
    let mut newline = true;
    let mut write = |text: &str| {
        if !text.is_empty() {
            newline = text.ends_with('\n');
            out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(Failure::stdout)?;
        }
        Ok::<(), Failure>(())
    };
    let mut written = || loop {
        let piece = generation.next_piece();
        if progress.take().is_some() && options.begins {
            write(&options.prompt)?;
        }
        match piece {
            Ok(Some(piece)) => {
                write(piece)?;
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
            let seconds = options.timeout.unwrap_or_default().as_secs_f64();
            let written = counted(stats.generated, "token");
            Failure::Run(format!("stopped by --timeout after {seconds} s, {written} written"))
        })
    })
}

/// Name of the reason why a text ended.
pub(super) fn finish_name(finish: Option<Finish>) -> &'static str {
    match finish {
        Some(Finish::Length) => "length",
        Some(Finish::Stop(_)) => "stop",
        Some(Finish::ContextFull) => "context_full",
        Some(Finish::StopString(_)) => "stop_string",
        Some(Finish::Complete) => "complete",
        _ => "stopped",
    }
}

fn stats_json(model: &Model, session: &Session<'_>, f: &Stats) -> String {
    let prefill = f.first.and_then(|(time, _)| per_second(f.prompt_tokens, time));
    let decode = f.first.and_then(|(_, n)| per_second(f.generated - n, f.rest));
    Object::new()
        .number("load_ms", Some(ms(f.load)))
        .number("ttft_ms", f.first.map(|(time, _)| ms(time)))
        .count("prompt_tokens", Some(f.prompt_tokens))
        .count("generated_tokens", Some(f.generated))
        .count("guessed_tokens", Some(session.speculation_stats().guessed))
        .count("right_guesses", Some(session.speculation_stats().right))
        .number("prefill_tps", prefill)
        .number("decode_tps", decode)
        .count("peak_bytes", peak_bytes())
        .count("session_bytes", Some(session.memory_requirements().total()))
        .count("model_bytes", Some(model.owned_bytes()))
        .count("weight_bytes", Some(model.weight_bytes()))
        .count("repacked_bytes", Some(model.repacked_bytes()))
        .str("backend", session.backend().name())
        .count("threads", Some(session.threads()))
        .count("context", Some(session.context()))
        .str("finish", finish_name(f.finish))
        .end()
}
