//! `packages`: what is published. The archives keep below their sizes, the registry's checks pass, and the command, by
//! night an installed one, works without the repository.

use std::fs;

use crate::cmd::{Cmd, Outcome, Stop, fail};
use crate::job::{Job, files};
use crate::toolchain::Toolchain::Stable;

/// The published packages: all members but these.
const PUBLISHED: &str = "--workspace --exclude xtask --exclude teff-benches";

/// Bytes of the archive of `teff`, which the story model is in, and of each other package. (crates.io takes 10 MB.)
const TEFF_BYTES: u64 = 5_000_000;
const OTHER_BYTES: u64 = 1_000_000;

/// Packs everything, tries to publish it, and runs the command elsewhere.
pub(crate) fn packages(job: &Job) -> Outcome {
    job.step("archives");
    // Archives of earlier runs would be counted too.
    let folder = Stable.dir().join("package");
    let _ = fs::remove_dir_all(&folder);
    // Uncommitted changes are no reason to stop: nothing is published.
    let cargo = |line: &str| Stable.cargo().line(line).line(PUBLISHED).line("--allow-dirty");
    let archives = cargo("package -q");
    if job.full { archives } else { archives.arg("--no-verify") }.run()?;
    let archives = files(&[&folder.to_string_lossy()], ".crate")?;
    for archive in &archives {
        let name = archive.file_name().unwrap_or_default().to_string_lossy();
        let (bytes, limit) = (fs::metadata(archive)?.len(), limit(&name));
        println!("   {name}: {bytes} bytes (limit {limit})");
        if bytes > limit {
            return fail("beyond its limit");
        }
    }
    if archives.len() != 6 {
        return fail(format!("{} archives, not 6", archives.len()));
    }
    job.step("as if published");
    // The nightly tier has built each package from its archive, above.
    cargo("publish -q --dry-run --no-verify").run()?;
    // By day the tests' command stands for the one that is installed, which would be built once more.
    let teff = if job.full {
        job.step("cargo install");
        let root = job.file("installed");
        Stable.cargo().line("install -q --path . --debug --locked --root").arg(&root).run()?;
        root.join("bin/teff")
    } else {
        let copy = job.file("teff");
        fs::copy(job.here()?, &copy)?;
        copy
    };
    job.step("a story without a model");
    let empty = job.file("empty");
    fs::create_dir_all(&empty)?;
    let story = Cmd::new(&teff).line("run -n 8 --seed 1").dir(&empty).read()?;
    println!("   {}", story.trim());
    if story.split_whitespace().count() < 4 {
        return fail("that is no story");
    }
    if job.full { semver(job) } else { Ok(()) }
}

/// The limit of an archive of this name.
fn limit(archive: &str) -> u64 {
    let version = archive.strip_prefix("teff-").and_then(|rest| rest.chars().next());
    if version.is_some_and(|c| c.is_ascii_digit()) { TEFF_BYTES } else { OTHER_BYTES }
}

/// cargo-semver-checks against the last tag, if there is one.
fn semver(job: &Job) -> Outcome {
    job.step("semantic versions");
    let tags = Cmd::new("git").line("tag --list v* --sort=-version:refname").read()?;
    let Some(tag) = tags.lines().next() else {
        println!("skipped: no version was released yet");
        return Ok(());
    };
    let tools = job.file("tools");
    let install = "install -q --locked cargo-semver-checks --root";
    Stable.cargo().line(install).arg(&tools).run()?;
    let program = tools.join("bin/cargo-semver-checks");
    if !program.exists() {
        return Err(Stop::Fail(format!("there is no {}", program.display())));
    }
    Cmd::new(program).line("semver-checks").line(PUBLISHED).args(["--baseline-rev", tag]).run()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_teff_has_a_model() {
        assert_eq!(limit("teff-0.1.0.crate"), TEFF_BYTES);
        assert_eq!(limit("teff-graph-0.1.0.crate"), OTHER_BYTES);
    }
}
