//! The three toolchains. Each has one folder of build outputs, which all of its sections share.

use std::path::PathBuf;
use std::{env, fs};

use crate::cmd::{Cmd, Outcome, Stop};
use crate::job::target;

/// A compiler, and the folder of what it builds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Toolchain {
    /// rustup's stable, in `target`.
    Stable,
    /// Debian's, which comes with the library's source and so builds for every target, in `target/foreign`.
    Foreign,
    /// rustup's nightly with the address sanitizer, in `target/nightly-asan`.
    Nightly,
}

/// The targets for which Debian's toolchain links by rust-lld.
const LLD: [&str; 3] =
    ["WASM32_UNKNOWN_UNKNOWN", "THUMBV7EM_NONE_EABIHF", "THUMBV8M_MAIN_NONE_EABIHF"];

/// The host of the sanitizer and of the emulated machines.
pub(crate) const HOST: &str = "x86_64-unknown-linux-gnu";

/// The address sanitizer, its checks by calls and not inlined: the fuzz targets are built in 108 s for 152.
pub(crate) const ASAN: &str =
    "-Zsanitizer=address -Cllvm-args=-asan-instrumentation-with-call-threshold=0";

impl Toolchain {
    /// The folder of what it builds.
    pub(crate) fn dir(self) -> PathBuf {
        match self {
            Toolchain::Stable => target(),
            Toolchain::Foreign => target().join("foreign"),
            Toolchain::Nightly => target().join("nightly-asan"),
        }
    }

    /// Its cargo.
    pub(crate) fn cargo(self) -> Cmd {
        let cmd = match self {
            Toolchain::Stable => Cmd::new(rustup("cargo")),
            Toolchain::Nightly => Cmd::new(rustup("cargo")).arg("+nightly").env("RUSTFLAGS", ASAN),
            // RUSTC must be set, or it takes rustup's; the bootstrap is what lets it build the library.
            Toolchain::Foreign => foreign(Cmd::new("/usr/bin/cargo")),
        };
        cmd.env("CARGO_TARGET_DIR", self.dir())
    }
}

/// A command of cargo for a target, in the folder of [`Toolchain::Foreign`]: by rustup's stable toolchain where that has the
/// target's library, else by Debian's, which builds `crates` of it first.
pub(crate) fn cross(line: &str, target: &str, crates: &str) -> Cmd {
    let cmd = if has_std(target) {
        linkers(Cmd::new(rustup("cargo")))
            .env("CARGO_TARGET_DIR", Toolchain::Foreign.dir())
            .line(line)
    } else {
        let cmd = Toolchain::Foreign.cargo().line(line);
        cmd.arg(format!("-Zbuild-std={crates}")).arg("-Zbuild-std-features=")
    };
    cmd.args(["--target", target])
}

/// True if rustup's stable toolchain has the library of this target.
pub(crate) fn has_std(target: &str) -> bool {
    let root = Cmd::new(rustup("rustc")).line("--print sysroot").read();
    root.is_ok_and(|root| {
        PathBuf::from(root.trim()).join("lib/rustlib").join(target).join("lib").exists()
    })
}

/// The environment of Debian's toolchain.
pub(crate) fn foreign(cmd: Cmd) -> Cmd {
    let cmd = cmd
        .env("RUSTC", "/usr/bin/rustc")
        .env("RUSTDOC", "/usr/bin/rustdoc")
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO", "/usr/bin/cargo");
    linkers(cmd)
}

/// The linkers of targets that rust-lld links.
fn linkers(mut cmd: Cmd) -> Cmd {
    if let Ok(lld) = lld() {
        for target in LLD {
            cmd = cmd.env(format!("CARGO_TARGET_{target}_LINKER"), &lld);
        }
    }
    cmd
}

/// rustup's program of this name, also where Debian's stands before it on the path.
pub(crate) fn rustup(program: &str) -> PathBuf {
    let home = env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| env::home_dir().map(|home| home.join(".cargo")));
    let path = home.map(|home| home.join("bin").join(program));
    path.filter(|path| path.exists()).unwrap_or_else(|| program.into())
}

/// The linker that comes with rustup's compiler.
pub(crate) fn lld() -> Outcome<PathBuf> {
    let read = |what: &str| Cmd::new(rustup("rustc")).line(what).read();
    let lib = PathBuf::from(read("--print sysroot")?.trim()).join("lib/rustlib");
    let path = lib.join(read("--print host-tuple")?.trim()).join("bin/rust-lld");
    if path.exists() {
        Ok(path)
    } else {
        Err(Stop::Fail(format!("there is no {}", path.display())))
    }
}

/// Rust's runtime of the address sanitizer.
pub(crate) fn asan_runtime() -> Outcome<PathBuf> {
    let root = Cmd::new(rustup("rustc")).line("+nightly --print sysroot").read()?;
    let lib = PathBuf::from(root.trim()).join("lib/rustlib").join(HOST).join("lib");
    for entry in fs::read_dir(&lib)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.starts_with("librustc-") && name.ends_with("_rt.asan.a") {
            return Ok(path);
        }
    }
    Err(Stop::Fail(format!("no runtime of the sanitizer in {}", lib.display())))
}
