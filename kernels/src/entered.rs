//! Reports of the compiled functions that run: tests listen, so that fast code that nobody calls is noticed.

/// Tells the listener that the function `$what` of `$set` runs.
macro_rules! enter {
    ($set:expr, $what:expr) => {
        #[cfg(feature = "entered")]
        $crate::entered::tell($set, $what);
        #[cfg(not(feature = "entered"))]
        let _: (&str, &str) = ($set, $what);
    };
}
pub(crate) use enter;

#[cfg(feature = "entered")]
pub(crate) use listener::tell;
#[cfg(feature = "entered")]
pub use listener::{Listener, listen};

#[cfg(feature = "entered")]
mod listener {
    use core::mem::transmute;
    use core::ptr::null_mut;
    use core::sync::atomic::{AtomicPtr, Ordering};

    /// Gets the instruction set and the name of each compiled function that is entered, on the thread
    /// that enters it.
    pub type Listener = fn(set: &'static str, what: &'static str);

    static LISTENER: AtomicPtr<()> = AtomicPtr::new(null_mut());

    /// Makes `listener` the one of the process.
    pub fn listen(listener: Listener) {
        LISTENER.store(listener as *mut (), Ordering::Release);
    }

    pub(crate) fn tell(set: &'static str, what: &'static str) {
        let listener = LISTENER.load(Ordering::Acquire);
        if !listener.is_null() {
            // SAFETY: `listen` alone stores here, and nothing but listeners.
            let listener = unsafe { transmute::<*mut (), Listener>(listener) };
            listener(set, what);
        }
    }
}
