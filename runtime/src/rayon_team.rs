//! Steps on rayon's threads, for programs that already have a rayon pool.
//!
//! A [`RayonCrew`] runs a task on a thread of a rayon pool, and invites the pool's other threads by a
//! broadcast. Those that come take part by the protocol of a [`Pool`](crate::pool::Pool): they claim
//! work, and nobody waits for a thread that has claimed none. Therefore:
//!
//! - A run starts when one of the pool's threads is free, and waits for its turn until then. Threads
//!   that are busy with other work join it when they have finished that; a run that is over by then
//!   doesn't wait for them.
//! - Any number of crews may run on one rayon pool at the same time; they share its threads. A task
//!   may run another crew of the same pool.
//! - A thread that finds nothing to do for a while returns to rayon and stays away until the next
//!   run, at most a millisecond later.
//! - Sessions that share a crew may be stepped from threads of the pool too: one that waits for its turn
//!   there does other work of the pool meanwhile, which must not need a lock that its thread holds.
//! - The task must not call rayon, except to run another crew: a thread that waits inside rayon may
//!   pick up other work in the middle of the step.
//!
//! Unlike a `Pool`, rayon allocates a small list of jobs per run, and its threads are woken by
//! rayon's own mechanism. For the lowest latency, use a `Pool`.

use crate::pool::guests::Guests;
use crate::pool::{Crew, MAX_THREADS, PoolError, cpu_limit};
use rayon::ThreadPool;
use std::sync::Arc;
use std::thread::{self, ThreadId};
use teff_graph::Team;

/// The rayon pool that provides the threads.
enum Source<'p> {
    Given(&'p ThreadPool),
    Current {
        /// Created outside any pool, hence over the global one.
        outside: bool,
        /// The pool's threads by their rayon index.
        threads: Vec<ThreadId>,
    },
}

/// All threads of a rayon pool as a [`Crew`]. See the [module](self) for how a run gets along with
/// the surrounding program.
pub struct RayonCrew<'p> {
    source: Source<'p>,
    /// Shared with the jobs of broadcasts, which may come after their run.
    guests: Arc<Guests>,
}

impl<'p> RayonCrew<'p> {
    /// A crew of all threads of `pool`.
    ///
    /// # Errors
    /// [`PoolError::TooManyThreads`] if the pool has more than [`MAX_THREADS`].
    pub fn new(pool: &'p ThreadPool) -> Result<Self, PoolError> {
        Self::build(Source::Given(pool), pool.current_num_threads())
    }

    /// A crew of all threads of the current pool: inside a rayon pool that pool, elsewhere rayon's
    /// global pool. It can be run from the threads of that pool and, if it was created outside any
    /// pool, from outside any pool. Waits until each of the threads has responded once.
    ///
    /// # Errors
    /// As [`RayonCrew::new`].
    pub fn current() -> Result<RayonCrew<'static>, PoolError> {
        let outside = rayon::current_thread_index().is_none();
        let threads = rayon::broadcast(|_| thread::current().id());
        let size = threads.len();
        RayonCrew::build(Source::Current { outside, threads }, size)
    }

    fn build(source: Source<'p>, size: usize) -> Result<Self, PoolError> {
        if size > MAX_THREADS {
            return Err(PoolError::TooManyThreads { got: size, max: MAX_THREADS });
        }
        let crowded = cpu_limit().is_some_and(|cpus| size > cpus);
        Ok(RayonCrew { source, guests: Arc::new(Guests::new(size, crowded)) })
    }

    /// True if a job from this thread reaches this crew's pool.
    fn reachable(&self) -> bool {
        match (&self.source, rayon::current_thread_index()) {
            (Source::Given(_), _) => true,
            (Source::Current { outside, .. }, None) => *outside,
            (Source::Current { threads, .. }, Some(index)) => {
                threads.get(index) == Some(&thread::current().id())
            }
        }
    }
}

/// Runs the task on the calling thread, which is one of the pool's, and on others that come.
fn run_here(guests: &Arc<Guests>, task: &(dyn Fn(&dyn Team) + Sync)) -> Result<(), PoolError> {
    let rank = rayon::current_thread_index().ok_or(PoolError::WrongPool)?;
    let invite = || {
        if guests.size() > 1 {
            let guests = Arc::clone(guests);
            rayon::spawn_broadcast(move |context| guests.visit(context.index()));
        }
    };
    // The crew is borrowed mutably, so that it has no other run, and its threads have one index each.
    guests.run(rank, invite, &|worker: &_| task(worker)).unwrap_or(Err(PoolError::WrongPool))
}

/// A thread's rank is its index in the rayon pool. Further error of `run`: [`PoolError::WrongPool`]
/// if a crew of the current pool is run from elsewhere.
impl Crew for RayonCrew<'_> {
    fn size(&self) -> usize {
        self.guests.size()
    }

    fn run(&mut self, task: &(dyn Fn(&dyn Team) + Sync)) -> Result<(), PoolError> {
        if !self.reachable() {
            return Err(PoolError::WrongPool);
        }
        let guests = &self.guests;
        match &self.source {
            Source::Given(pool) => pool.install(|| run_here(guests, task)),
            // Runs its closure on a thread of the current pool.
            Source::Current { .. } => rayon::scope(|_| run_here(guests, task)),
        }
    }

    fn waits_for_rayon(&self) -> bool {
        true
    }
}

impl core::fmt::Debug for RayonCrew<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("RayonCrew").field("size", &self.size()).finish_non_exhaustive()
    }
}
