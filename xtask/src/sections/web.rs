//! `wasm` and `page`: modules for wasm32, in node and in headless Chromium.

use std::fs;
use std::path::Path;

use crate::cmd::{Cmd, Outcome, fail};
use crate::job::{Job, TOKENS, data_files, files};
use crate::toolchain::{Toolchain::Foreign, cross, foreign};

fn versions() -> Outcome {
    Cmd::new("/usr/bin/rustc").arg("--version").run()?;
    println!("node {}", Cmd::new("node").arg("--version").read()?.trim());
    Ok(())
}

/// The kernels in a module with simd128, and in one without it (nightly tier): no number differs from the scalar truth,
/// and all of them are those of other machines.
pub(crate) fn wasm(job: &Job) -> Outcome {
    const MANIFEST: &str = "--locked --manifest-path tests/wasm/Cargo.toml";
    versions()?;
    // Each is built with a core of its own; browsers of today take the first.
    // Without optimisation the frames of functions that are made of many others take more than a megabyte.
    let both = [
        ("simd128", "-C target-feature=+simd128 -C link-arg=-zstack-size=8388608"),
        ("plain", "-C link-arg=-zstack-size=8388608"),
    ];
    let both = if job.full { &both[..] } else { &both[..1] };
    for (name, flags) in both {
        job.step(name);
        let mut build = cross("build -q --lib", "wasm32-unknown-unknown", "core")
            .line(MANIFEST)
            .env("RUSTFLAGS", flags);
        if !job.full {
            // As optimised as they are shipped, they are built in the section `page`.
            build = build.args(["--config", "profile.dev.package.teff-kernels.opt-level=0"]);
        }
        build.run()?;
        let built = Foreign.dir().join("wasm32-unknown-unknown/debug/teff_wasm_check.wasm");
        fs::copy(built, job.file(&format!("{name}.wasm")))?;
    }
    // The hashes of every machine.
    let hashes = Path::new("tests/wasm/hashes.txt");
    if job.full {
        job.step("this machine");
        // Here nothing needs to be fast, and this builds in a tenth of the time.
        let native = Foreign.cargo().line("run -q").line(MANIFEST);
        let slow = ["--config", "profile.dev.package.teff-kernels.opt-level=0"];
        let seeds = fs::read_to_string(hashes)?.lines().count().to_string();
        let here = native.args(slow).args(["--", &seeds]).read()?;
        if here.trim() != fs::read_to_string(hashes)?.trim() {
            return fail(format!(
                "this machine has other hashes than {}:\n{here}",
                hashes.display()
            ));
        }
    }
    job.step("node");
    let modules = both.iter().map(|(name, _)| job.file(&format!("{name}.wasm")));
    Cmd::new("node").arg("tests/wasm/run.mjs").arg(hashes).args(modules).run()
}

/// The modules of examples/wasm: the one with simd128, and in the nightly tier the plain one. In node: their sizes, logits
/// and texts that are this machine's to the last bit for every format and family, errors, memory. In headless Chromium:
/// the page writes, stops and answers.
pub(crate) fn page(job: &Job) -> Outcome {
    versions()?;
    println!("{}", Cmd::new("chromedriver").arg("--version").read()?.trim());
    job.step("modules");
    let site = job.file("site");
    // A plain module of an earlier run would be tested too.
    let _ = fs::remove_dir_all(&site);
    foreign(Cmd::new("examples/wasm/build.sh"))
        .env("CARGO_TARGET_DIR", Foreign.dir().join("page"))
        .env("MODULES", if job.full { "plain simd128" } else { "simd128" })
        .env("RUSTFLAGS", "-Zunstable-options -Cpanic=immediate-abort")
        .arg(&site)
        .line("-Zbuild-std=std -Zbuild-std-features=optimize_for_size")
        .run()?;
    job.step("this machine");
    let (teff, native) = (job.here()?, job.file("native"));
    fs::create_dir_all(&native)?;
    let mut models = data_files()?;
    models.extend(files(&[&site.to_string_lossy()], ".gguf")?);
    // The page leaves out the formats with codebooks, whose tables are a tenth of it.
    let codebooks = ["-IQ1_", "-IQ2_", "-IQ3_"];
    models.retain(|model| !codebooks.iter().any(|name| model.to_string_lossy().contains(name)));
    for model in models {
        let model = {
            let copy = native.join(model.file_name().unwrap_or_default());
            fs::copy(&model, &copy)?;
            copy
        };
        let logits = Cmd::new(&teff).arg("logits").arg(&model).args(["--tokens", TOKENS, "--out"]);
        logits.arg(model.with_extension("f32")).run()?;
        if model.file_name().is_some_and(|name| name.to_string_lossy().starts_with("stories-")) {
            let run = Cmd::new(&teff).arg("run").arg(&model).args(["-p", "Once upon a time"]);
            run.line("-n 120 --seed 7").into_file(&model.with_extension("txt"))?;
        }
    }
    job.step("node");
    Cmd::new("node").arg("examples/wasm/test/node.mjs").arg(&site).arg(&native).run()?;
    job.step("Chromium");
    let browser = Cmd::new("timeout").line("180 node examples/wasm/test/browser.mjs");
    browser.arg(&site).arg(job.file("page.png")).run()
}
