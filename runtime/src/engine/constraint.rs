//! Constraints on generated text, such as grammars.

use core::fmt;

/// Constraint on the tokens of one text: a grammar, a schema, or a rule of the caller's.
///
/// Before each token, [`Constraint::mask`] says which tokens may come next; the one that is chosen
/// among them is passed to [`Constraint::accept`]. A constraint knows only the generated tokens, not
/// the prompt. An error ends the text: it never continues unconstrained.
///
/// ```
/// use teff_runtime::engine::{Constraint, ConstraintError};
///
/// /// Tokens below a limit, and no end before there are three of them.
/// #[derive(Clone)]
/// struct Low { limit: usize, end: usize, chosen: usize }
///
/// impl Constraint for Low {
///     fn mask(&mut self, allowed: &mut [u32]) -> Result<(), ConstraintError> {
///         allowed.fill(0);
///         (0..self.limit).for_each(|t| allowed[t / 32] |= 1 << (t % 32));
///         if self.chosen >= 3 {
///             allowed[self.end / 32] |= 1 << (self.end % 32);
///         }
///         Ok(())
///     }
///
///     fn accept(&mut self, _: u32) -> Result<(), ConstraintError> {
///         self.chosen += 1;
///         Ok(())
///     }
///
///     fn is_complete(&mut self) -> bool {
///         self.chosen == 10
///     }
///
///     fn fork(&self) -> Box<dyn Constraint> {
///         Box::new(self.clone())
///     }
/// }
/// ```
pub trait Constraint: Send {
    /// Writes the set of tokens that may come next: bit `t % 32` of word `t / 32` for token `t`. The
    /// slice has as many words as the vocabulary needs, with any contents. A token that ends the text
    /// is in the set if the text may end here.
    ///
    /// # Errors
    /// [`ConstraintError`], which ends the text.
    fn mask(&mut self, allowed: &mut [u32]) -> Result<(), ConstraintError>;

    /// Goes on by a token of the set.
    ///
    /// # Errors
    /// [`ConstraintError`], which ends the text.
    fn accept(&mut self, token: u32) -> Result<(), ConstraintError>;

    /// True if the text is complete and nothing may follow.
    fn is_complete(&mut self) -> bool;

    /// Copy in the same state, for another text with the same beginning.
    fn fork(&self) -> Box<dyn Constraint>;
}

/// Error of a constraint.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConstraintError {
    /// Cause, as a sentence without a capital and a full stop.
    pub message: String,
}

impl ConstraintError {
    /// Error with this cause.
    pub fn new(message: impl Into<String>) -> Self {
        ConstraintError { message: message.into() }
    }
}

impl fmt::Display for ConstraintError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the constraint failed: {}", self.message)
    }
}

impl core::error::Error for ConstraintError {}
