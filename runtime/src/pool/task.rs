//! One member's share of a run: the task with its panics caught, and what is kept of them.

use super::protocol::Barrier;
use super::{PoolError, Worker};
use core::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Longest panic message that is kept, in bytes.
const MESSAGE_BYTES: usize = 4096;

/// What the members of one crew share during a run.
pub(crate) struct Meeting {
    pub(crate) barrier: Barrier,
    /// The first panic of the run. Locked by members that panic, and by the owner between runs
    /// where `Barrier::refused` or `panicked` calls for it: never on the way of a good run.
    panic: Mutex<Option<(usize, String)>>,
    panicked: super::sync::AtomicBool,
}

impl Meeting {
    pub(crate) fn new(size: u32, spins: u32) -> Self {
        Meeting {
            barrier: Barrier::new(size, spins),
            panic: Mutex::new(None),
            panicked: super::sync::AtomicBool::new(false),
        }
    }

    /// Runs one member's share. Never unwinds; the others never wait for this member again.
    pub(crate) fn attend(&self, rank: usize, size: usize, task: impl FnOnce(&Worker<'_>)) {
        let worker = Worker::new(rank, size, &self.barrier);
        // Unwind safety: what the task shares is behind `&`, and the run reports the panic.
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| task(&worker))) {
            self.record(rank, payload);
        }
        // After the record, so that no panic over a broken barrier comes before its cause.
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
        // A payload's own destructor may panic again; the payload of that one is leaked.
        if let Err(second) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
            core::mem::forget(second);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<(usize, String)>> {
        // A panic while it was held (out of memory) leaves the value whole.
        self.panic.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How the run went, and everything made ready for the next one. Only between runs, and
    /// ordered after every member's end.
    pub(crate) fn close(&self) -> Result<(), PoolError> {
        let result = if self.panicked.load(super::sync::Ordering::Relaxed) {
            let (rank, message) = self.lock().take().unwrap_or_default();
            Err(PoolError::Panicked { rank, message })
        } else if self.barrier.refused() {
            Err(PoolError::Deserted)
        } else {
            Ok(())
        };
        self.panicked.store(false, super::sync::Ordering::Relaxed);
        self.barrier.renew();
        result
    }
}
