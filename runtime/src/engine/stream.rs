//! Streams: what an engine has computed for one request.

use core::task::{Context, Poll};
use core::time::Duration;

use super::EngineError;
use crate::sample::TokenLogprobs;
use crate::session::{Finish, Piece};

/// Event of a stream. Those of one choice come in order: [`Event::Prompt`], any number of pieces, and
/// then one [`Event::Finished`] or [`Event::Failed`].
#[derive(Debug)]
#[non_exhaustive]
pub enum Event {
    /// A choice was admitted and its prompt computed.
    Prompt {
        /// Index of the choice.
        choice: usize,
        /// Tokens of the prompt.
        tokens: usize,
        /// Those among them that came from a cached prefix.
        cached: usize,
        /// Log probabilities of the prompt's tokens from the second on, if the request asks for them.
        logprobs: Vec<TokenLogprobs>,
    },
    /// A choice goes on by a piece of text.
    Piece {
        /// Index of the choice.
        choice: usize,
        /// Text, tokens and log probabilities since the piece before. The text may be empty where
        /// tokens gave none.
        piece: Piece,
    },
    /// A choice ended.
    Finished {
        /// Index of the choice.
        choice: usize,
        /// Reason.
        finish: Finish,
        /// Tokens that were generated, without one that ended the text.
        generated: usize,
    },
    /// A choice ended by an error.
    Failed {
        /// Index of the choice.
        choice: usize,
        /// Error.
        error: EngineError,
    },
}

/// Events of one request, in the order in which they happen, until all choices have ended.
///
/// Dropping it cancels the request within one step. Events that are not taken are gathered: pieces of
/// one choice become one, so that a slow reader holds nobody up and needs no more memory than its text.
pub struct Stream {}

impl core::fmt::Debug for Stream {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Stream").finish_non_exhaustive()
    }
}

impl Stream {
    /// Next event, if there is one now.
    pub fn try_next(&mut self) -> Option<Event> {
        unimplemented!()
    }

    /// Waits for the next event at most this long; `None` if none came, or all choices have ended.
    pub fn next_timeout(&mut self, _timeout: Duration) -> Option<Event> {
        unimplemented!()
    }

    /// Next event for async code: registers the waker and returns [`Poll::Pending`] if there is none;
    /// `Ready(None)` when all choices have ended.
    pub fn poll_next(&mut self, _cx: &mut Context<'_>) -> Poll<Option<Event>> {
        unimplemented!()
    }

    /// True when all choices have ended and all events were taken.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        unimplemented!()
    }

    /// Cancels all choices within one step; their events still come.
    pub fn cancel(&self) {}
}

/// Waits for the next event; `None` when all choices have ended.
impl Iterator for Stream {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        unimplemented!()
    }
}
