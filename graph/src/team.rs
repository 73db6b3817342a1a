//! The threads that run a step together.

use core::fmt;

/// The threads that run one step together, as seen by one of them.
///
/// Every thread walks the same operations, does its share of each, and synchronises with the others
/// at [`Team::barrier`].
///
/// # Safety
/// Threads that run at the same time have the same [`Team::size`] and distinct ranks below it, both
/// of which never change; [`Team::barrier`] returns `Ok` only when every thread has called it the
/// same number of times, and everything a thread wrote before it is visible to all threads after
/// it. Threads rely on these rules when they write to shared memory.
pub unsafe trait Team {
    /// This thread's index, in `0..size()`.
    fn rank(&self) -> usize;
    /// The number of threads, the same for all of them; at least 1.
    fn size(&self) -> usize;
    /// Waits until every thread has arrived.
    ///
    /// # Errors
    /// [`Broken`] if a thread failed (panicked) and will never arrive; every thread gets it, then
    /// or at its next barrier.
    fn barrier(&self) -> Result<(), Broken>;
}

/// Error of a barrier that can't complete because a thread failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Broken;

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a thread of the team failed during the step")
    }
}

impl core::error::Error for Broken {}

/// A team of one: no other threads, and barriers that cost nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Solo;

// SAFETY: a single thread: rank 0 of 1, which never waits.
unsafe impl Team for Solo {
    fn rank(&self) -> usize {
        0
    }
    fn size(&self) -> usize {
        1
    }
    fn barrier(&self) -> Result<(), Broken> {
        Ok(())
    }
}
