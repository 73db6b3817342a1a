//! Speculation: guesses of a text's next tokens, which one step computes together with its last token.
//!
//! A step of several tokens has the bits that steps of one have, so that from its rows of logits tokens are
//! chosen as without guesses, one after another with the same random numbers, for as long as the guesses
//! are right. At the first that is wrong the text goes back to the token before it. Guesses change the
//! time, and nothing else.
//!
//! ```text
//! text        .. t          one token is to be computed
//! guesses        a b c      as many as are worth their time ([`Costs`], [`Hits`])
//! step           t a b c    four rows of logits
//! chosen           a b x    of the first three rows: c was wrong
//! text        .. t a b x    and x is to be computed next
//! ```

use core::time::Duration;
use std::time::Instant;

pub(crate) mod costs;
pub(crate) mod hits;
mod lookup;

use costs::Costs;
use hits::Hits;

use crate::mean::Mean;

/// Guesses in a step of one text, at most.
pub(crate) const MOST_GUESSES: usize = 15;

/// Length of a match that guesses of a model count as.
pub(crate) const OF_DRAFT: usize = 4;

/// Source of guesses of the next tokens, which are computed together with a text's last one. Texts,
/// logits, log probabilities and random numbers are the same with every source and with none.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum Speculation {
    /// No guesses.
    #[default]
    Off,
    /// The text itself: where its last tokens stood before, it is guessed to go on as it did there. There
    /// are only as many guesses as pay by the times and the luck of the steps before; where text never
    /// repeats itself there are none.
    Ngram,
    /// As [`Speculation::Ngram`], but always with this many guesses (15 at most), whether they pay or not:
    /// for measurements and tests.
    NgramAlways(u8),
    /// A smaller model of the same vocabulary, given to
    /// [`SessionBuilder::draft`](crate::SessionBuilder::draft) or
    /// [`EngineBuilder::draft`](crate::engine::EngineBuilder::draft): what it would write. It writes for as
    /// long as that pays.
    Draft,
    /// As [`Speculation::Draft`], but always with this many guesses (15 at most).
    DraftAlways(u8),
}

impl Speculation {
    /// Number of guesses, whether they pay or not.
    pub(crate) fn always(self) -> Option<usize> {
        match self {
            Speculation::NgramAlways(n) | Speculation::DraftAlways(n) => Some(usize::from(n)),
            _ => None,
        }
    }

    /// True if another model guesses.
    pub(crate) fn needs_draft(self) -> bool {
        matches!(self, Speculation::Draft | Speculation::DraftAlways(_))
    }
}

/// Time of a step or of guesses. Where there is no clock (wasm without a system) it is none, so that guesses
/// never seem to pay.
pub(crate) struct Timer(Option<Instant>);

impl Timer {
    pub(crate) fn start() -> Timer {
        let has_clock = !cfg!(all(target_family = "wasm", target_os = "unknown"));
        Timer(has_clock.then(Instant::now))
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.0.map_or(Duration::ZERO, |began| began.elapsed())
    }
}

/// Number of guesses so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct SpeculationStats {
    /// Guesses that were computed.
    pub guessed: u64,
    /// Those among them that were right: each saved a step.
    pub right: u64,
}

/// Guesses of one text.
#[derive(Clone, Debug)]
pub(crate) struct Guesses {
    /// Those that the step computes, and the one behind them.
    tokens: Vec<u32>,
    /// Number of equal tokens that led to the first.
    len: usize,
    /// Those that were right so far.
    right: usize,
    hits: Hits,
}

impl Guesses {
    /// Bytes that they take.
    pub(crate) const BYTES: usize = size_of::<Guesses>() + (MOST_GUESSES + 1) * size_of::<u32>();

    pub(crate) fn new() -> Guesses {
        Guesses {
            tokens: Vec::with_capacity(MOST_GUESSES + 1),
            len: 0,
            right: 0,
            hits: Hits::new(),
        }
    }

    /// Forgets the guesses; the next ones count as those after a match of `len` tokens.
    pub(crate) fn begin(&mut self, len: usize) {
        (self.len, self.right) = (len, 0);
        self.tokens.clear();
    }

    /// Adds guesses that were made elsewhere.
    pub(crate) fn put(&mut self, guesses: &[u32]) {
        self.tokens.extend_from_slice(guesses);
    }

    /// Guesses that go on from the end of `tokens`, as many as there may be in a step.
    pub(crate) fn look_up(&mut self, tokens: &[u32]) {
        self.begin(0);
        if let Some(place) = lookup::find(tokens) {
            self.len = place.len;
            let all = (0..=MOST_GUESSES).map(|i| lookup::follow(tokens, place, i));
            self.tokens.extend(all);
        }
    }

    /// Chances of the first `n` guesses, each together with all before it.
    fn chances(&self, n: usize) -> impl Iterator<Item = f32> {
        let mut all = 1.0;
        (0..n).map(move |i| {
            all *= self.chance(i);
            all
        })
    }

    /// Number of guesses that a step may have.
    pub(crate) fn len(&self) -> usize {
        self.tokens.len().min(MOST_GUESSES)
    }

    /// Chance of guess `i` if all before it are right.
    pub(crate) fn chance(&self, i: usize) -> f32 {
        self.hits.chance(self.len + i)
    }

    /// Keeps the first `n` guesses, and one more to learn from.
    pub(crate) fn keep(&mut self, n: usize) {
        self.tokens.truncate(n + 1);
    }

    /// The first `n` guesses.
    pub(crate) fn kept(&self, n: usize) -> &[u32] {
        &self.tokens[..n.min(self.tokens.len())]
    }

    /// Learns the token that was chosen next. True if it is the one that was guessed.
    pub(crate) fn chosen(&mut self, token: u32) -> bool {
        let Some(&guess) = self.tokens.get(self.right) else { return false };
        self.hits.learn(self.len + self.right, guess == token);
        match guess == token {
            true => self.right += 1,
            false => self.tokens.clear(),
        }
        guess == token
    }
}

/// Steps in which a model makes a guess although guesses did not pay before, to see how it does now: ever
/// fewer of them.
#[derive(Clone, Debug)]
pub(crate) struct Trials {
    /// Steps since the last guess, and those after which there is one again.
    idle: u32,
    patience: u32,
}

impl Trials {
    /// Patience at first, and at most.
    const PATIENCE: u32 = 16;
    const MOST: u32 = 1024;

    pub(crate) fn new() -> Trials {
        Trials { idle: 0, patience: Trials::PATIENCE }
    }

    /// True if a step for which `n` guesses pay is to have one where that is none.
    pub(crate) fn is_due(&mut self, n: usize) -> bool {
        if n > 0 {
            *self = Trials::new();
            return false;
        }
        self.idle += 1;
        let due = self.idle >= self.patience;
        if due {
            (self.idle, self.patience) = (0, (2 * self.patience).min(Trials::MOST));
        }
        due
    }
}

/// Speculation of one text.
#[derive(Clone, Debug)]
pub(crate) struct Speculator {
    costs: Costs,
    guesses: Guesses,
    always: Option<usize>,
    /// Time that a guess of a model takes.
    each: Mean,
    trials: Trials,
    pub(crate) stats: SpeculationStats,
}

impl Speculator {
    /// Speculation of this kind; `None` for none.
    pub(crate) fn new(speculation: Speculation) -> Option<Speculator> {
        let always = match speculation {
            Speculation::Off => return None,
            _ => speculation.always(),
        };
        Some(Speculator {
            costs: Costs::new(),
            guesses: Guesses::new(),
            always,
            each: Mean::default(),
            trials: Trials::new(),
            stats: SpeculationStats::default(),
        })
    }

    /// Guesses for a step over the last `pending` tokens of a text, at most `room`.
    pub(crate) fn guess(&mut self, tokens: &[u32], pending: usize, room: usize) -> &[u32] {
        self.guesses.look_up(tokens);
        let most = self.guesses.len().min(room);
        let n = match self.always {
            Some(n) => n.min(most),
            None => self.costs.worth((pending, 1), self.guesses.chances(most), 0.0),
        };
        self.stats.guessed += n as u64;
        self.guesses.keep(n);
        self.guesses.kept(n)
    }

    /// Number of guesses that another model is to make for such a step.
    pub(crate) fn ask(&mut self, pending: usize, room: usize) -> usize {
        self.guesses.begin(OF_DRAFT);
        if let Some(n) = self.always {
            return n.min(room);
        }
        let each = self.each.get().unwrap_or(0.0);
        let n = self.costs.worth((pending, 1), self.guesses.chances(room), each);
        let trial = self.trials.is_due(n) && room > 0;
        if trial { 1 } else { n }
    }

    /// Takes the guesses of another model, which took so long.
    pub(crate) fn answer(&mut self, guesses: &[u32], took: Duration) -> &[u32] {
        if !guesses.is_empty() {
            self.each.add(took.as_secs_f64() / guesses.len() as f64);
        }
        self.stats.guessed += guesses.len() as u64;
        self.guesses.put(guesses);
        self.guesses.kept(guesses.len())
    }

    /// Learns from a step of so many tokens.
    pub(crate) fn computed(&mut self, tokens: usize, took: Duration) {
        self.costs.learn(tokens, took);
    }

    /// Learns the token that was chosen next. True if it is the one that was guessed.
    pub(crate) fn chosen(&mut self, token: u32) -> bool {
        self.guesses.chosen(token)
    }

    /// Counts a guess that was right and saved a step.
    pub(crate) fn saved(&mut self) {
        self.stats.right += 1;
    }
}
