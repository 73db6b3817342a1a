//! `fmt`, `clippy` and `doc`: what the compiler's tools say.

use crate::cmd::Outcome;
use crate::job::Job;
use crate::toolchain::Toolchain::Stable;

/// Packages outside of the workspace.
const OUTSIDE: [&str; 4] = ["fuzz", "tests/wasm", "examples/wasm", "examples/bare_metal"];

/// The format of all packages.
pub(crate) fn fmt(_: &Job) -> Outcome {
    for dir in [".", OUTSIDE[0], OUTSIDE[1], OUTSIDE[2], OUTSIDE[3]] {
        Stable.cargo().line("fmt --all --check -- --color never").dir(dir).run()?;
    }
    Ok(())
}

/// Clippy for every choice of features. Tests and examples are looked at with all features, and with the other choices by
/// night; so is the page's workspace.
pub(crate) fn clippy(job: &Job) -> Outcome {
    let clippy =
        |line: &str| Stable.cargo().line("clippy -q").line(line).line("-- -D warnings").run();
    job.step("all features");
    clippy("--workspace --all-targets --all-features")?;
    let targets = if job.full { "--all-targets" } else { "--lib --bins" };
    job.step("default features");
    clippy(&format!("--workspace {targets}"))?;
    job.step("no default features");
    clippy(&format!("--workspace {targets} --no-default-features"))?;
    if !job.full {
        // (That they compile without these is seen in the section `bare`, and that examples/wasm does in `page`.)
        return Ok(());
    }
    // In the workspace runtime asks for graph's `alloc`, so its absence needs a run of its own.
    job.step("teff-graph without alloc");
    clippy("-p teff-graph --no-default-features --lib")?;
    // And for the tokenizer's `std`.
    job.step("teff-tokenizer without std");
    clippy("-p teff-tokenizer --no-default-features --lib")?;
    job.step("examples/wasm");
    clippy("--locked --workspace --all-targets --manifest-path examples/wasm/Cargo.toml")
}

/// The documentation of all items.
pub(crate) fn doc(_: &Job) -> Outcome {
    Stable.cargo().line("doc -q --workspace --no-deps").env("RUSTDOCFLAGS", "-Dwarnings").run()
}
