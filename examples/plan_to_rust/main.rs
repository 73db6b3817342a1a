//! Writes a model's plan as Rust source, for programs that have no heap:
//!
//! ```text
//! cargo run --example plan_to_rust -- MODEL.gguf --ctx 256 --batch 8 --kv q8 \
//!     --prompt-file prompt.txt --out plan.rs
//! ```
//!
//! The source holds the plan and where each tensor lies in the file as `static` data, the bytes of
//! arena and states as constants, and the prompt's tokens. It is a module of a program with
//! `teff-graph` and `teff-kernels`; `examples/bare_metal` is one. The model must be a GGUF file whose
//! vectors are F32, since everything is used where it lies in the file. It is planned for backends
//! that need no scratch for products, as `Scalar` and `Dsp` do.

mod emit;

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use teff::Model;
use teff_graph::{Options, Outputs};
use teff_kernels::{KvFormat, Scalar};
use teff_runtime::tokenizer::Specials;

const USAGE: &str = "usage: plan_to_rust MODEL.gguf --out PLAN.rs [--ctx N] [--batch N]
    [--logits N] [--kv f32|f16|q8] [--prompt TEXT | --prompt-file FILE]";

fn run(args: &[String]) -> Result<(), Box<dyn Error>> {
    let (mut model, mut out, mut prompt) = (None, None, String::new());
    let outputs = Outputs::Logits;
    let mut options =
        Options { batch: 1, logits: 1, context: 0, kv: KvFormat::F32, outputs, pages: 0 };
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        let mut value = || rest.next().ok_or_else(|| format!("{arg} wants a value"));
        match arg.as_str() {
            "--out" => out = Some(PathBuf::from(value()?)),
            "--ctx" => options.context = value()?.parse()?,
            "--batch" => options.batch = value()?.parse()?,
            "--logits" => options.logits = value()?.parse()?,
            "--kv" => {
                options.kv = KvFormat::from_name(value()?).ok_or("--kv is f32, f16 or q8")?;
            }
            "--prompt" => prompt.clone_from(value()?),
            "--prompt-file" => prompt = std::fs::read_to_string(value()?)?,
            _ if model.is_none() && !arg.starts_with('-') => model = Some(PathBuf::from(arg)),
            _ => return Err(format!("unexpected `{arg}`\n{USAGE}").into()),
        }
    }
    let (Some(path), Some(out)) = (model, out) else { return Err(USAGE.into()) };
    let model = Model::open(&path)?;
    if options.context == 0 {
        options.context = model.spec().context as usize;
    }
    let file = std::fs::read(&path)?;
    let tokenizer = model.tokenizer()?;
    let prompt = tokenizer.encode(prompt.trim_end(), Specials::Ignore)?;
    let command = format!("cargo run --example plan_to_rust -- {}", args.join(" "));
    let extras = emit::Extras { command: &command, prompt: &prompt, end: tokenizer.eos() };
    let source = emit::emit(&file, (model.spec(), model.family()), &options, &Scalar, &extras)?;
    std::fs::write(&out, source)?;
    Ok(())
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("plan_to_rust: {e}");
            ExitCode::FAILURE
        }
    }
}
