//! `teff split` and `teff merge`: GGUF files in parts.

use std::path::{Path, PathBuf};

use teff::runtime::gguf_split::{PlannedPart, SplitBy, merge_gguf, plan_split, split_gguf};

use super::args::{Args, bytes, option, positional, switch};
use super::machine::{Progress, counted, human};
use super::{Command, Failure, elsewhere, print};

pub(crate) const SPLIT: Command = Command {
    name: "split",
    about: "splits a GGUF file into parts",
    usage: &[
        "split IN.gguf NAME [--max-tensors N | --max-size SIZE] [OPTIONS]",
        "split IN.gguf NAME --dry-run    shows the parts and writes nothing",
    ],
    details: "\
Splits a GGUF file into NAME-00001-of-00003.gguf and so on, as llama-gguf-split does; llama.cpp reads \
the parts too. Every command of teff opens a split model by any of its parts. A file that is split \
already is split anew. `teff merge` makes one file of the parts, equal to what was split.",
    notes: "\
SIZE is a number of bytes, or one with a unit: K, M and G are 1000, 1000^2 and 1000^3 bytes, KiB, MiB \
and GiB are 1024 and its powers. It counts tensors, and not the keys in the first part. A tensor that \
is larger is a part by itself.",
    args: split_args,
    run: split,
};

pub(crate) const MERGE: Command = Command {
    name: "merge",
    about: "merges the parts of a split GGUF file into one",
    usage: &["merge PART.gguf OUT.gguf [OPTIONS]"],
    details: "\
Merges the parts of a split GGUF file into one file, as llama-gguf-split --merge does. PART is any of \
them: the others are found beside it by their names. OUT appears only when it is complete. Merging is \
for other programs: every command of teff opens a split model by any of its parts.",
    notes: "",
    args: merge_args,
    run: merge,
};

/// Number of tensors in a part where nothing else is asked for, as llama-gguf-split has it.
const MAX_TENSORS: u32 = 128;

fn path(name: &'static str, help: &str) -> clap::Arg {
    positional(name, help).value_hint(clap::ValueHint::FilePath)
}

fn force(help: &str) -> clap::Arg {
    switch("force", help)
}

fn split_args(command: clap::Command) -> clap::Command {
    command
        .arg(path("IN", "the GGUF file, or a part of one"))
        .arg(path("NAME", "beginning of the parts' names, with their folder"))
        .arg(
            option(
                "max-tensors",
                "N",
                "tensors in a part, at most (default 128, if there is no --max-size)",
            )
            .visible_alias("split-max-tensors"),
        )
        .arg(
            option("max-size", "SIZE", "bytes of the tensors in a part, at most: 2G, 500M")
                .visible_alias("split-max-size"),
        )
        .arg(switch("dry-run", "show the parts, and write nothing"))
        .arg(force("replace files that have the names of parts"))
}

fn merge_args(command: clap::Command) -> clap::Command {
    command
        .arg(path("PART", "one of the parts"))
        .arg(path("OUT", "the file to write"))
        .arg(force("replace OUT if it is there"))
}

/// Two positional arguments, of which both are needed.
fn two(args: &Args, first: &str, second: &str, what: &str) -> Result<(PathBuf, PathBuf), Failure> {
    match (args.path(first), args.path(second)) {
        (Some(a), Some(b)) => Ok((a, b)),
        _ => Err(Failure::Usage(what.into())),
    }
}

/// Refuses to replace a file that nobody said to replace.
fn check_free(args: &Args, path: &Path) -> Result<(), Failure> {
    if args.has("force") || !path.exists() {
        return Ok(());
    }
    Err(Failure::Run(format!("{}: it is there already: --force replaces it", path.display())))
}

/// Refuses a folder, from which a GGUF file can be made.
fn check_file(path: &Path) -> Result<(), Failure> {
    if !path.is_dir() {
        return Ok(());
    }
    let what = "it is a folder, and this is for GGUF files: `teff quantize FOLDER OUT.gguf F16` \
                makes one of a Hugging Face folder";
    Err(Failure::Run(format!("{}: {what}", path.display())))
}

fn split(args: &Args) -> Result<(), Failure> {
    let what = "give the file and the beginning of the parts' names: teff split IN.gguf NAME";
    let (input, name) = two(args, "IN", "NAME", what)?;
    let by = limit(args)?;
    elsewhere::check_model(&input)?;
    check_file(&input)?;
    // llama-gguf-split would keep it before the numbers.
    let name = match name.extension() {
        Some(extension) if extension == "gguf" => name.with_extension(""),
        _ => name,
    };
    let parts = plan_split(&input, &name, by).map_err(Failure::run)?;
    if !args.has("dry-run") {
        parts.iter().try_for_each(|part| check_free(args, &part.path))?;
        let progress = Progress::show("writing the parts");
        split_gguf(&input, &name, by).map_err(Failure::run)?;
        drop(progress);
    }
    let line = |part: &PlannedPart| {
        let PlannedPart { path, tensors, bytes, .. } = part;
        format!("{}  {}, {}\n", path.display(), counted(*tensors, "tensor"), human(*bytes))
    };
    print(&parts.iter().map(line).collect::<String>())
}

fn limit(args: &Args) -> Result<SplitBy, Failure> {
    let tensors = args.count("max-tensors", 1..=u32::MAX as usize)?;
    let allowed = "a number of bytes above 0, such as 2G, 500M or 4096";
    let size = args.text("max-size")?;
    let bytes =
        size.map(|text| bytes(&text).ok_or_else(|| args.refused("max-size", &text, allowed)));
    match (tensors, bytes.transpose()?) {
        (Some(_), Some(_)) => Err(Failure::Usage(format!(
            "{} and {} both limit the parts: leave one of them out",
            args.name("max-tensors"),
            args.name("max-size")
        ))),
        (None, Some(bytes)) => Ok(SplitBy::Bytes(bytes)),
        (tensors, None) => Ok(SplitBy::Tensors(tensors.map_or(MAX_TENSORS, |n| n as u32))),
    }
}

fn merge(args: &Args) -> Result<(), Failure> {
    let what = "give a part and the file to write: teff merge PART.gguf OUT.gguf";
    let (part, output) = two(args, "PART", "OUT", what)?;
    elsewhere::check_model(&part)?;
    check_file(&part)?;
    check_free(args, &output)?;
    let progress = Progress::show("merging the parts");
    let merged = merge_gguf(&part, &output).map_err(Failure::run)?;
    drop(progress);
    print(&format!(
        "{}, {}, {}: merged into {}\n",
        counted(merged.parts, "part"),
        counted(merged.tensors, "tensor"),
        human(merged.bytes),
        output.display()
    ))
}
