//! Whoever runs steps: a pool, rayon's threads, or the caller alone.

use super::task::Meeting;
use super::{Pool, PoolError};
use teff_graph::{Solo, Team};

/// Threads on which a session runs its steps, whoever they belong to.
pub trait Crew {
    /// How many members run a task; at least 1.
    fn size(&self) -> usize;

    /// Runs `task` once on every member at the same time, and returns when all have finished.
    ///
    /// # Errors
    /// [`PoolError::Panicked`] where the task panicked on some member, [`PoolError::Deserted`]
    /// where members disagreed on the barriers; the crew stays usable. Other kinds of crew have
    /// more reasons; they say which.
    fn run(&mut self, task: &(dyn Fn(&dyn Team) + Sync)) -> Result<(), PoolError>;
}

impl Crew for Pool {
    fn size(&self) -> usize {
        Pool::size(self)
    }

    fn run(&mut self, task: &(dyn Fn(&dyn Team) + Sync)) -> Result<(), PoolError> {
        Pool::run(self, |worker| task(worker))
    }
}

/// The caller's thread alone. A panic of the task becomes an error here too.
impl Crew for Solo {
    fn size(&self) -> usize {
        1
    }

    fn run(&mut self, task: &(dyn Fn(&dyn Team) + Sync)) -> Result<(), PoolError> {
        let meeting = Meeting::new(1, 0);
        meeting.attend(0, 1, |_| task(&Solo));
        meeting.close()
    }
}

impl<C: Crew + ?Sized> Crew for &mut C {
    fn size(&self) -> usize {
        (**self).size()
    }

    fn run(&mut self, task: &(dyn Fn(&dyn Team) + Sync)) -> Result<(), PoolError> {
        (**self).run(task)
    }
}

impl<C: Crew + ?Sized> Crew for Box<C> {
    fn size(&self) -> usize {
        (**self).size()
    }

    fn run(&mut self, task: &(dyn Fn(&dyn Team) + Sync)) -> Result<(), PoolError> {
        (**self).run(task)
    }
}
