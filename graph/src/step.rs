//! One step: some tokens of some sequences through the whole model.

use core::fmt;

use crate::Broken;

/// Logits that a step computes of a segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LogitsFor {
    /// None: the state is filled, no more.
    None,
    /// The last token's.
    Last,
    /// Those of all tokens.
    All,
}

impl LogitsFor {
    /// Rows of logits of a segment of `n` tokens.
    #[must_use]
    pub fn rows(self, n: usize) -> usize {
        match self {
            LogitsFor::None => 0,
            LogitsFor::Last => n.min(1),
            LogitsFor::All => n,
        }
    }
}

/// Says whether to leave a step; asked by every worker, several times in each operation.
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

/// The number of a sequence that a runner has memory for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct SequenceId(pub u16);

/// The next tokens of one sequence.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Segment<'a> {
    /// The sequence. Its tokens so far are what these see.
    pub sequence: SequenceId,
    /// The tokens, at least one.
    pub tokens: &'a [u32],
    /// Which logits.
    pub logits: LogitsFor,
}

impl<'a> Segment<'a> {
    /// The next tokens of sequence 0.
    #[must_use]
    pub const fn new(tokens: &'a [u32], logits: LogitsFor) -> Segment<'a> {
        Segment { sequence: SequenceId(0), tokens, logits }
    }
}

/// What to compute.
///
/// A sequence's logits don't depend, to the last bit, on the other segments of the step, nor on how
/// its tokens are cut into steps.
#[derive(Clone, Copy)]
pub struct Step<'a> {
    /// The segments, at most one of each sequence; their tokens together are at most the plan's
    /// batch, and rows of logits come in their order.
    pub segments: &'a [Segment<'a>],
    /// When to leave.
    pub cancel: &'a dyn Cancel,
}

impl fmt::Debug for Step<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Step").field("segments", &self.segments).finish_non_exhaustive()
    }
}

/// Why a step was not computed. All sequences are as they were: the same step can be tried again, and
/// gives the same bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum StepError {
    /// There is no segment, or one without tokens.
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
    /// A sequence has no room for these tokens.
    ContextFull {
        /// Positions of a sequence.
        context: usize,
        /// Position of the first token.
        position: usize,
        /// The segment's tokens.
        tokens: usize,
    },
    /// A token that the vocabulary doesn't have.
    BadToken {
        /// The token.
        token: u32,
        /// Its index among the segment's.
        index: usize,
        /// Tokens of the vocabulary.
        vocab: u32,
    },
    /// A sequence that there is no memory for.
    NoSequence {
        /// Its number.
        sequence: u16,
        /// Sequences that there is memory for.
        sequences: usize,
    },
    /// Two segments of one sequence.
    SequenceTwice {
        /// Its number.
        sequence: u16,
    },
    /// It was told to stop.
    Cancelled,
    /// The team has more workers than there is memory for, or two with one rank; or not all of them
    /// have walked.
    Team {
        /// Workers that there is memory for.
        max: usize,
        /// The team's size.
        got: usize,
    },
    /// The plan has operations of other kinds than the program was built for.
    Kinds,
    /// A worker failed.
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
            StepError::NoSequence { sequence, sequences } => {
                write!(f, "sequence {sequence}, but there is memory for {sequences}")
            }
            StepError::SequenceTwice { sequence } => {
                write!(f, "two segments of sequence {sequence} in one step")
            }
            StepError::Cancelled => f.write_str("the step was cancelled; it can be tried again"),
            StepError::Team { max, got } => {
                write!(
                    f,
                    "a team of {got}, but there is memory for {max} workers of different rank"
                )
            }
            StepError::Kinds => f.write_str("the program has no code for the plan's operations"),
            StepError::Broken(e) => e.fmt(f),
        }
    }
}

impl core::error::Error for StepError {}

/// Checks that tokens can be appended to a sequence of `position` tokens.
///
/// # Errors
/// [`StepError::ContextFull`], [`StepError::BadToken`].
pub fn check_tokens(
    tokens: &[u32],
    position: usize,
    context: usize,
    vocab: u32,
) -> Result<(), StepError> {
    if position > context || tokens.len() > context - position {
        let tokens = tokens.len();
        return Err(StepError::ContextFull { context, position, tokens });
    }
    match tokens.iter().position(|&t| t >= vocab) {
        Some(index) => Err(StepError::BadToken { token: tokens[index], index, vocab }),
        None => Ok(()),
    }
}

/// Whatever computes steps: the CPU's [`crate::Runner`], a pool of threads around it, a GPU.
pub trait Executor {
    /// Computes a step and returns its logits, a row of the vocabulary's size for each wanted
    /// token, those of the first segment first.
    ///
    /// # Errors
    /// [`StepError`]; all sequences are unchanged then.
    fn step(&mut self, step: &Step<'_>) -> Result<&[f32], StepError>;
}
