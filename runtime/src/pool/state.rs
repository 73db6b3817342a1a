//! State shared by the threads of a crew, and the part of each in a run: it comes, computes, waits,
//! leaves and comes back.

use super::PoolError;
use super::protocol::{Bells, Board, Call, Door, Progress};
use super::wait::Patience;
use core::any::Any;
use core::cell::{Cell, UnsafeCell};
use core::marker::PhantomData;
use core::num::NonZeroUsize;
use core::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use teff_graph::{Broken, Team, Work};

/// Maximum length of a recorded panic message, in bytes.
const MESSAGE_BYTES: usize = 4096;

/// Number of spins between reads of the clock, which take as long as a pause or two.
const SPINS_PER_CLOCK_READ: u32 = 16;

/// One thread of a run, as seen by the task.
pub struct Worker<'r> {
    rank: usize,
    state: &'r CrewState,
    role: Role,
    /// When a helper that gave up began to wait.
    gave_up: Cell<Option<Instant>>,
    /// Tied to its thread.
    not_sync: PhantomData<*const ()>,
}

/// How a thread takes part in a run.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    /// It started the run and stays to its end.
    Owner,
    /// It leaves when there is nothing to do for a while, and is called when there is.
    Helper,
    /// It leaves when there is nothing to do for a while, for good.
    #[cfg(feature = "rayon")]
    Guest,
}

// SAFETY: a worker is made only by `CrewState::share`, for the owner of a run or for a thread that
// the door let in; it can neither be sent to nor shared with another thread, nor outlive its task.
// Ranks are those of the crew's threads (of rayon's, guarded by a flag for each). The id is the
// address of the state, which has one run at a time. For the rest, see `Board`.
unsafe impl Team for Worker<'_> {
    fn id(&self) -> NonZeroUsize {
        core::ptr::NonNull::from(self.state).addr()
    }

    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.state.size()
    }

    fn phase(&self) -> u32 {
        self.state.board.phase()
    }

    unsafe fn claim(&self, op: u32, work: &Work) -> Range<usize> {
        self.state.board.claim(self.rank, op, work)
    }

    unsafe fn finish(&self, phase: u32, done: usize, all: usize) -> Result<Option<u32>, Broken> {
        let (state, board) = (self.state, &self.state.board);
        if board.report(phase, done, all, || state.call_others(self.rank)) {
            return Ok(Some(phase + 1));
        }
        let over = || match board.progress(phase) {
            Progress::Pending => None,
            Progress::Now(phase) => Some(Ok(Some(phase))),
            Progress::Broken => Some(Err(Broken)),
        };
        let patience = &state.patience[self.rank];
        loop {
            let since = match patience.wait(over) {
                Ok(result) => return result,
                Err(since) => since,
            };
            // Calls from before, which would end the sleep at once.
            state.bells.called(self.rank);
            match self.role {
                #[cfg(feature = "rayon")]
                Role::Guest => return Ok(None),
                _ if !board.announce_sleep(phase) => {}
                Role::Helper => {
                    self.gave_up.set(Some(since));
                    return Ok(None);
                }
                Role::Owner => {
                    state.bells.sleep(self.rank);
                    patience.slept(since);
                }
            }
        }
    }
}

/// A borrowed task with its type and lifetime erased, and the rank of the thread that waits for it.
#[derive(Clone, Copy)]
struct Job {
    task: *const (),
    call: unsafe fn(*const (), &Worker<'_>),
    owner: usize,
}

impl Job {
    fn new<F: Fn(&Worker<'_>) + Sync>(task: &F, owner: usize) -> Self {
        /// # Safety
        /// `task` points to a live `F`.
        unsafe fn call<F: Fn(&Worker<'_>)>(task: *const (), worker: &Worker<'_>) {
            // SAFETY: guaranteed by the caller.
            let task = unsafe { &*task.cast::<F>() };
            task(worker);
        }
        Job { task: core::ptr::from_ref(task).cast(), call: call::<F>, owner }
    }
}

/// State shared by the threads of a crew.
pub(crate) struct CrewState {
    board: Board,
    door: Door,
    bells: Bells,
    job: UnsafeCell<Option<Job>>,
    patience: Box<[Patience]>,
    /// The first panic of the run. Locked by threads that panic, and by the owner if `panicked` is
    /// set: never during a successful run.
    panic: Mutex<Option<(usize, String)>>,
    panicked: AtomicBool,
}

// SAFETY: `job` is the only field that isn't Sync by itself. It is written by the owner of a run
// while the door is closed and no one is inside, and read only by those that the door let in
// (`Door::enter` acquires what `Door::open` released; `Door::close` and `is_empty` acquire what
// `leave` released). The pointer in it is to a closure that is Sync, used through `&` only.
unsafe impl Sync for CrewState {}
// SAFETY: as above.
unsafe impl Send for CrewState {}

/// Closes the door and waits until all have left, however a run ends.
struct Open<'s> {
    state: &'s CrewState,
    owner: usize,
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        let door = &self.state.door;
        let mut empty = door.close();
        let patience = &self.state.patience[self.owner];
        while !empty {
            empty = match patience.wait(|| door.is_empty().then_some(())) {
                Ok(()) => true,
                Err(since) => {
                    self.state.bells.called(self.owner);
                    let inside = door.announce_sleep();
                    if inside {
                        self.state.bells.sleep(self.owner);
                        patience.slept(since);
                    }
                    !inside
                }
            };
        }
    }
}

impl CrewState {
    /// State of `size` threads; `crowded` if there are fewer CPUs for them.
    pub(crate) fn new(size: usize, crowded: bool) -> Self {
        CrewState {
            board: Board::new(size as u32),
            door: Door::new(),
            bells: Bells::new(size as u32),
            job: UnsafeCell::new(None),
            patience: (0..size).map(|_| Patience::new(crowded)).collect(),
            panic: Mutex::new(None),
            panicked: AtomicBool::new(false),
        }
    }

    pub(crate) fn size(&self) -> usize {
        self.board.size()
    }

    /// Runs a task on the calling thread, which has rank `owner`, and on those that come while it
    /// runs; `call` calls them.
    ///
    /// # Safety
    /// No other run is in progress, and no other thread has the owner's rank.
    pub(crate) unsafe fn run<F: Fn(&Worker<'_>) + Sync>(
        &self,
        owner: usize,
        call: impl FnOnce(),
        task: &F,
    ) -> Result<(), PoolError> {
        self.board.reset();
        // SAFETY: the door is closed and no one is inside, since no run is in progress.
        unsafe { *self.job.get() = Some(Job::new(task, owner)) };
        let open = Open { state: self, owner };
        self.door.open();
        call();
        self.share(owner, Role::Owner, task);
        drop(open);
        if !self.panicked.swap(false, Ordering::Relaxed) {
            return Ok(());
        }
        let (rank, message) = self.lock().take().unwrap_or_default();
        Err(PoolError::Panicked { rank, message })
    }

    /// Takes part in the run that is in progress, if there is one. The time at which the thread
    /// began to wait, if it is to sleep until it is called.
    ///
    /// # Safety
    /// No other thread has this rank.
    unsafe fn take_part(&self, rank: usize, role: Role) -> Option<Instant> {
        if !self.door.enter() {
            return None;
        }
        // SAFETY: the door let us in: the owner wrote it before, and writes it again only after we
        // have left.
        let job = unsafe { *self.job.get() }?;
        // SAFETY: the closure outlives this call, since its owner waits until we have left.
        let gave_up = self.share(rank, role, |worker| unsafe { (job.call)(job.task, worker) });
        // From here on, nothing that the job refers to is touched.
        self.door.leave(|| self.bells.call(job.owner));
        gave_up
    }

    /// Takes part in the run that is in progress, if there is one, until there is nothing to do for
    /// a while.
    ///
    /// # Safety
    /// No other thread has this rank.
    #[cfg(feature = "rayon")]
    pub(crate) unsafe fn visit(&self, rank: usize) {
        // SAFETY: by the caller's promise.
        unsafe { self.take_part(rank, Role::Guest) };
    }

    /// Takes part in one run after another, until told to stop. Between runs, it looks for the next
    /// one for `idle_spin` before it sleeps.
    ///
    /// # Safety
    /// No other thread has this rank.
    pub(crate) unsafe fn serve(&self, rank: usize, idle_spin: Duration) {
        loop {
            match self.called_within(rank, idle_spin).unwrap_or_else(|| self.bells.sleep(rank)) {
                Call::Stop => return,
                Call::Come => {}
            }
            // SAFETY: by the caller's promise.
            while let Some(since) = unsafe { self.take_part(rank, Role::Helper) } {
                if self.bells.sleep(rank) == Call::Stop {
                    return;
                }
                self.patience[rank].slept(since);
            }
        }
    }

    /// A call within this time.
    fn called_within(&self, rank: usize, time: Duration) -> Option<Call> {
        let (mut since, mut spins) = (None, 0u32);
        loop {
            if let Some(call) = self.bells.called(rank) {
                return Some(call);
            }
            core::hint::spin_loop();
            spins += 1;
            if spins.is_multiple_of(SPINS_PER_CLOCK_READ)
                && since.get_or_insert_with(Instant::now).elapsed() >= time
            {
                return None;
            }
        }
    }

    /// Calls all threads but `rank`.
    pub(crate) fn call_others(&self, rank: usize) {
        (0..self.size()).filter(|&other| other != rank).for_each(|other| self.bells.call(other));
    }

    /// Tells the thread with this rank to return from `serve`. No run is in progress, and none
    /// follows.
    pub(crate) fn stop(&self, rank: usize) {
        self.bells.stop(rank);
    }

    /// Runs one thread's part of a task. Never unwinds. The time at which it began to wait, if it
    /// is to sleep.
    fn share(&self, rank: usize, role: Role, task: impl FnOnce(&Worker<'_>)) -> Option<Instant> {
        let gave_up = Cell::new(None);
        let worker = Worker { rank, state: self, role, gave_up, not_sync: PhantomData };
        // Unwind safety: the task's shared state is behind `&`, and the run reports the panic.
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| task(&worker))) {
            self.record(rank, payload);
            // After `record`, so that no panic about a broken phase precedes its cause.
            self.board.fail(|| self.call_others(rank));
        }
        worker.gave_up.get()
    }

    #[cold]
    fn record(&self, rank: usize, payload: Box<dyn Any + Send>) {
        let message = message(payload);
        self.lock().get_or_insert((rank, message));
        self.panicked.store(true, Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, Option<(usize, String)>> {
        // A panic while it was locked (out of memory) leaves the value intact.
        self.panic.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The message of a panic; empty if it has none.
fn message(payload: Box<dyn Any + Send>) -> String {
    let text = match (payload.downcast_ref::<&'static str>(), payload.downcast_ref::<String>()) {
        (Some(text), _) => text,
        (None, Some(text)) => text.as_str(),
        (None, None) => "",
    };
    let mut end = text.len().min(MESSAGE_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let message = text[..end].to_owned();
    // The payload's own destructor may panic again; the payload of that panic is leaked.
    if let Err(second) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        core::mem::forget(second);
    }
    message
}

/// Runs `task` as a crew of one thread does.
pub(super) fn caught(rank: usize, task: impl FnOnce()) -> Result<(), PoolError> {
    catch_unwind(AssertUnwindSafe(task))
        .map_err(|payload| PoolError::Panicked { rank, message: message(payload) })
}
