//! Who runs a step: one thread, or several that walk the same list of operations.

use core::fmt;

/// The threads that run one step together, seen from one of them.
///
/// Every member walks the same operations, does its share of each, and meets the others at
/// [`Team::barrier`].
///
/// # Safety
/// Members that run at the same time have the same [`Team::size`] and distinct ranks below it,
/// both of which never change; [`Team::barrier`] returns `Ok` only when every member has called
/// it as often, and what a member wrote before is visible to all members after it. Members write
/// to shared memory by these rules.
pub unsafe trait Team {
    /// This member's number, `0..size()`.
    fn rank(&self) -> usize;
    /// How many members there are; the same for all of them, at least 1.
    fn size(&self) -> usize;
    /// Waits until every member has arrived.
    ///
    /// # Errors
    /// [`Broken`] where a member failed (panicked) and will never arrive; every member gets it,
    /// then or at its next barrier.
    fn barrier(&self) -> Result<(), Broken>;
}

/// A member of the team failed, so that the others can't go on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Broken;

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a thread of the team failed during the step")
    }
}

impl core::error::Error for Broken {}

/// The team of one: no other threads, barriers that cost nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Solo;

// SAFETY: one member: rank 0 of 1, which never waits.
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
