//! `cpus`: older x86-64 CPUs, emulated. Nothing executes what isn't there, and the bits are those of this machine.

use crate::cmd::{Cmd, Outcome};
use crate::job::Job;
use crate::toolchain::Toolchain::Stable;

use super::compare::{models, same_logits};

/// The emulator of one program.
const QEMU: &str = "/usr/bin/qemu-x86_64-static";

/// Nehalem has SSE4.2, so that the scalar backend is left; `max` here is AVX2 without AVX-512.
pub(crate) fn cpus(job: &Job) -> Outcome {
    println!("{}", Cmd::new(QEMU).arg("--version").read()?.lines().next().unwrap_or_default());
    job.step("max: the kernels' equivalence");
    // Of the whole workspace, so that what `test` has built can be used.
    Stable
        .cargo()
        .line("test -q --workspace --test equivalence")
        .env("CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER", format!("{QEMU} -cpu max"))
        .env("PROPTEST_CASES", if job.full { "256" } else { "3" })
        .run()?;
    let here = job.here()?;
    let teff = here.to_string_lossy().into_owned();
    job.step("Nehalem and max: logits");
    let on = |cpu: &'static str| [QEMU, "-cpu", cpu, teff.as_str()];
    same_logits(job, &models(job.full)?, &[&on("Nehalem"), &on("max")])?;
    job.step("compiled for newer CPUs alone");
    // (Nothing else asks for the target's instructions. With a target, build scripts are not made of them.)
    Stable
        .cargo()
        .line("check -q -p teff-kernels --all-features --target x86_64-unknown-linux-gnu")
        .env("RUSTFLAGS", "-C target-cpu=x86-64-v4")
        .run()?;
    // That the emulated CPUs differ in what they have, or all of this proves nothing.
    let avx2 = |cpu: &str| {
        let logits = Cmd::new(QEMU).args(["-cpu", cpu]).arg(&here).arg("logits");
        let logits =
            logits.arg("tests/data/gpt2/gpt2-Q8_0.gguf").line("--tokens 1 --backend avx2 --out");
        logits.arg(job.file("avx2.f32"))
    };
    avx2("max").run()?;
    print!("{}", avx2("Nehalem").refused("Nehalem ran AVX2")?);
    Ok(())
}
