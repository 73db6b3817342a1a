//! Reading messages line by line from a terminal or a pipe.

use std::io::{self, BufRead};

/// Maximum length of a line in bytes.
const MAX_LINE: usize = 16 << 20;

/// Result of reading a line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Line {
    /// A line, without its line break.
    Text(String),
    /// An invalid line, with the reason.
    Bad(String),
    /// Interrupted by a signal.
    Interrupted,
    /// End of input.
    End,
}

/// Reads a line. Unlike std's version it returns when a signal arrives.
pub(super) fn line(from: &mut impl BufRead) -> io::Result<Line> {
    let mut bytes = Vec::new();
    let mut too_long = false;
    loop {
        let part = match from.fill_buf() {
            Ok(part) => part,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => return Ok(Line::Interrupted),
            Err(e) => return Err(e),
        };
        let end = part.iter().position(|&b| b == b'\n');
        if part.is_empty() && bytes.is_empty() && !too_long {
            return Ok(Line::End);
        }
        let last = end.is_some() || part.is_empty();
        let text = &part[..end.unwrap_or(part.len())];
        too_long |= bytes.len() + text.len() > MAX_LINE;
        if !too_long {
            bytes.extend_from_slice(text);
        }
        let used = end.map_or(part.len(), |at| at + 1);
        from.consume(used);
        if last {
            break;
        }
    }
    if too_long {
        let why = format!("a line has more than {MAX_LINE} bytes: the message is left out");
        return Ok(Line::Bad(why));
    }
    if bytes.last() == Some(&b'\r') {
        bytes.pop();
    }
    Ok(match String::from_utf8(bytes) {
        Ok(text) => Line::Text(text),
        Err(e) => {
            let at = e.utf8_error().valid_up_to();
            Line::Bad(format!("byte {at} of a line is not UTF-8: the message is left out"))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_end_at_newlines_and_at_the_end() {
        let mut from = io::BufReader::with_capacity(2, &b"one\ntwo\r\n\n\xffx\nend"[..]);
        let mut all = Vec::new();
        loop {
            match line(&mut from).unwrap() {
                Line::End => break,
                Line::Text(text) => all.push(text),
                other => all.push(format!("{other:?}")),
            }
        }
        assert_eq!(
            all,
            [
                "one",
                "two",
                "",
                r#"Bad("byte 0 of a line is not UTF-8: the message is left out")"#,
                "end"
            ]
        );
    }

    #[test]
    fn a_line_without_end_takes_no_memory() {
        let mut from = io::BufReader::new(io::Read::take(io::repeat(b'x'), MAX_LINE as u64 + 1));
        assert!(matches!(line(&mut from).unwrap(), Line::Bad(_)));
        assert_eq!(line(&mut from).unwrap(), Line::End);
    }
}
