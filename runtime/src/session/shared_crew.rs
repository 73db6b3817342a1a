//! Threads of a session, which its forks share.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use teff_graph::{Cancel, Team};

use crate::pool::{Crew, PoolError};

type BoxedCrew<'m> = Box<dyn Crew + Send + 'm>;

/// Time after which a session that waits for its turn looks whether it was cancelled.
const LOOK: Duration = Duration::from_millis(2);

/// Threads of one session, or of a session and its forks, which take turns.
pub(crate) enum SessionCrew<'m> {
    Own(BoxedCrew<'m>),
    Shared(Shared<'m>),
    /// Placeholder while an owned crew becomes a shared one.
    Moved,
}

/// Share of one session in a crew.
pub(crate) struct Shared<'m> {
    turns: Arc<Turns<'m>>,
    size: usize,
    /// Number of the session among those that share the crew.
    id: u64,
}

/// Crew that sessions use in turns.
struct Turns<'m> {
    queue: Mutex<Queue<'m>>,
    /// Notified when the crew comes back, and when a session waits no longer.
    changed: Condvar,
    /// True if runs of the crew wait for threads of a rayon pool ([`Crew::waits_for_rayon`]).
    of_rayon: bool,
}

struct Queue<'m> {
    /// `None` while a session uses it.
    crew: Option<BoxedCrew<'m>>,
    /// Number of sessions that wait.
    waiting: usize,
    /// Session that used it last, which lets others go first.
    last: u64,
    /// Number of sessions so far.
    sessions: u64,
}

impl<'m> Turns<'m> {
    fn queue(&self) -> MutexGuard<'_, Queue<'m>> {
        // Nothing is called that could panic while the queue is locked.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the crew when it is this session's turn; `None` if it is cancelled first.
    fn take(&self, id: u64, cancel: &dyn Cancel) -> Option<Turn<'_, 'm>> {
        let mut queue = self.queue();
        queue.waiting += 1;
        let crew = loop {
            if cancel.cancelled() {
                break None;
            }
            if (queue.waiting == 1 || queue.last != id)
                && let Some(crew) = queue.crew.take()
            {
                queue.last = id;
                break Some(crew);
            }
            queue = self.wait(queue);
        };
        queue.waiting -= 1;
        drop(queue);
        if crew.is_none() {
            self.changed.notify_all();
        }
        Some(Turn { turns: self, crew: Some(crew?) })
    }

    /// Waits until something may have changed.
    fn wait<'q>(&'q self, mut queue: MutexGuard<'q, Queue<'m>>) -> MutexGuard<'q, Queue<'m>> {
        if self.of_rayon {
            // The session whose turn it is may wait for this very thread. What runs here meanwhile may
            // be steps of others, which this session holds up until they return: it doesn't count as
            // one that they should let go first.
            queue.waiting -= 1;
            drop(queue);
            let worked = work_of_rayon();
            queue = self.queue();
            queue.waiting += 1;
            if worked {
                return queue;
            }
        }
        let woken = self.changed.wait_timeout(queue, LOOK);
        woken.unwrap_or_else(PoisonError::into_inner).0
    }
}

/// Does a piece of work of the rayon pool that this thread belongs to; false if there is none.
#[cfg(feature = "rayon")]
fn work_of_rayon() -> bool {
    rayon::yield_now() == Some(rayon::Yield::Executed)
}

/// Does nothing: a crew that waits for rayon is somebody else's here.
#[cfg(not(feature = "rayon"))]
fn work_of_rayon() -> bool {
    false
}

/// A session's turn, at the end of which the crew goes back, also after a panic.
struct Turn<'t, 'm> {
    turns: &'t Turns<'m>,
    crew: Option<BoxedCrew<'m>>,
}

impl Drop for Turn<'_, '_> {
    fn drop(&mut self) {
        self.turns.queue().crew = self.crew.take();
        self.turns.changed.notify_all();
    }
}

impl<'m> SessionCrew<'m> {
    pub(super) fn size(&self) -> usize {
        match self {
            SessionCrew::Own(crew) => crew.size(),
            SessionCrew::Shared(shared) => shared.size,
            SessionCrew::Moved => 0,
        }
    }

    /// Shares the threads with another session, without waiting for one that uses them.
    pub(super) fn share(&mut self) -> SessionCrew<'m> {
        if let SessionCrew::Own(_) = self {
            let size = self.size();
            if let SessionCrew::Own(crew) = core::mem::replace(self, SessionCrew::Moved) {
                let of_rayon = crew.waits_for_rayon();
                let queue = Queue { crew: Some(crew), waiting: 0, last: u64::MAX, sessions: 1 };
                let (queue, changed) = (Mutex::new(queue), Condvar::new());
                let turns = Turns { queue, changed, of_rayon };
                *self = SessionCrew::Shared(Shared { turns: Arc::new(turns), size, id: 0 });
            }
        }
        match self {
            SessionCrew::Shared(Shared { turns, size, .. }) => {
                let mut queue = turns.queue();
                let id = queue.sessions;
                queue.sessions += 1;
                drop(queue);
                SessionCrew::Shared(Shared { turns: Arc::clone(turns), size: *size, id })
            }
            _ => SessionCrew::Moved,
        }
    }

    /// Runs a task on all threads, after waiting for another session that uses them. Returns false,
    /// without having run it, if the session was cancelled before its turn came.
    pub(crate) fn run(
        &mut self,
        cancel: &dyn Cancel,
        task: &(dyn Fn(&dyn Team) + Sync),
    ) -> Result<bool, PoolError> {
        match self {
            SessionCrew::Own(crew) => crew.run(task)?,
            SessionCrew::Shared(shared) => match shared.turns.take(shared.id, cancel) {
                Some(mut turn) => turn.crew.as_mut().map_or(Ok(()), |crew| crew.run(task))?,
                None => return Ok(false),
            },
            SessionCrew::Moved => unreachable!("a session keeps its threads"),
        }
        Ok(true)
    }
}
