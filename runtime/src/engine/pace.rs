//! Pace: how many tokens of prompts a step computes beside running answers.

use core::time::Duration;

use crate::mean::Mean;

/// Least number of tokens of prompts in a step.
const LEAST: usize = 4;

/// Time of a step with prompts, as a multiple of that of one without: the pause between two tokens of
/// an answer that a prompt causes.
const SLOWER: f64 = 1.6;

/// Time in seconds that a step of prompts alone may take.
const LONGEST: f64 = 1.0;

/// Tokens of the first step of prompts, before anything is known of their speed.
const FIRST: usize = 64;

/// Time to wait for more requests, as a share of that of the first step.
const PATIENCE: f64 = 0.02;

/// Longest time to wait for them.
pub(super) const MOST_PATIENCE: Duration = Duration::from_millis(20);

/// Number of tokens of prompts that a step may compute while answers run, so that it takes no longer
/// than a limit: that of the options or, if that is less, [`SLOWER`] times a step without prompts. It
/// is found by the times of the steps before; it changes no result.
#[derive(Clone, Debug)]
pub(super) struct Pace {
    pause: f64,
    most: usize,
    /// Times of steps of so many answers without prompts.
    alone: Vec<Mean>,
    /// Time that a token of a prompt adds to a step of answers.
    beside: Mean,
    /// Time of a token in steps of prompts alone.
    prompt: Mean,
}

impl Pace {
    /// Pace of an engine of so many sequences, with a limit of the time of a step and of its tokens.
    pub(super) fn new(limit: Duration, batch: usize, sequences: usize) -> Pace {
        let alone = vec![Mean::default(); sequences + 1];
        let (beside, prompt) = (Mean::default(), Mean::default());
        Pace { pause: limit.as_secs_f64(), most: batch, alone, beside, prompt }
    }

    /// Time of a step of `answers` answers without prompts, as far as it is known: that of the nearest
    /// number of answers.
    fn alone(&self, answers: usize) -> Option<f64> {
        let (fewer, more) = self.alone.split_at(answers.min(self.alone.len() - 1) + 1);
        let known = |mean: &Mean| mean.get();
        fewer.iter().rev().find_map(known).or_else(|| more.iter().find_map(known))
    }

    /// Time that a step of `answers` answers with prompts may take.
    fn limit(&self, answers: usize) -> f64 {
        self.alone(answers).map_or(self.pause, |alone| self.pause.min(SLOWER * alone))
    }

    /// Tokens of prompts for the next step, beside so many answers.
    pub(super) fn tokens(&self, answers: usize) -> usize {
        let left = self.limit(answers) - self.alone(answers).unwrap_or(0.0);
        let tokens = match self.beside.get().or(self.prompt.get()) {
            Some(each) if each > 0.0 => (left.max(0.0) / each) as usize,
            _ => LEAST,
        };
        tokens.clamp(LEAST, self.most.max(LEAST))
    }

    /// Tokens of prompts for the next step, if no answers run: as many as take no longer than
    /// [`LONGEST`], so that a request that comes meanwhile doesn't wait for long.
    pub(super) fn prompt_tokens(&self) -> usize {
        let tokens = match self.prompt.get() {
            Some(each) if each > 0.0 => (LONGEST / each) as usize,
            _ => FIRST,
        };
        tokens.clamp(LEAST, self.most.max(LEAST))
    }

    /// Learns from a step that took this long, with so many answers and tokens of prompts.
    pub(super) fn learn(&mut self, took: Duration, answers: usize, tokens: usize) {
        let took = took.as_secs_f64();
        match (answers, tokens) {
            (0, 0) => {}
            (0, n) => self.prompt.add(took / n as f64),
            (answers, 0) => {
                let last = self.alone.len() - 1;
                self.alone[answers.min(last)].add(took);
            }
            (answers, n) => {
                let alone = self.alone(answers).unwrap_or(0.0);
                let each = (took - alone).max(0.0) / n as f64;
                if took > self.limit(answers) {
                    // Too many: fewer at once.
                    self.beside = Mean::of(self.beside.get().unwrap_or(0.0).max(each));
                } else {
                    self.beside.add(each);
                }
            }
        }
    }

    /// Time for which it is worth waiting, before prompts of so many tokens are computed, whether others
    /// come that can be computed with them: a small part of the time that they take.
    pub(super) fn patience(&self, tokens: usize) -> Duration {
        let takes = self.prompt.get().unwrap_or(0.0) * tokens.min(self.most) as f64;
        Duration::from_secs_f64((takes * PATIENCE).min(MOST_PATIENCE.as_secs_f64()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Steps of a machine that needs 20 ms, and 2 ms for each token; the longest of the last ten.
    fn run(pace: &mut Pace, answers: usize, steps: usize) -> Duration {
        let mut longest = Duration::ZERO;
        for step in 0..steps {
            let n = pace.tokens(answers);
            let took = Duration::from_millis(20 + 2 * (n + answers) as u64);
            pace.learn(took, answers, n);
            if step + 10 >= steps {
                longest = longest.max(took);
            }
        }
        longest
    }

    #[test]
    fn steps_come_to_take_as_long_as_they_may() {
        // Of an answer that never was without prompts, the pause alone limits.
        let mut pace = Pace::new(Duration::from_millis(200), 512, 8);
        let took = run(&mut pace, 4, 30);
        assert!((150..=200).contains(&took.as_millis()), "{took:?}");
    }

    #[test]
    fn answers_keep_part_of_their_speed() {
        for answers in [1, 4, 8] {
            let mut pace = Pace::new(Duration::from_secs(1), 512, 8);
            let alone = Duration::from_millis(20 + 2 * answers as u64);
            pace.learn(alone, answers, 0);
            let took = run(&mut pace, answers, 30);
            let ratio = took.as_secs_f64() / alone.as_secs_f64();
            assert!((1.4..=2.0).contains(&ratio), "{answers}: {ratio}");
            // Other numbers of answers are like the nearest known one.
            assert!(pace.tokens(answers + 1) >= LEAST);
        }
        // And wait no longer than the limit.
        let mut pace = Pace::new(Duration::from_millis(45), 512, 8);
        pace.learn(Duration::from_millis(22), 1, 0);
        assert!(run(&mut pace, 1, 30).as_millis() <= 45);
    }

    #[test]
    fn some_tokens_go_on_however_slow_the_machine() {
        let mut pace = Pace::new(Duration::from_millis(1), 512, 8);
        run(&mut pace, 1, 50);
        assert_eq!(pace.tokens(1), LEAST);
        let mut pace = Pace::new(Duration::from_secs(100), 64, 8);
        run(&mut pace, 1, 50);
        assert_eq!(pace.tokens(1), 64);
    }

    #[test]
    fn steps_of_prompts_alone_are_bounded_too() {
        let mut pace = Pace::new(Duration::from_secs(1), 256, 8);
        assert_eq!(pace.prompt_tokens(), FIRST);
        pace.learn(Duration::from_millis(64), 0, 64);
        assert_eq!(pace.prompt_tokens(), 256);
        // A large model: 50 ms for each token.
        for _ in 0..40 {
            let n = pace.prompt_tokens();
            pace.learn(Duration::from_millis(50 * n as u64), 0, n);
        }
        assert!((15..=22).contains(&pace.prompt_tokens()), "{}", pace.prompt_tokens());
    }

    #[test]
    fn a_short_while_is_waited_for_company() {
        let mut pace = Pace::new(Duration::from_secs(1), 256, 8);
        assert_eq!(pace.patience(200), Duration::ZERO);
        pace.learn(Duration::from_millis(200), 0, 100);
        assert_eq!(pace.patience(100).as_millis(), 4);
        assert_eq!(pace.patience(10_000).as_millis(), 10);
    }
}
