//! Pace: how many tokens of prompts a step computes beside running answers.

use core::time::Duration;

/// Least number of tokens of prompts in a step.
pub(super) const LEAST: usize = 16;

/// Number of tokens of prompts that a step may compute while answers run, so that it takes no longer
/// than a limit. It is found by the times of the steps before; it changes no result.
#[derive(Clone, Debug)]
pub(super) struct Pace {
    limit: f64,
    most: usize,
    tokens: f64,
}

impl Pace {
    pub(super) fn new(limit: Duration, batch: usize) -> Pace {
        Pace { limit: limit.as_secs_f64(), most: batch, tokens: LEAST as f64 }
    }

    /// Tokens of prompts for the next step.
    pub(super) fn tokens(&self) -> usize {
        (self.tokens as usize).clamp(LEAST, self.most.max(LEAST))
    }

    /// Learns from a step that took this long, with so many tokens of prompts beside answers.
    pub(super) fn learn(&mut self, took: Duration, tokens: usize) {
        let took = took.as_secs_f64();
        // Fewer tokens than allowed say only whether they were too many.
        if took > self.limit {
            let fit = tokens as f64 * self.limit / took;
            self.tokens = (0.95 * fit).min(self.tokens);
        } else if tokens >= self.tokens() {
            let fit = if took > 0.0 { self.limit / took } else { 1.5 };
            self.tokens *= fit.min(1.5);
        }
        self.tokens = self.tokens.clamp(LEAST as f64, self.most.max(LEAST) as f64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Steps of a machine that needs 20 ms and 2 ms for each token.
    fn run(pace: &mut Pace, steps: usize) -> Duration {
        let mut took = Duration::ZERO;
        for _ in 0..steps {
            let n = pace.tokens();
            took = Duration::from_millis(20 + 2 * n as u64);
            pace.learn(took, n);
        }
        took
    }

    #[test]
    fn steps_come_to_take_as_long_as_they_may() {
        let mut pace = Pace::new(Duration::from_millis(200), 512);
        let took = run(&mut pace, 20);
        assert!((150..=200).contains(&took.as_millis()), "{took:?}");
        assert!((65..=90).contains(&pace.tokens()), "{}", pace.tokens());
    }

    #[test]
    fn some_tokens_go_on_however_slow_the_machine() {
        let mut pace = Pace::new(Duration::from_millis(1), 512);
        run(&mut pace, 50);
        assert_eq!(pace.tokens(), LEAST);
        let mut pace = Pace::new(Duration::from_secs(100), 64);
        run(&mut pace, 50);
        assert_eq!(pace.tokens(), 64);
    }

    #[test]
    fn few_tokens_at_the_end_of_a_prompt_teach_nothing() {
        let mut pace = Pace::new(Duration::from_millis(200), 512);
        run(&mut pace, 20);
        let before = pace.tokens();
        pace.learn(Duration::from_millis(22), 1);
        assert_eq!(pace.tokens(), before);
    }
}
