//! Drafts: guesses of a smaller model, in a session of its own on the same threads.

use teff_graph::LogitsFor;

use super::{Session, SessionError};
use crate::model::Model;
use crate::speculation::{MOST_GUESSES, Speculator, Timer};

/// Checks that two models have the same tokens.
pub(crate) fn check(model: &Model, draft: &Model) -> Result<(), SessionError> {
    let (vocab, drafts) = (model.spec().vocab, draft.spec().vocab);
    if vocab != drafts {
        return Err(SessionError::Draft(format!("it has {drafts} tokens, and the model {vocab}")));
    }
    if let (Ok(ours), Ok(theirs)) = (model.tokenizer(), draft.tokenizer()) {
        let differ = |&id: &u32| ours.token_bytes(id) != theirs.token_bytes(id);
        if let Some(id) = (0..vocab).find(differ) {
            return Err(SessionError::Draft(format!("its token {id} is another one")));
        }
    }
    Ok(())
}

impl Session<'_> {
    /// Guesses of this session's model for a step of another one that goes on from `text`.
    pub(super) fn guess<'s>(
        &mut self,
        text: &[u32],
        pending: usize,
        room: usize,
        speculator: &'s mut Speculator,
    ) -> &'s [u32] {
        // The last guess need not be computed.
        let room = room.min((self.context() + 1).saturating_sub(text.len()));
        let n = speculator.ask(pending, room);
        if n == 0 {
            return &[];
        }
        let timer = Timer::start();
        let mut guesses = [0; MOST_GUESSES];
        let made = self.write(text, &mut guesses[..n.min(MOST_GUESSES)]);
        speculator.answer(&guesses[..made], timer.elapsed())
    }

    /// Writes the most likely tokens after `text`. Returns their number: fewer if a step fails or is
    /// cancelled, which the other model's step will tell.
    fn write(&mut self, text: &[u32], guesses: &mut [u32]) -> usize {
        let same = self.tokens.iter().zip(text).take_while(|(a, b)| a == b).count();
        // The last token's logits are needed.
        let same = same.min(text.len().saturating_sub(1));
        self.truncate(same);
        if self.push(&text[same..]).is_err() {
            return 0;
        }
        for made in 0..guesses.len() {
            if made > 0 && self.push(&[guesses[made - 1]]).is_err() {
                return made;
            }
            let Ok(logits) = self.advance(LogitsFor::Last) else { return made };
            let best = (0u32..).zip(logits).max_by(|a, b| a.1.total_cmp(b.1));
            guesses[made] = best.map_or(0, |(token, _)| token);
        }
        guesses.len()
    }
}
