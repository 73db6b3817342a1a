//! The threads that run a step together.
//!
//! A step is a sequence of phases. The operations of a phase have *items* of work that can be done
//! in any order by any thread, and a phase is complete when all its items are done. Threads *claim*
//! items, so that one which the system has put aside is not waited for unless it has claimed some;
//! it may miss whole phases, and goes on with the one that the others are in when it comes back.

use core::fmt;
use core::num::NonZeroUsize;
use core::ops::Range;

/// Work of one operation, in items that any thread may do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Work {
    /// Number of items.
    pub items: usize,
    /// Number of items that are worth a claim: those of a few microseconds; at least 1.
    pub grain: usize,
    /// Number of items that one claim should not exceed: those of about a quarter of a millisecond;
    /// at least 1.
    pub most: usize,
}

impl Work {
    /// Work of `items` items, each of which is worth a claim.
    #[must_use]
    pub const fn new(items: usize) -> Work {
        Work { items, grain: 1, most: usize::MAX }
    }
}

/// The threads that run one step together, as seen by one of them.
///
/// Every thread walks the operations from the phase on in which the team is ([`Team::phase`]),
/// claims items of each operation until none are left, and reports at the end of a phase how many
/// it has done ([`Team::finish`]).
///
/// An implementation may as well give every thread a fixed share as its only claim, and let all of
/// them meet at the end of each phase: then each thread must walk the step exactly once.
///
/// ```
/// use teff_graph::{Solo, Team, Work};
///
/// // The team of one thread claims all items of an operation at once.
/// // SAFETY: the only thread, with one operation in one phase, whose items it reports once.
/// let (claimed, next) = unsafe { (Solo.claim(0, &Work::new(10)), Solo.finish(0, 10, 10)) };
/// assert_eq!((claimed, next), (0..10, Ok(Some(1))));
/// ```
///
/// # Safety
/// Threads rely on these rules when they write to shared memory:
///
/// - Threads that run at the same time have the same [`Team::id`], [`Team::size`] and distinct
///   ranks below it, none of which ever change. Teams with the same id don't run at the same time,
///   except those of one thread.
/// - In a run, each item is claimed once. A phase is over when as many items as it has in all were
///   reported for it, and not before; then [`Team::phase`] and [`Team::finish`] give a later phase,
///   and what threads wrote before they reported their items is visible to those that got a later
///   phase's number from either. Items of an operation of a phase that is over can't be claimed.
pub unsafe trait Team {
    /// Number that tells teams apart, such as the address of what its threads share.
    fn id(&self) -> NonZeroUsize;
    /// This thread's index, in `0..size()`.
    fn rank(&self) -> usize;
    /// The number of threads, the same for all of them; at least 1.
    fn size(&self) -> usize;
    /// The phase in which the team is: 0, until it is over.
    fn phase(&self) -> u32;
    /// Claims some of the items of operation `op` for this thread; empty if there are none left.
    /// Not called again for an operation of which this thread has claimed all items.
    ///
    /// # Safety
    /// All threads call this and [`Team::finish`] for the same phases, beginning with the one in
    /// which the team is, and the same operations in them, in ascending order over the whole run
    /// and with the same [`Work`].
    unsafe fn claim(&self, op: u32, work: &Work) -> Range<usize>;
    /// Reports that this thread has done `done` items in `phase`, of `all` that its operations
    /// have, and waits until the phase is over. The result is the phase to go on with, or `None` if
    /// the thread should leave for now.
    ///
    /// # Errors
    /// [`Broken`] if a thread failed (panicked): its items will never be done.
    ///
    /// # Safety
    /// As for [`Team::claim`]; `done` items were claimed in this phase and are done, and `all` is
    /// the sum over its operations.
    unsafe fn finish(&self, phase: u32, done: usize, all: usize) -> Result<Option<u32>, Broken>;
}

/// Error of a phase that can't complete because a thread failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Broken;

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a thread of the team failed during the step")
    }
}

impl core::error::Error for Broken {}

/// A team of one: no other threads, and phases that cost nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Solo;

// SAFETY: a single thread, rank 0 of 1: it claims all items of an operation at once, and phases are
// over when it says so. Two that run at the same time are of one thread each.
unsafe impl Team for Solo {
    fn id(&self) -> NonZeroUsize {
        NonZeroUsize::MIN
    }
    fn rank(&self) -> usize {
        0
    }
    fn size(&self) -> usize {
        1
    }
    fn phase(&self) -> u32 {
        0
    }
    unsafe fn claim(&self, _op: u32, work: &Work) -> Range<usize> {
        0..work.items
    }
    unsafe fn finish(&self, phase: u32, _done: usize, _all: usize) -> Result<Option<u32>, Broken> {
        Ok(Some(phase + 1))
    }
}
