//! The programs and packages that sections need beyond Rust, and how they are installed.

use std::collections::HashSet;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::table::Section;
use crate::toolchain::{has_std, lld, rustup};

/// One thing that a section needs.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Need {
    /// Debian's packages, which are there if the file is.
    Packages(&'static str, &'static [&'static str]),
    /// A program on the path that is not installed from here.
    Program(&'static str),
    /// The linker in rustup's stable toolchain.
    Lld,
    /// A target's library in rustup's stable toolchain. Without it Debian's toolchain builds one, which takes longer.
    Std(&'static str),
    /// rustup's nightly toolchain. A machine may lack it, under CI too.
    NightlyToolchain,
    /// Linux on x86-64. Other machines skip, under CI too.
    LinuxX86,
}

/// Debian's Rust with the library's source.
pub(crate) const FOREIGN: [Need; 2] = [
    Need::Packages("/usr/bin/cargo", &["cargo-web", "rustc-web", "rust-web-src"]),
    Need::Packages("/usr/lib/rustlib/src/rust/library/core", &["rust-web-src"]),
];

/// How far a section's needs are met.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Met {
    /// It can run.
    Yes,
    /// It is skipped, whatever the machine.
    Skip(String),
    /// It is skipped, or fails under CI.
    Missing(String),
}

impl Need {
    /// Looks whether it is there.
    fn met(&self) -> Met {
        match *self {
            Need::Packages(file, _) if Path::new(file).exists() => Met::Yes,
            Need::Packages(file, names) => {
                Met::Missing(format!("{file} (Debian: apt-get install {})", names.join(" ")))
            }
            Need::Program(name) if starts(name, &["--version"]) => Met::Yes,
            Need::Program(name) => Met::Missing(name.into()),
            Need::Std(_) => Met::Yes,
            Need::Lld => lld().map_or_else(|_| Met::Missing("rust-lld".into()), |_| Met::Yes),
            Need::NightlyToolchain => {
                let cargo = rustup("cargo").to_string_lossy().into_owned();
                match starts(&cargo, &["+nightly", "--version"]) {
                    true => Met::Yes,
                    false => Met::Skip("no nightly toolchain".into()),
                }
            }
            Need::LinuxX86 if cfg!(all(target_os = "linux", target_arch = "x86_64")) => Met::Yes,
            Need::LinuxX86 => Met::Skip("this is not Linux on x86-64".into()),
        }
    }
}

/// The first need of a section that is not met.
pub(crate) fn met(section: &Section) -> Met {
    section
        .needs
        .iter()
        .copied()
        .flatten()
        .map(Need::met)
        .find(|met| *met != Met::Yes)
        .unwrap_or(Met::Yes)
}

/// True if any of its needs can be installed from here.
pub(crate) fn waits(section: &'static Section) -> bool {
    packages(&[section]).next().is_some() || targets(&[section]).next().is_some()
}

/// Installs what the sections lack, all at once; where that fails, for each section by itself. What is still
/// missing then is found by [`met`].
pub(crate) fn install(sections: &[&'static Section]) {
    let apt = |args: &[&str]| {
        let mut command = Command::new("apt-get");
        command.args(args).env("DEBIAN_FRONTEND", "noninteractive").stdin(Stdio::null());
        command.stdout(Stdio::null()).status().is_ok_and(|status| status.success())
    };
    let install = |sections: &[&'static Section]| {
        let names: HashSet<&str> = packages(sections).collect();
        let args = ["install", "-y", "-qq", "--no-install-recommends"].into_iter();
        names.is_empty() || apt(&args.chain(names).collect::<Vec<_>>())
    };
    if !root() {
        return;
    }
    let missing: HashSet<&str> = targets(sections).collect();
    if !missing.is_empty() {
        let mut command = Command::new("timeout");
        command.arg("120").arg(rustup("rustup")).args(["target", "add"]).args(missing);
        let _ = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    }
    if packages(sections).next().is_none() || !starts("apt-get", &["--version"]) {
        return;
    }
    if packages(sections).any(|name| name.ends_with(":arm64")) {
        let _ = Command::new("dpkg").args(["--add-architecture", "arm64"]).status();
    }
    apt(&["update", "-qq"]);
    if !install(sections) {
        for section in sections {
            install(&[section]);
        }
    }
}

/// The packages whose files are missing.
fn packages(sections: &[&'static Section]) -> impl Iterator<Item = &'static str> {
    let needs = sections.iter().flat_map(|s| s.needs.iter().copied().flatten());
    let missing = needs.filter_map(|need| match *need {
        Need::Packages(file, names) if !Path::new(file).exists() => Some(names),
        _ => None,
    });
    missing.flatten().copied()
}

/// The targets whose libraries are missing.
fn targets(sections: &[&'static Section]) -> impl Iterator<Item = &'static str> {
    let needs = sections.iter().flat_map(|s| s.needs.iter().copied().flatten());
    needs.filter_map(|need| match *need {
        Need::Std(target) if !has_std(target) => Some(target),
        _ => None,
    })
}

fn starts(program: &str, args: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

fn root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|out| out.stdout == b"0\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named() {
        assert_eq!(Need::Packages("/", &["base-files"]).met(), Met::Yes);
        let Met::Missing(said) = Need::Packages("/no/such/file", &["a", "b"]).met() else {
            panic!()
        };
        assert_eq!(said, "/no/such/file (Debian: apt-get install a b)");
        assert_eq!(Need::Program("no-such-program").met(), Met::Missing("no-such-program".into()));
    }
}
