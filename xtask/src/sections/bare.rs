//! `bare`: kernels and graph on targets without std.

use crate::cmd::{Cmd, Outcome};
use crate::job::Job;
use crate::toolchain::Toolchain::Foreign;

/// Targets on which alloc and all formats are checked too.
const SAMPLE: [&str; 3] = ["thumbv6m-none-eabi", "aarch64-unknown-none", "x86_64-unknown-none"];

/// Builds them for each. The core of the language alone comes first, so that neither can lean on a heap.
/// (thumbv7em, thumbv8m and wasm32: the sections `firmware`, `wasm` and `page`.)
pub(crate) fn bare(job: &Job) -> Outcome {
    Cmd::new("/usr/bin/rustc").arg("--version").run()?;
    let cargo = |line: &str| {
        let mut cmd = Foreign.cargo().line(line).env("CARGO_PROFILE_DEV_DEBUG", "0");
        for target in SAMPLE {
            cmd = cmd.arg("--target").arg(target);
        }
        cmd
    };
    job.step("core alone: teff-kernels, and teff-graph without alloc");
    // What only a code generator finds (a size, an instruction that is not there) it finds in any build.
    cargo("build -q -Zbuild-std=core -p teff-kernels -p teff-graph --no-default-features")
        .line("--target riscv32imac-unknown-none-elf")
        .run()?;
    job.step("core and alloc: all formats, the suite for third parties, and plans that are built");
    cargo("check -q -Zbuild-std=core,alloc -p teff-kernels -p teff-graph --features teff-kernels/equivalence").run()
}
