//! The engine's thread: admission, steps, and what follows from them.
//!
//! ```text
//! loop:
//!     take new tasks; end those that are cancelled or late
//!     admit waiting tasks while there are slots and pages
//!     plan a step: the last token of every answer, and chunks of prompts as the pace allows
//!     compute it; meanwhile other threads compute the masks of constraints
//!     put full pages into the tree; choose tokens; hand over pieces; end what has ended
//!     (a text whose mask isn't there yet keeps its logits, and sits out of the next steps)
//! ```

mod choose;
mod guess;

use std::sync::Arc;
use std::time::{Duration, Instant};

use teff_graph::{LogitsFor, Runner, Segment, SequenceId};

use super::draft::Draft;
use super::inbox::Inbox;
use super::masks::Masks;
use super::pace::{MOST_PATIENCE, Pace};
use super::pages::{Pages, Partial, common};
use super::stats::{Counters, add, set};
use super::task::{Purpose, Task};
use super::{EngineError, PAGE};
use crate::session::backend::SessionBackend;
use crate::session::continuation::Continuation;
use crate::session::model_ref::ModelRef;
use crate::session::shared_crew::SessionCrew;
use crate::session::stepping::run_step;
use crate::session::{Finish, StopHandle, snapshot};
use crate::speculation::{Guesses, Speculation};
use guess::Speculating;

/// Positions after which a prompt leaves a checkpoint, of a model that needs them.
pub(super) const CHECKPOINT_EVERY: usize = 16 * PAGE;

/// Tokens of a prompt in a step that are worth it, if there are several prompts.
const LEAST_SHARE: usize = 8;

/// Shortest time that is waited for more requests.
const LEAST_PATIENCE: Duration = Duration::from_micros(200);

/// Longest time that is waited for masks after a step, as a share of the step, and at least.
const MASK_SHARE: u32 = 8;
const LEAST_MASK_PATIENCE: Duration = Duration::from_millis(1);

/// Time after which a piece that could not be handed over is tried again while there is no step.
const UNSENT_PATIENCE: Duration = Duration::from_millis(10);

/// Part of a step: tokens of one running task.
#[derive(Clone, Copy)]
pub(super) struct Cut {
    pub(super) task: usize,
    n: usize,
    logits: LogitsFor,
    /// Guesses behind them.
    pub(super) guesses: usize,
}

/// Row of logits from which a task's next token is chosen.
#[derive(Clone, Copy)]
struct Row {
    task: usize,
    row: usize,
    /// Rows of guesses behind it.
    guesses: usize,
}

/// State of the engine's thread.
pub(super) struct Scheduler {
    /// Declared before `model`, whose tensors it has.
    pub(super) runner: Runner<'static, SessionBackend<'static>>,
    pub(super) model: ModelRef<'static>,
    pub(super) crew: SessionCrew<'static>,
    pub(super) stop: StopHandle,
    pub(super) inbox: Arc<Inbox>,
    pub(super) counters: Arc<Counters>,
    pub(super) pages: Pages,
    /// Memory of checkpoints; empty if the model needs none.
    pub(super) checkpoints: Vec<Vec<u8>>,
    pub(super) pace: Pace,
    pub(super) masks: Masks,
    pub(super) slots: Vec<SequenceId>,
    pub(super) waiting: Vec<Task>,
    pub(super) running: Vec<Task>,
    arrived: Vec<Task>,
    cuts: Vec<Cut>,
    rows: Vec<Row>,
    segments: Vec<Segment<'static>>,
    found: Vec<u32>,
    speculation: Option<Speculating>,
}

/// Outcome of trying to admit a task.
enum Admission {
    Admitted,
    /// Others may go first: it waits for a prefix that is being computed.
    Later,
    /// There are no pages for it, nor for those behind it.
    NoRoom,
}

/// Parts that a scheduler is made of.
pub(super) struct Parts {
    pub(super) runner: Runner<'static, SessionBackend<'static>>,
    pub(super) model: ModelRef<'static>,
    pub(super) crew: SessionCrew<'static>,
    pub(super) stop: StopHandle,
    pub(super) inbox: Arc<Inbox>,
    pub(super) counters: Arc<Counters>,
    pub(super) pages: Pages,
    pub(super) checkpoints: Vec<Vec<u8>>,
    pub(super) pace: Pace,
    pub(super) speculation: Speculation,
    pub(super) draft: Option<Draft>,
}

impl Scheduler {
    pub(super) fn new(parts: Parts) -> Scheduler {
        let Parts { runner, model, crew, stop, inbox, counters, pages, checkpoints, .. } = parts;
        let (pace, speculation) = (parts.pace, Speculating::new(parts.speculation, parts.draft));
        let sequences = runner.sequences();
        let room = |n| Vec::with_capacity(n);
        Scheduler {
            slots: (0..sequences as u16).rev().map(SequenceId).collect(),
            masks: Masks::new(sequences, Arc::clone(&inbox)),
            cuts: Vec::with_capacity(sequences),
            rows: Vec::with_capacity(sequences),
            segments: Vec::with_capacity(sequences),
            found: Vec::with_capacity(runner.plan().options.context.div_ceil(PAGE)),
            waiting: room(sequences),
            running: room(sequences),
            arrived: room(sequences),
            runner,
            model,
            crew,
            stop,
            inbox,
            counters,
            pages,
            checkpoints,
            pace,
            speculation,
        }
    }

    /// Runs until the inbox is closed, and ends what is left.
    pub(super) fn run(&mut self) {
        let mut idle = false;
        loop {
            if self.collect() {
                break;
            }
            self.end_cancelled();
            self.take_masks(Duration::ZERO);
            self.choose_held();
            self.admit();
            if self.running.iter().all(|t| t.held) {
                self.publish(0, 0);
                let all = self.waiting.iter().chain(&self.running);
                let unsent = self.running.iter().any(|t| t.unsent);
                let soon = unsent.then(|| Instant::now() + UNSENT_PATIENCE);
                self.inbox.sleep(all.filter_map(|t| t.deadline).chain(soon).min());
                idle = self.running.is_empty();
                continue;
            }
            if core::mem::take(&mut idle) && self.gather() {
                break;
            }
            self.step();
        }
        self.end_all();
    }

    /// Takes new tasks. Returns true if the engine is to end.
    fn collect(&mut self) -> bool {
        if self.inbox.collect(&mut self.arrived) {
            return true;
        }
        while let Some(task) = self.arrived.pop() {
            self.wait(task);
        }
        false
    }

    /// Waits a little for requests that come together with the first after a rest, since prompts that
    /// end together go on together. Requests that keep coming don't prolong it for ever. Returns true if
    /// the engine is to end.
    fn gather(&mut self) -> bool {
        let pending = |all: &[Task]| all.iter().map(Task::pending).sum::<usize>();
        let began = Instant::now();
        while !self.slots.is_empty() {
            let before = self.running.len() + self.waiting.len();
            let patience = self.pace.patience(pending(&self.running) + pending(&self.waiting));
            let patience = patience.min(MOST_PATIENCE.saturating_sub(began.elapsed()));
            if patience < LEAST_PATIENCE {
                return false;
            }
            self.inbox.sleep(Instant::now().checked_add(patience));
            if self.collect() {
                return true;
            }
            self.admit();
            if self.running.len() + self.waiting.len() == before {
                return false;
            }
        }
        false
    }

    /// Ends all tasks, since the engine ends.
    pub(super) fn end_all(&mut self) {
        let mut rest = core::mem::take(&mut self.arrived);
        self.inbox.drain(&mut rest);
        rest.append(&mut self.waiting);
        rest.append(&mut self.running);
        for task in rest {
            task.fail(EngineError::Ended);
        }
    }

    /// Puts a task among those that wait, in the order of admission.
    fn wait(&mut self, task: Task) {
        let at = self.waiting.partition_point(|other| other.rank() < task.rank());
        self.waiting.insert(at, task);
    }

    /// Ends tasks that were cancelled or are late.
    fn end_cancelled(&mut self) {
        let mut now = None;
        let mut reason = |task: &Task| {
            if task.channel().is_some_and(|c| c.is_cancelled()) {
                return Some(Finish::Cancelled);
            }
            let late = |deadline| *now.get_or_insert_with(Instant::now) >= deadline;
            task.deadline.is_some_and(late).then_some(Finish::Deadline)
        };
        let mut ended = 0;
        for i in (0..self.waiting.len()).rev() {
            if let Some(finish) = reason(&self.waiting[i]) {
                let task = self.waiting.remove(i);
                self.inbox.admitted();
                self.ended(&task, finish);
                task.finish(finish);
            }
        }
        while ended < self.running.len() {
            match reason(&self.running[ended]) {
                Some(finish) => self.finish(ended, finish),
                None => ended += 1,
            }
        }
    }

    fn ended(&mut self, task: &Task, finish: Finish) {
        // The mask may still wait for a thread.
        self.masks.forget(task.key());
        if task.channel().is_some() {
            add(&self.counters.ended_sequences, 1);
            if finish == Finish::Cancelled {
                add(&self.counters.cancelled, 1);
            }
        }
    }

    /// True if the model has states that only checkpoints can bring back.
    fn needs_checkpoints(&self) -> bool {
        !self.checkpoints.is_empty()
    }

    // Admission.

    fn admit(&mut self) {
        let mut i = 0;
        while i < self.waiting.len() && !self.slots.is_empty() {
            match self.try_admit(i) {
                Admission::Admitted => {}
                Admission::Later => i += 1,
                Admission::NoRoom => break,
            }
        }
    }

    /// Admits waiting task `i`, if that can be.
    fn try_admit(&mut self, i: usize) -> Admission {
        if self.waits_for_leader(i) {
            return Admission::Later;
        }
        let (known, mut partial, fork_at) = self.look_up(i);
        let mut matched = known * PAGE + partial.map_or(0, |p| p.positions);
        let task = &self.waiting[i];
        let in_progress = |other: &Task| {
            let usable = common(&task.tokens, &other.tokens).min(task.tokens.len() - 1);
            other.done < usable && usable >= matched + PAGE
        };
        if task.prompt_probs.is_none() && self.running.iter().any(in_progress) {
            return Admission::Later;
        }
        // Pages for all tokens and the next one, and one in reserve beside other sequences.
        let most = self.runner.plan().options.context.div_ceil(PAGE);
        let needed = (task.tokens.len() + 1).div_ceil(PAGE).min(most);
        self.found.truncate(known);
        for &page in &self.found {
            self.pages.hold(page);
        }
        if let Some(p) = partial {
            self.pages.hold(p.page);
        }
        let wanted = needed - known + usize::from(!self.running.is_empty());
        if self.pages.available() < wanted
            && let Some(p) = partial.take()
        {
            // The page to be copied may be the one that is lacking.
            self.pages.release(p.page);
            matched = known * PAGE;
        }
        if self.pages.available() < wanted {
            for &page in self.found.iter().rev() {
                self.pages.release(page);
            }
            return Admission::NoRoom;
        }
        let mut task = self.waiting.remove(i);
        self.inbox.admitted();
        let Some(slot) = self.slots.pop() else { return Admission::NoRoom };
        task.slot = slot;
        task.pages.clear();
        task.pages.extend_from_slice(&self.found);
        while task.pages.len() < needed {
            let Some(page) = self.pages.take() else { break };
            task.pages.push(page);
        }
        let mut adopted = matched;
        if let Some(p) = partial {
            // The first page after the known ones is a copy: others may go on with the original.
            if self.runner.copy_page(p.page, task.pages[known]).is_err() {
                adopted = known * PAGE;
            }
            self.pages.release(p.page);
        }
        for &page in &task.pages {
            // The slot was cleared, and the pages exist.
            let _ = self.runner.map_page(slot, page);
        }
        let checkpoint = match known.checked_sub(1).and_then(|last| {
            let slot = self.pages.checkpoint(task.pages[last])?;
            self.checkpoints.get(slot)
        }) {
            Some(bytes) if self.needs_checkpoints() => &bytes[..],
            _ => &[],
        };
        let adoption = match adopted {
            0 => Ok(()),
            _ => self.runner.adopt(slot, adopted, checkpoint),
        };
        (task.done, task.registered, task.fork_at, task.rolling) =
            (adopted, known.min(adopted / PAGE), fork_at, None);
        match adoption {
            Ok(()) => self.start(task, adopted),
            Err(e) => {
                self.running.push(task);
                self.fail(self.running.len() - 1, crate::SessionError::Restore(e).into());
            }
        }
        Admission::Admitted
    }

    /// True if waiting task `i` is a further choice of a request whose first choice still computes the
    /// prompt, or waits for that.
    fn waits_for_leader(&self, i: usize) -> bool {
        let task = &self.waiting[i];
        let (Some(channel), 1..) = (task.channel(), task.choice()) else { return false };
        let leads = |other: &Task| {
            other.choice() == 0
                && !other.prompt_sent
                && other.channel().is_some_and(|c| Arc::ptr_eq(c, channel))
        };
        self.waiting.iter().any(leads) || self.running.iter().any(leads)
    }

    /// Finds what the cache has of waiting task `i`: the number of full pages, which are in `found`,
    /// positions of a further page, and the position up to which the tree has the text.
    fn look_up(&mut self, i: usize) -> (usize, Option<Partial>, usize) {
        let task = &self.waiting[i];
        self.found.clear();
        if task.prompt_probs.is_some() || matches!(task.purpose, Purpose::Load { .. }) {
            return (0, None, 0);
        }
        // Logits of the last token are needed, except where states alone are.
        let most = match task.purpose {
            Purpose::Save { .. } => task.tokens.len(),
            _ => task.tokens.len() - 1,
        };
        let tokens = &task.tokens[..most];
        self.pages.find(tokens, &mut self.found);
        let fork_at = self.found.len() * PAGE;
        if self.needs_checkpoints() {
            let last = self.found.iter().rposition(|&p| self.pages.checkpoint(p).is_some());
            return (last.map_or(0, |last| last + 1), None, fork_at);
        }
        let known = self.found.len();
        let rest = &tokens[known * PAGE..];
        let of_tree = self.pages.find_partial(self.found.last().copied(), rest);
        // Or the page that a running sequence is at.
        let of_running = self.running.iter().filter_map(|other| {
            let done = &other.tokens[..other.done];
            let page = *other.pages.get(known)?;
            let same = done.len() > known * PAGE && done[..known * PAGE] == tokens[..known * PAGE];
            let positions = if same { common(&done[known * PAGE..], rest).min(PAGE) } else { 0 };
            (positions > 0).then_some(Partial { page, positions })
        });
        let best = of_running.chain(of_tree).max_by_key(|p| p.positions);
        (known, best, fork_at)
    }

    /// Starts an admitted task.
    fn start(&mut self, mut task: Task, cached: usize) {
        if let (Purpose::Generate { generate, constraint, choice, .. }, None) =
            (&mut task.purpose, &task.continuation)
        {
            let backend = self.runner.backend().own().unwrap_or_else(teff_kernels::Cpu::best);
            let context = self.runner.plan().options.context;
            let made =
                Continuation::new(generate, &self.model, backend, context, constraint.take());
            match made {
                Ok(continuation) => {
                    let speculates = self.speculation.is_some() && !continuation.is_constrained();
                    task.guesses = speculates.then(Guesses::new);
                    task.continuation = Some(continuation.with_choice(*choice));
                }
                Err(e) => {
                    self.running.push(task);
                    self.fail(self.running.len() - 1, e.into());
                    return;
                }
            }
        }
        if task.cached.is_none() {
            task.cached = Some(cached);
            add(&self.counters.prompt_tokens, task.prompt);
            add(&self.counters.cached_tokens, cached);
        }
        let at = self.running.len();
        self.running.push(task);
        let task = &mut self.running[at];
        let ended = task.continuation.as_ref().and_then(Continuation::finish);
        if let (Some(finish), true) = (ended, task.prompt_probs.is_none()) {
            // There is nothing to compute: no token was asked for.
            task.send_prompt();
            self.finish(at, finish);
        } else if let Purpose::Load { states, .. } = &task.purpose {
            let restored = self.runner.restore(task.slot, task.tokens.len(), states);
            match restored {
                Ok(()) => {
                    task.done = task.tokens.len();
                    self.register(at);
                    let task = &self.running[at];
                    if task.registered > 0 && task.done.is_multiple_of(PAGE) {
                        self.save_checkpoint(at, task.pages[task.registered - 1]);
                    }
                    self.reply(at);
                }
                Err(e) => self.fail(at, crate::SessionError::Restore(e).into()),
            }
        } else if task.pending() == 0 && matches!(task.purpose, Purpose::Save { .. }) {
            self.reply(at);
        }
    }

    /// Answers the caller of a prefix, and ends its task.
    fn reply(&mut self, at: usize) {
        let task = &mut self.running[at];
        match &task.purpose {
            Purpose::Save { reply } => {
                let bytes = snapshot::encode(
                    &self.model,
                    &self.runner,
                    (task.slot, self.runner.position(task.slot)),
                    &task.tokens,
                );
                let _ = reply.send(Ok(bytes));
            }
            Purpose::Load { reply, .. } => drop(reply.send(Ok(()))),
            Purpose::Generate { .. } => {}
        }
        drop(self.take(at));
    }

    // Ends.

    /// Takes a task from those that run, and its slot and pages from it.
    fn take(&mut self, at: usize) -> Task {
        let mut task = self.running.remove(at);
        self.put_away(&mut task);
        task
    }

    /// Puts the pages of a task into the cache and frees its slot.
    fn put_away(&mut self, task: &mut Task) {
        let (from, parent) = (task.registered * PAGE, task.registered.checked_sub(1));
        if !self.needs_checkpoints() && task.done > from && task.pages.len() > task.registered {
            let tokens = &task.tokens[from..task.done];
            let parent = parent.map(|last| task.pages[last]);
            let page = task.pages[task.registered];
            // A page that others write to, too, is not this text's alone.
            if self.runner.page_users(page) == 1 {
                self.pages.insert(parent, page, tokens);
            }
        }
        // All of its pages are of the runner, so that this never fails.
        let _ = self.runner.clear(task.slot);
        for &page in task.pages.iter().rev() {
            self.pages.release(page);
        }
        task.pages.clear();
        (task.done, task.registered, task.rolling, task.held) = (0, 0, None, false);
        self.slots.push(task.slot);
    }

    /// Ends a running task.
    fn finish(&mut self, at: usize, finish: Finish) {
        let task = self.take(at);
        self.ended(&task, finish);
        task.finish(finish);
    }

    /// Ends a running task by an error.
    fn fail(&mut self, at: usize, error: EngineError) {
        let task = self.take(at);
        self.ended(&task, Finish::Length);
        task.fail(error);
    }

    /// Pushes a running task out; its tokens are computed again later.
    fn preempt(&mut self, at: usize) {
        let task = self.take(at);
        add(&self.counters.preemptions, 1);
        self.inbox.put_back();
        self.wait(task);
    }

    // Steps.

    /// Gives every task whose last token is to be computed a page that it may write to. Where there is
    /// none, the last in the order of admission is pushed out.
    fn provide_pages(&mut self) {
        // From the first in the order of admission to the last.
        self.running.sort_unstable_by_key(Task::rank);
        let mut at = 0;
        while at < self.running.len() {
            let task = &self.running[at];
            let entry = task.done / PAGE;
            let end = task.done + task.pending().min(self.runner.plan().options.batch);
            if task.pending() == 0 {
                at += 1;
                continue; // it sits out
            }
            let missing = task.pages.len() < end.div_ceil(PAGE);
            let shared = task.pages.get(entry).is_some_and(|&p| self.runner.page_users(p) > 1);
            if !missing && !shared {
                at += 1;
                continue;
            }
            match self.pages.take() {
                Some(page) if shared => {
                    let task = &mut self.running[at];
                    let old = core::mem::replace(&mut task.pages[entry], page);
                    let _ = self.runner.own_page(task.slot, entry, page);
                    self.pages.release(old);
                }
                Some(page) => {
                    let task = &mut self.running[at];
                    task.pages.push(page);
                    let _ = self.runner.map_page(task.slot, page);
                }
                None => {
                    let last = self.running.len() - 1;
                    self.preempt(last);
                }
            }
        }
    }

    /// Plans the next step. Returns its tokens of prompts.
    fn plan(&mut self) -> usize {
        self.cuts.clear();
        let options = self.runner.plan().options;
        let mut rows = options.logits;
        for (task, _) in self.running.iter().enumerate().filter(|(_, t)| t.is_decoding()) {
            // There are no more sequences than rows, nor than tokens of a batch.
            self.cuts.push(Cut { task, n: 1, logits: LogitsFor::Last, guesses: 0 });
            rows -= 1;
        }
        let answers = self.cuts.len();
        let room = options.batch - answers;
        let mut left = if answers == 0 {
            room.min(self.pace.prompt_tokens())
        } else {
            room.min(self.pace.tokens(answers))
        };
        let is_prompt = |t: &Task| !t.is_decoding() && t.pending() > 0;
        let prompts = self.running.iter().filter(|t| is_prompt(t)).count();
        let mut others = prompts;
        let mut tokens = 0;
        for (task, t) in self.running.iter().enumerate().filter(|(_, t)| is_prompt(t)) {
            if left == 0 {
                break;
            }
            // Each gets a fair share, which is not too small to be worth it.
            let share = (left / others).max(LEAST_SHARE).min(left);
            others -= 1;
            let mut n = t.pending().min(share);
            if !self.checkpoints.is_empty() {
                n = n.min(next_checkpoint(t) - t.done);
            }
            let last = n == t.pending();
            let logits = match t.purpose {
                Purpose::Generate { .. } if t.prompt_probs.is_some() => LogitsFor::All,
                Purpose::Generate { .. } if last => LogitsFor::Last,
                _ => LogitsFor::None,
            };
            if logits == LogitsFor::All {
                n = n.min(rows);
            }
            if n == 0 || logits.rows(n) > rows {
                continue;
            }
            rows -= logits.rows(n);
            left -= n;
            tokens += n;
            self.cuts.push(Cut { task, n, logits, guesses: 0 });
        }
        tokens
    }

    fn step(&mut self) {
        self.provide_pages();
        let prompt_tokens = self.plan();
        if self.cuts.is_empty() {
            return;
        }
        let answers = self.cuts.iter().filter(|c| self.running[c.task].is_decoding()).count();
        let guesses = self.guess(answers, prompt_tokens == 0);
        let mut constrained = false;
        for cut in self.cuts.iter().filter(|c| c.logits != LogitsFor::None) {
            let task = &mut self.running[cut.task];
            let continuation = task.continuation.as_mut();
            if let Some(masked) = continuation.and_then(Continuation::take_constraint) {
                self.masks.start(task.key(), masked);
                constrained = true;
            }
        }
        let began = Instant::now();
        let computed = self.compute();
        let took = began.elapsed();
        if constrained {
            self.take_masks((took / MASK_SHARE).max(LEAST_MASK_PATIENCE));
        }
        if computed.is_err() && self.stop.is_stopped() {
            return; // The engine ends.
        }
        if let Err(e) = computed {
            // A mistake of a backend or of a thread; the cache is as it was.
            let cause = e.to_string();
            self.cuts.sort_unstable_by_key(|cut| core::cmp::Reverse(cut.task));
            for i in 0..self.cuts.len() {
                self.fail(self.cuts[i].task, EngineError::Step { cause: cause.clone() });
            }
            return;
        }
        if guesses == 0 {
            self.pace.learn(took, answers, prompt_tokens);
        }
        if let Some(speculation) = self.speculation.as_mut().filter(|_| prompt_tokens == 0) {
            speculation.costs.learn(answers + guesses, took);
        }
        let tokens = answers + guesses + prompt_tokens;
        add(&self.counters.steps, 1);
        add(&self.counters.computed_tokens, tokens);
        add(&self.counters.guessed_tokens, guesses);
        let sequences = self.cuts.len();
        self.advance();
        self.choose();
        self.publish(tokens, sequences);
    }

    /// Computes the planned step.
    fn compute(&mut self) -> Result<usize, crate::SessionError> {
        // The same memory for segments that borrow the tokens of this step.
        let mut segments: Vec<Segment<'_>> = reuse(core::mem::take(&mut self.segments));
        self.append_guesses();
        segments.extend(self.cuts.iter().map(|cut| {
            let task = &self.running[cut.task];
            let tokens = &task.tokens[task.done..task.done + cut.n + cut.guesses];
            Segment { sequence: task.slot, tokens, logits: cut.logits }
        }));
        let computed = run_step(&mut self.runner, &mut self.crew, &segments, &self.stop);
        self.segments = reuse(segments);
        self.remove_guesses();
        computed
    }

    /// Goes on after a step: positions, pages, checkpoints, and the rows that tokens are chosen from.
    fn advance(&mut self) {
        self.rows.clear();
        let mut row = 0;
        for i in 0..self.cuts.len() {
            let Cut { task: at, n, logits, guesses } = self.cuts[i];
            let first = row;
            row += logits.rows(n + guesses);
            self.running[at].done += n;
            if guesses > 0 {
                // It is not known yet where the text goes on.
                self.rows.push(Row { task: at, row: first, guesses });
                continue;
            }
            self.register(at);
            self.checkpoint_if_due(at);
            if logits == LogitsFor::All {
                self.read_prompt_probs(at, first, n);
            }
            let task = &self.running[at];
            if task.pending() == 0 && matches!(task.purpose, Purpose::Generate { .. }) {
                self.rows.push(Row { task: at, row: row - 1, guesses: 0 });
            }
        }
        // Further choices of a request go on from the first one's prompt.
        for i in 0..self.rows.len() {
            let Row { task: at, row, .. } = self.rows[i];
            let task = &self.running[at];
            if task.prompt_sent || task.choice() > 0 {
                continue;
            }
            while let Some(sibling) = self.next_sibling(at) {
                self.rows.push(Row { task: sibling, row, guesses: 0 });
            }
        }
    }

    /// Admits a further choice of the request of running task `at`, whose prompt was just computed, as
    /// a copy of it.
    fn next_sibling(&mut self, at: usize) -> Option<usize> {
        let leader = &self.running[at];
        let channel = Arc::clone(leader.channel()?);
        let is_sibling = |t: &Task| {
            t.continuation.is_none() && t.channel().is_some_and(|c| Arc::ptr_eq(c, &channel))
        };
        let i = self.waiting.iter().position(is_sibling)?;
        // Each will need a page of its own for what comes next.
        if self.slots.is_empty()
            || self.pages.available() == 0
            || self.rows.len() >= self.rows.capacity()
        {
            return None;
        }
        let slot = self.slots.pop()?;
        let leader = &self.running[at];
        if self.runner.fork(leader.slot, slot).is_err() {
            self.slots.push(slot);
            return None;
        }
        let mut task = self.waiting.remove(i);
        self.inbox.admitted();
        task.slot = slot;
        task.pages.clear();
        task.pages.extend_from_slice(&leader.pages);
        (task.done, task.registered) = (leader.done, leader.registered);
        let cached = task.done;
        for i in 0..task.pages.len() {
            self.pages.hold(task.pages[i]);
        }
        let before = self.running.len();
        self.start(task, cached);
        (self.running.len() > before).then_some(before)
    }

    /// Puts full pages of a task into the tree.
    fn register(&mut self, at: usize) {
        let task = &mut self.running[at];
        while (task.registered + 1) * PAGE <= task.done {
            let entry = task.registered;
            let page = task.pages[entry];
            let parent = entry.checked_sub(1).map(|last| task.pages[last]);
            let tokens = &task.tokens[entry * PAGE..(entry + 1) * PAGE];
            if let Some(same) = self.pages.insert(parent, page, tokens)
                && same != page
            {
                // Another sequence has computed the same: one of the pages is enough.
                self.pages.hold(same);
                let _ = self.runner.swap_page(task.slot, entry, same);
                self.pages.release(page);
                task.pages[entry] = same;
            }
            task.registered += 1;
        }
    }

    /// Saves a checkpoint where a task is at the end of a page that is worth one.
    fn checkpoint_if_due(&mut self, at: usize) {
        let task = &self.running[at];
        if !self.needs_checkpoints() || task.done == 0 || !task.done.is_multiple_of(PAGE) {
            return;
        }
        let page = task.pages[task.done / PAGE - 1];
        let answers = task.prompt_sent;
        if !answers && !is_checkpoint(task, task.done) {
            return;
        }
        if let Some(old) = task.rolling {
            self.pages.drop_checkpoint(old);
        }
        let saved = self.save_checkpoint(at, page);
        self.running[at].rolling = (answers && saved).then_some(page);
    }

    /// Saves the states of a task at the end of a page, unless there is a checkpoint already.
    fn save_checkpoint(&mut self, at: usize, page: u32) -> bool {
        if !self.needs_checkpoints() || self.pages.checkpoint(page).is_some() {
            return false;
        }
        let Some(slot) = self.pages.add_checkpoint(page) else { return false };
        let bytes = &mut self.checkpoints[slot];
        bytes.clear();
        self.runner.checkpoint(self.running[at].slot, |part| bytes.extend_from_slice(part));
        true
    }

    /// Reads log probabilities of the prompt's tokens after the `n` that a step has computed.
    fn read_prompt_probs(&mut self, at: usize, first: usize, n: usize) {
        let vocab = self.model.spec().vocab as usize;
        let logits = self.runner.logits(first + n);
        let task = &mut self.running[at];
        let Some(probs) = &mut task.prompt_probs else { return };
        let from = task.done - n;
        for (i, row) in logits.chunks(vocab).skip(first).enumerate() {
            let Some(&token) = task.tokens[..task.prompt].get(from + i + 1) else { break };
            if probs.done <= from + i && probs.buffer.read(row).is_ok() {
                probs.buffer.choose(token, row[token as usize]);
                probs.done = from + i + 1;
            }
        }
    }

    /// Publishes the state for [`Engine::stats`](super::Engine::stats).
    pub(super) fn publish(&self, tokens: usize, sequences: usize) {
        let c = &self.counters;
        set(&c.waiting, self.inbox.waiting());
        set(&c.running, self.running.len());
        set(&c.batch_tokens, tokens);
        set(&c.batch_sequences, sequences);
        set(&c.pages, self.pages.len());
        set(&c.pages_running, self.pages.in_use());
        set(&c.pages_free, self.pages.free());
        set(&c.pages_cached, self.pages.available() - self.pages.free());
        set(&c.checkpoints, self.checkpoints.len());
        set(&c.checkpoints_used, self.pages.checkpoints_used());
        set(&c.evictions, self.pages.evictions() as usize);
    }
}

/// True if the prompt of a task leaves a checkpoint at this position: at its last page's end, where the
/// tree's texts part from it, and in between.
fn is_checkpoint(task: &Task, position: usize) -> bool {
    let last = (task.tokens.len() - 1) / PAGE * PAGE;
    position == last || position == task.fork_at || position.is_multiple_of(CHECKPOINT_EVERY)
}

/// Next position of a task's prompt that is worth a checkpoint, or its end.
fn next_checkpoint(task: &Task) -> usize {
    let from = task.done;
    let last = (task.tokens.len() - 1) / PAGE * PAGE;
    let regular = (from / CHECKPOINT_EVERY + 1) * CHECKPOINT_EVERY;
    let all = [last, task.fork_at, regular, task.tokens.len()];
    all.into_iter().filter(|&p| p > from).min().unwrap_or(task.tokens.len())
}

/// An empty vector in the same memory, for segments of another lifetime.
pub(super) fn reuse<'a>(mut segments: Vec<Segment<'_>>) -> Vec<Segment<'a>> {
    segments.clear();
    let none = |_| Segment::new(&[], LogitsFor::None);
    segments.into_iter().map(none).collect()
}
