//! Stop strings: texts that end a generation, found while it streams.

/// Search for stop strings in a text that comes in pieces.
///
/// The first stop string that is completed ends the text; of those completed by the same character,
/// the longest. The text before it is passed on, the stop string itself is not, and text that may be
/// the beginning of one is held back until that is known. The result does not depend on how the text
/// is cut into pieces.
#[derive(Clone, Debug, Default)]
pub(super) struct StopStrings {
    needles: Vec<Needle>,
    /// End of the text so far that may be the beginning of a stop string.
    held: String,
}

/// One stop string, searched by the algorithm of Knuth, Morris and Pratt.
#[derive(Clone, Debug)]
struct Needle {
    text: Box<str>,
    /// Of each prefix, one byte longer than its index: the length of the longest shorter prefix that
    /// is also its end.
    fallback: Vec<usize>,
    /// Length of the longest prefix that is the end of the text.
    matched: usize,
}

impl Needle {
    fn new(text: &str) -> Needle {
        let bytes = text.as_bytes();
        let mut fallback = vec![0; bytes.len()];
        let mut n = 0;
        for i in 1..bytes.len() {
            while n > 0 && bytes[i] != bytes[n] {
                n = fallback[n - 1];
            }
            n += usize::from(bytes[i] == bytes[n]);
            fallback[i] = n;
        }
        Needle { text: text.into(), fallback, matched: 0 }
    }

    /// Goes on by one byte. Returns true if the stop string is complete.
    fn step(&mut self, byte: u8) -> bool {
        let bytes = self.text.as_bytes();
        while self.matched > 0 && bytes[self.matched] != byte {
            self.matched = self.fallback[self.matched - 1];
        }
        self.matched += usize::from(bytes[self.matched] == byte);
        self.matched == bytes.len()
    }
}

impl StopStrings {
    /// Search for `stop`, none of which is empty.
    pub(super) fn new(stop: &[String]) -> StopStrings {
        let needles: Vec<_> = stop.iter().map(|text| Needle::new(text)).collect();
        let longest = needles.iter().map(|n| n.text.len()).max().unwrap_or(0);
        // A piece is held together with what is already there, until the search is over it.
        StopStrings { needles, held: String::with_capacity(longest) }
    }

    /// True if there are no stop strings.
    pub(super) fn is_empty(&self) -> bool {
        self.needles.is_empty()
    }

    /// Length of the longest stop string, in bytes.
    pub(super) fn longest(&self) -> usize {
        self.needles.iter().map(|n| n.text.len()).max().unwrap_or(0)
    }

    /// Text held back.
    pub(super) fn held(&self) -> &str {
        &self.held
    }

    /// Adds `piece` to the text and appends to `out` the text that is no beginning of a stop string.
    /// Returns the index of the stop string that ends the text; the rest of the piece is discarded.
    pub(super) fn push(&mut self, piece: &str, out: &mut String) -> Option<usize> {
        for (at, c) in piece.char_indices() {
            let end = at + c.len_utf8();
            let mut found: Option<(usize, usize)> = None;
            for byte in piece.as_bytes()[at..end].iter().copied() {
                for (i, needle) in self.needles.iter_mut().enumerate() {
                    // It ends with a character, so this is the character's last byte.
                    if needle.step(byte) && found.is_none_or(|(_, len)| needle.text.len() > len) {
                        found = Some((i, needle.text.len()));
                    }
                }
            }
            if let Some((i, len)) = found {
                // The text ends before it: in the piece, or in what is held.
                let all = self.held.len() + end - len;
                self.release(&piece[..at], all, out);
                self.held.clear();
                self.needles.iter_mut().for_each(|n| n.matched = 0);
                return Some(i);
            }
        }
        let keep = self.needles.iter().map(|n| n.matched).max().unwrap_or(0);
        let all = self.held.len() + piece.len() - keep;
        self.release(piece, all, out);
        None
    }

    /// Appends to `out` the first `n` bytes of the held text followed by `piece`, and holds the rest.
    fn release(&mut self, piece: &str, n: usize, out: &mut String) {
        let held = n.min(self.held.len());
        out.push_str(&self.held[..held]);
        self.held.drain(..held);
        let rest = &piece[(n - held).min(piece.len())..];
        out.push_str(&piece[..piece.len() - rest.len()]);
        self.held.push_str(rest);
    }

    /// Ends the text: appends what is held back to `out`.
    pub(super) fn finish(&mut self, out: &mut String) {
        out.push_str(&self.held);
        self.held.clear();
        self.needles.iter_mut().for_each(|n| n.matched = 0);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Output and stop string of a text cut into these pieces.
    fn run(stop: &[&str], pieces: &[&str]) -> (String, Option<usize>) {
        let stop: Vec<String> = stop.iter().map(|s| (*s).to_owned()).collect();
        let (mut search, mut out) = (StopStrings::new(&stop), String::new());
        for piece in pieces {
            let found = search.push(piece, &mut out);
            if found.is_some() {
                return (out, found);
            }
        }
        search.finish(&mut out);
        (out, None)
    }

    /// The same by definition: character by character, the longest stop string that ends there.
    fn by_definition(stop: &[&str], text: &str) -> (String, Option<usize>) {
        for (at, c) in text.char_indices() {
            let so_far = &text[..at + c.len_utf8()];
            let ends = stop.iter().enumerate().filter(|(_, s)| so_far.ends_with(**s));
            if let Some((i, s)) = ends.max_by_key(|(i, s)| (s.len(), usize::MAX - i)) {
                return (so_far[..so_far.len() - s.len()].to_owned(), Some(i));
            }
        }
        (text.to_owned(), None)
    }

    #[test]
    fn text_before_a_stop_string_is_passed_on() {
        assert_eq!(run(&["STOP"], &["one ST", "OP two"]), ("one ".into(), Some(0)));
        assert_eq!(run(&["STOP"], &["one STO", "NE ST"]), ("one STONE ST".into(), None));
        assert_eq!(run(&["\n\n", "User:"], &["a\nUse", "r: b"]), ("a\n".into(), Some(1)));
        // The first that is complete ends the text, however it is cut.
        assert_eq!(run(&["bc", "abcd"], &["abcd"]), ("a".into(), Some(0)));
        // Of two that end together, the longer.
        assert_eq!(run(&["b", "ab"], &["xab"]), ("x".into(), Some(1)));
        // Characters that share bytes with a stop string.
        assert_eq!(run(&["é!"], &["è!é", "é!"]), ("è!é".into(), Some(0)));
    }

    #[test]
    fn only_what_may_begin_a_stop_string_is_held_back() {
        let (mut search, mut out) = (StopStrings::new(&["aab".into()]), String::new());
        for (piece, passed, held) in [
            ("xa", "x", "a"),
            ("a", "x", "aa"),
            ("a", "xa", "aa"),
            ("c", "xaaac", ""),
            ("a", "xaaac", "a"),
        ] {
            assert_eq!(search.push(piece, &mut out), None);
            assert_eq!((out.as_str(), search.held()), (passed, held), "after {piece}");
        }
    }

    proptest! {
        #[test]
        fn as_by_definition_however_it_is_cut(
            text in "[ab\u{e9}\u{e8}]{0,24}",
            stop in prop::collection::vec("[ab\u{e9}\u{e8}]{1,5}", 0..4),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
        ) {
            let stop: Vec<&str> = stop.iter().map(String::as_str).collect();
            let mut ends: Vec<usize> = text.char_indices().map(|(i, _)| i).collect();
            ends.push(text.len());
            let mut cuts: Vec<usize> = cuts.iter().map(|c| *c.get(&ends)).collect();
            cuts.push(text.len());
            cuts.sort_unstable();
            let mut from = 0;
            let mut pieces = vec![];
            for to in cuts {
                pieces.push(&text[from..to]);
                from = to;
            }
            prop_assert_eq!(run(&stop, &pieces), by_definition(&stop, &text));
        }
    }
}
