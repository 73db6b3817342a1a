//! `teff logits`: writes the logits of all tokens of a text to a file.

use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use teff::runtime::tokenizer::Specials;
use teff::{LogitsFor, Model, Session, SessionOptions};

use super::args::{Args, file_option, ids, option};
use super::common::{CommonArgs, model_argument, model_options, text_option};
use super::machine::Progress;
use super::tokenize::no_tokenizer;
use super::{Command, Failure, prompt};

pub(crate) const COMMAND: Command = Command {
    name: "logits",
    about: "writes the logits of all tokens of a text to a file",
    usage: &["logits MODEL (--text S | --file F | --tokens 1,2,3 | --tokens-file F) --out F [OPTIONS]"],
    details: "\
Writes the logits after every token as little-endian f32 [tokens, vocabulary], without a header. The \
bits are the same for every chunk size, number of threads and backend. The file appears only when it \
is complete.

A text becomes tokens as a prompt of `teff run` does: behind the beginning-of-text token, if the \
model has one, and without names of special tokens.",
    notes: "",
    args,
    run,
};

fn args(command: clap::Command) -> clap::Command {
    let command = command
        .arg(model_argument())
        .next_help_heading("Text and file")
        .arg(option("text", "TEXT", "the text").short('p').visible_alias("prompt"))
        .arg(
            file_option("file", "F", "a file with the text, in UTF-8; - for standard input")
                .short('f'),
        )
        .arg(option("tokens", "1,2,3", "the tokens"))
        .arg(file_option(
            "tokens-file",
            "F",
            "a file with the tokens, as little-endian 32-bit integers",
        ))
        .arg(file_option("out", "F", "the file to write").short('o'))
        .arg(option(
            "chunk",
            "N",
            "tokens per step (default 32); memory holds the logits of one chunk",
        ));
    model_options(command, &["threads", "backend", "kv", "weights"])
}

/// Default number of tokens per step, which bounds the rows of a large vocabulary.
const DEFAULT_CHUNK: usize = 32;

enum Tokens {
    Text(String),
    Given(Vec<u32>),
    File(PathBuf),
}

fn run(args: &Args) -> Result<(), Failure> {
    let common = CommonArgs::read(args, "logits")?;
    let path = common.path()?;
    let text = text_option(args, "text")?;
    let tokens = args.text("tokens")?.map(|t| ids(&args.name("tokens"), &t)).transpose()?;
    let chunk = args.count("chunk", 1..=usize::MAX)?.unwrap_or(DEFAULT_CHUNK);
    let mut all = Vec::new();
    all.extend(text.map(Tokens::Text));
    all.extend(tokens.map(Tokens::Given));
    all.extend(args.path("tokens-file").map(Tokens::File));
    let file = args.path("file");
    if all.len() + usize::from(file.is_some()) != 1 {
        let what = "give one of --text, --file, --tokens and --tokens-file";
        return Err(Failure::Usage(what.into()));
    }
    if let Some(Tokens::Given(tokens)) = all.first()
        && tokens.is_empty()
    {
        return Err(Failure::Usage("--tokens is empty: give at least one token".into()));
    }
    let out = args.path("out");
    let out = out.ok_or_else(|| Failure::Usage("no file to write: give --out F".into()))?;
    if out == Path::new("-") {
        let what = "--out is `-`: name a file; where the system has it, /dev/stdout is a pipe";
        return Err(Failure::Usage(what.into()));
    }
    let target = Target::new(&out, path)?;
    let tokens = match (all.pop(), file) {
        (Some(tokens), _) => tokens,
        (None, Some(file)) if file == Path::new("-") => Tokens::Text(prompt::input()?),
        (None, file) => Tokens::Text(prompt::of_file(&file.unwrap_or_default())?),
    };

    let model = common.open()?;
    let context = model.spec().context as usize;
    let tokens = match tokens {
        Tokens::Text(text) => tokens_of(&model, &text)?,
        Tokens::Given(tokens) => tokens,
        Tokens::File(file) => read_tokens(&file, context)?,
    };
    check(&tokens, &model)?;
    let chunk = chunk.min(tokens.len());
    let options = common.options(&model)?;
    let options =
        SessionOptions { context: Some(tokens.len()), batch: chunk, logits: chunk, ..options };
    let mut session = model.session(&options).map_err(Failure::run)?;
    target.write(|file| compute(&mut session, &tokens, chunk, file))
}

/// The tokens of a text, as a prompt has them.
fn tokens_of(model: &Model, text: &str) -> Result<Vec<u32>, Failure> {
    let tokenizer = model.tokenizer().map_err(no_tokenizer)?;
    let mut tokens = Vec::new();
    tokens.extend(tokenizer.bos().filter(|_| tokenizer.add_bos()));
    tokens.extend(tokenizer.encode(text, Specials::Ignore).map_err(Failure::run)?);
    match tokens.is_empty() {
        true => Err(Failure::Run("the text is empty: it must have at least one token".into())),
        false => Ok(tokens),
    }
}

/// Refuses input that the model can't take before anything is computed.
fn check(tokens: &[u32], model: &Model) -> Result<(), Failure> {
    let (vocab, context) = (model.spec().vocab, model.spec().context);
    if tokens.len() > context as usize {
        let n = tokens.len();
        return Err(Failure::Run(format!(
            "{n} tokens, but the model's context is {context}: give fewer"
        )));
    }
    match tokens.iter().position(|&t| t >= vocab) {
        Some(i) => Err(Failure::Run(format!(
            "token {} (at index {i}) is not in the vocabulary of {vocab}",
            tokens[i]
        ))),
        None => Ok(()),
    }
}

/// Reads the tokens of a file, at most one more than `context`.
fn read_tokens(path: &Path, context: usize) -> Result<Vec<u32>, Failure> {
    let bad = |what: String| Failure::Run(format!("{}: {what}", path.display()));
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|f| f.take((context as u64 + 1) * 4).read_to_end(&mut bytes))
        .map_err(|e| bad(format!("can't be read: {e}")))?;
    let (words, rest) = bytes.as_chunks::<4>();
    if bytes.is_empty() {
        return Err(bad("the file is empty: it must hold at least one token".into()));
    }
    if words.len() > context {
        return Err(bad(format!("more tokens than the model's context of {context}: give fewer")));
    }
    if !rest.is_empty() {
        let n = bytes.len();
        return Err(bad(format!("its {n} bytes are not whole 32-bit integers")));
    }
    let token = |(i, word): (usize, &[u8; 4])| {
        let id = i32::from_le_bytes(*word);
        u32::try_from(id).map_err(|_| bad(format!("token {id} at offset {} is negative", i * 4)))
    };
    words.iter().enumerate().map(token).collect()
}

fn compute(
    session: &mut Session<'_>,
    tokens: &[u32],
    chunk: usize,
    file: File,
) -> Result<(), Stopped> {
    let mut out = BufWriter::new(file);
    let mut progress = Progress::show("computing");
    let mut done = 0;
    for part in tokens.chunks(chunk) {
        let logits =
            session.eval(part, LogitsFor::All).map_err(|e| Stopped::Run(Failure::run(e)))?;
        for x in logits {
            out.write_all(&x.to_le_bytes()).map_err(Stopped::Write)?;
        }
        done += part.len();
        progress.update(&format!("computing: {done} of {} tokens", tokens.len()));
    }
    out.flush().map_err(Stopped::Write)
}

/// Reason why no file is written.
pub(crate) enum Stopped {
    Write(io::Error),
    Run(Failure),
}

/// An output file that is written completely or not at all.
pub(crate) struct Target {
    /// The path as given, for messages.
    asked: PathBuf,
    /// The resolved path.
    file: PathBuf,
    /// The temporary path during writing; `None` for a device or a pipe.
    part: Option<PathBuf>,
}

impl Target {
    /// A target at `path`, which must not be the model.
    pub(crate) fn new(path: &Path, model: &Path) -> Result<Target, Failure> {
        Target::named("--out", path, model)
    }

    /// The same for a path given by the option `flag`.
    pub(crate) fn named(flag: &str, path: &Path, model: &Path) -> Result<Target, Failure> {
        // A symbolic link stands for the file it points to.
        let file = fs::canonicalize(path).unwrap_or_else(|_| path.into());
        if fs::canonicalize(model).is_ok_and(|m| m == file) {
            let what = "is the model itself: write to another file";
            return Err(Failure::Run(format!("{flag} {}: {what}", path.display())));
        }
        let part = match fs::metadata(&file) {
            Ok(meta) if !meta.is_file() => None,
            _ => {
                let mut part = file.clone().into_os_string();
                part.push(".part");
                Some(part.into())
            }
        };
        Ok(Target { asked: path.into(), file, part })
    }

    /// Tries whether the file can be written, before much is computed for it.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        match &self.part {
            Some(part) => {
                File::create(part).map_err(|e| self.failure(e))?;
                let _ = fs::remove_file(part);
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn failure(&self, e: io::Error) -> Failure {
        match e.kind() {
            io::ErrorKind::BrokenPipe => Failure::Closed,
            _ => Failure::Run(format!("{}: can't be written: {e}", self.asked.display())),
        }
    }

    pub(crate) fn write(
        &self,
        fill: impl FnOnce(File) -> Result<(), Stopped>,
    ) -> Result<(), Failure> {
        let bad = |e| self.failure(e);
        let Some(part) = &self.part else {
            let file = File::options().write(true).open(&self.file).map_err(bad)?;
            return fill(file).map_err(|e| match e {
                Stopped::Write(e) => bad(e),
                Stopped::Run(failure) => failure,
            });
        };
        let file = File::create(part).map_err(bad)?;
        let filled = fill(file).and_then(|()| fs::rename(part, &self.file).map_err(Stopped::Write));
        filled.map_err(|e| {
            // An incomplete file must not look complete; if it can't be removed, its name shows it.
            let _ = fs::remove_file(part);
            match e {
                Stopped::Write(e) => bad(e),
                Stopped::Run(failure) => failure,
            }
        })
    }
}
