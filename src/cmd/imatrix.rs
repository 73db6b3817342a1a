//! `teff imatrix`: which inputs of a model's matrices matter most, from a text.

use std::io::BufWriter;
use std::path::{Path, PathBuf};

use teff::runtime::gguf_write::WriteError;
use teff::runtime::imatrix::{ImatrixOptions, collect};
use teff::runtime::tokenizer::Specials;

use super::args::{Args, file_option, option, switch};
use super::common::{CommonArgs, model_argument, model_options};
use super::logits::{Stopped, Target};
use super::machine::Progress;
use super::tokenize::no_tokenizer;
use super::{Command, Failure, print, print_error, prompt};

pub(crate) const COMMAND: Command = Command {
    name: "imatrix",
    about: "writes an importance matrix, which guides `teff quantize`",
    usage: &["imatrix MODEL -f TEXT [-o imatrix.gguf] [OPTIONS]"],
    details: "\
Runs a model over a text and writes, for each matrix, how large its inputs are: what `teff quantize \
--imatrix` and llama-quantize take. The numbers are those of llama-imatrix, within rounding. The file \
appears only when it is complete, and is the same for every number of threads.",
    notes: "\
The text is cut into chunks of --ctx tokens, of which it must have two at least; what is left at its \
end is not used. If the model wants a beginning-of-text token, this replaces the first token of each \
chunk. Use a text like those that the model is for, and the model before it is quantised: matrices \
that are quantised see rounded inputs.",
    args,
    run,
};

fn args(command: clap::Command) -> clap::Command {
    let command = command
        .arg(model_argument())
        .next_help_heading("Text and file")
        .arg(
            file_option("file", "TEXT", "a file with the text, in UTF-8; - for standard input")
                .short('f'),
        )
        .arg(
            file_option("out", "F", "the file to write (default imatrix.gguf)")
                .short('o')
                .visible_alias("output-file"),
        )
        .arg(
            option(
                "ctx",
                "N",
                "tokens of a chunk (default: 512, or the model's context if it is less)",
            )
            .short('c')
            .visible_alias("ctx-size"),
        )
        .arg(option("chunks", "N", "chunks to use (default: all)"))
        .arg(
            option("skip", "N", "chunks to leave out first")
                .visible_alias("chunk")
                .alias("from-chunk"),
        )
        .arg(switch("process-output", "the inputs of the head too"))
        .arg(switch("parse-special", "names of special tokens in the text become these tokens"));
    model_options(command, &["threads", "backend"])
}

fn run(args: &Args) -> Result<(), Failure> {
    let common = CommonArgs::read(args, "imatrix")?;
    let path = common.path()?;
    let whole = |id: &str, range| args.count(id, range);
    let mut options = ImatrixOptions::default().with_head(args.has("process-output"));
    let chunk = common.ctx.filter(|&n| n > 0);
    options.skip = whole("skip", 0..=usize::MAX)?.unwrap_or(0);
    options.chunks = whole("chunks", 1..=usize::MAX)?.unwrap_or(usize::MAX);
    let Some(file) = args.path("file") else {
        return Err(Failure::Usage("no text: give --file TEXT".into()));
    };
    let out = args.path("out").unwrap_or_else(|| PathBuf::from("imatrix.gguf"));
    let target = Target::new(&out, path)?;
    let text = match file == Path::new("-") {
        true => prompt::input()?,
        false => prompt::of_file(&file)?,
    };
    let model = common.open()?;
    // As llama-imatrix has it, but for smaller models.
    let most = model.spec().context as usize;
    options.chunk = chunk.unwrap_or(options.chunk.min(most));
    let tokenizer = model.tokenizer().map_err(no_tokenizer)?;
    let specials = if args.has("parse-special") { Specials::Parse } else { Specials::Ignore };
    let mut tokens = Vec::new();
    tokens.extend(tokenizer.bos().filter(|_| tokenizer.add_bos()));
    tokens.extend(tokenizer.encode(&text, specials).map_err(Failure::run)?);
    drop(text);

    let mut progress = Progress::show("chunk 0");
    let session = common.options(&model)?;
    let sums = collect(&model, &tokens, &session, &options, |i, n| {
        progress.update(&format!("chunk {i} of {n}"));
    });
    drop(progress);
    let sums = sums.map_err(Failure::run)?;
    let unused: Vec<_> = sums.unused().collect();
    if let Some((name, n)) = unused.first() {
        let others = match unused.len() {
            1 => String::new(),
            n => format!(" and {} more", n - 1),
        };
        print_error(&format!(
            "warning: no token took {n} of the experts of `{name}`{others}: all inputs count alike \
             there; more text may help"
        ));
    }
    let dataset = file.to_string_lossy();
    target.write(|file| {
        let written = sums.write(&dataset, BufWriter::new(file));
        written.map(drop).map_err(|e| match e {
            WriteError::Io(e) => Stopped::Write(e),
            e => Stopped::Run(Failure::run(e)),
        })
    })?;
    let (matrices, chunks, tokens) = (sums.names().count(), sums.chunks(), options.chunk);
    let s = if chunks == 1 { "" } else { "s" };
    print(&format!("{matrices} matrices from {chunks} chunk{s} of {tokens} tokens\n"))
}
