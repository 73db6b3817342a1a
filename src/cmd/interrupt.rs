//! Ctrl-C handling: `chat` stops the current answer, and a batch ends after the texts that are written.
//!
//! std has no signal handling; the two functions needed from the system are linked anyway. On
//! systems other than Unix, Ctrl-C ends the program as usual.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use teff::StopHandle;

/// Handle of the session that Ctrl-C stops, if any.
static STOP: OnceLock<StopHandle> = OnceLock::new();

/// Number of times Ctrl-C was pressed since [`listen`].
static PRESSED: AtomicU32 = AtomicU32::new(0);

/// Resets the count: from now on Ctrl-C is counted, cancels the steps of `stop`'s session and
/// interrupts a read from the terminal. The third time it ends the program unconditionally.
pub(super) fn listen(stop: Option<&StopHandle>) {
    if let Some(stop) = stop {
        let _ = STOP.set(stop.clone());
    }
    PRESSED.store(0, Ordering::Relaxed);
    system::listen();
}

/// Number of times Ctrl-C was pressed since [`listen`].
pub(super) fn pressed() -> u32 {
    PRESSED.load(Ordering::Relaxed)
}

#[cfg(unix)]
#[allow(unsafe_code)]
mod system {
    use core::ffi::c_int;
    use std::sync::atomic::Ordering;

    type Handler = extern "C" fn(c_int);

    /// The same value on every Unix.
    const SIGINT: c_int = 2;

    // POSIX. `None` is SIG_DFL, a null pointer, on every Unix; the result of `signal` is a pointer
    // that is ignored.
    unsafe extern "C" {
        fn signal(signal: c_int, handler: Option<Handler>) -> usize;
        fn siginterrupt(signal: c_int, flag: c_int) -> c_int;
    }

    pub(super) fn listen() {
        // SAFETY: `on_interrupt` does only what a handler may do, and lives forever. Nothing else
        // in the program sets signal handlers.
        unsafe {
            signal(SIGINT, Some(on_interrupt));
            // A read that waits for a line ends with `Interrupted` instead of restarting.
            siginterrupt(SIGINT, 1);
        }
    }

    /// Signal handler: uses only atomics and `signal`, which are async-signal-safe.
    extern "C" fn on_interrupt(_: c_int) {
        let before = super::PRESSED.fetch_add(1, Ordering::Relaxed);
        if let Some(stop) = super::STOP.get() {
            stop.cancel();
        }
        if before >= 1 {
            // SAFETY: `signal` may be called in a handler (POSIX), and SIG_DFL has no requirements.
            unsafe { signal(SIGINT, None) };
        }
    }
}

#[cfg(not(unix))]
mod system {
    pub(super) fn listen() {}
}
