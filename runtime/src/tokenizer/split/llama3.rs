//! The pattern of Llama 3 and Qwen2, which differ in how many digits go together.

use super::run_end;
use crate::tokenizer::unicode::{Class, class};

/// Bytes of the first piece of `text`, whose first character is `first`; of numbers at most
/// `digits` go together.
pub(super) fn piece(text: &str, first: char, digits: usize) -> usize {
    if let Some(len) = contraction(text.as_bytes()) {
        return len;
    }
    let kind = class(first);
    match kind {
        Class::Letter => return run_end(text, 0, Class::Letter),
        Class::Number => {
            let numbers = text.chars().take(digits).take_while(|&c| class(c) == Class::Number);
            return numbers.map(char::len_utf8).sum();
        }
        Class::Other | Class::Space => {}
    }
    // Any one character but the ends of lines belongs to the letters after it.
    let width = first.len_utf8();
    let second = text[width..].chars().next().map(class);
    if second == Some(Class::Letter) && !matches!(first, '\r' | '\n') {
        return run_end(text, width, Class::Letter);
    }
    // Signs take one plain space before them, and the ends of lines after them.
    if kind == Class::Other || (first == ' ' && second == Some(Class::Other)) {
        let start = if kind == Class::Other { 0 } else { width };
        let end = run_end(text, start, Class::Other);
        let newline = |b: &&u8| matches!(b, b'\r' | b'\n');
        return end + text.as_bytes()[end..].iter().take_while(newline).count();
    }
    white_space(text)
}

/// Bytes of the first piece of `text`, which starts with white space and nothing that goes with
/// what is after it: up to the last end of a line in it; otherwise up to the end of the text, or
/// all but the last before something else, or a single one.
fn white_space(text: &str) -> usize {
    let (mut last, mut line_end) = (0, 0);
    let mut end = text.len();
    for (at, c) in text.char_indices() {
        if class(c) != Class::Space {
            end = if last == 0 { at } else { last };
            break;
        }
        last = at;
        if matches!(c, '\r' | '\n') {
            line_end = at + 1;
        }
    }
    if line_end > 0 { line_end } else { end }
}

/// Bytes of the contraction that `text` starts with, in upper or lower case.
pub(super) fn contraction(text: &[u8]) -> Option<usize> {
    let [b'\'', rest @ ..] = text else { return None };
    match rest {
        [b's' | b'S' | b't' | b'T' | b'm' | b'M' | b'd' | b'D', ..] => Some(2),
        [b'r' | b'R' | b'v' | b'V', b'e' | b'E', ..] => Some(3),
        [b'l' | b'L', b'l' | b'L', ..] => Some(3),
        // U+017F, the long s, whose upper case is S. No other of these letters has a third form.
        [0xc5, 0xbf, ..] => Some(3),
        _ => None,
    }
}
