//! Command-line parsing: values are validated as they are read, and errors name what was refused.

use std::ffi::OsString;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;

use teff::kernels::CpuError;
use teff::runtime::pool::MAX_THREADS;
use teff::runtime::sample::SamplingError;
use teff::runtime::session::default_backend;
use teff::runtime::tokenizer::Tokenizer;
use teff::{Cpu, Format, Generate, KvFormat, LoadOptions, Model, Sampling, SessionOptions};

use super::machine::Progress;
use super::{Failure, print_warnings};

/// An argument.
pub(crate) enum Arg {
    /// An option with its dashes, such as `-n` or `--ctx`.
    Flag(String),
    /// A positional argument.
    Positional(OsString),
}

/// The arguments still to be read.
pub(crate) struct Args(lexopt::Parser);

fn usage(e: impl Display) -> Failure {
    Failure::Usage(e.to_string())
}

impl Args {
    pub(crate) fn from_env() -> Args {
        Args(lexopt::Parser::from_env())
    }

    /// The next argument; [`Failure::Help`] for `--help`.
    pub(crate) fn next(&mut self) -> Result<Option<Arg>, Failure> {
        Ok(match self.0.next().map_err(usage)? {
            None => None,
            Some(lexopt::Arg::Short('h') | lexopt::Arg::Long("help")) => return Err(Failure::Help),
            Some(lexopt::Arg::Short(c)) => Some(Arg::Flag(format!("-{c}"))),
            Some(lexopt::Arg::Long(name)) => Some(Arg::Flag(format!("--{name}"))),
            Some(lexopt::Arg::Value(word)) => Some(Arg::Positional(word)),
        })
    }

    /// The value of the current flag as a path.
    pub(crate) fn path(&mut self) -> Result<PathBuf, Failure> {
        Ok(self.0.value().map_err(usage)?.into())
    }

    /// The value of `flag`.
    pub(crate) fn text(&mut self, flag: &str) -> Result<String, Failure> {
        let value = self.0.value().map_err(usage)?;
        value.into_string().map_err(|v| {
            Failure::Usage(format!("{flag} is `{}`: it must be UTF-8", v.to_string_lossy()))
        })
    }

    /// The parsed value of `flag`; `allowed` describes the valid ones.
    pub(crate) fn parse<T: FromStr>(&mut self, flag: &str, allowed: &str) -> Result<T, Failure> {
        let text = self.text(flag)?;
        text.parse().map_err(|_| refused(flag, &text, allowed))
    }

    /// The value of `flag` as an integer.
    pub(crate) fn count(
        &mut self,
        flag: &str,
        range: RangeInclusive<usize>,
    ) -> Result<usize, Failure> {
        let text = self.text(flag)?;
        count(flag, &text, range)
    }

    /// The value of `flag` as a comma-separated list of integers.
    pub(crate) fn counts(
        &mut self,
        flag: &str,
        range: RangeInclusive<usize>,
    ) -> Result<Vec<usize>, Failure> {
        let text = self.text(flag)?;
        text.split(',').map(|part| count(flag, part, range.clone())).collect()
    }

    /// The value of `flag` as a comma-separated list of token ids, optionally in JSON's brackets.
    pub(crate) fn ids(&mut self, flag: &str) -> Result<Vec<u32>, Failure> {
        let text = self.text(flag)?;
        let list = text.trim();
        let list = list.strip_prefix('[').and_then(|l| l.strip_suffix(']')).unwrap_or(list);
        if list.trim().is_empty() {
            return Ok(Vec::new());
        }
        let id = |part: &str| {
            let allowed = "token ids (whole numbers from 0 up) with commas between";
            part.trim().parse().map_err(|_| refused(&format!("a part of {flag}"), part, allowed))
        };
        list.split(',').map(id).collect()
    }
}

fn refused(flag: &str, value: &str, allowed: &str) -> Failure {
    Failure::Usage(format!("{flag} is `{value}`: it must be {allowed}"))
}

fn count(flag: &str, text: &str, range: RangeInclusive<usize>) -> Result<usize, Failure> {
    let value = text.trim().parse().ok().filter(|n| range.contains(n));
    value.ok_or_else(|| {
        let (low, high) = (range.start(), range.end());
        let allowed = match *high {
            usize::MAX => format!("a whole number from {low} up"),
            _ => format!("a whole number from {low} to {high}"),
        };
        refused(flag, text, &allowed)
    })
}

/// Allowed numbers of threads per step.
pub(crate) const THREADS: RangeInclusive<usize> = 1..=MAX_THREADS;

/// Default context length of commands that generate text, in positions.
const DEFAULT_CONTEXT: usize = 4096;

/// Options shared by several commands.
#[derive(Default)]
pub(crate) struct CommonArgs {
    model: Option<PathBuf>,
    pub(crate) threads: Option<usize>,
    pub(crate) ctx: Option<usize>,
    pub(crate) backend: Option<Cpu>,
    pub(crate) kv: Option<KvFormat>,
    quantize: Option<Format>,
    head: Option<Format>,
    repack: bool,
}

impl CommonArgs {
    /// Reads all arguments. `own` consumes the command's own options and returns true for them; the
    /// others are the model and the options listed in `known`.
    pub(crate) fn read(
        &mut self,
        args: &mut Args,
        known: &[&str],
        mut own: impl FnMut(&str, &mut Args) -> Result<bool, Failure>,
    ) -> Result<(), Failure> {
        while let Some(arg) = args.next()? {
            if let Arg::Flag(flag) = &arg
                && own(flag, args)?
            {
                continue;
            }
            self.take(arg, args, known)?;
        }
        Ok(())
    }

    /// Consumes `arg`, which the command itself doesn't know: the model, or one of the options
    /// listed in `known`.
    pub(crate) fn take(
        &mut self,
        arg: Arg,
        args: &mut Args,
        known: &[&str],
    ) -> Result<(), Failure> {
        let flag = match arg {
            Arg::Positional(word) if self.model.is_none() => {
                self.model = Some(word.into());
                return Ok(());
            }
            Arg::Positional(word) => {
                let word = word.to_string_lossy();
                let what = format!("unexpected argument `{word}`: the model was given before");
                return Err(Failure::Usage(what));
            }
            Arg::Flag(flag) => flag,
        };
        match flag.as_str() {
            // Commands that can quantise can also quantise the head.
            "--head" if known.contains(&"--quantize") => {
                self.head = Some(quantized(&flag, &args.text(&flag)?)?);
            }
            f if !known.contains(&f) => {
                return Err(Failure::Usage(format!("unknown option {flag}")));
            }
            "--threads" => self.threads = Some(args.count(&flag, THREADS)?),
            "--ctx" => self.ctx = Some(args.count(&flag, 1..=usize::MAX)?),
            "--backend" => self.backend = Some(backend(&flag, &args.text(&flag)?)?),
            "--kv" => {
                let name = args.text(&flag)?;
                let names = KvFormat::ALL.map(KvFormat::name).join(", ");
                let format = KvFormat::from_name(&name);
                self.kv =
                    Some(format.ok_or_else(|| refused(&flag, &name, &format!("one of {names}")))?);
            }
            "--repack" if !cfg!(feature = "repack") => {
                let what = "is not in this build: build with the feature `repack`";
                return Err(Failure::Run(format!("{flag} {what}")));
            }
            "--repack" => self.repack = true,
            _ => self.quantize = Some(quantized(&flag, &args.text(&flag)?)?),
        }
        Ok(())
    }

    /// Path of the model.
    pub(crate) fn path(&self) -> Result<&PathBuf, Failure> {
        let what = "no model: give a .gguf file or a Hugging Face folder";
        self.model.as_ref().ok_or_else(|| Failure::Usage(what.into()))
    }

    /// Opens the model, and prints its warnings.
    pub(crate) fn open(&self) -> Result<Model, Failure> {
        let path = self.path()?;
        let progress = Progress::show("loading the model");
        let repack = match self.repack {
            true => Some(self.backend.map_or_else(default_backend, Ok).map_err(Failure::run)?),
            false => None,
        };
        let options = LoadOptions {
            quantize: self.quantize,
            head: self.head,
            repack,
            ..LoadOptions::default()
        };
        let model = Model::open_with(path, &options).map_err(Failure::run)?;
        drop(progress);
        print_warnings(model.warnings());
        Ok(model)
    }

    /// Opens the model's tokenizer alone; the model may be a mere vocabulary.
    pub(crate) fn open_tokenizer(&self) -> Result<Tokenizer, Failure> {
        let _progress = Progress::show("loading the tokenizer");
        Tokenizer::open(self.path()?).map_err(Failure::run)
    }

    /// Session options for this model.
    pub(crate) fn options(&self, model: &Model) -> Result<SessionOptions, Failure> {
        let most = model.spec().context;
        if let Some(ctx) = self.ctx.filter(|&n| n > most as usize) {
            return Err(Failure::Run(format!(
                "--ctx is {ctx}, but the model's context is {most}: use less"
            )));
        }
        let mut options = SessionOptions {
            context: self.ctx,
            backend: self.backend,
            threads: self.threads,
            ..SessionOptions::default()
        };
        options.kv = self.kv.unwrap_or(options.kv);
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

/// Sampling options and the token limit, shared by the commands that generate text.
#[derive(Default)]
pub(crate) struct SamplingArgs {
    sampling: Sampling,
    greedy: bool,
    max_tokens: Option<usize>,
}

impl SamplingArgs {
    /// Consumes the value of `flag`, if that is one of these options.
    pub(crate) fn take(&mut self, flag: &str, args: &mut Args) -> Result<bool, Failure> {
        const NUMBER: &str = "a number";
        let s = &mut self.sampling;
        match flag {
            "-n" => self.max_tokens = Some(args.count(flag, 0..=usize::MAX)?),
            "--temperature" => s.temperature = args.parse(flag, NUMBER)?,
            "--top-k" => s.top_k = args.count(flag, 0..=usize::MAX)?,
            "--top-p" => s.top_p = args.parse(flag, NUMBER)?,
            "--min-p" => s.min_p = args.parse(flag, NUMBER)?,
            "--repeat-penalty" => s.repeat_penalty = args.parse(flag, NUMBER)?,
            "--repeat-last-n" => s.repeat_last_n = args.count(flag, 0..=usize::MAX)?,
            "--seed" => s.seed = args.parse(flag, "a whole number from 0 to 2^64 - 1")?,
            "--greedy" => self.greedy = true,
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// The validated options; `max_tokens` is the default for `-n`.
    pub(crate) fn generate(self, max_tokens: Option<usize>) -> Result<Generate, Failure> {
        let mut sampling = self.sampling;
        sampling.validate().map_err(|e| {
            Failure::Usage(match e {
                SamplingError::Parameter { name, got, allowed } => {
                    format!("--{} is {got}: it must be {allowed}", name.replace('_', "-"))
                }
                e => e.to_string(),
            })
        })?;
        if self.greedy {
            sampling.temperature = 0.0;
        }
        Ok(Generate { sampling, max_tokens: self.max_tokens.or(max_tokens), ignore_eos: false })
    }
}

/// The format named `name`, if matrices can be quantised to it.
fn quantized(flag: &str, name: &str) -> Result<Format, Failure> {
    let quantized = Format::ALL.into_iter().filter(|f| f.is_quantized() && f.is_built());
    let format = quantized.clone().find(|f| f.name().eq_ignore_ascii_case(name));
    let names: Vec<_> = quantized.map(Format::name).collect();
    format.ok_or_else(|| refused(flag, name, &format!("one of {}", names.join(", "))))
}

/// Names of the backends that this machine can run.
pub(crate) fn backends() -> Vec<&'static str> {
    Cpu::NAMES.into_iter().filter(|n| Cpu::by_name(n).is_ok()).collect()
}

fn backend(flag: &str, name: &str) -> Result<Cpu, Failure> {
    Cpu::by_name(name).map_err(|e| match e {
        CpuError::Unknown => Failure::Usage(format!("{flag} is `{name}`: {e}")),
        CpuError::Missing => Failure::Run(format!("{flag} is `{name}`: {e}")),
    })
}
