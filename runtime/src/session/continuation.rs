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
    /// The logits of these tokens before.
    unbiased: Vec<f32>,
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
        let longest = tokenizer.longest_token();
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
            unbiased: Vec::with_capacity(options.logit_bias.len()),
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
        // A failure is kept for the first token.
        let complete = masked.is_complete().unwrap_or(false);
        (self.constraint, self.constrained) = (Some(masked), true);
        if complete {
            self.end(Finish::Complete);
        }
        Ok(())
    }

    /// Lends the constraint if its set of tokens is still to be computed, so that [`Masked::compute`] can run
    /// on another thread. Until [`Continuation::put_constraint`] no token can be chosen.
    pub(crate) fn take_constraint(&mut self) -> Option<Masked> {
        self.constraint.take_if(|constraint| constraint.is_due())
    }

    /// Takes back what [`Continuation::take_constraint`] lent.
    pub(crate) fn put_constraint(&mut self, constraint: Masked) {
        self.constraint = Some(constraint);
    }

    /// True if there is a constraint.
    pub(crate) fn is_constrained(&self) -> bool {
        self.constrained
    }

    /// True while the constraint is lent.
    pub(crate) fn has_lent_constraint(&self) -> bool {
        self.constrained && self.constraint.is_none()
    }

    /// Keeps the logits of the next token for [`Continuation::next_of_held`], in memory that texts under a
    /// constraint have.
    ///
    /// # Errors
    /// [`SampleError::Length`].
    pub(crate) fn hold(&mut self, logits: &[f32]) -> Result<(), SessionError> {
        if logits.len() != self.vocab {
            return Err(SampleError::Length { expected: self.vocab, got: logits.len() }.into());
        }
        if self.edited.is_empty() {
            self.edit_logits()?;
        }
        self.edited.copy_from_slice(logits);
        Ok(())
    }

    /// [`Continuation::next`] of the logits that [`Continuation::hold`] has kept.
    ///
    /// # Errors
    /// As there, but that there is no other try.
    pub(crate) fn next_of_held(
        &mut self,
        history: &[u32],
        tokenizer: Option<&Tokenizer>,
    ) -> Result<Option<u32>, SessionError> {
        if self.finish.is_some() {
            return Ok(None);
        }
        if let Some(logprobs) = &mut self.logprobs {
            logprobs.read(&self.edited)?;
        }
        self.edit(history, None)?;
        let token = self.sampler.sample(&self.edited, history)?;
        // The constraint leaves the logits of what can be chosen as they are.
        let biased = self.bias.iter().zip(&self.unbiased).find(|((t, _), _)| *t == token);
        let logit = biased.map_or(self.edited[token as usize], |(_, logit)| *logit);
        self.go_on(token, logit, tokenizer)
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
            self.hold(logits)?;
            self.edit(history, hook)?;
        }
        let from = if edits { &self.edited } else { logits };
        let token = self.sampler.sample(from, history)?;
        self.go_on(token, logits[token as usize], tokenizer)
    }

    /// Goes on by a token that was chosen, of which the model's logit is `logit`.
    fn go_on(
        &mut self,
        token: u32,
        logit: f32,
        tokenizer: Option<&Tokenizer>,
    ) -> Result<Option<u32>, SessionError> {
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
            logprobs.choose(token, logit);
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

    /// Changes the copy of the logits.
    fn edit(&mut self, history: &[u32], hook: Option<Hook<'_>>) -> Result<(), SessionError> {
        self.unbiased.clear();
        for &(token, bias) in &self.bias {
            let logit = &mut self.edited[token as usize];
            self.unbiased.push(*logit);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::Sampling;

    fn model() -> Model {
        Model::open(concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/gpt2/model.gguf")).unwrap()
    }

    /// The token with these bytes.
    fn token(model: &Model, bytes: &[u8]) -> u32 {
        let tokenizer = model.tokenizer().unwrap();
        let mut ids = 0..tokenizer.vocab_size() as u32;
        ids.find(|id| tokenizer.token_bytes(*id) == Some(bytes)).unwrap()
    }

    fn continuation(model: &Model, how: &Generate) -> Continuation {
        Continuation::new(how, model, Cpu::best(), 64, None).unwrap()
    }

    /// Goes on by this token, which the logits leave no choice of.
    fn go(text: &mut Continuation, model: &Model, token: u32) -> Result<Option<u32>, SessionError> {
        let mut logits = vec![f32::NEG_INFINITY; text.vocab];
        logits[token as usize] = 0.0;
        text.next(&logits, &[], model.tokenizer().ok(), None)
    }

    /// Tokens from a first one on, each once and in order, of which `len` may come.
    #[derive(Clone)]
    struct Counting {
        next: u32,
        len: u32,
        masks: usize,
    }

    impl Constraint for Counting {
        fn mask(&mut self, allowed: &mut [u32]) -> Result<(), ConstraintError> {
            self.masks += 1;
            assert_eq!(self.masks, 1, "the set is computed once for each token");
            allowed.fill(0);
            allowed[self.next as usize / 32] |= 1 << (self.next % 32);
            Ok(())
        }

        fn accept(&mut self, token: u32) -> Result<(), ConstraintError> {
            assert_eq!(token, self.next);
            (self.next, self.len, self.masks) = (self.next + 1, self.len - 1, 0);
            Ok(())
        }

        fn is_complete(&mut self) -> bool {
            self.len == 0
        }

        fn fork(&self) -> Box<dyn Constraint> {
            Box::new(self.clone())
        }
    }

    /// Tokens from 300 to 319.
    struct AnyOf;

    impl Constraint for AnyOf {
        fn mask(&mut self, allowed: &mut [u32]) -> Result<(), ConstraintError> {
            allowed.fill(0);
            (300..320).for_each(|t| allowed[t / 32] |= 1 << (t % 32));
            Ok(())
        }

        fn accept(&mut self, _: u32) -> Result<(), ConstraintError> {
            Ok(())
        }

        fn is_complete(&mut self) -> bool {
            false
        }

        fn fork(&self) -> Box<dyn Constraint> {
            Box::new(AnyOf)
        }
    }

    /// Whatever ends a text, what was held back appears; but not after a stop string.
    #[test]
    fn every_end_is_known_at_once_and_has_the_text_that_was_held_back() {
        let model = model();
        let [e, n, d, z, half] =
            [&b"e"[..], b"n", b"d", b"z", b"\xc3"].map(|bytes| token(&model, bytes));
        let how = Generate::default().with_stop("end").with_stop_token(z);
        let held = |how: &Generate| {
            let mut text = continuation(&model, how);
            for token in [e, n] {
                assert_eq!(go(&mut text, &model, token).unwrap(), Some(token));
            }
            text
        };

        let mut text = held(&how);
        assert_eq!((text.text(), text.held_back(), text.finish()), ("", "en", None));
        assert_eq!(go(&mut text, &model, d).unwrap(), Some(d));
        assert_eq!((text.text(), text.finish()), ("", Some(Finish::StopString(0))));
        assert_eq!((text.tokens(), text.held_back()), (&[e, n, d][..], ""));

        let mut text = held(&how);
        assert_eq!(go(&mut text, &model, z).unwrap(), None);
        assert_eq!((text.text(), text.finish()), ("en", Some(Finish::Stop(z))));
        assert_eq!((text.tokens(), text.generated()), (&[e, n][..], 2));
        // Nothing follows.
        assert_eq!(go(&mut text, &model, e).unwrap(), None);
        assert_eq!((text.text(), text.generated()), ("en", 2));

        let text = held(&how.clone().with_max_tokens(2));
        assert_eq!((text.text(), text.finish()), ("en", Some(Finish::Length)));

        for finish in [Finish::ContextFull, Finish::Cancelled, Finish::Deadline] {
            let mut text = held(&how);
            assert_eq!(go(&mut text, &model, half).unwrap(), Some(half));
            assert_eq!(text.text(), "");
            text.end(finish);
            assert_eq!((text.text(), text.finish()), ("en\u{fffd}", Some(finish)));
            text.end(Finish::Length);
            assert_eq!((text.text(), text.finish()), ("en\u{fffd}", Some(finish)));
        }

        // The character that half a character becomes may complete a stop string.
        let mut text = continuation(&model, &how.with_stop("n\u{fffd}").with_max_tokens(3));
        for token in [e, n, half] {
            go(&mut text, &model, token).unwrap();
        }
        assert_eq!((text.text(), text.finish()), ("e", Some(Finish::StopString(1))));

        let nothing = continuation(&model, &Generate::default().with_max_tokens(0));
        assert_eq!(nothing.finish(), Some(Finish::Length));
    }

    #[test]
    fn a_complete_constraint_ends_the_text_with_what_was_held_back() {
        let model = model();
        let e = token(&model, b"e");
        let counting = Counting { next: e, len: 2, masks: 0 };
        let held = model.tokenizer().unwrap().token_bytes(e + 1).unwrap().to_vec();
        let stop = format!("e{}~", String::from_utf8(held).unwrap());
        let mut text =
            continuation(&model, &Generate::default().with_stop(&stop).with_max_tokens(2));
        text.constrain(counting.fork()).unwrap();
        let logits = vec![0.0; text.vocab];
        for token in [e, e + 1] {
            assert_eq!(text.next(&logits, &[], model.tokenizer().ok(), None).unwrap(), Some(token));
        }
        // Though the number of tokens has been reached, too.
        assert_eq!(text.finish(), Some(Finish::Complete));
        assert_eq!(text.text(), stop.trim_end_matches('~'));

        let mut complete = continuation(&model, &Generate::default());
        complete.constrain(Box::new(Counting { len: 0, ..counting })).unwrap();
        assert_eq!(complete.finish(), Some(Finish::Complete));
    }

    /// A text whose logits are held until its set of tokens is there is the same, log probabilities and all.
    #[test]
    fn held_logits_give_what_logits_give() {
        let model = model();
        let how = Generate::default().with_logprobs(2).with_logit_bias(303, 1.0);
        let how = how.with_sampling(Sampling { temperature: 1.0, ..Sampling::default() });
        let how = (300..310).fold(how, |how, t| how.with_logit_bias(t, (t % 3) as f32));
        let [mut held, mut plain] = [(), ()].map(|()| {
            let mut text = continuation(&model, &how);
            text.constrain(Box::new(AnyOf)).unwrap();
            text
        });
        let mut seen = std::collections::BTreeSet::new();
        for step in 0..100 {
            let logits: Vec<f32> =
                (0..held.vocab).map(|t| ((t * 31 + step * 17) % 101) as f32 / 50.0).collect();
            let mut constraint = held.take_constraint().unwrap();
            assert!(held.take_constraint().is_none() && held.has_lent_constraint());
            held.hold(&logits).unwrap();
            constraint.compute();
            held.put_constraint(constraint);
            assert!(held.take_constraint().is_none() && !held.has_lent_constraint());
            let token = held.next_of_held(&[], None).unwrap();
            assert_eq!(token, plain.next(&logits, &[], None, None).unwrap());
            assert_eq!(format!("{:?}", held.logprobs()), format!("{:?}", plain.logprobs()));
            seen.extend(token);
            held.clear_piece();
            plain.clear_piece();
        }
        assert!(seen.len() > 5, "{seen:?}");
    }

    #[test]
    fn nothing_is_chosen_while_the_constraint_is_elsewhere() {
        let model = model();
        let mut text = continuation(&model, &Generate::default());
        text.constrain(Box::new(Counting { next: 300, len: 3, masks: 0 })).unwrap();
        let logits = vec![0.0; text.vocab];
        for token in 300..303 {
            let mut constraint = text.take_constraint().unwrap();
            let e = text.next(&logits, &[], None, None).unwrap_err();
            assert!(matches!(e, SessionError::Constraint(_)), "{e}");
            let constraint = std::thread::spawn(move || {
                constraint.compute();
                constraint
            });
            text.put_constraint(constraint.join().unwrap());
            // The model's logits make no sense once: the set is still there the next time.
            let nan = vec![f32::NAN; text.vocab];
            assert!(matches!(
                text.next(&nan, &[], None, None),
                Err(SessionError::Sample(SampleError::NotANumber { index: 0 }))
            ));
            assert_eq!(text.next(&logits, &[], None, None).unwrap(), Some(token));
        }
        assert_eq!(text.finish(), Some(Finish::Complete));
    }

    #[test]
    fn choices_are_the_texts_of_the_next_seeds() {
        let model = model();
        let sampling = Sampling { top_k: 0, top_p: 1.0, min_p: 0.0, ..Sampling::default() };
        let how = |seed| Generate::default().with_sampling(sampling.with_seed(seed));
        let tokens = |mut text: Continuation| -> Vec<u32> {
            let logits = vec![0.0; text.vocab];
            (0..8).map(|_| text.next(&logits, &[], None, None).unwrap().unwrap()).collect()
        };
        let of_seed = |seed| tokens(continuation(&model, &how(seed)));
        for choice in 0..3 {
            let got = tokens(continuation(&model, &how(u64::MAX)).with_choice(choice));
            assert_eq!(got, of_seed(u64::MAX.wrapping_add(choice as u64)));
        }
        assert_ne!(of_seed(0), of_seed(1));
    }

    #[test]
    fn logits_of_another_vocabulary_are_refused() {
        let model = model();
        let mut text = continuation(&model, &Generate::default().with_logit_bias(1, 1.0));
        let expected = text.vocab;
        for got in [0, expected - 1, expected + 1] {
            let e = text.next(&vec![0.0; got], &[], None, None).unwrap_err();
            let SessionError::Sample(e) = e else { panic!("{e}") };
            assert_eq!(e, SampleError::Length { expected, got });
        }
    }
}
