//! One step: a forward pass of some tokens of some sequences.

use core::fmt;

use crate::Broken;

/// Selection of the tokens of a segment for which a step computes outputs: logits, hidden states or
/// both, as the plan has them ([`Outputs`](crate::Outputs)).
///
/// The variants are complete: a new one would be a breaking change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LogitsFor {
    /// No outputs; only the state is updated.
    None,
    /// Outputs of the last token.
    Last,
    /// Outputs of all tokens.
    All,
}

impl LogitsFor {
    /// Rows of outputs for a segment of `n` tokens.
    #[must_use]
    pub fn rows(self, n: usize) -> usize {
        match self {
            LogitsFor::None => 0,
            LogitsFor::Last => n.min(1),
            LogitsFor::All => n,
        }
    }
}

/// Cancellation check of a step, polled by every worker several times in each operation.
pub trait Cancel: Sync {
    /// True if the step is to be cancelled. Once true for a step, it must stay true.
    fn cancelled(&self) -> bool;
}

/// [`Cancel`] that never cancels.
#[derive(Clone, Copy, Debug, Default)]
pub struct NeverCancel;

impl Cancel for NeverCancel {
    #[inline]
    fn cancelled(&self) -> bool {
        false
    }
}

/// Number of a sequence that a runner has memory for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct SequenceId(pub u16);

/// Next tokens of one sequence.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Segment<'a> {
    /// Sequence, whose tokens so far are the context of these.
    pub sequence: SequenceId,
    /// Tokens, at least one.
    pub tokens: &'a [u32],
    /// Selection of outputs.
    pub logits: LogitsFor,
}

impl<'a> Segment<'a> {
    /// Segment of the next tokens of sequence 0.
    #[must_use]
    pub const fn new(tokens: &'a [u32], logits: LogitsFor) -> Segment<'a> {
        Segment { sequence: SequenceId(0), tokens, logits }
    }
}

/// Input of a step.
///
/// The logits of a sequence do not depend, down to the last bit, on the other segments of the step
/// or on how its tokens are split into steps.
#[derive(Clone, Copy)]
pub struct Step<'a> {
    /// Segments, at most one of each sequence. Their tokens together are at most the plan's batch,
    /// and rows of outputs come in their order.
    pub segments: &'a [Segment<'a>],
    /// Cancellation check.
    pub cancel: &'a dyn Cancel,
}

impl fmt::Debug for Step<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Step").field("segments", &self.segments).finish_non_exhaustive()
    }
}

/// Error of a step that was not computed. The tokens of all sequences are as before: the same step can
/// be retried, and gives the same bits. A step that began may have overwritten what a truncation would
/// have gone back to; `Runner::nearest` says how far one goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum StepError {
    /// There is no segment, or a segment has no tokens.
    Empty,
    /// More tokens than the plan's batch.
    BatchTooLarge {
        /// Batch of the plan.
        max: usize,
        /// Tokens of the step.
        got: usize,
    },
    /// More rows of outputs than the plan has room for.
    TooManyLogits {
        /// Rows of the plan.
        max: usize,
        /// Rows of the step.
        got: usize,
    },
    /// A sequence has no room for the tokens.
    ContextFull {
        /// Positions of a sequence.
        context: usize,
        /// Position of the first token.
        position: usize,
        /// Tokens of the segment.
        tokens: usize,
    },
    /// A token is outside the vocabulary.
    BadToken {
        /// Token id.
        token: u32,
        /// Index of the token in the segment.
        index: usize,
        /// Vocabulary size.
        vocab: u32,
    },
    /// There is no memory for a sequence.
    NoSequence {
        /// Number of the sequence.
        sequence: u16,
        /// Sequences that there is memory for.
        sequences: usize,
    },
    /// Two segments belong to one sequence.
    SequenceTwice {
        /// Number of the sequence.
        sequence: u16,
    },
    /// A sequence has fewer pages than its tokens need.
    NoPages {
        /// Number of the sequence.
        sequence: u16,
        /// Pages that it needs.
        needed: usize,
        /// Pages that it has.
        got: usize,
    },
    /// A sequence would write to a page that another one uses as well.
    SharedPage {
        /// Number of the sequence.
        sequence: u16,
        /// Number of the page.
        page: u32,
    },
    /// The step was cancelled.
    Cancelled,
    /// The team has more workers than there is memory for, or two with the same rank, or the step is
    /// another team's or has been computed.
    Team {
        /// Workers that there is memory for.
        max: usize,
        /// Size of the team.
        got: usize,
    },
    /// Not all of the step has been computed, so that it can't be committed.
    Unfinished,
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
            StepError::NoPages { sequence, needed, got } => {
                write!(f, "sequence {sequence} needs {needed} pages, but has {got}")
            }
            StepError::SharedPage { sequence, page } => write!(
                f,
                "sequence {sequence} can't write to page {page}, which another sequence uses as well"
            ),
            StepError::Cancelled => f.write_str("the step was cancelled; it can be tried again"),
            StepError::Team { max, got } if got > max => {
                write!(f, "a team of {got} workers, but there is memory for {max}")
            }
            StepError::Team { got, .. } => write!(
                f,
                "the step can't be computed by a worker of this team of {got}: another worker has \
                 its rank, or the step is another team's or has been computed"
            ),
            StepError::Unfinished => f.write_str("not all of the step has been computed"),
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

/// Executor of steps: the CPU's [`crate::Runner`], a thread pool around it, a GPU.
pub trait Executor {
    /// Computes a step and returns its logits, one row of the vocabulary's size for each wanted
    /// token, in order of the segments; none if the plan has no logits among its
    /// [outputs](crate::Outputs).
    ///
    /// # Errors
    /// [`StepError`]; all sequences are unchanged in that case.
    fn step(&mut self, step: &Step<'_>) -> Result<&[f32], StepError>;
}
