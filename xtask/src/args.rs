//! The command line.

use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use lexopt::{Arg, Parser, ValueExt};

use crate::job;
use crate::table::{SECTIONS, Section, Tier};

/// Text of `--help`.
pub(crate) const HELP: &str = "\
usage: cargo xtask ci [OPTIONS] [SECTION...]     (.ci/run [OPTIONS] [SECTION...] is the same)

Runs the checks that must hold before a change goes in: all sections of the tier, or those that are
named. A section that lacks something here is skipped by name; under CI=true that is an error.

  --tier change|nightly   change (the default) fits into 20 minutes on 2 cores, and takes a sample where
                          not all fits; nightly runs everything in full, and takes over an hour
  --list                  prints the sections, their tiers and what each one covers
  --lanes N               sections at the same time (default: one for each core, 3 at most)
  --json FILE             writes the timings there (default: target/ci-timings.json)

usage: cargo xtask picture

Builds the command and writes docs/terminal.svg, the picture in the README, from what it prints.

Environment: LAWS_CASES (cases of the kernels' laws), FUZZ_SECONDS (for each target), LOADING=1 (`narrow` runs the
runtime's tests of loading too).
";

/// A request of the command line.
#[derive(Debug)]
pub(crate) enum Asked {
    /// The text of [`HELP`].
    Help,
    /// The table of the sections.
    List,
    /// Sections, in lanes.
    Ci(Options),
    /// The picture in the README.
    Picture,
    /// One section, in this process: how [`crate::lanes`] calls it.
    Section(&'static Section, Tier),
}

/// The options of `cargo xtask ci`.
#[derive(Debug)]
pub(crate) struct Options {
    /// How much of each section runs.
    pub(crate) tier: Tier,
    /// The sections, in the order of the table.
    pub(crate) sections: Vec<&'static Section>,
    /// Sections at the same time.
    pub(crate) lanes: usize,
    /// File for the timings.
    pub(crate) json: PathBuf,
}

/// Reads the command line; the error is one line.
pub(crate) fn parse<I>(args: I) -> Result<Asked, String>
where
    I: IntoIterator,
    I::Item: Into<OsString>,
{
    let mut args = Parser::from_iter(args);
    read(&mut args).map_err(|e| e.to_string())
}

fn read(args: &mut Parser) -> Result<Asked, lexopt::Error> {
    let (mut command, mut names) = (None, Vec::new());
    let (mut tier, mut lanes, mut json) = (Tier::Change, None, None);
    while let Some(arg) = args.next()? {
        match arg {
            Arg::Short('h') | Arg::Long("help") => return Ok(Asked::Help),
            Arg::Long("list") => return Ok(Asked::List),
            Arg::Long("tier") => tier = args.value()?.parse()?,
            Arg::Long("lanes") => lanes = Some(args.value()?.parse::<NonZeroUsize>()?.get()),
            Arg::Long("json") => json = Some(PathBuf::from(args.value()?)),
            Arg::Value(word) if command.is_none() => command = Some(word.string()?),
            Arg::Value(name) => names.push(section(&name.string()?)?),
            other => return Err(other.unexpected()),
        }
    }
    match command.as_deref() {
        Some("ci") => {}
        Some("picture") if names.is_empty() => return Ok(Asked::Picture),
        Some("section") if names.len() == 1 => return Ok(Asked::Section(names[0], tier)),
        None => return Ok(Asked::Help),
        Some(other) => return Err(format!("no command {other}; there are: ci picture").into()),
    }
    let wanted = |s: &&Section| match names.is_empty() {
        true => s.tier <= tier,
        false => names.iter().any(|n| n.name == s.name),
    };
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
    let sections: Vec<_> = SECTIONS.iter().filter(wanted).collect();
    Ok(Asked::Ci(Options {
        tier,
        // A lane is a thread.
        lanes: lanes.unwrap_or(cores.min(3)).min(sections.len()),
        sections,
        // Absolute, since the sections run elsewhere.
        json: match json {
            Some(path) => std::path::absolute(path).map_err(|e| format!("--json: {e}"))?,
            None => job::target().join("ci-timings.json"),
        },
    }))
}

fn section(name: &str) -> Result<&'static Section, String> {
    SECTIONS.iter().find(|s| s.name == name).ok_or_else(|| {
        let all: Vec<_> = SECTIONS.iter().map(|s| s.name).collect();
        format!("no section {name}; there are: {}", all.join(" "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ci(line: &str) -> Result<Options, String> {
        match parse(line.split(' '))? {
            Asked::Ci(options) => Ok(options),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn names_choose_sections() {
        let names = |o: Options| o.sections.iter().map(|s| s.name).collect::<Vec<_>>();
        assert_eq!(names(ci("xtask ci test fmt").unwrap()), ["fmt", "test"]);
        let change = ci("xtask ci").unwrap();
        assert!(change.sections.iter().all(|s| s.tier == Tier::Change));
        assert_eq!(ci("xtask ci --tier nightly").unwrap().sections.len(), SECTIONS.len());
    }

    #[test]
    fn an_unknown_section_is_named_with_the_known_ones() {
        let said = ci("xtask ci fmt nonsense").unwrap_err();
        assert!(said.starts_with("no section nonsense; there are: fmt "), "{said}");
        assert!(ci("xtask ci --tier weekly").unwrap_err().contains("weekly"));
        assert!(ci("xtask ci --nonsense").is_err());
        assert!(ci("xtask ci --lanes 0").is_err());
        assert!(ci("xtask ci --json ").is_err());
        assert!(ci("xtask ci --json a/b.json").unwrap().json.is_absolute());
        assert_eq!(
            ci("xtask ci --lanes 1000000").unwrap().lanes,
            ci("xtask ci").unwrap().sections.len()
        );
        assert!(ci("xtask chores").is_err());
    }
}
