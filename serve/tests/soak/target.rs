//! The server that is soaked: in this process, or the command in its own.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use teff_runtime::engine::EngineOptions;

use crate::client::{Client, Done, PATIENCE, request};
use crate::server::{Running, TEMPLATE, options, root, start_with};

/// Texts that are computed at the same time.
const SEQUENCES: usize = 6;

/// Bytes of the cache: room for two texts and a half as long as the context, so that some are pushed
/// out and prefixes are given up all the time.
const CACHE: usize = 9 << 20;

/// A server.
pub(crate) trait Target: Sync {
    /// Its address.
    fn address(&self) -> SocketAddr;

    /// Its resident memory in KiB, if it is a process of its own on a system that tells.
    fn memory(&self) -> Option<u64>;
}

/// A server in this process.
pub(crate) struct InProcess(Running);

impl InProcess {
    /// Starts it.
    pub(crate) fn start() -> InProcess {
        let engine = EngineOptions::default().with_threads(2).with_sequences(SEQUENCES);
        InProcess(start_with(options(), engine.with_cache(CACHE)))
    }

    /// Ends it.
    pub(crate) fn end(self) {
        self.0.end();
    }
}

impl Target for InProcess {
    fn address(&self) -> SocketAddr {
        self.0.address
    }

    fn memory(&self) -> Option<u64> {
        None
    }
}

/// The command `teff serve`.
pub(crate) struct Command {
    child: Child,
    address: SocketAddr,
    log: PathBuf,
}

impl Command {
    /// Starts the command at this path.
    pub(crate) fn start(teff: &Path) -> Command {
        let folder = std::env::temp_dir();
        let file = |name: &str| folder.join(format!("teff-soak-{}-{name}", std::process::id()));
        let (template, log) = (file("template.jinja"), file("log"));
        std::fs::write(&template, TEMPLATE).expect("a file");
        let mut child = std::process::Command::new(teff)
            .arg("serve")
            .arg(root().join("examples/gpt2/model.gguf"))
            .args(["--port", "0", "--alias", "story", "--threads", "2", "--chat-template"])
            .arg(&template)
            .args(["--parallel", &SEQUENCES.to_string(), "--cache", &CACHE.to_string()])
            // One heap: with one for each thread, glibc's gaps grow over tens of thousands of requests.
            .env("MALLOC_ARENA_MAX", "1")
            // Large buffers go back to the system at once: glibc would raise the size from which they do, and gaps of
            // megabytes come and go.
            .env("MALLOC_MMAP_THRESHOLD_", "65536")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(&log).expect("a file"))
            .spawn()
            .expect("the command");
        let mut line = String::new();
        let out = child.stdout.take().expect("its output");
        BufReader::new(out).read_line(&mut line).expect("a line");
        std::fs::remove_file(template).expect("the file");
        let address = line.trim().rsplit_once("http://").and_then(|(_, at)| at.parse().ok());
        Command { child, address: address.expect("an address"), log }
    }

    /// Ends it by SIGTERM: it must end well, and have had no panic.
    pub(crate) fn end(mut self) -> Done {
        let pid = self.child.id().to_string();
        let asked = std::process::Command::new("kill").args(["-TERM", &pid]).status();
        let status = asked.and_then(|_| self.child.wait()).map_err(|e| e.to_string())?;
        let log = std::fs::read_to_string(&self.log).map_err(|e| e.to_string())?;
        match status.success() && !log.contains("panicked") {
            true => std::fs::remove_file(&self.log).map_err(|e| e.to_string()),
            false => Err(format!("it ended with {status}: {log:.2000}")),
        }
    }
}

impl Drop for Command {
    fn drop(&mut self) {
        // Where it has ended already, there is nothing to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Target for Command {
    fn address(&self) -> SocketAddr {
        self.address
    }

    fn memory(&self) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        line.trim().trim_end_matches("kB").trim().parse().ok()
    }
}

fn get(address: SocketAddr, path: &str) -> Done<String> {
    let mut client = Client::connect(address)?;
    client.send(&request("GET", path, "connection: close\r\n", b""))?;
    Ok(client.answer()?.text()?.to_owned())
}

/// Waits until a server has nothing to do, and checks that no sequence and no page was lost. Returns the
/// counters.
pub(crate) fn settled(address: SocketAddr) -> Done<String> {
    let start = Instant::now();
    loop {
        let text = get(address, "/metrics")?;
        let value = |name: &str| -> Done<u64> {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            let number = line.and_then(|number| number.parse::<f64>().ok());
            number.map(|n| n as u64).ok_or_else(|| format!("no {name} in {text}"))
        };
        let pages = |state: &str| value(&format!("teff_pages{{state=\"{state}\"}}"));
        let busy = value("teff_running_sequences")? + value("teff_queue_requests")?;
        let rest = busy + pages("running")?;
        let (begun, ended) = (value("teff_sequences_total")?, value("teff_sequences_ended_total")?);
        // The connection that asks is one.
        let connections = value("teff_connections")?;
        if rest == 0 && begun == ended && connections <= 1 {
            let props: Value = serde_json::from_str(&get(address, "/props")?)
                .map_err(|e| format!("/props: {e}"))?;
            let all = props["stats"]["pages"].as_u64().unwrap_or_default();
            // For a moment some may be missing: the numbers are read one after the other.
            if pages("free")? + pages("cached")? != all {
                if start.elapsed() > PATIENCE {
                    return Err(format!("of {all} pages some are lost: {text}"));
                }
                std::thread::sleep(Duration::from_millis(20));
                continue;
            }
            let names =
                ["sequences", "sequences_cancelled", "sequences_preempted", "pages_evicted"];
            let mut said = format!("{all} pages");
            for name in names {
                let n = value(&format!("teff_{name}_total"))?;
                said += &format!(", {name} {n}");
            }
            return Ok(said);
        }
        if start.elapsed() > PATIENCE {
            return Err(format!("it doesn't come to rest: {text}"));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}
