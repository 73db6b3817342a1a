//! Arguments that several commands have: the model and how it runs, sampling, and stop strings.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::ArgAction;
use clap::builder::ValueParser;
use teff::kernels::CpuError;
use teff::runtime::available_memory;
use teff::runtime::pool::{MAX_THREADS, allowed_threads};
use teff::runtime::sample::SamplingError;
use teff::runtime::session::default_backend;
use teff::runtime::tokenizer::{self, Tokenizer};
use teff::{
    Cpu, Format, Generate, KvFormat, LoadOptions, Model, Sampling, Session, SessionBuilder,
    SessionOptions, Speculation,
};

use super::args::{Args, option, positional, switch, unexpected, utf8};
use super::machine::Progress;
use super::{Failure, elsewhere, print_error, print_warnings};

/// Allowed numbers of threads per step.
pub(crate) const THREADS: std::ops::RangeInclusive<usize> = 1..=MAX_THREADS;

/// Default context length of commands that generate text, in positions.
const DEFAULT_CONTEXT: usize = 4096;

/// The option that allows more threads than CPUs.
pub(crate) fn oversubscribe() -> clap::Arg {
    switch("oversubscribe", "allow more threads than the process has CPUs, which is slower")
}

/// The model as a positional argument.
pub(crate) fn model_argument() -> clap::Arg {
    positional("MODEL", "a .gguf file or a Hugging Face folder, as for -m")
        .value_hint(clap::ValueHint::AnyPath)
}

/// Adds the options of a model and its session: `-m`, `--no-mmap`, and those of `--threads`,
/// `--ctx`, `--backend` and `--kv` that `known` lists. For `weights`, also `--quantize`, `--head` and
/// `--repack`; for `generates`, `--ctx` has another default.
pub(crate) fn model_options(mut command: clap::Command, known: &[&str]) -> clap::Command {
    let knows = |name: &str| known.contains(&name);
    command = command.next_help_heading("Model and machine").arg(
        option("model", "PATH", "the model: a .gguf file or a Hugging Face folder")
            .short('m')
            .value_hint(clap::ValueHint::AnyPath),
    );
    if knows("threads") {
        command = command
            .arg(
                option(
                    "threads",
                    "N",
                    "threads (default: one per core; at most as many as the CPUs that the process \
                     may run on)",
                )
                .short('t'),
            )
            .arg(oversubscribe());
    }
    if knows("ctx") {
        let help = match knows("generates") {
            true => {
                "context length in tokens, 0 for all of the model's (default: the model's, but at \
                 most 4096)"
            }
            false => "context length in tokens\n(default, and for 0: the model's)",
        };
        command = command.arg(option("ctx", "N", help).short('c').visible_alias("ctx-size"));
    }
    if knows("backend") {
        command = command.arg(option(
            "backend",
            "NAME",
            "instruction set: scalar, avx2, avx512, ... (default: the value of the environment \
             variable TEFF_BACKEND, or this machine's best)",
        ));
    }
    if knows("kv") {
        command = command.arg(option(
            "kv",
            "KIND",
            "format of the KV cache: f32, f16 or q8 (default f32)",
        ));
    }
    if !knows("weights") {
        return command.arg(no_mmap());
    }
    command
        .arg(option(
            "quantize",
            "FORMAT",
            "quantise F32, F16 and BF16 weights to this format when loading",
        ))
        .arg(option(
            "head",
            "FORMAT",
            "quantise an F32, F16 or BF16 head to this format when loading",
        ))
        .arg(option(
            "repack",
            "WHEN",
            "copy weights into the backend's fastest order, if it has one: faster decoding, the \
             same bits, memory of the weights' size: on, off, or auto (the default) for on if the \
             copies fit into half of the memory that the system has available",
        ))
        .arg(no_mmap())
}

fn no_mmap() -> clap::Arg {
    switch("no-mmap", "read the model's files into memory instead of mapping them")
}

/// Adds the options of sampling.
pub(crate) fn sampling_options(command: clap::Command) -> clap::Command {
    command
        .next_help_heading("Sampling")
        .arg(
            option(
                "temperature",
                "T",
                "below 1 favours likely tokens, above 1 flattens, 0 is greedy (default 0.8)",
            )
            .visible_alias("temp"),
        )
        .arg(option("top-k", "K", "keep the K most likely tokens, 0 is off (default 40)"))
        .arg(option(
            "top-p",
            "P",
            "keep the most likely tokens with this total probability, 1 is off (default 0.95)",
        ))
        .arg(option(
            "min-p",
            "P",
            "keep tokens with at least this share of the most likely one's probability, 0 is off \
             (default 0.05)",
        ))
        .arg(option("repeat-penalty", "R", "makes recent tokens less likely, 1 is off (default 1)"))
        .arg(option(
            "presence-penalty",
            "P",
            "subtract P from the logits of recent tokens, 0 is off (default 0)",
        ))
        .arg(option(
            "frequency-penalty",
            "P",
            "subtract P for each time that a token is recent, 0 is off (default 0)",
        ))
        .arg(option(
            "repeat-last-n",
            "N",
            "number of tokens that count as recent, -1 for all (default 64)",
        ))
        .arg(option("seed", "S", "seed of the random numbers (default 0)").short('s'))
        .arg(switch("greedy", "always the most likely token, like --temperature 0"))
        .arg(speculate_option())
}

/// The option of speculation.
pub(crate) fn speculate_option() -> clap::Arg {
    option(
        "speculate",
        "HOW",
        "guess the next tokens and compute them together, where that pays; the text is the same: \
         ngram (as the text went on where its last words stood before), the path of a smaller \
         model of the same vocabulary, or off (the default); ngram:8 always makes 8 guesses",
    )
    .visible_alias("model-draft")
}

/// Adds the options that end a text; `limit` explains `-n`.
pub(crate) fn length_options(command: clap::Command, limit: &str) -> clap::Command {
    command
        .arg(
            option("predict", "N", limit).short('n').visible_alias("n-predict").alias("max-tokens"),
        )
        .arg(
            option(
                "stop",
                "TEXT",
                "end before this text, which isn't written; may be given several times",
            )
            .short('r')
            .visible_alias("reverse-prompt")
            .action(ArgAction::Append)
            .value_parser(ValueParser::os_string()),
        )
}

/// The switch for escapes in the command line's texts.
pub(crate) fn escape_option() -> clap::Arg {
    switch(
        "escape",
        "in texts of the command line, \\n \\r \\t \\\" \\' \\\\ and \\xHH stand for the \
         characters that they name (of a file, nothing is changed)",
    )
    .short('e')
}

/// Guesses that `--speculate ngram:N` may ask for.
const MOST_GUESSES: u8 = 15;

/// The choices of `--repack`.
#[derive(Clone, Copy, PartialEq)]
enum Repack {
    Auto,
    On,
    Off,
}

/// The model and how it runs.
pub(crate) struct CommonArgs {
    model: Option<PathBuf>,
    /// The positional argument that isn't the model.
    pub(crate) text: Option<OsString>,
    pub(crate) threads: Option<usize>,
    pub(crate) oversubscribe: bool,
    pub(crate) ctx: Option<usize>,
    pub(crate) backend: Option<Cpu>,
    pub(crate) kv: Option<KvFormat>,
    speculation: Speculation,
    /// The smaller model that guesses.
    draft: Option<PathBuf>,
    /// The flag with which `ctx` was given.
    ctx_name: String,
    quantize: Option<Format>,
    head: Option<Format>,
    repack: Repack,
    mmap: bool,
}

impl CommonArgs {
    /// Reads them; `command` is named in messages.
    pub(crate) fn read(args: &Args, command: &str) -> Result<CommonArgs, Failure> {
        let (first, second) = (args.os("MODEL").cloned(), args.os("TEXT").cloned());
        let (model, text) = match (args.path("model"), first, second) {
            (Some(_), _, Some(text)) => return Err(unexpected(&text, command)),
            (Some(_), Some(text), _) if !args.knows("TEXT") => {
                return Err(unexpected(&text, command));
            }
            (Some(model), text, None) => (Some(model), text),
            // No model is called so: the text for a command that has a model of its own.
            (None, Some(dash), None) if dash == "-" && args.knows("TEXT") => (None, Some(dash)),
            (None, model, text) => (model.map(PathBuf::from), text),
        };
        // `bench` takes a list, which it reads itself.
        let threads = match command {
            "bench" => None,
            _ => args.count("threads", THREADS)?,
        };
        let kv = match args.text("kv")? {
            Some(name) => Some(KvFormat::from_name(&name).ok_or_else(|| {
                let names = KvFormat::ALL.map(KvFormat::name).join(", ");
                args.refused("kv", &name, &format!("one of {names}"))
            })?),
            None => None,
        };
        let repack = match args.text("repack")?.as_deref() {
            None | Some("auto") => Repack::Auto,
            Some("on") if !cfg!(feature = "repack") => {
                let what = "--repack is not in this build: build with the feature `repack`";
                return Err(Failure::Run(what.into()));
            }
            Some("on") => Repack::On,
            Some("off") => Repack::Off,
            Some(other) => return Err(args.refused("repack", other, "auto, on or off")),
        };
        let mut draft = None;
        let speculation = match args.os("speculate").map(|how| how.to_str()) {
            None | Some(Some("off")) => Speculation::Off,
            Some(Some("ngram")) => Speculation::Ngram,
            Some(_) if args.path("speculate").is_some_and(|path| path.exists()) => {
                draft = args.path("speculate");
                Speculation::Draft
            }
            Some(other) => {
                let other = other.unwrap_or("this path");
                let guesses = other.strip_prefix("ngram:").and_then(|n| n.parse().ok());
                match guesses.filter(|n| (1..=MOST_GUESSES).contains(n)) {
                    Some(n) => Speculation::NgramAlways(n),
                    None => {
                        let allowed = format!(
                            "off, ngram, ngram:1 to ngram:{MOST_GUESSES}, or the path of a model"
                        );
                        return Err(args.refused("speculate", other, &allowed));
                    }
                }
            }
        };
        // These read a model once, if at all.
        let repack = match (repack, command) {
            (Repack::Auto, "inspect" | "imatrix") => Repack::Off,
            (repack, _) => repack,
        };
        Ok(CommonArgs {
            model,
            text,
            threads,
            oversubscribe: args.has("oversubscribe"),
            ctx: args.count("ctx", 0..=usize::MAX)?,
            backend: args.text("backend")?.map(|name| backend(args, &name)).transpose()?,
            kv,
            speculation,
            draft,
            ctx_name: args.name("ctx"),
            quantize: quantized(args, "quantize")?,
            head: quantized(args, "head")?,
            repack,
            mmap: !args.has("no-mmap"),
        })
    }

    /// The path of the model, if one was given.
    pub(crate) fn given(&self) -> Option<&Path> {
        self.model.as_deref()
    }

    /// Path of the model.
    pub(crate) fn path(&self) -> Result<&Path, Failure> {
        let what = "no model: give a .gguf file or a Hugging Face folder";
        self.given().ok_or_else(|| Failure::Usage(what.into()))
    }

    /// Backend that was asked for, or the default one.
    pub(crate) fn own_backend(&self) -> Result<Cpu, Failure> {
        self.backend.map_or_else(default_backend, Ok).map_err(Failure::run)
    }

    /// How the model is loaded.
    pub(crate) fn load_options(&self) -> Result<LoadOptions, Failure> {
        // Not known: too little.
        let half = || available_memory().unwrap_or(0) / 2;
        let (repack, repack_limit) = match self.repack {
            Repack::Off => (None, None),
            Repack::On => (Some(self.own_backend()?), None),
            Repack::Auto => (Some(self.own_backend()?), Some(half())),
        };
        Ok(LoadOptions {
            quantize: self.quantize,
            head: self.head,
            repack,
            repack_limit,
            mmap: self.mmap,
            ..LoadOptions::default()
        })
    }

    /// Opens the model, and prints its warnings.
    pub(crate) fn open(&self) -> Result<Model, Failure> {
        let path = self.path()?;
        elsewhere::check_model(path)?;
        let progress = Progress::show("loading the model");
        let model = Model::open_with(path, &self.load_options()?).map_err(Failure::run)?;
        drop(progress);
        print_warnings(model.warnings());
        if let Ok(tokenizer) = model.tokenizer() {
            print_warnings(tokenizer.warnings());
        }
        Ok(model)
    }

    /// True if texts are to have guesses.
    pub(crate) fn speculates(&self) -> bool {
        self.speculation != Speculation::Off
    }

    /// Opens the smaller model that guesses, if there is one.
    pub(crate) fn open_draft(&self) -> Result<Option<Model>, Failure> {
        let Some(path) = &self.draft else { return Ok(None) };
        elsewhere::check_model(path)?;
        let draft = Model::open_with(path, &self.load_options()?).map_err(Failure::run)?;
        print_warnings(draft.warnings());
        Ok(Some(draft))
    }

    /// The builder of a session of a model and of the smaller one that guesses.
    pub(crate) fn session_builder<'m>(
        model: &'m Model,
        draft: Option<&'m Model>,
        options: &SessionOptions,
    ) -> SessionBuilder<'m> {
        let builder = model.session_builder(options);
        match draft {
            Some(draft) => builder.draft(draft),
            None => builder,
        }
    }

    /// Their session.
    pub(crate) fn session<'m>(
        model: &'m Model,
        draft: Option<&'m Model>,
        options: &SessionOptions,
    ) -> Result<Session<'m>, Failure> {
        CommonArgs::session_builder(model, draft, options).build().map_err(Failure::run)
    }

    /// Opens the model's tokenizer alone; the model may be a mere vocabulary.
    pub(crate) fn open_tokenizer(&self) -> Result<Tokenizer, Failure> {
        let path = self.path()?;
        elsewhere::check_model(path)?;
        let progress = Progress::show("loading the tokenizer");
        let tokenizer = tokenizer::open(path).map_err(Failure::run)?;
        drop(progress);
        print_warnings(tokenizer.warnings());
        Ok(tokenizer)
    }

    /// Says if a session gets fewer threads than were asked for.
    pub(crate) fn warn_of_fewer(&self, threads: usize) {
        if let (_, Some(fewer)) = allowed_threads(threads, self.oversubscribe) {
            let (asked, used) = (fewer.asked, fewer.used);
            print_error(&format!(
                "warning: --threads is {asked}, but this process may run on {used} CPUs: {used} \
                 are used (--oversubscribe for more)"
            ));
        }
    }

    /// Session options for this model.
    pub(crate) fn options(&self, model: &Model) -> Result<SessionOptions, Failure> {
        let most = model.spec().context as usize;
        if let Some(ctx) = self.ctx.filter(|&n| n > most) {
            return Err(Failure::Run(format!(
                "{} is {ctx}, but the model's context is {most}: use less",
                self.ctx_name
            )));
        }
        if let Some(threads) = self.threads {
            self.warn_of_fewer(threads);
        }
        let mut options = SessionOptions {
            context: self.ctx.map(|n| if n == 0 { most } else { n }),
            backend: self.backend,
            threads: self.threads,
            oversubscribe: self.oversubscribe,
            ..SessionOptions::default()
        };
        options.kv = self.kv.unwrap_or(options.kv);
        options.speculation = self.speculation;
        Ok(options)
    }

    /// Session options for generating text: without `--ctx` at most [`DEFAULT_CONTEXT`] positions,
    /// since a cache for the model's full context may take many gigabytes.
    pub(crate) fn text_options(&self, model: &Model) -> Result<SessionOptions, Failure> {
        let options = self.options(model)?;
        let most = (model.spec().context as usize).min(DEFAULT_CONTEXT);
        Ok(SessionOptions { context: options.context.or(Some(most)), ..options })
    }
}

/// The options of generating text; `most` is the default for `-n`, if there is one.
pub(crate) fn generate(args: &Args, most: Option<usize>) -> Result<Generate, Failure> {
    const NUMBER: &str = "a number";
    let mut sampling = Sampling::default();
    let s = &mut sampling;
    s.temperature = args.value("temperature", NUMBER)?.unwrap_or(s.temperature);
    s.top_k = args.count("top-k", 0..=usize::MAX)?.unwrap_or(s.top_k);
    s.top_p = args.value("top-p", NUMBER)?.unwrap_or(s.top_p);
    s.min_p = args.value("min-p", NUMBER)?.unwrap_or(s.min_p);
    s.repeat_penalty = args.value("repeat-penalty", NUMBER)?.unwrap_or(s.repeat_penalty);
    s.presence_penalty = args.value("presence-penalty", NUMBER)?.unwrap_or(s.presence_penalty);
    s.frequency_penalty = args.value("frequency-penalty", NUMBER)?.unwrap_or(s.frequency_penalty);
    s.repeat_last_n = recent(args)?.unwrap_or(s.repeat_last_n);
    s.seed = seed(args)?.unwrap_or(s.seed);
    sampling.validate().map_err(|e| {
        Failure::Usage(match e {
            SamplingError::Parameter { name, got, allowed } => {
                let flag = args.name(&name.replace('_', "-"));
                format!("{flag} is {got}: it must be {allowed}")
            }
            e => e.to_string(),
        })
    })?;
    if args.has("greedy") {
        sampling.temperature = 0.0;
    }
    let mut generate =
        Generate::default().with_sampling(sampling).with_ignore_eos(args.has("ignore-eos"));
    generate.max_tokens = limit(args)?.unwrap_or(most);
    generate.stop = stops(args)?;
    Ok(generate)
}

/// The value of `-n`: `Some(None)` for -1, no limit.
fn limit(args: &Args) -> Result<Option<Option<usize>>, Failure> {
    let Some(text) = args.text("predict")? else { return Ok(None) };
    let allowed = "a whole number from 0 up, or -1 for no limit";
    match text.trim() {
        "-1" => Ok(Some(None)),
        n => n.parse().map(|n| Some(Some(n))).map_err(|_| args.refused("predict", &text, allowed)),
    }
}

/// The value of `--repeat-last-n`: `usize::MAX` for -1, all tokens.
fn recent(args: &Args) -> Result<Option<usize>, Failure> {
    match args.text("repeat-last-n")?.as_deref().map(str::trim) {
        Some("-1") => Ok(Some(usize::MAX)),
        _ => args.value("repeat-last-n", "a whole number from 0 up, or -1 for all tokens"),
    }
}

fn seed(args: &Args) -> Result<Option<u64>, Failure> {
    let allowed = "a whole number from 0 to 2^64 - 1";
    match args.text("seed")?.as_deref().map(str::trim) {
        Some("-1") => Err(args.refused(
            "seed",
            "-1",
            &format!(
                "{allowed} (each seed gives one text; for another each time, draw it: $RANDOM)"
            ),
        )),
        _ => args.value("seed", allowed),
    }
}

/// The stop strings, of which none is empty.
fn stops(args: &Args) -> Result<Vec<String>, Failure> {
    let stops = args.texts("stop")?;
    if stops.iter().any(String::is_empty) {
        return Err(args.refused("stop", "", "a text of at least one character"));
    }
    stops.into_iter().map(|stop| escaped(args, stop)).collect()
}

/// `text`, in which escapes were replaced if `--escape` was given.
pub(crate) fn escaped(args: &Args, text: String) -> Result<String, Failure> {
    if args.has("escape") { Ok(unescape(&text)?) } else { Ok(text) }
}

/// Replaces escapes by what they stand for; those that are unknown stay as they are.
fn unescape(text: &str) -> Result<String, Failure> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        let (value, used) = match (byte, after) {
            (b'\\', [b'n', ..]) => (b'\n', 1),
            (b'\\', [b'r', ..]) => (b'\r', 1),
            (b'\\', [b't', ..]) => (b'\t', 1),
            (b'\\', [c @ (b'"' | b'\'' | b'\\'), ..]) => (*c, 1),
            (b'\\', [b'x', high, low, ..]) => match (digit(*high), digit(*low)) {
                (Some(high), Some(low)) => (16 * high + low, 3),
                _ => (byte, 0),
            },
            _ => (byte, 0),
        };
        out.push(value);
        rest = &rest[used..];
    }
    String::from_utf8(out).map_err(|_| {
        let what = "the bytes named by its escapes are not UTF-8";
        Failure::Usage(format!("`{text}`: {what}"))
    })
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).map(|d| d as u8)
}

/// The text that an option gives, escapes replaced.
pub(crate) fn text_option(args: &Args, id: &str) -> Result<Option<String>, Failure> {
    args.text(id)?.map(|text| escaped(args, text)).transpose()
}

/// The positional text, escapes replaced; `None` without one.
pub(crate) fn positional_text(args: &Args, text: &OsString) -> Result<String, Failure> {
    escaped(args, utf8("TEXT", text)?)
}

/// The format that the option names, if matrices can be quantised to it.
fn quantized(args: &Args, id: &str) -> Result<Option<Format>, Failure> {
    let Some(name) = args.text(id)? else { return Ok(None) };
    let quantized = Format::ALL.into_iter().filter(|f| f.is_quantized() && f.is_built());
    let format = quantized.clone().find(|f| f.name().eq_ignore_ascii_case(&name));
    let names: Vec<_> = quantized.map(Format::name).collect();
    format.map(Some).ok_or_else(|| args.refused(id, &name, &format!("one of {}", names.join(", "))))
}

/// Names of the backends that this machine can run.
pub(crate) fn backends() -> Vec<&'static str> {
    Cpu::NAMES.into_iter().filter(|n| Cpu::by_name(n).is_ok()).collect()
}

fn backend(args: &Args, name: &str) -> Result<Cpu, Failure> {
    let flag = args.name("backend");
    Cpu::by_name(name).map_err(|e| match e {
        CpuError::Unknown => Failure::Usage(format!("{flag} is `{name}`: {e}")),
        _ => Failure::Run(format!("{flag} is `{name}`: {e}")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes() {
        let text = |t: &str| unescape(t).unwrap();
        assert_eq!(text(r"a\nb\tc\\n\'\x41\q\"), "a\nb\tc\\n'A\\q\\");
        assert_eq!(text(r"\xc3\xa9 \x4"), "é \\x4");
        assert!(unescape(r"\xff").is_err());
    }
}
