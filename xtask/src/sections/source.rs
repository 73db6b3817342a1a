//! `rules` and `deps`: what the house rules say and a pattern can see.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::cmd::{Outcome, fail};
use crate::job::Job;
use crate::toolchain::Toolchain::Stable;

/// The files and folders that may have `unsafe`.
const UNSAFE: [&str; 15] = [
    "kernels/src/",                     // vector code, and the marks of plain bytes
    "graph/src/exec/",                  // the arena
    "graph/src/ops/",                   // their shares of it
    "graph/src/team.rs",                // the promise of who shares it
    "runtime/src/mmap.rs",              // the map
    "runtime/src/pool",                 // the threads
    "runtime/src/rayon_team.rs",        // the same on rayon's threads
    "runtime/src/trace.rs",             // a team that records
    "runtime/src/session/model_ref.rs", // a session that owns its model
    "runtime/src/session/builder.rs",   // and its table of tensors
    "runtime/src/engine/builder.rs",    // the same of an engine
    "runtime/src/engine/draft.rs",      // and of the model that guesses
    "runtime/src/capi/",                // pointers of C
    "src/cmd/alloc_count.rs",           // a heap that counts
    "src/cmd/interrupt.rs",             // Ctrl-C: std has no signals
];

/// The crates without std.
const NO_STD: [&str; 3] = ["kernels", "graph", "tokenizer"];

/// Reading folders with the tokenizer's feature `std`.
const FILES: &str = "tokenizer/src/files.rs";

/// Of 1000 summary lines, how many may open with one of [`OPENINGS`].
const MAX_PERMILLE: usize = 10;

/// Words with which a summary says a thing in a roundabout way.
const OPENINGS: [&str; 4] = ["Who", "What", "Where", "Whether"];

/// At most so many crates are in the tree of teff-runtime, itself included.
const MAX_CRATES: usize = 16;

/// The house rules.
pub(crate) fn rules(_: &Job) -> Outcome {
    let mut bad = Vec::new();
    let sources = sources(Path::new("."))?;
    for krate in NO_STD {
        let lib = format!("{krate}/src/lib.rs");
        if !fs::read_to_string(&lib)?.starts_with("#![no_std]\n") {
            bad.push(format!("{lib} doesn't begin with #![no_std]"));
        }
    }
    let mut count = Summaries::default();
    for path in &sources {
        let name = path.strip_prefix(".").unwrap_or(path).to_string_lossy().into_owned();
        let text = fs::read_to_string(path)?;
        if path.ends_with("build.rs") && path.with_file_name("Cargo.toml").exists() {
            bad.push(format!("{name}: a build script of ours"));
        }
        let no_std = NO_STD.iter().any(|dir| name.starts_with(&format!("{dir}/src/")));
        // Modules of tests are indented or files of their own, and may.
        let may = name == FILES || path.ends_with("tests.rs");
        if no_std && !may && text.lines().any(uses_std) {
            bad.push(format!("{name} uses std"));
        }
        let ours = no_std || ["runtime/src/", "src/"].iter().any(|dir| name.starts_with(dir));
        let allowed = UNSAFE.iter().any(|place| name.starts_with(place));
        if ours && !allowed && text.lines().any(has_unsafe) {
            bad.push(format!("{name}: unsafe outside of the modules that may have it"));
        }
        count.add(&text);
    }
    let Summaries { all, roundabout } = count;
    println!(
        "{roundabout} of {all} summary lines open with {}: {:.1}%, at most {:.1}%",
        OPENINGS.join(", "),
        roundabout as f64 * 100.0 / all.max(1) as f64,
        MAX_PERMILLE as f64 / 10.0
    );
    if roundabout * 1000 > all * MAX_PERMILLE {
        bad.push("too many summary lines open so: say what the thing is".into());
    }
    if bad.is_empty() { Ok(()) } else { fail(bad.join("\n")) }
}

/// The Rust files of the repository.
fn sources(dir: &Path) -> Outcome<Vec<PathBuf>> {
    let (mut found, mut folders) = (Vec::new(), vec![dir.to_path_buf()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if path.is_dir() {
                if name != "target" && !name.starts_with('.') {
                    folders.push(path);
                }
            } else if name.ends_with(".rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

/// `use std` at the left margin.
fn uses_std(line: &str) -> bool {
    let rest = line.strip_prefix("pub ").unwrap_or(line).strip_prefix("use std");
    rest.is_some_and(|rest| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_'))
}

/// The keyword before what it makes unsafe.
fn has_unsafe(line: &str) -> bool {
    line.match_indices("unsafe ").any(|(i, word)| {
        let before = line[..i].chars().next_back();
        let what = line[i + word.len()..].split(|c: char| !c.is_alphanumeric()).next();
        !before.is_some_and(|c| c.is_alphanumeric() || c == '_')
            && (line[i + word.len()..].starts_with('{')
                || matches!(what, Some("fn" | "impl" | "trait" | "extern")))
    })
}

/// How many summary lines there are: the first line of each comment that documents something.
#[derive(Default)]
struct Summaries {
    all: usize,
    roundabout: usize,
}

impl Summaries {
    fn add(&mut self, text: &str) {
        let mut inside = false;
        for line in text.lines() {
            let line = line.trim_start();
            let summary = line.strip_prefix("/// ").or_else(|| line.strip_prefix("//! "));
            if let (Some(summary), false) = (summary, inside) {
                let first = summary.split(|c: char| !c.is_alphabetic()).next();
                self.all += 1;
                self.roundabout += usize::from(first.is_some_and(|word| OPENINGS.contains(&word)));
            }
            inside = line.starts_with("///") || line.starts_with("//!");
        }
    }
}

/// The tree of dependencies stays small, and nothing in it wants a C compiler.
pub(crate) fn deps(_: &Job) -> Outcome {
    let tree = |line: &str| -> Outcome<BTreeSet<String>> {
        let text = Stable.cargo().line("tree -q --prefix none").line(line).read()?;
        let lines = text.lines().map(|l| l.trim_end_matches(" (*)").to_owned());
        Ok(lines.filter(|l| !l.is_empty()).collect())
    };
    let runtime = tree("-p teff-runtime -e normal")?;
    println!("teff-runtime: {} crates, itself included", runtime.len());
    if runtime.len() > MAX_CRATES {
        let names: Vec<_> = runtime.into_iter().collect();
        return fail(format!("more than {MAX_CRATES}:\n{}", names.join("\n")));
    }
    let all = tree("--workspace --all-features -e normal,build --target all")?;
    let names = all.iter().map(|line| line.split(' ').next().unwrap_or_default());
    let c: BTreeSet<&str> = names.filter(|name| wants_c(name)).collect();
    if c.is_empty() { Ok(()) } else { fail(format!("these want C: {c:?}")) }
}

/// Crates that call a C compiler, or link what one has built.
fn wants_c(name: &str) -> bool {
    match name {
        "cc" | "cmake" | "pkg-config" | "vcpkg" | "bindgen" | "nasm-rs" => true,
        "windows-sys" => false, // declarations, without C
        _ => name.ends_with("-sys"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_see_what_they_should() {
        assert!(has_unsafe("    unsafe { x }") && has_unsafe("pub unsafe fn f()"));
        assert!(has_unsafe("#[x] unsafe impl Pod for B {}"));
        assert!(
            !has_unsafe("// unsafe code")
                && !has_unsafe("not_unsafe fn")
                && !has_unsafe("#![deny(unsafe_code)]")
        );
        assert!(
            uses_std("use std::fs;") && uses_std("pub use std;") && !uses_std("    use std::fs;")
        );
        assert!(!uses_std("use stdx::fs;"));
        assert!(
            wants_c("openssl-sys") && wants_c("cc") && !wants_c("windows-sys") && !wants_c("ccc")
        );
    }

    #[test]
    fn a_summary_is_the_first_line() {
        let mut s = Summaries::default();
        s.add("//! What it is.\n//! Where it is.\n\n/// Whatever.\nfn f() {}\n    /// Who?\n    ///\n    /// What.\n// Who\n");
        assert_eq!((s.all, s.roundabout), (3, 2));
    }
}
