//! Cancellation of a step from another thread or by a deadline.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use teff_graph::Cancel;

#[derive(Debug)]
struct Shared {
    cancelled: AtomicBool,
    /// Nanoseconds after `start`; `u64::MAX` for none.
    deadline: AtomicU64,
    start: Instant,
}

/// Handle that cancels the steps of a session, from any thread. Clones refer to the same session.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use teff_graph::{LogitsFor, StepError};
/// use teff_runtime::{Model, SessionError, SessionOptions};
///
/// # let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/gpt2/model.gguf");
/// let model = Model::open(path)?;
/// let mut session = model.session(&SessionOptions::default().with_context(64))?;
/// let stop = session.stop_handle();
/// std::thread::spawn(move || stop.cancel()).join().expect("no panic");
/// let cancelled = session.eval(&[1, 2, 3], LogitsFor::Last);
/// assert!(matches!(cancelled, Err(SessionError::Step(StepError::Cancelled))));
///
/// // The tokens are pending still.
/// session.stop_handle().resume();
/// session.advance(LogitsFor::Last)?;
/// assert_eq!(session.computed(), 3);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct StopHandle(Arc<Shared>);

impl StopHandle {
    pub(crate) fn new() -> Self {
        StopHandle(Arc::new(Shared {
            cancelled: AtomicBool::new(false),
            deadline: AtomicU64::new(u64::MAX),
            start: Instant::now(),
        }))
    }

    /// Makes the running step, or otherwise the next one, fail with
    /// [`teff_graph::StepError::Cancelled`] within milliseconds, and all later ones until
    /// [`StopHandle::resume`].
    pub fn cancel(&self) {
        self.0.cancelled.store(true, Ordering::Relaxed);
    }

    /// Revokes cancellation and deadline, so that the session can continue.
    pub fn resume(&self) {
        self.0.deadline.store(u64::MAX, Ordering::Relaxed);
        self.0.cancelled.store(false, Ordering::Relaxed);
    }

    /// Cancels automatically after this much time from now.
    pub fn set_timeout(&self, after: Duration) {
        let at = self.0.start.elapsed().saturating_add(after).as_nanos();
        self.0.deadline.store(u64::try_from(at).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// True if it was cancelled or the deadline has passed.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        if self.0.cancelled.load(Ordering::Relaxed) {
            return true;
        }
        let deadline = self.0.deadline.load(Ordering::Relaxed);
        if deadline == u64::MAX || (self.0.start.elapsed().as_nanos() as u64) < deadline {
            return false;
        }
        // From here on every worker sees it, whatever its clock says.
        self.0.cancelled.store(true, Ordering::Relaxed);
        true
    }
}

impl Cancel for StopHandle {
    fn cancelled(&self) -> bool {
        self.is_stopped()
    }
}
