//! GPT-2's pattern, for whole texts and for the text between digits.

use super::run_end;
use crate::unicode::{Class, class};

/// Length in bytes of the first piece of `text`, whose first character is `first`.
pub(super) fn piece(text: &str, first: char) -> usize {
    match contraction(text.as_bytes()) {
        Some(len) => len,
        None => run(text, first, false),
    }
}

/// The same with every number as a separate piece, which counts as the end of the text for what
/// precedes it.
pub(super) fn piece_beside_digits(text: &str, first: char) -> usize {
    if class(first) == Class::Number {
        return first.len_utf8();
    }
    match contraction(text.as_bytes()) {
        Some(len) => len,
        None => run(text, first, true),
    }
}

/// Length in bytes of the contraction at the start of `text`.
fn contraction(text: &[u8]) -> Option<usize> {
    match text {
        [b'\'', b's' | b't' | b'm' | b'd', ..] => Some(2),
        [b'\'', b'r' | b'v', b'e', ..] | [b'\'', b'l', b'l', ..] => Some(3),
        _ => None,
    }
}

/// Length in bytes of the first piece of `text`, which does not start with a contraction.
fn run(text: &str, first: char, digits_end: bool) -> usize {
    // One plain space belongs to the run of letters, digits or symbols after it.
    let start = usize::from(first == ' ');
    let after = if first == ' ' { text[1..].chars().next() } else { Some(first) };
    match after.map(class) {
        None | Some(Class::Space) => {}
        Some(Class::Number) if digits_end => {}
        Some(kind) => return run_end(text, start, kind),
    }
    // White space: up to the end, or all but the last before something else, or a single one.
    let mut last = 0;
    for (at, c) in text.char_indices() {
        match class(c) {
            Class::Space => last = at,
            Class::Number if digits_end => return at,
            _ => return if last == 0 { at } else { last },
        }
    }
    text.len()
}
