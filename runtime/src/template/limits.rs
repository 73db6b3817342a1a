//! Limits of parsing and rendering, and what counts against them.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use teff_graph::Cancel;

use super::error::{LimitKind, Res, TemplateErrorKind};

/// Limits of parsing and rendering a template.
///
/// Templates come with model files, which nobody has read. Whatever a template does ends within
/// these limits, with an error.
///
/// ```
/// use std::time::Duration;
/// use teff_runtime::template::TemplateLimits;
///
/// let limits = TemplateLimits::default().with_memory(16 << 20).with_time(Duration::from_secs(1));
/// assert!(limits.steps > 1_000_000);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct TemplateLimits {
    /// Bytes of a template's source. Default: 1 MiB.
    pub source: usize,
    /// Levels of nesting: of statements and expressions in the source, and of values in each other.
    /// Default: 100.
    pub depth: usize,
    /// Calls of macros, callers and recursive loops within each other. Default: 200.
    pub calls: usize,
    /// Steps: an instruction is one, and long texts and lists count some more. Default: 50 million.
    pub steps: u64,
    /// Bytes of all values at the same time. Default: 128 MiB.
    pub memory: usize,
    /// Bytes of the text. Default: 64 MiB.
    pub output: usize,
    /// Time, of parsing and of rendering each; `None` for no limit. Default: 10 s.
    pub time: Option<Duration>,
}

impl Default for TemplateLimits {
    fn default() -> Self {
        TemplateLimits {
            source: 1 << 20,
            depth: 100,
            calls: 200,
            steps: 50_000_000,
            memory: 128 << 20,
            output: 64 << 20,
            time: Some(Duration::from_secs(10)),
        }
    }
}

/// Largest value of [`TemplateLimits::depth`] that takes effect: parsing and printing recurse.
pub(super) const MAX_DEPTH: usize = 150;

impl TemplateLimits {
    /// Sets [`source`](Self::source), in bytes.
    #[must_use]
    pub const fn with_source(self, source: usize) -> Self {
        TemplateLimits { source, ..self }
    }

    /// Sets [`depth`](Self::depth), in levels; more than 150 is 150.
    #[must_use]
    pub const fn with_depth(self, depth: usize) -> Self {
        TemplateLimits { depth, ..self }
    }

    /// Sets [`calls`](Self::calls).
    #[must_use]
    pub const fn with_calls(self, calls: usize) -> Self {
        TemplateLimits { calls, ..self }
    }

    /// Sets [`steps`](Self::steps).
    #[must_use]
    pub const fn with_steps(self, steps: u64) -> Self {
        TemplateLimits { steps, ..self }
    }

    /// Sets [`memory`](Self::memory), in bytes.
    #[must_use]
    pub const fn with_memory(self, memory: usize) -> Self {
        TemplateLimits { memory, ..self }
    }

    /// Sets [`output`](Self::output), in bytes.
    #[must_use]
    pub const fn with_output(self, output: usize) -> Self {
        TemplateLimits { output, ..self }
    }

    /// Sets [`time`](Self::time).
    #[must_use]
    pub const fn with_time(self, time: Duration) -> Self {
        TemplateLimits { time: Some(time), ..self }
    }
}

/// Steps between two looks at the clock and at the caller's wish to cancel.
const CHECK_EVERY: u32 = 8192;

/// Bytes of live values.
#[derive(Debug)]
pub(super) struct Memory {
    live: Cell<usize>,
    most: usize,
}

impl Memory {
    pub(super) fn take(&self, bytes: usize) -> Res<()> {
        match self.live.get().checked_add(bytes).filter(|&live| live <= self.most) {
            Some(live) => {
                self.live.set(live);
                Ok(())
            }
            None => Err(LimitKind::Memory(self.most).into()),
        }
    }

    pub(super) fn give_back(&self, bytes: usize) {
        self.live.set(self.live.get().saturating_sub(bytes));
    }
}

/// Bytes that a value takes, until it is dropped.
#[derive(Debug)]
pub(super) struct Charge {
    memory: Rc<Memory>,
    bytes: usize,
}

impl Charge {
    /// Takes more bytes.
    pub(super) fn grow(&mut self, bytes: usize) -> Res<()> {
        self.memory.take(bytes)?;
        self.bytes = self.bytes.saturating_add(bytes);
        Ok(())
    }

    pub(super) fn shrink_to(&mut self, bytes: usize) {
        if let Some(less) = self.bytes.checked_sub(bytes) {
            self.memory.give_back(less);
            self.bytes = bytes;
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.memory.give_back(self.bytes);
    }
}

/// Counters of a run, and its end.
pub(super) struct Meter<'r> {
    pub(super) limits: TemplateLimits,
    steps: Cell<u64>,
    countdown: Cell<u32>,
    start: Instant,
    cancel: Option<&'r dyn Cancel>,
    memory: Rc<Memory>,
}

impl<'r> Meter<'r> {
    pub(super) fn new(limits: TemplateLimits, cancel: Option<&'r dyn Cancel>) -> Meter<'r> {
        let limits = TemplateLimits { depth: limits.depth.min(MAX_DEPTH), ..limits };
        let memory = Rc::new(Memory { live: Cell::new(0), most: limits.memory });
        let (steps, countdown) = (Cell::new(0), Cell::new(1));
        Meter { limits, steps, countdown, start: Instant::now(), cancel, memory }
    }

    /// Counts steps.
    #[inline]
    pub(super) fn tick(&self, n: usize) -> Res<()> {
        let n = n as u64;
        let steps = self.steps.get().saturating_add(n);
        self.steps.set(steps);
        if steps > self.limits.steps {
            return Err(LimitKind::Steps(self.limits.steps).into());
        }
        match u64::from(self.countdown.get()).checked_sub(n) {
            Some(left) if left > 0 => {
                self.countdown.set(left as u32);
                Ok(())
            }
            _ => self.look(),
        }
    }

    /// Counts the steps of working through this many bytes.
    #[inline]
    pub(super) fn tick_bytes(&self, bytes: usize) -> Res<()> {
        self.tick(bytes / 16)
    }

    /// Looks at the clock and at the caller's wish to cancel.
    #[cold]
    pub(super) fn look(&self) -> Res<()> {
        self.countdown.set(CHECK_EVERY);
        if self.cancel.is_some_and(Cancel::cancelled) {
            return Err(TemplateErrorKind::Cancelled.into());
        }
        match self.limits.time {
            Some(most) if self.start.elapsed() > most => Err(LimitKind::Time(most).into()),
            _ => Ok(()),
        }
    }

    /// Takes memory for a value.
    pub(super) fn charge(&self, bytes: usize) -> Res<Charge> {
        self.memory.take(bytes)?;
        Ok(Charge { memory: self.memory.clone(), bytes })
    }

    /// Fails if there is no memory for this many bytes.
    pub(super) fn room(&self, bytes: usize) -> Res<()> {
        self.memory.take(bytes)?;
        self.memory.give_back(bytes);
        Ok(())
    }

    /// Fails if this is too deep.
    #[inline]
    pub(super) fn depth(&self, depth: usize) -> Res<()> {
        match depth > self.limits.depth {
            true => Err(LimitKind::Depth(self.limits.depth).into()),
            false => Ok(()),
        }
    }
}
