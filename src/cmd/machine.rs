//! Progress lines, peak memory and timing.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

/// A progress line for a terminal, removed when dropped. Nothing is ever written if standard error
/// is not a terminal.
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

/// Peak resident memory of the process in bytes, including mapped file pages that were read; `None`
/// if the system doesn't report it.
pub(crate) fn peak_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// Resets the peak, if the system supports it.
pub(crate) fn reset_peak() {
    // proc(5): writing 5 resets VmHWM to the current size.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

/// A duration in milliseconds, with a resolution of a microsecond.
pub(crate) fn ms(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}

/// Milliseconds since `start`.
pub(crate) fn ms_since(start: Instant) -> f64 {
    ms(start.elapsed())
}

/// Rate per second, rounded to three decimals; `None` for zero time.
pub(crate) fn per_second(n: usize, time: Duration) -> Option<f64> {
    let seconds = time.as_secs_f64();
    (seconds > 0.0).then(|| (n as f64 / seconds * 1e3).round() / 1e3)
}

/// A number of bytes in human-readable units.
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

/// A number of things, in words: `1 token`, `2 tokens`.
pub(crate) fn counted(n: usize, thing: &str) -> String {
    format!("{n} {thing}{}", if n == 1 { "" } else { "s" })
}
