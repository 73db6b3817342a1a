//! Thread pool for sessions: created once, parked when idle, synchronised by spinning barriers.
//!
//! A [`Pool`] of N threads is the caller's own thread and N - 1 workers. [`Pool::run`] passes a
//! borrowed closure to all of them and returns when the last one has left it, so nothing that the
//! closure borrows is touched afterwards. There is no guard that a caller could leak: the whole
//! scope lies within that one call.
//!
//! A panic of the closure on any thread is caught; the others get [`Broken`] from the barrier at
//! which they wait, or from their next one, and the run returns [`PoolError::Panicked`]. The pool
//! stays usable.
//!
//! Sessions use the trait [`Crew`], which is implemented by [`Pool`], [`teff_graph::Solo`] and
//! rayon's threads (`rayon_team`, behind the feature `rayon`).

mod crew;
mod error;
mod protocol;
mod sync;
pub(crate) mod task;
mod topology;

pub use crew::Crew;
pub use error::PoolError;
pub use topology::available_threads;

use core::marker::PhantomData;
use core::time::Duration;
use protocol::{Barrier, Gate, Order};
use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Instant;
use task::RunState;
use teff_graph::{Broken, Team};

/// Maximum number of threads in a pool.
pub const MAX_THREADS: usize = 256;

/// Default time for which a worker spins after a run before it parks; see [`Pool::with_idle_spin`].
///
/// The next token's step follows the sampling of this one, tens of microseconds later, and waking a
/// parked thread takes as long again. After that time the core is better left to others.
pub const IDLE_SPIN: Duration = Duration::from_micros(50);

/// Number of pauses at a barrier before a thread yields its core.
///
/// A pause takes from 10 ns (Arm, older x86) to 45 ns (Skylake and later), so this is 2 to 10
/// microseconds: longer than the skew between the threads of a step on an otherwise idle machine,
/// and far below the time slice that is lost if the thread they wait for has no core to run on.
const BARRIER_SPINS: u32 = 200;

/// The same with more threads than cores, when some thread is always waiting for a core.
const CROWDED_SPINS: u32 = 10;

/// Number of spins between reads of the clock, which take as long as a pause or two.
const SPINS_PER_CLOCK_READ: u32 = 16;

/// [`BARRIER_SPINS`] or [`CROWDED_SPINS`] for this number of threads on this machine.
pub(crate) fn barrier_spins(threads: usize) -> u32 {
    let crowded = thread::available_parallelism().is_ok_and(|cores| threads > cores.get());
    if crowded { CROWDED_SPINS } else { BARRIER_SPINS }
}

/// One thread of a run, as seen by the task.
pub struct Worker<'r> {
    rank: usize,
    size: usize,
    barrier: &'r Barrier,
    /// Tied to its thread: a thread is counted once per barrier.
    not_sync: PhantomData<*const ()>,
}

impl<'r> Worker<'r> {
    fn new(rank: usize, size: usize, barrier: &'r Barrier) -> Self {
        Worker { rank, size, barrier, not_sync: PhantomData }
    }
}

// SAFETY: workers are created only by `RunState::run_share`, which the pool calls once per rank in
// `0..size` and run (rayon's crew: once per index of the broadcast). A worker can neither be sent
// to nor shared with another thread, nor outlive its task, so each counts once per barrier.
// `Barrier::wait` returns Ok only for the phase that `size` arrivals completed, publishes what they
// wrote before, and fails permanently once a thread has left; it is reset when all have.
unsafe impl Team for Worker<'_> {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn barrier(&self) -> Result<(), Broken> {
        self.barrier.wait()
    }
}

/// A borrowed task with its type and lifetime erased.
#[derive(Clone, Copy)]
struct Job {
    task: *const (),
    call: unsafe fn(*const (), &Worker<'_>),
}

// SAFETY: `task` points to a closure that is Sync (the bound of `Job::new`), and it is used through
// `&` only.
unsafe impl Send for Job {}

impl Job {
    fn new<F: Fn(&Worker<'_>) + Sync>(task: &F) -> Self {
        /// # Safety
        /// `task` points to a live `F`.
        unsafe fn call<F: Fn(&Worker<'_>)>(task: *const (), worker: &Worker<'_>) {
            // SAFETY: guaranteed by the caller.
            let task = unsafe { &*task.cast::<F>() };
            task(worker);
        }
        Job { task: core::ptr::from_ref(task).cast(), call: call::<F> }
    }
}

/// State shared by the owner and the workers.
struct Shared {
    size: usize,
    gate: Gate<Job>,
    run: RunState,
    idle_spin: Duration,
}

impl Shared {
    fn work(&self, rank: usize) {
        loop {
            let mut since: Option<Instant> = None;
            let mut spins = 0;
            let stay_awake = || {
                sync::spin_loop();
                spins += 1;
                if spins % SPINS_PER_CLOCK_READ != 0 {
                    return true;
                }
                since.get_or_insert_with(Instant::now).elapsed() < self.idle_spin
            };
            match self.gate.next(rank - 1, stay_awake, thread::park) {
                Order::Run(job) => {
                    self.run.run_share(rank, self.size, |worker| {
                        // SAFETY: the closure outlives this call, since `Pool::run` holds it until
                        // `Gate::finish` has seen this worker's `done` below.
                        unsafe { (job.call)(job.task, worker) };
                    });
                    self.gate.done();
                }
                Order::Stop => return,
            }
        }
    }
}

/// A fixed set of threads that run one task at a time together.
///
/// All memory is allocated on creation: a run that doesn't panic allocates nothing and takes no
/// lock.
///
/// ```
/// use std::sync::atomic::{AtomicUsize, Ordering};
/// use teff_graph::Team;
/// use teff_runtime::pool::Pool;
///
/// let (arrived, complete) = (AtomicUsize::new(0), AtomicUsize::new(0));
/// let mut pool = Pool::new(2)?;
/// pool.run(|worker| {
///     arrived.fetch_add(1, Ordering::Relaxed);
///     if worker.barrier().is_ok() && arrived.load(Ordering::Relaxed) == worker.size() {
///         complete.fetch_add(1, Ordering::Relaxed);
///     }
/// })?;
/// assert_eq!(complete.into_inner(), 2);
/// # Ok::<(), teff_runtime::pool::PoolError>(())
/// ```
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
}

impl Pool {
    /// A pool of `threads` threads: the one that calls [`Pool::run`] and `threads - 1` workers,
    /// named `teff-1`, `teff-2` and so on, with std's default stack size.
    ///
    /// # Errors
    /// [`PoolError::NoThreads`], [`PoolError::TooManyThreads`] beyond [`MAX_THREADS`], and
    /// [`PoolError::Spawn`] if the system refuses a thread.
    pub fn new(threads: usize) -> Result<Pool, PoolError> {
        Pool::with_idle_spin(threads, IDLE_SPIN)
    }

    /// A pool whose idle workers spin for `idle_spin` before they park: longer for the lowest
    /// latency on a dedicated machine, zero if other programs need the cores. With more threads
    /// than the machine has cores, the time is always zero.
    ///
    /// # Errors
    /// As [`Pool::new`].
    pub fn with_idle_spin(threads: usize, idle_spin: Duration) -> Result<Pool, PoolError> {
        Pool::build(threads, idle_spin, |builder, work| builder.spawn(work))
    }

    fn build(
        threads: usize,
        idle_spin: Duration,
        mut spawn: impl FnMut(thread::Builder, Box<dyn FnOnce() + Send>) -> io::Result<JoinHandle<()>>,
    ) -> Result<Pool, PoolError> {
        if threads == 0 {
            return Err(PoolError::NoThreads);
        }
        if threads > MAX_THREADS {
            return Err(PoolError::TooManyThreads { got: threads, max: MAX_THREADS });
        }
        let spins = barrier_spins(threads);
        let idle_spin = if spins == BARRIER_SPINS { idle_spin } else { Duration::ZERO };
        let shared = Arc::new(Shared {
            size: threads,
            gate: Gate::new((threads - 1) as u32, spins),
            run: RunState::new(threads as u32, spins),
            idle_spin,
        });
        let mut pool = Pool { shared, workers: Vec::with_capacity(threads - 1) };
        for rank in 1..threads {
            let shared = Arc::clone(&pool.shared);
            let builder = thread::Builder::new().name(format!("teff-{rank}"));
            match spawn(builder, Box::new(move || shared.work(rank))) {
                Ok(worker) => pool.workers.push(worker),
                // Dropping the pool stops and joins the threads already started.
                Err(cause) => {
                    return Err(PoolError::Spawn { started: rank, wanted: threads, cause });
                }
            }
        }
        Ok(pool)
    }

    /// The number of threads that run a task, including the caller's.
    #[must_use]
    pub fn size(&self) -> usize {
        self.shared.size
    }

    /// Runs `task` on all threads at the same time, the caller's as rank 0, and returns when the
    /// last one has finished.
    ///
    /// All threads must reach the same barriers: one that returns while others wait for it breaks
    /// theirs.
    ///
    /// # Errors
    /// [`PoolError::Panicked`] if the task panicked on any thread, otherwise
    /// [`PoolError::Deserted`] if a barrier broke. The pool stays usable.
    pub fn run<F: Fn(&Worker<'_>) + Sync>(&mut self, task: F) -> Result<(), PoolError> {
        let shared = &*self.shared;
        // SAFETY: `&mut self` makes this thread the only owner, and `finish` below is called before
        // this function returns: nothing between the two unwinds (`run_share` catches panics, `unpark`
        // never panics), and no safe caller can leave in between.
        unsafe { shared.gate.start(Job::new(&task), |worker| self.unpark(worker)) };
        shared.run.run_share(0, shared.size, &task);
        shared.gate.finish();
        shared.run.finish()
    }

    fn unpark(&self, worker: usize) {
        // A pool whose construction failed has fewer workers than slots.
        if let Some(worker) = self.workers.get(worker) {
            worker.thread().unpark();
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.gate.stop(|worker| self.unpark(worker));
        for worker in self.workers.drain(..) {
            // A worker catches the panics of its tasks; a panic of its own can't be reported to
            // anyone.
            drop(worker.join());
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
