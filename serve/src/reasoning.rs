//! Answers that are text and nothing else.

use crate::job::{AnswerParser, Part};

/// Parser of answers that are text and nothing else.
pub(crate) struct Plain;

impl AnswerParser for Plain {
    fn push(&mut self, text: &str, parts: &mut Vec<Part>) {
        if !text.is_empty() {
            parts.push(Part::Text(text.into()));
        }
    }

    fn finish(&mut self, _parts: &mut Vec<Part>) {}
}
