//! Reading the command line: values are checked where they are read, and what is refused is named.

use std::ffi::OsString;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;

use teff::kernels::CpuError;
use teff::runtime::pool::MAX_THREADS;
use teff::runtime::sample::SamplingError;
use teff::runtime::session::default_backend;
use teff::{Cpu, Format, Generate, KvFormat, LoadOptions, Model, Sampling, SessionOptions};

use super::Failure;
use super::machine::Progress;

/// An argument.
pub(crate) enum Arg {
    /// An option with its dashes, such as `-n` or `--ctx`.
    Flag(String),
    /// Anything else.
    Word(OsString),
}

/// The arguments that are still to be read.
pub(crate) struct Args(lexopt::Parser);

fn usage(e: impl Display) -> Failure {
    Failure::Usage(e.to_string())
}

impl Args {
    pub(crate) fn from_env() -> Args {
        Args(lexopt::Parser::from_env())
    }

    /// The next argument; [`Failure::Help`] where that is `--help`.
    pub(crate) fn next(&mut self) -> Result<Option<Arg>, Failure> {
        Ok(match self.0.next().map_err(usage)? {
            None => None,
            Some(lexopt::Arg::Short('h') | lexopt::Arg::Long("help")) => return Err(Failure::Help),
            Some(lexopt::Arg::Short(c)) => Some(Arg::Flag(format!("-{c}"))),
            Some(lexopt::Arg::Long(name)) => Some(Arg::Flag(format!("--{name}"))),
            Some(lexopt::Arg::Value(word)) => Some(Arg::Word(word)),
        })
    }

    /// The value of `flag` as a path.
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

    /// The value of `flag` as something that must be `allowed`.
    pub(crate) fn parse<T: FromStr>(&mut self, flag: &str, allowed: &str) -> Result<T, Failure> {
        let text = self.text(flag)?;
        text.parse().map_err(|_| refused(flag, &text, allowed))
    }

    /// The value of `flag` as a whole number.
    pub(crate) fn count(
        &mut self,
        flag: &str,
        range: RangeInclusive<usize>,
    ) -> Result<usize, Failure> {
        let text = self.text(flag)?;
        count(flag, &text, range)
    }

    /// The value of `flag` as whole numbers with commas between.
    pub(crate) fn counts(
        &mut self,
        flag: &str,
        range: RangeInclusive<usize>,
    ) -> Result<Vec<usize>, Failure> {
        let text = self.text(flag)?;
        text.split(',').map(|part| count(flag, part, range.clone())).collect()
    }

    /// The value of `flag` as token ids with commas between, also in the brackets of a JSON array.
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

/// The threads that a step may have.
pub(crate) const THREADS: RangeInclusive<usize> = 1..=MAX_THREADS;

/// Backends that other builds of Teff have or will have: not here is not the same as unheard of.
const ELSEWHERE: [&str; 6] = ["avxvnni", "amx", "neon", "dotprod", "i8mm", "simd128"];

/// Positions of the context that a text gets where nobody asks for more.
const DEFAULT_CONTEXT: usize = 4096;

/// What several commands are told in the same way.
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
    /// Reads all arguments: `own` takes the options that the command alone has and says so, the others
    /// are the model and the options `known`.
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

    /// Takes `arg`, an argument that the command itself doesn't know: the model, or one of the
    /// options `known`.
    pub(crate) fn take(
        &mut self,
        arg: Arg,
        args: &mut Args,
        known: &[&str],
    ) -> Result<(), Failure> {
        let flag = match arg {
            Arg::Word(word) if self.model.is_none() => {
                self.model = Some(word.into());
                return Ok(());
            }
            Arg::Word(word) => {
                let word = word.to_string_lossy();
                let what = format!("unexpected argument `{word}`: the model was given before");
                return Err(Failure::Usage(what));
            }
            Arg::Flag(flag) => flag,
        };
        match flag.as_str() {
            // Who can quantise can do so with the head.
            "--head" if known.contains(&"--quantize") => {
                self.head = Some(quantized(&flag, &args.text(&flag)?)?);
            }
            f if !known.contains(&f) => {
                return Err(Failure::Usage(format!("there is no option {flag}")));
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

    /// Where the model is.
    pub(crate) fn path(&self) -> Result<&PathBuf, Failure> {
        let what = "no model: give a .gguf file or a Hugging Face folder";
        self.model.as_ref().ok_or_else(|| Failure::Usage(what.into()))
    }

    /// Opens the model.
    pub(crate) fn open(&self) -> Result<Model, Failure> {
        let path = self.path()?;
        let _progress = Progress::show("loading the model");
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
        Model::open_with(path, &options).map_err(Failure::run)
    }

    /// The options of a session with this model.
    pub(crate) fn options(&self, model: &Model) -> Result<SessionOptions, Failure> {
        let most = model.spec().context;
        if let Some(ctx) = self.ctx.filter(|&n| n > most as usize) {
            return Err(Failure::Run(format!(
                "--ctx is {ctx}, but the model was made for a context of {most}: ask for less"
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

    /// The options of a session that writes text: without `--ctx` it has [`DEFAULT_CONTEXT`]
    /// positions at most, for a cache of all that a model was made for may take many gigabytes.
    pub(crate) fn text_options(&self, model: &Model) -> Result<SessionOptions, Failure> {
        let options = self.options(model)?;
        let most = (model.spec().context as usize).min(DEFAULT_CONTEXT);
        Ok(SessionOptions { context: options.context.or(Some(most)), ..options })
    }
}

/// How tokens are drawn, and how many: what the commands that write text are told.
#[derive(Default)]
pub(crate) struct SamplingArgs {
    sampling: Sampling,
    greedy: bool,
    max_tokens: Option<usize>,
}

impl SamplingArgs {
    /// Takes the value of `flag`, if that is one of these options.
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

    /// All of it, checked; `max_tokens` is what holds without `-n`.
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

/// The format called `name`, if matrices can be quantised to it.
fn quantized(flag: &str, name: &str) -> Result<Format, Failure> {
    let quantized = Format::ALL.into_iter().filter(|f| f.is_quantized() && f.is_built());
    let format = quantized.clone().find(|f| f.name().eq_ignore_ascii_case(name));
    let names: Vec<_> = quantized.map(Format::name).collect();
    format.ok_or_else(|| refused(flag, name, &format!("one of {}", names.join(", "))))
}

/// The names of the backends that this machine can run.
pub(crate) fn backends() -> Vec<&'static str> {
    Cpu::NAMES.into_iter().filter(|n| Cpu::by_name(n).is_ok()).collect()
}

fn backend(flag: &str, name: &str) -> Result<Cpu, Failure> {
    Cpu::by_name(name).map_err(|e| match e {
        CpuError::Unknown if !ELSEWHERE.contains(&name) => {
            Failure::Usage(format!("{flag} is `{name}`: {e}"))
        }
        CpuError::Unknown => {
            let here = backends().join(", ");
            Failure::Run(format!("{flag} is `{name}`: it is not in this build; here are {here}"))
        }
        CpuError::Missing => Failure::Run(format!("{flag} is `{name}`: {e}")),
    })
}
