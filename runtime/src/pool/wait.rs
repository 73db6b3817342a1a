//! How a thread waits: it spins, yields its core, and then sleeps.
//!
//! **Spinning** is the fastest, and right if the other threads run: on an idle machine they finish a
//! phase within microseconds of each other. **Yielding** costs nothing where no one else wants the
//! core, and lets a thread of the crew run that has none. But where other programs want it, it means
//! to lose the core for a time slice, some milliseconds, and on newer versions of Linux the claim to
//! be served soon. **Sleeping** keeps that claim, and leaves the core to a thread of the crew that
//! was put aside; it costs a system call on each side and a wake-up, tens of microseconds.
//!
//! Which of them is right depends on the machine at the time, so a thread learns it from its waits:
//!
//! - if a yield took long, someone else had the core. The next waits spin instead of yielding, and
//!   for a short time only; the number of these waits doubles each time, up to a limit;
//! - if a sleep was short, it would have been better to stay awake: the time before the next one
//!   doubles. If it was long, that time shrinks.

use std::hint::spin_loop;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::yield_now;
use std::time::{Duration, Instant};

/// Number of pauses before a thread looks at the clock for the first time.
///
/// A pause takes from 10 ns (Arm, older x86) to 45 ns (Skylake and later), so this is 2 to 10
/// microseconds: longer than the skew between the threads of a step on an otherwise idle machine.
const SPINS: u32 = 200;

/// The same with more threads than CPUs, when some thread is always waiting for one.
const CROWDED_SPINS: u32 = 10;

/// Pauses between looks at the clock.
const SPINS_PER_CLOCK_READ: u32 = 16;

/// Microseconds that a thread waits awake, at first, at least and at most.
const AWAKE: (u32, u32, u32) = (200, 30, 1000);

/// Microseconds that it does so while others want its core.
const CONTENDED: u32 = 50;

/// Microseconds of a yield in which someone else had the core.
const SLOW_YIELD: u32 = 50;

/// Number of waits without yielding after a slow yield, at first and at most.
const WITHOUT_YIELD: (u32, u32) = (64, 8192);

/// A thread's experience of waiting. Only that thread uses it.
pub(crate) struct Patience {
    spins: u32,
    /// Microseconds that it waits awake.
    awake: AtomicU32,
    /// Number of waits left that don't yield.
    no_yield: AtomicU32,
    /// Number of waits that won't yield after the next slow yield.
    next_no_yield: AtomicU32,
}

fn micros(time: Duration) -> u32 {
    time.as_micros().try_into().unwrap_or(u32::MAX)
}

impl Patience {
    pub(crate) fn new(crowded: bool) -> Self {
        Patience {
            spins: if crowded { CROWDED_SPINS } else { SPINS },
            awake: AtomicU32::new(AWAKE.0),
            no_yield: AtomicU32::new(0),
            next_no_yield: AtomicU32::new(WITHOUT_YIELD.0),
        }
    }

    /// Waits awake until `ready` gives a result. If the time for that is over, the error is the
    /// moment at which the wait began (a few microseconds after it).
    pub(crate) fn wait<T>(&self, mut ready: impl FnMut() -> Option<T>) -> Result<T, Instant> {
        for _ in 0..self.spins {
            if let Some(result) = ready() {
                return Ok(result);
            }
            spin_loop();
        }
        self.wait_long(ready)
    }

    #[cold]
    fn wait_long<T>(&self, mut ready: impl FnMut() -> Option<T>) -> Result<T, Instant> {
        let since = Instant::now();
        let mut awake = self.awake.load(Ordering::Relaxed);
        let without = self.no_yield.load(Ordering::Relaxed);
        if without > 0 {
            self.no_yield.store(without - 1, Ordering::Relaxed);
            awake = awake.min(CONTENDED);
        }
        let mut waited = 0;
        loop {
            if let Some(result) = ready() {
                return Ok(result);
            }
            if waited >= awake {
                return Err(since);
            }
            if without > 0 {
                for _ in 0..SPINS_PER_CLOCK_READ {
                    spin_loop();
                }
                waited = micros(since.elapsed());
            } else {
                yield_now();
                let now = micros(since.elapsed());
                if now - waited > SLOW_YIELD {
                    self.contended();
                    // What was waited for may have happened long ago.
                    return ready().ok_or(since);
                }
                waited = now;
            }
        }
    }

    /// A yield was slow.
    fn contended(&self) {
        let n = self.next_no_yield.load(Ordering::Relaxed);
        self.no_yield.store(n, Ordering::Relaxed);
        self.next_no_yield.store((2 * n).min(WITHOUT_YIELD.1), Ordering::Relaxed);
    }

    /// The thread slept until now, after it had waited since `since`.
    pub(crate) fn slept(&self, since: Instant) {
        let (waited, awake) = (micros(since.elapsed()), self.awake.load(Ordering::Relaxed));
        let next = match waited / awake {
            0..3 => awake * 2,
            3..8 => awake,
            _ => awake - awake / 4,
        };
        self.awake.store(next.clamp(AWAKE.1, AWAKE.2), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_sleeps_lengthen_the_time_awake_and_long_ones_shorten_it() {
        let patience = Patience::new(false);
        let awake = || patience.awake.load(Ordering::Relaxed);
        patience.slept(Instant::now());
        assert_eq!(awake(), 400);
        (0..10).for_each(|_| patience.slept(Instant::now()));
        assert_eq!(awake(), AWAKE.2);
        let Some(long_ago) = Instant::now().checked_sub(Duration::from_secs(1)) else { return };
        patience.slept(long_ago);
        assert_eq!(awake(), 750);
        (0..30).for_each(|_| patience.slept(long_ago));
        assert_eq!(awake(), AWAKE.1);
    }

    #[test]
    fn after_slow_yields_longer_and_longer_without() {
        let patience = Patience::new(true);
        for expected in [64, 128, 256] {
            patience.contended();
            assert_eq!(patience.no_yield.load(Ordering::Relaxed), expected);
            for left in (0..expected).rev() {
                // Not a result at once, so that it looks at the clock; then one.
                let mut looks = 0;
                let ready = || {
                    looks += 1;
                    (looks > CROWDED_SPINS).then_some(looks)
                };
                assert_eq!(patience.wait(ready), Ok(CROWDED_SPINS + 1));
                assert_eq!(patience.no_yield.load(Ordering::Relaxed), left);
            }
        }
        (0..20).for_each(|_| patience.contended());
        assert_eq!(patience.no_yield.load(Ordering::Relaxed), WITHOUT_YIELD.1);
    }

    #[test]
    fn the_wait_ends() {
        let patience = Patience::new(false);
        assert!(patience.wait(|| None::<()>).is_err());
        assert_eq!(patience.wait(|| Some(1)), Ok(1));
    }
}
