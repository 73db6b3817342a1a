//! The synchronisation protocol of a pool: the barrier, and the hand-over of jobs to parked
//! workers.
//!
//! Nothing here depends on threads, panics or closures: the atomics come from `super::sync`, and
//! parking is a closure of the caller. `tests/pool_model.rs` compiles this very file over loom's
//! atomics and explores every interleaving.

use super::sync::{AtomicBool, AtomicU32, Cell, Ordering, spin_loop, yield_now};
use teff_graph::Broken;

/// Keeps data written by different threads on separate cache lines: 128 bytes are two x86 lines,
/// which the prefetcher fetches together, and one line of Apple's cores.
#[repr(align(128))]
struct Padded<T>(T);

/// Backs off: pauses at first, then yields the time slice, so that a machine with more threads than
/// cores runs the thread that is waited for.
fn relax(tries: &mut u32, spins: u32) {
    if *tries < spins {
        *tries += 1;
        spin_loop();
    } else {
        yield_now();
    }
}

/// Set in [`Barrier::phase`] once a thread has left the run: no barrier can complete any more.
const LEFT: u32 = 1;
/// Increment of one phase; the bit below is [`LEFT`].
const PHASE: u32 = 2;

/// A spinning barrier that counts phases.
///
/// Each thread increments `arrived`; the last one resets it and advances `phase`, on which the
/// others spin. The two are on separate cache lines, since waiting threads read one while arriving
/// threads write the other. One word holds both the phase and the flag that a thread has left, so a
/// waiting thread sees which of the two came first: a barrier that every thread has reached is
/// passed even if a thread leaves right after it.
pub(crate) struct Barrier {
    phase: Padded<AtomicU32>,
    arrived: Padded<AtomicU32>,
    /// A thread got [`Broken`].
    broken: AtomicBool,
    size: u32,
    spins: u32,
}

impl Barrier {
    /// A barrier of `size` threads that wait with `spins` pauses before they yield.
    pub(crate) fn new(size: u32, spins: u32) -> Self {
        Barrier {
            phase: Padded(AtomicU32::new(0)),
            arrived: Padded(AtomicU32::new(0)),
            broken: AtomicBool::new(false),
            size,
            spins,
        }
    }

    /// Waits until all threads have called it, or one has left.
    ///
    /// The arrivals are a chain of read-modify-writes with acquire and release, so the last thread
    /// sees what all others wrote before; it publishes that with the new phase.
    pub(crate) fn wait(&self) -> Result<(), Broken> {
        // Relaxed: no phase can complete without this thread, so it has seen the newest one.
        let seen = self.phase.0.load(Ordering::Relaxed);
        if seen & LEFT != 0 {
            return self.fail();
        }
        if self.arrived.0.fetch_add(1, Ordering::AcqRel) + 1 == self.size {
            // No thread arrives again before the phase is published.
            self.arrived.0.store(0, Ordering::Relaxed);
            // The addition wraps over the phases and never touches LEFT.
            self.phase.0.fetch_add(PHASE, Ordering::Release);
            return Ok(());
        }
        let mut tries = 0;
        loop {
            let now = self.phase.0.load(Ordering::Acquire);
            if (now ^ seen) & !LEFT != 0 {
                return Ok(());
            }
            if now & LEFT != 0 {
                return self.fail();
            }
            relax(&mut tries, self.spins);
        }
    }

    #[cold]
    fn fail(&self) -> Result<(), Broken> {
        self.broken.store(true, Ordering::Relaxed);
        Err(Broken)
    }

    /// Marks this thread as gone for the rest of the run: threads that wait for it get [`Broken`].
    pub(crate) fn leave(&self) {
        self.phase.0.fetch_or(LEFT, Ordering::Release);
    }

    /// True if a thread got [`Broken`] since the last `reset`. Called only between runs.
    pub(crate) fn broken(&self) -> bool {
        self.broken.load(Ordering::Relaxed)
    }

    /// Resets a broken barrier. Called only between runs: no thread may be inside `wait`, and the
    /// next run is announced to the threads after this call.
    pub(crate) fn reset(&self) {
        self.arrived.0.store(0, Ordering::Relaxed);
        self.broken.store(false, Ordering::Relaxed);
        self.phase.0.fetch_and(!LEFT, Ordering::Relaxed);
    }
}

/// An instruction to a worker.
pub(crate) enum Order<J> {
    /// Run the job, then call [`Gate::done`].
    Run(J),
    /// Exit.
    Stop,
}

/// Value of a slot: no order; the worker spins.
const IDLE: u32 = 0;
/// Value of a slot: the worker is parked, or about to park; it must be unparked after an order.
const ASLEEP: u32 = 1;
/// Value of a slot: order to run the job.
const RUN: u32 = 2;
/// Value of a slot: order to exit.
const STOP: u32 = 3;

/// Hands jobs, one at a time, to a fixed set of workers.
///
/// Each worker has a slot of its own. The owner swaps an order in and learns from the old value
/// whether the worker must be woken; the worker announces that it sleeps by compare-and-swap, which
/// fails if an order came first. Both sides use read-modify-writes of one word, so no wake-up is
/// lost and no fence between two words is needed.
pub(crate) struct Gate<J> {
    slots: Box<[Padded<AtomicU32>]>,
    /// Number of workers that have not finished the job.
    busy: Padded<AtomicU32>,
    job: Cell<Option<J>>,
    spins: u32,
}

// SAFETY: `job` is the only field that isn't Sync by itself. It is written only in `start`, whose
// contract is that no run is in progress: every worker's last read of it came before the `done`
// that `finish` waited for, and its next read comes after the order that `start` gives after the
// write. Copies of the job go to other threads, hence J: Send.
unsafe impl<J: Copy + Send> Sync for Gate<J> {}

impl<J: Copy + Send> Gate<J> {
    /// A gate of `workers` workers, whose owner waits with `spins` pauses before it yields.
    pub(crate) fn new(workers: u32, spins: u32) -> Self {
        Gate {
            slots: (0..workers).map(|_| Padded(AtomicU32::new(IDLE))).collect(),
            busy: Padded(AtomicU32::new(0)),
            job: Cell::new(None),
            spins,
        }
    }

    /// Hands the job to all workers, and calls `unpark` with the index of each one that sleeps.
    ///
    /// # Safety
    /// Only the owner calls it (one thread at a time), and after every `start` it calls `finish`
    /// before the next `start`.
    pub(crate) unsafe fn start(&self, job: J, unpark: impl Fn(usize)) {
        // SAFETY: no worker reads the cell: by the contract, all have called `done`.
        self.job.with_mut(|cell| unsafe { *cell = Some(job) });
        self.busy.0.store(self.slots.len() as u32, Ordering::Relaxed);
        self.order(RUN, unpark);
    }

    /// Tells all workers to exit. Must not be called during a run.
    pub(crate) fn stop(&self, unpark: impl Fn(usize)) {
        self.order(STOP, unpark);
    }

    fn order(&self, order: u32, unpark: impl Fn(usize)) {
        for (worker, slot) in self.slots.iter().enumerate() {
            // Release publishes the job and everything the owner wrote before it.
            if slot.0.swap(order, Ordering::AcqRel) == ASLEEP {
                unpark(worker);
            }
        }
    }

    /// Waits until all workers have finished the job given by `start`.
    pub(crate) fn finish(&self) {
        let mut tries = 0;
        while self.busy.0.load(Ordering::Acquire) != 0 {
            relax(&mut tries, self.spins);
        }
    }

    /// The next order for a worker: spins as long as `stay_awake` returns true (which does the
    /// pausing), then calls `park` until there is one. `park` may return spuriously.
    pub(crate) fn next(
        &self,
        worker: usize,
        mut stay_awake: impl FnMut() -> bool,
        park: impl Fn(),
    ) -> Order<J> {
        let slot = &self.slots[worker].0;
        while slot.load(Ordering::Acquire) == IDLE {
            if stay_awake() {
                continue;
            }
            let fell_asleep =
                slot.compare_exchange(IDLE, ASLEEP, Ordering::Relaxed, Ordering::Relaxed);
            if fell_asleep.is_ok() {
                while slot.load(Ordering::Acquire) == ASLEEP {
                    park();
                }
            }
        }
        // From here on only this worker writes the slot, until the owner has seen `done`.
        if slot.load(Ordering::Acquire) == STOP {
            return Order::Stop;
        }
        slot.store(IDLE, Ordering::Relaxed);
        // SAFETY: the owner wrote the cell before it gave this order, and writes it again only
        // after this worker's `done`; in between, all threads only read it.
        match self.job.with(|cell| unsafe { *cell }) {
            Some(job) => Order::Run(job),
            None => Order::Stop, // no order is given before the first job
        }
    }

    /// Reports that this worker has finished; from here on it doesn't touch what the job refers to.
    pub(crate) fn done(&self) {
        self.busy.0.fetch_sub(1, Ordering::Release);
    }
}
