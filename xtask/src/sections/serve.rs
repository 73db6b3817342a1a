//! `serve_page`: `teff serve` as browsers meet it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::cmd::{Cmd, Outcome, Stop, fail};
use crate::job::Job;

/// A model that writes stories, and has no chat template.
const STORIES: &str = "examples/gpt2/model.gguf";

/// A model of random weights, for conversations by [`TEMPLATE`].
const RANDOM: &str = "tests/data/qwen3/qwen3-Q4_0.gguf";

/// A chat template, for models that have none.
const TEMPLATE: &str = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}\
    {% if add_generation_prompt %}assistant: {% endif %}";

/// Time that a server has to listen, or to end when it is asked to.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running server, which ends with this value.
struct Server {
    child: Child,
    log: PathBuf,
    /// Its address, such as `http://127.0.0.1:40125`.
    url: String,
}

impl Server {
    /// Starts `teff serve` with a model and further options, on a free port; `name` is that of its log.
    fn start(job: &Job, name: &str, teff: &Path, model: &str, options: &[&str]) -> Outcome<Server> {
        let log = job.file(&format!("{name}.log"));
        let cmd = Cmd::new(teff).args(["serve", model, "--port", "0"]).args(options);
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
        let status = self.wait()?;
        let said = self.said()?;
        if !status.success() || said.contains("panicked") {
            return fail(format!("teff serve ended by SIGTERM with {status}: {said}"));
        }
        Ok(())
    }

    fn wait(&mut self) -> Outcome<ExitStatus> {
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            sleep(Duration::from_millis(20));
        }
        Err(Stop::Fail(format!("teff serve doesn't end by SIGTERM: {}", self.said()?)))
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

/// The page of `teff serve` in headless Chromium: against a scripted server, which does what no model could be made to do; and
/// against `teff serve` with a model that continues texts, one that converses, and one behind a key.
pub(crate) fn serve_page(job: &Job) -> Outcome {
    println!("node {}", Cmd::new("node").arg("--version").read()?.trim());
    println!("{}", Cmd::new("chromedriver").arg("--version").read()?.trim());
    let test = |name: &str| {
        let test = Cmd::new("timeout").line("300 node serve/tests/page/browser.mjs --shots");
        test.arg(job.file(name))
    };
    job.step("a scripted server");
    test("scripted").run()?;
    let (teff, template) = (job.here()?, job.file("template.jinja"));
    fs::write(&template, TEMPLATE)?;
    let template = template.to_string_lossy();
    let key = format!("key-{}", std::process::id());
    let cases: [(&str, &str, &[&str]); 3] = [
        ("texts", STORIES, &[]),
        ("conversations", RANDOM, &["--chat-template", &template]),
        ("key", STORIES, &["--api-key", &key]),
    ];
    for (name, model, options) in cases {
        job.step(name);
        let server = Server::start(job, name, &teff, model, options)?;
        let mut test = test(name).args(["--url", &server.url]);
        if name == "key" {
            test = test.args(["--key", &key]);
        }
        test.run()?;
        server.stop()?;
    }
    Ok(())
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
