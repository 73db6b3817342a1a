//! Text generation: sample a token, append it, compute, and repeat.

use teff_graph::{LogitsFor, StepError};
use teff_kernels::Cpu;

use super::{Session, SessionError};
use crate::sample::{Sampler, Sampling};
use crate::tokenizer::{Specials, Tokenizer, Utf8Stream};

/// Options of generating text.
///
/// ```
/// use teff_runtime::Generate;
/// use teff_runtime::sample::Sampling;
///
/// let generate = Generate::default().with_sampling(Sampling::greedy()).with_max_tokens(64);
/// assert_eq!(generate.max_tokens, Some(64));
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Generate {
    /// Sampling parameters.
    pub sampling: Sampling,
    /// Maximum number of tokens; `None` to continue until the model ends the text or the context is
    /// full.
    pub max_tokens: Option<usize>,
    /// Continue after the model ends the text.
    pub ignore_eos: bool,
}

impl Generate {
    /// Sets [`sampling`](Self::sampling).
    #[must_use]
    pub const fn with_sampling(self, sampling: Sampling) -> Self {
        Generate { sampling, ..self }
    }

    /// Sets [`max_tokens`](Self::max_tokens).
    #[must_use]
    pub const fn with_max_tokens(self, max_tokens: usize) -> Self {
        Generate { max_tokens: Some(max_tokens), ..self }
    }

    /// Sets [`ignore_eos`](Self::ignore_eos).
    #[must_use]
    pub const fn with_ignore_eos(self, ignore_eos: bool) -> Self {
        Generate { ignore_eos, ..self }
    }
}

/// Reason why a generation ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Finish {
    /// The maximum number of tokens was reached.
    Length,
    /// The model ended the text with this token.
    Stop(u32),
    /// The context is full.
    ContextFull,
}

/// Text generation in progress, which returns pieces of whole characters as they are computed.
///
/// [`Generation::next_piece`] allocates nothing after the first call; as an iterator it returns
/// owned strings. After [`StepError::Cancelled`] (and [`super::StopHandle::resume`]) it can be
/// continued.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use teff_runtime::{Finish, Generate, Model, SessionOptions};
///
/// # let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/gpt2/model.gguf");
/// let model = Model::open(path)?;
/// let mut session = model.session(&SessionOptions::default().with_context(64))?;
/// let mut story = session.generate("Once upon a time", &Generate::default().with_max_tokens(8))?;
/// while let Some(piece) = story.next_piece()? {
///     print!("{piece}");
/// }
/// assert_eq!((story.finish(), story.generated()), (Some(Finish::Length), 8));
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Generation<'s, 'm> {
    session: &'s mut Session<'m>,
    tokenizer: &'m Tokenizer,
    sampler: Sampler,
    utf8: Utf8Stream,
    piece: String,
    left: Option<usize>,
    ignore_eos: bool,
    generated: usize,
    finish: Option<Finish>,
}

impl<'m> Session<'m> {
    /// Tokenizer of the model.
    ///
    /// # Errors
    /// [`SessionError::NoTokenizer`].
    pub fn tokenizer(&self) -> Result<&'m Tokenizer, SessionError> {
        self.model.tokenizer().map_err(|e| SessionError::NoTokenizer(e.to_string()))
    }

    /// Appends `prompt` to the text (after the BOS token, if the text is empty and the model wants
    /// one) and continues it.
    ///
    /// # Errors
    /// [`SessionError`] for invalid sampling parameters, a missing tokenizer, or a prompt that the
    /// context has no room for. The text is unchanged in that case.
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
        let tokenizer = self.tokenizer()?;
        let sampler = Sampler::new(options.sampling, self.model.spec().vocab as usize)?
            .with_backend(self.runner.backend().own().unwrap_or_else(Cpu::best));
        self.push(tokens)?;
        if self.tokens.is_empty() {
            return Err(SessionError::EmptyPrompt);
        }
        if self.done == self.tokens.len() && self.logits == 0 {
            // There is nothing new, but logits are needed: computing the last token again gives the
            // same ones.
            self.compute_last_again();
        }
        let longest = (0..tokenizer.vocab_size())
            .filter_map(|id| tokenizer.token_bytes(id as u32))
            .map(<[u8]>::len)
            .max()
            .unwrap_or(0);
        Ok(Generation {
            session: self,
            tokenizer,
            sampler,
            utf8: Utf8Stream::new(),
            // Every byte that isn't text becomes U+FFFD, three bytes; up to three bytes may be held
            // back.
            piece: String::with_capacity(3 * (longest + 3)),
            left: options.max_tokens,
            ignore_eos: options.ignore_eos,
            generated: 0,
            finish: None,
        })
    }
}

impl<'m> Generation<'_, 'm> {
    /// Computes the next piece of text, at least one character; `None` at the end.
    ///
    /// # Errors
    /// [`SessionError::Step`] and [`SessionError::Sample`]. Nothing is lost: all text computed so
    /// far has been returned, and the next call tries again.
    pub fn next_piece(&mut self) -> Result<Option<&str>, SessionError> {
        self.piece.clear();
        while self.piece.is_empty() {
            if self.finish.is_some() {
                self.piece.push_str(self.utf8.finish());
                break;
            }
            self.next_token()?;
        }
        Ok(if self.piece.is_empty() { None } else { Some(&self.piece) })
    }

    /// Computes all pending tokens and samples one.
    fn next_token(&mut self) -> Result<(), SessionError> {
        if self.left == Some(0) {
            self.finish = Some(Finish::Length);
            return Ok(());
        }
        let session = &mut *self.session;
        if session.done == session.tokens.len() && session.logits == 0 {
            // The last token found no room.
            self.finish = Some(Finish::ContextFull);
            return Ok(());
        }
        if session.done < session.tokens.len() {
            session.advance(LogitsFor::Last)?;
        }
        // They are kept until a token is sampled: if that fails, the next call tries again.
        let rows = session.logits;
        let vocab = session.model.spec().vocab as usize;
        let logits = &session.runner.logits(rows)[(rows - 1) * vocab..];
        let token = self.sampler.sample(logits, &session.tokens)?;
        session.logits = 0;
        self.left = self.left.map(|n| n - 1);
        if self.tokenizer.is_end(token) && !self.ignore_eos {
            self.finish = Some(Finish::Stop(token));
            return Ok(());
        }
        self.generated += 1;
        if let Some(bytes) = self.tokenizer.token_bytes(token) {
            for part in self.utf8.push(bytes) {
                self.piece.push_str(part);
            }
        }
        match session.push(&[token]) {
            Err(SessionError::Step(StepError::ContextFull { .. })) => {
                self.finish = Some(Finish::ContextFull);
                Ok(())
            }
            other => other,
        }
    }

    /// Reason why it ended; `None` while it continues.
    #[must_use]
    pub fn finish(&self) -> Option<Finish> {
        self.finish
    }

    /// Number of tokens generated so far.
    #[must_use]
    pub fn generated(&self) -> usize {
        self.generated
    }

    /// The session that is used.
    #[must_use]
    pub fn session(&self) -> &Session<'m> {
        self.session
    }
}

impl Iterator for Generation<'_, '_> {
    type Item = Result<String, SessionError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_piece().map(|p| p.map(str::to_owned)).transpose()
    }
}
