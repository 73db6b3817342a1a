//! Perplexity of a text.

use teff_graph::LogitsFor;

use super::{Session, SessionError};
use crate::sample::{LogSoftmax, exp};
use crate::tokenizer::Specials;

/// Perplexity of a text, and its standard error.
#[derive(Clone, Copy, PartialEq, Debug)]
#[non_exhaustive]
pub struct Perplexity {
    /// Perplexity: `exp(nll)`.
    pub perplexity: f64,
    /// Standard error of the perplexity: that of `nll`, the standard deviation of the tokens'
    /// negative log likelihoods by the square root of `scored - 1`, times `perplexity`.
    pub error: f64,
    /// Mean negative log likelihood of the scored tokens, in nats.
    pub nll: f64,
    /// Number of tokens that were scored.
    pub scored: usize,
    /// Number of windows that the scored tokens are from.
    pub windows: usize,
}

impl Perplexity {
    /// Smallest window: the first half, its successor, and one more.
    const SHORTEST: usize = 3;

    /// Result for sums over `scored` tokens of the negative log likelihood and of its square.
    fn new(sum: f64, squares: f64, scored: usize, windows: usize) -> Perplexity {
        let n = scored as f64;
        let nll = sum / n;
        let perplexity = exp(nll);
        let variance = squares / n - nll * nll;
        let error = match variance > 0.0 && scored > 1 {
            true => (variance / (n - 1.0)).sqrt() * perplexity,
            false => 0.0,
        };
        Perplexity { perplexity, error, nll, scored, windows }
    }
}

impl Session<'_> {
    /// Computes the perplexity of a text as llama-perplexity does
    /// ([`Session::perplexity_ids`]): the text is tokenized without special tokens, after the BOS
    /// token if the model wants one. The session's own text is replaced.
    ///
    /// The session computes [`SessionOptions::logits`](super::SessionOptions::logits) rows at a
    /// time: with as many as [`SessionOptions::batch`](super::SessionOptions::batch), it is much
    /// faster than with one, and has the same bits.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use teff_runtime::{Model, SessionOptions};
    ///
    /// # let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/gpt2/model.gguf");
    /// let model = Model::open(path)?;
    /// let options = SessionOptions::default().with_context(16).with_batch(16).with_logits(16);
    /// let mut session = model.session(&options)?;
    /// let text = "Once upon a time there was a small grain of wheat. It lived in a field. \
    ///             The sun was warm, and the rain was kind to it.";
    /// let result = session.perplexity(text, 16)?;
    /// println!("PPL = {:.4} +/- {:.5}", result.perplexity, result.error);
    /// assert_eq!(result.scored, result.windows * 7);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`SessionError::NoTokenizer`], and as [`Session::perplexity_ids`].
    pub fn perplexity(&mut self, text: &str, window: usize) -> Result<Perplexity, SessionError> {
        let tokenizer = self.tokenizer()?;
        let mut tokens = Vec::new();
        if tokenizer.add_bos() {
            tokens.extend(tokenizer.bos());
        }
        tokens.extend(tokenizer.encode(text, Specials::Ignore)?);
        self.perplexity_ids(&tokens, window, |_| {})
    }

    /// Computes the perplexity of tokens, by the definition of llama-perplexity
    /// (`tools/perplexity/perplexity.cpp` in llama.cpp, without a stride):
    ///
    /// - The tokens are cut into whole windows of `window` tokens, at least two; the rest is not
    ///   used. Each window is a text of its own. If the model wants a BOS token, it replaces the
    ///   first token of every window.
    /// - In each window, the tokens from index `window / 2 + 1` on are scored: so many tokens have
    ///   at least half a window before them. The negative log likelihood of a token is minus its
    ///   [`LogSoftmax::logprob`].
    /// - The perplexity is the exponential of the mean over all scored tokens.
    ///
    /// The session's own text is replaced; `progress` is called after each window with the result so
    /// far. Every machine computes the same bits.
    ///
    /// # Errors
    /// [`SessionError::Window`] if `window` is less than 3 or exceeds the session's context,
    /// [`SessionError::ShortText`], [`SessionError::NoLogits`]; [`SessionError::Step`] and
    /// [`SessionError::Sample`], after which the session has part of a window as its text.
    pub fn perplexity_ids(
        &mut self,
        tokens: &[u32],
        window: usize,
        mut progress: impl FnMut(&Perplexity),
    ) -> Result<Perplexity, SessionError> {
        let context = self.context();
        if window < Perplexity::SHORTEST || window > context {
            return Err(SessionError::Window { window, context });
        }
        if !self.options.outputs.logits() {
            return Err(SessionError::NoLogits);
        }
        let needed = window.saturating_mul(2);
        if tokens.len() < needed {
            return Err(SessionError::ShortText { tokens: tokens.len(), needed });
        }
        let bos = self.model.tokenizer().ok().filter(|t| t.add_bos()).and_then(|t| t.bos());
        let first = window / 2;
        let (mut sum, mut squares, mut scored) = (0.0, 0.0, 0);
        let mut result = Perplexity::new(sum, squares, 1, 0);
        for (i, tokens) in tokens.chunks_exact(window).enumerate() {
            self.truncate(0);
            self.push(&[bos.unwrap_or(tokens[0])])?;
            self.push(&tokens[1..])?;
            self.score(first, |likelihood: f64| {
                sum -= likelihood;
                squares += likelihood * likelihood;
                scored += 1;
            })?;
            result = Perplexity::new(sum, squares, scored, i + 1);
            progress(&result);
        }
        self.truncate(0);
        Ok(result)
    }

    /// Calls `f` with the log likelihood of each token of the text after index `first`.
    fn score(&mut self, first: usize, mut f: impl FnMut(f64)) -> Result<(), SessionError> {
        let vocab = self.model.spec().vocab as usize;
        let rows = self.runner.plan().options.logits.min(self.batch());
        let last = self.tokens.len() - 1;
        while self.done < first {
            let end = first.min(self.done + self.batch());
            self.step(self.done..end, LogitsFor::None)?;
            self.done = end;
        }
        while self.done < last {
            let (start, end) = (self.done, last.min(self.done + rows));
            let wanted = self.step(start..end, LogitsFor::All)?;
            self.done = end;
            let logits = self.runner.logits(wanted);
            for (logits, next) in logits.chunks_exact(vocab).zip(&self.tokens[start + 1..]) {
                f(LogSoftmax::new(logits)?.logprob(logits[*next as usize]));
            }
        }
        Ok(())
    }
}
