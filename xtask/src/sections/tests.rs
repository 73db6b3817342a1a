//! `test`, `laws` and `families`: tests on this machine.

use std::fs;

use crate::cmd::{Cmd, Outcome, Stop, fail};
use crate::job::Job;
use crate::toolchain::{HOST, Toolchain::Stable};

/// Cases of the laws, in the change tier and by night.
const LAWS_CASES: [u64; 2] = [50_000, 1_000_000];

/// All tests of the workspace; by night with more cases (`TEFF_FULL`), and that the page's compact backend is equivalent.
pub(crate) fn test(job: &Job) -> Outcome {
    Stable.cargo().line("test -q --workspace --no-run").run()?;
    job.keep_here()?; // other sections run it, from now on
    let mut tests = Stable.cargo().line("test -q --workspace");
    if job.full {
        tests = tests.env("TEFF_FULL", "1");
    }
    tests.run()?;
    if !job.full {
        return Ok(()); // the page computes models of its formats by it
    }
    job.step("examples/wasm: equivalence of the compact backend");
    // Not optimised: a dozen seconds to run, and not a minute to build.
    Stable
        .cargo()
        .line("test -q --locked --test equivalence --manifest-path examples/wasm/Cargo.toml")
        .run()
}

/// Every operation of every backend that this machine has against the scalar truth, many times.
pub(crate) fn laws(job: &Job) -> Outcome {
    let wanted = job.number("LAWS_CASES", LAWS_CASES[usize::from(job.full)])?;
    // All laws together have a hundred shares of so many cases.
    let share = wanted.div_ceil(100).to_string();
    // Of the whole workspace, so that what `test` has built can be used.
    let laws = Stable.cargo().line("test -q --workspace --test laws -- --show-output");
    let said = laws.env("PROPTEST_CASES", share).log(&job.file("laws.txt"))?;
    let cases = cases(&said);
    if cases == 0 {
        return Err(Stop::Skip("this machine has the scalar backend alone".into()));
    }
    let how = said.lines().find_map(|line| line.split_once(" cases, ")).map_or("", |(_, how)| how);
    println!("{cases} cases, {how}");
    if cases < wanted { fail(format!("fewer than {wanted}")) } else { Ok(()) }
}

/// The sum of all `N cases` in a text.
fn cases(text: &str) -> u64 {
    let words: Vec<&str> = text.split_whitespace().collect();
    let counts = words.windows(2).filter(|pair| pair[1].trim_end_matches(',') == "cases");
    counts.filter_map(|pair| pair[0].parse::<u64>().ok()).sum()
}

/// A program with one family of formats contains nothing of the others, and nothing unused.
pub(crate) fn families(job: &Job) -> Outcome {
    // By its target, so that nothing lies where the tests' command does.
    let build = "build -q --no-default-features --features cli,k-quants --bin teff --target";
    Stable
        .cargo()
        .line(build)
        .arg(HOST)
        .env("RUSTFLAGS", "-C symbol-mangling-version=v0 -D warnings")
        .run()?;
    let teff = Stable.dir().join(HOST).join("debug/teff");
    let symbols = job.file("symbols");
    Cmd::new("nm").arg("-C").arg(&teff).into_file(&symbols)?;
    let symbols = String::from_utf8_lossy(&fs::read(&symbols)?).into_owned();
    if !symbols.contains("blocks::q4_k::") {
        return fail("no symbol names a block");
    }
    for block in [
        "q4_0", "q4_1", "q5_0", "q5_1", "q8_0", "iq4_nl", "iq4_xs", "mxfp4", "nvfp4", "q1_0",
        "q2_0", "iq1_s", "iq1_m", "iq2_xxs", "iq2_xs", "iq2_s", "iq3_xxs", "iq3_s", "tq1_0",
        "tq2_0", "i2_s",
    ] {
        let name = format!("blocks::{block}::");
        if let Some(line) = symbols.lines().find(|line| line.contains(&name)) {
            return fail(format!("{line}: there without its family"));
        }
    }
    let inspect = Cmd::new(&teff).line("inspect tests/data/gpt2/gpt2-Q4_0.gguf");
    let said = inspect.refused("a file of a format that is not there was opened")?;
    print!("{said}");
    if !job.full {
        return Ok(());
    }
    // Nor does a family call for what another one has. (Not optimised: there are seconds of it.)
    for family in ["fp4-quants", "low-bit-quants"] {
        Stable
            .cargo()
            .args(["test", "-q", "--config", "profile.test.package.teff-kernels.opt-level=0"])
            .line("-p teff-kernels --no-default-features --test one_family --features")
            .args([family, "--target", HOST])
            .run()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests_of_cases {
    #[test]
    fn cases_are_summed() {
        let text = "a: 10 cases, 3 backends\nb: 5 cases, 3 backends, x\ntest cases 7\n2 cases";
        assert_eq!(super::cases(text), 17);
    }
}
