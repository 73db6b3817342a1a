//! `serve` and `soak`: `teff serve` as browsers and the clients of others meet it, and under load.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::cmd::{Cmd, Outcome, fail};
use crate::job::Job;
use crate::toolchain::Toolchain::Stable;

/// A model that writes stories, and has no chat template.
const STORIES: &str = "examples/gpt2/model.gguf";

/// A model of random weights with a vocabulary of bytes and a long context, for conversations by [`TEMPLATE`].
const RANDOM: &str = "tests/data/phi4-short/phi4-short-Q8_0.gguf";

/// The tests of clients.
const CLIENTS: &str = "serve/tests/clients";

/// A chat template, for models that have none.
const TEMPLATE: &str = "serve/tests/clients/template.jinja";

/// Sampling by which a model of random weights doesn't say one byte over and over.
const HOT: &str = "--temperature 3 --top-k 0 --top-p 1 --min-p 0";

/// Time that a server has to listen, or to end when it is asked to.
const PATIENCE: Duration = Duration::from_secs(60);

/// Time that the clients have to be installed.
const INSTALLATION: Duration = Duration::from_secs(300);

/// A running server, which ends with this value.
struct Server {
    child: Child,
    log: PathBuf,
    /// Its address, such as `http://127.0.0.1:40125`.
    url: String,
}

impl Server {
    /// Starts `teff serve` with a model and further options, on a free port; `name` is that of its log.
    fn start(job: &Job, name: &str, teff: &Path, model: &str, options: &str) -> Outcome<Server> {
        let log = job.file(&format!("{name}.log"));
        let cmd = Cmd::new(teff).args(["serve", model]).line("--port 0 -t 1").line(options);
        let mut server = Server { child: cmd.start(&log)?, log, url: String::new() };
        let began = Instant::now();
        loop {
            let said = server.said()?;
            if let Some(url) = address(&said) {
                server.url = url.into();
                return Ok(server);
            }
            if let Some(status) = server.child.try_wait()? {
                return fail(format!("teff serve ended, {status}: {said}"));
            }
            if began.elapsed() > PATIENCE {
                return fail(format!("teff serve doesn't say where it listens: {said}"));
            }
            sleep(Duration::from_millis(20));
        }
    }

    /// All that it has written so far.
    fn said(&self) -> Outcome<String> {
        Ok(String::from_utf8_lossy(&fs::read(&self.log)?).into_owned())
    }

    /// Asks it to end by SIGTERM, and wants it to end well.
    fn stop(mut self) -> Outcome {
        if let Some(status) = self.child.try_wait()? {
            return fail(format!("teff serve ended by itself, {status}: {}", self.said()?));
        }
        Cmd::new("kill").arg("-TERM").arg(self.child.id().to_string()).run()?;
        let status = wait(&mut self.child, PATIENCE)?;
        let said = self.said()?;
        match status {
            Some(status) if status.success() && !said.contains("panicked") => Ok(()),
            Some(status) => fail(format!("teff serve ended by SIGTERM with {status}: {said}")),
            None => fail(format!("teff serve doesn't end by SIGTERM: {said}")),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Where it has ended already, there is nothing to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The first address with a port in what a server has written, if it is there whole.
fn address(said: &str) -> Option<&str> {
    let url = &said[said.find("http://")?..];
    let end = url.find(|c: char| !(c.is_ascii_alphanumeric() || "/:.[]".contains(c)))?;
    let url = url[..end].trim_end_matches(['/', '.']);
    let (_, port) = url.rsplit_once(':')?;
    (!port.is_empty() && port.bytes().all(|b| b.is_ascii_digit())).then_some(url)
}

/// Python with the packages of `requirements.txt`, in a folder of the section.
struct Python {
    folder: PathBuf,
    /// The installation in progress, if they were not there yet.
    pip: Option<Child>,
    log: PathBuf,
}

impl Python {
    const REQUIREMENTS: &str = "requirements.txt";

    /// Begins to install the packages, unless they are there.
    fn start(job: &Job) -> Outcome<Python> {
        let mut python = Python { folder: job.file("venv"), pip: None, log: job.file("pip.log") };
        let wanted = fs::read(Path::new(CLIENTS).join(Self::REQUIREMENTS))?;
        // An earlier run has put this there at its end.
        if fs::read(python.folder.join(Self::REQUIREMENTS)).is_ok_and(|found| found == wanted) {
            return Ok(python);
        }
        let _ = fs::remove_dir_all(&python.folder);
        Cmd::new("python3").line("-m venv --without-pip").arg(&python.folder).run()?;
        // All packages are named with their versions, and none is built.
        let pip = Cmd::new("python3").line("-m pip --python").arg(python.path());
        let pip = pip.line("install -q --no-input --disable-pip-version-check --no-compile");
        let pip = pip.line("--root-user-action ignore --no-deps --only-binary :all: -r");
        let pip = pip.arg(Path::new(CLIENTS).join(Self::REQUIREMENTS));
        python.pip = Some(pip.start(&python.log)?);
        Ok(python)
    }

    fn path(&self) -> PathBuf {
        self.folder.join("bin/python")
    }

    /// Waits for the packages, and gives the interpreter's path.
    fn ready(mut self) -> Outcome<PathBuf> {
        if let Some(pip) = &mut self.pip {
            let status = wait(pip, INSTALLATION)?;
            if !status.is_some_and(|status| status.success()) {
                let said = String::from_utf8_lossy(&fs::read(&self.log)?).into_owned();
                return fail(format!("the clients can't be installed: {said}"));
            }
            let requirements = Path::new(CLIENTS).join(Self::REQUIREMENTS);
            fs::copy(requirements, self.folder.join(Self::REQUIREMENTS))?;
        }
        Ok(self.path())
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        if let Some(pip) = &mut self.pip {
            let _ = pip.kill();
            let _ = pip.wait();
        }
    }
}

/// Waits for the end of a program; `None` if it runs on.
fn wait(child: &mut Child, patience: Duration) -> Outcome<Option<ExitStatus>> {
    let began = Instant::now();
    loop {
        let status = child.try_wait()?;
        if status.is_some() || began.elapsed() > patience {
            return Ok(status);
        }
        sleep(Duration::from_millis(20));
    }
}

/// The page of `teff serve` in headless Chromium, and programs of others that talk to it.
pub(crate) fn serve(job: &Job) -> Outcome {
    println!("node {}", Cmd::new("node").arg("--version").read()?.trim());
    println!("{}", Cmd::new("chromedriver").arg("--version").read()?.trim());
    println!("{}", Cmd::new("python3").arg("--version").read()?.trim());
    // The page waits more than it computes.
    let python = Python::start(job)?;
    let teff = job.here()?;
    page(job, &teff)?;
    clients(job, &teff, &python.ready()?)
}

/// The page against a scripted server, which does what no model could be made to do; and against `teff serve` with a model
/// that continues texts, one that converses, and one behind a key.
fn page(job: &Job, teff: &Path) -> Outcome {
    let test = |name: &str| {
        let test = Cmd::new("timeout").line("300 node serve/tests/page/browser.mjs --shots");
        test.arg(job.file(name))
    };
    job.step("the page, with a scripted server");
    test("scripted").run()?;
    let key = format!("key-{}", std::process::id());
    for (name, model, options) in [
        ("texts", STORIES, String::new()),
        ("conversations", RANDOM, format!("--chat-template {TEMPLATE}")),
        ("key", STORIES, format!("--api-key {key}")),
    ] {
        job.step(&format!("the page: {name}"));
        let server = Server::start(job, name, teff, model, &options)?;
        let mut test = test(name).args(["--url", &server.url]);
        if name == "key" {
            test = test.args(["--key", &key]);
        }
        test.run()?;
        server.stop()?;
    }
    Ok(())
}

/// Packages for Python that programs use, and what they make of the server's answers and errors.
fn clients(job: &Job, teff: &Path, python: &Path) -> Outcome {
    job.step("clients");
    let key = format!("key-{}", std::process::id());
    let options = format!("--chat-template {TEMPLATE} --alias tiny --api-key {key} {HOT}");
    let server = Server::start(job, "clients", teff, RANDOM, &options)?;
    let cache = format!("pycache_prefix={}", job.file("pycache").display());
    let test = Cmd::new("timeout").arg("300").arg(python).args(["-s", "-E", "-X", &cache]);
    let test = test.arg(Path::new(CLIENTS).join("main.py")).args(["--url", &server.url]);
    // Clients would ask a proxy of the environment.
    let test = test.args(["--key", &key, "--model", "tiny"]).env("NO_PROXY", "127.0.0.1");
    test.env("no_proxy", "127.0.0.1").run()?;
    server.stop()
}

/// Requests of the soak.
const SOAK: u64 = 100_000;

/// `teff serve` under very many requests, by the test `soak` of the server's package.
pub(crate) fn soak(job: &Job) -> Outcome {
    let teff = job.here()?;
    let requests = job.number("TEFF_SOAK", SOAK)?;
    // Of the whole workspace, so that what `test` has built can be used.
    let soak =
        Stable.cargo().line("test -q --workspace --test soak -- --show-output to_the_command");
    soak.env("TEFF_SOAK", requests.to_string()).env("TEFF_SOAK_TEFF", teff).run()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_found_when_they_are_whole() {
        let said = "teff: serving model.gguf at http://127.0.0.1:40125/\n";
        assert_eq!(address(said), Some("http://127.0.0.1:40125"));
        assert_eq!(address("on http://[::1]:8080. Ctrl-C ends it"), Some("http://[::1]:8080"));
        for partial in ["", "loading", "at http://127.0.0.1:40", "at http://127.0.0.1:\n"] {
            assert_eq!(address(partial), None, "{partial}");
        }
    }
}
