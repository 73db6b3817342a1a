//! Text generation: sample a token, append it, compute, and repeat.

use core::fmt;

use teff_graph::StepError;
use teff_kernels::Cpu;

use super::continuation::{Continuation, Hook};
use super::piece::Piece;
use super::{Session, SessionError};
use crate::engine::Constraint;
use crate::sample::{Sampling, TokenLogprobs};
use crate::tokenizer::Specials;

/// Options of generating text.
///
/// ```
/// use teff_runtime::Generate;
/// use teff_runtime::sample::Sampling;
///
/// let generate = Generate::default()
///     .with_sampling(Sampling::greedy())
///     .with_max_tokens(64)
///     .with_stop("\n\n")
///     .with_logit_bias(50256, f32::NEG_INFINITY);
/// assert_eq!((generate.max_tokens, generate.stop.len()), (Some(64), 1));
/// ```
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Generate {
    /// Sampling parameters.
    pub sampling: Sampling,
    /// Maximum number of tokens; `None` to continue until the model ends the text or the context is
    /// full.
    pub max_tokens: Option<usize>,
    /// Continue after the model ends the text.
    pub ignore_eos: bool,
    /// Texts that end the generation; none of them may be empty.
    ///
    /// The first that is completed ends it; of those completed by the same character, the longest.
    /// It is not among the pieces, and text that may be the beginning of one is held back until that
    /// is known. Only generated text is searched, not the prompt. The session's text keeps the tokens
    /// of a stop string, of which the last may have further text.
    pub stop: Vec<String>,
    /// Tokens that end the generation besides those of the model, even with
    /// [`ignore_eos`](Self::ignore_eos). They are not among the pieces.
    pub stop_tokens: Vec<u32>,
    /// Numbers added to the logits of tokens, before the hook and before sampling. Negative infinity
    /// makes a token impossible. Several for one token are all added, in this order.
    pub logit_bias: Vec<(u32, f32)>,
    /// Log probabilities of the generated tokens in the model's own distribution
    /// ([`LogSoftmax`](crate::sample::LogSoftmax)), and of this many most likely tokens beside each;
    /// `None` for none, `Some(0)` for those of the generated tokens alone.
    pub logprobs: Option<usize>,
}

impl Generate {
    /// Sets [`sampling`](Self::sampling).
    #[must_use]
    pub fn with_sampling(self, sampling: Sampling) -> Self {
        Generate { sampling, ..self }
    }

    /// Sets [`max_tokens`](Self::max_tokens).
    #[must_use]
    pub fn with_max_tokens(self, max_tokens: usize) -> Self {
        Generate { max_tokens: Some(max_tokens), ..self }
    }

    /// Sets [`ignore_eos`](Self::ignore_eos).
    #[must_use]
    pub fn with_ignore_eos(self, ignore_eos: bool) -> Self {
        Generate { ignore_eos, ..self }
    }

    /// Adds a [stop string](Self::stop).
    #[must_use]
    pub fn with_stop(mut self, stop: impl Into<String>) -> Self {
        self.stop.push(stop.into());
        self
    }

    /// Adds a [stop token](Self::stop_tokens).
    #[must_use]
    pub fn with_stop_token(mut self, token: u32) -> Self {
        self.stop_tokens.push(token);
        self
    }

    /// Adds a [bias](Self::logit_bias) to the logit of a token.
    #[must_use]
    pub fn with_logit_bias(mut self, token: u32, bias: f32) -> Self {
        self.logit_bias.push((token, bias));
        self
    }

    /// Sets [`logprobs`](Self::logprobs).
    #[must_use]
    pub fn with_logprobs(self, top: usize) -> Self {
        Generate { logprobs: Some(top), ..self }
    }

    /// Checks stop strings, stop tokens and biases for a vocabulary of this size.
    pub(crate) fn validate(&self, vocab: u32) -> Result<(), SessionError> {
        if let Some(index) = self.stop.iter().position(String::is_empty) {
            return Err(SessionError::EmptyStop { index });
        }
        if let Some(&token) = self.stop_tokens.iter().find(|&&token| token >= vocab) {
            return Err(SessionError::StopToken { token, vocab });
        }
        let wrong = |&&(token, bias): &&(u32, f32)| {
            token >= vocab || bias.is_nan() || bias == f32::INFINITY
        };
        match self.logit_bias.iter().find(wrong) {
            Some(&(token, bias)) => Err(SessionError::LogitBias { token, bias, vocab }),
            None => Ok(()),
        }
    }
}

/// Reason why a generation ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Finish {
    /// The maximum number of tokens was reached.
    Length,
    /// The text ended with this token, one of the model's or of [`Generate::stop_tokens`].
    Stop(u32),
    /// The text came to the stop string with this index in [`Generate::stop`].
    StopString(usize),
    /// The context is full.
    ContextFull,
    /// The last step was cancelled ([`StopHandle`](super::StopHandle)). After
    /// [`StopHandle::resume`](super::StopHandle::resume), the next call continues.
    Cancelled,
    /// The constraint ([`Constraint`]) is complete: nothing may follow.
    Complete,
    /// The deadline of the request has passed ([`Request::deadline`](crate::engine::Request)).
    Deadline,
}

/// Hook of a generation that has none.
pub type NoHook = fn(&[u32], &mut [f32]);

/// Text generation in progress, which returns pieces of whole characters as they are computed.
///
/// [`Generation::next_piece`] allocates nothing after the first call; as an iterator it returns
/// owned [`Piece`]s. After [`StepError::Cancelled`] (and [`super::StopHandle::resume`]) it can be
/// continued.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use teff_runtime::{Finish, Generate, Model, SessionOptions};
///
/// # let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/gpt2/model.gguf");
/// let model = Model::open(path)?;
/// let mut session = model.session(&SessionOptions::default().with_context(64))?;
/// let how = Generate::default().with_max_tokens(8).with_stop("THE END");
/// let mut story = session.generate("Once upon a time", &how)?;
/// while let Some(piece) = story.next_piece()? {
///     print!("{piece}");
/// }
/// assert_eq!((story.finish(), story.generated()), (Some(Finish::Length), 8));
/// # Ok(()) }
/// ```
pub struct Generation<'s, 'm, H = NoHook> {
    session: &'s mut Session<'m>,
    continuation: Continuation,
    hook: Option<H>,
    /// The piece was returned, so that the next call begins another.
    returned: bool,
    cancelled: bool,
}

impl<H> fmt::Debug for Generation<'_, '_, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Generation")
            .field("session", &self.session)
            .field("continuation", &self.continuation)
            .field("finish", &self.finish())
            .finish_non_exhaustive()
    }
}

impl<'m> Session<'m> {
    /// Appends `prompt` to the text (after the BOS token, if the text is empty and the model wants
    /// one) and continues it.
    ///
    /// # Errors
    /// [`SessionError`] for options out of range, a missing tokenizer, or a prompt that the context
    /// has no room for. The text is unchanged in that case.
    pub fn generate<'s>(
        &'s mut self,
        prompt: &str,
        options: &Generate,
    ) -> Result<Generation<'s, 'm>, SessionError> {
        let tokenizer = self.tokenizer()?;
        let mut tokens = Vec::new();
        let begins = self.tokens.is_empty();
        if begins && tokenizer.add_bos() {
            tokens.extend(tokenizer.bos());
        }
        tokens.extend(tokenizer.encode(prompt, Specials::Ignore)?);
        if begins && tokens.is_empty() {
            tokens.push(tokenizer.bos().ok_or(SessionError::EmptyPrompt)?);
        }
        self.generate_ids(&tokens, options)
    }

    /// Appends tokens to the text and continues it, for prompts that a program assembles.
    ///
    /// # Errors
    /// As [`Session::generate`]; [`SessionError::EmptyPrompt`] if the text is still empty.
    pub fn generate_ids<'s>(
        &'s mut self,
        tokens: &[u32],
        options: &Generate,
    ) -> Result<Generation<'s, 'm>, SessionError> {
        if !self.options.outputs.logits() {
            return Err(SessionError::NoLogits);
        }
        let backend = self.runner.backend().own().unwrap_or_else(Cpu::best);
        let continuation = Continuation::new(options, &self.model, backend, self.context(), None)?;
        self.push(tokens)?;
        if self.tokens.is_empty() {
            return Err(SessionError::EmptyPrompt);
        }
        if self.done == self.tokens.len() && self.logits.is_empty() {
            // There is nothing new, but logits are needed: computing the last token again gives the
            // same ones.
            self.compute_last_again();
        }
        Ok(Generation {
            session: self,
            continuation,
            hook: None,
            returned: false,
            cancelled: false,
        })
    }
}

impl<'s, 'm, H> Generation<'s, 'm, H> {
    /// Sets a hook that may change the logits before a token is sampled, in place of an earlier
    /// one. It is called with all tokens of the text, prompt included, and the logits of the next
    /// one after [`Generate::logit_bias`]. Negative infinity makes a token impossible, as in a mask
    /// of a grammar. If sampling fails, the hook is called again with the same arguments.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use teff_runtime::sample::Sampling;
    /// use teff_runtime::{Generate, Model, SessionOptions};
    ///
    /// # let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/gpt2/model.gguf");
    /// let model = Model::open(path)?;
    /// let mut session = model.session(&SessionOptions::default().with_context(64))?;
    /// let how = Generate::default().with_sampling(Sampling::greedy()).with_max_tokens(4);
    /// // No token twice.
    /// let mut text = session.generate("One", &how)?.with_hook(|tokens, logits| {
    ///     for token in tokens {
    ///         logits[*token as usize] = f32::NEG_INFINITY;
    ///     }
    /// })?;
    /// while text.next_piece()?.is_some() {}
    /// let mut tokens = session.tokens().to_vec();
    /// tokens.sort_unstable();
    /// assert!(tokens.windows(2).all(|w| w[0] != w[1]));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`SessionError::Sampling`] if there is no memory for a copy of the logits.
    pub fn with_hook<F>(self, hook: F) -> Result<Generation<'s, 'm, F>, SessionError>
    where
        F: FnMut(&[u32], &mut [f32]),
    {
        let Generation { session, mut continuation, returned, cancelled, .. } = self;
        continuation.edit_logits()?;
        Ok(Generation { session, continuation, hook: Some(hook), returned, cancelled })
    }

    /// Sets a constraint on all further tokens, in place of an earlier one. Only tokens that it allows
    /// are chosen, whatever [`Generate::logit_bias`] and a hook make of their logits. It ends the text
    /// when it is complete ([`Finish::Complete`]), and so does a token that ends texts and that it
    /// allows, even with [`Generate::ignore_eos`]. If it fails, every further call of
    /// [`Generation::next_piece`] returns its error.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use teff_runtime::engine::{Constraint, ConstraintError};
    /// use teff_runtime::{Finish, Generate, Model, SessionOptions};
    ///
    /// /// These tokens, and no others.
    /// #[derive(Clone)]
    /// struct Exactly(Vec<u32>);
    ///
    /// impl Constraint for Exactly {
    ///     fn mask(&mut self, allowed: &mut [u32]) -> Result<(), ConstraintError> {
    ///         let next = *self.0.first().ok_or_else(|| ConstraintError::new("it is over"))?;
    ///         allowed.fill(0);
    ///         allowed[next as usize / 32] |= 1 << (next % 32);
    ///         Ok(())
    ///     }
    ///
    ///     fn accept(&mut self, _: u32) -> Result<(), ConstraintError> {
    ///         self.0.remove(0);
    ///         Ok(())
    ///     }
    ///
    ///     fn is_complete(&mut self) -> bool {
    ///         self.0.is_empty()
    ///     }
    ///
    ///     fn fork(&self) -> Box<dyn Constraint> {
    ///         Box::new(self.clone())
    ///     }
    /// }
    ///
    /// # let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/gpt2/model.gguf");
    /// let model = Model::open(path)?;
    /// let mut session = model.session(&SessionOptions::default().with_context(64))?;
    /// let text = session.generate("One", &Generate::default())?;
    /// let mut text = text.with_constraint(Box::new(Exactly(vec![300, 301])))?;
    /// while text.next_piece()?.is_some() {}
    /// assert_eq!(text.finish(), Some(Finish::Complete));
    /// assert!(session.tokens().ends_with(&[300, 301]));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`SessionError::Sampling`] if there is no memory for a copy of the logits.
    pub fn with_constraint(
        mut self,
        constraint: Box<dyn Constraint>,
    ) -> Result<Self, SessionError> {
        self.constrain(constraint)?;
        Ok(self)
    }

    /// [`with_constraint`](Self::with_constraint) in place.
    pub(crate) fn constrain(
        &mut self,
        constraint: Box<dyn Constraint>,
    ) -> Result<(), SessionError> {
        Ok(self.continuation.constrain(constraint)?)
    }

    /// Reason why it ended; `None` while it continues. It is known as soon as the last piece was
    /// returned.
    #[must_use]
    pub fn finish(&self) -> Option<Finish> {
        self.continuation.finish().or(self.cancelled.then_some(Finish::Cancelled))
    }

    /// Number of tokens generated so far.
    #[must_use]
    pub fn generated(&self) -> usize {
        self.continuation.generated()
    }

    /// Tokens generated for the last piece; see [`Piece::tokens`]. After the end, those since the
    /// last piece. A token that ends the text is not among them.
    #[must_use]
    pub fn tokens(&self) -> &[u32] {
        self.continuation.tokens()
    }

    /// Log probabilities of [`Generation::tokens`]; empty unless [`Generate::logprobs`] asks for
    /// them.
    #[must_use]
    pub fn logprobs(&self) -> &[TokenLogprobs] {
        self.continuation.logprobs()
    }

    /// Text that is held back because it may be the beginning of a stop string. It is returned later
    /// unless it is one.
    #[must_use]
    pub fn held_back(&self) -> &str {
        self.continuation.held_back()
    }

    /// The session that is used.
    #[must_use]
    pub fn session(&self) -> &Session<'m> {
        self.session
    }
}

impl<H: FnMut(&[u32], &mut [f32])> Generation<'_, '_, H> {
    /// Computes the next piece of text, at least one character; `None` at the end.
    ///
    /// # Errors
    /// [`SessionError::Step`] and [`SessionError::Sample`]. Nothing is lost: all text computed so
    /// far has been returned or is held back, and the next call tries again.
    pub fn next_piece(&mut self) -> Result<Option<&str>, SessionError> {
        if core::mem::take(&mut self.returned) {
            self.continuation.clear_piece();
        }
        self.cancelled = false;
        while self.continuation.text().is_empty() && self.continuation.finish().is_none() {
            if let Err(e) = self.next_token() {
                self.cancelled = matches!(e, SessionError::Step(StepError::Cancelled));
                return Err(e);
            }
        }
        self.returned = true;
        Ok(Some(self.continuation.text()).filter(|text| !text.is_empty()))
    }

    /// Computes all pending tokens and chooses one.
    fn next_token(&mut self) -> Result<(), SessionError> {
        let session = &mut *self.session;
        if session.done < session.tokens.len() {
            session.advance_ahead()?;
        }
        // They are kept until a token is chosen: if that fails, the next call tries again.
        let row = session.logits.start;
        let vocab = session.model.spec().vocab as usize;
        let logits = &session.runner.logits(row + 1)[row * vocab..];
        let hook = self.hook.as_mut().map(|hook| hook as Hook<'_>);
        let tokenizer = session.model.tokenizer().ok();
        let token = self.continuation.next(logits, &session.tokens, tokenizer, hook)?;
        let Some(token) = token else {
            session.logits = 0..0;
            return Ok(());
        };
        match session.go_on(token) {
            Err(SessionError::Step(StepError::ContextFull { .. })) => {
                self.continuation.end(Finish::ContextFull);
                Ok(())
            }
            other => other,
        }
    }
}

impl<H: FnMut(&[u32], &mut [f32])> Iterator for Generation<'_, '_, H> {
    type Item = Result<Piece, SessionError>;

    fn next(&mut self) -> Option<Self::Item> {
        let text = match self.next_piece() {
            Ok(text) => text.map(str::to_owned),
            Err(e) => return Some(Err(e)),
        };
        // At the end, there may be tokens of a stop string.
        if text.is_none() && self.tokens().is_empty() {
            return None;
        }
        let (tokens, logprobs) = (self.tokens().to_vec(), self.logprobs().to_vec());
        Some(Ok(Piece { text: text.unwrap_or_default(), tokens, logprobs }))
    }
}
