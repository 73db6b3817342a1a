//! Sampling parameters and their validation.

use core::fmt;

/// Sampling parameters; see the [module](super) for the order of the stages.
///
/// The default is llama.cpp's: temperature 0.8, top-k 40, top-p 0.95, min-p 0.05, no penalties.
///
/// ```
/// use teff_runtime::sample::Sampling;
///
/// let sampling = Sampling::default().with_temperature(0.5).with_seed(7);
/// assert!(sampling.validate().is_ok());
/// assert!(sampling.with_top_p(0.0).validate().is_err());
/// ```
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Sampling {
    /// Divisor of the logits: below 1 sharpens the distribution, above 1 flattens it; 0 is greedy.
    pub temperature: f32,
    /// Number of largest logits to keep; 0 is off.
    pub top_k: usize,
    /// Share of the total probability to keep, above 0; 1 is off.
    pub top_p: f32,
    /// Minimum probability to keep, as a share of the largest; 0 is off.
    pub min_p: f32,
    /// Divisor of positive logits of recent tokens, and factor of their negative ones; 1 is off.
    pub repeat_penalty: f32,
    /// Number that is subtracted from the logits of recent tokens, however often they occur; 0 is
    /// off. OpenAI's interface allows -2 to 2.
    pub presence_penalty: f32,
    /// Number that is subtracted from the logit of a recent token for each time that it occurs; 0 is
    /// off. OpenAI's interface allows -2 to 2.
    pub frequency_penalty: f32,
    /// Number of tokens at the end of the history that count as recent, for all three penalties;
    /// `usize::MAX` for all tokens, 0 turns the penalties off.
    ///
    /// As in llama.cpp, the prompt belongs to the history. (Other implementations of presence and
    /// frequency penalties count the generated text alone, and all of it.)
    pub repeat_last_n: usize,
    /// Seed of the random numbers: the same seed gives the same tokens on every machine.
    pub seed: u64,
}

impl Default for Sampling {
    fn default() -> Self {
        Sampling {
            temperature: 0.8,
            top_k: 40,
            top_p: 0.95,
            min_p: 0.05,
            repeat_penalty: 1.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            repeat_last_n: 64,
            seed: 0,
        }
    }
}

impl Sampling {
    /// Greedy sampling, without penalties: always the most likely token.
    #[must_use]
    pub const fn greedy() -> Self {
        Sampling {
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repeat_penalty: 1.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            repeat_last_n: 64,
            seed: 0,
        }
    }

    /// Sets [`temperature`](Self::temperature).
    #[must_use]
    pub const fn with_temperature(self, temperature: f32) -> Self {
        Sampling { temperature, ..self }
    }

    /// Sets [`top_k`](Self::top_k).
    #[must_use]
    pub const fn with_top_k(self, top_k: usize) -> Self {
        Sampling { top_k, ..self }
    }

    /// Sets [`top_p`](Self::top_p).
    #[must_use]
    pub const fn with_top_p(self, top_p: f32) -> Self {
        Sampling { top_p, ..self }
    }

    /// Sets [`min_p`](Self::min_p).
    #[must_use]
    pub const fn with_min_p(self, min_p: f32) -> Self {
        Sampling { min_p, ..self }
    }

    /// Sets [`repeat_penalty`](Self::repeat_penalty) and [`repeat_last_n`](Self::repeat_last_n).
    #[must_use]
    pub const fn with_repeat_penalty(self, repeat_penalty: f32, repeat_last_n: usize) -> Self {
        Sampling { repeat_penalty, repeat_last_n, ..self }
    }

    /// Sets [`presence_penalty`](Self::presence_penalty).
    #[must_use]
    pub const fn with_presence_penalty(self, presence_penalty: f32) -> Self {
        Sampling { presence_penalty, ..self }
    }

    /// Sets [`frequency_penalty`](Self::frequency_penalty).
    #[must_use]
    pub const fn with_frequency_penalty(self, frequency_penalty: f32) -> Self {
        Sampling { frequency_penalty, ..self }
    }

    /// Sets [`repeat_last_n`](Self::repeat_last_n).
    #[must_use]
    pub const fn with_repeat_last_n(self, repeat_last_n: usize) -> Self {
        Sampling { repeat_last_n, ..self }
    }

    /// Sets [`seed`](Self::seed).
    #[must_use]
    pub const fn with_seed(self, seed: u64) -> Self {
        Sampling { seed, ..self }
    }

    /// True if the most likely token is always chosen.
    #[must_use]
    pub fn is_greedy(&self) -> bool {
        self.temperature == 0.0
    }

    /// True if recent tokens are penalised.
    #[must_use]
    pub fn penalizes(&self) -> bool {
        let [presence, frequency] = [self.presence_penalty, self.frequency_penalty];
        let any = self.repeat_penalty != 1.0 || presence != 0.0 || frequency != 0.0;
        any && self.repeat_last_n > 0
    }

    /// Validates all parameters.
    ///
    /// # Errors
    /// [`SamplingError::Parameter`] for the first one that is out of range.
    pub fn validate(&self) -> Result<(), SamplingError> {
        let check = |name, got: f32, ok: bool, allowed| {
            if ok { Ok(()) } else { Err(SamplingError::Parameter { name, got, allowed }) }
        };
        // NaN fails every comparison, so it is always refused.
        let t = self.temperature;
        check("temperature", t, t >= 0.0 && t.is_finite(), "a finite number from 0 (greedy) up")?;
        let p = self.top_p;
        check("top_p", p, p > 0.0 && p <= 1.0, "above 0 and at most 1 (off)")?;
        let p = self.min_p;
        check("min_p", p, (0.0..=1.0).contains(&p), "from 0 (off) to 1")?;
        let r = self.repeat_penalty;
        check("repeat_penalty", r, r > 0.0 && r.is_finite(), "a finite number above 0 (1 is off)")?;
        let p = self.presence_penalty;
        check("presence_penalty", p, p.is_finite(), "a finite number (0 is off)")?;
        let p = self.frequency_penalty;
        check("frequency_penalty", p, p.is_finite(), "a finite number (0 is off)")
    }
}

/// Error of creating a sampler.
#[derive(Clone, Copy, PartialEq, Debug)]
#[non_exhaustive]
pub enum SamplingError {
    /// A parameter is out of range.
    Parameter {
        /// The field of [`Sampling`].
        name: &'static str,
        /// Its value.
        got: f32,
        /// Description of the allowed values.
        allowed: &'static str,
    },
    /// A vocabulary with no tokens, or more than a u32 can number.
    Vocabulary {
        /// Number of tokens.
        got: usize,
    },
    /// The sampler's buffers could not be allocated.
    Memory {
        /// Number of bytes needed.
        bytes: usize,
    },
}

impl fmt::Display for SamplingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SamplingError::Parameter { name, got, allowed } => {
                write!(f, "sampling parameter {name} is {got}: it must be {allowed}")
            }
            SamplingError::Vocabulary { got } => {
                write!(f, "a vocabulary of {got} tokens can't be sampled: it must have 1 to 2^32")
            }
            SamplingError::Memory { bytes } => write!(
                f,
                "not enough memory: sampling needs {bytes} bytes (a smaller top_k needs less)"
            ),
        }
    }
}

impl core::error::Error for SamplingError {}
