//! Tool calls: grammars that force them, and parsers that find them in answers.

use crate::grammar::Grammar;
use crate::job::{AnswerParser, Tool, ToolChoice};

/// Request for a parser, or for a grammar that forces calls.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ToolContext<'a> {
    /// Source of the chat template, by which the format of calls is known.
    pub(crate) template: &'a str,
    /// Tools of the request.
    pub(crate) tools: &'a [Tool],
    /// Choice of the request.
    pub(crate) choice: &'a ToolChoice,
    /// True if there may be several calls in one answer.
    pub(crate) parallel: bool,
}

/// Parser for the answers of a model; `None` if the template has no format of calls that is known.
pub(crate) fn parser(_context: &ToolContext<'_>) -> Option<Box<dyn AnswerParser>> {
    None
}

/// Grammar of answers that call a tool, for [`ToolChoice::Required`] and [`ToolChoice::Named`];
/// `None` if the template has no format of calls that is known.
pub(crate) fn forcing(_context: &ToolContext<'_>) -> Option<Grammar> {
    None
}
