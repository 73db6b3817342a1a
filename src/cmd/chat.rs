//! `teff chat`: a conversation, with the cache kept from turn to turn.

use std::io::{self, IsTerminal, Write};
use std::mem;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use teff::runtime::chat::{Chat, ChatError, Message};
use teff::runtime::template::TemplateErrorKind;
use teff::{Finish, Generate, Model, SessionError, StepError};

use super::args::{Args, file_option, option, positional, switch};
use super::common::{
    CommonArgs, escape_option, generate, length_options, model_argument, model_options,
    positional_text, sampling_options, text_option,
};
use super::json::Object;
use super::machine::{Progress, ms, peak_bytes, per_second};
use super::template::{Variables, choose, is_input, template_option, variables, variables_option};
use super::tokenize::no_tokenizer;
use super::{Command, Failure, interrupt, print_error, prompt};

mod input;

use input::Line;

pub(crate) const COMMAND: Command = Command {
    name: "chat",
    about: "holds a conversation",
    usage: &["chat MODEL [TEXT] [OPTIONS]"],
    details: "\
Answers each line typed at a terminal or read from a pipe. Only the answers go to standard output. \
/clear starts a new conversation; /exit or the end of the input ends the command. At a terminal, \
Ctrl-C stops the current answer; pressed twice with no answer in progress, it ends the command.

Messages never become special tokens, even if they contain the name of one. The same options and \
lines give the same answers on every machine (unless the model's template uses the date).",
    notes: "",
    args,
    run,
};

fn args(command: clap::Command) -> clap::Command {
    let command = command
        .arg(model_argument())
        .arg(positional("TEXT", "the first message"))
        .next_help_heading("Conversation")
        .arg(option("prompt", "TEXT", "the first message").short('p'))
        .arg(file_option("file", "FILE", "a file with the first message, in UTF-8").short('f'))
        .arg(
            option("system", "TEXT", "the system message; also -sys")
                .visible_alias("system-prompt"),
        )
        .arg(escape_option())
        .arg(switch("single-turn", "exit after one answer; also -st"))
        .arg(template_option())
        .arg(variables_option());
    let limit = "maximum tokens per answer; -1 for no limit (default: until the model ends it)";
    let command = sampling_options(length_options(command, limit));
    let command = super::structured::options(command);
    let known = ["threads", "ctx", "backend", "kv", "weights", "generates"];
    model_options(command, &known)
        .next_help_heading("Output")
        .arg(switch("stats", "print statistics at the end, as one line of JSON on standard error"))
}

/// Command-line options.
struct Options {
    common: CommonArgs,
    first: Option<String>,
    system: Option<String>,
    template: Option<PathBuf>,
    variables: Variables,
    single: bool,
    generate: Generate,
    stats: bool,
    /// What answers are held to.
    form: Option<super::structured::Form>,
}

fn read(args: &Args) -> Result<Options, Failure> {
    let common = CommonArgs::read(args, "chat")?;
    let generate = generate(args, None)?;
    common.path()?;
    // The messages come from standard input anyway.
    let word = common.text.as_ref().filter(|word| *word != "-");
    let mut first = text_option(args, "prompt")?;
    if let Some(word) = word {
        if first.is_some() {
            return Err(super::args::unexpected(word, "chat"));
        }
        first = Some(positional_text(args, word)?);
    }
    if let Some(path) = args.path("file") {
        if first.is_some() {
            let what = "--file and another text both give the first message: leave one of them out";
            return Err(Failure::Usage(what.into()));
        }
        first = Some(prompt::without_last_break((prompt::of_file(&path)?, prompt::Source::File)));
    }
    let (template, single) = (args.path("chat-template"), args.has("single-turn"));
    if template.as_deref().is_some_and(is_input) && !(single && first.is_some()) {
        let what =
            "standard input has the messages: give the chat template in a file, or by its name";
        return Err(Failure::Usage(what.into()));
    }
    Ok(Options {
        common,
        first,
        system: text_option(args, "system")?,
        template,
        variables: variables(args)?,
        single,
        generate,
        stats: args.has("stats"),
        form: super::structured::read(args)?,
    })
}

/// Statistics of a conversation.
#[derive(Default)]
struct Stats {
    load: Duration,
    answers: usize,
    /// Number of messages without an answer.
    failed: usize,
    /// Number of prompt tokens that were computed, and number that were already in the cache.
    prompt: usize,
    cached: usize,
    /// Time from a message to the first piece of its answer, and the number of tokens in these
    /// pieces.
    first: Duration,
    of_first: usize,
    /// Time from the first piece of an answer to its end.
    rest: Duration,
    generated: usize,
}

fn run(args: &Args) -> Result<(), Failure> {
    let start = Instant::now();
    let mut options = read(args)?;
    let model = options.common.open()?;
    model.tokenizer().map_err(no_tokenizer)?;
    let template = choose(model.chat_templates(), options.template.as_deref(), false)?;
    let session_options = options.common.text_options(&model)?;
    let draft = options.common.open_draft()?;
    let session = CommonArgs::session(&model, draft.as_ref(), &session_options)?;
    let stats = Stats { load: start.elapsed(), ..Stats::default() };
    let mut chat = Chat::new(session, template).map_err(Failure::run)?;
    let (variables, documents) = mem::take(&mut options.variables);
    chat.set_variables(variables);
    chat.set_documents(documents);
    let mut chat = Talk {
        chat,
        stats,
        constraint: match &options.form {
            Some(form) => Some(form.constraint(&model)?),
            None => None,
        },
    };
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
    match chat.stats.failed {
        // An interactive user has seen it; a script needs the exit code.
        0 => Ok(()),
        _ if interactive => Ok(()),
        n => Err(Failure::Run(format!("messages without an answer: {n}"))),
    }
}

/// A conversation and its statistics.
struct Talk<'m> {
    chat: Chat<'m>,
    stats: Stats,
    /// Constraint of each answer.
    constraint: Option<Box<dyn teff::runtime::engine::Constraint>>,
}

impl Talk<'_> {
    /// Answers messages until the input ends.
    fn talk(&mut self, options: &Options, interactive: bool) -> Result<(), Failure> {
        self.clear(options);
        let mut first = options.first.clone();
        let stop = self.chat.session().stop_handle();
        loop {
            if interactive {
                interrupt::listen(Some(&stop));
            }
            let line = match first.take() {
                Some(text) => Line::Text(text),
                None => read_line(interactive)?,
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
                        // Earlier interrupts don't apply to the current answer.
                        interrupt::listen(Some(&stop));
                        stop.resume();
                    }
                    self.turn(text, options)?;
                    if options.single {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Clears the conversation.
    fn clear(&mut self, options: &Options) {
        let messages = self.chat.messages_mut();
        messages.clear();
        messages.extend(options.system.as_deref().map(Message::system));
    }

    /// Reports a message that gets no answer.
    fn failed(&mut self, why: &str) {
        print_error(why);
        self.stats.failed += 1;
    }

    /// Adds a message and writes the answer. An error that concerns only this message is reported,
    /// and the message dropped.
    fn turn(&mut self, content: String, options: &Options) -> Result<(), Failure> {
        let context = self.chat.session().context();
        let most = self.chat.session().model().spec().context;
        match self.answer(content, &options.generate) {
            Ok(finish) => {
                self.stats.answers += 1;
                if finish == Some(Finish::ContextFull) {
                    print_error(&format!(
                        "the context of {context} tokens is full, and the answer ends here: \
                         /clear starts anew, --ctx allows up to {most}"
                    ));
                }
                Ok(())
            }
            Err(AnswerFailure::Cancelled { written }) => {
                self.stats.answers += usize::from(written);
                Ok(())
            }
            Err(AnswerFailure::Chat(ChatError::ContextFull { tokens, .. })) => {
                self.failed(&format!(
                    "the conversation has {tokens} tokens, but the context holds {context}: /clear \
                     starts anew, --ctx allows up to {most}"
                ));
                Ok(())
            }
            Err(AnswerFailure::Chat(ChatError::Template(e)))
                if e.kind == TemplateErrorKind::Cancelled =>
            {
                Ok(())
            }
            Err(AnswerFailure::Chat(ChatError::Session(SessionError::EmptyPrompt))) => {
                self.failed(
                    "the chat template writes nothing for these messages: give another with \
                     --chat-template",
                );
                Ok(())
            }
            Err(AnswerFailure::Chat(ChatError::Session(e))) => Err(Failure::run(e)),
            Err(AnswerFailure::Chat(e)) => {
                self.failed(&e.to_string());
                Ok(())
            }
            Err(AnswerFailure::Other(failure)) => Err(failure),
        }
    }

    /// Generates the answer to a message and writes it piece by piece.
    fn answer(
        &mut self,
        content: String,
        options: &Generate,
    ) -> Result<Option<Finish>, AnswerFailure> {
        let stats = &mut self.stats;
        let mut progress = Some(Progress::show("reading the message"));
        let start = Instant::now();
        let mut answer = match self.chat.send(Message::user(content), options) {
            Ok(answer) => answer,
            Err(e) => return Err(AnswerFailure::Chat(e)),
        };
        if let Some(constraint) = &self.constraint {
            let constrained = answer.with_constraint(constraint.fork());
            answer = constrained.map_err(|e| AnswerFailure::Chat(ChatError::Session(e)))?;
        }
        stats.prompt += answer.prompt_tokens();
        stats.cached += answer.cached_tokens();
        let mut out = io::stdout().lock();
        let mut first: Option<(Duration, usize)> = None;
        let mut failed = None;
        loop {
            let piece = answer.next_piece();
            drop(progress.take());
            match piece {
                Ok(Some(piece)) => {
                    let written = out.write_all(piece.as_bytes()).and_then(|()| out.flush());
                    written.map_err(|e| AnswerFailure::Other(Failure::stdout(e)))?;
                }
                Ok(None) => break,
                Err(e) => {
                    failed = Some(e);
                    break;
                }
            }
            first.get_or_insert((start.elapsed(), answer.generated()));
        }
        let generated = answer.generated();
        let (time, of_first) = first.unwrap_or((start.elapsed(), generated));
        stats.first += time;
        stats.of_first += of_first;
        stats.rest += start.elapsed().saturating_sub(time);
        stats.generated += generated;
        if !answer.text().ends_with('\n') {
            let written = out.write_all(b"\n").and_then(|()| out.flush());
            written.map_err(|e| AnswerFailure::Other(Failure::stdout(e)))?;
        }
        match failed {
            None => Ok(answer.finish()),
            Some(SessionError::Step(StepError::Cancelled)) => {
                Err(AnswerFailure::Cancelled { written: !answer.text().is_empty() })
            }
            Some(e) => Err(AnswerFailure::Chat(e.into())),
        }
    }

    /// Tokens per second of prefill and of decode.
    fn speeds(&self) -> (Option<f64>, Option<f64>) {
        let f = &self.stats;
        let prefill = per_second(f.prompt, f.first).filter(|_| f.prompt > 0);
        let decode = per_second(f.generated - f.of_first, f.rest);
        (prefill, decode.filter(|_| f.generated > f.of_first))
    }

    fn summary(&self) -> String {
        let f = &self.stats;
        let speed = |s: Option<f64>| s.map_or_else(String::new, |s| format!(" at {s:.1}/s"));
        let (prefill, decode) = self.speeds();
        format!(
            "teff: {} answer{}; tokens: {} read{}, {} kept from before, {} written{}",
            f.answers,
            if f.answers == 1 { "" } else { "s" },
            f.prompt,
            speed(prefill),
            f.cached,
            f.generated,
            speed(decode)
        )
    }

    fn stats(&self, model: &Model) -> String {
        let f = &self.stats;
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
            .count("session_bytes", Some(self.chat.session().memory_requirements().total()))
            .count("model_bytes", Some(model.owned_bytes()))
            .count("weight_bytes", Some(model.weight_bytes()))
            .count("repacked_bytes", Some(model.repacked_bytes()))
            .str("backend", self.chat.session().backend().name())
            .count("threads", Some(self.chat.session().threads()))
            .count("context", Some(self.chat.session().context()))
            .end()
    }
}

/// Reason why an answer ends early.
enum AnswerFailure {
    /// The answer was stopped, after some text or before.
    Cancelled {
        written: bool,
    },
    Chat(ChatError),
    Other(Failure),
}

/// The next line; [`Line::Interrupted`] if Ctrl-C was pressed twice.
fn read_line(interactive: bool) -> Result<Line, Failure> {
    loop {
        if interactive {
            let _ = write!(io::stderr(), "> ");
            // Pressed again during this output, when there was no read yet to interrupt.
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
