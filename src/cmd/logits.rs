//! `teff logits`: writes the logits of all tokens of a text to a file.

use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use teff::{LogitsFor, Model, Session, SessionOptions};

use super::args::{Arg, Args, CommonArgs};
use super::machine::Progress;
use super::{Command, Failure};

pub(crate) const COMMAND: Command = Command {
    name: "logits",
    about: "writes the logits of all tokens of a text to a file",
    help: HELP,
    run,
};

const HELP: &str = "\
usage: teff logits MODEL (--tokens 1,2,3 | --tokens-file F.i32) --out F.f32 [OPTIONS]

Writes the logits after every token as little-endian f32 [tokens, vocabulary], without a header. The
bits are the same for every chunk size, number of threads and backend. The file appears only when it
is complete.

  --tokens 1,2,3         the tokens
  --tokens-file F        a file with the tokens, as little-endian 32-bit integers
  --out F                the file to write
  --chunk N              tokens per step (default 32); memory holds the logits of one chunk
  --threads N            threads (default: one per core; at most as many as the CPUs that the
                         process may run on)
  --oversubscribe        allow more threads than that, which is slower
  --backend NAME         instruction set: scalar, avx2, avx512, ... (default: the value of the
                         environment variable TEFF_BACKEND, or this machine's best)
  --kv f32|f16|q8        format of the KV cache (default f32)
  --quantize FORMAT      quantise F32, F16 and BF16 weights to this format when loading
  --head FORMAT          quantise an F32, F16 or BF16 head to this format when loading
  --repack               copy weights into the backend's fastest order, if it has one: faster
                         decoding, the same bits, additional memory of the weights' size
";

/// Default number of tokens per step, which bounds the rows of a large vocabulary.
const DEFAULT_CHUNK: usize = 32;

enum Tokens {
    Given(Vec<u32>),
    File(PathBuf),
}

fn run(args: &mut Args) -> Result<(), Failure> {
    const COMMON: [&str; 5] = ["--threads", "--backend", "--kv", "--quantize", "--repack"];
    let mut common = CommonArgs::default();
    let (mut given, mut file, mut out, mut chunk) = (None, None, None, DEFAULT_CHUNK);
    while let Some(arg) = args.next()? {
        match arg {
            Arg::Flag(f) if f == "--tokens" => given = Some(args.ids(&f)?),
            Arg::Flag(f) if f == "--tokens-file" => file = Some(args.path()?),
            Arg::Flag(f) if f == "--out" => out = Some(args.path()?),
            Arg::Flag(f) if f == "--chunk" => chunk = args.count(&f, 1..=usize::MAX)?,
            arg => common.take(arg, args, &COMMON)?,
        }
    }
    let path = common.path()?;
    let tokens = match (given, file) {
        (Some(tokens), None) if tokens.is_empty() => {
            return Err(Failure::Usage("--tokens is empty: give at least one token".into()));
        }
        (Some(tokens), None) => Tokens::Given(tokens),
        (None, Some(file)) => Tokens::File(file),
        _ => return Err(Failure::Usage("give either --tokens or --tokens-file".into())),
    };
    let out = out.ok_or_else(|| Failure::Usage("no file to write: give --out F".into()))?;
    let target = Target::new(&out, path)?;

    let model = common.open()?;
    let context = model.spec().context as usize;
    let tokens = match tokens {
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
enum Stopped {
    Write(io::Error),
    Run(Failure),
}

/// An output file that is written completely or not at all.
struct Target {
    /// The path as given, for messages.
    asked: PathBuf,
    /// The resolved path.
    file: PathBuf,
    /// The temporary path during writing; `None` for a device or a pipe.
    part: Option<PathBuf>,
}

impl Target {
    /// A target at `path`, which must not be the model.
    fn new(path: &Path, model: &Path) -> Result<Target, Failure> {
        // A symbolic link stands for the file it points to.
        let file = fs::canonicalize(path).unwrap_or_else(|_| path.into());
        if fs::canonicalize(model).is_ok_and(|m| m == file) {
            let what = "is the model itself: write the logits somewhere else";
            return Err(Failure::Run(format!("--out {}: {what}", path.display())));
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

    fn write(&self, fill: impl FnOnce(File) -> Result<(), Stopped>) -> Result<(), Failure> {
        let bad = |e: io::Error| match e.kind() {
            io::ErrorKind::BrokenPipe => Failure::Closed,
            _ => Failure::Run(format!("{}: can't be written: {e}", self.asked.display())),
        };
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
