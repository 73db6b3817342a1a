//! Masks of constraints, computed by a thread of their own while the model computes.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};

use crate::session::masked::Masked;

#[derive(Default)]
struct Jobs {
    todo: Vec<(usize, Masked)>,
    done: Vec<(usize, Masked)>,
    /// Masks that are being computed.
    at_work: usize,
    closed: bool,
}

#[derive(Default)]
struct Shared {
    jobs: Mutex<Jobs>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Jobs> {
        // Masks are computed while it is not locked.
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(&self) {
        let mut jobs = self.lock();
        loop {
            while let Some((task, mut masked)) = jobs.todo.pop() {
                jobs.at_work += 1;
                drop(jobs);
                // A constraint that panics is lost, and with it the right to choose a token.
                let computed = catch_unwind(AssertUnwindSafe(|| {
                    masked.compute();
                    masked
                }));
                jobs = self.lock();
                jobs.at_work -= 1;
                if let Ok(masked) = computed {
                    jobs.done.push((task, masked));
                }
                self.changed.notify_all();
            }
            if jobs.closed {
                return;
            }
            jobs = self.changed.wait(jobs).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Thread that computes masks. It starts with the first one.
pub(super) struct Masks {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Masks {
    /// Room for the masks of `sequences` sequences.
    pub(super) fn new(sequences: usize) -> Masks {
        let shared = Shared::default();
        let mut jobs = shared.lock();
        jobs.todo.reserve(sequences);
        jobs.done.reserve(sequences);
        drop(jobs);
        Masks { shared: Arc::new(shared), thread: None }
    }

    /// Begins to compute the mask of a task. Without a thread it is left as it is, to be computed when
    /// it is needed.
    pub(super) fn start(&mut self, task: usize, masked: Masked) {
        if self.thread.is_none() {
            let shared = Arc::clone(&self.shared);
            let serve = move || shared.serve();
            self.thread = Builder::new().name("teff-masks".into()).spawn(serve).ok();
        }
        let mut jobs = self.shared.lock();
        match self.thread {
            Some(_) => jobs.todo.push((task, masked)),
            None => jobs.done.push((task, masked)),
        }
        drop(jobs);
        self.shared.changed.notify_all();
    }

    /// Waits for all masks and gives them back.
    pub(super) fn collect(&self, mut put: impl FnMut(usize, Masked)) {
        let mut jobs = self.shared.lock();
        while !jobs.todo.is_empty() || jobs.at_work > 0 {
            jobs = self.shared.changed.wait(jobs).unwrap_or_else(PoisonError::into_inner);
        }
        for (task, masked) in jobs.done.drain(..) {
            put(task, masked);
        }
    }
}

impl Drop for Masks {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
