//! The sections.

use std::fmt::Write;
use std::str::FromStr;

use crate::cmd::Outcome;
use crate::job::Job;
use crate::needs::{FOREIGN, Need};
use crate::sections::{
    bare, check, cpus, firmware, lints, packages, ported, sanitizer, serve, source, tests, web,
    windows,
};
use crate::toolchain::Toolchain::{self, Foreign, Nightly, Stable};

/// How much runs.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Tier {
    /// On every change: all promises and machines, at least by a sample.
    Change,
    /// By hand: everything in full.
    Nightly,
}

impl Tier {
    /// Its name on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Tier::Change => "change",
            Tier::Nightly => "nightly",
        }
    }
}

impl FromStr for Tier {
    type Err = String;

    fn from_str(name: &str) -> Result<Tier, String> {
        let all = [Tier::Change, Tier::Nightly];
        all.into_iter()
            .find(|t| t.name() == name)
            .ok_or_else(|| format!("no tier {name}: change, nightly"))
    }
}

/// A group of checks that are run together.
#[derive(Debug)]
pub(crate) struct Section {
    /// Its name on the command line.
    pub(crate) name: &'static str,
    /// Its subject, in a few words.
    pub(crate) title: &'static str,
    /// The first tier that has it.
    pub(crate) tier: Tier,
    /// The part that waits for `--tier nightly`; empty if there is none.
    pub(crate) later: &'static str,
    /// The toolchain that builds it. Two sections of one toolchain wait for each other while they build.
    pub(crate) uses: Option<Toolchain>,
    /// It comes after the section `test`, or, with another toolchain, after what is built there: it runs the command, or builds that one with
    /// other features.
    pub(crate) after_test: bool,
    /// Its needs beyond Rust.
    pub(crate) needs: &'static [&'static [Need]],
    /// Its checks.
    pub(crate) run: fn(&Job) -> Outcome,
}

const LLD: &[Need] = &[Need::Lld];
const NODE: &[Need] = &[Need::Program("node")];
const PYTHON: &[Need] = &[Need::Program("python3")];
const X86: &[Need] = &[Need::LinuxX86];
const NIGHTLY: &[Need] = &[Need::NightlyToolchain];
const BINUTILS: &[Need] = &[Need::Packages("/usr/bin/readelf", &["binutils"])];
const QEMU: &[Need] = &[Need::Packages("/usr/bin/qemu-x86_64-static", &["qemu-user-static"])];
const QEMU_ARM: &[Need] = &[Need::Packages("/usr/bin/qemu-system-arm", &["qemu-system-arm"])];
const CHROMIUM: &[Need] = &[Need::Packages(
    "/usr/bin/chromedriver",
    &["chromium", "chromium-driver", "fonts-dejavu-core"],
)];
const C: &[Need] = &[
    Need::Packages("/usr/bin/cc", &["gcc", "libc6-dev"]),
    Need::Packages("/usr/bin/c++", &["g++"]),
];
const AARCH64: &[Need] = &[
    Need::Packages("/usr/lib/rustlib/aarch64-unknown-linux-gnu", &["libstd-rust-web-dev:arm64"]),
    Need::Packages(
        "/usr/bin/aarch64-linux-gnu-gcc",
        &["gcc-aarch64-linux-gnu", "libc6-dev-arm64-cross"],
    ),
    Need::Packages("/usr/aarch64-linux-gnu/lib/crt1.o", &["libc6-dev-arm64-cross"]),
];
const S390X: &[Need] = &[
    Need::Std("s390x-unknown-linux-gnu"),
    Need::Packages(
        "/usr/bin/s390x-linux-gnu-gcc",
        &["gcc-s390x-linux-gnu", "libc6-dev-s390x-cross"],
    ),
];
const I686: &[Need] = &[
    Need::Std("i686-unknown-linux-gnu"),
    Need::Packages("/usr/bin/i686-linux-gnu-gcc", &["gcc-i686-linux-gnu", "libc6-dev-i386-cross"]),
];
const APPLE: &[Need] = &[Need::Std("aarch64-apple-darwin")];
const WASM: &[Need] = &[Need::Std("wasm32-unknown-unknown")];
const THUMB: &[Need] = &[Need::Std("thumbv6m-none-eabi")];
const WINDOWS: &[Need] = &[
    Need::Std("x86_64-pc-windows-gnu"),
    Need::Packages("/usr/bin/x86_64-w64-mingw32-gcc", &["gcc-mingw-w64-x86-64"]),
    Need::Packages("/usr/lib/wine/wine64", &["wine64"]),
];

const fn section(
    (name, title): (&'static str, &'static str),
    uses: Option<Toolchain>,
    needs: &'static [&'static [Need]],
    run: fn(&Job) -> Outcome,
) -> Section {
    Section { name, title, tier: Tier::Change, later: "", uses, after_test: false, needs, run }
}

impl Section {
    const fn after_test(self) -> Section {
        Section { after_test: true, ..self }
    }

    const fn nightly(self) -> Section {
        Section { tier: Tier::Nightly, ..self }
    }

    const fn later(self, later: &'static str) -> Section {
        Section { later, ..self }
    }
}

/// All sections, about in the order in which they begin: first those that do not come after `test`, and long ones before
/// short ones.
#[rustfmt::skip]
pub(crate) const SECTIONS: &[Section] = &[
    section(("fmt", "the format of the code"), None, &[], lints::fmt),
    section(("rules", "house rules that a pattern sees"), None, &[], source::rules),
    section(("deps", "dependencies: few, and none of C"), None, &[], source::deps),
    section(("test", "all tests, default features"), Some(Stable), &[], tests::test)
        .later("all floats, 10 to 30 times the random texts and companies; the compact backend of examples/wasm"),
    section(("asan", "kernels and C programs under the address sanitizer"), Some(Nightly), &[NIGHTLY, X86, C],
        sanitizer::asan).nightly(),
    section(("check", "macOS, Windows on ARM, Android, FreeBSD: compiled, not run"), Some(Foreign), &[&FOREIGN, APPLE],
        check::check).later("Windows on ARM, Android and FreeBSD"),
    section(("wasm", "wasm modules of the kernels, in node"), Some(Foreign), &[NODE, LLD, &FOREIGN, WASM], web::wasm)
        .later("the module without simd128; the kernels fully optimised; this machine"),
    section(("firmware", "a program for microcontrollers, emulated"), Some(Foreign),
        &[LLD, &FOREIGN, QEMU_ARM, BINUTILS], firmware::firmware).later("Cortex-M55, scalar code, Q4_0, and Gemma 4"),
    section(("bare", "targets without std"), Some(Foreign), &[&FOREIGN, THUMB], bare::bare)
        .later("four targets for one, and built"),
    section(("arm", "AArch64, emulated"), None, &[X86, &FOREIGN, AARCH64, QEMU], ported::arm).after_test()
        .later("the kernels' equivalence on three CPUs, their truth; optimised; all models"),
    section(("windows", "Windows x86-64, under wine"), Some(Foreign), &[X86, &FOREIGN, WINDOWS],
        windows::windows).after_test().later("all models"),
    section(("cpus", "older x86-64 CPUs, emulated"), Some(Stable), &[X86, QEMU], cpus::cpus).after_test()
        .later("all models, and 256 cases of each law for 3"),
    section(("clippy", "lints, for every choice of features"), Some(Stable), &[], lints::clippy)
        .later("tests and examples with default and no features; graph without alloc; examples/wasm"),
    section(("big_endian", "s390x, emulated"), None, &[X86, &FOREIGN, S390X, QEMU],
        ported::big_endian).after_test().later("the kernels' truth, readers of files; all models, twice the cases"),
    section(("laws", "the kernels' laws, in many cases"), Some(Stable), &[], tests::laws)
        .later("a million cases for 50,000"),
    section(("page", "the wasm modules and their page, in node and Chromium"), None,
        &[NODE, LLD, &FOREIGN, CHROMIUM], web::page).after_test().later("the module without simd128"),
    section(("serve", "`teff serve`: its page in Chromium, and the clients of others"), None, &[NODE, CHROMIUM, PYTHON],
        serve::serve).after_test(),
    section(("soak", "`teff serve` under a hundred thousand requests of every kind"), Some(Stable), &[], serve::soak)
        .after_test().nightly(),
    section(("fuzz", "the fuzz targets, 30 seconds each"), Some(Nightly), &[NIGHTLY, X86, C], sanitizer::fuzz).nightly(),
    section(("narrow", "sizes of 32 bits: i686"), None, &[X86, &FOREIGN, I686], ported::narrow).after_test()
        .later("the kernels' truth, plans; all models, the runtime's tests of loading"),
    section(("capi", "the C programs"), Some(Stable), &[C], sanitizer::capi).after_test(),
    section(("doc", "documentation, without warnings"), Some(Stable), &[], lints::doc),
    section(("packages", "what is published, and the command without the repository"), Some(Stable), &[], packages::packages)
        .after_test().later("each built from its archive; `cargo install`; semantic versions"),
    section(("families", "formats that were left out are not there"), Some(Stable), &[BINUTILS], tests::families)
        .nightly(),
];

/// The table as `--list` prints it.
pub(crate) fn list() -> String {
    let mut text = String::new();
    for s in SECTIONS {
        let _ = writeln!(text, "{:<11} {:<8} {}", s.name, s.tier.name(), s.title);
        if !s.later.is_empty() {
            let _ = writeln!(text, "{:<20} (nightly: {})", "", s.later);
        }
    }
    text
}

#[cfg(test)]
mod tests_of_table {
    use super::*;
    use crate::job::root;

    #[test]
    fn names_are_unique() {
        for (i, s) in SECTIONS.iter().enumerate() {
            assert!(SECTIONS[..i].iter().all(|t| t.name != s.name), "{} is there twice", s.name);
        }
    }

    #[test]
    fn contributing_has_every_section() {
        let text = std::fs::read_to_string(root().join("CONTRIBUTING.md")).unwrap();
        let rows = text.lines().skip_while(|l| !l.starts_with("| section |")).skip(2);
        let rows: Vec<Vec<&str>> = rows
            .take_while(|l| l.starts_with('|'))
            .map(|l| l.split('|').map(str::trim).collect())
            .collect();
        let named: Vec<_> = rows.iter().map(|row| row[1].trim_matches('`')).collect();
        let mut all: Vec<_> = SECTIONS.iter().collect();
        all.sort_unstable_by_key(|s| s.name);
        assert_eq!(named, all.iter().map(|s| s.name).collect::<Vec<_>>());
        // A section of which the nightly tier does more says so in both places.
        for (row, section) in rows.iter().zip(all) {
            assert_eq!(row[3].is_empty(), section.later.is_empty(), "{}", section.name);
        }
    }
}
