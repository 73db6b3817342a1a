//! Times of steps by their number of tokens, and how many guesses they make worthwhile.

use core::time::Duration;

use crate::mean::Mean;

/// Tokens of a step up to which times are kept; beyond, those of the last are scaled.
const MOST: usize = 64;

/// Time that a token adds to a step of one, as a share of it, where nothing has been measured.
const EACH: f64 = 0.15;

/// Steps after which a time is forgotten, so that it is measured again where it might be worth it.
const STALE: u64 = 512;

/// Least gain for which there are guesses at all.
const WORTH: f64 = 1.03;

#[derive(Clone, Copy, Debug, Default)]
struct Time {
    mean: Mean,
    /// Number of the last step that it was measured in.
    step: u64,
}

/// Measured times of steps.
#[derive(Clone, Debug)]
pub(crate) struct Costs {
    times: [Time; MOST + 1],
    steps: u64,
}

impl Costs {
    pub(crate) fn new() -> Costs {
        Costs { times: [Time::default(); MOST + 1], steps: 0 }
    }

    /// Learns from a step of so many tokens.
    pub(crate) fn learn(&mut self, tokens: usize, took: Duration) {
        self.steps += 1;
        let (steps, Some(time)) = (self.steps, self.times.get_mut(tokens)) else { return };
        if steps - time.step > STALE {
            time.mean = Mean::default();
        }
        time.mean.add(took.as_secs_f64());
        time.step = steps;
    }

    fn known(&self, tokens: usize) -> Option<f64> {
        let Time { mean, step } = self.times[tokens];
        mean.get().filter(|_| self.steps - step <= STALE)
    }

    /// Time of a step of so many tokens, measured or estimated from its neighbours.
    fn of(&self, tokens: usize) -> f64 {
        let tokens = tokens.clamp(1, MOST);
        if let Some(known) = self.known(tokens) {
            return known;
        }
        let below = (1..tokens).rev().find_map(|n| Some((n, self.known(n)?)));
        let above = (tokens + 1..=MOST).find_map(|n| Some((n, self.known(n)?)));
        let weight = |n: usize| 1.0 + EACH * (n - 1) as f64;
        match (below, above) {
            (Some((a, low)), Some((b, high))) => {
                low + (high - low).max(0.0) * (tokens - a) as f64 / (b - a) as f64
            }
            (Some((n, time)), None) | (None, Some((n, time))) => time * weight(tokens) / weight(n),
            (None, None) => weight(tokens),
        }
    }

    /// Number of guesses worth computing in a step of `tokens` tokens from which `answers` are chosen, of
    /// those whose chances to be right (each with all guesses before it) are `chances`, from the largest
    /// to the smallest. Making a guess takes `each` seconds.
    pub(crate) fn worth(
        &self,
        (tokens, answers): (usize, usize),
        chances: impl IntoIterator<Item = f32>,
        each: f64,
    ) -> usize {
        let (mut best, mut most) = (0, WORTH * answers as f64 / self.of(tokens));
        let mut chosen = answers as f64;
        for (i, chance) in chances.into_iter().enumerate() {
            let n = i + 1;
            if tokens + n > MOST {
                break;
            }
            chosen += f64::from(chance);
            let speed = chosen / (self.of(tokens + n) + each * n as f64);
            if speed > most {
                (best, most) = (n, speed);
            }
        }
        best
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn costs(times: &[(usize, u64)]) -> Costs {
        let mut costs = Costs::new();
        for &(tokens, ms) in times {
            costs.learn(tokens, Duration::from_millis(ms));
        }
        costs
    }

    #[test]
    fn many_sure_guesses_are_worth_it_and_vague_ones_are_not() {
        let costs = costs(&[(1, 100), (2, 120), (4, 150), (8, 200), (16, 300)]);
        assert_eq!(costs.worth((1, 1), [1.0; 15], 0.0), 15);
        assert_eq!(costs.worth((1, 1), [0.1; 15], 0.0), 0);
        // Chances of guesses behind one another.
        let behind = |chance: f32| (1..16).map(move |n| chance.powi(n));
        let some = costs.worth((1, 1), behind(0.7), 0.0);
        assert!((1..8).contains(&some), "{some}");
        // The more a guess costs, the fewer there are.
        assert!(costs.worth((1, 1), behind(0.7), 0.02) < some);
        assert_eq!(costs.worth((1, 1), behind(0.7), 0.1), 0);
        // Where every token takes its own time, none is worth it.
        let costs = self::costs(&[(1, 100), (2, 200), (16, 1600)]);
        assert_eq!(costs.worth((1, 1), behind(0.95), 0.0), 0);
        assert_eq!(costs.worth((4, 4), [0.9; 12], 0.0), 0);
    }

    #[test]
    fn times_are_estimated_by_their_neighbours() {
        let costs = costs(&[(1, 100), (5, 180)]);
        assert!((costs.of(3) - 0.14).abs() < 1e-9);
        assert!(costs.of(9) > 0.18 && costs.of(9) < 0.36);
        assert!((Costs::new().of(3) - 1.3).abs() < 1e-9);
        // Whatever is measured, there is a time for any number.
        assert!(costs.of(0) > 0.0 && costs.of(1000) > 0.0);
    }

    #[test]
    fn old_times_are_forgotten() {
        let mut costs = costs(&[(1, 100), (4, 900)]);
        assert_eq!(costs.worth((1, 1), [1.0; 3], 0.0), 0);
        for _ in 0..=STALE {
            costs.learn(1, Duration::from_millis(100));
        }
        assert_eq!(costs.worth((1, 1), [1.0; 3], 0.0), 3);
    }
}
