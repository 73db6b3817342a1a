//! Masks of constraints, computed by threads of their own while the model computes.
//!
//! A mask that isn't there when the logits are is waited for a little. After that its text sits out of the
//! steps until it is: other texts go on without it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use super::inbox::Inbox;
use super::task::Key;
use crate::session::masked::Masked;

/// Threads at most: one, and others once masks wait behind slow ones.
const MOST_THREADS: usize = 4;

#[derive(Default)]
struct Jobs {
    /// The first is the oldest.
    todo: Vec<(Key, Masked)>,
    /// `None` for a constraint that was lost.
    done: Vec<(Key, Option<Masked>)>,
    /// Masks that are being computed.
    at_work: usize,
    /// The engine's thread doesn't wait here for those that are not done, and is to be woken.
    late: bool,
    closed: bool,
}

impl Jobs {
    fn left(&self) -> usize {
        self.todo.len() + self.at_work
    }
}

struct Shared {
    jobs: Mutex<Jobs>,
    changed: Condvar,
    inbox: Arc<Inbox>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Jobs> {
        // Masks are computed while it is not locked.
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(&self) {
        let mut jobs = self.lock();
        while !jobs.closed {
            if jobs.todo.is_empty() {
                jobs = self.changed.wait(jobs).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            let (key, mut masked) = jobs.todo.remove(0);
            jobs.at_work += 1;
            drop(jobs);
            // A constraint that panics is lost, and with it the right to choose a token.
            let computed = catch_unwind(AssertUnwindSafe(|| {
                masked.compute();
                masked
            }));
            jobs = self.lock();
            jobs.at_work -= 1;
            jobs.done.push((key, computed.ok()));
            if jobs.late {
                drop(jobs);
                self.inbox.ring();
                jobs = self.lock();
            }
            self.changed.notify_all();
        }
    }
}

/// Threads that compute masks. The first starts with the first mask.
pub(super) struct Masks {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Masks {
    /// Room for the masks of `sequences` sequences; `inbox` wakes the engine's thread.
    pub(super) fn new(sequences: usize, inbox: Arc<Inbox>) -> Masks {
        let jobs = Jobs {
            todo: Vec::with_capacity(sequences),
            done: Vec::with_capacity(sequences),
            ..Jobs::default()
        };
        let shared = Shared { jobs: Mutex::new(jobs), changed: Condvar::new(), inbox };
        Masks { shared: Arc::new(shared), threads: Vec::with_capacity(MOST_THREADS) }
    }

    /// Begins to compute the mask of a task. Without a thread it is left as it is, to be computed when
    /// it is needed.
    pub(super) fn start(&mut self, task: Key, masked: Masked) {
        if self.threads.is_empty() {
            self.add_thread();
        }
        let mut jobs = self.shared.lock();
        if self.threads.is_empty() {
            jobs.done.push((task, Some(masked)));
        } else {
            jobs.todo.push((task, masked));
        }
        drop(jobs);
        self.shared.changed.notify_all();
    }

    /// Drops the mask of a task that has ended, unless a thread is at it already.
    pub(super) fn forget(&mut self, task: Key) {
        let mut jobs = self.shared.lock();
        let at = jobs.todo.iter().position(|(key, _)| *key == task);
        let forgotten = at.map(|at| jobs.todo.remove(at));
        drop(jobs);
        drop(forgotten); // what it has is freed while others may go on
    }

    fn add_thread(&mut self) {
        let shared = Arc::clone(&self.shared);
        let serve = move || shared.serve();
        self.threads.extend(Builder::new().name("teff-masks".into()).spawn(serve));
    }

    /// Waits for all masks, but no longer than this, and gives back what is done: `None` for a constraint
    /// that was lost.
    pub(super) fn collect(&mut self, patience: Duration, mut put: impl FnMut(Key, Option<Masked>)) {
        let mut jobs = self.shared.lock();
        if jobs.left() > 0 && !patience.is_zero() {
            let began = Instant::now();
            while let Some(left) = patience.checked_sub(began.elapsed()).filter(|_| jobs.left() > 0)
            {
                let waited = self.shared.changed.wait_timeout(jobs, left);
                jobs = waited.unwrap_or_else(PoisonError::into_inner).0;
            }
        }
        for (task, masked) in jobs.done.drain(..) {
            put(task, masked);
        }
        jobs.late = jobs.left() > 0;
        let behind = jobs.late && !jobs.todo.is_empty() && jobs.at_work == self.threads.len();
        drop(jobs);
        if behind && self.threads.len() < MOST_THREADS {
            self.add_thread();
        }
    }
}

impl Drop for Masks {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.changed.notify_all();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}
