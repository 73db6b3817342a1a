//! Chances of guesses, learned from those before.

/// Share of the newest outcome in a chance.
const NEWEST: f32 = 1.0 / 8.0;

/// Chances that the next token is the guessed one, by the number of tokens that led to the guess: 1, 2, 3,
/// 4 to 7, and more.
#[derive(Clone, Debug)]
pub(crate) struct Hits {
    chances: [f32; 5],
}

fn class(len: usize) -> usize {
    match len {
        0..=3 => len.saturating_sub(1),
        4..=7 => 3,
        _ => 4,
    }
}

impl Hits {
    /// Chances before anything is known.
    pub(crate) fn new() -> Hits {
        Hits { chances: [0.1, 0.3, 0.5, 0.65, 0.8] }
    }

    /// Chance of a guess after a match of `len` tokens.
    pub(crate) fn chance(&self, len: usize) -> f32 {
        self.chances[class(len)]
    }

    /// Learns that such a guess was right, or wrong.
    pub(crate) fn learn(&mut self, len: usize, hit: bool) {
        let chance = &mut self.chances[class(len)];
        *chance += NEWEST * (f32::from(u8::from(hit)) - *chance);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chances_follow_what_happens_and_stay_chances() {
        let mut hits = Hits::new();
        for len in [1, 2, 3, 5, 7, 8, 100] {
            (0..50).for_each(|_| hits.learn(len, len % 2 == 1));
        }
        assert!(hits.chance(1) > 0.99 && hits.chance(3) > 0.99 && hits.chance(6) > 0.99);
        assert!(hits.chance(2) < 0.01 && hits.chance(16) < 0.01);
        assert!(hits.chances.iter().all(|c| (0.0..=1.0).contains(c)));
        hits.learn(8, true);
        assert!(hits.chance(9) > 0.1, "one hit is worth another try");
    }
}
