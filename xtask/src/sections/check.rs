//! `check`: systems for which Teff is compiled and not run.

use crate::cmd::{Cmd, Outcome};
use crate::job::Job;
use crate::toolchain::cross;

/// One of each system; none needs a linker to be checked. The change tier has the first: most of the time goes into std,
/// which is checked for each. (Windows runs in a section of its own, and so does ARM.)
const TARGETS: [&str; 4] = [
    "aarch64-apple-darwin",
    "aarch64-pc-windows-gnullvm",
    "aarch64-linux-android",
    "x86_64-unknown-freebsd",
];

/// `cargo check` of the library and the command, with the std that rustup has, or one from source.
pub(crate) fn check(job: &Job) -> Outcome {
    Cmd::new("/usr/bin/rustc").arg("--version").run()?;
    let targets = if job.full { &TARGETS[..] } else { &TARGETS[..1] };
    for target in targets {
        cross("check -q --lib --bins -p teff -p teff-runtime", target, "std,panic_abort").run()?;
    }
    println!("checked, not run: {}", targets.join(", "));
    Ok(())
}
