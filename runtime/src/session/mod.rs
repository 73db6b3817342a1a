//! Sessions: a model, the memory of one text, and the threads that compute it.

use core::ops::Range;

use teff_graph::{LogitsFor, Plan, Runner, Segment, StepError, check_tokens};
use teff_kernels::Backend;

use crate::model::Model;
use crate::pool::FewerThreads;
use crate::speculation::{MOST_GUESSES, SpeculationStats, Speculator, Timer};
use crate::tokenizer::Tokenizer;

pub(crate) mod backend;
pub(crate) mod builder;
pub(crate) mod checkpoint;
pub(crate) mod continuation;
mod default_backend;
pub(crate) mod draft;
mod error;
mod generate;
pub(crate) mod masked;
pub(crate) mod model_ref;
mod options;
mod perplexity;
pub(crate) mod piece;
pub(crate) mod shared_crew;
pub(crate) mod snapshot;
pub(crate) mod stepping;
mod stop;
mod stop_strings;

pub use builder::{SessionBuilder, SessionMemoryRequirements};
pub use default_backend::{BACKEND_VARIABLE, default_backend};
pub use error::SessionError;
pub use generate::{Finish, Generate, Generation, NoHook};
pub use options::{DEFAULT_BATCH, DEFAULT_CHECKPOINTS, SessionOptions};
pub use perplexity::Perplexity;
pub use piece::Piece;
pub use stop::StopHandle;

use backend::SessionBackend;
use checkpoint::{Checkpoints, SEQUENCE};
use model_ref::ModelRef;
use shared_crew::SessionCrew;
use stepping::run_step;

/// Text in progress: its tokens, their cache, and the means to compute the next ones.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use teff_graph::LogitsFor;
/// use teff_runtime::{Model, SessionOptions};
///
/// # let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/gpt2/model.gguf");
/// let model = Model::open(path)?;
/// let mut session = model.session(&SessionOptions::default().with_context(64))?;
/// let logits = session.eval(&[1, 2, 3], LogitsFor::Last)?.to_vec();
/// assert_eq!(logits.len(), model.spec().vocab as usize);
///
/// // The same text again has the same bits.
/// session.truncate(2);
/// assert_eq!(session.eval(&[3], LogitsFor::Last)?, logits);
/// # Ok(()) }
/// ```
pub struct Session<'m> {
    /// Declared before `model`, whose tensors it has.
    runner: Runner<'m, SessionBackend<'m>>,
    model: ModelRef<'m>,
    options: SessionOptions,
    memory_requirements: SessionMemoryRequirements,
    crew: SessionCrew<'m>,
    fewer: Option<FewerThreads>,
    stop: StopHandle,
    /// All tokens of the text.
    tokens: Vec<u32>,
    /// Number of tokens that have been computed. The runner's position is there, or by `ahead` further.
    done: usize,
    /// Rows of logits that no token was sampled from yet: of the last tokens and, with guesses, of those.
    logits: Range<usize>,
    /// Rows of outputs of the last tokens that the runner holds.
    rows: Range<usize>,
    /// Guesses that the runner has computed beyond the text.
    ahead: usize,
    /// Tokens of the text that are computed again since guesses behind them were wrong.
    again: usize,
    speculator: Option<Speculator>,
    /// Session of a smaller model that guesses.
    draft: Option<Box<Session<'m>>>,
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
    /// Model of the session.
    #[must_use]
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Tokenizer of the model.
    ///
    /// # Errors
    /// [`SessionError::NoTokenizer`].
    pub fn tokenizer(&self) -> Result<&Tokenizer, SessionError> {
        self.model.tokenizer().map_err(|e| SessionError::NoTokenizer(e.to_string()))
    }

    /// Bytes that the session took.
    #[must_use]
    pub fn memory_requirements(&self) -> &SessionMemoryRequirements {
        &self.memory_requirements
    }

    /// Plan of the session's steps: their operations, in order.
    #[must_use]
    pub fn plan(&self) -> &Plan<'_> {
        self.runner.plan()
    }

    /// Backend that computes the steps.
    #[must_use]
    pub fn backend(&self) -> &dyn Backend {
        self.runner.backend().get()
    }

    /// Number of threads.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.memory_requirements.threads
    }

    /// Warning that the session has fewer threads than were asked for, since the process may not run
    /// on as many CPUs.
    #[must_use]
    pub fn fewer_threads(&self) -> Option<FewerThreads> {
        self.fewer
    }

    /// Positions of the cache.
    #[must_use]
    pub fn context(&self) -> usize {
        self.runner.plan().options.context
    }

    /// Maximum number of tokens in a step.
    #[must_use]
    pub fn batch(&self) -> usize {
        self.runner.plan().options.batch
    }

    /// Tokens of the text, including those that are still to be computed.
    #[must_use]
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// Number of tokens that have been computed.
    #[must_use]
    pub fn computed(&self) -> usize {
        self.done
    }

    /// Handle to cancel this session's steps from another thread.
    #[must_use]
    pub fn stop_handle(&self) -> StopHandle {
        self.stop.clone()
    }

    /// Appends tokens to the text, which the next [`Session::advance`] computes.
    ///
    /// # Errors
    /// [`StepError::ContextFull`] and [`StepError::BadToken`]; nothing is appended in that case.
    pub fn push(&mut self, tokens: &[u32]) -> Result<(), SessionError> {
        let vocab = self.model.spec().vocab;
        check_tokens(tokens, self.tokens.len(), self.context(), vocab)?;
        if !tokens.is_empty() {
            self.forget_guesses();
        }
        self.tokens.extend_from_slice(tokens);
        Ok(())
    }

    /// Computes all pending tokens, in steps of at most the batch size, and returns the selected
    /// logits of the last step: a row of the vocabulary's size for each selected token, in their order
    /// (none if [`SessionOptions::outputs`] has no logits). [`LogitsFor::All`] selects the tokens of
    /// the last step, not those of earlier ones: they are all that was pending only if that fits
    /// into one step ([`SessionOptions::batch`], [`SessionOptions::logits`]).
    ///
    /// # Errors
    /// [`StepError::Empty`] if nothing is pending. After [`StepError::Cancelled`], pending tokens
    /// can be computed by another call, with the same bits.
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
        (self.logits, self.rows) = (wanted.saturating_sub(1)..wanted, 0..wanted);
        if many {
            // Texts are usually truncated to the end of a prompt or of a turn.
            self.checkpoints.save(&self.runner);
        }
        Ok(self.runner.logits(wanted))
    }

    /// Hidden states of the tokens that the last [`Session::advance`] selected: the residual stream
    /// after the last norm, which the head turns into logits; one row of the model's width for each.
    /// `None` unless [`SessionOptions::outputs`] asks for them; empty after the text was truncated or
    /// restored.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use teff_graph::{LogitsFor, Outputs};
    /// use teff_runtime::{Model, SessionOptions};
    ///
    /// # let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/gpt2/model.gguf");
    /// let model = Model::open(path)?;
    /// let options = SessionOptions::default().with_context(64).with_logits(64);
    /// // No logits, and no time or memory for them.
    /// let mut session = model.session(&options.with_outputs(Outputs::Hidden))?;
    /// session.eval(&[1, 2, 3], LogitsFor::All)?;
    /// let width = model.spec().width as usize;
    /// assert_eq!(session.hidden().map(<[f32]>::len), Some(3 * width));
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn hidden(&self) -> Option<&[f32]> {
        let width = self.model.spec().width as usize;
        let rows = || &self.runner.hidden(self.rows.end)[self.rows.start * width..];
        self.options.outputs.hidden().then(rows)
    }

    /// Forgets the outputs of the last step.
    fn forget_outputs(&mut self) {
        (self.logits, self.rows) = (0..0, 0..0);
    }

    /// Goes back to the end of the text, if guesses were computed beyond it.
    fn forget_guesses(&mut self) {
        if core::mem::take(&mut self.ahead) > 0 {
            self.logits = 0..0;
            let to = self.checkpoints.go_back(&mut self.runner, self.done);
            (self.done, self.again) = (to, self.done - to);
        }
    }

    /// Computes what is pending, and guesses beyond it, for one token to be chosen after another.
    fn advance_ahead(&mut self) -> Result<(), SessionError> {
        let (end, pending) = (self.tokens.len(), self.tokens.len() - self.done);
        let rows = self.runner.plan().options.logits.min(self.batch());
        let room = (self.context() - end).min(rows.saturating_sub(pending)).min(MOST_GUESSES);
        // After a prompt the states are saved, which needs a step that ends there.
        let goes_on = pending <= 1 + self.again && pending <= MOST_GUESSES;
        let Some(speculator) = self.speculator.as_mut().filter(|_| goes_on) else {
            return self.advance(LogitsFor::Last).map(|_| ());
        };
        let guesses = match &mut self.draft {
            None => speculator.guess(&self.tokens, pending, room),
            Some(draft) => draft.guess(&self.tokens, pending, room, speculator),
        };
        let n = guesses.len();
        self.tokens.extend_from_slice(guesses);
        let logits = if n == 0 { LogitsFor::Last } else { LogitsFor::All };
        let timer = Timer::start();
        let computed = self.step(self.done..end + n, logits);
        self.tokens.truncate(end);
        let rows = computed?;
        if let Some(speculator) = &mut self.speculator {
            speculator.computed(pending + n, timer.elapsed());
        }
        (self.done, self.ahead, self.logits) = (end, n, rows - 1 - n..rows);
        self.rows = self.logits.start..self.logits.start + 1;
        Ok(())
    }

    /// Goes on by the token that was chosen from the first of the rows of logits that are left.
    fn go_on(&mut self, token: u32) -> Result<(), SessionError> {
        let row = self.logits.start;
        if let Some(speculator) = &mut self.speculator
            && speculator.chosen(token)
            && self.ahead > 0
        {
            speculator.saved();
            self.tokens.push(token);
            (self.done, self.ahead) = (self.done + 1, self.ahead - 1);
            (self.logits.start, self.rows) = (row + 1, row + 1..row + 2);
            return Ok(());
        }
        self.logits = 0..0;
        self.push(&[token])
    }

    /// Appends tokens and computes them: [`Session::push`], then [`Session::advance`].
    ///
    /// # Errors
    /// Those of [`Session::push`] and [`Session::advance`].
    pub fn eval(&mut self, tokens: &[u32], logits: LogitsFor) -> Result<&[f32], SessionError> {
        self.push(tokens)?;
        self.advance(logits)
    }

    /// Computes one step on the whole crew and returns the rows of logits.
    fn step(
        &mut self,
        range: core::ops::Range<usize>,
        logits: LogitsFor,
    ) -> Result<usize, SessionError> {
        self.forget_outputs();
        self.again = 0;
        let segments = [Segment { sequence: SEQUENCE, tokens: &self.tokens[range], logits }];
        run_step(&mut self.runner, &mut self.crew, &segments, &self.stop)
    }

    /// Truncates the text to its first `len` tokens; nothing changes if there are fewer.
    ///
    /// Layers with a window or a recurrent state may no longer have the state at that position. The
    /// session then goes back to the last earlier state that it has ([`Session::checkpoints`], or
    /// the start), and the next [`Session::advance`] recomputes the tokens in between, with the
    /// same bits. [`Session::computed`] tells how far it went back.
    pub fn truncate(&mut self, len: usize) {
        if len >= self.tokens.len() {
            return;
        }
        self.forget_guesses();
        self.tokens.truncate(len);
        self.checkpoints.forget_beyond(len);
        if self.done > len {
            self.forget_outputs();
            self.done = self.checkpoints.go_back(&mut self.runner, len);
        }
    }

    /// Saves the states of the present position, so that the text can be truncated to it without
    /// recomputing. The end of each prompt is saved automatically; beyond
    /// [`SessionOptions::checkpoints`], the oldest is discarded.
    ///
    /// Returns false if the session has room for none, or if all layers of the model can be
    /// truncated anyway.
    pub fn checkpoint(&mut self) -> bool {
        self.forget_guesses();
        self.done > 0 && self.checkpoints.save(&self.runner)
    }

    /// Positions of the checkpoints, in no particular order.
    pub fn checkpoints(&self) -> impl Iterator<Item = usize> + '_ {
        self.checkpoints.positions()
    }

    /// Marks the last token as still to be computed, because its logits are needed again.
    fn compute_last_again(&mut self) {
        self.forget_guesses();
        self.forget_outputs();
        if let Some(last) = self.done.checked_sub(1) {
            self.done = self.checkpoints.go_back(&mut self.runner, last);
        }
    }

    /// Number of guesses so far, of those that [`SessionOptions::speculation`] asks for.
    #[must_use]
    pub fn speculation_stats(&self) -> SpeculationStats {
        self.speculator.as_ref().map_or_else(SpeculationStats::default, |s| s.stats)
    }

    /// Creates a session with the same options that continues the same text independently.
    ///
    /// Both take turns on the same threads: a step of one waits for the end of a step of the other,
    /// in which it can be cancelled as while it runs. Forking itself waits for none; it copies the
    /// text's cache.
    ///
    /// # Errors
    /// As [`Model::session`].
    pub fn fork(&mut self) -> Result<Session<'m>, SessionError> {
        self.forget_guesses();
        let crew = self.crew.share();
        let draft = self.draft.as_ref().map(|draft| draft.model.clone());
        let builder = SessionBuilder::new(self.model.clone(), &self.options).with_draft(draft);
        let mut fork = builder.session_backend(*self.runner.backend()).build_on(crew)?;
        let copied = fork.runner.copy_from(SEQUENCE, &self.runner, SEQUENCE);
        copied.map_err(SessionError::Restore)?;
        fork.tokens.extend_from_slice(&self.tokens);
        fork.done = self.done;
        fork.fewer = self.fewer;
        fork.checkpoints.copy_from(&self.checkpoints);
        Ok(fork)
    }
}
