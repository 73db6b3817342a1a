//! Tasks: sequences from their submission to their end.

use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Instant;

use teff_graph::SequenceId;

use super::channel::{Channel, End, PromptDone};
use super::{Constraint, EngineError};
use crate::session::continuation::Continuation;
use crate::session::piece::LogprobBuffer;
use crate::session::{Finish, Generate, SessionError};
use crate::speculation::Guesses;

/// Purpose of a task.
pub(super) enum Purpose {
    /// A choice of a request.
    Generate {
        channel: Arc<Channel>,
        choice: usize,
        generate: Arc<Generate>,
        /// Until the task is admitted for the first time.
        constraint: Option<Box<dyn Constraint>>,
    },
    /// A prefix to be computed and saved.
    Save { reply: Sender<Result<Vec<u8>, EngineError>> },
    /// States of a prefix at its last token, to be put into the cache.
    Load { states: Vec<u8>, reply: Sender<Result<(), EngineError>> },
}

/// Log probabilities of the prompt's tokens, which are gathered while it is computed.
pub(super) struct PromptProbs {
    pub(super) buffer: LogprobBuffer,
    /// Tokens of the prompt that have one.
    pub(super) done: usize,
}

/// Name of a task that stays while others come and go: its arrival and its choice.
pub(super) type Key = (u64, usize);

/// Sequence that waits or runs.
pub(super) struct Task {
    pub(super) purpose: Purpose,
    /// Prompt and generated tokens; room for all that may come.
    pub(super) tokens: Vec<u32>,
    /// Number of tokens of the prompt.
    pub(super) prompt: usize,
    pub(super) priority: i32,
    /// Number of the submission, which is the same for all choices of a request.
    pub(super) arrival: u64,
    pub(super) deadline: Option<Instant>,
    /// Made when the task is admitted for the first time.
    pub(super) continuation: Option<Continuation>,
    /// Set if the request asks for them, until they have been sent.
    pub(super) prompt_probs: Option<PromptProbs>,
    /// True once the reader was told of the prompt.
    pub(super) prompt_sent: bool,
    /// Tokens of the prompt that came from the cache when the task was first admitted.
    pub(super) cached: Option<usize>,
    /// Piece that the reader's lock kept from being handed over.
    pub(super) unsent: bool,
    /// Error of the last choice.
    pub(super) error: Option<EngineError>,

    // While it runs:
    pub(super) slot: SequenceId,
    /// Pages of its positions.
    pub(super) pages: Vec<u32>,
    /// Tokens that have been computed.
    pub(super) done: usize,
    /// The logits of its next token are held until the mask of its constraint is there.
    pub(super) held: bool,
    /// Full pages that are in the tree.
    pub(super) registered: usize,
    /// Position at which texts in the cache part from this one, and which is worth a checkpoint.
    pub(super) fork_at: usize,
    /// Page of its last checkpoint while it generates.
    pub(super) rolling: Option<u32>,
    /// Made when the task is admitted for the first time, if the engine speculates.
    pub(super) guesses: Option<Guesses>,
}

impl Task {
    /// Order of admission: higher priority first, then earlier arrival, then lower choice.
    pub(super) fn rank(&self) -> (core::cmp::Reverse<i32>, u64, usize) {
        (core::cmp::Reverse(self.priority), self.arrival, self.choice())
    }

    pub(super) fn key(&self) -> Key {
        (self.arrival, self.choice())
    }

    pub(super) fn choice(&self) -> usize {
        match &self.purpose {
            Purpose::Generate { choice, .. } => *choice,
            _ => 0,
        }
    }

    pub(super) fn channel(&self) -> Option<&Arc<Channel>> {
        match &self.purpose {
            Purpose::Generate { channel, .. } => Some(channel),
            _ => None,
        }
    }

    /// Tokens that are still to be computed.
    pub(super) fn pending(&self) -> usize {
        self.tokens.len() - self.done
    }

    /// True if the last token alone is to be computed, and another one is to be chosen after it.
    pub(super) fn is_decoding(&self) -> bool {
        self.pending() == 1 && self.prompt_sent && matches!(self.purpose, Purpose::Generate { .. })
    }

    /// Goes on by the token that was chosen, in a context of so many. Returns the number of tokens: 1 or 0.
    pub(super) fn go_on(
        &mut self,
        chosen: Result<Option<u32>, SessionError>,
        context: usize,
    ) -> usize {
        let mut n = 0;
        match (chosen, &mut self.continuation) {
            (Ok(Some(token)), Some(continuation)) => {
                n = 1;
                if self.tokens.len() < context {
                    self.tokens.push(token);
                } else {
                    continuation.end(Finish::ContextFull);
                }
            }
            (Ok(_), _) => {}
            (Err(e), _) => self.error = Some(e.into()),
        }
        self.flush();
        n
    }

    /// Hands the piece to the reader, or notes that it could not.
    pub(super) fn flush(&mut self) {
        let (Purpose::Generate { channel, choice, .. }, Some(c)) =
            (&self.purpose, &mut self.continuation)
        else {
            return;
        };
        if c.tokens().is_empty() && c.text().is_empty() {
            self.unsent = false;
            return;
        }
        // While text may be the beginning of a stop string or of a character, its tokens wait for it.
        if c.text().is_empty() && c.finish().is_none() {
            return;
        }
        let sent = channel.piece(*choice, c.text(), c.tokens(), c.logprobs());
        if sent {
            c.clear_piece();
        }
        self.unsent = !sent;
    }

    /// Tells the reader that the prompt was computed.
    pub(super) fn send_prompt(&mut self) {
        self.prompt_sent = true;
        let probs = self.prompt_probs.take();
        if let Purpose::Generate { channel, choice, .. } = &self.purpose {
            let logprobs = probs.map_or(Vec::new(), |p| p.buffer.as_slice().to_vec());
            let cached = self.cached.unwrap_or(0);
            channel.prompt(*choice, PromptDone { tokens: self.prompt, cached, logprobs });
        }
    }

    /// Tells the reader that the task ends for this reason, with all text that was held back.
    pub(super) fn finish(mut self, reason: Finish) {
        match &mut self.purpose {
            Purpose::Generate { channel, choice, .. } => {
                let (mut finish, mut generated) = (reason, 0);
                let mut piece = ("", &[][..], &[][..]);
                if let Some(c) = &mut self.continuation {
                    c.end(reason);
                    finish = c.finish().unwrap_or(reason);
                    generated = c.generated();
                    piece = (c.text(), c.tokens(), c.logprobs());
                }
                channel.end(*choice, piece, End::Finished { finish, generated });
            }
            Purpose::Save { reply } => drop(reply.send(Err(EngineError::Ended))),
            Purpose::Load { reply, .. } => drop(reply.send(Err(EngineError::Ended))),
        }
    }

    /// Tells the reader that the task ends by an error.
    pub(super) fn fail(self, error: EngineError) {
        match self.purpose {
            Purpose::Generate { channel, choice, .. } => {
                let c = self.continuation.as_ref();
                let piece =
                    c.map_or(("", &[][..], &[][..]), |c| (c.text(), c.tokens(), c.logprobs()));
                channel.end(choice, piece, End::Failed(error));
            }
            Purpose::Save { reply } => drop(reply.send(Err(error))),
            Purpose::Load { reply, .. } => drop(reply.send(Err(error))),
        }
    }
}
