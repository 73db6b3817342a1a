//! Streams: what an engine has computed for one request.

use core::task::{Context, Poll};
use core::time::Duration;
use std::sync::Arc;
use std::time::Instant;

use super::EngineError;
use super::channel::Channel;
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

impl Event {
    /// Index of the choice that it is of.
    #[must_use]
    pub fn choice(&self) -> usize {
        match self {
            Event::Prompt { choice, .. }
            | Event::Piece { choice, .. }
            | Event::Finished { choice, .. }
            | Event::Failed { choice, .. } => *choice,
        }
    }
}

/// Events of one request, in the order in which they happen, until all choices have ended.
///
/// Dropping it cancels the request within one step. Events that are not taken are gathered: pieces of
/// one choice become one, so that a slow reader holds nobody up and needs no more memory than its text.
pub struct Stream {
    channel: Arc<Channel>,
}

impl core::fmt::Debug for Stream {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Stream").finish_non_exhaustive()
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if !self.channel.is_ended() {
            self.channel.cancel();
        }
    }
}

impl Stream {
    pub(super) fn new(channel: Arc<Channel>) -> Stream {
        Stream { channel }
    }

    /// Next event, if there is one now.
    pub fn try_next(&mut self) -> Option<Event> {
        self.channel.take()
    }

    /// Time at which the engine had computed what the last event of a choice says; of a piece, its last token.
    /// `None` before its first event. (The time at which a reader gets an event may be a later one.)
    #[must_use]
    pub fn time(&self, choice: usize) -> Option<Instant> {
        self.channel.time(choice)
    }

    /// Waits for the next event at most this long; `None` if none came, or all choices have ended.
    pub fn next_timeout(&mut self, timeout: Duration) -> Option<Event> {
        // A time beyond all clocks is no limit.
        self.channel.wait(Instant::now().checked_add(timeout))
    }

    /// Next event for async code: registers the waker and returns [`Poll::Pending`] if there is none;
    /// `Ready(None)` when all choices have ended.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        match self.channel.poll(cx.waker()) {
            (Some(event), _) => Poll::Ready(Some(event)),
            (None, true) => Poll::Ready(None),
            (None, false) => Poll::Pending,
        }
    }

    /// True when all choices have ended and all events were taken.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        self.channel.is_ended()
    }

    /// Cancels all choices within one step; their events still come.
    pub fn cancel(&self) {
        self.channel.cancel();
    }

    /// Handle that cancels the request while another thread waits for its events.
    #[must_use]
    pub fn cancel_handle(&self) -> CancelHandle {
        CancelHandle { channel: Arc::clone(&self.channel) }
    }
}

/// Handle that cancels a request from elsewhere, also after its stream is gone.
#[derive(Clone)]
pub struct CancelHandle {
    channel: Arc<Channel>,
}

impl core::fmt::Debug for CancelHandle {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("CancelHandle").finish_non_exhaustive()
    }
}

impl CancelHandle {
    /// Cancels all choices within one step; their events still come.
    pub fn cancel(&self) {
        self.channel.cancel();
    }
}

/// Waits for the next event; `None` when all choices have ended.
impl Iterator for Stream {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        self.channel.wait(None)
    }
}
