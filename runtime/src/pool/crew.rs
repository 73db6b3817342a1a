//! The threads that run steps: a pool, rayon's threads, or the caller alone.

use super::task::RunState;
use super::{Pool, PoolError};
use teff_graph::{Solo, Team};

/// A set of threads on which a session runs its steps.
pub trait Crew {
    /// The number of threads that run a task; at least 1.
    fn size(&self) -> usize;

    /// Runs `task` once on every thread at the same time, and returns when all have finished.
    ///
    /// # Errors
    /// [`PoolError::Panicked`] if the task panicked on any thread, [`PoolError::Deserted`] if
    /// threads disagreed on the barriers; the crew stays usable. Implementations document further
    /// errors.
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
        let run = RunState::new(1, 0);
        run.run_share(0, 1, |_| task(&Solo));
        run.finish()
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
