//! One step: some tokens through the whole model.

use core::fmt;

use crate::Broken;

/// Which logits a step computes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LogitsFor {
    /// None: the cache is filled, no more.
    None,
    /// The last token's.
    Last,
    /// Those of all tokens of the step.
    All,
}

impl LogitsFor {
    /// Rows of logits that a step of `n` tokens has.
    #[must_use]
    pub fn rows(self, n: usize) -> usize {
        match self {
            LogitsFor::None => 0,
            LogitsFor::Last => n.min(1),
            LogitsFor::All => n,
        }
    }
}

/// Asked by every member, several times in each operation: whether to leave the step.
pub trait Cancel: Sync {
    /// Whether to leave the step. Once true for a step, it must stay so.
    fn cancelled(&self) -> bool;
}

/// Never cancels.
#[derive(Clone, Copy, Debug, Default)]
pub struct NeverCancel;

impl Cancel for NeverCancel {
    #[inline]
    fn cancelled(&self) -> bool {
        false
    }
}

/// What to compute.
#[derive(Clone, Copy)]
pub struct Step<'a> {
    /// The tokens, `1..=batch` of them.
    pub tokens: &'a [u32],
    /// The position of the first; what the cache holds before it is what they see.
    pub position: usize,
    /// Which logits.
    pub logits: LogitsFor,
    /// When to leave.
    pub cancel: &'a dyn Cancel,
}

/// Why a step was not computed. The cache before the step's position is as it was: the same step
/// can be tried again, and gives the same bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StepError {
    /// There is no token.
    Empty,
    /// More tokens than the plan's batch.
    BatchTooLarge {
        /// The plan's batch.
        max: usize,
        /// The step's tokens.
        got: usize,
    },
    /// More rows of logits than the plan keeps.
    TooManyLogits {
        /// The plan's.
        max: usize,
        /// The step's.
        got: usize,
    },
    /// The cache has no room for these tokens.
    ContextFull {
        /// Positions of the cache.
        context: usize,
        /// Position of the first token.
        position: usize,
        /// The step's tokens.
        tokens: usize,
    },
    /// A token that the vocabulary doesn't have.
    BadToken {
        /// The token.
        token: u32,
        /// Which of the step's.
        index: usize,
        /// Tokens of the vocabulary.
        vocab: u32,
    },
    /// It was told to stop.
    Cancelled,
    /// The team has more members than there is memory for, or two with one rank.
    Team {
        /// Members that there is memory for.
        max: usize,
        /// The team's size.
        got: usize,
    },
    /// A member failed.
    Broken(Broken),
}

impl From<Broken> for StepError {
    fn from(e: Broken) -> Self {
        StepError::Broken(e)
    }
}

impl fmt::Display for StepError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StepError::Empty => f.write_str("a step needs at least one token"),
            StepError::BatchTooLarge { max, got } => {
                write!(f, "{got} tokens in one step, but the plan was built for {max}")
            }
            StepError::TooManyLogits { max, got } => {
                write!(f, "logits of {got} tokens in one step, but the plan keeps {max}")
            }
            StepError::ContextFull { context, position, tokens } => write!(
                f,
                "the context is full: {tokens} more tokens after {position} don't fit into \
                 {context}; ask for a longer context or a shorter text"
            ),
            StepError::BadToken { token, index, vocab } => write!(
                f,
                "token {token} (number {index} of the step) is not in the vocabulary of {vocab}"
            ),
            StepError::Cancelled => f.write_str("the step was cancelled; it can be tried again"),
            StepError::Team { max, got } => {
                write!(
                    f,
                    "a team of {got}, but there is memory for {max} members of different rank"
                )
            }
            StepError::Broken(e) => e.fmt(f),
        }
    }
}

impl core::error::Error for StepError {}

/// Whatever computes steps: the CPU's [`crate::Runner`], a pool of threads around it, a GPU.
pub trait Executor {
    /// Computes a step and returns its logits, a row of the vocabulary's size for each wanted
    /// token.
    ///
    /// # Errors
    /// [`StepError`]; the cache before the step's position is unchanged then.
    fn step(&mut self, step: &Step<'_>) -> Result<&[f32], StepError>;
}
