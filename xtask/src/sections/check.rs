//! `check`: systems for which Teff is compiled and not run.

use crate::cmd::{Cmd, Outcome};
use crate::job::Job;
use crate::toolchain::Toolchain::Foreign;

/// One of each system; none needs a linker to be checked.
const TARGETS: [&str; 4] = [
    "aarch64-apple-darwin",
    "aarch64-linux-android",
    "aarch64-pc-windows-gnullvm",
    "x86_64-unknown-freebsd",
];

/// `cargo check` of the library and the command, with std from source.
pub(crate) fn check(_: &Job) -> Outcome {
    Cmd::new("/usr/bin/rustc").arg("--version").run()?;
    let mut cmd = Foreign
        .cargo()
        .line("check -q -Zbuild-std=std,panic_abort --lib --bins -p teff -p teff-runtime");
    for target in TARGETS {
        cmd = cmd.arg("--target").arg(target);
    }
    cmd.run()?;
    println!("checked, not run: {}", TARGETS.join(", "));
    Ok(())
}
