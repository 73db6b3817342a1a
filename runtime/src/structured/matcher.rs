//! A grammar as a constraint.

use std::sync::{Arc, Mutex, PoisonError};

use llguidance::Matcher;
use llguidance::api::StopReason;

use crate::engine::{Constraint, ConstraintError};

/// State of a matcher.
///
/// llguidance's own clones share the states of the lexer, and a limit counts them: a text could fail because of another one.
/// A clone of this type shares nothing.
struct State(Mutex<Matcher>);

impl State {
    fn new(matcher: Matcher) -> Arc<State> {
        Arc::new(State(Mutex::new(matcher)))
    }

    fn get_mut(&mut self) -> &mut Matcher {
        self.0.get_mut().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clone for State {
    fn clone(&self) -> State {
        let matcher = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        State(Mutex::new(matcher.deep_clone()))
    }
}

/// A text that is held to a grammar.
pub(super) struct Held {
    /// Forks share the state until they go on, so that texts that wait take no memory of their own: a state takes about
    /// a hundred kilobytes.
    state: Arc<State>,
    /// Tokens that end a text, sorted.
    ends: Arc<[u32]>,
    /// Number of tokens.
    vocab: usize,
    /// An end token was accepted.
    ended: bool,
}

impl Held {
    pub(super) fn new(matcher: Matcher, ends: Arc<[u32]>, vocab: usize) -> Self {
        Held { state: State::new(matcher), ends, vocab, ended: false }
    }

    fn allow_ends(&self, allowed: &mut [u32]) {
        for &id in &*self.ends {
            allowed[id as usize / 32] |= 1 << (id % 32);
        }
    }

    /// The matcher, which is this text's alone from now on.
    fn matcher(&mut self) -> &mut Matcher {
        Arc::make_mut(&mut self.state).get_mut()
    }

    /// True if the text is complete; an error if llguidance gave up.
    fn complete(&mut self) -> Result<bool, ConstraintError> {
        match self.matcher().stop_reason() {
            StopReason::NotStopped => Ok(false),
            StopReason::NoExtension | StopReason::EndOfSentence => Ok(true),
            reason => Err(self.failure(&reason.to_string())),
        }
    }

    /// An error without what llguidance adds in angle brackets.
    fn failure(&mut self, fallback: &str) -> ConstraintError {
        let message = self.matcher().get_error().unwrap_or_default();
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

impl Held {
    /// Copy that shares the state with this text, until one of them goes on.
    fn copy(&self) -> Held {
        Held {
            state: Arc::clone(&self.state),
            ends: Arc::clone(&self.ends),
            vocab: self.vocab,
            ended: self.ended,
        }
    }
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
        let mask = self.matcher().compute_mask().map_err(|e| {
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
            let accepting = self.matcher().is_accepting();
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
        self.matcher().consume_token(token).map_err(|e| {
            let message = e.to_string();
            ConstraintError::new(format!("token {token}: {}", first_line(&message)))
        })
    }

    fn is_complete(&mut self) -> bool {
        self.ended
            || matches!(
                self.matcher().stop_reason(),
                StopReason::NoExtension | StopReason::EndOfSentence
            )
    }

    fn fork(&self) -> Box<dyn Constraint> {
        Box::new(self.copy())
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Grammar, Grammars};
    use super::*;
    use crate::tokenizer::{BpeParts, SpecialIds, Splitter, TokenKind, Tokenizer};

    #[test]
    fn forks_share_a_state_until_they_go_on() {
        let letters = ["a", "b", "c"].map(|text| (text.as_bytes(), TokenKind::Normal));
        let end = (&b"</s>"[..], TokenKind::Control);
        let ids = SpecialIds { eos: Some(3), ..SpecialIds::default() };
        let texts = letters.into_iter().chain([end]);
        let parts = BpeParts { ids, ..BpeParts::new(texts, [], Splitter::Gpt2) };
        let tokenizer = Tokenizer::byte_bpe(parts).unwrap();
        let grammars = Grammars::new(&tokenizer, 4).unwrap();
        let rules = grammars.rules(&Grammar::Regex("ab|cb".into())).unwrap();
        let matcher = grammars.matcher(rules.rules).unwrap();
        let first = Held::new(matcher, grammars.ends.clone(), 4);
        let (mut second, mut third) = (first.copy(), first.copy());
        assert!(
            Arc::ptr_eq(&first.state, &second.state) && Arc::ptr_eq(&first.state, &third.state)
        );
        second.accept(0).unwrap();
        third.accept(2).unwrap();
        drop(first);
        let mut fourth = second.copy();
        assert!(Arc::ptr_eq(&second.state, &fourth.state));
        let mut masks = [&mut second, &mut third, &mut fourth].map(|held| {
            let mut mask = [0];
            held.mask(&mut mask).unwrap();
            mask[0]
        });
        assert_eq!(masks, [0b10; 3]);
        fourth.accept(1).unwrap();
        second.mask(&mut masks[..1]).unwrap();
        fourth.mask(&mut masks[1..2]).unwrap();
        assert_eq!(masks, [0b10, 0b1000, 0b10]);
    }
}
