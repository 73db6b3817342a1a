//! Thread pool for sessions: created once, asleep when idle, and not held up by threads that the
//! system has put aside.
//!
//! A [`Pool`] of N threads is the caller's own thread and N - 1 helpers. [`Pool::run`] passes a
//! borrowed closure to them: the caller runs it once, and helpers run it when the system gives them
//! a core, any number of times, until the caller has left it. The closure distributes its work by
//! claims ([`teff_graph::Team`]), of which nobody waits for anyone's but those that are being
//! computed: a helper that gets no core delays no one, and what it would have done is done by the
//! others. There is no guard that a caller could leak: the whole scope lies within that one call,
//! which returns when the last helper has left the closure, so that nothing that the closure borrows
//! is touched afterwards.
//!
//! A panic of the closure on any thread is caught; the others get [`teff_graph::Broken`] from the
//! phase for which they wait, and the run returns [`PoolError::Panicked`]. The pool stays usable.
//!
//! Threads wait in three stages: they spin, yield and sleep, and learn from how long their waits
//! take (`wait`). The protocol between them, and why it is sound, is in `protocol`.
//!
//! A pool has no more threads than the process may run on ([`cpu_limit`]), unless it is told to
//! ([`PoolOptions::oversubscribe`]).
//!
//! Sessions use the trait [`Crew`], which is implemented by [`Pool`], [`teff_graph::Solo`] and
//! rayon's threads (`rayon_team`, behind the feature `rayon`).

mod crew;
mod error;
#[cfg(feature = "rayon")]
pub(crate) mod guests;
mod protocol;
mod state;
mod sync;
mod topology;
mod wait;

pub use crew::Crew;
pub use error::PoolError;
pub use state::Worker;
pub use topology::{FewerThreads, allowed_threads, available_threads, cpu_limit};

use core::time::Duration;
use state::CrewState;
use std::io;
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use teff_graph::{Team, Work};

/// Maximum number of threads in a pool.
pub const MAX_THREADS: usize = 256;

/// Default of [`PoolOptions::idle_spin`].
///
/// The next token's step follows the sampling of this one, tens of microseconds later, and waking a
/// thread takes as long again. After that time the core is better left to others.
pub const IDLE_SPIN: Duration = Duration::from_micros(50);

/// Options of a [`Pool`].
#[derive(Clone, Copy, Debug)]
pub struct PoolOptions {
    /// Number of threads, including the caller's; `None` for [`available_threads`].
    pub threads: Option<usize>,
    /// True if there may be more threads than the process may run on. They then take turns, which is
    /// slower than fewer threads: useful to test with many threads on a small machine.
    pub oversubscribe: bool,
    /// Time for which an idle helper looks for the next run before it sleeps: longer for the lowest
    /// latency on a dedicated machine, zero if other programs need the cores. With more threads than
    /// the process may run on, the time is always zero.
    pub idle_spin: Duration,
}

impl Default for PoolOptions {
    fn default() -> Self {
        PoolOptions { threads: None, oversubscribe: false, idle_spin: IDLE_SPIN }
    }
}

impl PoolOptions {
    /// Sets the number of threads.
    #[must_use]
    pub fn with_threads(self, threads: usize) -> Self {
        PoolOptions { threads: Some(threads), ..self }
    }

    /// Sets whether there may be more threads than the process may run on.
    #[must_use]
    pub fn with_oversubscribe(self, oversubscribe: bool) -> Self {
        PoolOptions { oversubscribe, ..self }
    }

    /// Sets the time for which an idle helper looks for the next run before it sleeps.
    #[must_use]
    pub fn with_idle_spin(self, idle_spin: Duration) -> Self {
        PoolOptions { idle_spin, ..self }
    }
}

/// Refuses numbers of threads that no pool can have.
pub(crate) fn check_threads(threads: usize) -> Result<(), PoolError> {
    match threads {
        0 => Err(PoolError::NoThreads),
        1..=MAX_THREADS => Ok(()),
        got => Err(PoolError::TooManyThreads { got, max: MAX_THREADS }),
    }
}

/// A fixed set of threads that run one task at a time together.
///
/// All memory is allocated on creation: a run that doesn't panic allocates nothing, and takes no
/// lock and calls nothing of the system unless a thread waits for long.
///
/// ```
/// use std::sync::atomic::{AtomicUsize, Ordering};
/// use teff_runtime::pool::Pool;
///
/// let sum = AtomicUsize::new(0);
/// let mut pool = Pool::new(2)?;
/// pool.for_each(1000, |_rank, item| drop(sum.fetch_add(item, Ordering::Relaxed)))?;
/// assert_eq!(sum.into_inner(), 499_500);
/// # Ok::<(), teff_runtime::pool::PoolError>(())
/// ```
pub struct Pool {
    state: Arc<CrewState>,
    helpers: Vec<JoinHandle<()>>,
    fewer: Option<FewerThreads>,
}

impl Pool {
    /// A pool of `threads` threads, or of as many as the process may run on if those are fewer
    /// ([`Pool::fewer_threads`]): the one that calls [`Pool::run`] and helpers named `teff-1`,
    /// `teff-2` and so on, with std's default stack size.
    ///
    /// # Errors
    /// [`PoolError::NoThreads`], [`PoolError::TooManyThreads`] beyond [`MAX_THREADS`], and
    /// [`PoolError::Spawn`] if the system refuses a thread.
    pub fn new(threads: usize) -> Result<Pool, PoolError> {
        Pool::with_options(&PoolOptions::default().with_threads(threads))
    }

    /// A pool with these options.
    ///
    /// # Errors
    /// As [`Pool::new`].
    pub fn with_options(options: &PoolOptions) -> Result<Pool, PoolError> {
        let asked = options.threads.unwrap_or_else(available_threads);
        let (threads, fewer) = allowed_threads(asked, options.oversubscribe);
        let spawn = |builder: thread::Builder, work| builder.spawn(work);
        let mut pool = Pool::build(threads, options.idle_spin, spawn)?;
        pool.fewer = fewer;
        Ok(pool)
    }

    fn build(
        threads: usize,
        idle_spin: Duration,
        mut spawn: impl FnMut(thread::Builder, Box<dyn FnOnce() + Send>) -> io::Result<JoinHandle<()>>,
    ) -> Result<Pool, PoolError> {
        check_threads(threads)?;
        let crowded = cpu_limit().is_some_and(|cpus| threads > cpus);
        let idle_spin = if crowded { Duration::ZERO } else { idle_spin };
        let state = Arc::new(CrewState::new(threads, crowded));
        let mut pool = Pool { state, helpers: Vec::with_capacity(threads - 1), fewer: None };
        let (started, starts) = mpsc::channel();
        for rank in 1..threads {
            let state = Arc::clone(&pool.state);
            let started = started.clone();
            let builder = thread::Builder::new().name(format!("teff-{rank}"));
            let serve = move || {
                let _ = started.send(());
                drop(started);
                // SAFETY: each rank is served by one thread; the owner's is 0.
                unsafe { state.serve(rank, idle_spin) }
            };
            match spawn(builder, Box::new(serve)) {
                Ok(helper) => pool.helpers.push(helper),
                // Dropping the pool stops and joins the threads already started.
                Err(cause) => {
                    return Err(PoolError::Spawn { started: rank, wanted: threads, cause });
                }
            }
        }
        drop(started);
        // What a thread allocates when it starts belongs to making the pool, and not to a token.
        for _ in 1..threads {
            let _ = starts.recv();
        }
        Ok(pool)
    }

    /// The number of threads that run a task, including the caller's.
    #[must_use]
    pub fn size(&self) -> usize {
        self.state.size()
    }

    /// The numbers of threads asked for and used, if the process may not run on as many.
    #[must_use]
    pub fn fewer_threads(&self) -> Option<FewerThreads> {
        self.fewer
    }

    /// Runs `task` on the calling thread, as rank 0, and on helpers, and returns when all have left
    /// it.
    ///
    /// A helper may run it any number of times while the caller does, or never. What is to be done
    /// once is therefore claimed, as [`Pool::for_each`] and a step
    /// ([`Running::walk`](teff_graph::Running::walk)) do.
    ///
    /// # Errors
    /// [`PoolError::Panicked`] if the task panicked on any thread. The pool stays usable.
    pub fn run<F: Fn(&Worker<'_>) + Sync>(&mut self, task: F) -> Result<(), PoolError> {
        let state = &*self.state;
        // SAFETY: `&mut self` makes this thread the only owner, and rank 0 is no helper's.
        unsafe { state.run(0, || state.call_others(0), &task) }
    }

    /// Calls `f` with each number below `items` and the rank of the calling thread, on all threads
    /// that have a core. Every thread begins with a share of its own, so that long items end at the
    /// same time.
    ///
    /// # Errors
    /// As [`Pool::run`]; not all calls were made then.
    pub fn for_each(
        &mut self,
        items: usize,
        f: impl Fn(usize, usize) + Sync,
    ) -> Result<(), PoolError> {
        let work = Work { most: 1, ..Work::new(items) };
        self.run(|worker| {
            loop {
                // SAFETY: on all threads the only operation of the run.
                let claimed = unsafe { worker.claim(0, &work) };
                if claimed.is_empty() {
                    break;
                }
                claimed.for_each(|item| f(worker.rank(), item));
            }
        })
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        // A pool whose construction failed has fewer helpers than ranks.
        for rank in 1..=self.helpers.len() {
            self.state.stop(rank);
        }
        for helper in self.helpers.drain(..) {
            // A helper catches the panics of its tasks; a panic of its own can't be reported to
            // anyone.
            drop(helper.join());
        }
    }
}

impl core::fmt::Debug for Pool {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Pool").field("size", &self.size()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn a_refused_thread_is_reported_and_the_others_are_joined() {
        for refused in 1..4 {
            let ended = Arc::new(AtomicUsize::new(0));
            let mut rank = 0;
            let pool = Pool::build(4, IDLE_SPIN, |builder, work| {
                rank += 1;
                if rank == refused {
                    return Err(io::Error::other("no more threads"));
                }
                let ended = Arc::clone(&ended);
                builder.spawn(move || {
                    work();
                    ended.fetch_add(1, Ordering::SeqCst);
                })
            });
            let error = pool.map(|_| ()).unwrap_err();
            assert!(
                matches!(&error, PoolError::Spawn { started, wanted: 4, .. } if *started == refused)
            );
            assert!(error.to_string().contains("no more threads"), "{error}");
            assert!(core::error::Error::source(&error).is_some());
            assert_eq!(ended.load(Ordering::SeqCst), refused - 1);
        }
    }

    #[test]
    fn pools_move_between_threads() {
        fn is_send<T: Send>() {}
        is_send::<Pool>();
        is_send::<PoolError>();
    }
}
