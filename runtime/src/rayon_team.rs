//! Steps on rayon's threads, for programs that already have a rayon pool.
//!
//! A [`RayonCrew`] runs a task once on every thread of a rayon pool, by rayon's broadcast; the
//! threads synchronise at the same spinning barrier as those of a [`Pool`](crate::pool::Pool). A
//! run requires all threads of the rayon pool to join it:
//!
//! - One run at a time per rayon pool. Two would wait for each other's threads forever, so a second
//!   one, from any crew or thread, gets [`PoolError::Busy`].
//! - The task must not call rayon: a thread that waits inside rayon picks up other work, which may
//!   in turn wait for this run.
//! - A run starts when the pool's threads have finished what they are doing, and they do nothing
//!   else until it ends. Don't hold a lock that a job of the same rayon pool waits for.
//! - Other code of the program that makes the threads of this rayon pool wait for each other (its
//!   own broadcasts with barriers) is subject to the same rule, which a run can't check.
//!
//! Unlike a `Pool`, rayon allocates a small list of jobs per broadcast, and its threads are woken
//! by rayon's own mechanism. For the lowest latency, use a `Pool`.

use crate::pool::task::RunState;
use crate::pool::{Crew, MAX_THREADS, PoolError, barrier_spins};
use rayon::ThreadPool;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread::{self, ThreadId};
use teff_graph::Team;

/// The rayon pools that have crews, identified by the thread at index 0; the flag is set during a
/// run. Locked when a crew is created, not when it runs.
static POOLS: Mutex<Vec<(ThreadId, Weak<AtomicBool>)>> = Mutex::new(Vec::new());

/// The flag shared by all crews of the pool with this first thread.
fn busy_flag(first: ThreadId) -> Arc<AtomicBool> {
    let mut pools = POOLS.lock().unwrap_or_else(PoisonError::into_inner);
    pools.retain(|(_, flag)| flag.strong_count() > 0);
    let known = pools.iter().find(|(id, _)| *id == first).and_then(|(_, flag)| flag.upgrade());
    known.unwrap_or_else(|| {
        let flag = Arc::new(AtomicBool::new(false));
        pools.push((first, Arc::downgrade(&flag)));
        flag
    })
}

/// The rayon pool that provides the threads.
enum Source<'p> {
    Given(&'p ThreadPool),
    Current {
        /// Created outside any pool, hence over the global one.
        outside: bool,
    },
}

/// All threads of a rayon pool as a [`Crew`]. See the [module](self) for what a run requires of the
/// surrounding program.
pub struct RayonCrew<'p> {
    source: Source<'p>,
    /// The pool's threads by their rayon index.
    threads: Vec<ThreadId>,
    busy: Arc<AtomicBool>,
    run: RunState,
}

impl<'p> RayonCrew<'p> {
    /// A crew of all threads of `pool`. Waits until each of them has responded once.
    ///
    /// # Errors
    /// [`PoolError::TooManyThreads`] if the pool has more than [`MAX_THREADS`].
    pub fn new(pool: &'p ThreadPool) -> Result<Self, PoolError> {
        Self::build(Source::Given(pool), pool.current_num_threads())
    }

    /// A crew of all threads of the current pool: inside a rayon pool that pool, elsewhere rayon's
    /// global pool. It can be run from the threads of that pool and, if it was created outside any
    /// pool, from outside any pool.
    ///
    /// # Errors
    /// As [`RayonCrew::new`].
    pub fn current() -> Result<RayonCrew<'static>, PoolError> {
        let outside = rayon::current_thread_index().is_none();
        RayonCrew::build(Source::Current { outside }, rayon::current_num_threads())
    }

    fn build(source: Source<'p>, size: usize) -> Result<Self, PoolError> {
        if size > MAX_THREADS {
            return Err(PoolError::TooManyThreads { got: size, max: MAX_THREADS });
        }
        let threads = source.broadcast(|_| thread::current().id());
        let first = *threads.first().ok_or(PoolError::NoThreads)?;
        let run = RunState::new(size as u32, barrier_spins(size));
        Ok(RayonCrew { source, threads, busy: busy_flag(first), run })
    }

    /// True if a broadcast from this thread reaches this crew's pool.
    fn reachable(&self) -> bool {
        match (&self.source, rayon::current_thread_index()) {
            (Source::Given(_), _) => true,
            (Source::Current { outside }, None) => *outside,
            (Source::Current { .. }, Some(index)) => {
                self.threads.get(index) == Some(&thread::current().id())
            }
        }
    }
}

impl Source<'_> {
    fn broadcast<R: Send>(&self, f: impl Fn(usize) -> R + Sync) -> Vec<R> {
        match self {
            Source::Given(pool) => pool.broadcast(|context| f(context.index())),
            Source::Current { .. } => rayon::broadcast(|context| f(context.index())),
        }
    }
}

/// Clears the pool's flag when the run ends, even by a panic within rayon.
struct Claim<'c>(&'c AtomicBool);

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

/// A thread's rank is its index in the rayon pool. Further errors of `run`: [`PoolError::Busy`] if
/// another run on the same rayon pool is in progress (including one whose task calls `run` again),
/// and [`PoolError::WrongPool`] if a crew of the current pool is run from elsewhere.
impl Crew for RayonCrew<'_> {
    fn size(&self) -> usize {
        self.threads.len()
    }

    fn run(&mut self, task: &(dyn Fn(&dyn Team) + Sync)) -> Result<(), PoolError> {
        if !self.reachable() {
            return Err(PoolError::WrongPool);
        }
        if self.busy.swap(true, Ordering::Acquire) {
            return Err(PoolError::Busy);
        }
        let claim = Claim(&self.busy);
        let (run, size) = (&self.run, self.threads.len());
        // `run_share` catches panics, so rayon sees none. The broadcast's end orders all threads
        // before `finish`.
        self.source.broadcast(|rank| run.run_share(rank, size, |worker| task(worker)));
        let result = run.finish();
        drop(claim);
        result
    }
}

impl core::fmt::Debug for RayonCrew<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("RayonCrew").field("size", &self.threads.len()).finish_non_exhaustive()
    }
}
