//! Steps on rayon's threads, for programs that already have a pool of them.
//!
//! A [`RayonCrew`] runs a task once on every thread of a rayon pool, by rayon's broadcast, and the
//! members meet at the same spinning barrier as those of a [`Pool`](crate::pool::Pool). What a run
//! needs is that all threads of the rayon pool come to it:
//!
//! - One run at a time per rayon pool. Two would wait for each other's threads for ever, so a
//!   second one, from whatever crew or thread, gets [`PoolError::Busy`].
//! - The task must not call rayon: a thread that waits inside rayon takes up other work there, and
//!   that may wait for this run.
//! - A run starts when the pool's threads have finished what they are doing, and until it ends
//!   they do nothing else. Don't hold a lock that a job of the same rayon pool waits for.
//! - Other code of the program that makes the threads of this rayon pool wait for each other (its
//!   own broadcasts with barriers) is subject to the same rule, and no run can see it.
//!
//! Rayon allocates a small list of jobs per broadcast, so unlike a `Pool` a run isn't free of
//! allocations; and its threads are woken by rayon's means. For the lowest latency, use a `Pool`.

use crate::pool::task::Meeting;
use crate::pool::{Crew, MAX_THREADS, PoolError, barrier_spins};
use rayon::ThreadPool;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread::{self, ThreadId};
use teff_graph::Team;

/// The rayon pools that have crews: the thread of index 0 names the pool, the flag says whether a
/// run is under way. Locked when a crew is made, not when it runs.
static POOLS: Mutex<Vec<(ThreadId, Weak<AtomicBool>)>> = Mutex::new(Vec::new());

/// The flag that all crews of the pool with this first thread share.
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

/// Where the threads come from.
enum Source<'p> {
    Given(&'p ThreadPool),
    Current {
        /// Made outside of any pool, hence over the global one.
        outside: bool,
    },
}

/// All threads of a rayon pool as a [`Crew`]. See the [module](self) for what a run asks of the
/// program around it.
pub struct RayonCrew<'p> {
    source: Source<'p>,
    /// The pool's threads by their rayon index.
    threads: Vec<ThreadId>,
    busy: Arc<AtomicBool>,
    meeting: Meeting,
}

impl<'p> RayonCrew<'p> {
    /// A crew of all threads of `pool`. Waits until each of them has answered once.
    ///
    /// # Errors
    /// [`PoolError::TooManyThreads`] where the pool has more than [`MAX_THREADS`].
    pub fn new(pool: &'p ThreadPool) -> Result<Self, PoolError> {
        Self::build(Source::Given(pool), pool.current_num_threads())
    }

    /// A crew of all threads of the current pool: inside of a rayon pool that one, elsewhere
    /// rayon's global pool. It can be run from the threads of that pool, and, if it was made
    /// outside of any pool, from outside of any.
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
        let meeting = Meeting::new(size as u32, barrier_spins(size));
        Ok(RayonCrew { source, threads, busy: busy_flag(first), meeting })
    }

    /// Whether a broadcast from this thread goes to this crew's pool.
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

/// Clears the flag of the pool when the run ends, also by a panic within rayon.
struct Claim<'c>(&'c AtomicBool);

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

/// A member's rank is its thread's index in the rayon pool. Further errors of `run`:
/// [`PoolError::Busy`] where another run on the same rayon pool is under way (also where the task
/// itself starts one), [`PoolError::WrongPool`] where a crew of the current pool is run from
/// elsewhere.
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
        let (meeting, size) = (&self.meeting, self.threads.len());
        // `attend` catches panics, so rayon sees none. Its end orders all members before `close`.
        self.source.broadcast(|rank| meeting.attend(rank, size, |worker| task(worker)));
        let result = meeting.close();
        drop(claim);
        result
    }
}

impl core::fmt::Debug for RayonCrew<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("RayonCrew").field("size", &self.threads.len()).finish_non_exhaustive()
    }
}
