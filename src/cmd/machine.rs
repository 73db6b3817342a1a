//! What the process shows and knows of itself: progress lines, peak memory.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

/// A line that tells a person at a terminal what is going on; gone when dropped. Where standard
/// error is no terminal, nothing is ever written.
pub(crate) struct Progress {
    shown: bool,
}

impl Progress {
    pub(crate) fn show(what: &str) -> Progress {
        let mut progress = Progress { shown: false };
        progress.update(what);
        progress
    }

    pub(crate) fn update(&mut self, what: &str) {
        let mut err = io::stderr().lock();
        if err.is_terminal() {
            self.shown = true;
            let _ = write!(err, "\r{what} ...\x1b[K");
            let _ = err.flush();
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

/// Most bytes of memory that the process held at once, pages of mapped files that it read
/// included; `None` where the system doesn't tell.
pub(crate) fn peak_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// Forgets the peak so far, where the system can.
pub(crate) fn reset_peak() {
    // proc(5): writing 5 resets VmHWM to what is held now.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

/// Milliseconds, to the microsecond.
pub(crate) fn ms(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}

/// Milliseconds since `start`.
pub(crate) fn ms_since(start: Instant) -> f64 {
    ms(start.elapsed())
}

/// How many per second, to three digits behind the point; `None` for no time at all.
pub(crate) fn per_second(n: usize, time: Duration) -> Option<f64> {
    let seconds = time.as_secs_f64();
    (seconds > 0.0).then(|| (n as f64 / seconds * 1e3).round() / 1e3)
}

/// Bytes as people read them.
pub(crate) fn human(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    match unit {
        0 => format!("{bytes} B"),
        _ => format!("{value:.1} {}", UNITS[unit]),
    }
}
