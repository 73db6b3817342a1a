//! Constraint of a text, with the tokens that it allows next.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::SessionError;
use crate::engine::{Constraint, ConstraintError};
use crate::sample::SamplingError;

/// Constraint with the set of tokens that it allows next.
///
/// The set can be computed ahead, on another thread, while the model computes the logits. Once the
/// constraint has failed it fails forever, so that nothing is chosen without it. A panic of it is a
/// failure like others: the texts of other requests go on.
pub(crate) struct Masked {
    constraint: Box<dyn Constraint>,
    /// Bit `t % 32` of word `t / 32` for token `t`; none beyond the vocabulary.
    allowed: Vec<u32>,
    vocab: usize,
    set: Set,
}

/// State of the set of allowed tokens.
#[derive(Debug)]
enum Set {
    /// It is still to be computed.
    Due,
    Ready,
    Failed(ConstraintError),
}

impl core::fmt::Debug for Masked {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Masked").field("set", &self.set).finish_non_exhaustive()
    }
}

impl Masked {
    /// Constraint over a vocabulary of this many tokens.
    pub(super) fn new(
        constraint: Box<dyn Constraint>,
        vocab: usize,
    ) -> Result<Masked, SamplingError> {
        let words = vocab.div_ceil(32);
        let mut allowed = Vec::new();
        let bytes = words * size_of::<u32>();
        allowed.try_reserve_exact(words).map_err(|_| SamplingError::Memory { bytes })?;
        allowed.resize(words, 0);
        Ok(Masked { constraint, allowed, vocab, set: Set::Due })
    }

    /// True if nothing may follow.
    ///
    /// # Errors
    /// The failure of the constraint, which is kept.
    pub(super) fn is_complete(&mut self) -> Result<bool, ConstraintError> {
        self.call(|constraint, _| Ok(constraint.is_complete()))
    }

    /// True if the set of tokens is still to be computed.
    pub(super) fn is_due(&self) -> bool {
        matches!(self.set, Set::Due)
    }

    /// Computes the set of tokens that may come next, unless that is done. An error is kept for
    /// [`Masked::apply`].
    pub(crate) fn compute(&mut self) {
        if !matches!(self.set, Set::Due) || self.call(|c, allowed| c.mask(allowed)).is_err() {
            return;
        }
        if let (Some(last), used @ 1..) = (self.allowed.last_mut(), self.vocab % 32) {
            *last &= (1 << used) - 1;
        }
        self.set = match self.allowed.iter().all(|word| *word == 0) {
            true => Set::Failed(ConstraintError::new(
                "no token may come next, though the text may not end here",
            )),
            false => Set::Ready,
        };
    }

    /// Calls the constraint, unless it has failed. An error or a panic is kept.
    fn call<T>(
        &mut self,
        f: impl FnOnce(&mut dyn Constraint, &mut [u32]) -> Result<T, ConstraintError>,
    ) -> Result<T, ConstraintError> {
        if let Set::Failed(e) = &self.set {
            return Err(e.clone());
        }
        let called = AssertUnwindSafe(|| f(&mut *self.constraint, &mut self.allowed));
        let done = catch_unwind(called);
        let done = done.unwrap_or_else(|_| Err(ConstraintError::new("it panicked")));
        if let Err(e) = &done {
            self.set = Set::Failed(e.clone());
        }
        done
    }

    /// Makes all tokens outside of the set impossible, after computing it if need be. Logits that are
    /// NaN or infinite are left for the sampler to refuse.
    pub(super) fn apply(&mut self, logits: &mut [f32]) -> Result<(), SessionError> {
        self.compute();
        if let Set::Failed(e) = &self.set {
            return Err(e.clone().into());
        }
        for (&word, logits) in self.allowed.iter().zip(logits.chunks_mut(32)) {
            if word == u32::MAX {
                continue;
            }
            for (bit, logit) in logits.iter_mut().enumerate() {
                if word >> bit & 1 == 0 && *logit < f32::INFINITY {
                    *logit = f32::NEG_INFINITY;
                }
            }
        }
        Ok(())
    }

    /// Goes on by a token of the set. Returns true if nothing may follow it.
    pub(super) fn accept(&mut self, token: u32) -> Result<bool, SessionError> {
        self.call(|constraint, _| constraint.accept(token))?;
        self.set = Set::Due;
        Ok(self.is_complete()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers with this set, or fails.
    #[derive(Clone)]
    struct Fixed(Result<Vec<u32>, ConstraintError>);

    impl Constraint for Fixed {
        fn mask(&mut self, allowed: &mut [u32]) -> Result<(), ConstraintError> {
            allowed.copy_from_slice(self.0.as_ref().map_err(Clone::clone)?);
            Ok(())
        }

        fn accept(&mut self, token: u32) -> Result<(), ConstraintError> {
            Err(ConstraintError::new(format!("{token} was one too many")))
        }

        fn is_complete(&mut self) -> bool {
            false
        }

        fn fork(&self) -> Box<dyn Constraint> {
            Box::new(self.clone())
        }
    }

    fn masked(set: &[u32], vocab: usize) -> Masked {
        Masked::new(Box::new(Fixed(Ok(set.to_vec()))), vocab).unwrap()
    }

    #[test]
    fn exactly_the_set_stays_possible() {
        for vocab in [1usize, 31, 32, 33, 64, 95, 96, 97] {
            let sets = [u32::MAX, 0, 0x8000_0001, 0xdead_beef];
            for first in sets {
                let set: Vec<u32> = (0..vocab.div_ceil(32)).map(|i| sets[i % 4] ^ first).collect();
                let allowed = |t: usize| set[t / 32] >> (t % 32) & 1 == 1;
                let mut logits: Vec<f32> = (0..vocab).map(|t| t as f32).collect();
                let applied = masked(&set, vocab).apply(&mut logits);
                assert_eq!(applied.is_ok(), (0..vocab).any(allowed), "{vocab} {first:x}");
                for (t, logit) in logits.iter().enumerate().filter(|_| applied.is_ok()) {
                    assert_eq!(*logit, if allowed(t) { t as f32 } else { f32::NEG_INFINITY });
                }
            }
        }
    }

    #[test]
    fn mistakes_of_the_model_stay_visible() {
        let mut logits = [f32::NAN, f32::INFINITY, 2.0, 3.0];
        masked(&[0b1000], 4).apply(&mut logits).unwrap();
        assert!(logits[0].is_nan());
        assert_eq!(logits[1..], [f32::INFINITY, f32::NEG_INFINITY, 3.0]);
    }

    #[test]
    fn a_constraint_that_failed_fails_forever() {
        let text = |e: SessionError| e.to_string();
        // Bits beyond the vocabulary are no tokens.
        let mut empty = masked(&[0, !0 << 5], 37);
        let mut cross =
            Masked::new(Box::new(Fixed(Err(ConstraintError::new("cross")))), 37).unwrap();
        let mut greedy = masked(&[1, 0], 37);
        greedy.apply(&mut [0.0; 37]).unwrap();
        assert!(text(greedy.accept(0).unwrap_err()).contains("0 was one too many"));
        for _ in 0..2 {
            for (masked, why) in [
                (&mut empty, "no token may come next"),
                (&mut cross, "cross"),
                (&mut greedy, "0 was one too many"),
            ] {
                masked.compute();
                let e = text(masked.apply(&mut [0.0; 37]).unwrap_err());
                assert!(e.contains(why), "{e}");
            }
        }
    }
}
