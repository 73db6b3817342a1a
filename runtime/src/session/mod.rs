//! Sessions: a model, the memory of one text, and the threads that compute it.

use std::sync::atomic::{AtomicU8, Ordering};

use teff_graph::{LogitsFor, Runner, Segment, Step, StepError, check_tokens};
use teff_kernels::Backend;

use crate::model::Model;

mod backend;
mod builder;
mod checkpoint;
mod default_backend;
mod error;
mod generate;
mod options;
mod shared_crew;
mod snapshot;
mod stop;

pub use builder::{SessionBuilder, SessionMemoryRequirements};
pub use default_backend::{BACKEND_VARIABLE, default_backend};
pub use error::SessionError;
pub use generate::{Finish, Generate, Generation};
pub use options::{DEFAULT_BATCH, DEFAULT_CHECKPOINTS, SessionOptions};
pub use stop::StopHandle;

use backend::SessionBackend;
use checkpoint::{Checkpoints, SEQUENCE};
use shared_crew::SessionCrew;

/// A text in the making: its tokens, their cache, and what computes the next.
pub struct Session<'m> {
    model: &'m Model,
    options: SessionOptions,
    memory_requirements: SessionMemoryRequirements,
    runner: Runner<'m, SessionBackend<'m>>,
    crew: SessionCrew<'m>,
    stop: StopHandle,
    /// All tokens of the text.
    tokens: Vec<u32>,
    /// Number of tokens that have been computed: the runner's position.
    done: usize,
    /// Rows of logits of the last tokens that the runner still holds.
    logits: usize,
    checkpoints: Checkpoints,
}

impl core::fmt::Debug for Session<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Session")
            .field("options", &self.options)
            .field("tokens", &self.tokens.len())
            .field("done", &self.done)
            .finish_non_exhaustive()
    }
}

impl<'m> Session<'m> {
    /// The model.
    #[must_use]
    pub fn model(&self) -> &'m Model {
        self.model
    }

    /// The bytes that the session took.
    #[must_use]
    pub fn memory_requirements(&self) -> &SessionMemoryRequirements {
        &self.memory_requirements
    }

    /// Who computes.
    #[must_use]
    pub fn backend(&self) -> &dyn Backend {
        self.runner.backend().get()
    }

    /// Threads.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.memory_requirements.threads
    }

    /// Positions of the cache.
    #[must_use]
    pub fn context(&self) -> usize {
        self.runner.plan().options.context
    }

    /// Most tokens of one step.
    #[must_use]
    pub fn batch(&self) -> usize {
        self.runner.plan().options.batch
    }

    /// The tokens of the text, those that are still to be computed included.
    #[must_use]
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// How many of the tokens have been computed.
    #[must_use]
    pub fn computed(&self) -> usize {
        self.done
    }

    /// What cancels this session's steps from another thread.
    #[must_use]
    pub fn stop_handle(&self) -> StopHandle {
        self.stop.clone()
    }

    /// Appends tokens to the text, to be computed by the next [`Session::advance`].
    ///
    /// # Errors
    /// [`StepError::ContextFull`] and [`StepError::BadToken`]; nothing is appended then.
    pub fn push(&mut self, tokens: &[u32]) -> Result<(), SessionError> {
        let vocab = self.model.spec().vocab;
        check_tokens(tokens, self.tokens.len(), self.context(), vocab)?;
        self.tokens.extend_from_slice(tokens);
        Ok(())
    }

    /// Computes all tokens that were pushed, as many at a time as the batch allows, and returns
    /// the logits that are wanted of the last step.
    ///
    /// # Errors
    /// [`StepError::Empty`] if nothing is pending. After [`StepError::Cancelled`] what is
    /// still pending can be tried again, with the same bits.
    pub fn advance(&mut self, logits: LogitsFor) -> Result<&[f32], SessionError> {
        if self.done == self.tokens.len() {
            return Err(StepError::Empty.into());
        }
        let many = self.tokens.len() - self.done > 1;
        let mut wanted = 0;
        while self.done < self.tokens.len() {
            let end = self.tokens.len().min(self.done + self.batch());
            let last = end == self.tokens.len();
            let logits = if last { logits } else { LogitsFor::None };
            wanted = self.step(self.done..end, logits)?;
            self.done = end;
        }
        self.logits = wanted;
        if many {
            // The end of a prompt or of a turn is where texts are taken back to.
            self.checkpoints.save(&self.runner);
        }
        Ok(self.runner.logits(wanted))
    }

    /// [`Session::push`] and [`Session::advance`].
    ///
    /// # Errors
    /// As they have.
    pub fn eval(&mut self, tokens: &[u32], logits: LogitsFor) -> Result<&[f32], SessionError> {
        self.push(tokens)?;
        self.advance(logits)
    }

    /// One step on the whole crew; gives the rows of logits.
    fn step(
        &mut self,
        range: core::ops::Range<usize>,
        logits: LogitsFor,
    ) -> Result<usize, SessionError> {
        const CANCELLED: u8 = 1;
        const TEAM: u8 = 2;
        self.logits = 0;
        let tokens = &self.tokens[range];
        let segments = [Segment { sequence: SEQUENCE, tokens, logits }];
        let running = self.runner.begin(&Step { segments: &segments, cancel: &self.stop })?;
        let failure = AtomicU8::new(0);
        let ran = self.crew.run(&|team| match running.walk(team) {
            Ok(()) => {}
            Err(StepError::Team { .. }) => failure.store(TEAM, Ordering::Relaxed),
            // A broken team is what the crew itself reports.
            Err(StepError::Broken(_)) => {}
            Err(_) => failure.store(CANCELLED, Ordering::Relaxed),
        });
        ran?;
        match failure.into_inner() {
            0 => Ok(running.commit()?),
            CANCELLED => Err(StepError::Cancelled.into()),
            _ => {
                let (max, got) = (self.memory_requirements.threads, self.crew.size());
                Err(StepError::Team { max, got }.into())
            }
        }
    }

    /// Takes the text back to its first `len` tokens; more than there are changes nothing.
    ///
    /// Layers with a window or a recurrent state may keep nothing from there: then the session goes
    /// back to the last state before it that is kept ([`Session::checkpoints`], or the beginning),
    /// and the next [`Session::advance`] computes the tokens in between again, with the same bits.
    /// [`Session::computed`] tells how far it went.
    pub fn truncate(&mut self, len: usize) {
        if len >= self.tokens.len() {
            return;
        }
        self.tokens.truncate(len);
        self.checkpoints.forget_beyond(len);
        if self.done > len {
            self.logits = 0;
            self.done = self.checkpoints.go_back(&mut self.runner, len);
        }
    }

    /// Keeps the states of the present position, so that the text can be taken back to it at once.
    /// The end of each prompt is kept without being asked for; of more than
    /// [`SessionOptions::checkpoints`] the oldest is given up.
    ///
    /// False where the session has room for none, or the model's layers can all go back anyway.
    pub fn checkpoint(&mut self) -> bool {
        self.done > 0 && self.checkpoints.save(&self.runner)
    }

    /// Positions that are kept as checkpoints, in no order.
    pub fn checkpoints(&self) -> impl Iterator<Item = usize> + '_ {
        self.checkpoints.positions()
    }

    /// Makes the last token one that is still to be computed: its logits are needed again.
    fn compute_last_again(&mut self) {
        self.logits = 0;
        if let Some(last) = self.done.checked_sub(1) {
            self.done = self.checkpoints.go_back(&mut self.runner, last);
        }
    }

    /// A session with the same options that goes on from the same text, independently. Both take
    /// turns on the same threads.
    ///
    /// # Errors
    /// As [`Model::session`].
    pub fn fork(&mut self) -> Result<Session<'m>, SessionError> {
        let crew = self.crew.share();
        let builder = SessionBuilder::new(self.model, &self.options);
        let mut fork = builder.session_backend(*self.runner.backend()).build_on(crew)?;
        let copied = fork.runner.copy_from(SEQUENCE, &self.runner, SEQUENCE);
        copied.map_err(SessionError::Restore)?;
        fork.tokens.extend_from_slice(&self.tokens);
        fork.done = self.done;
        Ok(fork)
    }
}
