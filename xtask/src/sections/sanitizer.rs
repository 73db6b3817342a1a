//! `capi`, `asan` and `fuzz`: the C interface, and what the address sanitizer sees.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::thread;

use crate::cmd::{Cmd, Outcome, Stop, fail};
use crate::job::Job;
use crate::toolchain::{ASAN, HOST, Toolchain::Nightly, Toolchain::Stable, asan_runtime};

/// The fuzz targets, each for so many seconds.
const FUZZ_SECONDS: u64 = 30;

/// The compiler's flags that cargo-fuzz passes, by which libFuzzer learns what code a case reached. Passed from here,
/// they save installing it.
const COVERAGE: &str = "--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Cllvm-args=-sanitizer-coverage-stack-depth \
    -Cdebug-assertions";

/// The C programs. (The header is compared with Rust in the section `test`.)
pub(crate) fn capi(_: &Job) -> Outcome {
    // Of the whole workspace, so that what `test` has built can be used.
    Stable.cargo().line("test -q --workspace --test capi -- --ignored").run()
}

/// The kernels' tests with every access to memory checked; then the C programs, of which the sanitizer also reports
/// what was never freed.
pub(crate) fn asan(job: &Job) -> Outcome {
    job.step("the kernels");
    // The tests and the library have the same features of the kernels, so that these are built once.
    let cargo = |line: &str| {
        let cargo = Nightly.cargo().line(line).args(["--target", HOST]);
        cargo.args(["--config", "profile.test.package.teff-kernels.debug-assertions=true"])
    };
    cargo("test -q -p teff-kernels --test equivalence --test long_rows").run()?;
    job.step("the C interface");
    let library = cargo("rustc -q -p teff-runtime --crate-type staticlib");
    // As the profile `test` has it, so that the kernels are those of the tests.
    let library = library.args(["--config", "profile.dev.lto='off'"]);
    let library = library.line(
        "--features capi,teff-kernels/default,teff-kernels/equivalence,teff-kernels/entered,teff-kernels/roofline",
    );
    library.run()?;
    let library = Nightly.dir().join(HOST).join("debug/libteff_runtime.a");
    let program = |name: &str| -> Outcome<PathBuf> {
        let (object, program) = (job.file(&format!("{name}.o")), job.file(name));
        let source = format!("examples/c/{name}.c");
        let cc = Cmd::new("cc").line("-std=c99 -D_POSIX_C_SOURCE=200809L -Wall -Wextra -Werror -g");
        let cc = cc.line("-fsanitize=address -I runtime/include -c").args([&source, "-o"]);
        cc.arg(&object).run()?;
        // Rust's runtime of the sanitizer, in place of the C compiler's own.
        let cc = Cmd::new("cc")
            .arg(&object)
            .arg(&library)
            .arg("-Wl,--whole-archive")
            .arg(asan_runtime()?);
        let cc = cc.line("-Wl,--no-whole-archive -lpthread -lm -ldl -lrt -o");
        cc.arg(&program).run()?;
        Ok(program)
    };
    let run = |program: &PathBuf| {
        Cmd::new(program).env("ASAN_OPTIONS", "detect_leaks=1:abort_on_error=0")
    };
    let (story, many) = (program("story")?, program("many")?);
    let (misuse, engines) = (program("misuse")?, program("misuse_engines")?);
    let blind = program("blind")?;
    let small = "tests/data/gpt2/gpt2-Q8_0.gguf";
    run(&story).args(["examples/gpt2/model.gguf", "Once upon a time", "10"]).run()?;
    run(&many).args(["examples/gpt2/model.gguf", "10", "Once upon a time", "The cat"]).run()?;
    let said = run(&misuse).arg(small).arg(&job.dir).log(&job.file("misuse.txt"))?;
    println!("{}", said.lines().last().unwrap_or_default());
    let said = run(&engines).arg(small).log(&job.file("misuse_engines.txt"))?;
    println!("{}", said.lines().last().unwrap_or_default());
    // That mistakes and leaks are found at all.
    run(&blind).args([small, "none"]).run()?;
    for mistake in ["leak", "buffer", "freed"] {
        let said = run(&blind).args([small, mistake]);
        let said = said.refused(&format!("the sanitizer doesn't see the mistake `{mistake}`"))?;
        let Some(line) = said.lines().find(|line| line.contains("SUMMARY: AddressSanitizer"))
        else {
            return fail(format!("{said}\n`{mistake}` ended it, but not by the sanitizer"));
        };
        println!("{line}");
    }
    Ok(())
}

/// Every fuzz target for some seconds, two at a time.
pub(crate) fn fuzz(job: &Job) -> Outcome {
    let seconds = job.number("FUZZ_SECONDS", FUZZ_SECONDS)?;
    let build =
        Nightly.cargo().line("build -q --release --manifest-path fuzz/Cargo.toml --bins --target");
    // (By default all of a crate would be compiled by one thread.)
    let build = build.arg(HOST).args(["--config", "profile.release.codegen-units=16"]);
    build.env("RUSTFLAGS", format!("{ASAN} {COVERAGE}")).run()?;
    job.step(&format!("{seconds} s each"));
    let mut targets = Vec::new();
    for entry in fs::read_dir("fuzz/fuzz_targets")? {
        targets.extend(entry?.path().file_stem().map(|name| name.to_string_lossy().into_owned()));
    }
    targets.sort();
    let mut failed = Vec::new();
    for pair in targets.chunks(2) {
        let ended = thread::scope(|scope| {
            let running = pair.iter().map(|target| scope.spawn(move || one(job, target, seconds)));
            let running: Vec<_> = running.collect();
            running.into_iter().map(|t| t.join().unwrap_or(false)).collect::<Vec<_>>()
        });
        failed.extend(
            pair.iter().zip(ended).filter(|(_, passed)| !passed).map(|(target, _)| target.as_str()),
        );
    }
    match (targets.is_empty(), failed.is_empty()) {
        (true, _) => fail("no fuzz targets"),
        (_, true) => Ok(()),
        _ => Err(Stop::Fail(format!("failed: {}", failed.join(" ")))),
    }
}

/// One target; true if it found nothing.
fn one(job: &Job, target: &str, seconds: u64) -> bool {
    let (corpus, seeds) = (format!("fuzz/corpus/{target}"), format!("fuzz/seeds/{target}"));
    let artifacts = format!("fuzz/artifacts/{target}/");
    let _ = fs::create_dir_all(&corpus).and_then(|()| fs::create_dir_all(&artifacts));
    let out = Command::new(Nightly.dir().join(HOST).join("release").join(target))
        .env("ASAN_OPTIONS", "detect_odr_violation=0")
        .arg(format!("-artifact_prefix={artifacts}"))
        .arg(format!("-max_total_time={seconds}"))
        .args(["-rss_limit_mb=2048", "-timeout=10", "-max_len=65536"])
        .args([corpus, seeds])
        .output();
    let (passed, text) = match out {
        Ok(out) => (out.status.success(), String::from_utf8_lossy(&out.stderr).into_owned()),
        Err(e) => (false, e.to_string()),
    };
    let _ = fs::write(job.file(&format!("{target}.log")), &text);
    let lines: Vec<&str> = text.lines().collect();
    let last = &lines[lines.len().saturating_sub(if passed { 1 } else { 60 })..];
    println!("{target}: {}{}", if passed { "" } else { "FAILED\n" }, last.join("\n"));
    passed
}
