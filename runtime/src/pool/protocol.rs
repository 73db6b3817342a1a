//! The synchronisation protocol of a pool: claims of items, phases, the door of a run, and sleep.
//!
//! Nothing here depends on closures and panics, and the atomics come from `super::sync`:
//! `tests/pool_model.rs` compiles this very file over loom's and explores every interleaving.
//!
//! # Claims and phases
//!
//! A [`Board`] belongs to one run. Every member has a *share* of each operation's chunks, and a word
//! that says which of them were claimed: the number of the operation in its upper half, the next
//! chunk in the lower one. A member claims from its own share first, half of what is left of it at
//! a time, and then from those of the others. A word of an earlier operation counts as untouched, so
//! words are never reset during a run; a word of a later operation means that nothing is left.
//!
//! **Late members.** A member goes on to the next operation when it has found every share of the
//! present one exhausted. Therefore, once a word has a later operation's number, all chunks of the
//! earlier ones were claimed, and once a phase is over, all words of its operations are exhausted
//! (or of later operations, or their shares are empty). A claim is a compare-and-swap, which sees
//! the newest value of its word: a member that comes late, however late, gets nothing, and a member
//! that got something knows that the phase is not over. Nothing of an earlier phase can be claimed
//! by mistake, and memory can't be reused while somebody computes in it.
//!
//! **The end of a phase** is when as many items were reported as its operations have, not when
//! all members have come: the member that reports the last ones advances the phase. The reports are a chain of
//! read-modify-writes with acquire and release, so the last one sees what all others wrote; it
//! publishes that with the new phase.
//!
//! # Sleep
//!
//! A member that waits long for the end of a phase sets a bit in the word of the phase before it
//! sleeps. The member that advances the phase sees that bit in the value that it replaces, and calls
//! all members ([`Bells`]). A member that is about to sleep changes its bell's word from awake to
//! asleep; a call swaps its own value in and learns from the old one whether that member must be woken. Both sides use
//! read-modify-writes of one word, so no wake-up is lost.
//!
//! # The door
//!
//! A run's task borrows from its owner's stack. Members come and go while the [`Door`] is open, and
//! the owner closes it at the end: then no one can enter, so the owner waits only for those that are
//! inside. A member that was called but hasn't come yet (the system gave it no core) finds the door
//! closed, and the owner doesn't wait for it.

use super::sync::{AtomicU32, AtomicU64, AtomicUsize, Condvar, Mutex, Ordering};
use core::ops::Range;
use teff_graph::Work;

/// Keeps data written by different threads on separate cache lines: 128 bytes are two x86 lines,
/// which the prefetcher fetches together, and one line of Apple's cores.
#[repr(align(128))]
struct Padded<T>(T);

/// Set in [`Board::phase`] once a member has failed: its items will never be done.
const BROKEN: u64 = 1;
/// Set in [`Board::phase`] if a member sleeps until the phase ends.
const SLEEPER: u64 = 2;
/// Increment of one phase.
const PHASE: u64 = 4;

/// Division of an operation's items into chunks and shares.
#[derive(Clone, Copy)]
struct Cut {
    items: usize,
    /// Items in a chunk; fewer in the last one.
    each: usize,
    chunks: u32,
    /// Most chunks in a claim.
    most: u32,
    size: u32,
}

impl Cut {
    /// Most chunks in a share.
    const MOST: usize = 1 << 20;

    fn new(work: &Work, size: u32) -> Cut {
        let (threads, grain) = (size as usize, work.grain.max(1));
        // As many chunks for each member as are worth a claim, but at least one.
        let share = (work.items / grain / threads).clamp(1, Cut::MOST);
        let each = work.items.div_ceil(share * threads).max(1);
        let chunks = work.items.div_ceil(each) as u32;
        let most = (work.most / each).clamp(1, Cut::MOST) as u32;
        Cut { items: work.items, each, chunks, most, size }
    }

    /// First and end of a member's chunks.
    fn share(&self, member: u32) -> (u32, u32) {
        // At most 2^28 chunks and 2^8 members.
        let to = |m: u32| (u64::from(self.chunks) * u64::from(m) / u64::from(self.size)) as u32;
        (to(member), to(member + 1))
    }

    fn items(&self, chunks: Range<u32>) -> Range<usize> {
        let at = |chunk: u32| self.items.min(chunk as usize * self.each);
        at(chunks.start)..at(chunks.end)
    }
}

/// State of a phase.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Progress {
    /// The phase isn't over.
    Pending,
    /// It is, and this one is in progress, or follows the last.
    Now(u32),
    /// It will never be over.
    Broken,
}

/// Claims and phases of a run.
pub(crate) struct Board {
    phase: Padded<AtomicU64>,
    /// Items reported in this phase.
    done: Padded<AtomicUsize>,
    shares: Box<[Padded<AtomicU64>]>,
}

impl Board {
    /// A board of `size` members.
    pub(crate) fn new(size: u32) -> Self {
        Board {
            phase: Padded(AtomicU64::new(0)),
            done: Padded(AtomicUsize::new(0)),
            shares: (0..size).map(|_| Padded(AtomicU64::new(0))).collect(),
        }
    }

    pub(crate) fn size(&self) -> usize {
        self.shares.len()
    }

    /// Prepares the next run. Called only between runs: no member is inside, and the next run is
    /// announced after this call.
    pub(crate) fn reset(&self) {
        self.phase.0.store(0, Ordering::Relaxed);
        self.done.0.store(0, Ordering::Relaxed);
        for share in &self.shares {
            share.0.store(0, Ordering::Relaxed);
        }
    }

    /// The phase in progress.
    pub(crate) fn phase(&self) -> u32 {
        (self.phase.0.load(Ordering::Acquire) / PHASE) as u32
    }

    /// Claims items of operation `op` for a member; empty if none are left. Relaxed: what earlier
    /// phases wrote is visible since the member learned of the present phase, and operations of one
    /// phase don't depend on each other.
    pub(crate) fn claim(&self, member: usize, op: u32, work: &Work) -> Range<usize> {
        let size = self.shares.len();
        let cut = Cut::new(work, size as u32);
        for i in member..member + size {
            let victim = if i < size { i } else { i - size };
            let chunks = self.take(victim, op, &cut);
            if !chunks.is_empty() {
                return cut.items(chunks);
            }
        }
        0..0
    }

    /// Claims chunks of a member's share.
    fn take(&self, victim: usize, op: u32, cut: &Cut) -> Range<u32> {
        let (start, end) = cut.share(victim as u32);
        let (word, tag) = (&self.shares[victim].0, u64::from(op) + 1);
        let mut seen = word.load(Ordering::Relaxed);
        loop {
            let next = match (seen >> 32).cmp(&tag) {
                core::cmp::Ordering::Less => start,
                core::cmp::Ordering::Equal => seen as u32,
                core::cmp::Ordering::Greater => end,
            };
            if next >= end {
                return 0..0;
            }
            let to = next + (end - next).div_ceil(2).min(cut.most);
            let new = tag << 32 | u64::from(to);
            let (relaxed, weak) = (Ordering::Relaxed, Ordering::Relaxed);
            match word.compare_exchange(seen, new, relaxed, weak) {
                Ok(_) => return next..to,
                Err(now) => seen = now,
            }
        }
    }

    /// Reports `done` of the `all` items of `phase`, which is the member's; calls `wake` if that
    /// ended the phase and somebody may sleep. True if the phase is over.
    pub(crate) fn report(&self, phase: u32, done: usize, all: usize, wake: impl FnOnce()) -> bool {
        let ends = match all {
            // Whoever comes first.
            0 => true,
            // Nothing to report: others have done it all, or will.
            _ if done == 0 => false,
            _ => self.done.0.fetch_add(done, Ordering::AcqRel) + done == all,
        };
        if !ends {
            return false;
        }
        if all > 0 {
            // No one reports items of the next phase before it is published.
            self.done.0.store(0, Ordering::Relaxed);
        }
        let mut seen = self.phase.0.load(Ordering::Relaxed);
        while (seen / PHASE) as u32 == phase {
            let next = (seen & !SLEEPER) + PHASE;
            let (order, failure) = (Ordering::AcqRel, Ordering::Acquire);
            match self.phase.0.compare_exchange(seen, next, order, failure) {
                Ok(_) if seen & SLEEPER != 0 => {
                    wake();
                    return true;
                }
                Ok(_) => return true,
                Err(now) => seen = now,
            }
        }
        // Another member ended a phase without items.
        true
    }

    /// State of `phase`.
    pub(crate) fn progress(&self, phase: u32) -> Progress {
        let seen = self.phase.0.load(Ordering::Acquire);
        if (seen / PHASE) as u32 != phase {
            Progress::Now((seen / PHASE) as u32)
        } else if seen & BROKEN != 0 {
            Progress::Broken
        } else {
            Progress::Pending
        }
    }

    /// Announces that a member will sleep until `phase` is over; false if that is no use.
    pub(crate) fn announce_sleep(&self, phase: u32) -> bool {
        let mut seen = self.phase.0.load(Ordering::Relaxed);
        loop {
            if (seen / PHASE) as u32 != phase || seen & BROKEN != 0 {
                return false;
            }
            let new = seen | SLEEPER;
            let (order, failure) = (Ordering::Relaxed, Ordering::Relaxed);
            match self.phase.0.compare_exchange(seen, new, order, failure) {
                Ok(_) => return true,
                Err(now) => seen = now,
            }
        }
    }

    /// Marks the run as failed; calls `wake` if somebody may sleep.
    pub(crate) fn fail(&self, wake: impl FnOnce()) {
        if self.phase.0.fetch_or(BROKEN, Ordering::AcqRel) & SLEEPER != 0 {
            wake();
        }
    }
}

/// Set in [`Door`] while no one may enter.
const CLOSED: u32 = 1;
/// Set in [`Door`] if the owner sleeps until everyone has left.
const OWNER_SLEEPS: u32 = 2;
/// Increment of one member inside.
const INSIDE: u32 = 4;

/// The entry to a run: counts the members inside.
pub(crate) struct Door(Padded<AtomicU32>);

impl Door {
    /// A closed door.
    pub(crate) fn new() -> Self {
        Door(Padded(AtomicU32::new(CLOSED)))
    }

    /// Opens it, which publishes what the owner wrote before. No one is inside.
    pub(crate) fn open(&self) {
        self.0.0.store(0, Ordering::Release);
    }

    /// Enters; false if it is closed.
    pub(crate) fn enter(&self) -> bool {
        let mut seen = self.0.0.load(Ordering::Relaxed);
        while seen & CLOSED == 0 {
            let (order, failure) = (Ordering::Acquire, Ordering::Relaxed);
            match self.0.0.compare_exchange(seen, seen + INSIDE, order, failure) {
                Ok(_) => return true,
                Err(now) => seen = now,
            }
        }
        false
    }

    /// Leaves, which publishes what the member wrote; calls `wake` if the owner sleeps and this
    /// was the last one inside.
    pub(crate) fn leave(&self, wake: impl FnOnce()) {
        let left = self.0.0.fetch_sub(INSIDE, Ordering::AcqRel) - INSIDE;
        if left == CLOSED | OWNER_SLEEPS {
            wake();
        }
    }

    /// Closes it; true if no one is inside any more.
    pub(crate) fn close(&self) -> bool {
        self.0.0.fetch_or(CLOSED, Ordering::Acquire) < INSIDE
    }

    /// True if no one is inside of the closed door any more.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.0.load(Ordering::Acquire) < INSIDE
    }

    /// Announces that the owner will sleep until everyone has left the closed door; false if they
    /// have.
    pub(crate) fn announce_sleep(&self) -> bool {
        self.0.0.fetch_or(OWNER_SLEEPS, Ordering::Acquire) >= INSIDE
    }
}

/// Value of a bell: nobody called.
const AWAKE: u32 = 0;
/// Value of a bell: the member sleeps, or is about to; a call must wake it.
const ASLEEP: u32 = 1;
/// Value of a bell: the member was called.
const CALLED: u32 = 2;
/// Value of a bell: the member is to exit.
const STOP: u32 = 3;

/// Reason for which a member was called.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Call {
    /// To look what there is to do.
    Come,
    /// To exit.
    Stop,
}

/// One bell for each member, by which others call it.
pub(crate) struct Bells(Box<[Padded<Bell>]>);

struct Bell {
    word: AtomicU32,
    lock: Mutex<()>,
    rings: Condvar,
}

impl Bells {
    pub(crate) fn new(size: u32) -> Self {
        let bell = |_| {
            let (word, lock, rings) = (AtomicU32::new(AWAKE), Mutex::new(()), Condvar::new());
            Padded(Bell { word, lock, rings })
        };
        Bells((0..size).map(bell).collect())
    }

    /// Calls a member.
    pub(crate) fn call(&self, member: usize) {
        self.ring(member, CALLED);
    }

    /// Tells a member to exit. No one may call it at the same time or later.
    pub(crate) fn stop(&self, member: usize) {
        self.ring(member, STOP);
    }

    fn ring(&self, member: usize, value: u32) {
        let bell = &self.0[member].0;
        if bell.word.swap(value, Ordering::AcqRel) == ASLEEP {
            // The sleeper holds the lock from its last look at the word until it waits.
            drop(super::sync::lock(&bell.lock));
            bell.rings.notify_one();
        }
    }

    /// A call that this member got, if it did; takes note of it.
    pub(crate) fn called(&self, member: usize) -> Option<Call> {
        let word = &self.0[member].0.word;
        match word.load(Ordering::Relaxed) {
            AWAKE => None,
            STOP => Some(Call::Stop),
            // Whatever it is now: a call, or the order to exit.
            _ => match word.compare_exchange(CALLED, AWAKE, Ordering::Acquire, Ordering::Acquire) {
                Ok(_) => Some(Call::Come),
                Err(_) => Some(Call::Stop),
            },
        }
    }

    /// Sleeps until this member is called, unless it already was.
    pub(crate) fn sleep(&self, member: usize) -> Call {
        let bell = &self.0[member].0;
        let (order, failure) = (Ordering::AcqRel, Ordering::Relaxed);
        if bell.word.compare_exchange(AWAKE, ASLEEP, order, failure).is_ok() {
            let mut guard = super::sync::lock(&bell.lock);
            while bell.word.load(Ordering::Acquire) == ASLEEP {
                guard = super::sync::wait(&bell.rings, guard);
            }
        }
        self.called(member).unwrap_or(Call::Come)
    }
}
