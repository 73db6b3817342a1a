//! Running programs.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

/// The end of a section that did not pass.
#[derive(Debug)]
pub(crate) enum Stop {
    /// Something is missing that a machine may lack.
    Skip(String),
    /// A check failed, or could not run.
    Fail(String),
}

/// The result of a section, or of a part of it.
pub(crate) type Outcome<T = ()> = Result<T, Stop>;

impl From<io::Error> for Stop {
    fn from(e: io::Error) -> Stop {
        Stop::Fail(e.to_string())
    }
}

/// A failure with these words.
pub(crate) fn fail<T>(said: impl Into<String>) -> Outcome<T> {
    Err(Stop::Fail(said.into()))
}

/// A program and its arguments. It reads nothing, and writes to the section's output unless said otherwise.
pub(crate) struct Cmd(Command);

impl Cmd {
    /// The program at this path, or of this name.
    pub(crate) fn new(program: impl AsRef<OsStr>) -> Cmd {
        let mut command = Command::new(program);
        command.stdin(Stdio::null());
        Cmd(command)
    }

    /// One more argument.
    pub(crate) fn arg(mut self, arg: impl AsRef<OsStr>) -> Cmd {
        self.0.arg(arg);
        self
    }

    /// More arguments.
    pub(crate) fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Cmd {
        self.0.args(args);
        self
    }

    /// The words of a line, as arguments.
    pub(crate) fn line(self, line: &str) -> Cmd {
        self.args(line.split_whitespace())
    }

    /// A variable of its environment.
    pub(crate) fn env(mut self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Cmd {
        self.0.env(key, value);
        self
    }

    /// The folder in which it runs.
    pub(crate) fn dir(mut self, dir: impl AsRef<Path>) -> Cmd {
        self.0.current_dir(dir);
        self
    }

    /// The file that it reads.
    pub(crate) fn stdin(mut self, file: File) -> Cmd {
        self.0.stdin(file);
        self
    }

    /// Runs it; anything but success is a failure.
    pub(crate) fn run(mut self) -> Outcome {
        let status = self.0.status().map_err(|e| self.failed(&e.to_string()))?;
        if status.success() { Ok(()) } else { Err(self.failed(&status.to_string())) }
    }

    /// Runs it, and gives what it wrote to standard output.
    pub(crate) fn read(mut self) -> Outcome<String> {
        self.0.stderr(Stdio::inherit());
        let out = self.0.output().map_err(|e| self.failed(&e.to_string()))?;
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        if out.status.success() {
            Ok(text)
        } else {
            print!("{text}");
            Err(self.failed(&out.status.to_string()))
        }
    }

    /// Runs it with everything it writes in one file, which is printed where it fails.
    pub(crate) fn log(mut self, file: &Path) -> Outcome<String> {
        let log = File::create(file)?;
        self.0.stdout(log.try_clone()?).stderr(log);
        let ran = self.run();
        let text = String::from_utf8_lossy(&std::fs::read(file)?).into_owned();
        if ran.is_err() {
            print!("{text}");
        }
        ran.map(|()| text)
    }

    /// Runs it with standard output in a file.
    pub(crate) fn into_file(mut self, file: &Path) -> Outcome {
        self.0.stdout(File::create(file)?);
        self.run()
    }

    /// Starts it, with everything it writes in one file.
    pub(crate) fn start(mut self, log: &Path) -> Outcome<Child> {
        let file = File::create(log)?;
        self.0.stdout(file.try_clone()?).stderr(file);
        self.0.spawn().map_err(|e| self.failed(&e.to_string()))
    }

    /// Runs it, and wants it to end with an error; gives all it wrote.
    pub(crate) fn refused(self, why_not: &str) -> Outcome<String> {
        let out = self.output()?;
        let text = both(&out);
        if out.status.success() {
            print!("{text}");
            return fail(why_not);
        }
        Ok(text)
    }

    /// Runs it, and judges nothing but that it could be started.
    pub(crate) fn output(mut self) -> Outcome<Output> {
        self.0.output().map_err(|e| self.failed(&e.to_string()))
    }

    fn failed(&self, how: &str) -> Stop {
        let words = std::iter::once(self.0.get_program()).chain(self.0.get_args());
        let line: Vec<_> = words.map(|w| w.to_string_lossy()).collect();
        Stop::Fail(format!("{how}: {}", line.join(" ")))
    }
}

/// Both outputs of a program as text.
pub(crate) fn both(out: &Output) -> String {
    let (a, b) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    format!("{a}{b}")
}

/// Compares two files byte by byte.
pub(crate) fn same_files(a: &Path, b: &Path, why_not: impl FnOnce() -> String) -> Outcome {
    if std::fs::read(a)? == std::fs::read(b)? { Ok(()) } else { fail(why_not()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_started_writes_to_its_file() {
        let log = std::env::temp_dir().join(format!("xtask-start-{}", std::process::id()));
        let mut child = Cmd::new("echo").arg("here").start(&log).unwrap();
        assert!(child.wait().unwrap().success());
        assert_eq!(std::fs::read_to_string(&log).unwrap(), "here\n");
        std::fs::remove_file(&log).unwrap();
        assert!(Cmd::new("no-such-program").start(&log).is_err());
        std::fs::remove_file(&log).unwrap();
    }

    #[test]
    fn failures_name_the_command() {
        let Err(Stop::Fail(said)) = Cmd::new("false").line("a  b").run() else { panic!() };
        assert!(said.ends_with(": false a b"), "{said}");
        let Err(Stop::Fail(said)) = Cmd::new("no-such-program").read() else { panic!() };
        assert!(said.ends_with(": no-such-program"), "{said}");
        assert!(Cmd::new("true").refused("it ran").is_err());
        assert_eq!(Cmd::new("echo").arg("a b").read().unwrap(), "a b\n");
    }
}
