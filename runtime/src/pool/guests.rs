//! A crew of somebody else's threads, which come if they are free.

use super::PoolError;
use super::state::{CrewState, Worker};
use std::sync::atomic::{AtomicBool, Ordering};

/// State of a crew of guests: threads that take part in a run if they come while it is in progress.
pub(crate) struct Guests {
    state: CrewState,
    /// Set during a run.
    running: AtomicBool,
    /// Set for each rank while its thread takes part.
    busy: Box<[AtomicBool]>,
}

/// A flag that is set as long as this exists.
struct Set<'s>(&'s AtomicBool);

impl<'s> Set<'s> {
    /// `None` if it is set already.
    fn new(flag: &'s AtomicBool) -> Option<Self> {
        (!flag.swap(true, Ordering::Acquire)).then_some(Set(flag))
    }
}

impl Drop for Set<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

impl Guests {
    /// State of `size` threads; `crowded` if there are fewer CPUs for them.
    pub(crate) fn new(size: usize, crowded: bool) -> Self {
        let busy = (0..size).map(|_| AtomicBool::new(false)).collect();
        Guests { state: CrewState::new(size, crowded), running: AtomicBool::new(false), busy }
    }

    pub(crate) fn size(&self) -> usize {
        self.busy.len()
    }

    /// Runs a task on the calling thread as `rank`, and on guests that come while it runs; `invite`
    /// asks them to. `None` if another run is in progress, or there is no such rank, or its thread
    /// takes part already.
    pub(crate) fn run<F: Fn(&Worker<'_>) + Sync>(
        &self,
        rank: usize,
        invite: impl FnOnce(),
        task: &F,
    ) -> Option<Result<(), PoolError>> {
        let _running = Set::new(&self.running)?;
        let _busy = Set::new(self.busy.get(rank)?)?;
        // SAFETY: as the flags say, there is no other run, and the rank is this thread's alone.
        Some(unsafe { self.state.run(rank, invite, task) })
    }

    /// Takes part as `rank` in the run that is in progress, if there is one, until there is nothing
    /// to do for a while.
    pub(crate) fn visit(&self, rank: usize) {
        if let Some(_busy) = self.busy.get(rank).and_then(Set::new) {
            // SAFETY: as the flag says, the rank is this thread's alone.
            unsafe { self.state.visit(rank) };
        }
    }
}
