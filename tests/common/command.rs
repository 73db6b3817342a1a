//! Runs the command `teff` on the small GPT-2 of the repository, and looks at what it says.

use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use super::data;

pub const MODEL: &str = "gpt2-Q8_0.gguf";

pub fn command<I: AsRef<OsStr>>(args: impl IntoIterator<Item = I>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_teff"));
    command.args(args).stdin(Stdio::null());
    command
}

pub fn teff<I: AsRef<OsStr>>(args: impl IntoIterator<Item = I>) -> Output {
    command(args).output().unwrap()
}

/// Runs `teff ARGS` with `input` by a pipe.
pub fn piped<I: AsRef<OsStr>>(args: impl IntoIterator<Item = I>, input: &[u8]) -> Output {
    let mut command = command(args);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // The command may exit before it reads everything.
    let _ = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap()
}

/// Runs `teff SUB MODEL ARGS`.
pub fn on(model: &str, sub: &str, args: &[&str]) -> Output {
    let path = data(model);
    teff([OsStr::new(sub), path.as_os_str()].into_iter().chain(args.iter().map(OsStr::new)))
}

pub fn out(o: &Output) -> &str {
    core::str::from_utf8(&o.stdout).unwrap()
}

pub fn err(o: &Output) -> &str {
    core::str::from_utf8(&o.stderr).unwrap()
}

/// Checks for success and returns the output.
pub fn ok(o: &Output) -> &str {
    assert_eq!(o.status.code(), Some(0), "{}", err(o));
    out(o)
}

/// Checks the exit code, that only one line was written, to standard error, and that it names the
/// cause.
pub fn fails(o: &Output, code: i32, names: &[&str]) {
    let line = err(o);
    assert_eq!(o.status.code(), Some(code), "{line}");
    assert_eq!(out(o), "", "{line}");
    assert!(line.starts_with("teff: ") && line.ends_with('\n'), "{line:?}");
    assert_eq!(line.lines().count(), 1, "{line:?}");
    for name in names {
        assert!(line.contains(name), "{line:?} doesn't name {name:?}");
    }
}

/// Folder of its own for each test, removed when dropped.
pub struct Dir(pub PathBuf);

impl Dir {
    pub fn new(name: &str) -> Dir {
        let dir = std::env::temp_dir().join(format!("teff-cli-{name}-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        Dir(dir)
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub fn write(&self, name: &str, bytes: &[u8]) -> String {
        fs::write(self.file(name), bytes).unwrap();
        self.file(name).to_str().unwrap().into()
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
