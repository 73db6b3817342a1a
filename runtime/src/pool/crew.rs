//! The threads that run steps: a pool, rayon's threads, or the caller alone.

use super::{Pool, PoolError};
use teff_graph::{Solo, Team};

/// A set of threads on which a session runs its steps.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use teff_graph::LogitsFor;
/// use teff_runtime::pool::Pool;
/// use teff_runtime::{Model, SessionOptions};
///
/// # let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/gpt2/model.gguf");
/// let model = Model::open(path)?;
/// let mut pool = Pool::new(2)?; // outlives the sessions that borrow it
/// let options = SessionOptions::default().with_context(16).with_threads(1);
/// let mut session = model.session_builder(&options).crew(&mut pool).build()?;
/// let mut alone = model.session(&options)?; // on the caller's thread
/// let logits = session.eval(&[1, 2, 3], LogitsFor::Last)?;
/// assert_eq!(logits, alone.eval(&[1, 2, 3], LogitsFor::Last)?);
/// # Ok(()) }
/// ```
pub trait Crew {
    /// The number of threads that run a task; at least 1.
    fn size(&self) -> usize;

    /// Runs `task` on the threads at the same time, at least once on one of them, and returns when
    /// all have left it. A thread may run it more than once, or not at all, if the rules of
    /// [`Team`] still hold: then everything that is to be claimed has been.
    ///
    /// # Errors
    /// [`PoolError::Panicked`] if the task panicked on any thread; the crew stays usable.
    /// Implementations document further errors.
    fn run(&mut self, task: &(dyn Fn(&dyn Team) + Sync)) -> Result<(), PoolError>;

    /// True if a run waits for a free thread of a rayon pool. Sessions that share such a crew and wait
    /// for their turn on threads of rayon do other work of their pool meanwhile, as rayon itself does:
    /// otherwise they could take all the threads that the session whose turn it is waits for. A crew
    /// that wraps another one passes this on.
    fn waits_for_rayon(&self) -> bool {
        false
    }
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
        super::state::caught(0, || task(&Solo))
    }
}

impl<C: Crew + ?Sized> Crew for &mut C {
    fn size(&self) -> usize {
        (**self).size()
    }

    fn run(&mut self, task: &(dyn Fn(&dyn Team) + Sync)) -> Result<(), PoolError> {
        (**self).run(task)
    }

    fn waits_for_rayon(&self) -> bool {
        (**self).waits_for_rayon()
    }
}

impl<C: Crew + ?Sized> Crew for Box<C> {
    fn size(&self) -> usize {
        (**self).size()
    }

    fn run(&mut self, task: &(dyn Fn(&dyn Team) + Sync)) -> Result<(), PoolError> {
        (**self).run(task)
    }

    fn waits_for_rayon(&self) -> bool {
        (**self).waits_for_rayon()
    }
}
