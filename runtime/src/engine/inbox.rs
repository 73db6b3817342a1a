//! Inbox of the engine's thread: what callers ask of it.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::task::Task;

/// Requests that the engine's thread has not seen, and the means to wake it.
#[derive(Default)]
pub(super) struct Inbox {
    state: Mutex<State>,
    bell: Condvar,
    /// True if there is something to look at: asked once for each step.
    news: AtomicBool,
    /// Tasks that wait to be admitted.
    waiting: AtomicUsize,
}

impl core::fmt::Debug for Inbox {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Inbox").field("waiting", &self.waiting).finish_non_exhaustive()
    }
}

#[derive(Default)]
struct State {
    tasks: Vec<Task>,
    /// The engine is to end.
    closed: bool,
}

impl Inbox {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing is called that could panic while it is locked.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds the tasks of a request, unless more than `most` would wait. Gives them back if the engine
    /// has ended or too many wait.
    pub(super) fn push(&self, tasks: Vec<Task>, most: usize) -> Result<(), Refused> {
        let n = tasks.len();
        let mut state = self.lock();
        if state.closed {
            return Err(Refused::Ended);
        }
        // Of one request all choices wait, or none.
        if self.waiting.load(Ordering::Relaxed) >= most {
            return Err(Refused::Busy);
        }
        self.waiting.fetch_add(n, Ordering::Relaxed);
        state.tasks.extend(tasks);
        drop(state);
        self.ring();
        Ok(())
    }

    /// Wakes the engine's thread.
    pub(super) fn ring(&self) {
        self.news.store(true, Ordering::Release);
        // The thread looks at `news` under the lock before it sleeps.
        drop(self.lock());
        self.bell.notify_one();
    }

    /// Ends the engine.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.ring();
    }

    /// Moves new tasks to `to`, if there are any. Returns true if the engine is to end.
    pub(super) fn collect(&self, to: &mut Vec<Task>) -> bool {
        if !self.news.swap(false, Ordering::Acquire) {
            return false;
        }
        let mut state = self.lock();
        to.append(&mut state.tasks);
        state.closed
    }

    /// Closes the inbox and moves what is left to `to`.
    pub(super) fn drain(&self, to: &mut Vec<Task>) {
        let mut state = self.lock();
        state.closed = true;
        to.append(&mut state.tasks);
    }

    /// Sleeps until there is something to look at, or until this moment.
    pub(super) fn sleep(&self, until: Option<Instant>) {
        let mut state = self.lock();
        while !self.news.load(Ordering::Acquire) {
            state = match until {
                None => self.bell.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(until) => {
                    let left = until.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return;
                    }
                    self.bell.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }

    /// Number of tasks that wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// A task waits no longer.
    pub(super) fn admitted(&self) {
        self.waiting.fetch_sub(1, Ordering::Relaxed);
    }

    /// A task waits again.
    pub(super) fn put_back(&self) {
        self.waiting.fetch_add(1, Ordering::Relaxed);
    }
}

/// Reason why a request was not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Refused {
    Ended,
    Busy,
}
