//! Errors of grammars.

use core::fmt;

/// Error of compiling a grammar.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum GrammarError {
    /// A schema isn't JSON.
    Json {
        /// Line, from 1.
        line: usize,
        /// Column, from 1; 0 where a line ends too early.
        column: usize,
        /// Cause.
        message: String,
    },
    /// A keyword of a schema, or a construct of a grammar, isn't supported.
    Unsupported {
        /// Name of the keyword, such as `not`.
        keyword: String,
        /// JSON pointer of the subschema, empty for the root; empty for other grammars.
        at: String,
        /// Cause, and a way out if there is one.
        reason: String,
    },
    /// A keyword of a schema has a value that it can't have.
    Invalid {
        /// Name of the keyword.
        keyword: String,
        /// JSON pointer of the subschema, empty for the root.
        at: String,
        /// Values that are allowed.
        reason: String,
    },
    /// No text is valid.
    Unsatisfiable {
        /// JSON pointer of the subschema, empty for the root and for other grammars.
        at: String,
        /// Cause.
        reason: String,
    },
    /// A regular expression or a grammar has an error of syntax.
    Syntax {
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
        /// Cause.
        message: String,
    },
    /// A limit on the size of grammars.
    TooLarge {
        /// Name of what is too large, such as `bytes of a schema`.
        what: &'static str,
        /// Largest number of them.
        limit: usize,
    },
    /// A grammar needs more work or memory than is allowed, although it is small.
    TooComplex {
        /// Cause.
        reason: String,
    },
    /// The vocabulary is too large for grammars.
    Vocabulary {
        /// Cause.
        reason: String,
    },
    /// The grammar is refused for another cause.
    Refused {
        /// Cause.
        reason: String,
    },
}

impl fmt::Display for GrammarError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = |at: &str| if at.is_empty() { String::new() } else { format!(" (at #{at})") };
        match self {
            GrammarError::Json { line, column, message } => {
                write!(f, "the schema isn't JSON: line {line}, column {column}: {message}")
            }
            GrammarError::Unsupported { keyword, at, reason } => {
                write!(f, "`{keyword}` isn't supported{}: {reason}", place(at))
            }
            GrammarError::Invalid { keyword, at, reason } => {
                write!(f, "`{keyword}` must be {reason}{}", place(at))
            }
            GrammarError::Unsatisfiable { at, reason } => {
                write!(f, "no text is valid: {reason}{}", place(at))
            }
            GrammarError::Syntax { line, column, message } => {
                write!(f, "line {line}, column {column}: {message}")
            }
            GrammarError::TooLarge { what, limit } => {
                write!(f, "the grammar is too large: more than {limit} {what}")
            }
            GrammarError::TooComplex { reason } => {
                write!(f, "the grammar is too complex: {reason}")
            }
            GrammarError::Vocabulary { reason } => {
                write!(f, "the vocabulary is too large for grammars: {reason}")
            }
            GrammarError::Refused { reason } => write!(f, "the grammar is refused: {reason}"),
        }
    }
}

impl core::error::Error for GrammarError {}
