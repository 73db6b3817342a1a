//! Guesses in a step, and the way back from those that were wrong.

use std::time::Instant;

use super::super::PAGE;
use super::super::draft::Draft;
use super::{Cut, LogitsFor, Row, Scheduler};
use crate::mean::Mean;
use crate::speculation::costs::Costs;
use crate::speculation::{MOST_GUESSES, OF_DRAFT, Speculation, Trials};

/// Answers and guesses of a step, at most.
const MOST: usize = 64;

/// Speculation of an engine.
pub(super) struct Speculating {
    always: Option<usize>,
    pub(super) costs: Costs,
    draft: Option<Draft>,
    /// Time that a guess of the draft model takes.
    each: Mean,
    trials: Trials,
    /// The step's guesses from the most to the least likely: cuts that they belong to.
    picked: Vec<usize>,
    chances: Vec<f32>,
}

impl Speculating {
    pub(super) fn new(speculation: Speculation, draft: Option<Draft>) -> Option<Speculating> {
        (speculation != Speculation::Off).then(|| Speculating {
            always: speculation.always(),
            costs: Costs::new(),
            draft,
            each: Mean::default(),
            trials: Trials::new(),
            picked: Vec::with_capacity(MOST),
            chances: Vec::with_capacity(MOST),
        })
    }
}

impl Scheduler {
    /// Adds guesses to a step of `answers` answers, if there is nothing else (`alone`). Returns their
    /// number. Where there are none, texts still learn how good those of their own would have been.
    pub(super) fn guess(&mut self, answers: usize, alone: bool) -> usize {
        let Some(speculation) = &mut self.speculation else { return 0 };
        let options = self.runner.plan().options;
        let rows = options.logits.min(options.batch).min(MOST);
        let room = if alone { rows.saturating_sub(answers) } else { 0 };
        for cut in &self.cuts {
            let task = &mut self.running[cut.task];
            match (&mut task.guesses, &speculation.draft) {
                (Some(guesses), None) => guesses.look_up(&task.tokens),
                (Some(guesses), Some(_)) => guesses.begin(OF_DRAFT),
                (None, _) => {}
            }
        }
        // The chance of each text's next guess, if all before it are right.
        let (running, cuts) = (&mut self.running, &mut self.cuts);
        let most = speculation.always.unwrap_or(MOST_GUESSES).min(MOST_GUESSES);
        let drafts = speculation.draft.as_ref().map(Draft::context);
        let next = |cut: &Cut, chance: f32| {
            let task = &running[cut.task];
            let guesses = task.guesses.as_ref()?;
            // In memory that the text has: its pages, and room for its tokens.
            let end = task.tokens.len() + cut.guesses + 1;
            let fits = end <= options.context.min(task.pages.len() * PAGE);
            let fits = fits && end <= task.tokens.capacity();
            let there = match drafts {
                // The last guess is not computed by the model that made it.
                Some(context) => (context + 1).saturating_sub(task.tokens.len()),
                None => guesses.len(),
            };
            let more = fits && cut.guesses < there.min(most);
            more.then(|| chance * guesses.chance(cut.guesses))
        };
        speculation.picked.clear();
        speculation.chances.clear();
        while speculation.picked.len() < room {
            let so_far = |i: usize| {
                let picked = speculation.picked.iter().rposition(|&p| p == i);
                picked.map_or(1.0, |at| speculation.chances[at])
            };
            let all = cuts.iter().enumerate();
            let all = all.filter_map(|(i, cut)| Some((i, next(cut, so_far(i))?)));
            let Some((i, chance)) = all.max_by(|a, b| a.1.total_cmp(&b.1)) else { break };
            cuts[i].guesses += 1;
            speculation.picked.push(i);
            speculation.chances.push(chance);
        }
        let mut n = speculation.picked.len();
        if speculation.always.is_none() && n > 0 {
            let chances = speculation.chances.iter().copied();
            let each = speculation.each.get().unwrap_or(0.0);
            n = speculation.costs.worth((answers, answers), chances, each);
            if drafts.is_some() && speculation.trials.is_due(n) {
                n = 1;
            }
        }
        for &i in &speculation.picked[n..] {
            cuts[i].guesses -= 1;
        }
        if let Some(draft) = speculation.draft.as_mut().filter(|_| n > 0) {
            let began = Instant::now();
            let usual = draft.guess(running, cuts, &mut self.crew, &self.stop);
            n = cuts.iter().map(|cut| cut.guesses).sum();
            if usual && n > 0 {
                speculation.each.add(began.elapsed().as_secs_f64() / n as f64);
            }
        }
        for cut in cuts {
            if cut.guesses > 0 {
                cut.logits = LogitsFor::All;
            }
            if let Some(guesses) = &mut running[cut.task].guesses {
                guesses.keep(cut.guesses);
            }
        }
        n
    }

    /// Puts the guesses behind the tokens of their texts.
    pub(super) fn append_guesses(&mut self) {
        for cut in self.cuts.iter().filter(|cut| cut.guesses > 0) {
            let task = &mut self.running[cut.task];
            if let Some(guesses) = &task.guesses {
                task.tokens.extend_from_slice(guesses.kept(cut.guesses));
            }
        }
    }

    /// Takes them from there.
    pub(super) fn remove_guesses(&mut self) {
        for cut in self.cuts.iter().filter(|cut| cut.guesses > 0) {
            let task = &mut self.running[cut.task];
            task.tokens.truncate(task.tokens.len() - cut.guesses);
        }
    }

    /// Goes back to the end of what is right of each text that had guesses.
    pub(super) fn go_back(&mut self) {
        for i in 0..self.rows.len() {
            let Row { task: at, guesses, .. } = self.rows[i];
            if guesses == 0 {
                continue;
            }
            let task = &mut self.running[at];
            let position = self.runner.position(task.slot);
            // Recurrent layers go back to the step before, and compute some tokens again.
            let to = self.runner.nearest(task.slot, task.done);
            let _ = self.runner.truncate(task.slot, to);
            task.done = to;
            self.register(at);
            if position == to {
                self.checkpoint_if_due(at);
            }
        }
    }
}
