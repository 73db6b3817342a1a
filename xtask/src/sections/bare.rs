//! `bare`: kernels and graph on targets without std.

use crate::cmd::{Cmd, Outcome};
use crate::job::Job;
use crate::toolchain::Toolchain::Foreign;

/// Targets that have nothing but scalar code; they are built, by a code generator that finds a size or an instruction
/// that is not there.
const BUILT: [&str; 2] = ["thumbv6m-none-eabi", "riscv32imac-unknown-none-elf"];

/// Targets with instruction sets of their own, for which other sections build them with std; they are checked.
const CHECKED: [&str; 2] = ["aarch64-unknown-none", "x86_64-unknown-none"];

/// Builds kernels and graph for each. The core of the language alone comes first, so that neither can lean on a heap.
/// (thumbv7em, thumbv8m and wasm32: the sections `firmware`, `wasm` and `page`.)
pub(crate) fn bare(job: &Job) -> Outcome {
    Cmd::new("/usr/bin/rustc").arg("--version").run()?;
    let cargo = |line: &str, targets: &[&str]| {
        let mut cmd = Foreign.cargo().line(line).env("CARGO_PROFILE_DEV_DEBUG", "0");
        for target in targets {
            cmd = cmd.arg("--target").arg(target);
        }
        cmd.line("-p teff-kernels -p teff-graph")
    };
    job.step("core alone: teff-kernels, and teff-graph without alloc");
    cargo("build -q -Zbuild-std=core --no-default-features", &BUILT).run()?;
    cargo("check -q -Zbuild-std=core --no-default-features", &CHECKED).run()?;
    job.step("core and alloc: all formats, the suite for third parties, and plans that are built");
    let targets = [BUILT[0], CHECKED[0], CHECKED[1]];
    cargo("check -q -Zbuild-std=core,alloc --features teff-kernels/equivalence", &targets).run()
}
