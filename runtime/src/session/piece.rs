//! Pieces of generated text.

use core::fmt;
use core::ops::Deref;

use crate::sample::{LogSoftmax, Logprob, SampleError, SamplingError, TokenLogprobs};
use teff_kernels::{Backend, Cpu};

/// Piece of generated text: whole characters, and the tokens that were generated for it.
///
/// It dereferences to its text and prints as such.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use teff_runtime::{Generate, Model, SessionOptions};
///
/// # let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/gpt2/model.gguf");
/// let model = Model::open(path)?;
/// let mut session = model.session(&SessionOptions::default().with_context(64))?;
/// let how = Generate::default().with_max_tokens(8).with_logprobs(2);
/// for piece in session.generate("Once upon a time", &how)? {
///     let piece = piece?;
///     print!("{piece}");
///     for token in &piece.logprobs {
///         assert!(token.chosen.logprob <= token.top[0].logprob);
///     }
/// }
/// # Ok(()) }
/// ```
#[derive(Clone, PartialEq, Debug, Default)]
#[non_exhaustive]
pub struct Piece {
    /// Text. Empty only in a last piece that has tokens whose text is part of a stop string.
    pub text: String,
    /// Tokens generated since the piece before. With stop strings, and with characters of several
    /// tokens, their text may come in a later piece.
    pub tokens: Vec<u32>,
    /// Log probabilities of `tokens`; empty unless [`Generate::logprobs`](super::Generate::logprobs)
    /// asks for them.
    pub logprobs: Vec<TokenLogprobs>,
}

impl Deref for Piece {
    type Target = str;

    fn deref(&self) -> &str {
        &self.text
    }
}

impl AsRef<str> for Piece {
    fn as_ref(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for Piece {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

impl From<Piece> for String {
    fn from(piece: Piece) -> String {
        piece.text
    }
}

impl FromIterator<Piece> for String {
    fn from_iter<I: IntoIterator<Item = Piece>>(pieces: I) -> String {
        pieces.into_iter().fold(String::new(), |text, piece| text + &piece.text)
    }
}

/// Log probabilities of the tokens of a piece, in memory that is reused.
#[derive(Clone, Debug)]
pub(crate) struct LogprobBuffer {
    backend: Cpu,
    distribution: Option<LogSoftmax>,
    /// Most likely tokens and their logits, of the distribution.
    top: Vec<(u32, f32)>,
    top_len: usize,
    /// Entries, of which the first `len` are in use.
    entries: Vec<TokenLogprobs>,
    len: usize,
}

impl LogprobBuffer {
    /// Room for `n` tokens with `top` alternatives each.
    pub(crate) fn new(backend: Cpu, top: usize, n: usize) -> Result<Self, SamplingError> {
        let each = size_of::<TokenLogprobs>() + top * size_of::<Logprob>();
        let refused = |_| SamplingError::Memory { bytes: each.saturating_mul(n) };
        let mut largest = Vec::new();
        largest.try_reserve_exact(top).map_err(refused)?;
        largest.resize(top, (0, 0.0));
        let mut entries = Vec::new();
        entries.try_reserve_exact(n).map_err(refused)?;
        for _ in 0..n {
            let mut top_of = Vec::new();
            top_of.try_reserve_exact(top).map_err(refused)?;
            entries.push(TokenLogprobs { chosen: Logprob { token: 0, logprob: 0.0 }, top: top_of });
        }
        Ok(LogprobBuffer { backend, distribution: None, top: largest, top_len: 0, entries, len: 0 })
    }

    /// Reads the distribution of the next token.
    pub(crate) fn read(&mut self, logits: &[f32]) -> Result<(), SampleError> {
        self.distribution = Some(LogSoftmax::new(logits)?);
        self.top_len = match self.top.is_empty() {
            true => 0,
            false => self.backend.top_k(logits, &mut self.top).len,
        };
        Ok(())
    }

    /// Adds the token that was chosen, with its logit in the distribution read before.
    pub(crate) fn choose(&mut self, token: u32, logit: f32) {
        let Some(distribution) = self.distribution.take() else { return };
        let of = |token, logit| Logprob { token, logprob: distribution.logprob(logit) as f32 };
        if self.len == self.entries.len() {
            // Only tokens without any text come here, one after another.
            let top = Vec::with_capacity(self.top.len());
            self.entries.push(TokenLogprobs { chosen: of(0, 0.0), top });
        }
        let entry = &mut self.entries[self.len];
        entry.chosen = of(token, logit);
        entry.top.clear();
        entry.top.extend(self.top[..self.top_len].iter().map(|&(token, x)| of(token, x)));
        self.len += 1;
    }

    /// Removes all tokens.
    pub(super) fn clear(&mut self) {
        self.len = 0;
    }

    pub(crate) fn as_slice(&self) -> &[TokenLogprobs] {
        &self.entries[..self.len]
    }
}
