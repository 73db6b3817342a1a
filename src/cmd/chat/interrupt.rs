//! Ctrl-C: it stops the answer, and ends the program only where nothing is being answered.
//!
//! std has no signals, and all that is needed of the system is two functions that it links anyway.
//! Elsewhere than on Unix Ctrl-C ends the program, as ever.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use teff::StopHandle;

/// What Ctrl-C stops.
static STOP: OnceLock<StopHandle> = OnceLock::new();

/// How often it was pressed since [`listen`].
static PRESSED: AtomicU32 = AtomicU32::new(0);

/// Starts to count from zero: from now on Ctrl-C cancels the steps of `stop`'s session and lets a
/// read from the terminal end. A third time it ends the program, whatever that does.
pub(super) fn listen(stop: &StopHandle) {
    let _ = STOP.set(stop.clone());
    PRESSED.store(0, Ordering::Relaxed);
    system::listen();
}

/// How often Ctrl-C was pressed since [`listen`].
pub(super) fn pressed() -> u32 {
    PRESSED.load(Ordering::Relaxed)
}

#[cfg(unix)]
#[allow(unsafe_code)]
mod system {
    use core::ffi::c_int;
    use std::sync::atomic::Ordering;

    type Handler = extern "C" fn(c_int);

    /// The same number on every Unix.
    const SIGINT: c_int = 2;

    // POSIX. `None` is SIG_DFL, a null pointer, on every Unix; what `signal` returns is a pointer
    // that nobody looks at.
    unsafe extern "C" {
        fn signal(signal: c_int, handler: Option<Handler>) -> usize;
        fn siginterrupt(signal: c_int, flag: c_int) -> c_int;
    }

    pub(super) fn listen() {
        // SAFETY: `on_interrupt` does only what a handler may do, and lives forever. Nobody else
        // in the program sets handlers.
        unsafe {
            signal(SIGINT, Some(on_interrupt));
            // A read that waits for a line ends with `Interrupted` instead of starting anew.
            siginterrupt(SIGINT, 1);
        }
    }

    /// Only atomics and `signal`: what may run between any two instructions.
    extern "C" fn on_interrupt(_: c_int) {
        let before = super::PRESSED.fetch_add(1, Ordering::Relaxed);
        if let Some(stop) = super::STOP.get() {
            stop.cancel();
        }
        if before >= 1 {
            // SAFETY: `signal` may be called in a handler (POSIX), and SIG_DFL needs nothing.
            unsafe { signal(SIGINT, None) };
        }
    }
}

#[cfg(not(unix))]
mod system {
    pub(super) fn listen() {}
}
