//! The patterns of Llama 3 and Qwen2, which differ in the number of digits per piece.

use super::run_end;
use crate::unicode::{Class, class};

/// Length in bytes of the first piece of `text`, whose first character is `first`; a piece has at
/// most `digits` digits.
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
    // Any one character except line breaks belongs to the letters after it.
    let width = first.len_utf8();
    let second = text[width..].chars().next().map(class);
    if second == Some(Class::Letter) && !matches!(first, '\r' | '\n') {
        return run_end(text, width, Class::Letter);
    }
    // Symbols take one plain space before them, and the line breaks after them.
    if kind == Class::Other || (first == ' ' && second == Some(Class::Other)) {
        let start = if kind == Class::Other { 0 } else { width };
        let end = run_end(text, start, Class::Other);
        let newline = |b: &&u8| matches!(b, b'\r' | b'\n');
        return end + text.as_bytes()[end..].iter().take_while(newline).count();
    }
    white_space(text)
}

/// Length in bytes of the first piece of `text`, which starts with white space that doesn't belong
/// to what follows: up to the last line break in it, otherwise up to the end of the text, or all
/// but the last before something else, or a single one.
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

/// Length in bytes of the contraction at the start of `text`, in upper or lower case.
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
