//! The parameters of sampling and what they may be.

use core::fmt;

/// How the next token is chosen; the [module](super) says in which order the stages work.
///
/// The default is llama.cpp's: temperature 0.8, top-k 40, top-p 0.95, min-p 0.05, no penalty.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Sampling {
    /// Divides the logits: below 1 prefers the likely tokens, above 1 evens out. 0 is greedy.
    pub temperature: f32,
    /// How many of the largest logits stay; 0 is off.
    pub top_k: usize,
    /// The share of probability that stays, above 0; 1 is off.
    pub top_p: f32,
    /// The least probability that stays, as a share of the largest; 0 is off.
    pub min_p: f32,
    /// Divides positive logits of recent tokens and multiplies the others; 1 is off.
    pub repeat_penalty: f32,
    /// How many tokens at the end of the history are recent; 0 turns the penalty off.
    pub repeat_last_n: usize,
    /// Where the random numbers start: the same seed gives the same tokens on every machine.
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
            repeat_last_n: 64,
            seed: 0,
        }
    }
}

impl Sampling {
    /// Always the most likely token; no penalty.
    #[must_use]
    pub const fn greedy() -> Self {
        Sampling {
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repeat_penalty: 1.0,
            repeat_last_n: 64,
            seed: 0,
        }
    }

    /// Whether the most likely token is taken every time.
    #[must_use]
    pub fn is_greedy(&self) -> bool {
        self.temperature == 0.0
    }

    /// Whether recent tokens are penalised.
    #[must_use]
    pub fn penalizes(&self) -> bool {
        self.repeat_penalty != 1.0 && self.repeat_last_n > 0
    }

    /// Checks every parameter.
    ///
    /// # Errors
    /// [`SamplingError::Parameter`] for the first one that is not allowed.
    pub fn validate(&self) -> Result<(), SamplingError> {
        let check = |name, got: f32, ok: bool, allowed| {
            if ok { Ok(()) } else { Err(SamplingError::Parameter { name, got, allowed }) }
        };
        // NaN fails every comparison, so it is refused everywhere.
        let t = self.temperature;
        check("temperature", t, t >= 0.0 && t.is_finite(), "a finite number from 0 (greedy) up")?;
        let p = self.top_p;
        check("top_p", p, p > 0.0 && p <= 1.0, "above 0 and at most 1 (off)")?;
        let p = self.min_p;
        check("min_p", p, (0.0..=1.0).contains(&p), "from 0 (off) to 1")?;
        let r = self.repeat_penalty;
        check("repeat_penalty", r, r > 0.0 && r.is_finite(), "a finite number above 0 (1 is off)")
    }
}

/// Why a sampler can't be made.
#[derive(Clone, Copy, PartialEq, Debug)]
#[non_exhaustive]
pub enum SamplingError {
    /// A parameter outside of what is allowed.
    Parameter {
        /// The field of [`Sampling`].
        name: &'static str,
        /// Its value.
        got: f32,
        /// What it may be.
        allowed: &'static str,
    },
    /// A vocabulary of no tokens, or of more than a u32 can number.
    Vocabulary {
        /// Its tokens.
        got: usize,
    },
    /// The memory that the sampler works in is not to be had.
    Memory {
        /// Bytes that were needed.
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
                "no memory for the {bytes} bytes that sampling needs: a smaller top_k needs less"
            ),
        }
    }
}

impl core::error::Error for SamplingError {}
