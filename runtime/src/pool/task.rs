//! One thread's share of a run, with panics caught and recorded.

use super::protocol::Barrier;
use super::{PoolError, Worker};
use core::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Maximum length of a recorded panic message, in bytes.
const MESSAGE_BYTES: usize = 4096;

/// State shared by the threads of one crew during a run.
pub(crate) struct RunState {
    pub(crate) barrier: Barrier,
    /// The first panic of the run. Locked by threads that panic, and by the owner between runs if
    /// `Barrier::broken` or `panicked` is set: never during a successful run.
    panic: Mutex<Option<(usize, String)>>,
    panicked: super::sync::AtomicBool,
}

impl RunState {
    pub(crate) fn new(size: u32, spins: u32) -> Self {
        RunState {
            barrier: Barrier::new(size, spins),
            panic: Mutex::new(None),
            panicked: super::sync::AtomicBool::new(false),
        }
    }

    /// Runs one thread's share. Never unwinds, and the other threads never wait for this one again.
    pub(crate) fn run_share(&self, rank: usize, size: usize, task: impl FnOnce(&Worker<'_>)) {
        let worker = Worker::new(rank, size, &self.barrier);
        // Unwind safety: the task's shared state is behind `&`, and the run reports the panic.
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| task(&worker))) {
            self.record(rank, payload);
        }
        // After `record`, so that no panic about a broken barrier precedes its cause.
        self.barrier.leave();
    }

    #[cold]
    fn record(&self, rank: usize, payload: Box<dyn Any + Send>) {
        let text = match (payload.downcast_ref::<&'static str>(), payload.downcast_ref::<String>())
        {
            (Some(text), _) => text,
            (None, Some(text)) => text.as_str(),
            (None, None) => "",
        };
        let mut first = self.lock();
        if first.is_none() {
            let mut end = text.len().min(MESSAGE_BYTES);
            while !text.is_char_boundary(end) {
                end -= 1;
            }
            *first = Some((rank, text[..end].to_owned()));
        }
        drop(first);
        self.panicked.store(true, super::sync::Ordering::Relaxed);
        // The payload's own destructor may panic again; the payload of that panic is leaked.
        if let Err(second) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
            core::mem::forget(second);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<(usize, String)>> {
        // A panic while it was locked (out of memory) leaves the value intact.
        self.panic.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The result of the run; resets everything for the next one. Called only between runs, ordered
    /// after the end of every thread's share.
    pub(crate) fn finish(&self) -> Result<(), PoolError> {
        let result = if self.panicked.load(super::sync::Ordering::Relaxed) {
            let (rank, message) = self.lock().take().unwrap_or_default();
            Err(PoolError::Panicked { rank, message })
        } else if self.barrier.broken() {
            Err(PoolError::Deserted)
        } else {
            Ok(())
        };
        self.panicked.store(false, super::sync::Ordering::Relaxed);
        self.barrier.reset();
        result
    }
}
