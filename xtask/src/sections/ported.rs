//! `arm`, `big_endian` and `narrow`: machines of another kind, by Debian's toolchain. The kernels, plans, readers of
//! files and tokenizers are tested, and whole models give the bits of this machine.

use std::env;
use std::path::PathBuf;

use crate::cmd::{Cmd, Outcome};
use crate::job::{Job, data_files};
use crate::toolchain::Toolchain::Foreign;
use crate::toolchain::cross;

use super::compare::{Runner, models, same_logits, same_tokens};

/// The command as it is built there: with the features of the tests, whose kernels it shares; without `chat`.
const COMMAND: &str = "build -q --profile test --bin teff --no-default-features --features \
                       cli,mmap,folders,repack,legacy-quants,k-quants,i-quants,codebook-quants,low-bit-quants,fp4-quants,ternary,teff-graph/default,teff-kernels/default,teff-kernels/equivalence,teff-kernels/entered";

/// A machine, and how programs for it are built and run.
struct Machine {
    target: &'static str,
    linker: &'static str,
    runner: &'static str,
    /// How far the workspace's own code is optimised.
    opt: &'static str,
    /// Cases of each law.
    cases: &'static str,
    /// Debian has no std for it: rustup's, or one that is built. Linked statically, since the machine's libraries are not
    /// here.
    build_std: bool,
    /// Tests are built for it, and not the command alone.
    tested: bool,
}

impl Machine {
    fn cargo(&self, line: &str) -> Cmd {
        let std = if self.tested { "std,panic_abort,test" } else { "std,panic_abort" };
        let upper = self.target.to_uppercase().replace('-', "_");
        let cmd = if self.build_std {
            cross(line, self.target, std)
        } else {
            Foreign.cargo().line(line).args(["--target", self.target])
        };
        // Of the tokenizers too: the profile has an option of their own.
        let tokenizer = format!("profile.test.package.teff-tokenizer.opt-level={}", self.opt);
        let cmd = cmd
            .args(["--config", &tokenizer])
            .env("CARGO_TARGET_DIR", self.dir())
            .env("CARGO_PROFILE_DEV_OPT_LEVEL", self.opt)
            .env("CARGO_PROFILE_TEST_OPT_LEVEL", self.opt)
            .env("PROPTEST_CASES", self.cases)
            .env("RUST_MIN_STACK", "16777216") // frames of code that is not optimised are large
            .env(format!("CARGO_TARGET_{upper}_LINKER"), self.linker)
            .env(format!("CARGO_TARGET_{upper}_RUNNER"), format!("timeout 300 {}", self.runner));
        if self.build_std { cmd.env("RUSTFLAGS", "-C target-feature=+crt-static") } else { cmd }
    }

    /// A folder of its own, so that no machine waits while another one is built for.
    fn dir(&self) -> PathBuf {
        Foreign.dir().join(self.target.split('-').next().unwrap_or_default())
    }

    /// The command, built by [`COMMAND`].
    fn teff(&self) -> Outcome<String> {
        self.cargo(COMMAND).run()?;
        let path: PathBuf = self.dir().join(self.target).join("debug/teff");
        Ok(path.to_string_lossy().into_owned())
    }

    /// Whole models, and by night, before them, the unit tests of kernels and graph and those of the kernels' truth,
    /// readers and sizes. `wrong` are tests that fail by the emulator's fault; `loading` are tests of the runtime.
    fn check(&self, job: &Job, wrong: &[&str], loading: &[&str]) -> Outcome {
        Cmd::new("/usr/bin/rustc").arg("--version").run()?;
        // (Not the backends' equivalence: these machines have the scalar one alone.)
        let skip = wrong.iter().map(|name| format!("--skip={name}"));
        if job.full {
            job.step("kernels and graph");
            let kernels = self.cargo("test -q -p teff-kernels --lib --test sizes --test truth");
            kernels.arg("--").args(skip).run()?;
            self.cargo("test -q -p teff-graph --lib --test gguf --test sizes").run()?;
        }
        if !loading.is_empty() {
            job.step("runtime");
            let tests = loading.iter().flat_map(|name| ["--test", name]);
            self.cargo("test -q -p teff-runtime").args(tests).run()?;
        }
        job.step("whole models");
        let teff = self.teff()?;
        let runner: Runner<'_> = &[self.runner, teff.as_str()];
        same_tokens(job, if job.full { 1 } else { 3 }, runner)?;
        same_logits(job, &models(job.full)?, &[runner])
    }
}

/// Big-endian, emulated: files are little-endian. QEMU 7.2 takes the first factor of MDEBR, which multiplies two f32
/// to an f64, for an f64: tests that compare with f64 can't be right by it. The runtime is tested by the command.
pub(crate) fn big_endian(job: &Job) -> Outcome {
    let s390x = Machine {
        target: "s390x-unknown-linux-gnu",
        linker: "s390x-linux-gnu-gcc",
        runner: "/usr/bin/qemu-s390x-static",
        opt: "1",
        cases: if job.full { "16" } else { "8" },
        build_std: true,
        tested: job.full,
    };
    println!(
        "{}",
        Cmd::new(s390x.runner).arg("--version").read()?.lines().next().unwrap_or_default()
    );
    let wrong = [
        "emulated_fma_is_the_fused_one",
        "dense_products_are_right",
        "attention_is_right",
        "attention_of_groups_with_windows_is_right",
    ];
    // The command reads files, and computes with every format's blocks.
    s390x.check(job, &wrong, &[])
}

/// Sizes of 32 bits; this machine runs it. The runtime's own tests of loading want many crates built for them, some
/// minutes: they are for the nightly tier and for changes of loading (LOADING=1).
pub(crate) fn narrow(job: &Job) -> Outcome {
    let loading = job.full || env::var_os("LOADING").is_some_and(|set| !set.is_empty());
    let i686 = Machine {
        target: "i686-unknown-linux-gnu",
        linker: "i686-linux-gnu-gcc",
        runner: "nice",
        opt: "0",
        cases: "16",
        build_std: true,
        tested: loading,
    };
    let tests: &[&str] = if loading { &["files"] } else { &[] };
    // (Plans and tables whose sizes differ there are built by the command.)
    i686.check(job, &[], tests)
}

/// AArch64: CPUs with NEON alone, with dot products of bytes, and with matrix products of bytes too.
pub(crate) fn arm(job: &Job) -> Outcome {
    const QEMU: &str = "/usr/bin/qemu-aarch64-static";
    const CPUS: [(&str, &str); 3] = [
        ("cortex-a53", "/usr/bin/qemu-aarch64-static -cpu cortex-a53"),
        ("cortex-a76", "/usr/bin/qemu-aarch64-static -cpu cortex-a76"),
        ("max", "/usr/bin/qemu-aarch64-static -cpu max"),
    ];
    let machine = |runner: &'static str| Machine {
        target: "aarch64-unknown-linux-gnu",
        linker: "aarch64-linux-gnu-gcc",
        runner,
        // Slow code takes less time to run on few models than fast code takes to build.
        opt: if job.full { "2" } else { "0" },
        cases: "24",
        build_std: false,
        tested: true,
    };
    Cmd::new("/usr/bin/rustc").arg("--version").run()?;
    println!("{}", Cmd::new(QEMU).arg("--version").read()?.lines().next().unwrap_or_default());
    let max = machine(CPUS[2].1);
    if job.full {
        for (cpu, runner) in CPUS {
            job.step(&format!("{cpu}: the kernels' equivalence"));
            let tests = "test -q -p teff-kernels --test equivalence --test ternary";
            machine(runner).cargo(tests).run()?;
        }
        job.step("max: the kernels' truth, and what is entered");
        max.cargo("test -q -p teff-kernels --lib --test truth --test entered").run()?;
    }
    job.step("whole models");
    let teff = max.teff()?;
    let on = |cpu: &'static str| [QEMU, "-cpu", cpu, teff.as_str()];
    let mut all = models(job.full)?;
    let few = all.clone();
    if !job.full {
        // Every format of the kernels, by the CPU that has all backends.
        let of_formats = data_files()?;
        all.extend(of_formats.into_iter().filter(|file| file.starts_with("tests/data/gpt2")));
        all.dedup();
    }
    let few = if job.full { &few[..] } else { &few[..2] };
    same_logits(job, &all, &[&on("max")])?;
    same_logits(job, few, &[&on("cortex-a53"), &on("cortex-a76")])?;
    // That the emulated CPUs differ in what they have, and that it is found.
    let logits = |cpu: &str, backend: &str| {
        let logits =
            Cmd::new(QEMU).args(["-cpu", cpu, &teff, "logits", "tests/data/gpt2/gpt2-Q8_0.gguf"]);
        logits.args(["--tokens", "1", "--backend", backend, "--out"]).arg(job.file("there.f32"))
    };
    logits("max", "i8mm").run()?;
    logits("cortex-a76", "dotprod").run()?;
    for (cpu, backend) in [("cortex-a76", "i8mm"), ("cortex-a53", "dotprod")] {
        print!("{}", logits(cpu, backend).refused("an emulated CPU ran what it lacks")?);
    }
    Ok(())
}
