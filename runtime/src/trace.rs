//! Recording of a session's work: the operations that each thread computes, and how long they take.
//!
//! A [`Traced`] crew runs steps on another crew and writes to a [`Recorder`] what its threads claim.
//! Sessions without one do nothing for it: there is no switch that a step would have to look at.
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::sync::Arc;
//! use teff_graph::{LogitsFor, Solo};
//! use teff_runtime::trace::{Activity, Recorder, Traced};
//! use teff_runtime::{Model, SessionOptions};
//!
//! # let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/gpt2/model.gguf");
//! let model = Model::open(path)?;
//! let recorder = Arc::new(Recorder::new(1, 1000)?); // one thread, 1000 spans
//! let crew = Traced::new(Solo, Arc::clone(&recorder));
//! let options = SessionOptions::default().with_context(16);
//! let mut session = model.session_builder(&options).crew(crew).build()?;
//! session.eval(&[1, 2, 3], LogitsFor::Last)?;
//!
//! let mut attention = 0;
//! for span in recorder.take() {
//!     if let Activity::Operation(op) = span.activity
//!         && session.plan().ops[op as usize].name() == "Attend"
//!     {
//!         attention += span.end - span.begin;
//!     }
//! }
//! println!("attention took {attention} ns");
//! assert_eq!(recorder.lost(), 0);
//! # Ok(()) }
//! ```

use std::cell::Cell;
use std::collections::TryReserveError;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use teff_graph::{Broken, Team, Work};

use crate::pool::{Crew, PoolError};

/// Activity of a thread during a [`Span`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Activity {
    /// Items of the operation with this index in the plan's
    /// [`ops`](teff_graph::plan::Plan::ops).
    Operation(u32),
    /// Waiting for the others at the end of this phase.
    Waiting(u32),
}

/// Stretch of time in which a thread does one thing. Consecutive claims of one operation are one span.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Span {
    /// Activity of the thread.
    pub activity: Activity,
    /// Rank of the thread in its team.
    pub thread: usize,
    /// Begin, in nanoseconds since the recorder was made.
    pub begin: u64,
    /// End, in nanoseconds since the recorder was made.
    pub end: u64,
}

/// Spans of one thread, in cache lines of their own.
#[repr(align(128))]
struct Lane(Mutex<Vec<Span>>);

/// Memory of a fixed size for the spans of the threads of one crew. Spans that don't fit are counted.
pub struct Recorder {
    made: Instant,
    /// Spans for which each lane has room.
    room: usize,
    lanes: Box<[Lane]>,
    lost: AtomicU64,
}

impl core::fmt::Debug for Recorder {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Recorder")
            .field("threads", &self.lanes.len())
            .field("room", &self.room)
            .field("lost", &self.lost())
            .finish_non_exhaustive()
    }
}

impl Recorder {
    /// A recorder with room for `room` spans of each of `threads` threads. A step has at most one span
    /// for every entry of its plan's operations and one more, unless threads leave it early and come
    /// back.
    ///
    /// # Errors
    /// [`TryReserveError`] if there is not so much memory.
    pub fn new(threads: usize, room: usize) -> Result<Recorder, TryReserveError> {
        let mut lanes = Vec::new();
        lanes.try_reserve_exact(threads)?;
        for _ in 0..threads {
            let mut spans = Vec::new();
            spans.try_reserve_exact(room)?;
            lanes.push(Lane(Mutex::new(spans)));
        }
        let (lanes, lost) = (lanes.into_boxed_slice(), AtomicU64::new(0));
        Ok(Recorder { made: Instant::now(), room, lanes, lost })
    }

    /// Nanoseconds since the recorder was made.
    #[must_use]
    pub fn now(&self) -> u64 {
        u64::try_from(self.made.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Number of spans for which there was no room.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Takes all spans out, thread by thread and in each by time; the room for them is free again. Of a
    /// step that is running, those so far.
    #[must_use]
    pub fn take(&self) -> Vec<Span> {
        let mut all = Vec::new();
        for lane in &self.lanes {
            let mut spans = lane.spans();
            all.extend_from_slice(&spans);
            spans.clear();
        }
        all
    }

    fn push(&self, activity: Activity, thread: usize, begin: u64, end: u64) {
        if let Some(lane) = self.lanes.get(thread) {
            let mut spans = lane.spans();
            if spans.len() < self.room {
                return spans.push(Span { activity, thread, begin, end });
            }
        }
        self.lost.fetch_add(1, Ordering::Relaxed);
    }
}

impl Lane {
    fn spans(&self) -> MutexGuard<'_, Vec<Span>> {
        // Nothing is called that could panic while the lane is locked.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Crew whose threads' work is recorded. The bits of what it computes are those of the crew itself.
#[derive(Debug)]
pub struct Traced<C> {
    crew: C,
    recorder: Arc<Recorder>,
}

impl<C: Crew> Traced<C> {
    /// The crew `crew`, which writes to `recorder`. Another crew needs another recorder.
    #[must_use]
    pub fn new(crew: C, recorder: Arc<Recorder>) -> Self {
        Traced { crew, recorder }
    }
}

impl<C: Crew> Crew for Traced<C> {
    fn size(&self) -> usize {
        self.crew.size()
    }

    fn run(&mut self, task: &(dyn Fn(&dyn Team) + Sync)) -> Result<(), PoolError> {
        let recorder = &*self.recorder;
        self.crew.run(&|team| {
            let team = TracedTeam { team, recorder, open: Cell::new(None) };
            task(&team);
            team.close();
        })
    }

    fn waits_for_rayon(&self) -> bool {
        self.crew.waits_for_rayon()
    }
}

/// A thread's team, with the operation that it computes.
struct TracedTeam<'t> {
    team: &'t dyn Team,
    recorder: &'t Recorder,
    /// The operation whose items were claimed last, and since when.
    open: Cell<Option<(u32, u64)>>,
}

impl TracedTeam<'_> {
    /// Ends the span of the operation in progress.
    fn close(&self) {
        if let Some((op, begin)) = self.open.take() {
            let (activity, end) = (Activity::Operation(op), self.recorder.now());
            self.recorder.push(activity, self.team.rank(), begin, end);
        }
    }
}

// SAFETY: every call goes to the team itself, whose rules it keeps, with the same arguments and the same
// result.
unsafe impl Team for TracedTeam<'_> {
    fn id(&self) -> NonZeroUsize {
        self.team.id()
    }

    fn rank(&self) -> usize {
        self.team.rank()
    }

    fn size(&self) -> usize {
        self.team.size()
    }

    fn phase(&self) -> u32 {
        self.team.phase()
    }

    unsafe fn claim(&self, op: u32, work: &Work) -> Range<usize> {
        let same = self.open.get().is_some_and(|(open, _)| open == op);
        if !same {
            self.close();
        }
        // SAFETY: by the caller's promise.
        let items = unsafe { self.team.claim(op, work) };
        match items.is_empty() {
            true => self.close(),
            false if same => {}
            false => self.open.set(Some((op, self.recorder.now()))),
        }
        items
    }

    unsafe fn finish(&self, phase: u32, done: usize, all: usize) -> Result<Option<u32>, Broken> {
        self.close();
        let begin = self.recorder.now();
        // SAFETY: by the caller's promise.
        let next = unsafe { self.team.finish(phase, done, all) };
        let (activity, end) = (Activity::Waiting(phase), self.recorder.now());
        self.recorder.push(activity, self.team.rank(), begin, end);
        next
    }
}
