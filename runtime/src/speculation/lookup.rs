//! Guesses by lookup: a text goes on as it did where its end stood before.
//!
//! ```text
//! text:   a b c d e   x a b c          the end "a b c" stood at the beginning
//!                 └── guess: d e x a b c d e ..    (past the end of the text, the guess itself goes on)
//! ```

/// Tokens that are compared at most.
pub(super) const LONGEST: usize = 16;

/// Tokens from the end of a text in which its end is looked for.
const REACH: usize = 1 << 16;

/// Place before the end of a text where its last tokens stand, too.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Place {
    /// Index of the token that followed.
    pub(super) next: usize,
    /// Number of equal tokens before it, up to [`LONGEST`].
    pub(super) len: usize,
}

/// Finds the place that shares the most tokens with the end of the text; the last of them.
pub(super) fn find(tokens: &[u32]) -> Option<Place> {
    let (last, before) = tokens.split_last()?;
    let from = before.len().saturating_sub(REACH);
    let mut best: Option<Place> = None;
    for at in (from..before.len()).rev() {
        if before[at] != *last {
            continue;
        }
        let pairs = before[..at].iter().rev().zip(before.iter().rev());
        let len = 1 + pairs.take(LONGEST - 1).take_while(|(a, b)| a == b).count();
        if best.is_none_or(|best| len > best.len) {
            best = Some(Place { next: at + 1, len });
            if len == LONGEST {
                break;
            }
        }
    }
    best
}

/// Token number `i` of what follows a place of the text.
pub(super) fn follow(tokens: &[u32], place: Place, i: usize) -> u32 {
    // The text repeats itself from there.
    let period = tokens.len() - place.next;
    tokens[place.next + i % period]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn guess(tokens: &[u32], n: usize) -> Option<Vec<u32>> {
        find(tokens).map(|place| (0..n).map(|i| follow(tokens, place, i)).collect())
    }

    #[test]
    fn the_longest_match_wins_and_of_equal_ones_the_last() {
        let text = [1, 2, 3, 7, 9, 2, 3, 8, 5, 3, 6, 1, 2, 3];
        assert_eq!(find(&text), Some(Place { next: 3, len: 3 }));
        assert_eq!(find(&text[..7]), Some(Place { next: 3, len: 2 }));
        assert_eq!(find(&[4, 1, 4, 2, 4]), Some(Place { next: 3, len: 1 }));
        assert_eq!((find(&[]), find(&[1]), find(&[1, 2])), (None, None, None));
    }

    #[test]
    fn guesses_go_on_past_the_end() {
        assert_eq!(guess(&[1, 2, 1], 5), Some(vec![2, 1, 2, 1, 2]));
        assert_eq!(guess(&[5, 5], 3), Some(vec![5, 5, 5]));
        let text = [1, 2, 3, 4, 5, 1, 2, 3];
        assert_eq!(guess(&text, 7), Some(vec![4, 5, 1, 2, 3, 4, 5]));
        assert_eq!(guess(&[3, 1, 4, 1, 5], 4), None);
    }

    proptest! {
        /// It is what a search without any cleverness finds.
        #[test]
        fn it_finds_what_there_is(tokens in prop::collection::vec(0u32..4, 0..60)) {
            let n = tokens.len();
            let shared = |end: usize| {
                (0..LONGEST.min(end)).take_while(|i| tokens[end - 1 - i] == tokens[n - 1 - i]).count()
            };
            let all = (1..n).map(|next| Place { next, len: shared(next) });
            let want = all.filter(|p| p.len > 0).max_by_key(|p| (p.len, p.next));
            prop_assert_eq!(find(&tokens), want);
        }
    }
}
