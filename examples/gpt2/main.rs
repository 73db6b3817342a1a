//! Writes a short story with a built-in GPT-2, or with any other model:
//!
//! ```text
//! cargo run --release --example gpt2
//! cargo run --release --example gpt2 -- --model gpt2.gguf --prompt "The answer is"
//! ```
//!
//! The same options write the same story on every machine.

use std::error::Error;
use std::io::{Write, stdout};
use std::process::ExitCode;
use std::time::Instant;

use lexopt::{Arg::Long, Arg::Short, ValueExt};
use teff::{Cpu, Generate, LoadOptions, Model, Sampling, SessionOptions};

/// The bytes of a file, aligned as weights should be, since they are used in place.
#[repr(C, align(64))]
struct Aligned<T: ?Sized>(T);

static MODEL: &Aligned<[u8]> = &Aligned(*include_bytes!("model.gguf"));

const HELP: &str = "\
usage: gpt2 [OPTIONS]

Writes a story, by default with the small model that is compiled into this program.

  --model PATH                another GPT-2: a .gguf file or a Hugging Face folder
  -p, --prompt TEXT           how it begins (default: Once upon a time)
  -n N                        most tokens to write (default 200)
  --temperature T, --top-k K, --top-p P, --min-p P, --repeat-penalty R, --seed S, --greedy
                              how tokens are drawn (default: 0.8, 40, 0.95, 0.05, 1, 0)
  --threads N                 default: one for each core
  --backend NAME              default: that of TEFF_BACKEND, or the best of this machine
";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("gpt2: {e}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let (mut path, mut prompt) = (None, String::from("Once upon a time"));
    let mut generate = Generate { max_tokens: Some(200), ..Generate::default() };
    let mut options = SessionOptions::default();
    let sampling: &mut Sampling = &mut generate.sampling;
    let mut args = lexopt::Parser::from_env();
    while let Some(arg) = args.next()? {
        match arg {
            Long("model") => path = Some(args.value()?),
            Short('p') | Long("prompt") => prompt = args.value()?.string()?,
            Short('n') => generate.max_tokens = Some(args.value()?.parse()?),
            Long("temperature") => sampling.temperature = args.value()?.parse()?,
            Long("top-k") => sampling.top_k = args.value()?.parse()?,
            Long("top-p") => sampling.top_p = args.value()?.parse()?,
            Long("min-p") => sampling.min_p = args.value()?.parse()?,
            Long("repeat-penalty") => sampling.repeat_penalty = args.value()?.parse()?,
            Long("seed") => sampling.seed = args.value()?.parse()?,
            Long("greedy") => *sampling = Sampling::greedy(),
            Long("threads") => options.threads = Some(args.value()?.parse()?),
            Long("backend") => options.backend = Some(Cpu::by_name(&args.value()?.string()?)?),
            Short('h') | Long("help") => {
                return Ok(stdout().write_all(HELP.as_bytes())?);
            }
            other => return Err(other.unexpected().into()),
        }
    }

    let start = Instant::now();
    let model = match path {
        Some(path) => Model::open(path)?,
        None => Model::from_bytes(&MODEL.0, &LoadOptions::default())?,
    };
    let mut session = model.session(&options)?;
    let load = start.elapsed();

    let mut out = stdout().lock();
    write!(out, "{prompt}")?;
    let start = Instant::now();
    let mut story = session.generate(&prompt, &generate)?;
    while let Some(piece) = story.next_piece()? {
        write!(out, "{piece}")?;
        out.flush()?;
    }
    let tokens = story.generated();
    let per_second = tokens as f64 / start.elapsed().as_secs_f64();
    writeln!(out)?;
    eprintln!(
        "\n{}, {:.1} million parameters; loaded in {:.1} ms; {}, {} threads; {tokens} tokens, \
         {per_second:.0} per second",
        model.name().unwrap_or("GPT-2"),
        model.spec().parameters() as f64 / 1e6,
        load.as_secs_f64() * 1e3,
        session.backend().name(),
        session.threads(),
    );
    Ok(())
}
