//! `teff quantize`: quantises a model to a smaller file.

use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::ArgAction;

use teff::runtime::quantize::{
    Fallback, ImportanceMatrix, Overrides, Progress, QuantizeOptions, Report, Target,
    TensorTypeError, quantize_file, type_from_name,
};

use super::args::{Args, file_option, option, positional, switch, utf8};
use super::common::THREADS;
use super::machine::{self, human};
use super::{Command, Failure, elsewhere, print, print_error, print_warnings};

pub(crate) const COMMAND: Command = Command {
    name: "quantize",
    about: "converts a model to a smaller file",
    usage: &[
        "quantize IN.gguf OUT.gguf --to FORMAT [OPTIONS]",
        "quantize FOLDER  OUT.gguf --to FORMAT [OPTIONS]",
        "quantize IN OUT FORMAT [THREADS]    as llama-quantize",
    ],
    details: "\
Converts a model, given as a GGUF file (of a split one, any part) or a Hugging Face folder, to a GGUF \
file in other formats, which llama.cpp can load too. Norms, biases and positions are not changed. OUT appears only when it \
is complete, and replaces an existing file. The result does not depend on the number of threads, and \
equals that of llama.cpp's quantiser, with and without an importance matrix.",
    notes: "\
FORMAT is the format of most matrices:
  F32 F16 BF16          no quantisation; tensors of a folder that have this type are not changed
  Q8_0 Q6_K Q5_1 Q5_0 Q4_1 Q4_0    except a Q6_K head (for Q8_0: Q8_0)
  Q5_K_M Q5_K_S Q4_K_M Q4_K_S IQ4_NL IQ4_XS Q3_K_L Q3_K_M Q3_K_S Q2_K Q2_K_S
                        llama.cpp's mixes, with more bits for some tensors
  IQ3_M IQ3_S IQ3_XS IQ3_XXS IQ2_M IQ2_S IQ2_XS IQ2_XXS IQ1_M IQ1_S
                        the same, of entries of codebooks; slow. All but IQ3_M and IQ3_S need an
                        importance matrix
  MXFP4_MOE             experts in MXFP4, all other matrices in Q8_0
  Q1_0                  the signs of weights, and their mean magnitude; head Q6_K
  Q2_0                  two bits, of which weights that are not ternary use three values; embedding
                        Q4_K, head Q6_K
  Q5_K Q4_K Q3_K        all matrices in this one format
  TQ2_0 TQ1_0           for ternary weights; others are rounded, with a warning. Embedding Q4_K,
                        head Q6_K
  I2_S                  for weights of 0 and one magnitude per matrix; others are refused. Embedding
                        and head F16
Rows that are not whole blocks fall back to another format: Q5_0 for Q4_K, Q5_1 for Q5_K, Q8_0 for \
Q6_K and I2_S, IQ4_NL for IQ4_XS, IQ3, IQ2 and IQ1, Q4_0 for Q3_K, Q2_K, Q2_0, Q1_0 and TQ, or else F16.

An importance matrix, made by teff imatrix or llama-imatrix, says how much the error of each column \
of a matrix counts. Q2_K_S, IQ3_XS, IQ3_XXS, IQ2 and IQ1 need one. Mixes differ a little with one, as llama.cpp's do.

TYPE is a format without suffix, such as Q6_K or F32. Norms, biases and the choice of experts are \
never changed, whatever PATTERN says.",
    args,
    run,
};

fn args(command: clap::Command) -> clap::Command {
    let path = |name, help| positional(name, help).value_hint(clap::ValueHint::AnyPath);
    command
        .arg(path("IN", "the model: a .gguf file or a Hugging Face folder"))
        .arg(path("OUT", "the file to write"))
        .arg(positional("FORMAT", "the format, if it isn't given by --to"))
        .arg(positional("THREADS", "threads, if they aren't given by --threads"))
        .arg(option("to", "FORMAT", "the format of most matrices: see below"))
        .arg(
            option(
                "tensor-type",
                "PATTERN=TYPE",
                "the type of tensors in whose names PATTERN, a regular expression, matches \
                 somewhere; may be given several times, the first that matches counts",
            )
            .action(ArgAction::Append),
        )
        .arg(option("tensor-type-file", "FILE", "a file with more of these, between blanks"))
        .arg(option(
            "output-tensor-type",
            "TYPE",
            "the type of the head, also where it is the embedding",
        ))
        .arg(option("token-embedding-type", "TYPE", "the type of the embedding"))
        .arg(file_option("imatrix", "FILE", "an importance matrix"))
        .arg(
            option(
                "include-weights",
                "NAME",
                "use the importances of tensors with NAME in their names alone; may be given \
                 several times",
            )
            .action(ArgAction::Append),
        )
        .arg(
            option(
                "exclude-weights",
                "NAME",
                "don't use those of tensors with NAME in their names; may be given several times",
            )
            .action(ArgAction::Append),
        )
        .arg(switch("pure", "all matrices in FORMAT, including the head and the embedding"))
        .arg(switch(
            "allow-requantize",
            "allow quantised input, which loses more precision than either format",
        ))
        .arg(
            option("threads", "N", "threads (default: one per core)")
                .short('t')
                .visible_alias("nthread"),
        )
}

fn run(args: &Args) -> Result<(), Failure> {
    let mut options = QuantizeOptions {
        allow_requantize: args.has("allow-requantize"),
        ..QuantizeOptions::default()
    };
    let target = match (args.text("to")?, args.os("FORMAT")) {
        (Some(_), Some(word)) => return Err(super::args::unexpected(word, "quantize")),
        (None, Some(word)) => {
            let target = read_target("FORMAT", &utf8("FORMAT", word)?)?;
            // As llama-quantize has it, these are names of mixes.
            if let name @ ("Q3_K" | "Q4_K" | "Q5_K") = target.name() {
                print_error(&format!(
                    "warning: {name} is one format for all matrices here: llama-quantize's {name} \
                     is {name}_M"
                ));
            }
            Some(target)
        }
        (to, None) => to.map(|name| read_target(&args.name("to"), &name)).transpose()?,
    };
    options.overrides = overrides(args)?;
    options.importances = importances(args)?.map(Arc::new);
    let threads = ["threads", "THREADS"].into_iter().find(|id| args.os(id).is_some());
    if let Some(threads) = threads {
        options.threads = args.count(threads, THREADS)?.unwrap_or(options.threads);
    }
    let (Some(input), Some(output)) = (args.path("IN"), args.path("OUT")) else {
        let what = match args.path("IN") {
            None => "no model: give the model, the file to write, and --to FORMAT",
            Some(_) => "give the model and the file to write",
        };
        return Err(Failure::Usage(what.into()));
    };
    let Some(target) = target else {
        // llama-quantize makes a name for OUT; here the file that is written is always named.
        let what = match output.to_str().and_then(Target::from_name) {
            Some(_) => "no file to write: teff quantize IN OUT FORMAT",
            None => "no format: give --to FORMAT",
        };
        return Err(Failure::Usage(what.into()));
    };
    let target = if args.has("pure") { target.pure() } else { target };
    elsewhere::check_model(&input)?;

    let mut line = Line::new();
    let report = quantize_file(&input, &output, &target, &options, &mut |p| line.show(p));
    drop(line);
    let report = report.map_err(Failure::run)?;
    print_warnings(&report.warnings);
    warn(&report);
    warn_unused(&report);
    print(&format!(
        "{} of {} tensors to {}: {} ({:.2} bits per weight) became {} ({:.2})\n",
        report.converted,
        report.tensors,
        target.name(),
        human(report.before),
        report.bits_before(),
        human(report.after),
        report.bits_after(),
    ))
}

/// The formats that are given by hand.
fn overrides(args: &Args) -> Result<Overrides, Failure> {
    let mut overrides = Overrides::default();
    let refused = |flag: &str, e: TensorTypeError| Failure::Usage(format!("{flag}: {e}"));
    let flag = args.name("tensor-type");
    for text in args.texts("tensor-type")? {
        overrides.tensors.push(text.parse().map_err(|e| refused(&flag, e))?);
    }
    if let Some(path) = args.path("tensor-type-file") {
        let named = |e: &dyn core::fmt::Display| format!("{}: {e}", path.display());
        let text = fs::read_to_string(&path).map_err(|e| Failure::Run(named(&e)))?;
        for word in text.split_whitespace() {
            let parsed = word.parse().map_err(|e: TensorTypeError| Failure::Run(named(&e)))?;
            overrides.tensors.push(parsed);
        }
    }
    let read = |id: &str| {
        let name = args.text(id)?;
        let read = |name: String| type_from_name(&name).map_err(|e| refused(&args.name(id), e));
        name.map(read).transpose()
    };
    overrides.output = read("output-tensor-type")?;
    overrides.embedding = read("token-embedding-type")?;
    Ok(overrides)
}

/// The importance matrix, without what is left out of it.
fn importances(args: &Args) -> Result<Option<ImportanceMatrix>, Failure> {
    let (include, exclude) = (args.texts("include-weights")?, args.texts("exclude-weights")?);
    let Some(path) = args.path("imatrix") else {
        return match include.is_empty() && exclude.is_empty() {
            true => Ok(None),
            false => Err(Failure::Usage(
                "--include-weights and --exclude-weights are for the importances of --imatrix"
                    .into(),
            )),
        };
    };
    if !include.is_empty() && !exclude.is_empty() {
        let why = "--include-weights and --exclude-weights can't be given together";
        return Err(Failure::Usage(why.into()));
    }
    let mut matrix = ImportanceMatrix::open(path).map_err(Failure::run)?;
    if !include.is_empty() {
        matrix.retain(|name| include.iter().any(|part| name.contains(part)));
    }
    matrix.retain(|name| !exclude.iter().any(|part| name.contains(part)));
    // Without any, the file is as without a matrix.
    Ok(Some(matrix).filter(|m| !m.is_empty()))
}

fn read_target(flag: &str, name: &str) -> Result<Target, Failure> {
    Target::from_name(name).ok_or_else(|| {
        let names: Vec<_> = Target::built().map(|t| t.name()).collect();
        Failure::Usage(format!("{flag} is `{name}`: it must be one of {}", names.join(", ")))
    })
}

/// Warns about deviations from the request.
fn warn(report: &Report) {
    let mut kinds: Vec<(&Fallback, usize)> = Vec::new();
    for fallback in &report.fallbacks {
        let pair = (fallback.wanted, fallback.got);
        match kinds.iter_mut().find(|(f, _)| (f.wanted, f.got) == pair) {
            Some((_, count)) => *count += 1,
            None => kinds.push((fallback, 1)),
        }
    }
    for (f, count) in kinds {
        let Fallback { tensor, wanted, got } = f;
        let others = others(count);
        print_error(&format!(
            "warning: `{tensor}`{others}: rows don't fit {wanted}, {got} instead"
        ));
    }
    if let Some(tensor) = report.requantized.first() {
        let others = others(report.requantized.len());
        print_error(&format!("warning: `{tensor}`{others}: quantised before, and more is lost"));
    }
    if let Some(tensor) = report.rounded.first() {
        let others = others(report.rounded.len());
        print_error(&format!("warning: `{tensor}`{others}: weights that are not ternary, rounded"));
    }
}

/// Warns about what was given and is of no use.
fn warn_unused(report: &Report) {
    for pattern in &report.unmatched {
        print_error(&format!("warning: `{pattern}` matches no tensor that may be quantised"));
    }
    if let Some(tensor) = report.unweighted.first() {
        let others = others(report.unweighted.len());
        print_error(&format!(
            "warning: the importance matrix lacks `{tensor}`{others}: quantised without"
        ));
    }
    if let Some(tensor) = report.foreign.first() {
        let others = others(report.foreign.len());
        print_error(&format!(
            "warning: the importance matrix has `{tensor}`{others}, which the model lacks"
        ));
    }
}

fn others(count: usize) -> String {
    match count {
        1 => String::new(),
        n => format!(" and {} more", n - 1),
    }
}

/// The progress line.
struct Line {
    progress: Option<machine::Progress>,
    start: Instant,
    shown: Option<Instant>,
}

impl Line {
    fn new() -> Line {
        Line { progress: None, start: Instant::now(), shown: None }
    }

    fn show(&mut self, p: &Progress<'_>) {
        // Updating ten times a second is enough.
        if self.shown.is_some_and(|at| at.elapsed() < Duration::from_millis(100)) {
            return;
        }
        self.shown = Some(Instant::now());
        let seconds = self.start.elapsed().as_secs_f64().max(1e-3);
        let rate = p.done as f64 / seconds / 1e6;
        let percent = p.done as f64 * 100.0 / p.total.max(1) as f64;
        // Names come from files and must not contain terminal control characters.
        let name = p.tensor.name.replace(char::is_control, "?");
        let (i, n, from, to) = (p.index + 1, p.tensors, p.tensor.format, p.format);
        let what = format!("{percent:3.0}% [{i}/{n}] {rate:.0} MB/s {name} {from} to {to}");
        match &mut self.progress {
            Some(progress) => progress.update(&what),
            None => self.progress = Some(machine::Progress::show(&what)),
        }
    }
}
