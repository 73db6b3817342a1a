//! Stop strings: a text ends before the first of them.

/// Watches a text that comes in pieces.
pub(crate) struct Stops {
    stops: Vec<String>,
    /// Text that isn't released yet, since a stop string may begin in it.
    held: String,
}

impl Stops {
    pub(crate) fn new(stops: Vec<String>) -> Stops {
        Stops { stops, held: String::new() }
    }

    /// Takes the next piece. Returns what may be written, and true if the text ends there.
    pub(crate) fn push(&mut self, piece: &str) -> (String, bool) {
        if self.stops.is_empty() {
            return (piece.into(), false);
        }
        self.held.push_str(piece);
        if let Some(at) = self.stops.iter().filter_map(|stop| self.held.find(&**stop)).min() {
            self.held.truncate(at);
            return (std::mem::take(&mut self.held), true);
        }
        // The longest end of the text that is the beginning of a stop string.
        let held = self.stops.iter().map(|stop| begun(&self.held, stop)).max().unwrap_or(0);
        let rest = self.held.split_off(self.held.len() - held);
        (std::mem::replace(&mut self.held, rest), false)
    }

    /// What is left at the end of the text.
    pub(crate) fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }
}

/// Bytes at the end of `text` that are the beginning of `stop`, at most all of it but the last.
fn begun(text: &str, stop: &str) -> usize {
    let most = text.len().min(stop.len().saturating_sub(1));
    let ends = (1..=most).rev().filter(|&n| stop.is_char_boundary(n));
    ends.into_iter().find(|&n| text.ends_with(&stop[..n])).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The text that is written, and the number of pieces until the end.
    fn run(stops: &[&str], pieces: &[&str]) -> (String, Option<usize>) {
        let mut watch = Stops::new(stops.iter().map(|s| (*s).into()).collect());
        let mut written = String::new();
        for (i, piece) in pieces.iter().enumerate() {
            let (text, ended) = watch.push(piece);
            written.push_str(&text);
            if ended {
                return (written, Some(i + 1));
            }
        }
        (written + &watch.finish(), None)
    }

    #[test]
    fn a_text_ends_before_a_stop_string() {
        assert_eq!(run(&["."], &["a", "b. c", "d"]), ("ab".into(), Some(2)));
        assert_eq!(run(&["END"], &["aE", "N", "Db"]), ("a".into(), Some(3)));
        assert_eq!(run(&["END"], &["aE", "N", "x"]), ("aENx".into(), None));
        assert_eq!(run(&["END"], &["aE", "N"]), ("aEN".into(), None));
        // The earlier one, and a beginning within a beginning.
        assert_eq!(run(&["cd", "b"], &["abcd"]), ("a".into(), Some(1)));
        assert_eq!(run(&["aab"], &["a", "a", "a", "b"]), ("a".into(), Some(4)));
        assert_eq!(run(&["éx"], &["aé", "é", "x"]), ("aé".into(), Some(3)));
        assert_eq!(run(&[], &["a", "b"]), ("ab".into(), None));
    }
}
