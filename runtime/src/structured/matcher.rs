//! A grammar as a constraint.

use std::sync::Arc;

use llguidance::Matcher;
use llguidance::api::StopReason;

use crate::engine::{Constraint, ConstraintError};

/// A text that is held to a grammar.
pub(super) struct Held {
    matcher: Matcher,
    /// Tokens that end a text, sorted.
    ends: Arc<[u32]>,
    /// Number of tokens.
    vocab: usize,
    /// An end token was accepted.
    ended: bool,
}

impl Held {
    pub(super) fn new(matcher: Matcher, ends: Arc<[u32]>, vocab: usize) -> Self {
        Held { matcher, ends, vocab, ended: false }
    }

    fn allow_ends(&self, allowed: &mut [u32]) {
        for &id in &*self.ends {
            allowed[id as usize / 32] |= 1 << (id % 32);
        }
    }

    /// True if the text is complete; an error if llguidance gave up.
    fn complete(&self) -> Result<bool, ConstraintError> {
        match self.matcher.stop_reason() {
            StopReason::NotStopped => Ok(false),
            StopReason::NoExtension | StopReason::EndOfSentence => Ok(true),
            reason => Err(self.failure(&reason.to_string())),
        }
    }

    /// An error without what llguidance adds in angle brackets.
    fn failure(&self, fallback: &str) -> ConstraintError {
        let message = self.matcher.get_error().unwrap_or_default();
        let message = first_line(&message);
        ConstraintError::new(if message.is_empty() { fallback } else { message })
    }
}

/// First line of an error of llguidance, behind which may be the state of its parser; its beginning, if it is
/// long.
pub(super) fn first_line(message: &str) -> &str {
    let line = message.lines().next().unwrap_or_default().trim();
    let end = (0..=line.len().min(200)).rev().find(|&i| line.is_char_boundary(i));
    &line[..end.unwrap_or(0)]
}

impl Constraint for Held {
    fn mask(&mut self, allowed: &mut [u32]) -> Result<(), ConstraintError> {
        allowed.fill(0);
        if allowed.len() != self.vocab.div_ceil(32) {
            return Err(ConstraintError::new(format!(
                "a mask of {} words for {} tokens",
                allowed.len(),
                self.vocab
            )));
        }
        if self.ended || self.complete()? {
            self.allow_ends(allowed);
            return match self.ends.is_empty() {
                true => Err(ConstraintError::new("the text is complete, and no token ends a text")),
                false => Ok(()),
            };
        }
        let mask = self.matcher.compute_mask().map_err(|e| {
            let message = e.to_string();
            match first_line(&message) {
                // llguidance's name for an empty set.
                "NoExtensionBias" => ConstraintError::new(
                    "no token of the vocabulary continues the text as the grammar needs it",
                ),
                message => ConstraintError::new(message),
            }
        })?;
        for (to, from) in allowed.iter_mut().zip(mask.as_slice()) {
            *to = *from;
        }
        // Bits beyond the vocabulary: llguidance has room for one more token.
        if let Some(last) = allowed.last_mut()
            && !self.vocab.is_multiple_of(32)
        {
            *last &= (1 << (self.vocab % 32)) - 1;
        }
        Ok(())
    }

    fn accept(&mut self, token: u32) -> Result<(), ConstraintError> {
        let end = self.ends.binary_search(&token).is_ok();
        if self.ended || self.complete()? {
            self.ended = true;
            return match end {
                true => Ok(()),
                false => Err(ConstraintError::new(format!("token {token} after the end"))),
            };
        }
        if token as usize >= self.vocab {
            return Err(ConstraintError::new(format!("there is no token {token}")));
        }
        if end {
            let accepting = self.matcher.is_accepting();
            return match accepting.map_err(|e| ConstraintError::new(first_line(&e.to_string())))? {
                true => {
                    self.ended = true;
                    Ok(())
                }
                false => {
                    Err(ConstraintError::new(format!("token {token} ends an incomplete text")))
                }
            };
        }
        self.matcher.consume_token(token).map_err(|e| {
            let message = e.to_string();
            ConstraintError::new(format!("token {token}: {}", first_line(&message)))
        })
    }

    fn is_complete(&mut self) -> bool {
        self.ended
            || matches!(
                self.matcher.stop_reason(),
                StopReason::NoExtension | StopReason::EndOfSentence
            )
    }

    /// llguidance's own clones share the states of the lexer, and a limit counts them: a text could fail
    /// because of another one.
    fn fork(&self) -> Box<dyn Constraint> {
        Box::new(Held {
            matcher: self.matcher.deep_clone(),
            ends: self.ends.clone(),
            vocab: self.vocab,
            ended: self.ended,
        })
    }
}
