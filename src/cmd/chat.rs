//! `teff chat`: a conversation, whose cache is kept from turn to turn.

use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use teff::{Finish, Generate, Model, Session, SessionError, StepError};

use super::args::{Args, CommonArgs, SamplingArgs};
use super::json::Object;
use super::machine::{Progress, ms, peak_bytes, per_second};
use super::tokenize::no_tokenizer;
use super::{Command, Failure, complain};

mod input;
mod interrupt;
mod python;
mod template;
mod tokens;

use input::Line;
use template::{Message, Role};
use tokens::Encoder;

pub(crate) const COMMAND: Command =
    Command { name: "chat", about: "holds a conversation", help: HELP, run };

const HELP: &str = "\
usage: teff chat MODEL [OPTIONS]

Answers what is typed, line by line, or every line of a pipe. The answers alone go to standard
output. /clear begins a new conversation, /exit or the end of the input ends the command. Ctrl-C
stops an answer at a terminal; where nothing is being answered, pressed twice, it ends the command.

What is said never becomes a special token, even where it has the name of one. The same options and
lines give the same answers on every machine (unless the model's template asks for the date).

  -p TEXT                the first message
  --system TEXT          what the model is told before the conversation
  --single-turn          ends after one answer
  --chat-template FILE   the template in Jinja that makes a text of the conversation (default: the
                         model's own)
  -n N                   most tokens of an answer (default: until the model ends it)
  --temperature T        below 1 prefers likely tokens, above 1 evens out, 0 is greedy (default 0.8)
  --top-k K              the K most likely tokens stay, 0 is off (default 40)
  --top-p P              the most likely tokens that have this share of probability stay, 1 is off
                         (default 0.95)
  --min-p P              tokens stay that have this share of the likeliest's probability, 0 is off
                         (default 0.05)
  --repeat-penalty R     makes recent tokens less likely, 1 is off (default 1)
  --repeat-last-n N      how many tokens are recent (default 64)
  --seed S               where random numbers start, for each answer: always the same (default 0)
  --greedy               always the most likely token: the same as --temperature 0
  --threads N            threads (default: one for each core)
  --ctx N                positions of the context (default: as many as the model was made for, but
                         4096 at most)
  --backend NAME         who computes: scalar, avx2, avx512, ...; default: that of the
                         environment variable TEFF_BACKEND, or the best of this machine
  --kv f32|f16|q8        how the cache stores keys and values (default f32)
  --quantize FORMAT      quantise F32, F16 and BF16 weights to this format when loading
  --head FORMAT          quantise an F32, F16 or BF16 head to this format when loading
  --repack               copy weights into an order that the backend reads faster, if it has one:
                         less time for each token, the same bits, memory of the weights' size
  --stats                the figures at the end, on standard error, as one line of JSON
";

/// Bytes of the largest template that is read: as of a model's own.
const MAX_TEMPLATE: u64 = 1 << 20;

/// What the command line says.
struct Options {
    common: CommonArgs,
    first: Option<String>,
    system: Option<String>,
    template: Option<String>,
    single: bool,
    generate: Generate,
    stats: bool,
}

fn read(args: &mut Args) -> Result<Options, Failure> {
    const COMMON: [&str; 6] = ["--threads", "--ctx", "--backend", "--kv", "--quantize", "--repack"];
    let mut common = CommonArgs::default();
    let mut sampling_args = SamplingArgs::default();
    let (mut first, mut system, mut template) = (None, None, None);
    let (mut single, mut stats) = (false, false);
    common.read(args, &COMMON, |f, args| {
        match f {
            "-p" | "--prompt" => first = Some(args.text(f)?),
            "--system" => system = Some(args.text(f)?),
            "--chat-template" => template = Some(args.path()?),
            "--single-turn" => single = true,
            "--stats" => stats = true,
            _ => return sampling_args.take(f, args),
        }
        Ok(true)
    })?;
    let generate = sampling_args.generate(None)?;
    common.path()?;
    let template = template.as_deref().map(read_template).transpose()?;
    Ok(Options { common, first, system, template, single, generate, stats })
}

fn read_template(path: &Path) -> Result<String, Failure> {
    let name = path.display();
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|f| f.take(MAX_TEMPLATE + 1).read_to_end(&mut bytes));
    read.map_err(|e| Failure::Run(format!("{name}: can't be read: {e}")))?;
    if bytes.len() as u64 > MAX_TEMPLATE {
        return Err(Failure::Run(format!("{name}: more than {MAX_TEMPLATE} bytes: no template")));
    }
    String::from_utf8(bytes).map_err(|e| {
        let at = e.utf8_error().valid_up_to();
        Failure::Run(format!("{name}: byte {at} is not UTF-8: convert the file"))
    })
}

/// What there is to say about a conversation.
#[derive(Default)]
struct Figures {
    load: Duration,
    answers: usize,
    /// Messages that got no answer.
    failed: usize,
    /// Tokens of the conversation that were computed before an answer, and those that were not,
    /// since the cache had them.
    prompt: usize,
    cached: usize,
    /// From a message to the first piece of its answer, and the tokens that made these pieces.
    first: Duration,
    of_first: usize,
    /// From the first piece of an answer to its end.
    rest: Duration,
    generated: usize,
}

fn run(args: &mut Args) -> Result<(), Failure> {
    let start = Instant::now();
    let options = read(args)?;
    let model = options.common.open()?;
    let tokenizer = model.tokenizer().map_err(no_tokenizer)?;
    let template = match &options.template {
        Some(template) => template,
        None => model
            .chat_template()
            .map_err(|e| Failure::Run(format!("{e}: give one with --chat-template FILE")))?,
    };
    let encoder = Encoder::new(tokenizer, template).map_err(Failure::run)?;
    let session_options = options.common.text_options(&model)?;
    let session = model.session(&session_options).map_err(Failure::run)?;
    let figures = Figures { load: start.elapsed(), ..Figures::default() };
    let mut chat = Chat { session, encoder, messages: Vec::new(), figures };
    let interactive = io::stdin().is_terminal() && !(options.single && options.first.is_some());
    let ended = chat.talk(&options, interactive);
    if !matches!(ended, Err(Failure::Closed)) {
        let line = match options.stats {
            true => chat.stats(&model),
            false => chat.summary(),
        };
        let _ = writeln!(io::stderr(), "{line}");
    }
    ended?;
    match chat.figures.failed {
        // Whoever types has seen it; a script wants to know.
        0 => Ok(()),
        _ if interactive => Ok(()),
        n => Err(Failure::Run(format!("messages without an answer: {n}"))),
    }
}

/// A conversation.
struct Chat<'m> {
    session: Session<'m>,
    encoder: Encoder<'m>,
    messages: Vec<Message>,
    figures: Figures,
}

impl Chat<'_> {
    /// Takes messages until there are no more.
    fn talk(&mut self, options: &Options, interactive: bool) -> Result<(), Failure> {
        self.clear(options);
        let mut first = options.first.clone();
        let stop = self.session.stop_handle();
        loop {
            if interactive {
                interrupt::listen(&stop);
            }
            let line = match first.take() {
                Some(text) => Line::Text(text),
                None => ask(interactive)?,
            };
            let text = match line {
                Line::Text(text) => text,
                Line::Bad(why) => {
                    self.failed(&why);
                    continue;
                }
                Line::Interrupted | Line::End => return Ok(()),
            };
            match text.trim() {
                "" => continue,
                "/exit" => return Ok(()),
                "/clear" => self.clear(options),
                _ => {
                    if interactive {
                        // What was pressed before concerns nothing that is going on now.
                        interrupt::listen(&stop);
                        stop.resume();
                    }
                    self.turn(text, &options.generate)?;
                    if options.single {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Forgets what was said.
    fn clear(&mut self, options: &Options) {
        self.messages.clear();
        let system = options.system.iter().cloned();
        self.messages.extend(system.map(|content| Message { role: Role::System, content }));
    }

    /// A message got no answer.
    fn failed(&mut self, why: &str) {
        complain(why);
        self.figures.failed += 1;
    }

    /// Takes a message and writes the answer. What only this message is to blame for is said, and
    /// the message forgotten.
    fn turn(&mut self, content: String, options: &Generate) -> Result<(), Failure> {
        self.messages.push(Message { role: Role::User, content });
        let ids = match self.encoder.encode(&self.messages) {
            Ok(ids) => ids,
            Err(e) => {
                self.messages.pop();
                self.failed(&e.to_string());
                return Ok(());
            }
        };
        let kept = common(self.session.tokens(), &ids);
        self.session.truncate(kept);
        let context = self.session.context();
        let most = self.session.model().spec().context;
        let mut answer = String::new();
        let written = self.answer(&ids[kept..], options, &mut answer);
        match written {
            Ok(finish) => {
                self.figures.answers += 1;
                if finish == Some(Finish::ContextFull) {
                    complain(&format!(
                        "the context of {context} tokens is full, and the answer ends here: \
                         /clear begins anew, --ctx may ask for up to {most}"
                    ));
                }
            }
            Err(SessionFailure::Session(SessionError::Step(StepError::ContextFull { .. }))) => {
                self.messages.pop();
                let n = ids.len();
                self.failed(&format!(
                    "the conversation has {n} tokens, but the context holds {context}: /clear \
                     begins anew, --ctx may ask for up to {most}"
                ));
                return Ok(());
            }
            Err(SessionFailure::Session(SessionError::Step(StepError::Cancelled))) => {
                if answer.is_empty() {
                    self.messages.pop();
                    return Ok(());
                }
                self.figures.answers += 1;
            }
            Err(SessionFailure::Session(e)) => return Err(Failure::run(e)),
            Err(SessionFailure::Other(failure)) => return Err(failure),
        }
        self.messages.push(Message { role: Role::Assistant, content: answer });
        Ok(())
    }

    /// Writes the answer to what is in the session and `ids`, piece by piece, and gathers it.
    fn answer(
        &mut self,
        ids: &[u32],
        options: &Generate,
        answer: &mut String,
    ) -> Result<Option<Finish>, SessionFailure> {
        let mut progress = Some(Progress::show(&format!("reading {} tokens", ids.len())));
        let start = Instant::now();
        let cached = self.session.tokens().len();
        let mut out = io::stdout().lock();
        let mut generation = self.session.generate_ids(ids, options)?;
        let figures = &mut self.figures;
        figures.prompt += ids.len();
        figures.cached += cached;
        let mut first: Option<(Duration, usize)> = None;
        let mut failed = None;
        loop {
            let piece = generation.next_piece();
            drop(progress.take());
            match piece {
                Ok(Some(piece)) => {
                    answer.push_str(piece);
                    let written = out.write_all(piece.as_bytes()).and_then(|()| out.flush());
                    written.map_err(|e| SessionFailure::Other(Failure::stdout(e)))?;
                }
                Ok(None) => break,
                Err(e) => {
                    failed = Some(e);
                    break;
                }
            }
            first.get_or_insert((start.elapsed(), generation.generated()));
        }
        let generated = generation.generated();
        let (time, of_first) = first.unwrap_or((start.elapsed(), generated));
        figures.first += time;
        figures.of_first += of_first;
        figures.rest += start.elapsed().saturating_sub(time);
        figures.generated += generated;
        if !answer.ends_with('\n') {
            let written = out.write_all(b"\n").and_then(|()| out.flush());
            written.map_err(|e| SessionFailure::Other(Failure::stdout(e)))?;
        }
        match failed {
            Some(e) => Err(e.into()),
            None => Ok(generation.finish()),
        }
    }

    /// Tokens per second of reading and of writing.
    fn speeds(&self) -> (Option<f64>, Option<f64>) {
        let f = &self.figures;
        let prefill = per_second(f.prompt, f.first).filter(|_| f.prompt > 0);
        let decode = per_second(f.generated - f.of_first, f.rest);
        (prefill, decode.filter(|_| f.generated > f.of_first))
    }

    fn summary(&self) -> String {
        let f = &self.figures;
        let speed = |s: Option<f64>| s.map_or_else(String::new, |s| format!(" at {s:.1}/s"));
        let (prefill, decode) = self.speeds();
        format!(
            "teff: {} answers; tokens: {} read{}, {} kept from before, {} written{}",
            f.answers,
            f.prompt,
            speed(prefill),
            f.cached,
            f.generated,
            speed(decode)
        )
    }

    fn stats(&self, model: &Model) -> String {
        let f = &self.figures;
        let (prefill, decode) = self.speeds();
        Object::new()
            .number("load_ms", Some(ms(f.load)))
            .count("answers", Some(f.answers))
            .count("failed", Some(f.failed))
            .count("prompt_tokens", Some(f.prompt))
            .count("cached_tokens", Some(f.cached))
            .count("generated_tokens", Some(f.generated))
            .number("prefill_tps", prefill)
            .number("decode_tps", decode)
            .count("peak_bytes", peak_bytes())
            .count("session_bytes", Some(self.session.memory_requirements().total()))
            .count("model_bytes", Some(model.owned_bytes()))
            .count("weight_bytes", Some(model.weight_bytes()))
            .str("backend", self.session.backend().name())
            .count("threads", Some(self.session.threads()))
            .count("context", Some(self.session.context()))
            .end()
    }
}

/// Why an answer ends before its end.
enum SessionFailure {
    Session(SessionError),
    Other(Failure),
}

impl From<SessionError> for SessionFailure {
    fn from(e: SessionError) -> Self {
        SessionFailure::Session(e)
    }
}

/// How many tokens two texts have in common from their start on.
fn common(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// The next line; [`Line::Interrupted`] where somebody pressed Ctrl-C twice.
fn ask(interactive: bool) -> Result<Line, Failure> {
    loop {
        if interactive {
            let _ = write!(io::stderr(), "> ");
            // Pressed again while this was written: there is no read yet that it could end.
            if interrupt::pressed() >= 2 {
                let _ = writeln!(io::stderr());
                return Ok(Line::Interrupted);
            }
        }
        let line = input::line(&mut io::stdin().lock())
            .map_err(|e| Failure::Run(format!("standard input can't be read: {e}")))?;
        match line {
            Line::Interrupted if interrupt::pressed() < 2 => {
                if interrupt::pressed() == 1 {
                    let _ = writeln!(io::stderr(), "\n(Ctrl-C once more, or /exit, quits)");
                }
            }
            Line::Interrupted | Line::End => {
                if interactive {
                    let _ = writeln!(io::stderr());
                }
                return Ok(line);
            }
            line => return Ok(line),
        }
    }
}
