//! One section in a process of its own.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;
use std::{env, fs};

use crate::cmd::{Outcome, Stop};
use crate::table::{Section, Tier};
use crate::toolchain::Toolchain;

/// The exit code of a section that was skipped.
pub(crate) const SKIPPED: u8 = 77;

/// The variable that names the command `teff` which the section `test` has built.
pub(crate) const HERE: &str = "TEFF_CI_HERE";

/// The surroundings of a running section.
pub(crate) struct Job {
    /// The folder of build outputs, absolute.
    pub(crate) target: PathBuf,
    /// All of it (the nightly tier), or a sample.
    pub(crate) full: bool,
    /// A folder for the files of this section.
    pub(crate) dir: PathBuf,
    began: Instant,
}

/// The file for the seconds of all cores that a section took.
const CPU: &str = "cpu_s";

/// Those seconds, where the system tells them.
pub(crate) fn cpu_seconds(section: &Section) -> Option<f64> {
    fs::read_to_string(target().join("ci").join(section.name).join(CPU)).ok()?.parse().ok()
}

/// Seconds that this process and those it waited for have computed, by Linux's `proc(5)`.
fn own_cpu_seconds() -> Option<f64> {
    let text = fs::read_to_string("/proc/self/stat").ok()?;
    // What follows the name in parentheses begins with the third field; times are the 14th to the 17th.
    let fields = text.rsplit_once(") ")?.1.split(' ').skip(11).take(4);
    let ticks: u64 = fields.map(|n| n.parse::<u64>()).sum::<Result<_, _>>().ok()?;
    Some(ticks as f64 / 100.0)
}

/// The folder of build outputs.
pub(crate) fn target() -> PathBuf {
    match env::var_os("CARGO_TARGET_DIR") {
        Some(dir) => root().join(dir),
        None => root().join("target"),
    }
}

/// The path of the command that the section `test` has built.
pub(crate) fn here() -> PathBuf {
    target().join("ci/teff")
}

/// The root of the repository: .ci/run and `cargo xtask` both have it as the parent of this package.
pub(crate) fn root() -> PathBuf {
    let own = env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    own.parent().map(Path::to_path_buf).unwrap_or(own)
}

/// A section's process.
pub(crate) fn main(section: &Section, tier: Tier) -> ExitCode {
    let ended = Job::new(section.name, tier).and_then(|job| {
        let ended = (section.run)(&job);
        if let Some(seconds) = own_cpu_seconds() {
            fs::write(job.file(CPU), seconds.to_string())?;
        }
        ended
    });
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(Stop::Skip(why)) => {
            println!("skipped: {why}");
            ExitCode::from(SKIPPED)
        }
        Err(Stop::Fail(why)) => {
            println!("{why}");
            ExitCode::FAILURE
        }
    }
}

impl Job {
    fn new(name: &str, tier: Tier) -> Outcome<Job> {
        let target = target();
        let dir = target.join("ci").join(name);
        fs::create_dir_all(&dir)?;
        let _ = fs::remove_file(dir.join(CPU));
        Ok(Job { target, full: tier == Tier::Nightly, dir, began: Instant::now() })
    }

    /// Prints a heading, with the seconds since the section began.
    pub(crate) fn step(&self, title: &str) {
        println!("-- [{:3} s] {title}", self.began.elapsed().as_secs());
    }

    /// A file of this section.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// The command `teff` of this machine, built as the tests are.
    pub(crate) fn here(&self) -> Outcome<PathBuf> {
        if let Some(path) = env::var_os(HERE) {
            return Ok(path.into());
        }
        // Built with the tests, so that the binary that is there is the one that was tested.
        Toolchain::Stable.cargo().line("test -q --workspace --no-run --test no_alloc").run()?;
        self.keep_here()
    }

    /// Copies the command that the tests have built to where nothing else is built over it.
    pub(crate) fn keep_here(&self) -> Outcome<PathBuf> {
        let (copy, kept) = (self.file("teff"), here());
        fs::copy(self.target.join("debug/teff"), &copy)?;
        fs::rename(&copy, &kept)?;
        Ok(kept)
    }

    /// A number of the environment.
    pub(crate) fn number(&self, key: &str, or: u64) -> Outcome<u64> {
        match env::var(key) {
            Ok(text) => text.parse().map_err(|_| Stop::Fail(format!("{key}={text} is no number"))),
            Err(_) => Ok(or),
        }
    }
}

/// Tokens that the models of tests/data all have.
pub(crate) const TOKENS: &str = "1,2,3,5,8,13,21,34,55,2,1,0,7,7,7,9,10,11";

/// Files that are in these folders and end so, sorted.
pub(crate) fn files(folders: &[&str], suffix: &str) -> Outcome<Vec<PathBuf>> {
    let mut found = Vec::new();
    for folder in folders {
        for entry in fs::read_dir(folder).map_err(|e| Stop::Fail(format!("{folder}: {e}")))? {
            let path = entry?.path();
            if path.to_string_lossy().ends_with(suffix) {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

/// The folders of tests/data.
pub(crate) fn data() -> Outcome<Vec<String>> {
    let mut folders = Vec::new();
    for entry in fs::read_dir("tests/data")? {
        let path = entry?.path();
        if path.is_dir() {
            folders.push(path.to_string_lossy().into_owned());
        }
    }
    folders.sort();
    Ok(folders)
}

/// The GGUF files of tests/data.
pub(crate) fn data_files() -> Outcome<Vec<PathBuf>> {
    let folders = data()?;
    files(&folders.iter().map(String::as_str).collect::<Vec<_>>(), ".gguf")
}
