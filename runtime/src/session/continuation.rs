//! Continuation of a text: from logits to tokens, and from tokens to pieces of text.

use core::fmt;

use teff_kernels::Cpu;

use super::masked::Masked;
use super::piece::LogprobBuffer;
use super::stop_strings::StopStrings;
use super::{Finish, Generate, SessionError};
use crate::engine::{Constraint, ConstraintError};
use crate::model::Model;
use crate::sample::{SampleError, Sampler, SamplingError, TokenLogprobs};
use crate::tokenizer::{Tokenizer, Utf8Stream};

/// Hook that may change the logits of the token after a text.
pub(crate) type Hook<'h> = &'h mut dyn FnMut(&[u32], &mut [f32]);

/// Generated end of a text: it chooses tokens by the logits it is given, turns them into text, and
/// knows when the text ends. Sessions and engines compute the logits.
///
/// All memory is allocated when it is created, provided that [`Continuation::clear_piece`] is called
/// before the next token whenever the piece has text. (Only many tokens without any text, one after
/// another, take more.)
///
/// As soon as there is a reason to end, [`Continuation::finish`] tells it, and all text that was held
/// back has been appended to the piece.
pub(crate) struct Continuation {
    vocab: usize,
    sampler: Sampler,
    utf8: Utf8Stream,
    stop: StopStrings,
    stop_tokens: Vec<u32>,
    bias: Vec<(u32, f32)>,
    /// Copy of the logits, for biases, hook and constraint; empty without them.
    edited: Vec<f32>,
    /// True if there is a constraint, even while it is elsewhere ([`Continuation::take_constraint`]).
    constrained: bool,
    constraint: Option<Masked>,
    logprobs: Option<LogprobBuffer>,
    piece: String,
    /// Tokens generated since the last piece.
    tokens: Vec<u32>,
    left: Option<usize>,
    ignore_eos: bool,
    generated: usize,
    finish: Option<Finish>,
}

impl fmt::Debug for Continuation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Continuation")
            .field("sampler", &self.sampler)
            .field("constraint", &self.constraint)
            .field("generated", &self.generated)
            .field("finish", &self.finish)
            .finish_non_exhaustive()
    }
}

impl Continuation {
    /// Continuation of a text of `model`, of at most `context` tokens, by these options.
    ///
    /// # Errors
    /// [`SessionError`] for options out of range, a model without a tokenizer, and memory that the
    /// system refuses.
    pub(crate) fn new(
        options: &Generate,
        model: &Model,
        backend: Cpu,
        context: usize,
        constraint: Option<Box<dyn Constraint>>,
    ) -> Result<Self, SessionError> {
        options.validate(model.spec().vocab)?;
        let vocab = model.spec().vocab as usize;
        let tokenizer = model.tokenizer().map_err(|e| SessionError::NoTokenizer(e.to_string()))?;
        let longest = (0..tokenizer.vocab_size())
            .filter_map(|id| tokenizer.token_bytes(id as u32))
            .map(<[u8]>::len)
            .max()
            .unwrap_or(0);
        let sampler = Sampler::new(options.sampling, vocab)?.with_backend(backend);
        let stop = StopStrings::new(&options.stop);
        // Tokens of a piece: each has a byte of a character or of text that is held back.
        let most = (stop.longest() + 4).min(context);
        let top = |n: usize| LogprobBuffer::new(backend, n.min(vocab), most);
        let logprobs = options.logprobs.map(top).transpose()?;
        let mut continuation = Continuation {
            vocab,
            sampler,
            utf8: Utf8Stream::new(),
            // Every byte that isn't text becomes U+FFFD, three bytes; up to three bytes may be held
            // back, and the beginning of a stop string.
            piece: String::with_capacity(3 * (longest + 3) + stop.longest()),
            stop,
            stop_tokens: options.stop_tokens.clone(),
            bias: options.logit_bias.clone(),
            edited: Vec::new(),
            constrained: false,
            constraint: None,
            logprobs,
            tokens: Vec::with_capacity(most),
            left: options.max_tokens,
            ignore_eos: options.ignore_eos,
            generated: 0,
            finish: None,
        };
        if !options.logit_bias.is_empty() {
            continuation.edit_logits()?;
        }
        if let Some(constraint) = constraint {
            continuation.constrain(constraint)?;
        }
        if options.max_tokens == Some(0) {
            continuation.end(Finish::Length);
        }
        Ok(continuation)
    }

    /// Makes it choice `choice` of several: its random numbers are those of the seed plus `choice`.
    #[allow(dead_code)] // the engine's
    #[must_use]
    pub(crate) fn with_choice(mut self, choice: usize) -> Self {
        let seed = self.sampler.sampling().seed;
        self.sampler.reseed(seed.wrapping_add(choice as u64));
        self
    }

    /// Allocates the copy of the logits that a hook changes.
    pub(crate) fn edit_logits(&mut self) -> Result<(), SamplingError> {
        let bytes = self.vocab * size_of::<f32>();
        let more = self.vocab - self.edited.len();
        self.edited.try_reserve_exact(more).map_err(|_| SamplingError::Memory { bytes })?;
        self.edited.resize(self.vocab, 0.0);
        Ok(())
    }

    /// Sets the constraint on all further tokens, in place of an earlier one. The text ends at once
    /// if nothing may follow.
    pub(crate) fn constrain(
        &mut self,
        constraint: Box<dyn Constraint>,
    ) -> Result<(), SamplingError> {
        let mut masked = Masked::new(constraint, self.vocab)?;
        self.edit_logits()?;
        let complete = masked.is_complete();
        (self.constraint, self.constrained) = (Some(masked), true);
        if complete {
            self.end(Finish::Complete);
        }
        Ok(())
    }

    /// Lends the constraint, so that [`Masked::compute`] can run on another thread. Until
    /// [`Continuation::put_constraint`] no token can be chosen.
    #[allow(dead_code)] // the engine's
    pub(crate) fn take_constraint(&mut self) -> Option<Masked> {
        self.constraint.take()
    }

    /// Takes back what [`Continuation::take_constraint`] lent.
    #[allow(dead_code)] // the engine's
    pub(crate) fn put_constraint(&mut self, constraint: Masked) {
        self.constraint = Some(constraint);
    }

    /// Chooses the token after `history`, of which `logits` (one for each token of the vocabulary) are
    /// the model's, and appends its text to the piece. Returns the token if it is part of the text;
    /// `None` if it ended the text instead, or the text has ended before.
    ///
    /// Biases are added to the logits first, then `hook` is called, and then the constraint rules
    /// tokens out.
    ///
    /// # Errors
    /// [`SessionError::Sample`], after which another call tries again, with the same random numbers;
    /// and [`SessionError::Constraint`], which all further calls return too.
    pub(crate) fn next(
        &mut self,
        logits: &[f32],
        history: &[u32],
        tokenizer: Option<&Tokenizer>,
        hook: Option<Hook<'_>>,
    ) -> Result<Option<u32>, SessionError> {
        if self.finish.is_some() {
            return Ok(None);
        }
        if logits.len() != self.vocab {
            return Err(SampleError::Length { expected: self.vocab, got: logits.len() }.into());
        }
        if let Some(logprobs) = &mut self.logprobs {
            logprobs.read(logits)?;
        }
        let edits = !self.bias.is_empty() || hook.is_some() || self.constrained;
        if edits {
            self.edit(logits, history, hook)?;
        }
        let from = if edits { &self.edited } else { logits };
        let token = self.sampler.sample(from, history)?;
        // With a constraint a token that ends the text says that the text may end here.
        let ends_text = !self.ignore_eos || self.constrained;
        if tokenizer.is_some_and(|t| t.is_end(token)) && ends_text
            || self.stop_tokens.contains(&token)
        {
            self.end(Finish::Stop(token));
            return Ok(None);
        }
        let complete = match &mut self.constraint {
            Some(constraint) => constraint.accept(token)?,
            None => false,
        };
        if let Some(logprobs) = &mut self.logprobs {
            logprobs.choose(token, logits[token as usize]);
        }
        self.generated += 1;
        self.tokens.push(token);
        self.left = self.left.map(|n| n - 1);
        if let Some(bytes) = tokenizer.and_then(|t| t.token_bytes(token)) {
            for part in self.utf8.push(bytes) {
                if let Some(i) = append(&mut self.stop, part, &mut self.piece) {
                    self.finish = Some(Finish::StopString(i));
                    break;
                }
            }
        }
        if complete {
            self.end(Finish::Complete);
        } else if self.left == Some(0) {
            self.end(Finish::Length);
        }
        Ok(Some(token))
    }

    /// Copies the logits and changes the copy.
    fn edit(
        &mut self,
        logits: &[f32],
        history: &[u32],
        hook: Option<Hook<'_>>,
    ) -> Result<(), SessionError> {
        if self.edited.is_empty() {
            self.edit_logits()?;
        }
        self.edited.copy_from_slice(logits);
        for &(token, bias) in &self.bias {
            let logit = &mut self.edited[token as usize];
            if logit.is_finite() {
                // Not infinite, which would be a mistake of the model's.
                *logit = (*logit + bias).min(f32::MAX);
            }
        }
        if let Some(hook) = hook {
            hook(history, &mut self.edited);
        }
        match &mut self.constraint {
            Some(constraint) => constraint.apply(&mut self.edited),
            None if self.constrained => Err(ConstraintError::new("it is still at work").into()),
            None => Ok(()),
        }
    }

    /// Ends the text for this reason, unless it has ended before, and appends to the piece what was
    /// held back.
    pub(crate) fn end(&mut self, finish: Finish) {
        if self.finish.is_some() {
            return;
        }
        let rest = self.utf8.finish();
        // An incomplete character becomes U+FFFD, which may complete a stop string.
        self.finish = Some(match append(&mut self.stop, rest, &mut self.piece) {
            Some(i) => Finish::StopString(i),
            None => finish,
        });
        self.stop.finish(&mut self.piece);
    }

    /// Reason why the text has ended; `None` while it continues. It is known together with the last
    /// token.
    pub(crate) fn finish(&self) -> Option<Finish> {
        self.finish
    }

    /// Number of tokens generated so far.
    pub(crate) fn generated(&self) -> usize {
        self.generated
    }

    /// Text of the piece.
    pub(crate) fn text(&self) -> &str {
        &self.piece
    }

    /// Tokens of the piece. Their text may come in a later one.
    pub(crate) fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// Log probabilities of the piece's tokens; empty unless the options ask for them.
    pub(crate) fn logprobs(&self) -> &[TokenLogprobs] {
        self.logprobs.as_ref().map_or(&[], LogprobBuffer::as_slice)
    }

    /// Text that is held back because it may be the beginning of a stop string.
    pub(crate) fn held_back(&self) -> &str {
        self.stop.held()
    }

    /// Begins another piece.
    pub(crate) fn clear_piece(&mut self) {
        self.piece.clear();
        self.tokens.clear();
        if let Some(logprobs) = &mut self.logprobs {
            logprobs.clear();
        }
    }
}

/// Appends text to the piece, up to a stop string, whose index is returned.
fn append(stop: &mut StopStrings, text: &str, piece: &mut String) -> Option<usize> {
    if stop.is_empty() {
        piece.push_str(text);
        return None;
    }
    stop.push(text, piece)
}
