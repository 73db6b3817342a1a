//! `teff run --out`: many prompts at once, an answer a line.
//!
//! ```text
//! lines of the prompts -> window of asked lines, in order -> lines of the answers, in order
//!                              |            ^
//!                              v            |  events
//!                            engine: N texts at a time
//! ```
//!
//! The window has at most [`ASKED`] times N texts that the engine has not finished, and [`WINDOW`]
//! times N lines. An answer depends on its line, its index, the model and the options, and neither on
//! the other lines nor on N: so does the file, and a later run goes on behind the answers it has.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use teff::kernels::Backend;
use teff::runtime::default_backend;
use teff::runtime::engine::{Constraint, DEFAULT_SEQUENCES, Event, Request, Stream};
use teff::runtime::sample::SamplingError;
use teff::runtime::session::DEFAULT_BATCH;
use teff::runtime::tokenizer::{Specials, Tokenizer};
use teff::{
    Engine, EngineError, EngineOptions, Finish, Generate, Model, SessionError, SessionOptions,
    StepError,
};

use super::args::{Args, bytes, file_option, option, switch};
use super::common::{CommonArgs, generate};
use super::engine_args::plain_builder;
use super::json::{Object, string};
use super::machine::{Progress, counted, ms, peak_bytes, per_second};
use super::structured::Forms;
use super::tokenize::no_tokenizer;
use super::{Failure, interrupt, print_error, run};

mod answers;
mod form;
mod input;
mod line;
#[cfg(feature = "chat")]
mod talk;

use answers::{Answers, Digest};
use form::Form;
pub(super) use form::Source;
use input::{Lines, MAX_LINE, Next, Raw};
use line::{Line, Own, Prompt};
#[cfg(feature = "chat")]
use talk::Templates;

/// Texts that the engine is asked for and has not finished, for each that it computes at a time: as
/// many as it computes, and as many that wait to take their places.
const ASKED: usize = 2;

/// Lines between the first that is not finished and the last that was read, for each text at a time.
const WINDOW: usize = 32;

/// Most texts at a time.
const MOST: usize = 4096;

/// Time that a step may take: nobody waits for single tokens.
const PAUSE: Duration = Duration::from_secs(1);

/// Time after which the command looks whether it is to end.
const LOOK: Duration = Duration::from_millis(50);

/// Time after which the progress is drawn anew.
const TICK: Duration = Duration::from_millis(250);

/// Options of batches, all of which need `--out`.
const OPTIONS: [&str; 5] = ["parallel", "memory", "cache", "overwrite", "chat-template"];

pub(super) const NOTES: &str = "\
Batches: with --out, each line of the file of -f is a prompt in JSON: a text, or an object with \
\"prompt\" (a text or an array of token ids) or \"messages\" (and \"tools\", \
\"chat_template_kwargs\"), for which the model's chat template writes the prompt. An object may also \
have an \"id\", and max_tokens, temperature, top_p, top_k, min_p, seed, stop, presence_penalty, \
frequency_penalty, repeat_penalty, repeat_last_n, logit_bias and ignore_eos in place of the options; \
other members are errors. --json-schema, --json, --regex and --grammar hold all texts to a form but those whose \
object has one of its own: \"response_format\" as of requests to a server ({\"type\": \"json_schema\", \
\"json_schema\": {\"schema\": ..}}, json_object or text), or \"json_schema\" (a schema), \"regex\" or \
\"grammar\" (texts). A text of a form that is cut is an error; without max_tokens and -n it has no limit. The seed of line I is that of --seed plus I; lines are counted from 0, without blank ones.

Each answer is a line, in the same order: an object with index, key, id, text, finish, prompt_tokens \
and tokens, or with an error in place of the last four. \"finish\" is \"stop\" (the model ended it), \
\"complete\" (its form did), \"stop_string\", \"length\" or \"context_full\". If the command is ended and given again, it \
goes on behind the answers that are there: by its key, an answer is known to be of this line, model \
and options. The file is the same to the byte for every --parallel and -t, and however often the \
command was ended. The exit code is 1 if there are errors in it.";

/// Adds the options of batches.
pub(super) fn options(command: clap::Command) -> clap::Command {
    let command = command
        .next_help_heading("Batch")
        .arg(
            file_option("out", "FILE", "answer each line of the file of -f by a line of this one"),
        )
        .arg(option("parallel", "N", "texts at a time (default 16); also -np"))
        .arg(option(
            "memory",
            "SIZE",
            "bytes of all that is needed besides the model, such as 4GiB, at most",
        ))
        .arg(option(
            "cache",
            "SIZE",
            "bytes of the KV cache of all texts and of beginnings that they share (default: room for \
             N texts of a quarter of the context, or of 1,024 tokens if that is more, in half of the memory that the system has \
             available)",
        ))
        .arg(switch("overwrite", "start the answers anew, whatever their file has"));
    #[cfg(feature = "chat")]
    let command = command.arg(super::template::template_option());
    command
}

/// Refuses or warns about options that need `--out`.
pub(super) fn check_absent(args: &Args) -> Result<(), Failure> {
    for id in OPTIONS.into_iter().filter(|id| args.has(id) && !args.is_habit(id)) {
        let name = args.name(id);
        match id {
            "parallel" => {
                let why = "there is one text at a time without --out";
                print_error(&format!("warning: {name} has no effect: {why}"));
            }
            "chat-template" => {
                let what = "`teff chat MODEL` holds a conversation, and --out FILE answers many";
                return Err(Failure::Usage(format!("{name}: {what}")));
            }
            _ => {
                let what = "it is for batches: give --out FILE and -f PROMPTS.jsonl";
                return Err(Failure::Usage(format!("{name}: {what}")));
            }
        }
    }
    if let Some(path) = args.path("file").filter(|p| p.extension().is_some_and(|e| e == "jsonl")) {
        print_error(&format!(
            "warning: {} is continued as one text: --out FILE answers each of its lines",
            path.display()
        ));
    }
    Ok(())
}

/// Command-line options.
struct Options {
    common: CommonArgs,
    prompts: PathBuf,
    out: PathBuf,
    overwrite: bool,
    parallel: usize,
    memory: Option<usize>,
    cache: Option<usize>,
    #[cfg(feature = "chat")]
    template: Option<PathBuf>,
    /// What all texts are held to.
    form: Option<super::structured::Form>,
    generate: Generate,
    /// True if the options limit the number of tokens.
    limited: bool,
    timeout: Option<Duration>,
    stats: bool,
}

impl Options {
    /// What all texts are held to, as a text.
    fn form(&self) -> Option<String> {
        self.form.as_ref().map(super::structured::Form::source)
    }
}

fn size(args: &Args, id: &str) -> Result<Option<usize>, Failure> {
    let allowed = "a number of bytes above 0, such as 4GiB, 500M or 4096";
    let parse = |text: String| {
        let size = bytes(&text).and_then(|n| usize::try_from(n).ok());
        size.ok_or_else(|| args.refused(id, &text, allowed))
    };
    args.text(id)?.map(parse).transpose()
}

fn read(args: &Args) -> Result<Options, Failure> {
    let common = CommonArgs::read(args, "run")?;
    let form = super::structured::read(args)?;
    let formed = form.is_some();
    run::check_form(args, formed)?;
    // A text of a certain form ends where it is complete.
    let generate = generate(args, if formed { None } else { Some(run::MOST) })?;
    let word = common.text.as_ref().map(|word| format!("`{}`", word.to_string_lossy()));
    if let Some(other) = args.os("prompt").map(|_| args.name("prompt")).or(word) {
        let what = "--out answers the lines of a file: give it with -f, and leave this out";
        return Err(Failure::Usage(format!("{other}: {what}")));
    }
    let Some(prompts) = args.path("file") else {
        let what = "--out needs prompts: give -f FILE, with a prompt in JSON on each line";
        return Err(Failure::Usage(what.into()));
    };
    let out = args.path("out").unwrap_or_default();
    if out == Path::new("-") {
        let what = "--out is `-`: it must be a file, since a batch goes on from what its file has";
        return Err(Failure::Usage(what.into()));
    }
    #[cfg(feature = "chat")]
    let template = args.path("chat-template");
    #[cfg(feature = "chat")]
    if template.as_deref().is_some_and(super::template::is_input) && prompts == Path::new("-") {
        let what = "standard input can be one file only: give the chat template by its name";
        return Err(Failure::Usage(what.into()));
    }
    Ok(Options {
        common,
        prompts,
        out,
        overwrite: args.has("overwrite"),
        parallel: args.count("parallel", 1..=MOST)?.unwrap_or(DEFAULT_SEQUENCES),
        memory: size(args, "memory")?,
        cache: size(args, "cache")?,
        #[cfg(feature = "chat")]
        template,
        form,
        generate,
        limited: args.has("predict"),
        timeout: run::seconds(args, "timeout")?,
        stats: args.has("stats"),
    })
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let start = Instant::now();
    let options = read(args)?;
    let mut lines = Lines::open(&options.prompts)?;
    let model = Arc::new(run::open(&options.common)?);
    let asker = Asker::new(&model, &options)?;
    let session = options.common.text_options(&model)?;
    let context = session.context.unwrap_or(model.spec().context as usize);
    let form = options.form();
    let forms = (asker.template(), form.as_deref());
    let digest = Digest::of(&model, (session.kv, context), &options.generate, forms);
    let mut answers = Answers::open(&options.out, &options.prompts, &options.common)?;
    if !options.overwrite {
        let _progress = Progress::show("reading the answers that are there");
        answers.keep(&mut lines, digest)?;
    }
    let draft = options.common.open_draft()?.map(Arc::new);
    let engine = engine((&model, draft.as_ref()), &options, &session)?;
    answers.start()?;
    interrupt::listen(None);
    let mut batch = Batch {
        options: &options,
        engine: &engine,
        asker,
        digest,
        bar: Bar::new(&lines, answers.kept),
        index: answers.kept,
        errors: answers.errors,
        lines,
        answers,
        window: VecDeque::new(),
        asked: 0,
        ended: false,
        deadline: options.timeout.and_then(|timeout| start.checked_add(timeout)),
    };
    let times = (start.elapsed(), Instant::now());
    let ended = batch.run();
    batch.bar.0.finish_and_clear();
    if options.stats {
        let _ = writeln!(io::stderr(), "{}", batch.stats(&model, times));
    }
    let (written, file) = (batch.written(), options.out.display());
    let so_far = || {
        let written = counted(written, "answer");
        let again = if options.overwrite { " without --overwrite" } else { "" };
        format!("{file} has {written}, and the same command{again} goes on from there")
    };
    match ended? {
        Ended::Whole if batch.errors == 0 => Ok(()),
        Ended::Whole => {
            let lines = counted(written, "line");
            Err(Failure::Run(format!("of {lines}, {} failed: see {file}", batch.errors)))
        }
        Ended::Interrupted => Err(Failure::Run(format!("stopped by Ctrl-C: {}", so_far()))),
        Ended::Late => {
            let seconds = options.timeout.unwrap_or_default().as_secs_f64();
            Err(Failure::Run(format!("stopped by --timeout after {seconds} s: {}", so_far())))
        }
    }
}

/// The engine that computes the texts.
fn engine(
    (model, draft): (&Arc<Model>, Option<&Arc<Model>>),
    options: &Options,
    session: &SessionOptions,
) -> Result<Engine, Failure> {
    let mut o = EngineOptions::default()
        .with_sequences(options.parallel)
        .with_batch(DEFAULT_BATCH.max(options.parallel))
        .with_kv(session.kv)
        .with_speculation(session.speculation)
        .with_pause(PAUSE)
        .with_oversubscribe(session.oversubscribe);
    (o.context, o.backend, o.threads) = (session.context, session.backend, session.threads);
    (o.memory, o.cache) = (options.memory, options.cache);
    plain_builder(model, draft, o).build().map_err(|e| {
        Failure::Run(match e {
            EngineError::Cache { needed, got } => format!(
                "the cache of {got} bytes has no room for one text of the context, which needs \
                 {needed}: raise --cache or --memory, lower --ctx, or choose another --kv"
            ),
            EngineError::Session(SessionError::Budget { needed, budget }) => format!(
                "--memory is {budget} bytes, but {needed} are needed: raise it, or lower --cache, \
                 --parallel or --ctx"
            ),
            e => e.to_string(),
        })
    })
}

/// Makes requests of lines.
struct Asker<'m> {
    tokenizer: &'m Tokenizer,
    #[cfg(feature = "chat")]
    templates: Templates<'m>,
    defaults: Generate,
    /// Constraint of every text whose line says nothing else.
    constraint: Option<Box<dyn Constraint>>,
    /// True if the options limit the number of tokens.
    limited: bool,
    model: &'m Model,
    /// Forms of lines, once there is one.
    forms: Option<Result<Forms, String>>,
}

impl<'m> Asker<'m> {
    fn new(model: &'m Model, options: &Options) -> Result<Asker<'m>, Failure> {
        let tokenizer = model.tokenizer().map_err(no_tokenizer)?;
        let constraint = options.form.as_ref().map(|form| form.constraint(model)).transpose()?;
        Ok(Asker {
            tokenizer,
            #[cfg(feature = "chat")]
            templates: Templates::new(model, tokenizer, options.template.as_deref())?,
            defaults: options.generate.clone(),
            constraint,
            limited: options.limited,
            model,
            forms: None,
        })
    }

    /// Source of the template that takes the place of the model's.
    fn template(&self) -> Option<&str> {
        #[cfg(feature = "chat")]
        return self.templates.given();
        #[cfg(not(feature = "chat"))]
        return None;
    }

    /// The id of a line in JSON, and the request for its answer or the reason why it has none.
    fn read(&mut self, index: usize, raw: &Raw) -> (Option<String>, Result<Request, String>) {
        if raw.bytes.is_empty() {
            return (None, Err(format!("the line has more than {MAX_LINE} bytes")));
        }
        let mut generate = self.defaults.clone();
        generate.sampling.seed = generate.sampling.seed.wrapping_add(index as u64);
        let Line { id, ask } = line::parse(&raw.bytes, &generate);
        (id, ask.and_then(|(prompt, generate, own)| self.formed(prompt, generate, own)))
    }

    /// The request for a text of the form that its line or the options say.
    fn formed(
        &mut self,
        prompt: Prompt,
        mut generate: Generate,
        own: Own,
    ) -> Result<Request, String> {
        let constraint = match &own.form {
            None => self.constraint.as_ref().map(|constraint| constraint.fork()),
            Some(Form::Free) => None,
            Some(Form::Held(source, name)) => {
                let forms = self.forms.get_or_insert_with(|| Forms::new(self.model));
                let forms = forms.as_mut().map_err(|e| format!("{name}: {e}"))?;
                Some(forms.constraint(source).map_err(|e| format!("{name}: {e}"))?)
            }
        };
        if constraint.is_some() && generate.ignore_eos {
            return Err("ignore_eos goes on after the text's end, which its form says".into());
        }
        if own.form.is_some() && !own.limited && !self.limited {
            generate.max_tokens = if constraint.is_some() { None } else { Some(run::MOST) };
        }
        let request = self.request(prompt, generate)?;
        Ok(match constraint {
            Some(constraint) => request.with_constraint(constraint),
            None => request,
        })
    }

    fn request(&mut self, prompt: Prompt, generate: Generate) -> Result<Request, String> {
        match prompt {
            Prompt::Tokens(tokens) => Ok(Request::new(tokens, generate)),
            Prompt::Text(text) => {
                // As a session begins its text.
                let (tokenizer, bos) = (self.tokenizer, self.tokenizer.bos());
                let mut tokens = Vec::from_iter(bos.filter(|_| tokenizer.add_bos()));
                let encoded = tokenizer.encode(&text, Specials::Ignore);
                tokens.extend(encoded.map_err(|e| e.to_string())?);
                if tokens.is_empty() {
                    tokens.extend(bos);
                }
                Ok(Request::new(tokens, generate))
            }
            #[cfg(feature = "chat")]
            Prompt::Conversation { messages, tools, variables } => {
                let mut generate = generate;
                let (tokens, end) = self.templates.encode(&messages, tools, &variables)?;
                generate.stop_tokens.extend(end.filter(|_| !generate.ignore_eos));
                Ok(Request::new(tokens, generate))
            }
        }
    }
}

/// Line that was read.
struct Entry {
    /// Beginning of its answer.
    head: String,
    /// Bytes of the input up to its end.
    end: u64,
    state: State,
}

enum State {
    /// The engine computes it, or will.
    Asked { stream: Stream, text: String, prompt_tokens: usize, formed: bool },
    /// The line of the answer.
    Done { line: String, error: bool },
}

/// Reason why a batch ended.
enum Ended {
    Whole,
    Interrupted,
    Late,
}

/// A batch in progress.
struct Batch<'b> {
    options: &'b Options,
    engine: &'b Engine,
    asker: Asker<'b>,
    digest: Digest,
    lines: Lines,
    answers: Answers,
    /// Lines that were read and whose answers are not written, in order.
    window: VecDeque<Entry>,
    /// Those in the window that the engine has not finished.
    asked: usize,
    /// Index of the next line.
    index: usize,
    /// Errors in the file.
    errors: usize,
    /// True at the end of the input.
    ended: bool,
    bar: Bar,
    deadline: Option<Instant>,
}

impl Batch<'_> {
    fn run(&mut self) -> Result<Ended, Failure> {
        loop {
            if interrupt::pressed() > 0 {
                return Ok(Ended::Interrupted);
            }
            if self.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Ok(Ended::Late);
            }
            self.fill()?;
            if self.ended && self.window.is_empty() {
                return Ok(Ended::Whole);
            }
            self.listen()?;
            self.write()?;
        }
    }

    /// Number of answers in the file.
    fn written(&self) -> usize {
        self.index - self.window.len()
    }

    /// Reads lines while there is room in the window, and asks for their answers.
    fn fill(&mut self) -> Result<(), Failure> {
        let n = self.options.parallel;
        while !self.ended && self.asked < ASKED * n && self.window.len() < WINDOW * n {
            let wait = match self.asked {
                0 => LOOK,
                some if some < n => Duration::from_millis(1),
                _ => Duration::ZERO,
            };
            match self.lines.next(wait)? {
                Next::Line(raw) => self.ask(&raw)?,
                Next::Later => break,
                Next::End => self.ended = true,
            }
        }
        Ok(())
    }

    fn ask(&mut self, raw: &Raw) -> Result<(), Failure> {
        let mut head = self.digest.head(self.index, &raw.bytes);
        let (id, request) = self.asker.read(self.index, raw);
        if let Some(id) = id {
            let _ = write!(head, ",\"id\":{id}");
        }
        let asked = match request {
            Ok(request) => {
                let known = (request.prompt.len(), request.constraint.is_some());
                match self.engine.submit(request) {
                    Ok(stream) => Ok((stream, known)),
                    Err(e) => Err(of_line(e)?),
                }
            }
            Err(why) => Err(why),
        };
        let state = match asked {
            Ok((stream, (prompt_tokens, formed))) => {
                self.asked += 1;
                State::Asked { stream, text: String::new(), prompt_tokens, formed }
            }
            Err(why) => failed(&head, &why),
        };
        self.window.push_back(Entry { head, end: raw.end, state });
        self.index += 1;
        Ok(())
    }

    /// Takes the events of all texts; waits a little for one of the first.
    fn listen(&mut self) -> Result<(), Failure> {
        let mut wait = LOOK;
        for entry in &mut self.window {
            while let State::Asked { stream, .. } = &mut entry.state {
                let Some(event) = stream.next_timeout(core::mem::take(&mut wait)) else { break };
                entry.take(event)?;
                if let State::Done { .. } = entry.state {
                    self.asked -= 1;
                }
            }
        }
        Ok(())
    }

    /// Writes the answers whose turn it is.
    fn write(&mut self) -> Result<(), Failure> {
        let mut all = String::new();
        let mut at = None;
        while let Some(Entry { end, state: State::Done { line, error }, .. }) = self.window.front()
        {
            all.push_str(line);
            at = Some(*end);
            self.errors += usize::from(*error);
            self.window.pop_front();
        }
        if let Some(at) = at {
            self.answers.write(&all)?;
            self.bar.show(at, self.written());
        }
        Ok(())
    }

    fn stats(&self, model: &Model, (load, began): (Duration, Instant)) -> String {
        let (stats, memory) = (self.engine.stats(), self.engine.memory_requirements());
        let time = began.elapsed();
        let backend = self.options.common.backend.map_or_else(default_backend, Ok);
        Object::new()
            .number("load_ms", Some(ms(load)))
            .number("batch_ms", Some(ms(time)))
            .count("answers", Some(self.written()))
            .count("kept", Some(self.answers.kept))
            .count("errors", Some(self.errors))
            .count("prompt_tokens", Some(stats.prompt_tokens))
            .count("cached_tokens", Some(stats.cached_tokens))
            .count("generated_tokens", Some(stats.generated_tokens))
            .count("guessed_tokens", Some(stats.guessed_tokens))
            .count("right_guesses", Some(stats.right_guesses))
            .number("tps", per_second(stats.generated_tokens as usize, time))
            .count("preemptions", Some(stats.preemptions))
            .count("peak_bytes", peak_bytes())
            .count("engine_bytes", Some(memory.total()))
            .count("model_bytes", Some(model.owned_bytes()))
            .count("weight_bytes", Some(model.weight_bytes()))
            .count("repacked_bytes", Some(model.repacked_bytes()))
            .str("backend", backend.as_ref().map_or("", |b| b.name()))
            .count("threads", Some(memory.threads))
            .count("context", Some(memory.context))
            .count("parallel", Some(self.options.parallel))
            .end()
    }
}

impl Entry {
    /// Goes on by an event of its stream. A text that is held to a form and was cut is an error.
    fn take(&mut self, event: Event) -> Result<(), Failure> {
        let State::Asked { text, prompt_tokens, formed, .. } = &mut self.state else {
            return Ok(());
        };
        match event {
            Event::Piece { piece, .. } => text.push_str(&piece.text),
            Event::Finished { finish: Finish::Length | Finish::ContextFull, generated, .. }
                if *formed =>
            {
                self.state = failed(&self.head, &run::cut(generated))
            }
            Event::Finished { finish, generated, .. } => {
                let line = format!(
                    "{},\"text\":{},\"finish\":\"{}\",\"prompt_tokens\":{prompt_tokens},\
                     \"tokens\":{generated}}}\n",
                    self.head,
                    string(text),
                    run::finish_name(Some(finish)),
                );
                self.state = State::Done { line, error: false };
            }
            Event::Failed { error, .. } => self.state = failed(&self.head, &of_line(error)?),
            _ => {}
        }
        Ok(())
    }
}

fn failed(head: &str, why: &str) -> State {
    State::Done { line: format!("{head},\"error\":{}}}\n", string(why)), error: true }
}

/// The text of an error that the line has whenever it is asked; all others end the batch.
fn of_line(e: EngineError) -> Result<String, Failure> {
    use SessionError as E;
    match e {
        EngineError::PromptTooLong { tokens, context } => Ok(format!(
            "the prompt has {tokens} tokens, but the context holds {context}: shorten it, or raise \
             --ctx"
        )),
        EngineError::Session(
            E::EmptyPrompt
            | E::EmptyStop { .. }
            | E::LogitBias { .. }
            | E::Sample(_)
            | E::Sampling(SamplingError::Parameter { .. })
            | E::Step(StepError::BadToken { .. })
            | E::StopToken { .. },
        )
        | EngineError::Constraint(_) => Ok(e.to_string()),
        e => Err(Failure::run(e)),
    }
}

/// Progress on a terminal; nothing elsewhere.
struct Bar(ProgressBar);

impl Bar {
    fn new(lines: &Lines, kept: usize) -> Bar {
        if !io::stderr().is_terminal() {
            return Bar(ProgressBar::hidden());
        }
        let bar = ProgressBar::with_draw_target(lines.size, ProgressDrawTarget::stderr());
        let style = match lines.size {
            Some(_) => "{wide_bar} {percent}%, {msg}, {elapsed}, {eta} left",
            None => "{spinner} {msg}, {elapsed}",
        };
        if let Ok(style) = ProgressStyle::with_template(style) {
            bar.set_style(style);
        }
        bar.set_message(counted(kept, "answer"));
        bar.enable_steady_tick(TICK);
        Bar(bar)
    }

    /// Shows how far the answers in the file go, in bytes of the input.
    fn show(&self, at: u64, answers: usize) {
        if !self.0.is_hidden() {
            self.0.set_position(at);
            self.0.set_message(counted(answers, "answer"));
        }
    }
}
