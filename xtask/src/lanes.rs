//! Runs sections side by side.
//!
//! A lane takes the first section of the table that can run now: what it needs is installed, and, where it comes after the
//! section `test`, that one has built the command (and has ended, if both use one toolchain). Sections whose toolchain is free come first: two of one toolchain wait for each other while
//! they build, but one can build while the other runs.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};
use std::{env, thread};

use crate::args::Options;
use crate::job::{self, HERE, SKIPPED};
use crate::needs::{self, Met};
use crate::report::{Ended, Ran, Report};
use crate::table::Section;
use crate::toolchain::Toolchain;

/// The section that builds the command which others run.
const BUILDS_HERE: &str = "test";

/// State that the lanes share.
struct State {
    waiting: Vec<&'static Section>,
    busy: Vec<Toolchain>,
    /// Packages are installed, or never will be.
    installed: bool,
    /// The section `test` has ended, or is none of those that run.
    tested: bool,
    here: Option<PathBuf>,
    ran: Vec<Ran>,
}

struct Lanes<'a> {
    options: &'a Options,
    began: Instant,
    log: PathBuf,
    state: Mutex<State>,
    changed: Condvar,
}

/// Runs all of the sections, whatever fails.
pub(crate) fn run(options: &Options) -> io::Result<Report> {
    env::set_current_dir(job::root())?;
    let log = job::target().join("ci/logs");
    fs::create_dir_all(&log)?;
    println!(
        "tier {}, {} sections, {} lanes",
        options.tier.name(),
        options.sections.len(),
        options.lanes
    );
    let state = State {
        waiting: options.sections.clone(),
        busy: Vec::new(),
        installed: false,
        tested: options.sections.iter().all(|s| s.name != BUILDS_HERE),
        here: None,
        ran: Vec::new(),
    };
    if !state.tested {
        let _ = fs::remove_file(job::here());
    }
    let began = Instant::now();
    let lanes = Lanes { options, began, log, state: Mutex::new(state), changed: Condvar::new() };
    thread::scope(|scope| {
        scope.spawn(|| {
            needs::install(&lanes.options.sections);
            lanes.state().installed = true;
            lanes.changed.notify_all();
        });
        scope.spawn(|| lanes.look_for_here());
        for _ in 0..lanes.options.lanes {
            scope.spawn(|| lanes.lane());
        }
    });
    let ran = lanes.state.into_inner().unwrap_or_else(|e| e.into_inner()).ran;
    let seconds = began.elapsed().as_secs_f64();
    Ok(Report { tier: options.tier, lanes: options.lanes, seconds, ran, logs: lanes.log })
}

impl Lanes<'_> {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Takes sections until there are none.
    fn lane(&self) {
        while let Some(section) = self.take() {
            let start = self.began.elapsed().as_secs_f64();
            let (ended, cpu) = self.one(section);
            let seconds = self.began.elapsed().as_secs_f64() - start;
            let mut state = self.state();
            println!("== {}: {ended}, {seconds:.0} s\n", section.name);
            state.ran.push(Ran { section, ended, start, seconds, cpu });
            if let Some(i) = state.busy.iter().position(|t| Some(*t) == section.uses) {
                state.busy.swap_remove(i);
            }
            if section.name == BUILDS_HERE {
                state.tested = true;
                let here = job::here();
                state.here = here.exists().then_some(here);
            }
            drop(state);
            self.changed.notify_all();
        }
    }

    /// Waits for the command that the section `test` builds before it runs its tests.
    fn look_for_here(&self) {
        let here = job::here();
        loop {
            let mut state = self.state();
            if state.tested {
                return;
            }
            if here.exists() {
                state.here = Some(here);
                drop(state);
                self.changed.notify_all();
                return;
            }
            drop(state);
            thread::sleep(Duration::from_millis(500));
        }
    }

    /// The next section; waits for one that can run.
    fn take(&self) -> Option<&'static Section> {
        let mut state = self.state();
        loop {
            if state.waiting.is_empty() {
                return None;
            }
            let free = state.waiting.iter().position(|s| state.ready(s) && state.free(s));
            let next = free.or_else(|| state.waiting.iter().position(|s| state.ready(s)));
            if let Some(i) = next {
                let section = state.waiting.remove(i);
                state.busy.extend(section.uses);
                return Some(section);
            }
            state = self.changed.wait(state).unwrap_or_else(|e| e.into_inner());
        }
    }

    /// Runs a section, and prints what it wrote.
    fn one(&self, section: &Section) -> (Ended, Option<f64>) {
        let heading = format!("== {}: {}", section.name, section.title);
        let unmet = match needs::met(section) {
            Met::Yes => None,
            Met::Missing(what) if env::var_os("CI").is_some_and(|ci| !ci.is_empty()) => {
                Some((Ended::Failed, format!("missing: {what}")))
            }
            Met::Missing(what) | Met::Skip(what) => {
                Some((Ended::Skipped, format!("skipped: {what}")))
            }
        };
        if let Some((ended, why)) = unmet {
            let _state = self.state();
            println!("{heading}\n{why}");
            return (ended, None);
        }
        // A lane alone prints as it goes. Else the output stays together: it is printed under the lock.
        let alone = self.options.lanes.min(self.options.sections.len()) == 1;
        let log = self.log.join(section.name);
        if alone {
            let _ = fs::remove_file(&log); // of an earlier run
            println!("{heading}");
        }
        let status = self.process(section, (!alone).then_some(log.as_path()));
        let (status, cpu) = match status {
            Ok(both) => both,
            Err(e) => {
                println!("{heading}\n{e}");
                return (Ended::Failed, None);
            }
        };
        if !alone {
            let _state = self.state();
            let mut out = io::stdout().lock();
            let _ = writeln!(out, "{heading}");
            let _ = out.write_all(&fs::read(&log).unwrap_or_default());
        }
        let ended = match status.code() {
            Some(0) => Ended::Passed,
            Some(code) if code == i32::from(SKIPPED) => Ended::Skipped,
            _ => Ended::Failed,
        };
        (ended, cpu)
    }

    fn process(
        &self,
        section: &Section,
        log: Option<&Path>,
    ) -> io::Result<(ExitStatus, Option<f64>)> {
        // By this path also when a section has built this program anew, over the file it was started from.
        let own = Path::new("/proc/self/exe");
        let own = if own.exists() { own.to_path_buf() } else { env::current_exe()? };
        let mut command = Command::new(own);
        command.args(["section", section.name, "--tier", self.options.tier.name()]);
        command.stdin(Stdio::null()).env("CARGO_TERM_COLOR", "never");
        command.env("CARGO_TARGET_DIR", job::target()).env_remove("MAKEFLAGS");
        // Nobody debugs what is built here, or builds it again after a small change.
        for key in ["CARGO_INCREMENTAL", "CARGO_PROFILE_DEV_DEBUG", "CARGO_PROFILE_TEST_DEBUG"] {
            command.env(key, "0");
        }
        if let Some(here) = &self.state().here {
            command.env(HERE, here);
        }
        if let Some(log) = log {
            let file = File::create(log)?;
            command.stdout(file.try_clone()?).stderr(file);
        }
        let status = command.status()?;
        Ok((status, job::cpu_seconds(section)))
    }
}

impl State {
    /// Nothing is missing that another section, or the installation, is about to give.
    fn ready(&self, section: &'static Section) -> bool {
        // One that builds with the tests' toolchain might build over a program that tests run.
        let built = self.here.is_some() && section.uses != Some(Toolchain::Stable);
        (self.tested || built || !section.after_test) && (self.installed || !needs::waits(section))
    }

    /// No other section builds with its toolchain.
    fn free(&self, section: &'static Section) -> bool {
        section.uses.is_none_or(|t| !self.busy.contains(&t))
    }
}
