//! `bare`: kernels, graph and tokenizers on targets without std.

use crate::cmd::{Cmd, Outcome};
use crate::job::Job;
use crate::toolchain::Toolchain::Foreign;
use crate::toolchain::cross;

/// The crates that need no heap.
const CORE: &str = "-p teff-kernels -p teff-graph";

/// All targets. (thumbv7em, thumbv8m and wasm32: the sections `firmware`, `wasm` and `page`.)
const ALL: [&str; 4] = [
    "thumbv6m-none-eabi",
    "x86_64-unknown-none",
    "aarch64-unknown-none",
    "riscv32imac-unknown-none-elf",
];

/// The one of the change tier, which lacks atomic exchanges. The language's core is compiled for each, which takes most of
/// the time.
const SAMPLE: &[&str] = &[ALL[0]];

/// Checks them for each; by night they are built, too. The core of the language alone comes first, so that
/// neither can lean on a heap.
pub(crate) fn bare(job: &Job) -> Outcome {
    Cmd::new("/usr/bin/rustc").arg("--version").run()?;
    let targets = if job.full { &ALL } else { SAMPLE };
    // The library from source, of which core alone is built: what rustup has includes a heap.
    let core = |line: &str| -> Outcome {
        targets.iter().try_for_each(|target| {
            let cargo =
                Foreign.cargo().line(line).line("-q -Zbuild-std=core --no-default-features");
            cargo.args(["--target", target]).line(CORE).run()
        })
    };
    let alloc = |line: &str| -> Outcome {
        targets.iter().try_for_each(|target| cross(line, target, "core,alloc").arg("-q").run())
    };
    job.step("core alone: teff-kernels, and teff-graph without alloc");
    core("check")?;
    job.step("core and alloc: all formats, the suite for third parties, and plans that are built");
    alloc(&format!("check {CORE} --features teff-kernels/equivalence"))?;
    job.step("core and alloc: teff-tokenizer without its feature std");
    alloc("check -p teff-tokenizer --no-default-features")?;
    if job.full {
        // A size, or an instruction that is not there, is found by a code generator only.
        job.step("core alone, built");
        core("build")?;
    }
    Ok(())
}
