//! Threads of a session, which its forks share.

use std::sync::{Arc, Mutex, PoisonError};

use teff_graph::Team;

use crate::pool::{Crew, PoolError};

type BoxedCrew<'m> = Box<dyn Crew + Send + 'm>;

/// Threads of one session, or of a session and its forks, which take turns.
pub(super) enum SessionCrew<'m> {
    Own(BoxedCrew<'m>),
    Shared(Arc<Mutex<BoxedCrew<'m>>>, usize),
    /// Placeholder while an owned crew becomes a shared one.
    Moved,
}

impl<'m> SessionCrew<'m> {
    pub(super) fn size(&self) -> usize {
        match self {
            SessionCrew::Own(crew) => crew.size(),
            SessionCrew::Shared(_, size) => *size,
            SessionCrew::Moved => 0,
        }
    }

    /// Shares the threads with another session.
    pub(super) fn share(&mut self) -> SessionCrew<'m> {
        if let SessionCrew::Own(_) = self {
            let size = self.size();
            if let SessionCrew::Own(crew) = core::mem::replace(self, SessionCrew::Moved) {
                *self = SessionCrew::Shared(Arc::new(Mutex::new(crew)), size);
            }
        }
        match self {
            SessionCrew::Shared(crew, size) => SessionCrew::Shared(Arc::clone(crew), *size),
            _ => SessionCrew::Moved,
        }
    }

    /// Runs a task on all threads, after waiting for another session that uses them.
    pub(super) fn run(&mut self, task: &(dyn Fn(&dyn Team) + Sync)) -> Result<(), PoolError> {
        match self {
            SessionCrew::Own(crew) => crew.run(task),
            SessionCrew::Shared(crew, _) => {
                // A task that panicked has left the crew usable.
                crew.lock().unwrap_or_else(PoisonError::into_inner).run(task)
            }
            SessionCrew::Moved => unreachable!("a session keeps its threads"),
        }
    }
}
