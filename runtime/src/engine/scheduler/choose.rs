//! The next tokens after a step: masks come back, tokens are chosen, texts end.

use std::time::Duration;

use super::{Row, Scheduler};
use crate::engine::ConstraintError;
use crate::engine::stats::add;
use crate::session::continuation::Continuation;

impl Scheduler {
    /// Gives back the masks that are done, after waiting for them so long.
    pub(super) fn take_masks(&mut self, patience: Duration) {
        let (running, waiting) = (&mut self.running, &mut self.waiting);
        self.masks.collect(patience, |key, masked| {
            // The task may have ended, or have been pushed out.
            let mut all = running.iter_mut().chain(waiting.iter_mut());
            let Some(task) = all.find(|t| t.key() == key) else { return };
            match (&mut task.continuation, masked) {
                (Some(continuation), Some(masked)) => continuation.put_constraint(masked),
                _ => {
                    let lost = ConstraintError::new("it was lost");
                    task.error = Some(crate::SessionError::from(lost).into());
                }
            }
        });
    }

    /// Chooses the next token of every task that has a row of logits.
    pub(super) fn choose(&mut self) {
        let vocab = self.model.spec().vocab as usize;
        let context = self.runner.plan().options.context;
        let most = self.rows.iter().map(|r| r.row + 1 + r.guesses).max().unwrap_or(0);
        let logits = self.runner.logits(most);
        let tokenizer = self.model.tokenizer().ok();
        let (mut chosen, mut right) = (0, 0);
        for &Row { task, row, guesses } in &self.rows {
            let task = &mut self.running[task];
            let mut rows = logits[row * vocab..][..(1 + guesses) * vocab].chunks_exact(vocab);
            let Some(row) = rows.next() else { continue };
            if !task.prompt_sent {
                task.send_prompt();
            }
            let key = task.key();
            let Some(continuation) = task.continuation.as_mut().filter(|c| c.finish().is_none())
            else {
                continue;
            };
            if let Some(masked) = continuation.take_constraint() {
                self.masks.start(key, masked);
            }
            if continuation.has_lent_constraint() {
                match continuation.hold(row) {
                    Ok(()) => task.held = true,
                    Err(e) => task.error = Some(e.into()),
                }
                continue;
            }
            let next = continuation.next(row, &task.tokens, tokenizer, None);
            let mut token = next.as_ref().ok().copied().flatten();
            chosen += task.go_on(next, context);
            // For as long as the guesses are right.
            while let Some(guess) = token.take()
                && task.guesses.as_mut().is_some_and(|guesses| guesses.chosen(guess))
                && let Some(row) = rows.next()
                && let Some(continuation) = &mut task.continuation
                && continuation.finish().is_none()
            {
                task.done += 1;
                right += 1;
                let next = continuation.next(row, &task.tokens, tokenizer, None);
                token = next.as_ref().ok().copied().flatten();
                chosen += task.go_on(next, context);
            }
        }
        add(&self.counters.generated_tokens, chosen);
        add(&self.counters.right_guesses, right);
        self.go_back();
        self.settle();
    }

    /// Chooses the next token of every task whose logits were held and whose mask is there now.
    pub(super) fn choose_held(&mut self) {
        let context = self.runner.plan().options.context;
        let tokenizer = self.model.tokenizer().ok();
        let mut chosen = 0;
        for task in self.running.iter_mut().filter(|t| t.held) {
            let Some(continuation) = &mut task.continuation else { continue };
            if continuation.has_lent_constraint() {
                continue;
            }
            task.held = false;
            let next = continuation.next_of_held(&task.tokens, tokenizer);
            chosen += task.go_on(next, context);
        }
        add(&self.counters.generated_tokens, chosen);
        self.settle();
    }

    /// Hands over what could not be, and ends the tasks that have ended.
    fn settle(&mut self) {
        // From the last, so that indices stay right.
        for at in (0..self.running.len()).rev() {
            let task = &mut self.running[at];
            if let Some(error) = task.error.take() {
                self.fail(at, error);
                continue;
            }
            if task.unsent {
                task.flush();
            }
            let ended = task.continuation.as_ref().and_then(Continuation::finish);
            match ended.filter(|_| task.prompt_sent) {
                Some(finish) => self.finish(at, finish),
                None if task.pending() == 0 && !task.held => self.reply(at),
                None => {}
            }
        }
    }
}
