//! Draft model of an engine: guesses of a smaller model, for all texts together.
//!
//! ```text
//! text of a slot     a b c d e f      the last token has just been chosen
//! draft has seen     a b c x          back to what is the same: a b c
//! one step           d e f            of all texts at once; their last rows of logits give g
//! more steps         g, h, ..         one token of each text that is to have more guesses
//! ```
//!
//! A text whose draft is far behind, as after its prompt, catches up over several steps, without guesses
//! meanwhile.

use std::sync::Arc;

use teff_graph::{List, LogitsFor, Memory, Options, Outputs, Plan, Runner, Segment, SequenceId};

use super::pages::common;
use super::scheduler::{Cut, reuse};
use super::task::Task;
use super::{EngineError, EngineOptions};
use crate::model::Model;
use crate::session::backend::SessionBackend;
use crate::session::builder::table_bytes;
use crate::session::checkpoint::largest;
use crate::session::model_ref::ModelRef;
use crate::session::shared_crew::SessionCrew;
use crate::session::stepping::run_step;
use crate::session::{SessionError, StopHandle};

/// Tokens of all texts in the first step of a draft, at most: what a text is behind by more waits.
const CATCH_UP: usize = 128;

/// Plan of a draft model, made before its memory is allocated.
pub(super) struct DraftPlan {
    plan: Plan<'static>,
    backend: SessionBackend<'static>,
    threads: usize,
    sequences: usize,
    /// Bytes of everything.
    pub(super) bytes: usize,
}

impl DraftPlan {
    /// Plan of a model that guesses for an engine with these options.
    pub(super) fn new(
        draft: &Model,
        options: &EngineOptions,
        backend: SessionBackend<'static>,
        (threads, context): (usize, usize),
    ) -> Result<DraftPlan, EngineError> {
        let sequences = options.sequences;
        let plan_options = Options {
            batch: CATCH_UP.max(sequences),
            logits: sequences,
            context: context.min(draft.spec().context as usize),
            kv: options.kv,
            outputs: Outputs::Logits,
            pages: 0,
        };
        let format = |id| draft.format(id);
        let plan = Plan::build(draft.spec(), &format, &plan_options, &backend);
        let plan = plan.map_err(SessionError::Plan)?;
        let memory = &plan.memory_requirements;
        let text = plan.options.context * size_of::<u32>() + largest(&plan);
        let bytes = memory
            .scratch
            .saturating_add(memory.per_thread.saturating_mul(threads))
            .saturating_add(memory.state.saturating_add(text).saturating_mul(sequences))
            .saturating_add(table_bytes(&plan));
        Ok(DraftPlan { plan, backend, threads, sequences, bytes })
    }

    /// Allocates the memory.
    pub(super) fn build(self, model: &Arc<Model>) -> Result<Draft, EngineError> {
        let DraftPlan { plan, backend, threads, sequences, .. } = self;
        let failed = |e| EngineError::Session(SessionError::Runner(e));
        let mut memory = Memory::allocate(&plan.memory_requirements, threads, sequences)
            .map_err(|e| failed(e.into()))?;
        memory.commit();
        let mut texts = Vec::with_capacity(sequences);
        for _ in 0..sequences {
            let (mut tokens, mut checkpoint) = (Vec::new(), Vec::new());
            let (context, bytes) = (plan.options.context, largest(&plan));
            let reserved = tokens.try_reserve_exact(context);
            reserved.and_then(|()| checkpoint.try_reserve_exact(bytes)).map_err(|_| {
                let needed = Some(self.bytes);
                failed(teff_graph::ArenaError::OutOfMemory { needed }.into())
            })?;
            texts.push(Text { tokens, checkpoint, saved: 0 });
        }
        let model = ModelRef::Shared(Arc::clone(model));
        let mut table = Vec::with_capacity(model.spec().tensors());
        // SAFETY: the draft keeps `model` beside the runner, which alone has the tensors and never gives
        // them out.
        table.extend(unsafe { model.tensors() });
        let runner = Runner::new(plan, List::from(table), backend, threads, memory);
        Ok(Draft {
            runner: runner.map_err(failed)?,
            model,
            texts,
            asked: Vec::with_capacity(sequences),
            segments: Vec::with_capacity(sequences),
        })
    }
}

/// Tokens that the draft has computed in a slot.
struct Text {
    tokens: Vec<u32>,
    /// States at the first `saved` tokens, of a model that can't go back without.
    checkpoint: Vec<u8>,
    saved: usize,
}

/// Text of the present call.
#[derive(Clone, Copy)]
struct Asked {
    cut: usize,
    slot: SequenceId,
    /// Tokens for the next step, the last of the slot's text.
    pending: usize,
    /// True if the row of logits of the last of them is needed.
    logits: bool,
}

/// Smaller model that guesses the next tokens of an engine's texts.
pub(super) struct Draft {
    /// Declared before `model`, whose tensors it has.
    runner: Runner<'static, SessionBackend<'static>>,
    model: ModelRef<'static>,
    texts: Vec<Text>,
    asked: Vec<Asked>,
    segments: Vec<Segment<'static>>,
}

impl Draft {
    /// Positions of a text, beyond which there are no guesses.
    pub(super) fn context(&self) -> usize {
        self.runner.plan().options.context
    }

    /// Makes the guesses that each cut asks for, or as many as there can be, and sets their number. True
    /// if no text had to catch up, so that the time says what guesses take.
    pub(super) fn guess(
        &mut self,
        running: &mut [Task],
        cuts: &mut [Cut],
        crew: &mut SessionCrew<'static>,
        stop: &StopHandle,
    ) -> bool {
        let behind = self.begin(running, cuts);
        let mut round = 0;
        while self.step(crew, stop) {
            if round == 0 {
                self.save_checkpoints();
            }
            round += 1;
            self.choose(running, cuts, round);
        }
        // Those for which no step was left, or that one failed for.
        for cut in cuts {
            let task = &running[cut.task];
            cut.guesses = cut.guesses.min(task.guesses.as_ref().map_or(0, |g| g.len()));
        }
        !behind
    }

    /// Goes back to what is right of each text, and adds what it lacks. True if that is much.
    fn begin(&mut self, running: &[Task], cuts: &[Cut]) -> bool {
        self.asked.clear();
        let mut room = self.runner.plan().options.batch;
        let mut behind = false;
        for (i, cut) in cuts.iter().enumerate() {
            let task = &running[cut.task];
            if cut.guesses == 0 || task.tokens.len() > self.context() {
                continue;
            }
            let text = &mut self.texts[usize::from(task.slot.0)];
            text.go_back(&mut self.runner, task.slot, &task.tokens);
            let missing = &task.tokens[text.tokens.len()..];
            let pending = missing.len().min(room);
            room -= pending;
            behind |= missing.len() > CATCH_UP / 4;
            if pending > 0 {
                text.tokens.extend_from_slice(&missing[..pending]);
                let logits = pending == missing.len();
                self.asked.push(Asked { cut: i, slot: task.slot, pending, logits });
            }
        }
        behind
    }

    /// Computes what is pending, if there is anything. False if not, or if the step failed.
    fn step(&mut self, crew: &mut SessionCrew<'static>, stop: &StopHandle) -> bool {
        if self.asked.is_empty() {
            return false;
        }
        let mut segments: Vec<Segment<'_>> = reuse(core::mem::take(&mut self.segments));
        segments.extend(self.asked.iter().map(|asked| {
            let tokens = &self.texts[usize::from(asked.slot.0)].tokens;
            let tokens = &tokens[tokens.len() - asked.pending..];
            let logits = if asked.logits { LogitsFor::Last } else { LogitsFor::None };
            Segment { sequence: asked.slot, tokens, logits }
        }));
        let computed = run_step(&mut self.runner, crew, &segments, stop);
        self.segments = reuse(segments);
        if computed.is_err() {
            // The states are as they were; the step of the model itself will tell what is wrong.
            for asked in self.asked.drain(..) {
                let tokens = &mut self.texts[usize::from(asked.slot.0)].tokens;
                tokens.truncate(tokens.len() - asked.pending);
            }
        }
        computed.is_ok()
    }

    /// Chooses the likeliest token of each row of logits as guess number `round`, and keeps the texts that
    /// are to have another.
    fn choose(&mut self, running: &mut [Task], cuts: &[Cut], round: usize) {
        let vocab = self.model.spec().vocab as usize;
        let rows = self.asked.iter().filter(|asked| asked.logits).count();
        let mut rows = self.runner.logits(rows).chunks_exact(vocab);
        let (texts, context) = (&mut self.texts, self.runner.plan().options.context);
        self.asked.retain_mut(|asked| {
            let Some(row) = asked.logits.then(|| rows.next()).flatten() else { return false };
            let best = (0u32..).zip(row).max_by(|a, b| a.1.total_cmp(b.1));
            let guess = best.map_or(0, |(token, _)| token);
            let cut = &cuts[asked.cut];
            if let Some(guesses) = &mut running[cut.task].guesses {
                guesses.put(&[guess]);
            }
            let tokens = &mut texts[usize::from(asked.slot.0)].tokens;
            let more = round < cut.guesses && tokens.len() < context;
            if more {
                tokens.push(guess);
                asked.pending = 1;
            }
            more
        });
    }

    /// Saves the states of texts that are computed up to their ends, to which the next guesses go back.
    fn save_checkpoints(&mut self) {
        for asked in self.asked.iter().filter(|asked| asked.logits) {
            let text = &mut self.texts[usize::from(asked.slot.0)];
            let needed = self.runner.checkpoint_bytes(text.tokens.len());
            if needed == 0 || needed > text.checkpoint.capacity() {
                continue;
            }
            text.checkpoint.clear();
            self.runner.checkpoint(asked.slot, |part| text.checkpoint.extend_from_slice(part));
            text.saved = text.tokens.len();
        }
    }
}

impl Text {
    /// Goes back to what is the same in `tokens`, whose last one is to be computed.
    fn go_back(
        &mut self,
        runner: &mut Runner<'static, SessionBackend<'static>>,
        slot: SequenceId,
        tokens: &[u32],
    ) {
        let same = common(&self.tokens, tokens).min(tokens.len().saturating_sub(1));
        if same == self.tokens.len() {
            return;
        }
        let mut to = runner.nearest(slot, same);
        let saved = (to + 1..=same).contains(&self.saved);
        if saved && runner.rewind(slot, self.saved, &self.checkpoint).is_ok() {
            to = self.saved;
        } else {
            // What is nearest can be reached.
            let _ = runner.truncate(slot, to);
        }
        self.tokens.truncate(to);
        if self.saved > to {
            self.saved = 0;
        }
    }
}
