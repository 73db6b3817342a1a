//! Pre-tokenizers: how a text is cut into the pieces that merging works on.

use super::unicode::{Class, class};

/// Which rule cuts a text.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Splitter {
    /// GPT-2's pattern: `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`.
    Gpt2,
}

impl Splitter {
    /// The pieces of `text`, in order; together they are the text.
    pub(super) fn split(self, text: &str) -> Pieces<'_> {
        match self {
            Splitter::Gpt2 => Pieces { rest: text },
        }
    }

    /// The splitter whose regular expression, in one of the spellings in use, is `pattern`.
    pub(super) fn from_pattern(pattern: &str) -> Option<Splitter> {
        const GPT2: [&str; 2] = [
            r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
            r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
        ];
        GPT2.contains(&pattern).then_some(Splitter::Gpt2)
    }
}

/// The pieces of a text by [`Splitter::Gpt2`].
pub(super) struct Pieces<'t> {
    rest: &'t str,
}

impl<'t> Iterator for Pieces<'t> {
    type Item = &'t str;

    fn next(&mut self) -> Option<&'t str> {
        let first = *self.rest.as_bytes().first()?;
        let len = match first {
            b'\'' => contraction(self.rest.as_bytes()),
            _ => None,
        };
        let (piece, rest) = self.rest.split_at(len.unwrap_or_else(|| gpt2_run(self.rest, first)));
        self.rest = rest;
        Some(piece)
    }
}

/// Bytes of the contraction that `text` starts with.
fn contraction(text: &[u8]) -> Option<usize> {
    match text {
        [b'\'', b's' | b't' | b'm' | b'd', ..] => Some(2),
        [b'\'', b'r' | b'v', b'e', ..] | [b'\'', b'l', b'l', ..] => Some(3),
        _ => None,
    }
}

/// Bytes of the piece at the start of `text`, which is not empty and starts with no contraction.
fn gpt2_run(text: &str, first: u8) -> usize {
    // One plain space belongs to the run of letters, digits or signs after it.
    let start = usize::from(first == b' ');
    let mut chars = text[start..].char_indices();
    match chars.next().map(|(_, c)| class(c)) {
        Some(kind) if kind != Class::Space => {
            chars.find(|&(_, c)| class(c) != kind).map_or(text.len(), |(at, _)| start + at)
        }
        // White space: up to the end, or all but the last before something else, or a single one.
        _ => {
            let mut last = 0;
            for (at, c) in text.char_indices() {
                if class(c) != Class::Space {
                    return if last == 0 { at } else { last };
                }
                last = at;
            }
            text.len()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, want: &[&str]) {
        let got: Vec<&str> = Splitter::Gpt2.split(text).collect();
        assert_eq!(got, want, "{text:?}");
    }

    #[test]
    fn gpt2_pieces() {
        check("", &[]);
        check("Hello world", &["Hello", " world"]);
        check("it's we'll I'VE '", &["it", "'s", " we", "'ll", " I", "'", "VE", " '"]);
        check("'re've'm'd't'lx''s", &["'re", "'ve", "'m", "'d", "'t", "'", "lx", "''", "s"]);
        check(" 's", &[" '", "s"]);
        check("a  b", &["a", " ", " b"]);
        check("a \n b", &["a", " \n", " b"]);
        check("a\n\nb", &["a", "\n", "\n", "b"]);
        check("a \nb", &["a", " ", "\n", "b"]);
        check("a   ", &["a", "   "]);
        check(" ", &[" "]);
        check("\u{a0}x", &["\u{a0}", "x"]);
        check("  \u{2003}x", &["  ", "\u{2003}", "x"]);
        check("x1½ Ⅷ…", &["x", "1½", " Ⅷ", "…"]);
        check("e\u{301}", &["e", "\u{301}"]);
    }

    #[test]
    fn patterns_are_known_by_their_text_alone() {
        assert_eq!(Splitter::from_pattern(r"\s+"), None);
    }
}
