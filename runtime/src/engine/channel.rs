//! Channel from the engine's thread to the stream of a request.
//!
//! The engine never waits for a reader: it appends what it has to memory that was allocated when the
//! request was submitted, and where the reader has the lock it tries again after the next step.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Instant;

use super::inbox::Inbox;
use super::{EngineError, Event};
use crate::sample::{Logprob, TokenLogprobs};
use crate::session::{Finish, Piece};

/// Tokens whose text and log probabilities have room from the start.
const ROOM: usize = 1024;

/// End of a choice.
#[derive(Debug)]
pub(super) enum End {
    Finished { finish: Finish, generated: usize },
    Failed(EngineError),
}

/// Prompt of a choice, once it was computed.
#[derive(Debug)]
pub(super) struct PromptDone {
    pub(super) tokens: usize,
    pub(super) cached: usize,
    pub(super) logprobs: Vec<TokenLogprobs>,
}

/// Log probabilities of tokens, without an allocation for each.
#[derive(Debug, Default)]
struct Logprobs {
    chosen: Vec<(Logprob, u32)>,
    top: Vec<Logprob>,
}

impl Logprobs {
    fn push(&mut self, all: &[TokenLogprobs]) {
        for one in all {
            self.chosen.push((one.chosen, one.top.len() as u32));
            self.top.extend_from_slice(&one.top);
        }
    }

    fn take(&mut self) -> Vec<TokenLogprobs> {
        let mut top = &self.top[..];
        let one = |&(chosen, n): &(Logprob, u32)| {
            let (own, rest) = top.split_at(n as usize);
            top = rest;
            TokenLogprobs { chosen, top: own.to_vec() }
        };
        let all = self.chosen.iter().map(one).collect();
        self.chosen.clear();
        self.top.clear();
        all
    }
}

/// Events of one choice that the reader has not taken.
#[derive(Debug, Default)]
struct Choice {
    prompt: Option<PromptDone>,
    text: String,
    tokens: Vec<u32>,
    logprobs: Logprobs,
    end: Option<End>,
    /// True when the reader has taken the end.
    ended: bool,
    /// Times at which the prompt, and the last of the rest, were computed.
    at: [Option<Instant>; 2],
    /// That of what the reader took last.
    taken: Option<Instant>,
}

impl Choice {
    fn take(&mut self, choice: usize) -> Option<Event> {
        if let Some(PromptDone { tokens, cached, logprobs }) = self.prompt.take() {
            self.taken = self.at[0];
            return Some(Event::Prompt { choice, tokens, cached, logprobs });
        }
        if !self.text.is_empty() || !self.tokens.is_empty() {
            self.taken = self.at[1];
            let (text, tokens) = (self.text.clone(), self.tokens.clone());
            self.text.clear();
            self.tokens.clear();
            let piece = Piece { text, tokens, logprobs: self.logprobs.take() };
            return Some(Event::Piece { choice, piece });
        }
        let end = self.end.take()?;
        (self.ended, self.taken) = (true, self.at[1]);
        Some(match end {
            End::Finished { finish, generated } => Event::Finished { choice, finish, generated },
            End::Failed(error) => Event::Failed { choice, error },
        })
    }
}

#[derive(Debug)]
struct State {
    choices: Vec<Choice>,
    /// Choice that is looked at first, so that all have their turn.
    next: usize,
    waker: Option<Waker>,
}

impl State {
    fn take(&mut self) -> Option<Event> {
        let n = self.choices.len();
        for i in 0..n {
            let choice = (self.next + i) % n;
            if let Some(event) = self.choices[choice].take(choice) {
                self.next = (choice + 1) % n;
                return Some(event);
            }
        }
        None
    }

    fn is_ended(&self) -> bool {
        self.choices.iter().all(|c| c.ended)
    }
}

/// Channel of one request.
#[derive(Debug)]
pub(super) struct Channel {
    state: Mutex<State>,
    news: Condvar,
    cancelled: AtomicBool,
    /// The engine's, to be told of a cancellation.
    inbox: Arc<Inbox>,
}

impl Channel {
    /// Channel of `choices` choices of at most `tokens` tokens, each with so many log probabilities
    /// besides its own, if any.
    pub(super) fn new(
        inbox: &Arc<Inbox>,
        choices: usize,
        tokens: usize,
        logprobs: Option<usize>,
    ) -> Channel {
        let room = tokens.min(ROOM);
        let choice = || {
            let mut choice = Choice::default();
            choice.text.reserve(8 * room);
            choice.tokens.reserve(room);
            if let Some(top) = logprobs {
                choice.logprobs.chosen.reserve(room);
                choice.logprobs.top.reserve(room * top);
            }
            choice
        };
        let choices = (0..choices).map(|_| choice()).collect();
        Channel {
            state: Mutex::new(State { choices, next: 0, waker: None }),
            news: Condvar::new(),
            cancelled: AtomicBool::new(false),
            inbox: Arc::clone(inbox),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing is called that could panic while it is locked.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, mut state: MutexGuard<'_, State>) {
        let waker = state.waker.take();
        drop(state);
        self.news.notify_one();
        // It may run the reader at once, who takes the lock.
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Tells the reader that a prompt was computed.
    pub(super) fn prompt(&self, choice: usize, done: PromptDone) {
        let mut state = self.lock();
        let to = &mut state.choices[choice];
        (to.prompt, to.at[0]) = (Some(done), Some(Instant::now()));
        self.tell(state);
    }

    /// Appends a piece. Returns false, without having done so, if the reader has the lock.
    pub(super) fn piece(
        &self,
        choice: usize,
        text: &str,
        tokens: &[u32],
        logprobs: &[TokenLogprobs],
    ) -> bool {
        let mut state = match self.state.try_lock() {
            Ok(state) => state,
            Err(std::sync::TryLockError::Poisoned(e)) => e.into_inner(),
            Err(std::sync::TryLockError::WouldBlock) => return false,
        };
        self.append(&mut state, choice, text, tokens, logprobs);
        self.tell(state);
        true
    }

    fn append(
        &self,
        state: &mut State,
        choice: usize,
        text: &str,
        tokens: &[u32],
        logprobs: &[TokenLogprobs],
    ) {
        let to = &mut state.choices[choice];
        to.at[1] = Some(Instant::now());
        to.text.push_str(text);
        to.tokens.extend_from_slice(tokens);
        to.logprobs.push(logprobs);
    }

    /// Ends a choice, after its last piece.
    pub(super) fn end(
        &self,
        choice: usize,
        (text, tokens, logprobs): (&str, &[u32], &[TokenLogprobs]),
        end: End,
    ) {
        let mut state = self.lock();
        self.append(&mut state, choice, text, tokens, logprobs);
        state.choices[choice].end.get_or_insert(end);
        self.tell(state);
    }

    /// Next event, if there is one.
    pub(super) fn take(&self) -> Option<Event> {
        self.lock().take()
    }

    /// Time at which the engine had computed what was last taken of a choice.
    pub(super) fn time(&self, choice: usize) -> Option<Instant> {
        self.lock().choices.get(choice)?.taken
    }

    /// Waits for an event until all choices have ended, or until this moment.
    pub(super) fn wait(&self, until: Option<Instant>) -> Option<Event> {
        let mut state = self.lock();
        loop {
            if let Some(event) = state.take() {
                return Some(event);
            }
            if state.is_ended() {
                return None;
            }
            state = match until {
                None => self.news.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(until) => {
                    let left = until.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return None;
                    }
                    self.news.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }

    /// As [`Channel::take`]; registers the waker if there is nothing. The second value is true when all
    /// choices have ended.
    pub(super) fn poll(&self, waker: &Waker) -> (Option<Event>, bool) {
        let mut state = self.lock();
        let event = state.take();
        let ended = state.is_ended();
        if event.is_none() && !ended && !state.waker.as_ref().is_some_and(|w| w.will_wake(waker)) {
            state.waker = Some(waker.clone());
        }
        (event, ended)
    }

    pub(super) fn is_ended(&self) -> bool {
        self.lock().is_ended()
    }

    /// Cancels all choices.
    pub(super) fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
        self.inbox.ring();
    }

    pub(super) fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }
}
